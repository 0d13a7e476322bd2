from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest

from pipeline.calc.sentences import sentence
from pipeline.stages.orderflow import FACTORS, STAGE, Params, judge

from .joined_tape import (
    Rows,
    assert_any_windows,
    at,
    minutes_of,
    random_quotes,
    random_trades,
    run,
)
from .tick_tape import MINUTE_US

NAMES = [factor.name for factor in FACTORS]
COLUMNS = [column.name for column in STAGE.layers[0].columns]
QUIET: dict[str, Any] = {
    "imbalance": 0.0,
    "ofi_momentum": 0.0,
    "whale_trades": 0,
    "vwap_deviation": 0.0,
    "depth_imbalance": 0.0,
    "buy_pressure": 50.0,
    "profile_bias": "NEUTRAL",
}
BULLISH: dict[str, Any] = {
    "imbalance": 0.25,
    "ofi_momentum": 0.12,
    "whale_trades": 3,
    "vwap_deviation": -1.2,
    "depth_imbalance": 0.18,
    "buy_pressure": 72.0,
    "profile_bias": "BULLISH",
}
BEARISH: dict[str, Any] = {
    "imbalance": -0.25,
    "ofi_momentum": -0.12,
    "whale_trades": -3,
    "vwap_deviation": 1.2,
    "depth_imbalance": -0.18,
    "buy_pressure": 28.0,
    "profile_bias": "BEARISH",
}
POINTS = dict(zip(NAMES, (0.2, 0.15, 0.1, 0.15, 0.1, 0.1, 0.3), strict=True))


def judged(**values: Any) -> dict[str, Any]:
    """A minute in which all is quiet but these factors."""
    known = QUIET | values
    return dict(zip(COLUMNS, judge(tuple(known[name] for name in NAMES)), strict=True))


def chosen(source: dict[str, Any], *names: str) -> dict[str, Any]:
    return judged(**{name: source[name] for name in names})


@pytest.mark.parametrize("name", NAMES)
def test_each_factor_speaks_for_its_side(name: str) -> None:
    for source, side in ((BULLISH, "bullish"), (BEARISH, "bearish")):
        row = chosen(source, name)
        reason = {"factor": name, "side": side, "points": POINTS[name], "value": source[name]}
        assert row["reasons"] == [reason]
        assert row[f"{side}_score"] == POINTS[name]
        assert row["score"] == (1 if side == "bullish" else -1) * POINTS[name]
        assert (row["direction"], row["strength"], row["missing"]) == ("HOLD", 0, [])


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("imbalance", (-0.2, 0.2)),
        ("ofi_momentum", (-0.05, 0.05)),
        ("whale_trades", (0, 0)),
        ("vwap_deviation", (-0.1, 0.1)),
        ("depth_imbalance", (-0.15, 0.15)),
        ("buy_pressure", (35, 65)),
    ],
)
def test_a_limit_itself_is_not_enough(name: str, limits: tuple[float, float]) -> None:
    low, high = limits
    for value in (low, high, low - 1e-15, high + 1e-15):
        assert judged(**{name: value})["reasons"] == []
    assert len(judged(**{name: low - 1e-6})["reasons"]) == 1
    assert len(judged(**{name: high + 1e-6})["reasons"]) == 1


def test_rounding_does_not_tip_a_factor() -> None:
    """0.06 against 0.04 is 0.2, whatever doubles make of it."""
    above = [(x, y) for x, y in ((3 * k / 100, 2 * k / 100) for k in range(1, 200))
             if (x - y) / (x + y) > 0.2]  # fmt: skip
    assert above
    for x, y in above:
        assert judged(imbalance=(x - y) / (x + y))["reasons"] == []


def test_forty_points_are_not_enough() -> None:
    for source, word, sign in ((BULLISH, "LONG", 1), (BEARISH, "SHORT", -1)):
        for forty in (
            ("ofi_momentum", "vwap_deviation", "whale_trades"),
            ("profile_bias", "depth_imbalance"),
            ("imbalance", "buy_pressure", "whale_trades"),
        ):
            row = chosen(source, *forty)
            assert (row["score"], row["direction"], row["strength"]) == (sign * 0.4, "HOLD", 0)
        row = chosen(source, "profile_bias", "ofi_momentum")
        assert (row["score"], row["direction"], row["strength"]) == (sign * 0.45, word, 0.45)


def test_everything_on_one_side() -> None:
    row = judged(**BULLISH)
    assert (row["direction"], row["score"], row["strength"]) == ("LONG", 1.1, 1)
    assert (row["bullish_score"], row["bearish_score"]) == (1.1, 0)
    assert [reason["factor"] for reason in row["reasons"]] == NAMES
    row = judged(**BEARISH)
    assert (row["direction"], row["score"], row["strength"]) == ("SHORT", -1.1, 1)


def test_every_combination_adds_up() -> None:
    """Three states of seven factors, the sum in whole hundredths."""
    for states in product((0, 1, -1), repeat=7):
        values = {
            name: {0: QUIET, 1: BULLISH, -1: BEARISH}[state][name]
            for name, state in zip(NAMES, states, strict=True)
        }
        row = judged(**values)
        hundredths = [round(100 * POINTS[name]) for name in NAMES]
        score = sum(p * s for p, s in zip(hundredths, states, strict=True))
        assert row["score"] == score / 100
        assert row["direction"] == ("LONG" if score > 40 else "SHORT" if score < -40 else "HOLD")
        assert row["strength"] == (min(100, abs(score)) / 100 if abs(score) > 40 else 0)
        assert len(row["reasons"]) == sum(map(abs, states))


def test_what_is_missing_says_so_in_order() -> None:
    assert judged(**dict.fromkeys(NAMES))["missing"] == NAMES
    assert judged(imbalance=None, profile_bias=None)["missing"] == ["imbalance", "profile_bias"]


def trade(ts: int, notional: float, side: int) -> tuple[Any, ...]:
    return ts, 1.0, notional, notional, side


def quote(ts: int, bid: float | None = 1) -> tuple[Any, ...]:
    return ts, bid, bid, bid, bid, "quotes"


def values_of(row: dict[str, Any]) -> dict[str, Any]:
    return {reason["factor"]: reason["value"] for reason in row["reasons"]}


def test_every_input_is_read() -> None:
    layers: dict[str, Rows] = {
        "flow_1m": [(at(7), 0.31, 0.06, 4, 1)],
        "micro_1m": [(at(7), 0.2)],
        "bars_1m": [(at(7), 8.0, 6.0)],
        "vwap_1m": [(at(7), -0.2)],
        "trades": [trade(at(7), 1e6, -1)],
        "quote": [quote(at(7))],
        "profile_session": [(at(0), "BULLISH")],
    }
    (row,) = run(STAGE, layers)
    assert values_of(row) == {
        "imbalance": 0.31,
        "ofi_momentum": 0.06,
        "whale_trades": 3,
        "vwap_deviation": -0.2,
        "depth_imbalance": 0.2,
        "buy_pressure": 75,
        "profile_bias": "BULLISH",
    }
    assert row["direction"] == "LONG"


def test_it_works_without_a_book() -> None:
    layers: dict[str, Rows] = {
        "bars_1m": [(at(0), 8.0, 2.0), (at(1), 1.0, 0.5)],
        "vwap_1m": [(at(0), 0.2), (at(1), 0.0)],
        "trades": [trade(at(0), 1e5, -1), trade(at(0, 1), 99_999, 1), trade(at(1), 1, 1)],
    }
    first, second = run(STAGE, layers)
    assert values_of(first) == {"whale_trades": -1, "vwap_deviation": 0.2, "buy_pressure": 25}
    missing = ["imbalance", "ofi_momentum", "depth_imbalance", "profile_bias"]
    assert first["missing"] == second["missing"] == missing
    assert first["score"] == -0.35
    assert second["reasons"] == []
    (first, _) = run(STAGE, layers, whale_notional=200_000)
    assert "whale_trades" not in values_of(first)


def test_a_minute_without_trades() -> None:
    quotes = [quote(at(0)), quote(at(1), None), quote(at(2))]
    flow = [(at(0), 0.5, None, 0, 0), (at(2), None, 0.5, None, None)]
    layers: dict[str, Rows] = {"flow_1m": flow, "quote": quotes, "bars_1m": [], "trades": []}
    first, second = run(STAGE, layers)
    assert (first["at"], second["at"]) == (at(0), at(2))
    absent = ["vwap_deviation", "depth_imbalance", "buy_pressure", "profile_bias"]
    assert first["missing"] == ["ofi_momentum", *absent]
    assert second["missing"] == ["imbalance", *absent]  # no whales traded, as far as is known
    del layers["trades"]
    assert "whale_trades" in run(STAGE, layers)[1]["missing"]


@pytest.mark.parametrize(
    ("minute", "bias"),
    [(3, None), (4, "BULLISH"), (13, "BULLISH"), (14, "BULLISH"), (15, None), (19, "BEARISH")],
)
def test_the_profile_is_closed_and_at_most_ten_minutes_old(minute: int, bias: str | None) -> None:
    """The first bar ends with minute 4, ten minutes later is the end of minute 14."""
    layers: dict[str, Rows] = {
        "trades": [trade(at(minute), 1, 1)],
        "profile_session": [(at(0), "BULLISH"), (at(15), "BEARISH")],
    }
    for cuts in ((), [at(m) for m in range(25)]):
        (row,) = run(STAGE, layers, cuts)
        assert values_of(row).get("profile_bias") == bias
        assert ("profile_bias" in row["missing"]) == (bias is None)


def test_nothing_at_all() -> None:
    assert run(STAGE, {}) == []
    assert run(STAGE, {"trades": [], "quote": []}) == []


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="whale_notional"):
        Params(whale_notional=-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(6))
def test_any_windows_give_the_same_rows(seed: int) -> None:
    rng = random.Random(seed)
    trades, quotes = random_trades(rng, 150), random_quotes(rng, 150)
    minutes = sorted(minutes_of(trades) | minutes_of(quotes))
    drawn = {name: [m for m in minutes if rng.random() < 0.8] for name in ("f", "m", "b", "v")}

    def either(*values: Any) -> Any:
        return rng.choice((None, *values))

    layers: dict[str, Rows] = {
        "trades": trades,
        "quote": quotes,
        "flow_1m": [
            (m, either(-0.5, 0.1, 0.3), either(0.2, -0.01), *rng.choice(((None, None), (1, 2))))
            for m in drawn["f"]
        ],
        "micro_1m": [(m, either(0.2, -0.1, -0.2)) for m in drawn["m"]],
        "bars_1m": [(m, rng.choice((0.0, 2.0)), rng.choice((0.1, 1.9))) for m in drawn["b"]],
        "vwap_1m": [(m, either(0.3, -0.01, -0.2)) for m in drawn["v"]],
        "profile_session": [
            (start, rng.choice(("BULLISH", "BEARISH", "NEUTRAL")))
            for start in range(minutes[0] // (5 * MINUTE_US) * 5 * MINUTE_US, minutes[-1],
                               5 * MINUTE_US)
            if rng.random() < 0.7
        ],
    }  # fmt: skip
    rows = assert_any_windows(STAGE, layers, seed)
    quoted = {q[0] // MINUTE_US * MINUTE_US for q in quotes if q[1] is not None}
    assert [row["at"] for row in rows] == sorted(quoted | set(minutes_of(trades)))
    for row in rows:
        spoken = [reason["factor"] for reason in row["reasons"]]
        assert spoken == [name for name in NAMES if name in spoken]
        assert row["missing"] == [name for name in NAMES if name in row["missing"]]
        assert not set(spoken) & set(row["missing"])
        assert row["score"] == pytest.approx(row["bullish_score"] - row["bearish_score"])
        assert 0 <= row["strength"] <= 1
        end = row["at"] + MINUTE_US
        near = [bias for start, bias in layers["profile_session"]
                if end - 10 * MINUTE_US <= start + 5 * MINUTE_US <= end]  # fmt: skip
        assert ("profile_bias" in row["missing"]) == (not near)
        if near:
            leaning = {"BULLISH": "BULLISH", "BEARISH": "BEARISH"}.get(near[-1])
            assert values_of(row).get("profile_bias") == leaning


def told(row: dict[str, Any]) -> str:
    return sentence({"timestamp_utc": "2025-12-14T21:34:00Z", "instId": "BTC-USDT-SWAP"} | row)


def test_a_sentence_names_reasons_and_what_lacked() -> None:
    row = judged(**BULLISH | {"depth_imbalance": None, "buy_pressure": 28.0})
    assert told(row) == (
        "21:34 BTC-USDT-SWAP LONG 0.80: bids outweigh asks at the touch (+0.25), "
        "the touch has filled up on the bid side (+0.12), whale buys outnumber whale sells by 3, "
        "price is 1.20 % below the session's VWAP, the session's profile leans up; "
        "against that, sellers took 72 % of the volume; no book"
    )


def test_a_sentence_of_a_short() -> None:
    row = judged(**BEARISH)
    assert told(row) == (
        "21:34 BTC-USDT-SWAP SHORT 1.00: asks outweigh bids at the touch (-0.25), "
        "the touch has filled up on the ask side (-0.12), whale sells outnumber whale buys by 3, "
        "price is 1.20 % above the session's VWAP, the book is deeper on the ask side (-0.18), "
        "sellers took 72 % of the volume, the session's profile leans down"
    )


def test_sentences_of_little() -> None:
    assert told(judged()) == "21:34 BTC-USDT-SWAP HOLD +0.00: nothing stands out"
    row = judged(imbalance=-0.3, depth_imbalance=0.3, buy_pressure=80.0)
    assert told(row) == (
        "21:34 BTC-USDT-SWAP HOLD +0.00: the book is deeper on the bid side (+0.30), "
        "buyers took 80 % of the volume; against that, asks outweigh bids at the touch (-0.30)"
    )
    assert told(judged(imbalance=-0.3)).startswith("21:34 BTC-USDT-SWAP HOLD -0.20: asks outweigh")
    assert told(judged(**dict.fromkeys(NAMES))) == (
        "21:34 BTC-USDT-SWAP HOLD +0.00: nothing stands out; "
        "no sizes at the touch, no trades, no book, no session profile"
    )
    single = told(judged(ofi_momentum=None, buy_pressure=None))
    assert single.endswith("; no OFI, no buy pressure")


def test_every_combination_has_a_sentence() -> None:
    sources = (QUIET, BULLISH, BEARISH, dict.fromkeys(NAMES))
    for picks in product(sources, repeat=len(NAMES)):
        row = judged(**{name: pick[name] for name, pick in zip(NAMES, picks, strict=True)})
        line = told(row)
        assert "\n" not in line
        assert "None" not in line
        assert line.count("no ") >= bool(row["missing"])
