"""`flowvault run` and one command per stage."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import choose, instrument_options, json_option
from pipeline.engine.paths import TAPE_EXCHANGE
from pipeline.errors import DataError, FlowvaultError, MissingInputError, UsageError
from pipeline.instrument import EQUITIES, Instrument

if TYPE_CHECKING:
    from pipeline.engine.feeds import Outcome
    from pipeline.engine.paths import VaultPaths
    from pipeline.engine.stage_run import Report
    from pipeline.engine.state import Counts
    from pipeline.engine.summary import Summary
    from pipeline.engine.vault import Vault
    from pipeline.stage import Stage

_ANY: frozenset[str] = frozenset()
_SEVERITY = (74, 2, 65, 66, 75)
"""When several instruments fail in different ways, the first of these is the exit status."""


@click.command(epilog="Example: flowvault run --all --json")
@instrument_options
@click.option(
    "--stage", "names", multiple=True, metavar="NAME", help="Only this stage; may be repeated."
)
@click.option("--no-upstream", is_flag=True, help="With --stage: not the stages it reads.")
@click.option(
    "--give-up",
    "give_up_us",
    callback=lambda _context, _option, text: duration_us(text),
    metavar="TIME",
    help="Go on without an input that is more than this behind the others, as 5m; nulls take its "
    "place for good.",
)
@json_option("One JSON object per stage and instrument.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    names: tuple[str, ...],
    no_upstream: bool,
    give_up_us: int | None,
    as_json: bool,
) -> None:
    """Bring every layer up to date, in dependency order.

    An instrument that fails does not stop the others; the exit status tells that one failed.
    """
    for name in names:
        if name not in stages.SUMMARY:
            known = ", ".join(stages.SUMMARY)
            raise click.UsageError(f"no stage {name!r}; stages: {known}")
    wanted = list(names) or list(stages.SUMMARY)
    chain = [stages.load(n) for n in wanted] if no_upstream else stages.with_upstream(wanted)
    markets = frozenset.intersection(*(stages.load(n).markets for n in names)) if names else _ANY
    has_tables = every and not names and tables_are_here(vault, exchange, market)
    try:
        instruments = choose(vault, inst_ids, exchange, market, every, markets)
    except MissingInputError:
        if not has_tables:
            raise
        instruments = []
    run_all(
        vault,
        instruments,
        chain,
        every=every,
        as_json=as_json,
        give_up_us=give_up_us,
        asked=names,
        with_tables=has_tables,
    )


def tables_are_here(vault: Path, exchange: str | None, market: str | None) -> bool:
    """Whether there is anything for the market-wide tables, and they are meant."""
    from pipeline.engine.tables import are_here  # noqa: PLC0415

    is_meant = market in (None, EQUITIES) and exchange in (None, TAPE_EXCHANGE)
    return is_meant and are_here(vault)


_UNITS_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def duration_us(text: str | None) -> int | None:
    """A duration such as `90s`, `5m`, `1h` or `1d` in microseconds.

    Raises:
        click.BadParameter: it is none.
    """
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and unit in _UNITS_US):
        raise click.BadParameter(f"{text!r} is not a time such as 90s, 5m, 1h or 1d")
    return int(number) * _UNITS_US[unit]


def stage_command(name: str) -> click.Command:
    """The command of one stage."""
    example = "AIG" if "US equities" in stages.SUMMARY[name] else "BTC-USDT-SWAP"

    @click.command(
        name, help=stages.SUMMARY[name], epilog=f"Example: flowvault {name} -i {example}"
    )
    @instrument_options
    @click.option("--no-upstream", is_flag=True, help="Do not run the stages it reads first.")
    @json_option("One JSON object per stage.")
    @click.pass_obj
    def stage(
        vault: Path,
        inst_ids: tuple[str, ...],
        exchange: str | None,
        market: str | None,
        every: bool,
        no_upstream: bool,
        as_json: bool,
    ) -> None:
        chain = [stages.load(name)] if no_upstream else stages.with_upstream([name])
        run_all(
            vault,
            choose(vault, inst_ids, exchange, market, every, stages.load(name).markets),
            chain,
            every=every,
            as_json=as_json,
            asked=(name,),
        )

    return stage


def run_all(
    root: Path,
    instruments: list[Instrument],
    chain: list[Stage[Any, Any]],
    *,
    every: bool,
    as_json: bool,
    give_up_us: int | None = None,
    asked: tuple[str, ...] = (),
    quiet: bool = False,
    with_tables: bool = False,
) -> None:
    """Run stages for instruments; print a line for each, exit with the worst status."""
    from pipeline.cli.memory import share_one_heap  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    share_one_heap()
    vault = Vault.open(root)
    printer = Printer(as_json=as_json)
    with printer.progress() as report:
        statuses = run_instruments(
            vault,
            instruments,
            chain,
            printer,
            report,
            every=every,
            give_up_us=give_up_us,
            asked=asked,
            quiet=quiet,
        )
        if with_tables:
            from pipeline import tables  # noqa: PLC0415
            from pipeline.cli.tables import bring_up  # noqa: PLC0415

            statuses |= bring_up(vault, list(tables.all_tables()), printer, report)
    exit_with_worst(statuses)


def run_instruments(
    vault: Vault,
    instruments: list[Instrument],
    chain: list[Stage[Any, Any]],
    printer: Printer,
    report: Report | None,
    *,
    every: bool = False,
    give_up_us: int | None = None,
    asked: tuple[str, ...] = (),
    quiet: bool = False,
) -> set[int]:
    """Run stages for instruments; print a line for each; the statuses of what went wrong."""
    from pipeline.engine.presence import applies, lacking  # noqa: PLC0415
    from pipeline.engine.runner import run_stages  # noqa: PLC0415
    from pipeline.engine.summary import is_too_bad  # noqa: PLC0415

    statuses: set[int] = set()
    for instrument in instruments:
        chosen = [s for s in chain if applies(vault.paths, s, instrument)]
        if not chosen and not every:
            error = _nothing_to_do(vault.paths, chain, instrument, asked)
            printer.error(error)
            statuses.add(error.status)
        fitting = [s for s in chain if instrument.market in s.markets]
        idle = [s for s in fitting if s.name in asked and s.inputs and s not in chosen]
        chosen += [s for s in idle if chosen and lacking(vault.paths, s, instrument)]
        for done in run_stages(vault, chosen, instrument, report, give_up_us, asked):
            if isinstance(done, FlowvaultError):
                printer.error(done)
                statuses.add(done.status)
                continue
            printer.summary(done, quiet=quiet)
            if stages.load(done.stage).raw_kind and is_too_bad(done.counts):
                printer.error(too_bad(done.instrument, done.counts, vault.root))
                statuses.add(65)
    return statuses


def exit_with_worst(statuses: set[int]) -> None:
    """Exit with the worst of the statuses; go on if there is none."""
    for status in _SEVERITY:
        if status in statuses:
            sys.exit(status)


def _nothing_to_do(
    paths: VaultPaths,
    chain: list[Stage[Any, Any]],
    instrument: Instrument,
    asked: tuple[str, ...],
) -> FlowvaultError:
    """Why there is no stage to run: they are for other markets, or nothing is there to read."""
    fitting = [stage for stage in chain if instrument.market in stage.markets]
    others = sorted({market for name in asked for market in stages.load(name).markets})
    if asked and instrument.market not in others:
        what = f"{', '.join(asked)} of {instrument.key}: for {' and '.join(others)} only"
        return UsageError(what, f"flowvault run {instrument.options}")
    kinds = [stage.raw_kind for stage in fitting if stage.raw_kind]
    folders = " or ".join(str(paths.raw(instrument, kind)) for kind in kinds)
    return MissingInputError(f"{instrument.key}: there is no {folders}", "flowvault status")


def too_bad(instrument: Instrument, counts: Counts, root: Path) -> DataError:
    """What is said when more than one line in a hundred was bad."""
    folder = root / "quarantine" / instrument.exchange
    return DataError(
        f"{instrument.key}: {counts.bad} of {counts.rows_in} records were bad "
        f"(more than 1 %); the others are committed, the bad ones are under {folder}",
        "look at the reasons there, mend the collector",
    )


class Printer:
    """Summary lines for people or machines; progress on a terminal only."""

    _COLUMNS = ("rows in", "rows out", "late", "dup", "bad", "seconds")

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.headed = False
        self._console: Any = None

    @contextmanager
    def progress(self) -> Iterator[Report | None]:
        """Show progress while the block lasts; yields what stages report to."""
        if self.as_json or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        console = Console(stderr=not sys.stdout.isatty())
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TextColumn("{task.completed:,.0f} records"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as live:
            self._console = None if console.stderr else console
            task = live.add_task("starting", total=None)
            state = {"stage": ""}

            def report(stage: str, count: int) -> None:
                if stage != state["stage"]:
                    state["stage"] = stage
                    live.reset(task, description=stage, total=None)
                live.advance(task, count)

            yield report

    def summary(self, summary: Summary, *, quiet: bool = False) -> None:
        """Print what a stage did, and its notes; if quiet only these."""
        instrument = summary.instrument
        names: dict[str, str | None] = {
            "exchange": instrument.exchange,
            "market": instrument.market,
            "instId": instrument.inst_id,
        }
        if not quiet:
            self._line(summary.stage, instrument.key, names, summary.counts, summary.seconds)
        for note in summary.notes:
            click.echo(f"flowvault: {summary.stage} of {instrument.key}: {note}", err=True)

    def table(self, done: Outcome, *, quiet: bool = False) -> None:
        """The same for a market-wide table or a feed, which is of no single instrument."""
        names: dict[str, str | None] = {"exchange": None, "market": EQUITIES, "instId": None}
        if not quiet:
            self._line(done.name, EQUITIES, names, done.counts, done.seconds)
        for note in done.notes:
            click.echo(f"flowvault: {done.name}: {note}", err=True)

    def _line(
        self, stage: str, key: str, names: dict[str, str | None], counts: Counts, seconds: float
    ) -> None:
        if self.as_json:
            line = {
                "stage": stage,
                **names,
                "rows_in": counts.rows_in,
                "rows_out": counts.rows_out,
                "late": counts.late,
                "duplicate": counts.duplicate,
                "bad": counts.bad,
                "seconds": round(seconds, 3),
            }
            click.echo(msgspec.json.encode(line))
            return
        if not self.headed:
            head = "".join(f"{name:>10}" for name in self._COLUMNS)
            self._say(f"{'stage':<14}{'instrument':<28}{head}")
            self.headed = True
        numbers = (counts.rows_in, counts.rows_out, counts.late, counts.duplicate, counts.bad)
        cells = "".join(f"{number:>10,}" for number in numbers)
        # a long name takes its room from the instrument's column
        self._say(f"{f'{stage:<13} {key}':<42}{cells}{seconds:>10.2f}")

    def _say(self, line: str) -> None:
        """Print a line above the progress display, if that shares the terminal."""
        if self._console is None:
            click.echo(line)
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def error(self, error: FlowvaultError) -> None:
        """Print what went wrong and the next command."""
        click.echo(f"flowvault: {error}", err=True)
