"""What a layer is: its file, its columns, their units and formulas.

The data dictionary that `flowvault layers` prints is made of these, and so is the order of keys
in every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEADER = ("timestamp_utc", "instId", "exchange", "market")
"""The first four keys of every JSONL row."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it holds, in which unit, and when it is null."""

    name: str
    dtype: str
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One derived file (JSONL), folder of files (Parquet) or file a day (JSON) per instrument.

    Attributes:
        name: the file's stem; also the name of the layer's view.
        folder: the folder below derived/.
        span_us: length of a row's time cell, 0 for rows that are events.
        stamp: precision of `timestamp_utc`.
        part_rows: rows of one Parquet file.
        piece_rows: rows of one of the files in which the rows stand that do not fill such a file.
    """

    name: str
    folder: str
    format: Literal["jsonl", "parquet", "json"]
    columns: tuple[Column, ...]
    text: str
    span_us: int = 0
    stamp: Literal["s", "ms"] = "s"
    part_rows: int = 65_536
    piece_rows: int = 8_192

    @property
    def file(self) -> str:
        """File name of a JSONL layer, pattern of the others."""
        names = {
            "jsonl": f"{self.name}.jsonl",
            "parquet": "*.parquet",
            "json": f"{self.name}_*.json",
        }
        return names[self.format]

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of a row, in order."""
        own = tuple(column.name for column in self.columns)
        return (*HEADER, *own) if self.format == "jsonl" else own


def header_columns(stamp_text: str) -> tuple[Column, ...]:
    """The dictionary entries of the four leading keys."""
    return (
        Column("timestamp_utc", "string", "UTC", stamp_text),
        Column("instId", "string", "", "instrument, as the exchange names it"),
        Column("exchange", "string", "", "exchange folder under raw/"),
        Column("market", "string", "", '"perp" or "spot"'),
    )
