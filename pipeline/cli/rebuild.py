"""`flowvault rebuild`: compute layers again and swap them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipeline import stages, tables
from pipeline.cli.choose import choose, instrument_options, json_option
from pipeline.cli.run import Printer, exit_with_worst
from pipeline.cli.tables import rebuild as rebuild_table
from pipeline.cli.tables import refuse_options
from pipeline.engine.paths import VaultPaths
from pipeline.errors import FlowvaultError, MissingInputError
from pipeline.instrument import Instrument
from pipeline.stage import Stage
from pipeline.table import Table


@click.command(epilog="Example: flowvault rebuild trades -i BTC-USDT-SWAP")
@click.argument("stage", required=False)
@instrument_options
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go ahead although raw files read before are gone: their rows are lost.",
)
@json_option("One JSON object per stage and instrument.")
@click.pass_obj
def command(
    vault: Path,
    stage: str | None,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Compute STAGE and all that reads it again from the start (default: every stage).

    A stage behind STAGE that has never run has no rows to be made again, and is left to `run`.
    STAGE may be a market-wide table too: it needs no instrument, and what it reads is brought up
    to date first.
    The new rows are made beside the old ones and swapped in when they are complete. Trades that
    came too late take the place in which they belong. Use it after parameters, contract sizes,
    the version of a stage or raw files have changed.
    """
    from pipeline.engine.rebuild import rebuild_stage  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    if stage is not None and stage not in stages.SUMMARY:
        table = _table_of(stage)
        refuse_options(table.name, exchange, market)
        if inst_ids or every or allow_missing:
            option = "--allow-missing" if allow_missing else "--all" if every else "-i"
            raise click.UsageError(f"{table.name} is of the whole US market: leave out {option}")
        rebuild_table(vault, table, as_json=as_json)
        return
    chain = stages.all_stages() if stage is None else stages.with_downstream(stage)
    opened = Vault.open(vault)
    printer = Printer(as_json=as_json)
    statuses: set[int] = set()
    markets = frozenset() if stage is None else stages.load(stage).markets
    instruments = choose(vault, inst_ids, exchange, market, every, markets)
    with printer.progress() as report:
        for instrument in instruments:
            is_nothing = True
            try:
                for each in chain:
                    is_named = stage in (None, each.name)
                    if not _is_due(opened.paths, each, instrument, is_named=is_named):
                        continue
                    is_nothing = False
                    done = rebuild_stage(
                        opened, each, instrument, allow_missing=allow_missing, report=report
                    )
                    printer.summary(done)
                if is_nothing and not every:
                    raise _nothing_to_do(stage, instrument)
            except FlowvaultError as error:
                printer.error(error)
                statuses.add(error.status)
    exit_with_worst(statuses)


def _table_of(name: str) -> Table[Any]:
    """The market-wide table of that name.

    Raises:
        click.UsageError: there is none.
    """
    table = tables.table_named(name)
    if table is not None:
        return table
    if name in tables.feeds():
        why = "a file is read again when its content changes: flowvault run --all"
        raise click.UsageError(f"{name} is a feed, and feeds are not rebuilt; {why}")
    known = ", ".join((*stages.SUMMARY, *tables.SUMMARY))
    raise click.UsageError(f"no stage {name!r}; stages and tables: {known}")


def _nothing_to_do(stage: str | None, instrument: Instrument) -> MissingInputError:
    what = "nothing has" if stage is None else f"{stage} has not"
    message = f"{instrument.key}: {what} run, and there is nothing to make it from"
    return MissingInputError(message, f"flowvault status {instrument.options}")


def _is_due(
    paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument, *, is_named: bool
) -> bool:
    """Whether a stage has rows to be made again, or is asked for and has something to make.

    To be asked once the stages above have been rebuilt.
    """
    from pipeline.engine.presence import has_data  # noqa: PLC0415
    from pipeline.engine.state import has_run  # noqa: PLC0415

    if has_run(paths.state(stage.name, instrument)):
        return True
    return is_named and has_data(paths, stage, instrument)
