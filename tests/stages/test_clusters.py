"""Features, scores and clusters of trades, and the day's model."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from pipeline.calc.cluster_model import FEATURES, SCORES
from pipeline.stages.clusters import STAGE, Params

from .cluster_tape import DAY, DAY_0, Made, Market, random_market, run_clusters

BOTH = (1.0, 2.0, None, None, None, 4.0, None, None, None, None)
"""Sizes of a book with two bids and an ask."""


def one(t: float, market: Market, side: int = 1, size: float = 1.0, **params: Any) -> Any:
    """The row of one trade at a time (milliseconds after midnight)."""
    shifted = Market(end=DAY_0 + DAY)
    for name in ("quote", "book", "book_events"):
        setattr(shifted, name, [(DAY_0 + ts, *row) for ts, *row in getattr(market, name)])
    shifted.trades = [(DAY_0 + t, 0, size, side)]
    return run_clusters(shifted, **params).frames["clusters"].row(0, named=True)


def plain_market(**layers: Any) -> Market:
    quote: Any = [(0, 100.0, 2.0, 100.5, 3.0)]
    usual: dict[str, Any] = {"quote": quote, "book": [(0, *BOTH)], "book_events": [(0, 3.0)]}
    return Market(**usual | layers)


def test_features_of_a_buy_and_a_sell() -> None:
    buy = one(1000, plain_market(), 1, 2.5)
    assert buy["log_v_rel"] == pytest.approx(math.log(0.5))
    assert (buy["log_sbs"], buy["log_obs"]) == pytest.approx((math.log(5), math.log(4)))
    assert buy["spread_bps"] == pytest.approx(1e4 * 0.5 / 100.25)
    assert buy["log_t_mid"] == pytest.approx(math.log(1001))
    sell = one(1000, plain_market(), -1)
    assert (sell["log_sbs"], sell["log_obs"]) == (buy["log_obs"], buy["log_sbs"])
    assert all(buy[name] is None for name in (*SCORES, "cluster", "phi"))


@pytest.mark.parametrize(
    ("t", "is_there"), [(0, False), (0.9, False), (1, True), (60_000, True), (60_001, False)]
)
def test_rows_stand_strictly_before_and_sixty_seconds(t: float, is_there: bool) -> None:
    row = one(t, plain_market())
    assert all((row[name] is not None) == is_there for name in FEATURES)
    assert one(60_001, plain_market(), max_age_s=61)["log_sbs"] is not None


def test_stamps_are_floored_to_milliseconds() -> None:
    late = plain_market(quote=[(0.9, 100.0, 2.0, 100.5, 3.0)])
    assert one(0.95, late)["log_v_rel"] is None
    assert one(1.0, late)["log_t_mid"] == pytest.approx(math.log(2))
    assert one(5.75, late)["ts"].microsecond == 5750


@pytest.mark.parametrize(
    "bad",
    [
        (500, 100.5, 2.0, 100.5, 3.0),
        (500, 101.0, 2.0, 100.5, 3.0),
        (500, 100.0, 0.0, 100.5, 3.0),
        (500, 100.0, None, 100.5, None),
        (500, None, None, None, None),
    ],
)
def test_quotes_that_do_not_count_are_passed_over(bad: tuple[Any, ...]) -> None:
    market = plain_market()
    market.quote.append(bad)
    assert one(1000, market) == one(1000, plain_market())


def test_changes_of_the_mid_are_compared_as_decimals() -> None:
    assert 0.1 + 0.7 != 0.2 + 0.6
    market = plain_market(
        quote=[(0, 0.1, 2.0, 0.7, 3.0), (600, 0.2, 2.0, 0.6, 3.0), (800, 0.2, 9.0, 0.6, 3.0)]
    )
    row = one(1000, market)
    assert row["log_t_mid"] == pytest.approx(math.log(1001))
    assert row["log_t_side"] == pytest.approx(math.log(401))
    assert row["spread_bps"] == 1e4


def test_a_lost_book_is_none_until_the_next_row() -> None:
    def found(events: Any, book: Any = ()) -> bool:
        market = plain_market(book=[(0, *BOTH), *book], book_events=events)
        return one(1000, market)["log_sbs"] is not None

    assert found([(0, 3.0)])
    assert not found([(0, 3.0), (0, None)])
    assert found([(0, None), (0, 3.0)])
    assert not found([(0, 3.0), (999, None)])
    assert found([(0, 3.0), (1000, None)])
    assert found([(0, 3.0), (500, None), (600, 3.0)], [(600, *BOTH)])
    empty = (None,) * 5 + (4.0,) * 5
    assert found([(0, 3.0)], [(600, *empty)])


def test_depth_levels() -> None:
    assert one(1000, plain_market(), -1, depth_levels=1)["log_sbs"] == pytest.approx(math.log(2))


# -- against plain loops ---------------------------------------------------------------------


def plain_quote(market: Market, t: int, side: int) -> Any:
    """The quote before a time, and since when its mid and the price hit have been so."""
    quote, mid_ts, side_ts = None, 0, 0
    hit = 3 if side > 0 else 1
    for row in market.quote:
        ts, bid, bid_size, ask, ask_size = row
        if ts >= t or not (bid_size and ask_size and 0 < bid < ask):
            continue
        if quote is None or round(10 * (bid + ask)) != round(10 * (quote[1] + quote[3])):
            mid_ts = ts
        if quote is None or row[hit] != quote[hit]:
            side_ts = ts
        quote = row
    return None if quote is None or t - quote[0] > 60_000 else (*quote[1:], mid_ts, side_ts)


def plain_book(market: Market, t: int) -> list[Any] | None:
    """The sizes of the book before a time."""
    books, state = {ts: row for ts, *row in market.book}, None
    for ts, depth in market.book_events:
        if ts < t:
            row = books[ts] if depth is not None else None
            if row is None or not (row[0] is None or row[5] is None):
                state = None if row is None else (ts, row)
    return None if state is None or t - state[0] > 60_000 else state[1]


def plain_features(market: Market, t: int, size: float, side: int) -> list[float] | None:
    """The six features of one trade, by going through all rows."""
    quote, book = plain_quote(market, t, side), plain_book(market, t)
    if quote is None or book is None:
        return None
    bid, bid_size, ask, ask_size, mid_ts, side_ts = quote
    bids, asks = (sum(x for x in book[i : i + 5] if x is not None) for i in (0, 5))
    hit, other = (asks, bids) if side > 0 else (bids, asks)
    spread = round(10 * (ask - bid)) / 10
    return [
        math.log(size / (bid_size + ask_size)),
        math.log(1 + hit),
        math.log(1 + other),
        1e4 * spread / ((bid + ask) / 2),
        math.log(1 + t - mid_ts),
        math.log(1 + t - side_ts),
    ]


def test_against_plain_loops() -> None:
    market = random_market(5, 400, days=1)
    made = run_clusters(market, min_rows=50, window=20)
    whole: list[list[float]] = []
    rows = made.frames["clusters"].rows(named=True)
    assert [row["seq"] for row in rows] == [row[1] for row in market.trades]
    count = 0
    for row, (t, _, size, side) in zip(rows, market.trades, strict=True):
        wanted = plain_features(market, t, size, side)
        if wanted is None:
            assert None in [row[name] for name in FEATURES]
            assert all(row[name] is None for name in SCORES)
            continue
        assert [row[name] for name in FEATURES] == pytest.approx(wanted, abs=1e-9)
        scores = [row[name] for name in SCORES]
        if len(whole) < 20:
            assert scores == [None] * 6
        else:
            for column, score in enumerate(scores):
                past = [each[column] for each in whole[-20:]]
                apart = wanted[column] - statistics.fmean(past)
                assert score == pytest.approx(
                    apart / max(statistics.stdev(past), 0.001), abs=1e-8, rel=1e-8
                )
            count += 1
        whole.append(wanted)
    assert count > 100


# -- models --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(11, 2500, days=4)


SMALL: dict[str, Any] = {"min_rows": 60, "window": 100}


@pytest.fixture(scope="module")
def made(market: Market) -> Made:
    return run_clusters(market, **SMALL)


def test_every_midnight_behind_a_day_has_its_model(made: Made) -> None:
    days = [model["valid_from"] for model in made.models]
    assert days == ["2024-03-07", "2024-03-08", "2024-03-09", "2024-03-10"]
    keys = tuple(column.name for column in STAGE.layers[-1].columns)
    assert all(tuple(model) == keys for model in made.models)
    first, second = made.models[:2]
    assert first["trained_on"] == "2024-03-06"
    assert first["features"] == list(FEATURES)
    assert first["roles"] == [1, 3, 2]
    assert first["contrast"] == sorted(first["contrast"])
    assert first["centroid_shift"] is None
    apart = np.array(second["centroids"]) - np.array(first["centroids"])
    assert second["centroid_shift"] == pytest.approx(math.sqrt((apart**2).mean()))
    assert sum(first["counts"]) == first["n_fit"] == first["n_rows"]


def test_labels_follow_the_newest_model_of_the_clocks_day(market: Market, made: Made) -> None:
    rows, clock, labelled = made.frames["clusters"], 0, 0
    for row, (ts, *_) in zip(rows.rows(named=True), market.trades, strict=True):
        clock = max(clock, ts)
        day = (clock - DAY_0) // DAY
        if day == 0 or row["z_sbs"] is None:
            assert row["cluster"] is None
            assert row["phi"] is None
            continue
        model = made.models[day - 1]
        z = [
            min(max(row[name], low), high)
            for name, low, high in zip(SCORES, model["clip_low"], model["clip_high"], strict=True)
        ]
        apart = [sum((a - b) ** 2 for a, b in zip(z, c, strict=True)) for c in model["centroids"]]
        assert row["cluster"] == 1 + apart.index(min(apart))
        assert row["phi"] == model["roles"][row["cluster"] - 1]
        labelled += 1
    assert labelled > 100


def test_any_cutting_gives_the_same_rows_and_models(market: Market, made: Made) -> None:
    exact = msgspec.json.encode(made.models)
    rng = random.Random(3)
    trades = len(market.trades)
    for count in (1, 3, 10, 60):
        cuts = [rng.randrange(trades + 1) for _ in range(count)]
        again = run_clusters(market, cuts, **SMALL)
        assert msgspec.json.encode(again.models) == exact
        for name, frame in made.frames.items():
            assert frame.equals(again.frames[name]), name
        assert again.carry_bytes < 100_000


def test_a_model_waits_for_the_end_of_its_day(market: Market) -> None:
    first_day = [row for row in market.trades if row[0] < DAY_0 + DAY - 60_000]
    cut = Market(first_day, market.quote, market.book, market.book_events)
    for end, count in ((DAY_0 + DAY - 1, 0), (DAY_0 + DAY, 1), (DAY_0 + 3 * DAY, 1)):
        cut.end = end
        cut.quote = [row for row in market.quote if row[0] <= end]
        assert len(run_clusters(cut, **SMALL).models) == count


def test_a_day_with_too_few_scores_makes_no_model(market: Market, made: Made) -> None:
    rows = max(model["n_rows"] for model in made.models)
    assert run_clusters(market, **SMALL | {"min_rows": rows + 1}).models == []
    few = run_clusters(market, max_fit=50, **SMALL).models[0]
    n = few["n_rows"]
    assert few["n_fit"] == len(range(0, n, -(-n // 50))) <= 50


def test_roles(market: Market, made: Made) -> None:
    for roles, wanted in (("inverted", [2, 3, 1]), ([3, 2, 1], [3, 2, 1])):
        again = run_clusters(market, roles=roles, **SMALL)
        assert again.models[0]["roles"] == wanted
        same, other = made.frames["clusters"], again.frames["clusters"]
        assert same["cluster"].equals(other["cluster"])
        pairs = other.select("cluster", "phi").drop_nulls().unique().rows()
        assert sorted(pairs) == list(enumerate(wanted, 1))
    for wrong in ("upside", [1, 1, 2], [1, 2]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"roles": wrong}, Params)


def test_seconds_have_the_quote_just_before_them(market: Market, made: Made) -> None:
    found = {int(ts.timestamp()): (bid, ask) for ts, bid, ask in made.frames["quote_1s"].rows()}
    valid = [row for row in market.quote if row[2] and row[4] and 0 < row[1] < row[3]]
    first, last = DAY_0 // 1000, market.end // 1000
    place, checked = 0, 0
    for second in range(first, last + 1):
        while place < len(valid) and valid[place][0] < second * 1000:
            place += 1
        known = place and second * 1000 - valid[place - 1][0] <= 60_000
        wanted = (valid[place - 1][1], valid[place - 1][3]) if known else None
        assert found.get(second) == wanted
        checked += wanted is not None
    assert checked > 1000


def test_flow_is_the_signed_size_at_the_clock(market: Market, made: Made) -> None:
    clock = np.maximum.accumulate([row[0] for row in market.trades])
    frame = made.frames["cluster_flow"]
    assert (frame["ts"].dt.timestamp("ms").to_numpy() == clock).all()
    assert frame["flow"].to_list() == [size * side for _, _, size, side in market.trades]
    assert frame["phi"].equals(made.frames["clusters"]["phi"])


def test_an_empty_window_changes_nothing(market: Market) -> None:
    cut = Market([], market.quote, market.book, market.book_events, end=DAY_0 + DAY)
    made = run_clusters(cut, **SMALL)
    assert set(made.frames) == {"quote_1s"}
    assert isinstance(made.frames["quote_1s"], pl.DataFrame)
