"""What each manager is given of what a venue traded on a day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.equities.candidates import GROUP, by_venue
from pipeline.equities.positions import MANAGER
from pipeline.equities.venue_days import FLOOR_SLACK, NOWCAST, PUBLISHED, WEIGHTS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

BATCH_ROWS = 2_000_000
"""Rows that are looked at together."""

BATCH_HOLDERS = 100_000
"""Holders whose venues are looked up together. Memory, not results, depends on these two."""

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


def portions(
    venue_days: pl.DataFrame, holders: pl.DataFrame, broker_map: pl.DataFrame, params: Params
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Give every venue's day to its candidates, some symbols at a time.

    Args:
        venue_days: as of `venue_days.spread`, with `quarter`, `order_imbalance` and `known_day`;
            sorted by symbol, date and venue.
        holders: as `candidates.holders` gives them.
        broker_map: `broker_mpid`, `institution_cik`, `relationship_strength`.
        params: settings.

    Yields:
        The columns of `micro_institutional_flow` but `map_date`, and how many rows were left out
        because their confidence is too low.
    """
    for days, several in _by_symbols(venue_days, holders):
        candidates = by_venue(several, broker_map)
        most = candidates["strength"] * max(params.qualities)
        is_hopeless = most < params.min_confidence - _ROUNDING
        hopeless = _would_be(days, candidates.filter(is_hopeless))
        nothing, _ = _given(days.clear(), candidates.clear(), params)
        yield nothing, hopeless
        for rows, candidate in _paired(days, candidates.filter(~is_hopeless)):
            yield _given(rows, candidate, params)


def _by_symbols(
    venue_days: pl.DataFrame, holders: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Both frames, sorted by symbol, in parts that hold the same whole symbols."""
    sizes = (
        holders.group_by("symbol")
        .len()
        .join(venue_days.select("symbol").unique(), on="symbol")
        .sort("symbol")
        .with_columns(part=(pl.col("len").cum_sum() - pl.col("len")) // BATCH_HOLDERS)
    )
    for (_part,), group in sizes.group_by("part", maintain_order=True):
        names = group["symbol"].implode()
        is_in = pl.col("symbol").is_in(names)
        yield venue_days.filter(is_in), holders.filter(is_in)


def _would_be(venue_days: pl.DataFrame, candidates: pl.DataFrame) -> int:
    """How many rows with at least one share candidates would have, without making them.

    Of a candidate's days those count on which the venue traded enough for one share of his; the
    least such volume is looked for among the group's volumes in their order.
    """
    if not len(candidates):
        return 0
    days = (
        venue_days.join(candidates.select(GROUP).unique(), on=GROUP, how="semi")
        .sort(*GROUP, "shares")
        .with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))
    )
    spans = days.group_by(GROUP).agg(low=pl.col("place").min(), high=pl.col("place").max() + 1)
    rows = candidates.join(spans, on=GROUP)
    strength, whole = rows["strength"].to_numpy(), rows["whole"].to_numpy()
    volume = days["shares"].to_numpy()
    low, end = rows["low"].to_numpy().copy(), rows["high"].to_numpy()
    high = end.copy()
    while (low < high).any():
        middle = (low + high) // 2
        # where the search is over, `middle` may lie behind the last volume
        is_one = portion(strength, volume[np.minimum(middle, len(volume) - 1)], whole) >= 1
        is_open = low < high
        high = np.where(is_open & is_one, middle, high)
        low = np.where(is_open & ~is_one, middle + 1, low)
    return int((end - low).sum())


def portion(strength: Floats, volume: Ints, whole: Floats) -> Floats:
    """floor(D S / (1 + sum of S)), in whole shares."""
    found: Floats = np.floor(strength * volume / whole + FLOOR_SLACK)
    return found


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
    shares = portion(strength, volume, candidate["whole"].to_numpy())
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
