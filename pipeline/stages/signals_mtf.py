"""The five-minute signal beside the direction of longer bars.

A row is one closed five-minute bar. The directions of its own and of the last whole 15 and 30
minutes are counted and weighed; a signal that goes with the momentum is filtered where 30 minutes
are exhausted or the majority points the other way, and made smaller where there is none.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
import polars as pl

from pipeline.calc.fusion import LONG, NONE, SHORT, follows_trend
from pipeline.calc.momentum import SIGNS
from pipeline.calc.participation import weighted
from pipeline.calc.presets import check_numbers
from pipeline.calc.timeframes import LONGEST_US, TIMEFRAMES
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import Closed, Context, Input, Joined, Row, Stage

_SPAN_US = TIMEFRAMES["5m"]
_BAR = ("direction", "exhaustion_warning")
_ALL, _MOST = 3, 2
_AGAINST = {LONG: "BEARISH", SHORT: "BULLISH"}


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[signals_mtf]`: weights of 5, 15 and 30 minutes; size without a majority."""

    weights: tuple[float, float, float] = (0.4, 0.35, 0.25)
    mixed_size: Annotated[float, msgspec.Meta(ge=0)] = 0.5

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        check_numbers(self)


class Carry(msgspec.Struct):
    """Nothing: longer bars are read again."""


class Signal(NamedTuple):
    """The signal of a five-minute bar."""

    signal: str
    direction: str
    confidence: float | None
    filter_reason: str | None


class Bar(NamedTuple):
    """Where a bar points, and whether its momentum wears out; unknown is 0 and False."""

    side: int = 0
    is_tired: bool = False


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Look at each five-minute bar of the window."""
    bars = {name: _bars(joined.frames[f"ipu_{name}"]) for name in TIMEFRAMES}
    rows: list[Row] = []
    for start, *values in joined.frames["signals_5m"].rows():
        end = start + _SPAN_US
        three = [
            bars[name].get(end // span * span - span, Bar()) for name, span in TIMEFRAMES.items()
        ]
        rows.append((start, judge(Signal(*values), three, context.params)))
    return Closed(carry, {"signals_mtf": rows})


def judge(signal: Signal, bars: list[Bar], params: Params) -> tuple[Any, ...]:
    """The columns of a five-minute bar, given the bars of 5, 15 and 30 minutes."""
    sides = [bar.side for bar in bars]
    majority = majority_of(sides)
    score = weighted(*zip(params.weights, sides, strict=True))
    tired = [bar.is_tired for bar in bars[1:]]
    exhaustion = ("NONE", "WARNING", "CONFIRMED")[sum(tired)]
    is_against = majority.endswith(_AGAINST.get(signal.direction, "?"))
    reasons = [] if signal.filter_reason is None else [signal.filter_reason]
    if follows_trend(signal.signal):
        reasons += ["exhaustion_30m"] if bars[-1].is_tired else []
        reasons += ["against_mtf"] if is_against else []
    size = 1.0
    if signal.direction == NONE or reasons:
        size = 0.0
    elif is_against or majority == "MIXED":
        size = params.mixed_size
    return (
        majority,
        score,
        exhaustion,
        signal.signal,
        signal.direction,
        signal.confidence,
        size,
        bool(reasons),
        ";".join(reasons) or None,
    )


def majority_of(sides: list[int]) -> str:
    """Where most of three bars point."""
    for side, word in ((1, "BULLISH"), (-1, "BEARISH")):
        if sides.count(side) == _ALL:
            return f"STRONG_{word}"
        if sides.count(side) == _MOST:
            return f"LEAN_{word}"
    return "MIXED"


def _bars(frame: pl.DataFrame) -> dict[int, Bar]:
    return {start: Bar(SIGNS.get(word, 0), bool(warning)) for start, word, warning in frame.rows()}


LAYER = Layer(
    "signals_mtf",
    "signals_mtf",
    "jsonl",
    (
        Column(
            "mtf_direction",
            "string",
            "",
            "of the directions of ipu_5m of this bar and of ipu_15m and ipu_30m of the last whole "
            "period that ended by its end: STRONG_BULLISH if three are BULLISH, LEAN_BULLISH if "
            "two, _BEARISH alike, else MIXED; a period without a bar or a direction has none",
        ),
        Column(
            "mtf_score",
            "float",
            "",
            "0.40, 0.35 and 0.25 times their directions (1, 0, -1), added up",
        ),
        Column(
            "mtf_exhaustion",
            "string",
            "",
            "of the exhaustion_warnings of 15 and 30 minutes: CONFIRMED if both, WARNING if one, "
            "else NONE",
        ),
        Column("signal", "string", "", "of signals_5m"),
        Column("direction", "string", "", "of signals_5m: LONG, SHORT or NONE"),
        Column("confidence", "float", "", "of signals_5m"),
        Column(
            "size_multiplier",
            "float",
            "",
            "0 if direction is NONE or filtered, else 0.5 if mtf_direction is MIXED or against it, "
            "else 1",
        ),
        Column("filtered", "bool", "", "whether there is a filter_reason"),
        Column(
            "filter_reason",
            "string",
            "",
            "those of signals_5m, then for STRONG_MOMENTUM, CONFIRMED_BOUNCE and CLEAN_TREND_ENTRY "
            "exhaustion_30m (its exhaustion_warning) and against_mtf (LONG under _BEARISH, SHORT "
            "under _BULLISH), ; between; else null",
        ),
    ),
    "One row per closed five-minute bar: its signal, filtered and sized by longer bars.",
    span_us=_SPAN_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; of longer bars the last that ended by the row's end."""
    del params, tick
    bars = (
        Reach(f"ipu_{name}", behind_us=span - _SPAN_US, which="last")
        for name, span in TIMEFRAMES.items()
    )
    return (Reach("signals_5m"), *bars)


STAGE = Stage(
    name="signals_mtf",
    inputs=(
        Input("signals_5m", Signal._fields),
        *(Input(f"ipu_{name}", _BAR, behind_us=LONGEST_US) for name in TIMEFRAMES),
    ),
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
