"""Numbers of shares as integers, so that sums over runs are exact: millionths of a share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.integers import summable

PARTS = 1_000_000
"""Parts of a share; finer fractions are rounded."""


def parts_of(shares: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Shares in parts, as integers that can be summed without overflow."""
    return summable(pl.Series(np.rint(shares * PARTS).astype(np.int64)))


def shares_of(parts: int) -> float:
    """Parts in shares, the nearest double."""
    return int(parts) / PARTS
