"""Files of the simulated market: same arguments, same bytes; more days only append."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pipeline.sim
from pipeline.sim import write_market

from .replay import (
    DAY,
    FULL_DAY,
    INST_ID,
    BookRebuilder,
    Market,
    path_of,
    rows_of,
    trades_of,
)

KINDS = ("trades", "books", "quotes", "truth")
NEXT_DAY = DAY + dt.timedelta(days=1)


def bytes_of(vault: Path) -> dict[str, bytes]:
    """Return every file under a vault by its relative name."""
    files = sorted(path for path in vault.rglob("*") if path.is_file())
    return {path.relative_to(vault).as_posix(): path.read_bytes() for path in files}


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    write_market(tmp_path / "a", hours=0.5, seed=3)
    write_market(tmp_path / "b", hours=0.5, seed=3)
    write_market(tmp_path / "c", hours=0.5, seed=4)
    first = bytes_of(tmp_path / "a")
    assert first == bytes_of(tmp_path / "b")
    other = bytes_of(tmp_path / "c")
    assert first.keys() == other.keys()
    assert all(other[name] != data for name, data in first.items() if "truth" not in name)


def test_bytes_do_not_depend_on_polars_threads(tmp_path: Path) -> None:
    write_market(tmp_path / "here", hours=1, speed=3.0, books=False)
    root = Path(pipeline.sim.__file__).parents[2]
    code = (
        "from pathlib import Path; from pipeline.sim import write_market; "
        f"write_market(Path({str(tmp_path / 'one')!r}), hours=1, speed=3.0, books=False)"
    )
    settings = os.environ | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], check=True, env=settings)
    assert bytes_of(tmp_path / "here") == bytes_of(tmp_path / "one")


def test_more_days_and_more_hours_only_append(tmp_path: Path, market: Market) -> None:
    write_market(tmp_path, **FULL_DAY, hours=1.25, seed=market.seed)
    for kind in ("trades", "books", "quotes"):
        whole = path_of(market.vault, kind).read_bytes()
        cut = path_of(tmp_path, kind).read_bytes()
        assert whole.startswith(cut)
        assert 1 / 100 < len(cut) / len(whole) < 1 / 5
    stop = dt.datetime.combine(DAY, dt.time(1, 15), dt.UTC).timestamp() * 1000
    early = [trade for trade in market.trades if trade.ts < stop]
    assert trades_of(path_of(tmp_path, "trades")) == early


def test_a_second_day_continues_the_first(market: Market) -> None:
    first = market.trades
    second = trades_of(path_of(market.vault, "trades", NEXT_DAY))
    assert second[0].trade_id == first[-1].trade_id + 1
    assert abs(second[0].price / first[-1].price - 1) < 0.001
    rebuilder = BookRebuilder({})
    events = rows_of(path_of(market.vault, "books", NEXT_DAY))
    for row in events:
        rebuilder.apply(row)
    assert rebuilder.result.faults == []
    assert [row["action"] for row in events[:2]] == ["snapshot", "update"]
    _, last_seq, last_bid, *_ = market.book.tops[-1]
    _, seq, bid, *_ = rebuilder.result.tops[0]
    assert seq > last_seq
    assert abs(bid / last_bid - 1) < 0.001


def test_days_are_prefix_equal(tmp_path: Path) -> None:
    for days in (2, 3):
        write_market(tmp_path / str(days), days=days, books=False, quotes=False, speed=0.3)
    two, three = bytes_of(tmp_path / "2"), bytes_of(tmp_path / "3")
    assert {name: three[name] for name in two} == two
    assert len(three) == len(two) + 2
    ids = [
        trade.trade_id
        for day in range(3)
        for trade in trades_of(path_of(tmp_path / "3", "trades", DAY + dt.timedelta(days=day)))
    ]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_every_line_is_a_record_of_the_exchange(tmp_path: Path) -> None:
    write_market(tmp_path, hours=2)
    price, size = re.compile(r"\d+\.\d"), re.compile(r"\d+(\.\d?[1-9])?")
    lines = {kind: path_of(tmp_path, kind).read_bytes() for kind in KINDS}
    assert all(data.endswith(b"\n") and b"\r" not in data for data in lines.values())
    last_ts = 0
    for line in lines["trades"].splitlines():
        row = json.loads(line)
        assert list(row) == ["instId", "tradeId", "px", "sz", "side", "ts"]
        assert all(isinstance(value, str) for value in row.values())
        assert row["instId"] == INST_ID
        assert row["side"] in ("buy", "sell")
        assert price.fullmatch(row["px"])
        assert size.fullmatch(row["sz"])
        assert float(row["sz"]) > 0
        assert int(row["ts"]) >= last_ts
        last_ts = int(row["ts"])
    for kind, channel in (("books", "books"), ("quotes", "bbo-tbt")):
        last_ts = 0
        for line in lines[kind].splitlines():
            row = json.loads(line)
            assert row["arg"] == {"channel": channel, "instId": INST_ID}
            (data,) = row["data"]
            assert int(data["ts"]) >= last_ts
            last_ts = int(data["ts"])
            for level in data["bids"] + data["asks"]:
                assert price.fullmatch(level[0])
                assert size.fullmatch(level[1])
                assert (level[2], level[3] == "0") == ("0", level[1] == "0")
    for line in lines["truth"].splitlines():
        assert line.startswith(b'{"simulated":true,')
        assert {"event", "start", "end", "side", "price"} <= json.loads(line).keys()


def test_an_existing_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    taken = path_of(tmp_path, "quotes", NEXT_DAY)
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"mine\n")
    with pytest.raises(FileExistsError, match=r"2025-01-07\.jsonl exists; pass overwrite=True"):
        write_market(tmp_path, days=2, hours=0.1)
    assert bytes_of(tmp_path) == {taken.relative_to(tmp_path).as_posix(): b"mine\n"}
    write_market(tmp_path, days=1, hours=0.1)
    taken.rename(taken.with_name("2025-01-07.jsonl.gz"))
    with pytest.raises(FileExistsError, match=r"2025-01-07\.jsonl\.gz exists"):
        write_market(tmp_path, start=NEXT_DAY, hours=0.1)
    before = bytes_of(tmp_path)
    write_market(tmp_path, days=1, hours=0.1, overwrite=True)
    assert bytes_of(tmp_path) == before


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def stop(what: str, _: float) -> None:
        if "books" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_market(tmp_path, hours=0.1, progress=stop)
    assert bytes_of(tmp_path) == {}


def test_paths_and_progress_are_reported(tmp_path: Path) -> None:
    shares: list[float] = []
    paths = write_market(
        tmp_path, hours=0.2, quotes=False, progress=lambda _, share: shares.append(share)
    )
    assert paths == [path_of(tmp_path, kind) for kind in ("trades", "books", "truth")]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": 0},
        {"hours": 0},
        {"hours": 25},
        {"speed": 0},
        {"speed": float("nan")},
        {"seed": -1},
        {"book_ms": 7},
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        write_market(tmp_path, **wrong)


def test_trades_are_the_same_with_and_without_books(tmp_path: Path) -> None:
    write_market(tmp_path / "all", hours=1)
    write_market(tmp_path / "trades", hours=1, books=False, quotes=False)
    write_market(tmp_path / "quotes", hours=1, books=False)
    whole = bytes_of(tmp_path / "all")
    for part in ("trades", "quotes"):
        files = bytes_of(tmp_path / part)
        assert all(whole[name] == data for name, data in files.items())


def test_another_instrument_has_its_own_market(tmp_path: Path) -> None:
    write_market(tmp_path, inst_id="ETH-USDT-SWAP", hours=1)
    trades = rows_of(path_of(tmp_path, "trades", inst_id="ETH-USDT-SWAP"))
    assert all(re.fullmatch(r"3\d\d\d\.\d\d", row["px"]) for row in trades)


def test_the_tape_looks_like_a_market(market: Market) -> None:
    trades = market.trades
    same_ms = sum(a.ts == b.ts for a, b in itertools.pairwise(trades))
    same_side = sum(a.is_buy == b.is_buy for a, b in itertools.pairwise(trades))
    assert 0.1 < same_ms / len(trades) < 0.5
    assert 0.55 < same_side / len(trades) < 0.85
    assert abs(len(trades) / 86_400 - 1.0) < 0.03
    notionals = sorted(trade.notional for trade in trades)
    assert sum(notionals[-len(notionals) // 20 :]) > sum(notionals) * 3 / 10
    (quiet,) = market.events("quiet_hour")
    minutes = {trade.ts // 60_000 for trade in trades}
    first = min(minutes)
    missing = {minute for minute in range(first, first + 1440) if minute not in minutes}
    start = dt.datetime.fromisoformat(quiet["start"]).timestamp() // 60
    assert all(start <= minute < start + 60 for minute in missing)
