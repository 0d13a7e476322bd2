"""What the minutes inside longer bars say, minutes without a value left out."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl

Starts = npt.NDArray[np.int64]


def means(
    minutes: pl.DataFrame | None, column: str, starts: Starts, span_us: int
) -> list[float | None]:
    """For each bar the mean over its minutes; None where there is none."""
    inside = _inside(minutes, column, starts, span_us)
    return [math.fsum(values) / len(values) if values else None for values in inside]


def lasts(
    minutes: pl.DataFrame | None, column: str, starts: Starts, span_us: int
) -> list[float | None]:
    """For each bar the value of the latest of its minutes that has one; None without any."""
    inside = _inside(minutes, column, starts, span_us)
    return [values[-1] if values else None for values in inside]


def _inside(
    minutes: pl.DataFrame | None, column: str, starts: Starts, span_us: int
) -> list[list[float]]:
    """For each bar the values of the minutes that begin in it."""
    if minutes is None:
        return [[] for _ in starts]
    known = minutes.drop_nulls(column) if minutes[column].null_count() else minutes
    ts, values = known["ts"].to_numpy(), known[column].to_list()
    first = np.searchsorted(ts, starts).tolist()
    stop = np.searchsorted(ts, starts + span_us).tolist()
    return [values[a:b] for a, b in zip(first, stop, strict=True)]
