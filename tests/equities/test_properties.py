"""What must hold whatever the numbers are."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.equities.allocation import largest_remainder
from pipeline.equities.comovement import Observations, correlations
from pipeline.equities.significance import false_discovery, one_sided
from tests.equities import plain

stats = pytest.importorskip("scipy.stats")

QUICK = settings(max_examples=60, deadline=None)
WEEKS = st.lists(
    st.tuples(st.integers(0, 10**12), st.lists(st.integers(0, 10**16), min_size=1, max_size=7)),
    max_size=6,
)


@QUICK
@given(WEEKS)
def test_days_add_up_to_the_week(weeks: list[tuple[int, list[int]]]) -> None:
    total = [whole for whole, weights in weeks for _ in weights]
    group = [number for number, (_, weights) in enumerate(weeks) for _ in weights]
    weight = [each for _, weights in weeks for each in weights]
    found = largest_remainder(*(np.array(each, np.int64) for each in (total, group, weight)))
    low = 0
    for whole, weights in weeks:
        parts = found[low : low + len(weights)].tolist()
        low += len(weights)
        if not sum(weights):
            assert parts == [0] * len(weights)
            continue
        assert sum(parts) == whole
        assert parts == plain.hamilton(whole, map(Fraction, weights))
        for part, own in zip(parts, weights, strict=True):
            quota = Fraction(whole * own, sum(weights))
            assert math.floor(quota) <= part <= math.ceil(quota)
    for smaller in range(1, len(found)):
        if group[smaller - 1] == group[smaller] and weight[smaller - 1] >= weight[smaller]:
            # the earlier day is served first
            assert found[smaller - 1] >= found[smaller]


P = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@QUICK
@given(P, st.integers(0, 30))
def test_false_discovery_rates(p: list[float], more: int) -> None:
    found = false_discovery(np.array(p))
    assert found == pytest.approx(stats.false_discovery_control(p, method="bh"), abs=1e-12)
    assert (found >= np.array(p) - 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    # hypotheses with p = 1 may be left out if they are counted
    padded = false_discovery(np.array([*p, *[1.0] * more]))[: len(p)]
    assert false_discovery(np.array(p), len(p) + more) == pytest.approx(padded, abs=1e-15)


@QUICK
@given(st.floats(-0.999, 0.999), st.integers(3, 400))
def test_p_values(rho: float, count: int) -> None:
    found = one_sided(np.array([rho]), np.array([count]))[0]
    t = rho * math.sqrt((count - 2) / (1 - rho * rho))
    assert found == pytest.approx(plain.student_tail(t, count - 2), abs=1e-10)
    more = one_sided(np.array([min(0.9999, rho + 0.01)]), np.array([count]))[0]
    assert more <= found


VALUES = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.7, 0.9])
CELLS, VENUES = 12, 3


@QUICK
@given(
    st.lists(st.one_of(st.none(), VALUES), min_size=CELLS * VENUES, max_size=CELLS * VENUES),
    st.lists(st.lists(st.tuples(st.integers(0, CELLS - 1), VALUES), max_size=CELLS), max_size=4),
)
def test_correlations(x: list[float | None], seen: list[list[tuple[int, float]]]) -> None:
    table = np.array([math.nan if each is None else each for each in x]).reshape(CELLS, VENUES)
    rows = [sorted(dict(own).items()) for own in seen]
    bounds = np.cumsum([0, *map(len, rows)])
    flat = [each for own in rows for each in own]
    volume = np.arange(CELLS * VENUES).reshape(CELLS, VENUES)
    found = correlations(
        Observations(
            bounds, np.array([k for k, _ in flat], np.int64), np.array([y for _, y in flat], float)
        ),
        table,
        np.arange(CELLS) + 100,
        volume,
        volume + 1,
    )
    for i, own in enumerate(rows):
        for m in range(VENUES):
            both = [(k, table[k, m], y) for k, y in own if not math.isnan(table[k, m])]
            assert found.number[i, m] == len(both)
            expected = plain.pearson([a for _, a, _ in both], [b for *_, b in both])
            if expected is None:
                assert math.isnan(found.rho[i, m])
            else:
                assert found.rho[i, m] == pytest.approx(expected, abs=1e-12)
            assert found.first[i, m] == (both[0][0] + 100 if both else -1)
            assert found.last[i, m] == (both[-1][0] + 100 if both else -1)
            assert found.shares[i, m] == sum(int(volume[k, m]) for k, *_ in both)
            assert found.trades[i, m] == found.shares[i, m] + len(both)
