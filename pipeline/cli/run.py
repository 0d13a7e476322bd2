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
from pipeline.cli.choose import choose, instrument_options
from pipeline.errors import DataError, FlowvaultError, MissingInputError
from pipeline.instrument import Instrument

if TYPE_CHECKING:
    from pipeline.engine.paths import VaultPaths
    from pipeline.engine.runner import Report, Summary
    from pipeline.stage import Stage

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
@click.option("--json", "as_json", is_flag=True, help="One JSON object per stage and instrument.")
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
    instruments = choose(vault, inst_ids, exchange, market, every)
    run_all(
        vault, instruments, chain, every=every, as_json=as_json, give_up_us=give_up_us, asked=names
    )


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

    @click.command(
        name, help=stages.SUMMARY[name], epilog=f"Example: flowvault {name} -i BTC-USDT-SWAP"
    )
    @instrument_options
    @click.option("--no-upstream", is_flag=True, help="Do not run the stages it reads first.")
    @click.option("--json", "as_json", is_flag=True, help="One JSON object per stage.")
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
            choose(vault, inst_ids, exchange, market, every),
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
) -> None:
    """Run stages for instruments; print a line for each, exit with the worst status."""
    from pipeline.engine.presence import applies, lacking  # noqa: PLC0415
    from pipeline.engine.runner import Vault, is_too_bad, run_stages  # noqa: PLC0415

    vault = Vault.open(root)
    statuses: set[int] = set()
    printer = Printer(as_json=as_json)
    with printer.progress() as report:
        for instrument in instruments:
            chosen = [s for s in chain if applies(vault.paths, s, instrument)]
            if not chosen and not every:
                printer.error(_nothing_to_read(vault.paths, chain, instrument))
                statuses.add(MissingInputError.status)
            idle = [s for s in chain if s.name in asked and s.inputs and s not in chosen]
            chosen += [s for s in idle if chosen and lacking(vault.paths, s, instrument)]
            for done in run_stages(vault, chosen, instrument, report, give_up_us, asked):
                if isinstance(done, FlowvaultError):
                    printer.error(done)
                    statuses.add(done.status)
                    continue
                if not quiet:
                    printer.summary(done)
                printer.notes(done)
                if stages.load(done.stage).raw_kind and is_too_bad(done.counts):
                    printer.error(_too_bad(done, root))
                    statuses.add(65)
    exit_with_worst(statuses)


def exit_with_worst(statuses: set[int]) -> None:
    """Exit with the worst of the statuses; go on if there is none."""
    for status in _SEVERITY:
        if status in statuses:
            sys.exit(status)


def _nothing_to_read(
    paths: VaultPaths, chain: list[Stage[Any, Any]], instrument: Instrument
) -> MissingInputError:
    kinds = [stage.raw_kind for stage in chain if stage.raw_kind]
    folders = " or ".join(str(paths.raw(instrument, kind)) for kind in kinds)
    return MissingInputError(f"{instrument.key}: there is no {folders}", "flowvault status")


def _too_bad(summary: Summary, root: Path) -> DataError:
    counts = summary.counts
    folder = root / "quarantine" / summary.instrument.exchange
    return DataError(
        f"{summary.instrument.key}: {counts.bad} of {counts.rows_in} records were bad "
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

    def summary(self, summary: Summary) -> None:
        """Print what a stage did."""
        counts, instrument = summary.counts, summary.instrument
        if self.as_json:
            line = {
                "stage": summary.stage,
                "exchange": instrument.exchange,
                "market": instrument.market,
                "instId": instrument.inst_id,
                "rows_in": counts.rows_in,
                "rows_out": counts.rows_out,
                "late": counts.late,
                "duplicate": counts.duplicate,
                "bad": counts.bad,
                "seconds": round(summary.seconds, 3),
            }
            click.echo(msgspec.json.encode(line))
        else:
            if not self.headed:
                head = "".join(f"{name:>10}" for name in self._COLUMNS)
                self._say(f"{'stage':<14}{'instrument':<28}{head}")
                self.headed = True
            numbers = (counts.rows_in, counts.rows_out, counts.late, counts.duplicate, counts.bad)
            cells = "".join(f"{number:>10,}" for number in numbers)
            self._say(f"{summary.stage:<14}{instrument.key:<28}{cells}{summary.seconds:>10.2f}")

    def notes(self, summary: Summary) -> None:
        """Print what there is to say about a stage."""
        for note in summary.notes:
            where = f"{summary.stage} of {summary.instrument.key}"
            click.echo(f"flowvault: {where}: {note}", err=True)

    def _say(self, line: str) -> None:
        """Print a line above the progress display, if that shares the terminal."""
        if self._console is None:
            click.echo(line)
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def error(self, error: FlowvaultError) -> None:
        """Print what went wrong and the next command."""
        click.echo(f"flowvault: {error}", err=True)
