"""How a bar was traded: how straight its price went, how one-sided its flow was, how busy it was.

Whatever is made of something unknown is unknown. Comparisons are tolerant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pipeline.calc.tolerant import above, at_least, same, sign


def clip01(value: float) -> float:
    """Bounded to 0 to 1."""
    return min(1.0, max(0.0, value))


def product(*factors: float | None) -> float | None:
    """The product, if every factor is known."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def weighted(*terms: tuple[float, float | None]) -> float | None:
    """The sum of weight times value, rounded once, if every value is known."""
    known = [weight * value for weight, value in terms if value is not None]
    return math.fsum(known) if len(known) == len(terms) else None


def price_efficiency(opened: float, high: float, low: float, close: float) -> float:
    """How much of the range lies between open and close, less what was given back of it."""
    length = high - low
    if same(length, 0.0) or same(close, opened):
        return 0.0
    adverse = high - close if above(close, opened) else close - low
    return abs(close - opened) / length * (1 - adverse / length)


def order_flow_quality(flows: Sequence[float | None]) -> float | None:
    """Geometric mean of the sizes that are there, more of it the more they agree in sign."""
    known = [flow for flow in flows if flow is not None]
    if not known:
        return None
    signs = [sign(flow) for flow in known]
    if not all(signs):
        return 0.0
    mean = math.prod(abs(flow) for flow in known) ** (1 / len(known))
    return float(mean * (0.5 + 0.5 * abs(sum(signs)) / len(flows)))


def direction_agreement(flows: Sequence[float | None]) -> float:
    """The share of the larger camp among the signs; what is missing is in none."""
    signs = [sign(flow) for flow in flows if flow is not None]
    return max(signs.count(1), signs.count(-1)) / len(flows)


def expansion(value: float, prior: Sequence[float], least: int) -> float | None:
    """0 at the median of what went before, 1 from three times it on; None under `least` values."""
    middle = median(prior) if len(prior) >= max(1, least) else 0.0
    return clip01((value / middle - 1) / 2) if middle else None


def share_not_above(value: float, prior: Sequence[float]) -> float:
    """The share of what went before that is not larger."""
    return sum(at_least(value, each) for each in prior) / len(prior)
