"""Writing the ends of files, and making them durable together."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.engine import disk
from pipeline.engine.disk import Unsynced

Patch = pytest.MonkeyPatch


def is_open(handle: int) -> bool:
    """Whether a number stands for an open file."""
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


@pytest.fixture
def handles(monkeypatch: Patch) -> list[int]:
    """Those that `write_end` has given out."""
    real = disk.write_end
    found: list[int] = []

    def noted(path: Path, offset: int, data: bytes) -> int:
        found.append(real(path, offset, data))
        return found[-1]

    monkeypatch.setattr(disk, "write_end", noted)
    return found


def synced(monkeypatch: Patch, act: Callable[[int], None] = lambda _inode: None) -> Counter[int]:
    """How often each inode has been made durable; `act` may fail for one."""
    real = os.fsync
    found: Counter[int] = Counter()

    def fsync(handle: int) -> None:
        inode = os.fstat(handle).st_ino
        act(inode)
        real(handle)
        found[inode] += 1

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.mark.parametrize(
    ("before", "offset", "after"),
    [
        (None, 0, b"new"),
        (b"", 0, b"new"),
        (b"longer than that", 0, b"new"),
        (b"one", 3, b"onenew"),
        (b"one and what a dead run has left", 3, b"onenew"),
    ],
)
def test_a_file_ends_behind_what_is_written(
    before: bytes | None, offset: int, after: bytes, tmp_path: Path
) -> None:
    """Whatever stood there."""
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(before)
    os.close(disk.write_end(path, offset, b"new"))
    assert path.read_bytes() == after


def test_nothing_is_written_behind_bytes_that_are_gone(tmp_path: Path) -> None:
    """A file with a hole would look as long as it should be."""
    with pytest.raises(FileNotFoundError), Unsynced() as unsynced:
        unsynced.write(tmp_path / "x", 3, b"new")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_everything_is_synced_once(
    count: int, tmp_path: Path, handles: list[int], monkeypatch: Patch
) -> None:
    """Files through the handles that wrote them, more of them by their names; none stays open."""
    found = synced(monkeypatch)
    with Unsynced() as unsynced:
        for number in range(count):
            unsynced.write(tmp_path / f"{number}", 0, b"one")
            unsynced.write(tmp_path / f"{number}", 3, b"two")
        (tmp_path / "by name").write_bytes(b"x")
        unsynced.file(tmp_path / "by name")
        unsynced.folder(tmp_path)
        unsynced.folder(tmp_path)
        assert sum(map(is_open, handles[::2])) <= 32
        assert not found
        unsynced.settle()
        assert not any(map(is_open, set(handles)))
        unsynced.settle()
    paths = [tmp_path, *tmp_path.iterdir()]
    assert len(paths) == count + 2
    assert found == {path.stat().st_ino: 1 for path in paths}


@pytest.mark.parametrize("bad", [0, 3, 19])
def test_one_failure_is_a_failure_of_all(
    bad: int, tmp_path: Path, handles: list[int], monkeypatch: Patch
) -> None:
    """It is told when no thread is at it any more, and all files are closed."""

    def act(inode: int) -> None:
        if inode == (tmp_path / f"{bad}").stat().st_ino:
            raise OSError(errno.EIO, "no")
        time.sleep(0.01)

    found = synced(monkeypatch, act)
    unsynced = Unsynced()
    for number in range(20):
        unsynced.write(tmp_path / f"{number}", 0, b"one")
    with pytest.raises(OSError, match="no"):
        unsynced.settle()
    done = found.total()
    assert not any(map(is_open, handles))
    time.sleep(0.05)
    assert found.total() == done


def test_what_is_given_up_is_closed(tmp_path: Path, handles: list[int]) -> None:
    """As when another stage of the commit cannot be written."""
    with suppress(ZeroDivisionError), Unsynced() as unsynced:
        unsynced.write(tmp_path / "x", 0, b"one")
        assert is_open(handles[0])
        _ = 1 // 0
    assert not is_open(handles[0])
