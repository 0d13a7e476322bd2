"""`analyze` gives the rows that a vault with the same records has."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from pipeline import FlowvaultError, analyze, stages
from pipeline.errors import UsageError
from pipeline.frames.analyze import Analysis
from tests.laws.world import unsynced

from .market import WHERE, Market, market, run

NAMES: dict[str, Any] = {
    "inst_id": WHERE.inst_id,
    "exchange": WHERE.exchange,
    "market": WHERE.market,
}


@pytest.fixture(scope="module")
def made() -> Market:
    """The market."""
    return market(11)


@pytest.fixture(scope="module")
def vault(made: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault that saw it in three pieces, its raw data in two day files."""
    root = tmp_path_factory.mktemp("analyze") / "vault"
    root.mkdir()
    with unsynced():
        for share in (0.3, 0.75, 1.0):
            made.write(root, share)
            run(root)
    return root


def trades_of(made: Market) -> pl.DataFrame:
    """Trades as a polars frame."""
    columns = {name: made.column("trades", name) for name in ("price", "size", "side", "id")}
    return pl.DataFrame({"ts": made.times("trades"), **columns})


def books_of(made: Market) -> pl.DataFrame:
    """Books as a polars frame, a row a book."""
    columns = {name: made.column("books", name) for name in ("bids", "asks")}
    return pl.DataFrame({"ts": made.times("books"), **columns})


def quotes_of(made: Market) -> pl.DataFrame:
    """Quotes as a polars frame."""
    names = ("bid", "bid_size", "ask", "ask_size")
    columns = {name: made.column("quotes", name) for name in names}
    return pl.DataFrame({"ts": made.times("quotes"), **columns})


@pytest.fixture(scope="module")
def whole(made: Market) -> Analysis:
    """Everything in one call."""
    with unsynced():
        return analyze(trades_of(made), books_of(made), quotes_of(made), **NAMES)


def plain(value: Any) -> Any:
    """A value as JSON has it; keys without a value left out.

    A frame has numbers beside texts as texts: `value` of the factors of a verdict.
    """
    if isinstance(value, dict):
        found = {key: plain(each) for key, each in value.items() if each is not None}
        return {**found, "value": str(found["value"])} if "factor" in found else found
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


def rows_in_files(vault: Path, name: str) -> list[Any]:
    """A layer's rows, read without the package."""
    layer, _ = stages.layers()[name]
    folder = vault / "derived" / layer.folder / WHERE.exchange / WHERE.market / WHERE.inst_id
    if layer.format == "parquet":
        parts = sorted(folder.glob("*.parquet"))
        return [row for part in parts for row in pl.read_parquet(part).rows(named=True)]
    files = sorted(folder.glob(layer.file))
    if layer.format == "json":
        return [plain(json.loads(file.read_bytes())) for file in files]
    return [plain(json.loads(line)) for file in files for line in file.read_bytes().splitlines()]


def rows_of(frame: pl.DataFrame, name: str) -> list[Any]:
    """A frame's rows in the same shape."""
    layer, _ = stages.layers()[name]
    if layer.format == "parquet":
        return frame.rows(named=True)
    if layer.format == "jsonl":
        form = "%Y-%m-%dT%H:%M:%S%.3fZ" if layer.stamp == "ms" else "%Y-%m-%dT%H:%M:%SZ"
        frame = frame.with_columns(pl.col("timestamp_utc").dt.strftime(form))
    return [plain(row) for row in frame.rows(named=True)]


def test_rows_are_those_of_a_vault(vault: Path, whole: Analysis) -> None:
    made = {path.name for path in (vault / "state").iterdir()}
    wanted = {layer.name for name in made for layer in stages.load(name).layers}
    assert set(whole) == wanted
    filled = 0
    for name, frame in whole.items():
        assert rows_of(frame, name) == rows_in_files(vault, name), name
        filled += frame.height > 0
    assert {"volume_1m", "micro_1m", "orderflow_1m", "vpin", "clusters"} <= set(whole)
    assert filled > 30


def test_what_was_not_used_is_told_by_row(vault: Path, made: Market, whole: Analysis) -> None:
    folder = vault / "quarantine" / WHERE.exchange / f"trades_{WHERE.market}" / WHERE.inst_id
    files = sorted(folder.glob("*.jsonl"))
    known = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    assert whole.rejected["reason"].to_list() == [each["reason"] for each in known]
    assert set(whole.rejected["reason"]) == {"price", "late", "future"}
    assert set(whole.rejected["kind"]) == {"trades"}
    for row, line in zip(whole.rejected["row"], known, strict=True):
        assert made.records["trades"][row]["id"] == int(json.loads(line["raw"])["id"])
    first = whole.summary.row(by_predicate=pl.col("stage") == "trades", named=True)
    assert first["rows_in"] == len(made.records["trades"])
    assert first["late"] == known.count({}) + sum(each["reason"] == "late" for each in known)
    assert first["rows_out"] == whole["trades"].height


def test_the_open_minute_is_not_among_them(whole: Analysis) -> None:
    last = whole["trades"]["ts"].max()
    assert isinstance(last, datetime)
    assert whole["bars_1m"]["timestamp_utc"].max() < last.replace(second=0, microsecond=0)  # type: ignore[operator]
    assert whole["bars_1m"]["trades"].sum() < whole["trades"].height


def same(given: Any, frame: pl.DataFrame, only: str = "volume", **more: Any) -> None:
    """Two ways to hand over the same trades."""
    with unsynced():
        found = analyze(given, only=only, **NAMES, **more)
        wanted = analyze(frame, only=only, **NAMES, **more)
    assert set(found) == set(wanted)
    for name in found:
        assert found[name].equals(wanted[name]), name
    assert found["trades"].height


def shapes(frame: pl.DataFrame) -> dict[str, Any]:
    """The same trades in other hands."""
    us = frame["ts"].dt.timestamp("us")
    texts = frame.with_columns(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S%.3f"))
    return {
        "lazy": frame.lazy(),
        "pandas": frame.to_pandas(),
        "pyarrow": frame.to_arrow(),
        "mapping": frame.to_dict(as_series=False),
        "microseconds": frame.with_columns(us.alias("ts")),
        "texts": texts.with_columns(pl.col("price", "size").cast(pl.String)),
        "naive": frame.with_columns(pl.col("ts").dt.replace_time_zone(None)),
        "nanoseconds": frame.with_columns(pl.col("ts").dt.cast_time_unit("ns")),
        "other zone": frame.with_columns(pl.col("ts").dt.convert_time_zone("Asia/Tokyo")),
        "signs": frame.with_columns(side=pl.when(pl.col("side") == "buy").then(1).otherwise(-1)),
        "capitals": frame.with_columns(pl.col("side").str.to_uppercase()),
        "categories": frame.with_columns(pl.col("side").cast(pl.Categorical)),
        "trade_id": frame.rename({"id": "trade_id"}),
        "more columns": frame.with_columns(pl.lit(value=True).alias("is_maker")),
    }


def test_frames_of_every_kind(made: Market) -> None:
    frame = trades_of(made).head(400)
    for given in shapes(frame).values():
        same(given, frame)


def test_decimals(made: Market) -> None:
    frame = trades_of(made).filter(pl.col("price") > 0).head(300)
    given = frame.to_dict(as_series=False)
    given["price"] = [Decimal(str(price)) for price in given["price"]]
    same(given, frame, "bars")
    same(pd.DataFrame(given), frame, "bars")


def test_times_finer_than_a_millisecond(made: Market) -> None:
    frame = trades_of(made).head(300).with_columns(pl.col("ts") + pl.duration(microseconds=7))
    with unsynced():
        found = analyze(frame, only="trades", **NAMES)
    used = set(range(frame.height)) - set(found.rejected["row"])
    assert set(found["trades"]["ts"]) <= {frame["ts"][row] for row in used}


def test_without_ids_no_trade_is_a_repetition(made: Market) -> None:
    frame = trades_of(made).filter(pl.col("price") > 0).head(300).drop("id")
    with unsynced():
        found = analyze(frame, only="trades", **NAMES)
    assert found.summary["duplicate"].to_list() == [0]
    assert found["trades"].height + found.rejected.height == 300


def test_books_a_row_a_level(made: Market) -> None:
    books = books_of(made)
    rows = [
        (ts, side, price, size)
        for ts, bids, asks in books.rows()
        for side, levels in (("bid", bids), ("ask", asks))
        for price, size in levels
    ]
    levels = pl.DataFrame(rows, schema=["ts", "side", "price", "size"], orient="row")
    as_structs = [
        [{"price": price, "size": size} for price, size in each]
        for each in made.column("books", "bids")
    ]
    with unsynced():
        wanted = analyze(books=books, only=["buckets", "micro"], **NAMES)
        found = analyze(books=levels, only=["buckets", "micro"], **NAMES)
        mixed = books.with_columns(pl.Series("bids", as_structs))
        again = analyze(books=mixed, only=["buckets", "micro"], **NAMES)
        from_pandas = analyze(books=books.to_pandas(), only=["buckets", "micro"], **NAMES)
    assert wanted["buckets_1m"].height > 20
    for name in wanted:
        assert found[name].equals(wanted[name]), name
        assert again[name].equals(wanted[name]), name
        assert from_pandas[name].equals(wanted[name]), name


def test_parameters_and_the_tick(made: Market) -> None:
    frame = trades_of(made).head(1500)
    with unsynced():
        usual = analyze(frame, only=["volume", "footprint"], **NAMES)
        other = analyze(
            frame,
            only=["volume", "footprint"],
            params={"volume": {"whale_notional": 20000.5}},
            tick=0.5,
            **NAMES,
        )
    assert other["volume_1m"]["whale_count"].sum() > usual["volume_1m"]["whale_count"].sum()
    rows = other["footprint"]["price"]
    assert (rows * 2 == (rows * 2).round()).all()
    assert not (usual["footprint"]["price"] * 2 == (usual["footprint"]["price"] * 2).round()).all()


def test_open_interest_and_positions(made: Market) -> None:
    frame = trades_of(made).head(1200)
    times = pl.Series(frame["ts"][::50])
    interest = pl.DataFrame({"ts": times, "open_interest": [1000.0 + n for n in range(len(times))]})
    held = pl.DataFrame({"ts": times, "position": [n - 3.5 for n in range(len(times))]})
    with unsynced():
        found = analyze(
            frame, open_interest=interest, positions=held, only=["open_interest", "positions"]
        )
    assert found["positions"]["position"].to_list()[:2] == [-3.5, -2.5]
    assert found["open_interest_1m"]["open_interest"][0] >= 1000
    assert set(found["open_interest_1m"]["exchange"]) == {"frame"}


def test_more_than_one_bad_row_in_a_hundred_is_said(made: Market) -> None:
    frame = trades_of(made).filter(pl.col("price") > 0).head(100)
    frame = frame.with_columns(size=pl.lit(float("nan")))
    with unsynced(), pytest.warns(UserWarning, match=r"rows were not used; see \.rejected"):
        found = analyze(frame, only="trades", **NAMES)
    assert found["trades"].height == 0
    assert set(found.rejected["reason"]) == {"size"}


GOOD = {"ts": [datetime(2024, 3, 5, tzinfo=UTC)], "price": [1.0], "size": [1.0], "side": ["buy"]}


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ({**GOOD, "price": [None]}, {"only": "volum"}, "no stage 'volum'"),
        ({"ts": [1], "price": [1.0]}, {}, "no column 'size'"),
        ([1, 2], {}, "builtins.list is not a frame"),
        ({**GOOD, "ts": [1_709_681_400_000]}, {}, "not in microseconds"),
        ({**GOOD, "ts": [1.5]}, {}, "ts is Float64"),
        ({**GOOD, "price": [True]}, {}, "price is Boolean"),
        ({**GOOD, "ts": [1, 2]}, {}, "trades:"),
        (GOOD, {"exchange": "okx"}, "own format"),
        (GOOD, {"inst_id": "BTC/USDT"}, "inst_id 'BTC/USDT'"),
        (GOOD, {"market": "perp"}, "perps, spot"),
        (GOOD, {"tick": "fine"}, "tick 'fine' is not a positive number"),
        (GOOD, {"tick": -0.1}, "not a positive number"),
        (GOOD, {"tick": float("nan")}, "not a positive number"),
        (GOOD, {"params": {"volum": {}}}, r"\[volum\] is not a stage"),
        (GOOD, {"params": {"volume": {"windo": 3}}}, "no key 'windo'"),
        (GOOD, {"params": {"volume": {"window": -3}}}, "window"),
        ({}, {}, "no rows to analyze"),
        ({"price": [1.0]}, {}, "no column 'ts'"),
        ({name: [] for name in GOOD}, {}, "no rows to analyze"),
        (None, {}, "no rows to analyze"),
        (GOOD, {"books": {"ts": GOOD["ts"], "bids": [1.0], "asks": [1.0]}}, "bids is Float64"),
        (
            GOOD,
            {"books": {**GOOD, "side": ["bid"], "is_snapshot": [False]}},
            "every event must be a whole book",
        ),
        (GOOD, {"books": {**GOOD, "side": ["left"]}}, "side 'left'"),
    ],
)
def test_what_cannot_be_read(given: Any, more: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        analyze(given, **more)


def test_nothing_is_left_behind(
    made: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the temporary folder nor where the caller stands, nor in a vault of theirs."""
    for name in ("tmp", "here", "vault"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FLOWVAULT_VAULT", str(tmp_path / "vault"))
    (tmp_path / "vault" / "flowvault.toml").write_text("[nonsense]\n", encoding="utf-8")
    with unsynced():
        analyze(trades_of(made).head(200), only="bars")
        with pytest.raises(FlowvaultError):
            analyze(trades_of(made).head(5), params={"bars": {"whale_notional": -1}})
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["flowvault.toml"]
    assert not list((tmp_path / "tmp").iterdir())
