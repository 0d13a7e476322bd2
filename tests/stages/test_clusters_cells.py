"""A trade waits until it is known which book of the cell it fell into stands before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
from click.testing import CliRunner

from pipeline.cli.main import cli

T = 1_709_683_200_000


def feed(vault: Path, kind: str, *records: dict[str, Any]) -> None:
    """Append records, their times counted from T."""
    folder = vault / "raw" / "plain" / f"{kind}_spot" / "X"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "2024-03-06.jsonl").open("a", encoding="utf-8") as stream:
        for each in records:
            stream.write(json.dumps(each | {"ts": T + each["ts"]}) + "\n")


def book(ts: int, size: int) -> dict[str, Any]:
    return {"ts": ts, "bids": [["10", str(size)]], "asks": [["11", str(size)]]}


def quote(ts: int) -> dict[str, Any]:
    return {"ts": ts, "bid": "10", "bid_size": "1", "ask": "11", "ask_size": "1"}


def trade(ts: int) -> dict[str, Any]:
    return {"ts": ts, "price": "11", "size": "1", "side": "buy", "id": str(ts)}


def run(vault: Path) -> list[tuple[int, float | None]]:
    """Time after T and log_sbs of every trade written."""
    options = ["-i", "X", "--exchange", "plain", "--market", "spot"]
    done = CliRunner().invoke(cli, ["--vault", str(vault), "clusters", *options])
    assert done.exit_code == 0, done.output
    parts = sorted((vault / "derived" / "clusters").rglob("*.parquet"))
    if not parts:
        return []
    rows = pl.concat([pl.read_parquet(part) for part in parts])
    times = (rows["ts"].dt.timestamp("ms") - T).to_list()
    return list(zip(times, rows["log_sbs"].to_list(), strict=True))


def test_an_event_of_the_cell_is_enough(tmp_path: Path) -> None:
    """The event at 1040 shows that no row of its cell stands before a trade at 1040."""
    for name, first, later in (("last", 1040, 1140), ("not last", 1040, 1095)):
        vault = tmp_path / name
        feed(vault, "books", book(940, 1), book(first - 20, 2), book(first, 2))
        feed(vault, "quotes", quote(900), quote(1500))
        feed(vault, "trades", trade(960), trade(1040), trade(1500))
        before = run(vault)
        assert [ts for ts, _ in before] == [960, 1040]
        feed(vault, "books", book(later, 7), book(1600, 7))
        rows = run(vault)
        assert rows[:2] == before
        assert [ts for ts, _ in rows] == [960, 1040, 1500]
        whole = tmp_path / f"{name} at once"
        _copy(vault, whole)
        assert run(whole) == rows


def _copy(vault: Path, whole: Path) -> None:
    for file in (vault / "raw").rglob("*.jsonl"):
        target = whole / file.relative_to(vault)
        target.parent.mkdir(parents=True)
        target.write_bytes(file.read_bytes())


def test_a_trade_at_a_cells_beginning_waits_for_nothing(tmp_path: Path) -> None:
    feed(tmp_path, "books", book(900, 1), book(1000, 2))
    feed(tmp_path, "quotes", quote(900), quote(1000))
    feed(tmp_path, "trades", trade(950), trade(1000))
    assert [ts for ts, _ in run(tmp_path)] == [950, 1000]
