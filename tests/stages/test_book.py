"""The book stage where numbers and clocks are at their limits; its rows are held elsewhere.

What a feed's rows must be is told by the oracle; here is what an oracle would not notice: numbers
that cannot be held, wherever a feed is cut, and what the carry keeps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.engine import state as states
from pipeline.instrument import BASE, Contract, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Closed, Context
from pipeline.stages.book import STAGE, Carry, Params

SWAP = Instrument("okx", "perps", "X")
LINEAR, INVERSE = Contract("linear", "0.01"), Contract("inverse", "100")
HUGE = Contract("linear", "1000000")
START_MS = 1_709_640_000_000
MINUTE_US = 60_000_000
Levels = Sequence[tuple[str, str]]


def okx(
    action: str, second: float, last: int, prev: int, bids: Levels = (), asks: Levels = ()
) -> bytes:
    """A frame of `books`."""
    entry = {"bids": bids, "asks": asks, "ts": str(START_MS + round(second * 1000))}
    arg = {"channel": "books", "instId": "X"}
    data = [entry | {"seqId": last, "prevSeqId": prev}]
    return json.dumps({"arg": arg, "action": action, "data": data}).encode() + b"\n"


def plain(second: float, bids: Levels, asks: Levels) -> bytes:
    """A plain book."""
    ts = START_MS + round(second * 1000)
    return json.dumps({"ts": ts, "bids": bids, "asks": asks}).encode() + b"\n"


def play(
    lines: Sequence[bytes],
    sizes: Sequence[int],
    instrument: Instrument = SWAP,
    contract: Contract = LINEAR,
    **params: Any,
) -> tuple[dict[str, list[Any]], list[tuple[int, str]], Carry, list[Closed[Carry]]]:
    """All rows by layer, the rejects, the last carry; the lines in blocks of these sizes."""
    assert STAGE.decode is not None
    carry, offset, at = Carry(), 0, 0
    rows: dict[str, list[Any]] = {}
    rejects: list[tuple[int, str]] = []
    folds = []
    context = Context(instrument, contract, Params(**params))
    for size in sizes:
        data = b"".join(lines[at : at + size])
        at += size
        block = Block(data, "raw/f.jsonl", "2024-03-05", offset)
        offset += len(data)
        carry = states.thaw(states.freeze(carry), Carry)
        closed = STAGE.fold(STAGE.decode(block, instrument, contract), carry, context)
        carry = closed.carry
        folds.append(closed)
        for name, new in closed.rows.items():
            rows.setdefault(name, []).extend(new if isinstance(new, list) else new.rows())
        rejects += [(reject.offset, reject.reason) for reject in closed.rejects]
    return rows, rejects, carry, folds


def assert_any_cutting(lines: Sequence[bytes], **how: Any) -> tuple[dict[str, list[Any]], int]:
    """Whole, line by line and in pairs: the same; the rows and how many lines were refused."""
    count = len(lines)
    whole = play(lines, [count], **how)
    for sizes in ([1] * count, [2] * (count // 2) + [count % 2], [count - 1, 1], [1, count - 1]):
        found = play(lines, sizes, **how)
        for name in {*whole[0], *found[0]}:
            assert found[0].get(name, []) == whole[0].get(name, []), (name, sizes)
        assert found[1] == whole[1], sizes
        assert states.freeze(found[2]) == states.freeze(whole[2]), sizes
    assert all(reason == "magnitude" for _, reason in whole[1])
    return whole[0], len(whole[1])


ORDINARY = ("100.5", "2")
ODD = [
    ("100.5", "0.000000000000000001"),
    ("100.5", "999999999999999999"),
    ("100.5", "9007199254740993"),
    ("999999999999999999", "1"),
    ("0.000000000000000001", "1"),
    ("123456789.123456789", "1"),
    ("100.5", "12345678.123456789"),
]


@pytest.mark.parametrize("contract", [BASE, LINEAR, INVERSE], ids=["base", "linear", "inverse"])
@pytest.mark.parametrize("odd", ODD)
def test_numbers_that_cannot_be_held_beside_the_others(
    odd: tuple[str, str], contract: Contract
) -> None:
    """The record is refused or held, wherever the feed is cut; the others are as if alone."""
    bids, asks = [("100", "5"), ("99.25", "1.5")], [("101", "123456789"), ("102.75", "0.25")]
    lines = [
        okx("snapshot", 0, 1, -1, bids, asks),
        okx("update", 1, 2, 1, [ORDINARY]),
        okx("update", 2, 2, 2, [odd]),
        okx("update", 3, 3, 2, [("100.5", "0")], [("101", "7")]),
        okx("update", 62, 4, 3, [("98", "1")]),
        okx("update", 63, 4, 4, [odd], [("103", "1")]),
        okx("update", 125, 5, 4, [("97", "1")]),
    ]
    rows, refused = assert_any_cutting(lines, contract=contract)
    alone, none = assert_any_cutting([lines[i] for i in (0, 1, 3, 4, 6)], contract=contract)
    assert not none
    if refused:
        assert refused == 2
        for name in ("book", "book_events", "ladder_1m"):
            assert rows[name] == alone[name]
    else:
        assert len(rows["book_events"]) == len(alone["book_events"]) + 2


WRAPS = (2**64 + 8 * 10**15) // 10**6 + 1
"""Times a million it is, in 64 bits, a size that could well be."""


@pytest.mark.parametrize("size", [WRAPS, 4_611_686_018_428, 10**18 - 1])
def test_a_size_that_overflows_is_refused(size: int) -> None:
    """Contracts of a million: the product must not wrap around into a size that looks good."""
    bids, asks = [("100", "5")], [("101", "5")]
    lines = [
        okx("snapshot", 0, 1, -1, bids, asks),
        okx("update", 1, 2, 1, [("99", str(size))]),
        okx("update", 2, 3, 1, [("98", "1")]),
    ]
    _, rejects, carry, _ = play(lines, [3], contract=HUGE)
    assert [reason for _, reason in rejects] == ["magnitude"]
    assert carry.book.side(0).price.tolist() == [100, 98]


def test_a_held_record_that_is_refused_is_named_itself() -> None:
    """It jumped ahead, the next one bears it out, and then its size cannot be held."""
    lines = [
        okx("snapshot", 0, 1, -1, [("100", "5")], [("101", "5")]),
        okx("update", 400, 2, 1, [("99", str(WRAPS))]),
        okx("update", 401, 3, 1, [("98", "1")]),
        okx("update", 402, 4, 3, [("97", "1")]),
    ]
    for sizes in ([4], [1, 1, 1, 1], [2, 2], [1, 3], [3, 1]):
        _, rejects, carry, _ = play(lines, sizes, contract=HUGE)
        assert rejects == [(len(lines[0]), "magnitude")], sizes
        assert carry.book.side(0).price.tolist() == [100, 98, 97]


def test_a_minute_is_over_when_the_clock_says_so() -> None:
    """The record that moves the clock may be one that is refused: joined stages go by the clock."""
    bids, asks = [("100", "5")], [("101", "5")]
    lines = [
        okx("snapshot", 0, 1, -1, bids, asks),
        okx("update", 1, 2, 1, [("99", "3")]),
        okx("update", 65, 3, 2, [("100.123456789012345", "999999")]),
        okx("update", 66, 3, 2, [("98", "1")]),
    ]
    rows, refused = assert_any_cutting(lines)
    assert (refused, len(rows["ladder_1m"])) == (1, 1)
    *_, folds = play(lines, [3, 1])
    assert folds[0].watermark_us == START_MS * 1000 + 65_000_000
    assert len(folds[0].rows["ladder_1m"]) == 1, "the clock has left the minute"


@pytest.mark.parametrize("book_ms", [0, 100, 60_000, 90_000])
def test_the_last_event_of_a_ladder_is_told_however_the_cells_end(book_ms: int) -> None:
    """`at` is the event's time, also where its cell has been written before."""
    bids, asks = [("100", "5")], [("101", "5")]
    lines = [
        okx("snapshot", 0, 1, -1, bids, asks),
        okx("update", 10.05, 2, 1, [("99", "3")]),
        okx("update", 30, 2, 2),
        okx("update", 70, 2, 2),
        okx("update", 71, 3, 2, [("98", "3")]),
        okx("update", 200, 3, 3),
    ]
    rows, _ = assert_any_cutting(lines, book_ms=book_ms)
    at = [row[1].timestamp() - START_MS / 1000 for row in rows["ladder_1m"]]
    assert at == [pytest.approx(10.05, abs=1e-6), 71]


def test_scales_grow_while_updates_are_kept() -> None:
    """What was kept without a book, the waiting cell and the last touch grow with the scales."""
    fine = ("100.12345", "1.123456")
    lines = [
        okx("update", 0, 5, 4, [("99", "1")], [("103", "3")]),
        okx("update", 1, 6, 5, [fine]),
        okx("snapshot", 1.01, 4, -1, [("98", "2.5")], [("104", "1")]),
        okx("update", 1.02, 7, 6, [("97", "1.12345678")]),
        okx("update", 1.03, 8, 7, [("96.1234567", "1")]),
        okx("update", 9, 9, 8, [("95", "1")]),
    ]
    rows, refused = assert_any_cutting(lines, contract=BASE)
    assert not refused
    bids = rows["book"][0][1:21]
    assert bids[:5] == (100.12345, 99.0, 98.0, 97.0, 96.1234567)


def test_records_of_one_line_and_a_line_that_waits() -> None:
    """The second record of a line waits for a witness; the line is decoded again for it."""
    levels = {"bids": [["100", "1"]], "asks": [["101", "1"]]}
    far = str(START_MS + 400_000)
    entries = [
        levels | {"ts": str(START_MS), "seqId": 1, "prevSeqId": -1},
        {"bids": [["99", "1"]], "asks": [], "ts": far, "seqId": 2, "prevSeqId": 1},
    ]
    arg = {"channel": "books", "instId": "X"}
    both = [
        json.dumps({"arg": arg, "action": "snapshot", "data": entries[:1]}).encode() + b"\n",
        json.dumps({"arg": arg, "action": "update", "data": entries[1:] * 2}).encode() + b"\n",
    ]
    good = [*both, okx("update", 401, 3, 2, [("98", "1")])]
    rows, _ = assert_any_cutting(good)
    assert len(rows["book_events"]) == 3
    wrong = [*both, okx("update", 1, 2, 1, [("98", "1")])]
    whole = play(wrong, [3])
    assert [reason for _, reason in whole[1]] == []
    assert play(wrong, [1, 1, 1])[0]["book_events"] == whole[0]["book_events"]


def test_the_ladder_keeps_what_matters() -> None:
    """Levels within 100 bps of the mid, and as many beyond as hold 10 M in all."""
    instrument = Instrument("elsewhere", "spot", "X")
    bids = [(str(10_000 - 10 * i), "1") for i in range(100)]
    asks = [(str(10_010 + 10 * i), "50") for i in range(100)]
    lines = [plain(0, bids, asks), plain(61, bids, asks)]
    rows, *_ = play(lines, [2], instrument, BASE, ladder_notional=1_500_000)
    (row,) = rows["ladder_1m"]
    bid_px, ask_px = row[2], row[6]
    assert len(bid_px) == 100, "all bids hold less than 1.5 M"
    assert len(ask_px) == 10, "the asks within 100 bps hold more"
    rows, *_ = play(lines, [2], instrument, BASE, ladder_notional=1)
    (row,) = rows["ladder_1m"]
    assert (len(row[2]), len(row[6])) == (10, 10)
