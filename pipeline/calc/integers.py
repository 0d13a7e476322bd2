"""Columns of integers as numpy arrays that can be summed without overflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.calc.scale import INT64_SAFE


def summable(values: pl.Series) -> NDArray[Any]:
    """A column whose sums, cumulative or not and with any signs, are exact.

    Returns:
        int64 where no sum can overflow, else an array of Python integers (slower, same methods).
    """
    top = values.max()
    if isinstance(top, int) and top * len(values) >= INT64_SAFE:
        return np.array(values.to_list(), dtype=object)
    return values.cast(pl.Int64).to_numpy()
