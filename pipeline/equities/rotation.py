"""Managers that sold a large part of a position, and who took it up.

An event is a manager whose position in a symbol fell by 30 % or more from one 13F to the next. How
unusual that is for this manager and symbol (dumpz), whether other managers bought in the same
quarter and in the next, and what the symbol's microstructure said in the quarter make its score.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

import msgspec
import polars as pl

from pipeline.equities import NOTICE, quarters, signals, splits
from pipeline.equities.event_study import abnormal_returns
from pipeline.equities.positions import MANAGER, Positions, changes, resolve
from pipeline.equities.score import rotation_score
from pipeline.equities.sessions import Days, sessions_left, trading_days
from pipeline.layers import Column

_MAD_SCALE = 1.4826
"""What makes the median absolute deviation of normal numbers their standard deviation."""

_ROUNDING = 1e-12


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[rotation]`.

    Attributes:
        as_of: only what was known by the end of this day; null: everything there is.
        dump: an event's position fell by at least this share of itself.
        history_quarters, min_history: dumpz stands on so many quarters before; with fewer than
            `min_history` known it is `fallback_z`.
        least_spread: the least that the spread of the history counts.
        most_z: dumpz is between 0 and this.
        anchor: session 0 of the abnormal returns: "period_end", when the position is reported
            for, or "filed_date", when the report could be read.
        eow_days: an anchor among the last so many trading days of a quarter is its end.
        benchmark: what a return is measured against.
        sell_boost: selling counts so many times what buying does in the score.
        signals: as of `[micro_signals]`.
    """

    as_of: date | None = None
    dump: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.30
    history_quarters: Annotated[int, msgspec.Meta(ge=1)] = 12
    min_history: Annotated[int, msgspec.Meta(ge=1)] = 8
    fallback_z: float = 2.0
    least_spread: Annotated[float, msgspec.Meta(gt=0)] = 0.02
    most_z: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    anchor: Literal["period_end", "filed_date"] = "period_end"
    eow_days: Annotated[int, msgspec.Meta(ge=1)] = 5
    benchmark: str = "SPY"
    sell_boost: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    signals: signals.Params = signals.Params()


_NO_SOURCE = "has no source here: null, counts 0"

COLUMNS = (
    Column("cluster_id", "string", "", "symbol, quarter and manager"),
    Column("issuer_cik", "string", "", "the issuer, ten digits; null if nobody names it"),
    Column("anchor_filing", "string", "", "accession of the 13F that shows the dump"),
    Column(
        "dumpz",
        "float",
        "",
        "(median of earlier delta - delta) / max(1.4826 MAD, 0.02), 0..10; "
        "delta = change / position before, of the 12 quarters before; 2.0 with fewer than 8",
    ),
    Column(
        "u_same",
        "float",
        "",
        "shares bought by other managers in the quarter / shares sold by all, 0..1",
    ),
    Column(
        "u_next",
        "float",
        "",
        "shares they bought in the next quarter / the same, 0..1; null "
        "until that quarter is reported",
    ),
    Column("uhf_same", "float", "", _NO_SOURCE),
    Column("uhf_next", "float", "", _NO_SOURCE),
    Column("opt_same", "float", "", _NO_SOURCE),
    Column("opt_next", "float", "", _NO_SOURCE),
    Column("shortrelief_v2", "float", "", _NO_SOURCE),
    Column("index_penalty", "float", "", _NO_SOURCE),
    Column(
        "eow",
        "bool",
        "",
        "anchor_date is among the last 5 trading days of a quarter: always "
        'with anchor = "period_end"; on which day was sold is not known',
    ),
    Column(
        "r_score",
        "float",
        "",
        "0 unless dumpz >= 1.5 and u_same or u_next above 0; else "
        "2 dumpz + u_same + 0.85 u_next (x 1.05 if eow) + micro_confidence x (0.6 vpin + "
        "0.8 spike + 0.3 min(1, lambda / 50) + 0.4 |order imbalance| + 0.5 block ratio + "
        "0.7 flow score), the last only if micro_confidence > 0.5",
    ),
    Column(
        "car_m5_p20",
        "float",
        "",
        "sum of daily returns less SPY's, sessions -5..+20 around "
        "the first session on or after anchor_date; null unless complete",
    ),
    Column("micro_vpin_avg", "float", "", "of micro_signals over the quarter, as the next six"),
    Column("micro_vpin_spike", "bool", "", "any VPIN above 0.7"),
    Column("micro_lambda_avg", "float", "bps per $1M", "mean Kyle's lambda"),
    Column("micro_flow_attribution_score", "float", "", "confidence of the flows; " + NOTICE),
    Column("micro_order_imbalance_avg", "float", "", "below 0: selling"),
    Column("micro_block_ratio_avg", "float", "", "share of volume in blocks"),
    Column("micro_confidence", "float", "", "how far the six are to be trusted"),
    Column("symbol", "string", "", "the symbol"),
    Column("institution_cik", "string", "", "the manager that sold"),
    Column("period", "date", "", "the quarter's last day"),
    Column("filed_date", "date", "UTC", "when the anchor filing was filed"),
    Column("anchor_date", "date", "", "period or filed_date, by the parameter anchor"),
    Column("delta", "float", "", "change / position before, adjusted for splits"),
    Column("dumpz_fallback", "bool", "", "dumpz is 2.0 because too few quarters are known"),
    Column("available_date", "date", "UTC", "when all that the row stands on was known"),
)
"""`rotation_events`, by period, symbol and manager."""

SCHEMA: dict[str, pl.DataType] = {
    column.name: {
        "string": pl.String(),
        "float": pl.Float64(),
        "bool": pl.Boolean(),
        "date": pl.Date(),
    }[column.dtype]
    for column in COLUMNS
}

_MICRO = {
    "micro_vpin_avg": "vpin_avg",
    "micro_vpin_spike": "vpin_spike",
    "micro_lambda_avg": "lambda_avg",
    "micro_flow_attribution_score": "flow_attribution_score",
    "micro_order_imbalance_avg": "order_imbalance_avg",
    "micro_block_ratio_avg": "block_ratio_avg",
    "micro_confidence": "micro_confidence",
}


def rotation_events(
    filings: pl.DataFrame,
    filing_list: pl.DataFrame,
    entities: pl.DataFrame,
    prices: pl.DataFrame,
    metrics: pl.DataFrame,
    classification: pl.DataFrame,
    flows: pl.DataFrame,
    trading: Days,
    params: Params | None = None,
) -> pl.DataFrame:
    """Every manager, symbol and quarter whose position fell by 30 % or more.

    Args:
        filings: as for `positions.resolve`, with `issuer_cik`.
        filing_list: as for `positions.resolve`.
        entities: `kind`, `cik`, `ticker`; names the issuer where the filings do not.
        prices: `symbol`, `date`, `close`, `adj_close`, the benchmark's too.
        metrics: as for `signals.period_signals`.
        classification: as for `signals.period_signals`.
        flows: as for `signals.period_signals`.
        trading: the market's trading days.
        params: settings; the defaults if None.
    """
    settings = params or Params()
    if settings.as_of is not None:
        prices = prices.filter(pl.col("date") <= settings.as_of)
        known = pl.coalesce("available_date", "trade_date")
        metrics, classification, flows = (
            frame.filter(
                (known if "available_date" in frame.columns else pl.col("trade_date"))
                <= settings.as_of
            )
            for frame in (metrics, classification, flows)
        )
    positions = resolve(filings, filing_list, settings.as_of)
    moved = changes(positions, splits.factors(prices, positions.holdings))
    events = _with_uptake(_dumps(moved, settings), moved)
    days = trading_days(trading)
    events = _anchored(events, positions, days, settings)
    events = _with_signals(events, metrics, classification, flows, days, settings.signals)
    car, car_date = abnormal_returns(events, prices, settings.benchmark)
    nothing = ("uhf_same", "uhf_next", "opt_same", "opt_next", "shortrelief_v2", "index_penalty")
    return (
        events.join(_issuers(filings, entities), on="symbol", how="left", maintain_order="left")
        .with_columns(
            *(pl.lit(None, pl.Float64).alias(name) for name in nothing),
            car_m5_p20=car,
            available_date=pl.max_horizontal("known_date", "micro_date", car_date),
        )
        .with_columns(
            cluster_id=pl.concat_str(
                [
                    pl.col("symbol"),
                    pl.col("period").dt.year().cast(pl.String)
                    + "Q"
                    + pl.col("period").dt.quarter().cast(pl.String),
                    pl.col(MANAGER),
                ],
                separator="-",
            ),
            r_score=rotation_score(settings.sell_boost),
        )
        .select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()])
        .sort("period", "symbol", MANAGER)
    )


def dump_z(history: pl.Expr, delta: pl.Expr, least_spread: float) -> pl.Expr:
    """How far a change lies below earlier ones, in robust standard deviations; not clipped.

    Args:
        history: a list of earlier changes.
        delta: the change.
        least_spread: the least that the spread of the history counts.
    """
    middle = history.list.median()
    spread = (history - middle).list.eval(pl.element().abs()).list.median()
    return (middle - delta) / (_MAD_SCALE * spread).clip(least_spread)


def _dumps(moved: pl.DataFrame, params: Params) -> pl.DataFrame:
    """The events, with `delta`, `dumpz` and whether that is a fallback."""
    held = moved.filter(pl.col("previous") > 0).with_columns(
        delta=pl.col("change") / pl.col("previous")
    )
    events = held.filter(pl.col("delta") <= -params.dump + _ROUNDING)
    past = (
        events.select(MANAGER, "symbol", "quarter")
        .join(
            held.select(MANAGER, "symbol", "delta", "known_date", then="quarter"),
            on=[MANAGER, "symbol"],
        )
        .filter(
            (pl.col("quarter") - pl.col("then")).is_between(1, params.history_quarters),
        )
        .sort(MANAGER, "symbol", "quarter", "then")
        .group_by(MANAGER, "symbol", "quarter", maintain_order=True)
        .agg(history="delta", past_date=pl.col("known_date").max())
    )
    rows = events.join(past, on=[MANAGER, "symbol", "quarter"], how="left").sort(
        "quarter", "symbol", MANAGER
    )
    number = rows["history"].list.len().fill_null(0)
    is_short = (number < params.min_history).alias("dumpz_fallback")
    z = dump_z(pl.col("history"), pl.col("delta"), params.least_spread)
    return rows.with_columns(
        is_short,
        dumpz=pl.when(is_short).then(params.fallback_z).otherwise(z.clip(0.0, params.most_z)),
        known_date=pl.max_horizontal("known_date", "past_date"),
    )


def _with_uptake(events: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """Add `u_same` and `u_next`."""
    change = pl.col("change")
    market = moved.group_by("symbol", "quarter").agg(
        bought=change.clip(0).sum(),
        sold=-change.clip(upper_bound=0).sum(),
        market_date=pl.col("known_date").max(),
    )
    after = market.select(
        "symbol", pl.col("quarter") - 1, bought_next="bought", next_date="market_date"
    )
    # what the seller itself bought back is no uptake by others
    back = moved.select(MANAGER, "symbol", pl.col("quarter") - 1, bought_back=change.clip(0))
    rows = (
        events.join(market, on=["symbol", "quarter"], how="left")
        .join(after, on=["symbol", "quarter"], how="left")
        .join(back, on=[MANAGER, "symbol", "quarter"], how="left")
        .sort("quarter", "symbol", MANAGER)
    )
    is_reported = (pl.col("quarter") + 1).is_in(market["quarter"].unique().implode())
    bought_next = pl.when(is_reported).then(pl.col("bought_next").fill_null(0))
    others = bought_next - pl.col("bought_back").fill_null(0)
    return rows.with_columns(
        u_same=(pl.col("bought") / pl.col("sold")).clip(0.0, 1.0),
        u_next=(others / pl.col("sold")).clip(0.0, 1.0),
        known_date=pl.max_horizontal("known_date", "market_date", "next_date"),
    )


def _anchored(
    events: pl.DataFrame, positions: Positions, days: pl.Series, params: Params
) -> pl.DataFrame:
    """Add the filing, the dates, and whether the anchor lies at the end of a quarter."""
    ends = {number: quarters.last_day(number) for number in events["quarter"].unique().to_list()}
    rows = events.join(
        positions.reports.select(MANAGER, "quarter", "filed_date", anchor_filing="accession"),
        on=[MANAGER, "quarter"],
        how="left",
        maintain_order="left",
    ).with_columns(
        period=pl.col("quarter").replace_strict(ends, return_dtype=pl.Date)
        if ends
        else pl.lit(None, pl.Date)
    )
    anchor = pl.col("period" if params.anchor == "period_end" else "filed_date")
    return rows.with_columns(anchor_date=anchor).with_columns(
        eow=sessions_left(pl.Series(rows.select(anchor).to_series()), days) <= params.eow_days
    )


def _with_signals(
    events: pl.DataFrame,
    metrics: pl.DataFrame,
    classification: pl.DataFrame,
    flows: pl.DataFrame,
    days: pl.Series,
    params: signals.Params,
) -> pl.DataFrame:
    """Add the symbol's period signals over the event's quarter."""
    wanted = events["symbol"].unique().implode()
    frames = [
        frame.filter(pl.col("symbol").is_in(wanted)) for frame in (metrics, classification, flows)
    ]
    schema = {
        **{name: signals.SCHEMA[own] for name, own in _MICRO.items()},
        "micro_date": pl.Date(),
    }
    several = [pl.DataFrame(schema={"symbol": pl.String(), "quarter": pl.Int32(), **schema})]
    for number in events["quarter"].unique().sort().to_list():
        first = quarters.first_day(number)
        back = first - timedelta(days=2 * params.lambda_days + 10)
        last = quarters.last_day(number)
        near = [frame.filter(pl.col("trade_date").is_between(back, last)) for frame in frames]
        found = signals.period_signals(near[0], near[1], near[2], days, first, last, params)
        several.append(
            found.select(
                "symbol",
                pl.lit(number, pl.Int32).alias("quarter"),
                **{name: pl.col(own) for name, own in _MICRO.items()},
                micro_date="available_date",
            )
        )
    return events.join(
        pl.concat(several), on=["symbol", "quarter"], how="left", maintain_order="left"
    )


def _issuers(filings: pl.DataFrame, entities: pl.DataFrame) -> pl.DataFrame:
    """The issuer of each symbol: as the filings say, else as the entities do."""
    told = filings.select("symbol", issuer_cik=pl.col("issuer_cik").cast(pl.String))
    listed = entities.filter(pl.col("kind") == "issuer").select(
        symbol=pl.col("ticker").cast(pl.String), issuer_cik=pl.col("cik").cast(pl.String)
    )
    return (
        pl.concat([told.with_columns(rank=0), listed.with_columns(rank=1)])
        .drop_nulls(["symbol", "issuer_cik"])
        .sort("symbol", "rank", "issuer_cik")
        .unique("symbol", keep="first", maintain_order=True)
        .drop("rank")
    )
