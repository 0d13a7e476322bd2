"""Guarantee 1: however the same bytes are cut into runs, every stage leaves the same files.

All of this is over `all_stages()`: a stage that is added later is held to it without a new test.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from pipeline import stages
from pipeline.instrument import Instrument

from .conftest import NewWorld
from .feeds import AWAITED as KINDS
from .feeds import MARKET, make_all, stock_of
from .feedstock import COIN, INVERSE, PLAIN, SWAP, UNTIMED, Mix, Stock
from .tape import TAPE
from .world import (
    GENERATED_KINDS,
    AnyStage,
    Grain,
    Tree,
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
Markets = Sequence[tuple[Instrument, tuple[str, ...]]]
WHOLLY_SLOW = ((SWAP, MARKET), (UNTIMED, MARKET), (INVERSE, MARKET), (UNTIMED, ("trades", "books")))
"""Whose feeds, and whose market with other feeds, are among the others."""
QUICK = tuple(each for each in dict.fromkeys(MARKETS) if each not in WHOLLY_SLOW)
"""Each of the others once."""


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


def cases(
    count: int, seed: int, markets: Markets, trades: int
) -> Iterator[tuple[Stock, list[Case]]]:
    """Stocks, each with a few ways of cutting it."""
    rng = random.Random(seed)
    for index in range(0, count, EACH):
        instrument, kinds = markets[index // EACH % len(markets)]
        stock = stock_of(seed * 1000 + index // EACH, instrument, trades, kinds)
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


def outcomes(
    new_world: NewWorld, count: int, seed: int, markets: Markets = MARKETS, trades: int = 80
) -> Iterator[Outcome]:
    """Run every case, and its stock once in one go."""
    for stock, found in cases(count, seed, markets, trades):
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
    return list(outcomes(new_world, EACH * len(QUICK), 1, QUICK, trades=50))


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
