"""Order books to layers in cold processes, over feeds of different length."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.engine.paths import VaultPaths
from scripts.benchkit.captures import find_captures
from scripts.benchkit.cold import BenchError, Cold
from scripts.benchkit.compare import rows_of
from scripts.benchkit.days import Side
from scripts.benchkit.depth_feed import INSTRUMENT, KINDS, Feed, Recording, write_feed
from scripts.benchkit.place import Place, settle, warm

DEPTH_STAGES = ("book", "quote", "flow", "micro", "costs", "buckets")
_HOUR = 1
"""Which of the lengths is run with quotes too and is set beside plain loops."""

_MADE_FOR_EACH_MINUTE = ("flow", "micro", "buckets")


@dataclass(frozen=True, slots=True)
class DepthRuns:
    """The repetitions over one feed; `vault` is what the last of them left."""

    feed: Feed
    ours: Side
    vault: Path

    @property
    def rate(self) -> float:
        """Depth messages per second, median."""
        return self.feed.messages / self.ours.seconds


@dataclass(frozen=True, slots=True)
class DepthDays:
    """Feeds of growing length without quotes; and the middle one with them."""

    by_length: Sequence[DepthRuns]
    quoted: DepthRuns

    @property
    def hour(self) -> DepthRuns:
        """The middle length."""
        return self.by_length[_HOUR]


def has_recording() -> bool:
    """Whether this machine has what the rows about order books are made from."""
    return find_captures() is not None


@cache
def measure_depth(place: Place) -> DepthDays:
    """Run every feed in turn; the rows about order books share the runs.

    Raises:
        BenchError: there is no recording, or a run did not make what it should.
    """
    sizes = place.sizes
    captures = find_captures()
    if captures is None:
        raise BenchError("no recorded order book")
    recording = Recording.read(captures)
    feeds = [_feed(place, recording, minutes) for minutes in sizes.depth_minutes]
    plans = [*((feed, False) for feed in feeds), (feeds[_HOUR], True)]
    runs: list[list[Cold]] = [[] for _ in plans]
    vaults = [place.scratch("none") for _ in plans]
    for number in range(-sizes.warm_ups, sizes.depth_runs):
        for index, (feed, is_quoted) in enumerate(plans):
            place.say(f"{feed.minutes} minutes of book, run {number + 1} of {sizes.depth_runs}")
            if vaults[index].exists():
                place.drop(vaults[index])
            vaults[index] = root = depth_vault(place, feed, is_quoted=is_quoted)
            done = place.run_stages(root, DEPTH_STAGES, INSTRUMENT)
            check_run(done, root, feed, is_quoted=is_quoted)
            if number >= 0:
                runs[index].append(done)
    found = [
        DepthRuns(feed, Side(own), root)
        for (feed, _), own, root in zip(plans, runs, vaults, strict=True)
    ]
    return DepthDays(found[:-1], found[-1])


def _feed(place: Place, recording: Recording, minutes: int) -> Feed:
    """Write a feed; quotes only for the length that is run with them."""
    place.say(f"writing {minutes} minutes of order book")
    kinds = KINDS if minutes == place.sizes.depth_minutes[_HOUR] else KINDS[:-1]
    feed = write_feed(recording, place.scratch("feed"), minutes, kinds)
    for file in feed.files.values():
        settle(file)
        warm(file)
    return feed


def depth_vault(place: Place, feed: Feed, *, is_quoted: bool) -> Path:
    """A vault without derived data, its raw files linked; with or without the quotes."""
    root = place.scratch("books")
    for kind in KINDS:
        if kind != "quotes" or is_quoted:
            folder = VaultPaths(root).raw(INSTRUMENT, kind)
            folder.mkdir(parents=True)
            os.link(feed.files[kind], folder / feed.files[kind].name)
    return root


def check_run(done: Cold, root: Path, feed: Feed, *, is_quoted: bool) -> None:
    """Whether a run read everything, kept one book throughout and made every minute.

    Raises:
        BenchError: it did not.
    """
    summaries = {each["stage"]: each for each in map(json.loads, _objects(done.output))}
    book = summaries["book"]
    if book["rows_in"] != feed.messages or book["bad"] or book["duplicate"]:
        raise BenchError(f"{feed.messages} depth messages were written, the run says {book}")
    paths = VaultPaths(root)
    gaps = paths.derived("gaps", INSTRUMENT) / "book_gaps.jsonl"
    if gaps.exists() and gaps.stat().st_size:
        raise BenchError(f"the book was lost: {gaps.read_text(encoding='utf-8')}")
    counts = {name: summaries[name]["rows_out"] for name in _MADE_FOR_EACH_MINUTE}
    if set(counts.values()) != {feed.minutes - 1}:
        raise BenchError(f"{feed.minutes} minutes, the last still open, became {counts}")
    flow = rows_of(paths.derived("flow", INSTRUMENT) / "flow_1m.jsonl")
    source = "quotes" if is_quoted else "book"
    if {row["source"] for row in flow} != {source}:
        raise BenchError(f"the best bid and offer should come from {source}")


def _objects(output: str) -> Iterator[str]:
    return (line for line in output.splitlines() if line.startswith("{"))
