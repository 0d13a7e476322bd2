"""Book records: the compiled reader, the line reader and the rulings agree on every line."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import jit
from pipeline.raw import books
from pipeline.raw.block import Block
from pipeline.raw.books import BookBatch, decode_books

from . import feed_cases as cases
from . import feed_rulings as rulings
from .records import WHOLE_LINES, Record, mutate, replaced

RAW = Path(os.environ.get("FLOWVAULT_CAPTURES", Path(__file__).parents[2] / "vault" / "raw"))
CAPTURES = sorted(RAW.glob("*/books_*/*/*.jsonl.gz"))


def block_of(lines: list[bytes], offset: int = 17) -> Block:
    return Block(b"".join(line + b"\n" for line in lines), "raw/x", "2024-03-06", offset)


def rows(batch: BookBatch) -> list[tuple[Any, ...]]:
    """All records as (offset of the line, (snapshot, ts, ids, levels as digits and decimals))."""
    level = list(zip(*(getattr(batch, n).tolist() for n in books._LEVEL), strict=True))
    names = ("line", "is_snapshot", "ts_us", "first_id", "last_id", "prev_id")
    heads = zip(*(getattr(batch, n).tolist() for n in names), strict=True)
    spans = zip(batch.level_start.tolist(), batch.level_end.tolist(), strict=True)
    return [
        (batch.block.line_offset(line), (*rest, tuple(level[start:end])))
        for (line, *rest), (start, end) in zip(heads, spans, strict=True)
    ]


def judge(record: Record, line: Record, exchange: str, inst_id: str) -> tuple[Any, ...]:
    """One record by the rulings."""
    need, sequence, first_time = rulings._need, rulings.sequence, rulings.first_time
    first = prev = last = -1
    sides: tuple[str, ...] = ("bids", "asks")
    if exchange == "binance":
        times = (("T", "ms"), ("E", "ms"))
        is_update = rulings.text_is(record.get("e"), "depthUpdate")
        if is_update:
            need(rulings.text_is(record.get("s"), inst_id))
            first, last, sides = sequence(record, "U"), sequence(record, "u"), ("b", "a")
            prev = sequence(record, "pu") if "pu" in record else first - 1
            need(first <= last)
        else:
            need("e" not in record)
            rulings.named(record, "s", inst_id)
            last = sequence(record, "lastUpdateId")
        ts = first_time(record, *times, needed=is_update)
    elif exchange in ("okx", "sim"):
        is_update = False
        last = sequence(record, "seqId", needed=False)
        rulings.named(record, "instId", inst_id)
        if "arg" in line:
            channel = rulings.arg(line, "channel")
            is_top = rulings.text_is(channel, "books5", "bbo-tbt")
            full = rulings.text_is(channel, "books", "books-l2-tbt", "books50-l2-tbt")
            is_update = full and rulings.text_is(line.get("action"), "update")
            is_snapshot = rulings.text_is(line.get("action"), "snapshot")
            need(
                is_update or ((full or is_top) and is_snapshot) or (is_top and "action" not in line)
            )
            need(rulings.text_is(rulings.arg(line, "instId"), inst_id))
            prev = sequence(record, "prevSeqId", needed=False, minus=True)
            ts = first_time(record, ("ts", "ms"))
        else:
            need("action" not in line)
            ts = first_time(record, ("ts", "ms"), ("timestamp_utc", "iso"))
    elif exchange == "coinbase":
        need(rulings.text_is(record.get("product_id"), inst_id))
        is_update = rulings.text_is(record.get("type"), "l2update")
        need(is_update or rulings.text_is(record.get("type"), "snapshot"))
        sides = ("changes",) if is_update else sides
        ts = first_time(record, ("time", "iso"), needed=is_update)
    else:
        is_update = False
        need("type" not in record or rulings.text_is(record["type"], "snapshot"))
        rulings.named(record, "instId", inst_id)
        ts = first_time(record, ("ts", "any"))
    return not is_update, ts, first, last, prev, tuple(rulings.levels(record, sides))


def assert_same(exchange: str, inst_id: str, lines: list[bytes], offset: int = 17) -> BookBatch:
    """One block, the same in pieces and with the compiled reader off, and the rulings."""
    block = block_of(lines, offset)
    batch = decode_books(block, exchange, inst_id)
    found = rows(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "_read_columns", lambda *_: ([], np.zeros(0, np.int64)))
        careful = decode_books(block, exchange, inst_id)
    assert found == rows(careful)
    assert batch.rejects == careful.rejects
    pieces = []
    rejects = []
    rng = random.Random(len(block.data))
    at = 0
    while at < len(lines):
        to = at + rng.choice((1, 1, 2, 3, 40, 700))
        start = offset + int(block.span(at)[0])
        piece = decode_books(block_of(lines[at:to], start), exchange, inst_id)
        pieces += rows(piece)
        rejects += piece.rejects
        at = to
    assert pieces == found
    assert rejects == batch.rejects
    good, bad = rulings.expected(block, exchange, inst_id, judge)
    mine = [
        (*head, tuple((s, exact(px, dp), exact(sz, sz_dp)) for s, px, dp, sz, sz_dp in levels))
        for _, (*head, levels) in found
    ]
    for line, got, wanted in zip(batch.line.tolist(), mine, good, strict=False):
        assert (line, got) == wanted, block.line(line)
    assert rulings.rejected(block, batch.rejects) == bad
    assert len(mine) == len(good)
    assert batch.records == len(good) + len(bad)
    assert_columns(batch)
    return batch


def exact(digits: int, decimals: int) -> Decimal:
    return Decimal(digits).scaleb(-decimals)


def assert_columns(batch: BookBatch) -> None:
    """Types, and levels one after the other without a hole."""
    for name, kind in (books._RECORD | books._LEVEL).items():
        assert getattr(batch, name).dtype == kind, name
    edges = np.append(batch.level_start, len(batch.px))
    assert edges.tolist() == [0, *batch.level_end.tolist()]
    assert ((batch.px_dp == 0) | (batch.px % 10 != 0)).all()
    assert ((batch.sz_dp == 0) | (batch.sz % 10 != 0)).all()


TABLE = [
    (
        "binance",
        "BTCUSDT",
        (
            b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,'
            b'"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,'
            b'"pu":5123107831937,"b":[["58710.20","0.014"],["61510.90","0.000"]],"a":[["100.00","2"]]}}'
        ),
        (False, 1723161256298000, 5123107832006, 5123107837557, 5123107831937),
        ((0, 587102, 1, 14, 3), (0, 615109, 1, 0, 0), (1, 100, 0, 2, 0)),
    ),
    (
        "binance",
        "BTCUSDT",
        (
            b'{"e":"depthUpdate","E":1723161601374,"s":"BTCUSDT","U":50093421613,"u":50093421620,'
            b'"b":[["61685.29000000","0.00083000"]],"a":[]}'
        ),
        (False, 1723161601374000, 50093421613, 50093421620, 50093421612),
        ((0, 6168529, 2, 83, 5),),
    ),
    (
        "binance",
        "BTCUSDT",
        b'{"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"]],"asks":[]}',
        (True, -1, -1, 50093239218, -1),
        ((0, 6183763, 2, 378826, 5),),
    ),
    (
        "okx",
        "BTC-USDT-SWAP",
        (
            b'{"arg":{"channel":"books","instId":"BTC-USDT-SWAP"},"action":"snapshot","data":[{"asks":'
            b'[["8476.98","415","0","13"]],"bids":[["8476.97","256","0","12"]],"ts":"1597026383085",'
            b'"checksum":-855196043,"prevSeqId":-1,"seqId":123456}]}'
        ),
        (True, 1597026383085000, -1, 123456, -1),
        ((1, 847698, 2, 415, 0), (0, 847697, 2, 256, 0)),
    ),
    (
        "sim",
        "A",
        b'{"arg":{"channel":"books5","instId":"A"},"data":[{"asks":[],"bids":[["1",0]],"ts":"1"}]}',
        (True, 1000, -1, -1, -1),
        ((0, 1, 0, 0, 0),),
    ),
    (
        "okx",
        "A",
        b'{"bids":[[1.50,2]],"asks":[],"timestamp_utc":"1970-01-01T00:00:01.5Z","seqId":"9"}',
        (True, 1500000, -1, 9, -1),
        ((0, 15, 1, 2, 0),),
    ),
    (
        "coinbase",
        "SKL-USD",
        (
            b'{"type":"l2update","product_id":"SKL-USD","changes":[["buy","0.7885","0.0"],["sell",'
            b'"0.7923","7441.5"]],"time":"2021-04-17T16:43:37.077621Z"}'
        ),
        (False, 1618677817077621, -1, -1, -1),
        ((0, 7885, 4, 0, 0), (1, 7923, 4, 74415, 1)),
    ),
    (
        "coinbase",
        "A",
        b'{"type":"snapshot","product_id":"A","asks":[["2","1e-3"]],"bids":[]}',
        (True, -1, -1, -1, -1),
        ((1, 2, 0, 1, 3),),
    ),
    (
        "elsewhere",
        "A",
        b'{"ts":1597026383085,"bids":[[10,"0.5"]],"asks":[[11.0,3]]}',
        (True, 1597026383085000, -1, -1, -1),
        ((0, 10, 0, 5, 1), (1, 11, 0, 3, 0)),
    ),
]


@pytest.mark.parametrize(("exchange", "inst_id", "line", "head", "levels"), TABLE)
def test_table(
    exchange: str, inst_id: str, line: bytes, head: tuple[Any, ...], levels: tuple[Any, ...]
) -> None:
    """One line of every format, by hand."""
    batch = assert_same(exchange, inst_id, [line, line])
    assert rows(batch)[1][1] == (*head, levels)


DEPTH = b'{"e":"depthUpdate","E":1723161601374,"s":"B","U":5,"u":6,"b":[["1","2"]],"a":[]}'
REASONS = [
    (b"{", "json"),
    (b'{"s":"\xff"}', "encoding"),
    (b"[]", "not an object"),
    (b'{"data":[7]}', "not an object"),
    (b'{"data":[]}', "empty envelope"),
    (DEPTH.replace(b"depthUpdate", b"trade"), "not a book"),
    (DEPTH.replace(b'"B"', b'"C"'), "instrument"),
    (DEPTH.replace(b"1723161601374", b"-3"), "ts"),
    (DEPTH.replace(b'"E"', b'"F"'), "ts"),
    (DEPTH.replace(b":5,", b":9223372036854775808,"), "id"),
    (DEPTH.replace(b":5,", b":7,"), "id"),
    (DEPTH.replace(b":6,", b":6.0,"), "id"),
    (DEPTH.replace(b":6,", b":null,"), "id"),
    (DEPTH.replace(b'"1"', b'"0"'), "price"),
    (DEPTH.replace(b'"1"', b'"NaN"'), "price"),
    (DEPTH.replace(b'"2"', b'"-2"'), "size"),
    (DEPTH.replace(b'"2"', b"true"), "size"),
    (DEPTH.replace(b'"2"', b'"1e20"'), "magnitude"),
    (DEPTH.replace(b'["1","2"]', b'["1"]'), "levels"),
    (DEPTH.replace(b',"a":[]', b""), "levels"),
    (DEPTH + DEPTH, "json"),
]


@pytest.mark.parametrize(("line", "reason"), REASONS)
def test_reasons(line: bytes, reason: str) -> None:
    """Every way of being bad has its word, and good neighbours stay."""
    batch = assert_same("binance", "B", [DEPTH, line, DEPTH])
    assert [reject.reason for reject in batch.rejects] == [reason]


def test_ids_of_19_digits_are_read() -> None:
    line = DEPTH.replace(b":6,", b":9223372036854775807,")
    assert assert_same("binance", "B", [line]).last_id.tolist() == [2**63 - 1]


@pytest.mark.parametrize("case", cases.BOOKS, ids=lambda case: case.name)
def test_regular_lines_are_read_compiled(case: cases.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """All valid lines are read, and by the fast path (several records a line aside)."""
    rng = random.Random(1)
    lines = [case.line(rng, 1000 + i) for i in range(60)]
    assert not assert_same(case.exchange, case.inst_id, lines).rejects
    if case.name == "okx two records":
        return
    asked: list[int] = []

    def nothing(_: Block, left: list[int], __: Any) -> tuple[list[Any], list[Any]]:
        asked.extend(left)
        return [], []

    monkeypatch.setattr(books, "read_block", nothing)
    decode_books(block_of(lines), case.exchange, case.inst_id)
    assert not asked


def test_simulated_lines() -> None:
    lines = cases.simulated(random.Random(1), 300)[0]
    assert not assert_same("sim", cases.SWAP, lines).rejects


@pytest.mark.parametrize("case", cases.BOOKS, ids=lambda case: case.name)
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


@pytest.mark.parametrize("case", cases.BOOKS, ids=lambda case: case.name)
def test_accidents(case: cases.Case) -> None:
    rng = random.Random(3)
    lines = [odd for n in range(2) for odd in cases.accidents(rng, case.line(rng, 500 + n))]
    assert_same(case.exchange, case.inst_id, lines)


def test_loops_are_compiled_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba refuses to cache when it finds no folder to write to; then it compiles every time."""

    def njit(*, cache: bool = False, **_: Any) -> Any:
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: ("compiled", function)

    monkeypatch.setattr(jit, "_numba", lambda: SimpleNamespace(njit=njit))
    assert jit._compiled(block_of, {}) == ("compiled", block_of)


def test_numba_is_loaded_only_when_a_block_is_read() -> None:
    """Asking for help, or reading trades alone, does not wait for it."""
    code = (
        "import sys, pipeline.raw.books as b, pipeline.raw.quotes, pipeline.raw.block as k\n"
        "assert 'numba' not in sys.modules\n"
        "b.decode_books(k.Block(b'{}', 'x', 'd', 0), 'okx', 'A')\nassert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.slow
@pytest.mark.parametrize("case", cases.BOOKS, ids=lambda case: case.name)
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
    some = sorted(rng.sample(range(len(lines)), min(len(lines), 400)))
    assert_same(exchange, inst_id, [mutate(rng, lines[i]).replace(b"\n", b"") for i in some])
