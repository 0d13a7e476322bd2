"""Trades of a tape: the compiled reader, the line reader and the rulings agree on every line."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.raw import tape
from pipeline.raw.block import Block
from pipeline.raw.tape import TapeBatch, decode_tape

from . import feed_cases as cases
from . import feed_rulings as rulings
from .records import FIRST_MS, WHOLE_LINES, Record, iso, mutate, replaced
from .test_quotes import block_of, odd_lines


def _trade(rng: random.Random, n: int) -> Record:
    record: Record = {"ts": rng.choice((iso(FIRST_MS + n), FIRST_MS + n)), "seq": n}
    record |= {"ex": rng.choice("NQ"), "price": rng.choice((48.9, 49, "49.0500", 0.0001))}
    record |= {"size": rng.choice((1, 100, 50.5, "300")), "corr": rng.choice((0, 1, 12))}
    record |= {"cond": rng.choice(("", "20000020", "@", "1"))}
    return {key: value for key, value in record.items() if key in "ts price size" or n % 3}


CASE = cases.Case("tape", "taq", "AIG", _trade)


def judge(record: Record, line: Record, exchange: str, inst_id: str) -> tuple[Any, ...]:
    """One record by the rulings."""
    del line, exchange
    need, zero = rulings._need, Decimal(0)
    need("price" in record and "size" in record)
    rulings.named(record, "symbol", inst_id)
    ts = rulings.first_time(record, ("ts", "any"))
    size = rulings.number(record["size"], least=zero)
    need(size <= 10**10)
    seq, corr = (
        -1 if record.get(key) is None else rulings.sequence(record, key) for key in ("seq", "corr")
    )
    price = rulings.number(record["price"], least=zero)
    texts = []
    for key in ("ex", "cond"):
        value = "" if record.get(key) is None else record[key]
        need(isinstance(value, str) and not isinstance(value, rulings.Number))
        need(len(value) <= 32 and all(" " <= letter <= "\x7f" for letter in value))
        texts.append(value)
    return (ts, None if seq < 0 else seq, float(price), float(size), *texts, max(0, corr))


def rows(batch: TapeBatch) -> list[tuple[Any, ...]]:
    """Line and values of every trade."""
    return batch.frame.rows()


def assert_same(lines: list[bytes], offset: int = 17) -> TapeBatch:
    """One block, the same in pieces and with the compiled reader off, and the rulings."""
    block = block_of(lines, offset)
    batch = decode_tape(block, "AIG")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tape, "by_shape", lambda *_: iter(()))
        careful = decode_tape(block, "AIG")
    assert rows(batch) == rows(careful)
    assert batch.rejects == careful.rejects
    assert batch.frame.schema == tape.SCHEMA
    pieces = [
        row[1:]
        for at in range(0, len(lines), 7)
        for row in rows(decode_tape(block_of(lines[at : at + 7], offset + at), "AIG"))
    ]
    assert pieces == [row[1:] for row in rows(batch)]
    good, bad = rulings.expected(block, "taq", "AIG", judge)
    assert rulings.rejected(block, batch.rejects) == bad
    assert len(good) == batch.frame.height
    for (line, wanted), (own, *found) in zip(good, rows(batch), strict=True):
        assert line == own
        assert found == [
            pytest.approx(each, rel=1e-15) if isinstance(each, float) else each for each in wanted
        ]
    assert batch.records == len(good) + len(bad)
    return batch


SPECIMEN = (
    b'{"ts":"2018-01-02T14:30:00.125Z","seq":0,"ex":"N","price":158.5,"size":50,"cond":"","corr":0}'
)


def test_the_specimen() -> None:
    """The line of the format's description."""
    assert rows(assert_same([SPECIMEN])) == [
        (0, 1514903400125000, 0, 158.5, 50.0, "N", "", 0),
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"158.5", b"0", "price"),
        (b"158.5", b"-1", "price"),
        (b":50,", b":0,", "size"),
        (b":50,", b":10000000001,", "magnitude"),
        (b'"seq":0', b'"seq":-1', "seq"),
        (b'"corr":0', b'"corr":"x"', "corr"),
        (b'"cond":""', b'"cond":7', "cond"),
        (b'"ex":"N"', b'"ex":["N"]', "ex"),
        (b'"ts"', b'"tx"', "ts"),
        (b'"price"', b'"px"', "not a trade"),
        (b'"ex":"N"', b'"symbol":"GE"', "instrument"),
        (b"}", b"}{}", "json"),
    ],
)
def test_reasons(old: bytes, new: bytes, reason: str) -> None:
    """Every way of being bad has its word."""
    batch = assert_same([SPECIMEN, SPECIMEN.replace(old, new)])
    assert [reject.reason for reject in batch.rejects] == [reason]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":0', b'"seq":null'),
        (b'"corr":0', b'"corr":null'),
        (b'"corr":0', b'"corr":"00"'),
        (b'"cond":""', b'"cond":null'),
        (b'"cond":""', b'"cond":"@  T, more than eight"'),
        (b":50,", b":10000000000,"),
        (b":50,", b":0.000001,"),
        (b'"ex":"N",', b'"symbol":"AIG",'),
    ],
)
def test_unusual_and_good(old: bytes, new: bytes) -> None:
    """What is not written by everybody, and all right."""
    assert not assert_same([SPECIMEN.replace(old, new)]).rejects


def test_regular_lines_are_read_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All valid lines are read, and by the fast path."""
    rng = random.Random(1)
    lines = [CASE.line(rng, 1000 + i) for i in range(60)]
    assert not assert_same(lines).rejects
    asked: list[int] = []

    def nothing(_: Block, left: list[int], __: Any) -> tuple[list[Any], list[Any]]:
        asked.extend(left)
        return [], []

    monkeypatch.setattr(tape, "read_block", nothing)
    decode_tape(block_of(lines), "AIG")
    assert not asked


@settings(max_examples=25, deadline=None, derandomize=True)
@given(rng=st.randoms(use_true_random=False))
def test_any_lines(rng: random.Random) -> None:
    """Good lines with all kinds of bad ones among them."""
    assert_same(odd_lines(CASE, rng, 25), rng.choice((17, 170)))


def test_accidents() -> None:
    rng = random.Random(3)
    assert_same([odd for n in range(2) for odd in cases.accidents(rng, CASE.line(rng, 500 + n))])
    lines = [mutate(rng, SPECIMEN).replace(b"\n", b" ") for _ in range(100)]
    lines += [replaced(rng, json.loads(SPECIMEN)) for _ in range(100)]
    assert_same([*lines, *WHOLE_LINES])


@pytest.mark.parametrize("flag", ["torn", "too_long"])
def test_torn_and_too_long_lines(flag: str) -> None:
    batch = decode_tape(Block(SPECIMEN, "raw/x", "d", 5, **{flag: True}), "AIG")
    assert [reject.reason for reject in batch.rejects] == [flag.replace("_", " ")]
    assert not decode_tape(Block(b"", "raw/x", "d", 5, ended=True), "AIG").records
