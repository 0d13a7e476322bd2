"""`flowvault doctor`: what is wrong with a vault, and what to do about it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from pipeline.cli.choose import chooser, instrument_options, json_option
from pipeline.errors import DataError, MissingInputError


@click.command(epilog="Example: flowvault doctor --patience 30m")
@instrument_options
@click.option(
    "--patience",
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long raw data may lie unread, and a feed be silent or behind, as 30m or 2h.",
)
@json_option("One JSON object per finding.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    patience: str,
    as_json: bool,
) -> None:
    """Look for what is wrong, or soon will be; change nothing.

    One line a finding: an error (rows are missing, or soon will be), a warning (it needs a look)
    or a note, where and what it is, and the next command. The exit status is 65 if there is an
    error, else 0. Without -i every instrument is looked at.
    """
    from pipeline.cli.run import duration_us  # noqa: PLC0415
    from pipeline.engine.health.examine import CHECKS, examine  # noqa: PLC0415
    from pipeline.engine.health.finding import Severity  # noqa: PLC0415
    from pipeline.engine.health.survey import Survey  # noqa: PLC0415
    from pipeline.engine.health.tables import are_looked_at  # noqa: PLC0415

    del every
    if not vault.is_dir():
        raise MissingInputError(f"there is no vault at {vault}", f"flowvault --vault {vault} demo")
    waits = timedelta(microseconds=duration_us(patience) or 0)
    survey = Survey(vault, datetime.now(UTC), waits, chooser(inst_ids, exchange, market))
    has_tables = are_looked_at(survey)
    if not survey.instruments and not has_tables:
        raise MissingInputError(f"no such instruments under {vault / 'raw'}", "flowvault demo")
    found = examine(survey)
    counts = {each: sum(f.severity is each for f in found) for each in Severity}
    if as_json:
        for finding in found:
            click.echo(msgspec.json.encode(finding))
    else:
        for finding in found:
            click.echo(
                f"{finding.severity:<8} {finding.check:<12} {finding.where}: {finding.what}; "
                f"next: {finding.next}"
            )
        told = ", ".join(_count(number, each) for each, number in counts.items() if number)
        looked_at = f"{len(CHECKS)} checks of {_count(len(survey.instruments), 'instrument')}"
        looked_at += " and the market-wide tables" if has_tables else ""
        click.echo(f"{told or 'nothing found'} ({looked_at})")
    if counts[Severity.ERROR]:
        sys.exit(DataError.status)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
