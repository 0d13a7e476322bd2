"""The commands of market-wide tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import tables
from pipeline.cli.run import Printer, exit_with_worst
from pipeline.errors import DataError, FlowvaultError, MissingInputError

if TYPE_CHECKING:
    from pipeline.engine.feeds import Outcome
    from pipeline.engine.runner import Report, Vault
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
    @click.option("--json", "as_json", is_flag=True, help="One JSON object per feed and table.")
    @click.pass_obj
    def table(vault: Path, as_json: bool) -> None:
        from pipeline.engine import tables as engine  # noqa: PLC0415
        from pipeline.engine.runner import Vault  # noqa: PLC0415

        if not engine.are_here(vault):
            raise nothing_here(vault)
        printer = Printer(as_json=as_json)
        with printer.progress() as report:
            statuses = bring_up(Vault.open(vault), tables.with_upstream([name]), printer, report)
        if name in _OF_INSTITUTIONS and not as_json:
            click.echo(NOTICE)
        exit_with_worst(statuses)

    return table


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
    quiet: bool = False,
) -> set[int]:
    """Bring tables up to date and print what was done; the statuses of what went wrong."""
    from pipeline.engine import tables as engine  # noqa: PLC0415

    statuses = set()
    try:
        for done in engine.update(vault, chain, report, frozen):
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
