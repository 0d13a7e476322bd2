"""`flowvault sql`: DuckDB over the layers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

FORMATS = ("table", "csv", "json", "parquet")
_SHOWN = 50


@click.command(
    epilog="""Example: flowvault sql "select * from volume_1m where volume_tier = 'T4' limit 5" """
)
@click.argument("query")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="[default: table; with --output what the file's name says]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file instead of the terminal.",
)
@click.pass_obj
def command(vault: Path, query: str, kind: str | None, output: Path | None) -> None:
    """Ask the layers in SQL.

    There is one view a layer (`flowvault layers` lists them), with the rows of every instrument
    at their committed length: `exchange`, `market` and `instId` tell them apart. QUERY is
    DuckDB's SQL; `-` reads it from standard input. The table shows at most 50 rows; the other
    formats have them all (json: one object a line).
    """
    from pipeline.engine import sql  # noqa: PLC0415

    text = sys.stdin.read() if query == "-" else query
    chosen = kind or _by_name(output)
    if chosen == "parquet" and output is None:
        raise click.UsageError("--format parquet needs --output FILE")
    rows = sql.query(vault, text)
    if chosen == "table":
        shown = sql.as_table(rows, _SHOWN)
        click.echo(shown if output is None else "", nl=False)
        if output is not None:
            output.write_text(shown, encoding="utf-8")
        return
    data = sql.encode(rows, chosen)
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)


def _by_name(output: Path | None) -> str:
    """The format that a file's name asks for."""
    suffix = output.suffix.removeprefix(".") if output is not None else ""
    return {"jsonl": "json", "ndjson": "json"}.get(suffix, suffix if suffix in FORMATS else "table")
