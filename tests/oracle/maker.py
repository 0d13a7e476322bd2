"""Signed-flow accumulators, their daily calibration, and the quotes they lead to.

Times are whole milliseconds. Every sum is `math.fsum`; nothing is carried but one decaying
value a signal, as the definition has it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

from .layers import Row

SECOND, DAY = 1000, 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_EXACT = 60
FEWEST_PAIRS = 60
IC_HORIZONS_S = (1, 5, 30, 60)
ON_GRID = 1e-9

DIRECTIONAL, OPPORTUNISTIC, MAKING = 1, 2, 3
CLUSTERS = (1, 2, 3)

MidAt = Callable[[int], float | None]
"""The mid as it was known just before a moment."""


def ms_of(stamp: datetime) -> int:
    """Whole milliseconds since 1970, finer digits cut off."""
    return (stamp - EPOCH) // timedelta(milliseconds=1)


def day_of(clock: int) -> date:
    """The UTC day of a moment."""
    return EPOCH.date() + timedelta(days=clock // DAY)


def midnight(day: date) -> int:
    """When a UTC day begins."""
    return (day - EPOCH.date()).days * DAY


# -- quotes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quote:
    """A valid best bid and offer, and since when its prices have not changed."""

    ts: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    mid_since: int
    bid_since: int
    ask_since: int

    @property
    def mid(self) -> float:
        """Halfway between bid and ask."""
        return (self.bid + self.ask) / 2

    @property
    def spread_bps(self) -> float:
        """The spread in units of 1e-4 of the mid, computed with the decimals of the prices."""
        bid, ask = exact(self.bid), exact(self.ask)
        with localcontext(prec=MOST_EXACT):
            return float(20_000 * (ask - bid) / (ask + bid))


def exact(value: float) -> Decimal:
    """The shortest decimal that is read as this double: what the exchange wrote."""
    return Decimal(repr(value))


@dataclass
class Quotes:
    """The valid quotes of an instrument in their order."""

    max_age_ms: int = 60 * SECOND
    quotes: list[Quote] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in a row of the `quote` layer; one that is not valid is passed over."""
        bid, bid_size, ask, ask_size = (row[n] for n in ("bid", "bid_size", "ask", "ask_size"))
        if None in (bid, bid_size, ask, ask_size):
            return
        if not (0 < bid < ask and bid_size > 0 and ask_size > 0):
            return
        ts = ms_of(row["ts"])
        mid_since = bid_since = ask_since = ts
        if self.quotes:
            last = self.quotes[-1]
            if exact(last.bid) + exact(last.ask) == exact(bid) + exact(ask):
                mid_since = last.mid_since
            if last.bid == bid:
                bid_since = last.bid_since
            if last.ask == ask:
                ask_since = last.ask_since
        self.quotes.append(Quote(ts, bid, bid_size, ask, ask_size, mid_since, bid_since, ask_since))
        self.times.append(ts)

    def at(self, t: int) -> Quote | None:
        """The last one strictly before `t`, unless it is too old."""
        place = bisect_left(self.times, t) - 1
        if place < 0 or t - self.times[place] > self.max_age_ms:
            return None
        return self.quotes[place]

    def mid_at(self, t: int) -> float | None:
        """Its mid."""
        quote = self.at(t)
        return None if quote is None else quote.mid


def read_quotes(rows: Iterable[Mapping[str, Any]], max_age_s: float = 60) -> Quotes:
    """The valid rows of the `quote` layer."""
    quotes = Quotes(round(max_age_s * SECOND))
    for row in rows:
        quotes.add(row)
    return quotes


# -- accumulators ------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """What the accumulators see of a trade."""

    clock: int
    size: float
    side: int
    cluster: int | None = None
    phi: int | None = None


@dataclass(frozen=True)
class Second:
    """The accumulators at the end of a second with a trade."""

    start: int
    skew: float
    hazard: float
    signed: tuple[float, float, float]

    @property
    def end(self) -> int:
        """The first moment behind it."""
        return self.start + SECOND


def decay(ms: int, tau_s: float) -> float:
    """What is left after a time."""
    return math.exp(-ms / SECOND / tau_s)


def additions(flow: Flow) -> tuple[float, float, float, float, float]:
    """What a trade adds: to the skew, to the hazard, and to the signed flow of each cluster."""
    signed = flow.size * flow.side
    return (
        signed if flow.phi == OPPORTUNISTIC else 0.0,
        flow.size if flow.phi == DIRECTIONAL else 0.0,
        signed if flow.cluster == CLUSTERS[0] else 0.0,
        signed if flow.cluster == CLUSTERS[1] else 0.0,
        signed if flow.cluster == CLUSTERS[2] else 0.0,
    )


def per_second(flows: Sequence[Flow], tau_s: float = 10) -> list[Second]:
    """Every second with a trade, the accumulators being 0 before the first."""
    seconds: list[Second] = []
    values = [0.0] * 5
    clock: int | None = None
    for i, flow in enumerate(flows):
        left = 1.0 if clock is None else decay(flow.clock - clock, tau_s)
        added = additions(flow)
        values = [value * left + more for value, more in zip(values, added, strict=True)]
        clock = flow.clock
        start = clock // SECOND * SECOND
        is_last = i + 1 == len(flows) or flows[i + 1].clock // SECOND * SECOND != start
        if is_last:
            left = decay(start + SECOND - clock, tau_s)
            skew, hazard, *signed = (value * left for value in values)
            seconds.append(Second(start, skew, hazard, (signed[0], signed[1], signed[2])))
    return seconds


# -- calibration -------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the middle two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def move_bps(mid_at: MidAt, start: int, horizon_s: float, end_of_day: int) -> float | None:
    """1e4·ln of the mid's change over the horizon, where it is known before the day ends."""
    end = start + round(horizon_s * SECOND)
    if end > end_of_day:
        return None
    before, after = mid_at(start), mid_at(end)
    return None if before is None or after is None else 1e4 * math.log(after / before)


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    dx, dy = centred(x), centred(y)
    xx, yy = math.fsum(a * a for a in dx), math.fsum(b * b for b in dy)
    if not xx or not yy:
        return None
    return math.fsum(a * b for a, b in zip(dx, dy, strict=True)) / math.sqrt(xx) / math.sqrt(yy)


def centred(values: Sequence[float]) -> list[float]:
    """Differences from the mean; exactly 0 where all are the same."""
    if len(set(values)) <= 1:
        return [0.0] * len(values)
    middle = mean(values)
    return [value - middle for value in values]


def line_through(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | None:
    """(a, g) of y = a + g·x by least squares; None where x does not vary."""
    dx = centred(x)
    xx = math.fsum(a * a for a in dx)
    if not xx:
        return None
    g = math.fsum(a * b for a, b in zip(dx, y, strict=True)) / xx
    return mean(y) - g * mean(x), g


def calibrate(
    flows: Sequence[Flow],
    mid_at: MidAt,
    end_of_day: int,
    *,
    tau_s: float = 10,
    horizon_s: float = 5,
) -> Row:
    """The fields of a model that come from a day's flow and what the mid did after it."""
    seconds = per_second(flows, tau_s)
    moves = [move_bps(mid_at, second.end, horizon_s, end_of_day) for second in seconds]
    pairs = [(s, r) for s, r in zip(seconds, moves, strict=True) if r is not None]
    if len(pairs) < FEWEST_PAIRS:
        none = dict.fromkeys(("sigma_bps", "b_raw_bps", "ic"))
        fitted = {"alpha": None, "k_tol": None, "beta_bps": 0.0, "gamma": 0.0}
        return {"n": len(pairs)} | fitted | none
    skews, hazards = [s.skew for s, _ in pairs], [s.hazard for s, _ in pairs]
    rs = [r for _, r in pairs]
    k_tol = median(hazards)
    sigma_bps = math.sqrt(mean([d * d for d in centred(rs)]))
    alpha, b_raw_bps = lean(skews, rs)
    return {
        "n": len(pairs),
        "alpha": alpha,
        "k_tol": k_tol,
        "beta_bps": min(max(b_raw_bps or 0.0, 0.0), sigma_bps),
        "gamma": widening([max(0.0, h - k_tol) for h in hazards], [abs(r) for r in rs]),
        "sigma_bps": sigma_bps,
        "b_raw_bps": b_raw_bps,
        "ic": [
            [evidence(seconds, c, mid_at, end_of_day, horizon) for horizon in IC_HORIZONS_S]
            for c in range(len(CLUSTERS))
        ],
    }


def lean(skews: Sequence[float], rs: Sequence[float]) -> tuple[float | None, float | None]:
    """Alpha, and the slope without intercept of r on tanh(alpha·skew); None without a skew."""
    power = mean([s * s for s in skews])
    if not power:
        return None, None
    alpha = 1 / math.sqrt(power)
    us = [math.tanh(alpha * s) for s in skews]
    return alpha, math.fsum(u * r for u, r in zip(us, rs, strict=True)) / math.fsum(
        u * u for u in us
    )


def widening(x: Sequence[float], sizes: Sequence[float]) -> float:
    """Gamma: by what share of the usual move one unit of x makes the move larger."""
    fitted = line_through(x, sizes)
    if fitted is None or fitted[0] <= 0:
        return 0.0
    return max(0.0, fitted[1] / fitted[0])


def evidence(
    seconds: Sequence[Second], at: int, mid_at: MidAt, end_of_day: int, horizon_s: float
) -> float | None:
    """The correlation of one cluster's signed flow with the move over one horizon."""
    moves = [move_bps(mid_at, second.end, horizon_s, end_of_day) for second in seconds]
    pairs = [(s.signed[at], r) for s, r in zip(seconds, moves, strict=True) if r is not None]
    if len(pairs) < FEWEST_PAIRS:
        return None
    return correlation([x for x, _ in pairs], [r for _, r in pairs])


# -- quotes to make ----------------------------------------------------------------------

Inventory = Sequence[tuple[int, float]]
"""Time and position, in file order."""

NOTHING: Row = dict.fromkeys(
    ("mid", "sig_skew", "sig_hazard", "p_micro", "width", "p_final", "bid", "ask", "inventory")
)


@dataclass(frozen=True)
class MakerSettings:
    """The table [maker]."""

    width_cap: float = 5
    base_bps: float = 2
    theta_ticks: float = 2
    inventory_target: float = 0


MAKER = MakerSettings()


def position_before(inventory: Inventory, end: int) -> float | None:
    """The newest position stamped strictly before `end`; of equal stamps the later record."""
    best: tuple[int, float] | None = None
    for ts, position in inventory:
        if ts < end and (best is None or ts >= best[0]):
            best = ts, position
    return None if best is None else float(best[1])


def model_for(models: Mapping[date, Row], day: date) -> Row | None:
    """The newest model that was valid on a day."""
    valid = [start for start in models if start <= day]
    return models[max(valid)] if valid else None


def maker_row(
    second: Second,
    quote: Quote | None,
    model: Row | None,
    position: float | None,
    tick: Decimal,
    settings: MakerSettings = MAKER,
) -> Row:
    """The nine columns of a second."""
    row = NOTHING | {"inventory": position, "mid": None if quote is None else quote.mid}
    if model is None:
        return row
    row |= {"sig_skew": second.skew, "sig_hazard": second.hazard}
    if quote is None:
        return row
    alpha, k_tol = model["alpha"], model["k_tol"]
    pull = 0.0 if alpha is None else model["beta_bps"] * math.tanh(alpha * second.skew)
    excess = 0.0 if k_tol is None else model["gamma"] * max(0.0, second.hazard - k_tol)
    p_micro = quote.mid * (1 + 1e-4 * pull)
    width = quote.mid * settings.base_bps * 1e-4 * min(settings.width_cap, 1 + excess)
    held = 0.0 if position is None else position - settings.inventory_target
    p_final = p_micro - settings.theta_ticks * float(tick) * held
    bid, ask = rounded(p_final - width / 2, p_final + width / 2, quote, tick)
    prices = {"p_micro": p_micro, "width": width, "p_final": p_final, "bid": bid, "ask": ask}
    return row | prices


def rounded(low: float, high: float, quote: Quote, tick: Decimal) -> tuple[float, float]:
    """Down and up to whole ticks, a tick or more away from the other side's best price."""
    with localcontext(prec=MOST_EXACT):
        down = Decimal(math.floor(low / float(tick) + ON_GRID))
        up = Decimal(math.ceil(high / float(tick) - ON_GRID))
        bid = min(down, exact(quote.ask) / tick - 1)
        ask = max(up, exact(quote.bid) / tick + 1)
        return on_tick(bid, tick), on_tick(ask, tick)


def on_tick(ticks: Decimal, tick: Decimal) -> float:
    """A price of so many ticks, with the decimals of the tick."""
    places = tick.normalize().as_tuple().exponent
    assert isinstance(places, int)
    return float((ticks * tick).quantize(Decimal(1).scaleb(min(0, places)), ROUND_HALF_EVEN))


def maker_rows(
    flows: Sequence[Flow],
    quotes: Quotes,
    models: Mapping[date, Row],
    watermark: int,
    tick: Decimal,
    *,
    inventory: Inventory = (),
    head: Mapping[str, Any] | None = None,
    tau_s: float = 10,
    settings: MakerSettings = MAKER,
) -> list[Row]:
    """Rows of `maker_1s`: a row each second with a trade that is over for every input.

    `head` are the three keys that follow the time.
    """
    rows = []
    for second in per_second(flows, tau_s):
        if second.end > watermark:
            break
        model = model_for(models, day_of(second.start))
        position = position_before(inventory, second.end)
        stamp = EPOCH + timedelta(milliseconds=second.start)
        row = {"timestamp_utc": stamp.strftime("%Y-%m-%dT%H:%M:%SZ")} | dict(head or {})
        rows.append(row | maker_row(second, quotes.at(second.end), model, position, tick, settings))
    return rows
