"""Rules minute by minute: which row of each layer they see, what is missing, when they match."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl
import pytest

from pipeline import stages
from pipeline.engine.codecs import polars_type
from pipeline.instrument import Contract, Instrument
from pipeline.stage import BEGINNING_US, Context, Joined
from pipeline.stages.confluence import SEED_RULES, STAGE, Params, select

from .tick_tape import MIDNIGHT, MINUTE_US

SECOND_US = 1_000_000
LATEST = MIDNIGHT + 3000 * MINUTE_US
TICK = Contract("linear", "0.01", tick="0.1")

Table = Mapping[int, Mapping[str, Any]]
"""Rows of a layer by their beginning, microseconds after midnight."""
Made = dict[tuple[int, str], dict[str, Any]]
"""Rows by minute and rule."""


def minute(number: float) -> int:
    return round(number * MINUTE_US)


def frame(layer: str, table: Table, columns: Iterable[str]) -> pl.DataFrame:
    types = {column.name: polars_type(column.dtype) for column in stages.layers()[layer][0].columns}
    lines = [{"ts": MIDNIGHT + ts} | {n: row.get(n) for n in columns} for ts, row in table.items()]
    return pl.DataFrame(lines, schema={"ts": pl.Int64} | {name: types[name] for name in columns})


def run(
    tables: Mapping[str, Table],
    cuts: Iterable[int] = (),
    *,
    contract: Contract = TICK,
    given_up: Mapping[str, int] | None = None,
    **params: Any,
) -> Made:
    """The rows of windows cut at `cuts`, microseconds after midnight."""
    settings = msgspec.convert(params, Params)
    inputs = select(settings, {name: {} for name in tables})
    context = Context(Instrument("okx", "perps", "X"), contract, settings, LATEST)
    context.inputs = frozenset(each.layer for each in inputs)
    made: Made = {}
    edges = [BEGINNING_US, *(MIDNIGHT + cut for cut in sorted(set(cuts))), LATEST]
    for start, end in pairwise(edges):
        shown = {}
        for each in inputs:
            span = stages.layers()[each.layer][0].span_us
            known = pl.col("ts") + max(0, span - 1)
            low = start if start == BEGINNING_US else start - each.behind_us
            whole = frame(each.layer, tables[each.layer], each.columns)
            high = MIDNIGHT + (given_up or {}).get(each.layer, end - MIDNIGHT)
            shown[each.layer] = whole.filter((known >= low) & (known < min(end, high)))
        closed = STAGE.fold(Joined(shown, start, end), STAGE.carry(), context)
        names = [column.name for column in STAGE.layers[0].columns]
        for us, values in closed.rows["confluence_1m"]:
            assert start <= us + MINUTE_US - 1 < end
            row = dict(zip(names, values, strict=True))
            msgspec.json.encode(row)
            assert made.setdefault((us - MIDNIGHT, row["rule"]), row) is row
    assert [at for at, _ in made] == sorted(at for at, _ in made)
    return made


def bars(*minutes: int, close: float = 100) -> dict[int, dict[str, Any]]:
    return {minute(each): {"close": close} for each in minutes}


def seen(part: str, tables: Mapping[str, Table], **params: Any) -> dict[int, Any]:
    """By minute, the value of the one column that a part looks at; "missing" where it is."""
    rule = {"direction": "LONG", "when": [f"{part} is not null"]}
    whole = run(tables, rules={"x": rule}, seed_rules=False, **params)
    for cuts in ((1, 2, 3, 4, 5, 6), (5, 14, 15, 16, 29, 30, 59, 60, 61, 90)):
        edges = [minute(each) for each in cuts]
        assert run(tables, edges, rules={"x": rule}, seed_rules=False, **params) == whole
    found = {}
    for (at, _), row in whole.items():
        (condition,) = row["conditions"]
        (value,) = condition["values"].values()
        assert condition["truth"] == (value is not None)
        assert condition["missing"] == ([part.partition(".")[0]] if value is None else [])
        found[at // MINUTE_US] = "missing" if value is None else value
    return found


# -- which row of a layer counts -----------------------------------------------------------


def test_of_minutes_their_own() -> None:
    tables = {
        "bars_1m": bars(0, 1, 2, 4),
        "flow_1m": {minute(0): {"ofi_norm": 0.5}, minute(2): {"ofi_norm": -0.5}},
    }
    wanted: dict[int, Any] = {0: 0.5, 1: "missing", 2: -0.5, 4: "missing"}
    assert seen("flow.ofi_norm", tables) == wanted
    assert seen("flow_1m.ofi_norm", tables) == wanted


@pytest.mark.parametrize(("layer", "column", "length"), [
    ("wicks_5m", "nearest_untouched_high", 5),
    ("bars_15m", "close", 15),
    ("vcp_30m", "atr_14", 30),
    ("extremes_30m", None, 30),
    ("whale_alerts_1h", "net_usd", 60),
])  # fmt: skip
def test_of_longer_bars_the_last_that_has_ended(
    layer: str, column: str | None, length: int
) -> None:
    """It stands until the next one would have ended, and is not known before it ends itself."""
    types = {each.name: each.dtype for each in stages.layers()[layer][0].columns}
    name = column or next(each for each, dtype in types.items() if dtype == "float")
    table = {minute(0): {name: 1.0}, minute(length): {name: 2.0}, minute(3 * length): {name: 4.0}}
    tables = {"bars_1m": bars(*range(5 * length)), layer: table}
    found = seen(f"{layer}.{name}", tables)
    for at, value in found.items():
        ended = (at + 1) // length - 1
        assert value == {0: 1.0, 1: 2.0, 3: 4.0}.get(ended, "missing"), at


def test_of_events_the_last_before_the_end_of_the_minute() -> None:
    """One at the end belongs to the next minute; one that is too old says nothing."""
    events = {
        minute(1): {"vpin": 0.1},
        minute(2) - 1000: {"vpin": 0.2},
        minute(5): {"vpin": 0.5},
        minute(5.5): {"vpin": 0.6},
    }
    tables = {"bars_1m": bars(*range(12)), "vpin": events}
    found = seen("vpin.vpin", tables, max_age_s=120)
    values = ["missing", 0.2, 0.2, "missing", "missing", 0.6, 0.6, *["missing"] * 5]
    assert list(found.values()) == values
    exact = {"bars_1m": bars(0, 1, 2, 3), "vpin": {minute(1): {"vpin": 0.1}}}
    # at the end of minute 2 it is two minutes old, which still is within them
    assert list(seen("vpin.vpin", exact, max_age_s=120).values()) == [
        "missing",
        0.1,
        0.1,
        "missing",
    ]


def test_of_events_out_of_order_the_latest() -> None:
    events = {minute(2.5): {"vpin": 0.5}, minute(0.5): {"vpin": 0.1}, minute(1.2): {"vpin": 0.3}}
    tables = {"bars_1m": bars(0, 1, 2, 3), "vpin": events}
    assert list(seen("vpin.vpin", tables).values()) == [0.1, 0.3, 0.5, 0.5]


def test_numbers_written_as_texts_are_numbers() -> None:
    volume = {minute(0): {"close": "100.5", "price_change_pct": "-0.25", "delta": "+1e3"}}
    tables = {"bars_1m": bars(0), "volume_1m": volume}
    for part in ("volume.close > 100", "volume.price_change_pct < 0", "volume.delta = 1000"):
        rule = {"direction": "SHORT", "when": [part]}
        ((_, row),) = run(tables, rules={"x": rule}, seed_rules=False).items()
        assert row["matched"], part


def test_the_tick_of_the_instrument() -> None:
    tables = {"bars_1m": bars(0)}
    rule = {"direction": "LONG", "when": ["instrument.tick = 0.1"]}
    for contract, truth in ((TICK, True), (Contract(tick="0.5"), False), (Contract(), None)):
        ((_, row),) = run(tables, rules={"x": rule}, seed_rules=False, contract=contract).items()
        (condition,) = row["conditions"]
        assert condition["truth"] is truth
        tick = None if contract.tick is None else float(contract.tick)
        assert condition["values"] == {"instrument.tick": tick}
        assert condition["missing"] == []


# -- what is missing ------------------------------------------------------------------------


def test_a_layer_that_the_instrument_lacks() -> None:
    rule = {
        "direction": "LONG",
        "when": ["flow.ofi_norm > 0", "bars.close > 1", "ratio.long_pct > 5"],
    }
    ((_, row),) = run({"bars_1m": bars(0)}, rules={"x": rule}, seed_rules=False).items()
    assert (row["matched"], row["score"]) == (False, pytest.approx(1 / 3))
    assert [each["truth"] for each in row["conditions"]] == [None, True, None]
    assert [each["missing"] for each in row["conditions"]] == [["flow"], [], ["ratio"]]
    assert row["conditions"][0] == {
        "part": "flow.ofi_norm > 0",
        "truth": None,
        "values": {"flow.ofi_norm": None},
        "missing": ["flow"],
    }


def test_a_part_with_a_way_out_can_be_told_without_its_layer() -> None:
    rule = {"direction": "LONG", "when": ["coalesce(flow.ofi_norm, 1) > 0"]}
    ((_, row),) = run({"bars_1m": bars(0)}, rules={"x": rule}, seed_rules=False).items()
    assert row["matched"]
    assert row["conditions"][0]["missing"] == ["flow"]


def test_a_null_in_a_row_is_not_a_missing_row() -> None:
    tables = {"bars_1m": bars(0), "volume_1m": {minute(0): {"volume_tier": None}}}
    rule = {"direction": "LONG", "when": ["volume.volume_tier = 'T4'"]}
    ((_, row),) = run(tables, rules={"x": rule}, seed_rules=False).items()
    assert not row["matched"]
    assert (row["conditions"][0]["truth"], row["conditions"][0]["missing"]) == (None, [])


def test_a_feed_that_was_given_up() -> None:
    flow = {minute(each): {"ofi_norm": 1.0} for each in range(5)}
    rule = {"direction": "LONG", "when": ["flow.ofi_norm > 0"]}
    made = run(
        {"bars_1m": bars(*range(5)), "flow_1m": flow},
        rules={"x": rule},
        seed_rules=False,
        given_up={"flow_1m": minute(3)},
    )
    assert [row["matched"] for row in made.values()] == [True, True, True, False, False]
    assert [row["conditions"][0]["missing"] for row in made.values()] == [
        [],
        [],
        [],
        ["flow"],
        ["flow"],
    ]


def test_minutes_without_a_trade_have_no_row() -> None:
    flow = {minute(each): {"ofi_norm": 1.0} for each in range(5)}
    made = run({"bars_1m": bars(1, 3), "flow_1m": flow})
    assert sorted({at // MINUTE_US for at, _ in made}) == [1, 3]
    assert [rule for _, rule in made] == [*SEED_RULES] * 2


# -- the rules that ship --------------------------------------------------------------------

SHORT: dict[str, dict[str, Any]] = {
    "bars_1m": {"close": 50_000.0},
    "wicks_5m": {"nearest_untouched_high": 50_004.9, "nearest_untouched_low": 49_000.0},
    "volume_1m": {"volume_tier": "T4", "absorption": True, "divergence": False},
    "buckets_1m": {
        "ask_young_wall": 2_000_001.0,
        "ask_imbalance": 0.71,
        "bid_young_wall": 0.0,
        "bid_imbalance": 0.29,
    },
}


def mirrored(setup: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with bids for asks and lows for highs."""
    swaps = {"ask": "bid", "bid": "ask", "high": "low", "low": "high"}
    found: dict[str, dict[str, Any]] = {}
    for layer, row in setup.items():
        found[layer] = {}
        for name, value in row.items():
            words = [swaps.get(word, word) for word in name.split("_")]
            found[layer]["_".join(words)] = value
    return found


def tables_of(setup: Mapping[str, Mapping[str, Any]]) -> dict[str, Table]:
    """The setup in minute 9, with the wicks of the five minutes that end with it."""
    spans = {name: 5 if name == "wicks_5m" else 9 for name in setup}
    return {name: {minute(spans[name]): row} for name, row in setup.items()}


def matches(setup: Mapping[str, Mapping[str, Any]], **options: Any) -> set[str]:
    return {rule for (_, rule), row in run(tables_of(setup), **options).items() if row["matched"]}


@pytest.mark.parametrize("name", SEED_RULES)
def test_a_seed_rule_matches_its_setup(name: str) -> None:
    setup = SHORT if name.endswith("short") else mirrored(SHORT)
    made = run(tables_of(setup))
    ours = made[minute(9), name]
    assert (ours["matched"], ours["score"]) == (True, 1)
    assert ours["direction"] == name.rpartition("_")[2].upper()
    assert all(each["truth"] is True and each["missing"] == [] for each in ours["conditions"])
    assert sum(row["matched"] for row in made.values()) == 1
    assert matches(setup, seed_rules=False) == set()


STEPS: list[tuple[str, str, Any, bool]] = [
    ("wicks_5m", "nearest_untouched_high", 50_005.0, True),
    ("wicks_5m", "nearest_untouched_high", 49_995.0, True),
    ("wicks_5m", "nearest_untouched_high", 50_005.1, False),
    ("wicks_5m", "nearest_untouched_high", 49_994.9, False),
    ("wicks_5m", "nearest_untouched_high", None, False),
    ("volume_1m", "volume_tier", "T3", False),
    ("volume_1m", "volume_tier", None, False),
    ("volume_1m", "absorption", False, False),
    ("volume_1m", "absorption", None, False),
    ("volume_1m", "divergence", True, False),
    ("volume_1m", "divergence", None, False),
    ("buckets_1m", "ask_young_wall", 2_000_000.0, False),
    ("buckets_1m", "ask_young_wall", None, False),
    ("buckets_1m", "ask_imbalance", 0.7, False),
    ("buckets_1m", "ask_imbalance", None, False),
]


@pytest.mark.parametrize(("layer", "column", "value", "matched"), STEPS)
@pytest.mark.parametrize("is_mirror", [False, True])
def test_one_step_from_each_threshold(
    layer: str, column: str, value: Any, matched: bool, *, is_mirror: bool
) -> None:
    setup = {name: dict(row) for name, row in SHORT.items()}
    setup[layer][column] = value
    rule = "maximum_conviction_long" if is_mirror else "maximum_conviction_short"
    found = matches(mirrored(setup) if is_mirror else setup)
    assert found == ({rule} if matched else set())


def test_within_a_tick_where_that_is_wider() -> None:
    setup = SHORT | {"wicks_5m": {"nearest_untouched_high": 50_010.0}}
    for tick, matched in (("10", True), ("9.9", False), (None, False)):
        found = matches(setup, contract=Contract("linear", "0.01", tick=tick))
        assert found == ({"maximum_conviction_short"} if matched else set())


@pytest.mark.parametrize("layer", ["wicks_5m", "volume_1m", "buckets_1m"])
def test_without_one_feed_nothing_matches_and_the_row_says_why(layer: str) -> None:
    setup = {name: row for name, row in SHORT.items() if name != layer}
    rows = run(tables_of(setup))
    row = rows[minute(9), "maximum_conviction_short"]
    alias = layer.partition("_")[0]
    assert not row["matched"]
    for condition in row["conditions"]:
        is_lacking = f"{alias}." in condition["part"]
        assert condition["truth"] is (None if is_lacking else True)
        assert condition["missing"] == ([alias] if is_lacking else [])
    assert row["score"] < 1


# -- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [
    {"rules": {"mine": {"direction": "LONG", "when": ["volume.tier = 'T4'"]}}},
    {"rules": {"mine": {"direction": "LONG", "when": ["true", "bars.close"]}}},
    {"rules": {"mine": {"direction": "LONG", "when": ["candles.close > 5"]}}},
    {"rules": {"mine": {"direction": "LONG", "when": []}}},
    {"rules": {"mine": {"direction": "LONG"}}},
    {"max_age_s": 0},
    {"seed_rules": 3},
    {"rule": {}},
])  # fmt: skip
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Params)


def test_a_bad_part_is_named_with_its_rule() -> None:
    wrong = {"rules": {"mine": {"direction": "LONG", "when": ["true", "volume.tier = 'T4'"]}}}
    with pytest.raises(
        msgspec.ValidationError, match=r"rule mine: .*volume\.tier = 'T4'.*no column"
    ):
        msgspec.convert(wrong, Params)


def test_a_rule_of_ones_own_takes_the_place_of_one_that_ships() -> None:
    rules = {"maximum_conviction_long": {"direction": "UP", "when": ["true"]}}
    made = run({"bars_1m": bars(0)}, rules=rules)
    assert [(row["rule"], row["matched"]) for row in made.values()] == [
        ("maximum_conviction_short", False),
        ("maximum_conviction_long", True),
    ]


# -- windows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in (1, 2))]
)
def test_any_windows_give_the_same_rows(seed: int) -> None:
    rng = random.Random(seed)

    def drawn(span: int, **columns: Any) -> dict[int, dict[str, Any]]:
        return {
            at: {name: draw() for name, draw in columns.items()}
            for at in range(0, minute(90), minute(span))
            if rng.random() < 0.8
        }

    near = lambda: rng.choice((None, 99.999, 100.0, 100.5))  # noqa: E731
    flag = lambda: rng.choice((None, True, False))  # noqa: E731
    tables: dict[str, Table] = {
        "bars_1m": drawn(1, close=lambda: rng.choice((100.0, 100.2))),
        "volume_1m": drawn(1, volume_tier=lambda: rng.choice(("T3", "T4")), absorption=flag,
                           divergence=flag, close=lambda: "1.5"),
        "wicks_5m": drawn(5, nearest_untouched_high=near, nearest_untouched_low=near),
        "signals_30m": drawn(30, direction=lambda: rng.choice(("LONG", "SHORT"))),
        "vpin": {rng.randrange(minute(90)) // 1000 * 1000: {"vpin": rng.random()}
                 for _ in range(30)} | {minute(each): {"vpin": 0.9} for each in (10, 50, 51)},
    }  # fmt: skip
    rules = {
        "a": {"direction": "LONG", "when": ["vpin.vpin > 0.5", "signals_30m.direction = 'LONG'"]},
        "b": {"direction": "SHORT", "when": ["volume.close > bars.close / 100"]},
    }
    whole = run(tables, rules=rules, max_age_s=300)
    assert any(row["matched"] for row in whole.values())
    edges = [minute(each) for each in range(92)]
    for cuts in (edges, rng.sample(edges, 3), rng.sample(edges, 9)):
        made = run(tables, cuts, rules=rules, max_age_s=300)
        assert msgspec.json.encode([*made.values()]) == msgspec.json.encode([*whole.values()])
