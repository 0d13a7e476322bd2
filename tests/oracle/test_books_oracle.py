"""The book oracles on cases small enough to work out by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from .book_layers import (
    PRECISE,
    Inputs,
    Ladder,
    band,
    bias_at,
    bucket_columns,
    costs_rows,
    flow_rows,
    impact_of,
    layers_of,
    mean_costs,
    mids_around,
    momentum,
    verdict,
    walk,
    weighted,
)
from .books import (
    Level,
    Replay,
    book_event_rows,
    book_gap_rows,
    book_rows,
    decode_books,
    ladder_rows,
    ofi_term,
    replay_lines,
)
from .cells import MINUTE_US
from .fold import Accepted, Judge
from .layers import Row
from .quotes import Quote, QuoteFeed, QuoteStream, decode_quotes, quote_stream
from .raw import BadLineError, Contract, Instrument, Line, Trade

OKX = Instrument("okx", "spot", "BTC-USDT")
SWAP = Instrument("okx", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01")))
INVERSE = Instrument("okx", "perps", "BTC-USD-SWAP", Contract(Decimal(100), inverse=True))
PERP = Instrument("binance", "perps", "BTCUSDT")
SPOT = Instrument("binance", "spot", "BTCUSDT")
COIN = Instrument("coinbase", "spot", "BTC-USD")
ACME = Instrument("acme", "spot", "HAND")
START = 1_709_640_000_000
"""2024-03-05 12:00 UTC, in ms."""

Sized = Sequence[tuple[str, str]]
"""Levels as texts: price and size."""


# -- lines -----------------------------------------------------------------------------


def line(document: dict[str, Any]) -> bytes:
    """One raw line without its end."""
    return json.dumps(document, separators=(",", ":")).encode()


def okx_book(
    where: Instrument,
    action: str,
    second: float,
    last: int | None,
    prev: int | None,
    bids: Sized = (),
    asks: Sized = (),
) -> bytes:
    """A frame of `books`."""
    entry: dict[str, Any] = {
        "asks": [[p, s, "0", "1"] for p, s in asks],
        "bids": [[p, s, "0", "1"] for p, s in bids],
        "ts": str(START + round(second * 1000)),
    }
    ids = {"prevSeqId": prev, "seqId": last}
    entry |= {name: value for name, value in ids.items() if value is not None}
    arg = {"channel": "books", "instId": where.inst_id}
    return line({"arg": arg, "action": action, "data": [entry]})


def depth(
    where: Instrument,
    second: float,
    first: int,
    last: int,
    prev: int | None = None,
    bids: Sized = (),
    asks: Sized = (),
) -> bytes:
    """A depthUpdate; `pu` only where it is given."""
    row: dict[str, Any] = {
        "e": "depthUpdate",
        "E": START + round(second * 1000),
        "s": where.inst_id,
        "U": first,
        "u": last,
        "b": [list(level) for level in bids],
        "a": [list(level) for level in asks],
    }
    return line(row if prev is None else row | {"pu": prev})


def rest(last: int, bids: Sized, asks: Sized, second: float | None = None) -> bytes:
    """A snapshot over REST."""
    row: dict[str, Any] = {"lastUpdateId": last}
    if second is not None:
        row["T"] = START + round(second * 1000)
    return line(row | {"bids": [list(b) for b in bids], "asks": [list(a) for a in asks]})


def whole(second: float, bids: Sized, asks: Sized) -> bytes:
    """A plain book."""
    return line(
        {
            "ts": START + round(second * 1000),
            "bids": [list(b) for b in bids],
            "asks": [list(a) for a in asks],
        }
    )


BIDS = (("100", "1"), ("99", "2"))
ASKS = (("101", "1"), ("102", "2"))


def touches(replay: Replay) -> list[tuple[float, ...] | None]:
    """Bid, its size, ask, its size of each event."""
    return [
        None if e.touch is None else tuple(float(value) for value in e.touch) for e in replay.events
    ]


def seconds(replay: Replay) -> list[float]:
    """When each event was, after the start."""
    return [e.ts_us / 1e6 - START / 1e3 for e in replay.events]


def exact(value: Any) -> Any:
    """A value whose type is none of the checker's business here."""
    return value


# -- order flow imbalance ------------------------------------------------------------


def test_ofi_fixture() -> None:
    """The published six."""
    states = [
        (100, 10, 101, 12),
        (100, 15, 101, 12),
        (101, 4, 102, 20),
        (100, 11, 102, 20),
        (100, 11, 102, 16),
        (100, 11, 101, 3),
        (100, 11, 103, 9),
    ]
    exact = [tuple(Decimal(v) for v in state) for state in states]
    terms = [ofi_term((a, b, c, d), (e, f, g, h)) for (a, b, c, d), (e, f, g, h) in pairwise(exact)]
    assert terms == [5, 16, -4, 4, -3, 3]


def unit_walk(rng: random.Random, events: int, full: int) -> list[Quote]:
    """A market of queues of `full` units, where one unit comes or goes an event."""
    bid, bid_left, ask, ask_left = 1000, full, 1001, full
    quotes = []
    for i in range(events):
        state = [Decimal(value) for value in (bid, bid_left, ask, ask_left)]
        quotes.append(Quote(i * 1000, *state))
        kind = rng.randrange(4)
        if kind == 0 and bid_left == full and bid + 1 < ask:
            bid, bid_left = bid + 1, 1  # onto a full queue: the next price begins
        elif kind == 0:
            bid_left = min(full, bid_left + 1)
        elif kind == 1:
            bid, bid_left = (bid, bid_left - 1) if bid_left > 1 else (bid - 1, full)
        elif kind == 2 and ask_left == full and ask - 1 > bid:
            ask, ask_left = ask - 1, 1
        elif kind == 2:
            ask_left = min(full, ask_left + 1)
        else:
            ask, ask_left = (ask, ask_left - 1) if ask_left > 1 else (ask + 1, full)
    return quotes


def test_ofi_of_unit_events_is_the_price_move() -> None:
    """One unit an event, D a level: the mid moves by OFI / 2D, to a tick, in every window."""
    full = 6
    quotes = unit_walk(random.Random(5), 3000, full)
    terms = [ofi_term(exact(a.state), exact(b.state)) for a, b in pairwise(quotes)]
    assert {abs(term) for term in terms} == {0, 1}
    for begin in range(0, len(quotes) - 1, 97):
        for end in range(begin + 1, len(quotes), 131):
            moved = exact(quotes[end].mid) - exact(quotes[begin].mid)
            ofi = sum(terms[begin:end], Decimal(0))
            assert abs(moved - ofi / (2 * full)) <= 1


def test_ofi_pairs_break_after_a_minute_and_at_a_hole() -> None:
    """Sixty seconds still pair, a millisecond more do not, nor does an empty quote between."""

    def quote(second: float, size: str | None) -> Quote:
        ts_us = START * 1000 + round(second * 1e6)
        if size is None:
            return Quote(ts_us)
        return Quote(ts_us, Decimal(100), Decimal(size), Decimal(101), Decimal(1))

    cases: list[tuple[list[Quote], Any]] = [
        ([quote(0, "1"), quote(60, "3")], 2.0),
        ([quote(0, "1"), quote(60.001, "3")], None),
        ([quote(59, "1"), quote(61, None), quote(62, "3")], None),
        ([quote(61, "1"), quote(62, "3"), quote(63, "1")], 0.0),
    ]
    for quotes, ofi in cases:
        inputs = Inputs(ACME)
        inputs.stream = QuoteStream("quotes", quotes, START * 1000 + 600_000_000)
        with localcontext(PRECISE):
            row = flow_rows(inputs)[-1]
        assert row["ofi"] == ofi
        assert row["timestamp_utc"] == "2024-03-05T12:01:00Z"
        assert row["ofi_levels"] is None
        assert row["whale_buy_trades"] is None


def test_momentum_is_over_clock_minutes() -> None:
    """Five minutes of the clock, this one included; those without a row are skipped."""
    norms = {0: Decimal(1), MINUTE_US: Decimal("0.5"), 5 * MINUTE_US: Decimal("-0.5")}
    assert momentum(norms, 5 * MINUTE_US) == 0
    assert momentum(norms, 6 * MINUTE_US) == Decimal("-0.5")
    assert momentum(norms, 30 * MINUTE_US) is None


def test_values_stand_a_minute_at_most() -> None:
    """1 for 30 s, 0 for 15 s, nothing for 5 s, 1 for 10 s; then a value that stands too long."""
    s = 1_000_000
    values = [
        (0, Decimal(1)),
        (30 * s, Decimal(0)),
        (45 * s, None),
        (50 * s, Decimal(1)),
        (200 * s, Decimal(0)),
    ]
    with localcontext(PRECISE):
        assert weighted(values, 0, 60 * s) == Decimal(40) / 55
        assert weighted(values, 60 * s, 120 * s) == 1  # until 110 s
        assert weighted(values, 120 * s, 180 * s) is None
        assert weighted(values, 180 * s, 240 * s) == 0


# -- formats ------------------------------------------------------------------------------


def test_sizes_become_base_units() -> None:
    """Linear contracts of 0.01; inverse ones of 100 dollars, to twelve decimals."""
    frame = okx_book(SWAP, "snapshot", 0, 1, -1, [("50000", "25.5")], [("50001", "0")])
    (record,) = decode_books(frame, SWAP)
    assert record.bids == {Decimal(50000): Decimal("0.255")}
    assert record.asks == {}
    frame = okx_book(INVERSE, "snapshot", 0, 1, -1, [("30000", "2")], [])
    (record,) = decode_books(frame, INVERSE)
    assert record.bids == {Decimal(30000): Decimal("0.006666666667")}


def test_every_format_is_read() -> None:
    """Times, ids and kinds of records."""
    cases: list[tuple[Instrument, bytes, tuple[Any, ...]]] = [
        (OKX, okx_book(OKX, "update", 1, 9, 7, BIDS), (False, 1, 9, 7)),
        (OKX, okx_book(OKX, "update", 1, None, None, BIDS), (False, 1, None, None)),
        (OKX, okx_book(OKX, "snapshot", 1, 9, -1, BIDS).replace(b'"books"', b'"books50-l2-tbt"'),
         (True, 1, 9, -1)),
        (OKX, okx_book(OKX, "none", 1, 9, 8, BIDS).replace(b'"books"', b'"books5"'),
         (True, 1, 9, 8)),
        (OKX, line({"bids": [], "asks": [], "timestamp_utc": "2024-03-05T12:00:01Z"}),
         (True, 1, None, None)),
        (PERP, depth(PERP, 1, 5, 9, 3, BIDS), (False, 1, 9, 3)),
        (PERP, depth(PERP, 9, 5, 9, 3).replace(b'"s"', b'"T":%d,"s"' % (START + 1000)),
         (False, 1, 9, 3)),
        (SPOT, depth(SPOT, 1, 5, 9, None, BIDS), (False, 1, 9, 4)),
        (SPOT, b'{"stream":"x","data":' + depth(SPOT, 1, 5, 9) + b"}", (False, 1, 9, 4)),
        (SPOT, rest(7, BIDS, ASKS), (True, None, 7, None)),
        (PERP, rest(7, BIDS, ASKS, 1), (True, 1, 7, None)),
        (COIN, line({"type": "snapshot", "product_id": "BTC-USD", "bids": [], "asks": []}),
         (True, None, None, None)),
        (COIN, line({"type": "l2update", "product_id": "BTC-USD", "time": "2024-03-05T12:00:01Z",
                     "changes": [["buy", "1", "2"]]}), (False, 1, None, None)),
        (ACME, whole(1, BIDS, ASKS), (True, 1, None, None)),
    ]  # fmt: skip
    for where, data, (is_snapshot, second, last, prev) in cases:
        (record,) = decode_books(data, where)
        assert record.is_snapshot == is_snapshot, data
        ts_us = None if second is None else (START + second * 1000) * 1000
        assert (record.ts_us, record.last, record.prev) == (ts_us, last, prev), data


def test_bad_lines() -> None:
    """Each of them as a whole."""
    good = okx_book(OKX, "update", 1, 9, 7, BIDS, ASKS)
    bad = [
        (OKX, good[:-3]),
        (OKX, good + good),
        (OKX, b"\xff" + good),
        (OKX, b"[1]"),
        (OKX, good.replace(b"update", b"partial")),
        (OKX, good.replace(b"BTC-USDT", b"ETH-USDT")),
        (OKX, good.replace(b'"books"', b'"trades"')),
        (OKX, good.replace(b'"100"', b'"0"')),
        (OKX, good.replace(b'"100"', b"NaN")),
        (OKX, good.replace(b'["100","1"', b'["100","-1"')),
        (OKX, good.replace(b'["100","1"', b'["100",null')),
        (OKX, good.replace(b'["100","1","0","1"]', b'"100"')),
        (OKX, good.replace(b'"seqId":9', b'"seqId":9.5')),
        (OKX, good.replace(b'"asks"', b'"offers"')),
        (OKX, good.replace(b'"ts"', b'"t"')),
        (OKX, line({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "update",
                    "data": []})),
        (OKX, b'{"event":"subscribe"}'),
        (PERP, depth(SPOT, 1, 1, 2).replace(b'"BTCUSDT"', b'"ETHUSDT"')),
        (PERP, b'{"e":"aggTrade","s":"BTCUSDT"}'),
        (COIN, line({"type": "l2update", "product_id": "BTC-USD", "time": "2024-03-05T12:00:01Z",
                     "changes": [["bid", "1", "2"]]})),
        (ACME, whole(1, BIDS, ASKS).replace(b"{", b'{"type":"update",', 1)),
    ]  # fmt: skip
    for where, data in bad:
        with pytest.raises(BadLineError):
            decode_books(data, where)


def test_bad_quotes() -> None:
    """Sizes of nothing and empty sides are no quotes."""
    good = {"ts": START, "bid": "100", "bid_size": "1", "ask": "101", "ask_size": "2"}
    assert decode_quotes(line(good), ACME)[0].ask_size == 2
    for name, value in (("bid", "0"), ("ask_size", "0"), ("ask", ""), ("bid_size", None)):
        with pytest.raises(BadLineError):
            decode_quotes(line(good | {name: value}), ACME)
    empty = okx_book(OKX, "x", 0, 1, 0, BIDS, []).replace(b'"books"', b'"bbo-tbt"')
    with pytest.raises(BadLineError):
        decode_quotes(empty, OKX)


def test_last_of_a_price_stands() -> None:
    """Whatever came first, a zero included."""
    frame = okx_book(OKX, "snapshot", 0, 1, -1, [("100", "5"), ("100.0", "0")], [("101", "0")])
    (record,) = decode_books(frame, OKX)
    assert record.bids == {}
    frame = okx_book(OKX, "update", 0, 1, 0, [("100", "0"), ("100.0", "5")])
    (record,) = decode_books(frame, OKX)
    assert record.bids == {Decimal(100): 5}


# -- the sequence --------------------------------------------------------------------------


def test_snapshot_after_updates_is_one_event() -> None:
    """As every Binance capture has it: 3..5 is old, 6..9 spans the snapshot, 10..12 follows."""
    replay = replay_lines(
        PERP,
        [
            depth(PERP, 1, 3, 5, 2, [("90", "1")]),
            depth(PERP, 2, 6, 9, 5, [("100", "0"), ("99", "7")]),
            depth(PERP, 3, 10, 12, 9, [("98", "3")]),
            rest(8, BIDS, ASKS, 1.5),
            depth(PERP, 4, 13, 14, 12, [("99", "0")]),
        ],
    )
    assert touches(replay) == [None, None, None, (99, 7, 101, 1), (98, 3, 101, 1)]
    assert seconds(replay) == [1, 2, 3, 3, 4]
    assert [e.last_id for e in replay.events] == [5, 9, 12, 12, 14]
    assert (replay.gaps, replay.duplicates) == ([], 0)


def test_snapshot_too_old_for_the_kept_updates() -> None:
    """It is dropped, they stay, and there is no gap; a newer one makes the book."""
    updates = [depth(PERP, 1, 6, 9, 5, [("100.5", "7")]), depth(PERP, 2, 10, 12, 9)]
    replay = replay_lines(PERP, [*updates, rest(4, BIDS, ASKS, 3), rest(5, BIDS, ASKS, 4)])
    assert touches(replay) == [None, None, (100.5, 7, 101, 1)]
    assert replay.gaps == []
    assert replay.last_id == 12  # an update without levels moves the id


def test_first_update_on_a_snapshot() -> None:
    """Old: dropped; prev <= L < last or prev = L: applied; beyond: a break."""
    start = rest(10, BIDS, ASKS, 0)
    cases = [
        (depth(PERP, 1, 8, 10, 7, [("99", "9")]), "duplicate"),
        (depth(PERP, 1, 8, 11, 7, [("99", "9")]), "applied"),
        (depth(PERP, 1, 11, 12, 10, [("99", "9")]), "applied"),
        (depth(PERP, 1, 12, 13, 11, [("99", "9")]), "break"),
    ]
    for update, outcome in cases:
        replay = replay_lines(PERP, [start, update])
        assert replay.duplicates == (outcome == "duplicate")
        assert len(replay.gaps) == (outcome == "break")
        assert replay.is_valid == (outcome != "break")
        if outcome == "applied":
            assert replay.bids.levels[Decimal(99)].size == 9


def test_second_update_must_continue_the_first() -> None:
    """What was good enough on the snapshot is a repetition or a break afterwards."""
    start = [rest(10, BIDS, ASKS, 0), depth(PERP, 1, 8, 12, 7)]
    assert replay_lines(PERP, [*start, depth(PERP, 2, 11, 12, 7, BIDS)]).duplicates == 1
    assert replay_lines(PERP, [*start, depth(PERP, 2, 11, 14, 11, BIDS)]).gaps != []
    assert replay_lines(PERP, [*start, depth(PERP, 2, 13, 14, 12, BIDS)]).last_id == 14


def test_stale_and_newer_snapshots() -> None:
    """A stale one is a duplicate; a newer one is a difference, levels beyond its reach go too."""
    start = [
        rest(10, BIDS, ASKS, 0),
        depth(SPOT, 1, 11, 12, None, [("50", "4"), ("99.5", "1")]),
    ]
    replay = replay_lines(SPOT, [*start, rest(12, [("1", "1")], ASKS)])
    assert replay.duplicates == 1
    assert len(replay.events) == 2
    replay = replay_lines(SPOT, [*start, rest(13, [("100", "3"), ("98", "1")], ASKS)])
    assert touches(replay)[-1] == (100, 3, 101, 1)
    assert sorted(replay.bids.levels) == [98, 100]
    assert replay.bids.levels[Decimal(100)].sizes == exact(
        [(START * 1000, 1), (START * 1000 + 1_000_000, 3)]
    )
    assert replay.events[-1].terms[0] == 2


def test_okx_ids_may_fall() -> None:
    """prevSeqId = last id continues; the same id twice is a heartbeat."""
    replay = replay_lines(
        OKX,
        [
            okx_book(OKX, "snapshot", 0, 100, -1, BIDS, ASKS),
            okx_book(OKX, "update", 1, 105, 100, [("100", "2")]),
            okx_book(OKX, "update", 2, 3, 105, [("100", "3")]),
            okx_book(OKX, "update", 3, 3, 3),
            okx_book(OKX, "update", 4, 5, 3, [("100", "4")]),
        ],
    )
    assert [t and t[1] for t in touches(replay)] == [1, 2, 3, 4]
    assert (replay.gaps, replay.heartbeats, replay.last_id) == ([], 1, 5)
    fallen = [
        okx_book(OKX, "snapshot", 0, 100, -1, BIDS, ASKS),
        okx_book(OKX, "update", 1, 3, 100, [("100", "2")]),
    ]
    assert replay_lines(OKX, fallen).last_id == 3


def test_break_and_resync() -> None:
    """One gap; no book until the next snapshot, which is laid under what was kept."""
    replay = replay_lines(
        OKX,
        [
            okx_book(OKX, "snapshot", 0, 100, -1, BIDS, ASKS),
            okx_book(OKX, "update", 1, 101, 100, [("100", "2")]),
            okx_book(OKX, "update", 2, 104, 103, [("100", "4")]),
            okx_book(OKX, "update", 3, 105, 104, [("100", "5")]),
            okx_book(OKX, "update", 4, 109, 107, [("100", "6")]),
            okx_book(OKX, "snapshot", 5, 104, -1, BIDS, ASKS),
            okx_book(OKX, "update", 6, 110, 109, [("100", "7")]),
            okx_book(OKX, "snapshot", 7, 110, -1, BIDS, ASKS),
        ],
    )
    assert touches(replay) == [(100, 1, 101, 1), (100, 2, 101, 1), *[None] * 5, (100, 1, 101, 1)]
    first, second = book_gap_rows(replay)
    assert first == {"from": 101, "to": 103, "ts": START + 2000}
    assert second == {"from": 105, "to": 107, "ts": START + 5000}  # inside what was kept
    assert book_event_rows(replay)[2]["last_id"] == 104
    assert book_event_rows(replay)[2]["bid_depth"] is None


def test_only_a_thousand_updates_are_kept() -> None:
    """With 1001 the first is gone, and an old snapshot has nothing to stand under."""
    updates = [depth(PERP, 1, i, i, i - 1, [("99", str(i))]) for i in range(1, 1002)]
    assert not replay_lines(PERP, [*updates, rest(0, BIDS, ASKS, 1)]).is_valid
    assert replay_lines(PERP, [*updates, rest(1, BIDS, ASKS, 1)]).is_valid
    assert replay_lines(PERP, [*updates[:-1], rest(0, BIDS, ASKS, 1)]).is_valid


def test_without_ids_everything_applies() -> None:
    """Coinbase: the snapshot has no time, the first update makes the event of both."""
    replay = replay_lines(
        COIN,
        [
            line({"type": "snapshot", "product_id": "BTC-USD", "bids": BIDS, "asks": ASKS}),
            line({"type": "l2update", "product_id": "BTC-USD", "time": "2024-03-05T12:00:01.5Z",
                  "changes": [["buy", "100", "0"], ["sell", "101", "3"]]}),
            line({"type": "l2update", "product_id": "BTC-USD", "time": "2024-03-05T12:01:00Z",
                  "changes": []}),
        ],
    )  # fmt: skip
    assert touches(replay) == [(99, 2, 101, 3)]
    assert seconds(replay) == [1.5]
    (ladder,) = ladder_rows(replay)
    assert ladder["bid_since"] == [START * 1000 + 1_500_000]
    assert ladder["ask_px"] == [101, 102]
    assert ladder["ask_seen"] == [True, False]
    assert ladder["ask_reach_px"] == 102


# -- the clock ------------------------------------------------------------------------------


def test_late_and_future_records() -> None:
    """A late one counts at the clock; a far one waits for a witness."""
    replay = replay_lines(
        ACME,
        [
            whole(10, BIDS, ASKS),
            whole(5, [("99", "1")], ASKS),
            whole(400, [("98", "1")], ASKS),  # 6.5 minutes ahead, no witness
            whole(11, [("97", "1")], ASKS),
            whole(400, [("96", "1")], ASKS),
            whole(100, [("95", "1")], ASKS),  # exactly five minutes behind: a witness
        ],
    )
    assert seconds(replay) == [10, 10, 11, 400, 400]
    assert [t and t[0] for t in touches(replay)] == [100, 99, 97, 96, 95]
    assert [(r.line.offset, r.reason) for r in replay.feed.refused] == [(2, "future")]


def test_cells_of_the_book_layer() -> None:
    """The last event with a book of each tenth of a second, once the clock has left it."""
    lines = [
        okx_book(OKX, "snapshot", 0.01, 100, -1, BIDS, ASKS),
        okx_book(OKX, "update", 0.05, 101, 100, [("100", "2")]),
        okx_book(OKX, "update", 0.06, 104, 103, [("100", "4")]),
        okx_book(OKX, "snapshot", 0.1, 110, -1, BIDS, ASKS),
    ]
    (row,) = book_rows(replay_lines(OKX, lines))
    assert (row["bid_sz_0"], row["bid_px_1"], row["ask_px_19"]) == (2, 99, None)
    assert row["ts"].microsecond == 50_000
    rows = book_rows(replay_lines(OKX, [*lines, okx_book(OKX, "update", 0.2, 111, 110)]))
    assert [r["ts"].microsecond for r in rows] == [50_000, 100_000]
    assert len(book_rows(replay_lines(OKX, lines), 0)) == 3
    assert list(row)[:2] == ["ts", "bid_px_0"]
    assert list(row)[20:22] == ["bid_px_19", "bid_sz_0"]
    assert list(row)[-1] == "ask_sz_19"


def test_crossed_and_locked() -> None:
    """Used as they are, and counted."""
    replay = replay_lines(
        ACME,
        [
            whole(0, [("100", "1")], [("99", "1")]),
            whole(1, [("100", "1")], [("100", "1")]),
            whole(2, [("100", "1")], []),
        ],
    )
    assert (replay.crossed, replay.locked) == (1, 1)
    assert [r["crossed"] for r in book_event_rows(replay)] == [True, True, False]
    assert [r["ofi_1"] for r in book_event_rows(replay)] == [None, 1, None]


# -- quotes -------------------------------------------------------------------------------


def ticker(last: int, bid: str) -> bytes:
    """A spot `bookTicker`."""
    row = {"u": last, "s": "BTCUSDT", "b": bid, "B": "1", "a": "200", "A": "1"}
    return line(row)


def test_spot_quotes_take_the_time_of_updates() -> None:
    """The first update with u >= u, also without a book; falling ids keep the time."""
    replay = replay_lines(
        SPOT,
        [depth(SPOT, 1, 1, 5), depth(SPOT, 2, 6, 9), rest(14, BIDS, ASKS), depth(SPOT, 3, 10, 15)],
    )
    feed = QuoteFeed(SPOT)
    for i, number in enumerate((4, 5, 6, 5, 12, 16)):
        feed.read(Line(Path("q"), i, ticker(number, str(100 + i))))
    stream = quote_stream(SPOT, feed, replay)
    assert stream is not None
    assert [q.ts_us // 1_000_000 - START // 1000 for q in stream.quotes] == [1, 1, 2, 2, 3]
    assert quote_stream(SPOT, feed, None) is None


def test_quotes_of_a_book_end_once() -> None:
    """When a side is gone or the book is lost there is one empty quote."""
    replay = replay_lines(
        OKX,
        [
            okx_book(OKX, "update", 0, 99, 98, BIDS),
            okx_book(OKX, "snapshot", 1, 100, -1, BIDS, ASKS),
            okx_book(OKX, "update", 2, 101, 100, [], [("101", "0"), ("102", "0")]),
            okx_book(OKX, "update", 3, 102, 101, [("98", "1")]),
            okx_book(OKX, "update", 4, 103, 102, [], [("103", "1")]),
            okx_book(OKX, "update", 5, 106, 105, BIDS),
            okx_book(OKX, "update", 6, 107, 106, BIDS),
        ],
    )
    stream = quote_stream(OKX, None, replay)
    assert stream is not None
    assert stream.source == "book"
    found = [(q.ts_us // 1_000_000 - START // 1000, q.ask) for q in stream.quotes]
    assert found == [(1, 101), (2, None), (4, 103), (5, None)]


def test_choice_of_source() -> None:
    """Tickers only where there is neither a quote on every event nor a book."""
    arg = {"channel": "tickers", "instId": "BTC-USDT"}
    entry = {"bidPx": "1", "bidSz": "1", "askPx": "2", "askSz": "1", "ts": str(START)}
    feed = QuoteFeed(OKX)
    feed.read(Line(Path("q"), 0, line({"arg": arg, "data": [entry]})))
    book = Replay(OKX)
    bbo = QuoteFeed(OKX)
    frame = okx_book(OKX, "", 0, 1, 0, BIDS, ASKS).replace(b'"books"', b'"bbo-tbt"')
    bbo.read(Line(Path("q"), 0, frame))
    cases = [(feed, None, "tickers"), (feed, book, "book"), (bbo, book, "quotes")]
    for quotes, replay, source in cases:
        stream = quote_stream(OKX, quotes, replay)
        assert stream is not None
        assert stream.source == source
    assert quote_stream(OKX, None, None) is None


# -- walking the book, costs ------------------------------------------------------------------


def levels(*pairs: tuple[str, str]) -> list[tuple[Decimal, Decimal]]:
    """Prices and sizes from texts."""
    return [(Decimal(p), Decimal(s)) for p, s in pairs]


def test_walking_the_book() -> None:
    """300 buy 1 at 100 and 200 / 200 = 1 at 200: 150 a piece; of 1000 only 500 fill."""
    asks = levels(("100", "1"), ("200", "2"))
    assert walk(asks, Decimal(300)) == exact((150, 1))
    assert walk(asks, Decimal(1000)) == (Decimal(500) / 3, Decimal("0.5"))
    assert walk([], Decimal(1)) == exact((None, 0))
    ladder = Ladder(0, levels(("80", "10")), asks)
    assert ladder.mid == 90
    assert impact_of(ladder, 1, Decimal(300)) == exact((Decimal(600_000) / 90, 1))
    assert impact_of(ladder, -1, Decimal(80)) == exact((Decimal(100_000) / 90, 1))
    assert impact_of(ladder, 1, Decimal(1000)) == (None, Decimal("0.5"))
    assert impact_of(None, 1, Decimal(1)) == (None, None)


def with_trades(quotes: list[Quote], trades: Sequence[tuple[float, str, int]]) -> Inputs:
    """Inputs with these quotes and (second, price, side) trades of one unit."""
    judge = Judge(ACME)
    for second, price, side in trades:
        px = Decimal(price)
        trade = Trade(START * 1000 + round(second * 1e6), "1", px, Decimal(1), px, side)
        judge.accepted.append(Accepted(trade, gap_before=False))
        judge.newest_us = trade.ts_us
    inputs = Inputs(ACME, judge=judge)
    inputs.stream = QuoteStream("quotes", quotes, quotes[-1].ts_us)
    return inputs


def mid_quote(second: float, mid: str | None) -> Quote:
    """A quote one either side of a mid."""
    ts_us = START * 1000 + round(second * 1e6)
    if mid is None:
        return Quote(ts_us)
    one = Decimal(1)
    return Quote(ts_us, Decimal(mid) - one, one, Decimal(mid) + one, one)


def test_costs_by_hand() -> None:
    """The mid strictly before is 100, a minute later 101: bought at 102 of 200 bps."""
    quotes = [mid_quote(0, "100"), mid_quote(10, "150"), mid_quote(70, "101"), mid_quote(200, "1")]
    trades = [(10.0, "102", 1), (61.0, "1", 1)]
    inputs = with_trades(quotes, trades)
    assert mids_around(inputs, START * 1000 + 10_000_000) == exact((100, 101))
    with localcontext(PRECISE):
        (row,) = costs_rows(inputs)
    names = ("effective_spread_bps", "realised_spread_bps", "price_impact_bps", "trades")
    assert [row[name] for name in names] == [400, 200, 200, 1]


def test_effective_is_realised_and_impact() -> None:
    """For any trades, and none counts without both mids."""
    rng = random.Random(3)
    quotes = [mid_quote(i * 1.7, str(100 + rng.randrange(-5, 6))) for i in range(100)]
    quotes.append(mid_quote(400, "100"))
    trades = [(i * 0.9, str(100 + rng.randrange(-9, 9)), rng.choice((1, -1))) for i in range(190)]
    with localcontext(PRECISE):
        rows = costs_rows(with_trades(quotes, trades))
        for row in rows:
            both = row["realised_spread_bps"] + row["price_impact_bps"]
            assert abs(row["effective_spread_bps"] - both) < Decimal("1e-40")
    assert [row["trades"] for row in rows] == [66, 67]  # the trade at 0 has no mid before it


def test_mids_grow_old() -> None:
    """Sixty seconds old still stands; an empty quote or an older one does not."""
    inputs = with_trades([mid_quote(0, "100"), mid_quote(70, None)], [(0, "1", 1)])
    at = START * 1000
    assert mids_around(inputs, at) == exact((None, 100))
    assert mids_around(inputs, at + 60_000_000) == exact((100, None))
    assert mids_around(inputs, at + 60_000_001) == (None, None)
    assert mean_costs([]) == {
        "effective_spread_bps": None,
        "realised_spread_bps": None,
        "price_impact_bps": None,
        "trades": 0,
    }


def test_costs_wait_a_minute_longer() -> None:
    """The minute of the trade is over, its quotes of a minute later are not all there."""
    trades = [(1.0, "100", 1), (61.0, "100", 1)]
    for second, count in ((119.999, 0), (120.0, 1)):
        quotes = [mid_quote(0, "100"), mid_quote(second, "100")]
        inputs = with_trades(quotes, trades)
        assert len(layers_of(inputs)["costs_1m"]) == count
        assert len(layers_of(inputs)["flow_1m"]) == 1


# -- walls and bands ------------------------------------------------------------------------------


def test_since_when_a_level_stands() -> None:
    """Half the present size, without a break."""

    def begun(*sizes: int, seen: bool = True) -> tuple[int | None, bool]:
        return Level([(i, Decimal(size)) for i, size in enumerate(sizes)], seen).beginning()

    assert begun(10) == (0, True)
    assert begun(10, seen=False) == (0, False)
    assert begun(4, 5, 10) == (1, True)
    assert begun(10, 4, 10) == (2, True)
    assert begun(10, 5, 10, 20) == (2, True)
    assert begun(10, 4, 6, 7, 3) == (0, True)
    assert begun(10, 4, 10, seen=False) == (2, True)
    assert begun(10, 6, 10, seen=False) == (0, False)


def test_walls_are_young_if_their_beginning_was_seen() -> None:
    """Opening, replayed, appeared in reach, beyond reach, and new in a later snapshot."""
    replay = replay_lines(
        OKX,
        [
            okx_book(OKX, "update", 0, 11, 10, [("99.5", "1")]),
            okx_book(OKX, "snapshot", 1, 10, -1, BIDS, ASKS),
            okx_book(OKX, "update", 2, 12, 11, [("99.7", "1"), ("98", "1"), ("100", "4")]),
            okx_book(OKX, "update", 3, 13, 12, [("99.7", "0")]),
            okx_book(OKX, "update", 4, 14, 13, [("99.7", "1")]),
            okx_book(OKX, "update", 60, 15, 14, [("96", "1")]),
            okx_book(OKX, "snapshot", 70, 16, -1,
                     [("100", "3"), ("99.5", "3"), ("99.4", "1"), ("97", "1")], ASKS),
            okx_book(OKX, "update", 120, 17, 16),
        ],
    )  # fmt: skip
    first, second = ladder_rows(replay)
    at = START * 1000
    assert first["bid_px"] == [100, 99.7, 99.5, 99, 98]
    since = [(moment - at) / 1e6 for moment in first["bid_since"]]
    assert since == [2, 4, 1, 1, 2]
    assert first["bid_seen"] == [True, True, False, False, False]
    assert first["bid_reach_px"] == 99
    assert second["bid_px"] == [100, 99.5, 99.4, 97]
    assert [(moment - at) / 1e6 for moment in second["bid_since"]] == [2, 70, 70, 70]
    assert second["bid_seen"] == [True, True, True, True]
    assert second["bid_reach_px"] == 97
    assert second["at"].second == 10


def ladder_of(
    bids: list[tuple[Decimal, Decimal]],
    asks: list[tuple[Decimal, Decimal]],
    reach: tuple[str, str],
    ages: dict[int, tuple[int, bool]] | None = None,
) -> Ladder:
    """A ladder of old levels, apart from the bids with these (age in seconds, seen)."""
    end = START * 1000 + MINUTE_US
    old = (end - 10**9, True)
    told = {i: (end - age * 1_000_000, seen) for i, (age, seen) in (ages or {}).items()}
    since = {"bid": [told.get(i, old) for i in range(len(bids))], "ask": [old] * len(asks)}
    reaches: dict[str, Decimal | None] = {"bid": Decimal(reach[0]), "ask": Decimal(reach[1])}
    return Ladder(START * 1000, bids, asks, since, reaches)


def test_bands() -> None:
    """Upper edges count as in; a band beyond reach is null; a crossed level is in the first."""
    bids = levels(("9995", "1"), ("9990", "1"), ("9975", "1"), ("9974.9", "1"))
    asks = levels(("10005", "2"))
    row = bucket_columns(ladder_of(bids, asks, ("9990", "10005")))
    assert [b["bps"] for b in row["bands"]] == [5, 10, 25, 50, 100]
    assert [b["bid_notional"] for b in row["bands"]] == [9995, 9990, None, None, None]
    assert [b["ask_notional"] for b in row["bands"]] == [20010, None, None, None, None]
    assert (row["bid_reach_bps"], row["ask_reach_bps"]) == (10, 5)
    assert row["ask_imbalance"] == Decimal(20010) / (20010 + 9995 + 9990 + 9975)
    mid = Decimal(10_000)
    assert band(levels(("10030", "1")), mid, "bid", 0, 5, Decimal(50)) == 10030
    assert band(levels(("10030", "1")), mid, "bid", 25, 50, Decimal(50)) == 0
    one_sided = bucket_columns(Ladder(0, bids, [], {"bid": [(0, True)] * 4, "ask": []},
                                      {"bid": Decimal(1), "ask": None}))  # fmt: skip
    assert one_sided["ask_imbalance"] is None
    assert one_sided["bid_wall"] is None


def test_walls() -> None:
    """At least five medians and a quarter million; the largest, of equals the nearest."""
    small = [(str(9990 - i), "1") for i in range(8)]
    bids = levels(("9999", "25.1"), ("9998", "25.1"), ("9995", "30"), *small)
    asks = levels(("10001", "24.9"), ("10200", "999"))
    ages = {0: (299, True), 1: (1, False), 2: (300, True)}
    row = bucket_columns(ladder_of(bids, asks, ("9000", "11000"), ages))
    assert (row["bid_wall"], row["bid_wall_price"], row["bid_wall_age_s"]) == (299850, 9995, 300)
    assert row["bid_young_wall"] == Decimal(9999) * Decimal("25.1")
    assert (row["ask_wall"], row["ask_young_wall"], row["ask_wall_price"]) == (0, 0, None)
    equal = levels(("9998", "30"), ("9996", Decimal(9998) * 30 / 9996), *small)  # type: ignore[arg-type]
    row = bucket_columns(ladder_of(equal, levels(("10002", "1")), ("9000", "11000")))
    assert row["bid_wall_price"] == 9998
    crowd = levels(*[(str(9999 - i), "30") for i in range(4)])
    row = bucket_columns(ladder_of(crowd, levels(("10001", "30")), ("9000", "11000")))
    assert row["bid_wall"] == 0  # none is five times the median


# -- orderflow ------------------------------------------------------------------------------------

NEUTRAL: dict[str, Any] = {
    "imbalance": Decimal(0),
    "ofi_momentum": Decimal(0),
    "whale_trades": 0,
    "vwap_deviation": 0.0,
    "depth_imbalance": Decimal(0),
    "buy_pressure": Decimal(50),
    "profile_bias": "NEUTRAL",
}


def test_scores_on_their_limits() -> None:
    """A value at its limit does not count; past it it does, and so does its mirror."""
    cases: list[tuple[str, Any, Any, float]] = [
        ("imbalance", Decimal("0.2"), Decimal("0.2001"), 0.2),
        ("ofi_momentum", Decimal("0.05"), Decimal("0.0501"), 0.15),
        ("whale_trades", 0, 1, 0.1),
        ("vwap_deviation", -0.1, -0.1001, 0.15),
        ("depth_imbalance", Decimal("0.15"), Decimal("0.151"), 0.1),
        ("buy_pressure", Decimal(65), Decimal("65.1"), 0.1),
    ]
    for factor, at, past, points in cases:
        assert verdict(NEUTRAL | {factor: at})["reasons"] == []
        row = verdict(NEUTRAL | {factor: past})
        assert row["reasons"] == [
            {"factor": factor, "side": "bullish", "points": points, "value": past}
        ]
        mirror = 100 - past if factor == "buy_pressure" else -past
        row = verdict(NEUTRAL | {factor: mirror})
        assert (row["bearish_score"], row["score"]) == (points, -points)


def test_hundredths() -> None:
    """0.40 is HOLD however it is made up; 0.45 is not; 1.10 is a strength of 1."""
    held = verdict(NEUTRAL | {"profile_bias": "BULLISH", "buy_pressure": Decimal(70)})
    assert (held["direction"], held["score"], held["strength"]) == ("HOLD", 0.4, 0)
    bull = NEUTRAL | {"imbalance": Decimal(1), "whale_trades": 2, "depth_imbalance": Decimal(1)}
    assert verdict(bull)["direction"] == "HOLD"
    assert verdict(bull | {"ofi_momentum": Decimal(1), "whale_trades": 0})["direction"] == "LONG"
    every = bull | {"ofi_momentum": Decimal(1), "vwap_deviation": -9.0, "profile_bias": "BULLISH"}
    row = verdict(every | {"buy_pressure": Decimal(99)})
    assert (row["score"], row["strength"], row["direction"]) == (1.1, 1.0, "LONG")
    assert [r["factor"] for r in row["reasons"]] == list(NEUTRAL)
    row = verdict(NEUTRAL | {"profile_bias": "BEARISH", "ofi_momentum": Decimal(-1)})
    assert (row["direction"], row["strength"], row["score"]) == ("SHORT", 0.45, -0.45)


def test_missing() -> None:
    """Named in order, and worth nothing."""
    row = verdict(dict.fromkeys(NEUTRAL))
    assert row["missing"] == list(NEUTRAL)
    assert (row["direction"], row["reasons"]) == ("HOLD", [])


def test_profile_bias_grows_old() -> None:
    """A bar that ends with the minute counts; one that ended more than ten minutes ago no more."""
    profiles: list[Row] = [{"timestamp_utc": "2024-03-05T12:00:00Z", "bias": "BULLISH"}]
    found = {m: bias_at(profiles, (START + m * 60_000) * 1000) for m in range(20)}
    assert [m for m, bias in found.items() if bias] == [*range(4, 15)]


# -- causality ---------------------------------------------------------------------------------


def test_rows_do_not_change_when_more_comes() -> None:
    """Every layer of a prefix is a prefix of the layer."""
    rng = random.Random(11)
    lines = [okx_book(OKX, "snapshot", 0, 0, -1, BIDS, ASKS)]
    for i in range(1, 300):
        side = (str(rng.randrange(95, 100)), str(rng.randrange(5)))
        prev = i - 1 if rng.random() > 0.01 else i
        lines.append(okx_book(OKX, "update", i * 1.1, i, prev, [side]))
        if rng.random() < 0.02:
            lines.append(okx_book(OKX, "snapshot", i * 1.1, i, -1, BIDS, ASKS))
    full = layers_of(Inputs(OKX, replay=replay_lines(OKX, lines)))
    assert len(full["flow_1m"]) == 5
    for cut in (1, 40, 133, 250):
        part = layers_of(Inputs(OKX, replay=replay_lines(OKX, lines[:cut])))
        for layer, rows in part.items():
            assert full[layer][: len(rows)] == rows, layer
    other = replace(OKX, inst_id="ETH-USDT")
    assert replay_lines(other, lines).feed.bad == len(lines)
