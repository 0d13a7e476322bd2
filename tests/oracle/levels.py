"""Rows of `wicks` and `extremes`: prices the market left behind, or may come back for."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

from .cells import DAY_US, Cell, closed_cells, row_number, stamp, tick_of
from .fold import Judge
from .layers import Bar, Row, head
from .raw import EXACT

WICK_SHARE = Decimal("0.3")
LIFE_US = 7 * DAY_US
NEAREST = 10

# -- wicks ---------------------------------------------------------------------


@dataclass(frozen=True)
class Level:
    """The end of a long wick, and when its bar opened."""

    side: str
    price: Decimal
    created_us: int

    def is_touched(self, bar: Bar) -> bool:
        """Whether the bar reached the level."""
        return bar.high >= self.price if self.side == "high" else bar.low <= self.price

    def brief(self) -> Row:
        """As the lists of untouched levels show it."""
        return {"price": float(self.price), "created_utc": stamp(self.created_us)}


def wicks_rows(judge: Judge) -> list[Row]:
    """Rows of `wicks_5m.jsonl`."""
    live: list[Level] = []
    rows = []
    with localcontext(EXACT):
        for cell in closed_cells(judge, 5):
            live = [lv for lv in live if cell.start_us < lv.created_us + LIFE_US]
            touched = [lv for lv in live if lv.is_touched(cell.bar)]
            made = wicks_of(cell.bar)
            live = [lv for lv in live if lv not in touched] + list(made.values())
            rows.append(head(cell.bar, judge.instrument) | wicks_row(cell.bar, made, touched, live))
    return rows


def wicks_of(bar: Bar) -> dict[str, Level]:
    """The levels the bar leaves, by side."""
    lengths = {
        "high": (bar.high - max(bar.open, bar.close), bar.high),
        "low": (min(bar.open, bar.close) - bar.low, bar.low),
    }
    return {
        side: Level(side, price, bar.start_us)
        for side, (length, price) in lengths.items()
        if length > 0 and length >= WICK_SHARE * (bar.high - bar.low)
    }


def wicks_row(bar: Bar, made: dict[str, Level], touched: list[Level], live: list[Level]) -> Row:
    """The columns of one bar; `live` is what stands after it."""
    highs, lows = (nearest(live, side, bar.close) for side in ("high", "low"))
    return {
        "wick_high": float(made["high"].price) if "high" in made else None,
        "wick_low": float(made["low"].price) if "low" in made else None,
        "touched": [
            {"side": level.side} | level.brief()
            for level in sorted(touched, key=lambda lv: (lv.side, lv.price, lv.created_us))
        ],
        "untouched_highs": highs,
        "untouched_lows": lows,
        "nearest_untouched_high": highs[0]["price"] if highs else None,
        "nearest_untouched_low": lows[0]["price"] if lows else None,
    }


def nearest(live: list[Level], side: str, close: Decimal) -> list[Row]:
    """The ten levels of a side nearest the close; of equals the lower, then the older."""
    ordered = sorted(
        (lv for lv in live if lv.side == side),
        key=lambda lv: (abs(lv.price - close), lv.price, lv.created_us),
    )
    return [level.brief() for level in ordered[:NEAREST]]


# -- extremes ------------------------------------------------------------------


def extremes_rows(judge: Judge, tick: Decimal | None) -> list[Row]:
    """Rows of `extremes_30m.jsonl`."""
    with localcontext(EXACT):
        step = tick_of(judge, tick)
        if step is None:
            return []
        rows = []
        session: list[Cell] = []
        for cell in closed_cells(judge, 30):
            if session and session[0].day_us != cell.day_us:
                session = []
            session.append(cell)
            rows.append(head(cell.bar, judge.instrument) | extremes_row(session, step))
    return rows


def extremes_row(session: list[Cell], tick: Decimal) -> Row:
    """The session so far, one cell a half hour."""
    high = max(cell.bar.high for cell in session)
    low = min(cell.bar.low for cell in session)
    high_tpo = sum(high - cell.bar.high <= tick for cell in session)
    low_tpo = sum(cell.bar.low - low <= tick for cell in session)
    return {
        "session_high": float(high),
        "session_low": float(low),
        "high_tpo": high_tpo,
        "low_tpo": low_tpo,
        "poor_high": high_tpo >= 2,
        "poor_low": low_tpo >= 2,
        "unfinished_high": is_two_sided(session, high, tick),
        "unfinished_low": is_two_sided(session, low, tick),
    }


def is_two_sided(session: list[Cell], price: Decimal, tick: Decimal) -> bool:
    """Whether takers bought and takers sold at the price's row."""
    number = row_number(price, tick)
    sides = {
        trade.side
        for cell in session
        for trade in cell.trades
        if row_number(trade.price, tick) == number
    }
    return sides == {1, -1}
