"""A commit of one stage, or of several stages of one instrument together.

Output files and new states are written, then made durable together. Only then do the states take
their places: first those of stages that read raw data, durably, then the others in the order in
which they read each other. So no state, whatever a power cut leaves of the rest, speaks of rows
that are not there, and none stands on a raw line that is not remembered as read. A stage that is
ahead of the one it reads waits until that has made the same rows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.engine.disk import Unsynced

if TYPE_CHECKING:
    from pipeline.engine.runner import StageRun


def commit(runs: Sequence[StageRun]) -> None:
    """Commit what these runs have folded; a run stands behind those it reads.

    Every stage above that has folded more than it has committed must be among them.

    Raises:
        OSError: some of it was not committed; go on from what is on disk.
    """
    unsynced = Unsynced()
    for run in runs:
        run.write(unsynced)
    unsynced.settle()
    for is_raw in (True, False):
        for run in runs:
            if bool(run.stage.raw_kind) == is_raw:
                run.adopt(unsynced)
        unsynced.settle()
    for run in runs:
        run.publish(unsynced)
    unsynced.settle()
