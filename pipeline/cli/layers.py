"""`flowvault layers`: the data dictionary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from pipeline import stages, tables
from pipeline.cli.choose import json_option
from pipeline.layers import Layer, header_columns


@dataclass(frozen=True, slots=True)
class Entry:
    """One layer: who makes it of what, and where it lies below the vault."""

    layer: Layer
    maker: str
    kind: str
    reads: tuple[str, ...]
    path: str


def entries() -> Iterator[Entry]:
    """Every layer of every stage, then the market-wide feeds and tables."""
    for layer, stage in stages.layers().values():
        path = f"derived/{layer.folder}/{{exchange}}/{{market}}/{{INSTID}}/{layer.file}"
        yield Entry(layer, stage.name, "stage", stage.reads or (stage.source,), path)
    for feed in tables.feeds().values():
        raw = "/".join(each for each in ("raw", feed.folder, f"{feed.spelled}.jsonl") if each)
        yield Entry(feed.layer, feed.name, "feed", (raw,), _market_wide(feed.layer))
    for layer, table in tables.layers().values():
        reads = table.reads or ("a list that ships with flowvault",)
        yield Entry(layer, table.name, "table", reads, _market_wide(layer))


def _market_wide(layer: Layer) -> str:
    return f"derived/{layer.folder}/{layer.file}"


@click.command(epilog="Example: flowvault layers volume_1m")
@click.argument("name", required=False)
@json_option("One JSON object per layer.")
def command(name: str | None, as_json: bool) -> None:
    """Explain the layers, or one in full: columns, units, formulas.

    NAME is a layer, or the stage, feed or table that makes it.
    """
    chosen = [each for each in entries() if name in (None, each.layer.name, each.maker)]
    if not chosen:
        known = ", ".join(each.layer.name for each in entries())
        raise click.UsageError(f"no layer {name!r}; layers: {known}")
    if as_json:
        for each in chosen:
            click.echo(msgspec.json.encode(describe(each)))
        return
    if name is None:
        width = max(len(each.layer.name) for each in chosen)
        for each in chosen:
            layer = each.layer
            click.echo(f"{layer.name:<{width}}  {layer.format:<7}  {layer.text}")
        click.echo("\nEvery column of one: flowvault layers NAME")
        return
    for position, each in enumerate(chosen):
        if position:
            click.echo()
        _print(each)


def describe(entry: Entry) -> dict[str, Any]:
    """A layer as plain data."""
    return {
        "layer": entry.layer.name,
        "stage": entry.maker,
        "reads": list(entry.reads),
        "format": entry.layer.format,
        "path": entry.path,
        "text": entry.layer.text,
        "columns": [
            {"name": c.name, "type": c.dtype, "unit": c.unit, "text": c.text}
            for c in columns_of(entry.layer)
        ],
    }


def columns_of(layer: Layer) -> tuple[Any, ...]:
    """All columns of a layer, leading keys included."""
    if layer.format != "jsonl":
        return layer.columns
    text = "the bar's first moment" if layer.span_us else "event time"
    return (*header_columns(text), *layer.columns)


def _print(entry: Entry) -> None:
    layer = entry.layer
    click.echo(f"{layer.name}: {layer.text}")
    click.echo(f"  {entry.path}")
    click.echo(f"  made by {entry.kind} {entry.maker} from {', '.join(entry.reads)}")
    columns = columns_of(layer)
    name = max(len(c.name) for c in columns)
    kind = max(len(c.dtype) for c in columns)
    unit = max(len(c.unit) for c in columns)
    for c in columns:
        click.echo(f"  {c.name:<{name}}  {c.dtype:<{kind}}  {c.unit:<{unit}}  {c.text}")
