"""The parts of the benchmark that other libraries compute too: their values are really compared.

Nothing here looks at a measured time.
"""

from __future__ import annotations

import random
from functools import cache

import polars as pl
import pytest

from pipeline.calc.ticks import Ticks
from pipeline.instrument import Contract
from scripts.benchkit.cold import BenchError
from scripts.benchkit.parts import Part, parts
from scripts.benchkit.tape import Rows, by_minute, by_price, tape_of

START_US = 1_736_121_600_000_000
COMPARED = {
    ("CVD", "wickra"): [1, 5, 6],
    ("session VWAP", "wickra"): [0, 1],
    ("VPIN", "wickra"): [5],
    ("λ, Amihud", "wickra"): [0, 3],
    ("λ, r²", "statsmodels"): [0, 1, 2],
    ("value area", "MarketProfile"): [3, 4, 5, 6],
}


def two_hours() -> Ticks:
    """Trades of 130 minutes, several in each."""
    chance, price = random.Random(7), 1_000_000
    rows = []
    for number in range(2600):
        price += chance.randint(-20, 20)
        size = chance.randint(1, 500)
        side = chance.choice((1, -1))
        rows.append((START_US + number * 3_000_000, price, size, price * size, side))
    frame = pl.DataFrame(rows, schema=["ts", "px", "sz", "nt", "side"], orient="row")
    more = frame.with_row_index("seq").with_columns(
        pl.lit(1, dtype=pl.UInt8).alias("px_dp"),
        pl.col("side").cast(pl.Int8),
        pl.lit(value=False).alias("gap"),
    )
    columns = ["seq", "ts", "px", "px_dp", "sz", "nt", "side", "gap"]
    return Ticks(more.select(columns).cast({"seq": pl.Int64}), 1, 4, 5)


@cache
def all_parts() -> list[Part]:
    return list(parts(tape_of(two_hours(), Contract("base", "1", "0.1"))))


CASES = [
    (name, peer, place) for (name, peer), places in COMPARED.items() for place in (None, *places)
]


def spoiled(rows: Rows, place: int) -> Rows:
    """The same rows with one number of each a little larger."""

    def larger(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
        number = values[place]
        return (*values[:place], number and number * 1.00001, *values[place + 1 :])

    return {name: [(at, larger(values)) for at, values in found] for name, found in rows.items()}


@pytest.mark.parametrize(("name", "peer", "place"), CASES)
def test_a_wrong_value_of_a_part_is_caught(name: str, peer: str, place: int | None) -> None:
    part = next(each for each in all_parts() if each.name.startswith(name) and each.peer == peer)
    ours, theirs = part.ours(), part.theirs()

    part.check(ours, theirs)
    if place is not None:
        with pytest.raises(BenchError, match="the peer has"):
            part.check(spoiled(ours, place), theirs)


def test_every_part_is_checked_here() -> None:
    assert len(all_parts()) == len(COMPARED)


def test_sums_by_minute_and_by_price_lose_nothing() -> None:
    ticks = two_hours()

    minutes, prices = by_minute(ticks), by_price(ticks)

    for sums in (minutes, prices):
        assert sums.frame.columns == ticks.frame.columns
        assert sums.frame["sz"].sum() == ticks.frame["sz"].sum()
        assert sums.frame["nt"].sum() == ticks.frame["nt"].sum()
    assert minutes.frame["px"][-1] == ticks.frame["px"][-1]
    assert prices.frame["px"].is_sorted()
    assert prices.frame["px"].is_unique().all()
