"""Rows of JSONL layers as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.raw.block import Reject
from pipeline.stage import Row

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode


def stamp(us: int, precision: str = "s") -> str:
    """A time as rows write it: `2025-12-14T21:34:00Z`, or with milliseconds."""
    moment = _EPOCH + timedelta(microseconds=us)
    text = moment.isoformat(timespec="milliseconds" if precision == "ms" else "seconds")
    return text.removesuffix("+00:00") + "Z"


def encode_rows(layer: Layer, instrument: Instrument, rows: Iterable[Row]) -> bytes:
    """One line per row: the four header keys, then the layer's columns in order."""
    keys = layer.keys
    header = (instrument.inst_id, instrument.exchange, instrument.row_market)
    return b"".join(
        _encode(dict(zip(keys, (stamp(at, layer.stamp), *header, *values), strict=True))) + b"\n"
        for at, values in rows
    )


def encode_document(layer: Layer, row: Row) -> tuple[str, bytes]:
    """The file name and content of one document of a JSON layer: a file for each day."""
    at, values = row
    document = dict(zip(layer.keys, values, strict=True))
    text = msgspec.json.format(_encode(document), indent=1) + b"\n"
    return layer.file.replace("*", stamp(at)[:10]), text


def encode_reject(reject: Reject) -> bytes:
    """One line of a quarantine file."""
    return (
        _encode(
            {
                "source": reject.source,
                "offset": reject.offset,
                "reason": reject.reason,
                "raw": reject.raw,
            }
        )
        + b"\n"
    )
