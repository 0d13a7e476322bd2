"""Guarantee 1: however the same bytes are cut into runs, every stage leaves the same files.

All of this is over `all_stages()`: a stage that is added later is held to it without a new test.
"""

from __future__ import annotations

import itertools
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
from .feeds import AWAITED as KINDS
from .feeds import MARKET, make_all
from .feedstock import CLEAN, COIN, INVERSE, PLAIN, SWAP, UNTIMED, Mix, Stock, make
from .tape import TAPE
from .world import (
    GENERATED_KINDS,
    AnyStage,
    Grain,
    Tree,
    World,
    chain,
    difference,
    grain,
    kind_of,
    only,
    root_kinds,
    sizes,
)

STAGES = [pytest.param(stage, id=stage.name) for stage in chain()]
SLOW_SHARDS = 8


def test_raw_data_can_be_made_for_every_stage() -> None:
    """A stage on a new kind of raw data needs a generator here, or the laws would not hold it."""
    for stage in stages.all_stages():
        lacking = root_kinds(stage) - GENERATED_KINDS
        assert not lacking, f"{stage.name}: make {lacking} data"


def assert_same(found: World, wanted: World) -> None:
    """Equal derived and quarantine trees."""
    message = difference(found.tree(), wanted.tree())
    assert not message, message


Positions = dict[str, int]
"""How many bytes of each feed there are."""


@dataclass(frozen=True)
class Case:
    """One way of cutting one stock, at one grain."""

    seed: int
    instrument: Instrument
    cuts: tuple[Positions, ...]
    fine: Grain
    together: bool


@dataclass(frozen=True)
class Outcome:
    """What the runs and the one run left behind."""

    case: Case
    pieces: Tree
    batch: Tree


EACH = 1
"""Cuttings of one stock."""
MARKETS = (
    *((SWAP, KINDS), (PLAIN, MARKET), (UNTIMED, KINDS), (INVERSE, MARKET)),
    *((SWAP, ("trades", "quotes")), (COIN, KINDS), (SWAP, ("trades", "books")), (SWAP, MARKET)),
    *((UNTIMED, ("trades", "books")), (PLAIN, ("books", "quotes")), (SWAP, ("trades",))),
    *((SWAP, KINDS), (UNTIMED, MARKET), (INVERSE, ("trades", "books"))),
    *((TAPE, ("trades", "quotes")), (TAPE, ("trades",)), (TAPE, ("trades", "quotes"))),
)
"""Instruments, and the feeds that they have."""


def stock_of(
    seed: int, instrument: Instrument, trades: int = 80, kinds: tuple[str, ...] = KINDS
) -> Stock:
    """Two days with all accidents; every other first day of a feed ends in a torn line."""
    mix = Mix(dirt=0.06, late=0.06, duplicate=0.06, future=0.02)
    stock = make_all(instrument, seed, trades, mix, kinds)
    for kind in sizes(stock.content()):
        names = sorted(name for name in stock.files() if kind_of(name) == kind)
        if (seed + len(kind)) % 2 and len(names) > 1:
            stock.torn[names[0]] = b'{"instId":"BTC-USDT-SWAP","tradeId":"77"'
    return stock


def positions(rng: random.Random, whole: Positions, count: int) -> tuple[Positions, ...]:
    """How far each feed has come at each cut; they come in any order, the last is the end.

    A feed has a byte from the first run on: one that appears later would need a rebuild.
    """
    found = []
    style = rng.choice(("even", "any", "one after the other"))
    order = rng.sample(list(whole), len(whole))
    shares = sorted(rng.random() for _ in range(count))
    drawn = {kind: sorted(rng.random() for _ in range(count)) for kind in whole}
    for i, share in enumerate(shares):
        here = {}
        for place, kind in enumerate(order):
            part = {"even": share, "any": drawn[kind][i]}.get(
                style, min(1.0, max(0.0, share * len(order) - place))
            )
            here[kind] = max(1, round(whole[kind] * part))
        found.append(here)
    return (*found, whole)


def cases(count: int, seed: int) -> Iterator[tuple[Stock, list[Case]]]:
    """Stocks, each with a few ways of cutting it."""
    rng = random.Random(seed)
    for index in range(0, count, EACH):
        instrument, kinds = MARKETS[index // EACH % len(MARKETS)]
        stock = stock_of(seed * 1000 + index // EACH, instrument, kinds=kinds)
        whole = sizes(stock.content())
        part_rows = rng.choice((None, 7, 16, 64))
        found = []
        for _ in range(min(EACH, count - index)):
            fine = Grain(
                block_bytes=rng.choice((None, None, rng.randrange(700, 9000))),
                commit_rows=rng.choice((None, None, rng.randrange(5, 150))),
                part_rows=part_rows,
            )
            cuts = positions(rng, whole, rng.choice((1, 1, 2, 4)))
            together = rng.random() < 0.7
            found.append(Case(seed * 1000 + index // EACH, instrument, cuts, fine, together))
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
                at = dict.fromkeys(case.cuts[0], 0)
                for cut in case.cuts:
                    for kind, end in cut.items():
                        world.grow_feed(content, kind, at[kind], end)
                    _ = world.run() if case.together else world.run_each()
                    at = cut
            yield Outcome(case, world.tree(), wanted)
            shutil.rmtree(world.root)
        shutil.rmtree(batch.root)


@pytest.fixture(scope="module")
def cuttings(new_world: NewWorld) -> list[Outcome]:
    """Random cuttings of every market, run once for all stages."""
    return list(outcomes(new_world, EACH * len(MARKETS), 1))


@pytest.mark.parametrize("stage", STAGES)
def test_random_cuttings(stage: AnyStage, cuttings: list[Outcome]) -> None:
    """Random cuttings at any byte of any feed, with restarts, tiny blocks, commits and parts."""
    rows = 0
    for outcome in cuttings:
        wanted = only(outcome.batch, stage)
        rows += len(wanted)
        message = difference(only(outcome.pieces, stage), wanted)
        assert not message, f"{outcome.case}\n{message}"
    # inventory is not among the feeds that are cut
    assert rows or stage.name == "positions", "nothing was written, so nothing was compared"


@pytest.mark.slow
def test_many_random_cuttings(new_world: NewWorld) -> None:
    """The same with 2,000 cuttings."""
    for outcome in outcomes(new_world, 2000, 2):
        message = difference(outcome.pieces, outcome.batch)
        assert not message, f"{outcome.case}\n{message}"


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SLOW_SHARDS))
def test_every_byte_of_a_file(shard: int, new_world: NewWorld) -> None:
    """Feeds of a day cut once, all at the same share, at every byte of them together."""
    mix = Mix(dirt=0.05, late=0.05, duplicate=0.05, future=0.02, quiet=0.005)
    stock = make_all(SWAP, 5, 185, mix, KINDS)
    content = {
        name: b"".join(line.data for line in lines[:200])
        for kind in KINDS
        for name, lines in sorted(stock.files().items(), key=lambda item: -len(item[1]))
        if kind_of(name) == kind
    }
    batch = new_world()
    batch.put(content)
    batch.run()
    wanted = batch.tree()
    whole = sizes(content)
    for cut in range(1 + shard, sum(whole.values()), SLOW_SHARDS):
        world = new_world()
        world.grow(content, 0, cut)
        world.run()
        for kind, size in whole.items():
            there = max(1, size * cut // sum(whole.values()))
            world.grow_feed(content, kind, there, size)
        world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"cut at {cut}\n{message}"
        shutil.rmtree(world.root)


@pytest.mark.parametrize(
    "instrument", [SWAP, PLAIN, UNTIMED, TAPE], ids=["okx", "plain", "untimed", "tape"]
)
def test_line_by_line(instrument: Instrument, new_world: NewWorld) -> None:
    """A run whenever a few lines have come: nothing is decided by what else is in a block."""
    stock = stock_of(4, instrument, 30)
    content = stock.content()
    batch, world = new_world(instrument), new_world(instrument)
    with grain(Grain(part_rows=16)):
        batch.put(content)
        batch.run()
        at = dict.fromkeys(sizes(content), 1)
        for kind in at:
            world.grow_feed(content, kind, 0, 1)
        lines = [(kind_of(name), line) for name, all_ in stock.files().items() for line in all_]
        lines.sort(key=lambda pair: pair[1].ts)  # about as they came
        for number, (kind, line) in enumerate(lines):
            world.grow_feed(content, kind, at[kind], at[kind] + len(line.data))
            at[kind] += len(line.data)
            if number % 3 == 0:
                world.run()
        for kind, end in sizes(content).items():
            world.grow_feed(content, kind, at[kind], end)
        world.run()
    assert_same(world, batch)


@pytest.mark.parametrize(
    "instrument", [SWAP, UNTIMED, COIN, TAPE], ids=["okx", "binance", "coinbase", "tape"]
)
def test_every_order_of_arrival(instrument: Instrument, new_world: NewWorld) -> None:
    """Whole feeds that come one after the other, in every order; of the others a byte is there."""
    stock = stock_of(8, instrument)
    content = stock.content()
    batch = new_world(instrument)
    batch.put(content)
    batch.run()
    for order in itertools.permutations(sizes(content)):
        world = new_world(instrument)
        for kind in order:
            world.grow_feed(content, kind, 0, 1)
        for kind in order:
            world.grow_feed(content, kind, 1, sizes(content)[kind])
            world.run()
        message = difference(world.tree(), batch.tree())
        assert not message, f"{order}\n{message}"


def test_byte_by_byte_in_one_vault(new_world: NewWorld) -> None:
    """A dozen lines that arrive a byte or a few at a time, with a run of a raw stage after each."""
    stock = stock_of(6, SWAP, 30)
    content = {name: data[:1400] for name, data in stock.content().items()}
    batch, world = new_world(), new_world()
    batch.put(content)
    batch.run()
    for stage in world.chain:
        if stage.raw_kind:
            step = 1 if stage.raw_kind == "trades" else 5
            for at in range(0, sizes(content)[stage.raw_kind], step):
                world.grow_feed(content, stage.raw_kind, at, at + step)
                world.run_one(stage)
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
    stock = stock_of(3, SWAP, 30)
    content = stock.content()
    size = sum(map(len, content.values()))
    batch = new_world()
    with grain(replace(fine, block_bytes=None, commit_rows=None)):
        batch.put(content)
        batch.run()
    wanted = batch.tree()
    step = 7 if fine.commit_rows is None else 61
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
    batch.chain = batch.chain[:1]
    batch.put(content)
    with grain(Grain(block_bytes=300)):
        batch.run()
        wanted = batch.tree()
        assert b'"too long"' in b"".join(wanted.values())
    fine = Grain(block_bytes=300, commit_rows=1)
    for after in range(10_000):
        world = new_world()
        world.chain = batch.chain
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
    assert len(before) > len(world.chain)
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
