from __future__ import annotations

import math
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from pipeline.stages.vpin import STAGE, Params, level

from .tick_tape import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Trade,
    assert_any_cutting,
    at,
    run,
    table,
    text,
    ticks_of,
    walk,
)


def rows_of(trades: list[Trade], **options: Any) -> list[dict[str, Any]]:
    return table(STAGE, run(STAGE, ticks_of(trades), **options))


def test_hand_table() -> None:
    trades = [
        (at(1, 0, 1.0009), "10", "150"),
        (at(1, 0, 2), "10", "-50"),
        (at(1, 0, 3), "10", "60"),
        (at(1, 0, 4), "10", "-40"),
    ]
    rows = rows_of(trades, bucket_volume=Decimal(100), window=3)
    first, third = text(at(1, 0, 1)), text(at(1, 0, 3))
    assert first.endswith("T01:00:01.000Z")
    common = {"bucket_volume": 100, "vpin_cdf": None}
    nothing = {"vpin": None, "level": None}
    assert rows == [
        {"at": at(1, 0, 1.0009), "bucket": 1, "start_utc": first, "buy_volume": 100}
        | {"sell_volume": 0, **common, **nothing},
        {"at": at(1, 0, 2), "bucket": 2, "start_utc": first, "buy_volume": 50}
        | {"sell_volume": 50, **common, **nothing},
        {"at": at(1, 0, 4), "bucket": 3, "start_utc": third, "buy_volume": 60}
        | {"sell_volume": 40, **common, "vpin": 0.4, "level": "elevated"},
    ]
    four = rows_of(trades, bucket_volume=Decimal(100), window=4)
    assert [row["vpin"] for row in four] == [None] * 3


def test_a_trade_that_just_fills_a_bucket() -> None:
    """The next bucket begins with the next trade, in this run or a later one."""
    trades = [(at(1, 0, 1), "1", "0.7"), (at(1, 0, 2), "1", "-0.3"), (at(1, 0, 3), "1", "1.0")]
    for cuts in ([], [1], [2], [1, 2]):
        rows = rows_of(trades, cuts=cuts, bucket_volume=Decimal(1))
        assert [row["start_utc"] for row in rows] == [text(at(1, 0, 1)), text(at(1, 0, 3))]
        assert [row["at"] for row in rows] == [at(1, 0, 2), at(1, 0, 3)]
        assert [(row["buy_volume"], row["sell_volume"]) for row in rows] == [(0.7, 0.3), (1, 0)]


def test_a_large_trade_fills_several() -> None:
    trades = [(at(1, 0, 1), "1", "1"), (at(1, 0, 2), "1", "-10"), (at(1, 0, 3), "1", "1")]
    for cuts in ([], [1], [2]):
        rows = rows_of(trades, cuts=cuts, bucket_volume=Decimal(4))
        assert [row["at"] for row in rows] == [at(1, 0, 2), at(1, 0, 2), at(1, 0, 3)]
        starts = [at(1, 0, 1), at(1, 0, 2), at(1, 0, 2)]
        assert [row["start_utc"] for row in rows] == list(map(text, starts))
        assert [row["buy_volume"] for row in rows] == [1, 0, 1]
        assert [row["bucket"] for row in rows] == [1, 2, 3]


def quiet(*trades: Trade) -> list[tuple[int, float]]:
    """Time and V of the buckets of a tape under the daily rule."""
    return [(row["at"], row["bucket_volume"]) for row in rows_of(list(trades))]


def test_first_day_waits_thirty_minutes() -> None:
    """100 in 30 minutes are 4800 a day, 96 a bucket; nothing of the 30 minutes is in one."""
    start = at(9, 0, 30)
    opening = [(start, "1", "60"), (start + 30 * MINUTE_US - 1, "1", "-40")]
    assert quiet(*opening) == []
    assert quiet(*opening, (start + 30 * MINUTE_US, "1", "95")) == []
    for cuts in ([], [1], [2], [3], [1, 2, 3]):
        trades = [*opening, (start + 30 * MINUTE_US, "1", "95"), (at(10), "1", "-1")]
        (row,) = rows_of(trades, cuts=cuts)
        assert (row["at"], row["bucket_volume"]) == (at(10), 96)
        assert (row["buy_volume"], row["sell_volume"]) == (95, 1)
        assert row["start_utc"] == text(start + 30 * MINUTE_US)


def test_first_day_goes_by_the_clock() -> None:
    """A trade that comes after the 30 minutes are over is in a bucket, whatever its own time."""
    start = at(9, 0, 30)
    trades = [
        (start, "1", "100"),
        (start - 1000, "1", "-25"),
        (start + 30 * MINUTE_US, "1", "70"),
        (start + 30 * MINUTE_US - 1000, "1", "-50"),
    ]
    (row,) = rows_of(trades)
    assert (row["bucket_volume"], row["buy_volume"], row["sell_volume"]) == (120, 70, 50)


def test_later_days() -> None:
    """V from the day before: its volume, put up to 24 hours; a begun bucket keeps its own."""
    trades = [
        (at(9), "1", "50"),
        (at(9, 59), "1", "50"),  # after the 30 minutes: V = 50 x 48 / 50 = 48, 2 left over
        (at(11), "1", "20"),
        (at(23, 59, 59.999999), "1", "5"),
        # 27 of 48 are in the open bucket; day 0 had 125 in 3 hours: V = 125 x 8 / 50 = 20
        (at(0, day=1), "1", "-21"),
        (at(0, 1, day=1), "1", "-19"),
        (at(5, 0, day=1), "1", "-1"),
        # nothing on day 2; day 1 had 41 in 2 hours: V = 41 x 12 / 50 = 9.84
        (at(1, 0, day=3), "1", "10"),
        # nothing was left over on day 3, so this is a new V: 10 x 24 / 50 = 4.8
        (at(1, 0, day=4), "1", "5"),
    ]
    wanted = [
        (at(9, 59), 48),
        (at(0, day=1), 48),
        (at(5, 0, day=1), 20),
        (at(1, 0, day=3), 9.84),
        (at(1, 0, day=4), 9.84),
        (at(1, 0, day=4), 4.8),
    ]
    found = quiet(*trades)
    assert found[:4] == wanted[:4]
    # 0.16 of day 3 stayed open in a bucket of 9.84, which 5 do not fill
    assert len(found) == 4
    trades[-1] = (at(1, 0, day=4), "1", "14.48")
    assert quiet(*trades) == wanted
    assert [row[1] for row in quiet(*trades, (at(2, day=5), "1", "500"))][:8] == [
        *(volume for _, volume in wanted),
        6.9504,
        6.9504,
    ]


def test_midnight_ends_the_first_half_hour() -> None:
    trades = [(at(23, 50), "1", "100"), (at(0, 0, day=1), "1", "48")]
    for cuts in ([], [1]):
        (row,) = rows_of(trades, cuts=cuts)
        assert (row["at"], row["bucket_volume"]) == (at(0, day=1), 48)


def test_a_straggler_belongs_to_no_day() -> None:
    trades = [
        (at(12), "1", "25"),
        (at(0, 0, 5, day=1), "1", "10"),  # V = 25 x 24 / 50 = 12
        (at(23, 59, 59), "1", "-2"),  # fills the bucket, but day 0 is over and day 1 is not its
        (at(0, 0, 5, day=2), "1", "4.8"),  # V = 10 x 24 / 50
    ]
    for cuts in ([], [1], [2], [3], [1, 2, 3]):
        rows = rows_of(trades, cuts=cuts, lateness_us=MINUTE_US)
        assert [(row["at"], row["bucket_volume"]) for row in rows] == [
            (at(23, 59, 59), 12),
            (at(0, 0, 5, day=2), 4.8),
        ]


def test_sizes_that_are_no_decimals_add_up() -> None:
    """0.8 in seven hours: V = 0.8 x 24 / 7 / 50, and n buckets hold n x V."""
    day = [*((at(hour), "1", "0.1") for hour in range(6)), (at(6), "1", "0.2")]
    flood = [(at(1, 0, i, day=1), "1", "0.37") for i in range(40)]
    volume = Fraction("0.8") * 24 / 7 / 50
    rows = rows_of([*day, *flood])
    late = [row for row in rows if row["at"] > at(0, day=1)]
    # 0.7 after the first half hour in buckets of 0.096: 0.028 of the eighth is there at midnight
    assert len(rows) - len(late) == 7
    opened = Fraction("0.096") - Fraction("0.028")
    assert len(late) == 1 + (Fraction("0.37") * 40 - opened) // volume
    assert late[1]["bucket_volume"] == float(volume)
    for number, row in enumerate(late):
        filled = opened + number * volume
        index = math.ceil(filled / Fraction("0.37")) - 1
        assert row["at"] == at(1, 0, index, day=1)


def test_level_edges() -> None:
    params = Params()
    names = {"0.2999": "normal", "0.3": "elevated", "0.4999": "elevated", "0.5": "high"}
    names |= {"0.7": "high", "0.70001": "extreme", "0": "normal", "1": "extreme"}
    assert {value: level(*Fraction(value).as_integer_ratio(), params) for value in names} == names


def test_rank_among_the_values_before() -> None:
    """One bucket a trade, window 1: VPIN is |2b - 1| of each; the rank leaves its own out."""
    shares = ["0.5", "0.75", "1", "0.75", "0.6", "1"]
    trades: list[Trade] = []
    for i, share in enumerate(shares):
        trades.append((at(1, i, 1), "1", share))
        if share != "1":
            trades.append((at(1, i, 2), "1", f"-{1 - Decimal(share)}"))
    options = {"bucket_volume": Decimal(1), "window": 1, "cdf_min": 2, "cdf_window": 3}
    rows = rows_of(trades, **options)
    assert [row["vpin"] for row in rows] == [0, 0.5, 1, 0.5, 0.2, 1]
    assert [row["vpin_cdf"] for row in rows] == [None, None, 1, 2 / 3, 0, 1]


def test_null_before_the_fiftieth_bucket_and_the_hundred_and_first() -> None:
    trades = [(at(1) + i * 1000, "1", "1" if i % 3 else "-1") for i in range(620)]
    rows = rows_of(trades, bucket_volume=Decimal(1))
    assert len(rows) == 620
    assert [row["bucket"] for row in rows if row["vpin"] is None] == list(range(1, 50))
    assert [row["bucket"] for row in rows if row["vpin_cdf"] is None] == list(range(1, 100))
    # one side only in each bucket
    assert {row["vpin"] for row in rows[49:]} == {1}
    assert {row["level"] for row in rows[49:]} == {"extreme"}
    assert {row["vpin_cdf"] for row in rows[99:]} == {1}


def expected(trades: int) -> float:
    """Mean |2b - m| / m of m fair coins."""
    half = 0.5**trades
    return (
        sum(math.comb(trades, b) * half * abs(2 * b - trades) for b in range(trades + 1)) / trades
    )


@pytest.mark.parametrize("per_bucket", [1, 20])
def test_fair_signs_give_the_binomial_mean(per_bucket: int) -> None:
    assert expected(1) == 1
    assert expected(20) == pytest.approx(0.17619705200195318, rel=1e-15)
    rng = random.Random(7)
    count = 6000
    trades = [(at(1) + i * 1000, "1", rng.choice(("3", "-3"))) for i in range(count * per_bucket)]
    rows = rows_of(trades, bucket_volume=Decimal(3 * per_bucket))
    assert len(rows) == count
    found = [row["vpin"] for row in rows[49::50]]
    # a bucket's |2b - m| / m has a standard deviation of 0.133; four standard errors
    assert math.fsum(found) / len(found) == pytest.approx(expected(per_bucket), abs=0.007)


@pytest.mark.parametrize("side", ["", "-"])
def test_rows_left_out_change_nothing_behind_them(side: str) -> None:
    """With and without a limit: the same rows, but for some that repeat the one before."""
    rng = random.Random(2)
    trades = [(at(1) + i * 1000, "1", rng.choice(("0.7", "-0.7"))) for i in range(100)]
    trades.append((at(2), "1", f"{side}77.7"))
    trades += [(at(3) + i * 1000, "1", rng.choice(("0.7", "-0.7"))) for i in range(100)]
    options = {"bucket_volume": Decimal("0.9"), "window": 5, "cdf_window": 20, "cdf_min": 5}
    whole = rows_of(trades, trade_limit=1000, **options)
    for cuts in ([], [50, 100], [101]):
        short = rows_of(trades, trade_limit=30, cuts=cuts, **options)
        kept = {row["bucket"] for row in short}
        assert short == [row for row in whole if row["bucket"] in kept]
        left_out = [row for row in whole if row["bucket"] not in kept]
        assert len(left_out) == len(whole) - len(short) > 50
        before = next(row for row in whole if row["bucket"] == left_out[0]["bucket"] - 1)
        assert all(row | {"bucket": 0} == before | {"bucket": 0} for row in left_out)


def test_an_absurd_trade_is_soon_over() -> None:
    trades = [(at(1), "1", "0.000000000001"), (at(2), "1", "999999999999"), (at(3), "1", "1")]
    rows = rows_of(trades)
    assert 20_000 <= len(rows) <= 20_010
    assert rows[-1]["bucket"] > 10**23


@pytest.mark.parametrize("volume", ["0", "-1", "NaN", "Infinity"])
def test_impossible_volumes_are_refused(volume: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="bucket_volume"):
        msgspec.convert({"bucket_volume": volume}, Params)


def test_sizes_of_nothing_fill_nothing() -> None:
    trades = [(at(1, 0, 1), "1", "0"), (at(1, 0, 2), "1", "2"), (at(1, 0, 3), "1", "-0")]
    rows = rows_of(trades, bucket_volume=Decimal(2))
    assert [row["start_utc"] for row in rows] == [text(at(1, 0, 2))]
    assert rows_of(trades[:1]) == []


def test_sums_beyond_64_bits() -> None:
    trades = [(at(1, 0, i), "1", f"{'-' * (i % 2)}99999999.123456789012") for i in range(9)]
    volume = Decimal("199999998.246913578024")
    rows = rows_of(trades, cuts=[4], bucket_volume=volume, window=4)
    assert [row["at"] for row in rows] == [at(1, 0, i) for i in (1, 3, 5, 7)]
    assert rows[-1]["vpin"] == 0


def slow(trades: list[Trade]) -> list[tuple[int, int, Fraction, Fraction]]:
    """Buckets of the daily rule, trade by trade: end, start, V, bought."""
    found: list[tuple[int, int, Fraction, Fraction]] = []
    first, clock = trades[0][0], trades[0][0]
    volume: Fraction | None = None
    day_volume, hours = Fraction(0), set[int]()
    bucket: list[Any] | None = None
    for ts, _, size in trades:
        if ts // DAY_US > clock // DAY_US:
            volume = day_volume * 24 / len(hours) / 50
            day_volume, hours = Fraction(0), set()
        clock = max(clock, ts)
        if volume is None and clock >= first + 30 * MINUTE_US:
            volume = day_volume * 48 / 50
        left = abs(Fraction(size))
        if ts // DAY_US == clock // DAY_US:
            day_volume += left
            hours.add(ts // HOUR_US)
        while volume is not None and left:
            bucket = bucket or [ts, volume, Fraction(0), Fraction(0)]
            part = min(left, bucket[1] - bucket[2])
            bucket[2] += part
            bucket[3] += part if "-" not in size else 0
            left -= part
            if bucket[2] == bucket[1]:
                found.append((ts, bucket[0], bucket[1], bucket[3]))
                bucket = None
    return found


@pytest.mark.parametrize("lateness", [0, 3 * MINUTE_US])
@pytest.mark.parametrize("seed", range(5))
def test_any_cutting_gives_the_same_rows(seed: int, lateness: int) -> None:
    trades = walk(seed, 300, lateness_us=lateness, days=4, sizes=("1", "0.25", "13.5", "40.007"))
    options = {"window": 5, "cdf_window": 20, "cdf_min": 5}
    rows = table(STAGE, assert_any_cutting(STAGE, trades, seed, lateness_us=lateness, **options))
    assert len(rows) > 30
    wanted = slow(trades)
    assert [row["at"] for row in rows] == [end for end, _, _, _ in wanted]
    assert [row["start_utc"] for row in rows] == [text(start) for _, start, _, _ in wanted]
    assert [row["bucket_volume"] for row in rows] == [float(v) for _, _, v, _ in wanted]
    assert [row["buy_volume"] for row in rows] == [float(b) for _, _, _, b in wanted]
    assert [row["sell_volume"] for row in rows] == [float(v - b) for _, _, v, b in wanted]
    for i, row in enumerate(rows):
        last = wanted[max(0, i - 4) : i + 1]
        share = sum(abs(2 * b - v) for _, _, v, b in last) / sum(v for _, _, v, _ in last)
        assert row["vpin"] == (float(share) if i >= 4 else None)
