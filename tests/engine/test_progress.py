"""What `status` and `doctor` call waiting: an input that is late, not one between two cells."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.engine.health.feeds import stalled
from pipeline.engine.health.survey import Loaded, Survey
from pipeline.engine.progress import STALLED_US, patience_us, pause_us, waiting
from pipeline.engine.state import RowMark, State
from pipeline.instrument import Instrument
from tests.frames.market import WHERE, Market, market, run
from tests.inprocess import command
from tests.laws.world import unsynced

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
NOON = 1_735_732_800_000_000
BTC = Instrument("okx", "perps", "BTC-USDT-SWAP")
GRIDS = [
    ("trades", 0),
    ("bars_30m", 0),
    ("quote", 0),
    ("flow_1m", MINUTE),
    ("costs_1m", 2 * MINUTE),
    ("open_interest_1m", MINUTE),
    ("whale_alerts_1h", HOUR),
    ("vcp_5m", 5 * MINUTE),
    ("vcp_30m", 5 * MINUTE),
    ("ipu_30m", MINUTE),
    ("signals_5m", 5 * MINUTE),
    ("signals_mtf", 5 * MINUTE),
    ("micro_metrics_daily", 5 * MINUTE),
]
INPUTS = [
    ("signals", "vcp_5m", 5 * MINUTE),
    ("signals", "ipu_5m", MINUTE),
    ("signals_mtf", "signals_5m", 5 * MINUTE),
    ("vcp", "micro_1m", 5 * MINUTE),
    ("confluence", "whale_alerts_1h", HOUR),
    ("confluence", "costs_1m", 2 * MINUTE),
    ("flow", "trades", MINUTE),
    ("clusters", "trades", 0),
]


def state_of(name: str, at: int | None) -> State:
    """A state whose clock stands there."""
    return State(name, BTC.key, 1, 1, {}, watermark_us=at)


def told(name: str, marks: dict[str, int | None]) -> str | None:
    """What a joined stage is said to wait for when its inputs' clocks stand there."""
    stage = stages.load(name)
    own = state_of(name, NOON)
    own.upstream = {layer: RowMark(0, 0) for layer in marks}
    above = {layer: state_of(stages.owner(layer).name, at) for layer, at in marks.items()}
    found = waiting(stage, own, above, BTC)
    waits: str | None = found.get("waits_for")
    return waits


@pytest.mark.parametrize(("layer", "pause"), GRIDS)
def test_how_long_a_clock_stands_still(layer: str, pause: int) -> None:
    """For its grid, that of what it is made from, and what of the future it must see."""
    assert pause_us(layer) == pause


@pytest.mark.parametrize(("name", "layer", "grid"), INPUTS)
def test_nothing_is_waited_for_before_its_grid_and_the_limit(
    name: str, layer: str, grid: int
) -> None:
    """At the grid and the limit not yet, a moment later it is."""
    others: dict[str, int | None] = dict.fromkeys(
        (each.layer for each in stages.load(name).inputs if each.layer != layer), NOON
    )
    assert STALLED_US == 2 * MINUTE
    assert patience_us(stages.load(name), layer) == grid + STALLED_US
    assert told(name, {**others, layer: NOON - grid - STALLED_US}) is None
    assert told(name, {**others, layer: NOON - grid - STALLED_US - 1}) == layer
    assert told(name, {**others, layer: None}) == layer


def test_the_one_that_is_late_is_named_not_the_one_with_the_coarsest_grid() -> None:
    """An hourly feed in the middle of its hour is further behind than trades that have stopped."""
    marks: dict[str, int | None] = {
        "whale_alerts_1h": NOON - 50 * MINUTE,
        "costs_1m": NOON - 10 * MINUTE,
        "bars_1m": NOON,
    }
    assert told("confluence", marks) == "costs_1m"
    assert told("confluence", {**marks, "whale_alerts_1h": NOON - 2 * HOUR}) == "whale_alerts_1h"


def test_nothing_waits_for_what_is_not_awaited() -> None:
    """The inventory is the one input of which rows have what is there."""
    marks: dict[str, int | None] = dict.fromkeys(("cluster_flow", "quote_1s", "model"), NOON)
    assert told("maker", {**marks, "positions": NOON - HOUR}) is None
    assert told("maker", {**marks, "positions": None}) is None
    assert told("maker", {**marks, "model": NOON - HOUR}) == "model"


@pytest.mark.parametrize(
    ("feed", "behind", "wait"),
    [
        ("whale_alerts", HOUR, ""),
        ("whale_alerts", HOUR + STALLED_US, ""),
        ("whale_alerts", HOUR + STALLED_US + SECOND, "confluence"),
        ("open_interest", 3 * MINUTE, ""),
        ("open_interest", 3 * MINUTE + SECOND, "confluence"),
        ("open_interest", 7 * MINUTE + SECOND, "vcp, confluence"),
    ],
)
def test_doctor_calls_no_feed_late_between_two_of_its_bars(
    feed: str, behind: int, wait: str, tmp_path: Path
) -> None:
    """As `status` does: the feed's own bar and the reader's grid are allowed for."""
    now = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
    survey = Survey(tmp_path, now, timedelta(days=1))
    survey.__dict__["instruments"] = [BTC]
    states = {name: state_of(name, NOON) for name in ("trades", "bars", feed, "vcp", "confluence")}
    states[feed].watermark_us = NOON - behind
    owned = stages.load(feed).layers[0].name
    for name, reads in {"bars": "trades", "vcp": "bars_5m", "confluence": "bars_1m"}.items():
        states[name].upstream[reads] = RowMark(0, 0)
    for name in ("vcp", "confluence"):
        if owned in stages.load(name).reads:
            states[name].upstream[owned] = RowMark(0, 0)
    survey.__dict__["loaded"] = {
        (name, BTC): Loaded(stages.load(name), BTC, state, None, None, now)
        for name, state in states.items()
    }
    found = [each.what for each in stalled(survey)]
    assert bool(found) == bool(wait)
    if wait:
        assert found[0].endswith(f"behind the other feeds: {wait} wait")


def test_a_stage_that_is_ahead_is_not_behind() -> None:
    """As one that is followed is for a moment; seconds are never negative."""
    stage = stages.load("signals_mtf")
    own = state_of("signals_mtf", NOON + 5 * MINUTE)
    own.upstream = {name: RowMark() for name in stage.reads}
    above: dict[str, State | None] = {
        name: state_of(stages.owner(name).name, NOON) for name in stage.reads
    }
    assert waiting(stage, own, above, BTC) == {"behind_s": 0}


@pytest.fixture(scope="module")
def made() -> Market:
    """Nineteen minutes, so that the last window of five is not over."""
    return market(3, trades=900, minutes=19, is_clean=True)


def lines(vault: Path) -> dict[str, dict[str, Any]]:
    """The lines of `status --json`, by layer."""
    out = command(vault, "status", "--json").out
    return {row["layer"]: row for row in map(json.loads, out.splitlines())}


def test_status_of_a_vault_that_lacks_nothing(made: Market, tmp_path: Path) -> None:
    """Signals stand four minutes behind and wait for nobody; once trades alone come they do."""
    (tmp_path / "instruments.toml").write_text(f'["{WHERE.key}"]\ntick = "0.01"\n')
    with unsynced():
        made.write(tmp_path)
        run(tmp_path, ["signals_mtf"])
    found = lines(tmp_path)
    assert found["signals_5m"]["behind_s"] > 120
    assert [name for name, row in found.items() if "waits_for" in row] == []
    assert "waits for" not in command(tmp_path, "status").out
    made.records["trades"] += [
        {
            **made.records["trades"][-1],
            "ts": made.records["trades"][-1]["ts"] + ms,
            "id": 10**6 + ms,
        }
        for ms in range(60_000, 900_001, 60_000)
    ]
    with unsynced():
        made.write(tmp_path)
        run(tmp_path, ["signals_mtf"])
    found = lines(tmp_path)
    waits = {name: row["waits_for"] for name, row in found.items() if "waits_for" in row}
    assert waits["flow_1m"] in {"quote", "book_events"}
    assert waits["vcp_5m"] in {"micro_1m", "buckets_1m"}
    assert waits["ipu_5m"] in {"flow_1m", "micro_1m"}
