"""The rows about all trade layers."""

from __future__ import annotations

from scripts.benchkit.history import measure_minutes
from scripts.benchkit.layer_days import LayerRuns, measure_layers
from scripts.benchkit.lines import (
    beside,
    growth_line,
    millions,
    minute_lines,
    peak_line,
    seconds,
    wall_line,
)
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import TRADE_STAGES, Place

_NAMES = f"{', '.join(TRADE_STAGES[:-1])} and {TRADE_STAGES[-1]}"
_KB = 1000


def layers(place: Place) -> Outcome:
    """A day of trades to all trade layers, beside the first three and beside DuckDB."""
    runs = _day(place)
    trades = millions(runs.trades)
    ours, few = runs.ours.seconds, runs.few.seconds
    text = (
        f"A cold `flowvault run` of {_NAMES} over the day of the first row into a fresh vault, "
        "beside a cold run of the first three of them and beside a cold process in which DuckDB "
        "reads the same file once, into memory, and writes three of the layers: one-minute bars, "
        "CVD at the end of each minute, and the footprint as Parquet. In turn, page cache warm, "
        f"{place.sizes.layer_repetitions} times each; compared every time: {runs.agreed}."
    )
    lines = [
        Line(
            f"{trades} trades, beside 3 stages",
            seconds(ours),
            seconds(few),
            f"{ours / few:.2f} x 3 stages",
            Aim(2.5),
            ours / few,
        ),
        beside(f"{trades} trades, median", ours, runs.peers.seconds),
        beside(f"{trades} trades, fastest", runs.ours.fastest, runs.peers.fastest),
        beside(f"{trades} trades, CPU time", runs.ours.cpu_seconds, runs.peers.cpu_seconds),
    ]
    return Outcome("A day to all trade layers", text, lines)


def layer_minute(place: Place) -> Outcome:
    """One appended minute of all trade layers after histories of different length."""
    sizes = place.sizes
    times = measure_minutes(place, sizes.layer_history_days, TRADE_STAGES)
    text = (
        f"As *One appended minute*, with all {len(TRADE_STAGES)} stages. The last Parquet file of "
        "the footprint, which a run rewrites too, is as full as the history makes it."
    )
    return Outcome("One minute, all trade layers", text, minute_lines(times))


def signal_bar(place: Place) -> Outcome:
    """One appended five-minute bar to the fused signal after histories of different length."""
    sizes = place.sizes
    times = measure_minutes(place, sizes.layer_history_days, ("signals_mtf",), bar_minutes=5)
    text = (
        "The raw trades of the next five minutes are appended to the newest day file, then "
        "signals_mtf runs with all it reads: cold, and inside a process that has run it before. "
        "The vaults get the same bars in turn; medians of "
        f"{sizes.minutes} (cold) and {sizes.process_minutes} (in process)."
    )
    return Outcome("One bar to the fused signal", text, minute_lines(times))


def states(place: Place) -> Outcome:
    """The size of every state file after the day."""
    runs = _day(place)
    lines = [
        Line(name, f"{size / _KB:,.1f} kB", aim=Aim(1000, unit=" kB"), judged=size / _KB)
        for name, size in runs.states.items()
    ]
    text = (
        f"Size of each stage's state file after the day of {runs.trades:,} trades. It holds what "
        "is open and the windows of the stage, so it should not grow with the history."
    )
    return Outcome("State files", text, lines)


def layer_memory(place: Place) -> Outcome:
    """Peak memory of all trade layers over a day and over one five times as busy."""
    sizes = place.sizes
    small = _day(place)
    large = measure_layers(place, sizes.big_speed, sizes.layer_memory_runs, 0)
    lines = [
        *(peak_line(each) for each in (small, large)),
        growth_line(small, large),
        *(wall_line(each) for each in (small, large)),
    ]
    text = (
        f"As *Memory*, with all {len(TRADE_STAGES)} stages and the DuckDB process that "
        f"writes three layers; {sizes.layer_repetitions} and {sizes.layer_memory_runs} runs."
    )
    return Outcome("Memory, all trade layers", text, lines)


def _day(place: Place) -> LayerRuns:
    sizes = place.sizes
    return measure_layers(place, sizes.day_speed, sizes.layer_repetitions, sizes.warm_ups)
