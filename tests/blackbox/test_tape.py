"""US equity tapes: every row as the oracle has it, real figures, and the command line."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.engine.summary import Summary
from pipeline.errors import FlowvaultError
from tests.laws.feedstock import Mix, Stock
from tests.laws.tape import TAPE, make_tape
from tests.laws.world import World, unsynced
from tests.oracle import tape as oracle

from .conftest import MakeVault, Product
from .tape_days import MONDAY, Trade, rows, world_of

Row = dict[str, Any]
BUSY = Mix(dirt=0.04, late=0.04, duplicate=0.04, future=0.02)


@pytest.fixture(autouse=True)
def _unsynced() -> Iterator[None]:
    with unsynced():
        yield


def files(stock: Stock, kind: str) -> list[tuple[str, bytes]]:
    """Name and bytes of each day file of a feed."""
    days = stock.days if kind == "trades" else stock.others[kind]
    return [(name, b"".join(line.data for line in lines)) for name, lines in sorted(days.items())]


def close_to(found: Row, wanted: Row) -> None:
    """The same keys and values; of doubles up to rounding."""
    assert set(found) - {"ts"} == set(wanted)
    for name, value in wanted.items():
        if isinstance(value, float):
            assert found[name] is not None, name
            assert math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-9), name
        else:
            assert found[name] == value, name


def run(root: Path, stock: Stock, *, is_quoted: bool, settings: str) -> tuple[World, Row]:
    """A vault with a tape, run once."""
    world = World(root / "vault", TAPE)
    content = stock.content()
    world.put({name: data for name, data in content.items() if is_quoted or "/" not in name})
    world.settings(settings)
    found: dict[str, Summary] = world.run()
    return world, {name: each.counts for name, each in found.items()}


CASES = [
    # seed, days, trades, quotes, lag, letters, days of VPIN, days of lambda
    pytest.param(1, 8, 300, True, 0, False, 20, 30, id="flags"),
    pytest.param(2, 8, 300, True, 0, True, 20, 30, id="letters"),
    pytest.param(3, 8, 300, True, 5000, False, 20, 30, id="lag"),
    pytest.param(4, 8, 300, False, 0, False, 20, 30, id="no quotes"),
    pytest.param(5, 26, 230, True, 250, True, 20, 30, id="a month"),
    pytest.param(6, 14, 400, True, 0, False, 6, 4, id="short windows"),
]


@pytest.mark.parametrize(
    ("seed", "days", "trades", "is_quoted", "lag", "letters", "vpin_days", "lambda_days"), CASES
)
def test_every_row_is_the_oracles(
    seed: int,
    days: int,
    trades: int,
    is_quoted: bool,
    lag: int,
    letters: bool,
    vpin_days: int,
    lambda_days: int,
    tmp_path: Path,
) -> None:
    """Counts, classified trades and both daily tables of a random tape full of accidents."""
    stock = make_tape(seed, trades, BUSY, days, letters=letters)
    written = "letters" if letters else "flags"
    settings = (
        f'[classify]\nlag_ms = {lag}\ncond_format = "{written}"\n'
        f"[metrics_daily]\nvpin_days = {vpin_days}\nlambda_days = {lambda_days}\n"
    )
    world, counts = run(tmp_path, stock, is_quoted=is_quoted, settings=settings)
    wanted = oracle.tape(
        "AIG",
        files(stock, "trades"),
        files(stock, "quotes") if is_quoted else None,
        lag * 1000,
        letters,
        vpin_days,
        lambda_days,
    )
    seen = counts["tape"]
    told = wanted.trades
    assert (seen.bad, seen.late, seen.duplicate) == (told.bad, told.late, told.duplicate)
    assert min(told.bad, told.late, told.duplicate) > 0
    if wanted.quotes is not None:
        assert counts["bbo"].bad == wanted.quotes.bad
    classified = rows(world, "classified")
    assert classified == wanted.classified
    assert {row["rule"] for row in classified} >= {"tick", "auction"} | (
        {"quote"} if is_quoted else set()
    )
    for layer, table in (
        ("micro_trade_classification", wanted.days),
        ("micro_metrics_daily", wanted.metrics),
    ):
        found = rows(world, layer)
        assert len(found) == len(table) >= days - 3
        for row, other in zip(found, table, strict=True):
            close_to(row, other)
    last = wanted.metrics[-1]
    assert last["vpin"] is not None
    assert (last["kyles_lambda"] is not None) == is_quoted


# -- five real sessions, from the command line -------------------------------


@pytest.fixture(scope="module")
def aig(captures: Path, new_vault: MakeVault, product: Product) -> Path:
    """A vault with the captured tape, run once with everything else that is there."""
    vault = new_vault("aig")
    shutil.copytree(captures / "raw" / "taq", vault / "raw" / "taq")
    done = product(vault, "run", "--all", "--json")
    assert done.code == 0, done.err
    found = {row["stage"]: row for row in done.summaries}
    assert set(found) == {"tape", "bbo", "classify", "metrics_daily"}
    assert found["tape"]["rows_in"] == found["tape"]["rows_out"] == 206_337
    assert found["bbo"]["rows_in"] == found["bbo"]["rows_out"] == 2_958_547
    assert found["metrics_daily"]["rows_out"] == 5
    assert {(row["late"], row["duplicate"], row["bad"]) for row in found.values()} == {(0, 0, 0)}
    return vault


def asked(product: Product, vault: Path, query: str) -> list[Row]:
    """What a query gives."""
    done = product(vault, "sql", "--format", "json", query)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_figures_of_the_sample(aig: Path, product: Product) -> None:
    """To the last digit that was worked out elsewhere."""
    found = asked(
        product,
        aig,
        "select * from micro_metrics_daily join micro_trade_classification "
        "using (symbol, trade_date) order by trade_date",
    )
    assert [row["trade_date"] for row in found] == [f"2013-10-{day:02d}" for day in range(7, 12)]
    volumes = ("total_volume", "total_buy_volume", "total_sell_volume", "total_neutral_volume")
    first, last = found[0], found[-1]
    assert [first[name] for name in volumes] == [4_918_283, 2_397_563, 2_471_374, 49_346]
    assert [last[name] for name in volumes[:3]] == [6_030_627, 3_261_596, 2_650_719]
    assert round(first["kyles_lambda"], 2) == 3.85
    assert round(first["kyles_lambda_r2"], 3) == 0.064
    assert round(first["quoted_spread_bps"], 3) == 2.154
    assert round(first["effective_spread_bps"], 3) == 2.364
    assert [row["vpin"] is None for row in found] == [True, True, True, True, False]
    assert round(last["vpin"], 7) == 0.1536126
    assert last["vpin_quality_flag"] == "LOW"
    assert round(last["kyles_lambda"], 6) == 3.111066
    assert round(last["kyles_lambda_se"], 6) == 0.569930
    assert round(last["kyles_lambda_r2"], 6) == 0.072184
    assert round(last["quoted_spread_bps"], 5) == 2.12629
    assert round(last["effective_spread_bps"], 5) == 2.72582
    assert round(last["realized_spread_bps"], 5) == 0.97226
    assert {row["classification_method"] for row in found} == {"LEE_READY"}
    assert {row["data_completeness"] for row in found} == {1}
    assert all(row["available_date"] == row["trade_date"] for row in found)
    assert {(row["exchange"], row["market"], row["instId"]) for row in found} == {
        ("taq", "equity", "AIG")
    }


def test_status_does_not_wait_for_quotes_after_hours(aig: Path, product: Product) -> None:
    """The last quote is of 15:59:59, the last trade of 19:26; nothing is missing."""
    done = product(aig, "status", "--json")
    assert done.code == 0
    told_of = [json.loads(line) for line in done.out.splitlines()]
    found = [row for row in told_of if row["instId"] == "AIG"]  # market-wide tables stand beside
    assert not any("waits_for" in row for row in found)
    assert {row["layer"]: row["rows"] for row in found} == {
        "bbo": 2_958_547,
        "tape": 206_337,
        "classified": 205_343,
        "micro_trade_classification": 5,
        "micro_metrics_daily": 5,
    }


@pytest.mark.slow
def test_a_rebuild_gives_the_same_bytes(aig: Path, product: Product) -> None:
    def seen() -> dict[str, bytes]:
        files = (aig / "derived").glob("[cm]*/**/*.parquet")
        return {path.relative_to(aig).as_posix(): path.read_bytes() for path in files}

    before = seen()
    assert len(before) > 5
    done = product(aig, "rebuild", "classify", "-i", "AIG")
    assert done.code == 0, done.err
    assert seen() == before


@pytest.mark.slow
def test_day_by_day_gives_the_same_bytes(
    aig: Path, captures: Path, new_vault: MakeVault, product: Product
) -> None:
    """A day's files a run, as they are delivered, trades before quotes."""
    vault = new_vault("daily")
    for day in range(7, 12):
        for kind in ("trades", "quotes"):
            name = f"raw/taq/{kind}/AIG/2013-10-{day:02d}.jsonl.gz"
            (vault / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(captures / name, vault / name)
            if day == 7 and kind == "trades":
                continue  # which feeds there are is settled by the first run
            assert product(vault, "run", "--all").code == 0
    for path in (aig / "derived").rglob("*.parquet"):
        other = vault / path.relative_to(aig)
        assert path.read_bytes() == other.read_bytes(), path


# -- the command line, on a small vault --------------------------------------

DAY: list[Trade] = [("10:00:00", 10.0, 100), ("11:00:00", 10.1, 50), ("15:30:00", 10.0, 10)]


def told(vault: Path, *arguments: str) -> tuple[int, str]:
    """Status and output of a command."""
    done = CliRunner().invoke(cli, ["--vault", str(vault), *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        assert isinstance(done.exception, FlowvaultError), done.exception
        return done.exception.status, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with one hand-made day of one symbol, and a whale feed for everybody."""
    with unsynced():
        world = world_of(
            tmp_path_factory.mktemp("small"), {MONDAY: (DAY, [("09:30:00", 9.9, 10.1)])}
        )
        whales = world.root / "raw" / "whale_alert" / "transactions"
        whales.mkdir(parents=True)
        (whales / f"{MONDAY}.jsonl").write_bytes(b"\n")
        world.run()
    return world.root


def test_only_stages_of_its_market_run_for_a_tape(small: Path) -> None:
    status, output = told(small, "run", "--all", "--json")
    assert status == 0
    lines = [json.loads(line) for line in output.splitlines()]
    names = [line["stage"] for line in lines if line["instId"]]  # market-wide tables are of none
    assert sorted(names) == ["bbo", "classify", "metrics_daily", "tape"]
    assert {path.name for path in (small / "state").iterdir()} == {*names, "tables"}


@pytest.mark.parametrize("name", ["tape", "classify", "metrics_daily"])
def test_commands_know_that_equities_are_meant(name: str, small: Path) -> None:
    """Without --exchange and --market, where a stage is for nothing else."""
    status, output = told(small, name, "-i", "AIG", "--json")
    assert status == 0, output
    assert {json.loads(line)["instId"] for line in output.splitlines()} == {"AIG"}
    status, output = told(small, "tail", name, "-i", "AIG", "-n", "1")
    assert (status, output.count("\n")) == (0, 1)
    assert told(small, "rebuild", name, "-i", "AIG")[0] == 0
    assert told(small, "run", "--stage", name, "-i", "AIG")[0] == 0


def test_one_of_exchange_and_market_is_enough(small: Path) -> None:
    assert told(small, "run", "-i", "AIG", "--exchange", "taq")[0] == 0
    assert told(small, "run", "-i", "AIG", "--market", "equities")[0] == 0
    status, output = told(small, "run", "-i", "AIG")
    assert status == 66
    assert "-i AIG --exchange taq --market equities" in output


def test_stages_of_other_markets_say_so(small: Path) -> None:
    status, output = told(small, "volume", "-i", "AIG", "--exchange", "taq")
    assert status == 2
    assert "volume of taq/equities/AIG: for perps and spot only" in output
    assert told(small, "classify", "-i", "AIG", "--exchange", "taq", "--market", "spot")[0] == 66


def test_a_days_row_is_explained_down_to_the_raw_lines(small: Path) -> None:
    at = ("--at", "2013-10-07T15:00:00Z")
    status, output = told(small, "explain", "-i", "AIG", *at, "--layer", "metrics_daily")
    assert status == 0, output
    for words in (
        "raw/taq/trades/AIG/2013-10-07.jsonl.gz",
        "raw/taq/quotes/AIG/2013-10-07.jsonl.gz",
        "for micro_metrics_daily: from 29 rows before on",
        "classify, version 1",
        "2013-10-07T13:30:00Z to 2013-10-07T20:00:00Z",
    ):
        assert words in output
    assert "micro_metrics_daily" in told(small, "explain", "-i", "AIG", "--exchange", "taq", *at)[1]


def test_names_and_words_of_the_market(small: Path) -> None:
    """Folders say equities, rows say equity."""
    status, output = told(
        small, "sql", "--format", "json", "select distinct exchange, market, instId from classified"
    )
    assert status == 0
    assert json.loads(output) == {"exchange": "taq", "market": "equity", "instId": "AIG"}
    assert (small / "derived" / "classified" / "taq" / "equities" / "AIG").is_dir()
