"""`flowvault layers`: the data dictionary."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from pipeline import stages
from pipeline.layers import Layer, header_columns
from pipeline.stage import Stage


@click.command(epilog="Example: flowvault layers volume_1m")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per layer.")
def command(name: str | None, as_json: bool) -> None:
    """Explain the layers, or one in full: columns, units, formulas.

    NAME is a layer or a stage.
    """
    chosen = [
        (layer, stage)
        for layer, stage in stages.layers().values()
        if name is None or name in (layer.name, stage.name)
    ]
    if not chosen:
        known = ", ".join(stages.layers())
        raise click.UsageError(f"no layer {name!r}; layers: {known}")
    if as_json:
        for layer, stage in chosen:
            click.echo(msgspec.json.encode(describe(layer, stage)))
        return
    if name is None:
        width = max(len(layer.name) for layer, _ in chosen)
        for layer, _ in chosen:
            click.echo(f"{layer.name:<{width}}  {layer.format:<7}  {layer.text}")
        click.echo("\nEvery column of one: flowvault layers NAME")
        return
    for position, (layer, stage) in enumerate(chosen):
        if position:
            click.echo()
        _print(layer, stage)


def describe(layer: Layer, stage: Stage[Any, Any]) -> dict[str, Any]:
    """A layer as plain data."""
    return {
        "layer": layer.name,
        "stage": stage.name,
        "reads": list(stage.reads) or [stage.source],
        "format": layer.format,
        "path": _path(layer),
        "text": layer.text,
        "columns": [
            {"name": c.name, "type": c.dtype, "unit": c.unit, "text": c.text}
            for c in columns_of(layer)
        ],
    }


def columns_of(layer: Layer) -> tuple[Any, ...]:
    """All columns of a layer, leading keys included."""
    if layer.format != "jsonl":
        return layer.columns
    text = "the bar's first moment" if layer.span_us else "event time"
    return (*header_columns(text), *layer.columns)


def _path(layer: Layer) -> str:
    return f"derived/{layer.folder}/{{exchange}}/{{market}}/{{INSTID}}/{layer.file}"


def _print(layer: Layer, stage: Stage[Any, Any]) -> None:
    click.echo(f"{layer.name}: {layer.text}")
    click.echo(f"  {_path(layer)}")
    reads = ", ".join(stage.reads or (stage.source,))
    click.echo(f"  made by stage {stage.name} from {reads}")
    columns = columns_of(layer)
    name = max(len(c.name) for c in columns)
    kind = max(len(c.dtype) for c in columns)
    unit = max(len(c.unit) for c in columns)
    for c in columns:
        click.echo(f"  {c.name:<{name}}  {c.dtype:<{kind}}  {c.unit:<{unit}}  {c.text}")
