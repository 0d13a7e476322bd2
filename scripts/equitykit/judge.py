"""How good a mapping is where the truth is known: ranks, calibration, flows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

EDGES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
"""Bins of confidence_score; the last holds both its ends."""

SURE = 0.90
"""confidence_score from which on a pair counts as found: q_value at most 0.10."""


@dataclass(frozen=True)
class Pairs:
    """All venues and managers: how strongly they are said to be related, and whether they are."""

    strength: Floats
    confidence: Floats
    is_home: Flags

    @classmethod
    def of(cls, broker_map: pl.DataFrame, routes: pl.DataFrame) -> Pairs:
        """Pairs that the map does not have count 0."""
        keys = ["broker_mpid", "institution_cik"]
        rows = routes.join(
            broker_map.select(*keys, "relationship_strength", "confidence_score"),
            on=keys,
            how="left",
            maintain_order="left",
        ).with_columns(pl.col("relationship_strength", "confidence_score").fill_null(0.0))
        return cls(
            rows["relationship_strength"].to_numpy(),
            rows["confidence_score"].to_numpy(),
            rows["is_home"].to_numpy(),
        )

    @property
    def auc(self) -> float | None:
        """How often a related pair is said to be stronger than one that is not; ties count half."""
        return auc(self.strength, self.is_home)

    @property
    def found(self) -> tuple[int, int]:
        """Pairs with a confidence of 0.90 or more, and how many of them are related."""
        is_found = self.confidence >= SURE
        return int(is_found.sum()), int((is_found & self.is_home).sum())

    def precision(self, k: int) -> float | None:
        """Of the k strongest the part that is related; ties at the end count by their part."""
        return precision(self.strength, self.is_home, k)

    def bins(self) -> list[tuple[float, float, int, float, int]]:
        """By bin of confidence: its ends, how many pairs, their mean confidence, how many true."""
        found = []
        for low, high in pairwise(EDGES):
            is_last = high == EDGES[-1]
            inside = (self.confidence >= low) & (
                (self.confidence <= high) if is_last else (self.confidence < high)
            )
            mean = float(self.confidence[inside].mean()) if inside.any() else float("nan")
            found.append((low, high, int(inside.sum()), mean, int((inside & self.is_home).sum())))
        return found

    def dealt_again(self, rng: np.random.Generator) -> Pairs:
        """The same strengths, given to other pairs."""
        order = rng.permutation(len(self.strength))
        return Pairs(self.strength[order], self.confidence[order], self.is_home)


def auc(score: Floats, is_true: Flags) -> float | None:
    """Area under the ROC curve, from ranks (Mann and Whitney); None without both kinds."""
    rank = pl.Series(score).rank("average").to_numpy()
    true, false = int(is_true.sum()), int((~is_true).sum())
    if not true or not false:
        return None
    return float((rank[is_true].sum() - true * (true + 1) / 2) / (true * false))


def precision(score: Floats, is_true: Flags, k: int) -> float | None:
    """Of the k highest the part that is true; of ties at the end, their part."""
    if not 0 < k <= len(score):
        return None
    least = np.sort(score)[-k]
    above, level = score > least, score == least
    left = k - int(above.sum())
    return float((is_true[above].sum() + left * is_true[level].mean()) / k)


@dataclass(frozen=True)
class Flows:
    """Flows that were attributed beside those that were.

    Attributes:
        rows: attributed rows.
        hit: of the shares attributed to a manager at a venue on a day, the part that it traded.
        reached: of the shares traded the part that was attributed to who traded them.
        hit_quarter: as `hit`, by symbol, manager and quarter over all venues.
        told: rows with a side, of a manager that did trade the symbol that day.
        right: of these the part whose side was right.
        right_shares: the same, weighted by shares.
    """

    rows: int
    hit: float
    reached: float
    hit_quarter: float
    told: int
    right: float
    right_shares: float


def flows(attributed: pl.DataFrame, truth: pl.DataFrame, routes: pl.DataFrame) -> Flows:
    """Compare attributed flows with the truth, over the days and symbols of the former."""
    days = attributed.select("symbol", "trade_date").unique()
    true = truth.join(days, on=["symbol", "trade_date"], how="semi")
    parts = routes.select("broker_mpid", "institution_cik", "share")
    keys = ["symbol", "trade_date", "institution_cik"]
    both = attributed.join(true.rename({"shares": "true"}), on=keys, how="left").join(
        parts, on=["broker_mpid", "institution_cik"], how="left"
    )
    real = (pl.col("true").abs() * pl.col("share")).fill_null(0).alias("real")
    both = both.with_columns(real, common=pl.min_horizontal("shares", real))
    given, common = _sum(both["shares"]), _sum(both["common"])
    group = ["symbol", "institution_cik", pl.col("trade_date").dt.truncate("1q").alias("quarter")]
    by_quarter = (
        attributed.group_by(group)
        .agg(pl.col("shares").sum())
        .join(
            true.group_by(group).agg(true=pl.col("shares").abs().sum()),
            on=["symbol", "institution_cik", "quarter"],
            how="left",
        )
        .with_columns(common=pl.min_horizontal("shares", pl.col("true").fill_null(0)))
    )
    told = both.filter(pl.col("flow_direction") != "unknown", pl.col("true").fill_null(0) != 0)
    is_right = (pl.col("flow_direction") == "buy") == (pl.col("true") > 0)
    right = told.select(is_right.alias("right"), "shares")
    return Flows(
        len(attributed),
        _part(common, given),
        _part(common, _sum(true["shares"].abs())),
        _part(_sum(by_quarter["common"]), given),
        len(told),
        _part(_sum(right["right"]), len(right)),
        _part(_sum(right.filter("right")["shares"]), _sum(right["shares"])),
    )


def _sum(values: pl.Series) -> float:
    return float(values.sum())


def _part(top: float, bottom: float) -> float:
    return top / bottom if bottom else float("nan")
