"""List columns as one array per row."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl


def arrays(column: pl.Series) -> list[np.ndarray[Any, Any]]:
    """The lists of a column as arrays; an empty one for null."""
    counts = column.list.len().fill_null(0)
    flat = column.filter(counts > 0).explode().to_numpy()
    return np.split(flat, np.cumsum(counts.cast(pl.Int64).to_numpy())[:-1]) if len(counts) else []
