"""`flowvault tail`: the last committed rows of a layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from pipeline import stages, tables
from pipeline.cli.choose import choose, instrument_options
from pipeline.cli.tables import refuse_options
from pipeline.cli.tables import tail as print_table
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument

_POLL_S = 0.2
_HUMAN = ("orderflow_1m",)


@click.command(epilog="Example: flowvault tail volume -i BTC-USDT-SWAP -n 3 -f")
@click.argument("layer")
@instrument_options
@click.option("-n", "count", type=click.IntRange(min=0), default=5, show_default=True, help="Rows.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing rows as they are committed.")
@click.option("--human", is_flag=True, help="Sentences in place of JSON (orderflow).")
@click.pass_obj
def command(
    vault: Path,
    layer: str,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    count: int,
    follow: bool,
    human: bool,
) -> None:
    """Print the last committed rows of a LAYER (a layer's or a stage's name, a feed's or table's).

    Rows come as they are in the file, one JSON object a line; rows of Parquet layers are written
    the same way. What a running or dead process has not committed is not shown. Market-wide feeds
    and tables need no instrument; -i chooses symbols.
    """
    from pipeline.engine.reader import find_layer  # noqa: PLC0415

    found = find_layer(layer)
    if found is None:
        wide = tables.rows_named(layer)
        if wide is None:
            known = ", ".join((*stages.layers(), *tables.feeds(), *tables.layers()))
            raise click.UsageError(f"no layer {layer!r}; layers: {known}")
        refuse_options(wide.name, exchange, market)
        if human or follow:
            which = "--human" if human else "-f"
            why = "it has no sentences" if human else "it is made again as a whole"
            raise click.UsageError(f"{which} is not for {wide.name}: {why}")
        print_table(vault, wide, inst_ids, count)
        return
    if human and found[0].name not in _HUMAN:
        raise click.UsageError(f"--human knows {', '.join(_HUMAN)}; {found[0].name} is JSON only")
    instruments = choose(vault, inst_ids, exchange, market, every, found[1].markets)
    if follow and len(instruments) > 1:
        raise click.UsageError("-f follows one instrument")
    for instrument in instruments:
        say = _sentences if human else _as_it_is
        _print(vault, found[0].name, instrument, count, say, follow=follow)


def _as_it_is(lines: bytes) -> None:
    click.echo(lines, nl=False)


def _sentences(lines: bytes) -> None:
    import msgspec  # noqa: PLC0415

    from pipeline.calc.sentences import sentence  # noqa: PLC0415

    for line in lines.splitlines():
        click.echo(sentence(msgspec.json.decode(line)))


def _print(
    vault: Path,
    name: str,
    instrument: Instrument,
    count: int,
    say: Callable[[bytes], None],
    *,
    follow: bool,
) -> None:
    from pipeline.engine import reader  # noqa: PLC0415
    from pipeline.engine.paths import VaultPaths  # noqa: PLC0415

    layer, stage = stages.layers()[name]
    at = reader.committed_length(vault, layer, stage.name, instrument)
    if not at and not follow:
        if VaultPaths(vault).state(stage.name, instrument).is_file():
            click.echo(f"flowvault: {layer.name} of {instrument.key} has no rows yet", err=True)
            return
        message = f"{layer.name} of {instrument.key} has never been run"
        raise MissingInputError(message, f"flowvault {stage.name} {instrument.options}")
    _show(
        vault,
        name,
        instrument,
        max(0, at - count) if layer.format == "parquet" else None,
        at,
        count,
        say,
    )
    while follow:
        time.sleep(_POLL_S)
        now = reader.committed_length(vault, layer, stage.name, instrument)
        if now > at:
            _show(vault, name, instrument, at, now, None, say)
        at = now


def _show(
    vault: Path,
    name: str,
    instrument: Instrument,
    start: int | None,
    end: int,
    count: int | None,
    say: Callable[[bytes], None],
) -> None:
    """Print rows [start, end) of a layer; of a JSONL layer the last `count` if that is given."""
    from pipeline.engine import reader  # noqa: PLC0415
    from pipeline.engine.paths import VaultPaths  # noqa: PLC0415
    from pipeline.engine.state import read_state  # noqa: PLC0415

    layer, stage = stages.layers()[name]
    paths = VaultPaths(vault)
    folder = paths.derived(layer.folder, instrument)
    if layer.format == "parquet":
        state = read_state(paths.state(stage.name, instrument))
        if state is not None and start is not None and end > start:
            frame = reader.last_frame(folder, state, layer, end - start)
            click.echo(frame.write_ndjson(), nl=False)
        return
    if layer.format == "json":
        state = read_state(paths.state(stage.name, instrument))
        wanted = end - (start or 0) if count is None else count
        for line in reader.last_documents(folder, state, layer, wanted) if state else ():
            say(line)
        return
    path = folder / layer.file
    if count is None:
        say(reader.lines_between(path, start or 0, end))
    else:
        for line in reader.last_lines(path, end, count):
            say(line)
