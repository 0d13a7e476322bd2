"""What a market-wide table was made from: its tables and feeds, down to raw files by digest.

A table is made as a whole from all rows of what it reads, so there is no telling rows apart: what
one row was made from is what all were made from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import tables
from pipeline.engine import feeds, tablestate
from pipeline.engine.stagelayers import StageLayer
from pipeline.engine.tables import Inputs, fresh_state
from pipeline.engine.tablestate import FeedState, Listing, SourceMark, TableState
from pipeline.engine.vault import Vault
from pipeline.errors import MissingInputError
from pipeline.table import Feed, Table
from pipeline.tables.frames import TAPE_STAGES


@dataclass(frozen=True, slots=True)
class Rows:
    """A committed file: its rows, and the BLAKE2b digest of its bytes."""

    path: str
    rows: int
    blake2b: str


@dataclass(frozen=True, slots=True)
class RawWhole:
    """A raw file that was read as a whole, as it was then.

    Attributes:
        path: below the vault; a compressed file ends in more than this.
        blake2b: of its decompressed bytes.
        rows: what it gave; `bad`: lines that were set aside.
    """

    path: str
    lines: int
    rows: int
    bad: int
    blake2b: str
    is_there: bool


@dataclass(slots=True)
class TableSource:
    """A table's layer or a feed, and how it was made.

    Attributes:
        kind: "table", "feed", or "layer" of a stage, of all instruments that have it.
        reads: what it was made from, by name.
        changed: which of these have changed since, parameters and version included.
        instruments: of a stage's layer, whose rows it is made of.
    """

    name: str
    kind: str
    made_by: str
    version: int
    rows: int
    parameters: dict[str, Any] = field(default_factory=dict)
    files: list[Rows] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    raw: list[RawWhole] = field(default_factory=list)
    instruments: list[str] = field(default_factory=list)


def explain_table(vault: Vault, name: str) -> list[TableSource]:
    """All that a table's layer or a feed was made from, itself first.

    Raises:
        MissingInputError: it has not been made.
    """
    found: dict[str, TableSource] = {}
    inputs, waiting = Inputs(vault), [name]
    while waiting:
        each = waiting.pop(0)
        if each not in found:
            found[each] = _source(inputs, each)
            waiting += found[each].reads
    return list(found.values())


def _source(inputs: Inputs, name: str) -> TableSource:
    root = inputs.vault.root
    if name in TAPE_STAGES:
        return _of_stage(root, name)
    if name in tables.feeds():
        return _of_feed(root, tables.feeds()[name])
    return _of_table(inputs, name, tables.layers()[name][1])


def _of_stage(root: Path, name: str) -> TableSource:
    layer = StageLayer(root, name)
    _, rows = layer.digest({})
    keys = ["/".join(path.parts[-3:]).removesuffix(".state.json") for path in layer.states()]
    return TableSource(name, "layer", layer.stage.name, layer.stage.version, rows, instruments=keys)


def _of_feed(root: Path, feed: Feed) -> TableSource:
    """A feed that has never been read has no rows, and tables know that."""
    state, _ = tablestate.load(tablestate.path_of(root, feed.name), FeedState)
    if state is None:
        return TableSource(feed.name, "feed", feed.name, feed.version, 0)
    there, _ = feeds.find(root, feed)
    raw = [_raw(key, mark, is_there=key in there) for key, mark in sorted(state.files.items())]
    listed = list(state.outputs.values())
    files, rows = _files(feed.layer.folder, listed), sum(each.rows for each in listed)
    return TableSource(feed.name, "feed", feed.name, state.code_version, rows, files=files, raw=raw)


def _raw(key: str, mark: SourceMark, *, is_there: bool) -> RawWhole:
    return RawWhole(f"raw/{key}", mark.lines, mark.rows, mark.bad, mark.digest, is_there)


def _of_table(inputs: Inputs, name: str, table: Table[Any]) -> TableSource:
    state, _ = tablestate.load(tablestate.path_of(inputs.vault.root, table.name), TableState)
    if state is None:
        command = table.name if table.name in tables.COMMANDS else "run --all"
        raise MissingInputError(f"{name} has not been made", f"flowvault {command}")
    fresh, _ = fresh_state(inputs, table, dict(state.seen))
    listed = list(state.outputs[name].values())
    changed = [each for each in table.reads if state.inputs.get(each) != fresh.inputs[each]]
    changed += ["parameters"] if state.params != fresh.params else []
    changed += ["version"] if state.code_version != fresh.code_version else []
    return TableSource(
        name,
        "table",
        table.name,
        state.code_version,
        sum(each.rows for each in listed),
        state.params,
        _files(tables.layers()[name][0].folder, listed),
        list(table.reads),
        changed,
    )


def _files(folder: str, listed: list[Listing]) -> list[Rows]:
    return [Rows(f"derived/{folder}/{each.name}", each.rows, each.digest) for each in listed]
