"""Comparisons of floats that rounding cannot tip over.

Two numbers closer than 1e-12 of the larger of them (and of 1) count as equal.
"""

from __future__ import annotations

SLACK = 1e-12


def slack(a: float, b: float) -> float:
    """How far apart two numbers may lie and still be equal."""
    return SLACK * max(1.0, abs(a), abs(b))


def above(a: float, b: float) -> bool:
    """a > b."""
    return a - b > slack(a, b)


def at_least(a: float, b: float) -> bool:
    """a >= b."""
    return not above(b, a)


def same(a: float, b: float) -> bool:
    """a = b."""
    return not above(a, b) and not above(b, a)


def sign(a: float) -> int:
    """Sign of a: 1, 0 or -1."""
    return above(a, 0.0) - above(0.0, a)
