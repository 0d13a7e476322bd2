"""Rows of a Parquet layer as a frame, for layers with few rows."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipeline.layers import Layer

_TYPES: dict[str, Any] = {
    "timestamp[us, UTC]": pl.Int64,
    "date": pl.Date,
    "string": pl.String,
    "float64": pl.Float64,
    "int64": pl.Int64,
}


def frame_of(layer: Layer, rows: list[tuple[Any, ...]]) -> pl.DataFrame | None:
    """The rows with the layer's columns and types; None if there are none.

    Args:
        layer: what the rows are of.
        rows: values in the order of the layer's columns; `ts` in microseconds.
    """
    if not rows:
        return None
    schema = {column.name: _TYPES[column.dtype] for column in layer.columns}
    stamp = pl.col("ts").cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows, schema, orient="row").with_columns(stamp)
