"""Committed rows of feeds and tables, as `tail` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline import tables
from pipeline.engine.tables import damaged, files, frame, listings
from pipeline.errors import StateError

_TRIES = 20


def was_made(vault: Path, name: str) -> bool:
    """Whether a feed has been read, or a table been made."""
    return listings(vault, name) is not None


def last_rows(vault: Path, name: str, symbols: Sequence[str], count: int) -> pl.DataFrame:
    """The last committed rows, those of some symbols alone if any are given.

    Raises:
        StateError: a committed file is damaged or gone.
    """
    for _ in range(_TRIES):
        rows = frame(vault, name)
        if symbols:
            rows = rows.filter(pl.col("symbol").is_in(list(symbols)))
        try:
            return rows.tail(count).collect()
        except FileNotFoundError:
            continue  # a run has put others in their place
        except pl.exceptions.PolarsError as error:
            where = damaged(vault)
            message = f"{name}: {where or 'a committed file'} is damaged"
            raise StateError(message, _mend(name, where)) from error
    gone = [str(path) for path in files(vault, name) if not path.exists()]
    raise StateError(f"{name}: {' and '.join(gone)} is gone", _mend(name))


def _mend(name: str, bad: Path | None = None) -> str:
    """The command that makes the files of a feed or table again."""
    table = tables.table_named(name)
    if table is not None:
        return f"flowvault rebuild {table.name}"
    return "flowvault run --all" if bad is None else f"delete {bad}, then flowvault run --all"
