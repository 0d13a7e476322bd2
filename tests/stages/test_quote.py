"""The stage of quotes: where they come from, and the row that says that the book is lost."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from pipeline.instrument import BASE, Instrument
from pipeline.stage import Context, Joined
from pipeline.stages.quote import STAGE, Carry, Params, select

TIMED = {"is_ticker": False, "is_timed": True}
BARE = {"is_ticker": False, "is_timed": False}
TICKER = {"is_ticker": True, "is_timed": True}
UNKNOWN = {"is_ticker": None, "is_timed": None}
BOOK: dict[str, dict[str, Any]] = {"book_events": {}, "book_clock": {}}


@pytest.mark.parametrize(
    ("carries", "layer", "timed_by"),
    [
        ({"bbo": TIMED}, "bbo", None),
        ({"bbo": TIMED, **BOOK}, "bbo", None),
        ({"bbo": BARE, **BOOK}, "bbo", "book_clock"),
        ({"bbo": BARE}, "", None),
        ({"bbo": TICKER}, "bbo", None),
        ({"bbo": TICKER, **BOOK}, "book_events", None),
        (BOOK, "book_events", None),
        ({}, "", None),
    ],
)
def test_the_best_source_there_is(
    carries: dict[str, dict[str, Any]], layer: str, timed_by: str | None
) -> None:
    """Quotes, else the book, else tickers; quotes without a time need the book's clock."""
    chosen = select(Params(), carries)
    assert chosen is not None
    assert [(each.layer, each.timed_by) for each in chosen] == (
        [(layer, timed_by)] if layer else []
    )


@pytest.mark.parametrize("book", [{}, BOOK])
def test_before_the_first_quote_nobody_can_tell(book: dict[str, Any]) -> None:
    """What the quotes are is told by the first of them."""
    assert select(Params(), {"bbo": UNKNOWN, **book}) is None


VALUES = ("bid", "bid_size", "ask", "ask_size")
Row = tuple[int, float | None, float | None, float | None, float | None]


def play(rows: list[Row], cuts: list[int]) -> list[tuple[Any, ...]]:
    """The rows of `quote` made of events, in windows."""
    schema = {"ts": pl.Int64} | dict.fromkeys(VALUES, pl.Float64)
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    context = Context(
        Instrument("x", "spot", "X"), BASE, Params(), inputs=frozenset({"book_events"})
    )
    carry, found = Carry(), []
    for low, high in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        closed = STAGE.fold(Joined({"book_events": frame[low:high]}, low, high), carry, context)
        carry = closed.carry
        new = closed.rows["quote"]
        if new is not None:
            stamped = new.with_columns(pl.col("ts").dt.timestamp("us"))
            found += stamped.rows()
    return found


def test_a_lost_book_is_told_once() -> None:
    """At the first event without a quote; not before there was one, not again."""
    none = (None, None, None, None)
    rows: list[Row] = [
        (1, *none),
        (2, 99.0, 1.0, 100.0, 2.0),
        (3, 99.0, 1.0, None, None),
        (4, *none),
        (5, None, None, 100.0, 1.0),
        (6, 99.5, 1.0, 100.0, 2.0),
        (7, 99.5, 1.0, 100.0, 2.0),
        (8, *none),
    ]
    wanted = [
        (2, 99.0, 1.0, 100.0, 2.0, "book"),
        (3, None, None, None, None, "book"),
        (6, 99.5, 1.0, 100.0, 2.0, "book"),
        (7, 99.5, 1.0, 100.0, 2.0, "book"),
        (8, None, None, None, None, "book"),
    ]
    assert play(rows, []) == wanted
    assert play(rows, list(range(1, 8))) == wanted


@pytest.mark.parametrize("seed", range(10))
def test_any_cutting(seed: int) -> None:
    """Windows may be empty."""
    rng = random.Random(seed)
    rows: list[Row] = [
        (i, *rng.choice(((None,) * 4, (9.0, 1.0, 10.0, 1.0), (9.0, 1.0, None, None))))
        for i in range(40)
    ]
    whole = play(rows, [])
    for _ in range(5):
        cuts = sorted(rng.randrange(41) for _ in range(rng.randrange(12)))
        assert play(rows, cuts) == whole
