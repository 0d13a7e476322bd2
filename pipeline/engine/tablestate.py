"""The states of feeds and tables: one file each under state/tables/, the only commit record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pipeline.engine import state as states
from pipeline.engine.shelf import digest_of
from pipeline.engine.state import Counts

_DEPTH = len(("file", "tables", "state"))

SCHEMA = 1


class Listing(msgspec.Struct):
    """One Parquet file: its name, the digest of its bytes, its rows."""

    name: str
    digest: str
    rows: int


class SourceMark(msgspec.Struct):
    """One raw file (or one file of a layer that is read) as it was when it was last looked at.

    While `size`, `mtime_ns` and the file's name stay the same it is not opened; `digest` tells
    whether a file that looks different has other content. `quarantine` is the digest of the file
    of its bad lines, if it has any.
    """

    name: str
    size: int
    mtime_ns: int
    digest: str
    part: str = ""
    lines: int = 0
    rows: int = 0
    bad: int = 0
    quarantine: str | None = None


class FeedState(msgspec.Struct):
    """What has been read of a feed: its raw files, and by part the rows they gave."""

    feed: str
    code_version: int
    schema: int = SCHEMA
    generation: int = 0
    files: dict[str, SourceMark] = {}
    outputs: dict[str, Listing] = {}
    counts: Counts = msgspec.field(default_factory=Counts)


class TableState(msgspec.Struct):
    """A table as it is: what it was made from, and by layer and part its files."""

    table: str
    code_version: int
    params: dict[str, Any]
    schema: int = SCHEMA
    generation: int = 0
    inputs: dict[str, str] = {}
    outputs: dict[str, dict[str, Listing]] = {}
    seen: dict[str, SourceMark] = {}


def digest_of_all(files: Mapping[str, Listing]) -> tuple[str, int]:
    """What tells whether the rows of several files are others than they were; their number."""
    digests = sorted(each.digest for each in files.values())
    return digest_of(msgspec.json.encode(digests)), sum(each.rows for each in files.values())


T = TypeVar("T", FeedState, TableState)


def path_of(vault: Path, name: str) -> Path:
    """The state file of a feed or table."""
    return vault / "state" / "tables" / f"{name}.state.json"


def lock_path(vault: Path) -> Path:
    """The lock of all feeds and tables: they are brought up to date by one process at a time."""
    return vault / "state" / "tables" / "tables.lock"


def load(path: Path, kind: type[T]) -> tuple[T | None, str | None]:
    """The newest intact generation, and a word about it if that is not the newest file.

    Raises:
        StateError: state files exist and none is intact.
    """
    return states.load_as(path, lambda data: states.decode_as(data, kind))


def save(path: Path, state: T) -> None:
    """Commit a state as the next generation."""
    state.generation += 1
    kind = type(state)
    states.save_as(path, state, lambda data: states.decode_as(data, kind), _DEPTH)
