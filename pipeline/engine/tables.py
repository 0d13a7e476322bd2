"""Market-wide tables: made again as a whole when anything they are made from has changed.

What a table was made from is kept in its state as digests: of the committed rows of every feed,
layer and table that it reads, beside its parameters and version. While all of these are the same
nothing is computed and nothing is written. One lock covers all feeds and tables, so that what a
table reads does not change while it is being made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipeline import tables
from pipeline.engine import feeds, lock, tablestate
from pipeline.engine.codecs import polars_type
from pipeline.engine.feeds import FeedRun, Outcome, Report
from pipeline.engine.parts import to_bytes
from pipeline.engine.shelf import Shelf, as_it_is, digest_of, parquet_name
from pipeline.engine.stagelayers import StageLayer
from pipeline.engine.tablestate import FeedState, Listing, SourceMark, TableState
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, StateError, guarded
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Part, Table
from pipeline.tables.frames import BARS, TAPE_STAGES

WHAT = "the market-wide tables"


def update(
    vault: Vault,
    chain: Sequence[Table[Any]],
    report: Report | None = None,
    frozen: frozenset[str] = frozenset(),
    forced: frozenset[str] = frozenset(),
) -> Iterator[Outcome | FlowvaultError]:
    """Bring tables up to date, and first the feeds that they read.

    Yields what was done for each, or its error; what reads one that failed is left out. Tables in
    `frozen` are left as they are if they have been made before, those in `forced` are made again
    though nothing has changed.

    Raises:
        LockedError: another process is at it.
    """
    with _guarded(WHAT, vault.root), lock.hold(tablestate.lock_path(vault.root), WHAT):
        inputs = Inputs(vault)
        is_all = len(chain) == len(tables.all_tables())
        reads = {name for table in chain for name in table.reads}
        reads |= set(tables.feeds()) if is_all else set()
        failed: set[str] = set()
        for name, feed in tables.feeds().items():
            if name in reads and feeds.has_files(vault.root, feed):
                run = FeedRun(vault.root, feed, report)
                try:
                    with _guarded(f"feed {name}", vault.root):
                        run.run()
                except FlowvaultError as error:
                    failed.add(name)
                    yield error
                    continue
                yield run.outcome
                yield from run.outcome.damaged
        for table in chain:
            made = {layer.name for layer in table.layers}
            if failed & set(table.reads):
                failed |= made
                continue
            try:
                with _guarded(f"table {table.name}", vault.root):
                    yield TableRun(inputs, table).run(
                        is_frozen=table.name in frozen, is_forced=table.name in forced
                    )
            except FlowvaultError as error:
                failed |= made
                yield error


@contextmanager
def _guarded(what: str, vault: Path) -> Iterator[None]:
    """As `guarded`; damaged files are named too."""
    try:
        with guarded(what):
            yield
    except pl.exceptions.PolarsError as error:
        path = damaged(vault)
        if path is None:
            raise
        message = f"{what}: {path} is damaged"
        raise StateError(message, f"delete {path}, then run the same command again") from error


def damaged(vault: Path) -> Path | None:
    """A committed file whose bytes are no longer those that were written."""
    for name in (*tables.feeds(), *tables.layers()):
        for listing, path in zip(listed_of(vault, name), files(vault, name), strict=True):
            if path.is_file() and digest_of(path.read_bytes()) != listing.digest:
                return path
    return None


class Inputs:
    """What there is for tables to read, with a digest of its rows."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def look_up(self, name: str, seen: dict[str, SourceMark]) -> tuple[str, int]:
        """The digest and number of the rows of an input; `seen` spares reading files again."""
        if name in TAPE_STAGES:
            return StageLayer(self.vault.root, name).digest(seen)
        listed = listings(self.vault.root, name)
        return ("", 0) if listed is None else tablestate.digest_of_all(listed)

    def frames(self, names: Sequence[str]) -> Frames:
        """All rows of the inputs."""
        return {name: frame(self.vault.root, name) for name in names}


class TableRun:
    """One run of one table; the caller holds the lock."""

    def __init__(self, inputs: Inputs, table: Table[Any]) -> None:
        self.inputs = inputs
        self.table = table
        self.vault = inputs.vault
        self.params = self.vault.settings.table_params(table.name, table.params)
        self.outcome = Outcome(table.name)
        root = self.vault.root
        self._path = tablestate.path_of(root, table.name)
        self._shelves = {
            layer.name: Shelf(root / "derived" / layer.folder, root) for layer in table.layers
        }

    def run(self, *, is_frozen: bool = False, is_forced: bool = False) -> Outcome:
        """Make the table again if anything has changed, or if forced to.

        Raises:
            FlowvaultError: nothing has been written.
        """
        started = time.perf_counter()
        state, warning = self._load(is_forced=is_forced)
        if warning:
            self.outcome.notes.append(warning)
        seen = dict(state.seen) if state is not None else {}
        fresh, rows = fresh_state(self.inputs, self.table, seen)
        is_whole = self._recover(state)
        if is_forced or not is_whole or not (state and (is_frozen or is_made_of(state, fresh))):
            fresh.generation = state.generation if state is not None else 0
            self._make(fresh, None if is_forced else state)
            self.outcome.counts.rows_in = rows
        elif not is_made_of(state, fresh):
            words = "left as it is, though what it is made from has changed (--build-mapping)"
            self.outcome.notes.append(words)
        elif seen != state.seen:
            state.seen = seen
            tablestate.save(self._path, state)
        self.outcome.seconds = time.perf_counter() - started
        return self.outcome

    def _load(self, *, is_forced: bool) -> tuple[TableState | None, str | None]:
        """The last commit; none, if it cannot be read and all is to be made again anyway."""
        try:
            return tablestate.load(self._path, TableState)
        except StateError as error:
            if not is_forced:
                raise
            return None, f"{error.message}; made without it"

    def _recover(self, state: TableState | None) -> bool:
        """Finish or undo what a dead run left; whether all files are there."""
        missing = set()
        for name, shelf in self._shelves.items():
            known = state.outputs.get(name) if state is not None else None
            missing |= shelf.recover(_names(known or {}))
            missing |= {name} if known is None else set()
        return not missing

    def _make(self, fresh: TableState, old: TableState | None) -> None:
        """Compute, write and commit; files that are as `old` lists them are not written again."""
        frames = self.inputs.frames(self.table.reads)
        done = self.table.compute(frames, self.params, None)
        for layer in self.table.layers:
            shelf, known = self._shelves[layer.name], old.outputs.get(layer.name, {}) if old else {}
            there = {each.name for each in known.values() if (shelf.folder / each.name).exists()}
            found = fresh.outputs.setdefault(layer.name, {})
            for part, rows in in_parts(done, layer, self.table.keys[layer.name]):
                data = to_bytes(rows, {})
                digest = digest_of(data)
                stem = layer.name if part == layer.name else f"{layer.name}.{part}"
                found[part] = Listing(parquet_name(stem, digest), digest, rows.height)
                if found[part].name not in there:
                    shelf.put(found[part].name, data)
                self.outcome.counts.rows_out += rows.height
            shelf.write()
        self.outcome.notes += done.notes
        tablestate.save(self._path, fresh)
        for name, shelf in self._shelves.items():
            shelf.publish(_names(fresh.outputs[name]))


def _names(listed: Mapping[str, Listing]) -> dict[str, str]:
    return {each.name: each.digest for each in listed.values()}


def fresh_state(
    inputs: Inputs, table: Table[Any], seen: dict[str, SourceMark]
) -> tuple[TableState, int]:
    """What a table would be made from now, and how many rows that are."""
    params = inputs.vault.settings.table_params(table.name, table.params)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(params))
    found = {name: inputs.look_up(name, seen) for name in table.reads}
    digests = {name: digest for name, (digest, _) in found.items()}
    fresh = TableState(table.name, table.version, plain, inputs=digests, seen=seen)
    return fresh, sum(rows for _, rows in found.values())


def is_made_of(state: TableState, fresh: TableState) -> bool:
    """Whether a table was made from what there is now, in the way it would be made now."""
    names = ("code_version", "params", "inputs")
    return all(getattr(state, name) == getattr(fresh, name) for name in names)


def in_parts(done: Made, layer: Layer, key: Sequence[str]) -> Iterator[Part]:
    """The rows of a layer, part by part, in the declared columns and order."""
    rows = done.rows[layer.name]
    columns = [pl.col(each.name).cast(polars_type(each.dtype)) for each in layer.columns]
    for part, each in [(layer.name, rows)] if isinstance(rows, pl.DataFrame) else rows:
        yield part, each.select(columns).sort(key, maintain_order=True)


# -- what is committed -----------------------------------------------------


def listings(vault: Path, name: str) -> dict[str, Listing] | None:
    """The committed files of a feed or of a table's layer, by part; None if never made."""
    if name in tables.feeds():
        feed, _ = tablestate.load(tablestate.path_of(vault, name), FeedState)
        return None if feed is None else feed.outputs
    table = tables.layers()[name][1]
    state, _ = tablestate.load(tablestate.path_of(vault, table.name), TableState)
    return None if state is None else state.outputs.get(name)


def frame(vault: Path, name: str) -> pl.LazyFrame:
    """All committed rows of a feed, of a table's layer, or of a stage's layer; none if none."""
    if name in TAPE_STAGES:
        return StageLayer(vault, name).rows()
    paths = files(vault, name)
    if not paths:
        return nothing(name).lazy()
    # a part whose raw files are all gone may be of an older version of its reader
    schema = nothing(name).schema
    return pl.scan_parquet(
        paths, schema=schema, missing_columns="insert", extra_columns="ignore"
    ).select(schema.names())


def files(vault: Path, name: str) -> list[Path]:
    """The committed Parquet files of a feed or table."""
    layer = tables.feeds()[name].layer if name in tables.feeds() else tables.layers()[name][0]
    folder = vault / "derived" / layer.folder
    return [as_it_is(folder / listing.name) for listing in listed_of(vault, name)]


def listed_of(vault: Path, name: str) -> list[Listing]:
    """The committed files of a feed or table as its state lists them, in order of their parts."""
    listed = listings(vault, name) or {}
    return [listed[part] for part in sorted(listed)]


def parts_of(name: str) -> list[str]:
    """The feeds and tables whose rows stand under a name: its own, and those beside tapes."""
    return [n for n in (name, name + BARS) if n in {*tables.feeds(), *tables.layers()}]


def is_market_wide(name: str) -> bool:
    """Whether a name is that of a feed or table, or of a layer of tapes that tables read."""
    return bool(parts_of(name))


def nothing(name: str) -> pl.DataFrame:
    """No rows, in the columns of a feed, table or layer."""
    if name in tables.feeds():
        return _empty(tables.feeds()[name].layer)
    if name in tables.layers():
        return _empty(tables.layers()[name][0])
    names = dict.fromkeys(("exchange", "market", "instId"), pl.String)
    own, beside = _empty(StageLayer(Path(), name).layer), _empty(tables.layers()[name + BARS][0])
    return pl.concat([own, beside, pl.DataFrame(schema=names)], how="diagonal")


def _empty(layer: Layer) -> pl.DataFrame:
    return pl.DataFrame(schema={c.name: polars_type(c.dtype) for c in layer.columns})


def are_here(vault: Path) -> bool:
    """Whether a vault has anything that these tables are made from."""
    if any(feeds.has_files(vault, feed) for feed in tables.feeds().values()):
        return True
    return any(StageLayer(vault, name).states() for name in TAPE_STAGES)
