"""Guarantee 1, feeds that arrive line by line, one after the other or in any order."""

from __future__ import annotations

import itertools

import pytest

from pipeline.instrument import Instrument

from .conftest import NewWorld
from .feeds import AWAITED, MARKET, stock_of
from .feedstock import COIN, PLAIN, SWAP, UNTIMED
from .tape import TAPE
from .world import Grain, assert_same, difference, grain, kind_of, sizes


@pytest.mark.parametrize(
    "instrument", [SWAP, PLAIN, UNTIMED, TAPE], ids=["okx", "plain", "untimed", "tape"]
)
@pytest.mark.parametrize(
    "lines_a_run", [20, *(pytest.param(few, marks=pytest.mark.slow) for few in (3, 6))]
)
def test_line_by_line(instrument: Instrument, lines_a_run: int, new_world: NewWorld) -> None:
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
            if number % lines_a_run == 0:
                world.run()
        for kind, end in sizes(content).items():
            world.grow_feed(content, kind, at[kind], end)
        world.run()
    assert_same(world, batch)


@pytest.mark.parametrize(
    ("instrument", "kinds", "every"),
    [
        pytest.param(SWAP, AWAITED, False, id="okx"),
        pytest.param(TAPE, AWAITED, False, id="tape"),
        pytest.param(UNTIMED, MARKET, False, id="binance"),
        pytest.param(COIN, MARKET, False, id="coinbase"),
        *(
            pytest.param(each, kinds, every, marks=pytest.mark.slow)
            for each, kinds, every in (
                *((UNTIMED, AWAITED, False), (COIN, AWAITED, False)),
                *((each, MARKET, True) for each in (SWAP, UNTIMED, COIN, TAPE)),
            )
        ),
    ],
)
def test_order_of_arrival(
    instrument: Instrument, kinds: tuple[str, ...], every: bool, new_world: NewWorld
) -> None:
    """Whole feeds that come one after the other; of the others a byte is there.

    So that each comes first once and last once; the feeds of the market in every order.
    """
    stock = stock_of(8, instrument, kinds=kinds)
    content = stock.content()
    batch = new_world(instrument)
    batch.put(content)
    batch.run()
    found = tuple(sizes(content))
    turned = [found[place:] + found[:place] for place in range(len(found))]
    for order in itertools.permutations(found) if every else turned:
        world = new_world(instrument)
        for kind in order:
            world.grow_feed(content, kind, 0, 1)
        for kind in order:
            world.grow_feed(content, kind, 1, sizes(content)[kind])
            world.run()
        message = difference(world.tree(), batch.tree())
        assert not message, f"{order}\n{message}"


def test_byte_by_byte_in_one_vault(new_world: NewWorld) -> None:
    """A few lines that arrive a byte or a few at a time, with a run of a raw stage after each."""
    stock = stock_of(6, SWAP, 30)
    content = {name: data[:900] for name, data in stock.content().items()}
    batch, world = new_world(), new_world()
    batch.put(content)
    batch.run()
    for stage in world.chain:
        if stage.raw_kind in sizes(content):
            step = 1 if stage.raw_kind == "trades" else 5
            for at in range(0, sizes(content)[stage.raw_kind], step):
                world.grow_feed(content, stage.raw_kind, at, at + step)
                world.run_one(stage)
    world.run()
    assert_same(world, batch)
