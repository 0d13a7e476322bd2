"""The simulators: they play a scenario with faults in it and say what went wrong.

All run in this process, so that the same simulators can judge the protocol and its mutants.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline.engine import state as states
from pipeline.engine.parts import names
from pipeline.engine.paths import VaultPaths
from pipeline.errors import FlowvaultError

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
    write_image,
)
from .workload import CHAIN, INSTRUMENT, Truth, grow, run_chain

if TYPE_CHECKING:
    from .rebuilds import Before

Step = Callable[[Path], None]


@dataclass
class Arena:
    """A scratch folder, and the raw bytes and truth that vaults in it are held against."""

    root: Path
    truth: Truth
    cuts: Sequence[int]
    before: Before | None = None
    _number: Iterator[int] = field(default_factory=count)

    def vault(self) -> Path:
        """A new vault's root."""
        path = self.root / f"v{next(self._number)}"
        path.mkdir()
        return path

    def steps(self) -> list[Step]:
        """Grow and run, cut by cut."""
        return [self._step(cut) for cut in self.cuts]

    def _step(self, cut: int) -> Step:
        def step(vault: Path) -> None:
            grow(vault, self.truth.raw, cut)
            run_chain(vault)

        return step

    def finish(self, vault: Path) -> str | None:
        """Let the raw files grow to their end, run once more; what is wrong then."""
        grow(vault, self.truth.raw, self.truth.raw.total)
        return undisturbed(vault) or self.truth.fault(vault)


def undisturbed(vault: Path) -> str | None:
    """Run; what is wrong with that."""
    try:
        run_chain(vault)
    except FlowvaultError as error:
        return f"refused with {error.status}: {error.message}"
    except Exception as error:  # noqa: BLE001  (a traceback is a finding, whatever it is)
        return f"{type(error).__name__}: {error}"
    return None


# -- kills -----------------------------------------------------------------


def simulate_kills(
    arena: Arena, *, stride: int = 1, seed: int = 0, reads: bool = True, limit: int = 1
) -> list[str]:
    """Kill before every operation of incremental runs, run again; what went wrong.

    With `reads` the committed rows are read back before every operation, as another process
    might do at that moment.
    """
    faults: list[str] = []
    offset = random.Random(seed).randrange(stride)
    for cut_number in range(len(arena.cuts)):
        base = arena.vault()
        for step in arena.steps()[:cut_number]:
            step(base)
        at = offset
        while True:
            vault = base.with_name(base.name + "k")
            shutil.copytree(base, vault)
            recorder = Recorder(vault)
            reader = Reader(arena.truth, vault) if reads and at == offset else None
            died = _play_killed(recorder, arena.steps()[cut_number], at, reader)
            if reader is not None:
                faults += [f"run {cut_number}: reader: {each}" for each in reader.faults[:1]]
            after = Reader(arena.truth, vault) if reads else None
            if after is not None:
                after.look("after the kill")
            found = arena.finish(vault)
            if after is not None:
                after.look("after the next run")
                found = found or next(iter(after.faults), None)
            shutil.rmtree(vault)
            if found is not None:
                faults.append(f"run {cut_number}, killed before operation {at} ({died}): {found}")
            if len(faults) >= limit:
                return faults
            if died is None:
                break
            at += stride
        shutil.rmtree(base)
    return faults


def _play_killed(recorder: Recorder, step: Step, at: int, reader: Reader | None) -> str | None:
    """Play a step that dies before an operation; which one that was, None if it got through."""
    died: list[str] = []

    def hook(number: int, op: Op) -> None:
        if reader is not None:
            recorder_root = Path(recorder.root)
            assert recorder_root == reader.vault
            reader.look(f"before operation {number} ({op})")
        elif number == at:
            died.append(str(op))
            raise KilledError

    if reader is not None:
        with recorder.recording(hook):
            step(Path(recorder.root))
        return "not killed, watched by a reader"
    try:
        with recorder.recording(hook):
            step(Path(recorder.root))
    except KilledError:
        return died[0]
    return None


class Reader:
    """Reads committed rows as another process would, and never forgets what it has seen."""

    def __init__(self, truth: Truth, vault: Path) -> None:
        self.truth = truth
        self.vault = vault
        self.faults: list[str] = []
        self._longest: dict[str, int] = {}
        self._known: dict[str, str] = {}
        self._frames = _frames(truth)

    def look(self, when: str) -> None:
        """Read everything that is committed now."""
        try:
            for stage in CHAIN:
                self._look_at(VaultPaths(self.vault).state(stage.name, INSTRUMENT), stage.name)
        except (FlowvaultError, OSError, AssertionError) as error:
            self.faults.append(f"{when}: {error}")

    def _look_at(self, path: Path, stage: str) -> None:
        state, _ = states.load(path)
        if state is None:
            assert not self._longest.get(stage), f"{stage}: the state is gone"
            return
        self._longest[stage] = 1
        for relative, length in state.outputs.items():
            data = (self.vault / relative).read_bytes()[:length]
            assert data == self.truth.tree[relative][:length], f"{relative}: other rows"
            assert len(data) == length, f"{relative}: committed rows are missing"
            assert length >= self._longest.get(relative, 0), f"{relative}: rows vanished"
            self._longest[relative] = length
        for layer, parts in state.parts.items():
            assert parts.rows >= self._longest.get(layer, 0), f"{layer}: rows vanished"
            self._longest[layer] = parts.rows
            for name, start, end in names(parts):
                folder = VaultPaths(self.vault).derived(layer, INSTRUMENT)
                self._check_part(folder, name, start, end)

    def _check_part(self, folder: Path, name: str, start: int, end: int) -> None:
        file = folder / name
        if not file.exists():
            file = folder / (name + ".tmp")
        assert file.exists(), f"{name}: committed rows are missing"
        data = file.read_bytes()
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if self._known.get(name) != digest:
            rows = pl.read_parquet(io.BytesIO(data))
            assert rows.equals(self._frames[start:end]), f"{name}: other rows"
            self._known[name] = digest


def _frames(truth: Truth) -> pl.DataFrame:
    parts = sorted(path for path in truth.tree if path.endswith(".parquet"))
    return pl.concat([pl.read_parquet(io.BytesIO(truth.tree[path])) for path in parts])


# -- power cuts ------------------------------------------------------------


@dataclass
class Cut:
    """A moment in a recording: after so many operations, with the raw files so far."""

    after: int
    raw: int


def record(vault: Path, steps: Sequence[tuple[int, Step]]) -> tuple[Recorder, list[Cut]]:
    """Record undisturbed steps; every moment between two operations is a possible cut."""
    recorder = Recorder(vault)
    moments: list[Cut] = []
    for position, step in steps:
        first = len(recorder.ops)
        with recorder.recording():
            step(vault)
        moments += [Cut(after, position) for after in range(first, len(recorder.ops) + 1)]
    recorder.verify()
    return recorder, moments


def simulate_power_cuts(
    arena: Arena,
    *,
    images: int,
    rules: int = len(STYLES),
    stride: int = 1,
    seed: int = 0,
    limit: int = 1,
) -> tuple[list[str], int]:
    """Cut the power after every operation of incremental runs; what went wrong, in how many images.

    Of each moment (with `stride`, of every so-manieth) `rules` images by rule are made, others at
    the next moment, and `images` at random; equal ones are tried once. Recovery is a run over the
    raw files as they are then, or at once over all of them.
    """
    steps = list(zip(arena.cuts, arena.steps(), strict=True))
    recorder, moments = record(arena.vault(), steps)
    chosen = moments[seed % stride :: stride]
    return try_images(arena, recorder, chosen, images, seed, limit, rules)


def try_images(
    arena: Arena,
    recorder: Recorder,
    moments: Sequence[Cut],
    images: int,
    seed: int,
    limit: int,
    rules: int = len(STYLES),
) -> tuple[list[str], int]:
    """Recover from images of the disk at some moments."""
    disk, done = Disk(recorder.start), 0
    seen: set[bytes] = set()
    faults: list[str] = []
    for moment in moments:
        for op in recorder.ops[done : moment.after]:
            disk.apply(op)
        done = max(done, moment.after)
        rng = random.Random(f"{seed} {moment.after}")
        styles = [STYLES[(moment.after * rules + each) % len(STYLES)] for each in range(rules)]
        for style in (*styles, *(f"random {number}" for number in range(images))):
            image = disk.image(style, rng)
            digest = _digest(image)
            if digest in seen:
                continue
            seen.add(digest)
            found = recover(arena, image, moment.raw if rng.random() < 0.3 else None)
            if found is not None:
                last = recorder.ops[moment.after - 1] if moment.after else "the start"
                faults.append(f"power cut after {moment.after} ({last}), {style}: {found}")
                if len(faults) >= limit:
                    return faults, len(seen)
    return faults, len(seen)


def recover(arena: Arena, image: Image, raw: int | None) -> str | None:
    """Run on an image until everything is read; what is wrong then."""
    vault = arena.vault()
    write_image(image, vault)
    try:
        if raw is not None:
            grow(vault, arena.truth.raw, raw)
            found = undisturbed(vault)
            if found is not None:
                return found
        return arena.finish(vault)
    finally:
        shutil.rmtree(vault)


def _digest(image: Image) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(image):
        content = image[path]
        total.update(f"{path} {-1 if content is None else len(content)}\n".encode())
        total.update(content or b"")
    return total.digest()


def simulate_fault_then_power_cut(
    arena: Arena,
    hook_at: Callable[[int], Hook] = kill_at,
    *,
    run: int = 1,
    stride: int = 1,
    seed: int = 0,
    limit: int = 1,
) -> tuple[list[str], int]:
    """Disturb a run at every operation, run again undisturbed, then cut the power.

    What the first run left in the cache must not be taken for durable by the second.
    """
    base = arena.vault()
    for step in arena.steps()[:run]:
        step(base)
    faults: list[str] = []
    tried = 0
    step = arena.steps()[run]
    for at in count(seed % stride, stride):
        vault = base.with_name(base.name + "p")
        shutil.copytree(base, vault)
        recorder = Recorder(vault)
        try:
            with recorder.recording(hook_at(at)):
                step(vault)
        except (KilledError, FlowvaultError):
            pass
        else:
            if recorder.count <= at:
                shutil.rmtree(vault)
                break
        again = len(recorder.ops)
        with recorder.recording():
            step(vault)
        recorder.verify()
        end = len(recorder.ops)
        shutil.rmtree(vault)
        rng = random.Random(f"{seed} {at}")
        chosen = sorted({rng.randint(again, end), end})
        moments = [Cut(after, arena.cuts[run]) for after in chosen]
        found, images = try_images(arena, recorder, moments, 0, seed, limit)
        tried += images
        faults += [f"first disturbed at operation {at}: {each}" for each in found]
        if len(faults) >= limit:
            break
    return faults, tried


# -- failing operations ----------------------------------------------------


def simulate_failing_operations(
    arena: Arena, code: int, *, stride: int = 1, seed: int = 0, limit: int = 1
) -> list[str]:
    """Let every operation fail once; the run must say so (74) and the next one make it good."""
    faults: list[str] = []
    for cut_number in range(len(arena.cuts)):
        base = arena.vault()
        for step in arena.steps()[:cut_number]:
            step(base)
        for at in count(seed % stride, stride):
            vault = base.with_name(base.name + "f")
            shutil.copytree(base, vault)
            recorder = Recorder(vault)
            status: int | None = 0
            try:
                with recorder.recording(fail_at(at, code)):
                    arena.steps()[cut_number](vault)
            except FlowvaultError as error:
                status = error.status
            fired = recorder.count > at
            found = arena.finish(vault)
            shutil.rmtree(vault)
            if fired and status != 74:
                faults.append(f"run {cut_number}, operation {at} failed: status {status}")
            if found is not None:
                faults.append(f"run {cut_number}, operation {at} failed: {found}")
            if len(faults) >= limit:
                return faults
            if not fired:
                break
        shutil.rmtree(base)
    return faults
