"""One process per stage and instrument.

The lock is the operating system's: it is gone the moment its holder is, however it ended. Who
holds it stands in the lock file, for messages and for those who want to know whether the last
holder has died with it; while nobody holds it there is nothing there but blanks.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import msgspec
from filelock import lock_descriptor, unlock_descriptor

from pipeline.engine import disk
from pipeline.errors import LockedError

_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_LOCKED = b" "
"""Windows lets nobody else read the bytes that are locked: the first one says nothing."""
_WIDTH, _MOST = 160, 4096
"""So many bytes are written at least, so that a lock that nobody holds always looks the same."""

_held: set[int] = set()


@contextmanager
def hold(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock at `path` for the time of the block.

    Yields whether the last holder has died with it, and so may have left something behind.

    Raises:
        LockedError: another process holds it; the message says who.
    """
    handle = _taken(path)
    if handle is None:
        message = f"{what} is locked by {_describe(path)}"
        raise LockedError(message, "wait for it to end, then run the same command again")
    _held.add(handle)
    try:
        yield _sign(handle)
    finally:
        if handle in _held:
            _held.remove(handle)
            _let_go(handle)


def _taken(path: Path) -> int | None:
    """The open lock file, locked; None if another process has it."""
    while True:
        handle, is_locked, is_there = _opened(path), False, False
        try:
            is_locked = lock_descriptor(handle, blocking=False)
            is_there = os.fstat(handle).st_nlink > 0
        finally:
            if not (is_locked and is_there):
                os.close(handle)
        if is_there:
            return handle if is_locked else None


def _opened(path: Path) -> int:
    try:
        return os.open(path, _FLAGS)
    except FileNotFoundError:
        disk.make_dir(path.parent)
        return os.open(path, _FLAGS | os.O_CREAT, 0o644)


def _sign(handle: int) -> bool:
    """Write down who holds the lock; returns whether somebody else still stands there."""
    before = os.read(handle, _MOST)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    who = msgspec.json.encode(Holder(os.getpid(), _host(), now))
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, (_LOCKED + who).ljust(max(_WIDTH, len(before))))
    return bool(before.strip())


def _let_go(handle: int) -> None:
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, b" " * size)
    finally:
        try:
            unlock_descriptor(handle)
        finally:
            os.close(handle)


def _forget() -> None:
    """A forked process does not hold what its parent holds, and outlives nobody's lock."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Holder(msgspec.Struct):
    """Who holds a lock, as written in it."""

    pid: int
    host: str
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == _host()

    @property
    def is_gone(self) -> bool:
        """Whether it surely lives no more, so that its lock is free."""
        return self.is_here and not _is_alive(self.pid)


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock at `path`, or did when it was killed; None if nobody can be named."""
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(len(_LOCKED))
            return msgspec.json.decode(stream.read(_MOST), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def holder_lives(path: Path) -> bool:
    """Whether a process that may still live holds the lock at `path`."""
    holder = holder_of(path)
    return holder is not None and not holder.is_gone


def _describe(path: Path) -> str:
    who = holder_of(path)
    return (
        f"process {who.pid} on {who.host} since {who.since}"
        if who is not None
        else "another process"
    )


@cache
def _host() -> str:
    return socket.gethostname()


def _is_alive(pid: int) -> bool:
    """Whether a process with this number exists, found out without touching it."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415

        query_limited_information, still_active = 0x1000, 259
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == still_active
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
