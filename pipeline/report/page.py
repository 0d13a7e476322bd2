"""One file with everything in it: data, chart library, style and code.

A day's rows are JSON, packed with gzip and base64, and unpacked by the page when it shows that
day: a page of many days opens as quickly as one of a single day. Days are written as they are
gathered, so no more than one is held in memory.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from pipeline import __version__, stages
from pipeline.engine import disk
from pipeline.engine.rows import stamp
from pipeline.engine.within import EPOCH, Committed
from pipeline.errors import DiskError, MissingInputError
from pipeline.exact import NotANumberError, parse_decimal
from pipeline.instrument import Instrument, contract_of, load_table, pair_of
from pipeline.report import feeds
from pipeline.report.gather import COLUMNS, EVENTS, HOLES, Span, gather

LIBRARY = "lightweight-charts/lightweight-charts.standalone.production.js"
SCRIPTS = (
    *("format", "data", "frame", "events", "layers", "tiers", "steps", "overlay", "profile"),
    *("quality", "panel", "chart", "controls", "main"),
)
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""Nothing may be loaded, from anywhere."""

_MINUTE_S = 60
_DECIMALS = (
    ("price", "bars_1m", "close"),
    ("size", "bars_1m", "volume"),
)


def write(path: Path, committed: Committed, span: Span) -> None:
    """Write the page; a page that was there is replaced in one step.

    Raises:
        MissingInputError: there are no rows in the span.
        StateError: what is committed cannot be read.
        DiskError: the file cannot be written.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as stream:
            stream.writelines(pieces(committed, span))
        disk.replace(beside, path)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror or error}") from error
    finally:
        disk.remove(beside)


def pieces(committed: Committed, span: Span) -> Iterator[bytes]:
    """The page in pieces, in order.

    Raises:
        MissingInputError: there are no rows in the span.
        StateError: what is committed cannot be read.
    """
    seen = _Seen()
    yield _head_html(committed.instrument, span)
    yield _packaged("web/page.html")
    for each in span.days():
        day = gather(committed, each)
        if seen.add(day):
            packed = base64.b64encode(gzip.compress(msgspec.json.encode(day), 9, mtime=0))
            yield b'<script type="text/plain" id="day-%s">' % each.day.encode()
            yield packed + b"</script>\n"
    if not seen.days:
        instrument = committed.instrument
        message = f"{instrument.key} has no rows from {stamp(span.low_us)} to {stamp(span.high_us)}"
        raise MissingInputError(message, f"flowvault status {instrument.options}")
    yield b'<script type="application/json" id="head">'
    yield _json(_head(committed, seen)) + b"</script>\n<script>"
    yield _packaged(f"vendor/{LIBRARY}") + b'</script>\n<script>(() => {\n"use strict";\n'
    for name in SCRIPTS:
        yield _packaged(f"web/{name}.js")
    yield b"})();\n</script>\n</body>\n</html>\n"


class _Seen:
    """What the head must know of the days."""

    def __init__(self) -> None:
        self.days: list[str] = []
        self.rows: dict[str, int] = {}
        self.first_ms = self.last_ms = 0
        self.decimals = {"price": 0, "size": 0}

    def add(self, day: dict[str, Any]) -> bool:
        """Note a day; False if it has no rows."""
        counts = {name: _height(columns["at"]) for name, columns in day["layers"].items()}
        counts |= day["counts"] | {name: len(day["holes"][name]) for name in HOLES}
        if not day["layers"]:
            return False
        self.days.append(day["day"])
        for name, count in counts.items():
            self.rows[name] = self.rows.get(name, 0) + count
        self._times(day)
        for kind, name, column in _DECIMALS:
            values = day["layers"].get(name, {}).get(column, {})
            self.decimals[kind] = max(self.decimals[kind], values.get("k", 0))
        return True

    def _times(self, day: dict[str, Any]) -> None:
        midnight = Span.of_day(day["day"]).low_us // 1000
        minutes = {name: each for name, each in day["layers"].items() if name.endswith("_1m")}
        for name, columns in (minutes or day["layers"]).items():
            at = columns["at"]
            first, last = midnight + at["d"][0], midnight + sum(at["d"])
            last += stages.layers()[name][0].span_us // 1000
            self.first_ms = min(self.first_ms or first, first)
            self.last_ms = max(self.last_ms, last)


def _height(column: dict[str, Any]) -> int:
    return len(column["d"])


def _head(committed: Committed, seen: _Seen) -> dict[str, Any]:
    """What the page must know before it unpacks a day."""
    instrument = committed.instrument
    base, quote = units(instrument)
    parameters = feeds.parameters(committed)
    spans = {name: stages.layers()[name][0].span_us // 1_000_000 for name in (*COLUMNS, *EVENTS)}
    if "wicks" in parameters:
        spans["wicks_5m"] = parameters["wicks"]["tf_minutes"] * _MINUTE_S
    return {
        "version": __version__,
        "instrument": _named(instrument),
        "simulated": instrument.exchange == "sim",
        "base": base,
        "quote": quote,
        "days": seen.days,
        "first": seen.first_ms // 1000,
        "last": seen.last_ms // 1000,
        "decimals": seen.decimals | {"price": max(seen.decimals["price"], _of_tick(committed))},
        "rows": seen.rows,
        "spans": spans,
        "parameters": parameters,
        "layers": feeds.layers(committed, seen.rows),
        "feeds": feeds.feeds(committed, seen.days),
        "without": feeds.without(committed),
        "behind": feeds.behind(committed),
    }


def _of_tick(committed: Committed) -> int:
    """Decimals of the tick, 0 if it is not known."""
    root = committed.paths.root
    tick = contract_of(committed.instrument, load_table(root), root).tick
    try:
        return 0 if tick is None else parse_decimal(str(tick))[1]
    except NotANumberError:
        return 0  # the stages that need it say what is wrong with it


def _named(instrument: Instrument) -> dict[str, str]:
    return {
        "exchange": instrument.exchange,
        "market": instrument.market,
        "inst_id": instrument.inst_id,
    }


def units(instrument: Instrument) -> tuple[str, str]:
    """The names of base and quote currency, as far as the instrument's name tells them."""
    coin, quote = pair_of(instrument.inst_id)
    return coin, quote or "quote"


def _head_html(instrument: Instrument, span: Span) -> bytes:
    last = EPOCH + timedelta(microseconds=span.high_us - 1)
    days = dict.fromkeys((span.day, last.strftime("%Y-%m-%d")))
    simulated = "SIMULATED " if instrument.exchange == "sim" else ""
    title = f"{simulated}{instrument.inst_id} {instrument.exchange} {' to '.join(days)} · flowvault"
    style = _packaged("web/style.css").decode()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{_escaped(title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n"
    ).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _json(value: Any) -> bytes:
    """JSON that cannot end the element it stands in."""
    return msgspec.json.encode(value).replace(b"<", b"\\u003c")


def _packaged(name: str) -> bytes:
    return resources.files("pipeline.report").joinpath(name).read_bytes()
