"""Scale: twice the size, ten times the price, and what becomes of every column of every layer.

Each column has a dimension, a power of size and a power of price. Multiplying all sizes or all
prices (and the settings that are in money or price with them) must multiply the column by just
that: to the last bit where the factor is a power of two and the sums are exact, to 1e-12 where
doubles were multiplied on the way. Inverse contracts are left out: their base sizes are rounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pipeline import stages
from pipeline.instrument import Instrument
from pipeline.layers import Layer

from .conftest import NewWorld
from .feedstock import CLEAN, PLAIN, SWAP, make
from .world import World

Dimension = tuple[int, int]
NONE, BASE, PRICE, MONEY, IMPACT = (0, 0), (1, 0), (0, 1), (1, 1), (-1, -1)

_BAR: dict[str, Dimension] = {
    **dict.fromkeys(("open", "high", "low", "close", "vwap"), PRICE),
    **dict.fromkeys(("volume", "buy_volume", "sell_volume"), BASE),
    **dict.fromkeys(("notional", "buy_notional", "sell_notional"), MONEY),
    **dict.fromkeys(("whale_notional", "whale_buy_notional"), MONEY),
}
_PROFILE: dict[str, Dimension] = {
    **dict.fromkeys(("low", "high", "bin_size", "poc", "vah", "val"), PRICE),
    "total_volume": BASE,
    **dict.fromkeys(("hvn.price", "lvn.price"), PRICE),
    **dict.fromkeys(("hvn.volume", "lvn.volume"), BASE),
}
DIMENSIONS: dict[str, dict[str, Dimension]] = {
    "trades": {"price": PRICE, "size": BASE, "notional": MONEY},
    "gaps": {},
    **dict.fromkeys(("bars_1m", "bars_5m", "bars_15m", "bars_30m"), _BAR),
    "volume_1m": {
        **dict.fromkeys(("open", "high", "low", "close"), PRICE),
        **dict.fromkeys(("total_volume", "buy_volume", "sell_volume", "delta"), MONEY),
        "whale_volume": MONEY,
    },
    "cvd_1m": {
        **dict.fromkeys(("delta", "cvd", "session_cvd", "cvd_high", "cvd_low"), BASE),
        **dict.fromkeys(("delta_notional", "cvd_notional"), MONEY),
    },
    "vwap_1m": {
        **dict.fromkeys(("session_vwap", "session_sd"), PRICE),
        **dict.fromkeys((f"{side}_{k}" for side in ("upper", "lower") for k in (1, 2, 3)), PRICE),
        **dict.fromkeys((f"rolling_vwap_{hours}h" for hours in (1, 4, 24)), PRICE),
    },
    "footprint": {"price": PRICE, "buy_volume": BASE, "sell_volume": BASE},
    "profile_session": _PROFILE,
    "profile_24h": _PROFILE,
    "wicks_5m": {
        **dict.fromkeys(("wick_high", "wick_low"), PRICE),
        **dict.fromkeys(("nearest_untouched_high", "nearest_untouched_low"), PRICE),
        **dict.fromkeys(
            (f"{name}.price" for name in ("touched", "untouched_highs", "untouched_lows")), PRICE
        ),
    },
    "extremes_30m": {"session_high": PRICE, "session_low": PRICE},
    "vpin": dict.fromkeys(("bucket_volume", "buy_volume", "sell_volume"), BASE),
    "impact_1m": dict.fromkeys(("kyle_lambda", "kyle_se", "amihud"), IMPACT),
}
"""Power of size and of price; columns that are not named have no dimension and must stay."""

FROM_TRADES = [stages.layers()[name][0] for name in DIMENSIONS]
WHALE = 100_000
SETTINGS = """
[profile]
bins = 4
[vpin]
buckets_per_day = 1500
first_minutes = 5
window = 10
cdf_min = 10
[impact]
min_window = 10
"""

CASES = [(SWAP, 2, 1), (PLAIN, 2, 1), (PLAIN, 1, 10), (PLAIN, 2, 10)]
Pair = tuple[World, World, int, int]


def multiplied(data: bytes, size: int, price: int) -> bytes:
    """A raw line with its size and price (texts) multiplied; its end stays."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: grown(key, inner) for key, inner in value.items()}
        return [walk(each) for each in value] if isinstance(value, list) else value

    def grown(key: str, value: Any) -> Any:
        if key in {"px", "price"} and price != 1:
            # the decimal point moves, so that the tick moves with it
            assert price == 10
            return format(Decimal(value).scaleb(1), "f")
        return str(Decimal(value) * size) if key in {"sz", "size"} else walk(value)

    body = data.rstrip(b"\r\n")
    return json.dumps(walk(json.loads(body))).encode() + data[len(body) :]


@pytest.fixture(
    scope="module",
    params=[(*case, seed) for case in CASES for seed in (15, 16)],
    ids=lambda p: f"{p[0].exchange}-size{p[1]}-price{p[2]}-seed{p[3]}",
)
def pair(request: pytest.FixtureRequest, new_world: NewWorld) -> Pair:
    """A random market, and the same with sizes and prices multiplied."""
    instrument: Instrument
    instrument, size, price, seed = request.param
    content = make(instrument, seed, 1500, replace(CLEAN, gap=0.1)).content()
    worlds = []
    for s, p in ((1, 1), (size, price)):
        world = new_world(instrument)
        world.put(
            {
                day: b"".join(multiplied(line, s, p) for line in data.splitlines(keepends=True))
                for day, data in content.items()
            }
        )
        money = [e for e in world.chain if "whale_notional" in e.params.__struct_fields__]
        whales = "".join(f"[{e.name}]\nwhale_notional = {WHALE * s * p}\n" for e in money)
        world.settings(whales + SETTINGS)
        world.run()
        worlds.append(world)
    return worlds[0], worlds[1], size, price


def table(world: World, layer: Layer) -> list[dict[str, Any]]:
    """The rows of a layer as dicts."""
    if layer.format == "parquet":
        return world.frame(layer).to_dicts()
    return [json.loads(line) for line in world.lines(layer)]


def cells(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The values of a row by column, those in lists of objects as "column.key"."""
    for name, value in row.items():
        if isinstance(value, list):
            yield name, len(value)
            for each in value:
                yield from ((f"{name}.{key}", inner) for key, inner in each.items())
        else:
            yield name, value


def test_every_column_has_a_dimension_or_none() -> None:
    """No name in the table above is a slip of the pen."""
    for name, dimensions in DIMENSIONS.items():
        columns = {column.name for column in stages.layers()[name][0].columns}
        assert {each.partition(".")[0] for each in dimensions} <= columns, name


@pytest.mark.parametrize("layer", FROM_TRADES, ids=lambda layer: layer.name)
def test_columns_grow_by_their_dimension(layer: Layer, pair: Pair) -> None:
    """Row by row and value by value; every dimension is seen with values other than 0."""
    one, other, size, price = pair
    dimensions = DIMENSIONS[layer.name]
    left, right = table(one, layer), table(other, layer)
    assert len(left) == len(right)
    assert left or layer.name == "gaps"
    seen = set()
    for before, after in zip(left, right, strict=True):
        for (name, value), (same, found) in zip(cells(before), cells(after), strict=True):
            assert name == same
            by_size, by_price = dimensions.get(name, NONE)
            factor = float(size) ** by_size * float(price) ** by_price
            if value is None or isinstance(value, bool) or name not in dimensions:
                assert_stays(name, value, found, exact=price == 1 and layer.name != "impact_1m")
                continue
            seen |= {name} if float(value) else set()
            if isinstance(value, str):
                assert Decimal(found) == Decimal(value) * int(factor), name
            elif price == 1 and layer.name != "impact_1m":
                assert found == value * factor, name
            else:
                assert found == pytest.approx(value * factor, rel=1e-12, abs=0), name
    assert seen == set(dimensions), "a column that is always empty shows nothing"


def assert_stays(name: str, value: Any, found: Any, *, exact: bool) -> None:
    """The same; of doubles up to 1e-12 where doubles of other scale were divided."""
    if exact or not isinstance(value, float):
        assert found == value, name
    else:
        assert found == pytest.approx(value, rel=1e-12, abs=0), name
