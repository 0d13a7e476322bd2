"""Maker quotes from the flow of clusters, second by second: advice, not orders.

A row is one second with a trade. Opportunistic flow that has not faded yet leans the mid,
directional flow widens the spread, inventory pulls back; by how much is what the day's model has
learnt from the day before. Labels are weak and minutes of data settle nothing: nothing is
simulated here, least of all fills.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from decimal import Decimal, InvalidOperation
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.calibration import flows
from pipeline.calc.rolling import faded, fading
from pipeline.errors import UsageError
from pipeline.exact import check_positive
from pipeline.instrument import CONTRACTS_FILE
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import BEGINNING_US, Closed, Context, Input, Joined, Row, Stage

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_SECOND_US, _MS_US = 1_000_000, 1000
_STEP = 1e-9


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[maker]`.

    Attributes:
        theta_ticks: ticks that one base unit of inventory moves the quotes.
    """

    base_bps: float = 2.0
    width_cap: Annotated[float, msgspec.Meta(ge=1)] = 5.0
    theta_ticks: Annotated[float, msgspec.Meta(ge=0)] = 2.0
    inventory_target: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a width that is none."""
        check_positive(base_bps=self.base_bps)  # type: ignore[arg-type]


class Position(msgspec.Struct, array_like=True, frozen=True):
    """A position and since when it is held, microseconds."""

    ts: int
    position: float


class Carry(msgspec.Struct):
    """What outlives a run.

    Attributes:
        clock: the last trade's, milliseconds; `sums` are skew and hazard behind it.
        written: the last second with a row.
        is_open: whether the last trade's second still waits for its row.
    """

    clock: int | None = None
    sums: tuple[float, float] = (0.0, 0.0)
    written: int | None = None
    is_open: bool = False
    position: Position | None = None


class Learnt(msgspec.Struct, frozen=True):
    """What quotes need of a model's document."""

    alpha: float | None
    k_tol: float | None
    beta_bps: float
    gamma: float
    tau_s: float


class Tick(NamedTuple):
    """The step of prices, and how many decimals it has."""

    step: float
    decimals: int


class Top(NamedTuple):
    """The best prices just before the end of a second."""

    bid: float
    ask: float


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Quote at the end of every second with a trade that is over."""
    frames, params = joined.frames, context.params
    models = _models(frames["model"])
    days = sorted(models)
    clock, sums = _sums(frames["cluster_flow"], carry, models)
    last = _last_of_seconds(clock, carry.written)
    ends = clock[last] // 1000 + 1
    is_over = ends * _SECOND_US <= joined.end_us
    # whatever the sums are before the first model, they are 0
    left = faded(sums[last], ends * 1000 - clock[last], _tau_ms(models))[is_over]
    held, inventories = _inventories(frames.get("positions"), carry.position, ends * _SECOND_US)
    tops = _tops(frames["quote_1s"])
    tick = _tick(context)
    rows: list[Row] = []
    columns = zip(ends[is_over].tolist(), left.tolist(), inventories, strict=False)
    for end, (skew, hazard), inventory in columns:
        start_us = (end - 1) * _SECOND_US
        place = bisect_right(days, start_us)
        top, model = tops.get(end * _SECOND_US), models[days[place - 1]] if place else None
        values = quote(top, model, (skew, hazard), inventory, tick, params)
        rows.append((start_us, (*values, inventory)))
    after = Carry(
        int(clock[-1]) if len(clock) else carry.clock,
        (float(sums[-1, 0]), float(sums[-1, 1])) if len(sums) else carry.sums,
        rows[-1][0] // _SECOND_US if rows else carry.written,
        bool(len(last)) and not bool(is_over[-1]),
        held,
    )
    needs = {"positions": BEGINNING_US if held is None else held.ts}
    return Closed(after, {"maker_1s": rows}, needs=needs)


def _models(frame: pl.DataFrame) -> dict[int, Learnt]:
    """What quotes need of each day's model."""
    pairs = zip(frame["ts"].to_list(), frame["document"].to_list(), strict=True)
    return {ts: msgspec.json.decode(text, type=Learnt) for ts, text in pairs}


def _tau_ms(models: dict[int, Learnt]) -> float:
    """The time constant, the same in all of them."""
    return 1000 * next((model.tau_s for model in models.values()), 1.0)


def _sums(flow: pl.DataFrame, carry: Carry, models: dict[int, Learnt]) -> tuple[Ints, Floats]:
    """Clock and sums behind each new trade, and in front of them those of an open second."""
    clock: Ints = flow["ts"].to_numpy() // _MS_US
    roles = flow["phi"].fill_null(0).to_numpy().astype(np.int64)
    values = flows(flow["flow"].to_numpy(), roles)
    before = np.array(carry.sums)
    if carry.clock is None:
        first = int(clock[0]) if len(clock) else 0
        return clock, fading(values, clock, _tau_ms(models), first, before)
    sums = fading(values, clock, _tau_ms(models), carry.clock, before)
    if not carry.is_open:
        return clock, sums
    return np.append(carry.clock, clock), np.concatenate((before[None], sums))


def _last_of_seconds(clock: Ints, written: int | None) -> Ints:
    """The last trade of each second that has no row yet."""
    if not len(clock):
        return np.zeros(0, np.int64)
    seconds = clock // 1000
    last = np.flatnonzero(np.diff(seconds, append=seconds[-1] + 1))
    return last if written is None else last[seconds[last] > written]


def _inventories(
    frame: pl.DataFrame | None, held: Position | None, ends: Ints
) -> tuple[Position | None, list[float | None]]:
    """The newest position, and the last one below each time."""
    known = [] if frame is None else list(map(Position, *frame.select("ts", "position")))
    known = known or ([] if held is None else [held])
    places = np.searchsorted(np.array([each.ts for each in known], np.int64), ends)
    found = [known[place - 1].position if place else None for place in places.tolist()]
    return (known[-1] if known else None), found


def _tops(frame: pl.DataFrame) -> dict[int, Top]:
    return {ts: Top(bid, ask) for ts, bid, ask in frame.select("ts", "bid", "ask").iter_rows()}


def _tick(context: Context[Params]) -> Tick | None:
    """The instrument's tick, if anybody says what it is."""
    text = context.contract.tick
    if text is None:
        return None
    try:
        tick = Decimal(str(text))
        check_positive(tick=tick)
    except (InvalidOperation, ValueError) as error:
        message = f'{CONTRACTS_FILE}: tick of "{context.instrument.key}" is {text!r}, not a step'
        raise UsageError(message, f"edit {CONTRACTS_FILE}") from error
    return Tick(float(tick), max(0, -int(tick.normalize().as_tuple().exponent)))


def quote(
    top: Top | None,
    model: Learnt | None,
    sums: tuple[float, float],
    inventory: float | None,
    tick: Tick | None,
    params: Params,
) -> tuple[float | None, ...]:
    """The columns of a row but the last, see `LAYER`."""
    mid = None if top is None else (top.bid + top.ask) / 2
    if model is None:
        return (mid, *(None,) * 7)
    skew, hazard = (total + 0.0 for total in sums)
    if top is None or mid is None:
        return (None, skew, hazard, *(None,) * 5)
    lean = 0.0 if model.alpha is None else model.beta_bps * math.tanh(model.alpha * skew)
    p_micro = mid * (1 + 1e-4 * lean)
    over = 0.0 if model.k_tol is None else max(0.0, hazard - model.k_tol)
    width = 1e-4 * params.base_bps * mid * min(params.width_cap, 1 + model.gamma * over)
    if tick is None:
        return (mid, skew, hazard, p_micro, width, *(None,) * 3)
    step = tick.step
    pull = 0.0 if inventory is None else inventory - params.inventory_target
    p_final = p_micro - params.theta_ticks * step * pull
    below = min(math.floor((p_final - width / 2) / step + _STEP), top.ask / step - 1)
    above = max(math.ceil((p_final + width / 2) / step - _STEP), top.bid / step + 1)
    bid, ask = round(step * below, tick.decimals), round(step * above, tick.decimals)
    return mid, skew, hazard, p_micro, width, p_final, bid + 0.0, ask + 0.0


LAYER = Layer(
    "maker_1s",
    "maker",
    "jsonl",
    (
        Column(
            "mid",
            "float",
            "quote",
            "(bid + ask) / 2 of the last valid quote before the second's end, at most 60 s old; "
            "without one all prices are null",
        ),
        Column(
            "sig_skew",
            "float",
            "base",
            "sum over all trades so far of size x side if phi = 2, each times e^(-t / 10 s), t "
            "from the trade's clock to the second's end; null before the first model",
        ),
        Column("sig_hazard", "float", "base", "the same sum of size if phi = 1"),
        Column(
            "p_micro",
            "float",
            "quote",
            "mid x (1 + 1e-4 x beta_bps x tanh(alpha x sig_skew)), by the day's model",
        ),
        Column(
            "width",
            "float",
            "quote",
            "2 bps (base_bps) of mid x min(5, 1 + gamma x max(0, sig_hazard - k_tol))",
        ),
        Column(
            "p_final",
            "float",
            "quote",
            "p_micro - 2 ticks (theta_ticks) x (inventory - inventory_target), that term 0 without "
            "inventory; null without a tick in instruments.toml, as bid and ask",
        ),
        Column(
            "bid",
            "float",
            "quote",
            "p_final - width / 2, floored to the tick and at least a tick below the best ask",
        ),
        Column(
            "ask",
            "float",
            "quote",
            "p_final + width / 2, raised to the tick and at least a tick above the best bid",
        ),
        Column(
            "inventory",
            "float",
            "base",
            "the last position told before the second's end; null if none was",
        ),
    ),
    "One row per second with a trade: where a maker would quote by the day's model.",
    span_us=_SECOND_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; flow fades and is never gone, a quote is that of the second's end."""
    del params, tick
    return (
        Reach("cluster_flow", since="ever"),
        Reach("quote_1s", behind_us=-_SECOND_US, ahead_us=1),
        Reach("model", since="ever", which="last"),
        Reach("positions", since="ever", which="last"),
    )


STAGE = Stage(
    name="maker",
    inputs=(
        Input("cluster_flow", ("flow", "phi")),
        Input("quote_1s", ("bid", "ask")),
        Input("model", ()),
        Input("positions", ("position",), required=False, is_awaited=False),
    ),
    grid_us=0,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    uses_tick=True,
    reach=reach,
)
