"""A block of raw position lines as columns: {"ts": ms or ISO, "position": base units}."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.exact import NotANumberError, parse_decimal
from pipeline.raw.block import Block, Reject
from pipeline.raw.book_lines import read_block
from pipeline.raw.lines import read_time
from pipeline.raw.shape import BadRecordError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_decode = msgspec.json.Decoder(float_hook=str).decode


@dataclass(frozen=True)
class PositionBatch:
    """The usable records of one block, in file order, and the lines that are not usable."""

    block: Block
    rejects: list[Reject]
    line: Ints
    ts_us: Ints
    position: Floats

    @property
    def records(self) -> int:
        """Positions and bad lines together."""
        return len(self.line) + len(self.rejects)


def decode_positions(block: Block, inst_id: str) -> PositionBatch:
    """Decode a block of lines; blank lines are skipped.

    Args:
        block: whole lines.
        inst_id: the folder's instrument, which a record that names one must be of.
    """
    found: list[tuple[int, tuple[int, float]]]
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        found, rejects = [], [Reject.of(block, 0, reason)] if block.line(0).strip() else []
    else:
        lines = range(block.lines)
        found, rejects = read_block(block, lines, lambda line: [read_position(line, inst_id)])
    return PositionBatch(
        block,
        rejects,
        np.array([line for line, _ in found], np.int64),
        np.array([ts_us for _, (ts_us, _) in found], np.int64),
        np.array([position for _, (_, position) in found], np.float64),
    )


def read_position(line: bytes, inst_id: str) -> tuple[int, float]:
    """Time in microseconds and position of one line.

    Raises:
        BadRecordError: anything in it is not as it should be.
    """
    try:
        record = _decode(line)
    except UnicodeDecodeError as error:
        raise BadRecordError("encoding") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("json") from error
    if not isinstance(record, dict):
        raise BadRecordError("not an object")
    if "position" not in record:
        raise BadRecordError("not a position")
    if record.get("instId", inst_id) != inst_id:
        raise BadRecordError("instrument")
    if "ts" not in record:
        raise BadRecordError("ts")
    return read_time(record["ts"], "any"), _position(record["position"])


def _position(value: Any) -> float:
    """A decimal, as a JSON number or its text; it may be below zero."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError("position")
    is_short = text.startswith("-") and text[1:2] != "+"
    magnitude = text[1:] if is_short else text
    try:
        digits, decimals = parse_decimal(magnitude)
    except NotANumberError as error:
        raise BadRecordError("position" if str(error) == "number" else str(error)) from error
    number = digits / int(10**decimals)
    return -number if digits and is_short else number
