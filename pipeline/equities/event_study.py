"""Cumulative abnormal returns around a day."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

BEFORE, AFTER = 5, 20


def abnormal_returns(
    events: pl.DataFrame, prices: pl.DataFrame, benchmark: str
) -> tuple[pl.Series, pl.Series]:
    """Sum of a stock's daily returns less the benchmark's, sessions -5 to +20 around each event.

    Simple returns of adjusted closes, so the close of session -6 is needed. Session 0 is the first
    one of the benchmark on or after the event's day.

    Args:
        events: `symbol`, `anchor_date`.
        prices: `symbol`, `date`, `adj_close`.
        benchmark: the symbol to compare with.

    Returns:
        The sums, and the date of session +20; null unless both have all 27 closes.
    """
    rows = prices.filter(pl.col("adj_close") > 0).select("symbol", "date", "adj_close")
    market = rows.filter(pl.col("symbol") == benchmark).sort("date")
    days = market["date"]
    wanted = events["symbol"].unique().sort()
    index = pl.DataFrame({"symbol": wanted}).with_row_index("row")
    closes = np.full((len(wanted), len(days)), np.nan)
    found = rows.join(index, on="symbol").join(
        pl.DataFrame({"date": days}).with_row_index("day"), on="date"
    )
    closes[found["row"].to_numpy(), found["day"].to_numpy()] = found["adj_close"].to_numpy()
    zero = days.search_sorted(events["anchor_date"], side="left").cast(pl.Int64).to_numpy()
    span = np.arange(-BEFORE - 1, AFTER + 1)
    place = zero[:, None] + span
    is_inside = (place[:, 0] >= 0) & (place[:, -1] < len(days))
    place = np.where(is_inside[:, None], place, 0)
    row = events.select("symbol").join(index, on="symbol", how="left", maintain_order="left")["row"]
    if not len(days) or not len(events):
        nothing = pl.Series([None] * len(events))
        return nothing.cast(pl.Float64), nothing.cast(pl.Date)
    stock = closes[row.to_numpy()[:, None], place]
    level = market["adj_close"].to_numpy()[place]
    extra = stock[:, 1:] / stock[:, :-1] - level[:, 1:] / level[:, :-1]
    total = np.zeros(len(events))
    for column in extra.T:
        total = total + column
    total[~is_inside] = np.nan
    known = pl.Series(total).fill_nan(None)
    end = days.gather(place[:, -1])
    return known, pl.select(pl.when(known.is_not_null()).then(end)).to_series()
