"""Volume by price over the last bars, in equal bins from their lowest low to their highest high.

A bar's volume comes from the price rows that were traded in it. Where these are not known it is
spread over the bar's range in the shape of a bell around its average price, leaning to the side it
closed on. A bin's sums are exact and rounded once, so they do not depend on the order of rows or on
what has been added and taken away before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pipeline.calc.tolerant import at_least, same, sign

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.object_]
"""Integers of any size."""

_ON_EDGE = 1e-9
_MANTISSA = 53
_INT64_BITS = 62


class Bar(NamedTuple):
    """A bar: when it opened in microseconds, prices, volumes in base units."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    vwap: float | None


class Bins(NamedTuple):
    """`number` equal bins from `low` to `high`."""

    low: float
    high: float
    number: int

    def centre(self, k: int) -> float:
        """Middle of bin k."""
        return self.low + (k + 0.5) * ((self.high - self.low) / self.number)

    def holding(self, prices: Floats) -> Ints:
        """The bin of each price; what lies outside belongs to the nearest."""
        found = np.floor((prices - self.low) * self.number / (self.high - self.low) + _ON_EDGE)
        return found.clip(0, self.number - 1).astype(np.int64)

    def centred_in(self, low: float, high: float) -> list[int]:
        """The bins whose middle lies between two prices or on one of them."""
        near = self.holding(np.array([low, high])).tolist()
        around = range(max(near[0] - 1, 0), min(near[1] + 2, self.number))
        return [
            k for k in around if at_least(self.centre(k), low) and at_least(high, self.centre(k))
        ]


class Shape(NamedTuple):
    """How a bar is spread: sd of the bell in ranges, and how far it leans to the close's side."""

    gauss_width: float
    direction_tilt: float


class Profile(NamedTuple):
    """By bin: volume, and volume bought less sold."""

    bins: Bins
    volume: list[float]
    signed: list[float]


def spread(bar: Bar, bins: Bins, shape: Shape) -> list[tuple[int, float]]:
    """Bins and the share of the bar's volume in each; the shares add up to 1."""
    extent = bar.high - bar.low
    middle = bar.vwap
    if middle is None:
        middle = math.fsum((bar.high, bar.low, bar.close)) / 3
    inside = [] if same(extent, 0.0) else bins.centred_in(bar.low, bar.high)
    if not inside:
        return [(int(bins.holding(np.array([middle]))[0]), 1.0)]
    apart = [(bins.centre(k) - middle) / extent for k in inside]
    lean = shape.direction_tilt * sign(bar.close - bar.open)
    squares = [(each / shape.gauss_width) ** 2 / 2 for each in apart]
    # less the smallest, or else a narrow bell could vanish everywhere
    weights = [
        math.exp(min(squares) - square) * (1 + lean * min(max(2 * each, -1.0), 1.0))
        for each, square in zip(apart, squares, strict=True)
    ]
    total = math.fsum(weights)
    return [(k, weight / total) for k, weight in zip(inside, weights, strict=True)]


@dataclass(frozen=True, slots=True)
class PriceRows:
    """Price rows by minute, their volumes as integers.

    Attributes:
        ts: minute of each row, never falling.
        axis: all prices, rising.
        places: where on it each row's price is.
        limbs: digits of the volumes bought, then of those sold, the lowest first; by row. So many
            of them can be added up that no sum of rows leaves 64 bits.
        bits: of a digit.
        unit: the lowest digit counts 1 / unit.
    """

    ts: Ints
    axis: Floats
    places: Ints
    limbs: Ints
    bits: int
    unit: int

    @classmethod
    def of(cls, ts: Ints, price: Floats, buy_volume: Floats, sell_volume: Floats) -> Self:
        """Rows in order of time."""
        axis, places = np.unique(price, return_inverse=True)
        volumes = np.stack((buy_volume, sell_volume))
        sizes = np.frexp(volumes[volumes > 0])[1]
        # each double is a whole number of 2**-exponent
        exponent = max(0, _MANTISSA - int(sizes.min(initial=_MANTISSA)))
        width = max(1, int(sizes.max(initial=0)) + exponent)
        bits = _INT64_BITS - len(ts).bit_length()
        rest = np.ldexp(volumes, exponent)
        digits = []
        for shift in range((width - 1) // bits * bits, 0, -bits):
            digit = np.floor(np.ldexp(rest, -shift))
            rest -= np.ldexp(digit, shift)
            digits.append(digit)
        digits.append(rest)
        limbs = np.stack(digits[::-1], axis=1).astype(np.int64)
        limbs = limbs.reshape(2 * len(digits), len(ts))
        return cls(ts, axis, places, limbs, bits, 2**exponent)

    def sums(self, totals: Ints, firsts: Ints) -> tuple[Whole, Whole]:
        """Volume, and bought less sold, from each of some places to before the next, x `unit`.

        Args:
            totals: sums of `limbs` by place.
            firsts: first place of each stretch, the end of the last one behind them.
        """
        count = len(firsts) - 1
        filled = firsts[:-1] < firsts[1:]
        added = np.zeros((len(totals), count), np.int64)
        if filled.any():
            added[:, filled] = np.add.reduceat(totals, firsts[:-1][filled], axis=1)
        digits = len(totals) // 2
        scales = np.array([1 << self.bits * i for i in range(digits)], dtype=object)[:, None]
        bought, sold = ((side * scales).sum(axis=0) for side in np.split(added.astype(object), 2))
        return bought + sold, bought - sold


class RollingProfile:
    """The profile of the last `lookback` bars, bar after bar.

    Args:
        rows: price rows of these bars, None to spread every bar.
    """

    def __init__(
        self,
        bars: Sequence[Bar],
        span_us: int,
        rows: PriceRows | None,
        lookback: int,
        shape: Shape,
    ) -> None:
        self._bars = bars
        none = np.empty(0)
        self._rows = rows or PriceRows.of(np.empty(0, np.int64), none, none, none)
        opens = np.array([bar.start for bar in bars], dtype=np.int64)
        self._from = np.searchsorted(self._rows.ts, opens).tolist()
        self._to = np.searchsorted(self._rows.ts, opens + span_us).tolist()
        self._lookback = lookback
        self._shape = shape
        self._held = range(0)
        self._totals = np.zeros((len(self._rows.limbs), len(self._rows.axis)), np.int64)
        self._bins: Bins | None = None
        self._firsts = np.empty(0, np.int64)
        self._shares: dict[int, list[tuple[int, float]]] = {}

    def window(self, last: int) -> Sequence[Bar]:
        """The bars of a profile that ends with the bar of index `last`."""
        return self._bars[max(0, last + 1 - self._lookback) : last + 1]

    def at(self, last: int, bins: Bins) -> Profile:
        """The profile that ends with the bar of index `last`, which never falls."""
        self._hold(range(max(0, last + 1 - self._lookback), last + 1))
        if bins != self._bins:
            self._bins, self._shares = bins, {}
            places = bins.holding(self._rows.axis)
            self._firsts = np.searchsorted(places, np.arange(bins.number + 1))
        volume, signed = self._rows.sums(self._totals, self._firsts)
        more: list[list[float]] = [[] for _ in range(bins.number)]
        more_signed: list[list[float]] = [[] for _ in range(bins.number)]
        for i in self._held:
            if self._from[i] == self._to[i]:
                bar = self._bars[i]
                if i not in self._shares:
                    self._shares[i] = spread(bar, bins, self._shape)
                for k, share in self._shares[i]:
                    more[k].append(bar.volume * share)
                    more_signed[k].append((bar.buy_volume - bar.sell_volume) * share)
        unit = self._rows.unit
        return Profile(bins, _rounded(volume, unit, more), _rounded(signed, unit, more_signed))

    def _hold(self, held: range) -> None:
        """Add the bars that have come, take away those that have left."""
        if held.start >= self._held.stop:
            self._totals[:] = 0
            self._held = range(held.start, held.start)
        for i in range(self._held.start, held.start):
            self._add(i, -1)
        for i in range(self._held.stop, held.stop):
            self._add(i, 1)
        self._held = held

    def _add(self, index: int, times: int) -> None:
        part = slice(self._from[index], self._to[index])
        places = self._rows.places[part]
        for totals, limbs in zip(self._totals, self._rows.limbs, strict=True):
            np.add.at(totals, places, times * limbs[part])


def _rounded(whole: Whole, unit: int, more: list[list[float]]) -> list[float]:
    """whole / unit + more, each rounded once."""
    return [
        math.fsum((*_parts(value, unit), *each)) if each else value / unit
        for value, each in zip(whole.tolist(), more, strict=True)
    ]


def _parts(value: int, unit: int) -> list[float]:
    """Doubles whose sum is value / unit exactly; `unit` is a power of two."""
    found = []
    while value:
        part = value / unit
        found.append(part)
        top, bottom = part.as_integer_ratio()
        value -= top * (unit // bottom)
    return found
