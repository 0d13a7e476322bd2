"""Any other table of trades, CSV or Parquet: its columns are told, or known by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pipeline.errors import UsageError
from pipeline.importers.form import BUYER_IS_MAKER, SELL, TAKER, Format, Seen, Where
from pipeline.importers.records import TRADES

ROLES = ("price", "size", "time", "side", "buyer_maker", "id", "inst")
"""What `--map` can name. `buyer_maker` says in true and false what `side` says in buy and sell."""

_NAMES = {
    "price": ("price", "px", "p", "tradeprice"),
    "size": ("size", "qty", "quantity", "amount", "sz", "volume", "q", "baseqty"),
    "time": ("time", "timestamp", "ts", "datetime", "date", "createdtime", "tradetime", "t"),
    "side": ("side", "takerside", "aggressorside", "direction"),
    "buyer_maker": ("isbuyermaker", "buyermaker", "buyerismaker"),
    "id": ("id", "tradeid", "aggtradeid", "trdmatchid", "execid", "uuid"),
}
_IGNORED = re.compile(r"[\s_-]+")
_BOOLEANS = {**BUYER_IS_MAKER, "1": SELL, "0": -SELL}


def _nowhere(_: Seen) -> Where:
    return Where()


CSV = Format(
    name="csv",
    text="any table of trades with a header, or with --map",
    kind="trades",
    variant=TRADES,
    where=_nowhere,
    words={**TAKER, "b": -SELL, "s": SELL},
)
PARQUET = Format(
    name="parquet",
    text="any Parquet file of trades",
    kind="trades",
    variant=TRADES,
    where=_nowhere,
    words={**TAKER, "b": -SELL, "s": SELL},
)


def parse_map(texts: Sequence[str]) -> dict[str, str]:
    """Read `price=Price,size=Qty` and more of it: role -> column.

    Raises:
        UsageError: it is not of that form, or names a role that there is not.
    """
    found: dict[str, str] = {}
    for pair in (pair for text in texts for pair in text.split(",")):
        role, equals, column = (part.strip() for part in pair.partition("="))
        if not equals or not column or role not in ROLES:
            message = f"--map {pair!r}: must be ROLE=COLUMN with a role of {', '.join(ROLES)}"
            raise UsageError(message, "flowvault import --help")
        found[role] = column
    return found


def roles_of(names: Sequence[str], mapping: Mapping[str, str], file: str) -> tuple[str, ...]:
    """By column, its role; columns that are told go before those that are known by name.

    Args:
        names: of the columns, or their numbers from 1 if there is no header.
        mapping: role -> name of a column, or its number.
        file: for messages.

    Raises:
        UsageError: a column is not there, or none is there for a role that is needed.
    """
    places = {role: _place(names, column, role, file) for role, column in mapping.items()}
    plain = [_IGNORED.sub("", name.lower()) for name in names]
    for role, known in _NAMES.items():
        if role in places or {role, *places} >= {"side", "buyer_maker"}:
            continue
        place = next((plain.index(name) for name in known if name in plain), None)
        if place is not None and place not in places.values():
            places[role] = place
    missing = [role for role in ("price", "size", "time") if role not in places]
    if "side" not in places and "buyer_maker" not in places:
        missing.append("side")
    if missing:
        raise UsageError(
            f"{file}: cannot tell which column is {', '.join(missing)}; columns: "
            f"{', '.join(names)}",
            "flowvault import --map " + ",".join(f"{role}=COLUMN" for role in missing) + " …",
        )
    if len(set(places.values())) < len(places):
        told = ", ".join(f"{role}={names[place]}" for role, place in places.items())
        raise UsageError(f"{file}: two roles have one column: {told}", "flowvault import --help")
    by_place = {place: role for role, place in places.items()}
    return tuple(by_place.get(place, "") for place in range(len(names)))


def words_of(roles: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """The roles with `buyer_maker` as `side`, and what its words mean."""
    if "buyer_maker" not in roles:
        return tuple(roles), CSV.words
    return tuple("side" if role == "buyer_maker" else role for role in roles), _BOOLEANS


def _place(names: Sequence[str], column: str, role: str, file: str) -> int:
    if column in names:
        return names.index(column)
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return int(column) - 1
    raise UsageError(
        f"{file}: --map {role}={column}: there is no such column; columns: {', '.join(names)}",
        "flowvault import --help",
    )
