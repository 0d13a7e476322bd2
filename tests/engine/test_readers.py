"""Readers of committed rows by time, and the windows that are cut from several of them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.engine.codecs import FrameCodec
from pipeline.engine.disk import Unsynced
from pipeline.engine.parts import PartsOutput
from pipeline.engine.readers import JsonlReader, PartsReader, RowReader, TimedReader
from pipeline.engine.state import Parts, State
from pipeline.errors import StateError
from pipeline.layers import Column, Layer
from pipeline.stage import BEGINNING_US

MINUTE = 60_000_000
START = 1_709_640_000_000_000
PART_ROWS = 5
_TS = Column("ts", "timestamp[us, UTC]", "UTC", "when")
EVENTS = Layer("events", "events", "parquet", (_TS, Column("n", "int64", "", "row")), "rows")
UNTIMED = Layer(
    "untimed",
    "untimed",
    "parquet",
    (_TS, Column("reached", "int64", "", "id"), Column("n", "int64", "", "row")),
    "rows without a time",
)
CLOCK = Layer("clock", "clock", "parquet", (_TS, Column("last_id", "int64", "", "id")), "updates")
BARS = Layer("bars", "bars", "jsonl", (Column("n", "int", "", "row"),), "bars", span_us=MINUTE)


def state(watermark_us: int | None, *, rows: dict[str, int], lateness_us: int = 0) -> State:
    """What a reader has to know of the stage above."""
    return State(
        stage="x",
        instrument="x",
        schema=1,
        code_version=1,
        params={},
        watermark_us=watermark_us,
        lateness_us=lateness_us,
        parts={name: Parts(count, PART_ROWS) for name, count in rows.items()},
    )


def write_parts(folder: Path, layer: Layer, rows: list[tuple[Any, ...]]) -> None:
    """Rows in files of five."""
    names = [column.name for column in layer.columns]
    kinds = dict.fromkeys(names, pl.Int64)
    frame = pl.DataFrame(rows, schema=kinds, orient="row")
    frame = frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    output = PartsOutput(folder, Parts(0, PART_ROWS), FrameCodec())
    if rows:
        output.append(frame)
    output.write(Unsynced())
    output.publish(Unsynced())
    output.close()


def out_of_order(rng: random.Random, count: int) -> list[tuple[int, int]]:
    """Rows that may come late within their minute, as trades do."""
    found, clock = [], START
    for number in range(count):
        clock += rng.choice((0, 500_000, 9_000_000, 70_000_000))
        back = rng.randrange(clock % MINUTE + 1) if rng.random() < 0.4 else 0
        found.append((clock - back, number))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_rows_out_of_order_fall_into_their_windows(seed: int, tmp_path: Path) -> None:
    """Any windows of whole minutes, with some past shown again, and a restart between them."""
    rng = random.Random(seed)
    rows = out_of_order(rng, 43)
    write_parts(tmp_path, EVENTS, rows)
    end = max(ts for ts, _ in rows) // MINUTE * MINUTE + MINUTE
    above = state(end, rows={"events": len(rows)})
    behind = rng.choice((0, 20_000_000, MINUTE))
    edges = [START + i * MINUTE for i in range((end - START) // MINUTE + 1) if rng.random() < 0.5]
    position = 0
    reader = PartsReader(tmp_path, EVENTS, above, ("n",), position)
    for low, high in pairwise([START, *(edge for edge in edges if edge > START), end]):
        while not reader.exhausted and reader.complete_us // MINUTE * MINUTE < high:
            reader.load()
        found = reader.window(low - behind, high)
        assert found.rows() == [row for row in rows if low - behind <= row[0] < high]
        reader.drop(high - behind)
        if rng.random() < 0.5:
            reader = PartsReader(tmp_path, EVENTS, above, ("n",), reader.position)


def test_what_is_complete_is_never_told_too_early(tmp_path: Path) -> None:
    """Between files the newest row less the lateness; at the end the watermark."""
    rows = [(START + i * 10_000_000, i) for i in range(12)]
    write_parts(tmp_path, EVENTS, rows)
    above = state(START + 200_000_000, rows={"events": 12}, lateness_us=3_000_000)
    reader = PartsReader(tmp_path, EVENTS, above, ("n",), 0)
    told = [reader.complete_us]
    while not reader.exhausted:
        reader.load()
        told.append(reader.complete_us)
    late = 3_000_000
    newest = [rows[4][0] - late, rows[9][0] - late]
    assert told[0] <= BEGINNING_US
    assert told[1:] == [*newest, START + 200_000_000]
    reader.drop(START + 65_000_000)
    assert reader.position == 7
    reader.drop(START + 999_000_000)
    assert (reader.position, reader.frame.height) == (12, 0)
    never = PartsReader(tmp_path, EVENTS, state(None, rows={"events": 0}), ("n",), 0)
    assert (never.exhausted, never.complete_us) == (True, BEGINNING_US)


def test_long_pieces_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that came in many short pieces lie in few; those that lay together are not moved."""
    from pipeline.engine import readers

    monkeypatch.setattr(readers, "_FEW_ROWS", 12)
    monkeypatch.setattr(readers, "_MOST_PIECES", 3)
    rows = [(START + i * 1000, i) for i in range(400)]
    write_parts(tmp_path, EVENTS, rows)
    reader = PartsReader(tmp_path, EVENTS, state(START, rows={"events": 400}), ("n",), 0)
    before: list[int] = []
    while not reader.exhausted:
        reader.load()
        lengths = reader.frame.to_series(0).chunk_lengths()
        long = [length for length in lengths if length > 12]
        assert long[: len(before)] == before
        assert len(lengths) - len(long) <= 3
        before = long
    assert reader.frame.rows() == rows
    assert len(before) > 10
    reader.drop(START + 205_000)
    assert reader.frame.rows() == rows[205:]


def test_bars_belong_to_their_last_microsecond(tmp_path: Path) -> None:
    """A bar is in the window that holds its end; the position is the byte of the first needed."""
    path = tmp_path / "bars.jsonl"
    lines = []
    for number in range(6):
        at = datetime.fromtimestamp((START + number * MINUTE) / 1e6, UTC)
        row = {"timestamp_utc": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "n": number, "more": [1]}
        lines.append(json.dumps(row).encode() + b"\n")
    path.write_bytes(b"".join(lines) + b'{"not committed')
    length = sum(map(len, lines))
    above = state(START + 6 * MINUTE, rows={})
    reader = JsonlReader(path, BARS, above, length, ("n",), 0)
    assert (reader.exhausted, reader.complete_us) == (False, BEGINNING_US)
    reader.load()
    assert (reader.exhausted, reader.complete_us) == (True, START + 6 * MINUTE)
    found = reader.window(START + MINUTE, START + 3 * MINUTE)
    assert found.rows() == [(START + MINUTE, 1), (START + 2 * MINUTE, 2)]
    assert reader.window(START + MINUTE - 1, START + MINUTE)["n"].to_list() == [0]
    reader.drop(START + 2 * MINUTE)
    assert reader.position == sum(map(len, lines[:2]))
    again = JsonlReader(path, BARS, above, length, ("n",), reader.position)
    again.load()
    assert again.window(START, START + 9 * MINUTE)["n"].to_list() == [2, 3, 4, 5]
    again.drop(START + 9 * MINUTE)
    assert again.position == length


def test_bars_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks end between lines; in between the last bar loaded says what is complete."""
    from pipeline.engine import readers

    monkeypatch.setattr(readers, "_JSONL_BYTES", 150)
    path = tmp_path / "bars.jsonl"
    line = '{"timestamp_utc":"2024-03-05T12:%02d:00Z","n":%d}\n'
    data = "".join(line % (i, i) for i in range(10)).encode()
    path.write_bytes(data)
    reader = JsonlReader(path, BARS, state(START + 10 * MINUTE, rows={}), len(data), ("n",), 0)
    while not reader.exhausted:
        reader.load()
        seen = reader.frame.height
        wanted = START + seen * MINUTE - (0 if reader.exhausted else 1)
        assert reader.complete_us == wanted
    assert reader.frame["n"].to_list() == list(range(10))


@pytest.mark.parametrize("wrong", ['"m":1', '"n":2.5', '"n":"2"', '"n":true', '"n":fals'])
def test_damaged_rows_are_refused(wrong: str, tmp_path: Path) -> None:
    """Wherever they stand; nothing is made of them that was not written."""
    path = tmp_path / "bars.jsonl"
    line = '{"timestamp_utc":"2024-03-05T12:00:00Z",%s}\n'
    data = "".join(line % each for each in ('"n":1', wrong, '"n":null')).encode()
    path.write_bytes(data)
    reader = JsonlReader(path, BARS, state(START, rows={}), len(data), ("n",), 0)
    with pytest.raises(StateError, match=rf"bars.jsonl: bytes 0 to {len(data)} are damaged"):
        reader.load()
    path.write_bytes(data.replace(wrong.encode(), b'"n":2'))
    whole = JsonlReader(path, BARS, state(START, rows={}), path.stat().st_size, ("n",), 0)
    whole.load()
    assert whole.frame["n"].to_list() == [1, 2, None]


def test_rows_as_they_come(tmp_path: Path) -> None:
    """File by file, then the watermark; going on behind them there is only the watermark."""
    rows = [(START + i, i) for i in range(8)]
    write_parts(tmp_path, EVENTS, rows)
    above = state(START + 100, rows={"events": 8})
    reader = RowReader(PartsReader(tmp_path, EVENTS, above, ("n",), 3))
    found = [(frame["n"].to_list(), us) for frame, us in reader.chunks()]
    assert found == [([3, 4], START + 4), ([5, 6, 7], START + 100), ([], START + 100)]
    assert reader.positions == [8]


@pytest.mark.parametrize("seed", range(15))
def test_rows_are_timed_by_ids(seed: int, tmp_path: Path) -> None:
    """The first update that reaches a row's id tells its time, however often one starts anew."""
    rng = random.Random(seed)
    updates, last = [], 0
    for number in range(30):
        last += rng.randrange(-1, 5)
        updates.append((START + number * rng.choice((1, 1000)) + number * 1000, last))
    updates.sort()
    ids = sorted(rng.randrange(0, last + 6) for _ in range(23))
    rows = [(None, reached, number) for number, reached in enumerate(ids)]
    write_parts(tmp_path / "rows", UNTIMED, rows)
    write_parts(tmp_path / "clock", CLOCK, updates)
    wanted: list[tuple[int, int]] = []
    for number, reached in enumerate(ids):
        at = next((ts for ts, update in updates if update >= reached), None)
        if at is not None:
            wanted.append((max([at, *(ts for ts, _ in wanted)]), number))
    found: list[tuple[int, int]] = []
    positions, clock_us = [0, 0], BEGINNING_US
    steps = sorted(rng.randrange(31) for _ in range(rng.randrange(4)))
    for there in (*steps, 30):
        count = sum(number < 23 * (there + 1) / 31 for number in range(23)) if there < 30 else 23
        watermark = updates[there - 1][0] if there else None
        row_state = state(None, rows={"untimed": count})
        clock_state = state(watermark, rows={"clock": there})
        reader = TimedReader(
            PartsReader(tmp_path / "rows", UNTIMED, row_state, ("reached", "n"), positions[0]),
            PartsReader(tmp_path / "clock", CLOCK, clock_state, ("last_id",), positions[1]),
        )
        for frame, complete_us in reader.chunks():
            new = [(ts, n) for ts, _, n in frame.rows()]
            assert all(ts >= clock_us for ts, _ in new), "told complete too early"
            assert all(ts <= complete_us for ts, _ in new)
            found += new
            clock_us = max(clock_us, complete_us)
        positions = reader.positions
    assert found == wanted
