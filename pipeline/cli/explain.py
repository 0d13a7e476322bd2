"""`flowvault explain`: where a row comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pipeline import stages, tables
from pipeline.cli import explained
from pipeline.cli.choose import choose, instrument_options, json_option
from pipeline.cli.moment import moment_us

if TYPE_CHECKING:
    from pipeline.engine.explain import Explanation
    from pipeline.engine.vault import Vault
    from pipeline.instrument import Instrument

_DEFAULTS = ("orderflow", "metrics_daily", "bars")


@click.command(
    epilog="Example: flowvault explain -i BTC-USDT-SWAP --at 2025-12-14T21:34:00Z --layer volume"
)
@instrument_options
@click.option(
    "--at",
    "at_us",
    metavar="TIME",
    callback=lambda _context, _option, text: None if text is None else moment_us(text),
    help="A time that the row covers, as 2025-12-14T21:34:00Z; of events the last until then.",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="A layer or a stage, or a market-wide table, which needs neither instrument nor time "
    "[default: orderflow_1m, or bars_1m for an instrument without it; "
    "micro_metrics_daily for equities].",
)
@click.option("--digest", is_flag=True, help="Read all that is named and add its SHA-256.")
@json_option("One JSON object an instrument.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    at_us: int | None,
    layer: str | None,
    digest: bool,
    as_json: bool,
) -> None:
    """Show one row, the rows of every layer it was made from, and the bytes of raw files.

    Of each layer: the time of its rows, the files and where they stand in them (bytes of JSONL
    files, row numbers of Parquet layers), the stage's version and parameters, and for which layers
    they are, how far back. Of raw files: the lines that hold these rows, in decompressed bytes;
    of books all from a snapshot on. The same row comes of these bytes alone; notes say what
    decided which records count. What goes back to the beginning is told as a range; only --digest
    reads it.

    A market-wide table is made as a whole: shown are the tables, feeds and raw files that it was
    made from, by the digests they had then.
    """
    from pipeline.engine.explain import explain  # noqa: PLC0415
    from pipeline.engine.reader import find_layer  # noqa: PLC0415
    from pipeline.engine.vault import Vault  # noqa: PLC0415

    opened = Vault.open(vault)
    asked = None if layer is None else find_layer(layer)
    if layer is not None and asked is None:
        if at_us is not None or inst_ids or every:
            raise _no_layer(layer)
        click.echo(_of_table(opened, layer, as_json=as_json))
        return
    if at_us is None:
        raise click.UsageError("Missing option '--at'.")
    markets = frozenset() if asked is None else asked[1].markets
    for instrument in choose(vault, inst_ids, exchange, market, every, markets):
        there = (n for n in _DEFAULTS if opened.paths.state(n, instrument).is_file())
        name = layer or next(there, _DEFAULTS[-1])
        found = find_layer(name)
        if found is None:
            raise _no_layer(name)
        told = explain(opened, instrument, found[0].name, at_us)
        if digest:
            from pipeline.engine.digest import add_digests  # noqa: PLC0415

            add_digests(vault, told)
        click.echo(_as_json(told, instrument) if as_json else explained.as_text(told, instrument))


def _no_layer(name: str) -> click.UsageError:
    """The error for a name that is no layer of an instrument."""
    if tables.rows_named(name) is not None:
        look = f"flowvault explain --layer {name}"
        return click.UsageError(f"{name} is of the whole market, of no instrument; try: {look}")
    known = ", ".join(stages.layers())
    return click.UsageError(f"no layer {name!r}; layers: {known}")


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


def _of_table(vault: Vault, name: str, *, as_json: bool) -> bytes | str:
    """What a market-wide table was made from."""
    from pipeline.engine import tablesources  # noqa: PLC0415

    rows = tables.rows_named(name)
    if rows is None:
        raise _no_layer(name)
    layer = rows.name
    told = tablesources.explain_table(vault, layer)
    if as_json:
        body: dict[str, Any] = {"layer": layer, "sources": msgspec.to_builtins(told)}
        return msgspec.json.encode(body)
    return explained.table_as_text(told)
