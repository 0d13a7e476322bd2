"""`flowvault status`: how far every layer is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import chooser, instrument_options, json_option
from pipeline.engine.paths import VaultPaths, find_instruments
from pipeline.errors import FlowvaultError, MissingInputError
from pipeline.instrument import EQUITIES, Instrument


@click.command(epilog="Example: flowvault status --json")
@instrument_options
@json_option("One JSON object per stage and instrument.")
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
    from pipeline.engine.presence import applies  # noqa: PLC0415

    del every
    paths = VaultPaths(vault)
    chosen = list(filter(chooser(inst_ids, exchange, market), find_instruments(vault)))
    is_everything = not inst_ids and exchange is None and market in (None, EQUITIES)
    beside = _market_wide(vault) if is_everything else []
    if not chosen and not beside:
        raise MissingInputError(f"no such instruments under {vault / 'raw'}", "flowvault demo")
    lines = [
        line
        for instrument in chosen
        for stage in stages.all_stages()
        if applies(paths, stage, instrument)
        for line in _describe(paths, stage, instrument)
    ] + beside
    if as_json:
        for line in lines:
            click.echo(msgspec.json.encode(line))
        return
    _print(lines)


def _market_wide(vault: Path) -> list[dict[str, Any]]:
    """One line per feed and layer of the market-wide tables, if there are any."""
    from pipeline.engine.tables import are_here  # noqa: PLC0415
    from pipeline.engine.tablestatus import describe  # noqa: PLC0415

    head = {"exchange": None, "market": EQUITIES, "instId": None}
    return [{**line, **head} for line in describe(vault)] if are_here(vault) else []


def _describe(paths: VaultPaths, stage: Any, instrument: Instrument) -> list[dict[str, Any]]:
    """One line per layer of a stage; late, duplicate and bad are counted once, at the first."""
    from pipeline.engine.progress import unread_bytes, waiting  # noqa: PLC0415
    from pipeline.engine.rows import stamp  # noqa: PLC0415
    from pipeline.engine.state import read_state  # noqa: PLC0415

    head: dict[str, Any] = {
        "layer": stage.layers[0].name,
        "stage": stage.name,
        "exchange": instrument.exchange,
        "market": instrument.market,
        "instId": instrument.inst_id,
    }
    try:
        state = read_state(paths.state(stage.name, instrument))
        above = {name: _state_of(paths, name, instrument) for name in stage.reads}
    except FlowvaultError as error:
        return [{**head, "error": error.message}]
    if state is None:
        return [{**head, "error": "never run"}]
    mark = state.watermark_us
    behind: dict[str, Any] = {}
    if stage.raw_kind:
        behind["unread_bytes"] = unread_bytes(paths, state, stage.raw_kind, instrument)
    elif stage.source:
        feeder, mark_there = above[stage.source], state.upstream.get(stage.source)
        if feeder is not None:
            read = mark_there.position if mark_there is not None else 0
            behind["unread_rows"] = max(0, feeder.parts[stage.source].rows - read)
    else:
        behind |= waiting(stage, state, above, instrument)
    lines = []
    for layer in stage.layers:
        own = state.layers.get(layer.name)
        last = own.last_us if own else None
        lines.append(
            {
                **head,
                "layer": layer.name,
                "rows": own.rows if own else 0,
                "last_row": None if last is None else stamp(last, layer.stamp),
                "watermark": None if mark is None else stamp(mark, "ms"),
                **behind,
            }
        )
    if stage.raw_kind:
        counts = state.counts
        lines[0] |= {"late": counts.late, "duplicate": counts.duplicate, "bad": counts.bad}
        lines[0]["held"] = int(bool(state.carry.get("held")))
    return lines


def _state_of(paths: VaultPaths, layer: str, instrument: Instrument) -> Any:
    from pipeline.engine.state import read_state  # noqa: PLC0415

    return read_state(paths.state(stages.owner(layer).name, instrument))


def _print(lines: list[dict[str, Any]]) -> None:
    shown, width = None, max(16, *(1 + len(line["layer"]) for line in lines))
    for line in lines:
        names = (line["exchange"], line["market"], line["instId"])
        key = "/".join(name for name in names if name)
        if key != shown:
            click.echo(key if shown is None else f"\n{key}")
            click.echo(f"  {'layer':<{width}}{'rows':>12}  {'last row':<26}{'behind':>14}")
            shown = key
        if "error" in line:
            click.echo(f"  {line['layer']:<{width}}{line['error']}")
            continue
        behind = _behind(line)
        last = line.get("last_row") or "-"
        notes = [f"{line[n]:,} {n}" for n in ("late", "duplicate", "bad", "held") if line.get(n)]
        if "waits_for" in line:
            notes.append(f"waits for {line['waits_for']} (or: flowvault run --give-up 5m)")
        notes += (
            [f"{line['gone_files']:,} raw files gone, rows kept"] if line.get("gone_files") else []
        )
        notes += [f"went on without {name}" for name in line.get("given_up", ())]
        note = "  " + ", ".join(notes) if notes else ""
        rows = f"{line['rows']:>12,}"
        click.echo(f"  {line['layer']:<{width}}{rows}  {last:<26}{behind:>14}{note}")


def _behind(line: dict[str, Any]) -> str:
    """How far a layer is behind what it reads."""
    if "unread_bytes" in line:
        return f"{line['unread_bytes']:,} B"
    if "unread_files" in line:
        return f"{line['unread_files']:,} files"
    if "is_current" in line:
        return "-" if line["is_current"] else "to be made"
    if "unread_rows" in line:
        return f"{line['unread_rows']:,} rows"
    seconds = line.get("behind_s")
    return "-" if seconds is None else f"{seconds:,.0f} s"
