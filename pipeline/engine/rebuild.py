"""Rebuild: compute a stage again from everything that is there, beside the old rows, then swap.

Trades that came too late the first time are put into the minute where they belong.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.ticks import Ticks, join
from pipeline.engine import disk, lock
from pipeline.engine import state as states
from pipeline.engine.rawfiles import day_files
from pipeline.engine.stage_run import Report, StageRun
from pipeline.engine.summary import Summary
from pipeline.engine.swap import finish_swap, mark_ready
from pipeline.engine.vault import Vault
from pipeline.errors import DataError, DiskError, StateError
from pipeline.instrument import Instrument
from pipeline.stage import Stage
from pipeline.stages import with_downstream


def rebuild_stage(
    vault: Vault,
    stage: Stage[Any, Any],
    instrument: Instrument,
    *,
    allow_missing: bool = False,
    report: Report | None = None,
) -> Summary:
    """Rebuild one stage of one instrument.

    Raises:
        DataError: raw files that had been consumed are gone, so that rows would be lost.
        LockedError: the stage is running.
    """
    what = f"stage {stage.name} of {instrument.key}"
    try:
        with lock.hold(vault.paths.lock(stage.name, instrument), what):
            finish_swap(vault.paths, stage, instrument)
            return _rebuild(vault, stage, instrument, allow_missing=allow_missing, report=report)
    except OSError as error:
        message = f"{what}: {error.strerror or error}; the old rows stand"
        raise DiskError(message, "mend the disk, then run the same command again") from error


def _rebuild(
    vault: Vault,
    stage: Stage[Any, Any],
    instrument: Instrument,
    *,
    allow_missing: bool,
    report: Report | None,
) -> Summary:
    live = vault.paths.state(stage.name, instrument)
    try:
        old, _ = states.load(live)
    except StateError:
        old = None
    if old is not None and stage.raw_kind and not allow_missing:
        _require_raw(vault, stage, instrument, old)
    folder = vault.paths.rebuild(stage.name, instrument)
    reinstated: Ticks | pl.DataFrame | None = None
    if stage.raw_kind:
        first = StageRun(vault, stage, instrument, base=folder, report=report)
        summary = first.run()
        reinstated = _together(first.asides) if first.asides else None
    if reinstated is not None or not stage.raw_kind:
        disk.remove_tree(folder)
        again = StageRun(
            vault, stage, instrument, base=folder, reinstated=reinstated, report=report
        )
        summary = again.run()
    path = type(vault.paths)(folder).state(stage.name, instrument)
    new, _ = states.load(path)
    if new is None:
        disk.remove_tree(folder)
        return summary
    epoch = 1 + max([old.epoch if old is not None else 0, *_read_epochs(vault, stage, instrument)])
    states.save(path, msgspec.structs.replace(new, epoch=epoch, generation=new.generation + 1))
    mark_ready(folder)
    finish_swap(vault.paths, stage, instrument)
    return summary


def _together(late: list[Any]) -> Ticks | pl.DataFrame:
    """The trades of all blocks that came too late."""
    return pl.concat(late) if isinstance(late[0], pl.DataFrame) else join(late)


def _read_epochs(vault: Vault, stage: Stage[Any, Any], instrument: Instrument) -> list[int]:
    """The epochs of this stage's layers that stages behind it have read."""
    found = []
    for each in with_downstream(stage.name):
        with suppress(StateError):
            state, _ = states.load(vault.paths.state(each.name, instrument))
            marks = state.upstream if state is not None else {}
            found += [mark.epoch for name, mark in marks.items()]
    return found


def _require_raw(
    vault: Vault, stage: Stage[Any, Any], instrument: Instrument, old: states.State
) -> None:
    kind = stage.raw_kind or ""
    there = {file.day for file in day_files(vault.paths.raw(instrument, kind))}
    gone = [mark.day for mark in old.raw.get(kind, []) if mark.day not in there]
    if gone:
        days = gone[0] if len(gone) == 1 else f"{gone[0]} to {gone[-1]} ({len(gone)} days)"
        raise DataError(
            f"{instrument.key}: raw {kind} of {days} were read before and are gone; "
            "a rebuild would lose their rows",
            f"flowvault rebuild {stage.name} {instrument.options} --allow-missing",
        )
