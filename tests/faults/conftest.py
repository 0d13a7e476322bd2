"""Scratch space in memory where there is some, the market, its truth, and forked workers."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]
else:
    from .forks import Forks
    from .sims import Arena
    from .workload import Truth, batch, make_raw

    ROOM = 1 << 30
    SMALL = (3, 400, 30)
    """Seed, trades and minutes of the market of most tests."""

    @pytest.fixture(scope="package")
    def scratch_root() -> Iterator[Path]:
        """A folder on a memory file system if there is one: fsync costs nothing there."""
        memory = Path("/dev/shm")  # noqa: S108
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        usable = usable and shutil.disk_usage(memory).free > ROOM
        root = Path(tempfile.mkdtemp(prefix="flowvault-faults-", dir=memory if usable else None))
        yield root
        shutil.rmtree(root)

    @pytest.fixture
    def scratch(scratch_root: Path) -> Iterator[Path]:
        """An empty folder for one test."""
        folder = Path(tempfile.mkdtemp(dir=scratch_root))
        yield folder
        shutil.rmtree(folder)

    @pytest.fixture(scope="package")
    def truth(scratch_root: Path) -> Truth:
        """One undisturbed run over the small market."""
        return batch(scratch_root / "truth", make_raw(*SMALL))

    @pytest.fixture
    def arena(scratch: Path, truth: Truth) -> Arena:
        """Three runs over the small market, each with new minutes in every layer."""
        return Arena(scratch, truth, truth.raw.cuts(5, 3))

    @pytest.fixture(scope="package")
    def forks(scratch_root: Path) -> Iterator[Forks]:
        """Forked workers."""
        server = Forks(scratch_root)
        yield server
        server.close()
