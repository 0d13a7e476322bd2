"""Who may have traded a symbol through a venue: managers that hold it or have just sold out."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.equities.positions import MANAGER, Positions

GROUP = ["symbol", "quarter", "mpid"]


def holders(
    positions: Positions, moved: pl.DataFrame, quarters: list[int], stale_quarters: int
) -> pl.DataFrame:
    """The managers that may have traded each symbol in each quarter.

    Of each manager the latest report up to the quarter counts, no more than `stale_quarters`
    older; it names what was held at its date, and what was sold out since the report before.

    Args:
        positions: what was held.
        moved: `positions.changes` of the same positions.
        quarters: the quarters to answer for.
        stale_quarters: how much older a report may be.

    Returns:
        `symbol`, `quarter`, `institution_cik`, `sign` (of the quarter's own change, null where
        that is not known), `known_date` (when all of this was), sorted.
    """
    keys = [MANAGER, "report"]
    reports = positions.reports.select(MANAGER, "known_date", report="quarter")
    asked = pl.DataFrame({"quarter": quarters}, schema={"quarter": pl.Int32})
    latest = (
        reports.join(asked, how="cross")
        .filter((pl.col("quarter") - pl.col("report")).is_between(0, stale_quarters))
        .sort(MANAGER, "quarter", "report")
        .unique([MANAGER, "quarter"], keep="last", maintain_order=True)
    )
    held = positions.holdings.select(MANAGER, "symbol", report="quarter")
    known = moved.select(
        MANAGER,
        "symbol",
        sign=pl.col("change").sign(),
        report="quarter",
        since="known_date",
    )
    return (
        held.join(known, on=[*keys, "symbol"], how="full", coalesce=True)
        .join(latest, on=keys)
        .select(
            "symbol",
            "quarter",
            MANAGER,
            sign=pl.when(pl.col("quarter") == pl.col("report")).then("sign"),
            known_date=pl.max_horizontal("known_date", "since"),
        )
        .sort("symbol", "quarter", MANAGER)
    )


def by_venue(several: pl.DataFrame, broker_map: pl.DataFrame) -> pl.DataFrame:
    """Holders together with each venue they are related to.

    Returns:
        The columns of `holders` with `mpid`, `strength` and, for the venue's candidates of the
        symbol and quarter together, `known_date` and `whole` = 1 + the sum of their strengths;
        sorted by symbol, quarter, venue, manager.
    """
    related = broker_map.filter(pl.col("relationship_strength") > 0).select(
        MANAGER, mpid="broker_mpid", strength="relationship_strength"
    )
    rows = (
        several.join(related, on=MANAGER)
        .sort(*GROUP, MANAGER)
        .with_columns(group=pl.struct(GROUP).rle_id(), known_date=pl.max("known_date").over(GROUP))
    )
    group = rows["group"].to_numpy()
    # added up in the order of rows, whatever the number of threads
    whole = 1 + np.bincount(group, weights=rows["strength"].to_numpy()) if len(rows) else group
    return rows.with_columns(whole=pl.Series(whole[group], dtype=pl.Float64))
