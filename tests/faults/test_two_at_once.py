"""Promise: processes that run at the same time do each other no harm.

Of two runs of one stage and instrument the second leaves at once with status 75 and names the
holder; a dead holder's lock is free; stages may run while others commit; readers of committed
rows and a live collector disturb nobody.
"""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import parts, sources
from pipeline.engine.paths import VaultPaths
from pipeline.engine.reader import committed_length, lines_between
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault

from .conftest import SMALL
from .forks import PATIENCE_S, Forks, Worker
from .sims import Arena
from .workload import INSTRUMENT, STAGES, TRADES, VOLUME, Truth, batch, grow, make_raw, run_chain


def _hold(forks: Forks, vault: Path, stage: str) -> Worker:
    worker = forks.start("hold", vault=vault, stage=stage)
    worker.until_told("held")
    return worker


@pytest.mark.parametrize("rounds", [2, pytest.param(300, marks=pytest.mark.slow)])
def test_second_is_told_who_holds_the_lock(forks: Forks, arena: Arena, rounds: int) -> None:
    """Every stage: exit 75 with the holder's pid at once; after kill -9 the lock is free."""
    vault = arena.vault()
    arena.steps()[0](vault)
    took = []
    for _ in range(rounds):
        for stage in STAGES:
            holder = _hold(forks, vault, stage)
            argv = ["--vault", str(vault), stage, "-i", INSTRUMENT.inst_id, "--no-upstream"]
            started = time.monotonic()
            second = forks.start("cli", argv=argv)
            assert second.wait() == 75, second.words
            took.append(time.monotonic() - started)
            assert f"process {holder.pid} " in second.words
            assert holder.kill() == -9
            third = forks.start("cli", argv=argv)
            assert third.wait() == 0, third.words
    assert min(took) < 5, "it waits for the lock"
    assert arena.finish(vault) is None


@pytest.mark.parametrize("rounds", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_race(forks: Forks, arena: Arena, rounds: int) -> None:
    """Three processes start at the same moment; the losers leave with 75, nothing is doubled."""
    lost = 0
    for number in range(rounds):
        vault = arena.vault()
        grow(vault, arena.truth.raw, arena.cuts[number % 2])
        gate = vault / "gate"
        os.mkfifo(gate)
        shut = os.open(gate, os.O_RDWR)
        racers = [forks.start("race", vault=vault, gate=gate) for _ in range(3)]
        for racer in racers:
            racer.until_told("ready")
        os.close(shut)
        statuses = sorted(racer.wait() for racer in racers)
        assert statuses[0] == 0, statuses
        assert set(statuses) <= {0, 75}, statuses
        lost += statuses.count(75)
        assert arena.finish(vault) is None
    assert lost > 0


def test_downstream_reads_while_upstream_commits(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage has read its upstream's state; before it reads the rows, upstream commits more.

    The last part it was told of has been replaced by a longer one; its rows are all there.
    """
    vault = arena.vault()
    arena.steps()[0](vault)
    grow(vault, arena.truth.raw, arena.cuts[1])
    opened = Vault.open(vault)
    run_stage(opened, TRADES, INSTRUMENT)
    real = parts.read_rows

    def overtaken(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(sources, "read_rows", real)
        grow(vault, arena.truth.raw, arena.truth.raw.total)
        run_stage(opened, TRADES, INSTRUMENT)
        return real(*arguments, **more)

    monkeypatch.setattr(sources, "read_rows", overtaken)
    run_stage(opened, VOLUME, INSTRUMENT)
    assert arena.finish(vault) is None


class Follower(threading.Thread):
    """Follows volume_1m.jsonl at its committed length, like `tail -F` with a conscience."""

    def __init__(self, vault: Path) -> None:
        super().__init__(daemon=True)
        self.vault = vault
        self.layer = VOLUME.layers[0]
        self.path = VaultPaths(vault).derived("volume", INSTRUMENT) / self.layer.file
        self.seen = b""
        self.looks = 0
        self.fault: str | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        """Look again and again."""
        while not self.stop.is_set() and self.fault is None:
            self.look()
            time.sleep(0.002)

    def look(self) -> None:
        """One look; everything seen before must still be there."""
        end = committed_length(self.vault, self.layer, "volume", INSTRUMENT)
        data = lines_between(self.path, 0, end) if end else b""
        if not data.startswith(self.seen):
            self.fault = f"{len(self.seen)} bytes had been seen; now they are others"
        elif data and not data.endswith(b"\n"):
            self.fault = "half a row is committed"
        self.looks += len(data) > len(self.seen)
        self.seen = data


@pytest.mark.parametrize(
    ("trades", "seconds"), [(8000, 1.0), pytest.param(60_000, 60.0, marks=pytest.mark.slow)]
)
def test_live_collector(forks: Forks, scratch: Path, trades: int, seconds: float) -> None:
    """A collector appends about 1 kB per ms in pieces that cut lines, while runs follow it.

    A follower of the committed volume rows sees them come one after the other, each once; the
    final bytes are those of one run over everything.
    """
    recipe = (11, trades, 600)
    truth = batch(scratch / "truth", make_raw(*recipe))
    looks = 0
    for slower in range(6):  # where runs are slow, they see more of a collector that is slower too
        looks = looks_at_a_live_market(
            forks, scratch / f"vault{slower}", recipe, truth, seconds * 2**slower
        )
        if looks > 3:
            break
    assert looks > 3


def looks_at_a_live_market(
    forks: Forks, vault: Path, recipe: tuple[int, int, int], truth: Truth, seconds: float
) -> int:
    """Run beside a collector until all is read; how often the follower has seen new rows."""
    raw, rng = truth.raw, random.Random(4)
    pieces = [0]
    while pieces[-1] < raw.total:
        pieces.append(min(raw.total, pieces[-1] + rng.randrange(1, 4000)))
    follower = Follower(vault)
    collector = forks.start("append", vault=vault, raw=recipe, pieces=pieces[1:], seconds=seconds)
    until = time.monotonic() + seconds + PATIENCE_S
    folder = VaultPaths(vault).raw(INSTRUMENT, "trades")
    while not folder.is_dir() and time.monotonic() < until:
        time.sleep(0.002)
    follower.start()
    runs = 0
    while runs < 4 or (truth.fault(vault) is not None and time.monotonic() < until):
        run_chain(vault)
        runs += 1
    assert collector.wait() == 0
    run_chain(vault)
    follower.stop.set()
    follower.join()
    follower.look()
    assert follower.fault is None
    truth.check(vault)
    assert follower.seen == truth.tree["derived/volume/okx/perps/BTC-USDT-SWAP/volume_1m.jsonl"]
    return follower.looks


@pytest.mark.parametrize("kills", [15, pytest.param(1000, marks=pytest.mark.slow)])
def test_follower_of_a_killed_run(forks: Forks, arena: Arena, kills: int) -> None:
    """The same follower, while the process that writes is killed again and again."""
    rng = random.Random(8)
    made = 0
    while made < kills:
        vault = arena.vault()
        follower = Follower(vault)
        follower.start()
        status = None
        while status != 0:
            cuts = arena.truth.raw.cuts(rng.randrange(99), 8)
            worker = forks.start("cycles", vault=vault, raw=SMALL, cuts=cuts)
            time.sleep(rng.uniform(0.02, 0.12))
            status = worker.kill() if made < kills else worker.wait()
            made += status == -9
        follower.stop.set()
        follower.join()
        assert follower.fault is None
        arena.truth.check(vault)
