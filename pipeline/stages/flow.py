"""Order flow at the touch by minute: imbalance, OFI, OFI of the first five levels.

A row is one minute with a quote. Order flow imbalance (OFI) adds what each event brought to the
best bid and took from the best ask,

    e = 1{bid >= bid'} qb - 1{bid <= bid'} qb' - 1{ask <= ask'} qa + 1{ask >= ask'} qa'

(a prime is the event before), after R. Cont, A. Kukanov and S. Stoikov, "The Price Impact of Order
Book Events", Journal of Financial Econometrics 12 (2014). Levels 2 to 5 by rank, as in R. Cont,
M. Cucuringu and C. Zhang, "Cross-Impact of Order Flow Imbalance in Equity Markets", Quantitative
Finance 23 (2023). It goes with the price of the same minute; it does not foretell the next.
"""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import numpy as np

from pipeline.calc.standing import STANDS_US, Floats, Ints, Minutes, divided, plain
from pipeline.calc.touch import COLUMNS, Touch, imbalance
from pipeline.calc.whales import whale_trades
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Row, Stage

RANKS = 5
MOMENTUM_US = 5 * MINUTE_US
_ROUNDING = 1e-12
_TERMS = tuple(f"ofi_{rank}" for rank in range(1, RANKS + 1))


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[flow]`; `whale_notional` in quote currency."""

    whale_notional: Decimal = Decimal(100_000)

    def __post_init__(self) -> None:
        """Refuse a size that is none."""
        check_positive(whale_notional=self.whale_notional)


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """What a minute's normalised OFI was."""

    start: int
    ofi_norm: float


class Carry(msgspec.Struct):
    """Normalised OFI of the clock minutes that later means may still need."""

    recent: list[Mark] = []


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Describe the order flow of each minute of the window."""
    quotes = joined.frames["quote"]
    touch = Touch.of(quotes)
    is_there = touch.is_there
    minutes = Minutes.of(quotes["ts"].to_numpy(), joined.start_us)
    last = minutes.last(is_there)
    pressure = imbalance(touch.bid_size, touch.ask_size)
    ofi, norm = _sums(minutes, terms(minutes.ts, touch))
    columns = zip(
        minutes.start.tolist(),
        last.tolist(),
        plain(minutes.means(pressure)),
        plain(pressure[last]),
        plain(ofi),
        plain(norm),
        minutes.counts(is_there).tolist(),
        quotes["source"].gather(last.clip(0)).to_list(),
        strict=True,
    )
    levels = _levels(joined)
    whales = whale_trades(joined.known.get("trades"), context.params.whale_notional)
    recent = carry.recent
    rows: list[Row] = []
    for start, place, mean, end, total, share, updates, source in columns:
        if place < 0:
            continue
        recent = [mark for mark in recent if mark.start > start - MOMENTUM_US]
        if share is not None:
            recent.append(Mark(start, share))
        momentum = math.fsum(mark.ofi_norm for mark in recent) / len(recent) if recent else None
        flows = (mean, end, total, share, momentum, levels.get(start), updates, source)
        rows.append((start, (*flows, *whales.of(start))))
    return Closed(Carry(recent), {"flow_1m": rows})


def terms(ts: Ints, touch: Touch) -> Floats:
    """e of each quote and the one before it; NaN unless both are whole and at most 60 s apart."""
    found = np.full(len(ts), np.nan)
    if len(ts):
        bid, bid_size, ask, ask_size = (column[1:] for column in touch)
        old_bid, old_bid_size, old_ask, old_ask_size = (column[:-1] for column in touch)
        bids = np.where(bid >= old_bid, bid_size, 0) - np.where(bid <= old_bid, old_bid_size, 0)
        asks = np.where(ask >= old_ask, old_ask_size, 0) - np.where(ask <= old_ask, ask_size, 0)
        is_whole = ~np.isnan(sum(touch))
        is_pair = is_whole[1:] & is_whole[:-1] & (ts[1:] - ts[:-1] <= STANDS_US)
        found[1:] = np.where(is_pair, bids + asks, np.nan)
    return found


def _sums(minutes: Minutes, changes: Floats) -> tuple[Floats, Floats]:
    """By minute the sum of the terms, and that over the sum of their sizes."""
    total, size = minutes.sums(changes), minutes.sums(np.abs(changes))
    # what is left of terms that cancel is rounding, and its sign would be noise
    total = np.where(np.abs(total) <= _ROUNDING * size, 0.0, total)
    norm = divided(total, size)
    return np.where(minutes.counts(~np.isnan(changes)) > 0, total, np.nan), norm


def _levels(joined: Joined) -> dict[int, list[float | None]]:
    """OFI by rank of the minutes that have any."""
    if "book_events" not in joined.known:
        return {}
    events = joined.known["book_events"]
    minutes = Minutes.of(events["ts"].to_numpy(), joined.start_us)
    by_rank = [plain(_sums(minutes, events[name].to_numpy())[0]) for name in _TERMS]
    sums = zip(minutes.start.tolist(), zip(*by_rank, strict=True), strict=True)
    return {start: list(each) for start, each in sums if any(e is not None for e in each)}


FLOW = Layer(
    "flow_1m",
    "flow",
    "jsonl",
    (
        Column(
            "imbalance",
            "float",
            "",
            "(bid_size - ask_size) / (bid_size + ask_size) of the best quote, weighted by the time "
            "it stood in the minute (each at most 60 s); null without sizes",
        ),
        Column(
            "imbalance_last",
            "float",
            "",
            "the same of the minute's last quote; null without sizes",
        ),
        Column(
            "ofi",
            "float",
            "base",
            "sum of e over quotes that follow another by at most 60 s, e = [bid >= bid'] qb - "
            "[bid <= bid'] qb' - [ask <= ask'] qa + [ask >= ask'] qa' (prime: the quote before); "
            "null if there is no such pair or sizes are missing",
        ),
        Column(
            "ofi_norm",
            "float",
            "",
            "sum of e / sum of |e|, -1 to 1; null as ofi, or where nothing changed",
        ),
        Column(
            "ofi_momentum",
            "float",
            "",
            "mean of ofi_norm over the last five clock minutes, this one included, those without "
            "left out; null if none has one",
        ),
        Column(
            "ofi_levels",
            "list",
            "base",
            "sum of e by rank for the book's levels 1 (best) to 5 over all its events, null for a "
            "rank that was never there; null in a minute without a pair of book events",
        ),
        Column("updates", "int", "", "number of quotes in the minute"),
        Column("source", "string", "", "where quotes come from: quotes, book or tickers"),
        Column(
            "whale_buy_trades",
            "int",
            "",
            "trades >= whale_notional (100 000) where the taker bought; null without trades",
        ),
        Column("whale_sell_trades", "int", "", "the same where the taker sold"),
    ),
    "One row per minute with a quote: who leaned on the best prices, and how hard.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params, tick
    return (
        Reach("quote", behind_us=MOMENTUM_US - MINUTE_US + STANDS_US),
        Reach("book_events"),
        Reach("trades"),
    )


STAGE = Stage(
    name="flow",
    inputs=(
        Input("quote", (*COLUMNS, "source"), behind_us=STANDS_US),
        Input("book_events", _TERMS, required=False),
        Input("trades", ("notional", "side"), required=False),
    ),
    layers=(FLOW,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
