"""What every stage promises besides cutting: its rows, its carry, its purity, causality, scale."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument
from pipeline.layers import HEADER, Layer
from pipeline.stage import Closed

from .conftest import NewWorld
from .feeds import make_all
from .feedstock import CLEAN, PLAIN, SWAP, Line, Mix
from .world import AnyStage, Grain, World, chain, grain, home

STAGES = [pytest.param(stage, id=stage.name) for stage in chain()]
OWNED = [(layer, stage) for stage in chain() for layer in stage.layers]
LAYERS = [pytest.param(layer, stage, id=layer.name) for layer, stage in OWNED]
ON_SWAPS = [pair for pair in OWNED if SWAP.market in pair[1].markets]
ON_SPOT = [
    pytest.param(layer, stage, id=layer.name)
    for layer, stage in OWNED
    if PLAIN.market in stage.markets
]
PART_ROWS, PIECE_ROWS = 40, 13
BUSY = Mix(dirt=0.05, late=0.05, duplicate=0.05, gap=0.05)


Filled = Callable[[AnyStage], World]


@pytest.fixture(scope="module")
def filled(new_world: NewWorld) -> Filled:
    """By stage, a vault with some days of everything, in many Parquet parts."""

    @cache
    def fill(instrument: Instrument) -> World:
        world = new_world(instrument)
        world.put(make_all(instrument, 11, 900, BUSY).content())
        world.settings("[clusters]\nmin_rows = 3\nwindow = 2\n")
        with grain(Grain(part_rows=PART_ROWS, piece_rows=PIECE_ROWS)):
            world.run()
        return world

    return lambda stage: fill(home(stage))


# -- rows ------------------------------------------------------------------

JSON_KINDS: dict[str, tuple[type, ...]] = {
    "float": (float,),
    "int": (int,),
    "string": (str,),
    "bool": (bool,),
    "list": (list,),
    "object": (dict,),
}


def refuse(name: str) -> float:
    """NaN and the infinities are not JSON."""
    raise AssertionError(name)


def micros(stamp: str) -> int:
    """The time of a row; its text must be exactly the documented form."""
    assert stamp.endswith("Z")
    moment = datetime.fromisoformat(stamp)
    assert moment.tzinfo == UTC
    assert stamp in {
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z",
    }
    return round(moment.timestamp() * 1_000_000)


def assert_finite(value: Any) -> None:
    """No NaN and no infinity at any depth."""
    if isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            assert_finite(inner)


@pytest.mark.parametrize(("layer", "stage"), LAYERS)
def test_rows_are_as_the_dictionary_says(layer: Layer, stage: AnyStage, filled: Filled) -> None:
    """Exactly the keys of `layer.keys` in their order, with the declared types, finite numbers."""
    world = filled(stage)
    if layer.format == "parquet":
        assert_frame(layer, world)
        return
    if layer.format == "json":
        documents = sorted(world.folder(layer).glob(layer.file))
        assert documents, "nothing was written, so nothing is checked"
        for path in documents:
            document = json.loads(path.read_bytes(), parse_constant=refuse)
            assert tuple(document) == layer.keys
            assert_finite(document)
        return
    lines = world.lines(layer)
    assert lines, "nothing was written, so nothing is checked"
    times = []
    for line in lines:
        assert line.endswith(b"\n")
        row = json.loads(line, parse_constant=refuse)
        assert tuple(row) == layer.keys
        assert tuple(row)[:4] == HEADER
        assert (row["instId"], row["exchange"], row["market"]) == ("BTC-USDT-SWAP", "okx", "perp")
        assert_finite(row)
        for column in layer.columns:
            value, kinds = row[column.name], JSON_KINDS[column.dtype.partition("[")[0]]
            assert value is None or type(value) in kinds, f"{column.name}: {value!r}"
        times.append(micros(row["timestamp_utc"]))
    if layer.span_us:
        if layer.name == "confluence_1m":  # a row for each of the two rules
            assert times[::2] == times[1::2]
            times = times[::2]
        assert all(earlier < later for earlier, later in pairwise(times)), "not in order of time"
        assert all(time % layer.span_us == 0 for time in times), "not aligned to the epoch"


DTYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "int32": pl.Int32(),
    "int8": pl.Int8(),
    "float64": pl.Float64(),
    "string": pl.String(),
    "bool": pl.Boolean(),
    "date": pl.Date(),
    "timestamp[us, UTC]": pl.Datetime("us", "UTC"),
    "list[float64]": pl.List(pl.Float64()),
    "list[int64]": pl.List(pl.Int64()),
    "list[bool]": pl.List(pl.Boolean()),
}


def assert_frame(layer: Layer, world: World) -> None:
    """Every file has the declared columns, the declared number of rows, and no NaN.

    Parts come first; what does not fill one stands in pieces, the last of which may be short.
    """
    parts = sorted(world.folder(layer).glob("*.parquet"))
    is_short = layer.name == "ladder_1m" or layer.span_us
    assert len(parts) > (0 if is_short else 3), "too few parts to check anything"
    start, is_behind, behind = 0, False, 0
    for part in parts:
        frame = pl.read_parquet(part)
        assert tuple(frame.columns) == layer.keys
        wanted = [DTYPES[column.dtype] for column in layer.columns]
        assert frame.dtypes == wanted
        for column in frame.select(pl.selectors.float()):
            assert column.is_finite().all()
        assert part.name == f"{start:012d}-{start + frame.height:012d}.parquet"
        start += frame.height
        is_behind = is_behind or frame.height != PART_ROWS
        assert not is_behind or frame.height == PIECE_ROWS or part == parts[-1]
        behind += frame.height if is_behind else 0
        assert behind < PART_ROWS
        if layer.name == "trades":
            assert frame["seq"].to_list() == list(range(start - frame.height, start))


# -- carry -----------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_the_carry_survives_json(stage: AnyStage, filled: Filled) -> None:
    """A state file read and written again is the same file, and the carry the same carry."""
    path = VaultPaths(filled(stage).root).state(stage.name, home(stage))
    data = path.read_bytes()
    state = states.decode(data)
    assert state is not None
    assert states.encode(state) == data
    carry = states.thaw(state.carry, stage.carry)
    if stage.carry.__struct_fields__ and stage.name != "quote":  # its carry is for books
        assert state.carry != states.freeze(stage.carry()), "an empty carry proves nothing"
    text = msgspec.json.encode(states.freeze(carry))
    assert msgspec.json.decode(text) == state.carry
    again = states.freeze(states.thaw(msgspec.json.decode(text), stage.carry))
    assert msgspec.json.encode(again) == text


@pytest.mark.parametrize("stage", STAGES)
def test_the_state_stays_small(stage: AnyStage, filled: Filled) -> None:
    """Below a megabyte, and a person can read it."""
    data = VaultPaths(filled(stage).root).state(stage.name, home(stage)).read_bytes()
    assert len(data) < 1_000_000
    assert data.count(b"\n") > 20
    json.loads(data)


# -- purity ----------------------------------------------------------------


def picture(value: Any) -> Any:
    """A copy of anything a fold may be given, that can be compared later."""
    if isinstance(value, pl.DataFrame | pl.Series):
        return (
            value.clone().to_dict(as_series=False)
            if isinstance(value, pl.DataFrame)
            else value.to_list()
        )
    if isinstance(value, msgspec.Struct):
        return msgspec.json.encode(value, enc_hook=lambda each: each.to_text())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if dataclasses.is_dataclass(value):
        return {f.name: picture(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple | dict):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: picture(each) for key, each in pairs}
    return None if callable(value) else value


class Watched:
    """A stage's fold, called twice with everything it is given and gives looked at."""

    def __init__(self, stage: AnyStage) -> None:
        self.calls = 0
        self.faults: list[str] = []
        self._fold = stage.fold
        self.stage = dataclasses.replace(stage, fold=self.fold)

    def fold(self, rows: Any, carry: Any, context: Any) -> Closed[Any]:
        """Fold; what is wrong is noted for the stage's own test."""
        given = dataclasses.replace(context, memo={})  # which only saves work
        before = picture((rows, carry, given))
        first: Closed[Any] = self._fold(rows, carry, context)
        seen = picture(first)
        given = dataclasses.replace(context, memo={})
        self._note(picture((rows, carry, given)) == before, "an input was changed")
        again = picture(self._fold(rows, carry, context))
        self._note(again == seen, "not a function of its inputs")
        self._note(picture(first) == seen, "an earlier result was changed by a later call")
        self.calls += 1
        return first

    def _note(self, is_right: bool, what: str) -> None:
        if not is_right:
            self.faults.append(what)


@pytest.fixture(scope="module")
def watched(new_world: NewWorld) -> dict[str, Watched]:
    """Every stage's fold, watched in two runs of its home."""
    found: dict[str, Watched] = {}
    for instrument in {home(stage): None for stage in chain()}:
        world = new_world(instrument)
        content = make_all(instrument, 13, 150, BUSY).content()
        size = sum(map(len, content.values()))
        here = {each.name: Watched(each) for each in world.chain}
        with grain(Grain(block_bytes=4000, part_rows=50)):
            for start, end in ((0, size // 3), (size // 3, size)):
                world.grow(content, start, end)
                for each in here.values():
                    run_stage(Vault.open(world.root), each.stage, instrument)
        found |= {name: each for name, each in here.items() if home(each.stage) == instrument}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_fold_changes_nothing_it_is_given_and_repeats_itself(
    stage: AnyStage, watched: dict[str, Watched]
) -> None:
    """Rows, carry and context are as before; the same inputs give the same outputs again."""
    assert watched[stage.name].faults == []
    assert watched[stage.name].calls > (1 if stage.inputs else 2)


# -- causality -------------------------------------------------------------


def closed_by(world: World, layer: Layer, time_us: int) -> list[Any]:
    """The rows of a layer whose cell ended by a time (of events: the ones that are there)."""
    if layer.format == "parquet":
        end = pl.col("ts").dt.timestamp("us") + layer.span_us
        return world.frame(layer).filter(end <= time_us).rows()
    return [
        line
        for line in world.lines(layer)
        if micros(json.loads(line)["timestamp_utc"]) + layer.span_us <= time_us
    ]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_row_does_not_change_when_anything_after_it_does(
    share: float, new_world: NewWorld
) -> None:
    """Rewrite all that follows a moment: what had closed by then stays, row for row."""
    whole, rest = make_all(SWAP, 13, 500, BUSY), make_all(SWAP, 14, 400, Mix(quiet=0.05))
    lines = whole.lines()
    count = int(len(lines) * share)
    moment = max(line.ts for line in lines[:count])
    heads = {"": lines[:count]} | {k: upto(moment, days) for k, days in whole.others.items()}
    ones = {"": lines[count:]} | {k: after(moment, days) for k, days in whole.others.items()}
    others = {"": after(moment, rest.days)} | {k: after(moment, d) for k, d in rest.others.items()}
    assert min(map(len, others.values())) > 20
    worlds = []
    for tails in ({}, ones, others):
        world = new_world()
        for kind, head in heads.items():
            tail = [line.data for line in tails.get(kind, [])]
            if tails is others:
                tail = [line.replace(b"100.", b"170.") for line in tail]
                tail = [line.replace(b'"tradeId":"1', b'"tradeId":"3') for line in tail]
            data = b"".join([*(line.data for line in head), *tail])
            world.put({f"{kind}/2024-03-05" if kind else "2024-03-05": data})
        world.run()
        worlds.append(world)
    early, one, other = worlds
    assert early.tree() != one.tree() != other.tree()
    for layer, stage in ON_SWAPS:
        then = early.rows(layer)
        mark = early.state(stage).watermark_us
        assert mark is not None
        for world in (one, other):
            now = world.rows(layer)
            if world is one and layer.folder != "gaps" and layer.span_us <= 600_000_000:
                assert len(now) > len(then), layer.name
            assert now[: len(then)] == then, layer.name
            if layer.span_us and (stage.source == "trades" or stage.grid_us):
                assert closed_by(world, layer, mark) == then, f"{layer.name}: not all had closed"


def upto(moment: int, days: dict[str, list[Line]]) -> list[Line]:
    """The lines that had come by then."""
    return [line for lines in days.values() for line in lines if line.ts <= moment]


def after(moment: int, days: dict[str, list[Line]]) -> list[Line]:
    """The lines that came later."""
    return [line for lines in days.values() for line in lines if line.ts > moment]


# -- scale -----------------------------------------------------------------

DOUBLES: dict[str, tuple[str, ...]] = {
    "trades": ("size", "notional"),
    "bars": (
        *("volume", "buy_volume", "sell_volume", "notional", "buy_notional", "sell_notional"),
        *("whale_notional", "whale_buy_notional"),
    ),
    "volume_1m": ("total_volume", "buy_volume", "sell_volume", "delta", "whale_volume"),
}
"""Columns that double when every size doubles (and thresholds in money with them)."""

SINGLES: dict[str, tuple[str, ...]] = {
    "trades": ("seq", "ts", "trade_id", "price", "side", "gap_before"),
    "bars": (
        *("open", "high", "low", "close", "vwap", "trades", "buy_trades", "sell_trades"),
        *("whale_trades", "gaps"),
    ),
    "volume_1m": (
        *("open", "high", "low", "close", "price_change_pct", "whale_count", "trade_count"),
        *("volume_tier", "absorption", "divergence", "volume_ratio", "divergence_type"),
        *("absorption_side",),
    ),
    "gaps": ("kind", "from", "to", "ts"),
}
"""Columns that stay."""


def table(world: World, layer: Layer) -> list[dict[str, Any]]:
    """The rows of a layer as dicts."""
    if layer.format == "parquet":
        return world.frame(layer).to_dicts()
    return [json.loads(line) for line in world.lines(layer)]


@pytest.fixture(scope="module")
def single_and_double(new_world: NewWorld) -> tuple[World, World]:
    """The same trades with all sizes once and twice as large."""
    found = []
    for factor in (1, 2):
        world = new_world(PLAIN)
        mix = dataclasses.replace(CLEAN, gap=0.1, size_factor=factor)
        world.put(make_all(PLAIN, 15, 900, mix).content())
        money = [s for s in world.chain if "whale_notional" in s.params.__struct_fields__]
        world.settings("".join(f"[{s.name}]\nwhale_notional = {200_000 * factor}\n" for s in money))
        world.run()
        found.append(world)
    return found[0], found[1]


@pytest.mark.parametrize(("layer", "stage"), ON_SPOT)
def test_twice_the_size_is_twice_the_volume(
    layer: Layer, stage: AnyStage, single_and_double: tuple[World, World]
) -> None:
    """Volumes double to the last digit; prices, counts, ratios and the rows' times stay."""
    del stage
    one, two = (table(world, layer) for world in single_and_double)
    assert len(one) == len(two)
    if layer.format == "jsonl":
        assert [r["timestamp_utc"] for r in one] == [r["timestamp_utc"] for r in two]
    kind = "bars" if layer.folder == "bars" else layer.name
    if kind not in SINGLES and kind not in DOUBLES:
        return
    known = {*DOUBLES.get(kind, ()), *SINGLES.get(kind, ())}
    assert known == {column.name for column in layer.columns}
    for left, right in zip(one, two, strict=True):
        for name in SINGLES.get(kind, ()):
            assert left[name] == right[name], name
        for name in DOUBLES.get(kind, ()):
            exact: Callable[[Any], Any] = Decimal if isinstance(left[name], str) else float
            assert exact(right[name]) == 2 * exact(left[name]), name
