"""One process per stage and instrument.

The lock is the operating system's: it is gone the moment its holder is, however it ended. Who
holds it is written beside it, for the message only.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from pipeline.engine import disk
from pipeline.errors import LockedError


class Lock:
    """A lock that may be held again and again."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._holder = path.with_suffix(".holder")
        self._lock: FileLock | None = None

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold it for the time of the block.

        Yields whether the last holder has died with it, and so may have left something behind.

        Raises:
            LockedError: another process holds it; the message says who.
        """
        if self._lock is None:
            disk.make_dir(self._path.parent)
            self._lock = FileLock(
                self._path, timeout=0, preserve_lock_file=True, fallback_to_soft=False
            )
        try:
            self._lock.acquire()
        except Timeout:
            message = f"{self._what} is locked by {_describe(self._path)}"
            hint = "wait for it to end, then run the same command again"
            raise LockedError(message, hint) from None
        try:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
            is_left = self._holder.exists()
            self._holder.write_bytes(msgspec.json.encode(who))
            yield is_left
        finally:
            self._holder.unlink(missing_ok=True)
            self._lock.release()


@contextmanager
def hold(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock at `path` for the time of the block; see `Lock.hold`.

    Raises:
        LockedError: another process holds it; the message says who.
    """
    with Lock(path, what).hold() as is_left:
        yield is_left


class Holder(msgspec.Struct):
    """Who holds a lock, as written beside it."""

    pid: int
    host: str
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    @property
    def is_gone(self) -> bool:
        """Whether it surely lives no more, so that its lock is free."""
        return self.is_here and not _is_alive(self.pid)


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock at `path`, or did when it was killed; None if nobody can be named."""
    try:
        return msgspec.json.decode(path.with_suffix(".holder").read_bytes(), type=Holder)
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
