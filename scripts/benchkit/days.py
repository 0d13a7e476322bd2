"""A day of trades, run by both sides in turn; the values are compared each time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import contract_of, load_table
from scripts.benchkit.cold import Cold
from scripts.benchkit.compare import closed_minutes, compare_bars, rows_of
from scripts.benchkit.place import INSTRUMENT, Place, count_lines


@dataclass(frozen=True, slots=True)
class Side:
    """The repetitions of one side."""

    runs: Sequence[Cold]

    @property
    def seconds(self) -> float:
        """Median wall time."""
        return median(run.seconds for run in self.runs)

    @property
    def cpu_seconds(self) -> float:
        """Median CPU time, of all threads."""
        return median(run.cpu_seconds for run in self.runs)

    @property
    def fastest(self) -> float:
        """Least wall time."""
        return min(run.seconds for run in self.runs)

    @property
    def peak_mb(self) -> float:
        """Largest peak memory."""
        return max(run.peak_mb for run in self.runs)


@dataclass(frozen=True, slots=True)
class DayRuns:
    """Both sides over one day; `agreed` says what of their values was compared."""

    trades: int
    megabytes: float
    ours: Side
    peers: Side
    agreed: str


@cache
def measure_day(place: Place, speed: float, repetitions: int) -> DayRuns:
    """Run a simulated day on both sides in turn; rows that need the same day share the runs.

    Raises:
        BenchError: the values differ.
    """
    file = place.market(speed=speed)[0]
    trades = count_lines(file)
    ours, peers, agreed = [], [], ""
    for number in range(-place.sizes.warm_ups, repetitions):
        place.say(f"{trades:,} trades, repetition {number + 1} of {repetitions}")
        our_run, peer_run, agreed = _both(place, file)
        if number >= 0:
            ours.append(our_run)
            peers.append(peer_run)
    return DayRuns(trades, file.stat().st_size / 1e6, Side(ours), Side(peers), agreed)


def _both(place: Place, file: Path) -> tuple[Cold, Cold, str]:
    """One repetition of each side, and what of their values agreed."""
    root, out = place.fresh_vault([file]), place.scratch("bars.jsonl")
    ours = place.run_stages(root)
    contract = contract_of(INSTRUMENT, load_table(root), root).value
    peer = place.starter.script("duck_bars.py", str(file), contract, str(out))
    paths = VaultPaths(root)
    agreed = compare_bars(
        rows_of(paths.derived("bars", INSTRUMENT) / "bars_1m.jsonl"),
        rows_of(paths.derived("volume", INSTRUMENT) / "volume_1m.jsonl"),
        closed_minutes(rows_of(out), newest_ms(file)),
    )
    place.drop(root)
    return ours, peer, agreed


def newest_ms(file: Path) -> int:
    """The time of a day's last trade."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 1024))
        return int(json.loads(stream.readlines()[-1])["ts"])
