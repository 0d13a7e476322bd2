"""Volume by price over the last bars, in equal bins from their lowest low to their highest high.

A bar's volume comes from the price rows that were traded in it. Where these are not known it is
spread over the bar's range in the shape of a bell around its average price, leaning to the side it
closed on. A bin's sums are exact and rounded once, so they do not depend on the order of rows or on
what has been added and taken away before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pipeline.calc.tolerant import at_least, same, sign

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_ON_EDGE = 1e-9
_MANTISSA = 53
_INT64_BITS, _SIGNED_BITS = 60, 63
_LONG_AXIS = 50_000


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


class Digits(NamedTuple):
    """How volumes are written as integers of `number` digits of so many bits, the lowest first.

    The lowest digit counts 2**-exponent. Of `room` rows no sum of digits leaves 64 bits.
    """

    exponent: int
    bits: int
    number: int

    @property
    def room(self) -> int:
        """How many rows may be added up."""
        return 1 << (_SIGNED_BITS - self.bits)

    @property
    def unit(self) -> int:
        """The lowest digit counts 1 / unit."""
        return int(1 << self.exponent)

    @classmethod
    def of(cls, volumes: Floats) -> Self:
        """Digits for these volumes, and for about four times as many."""
        exponent, width = _reach(volumes)
        bits = _INT64_BITS - volumes.shape[1].bit_length()
        return cls(exponent, bits, -(-width // bits))

    def hold(self, volumes: Floats) -> bool:
        """Whether other volumes can be written so too."""
        exponent, width = _reach(volumes)
        return exponent <= self.exponent and (
            width + self.exponent - exponent <= self.bits * self.number
        )

    def limbs(self, volumes: Floats) -> Ints:
        """The digits of the volumes bought, then of those sold; by row."""
        rest = np.ldexp(volumes, self.exponent)
        digits = []
        for shift in range((self.number - 1) * self.bits, 0, -self.bits):
            digit = np.floor(np.ldexp(rest, -shift))
            rest -= np.ldexp(digit, shift)
            digits.append(digit)
        digits.append(rest)
        limbs = np.stack(digits[::-1], axis=1).astype(np.int64)
        return limbs.reshape(2 * self.number, volumes.shape[1])

    def whole(self, limbs: Ints) -> list[int]:
        """The integers, of any size, whose digits are given, the lowest first."""
        digits: list[list[int]] = limbs.tolist()
        found = digits.pop()
        for lower in reversed(digits):
            found = [(high << self.bits) + low for high, low in zip(found, lower, strict=True)]
        return found


def _reach(volumes: Floats) -> tuple[int, int]:
    """Each volume is a whole number of 2**-exponent, below 2**width of them."""
    sizes = np.frexp(volumes[volumes > 0])[1]
    exponent = max(0, _MANTISSA - int(sizes.min(initial=_MANTISSA)))
    return exponent, max(1, int(sizes.max(initial=0)) + exponent)


@dataclass(frozen=True, slots=True)
class Held:
    """What a rolling profile holds behind its last bar.

    Attributes:
        starts: the bars, by when they opened.
        bare: those of them without price rows.
        axis: prices, rising.
        totals: sums of `digits` by place on the axis.
        rows: how many price rows they are the sums of.
    """

    starts: list[int]
    bare: frozenset[int]
    axis: Floats
    totals: Ints
    digits: Digits
    rows: int

    def with_prices(self, prices: Floats) -> Held:
        """The same on an axis that has these prices too.

        Prices that nobody needs any more are left out of it now and then.
        """
        axis, totals = self.axis, self.totals
        if len(axis) > _LONG_AXIS:
            used = totals.any(axis=0)
            axis, totals = axis[used], totals[:, used]
        there = np.append(axis, np.nan)[axis.searchsorted(prices)]
        if (there != prices).any():
            new = np.unique(prices[there != prices])
            places = axis.searchsorted(new)
            axis = np.insert(axis, places, new)
            totals = np.stack([np.insert(digits, places, 0) for digits in totals])
        return self if axis is self.axis else replace(self, axis=axis, totals=totals)


@dataclass(frozen=True, slots=True)
class PriceRows:
    """Price rows by minute, their volumes as integers.

    Attributes:
        ts: minute of each row, never falling.
        axis: all prices, rising.
        places: where on it each row's price is.
        limbs: the digits of the volumes, by row.
        digits: what these count.
    """

    ts: Ints
    axis: Floats
    places: Ints
    limbs: Ints
    digits: Digits

    @classmethod
    def of(cls, ts: Ints, price: Floats, buy_volume: Floats, sell_volume: Floats) -> Self:
        """Rows in order of time."""
        axis, places = np.unique(price, return_inverse=True)
        volumes = np.stack((buy_volume, sell_volume))
        digits = Digits.of(volumes)
        return cls(ts, axis, places, digits.limbs(volumes), digits)

    @classmethod
    def behind(
        cls, held: Held, ts: Ints, price: Floats, buy_volume: Floats, sell_volume: Floats
    ) -> Self | None:
        """Rows to be added to what is held, or taken from it; None if they do not go together."""
        volumes = np.stack((buy_volume, sell_volume))
        if held.rows + len(ts) > held.digits.room or not held.digits.hold(volumes):
            return None
        axis = held.with_prices(price).axis
        places = axis.searchsorted(price)
        return cls(ts, axis, places, held.digits.limbs(volumes), held.digits)

    def sums(self, totals: Ints, firsts: Ints) -> tuple[list[int], list[int]]:
        """Volume, and bought less sold, from each of some places to before the next, x unit.

        Args:
            totals: sums of `limbs` by place.
            firsts: first place of each stretch, the end of the last one behind them.
        """
        count = len(firsts) - 1
        filled = firsts[:-1] < firsts[1:]
        added = np.zeros((len(totals), count), np.int64)
        if filled.any():
            added[:, filled] = np.add.reduceat(totals, firsts[:-1][filled], axis=1)
        number = self.digits.number
        bought, sold = self.digits.whole(added[:number]), self.digits.whole(added[number:])
        both = list(zip(bought, sold, strict=True))
        return [b + s for b, s in both], [b - s for b, s in both]


class RollingProfile:
    """The profile of the last `lookback` bars, bar after bar.

    Args:
        rows: price rows of these bars, None to spread every bar. With `held` only those of bars
            that come, and of bars that leave, are needed.
        held: what a profile before this one held; the bars behind these follow here.
    """

    def __init__(
        self,
        bars: Sequence[Bar],
        span_us: int,
        rows: PriceRows | None,
        lookback: int,
        shape: Shape,
        held: Held | None = None,
    ) -> None:
        self._bars = bars
        none = np.empty(0)
        self._rows = rows or PriceRows.of(np.empty(0, np.int64), none, none, none)
        self._opens = np.array([bar.start for bar in bars], dtype=np.int64)
        self._from = self._rows.ts.searchsorted(self._opens).tolist()
        self._to = self._rows.ts.searchsorted(self._opens + span_us).tolist()
        self._lookback = lookback
        self._shape = shape
        self._held = range(0)
        self._bare: set[int] = set()
        self._count = 0
        self._bins: Bins | None = None
        self._firsts = np.empty(0, np.int64)
        self._shares: dict[int, list[tuple[int, float]]] = {}
        if held is None:
            self._totals = np.zeros((len(self._rows.limbs), len(self._rows.axis)), np.int64)
        else:
            self._take(held)

    def _take(self, held: Held) -> None:
        first = int(self._opens.searchsorted(held.starts[0]))
        self._held = range(first, first + len(held.starts))
        self._bare = set(self._opens.searchsorted(sorted(held.bare)).tolist())
        self._count = held.rows
        if held.axis is not self._rows.axis:
            held = held.with_prices(self._rows.axis)
        self._totals = held.totals.copy()

    def held(self) -> Held | None:
        """What is held now; None if that is nothing."""
        if not self._held:
            return None
        starts = self._opens[self._held.start : self._held.stop].tolist()
        bare = frozenset(self._bars[i].start for i in self._bare)
        rows = self._rows
        return Held(starts, bare, rows.axis, self._totals, rows.digits, self._count)

    def window(self, last: int) -> Sequence[Bar]:
        """The bars of a profile that ends with the bar of index `last`."""
        return self._bars[max(0, last + 1 - self._lookback) : last + 1]

    def hold(self, last: int) -> None:
        """Go on to the profile that ends with the bar of index `last`, which never falls."""
        self._hold(range(max(0, last + 1 - self._lookback), last + 1))

    def at(self, last: int, bins: Bins) -> Profile:
        """The profile that ends with the bar of index `last`, which never falls."""
        self.hold(last)
        if bins != self._bins:
            self._bins, self._shares = bins, {}
            places = bins.holding(self._rows.axis)
            self._firsts = np.searchsorted(places, np.arange(bins.number + 1))
        volume, signed = self._rows.sums(self._totals, self._firsts)
        more: dict[int, list[float]] = {}
        more_signed: dict[int, list[float]] = {}
        for i in sorted(self._bare):
            bar = self._bars[i]
            if i not in self._shares:
                self._shares[i] = spread(bar, bins, self._shape)
            for k, share in self._shares[i]:
                more.setdefault(k, []).append(bar.volume * share)
                bought_less_sold = bar.buy_volume - bar.sell_volume
                more_signed.setdefault(k, []).append(bought_less_sold * share)
        unit = self._rows.digits.unit
        return Profile(bins, _rounded(volume, unit, more), _rounded(signed, unit, more_signed))

    def _hold(self, held: range) -> None:
        """Add the bars that have come, take away those that have left."""
        if held.start >= self._held.stop:
            self._totals[:] = 0
            self._bare.clear()
            self._count = 0
            self._held = range(held.start, held.start)
        self._add(range(self._held.start, held.start), -1)
        self._add(range(self._held.stop, held.stop), 1)
        self._held = held

    def _add(self, bars: range, times: int) -> None:
        if not bars:
            return
        for i in bars:
            if times < 0:
                self._bare.discard(i)
            elif self._from[i] == self._to[i]:
                self._bare.add(i)
        # every row is of one of the bars that follow on from each other
        part = slice(self._from[bars[0]], self._to[bars[-1]])
        places = self._rows.places[part]
        self._count += times * len(places)
        for totals, limbs in zip(self._totals, self._rows.limbs, strict=True):
            np.add.at(totals, places, times * limbs[part])


def _rounded(whole: list[int], unit: int, more: dict[int, list[float]]) -> list[float]:
    """whole / unit + more, each rounded once."""
    found = [value / unit for value in whole]
    for k, each in more.items():
        found[k] = math.fsum((*_parts(whole[k], unit), *each))
    return found


def _parts(value: int, unit: int) -> list[float]:
    """Doubles whose sum is value / unit exactly; `unit` is a power of two."""
    found = []
    while value:
        part = value / unit
        found.append(part)
        top, bottom = part.as_integer_ratio()
        value -= top * (unit // bottom)
    return found
