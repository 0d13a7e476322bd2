"""Invented trade tapes that end in a bar with a signal of each class, and their neighbours.

A tape is written bar by bar: four prices and where its buyers and sellers traded. Every tape
looks up; `mirrored` turns it upside down and swaps buyers and sellers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.oracle.layers import Row
from tests.oracle.raw import Instrument

from .trade_cases import Case, Tick

BAR_S = 300.0
CENTRE = 10_000
"""In cents, as all prices of a tape."""
CRUMB = 1
"""Thousandths of a unit: what trades at open, high, low and close, as much bought as sold."""
Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Candle:
    """One 5m bar: prices in cents, volumes in thousandths, all at one price."""

    open: int
    high: int
    low: int
    close: int
    buy: int = 5000
    sell: int = 5000
    at: int | None = None

    def ticks(self, start: float) -> list[Tick]:
        """Its trades."""
        at = self.close if self.at is None else self.at
        prints = (
            (self.open, CRUMB, "buy"),
            (self.high, CRUMB, "sell"),
            (self.low, CRUMB, "buy"),
            (at, self.buy, "buy"),
            (at, self.sell, "sell"),
            (self.close, CRUMB, "sell"),
        )
        return [
            (start + 7.0 + 40.0 * i, f"{price / 100:.2f}", f"{size / 1000:.3f}", side)
            for i, (price, size, side) in enumerate(prints)
            if size
        ]

    def mirrored(self) -> Candle:
        """Upside down."""
        flip = 2 * CENTRE
        return Candle(
            flip - self.open,
            flip - self.low,
            flip - self.high,
            flip - self.close,
            self.sell,
            self.buy,
            None if self.at is None else flip - self.at,
        )


@dataclass(frozen=True)
class Tape:
    """Bars, the parameters they run under, and what the last 5m bar must come to."""

    name: str
    candles: Sequence[Candle | None]
    signal: str
    tables: Tables = field(default_factory=dict)
    filter_reason: str | None = "confidence"

    @property
    def case(self) -> Case:
        """The instrument with its trades; the last only closes the last bar."""
        ticks: list[Tick] = []
        for number, candle in enumerate(self.candles):
            ticks += [] if candle is None else candle.ticks(number * BAR_S)
        ticks.append((len(self.candles) * BAR_S, "100.00", "1.000", "buy"))
        return Case(Instrument("acme", "spot", self.name), ticks, "0.01")

    def mirrored(self) -> Tape:
        """Upside down: long is short."""
        candles = [candle and candle.mirrored() for candle in self.candles]
        return replace(self, name=f"{self.name}-DOWN", candles=candles, signal=turned(self.signal))


def turned(signal: str) -> str:
    """The name of the same thing upside down."""
    pairs = (("LONG", "SHORT"), ("SHORT", "LONG"), ("ACCUMULATION", "DISTRIBUTION"))
    for name, other in pairs:
        if signal.endswith(name):
            return signal.removesuffix(name) + other
    return signal


# -- bars --------------------------------------------------------------------------------


def quiet(count: int, centre: int = CENTRE) -> list[Candle]:
    """Bars of one price unit that go nowhere; their volume is spread evenly over the range."""
    return [
        Candle(centre, centre + 50, centre - 50, centre, at=centre - 49 + 7 * (i * 9 % 14))
        for i in range(count)
    ]


def level(price: int, *, buy: int = 0, sell: int = 0) -> Candle:
    """A quiet bar with a great volume at one price."""
    low, high = min(CENTRE - 50, price - 10), max(CENTRE + 50, price + 10)
    return Candle(CENTRE, high, low, CENTRE, buy, sell, price)


def leap(*, buy: int = 6000, sell: int = 4000) -> list[Candle]:
    """Down by half, two bars of rest, and most of an ATR up: s = 0.7, and 1.2 more than before."""
    fall = Candle(CENTRE - 40, CENTRE + 10, CENTRE - 90, CENTRE - 50)
    rest = Candle(CENTRE - 50, CENTRE, CENTRE - 100, CENTRE - 50)
    return [fall, rest, rest, Candle(CENTRE - 50, CENTRE + 30, CENTRE - 70, CENTRE + 20, buy, sell)]


def stairs(last: Candle | None = None, *, count: int = 15, begin: int = 0) -> list[Candle]:
    """A quarter of an ATR up each bar: s = 0.75, unchanged."""
    steps = [
        Candle(CENTRE + 25 * k - 25, CENTRE + 25 * k + 25, CENTRE + 25 * k - 75, CENTRE + 25 * k)
        for k in range(begin + 1, begin + count + 1)
    ]
    return steps if last is None else [*steps[:-1], last]


def tired(*, buy: int, sell: int, high: int = 150) -> list[Candle]:
    """Up for two bars, hardly for a third, and back a little on what volume is asked for."""
    return [
        Candle(CENTRE, CENTRE + 40, CENTRE - 60, CENTRE + 30),
        Candle(CENTRE + 30, CENTRE + 100, CENTRE, CENTRE + 90),
        Candle(CENTRE + 90, CENTRE + 140, CENTRE + 40, CENTRE + 100, 5000, 4996),
        Candle(CENTRE + 100, CENTRE + high, CENTRE + high - 100, CENTRE + 95, buy, sell),
    ]


def pressed(buy: int, sell: int) -> list[Candle]:
    """A price that stands, then a bar that is bought from its low to its high."""
    last = Candle(CENTRE - 60, CENTRE + 11, CENTRE - 61, CENTRE + 10, buy, sell)
    return [*quiet(3), last]


def still(sell: int) -> list[Candle]:
    """Bars of one price, mostly bought."""
    return [Candle(CENTRE, CENTRE, CENTRE, CENTRE, 9000, sell)] * 25


# -- tapes -------------------------------------------------------------------------------

BASE = quiet(24)
BOUGHT = {"buy": 800_000, "sell": 200_000}
SOLD = {"buy": 200_000, "sell": 800_000}

BOUNCE = Tape("BOUNCE", [*BASE, level(9980, **BOUGHT), *leap()], "CONFIRMED_BOUNCE_LONG")
STRONG = Tape(
    "STRONG",
    [*BASE, level(9958, **BOUGHT), level(10_100, buy=20_000, sell=180_000), *leap()],
    "STRONG_MOMENTUM_LONG",
)
CLEAN = Tape(
    "CLEAN", [*BASE, level(9970, buy=500_000, sell=500_000), *stairs()], "CLEAN_TREND_ENTRY"
)
FADE = Tape(
    "FADE",
    [*BASE, level(10_120, **SOLD), *tired(buy=3498, sell=3497)],
    "FADE_EXHAUSTION_SHORT",
)
DIVERGENCE = Tape(
    "DIVERGENCE",
    [*BASE, level(9980, **BOUGHT), *tired(buy=4747, sell=5249)],
    "DIVERGENCE_WARNING",
    filter_reason=None,
)
PRESSED = Tape(
    "PRESSED",
    [*BASE, level(9980, **BOUGHT), *pressed(36_000, 1000)],
    "ACCUMULATION",
    filter_reason=None,
)
NEAR = Candle(CENTRE + 350, CENTRE + 400, CENTRE + 300, CENTRE + 375, 500_000, 500_000, 10_305)

NEIGHBOURS: dict[str, Sequence[Candle | None]] = {
    # just more than half an ATR away; the bar itself says go, so a bounce is at least momentum
    "BOUNCE-FAR STRONG_MOMENTUM_LONG": [*BASE, level(9969, **BOUGHT), *leap()],
    "BOUNCE-SOLD NO_SIGNAL": [*BASE, level(9980, **SOLD), *leap()],
    "STRONG-LEANS NO_SIGNAL": [
        *(*BASE, level(9958, **BOUGHT), level(10_100, buy=20_000, sell=260_000), *leap()),
    ],
    "CLEAN-THICK NO_SIGNAL": [*BASE, *stairs(NEAR)],
    "CLEAN-FASTER NO_SIGNAL": [
        *(*BASE, level(9970, buy=500_000, sell=500_000)),
        *stairs(Candle(CENTRE + 350, CENTRE + 400, CENTRE + 300, CENTRE + 387)),
    ],
    # seven tenths of the volume before are not less than seven tenths
    "FADE-VOLUME NO_SIGNAL": [*BASE, level(10_120, **SOLD), *tired(buy=3498, sell=3498)],
    # flow goes the other way, but a fade goes first
    "FADE-FIRST FADE_EXHAUSTION_SHORT": [
        *(*BASE, level(10_120, **SOLD), *tired(buy=3000, sell=3995)),
    ],
    "FADE-FAR NO_SIGNAL": [*BASE, level(10_149, **SOLD), *tired(buy=3498, sell=3497)],
    # five hundredths of the volume are no flow
    "DIVERGENCE-DEAD NO_SIGNAL": [*BASE, level(9980, **BOUGHT), *tired(buy=4748, sell=5248)],
    "PRESSED-LESS NO_SIGNAL": [*BASE, level(9980, **BOUGHT), *pressed(24_000, 13_000)],
    "QUIET NO_SIGNAL": quiet(40),
    # without a range there is neither structure nor size
    "ONE-PRICE NO_SIGNAL": still(1000) + still(2000),
    # three quarters of an hour are missing: what is longer has nothing to say right after them
    "SILENT CLEAN_TREND_ENTRY": [*stairs(count=60), *([None] * 9), *stairs(count=2, begin=60)],
}


def neighbours() -> list[Tape]:
    """Each a step away from one of the others."""
    found = []
    for named, candles in NEIGHBOURS.items():
        name, signal = named.split()
        reason = None if signal == "NO_SIGNAL" else "confidence"
        found.append(Tape(name, candles, signal, filter_reason=reason))
    return found


SIGNALLING = [BOUNCE, STRONG, CLEAN, FADE, DIVERGENCE, PRESSED]
TAPES = [turn for tape in [*SIGNALLING, *neighbours()] for turn in (tape, tape.mirrored())]


# -- a parameter put right on the value, and a billionth to a side of it -----------------

Last = tuple[Row, Row, Row]
"""The last 5m rows of vcp, ipu and signals."""
STEP = 1e-9


@dataclass(frozen=True)
class Limit:
    """A tape under a parameter that equals a value of its last bar, give or take a step."""

    tape: Tape
    table: str
    key: str
    value: Callable[[Last], float]
    step: int
    signal: str
    filter_reason: str | None = None

    @property
    def name(self) -> str:
        """The test id, and the instrument."""
        side = {-1: "BELOW", 0: "AT", 1: "ABOVE"}[self.step]
        return f"{self.tape.name}-{self.key.replace('_', '').upper()}-{side}"

    def tape_at(self, last: Last) -> Tape:
        """The tape with the parameter, given the rows it comes to by default."""
        value = self.value(last) * (1 + self.step * STEP)
        return Tape(
            self.name,
            self.tape.candles,
            self.signal,
            {self.table: {self.key: value}},
            self.filter_reason,
        )


def limits(
    tape: Tape, place: str, value: Callable[[Last], float], *expected: tuple[int, str]
) -> list[Limit]:
    """The signal on, and a step beside, one limit; what is left is not confident enough."""
    table, key = place.split(".")
    return [
        Limit(tape, table, key, value, step, signal, tape.filter_reason)
        if signal != "NO_SIGNAL"
        else Limit(tape, table, key, value, step, signal)
        for step, signal in expected
    ]


def vcp(name: str) -> Callable[[Last], float]:
    """A figure of the last vcp row."""
    return lambda last: float(last[0][name])


def cluster(name: str, k: int = 0) -> Callable[[Last], float]:
    """A figure of a cluster of the last vcp row."""
    return lambda last: float(last[0]["clusters"][k][name])


def ipu(name: str) -> Callable[[Last], float]:
    """A figure of the last ipu row, without its sign."""
    return lambda last: abs(float(last[1][name]))


NO = "NO_SIGNAL"
LIMITS = [
    *limits(BOUNCE, "signals.near_atr", cluster("distance_atr"), (0, BOUNCE.signal)),
    *limits(BOUNCE, "signals.near_atr", cluster("distance_atr"), (-1, STRONG.signal)),
    *limits(STRONG, "signals.runway_min", vcp("runway_long"), (0, NO), (-1, STRONG.signal)),
    *limits(STRONG, "signals.bias_min", vcp("structural_bias"), (0, NO), (-1, STRONG.signal)),
    *limits(STRONG, "signals.strong_min_inst", ipu("inst_proxy"), (0, STRONG.signal), (1, NO)),
    *limits(STRONG, "ipu.acc_accel", ipu("mms_accel"), (0, NO), (-1, STRONG.signal)),
    *limits(STRONG, "ipu.acc_slope", ipu("mms_slope"), (0, NO), (-1, STRONG.signal)),
    *limits(CLEAN, "signals.low_structure", vcp("vcp_combined"), (0, NO), (1, CLEAN.signal)),
    *limits(CLEAN, "ipu.trend_slope", ipu("mms_slope"), (0, NO), (-1, CLEAN.signal)),
    *limits(
        *(DIVERGENCE, "signals.low_agreement", ipu("flow_momentum_agreement")),
        *((0, NO), (1, DIVERGENCE.signal)),
    ),
    *limits(DIVERGENCE, "ipu.flow_deadband", ipu("flow_pressure"), (0, NO)),
    *limits(DIVERGENCE, "ipu.flow_deadband", ipu("flow_pressure"), (-1, DIVERGENCE.signal)),
    *limits(DIVERGENCE, "ipu.acc_accel", ipu("mms_accel"), (0, NO), (-1, DIVERGENCE.signal)),
    *limits(FADE, "signals.exhausted", ipu("exhaustion_score"), (0, FADE.signal), (1, NO)),
    *limits(FADE, "ipu.exh_slope", ipu("mms_slope"), (0, NO), (-1, FADE.signal)),
    *limits(FADE, "signals.near_atr", cluster("distance_atr"), (0, FADE.signal), (-1, NO)),
    *limits(PRESSED, "signals.high_inst", ipu("inst_proxy"), (0, PRESSED.signal), (1, NO)),
    Limit(
        *(PRESSED, "signals", "min_confidence", lambda last: float(last[2]["confidence"]), 0),
        PRESSED.signal,
    ),
    Limit(
        *(PRESSED, "signals", "min_confidence", lambda last: float(last[2]["confidence"]), 1),
        *(PRESSED.signal, "confidence"),
    ),
]


def under(tape: Tape, name: str, signal: str, tables: Tables) -> Tape:
    """The same tape under other parameters."""
    reason = None if signal == NO else tape.filter_reason
    return replace(
        tape, name=f"{tape.name}-{name}", signal=signal, tables=tables, filter_reason=reason
    )


CALIBRATED: Tables = {"ipu": {"profile": "calibrated"}, "signals": {"profile": "calibrated"}}
ASKED_FOR: Tables = {"signals": {"require_flow": True}}
BARS = len(BOUNCE.candles)

UNDER = [
    under(STRONG, "CALIBRATED", NO, CALIBRATED),
    under(PRESSED, "CALIBRATED", PRESSED.signal, CALIBRATED),
    under(PRESSED, "NARROW", PRESSED.signal, {"ipu": {"window": 20, "slope_bars": 2}}),
    under(CLEAN, "FLOW", NO, ASKED_FOR),
    under(STRONG, "FLOW", STRONG.signal, ASKED_FOR),
    under(STRONG, "GAUSSIAN", STRONG.signal, {"vcp": {"profile_source": "gaussian", "bins": 37}}),
    under(BOUNCE, "OLD-ENOUGH", BOUNCE.signal, {"vcp": {"vcp_min_bars": BARS}}),
    under(BOUNCE, "TOO-YOUNG", NO, {"vcp": {"vcp_min_bars": BARS + 1}}),
    under(BOUNCE, "SHORT-SIGHTED", NO, {"vcp": {"lookback": 4, "vcp_min_bars": 4}}),
    under(BOUNCE, "LOW-PEAKS", BOUNCE.signal, {"vcp": {"sigma_peak": 0.1, "strength_sigmas": 9}}),
    Tape(
        "ONE-PRICE-ANY",
        still(1000),
        "ACCUMULATION",
        {"signals": {"high_inst": 0.0}},
    ),
    under(FADE, "FOUR-OF-THREE", NO, {"ipu": {"exh_count": 4, "exh_step": 0.25}}),
    under(FADE, "RISK", FADE.signal, {"signals": {"risk_per_trade": 7, "atr_multiplier": 3}}),
]
