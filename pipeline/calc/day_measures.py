"""What the five-minute bars of a day, or of many days, tell together."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline.calc.lee_ready import imbalance
from pipeline.calc.ols import Line, correlation, fit
from pipeline.calc.session_bars import Bar

_MIN_PAIRS = 10
_CLIPPED_FROM, _CLIP = 100, 0.01


def slope(flow: list[float], change: list[float], least: int) -> Line | None:
    """The line through the bars, clipped if there are many; None if there are too few.

    Args:
        flow: net dollars, millions.
        change: of the mid, bps.
        least: how many bars there must be.
    """
    if len(flow) < least:
        return None
    if len(flow) < _CLIPPED_FROM:
        return fit(flow, change)
    return fit(_clipped(flow), _clipped(change))


def _clipped(values: list[float]) -> list[float]:
    edges = np.quantile(values, (_CLIP, 1 - _CLIP))
    found: list[float] = np.clip(values, *edges).tolist()
    return found


def persistence(found: list[Bar]) -> float | None:
    """Correlation of the imbalances of bars that follow each other; None below ten pairs."""
    each = [imbalance(bar.bought, bar.sold) for bar in found]
    pairs = [(a, b) for a, b in pairwise(each) if a is not None and b is not None]
    if len(pairs) < _MIN_PAIRS:
        return None
    return correlation([a for a, _ in pairs], [b for _, b in pairs])


class Spreads(NamedTuple):
    """Quoted, effective and realized spread and price impact in bps, and impact / effective."""

    quoted: float | None
    effective: float | None
    realized: float | None
    impact: float | None
    adverse: float | None


def spreads(found: list[Bar]) -> Spreads:
    """A day's spreads; None where nothing tells."""
    stood = sum(bar.stood_us for bar in found)
    quoted = math.fsum(bar.spread for bar in found) / stood if stood else None
    weight = math.fsum(bar.weight for bar in found)
    if not weight:
        return Spreads(quoted, None, None, None, None)
    effective = math.fsum(bar.effective for bar in found) / weight
    kept = math.fsum(bar.realized for bar in found) / weight
    impact = effective - kept
    adverse = min(1.0, max(0.0, impact / effective)) if effective > 0 else None
    return Spreads(quoted, effective, kept, impact, adverse)
