"""The book layers against their oracle: real captures, a simulated market, invented feeds.

Everything is read back from the files below derived/ and compared row by row: names, order,
texts, whole numbers and nulls exactly, floats to a billionth of their value.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.sim import write_market
from tests.oracle.book_layers import Inputs, instrument_at, layers_of, read_inputs
from tests.oracle.books import feed_folder
from tests.oracle.layers import Row
from tests.oracle.raw import Instrument, day_of
from tests.oracle.test_books_oracle import START, depth, line, okx_book, rest, whole

from .conftest import MakeVault, Outcome, Product
from .vaults import assert_raw, derived_folder, read_jsonl

PRECISION, NOISE = 1e-9, 1e-12
SHOWN = 5
DAY = "2024-03-05"
Where = tuple[str, str, str]
"""Exchange, market, instrument."""

PARQUET = ("book", "book_events", "ladder_1m", "bbo", "quote")
JSONL = {
    "flow_1m": "flow",
    "micro_1m": "micro",
    "costs_1m": "costs",
    "buckets_1m": "buckets",
    "orderflow_1m": "orderflow",
}
LAYERS = (*PARQUET, *JSONL, "book_gaps")
STAGES = ("quote", *JSONL.values())
"""The last stages that these layers are made by."""

every_layer = pytest.mark.parametrize("layer", LAYERS)


def label(where: Where) -> str:
    """An instrument's test id."""
    return " ".join(where)


# -- reading and comparing --------------------------------------------------------------


def read_layer(vault: Path, layer: str, instrument: Instrument) -> list[Row]:
    """The rows of a layer as the oracle has them."""
    if layer in JSONL:
        return read_jsonl(derived_folder(vault, JSONL[layer], instrument) / f"{layer}.jsonl")
    if layer == "book_gaps":
        rows = read_jsonl(derived_folder(vault, "gaps", instrument) / "book_gaps.jsonl")
        return [{name: row[name] for name in ("from", "to", "ts")} for row in rows]
    parts = sorted(derived_folder(vault, layer, instrument).glob("*.parquet"))
    if not parts:
        return []
    table = pl.concat([pl.read_parquet(part) for part in parts])
    assert table.schema["ts"] == pl.Datetime("us", "UTC"), f"{layer}: {table.schema['ts']}"
    return [settled(layer, row, instrument) for row in table.to_dicts()]


def settled(layer: str, row: Row, instrument: Instrument) -> Row:
    """One spelling of what may be spelt in two ways."""
    row = dict(row)
    if layer == "book_events":  # without a book: null or false
        row["crossed"] = bool(row["crossed"])
    if layer == "bbo":
        for name in ("kind", "reached"):  # seen in the source and the times of the quotes
            row.pop(name, None)
        if instrument.exchange != "binance":  # ids that nothing is made of
            row["id"] = None
    if layer == "ladder_1m":
        for name in ("bid_since", "ask_since"):
            row[name] = [microseconds(value) for value in row[name]]
    return row


def microseconds(value: Any) -> Any:
    """A time as a number."""
    if not isinstance(value, datetime):
        return value
    since = value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def same(found: Any, wanted: Any) -> bool:
    """Equal, where floats may differ by a billionth of their value."""
    if isinstance(wanted, float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return is_number and math.isclose(found, wanted, rel_tol=PRECISION, abs_tol=NOISE)
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(same(f, w) for f, w in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and list(found) == list(wanted)
            and all(same(found[k], wanted[k]) for k in wanted)
        )
    return type(found) is type(wanted) and bool(found == wanted)


def differences(found: list[Row], wanted: list[Row]) -> list[str]:
    """What is not the same: how many rows a column, and the first few of them."""
    columns: Counter[str] = Counter()
    shown = []
    if len(found) != len(wanted):
        shown.append(f"{len(found)} rows for {len(wanted)}")
    for i, (left, right) in enumerate(zip(found, wanted, strict=False)):
        if list(left) != list(right):
            return [*shown, f"keys {list(left)} for {list(right)}"]
        wrong = [k for k in right if not same(left[k], right[k])]
        columns.update(wrong)
        if wanted and wrong and len(shown) < SHOWN:
            when = right.get("timestamp_utc", right.get("ts"))
            told = (f"{k} {left[k]!r:.300} for {right[k]!r:.300}" for k in wrong[:4])
            shown.append(f"row {i} ({when}): " + "; ".join(told))
    return [str(dict(columns)), *shown] if columns else shown


SHOWS_ITS_TICK = 1000
"""An instrument without a tick in the table shows it in as many trades."""


@dataclass
class Ran:
    """A vault after a run, and what the oracle makes of its raw files."""

    vault: Path
    outcome: Outcome
    inputs: Callable[[Where], Inputs] = field(init=False)
    layers: Callable[[Where], dict[str, list[Row]]] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = cache(lambda where: read_inputs(self.vault, *where))
        self.layers = cache(lambda where: layers_of(self.inputs(where)))

    def check(self, where: Where, layer: str) -> list[Row]:
        """A layer is what the oracle makes of the raw files; the oracle's rows."""
        instrument, tick = instrument_at(self.vault, *where)
        expected = self.layers(where)
        found = read_layer(self.vault, layer, instrument)
        if layer == "costs_1m" and layer not in expected:
            return []  # without quotes or without trades a minute costs nothing one could know
        wanted = expected.get(layer, [])
        trades = read_layer(self.vault, "trades", instrument)
        if layer == "orderflow_1m" and tick is None and 0 < len(trades) < SHOWS_ITS_TICK:
            wanted = []  # waits for the profile, which waits to see the tick
        if layer in PARQUET:
            wanted = [settled(layer, row, instrument) for row in wanted]
        told = differences(found, wanted)
        assert not told, f"{layer} of {label(where)}:\n" + "\n".join(told)
        return wanted

    def check_refused(self, where: Where, kind: str) -> list[str | None]:
        """Every bad line of a kind is in quarantine once; the reasons the oracle insists on."""
        inputs = self.inputs(where)
        reader = inputs.replay if kind == "books" else inputs.feed
        refused = [] if reader is None else reader.feed.refused
        wanted = sorted(refused, key=lambda r: (r.line.file.name, r.line.offset))
        folder = self.vault / "quarantine" / where[0] / f"{kind}_{where[1]}" / where[2]
        found = [(f.name, row) for f in sorted(folder.glob("*.jsonl")) for row in read_jsonl(f)]
        found.sort(key=lambda item: (item[0], item[1]["offset"]))
        places = [(name, row["offset"]) for name, row in found]
        assert places == [(f"{day_of(r.line.file)}.jsonl", r.line.offset) for r in wanted]
        for (_, row), line_refused in zip(found, wanted, strict=True):
            assert list(row) == ["source", "offset", "reason", "raw"]
            assert row["source"].endswith(line_refused.line.file.name)
            if line_refused.reason is None:
                assert row["reason"] not in ("", "future", "torn", "late"), row
            else:
                assert row["reason"] == line_refused.reason, row
            assert_raw(row["raw"], line_refused.line.data)
        return [r.reason for r in wanted]


def run(product: Product, vault: Path, *codes: int) -> Ran:
    """Bring the book layers of every instrument up to date."""
    # the oracle's ladders are whole
    (vault / "flowvault.toml").write_text("[book]\nladder_bps = 1e15\n", encoding="utf-8")
    stages = [word for stage in STAGES for word in ("--stage", stage)]
    outcome = product(vault, "run", "--all", *stages, "--json")
    assert outcome.code in codes, f"exit {outcome.code}\n{outcome.text}"
    return Ran(vault, outcome)


# -- real captures ------------------------------------------------------------------------

CAPTURED: list[Where] = [
    ("binance", "perps", "BTCUSDT"),
    ("binance", "perps", "ETHUSDT"),
    ("binance", "spot", "BTCUSDT"),
    ("binance", "spot", "ETHUSDT"),
    ("okx", "perps", "BTC-USDT-SWAP"),
    ("okx", "perps", "ETH-USDT-SWAP"),
    ("okx", "perps", "UNI-USD-SWAP"),
    ("okx", "spot", "BTC-USDT"),
    ("coinbase", "spot", "SKL-USD"),
    ("coinbase", "spot", "SKL-BTC"),
    ("coinbase", "spot", "DASH-BTC"),
]
TWINS = (CAPTURED[1], CAPTURED[3], CAPTURED[5])
"""Captures of another instrument in the format of the one before: in the slow suite alone."""
SLICED = [where for where in CAPTURED if where not in TWINS]
KINDS = ("trades", "books", "quotes")
CUT_DAY = "2024-08-08"
CUT_MS = 1_723_161_365_000
"""2024-08-08 23:56:05 UTC: two whole minutes, and a whole one of costs, in most captures."""
PENDING = 3

every_capture = pytest.mark.parametrize("where", SLICED, ids=label)


def copy_slice(captures: Path, vault: Path, where: Where) -> None:
    """The lines of a capture up to the cut; short captures as they are."""
    instrument = Instrument(*where)
    last_id = 0
    for kind in KINDS:
        folder = feed_folder(captures, kind, instrument)
        if not folder.is_dir():
            continue
        target = feed_folder(vault, kind, instrument)
        file = folder / f"{CUT_DAY}.jsonl.gz"
        if not file.exists():
            shutil.copytree(folder, target)
            continue
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        if kind == "quotes" and where[:2] == ("binance", "spot"):
            kept = [data for data in lines if json.loads(data)["data"]["u"] <= last_id + PENDING]
        else:
            kept = list(before_the_cut(lines))
        if kind == "books":
            last_id = max(record_of(data).get("u", 0) for data in kept)
        target.mkdir(parents=True)
        (target / f"{CUT_DAY}.jsonl").write_bytes(b"".join(kept))


def record_of(data: bytes) -> Row:
    """The record in a line, out of its envelope."""
    document = json.loads(data)
    inner = document.get("data", document)
    found: Row = inner[0] if isinstance(inner, list) else inner
    return found


def before_the_cut(lines: list[bytes]) -> Iterator[bytes]:
    """Lines up to the first that is stamped later; a snapshot without a time stays."""
    for data in lines:
        row = record_of(data)
        stamp: Any = row.get("T", row.get("E", row.get("ts", 0)))
        if "timestamp_utc" in row:
            stamp = datetime.fromisoformat(row["timestamp_utc"]).timestamp() * 1000
        if float(stamp) >= CUT_MS:
            return
        yield data


@pytest.fixture(scope="module")
def sliced(captures: Path, new_vault: MakeVault, product: Product) -> Ran:
    """Two minutes of each long capture and all of the short ones."""
    vault = new_vault("sliced")
    for where in SLICED:
        copy_slice(captures, vault, where)
    return run(product, vault, 0)


@every_layer
@every_capture
def test_captures(sliced: Ran, where: Where, layer: str) -> None:
    """Real records."""
    rows = sliced.check(where, layer)
    if where[0] == "binance" and layer not in ("book_gaps", "costs_1m"):
        assert rows


@every_capture
def test_captures_are_clean(sliced: Ran, where: Where) -> None:
    """Nothing refused, nothing doubled, no gap, never crossed."""
    for kind in ("books", "quotes"):
        assert sliced.check_refused(where, kind) == []
    replay = sliced.inputs(where).replay
    assert replay is not None
    assert (replay.duplicates, replay.crossed, replay.locked, replay.gaps) == (0, 0, 0, [])


def assert_book_ticker(vault: Path, where: Where) -> int:
    """The book's best levels are what `bookTicker` says at the same id; how many there were."""
    instrument = Instrument(*where)
    events = read_layer(vault, "book_events", instrument)
    states = ("bid", "bid_size", "ask", "ask_size")
    first = next(i for i, row in enumerate(events) if row["bid"] is not None)
    tops = {r["last_id"]: [r[name] for name in states] for r in events if r["bid"] is not None}
    assert [r for r in events[first:] if r["crossed"]] == []
    quotes = {r["id"]: [r[name] for name in states] for r in read_layer(vault, "bbo", instrument)}
    both = tops.keys() & quotes.keys()
    assert [(i, tops[i], quotes[i]) for i in sorted(both) if tops[i] != quotes[i]] == []
    print(f"{label(where)}: {len(both)} ids in book and bookTicker, all agree")  # noqa: T201
    return len(both)


@pytest.mark.parametrize("where", [CAPTURED[0], CAPTURED[2]], ids=label)
def test_book_agrees_with_book_ticker(sliced: Ran, where: Where) -> None:
    """At every update id that both feeds have, price and size of both sides."""
    assert assert_book_ticker(sliced.vault, where) > 100


@pytest.mark.slow
def test_whole_captures(captures: Path, new_vault: MakeVault, product: Product) -> None:
    """Everything there is, the three weeks between two captures included."""
    vault = new_vault("whole")
    for where in CAPTURED:
        for kind in KINDS:
            folder = feed_folder(captures, kind, Instrument(*where))
            if folder.is_dir():
                shutil.copytree(folder, feed_folder(vault, kind, Instrument(*where)))
    ran = run(product, vault, 0)
    for where in CAPTURED:
        for layer in LAYERS:
            ran.check(where, layer)
    for where in CAPTURED:
        for kind in ("books", "quotes"):
            assert ran.check_refused(where, kind) == []
    for where in CAPTURED[:4]:
        assert assert_book_ticker(vault, where) > 1000
    for where in CAPTURED[:2]:
        assert len(ran.layers(where)["book_gaps"]) == 1


# -- a simulated market -----------------------------------------------------------------------

SIMULATED: list[Where] = [("sim", "perps", "BTC-USDT-SWAP"), ("sim", "perps", "ETH-USDT-SWAP")]


@pytest.fixture(scope="module")
def simulated(new_vault: MakeVault, product: Product) -> Ran:
    """Half an hour with quotes, a quarter of one without."""
    vault = new_vault("simulated")
    write_market(vault, hours=0.5)
    write_market(vault, inst_id="ETH-USDT-SWAP", hours=0.25, seed=8, quotes=False)
    return run(product, vault, 0)


@every_layer
@pytest.mark.parametrize("where", SIMULATED, ids=label)
def test_simulated(simulated: Ran, where: Where, layer: str) -> None:
    """Quotes from their own feed, and from the book."""
    rows = simulated.check(where, layer)
    if layer in JSONL:
        assert len(rows) > 10
    if layer == "quote":
        assert {row["source"] for row in rows} == {"quotes" if where[2][:3] == "BTC" else "book"}


# -- invented feeds: a book that walks -------------------------------------------------

Sizes = dict[int, str]
"""Size by half units of price, "0" for none."""


@dataclass
class Market:
    """A true book with its sequence ids and all states a snapshot may be taken of."""

    rng: random.Random
    base: int = 100_000
    second: float = 0.0
    seq: int = 1000
    bids: Sizes = field(default_factory=dict)
    asks: Sizes = field(default_factory=dict)
    mid: int = 0
    odd: int = 0

    def __post_init__(self) -> None:
        self.mid = self.base
        for i in range(1, 31):
            self.bids[self.mid - 3 * i] = self.size()
            self.asks[self.mid + 3 * i] = self.size()

    def size(self) -> str:
        """Mostly small, at times a wall."""
        if self.rng.random() < 0.03:
            return f"{self.rng.randrange(20, 90)}.5"
        return f"{self.rng.randrange(1, 3000) / 1000:.3f}"

    def step(self) -> tuple[Sizes, Sizes, int]:
        """Move on: the changes of both sides and the id before them."""
        rng = self.rng
        before, self.seq = self.seq, self.seq + rng.randrange(1, 6)
        self.second += rng.choice((0, 0.04, 0.3, 0.9, 2.1, 4.7))
        if rng.random() < 0.01:
            self.second += rng.choice((58.9, 61.0, 75.3, 140.0))
        self.mid += rng.choice((-3, -1, 0, 0, 1, 3))
        bids: Sizes = dict.fromkeys((p for p in self.bids if p >= self.mid), "0")
        asks: Sizes = dict.fromkeys((p for p in self.asks if p <= self.mid), "0")
        for _ in range(rng.randrange(4)):
            bids[self.mid - rng.randrange(1, 120)] = rng.choice((self.size(), self.size(), "0.000"))
            asks[self.mid + rng.randrange(1, 120)] = rng.choice((self.size(), self.size(), "0.000"))
        self.disturb(bids, asks)
        for book, changes in ((self.bids, bids), (self.asks, asks)):
            for price, size in changes.items():
                if float(size):
                    book[price] = size
                else:
                    book.pop(price, None)
        return bids, asks, before

    def disturb(self, bids: Sizes, asks: Sizes) -> None:
        """At times a crossed or locked book, at times one with a side gone; not for long."""
        kind = self.rng.random()
        if kind < 0.005:
            asks[self.mid - self.rng.randrange(1, 4)] = self.size()
        elif kind < 0.01:
            bids[self.mid + self.rng.randrange(4, 9)] = self.size()
        elif kind < 0.015:
            bids |= dict.fromkeys({*self.bids, *bids}, "0")
            self.odd = 2
        elif self.odd:
            self.odd -= 1
            if not self.odd:
                bids |= {self.mid - 3 * i: self.size() for i in range(1, 20)}

    def price(self, units: int) -> str:
        """The text of a price."""
        return f"{units / 2:.1f}"

    def texts(self, sizes: Sizes) -> list[tuple[str, str]]:
        """Levels as an exchange would write them, in no order."""
        return [(self.price(units), size) for units, size in sizes.items()]

    def best(self) -> tuple[str, str, str, str] | None:
        """The true quote."""
        if not self.bids or not self.asks:
            return None
        bid, ask = max(self.bids), min(self.asks)
        return self.price(bid), self.bids[bid], self.price(ask), self.asks[ask]


@dataclass
class Tape:
    """The raw lines of one instrument as they are made."""

    where: Where
    seed: int
    steps: int = 500
    has_ids: bool = True
    has_times: bool = True
    books: list[bytes] = field(default_factory=list)
    quotes: list[bytes] = field(default_factory=list)
    trades: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.market = Market(self.rng)
        self.instrument = Instrument(*self.where)
        self.trade_id = 5000

    def made(self) -> Tape:
        """All lines."""
        snapshot = self.snapshot()
        if self.where[0] != "binance":
            self.books.append(snapshot())
        waiting: list[tuple[int, Callable[[], bytes]]] = [(2, self.snapshot())]
        for number in range(self.steps):
            is_lost = self.update()
            self.quote()
            self.trade()
            if is_lost or self.rng.random() < 0.02:
                waiting.append((number + self.rng.randrange(1, 5), self.snapshot()))
            while waiting and waiting[0][0] <= number:
                self.books.append(waiting.pop(0)[1]())
        for _ in range(4):  # until the last minute of costs is over
            self.market.second += 40
            self.update(is_clean=True)
            self.quote(is_certain=True)
            self.trade(is_certain=True)
        return self

    # -- books

    def update(self, *, is_clean: bool = False) -> bool:
        """One update and the dirt around it; whether something was lost."""
        bids, asks, before = self.market.step()
        rng, at = self.rng, self.market.second
        data = self.update_line(bids, asks, before, at)
        luck = 1.0 if is_clean else rng.random()
        if luck < 0.012 and self.has_ids:
            return True
        if luck < 0.022 and self.has_times and self.has_ids:  # a wrong clock, then the sequence
            self.books.append(self.update_line(bids, asks, before, at + 3600))
            return True
        if luck < 0.06:
            data = self.update_line(bids, asks, before, max(0, at - rng.randrange(1, 9)))
        self.books.append(data)
        if 0.06 <= luck < 0.09 and self.has_ids:
            self.books.append(data)
        elif 0.09 <= luck < 0.12:
            self.books.append(rng.choice(garbage(data)))
        elif 0.12 <= luck < 0.14 and self.where[0] == "okx":
            last = self.market.seq if self.has_ids else None
            self.books.append(okx_book(self.instrument, "update", at, last, last))
        elif 0.14 <= luck < 0.145 and self.has_times:
            self.market.second += 372  # longer than a clock may jump without a witness
        return False

    def update_line(self, bids: Sizes, asks: Sizes, before: int, second: float) -> bytes:
        """In the format of the exchange."""
        market, where = self.market, self.where
        levels = (market.texts(bids), market.texts(asks))
        if where[0] == "okx":
            seq, prev = (market.seq, before) if self.has_ids else (None, None)
            return okx_book(self.instrument, "update", second, seq, prev, *levels)
        if where[0] == "binance":
            prev = before if where[1] == "perps" else None
            return depth(self.instrument, second, before + 1, market.seq, prev, *levels)
        if where[0] == "coinbase":
            changes = [["buy", *level] for level in levels[0]]
            changes += [["sell", *level] for level in levels[1]]
            row = {"type": "l2update", "product_id": where[2], "changes": changes}
            return line(row | {"time": iso(second)})
        return whole(second, market.texts(market.bids), market.texts(market.asks))

    def snapshot(self) -> Callable[[], bytes]:
        """The state of now, to be written down now or later; never within a long silence."""
        market, where = self.market, self.where
        last, second = market.seq, market.second
        depth_shown = self.rng.randrange(12, 40)
        bids = market.texts({p: market.bids[p] for p in sorted(market.bids)[-depth_shown:]})
        asks = market.texts({p: market.asks[p] for p in sorted(market.asks)[:depth_shown]})

        def written() -> bytes:
            if where[0] == "okx":
                seq, prev = (last, -1) if self.has_ids else (None, None)
                return okx_book(self.instrument, "snapshot", second, seq, prev, bids, asks)
            if where[0] == "binance":
                return rest(last, bids, asks, second if where[1] == "perps" else None)
            if where[0] == "coinbase":
                row = {"type": "snapshot", "product_id": where[2]}
                return line(row | {"bids": bids, "asks": asks})
            return whole(second, bids, asks)

        return written

    # -- quotes and trades

    def quote(self, *, is_certain: bool = False) -> None:
        """At times the top of the book, with an id inside the last update's."""
        best, rng = self.market.best(), self.rng
        if best is None or (rng.random() < 0.3 and not is_certain):
            return
        second, last = self.market.second, self.market.seq - rng.randrange(3)
        bid, bid_size, ask, ask_size = best
        row: Row
        if self.where[0] == "binance":
            row = {"u": last, "s": self.where[2], "b": bid, "B": bid_size}
            row |= {"a": ask, "A": ask_size}
            if self.where[1] == "perps":
                row |= {"e": "bookTicker", "T": ms(second), "E": ms(second) + 3}
        elif self.where[0] == "okx":
            row = self.okx_ticker(best, second)
        elif self.where[0] == "coinbase":
            row = {"type": "ticker", "product_id": self.where[2], "time": iso(second)}
            row |= {"best_bid": bid, "best_ask": ask}
            if self.seed % 2:
                row |= {"best_bid_size": bid_size, "best_ask_size": ask_size}
        else:
            row = {"ts": ms(second), "bid": bid, "bid_size": bid_size}
            row |= {"ask": ask, "ask_size": ask_size}
        data = line(row)
        self.quotes.append(data)
        if rng.random() < 0.02 and not is_certain:
            self.quotes.append(rng.choice(garbage(data)))

    def okx_ticker(self, best: tuple[str, str, str, str], second: float) -> Row:
        """A frame of `tickers` or `bbo-tbt`."""
        bid, bid_size, ask, ask_size = best
        if self.seed % 2:
            entry: Row = {"bidPx": bid, "bidSz": bid_size, "askPx": ask, "askSz": ask_size}
        else:
            entry = {"bids": [[bid, bid_size, "0", "1"]], "asks": [[ask, ask_size, "0", "1"]]}
        channel = "tickers" if self.seed % 2 else "bbo-tbt"
        arg = {"channel": channel, "instId": self.where[2]}
        return {"arg": arg, "data": [entry | {"ts": str(ms(second))}]}

    def trade(self, *, is_certain: bool = False) -> None:
        """At times a trade near the mid, one in fifty of them large."""
        rng = self.rng
        if rng.random() < 0.4 and not is_certain:
            return
        self.trade_id += 1
        units = self.market.mid + rng.randrange(-3, 4)
        size = "2.5" if rng.random() < 0.02 else f"{rng.randrange(1, 400) / 1000:.3f}"
        side = rng.choice(("buy", "sell"))
        price, at = self.market.price(units), ms(self.market.second)
        row: Row
        if self.where[0] == "binance":
            row = {"e": "trade", "E": at, "T": at, "s": self.where[2], "t": self.trade_id}
            row |= {"p": price, "q": size, "X": "MARKET", "m": side == "sell"}
        elif self.where[0] == "okx":
            row = {"instId": self.where[2], "tradeId": str(self.trade_id), "px": price}
            row |= {"sz": size, "side": side, "ts": str(at)}
        elif self.where[0] == "coinbase":
            row = {"type": "match", "trade_id": self.trade_id, "side": side, "size": size}
            row |= {"price": price, "product_id": self.where[2], "time": iso(self.market.second)}
        else:
            row = {"ts": at, "price": price, "size": size, "side": side, "id": self.trade_id}
        self.trades.append(line(row))

    def write(self, vault: Path, *kinds: str) -> None:
        """Write some kinds of its lines into a vault."""
        for kind in kinds:
            write_lines(vault, kind, self.where, getattr(self, kind))


def ms(second: float) -> int:
    """Milliseconds since 1970."""
    return START + round(second * 1000)


def iso(second: float) -> str:
    """ISO 8601 with microseconds."""
    at = datetime.fromtimestamp(ms(second) / 1000, tz=UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def garbage(data: bytes) -> list[bytes]:
    """Lines that are no records."""
    return [
        data[: len(data) // 2],
        data + data,
        data + b"\xff\xfe",
        b"[]",
        b"null",
        b'{"event":"subscribe"}',
        data.replace(b'"', b"", 3),
        data.replace(b":", b":!", 1),
    ]


def write_lines(vault: Path, kind: str, where: Where, lines: list[bytes]) -> None:
    """Write one day file."""
    folder = feed_folder(vault, kind, Instrument(*where))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{DAY}.jsonl").write_bytes(b"".join(data + b"\n" for data in lines))


INVENTED: dict[str, tuple[Tape, tuple[str, ...]]] = {
    "okx-all": (Tape(("okx", "spot", "AAA-USDT"), 2), KINDS),
    "okx-book": (Tape(("okx", "spot", "BBB-USDT"), 4, steps=900), ("trades", "books")),
    "okx-tickers": (Tape(("okx", "spot", "CCC-USDT"), 5), ("trades", "quotes")),
    "okx-book-over-tickers": (Tape(("okx", "spot", "DDD-USDT"), 7, has_ids=False), KINDS),
    "okx-inverse": (Tape(("okx", "perps", "BTC-USD-SWAP"), 8), KINDS),
    "perps-quotes": (Tape(("binance", "perps", "AAAUSDT"), 1), KINDS),
    "perps-book": (Tape(("binance", "perps", "BBBUSDT"), 2, steps=900), ("trades", "books")),
    "perps-no-trades": (Tape(("binance", "perps", "CCCUSDT"), 3), ("books", "quotes")),
    "perps-quotes-only": (Tape(("binance", "perps", "DDDUSDT"), 4), ("quotes",)),
    "spot": (Tape(("binance", "spot", "AAAUSDT"), 3, has_times=False), KINDS),
    "spot-book": (Tape(("binance", "spot", "BBBUSDT"), 5, has_times=False), ("trades", "books")),
    "spot-no-book": (Tape(("binance", "spot", "CCCUSDT"), 6), ("trades", "quotes")),
    "coinbase": (Tape(("coinbase", "spot", "AAA-USD"), 1, has_ids=False, has_times=False), KINDS),
    "coinbase-tickers": (Tape(("coinbase", "spot", "BBB-USD"), 3), ("trades", "quotes")),
    "coinbase-bare-tickers": (Tape(("coinbase", "spot", "CCC-USD"), 4), ("quotes",)),
    "plain": (Tape(("acme", "spot", "AAA"), 1, has_ids=False), KINDS),
    "plain-books-only": (Tape(("acme", "spot", "BBB"), 2, has_ids=False), ("books",)),
    "plain-quotes-only": (Tape(("acme", "spot", "CCC"), 3), ("quotes",)),
    "plain-trades-only": (Tape(("acme", "spot", "DDD"), 4), ("trades",)),
}

every_tape = pytest.mark.parametrize("name", INVENTED)


@pytest.fixture(scope="module")
def invented(new_vault: MakeVault, product: Product) -> Ran:
    """All of them in one vault; more than one line in a hundred is bad in some."""
    vault = new_vault("invented")
    for tape, kinds in INVENTED.values():
        if not tape.trades:
            tape.made()
        tape.write(vault, *kinds)
    return run(product, vault, 0, 65)


@every_layer
@every_tape
def test_invented(invented: Ran, name: str, layer: str) -> None:
    """Gaps, repetitions, stale and newer snapshots, wrong clocks, silences, one-sided books."""
    invented.check(INVENTED[name][0].where, layer)


@every_tape
def test_invented_dirt(invented: Ran, name: str) -> None:
    """Bad lines are in quarantine, each once; the book stage counts what it dropped."""
    where = INVENTED[name][0].where
    for kind in ("books", "quotes"):
        invented.check_refused(where, kind)
    replay = invented.inputs(where).replay
    if replay is None:
        return
    rows = [
        row
        for row in invented.outcome.summaries
        if (row["stage"], row["exchange"], row["instId"]) == ("book", where[0], where[2])
        and row["market"].startswith(where[1][:4])
    ]
    assert [row["duplicate"] for row in rows] == [replay.duplicates]
    assert [row["bad"] for row in rows] == [replay.feed.bad]


def test_the_tapes_hold_what_they_are_for(invented: Ran) -> None:
    """Each kind of trouble is somewhere; no minute ends on a one-sided book."""
    found: Counter[str] = Counter()
    for tape, _ in INVENTED.values():
        inputs, layers = invented.inputs(tape.where), invented.layers(tape.where)
        found[f"source {inputs.stream and inputs.stream.source}"] += 1
        found["silences"] += sum(row["ofi"] is None for row in layers.get("flow_1m", []))
        found["costs"] += sum(row["trades"] for row in layers.get("costs_1m", []))
        found["whales"] += sum(row["whale_buy_trades"] or 0 for row in layers.get("flow_1m", []))
        found |= Counter({r["direction"]: 1 for r in layers.get("orderflow_1m", [])})
        replay = inputs.replay
        if replay is None:
            continue
        found["gaps"] += len(replay.gaps)
        found["duplicates"] += replay.duplicates
        found["heartbeats"] += replay.heartbeats
        found["crossed"] += replay.crossed + replay.locked
        found["one-sided"] += sum(e.tops is not None and e.touch is None for e in replay.events)
        found["lost"] += sum(e.tops is None for e in replay.events)
        found["future"] += sum(r.reason == "future" for r in replay.feed.refused)
        found["bad"] += sum(r.reason is None for r in replay.feed.refused)
        found["walls"] += sum(row["bid_wall"] > 0 for row in layers["buckets_1m"])
        found["young walls"] += sum(row["bid_young_wall"] > 0 for row in layers["buckets_1m"])
        assert all(row["bid_px"] and row["ask_px"] for row in replay.ladders), tape.where
    wanted = (
        *("source quotes", "source book", "source tickers", "source None", "silences", "costs"),
        *("whales", "LONG", "SHORT", "HOLD", "gaps", "duplicates", "heartbeats", "crossed"),
        *("one-sided", "lost", "future", "bad", "walls", "young walls"),
    )
    assert [name for name in wanted if not found[name]] == [], found


# -- invented feeds: short ones, worked out for one question -------------------------

BIDS = [("100", "1"), ("99", "2")]
ASKS = [("101", "1"), ("102", "2")]


def spot_ticker(inst_id: str, last: int, bid: str) -> bytes:
    """A `bookTicker` without a time."""
    return line({"u": last, "s": inst_id, "b": bid, "B": "1", "a": "200", "A": "2"})


def spot_timing() -> tuple[Where, dict[str, list[bytes]]]:
    """Quotes are timed by updates only: not by snapshots; also by heartbeats and old updates."""
    where = ("binance", "spot", "TIMEUSDT")
    it = Instrument(*where)
    books = [
        depth(it, 1, 1, 5, None, [("99", "1")]),
        depth(it, 2, 6, 9, None, [("98", "1")]),
        rest(20, BIDS, ASKS),
        depth(it, 3, 10, 14, None, [("97", "1")]),  # old for the snapshot, first for its quotes
        depth(it, 5, 15, 22, None, [("97", "2")]),
        depth(it, 6, 23, 25),  # a heartbeat
        depth(it, 8, 26, 30, None, [("97", "3")]),
        depth(it, 200, 31, 40, None, [("97", "4")]),
    ]
    ids = (3, 5, 7, 6, 12, 20, 24, 26, 3, 35, 41)
    quotes = [spot_ticker(where[2], number, str(100 + i)) for i, number in enumerate(ids)]
    return where, {"books": books, "quotes": quotes}


def one_sided_end() -> tuple[Where, dict[str, list[bytes]]]:
    """The minute ends without a bid; then without anything; then whole again."""
    where = ("okx", "spot", "SIDE-USDT")
    it = Instrument(*where)
    gone = [("100", "0"), ("99", "0")]
    books = [
        okx_book(it, "snapshot", 1, 10, -1, BIDS, ASKS),
        okx_book(it, "update", 20, 11, 10, gone),
        okx_book(it, "update", 70, 12, 11, [], [("101", "0"), ("102", "0")]),
        okx_book(it, "update", 90, 13, 12, BIDS, ASKS),
        okx_book(it, "update", 400, 14, 13, [("100", "5")]),
        okx_book(it, "update", 401, 15, 14, [("100", "6")]),
    ]
    return where, {"books": books}


def sequences() -> tuple[Where, dict[str, list[bytes]]]:
    """Every case of the sequence of one OKX book."""
    where = ("okx", "spot", "SEQ-USDT")
    it = Instrument(*where)

    def update(second: float, last: int, prev: int, size: str) -> bytes:
        return okx_book(it, "update", second, last, prev, [("100", size)])

    def snapshot(second: float, last: int, size: str) -> bytes:
        return okx_book(it, "snapshot", second, last, -1, [("100", size), ("98", "1")], ASKS)

    books = [
        update(0, 5, 4, "1"),
        update(1, 8, 5, "2"),
        update(2, 9, 8, "3"),
        snapshot(3, 3, "9"),  # older than what is kept: no book
        snapshot(4, 7, "9"),  # 5 is old, 8 spans it
        update(5, 12, 9, "4"),
        update(6, 12, 9, "4"),  # once more
        snapshot(7, 12, "7"),  # no newer than the book
        snapshot(8, 20, "7"),  # newer
        update(9, 18, 17, "5"),  # old
        update(10, 22, 18, "5"),  # spans it
        update(11, 2, 22, "6"),  # the id falls
        update(12, 2, 2, "6.5"),  # equal ids with levels
        okx_book(it, "update", 13, 2, 2),
        update(70, 9, 7, "8"),  # a break
        update(71, 10, 9, "9"),
        snapshot(72, 9, "1"),
        update(73, 30, 10, "2"),
        update(300, 31, 30, "3"),
    ]
    return where, {"books": books}


def ages() -> tuple[Where, dict[str, list[bytes]]]:
    """Walls that are old, young, of unseen beginning, and broken at half their size."""
    where = ("okx", "spot", "AGES-USDT")
    it = Instrument(*where)
    bids = [(f"{9990 - i}", "1") for i in range(10)]
    asks = [(f"{10010 + i}", "1") for i in range(10)]
    walls = [
        (1, [("9990", "40")], []),  # grown where something stood
        (2, [("9970", "41")], []),  # beyond reach
        (3, [], [("10009", "60")]),
        (10, [], [("10009", "29")]),  # below half
        (11, [], [("10009", "60")]),
        (30, [], [("10009", "31")]),  # above half
        (100, [("9990", "0")], []),
        (130, [("9988", "50")], []),
        (200, [], [("10009", "61")]),
        (400, [("9989", "1")], []),
        (500, [("9989", "2")], []),
    ]
    books = [okx_book(it, "snapshot", 0, 100, -1, [*bids, ("9985.5", "45")], asks)]
    for number, (second, bid, ask) in enumerate(walls):
        books.append(okx_book(it, "update", second, 101 + number, 100 + number, bid, ask))
    books.append(okx_book(it, "snapshot", 520, 900, -1, [*bids, ("9970", "42")], asks))
    for second in (545, 600, 661, 720):
        last = 901 + second
        prev = int(json.loads(books[-1])["data"][0]["seqId"])
        books.append(okx_book(it, "update", second, last, prev, [("9981", str(second))]))
    return where, {"books": books}


SHORT = {f.__name__: f for f in (spot_timing, one_sided_end, sequences, ages)}


@pytest.fixture(scope="module")
def short(new_vault: MakeVault, product: Product) -> Ran:
    """All of them in one vault."""
    vault = new_vault("short")
    for make in SHORT.values():
        where, kinds = make()
        for kind, lines in kinds.items():
            write_lines(vault, kind, where, lines)
    return run(product, vault, 0)


@every_layer
@pytest.mark.parametrize("name", SHORT)
def test_short(short: Ran, name: str, layer: str) -> None:
    """One question each."""
    where, _ = SHORT[name]()
    short.check(where, layer)


def test_in_pieces(new_vault: MakeVault, product: Product, invented: Ran) -> None:
    """Read in three pieces that end inside lines, every file is that of one run."""
    tape, kinds = INVENTED["okx-all"]
    vault = new_vault("pieces")
    lines = {kind: b"".join(data + b"\n" for data in getattr(tape, kind)) for kind in kinds}
    for share in (0.31, 0.7, 1.0):
        for kind, content in lines.items():
            folder = feed_folder(vault, kind, tape.instrument)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{DAY}.jsonl").write_bytes(content[: round(len(content) * share)])
        run(product, vault, 0, 65)
    wanted = invented.vault / "derived"
    files = [path for path in wanted.rglob("*") if tape.where[2] in path.parts and path.is_file()]
    assert len(files) > len(LAYERS)
    for path in files:
        found = vault / "derived" / path.relative_to(wanted)
        assert found.read_bytes() == path.read_bytes(), found
