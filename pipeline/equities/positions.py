"""13F positions as they were known on a day: amendments, exits, and filings that are not there.

Of a manager and a quarter the last original or RESTATEMENT filed by that day stands, and what
NEW HOLDINGS amendments filed after it add. A symbol that a filing does not name was not held; of
a quarter without a filing nothing is known, which is not zero. Amendments alone, without the
filing that they amend, are no report.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from pipeline.equities import quarters

ADDITION, RESTATEMENT = "NEW HOLDINGS", "RESTATEMENT"
MANAGER = "institution_cik"


@dataclass(frozen=True, slots=True)
class Positions:
    """What 13F filings say.

    Attributes:
        reports: a row per manager and quarter with a report, in their order: `institution_cik`,
            `quarter`, `accession` (of the filing that stands), `filed_date` (its own),
            `known_date` (of the last filing that counts).
        holdings: a row per manager, quarter and symbol held: `institution_cik`, `quarter`,
            `symbol`, `shares` (above 0), `value` (dollars).
    """

    reports: pl.DataFrame
    holdings: pl.DataFrame


def resolve(filings: pl.DataFrame, filing_list: pl.DataFrame, as_of: date | None) -> Positions:
    """The positions known at the end of `as_of`; None: of all filings there are.

    Args:
        filings: rows of `institution_cik`, `accession`, `period`, `filed_date`, `amendment`
            (null, RESTATEMENT or NEW HOLDINGS), `symbol`, `shares`, `value`; rows without a
            symbol are left out, several rows of a symbol are added up.
        filing_list: the same first five columns, for filings that may have no row at all.
        as_of: nothing that was filed later counts.
    """
    counted = _counted(filings, filing_list, as_of)
    reports = (
        counted.group_by(MANAGER, "quarter")
        .agg(
            pl.col("accession").filter(pl.col("is_base")).first(),
            pl.col("filed_date").filter(pl.col("is_base")).first(),
            known_date=pl.col("filed_date").max(),
        )
        .sort(MANAGER, "quarter")
    )
    keys = [MANAGER, "accession", "quarter"]
    held = (
        filings.filter(pl.col("symbol").is_not_null(), pl.col("shares") > 0)
        .with_columns(quarter=quarters.number(pl.col("period")))
        .join(counted.select(keys), on=keys, how="semi")
        .group_by(MANAGER, "quarter", "symbol")
        # whole cents, so that the sum does not depend on the order of rows
        .agg(pl.col("shares").sum(), value=(pl.col("value") * 100).round().cast(pl.Int64).sum())
        .with_columns(pl.col("value") / 100)
        .sort(MANAGER, "quarter", "symbol")
    )
    return Positions(reports, held)


def _counted(filings: pl.DataFrame, filing_list: pl.DataFrame, as_of: date | None) -> pl.DataFrame:
    """The filings that count: of each manager and quarter the last base and its additions."""
    columns = [MANAGER, "accession", "period", "filed_date", "amendment"]
    listed = pl.concat([filings.select(columns), filing_list.select(columns)]).unique()
    if as_of is not None:
        listed = listed.filter(pl.col("filed_date") <= as_of)
    is_base = pl.col("amendment").is_null() | (pl.col("amendment") != ADDITION)
    # on one day an original precedes what restates it, and both precede what is added to them
    kind = (~is_base).cast(pl.Int8) * 2 + (is_base & pl.col("amendment").is_not_null())
    group = [MANAGER, "quarter"]
    return (
        listed.with_columns(quarters.number(pl.col("period")).alias("quarter"), kind.alias("kind"))
        .sort(*group, "filed_date", "kind", "accession")
        .with_columns(is_base=is_base, place=pl.int_range(pl.len()).over(group))
        .with_columns(
            base=pl.when("is_base").then("place").max().over(group),
        )
        .filter(pl.col("place") >= pl.col("base"))
        .drop("kind", "place", "base")
    )


def changes(positions: Positions, factors: pl.DataFrame) -> pl.DataFrame:
    """What managers bought and sold from one quarter's end to the next, where both are reported.

    Args:
        positions: what was held.
        factors: `symbol`, `quarter`, `top`, `bottom`: a share of the quarter before has become
            top / bottom shares; symbols and quarters that are not there did not split.

    Returns:
        `institution_cik`, `quarter`, `symbol`, `shares`, `previous` (in shares of this quarter,
        fractions cut off as a split pays them out), `change`, `known_date`, sorted; symbols held
        at either end, also those that did not change.
    """
    reports = positions.reports.select(MANAGER, "quarter", "known_date")
    before = reports.with_columns(pl.col("quarter") + 1)
    both = reports.join(before, on=[MANAGER, "quarter"], suffix="_before").select(
        MANAGER, "quarter", known_date=pl.max_horizontal("known_date", "known_date_before")
    )
    keys = [MANAGER, "quarter", "symbol"]
    held = positions.holdings.select(*keys, "shares")
    previous = (
        held.with_columns(pl.col("quarter") + 1)
        .join(factors, on=["symbol", "quarter"], how="left")
        .select(
            *keys,
            previous=pl.when(pl.col("top").is_null())
            .then("shares")
            .otherwise(pl.col("shares") * pl.col("top") // pl.col("bottom")),
        )
    )
    return (
        held.join(previous, on=keys, how="full", coalesce=True)
        .join(both, on=[MANAGER, "quarter"])
        .with_columns(pl.col("shares", "previous").fill_null(0))
        .select(
            *keys,
            "shares",
            "previous",
            change=pl.col("shares") - pl.col("previous"),
            known_date="known_date",
        )
        .sort(keys)
    )
