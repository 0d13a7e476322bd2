"""Promise: stages that join several feeds survive what the others survive."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import stages
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.vault import Vault
from tests.laws.feedstock import SWAP

from .forks import Forks
from .joined import NAMES, batch, grow, run, small_parts, stock
from .model import STYLES, Disk, KilledError, Recorder, kill_at, write_image
from .workload import Tree, tree

SEED, TRADES = 4, 60
GAPS = f"derived/gaps/okx/perps/{SWAP.inst_id}"


@pytest.fixture(scope="module")
def wanted(scratch_root: Path) -> Tree:
    """One undisturbed run over everything; all chains have rows."""
    found = batch(scratch_root / "joined-truth", SEED, TRADES)
    tops = {path.split("/")[1] for path in found}
    assert {"flow", "micro", "costs", "buckets", "orderflow", "ladder_1m", "bbo"} <= tops
    assert found[f"{GAPS}/gaps.jsonl"]
    assert found[f"{GAPS}/book_gaps.jsonl"]
    return found


def assert_same(found: Tree, wanted: Tree, what: object) -> None:
    """Equal files."""
    differing = [p for p in sorted({*found, *wanted}) if found.get(p) != wanted.get(p)]
    assert not differing, f"{what}: {differing}"


@pytest.mark.parametrize("kills", [15, pytest.param(1500, marks=pytest.mark.slow)])
def test_random_kills(forks: Forks, scratch: Path, wanted: Tree, kills: int) -> None:
    """Trades, books and quotes grow; the process that runs all stages is killed -9 and again."""
    rng = random.Random(kills)
    made = finished = 0
    while made < kills:
        vault = scratch / f"vault{finished}"
        vault.mkdir()
        shares = [*sorted(rng.random() for _ in range(4)), 1.0]
        patience = rng.choice((0.1, 0.3, 0.6))
        status = None
        while status != 0:
            worker = forks.start("joined", vault=vault, seed=SEED, trades=TRADES, shares=shares)
            time.sleep(rng.uniform(0, patience))
            status = worker.kill() if made < kills else worker.wait()
            assert status in (0, -9), worker.words
            made += status == -9
            patience *= 1.1
        assert_same(tree(vault), wanted, f"after {made} kills")
        shutil.rmtree(vault)
        finished += 1


@pytest.mark.parametrize("share", [0.3, pytest.param(0.8, marks=pytest.mark.slow)])
def test_a_run_that_ends_between_two_stages(scratch: Path, wanted: Tree, share: float) -> None:
    """Some stages have committed what is new, the others have not; more data comes meanwhile."""
    content = stock(SEED, TRADES).content()
    half = scratch / "half"
    half.mkdir()
    grow(half, content, share / 2)
    run(half)
    for count in range(len(NAMES) + 1):
        vault = scratch / f"v{count}"
        shutil.copytree(half, vault)
        grow(vault, content, share)
        run(vault, NAMES[:count])
        grow(vault, content, 1.0)
        run(vault)
        assert_same(tree(vault), wanted, f"only {NAMES[:count]} had run")


def play_killed(vault: Path, at: int, act: Callable[[], None]) -> bool:
    """Do something, killed before an operation of the disk; whether it came that far."""
    try:
        with Recorder(vault).recording(kill_at(at)):
            act()
    except KilledError:
        return True
    return False


def copy_of(half: Path, name: str) -> Path:
    """A copy of a vault, raw files as links."""
    vault = half.with_name(name)
    shutil.rmtree(vault, ignore_errors=True)
    shutil.copytree(half, vault, ignore=shutil.ignore_patterns("raw"))
    (vault / "raw").symlink_to(half / "raw")
    return vault


@pytest.mark.parametrize("stride", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_operation(scratch: Path, wanted: Tree, stride: int) -> None:
    """A run of the whole chain, dead before its n-th change of the disk, is made good."""
    half = scratch / "half"
    half.mkdir()
    grow(half, stock(SEED, TRADES).content(), 0.5)
    run(half)
    grow(half, stock(SEED, TRADES).content(), 1.0)
    at = 7
    while True:
        vault = copy_of(half, "killed")
        died = play_killed(vault, at, lambda vault=vault: run(vault))  # type: ignore[misc]
        run(vault)
        assert_same(tree(vault), wanted, f"killed before operation {at}")
        at += stride
        if not died:
            break
    assert at > 150


@pytest.mark.parametrize("stride", [67, pytest.param(1, marks=pytest.mark.slow)])
def test_power_cut(scratch: Path, wanted: Tree, stride: int) -> None:
    """Power is cut somewhere in a run of the whole chain; the next run makes it good."""
    half = scratch / "half"
    half.mkdir()
    grow(half, stock(SEED, TRADES).content(), 0.5)
    run(half)
    grow(half, stock(SEED, TRADES).content(), 1.0)
    recorder = Recorder(copy_of(half, "recorded"))
    with recorder.recording():
        run(Path(recorder.root))
    recorder.verify()
    rng = random.Random(stride)
    disk, tried = Disk(recorder.start), 0
    for at, op in enumerate(recorder.ops):
        disk.apply(op)
        if at % stride:
            continue
        for style in STYLES if stride == 1 else rng.sample(STYLES, 2):
            copy = scratch / "image"
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            (copy / "raw").symlink_to(half / "raw")
            write_image(disk.image(style, rng), copy)
            run(copy)
            assert_same(tree(copy), wanted, f"{style} after {op}")
            tried += 1
    assert tried > 5


@pytest.mark.parametrize(
    ("stage", "other"), [("book", "gaps.jsonl"), ("trades", "book_gaps.jsonl")]
)
@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_rebuild_leaves_the_other_stage_s_gaps_alone(
    scratch: Path, wanted: Tree, stage: str, other: str, stride: int
) -> None:
    """Two stages keep files in one folder; a rebuild of one, killed anywhere, is about its own."""
    whole = scratch / "whole"
    whole.mkdir()
    batch(whole, SEED, TRADES)

    def rebuild(vault: Path) -> None:
        with small_parts():
            rebuild_stage(Vault.open(vault), stages.load(stage), SWAP)

    at = 0
    while True:
        vault = copy_of(whole, "rebuilt")
        died = play_killed(vault, at, lambda vault=vault: rebuild(vault))  # type: ignore[misc]
        assert tree(vault)[f"{GAPS}/{other}"] == wanted[f"{GAPS}/{other}"], at
        rebuild(vault)
        assert_same(tree(vault), wanted, f"killed before operation {at}")
        at += stride
        if not died:
            break
    assert at > 20


def test_a_rebuild_with_other_gaps(scratch: Path, wanted: Tree) -> None:
    """The rebuilt book has no gap any more: its file goes, that of the trades stays."""
    vault = scratch / "other"
    vault.mkdir()
    batch(vault, SEED, TRADES)
    for file in sorted((vault / "raw" / "okx" / "books_perps" / SWAP.inst_id).iterdir()):
        lines = [line for line in file.read_bytes().splitlines() if b'"snapshot"' in line]
        file.write_bytes(b"\n".join(lines) + b"\n")
    with small_parts():
        for stage in stages.with_downstream("book"):
            if stage.name in NAMES:
                rebuild_stage(Vault.open(vault), stage, SWAP)
    found = tree(vault)
    assert found[f"{GAPS}/gaps.jsonl"] == wanted[f"{GAPS}/gaps.jsonl"]
    assert not found.get(f"{GAPS}/book_gaps.jsonl")
    run(vault)
    assert tree(vault) == found
