"""The simulated trades of a day, at the touch, shaped until the planted events hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sim.activity import MINUTE_MS
from pipeline.sim.events import BAR_MINUTES, DAY_MINUTES, EXHAUSTION_BARS
from pipeline.sim.instrument import LOTS_PER_CONTRACT, UNITS_PER_QUOTE, WHALE_UNITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.sim.activity import Activity
    from pipeline.sim.events import Event
    from pipeline.sim.instrument import Instrument
    from pipeline.sim.path import Touch

PRIOR_MINUTES = 100

_MEDIAN_QUOTE = 750.0
_SIZE_SIGMA = 1.6
_ROUND_SHARE = 0.35
_CAP_UNITS = 80_000 * UNITS_PER_QUOTE  # ordinary trades stay well below a whale
_FRESH_SHARE = 0.55  # of trades; the others repeat the side of the one before
_FOLLOW = 0.38
_FOLLOW_STEPS = 6
_FOLLOW_BPS = 1.2
_STRETCHES = 12

_BURST_RATIO = 5.5
_ABSORPTION_RATIO = 2.8
_ABSORPTION_SHARE = 0.6
_RATIOS = {"burst": _BURST_RATIO, "absorption": _ABSORPTION_RATIO, "setup": _ABSORPTION_RATIO}
_DIVERGENCE_SHARE = 0.3
_TREND_SHARE = 0.15
_FADE = 0.6
_WHALE_RANGE = (1.05, 5.0)


@dataclass(frozen=True, slots=True)
class Tape:
    """A day's trades, equally long arrays in the order of their ids.

    Attributes:
        times: ms of the day, non-decreasing.
        side: +1 the taker bought, -1 sold.
        ticks: price.
        lots: size.
        first_of_minute: index of each minute's first trade, 1441 bounds.
        whales: index of each planted whale by its event.
    """

    times: NDArray[np.int64]
    side: NDArray[np.int64]
    ticks: NDArray[np.int64]
    lots: NDArray[np.int64]
    first_of_minute: NDArray[np.int64]
    whales: dict[Event, int]

    def span(self, minute: int, stop: int) -> slice:
        """Return the trades of minutes [minute, stop)."""
        return slice(int(self.first_of_minute[minute]), int(self.first_of_minute[stop]))

    def units(self, span: slice) -> NDArray[np.int64]:
        """Return the notional of the trades of `span`, in 1e-5 of quote currency."""
        return self.ticks[span] * self.lots[span]

    def prior_median(self, minute: int) -> float:
        """Return the median notional (units) of the last 100 minutes that traded."""
        totals: list[int] = []
        before = minute - 1
        while before >= 0 and len(totals) < PRIOR_MINUTES:
            span = self.span(before, before + 1)
            if span.stop > span.start:
                totals.append(int(self.units(span).sum()))
            before -= 1
        return float(np.median(np.array(totals, dtype=np.int64)))


def minute_bounds(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each minute's first trade and, last, the number of trades."""
    edges = np.arange(DAY_MINUTES + 1, dtype=np.int64) * MINUTE_MS
    return np.searchsorted(times, edges).astype(np.int64)


def make_tape(
    rng: np.random.Generator,
    facts: Instrument,
    events: list[Event],
    activity: Activity,
    touch: Touch,
    *,
    times: NDArray[np.int64],
) -> Tape:
    """Draw sides and sizes for trades at `times` and plant the flow events."""
    bounds = minute_bounds(times)
    step = touch.at(times)
    whales = {
        event: int(bounds[event.minute] + bounds[event.stop]) // 2
        for event in events
        if event.name in ("whale", "exact_whale")
    }
    lots = _sizes(rng, facts, len(times))
    side = _sides(rng, facts, activity, touch, times=times, step=step)
    for event, index in whales.items():
        side[index] = event.direction
    tape = Tape(times, side, np.empty_like(times), lots, bounds, whales)
    for event in events:
        _lean(rng, tape, event)
    # prices follow from the sides, so they come after every change of side
    tape.ticks[:] = np.where(side > 0, touch.ask[step], touch.bid[step])
    np.minimum(lots, _CAP_UNITS // tape.ticks, out=lots)
    for event in events:
        _resize(tape, event)
    return tape


def _sizes(rng: np.random.Generator, facts: Instrument, count: int) -> NDArray[np.int64]:
    """Return heavy-tailed sizes in lots, a third of them whole contracts."""
    median = facts.lots_worth(_MEDIAN_QUOTE)
    drawn = np.exp(_SIZE_SIGMA * rng.standard_normal(count)) * median
    lots: NDArray[np.int64] = np.maximum(np.rint(drawn), 1).astype(np.int64)
    is_round = rng.random(count) < _ROUND_SHARE
    lots[is_round] += -lots[is_round] % LOTS_PER_CONTRACT
    return lots


def _sides(
    rng: np.random.Generator,
    facts: Instrument,
    activity: Activity,
    touch: Touch,
    *,
    times: NDArray[np.int64],
    step: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return takers' sides: in runs, leaning with the price around the trade."""
    last = len(touch.bid) - 1
    steps = np.arange(last + 1)
    ahead = touch.bid[np.minimum(steps + _FOLLOW_STEPS, last)]
    behind = touch.bid[np.maximum(steps - _FOLLOW_STEPS, 0)]
    pull = _FOLLOW * np.tanh((ahead - behind) / facts.bps(_FOLLOW_BPS))
    minute = times // MINUTE_MS
    chance = 0.5 + activity.lean[minute] + activity.coupling[minute] * pull[step]
    side = np.where(rng.random(len(times)) < chance, 1, -1).astype(np.int64)
    fresh = rng.random(len(times)) < _FRESH_SHARE
    # one sweep is one taker: trades of the same ms share their side; a minute
    # starts afresh so that a planted one is not led by its neighbour
    fresh &= np.diff(times, prepend=-1) > 0
    fresh |= np.diff(minute, prepend=-1) > 0
    leader = np.maximum.accumulate(np.where(fresh, np.arange(len(times)), 0))
    return np.take(side, leader)


def _lean(rng: np.random.Generator, tape: Tape, event: Event) -> None:
    """Turn as many trades as the event's one-sidedness still lacks."""
    wanted = {
        "absorption": (event.direction, _ABSORPTION_SHARE),
        "divergence": (-event.direction, _DIVERGENCE_SHARE),
        "trend": (event.direction, _TREND_SHARE),
        "setup": (event.direction, _ABSORPTION_SHARE),
    }.get(event.name)
    if wanted is None:
        return
    towards, share = wanted
    span = tape.span(*event.flow)
    side, lots = tape.side[span], tape.lots[span]
    missing = share * int(lots.sum()) - int((side * lots).sum()) * towards
    if missing <= 0:
        return
    against = rng.permutation(np.flatnonzero(side != towards))
    turned = np.cumsum(2 * lots[against])
    side[against[: int(np.searchsorted(turned, missing)) + 1]] = towards


def _resize(tape: Tape, event: Event) -> None:
    """Scale sizes until the event's volume is what it should be."""
    if event.name in _RATIOS:
        ratio, minute = _RATIOS[event.name], event.flow[0]
        span = tape.span(*event.flow)
        target = round(ratio * (1 + 0.3 * event.strength) * tape.prior_median(minute))
        if int(tape.units(span).sum()) < target:
            _stretch(tape, span, target)
    elif event.name == "exhaustion":
        first = event.minute - BAR_MINUTES
        target = int(tape.units(tape.span(first, event.minute)).sum())
        for bar in range(1, EXHAUSTION_BARS + 1):
            target = round(target * _FADE)
            start = first + bar * BAR_MINUTES
            _stretch(tape, tape.span(start, start + BAR_MINUTES), target)
    elif event.name == "exact_whale":
        index = tape.whales[event]
        tape.lots[index] = WHALE_UNITS // int(tape.ticks[index])
    elif event.name == "whale":
        index = tape.whales[event]
        low, high = _WHALE_RANGE
        worth = round(WHALE_UNITS * (low + (high - low) * event.strength**2))
        lots = worth // int(tape.ticks[index])
        tape.lots[index] = lots - lots % LOTS_PER_CONTRACT + LOTS_PER_CONTRACT


def _stretch(tape: Tape, span: slice, target: int) -> None:
    """Scale the sizes of `span` so that its notional comes near `target` units.

    The cap on single trades swallows part of it, hence several passes.
    """
    ticks = tape.ticks[span]
    cap = _CAP_UNITS // ticks
    for _ in range(_STRETCHES):
        lots = tape.lots[span]
        factor = target / int((lots * ticks).sum())
        tape.lots[span] = np.clip(np.rint(lots * factor), 1, cap).astype(np.int64)
