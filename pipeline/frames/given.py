"""Frames that a user has, as raw lines in the plain format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import UsageError
from pipeline.frames.times import FIRST_US

_SLICE = 100_000
_MILLISECOND_US = 1000
_SIDES = {"buy": "buy", "sell": "sell", "1": "buy", "-1": "sell"}
_BOOK_SIDES = {"bid": True, "buy": True, "b": True, "ask": False, "sell": False, "a": False}
_NO_ZONE = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?$"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of one kind of frame: those it must have, those it may have."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


KINDS = {
    "trades": Columns(("ts", "price", "size", "side"), ("id", "trade_id")),
    "books": Columns(("ts", "bids", "asks")),
    "quotes": Columns(("ts", "bid", "bid_size", "ask", "ask_size")),
    "open_interest": Columns(("ts", "open_interest")),
    "positions": Columns(("ts", "position")),
}
_LEVELS = Columns(("ts", "side", "price", "size"), ("is_snapshot",))
"""A book as a row a level: rows of one time that follow each other are one whole book."""


@dataclass(frozen=True, slots=True)
class Written:
    """A raw file made of a frame: where each of its rows begins, in bytes."""

    starts: npt.NDArray[np.int64]

    def row_at(self, offset: int) -> int:
        """The row whose line begins there."""
        return int(np.searchsorted(self.starts, offset))


def as_polars(kind: str, given: Any) -> pl.DataFrame:
    """A frame of polars, pandas or pyarrow, or a mapping of columns, as a polars frame.

    Raises:
        UsageError: it is none of them.
    """
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if isinstance(given, pl.DataFrame):
        return given
    is_frame = hasattr(given, "__arrow_c_stream__") or isinstance(given, dict)
    if not is_frame:
        what = f"{type(given).__module__}.{type(given).__name__}"
        raise UsageError(f"{kind}: {what} is not a frame of polars, pandas or pyarrow")
    try:
        return pl.DataFrame(given)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise UsageError(f"{kind}: {error}") from error


def raw_records(kind: str, given: pl.DataFrame) -> pl.DataFrame:
    """The records of a plain raw file, one a row; numbers as texts with all their digits.

    Raises:
        UsageError: a column is missing or of a type that cannot be read.
    """
    if kind == "books" and "bids" not in given.columns and "side" in given.columns:
        given = _whole_books(given)
    chosen = _chosen(kind, KINDS[kind], given)
    found = {"ts": _times(kind, chosen["ts"])}
    for name in KINDS[kind].needed[1:]:
        column = chosen[name]
        if name == "side":
            found[name] = _texts(kind, column).str.to_lowercase().replace(_SIDES)
        elif name in ("bids", "asks"):
            found[name] = _levels(name, column)
        else:
            found[name] = _texts(kind, column)
    if kind == "trades":
        ids = [chosen[name] for name in KINDS[kind].optional if name in chosen.columns]
        found["id"] = (
            _texts(kind, ids[0]) if ids else pl.Series(range(given.height), dtype=pl.Int64)
        )
    return pl.DataFrame(found)


def write_lines(path: Path, records: pl.DataFrame) -> Written:
    """Write a raw file, a line a row."""
    path.parent.mkdir(parents=True)
    starts, at = [], 0
    with path.open("wb") as stream:
        for part in records.iter_slices(_SLICE):
            data = part.write_ndjson().encode()
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
            starts.append(at + np.concatenate(([0], ends[:-1])))
            at += len(data)
            stream.write(data)
    return Written(np.concatenate(starts).astype(np.int64))


def _chosen(kind: str, columns: Columns, given: pl.DataFrame) -> pl.DataFrame:
    lacking = [name for name in columns.needed if name not in given.columns]
    if lacking:
        needed, there = ", ".join(columns.needed), ", ".join(given.columns) or "none"
        message = f"{kind}: no column {lacking[0]!r}; needed are {needed}, there are {there}"
        raise UsageError(message)
    wanted = (*columns.needed, *columns.optional)
    return given.select([name for name in wanted if name in given.columns])


def _times(kind: str, times: pl.Series) -> pl.Series:
    """Event times as raw files write them: whole milliseconds, or ISO texts."""
    if times.dtype == pl.String:
        zone = pl.when(pl.col("ts").str.contains(_NO_ZONE)).then(pl.lit("Z")).otherwise(pl.lit(""))
        return times.to_frame("ts").select(pl.col("ts") + zone).to_series()
    if times.dtype.is_integer():
        us = times.cast(pl.Int64)
        first = us.drop_nulls().head(1)
        if len(first) and first[0] < FIRST_US:
            message = f"{kind}: ts {first[0]} is not in microseconds since 1970"
            raise UsageError(message, "give datetimes, ISO texts or microseconds")
    elif isinstance(times.dtype, pl.Datetime):
        us = times.dt.timestamp("us")
    else:
        message = f"{kind}: ts is {times.dtype}"
        raise UsageError(message, "give datetimes, ISO texts or microseconds")
    if (us % _MILLISECOND_US == 0).all():
        return us // _MILLISECOND_US
    return us.cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")


def _texts(kind: str, column: pl.Series) -> pl.Series:
    """A column as texts; floats as the shortest that means them."""
    is_text = column.dtype in (pl.String, pl.Categorical, pl.Enum)
    if not (is_text or column.dtype.is_numeric() or column.dtype == pl.Null):
        raise UsageError(f"{kind}: {column.name} is {column.dtype}, not numbers or texts")
    return column.cast(pl.String)


def _levels(name: str, column: pl.Series) -> pl.Series:
    """Lists of [price, size], from lists, arrays or structs of the two."""
    kind: Any = column.dtype
    inner: Any = getattr(kind, "inner", None)
    if isinstance(inner, pl.Struct):
        first, second, *_ = names = [each.name for each in inner.fields]
        price, size = ("price", "size") if {"price", "size"} <= set(names) else (first, second)
        fields = [pl.element().struct.field(each).cast(pl.String) for each in (price, size)]
        return column.list.eval(pl.concat_list(fields))
    try:
        return column.cast(pl.List(pl.List(pl.String)))
    except pl.exceptions.PolarsError as error:
        message = f"books: {name} is {kind}, not lists of [price, size]"
        raise UsageError(message) from error


def _whole_books(given: pl.DataFrame) -> pl.DataFrame:
    """Books with a row a level as books with a row a book."""
    chosen = _chosen("books", _LEVELS, given)
    if "is_snapshot" in chosen.columns and not chosen["is_snapshot"].all():
        message = "books: there are updates among the rows; every event must be a whole book"
        raise UsageError(message, "apply the updates first, or let flowvault read the raw feed")
    sides = _texts("books", chosen["side"]).str.to_lowercase()
    is_bid = sides.replace_strict(_BOOK_SIDES, default=None, return_dtype=pl.Boolean)
    if is_bid.null_count():
        wrong = chosen["side"].filter(is_bid.is_null())[0]
        raise UsageError(f'books: side {wrong!r} is not "bid" or "ask"')
    level = pl.concat_list(pl.col("price").cast(pl.String), pl.col("size").cast(pl.String))
    books = chosen.select(
        pl.col("ts"), is_bid.alias("is_bid"), level.alias("level"), book=pl.col("ts").rle_id()
    )
    return books.group_by("book", maintain_order=True).agg(
        pl.col("ts").first(),
        bids=pl.col("level").filter(pl.col("is_bid")),
        asks=pl.col("level").filter(~pl.col("is_bid")),
    )
