"""Prices where much was traded, and how hard they are to get past.

A cluster is a peak of a volume profile that towers over its mean. It counts the more the larger it
is, the more orders rest near it, the more open interest has grown since, and the nearer it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.calc.price_volume import Profile
from pipeline.calc.tolerant import SLACK, above, same

_BPS = 1e4
_OI_BOUNDS = (0.5, 1.5)
_OB_MOST = 2.0


class Band(msgspec.Struct):
    """Notional of both sides up to so many bps from mid; None where wholly beyond reach."""

    bps: float
    bid_notional: float | None
    ask_notional: float | None


class Book(NamedTuple):
    """What is known of an order book: its mid, and bands from the nearest to the farthest."""

    mid: float
    bands: Sequence[Band]

    def ob_ratio(self, price: float) -> float | None:
        """How dense orders are around a price, against the mean of its side.

        The empty or unknown bands at the end lie beyond what the feed shows; None there.
        """
        is_bid = above(self.mid, price)
        notional = [(b.bid_notional if is_bid else b.ask_notional) or 0.0 for b in self.bands]
        while notional and not above(notional[-1], 0.0):
            notional.pop()
        inner = 0.0
        reach = self.bands[len(notional) - 1].bps if notional else 0.0
        away = _BPS * abs(price - self.mid) / self.mid
        for band, amount in zip(self.bands, notional, strict=False):
            if not above(away, band.bps):
                return amount / (band.bps - inner) / (math.fsum(notional) / reach)
            inner = band.bps
        return None


class Cluster(NamedTuple):
    """One cluster, as rows show it."""

    price: float
    volume: float
    strength: float
    ofi_bias: float
    ob_ratio: float | None
    oi_adj: float | None
    distance_atr: float
    score: float
    difficulty: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """What makes a cluster, and what makes it count.

    Attributes:
        sigma_peak: how many sd above the mean a peak has to be.
        strength_sigmas: so many make the greatest strength.
        proximity_k: at so many ATR a cluster counts 1 / e.
    """

    sigma_peak: float
    strength_sigmas: float
    proximity_k: float

    def clusters(
        self, profile: Profile, close: float, atr: float, book: Book | None, oi_adj: float | None
    ) -> list[Cluster]:
        """The clusters of a profile in order of price."""
        count = len(profile.volume)
        mean = math.fsum(profile.volume) / count
        sd = math.sqrt(math.fsum((each - mean) ** 2 for each in profile.volume) / count)
        if same(sd, 0.0):
            return []
        least = mean + self.sigma_peak * sd
        found = []
        for k in peaks(profile.volume):
            volume = profile.volume[k]
            if above(volume, least):
                strength = clip((volume - mean) / (self.strength_sigmas * sd), 0, 1)
                price = profile.bins.centre(k)
                away = abs(price - close) / atr
                ratio = None if book is None else book.ob_ratio(price)
                orders = 0.5 if ratio is None else clip(ratio, 0, _OB_MOST) / _OB_MOST
                grown = 1.0 if oi_adj is None else oi_adj
                near = math.exp(-away / self.proximity_k)
                score = clip(strength * (0.5 + 0.5 * orders) * grown / _OI_BOUNDS[1] * near, 0, 1)
                difficulty = score * (0.5 + orders) / 1.5
                bias = profile.signed[k] / volume
                values = (price, volume, strength, bias, ratio, oi_adj, away, score, difficulty)
                found.append(Cluster(*values))
        return found


def peaks(volumes: Sequence[float]) -> list[int]:
    """Middles of the runs of equal values that are above both neighbours, the ends left out."""
    values = np.array(volumes)
    change = np.diff(values)
    size = np.abs(values)
    slack = SLACK * np.maximum(1.0, np.maximum(size[1:], size[:-1]))
    moves = np.flatnonzero(np.abs(change) > slack)
    rises = change[moves] > 0
    tops = np.flatnonzero(rises[:-1] & ~rises[1:])
    # a run begins behind a rise and ends before the fall that follows
    middles: list[int] = ((moves[tops] + 1 + moves[tops + 1]) // 2).tolist()
    return middles


def oi_adjustment(now: float | None, first: float | None) -> float | None:
    """How much open interest has grown, within bounds; None if one of them is missing."""
    return None if now is None or first is None else clip(now / first, *_OI_BOUNDS)


def clip(value: float, low: float, high: float) -> float:
    """The nearest number from low to high."""
    return min(max(value, low), high)
