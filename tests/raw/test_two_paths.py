"""The column reader and the line reader are one reader.

Which of the two a line takes depends on its neighbours, so any line on which they differ would
make the derived rows depend on where a run happened to be cut.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from pipeline.raw import trades
from pipeline.raw.adapters import trade_adapter
from pipeline.raw.block import Block, Reject

from .records import NUMBERS, SHAPES, TIMES, WHOLE_LINES, WORDS, Shape, mutate, replaced

REGULAR = [shape for shape in SHAPES if shape.name not in ("okx pair", "okx null data")]
"""Shapes that the columns must read; two records a line, or a null envelope, they need not."""

Reading = tuple[list[tuple[Any, ...]], list[Reject]]


def read(shape: Shape, data: bytes, offset: int) -> Reading:
    """Trades with exact values, by the place of their line, and the rejected lines."""
    block = Block(data, "raw/x", "2024-03-06", offset)
    batch = trades.decode(block, trade_adapter(shape.exchange), shape.inst_id, shape.contract)
    ticks = batch.ticks
    rows = []
    for row in ticks.frame.iter_rows(named=True):
        price = Fraction(row["px"], 10**ticks.px_scale)
        size = Fraction(row["sz"], 10**ticks.sz_scale)
        # a notional that is left open is price times size
        money = price * size if row["nt"] is None else Fraction(row["nt"], 10**ticks.nt_scale)
        exact = (price, size, money)
        place = block.line_offset(row["line"])
        rest = (row["trade_id"], row["ts"], row["count"], row["px_dp"], row["side"])
        rows.append((place, *exact, *rest))
    return rows, list(batch.rejects)


def read_one_by_one(shape: Shape, data: bytes, offset: int) -> Reading:
    """The same block, every line in a block of its own."""
    rows: list[tuple[Any, ...]] = []
    rejects: list[Reject] = []
    for line in split(data):
        more, bad = read(shape, line, offset)
        rows += more
        rejects += bad
        offset += len(line)
    return rows, rejects


def split(data: bytes) -> list[bytes]:
    """Cut at line feeds only, as the feed does."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def assert_same(shape: Shape, lines: list[bytes], offset: int = 0) -> Reading:
    """One block, the same with the column reader switched off, and line by line: all equal."""
    data = b"".join(line + b"\n" for line in lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trades, "_read_columns", lambda *_: None)
        careful = read(shape, data, offset)
    readings = {
        "one block": read(shape, data, offset),
        "line by line": read_one_by_one(shape, data, offset),
    }
    for name, other in readings.items():
        pairs: list[tuple[str, list[Any], list[Any]]] = [
            ("trade", other[0], careful[0]),
            ("reject", other[1], careful[1]),
        ]
        for what, mine, wanted in pairs:
            assert mine == wanted, f"{shape.name}, {name}: {what}s differ in\n" + "\n".join(
                describe(data, offset, mine, wanted)
            )
    return careful


def describe(data: bytes, offset: int, mine: list[Any], wanted: list[Any]) -> Iterator[str]:
    """The lines on which two readings disagree."""
    starts = {}
    for line in split(data):
        starts[offset] = line
        offset += len(line)
    for item in [*(each for each in mine if each not in wanted)][:3]:
        yield f"  got    {item}"
    for item in [*(each for each in wanted if each not in mine)][:3]:
        yield f"  wanted {item}"
    places = {e[0] if isinstance(e, tuple) else e.offset for e in (*mine, *wanted)}
    for place in sorted(places):
        here = [
            [e for e in side if (e[0] if isinstance(e, tuple) else e.offset) == place]
            for side in (mine, wanted)
        ]
        if here[0] != here[1]:
            yield f"  line   {starts[place]!r}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_valid_lines_are_all_read(shape: Shape) -> None:
    """Every shape used here is one that the readers accept, so the fuzz starts from good lines."""
    rng = random.Random(1)
    lines = [shape.line(rng, 1000 + i) for i in range(60)]
    rows, rejects = assert_same(shape, lines)
    assert not rejects
    assert len({row[0] for row in rows}) == 60


@pytest.mark.parametrize("shape", REGULAR, ids=lambda s: s.name)
def test_regular_lines_take_the_columns(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is not between the careful path and itself: columns read regular lines."""
    rng = random.Random(2)
    taken = []
    original = trades._read_columns

    def watch(*args: Any) -> Any:
        found = original(*args)
        taken.append(0 if found is None else found[0].height)
        return found

    monkeypatch.setattr(trades, "_read_columns", watch)
    first = shape.line(random.Random(3), 1000)
    read(
        shape, b"".join([first + b"\n", *(shape.line(rng, 1001 + i) + b"\n" for i in range(40))]), 0
    )
    assert taken[0] >= 10, f"{taken[0]} of 41 lines"


def spoils(line: bytes) -> bool:
    """Whether one such line sends its whole block to the careful path, and so hides the others."""
    body = line.removesuffix(b"\r")
    return b"\\" in body or any(not 32 <= byte < 127 for byte in body) or not body.strip()


def blocks(shape: Shape, seed: int, count: int, size: int = 30) -> Iterator[list[bytes]]:
    """Blocks of good lines with mutated ones among them."""
    rng = random.Random(f"{shape.name}/{seed}")
    number = 1000
    for _ in range(count):
        lines: list[bytes] = []
        may_spoil = rng.random() < 0.25
        while len(lines) < size:
            number += 1
            line = shape.line(rng, number)
            kind = rng.random()
            if kind < 0.3:
                line = mutate(rng, line)
            elif kind < 0.6:
                line = replaced(rng, shape.record(rng, number))
            elif kind < 0.63:
                line = rng.choice(WHOLE_LINES)
            if rng.random() < 0.05:
                line += b"\r"
            if may_spoil or not spoils(line):
                lines.append(line)
        if rng.random() < 0.7:
            lines.insert(0, shape.line(rng, number + 1))  # so that a template is found at once
        yield lines


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_mutated_lines(shape: Shape) -> None:
    """Small accidents of every kind: both readers accept, or both reject for the same reason."""
    for lines in blocks(shape, 1, 8):
        assert_same(shape, lines, 17)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_mutated_lines_at_length(shape: Shape) -> None:
    """The same with a hundred times as many lines."""
    for lines in blocks(shape, 2, 800):
        assert_same(shape, lines, 17)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_every_odd_value_in_every_field(shape: Shape) -> None:
    """Each odd number, time and word, quoted and bare, in each field that the shape reads."""
    rng = random.Random(5)
    good = shape.line(rng, 500)
    keys = {
        "price": ("px", "price", "p"),
        "size": ("sz", "size", "q", "qty_contracts"),
        "id": ("tradeId", "trade_id", "t", "a", "id"),
        "time": ("ts", "T", "time", "timestamp_utc"),
        "unread": ("data", "note", "maker", "sequence", "E", "X", "stream", "symbol_canon"),
        "word": ("side", "m", "instId", "s", "product_id", "e", "type", "ctType", "count", "ctVal"),
    }
    kinds = {"time": TIMES, "word": (*WORDS, *NUMBERS[:40])}
    text = good.decode()
    for kind, names in keys.items():
        for name in names:
            start = text.rfind(f'"{name}":')
            if start < 0:
                continue
            start = text.index(":", start) + 1
            start += text[start] == " "
            end = min(i for i in (text.find(",", start), text.find("}", start)) if i > 0)
            odd_values = kinds.get(kind, NUMBERS)
            changed = [
                f"{text[:start]}{new}{text[end:]}".encode("utf-8", "surrogatepass")
                for odd in odd_values
                for new in (f'"{odd}"', odd)
            ]
            assert_same(shape, [good, *(line for line in changed if not spoils(line))], 3)
            for line in filter(spoils, changed):
                assert_same(shape, [good, line, good.replace(b"500", b"501")], 3)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_whole_lines_that_are_no_records(shape: Shape) -> None:
    """Blank, binary and structurally wrong lines between good ones, at a file's start as well."""
    rng = random.Random(7)
    for offset in (0, 1):
        for odd in WHOLE_LINES:
            assert_same(shape, [odd, shape.line(rng, 1), odd, shape.line(rng, 2)], offset)


@pytest.mark.parametrize("bom", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_counts_only_at_the_first_byte_of_a_file(bom: bytes) -> None:
    """At offset 0 it is skipped; anywhere else its line is bad."""
    shape = SHAPES[0]
    line = bom + shape.line(random.Random(1), 1)
    assert len(assert_same(shape, [line, line], 0)[0]) == (1 if bom else 2)
    assert len(assert_same(shape, [line, line], 9)[1]) == (2 if bom else 0)


def test_values_whose_product_needs_128_bits_stand_among_ordinary_ones() -> None:
    """18 digits each: no digit of price, size or notional is lost, in any neighbourhood."""
    shape = next(each for each in SHAPES if each.name == "plain text")
    rng = random.Random(1)
    row = shape.record(rng, 2) | {"price": "100000.000000000001", "size": "0.00000000000000001"}
    fine = json.dumps(row).encode()
    rows, rejects = assert_same(shape, [shape.line(rng, 1), fine, shape.line(rng, 3), fine])
    assert not rejects
    price, size = Fraction("100000.000000000001"), Fraction("0.00000000000000001")
    assert [row[1:4] for row in rows[1::2]] == [(price, size, price * size)] * 2
