"""Guarantee 1: however the same bytes are cut into runs, every stage leaves the same files.

All of this is over `all_stages()`: a stage that is added later is held to it without a new test.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline import stages
from pipeline.engine import disk
from pipeline.instrument import Instrument

from .conftest import NewWorld
from .feedstock import CLEAN, INVERSE, PLAIN, SWAP, Mix, Stock, make
from .world import (
    GENERATED_KINDS,
    AnyStage,
    Grain,
    Tree,
    World,
    chain,
    difference,
    grain,
    only,
    root_kinds,
)

STAGES = [pytest.param(stage, id=stage.name) for stage in stages.all_stages()]
SLOW_SHARDS = 8


def test_raw_data_can_be_made_for_every_stage() -> None:
    """A stage on a new kind of raw data needs a generator here, or the laws would not hold it."""
    for stage in chain():
        lacking = root_kinds(stage) - GENERATED_KINDS
        assert not lacking, f"{stage.name}: make {lacking} data"


def assert_same(found: World, wanted: World) -> None:
    """Equal derived and quarantine trees."""
    message = difference(found.tree(), wanted.tree())
    assert not message, message


@dataclass(frozen=True)
class Case:
    """One way of cutting one stock, at one grain."""

    seed: int
    instrument: Instrument
    cuts: tuple[int, ...]
    fine: Grain
    together: bool


@dataclass(frozen=True)
class Outcome:
    """What the runs and the one run left behind."""

    case: Case
    pieces: Tree
    batch: Tree


INSTRUMENTS = (SWAP, PLAIN, SWAP, INVERSE)


def stock_of(seed: int, instrument: Instrument, trades: int = 110) -> Stock:
    """Two days with all accidents; every other first day ends in a torn line."""
    stock = make(instrument, seed, trades, Mix(dirt=0.06, late=0.06, duplicate=0.06, future=0.02))
    first = next(iter(stock.days))
    if seed % 2:
        stock.torn[first] = b'{"instId":"BTC-USDT-SWAP","tradeId":"77"'
    return stock


def cases(count: int, seed: int) -> Iterator[tuple[Stock, list[Case]]]:
    """Stocks, each with a few ways of cutting it."""
    rng = random.Random(seed)
    for index in range(0, count, 4):
        instrument = INSTRUMENTS[index // 4 % len(INSTRUMENTS)]
        stock = stock_of(seed * 1000 + index // 4, instrument)
        size = sum(map(len, stock.content().values()))
        part_rows = rng.choice((None, 7, 16, 64))
        found = []
        for _ in range(min(4, count - index)):
            cuts = sorted(rng.randrange(size + 1) for _ in range(rng.choice((1, 1, 2, 4))))
            fine = Grain(
                block_bytes=rng.choice((None, None, rng.randrange(300, 5000))),
                commit_rows=rng.choice((None, None, rng.randrange(1, 40))),
                part_rows=part_rows,
            )
            together = rng.random() < 0.7
            found.append(Case(seed * 1000 + index // 4, instrument, tuple(cuts), fine, together))
        yield stock, found


def outcomes(new_world: NewWorld, count: int, seed: int) -> Iterator[Outcome]:
    """Run every case, and its stock once in one go."""
    for stock, found in cases(count, seed):
        content = stock.content()
        with grain(Grain(part_rows=found[0].fine.part_rows)):
            batch = new_world(stock.instrument)
            batch.put(content)
            batch.run()
            wanted = batch.tree()
        for case in found:
            world = new_world(stock.instrument)
            with grain(case.fine):
                at = 0
                for cut in (*case.cuts, sum(map(len, content.values()))):
                    world.grow(content, at, cut)
                    _ = world.run() if case.together else world.run_each()
                    at = cut
            yield Outcome(case, world.tree(), wanted)
            shutil.rmtree(world.root)
        shutil.rmtree(batch.root)


@pytest.fixture(scope="module")
def hundred(new_world: NewWorld) -> list[Outcome]:
    """A hundred random cuttings, run once for all stages."""
    return list(outcomes(new_world, 100, 1))


@pytest.mark.parametrize("stage", STAGES)
def test_random_cuttings(stage: AnyStage, hundred: list[Outcome]) -> None:
    """A hundred random cuttings at any byte, with restarts, tiny blocks, commits and parts."""
    rows = 0
    for outcome in hundred:
        wanted = only(outcome.batch, stage)
        rows += len(wanted)
        message = difference(only(outcome.pieces, stage), wanted)
        assert not message, f"{outcome.case}\n{message}"
    assert rows, "the batch run wrote nothing, so nothing was compared"


@pytest.mark.slow
def test_many_random_cuttings(new_world: NewWorld) -> None:
    """The same with 2,000 cuttings."""
    for outcome in outcomes(new_world, 2000, 2):
        message = difference(outcome.pieces, outcome.batch)
        assert not message, f"{outcome.case}\n{message}"


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SLOW_SHARDS))
def test_every_byte_of_a_file(shard: int, new_world: NewWorld) -> None:
    """A file of 200 lines cut once, at every one of its bytes."""
    stock = make(SWAP, 5, 185, Mix(dirt=0.05, late=0.05, duplicate=0.05, future=0.02, quiet=0.005))
    day = max(stock.days, key=lambda each: len(stock.days[each]))
    data = b"".join(line.data for line in stock.lines()[:200])
    content = {day: data}
    batch = new_world()
    batch.put(content)
    batch.run()
    wanted = batch.tree()
    for cut in range(shard, len(data), SLOW_SHARDS):
        world = new_world()
        world.grow(content, 0, cut)
        world.run()
        world.grow(content, cut, len(data))
        world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"cut at {cut}\n{message}"
        shutil.rmtree(world.root)


@pytest.mark.parametrize("instrument", [SWAP, PLAIN], ids=["okx", "plain"])
def test_line_by_line(instrument: Instrument, new_world: NewWorld) -> None:
    """One run after every line: nothing is decided by what else is in a block."""
    stock = stock_of(4, instrument, 80)
    content = stock.content()
    batch, world = new_world(instrument), new_world(instrument)
    fine = Grain(part_rows=16)
    with grain(fine):
        batch.put(content)
        batch.run()
        at = 0
        for line in stock.lines():
            world.grow(content, at, at + len(line.data))
            at += len(line.data)
            world.run()
        world.grow(content, at, sum(map(len, content.values())))
        world.run()
    assert_same(world, batch)


def test_byte_by_byte_in_one_vault(new_world: NewWorld) -> None:
    """A dozen lines that arrive one byte at a time, with a run of the first stage after each."""
    stock = stock_of(6, SWAP, 30)
    content = {day: data[:1400] for day, data in stock.content().items()}
    batch, world = new_world(), new_world()
    batch.put(content)
    batch.run()
    first = chain()[0]
    for at in range(sum(map(len, content.values()))):
        world.grow(content, at, at + 1)
        world.run_one(first)
    world.run()
    assert_same(world, batch)


# -- dying in between ------------------------------------------------------


class Died(BaseException):
    """The process is gone: nothing after it happens, not even error handling."""


def dying(after: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Make the process die at its n-th change of the disk."""
    left = [after]

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("write_at", "truncate", "replace", "remove", "write_whole"):
            original = getattr(disk, name)

            def counted(*arguments: object, original: Callable[..., object] = original) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Died
                return original(*arguments)

            monkeypatch.setattr(disk, name, counted)

    return patch


def run_and_die(world: World, after: int) -> bool:
    """Run until the n-th change of the disk; False if it came to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        dying(after)(patch)
        try:
            world.run()
        except Died:
            return True
    return False


@pytest.mark.parametrize(
    "fine",
    [Grain(part_rows=16), Grain(block_bytes=1500, commit_rows=1, part_rows=16)],
    ids=["one commit", "many commits"],
)
def test_dying_at_every_change_of_the_disk(fine: Grain, new_world: NewWorld) -> None:
    """A run may die anywhere; the next one, with not a byte more of raw data, makes it good."""
    stock = stock_of(3, SWAP, 60)
    content = stock.content()
    size = sum(map(len, content.values()))
    batch = new_world()
    with grain(replace(fine, block_bytes=None, commit_rows=None)):
        batch.put(content)
        batch.run()
    wanted = batch.tree()
    step = 3 if fine.commit_rows is None else 23
    for after in range(0, 100_000, step):
        world = new_world()
        with grain(fine):
            world.grow(content, 0, size // 2)
            world.run()
            world.grow(content, size // 2, size)
            died = run_and_die(world, after)
            world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"died at change {after} of the disk\n{message}"
        shutil.rmtree(world.root)
        if not died:
            assert after > 10
            return
    pytest.fail("never came to an end")


def test_a_long_line_is_counted_once_although_the_run_dies_behind_it(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that holds a long line's reject also holds the place behind it."""
    from pipeline.engine import feed

    monkeypatch.setattr(feed, "MAX_LINE_BYTES", 600)
    monkeypatch.setattr(feed, "_KEEP_OF_LONG_LINE", 100)
    lines = [line.data for line in make(SWAP, 1, 6, replace(CLEAN, duplicate=0)).lines()]
    content = {"2024-03-06": b"".join([*lines[:3], b"x" * 900 + b"\n", *lines[3:]])}
    batch = new_world()
    batch.put(content)
    with grain(Grain(block_bytes=300)):
        batch.run()
        wanted = batch.tree()
        assert b'"too long"' in b"".join(wanted.values())
    fine = Grain(block_bytes=300, commit_rows=1)
    for after in range(10_000):
        world = new_world()
        world.put(content)
        with grain(fine):
            died = run_and_die(world, after)
            world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"died at change {after} of the disk\n{message}"
        if not died:
            break


# -- nothing to do ---------------------------------------------------------


@pytest.mark.parametrize("ending", ["whole", "torn", "held"])
def test_a_run_without_new_data_changes_nothing(ending: str, new_world: NewWorld) -> None:
    """Not a byte, not a time stamp, not an inode of derived, state or quarantine."""
    stock = stock_of(2, SWAP)
    last = list(stock.days)[-1]
    if ending == "torn":
        stock.torn[last] = b'{"instId":'
    if ending == "held":
        lines = stock.days[last]
        newest = max(line.ts for line in lines)
        ahead = make(SWAP, 9, 1, CLEAN).lines()[0].data
        number = ahead.replace(b"1000001", b"5000000")
        stamp = str(newest + 400_000).encode()
        old = [part for part in number.split(b'"') if part.isdigit() and len(part) == 13]
        stock.days[last] = [*lines, replace(lines[0], data=number.replace(old[0], stamp))]
    world = new_world()
    world.put(stock.content())
    world.run()
    before = world.stamps()
    assert len(before) > len(chain())
    for _ in range(2):
        world.run()
        assert world.stamps() == before


def test_looking_at_a_touched_file_changes_nothing(new_world: NewWorld) -> None:
    """A new time stamp on the same bytes (a backup tool, a copy) is no new data."""
    world = new_world()
    world.put(stock_of(2, SWAP).content())
    world.run()
    before = {path: data for path, (_, _, data) in world.stamps().items() if "state" not in path}
    for path in sorted(Path(world.raw).iterdir()):
        path.touch()
    world.run()
    after = {path: data for path, (_, _, data) in world.stamps().items() if "state" not in path}
    assert after == before
