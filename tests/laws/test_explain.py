"""`flowvault explain` names all that a row is made of: given that and nothing else, it comes again.

For every layer of every stage: the rows that are named are handed to the stage's fold with an empty
carry, and it must give the same row; the raw lines that are named are decoded by the oracles, which
share no code with the pipeline, and must hold the rows of raw layers that are named. A layer that
is added later is held to it without a new test.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from pipeline import stages
from pipeline.calc.tickfile import READ_COLUMNS, TickCodec
from pipeline.calc.ticks import Ticks, join
from pipeline.engine.codecs import polars_type
from pipeline.engine.explain import Explanation, Raw, Source, explain
from pipeline.engine.parts import read_rows
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawlines import Names
from pipeline.engine.rows import encode_document, encode_rows
from pipeline.engine.vault import Vault
from pipeline.instrument import TAPES, contract_of
from pipeline.layers import Layer
from pipeline.stage import BEGINNING_US, Context, Input, Joined
from tests.oracle.book_layers import instrument_at
from tests.oracle.books import Replay, book_event_row, book_row, decode_books, ladder_rows
from tests.oracle.quotes import decode_quotes
from tests.oracle.raw import EXACT, Line, decode
from tests.oracle.tape import read_quote, read_trade

from .conftest import NewWorld
from .feeds import make_all
from .feedstock import COIN, PLAIN, SWAP, UNTIMED, Mix
from .tape import TAPE, make_tape
from .world import AnyStage, Grain, World, chain, grain

BUSY = Mix(dirt=0.05, late=0.05, duplicate=0.05, gap=0.05)
SPARSE = Mix(dirt=0.03, late=0.03, duplicate=0.03, quiet=0.5)
MARKETS = {
    "busy": (SWAP, 11, 600, BUSY),
    "days": (SWAP, 14, 450, SPARSE),
    "plain": (PLAIN, 3, 1300, replace(BUSY, quiet=0)),
    "untimed": (UNTIMED, 5, 300, BUSY),
    "coin": (COIN, 4, 300, BUSY),
    "tape": (TAPE, 6, 360, BUSY),
}
"""Instruments, seeds, trades and accidents; `days` goes over several midnights."""
QUICK = ("days", "tape")
PART_ROWS = 40
MINUTE_US = 60_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OWNED = [(layer, stage) for stage in chain() for layer in stage.layers]
LAYERS = [pytest.param(layer, stage, id=layer.name) for layer, stage in OWNED]

Row = dict[str, Any]


class Worlds(dict[str, World]):
    """Vaults with all layers in many small files, each made when it is asked for."""

    def __init__(self, new_world: NewWorld) -> None:
        self._new = new_world

    def __missing__(self, name: str) -> World:
        instrument, seed, trades, mix = MARKETS[name]
        world = self[name] = self._new(instrument)
        stock = make_tape(seed, trades, mix) if name == "tape" else make_all(*MARKETS[name])
        world.put(stock.content())
        world.settings("[clusters]\nmin_rows = 3\nwindow = 2\n")
        with grain(Grain(part_rows=PART_ROWS)):
            world.run()
        return world


@pytest.fixture(scope="module")
def worlds(new_world: NewWorld) -> Worlds:
    """The markets."""
    return Worlds(new_world)


# -- rows that are named ----------------------------------------------------------------------


def us(moment: Any) -> int:
    """Microseconds since 1970."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    since: timedelta = moment - EPOCH
    return since // timedelta(microseconds=1)


def source_of(told: Explanation, layer: str) -> Source | None:
    found = [each for each in told.sources if each.layer == layer]
    assert len(found) <= 1, layer
    return found[0] if found else None


def row_numbers(told: Explanation, layer: str) -> list[int]:
    """The numbers of the rows of a Parquet layer that are named."""
    source = source_of(told, layer)
    spans = [span for file in source.files for span in file.ranges] if source else []
    return [number for low, high in spans for number in range(low, high)]


def named_frame(world: World, told: Explanation, layer: Layer) -> pl.DataFrame:
    """The named rows of a Parquet layer, all columns."""
    frame = world.frame(layer)
    if not frame.width:
        types = {column.name: polars_type(column.dtype) for column in layer.columns}
        return pl.DataFrame(schema=types)
    return frame[row_numbers(told, layer.name)]


def named_lines(world: World, told: Explanation, layer: Layer) -> list[bytes]:
    """The named lines of a JSONL layer, or documents."""
    source = source_of(told, layer.name)
    found: list[bytes] = []
    for file in source.files if source else ():
        data = (world.root / file.path).read_bytes()
        pieces = [data[low:high] for low, high in file.ranges]
        found += pieces if layer.format == "json" else b"".join(pieces).splitlines(keepends=True)
    assert source is None or source.rows in (None, len(found))
    return found


def named_ticks(world: World, told: Explanation) -> Ticks:
    """The named trades with all their digits."""
    layer, stage = stages.layers()["trades"]
    listing = world.state(stage).parts["trades"]
    pieces = [
        rows for rows, _ in read_rows(world.folder(layer), listing, 0, TickCodec(), READ_COLUMNS)
    ]
    whole = join(pieces)
    return Ticks(
        whole.frame[row_numbers(told, "trades")], whole.px_scale, whole.sz_scale, whole.nt_scale
    )


# -- and what the fold makes of them -------------------------------------------------------------


def frame_of(world: World, told: Explanation, each: Input) -> pl.DataFrame:
    """The named rows of an input as a join hands them over."""
    layer = stages.layers()[each.layer][0]
    types = {column.name: column.dtype for column in layer.columns}
    if layer.format == "json":
        source = source_of(told, layer.name)
        files = [file.path for file in source.files] if source else []
        days = [us(f"{name[-15:-5]}T00:00:00+00:00") for name in files]
        texts = [(world.root / name).read_text(encoding="utf-8") for name in files]
        return pl.DataFrame(
            {"ts": days, "document": texts}, {"ts": pl.Int64, "document": pl.String}
        )
    if layer.format == "parquet":
        frame = named_frame(world, told, layer)
        return frame.select("ts", *each.columns).with_columns(pl.col("ts").dt.timestamp("us"))
    rows = [msgspec.json.decode(line) for line in named_lines(world, told, layer)]
    schema = {"ts": pl.Int64} | {name: polars_type(types[name]) for name in each.columns}
    values: dict[str, list[Any]] = {"ts": [us(row["timestamp_utc"]) for row in rows]}
    for name in each.columns:
        values[name] = [row[name] for row in rows]
        if types[name] == "list":
            values[name] = [None if v is None else json.dumps(v) for v in values[name]]
    return pl.DataFrame(values, schema)


def timed(world: World, told: Explanation, frame: pl.DataFrame) -> pl.DataFrame:
    """Rows without a time take that of the first named tick that has reached their id."""
    ticks = named_frame(world, told, stages.layers()["book_clock"][0])
    pairs = list(zip(ticks["last_id"].to_list(), ticks["ts"].dt.timestamp("us"), strict=True))
    times = [min(ts for last, ts in pairs if last >= each) for each in frame["reached"].to_list()]
    return frame.with_columns(pl.Series("ts", times, dtype=pl.Int64))


def folded(world: World, told: Explanation, stage: AnyStage, end_us: int) -> dict[str, Any]:
    """The rows that a stage makes of the named rows of its inputs, and of nothing else."""
    vault = Vault.open(world.root)
    params = vault.settings.params(stage.name, stage.params, world.instrument)
    contract = contract_of(world.instrument, vault.table, world.root)
    context: Context[Any] = Context(world.instrument, contract, params, watermark_us=end_us)
    if not stage.inputs:
        assert stage.source == "trades", "hand the rows of other streamed layers over here"
        return stage.fold(named_ticks(world, told), stage.carry(), context).rows
    state = world.state(stage)
    carries = {name: world.state(stages.owner(name)).carry for name in state.upstream}
    chosen = stage.chosen(params, carries)
    frames = {each.layer: frame_of(world, told, each) for each in chosen}
    for each in chosen:
        if each.timed_by is not None:
            frames[each.layer] = timed(world, told, frames[each.layer])
    context.inputs = frozenset(frames)
    return stage.fold(Joined(frames, BEGINNING_US, end_us), stage.carry(), context).rows


def assert_made_again(world: World, told: Explanation, layer: Layer, stage: AnyStage) -> None:
    """Every explained row is among those that the fold makes of the named ones."""
    own = told.sources[0]
    end_us = own.times[-1][1]
    found = folded(world, told, stage, end_us)[layer.name]
    if layer.format == "parquet":
        rows = named_frame(world, told, layer)
        made = found.select(rows.columns).to_dicts()
        assert rows.height
        for row in rows.to_dicts():
            assert row in made, f"{layer.name}: {row} is not made again"
        return
    if layer.format == "json":
        texts = [encode_document(layer, row)[1] for row in found]
    else:
        texts = encode_rows(layer, world.instrument, found).splitlines(keepends=True)
    lines = named_lines(world, Explanation(layer.name, [], [own], []), layer)
    own_lines = lines[-len(told.rows) :]
    assert [json.loads(line) for line in own_lines] == told.rows
    for line in own_lines:
        assert line in texts, f"{layer.name}: not made again:\n{line!r}\nbut\n{texts[-3:]}"


# -- raw lines that are named ---------------------------------------------------------------------


def raw_lines(world: World, raw: Raw) -> list[Line]:
    """The named lines in the order of the files; of whole files those that are not set aside."""
    found = []
    for file in raw.files:
        path = world.root / file.path
        bad = set_aside(world, raw.kind, path) if file.lines is None else set()
        data, count = path.read_bytes(), 0
        for low, high in file.ranges:
            assert low == 0 or data[low - 1 : low] == b"\n"
            at = low
            for line in data[low:high].splitlines(keepends=True):
                body = line.removesuffix(b"\n").removesuffix(b"\r")
                if file.lines is not None or (body.strip() and at not in bad):
                    found.append(Line(path, at, body))
                at += len(line)
                count += 1
        assert file.lines in (None, count)
    return found


def set_aside(world: World, kind: str, path: Path) -> set[int]:
    """Where the lines of a raw file stand that are in the quarantine."""
    kept = VaultPaths(world.root).quarantine(world.instrument, kind) / path.name
    rows = kept.read_bytes().splitlines() if kept.exists() else []
    return {json.loads(row)["offset"] for row in rows}


def repeats(raw: Raw) -> bool:
    """Whether lines may repeat others: those of whole files do."""
    return any(file.lines is None for file in raw.files)


def check_tape(world: World, told: Explanation, raw: Raw, lines: list[Line]) -> None:
    """The same of a tape, whose records have no name but what they say."""
    names = ("ts", "seq", "price", "size", "ex", "cond", "corr")
    rows = named_frame(world, told, stages.layers()["tape"][0]).to_dicts()
    wanted = Counter((us(row["ts"]), *(row[name] for name in names[1:])) for row in rows)
    read = (read_trade(line.data) for line in lines)
    held = Counter(tuple(each[name] for name in names) for each in read)
    assert wanted <= held
    assert repeats(raw) or wanted == held


def check_trades(world: World, told: Explanation, raw: Raw, lines: list[Line]) -> None:
    """Line by line: none is named in vain, and together they hold all named trades."""
    oracle = instrument_at(world.root, *world.instrument.key.split("/"))[0]
    layer = stages.layers()["trades"][0]
    rows = named_frame(world, told, layer)
    wanted = Counter(
        (row["trade_id"], us(row["ts"]), row["price"], row["size"], row["side"])
        for row in rows.to_dicts()
    )
    held: Counter[Any] = Counter()
    for line in lines:
        trades = [
            (each.trade_id, each.ts_us, float(each.price), float(each.size), each.side)
            for each in decode(line.data, oracle)
        ]
        assert any(each in wanted for each in trades), line
        held.update(trades)
    assert wanted <= held
    are_once = all(held[each] == count for each, count in wanted.items())
    assert repeats(raw) or are_once, "a repetition is named"


def check_quotes(world: World, told: Explanation, lines: list[Line]) -> None:
    """The same of quotes, each at its own time or the clock's."""
    held: Counter[Any] = Counter()
    clock = None
    for line in lines:
        for own, *values in quotes_of(world, line):
            if own is not None:
                clock = own if clock is None else max(clock, own)
            held[clock, *values] += 1
    rows = named_frame(world, told, stages.layers()["bbo"][0]).to_dicts()
    wanted = Counter(
        (None if row["ts"] is None else us(row["ts"]), row["bid"], row["ask"]) for row in rows
    )
    assert wanted <= held
    # a line more for each time that an earlier line told
    assert held.total() <= wanted.total() + len(wanted)


def quotes_of(world: World, line: Line) -> list[tuple[Any, ...]]:
    """Time, bid and ask of the quotes of a line."""
    if world.instrument.market in TAPES:
        quote = read_quote(line.data)
        return [(quote["ts"], quote["bid"], quote["ask"])]
    oracle = instrument_at(world.root, *world.instrument.key.split("/"))[0]
    found = decode_quotes(line.data, oracle)
    return [(each.ts_us, float(each.bid), float(each.ask)) for each in found]


def check_books(world: World, told: Explanation, lines: list[Line]) -> None:
    """The named lines, replayed from nothing, make the named rows of all book layers."""
    oracle = instrument_at(world.root, *world.instrument.key.split("/"))[0]
    replay = Replay(oracle)
    for line in lines:
        replay.read(line)
    release(replay)
    replay.close_minute(2**62)
    clock = [{"ts": EPOCH + timedelta(microseconds=us), "last_id": i} for i, us in replay.updates]
    made: dict[str, list[Row]] = {
        "book_events": [book_event_row(event) for event in replay.events],
        "book": [book_row(event) for event in replay.events if event.tops is not None],
        "ladder_1m": ladder_rows(replay),
        "book_clock": clock,
    }
    for name, rows in made.items():
        named = named_frame(world, told, stages.layers()[name][0]).to_dicts()
        for row in named:
            found = [each for each in rows if each["ts"] == row["ts"]]
            assert any(is_same(row, each) for each in found), f"{name}: {row}, but {found}"
    for text in named_lines(world, told, stages.layers()["book_gaps"][0]):
        gap = json.loads(text)
        records = [each for one in lines for each in decode_books(one.data, oracle)]
        assert gap["from"] in [each.last for each in records]
        assert gap["to"] in [each.prev for each in records]


def release(replay: Replay) -> None:
    """The last of the named records counts; what has shown it is not among them."""
    if replay.feed.held is not None:
        record, ts_us, _ = replay.feed.held
        with localcontext(EXACT):
            replay.take(record, replay.feed.at(ts_us))


def is_same(row: Row, made: Row) -> bool:
    """Whether a row was made; of a full book the product keeps the levels near the mid."""
    for name, value in row.items():
        other = made[name]
        if isinstance(value, list):
            other = other[: len(value)]
        if value != other and not (name == "crossed" and other is None):
            return False
    return True


def records_of(line: Line) -> list[Row]:
    """What a line of a thin feed holds, in the order of their times."""
    whole = json.loads(line.data)
    found = whole.get("history", whole.get("transactions", whole.get("data", [whole])))
    return sorted(found, key=lambda each: each.get("t", 0))


def told_by(lines: list[Line], span_us: int) -> dict[int, list[Row]]:
    """By cell what counts in it: of bars the last version of each before a later cell."""
    cells: dict[int, list[Row]] = {}
    clock, seen = 0, set()
    for line in lines:
        for each in records_of(line):
            own = 1_000_000 * each["t"] if "t" in each else 1_000_000 * each.get("timestamp", 0)
            own = own or 1000 * int(each["ts"])
            before, clock = clock, max(clock, own)
            if each.get("id") in seen:
                continue
            if "id" in each:
                seen.add(each["id"])
            if "t" not in each:
                cells.setdefault(clock // span_us * span_us, []).append(each)
            elif own >= before // span_us * span_us:
                cells[own // span_us * span_us] = [each]
    return cells


def check_thin(world: World, told: Explanation, kind: str, lines: list[Line]) -> None:
    """Rows of thin feeds, by hand."""
    layer = stages.load(kind).layers[0]
    cells = told_by(lines, layer.span_us)
    for text in named_lines(world, told, layer):
        row = json.loads(text)
        records = cells[us(row["timestamp_utc"])]
        if kind == "open_interest":
            assert row["open_interest"] == float(records[-1]["open_interest"])
        elif kind == "liquidations":
            assert (row["long_liquidations"], row["short_liquidations"]) == (
                float(records[-1]["l"]),
                float(records[-1]["s"]),
            )
        elif kind == "ratio":
            assert row["long_short_ratio"] == float(records[-1]["r"])
        else:
            coin = [each for each in records if each["symbol"] != "doge"]
            inflow = sum(
                Decimal(each["amount_usd"])
                for each in coin
                if each["to"]["owner_type"] == "exchange"
            )
            assert (row["count"], row["exchange_inflow_usd"]) == (len(coin), float(inflow))


def check_positions(world: World, told: Explanation, lines: list[Line]) -> None:
    held, clock = [], 0
    for line in lines:
        record = json.loads(line.data)
        clock = max(clock, 1000 * record["ts"])
        held.append((clock, float(record["position"])))
    rows = named_frame(world, told, stages.layers()["positions"][0])
    for row in rows.to_dicts():
        assert (us(row["ts"]), row["position"]) in held


def check_raw(world: World, told: Explanation) -> None:
    """All raw lines of an explanation."""
    for raw in told.raw:
        assert raw.files
        assert not raw.gone
        lines = raw_lines(world, raw)
        if raw.stage == "tape":
            check_tape(world, told, raw, lines)
        elif raw.kind == "trades":
            check_trades(world, told, raw, lines)
        elif raw.kind == "quotes":
            check_quotes(world, told, lines)
        elif raw.kind == "books":
            check_books(world, told, lines)
        elif raw.kind == "positions":
            check_positions(world, told, lines)
        else:
            check_thin(world, told, raw.kind, lines)


# -- the law ------------------------------------------------------------------------------------


def times_of(world: World, layer: Layer) -> list[int]:
    """The times of all rows of a layer that have one."""
    if layer.format == "json":
        names = sorted(path.name for path in world.folder(layer).glob(layer.file))
        return [us(f"{name[-15:-5]}T12:00:00+00:00") for name in names]
    if layer.format == "parquet":
        frame = world.frame(layer)
        return [us(each) for each in frame["ts"].drop_nulls()] if frame.width else []
    return [us(json.loads(line)["timestamp_utc"]) for line in world.lines(layer)]


def assert_law(world: World, layer: Layer, stage: AnyStage, at: int) -> None:
    """One row of a layer."""
    told = explain(Vault.open(world.root), world.instrument, layer.name, at)
    assert told.sources[0].layer == layer.name
    assert told.rows
    assert told.raw
    check_raw(world, told)
    if not (stage.raw_kind or layer.name == "gaps"):
        assert_made_again(world, told, layer, stage)


@pytest.mark.parametrize(("layer", "stage"), LAYERS)
def test_a_row_comes_again_from_what_is_named(
    worlds: Worlds, layer: Layer, stage: AnyStage
) -> None:
    rng = random.Random(layer.name)
    has_rows = False
    for name in QUICK:
        if times := times_of(worlds[name], layer):
            has_rows = True
            assert_law(worlds[name], layer, stage, rng.choice(times[-len(times) // 2 :]))
    assert has_rows, f"no market here has a row of {layer.name}"


@pytest.mark.slow
@pytest.mark.parametrize("name", MARKETS)
@pytest.mark.parametrize(("layer", "stage"), LAYERS)
def test_many_rows_of_many_markets_come_again(
    worlds: Worlds, layer: Layer, stage: AnyStage, name: str
) -> None:
    times = times_of(worlds[name], layer)
    chosen = random.Random(layer.name).sample(times, min(8, len(times)))
    for at in {*times[:1], *times[-1:], *chosen}:
        assert_law(worlds[name], layer, stage, at)


def test_the_markets_have_what_the_law_is_about(worlds: Worlds) -> None:
    """Several models, so that one is compared with the one before; dirt; every raw kind."""
    days = worlds["days"]
    assert len(list(days.folder(stages.layers()["model"][0]).glob("model_*.json"))) > 1
    for name in QUICK:
        reasons = Counter(
            json.loads(line)["reason"]
            for file in (worlds[name].root / "quarantine").rglob("*.jsonl")
            for line in file.read_bytes().splitlines()
        )
        assert {"late", "future"} <= set(reasons)
        there = {path.name for path in (worlds[name].root / "state").iterdir()}
        assert there == {stage.name for stage in worlds[name].chain}


def test_what_goes_back_for_ever_is_one_range(worlds: Worlds) -> None:
    """However many files there are, and of raw files those in between are whole."""
    world = worlds["days"]
    last = times_of(world, stages.layers()["cvd_1m"][0])[-1]
    told = explain(Vault.open(world.root), world.instrument, "cvd_1m", last)
    source = source_of(told, "trades")
    assert source is not None
    (file,) = source.files
    assert (file.path.endswith("/*.parquet"), file.files > 8) == (True, True)
    assert file.ranges[0][0] == 0
    assert [each.reach for each in source.why] == ["all rows from the first on"]
    (raw,) = told.raw
    assert raw.lines is None
    whole = [each for each in raw.files if each.lines is None]
    marks = {mark.name: mark for mark in world.state(stages.load("trades")).raw["trades"]}
    assert len(whole) >= 1
    for each in whole:
        mark = marks[each.path.rpartition("/")[2]]
        assert each.ranges == [(0, mark.offset)]
        assert each.crc32 == f"{mark.crc:08x}"


@pytest.mark.parametrize("seed", range(20))
def test_ids_are_counted(seed: int) -> None:
    """Each so often as it was given, in whatever pieces it is looked for, among others."""
    rng = random.Random(seed)
    texts = [f"{rng.randrange(40):x}" for _ in range(60)]
    given = rng.sample(texts, 25)
    names, left = Names(pl.Series(given)), Counter(given)
    at = 0
    while at < len(texts):
        piece = texts[at : at + rng.randrange(1, 20)]
        at += len(piece)
        wanted = []
        for text in piece:
            wanted.append(left[text] > 0)
            left[text] -= wanted[-1]
        assert names.take(pl.Series(piece)).tolist() == wanted
        assert names.are_found == (not any(left.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["busy", "tape"])
def test_rows_are_found_behind_a_rebuild(name: str, new_world: NewWorld) -> None:
    """Late trades stand in their minutes then, and their lines where they came."""
    world = Worlds(new_world)[name]
    wanted = {"tape": ("tape", "classified"), "busy": ("trades", "bars_1m")}[name]
    first, stage = stages.layers()[wanted[0]]
    before = Counter(times_of(world, first))
    with grain(Grain(part_rows=PART_ROWS)):
        world.rebuild(wanted[0])
    late = sorted((Counter(times_of(world, first)) - before).elements())
    assert len(late) > 3
    for at in random.Random(3).sample(late, min(20, len(late))):
        assert_law(world, first, stage, at)
    layer, stage = stages.layers()[wanted[1]]
    times = times_of(world, layer)
    for at in random.Random(3).sample(times, min(20, len(times))):
        assert_law(world, layer, stage, at)
