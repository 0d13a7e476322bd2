"""Comparisons with limits that rounding cannot tip over.

A spread of exactly 2 bps comes out as 2.0000000000003 where prices are doubles. What lies on a
limit up to rounding counts as lying on it; nothing a market shows is that near without being equal.
"""

from __future__ import annotations

SHARE = 1e-9
"""Absolute, for shares, per cent and bps."""

MONEY = 1e-12
"""Relative, for amounts."""


def exceeds(value: float, limit: float) -> bool:
    """value > limit."""
    return value > limit + SHARE


def enough(limit: float) -> float:
    """The smallest amount that passes for `limit`."""
    return limit * (1 - MONEY)
