"""Rules in SQL over the latest rows of the layers.

A rule is a list of parts, each a boolean expression of DuckDB's SQL in which `layer.column` stands
for a value of that layer's row, in small letters. A part that cannot be told because a row is
missing is null, as SQL has it, and so is one that fails on the values of a row; a rule holds when
every part does.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import polars as pl

if TYPE_CHECKING:
    import duckdb

_REFERENCE = re.compile(r"(?<![\w.'])([a-z_][a-z0-9_]*)\.([a-z_][a-z0-9_]*)")
_TEXT = re.compile(r"'(?:[^']|'')*'")
_WORD = re.compile(r"(?<![\w.])[a-z_]\w*")
_TABLE = re.compile(r"(?<![\w.])(?:select|latest)\b|\(\s*from\b", re.IGNORECASE)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: what it means when all parts of `when` hold."""

    direction: str
    when: list[str]

    def __post_init__(self) -> None:
        """Refuse a rule that says nothing."""
        if not self.direction or not self.when:
            raise ValueError("a rule needs a direction and at least one part in `when`")


class Part(NamedTuple):
    """What came of one part: the values it looked at, and whether it holds."""

    truth: bool | None
    values: dict[str, Any]


def references(part: str) -> list[tuple[str, str]]:
    """The `layer.column` pairs of an expression, in order, each once."""
    return list(dict.fromkeys(_REFERENCE.findall(_TEXT.sub("''", part))))


def check(parts: Iterable[str], columns: Mapping[str, Mapping[str, Any]]) -> None:
    """See whether expressions can be evaluated over these layers.

    Args:
        parts: the expressions.
        columns: by layer, the polars type of each column.

    Raises:
        ValueError: one cannot; the message names it.
    """
    import duckdb  # noqa: PLC0415  (a tenth of a second that other stages need not spend)

    connection = duckdb.connect()
    try:
        fickle = _fickle(connection)
        for part in parts:
            _check_words(part, fickle)
            fields: dict[str, dict[str, Any]] = {}
            for layer, column in references(part):
                if layer not in columns:
                    known = ", ".join(columns)
                    raise ValueError(f"{part!r}: there is no layer {layer!r}; layers: {known}")
                if column not in columns[layer]:
                    known = ", ".join(columns[layer])
                    message = f"{part!r}: {layer} has no column {column!r}; columns: {known}"
                    raise ValueError(message)
                fields.setdefault(layer, {})[column] = columns[layer][column]
            schema = {name: pl.Struct(each) for name, each in fields.items()}
            # the values it looks at and no others are at hand later
            connection.register("latest", pl.DataFrame(schema={**schema, "_": pl.Int8}))
            _column(connection, part)
            _check_alone(connection, part)
    finally:
        connection.close()


def _check_words(part: str, fickle: frozenset[str]) -> None:
    """Refuse what would look at other rows, or at the clock."""
    bare = _TEXT.sub("''", part).lower()
    if _TABLE.search(bare):
        raise ValueError(f"{part!r}: a part has values of layers and no tables")
    for word in sorted(fickle.intersection(_WORD.findall(bare))):
        raise ValueError(f"{part!r}: {word} does not always give the same")


def _check_alone(connection: duckdb.DuckDBPyConnection, part: str) -> None:
    """Refuse what would mix rows: aggregates have no place behind `where`."""
    import duckdb  # noqa: PLC0415

    try:
        connection.sql(f"select 1 from latest where ({part})")  # noqa: S608
    except duckdb.Error as error:
        raise ValueError(f"{part!r}: {str(error).strip()}") from error


def _fickle(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """The functions that give something else another time."""
    found = connection.execute(
        "select lower(function_name) from duckdb_functions() where stability <> 'CONSISTENT'"
    )
    names = {name for (name,) in found.fetchall()}
    return frozenset(names | {"current_time", "current_timestamp", "localtime", "localtimestamp"})


def evaluate(
    parts: Sequence[str], rows: pl.DataFrame, frames: Mapping[str, pl.DataFrame]
) -> list[list[Part]]:
    """Evaluate expressions over rows.

    Args:
        parts: the expressions.
        rows: one struct column per layer.
        frames: the same values by layer, as columns.

    Returns:
        For each row, what came of each part.
    """
    truths = _evaluate(parts, rows)
    looked_at = [references(part) for part in parts]
    values = {name: frame.to_dicts() for name, frame in frames.items()}
    return [
        [
            Part(
                truths[place][row],
                {f"{layer}.{column}": values[layer][row][column] for layer, column in looked},
            )
            for place, looked in enumerate(looked_at)
        ]
        for row in range(rows.height)
    ]


def _evaluate(parts: Sequence[str], rows: pl.DataFrame) -> list[list[bool | None]]:
    connection = _connection()
    connection.register("latest", rows)
    try:
        return [_column(connection, part) for part in parts]
    finally:
        connection.unregister("latest")


_kept = threading.local()


def _connection() -> duckdb.DuckDBPyConnection:
    """A connection of this thread: to make one takes as long as to evaluate all rules."""
    import duckdb  # noqa: PLC0415  (a tenth of a second that other stages need not spend)

    if not hasattr(_kept, "connection"):
        _kept.connection = duckdb.connect()
    found: duckdb.DuckDBPyConnection = _kept.connection
    return found


def _column(connection: duckdb.DuckDBPyConnection, part: str) -> list[bool | None]:
    import duckdb  # noqa: PLC0415

    try:
        relation = connection.sql(f"select try({part}) as truth from latest")  # noqa: S608
        kind = str(relation.types[0])
        if kind not in ("BOOLEAN", '"NULL"'):
            raise ValueError(f"{part!r} is {kind}, not true or false")
        return [truth for (truth,) in relation.fetchall()]
    except duckdb.Error as error:
        raise ValueError(f"{part!r}: {str(error).strip()}") from error
