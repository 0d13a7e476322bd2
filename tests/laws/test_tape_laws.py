"""What the laws of the other files do not try on tapes: causality, dying, sizes."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest

from pipeline import stages

from .conftest import NewWorld
from .feedstock import Line, Mix
from .tape import TAPE, make_tape
from .test_dying import outlived
from .world import Grain, World

BUSY = Mix(dirt=0.05, late=0.05, duplicate=0.05, future=0.02)
NAME = "2024-03-29"
"""One plain file for all days: nothing but the records tells how far it has come."""


def after(moment: int, days: dict[str, list[Line]]) -> list[Line]:
    """The lines that came later."""
    return [line for lines in days.values() for line in lines if line.ts > moment]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_row_does_not_change_when_anything_after_it_does(
    share: float, new_world: NewWorld
) -> None:
    """Rewrite all that follows a moment: what had closed by then stays, row for row."""
    whole, rest = make_tape(13, 300, BUSY), make_tape(14, 300, BUSY)
    lines = whole.lines()
    count = int(len(lines) * share)
    moment = max(line.ts for line in lines[:count])
    quotes = [line for day in whole.others["quotes"].values() for line in day if line.ts <= moment]
    worlds = []
    for trade_tail, quote_tail in (
        ([], []),
        (lines[count:], after(moment, whole.others["quotes"])),
        (after(moment, rest.days), after(moment, rest.others["quotes"])),
    ):
        world = new_world(TAPE)
        world.put({NAME: b"".join(line.data for line in [*lines[:count], *trade_tail])})
        tail = [line.data.replace(b"50.", b"70.") for line in quote_tail]
        world.put({f"quotes/{NAME}": b"".join([*(line.data for line in quotes), *tail])})
        world.run()
        worlds.append(world)
    early, *later = worlds
    for stage in early.chain:
        for layer in stage.layers:
            then = early.rows(layer)
            assert then, layer.name
            for world in later:
                now = world.rows(layer)
                assert len(now) > len(then), layer.name
                assert now[: len(then)] == then, layer.name
            if layer.span_us:
                mark = early.state(stage).watermark_us
                assert mark is not None
                ends = pl.col("ts").dt.timestamp("us") + layer.span_us
                closed = later[0].frame(layer).filter(ends <= mark).rows()
                assert closed == then, f"{layer.name}: not all had closed"


def test_dying_at_every_change_of_the_disk(new_world: NewWorld) -> None:
    """A run may die anywhere; the next one, with not a byte more of raw data, makes it good."""
    content = make_tape(3, 60, BUSY).content()
    fine = Grain(block_bytes=3000, commit_rows=40, part_rows=16)
    assert outlived(partial(new_world, TAPE), content, fine, range(0, 100_000, 29)) > 50


@pytest.fixture(scope="module")
def single_and_double(new_world: NewWorld) -> tuple[World, World]:
    """The same tape with all sizes once and twice as large, and blocks with them."""
    found = []
    for factor in (1, 2):
        world = new_world(TAPE)
        world.put(make_tape(15, 300, Mix(size_factor=factor)).content())
        shares, dollars = 10_000 * factor, 200_000 * factor
        world.settings(f"[metrics_daily]\nblock_shares = {shares}\nblock_notional = {dollars}\n")
        world.run()
        found.append(world)
    return found[0], found[1]


DOUBLES = (
    *("total_buy_volume", "total_sell_volume", "total_neutral_volume", "avg_trade_size"),
    *("total_volume", "block_trade_volume", "size"),
)
HALVES = ("kyles_lambda", "kyles_lambda_se")


@pytest.mark.parametrize(
    "name", ["classified", "micro_trade_classification", "micro_metrics_daily"]
)
def test_twice_the_size_is_twice_the_volume(
    name: str, single_and_double: tuple[World, World]
) -> None:
    """Volumes double to the last digit, impact per dollar halves; all else stays."""
    layer = stages.layers()[name][0]
    one, two = (world.frame(layer).to_dicts() for world in single_and_double)
    assert len(one) == len(two) > 3
    for left, right in zip(one, two, strict=True):
        for key, value in left.items():
            if key in DOUBLES:
                assert right[key] == 2 * value, key
            elif isinstance(value, float):
                factor = 0.5 if key in HALVES else 1
                assert right[key] == pytest.approx(factor * value, rel=1e-12, abs=1e-12), key
            else:
                assert right[key] == value, key
