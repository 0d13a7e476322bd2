"""The row about `flowvault follow`: from a trade to the signal it closes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.benchkit.follow_live import LOOK_AT_MANY_S, LOOK_S, Latencies, measure
from scripts.benchkit.follow_vaults import candles, copied, grown, instruments
from scripts.benchkit.lines import milliseconds
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import Place

_AIMS_MS = {1: 50, 10: 100}
_JUDGED = 99
_LINE_BYTES = 300


def follow(place: Place) -> Outcome:
    """Latency of the fused signal in a resident process, by instruments and history."""
    sizes = place.sizes
    days = max(sizes.follow_days)
    files = place.market(speed=sizes.follow_speed, days=days + 2)
    history, coming = files[:days], files[days:]
    syncs = fsyncs(place, max(count for _, count in sizes.follow_rounds))
    lines: list[Line] = []
    for length in sizes.follow_days:
        base = grown(place, history[days - length :])
        for number, count in sizes.follow_rounds:
            names = instruments(number)
            root = copied(place, base, names)
            place.say(f"following {number} instrument(s), {count} candles")
            feeds = {each: candles(coming, each) for each in names}
            found = measure(root, feeds, count, sizes.follow_warm_up)
            lines += _lines(number, length, found)
            place.drop(root)
        place.drop(base)
    said = " and ".join(f"{count} candles of {number}" for number, count in sizes.follow_rounds)
    text = (
        "`flowvault follow --all` as a process of its own over vaults with all layers, "
        f"{sizes.follow_speed:g} trades/s for each instrument. Another process appends the trades "
        "inside a five-minute candle, waits until they are carried through, and then, at the same "
        "moment for every instrument, the trade that closes it. Measured for each instrument, "
        f"from its append: until a reader (which looks every {_ms(LOOK_S)} ms, at many instruments "
        f"every {_ms(LOOK_AT_MANY_S)} ms) finds the candle's row of "
        "`signals_mtf` at the committed length, and until the commit is told to be durable too. "
        f"Percentiles over {said} instrument(s), all of them counted alike; candles follow each "
        "other without the five minutes between, over midnight too. "
        f"One append of {_LINE_BYTES} bytes with its fsync took {percentiles(syncs)} here (p50, "
        "p99)."
    )
    return Outcome("From trade to signal, staying", text, lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:g}"


def _lines(number: int, days: int, found: Latencies) -> Iterator[Line]:
    who = f"{number} instrument{'s' if number > 1 else ''}, {days} day{'s' if days > 1 else ''}"
    for share in (50, _JUDGED):
        seen, durable = percentile(found.seen, share), percentile(found.durable, share)
        is_judged = share == _JUDGED and number in _AIMS_MS
        yield Line(
            f"{who}, p{share}",
            f"{milliseconds(durable)} (seen after {milliseconds(seen)})",
            aim=Aim(_AIMS_MS[number], unit=" ms") if is_judged else None,
            judged=durable * 1000 if is_judged else None,
        )


def percentile(times: Sequence[float], share: int) -> float:
    """The smallest time that so many in a hundred do not exceed."""
    rank = -(-len(times) * share // 100)
    return sorted(times)[max(rank, 1) - 1]


def percentiles(times: Sequence[float]) -> str:
    """The middle, and what one in a hundred exceeds."""
    return " and ".join(milliseconds(percentile(times, share)) for share in (50, 99))


def fsyncs(place: Place, count: int) -> list[float]:
    """Seconds of appends to a file in the folder of the benchmark, each made durable."""
    path: Path = place.scratch("fsync")
    times = []
    with path.open("ab", buffering=0) as stream:
        for _ in range(count):
            started = time.perf_counter()
            stream.write(b"x" * _LINE_BYTES)
            os.fsync(stream.fileno())
            times.append(time.perf_counter() - started)
            time.sleep(0.005)
    return times
