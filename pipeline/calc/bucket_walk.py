"""VPIN of a day: volume buckets of one size, filled backwards from the day's last trade.

D. Easley, M. Lopez de Prado and M. O'Hara, "Flow Toxicity and Liquidity in a High-Frequency World",
Review of Financial Studies 25 (2012). Walking backwards, a value depends on the trades before it
alone and not on where a tape began.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[Any]
"""Integers that can be summed without overflow: int64, or Python's."""


class Walk(NamedTuple):
    """What a walk found.

    Attributes:
        vpin: mean |bought - sold| of a bucket over its volume; None where too few are full.
        buckets: full buckets, as many as were asked for at most.
        first: the oldest trade that was used, whole or in part.
    """

    vpin: float | None
    buckets: int
    first: int


def walk(size: Whole, side: npt.NDArray[np.int64], volume: Fraction, count: int) -> Walk:
    """Fill buckets from the last trade backwards; a trade over an edge is split there.

    Args:
        size: sizes in whole parts of a share, in the trades' order.
        side: 1 bought, -1 sold, 0 neither (it fills the bucket and counts for no side).
        volume: of a bucket, in the same parts, above 0.
        count: how many buckets.
    """
    sizes, signs = size[::-1], side[::-1]
    passed, flow = np.cumsum(sizes), np.cumsum(sizes * signs)
    total = int(passed[-1]) if len(passed) else 0
    full = min(count, int(total / volume))
    if not full:
        return Walk(None, 0, 0)
    edges = [each * volume for each in range(full + 1)]
    at = np.searchsorted(passed, np.array([math.floor(e) for e in edges], passed.dtype), "right")
    flows: list[Fraction] = []
    for edge, place in zip(edges, at.tolist(), strict=True):
        before, done = (int(flow[place - 1]), int(passed[place - 1])) if place else (0, 0)
        split = int(signs[place]) * (edge - done) if place < len(signs) else 0
        flows.append(Fraction(before + split))
    used = int(np.searchsorted(passed, math.ceil(edges[-1]))) + 1
    first = len(size) - used
    if full < count:
        return Walk(None, full, first)
    gaps = [abs(after - before) for before, after in pairwise(flows)]
    return Walk(float(sum(gaps, Fraction(0)) / (count * volume)), full, first)


def effective_trades(shares: npt.NDArray[np.float64], volume: float) -> float:
    """How many trades of equal size a bucket is worth: V x sum(s) / sum(s^2)."""
    return volume * math.fsum(shares.tolist()) / math.fsum((shares * shares).tolist())
