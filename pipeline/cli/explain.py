"""`flowvault explain`: where a row comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages
from pipeline.cli.choose import choose, instrument_options
from pipeline.cli.moment import moment_us, stamp_of

if TYPE_CHECKING:
    from pipeline.engine.explain import Explanation, Why
    from pipeline.engine.spans import Spans
    from pipeline.instrument import Instrument

_DEFAULTS = ("orderflow", "metrics_daily", "bars")
_SHOWN = 3


@click.command(
    epilog="Example: flowvault explain -i BTC-USDT-SWAP --at 2025-12-14T21:34:00Z --layer volume"
)
@instrument_options
@click.option(
    "--at",
    "at_us",
    required=True,
    metavar="TIME",
    callback=lambda _context, _option, text: moment_us(text),
    help="A time that the row covers, as 2025-12-14T21:34:00Z; of events the last until then.",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="A layer or a stage [default: orderflow_1m, or bars_1m for an instrument without it; "
    "micro_metrics_daily for equities].",
)
@click.option("--digest", is_flag=True, help="Read all that is named and add its SHA-256.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an instrument.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    at_us: int,
    layer: str | None,
    digest: bool,
    as_json: bool,
) -> None:
    """Show one row, the rows of every layer it was made from, and the bytes of raw files.

    Of each layer: the time of its rows, the files and where they stand in them (bytes of JSONL
    files, row numbers of Parquet layers), the stage's version and parameters, and for which layers
    they are, how far back. Of raw files: the lines that hold these rows, in decompressed bytes;
    of books all from a snapshot on. Nothing else goes into the row: the same rows come of these
    bytes alone. What goes back to the beginning is told as a range; only --digest reads it.
    """
    from pipeline.engine.explain import explain  # noqa: PLC0415
    from pipeline.engine.reader import find_layer  # noqa: PLC0415
    from pipeline.engine.runner import Vault  # noqa: PLC0415

    opened = Vault.open(vault)
    asked = None if layer is None else find_layer(layer)
    markets = frozenset() if asked is None else asked[1].markets
    for instrument in choose(vault, inst_ids, exchange, market, every, markets):
        there = (n for n in _DEFAULTS if opened.paths.state(n, instrument).is_file())
        name = layer or next(there, _DEFAULTS[-1])
        found = find_layer(name)
        if found is None:
            known = ", ".join(stages.layers())
            raise click.UsageError(f"no layer {name!r}; layers: {known}")
        told = explain(opened, instrument, found[0].name, at_us)
        if digest:
            from pipeline.engine.digest import add_digests  # noqa: PLC0415

            add_digests(vault, told)
        click.echo(_as_json(told, instrument) if as_json else _as_text(told, instrument))


def _as_json(told: Explanation, instrument: Instrument) -> bytes:
    """All there is to tell, as one object."""
    head = {
        "layer": told.layer,
        "exchange": instrument.exchange,
        "market": instrument.row_market,
        "instId": instrument.inst_id,
    }
    body: dict[str, Any] = msgspec.to_builtins(told)
    return msgspec.json.encode(head | body)


def _as_text(told: Explanation, instrument: Instrument) -> str:
    """The same for people: of many places only the first."""
    lines = [f"{told.layer} of {instrument.key}"]
    rows = [msgspec.json.encode(row).decode() for row in told.rows]
    lines += [f"  {row}" for row in rows[:_SHOWN]]
    lines += [f"  … and {len(rows) - _SHOWN} more rows"] if len(rows) > _SHOWN else []
    for source in told.sources:
        parameters = ", ".join(f"{name} {value}" for name, value in source.parameters.items())
        lines += [
            "",
            f"{source.layer}  {_times(source.times)}  {_counted(source.rows, 'row')}",
            f"  stage {source.stage}, version {source.version}, epoch {source.epoch}; {parameters}",
        ]
        for file in source.files[:_SHOWN]:
            files = f" of {file.files} files" if file.files > 1 else ""
            where = f"  {file.path}{files} {file.unit} {_ranges(file.ranges)}"
            lines.append(where + _digest(file.sha256))
        lines += _more(len(source.files), "file")
        lines += [f"  went on without {name}" for name in source.given_up]
        lines += _reasons(source.why)
    for raw in told.raw:
        lines += ["", f"raw {raw.kind}  {_times(raw.times)}  {_counted(raw.lines, 'line')}"]
        # the first of many, and the last, which is nearest to the row
        shown = raw.files if len(raw.files) <= _SHOWN else [*raw.files[:2], raw.files[-1]]
        for part in shown:
            unpacked = "" if part.path.endswith(".jsonl") else "decompressed "
            crc = f" crc32 {part.crc32}" if part.crc32 else ""
            where = f"  {part.path} {unpacked}bytes {_ranges(part.ranges)}{crc}"
            lines.append(where + _digest(part.sha256))
        lines += _more(len(raw.files), "file")
        lines += [f"  {path} is gone; it had been read" for path in raw.gone]
        lines += _reasons(raw.why)
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _digest(sha256: str | None) -> str:
    return f" sha256 {sha256}" if sha256 else ""


def _counted(number: int | None, what: str) -> str:
    return f"all {what}s of that time" if number is None else _count(number, what)


def _reasons(why: list[Why]) -> list[str]:
    """For which layers, those that look equally far together."""
    by_reach: dict[tuple[str, str], list[str]] = {}
    for each in why:
        by_reach.setdefault((each.reach, each.note), []).append(each.layer)
    return [
        f"  for {', '.join(layers)}: {reach}{f'; {note}' if note else ''}"
        for (reach, note), layers in by_reach.items()
    ]


def _more(count: int, what: str) -> list[str]:
    return [f"  … and {_count(count - _SHOWN, what)} more"] if count > _SHOWN else []


def _ranges(ranges: Spans) -> str:
    shown = ", ".join(f"[{low}, {high})" for low, high in ranges[:_SHOWN])
    more = len(ranges) - _SHOWN
    return (
        f"{shown} … and {more} more, the last [{ranges[-1][0]}, {ranges[-1][1]})"
        if more > 0
        else shown
    )


def _times(times: Spans) -> str:
    """From the first to the last, whole seconds."""
    if not times:
        return ""
    more = f" in {len(times)} pieces" if len(times) > 1 else ""
    return f"{stamp_of(times[0][0])} to {stamp_of(times[-1][1])}{more}"
