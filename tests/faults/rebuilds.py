"""Rebuilds with faults in them: the rows are the old ones or the new ones, never a mixture."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.engine import state as states
from pipeline.engine.parts import names
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, StateError
from pipeline.stage import Stage

from .model import (
    STYLES,
    Disk,
    Hook,
    Image,
    KilledError,
    Recorder,
    kill_at,
    snapshot,
    write_image,
)
from .sims import Cut
from .workload import CHAIN, INSTRUMENT, Raw, Tree, grow, run_chain, tree

TOML = '["okx/perps/BTC-USDT-SWAP"]\nctVal = "0.1"\nctMult = "1"\nctType = "linear"\n'
"""Ten times the packaged contract: other rows in files of the same names."""


@dataclass
class Before:
    """A vault in which a rebuild of one stage is due, and what it has before and after that."""

    stage: Stage[Any, Any]
    root: Path
    image: Image
    raw: Path
    toml: str | None
    old: Tree
    new: Tree

    def vault(self, name: str, image: Image | None = None) -> Path:
        """A copy, or an image of the same vault after a power cut."""
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / "raw").symlink_to(self.raw)
        write_image(self.image if image is None else image, path)
        if self.toml is not None:
            (path / "instruments.toml").write_text(self.toml, encoding="ascii")
        return path


def own_files(vault: Path, stage: Stage[Any, Any]) -> Tree:
    """The files one stage has written."""
    tops = [f"derived/{layer.folder}/" for layer in stage.layers]
    tops += ["quarantine/"] if stage.raw_kind else []
    return {path: data for path, data in tree(vault).items() if path.startswith(tuple(tops))}


def prepare(root: Path, raw: Raw, stage: Stage[Any, Any], toml: str | None = None) -> Before:
    """A vault that has read everything, with the stages before this one rebuilt already."""
    vault = root / f"before-{stage.name}"
    grow(vault, raw, raw.total)
    run_chain(vault)
    if toml is not None:
        (vault / "instruments.toml").write_text(toml, encoding="ascii")
    for each in CHAIN[: CHAIN.index(stage)]:
        rebuild_stage(Vault.open(vault), each, INSTRUMENT)
    before = Before(stage, root, snapshot(vault), vault / "raw", toml, own_files(vault, stage), {})
    rebuild_stage(Vault.open(vault), stage, INSTRUMENT)
    before.new = own_files(vault, stage)
    assert before.new != before.old
    return before


def rebuild(vault: Path, stage: Stage[Any, Any]) -> None:
    """Rebuild one stage."""
    rebuild_stage(Vault.open(vault), stage, INSTRUMENT)


def committed(before: Before, vault: Path) -> str | None:
    """What a reader of committed rows finds wrong now; nothing while it is told to wait."""
    state, _ = states.load(VaultPaths(vault).state(before.stage.name, INSTRUMENT))
    if state is None:
        return "the state is gone"
    if state.swapping:
        return None
    return next(
        (None for wanted in (before.old, before.new) if _shows(before, vault, state, wanted)),
        "committed rows are neither the old nor the new ones",
    )


def _shows(before: Before, vault: Path, state: states.State, wanted: Tree) -> bool:
    found = set()
    for relative, length in state.outputs.items():
        path = vault / relative
        if not path.is_file() or path.read_bytes()[:length] != wanted.get(relative, b"?"):
            return False
        found.add(relative)
    for layer, parts in state.parts.items():
        folder = VaultPaths(vault).derived(before.stage.layers[0].folder, INSTRUMENT)
        assert layer == before.stage.layers[0].name
        for name, _, _ in names(parts):
            path = folder / name
            path = path if path.exists() else folder / (name + ".tmp")
            relative = VaultPaths(vault).relative(folder / name)
            if not path.exists() or path.read_bytes() != wanted.get(relative):
                return False
            found.add(relative)
    return found == set(wanted)


def mended(before: Before, vault: Path) -> str | None:
    """Run, then rebuild again; what is wrong on the way."""
    try:
        run_stage(Vault.open(vault), before.stage, INSTRUMENT)
        refused = False
    except StateError:
        refused = True
    except FlowvaultError as error:
        return f"the next run fails with {error.status}: {error.message}"
    found = own_files(vault, before.stage)
    if found not in (before.old, before.new):
        return "after the next run the files are neither the old nor the new ones"
    if refused and found == before.new:
        return "the next run refuses the new rows"
    return _rebuilt_again(before, vault)


def _rebuilt_again(before: Before, vault: Path) -> str | None:
    try:
        rebuild(vault, before.stage)
        run_stage(Vault.open(vault), before.stage, INSTRUMENT)
    except FlowvaultError as error:
        return f"the repeated rebuild fails with {error.status}: {error.message}"
    if own_files(vault, before.stage) != before.new:
        return "the repeated rebuild ends with other files"
    if VaultPaths(vault).rebuild(before.stage.name, INSTRUMENT).exists():
        return "the rebuild's folder is left behind"
    return None


def simulate_faults(
    before: Before, hook_at: Any, *, stride: int = 1, seed: int = 0, limit: int = 1
) -> tuple[list[str], int]:
    """Disturb a rebuild at every operation, mend it; what went wrong, in how many cases."""
    faults: list[str] = []
    tried = 0
    for at in count(seed % stride, stride):
        vault = before.vault("disturbed")
        recorder = Recorder(vault)
        ended = _disturbed(recorder, before, hook_at(at))
        if recorder.count <= at:
            break
        tried += 1
        what = f"operation {at} ({ended})"
        found = committed(before, vault) or mended(before, vault)
        if found is not None:
            faults.append(f"{what}: {found}")
            if len(faults) >= limit:
                break
    return faults, tried


def _disturbed(recorder: Recorder, before: Before, hook: Hook) -> str:
    try:
        with recorder.recording(hook):
            rebuild(Path(recorder.root), before.stage)
    except KilledError:
        return "killed"
    except FlowvaultError as error:
        return f"exit {error.status}"
    return "went through"


def simulate_power_cuts(
    before: Before, *, images: int, stride: int = 1, seed: int = 0, limit: int = 1
) -> tuple[list[str], int]:
    """Cut the power at every operation of a rebuild and of a run behind it."""
    vault = before.vault("recorded")
    recorder = Recorder(vault)
    with recorder.recording():
        rebuild(vault, before.stage)
    recorder.verify()
    moments = [Cut(after, 0) for after in range(len(recorder.ops) + 1)]
    return try_images(before, recorder, moments[seed % stride :: stride], images, seed, limit)


def try_images(
    before: Before, recorder: Recorder, moments: Sequence[Cut], images: int, seed: int, limit: int
) -> tuple[list[str], int]:
    """Mend what is left after power cuts."""
    disk, done, tried = Disk(recorder.start), 0, 0
    faults: list[str] = []
    for moment in moments:
        for op in recorder.ops[done : moment.after]:
            disk.apply(op)
        done = moment.after
        rng = random.Random(f"{seed} {moment.after}")
        seen: list[Image] = []
        for style in (*STYLES, *(f"random {number}" for number in range(images))):
            image = disk.image(style, rng)
            if image in seen:
                continue
            seen.append(image)
            tried += 1
            vault = before.vault("recovered", image)
            found = mended(before, vault)
            if found is not None:
                last = recorder.ops[moment.after - 1] if moment.after else "the start"
                faults.append(f"power cut after {moment.after} ({last}), {style}: {found}")
                if len(faults) >= limit:
                    return faults, tried
    return faults, tried


def simulate_kill_then_power_cut(
    before: Before, *, stride: int = 1, seed: int = 0, limit: int = 1
) -> tuple[list[str], int]:
    """Kill a rebuild at every operation, let the next run finish or drop it, cut the power."""
    faults: list[str] = []
    tried = 0
    for at in count(seed % stride, stride):
        vault = before.vault("disturbed")
        recorder = Recorder(vault)
        _disturbed(recorder, before, kill_at(at))
        if recorder.count <= at:
            break
        again = len(recorder.ops)
        with recorder.recording():
            try:
                run_stage(Vault.open(vault), before.stage, INSTRUMENT)
            except StateError:
                assert own_files(vault, before.stage) == before.old
        recorder.verify()
        end = len(recorder.ops)
        rng = random.Random(f"{seed} {at}")
        chosen = sorted({rng.randint(again, end), rng.randint(again, end), end})
        moments = [Cut(each, 0) for each in chosen]
        found, images = try_images(before, recorder, moments, 0, seed, limit)
        tried += images
        faults += [f"first killed at operation {at}: {each}" for each in found]
        if len(faults) >= limit:
            break
    return faults, tried
