"""DuckDB over a vault: one view a layer, each at what is committed and not a byte further.

Only the layers that a query names are read. Rows of all instruments stand together, told apart by
`exchange`, `market` and `instId`.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from pipeline import stages, tables
from pipeline.engine import tables as market
from pipeline.engine.committed import ALWAYS, Committed, RebuiltError, Snapshot
from pipeline.engine.paths import VaultPaths, instruments_of
from pipeline.errors import MissingInputError, StateError, UsageError

if TYPE_CHECKING:
    import duckdb

_TRIES = 20


def query(vault: Path, text: str) -> pl.DataFrame:
    """The rows that a query gives.

    A run may replace the last file of a layer while it is being read, and a rebuild all of them;
    then all is read again.

    Raises:
        UsageError: the query is wrong, or names a layer that there is not.
        MissingInputError: a layer that it names has never been made.
        StateError: rows of a layer that it names are not there.
    """
    import duckdb  # noqa: PLC0415  (a tenth of a second that other commands need not spend)

    for attempt in range(_TRIES):
        connection = duckdb.connect()
        connection.execute("set TimeZone = 'UTC'")
        used: list[Snapshot] = []
        try:
            names = sorted(_named(text))
            lacking = [name for name in names if not _add(connection, vault, name, used)]
            relation = connection.sql(text)
            rows: pl.DataFrame = pl.DataFrame() if relation is None else relation.pl()
            for snapshot in used:
                snapshot.check()
        except (duckdb.IOException, RebuiltError) as error:
            if attempt == _TRIES - 1:
                message = f"sql: the layers change faster than they can be read: {error}"
                raise StateError(message, "flowvault status") from error
        except duckdb.CatalogException as error:
            absent = next((name for name in lacking if name in str(error)), None)
            if absent is not None:
                raise _no_rows(vault, absent) from error
            raise UsageError(f"sql: {str(error).strip()}", "flowvault layers") from error
        except duckdb.Error as error:
            message = str(error).strip()
            raise UsageError(f"sql: {message}", "flowvault layers") from error
        else:
            return rows
        finally:
            connection.close()
    raise AssertionError


def _no_rows(vault: Path, name: str) -> MissingInputError:
    """The error for a layer that has never been made."""
    stage = f" --stage {stages.owner(name).name}" if name in stages.layers() else ""
    return MissingInputError(f"layer {name} has no rows in {vault}", f"flowvault run --all{stage}")


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


def _add(
    connection: duckdb.DuckDBPyConnection, vault: Path, name: str, used: list[Snapshot]
) -> bool:
    """Add the view of a layer and note what it shows; False if there is nothing to make it of.

    What US equities are asked for is there without a row as well, once a vault has any of them.
    """
    selects = _of_instruments(connection, vault, name, used) if name in stages.layers() else []
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


def _of_instruments(
    connection: duckdb.DuckDBPyConnection, vault: Path, name: str, used: list[Snapshot]
) -> list[str]:
    """The rows of every instrument of a stage's layer."""
    layer, stage = stages.layers()[name]
    paths = VaultPaths(vault)
    selects = []
    for instrument in instruments_of(paths, stage.name):
        snapshot = Snapshot.of(Committed(paths, layer, stage.name, instrument))
        used.append(snapshot)
        head = (
            f"{_text(instrument.exchange)} as exchange, {_text(instrument.row_market)} as market, "
            f'{_text(instrument.inst_id)} as "instId"'
        )
        if layer.format == "parquet":
            files = snapshot.files()
            listed = ", ".join(_text(path.as_posix()) for path in files)
            parquet = f"select *, {head} from read_parquet([{listed}])"  # noqa: S608  (our own names)
            selects += [parquet] if files else []
            continue
        frame = snapshot.read(ALWAYS, None)
        if frame.height:
            source = f"{name}.{len(selects)}"
            connection.register(source, frame)
            extra = f", {head}" if layer.format == "json" else ""
            selects.append(f'select *{extra} from "{source}"')  # noqa: S608
    return selects


def _text(value: str) -> str:
    """A text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"
