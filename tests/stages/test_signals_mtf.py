from __future__ import annotations

import random
from itertools import product
from typing import Any

import msgspec
import pytest

from pipeline.calc.timeframes import TIMEFRAMES
from pipeline.stages.signals_mtf import STAGE, Bar, Params, Signal, judge, majority_of

from .joined_tape import at
from .signal_tape import Table, assert_any_windows, run
from .tick_tape import MINUTE_US

COLUMNS = [column.name for column in STAGE.layers[0].columns]
TRENDS = (
    "STRONG_MOMENTUM_LONG",
    "STRONG_MOMENTUM_SHORT",
    "CONFIRMED_BOUNCE_LONG",
    "CONFIRMED_BOUNCE_SHORT",
    "CLEAN_TREND_ENTRY",
)
OTHERS = ("FADE_EXHAUSTION_LONG", "FADE_EXHAUSTION_SHORT", "ACCUMULATION", "DISTRIBUTION")
UP, LEVEL, DOWN = "BULLISH", "NEUTRAL", "BEARISH"
SPANS = list(TIMEFRAMES.values())


def judged(
    signal: str = "STRONG_MOMENTUM_LONG",
    direction: str = "LONG",
    sides: tuple[int, int, int] = (1, 1, 1),
    tired: tuple[bool, bool, bool] = (False, False, False),
    reason: str | None = None,
    **params: Any,
) -> dict[str, Any]:
    bars = [Bar(*each) for each in zip(sides, tired, strict=True)]
    row = judge(Signal(signal, direction, 0.7, reason), bars, msgspec.convert(params, Params))
    return dict(zip(COLUMNS, row, strict=True))


def test_majorities() -> None:
    for sides in product((1, 0, -1), repeat=3):
        up, down = sides.count(1), sides.count(-1)
        wanted = "MIXED"
        if up >= 2:
            wanted = "STRONG_BULLISH" if up == 3 else "LEAN_BULLISH"
        if down >= 2:
            wanted = "STRONG_BEARISH" if down == 3 else "LEAN_BEARISH"
        assert majority_of(list(sides)) == wanted


def test_score() -> None:
    assert judged(sides=(1, 1, 1))["mtf_score"] == 1
    assert judged(sides=(1, -1, 0))["mtf_score"] == pytest.approx(0.05)
    assert judged(sides=(0, 0, -1))["mtf_score"] == -0.25
    assert judged(sides=(0, 0, 0))["mtf_score"] == 0
    assert judged(sides=(1, -1, 1), weights=[1, 2, 0.5])["mtf_score"] == -0.5


def test_exhaustion_is_of_the_longer_bars() -> None:
    words = {(False, False): "NONE", (True, True): "CONFIRMED"}
    for first, second, third in product((False, True), repeat=3):
        row = judged(tired=(first, second, third))
        assert row["mtf_exhaustion"] == words.get((second, third), "WARNING")


@pytest.mark.parametrize("signal", [*TRENDS, *OTHERS])
def test_what_is_filtered(signal: str) -> None:
    is_trend = signal in TRENDS
    for direction, against in (("LONG", -1), ("SHORT", 1)):
        row = judged(signal, direction, (against,) * 3)
        assert row["filter_reason"] == ("against_mtf" if is_trend else None)
        assert row["filtered"] == is_trend
        assert row["size_multiplier"] == (0 if is_trend else 0.5)
        row = judged(signal, direction, (0, against, against), (False, False, True))
        assert row["filter_reason"] == ("exhaustion_30m;against_mtf" if is_trend else None)
        row = judged(signal, direction, (-against,) * 3, (True, True, False))
        assert (row["filter_reason"], row["size_multiplier"]) == (None, 1)
        row = judged(signal, direction, (-against, 0, against))
        assert (row["filter_reason"], row["size_multiplier"]) == (None, 0.5)
        row = judged(signal, direction, (-against, 0, against), reason="gap", mixed_size=0.3)
        assert (row["filter_reason"], row["size_multiplier"]) == ("gap", 0)
        assert judged(signal, direction, (1, 0, -1), mixed_size=0.3)["size_multiplier"] == 0.3
        row = judged(signal, direction, (against,) * 3, (False, True, True), "gap;confidence")
        more = ";exhaustion_30m;against_mtf" if is_trend else ""
        assert row["filter_reason"] == "gap;confidence" + more


def test_without_a_direction_there_is_nothing_to_filter() -> None:
    for signal in ("NO_SIGNAL", "DIVERGENCE_WARNING"):
        for sides in ((1, 1, 1), (-1, -1, -1), (0, 0, 0)):
            row = judged(signal, "NONE", sides, (True, True, True))
            assert (row["filtered"], row["filter_reason"]) == (False, None)
            assert (row["signal"], row["direction"], row["confidence"]) == (signal, "NONE", 0.7)
            assert row["size_multiplier"] == 0


def long_at(*minutes: int) -> Table:
    row = {"signal": "CLEAN_TREND_ENTRY", "direction": "LONG", "confidence": 0.9}
    return {at(minute): row for minute in minutes}


def ipu(**rows: tuple[str | None, bool | None]) -> Table:
    """Rows of ipu by the minute of their beginning, written `m15`."""
    return {
        at(int(name[1:])): {"direction": word, "exhaustion_warning": warning}
        for name, (word, warning) in rows.items()
    }


def test_longer_bars_count_once_they_have_ended() -> None:
    """That of 0:15 ends with the five minutes of 0:25, and stands till those of 0:40 end."""
    tables: dict[str, Table] = {
        "signals_5m": long_at(*range(0, 70, 5)),
        "ipu_5m": ipu(m60=(UP, True)),
        "ipu_15m": ipu(m15=(UP, True), m30=(DOWN, False)),
        "ipu_30m": ipu(m0=(UP, True), m30=(None, None)),
    }
    for cuts in ((), range(at(0), at(80), MINUTE_US)):
        rows = run(STAGE, tables, cuts)["signals_mtf"]
        scores = [round(100 * row["mtf_score"]) for row in rows]
        assert scores == [0] * 5 + [60] * 3 + [-10] * 3 + [0, 40, 0]
        words = [row["mtf_exhaustion"] for row in rows]
        assert words == ["NONE"] * 5 + ["CONFIRMED"] * 3 + ["WARNING"] * 3 + ["NONE"] * 3
        reasons = [row["filter_reason"] for row in rows]
        assert reasons == [None] * 5 + ["exhaustion_30m"] * 6 + [None] * 3


def test_a_period_without_a_bar_has_no_direction() -> None:
    """Nothing older takes its place."""
    tables: dict[str, Table] = {
        "signals_5m": long_at(55),
        "ipu_5m": {},
        "ipu_15m": ipu(m0=(UP, True), m30=(UP, True)),
        "ipu_30m": ipu(m0=(UP, True)),
    }
    (row,) = run(STAGE, tables)["signals_mtf"]
    assert (row["mtf_direction"], row["mtf_score"], row["mtf_exhaustion"]) == ("MIXED", 0, "NONE")
    assert (row["signal"], row["size_multiplier"]) == ("CLEAN_TREND_ENTRY", 0.5)


def test_what_makes_no_sense_is_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"weights": [1, 2]},
        {"weights": [1, 2, float("nan")]},
        {"mixed_size": -1},
        {"mixed": 1},
    ]
    for params in wrong:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(params, Params)


@pytest.mark.parametrize("seed", range(4))
def test_beside_a_plain_loop_in_any_windows(seed: int) -> None:
    rng = random.Random(seed)
    tables: dict[str, Any] = {"signals_5m": {}}
    first, last = at(0), at(900)
    for name, span in TIMEFRAMES.items():
        tables[f"ipu_{name}"] = {
            start: {
                "direction": rng.choice((UP, LEVEL, DOWN, None)),
                "exhaustion_warning": rng.choice((True, False, None)),
            }
            for start in range(first // span * span, last, span)
            if rng.random() < 0.9
        }
    for start in tables["ipu_5m"]:
        name, direction = rng.choice(
            (("NO_SIGNAL", "NONE"), *((name, rng.choice(("LONG", "SHORT"))) for name in TRENDS),
             *((name, rng.choice(("LONG", "SHORT"))) for name in OTHERS))
        )  # fmt: skip
        tables["signals_5m"][start] = {
            "signal": name,
            "direction": direction,
            "confidence": rng.random(),
            "filter_reason": None if direction == "NONE" else rng.choice((None, None, "gap")),
        }
    rows = assert_any_windows(STAGE, tables, seed, weights=[0.5, 0.3, 0.2])["signals_mtf"]
    assert [row["at"] for row in rows] == list(tables["signals_5m"])
    for row in rows:
        end, bars = row["at"] + SPANS[0], []
        for name, span in TIMEFRAMES.items():
            past = [s for s in tables[f"ipu_{name}"] if end - span < s + span <= end]
            bars.append(tables[f"ipu_{name}"][past[-1]] if past else {})
        words = [bar.get("direction") for bar in bars]
        numbers = [(word == UP) - (word == DOWN) for word in words]
        score = 0.5 * numbers[0] + 0.3 * numbers[1] + 0.2 * numbers[2]
        assert row["mtf_score"] == pytest.approx(score)
        assert row["mtf_direction"] == majority_of(numbers)
        given = tables["signals_5m"][row["at"]]
        assert all(row[key] == given[key] for key in ("signal", "direction", "confidence"))
        wanted = [] if given["filter_reason"] is None else [given["filter_reason"]]
        against = (row["direction"], words.count(DOWN) >= 2, words.count(UP) >= 2)
        is_against = against[:2] == ("LONG", True) or against[::2] == ("SHORT", True)
        if row["signal"] in TRENDS:
            wanted += ["exhaustion_30m"] * bool(bars[2].get("exhaustion_warning"))
            wanted += ["against_mtf"] * is_against
        assert row["filter_reason"] == (";".join(wanted) or None)
        size = 0.5 if is_against or row["mtf_direction"] == "MIXED" else 1
        assert row["size_multiplier"] == (0 if wanted or row["direction"] == "NONE" else size)
