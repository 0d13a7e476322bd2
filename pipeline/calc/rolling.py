"""Sums over trades that must come out the same wherever the trades are cut.

Scores against the rows just before, each window summed for itself, and sums that fade with time,
each step following from the one before. Both are compiled loops: the order of every addition is
fixed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TOGETHER = 512

_loops = Loops(globals())


@_loops.add
def _scores(rows: Floats, window: int, floor: float, found: Floats) -> None:
    """Scores of one column; many windows are summed side by side, each in its order."""
    mean, square = np.empty(_TOGETHER), np.empty(_TOGETHER)
    for low in range(0, len(found), _TOGETHER):
        # an index that cannot be negative lets the compiler work on several numbers at a time
        some = np.uint64(min(_TOGETHER, len(found) - low))
        mean[:] = 0.0
        square[:] = 0.0
        for first in range(low, low + window):
            part = rows[first:]
            for at in range(some):
                mean[at] += part[at]
        for at in range(some):
            mean[at] /= window
        for first in range(low, low + window):
            part = rows[first:]
            for at in range(some):
                apart = part[at] - mean[at]
                square[at] += apart * apart
        own, scored = rows[low + window :], found[low:]
        for at in range(some):
            deviation = max(math.sqrt(square[at] / (window - 1)), floor)
            scored[at] = (own[at] - mean[at]) / deviation


@_loops.add
def _fading(values: Floats, clock: Ints, tau: float, before: int, sums: Floats) -> Floats:
    found = np.empty_like(values)
    state = sums.copy()
    for row in range(len(values)):
        gap = clock[row] - before
        before = clock[row]
        factor = math.exp(-gap / tau) if gap > 0 else 1.0
        for column in range(values.shape[1]):
            state[column] = state[column] * factor + values[row, column]
            found[row, column] = state[column]
    return found


@_loops.add
def _faded(sums: Floats, gaps: Ints, tau: float) -> Floats:
    found = np.empty_like(sums)
    for row in range(len(sums)):
        factor = math.exp(-gaps[row] / tau)
        for column in range(sums.shape[1]):
            found[row, column] = sums[row, column] * factor
    return found


def scores(rows: Floats, window: int, floor: float) -> Floats:
    """z = (x - m) / max(s, floor) of every row behind the first `window`.

    m and s (ddof 1) are those of the `window` rows just before it, summed in their order.

    Args:
        rows: columns of one kind of value each; none is NaN.
        window: how many rows.
        floor: least deviation.
    """
    _loops.compile()
    found = np.empty((rows.shape[1], len(rows) - window))
    for column, own in zip(rows.T, found, strict=True):
        _scores(np.ascontiguousarray(column), window, floor, own)
    return np.ascontiguousarray(found.T)


def fading(values: Floats, clock: Ints, tau_ms: float, before_ms: int, sums: Floats) -> Floats:
    """S <- S * exp(-gap / tau) + value, by row and column.

    Args:
        values: what each row adds.
        clock: each row's time, milliseconds, never falling.
        tau_ms: the time constant.
        before_ms: the time at which `sums` hold.
        sums: what S is in front of the first row.
    """
    _loops.compile()
    return _fading(np.ascontiguousarray(values), clock, tau_ms, before_ms, sums)


def faded(sums: Floats, gaps_ms: Ints, tau_ms: float) -> Floats:
    """What is left of each row of sums after its gap."""
    _loops.compile()
    return _faded(np.ascontiguousarray(sums), gaps_ms, tau_ms)
