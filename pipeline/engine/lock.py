"""One process per stage and instrument.

The lock is the operating system's: it is gone the moment its holder is, however it ended. Who
holds it is written beside it, for the message only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from pipeline.engine import disk
from pipeline.errors import LockedError


@contextmanager
def hold(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock at `path` for the time of the block.

    Yields whether the last holder has died with it, and so may have left something behind.

    Raises:
        LockedError: another process holds it; the message says who.
    """
    disk.make_dir(path.parent)
    lock = FileLock(path, timeout=0, preserve_lock_file=True, fallback_to_soft=False)
    holder = path.with_suffix(".holder")
    try:
        lock.acquire()
    except Timeout:
        message = f"{what} is locked by {_describe(holder)}"
        raise LockedError(message, "wait for it to end, then run the same command again") from None
    try:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        is_left = holder.exists()
        holder.write_bytes(msgspec.json.encode(who))
        yield is_left
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        who = msgspec.json.decode(holder.read_bytes())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return "another process"
