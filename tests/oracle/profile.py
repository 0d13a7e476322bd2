"""Rows of `footprint` and of the two volume profiles made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

from .cells import DAY_US, Cell, closed_cells, moment, row_number, tick_of
from .fold import Judge
from .layers import Row, head
from .raw import EXACT, Instrument, Trade

BINS = 50
NODES = 5
HVN_OVER, LVN_UNDER = Fraction(3, 2), Fraction(1, 2)
VALUE_SHARE = Fraction(7, 10)
NUDGE = Fraction(1, 10**9)


@dataclass
class Traded:
    """What traded at one price row in one minute."""

    buy: Decimal = Decimal(0)
    sell: Decimal = Decimal(0)
    trades: int = 0

    def add(self, trade: Trade) -> None:
        """Take in a trade."""
        if trade.side > 0:
            self.buy += trade.size
        else:
            self.sell += trade.size
        self.trades += 1


Prints = dict[int, dict[int, Traded]]
"""Minute, then number of the price row."""


def footprint_of(judge: Judge, row: Decimal) -> Prints:
    """The closed minutes, in time order."""
    prints: Prints = {}
    for cell in closed_cells(judge, 1):
        rows = prints.setdefault(cell.start_us, {})
        for trade in cell.trades:
            rows.setdefault(row_number(trade.price, row), Traded()).add(trade)
    return prints


def footprint_rows(judge: Judge, tick: Decimal | None) -> list[Row]:
    """Rows of the `footprint` parts: by minute, then price."""
    with localcontext(EXACT):
        row = tick_of(judge, tick)
        if row is None:
            return []
        return [
            {
                "ts": moment(minute),
                "price": float(number * row),
                "buy_volume": float(traded.buy),
                "sell_volume": float(traded.sell),
                "trades": traded.trades,
            }
            for minute, rows in footprint_of(judge, row).items()
            for number, traded in sorted(rows.items())
        ]


# -- profiles ------------------------------------------------------------------


def profile_session_rows(judge: Judge, tick: Decimal | None) -> list[Row]:
    """Rows of `profile_session.jsonl`: since midnight of the bar's day."""
    return profile_rows(judge, tick, lambda cell: cell.day_us)


def profile_24h_rows(judge: Judge, tick: Decimal | None) -> list[Row]:
    """Rows of `profile_24h.jsonl`: the 24 hours up to the bar's end."""
    return profile_rows(judge, tick, lambda cell: cell.end_us - DAY_US)


def profile_rows(
    judge: Judge, tick: Decimal | None, window_start: Callable[[Cell], int]
) -> list[Row]:
    """A row at each closed five-minute bar; sums slide along, which is exact in decimals."""
    with localcontext(EXACT):
        row = tick_of(judge, tick)
        if row is None:
            return []
        minutes = [
            (start, {k: t.buy + t.sell for k, t in rows.items()})
            for start, rows in footprint_of(judge, row).items()
        ]
        volumes: dict[int, Decimal] = {}
        first = after = 0
        result = []
        for cell in closed_cells(judge, 5):
            while after < len(minutes) and minutes[after][0] < cell.end_us:
                enter(volumes, minutes[after][1], 1)
                after += 1
            while minutes[first][0] < window_start(cell):
                enter(volumes, minutes[first][1], -1)
                first += 1
            result.append(profile_row(cell, volumes, row, judge.instrument))
        return result


def enter(volumes: dict[int, Decimal], minute: dict[int, Decimal], sign: int) -> None:
    """Add a minute, or take it off again; rows without volume go."""
    for number, volume in minute.items():
        left = volumes.get(number, Decimal(0)) + sign * volume
        if left:
            volumes[number] = left
        else:
            del volumes[number]


def profile_row(cell: Cell, volumes: dict[int, Decimal], row: Decimal, where: Instrument) -> Row:
    """One profile, judged against the bar's close."""
    return head(cell.bar, where) | profile_of(volumes, row, cell.bar.close)


def profile_of(volumes: dict[int, Decimal], row: Decimal, close: Decimal) -> Row:
    """The figures of a window: volume by number of price row, and a close to place in it."""
    low, high = min(volumes), max(volumes)
    height, total = Fraction(row), Fraction(sum(volumes.values()))
    figures: Row = {"low": float(low * height), "high": float(high * height)}
    if low == high:
        price = low * height
        value = Value(price, price, price)
        return (
            figures
            | {"bin_size": 0.0, "total_volume": float(total)}
            | value.prices()
            | {"value_area_pct": 100.0, "hvn": [], "lvn": []}
            | value.verdict(Fraction(close))
        )
    bins = [Fraction(volume) for volume in binned(volumes, low, high)]
    bin_size = (high - low) * height / BINS

    def centre(i: int) -> Fraction:
        return low * height + (i + Fraction(1, 2)) * bin_size

    poc = point_of_control(bins)
    bottom, top = value_area(bins, poc)
    value = Value(centre(poc), centre(top), centre(bottom))
    return (
        figures
        | {"bin_size": float(bin_size), "total_volume": float(total)}
        | value.prices()
        | {
            "value_area_pct": float(100 * sum(bins[bottom : top + 1]) / total),
            "hvn": [node(i, bins, centre) for i in high_nodes(bins)],
            "lvn": [node(i, bins, centre) for i in low_nodes(bins)],
        }
        | value.verdict(Fraction(close))
    )


def node(i: int, bins: Sequence[Fraction], centre: Callable[[int], Fraction]) -> Row:
    """A bin as the node lists show it."""
    return {"price": float(centre(i)), "volume": float(bins[i])}


def binned(volumes: dict[int, Decimal], low: int, high: int) -> list[Decimal]:
    """Volume by bin; the row's height cancels in (p - low) / bin_size."""
    bins = [Decimal(0)] * BINS
    below, span = NUDGE.denominator * BINS, NUDGE.denominator * (high - low)
    for number, volume in volumes.items():
        bins[min(BINS - 1, ((number - low) * below + (high - low)) // span)] += volume
    return bins


def point_of_control(bins: Sequence[Fraction]) -> int:
    """The largest bin; of equals the nearest to the middle, then the lower."""
    middle = Fraction(len(bins) - 1, 2)
    return min(range(len(bins)), key=lambda i: (-bins[i], abs(i - middle), i))


def value_area(bins: Sequence[Fraction], poc: int, *, at_once: int = 2) -> tuple[int, int]:
    """The lowest and highest bin of the value area.

    From the point of control the larger sum of the next `at_once` rows above or
    below joins, the upper where they are equal, until seven tenths are inside.
    """
    bottom = top = poc
    while sum(bins[bottom : top + 1]) < VALUE_SHARE * sum(bins):
        above = bins[top + 1 : top + 1 + at_once]
        below = bins[max(0, bottom - at_once) : bottom]
        if above and (not below or sum(above) >= sum(below)):
            top += len(above)
        else:
            bottom -= len(below)
    return bottom, top


def high_nodes(bins: Sequence[Fraction]) -> list[int]:
    """The peaks of the runs well above the mean, largest first."""
    limit = HVN_OVER * sum(bins) / len(bins)
    runs = runs_where(i for i in range(len(bins)) if bins[i] > limit)
    peaks = [min(run, key=lambda i: (-bins[i], i)) for run in runs]
    return sorted(peaks, key=lambda i: (-bins[i], i))[:NODES]


def low_nodes(bins: Sequence[Fraction]) -> list[int]:
    """The lowest bins of the runs well below the mean, edges left out, smallest first."""
    limit = LVN_UNDER * sum(bins) / len(bins)
    runs = runs_where(i for i in range(1, len(bins) - 1) if bins[i] < limit)
    lowest = [min(run, key=lambda i: (bins[i], i)) for run in runs]
    return sorted(lowest, key=lambda i: (bins[i], i))[:NODES]


def runs_where(indices: Iterable[int]) -> list[list[int]]:
    """Ascending indices, cut where one is missing."""
    runs: list[list[int]] = []
    for i in indices:
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


@dataclass(frozen=True)
class Value:
    """Point of control and value area, as exact prices."""

    poc: Fraction
    vah: Fraction
    val: Fraction

    def prices(self) -> Row:
        """The three prices."""
        return {"poc": float(self.poc), "vah": float(self.vah), "val": float(self.val)}

    def verdict(self, close: Fraction) -> Row:
        """Where the close lies and which way that leans."""
        if close > self.vah:
            return lean("BULLISH", "strong", "above_value")
        if close < self.val:
            return lean("BEARISH", "strong", "below_value")
        if abs(close - self.poc) <= Fraction(1, 10) * (self.vah - self.val):
            return lean("NEUTRAL", "strong", "in_value")
        return lean("BULLISH" if close > self.poc else "BEARISH", "weak", "in_value")


def lean(bias: str, strength: str, position: str) -> Row:
    """The last three columns."""
    return {"bias": bias, "bias_strength": strength, "position": position}
