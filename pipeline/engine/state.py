"""The state file: the only record of what is committed.

    {"crc32":"89abcdef","state":{ ... }}

`state` is the JSON of `State`; the checksum covers its exact bytes, and the wrapping is compared
to the letter, so a change of any byte is noticed. The generation before stands beside it as
`INSTID.state.prev.json`: falling back to it costs one run's work and no rows, because the same
bytes are computed again. Order of a commit: the new state is written to a temporary name, it and
the output files are made durable, the old one is renamed to `.prev`, the new one takes its place,
and the folder is synced.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from pipeline.engine import disk
from pipeline.engine.disk import Unsynced
from pipeline.errors import StateError
from pipeline.stage import Kept

C = TypeVar("C", bound=msgspec.Struct)

SCHEMA = 2
"""Since 2 rows of a Parquet layer may stand in pieces, which older versions would delete.

A state that was made before stays as it is, and so do its layers.
"""
_NEW_GENERATIONS = 2
_DEPTH = len(("file", "market", "exchange", "stage", "state"))
_HEAD = b'{"crc32":"%08x","state":'
_HEAD_LENGTH = len(_HEAD % 0)
_TAIL = b"}\n"


NOT_TO_THE_END = -1
"""The size in the mark of a file whose end has not been reached yet."""


class FileMark(msgspec.Struct):
    """How far one raw file has been read, and what it looked like.

    `offset` counts decompressed bytes. `head` is a checksum of the first `head_length` consumed
    bytes, `tail` of the last 256, `crc` of all of them. `size` and `mtime_ns` are the file's on
    disk when it was last looked at: while they stay the same nothing is read again. `ended`: the
    stage has been told that the file will not grow (tapes only).
    """

    day: str
    name: str
    size: int
    mtime_ns: int
    offset: int
    head: int = 0
    head_length: int = 0
    tail: int = 0
    crc: int = 0
    ended: bool = False


class Ahead(msgspec.Struct):
    """How far raw files had been read for rows that were committed before that was remembered.

    `epoch`: that of the stage that had read them. It is to find the same lines again.
    """

    epoch: int
    marks: list[FileMark]


class RowMark(msgspec.Struct):
    """How far an upstream layer has been read: rows of a Parquet layer, bytes of a JSONL one.

    `from_us`: rows are shown again from this time on, where the stage has said so.
    """

    position: int = 0
    epoch: int = 0
    from_us: int | None = None


class Parts(msgspec.Struct):
    """A Parquet layer: `rows` rows in files of `part_rows` each, what is left in smaller ones.

    The files follow from these numbers, see `pipeline.engine.parts.names`; `files` and `last` say
    the same for a reader's eye. `piece_rows`: rows of a smaller file; 0: there is only one, which
    is how layers were written that are older than this field.
    """

    rows: int
    part_rows: int
    files: int = 0
    last: str | None = None
    piece_rows: int = 0


class LayerMark(msgspec.Struct):
    """What a layer holds: number of rows, and the time of the last one in microseconds."""

    rows: int = 0
    last_us: int | None = None


class Counts(msgspec.Struct):
    """Totals since the state was made."""

    rows_in: int = 0
    rows_out: int = 0
    late: int = 0
    duplicate: int = 0
    bad: int = 0
    gaps: int = 0

    def plus(self, other: Counts) -> Counts:
        """Field by field sum."""
        return Counts(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))

    def minus(self, other: Counts) -> Counts:
        """Field by field difference."""
        return Counts(*(getattr(self, f) - getattr(other, f) for f in self.__struct_fields__))


class State(msgspec.Struct):
    """Everything that outlives a run of one stage for one instrument.

    `watermark_us`: every row whose time ended by then is written. `epoch` rises with every
    rebuild, so that downstream stages notice. `given_up`: by input, the times [from, to) that
    a joined stage went through without it, in microseconds. `ahead`: by stage that reads raw data,
    how far that was when this one was committed before it.
    """

    stage: str
    instrument: str
    schema: int
    code_version: int
    params: dict[str, Any]
    generation: int = 0
    epoch: int = 1
    watermark_us: int | None = None
    lateness_us: int = 0
    layers: dict[str, LayerMark] = {}
    raw: dict[str, list[FileMark]] = {}
    upstream: dict[str, RowMark] = {}
    outputs: dict[str, int] = {}
    ahead: dict[str, Ahead] = {}
    parts: dict[str, Parts] = {}
    given_up: dict[str, list[tuple[int, int]]] = {}
    counts: Counts = msgspec.field(default_factory=Counts)
    swapping: bool = False
    carry: dict[str, Any] = {}


def freeze(carry: msgspec.Struct) -> dict[str, Any]:
    """A carry as plain JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(carry, enc_hook=_to_text)
    return found


def thaw(carry: dict[str, Any], kind: type[C]) -> C:
    """The inverse of `freeze`."""
    return msgspec.convert(carry, kind, dec_hook=_from_text)


def _to_text(value: Kept) -> str:
    return value.to_text()


def _from_text(kind: type[Kept], text: str) -> Kept:
    return kind.from_text(text)


class Generation(Protocol):
    """What any state has: a number that rises with every commit."""

    generation: int


S = TypeVar("S", bound=Generation)


def encode(state: Any) -> bytes:
    """The bytes of a state file."""
    body = msgspec.json.format(msgspec.json.encode(state), indent=1)
    return _HEAD % zlib.crc32(body) + body + _TAIL


def decode(data: bytes) -> State | None:
    """`decode_as` for the state of a stage."""
    return decode_as(data, State)


def decode_as(data: bytes, kind: type[C]) -> C | None:
    """Read the bytes of a state file; None when they are not exactly what was written.

    Raises:
        StateError: the file is intact but was written by a newer version.
    """
    body = data[_HEAD_LENGTH : -len(_TAIL)]
    if data != _HEAD % zlib.crc32(body) + body + _TAIL:
        return None
    found = msgspec.json.decode(body)
    if found.get("schema", 0) > SCHEMA:
        message = f"state schema {found['schema']} is newer than this version knows ({SCHEMA})"
        raise StateError(message, "upgrade flowvault")
    return msgspec.convert(found, kind)


@lru_cache(4096)
def previous_path(path: Path) -> Path:
    """Where the generation before stands."""
    return path.with_name(path.name.removesuffix(".json") + ".prev.json")


def has_run(path: Path) -> bool:
    """Whether there is a state, of whichever generation, that can be read or not."""
    return path.is_file() or previous_path(path).is_file()


def generations(path: Path) -> tuple[list[State], list[Path]]:
    """`generations_as` for the state of a stage."""
    return generations_as(path, decode)


def generations_as(path: Path, read: Callable[[bytes], S | None]) -> tuple[list[S], list[Path]]:
    """The intact generations that there are, and the damaged files.

    Raises:
        StateError: one was written by a newer version.
    """
    found: list[S] = []
    broken: list[Path] = []
    for candidate in (path, previous_path(path)):
        try:
            data = candidate.read_bytes()
        except FileNotFoundError:
            continue
        state = read(data)
        if state is None:
            broken.append(candidate)
        else:
            found.append(state)
    return found, broken


def load(path: Path) -> tuple[State | None, str | None]:
    """`load_as` for the state of a stage."""
    return load_as(path, decode)


def load_as(path: Path, read: Callable[[bytes], S | None]) -> tuple[S | None, str | None]:
    """Load the newest intact generation and, if that is not the newest file, a word about it.

    Raises:
        StateError: state files exist and none is intact.
    """
    found, broken = generations_as(path, read)
    if not found:
        if broken:
            names = " and ".join(str(each) for each in broken)
            raise StateError(f"no intact state: {names} damaged")
        return None, None
    newest = max(found, key=lambda state: state.generation)
    warning = None
    if broken:
        warning = f"{broken[0]} is damaged; going on from generation {newest.generation}"
    return newest, warning


_IS_AHEAD = b'\n "ahead": {\n'


def ahead_of(path: Path, name: str, epoch: int) -> list[FileMark]:
    """How far a stage that reads raw data had got when the stage of a state was committed."""
    try:
        if _IS_AHEAD not in path.read_bytes():
            return []  # as nearly always, and sooner than by decoding it
    except FileNotFoundError:
        return []
    state, _ = load(path)
    found = None if state is None else state.ahead.get(name)
    return found.marks if found is not None and found.epoch == epoch else []


def write(path: Path, state: Any, unsynced: Unsynced) -> None:
    """Write a state under its temporary name, for `adopt` to commit; its folder is there."""
    unsynced.write(_temporary(path), 0, encode(state))


def adopt(path: Path, state: State, unsynced: Unsynced, *, is_known: bool = False) -> None:
    """`adopt_as` for the state of a stage.

    `is_known`: the one there is the last commit of this process, so that it is intact.
    """
    adopt_as(path, state, unsynced, None if is_known else decode, _DEPTH)


def adopt_as(
    path: Path,
    state: S,
    unsynced: Unsynced,
    read: Callable[[bytes], S | None] | None,
    depth: int,
) -> None:
    """Commit the state that was written: it, and what it speaks of, must be durable by now.

    It is what `load` finds from here on, and also after a power cut once the folder is durable.

    Args:
        path: the state file.
        state: a generation newer than the one there.
        unsynced: takes the folders that are to be made durable.
        read: tells an intact file; None if the one there is sure to be.
        depth: names in the path below the vault.
    """
    if read is None or (path.exists() and read(path.read_bytes()) is not None):
        disk.replace(path, previous_path(path))
    disk.replace(_temporary(path), path)
    unsynced.folder(path.parent)
    if state.generation <= _NEW_GENERATIONS:
        # a killed run may have made these folders without living to sync them
        for folder in path.parents[1:depth]:
            unsynced.folder(folder)


def save(path: Path, state: State) -> None:
    """`save_as` for the state of a stage."""
    save_as(path, state, decode, _DEPTH)


def save_as(path: Path, state: S, read: Callable[[bytes], S | None], depth: int) -> None:
    """Commit a state: after this returns it is what `load` finds, even after a power cut."""
    disk.make_dir(path.parent)
    with Unsynced() as unsynced:
        write(path, state, unsynced)
        unsynced.settle()
        adopt_as(path, state, unsynced, read, depth)
        unsynced.settle()


def signature(path: Path) -> tuple[int, int, int] | None:
    """What tells one commit from another without reading it; None if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(4096)
def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")


def read_state(path: Path) -> State | None:
    """A state as a reader sees it; waits a moment while a rebuild is being swapped in."""
    for _ in range(200):
        state, _warning = load(path)
        if state is None or not state.swapping:
            return state
        time.sleep(0.02)
    return state
