"""The oracle of labels and maker quotes on cases small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from .clusters import (
    COLUMNS,
    FEATURES,
    MODEL_KEYS,
    SCORES,
    Depths,
    Featured,
    Oracle,
    Settings,
    Vector,
    clip,
    contrast,
    every,
    featured_trades,
    features_of,
    fit,
    label,
    lloyd,
    nearest,
    numbered,
    quantile,
    read_depths,
    role,
    score,
    shift,
    silhouette,
    thirds,
)
from .layers import Row
from .maker import (
    EPOCH,
    NOTHING,
    Flow,
    MakerSettings,
    Quotes,
    Second,
    calibrate,
    correlation,
    line_through,
    maker_row,
    maker_rows,
    median,
    midnight,
    move_bps,
    per_second,
    position_before,
    read_quotes,
    rounded,
)

DAY = date(2024, 3, 5)
NOON = midnight(DAY) + 12 * 3_600_000
"""2024-03-05 12:00 UTC, in ms."""
TAU = 10.0


def stamp(ms: float) -> datetime:
    """The time so many milliseconds after noon."""
    return EPOCH + timedelta(microseconds=round((NOON + ms) * 1000))


def quote(ms: float, bid: Any, ask: Any, bid_size: Any = 2.0, ask_size: Any = 3.0) -> Row:
    """A row of `quote`."""
    return {"ts": stamp(ms), "bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size}


def trade(seq: int, ms: float, size: float = 1.0, side: int = 1) -> Row:
    """A row of `trades`, as far as it matters."""
    return {"seq": seq, "ts": stamp(ms), "size": size, "side": side}


def book(ms: float, bids: Sequence[float], asks: Sequence[float]) -> Row:
    """A row of `book` with these sizes."""
    row: Row = {"ts": stamp(ms)}
    for name, sizes in (("bid", bids), ("ask", asks)):
        padded = [*sizes, *[None] * (20 - len(sizes))]
        row |= {f"{name}_sz_{i}": size for i, size in enumerate(padded)}
    return row


def event(ms: float, *, is_lost: bool = False) -> Row:
    """A row of `book_events`, as far as it matters."""
    return {"ts": stamp(ms), "bid_depth": None if is_lost else 1.0}


def depths(rows: Sequence[Row], lost: Sequence[float] = (), **settings: Any) -> Depths:
    """The valid rows among some, with the moments the book was lost at."""
    events = [(row["ts"], 0, {"ts": row["ts"], "bid_depth": 1.0}) for row in rows]
    events += [(stamp(ms), 1, event(ms, is_lost=True)) for ms in lost]
    return read_depths(
        rows, [e for _, _, e in sorted(events, key=lambda e: e[:2])], Settings(**settings)
    )


# -- quotes and books at a moment ----------------------------------------------------------


def test_strictly_before_and_at_most_a_minute() -> None:
    quotes = read_quotes([quote(1000, 10.0, 11.0), quote(2000, 10.0, 12.0)])
    found = {ms: quotes.at(NOON + ms) for ms in (1000, 1001, 2000, 2001, 62_000, 62_001)}
    asks = {ms: None if q is None else q.ask for ms, q in found.items()}
    assert asks == {1000: None, 1001: 11.0, 2000: 11.0, 2001: 12.0, 62_000: 12.0, 62_001: None}
    assert read_quotes([quote(0, 10.0, 11.0)], max_age_s=0.5).at(NOON + 501) is None


def test_times_are_whole_milliseconds() -> None:
    quotes = read_quotes([quote(1000.9, 10.0, 11.0)])
    assert quotes.at(NOON + 1000) is None
    assert quotes.at(NOON + 1001) is not None
    trades = featured_trades([trade(1, 1000.95)], quotes, depths([]))
    assert trades[0].features[0] is None
    assert (trades[0].clock, trades[0].ts) == (NOON + 1000, stamp(1000.95))


@pytest.mark.parametrize(
    "bad",
    [
        quote(5, 11.0, 11.0),
        quote(5, 12.0, 11.0),
        quote(5, 0.0, 11.0),
        quote(5, 10.0, 11.0, bid_size=0.0),
        quote(5, 10.0, 11.0, ask_size=0.0),
        quote(5, 10.0, 11.0, ask_size=None),
        quote(5, None, None, None, None),
    ],
)
def test_quotes_that_are_not_valid_are_passed_over(bad: Row) -> None:
    quotes = read_quotes([quote(0, 10.0, 11.0), bad, quote(10, 10.0, 11.0)])
    assert quotes.times == [NOON, NOON + 10]
    assert quotes.quotes[-1].mid_since == NOON


def test_changes_of_price() -> None:
    quotes = read_quotes(
        [
            quote(0, 10.0, 11.0),
            quote(10, 10.0, 11.0, 5.0, 6.0),  # sizes only
            quote(20, 9.5, 11.5),  # both prices, not the mid
            quote(30, 9.5, 12.0),
            quote(40, 9.5, 12.0),
        ]
    )
    since = [(q.mid_since - NOON, q.bid_since - NOON, q.ask_since - NOON) for q in quotes.quotes]
    assert since == [(0, 0, 0), (0, 0, 0), (0, 20, 20), (30, 20, 30), (30, 20, 30)]


def test_mids_are_compared_as_decimals() -> None:
    assert 0.1 + 0.7 != 0.2 + 0.6  # as doubles they differ
    quotes = read_quotes([quote(0, 0.1, 0.7), quote(10, 0.2, 0.6)])
    assert [q.mid_since - NOON for q in quotes.quotes] == [0, 0]
    assert quotes.quotes[1].bid_since - NOON == 10
    assert quotes.quotes[1].spread_bps == pytest.approx(10_000, rel=1e-15)


def test_depth_counts_the_best_levels_of_sides_that_are_there() -> None:
    rows = [book(0, [1, 2, 3, 4, 5, 6], [10]), book(10, [1], []), book(20, [], [])]
    found = depths(rows)
    assert [(d.bid, d.ask) for d in found.depths] == [(15.0, 10.0)]
    two = depths(rows, depth_levels=2).at(NOON + 1)
    assert two is not None
    assert two.bid == 3.0


def test_a_lost_book_is_no_book_until_the_next_snapshot() -> None:
    rows = [book(0, [1], [2]), book(100, [3], [4]), book(250, [5], [6])]
    found = depths(rows, lost=[150, 160])
    asked = (100, 101, 150, 151, 250, 251, 60_250, 60_251)
    bids = [None if d is None else d.bid for d in (found.at(NOON + t) for t in asked)]
    assert bids == [1.0, 3.0, 3.0, None, None, 5.0, 5.0, None]


def test_a_book_lost_in_the_millisecond_of_its_row() -> None:
    rows, ts = [book(100, [1], [2])], 100
    lost_after = read_depths(rows, [event(ts), event(ts, is_lost=True)])
    lost_before = read_depths(rows, [event(ts, is_lost=True), event(ts)])
    lost_between = read_depths(rows, [event(ts), event(ts, is_lost=True), event(ts)])
    assert lost_after.at(NOON + 101) is None
    assert lost_before.at(NOON + 101) is not None
    assert lost_between.at(NOON + 101) is not None


# -- features and scores --------------------------------------------------------------------


def test_features_of_a_buy_and_of_a_sell() -> None:
    quotes = read_quotes([quote(0, 99.0, 101.0), quote(40, 98.0, 102.0), quote(70, 98.0, 101.0)])
    books = depths([book(0, [1, 1], [2, 3, 4])])
    t = NOON + 169
    shared = (math.log(2.5 / 5), math.log(1 + 99), 1e4 * 3 / 99.5)
    buy = features_of(t, 2.5, 1, quotes.at(t), books.at(t))
    sell = features_of(t, 2.5, -1, quotes.at(t), books.at(t))
    assert buy == pytest.approx(
        (shared[0], math.log(10), math.log(3), shared[2], shared[1], math.log(1 + 99))
    )
    assert sell == pytest.approx(
        (shared[0], math.log(3), math.log(10), shared[2], shared[1], math.log(1 + 129))
    )


def test_features_without_a_quote_or_a_book() -> None:
    quotes = read_quotes([quote(0, 99.0, 101.0)])
    books = depths([book(0, [1], [2])])
    at = NOON + 1
    no_quote = features_of(at, 1.0, 1, None, books.at(at))
    no_book = features_of(at, 1.0, 1, quotes.at(at), None)
    assert [x is None for x in no_quote] == [True, False, False, True, True, True]
    assert [x is None for x in no_book] == [False, True, True, False, False, False]


def test_score_of_known_numbers() -> None:
    assert score(9.0, [2.0, 4.0, 6.0], 0.001) == 2.5
    assert score(4.002, [4.0] * 3, 0.001) == pytest.approx(2.0)
    assert score(4.002, [4.0] * 3, 1.0) == pytest.approx(0.002)


def scored(trades: Sequence[Row], quotes: Sequence[Row], books: Sequence[Row]) -> list[Featured]:
    """Trades with a window of the default length."""
    return featured_trades(trades, read_quotes(quotes), depths(books))


def test_a_score_needs_a_hundred_featured_trades_before_it() -> None:
    quotes, books = [quote(-5000, 99.0, 101.0)], [book(-5000, [1], [2])]
    plain = [trade(i, 500 * i, size=1 + i % 7) for i in range(100)]
    found = scored([*plain, trade(100, 50_000, size=9), trade(101, 50_001)], quotes, books)
    assert [i for i, row in enumerate(found) if row.z is not None] == [100, 101]
    sizes = [math.log((1 + i % 7) / 5) for i in range(100)]
    z = found[100].z
    assert z is not None
    middle = sum(sizes) / 100
    sd = math.sqrt(sum((x - middle) ** 2 for x in sizes) / 99)
    assert z[0] == pytest.approx((math.log(9 / 5) - middle) / sd, rel=1e-12)
    assert z[1:4] == (0.0, 0.0, 0.0)  # constant: the floor keeps it finite
    later = found[101].z
    assert later is not None
    window = [*sizes[1:], math.log(9 / 5)]
    assert later[0] == score(math.log(1 / 5), window, 0.001)


def test_a_trade_without_all_features_neither_has_a_score_nor_enters_the_window() -> None:
    quotes = [quote(0, 99.0, 101.0), quote(100_000, 99.0, 101.0)]
    books = [book(0, [1], [2]), book(100_000, [1], [2])]
    first = [trade(i, 1 + i) for i in range(60)]
    dark = [trade(60, 60_001, size=1e6), trade(61, 99_000, size=1e6)]
    later = [trade(62 + i, 100_001 + i, size=1 + i % 2) for i in range(42)]
    found = scored([*first, *dark, *later], quotes, books)
    assert [row.features[0] is None for row in found[60:62]] == [True, True]
    assert [row.z is not None for row in found[99:]] == [False] * 3 + [True] * 2
    z = found[-1].z
    assert z is not None
    window = [math.log(1 / 5)] * 59 + [math.log((1 + i % 2) / 5) for i in range(41)]
    assert z[0] == score(math.log(2 / 5), window, 0.001)


def test_the_clock_never_runs_back() -> None:
    found = scored([trade(1, 500), trade(2, 300), trade(3, 700)], [quote(400, 1.0, 2.0)], [])
    assert [row.clock - NOON for row in found] == [500, 500, 700]
    assert [row.features[3] is None for row in found] == [False, True, False]  # its own time


# -- the model ---------------------------------------------------------------------------


def z_row(v_rel: float = 0, sbs: float = 0, obs: float = 0, spread: float = 0) -> Vector:
    """A vector with some scores set."""
    return (v_rel, sbs, obs, spread, 0.0, 0.0)


def test_sampling_of_rows() -> None:
    rows = [z_row(float(i)) for i in range(10)]
    assert [z[0] for z in every(rows, 10)] == [float(i) for i in range(10)]
    assert [z[0] for z in every(rows, 9)] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert [z[0] for z in every(rows, 4)] == [0.0, 3.0, 6.0, 9.0]


def test_quantiles_interpolate() -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0, 5.0], 0.01) == pytest.approx(1.04)
    assert quantile([4.0, 1.0, 3.0, 2.0, 5.0], 0.99) == pytest.approx(4.96)
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([float(i) for i in range(101)], 0.99) == pytest.approx(99.0)


def test_clip() -> None:
    low, high = [-1.0] * 6, [2.0] * 6
    assert clip((-5, -1, 0, 2, 2.5, 1), low, high) == (-1.0, -1, 0, 2, 2.0, 1)


def test_thirds_by_contrast_with_ties_in_their_order() -> None:
    rows = [z_row(float(i), sbs=c) for i, c in enumerate((1, 0, 1, -1, 0, 1, 0, 1))]
    cut = [[z[0] for z in part] for part in thirds(rows)]
    assert cut == [[3.0, 1.0], [4.0, 6.0, 0.0], [2.0, 5.0, 7.0]]
    assert contrast(z_row(sbs=2, obs=0.5)) == 1.5


def test_nearest_takes_the_first_of_two() -> None:
    centroids = [z_row(1.0), z_row(-1.0), z_row(5.0)]
    assert [nearest(z_row(x), centroids) for x in (0.0, -0.1, 3.0, 3.1)] == [0, 1, 0, 2]


def test_lloyd_by_hand() -> None:
    rows = [z_row(x) for x in (0.0, 1.0, 4.0, 5.0, 10.0)]
    found = lloyd(rows, [z_row(0.0), z_row(1.0), z_row(10.0)], 300)
    # 0 | 1 4 5 | 10 -> means 0, 10/3, 10; 1 goes to 0 -> .5, 4.5, 10; nothing changes
    assert found is not None
    assert [c[0] for c in found.centroids] == [0.5, 4.5, 10.0]
    assert (found.labels, found.rounds) == ([0, 0, 1, 1, 2], 3)
    stopped = lloyd(rows, [z_row(0.0), z_row(1.0), z_row(10.0)], 1)
    assert stopped is not None
    assert [c[0] for c in stopped.centroids] == pytest.approx([0, 10 / 3, 10])
    assert (stopped.labels, stopped.rounds) == ([0, 0, 1, 1, 2], 1)


def test_an_empty_cluster_is_no_model() -> None:
    rows = [z_row(x) for x in (0.0, 1.0, 2.0)]
    assert lloyd(rows, [z_row(0.0), z_row(2.0), z_row(9.0)], 300) is None
    assert fit([z_row(1.0)] * 9, Settings(min_rows=1)) is None  # all tie for the first
    assert fit([z_row(0.0), z_row(1.0)], Settings(min_rows=1)) is None
    spread = [z_row(sbs=float(i)) for i in range(9)]
    assert fit(spread, Settings(min_rows=10)) is None
    assert fit(spread, Settings(min_rows=9)) is not None


def test_clusters_are_numbered_by_contrast() -> None:
    rows = [z_row(sbs=s, obs=o) for s, o in ((5, 0), (0, 5), (0, 0), (5, 0))]
    found = lloyd(rows, [z_row(sbs=5), z_row(), z_row(obs=5)], 300)
    assert found is not None
    named = numbered(found)
    assert [contrast(c) for c in named.centroids] == [-5.0, 0.0, 5.0]
    assert named.labels == [2, 0, 1, 2]


@pytest.mark.parametrize(
    ("roles", "wanted"),
    [("depth", [1, 3, 2]), ("inverted", [2, 3, 1]), ((3, 2, 1), [3, 2, 1])],
)
def test_roles(roles: str | tuple[int, ...], wanted: list[int]) -> None:
    model = fit([z_row(sbs=float(i)) for i in range(9)], Settings(min_rows=9, roles=roles))
    assert model is not None
    assert model["roles"] == wanted
    assert [role(cluster, model) for cluster in (1, 2, 3, None)] == [*wanted, None]
    assert role(1, None) is None


def test_a_whole_fit_by_hand() -> None:
    rows = [z_row(sbs=float(s)) for s in (9, 0, 1, 4, 5, 8)]
    model = fit(rows, Settings(min_rows=6))
    assert model is not None
    low, high = 0.05, 8.95
    assert (model["clip_low"][1], model["clip_high"][1]) == pytest.approx((low, high))
    assert (model["n_rows"], model["n_fit"], model["counts"]) == (6, 6, [2, 2, 2])
    centres = [(low + 1) / 2, 4.5, (8 + high) / 2]
    assert [c[1] for c in model["centroids"]] == pytest.approx(centres)
    assert model["contrast"] == pytest.approx(centres)
    assert model["role_margin"] == pytest.approx(centres[1] - centres[0])
    assert model["inertia"] == pytest.approx(2 * 2 * (0.95 / 2) ** 2 + 2 * 0.25)
    assert model["iterations"] == 2
    assert label(z_row(sbs=-100.0), model) == 1
    assert label(z_row(v_rel=-100.0, sbs=6.6), model) == 3  # v_rel is clipped to 0
    assert label(None, model) is None
    assert label(z_row(), None) is None


def test_the_clip_comes_before_the_nearest_centroid() -> None:
    model: Row = {
        "clip_low": [-1.0] * 6,
        "clip_high": [1.0] * 6,
        "centroids": [z_row(1.0), z_row(sbs=9.0), z_row(sbs=30.0, v_rel=30.0)],
    }
    assert label(z_row(1.0, sbs=30.0), model) == 1
    assert nearest(z_row(1.0, sbs=30.0), model["centroids"]) == 1  # counted from 0


def test_silhouette_by_hand() -> None:
    rows = [z_row(x) for x in (0.0, 2.0, 5.0, 7.0, 100.0)]
    labels = [0, 0, 1, 1, 2]
    wanted = [(6 - 2) / 6, (4 - 2) / 4, (4 - 2) / 4, (6 - 2) / 6, 0.0]
    assert silhouette(rows, labels) == pytest.approx(sum(wanted) / 5)
    assert silhouette([z_row()] * 4, [0, 0, 1, 1]) == 0.0
    assert silhouette(rows, [1] * 5) is None


def test_shift() -> None:
    old = [[0.0] * 6, [0.0] * 6, [0.0] * 6]
    new = [[3.0, *[0.0] * 5], [0.0] * 6, [0.0] * 5 + [3.0]]
    assert shift(new, old) == 1.0


# -- accumulators --------------------------------------------------------------------------


def flow(
    ms: int, size: float, side: int = 1, cluster: int | None = None, phi: int | None = None
) -> Flow:
    """A trade after noon."""
    return Flow(NOON + ms, size, side, cluster, phi)


def test_accumulators_and_decay() -> None:
    seconds = per_second(
        [
            flow(200, 5.0),  # no label
            flow(300, 2.0, -1, 3, 2),
            flow(800, 4.0, -1, 1, 1),
            flow(2100, 1.0, 1, 3, 2),
            flow(2100, 8.0, 1, 2, 3),
        ],
        TAU,
    )
    assert [(s.start - NOON, s.end - NOON) for s in seconds] == [(0, 1000), (2000, 3000)]
    first, second = seconds
    assert first.skew == pytest.approx(-2 * math.exp(-0.07), rel=1e-12)
    assert first.hazard == pytest.approx(4 * math.exp(-0.02), rel=1e-12)
    assert first.signed == pytest.approx((-4 * math.exp(-0.02), 0, -2 * math.exp(-0.07)))
    assert second.skew == pytest.approx((-2 * math.exp(-0.18) + 1) * math.exp(-0.09), rel=1e-12)
    assert second.hazard == pytest.approx(4 * math.exp(-0.22), rel=1e-12)
    assert second.signed[1] == pytest.approx(8 * math.exp(-0.09), rel=1e-12)


def test_half_life_and_tau() -> None:
    flows = [flow(0, 1.0, 1, 3, 2), flow(10_000 - 1000, 1.0)]
    assert per_second(flows, TAU)[-1].skew == pytest.approx(math.exp(-1))
    assert per_second(flows, 5.0)[-1].skew == pytest.approx(math.exp(-2))
    assert [(s.skew, s.hazard) for s in per_second([flow(0, 3.0)])] == [(0.0, 0.0)]


# -- calibration ---------------------------------------------------------------------------


def test_small_statistics() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2, 3], [1, -2, 1]) == pytest.approx(0.0)
    assert correlation([1, 1, 1], [1, 2, 3]) is None
    assert correlation([1, 2, 3], [5, 5, 5]) is None
    assert line_through([0, 1, 2], [1, 3, 5]) == pytest.approx((1, 2))
    assert line_through([2, 2], [1, 3]) is None


def test_moves_end_with_the_day() -> None:
    end = midnight(DAY) + 86_400_000

    def mid_at(t: int) -> float | None:
        return None if t == end - 2000 else 100.0 + (t % 7000) / 1000

    assert move_bps(mid_at, end - 5000, 5, end) is not None
    assert move_bps(mid_at, end - 4999, 5, end) is None
    assert move_bps(mid_at, end - 2000, 1, end) is None
    assert move_bps(mid_at, end - 7000, 5, end) is None
    assert move_bps(lambda t: 100.0 if t == 0 else 101.0, 0, 5, 10_000) == pytest.approx(
        1e4 * math.log(1.01)
    )


class Steps:
    """A mid that moves by some bps in the five seconds behind each second asked for."""

    def __init__(self, moves: Mapping[int, float]) -> None:
        self.moves = dict(moves)

    def __call__(self, t: int) -> float | None:
        """100 where a move begins, moved where it ends."""
        if t in self.moves:
            return 100.0
        return 100.0 * math.exp(1e-4 * self.moves[t - 5000]) if t - 5000 in self.moves else None


def day_of_moves(
    count: int, sizes: Sequence[float], moves: Sequence[float], phi: int = 2
) -> tuple[list[Flow], Steps]:
    """A trade each 100 s, long enough apart that nothing of the last one is left with tau 1."""
    clocks = [100_000 * i for i in range(count)]
    flows = [
        flow(c, abs(sizes[i % len(sizes)]), 1 if sizes[i % len(sizes)] > 0 else -1, 1, phi)
        for i, c in enumerate(clocks)
    ]
    table = {NOON + c + 1000: moves[i % len(moves)] for i, c in enumerate(clocks)}
    return flows, Steps(table)


END = midnight(DAY) + 86_400_000
LEFT = math.exp(-1)
"""What is left of a trade at the end of its second with tau 1."""


def test_fewer_than_sixty_pairs() -> None:
    flows, mid_at = day_of_moves(59, [1.0, -1.0], [2.0, -2.0])
    assert calibrate(flows, mid_at, END, tau_s=1) == {
        "n": 59,
        "alpha": None,
        "k_tol": None,
        "beta_bps": 0.0,
        "gamma": 0.0,
        "sigma_bps": None,
        "b_raw_bps": None,
        "ic": None,
    }
    flows, mid_at = day_of_moves(60, [1.0, -1.0], [2.0, -2.0])
    assert calibrate(flows, mid_at, END, tau_s=1)["alpha"] is not None


def test_alpha_and_beta_by_hand() -> None:
    sizes, moves = [3.0, -3.0, 1.0, -1.0], [1.0, -1.0, 2.0, -2.0]
    flows, mid_at = day_of_moves(80, sizes, moves)
    found = calibrate(flows, mid_at, END, tau_s=1)
    alpha = 1 / (math.sqrt(5) * LEFT)
    u, w = math.tanh(3 / math.sqrt(5)), math.tanh(1 / math.sqrt(5))
    b = (u * 1 + w * 2) / (u * u + w * w)
    assert found["n"] == 80
    assert found["alpha"] == pytest.approx(alpha)
    assert found["b_raw_bps"] == pytest.approx(b)
    sigma = math.sqrt(2.5)
    assert found["sigma_bps"] == pytest.approx(sigma)
    assert b > sigma
    assert found["beta_bps"] == found["sigma_bps"]  # bounded by volatility
    assert found["ic"][0] == [None, pytest.approx(2.5 / math.sqrt(5 * 2.5)), None, None]
    assert found["ic"][1:] == [[None] * 4] * 2
    assert (found["k_tol"], found["gamma"]) == (0.0, 0.0)


def test_beta_between_its_bounds() -> None:
    flows, mid_at = day_of_moves(80, [1.0, -1.0], [3.0, -1.0, 1.0, 1.0])
    inside = calibrate(flows, mid_at, END, tau_s=1)
    # u is +-tanh 1 in turn: b = mean(s·r) / tanh 1 with s·r = 3, 1, 1, -1
    assert inside["b_raw_bps"] == pytest.approx(1 / math.tanh(1))
    assert inside["sigma_bps"] == pytest.approx(math.sqrt(3 - 1))
    assert inside["beta_bps"] == inside["b_raw_bps"]
    flows, mid_at = day_of_moves(80, [1.0, -1.0], [-3.0, 1.0])
    failed = calibrate(flows, mid_at, END, tau_s=1)
    assert failed["b_raw_bps"] == pytest.approx(-2 / math.tanh(1))
    assert failed["beta_bps"] == 0.0


def test_no_skew_at_all() -> None:
    flows, mid_at = day_of_moves(60, [1.0, -1.0], [2.0, 1.0], phi=3)
    found = calibrate(flows, mid_at, END, tau_s=1)
    assert (found["alpha"], found["b_raw_bps"], found["beta_bps"]) == (None, None, 0.0)
    assert (found["k_tol"], found["gamma"], found["sigma_bps"]) == (0.0, 0.0, pytest.approx(0.5))


def test_gamma_by_hand() -> None:
    sizes = [1.0, 2.0, 3.0, 4.0]
    flows, mid_at = day_of_moves(80, sizes, [2.0, -2.0, 3.0, -5.0], phi=1)
    found = calibrate(flows, mid_at, END, tau_s=1)
    assert found["k_tol"] == pytest.approx(2.5 * LEFT)
    # x = 0, 0, .5, 1.5 (times LEFT), |r| = 2, 2, 3, 5: a = 2, g = 2
    assert found["gamma"] == pytest.approx(1 / LEFT)
    assert found["alpha"] is None


@pytest.mark.parametrize(
    ("sizes", "moves"),
    [
        ([2.0, 2.0], [1.0, 3.0]),  # the hazard does not vary
        ([1.0, 3.0], [4.0, 1.0]),  # the line falls
        ([1.0, 2.0, 3.0, 5.0], [0.0, 0.0, 0.0, 8.0]),  # it begins below zero
    ],
)
def test_gamma_is_zero(sizes: list[float], moves: list[float]) -> None:
    flows, mid_at = day_of_moves(80, sizes, moves, phi=1)
    assert calibrate(flows, mid_at, END, tau_s=1)["gamma"] == 0.0


# -- quotes to make -------------------------------------------------------------------------

MODEL: Row = {"alpha": 0.5, "k_tol": 1.0, "beta_bps": 2.0, "gamma": 0.25}
TICK = Decimal("0.1")


def top(bid: float, ask: float) -> Quotes:
    """One quote just before noon's first second is over."""
    return read_quotes([quote(900, bid, ask)])


def made(second: Second, position: float | None = None, **settings: float) -> Row:
    """A row with the model above on a book of 9999.9 to 10000.1."""
    best = top(9999.9, 10_000.1).at(second.end)
    return maker_row(second, best, MODEL, position, TICK, MakerSettings(**settings))


def second(skew: float, hazard: float) -> Second:
    """Noon's first."""
    return Second(NOON, skew, hazard, (0.0, 0.0, 0.0))


def test_quotes_by_hand() -> None:
    row = made(second(2.0, 3.0))
    micro = 10_000 * (1 + 2e-4 * math.tanh(1.0))  # 10001.523
    assert row["p_micro"] == pytest.approx(micro)
    assert row["width"] == pytest.approx(2 * 1.5)
    assert row["p_final"] == row["p_micro"]
    assert (row["bid"], row["ask"], row["inventory"]) == (10_000.0, 10_003.1, None)
    assert list(row) == list(NOTHING)


def test_inventory_leans_against_itself() -> None:
    free, long = made(second(2.0, 3.0)), made(second(2.0, 3.0), 7.5)
    assert long["p_final"] == pytest.approx(free["p_micro"] - 1.5)
    assert long["inventory"] == 7.5
    assert made(second(2.0, 3.0), -5.0)["p_final"] == pytest.approx(free["p_micro"] + 1.0)
    assert made(second(2.0, 3.0), 7.5, inventory_target=7.5)["p_final"] == free["p_micro"]
    assert made(second(2.0, 3.0), None, inventory_target=7.5)["p_final"] == free["p_micro"]
    assert made(second(2.0, 3.0), 1.0, theta_ticks=10)["p_final"] == pytest.approx(
        free["p_micro"] - 1
    )


def test_width() -> None:
    assert made(second(0.0, 0.5))["width"] == pytest.approx(2.0)
    assert made(second(0.0, 1e9))["width"] == pytest.approx(10.0)
    assert made(second(0.0, 1e9), width_cap=3)["width"] == pytest.approx(6.0)
    assert made(second(0.0, 0.0), base_bps=1)["width"] == pytest.approx(1.0)


def test_prices_on_the_tick_stay_there() -> None:
    row = made(second(0.0, 0.0))  # 9999.0 and 10001.0, however doubles divide
    assert (row["bid"], row["ask"]) == (9999.0, 10_001.0)
    best = top(9999.9, 10_000.1).quotes[0]
    assert rounded(9999.05, 10_000.95, best, TICK) == (9999.0, 10_001.0)
    assert rounded(9999.1 - 1e-12, 10_000.9 + 1e-12, best, TICK) == (9999.1, 10_000.9)


def test_quotes_never_cross_the_other_side() -> None:
    best = top(9999.9, 10_000.1).quotes[0]
    assert rounded(10_004.0, 10_006.0, best, TICK) == (10_000.0, 10_006.0)
    assert rounded(9990.0, 9992.0, best, TICK) == (9990.0, 10_000.0)
    assert rounded(10_000.1, 10_000.1, best, TICK) == (10_000.0, 10_000.1)
    coarse = top(0.30, 0.55).quotes[0]
    assert rounded(0.7, 0.9, coarse, Decimal("0.05")) == (0.5, 0.9)
    assert rounded(0.7, 0.9, coarse, Decimal("0.050")) == (0.5, 0.9)
    assert rounded(907.0, 1013.0, top(990.0, 1010.0).quotes[0], Decimal(5)) == (905.0, 1015.0)


def test_terms_that_are_not_known_are_zero() -> None:
    model = MODEL | {"alpha": None, "k_tol": None}
    best = top(9999.9, 10_000.1).at(NOON + 1000)
    row = maker_row(second(2.0, 3.0), best, model, None, TICK)
    assert (row["p_micro"], row["width"]) == (10_000.0, pytest.approx(2.0))


def test_nulls() -> None:
    best = top(9999.9, 10_000.1).at(NOON + 1000)
    before = maker_row(second(2.0, 3.0), best, None, 4.0, TICK)
    assert before == NOTHING | {"mid": 10_000.0, "inventory": 4.0}
    blind = maker_row(second(2.0, 3.0), None, MODEL, 4.0, TICK)
    assert blind == NOTHING | {"sig_skew": 2.0, "sig_hazard": 3.0, "inventory": 4.0}
    assert maker_row(second(0, 0), None, None, None, TICK) == NOTHING


def test_the_newest_position_strictly_before() -> None:
    inventory = [(NOON, 1.0), (NOON + 900, 2.0), (NOON + 900, 3.0), (NOON + 500, 9.0)]
    asked = (NOON, NOON + 1, NOON + 600, NOON + 900, NOON + 901)
    assert [position_before(inventory, t) for t in asked] == [None, 1.0, 9.0, 9.0, 3.0]
    assert position_before([], NOON) is None


def test_rows_of_closed_seconds_with_the_model_of_their_day() -> None:
    evening = midnight(DAY) + 86_400_000 - 500
    flows = [Flow(evening, 1.0, 1, 3, 2), Flow(evening + 600, 1.0, 1, None, None)]
    flows.append(Flow(evening + 3000, 1.0, 1, None, None))
    quotes = Quotes()
    quotes.add({**quote(0, 99.9, 100.1), "ts": EPOCH + timedelta(milliseconds=evening)})
    models = {DAY + timedelta(days=1): MODEL}
    head = {"instId": "X", "exchange": "acme", "market": "spot"}
    rows = maker_rows(flows, quotes, models, evening + 3000, TICK, head=head)
    assert [row["timestamp_utc"] for row in rows] == [
        "2024-03-05T23:59:59Z",
        "2024-03-06T00:00:00Z",
    ]
    assert list(rows[0])[:4] == ["timestamp_utc", "instId", "exchange", "market"]
    assert [row["sig_skew"] is None for row in rows] == [True, False]
    assert rows[1]["sig_skew"] == pytest.approx(math.exp(-0.15))
    assert len(maker_rows(flows, quotes, models, evening + 3500, TICK)) == 3


# -- everything together ----------------------------------------------------------------------


def two_days(count: int = 400) -> Oracle:
    """Trades of two days whose sizes and sides go in cycles, under a book that does too."""
    start = 86_400_000 // 2 - 300_000  # the evening after noon
    steps = range(count)
    quotes, books, trades = [], [], []
    for i in steps:
        at = start + 1500 * i
        quotes.append(quote(at, 99.0 + i % 3, 103.0 + i % 5, 1.0 + i % 4, 2.0 + i % 7))
        books.append(book(at, [1.0 + i % 6], [2.0 + i % 9]))
        trades.append(trade(i, at + 700 + i % 11, 1.0 + i * i % 13, 1 if i % 5 < 2 else -1))
    events = [{"ts": row["ts"], "bid_depth": 1.0} for row in books]
    settings = Settings(window=20, min_rows=50)
    return Oracle(trades, quotes, books, events, NOON + start + 1500 * count - 4000, settings)


def test_two_days() -> None:
    oracle = two_days()
    assert list(oracle.models) == [DAY + timedelta(days=1)]
    model = oracle.models[DAY + timedelta(days=1)]
    assert tuple(model) == MODEL_KEYS
    assert (model["valid_from"], model["trained_on"]) == ("2024-03-06", "2024-03-05")
    assert model["n_rows"] == sum(model["counts"]) == 180
    assert model["centroid_shift"] is None
    assert model["n"] >= 60
    assert tuple(oracle.rows[0]) == COLUMNS
    assert len(oracle.rows) == 397  # three trades are behind the watermark
    assert [row["cluster"] is None for row in oracle.rows] == [True] * 200 + [False] * 197
    assert {row["cluster"] for row in oracle.rows[200:]} == {1, 2, 3}
    assert all(row["phi"] == [1, 3, 2][row["cluster"] - 1] for row in oracle.rows[200:])
    assert all(row[name] is None for row in oracle.rows[:20] for name in SCORES)
    assert all(row[name] is not None for row in oracle.rows for name in FEATURES)
    made_rows = oracle.maker(TICK)
    assert [row["p_micro"] is None for row in made_rows[:200]] == [True] * 200
    assert made_rows[200]["p_micro"] is not None
    again = two_days()
    again.given = oracle.models
    assert again.rows == oracle.rows


def test_the_day_decides_by_the_watermark() -> None:
    """Before every input has reached midnight there is no model."""
    oracle = two_days()
    oracle.watermark = midnight(DAY + timedelta(days=1)) - 1
    assert oracle.models == {}
    oracle = two_days()
    oracle.watermark = midnight(DAY + timedelta(days=1))
    assert len(oracle.models) == 1
