"""The largest and the smallest numbers that a record may carry, among ordinary ones.

Either a record is exact to its last digit in every layer, or its line is in the quarantine; it
never stops a run and never costs its neighbours a digit.
"""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from typing import Any

import pytest

from pipeline import stages
from pipeline.instrument import Instrument

from .conftest import NewWorld
from .feedstock import INVERSE, MIDNIGHT_MS, PLAIN, SWAP, trade_line
from .world import Grain, World, difference, grain

PRICES = (
    "100.5",
    "0.000000000001",
    "999999999999999",
    "0.000000000000000001",
    "123456.789012345678",
)
SIZES = ("1", "0.000000000001", "99999999999999.9", "0.000000000000000001", "12345.6789012345678")


def crossed(instrument: Instrument) -> list[bytes]:
    """Every price with every size, ordinary trades between them."""
    lines = []
    for i, (price, size) in enumerate(itertools.product(PRICES, SIZES)):
        ts = MIDNIGHT_MS + i * 7000
        lines.append(trade_line(instrument, 2 * i + 1, ts, price, size, "buy") + b"\n")
        lines.append(trade_line(instrument, 2 * i + 2, ts + 1, "100.5", "2", "sell") + b"\n")
    return lines


def fields(line: bytes) -> tuple[str, Fraction, Fraction]:
    """Id, price and size of a line."""
    row: dict[str, Any] = json.loads(line)
    number, price, size = (
        next(str(row[key]) for key in keys if key in row)
        for keys in (("tradeId", "id"), ("px", "price"), ("sz", "size"))
    )
    return number, Fraction(price), Fraction(size)


@pytest.mark.parametrize("instrument", [PLAIN, SWAP, INVERSE], ids=["base", "linear", "inverse"])
def test_extreme_numbers_are_exact_or_set_aside(
    instrument: Instrument, new_world: NewWorld
) -> None:
    """Doubles nearest to the exact values, sums of exact values, the same for any cutting."""
    lines = crossed(instrument)
    world, pieces = new_world(instrument), new_world(instrument)
    world.put({"2024-03-06": b"".join(lines)})
    world.run()
    frame = world.frame(stages.layers()["trades"][0])
    found = {row["trade_id"]: row for row in frame.iter_rows(named=True)}
    aside = b"".join(world.tree("quarantine").values())
    sums: dict[int, list[Fraction]] = {}
    for line in lines:
        number, price, size = fields(line)
        if number not in found:
            assert json.dumps(line.decode().strip())[1:-1].encode() in aside, line
            continue
        base, money = in_base_units(instrument, price, size)
        row = found[number]
        assert (row["price"], row["size"], row["notional"]) == (
            float(price),
            float(base),
            float(money),
        ), line
        minute = int(row["ts"].timestamp()) // 60 * 60
        total = sums.setdefault(minute, [Fraction(0), Fraction(0)])
        total[0] += base
        total[1] += money
    assert len(found) > len(lines) // 2 + 5
    assert_bars(world, sums)
    with grain(Grain()):
        at = 0
        for first in range(0, len(lines), 3):
            end = at + len(b"".join(lines[first : first + 3]))
            pieces.grow({"2024-03-06": b"".join(lines)}, at, end)
            at = end
            pieces.run()
    message = difference(pieces.tree(), world.tree())
    assert not message, message


def in_base_units(
    instrument: Instrument, price: Fraction, size: Fraction
) -> tuple[Fraction, Fraction]:
    """Base size and notional by the contract's definition."""
    if instrument is SWAP:
        return size / 100, size / 100 * price
    if instrument is INVERSE:
        return Fraction(round(size * 100 / price * 10**12), 10**12), size * 100
    return size, size * price


def assert_bars(world: World, sums: dict[int, list[Fraction]]) -> None:
    """Volume and notional of the closed minutes are the nearest doubles to the exact sums."""
    layer = stages.layers()["bars_1m"][0]
    rows = [json.loads(line) for line in world.lines(layer)]
    assert len(rows) >= len(sums) - 1 > 1
    for row, minute in zip(rows, sorted(sums), strict=False):
        assert row["volume"] == float(sums[minute][0])
        assert row["notional"] == float(sums[minute][1])


COLLECTED = (
    b'{"timestamp_utc":"2024-03-06T00:00:0%d.123Z","exchange":"okx","market":"perp","instId":'
    b'"BTC-USDT-SWAP","trade_id":"%d","side":"buy","price":"100.5","qty_contracts":"2",'
    b'"ctVal":"%b","ctMult":"%b","ctType":"%b"}\n'
)


@pytest.mark.parametrize("kind", [b"linear", b"inverse"])
@pytest.mark.parametrize(
    ("value", "multiplier"),
    [
        (b"0.00000001", b"0.0000001"),
        (b"999999999999999", b"999999999999999"),
        (b"123456789012345.123456789012", b"1"),
        (b"0.000000000000000001", b"0.000000000000000001"),
        (b"100000000000000", b"1"),
    ],
)
def test_an_absurd_contract_size_stops_no_run(
    kind: bytes, value: bytes, multiplier: bytes, new_world: NewWorld
) -> None:
    """A record's own ctVal and ctMult are input like the rest of it."""
    world = new_world()
    lines = [
        COLLECTED % (1, 1, b"0.01", b"1", b"linear"),
        COLLECTED % (2, 2, value, multiplier, kind),
        COLLECTED % (3, 3, b"0.01", b"1", b"linear"),
    ]
    world.put({"2024-03-06": b"".join(lines)})
    summary = world.run()["trades"].counts
    assert (summary.rows_in, summary.rows_out + summary.bad) == (3, 3)
    frame = world.frame(stages.layers()["trades"][0])
    for row in frame.iter_rows(named=True):
        if row["trade_id"] != "2":
            assert (row["size"], row["notional"]) == (0.02, 2.01)


def test_a_price_that_no_inverse_contract_can_have_stops_no_run(new_world: NewWorld) -> None:
    """USD / price would have more digits than can be carried: the line is set aside."""
    world = new_world(INVERSE)
    odd = trade_line(INVERSE, 2, MIDNIGHT_MS + 1, "0.000000000001", "100000000000000", "buy")
    good = trade_line(INVERSE, 1, MIDNIGHT_MS, "50000", "5", "buy")
    world.put({"2024-03-06": good + b"\n" + odd + b"\n"})
    summary = world.run()["trades"].counts
    assert (summary.rows_out, summary.bad) == (1, 1)
