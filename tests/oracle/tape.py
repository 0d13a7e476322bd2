"""US equity tapes in plain Python: one record at a time, one day at a time, from raw bytes.

Nothing of the pipeline is used, not even its calendar: the rule of daylight saving time is spelt
out. Volumes are fractions, sums are in whatever order comes naturally.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

FIVE_MINUTES = 300_000_000
JUMP = 300_000_000
LETTERS_OUT, LETTERS_AUCTION = set("CNR4TLUZB7VWHMPQ"), set("O65X")
BITS_OUT = (1, 2, 3, 9, 10, 11, 13, 14, 17, 18, 20, 22, 24, 25, 26)
BITS_AUCTION = (6, 7, 8, 21)

Row = dict[str, Any]


def sundays(year: int, month: int) -> list[date]:
    """The Sundays of a month."""
    days = [date(year, month, 1) + timedelta(days=n) for n in range(31)]
    return [day for day in days if day.month == month and day.weekday() == 6]


def session(day: date) -> tuple[int, int]:
    """09:30 and 16:00 in New York, in microseconds since 1970."""
    is_summer = sundays(day.year, 3)[1] <= day < sundays(day.year, 11)[0]
    midnight = datetime(day.year, day.month, day.day, 4 if is_summer else 5, tzinfo=UTC)
    start = round(midnight.timestamp()) * 1_000_000
    return start + 34_200_000_000, start + 57_600_000_000


def new_york_day(us: int) -> date:
    """The date in New York."""
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).date()
    return day if us >= session(day)[0] - 34_200_000_000 else day - timedelta(days=1)


# -- raw records -----------------------------------------------------------


class Bad(Exception):  # noqa: N818
    """A line that is no record."""


def number(value: Any, least: float) -> float:
    """A number above `least`, or equal to it if that is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Bad
    if value < 0 or value <= least:
        raise Bad
    return float(value)


def stamp(value: Any) -> int:
    """Microseconds of an ISO time."""
    if not isinstance(value, str):
        raise Bad
    moment = datetime.fromisoformat(value)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def record(line: bytes) -> Row:
    """One JSON object."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise Bad from error
    if not isinstance(found, dict) or "ts" not in found:
        raise Bad
    return found


def read_trade(line: bytes) -> Row:
    """A trade with all its fields."""
    raw = record(line)
    return {
        "ts": stamp(raw["ts"]),
        "seq": raw.get("seq"),
        "price": number(raw.get("price"), 0),
        "size": number(raw.get("size"), 0),
        "ex": raw.get("ex", ""),
        "cond": raw.get("cond", ""),
        "corr": raw.get("corr", 0),
    }


def read_quote(line: bytes) -> Row:
    """A quote; a side without price or size is None."""
    raw = record(line)
    if "bid" not in raw and "ask" not in raw:
        raise Bad
    found: Row = {"ts": stamp(raw["ts"])}
    for side in ("bid", "ask"):
        price = raw.get(side)
        price = 0.0 if price is None else number(price, -1)
        size = number(raw.get(f"{side}_size"), -1) if price else 0.0
        found[side] = price if price and size else None
    return found


@dataclass
class Feed:
    """The records of one feed that count, in the order in which they came."""

    is_trades: bool
    kept: list[Row] = field(default_factory=list)
    clock: int | None = None
    held: Row | None = None
    bad: int = 0
    late: int = 0
    duplicate: int = 0

    def files(self, files: list[tuple[str, bytes]]) -> None:
        """Read day files in order; the newest may still grow."""
        for place, (name, data) in enumerate(files):
            *lines, rest = data.split(b"\n")
            for line in lines:
                self.line(line)
            if place < len(files) - 1:
                if rest.strip():
                    self.bad += 1
                self.end(session(date.fromisoformat(name))[1])

    def line(self, line: bytes) -> None:
        """One line."""
        if not line.strip():
            return
        try:
            found = (read_trade if self.is_trades else read_quote)(line)
        except (Bad, ValueError):
            self.bad += 1
            return
        repeats = found.get("seq") is not None and (found == self.held or found in self.kept)
        if self.is_trades and repeats:
            self.duplicate += 1
            return
        self.settle(found["ts"])
        if self.clock is not None and found["ts"] > self.clock + JUMP:
            self.held = found
        else:
            self.keep(found)

    def settle(self, ts: int) -> None:
        """What a time says about a record far ahead."""
        held, self.held = self.held, None
        if held is not None and ts >= held["ts"] - JUMP:
            self.keep(held)
        elif held is not None:
            self.bad += 1

    def keep(self, found: Row) -> None:
        """A good record, unless its minute is over."""
        before = self.clock
        ts = found["ts"]
        if self.is_trades:
            if before is not None and ts // 60_000_000 * 60_000_000 + 60_000_000 <= before:
                self.late += 1
                return
            self.kept.append(found)
        else:
            self.kept.append(found | {"ts": ts if before is None else max(ts, before)})
        self.clock = ts if before is None else max(ts, before)

    def end(self, close: int) -> None:
        """A file has ended: its day's session is over."""
        if self.held is not None and close >= self.held["ts"] - JUMP:
            self.settle(close)
        self.clock = close if self.clock is None else max(close, self.clock)


# -- classification --------------------------------------------------------


def kind(cond: str, letters: bool) -> str:
    """Whether a trade counts."""
    if letters:
        found = set(cond)
        out, auction = bool(found & LETTERS_OUT), bool(found & LETTERS_AUCTION)
    else:
        flags = int(cond, 16) if cond else 0
        out = any(flags >> bit & 1 for bit in BITS_OUT)
        auction = any(flags >> bit & 1 for bit in BITS_AUCTION)
    return "out" if out else "auction" if auction else "counted"


def valid(quote: Row | None) -> bool:
    """Whether a quote has two sides that neither lock nor cross."""
    if quote is None or quote["bid"] is None or quote["ask"] is None:
        return False
    return bool(quote["bid"] < quote["ask"])


def mid_of(quote: Row) -> float:
    """The mid."""
    return float((quote["bid"] + quote["ask"]) / 2)


def classify_day(
    day: date, trades: list[Row], quotes: list[Row], lag_us: int, letters: bool
) -> list[Row]:
    """The counted trades of a day's session with their side; quotes are those of the day."""
    low, high = session(day)
    found: list[Row] = []
    place, force = 0, None
    price, tick = None, 0
    for trade in trades:
        what = kind(trade["cond"], letters)
        if not low <= trade["ts"] < high or trade["corr"] != 0 or what == "out":
            continue
        while place < len(quotes) and quotes[place]["ts"] < trade["ts"] - lag_us:
            force = quotes[place]
            place += 1
        if price is not None and trade["price"] != price:
            tick = 1 if trade["price"] > price else -1
        price = trade["price"]
        mid = mid_of(force) if force is not None and valid(force) else None
        rule: str | None = "quote"
        if what == "auction":
            side, rule = 0, "auction"
        elif mid is not None and abs(price - mid) > 1e-9:
            side = 1 if price > mid else -1
        else:
            side, rule = tick, "tick" if tick else None
        found.append(
            {"ts": trade["ts"], "price": price, "size": trade["size"], "side": side}
            | {"rule": rule, "mid": mid}
        )
    return found


def volume(trades: list[Row], side: int | None = None) -> Fraction:
    """Shares of one side, or of all."""
    return sum((Fraction(t["size"]) for t in trades if side in (None, t["side"])), Fraction(0))


def imbalance(trades: list[Row]) -> float | None:
    """(B - S) / (B + S)."""
    bought, sold = volume(trades, 1), volume(trades, -1)
    return float((bought - sold) / (bought + sold)) if bought + sold else None


def daily(day: date, symbol: str, trades: list[Row], edge: float = 0.1) -> Row:
    """A day's row of the classification."""
    oi = imbalance(trades)
    quoted = volume([t for t in trades if t["mid"] is not None])
    by_quotes = quoted >= Fraction(4, 5) * volume(trades)
    direction = "neutral"
    if oi is not None and oi > edge:
        direction = "buy"
    if oi is not None and oi < -edge:
        direction = "sell"
    return {
        "symbol": symbol,
        "trade_date": day,
        "trade_direction": direction,
        "total_buy_volume": float(volume(trades, 1)),
        "total_sell_volume": float(volume(trades, -1)),
        "total_neutral_volume": float(volume(trades, 0)),
        "order_imbalance": oi,
        "buy_trades": sum(t["side"] == 1 for t in trades),
        "sell_trades": sum(t["side"] == -1 for t in trades),
        "neutral_trades": sum(t["side"] == 0 for t in trades),
        "avg_trade_size": float(volume(trades) / len(trades)),
        "classification_method": "LEE_READY" if by_quotes else "TICK_TEST",
        "quality_flag": "HIGH" if by_quotes else "MEDIUM",
        "available_date": day,
    }


# -- metrics ---------------------------------------------------------------


def last_mid(quotes: list[Row], before: int) -> float | None:
    """The mid of the last valid quote strictly before a time."""
    found = None
    for quote in quotes:
        if quote["ts"] >= before:
            break
        if valid(quote):
            found = mid_of(quote)
    return found


def vpin(trades: list[Row], bucket: Fraction, count: int) -> tuple[float | None, int, float]:
    """VPIN, full buckets, and how many equal trades a bucket is worth."""
    gaps: list[Fraction] = []
    room, flow = bucket, Fraction(0)
    used: list[float] = []
    for trade in reversed(trades):
        if len(gaps) == count:
            break
        left = Fraction(trade["size"])
        used.append(trade["size"])
        while left and len(gaps) < count:
            part = min(left, room)
            flow += part * trade["side"]
            room, left = room - part, left - part
            if not room:
                gaps.append(abs(flow))
                room, flow = bucket, Fraction(0)
    worth = float(bucket) * sum(used) / sum(size * size for size in used)
    if len(gaps) < count:
        return None, len(gaps), worth
    return float(sum(gaps) / (count * bucket)), count, worth


def quantile(values: list[float], share: float) -> float:
    """Linear interpolation at (n - 1) q."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def line(x: list[float], y: list[float], least: int) -> tuple[float, float, float] | None:
    """Slope, error and r squared."""
    n = len(x)
    if n < least:
        return None
    if n >= 100:
        edges = [(quantile(v, 0.01), quantile(v, 0.99)) for v in (x, y)]
        x, y = ([min(max(v, a), b) for v in vs] for vs, (a, b) in zip((x, y), edges, strict=True))
    mx, my = sum(x) / n, sum(y) / n
    sxx = sum((a - mx) ** 2 for a in x)
    syy = sum((b - my) ** 2 for b in y)
    sxy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    if sxx == 0:
        return None
    slope = sxy / sxx
    sse = sum((b - my - slope * (a - mx)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, math.sqrt(sse / (n - 2) / sxx), 1 - sse / syy if syy else math.nan


def pearson(pairs: list[tuple[float, float]]) -> float | None:
    """Correlation of pairs; None below ten or without variation."""
    if len(pairs) < 10:
        return None
    mx, my = (sum(v) / len(pairs) for v in zip(*pairs, strict=True))
    sxx, syy = sum((a - mx) ** 2 for a, _ in pairs), sum((b - my) ** 2 for _, b in pairs)
    if min(sxx, syy) < 1e-18:
        return None
    return float(sum((a - mx) * (b - my) for a, b in pairs) / math.sqrt(sxx * syy))


@dataclass
class Metrics:
    """Goes from day to day."""

    symbol: str
    vpin_days: int = 20
    lambda_days: int = 30
    past: list[list[Row]] = field(default_factory=list)
    bars: list[list[tuple[float, float]]] = field(default_factory=list)

    def day(self, day: date, trades: list[Row], quotes: list[Row]) -> Row:
        """A day's row."""
        low, high = session(day)
        cells: list[list[Row]] = [[] for _ in range(78)]
        for trade in trades:
            cells[(trade["ts"] - low) // FIVE_MINUTES].append(trade)
        mids = [last_mid(quotes, low + (n + 1) * FIVE_MINUTES) for n in range(78)]
        total = volume(trades)
        blocks = [t for t in trades if t["size"] >= 10_000 or t["price"] * t["size"] >= 200_000]
        full = [bool(cell) and mid is not None for cell, mid in zip(cells, mids, strict=True)]
        each = [imbalance(cell) for cell in cells]
        pairs = [(a, b) for a, b in pairwise(each) if a is not None and b is not None]
        own = self.vpin_of(trades)
        return {
            "symbol": self.symbol,
            "trade_date": day,
            **own,
            **self.lambda_of(cells, mids),
            "daily_order_imbalance": imbalance(trades),
            "imbalance_persistence": pearson(pairs),
            "quoted_spread_bps": quoted(quotes, low, high),
            **costs(trades, quotes, high),
            "informed_trading_probability": own["vpin"],
            "total_volume": float(total),
            "block_trade_volume": float(volume(blocks)),
            "block_trade_ratio": float(volume(blocks) / total),
            "data_completeness": sum(full) / 78,
            "available_date": day,
        }

    def vpin_of(self, trades: list[Row]) -> Row:
        """VPIN of the last day."""
        self.past.append(trades)
        days = self.past[-self.vpin_days :]
        mean = sum((volume(each) for each in days), Fraction(0)) / len(days)
        tape = [trade for each in self.past for trade in each]
        value, count, worth = vpin(tape, mean / 50, 50)
        quality = None
        if len(days) < 5:
            value = None
        if value is not None:
            quality = "MEDIUM" if len(days) >= 8 else "LOW"
            quoted_volume = volume([t for t in trades if t["mid"] is not None])
            is_quoted = quoted_volume >= Fraction(4, 5) * volume(trades)
            if len(days) >= 15 and is_quoted and worth >= 10:
                quality = "HIGH"
        return {"vpin": value, "vpin_window_bars": count, "vpin_quality_flag": quality}

    def lambda_of(self, cells: list[list[Row]], mids: list[float | None]) -> Row:
        """Lambda of the last day."""
        new = []
        for n in range(1, 78):
            before, after = mids[n - 1], mids[n]
            if before is not None and after is not None:
                flow = sum(t["side"] * t["price"] * t["size"] for t in cells[n]) / 1e6
                new.append((flow, 1e4 * math.log(after / before)))
        self.bars.append(new)
        days = self.bars[-self.lambda_days :]
        points = [point for each in days for point in each]
        found = line([x for x, _ in points], [y for _, y in points], 30)
        names = ("kyles_lambda", "kyles_lambda_se", "kyles_lambda_r2")
        if found is None:
            return dict.fromkeys((*names, "kyles_lambda_quality_flag"))
        count, r2 = sum(bool(each) for each in days), found[2]
        quality = "LOW"
        if count >= 10 and r2 > 0.2:
            quality = "MEDIUM"
        if count >= 20 and r2 > 0.3:
            quality = "HIGH"
        return dict(zip(names, found, strict=True)) | {"kyles_lambda_quality_flag": quality}


def quoted(quotes: list[Row], low: int, high: int) -> float | None:
    """Spread in bps of the mid, weighted by the time that each valid quote stands."""
    top = bottom = 0.0
    for place, quote in enumerate(quotes):
        until = quotes[place + 1]["ts"] if place + 1 < len(quotes) else high
        stands = min(until, high) - max(quote["ts"], low)
        if valid(quote) and stands > 0:
            top += stands * 1e4 * (quote["ask"] - quote["bid"]) / mid_of(quote)
            bottom += stands
    return top / bottom if bottom else None


def costs(trades: list[Row], quotes: list[Row], high: int) -> Row:
    """Effective, realized, impact and the share of it."""
    weight = effective = realized = 0.0
    for trade in trades:
        mid = trade["mid"]
        if mid is None or not trade["side"]:
            continue
        later = last_mid(quotes, min(trade["ts"] + FIVE_MINUTES, high))
        assert later is not None
        worth = trade["price"] * trade["size"]
        weight += worth
        effective += worth * 2e4 * trade["side"] * (trade["price"] - mid) / mid
        realized += worth * 2e4 * trade["side"] * (trade["price"] - later) / mid
    names = ("effective_spread_bps", "realized_spread_bps", "price_impact_bps")
    if not weight:
        return dict.fromkeys((*names, "adverse_selection_component"))
    effective, realized = effective / weight, realized / weight
    impact = effective - realized
    share = min(1.0, max(0.0, impact / effective)) if effective > 0 else None
    values = dict(zip(names, (effective, realized, impact), strict=True))
    return values | {"adverse_selection_component": share}


# -- a whole tape ----------------------------------------------------------


@dataclass
class Tape:
    """Everything that there is to know of a tape."""

    trades: Feed
    quotes: Feed | None
    classified: list[Row]
    days: list[Row]
    metrics: list[Row]


def tape(
    symbol: str,
    trades: list[tuple[str, bytes]],
    quotes: list[tuple[str, bytes]] | None,
    lag_us: int = 0,
    letters: bool = False,
    vpin_days: int = 20,
    lambda_days: int = 30,
) -> Tape:
    """Read both feeds and go through the days that have closed."""
    left = Feed(is_trades=True)
    left.files(trades)
    right = None
    if quotes is not None:
        right = Feed(is_trades=False)
        right.files(quotes)
    reached = min(feed.clock or 0 for feed in (left, right) if feed is not None)
    minute = reached // 60_000_000 * 60_000_000
    bar = reached // FIVE_MINUTES * FIVE_MINUTES
    found = Tape(left, right, [], [], [])
    ordered = sorted(left.kept, key=lambda trade: trade["ts"])
    work = Metrics(symbol, vpin_days, lambda_days)
    for day in sorted({new_york_day(trade["ts"]) for trade in ordered}):
        own = [t for t in ordered if new_york_day(t["ts"]) == day and t["ts"] < minute]
        shown = [q for q in (right.kept if right else []) if new_york_day(q["ts"]) == day]
        rows = classify_day(day, own, shown, lag_us, letters)
        found.classified += rows
        close = session(day)[1]
        if rows and close <= minute:
            found.days.append(daily(day, symbol, rows))
        if rows and close <= bar:
            found.metrics.append(work.day(day, rows, shown))
    return found
