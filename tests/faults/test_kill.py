"""Promise: any kill, any restart, and the files are those of one run over everything.

Also: at no moment does a reader of committed rows see one vanish, change or come twice.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from .conftest import SMALL
from .forks import Forks
from .sims import Arena, simulate_kills
from .workload import Truth


@pytest.mark.parametrize("kills", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_random_kills(forks: Forks, scratch: Path, truth: Truth, kills: int) -> None:
    """A process that lets the files grow and runs all stages is killed -9 at random times.

    It is started again where it was killed; whenever one has got through, the vault is compared
    with one undisturbed run and a new one begun.
    """
    rng = random.Random(kills)
    made = finished = 0
    while made < kills or finished < 2:
        vault = scratch / f"vault{finished}"
        cuts = truth.raw.cuts(rng.randrange(1 << 30), 12)
        patience = rng.choice((0.03, 0.07, 0.12))
        status = None
        while status != 0:
            worker = forks.start("cycles", vault=vault, raw=SMALL, cuts=cuts)
            time.sleep(rng.uniform(0, patience))
            status = worker.kill() if made < kills else worker.wait()
            assert status in (0, -9), worker.words
            made += status == -9
            patience *= 1.1
        truth.check(vault, f"after {made} kills")
        finished += 1


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_kill_before_operation(arena: Arena, stride: int) -> None:
    """A run killed before its n-th change of the disk, for every n, is made good by the next.

    A reader that looks at the committed rows before each of them sees rows only being added.
    """
    assert simulate_kills(arena, stride=stride) == []
