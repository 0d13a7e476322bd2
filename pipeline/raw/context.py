"""Feeds beside the market's own: open interest, liquidations, long/short ratio, whale alerts.

They are thin, a record every few seconds at most, and read line by line. Coinalyze answers in
records or in `{"symbol","history":[...]}`; the same bar comes again with every poll, its last
version being the final one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.calc.clock import judge
from pipeline.exact import EXACT, NotANumberError, parse_decimal, scaled
from pipeline.instrument import Contract
from pipeline.raw.block import Block, Reject
from pipeline.raw.book_lines import read_block
from pipeline.raw.held import Held, by_place, in_order, still_held
from pipeline.raw.lines import read_time
from pipeline.raw.shape import BadRecordError, Json, in_data

_decode = msgspec.json.Decoder(float_hook=str).decode
_SECOND_US = 1_000_000
_NEVER_S = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Observation:
    """What a feed says of a time.

    Attributes:
        is_bar: the time is the beginning of a bar, of which later records bring later versions.
        values: the feed's numbers, exact.
        key: id of the record, if it has one.
    """

    time_us: int
    values: tuple[Decimal, ...]
    is_bar: bool
    key: str | None = None


@dataclass(frozen=True)
class ContextBatch:
    """The usable observations of one block in file order, with their lines, and the bad lines."""

    block: Block
    found: list[tuple[int, Observation]]
    rejects: list[Reject]

    @property
    def records(self) -> int:
        """Observations and bad lines together."""
        return len(self.found) + len(self.rejects)


Read = Callable[[Json], Iterator[Observation]]


def decode_context(block: Block, read: Read) -> ContextBatch:
    """Decode a block of lines; `read` makes observations of one line's object."""
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        bad = [Reject.of(block, 0, reason)] if block.line(0).strip() else []
        return ContextBatch(block, [], bad)
    found, rejects = read_block(block, range(block.lines), lambda line: _read_line(line, read))
    return ContextBatch(block, found, rejects)


def _read_line(line: bytes, read: Read) -> list[Observation]:
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        is_text = isinstance(error, UnicodeDecodeError)
        raise BadRecordError("encoding" if is_text else "json") from error
    if not isinstance(value, dict):
        raise BadRecordError("not an object")
    return list(read(value))


class Settled(NamedTuple):
    """What a fold makes of a block: good observations, bad lines, and what must wait."""

    good: list[Observation]
    rejects: list[Reject]
    held: list[Held]
    clock: int | None


def settle(
    batch: ContextBatch, held: list[Held], clock: int | None, jump_us: int, read: Read
) -> Settled:
    """Judge a block's lines by the feed's clock; see `pipeline.calc.clock`.

    A line tells the newest of its times: an answer repeats bars of long ago beside it. What one
    line holds counts in the order of its times.
    """
    lines = _Lines.of(batch)
    old = [_Lines.of(decode_context(each.block, read)).found[0] for each in held]
    whole = [*old, *lines.found]
    newest = [max(each.time_us for each in found) for found in whole]
    judged = judge(np.array(newest, np.int64), clock, jump_us)
    ordered = in_order(lines, batch.rejects, judged.future, held)
    return Settled(
        [each for index in judged.good.tolist() for each in whole[index]],
        by_place(ordered),
        still_held(lines, judged.held, held),
        judged.clock,
    )


@dataclass(frozen=True)
class _Lines:
    """The lines of a block that hold observations, each as one record."""

    block: Block
    line: npt.NDArray[np.int64]
    found: list[list[Observation]]

    @classmethod
    def of(cls, batch: ContextBatch) -> _Lines:
        """Put together what one line holds."""
        found: dict[int, list[Observation]] = {}
        for line, observation in batch.found:
            found.setdefault(line, []).append(observation)
        ordered = [sorted(each, key=lambda one: one.time_us) for each in found.values()]
        return cls(batch.block, np.array([*found], np.int64), ordered)


def open_interest(inst_id: str, contract: Contract) -> Read:
    """Open interest: of an exchange at a time, or Coinalyze's bars, whose close counts.

    OKX `open-interest`: `oiCcy` in base units, else `oi` in contracts. Binance: `openInterest` in
    base units. Any other: `{"ts","open_interest"}`.
    """

    def read(line: Json) -> Iterator[Observation]:
        if _is_bars(line):
            for bar in _bars(line):
                yield _bar(bar, "c", all_of=("o", "h", "l"))
            return
        for record, _ in in_data(line):
            if not isinstance(record, dict):
                raise BadRecordError("not an object")
            _check_instrument(record, inst_id)
            if "oi" in record or "oiCcy" in record:
                value = _of_contracts(record, contract)
            elif "openInterest" in record:
                value = _number(record.get("openInterest"), "open_interest")
            else:
                value = _number(record.get("open_interest"), "open_interest")
            stamp = record.get("ts", record.get("time"))
            yield Observation(read_time(stamp, "any"), (value,), is_bar=False)

    return read


def liquidations(line: Json) -> Iterator[Observation]:
    """Coinalyze liquidations: long `l` and short `s` positions of a bar."""
    for bar in _bars(line):
        yield _bar(bar, "l", "s")


def ratio(line: Json) -> Iterator[Observation]:
    """Coinalyze long/short ratio: ratio `r`, shares of longs `l` and shorts `s` in per cent."""
    for bar in _bars(line):
        yield _bar(bar, "r", "l", "s")


def whale_alerts(symbol: str) -> Read:
    """Whale Alert transactions of one coin: US dollars into and out of exchanges.

    A transfer from one exchange to another is both.
    """

    def read(line: Json) -> Iterator[Observation]:
        records = line.get("transactions", [line])
        if not isinstance(records, list):
            raise BadRecordError("envelope")
        for record in records:
            if not isinstance(record, dict):
                raise BadRecordError("not an object")
            coin = record.get("symbol")
            if not isinstance(coin, str):
                raise BadRecordError("symbol")
            dollars = _number(record.get("amount_usd"), "amount_usd")
            time_us = _seconds(record.get("timestamp"))
            key = record.get("id", record.get("hash"))
            if type(key) not in (str, int) or key == "":
                raise BadRecordError("id")
            if coin.upper() != symbol:
                continue
            inflow = dollars if _is_exchange(record.get("to")) else Decimal(0)
            outflow = dollars if _is_exchange(record.get("from")) else Decimal(0)
            yield Observation(time_us, (inflow, outflow), is_bar=False, key=str(key))

    return read


def _is_exchange(party: Any) -> bool:
    if not isinstance(party, dict):
        raise BadRecordError("party")
    return party.get("owner_type") == "exchange"


def _is_bars(line: Json) -> bool:
    return "history" in line or "t" in line


def _bars(line: Json) -> list[Json]:
    """The bars of a line: itself, or the history of an answer."""
    bars = line.get("history", [line])
    if not isinstance(bars, list) or not all(isinstance(bar, dict) for bar in bars):
        raise BadRecordError("history")
    return bars


def _bar(bar: Json, *names: str, all_of: tuple[str, ...] = ()) -> Observation:
    for name in all_of:
        _number(bar.get(name), name)
    values = tuple(_number(bar.get(name), name) for name in names)
    return Observation(_seconds(bar.get("t")), values, is_bar=True)


def _seconds(value: Any) -> int:
    if type(value) is not int or not 0 < value < _NEVER_S:
        raise BadRecordError("ts")
    return value * _SECOND_US


def _number(value: Any, name: str) -> Decimal:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError(name)
    try:
        return scaled(*parse_decimal(text))
    except NotANumberError as error:
        raise BadRecordError(name if str(error) == "number" else str(error)) from error


def _check_instrument(record: Json, inst_id: str) -> None:
    for key in ("instId", "symbol"):
        if key in record and record[key] != inst_id:
            raise BadRecordError("instrument")


def _of_contracts(record: Json, contract: Contract) -> Decimal:
    if "oiCcy" in record:
        return _number(record["oiCcy"], "oiCcy")
    contracts = _number(record.get("oi"), "oi")
    if contract.kind != "linear" or not contract.value:
        raise BadRecordError("oiCcy")
    return EXACT.multiply(contracts, Decimal(contract.value))
