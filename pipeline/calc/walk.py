"""Walking a book: what an order of a given amount of money would fill, and at what price."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.calc.limits import enough
from pipeline.calc.standing import Floats


class Fill(NamedTuple):
    """Share of the amount that was filled (1.0: all), and the average price if all was."""

    share: float
    price: float | None


def walk(price: Floats, size: Floats, amounts: tuple[float, ...]) -> list[Fill]:
    """Spend each amount of quote currency on the levels of one side, best first.

    The average price is quote currency over base units, the last level taken in part.
    """
    if not len(price):
        return [Fill(0.0, None) for _ in amounts]
    money = np.cumsum(price * size)
    base = np.cumsum(size)
    return [_fill(price, money, base, amount) for amount in amounts]


def _fill(price: Floats, money: Floats, base: Floats, amount: float) -> Fill:
    if money[-1] < enough(amount):
        return Fill(float(money[-1] / amount), None)
    last = min(int(np.searchsorted(money, amount)), len(price) - 1)
    spent, bought = (float(money[last - 1]), float(base[last - 1])) if last else (0.0, 0.0)
    return Fill(1.0, amount / (bought + (amount - spent) / float(price[last])))
