"""Which codec reads and writes which Parquet layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from pipeline.calc.pieces import behind, in_one_piece
from pipeline.calc.tickfile import READ_COLUMNS, TickCodec
from pipeline.engine.parts import Codec

_SIMPLE: dict[str, Any] = {
    "float": pl.Float64,
    "float64": pl.Float64,
    "int": pl.Int64,
    "int64": pl.Int64,
    "int32": pl.Int32,
    "int8": pl.Int8,
    "bool": pl.Boolean,
    "string": pl.String,
    "list": pl.String,  # of objects, in a JSONL layer: handed on as JSON
    "date": pl.Date,
    "timestamp[us, UTC]": pl.Datetime("us", "UTC"),
}


def polars_type(dtype: str) -> Any:
    """The polars type of a column's declared type, `float64` or `list[float64]`."""
    if dtype.startswith("list["):
        return pl.List(polars_type(dtype[5:-1]))
    return _SIMPLE[dtype]


class FrameCodec:
    """Layers whose public columns are all there is."""

    def height(self, rows: pl.DataFrame) -> int:
        """Number of rows."""
        return rows.height

    def slice(self, rows: pl.DataFrame, start: int, length: int) -> pl.DataFrame:
        """A contiguous part."""
        return rows.slice(start, length)

    def join(self, first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
        """`second` behind `first`."""
        return behind([first, second])

    def pieces(self, rows: pl.DataFrame) -> int:
        """In how many pieces they lie in memory."""
        return rows.n_chunks()

    def compact(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The same rows in one piece of memory."""
        return in_one_piece(rows)

    def last_us(self, rows: pl.DataFrame) -> int | None:
        """Time of the last row, microseconds; None if it carries none."""
        # `to_physical` would be planned as an expression first
        last: int | None = rows["ts"].tail(1).cast(pl.Int64)[0]
        return last

    def newest_us(self, rows: pl.DataFrame) -> int:
        """Largest time of any row, microseconds."""
        return int(rows["ts"].cast(pl.Int64).to_numpy().max())

    def runs(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """All of them."""
        yield rows

    def to_public(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
        """The rows themselves."""
        return rows, {}

    def extend(
        self, before: tuple[pl.DataFrame, dict[str, str]], rows: pl.DataFrame
    ) -> tuple[pl.DataFrame, dict[str, str]]:
        """The rows behind those of `before`."""
        return before[0].vstack(rows), {}

    def from_public(self, frame: pl.DataFrame, metadata: dict[str, str]) -> pl.DataFrame:
        """The rows themselves."""
        del metadata
        return frame


def codec_of(layer: str) -> tuple[Codec[Any], list[str] | None]:
    """The codec of a layer, and the columns that its readers need (None: all)."""
    return (TickCodec(), READ_COLUMNS) if layer == "trades" else (FrameCodec(), None)
