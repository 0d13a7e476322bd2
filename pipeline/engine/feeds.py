"""Feeds of whole files: each file is read once for every content it has had.

The rows of a raw file are kept in a Parquet file that it shares with its neighbours, each row with
the file it came from; when a raw file changes its rows are replaced and its neighbours' are taken
over as they are. Bad lines stand in the quarantine under the same path as the raw file. A raw file
that is gone after it was read keeps its rows, as everywhere in a vault; an empty file in its place
takes them back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from pathlib import Path

import polars as pl

from pipeline.engine import tablestate
from pipeline.engine.codecs import polars_type
from pipeline.engine.parts import to_bytes
from pipeline.engine.rawfiles import DayFile, chunks
from pipeline.engine.rows import encode_reject
from pipeline.engine.shelf import (
    DIGEST_BYTES,
    Shelf,
    as_it_is,
    digest_of,
    files_below,
    parquet_name,
)
from pipeline.engine.state import Counts
from pipeline.engine.tablestate import FeedState, Listing, SourceMark
from pipeline.errors import DataError, StateError
from pipeline.raw.block import Block, Reject
from pipeline.raw.whole import lines
from pipeline.raw.whole.lines import Lines, Piece, finished, read_blocks
from pipeline.table import Feed

COMMIT_ROWS = 2_000_000
"""A long first reading commits about this often, so that a kill costs seconds."""

_BLOCK_BYTES = 6 << 20
_ENDING = r"\.jsonl(\.gz|\.zst)?"
_TORN = "torn"

Report = Callable[[str, int], None]


@dataclass(slots=True)
class Outcome:
    """What one run did for one feed or table."""

    name: str
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    damaged: list[DataError] = field(default_factory=list)
    torn: int = 0

    @property
    def is_too_bad(self) -> bool:
        """More than one line in a hundred was bad; a file still being written does not count."""
        return (self.counts.bad - self.torn) * 100 > self.counts.rows_in


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw file as it is on disk now."""

    file: DayFile
    facts: Mapping[str, str]

    def is_like(self, mark: SourceMark) -> bool:
        """Whether it looks as it did."""
        now = (self.file.path.name, self.file.size, self.file.mtime_ns)
        return now == (mark.name, mark.size, mark.mtime_ns)


@dataclass(slots=True)
class _Reading:
    """Raw files of one part as they are read, many small ones at a time.

    Attributes:
        marks: by key, the files that could be read to their end.
        frames: the rows, those of files that could not among them.
        rejects: by key, the bad lines.
        counted: by key, the number of lines.
    """

    lines: Lines
    report: Callable[[int], None]
    marks: dict[str, SourceMark] = field(default_factory=dict)
    frames: list[pl.DataFrame] = field(default_factory=list)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    _waiting: list[Piece] = field(default_factory=list)
    _bytes: int = 0

    def take(self, vault: Path, key: str, raw: RawFile) -> None:
        """Read one file.

        Raises:
            DataError: it is damaged.
        """
        file, hasher = raw.file, blake2b(digest_size=DIGEST_BYTES)
        mark = SourceMark(file.path.name, file.size, file.mtime_ns, "")
        source = file.path.relative_to(vault).as_posix()
        # an empty file is a block too: one that gives no rows
        for block in _blocks(file, source, hasher.update):
            self._waiting.append((block, key, raw.facts))
            self._bytes += len(block.data)
            if self._bytes >= _BLOCK_BYTES:
                self.flush()
        mark.digest = hasher.hexdigest()
        self.marks[key] = mark

    def flush(self) -> None:
        """Turn what has come together into rows."""
        if not self._waiting:
            return
        read = read_blocks(self._waiting, self.lines)
        self.frames.append(read.rows)
        for (_, key, _), count, bad in zip(self._waiting, read.lines, read.rejects, strict=True):
            self.report(count)
            self.counted[key] = self.counted.get(key, 0) + count
            self.rejects.setdefault(key, []).extend(bad)
        self._waiting, self._bytes = [], 0


def find(vault: Path, feed: Feed) -> tuple[dict[str, RawFile], list[str]]:
    """The raw files of a feed by their path below raw/, compression left out; and stray names."""
    folder = vault / "raw" / feed.folder
    wanted = re.compile(f"(?P<stem>{feed.names}){_ENDING}")
    found: dict[str, RawFile] = {}
    strays = []
    # only a folder of its own can hold files that do not belong there
    names = "/".join([".*"] * (1 + feed.names.count("/"))) if "(?P<" in feed.names else None
    for name, entry in files_below(folder, names or f"{feed.names}{_ENDING}"):
        match = wanted.fullmatch(name)
        if match is None or not _makes_sense(feed, match.groupdict()):
            strays += [] if entry.name.startswith(".") else [name]
            continue
        stat = entry.stat()
        stem, encoding = match["stem"], name.removeprefix(f"{match['stem']}.jsonl")
        key = f"{feed.folder}/{stem}.jsonl".removeprefix("/")
        facts = {group: text for group, text in match.groupdict().items() if group != "stem"}
        path = folder / name
        new = RawFile(DayFile(stem, path, encoding, stat.st_size, stat.st_mtime_ns), facts)
        # while a finished file is being compressed both are there; the plain one counts
        if key not in found or not encoding:
            found[key] = new
    return found, sorted(strays)


def _makes_sense(feed: Feed, facts: dict[str, str]) -> bool:
    """Whether a name that looks right says something possible: there is no 30th of February."""
    try:
        return feed.dated is None or date.fromisoformat(facts[feed.dated]) is not None
    except ValueError:
        return False


def has_files(vault: Path, feed: Feed) -> bool:
    """Whether a feed has, or had, anything to read."""
    if tablestate.path_of(vault, feed.name).is_file():
        return True
    folder = vault / "raw" / feed.folder
    return next(files_below(folder, f"{feed.names}{_ENDING}"), None) is not None


class FeedRun:
    """One reading of a feed; the caller holds the lock."""

    def __init__(self, vault: Path, feed: Feed, report: Report | None = None) -> None:
        self.vault = vault
        self.feed = feed
        self.outcome = Outcome(feed.name)
        self._report = report or (lambda _what, _count: None)
        self._path = tablestate.path_of(vault, feed.name)
        self._shelf = Shelf(vault / "derived" / feed.layer.folder, vault)
        self._aside = Shelf(vault / "quarantine" / feed.folder, vault, rf"{feed.names}\.jsonl")
        self._is_dirty = False
        self._pending = 0

    def run(self) -> FeedState | None:
        """Read what is new or has changed; None if there is nothing and never was.

        Raises:
            FlowvaultError: nothing, or only whole commits, have been written.
        """
        started = time.perf_counter()
        found, strays = find(self.vault, self.feed)
        self._note_strays(strays)
        state, warning = tablestate.load(self._path, FeedState)
        if warning:
            self.outcome.notes.append(warning)
        if state is None:
            if not found:
                return None
            state = FeedState(self.feed.name, self.feed.version)
        self.state = state
        before = Counts(**{name: getattr(state.counts, name) for name in _COUNTED})
        lost = self._recover(found)
        for part, keys in sorted(self._changed(found, lost).items()):
            self._renew(part, {key: found[key] for key in keys})
            if self._pending >= COMMIT_ROWS:
                self._commit()
        if self._is_dirty:
            self._commit()
        for name in _COUNTED:
            setattr(self.outcome.counts, name, getattr(state.counts, name) - getattr(before, name))
        self.outcome.seconds = time.perf_counter() - started
        return state

    def _note_strays(self, strays: list[str]) -> None:
        if strays:
            what = f"{strays[0]} and {len(strays) - 1} more" if strays[1:] else strays[0]
            folder, spelled = self.feed.folder, self.feed.spelled
            note = f"not read, as not named {spelled}.jsonl, in raw/{folder}: {what}"
            self.outcome.notes.append(note)

    def _recover(self, found: Mapping[str, RawFile]) -> set[str]:
        """Bring the files to what the state says; returns the raw files to be read again.

        Raises:
            StateError: rows are lost that no raw file can give again.
        """
        state = self.state
        by_name = {listing.name: part for part, listing in state.outputs.items()}
        listed = {listing.name: listing.digest for listing in state.outputs.values()}
        missing = {by_name[name] for name in self._shelf.recover(listed)}
        aside = self._aside.recover(self._quarantined())
        prefix = f"{self.feed.folder}/".removeprefix("/")
        lost = {prefix + name for name in aside}
        lost |= {key for key, mark in state.files.items() if mark.part in missing}
        gone = sorted(key for key in lost if key not in found and state.files[key].rows)
        if gone:
            message = f"feed {self.feed.name}: the rows of raw/{gone[0]} are gone, and so is it"
            raise StateError(message, f"bring back {self.vault / 'raw' / gone[0]}, then run again")
        for part in missing:
            del state.outputs[part]
        return lost & set(found)

    def _quarantined(self) -> dict[str, str]:
        """The committed files of bad lines, by their path below the feed's folder."""
        prefix = f"{self.feed.folder}/".removeprefix("/")
        marks = self.state.files.items()
        return {key.removeprefix(prefix): m.quarantine for key, m in marks if m.quarantine}

    def _changed(self, found: Mapping[str, RawFile], lost: set[str]) -> dict[str, list[str]]:
        """By part, the files that have to be looked into."""
        state = self.state
        is_other = state.code_version != self.feed.version
        changed: dict[str, list[str]] = {}
        for key, raw in sorted(found.items()):
            mark = state.files.get(key)
            if mark is None or is_other or key in lost or not raw.is_like(mark):
                changed.setdefault(self.feed.part(raw.facts), []).append(key)
            if is_other or key in lost:
                state.files.pop(key, None)
        if is_other:
            state.code_version, self._is_dirty = self.feed.version, True
        return changed

    def _renew(self, part: str, files: Mapping[str, RawFile]) -> None:
        """Read some files of a part and put their rows in the place of their old ones."""
        reading = self._read(files)
        marks = reading.marks
        if not marks:
            return
        own = pl.concat(reading.frames).filter(pl.col("source").is_in(list(marks)))
        rows, repeated = finished(own, reading.lines)
        rows = self._in_columns(rows)
        folder, old = self._shelf.folder, self.state.outputs.get(part)
        if old is not None:
            before = pl.read_parquet(as_it_is(folder / old.name))
            before = before.filter(~pl.col("source").is_in(list(marks)))
            rows = pl.concat([self._in_columns(before), rows])
        data = to_bytes(rows.sort("source", maintain_order=True), {})
        digest = digest_of(data)
        name = parquet_name(part, digest)
        if old is None or old.digest != digest:
            self._shelf.put(name, data)
        self.state.outputs[part] = Listing(name, digest, rows.height)
        held = dict(rows["source"].value_counts().iter_rows())
        for key, mark in marks.items():
            mark.part, mark.rows = part, held.get(key, 0)
            mark.lines = reading.counted.get(key, 0)
            self._set_aside(key, mark, reading.rejects.get(key, []))
            self._count(mark)
            self.state.files[key] = mark
        self.state.counts.duplicate += repeated
        self._is_dirty = True
        self._pending += rows.height

    def _read(self, files: Mapping[str, RawFile]) -> _Reading:
        """Read files, but for those that are what they were or cannot be read."""
        feed = self.feed
        reading = _Reading(feed.lines(), lambda count: self._report(feed.name, count))
        for key, raw in files.items():
            before = self.state.files.get(key)
            try:
                if before is not None and _content(raw.file) == before.digest:
                    before.name, before.size = raw.file.path.name, raw.file.size
                    before.mtime_ns, self._is_dirty = raw.file.mtime_ns, True
                else:
                    reading.take(self.vault, key, raw)
            except FileNotFoundError:
                continue
            except DataError as error:
                self.outcome.damaged.append(error)
        reading.flush()
        return reading

    def _in_columns(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows, perhaps of an older version of the reader, with the columns of today."""
        schema = {c.name: polars_type(c.dtype) for c in self.feed.layer.columns}
        return rows.select(
            (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in schema.items()
        )

    def _set_aside(self, key: str, mark: SourceMark, rejects: list[Reject]) -> None:
        """Write the bad lines of a file to the quarantine."""
        mark.bad = len(rejects)
        self.outcome.torn += sum(reject.reason == _TORN for reject in rejects)
        if rejects:
            data = b"".join(map(encode_reject, rejects))
            mark.quarantine = digest_of(data)
            self._aside.put(key.removeprefix(f"{self.feed.folder}/"), data)

    def _count(self, mark: SourceMark) -> None:
        counts = self.state.counts
        counts.rows_in += mark.lines
        counts.rows_out += mark.rows
        counts.bad += mark.bad

    def _commit(self) -> None:
        self._shelf.write()
        self._aside.write()
        tablestate.save(self._path, self.state)
        self._shelf.publish({each.name: each.digest for each in self.state.outputs.values()})
        self._aside.publish(self._quarantined())
        self._is_dirty, self._pending = False, 0


_COUNTED = ("rows_in", "rows_out", "duplicate", "bad")


def _content(file: DayFile) -> str:
    """The digest of a file's decompressed bytes."""
    hasher = blake2b(digest_size=DIGEST_BYTES)
    for piece in chunks(file, 0, _BLOCK_BYTES):
        hasher.update(piece)
    return hasher.hexdigest()


def _blocks(file: DayFile, source: str, note: Callable[[bytes], None]) -> Iterator[Block]:
    """A file in blocks of whole lines; a last line without an end is a block by itself."""
    offset, rest, is_long, is_empty = 0, b"", False, True
    for piece in chunks(file, 0, _BLOCK_BYTES):
        note(piece)
        is_empty = False
        data = rest + piece
        if is_long:
            # the beginning of the line has been handed out; pass over what is left of it
            end = data.find(b"\n") + 1
            offset, data, is_long = offset + (end or len(data)), data[end or len(data) :], not end
        end = data.rfind(b"\n") + 1
        if end:
            yield Block(data[:end], source, "", offset)
        offset, rest = offset + end, data[end:]
        if len(rest) > lines.LONGEST_LINE:
            yield Block(rest[: lines.KEPT_OF_LONG_LINE], source, "", offset, too_long=True)
            offset, rest, is_long = offset + len(rest), b"", True
    if rest or is_empty:
        yield Block(rest, source, "", offset, torn=bool(rest))
