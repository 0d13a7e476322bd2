"""Frames behind each other and with other columns, put together in the calling thread.

polars asks its own threads for `concat` and `rechunk`. They may be busy: with a file that is being
encoded, which then would have to be waited for by a few rows. Its expressions (`with_columns`) are
planned before they are computed, and for a few rows that takes longer than all else.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def behind(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames of the same columns, one at least, behind each other; no row is copied."""
    first, *others = frames
    for frame in others:
        first = first.vstack(frame)
    return first


def in_one_piece(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows in one piece of memory."""
    if max(frame.n_chunks("all"), default=0) <= 1:
        return frame
    return pl.DataFrame([column.rechunk() for column in frame.iter_columns()])


def with_series(frame: pl.DataFrame, columns: Sequence[pl.Series]) -> pl.DataFrame:
    """The frame with other columns in the places of those that have their names."""
    others = {column.name: column for column in columns}
    return pl.DataFrame([others.get(each.name, each) for each in frame.iter_columns()])
