"""The commands of market-wide tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import tables
from pipeline.cli.choose import json_option
from pipeline.cli.run import Printer, exit_with_worst
from pipeline.errors import DataError, FlowvaultError, MissingInputError
from pipeline.instrument import EQUITIES

if TYPE_CHECKING:
    from pipeline.engine.feeds import Outcome
    from pipeline.engine.stage_run import Report
    from pipeline.engine.vault import Vault
    from pipeline.layers import Layer
    from pipeline.table import Table

NOTICE = (
    "Venues and institutions are brought together by statistical association, not identification: "
    "a venue has many subscribers, no side is published, and a 13F shows net long positions at a "
    "quarter's end."
)
_OF_INSTITUTIONS = ("broker_map", "attribution", "rotation")


def table_command(name: str) -> click.Command:
    """The command of one table."""

    @click.command(name, help=tables.SUMMARY[name], epilog=f"Example: flowvault {name} --json")
    @json_option("One JSON object per feed and table.")
    @click.pass_obj
    def table(vault: Path, as_json: bool) -> None:
        from pipeline.engine import tables as engine  # noqa: PLC0415
        from pipeline.engine.vault import Vault  # noqa: PLC0415

        if not engine.are_here(vault):
            raise nothing_here(vault)
        printer = Printer(as_json=as_json)
        with printer.progress() as report:
            statuses = bring_up(Vault.open(vault), tables.with_upstream([name]), printer, report)
        if name in _OF_INSTITUTIONS and not as_json:
            click.echo(NOTICE)
        exit_with_worst(statuses)

    return table


def rebuild(vault: Path, table: Table[Any], *, as_json: bool) -> None:
    """Make a table again, though nothing has changed, and those made before that read it."""
    from pipeline.engine import tables as engine  # noqa: PLC0415
    from pipeline.engine.state import has_run  # noqa: PLC0415
    from pipeline.engine.tablestate import path_of  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    if not engine.are_here(vault):
        raise nothing_here(vault)
    behind = [each.name for each in tables.with_downstream(table.name)]
    again = [n for n in behind if n == table.name or has_run(path_of(vault, n))]
    printer = Printer(as_json=as_json)
    with printer.progress() as report:
        chain = tables.with_upstream(again)
        opened = Vault.open(vault)
        statuses = bring_up(opened, chain, printer, report, forced=frozenset(again))
    if table.name in _OF_INSTITUTIONS and not as_json:
        click.echo(NOTICE)
    exit_with_worst(statuses)


def tail(vault: Path, layer: Layer, symbols: tuple[str, ...], count: int) -> None:
    """Print the last rows of a feed or table, in the order in which it keeps them."""
    from pipeline.engine.tablerows import last_rows, was_made  # noqa: PLC0415

    if symbols and "symbol" not in (column.name for column in layer.columns):
        raise click.UsageError(f"{layer.name} is of no single instrument: leave out -i")
    if not was_made(vault, layer.name):
        raise MissingInputError(f"{layer.name} has never been made", _maker_of(layer.name))
    rows = last_rows(vault, layer.name, symbols, count)
    if count and not rows.height:
        whose = f" of {', '.join(symbols)}" if symbols else ""
        click.echo(f"flowvault: {layer.name} has no rows{whose} yet", err=True)
    click.echo(rows.write_ndjson(), nl=False)
    table = tables.table_named(layer.name)
    if rows.height and table is not None and table.name in _OF_INSTITUTIONS:
        click.echo(NOTICE, err=True)


def refuse_options(name: str, exchange: str | None, market: str | None) -> None:
    """Market-wide rows are of no exchange, and of one market.

    Raises:
        click.UsageError: another one is asked for.
    """
    if exchange is not None or market not in (None, EQUITIES):
        option = "--market" if exchange is None else "--exchange"
        raise click.UsageError(f"{name} is of the whole US market: leave out {option}")


def _maker_of(name: str) -> str:
    """The command that makes a feed or table."""
    table = tables.table_named(name)
    is_command = table is not None and table.name in tables.COMMANDS
    return f"flowvault {table.name}" if table and is_command else "flowvault run --all"


def nothing_here(vault: Path) -> MissingInputError:
    """The error for a vault without any of the files that tables are made from."""
    feeds = tables.feeds().values()
    folders = ", ".join(dict.fromkeys(each.folder or f"{each.spelled}.jsonl" for each in feeds))
    message = f"nothing for the market-wide tables under {vault / 'raw'}: no {folders}, no taq"
    return MissingInputError(message, "flowvault layers finra_ats")


def bring_up(
    vault: Vault,
    chain: list[Table[Any]],
    printer: Printer,
    report: Report | None,
    *,
    frozen: frozenset[str] = frozenset(),
    forced: frozenset[str] = frozenset(),
    quiet: bool = False,
) -> set[int]:
    """Bring tables up to date and print what was done; the statuses of what went wrong."""
    from pipeline.engine import tables as engine  # noqa: PLC0415

    statuses = set()
    try:
        for done in engine.update(vault, chain, report, frozen, forced):
            if isinstance(done, FlowvaultError):
                printer.error(done)
                statuses.add(done.status)
                continue
            printer.table(done, quiet=quiet)
            if done.is_too_bad:
                error = _too_bad(done, vault.root)
                printer.error(error)
                statuses.add(error.status)
    except FlowvaultError as error:
        printer.error(error)
        statuses.add(error.status)
    return statuses


def _too_bad(done: Outcome, root: Path) -> DataError:
    folder = root / "quarantine" / tables.feeds()[done.name].folder
    return DataError(
        f"{done.name}: {done.counts.bad} of {done.counts.rows_in} lines were bad (more than 1 %); "
        f"the others are committed, the bad ones are under {folder}",
        "look at the reasons there, mend the files",
    )
