"""Duplicates, lateness, clocks that jump, gaps: small files with known verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.oracle.raw import Instrument

from .conftest import MakeVault, Outcome, Product
from .vaults import (
    assert_layers,
    assert_quarantine,
    ms,
    okx_line,
    plain_line,
    read_bars,
    read_gaps,
    read_quarantine,
    read_trades,
    write_raw,
)

HOUR = 3600.0
Tick = tuple[str, float]


@dataclass(frozen=True)
class Story:
    """(id, second) of trades in file order, and the ids that reach `trades`.

    `refused` lists (id, reason) in quarantine; `waiting` ids are in neither.
    """

    name: str
    ticks: list[Tick]
    accepted: str
    refused: list[tuple[str, str]] = field(default_factory=list)
    duplicates: int = 0
    waiting: str = ""

    @property
    def instrument(self) -> Instrument:
        """Where the story's trades lie."""
        return Instrument("acme", "spot", self.name)


STORIES = [
    # -- late: the minute ended at or before the watermark
    Story("LATE", [("a", 0), ("b", 60), ("c", 59.999)], "a b", [("c", "late")]),
    Story("LATE-NOT-YET", [("a", 0), ("b", 59.999), ("c", 0.001)], "a b c"),
    Story("LATE-OPEN-MINUTE", [("a", 0), ("b", 119.999), ("c", 60)], "a b c"),
    Story("LATE-BUT-FIRST", [("a", 600), ("b", 0)], "a", [("b", "late")]),
    # -- duplicates: dropped before anything else is asked of them
    Story("DUP", [("a", 0), ("a", 0), ("b", 1), ("a", 30)], "a b", duplicates=2),
    Story("DUP-LATE", [("a", 0), ("b", 60), ("a", 0)], "a b", duplicates=1),
    Story("DUP-OF-LATE", [("a", 0), ("b", 60), ("c", 1), ("c", 1)], "a b", [("c", "late")], 1),
    Story("DUP-FAR-AHEAD", [("a", 0), ("a", 9000), ("b", 1)], "a b", duplicates=1),
    # -- far ahead: exactly five minutes is near enough, a millisecond more must be confirmed
    Story("JUMP-EDGE", [("a", 0), ("b", 300)], "a b"),
    Story("JUMP-OVER", [("a", 0), ("b", 300.001)], "a", waiting="b"),
    Story("JUMP-TRUE", [("a", 0), ("b", HOUR), ("c", HOUR + 1)], "a b c"),
    Story("JUMP-FALSE", [("a", 0), ("b", HOUR), ("c", 1)], "a c", [("b", "future")]),
    # the witness may be five minutes behind, and is then itself late
    Story("JUMP-WITNESS", [("a", 0), ("b", 600), ("c", 300)], "a b", [("c", "late")]),
    Story("JUMP-NO-WITNESS", [("a", 0), ("b", 600), ("c", 299.999)], "a c", [("b", "future")]),
    # the first trade may have any time
    Story("JUMP-FIRST", [("a", 9 * HOUR), ("b", 9 * HOUR + 1)], "a b"),
    # two wrong clocks that do not agree
    Story(
        "JUMP-TWICE",
        [("a", 0), ("b", 5 * HOUR), ("c", HOUR), ("d", HOUR + 1)],
        "a c d",
        [("b", "future")],
    ),
    Story(
        "JUMP-STAIRS",
        [("a", 0), ("b", HOUR), ("c", 2 * HOUR), ("d", 2 * HOUR)],
        "a b c d",
    ),
    Story(
        "JUMP-DOWN",
        [("a", 0), ("b", 3 * HOUR), ("c", 2 * HOUR), ("d", 1)],
        "a d",
        [("b", "future"), ("c", "future")],
    ),
    # a duplicate is no witness, a late trade is
    Story(
        "JUMP-PAST-DUP",
        [("a", 0), ("b", HOUR), ("a", 0), ("c", HOUR + 1)],
        "a b c",
        duplicates=1,
    ),
    Story(
        "JUMP-LATE-WITNESS",
        [("a", 0), ("b", 60), ("c", HOUR), ("d", 1), ("e", 61)],
        "a b e",
        [("c", "future"), ("d", "late")],
    ),
    # the id of a refused record is free again
    Story(
        "JUMP-ID-FREE",
        [("a", 0), ("b", HOUR), ("c", 1), ("b", 2)],
        "a c b",
        [("b", "future")],
    ),
    # the record after an outage, written twice, counts once
    Story(
        "JUMP-DOUBLED",
        [("a", 0), ("b", HOUR), ("b", HOUR), ("c", HOUR + 1)],
        "a b c",
        duplicates=1,
    ),
]
BAD_BETWEEN = Instrument("acme", "spot", "JUMP-PAST-BAD")
WINDOW = Instrument("acme", "spot", "WINDOW")
GAPS = {
    exchange: Instrument(exchange, "spot", f"GAP-{exchange.upper()}")
    for exchange in ("okx", "sim", "acme")
}


def bad_between() -> bytes:
    """A far-ahead record, a bad line, its witness."""
    return (
        plain_line("a", ms(0), "10", "1")
        + plain_line("b", ms(HOUR), "10", "1")
        + b"bad\n"
        + plain_line("c", ms(HOUR), "10", "1")
        + b"".join(plain_line(f"g{i}", ms(HOUR), "10", "1") for i in range(200))
    )


def window_lines() -> bytes:
    """100 001 ids, then 2 (the oldest remembered), 1 (just forgotten), 2 (now forgotten)."""
    first = (plain_line(i, ms(i / 1000), "10", "1") for i in range(1, 100_002))
    again = (plain_line(i, ms(101), "10", "1") for i in (2, 1, 2))
    return b"".join([*first, *again])


def gap_lines(instrument: Instrument) -> bytes:
    """Ids 1000, 1001, 1003 (skips one), 1002 (late filler), 1010 (count 3), 1011, then a jump."""
    steps = [(1000, 0, 1), (1001, 1, 1), (1003, 2, 1), (1002, 3, 1), (1010, 4, 3), (1011, 61, 1),
             (1013, 62, 2), (2000, 125, 1)]  # fmt: skip
    if instrument.exchange == "acme":
        return b"".join(plain_line(n, ms(s), "10", "1", count=c) for n, s, c in steps)
    return b"".join(
        okx_line(instrument.inst_id, n, ms(s), "10", "1", count=str(c)) for n, s, c in steps
    )


@pytest.fixture(scope="module")
def run(new_vault: MakeVault, product: Product) -> tuple[Path, Outcome]:
    """One run over all stories."""
    vault = new_vault("stories")
    for story in STORIES:
        lines = [plain_line(i, ms(second), "10", "1") for i, second in story.ticks]
        write_raw(vault, story.instrument, "2024-03-05", b"".join(lines))
    write_raw(vault, BAD_BETWEEN, "2024-03-05", bad_between())
    write_raw(vault, WINDOW, "2024-03-05", window_lines())
    for instrument in GAPS.values():
        write_raw(vault, instrument, "2024-03-05", gap_lines(instrument))
    # refused records of three lines are more than one per cent of them
    return vault, product.run_all(vault, expect=65)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_story(run: tuple[Path, Outcome], story: Story) -> None:
    """The verdicts written down, then everything against the oracle."""
    vault, outcome = run
    assert [t["trade_id"] for t in read_trades(vault, story.instrument)] == story.accepted.split()
    lines = {plain_line(i, ms(second), "10", "1").decode().rstrip(): i for i, second in story.ticks}
    rows = [row for _, row in read_quarantine(vault, story.instrument)]
    refused = sorted((lines[row["raw"]], row["reason"]) for row in rows)
    assert refused == sorted(story.refused)
    summary = outcome.summary(story.name)
    assert summary["duplicate"] == story.duplicates
    assert summary["late"] == [r for _, r in story.refused].count("late")
    assert summary["bad"] == [r for _, r in story.refused].count("future")
    judge = assert_layers(vault, story.instrument)
    assert_quarantine(vault, story.instrument, judge)
    assert (judge.held[0].trade_id if judge.held else "") == story.waiting


def test_a_bad_line_is_no_witness(run: tuple[Path, Outcome]) -> None:
    """Only good records decide on the one held back."""
    vault, _ = run
    judge = assert_layers(vault, BAD_BETWEEN)
    assert len(judge.accepted) == 203
    assert_quarantine(vault, BAD_BETWEEN, judge)


def test_window_of_a_hundred_thousand(run: tuple[Path, Outcome]) -> None:
    """The 100 000th id back is remembered, the one before it is not."""
    vault, outcome = run
    ids = [t["trade_id"] for t in read_trades(vault, WINDOW)]
    assert len(ids) == 100_003
    assert ids[-3:] == ["100001", "1", "2"]
    assert outcome.summary("WINDOW")["duplicate"] == 1


@pytest.mark.parametrize("exchange", ["okx", "sim"])
def test_gaps(run: tuple[Path, Outcome], exchange: str) -> None:
    """Missing ids are listed, mark their trade and count in its bar."""
    vault, _ = run
    instrument = GAPS[exchange]
    gaps = [(g["from"], g["to"], g["ts"]) for g in read_gaps(vault, instrument)]
    assert gaps == [(1002, 1002, ms(2)), (1004, 1007, ms(4)), (1014, 1999, ms(125))]
    marked = [t["trade_id"] for t in read_trades(vault, instrument) if t["gap_before"]]
    assert marked == ["1003", "1010", "2000"]
    assert [row["gaps"] for row in read_bars(vault, instrument, "1m")] == [2, 0]
    assert_layers(vault, instrument)


def test_no_gaps_where_ids_are_not_contiguous(run: tuple[Path, Outcome]) -> None:
    """An exchange of the plain format promises nothing about its ids."""
    vault, _ = run
    assert read_gaps(vault, GAPS["acme"]) == []
    assert not any(t["gap_before"] for t in read_trades(vault, GAPS["acme"]))
    assert_layers(vault, GAPS["acme"])
