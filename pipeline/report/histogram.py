"""The bars of a volume profile: the footprint's volumes in the profile's own bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from pipeline.calc.histogram import bin_starts
from pipeline.report.columns import whole

_AGREES = 1e-9
_SIDES = ("buy_volume", "sell_volume")


def histogram(rows: pl.DataFrame, profile: dict[str, Any], bins: int) -> dict[str, Any] | None:
    """Volume of buyers and of sellers in each bin of a profile.

    Args:
        rows: `price buy_volume sell_volume` of the footprint over the profile's window.
        profile: a row of `profile_session` or `profile_24h`.
        bins: how many bins the profile has.

    Returns:
        `buy` and `sell`, lowest bin first; one bin where the profile has but one price. None if
        they do not add up to the profile's total: the footprint's price rows are others than the
        profile's, or it is not as far yet.
    """
    if not rows.height:
        return None
    prices = rows["price"].to_numpy()
    low, high, total = profile["low"], profile["high"], profile["total_volume"]
    if prices.min() != low or prices.max() != high:
        return None
    scaled = whole(np.append(prices, [low, high]))
    if scaled is None:
        return None
    numbers, bottom, top = scaled[1][:-2], int(scaled[1][-2]), int(scaled[1][-1])
    if top == bottom:
        place, count = np.zeros(len(numbers), np.int64), 1
    else:
        starts = np.array(bin_starts(top - bottom, bins))
        place, count = np.searchsorted(starts, numbers - bottom, "right") - 1, bins
    buy, sell = (_sums(rows[name].to_numpy(), place, count) for name in _SIDES)
    if not math.isclose(math.fsum([*buy, *sell]), total, rel_tol=_AGREES):
        return None
    return {"buy": buy, "sell": sell}


def _sums(volumes: np.ndarray, place: np.ndarray, count: int) -> list[float]:
    """Volume of each bin, added up in whole units where there are any."""
    units = whole(volumes)
    if units is None:
        return [math.fsum(volumes[place == i]) for i in range(count)]
    sums = np.zeros(count, np.int64)
    np.add.at(sums, place, units[1])
    return [each / 10 ** units[0] for each in sums.tolist()]
