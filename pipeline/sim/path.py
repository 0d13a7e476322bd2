"""The simulated best bid and ask through a day, every half second.

The bid is a walk in whole ticks: sparse, heavy-tailed noise, bent in planted
windows so that it passes given way points. Integer arithmetic keeps the sums
exact, hence equal on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sim.activity import DAY_MS, MINUTE_MS
from pipeline.sim.events import BAR_MINUTES, SETUP_AT, UP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.sim.activity import Activity
    from pipeline.sim.events import Event
    from pipeline.sim.instrument import Instrument

STEP_MS = 500
STEPS = DAY_MS // STEP_MS
STEPS_PER_MINUTE = MINUTE_MS // STEP_MS

_JITTER_MS = 250
_MOVE_SHARE = 0.35  # of the steps
_MINUTE_SD_BPS = 2.6
_DAY_END_SD_BPS = 35.0
# spread in ticks and how often it is drawn
_SPREADS = (1, 2, 3, 5, 8)
_SPREAD_SHARES = (0.86, 0.08, 0.03, 0.02, 0.01)

_WALL_FAR_BPS = 18.0
_STANDS_TURN_S = 600
_STANDS_BIRTH_S = 40
_STANDS_DEATH_S = 1320
_PULLED_FAR_BPS = 14.0
_PULLED_BIRTH_S = 65
_PULLED_LIFE_S = (190, 275)
_PULLED_KEEP_BPS = 3.0
_WICK_BPS = 22.0
_BAR_CLOSES_BPS = (3.0, 1.0, 0.0, -1.0)

# a setup, seconds from its window's start: the first bar leaves a wick, whose tip nothing
# touches; the price stays well away for ten minutes, climbs back and stands just before the tip
_SETUP_PEAK_BPS = (22.0, 8.0)
_SETUP_SPIKE_S = (90, 112)
_SETUP_AWAY_S = (300, 900)
_SETUP_STANDS_S = (1185, 1330)
_SETUP_AWAY_BPS = 6.0
_SETUP_NEAR_BPS = 0.3
_SETUP_FAR_BPS = 0.75
_SETUP_WALL_BPS = 0.6
_SETUP_WALL_BIRTH_S = 3  # into the minute, and out of it
_SETUP_WALL_DEATH_S = 5


@dataclass(frozen=True, slots=True)
class Wall:
    """A planted resting order.

    Attributes:
        event: the planned event.
        ticks: its price.
        birth_ms, death_ms: it is in the book from the first book event at or
            after the one until the first at or after the other.
        keep: ticks the touch stays away from it at least.
    """

    event: Event
    ticks: int
    birth_ms: int
    death_ms: int
    keep: int


@dataclass(frozen=True, slots=True)
class Touch:
    """Best prices: step i holds from times[i] until the next one.

    Attributes:
        times: ms of the day, increasing; the first is 0.
        bid, ask: ticks.
        walls: the walls the path was bent around, in order of time.
    """

    times: NDArray[np.int64]
    bid: NDArray[np.int64]
    ask: NDArray[np.int64]
    walls: list[Wall]

    def at(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the step in force at each of `times` (a step's own ms included)."""
        return np.searchsorted(self.times, times, side="right") - 1


def step_times(rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the ms of the day of every step: half seconds, jittered, the first 0."""
    jitter = rng.integers(0, _JITTER_MS, STEPS)
    jitter[0] = 0
    return np.arange(STEPS, dtype=np.int64) * STEP_MS + jitter


def walk(
    rng: np.random.Generator,
    facts: Instrument,
    events: list[Event],
    activity: Activity,
    times: NDArray[np.int64],
    *,
    last_bid: int,
    anchor_step: int,
) -> Touch:
    """Return the day's best prices, starting near `last_bid`.

    Args:
        rng: source of the noise.
        facts: the instrument.
        events: the day's plan.
        activity: noise per minute.
        times: from `step_times`.
        last_bid: the bid in ticks at which the day before ended.
        anchor_step: the step at which the exact whale trades: the price it pays
            is the anchor price there.
    """
    move, spread = _noise(rng, facts, activity)
    free = np.ones(STEPS, dtype=bool)
    pulled_life: dict[int, int] = {}
    for event in events:
        if event.name in ("wall_stands", "wall_pulled"):
            pulled_life[event.minute] = int(rng.integers(*_PULLED_LIFE_S))
        _bend(move, facts, event, free, pulled_life.get(event.minute, 0))

    whale = next(event for event in events if event.name == "exact_whale")
    spread[anchor_step] = 1
    at_anchor = facts.anchor_ticks - (1 if whale.direction == UP else 0)
    _steer(move, np.arange(anchor_step + 1), at_anchor - last_bid)
    end = facts.anchor_ticks + facts.bps(_DAY_END_SD_BPS * float(rng.standard_normal()))
    rest = np.arange(anchor_step + 1, STEPS)
    gone = int(move[rest[~free[rest]]].sum())
    _steer(move, rest[free[rest]], end - at_anchor - gone)

    bid = last_bid + np.cumsum(move)
    walls = []
    for event in events:
        if event.name in ("wall_stands", "wall_pulled"):
            wall = _wall(facts, event, bid, pulled_life[event.minute])
            _respect(wall, times, bid, spread)
            walls.append(wall)
        elif event.name == "setup":
            walls.append(_set_up(facts, event, bid, spread))
    return Touch(times, bid, bid + spread, walls)


def _noise(
    rng: np.random.Generator, facts: Instrument, activity: Activity
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the unbent moves and the spreads, in ticks per step."""
    moves = rng.random(STEPS) < _MOVE_SHARE
    scale = facts.bps(_MINUTE_SD_BPS) / (2 * STEPS_PER_MINUTE * _MOVE_SHARE) ** 0.5
    jumps = rng.laplace(0.0, scale, STEPS) * np.repeat(activity.noise, STEPS_PER_MINUTE)
    move = np.where(moves, np.rint(jumps), 0).astype(np.int64)
    drawn = np.array(_SPREADS)[
        np.searchsorted(np.cumsum(_SPREAD_SHARES)[:-1], rng.random(STEPS), side="right")
    ]
    moves[0] = True
    held = np.maximum.accumulate(np.where(moves, np.arange(STEPS), 0))
    return move, drawn[held].astype(np.int64)


def _steer(move: NDArray[np.int64], steps: NDArray[np.int64], total: int) -> None:
    """Add an even drift over `steps` so that their moves sum to `total`."""
    count = len(steps)
    missing = total - int(move[steps].sum())
    move[steps] += np.diff(np.arange(count + 1, dtype=np.int64) * missing // count)


def _bend(
    move: NDArray[np.int64],
    facts: Instrument,
    event: Event,
    free: NDArray[np.bool_],
    pulled_life_s: int,
) -> None:
    """Make the moves of the event's window pass its way points."""
    points = _way_points(event, pulled_life_s)
    if not points:
        return
    first = event.minute * STEPS_PER_MINUTE
    free[first : event.stop * STEPS_PER_MINUTE] = False
    step, done = first, 0
    for second, offset_bps in points:
        stop = first + second * STEPS_PER_MINUTE // 60
        level = facts.bps(offset_bps * event.direction)
        _steer(move, np.arange(step, stop), level - done)
        step, done = stop, level


def _way_points(event: Event, pulled_life_s: int) -> list[tuple[int, float]]:
    """Return (second, bps in the event's direction) from the window's start."""
    end = event.minutes * 60
    if event.name == "exhaustion":
        points = []
        for bar, close in enumerate(_BAR_CLOSES_BPS):
            start = bar * BAR_MINUTES * 60
            points += [(start + 140, _WICK_BPS), (start + 240, close), (start + 300, close)]
        return points
    pulled = _PULLED_BIRTH_S + pulled_life_s
    return {
        "burst": [(end, 9.0 + 8.0 * event.strength)],
        "absorption": [(end, 1.5)],
        "divergence": [(end, 9.0 + 5.0 * event.strength)],
        "wall_stands": [
            (_STANDS_TURN_S - 60, _WALL_FAR_BPS),
            (_STANDS_TURN_S + 60, _WALL_FAR_BPS),
            (end, -6.0),
        ],
        "wall_pulled": [(_PULLED_BIRTH_S, 0.0), (pulled, _PULLED_FAR_BPS - 6.0), (end, 19.0)],
        "trend": [(end, 110.0 + 40.0 * event.strength)],
        "setup": [
            (_SETUP_SPIKE_S[0], _setup_peak_bps(event) - 1.0),
            (_SETUP_SPIKE_S[1], _setup_peak_bps(event) - 1.0),
            (210, 4.0),
            (_SETUP_AWAY_S[0], 3.0),
            (_SETUP_AWAY_S[1], 2.0),
            (_SETUP_STANDS_S[0], _setup_peak_bps(event) - 0.5),
            (_SETUP_STANDS_S[1], _setup_peak_bps(event) - 0.5),
            (1500, 4.0),
            (end, 0.0),
        ],
    }.get(event.name, [])


def _wall(facts: Instrument, event: Event, bid: NDArray[np.int64], life_s: int) -> Wall:
    start = event.minute * MINUTE_MS
    first = int(bid[event.minute * STEPS_PER_MINUTE])
    if event.name == "wall_stands":
        return Wall(
            event,
            ticks=first + event.direction * facts.bps(_WALL_FAR_BPS),
            birth_ms=start + _STANDS_BIRTH_S * 1000,
            death_ms=start + _STANDS_DEATH_S * 1000,
            keep=0,
        )
    birth = start + _PULLED_BIRTH_S * 1000
    return Wall(
        event,
        ticks=first + event.direction * facts.bps(_PULLED_FAR_BPS),
        birth_ms=birth,
        death_ms=birth + life_s * 1000,
        keep=facts.bps(_PULLED_KEEP_BPS),
    )


def _respect(
    wall: Wall, times: NDArray[np.int64], bid: NDArray[np.int64], spread: NDArray[np.int64]
) -> None:
    """Keep the touch on its side of a wall for as long as the wall may stand."""
    first, last = np.searchsorted(times, (wall.birth_ms, wall.death_ms + STEP_MS))
    # the step before is still in force when the wall appears
    span = slice(max(int(first) - 1, 0), int(last))
    if wall.event.direction == UP:
        bid[span] = np.minimum(bid[span], wall.ticks - wall.keep - spread[span])
    else:
        bid[span] = np.maximum(bid[span], wall.ticks + wall.keep)


def _setup_peak_bps(event: Event) -> float:
    low, extra = _SETUP_PEAK_BPS
    return low + extra * event.strength


def _set_up(
    facts: Instrument, event: Event, bid: NDArray[np.int64], spread: NDArray[np.int64]
) -> Wall:
    """Make the touch leave a level and come back to just before it; returns the wall there."""
    first, way = event.minute * STEPS_PER_MINUTE, event.direction
    level = int(bid[first]) + way * facts.bps(_setup_peak_bps(event))

    def steps(seconds: tuple[int, int]) -> slice:
        start, stop = (first + each * STEPS_PER_MINUTE // 60 for each in seconds)
        return slice(start, stop)

    def keep_away(span: slice, bps: float) -> None:
        if way == UP:
            bid[span] = np.minimum(bid[span], level - facts.bps(bps) - spread[span])
        else:
            bid[span] = np.maximum(bid[span], level + facts.bps(bps))

    stands, spike = steps(_SETUP_STANDS_S), steps(_SETUP_SPIKE_S)
    keep_away(steps((0, _SETUP_STANDS_S[1])), _SETUP_NEAR_BPS)
    keep_away(steps(_SETUP_AWAY_S), _SETUP_AWAY_BPS)
    bid[spike], spread[spike] = level, 1
    farthest = level - way * facts.bps(_SETUP_FAR_BPS)
    bid[stands] = (np.maximum if way == UP else np.minimum)(bid[stands], farthest)
    start = (event.minute + SETUP_AT) * MINUTE_MS
    return Wall(
        event,
        ticks=level + way * facts.bps(_SETUP_WALL_BPS),
        birth_ms=start + _SETUP_WALL_BIRTH_S * 1000,
        death_ms=start + MINUTE_MS + _SETUP_WALL_DEATH_S * 1000,
        keep=0,
    )
