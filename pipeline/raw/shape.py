"""What an adapter declares: where the fields of a record stand and what their values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]

BUY, SELL = 1, -1
TAKER_SIDE = {"buy": BUY, "sell": SELL}
MAKER_SIDE = {"buy": SELL, "sell": BUY, "BUY": SELL, "SELL": BUY}
BUYER_IS_MAKER = {"true": SELL, "false": BUY}


class BadRecordError(ValueError):
    """A record cannot be used; the message is the short reason kept in the quarantine."""


@dataclass(frozen=True, slots=True)
class TradeShape:
    """The keys of one kind of trade record.

    Attributes:
        side_of: text of the side field (JSON true/false as "true"/"false") -> taker's side.
        time: "ms" (a number or digits, milliseconds since 1970), "iso", or "any" of the two.
        inst_id: key that must repeat the folder's instrument, if the record has one.
        count: key of how many exchange trades the record aggregates, if there may be one.
        contract: keys of ctVal, ctMult, ctType where the record carries its contract size.
        one_of: keys that must hold one of the given texts.
    """

    trade_id: str
    price: str
    size: str
    side: str
    ts: str
    side_of: Mapping[str, int]
    time: Literal["ms", "iso", "any"]
    inst_id: str | None = None
    count: str | None = None
    contract: tuple[str, str, str] | None = None
    one_of: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TradeAdapter:
    """How the trades of one exchange are written.

    Attributes:
        unwrap: yields (record, path prefix) for every record of a line's object; the prefix
            says where the record stands ("", "data." or "data[].").
        shape_of: the shape of one record, or None when it is no trade.
        contiguous: trade ids of an instrument rise by one, so a jump means missing trades.
    """

    unwrap: Callable[[Json], Iterator[tuple[Any, str]]]
    shape_of: Callable[[Json], TradeShape | None]
    contiguous: bool


def bare(line: Json) -> Iterator[tuple[Any, str]]:
    """The line's object is the record."""
    yield line, ""


def in_data(line: Json) -> Iterator[tuple[Any, str]]:
    """A bare record, or a websocket envelope with one object or a list of them under `data`."""
    data = line.get("data")
    if data is None:
        yield line, ""
    elif isinstance(data, list):
        if not data:
            raise BadRecordError("empty envelope")
        for record in data:
            yield record, "data[]."
    else:
        yield data, "data."
