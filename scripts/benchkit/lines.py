"""Lines of the table that several rows have in common."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from scripts.benchkit.days import DayRuns
from scripts.benchkit.history import MinuteTimes
from scripts.benchkit.outcome import Aim, Line

_MILLION = 1_000_000


def millions(trades: float) -> str:
    """A number of trades."""
    return f"{trades / _MILLION:.0f} M" if trades >= _MILLION else f"{trades:,.0f}"


def seconds(value: float) -> str:
    """A time."""
    return f"{value:.2f} s"


def milliseconds(value: float) -> str:
    """A short time, given in seconds."""
    return f"{value * 1000:,.1f} ms"


def beside(what: str, ours: float, peers: float) -> Line:
    """A line of seconds without an aim."""
    return Line(what, seconds(ours), seconds(peers), f"{ours / peers:.2f} x DuckDB")


def wall_line(runs: DayRuns) -> Line:
    """Median wall times."""
    return beside(
        f"{millions(runs.trades)} trades, wall time", runs.ours.seconds, runs.peers.seconds
    )


def peak_line(runs: DayRuns) -> Line:
    """Largest peaks of memory."""
    ours, peers = runs.ours.peak_mb, runs.peers.peak_mb
    return Line(
        f"{millions(runs.trades)} trades, peak memory",
        f"{ours:,.0f} MB",
        f"{peers:,.0f} MB",
        f"{ours / peers:.2f} x DuckDB",
        Aim(600, unit=" MB"),
        ours,
    )


def growth_line(small: DayRuns, large: DayRuns) -> Line:
    """How the peak grows with the day."""
    growth = large.ours.peak_mb / small.ours.peak_mb
    return Line(
        f"peak memory, {millions(large.trades)} to {millions(small.trades)}",
        f"{growth:.2f} x",
        f"{large.peers.peak_mb / small.peers.peak_mb:.2f} x",
        f"{growth:.2f}",
        Aim(1.2),
        growth,
    )


def minute_lines(times: MinuteTimes) -> list[Line]:
    """What a minute takes after each history, and the ratio to the shortest."""
    return [*_minutes("cold", times), *_minutes("in process", times)]


def _minutes(how: str, times: MinuteTimes) -> Iterator[Line]:
    runs = times.cold if how == "cold" else times.in_process
    middles = [median(each) for each in runs]
    shortest = times.histories[0]
    for history, middle in zip(times.histories, middles, strict=True):
        is_first = history is shortest
        ratio = middle / middles[0]
        days = f"{history.days} day{'s' if history.days > 1 else ''}"
        yield Line(
            f"{how}, after {days}",
            f"{middle * 1000:,.0f} ms",
            ratio="1" if is_first else f"{ratio:.2f} x {shortest.days} day",
            aim=None if is_first else Aim(1.2),
            judged=None if is_first else ratio,
        )
