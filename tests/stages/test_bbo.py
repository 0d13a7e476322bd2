"""Raw quotes in order: clamped, held, with the largest id reached, and what they turn out to be."""

from __future__ import annotations

import json
import random
from typing import Any

import polars as pl
import pytest

from pipeline.engine import state as states
from pipeline.instrument import BASE, Contract, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Context
from pipeline.stages.bbo import STAGE, Carry, Params

PLAIN = Instrument("elsewhere", "spot", "X")
OKX = Instrument("okx", "perps", "X")
SPOT = Instrument("binance", "spot", "X")
START_MS = 1_709_640_000_000
Played = tuple[list[tuple[Any, ...]], list[tuple[int, str]], Carry]


def plain(second: float, bid: str = "99") -> bytes:
    """A plain quote."""
    row = {"ts": START_MS + round(second * 1000), "bid": bid, "bid_size": "1"}
    return json.dumps(row | {"ask": "1000", "ask_size": "2.50"}).encode() + b"\n"


def ticker(number: int) -> bytes:
    """A quote of Binance's spot market."""
    row = {"u": number, "s": "X", "b": "99", "B": "1", "a": "100", "A": "2"}
    return json.dumps(row).encode() + b"\n"


def okx(channel: str, second: float) -> bytes:
    """A quote of OKX, 3 contracts on both sides."""
    entry: dict[str, Any] = {"ts": str(START_MS + round(second * 1000))}
    if channel == "tickers":
        entry |= {"bidPx": "50", "bidSz": "3", "askPx": "80", "askSz": "3"}
    else:
        entry |= {"bids": [["50", "3", "0", "1"]], "asks": [["80", "3", "0", "1"]]}
    row = {"arg": {"channel": channel, "instId": "X"}, "data": [entry]}
    return json.dumps(row).encode() + b"\n"


def play(
    lines: list[bytes], cuts: list[int], where: Instrument = PLAIN, contract: Contract = BASE
) -> Played:
    """Rows (times in seconds), rejects and the last carry."""
    assert STAGE.decode is not None
    context, carry, offset = Context(where, contract, Params()), Carry(), 0
    rows: list[tuple[Any, ...]] = []
    rejects: list[tuple[int, str]] = []
    for low, high in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        data = b"".join(lines[low:high])
        if not data:
            continue
        block = Block(data, "raw/f.jsonl", "2024-03-05", offset)
        offset += len(data)
        carry = states.thaw(states.freeze(carry), Carry)
        closed = STAGE.fold(STAGE.decode(block, where, contract), carry, context)
        carry = closed.carry
        new = closed.rows["bbo"]
        if new is not None:
            rows += new.with_columns((pl.col("ts").dt.timestamp("ms") - START_MS) / 1000).rows()
        rejects += [(reject.offset, reject.reason) for reject in closed.rejects]
    return rows, rejects, carry


def test_late_and_far_quotes() -> None:
    """A late one takes the clock's time; a far one counts if the next one comes near it."""
    lines = [plain(0), plain(5), plain(3), plain(310), plain(9), plain(400), plain(390), plain(391)]
    rows, rejects, carry = play(lines, [])
    assert [row[0] for row in rows] == [0, 5, 5, 9, 400, 400, 400]
    assert [reason for _, reason in rejects] == ["future"]
    assert carry.clock == (START_MS + 400_000) * 1000
    assert play(lines, list(range(1, 8))) == (rows, rejects, carry)


@pytest.mark.parametrize("seed", range(12))
def test_any_cutting(seed: int) -> None:
    """Rows, rejects and carry, with garbage, late and far quotes."""
    rng = random.Random(seed)
    lines, now = [], 0.0
    for _ in range(60):
        now += rng.choice((0, 1, 40, 320))
        second = now + rng.choice((0, 0, 0, -30, 301, 5000))
        good = plain(max(0, second), f"{rng.randrange(1, 999)}.{rng.randrange(100):02d}")
        lines.append(rng.choice((good, good, good, good[:20] + b"\n")))
    whole = play(lines, [])
    for _ in range(6):
        assert play(lines, sorted(rng.randrange(61) for _ in range(rng.randrange(20)))) == whole


def test_ids_without_times() -> None:
    """No time; the largest id so far beside the own one."""
    rows, _, carry = play([ticker(5), ticker(3), ticker(9)], [1], SPOT)
    assert [row[:3] for row in rows] == [(None, 5, 5), (None, 3, 5), (None, 9, 9)]
    assert (carry.is_ticker, carry.is_timed, carry.newest_id) == (False, False, 9)


@pytest.mark.parametrize(
    ("channel", "is_ticker", "kind"), [("tickers", True, "ticker"), ("bbo-tbt", False, "quote")]
)
def test_the_first_good_quote_tells_what_they_are(channel: str, is_ticker: bool, kind: str) -> None:
    """A bad line tells nothing."""
    rows, _, carry = play([b"{}\n"], [], OKX, Contract("linear", "0.1"))
    assert (rows, carry.is_ticker) == ([], None)
    lines = [b"{}\n", okx(channel, 1), okx("tickers", 2)]
    rows, _, carry = play(lines, [1], OKX, Contract("linear", "0.1"))
    assert [row[-1] for row in rows] == [kind, "ticker"]
    assert (carry.is_ticker, carry.is_timed) == (is_ticker, True)


def test_sizes_in_base_units() -> None:
    """Contracts of 0.1 base units, and of 100 dollars."""
    (linear,), *_ = play([okx("bbo-tbt", 1)], [], OKX, Contract("linear", "0.1"))
    (inverse,), *_ = play([okx("bbo-tbt", 1)], [], OKX, Contract("inverse", "100"))
    assert linear[3:7] == (50, 0.3, 80, 0.3)
    assert inverse[3:7] == (50, 6.0, 80, 3.75)
