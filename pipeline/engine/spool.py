"""Files written from their beginnings to their ends, by a thread that waits for the disk alone."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.engine import disk

PIECE_BYTES = 1 << 23
"""A file is written in pieces of so many bytes, a multiple of pages."""

_PIECES = 3


class Spool:
    """Writes one file after the other, a few pieces behind what it is given.

    What the disk refuses is raised by `take` or `finish`, by every call of them from then on.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "spool")
        self._free: list[memoryview] = []
        self._made = 0
        self._jobs: deque[tuple[Future[None], memoryview | None]] = deque()
        self._path = Path()
        self._at = self._filled = 0
        self._piece = memoryview(b"")

    def begin(self, path: Path) -> None:
        """What comes now is a new file's."""
        self._path, self._at, self._filled = path, 0, 0
        self._piece = self._new_piece()

    def take(self, data: memoryview) -> None:
        """The next bytes of the file."""
        while data:
            part = data[: len(self._piece) - self._filled]
            self._piece[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part) :]
            if self._filled == len(self._piece):
                piece, self._piece = self._piece, self._new_piece()
                self._do(partial(disk.write_past_cache, self._path, self._at, piece), piece)
                self._at += len(piece)
                self._filled = 0

    def end(self) -> None:
        """That was all of it; it is on its way to being durable."""
        piece = self._piece
        rest = piece[: self._filled]
        if rest or not self._at:
            self._do(partial(disk.write_at, self._path, self._at, rest), None)
        self._do(partial(disk.sync, self._path), piece)

    def finish(self) -> None:
        """Wait until everything is durable."""
        while self._jobs:
            self._settle()
        self._pool.shutdown()

    def stop(self) -> None:
        """Write nothing more."""
        for job, _ in self._jobs:
            job.cancel()
        self._pool.shutdown()

    def _do(self, work: Callable[[], None], piece: memoryview | None) -> None:
        self._jobs.append((self._pool.submit(work), piece))

    def _settle(self) -> None:
        """Wait for the oldest job."""
        job, piece = self._jobs[0]
        job.result()
        self._jobs.popleft()
        if piece is not None:
            self._free.append(piece)

    def _new_piece(self) -> memoryview:
        """Memory for a piece, which begins at a page."""
        while self._jobs and (
            self._jobs[0][0].done() or (not self._free and self._made == _PIECES)
        ):
            self._settle()
        if self._free:
            return self._free.pop()
        self._made += 1
        return memoryview(mmap.mmap(-1, PIECE_BYTES))
