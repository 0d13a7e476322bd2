"""The script that measures base rates: its market, its counts, its tables."""

from __future__ import annotations

import io
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from pipeline.calc.fusion import SIGNALS
from scripts import base_rates
from scripts.base_rates import EXPECTED, MEASURED, Outcome, met_table, rates_table
from scripts.ratekit.rates import GROUPS, LINES, STATES, Met, Rates, add, count, meetings, together
from scripts.ratekit.walk import Walk, write_walk


def stamp(minute: int) -> str:
    return f"2025-03-03T{minute // 60:02d}:{minute % 60:02d}:00Z"


def ipu(minute: int, state: str | None, **values: Any) -> dict[str, Any]:
    row = {"timestamp_utc": stamp(minute), "momentum_state": state, "inst_proxy": 0.1}
    return row | {"mms_slope": 0.5, "exhaustion_warning": False} | values


def signal(minute: int, name: str, direction: str = "NONE") -> dict[str, Any]:
    return {"timestamp_utc": stamp(minute), "signal": name, "direction": direction}


def test_bars_count_once_they_are_known() -> None:
    judged = [
        ipu(0, None),
        ipu(5, "FLAT", inst_proxy=None),
        ipu(10, "FLAT"),
        ipu(15, "ACCELERATING"),
        ipu(20, "ACCELERATING"),
        ipu(25, "FLAT"),
    ]
    names = ["NO_SIGNAL", "NO_SIGNAL", "NO_SIGNAL", "STRONG_MOMENTUM_LONG", "STRONG_MOMENTUM_SHORT"]
    rates = count(judged, [signal(5 * i, name) for i, name in enumerate(names)], 288)
    assert rates.bars == 3
    assert dict(rates.counts) == {
        "NO_SIGNAL": 1,
        "FLAT": 1,
        "ACCELERATING": 2,
        "STRONG_MOMENTUM_LONG": 1,
        "STRONG_MOMENTUM_SHORT": 1,
        "STRONG_MOMENTUM_*": 2,
    }
    assert rates.share("ACCELERATING") == pytest.approx(2 / 3)
    assert rates.a_day("STRONG_MOMENTUM_*") == 192
    assert Rates().share("FLAT") is Rates().a_day("FLAT") is None
    both = together([rates, rates, Rates()], 288)
    assert (both.bars, both.counts["FLAT"], both.a_day("FLAT")) == (6, 2, 96)


def test_every_signal_and_state_has_a_line() -> None:
    assert set(LINES) == {*SIGNALS, *GROUPS, *STATES}
    assert {*EXPECTED, *MEASURED} <= set(LINES)


def event(name: str, first: int, last: int, side: str = "buy") -> dict[str, Any]:
    ends = {"start": stamp(first)[:-1] + ".000Z", "end": stamp(last)[:-1] + ".000Z"}
    return {"event": name, "side": side} | ends


@pytest.mark.parametrize(
    ("minute", "meets"), [(25, False), (30, True), (85, True), (90, True), (95, False)]
)
def test_a_bar_meets_an_event_if_it_ends_in_its_time(minute: int, meets: bool) -> None:
    truth = [event("trend", 30, 90), event("burst", 0, 200)]
    for name in ("STRONG_MOMENTUM_LONG", "CONFIRMED_BOUNCE_LONG", "CLEAN_TREND_ENTRY"):
        trend, *_ = meetings(truth, [], [signal(minute, name, "LONG")])
        assert (trend.events, trend.found) == (1, meets)
        assert (trend.signals, trend.right) == (1, meets)


def test_the_direction_counts() -> None:
    truth = [event("trend", 0, 60, "sell"), event("exhaustion", 60, 80, "sell")]
    judged = [
        ipu(60, "DECELERATING", mms_slope=-0.7, exhaustion_warning=True),
        ipu(65, "DECELERATING", mms_slope=0.7, exhaustion_warning=True),
    ]
    signals = [
        signal(10, "STRONG_MOMENTUM_LONG", "LONG"),
        signal(20, "STRONG_MOMENTUM_SHORT", "SHORT"),
        signal(60, "FADE_EXHAUSTION_LONG", "LONG"),
        signal(65, "FADE_EXHAUSTION_SHORT", "SHORT"),
        signal(70, "DIVERGENCE_WARNING"),
    ]
    trend, fade, warned = meetings(truth, judged, signals)
    for met in (trend, fade, warned):
        assert (met.events, met.found, met.signals, met.right) == (1, 1, 2, 1)
        assert (met.recall, met.precision) == (1, 0.5)
    (nothing, *_) = meetings([], [], [])
    assert nothing.recall is nothing.precision is None
    (sum_of, *_) = add([trend], [nothing])
    assert (sum_of.events, sum_of.signals) == (1, 2)


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_table_shows_what_is_expected_beside() -> None:
    rates = count([ipu(0, "FLAT"), ipu(5, "FLAT")], [signal(0, "NO_SIGNAL")], 288)
    outcomes = [Outcome("here", "default", rates, [Met("a: b", 2, 1, 4, 1)])]
    outcomes += [Outcome("there", "default", Rates())]
    text = printed(rates_table(outcomes, "5m"))
    for line in LINES:
        assert text.count(f"{line} ") == 1
    (none,) = (line for line in text.splitlines() if "NO_SIGNAL" in line)
    cells = [cell.strip() for cell in none.split("│")[1:-1]]
    assert cells == ["NO_SIGNAL", "~95 %", "74 %", "96 %", "100.0 % (288.0)", "-"]
    assert "74 %" not in printed(rates_table(outcomes, "15m"))
    assert "50 % (1 of 2)" in printed(met_table(outcomes))
    assert "25 % (1 of 4)" in printed(met_table(outcomes))


def raw(folder: Path, kind: str) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob(f"{kind}_spot/*/*.jsonl")))


def test_the_walk_is_one(tmp_path: Path) -> None:
    """The same for the same seed, without drift, and with as much of flow in it as asked for."""
    shares = []
    for number, (seed, with_flow) in enumerate(((1, 0.5), (1, 0.5), (2, 0.8))):
        write_walk(tmp_path / str(number), Walk(2, seed, 4000, with_flow, book_s=60))
        rows = [json.loads(line) for line in raw(tmp_path / str(number), "trades").splitlines()]
        times = [row["ts"] for row in rows]
        assert times == sorted(times)
        assert 7500 < len(rows) < 8500
        assert len({row["id"] for row in rows}) == len(rows)
        prices = [float(row["price"]) for row in rows]
        moves = [
            (after - before) * (1 if row["side"] == "buy" else -1)
            for before, after, row in zip(prices, prices[1:], rows[1:], strict=False)
            if after != before
        ]
        shares.append(sum(move > 0 for move in moves) / len(moves))
        ups = sum(after > before for before, after in pairwise(prices))
        assert abs(ups / len(moves) - 0.5) < 0.03
    assert raw(tmp_path / "0", "trades") == raw(tmp_path / "1", "trades")
    assert raw(tmp_path / "0", "books") == raw(tmp_path / "1", "books")
    assert shares[0] == pytest.approx(0.5, abs=0.03)
    assert shares[2] == pytest.approx(0.8, abs=0.03)
    books = [json.loads(line) for line in raw(tmp_path / "0", "books").splitlines()]
    assert len(books) == 2 * 1440
    for book in books[:50]:
        bids, asks = ([float(px) for px, _ in book[side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]


def test_it_measures_a_walk_with_both_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--days", "1", "--trades", "6000", "--book-s", "0", "--sim-days", "0"]
    monkeypatch.setattr(sys, "argv", ["base_rates.py", *few, "--keep", str(tmp_path)])
    assert base_rates.main() == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if "ACCELERATING" in line)
    default, calibrated = (float(x) for x in re.findall(r"([\d.]+) % \(", line))
    assert 25 < default < 65
    assert 0 < calibrated < default / 2
    settings = (tmp_path / "walk" / "flowvault.toml").read_text(encoding="utf-8")
    assert settings.count('profile = "calibrated"') == 2
