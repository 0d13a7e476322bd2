"""Histories of different length that end with the same day, and bars to append to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import stages
from pipeline.engine.paths import VaultPaths
from scripts.benchkit.cold import BenchError
from scripts.benchkit.compare import MINUTE_MS
from scripts.benchkit.place import INSTRUMENT, Place, count_lines


@dataclass(frozen=True, slots=True)
class History:
    """A vault with some days of the stages' layers; `newest` is the day file that still grows.

    Attributes:
        bar_minutes: length of what is appended to it.
    """

    days: int
    stages: Sequence[str]
    root: Path
    newest: Path
    bar_minutes: int
    bars_before: int

    @property
    def bars(self) -> int:
        """How many bars are written."""
        return _bars(self.root, self.bar_minutes)

    def append(self, minute: Path) -> None:
        """Do what a collector does in a bar."""
        with self.newest.open("ab") as out:
            out.write(minute.read_bytes())

    def check(self, appended: int) -> None:
        """Every appended bar must have closed the one before it.

        Raises:
            BenchError: it did not.
        """
        closed = self.bars - self.bars_before
        if closed != appended:
            raise BenchError(f"{appended} bars were appended, {closed} were written")


@dataclass(frozen=True, slots=True)
class MinuteTimes:
    """Seconds of each appended minute by history, in cold processes and inside a running one."""

    histories: Sequence[History]
    cold: Sequence[Sequence[float]]
    in_process: Sequence[Sequence[float]]


def measure_minutes(
    place: Place, days: Sequence[int], measured: Sequence[str], bar_minutes: int = 1
) -> MinuteTimes:
    """Append the same bars to histories of so many days and run some stages after each.

    Raises:
        BenchError: a bar did not close.
    """
    sizes = place.sizes
    files = place.market(speed=sizes.history_speed, days=max(sizes.history_days))
    newest, minutes = split_bars(
        place, files[-1], sizes.minutes + 1 + sizes.process_minutes, bar_minutes
    )
    histories = [grow(place, count, measured, files, newest, bar_minutes) for count in days]
    cold = append_cold(place, histories, minutes[: sizes.minutes])
    in_process = append_in_process(place, histories, minutes[sizes.minutes :])
    for history in histories:
        history.check(len(minutes))
    return MinuteTimes(histories, cold, in_process)


def split_bars(
    place: Place, day: Path, count: int, bar_minutes: int = 1
) -> tuple[Path, list[Path]]:
    """Cut a day's last bars off, into files.

    Returns:
        The rest of the day, and the bars in order; bars without trades are none.
    """
    folder = place.scratch("minutes")
    folder.mkdir()
    groups: list[list[bytes]] = []
    last = None
    rest = day.read_bytes().splitlines(keepends=True)
    while rest:
        minute = int(json.loads(rest[-1])["ts"]) // (bar_minutes * MINUTE_MS)
        if minute != last:
            if len(groups) == count:
                break
            groups.append([])
            last = minute
        groups[-1].append(rest.pop())
    newest = folder / day.name
    newest.write_bytes(b"".join(rest))
    minutes = []
    for number, lines in enumerate(reversed(groups)):
        path = folder / f"minute-{number:03d}.jsonl"
        path.write_bytes(b"".join(reversed(lines)))
        minutes.append(path)
    return newest, minutes


def grow(
    place: Place,
    days: int,
    measured: Sequence[str],
    files: Sequence[Path],
    newest: Path,
    bar_minutes: int = 1,
) -> History:
    """A vault whose layers hold so many days, the last of them `newest`.

    An appended minute rewrites the last Parquet file of the trades, which is as full as the number
    of rows happens to make it. The history's first trades are left out so that it is half full.
    """
    place.say(f"making {days} day(s) of history")
    root = place.fresh_vault(files[len(files) - days : -1])
    raw = VaultPaths(root).raw(INSTRUMENT, "trades")
    shutil.copyfile(newest, raw / newest.name)
    part_rows = stages.layers()["trades"][0].part_rows
    _leave_out(raw, lambda rows: (rows - part_rows // 2) % part_rows)
    place.run_stages(root, measured)
    before = _bars(root, bar_minutes)
    return History(days, measured, root, raw / newest.name, bar_minutes, before)


def _leave_out(raw: Path, surplus_of: Callable[[int], int]) -> None:
    """Drop the first trades of a folder, if its first day has that many to spare."""
    files = sorted(raw.iterdir())
    surplus = surplus_of(sum(count_lines(file) for file in files))
    lines = files[0].read_bytes().splitlines(keepends=True)
    if surplus > len(lines) // 2:
        return
    files[0].unlink()  # a link: the market keeps its day
    files[0].write_bytes(b"".join(lines[surplus:]))


def append_cold(
    place: Place, histories: Sequence[History], minutes: Sequence[Path]
) -> list[list[float]]:
    """Append minutes to every history in turn and run a cold process after each."""
    times: list[list[float]] = [[] for _ in histories]
    for number, minute in enumerate(minutes):
        place.say(f"minute {number + 1} of {len(minutes)}")
        for index in _turn(number, len(histories)):
            history = histories[index]
            history.append(minute)
            times[index].append(place.run_stages(history.root, history.stages).seconds)
    return times


def _turn(number: int, count: int) -> Iterator[int]:
    """The order of a round, which begins with another one each time."""
    return ((number + step) % count for step in range(count))


def append_in_process(
    place: Place, histories: Sequence[History], minutes: Sequence[Path]
) -> list[list[float]]:
    """Append minutes in turn and run the stages in one process; the first is not counted."""
    place.say(f"{len(minutes) - 1} minutes in process")
    plan = {
        "inst_id": INSTRUMENT.inst_id,
        "stages": histories[0].stages,
        "vaults": [{"root": str(each.root), "day": str(each.newest)} for each in histories],
        "minutes": [str(each) for each in minutes],
    }
    path = place.scratch("plan.json")
    path.write_text(json.dumps(plan), encoding="utf-8")
    done = place.starter.script("append_minutes.py", str(path))
    times: list[list[float]] = json.loads(done.output)
    return times


def _bars(root: Path, minutes: int) -> int:
    path = VaultPaths(root).derived("bars", INSTRUMENT) / f"bars_{minutes}m.jsonl"
    return path.read_bytes().count(b"\n")
