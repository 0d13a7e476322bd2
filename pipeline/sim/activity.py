"""How busy each minute of a simulated day is, and when its trades happen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sim.events import BAR_MINUTES, DAY_MINUTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.sim.events import Event

MINUTE_MS = 60_000
DAY_MS = DAY_MINUTES * MINUTE_MS

# (centre, width, height) in minutes: the day's open, Europe, the US open
_BUMPS = ((15.0, 60.0, 0.35), (490.0, 110.0, 0.5), (875.0, 120.0, 1.1))
_FLOOR = 0.7
_MINUTE_SD = 0.22
_MINUTE_MEMORY = 0.85
_BUSY = {"burst": 3.5, "absorption": 2.2, "setup": 2.2, "divergence": 1.3, "trend": 1.35}
_EXHAUSTION_RATES = (0.95, 0.57, 0.34, 0.22)
_NOISE = {
    "absorption": 0.3,
    "divergence": 0.4,
    "wall_stands": 0.5,
    "wall_pulled": 0.5,
    "trend": 0.6,
    "exhaustion": 0.25,
    "quiet_hour": 0.12,
    "setup": 0.35,
}
# takers' lean along the event's direction, and how far they still follow the price
_FLOW = {
    "burst": (0.2, 1.0),
    "absorption": (0.42, 0.0),
    "divergence": (-0.3, 0.0),
    "trend": (0.13, 0.5),
    "setup": (0.42, 0.0),
}
_LEAST = {
    "burst": 60,
    "absorption": 60,
    "divergence": 60,
    "exhaustion": 12,
    "quiet_hour": 0,
    "setup": 60,
}
_LEAST_AROUND = {"setup": 12}  # in its other minutes
_QUIET_RATE = 1.5  # trades a minute, and at most this share of a normal minute:
_QUIET_SHARE = 0.03
_QUIET_EMPTY = 8  # minutes of the quiet hour that surely have no trade
_SAME_MS_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class _Bends:
    """What the events do to each minute, arrays of 1440, changed in place.

    `busy` scales trades and `least` is their fewest; the others as in `Activity`.
    """

    busy: NDArray[np.float64]
    noise: NDArray[np.float64]
    lean: NDArray[np.float64]
    coupling: NDArray[np.float64]
    least: NDArray[np.int64]
    is_quiet: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Activity:
    """Per minute of the day, arrays of 1440.

    Attributes:
        trades: how many trades the minute has.
        noise: factor on the price's ordinary noise.
        lean: takers' tendency to buy, -0.5..0.5 around even.
        coupling: how much the takers follow the price, 0..1.
    """

    trades: NDArray[np.int64]
    noise: NDArray[np.float64]
    lean: NDArray[np.float64]
    coupling: NDArray[np.float64]


def day_activity(rng: np.random.Generator, events: list[Event], speed: float) -> Activity:
    """Draw each minute's trade count so that the day's mean is `speed` a second."""
    busy = _shape(rng)
    bends = _Bends(
        busy=busy,
        noise=np.sqrt(busy),
        lean=np.zeros(DAY_MINUTES),
        coupling=np.ones(DAY_MINUTES),
        least=np.ones(DAY_MINUTES, dtype=np.int64),
        is_quiet=np.zeros(DAY_MINUTES, dtype=bool),
    )
    for event in events:
        _bend(bends, event)
    quiet = bends.is_quiet
    quiet_rate = min(_QUIET_RATE, _QUIET_SHARE * 60 * speed)
    left = speed * 60 * DAY_MINUTES - quiet_rate * int(quiet.sum())
    rate = np.where(quiet, quiet_rate, busy * left / math.fsum(busy[~quiet].tolist()))
    trades = np.maximum(rng.poisson(rate), bends.least).astype(np.int64)
    trades[rng.choice(np.flatnonzero(quiet), _QUIET_EMPTY, replace=False)] = 0
    return Activity(trades, bends.noise, bends.lean, bends.coupling)


def trade_times(rng: np.random.Generator, trades: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return every trade's ms of the day, non-decreasing, some of them shared."""
    minute = np.repeat(np.arange(DAY_MINUTES, dtype=np.int64), trades)
    times = np.sort(minute * MINUTE_MS + rng.integers(0, MINUTE_MS, len(minute)))
    minute = times // MINUTE_MS
    shared = rng.random(len(times)) < _SAME_MS_SHARE
    # a minute's first trade keeps its time, so no minute loses its trades
    shared[np.flatnonzero(np.diff(minute, prepend=-1))] = False
    return np.maximum.accumulate(np.where(shared, 0, times))


def _shape(rng: np.random.Generator) -> NDArray[np.float64]:
    kicks = rng.standard_normal(DAY_MINUTES).tolist()
    spread = _MINUTE_SD * math.sqrt(1 - _MINUTE_MEMORY**2)
    wander = _MINUTE_SD * kicks[0]
    shape = []
    for minute, kick in enumerate(kicks):
        wander = _MINUTE_MEMORY * wander + spread * kick
        level = _FLOOR + sum(
            height * math.exp(-0.5 * ((minute - centre) / width) ** 2)
            for centre, width, height in _BUMPS
        )
        shape.append(level * math.exp(wander))
    return np.array(shape)


def _bend(bends: _Bends, event: Event) -> None:
    """Bend the event's minutes to what it needs."""
    whole, span = slice(event.minute, event.stop), slice(*event.flow)
    bends.busy[span] *= _BUSY.get(event.name, 1.0)
    bends.noise[whole] *= _NOISE.get(event.name, 1.0)
    bends.least[whole] = _LEAST_AROUND.get(event.name, 1)
    bends.least[span] = _LEAST.get(event.name, 1)
    if event.name in _FLOW:
        lean, coupling = _FLOW[event.name]
        bends.lean[span] = lean * event.direction
        bends.coupling[span] = coupling
    if event.name == "exhaustion":
        for bar, rate in enumerate(_EXHAUSTION_RATES):
            first = event.minute + bar * BAR_MINUTES
            bends.busy[first : first + BAR_MINUTES] *= rate
    elif event.name == "quiet_hour":
        bends.is_quiet[whole] = True
