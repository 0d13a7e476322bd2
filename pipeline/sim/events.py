"""The plan of a simulated day: which events are planted in which minutes.

The order and the minutes are drawn from the seed; every event keeps a distance
from the next, and everything that is judged against the hundred minutes before
it starts late enough to have them.

A day may also have setups, one of either side: what the rules that ship look for. Their hours are
fixed, the second and the third of the day, so that a short simulation has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DAY_MINUTES = 1440
FIRST_MINUTE = 125
LAST_MINUTE = 1250
MIN_GAP = 14
EXACT_WHALE_MINUTES = (60, 110)
_AFTER_SETUPS = 190
_EXACT_WHALE_BEFORE_SETUPS = (20, 50)
_SETUP_STARTS = (1, 6)  # in bars, from the full hour on
QUIET_STARTS = (1265, 1375)
QUIET_MINUTES = 60
TREND_MINUTES = 60
BAR_MINUTES = 5
EXHAUSTION_BARS = 4
SETUP_MINUTES = 30
SETUP_AT = 21  # the minute of the window at whose end the rule holds
SETUP_HOURS = (1, 2)

UP, DOWN = 1, -1

# (name, minutes it takes, direction); a whale's direction is that of its trade
_PLANTED = (
    ("burst", 1, UP),
    ("burst", 1, DOWN),
    ("absorption", 1, UP),
    ("absorption", 1, DOWN),
    ("divergence", 1, UP),
    ("divergence", 1, DOWN),
    ("wall_stands", 24, UP),
    ("wall_stands", 24, DOWN),
    ("wall_pulled", 9, UP),
    ("wall_pulled", 9, DOWN),
    ("whale", 1, UP),
    ("whale", 1, UP),
    ("whale", 1, DOWN),
    ("whale", 1, DOWN),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One planted event of a simulated day.

    Attributes:
        name: what is planted, as the truth file names it.
        minute: first minute, counted from 00:00 UTC.
        minutes: how long it lasts.
        direction: +1 or -1. Flow events: the takers' side. Divergence: where
            the price goes (the takers go against it). Walls: +1 asks, -1 bids.
            Trend and exhaustion: where the price goes. Setup: where the price
            comes from below (+1) or above its level; the rule says the opposite.
        strength: uniform in [0, 1), scales the event's size within its range.
    """

    name: str
    minute: int
    minutes: int
    direction: int
    strength: float

    @property
    def stop(self) -> int:
        """First minute after the event."""
        return self.minute + self.minutes

    @property
    def flow(self) -> tuple[int, int]:
        """The minutes whose trades are bent, [first, last): of a setup only one."""
        if self.name == "setup":
            return self.minute + SETUP_AT, self.minute + SETUP_AT + 1
        return self.minute, self.stop


def plan_day(rng: np.random.Generator, *, setups: bool = False) -> list[Event]:
    """Return the day's events in order of time; none overlap.

    A `trend` is followed at once by its `exhaustion`, both on 5-minute bounds.
    `exact_whale` is the whale of exactly 100 000 quote units. With `setups` the
    other events come after them, and the exact whale before.
    """
    first_minute = _AFTER_SETUPS if setups else FIRST_MINUTE
    trend_side = UP if rng.random() < 0.5 else DOWN
    wanted = [*_PLANTED, ("trend", TREND_MINUTES + EXHAUSTION_BARS * BAR_MINUTES, trend_side)]
    order = rng.permutation(len(wanted)).tolist()
    strengths = rng.random(len(wanted) + 3).tolist()
    # one bar more than it lasts leaves room to move the trend to a 5-minute bound
    room = LAST_MINUTE - first_minute - sum(minutes + MIN_GAP for _, minutes, _ in wanted)
    slack = sorted(rng.integers(0, room - BAR_MINUTES, len(wanted)).tolist())

    events = []
    taken = first_minute
    for index, extra in zip(order, slack, strict=True):
        name, minutes, side = wanted[index]
        minute = taken + extra
        if name == "trend":
            shift = -minute % BAR_MINUTES
            minute += shift
            taken += shift
            last = minute + TREND_MINUTES
            events.append(Event("trend", minute, TREND_MINUTES, side, strengths[index]))
            events.append(Event("exhaustion", last, minutes - TREND_MINUTES, side, strengths[-1]))
        else:
            events.append(Event(name, minute, minutes, side, strengths[index]))
        taken += minutes + MIN_GAP

    exact = int(rng.integers(*(_EXACT_WHALE_BEFORE_SETUPS if setups else EXACT_WHALE_MINUTES)))
    exact_side = UP if rng.random() < 0.5 else DOWN
    events.append(Event("exact_whale", exact, 1, exact_side, strengths[-2]))
    quiet = int(rng.integers(*QUIET_STARTS))
    events.append(Event("quiet_hour", quiet, QUIET_MINUTES, UP, strengths[-3]))
    if setups:
        events += _setups(rng)
    return sorted(events, key=lambda event: event.minute)


def _setups(rng: np.random.Generator) -> list[Event]:
    """Return one setup of either side, each in its hour and on a 5-minute bound."""
    sides = (UP, DOWN) if rng.random() < 0.5 else (DOWN, UP)
    found = []
    for hour, side in zip(SETUP_HOURS, sides, strict=True):
        minute = 60 * hour + BAR_MINUTES * int(rng.integers(*_SETUP_STARTS))
        found.append(Event("setup", minute, SETUP_MINUTES, side, float(rng.random())))
    return found
