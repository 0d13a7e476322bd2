"""The rows about order books, from a recorded feed made longer."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from statistics import median

from scripts.benchkit.captures import VARIABLE
from scripts.benchkit.depth_days import DEPTH_STAGES, DepthRuns, has_recording, measure_depth
from scripts.benchkit.lines import seconds
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import Place

_LAYERS = f"{', '.join(DEPTH_STAGES[:-1])} and {DEPTH_STAGES[-1]}"
_FEED = (
    "Binance's depth feed of BTCUSDT perpetuals as recorded on 2024-08-08 (six minutes, about 68 "
    "levels a message), repeated with times and sequence numbers moved on and a fresh snapshot at "
    "every seam, and its trades"
)
_PEERS = {
    "sort json": "dict and sort, json",
    "sort msgspec": "dict and sort, msgspec",
    "bisect json": "dict and bisect, json",
    "bisect msgspec": "dict and bisect, msgspec",
    "decoding msgspec": "only decoding, msgspec",
}
_RATE = 40_000
_GROWTH = 1.1
_DAY_MINUTES = 1440

Row = Callable[[Place], Outcome]


def _if_recorded(title: str) -> Callable[[Row], Row]:
    """A row that says so where there is nothing recorded."""

    def wrap(row: Row) -> Row:
        @wraps(row)
        def wrapped(place: Place) -> Outcome:
            if has_recording():
                return row(place)
            return Outcome(title, f"Left out: no recorded order book here (${VARIABLE} names one).")

        return wrapped

    return wrap


@_if_recorded("Order books to layers")
def books(place: Place) -> Outcome:
    """An hour of order book to committed layers, with and without quotes, beside plain loops."""
    sizes, days = place.sizes, measure_depth(place)
    hour, quoted, long = days.hour, days.quoted, days.by_length[-1]
    day_messages = long.feed.messages / long.feed.minutes * _DAY_MINUTES
    count = min(sizes.depth_part, hour.feed.messages)
    place.say(f"{count:,} messages in plain Python")
    done = place.starter.script(
        "depth_parts.py",
        *(str(hour.feed.files["books"]), str(hour.vault), str(count), str(sizes.depth_part_runs)),
    )
    theirs = {name: median(times) for name, times in json.loads(done.output).items()}
    ours = hour.ours.seconds / hour.feed.messages * 1e6
    what = f"{hour.feed.messages:,} messages"
    lines = [
        Line(
            f"{long.feed.messages:,} messages ({long.feed.minutes} minutes), median",
            _rate(long.rate),
            aim=Aim(_RATE, " /s", is_least=True),
            judged=long.rate,
        ),
        Line(f"a day at that rate ({day_messages:,.0f})", seconds(day_messages / long.rate)),
        Line(f"{what} ({hour.feed.minutes} minutes), median", _rate(hour.rate)),
        Line(f"{what}, fastest", _rate(hour.feed.messages / hour.ours.fastest)),
        Line(f"{what}, CPU time", seconds(hour.ours.cpu_seconds)),
        Line(
            f"{what} and bookTicker",
            _rate(quoted.rate),
            ratio=f"{quoted.ours.seconds / hour.ours.seconds:.2f} x without",
        ),
        *(
            Line(
                "time per message",
                f"{ours:.1f} µs",
                f"{theirs[name]:.1f} µs",
                f"{ours / theirs[name]:.2f} x {words}",
            )
            for name, words in _PEERS.items()
        ),
    ]
    text = (
        f"A cold `flowvault run` of {_LAYERS} with all they read, from raw bytes to commits, over "
        f"{hour.feed.minutes} minutes ({hour.feed.megabytes('books'):,.0f} MB) and "
        f"{long.feed.minutes} minutes of {_FEED} ({hour.feed.megabytes('trades'):,.0f} MB/h); "
        f"medians of {sizes.depth_runs} runs. Starting up is in all of them. With "
        f"bookTicker, {quoted.feed.megabytes('quotes'):,.0f} MB of quotes come on top and the best "
        "bid and offer is theirs. Beside it, in one process with everything in memory, the first "
        f"{count:,} messages by two dicts that are sorted after every message, or kept in order by "
        "bisection, for the 20 best levels of each side, and by typed msgspec structs alone: "
        f"medians of {sizes.depth_part_runs} runs per message. They check the sequence numbers and "
        "write nothing. Best bid, best ask and their sizes after every event were compared with "
        "book_events before: equal to the last digit."
    )
    return Outcome("Order books to layers", text, lines)


@_if_recorded("Longer order books")
def book_length(place: Place) -> Outcome:
    """Whether a message takes more CPU time the longer the feed is."""
    short, hour, long = measure_depth(place).by_length
    first, then = _per_message(short, hour), _per_message(hour, long)
    # over a few messages a difference may be lost in noise
    growth = then / first if first > 0 and then > 0 else None
    lines = [
        *(
            Line(f"{runs.feed.minutes} minutes, wall and CPU time", _both_times(runs))
            for runs in (short, hour, long)
        ),
        Line(
            f"CPU time of a message, minute {short.feed.minutes} to {hour.feed.minutes}",
            f"{first:.1f} µs",
        ),
        Line(
            f"CPU time of a message, minute {hour.feed.minutes} to {long.feed.minutes}",
            f"{then:.1f} µs",
            ratio="lost in noise" if growth is None else f"{growth:.2f} x before",
            aim=Aim(_GROWTH),
            judged=growth,
        ),
    ]
    text = (
        "The same cold run over feeds of three lengths, in turn; medians. What a message takes is "
        "the difference of two runs' CPU times over the difference of their messages, so that "
        "neither starting up nor other work on the machine counts. It should not grow with the "
        "file."
    )
    return Outcome("Longer order books", text, lines)


def _both_times(runs: DepthRuns) -> str:
    return f"{seconds(runs.ours.seconds)}, {seconds(runs.ours.cpu_seconds)}"


def _per_message(short: DepthRuns, long: DepthRuns) -> float:
    more = long.feed.messages - short.feed.messages
    return (long.ours.cpu_seconds - short.ours.cpu_seconds) / more * 1e6


@_if_recorded("Memory, order books")
def book_memory(place: Place) -> Outcome:
    """Peak memory over feeds of three lengths."""
    days = measure_depth(place)
    _, hour, long = days.by_length
    growth = long.ours.peak_mb / hour.ours.peak_mb
    lines = [
        *(Line(f"{runs.feed.minutes} minutes", _peak(runs)) for runs in days.by_length),
        Line(
            f"{long.feed.minutes} to {hour.feed.minutes} minutes",
            f"{growth:.2f} x",
            aim=Aim(_GROWTH),
            judged=growth,
        ),
        Line(f"{days.quoted.feed.minutes} minutes and bookTicker", _peak(days.quoted)),
    ]
    short = days.by_length[0].feed
    text = (
        "Largest resident set (`wait4`) of the runs above, the largest of each. Raw files are read "
        f"in blocks, so the peak should not grow with the feed. The {short.megabytes('books'):,.0f}"
        f" MB of {short.minutes} minutes are only a few blocks, less than are read ahead in a "
        "longer feed: that peak is lower and no measure of growth."
    )
    return Outcome("Memory, order books", text, lines)


def _peak(runs: DepthRuns) -> str:
    return f"{runs.ours.peak_mb:,.0f} MB"


def _rate(value: float) -> str:
    return f"{value:,.0f} /s"
