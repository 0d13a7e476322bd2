"""Promise: feeds and market-wide tables survive a kill, a failing disk and a power cut anywhere.

Afterwards the next run ends with the files of one undisturbed run, byte for byte, and at no moment
does a reader see anything but the rows of a whole commit.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.engine import disk, tablestate
from pipeline.engine.shelf import Shelf
from pipeline.errors import FlowvaultError
from tests.engine import small_tables as small

from .forks import Forks
from .model import (
    STYLES,
    Disk,
    Hook,
    Image,
    KilledError,
    Op,
    Recorder,
    fail_at,
    kill_at,
    snapshot,
    write_image,
)

ATS = "finra/ats_weekly/"
WEEK, NEXT = "2026-07-20", "2026-07-27"
FIRST = {
    f"{ATS}{WEEK}.T1.jsonl": small.ats_line("A", 10.5, WEEK) + b"bad\n",
    f"{ATS}{NEXT}.T1.jsonl": small.ats_line("A", 1, NEXT) + b"worse\n",
    "prices/daily/A.jsonl": small.bar_line("2026-07-27", 5.0),
}
THEN = {
    f"{ATS}{WEEK}.T1.jsonl": small.ats_line("A", 10.5, WEEK) + small.ats_line("B", 4, WEEK),
    f"{ATS}{NEXT}.T1.jsonl": b"as bad\n" + small.ats_line("A", 2, NEXT),
    "finra/ats_weekly/2026-06-01.T2.jsonl": small.ats_line("C", 3, "2026-06-01"),
}
"""A line mended, another one bad, numbers changed, a Parquet file more."""

STEPS = (FIRST, THEN)


@dataclass
class Stand:
    """A vault in which one step of growth is to be taken in, and what it holds afterwards."""

    root: Path
    before: Image
    raw: dict[str, bytes]
    old: small.Tree
    new: small.Tree

    def vault(self, image: Image | None = None) -> Path:
        """A new vault before the step, or from an image of the disk."""
        path = self.root / "v"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        write_image(self.before if image is None else image, path)
        small.write(path, self.raw)
        return path

    def fault(self, vault: Path) -> str | None:
        """What is wrong after an undisturbed run."""
        try:
            small.run(vault)
        except FlowvaultError as error:
            return f"refused with {error.status}: {error}"
        found = small.tree(vault)
        if found != self.new:
            names = {n for n in {*found, *self.new} if found.get(n) != self.new.get(n)}
            return f"other files: {sorted(names)}"
        return None

    def torn(self, vault: Path) -> str | None:
        """What a reader of committed rows finds wrong now: neither the old nor the new rows."""
        for layer in ("sums", "halves"):
            rows = small.table(vault, layer)
            if not any(rows.equals(known) for known in self._rows(layer)):
                return f"{layer}: other rows: {rows}"
        return None

    def _rows(self, layer: str) -> list[pl.DataFrame]:
        known = [small.table(self.root / "nowhere", layer)]
        for files in (self.old, self.new):
            parts = [files[name] for name in sorted(files) if f"/{layer}/" in name]
            known += [pl.concat([pl.read_parquet(data) for data in parts])] if parts else []
        return known


@pytest.fixture(params=[0, 1], ids=["first", "then"])
def stand(request: pytest.FixtureRequest, scratch: Path) -> Stand:
    """The first reading of all, and one that changes something of everything."""
    vault = scratch / "truth"
    vault.mkdir()
    raw: dict[str, bytes] = {}
    for step in STEPS[: request.param]:
        raw |= step
        small.write(vault, raw)
        small.run(vault)
    before, old = snapshot(vault), small.tree(vault)
    raw = {**raw, **STEPS[request.param]}
    small.write(vault, raw)
    small.run(vault)
    return Stand(scratch, before, raw, old, small.tree(vault))


def disturbed(stand: Stand, hook_at: Callable[[int], Hook], stride: int = 1) -> list[str]:
    """Disturb a run at every operation, look, run again; what went wrong."""
    faults: list[str] = []
    for at in count(0, stride):
        vault = stand.vault()
        recorder = Recorder(vault)
        status = 0
        try:
            with recorder.recording(hook_at(at)):
                small.run(vault)
        except KilledError:
            status = -9
        except FlowvaultError as error:
            status = error.status
        fired = recorder.count > at or recorder.is_dead
        found = stand.torn(vault) or stand.fault(vault)
        if fired and status not in (-9, 74):
            faults.append(f"operation {at}: status {status}")
        if found is not None:
            faults.append(f"disturbed at operation {at}: {found}")
        if faults or not fired:
            return faults
    return faults


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_kill(stand: Stand, stride: int) -> None:
    """Before any operation."""
    assert disturbed(stand, kill_at, stride) == []


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failing_operation(stand: Stand, code: int, stride: int) -> None:
    """Status 74, and the next run makes it good."""
    assert disturbed(stand, lambda at: fail_at(at, code), stride) == []


def test_reader(stand: Stand) -> None:
    """Between any two operations the rows are those before or those after."""
    vault = stand.vault()
    recorder = Recorder(vault)
    faults: list[str] = []

    def look(at: int, op: Op) -> None:
        found = stand.torn(vault)
        faults.extend([] if found is None else [f"before operation {at} ({op}): {found}"])

    with recorder.recording(look):
        small.run(vault)
    recorder.verify()
    assert faults == []
    assert recorder.count > 20


def power_cuts(stand: Stand, *, styles: int, stride: int, limit: int = 1) -> tuple[list[str], int]:
    """Cut the power after operations of a run; what went wrong, in how many images."""
    vault = stand.vault()
    recorder = Recorder(vault)
    with recorder.recording():
        small.run(vault)
    recorder.verify()
    machine, faults, tried = Disk(recorder.start), [], 0
    for after, op in enumerate(recorder.ops):
        machine.apply(op)
        if after % stride and after < len(recorder.ops) - 1:
            continue
        rng = random.Random(after)
        for number in range(styles):
            style = STYLES[(after + number) % len(STYLES)] if number < len(STYLES) else "random"
            found = stand.fault(stand.vault(machine.image(style, rng)))
            tried += 1
            if found is not None:
                faults.append(f"after operation {after} ({op}), {style}: {found}")
                if len(faults) >= limit:
                    return faults, tried
    return faults, tried


@pytest.mark.parametrize(
    ("styles", "stride"), [(1, 7), pytest.param(12, 1, marks=pytest.mark.slow)]
)
def test_power_cut(stand: Stand, styles: int, stride: int) -> None:
    """What was not synced may be lost, torn or garbage."""
    faults, tried = power_cuts(stand, styles=styles, stride=stride)
    assert faults == []
    assert tried > 5


Patch = pytest.MonkeyPatch


def _published_first(patch: Patch) -> None:
    """Files get their names, and old ones are deleted, before the commit."""
    real = tablestate.save
    kept: list[Shelf] = []
    put, publish = Shelf.put, Shelf.publish

    def noted(self: Shelf, name: str, data: bytes) -> None:
        put(self, name, data)
        kept.append(self)

    def save(path: Path, state: Any) -> None:
        for shelf in kept:
            new = dict.fromkeys(shelf._new, "")
            publish(shelf, new)
        kept.clear()
        real(path, state)

    patch.setattr(Shelf, "put", noted)
    patch.setattr(tablestate, "save", save)


def _nothing_synced(patch: Patch) -> None:
    """Parquet files are committed without having been synced."""
    real = disk.sync
    patch.setattr(
        disk, "sync", lambda path, *rest: None if ".parquet" in path.name else real(path, *rest)
    )


def _not_recovered(patch: Patch) -> None:
    """What a dead run left is not looked at."""
    patch.setattr(Shelf, "recover", lambda _self, _listed: set())


@pytest.mark.parametrize("stand", [1], indirect=True)
@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(_published_first, marks=pytest.mark.slow),
        pytest.param(_nothing_synced, marks=pytest.mark.slow),
        _not_recovered,
    ],
)
def test_mistakes_are_noticed(
    monkeypatch: Patch, mutant: Callable[[Patch], None], stand: Stand
) -> None:
    """A protocol with a mistake in it does not pass these tests."""
    mutant(monkeypatch)
    try:
        found = disturbed(stand, kill_at)
        found = found or power_cuts(stand, styles=len(STYLES), stride=1)[0]
    except (OSError, pl.exceptions.PolarsError) as error:
        found = [str(error)]
    assert found


def test_two_at_once(forks: Forks, scratch: Path) -> None:
    """While one holds the lock another command leaves with 75; a dead holder's lock is free."""
    small.write(scratch, FIRST)
    holder = forks.start("hold_tables", vault=scratch)
    holder.until_told("held")
    second = forks.start("cli", argv=["--vault", str(scratch), "broker_map"])
    assert second.wait() == 75, second.words
    assert f"process {holder.pid} " in second.words
    assert holder.kill() == -9
    third = forks.start("cli", argv=["--vault", str(scratch), "broker_map"])
    assert third.wait() in (0, 65), third.words
