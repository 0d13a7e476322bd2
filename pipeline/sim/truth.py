"""What was planted, as measured in the simulated data that is being written.

Each row is measured after the fact; an event whose data fell short of its
definition (a market too slow to carry it) is left out.
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, Any

from pipeline.sim.activity import MINUTE_MS
from pipeline.sim.events import BAR_MINUTES, EXHAUSTION_BARS, SETUP_AT, UP
from pipeline.sim.instrument import LOTS_PER_CONTRACT, UNITS_PER_QUOTE, WHALE_UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.sim.book import WallLife
    from pipeline.sim.context import Context
    from pipeline.sim.events import Event
    from pipeline.sim.instrument import Instrument
    from pipeline.sim.path import Touch
    from pipeline.sim.tape import Tape

Row = dict[str, Any]

BURST_RATIO = 4.0
ABSORPTION_RATIO = 2.0
ABSORPTION_MAX_PCT = 0.1
ABSORPTION_MIN_SHARE = 0.5
DIVERGENCE_MIN_PCT = 0.05
DIVERGENCE_MIN_SHARE = 0.2
WALL_MIN_QUOTE = 250_000
WALL_MIN_RATIO = 5.0
WALL_MIN_MINUTES = 10
TURN_MIN_BPS = 8.0
PULLED_MIN_QUOTE = 2_000_000
PULLED_MAX_MINUTES = 5
TREND_MIN_PCT = 0.8
TREND_MIN_SHARE = 0.1
FADE_MAX = 0.7
WICK_MIN = 0.4
QUIET_MIN_EMPTY = 5
SETUP_RATIO = 2.2
SETUP_MIN_SHARE = 0.72
SETUP_WICK_MIN = 0.35
SETUP_WICK_MAX = 0.25


class Measure:
    """Measures the planned events in one simulated day's data."""

    def __init__(
        self, facts: Instrument, day: dt.date, tape: Tape, touch: Touch, first_id: int
    ) -> None:
        self._facts = facts
        self._midnight = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
        self._tape = tape
        self._touch = touch
        self._first_id = first_id
        self.context: Context | None = None

    def rows(self, events: list[Event], lives: list[WallLife], stop_ms: int) -> list[Row]:
        """Return the truth rows of what ended by `stop_ms`, in order of time."""
        measures: dict[str, Callable[[Event], Row | None]] = {
            "burst": self._burst,
            "absorption": self._absorption,
            "divergence": self._divergence,
            "whale": self._whale,
            "exact_whale": self._whale,
            "trend": self._trend,
            "exhaustion": self._exhaustion,
            "quiet_hour": self._quiet,
        }
        rows = [
            measures[event.name](event)
            for event in events
            if event.name in measures and event.stop * MINUTE_MS <= stop_ms
        ]
        rows += [self._wall(life) for life in lives]
        held = [row for row in rows if row is not None]
        return sorted(held, key=lambda row: (row["start"], row["event"]))

    def _time(self, ms: int) -> str:
        time = self._midnight + dt.timedelta(milliseconds=ms)
        return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"

    def _head(self, name: str, start_ms: int, end_ms: int, side: str, price: float) -> Row:
        return {
            "simulated": True,
            "event": name,
            "instId": self._facts.inst_id,
            "start": self._time(start_ms),
            "end": self._time(end_ms),
            "side": side,
            "price": price,
        }

    def _window(self, event: Event, side: int) -> tuple[Row, float, float]:
        """Return the row's head with flow figures, the change in % and delta's share."""
        tape = self._tape
        span = tape.span(event.minute, event.stop)
        units = tape.units(span)
        total, delta = int(units.sum()), int((units * tape.side[span]).sum())
        first, last = int(tape.ticks[span][0]), int(tape.ticks[span][-1])
        change = (last / first - 1) * 100
        row = self._head(
            event.name,
            event.minute * MINUTE_MS,
            event.stop * MINUTE_MS,
            _flow_side(side),
            self._facts.price(last),
        )
        row |= {
            "open": self._facts.price(first),
            "change_pct": round(change, 6),
            "notional": total / UNITS_PER_QUOTE,
            "delta_notional": delta / UNITS_PER_QUOTE,
            "trades": len(units),
        }
        return row, change, delta / total

    def _ratio(self, event: Event, row: Row) -> float:
        prior = self._tape.prior_median(event.minute) / UNITS_PER_QUOTE
        ratio = float(row["notional"] / prior)
        row |= {"prior_median_notional": prior, "ratio": round(ratio, 6)}
        return ratio

    def _burst(self, event: Event) -> Row | None:
        row, _, _ = self._window(event, event.direction)
        return row if self._ratio(event, row) > BURST_RATIO else None

    def _absorption(self, event: Event) -> Row | None:
        row, change, share = self._window(event, event.direction)
        holds = (
            self._ratio(event, row) > ABSORPTION_RATIO
            and abs(change) < ABSORPTION_MAX_PCT
            and share * event.direction >= ABSORPTION_MIN_SHARE
        )
        row["absorbed_by"] = _flow_side(-event.direction)
        return row if holds else None

    def _divergence(self, event: Event) -> Row | None:
        row, change, share = self._window(event, -event.direction)
        row["type"] = "bearish" if event.direction == UP else "bullish"
        holds = (
            change * event.direction >= DIVERGENCE_MIN_PCT
            and -share * event.direction >= DIVERGENCE_MIN_SHARE
        )
        return row if holds else None

    def _whale(self, event: Event) -> Row | None:
        tape, index = self._tape, self._tape.whales[event]
        units = int(tape.ticks[index] * tape.lots[index])
        time = int(tape.times[index])
        row = self._head(
            "whale",
            time,
            time + 1,
            _flow_side(int(tape.side[index])),
            self._facts.price(int(tape.ticks[index])),
        )
        row |= {
            "contracts": int(tape.lots[index]) / LOTS_PER_CONTRACT,
            "notional": units / UNITS_PER_QUOTE,
            "trade_id": str(self._first_id + index),
            "exact": event.name == "exact_whale",
        }
        return row if units >= WHALE_UNITS else None

    def _trend(self, event: Event) -> Row | None:
        row, change, share = self._window(event, event.direction)
        holds = (
            change * event.direction >= TREND_MIN_PCT and share * event.direction >= TREND_MIN_SHARE
        )
        return row if holds else None

    def _exhaustion(self, event: Event) -> Row | None:
        """Measure 5-minute bars: each quieter than the last, with a long wick."""
        row, _, _ = self._window(event, event.direction)
        tape = self._tape
        volumes, wicks = [], []
        for bar in range(-1, EXHAUSTION_BARS):
            first = event.minute + bar * BAR_MINUTES
            span = tape.span(first, first + BAR_MINUTES)
            ticks = tape.ticks[span]
            low, high = int(ticks.min()), int(ticks.max())
            ends = (int(ticks[0]), int(ticks[-1]))
            wick = high - max(ends) if event.direction == UP else min(ends) - low
            volumes.append(int(tape.units(span).sum()))
            wicks.append(wick / max(high - low, 1))
        fades = [after / before for before, after in itertools.pairwise(volumes)]
        row |= {
            "bar_notionals": [units / UNITS_PER_QUOTE for units in volumes[1:]],
            "bar_wick_shares": [round(share, 6) for share in wicks[1:]],
        }
        return row if max(fades) < FADE_MAX and min(wicks[1:]) > WICK_MIN else None

    def _quiet(self, event: Event) -> Row | None:
        bounds = self._tape.first_of_minute[event.minute : event.stop + 1].tolist()
        empty = sum(after == before for before, after in itertools.pairwise(bounds))
        step = int(self._touch.times.searchsorted(event.minute * MINUTE_MS, side="right")) - 1
        row = self._head(
            event.name,
            event.minute * MINUTE_MS,
            event.stop * MINUTE_MS,
            "none",
            self._facts.price(int(self._touch.bid[step])),
        )
        row |= {"trades": bounds[-1] - bounds[0], "empty_minutes": empty}
        return row if empty >= QUIET_MIN_EMPTY else None

    def _bar(self, first: int) -> tuple[int, float]:
        """Return the tip of a 5-minute bar and its wick's share, upwards."""
        ticks = self._tape.ticks[self._tape.span(first, first + BAR_MINUTES)]
        high, ends = int(ticks.max()), (int(ticks[0]), int(ticks[-1]))
        return high, (high - max(ends)) / max(high - int(ticks.min()), 1)

    def _low_bar(self, first: int) -> tuple[int, float]:
        """Return the same downwards."""
        ticks = self._tape.ticks[self._tape.span(first, first + BAR_MINUTES)]
        low, ends = int(ticks.min()), (int(ticks[0]), int(ticks[-1]))
        return low, (min(ends) - low) / max(int(ticks.max()) - low, 1)

    def _setup(self, life: WallLife) -> Row | None:
        """Measure a setup: its first bar's wick, and the minute at which the wall stands."""
        event = life.wall.event
        minute, way = event.minute + SETUP_AT, event.direction
        start_ms, end_ms = minute * MINUTE_MS, (minute + 1) * MINUTE_MS
        tape = self._tape
        span = tape.span(minute, minute + 1)
        units = tape.units(span)
        close, wall = int(tape.ticks[span][-1]), life.wall.ticks * life.lots
        bar = self._bar if way == UP else self._low_bar
        tips = [bar(first) for first in range(event.minute, minute - 1, BAR_MINUTES)]
        tip, wick = tips[0]
        # the price must pass the tips in between, and come to its own without touching it
        nearest = max((each - tip) * way for each, _ in tips[1:])
        is_last = (tips[-1][0] - max(each * way for each, _ in tips[1:-1]) * way) * way >= 0
        row = self._head(
            event.name,
            start_ms,
            end_ms,
            _flow_side(way),
            self._facts.price(close),
        )
        change = (close / int(tape.ticks[span][0]) - 1) * 100
        prior = tape.prior_median(minute)
        row |= {
            "rule": f"maximum_conviction_{'short' if way == UP else 'long'}",
            "wick_price": self._facts.price(tip),
            "wick_at": self._time(event.minute * MINUTE_MS),
            "change_pct": round(change, 6),
            "notional": int(units.sum()) / UNITS_PER_QUOTE,
            "delta_notional": int((units * tape.side[span]).sum()) / UNITS_PER_QUOTE,
            "ratio": round(int(units.sum()) / prior, 6),
            "wall_price": self._facts.price(life.wall.ticks),
            "wall_notional": wall / UNITS_PER_QUOTE,
            "wall_start": self._time(life.start_ms),
            "wall_end": self._time(life.end_ms or 0),
            "wall_share": round(life.share, 6),
        }
        if self.context is not None:
            row |= self.context.told(minute)
        holds = (
            wick >= SETUP_WICK_MIN
            and tips[-1][1] <= SETUP_WICK_MAX
            and nearest < 0
            and is_last
            and abs(close - tip) <= close / 10_000
            and row["ratio"] > SETUP_RATIO
            and abs(change) < ABSORPTION_MAX_PCT / 2
            and wall > PULLED_MIN_QUOTE * UNITS_PER_QUOTE
            and start_ms <= life.start_ms < end_ms <= (life.end_ms or 0) < end_ms + MINUTE_MS
            and life.share > SETUP_MIN_SHARE
        )
        return row if holds else None

    def _wall(self, life: WallLife) -> Row | None:
        """Measure a wall's life; one still standing at the end is no row yet."""
        if life.end_ms is None:
            return None
        if life.wall.event.name == "setup":
            return self._setup(life)
        wall, touch = life.wall, self._touch
        is_ask = wall.event.direction == UP
        first = int(touch.times.searchsorted(life.start_ms, side="right")) - 1
        last = int(touch.times.searchsorted(life.end_ms))
        best = (touch.ask if is_ask else touch.bid)[first:last]
        away = (wall.ticks - best) * wall.event.direction
        nearest = int(away.argmin())
        units = wall.ticks * life.lots
        row = self._head(
            wall.event.name,
            life.start_ms,
            life.end_ms,
            "ask" if is_ask else "bid",
            self._facts.price(wall.ticks),
        )
        row |= {
            "contracts": life.lots / LOTS_PER_CONTRACT,
            "notional": units / UNITS_PER_QUOTE,
            "median_level_notional": life.median_units / UNITS_PER_QUOTE,
            "nearest_ticks": int(away[nearest]),
            "nearest_at": self._time(max(int(touch.times[first + nearest]), life.start_ms)),
            "end_ticks": int(away[-1]),
        }
        minutes = (life.end_ms - life.start_ms) / MINUTE_MS
        large = units >= WALL_MIN_QUOTE * UNITS_PER_QUOTE
        large = large and units >= WALL_MIN_RATIO * life.median_units
        if wall.event.name == "wall_stands":
            turned = away[nearest] == 0 and away[-1] >= self._facts.bps(TURN_MIN_BPS)
            return row if large and turned and minutes >= WALL_MIN_MINUTES else None
        huge = units > PULLED_MIN_QUOTE * UNITS_PER_QUOTE
        young = minutes < PULLED_MAX_MINUTES
        return row if large and huge and young and away[nearest] > 0 else None


def _flow_side(side: int) -> str:
    return "buy" if side > 0 else "sell"
