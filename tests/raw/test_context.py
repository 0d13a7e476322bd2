"""Thin feeds line by line: a table by hand of what each format says, and of what is bad."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from pipeline.instrument import BASE, Contract
from pipeline.raw.block import Block
from pipeline.raw.context import (
    ContextBatch,
    Observation,
    Read,
    decode_context,
    liquidations,
    open_interest,
    ratio,
    settle,
    whale_alerts,
)
from pipeline.raw.held import Held

from .records import WHOLE_LINES

T = 1_709_683_200
"""2024-03-06T00:00:00Z, seconds."""
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
LINEAR, INVERSE = Contract("linear", "0.01"), Contract("inverse", "100")
OKX = open_interest("BTC-USDT-SWAP", LINEAR)
BINANCE = open_interest("BTCUSDT", BASE)
ALERTS = whale_alerts("BTC")

Seen = tuple[int, tuple[str, ...], bool, str | None]
"""Seconds after `T`, values, whether it is a bar, key."""


def block_of(lines: Sequence[bytes], offset: int = 17) -> Block:
    data = b"".join(line + b"\n" for line in lines)
    return Block(data, "raw/x/2024-03-06.jsonl", "2024-03-06", offset)


def line_of(record: Any) -> bytes:
    return record if isinstance(record, bytes) else json.dumps(record).encode()


def read(reader: Read, record: Any) -> tuple[list[Seen], list[str]]:
    """What one line says, and the reasons why it is bad."""
    batch = decode_context(block_of([line_of(record)]), reader)
    assert batch.records == len(batch.found) + len(batch.rejects)
    assert all(line == 0 for line, _ in batch.found)
    return [plain(each) for _, each in batch.found], [each.reason for each in batch.rejects]


def plain(seen: Observation) -> Seen:
    assert all(type(value) is Decimal for value in seen.values)
    after, rest = divmod(seen.time_us - T * SECOND_US, SECOND_US)
    assert rest == 0
    return after, tuple(str(value) for value in seen.values), seen.is_bar, seen.key


def okx(**more: Any) -> dict[str, Any]:
    return {"instId": "BTC-USDT-SWAP", "ts": str(T * 1000), "oi": "500", "oiCcy": "5.25"} | more


def transfer(**more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "symbol": "btc",
        "timestamp": T,
        "amount_usd": 1_500_000,
        "from": {"owner_type": "unknown"},
        "to": {"owner_type": "exchange", "owner": "somewhere"},
    } | more


GOOD: list[tuple[str, Read, Any, list[Seen]]] = [
    ("liquidation", liquidations, {"t": T, "l": 3, "s": 0.50}, [(0, ("3", "0.5"), True, None)]),
    ("texts", liquidations, {"t": T, "l": "3.10", "s": "0"}, [(0, ("3.10", "0"), True, None)]),
    ("more keys", liquidations, {"t": T, "l": 1, "s": 2, "x": None}, [(0, ("1", "2"), True, None)]),
    (
        "history",
        liquidations,
        {"symbol": "A", "history": [{"t": T, "l": 1, "s": 2}, {"t": T + 60, "l": 3, "s": 4}]},
        [(0, ("1", "2"), True, None), (60, ("3", "4"), True, None)],
    ),
    ("empty history", liquidations, {"symbol": "A", "history": []}, []),
    (
        "small",
        liquidations,
        b'{"t":%d,"l":1e-5,"s":2E2}' % T,
        [(0, ("0.00001", "200"), True, None)],
    ),
    (
        "ratio",
        ratio,
        {"t": T, "r": 1.25, "l": 55.5, "s": 44.5},
        [(0, ("1.25", "55.5", "44.5"), True, None)],
    ),
    (
        "bar of open interest",
        OKX,
        {"t": T, "o": 1, "h": 9, "l": 0.5, "c": 2.5},
        [(0, ("2.5",), True, None)],
    ),
    (
        "bars of open interest",
        OKX,
        {"symbol": "BTCUSDT_PERP.A", "history": [{"t": T + 60, "o": 1, "h": 9, "l": 1, "c": 2}]},
        [(60, ("2",), True, None)],
    ),
    ("okx", OKX, okx(), [(0, ("5.25",), False, None)]),
    (
        "okx in contracts",
        OKX,
        {k: v for k, v in okx().items() if k != "oiCcy"},
        [(0, ("5.00",), False, None)],
    ),
    (
        "okx envelope",
        OKX,
        {"arg": {"channel": "open-interest"}, "data": [okx(), okx(ts=str(T * 1000 + 3000))]},
        [(0, ("5.25",), False, None), (3, ("5.25",), False, None)],
    ),
    (
        "binance",
        BINANCE,
        {"symbol": "BTCUSDT", "openInterest": "10.5", "time": T * 1000},
        [(0, ("10.5",), False, None)],
    ),
    ("plain", BINANCE, {"ts": T * 1000, "open_interest": 7}, [(0, ("7",), False, None)]),
    (
        "plain iso",
        BINANCE,
        {"ts": "2024-03-06T00:00:00Z", "open_interest": "7"},
        [(0, ("7",), False, None)],
    ),
    (
        "no interest is a number",
        BINANCE,
        {"ts": T * 1000, "open_interest": 0},
        [(0, ("0",), False, None)],
    ),
    ("to an exchange", ALERTS, transfer(), [(0, ("1500000", "0"), False, "7")]),
    (
        "from an exchange",
        ALERTS,
        transfer(
            **{"from": {"owner_type": "exchange"}, "to": {"owner_type": "unknown"}, "id": "a"}
        ),
        [(0, ("0", "1500000"), False, "a")],
    ),
    (
        "between exchanges",
        ALERTS,
        transfer(**{"from": {"owner_type": "exchange"}}),
        [(0, ("1500000", "1500000"), False, "7")],
    ),
    (
        "hash for id",
        ALERTS,
        {k: v for k, v in transfer(hash="ff").items() if k != "id"},
        [(0, ("1500000", "0"), False, "ff")],
    ),
    ("another coin", ALERTS, transfer(symbol="eth"), []),
    (
        "answer",
        ALERTS,
        {"result": "success", "transactions": [transfer(), transfer(symbol="ETH"), transfer(id=8)]},
        [(0, ("1500000", "0"), False, "7"), (0, ("1500000", "0"), False, "8")],
    ),
    ("no transactions", ALERTS, {"result": "success", "count": 0, "transactions": []}, []),
]

BAD: list[tuple[Read, Any, str]] = [
    (liquidations, {"l": 1, "s": 2}, "ts"),
    (liquidations, {"t": str(T), "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": T + 0.5, "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": True, "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": 0, "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": -T, "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": T * 1000, "l": 1, "s": 2}, "ts"),
    (liquidations, {"t": T, "l": 1}, "s"),
    (liquidations, {"t": T, "l": None, "s": 2}, "l"),
    (liquidations, {"t": T, "l": -1, "s": 2}, "l"),
    (liquidations, {"t": T, "l": "NaN", "s": 2}, "l"),
    (liquidations, {"t": T, "l": True, "s": 2}, "l"),
    (liquidations, {"t": T, "l": [1], "s": 2}, "l"),
    (liquidations, {"t": T, "l": 1, "s": 10**15}, "magnitude"),
    (liquidations, b'{"t":%d,"l":NaN,"s":2}' % T, "json"),
    (liquidations, b'{"t":%d,"l":1,"s":Infinity}' % T, "json"),
    (liquidations, {"history": {"t": T}}, "history"),
    (liquidations, {"history": None}, "history"),
    (liquidations, {"history": [{"t": T, "l": 1, "s": 2}, None]}, "history"),
    (liquidations, {"history": [{"t": T, "l": 1, "s": 2}, {"t": T + 60, "l": 1}]}, "s"),
    (ratio, {"t": T, "r": 1, "l": 50}, "s"),
    (ratio, {"t": T, "l": 50, "s": 50}, "r"),
    (OKX, {"t": T, "o": 1, "h": 9, "c": 2.5}, "l"),
    (OKX, {"t": T, "o": 1, "h": -9, "l": 1, "c": 2.5}, "h"),
    (OKX, okx(instId="ETH-USDT-SWAP"), "instrument"),
    (OKX, {"data": [okx(), okx(instId="ETH-USDT-SWAP")]}, "instrument"),
    (OKX, {"data": []}, "empty envelope"),
    (OKX, {"data": [None]}, "not an object"),
    (OKX, okx(ts="soon"), "ts"),
    (OKX, okx(ts=None), "ts"),
    (OKX, okx(oiCcy="-5"), "oiCcy"),
    (OKX, okx(oiCcy=None), "oiCcy"),
    (BINANCE, {"symbol": "ETHUSDT", "openInterest": "1", "time": T * 1000}, "instrument"),
    (BINANCE, {"symbol": "BTCUSDT", "openInterest": None, "time": T * 1000}, "open_interest"),
    (BINANCE, {"ts": T * 1000, "open_interest": "nan"}, "open_interest"),
    (BINANCE, {"ts": T * 1000}, "open_interest"),
    (BINANCE, {"open_interest": 1}, "ts"),
    (ALERTS, transfer(symbol=None), "symbol"),
    (ALERTS, transfer(amount_usd=-1), "amount_usd"),
    (ALERTS, transfer(amount_usd="much"), "amount_usd"),
    (ALERTS, transfer(timestamp=None), "ts"),
    (ALERTS, transfer(id=None), "id"),
    (ALERTS, transfer(id=""), "id"),
    (ALERTS, transfer(id=True), "id"),
    (ALERTS, transfer(to=None), "party"),
    (ALERTS, transfer(**{"from": "unknown"}), "party"),
    (ALERTS, transfer(symbol="eth", amount_usd=-1), "amount_usd"),
    (ALERTS, {"transactions": {}}, "envelope"),
    (ALERTS, {"transactions": [transfer(), 7]}, "not an object"),
]


@pytest.mark.parametrize(
    ("reader", "record", "wanted"), [c[1:] for c in GOOD], ids=[c[0] for c in GOOD]
)
def test_what_a_line_says(reader: Read, record: Any, wanted: list[Seen]) -> None:
    assert read(reader, record) == (wanted, [])


@pytest.mark.parametrize(("reader", "record", "reason"), BAD)
def test_a_bad_record_spoils_its_line(reader: Read, record: Any, reason: str) -> None:
    assert read(reader, record) == ([], [reason])


@pytest.mark.parametrize("contract", [INVERSE, BASE, Contract("linear", "")])
def test_contracts_of_unknown_worth(contract: Contract) -> None:
    """Contracts are worth base units only where they are linear and their size is known."""
    reader = open_interest("BTC-USDT-SWAP", contract)
    assert read(reader, {"instId": "BTC-USDT-SWAP", "ts": T * 1000, "oi": "5"}) == ([], ["oiCcy"])
    assert read(reader, okx()) == ([(0, ("5.25",), False, None)], [])


@pytest.mark.parametrize("reader", [liquidations, ratio, OKX, ALERTS])
def test_rubbish(reader: Read) -> None:
    """A line is records or bad, and lines around it are none the worse."""
    for rubbish in WHOLE_LINES:
        good = line_of(transfer()) if reader is ALERTS else line_of({"t": T, "history": []})
        batch = decode_context(block_of([good, rubbish, good]), reader)
        blank = not rubbish.strip()
        assert [each.offset for each in batch.rejects] == ([] if blank else [18 + len(good)])
        assert len(batch.found) == (2 if reader is ALERTS else 0)


def test_what_is_cut_off() -> None:
    line = line_of(transfer())
    for name in ("torn", "too_long"):
        block = Block(line, "raw/x", "2024-03-06", 5, **{name: True})
        (bad,) = decode_context(block, ALERTS).rejects
        assert (bad.reason, bad.offset) == (name.replace("_", " "), 5)
    assert decode_context(Block(b"  ", "raw/x", "2024-03-06", 5, torn=True), ALERTS).rejects == []


def test_a_bom_at_the_first_byte_of_a_file() -> None:
    lines = [b"\xef\xbb\xbf" + line_of(transfer())]
    assert len(decode_context(block_of(lines, 0), ALERTS).found) == 1
    assert len(decode_context(block_of(lines, 1), ALERTS).rejects) == 1


# -- the clock ----------------------------------------------------------------------------


def bar(*minutes: int) -> bytes:
    """An answer with the bars of these minutes."""
    return line_of({"history": [{"t": T + 60 * each, "l": each, "s": 0} for each in minutes]})


def minutes_of(
    lines: Sequence[bytes], size: int, jump: int = 5
) -> tuple[list[int], list[tuple[int, str]], list[Held]]:
    """The minutes of the good observations, the rejected lines, and what waits."""
    held: list[Held] = []
    clock, offset = None, 0
    good: list[int] = []
    bad = []
    for start in range(0, len(lines), size):
        piece = block_of(lines[start : start + size], offset)
        batch: ContextBatch = decode_context(piece, liquidations)
        offset += len(piece.data)
        settled = settle(batch, held, clock, jump * MINUTE_US, liquidations)
        held, clock = settled.held, settled.clock
        good += [(each.time_us // SECOND_US - T) // 60 for each in settled.good]
        ends = [sum(map(len, lines[:n])) + n for n in range(len(lines))]
        bad += [(ends.index(each.offset), each.reason) for each in settled.rejects]
    return good, bad, held


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_polls_that_repeat_bars_far_apart(size: int) -> None:
    """An answer tells its newest time: the old bars beside it are no witness against it."""
    lines = [bar(0), bar(0, 60), bar(0, 60, 120), bar(60, 120), bar(0, 60, 120, 180)]
    good, bad, held = minutes_of(lines, size)
    assert good == [0, 0, 60, 0, 60, 120, 60, 120]
    assert bad == []
    assert [each.record for each in held] == [0]


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_an_answer_from_the_future(size: int) -> None:
    lines = [bar(0), bar(1, 90), bar(2), b"{", bar(3, 200), bar(3, 4), bar(5)]
    good, bad, held = minutes_of(lines, size)
    assert good == [0, 2, 3, 4, 5]
    assert bad == [(1, "future"), (3, "json"), (4, "future")]
    assert held == []


def test_the_order_within_an_answer_does_not_count() -> None:
    assert minutes_of([bar(3, 1, 2)], 1)[0] == [1, 2, 3]
