"""`flowvault rebuild`: compute layers again and swap them in."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline import stages, tables
from pipeline.cli.choose import choose, instrument_options
from pipeline.cli.run import Printer, exit_with_worst
from pipeline.errors import FlowvaultError


@click.command(epilog="Example: flowvault rebuild trades -i BTC-USDT-SWAP")
@click.argument("stage", required=False)
@instrument_options
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go ahead although raw files read before are gone: their rows are lost.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per stage and instrument.")
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

    The new rows are made beside the old ones and swapped in when they are complete. Trades that
    came too late take the place in which they belong. Use it after parameters, contract sizes,
    the version of a stage or raw files have changed.
    """
    from pipeline.engine.presence import applies  # noqa: PLC0415
    from pipeline.engine.rebuild import rebuild_stage  # noqa: PLC0415
    from pipeline.engine.runner import Vault  # noqa: PLC0415

    if stage is not None and stage in tables.SUMMARY:
        command = stage if stage in tables.COMMANDS else "run --all"
        text = f"{stage} is made again as a whole whenever anything it is made from has changed"
        raise click.UsageError(f"{text}; try: flowvault {command}")
    if stage is not None and stage not in stages.SUMMARY:
        known = ", ".join(stages.SUMMARY)
        raise click.UsageError(f"no stage {stage!r}; stages: {known}")
    chain = stages.all_stages() if stage is None else stages.with_downstream(stage)
    opened = Vault.open(vault)
    printer = Printer(as_json=as_json)
    statuses: set[int] = set()
    markets = frozenset() if stage is None else stages.load(stage).markets
    instruments = choose(vault, inst_ids, exchange, market, every, markets)
    with printer.progress() as report:
        for instrument in instruments:
            for each in chain:
                if not applies(opened.paths, each, instrument):
                    continue
                try:
                    done = rebuild_stage(
                        opened, each, instrument, allow_missing=allow_missing, report=report
                    )
                except FlowvaultError as error:
                    printer.error(error)
                    statuses.add(error.status)
                    break
                printer.summary(done)
    exit_with_worst(statuses)
