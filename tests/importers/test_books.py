"""Order books: OKX's archives and tardis.dev's rows as the exchange's own records.

The rows of messages are put together again in plain Python here, and what a stage reads from the
imported lines is held against books kept in dictionaries.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.importers import framing

from . import archives as make
from .archives import utc
from .conftest import Command

START = utc("2025-08-01T00:00")
SWAP = "BTC-USDT-SWAP"


@dataclass(frozen=True)
class Message:
    """One message of a book feed: levels are (is_bid, price, size)."""

    is_snapshot: bool
    us: int
    arrival: int
    levels: tuple[tuple[bool, str, str], ...]

    def side(self, *, is_bid: bool) -> list[list[str]]:
        return [[price, size] for bid, price, size in self.levels if bid is is_bid]


def feed(count: int, seed: int = 1, snapshots: int = 40) -> list[Message]:
    """Messages of a book that stays uncrossed; a snapshot now and then."""
    rng = random.Random(seed)
    found: list[Message] = []
    us = arrival = START
    for number in range(count):
        us += rng.randrange(1, 400) * 1000
        is_snapshot = number % snapshots == 0
        depth = 12 if is_snapshot else rng.randrange(1, 4)
        levels = []
        for _ in range(depth):
            is_bid = rng.random() < 0.5
            cents = rng.randrange(9_000, 10_000) if is_bid else rng.randrange(10_001, 11_000)
            is_gone = not is_snapshot and rng.random() < 0.3
            size = "0" if is_gone else f"{rng.randrange(1, 900) / 10:.2f}"
            levels.append((is_bid, f"{cents / 100:.2f}", size))
        unique = {(bid, price): size for bid, price, size in levels}
        ordered = tuple((bid, price, size) for (bid, price), size in unique.items())
        if is_snapshot and len({bid for bid, _, _ in ordered}) < 2:
            ordered = ((True, "99.00", "1.0"), (False, "101.00", "1.0"))
        arrival = max(arrival + 1, us + rng.randrange(5_000, 9_000))
        found.append(Message(is_snapshot, us, arrival, ordered))
    return found


MESSAGES = feed(400)


# -- OKX -------------------------------------------------------------------


def okx_archive(messages: list[Message], inst_id: str = SWAP) -> bytes:
    rows = []
    for each in messages:
        row = {"instId": inst_id, "action": "snapshot" if each.is_snapshot else "update"}
        asks = [[*level, "3"] for level in each.side(is_bid=False)]
        bids = [[*level, "3"] for level in each.side(is_bid=True)]
        rows.append(make.line(row | {"ts": str(each.us // 1000), "asks": asks, "bids": bids}))
    return b"".join(rows)


def okx_name(day: str = "2025-08-01") -> str:
    return f"{SWAP}-L2orderbook-400lv-{day}.tar.gz"


def import_okx(flowvault: Command, folder: Path, content: bytes, code: int = 0) -> list[Any]:
    member = okx_name().replace(".tar.gz", ".data")
    path = make.tarred(folder, okx_name(), {member: content})
    flowvault.import_(path, code=code)
    (lines,) = flowvault.raw(f"okx/books_perps/{SWAP}").values()
    return [json.loads(each) for each in lines.splitlines()]


def test_okx_books_stand_in_envelopes_and_follow_on(flowvault: Command, folder: Path) -> None:
    content = okx_archive(MESSAGES)

    found = import_okx(flowvault, folder, content)

    last = -1
    for envelope, line in zip(found, content.splitlines(), strict=True):
        source = json.loads(line)
        (record,) = envelope["data"]
        assert envelope["arg"] == {"channel": "books", "instId": SWAP}
        assert envelope["action"] == source["action"]
        assert {key: record[key] for key in source} == source
        assert record["seqId"] // 1000 == int(source["ts"])
        assert record["prevSeqId"] == (-1 if source["action"] == "snapshot" else last)
        assert record["seqId"] > last
        last = record["seqId"]
    assert b'"px"' not in content


def test_a_lost_line_is_a_hole_in_the_sequence(flowvault: Command, folder: Path) -> None:
    """The next record does not follow on from the one before the bad line."""
    lines = okx_archive(MESSAGES).splitlines(keepends=True)
    lines[200] = lines[200][:30] + b"\n"

    found = import_okx(flowvault, folder, b"".join(lines))

    records = [each["data"][0] for each in found]
    assert len(records) == 399
    breaks = [
        now["ts"]
        for before, now in pairwise(records)
        if now["prevSeqId"] not in (-1, before["seqId"])
    ]
    assert breaks == [str(MESSAGES[201].us // 1000)]


def test_ids_that_a_line_has_are_kept(flowvault: Command, folder: Path) -> None:
    row = {"instId": SWAP, "action": "snapshot", "ts": str(START // 1000), "seqId": 7}
    line = make.line(row | {"prevSeqId": -1, "asks": [["2", "1"]], "bids": [["1", "1"]]})

    (found,) = import_okx(flowvault, folder, line)

    assert json.dumps(found["data"][0], separators=(",", ":")).encode() == line.strip()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"instId":"X"', "json"),
        (b'{"instId":"X","action":"update","ts":"1"}', "not a book"),
        (b'{"instId":"X","action":"flush","ts":"1754006400000","asks":[],"bids":[]}', "action"),
        (b'{"instId":"X","action":"update","ts":"soon","asks":[],"bids":[]}', "ts"),
        (b'{"instId":"X","action":"update","ts":"1754006400000","asks":1,"bids":[]}', "levels"),
        (b"\xff\xfe", "json"),
    ],
)
def test_bad_book_lines_are_set_aside(
    line: bytes, reason: str, flowvault: Command, folder: Path
) -> None:
    content = okx_archive(MESSAGES)

    found = import_okx(flowvault, folder, content + line + b"\n\n" + okx_archive(feed(1)))

    assert len(found) == len(MESSAGES) + 1
    place = flowvault.vault / "quarantine" / "okx" / "books_perps" / SWAP / "import"
    (row,) = map(json.loads, (place / f"{okx_name()}.jsonl").read_text("utf-8").splitlines())
    assert row["reason"] == reason
    assert row["offset"] == len(content)
    assert row["line"] == 401


def test_members_of_several_instruments(flowvault: Command, folder: Path) -> None:
    """A chain of futures comes in one archive."""
    names = ("BTC-USDT-250829", "BTC-USDT-250926")
    members = {
        f"{name}-L2orderbook-400lv-2025-08-01.data": okx_archive(MESSAGES[:50], name)
        for name in names
    }
    path = make.tarred(folder, "BTC-USDT-futureschain-L2orderbook-400lv-2025-08-01.tar.gz", members)

    rows = flowvault.import_(path)

    assert [row["instId"] for row in rows] == list(names)
    assert set(flowvault.raw("okx/books_perps")) == {f"{n}/2025-08-01.jsonl" for n in names}


# -- tardis.dev ------------------------------------------------------------


def tardis_rows(messages: list[Message], exchange: str, symbol: str) -> list[list[Any]]:
    return [
        [
            *(exchange, symbol, each.us, each.arrival, str(each.is_snapshot).lower()),
            *("bid" if is_bid else "ask", price, size),
        ]
        for each in messages
        for is_bid, price, size in each.levels
    ]


def import_tardis(
    flowvault: Command, folder: Path, rows: list[list[Any]], code: int = 0
) -> list[Any]:
    path = make.gzipped(folder, "book.csv.gz", make.table(make.TARDIS_BOOK, rows))
    flowvault.import_(path, code=code)
    (lines,) = flowvault.raw().values()
    return [json.loads(each) for each in lines.splitlines()]


def wanted_okx(messages: list[Message], symbol: str) -> Iterator[dict[str, Any]]:
    last = messages[0].arrival - 1
    for each in messages:
        book: dict[str, Any] = {"asks": each.side(is_bid=False), "bids": each.side(is_bid=True)}
        prev = -1 if each.is_snapshot else last
        book |= {"ts": make.ms(each.us), "seqId": each.arrival, "prevSeqId": prev}
        yield {
            "arg": {"channel": "books", "instId": symbol},
            "action": "snapshot" if each.is_snapshot else "update",
            "data": [book],
        }
        last = each.arrival


def wanted_binance(messages: list[Message], symbol: str, *, spot: bool) -> Iterator[dict[str, Any]]:
    last = messages[0].arrival - 1
    for each in messages:
        asks, bids = each.side(is_bid=False), each.side(is_bid=True)
        time = {"E" if spot else "T": each.us // 1000}
        if each.is_snapshot:
            yield {"lastUpdateId": each.arrival, "s": symbol, **time, "asks": asks, "bids": bids}
        else:
            row = {"e": "depthUpdate", **time, "s": symbol, "U": last + 1, "u": each.arrival}
            yield row | ({} if spot else {"pu": last}) | {"a": asks, "b": bids}
        last = each.arrival


def wanted_coinbase(messages: list[Message], symbol: str) -> Iterator[dict[str, Any]]:
    for each in messages:
        time = json.loads(make.coinbase_line(make.Trade(1, "1", "1", True, each.us), ""))["time"]
        asks, bids = each.side(is_bid=False), each.side(is_bid=True)
        if each.is_snapshot:
            row = {"type": "snapshot", "product_id": symbol, "time": time}
            yield row | {"asks": asks, "bids": bids}
        else:
            changes = [["sell", *level] for level in asks] + [["buy", *level] for level in bids]
            yield {"type": "l2update", "product_id": symbol, "time": time, "changes": changes}


@pytest.mark.parametrize("block", [1 << 20, 700, 211])
@pytest.mark.parametrize(
    ("exchange", "symbol"),
    [
        ("okex-swap", SWAP),
        ("binance-futures", "BTCUSDT"),
        ("binance", "BTCUSDT"),
        ("coinbase", "BTC-USD"),
    ],
)
def test_rows_of_a_message_are_one_record(
    exchange: str,
    symbol: str,
    block: int,
    flowvault: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the blocks are cut that the archive is read in."""
    monkeypatch.setattr(framing.blocks, "__defaults__", (0, block))
    rows = tardis_rows(MESSAGES, exchange, symbol)

    found = import_tardis(flowvault, folder, rows)

    wanted = {
        "okex-swap": wanted_okx(MESSAGES, symbol),
        "binance-futures": wanted_binance(MESSAGES, symbol, spot=False),
        "binance": wanted_binance(MESSAGES, symbol, spot=True),
        "coinbase": wanted_coinbase(MESSAGES, symbol),
    }[exchange]
    assert found == list(wanted)


def test_a_snapshot_in_several_messages_is_one(flowvault: Command, folder: Path) -> None:
    first = MESSAGES[0]
    halves = [Message(True, first.us, first.arrival + at, first.levels[at::2]) for at in (0, 1)]

    found = import_tardis(
        flowvault, folder, tardis_rows([*halves, *MESSAGES[1:5]], "okex-swap", SWAP)
    )

    assert [each["action"] for each in found] == ["snapshot", *["update"] * 4]
    levels = {tuple(level) for side in ("asks", "bids") for level in found[0]["data"][0][side]}
    assert levels == {level[1:] for level in first.levels}


@pytest.mark.parametrize("block", [1 << 20, 300])
def test_a_message_with_a_bad_row_is_left_out_whole(
    block: int, flowvault: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is a hole: what comes next follows on from it, not from what came before."""
    monkeypatch.setattr(framing.blocks, "__defaults__", (0, block))
    messages = [Message(each.is_snapshot, each.us, each.arrival, each.levels) for each in MESSAGES]
    victim = next(i for i in range(50, 400) if len(messages[i].levels) == 3)
    rows = tardis_rows(messages, "binance-futures", "BTCUSDT")
    start = sum(len(each.levels) for each in messages[:victim])
    rows[start + 1][6] = "-5"

    found = import_tardis(flowvault, folder, rows)

    assert len(found) == 399
    gone = messages[victim].arrival
    assert not any(each.get("u") == gone for each in found)
    assert [each["u"] for each in found if each.get("pu") == gone] == [messages[victim + 1].arrival]


def test_messages_of_the_same_microsecond_keep_their_order(
    flowvault: Command, folder: Path
) -> None:
    """A snapshot and an update that came together get different ids."""
    snapshot = MESSAGES[0]
    update = Message(False, snapshot.us, snapshot.arrival, ((True, "99.50", "1"),))

    first, second = import_tardis(
        flowvault, folder, tardis_rows([snapshot, update], "binance-futures", "BTCUSDT")
    )

    assert first["lastUpdateId"] == snapshot.arrival
    assert (second["pu"], second["u"]) == (snapshot.arrival, snapshot.arrival + 1)


def test_books_of_other_exchanges_are_refused(flowvault: Command, folder: Path) -> None:
    path = make.gzipped(
        folder, "b.csv.gz", make.table(make.TARDIS_BOOK, tardis_rows(MESSAGES, "kraken", "X"))
    )

    outcome = flowvault("import", path)

    assert outcome.code == 2
    assert "snapshots" in outcome.err


# -- what a stage reads ----------------------------------------------------


def kept_book(messages: list[Message]) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
    """Bids and asks after all messages, kept in dictionaries."""
    sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    for each in messages:
        if each.is_snapshot:
            for side in sides:
                side.clear()
        for is_bid, price, size in each.levels:
            side = sides[0] if is_bid else sides[1]
            side[Decimal(price)] = Decimal(size)
            if not Decimal(size):
                del side[Decimal(price)]
    return sides


@pytest.mark.parametrize("source", ["okx", "tardis okx", "tardis binance", "tardis coinbase"])
def test_the_stage_rebuilds_the_book(source: str, flowvault: Command, folder: Path) -> None:
    """The last event's best levels are those of the dictionaries."""
    where = {
        "okx": ("okx", "perps", SWAP),
        "tardis okx": ("okx", "perps", SWAP),
        "tardis binance": ("binance", "perps", "BTCUSDT"),
        "tardis coinbase": ("coinbase", "spot", "BTC-USD"),
    }[source]
    if source == "okx":
        import_okx(flowvault, folder, okx_archive(MESSAGES))
    else:
        exchange = {"okx": "okex-swap", "binance": "binance-futures", "coinbase": "coinbase"}
        import_tardis(flowvault, folder, tardis_rows(MESSAGES, exchange[where[0]], where[2]))

    outcome = flowvault(
        *("run", "-i", where[2], "--exchange", where[0], "--market", where[1]),
        *("--stage", "book", "--no-upstream", "--json"),
    )

    assert outcome.code == 0, outcome.err
    (row,) = outcome.rows
    assert (row["rows_in"], row["bad"], row["duplicate"]) == (400, 0, 0)
    place = flowvault.vault / "derived" / "book_events" / where[0] / where[1] / where[2]
    events = pl.concat([pl.read_parquet(file) for file in sorted(place.glob("*.parquet"))])
    bids, asks = kept_book(MESSAGES)
    last = events.row(-1, named=True)
    assert Decimal(str(last["bid"])) == max(bids)
    assert Decimal(str(last["ask"])) == min(asks)
    assert not (flowvault.vault / "derived" / "gaps").exists() or not any(
        (flowvault.vault / "derived" / "gaps").rglob("book_gaps.jsonl")
    )
