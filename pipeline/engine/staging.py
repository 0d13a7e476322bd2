"""The day files of one archive, written beside their places until the archive has been read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.engine import disk
from pipeline.engine.ledger import Look, Looker
from pipeline.engine.spool import Spool
from pipeline.importers.batch import Batch, Ints

WAITING, JOINING = ".jsonl.importing", ".jsonl.joining"
"""Endings of files that wait for their place, and of those that are put together."""

_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Staged:
    """The rows of one day, durable, waiting beside the place of its file."""

    day: str
    path: Path
    rows: int
    look: Look
    first_us: int
    last_us: int


@dataclass(slots=True)
class _Open:
    """A day that is being written."""

    path: Path
    rows: int
    looker: Looker
    first_us: int
    last_us: int


class Staging:
    """Writes rows in their order to a file for each day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.days: list[Staged] = []
        self._spool = Spool()
        self._number = -1
        self._open: _Open | None = None

    def take(self, batch: Batch, day: Ints, high: Ints) -> None:
        """Write rows, each to its day; `high` is the latest time reached at each."""
        if not batch.rows:
            return
        data = memoryview(batch.out)
        edges = [0, batch.rows]
        if day[0] != day[-1]:  # days only ever go on
            edges[1:1] = (np.flatnonzero(np.diff(day)) + 1).tolist()
        for first, last in pairwise(edges):
            if int(day[first]) != self._number:
                self._close()
                self._number = int(day[first])
                self._open = self._begin(int(high[first]))
            begin = int(batch.end[first - 1]) if first else 0
            self._write(data[begin : int(batch.end[last - 1])], last - first, int(high[last - 1]))

    def pause(self) -> None:
        """Nothing comes for a while: give back memory."""
        self._spool.settle()

    def finish(self) -> list[Staged]:
        """Make the last day durable; returns all days in order."""
        self._close()
        self._spool.settle()
        if self.days:
            disk.sync_dir(self.folder)
        return self.days

    def discard(self) -> None:
        """Remove what waits, and folders that were made for nothing."""
        self._spool.stop()
        clear(self.folder)

    def _begin(self, high_us: int) -> _Open:
        disk.make_dir(self.folder)
        name = date.fromordinal(_EPOCH + self._number).isoformat()
        path = self.folder / f"{name}{WAITING}"
        disk.remove(path)
        self._spool.begin(path)
        return _Open(path, 0, Looker(), high_us, high_us)

    def _write(self, data: memoryview, rows: int, high_us: int) -> None:
        file = self._open
        if file is None:
            return
        self._spool.take(data)
        file.looker.take(data)
        file.rows += rows
        file.last_us = high_us

    def _close(self) -> None:
        file = self._open
        if file is None:
            return
        self._spool.end()
        day = file.path.name.removesuffix(WAITING)
        staged = Staged(day, file.path, file.rows, file.looker.look, file.first_us, file.last_us)
        self.days.append(staged)
        self._open = None


def clear(folder: Path) -> None:
    """Remove what imports have left behind in a raw folder, and the folder if nothing is in it."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.endswith((WAITING, JOINING)):
            disk.remove(path)
    for each in (folder, folder.parent, folder.parent.parent):
        disk.remove_empty(each)
