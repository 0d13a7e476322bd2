"""Rows of `flow`, `micro`, `costs`, `buckets` and `orderflow`, and of all they are made from.

A row of several inputs closes when the watermark of every one has reached its end. Every loop
goes over one quote, event, trade or level at a time; quotients have fifty digits.
"""

from __future__ import annotations

import tomllib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from .books import (
    RANKS,
    STANDS_US,
    Replay,
    book_event_rows,
    book_gap_rows,
    book_rows,
    ladder_rows,
    ofi_term,
    replay_folder,
)
from .cells import MINUTE_US, stamp
from .flow import vwap_rows
from .fold import Judge, judge_folder
from .layers import Row, bars_rows
from .profile import profile_session_rows
from .quotes import Quote, QuoteFeed, QuoteStream, bbo_rows, quote_stream, read_quotes
from .raw import Contract, Instrument, Trade

PRECISE = Context(prec=50)
WHALE = Decimal(100_000)
SMALL, LARGE = Decimal(100_000), Decimal(1_000_000)
MOMENTUM_MINUTES = 5
NOTHING = Decimal("1e-12")
BANDS = (0, 5, 10, 25, 50, 100)
NEAR_BPS, WALL_BPS = 25, 100
WALL_MEDIANS, WALL_LEAST = 5, Decimal(250_000)
YOUNG_US = 300 * 1_000_000
PACKAGED = Path(__file__).resolve().parents[2] / "pipeline" / "instruments.toml"

Level = tuple[Decimal, Decimal]
"""Price and size."""
Standing = Sequence[tuple[int, Decimal | None]]
"""What has a value from when on, None from where it has none."""


# -- an instrument and its inputs ---------------------------------------------------


def instrument_at(
    vault: Path, exchange: str, market: str, inst_id: str
) -> tuple[Instrument, Decimal | None]:
    """The instrument with its contract, and its tick, from the vault's table or the packaged."""
    entry: dict[str, Any] = {}
    for table in (PACKAGED, vault / "instruments.toml"):
        if table.exists():
            known = tomllib.loads(table.read_text(encoding="utf-8"))
            entry |= known.get(f"{exchange}/{market}/{inst_id}", {})
    contract = None
    if "ctVal" in entry:
        multiplier = Decimal(entry.get("ctMult", "1"))
        contract = Contract(Decimal(entry["ctVal"]), multiplier, entry.get("ctType") == "inverse")
    tick = Decimal(entry["tick"]) if "tick" in entry else None
    return Instrument(exchange, market, inst_id, contract), tick


@dataclass
class Inputs:
    """Everything raw of one instrument, read; None for what it has no folder of."""

    instrument: Instrument
    tick: Decimal | None = None
    replay: Replay | None = None
    feed: QuoteFeed | None = None
    judge: Judge | None = None

    @cached_property
    def stream(self) -> QuoteStream | None:
        """The quotes everything else uses."""
        return quote_stream(self.instrument, self.feed, self.replay)

    @cached_property
    def quotes(self) -> list[Quote]:
        """Its quotes, none if it has no source."""
        return [] if self.stream is None else self.stream.quotes

    @cached_property
    def quote_times(self) -> list[int]:
        """When each came."""
        return [q.ts_us for q in self.quotes]

    @cached_property
    def trades(self) -> dict[int, list[Trade]]:
        """The trades that count, by minute, in file order."""
        minutes: dict[int, list[Trade]] = {}
        for row in [] if self.judge is None else self.judge.accepted:
            minutes.setdefault(minute_of(row.trade.ts_us), []).append(row.trade)
        return minutes

    @cached_property
    def quoted_minutes(self) -> list[int]:
        """Minutes with a quote that is not empty."""
        return sorted({minute_of(q.ts_us) for q in self.quotes if q.bid is not None})

    def watermarks(self) -> list[int | None]:
        """How far each input there is has come."""
        found: list[int | None] = []
        if self.stream is not None:
            found.append(self.stream.watermark_us)
        if self.judge is not None:
            found.append(self.judge.watermark_us)
        if self.replay is not None:
            found.append(self.replay.feed.newest_us)
        return found

    def is_closed(self, minute: int) -> bool:
        """Whether every input has reached the end of a minute."""
        return all(at is not None and at >= minute + MINUTE_US for at in self.watermarks())

    def head(self, minute: int) -> Row:
        """The four keys every JSONL row begins with."""
        return {
            "timestamp_utc": stamp(minute),
            "instId": self.instrument.inst_id,
            "exchange": self.instrument.exchange,
            "market": self.instrument.row_market,
        }


def read_inputs(vault: Path, exchange: str, market: str, inst_id: str) -> Inputs:
    """Read the raw folders of one instrument."""
    instrument, tick = instrument_at(vault, exchange, market, inst_id)
    has_trades = instrument.raw_folder(vault).is_dir()
    return Inputs(
        instrument,
        tick,
        replay_folder(vault, instrument),
        read_quotes(vault, instrument),
        judge_folder(vault, instrument) if has_trades else None,
    )


def expected_layers(vault: Path, exchange: str, market: str, inst_id: str) -> dict[str, list[Row]]:
    """The rows of every layer of the instrument, by layer; `book_gaps` among them."""
    return layers_of(read_inputs(vault, exchange, market, inst_id))


def layers_of(inputs: Inputs) -> dict[str, list[Row]]:
    """The rows of every layer that what was read makes."""
    layers: dict[str, list[Row]] = {}
    if inputs.replay is not None:
        layers |= {
            "book": book_rows(inputs.replay),
            "book_events": book_event_rows(inputs.replay),
            "ladder_1m": ladder_rows(inputs.replay),
            "book_gaps": book_gap_rows(inputs.replay),
        }
    if inputs.feed is not None:
        layers["bbo"] = bbo_rows(inputs.feed)
    with localcontext(PRECISE):
        flow = micro = None
        if inputs.stream is not None:
            flow, micro = flow_rows(inputs), micro_rows(inputs)
            layers |= {
                "quote": inputs.stream.rows,
                "flow_1m": shown(flow),
                "micro_1m": shown(micro),
            }
            if inputs.judge is not None:
                layers["costs_1m"] = shown(costs_rows(inputs))
        if inputs.replay is not None:
            layers["buckets_1m"] = shown(buckets_rows(inputs))
        if inputs.stream is not None or inputs.judge is not None:
            layers["orderflow_1m"] = shown(orderflow_rows(inputs, flow or [], micro or []))
    return layers


def shown(rows: Iterable[Row]) -> list[Row]:
    """Doubles for decimals."""
    return [{name: as_double(value) for name, value in row.items()} for row in rows]


def as_double(value: Any) -> Any:
    """A value as it stands in a row."""
    if isinstance(value, list):
        return [as_double(item) for item in value]
    if isinstance(value, dict):
        return {name: as_double(item) for name, item in value.items()}
    return float(value) if isinstance(value, Decimal) else value


def minute_of(ts_us: int) -> int:
    """When the minute of a moment began."""
    return ts_us // MINUTE_US * MINUTE_US


# -- values that stand -------------------------------------------------------------------


def weighted(values: Standing, start: int, end: int) -> Decimal | None:
    """The mean over [start, end), by time; a value stands until the next, at most a minute."""
    total, weight = Decimal(0), 0
    first = max(0, bisect_left(values, start, key=lambda v: v[0]) - 1)
    for at in range(first, len(values)):
        ts_us, value = values[at]
        if ts_us >= end:
            break
        until = min(end, ts_us + STANDS_US)
        if at + 1 < len(values):
            until = min(until, values[at + 1][0])
        stood = until - max(ts_us, start)
        if value is not None and stood > 0:
            total += value * stood
            weight += stood
    return total / weight if weight else None


def share(part: Decimal, other: Decimal) -> Decimal | None:
    """(part - other) / (part + other)."""
    return (part - other) / (part + other) if part + other else None


# -- flow --------------------------------------------------------------------------------


def imbalance_of(quote: Quote) -> Decimal | None:
    """(qb - qa) / (qb + qa)."""
    if quote.bid_size is None or quote.ask_size is None:
        return None
    return share(quote.bid_size, quote.ask_size)


def flow_rows(inputs: Inputs) -> list[Row]:
    """Rows of `flow_1m`, numbers as decimals."""
    terms = quote_terms(inputs.quotes)
    values = [(q.ts_us, imbalance_of(q)) for q in inputs.quotes]
    ranks = rank_terms(inputs.replay)
    norms: dict[int, Decimal] = {}
    rows = []
    for minute in inputs.quoted_minutes:
        if not inputs.is_closed(minute):
            break
        ofi, ofi_norm = summed(terms.get(minute))
        if ofi_norm is not None:
            norms[minute] = ofi_norm
        quotes = quotes_in(inputs, minute)
        assert inputs.stream is not None
        rows.append(
            inputs.head(minute)
            | {
                "imbalance": weighted(values, minute, minute + MINUTE_US),
                "imbalance_last": imbalance_of(quotes[-1]),
                "ofi": ofi,
                "ofi_norm": ofi_norm,
                "ofi_momentum": momentum(norms, minute),
                "ofi_levels": ranks.get(minute),
                "updates": len(quotes),
                "source": inputs.stream.source,
                "whale_buy_trades": whales(inputs, minute, 1),
                "whale_sell_trades": whales(inputs, minute, -1),
            }
        )
    return rows


def quotes_in(inputs: Inputs, minute: int) -> list[Quote]:
    """The quotes of a minute that are not empty."""
    first = bisect_left(inputs.quote_times, minute)
    last = bisect_left(inputs.quote_times, minute + MINUTE_US)
    return [q for q in inputs.quotes[first:last] if q.bid is not None]


def quote_terms(quotes: Sequence[Quote]) -> dict[int, list[Decimal]]:
    """e_n of every pair of quotes that follow each other, by the minute of the later."""
    terms: dict[int, list[Decimal]] = {}
    for before, after in pairwise(quotes):
        old, new = before.state, after.state
        if old is None or new is None or after.ts_us - before.ts_us > STANDS_US:
            continue
        terms.setdefault(minute_of(after.ts_us), []).append(ofi_term(old, new))
    return terms


def summed(terms: Sequence[Decimal] | None) -> tuple[Decimal | None, Decimal | None]:
    """The sum, and its share of the sum of sizes."""
    if not terms:
        return None, None
    total, size = sum(terms, Decimal(0)), sum(map(abs, terms), Decimal(0))
    if abs(total) <= NOTHING * size:
        total = Decimal(0)
    return total, total / size if size else None


def momentum(norms: dict[int, Decimal], minute: int) -> Decimal | None:
    """The mean over this clock minute and the four before it."""
    lately = [minute - back * MINUTE_US for back in range(MOMENTUM_MINUTES)]
    found = [norms[m] for m in lately if m in norms]
    return sum(found, Decimal(0)) / len(found) if found else None


def rank_terms(replay: Replay | None) -> dict[int, list[Decimal | None]]:
    """The sums of e_n by rank, for the minutes that have any."""
    terms: dict[int, list[list[Decimal]]] = {}
    for event in [] if replay is None else replay.events:
        if any(term is not None for term in event.terms):
            ranks = terms.setdefault(minute_of(event.ts_us), [[] for _ in range(RANKS)])
            for rank, term in zip(ranks, event.terms, strict=True):
                rank.extend([] if term is None else [term])
    return {minute: [summed(rank)[0] for rank in ranks] for minute, ranks in terms.items()}


def whales(inputs: Inputs, minute: int, side: int) -> int | None:
    """Large trades of a side; None for an instrument without trades."""
    if inputs.judge is None:
        return None
    trades = inputs.trades.get(minute, [])
    return sum(t.side == side and t.notional >= WHALE for t in trades)


# -- micro -------------------------------------------------------------------------------


def spread_of(quote: Quote) -> Decimal | None:
    """Basis points of the mid."""
    if quote.bid is None or quote.ask is None or quote.mid is None:
        return None
    return 10_000 * (quote.ask - quote.bid) / quote.mid


def liquidity(spread_bps: Decimal | None) -> str | None:
    """A word for a spread."""
    if spread_bps is None:
        return None
    for limit, word in ((2, "excellent"), (10, "good"), (25, "fair")):
        if spread_bps <= limit:
            return word
    return "poor"


def micro_rows(inputs: Inputs) -> list[Row]:
    """Rows of `micro_1m`, numbers as decimals."""
    spreads = [(q.ts_us, spread_of(q)) for q in inputs.quotes]
    depths = depth_values(inputs.replay)
    deviations = vwap_deviations(inputs.judge)
    ladders = ladders_of(inputs.replay)
    rows = []
    for minute in inputs.quoted_minutes:
        if not inputs.is_closed(minute):
            break
        last = quotes_in(inputs, minute)[-1]
        spread_bps = weighted(spreads, minute, minute + MINUTE_US)
        rows.append(
            inputs.head(minute)
            | {
                "mid": last.mid,
                "weighted_mid": weighted_mid(last),
                "spread_bps": spread_bps,
                "spread_bps_last": spread_of(last),
                "liquidity": liquidity(spread_bps),
            }
            | depth_columns(inputs.replay, depths, minute)
            | {
                "buy_pressure_pct": buy_pressure(inputs.trades.get(minute)),
                "vwap_deviation_pct": deviations.get(stamp(minute)),
            }
            | impact_columns(ladders.get(minute))
        )
    return rows


def weighted_mid(quote: Quote) -> Decimal | None:
    """The mid drawn to the side with less on it."""
    if quote.state is None:
        return None
    bid, bid_size, ask, ask_size = quote.state
    return (bid_size * ask + ask_size * bid) / (bid_size + ask_size)


def depth_values(replay: Replay | None) -> list[tuple[int, Decimal | None]]:
    """(B - A) / (B + A) of the best five levels after each event."""
    events = [] if replay is None else replay.events
    return [(e.ts_us, None if e.depths is None else share(*e.depths)) for e in events]


def depth_columns(replay: Replay | None, depths: Standing, minute: int) -> Row:
    """The best five levels over the minute and at its end."""
    end = minute + MINUTE_US
    found = None
    if replay is not None:
        at = bisect_left(depths, end, key=lambda d: d[0]) - 1
        if at >= 0 and depths[at][0] >= minute:
            found = replay.events[at].depths
    return {
        "bid_depth": found and found[0],
        "ask_depth": found and found[1],
        "depth_imbalance": weighted(depths, minute, end),
        "depth_imbalance_last": found and share(*found),
    }


def buy_pressure(trades: Sequence[Trade] | None) -> Decimal | None:
    """Buyers' share of the base volume, per cent."""
    if not trades:
        return None
    bought = sum((t.size for t in trades if t.side > 0), Decimal(0))
    volume = sum((t.size for t in trades), Decimal(0))
    return 100 * bought / volume if volume else None


def vwap_deviations(judge: Judge | None) -> dict[str, float]:
    """How far each minute's close is from the session's VWAP."""
    rows = [] if judge is None else vwap_rows(judge)
    return {row["timestamp_utc"]: row["deviation_pct"] for row in rows}


@dataclass(frozen=True)
class Ladder:
    """The whole book at the end of a minute, best first."""

    minute: int
    bids: list[Level]
    asks: list[Level]
    since: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    reach: dict[str, Decimal | None] = field(default_factory=dict)

    @property
    def mid(self) -> Decimal | None:
        """Halfway between the best of both sides."""
        if not self.bids or not self.asks:
            return None
        return (self.bids[0][0] + self.asks[0][0]) / 2


def ladders_of(replay: Replay | None) -> dict[int, Ladder]:
    """The ladders by minute."""
    found = {}
    for row in [] if replay is None else replay.ladders:
        minute = int(row["ts"].timestamp()) * 1_000_000
        found[minute] = Ladder(
            minute,
            list(zip(row["bid_px"], row["bid_sz"], strict=True)),
            list(zip(row["ask_px"], row["ask_sz"], strict=True)),
            {
                side: list(zip(row[f"{side}_since"], row[f"{side}_seen"], strict=True))
                for side in ("bid", "ask")
            },
            {side: row[f"{side}_reach_px"] for side in ("bid", "ask")},
        )
    return found


def walk(levels: Sequence[Level], amount: Decimal) -> tuple[Decimal | None, Decimal]:
    """The average price of a fill worth some money, and the share of it that could be filled."""
    left, base = amount, Decimal(0)
    for price, size in levels:
        taken = min(left, price * size)
        base += taken / price
        left -= taken
        if not left:
            break
    return ((amount - left) / base if base else None), 1 - left / amount


def impact_columns(ladder: Ladder | None) -> Row:
    """What two sizes of market order cost against the mid."""
    row: Row = {}
    for name, amount in (("100k", SMALL), ("1m", LARGE)):
        buy = impact_of(ladder, 1, amount)
        sell = impact_of(ladder, -1, amount)
        row |= {
            f"impact_buy_bps_{name}": buy[0],
            f"impact_sell_bps_{name}": sell[0],
            f"filled_buy_{name}": buy[1],
            f"filled_sell_{name}": sell[1],
        }
    return row


def impact_of(
    ladder: Ladder | None, side: int, amount: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    """Basis points against the mid, if it fills; and how much fills."""
    if ladder is None:
        return None, None
    average, filled = walk(ladder.asks if side > 0 else ladder.bids, amount)
    if average is None or filled < 1 or ladder.mid is None:
        return None, filled
    return 10_000 * side * (average - ladder.mid) / ladder.mid, filled


# -- costs -------------------------------------------------------------------------------


def costs_rows(inputs: Inputs) -> list[Row]:
    """Rows of `costs_1m`, numbers as decimals."""
    assert inputs.stream is not None
    assert inputs.judge is not None
    known, traded = inputs.stream.watermark_us, inputs.judge.watermark_us
    rows = []
    for minute in sorted(inputs.trades):
        end = minute + MINUTE_US
        if traded is None or traded < end or known is None or known < end + STANDS_US:
            break
        costs = [
            costs_of(trade, *mids_around(inputs, trade.ts_us)) for trade in inputs.trades[minute]
        ]
        rows.append(inputs.head(minute) | mean_costs([c for c in costs if c is not None]))
    return rows


def mids_around(inputs: Inputs, ts_us: int) -> tuple[Decimal | None, Decimal | None]:
    """The mid before a trade, and the one a minute later."""
    before = bisect_left(inputs.quote_times, ts_us) - 1
    later = bisect_right(inputs.quote_times, ts_us + STANDS_US) - 1
    return standing_mid(inputs, before, ts_us), standing_mid(inputs, later, ts_us + STANDS_US)


def standing_mid(inputs: Inputs, at: int, now_us: int) -> Decimal | None:
    """The mid of a quote, if it still stands."""
    if at < 0 or now_us - inputs.quote_times[at] > STANDS_US:
        return None
    return inputs.quotes[at].mid


Costs = tuple[Decimal, Decimal, Decimal, Decimal]
"""Notional, effective and realised spread, price impact."""


def costs_of(trade: Trade, before: Decimal | None, later: Decimal | None) -> Costs | None:
    """What a trade cost, if both mids are known."""
    if before is None or later is None:
        return None
    unit = 20_000 * trade.side / before
    return (
        trade.notional,
        unit * (trade.price - before),
        unit * (trade.price - later),
        unit * (later - before),
    )


def mean_costs(costs: Sequence[Costs]) -> Row:
    """The columns of a minute, weighted by notional."""
    names = ("effective_spread_bps", "realised_spread_bps", "price_impact_bps")
    row: Row = dict.fromkeys(names)
    notional = sum((c[0] for c in costs), Decimal(0))
    if notional:
        for i, name in enumerate(names, start=1):
            row[name] = sum((c[0] * c[i] for c in costs), Decimal(0)) / notional
    return row | {"trades": len(costs)}


# -- buckets -----------------------------------------------------------------------------


def buckets_rows(inputs: Inputs) -> list[Row]:
    """Rows of `buckets_1m`, numbers as decimals."""
    return [
        inputs.head(minute) | bucket_columns(ladder)
        for minute, ladder in ladders_of(inputs.replay).items()
    ]


def distance(price: Decimal, mid: Decimal, side: str) -> Decimal:
    """Basis points from the mid into the side's own half; negative where it is crossed."""
    away = mid - price if side == "bid" else price - mid
    return 10_000 * away / mid


def bucket_columns(ladder: Ladder) -> Row:
    """The columns of one ladder."""
    sides = {"bid": ladder.bids, "ask": ladder.asks}
    mid = ladder.mid
    reach = {side: reach_bps(ladder.reach[side], mid, side) for side in sides}
    bands: list[Row] = [
        {"bps": high}
        | {
            f"{side}_notional": band(levels, mid, side, low, high, reach[side])
            for side, levels in sides.items()
        }
        for low, high in pairwise(BANDS)
    ]
    near = {side: within(levels, mid, side, NEAR_BPS) for side, levels in sides.items()}
    ask_imbalance = part_of(near["ask"], near["bid"]) if mid is not None else None
    return {
        "bands": bands,
        "ask_imbalance": ask_imbalance,
        "bid_imbalance": None if ask_imbalance is None else 1 - ask_imbalance,
        "bid_reach_bps": reach["bid"],
        "ask_reach_bps": reach["ask"],
    } | wall_columns(ladder)


def part_of(one: Decimal, other: Decimal) -> Decimal | None:
    """One as a share of both."""
    return one / (one + other) if one + other else None


def reach_bps(price: Decimal | None, mid: Decimal | None, side: str) -> Decimal | None:
    """How far the last snapshot showed a side."""
    if price is None or mid is None:
        return None
    return max(Decimal(0), distance(price, mid, side))


def band(
    levels: Sequence[Level],
    mid: Decimal | None,
    side: str,
    low: int,
    high: int,
    reach: Decimal | None,
) -> Decimal | None:
    """The notional between two distances; the first band takes what is crossed as well."""
    if mid is None or reach is None or reach <= low:
        return None
    return within(levels, mid, side, high) - (within(levels, mid, side, low) if low else Decimal(0))


def within(levels: Sequence[Level], mid: Decimal | None, side: str, bps: int) -> Decimal:
    """The notional up to a distance."""
    if mid is None:
        return Decimal(0)
    return sum((p * s for p, s in levels if distance(p, mid, side) <= bps), Decimal(0))


@dataclass(frozen=True)
class Standout:
    """A level that may be a wall."""

    notional: Decimal
    price: Decimal
    away: Decimal
    age_us: int
    seen: bool


def wall_columns(ladder: Ladder) -> Row:
    """The largest wall of each side, the largest young one, and where the first stands."""
    near = {side: near_levels(ladder, side) for side in ("bid", "ask")}
    notionals = sorted(level.notional for side in near.values() for level in side)
    limit = max(WALL_MEDIANS * middle(notionals), WALL_LEAST) if notionals else WALL_LEAST
    walls = {side: [lv for lv in near[side] if lv.notional >= limit] for side in near}
    largest = {side: largest_of(walls[side]) for side in near}
    young = {
        side: largest_of([w for w in walls[side] if w.seen and w.age_us < YOUNG_US])
        for side in near
    }

    def columns(name: str, value: Callable[[str], Any]) -> Row:
        # without a mid nobody can say how far a level is from it
        return {f"{side}_{name}": None if ladder.mid is None else value(side) for side in near}

    return (
        columns("wall", lambda s: money(largest[s]))
        | columns("young_wall", lambda s: money(young[s]))
        | columns("wall_price", lambda s: getattr(largest[s], "price", None))
        | columns("wall_age_s", lambda s: age_s(largest[s]))
    )


def near_levels(ladder: Ladder, side: str) -> list[Standout]:
    """The levels of a side within a hundred basis points."""
    mid = ladder.mid
    if mid is None:
        return []
    levels = ladder.bids if side == "bid" else ladder.asks
    end = ladder.minute + MINUTE_US
    return [
        Standout(price * size, price, distance(price, mid, side), end - since, seen)
        for (price, size), (since, seen) in zip(levels, ladder.since[side], strict=True)
        if distance(price, mid, side) <= WALL_BPS
    ]


def middle(ordered: Sequence[Decimal]) -> Decimal:
    """The median of sorted values."""
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def largest_of(walls: Sequence[Standout]) -> Standout | None:
    """The largest; of equals the nearest the mid."""
    return min(walls, key=lambda w: (-w.notional, w.away), default=None)


def money(wall: Standout | None) -> Decimal:
    """A wall's notional, nothing without one."""
    return Decimal(0) if wall is None else wall.notional


def age_s(wall: Standout | None) -> Decimal | None:
    """How long it has stood."""
    return None if wall is None else Decimal(wall.age_us) / 1_000_000


# -- orderflow ---------------------------------------------------------------------------

FACTORS: dict[str, tuple[int, str]] = {
    "imbalance": (20, "0.20"),
    "ofi_momentum": (15, "0.05"),
    "whale_trades": (10, "0"),
    "vwap_deviation": (15, "0.1"),
    "depth_imbalance": (10, "0.15"),
    "buy_pressure": (10, "15"),
    "profile_bias": (30, ""),
}
"""Hundredths, and what the value (of buy pressure: less 50) must exceed."""
SIGNAL = 40
PROFILE_US, PROFILE_AGE_US = 5 * MINUTE_US, 10 * MINUTE_US


def leaning(factor: str, value: Any) -> int:
    """1 for bullish, -1 for bearish, 0 for neither."""
    if factor == "profile_bias":
        return {"BULLISH": 1, "BEARISH": -1}.get(value, 0)
    limit = Decimal(FACTORS[factor][1])
    found = Decimal(str(value)) - (50 if factor == "buy_pressure" else 0)
    if factor == "vwap_deviation":
        found = -found
    return (found > limit) - (found < -limit)


def verdict(values: dict[str, Any]) -> Row:
    """The signal of seven values, None for those that are not there."""
    points = {1: 0, -1: 0}
    reasons = []
    for factor, (hundredths, _) in FACTORS.items():
        value = values[factor]
        side = 0 if value is None else leaning(factor, value)
        if side:
            points[side] += hundredths
            word = "bullish" if side > 0 else "bearish"
            reasons.append(
                {"factor": factor, "side": word, "points": hundredths / 100, "value": value}
            )
    score = points[1] - points[-1]
    direction = "LONG" if score > SIGNAL else "SHORT" if score < -SIGNAL else "HOLD"
    strength = 0 if direction == "HOLD" else min(100, abs(score))
    return {
        "direction": direction,
        "score": score / 100,
        "bullish_score": points[1] / 100,
        "bearish_score": points[-1] / 100,
        "strength": strength / 100,
        "reasons": reasons,
        "missing": [factor for factor in FACTORS if values[factor] is None],
    }


def orderflow_rows(inputs: Inputs, flow: Sequence[Row], micro: Sequence[Row]) -> list[Row]:
    """Rows of `orderflow_1m`, numbers as decimals."""
    flows = {row["timestamp_utc"]: row for row in flow}
    micros = {row["timestamp_utc"]: row for row in micro}
    bars: dict[str, Row] = {}
    if inputs.judge is not None:
        bars = {row["timestamp_utc"]: row for row in bars_rows(inputs.judge, "1m")}
    deviations = vwap_deviations(inputs.judge)
    profiles = [] if inputs.judge is None else profile_session_rows(inputs.judge, inputs.tick)
    rows = []
    for minute in sorted({*inputs.trades, *inputs.quoted_minutes}):
        if not inputs.is_closed(minute):
            break
        key = stamp(minute)
        flowing = flows.get(key, {})
        values = {
            "imbalance": flowing.get("imbalance"),
            "ofi_momentum": flowing.get("ofi_momentum"),
            "whale_trades": whale_balance(inputs, minute),
            "vwap_deviation": deviations.get(key),
            "depth_imbalance": micros.get(key, {}).get("depth_imbalance"),
            "buy_pressure": pressure(bars.get(key)),
            "profile_bias": bias_at(profiles, minute),
        }
        rows.append(inputs.head(minute) | verdict(values))
    return rows


def whale_balance(inputs: Inputs, minute: int) -> int | None:
    """Large trades bought less large trades sold."""
    bought, sold = whales(inputs, minute, 1), whales(inputs, minute, -1)
    return None if bought is None or sold is None else bought - sold


def pressure(bar: Row | None) -> Decimal | None:
    """Buyers' share of a bar."""
    if bar is None or not bar["volume"]:
        return None
    return 100 * Decimal(str(bar["buy_volume"])) / Decimal(str(bar["volume"]))


def bias_at(profiles: Sequence[Row], minute: int) -> str | None:
    """The bias of the latest profile that ended by the minute's end, ten minutes before at most."""
    end = minute + MINUTE_US
    for row in reversed(profiles):
        closed = row["timestamp_utc"]
        if closed <= stamp(end - PROFILE_US):
            is_recent = closed >= stamp(end - PROFILE_AGE_US - PROFILE_US)
            return str(row["bias"]) if is_recent else None
    return None
