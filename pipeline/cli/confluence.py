"""`flowvault confluence`: the stage, and its new matches for a notifier."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import choose, instrument_options, json_option
from pipeline.cli.moment import moment_us, stamp_of
from pipeline.cli.run import run_all
from pipeline.instrument import Instrument

NOTHING_NEW = 1
"""Exit status when no rule matched, as `grep` has it."""


@click.command(
    help=stages.SUMMARY["confluence"],
    epilog="Example: flowvault confluence -i BTC-USDT-SWAP --since LAST --json | notify",
)
@instrument_options
@click.option("--no-upstream", is_flag=True, help="Do not run the stages it reads first.")
@click.option(
    "--since",
    callback=lambda _context, _option, text: _since(text),
    metavar="TIME",
    help="Print the matches behind this time (as 2025-12-14T21:34:00Z), or with LAST those that "
    "were not printed before; exit with 0 if there are any, 1 if not.",
)
@json_option("One JSON object a line.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    no_upstream: bool,
    since: str | None,
    as_json: bool,
) -> None:
    """Evaluate the rules; print new matches if asked to."""
    chain = [stages.load("confluence")] if no_upstream else stages.with_upstream(["confluence"])
    instruments = choose(vault, inst_ids, exchange, market, every)
    quiet = since is not None
    failed = None
    try:
        run_all(
            vault,
            instruments,
            chain,
            every=every,
            as_json=as_json,
            asked=("confluence",),
            quiet=quiet,
        )
    except SystemExit as stop:
        failed = stop.code
    # what one feed has against it is no reason to keep quiet about a match
    found = sum(_report(vault, each, since, as_json=as_json) for each in instruments if since)
    if failed or since:
        sys.exit(failed or (0 if found else NOTHING_NEW))


_LAST = "LAST"


def _since(text: str | None) -> str | None:
    """A time as rows write it, or LAST."""
    if text is None or text.upper() == _LAST:
        return text and _LAST
    return stamp_of(moment_us(text))


def _report(vault: Path, instrument: Instrument, since: str, *, as_json: bool) -> int:
    """Print the matches of one instrument; returns how many there were."""
    from pipeline.engine import reported  # noqa: PLC0415
    from pipeline.engine.paths import VaultPaths  # noqa: PLC0415
    from pipeline.engine.reader import committed_length, lines_between  # noqa: PLC0415

    stage = stages.load("confluence")
    layer, paths = stage.layers[0], VaultPaths(vault)
    length = committed_length(vault, layer, stage.name, instrument)
    if not length:
        return 0
    note = reported.path_of(paths.state(stage.name, instrument))
    is_last = since == _LAST
    after = reported.load(note).until if is_last else since
    data = lines_between(paths.derived(layer.folder, instrument) / layer.file, 0, length)
    rows = [msgspec.json.decode(line) for line in data.splitlines()]
    matches = [row for row in rows if row["timestamp_utc"] > after and row["matched"]]
    for row in matches:
        click.echo(msgspec.json.encode(row) if as_json else _sentence(row))
    sys.stdout.flush()
    if is_last and rows[-1]["timestamp_utc"] != after:
        # printed first: a death in between may print twice, but swallows nothing
        reported.save(note, reported.Reported(rows[-1]["timestamp_utc"]))
    return len(matches)


def _sentence(row: dict[str, Any]) -> str:
    values: dict[str, Any] = {}
    for condition in row["conditions"]:
        values |= condition["values"]
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    return f"{row['timestamp_utc']} {row['instId']} {row['direction']} {row['rule']}: {shown}"
