"""How often each signal and each state of momentum comes, and how it meets what was planted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.calc.fusion import FOLLOWS_TREND, SIGNALS

BARS_A_DAY = {"5m": 288, "15m": 96, "30m": 48}
STATES = ("ACCELERATING", "DECELERATING", "TRENDING", "DRIFTING", "FLAT")
GROUPS = ("STRONG_MOMENTUM_*", "FADE_EXHAUSTION_*", "CONFIRMED_BOUNCE_*")
LINES = (*SIGNALS, *GROUPS, *STATES)

Rows = Sequence[dict[str, Any]]


@dataclass(slots=True)
class Rates:
    """Counts over the bars of which all is known, and what these would make of a full day."""

    bars: int = 0
    bars_a_day: int = 288
    counts: Counter[str] = field(default_factory=Counter)

    def share(self, line: str) -> float | None:
        """The part of the bars."""
        return self.counts[line] / self.bars if self.bars else None

    def a_day(self, line: str) -> float | None:
        """How many in as many bars as a day has."""
        share = self.share(line)
        return None if share is None else share * self.bars_a_day


def count(ipu: Rows, signals: Rows, bars_a_day: int) -> Rates:
    """Count the bars from the first on of which participation and momentum are known."""
    by_time = {row["timestamp_utc"]: row["signal"] for row in signals}
    rates = Rates(bars_a_day=bars_a_day)
    for row in ipu:
        signal, state = by_time.get(row["timestamp_utc"]), row["momentum_state"]
        if signal is None or state is None or row["inst_proxy"] is None:
            continue
        rates.bars += 1
        groups = [group for group in GROUPS if signal.startswith(group[:-1])]
        rates.counts.update([signal, state, *groups])
    return rates


def together(parts: Iterable[Rates], bars_a_day: int) -> Rates:
    """Several instruments as one."""
    whole = Rates(bars_a_day=bars_a_day)
    for part in parts:
        whole.bars += part.bars
        whole.counts += part.counts
    return whole


@dataclass(frozen=True, slots=True)
class Met:
    """How signals and planted events met.

    Attributes:
        events, found: planted, and those of them with a signal in their time.
        signals, right: signals of the kind, and those of them in the time of an event.
    """

    name: str
    events: int
    found: int
    signals: int
    right: int

    @property
    def recall(self) -> float | None:
        """The part of the events that a signal met."""
        return self.found / self.events if self.events else None

    @property
    def precision(self) -> float | None:
        """The part of the signals that met an event."""
        return self.right / self.signals if self.signals else None


def meetings(truth: Rows, ipu: Rows, signals: Rows, span_s: int = 300) -> list[Met]:
    """What can be compared: a trend with the signals that follow one, its end with those that fade.

    A bar meets an event if it ends in its time, or within one bar after it. The direction counts:
    a rise is followed LONG, and faded SHORT. Bursts, walls, whales and absorption are of single
    minutes, and the planted divergence is one of price and delta within a minute: no signal of
    five minutes claims to see these.
    """
    judged = {row["timestamp_utc"]: row for row in ipu}
    following: list[tuple[float, int]] = []
    fading: list[tuple[float, int]] = []
    warned: list[tuple[float, int]] = []
    for row in signals:
        end = _seconds(row["timestamp_utc"]) + span_s
        side = {"LONG": 1, "SHORT": -1}.get(row["direction"], 0)
        if row["signal"].startswith(FOLLOWS_TREND):
            following.append((end, side))
        if row["signal"].startswith("FADE_EXHAUSTION"):
            fading.append((end, -side))
        seen = judged.get(row["timestamp_utc"], {})
        if seen.get("exhaustion_warning"):
            warned.append((end, 1 if seen["mms_slope"] > 0 else -1))
    trends = [row for row in truth if row["event"] == "trend"]
    ends = [row for row in truth if row["event"] == "exhaustion"]
    return [
        _met("trend: STRONG, BOUNCE, CLEAN that way", trends, following, span_s),
        _met("exhaustion: FADE against it", ends, fading, span_s),
        _met("exhaustion: exhaustion_warning of ipu", ends, warned, span_s),
    ]


def _met(name: str, events: Rows, signals: Sequence[tuple[float, int]], grace_s: int) -> Met:
    times = [
        (_seconds(e["start"]), _seconds(e["end"]) + grace_s, 1 if e["side"] == "buy" else -1)
        for e in events
    ]
    pairs = [
        (number, index)
        for number, (low, high, side) in enumerate(times)
        for index, (end, way) in enumerate(signals)
        if low < end <= high and way == side
    ]
    found, right = ({pair[i] for pair in pairs} for i in (0, 1))
    return Met(name, len(times), len(found), len(signals), len(right))


def add(first: Sequence[Met], second: Sequence[Met]) -> list[Met]:
    """The meetings of two markets."""
    return [
        Met(
            a.name, a.events + b.events, a.found + b.found, a.signals + b.signals, a.right + b.right
        )
        for a, b in zip(first, second, strict=True)
    ]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
