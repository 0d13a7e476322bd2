"""Promise: rows that are committed before the lines they stand on are read again stay right."""

from __future__ import annotations

import gzip
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import disk, rawfiles
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError

from .conftest import SMALL
from .model import TOPS, Disk, Recorder, write_image
from .residents import fold, opened, write_on
from .workload import (
    CHAIN,
    DAYS,
    INSTRUMENT,
    MIDNIGHT_MS,
    Raw,
    grow,
    ledger,
    make_raw,
    raw_file,
    run_chain,
    trade,
    tree,
)


def whole_lines() -> Raw:
    """The small market."""
    return make_raw(*SMALL).without_rests()


def first_only(
    vault: Path, write: Callable[[], None], between: Callable[[], None], first: tuple[str, ...]
) -> None:
    """Lines come, are folded, something happens, bars are committed first; then it is killed."""
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        write()
        fold(resident)
        between()
        resident.commit(resident.moved(first))
        resident.close()


def verdict(vault: Path, scratch: Path) -> str:
    """Go on with `run`: why it is refused, or how it differs from a fresh vault."""
    try:
        run_chain(vault)
    except FlowvaultError as error:
        return error.message
    fresh = scratch / "fresh"
    for path in raw_file(vault, DAYS[0]).parent.iterdir():
        target = fresh / path.relative_to(vault)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    run_chain(fresh)
    left, right = (
        {path: data.replace(b".jsonl.gz", b".jsonl") for path, data in tree(each).items()}
        for each in (vault, fresh)
    )
    wrong = sorted(p for p in {*left, *right} if left.get(p) != right.get(p))
    if wrong:
        return "other rows in " + ", ".join(wrong)
    return "" if committed(vault) == committed(fresh) else "another state"


def committed(vault: Path) -> dict[str, Any]:
    """What states say, but for how long files are in which the names of raw files stand."""
    found = ledger(vault)
    for said in found.values():
        for path in [path for path in said["outputs"] if path.startswith("quarantine")]:
            del said["outputs"][path]
    return found


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


class TornLine:
    """A collector's buffer: half a line of a day is flushed, the next day begins, then the rest."""

    def __init__(self, vault: Path) -> None:
        self.vault, self.raw = vault, whole_lines()
        self.line = trade(99_000_000, MIDNIGHT_MS - 500, 610_000, 5_000, "buy")
        grow(vault, self.raw, len(self.raw.days[DAYS[0]]) // 2)
        run_chain(vault)

    def tear(self) -> None:
        """The day ends in the middle of a line."""
        one, second = (self.raw.days[day] for day in DAYS)
        append(raw_file(self.vault, DAYS[0]), one[len(one) // 2 :] + self.line[:40])
        append(raw_file(self.vault, DAYS[1]), second[: len(second) // 2])

    def finish(self) -> None:
        """Its rest comes."""
        append(raw_file(self.vault, DAYS[0]), self.line[40:])


ALONE, TOGETHER = ("bars",), ("trades", "bars")
"""How it is now; and how it was: what reads raw data is committed with it."""


@pytest.mark.parametrize("first", [ALONE, TOGETHER])
def test_a_torn_last_line_is_finished_behind_the_next_day(
    scratch: Path, first: tuple[str, ...]
) -> None:
    """It was killed between the two."""
    torn = TornLine(scratch / "vault")
    first_only(torn.vault, torn.tear, lambda: None, first)
    torn.finish()
    assert "grew after a later day" in verdict(torn.vault, scratch)


@pytest.mark.parametrize("first", [ALONE, TOGETHER])
@pytest.mark.parametrize("way", ["rewritten in place", "replaced"])
def test_a_raw_file_is_another_one_before_the_commit(
    scratch: Path, way: str, first: tuple[str, ...]
) -> None:
    """Same name, same length, other lines."""
    raw, vault = whole_lines(), scratch / "vault"
    lines = raw.days[DAYS[0]]
    at = lines.rfind(b"\n", 0, len(lines) // 2) + 1
    grow(vault, raw, at)
    run_chain(vault)
    path = raw_file(vault, DAYS[0])
    other = lines[:at] + lines[at:].replace(b'"side":"buy"', b'"side":"BUY"').replace(
        b'"side":"sell"', b'"side":"buy" '
    ).replace(b'"side":"BUY"', b'"side":"sell"')

    def change() -> None:
        if way == "replaced":
            new = path.with_name("new")
            new.write_bytes(other)
            new.replace(path)
        else:
            path.write_bytes(other)

    first_only(vault, lambda: grow(vault, raw, len(lines)), change, first)
    assert "changed before byte" in verdict(vault, scratch)


@pytest.mark.parametrize("first", [ALONE, TOGETHER])
def test_a_new_day_that_was_remembered_before_its_name_was_durable(
    scratch: Path, first: tuple[str, ...]
) -> None:
    """`run` has read a new day file; then bars are committed on more of it; the name is lost."""
    raw = whole_lines()
    vault = scratch / "followed"
    one, second = (raw.days[day] for day in DAYS)
    grow(vault, raw, len(one))
    run_chain(vault)
    recorder = Recorder(vault, (*TOPS, "raw"))
    with recorder.recording(), ThreadPoolExecutor(2) as encoder:

        def write(low: float, high: float) -> None:
            ends = [second.rfind(b"\n", 0, int(len(second) * s)) + 1 for s in (low, high)]
            write_on(raw_file(vault, DAYS[1]), second[ends[0] : ends[1]])

        write(0, 0.3)
        run_chain(vault)
        resident = opened(vault, encoder)
        write(0.3, 0.6)
        fold(resident)
        resident.commit(resident.moved(first))
        resident.close()
    state = Disk(recorder.start)
    for op in recorder.ops:
        state.apply(op)
    image = state.image("nothing", random.Random(1))
    cut = scratch / "cut"
    write_image(image, cut)
    # the next day comes: the collector writes into a file of its own
    third = raw_file(cut, "2024-03-07")
    lines = [
        trade(200_000_000 + n, MIDNIGHT_MS + 86_400_000 + n * 7_000, 612_000 + n, 150, "buy")
        for n in range(200)
    ]
    third.write_bytes(b"".join(lines))
    try:
        run_chain(cut)
    except FlowvaultError as error:
        pytest.fail(f"refused, with: {error.message} / {error.hint}")
    # bars from the trades there are now
    again = scratch / "again"
    shutil.copytree(cut, again)
    rebuild_stage(Vault.open(again), CHAIN[1], INSTRUMENT)
    left, right = tree(cut), tree(again)
    (name,) = (each for each in left if each.endswith("bars_1m.jsonl"))
    a, b = left[name].splitlines(), right[name].splitlines()
    assert a == b


def test_many_days_are_compressed_at_once(scratch: Path) -> None:
    """Somebody compresses last year; a process may have so many files open and no more."""
    vault, count = scratch / "vault", 150
    start = MIDNIGHT_MS - count * 86_400_000
    for day in range(count):
        name = datetime.fromtimestamp((start + day * 86_400_000) / 1000, UTC).date().isoformat()
        path = raw_file(vault, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            trade(1000 * day + n, start + day * 86_400_000 + n * 40_000, 610_000, 150, "buy")
            for n in range(4)
        ]
        path.write_bytes(b"".join(rows))
    run_chain(vault)
    days = sorted(path.parent.glob("*.jsonl"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        for each in days[:-1]:
            each.with_name(each.name + ".gz").write_bytes(gzip.compress(each.read_bytes()))
            each.unlink()
        last = start + (count - 1) * 86_400_000
        for n in range(4, 9):
            append(days[-1], trade(1000 * count - 1000 + n, last + n * 40_000, 610_000, 150, "buy"))
        fold(resident)
        used = {int(each.name) for each in Path("/proc/self/fd").iterdir()}
        *_, limit = islice((number for number in range(1 << 20) if number not in used), 60)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            moved = resident.moved(resident.first)
            assert moved
            resident.commit(moved)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        # what is remembered of the lines does not grow with the days
        assert len(resident.runs["bars"].state.ahead["trades"].marks) == 1
        resident.close()


def test_a_file_system_that_cannot_sync_folders(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files can be synced there, so that nothing is noticed until a new day begins."""
    raw, vault = whole_lines(), scratch / "vault"
    grow(vault, raw, len(raw.days[DAYS[0]]))
    run_chain(vault)
    real = disk.sync_dir

    def refuse(path: Path) -> None:
        if path == raw_file(vault, DAYS[0]).parent:
            raise OSError(22, "Invalid argument")
        real(path)

    monkeypatch.setattr(disk, "sync_dir", refuse)
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        assert resident.first == {"trades", "bars"}
        resident.close()
    first_only(vault, lambda: grow(vault, raw, raw.total), lambda: None, TOGETHER)
    assert not verdict(vault, scratch)


def test_what_was_there_is_found_again(scratch: Path) -> None:
    """Killed behind the first commit: the lines are read again, also once they are compressed."""
    raw, vault = whole_lines(), scratch / "vault"
    grow(vault, raw, raw.total // 4)
    run_chain(vault)
    first_only(vault, lambda: grow(vault, raw, raw.total * 3 // 4), lambda: None, ALONE)
    path = raw_file(vault, DAYS[0])
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert not verdict(vault, scratch)
    grow_last = raw.days[DAYS[1]]
    with raw_file(vault, DAYS[1]).open("ab") as stream:
        stream.write(grow_last[stream.tell() :])
    shutil.rmtree(scratch / "fresh")
    assert not verdict(vault, scratch)


def test_a_day_that_is_gone(scratch: Path) -> None:
    """Rows stand on it, and nobody can make what lies between again."""
    raw, vault = whole_lines(), scratch / "vault"
    grow(vault, raw, len(raw.days[DAYS[0]]) // 2)
    run_chain(vault)
    first_only(vault, lambda: grow(vault, raw, raw.total), lambda: None, ALONE)
    raw_file(vault, DAYS[1]).unlink()
    assert f"the raw file of {DAYS[1]} is gone" in verdict(vault, scratch)
    for stage in CHAIN:
        rebuild_stage(Vault.open(vault), stage, INSTRUMENT)
    run_chain(vault)


def test_a_file_that_grew_while_it_was_read_shrinks_again(scratch: Path) -> None:
    """More bytes are read than the file had when it was looked at, and then they are gone."""
    raw, vault = whole_lines(), scratch / "vault"
    lines = raw.days[DAYS[0]]
    grow(vault, raw, lines.rfind(b"\n", 0, len(lines) // 2) + 1)
    run_chain(vault)
    path = raw_file(vault, DAYS[0])
    middle = lines.rfind(b"\n", 0, len(lines) * 3 // 4) + 1
    real = rawfiles.chunks

    def grows(file: rawfiles.DayFile, offset: int, size: int) -> Iterator[bytes]:
        path.write_bytes(lines)  # behind the look at its size
        yield from real(file, offset, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.engine.feed.chunks", grows)
        first_only(
            vault, lambda: grow(vault, raw, middle), lambda: os.truncate(path, middle), ALONE
        )
    assert "shrank" in verdict(vault, scratch)


@pytest.mark.parametrize("first", [ALONE, TOGETHER])
def test_nobody_is_killed_but_another_run_comes_between(
    scratch: Path, first: tuple[str, ...]
) -> None:
    """A torn line is finished, and `run` comes before the rest is committed here."""
    torn = TornLine(scratch / "vault")
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(torn.vault, encoder)
        torn.tear()
        fold(resident)
        resident.commit(resident.moved(first))
        torn.finish()
        found = verdict(torn.vault, scratch)
        resident.runs["volume"].advance()
        resident.commit(resident.moved())
        resident.close()
    assert "grew after a later day" in found
