"""How far the price followed the flow of clusters on the day they were found.

For each second with a trade: what is left at its end of the signed flow of opportunistic trades
(the skew) and of the size of directional ones (the hazard), both fading, against the return of the
mid behind it. What a day says about itself is no forecast; `ic` shows how little there is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.calc.cluster_model import CLUSTERS, DIRECTIONAL, OPPORTUNISTIC, Calibration
from pipeline.calc.rolling import faded, fading

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

IC_HORIZONS = (1, 5, 30, 60)
LEAST_PAIRS = 60
DAY_S = 86_400


class Mids:
    """The mid just before whole seconds, where there is one."""

    def __init__(self, seconds: Ints, mids: Floats) -> None:
        """Keep the columns; seconds rise."""
        self._seconds, self._mids = seconds, mids

    def at(self, seconds: Ints) -> Floats:
        """The mids of seconds, NaN where there is none."""
        if not len(self._seconds):
            return np.full(len(seconds), np.nan)
        rows = np.searchsorted(self._seconds, seconds).clip(0, len(self._seconds) - 1)
        return np.where(self._seconds[rows] == seconds, self._mids[rows], np.nan)

    def returns_bps(self, ends: Ints, horizon_s: int) -> Floats:
        """1e4 x ln(mid(e + h) / mid(e)); NaN beyond the end of the day."""
        is_inside = ends + horizon_s <= ((ends - 1) // DAY_S + 1) * DAY_S
        found = 1e4 * np.log(self.at(ends + horizon_s) / self.at(ends))
        return np.where(is_inside, found, np.nan)


def flows(flow: Floats, roles: Ints) -> Floats:
    """What each trade adds to skew and hazard, as two columns.

    Args:
        flow: size, negative if the taker sold.
        roles: 0 for a trade without one.
    """
    skew = np.where(roles == OPPORTUNISTIC, flow, 0.0)
    hazard = np.where(roles == DIRECTIONAL, np.abs(flow), 0.0)
    return np.stack([skew, hazard], axis=1)


def by_second(clock: Ints, values: Floats, tau_ms: float) -> tuple[Ints, Floats]:
    """The ends of seconds with a trade, and what is left of the sums of values there.

    Args:
        clock: each trade's, milliseconds, never falling.
        values: what each trade adds; sums begin at 0.
        tau_ms: their time constant.
    """
    sums = fading(values, clock, tau_ms, int(clock[0]), np.zeros(values.shape[1]))
    seconds = clock // 1000
    last = np.flatnonzero(np.diff(seconds, append=seconds[-1] + 1))
    ends = seconds[last] + 1
    return ends, faded(sums[last], ends * 1000 - clock[last], tau_ms)


def calibrate(
    clock: Ints,
    flow: Floats,
    clusters: Ints,
    roles: Ints,
    mids: Mids,
    tau_s: float,
    horizon_s: int,
) -> Calibration:
    """Calibrate on one day's trades, at least one of them."""
    own = [np.where(clusters == name, flow, 0.0) for name in range(1, CLUSTERS + 1)]
    values = np.column_stack([flows(flow, roles), *own])
    ends, sums = by_second(clock, values, tau_s * 1000)
    r = mids.returns_bps(ends, horizon_s)
    is_pair = ~np.isnan(r)
    count = int(is_pair.sum())
    if count < LEAST_PAIRS:
        return Calibration(count, None, None, 0.0, 0.0, None, None, None)
    r, skew, hazard = r[is_pair], sums[is_pair, 0], sums[is_pair, 1]
    square = float(np.mean(skew * skew))
    alpha = float(1 / np.sqrt(square)) if square > 0 else None
    k_tol, sigma = float(np.median(hazard)), float(np.std(r))
    b_raw = None if alpha is None else _through_zero(np.tanh(alpha * skew), r)
    return Calibration(
        count,
        alpha,
        k_tol,
        min(max(b_raw or 0.0, 0.0), sigma),
        _gamma(np.maximum(0.0, hazard - k_tol), np.abs(r)),
        sigma,
        b_raw,
        information(ends, sums[:, 2:], mids),
    )


def information(ends: Ints, sums: Floats, mids: Mids) -> list[list[float | None]]:
    """Correlation of each column with the returns over 1, 5, 30 and 60 s; null without variance."""
    returns = [mids.returns_bps(ends, horizon) for horizon in IC_HORIZONS]
    found = []
    for column in sums.T:
        pairs = ((column[~np.isnan(r)], r[~np.isnan(r)]) for r in returns)
        found.append([correlation(*pair) for pair in pairs])
    return found


def correlation(x: Floats, y: Floats) -> float | None:
    """Pearson's; None where one of them does not vary."""
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():  # noqa: PLR2004
        return None
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((dx * dx).sum()) * np.sqrt((dy * dy).sum()))
    return float((dx * dy).sum()) / scale if scale > 0 else None


def _through_zero(u: Floats, r: Floats) -> float | None:
    square = float((u * u).sum())
    return float((u * r).sum()) / square if square > 0 else None


def _gamma(x: Floats, y: Floats) -> float:
    """max(0, g / a) of y = a + g x by least squares; 0 where x does not vary or a <= 0."""
    if x.min() == x.max():
        return 0.0
    dx = x - x.mean()
    slope = float((dx * (y - y.mean())).sum() / (dx * dx).sum())
    level = float(y.mean()) - slope * float(x.mean())
    return max(0.0, slope / level) if level > 0 else 0.0
