"""What a symbol's microstructure said over a period, in one row, and how far to trust it.

    micro_confidence = coverage (0.4 flow score + 0.3 Q_vpin + 0.2 Q_classification + 0.1 Q_lambda)

with Q the mean over the days with a metrics row of 1 for HIGH, 0.6 for MEDIUM, 0.2 for LOW and 0
for what is null; at most 0.5 without institutional flows or with nowcast ones.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.equities import NOTICE
from pipeline.equities.sessions import Days, trading_days
from pipeline.equities.venue_days import NOWCAST, PUBLISHED
from pipeline.layers import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

_QUALITY = {"HIGH": 1.0, "MEDIUM": 0.6, "LOW": 0.2}
_LAMBDA_FLAG = "kyles_lambda_quality_flag"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[micro_signals]`.

    Attributes:
        spike: a day with a VPIN above it is a spike.
        flow_weight, vpin_weight, classification_weight, lambda_weight: of micro_confidence.
        cap: the most micro_confidence may be without published flows.
        lambda_days: the trading days a day's lambda is made of; their number and r2 grade it.
        lambda_high, lambda_medium: at least so many of them, and r2 above, for HIGH and MEDIUM.
    """

    spike: float = 0.7
    flow_weight: Share = 0.4
    vpin_weight: Share = 0.3
    classification_weight: Share = 0.2
    lambda_weight: Share = 0.1
    cap: Share = 0.5
    lambda_days: Annotated[int, msgspec.Meta(ge=1)] = 30
    lambda_high: tuple[int, float] = (20, 0.3)
    lambda_medium: tuple[int, float] = (10, 0.2)


COLUMNS = (
    Column("symbol", "string", "", "the symbol"),
    Column("from_date", "date", "New York", "first day of the period"),
    Column("to_date", "date", "New York", "last day of the period"),
    Column("vpin_avg", "float", "", "mean VPIN of the days that have one; null without any"),
    Column("vpin_spike", "bool", "", "any day's VPIN above 0.7; null without any VPIN"),
    Column("lambda_avg", "float", "bps per $1M", "mean Kyle's lambda of the days that have one"),
    Column(
        "order_imbalance_avg",
        "float",
        "",
        "mean (buy - sell) / (buy + sell) volume of the days that have one; below 0: selling",
    ),
    Column("block_ratio_avg", "float", "", "mean share of volume in blocks"),
    Column(
        "flow_attribution_score",
        "float",
        "",
        "mean attribution_confidence of the period's institutional flows, weighted by shares; "
        "null without any; " + NOTICE,
    ),
    Column(
        "micro_confidence",
        "float",
        "",
        "coverage x (0.4 flow_attribution_score + 0.3 Q of VPIN + 0.2 Q of classification + "
        "0.1 Q of lambda), Q 1 HIGH, 0.6 MEDIUM, 0.2 LOW, 0 null; at most 0.5 without flows or "
        "with a nowcast; null if the period has no trading day",
    ),
    Column("coverage", "float", "", "share of the period's trading days with daily metrics"),
    Column("metric_days", "int", "", "trading days with daily metrics"),
    Column("flow_rows", "int", "", "institutional flows in the period"),
    Column("flow_mode", "string", "", '"NOWCAST" if any of them is one, else "PUBLISHED", or null'),
    Column("available_date", "date", "UTC", "when all that the row stands on was known"),
)
"""`micro_signals`, one row per symbol."""

SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "from_date": pl.Date(),
    "to_date": pl.Date(),
    "vpin_avg": pl.Float64(),
    "vpin_spike": pl.Boolean(),
    "lambda_avg": pl.Float64(),
    "order_imbalance_avg": pl.Float64(),
    "block_ratio_avg": pl.Float64(),
    "flow_attribution_score": pl.Float64(),
    "micro_confidence": pl.Float64(),
    "coverage": pl.Float64(),
    "metric_days": pl.Int64(),
    "flow_rows": pl.Int64(),
    "flow_mode": pl.String(),
    "available_date": pl.Date(),
}


def period_signals(
    metrics: pl.DataFrame,
    classification: pl.DataFrame,
    flows: pl.DataFrame,
    days: Days,
    start: date,
    end: date,
    params: Params | None = None,
) -> pl.DataFrame:
    """One row for each symbol with anything in the period from `start` to `end`, both included.

    Args:
        metrics: `symbol`, `trade_date`, `vpin`, `vpin_quality_flag`, `kyles_lambda`,
            `kyles_lambda_r2`, `block_trade_ratio`; with `kyles_lambda_quality_flag` that grades
            lambda, else the days before the period count too, for lambda is graded by how many
            there are.
        classification: `symbol`, `trade_date`, `order_imbalance`, `quality_flag`.
        flows: `symbol`, `trade_date`, `shares`, `attribution_confidence`, `mode`.
        days: the market's trading days, from `Params.lambda_days` before the period on.
        start: the period's first day.
        end: its last day.
        params: settings; the defaults if None.
    """
    settings = params or Params()
    calendar = trading_days(days)
    wanted = calendar.filter(calendar.is_between(start, end))
    graded = _graded(metrics, calendar, settings)
    inside = pl.col("trade_date").is_in(wanted.implode())
    day_rows = graded.filter(inside).sort("symbol", "trade_date")
    classes = classification.filter(inside).sort("symbol", "trade_date")
    moved = flows.filter(pl.col("trade_date").is_between(start, end))
    names = sorted({*day_rows["symbol"], *classes["symbol"], *moved["symbol"]})
    table = _Table(names)
    graded_class = day_rows.select("symbol", "trade_date").join(
        classes.select("symbol", "trade_date", "quality_flag"),
        on=["symbol", "trade_date"],
        how="left",
        maintain_order="left",
    )
    number = table.count(day_rows["symbol"])
    coverage = number / len(wanted) if len(wanted) else np.full(len(names), np.nan)
    flow_score = table.mean(
        moved["symbol"], moved["attribution_confidence"], moved["shares"].cast(pl.Float64)
    )
    flow_rows = table.count(moved["symbol"])
    nowcasts = table.count(moved.filter(pl.col("mode") == NOWCAST)["symbol"])
    confidence = confidence_of(
        coverage,
        flow_score,
        table.mean(day_rows["symbol"], _worth(day_rows["vpin_quality"])),
        table.mean(graded_class["symbol"], _worth(graded_class["quality_flag"])),
        table.mean(day_rows["symbol"], _worth(day_rows["lambda_quality"])),
        (flow_rows == 0) | (nowcasts > 0),
        settings,
    )
    spikes = table.count(day_rows.filter(pl.col("vpin") > settings.spike)["symbol"])
    vpin = table.mean(day_rows["symbol"], day_rows["vpin"])
    return pl.DataFrame(
        {
            "symbol": names,
            "from_date": [start] * len(names),
            "to_date": [end] * len(names),
            "vpin_avg": _nullable(vpin),
            "vpin_spike": pl.select(
                pl.when(pl.Series(~np.isnan(vpin))).then(pl.Series(spikes > 0))
            ).to_series(),
            "lambda_avg": _nullable(table.mean(day_rows["symbol"], day_rows["kyles_lambda"])),
            "order_imbalance_avg": _nullable(
                table.mean(classes["symbol"], classes["order_imbalance"])
            ),
            "block_ratio_avg": _nullable(
                table.mean(day_rows["symbol"], day_rows["block_trade_ratio"])
            ),
            "flow_attribution_score": _nullable(flow_score),
            "micro_confidence": _nullable(confidence),
            "coverage": _nullable(coverage),
            "metric_days": number,
            "flow_rows": flow_rows,
            "flow_mode": [
                None if not rows else NOWCAST if some else PUBLISHED
                for rows, some in zip(flow_rows.tolist(), nowcasts.tolist(), strict=True)
            ],
            "available_date": _known(names, day_rows, classes, moved),
        },
        schema=SCHEMA,
    )


def confidence_of(
    coverage: Floats,
    flow_score: Floats,
    vpin: Floats,
    classification: Floats,
    kyles_lambda: Floats,
    is_capped: npt.NDArray[np.bool_],
    params: Params,
) -> Floats:
    """micro_confidence; NaN counts 0, but for `coverage`."""
    parts = (
        (params.flow_weight, flow_score),
        (params.vpin_weight, vpin),
        (params.classification_weight, classification),
        (params.lambda_weight, kyles_lambda),
    )
    total = np.zeros(len(coverage))
    for weight, value in parts:
        total = total + weight * np.nan_to_num(value)
    found = coverage * total
    return np.where(is_capped, np.minimum(found, params.cap), found)


class _Table:
    """Sums by symbol, added up in the order of rows."""

    def __init__(self, names: list[str]) -> None:
        self._kind = pl.Enum(names)
        self._size = len(names)

    def _place(self, symbols: pl.Series) -> Ints:
        found: Ints = symbols.cast(self._kind).to_physical().cast(pl.Int64).to_numpy()
        return found

    def count(self, symbols: pl.Series) -> Ints:
        return np.bincount(self._place(symbols), minlength=self._size)

    def mean(
        self, symbols: pl.Series, values: pl.Series, weights: pl.Series | None = None
    ) -> Floats:
        """Mean of what is not null; NaN where there is nothing."""
        known = values.is_not_null()
        place = self._place(symbols.filter(known))
        value = values.filter(known).cast(pl.Float64).to_numpy()
        weight = np.ones(len(value)) if weights is None else weights.filter(known).to_numpy()
        top = np.bincount(place, weights=weight * value, minlength=self._size)
        bottom = np.bincount(place, weights=weight, minlength=self._size)
        with np.errstate(invalid="ignore"):
            found: Floats = top / bottom
        return found


def _worth(flags: pl.Series) -> pl.Series:
    return flags.cast(pl.String).replace_strict(_QUALITY, default=0.0, return_dtype=pl.Float64)


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)


def _graded(metrics: pl.DataFrame, calendar: pl.Series, params: Params) -> pl.DataFrame:
    """Daily metrics with `vpin_quality` and `lambda_quality`, null where the value is."""
    place = pl.DataFrame({"trade_date": calendar}).with_row_index("session")
    rows = (
        metrics.with_columns(
            pl.col("vpin", "kyles_lambda", "kyles_lambda_r2", "block_trade_ratio").cast(pl.Float64)
        )
        .join(place, on="trade_date")
        .sort("symbol", "trade_date")
    )
    used = rows["session"].cast(pl.Int64).to_numpy()
    code = rows["symbol"].rle_id().cast(pl.Int64).to_numpy()
    # of each row the first row of its symbol that its lambda was made of
    width = len(calendar) + params.lambda_days + 1
    key = code * width + used + params.lambda_days
    first = np.searchsorted(key, key - params.lambda_days + 1)
    number = pl.Series("number", np.arange(len(rows)) - first + 1, dtype=pl.Int64)
    r2 = pl.col("kyles_lambda_r2")
    told = pl.col(_LAMBDA_FLAG) if _LAMBDA_FLAG in rows.columns else pl.lit(None, pl.String)
    grade = (
        pl.when(number >= params.lambda_high[0], r2 > params.lambda_high[1])
        .then(pl.lit("HIGH"))
        .when(number >= params.lambda_medium[0], r2 > params.lambda_medium[1])
        .then(pl.lit("MEDIUM"))
        .otherwise(pl.lit("LOW"))
    )
    return rows.with_columns(
        vpin_quality=pl.when(pl.col("vpin").is_not_null()).then("vpin_quality_flag"),
        lambda_quality=pl.when(pl.col("kyles_lambda").is_not_null()).then(pl.coalesce(told, grade)),
    )


def _known(names: list[str], *frames: pl.DataFrame) -> pl.Series:
    """When everything of a symbol was known: `available_date`, else the day itself."""
    parts = [
        frame.select(
            "symbol",
            known=pl.coalesce("available_date", "trade_date")
            if "available_date" in frame.columns
            else pl.col("trade_date"),
        )
        for frame in frames
    ]
    last = pl.concat(parts).group_by("symbol").agg(pl.col("known").max())
    wanted = pl.DataFrame({"symbol": names}, schema={"symbol": pl.String})
    return wanted.join(last, on="symbol", how="left", maintain_order="left")["known"]
