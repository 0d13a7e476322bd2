"""The column reader and the line reader are one reader.

Which of the two a line takes depends on its neighbours, so any line on which they differ would
make the derived rows depend on where a run happened to be cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from pipeline.raw import trades
from pipeline.raw.adapters import trade_adapter
from pipeline.raw.block import Block, Reject

from .records import NUMBERS, SHAPES, TIMES, WHOLE_LINES, WORDS, Shape, mutate, replaced

Reading = tuple[list[tuple[Any, ...]], list[Reject]]


def read(shape: Shape, data: bytes, offset: int) -> Reading:
    """Trades with exact values, by the place of their line, and the rejected lines."""
    block = Block(data, "raw/x", "2024-03-06", offset)
    batch = trades.decode(block, trade_adapter(shape.exchange), shape.inst_id, shape.contract)
    ticks = batch.ticks
    rows = []
    for row in ticks.frame.iter_rows(named=True):
        exact = (
            Fraction(row["px"], 10**ticks.px_scale),
            Fraction(row["sz"], 10**ticks.sz_scale),
            Fraction(row["nt"], 10**ticks.nt_scale),
        )
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
    for name, other in (
        ("one block", read(shape, data, offset)),
        ("line by line", read_one_by_one(shape, data, offset)),
    ):
        for what, mine, wanted in zip(("trade", "reject"), other, careful, strict=True):
            assert mine == wanted, (
                f"{shape.name}, {name}: {what}s differ in\n"
                + "\n".join(describe(data, offset, mine, wanted))
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
        here = [[e for e in side if (e[0] if isinstance(e, tuple) else e.offset) == place]
                for side in (mine, wanted)]
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


@pytest.mark.parametrize("shape", [s for s in SHAPES if s.name != "okx pair"], ids=lambda s: s.name)
def test_regular_lines_take_the_columns(
    shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    read(shape, b"".join([first + b"\n", *(shape.line(rng, 1001 + i) + b"\n" for i in range(40))]), 0)
    assert taken[0] >= 10, f"{taken[0]} of 41 lines"


def blocks(shape: Shape, seed: int, count: int, size: int = 30) -> Iterator[list[bytes]]:
    """Blocks of good lines with mutated ones among them."""
    rng = random.Random(f"{shape.name}/{seed}")
    number = 1000
    for _ in range(count):
        lines = []
        for _ in range(size):
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
            end = min(i for i in (text.find(",", start), text.find("}", start)) if i > 0)
            lines = [good]
            for odd in kinds.get(kind, NUMBERS):
                for new in (f'"{odd}"', odd):
                    lines.append(f"{text[:start]}{new}{text[end:]}".encode("utf-8", "replace"))
            assert_same(shape, lines, 3)


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


def test_numbers_too_wide_for_64_bits_join_with_ordinary_ones() -> None:
    """A line that only the careful path can hold (27 digits) may stand among ordinary lines."""
    shape = SHAPES[0]
    rng = random.Random(1)
    wide = shape.line(rng, 2).replace(b'"px": "', b'"px": "1.00000000000"}').replace(
        b'"px": "1.00000000000"}', b'"px": "1000000000000.000000000001", "old": "'
    ).replace(b'"sz": "', b'"sz": "0.000000000001", "was": "')
    rows, rejects = assert_same(shape, [shape.line(rng, 1), wide, shape.line(rng, 3)])
    assert not rejects
    assert rows[1][1] == Fraction("1000000000000.000000000001")
