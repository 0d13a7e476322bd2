"""Small tables worked out by hand, one invented instrument a case.

All cases run in one vault. A case is a list of (second, price, size, side)
from 12:00:00 UTC on and what some of its minutes must hold; a last trade
closes the minute before it. Each case is also compared with the oracle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.raw import Instrument

from .conftest import MakeVault, Process
from .vaults import (
    NOON,
    assert_layers,
    ms,
    plain_line,
    read_bars,
    read_quarantine,
    read_trades,
    read_volume,
    write_raw,
)

Tick = tuple[float, str, str, str]
Fields = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Trades, and the fields expected of the volume row at each listed minute."""

    name: str
    ticks: list[Tick]
    expect: dict[int, Fields]
    start: datetime = NOON
    bars: dict[int, Fields] = field(default_factory=dict)

    @property
    def instrument(self) -> Instrument:
        """Where the case's trades lie."""
        return Instrument("acme", "spot", self.name)


def priors(*totals: str) -> list[Tick]:
    """One minute a total, each a single purchase at 100."""
    return [(60.0 * i, "100", f"{float(t) / 100:.10f}", "buy") for i, t in enumerate(totals)]


def at_minute(minute: int, *ticks: tuple[str, str, str]) -> list[Tick]:
    """Trades a second apart from the start of a minute, and one that closes it."""
    inside = [(60.0 * minute + i, *tick) for i, tick in enumerate(ticks)]
    return [*inside, (60.0 * (minute + 1), "100", "1", "buy")]


def single(*ticks: tuple[str, str, str]) -> list[Tick]:
    """Trades of one minute and the trade that closes it."""
    return at_minute(0, *ticks)


def ratio_case(name: str, total: str, expect: Fields, prior: int = 20) -> Case:
    """`prior` minutes of exactly 100, then one of `total`."""
    ticks = priors(*["100"] * prior) + at_minute(prior, ("1", total, "buy"))
    return Case(name, ticks, {prior: expect})


TIERS = [
    # r and the tier on, just under and just over each edge
    ratio_case("R-HALF-UNDER", "49.99999999", {"volume_tier": "T1", "volume_ratio": 0.4999999999}),
    ratio_case("R-HALF", "50", {"volume_tier": "T2", "volume_ratio": 0.5}),
    ratio_case("R-ONE-UNDER", "99.99999999", {"volume_tier": "T2", "volume_ratio": 0.9999999999}),
    ratio_case("R-ONE", "100", {"volume_tier": "T3", "volume_ratio": 1.0}),
    ratio_case("R-TWO", "200", {"volume_tier": "T3", "volume_ratio": 2.0}),
    ratio_case("R-TWO-OVER", "200.00000001", {"volume_tier": "T4", "volume_ratio": 2.0000000001}),
    # 19 prior bars are too few, 20 are enough; too few never absorb, however large the minute
    ratio_case(
        "PRIOR-19",
        "900",
        {"volume_tier": None, "volume_ratio": None, "absorption": False, "absorption_side": None},
        prior=19,
    ),
    ratio_case(
        "PRIOR-20",
        "900",
        {"volume_tier": "T4", "volume_ratio": 9.0, "absorption": True, "absorption_side": "sell"},
    ),
    # an even number of prior bars: the mean of the middle two, (90 + 110) / 2
    Case(
        "MEDIAN-EVEN",
        priors(*["90", "110"] * 10) + at_minute(20, ("1", "100", "buy")),
        {20: {"volume_ratio": 1.0}},
    ),
    # 101 bars before: the oldest is out, the median of the last 100 is (10 + 1000) / 2
    Case(
        "MEDIAN-100",
        priors("1000", *["10"] * 50, *["1000"] * 50) + at_minute(101, ("1", "505", "buy")),
        {101: {"volume_ratio": 1.0, "volume_tier": "T3"}},
    ),
    # bars that exist count, not clock minutes: a four-minute silence inside the twenty
    Case(
        "MEDIAN-SILENCE",
        priors(*["100"] * 10)
        + [(60.0 * (m + 4), "100", "1", "buy") for m in range(10, 20)]
        + at_minute(24, ("1", "50", "buy")),
        {24: {"volume_ratio": 0.5, "volume_tier": "T2"}},
    ),
]


def absorption_case(name: str, ticks: list[tuple[str, str, str]], expect: Fields) -> Case:
    """Twenty minutes of 100, then the trades given."""
    return Case(name, priors(*["100"] * 20) + at_minute(20, *ticks), {20: expect})


NOT_ABSORBED: Fields = {"absorption": False, "absorption_side": None}
ABSORPTION = [
    # exactly 0.1 % up or down is no longer flat (in doubles 1001/1000 falls below)
    absorption_case(
        "ABS-EDGE-UP",
        [("1000", "1", "buy"), ("1001", "1", "buy")],
        NOT_ABSORBED | {"price_change_pct": "+0.10"},
    ),
    absorption_case("ABS-EDGE-DOWN", [("1000", "1", "buy"), ("999", "1", "buy")], NOT_ABSORBED),
    # a hair under is, though it prints the same
    absorption_case(
        "ABS-UNDER",
        [("1000", "1", "buy"), ("1000.9999", "1", "buy")],
        {"absorption": True, "absorption_side": "sell", "price_change_pct": "+0.10"},
    ),
    # r must exceed 2
    absorption_case("ABS-RATIO-TWO", [("100", "2", "buy")], NOT_ABSORBED | {"volume_tier": "T3"}),
    # the side is that of the resting orders: sellers absorbed, nobody ahead
    absorption_case(
        "ABS-SOLD", [("100", "3", "sell")], {"absorption": True, "absorption_side": "buy"}
    ),
    absorption_case(
        "ABS-EVEN",
        [("100", "2", "sell"), ("100", "2", "buy")],
        {"absorption": True, "absorption_side": None, "delta": "+0"},
    ),
]

NOT_DIVERGENT: Fields = {"divergence": False, "divergence_type": None}
DIVERGENCE = [
    # +0.05 % exactly with 45 % bought, 55 % sold: both edges count, in the very first minute
    Case(
        "DIV-BEARISH",
        single(("2000", "900.45", "buy"), ("2001", "1100", "sell")),
        {
            0: {
                "divergence": True,
                "divergence_type": "bearish",
                "total_volume": "4002000",
                "delta": "-400200",
                "price_change_pct": "+0.05",
                "volume_tier": None,
            }
        },
    ),
    # -0.05 % exactly with 55 % bought
    Case(
        "DIV-BULLISH",
        single(("2000", "899.55", "sell"), ("1999", "1100", "buy")),
        {0: {"divergence": True, "divergence_type": "bullish", "delta": "+399800"}},
    ),
    # |delta| just below a tenth of the total
    Case(
        "DIV-DELTA-UNDER",
        single(("2000", "900.45", "buy"), ("2001", "1099.99999", "sell")),
        {0: NOT_DIVERGENT},
    ),
    # the change just below 0.05 %
    Case(
        "DIV-CHANGE-UNDER",
        single(("2000", "1", "buy"), ("2000.9999", "3", "sell")),
        {0: NOT_DIVERGENT | {"price_change_pct": "+0.05"}},
    ),
    # price and flow agree
    Case("DIV-AGREE", single(("2000", "1", "buy"), ("2100", "1", "buy")), {0: NOT_DIVERGENT}),
    # no change, no divergence; no delta, no divergence
    Case("DIV-FLAT", single(("2000", "1", "sell"), ("2000", "1", "sell")), {0: NOT_DIVERGENT}),
    Case(
        "DIV-NO-DELTA",
        single(("2000", "2", "buy"), ("4000", "1", "sell")),
        {0: NOT_DIVERGENT | {"delta": "+0", "price_change_pct": "+100.00"}},
    ),
]


def change_case(name: str, first: str, last: str, text: str) -> Case:
    """A minute that opens and closes at the given prices."""
    return Case(
        name, single((first, "1", "buy"), (last, "1", "buy")), {0: {"price_change_pct": text}}
    )


CHANGES = [
    change_case("CHG-MINUS-ZERO", "100000", "99999.9", "+0.00"),
    change_case("CHG-ZERO", "5", "5", "+0.00"),
    # an exact tie of the double goes to even
    change_case("CHG-TIE-UP", "800", "801", "+0.12"),
    change_case("CHG-TIE-DOWN", "800", "799", "-0.12"),
    # the nearest double of 1.005 lies below it; (20201/20000 - 1) * 100 in doubles lies above
    change_case("CHG-NEAREST", "20000", "20201", "+1.00"),
    change_case("CHG-HALF", "100", "50", "-50.00"),
]


def sum_case(name: str, ticks: list[tuple[str, str, str]], expect: Fields) -> Case:
    """One minute whose printed sums are given."""
    return Case(name, single(*ticks), {0: expect})


SUMS = [
    # 0.5e-8 and 2.5e-8 go down to even, 1.5e-8 goes up to even
    sum_case("SUM-TIE-0", [("0.5", "1e-8", "buy")], {"total_volume": "0", "delta": "+0"}),
    sum_case("SUM-TIE-1", [("1.5", "1e-8", "buy")], {"total_volume": "0.00000002"}),
    sum_case("SUM-TIE-2", [("2.5", "1e-8", "buy")], {"total_volume": "0.00000002"}),
    # a hair above the tie
    sum_case("SUM-OVER", [("0.5000001", "1e-8", "buy")], {"total_volume": "0.00000001"}),
    # the sum is rounded, not its parts
    sum_case(
        "SUM-LAST",
        [("0.5", "1e-8", "buy"), ("0.5", "1e-8", "sell")],
        {"total_volume": "0.00000001", "buy_volume": "0", "sell_volume": "0", "delta": "+0"},
    ),
    # a sale that rounds to nothing leaves no minus sign; one that does not, does
    sum_case("SUM-MINUS-0", [("0.5", "1e-8", "sell")], {"delta": "+0"}),
    sum_case("SUM-MINUS", [("1.5", "1e-8", "sell")], {"delta": "-0.00000002"}),
    # trailing zeros go, those of whole numbers stay
    sum_case(
        "SUM-ZEROS",
        [("100", "1.50", "buy"), ("10", "1000", "sell")],
        {"total_volume": "10150", "buy_volume": "150", "delta": "-9850"},
    ),
    # a large and a tiny amount in one sum: all twenty digits
    sum_case(
        "SUM-WIDE",
        [("123456789", "1000", "buy"), ("1", "0.00000001", "buy")],
        {"total_volume": "123456789000.00000001"},
    ),
]

WHALES = [
    # exactly 100 000 counts
    Case(
        "WHALE-EXACT",
        single(("62500", "1.6", "sell")),
        {0: {"whale_count": 1, "whale_volume": "100000"}},
        bars={0: {"whale_trades": 1, "whale_notional": 100000.0, "whale_buy_notional": 0.0}},
    ),
    # one unit of the last place below does not
    Case(
        "WHALE-CENT",
        single(("99999.99", "1", "buy")),
        {0: {"whale_count": 0, "whale_volume": "0", "total_volume": "99999.99"}},
    ),
    # trades that only together reach it are none; sides are told apart in bars
    Case(
        "WHALE-SIDES",
        single(
            ("50000", "1", "buy"),
            ("50000", "1.5", "buy"),
            ("100000", "2", "buy"),
            ("100000", "1", "sell"),
        ),
        {0: {"whale_count": 2, "whale_volume": "300000", "trade_count": 4}},
        bars={0: {"whale_notional": 300000.0, "whale_buy_notional": 200000.0}},
    ),
]

PRICES = [
    # the exchange's digits stay; exponents, signs and bare points are written out
    Case(
        "TEXT-STRINGS",
        single(
            ("61837.63000000", "1", "buy"),
            ("+7e4", "1", "buy"),
            (".5", "1", "buy"),
            ("5.", "1", "buy"),
        ),
        {0: {"open": "61837.63000000", "high": "70000", "low": "0.5", "close": "5"}},
    ),
    Case(
        "TEXT-EXPONENT",
        single(("1e-5", "1", "buy"), ("1.20e-5", "1", "buy"), ("1E-6", "1", "buy")),
        {0: {"open": "0.00001", "high": "0.0000120", "low": "0.000001", "close": "0.000001"}},
    ),
    # a minute's first price is also its high and low until another passes it
    Case(
        "TEXT-EQUAL",
        single(("10.0", "1", "buy"), ("10.00", "1", "buy")),
        {0: {"open": "10.0", "close": "10.00"}},
    ),
]

FLOATS = [
    # JSON numbers as a program prints its doubles: seventeen digits, all of them kept
    sum_case(
        "FLOAT-SIZE",
        [("10", "0.30000000000000004", "buy")],
        {"total_volume": "3", "whale_count": 0},
    ),
    Case(
        "FLOAT-PRICE",
        single(("0.3333333333333333", "3", "sell")),
        {0: {"open": "0.3333333333333333", "total_volume": "1", "delta": "-1"}},
    ),
    # so near below the whale's size that the product of the doubles is 100 000
    Case(
        "FLOAT-WHALE",
        single(("100000", "0.999999999999999999", "buy")),
        {0: {"whale_count": 0, "whale_volume": "0", "total_volume": "100000"}},
        bars={0: {"whale_trades": 0, "whale_notional": 0.0}},
    ),
    # a coin of no worth, traded by the trillion
    Case(
        "FLOAT-MANY",
        single(("0.00000000012345", "98765432109876", "buy")),
        {0: {"open": "0.00000000012345", "total_volume": "12192.59259396"}},
    ),
]

EDGES = [
    # 12:01:00.000 opens the next minute; 12:00:59.999 still belongs to the first and leaves it open
    Case(
        "EDGE-MINUTE",
        [
            (0.0, "10", "1", "buy"),
            (59.999, "11", "1", "sell"),
            (60.0, "12", "1", "buy"),
            (119.999, "13", "1", "buy"),
        ],
        {0: {"open": "10", "close": "11", "trade_count": 2}},
        bars={0: {"trades": 2, "buy_trades": 1, "sell_trades": 1, "volume": 2.0, "vwap": 10.5}},
    ),
    # inside a minute the order of the file decides open and close, not the time stamps
    Case(
        "EDGE-FILE-ORDER",
        [
            (30.0, "10", "1", "buy"),
            (5.0, "11", "1", "buy"),
            (29.0, "9", "1", "buy"),
            (60.0, "10", "1", "buy"),
        ],
        {0: {"open": "10", "high": "11", "low": "9", "close": "9"}},
    ),
    # across midnight, one file: two minutes of two days
    Case(
        "EDGE-MIDNIGHT",
        [
            (0.0, "10", "1", "buy"),
            (59.999, "11", "1", "buy"),
            (60.0, "12", "1", "buy"),
            (120.0, "13", "1", "buy"),
        ],
        {
            0: {"timestamp_utc": "2024-03-05T23:59:00Z", "close": "11"},
            1: {"timestamp_utc": "2024-03-06T00:00:00Z", "open": "12", "trade_count": 1},
        },
        start=NOON.replace(hour=23, minute=59),
    ),
    # silent minutes have no row
    Case(
        "EDGE-SILENCE",
        [(0.0, "10", "1", "buy"), (240.0, "12", "1", "buy"), (300.0, "12", "1", "buy")],
        {0: {"trade_count": 1}, 4: {"trade_count": 1}},
    ),
]
CASES = [*TIERS, *ABSORPTION, *DIVERGENCE, *CHANGES, *SUMS, *WHALES, *PRICES, *FLOATS, *EDGES]


def content(case: Case) -> bytes:
    """The case as a plain-format file; ids count from 1."""
    return b"".join(
        plain_line(i, ms(second, case.start), price, size, side)
        for i, (second, price, size, side) in enumerate(case.ticks, start=1)
    )


@pytest.fixture(scope="module")
def vault(new_vault: MakeVault, process: Process) -> Path:
    """One run over every case; what it refused, the cases find in quarantine."""
    folder = new_vault("hand")
    for case in CASES:
        write_raw(folder, case.instrument, case.start.date().isoformat(), content(case))
    write_raw(folder, NUMBERS, "2024-03-05", number_lines())
    process.run_all(folder, expect=None)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(vault: Path, case: Case) -> None:
    """The fields worked out by hand, then everything against the oracle."""
    assert read_quarantine(vault, case.instrument) == []
    volume = {row["timestamp_utc"]: row for row in read_volume(vault, case.instrument)}
    bars = {row["timestamp_utc"]: row for row in read_bars(vault, case.instrument, "1m")}
    for rows, expected in ((volume, case.expect), (bars, case.bars)):
        for minute, fields in expected.items():
            opened = case.start + timedelta(minutes=minute)
            row = rows[opened.strftime("%Y-%m-%dT%H:%M:%SZ")]
            assert {name: row[name] for name in fields} == fields
    assert_layers(vault, case.instrument)


def test_only_closed_minutes_have_rows(vault: Path) -> None:
    """A watermark of 12:01:59.999 leaves the second minute open."""
    instrument = Instrument("acme", "spot", "EDGE-MINUTE")
    assert len(read_volume(vault, instrument)) == 1
    assert len(read_trades(vault, instrument)) == 4


def test_long_bars_are_aligned_to_the_epoch(vault: Path) -> None:
    """20 minutes from 12:00: the fifteen-minute bar of 12:00 holds the first fifteen trades."""
    instrument = Instrument("acme", "spot", "R-ONE")
    (row,) = read_bars(vault, instrument, "15m")
    assert (row["timestamp_utc"], row["trades"], row["volume"]) == (
        "2024-03-05T12:00:00Z",
        15,
        15.0,
    )
    assert [r["trades"] for r in read_bars(vault, instrument, "5m")] == [5, 5, 5, 5]
    assert read_bars(vault, instrument, "30m") == []


def test_midnight_closes_the_long_bars(vault: Path) -> None:
    """A trade at 00:00:00.000 ends the half hour before it and is not in it."""
    instrument = Instrument("acme", "spot", "EDGE-MIDNIGHT")
    (row,) = read_bars(vault, instrument, "30m")
    assert (row["timestamp_utc"], row["trades"]) == ("2024-03-05T23:30:00Z", 2)


# -- every spelling of a record -------------------------------------------

NUMBERS = Instrument("acme", "spot", "SPELLINGS")


def number_lines() -> bytes:
    """JSON numbers for strings, ISO times, carriage returns, a leading BOM, unknown keys."""
    rows = [
        b'\xef\xbb\xbf{"ts":%d,"price":101250.0,"size":2,"side":"buy","id":"a-1"}\r\n' % ms(0),
        b'{"ts":"2024-03-05T12:00:01.1234567Z","price":1e-5,"size":"1","side":"sell","id":7}\n',
        b"\n",
        b"  \t\r\n",
        b'{"ts":"2024-03-05T14:00:02+02:00","price":"101251.50","size":1.50,"id":"a-3",%s}\n'
        % b'"side":"sell","note":{"unknown":[1,2]}',
        b' {"id":8,"side":"buy","size":1,"price":1,"ts":"%d"} \n' % ms(60),
    ]
    return b"".join(rows)


def test_spellings(vault: Path) -> None:
    """All are good records; number texts keep their digits; times are floored to microseconds."""
    (row,) = read_volume(vault, NUMBERS)
    assert [row[k] for k in ("open", "high", "low", "close")] == [
        "101250.0",
        "101251.50",
        "0.00001",
        "101251.50",
    ]
    trades = read_trades(vault, NUMBERS)
    assert [t["trade_id"] for t in trades] == ["a-1", "7", "a-3", "8"]
    assert trades[1]["ts"] == datetime(2024, 3, 5, 12, 0, 1, 123456, tzinfo=UTC)
    assert read_quarantine(vault, NUMBERS) == []
    assert_layers(vault, NUMBERS)
