"""A straight line through points, with a standard error that bears correlated residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST = 30
"""With fewer points a line says nothing worth a row."""


@dataclass(frozen=True, slots=True)
class Line:
    """y = a + slope x by least squares.

    Attributes:
        slope: what y changes by with x.
        error: its standard error after Newey and West (1987).
        r2: the share of the variance of y that the line explains.
        count: points.
    """

    slope: float
    error: float
    r2: float
    count: int


def newey_west_lags(count: int) -> int:
    """The usual number of lags, 4 (n / 100)^(2/9)."""
    return int(4 * (count / 100) ** (2 / 9))


def fit(x: Floats, y: Floats) -> Line | None:
    """The line through the points; None if there are too few or they do not vary."""
    count = len(x)
    if count < LEAST or not np.ptp(x) or not np.ptp(y):
        return None
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    rest = y - y.mean() - slope * centred
    pull = centred * rest
    lags = newey_west_lags(count)
    variance = float(pull @ pull)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(pull[lag:] @ pull[:-lag])
    around = y - y.mean()
    r2 = 1 - float(rest @ rest) / float(around @ around)
    return Line(slope, float(np.sqrt(variance)) / spread, r2, count)
