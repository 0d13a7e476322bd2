"""Quotes: the compiled reader, the line reader and the rulings agree on every line."""

from __future__ import annotations

import gzip
import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.raw import quotes
from pipeline.raw.block import Block
from pipeline.raw.quotes import QuoteBatch, decode_quotes

from . import feed_cases as cases
from . import feed_rulings as rulings
from .records import WHOLE_LINES, Record, mutate, replaced

RAW = Path(os.environ.get("FLOWVAULT_CAPTURES", Path(__file__).parents[2] / "vault" / "raw"))
CAPTURES = sorted(RAW.glob("*/quotes_*/*/*.jsonl.gz"))
EMPTY: tuple[list[Any], Any] = ([], np.zeros(0, np.int64))


def block_of(lines: list[bytes], offset: int = 17) -> Block:
    return Block(b"".join(line + b"\n" for line in lines), "raw/x", "2024-03-06", offset)


def rows(batch: QuoteBatch) -> list[tuple[Any, ...]]:
    """All records as (offset of the line, the other columns)."""
    columns = zip(*(getattr(batch, name).tolist() for name in quotes._COLUMNS), strict=True)
    return [(batch.block.line_offset(line), *rest) for line, *rest in columns]


def judge(record: Record, line: Record, exchange: str, inst_id: str) -> tuple[Any, ...]:
    """One record by the rulings: ts, id, bid, its size, ask, its size, ticker."""
    need, zero = rulings._need, Decimal(0)
    update_id, is_ticker, keys = -1, False, ("bid", "bid_size", "ask", "ask_size")
    if exchange == "binance":
        need("e" not in record or rulings.text_is(record["e"], "bookTicker"))
        need(rulings.text_is(record.get("s"), inst_id))
        ts = rulings.first_time(record, ("T", "ms"), ("E", "ms"), needed=False)
        update_id, keys = rulings.sequence(record, "u"), ("b", "B", "a", "A")
    elif exchange in ("okx", "sim"):
        channel = rulings.arg(line, "channel")
        is_ticker = rulings.text_is(channel, "tickers")
        need(is_ticker or rulings.text_is(channel, "bbo-tbt"))
        need(rulings.text_is(rulings.arg(line, "instId"), inst_id))
        rulings.named(record, "instId", inst_id)
        ts = rulings.first_time(record, ("ts", "ms"))
        keys = ("bidPx", "bidSz", "askPx", "askSz")
        if not is_ticker:
            update_id = rulings.sequence(record, "seqId", needed=False)
            tops = sorted(rulings.levels(record, ("bids", "asks")))
            need([side for side, _, _ in tops] == [0, 1])
            need(all(size for _, _, size in tops))
            return (ts, update_id, *tops[0][1:], *tops[1][1:], False)
    elif exchange == "coinbase":
        need(rulings.text_is(record.get("type"), "ticker"))
        need(rulings.text_is(record.get("product_id"), inst_id))
        ts, is_ticker = rulings.first_time(record, ("time", "iso")), True
        keys = ("best_bid", "best_bid_size", "best_ask", "best_ask_size")
    elif exchange == "taq":
        need("bid" in record or "ask" in record)
        rulings.named(record, "symbol", inst_id)
        ts = rulings.first_time(record, ("ts", "any"))
        bid, ask = (tape_side(record, side) for side in ("bid", "ask"))
        return (ts, -1, *bid, *ask, False)
    else:
        rulings.named(record, "instId", inst_id)
        ts = rulings.first_time(record, ("ts", "any"))
    numbers = [rulings.number(record.get(key), least=zero) for key in keys[::2]]
    if is_ticker and keys[1] not in record and keys[3] not in record:
        sizes = [Decimal(-1)] * 2
    else:
        sizes = [rulings.number(record.get(key), least=zero) for key in keys[1::2]]
    return (ts, update_id, numbers[0], sizes[0], numbers[1], sizes[1], is_ticker)


def tape_side(record: Record, side: str) -> tuple[Decimal, Decimal]:
    """Price and size of a side, zeros where a tape has none."""
    nothing = (Decimal(0), Decimal(0))
    if record.get(side) is None:
        return nothing
    price = rulings.number(record[side])
    if not price:
        return nothing
    size = rulings.number(record.get(f"{side}_size"))
    return (price, size) if size else nothing


def assert_same(exchange: str, inst_id: str, lines: list[bytes], offset: int = 17) -> QuoteBatch:
    """One block, the same in pieces and with the compiled reader off, and the rulings."""
    block = block_of(lines, offset)
    batch = decode_quotes(block, exchange, inst_id)
    found = rows(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotes, "_read_columns", lambda *_: EMPTY)
        careful = decode_quotes(block, exchange, inst_id)
    assert found == rows(careful)
    assert batch.rejects == careful.rejects
    pieces, rejects = [], []
    rng = random.Random(len(block.data))
    at = 0
    while at < len(lines):
        to = at + rng.choice((1, 1, 2, 3, 40, 2000))
        start = offset + int(block.span(at)[0])
        piece = decode_quotes(block_of(lines[at:to], start), exchange, inst_id)
        pieces += rows(piece)
        rejects += piece.rejects
        at = to
    assert pieces == found
    assert rejects == batch.rejects
    good, bad = rulings.expected(block, exchange, inst_id, judge)
    for line, row, wanted in zip(batch.line.tolist(), found, good, strict=False):
        _, ts, update_id, *numbers, is_ticker = row
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        got = (ts, update_id, *(Decimal(n).scaleb(-dp) for n, dp in pairs), is_ticker)
        assert (line, got) == wanted, block.line(line)
    assert rulings.rejected(block, batch.rejects) == bad
    assert len(found) == len(good)
    assert batch.records == len(good) + len(bad)
    for name, kind in quotes._COLUMNS.items():
        assert getattr(batch, name).dtype == kind, name
    for name in ("bid", "bid_sz", "ask", "ask_sz"):
        assert ((getattr(batch, f"{name}_dp") == 0) | (getattr(batch, name) % 10 != 0)).all()
    return batch


TABLE = [
    (
        "binance",
        "BTCUSDT",
        (
            b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT",'
            b'"b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,'
            b'"E":1723161256314}}'
        ),
        (1723161256313000, 5123107839020, 618002, 1, 2507, 3, 618003, 1, 251, 2, False),
    ),
    (
        "binance",
        "ETHUSDT",
        (
            b'{"u":35346513501,"s":"ETHUSDT","b":"2683.80000000","B":"3.02920000",'
            b'"a":"2683.81000000","A":"31.43950000"}'
        ),
        (-1, 35346513501, 26838, 1, 30292, 4, 268381, 2, 314395, 4, False),
    ),
    (
        "okx",
        "A",
        (
            b'{"arg":{"channel":"bbo-tbt","instId":"A"},"data":[{"asks":[["8476.98","415","0","13"]],'
            b'"bids":[["8476.97","256","0","12"]],"ts":"1597026383085","seqId":123456}]}'
        ),
        (1597026383085000, 123456, 847697, 2, 256, 0, 847698, 2, 415, 0, False),
    ),
    (
        "okx",
        "UNI-USD-SWAP",
        (
            b'{"arg":{"channel":"tickers","instId":"UNI-USD-SWAP"},"data":[{"instType":"SWAP",'
            b'"instId":"UNI-USD-SWAP","last":"5.123","lastSz":"100","askPx":"5.142","askSz":"25",'
            b'"bidPx":"5.134","bidSz":"96","ts":"1652459223143"}]}'
        ),
        (1652459223143000, -1, 5134, 3, 96, 0, 5142, 3, 25, 0, True),
    ),
    (
        "coinbase",
        "SKL-BTC",
        (
            b'{"type":"ticker","sequence":177100017,"product_id":"SKL-BTC","price":"0.00001303",'
            b'"best_bid":"0.00001302","best_ask":"0.00001305","time":"2021-04-17T16:43:37.067586Z"}'
        ),
        (1618677817067586, -1, 1302, 8, -1, 0, 1305, 8, -1, 0, True),
    ),
    (
        "elsewhere",
        "A",
        b'{"ts":"1970-01-01T00:00:02Z","bid":7.50,"bid_size":1,"ask":"8","ask_size":"1e2"}',
        (2000000, -1, 75, 1, 1, 0, 8, 0, 100, 0, False),
    ),
    (
        "taq",
        "AIG",
        (
            b'{"ts":"2013-10-07T13:30:00.020Z","seq":427,"bid":49.03,"bid_size":100,"ask":49.08,'
            b'"ask_size":600}'
        ),
        (1381152600020000, -1, 4903, 2, 100, 0, 4908, 2, 600, 0, False),
    ),
    (
        "taq",
        "AIG",
        b'{"ts":1381152600020,"bid":null,"ask":49.10,"ask_size":0}',
        (1381152600020000, -1, 0, 0, 0, 0, 0, 0, 0, 0, False),
    ),
]


@pytest.mark.parametrize(("exchange", "inst_id", "line", "wanted"), TABLE)
def test_table(exchange: str, inst_id: str, line: bytes, wanted: tuple[Any, ...]) -> None:
    """One line of every format, by hand."""
    assert rows(assert_same(exchange, inst_id, [line, line]))[1][1:] == wanted


TICKER = b'{"u":5,"s":"B","b":"1","B":"2","a":"3","A":"4"}'
BBO = (
    b'{"arg":{"channel":"bbo-tbt","instId":"B"},"data":[{"asks":[["3","4"]],"bids":[["1","2"]],'
    b'"ts":"1597026383085"}]}'
)
REASONS = [
    ("binance", TICKER.replace(b'"u"', b'"e":"trade","u"'), "not a quote"),
    ("binance", TICKER.replace(b'"B",', b'"C",'), "instrument"),
    ("binance", TICKER.replace(b"5", b"-1"), "id"),
    ("binance", TICKER.replace(b'"1"', b'""'), "price"),
    ("binance", TICKER.replace(b'"3"', b'"0.00"'), "price"),
    ("binance", TICKER.replace(b'"2"', b'"0"'), "size"),
    ("binance", TICKER.replace(b',"A":"4"', b""), "size"),
    ("okx", BBO.replace(b'[["3","4"]]', b"[]"), "levels"),
    ("okx", BBO.replace(b'[["3","4"]]', b'[["3","4"],["5","6"]]'), "levels"),
    ("okx", BBO.replace(b'[["3","4"]]', b'[["3","0"]]'), "size"),
    ("okx", BBO.replace(b"bbo-tbt", b"books"), "not a quote"),
    ("okx", BBO.replace(b'"ts"', b'"tx"'), "ts"),
    ("okx", BBO + BBO, "json"),
    ("elsewhere", b'{"ts":1597026383085,"bid":1,"ask":2}', "size"),
    ("taq", b'{"ts":1597026383085,"bid":1,"ask":2,"ask_size":1}', "size"),
    ("taq", b'{"ts":1597026383085,"bid":-1,"bid_size":1,"ask":0}', "price"),
    ("taq", b'{"ts":1597026383085,"last":1}', "not a quote"),
    ("taq", b'{"ts":1597026383085,"symbol":"C","bid":0,"ask":0}', "instrument"),
    ("taq", b'{"bid":0,"ask":0}', "ts"),
]


@pytest.mark.parametrize(("exchange", "line", "reason"), REASONS)
def test_reasons(exchange: str, line: bytes, reason: str) -> None:
    """Every way of being bad has its word."""
    batch = assert_same(exchange, "B", [TICKER if exchange == "binance" else BBO, line])
    assert batch.rejects[-1].reason == reason


@pytest.mark.parametrize("case", cases.QUOTES, ids=lambda case: case.name)
def test_regular_lines_are_read_compiled(case: cases.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """All valid lines are read, and by the fast path."""
    rng = random.Random(1)
    lines = [case.line(rng, 1000 + i) for i in range(60)]
    assert not assert_same(case.exchange, case.inst_id, lines).rejects
    asked: list[int] = []

    def nothing(_: Block, left: list[int], __: Any) -> tuple[list[Any], list[Any]]:
        asked.extend(left)
        return [], []

    monkeypatch.setattr(quotes, "read_block", nothing)
    decode_quotes(block_of(lines), case.exchange, case.inst_id)
    assert not asked


def test_simulated_lines() -> None:
    lines = [line for line in cases.simulated(random.Random(1), 300)[1] if line]
    assert not assert_same("sim", cases.SWAP, lines).rejects


def test_a_byte_order_mark_counts_only_at_the_first_byte_of_a_file() -> None:
    lines = [b"\xef\xbb\xbf" + TICKER, TICKER, b"\xef\xbb\xbf" + TICKER, b""]
    assert assert_same("binance", "B", lines, 0).line.tolist() == [0, 1]
    assert assert_same("binance", "B", lines, 1).line.tolist() == [1]


@pytest.mark.parametrize("flag", ["torn", "too_long"])
def test_torn_and_too_long_lines(flag: str) -> None:
    block = Block(TICKER, "raw/x", "2024-03-06", 5, **{flag: True})
    batch = decode_quotes(block, "binance", "B")
    assert [reject.reason for reject in batch.rejects] == [flag.replace("_", " ")]
    assert batch.records == 1


def test_a_last_line_without_an_end() -> None:
    batch = decode_quotes(Block(TICKER + b"\n" + TICKER, "raw/x", "d", 0), "binance", "B")
    assert batch.line.tolist() == [0, 1]
    assert not decode_quotes(Block(b"", "raw/x", "d", 0), "binance", "B").records
    assert decode_quotes(Block(b"{", "raw/x", "d", 0), "binance", "B").records == 1


@pytest.mark.parametrize("case", cases.QUOTES, ids=lambda case: case.name)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_any_lines(case: cases.Case, rng: random.Random) -> None:
    """Good lines with all kinds of bad ones among them."""
    assert_same(case.exchange, case.inst_id, odd_lines(case, rng, 25), rng.choice((0, 17)))


def odd_lines(case: cases.Case, rng: random.Random, count: int) -> list[bytes]:
    lines = []
    for number in range(1000, 1000 + count):
        line = case.line(rng, number)
        kind = rng.randrange(8)
        if kind < 2:
            line = mutate(rng, line)
        elif kind < 5:
            line = replaced(rng, case.record(rng, number))
        elif kind < 6:
            line = rng.choice(WHOLE_LINES)
        lines.append(line.replace(b"\n", b" ") + rng.choice((b"", b"", b"", b"\r")))
    return lines


@pytest.mark.parametrize("case", cases.QUOTES, ids=lambda case: case.name)
def test_accidents(case: cases.Case) -> None:
    rng = random.Random(3)
    lines = [odd for n in range(2) for odd in cases.accidents(rng, case.line(rng, 500 + n))]
    assert_same(case.exchange, case.inst_id, lines)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.QUOTES, ids=lambda case: case.name)
def test_any_lines_at_length(case: cases.Case) -> None:
    rng = random.Random(9)
    for _ in range(400):
        assert_same(case.exchange, case.inst_id, odd_lines(case, rng, 60), rng.choice((0, 17)))


@pytest.mark.slow
@pytest.mark.skipif(not CAPTURES, reason="no captures: set FLOWVAULT_CAPTURES to a raw folder")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: "/".join(path.parts[-4:]))
def test_captures(path: Path) -> None:
    """Real files, as they are and with accidents."""
    lines = gzip.decompress(path.read_bytes()).splitlines()
    exchange, inst_id = path.parts[-4], path.parts[-2]
    assert not assert_same(exchange, inst_id, lines, 0).rejects
    rng = random.Random(path.name)
    some = sorted(rng.sample(range(len(lines)), min(len(lines), 1000)))
    assert_same(exchange, inst_id, [mutate(rng, lines[i]).replace(b"\n", b"") for i in some])
