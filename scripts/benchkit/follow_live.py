"""A process that follows a vault, and how long it takes from a trade to the signal it closes.

What is measured is what another process sees: it appends a trade to a raw file, looks every so
often whether the signals' state is another one, and reads the last committed row then; and it
reads what the following process tells, which is told when the commit is durable.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine import reader
from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from scripts.benchkit.cold import FLOWVAULT, ROOT, BenchError
from scripts.benchkit.follow_vaults import Candle

SIGNALS = "signals_mtf"
_LAST = "cvd"
"""A stage that nobody waits for: when it is committed everything is."""
LOOK_S, LOOK_AT_MANY_S = 0.0005, 0.002
"""How often one state is looked at, and each of many: looking takes the time of those measured."""
_PATIENCE_S, _TURN_S = 60.0, 1.0
"""How long nothing may come; a turn counts so much at most, for a machine may be suspended."""
_NOTHING_S = 0.3
"""What closes no minute is not committed at once."""
_PAUSE_S = 0.02


@dataclass(slots=True)
class Latencies:
    """Seconds from the append, one of each instrument and candle.

    Attributes:
        seen: until a reader finds the row at the committed length.
        durable: until it does and the process has told of the commit.
    """

    seen: list[float] = field(default_factory=list)
    durable: list[float] = field(default_factory=list)


class Patience:
    """How long something has been waited for."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._waited = 0.0

    def is_over(self) -> bool:
        """Whether that is too long; asked once a turn."""
        now = time.monotonic()
        self._waited += min(now - self._last, _TURN_S)
        self._last = now
        return self._waited > _PATIENCE_S


class Followed:
    """`flowvault follow --all` as a process of its own, and its vault's raw files."""

    def __init__(self, root: Path, names: Sequence[Instrument], process: Any) -> None:
        self.root = root
        self.names = names
        self.process = process
        self._paths = VaultPaths(root)
        self._rest = b""
        self._files: dict[Path, int] = {}
        os.set_blocking(process.stdout.fileno(), False)

    def wait_until_open(self) -> None:
        """Until every instrument is followed."""
        missing = {each.inst_id for each in self.names}
        patience = Patience()
        while missing:
            self._alive(patience)
            missing -= {each["instId"] for each in self.told(_NOTHING_S) if each["event"] == "open"}

    def told(self, seconds: float) -> list[dict[str, Any]]:
        """What it tells within some time."""
        stream = self.process.stdout.fileno()
        if not select.select([stream], [], [], seconds)[0]:
            return []
        data = self._rest + os.read(stream, 1 << 20)
        *lines, self._rest = data.split(b"\n")
        found = [msgspec.json.decode(line) for line in lines]
        if wrong := [each for each in found if each["event"] in ("error", "note")]:
            raise BenchError(f"flowvault follow: {wrong[0]['message']}")
        return found

    def append(self, instrument: Instrument, day: str, data: bytes) -> None:
        """Do what a collector does."""
        path = self._paths.raw(instrument, "trades") / f"{day}.jsonl"
        if path not in self._files:
            self._files[path] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(self._files[path], data)

    def settle(self) -> None:
        """Wait until all that has been appended is carried through every layer."""
        missing = {each.inst_id for each in self.names}
        while missing:
            told = self.told(_NOTHING_S)
            if not told:
                break
            missing -= {each["instId"] for each in told if _LAST in each.get("stages", ())}
        time.sleep(_PAUSE_S)
        self._alive(Patience())

    def close_candle(self, lines: Mapping[Instrument, Candle], opened: str) -> Latencies:
        """Append the first trade of the next candle to every file; `opened` is the one it closes.

        Raises:
            BenchError: a signal did not come.
        """
        paths = {each: str(self._paths.state(SIGNALS, each)) for each in self.names}
        before = {each: _look(path) for each, path in paths.items()}
        started: dict[Instrument, float] = {}
        seen: dict[Instrument, float] = {}
        told: dict[str, float] = {}
        for each, candle in lines.items():
            started[each] = time.perf_counter()
            self.append(each, candle.day, candle.first)
        patience = Patience()
        step = LOOK_S if len(paths) == 1 else LOOK_AT_MANY_S
        while len(seen) < len(paths) or len(told) < len(paths):
            for event in self.told(step):
                if _is_of(event, opened):
                    told[event["instId"]] = time.perf_counter()
            for each in paths.keys() - seen.keys():
                look = _look(paths[each])
                if look != before[each]:
                    before[each], now = look, time.perf_counter()
                    if self._last_row(each)["timestamp_utc"] == opened:
                        seen[each] = now
            self._alive(patience)
        waited = [seen[each] - started[each] for each in self.names]
        durable = [max(seen[each], told[each.inst_id]) - started[each] for each in self.names]
        return Latencies(waited, durable)

    def close(self) -> None:
        """End it as a user does.

        Raises:
            BenchError: it did not end well.
        """
        for handle in self._files.values():
            os.close(handle)
        self.process.terminate()
        self.process.communicate(timeout=_PATIENCE_S)
        if self.process.returncode:
            raise BenchError(f"flowvault follow left with status {self.process.returncode}")

    def _last_row(self, instrument: Instrument) -> dict[str, Any]:
        layer, stage = stages.layers()[SIGNALS]
        end = reader.committed_length(self.root, layer, stage.name, instrument)
        path = self._paths.derived(layer.folder, instrument) / layer.file
        row: dict[str, Any] = msgspec.json.decode(reader.last_lines(path, end, 1)[0])
        return row

    def _alive(self, patience: Patience) -> None:
        if self.process.poll() is not None:
            raise BenchError(f"flowvault follow has ended with status {self.process.returncode}")
        if patience.is_over():
            raise BenchError(f"flowvault follow: nothing came for {_PATIENCE_S:g} s")


def _is_of(event: dict[str, Any], opened: str) -> bool:
    """Whether it tells of the signal of a candle."""
    closed = event.get("closed", {}).get(SIGNALS)
    return closed is not None and closed[: len(opened) - 1] == opened[:-1]


def _look(path: str) -> tuple[int, int] | None:
    """What tells one state from the next; at little cost, for who is measured shares the cores."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (a third of the time of `Path.stat`)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


@contextmanager
def following(root: Path, names: Sequence[Instrument]) -> Iterator[Followed]:
    """Follow a vault for the time of the block, from when all of it is open."""
    command = [*FLOWVAULT, "--vault", str(root), "follow", "--all", "--json"]
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    ) as process:
        try:
            followed = Followed(root, names, process)
            followed.wait_until_open()
            time.sleep(_NOTHING_S)
            yield followed
            followed.close()
        finally:
            process.kill()


def measure(
    root: Path, feeds: Mapping[Instrument, Sequence[Candle]], count: int, warm_up: int
) -> Latencies:
    """Close candles one after another, all instruments at once; the first are not counted."""
    names = list(feeds)
    found: list[Latencies] = []
    with following(root, names) as followed:
        for each in names:
            followed.append(each, feeds[each][0].day, feeds[each][0].first)
        number = 0
        while len(found) < warm_up + count:
            now = {each: feed[number] for each, feed in feeds.items()}
            then = {each: feed[number + 1] for each, feed in feeds.items()}
            for each in names:
                followed.append(each, now[each].day, now[each].more)
            followed.settle()
            if now[names[0]].is_followed:
                found.append(followed.close_candle(then, now[names[0]].opened))
            else:
                for each in names:
                    followed.append(each, then[each].day, then[each].first)
            followed.settle()
            number += 1
    counted = found[warm_up:]
    return Latencies(
        [time for each in counted for time in each.seen],
        [time for each in counted for time in each.durable],
    )
