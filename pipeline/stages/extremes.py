"""Poor and unfinished highs and lows of the session, by half hours.

Terms of J. P. Steidlmayer's Market Profile (CBOT, 1984). Its letters are the half hours (TPOs) of a
day, here the UTC day. A high at which two or more of them stopped is poor: it was left without the
single prints of a rejection. A high at which buyers and sellers both traded is unfinished: an
auction ends where one side alone is left. Lows mirror this.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import polars as pl

from pipeline.calc.price_rows import row_numbers
from pipeline.calc.tick_size import TickSize, looked_up, plain_text, settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import subtract
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, MINUTE_US, Closed, Context, Row, Stage

PERIOD_US = 30 * MINUTE_US
POOR = 2


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[extremes]` has no settings."""


class Extreme(msgspec.Struct):
    """The highest (or lowest) price of some time, and who traded in its price row.

    `row` is the text of floor(price / tick): it may be longer than 64 bits.
    """

    price: str
    row: str
    bought: bool
    sold: bool


class Period(msgspec.Struct):
    """The extremes of one half hour."""

    start: int
    high: Extreme
    low: Extreme


class Carry(msgspec.Struct):
    """The tick, half hours still open, and the closed ones of the session, oldest first."""

    tick: TickSize = msgspec.field(default_factory=TickSize)
    periods: list[Period] = []
    session: list[Period] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open half hours and judge the session at the end of each."""
    settled = settle(ticks, carry.tick, context)
    if isinstance(settled, TickSize):
        return Closed(Carry(settled), {"extremes_30m": []}, holds_back=True)
    ticks, tick, settled_tick = settled
    periods = _merge(carry.periods, _periods(ticks, tick))
    end = context.watermark_us
    session = list(carry.session)
    rows: list[Row] = []
    while periods and end is not None and periods[0].start + PERIOD_US <= end:
        period = periods.pop(0)
        if session and session[-1].start // DAY_US != period.start // DAY_US:
            session = []
        session.append(period)
        rows.append(_row(session, tick))
    return Closed(Carry(settled_tick, periods, session), {"extremes_30m": rows})


def _row(session: list[Period], tick: Decimal) -> Row:
    high, low = session[0].high, session[0].low
    for period in session[1:]:
        high, low = _higher(high, period.high), _lower(low, period.low)
    top, bottom = Decimal(high.price), Decimal(low.price)
    high_tpo = sum(subtract(top, Decimal(period.high.price)) <= tick for period in session)
    low_tpo = sum(subtract(Decimal(period.low.price), bottom) <= tick for period in session)
    return session[-1].start, (
        float(top),
        float(bottom),
        high_tpo,
        low_tpo,
        high_tpo >= POOR,
        low_tpo >= POOR,
        high.bought and high.sold,
        low.bought and low.sold,
    )


def _higher(first: Extreme, second: Extreme) -> Extreme:
    """The higher price; whoever traded in its row counts, be it before or after."""
    best = second if Decimal(second.price) > Decimal(first.price) else first
    return _joined(best, first, second)


def _lower(first: Extreme, second: Extreme) -> Extreme:
    best = second if Decimal(second.price) < Decimal(first.price) else first
    return _joined(best, first, second)


def _joined(best: Extreme, first: Extreme, second: Extreme) -> Extreme:
    if first.row != second.row:
        return best
    return Extreme(best.price, best.row, first.bought or second.bought, first.sold or second.sold)


def _merge(first: list[Period], second: list[Period]) -> list[Period]:
    """Half hours of both, in order of time."""
    found = {period.start: period for period in first}
    for new in second:
        old = found.get(new.start)
        if old is None:
            found[new.start] = new
        else:
            found[new.start] = Period(
                new.start, _higher(old.high, new.high), _lower(old.low, new.low)
            )
    return [found[start] for start in sorted(found)]


def _periods(ticks: Ticks, tick: Decimal) -> list[Period]:
    """The half hours of these trades."""
    row, is_buy = pl.col("row"), pl.col("side") > 0
    aggregates = []
    for name, price, edge in (
        ("high", pl.col("px").max(), row.max()),
        ("low", pl.col("px").min(), row.min()),
    ):
        here = row == edge
        aggregates += [
            price.alias(name),
            edge.alias(f"{name}_row"),
            (here & is_buy).any().alias(f"{name}_bought"),
            (here & ~is_buy).any().alias(f"{name}_sold"),
        ]
    grouped = (
        ticks.frame.with_columns(row_numbers(ticks, tick).alias("row"))
        .group_by((pl.col("ts") // PERIOD_US * PERIOD_US).alias("start"))
        .agg(*aggregates)
        .sort("start")
    )

    def extreme(row: dict[str, int], name: str) -> Extreme:
        # prices are compared, never shown: one text per value, whatever the exchange wrote
        text = plain_text(row[name], ticks.px_scale)
        edge = str(row[f"{name}_row"])
        return Extreme(text, edge, bool(row[f"{name}_bought"]), bool(row[f"{name}_sold"]))

    return [
        Period(row["start"], extreme(row, "high"), extreme(row, "low"))
        for row in grouped.iter_rows(named=True)
    ]


EXTREMES = Layer(
    "extremes_30m",
    "extremes",
    "jsonl",
    (
        Column("session_high", "float", "quote", "highest price since 00:00 UTC of the bar's day"),
        Column("session_low", "float", "quote", "lowest price since 00:00 UTC of the bar's day"),
        Column(
            "high_tpo",
            "int",
            "",
            "half hours of the session so far whose high lies within one tick of session_high; "
            "tick: instruments.toml, else the finest decimal place of the first 1000 trades",
        ),
        Column(
            "low_tpo",
            "int",
            "",
            "half hours of the session so far whose low lies within one tick of session_low",
        ),
        Column("poor_high", "bool", "", "high_tpo >= 2"),
        Column("poor_low", "bool", "", "low_tpo >= 2"),
        Column(
            "unfinished_high",
            "bool",
            "",
            "takers bought and takers sold in the price row floor(session_high / tick) in the "
            "session",
        ),
        Column(
            "unfinished_low",
            "bool",
            "",
            "takers bought and takers sold in the price row floor(session_low / tick) in the "
            "session",
        ),
    ),
    "One row per half hour with trades: how the session's high and low stand at its end.",
    span_us=PERIOD_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params
    return (Reach("trades", since="day"), *looked_up(None, tick))


STAGE = Stage(
    name="extremes",
    source="trades",
    layers=(EXTREMES,),
    params=Params,
    carry=Carry,
    fold=fold,
    uses_tick=True,
    reach=reach,
)
