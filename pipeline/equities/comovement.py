"""Correlations of many managers' series with many venues' series, wherever both are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LOOPS = Loops(globals())


class Observations(NamedTuple):
    """What managers did, manager by manager.

    Attributes:
        bounds: manager i has the rows from `bounds[i]` to before `bounds[i + 1]`.
        cell: of each row, the symbol and quarter it belongs to, as a row of the venues' tables.
        y: its value.
    """

    bounds: Ints
    cell: Ints
    y: Floats


class Together(NamedTuple):
    """One row per manager, one column per venue.

    Attributes:
        number: cells that both have.
        rho: Pearson's correlation over these; NaN where either does not vary.
        first, last: the least and the largest value of `when` among them; -1 without any.
        shares, trades: the venue's totals over them.
    """

    number: Ints
    rho: Floats
    first: Ints
    last: Ints
    shares: Ints
    trades: Ints


def correlations(seen: Observations, x: Floats, when: Ints, shares: Ints, trades: Ints) -> Together:
    """Correlate each manager's `y` with each venue's `x`.

    Two passes, each adding up in the order of rows: the result depends on nothing else.

    Args:
        seen: what the managers did.
        x: shape (cells, venues), NaN where a venue has no value.
        when: shape (cells), any number that orders them.
        shares: shape (cells, venues), what the venue traded.
        trades: the same, in how many trades.
    """
    _LOOPS.compile()
    shape = (len(seen.bounds) - 1, x.shape[1])
    found = Together(
        np.zeros(shape, np.int64),
        np.full(shape, np.nan),
        np.full(shape, -1, np.int64),
        np.full(shape, -1, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
    )
    _correlate(
        seen.bounds,
        seen.cell,
        seen.y,
        x,
        when,
        shares,
        trades,
        found.number,
        found.rho,
        found.first,
        found.last,
        found.shares,
        found.trades,
    )
    return found


@_LOOPS.add
def _correlate(
    bounds: Ints,
    cell: Ints,
    y: Floats,
    x: Floats,
    when: Ints,
    venue_shares: Ints,
    venue_trades: Ints,
    count: Ints,
    rho: Floats,
    first: Ints,
    last: Ints,
    shares: Ints,
    trades: Ints,
) -> None:
    venues = x.shape[1]
    for i in range(len(bounds) - 1):
        mean = np.zeros((2, venues))
        low, high = np.full((2, venues), np.inf), np.full((2, venues), -np.inf)
        for row in range(bounds[i], bounds[i + 1]):
            k = cell[row]
            for m in range(venues):
                value = x[k, m]
                if np.isnan(value):
                    continue
                count[i, m] += 1
                mean[0, m] += value
                mean[1, m] += y[row]
                low[0, m] = min(low[0, m], value)
                high[0, m] = max(high[0, m], value)
                low[1, m] = min(low[1, m], y[row])
                high[1, m] = max(high[1, m], y[row])
                first[i, m] = when[k] if first[i, m] < 0 else min(first[i, m], when[k])
                last[i, m] = max(last[i, m], when[k])
                shares[i, m] += venue_shares[k, m]
                trades[i, m] += venue_trades[k, m]
        mean /= np.maximum(count[i], 1)
        square = np.zeros((3, venues))
        for row in range(bounds[i], bounds[i + 1]):
            k = cell[row]
            for m in range(venues):
                if np.isnan(x[k, m]):
                    continue
                dx, dy = x[k, m] - mean[0, m], y[row] - mean[1, m]
                square[0, m] += dx * dx
                square[1, m] += dy * dy
                square[2, m] += dx * dy
        for m in range(venues):
            # the mean of equal values may be off by one place, and then nothing would be zero
            if low[0, m] < high[0, m] and low[1, m] < high[1, m]:
                value = square[2, m] / np.sqrt(square[0, m] * square[1, m])
                rho[i, m] = min(1.0, max(-1.0, value))
