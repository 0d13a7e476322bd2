"""Which managers' trading moves together with which venues' volume.

Of a venue m, a manager i, a symbol s and a quarter q:

    x = ln((A_msq + 100) / (sum over venues A_sq + 100)) - its mean over the four quarters before
    y = min(1, |change of i's shares of s| / sum over venues A_sq), where it is above 0

with A the shares a venue reported to FINRA. Each is replaced by its percentile within the quarter,
and rho is their correlation over all symbols and quarters of the last year where both exist.
Correlations that chance explains (Benjamini-Hochberg over all pairs) count for little. This is
statistical association, not identification: nobody publishes who trades where.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.equities import NOTICE, quarters, splits
from pipeline.equities.comovement import Observations, Together, correlations
from pipeline.equities.positions import MANAGER, changes, resolve
from pipeline.equities.significance import LEAST, false_discovery, one_sided
from pipeline.layers import Column

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]

MILLIONTHS = 1_000_000
"""Share quantities may have fractions; they are added up as integers of this part."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[broker_map]`.

    Attributes:
        lookback_days: quarters that ended in so many days up to the day asked about count.
        settle_days: a quarter counts so many days after its end, when FINRA has published all
            of its weeks; before, its volumes are incomplete.
        prior_quarters, min_prior: x is measured against the mean of so many quarters before; at
            least so many of them must be known.
        pad: shares added to every volume.
        shrink: rho counts n / (n + shrink) for n observations.
        fdr, weak_cap: where q is above `fdr` the statistic is at most `weak_cap`.
        affiliate_prior: what a documented affiliation counts for without any observation.
    """

    lookback_days: Count = 365
    settle_days: Annotated[int, msgspec.Meta(ge=0)] = 35
    prior_quarters: Count = 4
    min_prior: Count = 2
    pad: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    shrink: Annotated[float, msgspec.Meta(ge=0)] = 20.0
    fdr: Share = 0.10
    weak_cap: Share = 0.30
    affiliate_prior: Share = 0.5


COLUMNS = (
    Column("broker_mpid", "string", "", "the venue or broker, by its market participant id"),
    Column("broker_name", "string", "", "its firm, from micro_broker_master; null if not there"),
    Column("institution_cik", "string", "", "the 13F manager, ten digits"),
    Column("institution_id", "string", "", "the manager's entity_id; its CIK"),
    Column(
        "relationship_type",
        "string",
        "",
        '"affiliate" for a pair of the user\'s affiliates file, else "inferred"',
    ),
    Column(
        "relationship_strength",
        "float",
        "",
        "1 - (1 - prior)(1 - stat), 0..1; stat = max(0, rho) n / (n + 20), at most 0.30 where "
        "q_value > 0.10, 0 with fewer than 3 observations; prior 0.5 for an affiliate, else 0; "
        + NOTICE,
    ),
    Column("confidence_score", "float", "", "1 - q_value; no probability that the pair is real"),
    Column("first_observed_date", "date", "", "end of the first quarter observed; null if none"),
    Column("last_observed_date", "date", "", "end of the last quarter observed; null if none"),
    Column("observation_count", "int", "", "n: symbols x quarters in which both moved"),
    Column(
        "avg_block_size",
        "int",
        "shares",
        "floor(shares / trades) of the venue over these; null without trades",
    ),
    Column("source", "string", "", '"co_movement", "affiliate" or both'),
    Column("notes", "string", "", "the affiliates file's note, and what this is not"),
    Column("rho", "float", "", "correlation of the percentiles; null if n < 3 or one is constant"),
    Column("p_value", "float", "", "of rho, one-sided, Student's t with n - 2 degrees of freedom"),
    Column("q_value", "float", "", "Benjamini-Hochberg over all venues x managers of the window"),
    Column("as_of", "date", "UTC", "only what was published and filed by the end of this day"),
)
"""`micro_broker_institution_map`, by broker_mpid and institution_cik, and what it stands on."""

SCHEMA: dict[str, pl.DataType] = {
    "broker_mpid": pl.String(),
    "broker_name": pl.String(),
    "institution_cik": pl.String(),
    "institution_id": pl.String(),
    "relationship_type": pl.String(),
    "relationship_strength": pl.Float64(),
    "confidence_score": pl.Float64(),
    "first_observed_date": pl.Date(),
    "last_observed_date": pl.Date(),
    "observation_count": pl.Int64(),
    "avg_block_size": pl.Int64(),
    "source": pl.String(),
    "notes": pl.String(),
    "rho": pl.Float64(),
    "p_value": pl.Float64(),
    "q_value": pl.Float64(),
    "as_of": pl.Date(),
}


class _Venues(NamedTuple):
    """What the venues reported, by cell (symbol x quarter of the window) and venue.

    Attributes:
        cells: `symbol`, `quarter`, `cell`, and the `total` of all venues in shares.
        names: the venues.
        x: percentiles, NaN where there is none.
        shares, trades: what was traded, whole shares.
    """

    cells: pl.DataFrame
    names: list[str]
    x: Floats
    shares: Ints
    trades: Ints


def broker_map(
    ats: pl.DataFrame,
    filings: pl.DataFrame,
    filing_list: pl.DataFrame,
    affiliates: pl.DataFrame | None,
    prices: pl.DataFrame | None,
    as_of: date,
    params: Params | None = None,
) -> pl.DataFrame:
    """Relate venues to managers as one could on the evening of `as_of`.

    Args:
        ats: `week_start`, `symbol`, `mpid`, `shares`, `trades`, `published`. A week belongs to
            the quarter of its Monday.
        filings: as for `positions.resolve`.
        filing_list: as for `positions.resolve`.
        affiliates: `broker_mpid`, `institution_cik`, `note`; documented ties, if there are any.
        prices: `symbol`, `date`, `close`, `adj_close`, for splits.
        as_of: nothing that was published or filed later counts.
        params: settings; the defaults if None.

    Returns:
        The columns of `COLUMNS`, a row per pair with at least one observation or a documented
        tie, sorted by venue and manager. `broker_name` is null; it is in the broker master.
    """
    settings = params or Params()
    window = _window(as_of, settings)
    venues = _venues(ats, as_of, window, settings)
    # the changes of the window's quarters need no older reports
    is_near = quarters.number(pl.col("period")) >= window[0] - 1 if window else pl.lit(value=False)
    known = resolve(filings.filter(is_near), filing_list.filter(is_near), as_of)
    if prices is not None:
        prices = prices.filter(pl.col("date") <= as_of)
    moved = changes(known, splits.factors(prices, known.holdings))
    managers, seen = _observed(moved, venues)
    when = venues.cells["quarter"].cast(pl.Int64).to_numpy()
    both = correlations(seen, venues.x, when, venues.shares, venues.trades)
    pairs = _pairs(both, venues.names, managers)
    return _rated(pairs, affiliates, as_of, settings)


def _window(as_of: date, params: Params) -> list[int]:
    """The quarters that count: ended within the lookback, and published completely."""
    until = quarters.number_of(as_of)
    oldest = as_of - timedelta(days=params.lookback_days)
    newest = as_of - timedelta(days=params.settle_days)
    several = range(until - params.lookback_days // 80 - 2, until + 1)
    return [each for each in several if oldest < quarters.last_day(each) <= newest]


def _venues(ats: pl.DataFrame, as_of: date, window: list[int], params: Params) -> _Venues:
    """Percentiles of how unusual each venue's part of a symbol's volume is.

    A venue that reported nothing of a symbol traded none of it, if it reported anything at all in
    that quarter and has traded the symbol in it or in one of the quarters it is measured against.
    """
    first = (window[0] if window else 0) - params.prior_quarters
    volumes = (
        ats.filter(pl.col("published") <= as_of)
        .with_columns(quarter=quarters.number(pl.col("week_start")))
        .filter(pl.col("quarter").is_between(first, window[-1] if window else -1))
        .group_by("symbol", "mpid", "quarter")
        .agg((pl.col("shares") * MILLIONTHS).round().cast(pl.Int64).sum(), pl.col("trades").sum())
    )
    symbols, names = (sorted(volumes[name].unique().to_list()) for name in ("symbol", "mpid"))
    span = params.prior_quarters + len(window)
    shape = (len(symbols), span, len(names))
    shares, trades = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    place = (
        _places(volumes["symbol"], symbols),
        volumes["quarter"].to_numpy() - first,
        _places(volumes["mpid"], names),
    )
    shares[place] = volumes["shares"].to_numpy()
    trades[place] = volumes["trades"].to_numpy()
    kept = [quarter - first for quarter in window]
    unusual = _unusual(shares, kept, params)
    cells = pl.DataFrame(
        {
            "symbol": pl.Series(symbols, dtype=pl.String).gather(
                np.repeat(np.arange(len(symbols)), len(window))
            ),
            "quarter": pl.Series(window * len(symbols), dtype=pl.Int32),
            "total": shares[:, kept].sum(axis=2).ravel() / MILLIONTHS,
        }
    ).with_row_index("cell")
    flat = (len(cells), len(names))
    percentile = _percentiles(unusual.reshape(flat), cells["quarter"])
    whole = (shares[:, kept].reshape(flat) + MILLIONTHS // 2) // MILLIONTHS
    told = trades[:, kept].reshape(flat)
    is_there = np.asarray(~np.isnan(percentile).all(axis=0))
    names = [names[place] for place in np.flatnonzero(is_there)]
    return _Venues(cells, names, percentile[:, is_there], whole[:, is_there], told[:, is_there])


def _places(values: pl.Series, known: list[str]) -> Ints:
    """Where each value stands in a sorted list."""
    found: Ints = values.cast(pl.Enum(known)).to_physical().cast(pl.Int64).to_numpy()
    return found


def _unusual(shares: Ints, kept: list[int], params: Params) -> Floats:
    """The x of every symbol, quarter of the window and venue; NaN where there is none."""
    volume = shares / MILLIONTHS
    total = shares.sum(axis=2, keepdims=True) / MILLIONTHS
    is_there = (total > 0) & (shares.sum(axis=0, keepdims=True) > 0)
    part = np.where(is_there, np.log((volume + params.pad) / (total + params.pad)), np.nan)
    back = params.prior_quarters
    found = np.full((shares.shape[0], len(kept), shares.shape[2]), np.nan)
    for place, quarter in enumerate(kept):
        number, usual = np.zeros(found[:, 0].shape), np.zeros(found[:, 0].shape)
        traded = shares[:, quarter] > 0
        for before in range(quarter - back, quarter):
            known = is_there[:, before]
            number += known
            usual += np.where(known, part[:, before], 0.0)
            traded |= shares[:, before] > 0
        is_known = (number >= params.min_prior) & traded
        usual = usual / np.maximum(number, 1)
        found[:, place] = np.where(is_known, part[:, quarter] - usual, np.nan)
    return found


def _percentiles(values: Floats, quarter: pl.Series) -> Floats:
    """Ranks among all values of a quarter that are no NaN, as (mean rank - 0.5) / count."""
    column = pl.Series("value", values.ravel()).fill_nan(None)
    several = pl.DataFrame(
        {"value": column, "quarter": np.repeat(quarter.to_numpy(), values.shape[1])}
    )
    found = several.select(_percentile("value"))["value"].fill_null(float("nan")).to_numpy()
    return np.ascontiguousarray(found.reshape(values.shape))


def _percentile(name: str) -> pl.Expr:
    rank = pl.col(name).rank("average").over("quarter")
    return (rank - 0.5) / pl.col(name).count().over("quarter")


def _observed(moved: pl.DataFrame, venues: _Venues) -> tuple[list[str], Observations]:
    """The y of every manager, symbol and quarter, as percentiles."""
    rows = (
        moved.filter(pl.col("change") != 0)
        .join(venues.cells.filter(pl.col("total") > 0), on=["symbol", "quarter"])
        .with_columns(y=pl.min_horizontal(pl.col("change").abs() / pl.col("total"), 1.0))
        .with_columns(_percentile("y"))
        .sort(MANAGER, "cell")
    )
    managers = rows[MANAGER].unique(maintain_order=True).to_list()
    counts = np.bincount(_places(rows[MANAGER], managers), minlength=len(managers))
    bounds = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return managers, Observations(
        bounds, rows["cell"].cast(pl.Int64).to_numpy(), rows["y"].to_numpy()
    )


def _pairs(both: Together, names: list[str], managers: list[str]) -> pl.DataFrame:
    """A row per venue and manager with their p and q values."""
    # venue by venue, as the rows are to stand
    count, rho = both.number.T.ravel(), both.rho.T.ravel()
    p = one_sided(rho, count)
    return pl.DataFrame(
        {
            "broker_mpid": pl.Series(names, dtype=pl.String).gather(
                np.repeat(np.arange(len(names)), len(managers))
            ),
            MANAGER: pl.Series(managers * len(names), dtype=pl.String),
            "observation_count": count,
            "rho": pl.Series(np.where(count < LEAST, np.nan, rho)).fill_nan(None),
            "p_value": p,
            "q_value": false_discovery(p),
            "first": both.first.T.ravel(),
            "last": both.last.T.ravel(),
            "shares": both.shares.T.ravel(),
            "trades": both.trades.T.ravel(),
        }
    ).filter(pl.col("observation_count") > 0)


def strength(rho: pl.Expr, count: pl.Expr, q: pl.Expr, prior: pl.Expr, params: Params) -> pl.Expr:
    """relationship_strength of pairs: see `COLUMNS`; a null `rho` counts 0."""
    plain = rho.clip(0).fill_null(0) * count / (count + params.shrink)
    stat = pl.when(q > params.fdr).then(plain.clip(upper_bound=params.weak_cap)).otherwise(plain)
    return 1 - (1 - prior) * (1 - stat)


def _rated(
    pairs: pl.DataFrame, affiliates: pl.DataFrame | None, as_of: date, params: Params
) -> pl.DataFrame:
    """Add what is documented, and say what each pair is worth."""
    tied = _tied(affiliates)
    keys = ["broker_mpid", MANAGER]
    rows = pairs.join(tied, on=keys, how="full", coalesce=True).with_columns(
        pl.col("observation_count").fill_null(0),
        pl.col("p_value", "q_value").fill_null(1.0),
        is_tied=pl.col("is_tied").fill_null(value=False),
    )
    is_tied, is_seen = pl.col("is_tied"), pl.col("observation_count") >= LEAST
    ends = {
        number: quarters.last_day(number)
        for name in ("first", "last")
        for number in rows[name].drop_nulls().unique().to_list()
    }
    end = pl.DataFrame(
        {"number": list(ends), "end": list(ends.values())},
        schema={"number": pl.Int64, "end": pl.Date},
    )
    for name in ("first", "last"):
        rows = rows.join(
            end.rename({"number": name, "end": f"{name}_observed_date"}), on=name, how="left"
        )
    return (
        rows.with_columns(
            broker_name=pl.lit(None, pl.String),
            institution_id=pl.col(MANAGER),
            relationship_type=pl.when(is_tied)
            .then(pl.lit("affiliate"))
            .otherwise(pl.lit("inferred")),
            relationship_strength=strength(
                pl.col("rho"),
                pl.col("observation_count"),
                pl.col("q_value"),
                pl.when(is_tied).then(params.affiliate_prior).otherwise(0.0),
                params,
            ),
            confidence_score=1 - pl.col("q_value"),
            avg_block_size=pl.when(pl.col("trades") > 0).then(pl.col("shares") // pl.col("trades")),
            source=pl.when(is_tied & is_seen)
            .then(pl.lit("affiliate+co_movement"))
            .when(is_tied)
            .then(pl.lit("affiliate"))
            .otherwise(pl.lit("co_movement")),
            notes=pl.concat_str(
                [pl.col("note"), pl.lit(NOTICE)], separator="; ", ignore_nulls=True
            ),
            as_of=pl.lit(as_of),
        )
        .select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()])
        .sort(keys)
    )


def _tied(affiliates: pl.DataFrame | None) -> pl.DataFrame:
    """The documented pairs, each once."""
    schema = {"broker_mpid": pl.String, MANAGER: pl.String, "note": pl.String}
    several = pl.DataFrame(schema=schema) if affiliates is None else affiliates
    return (
        several.select([pl.col(name).cast(kind) for name, kind in schema.items()])
        .sort("broker_mpid", MANAGER, "note")
        .unique(["broker_mpid", MANAGER], keep="first", maintain_order=True)
        .with_columns(is_tied=pl.lit(value=True))
    )
