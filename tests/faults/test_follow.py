"""Promise: following may be killed, stopped or started twice, and the files are right."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.resident import Resident
from pipeline.engine.vault import Vault

from .following import Collector, errors, events, is_open, start, until
from .forks import Forks, Worker
from .model import STYLES, fail_at, kill_at
from .sims import (
    Arena,
    Step,
    simulate_failing_operations,
    simulate_fault_then_power_cut,
    simulate_kills,
    simulate_power_cuts,
)
from .workload import (
    CHAIN,
    DAYS,
    INSTRUMENT,
    RUN,
    Truth,
    batch,
    grow,
    make_raw,
    raw_file,
    run_chain,
    tree,
)

# -- in this process -----------------------------------------------------------


@dataclass
class ResidentArena(Arena):
    """As `Arena`, with stages that are open when the raw files grow.

    They commit twice: first what bars need, then the rest.
    """

    def _step(self, cut: int) -> Step:
        def step(vault: Path) -> None:
            with ThreadPoolExecutor(2) as encoder:
                resident = Resident(Vault.open(vault), CHAIN, INSTRUMENT, encoder, ("bars",))
                if not self._is_open(resident):
                    grow(vault, self.truth.raw, cut)
                    run_chain(vault)
                    return
                grow(vault, self.truth.raw, cut)
                try:
                    for names, first in ((resident.urgent, resident.first), (None, None)):
                        for name, run in resident.runs.items():
                            if names is None or name in names:
                                run.advance()
                        resident.commit(resident.moved(first))
                finally:
                    resident.close()

        return step

    def _is_open(self, resident: Resident) -> bool:
        if not all(resident.has_state(stage.name) for stage in CHAIN):
            return False
        errors = resident.open()
        if errors:
            raise errors[0]
        return True


@pytest.fixture
def residents(scratch: Path, truth: Truth) -> ResidentArena:
    """A run over the beginning, then three times more data for stages that are open."""
    return ResidentArena(scratch, truth, truth.raw.cuts(5, 4))


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_kill_before_operation(residents: ResidentArena, stride: int) -> None:
    """Killed before its n-th change of the disk; a reader sees rows only being added."""
    assert simulate_kills(residents, stride=stride) == []


@pytest.mark.parametrize(
    ("rules", "images", "stride"),
    [(1, 1, 7), pytest.param(len(STYLES), 100, 1, marks=pytest.mark.slow)],
)
def test_power_cut(residents: ResidentArena, rules: int, images: int, stride: int) -> None:
    """Power is cut after an operation; states of several stages are on their way together."""
    faults, tried = simulate_power_cuts(residents, images=images, rules=rules, stride=stride)
    assert faults == []
    assert tried > 20


@pytest.mark.parametrize("hook", [kill_at, fail_at])
@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_fault_then_power_cut(
    residents: ResidentArena, hook: Callable[[int], object], stride: int
) -> None:
    """Killed or failed, then open and committed again, then power is cut."""
    faults, tried = simulate_fault_then_power_cut(residents, hook, run=1, stride=stride)  # type: ignore[arg-type]
    assert faults == []
    assert tried > 3


@pytest.mark.parametrize("stride", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_failing_operation(residents: ResidentArena, stride: int) -> None:
    """An operation of the disk fails: the commit says so, and the next one makes it good."""
    assert simulate_failing_operations(residents, 28, stride=stride) == []


# -- in a process of its own -----------------------------------------------------


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_random_kills(forks: Forks, scratch: Path, truth: Truth, kills: int) -> None:
    """It is killed -9 at random times while a collector appends, and started again."""
    rng, made = random.Random(kills), 0
    while made < kills:
        vault = scratch / f"vault{made}"
        cuts = truth.raw.cuts(rng.randrange(1 << 30), 60)
        grow(vault, truth.raw, cuts[0])
        collector = Collector(vault, truth.raw, cuts, 0.03)
        collector.start()
        while collector.is_alive() and made < kills:
            worker = start(forks, vault)
            if rng.random() < 0.8:
                until(lambda worker=worker: is_open(worker), "open", worker)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.4))
            assert worker.kill() == -9, worker.words
            made += 1
        collector.join()
        finish(start(forks, vault), truth, vault, f"after {made} kills")


def finish(worker: Worker, truth: Truth, vault: Path, what: str) -> None:
    """Let it catch up and stop it: everything there was is committed then."""
    until(lambda: is_open(worker), "open", worker)
    assert worker.stop() == 0, worker.words
    truth.check(vault, what)


def test_it_commits_without_being_stopped(forks: Forks, scratch: Path, truth: Truth) -> None:
    """What closes a minute is committed at once, and what closes nothing when it is quiet."""
    vault = scratch / "vault"
    cuts = truth.raw.cuts(3, 12)
    grow(vault, truth.raw, cuts[0])
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    for position in cuts[1:]:
        grow(vault, truth.raw, position)
        time.sleep(0.05)
    until(lambda: truth.fault(vault) is None, "everything committed", worker)
    assert worker.stop() == 0, worker.words
    truth.check(vault)
    told = events(worker, "commit")
    assert sum(each["stages"].get("trades", {}).get("rows_in", 0) for each in told) > 0
    assert any("bars_1m" in each["closed"] for each in told)
    assert all(each["latency_ms"] is None or each["latency_ms"] > 0 for each in told)


def test_stops_and_starts(forks: Forks, scratch: Path, truth: Truth) -> None:
    """SIGTERM at any time: the status is 0, and the next one goes on."""
    vault, rng = scratch / "vault", random.Random(6)
    cuts = truth.raw.cuts(8, 40)
    grow(vault, truth.raw, cuts[0])
    collector = Collector(vault, truth.raw, cuts, 0.03)
    collector.start()
    for _ in range(4):
        worker = start(forks, vault)
        until(lambda worker=worker: "{" in worker.read(), "a word", worker)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.3))
        assert worker.stop() == 0, worker.words
    collector.join()
    finish(start(forks, vault), truth, vault, "after four stops")


def test_runs_beside_it(forks: Forks, scratch: Path, truth: Truth) -> None:
    """Both commit; a run leaves with 75 if it meets the other at it, and nothing goes wrong."""
    vault = scratch / "vault"
    cuts = truth.raw.cuts(4, 40)
    grow(vault, truth.raw, cuts[0])
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    collector = Collector(vault, truth.raw, cuts, 0.04)
    collector.start()
    statuses = []
    while collector.is_alive():
        run = forks.start("cli", argv=["--vault", str(vault), *RUN])
        statuses.append(run.wait())
        assert statuses[-1] in (0, 75) or "records were bad" in run.words, run.words
        time.sleep(0.1)
    while 0 not in statuses and len(statuses) < 100:
        run = forks.start("cli", argv=["--vault", str(vault), *RUN])
        statuses.append(run.wait())
    assert 0 in statuses
    finish(worker, truth, vault, f"beside {len(statuses)} runs")


def test_killed_runs_beside_it(forks: Forks, scratch: Path, truth: Truth) -> None:
    """Runs that die at it leave files behind; whoever opens the stage next clears them away."""
    vault, rng = scratch / "vault", random.Random(2)
    cuts = truth.raw.cuts(9, 40)
    grow(vault, truth.raw, cuts[0])
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    collector = Collector(vault, truth.raw, cuts, 0.04)
    collector.start()
    while collector.is_alive():
        run = forks.start("cli", argv=["--vault", str(vault), *RUN])
        time.sleep(rng.uniform(0.0, 0.1))
        assert run.kill() in (0, 75, -9) or "records were bad" in run.words, run.words
        time.sleep(0.1)
    assert worker.stop() == 0, worker.words
    run_chain(vault)
    truth.check(vault, "beside dying runs")


def test_a_second_one(forks: Forks, scratch: Path, truth: Truth) -> None:
    """It leaves at once with status 75 and says who is at it."""
    vault = scratch / "vault"
    grow(vault, truth.raw, truth.raw.total // 2)
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    second = start(forks, vault)
    assert second.wait() == 75
    assert f"following {INSTRUMENT.key} is locked by process {worker.pid} on " in second.words
    grow(vault, truth.raw, truth.raw.total)
    finish(worker, truth, vault, "undisturbed")


def test_stopped_in_a_long_backfill(forks: Forks, scratch: Path) -> None:
    """It ends behind the commit in hand, long before all is read; the next one goes on."""
    raw = make_raw(5, 6000, 120)
    truth = batch(scratch / "truth", raw)
    vault = scratch / "vault"
    grow(vault, raw, raw.total)
    worker = start(forks, vault, block_bytes=2000)
    path = VaultPaths(vault).state("trades", INSTRUMENT)
    until(path.is_file, "a commit", worker)
    assert worker.stop() == 0, worker.words
    state, _ = states.load(path)
    assert state is not None
    assert 0 < sum(mark.offset for mark in state.raw["trades"]) < raw.total
    finish(start(forks, vault), truth, vault, "after a stop")


def test_rotation(forks: Forks, scratch: Path, truth: Truth) -> None:
    """A new day begins; the day before is compressed; before the first there is no file at all."""
    vault = scratch / "vault"
    raw_file(vault, DAYS[0]).parent.mkdir(parents=True)
    worker = start(forks, vault)
    first = len(truth.raw.days[DAYS[0]])
    time.sleep(0.3)
    grow(vault, truth.raw, first // 3)
    until(lambda: is_open(worker), "open", worker)
    grow(vault, truth.raw, first)
    time.sleep(0.1)
    grow(vault, truth.raw, first + 5)
    time.sleep(0.3)
    plain = raw_file(vault, DAYS[0])
    packed = plain.with_name(plain.name + ".gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    grow_last_day(vault, truth)
    time.sleep(0.3)
    assert worker.stop() == 0, worker.words
    assert not errors(worker), worker.words
    found, wanted = tree(vault), truth.tree
    assert {path: data for path, data in found.items() if "quarantine" not in path} == {
        path: data for path, data in wanted.items() if "quarantine" not in path
    }


def grow_last_day(vault: Path, truth: Truth) -> None:
    """Let the second day grow to its end."""
    with raw_file(vault, DAYS[1]).open("ab") as stream:
        stream.write(truth.raw.days[DAYS[1]][stream.tell() :])


def copy_as(vault: Path, source: Path, inst_id: str) -> None:
    """The raw files of a vault under another instrument's name."""
    for path in (source / "raw").rglob("*.jsonl"):
        target = vault / str(path.relative_to(source)).replace(INSTRUMENT.inst_id, inst_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes().replace(INSTRUMENT.inst_id.encode(), inst_id.encode()))


def test_a_new_instrument_and_one_that_fails(forks: Forks, scratch: Path, truth: Truth) -> None:
    """One appears while others are followed; another one's raw file shrinks, told once."""
    vault, other = scratch / "vault", "ETH-USDT-SWAP"
    grow(vault, truth.raw, truth.raw.total // 2)
    whole = scratch / "whole"
    grow(whole, truth.raw, truth.raw.total)
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    copy_as(vault, whole, other)
    until(lambda: is_open(worker, other), "the new one", worker)
    path = vault / str(raw_file(vault, DAYS[1])).replace(INSTRUMENT.inst_id, other)
    os.truncate(path, 300)
    until(lambda: bool(errors(worker)), "the error", worker)
    grow(vault, truth.raw, truth.raw.total)
    time.sleep(2.5)
    assert worker.stop() == 0, worker.words
    (error,) = errors(worker)
    assert error["status"] == 65
    assert "shrank" in error["message"]
    assert "flowvault rebuild trades" in error["hint"]
    shutil.rmtree(vault / "derived" / "trades" / "okx" / "perps" / other)
    for layer in ("bars", "volume", "gaps"):
        shutil.rmtree(vault / "derived" / layer / "okx" / "perps" / other, ignore_errors=True)
    shutil.rmtree(vault / "quarantine" / "okx" / "trades_perps" / other)
    truth.check(vault)


def test_a_rebuild_beside_it(forks: Forks, scratch: Path, truth: Truth) -> None:
    """What was rebuilt is opened again and goes on from its new rows."""
    vault, other = scratch / "vault", scratch / "other"
    for folder in (vault, other):
        grow(folder, truth.raw, truth.raw.total // 2)
    run_chain(other)
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    for folder in (vault, other):
        argv = ["--vault", str(folder), "rebuild", "-i", INSTRUMENT.inst_id]
        assert forks.start("cli", argv=argv).wait() == 0
        grow(folder, truth.raw, truth.raw.total)
    run_chain(other)
    wanted = tree(other)
    until(lambda: tree(vault) == wanted, "the same files", worker)
    assert worker.stop() == 0, worker.words
    assert {each["status"] for each in errors(worker)} <= {65}
    assert tree(vault) == wanted


def test_changed_settings(forks: Forks, scratch: Path, truth: Truth) -> None:
    """What can no longer be gone on with is refused as a run would, and goes on when mended."""
    vault = scratch / "vault"
    grow(vault, truth.raw, truth.raw.total // 2)
    worker = start(forks, vault)
    until(lambda: is_open(worker), "open", worker)
    settings = vault / "flowvault.toml"
    settings.write_text("[volume]\nwindow = 7\n", encoding="utf-8")
    until(lambda: len(errors(worker)) == 1, "a refusal", worker)
    settings.write_text("[volume\n", encoding="utf-8")
    until(lambda: len(errors(worker)) == 2, "a complaint", worker)
    settings.unlink()
    opened = len(events(worker, "open"))
    until(lambda: len(events(worker, "open")) > opened, "open again", worker)
    grow(vault, truth.raw, truth.raw.total)
    assert worker.stop() == 0, worker.words
    changed, wrong = errors(worker)
    assert changed["status"] == 65
    assert "parameters of volume" in changed["message"]
    assert "flowvault rebuild volume" in changed["hint"]
    assert wrong["status"] == 2
    truth.check(vault)
