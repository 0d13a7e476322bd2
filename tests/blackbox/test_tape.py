"""US equity tapes: every row as the oracle has it, real figures, and the command line."""

from __future__ import annotations

import datetime
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.engine.runner import Summary
from tests.laws.feedstock import Mix, Stock
from tests.laws.tape import TAPE, make_tape
from tests.laws.world import World, unsynced
from tests.oracle import tape as oracle

from .conftest import MakeVault, Product

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


def rows(world: World, layer: str) -> list[Row]:
    """The rows of a layer, times as microseconds."""
    folder = world.root / "derived" / layer / "taq" / "equities" / "AIG"
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        return []
    frame = pl.concat([pl.read_parquet(part) for part in parts])
    return frame.with_columns(pl.col("ts").dt.timestamp("us")).to_dicts()


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
    pytest.param(5, 26, 600, True, 250, True, 20, 30, id="a month"),
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
