"""The rows of the benchmark. A new one is a function from `Place` to `Outcome` in `ROWS`."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from pipeline.sim import write_market
from scripts.benchkit.cluster_rows import clusters
from scripts.benchkit.cold import FLOWVAULT
from scripts.benchkit.days import measure_day
from scripts.benchkit.depth_rows import book_length, book_memory, books
from scripts.benchkit.follow_rows import follow
from scripts.benchkit.history import measure_minutes
from scripts.benchkit.import_rows import imports
from scripts.benchkit.layer_rows import layer_memory, layer_minute, layers, signal_bar, states
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
from scripts.benchkit.part_rows import parts
from scripts.benchkit.place import INSTRUMENT, STAGES, Place


def day(place: Place) -> Outcome:
    """Row 1: a day of trades to durable layers, beside DuckDB's bars from the same file."""
    runs = measure_day(place, place.sizes.day_speed, place.sizes.repetitions)
    trades = millions(runs.trades)
    middle, duck_middle = runs.ours.seconds, runs.peers.seconds
    text = (
        f"A cold `flowvault run` of trades, bars and volume over one day of {runs.trades:,} trades "
        f"({runs.megabytes:,.0f} MB of JSONL) into a fresh vault, beside a cold process in which "
        "DuckDB (default threads) reads the same file and writes one-minute bars with delta; "
        "flowvault also keeps every trade as checked, exact Parquet, bars of 5, 15 and 30 minutes "
        "and its commit records, all synced to disk. Page cache warm for both, in turn, "
        f"{place.sizes.repetitions} times each; the values of every repetition were compared: "
        f"{runs.agreed}."
    )
    lines = [
        Line(
            f"{trades} trades, median",
            seconds(middle),
            seconds(duck_middle),
            f"{middle / duck_middle:.2f} x DuckDB",
            Aim(4, goal=2),
            middle / duck_middle,
        ),
        beside(f"{trades} trades, fastest", runs.ours.fastest, runs.peers.fastest),
        beside(f"{trades} trades, CPU time", runs.ours.cpu_seconds, runs.peers.cpu_seconds),
    ]
    return Outcome("A day to layers", text, lines)


def minute(place: Place) -> Outcome:
    """Row 2: one appended minute after histories of different length."""
    sizes = place.sizes
    times = measure_minutes(place, sizes.history_days, STAGES)
    text = (
        "The raw trades of the next minute are appended to the newest day file, then trades, bars "
        f"and volume run: as a cold process, and inside a running one. All histories "
        f"({sizes.history_speed:g} trades/s, caught up in one run before) end with the same day "
        "and a half full last Parquet file (a run rewrites it, so its size must not differ), and "
        f"get the same minutes in turn; medians of {sizes.minutes} (cold) and "
        f"{sizes.process_minutes} (in process), ratios to the shortest. A run should cost what the "
        "new minute costs, not what the history does."
    )
    return Outcome("One appended minute", text, minute_lines(times))


def memory(place: Place) -> Outcome:
    """Row 3: peak memory of a day and of one five times as busy."""
    sizes = place.sizes
    small = measure_day(place, sizes.day_speed, sizes.repetitions)
    large = measure_day(place, sizes.big_speed, sizes.memory_runs)
    lines = [
        *(peak_line(each) for each in (small, large)),
        growth_line(small, large),
        *(wall_line(each) for each in (small, large)),
    ]
    text = (
        "Largest resident set (`wait4`) of the cold processes of the first row, and of the same "
        "over a day about five times as busy: the largest peak and the median time of "
        f"{sizes.repetitions} and {sizes.memory_runs} runs. Raw files are read in blocks, so the "
        "peak should not grow with the day."
    )
    return Outcome("Memory", text, lines)


def helps(place: Place) -> Outcome:
    """Row 4: how long the command takes to say what it can do."""
    command = [*FLOWVAULT, "--help"]
    place.starter.run(command)
    times = [place.starter.run(command).seconds for _ in range(place.sizes.helps)]
    middle = median(times)
    text = f"A cold `flowvault --help`, median of {len(times)} after one that is not counted."
    line = Line("--help", seconds(middle), aim=Aim(0.25, unit=" s"), judged=middle)
    return Outcome("Start", text, [line])


def simulator(place: Place) -> Outcome:
    """Row 5: how long a simulated day takes to write."""
    sizes = place.sizes
    lines = []
    for what, has_books in (("trades only", False), ("trades, books and quotes", True)):
        place.say(f"simulating {what}")
        root = place.scratch("simulated")
        started = time.perf_counter()
        write_market(
            root,
            inst_id=INSTRUMENT.inst_id,
            speed=sizes.day_speed,
            hours=sizes.book_hours,
            books=has_books,
            quotes=has_books,
            book_ms=sizes.book_ms,
        )
        took = time.perf_counter() - started
        size = sum(file.stat().st_size for file in root.rglob("*.jsonl")) / 1e6
        lines.append(
            Line(
                f"{what} ({size:,.0f} MB)",
                seconds(took),
                aim=Aim(60, unit=" s"),
                judged=took,
            )
        )
        place.drop(root)
    text = (
        f"`write_market` writes a simulated day of about {millions(sizes.day_speed * 86400)} "
        f"trades: alone, and with an order book refreshed every {sizes.book_ms:,} ms and best "
        "bids and offers; one run each."
    )
    return Outcome("Simulator", text, lines)


Row = Callable[[Place], Outcome]
ROWS: dict[str, Row] = {
    "day": day,
    "minute": minute,
    "memory": memory,
    "help": helps,
    "simulator": simulator,
    "layers": layers,
    "layer-minute": layer_minute,
    "signal-bar": signal_bar,
    "follow": follow,
    "parts": parts,
    "states": states,
    "layer-memory": layer_memory,
    "books": books,
    "book-length": book_length,
    "book-memory": book_memory,
    "clusters": clusters,
    "import": imports,
}
"""Every row in the order of the table, under the name that `--only` takes."""
