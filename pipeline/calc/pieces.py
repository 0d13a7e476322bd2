"""Frames behind each other, put together in the calling thread.

polars asks its own threads for `concat` and `rechunk`. They may be busy: with a file that is being
encoded, which then would have to be waited for by a few rows.
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
