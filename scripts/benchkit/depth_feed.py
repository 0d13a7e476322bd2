"""A feed of any length from a few recorded minutes of Binance's BTCUSDT perpetual.

The recording is repeated with its times and sequence numbers moved on, so that every number rises
and every `pu` names the update before it. The price does not end where it began, so a copy cannot
simply follow the one before: the book would be crossed. At each seam stands what a collector
writes when it asks for the book again, a REST snapshot that is newer than the last update: the
full book (every level known, not only the best 1000) as it was when the recording's own snapshot
and the updates around it had been put together. The copy goes on with the update behind that one.
A seam lasts as long as the pauses between updates do, so one contiguous feed comes out, with a
fresh snapshot about every six minutes. What it cannot show is a book that keeps growing by stray
levels for longer than that. Trades and quotes are moved along; the feed is made to begin at noon.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from scripts.benchkit.captures import recorded
from scripts.benchkit.cold import BenchError
from scripts.benchkit.compare import MINUTE_MS

INSTRUMENT = Instrument("binance", "perps", "BTCUSDT")
DAY = "2024-08-08"
KINDS = ("books", "trades", "quotes")
SEAM_MS = 50

_DAY_MS = 86_400_000
_NUMBER = re.compile(rb'"(E|T|U|u|pu|t|lastUpdateId)":(\d+)')
_HEAD = re.compile(rb'"b(?:ids)?":\[')
_TIME = re.compile(rb'"T":(\d+)')


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much the numbers of a copy are moved: times in ms, sequence numbers, trade ids."""

    time: int
    update: int
    trade: int

    def line(self, line: bytes) -> bytes:
        """A line so moved; numbers stand in front of the levels."""
        head = _HEAD.search(line)
        end = head.start() if head else len(line)
        return _NUMBER.sub(self._moved, line[:end]) + line[end:]

    def _moved(self, found: re.Match[bytes]) -> bytes:
        name, number = found.groups()
        shift = {b"E": self.time, b"T": self.time, b"t": self.trade}.get(name, self.update)
        return b'"%s":%d' % (name, int(number) + shift)


@dataclass(frozen=True, slots=True)
class Recording:
    """The recorded lines by kind, and the book with which every copy but the first begins.

    Attributes:
        lines: by kind; `books` from its first update on.
        behind: how many lines of `books` the opening snapshot stands for.
        opening: that snapshot, as a line.
        step: how the numbers move from copy to copy.
    """

    lines: dict[str, list[bytes]]
    behind: int
    opening: bytes
    step: Shift

    @classmethod
    def read(cls, captures: Path) -> Recording:
        """Read the recording."""
        lines = {kind: list(recorded(captures, INSTRUMENT, kind, DAY)) for kind in KINDS}
        return cls.of(lines)

    @classmethod
    def of(cls, lines: dict[str, list[bytes]]) -> Recording:
        """Prepare recorded lines for being repeated.

        Raises:
            BenchError: the book feed holds no snapshot that can be put together with its updates.
        """
        behind, book = _opening([json.loads(line) for line in lines["books"]])
        updates = [json.loads(line)["data"] for line in lines["books"][behind:]]
        first, last = (json.loads(lines["trades"][at])["data"]["t"] for at in (0, -1))
        quoted = [json.loads(lines["quotes"][at])["data"]["u"] for at in (0, -1)]
        lengths = [_time_of(lines[kind][-1]) - _time_of(lines[kind][0]) for kind in KINDS[1:]]
        step = Shift(
            time=max(updates[-1]["T"] - book["T"] + SEAM_MS, *lengths),
            update=max(updates[-1]["u"], quoted[1]) - min(book["lastUpdateId"], quoted[0]) + 1,
            trade=last - first + 1,
        )
        text = json.dumps(book, separators=(",", ":")).encode() + b"\n"
        return cls(lines, behind, text, step)

    def copies(self, kind: str) -> Iterator[bytes]:
        """The lines of a kind without end."""
        begins_ms = _time_of(self.lines["books"][0]) % _DAY_MS - _DAY_MS // 2
        number = 0
        while True:
            step = self.step
            shift = Shift(number * step.time - begins_ms, number * step.update, number * step.trade)
            own = self.lines[kind]
            if kind == "books" and number:
                own = [self.opening, *own[self.behind :]]
            for line in own:
                yield shift.line(line)
            number += 1


def _opening(lines: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    """The book once the snapshot is put together with its updates, and the lines that took."""
    at = next((i for i, line in enumerate(lines) if "lastUpdateId" in line), None)
    if at is None:
        raise BenchError("the recording has no snapshot of the book")
    snapshot = lines[at]
    sides = [dict(snapshot["bids"]), dict(snapshot["asks"])]
    newest, time = snapshot["lastUpdateId"], snapshot["T"]
    for line in lines[:at]:
        update = line["data"]
        if update["u"] > newest:
            for side, levels in zip(sides, (update["b"], update["a"]), strict=True):
                side.update(levels)
            newest = update["u"]
        time = max(time, update["T"])
    if at + 1 == len(lines) or lines[at + 1]["data"]["pu"] != newest:
        raise BenchError("the recording's updates do not follow on from its snapshot")
    bids, asks = ([[p, s] for p, s in side.items() if float(s)] for side in sides)
    bids.sort(key=lambda level: -float(level[0]))
    asks.sort(key=lambda level: float(level[0]))
    return at + 1, {"lastUpdateId": newest, "E": time, "T": time, "bids": bids, "asks": asks}


def _time_of(line: bytes) -> int:
    found = _TIME.search(line)
    if found is None:
        raise BenchError(f"a line without a time: {line[:100]!r}")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Feed:
    """A feed's files by kind, how many minutes it has, and how many depth messages."""

    files: dict[str, Path]
    minutes: int
    messages: int

    def megabytes(self, kind: str) -> float:
        """The size of one of the files."""
        return self.files[kind].stat().st_size / 1e6


def write_feed(
    recording: Recording, root: Path, minutes: int, kinds: Sequence[str] = KINDS
) -> Feed:
    """Write so many minutes of the feed into a new vault.

    Raises:
        BenchError: they do not fit into the afternoon of one day.
    """
    if minutes * MINUTE_MS > _DAY_MS // 2:
        raise BenchError(f"a feed has {_DAY_MS // 2 // MINUTE_MS} minutes at most, not {minutes}")
    files, messages = {}, 0
    for kind in kinds:
        folder = VaultPaths(root).raw(INSTRUMENT, kind)
        folder.mkdir(parents=True)
        files[kind] = folder / f"{DAY}.jsonl"
        count = _write(files[kind], recording.copies(kind), minutes * MINUTE_MS)
        messages = count if kind == "books" else messages
    return Feed(files, minutes, messages)


def _write(path: Path, lines: Iterable[bytes], length_ms: int) -> int:
    """Write lines up to a time of the afternoon; how many."""
    count = 0
    with path.open("wb") as out:
        for line in lines:
            if not 0 <= _time_of(line) % _DAY_MS - _DAY_MS // 2 < length_ms:
                break
            out.write(line)
            count += 1
    return count
