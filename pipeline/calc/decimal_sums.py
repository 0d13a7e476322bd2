"""Sums and differences of decimals that are given as doubles.

A price of 61837.6 is held as the double nearest to it, and the difference of two such doubles has
lost half its digits. Where numbers have few enough decimals to be told from the double, they are
added up as integers: the result is then the double nearest to the exact value.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_MOST_DECIMALS = 12
_EXACT = 2.0**52


def added(a: Floats, b: Floats) -> Floats:
    """a + b."""
    return _combined(a, b, 1.0)


def subtracted(a: Floats, b: Floats) -> Floats:
    """a - b."""
    return _combined(a, b, -1.0)


def _combined(a: Floats, b: Floats, sign: float) -> Floats:
    found = a + sign * b
    left = np.arange(len(a))
    for decimals in range(_MOST_DECIMALS + 1):
        if not len(left):
            break
        power = 10.0**decimals
        first, second = a[left], b[left]
        whole, other = np.rint(first * power), np.rint(second * power)
        is_told = (whole / power == first) & (other / power == second)
        is_told &= np.maximum(np.abs(whole), np.abs(other)) < _EXACT
        found[left[is_told]] = (whole[is_told] + sign * other[is_told]) / power
        left = left[~is_told]
    return found
