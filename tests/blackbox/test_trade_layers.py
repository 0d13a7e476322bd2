"""cvd, vwap, footprint, profiles, wicks, extremes, vpin and impact against their oracles.

Every file of every layer is asked row by row: names, order and texts exactly,
floats to a billionth of their value, lists entry by entry.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.oracle.fold import Judge
from tests.oracle.layers import Row
from tests.oracle.raw import Contract, Instrument
from tests.oracle.trade_layers import FILES, STAGES

from .conftest import MakeVault, Product
from .test_captures import INSTRUMENTS as CAPTURED
from .test_captures import label
from .trade_cases import CASES, LATE_CASES, Case, judge_with, write_ticks
from .vaults import derived_folder, read_jsonl

PRECISION = 1e-9
NOISE = {"kyle_r2": 1e-15}
"""Columns that are one less a quotient near one: what a double loses there in any case."""
SHOWN = 5
SIMULATED = Instrument("sim", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01")))
TICKS = {
    "sim perps BTC-USDT-SWAP": Decimal("0.1"),
    "okx perps BTC-USDT-SWAP": Decimal("0.1"),
    "okx perps ETH-USDT-SWAP": Decimal("0.01"),
    "binance perps BTCUSDT": Decimal("0.10"),
    "binance perps ETHUSDT": Decimal("0.01"),
    "binance spot BTCUSDT": Decimal("0.01"),
    "binance spot ETHUSDT": Decimal("0.01"),
}
FOOTPRINT = {
    "ts": pl.Datetime("us", "UTC"),
    "price": pl.Float64(),
    "buy_volume": pl.Float64(),
    "sell_volume": pl.Float64(),
}

every_file = pytest.mark.parametrize("file", FILES)


# -- comparing -------------------------------------------------------------------


def same(found: Any, wanted: Any, noise: float = 0.0) -> bool:
    """Equal, where floats may differ by a billionth of their value (or by the noise)."""
    if isinstance(wanted, float):
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        return is_number and math.isclose(found, wanted, rel_tol=PRECISION, abs_tol=noise)
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
        wrong = [k for k in right if not same(left[k], right[k], NOISE.get(k, 0.0))]
        columns.update(wrong)
        if wrong and len(shown) < SHOWN:
            when = right.get("timestamp_utc", right.get("ts"))
            shown.append(
                f"row {i} ({when}): "
                + "; ".join(f"{k} {left[k]!r} for {right[k]!r}" for k in wrong)
            )
    return [str(dict(columns)), *shown] if columns else shown


def read_file(vault: Path, file: str, instrument: Instrument) -> list[Row]:
    """The rows of a file of a layer, of all its parts where it has parts."""
    layer = FILES[file][0]
    folder = derived_folder(vault, layer, instrument)
    if layer != "footprint":
        return read_jsonl(folder / file)
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        return []
    table = pl.concat([pl.read_parquet(part) for part in parts])
    kinds = dict(zip(table.columns, table.dtypes, strict=True))
    assert list(kinds) == [*FOOTPRINT, "trades"]
    assert {name: kinds[name] for name in FOOTPRINT} == FOOTPRINT
    assert kinds["trades"].is_integer()
    return table.to_dicts()


def assert_file(
    vault: Path, file: str, instrument: Instrument, judge: Judge, tick: Decimal | None
) -> list[Row]:
    """A file is what its oracle makes of the trades that count; the oracle's rows."""
    wanted = FILES[file][1](judge, tick)
    found = differences(read_file(vault, file, instrument), wanted)
    assert not found, f"{file} of {label(instrument)}:\n" + "\n".join(found)
    return wanted


def run(product: Product, vault: Path) -> None:
    """Bring the trade layers of every instrument up to date."""
    stages = [word for stage in STAGES for word in ("--stage", stage)]
    outcome = product(vault, "run", "--all", *stages, "--json")
    assert outcome.code == 0, f"exit {outcome.code}\n{outcome.text}"


# -- real captures -----------------------------------------------------------------


@pytest.fixture(scope="module")
def captured(captures: Path, new_vault: MakeVault, product: Product) -> Path:
    """One run over all captured trades but the one inverse contract's."""
    vault = new_vault("captured")
    for instrument in CAPTURED:
        shutil.copytree(instrument.raw_folder(captures), instrument.raw_folder(vault))
    run(product, vault)
    return vault


@pytest.fixture(scope="module")
def captured_judges(captured: Path) -> dict[str, Judge]:
    """Their trades, judged once."""
    return {label(i): judge_with(captured, i) for i in CAPTURED}


@every_file
@pytest.mark.parametrize("instrument", CAPTURED, ids=label)
def test_captures(
    captured: Path, captured_judges: dict[str, Judge], instrument: Instrument, file: str
) -> None:
    """Minutes of real markets."""
    name = label(instrument)
    assert_file(captured, file, instrument, captured_judges[name], TICKS.get(name))


# -- simulated days ----------------------------------------------------------------


def simulated_days(product: Product, vault: Path, days: int, speed: str) -> Judge:
    """Write a simulated market, run over it, and judge its trades."""
    made = product(vault, "demo", "--trades-only", "--days", str(days), "--speed", speed)
    assert made.code == 0, made.text
    run(product, vault)
    return judge_with(vault, SIMULATED)


@pytest.fixture(scope="module")
def two_days(new_vault: MakeVault, product: Product) -> tuple[Path, Judge]:
    """Two whole days of a trade every fifth second."""
    vault = new_vault("two-days")
    return vault, simulated_days(product, vault, 2, "0.2")


@every_file
def test_simulated_days(two_days: tuple[Path, Judge], file: str) -> None:
    """Every layer of two whole days."""
    vault, judge = two_days
    assert assert_file(vault, file, SIMULATED, judge, TICKS[label(SIMULATED)])


@pytest.fixture(scope="module")
def ten_days(new_vault: MakeVault, product: Product) -> tuple[Path, Judge]:
    """Ten days of a trade every other second: wicks expire, the distribution of VPIN is full."""
    vault = new_vault("ten-days")
    return vault, simulated_days(product, vault, 10, "0.5")


@pytest.mark.slow
@every_file
def test_ten_simulated_days(ten_days: tuple[Path, Judge], file: str) -> None:
    """Every layer of ten whole days."""
    vault, judge = ten_days
    assert assert_file(vault, file, SIMULATED, judge, TICKS[label(SIMULATED)])


# -- invented instruments ------------------------------------------------------------


@pytest.fixture(scope="module")
def invented(new_vault: MakeVault, product: Product) -> Path:
    """Two runs over the invented instruments: over a part of their trades, then over all."""
    vault = new_vault("invented")
    write_ticks(vault, CASES)
    for case in CASES:
        case.write(vault, len(case.ticks) * 3 // 5)
    run(product, vault)
    for case in CASES:
        assert_written_so_far(vault, case)
        case.write(vault)
    run(product, vault)
    return vault


def assert_written_so_far(vault: Path, case: Case) -> None:
    """Between the runs a timed layer has its closed cells, and not one more."""
    judge = case.judge(vault)
    for file in ("cvd_1m.jsonl", "wicks_5m.jsonl"):
        wanted = [r["timestamp_utc"] for r in FILES[file][1](judge, case.published_tick)]
        found = [r["timestamp_utc"] for r in read_file(vault, file, case.instrument)]
        assert found == wanted, f"{file} of {case.name} before the last trades"


@pytest.fixture(scope="module")
def invented_judges(invented: Path) -> dict[str, Judge]:
    """Their trades, judged once."""
    return {case.name: case.judge(invented) for case in CASES}


EIGHT_DAYS = "OLD-WICKS"
"""Minutes on end in which next to nothing is traded: for the wicks, and long for the oracles."""
INVENTED = [
    pytest.param(
        case,
        file,
        id=f"{case.name}-{file}",
        marks=[pytest.mark.slow]
        if case.name == EIGHT_DAYS and file not in ("wicks_5m.jsonl", "footprint")
        else [],
    )
    for case in CASES
    for file in FILES
]


@pytest.mark.parametrize(("case", "file"), INVENTED)
def test_invented(invented: Path, invented_judges: dict[str, Judge], case: Case, file: str) -> None:
    """Each case, read in two runs."""
    judge = invented_judges[case.name]
    assert_file(invented, file, case.instrument, judge, case.published_tick)


@pytest.fixture(scope="module")
def late(new_vault: MakeVault, product: Product) -> Path:
    """A vault whose minutes wait five seconds for stragglers."""
    vault = new_vault("late")
    (vault / "flowvault.toml").write_text("[trades]\nlateness_ms = 5000\n", encoding="utf-8")
    write_ticks(vault, LATE_CASES)
    for case in LATE_CASES:
        case.write(vault)
    run(product, vault)
    return vault


@every_file
@pytest.mark.parametrize("case", LATE_CASES, ids=lambda case: case.name)
def test_stragglers(late: Path, case: Case, file: str) -> None:
    """Trades that come out of order, within five seconds and beyond."""
    judge = case.judge(late)
    assert judge.late > 0
    assert assert_file(late, file, case.instrument, judge, case.published_tick)


# -- the cases hold what they are for ------------------------------------------------


@pytest.fixture(scope="module")
def written(new_vault: MakeVault) -> Path:
    """The invented instruments' raw files."""
    vault = new_vault("written")
    for case in [*CASES, *LATE_CASES]:
        case.write(vault)
    return vault


def oracle_rows(written: Path, name: str, file: str) -> list[Row]:
    """What the oracle makes of a case."""
    (case,) = (c for c in [*CASES, *LATE_CASES] if c.name == name)
    return FILES[file][1](case.judge(written), case.published_tick)


def test_buckets_are_many_and_varied(written: Path) -> None:
    """More than 550 buckets, all four levels, trades that fill several at once."""
    rows = oracle_rows(written, "BUCKETS", "vpin.jsonl")
    assert len(rows) > 550
    assert {r["level"] for r in rows} == {None, "normal", "elevated", "high", "extreme"}
    assert len({r["bucket_volume"] for r in rows}) == 3
    assert sum(r["start_utc"] == r["timestamp_utc"] for r in rows) > 20
    over = [r for r in rows if r["start_utc"][:10] < r["timestamp_utc"][:10]]
    assert len(over) == 2
    assert 0.0 < rows[-1]["vpin_cdf"] < 1.0


def test_levels_meet_their_limits(written: Path) -> None:
    """Seven tenths are still high, a half no longer elevated, three tenths no more normal."""
    rows = oracle_rows(written, "LEVELS", "vpin.jsonl")
    found = {r["vpin"]: r["level"] for r in rows}
    assert (found[0.7], found[0.5], found[0.3], found[0.0]) == (
        *("high", "high", "elevated", "normal"),
    )


def test_limits_of_nodes_are_outside(written: Path) -> None:
    """Exactly one and a half times or half the mean is no node; the lower of two middles wins."""
    first, second, *_ = oracle_rows(written, "MIRROR", "profile_session.jsonl")
    for row in (first, second):
        assert (row["hvn"], row["lvn"], row["poc"]) == ([], [], 124.01)


def test_first_days(written: Path) -> None:
    """Buckets begin half an hour after the first trade, and never in a shorter day."""
    assert oracle_rows(written, "FIRST-29M", "vpin.jsonl") == []
    first = oracle_rows(written, "FIRST-DAY", "vpin.jsonl")[0]
    assert first["start_utc"] == "2024-03-05T09:30:00.000Z"
    first = oracle_rows(written, "LATE-START", "vpin.jsonl")[0]
    assert first["start_utc"][:16] == "2024-03-06T00:00"
    sizes = [r["bucket_volume"] for r in oracle_rows(written, "ONE-TRADE", "vpin.jsonl")]
    assert len(set(sizes)) == 3


def test_price_rows_without_a_tick(written: Path) -> None:
    """999 trades are too few; the thousandth may still make rows finer."""
    for file in ("footprint", "profile_session.jsonl", "profile_24h.jsonl", "extremes_30m.jsonl"):
        assert oracle_rows(written, "NO-TICK-999", file) == []
        assert oracle_rows(written, "NO-TICK-1000", file) != []
    prices = [r["price"] for r in oracle_rows(written, "NO-TICK-1000", "footprint")]
    assert [price for price in prices if price % 1 == 0.125]
    tiny = oracle_rows(written, "WEN-ETH", "footprint")
    assert all(len(f"{r['price']:.12f}".rstrip("0")) <= len("0.0010234") for r in tiny)


def test_windows_lose_their_past(written: Path) -> None:
    """The profile of 24 hours shrinks and is empty of what lies before a silence."""
    rows = oracle_rows(written, "SILENT-DAYS", "profile_24h.jsonl")
    totals = [r["total_volume"] for r in rows]
    assert any(later < earlier for earlier, later in pairwise(totals))
    assert {r["bias"] for r in rows} == {"BULLISH", "BEARISH", "NEUTRAL"}
    flat = oracle_rows(written, "COARSE", "profile_session.jsonl")[0]
    assert (flat["low"], flat["high"], flat["bin_size"]) == (100, 100, 0)


def test_wicks_grow_old(written: Path) -> None:
    """The third pair: its high is touched in its last bar, its low is gone one bar later."""
    rows = oracle_rows(written, "OLD-WICKS", "wicks_5m.jsonl")
    touched = {r["timestamp_utc"]: r["touched"] for r in rows}
    made = {"created_utc": "2024-03-05T00:30:00Z"}
    assert {"side": "high", "price": 201.0} | made in touched["2024-03-12T00:25:00Z"]
    assert {t["price"] for t in touched["2024-03-12T00:30:00Z"]} >= {50.0}
    assert {"side": "low", "price": 49.0} | made not in touched["2024-03-12T00:30:00Z"]
    assert not [t for row in touched.values() for t in row if t["price"] > 201]
    assert max(len(r["untouched_highs"]) for r in rows) == 10


def test_extremes_are_of_every_kind(written: Path) -> None:
    """Poor and clean, finished and unfinished, at both ends."""
    rows = [r for c in CASES for r in oracle_rows(written, c.name, "extremes_30m.jsonl")]
    for name in ("poor_high", "poor_low", "unfinished_high", "unfinished_low"):
        assert {r[name] for r in rows} == {True, False}


def test_impact_has_its_gaps(written: Path) -> None:
    """Nothing below thirty bars, no slope without variance, and then figures."""
    rows = oracle_rows(written, "STEADY", "impact_1m.jsonl")
    assert [r["n"] for r in rows[:61]] == [*range(61)]
    assert rows[35]["kyle_lambda"] is None
    assert rows[35]["amihud"] is None
    assert rows[-1]["kyle_se"] > 0
