"""Swapping a finished rebuild in.

A rebuild works in `state/STAGE/…/INSTID.rebuild/`, a small vault of its own. When it is complete
a file `READY` is put there; from then on the swap is finished by whoever comes next, however
often it is interrupted. While it lasts the state says `swapping`, and readers wait.
"""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine import disk
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.errors import StateError
from pipeline.instrument import Instrument
from pipeline.stage import Stage

READY = "READY"


def mark_ready(folder: Path) -> None:
    """Say that everything in a rebuild folder is complete and durable."""
    disk.write_whole(folder / READY, b"swap this in\n")
    disk.sync_dir(folder)


def finish_swap(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> None:
    """Swap in a rebuild that is ready; throw away one that is not."""
    folder = paths.rebuild(stage.name, instrument)
    if not folder.is_dir():
        return
    if not (folder / READY).exists():
        disk.remove_tree(folder)
        return
    # whoever wrote READY may have been killed before it was durable
    disk.sync(folder / READY)
    disk.sync_dir(folder)
    disk.sync_dir(folder.parent)
    inner = VaultPaths(folder)
    new, _ = states.load(inner.state(stage.name, instrument))
    live = paths.state(stage.name, instrument)
    try:
        old, _ = states.load(live)
    except StateError:
        old = None
    if new is not None:
        generation = old.generation if old is not None else 0
        during = msgspec.structs.replace(new, swapping=True, generation=generation + 1)
        states.save(live, during)
        _move_files(inner, paths, stage, instrument)
        states.save(live, msgspec.structs.replace(new, generation=generation + 2))
    disk.remove(folder / READY)
    disk.sync_dir(folder)  # or a power cut could leave READY with nothing behind it
    disk.remove_tree(folder)


def _move_files(
    inner: VaultPaths, paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument
) -> None:
    """Put the new files in the old ones' places; a redo finds only what is still to move."""
    done = inner.root / "MOVED"
    keep = _kept(done)
    pairs = [(inner.derived(f, instrument), paths.derived(f, instrument)) for f in _folders(stage)]
    if stage.raw_kind:
        kind = stage.raw_kind
        pairs.append((inner.quarantine(instrument, kind), paths.quarantine(instrument, kind)))
    if keep is None:
        keep = [
            paths.relative(target / path.name)
            for source, target in pairs
            if source.is_dir()
            for path in sorted(source.iterdir())
        ]
        disk.write_whole(done, msgspec.json.encode(keep))
        disk.sync_dir(inner.root)
    else:
        disk.sync(done)
        disk.sync_dir(inner.root)
    wanted = set(keep)
    foreign = _files_of_others(stage)
    for source, target in pairs:
        if target.is_dir():
            for path in sorted(target.iterdir()):
                is_own = path.is_file() and not any(fnmatch(path.name, each) for each in foreign)
                if is_own and paths.relative(path) not in wanted:
                    disk.remove(path)
        if source.is_dir():
            disk.make_dir(target)
            for path in sorted(source.iterdir()):
                disk.replace(path, target / path.name)
        if target.is_dir():
            disk.sync_dir(target)


def _kept(path: Path) -> list[str] | None:
    """The list of files an interrupted swap had decided on, if it got that far."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _folders(stage: Stage[Any, Any]) -> list[str]:
    return sorted({layer.folder for layer in stage.layers})


def _files_of_others(stage: Stage[Any, Any]) -> set[str]:
    """Patterns of the files that other stages keep in folders of this one."""
    folders = _folders(stage)
    return {
        layer.file
        for layer, owner in stages.layers().values()
        if owner.name != stage.name and layer.folder in folders
    }
