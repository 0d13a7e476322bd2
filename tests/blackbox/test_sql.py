"""`flowvault sql`: a view for every layer, committed rows only, and errors with a next command."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from pipeline import stages
from pipeline.engine import sql
from pipeline.engine.reader import committed_length
from pipeline.engine.state import read_state
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument as Where
from pipeline.sim import write_market
from tests.oracle.raw import Instrument

from .conftest import REPO, MakeVault, Product
from .vaults import ms, plain_line, read_jsonl, write_raw

SWAP = "BTC-USDT-SWAP"
PLAIN = Instrument("plain", "spot", "X-Y")


@pytest.fixture(scope="module")
def market(product: Product, new_vault: MakeVault) -> Path:
    """Two hours of a simulated market, and a few plain trades of another instrument."""
    vault = new_vault("market")
    write_market(vault, days=1, hours=2, seed=3)
    lines = [plain_line(each, ms(7 * each), "100.5", "0.25") for each in range(100)]
    write_raw(vault, PLAIN, "2024-03-05", b"".join(lines))
    done = product(vault, "run", "--all")
    assert done.code == 0, done.text
    return vault


def rows_of(vault: Path, layer: str) -> int:
    """Committed rows of a layer, all instruments together."""
    stage = stages.owner(layer).name
    found = 0
    for path in (vault / "state" / stage).glob("*/*/*.state.json"):
        state = read_state(path)
        assert state is not None
        found += state.layers[layer].rows if layer in state.layers else 0
    return found


def test_every_layer_with_rows_has_a_view(market: Path) -> None:
    seen = 0
    for name, (layer, _) in stages.layers().items():
        wanted = rows_of(market, name)
        if not wanted:
            continue
        seen += 1
        rows = sql.query(market, f'select * from "{name}"')  # noqa: S608
        assert rows.height == wanted, name
        assert {"exchange", "market", "instId"} <= set(rows.columns), name
        assert {column.name for column in layer.columns} <= set(rows.columns), name
        assert set(rows["exchange"]) <= {"sim", "plain"}
        assert set(rows["market"]) <= {"perp", "spot"}
        if layer.format == "jsonl":
            assert rows.schema["timestamp_utc"] == pl.Datetime("us", "UTC")
    assert seen > 25


def test_rows_are_those_of_the_files(market: Path) -> None:
    file = market / "derived" / "bars" / "sim" / "perps" / SWAP / "bars_5m.jsonl"
    text = "select * from bars_5m where exchange = 'sim' order by timestamp_utc"
    found = sql.query(market, text).to_dicts()
    for left, right in zip(found, read_jsonl(file), strict=True):
        assert left.pop("timestamp_utc").strftime("%Y-%m-%dT%H:%M:%SZ") == right.pop(
            "timestamp_utc"
        )
        assert left == right


def test_names_in_capitals(market: Path) -> None:
    (row,) = sql.query(market, "SELECT COUNT(*) AS n FROM BARS_1M").to_dicts()
    assert row["n"] == rows_of(market, "bars_1m")


def test_layers_together(market: Path) -> None:
    text = """select count(*) as n, sum(v.trade_count) as trades, count(distinct b."instId") as i
              from volume_1m v join bars_1m b using (exchange, market, "instId", timestamp_utc)"""
    (row,) = sql.query(market, text).to_dicts()
    assert (row["n"], row["i"]) == (rows_of(market, "bars_1m"), 2)
    (known,) = sql.query(market, "select sum(trades) as trades from bars_1m").to_dicts()
    assert row["trades"] == known["trades"]


def test_formats(product: Product, market: Path, tmp_path: Path) -> None:
    text = 'select "instId", close, touched from bars_5m join wicks_5m '
    text += "using (exchange, market, \"instId\", timestamp_utc) where exchange = 'sim' limit 60"
    table = product(market, "sql", text)
    assert table.code == 0, table.text
    as_json = product(market, "sql", text, "--format", "json")
    lines = [json.loads(line) for line in as_json.out.splitlines()]
    assert {line["instId"] for line in lines} == {SWAP}
    assert table.out.count(SWAP) == len(lines) > 20
    assert isinstance(lines[0]["touched"], list)
    as_csv = product(market, "sql", text, "--format", "csv").out.splitlines()
    assert as_csv[0] == "instId,close,touched"
    assert len(as_csv) == len(lines) + 1
    for name in ("a.parquet", "a.csv", "a.json", "a.jsonl"):
        done = product(market, "sql", text, "-o", str(tmp_path / name))
        assert (done.code, done.out) == (0, ""), done.text
    assert pl.read_parquet(tmp_path / "a.parquet").height == len(lines)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines() == as_csv
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "a.jsonl").read_bytes()
    assert product(market, "sql", text, "--format", "parquet").code == 2


def test_many_rows_are_cut_short_in_a_table_only(product: Product, market: Path) -> None:
    done = product(market, "sql", "select seq from trades")
    assert f"{rows_of(market, 'trades') - 50:,} more rows" in done.out
    every = product(market, "sql", "select seq from trades", "--format", "csv")
    assert len(every.out.splitlines()) == rows_of(market, "trades") + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("selec 1", "syntax error"),
        ("select * from nowhere", "nowhere"),
        ("select nothing from bars_1m", "nothing"),
        ("select close + instId from bars_1m", "sql"),
    ],
)
def test_a_wrong_query(product: Product, market: Path, text: str, words: str) -> None:
    done = product(market, "sql", text)
    assert done.code == 2, done.text
    assert words in done.err
    assert "flowvault layers" in done.err


def test_a_layer_without_rows(product: Product, market: Path) -> None:
    done = product(market, "sql", "select * from ratio_1m")
    assert done.code == 66, done.text
    assert "ratio_1m" in done.err
    assert "flowvault run --all --stage ratio" in done.err


def test_nothing_is_written(product: Product, market: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in market.rglob("*") if p.is_file())
    assert product(market, "sql", "select count(*) from bars_1m, trades").code == 0
    assert sorted((p, p.stat().st_mtime_ns) for p in market.rglob("*") if p.is_file()) == before


# -- beside a run that is killed -------------------------------------------------------------

LAYERS = ("trades", "bars_1m", "volume_1m")


def drawn(rng: random.Random, count: int) -> list[bytes]:
    lines, at = [], 0.0
    for number in range(count):
        at += rng.random() * 0.6
        price, size = f"{100 + rng.randrange(100) / 10}", f"{rng.randrange(1, 99)}"
        lines.append(plain_line(number, ms(at), price, size, rng.choice(("buy", "sell"))))
    return lines


def shown(vault: Path, layer: str) -> list[str]:
    """The rows of a query, in the layer's order, as texts; none if there are none yet."""
    order = "seq" if layer == "trades" else "timestamp_utc"
    try:
        rows = sql.query(vault, f"select * from {layer} order by {order}")  # noqa: S608
    except MissingInputError:
        return []
    return [str(row) for row in rows.rows()]


@pytest.mark.parametrize(
    ("slices", "count"), [(2, 20_000), pytest.param(7, 100_000, marks=pytest.mark.slow)]
)
def test_queries_beside_a_killed_run_see_committed_rows_only(
    new_vault: MakeVault, slices: int, count: int
) -> None:
    """Never fewer than were committed before the query, nor more than after it; none goes away."""
    vault, rng = new_vault("killed"), random.Random(5)
    where = Where(PLAIN.exchange, PLAIN.market, PLAIN.inst_id)
    lines = drawn(rng, count)
    command = [sys.executable, "-m", "pipeline", "--vault", str(vault), "run", "--all"]
    command += [word for name in ("trades", "bars", "volume") for word in ("--stage", name)]
    seen: dict[str, list[str]] = {name: [] for name in LAYERS}
    killed = looks = 0

    def look(name: str) -> None:
        layer, stage = stages.layers()[name]
        low = committed_length(vault, layer, stage.name, where) if layer.format == "parquet" else 0
        low = low or rows_of(vault, name)
        rows = shown(vault, name)
        assert low <= len(rows) <= rows_of(vault, name)
        assert rows[: len(seen[name])] == seen[name]
        seen[name] = rows

    for part in range(1, slices + 1):
        cut = len(lines) * part // slices
        write_raw(vault, PLAIN, "2024-03-05", b"".join(lines[:cut]))
        for is_last in (False, False, True):
            run = subprocess.Popen(
                command, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            until = time.monotonic() + 0.2 + rng.random() * 0.8
            while run.poll() is None and (is_last or time.monotonic() < until):
                look(rng.choice(LAYERS))
                looks += 1
            if run.poll() is None:
                run.kill()
                killed += 1
            _, errors = run.communicate()
            assert run.returncode in (0, -9, 1), errors
            for name in LAYERS:
                look(name)
    assert killed
    assert looks > len(LAYERS)
    final = pl.read_parquet(vault / "derived" / "trades" / "plain" / "spot" / "X-Y" / "*.parquet")
    assert final.height == len(seen["trades"]) == count


def test_readers_of_other_programs_find_the_same(market: Path) -> None:
    """Once no run is under way, what lies in the files is what is committed."""
    folder = market / "derived" / "trades" / "sim" / "perps" / SWAP
    count = pl.scan_parquet(folder / "*.parquet").select(pl.len()).collect().item()
    (ours,) = sql.query(market, "select count(*) from trades where exchange = 'sim'").rows()[0]
    assert count == ours
