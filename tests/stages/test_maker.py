"""Maker quotes, second by second, and the calibration they rest on."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import msgspec
import pytest

from pipeline.stages.maker import Learnt, Params, Tick, Top, quote

from .cluster_tape import DAY, DAY_0, Made, Market, random_market, run_clusters, run_maker

SMALL: dict[str, Any] = {"min_rows": 60, "tau_s": 4.0, "horizon_s": 2}
MODEL = Learnt(alpha=2.0, k_tol=1.0, beta_bps=5.0, gamma=0.5, tau_s=10.0)
TOP = Top(99.9, 100.1)
STEP = Tick(0.1, 1)


# -- one row ---------------------------------------------------------------------------------


def values(**changes: Any) -> dict[str, Any]:
    """A row's columns by hand."""
    given: dict[str, Any] = {
        "top": TOP,
        "model": MODEL,
        "sums": (0.0, 0.0),
        "inventory": None,
        "tick": STEP,
        "params": Params(base_bps=20),
    }
    names = ("mid", "sig_skew", "sig_hazard", "p_micro", "width", "p_final", "bid", "ask")
    return dict(zip(names, quote(**given | changes), strict=True))


def test_quotes_around_the_mid() -> None:
    row = values()
    assert (row["mid"], row["p_micro"], row["p_final"]) == (100, 100, 100)
    assert row["width"] == pytest.approx(0.2)
    assert (row["bid"], row["ask"]) == (99.9, 100.1)


def test_skew_leans_and_hazard_widens() -> None:
    row = values(sums=(0.5, 3.0))
    assert row["p_micro"] == pytest.approx(100 * (1 + 5e-4 * math.tanh(1)))
    assert row["width"] == pytest.approx(0.2 * 2)
    assert values(sums=(0, 1e9))["width"] == pytest.approx(0.2 * 5)
    assert values(sums=(0, 1e9), params=Params(base_bps=20, width_cap=3))["width"] == (
        pytest.approx(0.6)
    )
    assert values(sums=(0, 0.5))["width"] == pytest.approx(0.2)


def test_inventory_pulls_back() -> None:
    assert values(inventory=2.0)["p_final"] == pytest.approx(100 - 2 * 0.1 * 2)
    target = Params(base_bps=20, inventory_target=3, theta_ticks=1)
    assert values(inventory=2.0, params=target)["p_final"] == pytest.approx(100.1)
    assert values(inventory=-1.0)["p_micro"] == 100


def test_quotes_do_not_cross_the_best_prices() -> None:
    up = values(inventory=-100.0)
    assert up["p_final"] > 110
    assert up["bid"] == 100.0
    assert up["ask"] > 110
    down = values(inventory=100.0)
    assert down["ask"] == 100.0
    assert down["bid"] < 90


def test_whole_ticks_outward() -> None:
    row = values(params=Params(base_bps=25), top=Top(90, 110))
    assert (row["bid"], row["ask"]) == (99.8, 100.2)
    assert values(tick=Tick(5, 0), top=Top(90, 110))["bid"] == 95


def test_terms_that_are_not_known_are_zero() -> None:
    model = msgspec.structs.replace(MODEL, alpha=None, k_tol=None)
    row = values(model=model, sums=(9.0, 9.0))
    assert row["p_micro"] == 100
    assert row["width"] == pytest.approx(0.2)


def test_nulls() -> None:
    early = values(model=None)
    assert early.pop("mid") == 100
    assert set(early.values()) == {None}
    blind = values(top=None, sums=(1.0, 2.0))
    assert (blind.pop("sig_skew"), blind.pop("sig_hazard")) == (1, 2)
    assert set(blind.values()) == {None}
    bare = values(tick=None)
    assert (bare["p_final"], bare["bid"], bare["ask"]) == (None, None, None)
    assert bare["width"] is not None


# -- against plain loops -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(21, 2500, days=3)


@pytest.fixture(scope="module")
def made(market: Market) -> Made:
    return run_clusters(market, **SMALL)


@pytest.fixture(scope="module")
def rows(market: Market, made: Made) -> list[dict[str, Any]]:
    return run_maker(market, made)


def trades_of(market: Market, made: Made) -> list[tuple[int, float, int, int]]:
    """Clock, size, side and phi of each trade."""
    found, clock = [], 0
    roles = made.frames["clusters"]["phi"].to_list()
    for (ts, _, size, side), role in zip(market.trades, roles, strict=True):
        clock = max(clock, ts)
        found.append((clock, size, side, role or 0))
    return found


def mids_of(made: Made) -> dict[int, tuple[float, float]]:
    return {int(ts.timestamp()): (bid, ask) for ts, bid, ask in made.frames["quote_1s"].rows()}


def test_sums_fade(market: Market, made: Made, rows: list[dict[str, Any]]) -> None:
    trades, tops = trades_of(market, made), mids_of(made)
    by_second = {row["at"]: row for row in rows}
    assert list(by_second) == sorted({clock // 1000 * 1000 for clock, *_ in trades})
    skew = hazard = 0.0
    checked = 0
    for place, (clock, size, side, role) in enumerate(trades):
        factor = math.exp(-(clock - trades[place - 1][0]) / 4000) if place else 1
        skew = skew * factor + (size * side if role == 2 else 0)
        hazard = hazard * factor + (size if role == 1 else 0)
        second = clock // 1000
        if place + 1 < len(trades) and trades[place + 1][0] // 1000 == second:
            continue
        row, left = by_second[second * 1000], math.exp(-((second + 1) * 1000 - clock) / 4000)
        top = tops.get(second + 1)
        assert row["mid"] == (None if top is None else (top[0] + top[1]) / 2)
        if clock < DAY_0 + DAY:
            assert row["sig_skew"] is row["sig_hazard"] is row["bid"] is None
            continue
        assert row["sig_skew"] == pytest.approx(skew * left, abs=1e-9)
        assert row["sig_hazard"] == pytest.approx(hazard * left, abs=1e-9)
        if top is not None:
            assert row["bid"] < top[1]
            assert row["ask"] > top[0]
            checked += 1
    assert checked > 100


def test_inventory_is_the_last_position_before_the_end(
    market: Market, rows: list[dict[str, Any]]
) -> None:
    seen = set()
    for row in rows:
        told = [position for ts, position in market.positions if ts < row["at"] + 1000]
        assert row["inventory"] == (told[-1] if told else None)
        seen.add(row["inventory"])
    assert len(seen) > 5


def test_any_windows(market: Market, made: Made, rows: list[dict[str, Any]]) -> None:
    exact, rng = msgspec.json.encode(rows), random.Random(4)
    for count in (1, 5, 50):
        cuts = [rng.randrange(DAY_0, market.end) for _ in range(count)]
        cuts += [row["at"] + rng.choice((0, 999, 1000, 1001)) for row in rng.sample(rows, count)]
        assert msgspec.json.encode(run_maker(market, made, cuts)) == exact


def test_a_second_waits_for_its_end(market: Market, made: Made, rows: list[dict[str, Any]]) -> None:
    last = rows[len(rows) // 2]["at"]
    for end, count in ((last + 999, len(rows) // 2), (last + 1000, len(rows) // 2 + 1)):
        early = Market(positions=market.positions, end=end)
        assert run_maker(early, made) == rows[:count]


def test_calibration_of_the_first_day(market: Market, made: Made) -> None:
    model, trades, tops = made.models[0], trades_of(market, made), mids_of(made)
    midnight = DAY_0 + DAY
    labels = labels_of(made, model)
    today = [each for each in trades if each[0] < midnight]
    skew = hazard = 0.0
    pairs, before = [], today[0][0]
    for place, (clock, size, side, _) in enumerate(today):
        role = model["roles"][labels[place] - 1] if labels[place] else 0
        factor = math.exp(-(clock - before) / 4000)
        before = clock
        skew = skew * factor + (size * side if role == 2 else 0)
        hazard = hazard * factor + (size if role == 1 else 0)
        end = clock // 1000 + 1
        if place + 1 < len(today) and today[place + 1][0] // 1000 + 1 == end:
            continue
        left = math.exp(-(end * 1000 - clock) / 4000)
        if end in tops and end + 2 in tops and (end + 2) * 1000 <= midnight:
            mid, later = (sum(tops[at]) / 2 for at in (end, end + 2))
            pairs.append((skew * left, hazard * left, 1e4 * math.log(later / mid)))
    assert model["n"] == len(pairs) >= 60
    r = [each[2] for each in pairs]
    alpha = 1 / math.sqrt(statistics.fmean(each[0] ** 2 for each in pairs))
    k_tol = statistics.median(each[1] for each in pairs)
    u = [math.tanh(alpha * each[0]) for each in pairs]
    b_raw = sum(a * b for a, b in zip(u, r, strict=True)) / sum(a * a for a in u)
    assert model["alpha"] == pytest.approx(alpha)
    assert model["k_tol"] == pytest.approx(k_tol)
    assert model["sigma_bps"] == pytest.approx(statistics.pstdev(r))
    assert model["b_raw_bps"] == pytest.approx(b_raw, abs=1e-9)
    assert model["beta_bps"] == pytest.approx(min(max(b_raw, 0), statistics.pstdev(r)), abs=1e-9)
    x = [max(0, each[1] - k_tol) for each in pairs]
    line = statistics.linear_regression(x, list(map(abs, r)))
    gamma = max(0, line.slope / line.intercept) if line.intercept > 0 else 0
    assert model["gamma"] == pytest.approx(gamma, abs=1e-9)
    assert [len(row) for row in model["ic"]] == [4, 4, 4]
    assert all(-1 <= each <= 1 for row in model["ic"] for each in row)


def labels_of(made: Made, model: dict[str, Any]) -> list[int]:
    """The clusters that a model gives to all trades."""
    names = ("z_v_rel", "z_sbs", "z_obs", "z_spread", "z_t_mid", "z_t_side")
    found = []
    for z in made.frames["clusters"].select(names).rows():
        if None in z:
            found.append(0)
            continue
        clipped = [
            min(max(a, low), high)
            for a, low, high in zip(z, model["clip_low"], model["clip_high"], strict=True)
        ]
        apart = [
            sum((a - b) ** 2 for a, b in zip(clipped, c, strict=True)) for c in model["centroids"]
        ]
        found.append(1 + apart.index(min(apart)))
    return found


def test_few_pairs_teach_nothing(market: Market) -> None:
    cut = Market(market.trades, market.quote, market.book, market.book_events, end=market.end)
    found = run_clusters(cut, min_rows=60, horizon_s=86_400).models[0]
    assert found["n"] == 0
    names = ("alpha", "k_tol", "sigma_bps", "b_raw_bps", "ic")
    assert all(found[name] is None for name in names)
    assert (found["beta_bps"], found["gamma"]) == (0, 0)
