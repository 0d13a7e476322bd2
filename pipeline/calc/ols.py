"""Least squares of one variable on another, with an intercept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """The fitted slope.

    Attributes:
        r2: squared correlation, which is 1 - SSE/SST; None where y does not vary.
        se: classical standard error of the slope, from n - 2 degrees of freedom; None without
            any.
    """

    slope: float
    r2: float | None
    se: float | None


def fit(x: Sequence[float], y: Sequence[float]) -> Line | None:
    """Fit y = a + slope * x; None where x does not vary or there are no points.

    Two passes over centred values, each sum rounded once: the result depends on the points alone.
    """
    # of equal values the computed mean may be off by one place, and then nothing would be zero
    if not x or min(x) == max(x):
        return None
    dx, dy = _centred(x), _centred(y)
    sxx = math.fsum(d * d for d in dx)
    sxy = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    slope = sxy / sxx
    sse = math.fsum((b - slope * a) ** 2 for a, b in zip(dx, dy, strict=True))
    freedom = len(x) - 2
    se = math.sqrt(sse / freedom / sxx) if freedom > 0 else None
    if min(y) == max(y):
        return Line(slope, None, se)
    # not as 1 - SSE/SST, which is all rounding where next to nothing is explained
    return Line(slope, min(1.0, sxy * sxy / (sxx * math.fsum(d * d for d in dy))), se)


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's correlation; None where one of them does not vary or there are no points."""
    if not x or min(x) == max(x) or min(y) == max(y):
        return None
    dx, dy = _centred(x), _centred(y)
    both = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    sxx, syy = math.fsum(a * a for a in dx), math.fsum(b * b for b in dy)
    return max(-1.0, min(1.0, both / math.sqrt(sxx * syy)))


def _centred(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [value - mean for value in values]
