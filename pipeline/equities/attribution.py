"""Venue volume given to the managers it may have come from, day by day.

Of the D shares a venue m traded of a symbol on a day, a manager i that holds the symbol, or has
just sold out of it, is given floor(D S_mi / (1 + sum of S_mj)), with S the strength of their
relationship and the sum over all such managers j; the rest stays with nobody. The side is a guess
from the quarter's change of the manager's position (once its 13F is known) and the day's order
imbalance. Statistical association, not identification.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import polars as pl

from pipeline.equities import NOTICE, quarters, splits
from pipeline.equities.candidates import holders
from pipeline.equities.portions import Params, portions
from pipeline.equities.positions import changes, resolve
from pipeline.equities.sessions import Days, trading_days
from pipeline.equities.venue_days import Volumes, daily, nowcast, spread, weekly
from pipeline.layers import Column

__all__ = ["COLUMNS", "SCHEMA", "Attributed", "Params", "attributed"]

COLUMNS = (
    Column("symbol", "string", "", "as FINRA names it"),
    Column("trade_date", "date", "New York", "the day the shares are put to"),
    Column("institution_id", "string", "", "the manager's entity_id; its CIK"),
    Column("institution_cik", "string", "", "the 13F manager, ten digits"),
    Column("broker_mpid", "string", "", "the venue"),
    Column(
        "flow_direction",
        "string",
        "",
        'a guess: "buy" or "sell" by the sign of g = 0.6 sgn(change of position in the quarter) + '
        '0.4 clip(order imbalance / 0.2, -1, 1), "unknown" where |g| < 0.2; while the change is '
        "not known g = 0.5 clip(order imbalance / 0.2, -1, 1)",
    ),
    Column(
        "shares",
        "int",
        "shares",
        "floor(D S / (1 + sum of S)): the venue's volume of the day D, S the relationship's "
        "strength, the sum over all managers that hold the symbol or have just sold it; " + NOTICE,
    ),
    Column(
        "trades", "int", "", "the week's trades at the venue x shares / its shares, rounded down"
    ),
    Column(
        "attribution_confidence",
        "float",
        "",
        "S x F x (0.5 + 0.5 |g|), F 0.9, 0.85, 0.8, 0.7 by source; at most 0.5 for a nowcast",
    ),
    Column(
        "source",
        "string",
        "",
        '"finra_ats/" and what spread the week over its days: regsho, consolidated, iex, equal',
    ),
    Column("venue_id", "string", "", "the venue, as broker_mpid"),
    Column("mode", "string", "", '"PUBLISHED", or "NOWCAST" while the venue\'s week is not public'),
    Column(
        "available_date",
        "date",
        "UTC",
        "the first day whose evening knew all that this row stands on, but for the map",
    ),
    Column("map_date", "date", "UTC", "as_of of the map; a study must not look before it either"),
)
"""`micro_institutional_flow`, by symbol, trade_date, broker_mpid and institution_cik."""

SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "trade_date": pl.Date(),
    "institution_id": pl.String(),
    "institution_cik": pl.String(),
    "broker_mpid": pl.String(),
    "flow_direction": pl.String(),
    "shares": pl.Int64(),
    "trades": pl.Int64(),
    "attribution_confidence": pl.Float64(),
    "source": pl.String(),
    "venue_id": pl.String(),
    "mode": pl.String(),
    "available_date": pl.Date(),
    "map_date": pl.Date(),
}


class Attributed(NamedTuple):
    """What attribution found.

    Attributes:
        flows: the columns of `COLUMNS`.
        dropped: rows left out because their confidence is below `min_confidence`.
        undated: weeks of a venue and symbol without a trading day in the calendar.
    """

    flows: pl.DataFrame
    dropped: int
    undated: int


def attributed(
    ats: pl.DataFrame,
    off_exchange: pl.DataFrame,
    iex: pl.DataFrame,
    calendar: Days,
    filings: pl.DataFrame,
    filing_list: pl.DataFrame,
    broker_map: pl.DataFrame,
    classification: pl.DataFrame,
    params: Params | None = None,
    prices: pl.DataFrame | None = None,
) -> Attributed:
    """Give venue volume to managers.

    Symbols do not touch each other: those of a large market can be asked for in parts, so that
    the result of each fits into memory.

    Args:
        ats: `week_start`, `symbol`, `mpid`, `shares`, `trades`, `published`.
        off_exchange: `date`, `symbol`, `total_volume`; of Reg SHO.
        iex: `date`, `symbol`, `matched_shares`.
        calendar: the market's trading days.
        filings: as for `positions.resolve`.
        filing_list: as for `positions.resolve`.
        broker_map: `broker_mpid`, `institution_cik`, `relationship_strength`, `as_of`.
        classification: `symbol`, `trade_date`, `order_imbalance`, `total_buy_volume`,
            `total_sell_volume`, `total_neutral_volume`, and `available_date` if it is not the
            day itself.
        params: settings; the defaults if None.
        prices: `symbol`, `date`, `close`, `adj_close`; without them a split counts as buying.
    """
    settings = params or Params()
    as_of, days = settings.as_of, trading_days(calendar)
    day_rows = _known_days(classification, as_of)
    volumes = _volumes(off_exchange, iex, day_rows, as_of, settings.off_exchange_lag_days)
    weeks = weekly(ats, as_of)
    published = spread(weeks, volumes, days)
    recent = nowcast(
        weeks,
        volumes.regsho,
        days,
        lag_days=settings.off_exchange_lag_days,
        most_days=settings.nowcast_days,
    )
    venue_days = (
        pl.concat([published.rows, recent])
        .with_columns(quarter=quarters.number(pl.col("date")))
        .join(day_rows, on=["symbol", "date"], how="left")
        .sort("symbol", "date", "mpid")
    )
    known = resolve(filings, filing_list, as_of)
    if prices is not None and as_of is not None:
        prices = prices.filter(pl.col("date") <= as_of)
    moved = changes(known, splits.factors(prices, known.holdings))
    asked = venue_days["quarter"].unique().sort().to_list()
    several = holders(known, moved, asked, settings.stale_quarters)
    map_date = broker_map["as_of"].max() if "as_of" in broker_map.columns else None
    parts, dropped = [pl.DataFrame(schema=SCHEMA).drop("map_date")], 0
    for part, below in portions(venue_days, several, broker_map, settings):
        parts.append(part)
        dropped += below
    flows = pl.concat(parts).with_columns(map_date=pl.lit(map_date, pl.Date))
    return Attributed(flows.select(list(SCHEMA)), dropped, published.undated)


def _known_days(classification: pl.DataFrame, as_of: date | None) -> pl.DataFrame:
    """Order imbalance and volume of each symbol and day, and when they are known."""
    is_told = "available_date" in classification.columns
    told = pl.col("available_date" if is_told else "trade_date")
    volume = pl.sum_horizontal(
        "total_buy_volume", "total_sell_volume", "total_neutral_volume"
    ).cast(pl.Float64)
    rows = classification.select(
        "symbol",
        pl.col("order_imbalance").cast(pl.Float64),
        date="trade_date",
        volume=volume,
        known_day=pl.coalesce(told, "trade_date"),
    )
    return rows if as_of is None else rows.filter(pl.col("known_day") <= as_of)


def _volumes(
    off_exchange: pl.DataFrame,
    iex: pl.DataFrame,
    day_rows: pl.DataFrame,
    as_of: date | None,
    lag_days: int,
) -> Volumes:
    frames = Volumes(
        daily(off_exchange, "date", pl.col("total_volume")),
        daily(day_rows, "date", pl.col("volume")),
        daily(iex, "date", pl.col("matched_shares")),
    )
    if as_of is None:
        return frames
    known = pl.col("date") + pl.duration(days=lag_days) <= as_of
    return Volumes(*(frame.filter(known) for frame in frames))
