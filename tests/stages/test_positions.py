"""Raw positions to rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import polars as pl
import pytest

from pipeline.instrument import BASE, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Context
from pipeline.stages.positions import STAGE, Carry

WHERE = Instrument("okx", "perps", "X")
T = 1_709_683_200_000


def run(lines: list[bytes], cuts: tuple[int, ...] = ()) -> tuple[list[Any], list[str], Carry]:
    """Rows (milliseconds after T, position), reasons of bad lines, and the carry behind them."""
    context: Context[Any] = Context(WHERE, BASE, STAGE.params())
    carry, rows, bad, offset = STAGE.carry(), list[Any](), list[str](), 0
    edges = [0, *cuts, len(lines)]
    for low, high in pairwise(edges):
        data = b"".join(line + b"\n" for line in lines[low:high])
        assert STAGE.decode is not None
        batch = STAGE.decode(Block(data, "raw/x.jsonl", "2024-03-06", offset), WHERE, BASE)
        offset += len(data)
        closed = STAGE.fold(batch, carry, context)
        assert closed.rows_in == batch.records
        carry = msgspec.json.decode(msgspec.json.encode(closed.carry), type=STAGE.carry)
        bad += [reject.reason for reject in closed.rejects]
        frame = closed.rows["positions"]
        if frame is not None:
            stamps = frame["ts"].dt.timestamp("us") / 1000 - T
            rows += pl.DataFrame([stamps, frame["position"]]).rows()
    return rows, bad, carry


def line(after: float, position: object, **more: Any) -> bytes:
    return msgspec.json.encode({"ts": T + after, "position": position, **more})


def test_numbers_texts_and_times() -> None:
    iso = b'{"ts":"2024-03-06T00:00:04.5Z","position":-0}'
    lines = [line(0, 1.5), line(1000, "-2.25"), line(2000, -3), line(3000, 0), b"  ", iso]
    assert run(lines)[0] == [(0, 1.5), (1000, -2.25), (2000, -3), (3000, 0), (4500, 0)]
    assert str(run(lines)[0][-1][1]) == "0.0"
    assert run([line(0, 1, instId="X", note=[1])])[1] == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{", "json"),
        (b"[]", "not an object"),
        (b'"\xff"', "encoding"),
        (b'{"ts":1709683200000}', "not a position"),
        (b'{"position":1}', "ts"),
        (b'{"ts":"soon","position":1}', "ts"),
        (line(0, None), "position"),
        (line(0, "many"), "position"),
        (line(0, "--1"), "position"),
        (line(0, "-+1"), "position"),
        (line(0, True), "position"),
        (line(0, 10**16), "magnitude"),
        (line(0, 1, instId="Y"), "instrument"),
    ],
)
def test_bad_lines(bad: bytes, reason: str) -> None:
    assert run([line(0, 1), bad, line(1, 2)])[:2] == ([(0, 1), (1, 2)], [reason])


def test_the_clock_never_falls_and_leaps_must_be_confirmed() -> None:
    lines = [line(0, 1), line(-500, 2), line(10**9, 3), line(1000, 4), line(10**9, 5)]
    lines.append(line(10**9 + 1, 6))
    wanted = [(0, 1), (0, 2), (1000, 4), (10**9, 5), (10**9 + 1, 6)]
    for cuts in ((), (1, 2, 3, 4, 5), (3,), (5,)):
        rows, bad, carry = run(lines, cuts)
        assert rows == wanted
        assert bad == ["future"]
        assert carry.clock == (T + 10**9 + 1) * 1000
    rows, _, carry = run(lines[:5])
    assert len(rows) == 3
    assert len(carry.held) == 1
