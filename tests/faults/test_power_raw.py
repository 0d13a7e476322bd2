"""Promise: no committed row stands on raw lines that a power cut can take away."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import disk, sources
from pipeline.engine.resident import MovedError
from pipeline.engine.stage_run import StageRun
from pipeline.errors import FlowvaultError

from .conftest import SMALL
from .model import STYLES, TOPS, Disk, Image, Recorder, write_image
from .residents import fold, opened, write_on
from .workload import (
    DAYS,
    Raw,
    grow,
    ledger,
    make_raw,
    raw_file,
    run_chain,
    tree,
)


@pytest.fixture(scope="module")
def raw() -> Raw:
    """Without a line that is torn, so that the collector can go on behind any whole line."""
    return make_raw(*SMALL).without_rests()


@dataclass(frozen=True)
class Story:
    """What the collector writes before, while and after the power is cut; whole lines each."""

    raw: Raw
    before: int
    during: int

    @classmethod
    def of(cls, raw: Raw, before: float, during: float) -> Story:
        """Shares of all bytes, rounded down to whole lines."""
        every = b"".join(raw.days.values())
        ends = [every.rfind(b"\n", 0, int(len(every) * share)) + 1 for share in (before, during)]
        return cls(raw, *ends)

    def append(self, vault: Path) -> None:
        """The collector writes on, through the recorder, and syncs nothing."""
        was, now = self.raw.upto(self.before), self.raw.upto(self.during)
        for day, content in now.items():
            data = content[len(was.get(day, b"")) :]
            if data:
                write_on(raw_file(vault, day), data)

    def go_on(self, vault: Path) -> None:
        """It starts again behind whatever is there: what is lost never comes again."""
        until, everything = self.raw.upto(self.during), self.raw.upto(self.raw.total)
        for day, content in everything.items():
            data = content[len(until.get(day, b"")) :]
            if data:
                with raw_file(vault, day).open("ab") as stream:
                    stream.write(data)


def follow_on(vault: Path, story: Story) -> Recorder:
    """Lines come to open stages, bars are committed first, then the rest."""
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        assert resident.first == {"bars"}
        recorder = Recorder(vault, (*TOPS, "raw"))
        with recorder.recording():
            story.append(vault)
            for names, first in ((resident.urgent, resident.first), (None, None)):
                for name, run in resident.runs.items():
                    if names is None or name in names:
                        run.advance()
                resident.commit(resident.moved(first))
        resident.close()
    return recorder


def run_on(vault: Path, story: Story) -> Recorder:
    """Lines come, and each stage is run and commits by itself."""
    recorder = Recorder(vault, (*TOPS, "raw"))
    with recorder.recording():
        story.append(vault)
        run_chain(vault)
    return recorder


Work = Callable[[Path, Story], Recorder]


@dataclass
class Judge:
    """Goes on from what a power cut left.

    Attributes:
        work: what is done while the power is cut.
        known: what one run makes of raw files, by what is in them.
    """

    scratch: Path
    story: Story
    work: Work
    known: dict[tuple[bytes, ...], Any] = field(default_factory=dict)

    def faults(self, stride: int, images: int) -> Iterator[str]:
        """Cut the power after every so-manieth operation; what went wrong."""
        vault = self.scratch / "vault"
        vault.mkdir(parents=True)
        grow(vault, self.story.raw, self.story.before)
        run_chain(vault)
        recorder = self.work(vault, self.story)
        recorder.verify()
        state = Disk(recorder.start)
        for number, op in enumerate(recorder.ops):
            state.apply(op)
            if number % stride:
                continue
            rng, style = random.Random(number), STYLES[number // stride % len(STYLES)]
            styles = STYLES if images else (style,)
            for each in (*styles, *(f"random {count}" for count in range(images))):
                fault = self.fault(state.image(each, rng))
                if fault is not None:
                    yield f"after {number} ({op}), {each}: {fault}"

    def fault(self, image: Image) -> str | None:
        """The collector goes on: the files are those of the raw lines that are there."""
        vault = self.scratch / "cut"
        try:
            write_image(image, vault)
            self.story.go_on(vault)
            wanted = self.wanted(vault)
            try:
                run_chain(vault)
            except FlowvaultError as error:
                return error.message
            return None if (tree(vault), ledger(vault)) == wanted else "lines that are not there"
        finally:
            shutil.rmtree(vault)

    def wanted(self, vault: Path) -> Any:
        """What one run makes of the raw files of a vault."""
        days = sorted(raw_file(vault, DAYS[0]).parent.iterdir())
        key = tuple(day.read_bytes() for day in days)
        if key not in self.known:
            fresh = self.scratch / "fresh"
            shutil.copytree(vault / "raw", fresh / "raw")
            run_chain(fresh)
            self.known[key] = tree(fresh), ledger(fresh)
            shutil.rmtree(fresh)
        return self.known[key]


STORIES = ((0.3, 0.4), (0.45, 0.55))
"""In the middle of a day, and over midnight: a file that is new."""


@pytest.mark.parametrize(("before", "during"), STORIES)
@pytest.mark.parametrize("work", [follow_on, run_on])
@pytest.mark.parametrize(
    ("stride", "images"), [(7, 0), pytest.param(1, 10, marks=pytest.mark.slow)]
)
def test_power_cut_takes_lines(
    scratch: Path, raw: Raw, before: float, during: float, work: Work, stride: int, images: int
) -> None:
    """Whatever raw lines are lost, no row stands on them, and no file is refused."""
    judge = Judge(scratch, Story.of(raw, before, during), work)
    assert list(judge.faults(stride, images)) == []
    assert len(judge.known) > 1


@pytest.mark.parametrize(("before", "during"), STORIES)
def test_without_syncing_them(
    scratch: Path, raw: Raw, before: float, during: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are refused then; rows that stand on nothing if nobody remembers what was read."""
    monkeypatch.setattr(StageRun, "sync_raw", lambda *_, **__: None)
    judge = Judge(scratch / "one", Story.of(raw, before, during), follow_on)
    faults = list(judge.faults(3, 0))
    assert all("raw file" in fault for fault in faults)
    assert faults
    monkeypatch.setattr(sources, "ahead_of", lambda *_: [])
    judge = Judge(scratch / "other", Story.of(raw, before, during), follow_on)
    assert any("lines that are not there" in fault for fault in judge.faults(3, 0))


def test_raw_files_that_may_not_be_synced(
    scratch: Path, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what reads them is committed with the first."""
    vault = scratch / "vault"
    grow(vault, raw, raw.total // 3)
    run_chain(vault)

    def refuse(path: Path) -> int:
        raise PermissionError(13, "not yours", str(path))

    monkeypatch.setattr(disk, "open_to_sync", refuse)
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        assert resident.first == {"trades", "bars"}
        grow(vault, raw, raw.total // 2)
        fold(resident)
        resident.commit(resident.moved(resident.first))
        assert not resident.runs["trades"].has_moved
        resident.close()


def compress(path: Path) -> None:
    """A collector compresses a day that has ended."""
    path.rename(path.with_name(path.name + ".packed"))


def shrink(path: Path) -> None:
    """Somebody takes the last line away."""
    os.truncate(path, path.stat().st_size - 10)


@pytest.mark.parametrize("change", [compress, shrink])
def test_a_raw_file_changes_before_the_commit(
    scratch: Path, raw: Raw, change: Callable[[Path], None]
) -> None:
    """It has to be read again before anything that stands on it is committed."""
    vault = scratch / "vault"
    grow(vault, raw, raw.total // 4)
    run_chain(vault)
    with ThreadPoolExecutor(2) as encoder:
        resident = opened(vault, encoder)
        grow(vault, raw, raw.total // 3)
        fold(resident)
        (path,) = resident.runs["trades"].feed.folder.glob("*.jsonl")
        change(path)
        with pytest.raises(MovedError):
            resident.commit(resident.moved(resident.first))
        resident.close()
