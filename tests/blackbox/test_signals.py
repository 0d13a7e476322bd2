"""vcp, ipu, signals and signals_mtf against their oracle, on what the product committed before.

Bars, footprint, flow, micro, impact and buckets have oracles of their own; here they are read
back from below derived/, and every row that should follow from them is asked for: names, order,
texts, whole numbers, flags and nulls exactly, floats to a billionth of their value.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.sim import write_market
from tests.oracle.books import feed_folder
from tests.oracle.flow import impact_rows
from tests.oracle.fold import Judge
from tests.oracle.layers import Row, bars_rows
from tests.oracle.profile import footprint_rows
from tests.oracle.raw import Instrument
from tests.oracle.signal_bars import TIMEFRAMES, Feed, Feeds, stamp_us
from tests.oracle.signals import FILES, expected_layers

from .conftest import MakeVault, Product
from .signal_cases import LIMITS, TAPES, UNDER, Last, Tables, Tape
from .test_book_layers import Where, differences, label
from .trade_cases import judge_with
from .vaults import derived_folder, read_jsonl

KINDS = ("trades", "books", "quotes")
STAGES = ("vcp", "ipu", "signals", "signals_mtf")
CLASSES = {
    *("NO_SIGNAL", "DIVERGENCE_WARNING", "CLEAN_TREND_ENTRY", "ACCUMULATION", "DISTRIBUTION"),
    *("FADE_EXHAUSTION_SHORT", "FADE_EXHAUSTION_LONG"),
    *("CONFIRMED_BOUNCE_LONG", "CONFIRMED_BOUNCE_SHORT"),
    *("STRONG_MOMENTUM_LONG", "STRONG_MOMENTUM_SHORT"),
}

every_layer = pytest.mark.parametrize("layer", FILES)


# -- reading -----------------------------------------------------------------------------


def read_parts(folder: Path) -> list[Row]:
    """The rows of the Parquet parts of a layer."""
    parts = sorted(folder.glob("*.parquet"))
    return pl.concat([pl.read_parquet(part) for part in parts]).to_dicts() if parts else []


STAMP = re.compile(rb'"(?:T|ts|timestamp_utc)"\s*:\s*"?([0-9:TZ.-]+)')
EVENT = re.compile(rb'"E"\s*:\s*([0-9]+)')


def newest_us(vault: Path, kind: str, instrument: Instrument) -> int:
    """The latest time stamp in whole lines of a clean feed; none is far ahead of its neighbours."""
    folder, newest = feed_folder(vault, kind, instrument), 0
    for file in folder.iterdir():
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            found = STAMP.search(line) or EVENT.search(line)
            text = found[1].decode() if found else "0"
            if text.isdecimal():
                newest = max(newest, int(text) * 1000)
            else:
                newest = max(newest, stamp_us({"timestamp_utc": text}))
    return newest


def feeds_of(vault: Path, instrument: Instrument) -> Feeds:
    """The upstream layers as committed; what has no raw data is not there."""
    known = {
        kind: newest_us(vault, kind, instrument)
        for kind in (*KINDS, "open_interest")
        if feed_folder(vault, kind, instrument).is_dir()
    }
    interest = known.pop("open_interest", None)
    untimed = instrument.exchange == "binance" and instrument.market == "spot"
    if untimed and "books" in known:  # its quotes go by the times of the book
        known["quotes"] = known["books"]

    def layer(name: str, folder: str, *stamps: int) -> Feed:
        rows = read_jsonl(derived_folder(vault, folder, instrument) / f"{name}.jsonl")
        return Feed(rows, min(stamps))

    has_quotes, has_book, traded = len(known) > 1, "books" in known, known["trades"]
    return Feeds(
        {tf: layer(f"bars_{tf}", "bars", traded) for tf in TIMEFRAMES},
        Feed(read_parts(derived_folder(vault, "footprint", instrument)), traded),
        flow=layer("flow_1m", "flow", *known.values()) if has_quotes else None,
        micro=layer("micro_1m", "micro", *known.values()) if has_quotes else None,
        impact=layer("impact_1m", "impact", traded),
        buckets=layer("buckets_1m", "buckets", known["books"]) if has_book else None,
        open_interest=(
            None if interest is None else layer("open_interest_1m", "open_interest", interest)
        ),
    )


@dataclass
class Signalled:
    """A vault after a run, and the tables each instrument ran under."""

    vault: Path
    tables: dict[str, Tables] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = cache(self.layers_of)

    def layers_of(self, where: Where) -> dict[str, list[Row]]:
        """What the oracle makes of the upstream layers."""
        feeds = feeds_of(self.vault, Instrument(*where))
        return expected_layers(feeds, self.tables.get(where[2]))

    def check(self, where: Where, layer: str) -> list[Row]:
        """A layer is what the oracle makes of those before it; the oracle's rows."""
        folder = derived_folder(self.vault, FILES[layer], Instrument(*where))
        wanted = self.layers(where)[layer]
        told = differences(read_jsonl(folder / f"{layer}.jsonl"), wanted)
        assert not told, f"{layer} of {label(where)}:\n" + "\n".join(told)
        return wanted


def run(product: Product, vault: Path) -> None:
    """Bring the signal layers of every instrument up to date."""
    stages = [word for stage in STAGES for word in ("--stage", stage)]
    outcome = product(vault, "run", "--all", *stages, "--json")
    assert outcome.code == 0, f"exit {outcome.code}\n{outcome.text}"


def write_tables(vault: Path, where: dict[str, Where], tables: dict[str, Tables]) -> None:
    """Write flowvault.toml with a table for each stage and instrument."""
    lines = []
    for name, stages in tables.items():
        for stage, values in stages.items():
            lines.append(f'[{stage}."{"/".join(where[name])}"]')
            lines += [f"{key} = {toml(value)}" for key, value in values.items()]
    (vault / "flowvault.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def toml(value: Any) -> str:
    """A value as TOML spells it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


# -- real captures -----------------------------------------------------------------------

CAPTURED: list[Where] = [
    ("binance", "perps", "BTCUSDT"),
    ("binance", "perps", "ETHUSDT"),
    ("binance", "spot", "BTCUSDT"),
    ("okx", "perps", "ETH-USDT-SWAP"),
]

every_capture = pytest.mark.parametrize("where", CAPTURED, ids=label)


FEWER: dict[Where, tuple[str, ...]] = {
    CAPTURED[0]: ("trades",),
    CAPTURED[1]: ("trades", "quotes"),
    CAPTURED[2]: ("trades", "books"),
    CAPTURED[3]: ("trades",),
}


def copied(captures: Path, vault: Path, kinds: dict[Where, tuple[str, ...]]) -> Signalled:
    """A vault with some kinds of raw data of every capture."""
    for where in CAPTURED:
        for kind in kinds[where]:
            folder = feed_folder(captures, kind, Instrument(*where))
            if folder.is_dir():
                shutil.copytree(folder, feed_folder(vault, kind, Instrument(*where)))
    return Signalled(vault)


@pytest.fixture(scope="module")
def captured(captures: Path, new_vault: MakeVault, product: Product) -> Signalled:
    """All there is of some captures."""
    found = copied(captures, new_vault("captured"), dict.fromkeys(CAPTURED, KINDS))
    run(product, found.vault)
    return found


@pytest.fixture(scope="module")
def fewer(captures: Path, new_vault: MakeVault, product: Product) -> Signalled:
    """The same captures without their books, their quotes, or both."""
    found = copied(captures, new_vault("fewer"), FEWER)
    run(product, found.vault)
    return found


@every_layer
@every_capture
def test_captures(captured: Signalled, where: Where, layer: str) -> None:
    """Minutes of real markets, with their books: the first rows of all."""
    rows = captured.check(where, layer)
    if layer in ("ipu_5m", "signals_mtf"):
        assert rows
    if layer == "ipu_5m":
        assert all(row["order_flow_quality"] is not None for row in rows)


@every_layer
@every_capture
def test_captures_without_folders(fewer: Signalled, where: Where, layer: str) -> None:
    """The same minutes by their trades alone, or with one other feed."""
    fewer.check(where, layer)


def test_other_feeds_are_seen(captured: Signalled, fewer: Signalled) -> None:
    """With book and quotes the same bars look different."""
    for where in CAPTURED[:3]:
        one, other = captured.layers(where)["ipu_5m"], fewer.layers(where)["ipu_5m"]
        assert [r["timestamp_utc"] for r in one] == [r["timestamp_utc"] for r in other]
        assert [r["order_flow_quality"] for r in one] != [r["order_flow_quality"] for r in other]


# -- simulated days ----------------------------------------------------------------------

ONLY_TRADES: Where = ("sim", "perps", "BTC-USDT-SWAP")
WITH_BOOK: Where = ("sim", "perps", "ETH-USDT-SWAP")
TUNED: Where = ("sim", "perps", "SOL-USDT-SWAP")
SIMULATED = (ONLY_TRADES, WITH_BOOK, TUNED)
TUNING: dict[str, Tables] = {
    TUNED[2]: {
        "vcp": {
            "lookback": 60,
            "bins": 80,
            "sigma_peak": 1.0,
            "strength_sigmas": 3.0,
            "proximity_k": 2.0,
            "vcp_min_bars": 25,
            "profile_source": "gaussian",
            "gauss_width": 0.2,
            "direction_tilt": 0.4,
        },
        "ipu": {
            "profile": "calibrated",
            "window": 50,
            "window_min": 10,
            "exh_wick": 0.3,
            "slope_bars": 4,
            "trend_slope": 0.7,
            "exh_count": 2,
            "x_count": 3,
            "x_vol": 0.4,
        },
        "signals": {
            "profile": "calibrated",
            "near_atr": 0.8,
            "high_inst": 0.1,
            "runway_min": 0.5,
            "risk_per_trade": 250.0,
            "atr_multiplier": 2.0,
            "min_confidence": 0.4,
        },
        "signals_mtf": {"weights": (0.5, 0.3, 0.2), "mixed_size": 0.25},
    }
}
CONTRACT = 'ctVal = "1"\nctMult = "1"\nctType = "linear"\ntick = "0.01"\n'
LOST_EVERY = 400
BOOK_HOURS = 10.0


def lose_trades(vault: Path, where: Where) -> None:
    """Take a line out of every few hundred: gaps in the ids."""
    for file in feed_folder(vault, "trades", Instrument(*where)).iterdir():
        lines = file.read_bytes().splitlines(keepends=True)
        kept = [line for i, line in enumerate(lines, start=1) if i % LOST_EVERY]
        file.write_bytes(b"".join(kept))


def write_interest(vault: Path, where: Where, days: int) -> None:
    """Open interest every few minutes: none at first, then a walk with holes of hours."""
    rng, value, second = random.Random(5), 0.0, 0
    lines = []
    begin = int(datetime(2025, 1, 6, tzinfo=UTC).timestamp())
    while second < days * 86_400 - 1800:
        second += rng.choice((60, 150, 270)) + (rng.random() < 0.02) * rng.randrange(3000, 9000)
        for _ in range(2):  # one right after a hole is believed when the next comes
            second += 7
            value = max(0.0, value + rng.uniform(-90, 100) * (second > 20_000))
            row = {"ts": (begin + second) * 1000, "open_interest": f"{value:.3f}"}
            lines.append(json.dumps(row).encode() + b"\n")
    folder = feed_folder(vault, "open_interest", Instrument(*where))
    folder.mkdir(parents=True)
    (folder / "2025-01-06.jsonl").write_bytes(b"".join(lines))


def simulated_days(vault: Path, days: int) -> Signalled:
    """Trades alone; a book in the last hours; and open interest under parameters of its own."""
    (vault / "instruments.toml").write_text(f'["{"/".join(TUNED)}"]\n{CONTRACT}', encoding="utf-8")
    more: dict[str, Any] = {"days": days, "quotes": False}
    write_market(vault, inst_id=ONLY_TRADES[2], speed=0.1, books=False, **more)
    write_market(vault, inst_id=TUNED[2], speed=0.06, seed=11, books=False, **more)
    write_interest(vault, TUNED, days)
    more |= {"hours": BOOK_HOURS, "book_ms": 60_000}
    write_market(vault, inst_id=WITH_BOOK[2], speed=0.08, seed=9, **more)
    for file in sorted(feed_folder(vault, "books", Instrument(*WITH_BOOK)).iterdir())[:-1]:
        file.unlink()
    lose_trades(vault, ONLY_TRADES)
    write_tables(vault, {TUNED[2]: TUNED}, TUNING)
    return Signalled(vault, TUNING)


def in_two_runs(product: Product, found: Signalled) -> None:
    """A run with the book behind and cut inside a line, looked at, then one over all of it."""
    (file,) = feed_folder(found.vault, "books", Instrument(*WITH_BOOK)).iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 5])
    run(product, found.vault)
    part = Signalled(found.vault, found.tables)
    for layer in FILES:
        part.check(WITH_BOOK, layer)
    bars = feeds_of(found.vault, Instrument(*WITH_BOOK)).bars["5m"].rows
    assert 0 < len(part.layers(WITH_BOOK)["signals_mtf"]) < len(bars) - 12, "the book is not behind"
    file.write_bytes(whole)
    run(product, found.vault)


@pytest.fixture(scope="module")
def two_days(new_vault: MakeVault, product: Product) -> Signalled:
    """Two whole days in two runs."""
    found = simulated_days(new_vault("two-days"), 2)
    in_two_runs(product, found)
    return found


@every_layer
@pytest.mark.parametrize("where", SIMULATED, ids=label)
def test_simulated_days(two_days: Signalled, where: Where, layer: str) -> None:
    """Two whole days."""
    assert two_days.check(where, layer)


def test_two_days_hold_what_they_are_for(two_days: Signalled) -> None:
    """Nearly every class, state and reason is somewhere in them."""
    found: Counter[Any] = Counter()
    for where in SIMULATED:
        layers = two_days.layers(where)
        for name in ("signals_5m", "signals_15m", "signals_30m"):
            found.update(row["signal"] for row in layers[name])
        found.update(row["momentum_state"] for row in layers["ipu_5m"])
        found.update(row["urgency_class"] for row in layers["ipu_5m"])
        found.update(("xfactor", row["xfactor"]) for row in layers["ipu_5m"])
        found.update(row["mtf_direction"] for row in layers["signals_mtf"])
        found.update(row["mtf_exhaustion"] for row in layers["signals_mtf"])
        found.update(("size", row["size_multiplier"]) for row in layers["signals_mtf"])
        for row in layers["signals_mtf"]:
            found.update((row["filter_reason"] or "").split(";"))
    book = [c for row in two_days.layers(WITH_BOOK)["vcp_5m"] for c in row["clusters"]]
    found.update(("book", c["ob_ratio"] is not None) for c in book)
    tuned = [c for row in two_days.layers(TUNED)["vcp_5m"] for c in row["clusters"]]
    found.update(("interest", c["oi_adj"] is not None) for c in tuned)
    wanted = {
        *CLASSES,
        *("ACCELERATING", "DECELERATING", "TRENDING", "DRIFTING", "FLAT", None),
        *("AGGRESSIVE", "ELEVATED", "PATIENT", "PASSIVE", ("xfactor", True), ("xfactor", False)),
        *("STRONG_BULLISH", "LEAN_BULLISH", "MIXED", "LEAN_BEARISH", "STRONG_BEARISH"),
        *("NONE", "WARNING", "gap", "confidence", "against_mtf", "exhaustion_30m", ""),
        *(("size", 0.0), ("size", 0.5), ("size", 0.25), ("size", 1.0)),
        *(("book", True), ("book", False), ("interest", True), ("interest", False)),
    }
    assert wanted - found.keys() == set()


@pytest.fixture(scope="module")
def ten_days(new_vault: MakeVault, product: Product) -> Signalled:
    """Ten days: every window is full, of every timeframe."""
    found = simulated_days(new_vault("ten-days"), 10)
    run(product, found.vault)
    return found


@pytest.mark.slow
@every_layer
@pytest.mark.parametrize("where", SIMULATED, ids=label)
def test_ten_simulated_days(ten_days: Signalled, where: Where, layer: str) -> None:
    """Ten whole days."""
    assert ten_days.check(where, layer)


# -- invented tapes ----------------------------------------------------------------------

NAMES = [*(t.name for t in TAPES), *(limit.name for limit in LIMITS), *(t.name for t in UNDER)]


def feeds_by_oracle(judge: Judge, tape: Tape) -> Feeds:
    """The upstream layers of a tape without the product."""
    return Feeds(
        {tf: Feed(bars_rows(judge, tf)) for tf in TIMEFRAMES},
        Feed(footprint_rows(judge, tape.case.published_tick)),
        impact=Feed(impact_rows(judge)),
    )


def last_rows(folder: Path, tape: Tape) -> Last:
    """The last 5m rows of a tape, by the oracles alone."""
    tape.case.write(folder)
    judge = judge_with(folder, tape.case.instrument)
    layers = expected_layers(feeds_by_oracle(judge, tape), tape.tables)
    return layers["vcp_5m"][-1], layers["ipu_5m"][-1], layers["signals_5m"][-1]


@pytest.fixture(scope="module")
def tapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tape]:
    """All tapes by name; those on a limit once it is known where that is."""
    folder = tmp_path_factory.mktemp("limits")
    plain = {
        tape.name: last_rows(folder, tape)
        for tape in {li.tape.name: li.tape for li in LIMITS}.values()
    }
    found = [*TAPES, *(limit.tape_at(plain[limit.tape.name]) for limit in LIMITS), *UNDER]
    assert [tape.name for tape in found] == NAMES
    return {tape.name: tape for tape in found}


@pytest.mark.parametrize("name", NAMES)
def test_the_tapes_hold_what_they_are_for(
    tapes: dict[str, Tape], tmp_path: Path, name: str
) -> None:
    """The last bar of each has its signal, its direction and its filter, by the oracles alone."""
    tape = tapes[name]
    _, _, row = last_rows(tmp_path, tape)
    assert (row["signal"], row["filter_reason"]) == (tape.signal, tape.filter_reason)
    assert row["filtered"] == (tape.filter_reason is not None)


def test_after_a_silence(taped: Signalled) -> None:
    """Longer bars of before do not speak for periods without any."""
    rows = taped.layers(("acme", "spot", "SILENT"))["signals_mtf"]
    assert [row["mtf_direction"] for row in rows[-3:]] == ["LEAN_BULLISH", "MIXED", "MIXED"]


def test_every_class_has_a_tape() -> None:
    """None is left out."""
    assert {tape.signal for tape in TAPES} == CLASSES


@pytest.fixture(scope="module")
def taped(tapes: dict[str, Tape], new_vault: MakeVault, product: Product) -> Signalled:
    """All tapes in one vault, each under its own parameters."""
    vault = new_vault("taped")
    where: dict[str, Where] = {name: ("acme", "spot", name) for name in tapes}
    ticks = (f'["acme/spot/{name}"]\ntick = "0.01"\n' for name in tapes)
    (vault / "instruments.toml").write_text("\n".join(ticks), encoding="utf-8")
    for tape in tapes.values():
        tape.case.write(vault)
    tables = {name: tape.tables for name, tape in tapes.items()}
    write_tables(vault, where, tables)
    run(product, vault)
    return Signalled(vault, tables)


@pytest.mark.parametrize("name", NAMES)
def test_tapes(taped: Signalled, tapes: dict[str, Tape], name: str) -> None:
    """Every row of each tape; its last is what the tape was made for."""
    where = ("acme", "spot", name)
    for layer in FILES:
        taped.check(where, layer)
    folder = derived_folder(taped.vault, "signals", Instrument(*where))
    row = read_jsonl(folder / "signals_5m.jsonl")[-1]
    assert row["signal"] == tapes[name].signal
