"""Guarantee 7 and the rebuild: changed parameters are refused, a rebuild makes it as if new."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest

from pipeline import stages
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.errors import DataError, StateError
from pipeline.instrument import Instrument

from .conftest import NewWorld
from .feeds import make_all
from .feedstock import CLEAN, LATE_ONLY, SWAP, Line, Mix, Stock, in_their_minutes, make
from .world import AnyStage, Grain, Tree, World, chain, difference, grain, home, only, root_kinds

BUSY = Mix(dirt=0.05, late=0.05, duplicate=0.05, gap=0.05)


def changed(stage: AnyStage, name: str) -> Any:
    """Another valid value for a parameter: the first that its default and type suggest."""
    old = getattr(stage.params(), name)
    for new in (*choices(typing.get_type_hints(stage.params)[name]), *neighbours(old)):
        try:
            made = msgspec.convert({name: new}, stage.params, strict=False)
        except msgspec.ValidationError:
            continue
        if getattr(made, name) != old:
            return new
    pytest.fail(f"say here how to change {stage.name}.{name}")


def choices(kind: Any) -> Iterator[Any]:
    """What a type says about its values: those of a Literal, or anything that is not None."""
    for each in typing.get_args(kind):
        if typing.get_origin(kind) is typing.Literal:
            yield each
        elif typing.get_origin(each) is typing.Literal:
            yield from choices(each)
        elif each in (int, float, Decimal):
            yield each(7)


def neighbours(old: Any) -> Iterator[Any]:
    """Values near a default."""
    if isinstance(old, bool):
        yield not old
    elif isinstance(old, int):
        yield from (old + 1, old - 1)
    elif isinstance(old, Decimal | float):
        yield from (old * 2, old / 2, old + 1)
    elif isinstance(old, dict):
        yield {"rising": {"direction": "LONG", "when": ["bars.close > bars.open"]}}
    elif isinstance(old, tuple):
        yield from (tuple(each * 2 for each in old), tuple(each / 2 for each in old))


def toml(value: Any) -> str:
    """A value as `flowvault.toml` writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


QUICK = 1
"""Parameters of each stage tried in the quick suite; the slow one has them all."""
PARAMS = [
    pytest.param(
        stage, name, id=f"{stage.name}.{name}", marks=[pytest.mark.slow] if place >= QUICK else []
    )
    for stage in chain()
    for place, name in enumerate(stage.params.__struct_fields__)
]


def seeds(first: int, end: int, *, quick: int) -> list[Any]:
    """Seeds, of which all but the first few are for the slow suite."""
    return [
        pytest.param(seed, marks=[] if seed < first + quick else [pytest.mark.slow])
        for seed in range(first, end)
    ]


def assert_same(found: Tree, wanted: Tree) -> None:
    """Equal trees."""
    message = difference(found, wanted)
    assert not message, message


def assert_refused(world: World, stage: AnyStage, *words: str) -> None:
    """The run ends with status 65 and the word rebuild, and changes nothing."""
    before = world.stamps()
    with pytest.raises(StateError) as caught:
        world.run_one(stage)
    assert caught.value.status == 65
    for word in ("rebuild", stage.name, world.instrument.inst_id, *words):
        assert word in str(caught.value)
    assert world.stamps() == before


@pytest.mark.parametrize(("stage", "name"), PARAMS)
def test_a_changed_parameter_needs_a_rebuild_and_gets_one(
    stage: AnyStage, name: str, new_world: NewWorld
) -> None:
    """Refused with 65 and untouched; after the rebuild the rows are a fresh batch's under it."""
    mix = dataclasses.replace(CLEAN, gap=0.05)
    instrument = home(stage)
    only_trades = root_kinds(stage) == {"trades"} and instrument == SWAP
    stock = make(SWAP, 21, 250, mix) if only_trades else make_all(instrument, 20, 80, mix)
    old, fresh = new_world(instrument), new_world(instrument)
    text = f"[{stage.name}]\n{name} = {toml(changed(stage, name))}\n"
    for world in (old, fresh):
        world.chain = stages.with_upstream([stage.name])
        world.put(stock.content())
    old.run()
    old.settings(text)
    assert_refused(old, stage, name)
    old.rebuild(stage.name)
    fresh.settings(text)
    fresh.run()
    assert_same(old.tree(), fresh.tree())
    before = old.stamps()
    old.run()
    assert old.stamps() == before


def test_a_parameter_of_another_instrument_is_no_change(new_world: NewWorld) -> None:
    """A table for one instrument leaves the others alone; one for this one does not."""
    world = new_world()
    world.put(make(SWAP, 22, 30).content())
    world.run()
    world.settings('[volume."okx/perps/ETH-USDT-SWAP"]\nwindow = 7\n')
    world.run()
    world.settings('[volume."okx/perps/BTC-USDT-SWAP"]\nwindow = 7\n')
    assert_refused(world, stages.load("volume"), "window", "100 -> 7")


def test_writing_a_default_down_is_no_change(new_world: NewWorld) -> None:
    """A parameter that says what was so anyway changes nothing, however it is spelt."""
    world = new_world()
    world.put(make(SWAP, 22, 30).content())
    world.run()
    world.settings("[volume]\nwindow = 100\nwhale_notional = 100000\nabsorption_ratio = 2\n")
    world.run()


@pytest.fixture(scope="module")
def up_to_date(new_world: NewWorld) -> Callable[[Instrument], World]:
    """By instrument, a vault in which every stage has run; whoever looks must not change it."""

    @cache
    def run(instrument: Instrument) -> World:
        world = new_world(instrument)
        world.put(make_all(instrument, 22, 30).content())
        world.run()
        return world

    return run


@pytest.mark.parametrize("stage", [pytest.param(s, id=s.name) for s in chain()])
def test_a_new_version_of_a_stage_needs_a_rebuild(
    stage: AnyStage, up_to_date: Callable[[Instrument], World]
) -> None:
    """The code's version is part of the state: other code does not go on from its carry."""
    world = up_to_date(home(stage))
    before = world.stamps()
    newer = dataclasses.replace(stage, version=stage.version + 1)
    with pytest.raises(StateError, match="rebuild") as caught:
        run_stage(Vault.open(world.root), newer, world.instrument)
    assert caught.value.status == 65
    assert f"version {stage.version}" in str(caught.value)
    assert world.stamps() == before


def test_a_changed_contract_size_needs_a_rebuild(new_world: NewWorld) -> None:
    """Rows in base units stand on the contract size, so it is guarded like a parameter."""
    world = new_world()
    world.put(make_all(SWAP, 22, 30).content())
    world.run()
    entry = '["okx/perps/BTC-USDT-SWAP"]\nctVal = "0.1"\nctMult = "1"\nctType = "linear"\n'
    (world.root / "instruments.toml").write_text(entry)
    assert_refused(world, chain()[0], "0.01", "0.1")
    world.rebuild()
    world.run()


def test_what_stands_on_a_rebuilt_layer_must_be_rebuilt_too(new_world: NewWorld) -> None:
    """Rebuilding only the upper stage is noticed by every one that reads it directly."""
    world = new_world()
    world.put(make_all(SWAP, 22, 30).content())
    world.run()
    first = chain()[0]
    rebuild_stage(Vault.open(world.root), first, SWAP)
    for stage in world.chain:
        if first in stages.upstreams(stage):
            assert_refused(world, stage)


@pytest.mark.parametrize("seed", [31, pytest.param(32, marks=pytest.mark.slow)])
def test_a_rebuild_without_late_trades_gives_the_same_bytes(seed: int, new_world: NewWorld) -> None:
    """Dirt, duplicates, gaps, held and future records: a rebuild is the run again."""
    world = new_world()
    mix = Mix(dirt=0.05, late=0, jitter=0, duplicate=0.05, future=0.0, gap=0.05)
    world.put(make_all(SWAP, seed, 150, mix).content())
    with grain(Grain(part_rows=30)):
        summary = world.run()
        assert summary["trades"].counts.late == 0
        before = world.tree()
        world.rebuild()
        assert_same(world.tree(), before)
        world.rebuild()
        assert_same(world.tree(), before)
    stamps = world.stamps()
    world.run()
    assert world.stamps() == stamps


def reordered(lines: list[Line]) -> bytes:
    """A file in which nothing comes late, by hand."""
    return b"".join(line.data for line in in_their_minutes(lines))


@pytest.mark.parametrize("seed", seeds(41, 47, quick=3))
def test_a_rebuild_puts_late_trades_into_their_minute(seed: int, new_world: NewWorld) -> None:
    """As a batch over a file in which each late line stands at the end of its minute."""
    stock = make(SWAP, seed, 150, LATE_ONLY)
    lines = stock.lines()
    late = sum(line.kind == "late" for line in lines)
    assert late > 10
    world, wanted = new_world(), new_world()
    world.put({"2024-03-05": b"".join(line.data for line in lines)})
    wanted.put({"2024-03-05": reordered(lines)})
    with grain(Grain(part_rows=30)):
        first = world.run()
        assert first["trades"].counts.late == late
        assert wanted.run()["trades"].counts.late == 0
        again = world.rebuild()
    assert again["trades"].counts.late == 0
    assert again["trades"].counts.rows_out == first["trades"].counts.rows_out + late
    assert_same(world.tree("derived"), wanted.tree("derived"))
    assert not world.tree("quarantine")


@pytest.mark.parametrize("seed", seeds(51, 55, quick=2))
@pytest.mark.parametrize("pieces", [1, 4])
def test_runs_go_on_from_a_rebuild(seed: int, pieces: int, new_world: NewWorld) -> None:
    """New data behind a rebuild: rows as if the first part had come in order; later ones late."""
    lines = make(SWAP, seed, 160, LATE_ONLY).lines()
    half = len(lines) // 2
    world, wanted = new_world(), new_world()
    path = world.raw / "2024-03-05.jsonl"
    with grain(Grain(part_rows=30)):
        path.write_bytes(b"".join(line.data for line in lines[:half]))
        world.run()
        world.rebuild()
        size = -(-(len(lines) - half) // pieces)
        for start in range(half, len(lines), size):
            with path.open("ab") as stream:
                stream.write(b"".join(line.data for line in lines[start : start + size]))
            world.run()
        rest = b"".join(line.data for line in lines[half:])
        wanted.put({"2024-03-05": reordered(lines[:half]) + rest})
        wanted.run()
    assert_same(world.tree("derived"), wanted.tree("derived"))


def okx(number: int, ts: int, price: str) -> bytes:
    """One flat line; `ts` in seconds after 10:00:00."""
    return (
        f'{{"instId":"BTC-USDT-SWAP","tradeId":"{number}","px":"{price}","sz":"100",'
        f'"side":"buy","ts":"{1709719200000 + ts * 1000}"}}\n'
    ).encode()


def bars(world: World) -> list[tuple[Any, ...]]:
    """Minute, open, high, low, close, trades and gaps of the one-minute bars."""
    layer = stages.layers()["bars_1m"][0]
    rows = [msgspec.json.decode(line) for line in world.lines(layer)]
    names = ("open", "high", "low", "close", "trades", "gaps")
    return [(row["timestamp_utc"][14:16], *(row[name] for name in names)) for row in rows]


def test_late_trades_of_a_rebuild_by_hand(new_world: NewWorld) -> None:
    """Two late trades of 10:00 keep the order of the file, and fill the gap their ids had left."""
    world = new_world()
    lines = [
        *(okx(1, 5, "100"), okx(2, 50, "101"), okx(5, 61, "102")),  # 3 and 4 are missing here
        *(okx(4, 40, "99"), okx(3, 30, "98"), okx(6, 100, "103"), okx(7, 125, "104")),
    ]
    world.put({"2024-03-06": b"".join(lines)})
    first = world.run()
    assert (first["trades"].counts.late, first["trades"].counts.gaps) == (2, 1)
    assert bars(world) == [("00", 100, 101, 100, 101, 2, 0), ("01", 102, 103, 102, 103, 2, 1)]
    again = world.rebuild()
    assert (again["trades"].counts.late, again["trades"].counts.gaps) == (0, 0)
    assert bars(world) == [("00", 100, 101, 98, 98, 4, 0), ("01", 102, 103, 102, 103, 2, 0)]
    trades = world.frame(stages.layers()["trades"][0])
    assert trades["trade_id"].to_list() == ["1", "2", "4", "3", "5", "6", "7"]
    assert trades["seq"].to_list() == list(range(7))
    assert not trades["gap_before"].any()
    gaps = stages.layers()["gaps"][0]
    assert world.lines(gaps) == []


def test_duplicates_of_the_whole_window_are_known_after_a_rebuild(new_world: NewWorld) -> None:
    """Late trades that a rebuild reinstates do not push other ids out of the window."""
    world = new_world()
    world.settings("[trades]\ndedup_window = 6\n")
    head = [
        *(okx(11, 1, "100"), okx(12, 2, "100"), okx(13, 61, "100")),
        *(okx(1, 30, "99"), okx(2, 31, "99"), okx(14, 62, "100")),
    ]
    path = world.raw / "2024-03-06.jsonl"
    path.write_bytes(b"".join(head))
    world.run()
    again = world.rebuild()
    assert again["trades"].counts.rows_out == 6
    with path.open("ab") as stream:
        stream.write(okx(11, 63, "100"))  # sixth of the last six good trades: a duplicate
    assert world.run()["trades"].counts.duplicate == 1
    with path.open("ab") as stream:
        stream.write(okx(2, 64, "100") + okx(14, 64, "100"))
    assert world.run()["trades"].counts.duplicate == 2


def test_a_rebuild_refuses_to_lose_rows_whose_raw_file_is_gone(new_world: NewWorld) -> None:
    """A consumed day that has vanished stops a rebuild, unless the user says it may be lost."""
    world = new_world()
    content = make(SWAP, 61, 120, CLEAN).content()
    world.put(content)
    world.run()
    day = min(content)
    (world.raw / f"{day}.jsonl").unlink()
    world.run()
    before = world.stamps()
    with pytest.raises(DataError, match="--allow-missing"):
        world.rebuild()
    assert world.stamps() == before
    world.rebuild(allow_missing=True)
    wanted = new_world()
    wanted.put({each: data for each, data in content.items() if each != day})
    wanted.run()
    assert_same(world.tree("derived"), wanted.tree("derived"))


def test_a_rebuild_mends_a_raw_file_that_was_changed(new_world: NewWorld) -> None:
    """Refused until then, with the command to type; afterwards as if it had always been so."""
    world, wanted = new_world(), new_world()
    stock: Stock = make(SWAP, 62, 120, BUSY)
    world.put(stock.content())
    world.run()
    day = min(stock.days)
    shorter = stock.content() | {day: stock.content()[day][200:]}
    world.put(shorter)
    for stage in world.chain:
        if stage.raw_kind == "trades":
            with pytest.raises(DataError, match="rebuild") as caught:
                world.run_one(stage)
            assert caught.value.status == 65
    world.rebuild()
    wanted.put(shorter)
    wanted.run()
    wanted.rebuild()
    for stage in world.chain:
        assert_same(only(world.tree(), stage), only(wanted.tree(), stage))
