"""Rows before a time, sums of decimals, scores and fading sums against plain loops."""

from __future__ import annotations

import math
import random
import statistics
from decimal import Decimal

import numpy as np
import pytest

from pipeline.calc.calibration import Mids, correlation
from pipeline.calc.decimal_sums import added, subtracted
from pipeline.calc.lookup import last_change, rows_before, taken, whole_seconds
from pipeline.calc.rolling import faded, fading, scores

AGE = 5000


def test_rows_before() -> None:
    rng = random.Random(1)
    stamps = np.array(sorted(rng.randrange(40_000) for _ in range(60)))
    lost = np.array([rng.random() < 0.2 for _ in stamps])
    times = np.array([rng.randrange(-100, 50_000) for _ in range(300)] + stamps.tolist())
    found = rows_before(stamps, lost, times, AGE)
    for time, row in zip(times.tolist(), found.tolist(), strict=True):
        before = [i for i, ts in enumerate(stamps) if ts < time]
        last = before[-1] if before else -1
        stands = last >= 0 and not lost[last] and time - stamps[last] <= AGE
        assert row == (last if stands else -1)
    nothing = np.zeros(0, np.int64)
    assert rows_before(nothing, nothing.astype(bool), times, AGE).tolist() == [-1] * len(times)
    assert np.isnan(taken(np.zeros(0), np.array([-1, -1]))).all()


def test_last_change() -> None:
    found = last_change(np.array([3, 5, 9]), np.array([False, True, False]), 1)
    assert found.tolist() == [1, 5, 5]


@pytest.mark.parametrize("seed", range(5))
def test_every_second_with_a_row_before_it_is_looked_at(seed: int) -> None:
    rng = random.Random(seed)
    clock, stamps = 1000, []
    for _ in range(40):
        clock += rng.choice((0, 300, 999, 1000, 1001, 20_000))
        stamps.append(clock)
    columns = np.array(stamps)
    last = clock // 1000 + rng.choice((0, 2, 30))
    seconds = whole_seconds(columns, 2, last, AGE)
    assert seconds.tolist() == sorted(set(seconds.tolist()))
    assert all(2 <= second <= last for second in seconds.tolist())
    wanted = [
        second
        for second in range(2, last + 1)
        if any(second * 1000 - AGE <= ts < second * 1000 for ts in stamps)
    ]
    assert set(wanted) <= set(seconds.tolist())
    assert len(seconds) <= 7 * len(set(columns // 1000))


def test_sums_of_decimals_are_the_nearest_doubles() -> None:
    rng = random.Random(2)
    texts = [
        (f"{rng.randrange(1, 10**8) / 10**p:.{p}f}", f"{rng.randrange(1, 10**8) / 10**q:.{q}f}")
        for p, q in ((rng.randrange(9), rng.randrange(9)) for _ in range(500))
    ]
    a, b = (np.array([float(pair[side]) for pair in texts]) for side in (0, 1))
    exact = [(Decimal(x), Decimal(y)) for x, y in texts]
    assert subtracted(a, b).tolist() == [float(x - y) for x, y in exact]
    assert added(a, b).tolist() == [float(x + y) for x, y in exact]
    odd = np.array([math.pi * 1e9]), np.array([math.e])
    assert subtracted(*odd)[0] == odd[0][0] - odd[1][0]
    assert np.isnan(added(np.array([np.nan]), np.array([1.0]))).all()


def test_scores_are_those_of_each_window() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(60, 6)) * 1e4 + 1e8
    rows[:, 5] = 7.0
    found = scores(rows, 20, 0.001)
    assert found.shape == (40, 6)
    for row in range(40):
        for column in range(6):
            past = rows[row : row + 20, column].tolist()
            apart = rows[row + 20, column] - statistics.fmean(past)
            wanted = apart / max(statistics.stdev(past), 0.001)
            assert found[row, column] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    for cut in (1, 13, 39):
        parts = [scores(rows[: 20 + cut], 20, 0.001), scores(rows[cut:], 20, 0.001)]
        assert np.concatenate(parts).tobytes() == found.tobytes()


def test_fading_sums() -> None:
    rng = np.random.default_rng(4)
    clock = np.cumsum(rng.integers(0, 3000, size=200))
    values = rng.normal(size=(200, 2))
    found = fading(values, clock, 4000.0, int(clock[0]), np.zeros(2))
    for row in (0, 1, 50, 199):
        factors = np.exp(-(clock[row] - clock[: row + 1]) / 4000)
        assert found[row] == pytest.approx((values[: row + 1] * factors[:, None]).sum(axis=0))
    half = fading(values[:77], clock[:77], 4000.0, int(clock[0]), np.zeros(2))
    rest = fading(values[77:], clock[77:], 4000.0, int(clock[76]), half[-1])
    assert np.concatenate((half, rest)).tobytes() == found.tobytes()
    assert faded(found, np.full(200, 4000), 4000.0) == pytest.approx(found / math.e)


def test_returns_end_with_the_day() -> None:
    day = 86_400
    seconds = np.arange(day - 10, day + 10)
    mids = Mids(seconds, 100 + np.arange(20.0))
    found = mids.returns_bps(np.array([day - 5, day - 4, day]), 5)
    assert found[0] == pytest.approx(1e4 * math.log(110 / 105))
    assert np.isnan(found[1:]).all()
    assert np.isnan(mids.at(np.array([5, day + 10]))).all()
    assert np.isnan(Mids(np.zeros(0, np.int64), np.zeros(0)).at(np.array([1]))).all()


def test_correlation() -> None:
    x, y = np.array([1.0, 2, 4]), np.array([3.0, 1, 2])
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    for flat in (np.zeros(3), np.full(3, 0.1)):
        assert correlation(x, flat) is None
    assert correlation(x[:1], y[:1]) is None
