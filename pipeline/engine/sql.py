"""DuckDB over a vault: one view a layer, each at what is committed and not a byte further.

Only the layers that a query names are read. Rows of all instruments stand together, told apart by
`exchange`, `market` and `instId`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from pipeline import stages, tables
from pipeline.engine import tables as market
from pipeline.engine.codecs import polars_type
from pipeline.engine.parts import names
from pipeline.engine.paths import VaultPaths
from pipeline.engine.reader import last_documents, lines_between
from pipeline.engine.runner import read_state
from pipeline.engine.state import State
from pipeline.errors import MissingInputError, UsageError
from pipeline.instrument import Instrument
from pipeline.layers import Layer

if TYPE_CHECKING:
    import duckdb

_TRIES = 20


def query(vault: Path, text: str) -> pl.DataFrame:
    """The rows that a query gives.

    A run may replace the last file of a layer while it is being read; then all is read again.

    Raises:
        UsageError: the query is wrong, or names a layer that there is not.
        MissingInputError: a layer that it names has never been made.
    """
    import duckdb  # noqa: PLC0415  (a tenth of a second that other commands need not spend)

    for attempt in range(_TRIES):
        connection = duckdb.connect()
        connection.execute("set TimeZone = 'UTC'")
        try:
            lacking = [name for name in sorted(_named(text)) if not _add(connection, vault, name)]
            relation = connection.sql(text)
            rows: pl.DataFrame = pl.DataFrame() if relation is None else relation.pl()
        except duckdb.IOException:
            if attempt == _TRIES - 1:
                raise
        except duckdb.CatalogException as error:
            for name in lacking:
                if name in str(error):
                    message = f"layer {name} has no rows in {vault}"
                    hint = "flowvault run --all"
                    if name in stages.layers():
                        hint += f" --stage {stages.owner(name).name}"
                    raise MissingInputError(message, hint) from error
            raise UsageError(f"sql: {str(error).strip()}", "flowvault layers") from error
        except duckdb.Error as error:
            message = str(error).strip()
            raise UsageError(f"sql: {message}", "flowvault layers") from error
        else:
            return rows
        finally:
            connection.close()
    raise AssertionError


def as_table(rows: pl.DataFrame, most: int) -> str:
    """Rows as people read them, the first of many."""
    with pl.Config(
        tbl_rows=most,
        tbl_cols=max(1, rows.width),
        tbl_width_chars=200,
        fmt_str_lengths=80,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_formatting="UTF8_FULL_CONDENSED",
    ):
        more = f"{rows.height - most:,} more rows\n" if rows.height > most else ""
        return f"{rows.head(most)}\n{more}"


def encode(rows: pl.DataFrame, kind: str) -> bytes:
    """Rows as csv (nested values as JSON), json (one object a line) or parquet."""
    out = io.BytesIO()
    if kind == "csv":
        nested = [name for name, dtype in rows.schema.items() if dtype.is_nested()]
        texts = {name: [_json(value) for value in rows[name].to_list()] for name in nested}
        rows.with_columns(pl.Series(n, v, dtype=pl.String) for n, v in texts.items()).write_csv(out)
    elif kind == "json":
        rows.write_ndjson(out)
    else:
        rows.write_parquet(out)
    return out.getvalue()


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _named(text: str) -> set[str]:
    """The layers that a query may mean: a word too many costs little."""
    known = {*stages.layers(), *tables.layers(), *tables.feeds()}
    return set(re.findall(r"\w+", text.lower())) & known


def _add(connection: duckdb.DuckDBPyConnection, vault: Path, name: str) -> bool:
    """Add the view of a layer; False if there is nothing to make it of.

    What US equities are asked for is there without a row as well, once a vault has any of them.
    """
    selects = _of_instruments(connection, vault, name) if name in stages.layers() else []
    selects += _market_wide(vault, name)
    if market.is_market_wide(name) and (selects or market.are_here(vault)):
        # all columns, also where only tapes or only daily bars give rows
        connection.register(f"{name}.empty", market.nothing(name))
        selects.append(f'select * from "{name}.empty"')  # noqa: S608
    if selects:
        connection.execute(f'create view "{name}" as ' + " union all by name ".join(selects))
    return bool(selects)


def _market_wide(vault: Path, name: str) -> list[str]:
    """The files of a feed or table; a layer of tapes has those of symbols without one as well."""
    selects = []
    for each in market.parts_of(name):
        files = ", ".join(_text(path.as_posix()) for path in market.files(vault, each))
        head = "" if each == name else ", 'equity' as market, symbol as \"instId\""
        source = f"read_parquet([{files}], union_by_name = true)"
        selects += [f"select *{head} from {source}"] if files else []  # noqa: S608
    return selects


def _of_instruments(connection: duckdb.DuckDBPyConnection, vault: Path, name: str) -> list[str]:
    """The rows of every instrument of a stage's layer."""
    layer, stage = stages.layers()[name]
    paths = VaultPaths(vault)
    selects = []
    for instrument, state in _states(paths, stage.name):
        folder = paths.derived(layer.folder, instrument)
        head = (
            f"{_text(instrument.exchange)} as exchange, {_text(instrument.row_market)} as market, "
            f'{_text(instrument.inst_id)} as "instId"'
        )
        if layer.format == "parquet":
            files = _files(folder, layer, state)
            listed = ", ".join(_text(path.as_posix()) for path in files)
            parquet = f"select *, {head} from read_parquet([{listed}])"  # noqa: S608  (our own names)
            selects += [parquet] if files else []
            continue
        rows = _documents if layer.format == "json" else _lines
        frame = rows(folder, layer, state, paths)
        if frame.height:
            source = f"{name}.{len(selects)}"
            connection.register(source, frame)
            extra = f", {head}" if layer.format == "json" else ""
            selects.append(f'select *{extra} from "{source}"')  # noqa: S608
    return selects


def _text(value: str) -> str:
    """A text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def _states(paths: VaultPaths, stage: str) -> Iterator[tuple[Instrument, State]]:
    """Every instrument that a stage has a state for."""
    for path in sorted((paths.root / "state" / stage).glob("*/*/*.state.json")):
        inst_id = path.name.removesuffix(".state.json")
        instrument = Instrument(path.parent.parent.name, path.parent.name, inst_id)
        state = read_state(path)
        if state is not None:
            yield instrument, state


def _files(folder: Path, layer: Layer, state: State) -> list[Path]:
    """The files of a Parquet layer; the last one may not have its final name yet."""
    parts = state.parts.get(layer.name)
    listed = [folder / each for each, _, _ in names(parts.rows, parts.part_rows)] if parts else []
    return [path if path.exists() else path.with_name(path.name + ".tmp") for path in listed]


def _lines(folder: Path, layer: Layer, state: State, paths: VaultPaths) -> pl.DataFrame:
    """The committed rows of a JSONL layer; lists of objects as polars makes them out."""
    path = folder / layer.file
    length = state.outputs.get(paths.relative(path), 0)
    if not length:
        return pl.DataFrame()
    simple = {
        column.name: polars_type(column.dtype) for column in layer.columns if column.dtype != "list"
    }
    rows = pl.read_ndjson(
        io.BytesIO(lines_between(path, 0, length)),
        schema_overrides=simple,
        infer_schema_length=None,
    )
    stamps = pl.col("timestamp_utc").str.to_datetime(time_unit="us", time_zone="UTC")
    return rows.with_columns(stamps)


def _documents(folder: Path, layer: Layer, state: State, paths: VaultPaths) -> pl.DataFrame:
    """The committed documents of a JSON layer, a row each."""
    del paths
    count = state.layers[layer.name].rows if layer.name in state.layers else 0
    lines = last_documents(folder, state, layer, count)
    if not lines:
        return pl.DataFrame()
    return pl.read_ndjson(io.BytesIO(b"".join(lines)), infer_schema_length=None)
