"""Every kind of bad input, put at seeded places into real files.

The clean lines' output must not change by a byte, and every bad line must be
found in quarantine with its file, its place and its bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.fold import Judge, judge_folder
from tests.oracle.raw import Contract, Instrument

from .conftest import MakeVault, Outcome, Product
from .vaults import (
    assert_layers,
    assert_quarantine,
    ms,
    plain_line,
    read_quarantine,
    read_trades,
    tree,
    unpacked_lines,
    write_raw,
)

Record = dict[str, Any]
Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Format:
    """The field names of one real format, and where a capture of it lies."""

    instrument: Instrument
    day: str
    name: str
    trade_id: str
    price: str
    size: str
    ts: str
    side: str

    def edit(self, line: bytes, change: Callable[[Record], None]) -> bytes:
        """The line with its one record changed."""
        document = json.loads(line)
        change(document.get("data", document))
        return json.dumps(document).encode()

    def setting(self, key: str, value: Any) -> Spoil:
        """A spoiler that replaces one value."""
        return lambda line: self.edit(line, lambda record: record.update({key: value}))

    def without(self, key: str) -> Spoil:
        """A spoiler that takes one field away."""

        def drop(record: Record) -> None:
            del record[key]

        return lambda line: self.edit(line, drop)


OKX = Format(
    Instrument("okx", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01"))),
    "2024-08-08", "instId", "tradeId", "px", "sz", "ts", "side",
)  # fmt: skip
COLLECTOR = Format(
    Instrument("okx", "perps", "ETH-USDT-SWAP"),
    "2024-08-08", "instId", "trade_id", "price", "qty_contracts", "timestamp_utc", "side",
)  # fmt: skip
BINANCE = Format(
    Instrument("binance", "spot", "BTCUSDT"), "2024-08-09", "s", "t", "p", "q", "T", "m"
)
FORMATS = [OKX, COLLECTOR, BINANCE]


def later(shape: Format, line: bytes, days: int) -> bytes:
    """The record under a new id, stamped days later."""

    def change(record: Record) -> None:
        record[shape.trade_id] = same_kind(record[shape.trade_id], 900_000_000_000)
        stamp = record[shape.ts]
        if isinstance(stamp, str) and "T" in stamp:
            record[shape.ts] = f"{int(stamp[:4]) + 1}{stamp[4:]}"
        else:
            record[shape.ts] = same_kind(stamp, int(stamp) + days * 86_400_000)

    return shape.edit(line, change)


def same_kind(sample: Any, number: int) -> Any:
    """The number as text where the sample is text."""
    return str(number) if isinstance(sample, str) else number


def spoilers(shape: Format) -> dict[str, Spoil]:
    """Every way of spoiling a line that must make it bad."""
    fields = (shape.name, shape.trade_id, shape.price, shape.size, shape.ts, shape.side)
    bad = {
        "garbage": lambda line: b"%%% not json at all " + line[:9],
        "scalar": lambda _: b"17",
        "array": lambda line: b"[" + line.strip() + b"]",
        "string": lambda _: b'"text"',
        "null": lambda _: b"null",
        "empty object": lambda _: b"{}",
        "truncated": lambda line: line[: len(line) // 2],
        "trailing comma": lambda line: line.rstrip()[:-1] + b",}",
        "single quotes": lambda line: line.rstrip().replace(b'"', b"'"),
        "glued": lambda line: line.rstrip() + line.rstrip(),
        "glued by a comma": lambda line: line.rstrip() + b"," + line.rstrip(),
        "text after": lambda line: line.rstrip() + b" tail",
        "nul": lambda line: line[:10] + b"\x00" + line[10:].rstrip(),
        "only nul": lambda _: b"\x00" * 40,
        "bom": lambda line: b"\xef\xbb\xbf" + line.rstrip(),
        "bad utf-8": lambda line: line.rstrip()[:-1] + b',"note":"\xff\xfe"}',
        "cut utf-8": lambda line: line.rstrip()[:-1] + b',"note":"\xe2\x82"}',
        "NaN": bare_number(shape, b"NaN"),
        "Infinity": bare_number(shape, b"-Infinity"),
        "NaN text": shape.setting(shape.price, "NaN"),
        "infinite text": shape.setting(shape.size, "Infinity"),
        "price zero": shape.setting(shape.price, "0.0"),
        "price negative": shape.setting(shape.price, "-61800.3"),
        "size zero": shape.setting(shape.size, "0"),
        "size negative": shape.setting(shape.size, "-1"),
        "size number negative": shape.setting(shape.size, -0.5),
        "price boolean": shape.setting(shape.price, True),
        "price list": shape.setting(shape.price, ["1"]),
        "price null": shape.setting(shape.price, None),
        "price words": shape.setting(shape.price, "a lot"),
        "price empty": shape.setting(shape.price, ""),
        "price two points": shape.setting(shape.price, "1.2.3"),
        "price underscore": shape.setting(shape.price, "61_800"),
        "size object": shape.setting(shape.size, {"v": "1"}),
        "time words": shape.setting(shape.ts, "yesterday"),
        "time null": shape.setting(shape.ts, None),
        "time boolean": shape.setting(shape.ts, True),
        "time no such day": shape.setting(shape.ts, "2024-13-45T00:00:00.000Z"),
        "id null": shape.setting(shape.trade_id, None),
        "id empty": shape.setting(shape.trade_id, ""),
        "id list": shape.setting(shape.trade_id, [1]),
        "side unknown": shape.setting(shape.side, "hold"),
        "side null": shape.setting(shape.side, None),
        "side number": shape.setting(shape.side, 1),
        "other instrument": shape.setting(shape.name, "DOGE-USDT-SWAP"),
        "future": lambda line: later(shape, line, 30),
    }
    return bad | {f"no {name}": shape.without(name) for name in fields}


def bare_number(shape: Format, word: bytes) -> Spoil:
    """A spoiler that puts a bare word where the price is."""
    spoil = shape.setting(shape.price, "@")
    return lambda line: spoil(line).replace(b'"@"', word)


def harmless(shape: Format) -> dict[str, Spoil]:
    """Lines that are neither good nor bad: blank ones, duplicates and late trades."""
    return {
        "blank": lambda _: b"",
        "spaces": lambda _: b"   \t",
        "duplicate": lambda line: line.rstrip(),
        "duplicate, spelt otherwise": lambda line: shape.edit(line, lambda _: None) + b" \r",
    }


def late_line(shape: Format, first: bytes, number: int) -> bytes:
    """A new trade stamped like the file's first and numbered below it."""

    def change(record: Record) -> None:
        old = record[shape.trade_id]
        record[shape.trade_id] = same_kind(old, int(old) - 1000 - number)

    return shape.edit(first, change)


def inject(shape: Format, lines: list[bytes], rounds: int, seed: int) -> bytes:
    """The file with every kind of dirt in it `rounds` times, never two side by side.

    A place is the clean line after which the dirt stands; dirt stands neither
    before the first clean line nor after the last. Late trades come in the last
    third, when the first minute is long closed.
    """
    rng = random.Random(seed)
    kinds = [*spoilers(shape).values(), *harmless(shape).values()] * rounds
    places = rng.sample(range(1, len(lines) - 1), len(kinds))
    dirt = {place: kind(lines[place]) for place, kind in zip(places, kinds, strict=True)}
    free = [p for p in range(len(lines) * 2 // 3, len(lines) - 1) if p not in dirt]
    for number, place in enumerate(rng.sample(free, 5)):
        dirt[place] = late_line(shape, lines[0], number)
    out = []
    for place, line in enumerate(lines):
        out.append(line)
        if place in dirt:
            out.append(dirt[place] + b"\n")
    return b"".join(out)


@dataclass(frozen=True)
class Runs:
    """The clean and the dirty vault, and what the dirty run said."""

    clean: Path
    dirty: Path
    outcome: Outcome
    judges: dict[str, Judge]


@pytest.fixture(scope="module")
def runs(captures: Path, new_vault: MakeVault, product: Product) -> Runs:
    """Three real files, clean and with less than one per cent of dirt."""
    clean, dirty = new_vault("clean"), new_vault("dirty")
    for seed, shape in enumerate(FORMATS):
        folder = shape.instrument.raw_folder(captures)
        lines = unpacked_lines(folder / f"{shape.day}.jsonl.gz")
        write_raw(clean, shape.instrument, shape.day, b"".join(lines))
        write_raw(dirty, shape.instrument, shape.day, inject(shape, lines, rounds=1, seed=seed))
    product.run_all(clean)
    outcome = product.run_all(dirty)
    judges = {s.instrument.inst_id: judge_folder(dirty, s.instrument) for s in FORMATS}
    return Runs(clean, dirty, outcome, judges)


def test_clean_rows_are_unchanged(runs: Runs) -> None:
    """Not one byte of any derived file tells of the dirt."""
    clean, dirty = tree(runs.clean, "derived"), tree(runs.dirty, "derived")
    assert sorted(clean) == sorted(dirty)
    assert [name for name in clean if clean[name] != dirty[name]] == []


@pytest.mark.parametrize("shape", FORMATS, ids=lambda s: s.instrument.inst_id)
def test_every_bad_line_is_in_quarantine(runs: Runs, shape: Format) -> None:
    """Source, offset, reason and raw of each; late ones too; duplicates and blanks not."""
    judge = runs.judges[shape.instrument.inst_id]
    assert judge.bad == len(spoilers(shape))
    assert_layers(runs.dirty, shape.instrument, judge)
    assert_quarantine(runs.dirty, shape.instrument, judge)


@pytest.mark.parametrize("shape", FORMATS, ids=lambda s: s.instrument.inst_id)
def test_counts_of_the_run(runs: Runs, shape: Format) -> None:
    """Each spoilt line is bad, five are late, two are duplicates."""
    summary = runs.outcome.summary(shape.instrument.inst_id)
    assert summary["bad"] == len(spoilers(shape))
    assert summary["late"] == 5
    assert summary["duplicate"] == 2


# -- the limit of one per cent --------------------------------------------


def counted(good: int, bad: int) -> bytes:
    """A plain file of good trades with bad lines after the first of them."""
    lines = [plain_line(i, ms(i), "10", "1") for i in range(good)]
    return b"".join([lines[0], *[b"bad\n"] * bad, *lines[1:]])


@pytest.mark.parametrize(
    ("good", "bad", "code"),
    [
        (199, 1, 0),  # half a per cent
        (99, 1, 0),  # one per cent exactly is not more than one
        (98, 1, 65),  # 1.01 per cent
        (0, 3, 65),  # nothing but dirt
    ],
)
def test_exit_status(
    new_vault: MakeVault, product: Product, good: int, bad: int, code: int
) -> None:
    """More than one per cent ends with 65, but what was good is derived all the same."""
    vault = new_vault("limit")
    instrument = Instrument("acme", "spot", "LIMIT")
    raw = counted(good, bad) if good else b"bad\n" * bad
    write_raw(vault, instrument, "2024-03-05", raw)
    outcome = product.run_all(vault, expect=code)
    assert len(read_trades(vault, instrument)) == good
    assert len(read_quarantine(vault, instrument)) == bad
    assert outcome.summary("LIMIT")["bad"] == bad
    assert_layers(vault, instrument)
    if code:
        assert product.run_all(vault, expect=0).summary("LIMIT")["bad"] == 0


def test_neither_duplicates_nor_late_trades_count(new_vault: MakeVault, product: Product) -> None:
    """Ten duplicates and ten late trades among thirty lines: exit 0."""
    vault = new_vault("harmless")
    instrument = Instrument("acme", "spot", "HARMLESS")
    good = [plain_line(i, ms(20 * i), "10", "1") for i in range(10)]
    late = [plain_line(100 + i, ms(i), "10", "1") for i in range(10)]
    write_raw(vault, instrument, "2024-03-05", b"".join(good + good + late))
    summary = product.run_all(vault, expect=0).summary("HARMLESS")
    assert (summary["duplicate"], summary["late"], summary["bad"]) == (10, 10, 0)
    judge = assert_layers(vault, instrument)
    assert_quarantine(vault, instrument, judge)


# -- lines meant to break the reader --------------------------------------

HOSTILE = {
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "deep in a field": b'{"ts":1,"price":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "two megabytes": b"x" * 2_000_000,
    "long id of blanks": b'{"ts":%d,"price":"1","size":"1","side":"up","id":"%s"}'
    % (ms(0), b" " * 100_000),
    "lone surrogate key": b'{"\\ud800":1}',
    "huge exponent time": b'{"ts":1e400,"price":"1","size":"1","side":"buy","id":1}',
    "separator characters": "\u2028\u2029\x85 {}".encode(),
}


def test_hostile_lines_are_only_bad(new_vault: MakeVault, product: Product) -> None:
    """No line, however made, stops a run or harms its neighbours."""
    vault = new_vault("hostile")
    instrument = Instrument("acme", "spot", "HOSTILE")
    good = [plain_line(i, ms(i), "10", "1") for i in range(1000)]
    for place, line in enumerate(HOSTILE.values(), start=1):
        good[place * 100] += line + b"\n"
    write_raw(vault, instrument, "2024-03-05", b"".join(good))
    outcome = product.run_all(vault, expect=0)
    assert len(read_trades(vault, instrument)) == 1000
    assert outcome.summary("HOSTILE")["bad"] == len(HOSTILE)
    judge = assert_layers(vault, instrument)
    assert_quarantine(vault, instrument, judge)


# -- envelopes ------------------------------------------------------------

ENVELOPES = Instrument("okx", "spot", "ENV-USDT")


def envelope(*records: Record) -> bytes:
    """A websocket frame of trades."""
    frame = {"arg": {"channel": "trades", "instId": ENVELOPES.inst_id}, "data": list(records)}
    return json.dumps(frame).encode() + b"\n"


def okx_record(number: int, second: int, **change: Any) -> Record:
    """One record of a frame."""
    row = {"instId": ENVELOPES.inst_id, "tradeId": str(number), "px": "10", "sz": "1"}
    return row | {"side": "buy", "ts": str(ms(second)), "count": "1"} | change


def test_one_bad_record_spoils_its_frame(new_vault: MakeVault, product: Product) -> None:
    """Frames of several records: all in order, or the whole line in quarantine.

    The ids of the spoilt frame then show as a gap.
    """
    vault = new_vault("envelopes")
    frames = [
        envelope(okx_record(1, 0), okx_record(2, 1), okx_record(3, 1)),
        envelope(okx_record(4, 2), okx_record(5, 2, px="0"), okx_record(6, 2)),
        envelope(okx_record(7, 3), okx_record(7, 3)),
        envelope(okx_record(10, 4, count="3"), okx_record(12, 5)),
        envelope(okx_record(13, 61)),
    ]
    write_raw(vault, ENVELOPES, "2024-03-05", b"".join(frames))
    outcome = product.run_all(vault, expect=65)
    assert [t["trade_id"] for t in read_trades(vault, ENVELOPES)] == [
        "1",
        "2",
        "3",
        "7",
        "10",
        "12",
        "13",
    ]
    judge = assert_layers(vault, ENVELOPES)
    assert [(g.first, g.last) for g in judge.gaps] == [(4, 6), (11, 11)]
    assert_quarantine(vault, ENVELOPES, judge)
    assert (outcome.summary("ENV-USDT")["bad"], outcome.summary("ENV-USDT")["duplicate"]) == (1, 1)
