"""Rules over the latest rows of all layers, evaluated every minute.

A row is one rule at one minute with a trade. A part of a rule sees, of each layer, the row that is
valid at the minute's end: of bars of a minute that minute's own, of longer bars the last one that
has closed, while no later one should have; of events the last one before the minute's end, within
`max_age_s`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.rules import Rule, check, evaluate, references
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Row, Stage

_NAMES = (
    "bars_1m", "bars_5m", "bars_15m", "bars_30m", "volume_1m", "cvd_1m", "vwap_1m",
    "profile_session", "profile_24h", "wicks_5m", "extremes_30m", "vpin", "impact_1m", "flow_1m",
    "micro_1m", "costs_1m", "buckets_1m", "orderflow_1m", "vcp_5m", "vcp_15m", "vcp_30m", "ipu_5m",
    "ipu_15m", "ipu_30m", "signals_5m", "signals_15m", "signals_30m", "signals_mtf",
    "open_interest_1m", "liquidations_1m", "ratio_1m", "whale_alerts_1h",
)  # fmt: skip
"""The layers that a rule may look at; a stage's name stands for its first layer."""

_UNITS_OF_NUMBERS = ("quote", "%")

_NEAR_HIGH = (
    "abs(bars.close - wicks.nearest_untouched_high)"
    " <= greatest(coalesce(instrument.tick, 0), bars.close / 10000)"
)
SEED_RULES = {
    "maximum_conviction_short": Rule(
        "SHORT",
        [
            _NEAR_HIGH,
            "volume.volume_tier = 'T4'",
            "volume.absorption",
            "buckets.ask_young_wall > 2000000",
            "buckets.ask_imbalance > 0.7",
            "not volume.divergence",
        ],
    ),
    "maximum_conviction_long": Rule(
        "LONG",
        [
            _NEAR_HIGH.replace("high", "low"),
            "volume.volume_tier = 'T4'",
            "volume.absorption",
            "buckets.bid_young_wall > 2000000",
            "buckets.bid_imbalance > 0.7",
            "not volume.divergence",
        ],
    ),
}


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[confluence]`.

    `rules`: a table per rule, `direction` and `when` (its parts); they stand beside the two that
    ship, unless `seed_rules` is false.
    """

    rules: dict[str, Rule] = {}
    seed_rules: bool = True
    max_age_s: int = 3600

    def __post_init__(self) -> None:
        """Refuse rules that cannot be evaluated."""
        check_positive(max_age_s=self.max_age_s)
        for name, rule in self.rules.items():
            try:
                check(rule.when, _known())
            except ValueError as error:
                raise ValueError(f"rule {name}: {error}") from error

    @property
    def all_rules(self) -> dict[str, Rule]:
        """Every rule by name."""
        return {**(SEED_RULES if self.seed_rules else {}), **self.rules}


class Carry(msgspec.Struct):
    """What outlives a run: nothing."""


@cache
def _aliases() -> dict[str, Layer]:
    """The layers by the names that rules know them by."""
    from pipeline import stages  # noqa: PLC0415  (this module is one of them)

    known = stages.layers()
    found = {name: known[name][0] for name in _NAMES if name in known}
    for name in list(found):
        first = known[name][1].layers[0]
        if first.name in found:
            found.setdefault(known[name][1].name, first)
    return found


@cache
def _known() -> dict[str, dict[str, Any]]:
    """The columns of every layer by the names rules know them by, with their types."""
    types = {
        name: {column.name: _type(column) for column in layer.columns}
        for name, layer in _aliases().items()
    }
    return {**types, "instrument": {"tick": pl.Float64}}


def _type(column: Column) -> Any:
    """The type a rule knows a column by: a number that its layer writes as a text is a number."""
    simple = {"float": pl.Float64, "int": pl.Int64, "bool": pl.Boolean}
    is_number = column.dtype == "string" and column.unit in _UNITS_OF_NUMBERS
    return pl.Float64 if is_number else simple.get(column.dtype, pl.String)


def _wanted(params: Params) -> dict[str, dict[str, None]]:
    """Which columns of which layers the rules look at."""
    wanted: dict[str, dict[str, None]] = {"bars_1m": {"close": None}}
    for rule in params.all_rules.values():
        for part in rule.when:
            for alias, column in references(part):
                if alias != "instrument":
                    wanted.setdefault(_aliases()[alias].name, {})[column] = None
    return wanted


def select(params: Params, carries: dict[str, dict[str, Any]]) -> tuple[Input, ...]:
    """The layers that the rules look at, of those there are."""
    found = []
    layers = {layer.name: layer for layer in _aliases().values()}
    for name, columns in _wanted(params).items():
        if name in carries:
            behind = layers[name].span_us or params.max_age_s * 1_000_000
            found.append(Input(name, tuple(columns), behind_us=behind))
    return tuple(found)


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Evaluate every rule at every minute with a trade."""
    params = context.params
    bars = joined.frames["bars_1m"]
    minutes = bars.filter(pl.col("ts") >= joined.start_us)["ts"].to_numpy()
    if not len(minutes):
        return Closed(carry, {LAYER.name: []})
    frames, lacking = _latest(joined, minutes, params)
    tick = context.contract.tick
    frames["instrument"] = pl.DataFrame(
        {"tick": [None if tick is None else float(Decimal(tick))] * len(minutes)},
        schema={"tick": pl.Float64},
    )
    latest = pl.DataFrame({name: frame.to_struct(name) for name, frame in frames.items()})
    rules = params.all_rules
    texts = list(dict.fromkeys(text for rule in rules.values() for text in rule.when))
    found = evaluate(texts, latest, frames)
    layers = {text: {alias for alias, _ in references(text)} for text in texts}
    rows: list[Row] = []
    for at, minute in enumerate(minutes.tolist()):
        parts = dict(zip(texts, found[at], strict=True))
        missing = {alias for alias, is_missing in lacking.items() if is_missing[at]}
        for name, rule in rules.items():
            conditions = [
                {
                    "part": text,
                    "truth": parts[text].truth,
                    "values": parts[text].values,
                    "missing": sorted(layers[text] & missing),
                }
                for text in rule.when
            ]
            score = sum(parts[text].truth is True for text in rule.when) / len(rule.when)
            rows.append((minute, (name, rule.direction, score == 1, conditions, score)))
    return Closed(carry, {LAYER.name: rows})


def _latest(
    joined: Joined, minutes: Any, params: Params
) -> tuple[dict[str, pl.DataFrame], dict[str, Any]]:
    """By the names that rules use, the row of each layer valid at each minute's end, or nulls."""
    frames: dict[str, pl.DataFrame] = {}
    lacking: dict[str, Any] = {}
    wanted = _wanted(params)
    for alias, layer in _aliases().items():
        if layer.name not in wanted:
            continue
        columns = list(wanted[layer.name])
        frame = joined.frames.get(layer.name)
        if frame is None:
            schema = {name: _known()[alias][name] for name in columns}
            frames[alias] = pl.DataFrame({name: [None] * len(minutes) for name in columns}, schema)
            lacking[alias] = np.ones(len(minutes), np.bool_)
            continue
        frame = frame.sort("ts", maintain_order=True)  # events may be somewhat out of order
        known = frame["ts"].to_numpy() + max(0, layer.span_us - 1)
        at = np.searchsorted(known, minutes + MINUTE_US) - 1
        age = layer.span_us or params.max_age_s * 1_000_000
        is_there = at >= 0
        is_there[is_there] = known[at[is_there]] >= minutes[is_there] + MINUTE_US - age
        types = pl.Schema({name: _known()[alias][name] for name in columns})
        frames[alias] = _nulled(frame.select(columns).cast(types), is_there, at)
        lacking[alias] = ~is_there
    return frames, lacking


def _nulled(frame: pl.DataFrame, is_there: Any, at: Any) -> pl.DataFrame:
    """The rows at these places, with nulls where there is none."""
    places = pl.DataFrame({"place": np.where(is_there, at, -1)})
    numbered = frame.with_row_index("place").with_columns(pl.col("place").cast(pl.Int64))
    return places.join(numbered, on="place", how="left", maintain_order="left").drop("place")


LAYER = Layer(
    "confluence_1m",
    "confluence",
    "jsonl",
    (
        Column("rule", "string", "", "the rule's name"),
        Column("direction", "string", "", "what it means when it holds"),
        Column("matched", "bool", "", "every part holds; a part that cannot be told does not"),
        Column(
            "conditions",
            "list",
            "",
            "each part with its truth (null: cannot be told), the values it looked at, and the "
            "layers that have no row for this minute",
        ),
        Column("score", "float", "", "share of the parts that hold"),
    ),
    "Every rule at every minute with a trade.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del tick
    layers = {layer.name: layer for layer in _aliases().values()}
    ages = {n: layers[n].span_us or params.max_age_s * 1_000_000 for n in _wanted(params)}
    return tuple(Reach(name, behind_us=age - MINUTE_US, which="last") for name, age in ages.items())


STAGE = Stage(
    name="confluence",
    inputs=tuple(Input(name, (), required=name == "bars_1m") for name in _NAMES),
    select=select,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    uses_tick=True,
    reach=reach,
)
