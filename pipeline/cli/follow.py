"""`flowvault follow`: stay, and carry what collectors append through every layer."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import choose, instrument_options
from pipeline.cli.run import too_bad
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument

if TYPE_CHECKING:
    from pipeline.engine.desk import Beat, Committed
    from pipeline.engine.runner import Summary
    from pipeline.engine.state import Counts

URGENT = ("signals_mtf",)
"""What people wait for: it is brought out before all else."""
_SHOWN = ("signals_mtf", "bars_5m")
"""A commit is worth a line when the first of these that is followed has a new row."""


@click.command(epilog="Example: flowvault follow --all")
@instrument_options
@click.option(
    "--stage", "names", multiple=True, metavar="NAME", help="Only this stage; may be repeated."
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Look at the raw files this often instead of being told by the system: for raw data on "
    "another machine's disk.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per commit and event.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    names: tuple[str, ...],
    poll_s: float | None,
    as_json: bool,
) -> None:
    """Stay, and carry new data through every layer as it comes.

    The same files and commits as of `flowvault run`, which may go on beside it. Ends with Ctrl-C
    or SIGTERM behind the commit in hand, and can be killed at any time. Prints a line for each
    closed five-minute bar if there is a terminal, and nothing but errors if there is none.
    """
    for name in names:
        if name not in stages.SUMMARY:
            known = ", ".join(stages.SUMMARY)
            raise click.UsageError(f"no stage {name!r}; stages: {known}")
    chosen = choose(vault, inst_ids, exchange, market, every)
    chain = stages.with_upstream(list(names) or list(stages.SUMMARY))

    from pipeline.engine.follow import Follow  # noqa: PLC0415
    from pipeline.engine.paths import find_instruments  # noqa: PLC0415

    def find() -> Sequence[Instrument]:
        if not every:
            return chosen
        return [
            each
            for each in find_instruments(vault)
            if exchange in (None, each.exchange) and market in (None, each.market)
        ]

    with _listener(vault, chain, as_json=as_json) as listener:
        follow = Follow(vault, find, chain, listener, urgent=URGENT, poll_s=poll_s)
        with _until_told(follow.stop):
            follow.run()


@contextmanager
def _until_told(stop: Any) -> Iterator[None]:
    """Have the first signal to end call `stop`; a second one ends the process at once."""
    kinds = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        kinds.append(signal.SIGBREAK)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def told(_kind: int, _frame: object) -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        stop()

    for kind in kinds:
        signal.signal(kind, told)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Quiet:
    """Tells of errors only."""

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

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""

    def _judge(self, instrument: Instrument, name: str, counts: Counts) -> None:
        """Tell when more than one line in a hundred has been bad since the beginning."""
        from pipeline.engine.runner import is_too_bad  # noqa: PLC0415

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


class _Json(_Quiet):
    """A JSON object a line for every event."""

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""
        rows_in = {each.stage: each.counts.rows_in for each in done}
        self._say("open", instrument, {"rows_in": rows_in})

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        from pipeline.engine.rows import stamp  # noqa: PLC0415

        super().committed(what)
        counted = msgspec.to_builtins(what.stages)
        closed = {name: None if at is None else stamp(at, "ms") for name, at in what.closed.items()}
        mark = what.watermark_us
        latency = what.latency_s
        values = {
            "watermark": None if mark is None else stamp(mark, "ms"),
            "closed": closed,
            "latency_ms": None if latency is None else round(latency * 1e3, 1),
            "stages": counted,
        }
        self._say("commit", what.instrument, values)

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        super().failed(error)
        line = {"event": "error", "status": error.status, "message": error.message}
        click.echo(msgspec.json.encode(line | {"hint": error.hint}))

    def _say(self, event: str, instrument: Instrument, values: dict[str, Any]) -> None:
        head = {
            "event": event,
            "exchange": instrument.exchange,
            "market": instrument.market,
            "instId": instrument.inst_id,
        }
        click.echo(msgspec.json.encode(head | values))


class _Terminal(_Quiet):
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
        took = "" if what.latency_s is None else f"{what.latency_s * 1e3:8,.0f} ms"
        self._say(f"{what.instrument.key:<28}  {self._news(what):<60}{took}")

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        self._live.console.print(f"flowvault: {error}", markup=False, highlight=False)

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""
        from rich.text import Text  # noqa: PLC0415

        self._live.update(Text(status_line(beats, time.time())), refresh=True)

    def _news(self, what: Committed) -> str:
        from pipeline.engine.rows import stamp  # noqa: PLC0415

        if self._shown is None:
            return ", ".join(f"{name} +{each.rows_out:,}" for name, each in what.stages.items())
        at = what.closed[self._shown]
        text = "" if at is None else stamp(at)
        return f"{text}  {self._signal(what.instrument)}" if self._shown == _SHOWN[0] else text

    def _signal(self, instrument: Instrument) -> str:
        """What the last row says."""
        from pipeline.engine import reader  # noqa: PLC0415
        from pipeline.engine.paths import VaultPaths  # noqa: PLC0415

        layer, stage = stages.layers()[_SHOWN[0]]
        end = reader.committed_length(self._vault, layer, stage.name, instrument)
        path = VaultPaths(self._vault).derived(layer.folder, instrument) / layer.file
        row = msgspec.json.decode(reader.last_lines(path, end, 1)[0])
        why = f" ({row['filter_reason']})" if row["filtered"] else ""
        return f"{row['mtf_direction']:<14}{row['signal']}{why}"

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
        text += f"; last event {_ago(now - max(marks.values()))}"
        text += f" ({slowest} {_ago(now - marks[slowest])})" if len(marks) > 1 else ""
    return text


def _ago(seconds: float) -> str:
    """A time that has passed, in short."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.1f} s ago"


@contextmanager
def _listener(vault: Path, chain: Sequence[Any], *, as_json: bool) -> Iterator[_Quiet]:
    """Who tells the user."""
    if as_json:
        yield _Json(vault)
    elif not sys.stdout.isatty():
        yield _Quiet(vault)
    else:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        followed = {layer.name for stage in chain for layer in stage.layers}
        shown = next((name for name in _SHOWN if name in followed), None)
        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            yield _Terminal(vault, shown, live)
