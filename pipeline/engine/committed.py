"""Committed rows of one layer as frames, beside a process that may be running or rebuilding it.

A reader goes by the state it has loaded: rows behind that are not shown, and what a run does
meanwhile only adds to them. A rebuild puts other files in their place and raises the state's
epoch, so rows from both sides of it are noticed and not handed out.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipeline.engine import state as states
from pipeline.engine.codecs import polars_type
from pipeline.engine.documents import day_of_document, documents_in
from pipeline.engine.lock import holder_lives
from pipeline.engine.parts import names, part_name, places_of, span_of
from pipeline.engine.paths import VaultPaths
from pipeline.engine.reader import length_in
from pipeline.engine.seek import Span, line_range, part_range
from pipeline.engine.state import State, read_state
from pipeline.errors import MissingInputError, StateError, disk_errors
from pipeline.instrument import Instrument
from pipeline.layers import HEADER, Layer
from pipeline.stage import DAY_US

ALWAYS = Span()
_TRIES = 20
_STAMP = HEADER[0]

Columns = list[str] | None


class RebuiltError(Exception):
    """The rows were rebuilt while they were being read."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One layer of one instrument.

    Attributes:
        stage: the name of the stage that writes it.
    """

    paths: VaultPaths
    layer: Layer
    stage: str
    instrument: Instrument

    def read(self, span: Span = ALWAYS, columns: Columns = None) -> pl.DataFrame:
        """The rows of a span as one commit left them.

        Raises:
            MissingInputError: the layer has never been made.
            StateError: its files are not there.
        """
        for _ in range(_TRIES):
            with suppress(RebuiltError):
                return Snapshot.of(self).read(span, columns)
        message = f"{self.layer.name} of {self.instrument.key} is rebuilt over and over"
        raise StateError(message, f"flowvault status {self.instrument.options}")

    def scan(self, span: Span = ALWAYS) -> pl.LazyFrame:
        """The same; rows of a Parquet layer are read when they are collected.

        Raises:
            MissingInputError: the layer has never been made.
            StateError: its files are not there; also on collecting, if it was rebuilt since.
        """
        if self.layer.format != "parquet":
            return self.read(span).lazy()
        from polars.io.plugins import register_io_source  # noqa: PLC0415

        snapshot = Snapshot.of(self)

        def source(
            columns: Columns, predicate: pl.Expr | None, count: int | None, _size: int | None
        ) -> Iterator[pl.DataFrame]:
            try:
                with disk_errors():
                    yield from snapshot.parts(span, columns, predicate, count)
            except RebuiltError:
                message = f"{self.layer.name} of {self.instrument.key} was rebuilt after the scan"
                raise StateError(message, "scan it again") from None

        return register_io_source(source, schema=schema_of(self.layer))


def schema_of(layer: Layer) -> dict[str, Any]:
    """Columns and types of a Parquet layer."""
    return {column.name: polars_type(column.dtype) for column in layer.columns}


@dataclass(slots=True)
class Snapshot:
    """A layer in the state in which one commit left it."""

    of_layer: Committed
    state: State
    _looked_at: tuple[int, int] = field(default=(0, 0), init=False)

    @classmethod
    def of(cls, committed: Committed) -> Snapshot:
        """The newest commit.

        Raises:
            MissingInputError: there is none.
            StateError: a rebuild that was being swapped in is still to be finished.
        """
        command = f"flowvault {committed.stage} {committed.instrument.options}"
        state = read_state(committed.paths.state(committed.stage, committed.instrument))
        if state is None:
            message = f"{committed.layer.name} of {committed.instrument.key} has never been made"
            raise MissingInputError(message, command)
        if state.swapping:
            lock = committed.paths.lock(committed.stage, committed.instrument)
            message = f"{committed.instrument.key}: a rebuild of {committed.stage} "
            if holder_lives(lock):
                raise StateError(f"{message}is being swapped in", "wait a moment and try again")
            raise StateError(f"{message}was interrupted", command)
        return cls(committed, state)

    def read(self, span: Span, columns: Columns) -> pl.DataFrame:
        """The rows of a span.

        Raises:
            RebuiltError: they have been rebuilt meanwhile.
        """
        layer = self.of_layer.layer
        if layer.format == "parquet":
            schema = schema_of(layer)
            chosen = schema if columns is None else {name: schema[name] for name in columns}
            return pl.concat([pl.DataFrame(schema=chosen), *self.parts(span, columns)])
        rows = self._lines(span) if layer.format == "jsonl" else self._documents(span)
        return rows if columns is None else rows.select(columns)

    def check(self) -> None:
        """See whether what was read still stands.

        Raises:
            RebuiltError: it was rebuilt meanwhile.
        """
        path = self.of_layer.paths.state(self.of_layer.stage, self.of_layer.instrument)
        with suppress(FileNotFoundError):  # between two names; the state is loaded below
            stat = path.stat()
            look = (stat.st_ino, stat.st_mtime_ns)
            if look == self._looked_at:
                return
            self._looked_at = look
        now, _ = states.load(path)
        if now is None or now.epoch != self.state.epoch or now.swapping:
            raise RebuiltError

    def files(self) -> list[Path]:
        """The files of a Parquet layer; the last one may not have its final name yet."""
        found = [self._folder / name for name, _, _ in self._listed]
        return [path if path.exists() else path.with_name(path.name + ".tmp") for path in found]

    @property
    def _folder(self) -> Path:
        return self.of_layer.paths.derived(self.of_layer.layer.folder, self.of_layer.instrument)

    @property
    def _listed(self) -> list[tuple[str, int, int]]:
        parts = self.state.parts.get(self.of_layer.layer.name)
        return list(names(parts)) if parts is not None else []

    def _margin_us(self, span: Span) -> int:
        """How far a row may lie behind one before it: what trades may be late, and a day."""
        if span.is_everything:
            return 0
        committed = self.of_layer
        trades, _ = states.load(committed.paths.state("trades", committed.instrument))
        late = [each.lateness_us for each in (self.state, trades) if each is not None]
        return DAY_US + max(late)

    # -- Parquet -------------------------------------------------------------------------

    def parts(
        self,
        span: Span,
        columns: Columns = None,
        predicate: pl.Expr | None = None,
        count: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Rows file by file, the first `count` of those that fit.

        Raises:
            RebuiltError: they have been rebuilt meanwhile.
        """
        listed, left = self._listed, count
        only_times = pl.col("ts")

        def times(number: int) -> pl.Series:
            _, start, end = listed[number]
            return self._part(start, end, lambda rows: rows.select(only_times))["ts"]

        def chosen(rows: pl.LazyFrame) -> pl.LazyFrame:
            rows = rows if span.is_everything else rows.filter(span.holds(only_times))
            rows = rows if predicate is None else rows.filter(predicate)
            rows = rows if columns is None else rows.select(columns)
            return rows if left is None else rows.head(left)

        first, last = part_range(len(listed), span, self._margin_us(span), times)
        for _, start, end in listed[first:last]:
            if left is not None and left <= 0:
                return
            rows = self._part(start, end, chosen)
            left = None if left is None else left - rows.height
            yield rows

    def _part(self, start: int, end: int, chosen: Any) -> pl.DataFrame:
        """What is wanted of rows [start, end), the file of which may be replaced at any moment."""
        for _ in range(_TRIES):
            path = self._path_of(start, end)
            rows = pl.scan_parquet(path, glob=False)
            low, high = span_of(path.name)
            rows = rows if (low, high) == (start, end) else rows.slice(start - low, end - start)
            try:
                found: pl.DataFrame = chosen(rows).collect()
            except FileNotFoundError:
                continue
            except pl.exceptions.PolarsError as error:
                self.check()
                raise self._lost(f"{path} is damaged: {error}") from error
            self.check()
            return found
        raise self._lost(f"{self._folder / part_name(start, end)} is replaced over and over")

    def _path_of(self, start: int, end: int) -> Path:
        """The file of these rows, or one with more of them that has taken its place."""
        for path in places_of(self._folder, start, end):
            if path.exists():
                return path
            self.check()
        raise self._lost(f"{self._folder / part_name(start, end)}: committed rows are gone")

    # -- lines and documents -------------------------------------------------------------

    def _lines(self, span: Span) -> pl.DataFrame:
        """Rows of a JSONL layer."""
        layer = self.of_layer.layer
        path = self._folder / layer.file
        length = length_in(self.state, self.of_layer.paths.root, layer, self.of_layer.instrument)
        data = b""
        if length:
            try:
                start, end = line_range(path, length, span, self._margin_us(span))
                with path.open("rb") as stream:
                    stream.seek(start)
                    data = stream.read(end - start)
            except FileNotFoundError:
                start, end = 0, length
            self.check()
            if len(data) < end - start:
                raise self._lost(f"{path}: {length} bytes are committed and they are not there")
        stamps = pl.col(_STAMP).str.to_datetime(time_unit="us", time_zone="UTC")
        rows = self._from_json(data).with_columns(stamps)
        return rows if span.is_everything else rows.filter(span.holds(pl.col(_STAMP)))

    def _documents(self, span: Span) -> pl.DataFrame:
        """The documents of a JSON layer, a row each; one is of the day in its file's name."""
        found = list(documents_in(self.state.outputs, self.of_layer.layer))
        days = [date.fromisoformat(day_of_document(name)) for name in found]
        day = pl.Series("day", days, dtype=pl.Date).cast(pl.Datetime("us", "UTC"))
        wanted = pl.DataFrame([pl.Series("name", found, dtype=pl.String), day])
        wanted = wanted.filter(span.holds(pl.col("day")))
        try:
            texts = [(self._folder / name).read_bytes() for name in wanted["name"]]
        except FileNotFoundError as error:
            self.check()
            raise self._lost(f"{error.filename}: committed rows are gone") from error
        self.check()
        lines = b"".join(msgspec.json.format(text, indent=-1) + b"\n" for text in texts)
        return self._from_json(lines)

    def _from_json(self, lines: bytes) -> pl.DataFrame:
        """Rows from lines of JSON; what is in lists as polars makes it out."""
        layer = self.of_layer.layer
        simple = {c.name: polars_type(c.dtype) for c in layer.columns if c.dtype != "list"}
        if lines:
            source = io.BytesIO(lines)
            return pl.read_ndjson(source, schema_overrides=simple, infer_schema_length=None)
        nested = {c.name: pl.List(pl.Null) for c in layer.columns if c.dtype == "list"}
        types = dict.fromkeys(HEADER, pl.String) | simple | nested
        return pl.DataFrame(schema={name: types[name] for name in layer.keys})

    def _lost(self, message: str) -> StateError:
        committed = self.of_layer
        hint = f"flowvault rebuild {committed.stage} {committed.instrument.options}"
        return StateError(message, hint)
