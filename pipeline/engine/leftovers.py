"""What killed processes left behind: files that no state knows.

A run clears those of its own stage away when it next starts; here they are found, and deleted, for
stages that nobody runs any more as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.engine import disk, lock
from pipeline.engine import state as states
from pipeline.engine.parts import SUFFIX, TEMPORARY, names
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import State
from pipeline.engine.swap import READY
from pipeline.errors import StateError
from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.stage import Stage


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or folder that nothing needs.

    Attributes:
        size: bytes.
    """

    stage: str
    instrument: Instrument
    path: Path
    what: str
    size: int

    def remove(self) -> None:
        """Delete it."""
        if self.path.is_dir():
            disk.remove_tree(self.path)
        else:
            disk.remove(self.path)
        disk.sync_dir(self.path.parent)


def leftovers(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> list[Leftover]:
    """The leftovers of one stage and instrument, unless somebody may be at work there.

    To be sure, hold the stage's lock.
    """
    found = [
        Leftover(stage.name, instrument, path, what, _size(path))
        for path, what in (
            *_of_states(paths, stage, instrument),
            *_of_parts(paths, stage, instrument),
        )
    ]
    return sorted(found, key=lambda each: each.path)


def is_busy(paths: VaultPaths, stage: str, instrument: Instrument) -> bool:
    """Whether a process that may still live holds the lock of a stage."""
    return lock.holder_lives(paths.lock(stage, instrument))


def waiting_swap(paths: VaultPaths, stage: str, instrument: Instrument) -> bool:
    """Whether a finished rebuild still has to be swapped in."""
    return (paths.rebuild(stage, instrument) / READY).exists()


def _of_states(
    paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument
) -> Iterator[tuple[Path, str]]:
    state = paths.state(stage.name, instrument)
    for name in (state.name, f"{instrument.inst_id}.reported.json"):
        temporary = state.with_name(name + ".tmp")
        if temporary.exists():
            yield temporary, "half-written state"
    rebuild = paths.rebuild(stage.name, instrument)
    if rebuild.is_dir() and not waiting_swap(paths, stage.name, instrument):
        yield rebuild, "unfinished rebuild"


def _of_parts(
    paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument
) -> Iterator[tuple[Path, str]]:
    """Parquet files that no generation of the state lists."""
    known = _generations(paths, stage.name, instrument)
    for layer in stage.layers:
        folder = paths.derived(layer.folder, instrument)
        if not known or layer.format != "parquet" or not folder.is_dir():
            continue
        listed = _listed(known, layer)
        for path in sorted(folder.iterdir()):
            is_part = path.name.endswith((SUFFIX, TEMPORARY))
            if is_part and path.name.removesuffix(".tmp") not in listed:
                yield path, "rows that were not committed"


def _generations(paths: VaultPaths, stage: str, instrument: Instrument) -> list[State]:
    """The states that say what is committed; none where that is not sure."""
    if waiting_swap(paths, stage, instrument):
        return []
    try:
        known, broken = states.generations(paths.state(stage, instrument))
    except StateError:
        return []
    return [] if broken or any(state.swapping for state in known) else known


def _listed(known: list[State], layer: Layer) -> set[str]:
    """The files of a layer in any of these generations."""
    found = (state.parts.get(layer.name) for state in known)
    return {name for parts in found if parts is not None for name, _, _ in names(parts)}


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def stages_of(paths: VaultPaths) -> Iterator[tuple[Stage[Any, Any], Instrument]]:
    """Every stage and instrument that have a place among the states."""
    for stage in stages.all_stages():
        for folder in sorted((paths.root / "state" / stage.name).glob("*/*")):
            found = {path.name for path in folder.iterdir()}
            ends = (".lock", ".state.json", ".state.prev.json", ".rebuild", ".state.json.tmp")
            inst_ids = {name.removesuffix(e) for name in found for e in ends if name.endswith(e)}
            for inst_id in sorted(inst_ids):
                yield stage, Instrument(folder.parent.name, folder.name, inst_id)
