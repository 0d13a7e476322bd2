"""Share splits between quarter ends, so that a split is not taken for buying or selling.

The price that a holder could have sold at falls by the split, what the holding is worth does not.
From one quarter's last session to the next the ratio of prices as traded is therefore compared
with that of adjusted closes; what remains is 1 up to a dividend, or close to a split's ratio.
Prices as traded are the closes; where these show nothing they may have been adjusted by who sold
them, and then the dollars per share in 13F filings tell, if three managers or more report them.
A spin-off worth a fifth or more of a company can look like a split.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.equities import quarters

Floats = npt.NDArray[np.float64]

LEAST_MANAGERS = 3
TOLERANCE = 0.03
"""How far, in logarithms, a ratio may be from a split's: dividends and coarse prices."""

_WHOLE = [(n, 1) for n in range(2, 101)]
_BROKEN = [(5, 4), (4, 3), (3, 2), (5, 3), (5, 2)]
RATIOS = sorted(
    [*_WHOLE, *_BROKEN, *((b, a) for a, b in [*_WHOLE, *_BROKEN])],
    key=lambda pair: pair[0] / pair[1],
)
"""Splits that occur: new shares, old shares."""

_LOGS: Floats = np.array([math.log(top / bottom) for top, bottom in RATIOS])


def factors(prices: pl.DataFrame | None, holdings: pl.DataFrame) -> pl.DataFrame:
    """The splits between the ends of neighbouring quarters.

    Args:
        prices: `symbol`, `date`, `close`, `adj_close`; without them no split is known.
        holdings: as in `positions.Positions`.

    Returns:
        `symbol`, `quarter`, `top`, `bottom`: a share at the end of the quarter before has become
        top / bottom shares; quarters without a split have no row. Sorted.
    """
    if prices is None or not len(prices):
        return pl.DataFrame(
            schema={
                "symbol": pl.String,
                "quarter": pl.Int32,
                "top": pl.Int64,
                "bottom": pl.Int64,
            }
        )
    ends = (
        prices.filter(pl.col("close") > 0, pl.col("adj_close") > 0)
        .with_columns(quarter=quarters.number(pl.col("date")))
        .sort("symbol", "date")
        .group_by("symbol", "quarter", maintain_order=True)
        .agg(pl.col("close", "adj_close").last())
        .join(_told(holdings), on=["symbol", "quarter"], how="left")
    )
    pairs = ends.join(
        ends.with_columns(pl.col("quarter") + 1), on=["symbol", "quarter"], suffix="_before"
    ).sort("symbol", "quarter")
    worth = pairs["adj_close"].to_numpy() / pairs["adj_close_before"].to_numpy()
    traded = nearest(pairs["close_before"].to_numpy() / pairs["close"].to_numpy() * worth)
    told = (pairs["told_before"] / pairs["told"]).fill_null(float("nan")).to_numpy()
    place = np.where(traded >= 0, traded, nearest(told * worth))
    split = np.array([(0, 0), *RATIOS], np.int64)[place + 1]
    return (
        pairs.select("symbol", "quarter")
        .with_columns(top=pl.Series(split[:, 0]), bottom=pl.Series(split[:, 1]))
        .filter(pl.col("top") > 0)
    )


def _told(holdings: pl.DataFrame) -> pl.DataFrame:
    """The median of dollars per share over managers, where enough of them report it."""
    return (
        holdings.filter(pl.col("value") > 0)
        .group_by("symbol", "quarter")
        .agg(told=(pl.col("value") / pl.col("shares")).median(), managers=pl.len())
        .filter(pl.col("managers") >= LEAST_MANAGERS)
        .drop("managers")
    )


def nearest(ratio: Floats) -> npt.NDArray[np.int64]:
    """The place in `RATIOS` of the split that a ratio stands for, -1 for none and for NaN."""
    logs = np.log(ratio)
    above = np.clip(np.searchsorted(_LOGS, logs), 1, len(_LOGS) - 1)
    place = np.where(logs - _LOGS[above - 1] < _LOGS[above] - logs, above - 1, above)
    return np.where(np.abs(logs - _LOGS[place]) <= TOLERANCE, place, -1)
