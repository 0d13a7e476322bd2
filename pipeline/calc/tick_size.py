"""The price step of an instrument: set, looked up in the contract table, or read off the trades.

Where nobody says what the step is, it is the finest decimal place that the prices of the first
1000 trades use ("61800.30" uses one). Until those have been seen the trades wait in the carry, so
the step, and with it every row, is the same however the input is cut. Once settled it stands for
as long as the state does.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.cells import price_text
from pipeline.calc.scale import INT128_SAFE, fitting
from pipeline.calc.ticks import Ticks, join, minimal
from pipeline.errors import UsageError
from pipeline.exact import MAX_DECIMALS, NotANumberError, decimal_text, parse_decimal, scaled
from pipeline.instrument import CONTRACTS_FILE
from pipeline.reach import Reach
from pipeline.stage import Context

ENOUGH = 1000
_COLUMNS = ["seq", "ts", "px", "px_dp", "sz", "nt", "side", "gap"]


class HeldTrade(msgspec.Struct, array_like=True):
    """A trade that waits for the step to be known; its numbers are exact decimal texts."""

    seq: int
    ts: int
    price: str
    size: str
    notional: str
    side: int
    gap: bool


class TickSize(msgspec.Struct):
    """The step, or the trades (fewer than 1000) seen while it is not known."""

    step: Decimal | None = None
    held: list[HeldTrade] = []


def settle(
    ticks: Ticks, known: TickSize, context: Context[Any], row: Decimal | None = None
) -> tuple[Ticks, Decimal, TickSize] | TickSize:
    """Find the step, and let go of the trades that waited for it.

    Args:
        ticks: new trades.
        known: what the carry says.
        context: its contract may name a tick.
        row: the step that the parameters ask for.

    Returns:
        The trades to work on (those that waited first), the step, and what to carry; while the
        step is not known only the last.

    Raises:
        UsageError: the contract's tick is not a positive decimal.
    """
    step = known.step or row or _tick(context)
    waiting = ticks
    if known.held:
        held = _release(known.held)
        new = Ticks(ticks.frame.select(_COLUMNS), ticks.px_scale, ticks.sz_scale, ticks.nt_scale)
        waiting = join([held, new]) if ticks.height else held
    if step is None:
        if waiting.height < ENOUGH:
            return TickSize(None, [*known.held, *_hold(ticks)])
        step = scaled(1, minimal(waiting.slice(0, ENOUGH)).px_scale)
    return waiting, step, TickSize(step)


def looked_up(row: Decimal | None, tick: str | None) -> tuple[Reach, ...]:
    """What a row depends on where nobody says what the step is: the first trades."""
    return () if row is not None or tick is not None else (Reach("trades", first=ENOUGH),)


def check_step(row: Decimal | None) -> None:
    """Refuse a step that is not a positive decimal.

    Raises:
        ValueError: it is not, or has more digits than a price can have.
    """
    if row is not None:
        _positive(format(row, "f"))


def plain_text(value: int, scale: int) -> str:
    """value / 10**scale without trailing zeros: one text per value, whatever the scale."""
    text = decimal_text(value, scale)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _tick(context: Context[Any]) -> Decimal | None:
    text = context.contract.tick
    if text is None:
        return None
    try:
        return _positive(str(text))
    except ValueError as error:
        message = f'{CONTRACTS_FILE}: tick of "{context.instrument.key}" is {text!r}, not a step'
        raise UsageError(message, f"edit {CONTRACTS_FILE}") from error


def _positive(text: str) -> Decimal:
    try:
        step = scaled(*parse_decimal(text))
    except NotANumberError as error:
        raise ValueError(f"{text} is not a positive decimal") from error
    # a finer step than prices can have would be rounded, perhaps to nothing
    if step == 0 or step != Decimal(text):
        message = f"a price step must be above 0 and have at most {MAX_DECIMALS} decimals"
        raise ValueError(message)
    return step


def _hold(ticks: Ticks) -> list[HeldTrade]:
    return [
        HeldTrade(
            seq=seq,
            ts=ts,
            price=price_text(px, ticks.px_scale, decimals),
            size=plain_text(sz, ticks.sz_scale),
            notional=plain_text(nt, ticks.nt_scale),
            side=side,
            gap=gap,
        )
        for seq, ts, px, decimals, sz, nt, side, gap in ticks.frame.select(_COLUMNS).iter_rows()
    ]


def _release(held: list[HeldTrade]) -> Ticks:
    px, px_scale = _column([trade.price for trade in held])
    sz, sz_scale = _column([trade.size for trade in held])
    nt, nt_scale = _column([trade.notional for trade in held])
    decimals = [len(trade.price.partition(".")[2]) for trade in held]
    frame = pl.DataFrame(
        {
            "seq": pl.Series([trade.seq for trade in held], dtype=pl.Int64),
            "ts": pl.Series([trade.ts for trade in held], dtype=pl.Int64),
            "px": px,
            "px_dp": pl.Series(decimals, dtype=pl.UInt8),
            "sz": sz,
            "nt": nt,
            "side": pl.Series([trade.side for trade in held], dtype=pl.Int8),
            "gap": pl.Series([trade.gap for trade in held], dtype=pl.Boolean),
        }
    )
    return Ticks(frame, px_scale, sz_scale, nt_scale)


def _column(texts: list[str]) -> tuple[pl.Series, int]:
    """Decimal texts as integers of one scale; nulls if they do not fit (notionals only)."""
    parts = [text.partition(".") for text in texts]
    scale = max(len(fraction) for _, _, fraction in parts)
    values = [int(whole + fraction.ljust(scale, "0")) for whole, _, fraction in parts]
    if max(values) >= INT128_SAFE:
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(values)), scale
    return pl.Series(values, dtype=fitting(max(values))), scale
