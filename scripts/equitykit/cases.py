"""Markets in which a mapping should do well, badly, or say that it knows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from pipeline.equities import attribution, bars, mapping
from scripts.equitykit.draw import Settings, draw
from scripts.equitykit.frames import Market, frames
from scripts.equitykit.judge import Flows, Pairs, flows

DEALS = 200
"""How often strengths are dealt again to other pairs."""


@dataclass(frozen=True)
class Case:
    """A kind of market, or a way to look at one.

    Attributes:
        text: for the page.
        settings: how its markets differ.
        seen: what is left of a market's publications.
        params: of the mapping.
    """

    text: str
    settings: dict[str, object]
    seen: Callable[[Market, date], Market] | None = None
    params: mapping.Params | None = None


@dataclass(frozen=True)
class Mapped:
    """A mapping of one market beside the truth.

    Attributes:
        rows: the map.
        again: areas under the curve of the same strengths dealt to other pairs.
        again_precision: their mean precision among as many pairs as are true.
    """

    pairs: Pairs
    rows: pl.DataFrame
    again: Sequence[float]
    again_precision: float

    @property
    def true(self) -> int:
        """Pairs that are related."""
        return int(self.pairs.is_home.sum())


def since(months: int) -> Callable[[Market, date], Market]:
    """FINRA's files of so many months up to the end of the year."""

    def seen(market: Market, as_of: date) -> Market:
        years, rest = divmod(months, 12)
        first = date(as_of.year - years + (rest == 0), (13 - rest - 1) % 12 + 1, 1)
        return replace(market, ats=market.ats.filter(pl.col("week_start") >= first))

    return seen


def stopped(share: float) -> Callable[[Market, date], Market]:
    """So many of the managers, every n-th, have filed nothing for two years."""

    def seen(market: Market, as_of: date) -> Market:
        names = market.filing_list["institution_cik"].unique().sort().to_list()
        step = round(1 / share)
        gone = pl.col("institution_cik").is_in(names[::step])
        is_kept = ~gone | (pl.col("period") <= as_of.replace(year=as_of.year - 2))
        return replace(
            market,
            filings=market.filings.filter(is_kept),
            filing_list=market.filing_list.filter(is_kept),
        )

    return seen


USUAL = Case("as drawn: 40 symbols, 12 venues, 60 managers, half of them with a home", {})
CASES = (
    Case(
        "as drawn, but three years of quarters looked at",
        {},
        params=mapping.Params(lookback_days=1096),
    ),
    Case("100 symbols", {"symbols": 100}),
    Case("homes get 10 to 30 %, not 30 to 80", {"home": (0.1, 0.3)}),
    Case("managers trade a third as much", {"size": 1 / 3}),
    Case("venues' parts move more by themselves", {"drift": 0.5}),
    Case("managers trade the same symbols at the same time", {"herding": 1.0}),
    Case("half of the managers share one venue as home", {"one_home": True}),
    Case("nobody has a home", {"mapped": 0.0}),
    Case("one symbol", {"symbols": 1}),
    Case("FINRA's files of six months only", {}, since(6)),
    Case("FINRA's files of one year only", {}, since(12)),
    Case("FINRA's files of two years only", {}, since(24)),
    Case("every second manager has stopped filing", {}, stopped(1 / 2)),
    Case("all managers have stopped filing", {}, stopped(1)),
)


def last_day(market: Market) -> date:
    """The day everything is looked at: the last of the year."""
    return date(market.days[-1].year, 12, 31)


def look(case: Case, seed: int, size: dict[str, int]) -> Mapped:
    """Draw a market of a kind, map it and judge the map."""
    market = frames(draw(replace(Settings(seed=seed), **{**size, **case.settings})))  # type: ignore[arg-type]
    as_of = last_day(market)
    seen = market if case.seen is None else case.seen(market, as_of)
    return judged(mapped(seen, as_of, case.params), market, seed)


def mapped(market: Market, as_of: date, params: mapping.Params | None = None) -> pl.DataFrame:
    """The map of a market as of a day."""
    return mapping.broker_map(
        market.ats, market.filings, market.filing_list, None, market.prices, as_of, params
    )


def judged(rows: pl.DataFrame, market: Market, seed: int) -> Mapped:
    """A map beside the truth."""
    pairs = Pairs.of(rows, market.routes)
    rng = np.random.default_rng(seed)
    several = [pairs.dealt_again(rng) for _ in range(DEALS)]
    true = int(pairs.is_home.sum())
    parts = [each.precision(true) or 0.0 for each in several]
    return Mapped(
        pairs,
        rows,
        [each.auc for each in several if each.auc is not None],
        sum(parts) / len(parts),
    )


@dataclass(frozen=True)
class Attribution:
    """Flows of one market's last year, by a map made before it, beside the truth.

    Attributes:
        by_mode: by what is known: after the 13F, before it, before FINRA's week.
        by_confidence: of those after the 13F, from a confidence on.
    """

    by_mode: dict[str, Flows]
    by_confidence: dict[float, Flows]


LEAST = (0.0, 0.1, 0.2, 0.3)
MODES = ("13F and week known", "week known", "neither (NOWCAST)")


def attributed(seed: int, size: dict[str, int], *, is_shuffled: bool = False) -> Attribution:
    """Fit the map to what was known a year before the end, and attribute the year behind it."""
    market = frames(draw(replace(Settings(seed=seed), **size)))  # type: ignore[arg-type]
    end = last_day(market)
    begin = date(end.year, 1, 1)
    rows = mapped(market, date(end.year - 1, 12, 31))
    if is_shuffled:
        rows = renamed(rows, seed)
    flows_of_year = attribution.attributed(
        market.ats.filter(pl.col("week_start") >= begin),
        market.off_exchange.filter(pl.col("date") >= begin),
        market.iex.filter(pl.col("date") >= begin),
        market.days,
        market.filings,
        market.filing_list,
        rows,
        bars.classify_bars(market.prices).classification,
        attribution.Params(as_of=end),
        market.prices,
    ).flows
    # of the last quarter no 13F can be known yet
    is_old = pl.col("trade_date") < date(end.year, 10, 1)
    is_public = pl.col("mode") == "PUBLISHED"
    parts = (is_old & is_public, ~is_old & is_public, ~is_public)
    old = flows_of_year.filter(parts[0])
    return Attribution(
        {
            name: flows(flows_of_year.filter(part), market.flows, market.routes)
            for name, part in zip(MODES, parts, strict=True)
        },
        {
            least: flows(
                old.filter(pl.col("attribution_confidence") >= least), market.flows, market.routes
            )
            for least in LEAST
        },
    )


def renamed(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The map with its managers' names dealt again."""
    names = rows["institution_cik"].unique().sort()
    other = np.random.default_rng(seed).permutation(names.to_numpy()).tolist()
    to = dict(zip(names.to_list(), other, strict=True))
    return rows.with_columns(pl.col("institution_cik").replace_strict(to))
