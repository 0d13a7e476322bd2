"""How far the market-wide feeds and tables are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import tables
from pipeline.engine import feeds, tablestate
from pipeline.engine.tables import Inputs, fresh_state, is_made_of
from pipeline.engine.tablestate import FeedState, TableState
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.table import Feed, Table


def describe(vault: Path) -> list[dict[str, Any]]:
    """A line per feed that has files and per layer of a table: rows, bad lines, what is to do."""
    inputs = Inputs(Vault.open(vault))
    lines = [_feed(vault, f) for f in tables.feeds().values() if feeds.has_files(vault, f)]
    return lines + [line for each in tables.all_tables() for line in _table(inputs, each)]


def _feed(vault: Path, feed: Feed) -> dict[str, Any]:
    head = {"layer": feed.layer.name, "stage": feed.name}
    try:
        state, _ = tablestate.load(tablestate.path_of(vault, feed.name), FeedState)
    except FlowvaultError as error:
        return {**head, "error": error.message}
    found, _ = feeds.find(vault, feed)
    marks = state.files if state is not None else {}
    unread = [key for key, raw in found.items() if key not in marks or not raw.is_like(marks[key])]
    return {
        **head,
        "rows": sum(mark.rows for mark in marks.values()),
        "files": len(marks),
        "unread_files": len(unread),
        "gone_files": len([key for key in marks if key not in found]),
        "bad": sum(mark.bad for mark in marks.values()),
    }


def _table(inputs: Inputs, table: Table[Any]) -> list[dict[str, Any]]:
    heads = [{"layer": layer.name, "stage": table.name} for layer in table.layers]
    try:
        path = tablestate.path_of(inputs.vault.root, table.name)
        state, _ = tablestate.load(path, TableState)
        if state is None:
            return [{**head, "error": "never made"} for head in heads]
        is_current = is_made_of(state, fresh_state(inputs, table, dict(state.seen))[0])
    except FlowvaultError as error:
        return [{**head, "error": error.message} for head in heads]
    return [
        {
            **head,
            "rows": tablestate.digest_of_all(state.outputs[head["layer"]])[1],
            "is_current": is_current,
        }
        for head in heads
    ]
