"""Rows of the layers `trades`, `bars`, `volume` and of the gap list, ready to compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import Any

from .fold import Accepted, Judge
from .raw import EXACT, Instrument, Trade

Row = dict[str, Any]

MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30}
WHALE_NOTIONAL = Decimal(100_000)
PRIOR_BARS, ENOUGH_BARS = 100, 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def trades_rows(judge: Judge) -> list[Row]:
    """One row an accepted trade, numbered from 0; numbers as the nearest doubles."""
    return [
        {
            "seq": seq,
            "ts": _EPOCH + timedelta(microseconds=row.trade.ts_us),
            "trade_id": row.trade.trade_id,
            "price": float(row.trade.price),
            "size": float(row.trade.size),
            "notional": float(row.trade.notional),
            "side": row.trade.side,
            "gap_before": row.gap_before,
        }
        for seq, row in enumerate(judge.accepted)
    ]


def gaps_rows(judge: Judge) -> list[Row]:
    """One row a run of missing trade ids (without its readable time)."""
    return [
        {
            "instId": judge.instrument.inst_id,
            "exchange": judge.instrument.exchange,
            "market": judge.instrument.row_market,
            "kind": "trades",
            "from": gap.first,
            "to": gap.last,
            "ts": gap.ts_us // 1000,
        }
        for gap in judge.gaps
    ]


@dataclass
class Bar:
    """Running sums of one bar, all exact."""

    start_us: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: dict[int, Decimal] = field(default_factory=lambda: {1: Decimal(0), -1: Decimal(0)})
    notional: dict[int, Decimal] = field(default_factory=lambda: {1: Decimal(0), -1: Decimal(0)})
    trades: dict[int, int] = field(default_factory=lambda: {1: 0, -1: 0})
    whale: dict[int, Decimal] = field(default_factory=lambda: {1: Decimal(0), -1: Decimal(0)})
    whale_trades: int = 0
    gaps: int = 0

    def add(self, row: Accepted) -> None:
        """Take in the next trade in file order."""
        trade = row.trade
        self.high = max(self.high, trade.price)  # of equal prices the first text stays
        self.low = min(self.low, trade.price)
        self.close = trade.price
        self.volume[trade.side] += trade.size
        self.notional[trade.side] += trade.notional
        self.trades[trade.side] += 1
        if trade.notional >= WHALE_NOTIONAL:
            self.whale[trade.side] += trade.notional
            self.whale_trades += 1
        self.gaps += row.gap_before

    @property
    def total(self) -> Decimal:
        """Quote currency traded."""
        return self.notional[1] + self.notional[-1]

    @property
    def delta(self) -> Decimal:
        """Quote currency bought by takers less that sold."""
        return self.notional[1] - self.notional[-1]


def closed_bars(judge: Judge, minutes: int) -> list[Bar]:
    """The bars with trades whose end the watermark has reached, in time order."""
    length = minutes * 60_000_000
    bars: dict[int, Bar] = {}
    for row in judge.accepted:
        start = row.trade.ts_us // length * length
        if start not in bars:
            bars[start] = opening_bar(start, row.trade)
        bars[start].add(row)
    watermark = judge.watermark_us
    return [
        bars[start]
        for start in sorted(bars)
        if watermark is not None and start + length <= watermark
    ]


def opening_bar(start: int, trade: Trade) -> Bar:
    """A bar about to take in its first trade."""
    return Bar(start, trade.price, trade.price, trade.price, trade.price)


def head(bar: Bar, instrument: Instrument) -> Row:
    """The four keys every JSONL row begins with."""
    opened = _EPOCH + timedelta(microseconds=bar.start_us)
    return {
        "timestamp_utc": opened.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "instId": instrument.inst_id,
        "exchange": instrument.exchange,
        "market": instrument.row_market,
    }


def bars_rows(judge: Judge, tf: str) -> list[Row]:
    """Rows of `bars_{tf}.jsonl`."""
    with localcontext(EXACT):
        return [bar_row(bar, judge.instrument) for bar in closed_bars(judge, MINUTES[tf])]


def bar_row(bar: Bar, instrument: Instrument) -> Row:
    """One bar; sums as the doubles nearest their exact value."""
    volume = bar.volume[1] + bar.volume[-1]
    return head(bar, instrument) | {
        "open": float(bar.open),
        "high": float(bar.high),
        "low": float(bar.low),
        "close": float(bar.close),
        "volume": float(volume),
        "buy_volume": float(bar.volume[1]),
        "sell_volume": float(bar.volume[-1]),
        "notional": float(bar.total),
        "buy_notional": float(bar.notional[1]),
        "sell_notional": float(bar.notional[-1]),
        "vwap": float(Fraction(bar.total) / Fraction(volume)) if volume else None,
        "trades": bar.trades[1] + bar.trades[-1],
        "buy_trades": bar.trades[1],
        "sell_trades": bar.trades[-1],
        "whale_notional": float(bar.whale[1] + bar.whale[-1]),
        "whale_trades": bar.whale_trades,
        "whale_buy_notional": float(bar.whale[1]),
        "gaps": bar.gaps,
    }


def volume_rows(judge: Judge) -> list[Row]:
    """Rows of `volume_1m.jsonl`."""
    with localcontext(EXACT):
        bars = closed_bars(judge, 1)
        totals = [bar.total for bar in bars]
        return [
            volume_row(bar, judge.instrument, totals[max(0, i - PRIOR_BARS) : i])
            for i, bar in enumerate(bars)
        ]


def volume_row(bar: Bar, instrument: Instrument, prior: Sequence[Decimal]) -> Row:
    """One minute judged against the totals of the minutes before it."""
    change = (Fraction(bar.close) / Fraction(bar.open) - 1) * 100
    ratio = Fraction(bar.total) / median(prior) if len(prior) >= ENOUGH_BARS else None
    absorbed = ratio is not None and ratio > 2 and abs(change) < Fraction(1, 10)
    divergent = (
        sign(change) * sign(bar.delta) < 0
        and abs(change) >= Fraction(5, 100)
        and abs(Fraction(bar.delta)) >= Fraction(bar.total) / 10
    )
    return head(bar, instrument) | {
        "open": plain(bar.open),
        "high": plain(bar.high),
        "low": plain(bar.low),
        "close": plain(bar.close),
        "price_change_pct": change_text(change),
        "total_volume": amount_text(bar.total),
        "buy_volume": amount_text(bar.notional[1]),
        "sell_volume": amount_text(bar.notional[-1]),
        "delta": signed_text(bar.delta),
        "whale_volume": amount_text(bar.whale[1] + bar.whale[-1]),
        "whale_count": bar.whale_trades,
        "trade_count": bar.trades[1] + bar.trades[-1],
        "volume_tier": None if ratio is None else tier(ratio),
        "absorption": absorbed,
        "divergence": divergent,
        "volume_ratio": None if ratio is None else float(ratio),
        "divergence_type": ("bearish" if change > 0 else "bullish") if divergent else None,
        "absorption_side": {1: "sell", -1: "buy", 0: None}[sign(bar.delta)] if absorbed else None,
    }


def median(values: Iterable[Decimal]) -> Fraction:
    """The exact median; the mean of the middle two where the count is even."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return Fraction(ordered[middle])
    return (Fraction(ordered[middle - 1]) + Fraction(ordered[middle])) / 2


def tier(ratio: Fraction) -> str:
    """T1 below a half, T2 below one, T3 up to two inclusive, T4 above."""
    if ratio < Fraction(1, 2):
        return "T1"
    if ratio < 1:
        return "T2"
    return "T3" if ratio <= 2 else "T4"


def sign(value: Decimal | Fraction) -> int:
    """-1, 0 or 1."""
    return (value > 0) - (value < 0)


def plain(value: Decimal) -> str:
    """A price in the digits the exchange wrote, without an exponent."""
    return format(value, "f")


def change_text(change: Fraction) -> str:
    """Two decimals with a sign, zero always positive."""
    text = f"{float(change):+.2f}"
    return "+0.00" if text == "-0.00" else text


def amount_text(value: Decimal) -> str:
    """At most eight decimals, half to even, no trailing zeros."""
    with localcontext() as context:
        context.traps = dict.fromkeys(context.traps, False)
        rounded = value.quantize(Decimal("1e-8"), rounding=ROUND_HALF_EVEN)
    text = format(rounded, "f").rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def signed_text(value: Decimal) -> str:
    """`amount_text` with its sign; zero counts as positive."""
    text = amount_text(value)
    return text if text.startswith("-") else "+" + text
