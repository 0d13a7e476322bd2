"""What `flowvault follow` tells: lines for a terminal, objects for a program, errors for all.

Whoever follows must not wait for whoever reads: a terminal that is held, or a full pipe, would
stop the layers. So events are told in a thread of their own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.run import too_bad
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument

if TYPE_CHECKING:
    from pipeline.engine.desk import Beat, Committed, Listener
    from pipeline.engine.state import Counts
    from pipeline.engine.summary import Summary

_SHOWN = ("signals_mtf", "bars_5m")
"""A commit is worth a line when the first of these that is followed has a new row."""
_LAST_ROWS = 20
_PATIENCE_S = 2.0
"""At the end a reader has so long to take what is left."""


class Quiet:
    """Tells of errors and notes only, to standard error."""

    def __init__(self, vault: Path) -> None:
        self._vault = vault
        self._totals: dict[tuple[Instrument, str], Counts] = {}
        self._bad: set[tuple[Instrument, str]] = set()

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        for name, counts in what.stages.items():
            self._judge(what.instrument, name, counts)

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        click.echo(f"flowvault: {error}", err=True)

    def noted(self, text: str) -> None:
        """See `Listener`."""
        click.echo(f"flowvault: {text}", err=True)

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""

    def _judge(self, instrument: Instrument, name: str, counts: Counts) -> None:
        """Tell when more than one line in a hundred has been bad since the beginning."""
        from pipeline.engine.summary import is_too_bad  # noqa: PLC0415

        key = (instrument, name)
        if stages.load(name).raw_kind is None:
            return
        total = self._totals.get(key)
        self._totals[key] = total = counts if total is None else total.plus(counts)
        if not is_too_bad(total):
            self._bad.discard(key)
        elif key not in self._bad:
            self._bad.add(key)
            self.failed(too_bad(instrument, total, self._vault))


class Json(Quiet):
    """A JSON object a line for every event."""

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""
        rows_in = {each.stage: each.counts.rows_in for each in done}
        self._say("open", instrument, {"rows_in": rows_in})

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        from pipeline.engine.rows import stamp  # noqa: PLC0415

        super().committed(what)
        mark, latency = what.watermark_us, what.latency_s
        values = {
            "watermark": None if mark is None else stamp(mark, "ms"),
            "closed": {
                name: None if at is None else stamp(at, "ms") for name, at in what.closed.items()
            },
            "latency_ms": None if latency is None else round(latency * 1e3, 1),
            "stages": msgspec.to_builtins(what.stages),
        }
        self._say("commit", what.instrument, values)

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        super().failed(error)
        line = {"event": "error", "status": error.status, "message": error.message}
        click.echo(msgspec.json.encode(line | {"hint": error.hint}))

    def noted(self, text: str) -> None:
        """See `Listener`."""
        super().noted(text)
        click.echo(msgspec.json.encode({"event": "note", "message": text}))

    def _say(self, event: str, instrument: Instrument, values: dict[str, Any]) -> None:
        head = {
            "event": event,
            "exchange": instrument.exchange,
            "market": instrument.market,
            "instId": instrument.inst_id,
        }
        click.echo(msgspec.json.encode(head | values))


class Terminal(Quiet):
    """A line for each closed five-minute bar, and how far everything is."""

    def __init__(self, vault: Path, shown: str | None, live: Any) -> None:
        super().__init__(vault)
        self._shown = shown
        self._live = live

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""
        records = sum(each.counts.rows_in for each in done if stages.load(each.stage).raw_kind)
        if records:
            seconds = sum(each.seconds for each in done)
            self._say(f"{instrument.key:<28}  caught up: {records:,} records, {seconds:.1f} s")

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        super().committed(what)
        if self._shown is not None and self._shown not in what.closed:
            return
        took = "" if what.latency_s is None else f"{what.latency_s * 1e3:,.0f} ms"
        self._say(f"{what.instrument.key:<28}{took:>9}  {self._news(what)}")

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        self._say(f"flowvault: {error}")

    def noted(self, text: str) -> None:
        """See `Listener`."""
        self._say(f"flowvault: {text}")

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""
        from rich.text import Text  # noqa: PLC0415

        self._live.update(Text(status_line(beats, time.time())), refresh=True)

    def _news(self, what: Committed) -> str:
        from pipeline.engine.rows import stamp  # noqa: PLC0415

        if self._shown is None:
            return ", ".join(f"{name} +{each.rows_out:,}" for name, each in what.stages.items())
        at = what.closed[self._shown]
        if at is None:
            return ""
        signal = self._signal(what.instrument, stamp(at)) if self._shown == _SHOWN[0] else ""
        return f"{stamp(at)}  {signal}"

    def _signal(self, instrument: Instrument, opened: str) -> str:
        """What the row of the bar that opened then says; later ones may be there by now."""
        from pipeline.engine import reader  # noqa: PLC0415
        from pipeline.engine.paths import VaultPaths  # noqa: PLC0415

        layer, stage = stages.layers()[_SHOWN[0]]
        end = reader.committed_length(self._vault, layer, stage.name, instrument)
        path = VaultPaths(self._vault).derived(layer.folder, instrument) / layer.file
        for line in reversed(reader.last_lines(path, end, _LAST_ROWS)):
            row = msgspec.json.decode(line)
            if row["timestamp_utc"] == opened:
                why = f" ({row['filter_reason']})" if row["filtered"] else ""
                return f"{row['mtf_direction']:<14}{row['signal']}{why}"
        return ""

    def _say(self, line: str) -> None:
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)


def status_line(beats: Sequence[Beat], now: float) -> str:
    """How many are followed, and how long ago the newest and the oldest last event was."""
    count = sum(each.is_open for each in beats)
    text = f"following {count} instrument{'' if count == 1 else 's'}"
    if len(beats) > count:
        text += f", {len(beats) - count} not open yet"
    marks = {
        each.instrument.inst_id: each.watermark_us / 1e6
        for each in beats
        if each.is_open and each.watermark_us is not None
    }
    if marks:
        slowest = min(marks, key=lambda name: marks[name])
        newest, oldest = _ago(now - max(marks.values())), _ago(now - marks[slowest])
        text += f"; last event {newest}"
        text += f" ({slowest} {oldest})" if oldest != newest else ""
    return text


def _ago(seconds: float) -> str:
    """A time that has passed, in short."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.1f} s ago"


class Apart:
    """Passes everything on in a thread of its own, in order.

    Of how things stand only the newest is passed on. When nobody reads any more (a closed pipe),
    `on_end` is called and the error is raised by `close`.
    """

    def __init__(self, listener: Listener, on_end: Callable[[], None]) -> None:
        self._listener = listener
        self._on_end = on_end
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._beats: Sequence[Beat] | None = None
        self._thread = threading.Thread(target=self._run, name="tell", daemon=True)
        self._thread.start()

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""
        self._queue.put(partial(self._listener.caught_up, instrument, done))

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        self._queue.put(partial(self._listener.committed, what))

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        self._queue.put(partial(self._listener.failed, error))

    def noted(self, text: str) -> None:
        """See `Listener`."""
        self._queue.put(partial(self._listener.noted, text))

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""
        is_waiting, self._beats = self._beats is not None, beats
        if not is_waiting:
            self._queue.put(self._beat)

    def close(self) -> None:
        """Wait until all is told, or for a while if nobody takes it.

        Raises:
            OSError: it could not be told.
        """
        self._queue.put(None)
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            # to end in order would be to wait for ever for whoever holds the output
            os._exit(0)
        if self._error is not None:
            raise self._error

    def _beat(self) -> None:
        beats, self._beats = self._beats, None
        if beats is not None:
            self._listener.beat(beats)

    def _run(self) -> None:
        try:
            while (tell := self._queue.get()) is not None:
                tell()
        except BaseException as error:  # noqa: BLE001  (raised by `close`, in the main thread)
            self._error = error
            self._on_end()


@contextmanager
def listening(
    vault: Path, chain: Sequence[Any], *, as_json: bool, on_end: Callable[[], None]
) -> Iterator[Apart]:
    """Who tells the user; `on_end` is called when nobody reads any more."""
    with _teller(vault, chain, as_json=as_json) as teller:
        apart = Apart(teller, on_end)
        try:
            yield apart
        finally:
            apart.close()


@contextmanager
def _teller(vault: Path, chain: Sequence[Any], *, as_json: bool) -> Iterator[Quiet]:
    if as_json:
        yield Json(vault)
    elif not sys.stdout.isatty():
        yield Quiet(vault)
    else:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        followed = {layer.name for stage in chain for layer in stage.layers}
        shown = next((name for name in _SHOWN if name in followed), None)
        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            yield Terminal(vault, shown, live)
