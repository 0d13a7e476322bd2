"""Parquet files as the same rows of texts that a table has, a batch at a time.

Decimals, integers and texts keep their digits. A double has no digits of its own: it becomes the
shortest text that reads back as the same double.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import DataError, UsageError
from pipeline.importers.container import AGAIN
from pipeline.importers.framing import Lines

_BATCH_ROWS = 65_536


class ParquetFile:
    """One Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  (only where such files exist)

        self._path = path
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: damaged Parquet file: {error}", AGAIN) from error

    @property
    def names(self) -> list[str]:
        """Names of its columns."""
        return list(self._file.schema_arrow.names)

    def blocks(self, roles: tuple[str, ...]) -> Iterator[Lines]:
        """Its rows as lines; columns without a role are empty.

        Raises:
            DataError: it is damaged.
            UsageError: a column is of a type that cannot be what its role says.
        """
        wanted = [name for name, role in zip(self.names, roles, strict=True) if role]
        at = 0
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=wanted):
                frame: Any = pl.from_arrow(batch)
                data = self._texts(frame, roles)
                yield Lines.of(data, at)
                at += len(data)
        except (OSError, ValueError) as error:
            raise DataError(f"{self._path}: damaged Parquet file: {error}", AGAIN) from error

    def _texts(self, frame: pl.DataFrame, roles: tuple[str, ...]) -> bytes:
        columns = [
            self._text(frame[name], role).alias(str(place))
            if role
            else pl.lit("").alias(str(place))
            for place, (name, role) in enumerate(zip(self.names, roles, strict=True))
        ]
        texts = frame.select(columns).fill_null("")
        return texts.write_csv(include_header=False, line_terminator="\n").encode()

    def _text(self, column: pl.Series, role: str) -> pl.Series:
        if isinstance(column.dtype, pl.Datetime):
            # a time in microseconds needs no unit to be told
            return column.dt.epoch("us").cast(pl.String)
        if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Date, pl.Time, pl.Duration):
            message = f"{self._path}: column {column.name} ({column.dtype}) cannot be {role}"
            raise UsageError(message, f"flowvault import --map {role}=COLUMN …")
        return column.cast(pl.String)
