"""Files written by a thread of their own, past the page cache where that can be done."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from pipeline.engine import disk, spool
from pipeline.engine.spool import Spool

DIRECT = getattr(os, "O_DIRECT", 0)


@pytest.fixture(autouse=True)
def _pieces_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PIECE_BYTES", 2 * disk.PAGE)


def write(folder: Path, contents: list[bytes], rng: random.Random) -> list[Path]:
    """Write files in parts of any length."""
    paths = [folder / f"{number}" for number in range(len(contents))]
    writer = Spool()
    for path, content in zip(paths, contents, strict=True):
        writer.begin(path)
        view = memoryview(content)
        while view:
            part, view = view[: (size := rng.randint(1, 20_000))], view[size:]
            writer.take(part)
            if rng.random() < 0.1:
                writer.settle()
        writer.end()
    writer.settle()
    return paths


@pytest.mark.parametrize("seed", range(4))
def test_what_is_taken_is_what_is_there(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [0, 1, disk.PAGE, 2 * disk.PAGE, 2 * disk.PAGE + 1, 8 * disk.PAGE, 100_003]
    contents = [rng.randbytes(size) for size in sizes]
    for path, content in zip(write(tmp_path, contents, rng), contents, strict=True):
        assert path.read_bytes() == content


@pytest.mark.skipif(not DIRECT, reason="this system has no way past its page cache")
@pytest.mark.parametrize("is_at_open", [True, False])
def test_a_disk_that_cannot_be_written_past_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_at_open: bool
) -> None:
    refused: list[int] = []
    opened, written = os.open, os.write
    direct: set[int] = set()

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & DIRECT and is_at_open:
            refused.append(flags)
            raise OSError(errno.EINVAL, "no")
        handle = opened(path, flags, mode)
        (direct.add if flags & DIRECT else direct.discard)(handle)
        return handle

    def write_(handle: int, data: memoryview) -> int:
        if handle in direct:
            refused.append(handle)
            raise OSError(errno.EINVAL, "no")
        return written(handle, data)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "write", write_)
    content = random.Random(1).randbytes(50_001)
    (path,) = write(tmp_path, [content], random.Random(2))
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert refused


@pytest.mark.parametrize("most", [1, 100, disk.PAGE, disk.PAGE + 512])
def test_writes_that_stop_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A disk may take less than it is given; some of these lengths end within a page."""
    written, opened, direct = os.write, os.open, set[int]()

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        handle = opened(path, flags & ~DIRECT, mode)
        (direct.add if flags & DIRECT else direct.discard)(handle)
        return handle

    def write_(handle: int, data: memoryview) -> int:
        return written(handle, data[:most] if handle in direct else data)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "write", write_)
    content = random.Random(1).randbytes(70_001)
    (path,) = write(tmp_path, [content], random.Random(2))
    assert path.read_bytes() == content


def test_a_full_disk_is_told_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(disk, "write_past_cache", refuse)
    writer = Spool()
    writer.begin(tmp_path / "file")
    with pytest.raises(OSError, match="full"):
        writer.take(memoryview(bytes(20 * disk.PAGE)))
    with pytest.raises(OSError, match="full"):
        writer.settle()
    writer.stop()


def test_nothing_is_kept_while_nothing_comes(tmp_path: Path) -> None:
    """An archive may have hundreds of instruments, one after the other."""
    spools = [Spool() for _ in range(50)]
    before = threading.active_count()
    for number, each in enumerate(spools):
        each.begin(tmp_path / f"{number}")
        each.take(memoryview(bytes(5 * disk.PAGE + 7)))
        each.settle()
        assert not each._free
    assert threading.active_count() == before
    for number, each in enumerate(spools):
        each.take(memoryview(b"end"))
        each.end()
        each.settle()
        assert (tmp_path / f"{number}").read_bytes() == bytes(5 * disk.PAGE + 7) + b"end"
