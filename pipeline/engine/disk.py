"""The few ways in which the pipeline changes the disk.

Every write of the commit protocol goes through these functions and no others, so that tests can
record them, fail them and replay them with a power cut in between.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Self

_WINDOWS = sys.platform == "win32"
_BINARY = getattr(os, "O_BINARY", 0)
_DIRECT = getattr(os, "O_DIRECT", 0)
PAGE = 4096
"""Bytes at which what goes past the page cache begins and ends, in the file and in memory."""

_SIDE_BY_SIDE, _SYNCERS = 6, 8
_KEPT_OPEN = 32
"""Files that one commit keeps open until they are durable; it may write more of them."""
_REPLACE_TRIES, _REPLACE_WAIT_S = 12, 0.2
"""On Windows a virus scanner or a reader may hold a file for a moment; wait about 2.5 s."""


def write_at(path: Path, offset: int, data: bytes | memoryview) -> None:
    """Write bytes at an offset of a file, creating it if need be. Nothing else is changed."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)
    try:
        os.lseek(handle, offset, os.SEEK_SET)
        write_all(handle, data)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview) -> None:
    """Write bytes to an open file, in as many turns as the system wants."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_past_cache(path: Path, offset: int, data: memoryview) -> None:
    """As `write_at`, but not through memory that the system keeps of the file, if it can do that.

    Much that is written once is on disk sooner so, and nothing else has to make room for it.

    Args:
        path: the file.
        offset: a multiple of PAGE.
        data: a multiple of PAGE bytes, which begin at a page of memory.
    """
    written = 0
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _BINARY | _DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot
            raise
    else:
        try:
            os.lseek(handle, offset, os.SEEK_SET)
            while written < len(data) and written % PAGE == 0:
                written += os.write(handle, data[written:])
        except OSError as error:
            if error.errno != errno.EINVAL:  # one that wants larger pages
                raise
        finally:
            os.close(handle)
    if written < len(data):
        write_at(path, offset + written, data[written:])


def write_end(path: Path, offset: int, data: bytes) -> int:
    """Write bytes at an offset of a file and cut off what lies behind them.

    At offset 0 the file is created if need be.

    Returns:
        The open file, which the caller closes.
    """
    handle = os.open(path, os.O_RDWR | _BINARY | (0 if offset else os.O_CREAT), 0o644)
    try:
        if offset:
            os.lseek(handle, offset, os.SEEK_SET)
        write_all(handle, data)
        end = offset + len(data)
        if os.fstat(handle).st_size != end:
            os.ftruncate(handle, end)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sync(path: Path, handle: int | None = None) -> None:
    """Make a file's content durable, through an open one if there is one."""
    if handle is not None:
        os.fsync(handle)
        return
    handle = open_to_sync(path)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_to_sync(path: Path) -> int:
    """Open a file, whoever writes it, to make durable what can be read in it.

    Raises:
        OSError: it is gone, or may not be opened so (Windows asks for the right to write).
    """
    return os.open(path, (os.O_RDWR if _WINDOWS else os.O_RDONLY) | _BINARY)


def can_sync(path: Path) -> bool:
    """Whether a file that somebody else writes can be made durable from here, and its name."""
    try:
        sync(path)
        sync_dir(path.parent)
    except OSError:
        return False
    return True


def sync_dir(path: Path) -> None:
    """Make a directory's entries durable (Windows has no such call and does not need it)."""
    if _WINDOWS:
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(source: Path, target: Path) -> None:
    """Rename over the target in one step."""
    for attempt in range(_REPLACE_TRIES):
        try:
            os.replace(source, target)  # noqa: PTH105  (no new Path: every commit renames a score)
        except PermissionError:
            if not _WINDOWS or attempt == _REPLACE_TRIES - 1:
                raise
            time.sleep(_REPLACE_WAIT_S)
        else:
            return


def place(source: Path, target: Path) -> None:
    """Rename to a name that nobody has, in one step.

    Raises:
        FileExistsError: somebody has it by now; nothing was changed.
    """
    if not _WINDOWS:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if target.exists():
                raise FileExistsError(target) from None
        else:
            source.unlink()
            return
    source.rename(target)


def remove(path: Path) -> None:
    """Delete a file; it is fine if it is gone, or if Windows still has it open in a reader."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        if not _WINDOWS:
            raise


def remove_empty(path: Path) -> None:
    """Delete a directory unless something is in it, or it is gone."""
    with suppress(OSError):
        path.rmdir()


def remove_tree(path: Path) -> None:
    """Delete a directory and what is in it."""
    if path.exists():
        shutil.rmtree(path)


def make_dir(path: Path) -> None:
    """Create a directory and its parents, durably."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_dir(folder.parent)


def sync_path(path: Path, root: Path) -> None:
    """Make a directory and all its parents up to a root durable, whoever has created them."""
    for folder in _up_to(path, root):
        sync_dir(folder)


def _up_to(path: Path, root: Path) -> Iterator[Path]:
    """A directory and all its parents up to a root."""
    yield path
    while path != root:
        path = path.parent
        yield path


def write_whole(path: Path, data: bytes) -> None:
    """Write and sync a whole new file; the caller renames it into place."""
    handle = write_end(path, 0, data)
    try:
        sync(path, handle)
    finally:
        os.close(handle)


class Unsynced:
    """What has been written and would not survive a power cut yet.

    It is made durable together: a disk that is asked for everything at once answers in little
    more than the time of one request. Files stay open until then, or until the end of a block
    that it is the context of.

    Attributes:
        is_durable: the commit it belongs to is durable by now.
    """

    def __init__(self, *, is_durable: bool = False) -> None:
        self.is_durable = is_durable
        self._files: dict[Path, int | None] = {}
        self._folders: dict[Path, None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, path: Path, offset: int, data: bytes) -> None:
        """Write the end of a file, see `write_end`, that is to be made durable."""
        handle = write_end(path, offset, data)
        if path in self._files or len(self._files) >= _KEPT_OPEN:
            os.close(handle)
            self.file(path)
        else:
            self._files[path] = handle

    def file(self, path: Path) -> None:
        """A file's content is to be made durable."""
        self._files.setdefault(path, None)

    def of_another(self, path: Path, size: int) -> None:
        """The same of one that another process writes, where so many bytes were seen.

        Raises:
            FileNotFoundError: it is gone, or they are.
        """
        handle = open_to_sync(path)
        try:
            if os.fstat(handle).st_size < size:
                raise FileNotFoundError(errno.ENOENT, "bytes that were there are gone", str(path))
            if len(self._files) >= _KEPT_OPEN:
                os.fsync(handle)  # not later: it may have another name by then
            else:
                self._files[path], handle = handle, -1
        finally:
            if handle >= 0:
                os.close(handle)

    def folder(self, path: Path) -> None:
        """A directory's entries are to be made durable."""
        self._folders[path] = None

    def path(self, path: Path, root: Path) -> None:
        """The same of a directory and all its parents up to a root, whoever has created them."""
        for folder in _up_to(path, root):
            self.folder(folder)

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to make durable."""
        return not self._files and not self._folders

    def settle(self) -> None:
        """Make it durable.

        Raises:
            OSError: some of it could not be; none of it may then be relied on.
        """
        jobs: list[Callable[[], None]] = [partial(sync, *each) for each in self._files.items()]
        jobs += [partial(sync_dir, path) for path in self._folders]
        try:
            _side_by_side(jobs)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it, durable or not."""
        for handle in self._files.values():
            if handle is not None:
                os.close(handle)
        self._files.clear()
        self._folders.clear()


def _side_by_side(jobs: Sequence[Callable[[], None]]) -> None:
    """Do them in several threads, this one among them; afterwards none is still at it."""
    # a request behind another one finds little left to do, so that a thread for it costs more
    threads = min(_SIDE_BY_SIDE, -(-len(jobs) // 2))
    shares = [jobs[start::threads] for start in range(threads)]
    waiting = [_syncers().submit(_all, share) for share in shares[1:]]
    try:
        for share in shares[:1]:
            _all(share)
    finally:
        wait(waiting)
    for each in waiting:
        each.result()


def _all(jobs: Sequence[Callable[[], None]]) -> None:
    for job in jobs:
        job()


@cache
def _syncers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_SYNCERS, thread_name_prefix="sync")
