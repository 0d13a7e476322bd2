"""The compiled loop and the careful path are one reader, and digits pass through neither.

Whatever the loop takes, the careful path takes with the same line; what it leaves is judged by the
careful path alone, so the cutting of blocks never matters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipeline.importers import convert
from pipeline.importers.batch import Batch
from pipeline.importers.careful import (
    OtherInstrumentError,
    Row,
    iso_text,
    ms_text,
    read_row,
    read_time,
)
from pipeline.importers.form import BUYER_IS_MAKER, TAKER
from pipeline.importers.framing import Lines, blocks
from pipeline.importers.layout import Layout
from pipeline.importers.records import AGGREGATES, TRADES, records
from pipeline.importers.table import read_table
from pipeline.importers.tardis_books import LEVEL
from pipeline.raw.shape import BadRecordError

LAYOUTS = {
    "binance": Layout(
        ("id", "price", "size", "", "time", "side"),
        records("binance", TRADES)[0],
        "BTCUSDT",
        BUYER_IS_MAKER,
    ),
    "aggregates": Layout(
        ("id", "price", "size", "first_id", "last_id", "time", "side", ""),
        records("binance", AGGREGATES)[0],
        "BTCUSDT",
        BUYER_IS_MAKER,
    ),
    "okx": Layout(
        ("inst", "id", "side", "price", "size", "time"),
        records("okx", TRADES)[1],
        "BTC-USDT-SWAP",
        TAKER,
    ),
    "coinbase": Layout(
        ("time", "price", "size", "side", "id"), records("coinbase", TRADES)[0], "BTC-USD", TAKER
    ),
    "plain without ids": Layout(
        ("time", "price", "size", "side"),
        records("kraken", TRADES)[1],
        "X",
        {**TAKER, "b": 1, "s": -1, "1": 1, "0": -1},
    ),
    "seconds": Layout(
        ("id", "time", "price", "size", "side"),
        records("kraken", TRADES)[0],
        "X",
        TAKER,
        unit=convert.SECONDS,
    ),
    "levels": Layout(
        ("", "inst", "time", "arrival", "is_snapshot", "side", "price", "amount"),
        LEVEL,
        "BTCUSDT",
        {"bid": 1, "ask": -1, "true": 2, "false": -2},
        ("arrival", "time", "is_snapshot", "side"),
    ),
}

GOOD: dict[str, tuple[str, ...]] = {
    "id": ("1", "4300000000", "0"),
    "first_id": ("7",),
    "last_id": ("9",),
    "price": ("42283.30", "0.00000001", "1", "61800.3"),
    "size": ("4.465", "1.00000000", "0.1"),
    "amount": ("0", "0.000", "12.5"),
    "time": ("1704067200123", "1704067200123456"),
    "arrival": ("1704067200123456",),
    "side": ("true", "False"),
    "is_snapshot": ("true", "FALSE"),
    "inst": ("BTCUSDT",),
    "": ("188794.93450", "", "x y"),
}
NUMBERS = (
    *("0", "0.0", "1.", ".5", "01", "00.10", "-1", "+1", "1e5", "1E-8", "nan", "inf", "1,5", "1 2"),
    *("123456789012345", "1234567890123456", "0.1234567890123456789", "999999999999999.999"),
    *(
        "1234567890.123456789",
        "12345678.12345678",
        "\u0661",
        "",
        " ",
        "1.5 ",
        " 1.5",
        "1.5.5",
        "1_000",
    ),
    *("100000000000000000", "1000000000000000000", "99999999999999999999999999", "0" * 30),
)
TIMES = (
    *("1704067200", "1704067200.5", "1704067200.123456789", "1704067200123.4", "1704067200123.456"),
    *("1704067200123456.7", "1704067200123456789", "9999999999999999999", "170406720012", "0"),
    *("0000000000", "0000000000000", "0000000000000000", "1704067200.", "1704067200.1234567890"),
    *("9999999999999", "9999999999", "253402300800000", "2024-01-01", "2024-01-01 00:00:00"),
    *("2024-01-01T00:00:00Z", "2024-01-01T00:00:00.1Z", "2024-01-01 00:00:00.123456789"),
    *("2024-02-29T12:00:00Z", "2023-02-29T12:00:00Z", "2024-01-31T23:59:59.999999+00:00"),
    *("2024-01-28T23:59:59+01:00", "2024-01-28T23:59:60Z", "2024-13-01T00:00:00Z"),
    *(
        "1979-12-28T00:00:00Z",
        "1980-01-01T00:00:00Z",
        "9999-12-28T00:00:00Z",
        "2024-01-01T24:00:00",
    ),
    *(
        "2024-01-01X00:00:00",
        "2024/01/01 00:00:00",
        "2024-01-01T00:00:00.Z",
        "20-24-01-01T00:00:00",
    ),
)
WORDS = (
    *(
        "true",
        "True",
        "TRUE",
        "tru",
        "truee",
        "false",
        "1",
        "0",
        "buy",
        "Buy",
        "SELL",
        "b",
        "S",
        "bid",
    ),
    *(
        "",
        " ",
        "buy ",
        "\x11",
        "\x10",
        "ask",
        "unknown",
        "b\u00fcy",
        "BTCUSDT",
        "BTC-USDT-SWAP",
        "btcusdt",
    ),
    *(
        'a"b',
        '"buy"',
        '""',
        '"',
        "a\\b",
        "caf\u00e9",
        "a\tb",
        "a,b",
        '"a,b"',
        '"1.5"',
        '"1',
        "\x00",
    ),
)


def base(layout: Layout, name: str, rng: random.Random) -> list[str]:
    row = [rng.choice(GOOD[role]) for role in layout.roles]
    for place, role in enumerate(layout.roles):
        if role == "inst":
            row[place] = layout.inst_id
        if role == "side" and name not in ("binance", "aggregates"):
            row[place] = rng.choice(("bid", "ask") if name == "levels" else ("buy", "Sell"))
        if role == "time" and name == "seconds":
            row[place] = rng.choice(("1704067200", "1704067200.25"))
    return row


def rows(name: str, count: int, seed: int) -> Iterator[bytes]:
    """Rows of which most have one strange field or byte."""
    rng = random.Random(seed)
    layout = LAYOUTS[name]
    for _ in range(count):
        row = base(layout, name, rng)
        kind = rng.randrange(6)
        if kind in (0, 1, 2):
            row[rng.randrange(len(row))] = rng.choice((NUMBERS, TIMES, WORDS)[kind])
        text = ",".join(row).encode()
        if kind == 3:
            at = rng.randrange(len(text))
            text = text[:at] + bytes([rng.randrange(256)]) + text[at + rng.randrange(2) :]
        if kind == 4:
            text = rng.choice(
                (text + b",", text[: rng.randrange(len(text))], b"", b" ", text + b"\r")
            )
        yield text.replace(b"\n", b"")


def careful(text: bytes, place: int, layout: Layout) -> tuple[str, Row | None]:
    try:
        return "", read_row(text, place, layout)
    except BadRecordError as error:
        return str(error), None
    except OtherInstrumentError:
        return "other", None


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("count", [2500, pytest.param(200_000, marks=pytest.mark.slow)])
def test_both_readers_agree(name: str, count: int) -> None:
    taken = agreed(LAYOUTS[name], list(rows(name, count, seed=count)))
    # the loop takes what is written as usual, or it would not be worth having
    assert taken > count / 4


def agreed(layout: Layout, texts: list[bytes]) -> int:
    """Read rows both ways; how many the compiled loop has taken."""
    data = b"".join(text + b"\n" for text in texts)
    offset = 12_345
    lines = Lines.of(data, offset)

    fast = convert.convert(lines.text, lines.size, lines.offset, *layout.plan)

    odd = {int(start) for start in fast.odd[:, 0]}
    starts = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    wanted, kept, others, taken = b"", [], 0, 0
    for start, text in zip(starts, texts, strict=False):
        reason, row = careful(text, offset + start, layout)
        if start in odd:
            continue
        if row is None:
            assert reason == "other", text
            others += 1
        else:
            wanted += row.line
            kept.append(row.kept)
            taken += 1
    assert fast.lines == len(texts)
    assert fast.others == others
    assert fast.out[: fast.end[-1]].tobytes() == wanted
    assert fast.kept.T.tolist() == [list(each) for each in kept]
    return taken


def alike(name: str, count: int, seed: int, room: int) -> Iterator[bytes]:
    """Rows written like one before them, but for their digits and now and then another byte.

    Args:
        name: of the layout.
        count: how many rows.
        seed: of the random numbers.
        room: bytes that are put behind a field that does not matter, if there is one.
    """
    rng = random.Random(seed)
    layout = LAYOUTS[name]
    first = []
    for _ in range(5):
        row = base(layout, name, rng)
        if "" in layout.roles:
            row[layout.roles.index("")] = "1" * room
        first.append(",".join(row).encode() + rng.choice((b"", b"", b"\r")))
    for _ in range(count):
        text = bytearray(rng.choice(first))
        digits = [at for at, byte in enumerate(text) if byte in b"0123456789"]
        for at in rng.sample(digits, rng.choice((0, 3, len(digits)))):
            text[at] = rng.choice(b"0000123456789")
        if rng.random() < 0.2:
            text[rng.randrange(len(text))] = rng.choice(b"0159.,-+ \"'TtEefF\x00\x80\xb0\xff")
        if rng.random() < 0.2:  # fields of zeros only
            at = rng.choice(digits)
            while at < len(text) and text[at] in b"0123456789.":
                text[at] = ord(".") if text[at] == ord(".") else ord("0")
                at += 1
        yield bytes(text)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("room", [0, 10, 40, 100])
def test_both_readers_agree_on_rows_like_those_before(name: str, room: int) -> None:
    for seed in range(3):
        texts = list(alike(name, 700, seed, room))
        assert agreed(LAYOUTS[name], texts) > (0 if name == "levels" else 70)


@pytest.mark.parametrize("name", ["binance", "okx"])
def test_rows_come_in_their_order_whoever_read_them(name: str) -> None:
    layout = LAYOUTS[name]
    texts = list(rows(name, 600, seed=3))
    data = b"".join(text + b"\n" for text in texts)
    good, bad, others, at = [], [], 0, 0
    for number, text in enumerate(texts):
        reason, row = careful(text, at, layout)
        if row is not None:
            good.append(row)
        elif reason == "other":
            others += 1
        elif reason:
            bad.append((number, at, reason))
        at += len(text) + 1

    batch, kept = read_table(Lines.of(data), layout)

    assert lines_of(batch) == [row.line for row in good]
    assert kept.T.tolist() == [list(row.kept) for row in good]
    assert batch.clock.tolist() == [row.kept[0] for row in good]
    assert [(each.line, each.offset, each.reason) for each in batch.bad] == bad
    assert (batch.others, batch.lines) == (others, 600)
    assert len(bad) > 50
    assert len(good) > 200


def lines_of(batch: Batch) -> list[bytes]:
    ends = [0, *batch.end.tolist()]
    data = bytes(memoryview(batch.out)[: ends[-1]])
    return [data[a:b] for a, b in pairwise(ends)]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000, 1 << 20])
def test_blocks_are_cut_at_line_ends(size: int) -> None:
    data = b"".join(b"%d" % number * (number % 5) + b"\n" for number in range(300)) + b"the end"

    found = list(blocks(Source(data), 0, size))

    assert b"".join(each.data for each in found) == data + b"\n"
    assert all(each.data.endswith(b"\n") for each in found)
    assert [each.offset for each in found] == np.cumsum(
        [0, *(each.size for each in found)]
    ).tolist()[:-1]


def test_a_line_too_long_to_hold_is_one_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.importers import framing

    monkeypatch.setattr(framing, "MAX_LINE_BYTES", 5000)
    row = b"1,2,3,4,1704067200000,true\n"
    data = row + b"x" * 20_000 + b"\n" + row + row

    found = [read_table(each, LAYOUTS["binance"])[0] for each in blocks(Source(data), 0, 1000)]

    assert sum(each.rows for each in found) == 3
    (bad,) = [each for batch in found for each in batch.bad]
    assert (bad.reason, bad.offset) == ("too long", len(row))
    assert sum(each.lines for each in found) == 4


class Source:
    """Bytes as a stream."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int, /) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        return piece


@pytest.mark.parametrize("seed", range(3))
def test_times_against_the_library(seed: int) -> None:
    """Every way to write a time gives the same microseconds, and they are written back right."""
    rng = random.Random(seed)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    moments = [rng.randrange(10**15, 10**16 - 1) for _ in range(400)]
    layout = Layout(
        ("time", "price", "size", "side", "id"), records("coinbase", TRADES)[0], "X", TAKER
    )
    forms: list[Any] = [
        str,
        lambda us: f"{us // 1000}.{us % 1000:03d}",
        lambda us: f"{us // 10**6}.{us % 10**6:06d}999",
        lambda us: f"{us}999",
        lambda us: (epoch + timedelta(microseconds=us)).strftime("%Y-%m-%d %H:%M:%S.%f"),
    ]
    texts = [rng.choice(forms)(us) for us in moments]
    data = b"".join(f"{text},1,1,buy,1\n".encode() for text in texts)

    batch, kept = read_table(Lines.of(data), layout)

    assert kept[0].tolist() == moments
    stamps = [line.split(b'"time":"')[1][:-3].decode() for line in lines_of(batch)]
    for us, stamp in zip(moments, stamps, strict=True):
        moment = epoch + timedelta(microseconds=us)
        assert stamp == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") == iso_text(us)
        assert read_time(ms_text(us), convert.MILLIS) == us
