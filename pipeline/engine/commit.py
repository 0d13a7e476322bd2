"""A commit of one stage, or of several stages of one instrument together.

Output files and new states are written, then made durable together, with the raw lines they stand
on. Only then do the states take their places: first those of stages that read raw data, durably,
then the others in the order in which they read each other. So no state, whatever a power cut leaves
of the rest, speaks of rows that are not there, and none stands on a raw line that is neither
remembered as read nor durable. A stage that is ahead of the one it reads waits until that has made
the same rows again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.engine.disk import Unsynced

if TYPE_CHECKING:
    from pipeline.engine.stage_run import StageRun


def waves(runs: Sequence[StageRun], raw: Sequence[StageRun] = ()) -> Generator[Unsynced]:
    """Commit what these runs have folded; what is yielded must be settled before going on.

    When one is yielded that says so the commit is durable; what is left is to give files the
    names that the states know them by.

    Args:
        runs: each behind those it reads.
        raw: stages above them that read raw data, have folded more than they have committed, and
            are not among them. What they have read is made durable instead.

    Raises:
        OSError: some of it was not committed; go on from what is on disk.
    """
    with Unsynced() as unsynced:
        for run in raw:
            run.sync_raw(unsynced, is_vital=True)
        ahead = {run.stage.name: run.read_so_far for run in raw}
        for run in runs:
            run.write(unsynced, ahead)
        yield unsynced
    for is_raw in (True, False):
        unsynced = Unsynced()
        for run in runs:
            if bool(run.stage.raw_kind) == is_raw:
                run.adopt(unsynced)
        yield unsynced
    yield Unsynced(is_durable=True)
    unsynced = Unsynced()
    for run in runs:
        run.publish(unsynced)
    yield unsynced


def commit(runs: Sequence[StageRun]) -> None:
    """Commit what these runs have folded, and wait for the disk; see `waves`."""
    with closing(waves(runs)) as steps:
        for unsynced in steps:
            unsynced.settle()
