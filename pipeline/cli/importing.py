"""`flowvault import`: archives as exchanges and vendors publish them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline.cli.choose import json_option
from pipeline.cli.run import exit_with_worst
from pipeline.engine.paths import MARKETS
from pipeline.errors import FlowvaultError, MissingInputError, UsageError, guarded

if TYPE_CHECKING:
    from pipeline.engine.import_result import Options, Result
    from pipeline.engine.importing import Target
    from pipeline.importers.recognise import Source, Wishes

_ENDINGS = (".zip", ".csv", ".csv.gz", ".csv.zst", ".tar.gz", ".tgz", ".parquet")
"""What is looked for in a folder."""

_UNITS = ("auto", "s", "ms", "us", "ns")


@click.command(
    "import",
    epilog="Example: flowvault import BTCUSDT-trades-2024-01-0*.zip",
)
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-i",
    "--instId",
    "inst_ids",
    multiple=True,
    metavar="INSTID",
    help="Which instrument it is, or which of those in it; may be repeated.",
)
@click.option("--exchange", help="Folder under raw/, which tells the record format.")
@click.option("--market", type=click.Choice(MARKETS), help="Where names and columns do not tell.")
@click.option("--format", "format_", metavar="NAME", help="What it is, where that is not clear.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="ROLE=COLUMN,…",
    help="Columns of any other table, by name or number: price, size, time, side or buyer_maker, "
    "id, inst.",
)
@click.option(
    "--time-unit",
    "unit",
    type=click.Choice(_UNITS),
    default="auto",
    show_default=True,
    help="Of times in digits; auto counts the digits.",
)
@click.option("--again", is_flag=True, help="Import again what was imported, and replace its rows.")
@click.option(
    "--backfill",
    is_flag=True,
    help="Write days before those that stages have read; they must be rebuilt then.",
)
@click.option(
    "--skip-existing", is_flag=True, help="Days that others have written are no error, but stay."
)
@click.option("--dry-run", is_flag=True, help="Say what each archive is, and do nothing.")
@json_option("One JSON object per archive and instrument.")
@click.pass_obj
def command(
    vault: Path,
    archives: tuple[Path, ...],
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    format_: str | None,
    mapping: tuple[str, ...],
    unit: str,
    again: bool,
    backfill: bool,
    skip_existing: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Bring ARCHIVES (files or folders) into the vault as raw day files.

    \b
    What they are is told by their names and columns; known formats:
      binance-trades, binance-aggtrades, binance-bookticker   data.binance.vision
      okx-trades, okx-l2                                       OKX historical data
      tardis-trades, tardis-book                               tardis.dev datasets
      csv, parquet                                             any table of trades

    Prices and sizes keep their digits, in the exchange's own records and units. A published
    .CHECKSUM beside an archive is checked. Importing twice changes nothing; an import that was
    killed goes on when it is run again. Day files that a collector has written are never changed.
    """  # noqa: D301  (click wants the character)
    from pipeline.cli.memory import use_blocks_again  # noqa: PLC0415
    from pipeline.engine.import_result import Options  # noqa: PLC0415
    from pipeline.engine.importing import Target  # noqa: PLC0415
    from pipeline.importers.mapped import parse_map  # noqa: PLC0415
    from pipeline.importers.recognise import FORMATS, Wishes  # noqa: PLC0415

    if format_ is not None and format_ not in FORMATS:
        raise click.UsageError(f"no format {format_!r}; formats: {', '.join(FORMATS)}")
    use_blocks_again()
    wishes = Wishes(format_, exchange, market, inst_ids, parse_map(mapping), unit)
    options = Options(again, backfill, skip_existing)
    run = Run(Target.open(vault), wishes, options, as_json=as_json)
    looked = run.look(_files(archives))
    if dry_run:
        run.tell(looked)
    else:
        run.carry_out(looked)
    exit_with_worst(run.statuses)


def _files(archives: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and those in folders that look like archives.

    Raises:
        MissingInputError: a folder has none.
    """
    found: list[Path] = []
    for path in archives:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(each for each in path.rglob("*") if each.name.lower().endswith(_ENDINGS))
        if not inside:
            message = f"{path}: no archives in it ({', '.join(_ENDINGS)})"
            raise MissingInputError(message, "flowvault import FILE …")
        found += inside
    return list(dict.fromkeys(found))


class Run:
    """One run of the command: the archives in their order, and what is printed about them."""

    def __init__(self, vault: Target, wishes: Wishes, options: Options, *, as_json: bool) -> None:
        self.vault = vault
        self.wishes = wishes
        self.options = options
        self.as_json = as_json
        self.statuses: set[int] = set()
        self._is_headed = False
        self._width = 0
        self._say: Callable[[str], None] = click.echo

    def look(self, files: Sequence[Path]) -> list[tuple[Path, Source]]:
        """What the archives are, in the order of instruments and times.

        Raises:
            UsageError: archives of several instruments are to be one.
        """
        from pipeline.importers.container import check_there  # noqa: PLC0415
        from pipeline.importers.reading import first_source  # noqa: PLC0415

        found: list[tuple[Path, Source]] = []
        for path in files:
            try:
                check_there(path)
                with guarded(str(path), "nothing of it was imported"):
                    found.append((path, first_source(path, self.wishes)))
            except FlowvaultError as error:
                self._error(error)
        told = {source.told for _, source in found if source.told and not source.is_named}
        if len(self.wishes.inst_ids) == 1 and len(told) > 1:
            names = ", ".join(sorted(told))
            raise UsageError(
                f"the archives are of {names}, and -i says that all are {self.wishes.inst_ids[0]}",
                "leave -i out, or import them one by one",
            )
        return sorted(found, key=lambda each: _order(*each))

    def tell(self, looked: Sequence[tuple[Path, Source]]) -> None:
        """Say what the archives are."""
        for path, source in looked:
            line = {"archive": path.name, **_place(source)}
            if self.as_json:
                click.echo(msgspec.json.encode(line))
            else:
                raw = self.vault.paths.raw(source.instrument, source.format.kind)
                folder = self.vault.paths.relative(raw)
                click.echo(f"{path.name}: {source.format.text} -> {folder}")

    def carry_out(self, looked: Sequence[tuple[Path, Source]]) -> None:
        """Import them."""
        from pipeline.engine.importing import import_archive  # noqa: PLC0415

        done: dict[str, None] = {}
        total = sum(path.stat().st_size for path, _ in looked)
        self._width = max((len(path.name) for path, _ in looked), default=0) + 2
        with self._progress(total) as report:
            for path, source in looked:
                for wishes in _passes(self.wishes, source):
                    try:
                        results = import_archive(self.vault, path, wishes, self.options, report)
                        for result in results:
                            self._result(result)
                            if result.days:
                                done[result.instrument.options] = None
                    except FlowvaultError as error:
                        self._error(error)
                report.archive_done(path.stat().st_size)
        if not self.as_json:
            for options in done:
                click.echo(f"next: flowvault run {options}")

    def _result(self, result: Result) -> None:
        if self.as_json:
            self._say_json(result)
        elif result.days or not result.problems:
            self._say_line(result)
        for note in result.notes:
            click.echo(f"flowvault: {note}", err=True)
        for problem in result.problems:
            self._error(problem)

    def _say_json(self, result: Result) -> None:
        line = {
            "archive": result.archive,
            "format": result.format,
            "exchange": result.instrument.exchange,
            "market": result.instrument.market,
            "instId": result.instrument.inst_id,
            "kind": result.kind,
            "known": result.is_known,
            "rows": result.rows,
            "bad": result.bad,
            "others": result.others,
            "days": [
                {"day": each.day, "rows": each.rows, "bytes": each.bytes, "action": each.action}
                for each in result.days
            ],
            "seconds": round(result.seconds, 3),
        }
        click.echo(msgspec.json.encode(line))

    def _say_line(self, result: Result) -> None:
        if not self._is_headed:
            head = f"{'archive':<{self._width}}{'instrument':<36}{'rows':>12}{'bad':>8}"
            self._say(f"{head}{'seconds':>9}  days")
            self._is_headed = True
        place = f"{result.instrument.key} {result.kind}"
        self._say(
            f"{result.archive:<{self._width}}{place:<36}{result.rows:>12,}{result.bad:>8,}"
            f"{result.seconds:>9.2f}  {_days(result)}"
        )

    def _error(self, error: FlowvaultError) -> None:
        click.echo(f"flowvault: {error}", err=True)
        self.statuses.add(error.status)

    @contextmanager
    def _progress(self, total: int) -> Iterator[Progress]:
        """Show progress while the block lasts, on a terminal."""
        if self.as_json or not sys.stderr.isatty():
            yield Progress(None, None)
            return
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Live  # noqa: PLC0415

        console = Console(stderr=not sys.stdout.isatty())
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
        )
        with Live(*columns, console=console, transient=True) as live:
            if not console.stderr:
                self._say = lambda line: console.print(
                    line, markup=False, highlight=False, soft_wrap=True
                )
            yield Progress(live, live.add_task("importing", total=total, rows=0))
        self._say = click.echo


class Progress:
    """How far all archives together have been read."""

    def __init__(self, live: Any, task: Any) -> None:
        self._live, self._task = live, task
        self._before = 0

    def __call__(self, position: int, rows: int) -> None:
        """So many bytes of the present archive, and rows of it."""
        if self._live is not None:
            self._live.update(self._task, completed=self._before + position, rows=rows)

    def archive_done(self, size: int) -> None:
        """The present archive is done."""
        self._before += size
        self(0, 0)


def _order(path: Path, source: Source) -> tuple[Any, ...]:
    return (source.instrument, source.format.kind, source.first_us or 0, path.name)


def _passes(wishes: Wishes, source: Source) -> list[Wishes]:
    """An archive is read once for each instrument that is wanted of it."""
    if len(wishes.inst_ids) > 1 and source.is_named:
        return [replace(wishes, inst_ids=(each,)) for each in wishes.inst_ids]
    return [wishes]


def _place(source: Source) -> dict[str, Any]:
    where = source.instrument
    return {
        "format": source.format.name,
        "exchange": where.exchange,
        "market": where.market,
        "instId": where.inst_id,
        "kind": source.format.kind,
    }


def _days(result: Result) -> str:
    """What became of the days, in few words."""
    if result.is_known:
        return "imported before"
    words: list[str] = []
    for action in dict.fromkeys(each.action for each in result.days):
        days = [each.day for each in result.days if each.action == action]
        span = days[0] if len(days) == 1 else f"{days[0]} … {days[-1]}"
        words.append(f"{span} {action}")
    return ", ".join(words) or "none"
