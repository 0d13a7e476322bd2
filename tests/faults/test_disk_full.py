"""Promise: a full disk costs nothing but time.

The exit status is 74, nothing is committed that is not whole, and with room again the next run
ends with the right files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .forks import REPO, Forks
from .sims import Arena, Reader
from .workload import RUN, copy_vault, grow, tree

_PAGE = 4096


@pytest.fixture
def half(arena: Arena) -> Path:
    """A vault whose next run has new rows for every file."""
    vault = arena.vault()
    arena.steps()[0](vault)
    grow(vault, arena.truth.raw, arena.truth.raw.total)
    return vault


def _check_rows(arena: Arena, vault: Path, what: str) -> None:
    reader = Reader(arena.truth, vault)
    reader.look(what)
    assert reader.faults == []


@pytest.mark.parametrize("sizes", [30, pytest.param(500, marks=pytest.mark.slow)])
def test_file_size_limit(forks: Forks, arena: Arena, half: Path, sizes: int) -> None:
    """No file may grow past a limit, for limits from nothing to enough."""
    largest = max(len(data) for data in tree(half, ("derived", "quarantine", "state")).values())
    largest = max(largest, *(len(data) for data in arena.truth.tree.values()))
    failed = 0
    for number in range(sizes):
        limit = largest * number // (sizes - 2)
        vault = copy_vault(half, half.with_name("limited"))
        worker = forks.start("cli", argv=["--vault", str(vault), *RUN], file_size=limit)
        status = worker.wait()
        failed += status == 74
        assert status == 74 or limit >= largest, f"limit {limit}: exit {status}\n{worker.words}"
        assert status == 74 or "damaged" not in worker.words
        _check_rows(arena, vault, f"limit {limit}")
        found = arena.finish(vault)
        assert found is None, f"limit {limit}: {found}"
    assert failed >= sizes - 3


@pytest.fixture
def small_disk(scratch: Path) -> Iterator[Path]:
    """A file system in memory of its own, where one may be mounted."""
    folder = scratch / "disk"
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("only root can mount")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def _resize(folder: Path, pages: int) -> None:
    size = f"remount,size={pages * _PAGE}"
    subprocess.run(["mount", "-o", size, str(folder)], check=True)  # noqa: S607


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_full_disk(forks: Forks, arena: Arena, half: Path, small_disk: Path, stride: int) -> None:
    """The disk has room for so many pages more, then it is grown."""
    statuses = []
    for spare in range(0, 200, stride):
        _resize(small_disk, 1 << 14)
        vault = copy_vault(half, small_disk / "vault")
        stat = os.statvfs(small_disk)
        _resize(small_disk, stat.f_blocks - stat.f_bfree + spare)
        worker = forks.start("cli", argv=["--vault", str(vault), *RUN])
        status = worker.wait()
        statuses.append(status)
        full = status == 74
        assert full or "bad" in worker.words, f"{spare} pages: exit {status}\n{worker.words}"
        _resize(small_disk, 1 << 14)
        _check_rows(arena, vault, f"{spare} pages")
        found = arena.finish(vault)
        assert found is None, f"{spare} pages: {found}"
        if not full:
            break
    assert statuses[0] == 74
    assert statuses[-1] != 74


def test_full_log(half: Path, arena: Arena) -> None:
    """Where the disk is full, so is the log a cron job writes: a message, exit 74, no traceback."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with full.open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "--vault", str(half), *RUN],
            cwd=REPO,
            stdout=log,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == 74
    assert arena.finish(half) is None
