"""Profiles: bins, point of control, value area, nodes, and the two windows that slide."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from pipeline.calc import histogram, packed
from pipeline.calc.ticks import Ticks
from pipeline.engine.state import SCHEMA, State, encode
from pipeline.instrument import Contract
from pipeline.stage import Context, Stage
from pipeline.stages import footprint, profile, vwap
from pipeline.stages.profile import STAGE, Params

from .row_tape import (
    DAY,
    HOUR,
    MIDNIGHT,
    MINUTE,
    SECOND,
    WHERE,
    Trade,
    named,
    random_cuts,
    run,
    tape,
    walk,
)

BAR = 5 * MINUTE
SEVENTY = Fraction(7, 10)
FIXTURE = [10, 30, 60, 100, 80, 40, 20, 5]
"""At prices 100 to 107."""


def test_value_area_of_the_fixture() -> None:
    poc = histogram.point_of_control(FIXTURE)
    assert 100 + poc == 103
    assert histogram.value_area(FIXTURE, poc, SEVENTY) == (1, 5, 310)
    assert histogram.value_area(FIXTURE, poc, SEVENTY, 1) == (2, 5, 280)


@pytest.mark.parametrize(
    ("volumes", "wanted"),
    [
        ([5, 1, 5, 1, 5], 2),
        ([5, 1, 1, 1, 5], 0),
        ([1, 5, 1, 5, 1, 1], 3),
        ([5, 1, 1, 5, 1], 3),
        ([1, 5, 5, 1], 1),
        ([0, 0, 0], 1),
        ([7], 0),
    ],
)
def test_point_of_control(volumes: list[int], wanted: int) -> None:
    assert histogram.point_of_control(volumes) == wanted


@pytest.mark.parametrize(
    ("volumes", "poc", "at_once", "wanted"),
    [
        # equal sums: up
        ([1, 9, 20, 9, 1], 2, 1, (2, 3, 29)),
        # exactly 70 % is enough
        ([3, 7], 1, 2, (1, 1, 7)),
        ([31, 69], 1, 2, (0, 1, 100)),
        # one row left above counts by itself
        ([30, 30, 60, 50], 2, 2, (0, 2, 120)),
        ([10, 10, 60, 50], 2, 2, (2, 3, 110)),
        # nothing left above, and what is below is empty for a while
        ([40, 0, 0, 0, 0, 60], 5, 2, (0, 5, 100)),
        ([60, 0, 0, 0, 0, 40], 0, 2, (0, 5, 100)),
        ([60, 0, 0, 0, 0, 40], 0, 1, (0, 5, 100)),
        ([0, 0, 0], 1, 2, (1, 1, 0)),
    ],
)
def test_value_area_at_its_edges(
    volumes: list[int], poc: int, at_once: int, wanted: tuple[int, int, int]
) -> None:
    assert histogram.value_area(volumes, poc, SEVENTY, at_once) == wanted


def test_high_nodes() -> None:
    """Mean 10: a bin of 15 is no node, one of 16 is; a run has one peak, the lower of equals."""
    volumes = [16, 0, 20, 20, 0, 15, 0, 17, 30, 0, 2, 0]
    assert sum(volumes) == 10 * len(volumes)
    assert histogram.high_nodes(volumes, 5) == [8, 2, 0]
    assert histogram.high_nodes(volumes, 2) == [8, 2]
    even = [20, 0] * 6
    assert histogram.high_nodes(even, 5) == [0, 2, 4, 6, 8]


def test_low_nodes() -> None:
    """Mean 10: a bin of 5 is no node, one of 4 is; the first and last bin are part of no run."""
    volumes = [0, 30, 4, 3, 3, 27, 5, 20, 2, 22, 4, 0]
    assert sum(volumes) == 10 * len(volumes)
    assert histogram.low_nodes(volumes, 5) == [8, 3, 10]
    assert histogram.low_nodes(volumes, 1) == [8]
    even = [10, *[0, 20] * 7, 10]
    assert histogram.low_nodes(even, 5) == [1, 3, 5, 7, 9]
    assert histogram.low_nodes([1], 5) == histogram.low_nodes([0, 9], 5) == []


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 50])
def test_bins_against_the_formula(bins: int) -> None:
    rng = random.Random(bins)
    for width in (1, 2, 49, 50, 51, 99, 1000, 1234, 10**9 + 7, 3 * 10**10):
        inside = {0, width, *(rng.randrange(width + 1) for _ in range(40))}
        inside |= {d for i in range(bins) for d in (i * width // bins, i * width // bins + 1)}
        numbers = np.array(sorted(d for d in inside if d <= width))
        volumes = np.array([rng.randrange(1, 9) for _ in numbers])
        wanted = [0] * bins
        for d, volume in zip(numbers.tolist(), volumes.tolist(), strict=True):
            place = Fraction(bins * d, width) + Fraction(1, 10**9)
            wanted[min(bins - 1, place.numerator // place.denominator)] += volume
        assert histogram.bin_sums(numbers + 777, volumes, bins) == wanted
        large = histogram.bin_sums(numbers.astype(object) + 10**30, volumes.astype(object), bins)
        assert large == wanted


def test_a_hair_below_an_edge_counts_as_on_it() -> None:
    """Two bins of width 10**9: a row of 1 - 1e-9 bins is in the upper one."""
    starts = histogram.bin_starts(2 * 10**9, 2)
    assert starts == [0, 10**9 - 1]
    assert histogram.bin_starts(2 * 10**8, 2) == [0, 10**8]


@pytest.mark.parametrize(
    "columns",
    [
        [[0]],
        [[]],
        [[7, 0, 255, 256], [1], [], [3] * 100],
        [[2**k + d for k in range(3, 63) for d in (-1, 0, 1)], [2**63 - 1]],
        [[10**30, 5], [0, 1]],
        [[], [10**30]],
    ],
)
def test_packing(columns: list[list[int]]) -> None:
    kind = object if max(max(each, default=0) for each in columns) >= 2**63 else np.int64
    text = packed.pack([np.array(each, dtype=kind) for each in columns])
    assert msgspec.json.encode(text) == b'"%b"' % text.encode(), "a letter had to be escaped"
    found = packed.unpack(text)
    assert [each.tolist() for each in found] == columns
    assert {each.dtype for each in found} == {np.dtype(kind)}


@pytest.mark.parametrize("length", range(30))
def test_packing_of_any_length(length: int) -> None:
    rng = random.Random(length)
    columns = [[rng.getrandbits(rng.randrange(63)) for _ in range(length)] for _ in range(2)]
    found = packed.unpack(packed.pack([np.array(each, dtype=np.int64) for each in columns]))
    assert [each.tolist() for each in found] == columns


# -- the stage -----------------------------------------------------------------


def rows(
    trades: list[Trade], *cuts: int, tick: str = "1", layer: str = "profile_session", **options: Any
) -> list[dict[str, Any]]:
    """The rows of these trades, closed by one five days later."""
    ended = [*trades, (trades[-1][0] + 5 * DAY, "1", "1", "buy")]
    found = run(STAGE, ended, cuts, tick=tick, **options)
    assert len(found["profile_24h"]) == len(found["profile_session"])
    return [{"at": row[0], **named(STAGE, layer, row)} for row in found[layer]]


def at_prices(volumes: dict[str, str], close: str) -> list[Trade]:
    """A trade at each price, bought and sold in turn, then a trifle at the close."""
    trades: list[Trade] = [
        (i, price, size, ("buy", "sell")[i % 2]) for i, (price, size) in enumerate(volumes.items())
    ]
    return [*trades, (SECOND, close, "0.001", "buy")]


def fixture(close: str) -> list[Trade]:
    """The fixture in eight bins: 100 and 108 are the ends of eight bins of one."""
    volumes = {str(100 + i): str(volume) for i, volume in enumerate(FIXTURE)}
    return at_prices({**volumes, "108": "0.001"}, close)


@pytest.mark.parametrize(
    ("option", "val", "vah", "inside"),
    [("two_row", 101.5, 105.5, 310), ("one_row", 102.5, 105.5, 280)],
)
def test_row_of_the_fixture(option: str, val: float, vah: float, inside: float) -> None:
    for cuts in ((), (1,), (3, 5), tuple(range(10))):
        (row,) = rows(fixture("103"), *cuts, bins=8, value_area=option)
        inside_now = Fraction(str(inside)) + Fraction("0.001")
        assert row["value_area_pct"] == float(100 * inside_now / Fraction("345.002"))
        wanted = {"low": 100, "high": 108, "bin_size": 1, "total_volume": 345.002, "poc": 103.5}
        assert {key: row[key] for key in wanted} == wanted
        assert (row["val"], row["vah"]) == (val, vah)
        # the mean is 43.125: above 64.69, and inside the ends below 21.56
        assert row["hvn"] == [{"price": 103.5, "volume": 100.001}]
        assert row["lvn"] == [{"price": 106.5, "volume": 20.0}]


@pytest.mark.parametrize(
    ("close", "verdict"),
    [
        ("105.501", ("BULLISH", "strong", "above_value")),
        ("105.5", ("BULLISH", "weak", "in_value")),
        ("103.901", ("BULLISH", "weak", "in_value")),
        ("103.9", ("NEUTRAL", "strong", "in_value")),
        ("103.1", ("NEUTRAL", "strong", "in_value")),
        ("103.099", ("BEARISH", "weak", "in_value")),
        ("101.5", ("BEARISH", "weak", "in_value")),
        ("101.499", ("BEARISH", "strong", "below_value")),
    ],
)
def test_verdict_by_the_close(close: str, verdict: tuple[str, str, str]) -> None:
    """The value area is 101.5 to 105.5, the point of control 103.5, a tenth of the area 0.4."""
    (row,) = rows(fixture(close), bins=8)
    assert (row["val"], row["poc"], row["vah"]) == (101.5, 103.5, 105.5)
    assert (row["bias"], row["bias_strength"], row["position"]) == verdict


def test_the_last_trade_of_the_file_is_the_close() -> None:
    """Not the latest by its own time."""
    trades = [*fixture("103")[:-1], (3, "101", "0.001", "sell")]
    for cuts in ((), (9,), (8,)):
        (row,) = rows(trades, *cuts, bins=8)
        assert row["position"] == "below_value"


def test_one_price() -> None:
    trades: list[Trade] = [(0, "100.3", "2", "buy"), (1, "100.1", "1", "sell")]
    (row,) = rows(trades, tick="0.5")
    wanted = {"low": 100, "high": 100, "bin_size": 0, "total_volume": 3, "poc": 100, "vah": 100}
    wanted |= {"val": 100, "value_area_pct": 100}
    assert {key: row[key] for key in wanted} == wanted
    assert (row["hvn"], row["lvn"]) == ([], [])
    # the close is a price, not a row
    assert (row["bias"], row["position"]) == ("BULLISH", "above_value")
    (row,) = rows(trades, row="0.1", tick="0.5")
    assert (row["low"], row["high"]) == (100.1, 100.3)


def test_session_and_day() -> None:
    """The session begins at midnight; the 24 hours leave out bars that began before them."""
    trades: list[Trade] = [
        (12 * HOUR - BAR, "10", "1", "buy"),
        (12 * HOUR, "20", "2", "buy"),
        (DAY - 1, "30", "4", "buy"),
        (DAY, "40", "8", "buy"),
        (DAY + 12 * HOUR - BAR, "50", "16", "buy"),
        (DAY + 12 * HOUR - 1, "50", "16", "buy"),
        (DAY + 12 * HOUR, "60", "32", "buy"),
        (3 * DAY, "70", "64", "buy"),
    ]
    names = ("low", "high", "total_volume")
    for cuts in ((), (1, 2, 3, 4, 5, 6, 7, 8), (4,)):
        session = rows(trades, *cuts)
        assert [tuple(row[name] for name in names) for row in session] == [
            (10, 10, 1),
            (10, 20, 3),
            (10, 30, 7),
            (40, 40, 8),
            (40, 50, 40),
            (40, 60, 72),
            (70, 70, 64),
        ]
        day = rows(trades, *cuts, layer="profile_24h")
        assert [tuple(row[name] for name in names) for row in day] == [
            (10, 10, 1),
            (10, 20, 3),
            (10, 30, 7),
            (10, 40, 15),
            (20, 50, 46),
            (30, 60, 76),
            (70, 70, 64),
        ]


@pytest.mark.parametrize(("last", "written"), [(BAR - 1, 0), (BAR, 1)])
def test_a_bar_is_written_when_the_watermark_reaches_its_end(last: int, written: int) -> None:
    trades: list[Trade] = [(0, "100", "1", "buy"), (last, "100", "1", "buy")]
    assert [len(each) for each in run(STAGE, trades, tick="1").values()] == [written, written]


def test_numbers_longer_than_64_bits() -> None:
    """A stray price and sums that no machine integer holds change nothing but the speed."""
    trades: list[Trade] = [
        (0, "0.000000000001", "999999999999999.999999999999", "buy"),
        (1, "999999999999999.999999999999", "999999999999999.999999999999", "sell"),
        (BAR, "500000000000000", "0.000000000001", "sell"),
    ]
    for cuts in ((), (1,), (2,), (1, 2, 3)):
        first, second = rows(trades, *cuts, tick="0.000000000001")
        assert first["total_volume"] == float(Fraction("1999999999999999.999999999998"))
        assert (second["low"], second["high"]) == (1e-12, 1e15)
        assert second["total_volume"] == float(Fraction("1999999999999999.999999999999"))


def test_paths_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dense or sparse axis, machine integers or Python's."""
    trades = walk(3, 500, hours=40)
    wanted = rows(trades, 100, 300, tick="0.01", layer="profile_24h")
    monkeypatch.setattr(profile, "_DENSE", -(10**6))
    assert rows(trades, 100, 300, tick="0.01", layer="profile_24h") == wanted
    monkeypatch.setattr(profile, "INT64_SAFE", 1)
    assert rows(trades, 100, 300, tick="0.01", layer="profile_24h") == wanted


@pytest.mark.parametrize(
    "settings",
    [{"bins": 0}, {"value_area_pct": 0}, {"value_area_pct": "nan"}, {"value_area": "three_row"}],
)
def test_bad_parameters_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Params, strict=False)


@pytest.mark.parametrize("seed", range(9))
def test_any_cutting_gives_the_same_rows(seed: int) -> None:
    jitter, lateness = ((0, 0), (59 * SECOND, 59 * SECOND), (3 * MINUTE, 4 * MINUTE))[seed % 3]
    trades = tape(walk(seed, 1200, hours=40, jitter=jitter))
    tick = (None, "0.01", "0.25")[seed // 3 % 3]
    wanted = run(STAGE, trades, tick=tick, lateness=lateness)
    assert len(wanted["profile_24h"]) > 150
    cuts = random_cuts(seed, 1 + 9 * (seed % 4), trades.height)
    assert run(STAGE, trades, cuts, tick=tick, lateness=lateness) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_windows_are_sums_of_the_footprint(seed: int) -> None:
    trades = tape(walk(seed, 700, hours=50))
    prints = [
        (at, price, Fraction(str(buy)) + Fraction(str(sell)))
        for at, price, buy, sell, _ in run(footprint.STAGE, trades, tick="0.25")["footprint"]
    ]
    found = run(STAGE, trades, [300], tick="0.25")
    for layer in STAGE.layers:
        for row in found[layer.name]:
            end, values = row[0] + BAR, named(STAGE, layer.name, row)
            start = row[0] // DAY * DAY if layer.name == "profile_session" else end - DAY
            inside = [each for each in prints if start <= each[0] < end]
            assert values["total_volume"] == float(sum(each[2] for each in inside))
            assert values["low"] == min(each[1] for each in inside)
            assert values["high"] == max(each[1] for each in inside)
            assert values["low"] <= values["val"] <= values["poc"] <= values["vah"]
            assert values["vah"] <= values["high"]
            assert values["value_area_pct"] >= 70
            assert len(values["hvn"]) <= 5
            assert len(values["lvn"]) <= 5


# -- the state -----------------------------------------------------------------

CELLS = DAY // BAR
ROWS_A_BAR = 1800


def busiest_day() -> Ticks:
    """24 hours in which every bar trades at 1800 prices, in sizes of four decimals.

    As many rows as five minutes of a crash had on the largest perpetual contract, and as much to
    tell of each: volumes of some ten bits, three of four prices traded.
    """
    rng = np.random.default_rng(1)
    middle = 600_000 + rng.normal(0, 300, CELLS).astype(np.int64).cumsum()
    span = ROWS_A_BAR * 27 // 20
    prices = np.concatenate(
        [rng.permutation(span)[:ROWS_A_BAR] + each - span // 2 for each in middle]
    )
    count = len(prices)
    times = rng.integers(0, BAR, (CELLS, ROWS_A_BAR))
    times.sort()
    sizes = np.maximum(1, rng.lognormal(4.5, 1.9, count)).astype(np.int64)
    starts = np.arange(CELLS)[:, None] * BAR
    frame = pl.DataFrame(
        {
            "seq": np.arange(count),
            "ts": MIDNIGHT + (starts + times).ravel(),
            "px": prices,
            "px_dp": np.ones(count, np.uint8),
            "sz": sizes,
            "nt": prices * sizes,
            "side": rng.choice(np.array([-1, 1], np.int8), count),
            "gap": np.zeros(count, bool),
        }
    )
    return Ticks(frame, 1, 4, 5)


@pytest.mark.parametrize("stage", [STAGE, vwap.STAGE], ids=["profile", "vwap"])
def test_the_state_stays_below_a_megabyte_on_the_busiest_day(stage: Stage[Any, Any]) -> None:
    day = busiest_day()
    context = Context(WHERE, Contract(tick="0.1"), stage.params())
    whole, pieces = stage.carry(), stage.carry()
    for end in range(0, day.height + 1, day.height // 16):
        piece = day.slice(max(0, end - day.height // 16), day.height // 16 if end else 0)
        if piece.height:
            context.watermark_us = int(piece.frame["ts"].to_numpy()[-1])
        pieces = stage.fold(piece, pieces, context).carry
        pieces = msgspec.json.decode(msgspec.json.encode(pieces), type=stage.carry)
    assert context.watermark_us == int(day.frame["ts"].to_numpy()[-1])
    whole = stage.fold(day, whole, context).carry
    assert pieces == whole, "what is carried depends on the trades alone"
    carried = msgspec.to_builtins(whole)
    state = State(stage.name, WHERE.key, SCHEMA, stage.version, {}, carry=carried)
    assert 50_000 < len(encode(state)) < 1_000_000
