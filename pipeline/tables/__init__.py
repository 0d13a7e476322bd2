"""Every market-wide table by name, with the line that help prints, and the feeds they read.

The modules are loaded when needed, so that `flowvault --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

from pipeline.layers import Layer
from pipeline.table import Feed, Table

SUMMARY = {
    "broker_master": "Who is behind the MPID of a venue: 25 of them, with the evidence.",
    "entities": "Issuers, managers and funds: whom a CIK stands for.",
    "bars_daily": "Daily buying and selling of symbols without a tape, from daily bars.",
    "broker_map": "Which institution's holdings move with which venue's volume.",
    "attribution": "Volume of venues by institution, day by day: an association, no proof.",
    "micro_signals": "Signals of a period from flows, toxicity and price impact, by symbol.",
    "rotation": "Large holders leaving a stock, scored.",
}
"""In an order in which they can be made."""

COMMANDS = ("broker_map", "attribution", "micro_signals", "rotation")
"""The tables that have a command of their own."""

_FEEDS = ("finra", "prices", "sec")


@cache
def load(name: str) -> Table[Any]:
    """The table of that name."""
    table: Table[Any] = import_module(f"pipeline.tables.{name}").TABLE
    return table


def all_tables() -> tuple[Table[Any], ...]:
    """All tables in an order in which they can be made."""
    return tuple(load(name) for name in SUMMARY)


@cache
def layers() -> dict[str, tuple[Layer, Table[Any]]]:
    """Every layer by name, with the table that makes it."""
    return {layer.name: (layer, table) for table in all_tables() for layer in table.layers}


@cache
def feeds() -> dict[str, Feed]:
    """Every feed by name."""
    modules = [import_module(f"pipeline.raw.whole.{name}") for name in _FEEDS]
    found = [each for module in modules for each in vars(module).values()]
    return {each.name: each for each in found if isinstance(each, Feed)}


def with_upstream(names: Iterable[str]) -> list[Table[Any]]:
    """The named tables and all they read, in order."""
    wanted: set[str] = set()
    waiting = [load(name) for name in names]
    while waiting:
        table = waiting.pop()
        if table.name not in wanted:
            wanted.add(table.name)
            waiting += [layers()[read][1] for read in table.reads if read in layers()]
    return [table for table in all_tables() if table.name in wanted]


def with_downstream(name: str) -> list[Table[Any]]:
    """The named table and all that read it, directly or not, in order."""
    wanted = {name}
    for table in all_tables():
        if any(layers()[read][1].name in wanted for read in table.reads if read in layers()):
            wanted.add(table.name)
    return [table for table in all_tables() if table.name in wanted]


def rows_named(name: str) -> Layer | None:
    """The rows of a feed or table, by their own name or by the table's (then its first layer)."""
    if name in feeds():
        return feeds()[name].layer
    if name in layers():
        return layers()[name][0]
    return load(name).layers[0] if name in SUMMARY else None


def table_named(name: str) -> Table[Any] | None:
    """A table by its own name or by that of a layer it makes."""
    if name in layers():
        return layers()[name][1]
    return load(name) if name in SUMMARY else None
