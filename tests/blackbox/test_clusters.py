"""Labels of trades and maker quotes against their oracle, which starts from committed layers.

The layers they are made of (trades, quote, book, book_events) have oracles of their own; what is
compared here begins behind them. Models are compared with models the oracle fits itself; labels
and quotes with what follows from the models that the product wrote.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.sim import write_market
from pipeline.stages import SUMMARY
from tests.oracle.books import feed_folder
from tests.oracle.clusters import COLUMNS, MODEL_KEYS, Oracle, Settings
from tests.oracle.layers import Row
from tests.oracle.maker import EPOCH, NOTHING, MakerSettings, ms_of
from tests.oracle.raw import Instrument
from tests.oracle.test_books_oracle import START, line, okx_book

from .conftest import MakeVault, Outcome, Product
from .vaults import derived_folder, read_jsonl, tree

pytestmark = pytest.mark.skipif(
    not {"clusters", "maker"} <= set(SUMMARY), reason="stages clusters and maker are not there"
)

Where = tuple[str, str, str]
"""Exchange, market, instrument."""

PRECISION = 1e-9
SHOWN = 5
KINDS = ("trades", "books", "quotes")
DAY_MS, SECOND = 86_400_000, 1000
STAGES = ("--stage", "clusters", "--stage", "maker")


# -- vaults --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tables:
    """Parameters of one instrument, its tick, and the size of a contract if it has one."""

    tick: str
    clusters: Mapping[str, Any] = field(default_factory=dict)
    maker: Mapping[str, Any] = field(default_factory=dict)
    contract: str | None = None

    @property
    def entry(self) -> str:
        """Its lines in instruments.toml."""
        contract = "" if self.contract is None else f'ctVal = "{self.contract}"\n'
        return f'{contract}tick = "{self.tick}"'

    @property
    def settings(self) -> Settings:
        """For the oracle."""
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in self.clusters.items()
        }
        return Settings(**given)


def path_of(where: Where) -> str:
    """How tables name an instrument."""
    return "/".join(where)


def write_tables(vault: Path, tables: Mapping[Where, Tables]) -> None:
    """The vault's two parameter files."""
    found = []
    for where, table in tables.items():
        for stage in ("clusters", "maker"):
            values = getattr(table, stage)
            if values:
                rows = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
                found.append("\n".join([f'[{stage}."{path_of(where)}"]', *rows]))
    (vault / "flowvault.toml").write_text("\n\n".join(found) + "\n", encoding="utf-8")
    ticks = [f'["{path_of(where)}"]\n{t.entry}' for where, t in tables.items()]
    (vault / "instruments.toml").write_text("\n\n".join(ticks) + "\n", encoding="utf-8")


def write_days(vault: Path, kind: str, where: Where, days: Mapping[str, bytes]) -> None:
    """Raw files, one a day."""
    folder = feed_folder(vault, kind, Instrument(*where))
    folder.mkdir(parents=True, exist_ok=True)
    for day, content in days.items():
        (folder / f"{day}.jsonl").write_bytes(content)


def write_positions(vault: Path, where: Where, inventory: Iterable[tuple[int, float]]) -> None:
    """What was held from when on."""
    days: dict[str, bytes] = {}
    for ts, position in inventory:
        day = day_text(ts)
        days[day] = days.get(day, b"") + line({"ts": ts, "position": position}) + b"\n"
    write_days(vault, "positions", where, days)


def day_text(ms: int) -> str:
    """`2024-03-05`."""
    return f"{EPOCH + timedelta(milliseconds=ms):%Y-%m-%d}"


# -- what the product made, and what it should have made ---------------------------------------


def read_parts(vault: Path, layer: str, where: Where) -> list[Row]:
    """The rows of a Parquet layer."""
    parts = sorted(derived_folder(vault, layer, Instrument(*where)).glob("*.parquet"))
    if not parts:
        return []
    table = pl.concat([pl.read_parquet(part) for part in parts])
    assert table.schema["ts"] == pl.Datetime("us", "UTC")
    return table.to_dicts()


def read_models(vault: Path, where: Where) -> dict[date, Row]:
    """The model documents by the day in their name, each the JSON object of its file."""
    folder = derived_folder(vault, "clusters", Instrument(*where))
    return {
        date.fromisoformat(file.stem.removeprefix("model_")): json.loads(
            file.read_text(encoding="utf-8")
        )
        for file in sorted(folder.glob("model_*.json"))
    }


def newest(vault: Path, kind: str, where: Where) -> int | None:
    """The largest time in the raw files of a kind, in ms; None where they have none."""
    found = None
    for file in sorted(feed_folder(vault, kind, Instrument(*where)).glob("*.jsonl")):
        whole_lines = file.read_bytes().split(b"\n")[:-1]
        for row in (row for data in whole_lines for row in records_in(data)):
            stamp = row.get("T", row.get("E", row.get("ts")))
            if stamp is not None:
                found = int(stamp) if found is None else max(found, int(stamp))
    return found


def records_in(data: bytes) -> list[Row]:
    """The records of a good line, out of their envelope."""
    document = json.loads(data)
    inner = document.get("data", document)
    return inner if isinstance(inner, list) else [inner]


def watermark_of(vault: Path, where: Where, quotes: list[Row]) -> int:
    """The least of the largest times of all feeds; quotes without a time are timed by the book."""
    found = []
    for kind in KINDS:
        if feed_folder(vault, kind, Instrument(*where)).is_dir():
            ms = newest(vault, kind, where)
            found.append(ms_of(quotes[-1]["ts"]) if ms is None else ms)
    return min(found)


@dataclass
class Ran:
    """A vault after a run."""

    vault: Path
    outcome: Outcome
    tables: Mapping[Where, Tables]
    inventory: Mapping[Where, list[tuple[int, float]]] = field(default_factory=dict)
    oracles: dict[Where, Oracle] = field(default_factory=dict)

    def oracle(self, where: Where) -> Oracle:
        """The oracle on the committed layers, with models of its own."""
        if where not in self.oracles:
            names = ("trades", "quote", "book", "book_events")
            trades, quotes, book, events = (read_parts(self.vault, n, where) for n in names)
            watermark = watermark_of(self.vault, where, quotes)
            settings = self.tables[where].settings
            self.oracles[where] = Oracle(trades, quotes, book, events, watermark, settings)
        return self.oracles[where]

    def followed(self, where: Where) -> Oracle:
        """The same with the models that the product wrote."""
        own = self.oracle(where)
        rest = Oracle(own.trades, own.quote, own.book, own.book_events, own.watermark, own.settings)
        rest.__dict__ |= {name: getattr(own, name) for name in ("quotes", "featured")}
        rest.given = read_models(self.vault, where)
        return rest

    def check_models(self, where: Where) -> dict[date, Row]:
        """Every day's document is what its day makes; the oracle's documents."""
        found, wanted = read_models(self.vault, where), self.oracle(where).models
        assert list(found) == list(wanted)
        for day, document in wanted.items():
            told = differences([found[day]], [document])
            assert not told, f"model of {day}, {path_of(where)}:\n" + "\n".join(told)
        return wanted

    def check_clusters(self, where: Where) -> list[Row]:
        """Every trade has its features, scores and label; the oracle's rows."""
        found, wanted = read_parts(self.vault, "clusters", where), self.followed(where).rows
        told = differences(found, wanted)
        assert not told, f"clusters of {path_of(where)}:\n" + "\n".join(told)
        return wanted

    def check_maker(self, where: Where) -> list[Row]:
        """Every second has its quotes; the oracle's rows."""
        instrument, table = Instrument(*where), self.tables[where]
        head = {
            "instId": instrument.inst_id,
            "exchange": instrument.exchange,
            "market": instrument.row_market,
        }
        wanted = self.followed(where).maker(
            Decimal(table.tick),
            self.inventory.get(where, ()),
            head,
            MakerSettings(**table.maker),
        )
        found = read_jsonl(derived_folder(self.vault, "maker", instrument) / "maker_1s.jsonl")
        told = differences(found, wanted)
        assert not told, f"maker of {path_of(where)}:\n" + "\n".join(told)
        return wanted

    def check(self, where: Where) -> tuple[dict[date, Row], list[Row], list[Row]]:
        """All three."""
        return self.check_models(where), self.check_clusters(where), self.check_maker(where)


def same(found: Any, wanted: Any) -> bool:
    """Equal, where doubles may differ by a billionth of their value, or of one below one."""
    if isinstance(wanted, float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return is_number and abs(found - wanted) <= PRECISION * max(1.0, abs(wanted))
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(same(f, w) for f, w in zip(found, wanted, strict=True))
        )
    return type(found) is type(wanted) and bool(found == wanted)


def differences(found: list[Row], wanted: list[Row]) -> list[str]:
    """What is not the same: how many rows a column, and the first few of them."""
    columns: Counter[str] = Counter()
    shown = [f"{len(found)} rows for {len(wanted)}"] if len(found) != len(wanted) else []
    for i, (left, right) in enumerate(zip(found, wanted, strict=False)):
        if list(left) != list(right):
            return [*shown, f"keys {list(left)} for {list(right)}"]
        wrong = [k for k in right if not same(left[k], right[k])]
        columns.update(wrong)
        if wrong and len(shown) < SHOWN:
            when = right.get("timestamp_utc", right.get("ts", right.get("valid_from")))
            told = (f"{k} {left[k]!r:.300} for {right[k]!r:.300}" for k in wrong[:6])
            shown.append(f"row {i} ({when}): " + "; ".join(told))
    return [str(dict(columns)), *shown] if columns else shown


def run(
    product: Product,
    vault: Path,
    tables: Mapping[Where, Tables],
    inventory: Mapping[Where, list[tuple[int, float]]] | None = None,
) -> Ran:
    """Bring both layers of every instrument up to date."""
    write_tables(vault, tables)
    for where, positions in (inventory or {}).items():
        write_positions(vault, where, positions)
    outcome = product(vault, "run", "--all", *STAGES, "--json")
    assert outcome.code == 0, f"exit {outcome.code}\n{outcome.text}"
    return Ran(vault, outcome, tables, inventory or {})


# -- real captures ----------------------------------------------------------------------------

PERPS: Where = ("binance", "perps", "BTCUSDT")
SPOT: Where = ("binance", "spot", "BTCUSDT")
CAPTURED = {
    PERPS: ("2024-07-18", "2024-07-19"),
    SPOT: ("2024-08-08", "2024-08-09"),
}
CAPTURE_TABLES = {
    PERPS: Tables(
        "0.10",
        {"window": 50, "min_rows": 300, "roles": "inverted"},
        {"width_cap": 3, "base_bps": 1.5},
    ),
    SPOT: Tables("0.01"),
}
SLICE_MS = 60 * SECOND

every_capture = pytest.mark.parametrize("where", CAPTURED, ids=path_of)


def copy_capture(captures: Path, vault: Path, where: Where, after_midnight: int | None) -> None:
    """The evening of a capture, and of the next day all or the beginning."""
    evening, morning = CAPTURED[where]
    midnight = ms_of(datetime.fromisoformat(f"{morning}T00:00:00+00:00"))
    end = None if after_midnight is None else midnight + after_midnight
    last_id = 0
    for kind in ("books", "trades", "quotes"):
        folder = feed_folder(captures, kind, Instrument(*where))
        days = {
            day: gzip.decompress((folder / f"{day}.jsonl.gz").read_bytes())
            for day in (evening, morning)
        }
        if end is not None:
            kept = []
            for data in days[morning].splitlines(keepends=True):
                row = records_in(data)[0]
                stamp = row.get("T", row.get("E"))
                if (row["u"] > last_id) if stamp is None else (stamp >= end):
                    break
                kept.append(data)
                last_id = max(last_id, row.get("u", 0)) if kind == "books" else last_id
            days[morning] = b"".join(kept)
        write_days(vault, kind, where, days)


@pytest.fixture(scope="module")
def captured(captures: Path, new_vault: MakeVault, product: Product) -> Ran:
    """Both captures until a minute after midnight."""
    vault = new_vault("captured")
    for where in CAPTURED:
        copy_capture(captures, vault, where, SLICE_MS)
    return run(product, vault, CAPTURE_TABLES)


@every_capture
def test_models_of_captures(captured: Ran, where: Where) -> None:
    """One midnight, one model."""
    models = captured.check_models(where)
    assert [str(day) for day in models] == [CAPTURED[where][1]]
    assert tuple(models[next(iter(models))]) == MODEL_KEYS


@every_capture
def test_labels_of_captures(captured: Ran, where: Where) -> None:
    """Most trades of the second day have a label, none of the first."""
    rows = captured.check_clusters(where)
    assert tuple(rows[0]) == COLUMNS
    midnight = datetime.fromisoformat(f"{CAPTURED[where][1]}T00:00:00+00:00")
    before = [row["cluster"] for row in rows if row["ts"] < midnight]
    after = [row["cluster"] for row in rows if row["ts"] >= midnight]
    assert set(before) == {None}
    assert {1, 2, 3} <= set(after)
    assert after.count(None) < len(after) / 2


@every_capture
def test_quotes_of_captures(captured: Ran, where: Where) -> None:
    """A row each second with a trade; the bid is below the ask."""
    rows = [row for row in captured.check_maker(where) if row["bid"] is not None]
    assert len(rows) > 20
    assert all(row["bid"] < row["ask"] for row in rows)


@pytest.mark.slow
def test_whole_captures(captures: Path, new_vault: MakeVault, product: Product) -> None:
    """Everything of both captures."""
    vault = new_vault("whole")
    for where in CAPTURED:
        copy_capture(captures, vault, where, None)
    ran = run(product, vault, CAPTURE_TABLES)
    for where in CAPTURED:
        ran.check(where)


# -- a simulated market ----------------------------------------------------------------------

SIMULATED: Where = ("sim", "perps", "BTC-USDT-SWAP")
SIMULATED_TABLES = {
    SIMULATED: Tables(
        "0.1",
        {"min_rows": 200, "max_fit": 700, "roles": [3, 1, 2], "tau_s": 4.0, "horizon_s": 2},
        contract="0.01",
    )
}
MINUTE = 60 * SECOND
PIECES = (
    (0, -12 * MINUTE),  # twelve minutes to midnight, and twelve after it
    (24 * MINUTE, DAY_MS - 4 * MINUTE),  # around the next midnight
    (34 * MINUTE, 3 * DAY_MS + 480 * MINUTE),  # a day without trades, then a morning
)
LENGTH = 38 * MINUTE
TS = re.compile(rb'"ts":"(\d+)"')


def write_short_days(vault: Path, scratch: Path) -> None:
    """Thirty-eight simulated minutes as pieces of four days, of which one has nothing."""
    write_market(scratch, hours=LENGTH / (60 * MINUTE))
    for kind in KINDS:
        days: dict[str, bytes] = {}
        file = next(feed_folder(scratch, kind, Instrument(*SIMULATED)).glob("*.jsonl"))
        base = ms_of(datetime.fromisoformat(f"{file.stem}T00:00:00+00:00"))
        for data in file.read_bytes().splitlines(keepends=True):
            stamp = TS.search(data)
            assert stamp is not None
            at = int(stamp[1]) - base
            begun, moved = max(piece for piece in PIECES if piece[0] <= at)
            ts = base + DAY_MS + moved + at - begun
            day = day_text(ts)
            days[day] = days.get(day, b"") + TS.sub(b'"ts":"%d"' % ts, data)
        write_days(vault, kind, SIMULATED, days)


@pytest.fixture(scope="module")
def simulated(new_vault: MakeVault, product: Product) -> Ran:
    """By the commands of the two stages."""
    vault, scratch = new_vault("simulated"), new_vault("scratch")
    write_short_days(vault, scratch)
    write_tables(vault, SIMULATED_TABLES)
    options = ("--exchange", SIMULATED[0], "--market", SIMULATED[1], "--instId", SIMULATED[2])
    for command in ("clusters", "maker"):
        outcome = product(vault, command, *options)
        assert outcome.code == 0, outcome.text
    return Ran(vault, outcome, SIMULATED_TABLES)


def test_simulated(simulated: Ran) -> None:
    """A model each midnight behind a day with trades; the last one serves two days later."""
    models, rows, quotes = simulated.check(SIMULATED)
    days = [str(day) for day in models]
    assert days == ["2025-01-07", "2025-01-08", "2025-01-09"]
    shifts = [model["centroid_shift"] for model in models.values()]
    assert [value is None for value in shifts] == [True, False, False]
    assert all(model["roles"] == [3, 1, 2] for model in models.values())
    assert any(model["n_fit"] < model["n_rows"] for model in models.values())
    assert all(model["n"] >= 60 for model in models.values())
    assert rows[-1]["ts"].date() == date(2025, 1, 10)
    assert rows[-1]["cluster"] is not None
    assert quotes[-1]["p_micro"] is not None


def test_a_second_run_has_nothing_to_do(simulated: Ran, product: Product) -> None:
    """It writes nothing."""
    before = tree(simulated.vault, "derived")
    outcome = product(simulated.vault, "run", "--all", *STAGES, "--json")
    assert outcome.code == 0, outcome.text
    assert tree(simulated.vault, "derived") == before


# -- invented feeds: gaps, ties, silences, empty sides ------------------------------------------


Sizes = dict[int, int]
"""Size in hundredths by price in ticks."""


@dataclass
class Rough:
    """Three feeds of one instrument around two midnights, with every trouble a book may have."""

    where: Where
    seed: int
    steps: int = 3000
    has_quotes: bool = True
    ms: int = 12 * 3600 * SECOND - 6 * MINUTE
    seq: int = 1000
    mid: int = 500_000
    trade_id: int = 1
    feeds: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.instrument = Instrument(*self.where)
        self.bids: Sizes = {self.mid - i: self.size() for i in range(1, 9)}
        self.asks: Sizes = {self.mid + i: self.size() for i in range(1, 9)}
        self.feeds = {"trades": [], "books": [], "quotes": []}
        self.due: list[tuple[int, Callable[[], None]]] = []

    def size(self) -> int:
        """Mostly small."""
        return self.rng.choice((1, 7, 30, 150, 900)) * self.rng.randrange(1, 9)

    @cached_property
    def days(self) -> dict[str, dict[str, bytes]]:
        """All lines, by kind and day."""
        self.snapshot()
        for step in range(self.steps):
            self.advance(step)
            self.act()
            while self.due and self.due[0][0] <= step:
                self.due.pop(0)[1]()
            if self.rng.random() < 0.006:
                self.trouble(step)
        found: dict[str, dict[str, bytes]] = {}
        for kind, lines in self.feeds.items():
            days: dict[str, bytes] = {}
            for ts, data in lines:
                day = day_text(START + ts)
                if days and day < max(days):  # a straggler stays in the file that is open
                    day = max(days)
                days[day] = days.get(day, b"") + data + b"\n"
            if days:
                found[kind] = days
        return found

    def advance(self, step: int) -> None:
        """Time passes: often none at all, at times more than a minute, once most of a day."""
        rng = self.rng
        self.ms += rng.choice((0, 0, 1, 20, 100, 400, 900))
        if rng.random() < 0.003:
            self.ms += rng.choice((58_000, 60_000, 61_500, 75_000))
        if step == self.steps * 2 // 3:
            self.ms += DAY_MS - 8 * MINUTE

    def act(self) -> None:
        """A change of the book and what the other feeds make of it."""
        rng = self.rng
        if rng.random() < 0.6:
            self.mid += rng.choice((-1, 0, 0, 0, 1))
            bids = dict.fromkeys((p for p in self.bids if p >= self.mid), 0)
            asks = dict.fromkeys((p for p in self.asks if p <= self.mid), 0)
            if rng.random() < 0.7:
                bids[self.mid - rng.randrange(1, 9)] = self.size()
                asks[self.mid + rng.randrange(1, 9)] = self.size()
            self.update(bids, asks)
        if self.has_quotes and rng.random() < 0.5:
            self.quote()
        if rng.random() < 0.6:
            self.trade()

    def update(self, bids: Sizes, asks: Sizes, *, is_lost: bool = False) -> None:
        """Change the book, and tell it unless the message gets lost."""
        before, self.seq = self.seq, self.seq + self.rng.randrange(1, 4)
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            side.update(changes)
            for price in [p for p, size in side.items() if not size]:
                del side[price]
        if not is_lost:
            texts = (self.texts(bids), self.texts(asks))
            self.tell_book("update", before, *texts)

    def snapshot(self) -> None:
        """The whole book."""
        self.tell_book("snapshot", -1, self.texts(self.bids), self.texts(self.asks))

    def tell_book(self, action: str, before: int, *sides: list[tuple[str, str]]) -> None:
        """A frame of `books`."""
        data = okx_book(self.instrument, action, self.ms / SECOND, self.seq, before, *sides)
        self.feeds["books"].append((self.ms, data))

    def trouble(self, step: int) -> None:
        """A lost message and a snapshot later on, or a side that is gone for a while."""
        rng = self.rng
        later = step + rng.randrange(1, 30)
        if rng.random() < 0.6:
            self.update({self.mid - 2: self.size()}, {}, is_lost=True)
            self.due.append((later, self.snapshot))
        else:
            self.update({}, dict.fromkeys(self.asks, 0))
            self.due.append((later, self.refill))
        self.due.sort(key=lambda item: item[0])

    def refill(self) -> None:
        """The asks come back."""
        self.update({}, {self.mid + i: self.size() for i in range(1, 7)})

    def quote(self) -> None:
        """The best prices, at times crossed or locked, at times a moment late."""
        rng = self.rng
        if not self.bids or not self.asks:
            return
        bid, ask = max(self.bids), min(self.asks)
        shift = rng.choice((2, 3)) if rng.random() < 0.02 else 0
        entry = {
            "asks": [[self.price(ask), self.amount(self.asks[ask]), "0", "1"]],
            "bids": [[self.price(bid + shift), self.amount(self.bids[bid]), "0", "1"]],
            "ts": str(START + self.ms),
        }
        arg = {"channel": "bbo-tbt", "instId": self.where[2]}
        self.feeds["quotes"].append((self.ms, line({"arg": arg, "data": [entry]})))

    def trade(self) -> None:
        """At times stamped before the one before it."""
        rng = self.rng
        at = self.ms - (rng.randrange(1, 600) if rng.random() < 0.1 else 0)
        row = {
            "instId": self.where[2],
            "tradeId": str(self.trade_id),
            "px": self.price(self.mid + rng.choice((-1, 1))),
            "sz": self.amount(self.size()),
            "side": rng.choice(("buy", "sell")),
            "ts": str(START + at),
        }
        self.trade_id += 1
        self.feeds["trades"].append((at, line(row)))

    def price(self, ticks: int) -> str:
        """In tenths."""
        return f"{ticks / 10:.1f}"

    def amount(self, hundredths: int) -> str:
        """In units."""
        return f"{hundredths / 100:.2f}"

    def texts(self, sizes: Sizes) -> list[tuple[str, str]]:
        """Levels as an exchange writes them."""
        return [(self.price(p), self.amount(s)) for p, s in sizes.items()]

    def write(self, vault: Path, *kinds: str) -> None:
        """All of its days."""
        for kind, days in self.days.items():
            if not kinds or kind in kinds:
                write_days(vault, kind, self.where, days)

    def positions(self) -> list[tuple[int, float]]:
        """What was held: nothing at first, then long and short; two records of one moment."""
        rng = random.Random(self.seed + 1)
        stamps = [START + ts for ts, _ in self.feeds["trades"]]
        chosen = sorted(rng.sample(stamps[len(stamps) // 3 :], 60))
        found = [(ts, round(rng.uniform(-5, 5), 2)) for ts in chosen]
        on_the_second = (chosen[30] // SECOND + 1) * SECOND
        doubled = [(on_the_second, 7.0), (on_the_second, -7.5), (chosen[40], 0)]
        return sorted([*found, *doubled], key=lambda item: item[0])


ROUGH: Where = ("okx", "spot", "RGH-USDT")
BOOKISH: Where = ("okx", "spot", "BKS-USDT")
ROUGH_TABLES = {
    ROUGH: Tables("0.1", {"window": 30, "min_rows": 150, "depth_levels": 3, "max_age_s": 20}),
    BOOKISH: Tables(
        "0.1",
        {"min_rows": 100, "sd_floor": 0.5, "max_iter": 3, "horizon_s": 1},
        {"theta_ticks": 0.5, "inventory_target": -1},
    ),
}


def rough_tapes() -> dict[Where, Rough]:
    """One with quotes of its own, one without."""
    return {ROUGH: Rough(ROUGH, 3), BOOKISH: Rough(BOOKISH, 4, has_quotes=False)}


@pytest.fixture(scope="module")
def rough(new_vault: MakeVault, product: Product) -> Ran:
    """Both in one vault, with what was held."""
    vault = new_vault("rough")
    inventory = {}
    for where, tape in rough_tapes().items():
        tape.write(vault)
        inventory[where] = tape.positions()
    return run(product, vault, ROUGH_TABLES, inventory)


@pytest.mark.parametrize("where", ROUGH_TABLES, ids=path_of)
def test_rough(rough: Ran, where: Where) -> None:
    """Gaps, ties, silences, empty sides, crossed quotes, trades out of order."""
    models, rows, quotes = rough.check(where)
    assert [str(day) for day in models] == ["2024-03-06", "2024-03-07"]
    labelled = [row for row in rows if row["cluster"] is not None]
    assert {row["phi"] for row in labelled} == {1, 2, 3}
    assert any(row["log_sbs"] is None for row in rows)
    assert any(row["log_v_rel"] is None for row in rows)
    assert any(row["cluster"] is None for row in rows[-600:])
    assert any(row["mid"] is None for row in quotes) or where != ROUGH


@pytest.mark.parametrize("where", ROUGH_TABLES, ids=path_of)
def test_inventory(rough: Ran, where: Where) -> None:
    """Null before the first position; long and short lean the quotes down and up."""
    rows = rough.check_maker(where)
    held = [row["inventory"] for row in rows]
    assert None in held
    assert held[: held.index(None) + 1] == [None]
    assert min(h for h in held if h is not None) < 0 < max(h for h in held if h is not None)
    leaning = [row for row in rows if row["p_final"] is not None and row["inventory"] is not None]
    assert any(row["p_final"] < row["p_micro"] for row in leaning)
    assert any(row["p_final"] > row["p_micro"] for row in leaning)
    blank = [row for row in rows if row["sig_skew"] is None]
    keys = [name for name in NOTHING if name not in ("mid", "inventory")]
    assert all(row[name] is None for row in blank for name in keys)


SHARES = (
    {"trades": 0.31, "books": 0.55, "quotes": 0.2},
    {"trades": 0.83, "books": 0.7, "quotes": 0.78},
    {"trades": 1.0, "books": 1.0, "quotes": 1.0},
)


def cut_days(days: Mapping[str, bytes], share: float) -> dict[str, bytes]:
    """What a collector has written by then: the first days, and part of the next."""
    left = round(sum(map(len, days.values())) * share)
    found = {}
    for day, content in days.items():
        if left > 0:
            found[day] = content[:left]
        left -= len(content)
    return found


def test_in_three_pieces(rough: Ran, new_vault: MakeVault, product: Product) -> None:
    """Cut in the middle of lines, at a different place in each feed: the same bytes."""
    vault = new_vault("pieces")
    tapes = rough_tapes()
    for shares in SHARES:
        for where, tape in tapes.items():
            for kind, days in tape.days.items():
                write_days(vault, kind, where, cut_days(days, shares[kind]))
        ran = run(product, vault, ROUGH_TABLES, rough.inventory)
        if shares is SHARES[0]:
            assert read_parts(vault, "clusters", ROUGH)
    for where in tapes:
        ran.check(where)
    for layer in ("clusters", "maker"):
        once, pieces = tree(rough.vault, f"derived/{layer}"), tree(vault, f"derived/{layer}")
        assert list(pieces) == list(once)
        assert [name for name in once if pieces[name] != once[name]] == []


def test_the_cuts_are_inside_lines() -> None:
    """In every feed but the last piece."""
    for tape in rough_tapes().values():
        for kind, days in tape.days.items():
            for shares in SHARES[:2]:
                cut = cut_days(days, shares[kind])
                assert not cut[max(cut)].endswith(b"\n"), (tape.where, kind, shares)


# -- no book ---------------------------------------------------------------------------------

BARE: Where = ("okx", "spot", "BARE-USDT")


def test_without_a_book(new_vault: MakeVault, product: Product) -> None:
    """Nothing is done, nothing is written, and it is said."""
    vault = new_vault("bare")
    Rough(BARE, 5, steps=300).write(vault, "trades", "quotes")
    write_tables(vault, {BARE: Tables("0.1")})
    options = ("--exchange", BARE[0], "--market", BARE[1], "--instId", BARE[2])
    for command in ("clusters", "maker"):
        outcome = product(vault, command, *options)
        assert outcome.code == 0, outcome.text
        assert "book" in outcome.text.lower(), outcome.text
    outcome = product(vault, "run", "--all", "--json")
    assert outcome.code == 0, outcome.text
    for layer in ("clusters", "maker"):
        assert tree(vault, f"derived/{layer}") == {}
    assert read_parts(vault, "trades", BARE)
