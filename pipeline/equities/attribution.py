"""Venue volume given to the managers it may have come from, day by day.

Of the D shares a venue m traded of a symbol on a day, a manager i that holds the symbol, or has
just sold out of it, is given floor(D S_mi / (1 + sum of S_mj)), with S the strength of their
relationship and the sum over all such managers j; the rest stays with nobody. The side is a guess
from the quarter's change of the manager's position (once its 13F is known) and the day's order
imbalance. Statistical association, not identification.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.equities import NOTICE, quarters, splits
from pipeline.equities.candidates import GROUP, by_venue, holders
from pipeline.equities.positions import MANAGER, changes, resolve
from pipeline.equities.sessions import Days, trading_days
from pipeline.equities.venue_days import (
    FLOOR_SLACK,
    NOWCAST,
    PUBLISHED,
    WEIGHTS,
    Volumes,
    daily,
    nowcast,
    spread,
    weekly,
)
from pipeline.layers import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

BATCH_ROWS = 2_000_000
"""Rows that are looked at together; memory, not results, depends on it."""

_ROUNDING = 1e-12


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[attribution]`.

    Attributes:
        as_of: only what was known by the end of this day; null: everything there is.
        min_confidence: rows below it are left out, and counted.
        nowcast_cap: the most that a nowcast may be confident.
        nowcast_days: a nowcast's last published week began less than so many days before.
        off_exchange_lag_days: when a day's off-exchange volume is known, in days after it.
        stale_quarters: a manager's report may be so many quarters older than the day's.
        qualities: confidence in a day's volume, by what the week was spread with: off-exchange
            volume, consolidated volume, IEX volume, equal parts.
        change_weight, imbalance_weight: what the sign of the quarter's change and the order
            imbalance count in g; `imbalance_alone` while no change is known.
        imbalance_full: the order imbalance that counts in full.
        side_from: from this |g| on a side is told.
    """

    as_of: date | None = None
    min_confidence: Share = 0.0
    nowcast_cap: Share = 0.5
    nowcast_days: Annotated[int, msgspec.Meta(ge=8)] = 49
    off_exchange_lag_days: Annotated[int, msgspec.Meta(ge=0)] = 1
    stale_quarters: Annotated[int, msgspec.Meta(ge=0)] = 2
    qualities: tuple[Share, Share, Share, Share] = (0.9, 0.85, 0.8, 0.7)
    change_weight: Share = 0.6
    imbalance_weight: Share = 0.4
    imbalance_alone: Share = 0.5
    imbalance_full: Annotated[float, msgspec.Meta(gt=0)] = 0.2
    side_from: Share = 0.2


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


def attribute(
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
) -> pl.DataFrame:
    """The `flows` of `attributed`."""
    return attributed(
        ats,
        off_exchange,
        iex,
        calendar,
        filings,
        filing_list,
        broker_map,
        classification,
        params,
        prices,
    ).flows


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

    Symbols do not touch each other: those of a large market can be asked for in parts, which
    bounds the memory.

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
    several = by_venue(
        holders(known, moved, asked, settings.stale_quarters).join(
            venue_days.select("symbol").unique(), on="symbol", how="semi"
        ),
        broker_map,
    )
    map_date = broker_map["as_of"].max() if "as_of" in broker_map.columns else None
    parts, dropped = [], 0
    for rows, candidate in _paired(venue_days, several):
        part, below = _given(rows, candidate, settings)
        parts.append(part)
        dropped += below
    flows = pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA).drop("map_date")
    flows = flows.with_columns(map_date=pl.lit(map_date, pl.Date))
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


def _paired(
    venue_days: pl.DataFrame, several: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each venue's day beside each of its candidates, row by row, a batch at a time."""
    groups = (
        several.group_by(GROUP, maintain_order=True)
        .agg(number=pl.len())
        .with_columns(start=pl.col("number").cum_sum() - pl.col("number"))
    )
    rows = venue_days.join(groups, on=GROUP, how="inner", maintain_order="left")
    number = rows["number"].cast(pl.Int64).to_numpy()
    start = rows["start"].cast(pl.Int64).to_numpy()
    ends = np.cumsum(number)
    low = 0
    while low < len(rows):
        done = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + BATCH_ROWS, side="right")))
        counts = number[low:high]
        first = np.repeat(start[low:high] - (ends[low:high] - counts - done), counts)
        place = first + np.arange(len(first))
        yield rows[np.repeat(np.arange(low, high), counts)], several[place]
        low = high


def _given(rows: pl.DataFrame, candidate: pl.DataFrame, params: Params) -> tuple[pl.DataFrame, int]:
    """What each candidate is given; and how many rows were not confident enough."""
    volume, strength = rows["shares"].to_numpy(), candidate["strength"].to_numpy()
    shares = np.floor(strength * volume / candidate["whole"].to_numpy() + FLOOR_SLACK)
    tendency = lean(
        candidate["sign"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        rows["order_imbalance"].fill_null(float("nan")).to_numpy(),
        params,
    )
    quality = np.array(params.qualities)[rows["weights"].to_numpy()]
    sure = strength * quality * (0.5 + 0.5 * np.abs(tendency))
    is_nowcast = rows["is_nowcast"].to_numpy()
    sure = np.where(is_nowcast, np.minimum(sure, params.nowcast_cap), sure)
    is_there = shares >= 1
    is_sure = sure >= params.min_confidence - _ROUNDING
    week = rows["week_shares"].to_numpy()
    trades = np.floor(rows["week_trades"].to_numpy() * (shares / week) + FLOOR_SLACK)
    side = np.where(np.abs(tendency) < params.side_from - _ROUNDING, 0, np.sign(tendency))
    found = pl.DataFrame(
        {
            "symbol": rows["symbol"],
            "trade_date": rows["date"],
            "institution_id": candidate[MANAGER],
            "institution_cik": candidate[MANAGER],
            "broker_mpid": rows["mpid"],
            "flow_direction": pl.Series(["sell", "unknown", "buy"]).gather(
                side.astype(np.int64) + 1
            ),
            "shares": shares.astype(np.int64),
            "trades": trades.astype(np.int64),
            "attribution_confidence": sure,
            "source": pl.Series([f"finra_ats/{name}" for name in WEIGHTS]).gather(rows["weights"]),
            "venue_id": rows["mpid"],
            "mode": pl.Series([PUBLISHED, NOWCAST]).gather(is_nowcast.astype(np.int64)),
            "available_date": _latest(rows, candidate),
        }
    )
    return found.filter(pl.Series(is_there & is_sure)), int((is_there & ~is_sure).sum())


def _latest(rows: pl.DataFrame, candidate: pl.DataFrame) -> pl.Series:
    """When all that a row stands on was known."""
    several = rows.select("available_date", "known_day").with_columns(candidate["known_date"])
    return several.select(pl.max_horizontal(pl.all()).alias("available_date")).to_series()


def lean(sign: Floats, imbalance: Floats, params: Params) -> Floats:
    """g, from -1 (selling) to 1 (buying).

    Args:
        sign: of the quarter's change of position, NaN where that is not known.
        imbalance: the day's order imbalance, NaN where it is not known; that counts 0.
        params: settings.
    """
    told = np.clip(np.nan_to_num(imbalance) / params.imbalance_full, -1.0, 1.0)
    with_change = params.change_weight * sign + params.imbalance_weight * told
    return np.where(np.isnan(sign), params.imbalance_alone * told, with_change)
