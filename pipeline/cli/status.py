"""`flowvault status`: how far every layer is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import instrument_options
from pipeline.engine.paths import VaultPaths, find_instruments
from pipeline.errors import FlowvaultError, MissingInputError
from pipeline.instrument import Instrument


@click.command(epilog="Example: flowvault status --json")
@instrument_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object per stage and instrument.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    as_json: bool,
) -> None:
    """Show per layer the last row, the lag behind what it reads, counts and errors.

    Without -i every instrument of the vault is shown.
    """
    del every
    paths = VaultPaths(vault)
    chosen = [
        each
        for each in find_instruments(vault)
        if (not inst_ids or each.inst_id in inst_ids)
        and exchange in (None, each.exchange)
        and market in (None, each.market)
    ]
    if not chosen:
        raise MissingInputError(f"no such instruments under {vault / 'raw'}", "flowvault demo")
    lines = [
        _describe(paths, stage, instrument)
        for instrument in chosen
        for stage in stages.all_stages()
        if stage.raw_kind is None or paths.raw(instrument, stage.raw_kind).is_dir()
    ]
    if as_json:
        for line in lines:
            click.echo(msgspec.json.encode(line))
        return
    _print(lines)


def _describe(paths: VaultPaths, stage: Any, instrument: Instrument) -> dict[str, Any]:
    from pipeline.engine.rows import stamp  # noqa: PLC0415
    from pipeline.engine.runner import read_state  # noqa: PLC0415

    line: dict[str, Any] = {
        "stage": stage.name,
        "exchange": instrument.exchange,
        "market": instrument.market,
        "instId": instrument.inst_id,
    }
    try:
        state = read_state(paths.state(stage.name, instrument))
        above = stages.upstream(stage)
        feeder = read_state(paths.state(above.name, instrument)) if above else None
    except FlowvaultError as error:
        return {**line, "error": error.message}
    if state is None:
        return {**line, "error": "never run"}
    mark = state.watermark_us
    line["last_row"] = None if state.last_row_us is None else stamp(state.last_row_us)
    line["watermark"] = None if mark is None else stamp(mark, "ms")
    if stage.raw_kind:
        line["unread_bytes"] = _unread(paths, state, stage.raw_kind, instrument)
    elif feeder is not None:
        read = state.upstream[stage.source].position if stage.source in state.upstream else 0
        line["unread_rows"] = feeder.parts[stage.source].rows - read
    line |= {name: getattr(state.counts, name) for name in state.counts.__struct_fields__}
    if stage.raw_kind and state.carry.get("held"):
        line["held"] = 1
    return line


def _unread(paths: VaultPaths, state: Any, kind: str, instrument: Instrument) -> int:
    """Bytes on disk that no run has looked at (compressed bytes of compressed files)."""
    from pipeline.engine.rawfiles import day_files  # noqa: PLC0415

    marks = {mark.day: mark for mark in state.raw.get(kind, [])}
    unread = 0
    for file in day_files(paths.raw(instrument, kind)):
        mark = marks.get(file.day)
        if mark is None:
            unread += file.size
        elif file.encoding:
            unread += max(0, file.size - mark.size)
        else:
            unread += max(0, file.size - mark.offset)
    return unread


def _print(lines: list[dict[str, Any]]) -> None:
    head = f"{'stage':<8}  {'instrument':<28}{'last row':<22}{'behind':>14}"
    click.echo(head + "".join(f"{n:>10}" for n in ("rows in", "rows out", "late", "dup", "bad", "gaps")))
    for line in lines:
        key = f"{line['exchange']}/{line['market']}/{line['instId']}"
        start = f"{line['stage']:<8}  {key:<28}"
        if "error" in line:
            click.echo(start + line["error"])
            continue
        behind = (
            f"{line['unread_bytes']:,} B" if "unread_bytes" in line else f"{line.get('unread_rows', 0):,} rows"
        )
        numbers = [line[n] for n in ("rows_in", "rows_out", "late", "duplicate", "bad", "gaps")]
        cells = "".join(f"{number:>10,}" for number in numbers)
        note = "  1 held (far ahead of the clock)" if line.get("held") else ""
        last = line["last_row"] or line["watermark"] or "-"
        click.echo(f"{start}{last:<22}{behind:>14}{cells}{note}")
