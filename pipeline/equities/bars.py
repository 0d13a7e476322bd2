"""Buying and selling of symbols without a tape, guessed from daily bars.

Bulk volume classification (Easley, Lopez de Prado and O'Hara, J. Financial Data Science / RFS 25
(2012) 1457): of a day's volume V the part Phi(change of the close / its standard deviation) was
bought, Phi the normal distribution. It tells the direction of the price again, nothing more, so
all that is made of it is graded LOW: impact is large by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.layers import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Count = Annotated[int, msgspec.Meta(ge=2)]

_CHUNK = 100_000


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[bars_daily]`.

    Attributes:
        sigma_days: changes of the close, the day's own among them, of the standard deviation.
        vpin_days, min_vpin_days: trading days of VPIN at most and at least.
        lambda_days, min_lambda_days: of lambda.
        side_above: trade_direction is told from this order imbalance on.
    """

    sigma_days: Count = 20
    vpin_days: Count = 20
    min_vpin_days: Count = 5
    lambda_days: Count = 30
    min_lambda_days: Annotated[int, msgspec.Meta(ge=3)] = 10
    side_above: float = 0.1


class Classified(NamedTuple):
    """Two tables by symbol and day.

    Attributes:
        classification: columns of `micro_trade_classification`.
        metrics: columns of `micro_metrics_daily`, with `kyles_lambda_quality_flag`.
    """

    classification: pl.DataFrame
    metrics: pl.DataFrame


CLASSIFICATION: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "trade_date": pl.Date(),
    "trade_direction": pl.String(),
    "total_buy_volume": pl.Float64(),
    "total_sell_volume": pl.Float64(),
    "total_neutral_volume": pl.Float64(),
    "order_imbalance": pl.Float64(),
    "buy_trades": pl.Int64(),
    "sell_trades": pl.Int64(),
    "neutral_trades": pl.Int64(),
    "avg_trade_size": pl.Float64(),
    "classification_method": pl.String(),
    "quality_flag": pl.String(),
    "available_date": pl.Date(),
}

METRICS: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "trade_date": pl.Date(),
    "vpin": pl.Float64(),
    "vpin_window_bars": pl.Int64(),
    "vpin_quality_flag": pl.String(),
    "kyles_lambda": pl.Float64(),
    "kyles_lambda_se": pl.Float64(),
    "kyles_lambda_r2": pl.Float64(),
    "kyles_lambda_quality_flag": pl.String(),
    "daily_order_imbalance": pl.Float64(),
    "imbalance_persistence": pl.Float64(),
    "quoted_spread_bps": pl.Float64(),
    "effective_spread_bps": pl.Float64(),
    "realized_spread_bps": pl.Float64(),
    "price_impact_bps": pl.Float64(),
    "adverse_selection_component": pl.Float64(),
    "informed_trading_probability": pl.Float64(),
    "total_volume": pl.Float64(),
    "block_trade_volume": pl.Float64(),
    "block_trade_ratio": pl.Float64(),
    "data_completeness": pl.Float64(),
    "available_date": pl.Date(),
}

_WITHOUT = "not known without a tape: null"

CLASSIFICATION_COLUMNS = (
    Column("symbol", "string", "", "the symbol"),
    Column("trade_date", "date", "New York", "the session"),
    Column("trade_direction", "string", "", '"buy" if order_imbalance > 0.1, "sell" if < -0.1'),
    Column(
        "total_buy_volume",
        "float",
        "shares",
        "V x Phi(change of adj_close / its standard deviation over 20 days); V / 2 where that is 0",
    ),
    Column("total_sell_volume", "float", "shares", "the rest of V"),
    Column("total_neutral_volume", "float", "shares", "0"),
    Column("order_imbalance", "float", "", "(buy - sell) / (buy + sell); null without volume"),
    Column("buy_trades", "int", "", _WITHOUT),
    Column("sell_trades", "int", "", _WITHOUT),
    Column("neutral_trades", "int", "", _WITHOUT),
    Column("avg_trade_size", "float", "shares", _WITHOUT),
    Column("classification_method", "string", "", '"BVC"'),
    Column("quality_flag", "string", "", '"LOW"'),
    Column("available_date", "date", "New York", "the day itself"),
)
"""Rows of `micro_trade_classification` that come from daily bars."""

METRICS_COLUMNS = (
    Column("symbol", "string", "", "the symbol"),
    Column("trade_date", "date", "New York", "the session"),
    Column(
        "vpin",
        "float",
        "",
        "sum |buy - sell| / sum (buy + sell) of the last up to 20 days; null with fewer than 5",
    ),
    Column("vpin_window_bars", "int", "days", "how many days these are; null as vpin"),
    Column("vpin_quality_flag", "string", "", '"LOW"; null as vpin'),
    Column(
        "kyles_lambda",
        "float",
        "bps per $1M",
        "slope of daily log returns on (buy - sell) x "
        "close over the last up to 30 days; null with fewer than 10, or if nothing varies",
    ),
    Column("kyles_lambda_se", "float", "bps per $1M", "its classical standard error"),
    Column("kyles_lambda_r2", "float", "", "squared correlation; high by construction"),
    Column("kyles_lambda_quality_flag", "string", "", '"LOW"; null as kyles_lambda'),
    Column("daily_order_imbalance", "float", "", "as order_imbalance"),
    *(
        Column(name, "float", unit, _WITHOUT)
        for name, unit in (
            ("imbalance_persistence", ""),
            ("quoted_spread_bps", "bps"),
            ("effective_spread_bps", "bps"),
            ("realized_spread_bps", "bps"),
            ("price_impact_bps", "bps"),
            ("adverse_selection_component", ""),
        )
    ),
    Column("informed_trading_probability", "float", "", "vpin again, a proxy"),
    Column("total_volume", "float", "shares", "the bar's volume"),
    Column("block_trade_volume", "float", "shares", _WITHOUT),
    Column("block_trade_ratio", "float", "", _WITHOUT),
    Column("data_completeness", "float", "", _WITHOUT),
    Column("available_date", "date", "New York", "the day itself"),
)
"""Rows of `micro_metrics_daily` that come from daily bars."""


def classify_bars(prices: pl.DataFrame, params: Params | None = None) -> Classified:
    """Classify each day's volume by its change of price.

    Args:
        prices: `symbol`, `date`, `close`, `adj_close`, `volume`; days without a price are left
            out. A symbol's first `sigma_days` days have no rows. Changes are those of adj_close,
            which no dividend or split moves.
        params: settings; the defaults if None.

    Returns:
        Both tables, by symbol and day.
    """
    settings = params or Params()
    rows = (
        prices.filter(pl.col("adj_close") > 0, pl.col("close") > 0, pl.col("volume").is_not_null())
        .select(
            "symbol",
            "date",
            *(pl.col(c).cast(pl.Float64) for c in ("close", "adj_close", "volume")),
        )
        .sort("symbol", "date")
        .with_columns(
            change=pl.col("adj_close").diff().over("symbol"),
            bps=1e4 * (pl.col("adj_close") / pl.col("adj_close").shift().over("symbol")).log(),
        )
        .drop_nulls("change")
    )
    change, volume = rows["change"].to_numpy(), rows["volume"].to_numpy()
    start = _starts(rows["symbol"])
    bought = bulk_buy(volume, change, _sigma(change, start, settings.sigma_days))
    is_known = ~np.isnan(bought)
    rows, start = (
        rows.filter(pl.Series(is_known)),
        _starts(rows["symbol"].filter(pl.Series(is_known))),
    )
    bought, volume = bought[is_known], volume[is_known]
    net = 2 * bought - volume
    imbalance = _ratio(net, volume)
    classification = rows.select(
        "symbol",
        trade_date="date",
        trade_direction=_direction(imbalance, settings.side_above),
        total_buy_volume=pl.Series(bought),
        total_sell_volume=pl.Series(volume - bought),
        total_neutral_volume=pl.lit(0.0),
        order_imbalance=_nullable(imbalance),
        classification_method=pl.lit("BVC"),
        quality_flag=pl.lit("LOW"),
        available_date="date",
    )
    vpin, days = _vpin(net, volume, start, settings)
    line = _lambda(net * rows["close"].to_numpy() / 1e6, rows["bps"].to_numpy(), start, settings)
    metrics = rows.select(
        "symbol",
        trade_date="date",
        vpin=_nullable(vpin),
        vpin_window_bars=pl.when(pl.Series(~np.isnan(vpin))).then(pl.Series(days)),
        vpin_quality_flag=_low(vpin),
        kyles_lambda=_nullable(line[0]),
        kyles_lambda_se=_nullable(line[1]),
        kyles_lambda_r2=_nullable(line[2]),
        kyles_lambda_quality_flag=_low(line[0]),
        daily_order_imbalance=_nullable(imbalance),
        informed_trading_probability=_nullable(vpin),
        total_volume=pl.Series(volume),
        available_date="date",
    )
    return Classified(_shaped(classification, CLASSIFICATION), _shaped(metrics, METRICS))


def bulk_buy(volume: Floats, change: Floats, sigma: Floats) -> Floats:
    """Of each volume the part that was bought; half of it where `sigma` is 0, NaN where NaN."""
    from scipy.special import ndtr  # noqa: PLC0415  (loaded where it is needed)

    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(sigma == 0, 0.5, ndtr(change / sigma))
    return np.where(np.isnan(sigma), np.nan, volume * part)


def _starts(symbols: pl.Series) -> Ints:
    """Of each row the first row of its symbol; equal symbols stand together."""
    code = symbols.rle_id().to_numpy()
    return np.searchsorted(code, code).astype(np.int64)


def _windows(start: Ints, width: int) -> Iterator[tuple[slice, Ints, npt.NDArray[np.bool_]]]:
    """Rows in chunks, with the places of each row's last `width` rows and which of them exist.

    Every window is added up by itself, so that a row does not depend on how long ago the first is.
    """
    back = np.arange(1 - width, 1)
    for low in range(0, len(start), _CHUNK):
        chunk = slice(low, min(low + _CHUNK, len(start)))
        place = np.arange(chunk.start, chunk.stop)[:, None] + back
        is_there = place >= start[chunk, None]
        yield chunk, np.where(is_there, place, 0), is_there


def _sigma(change: Floats, start: Ints, width: int) -> Floats:
    """Standard deviation (n - 1) of the last `width` changes; NaN with fewer."""
    found = np.full(len(change), np.nan)
    for chunk, place, is_there in _windows(start, width):
        value = change[place]
        # the computed deviation of equal values may be off by one place from 0
        spread = np.where(np.ptp(value, axis=1) > 0, np.std(value, axis=1, ddof=1), 0.0)
        found[chunk] = np.where(is_there[:, 0], spread, np.nan)
    return found


def _vpin(net: Floats, volume: Floats, start: Ints, params: Params) -> tuple[Floats, Ints]:
    """Sum of |net| over sum of volume, and of how many days."""
    found, days = np.full(len(net), np.nan), np.zeros(len(net), np.int64)
    for chunk, place, is_there in _windows(start, params.vpin_days):
        size = np.where(is_there, np.abs(net[place]), 0.0).sum(axis=1)
        whole = np.where(is_there, volume[place], 0.0).sum(axis=1)
        days[chunk] = is_there.sum(axis=1)
        found[chunk] = np.where(days[chunk] >= params.min_vpin_days, _ratio(size, whole), np.nan)
    return found, days


def _lambda(x: Floats, y: Floats, start: Ints, params: Params) -> tuple[Floats, Floats, Floats]:
    """Slope of y on x with an intercept, its standard error, and r2; NaN where there is none."""
    slope, error, r2 = (np.full(len(x), np.nan) for _ in range(3))
    for chunk, place, is_there in _windows(start, params.lambda_days):
        number = is_there.sum(axis=1)
        dx, dy = _centred(x[place], is_there, number), _centred(y[place], is_there, number)
        sxx, syy, sxy = (dx * dx).sum(axis=1), (dy * dy).sum(axis=1), (dx * dy).sum(axis=1)
        is_enough = number >= params.min_lambda_days
        sxx = np.where(is_enough & _varies(x[place], is_there), sxx, np.nan)
        slope[chunk] = sxy / sxx
        rest = ((dy - slope[chunk, None] * dx) ** 2).sum(axis=1)
        error[chunk] = np.sqrt(rest / (number - 2).clip(1) / sxx)
        top = np.where(_varies(y[place], is_there), syy, np.nan)
        r2[chunk] = np.minimum(sxy * sxy / (sxx * top), 1.0)
    return slope, error, r2


def _centred(values: Floats, is_there: npt.NDArray[np.bool_], number: Ints) -> Floats:
    mean = np.where(is_there, values, 0.0).sum(axis=1) / number
    return np.where(is_there, values - mean[:, None], 0.0)


def _varies(values: Floats, is_there: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    # the last row of a window is always there
    known = np.where(is_there, values, values[:, -1:])
    return np.asarray(known.max(axis=1) > known.min(axis=1))


def _ratio(top: Floats, bottom: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _direction(imbalance: Floats, side_above: float) -> pl.Expr:
    value = pl.lit(pl.Series(np.nan_to_num(imbalance)))
    return (
        pl.when(value > side_above)
        .then(pl.lit("buy"))
        .when(value < -side_above)
        .then(pl.lit("sell"))
        .otherwise(pl.lit("neutral"))
    )


def _low(values: Floats) -> pl.Expr:
    return pl.when(pl.Series(~np.isnan(values))).then(pl.lit("LOW"))


def _nullable(values: Floats) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64).fill_nan(None)


def _shaped(frame: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """All columns of a table in their order; null where the frame has none."""
    return frame.select(
        [
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(kind).alias(name)
            for name, kind in schema.items()
        ]
    )
