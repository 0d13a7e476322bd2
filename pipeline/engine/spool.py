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

    What the disk refuses is raised by `take` or `settle`, by every call of them from then on.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._free: list[memoryview] = []
        self._made = 0
        self._jobs: deque[tuple[Future[None], memoryview | None]] = deque()
        self._path = Path()
        self._at = self._filled = 0
        self._piece: memoryview | None = None

    def begin(self, path: Path) -> None:
        """What comes now is a new file's."""
        self._path, self._at, self._filled = path, 0, 0

    def take(self, data: memoryview) -> None:
        """The next bytes of the file."""
        while data:
            if self._piece is None:
                self._piece = self._new_piece()
            # behind a `settle` the first piece ends where the next one can go past the cache
            room = PIECE_BYTES - self._at % disk.PAGE - self._filled
            part = data[:room]
            self._piece[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            data = data[len(part) :]
            if len(part) == room:
                self._send()

    def end(self) -> None:
        """That was all of it; it is on its way to being durable."""
        if self._filled or not self._at:
            self._send()
        self._do(partial(disk.sync, self._path), None)

    def settle(self) -> None:
        """Wait until all of it is written, and durable if it was the end of a file.

        More may come then; meanwhile neither memory nor a thread is kept.
        """
        if self._filled:
            self._send()
        while self._jobs:
            self._wait()
        self._made = 0
        self._free.clear()
        self.stop()

    def stop(self) -> None:
        """Write nothing more."""
        for job, _ in self._jobs:
            job.cancel()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _send(self) -> None:
        """Have what has been filled written."""
        piece, data = self._piece, memoryview(b"")
        if piece is not None:
            data = piece[: self._filled]
        is_whole = self._at % disk.PAGE == 0 and len(data) == PIECE_BYTES
        write = disk.write_past_cache if is_whole else disk.write_at
        self._do(partial(write, self._path, self._at, data), piece)
        self._at += self._filled
        self._piece, self._filled = None, 0

    def _do(self, work: Callable[[], None], piece: memoryview | None) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "spool")
        self._jobs.append((self._pool.submit(work), piece))

    def _wait(self) -> None:
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
            self._wait()
        if self._free:
            return self._free.pop()
        self._made += 1
        return memoryview(mmap.mmap(-1, PIECE_BYTES))
