"""Whole files that a state lists: each is replaced as one, and only together with the state.

A new file is written beside the old one with the suffix `.tmp` and made durable; the commit of the
state that lists it makes it count; then it gets its name, and what is no longer listed is deleted.
A run that died in between is finished or undone by the next. A Parquet file's name ends in a
digest of its bytes, so no file ever changes under a reader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from pipeline.engine import disk

TEMPORARY = ".tmp"
PARQUET = r"[\w.-]+\.parquet"
DIGEST_BYTES, _IN_NAME = 16, 12


def digest_of(data: bytes) -> str:
    """What tells the content of a file."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def parquet_name(stem: str, digest: str) -> str:
    """The name of a Parquet file with this content."""
    return f"{stem}.{digest[:_IN_NAME]}.parquet"


def files_below(folder: Path, names: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files whose path below a folder is a whole match, by that path with forward slashes.

    Only folders as deep as the pattern has slashes are looked into.
    """
    pattern, levels = re.compile(names), names.count("/")
    waiting = [(folder, "", levels)]
    while waiting:
        where, prefix, deeper = waiting.pop()
        try:
            with os.scandir(where) as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            name = prefix + entry.name
            if deeper and entry.is_dir():
                waiting.append((where / entry.name, name + "/", deeper - 1))
            elif not deeper and pattern.fullmatch(name) and entry.is_file():
                yield name, entry


class Shelf:
    """The files of one table or feed: `listed` always gives the name and digest of each.

    `names` is a pattern of all paths below the folder that are its own.
    """

    def __init__(self, folder: Path, vault: Path, names: str = PARQUET) -> None:
        self.folder = folder
        self._vault = vault
        self._names = f"({names})({re.escape(TEMPORARY)})?"
        self._new: list[str] = []

    def recover(self, listed: Mapping[str, str]) -> set[str]:
        """Finish or undo what a dead run left; returns the listed files that are not there."""
        present = self._present()
        for name in sorted(each for each in present if each.endswith(TEMPORARY)):
            final = name.removesuffix(TEMPORARY)
            path = self.folder / name
            if final in listed and digest_of(path.read_bytes()) == listed[final]:
                disk.replace(path, self.folder / final)
                present.add(final)
            else:
                disk.remove(path)
        for name in sorted(present - set(listed)):
            if not name.endswith(TEMPORARY):
                disk.remove(self.folder / name)
        return set(listed) - present

    def put(self, name: str, data: bytes) -> None:
        """Write a file that the next state will list; `write` makes its name durable."""
        path = self.folder / name
        disk.make_dir(path.parent)
        disk.write_whole(path.with_name(path.name + TEMPORARY), data)
        self._new.append(name)

    def write(self) -> None:
        """Make all that was put durable."""
        for parent in sorted({(self.folder / name).parent for name in self._new}):
            disk.sync_path(parent, self._vault)

    def publish(self, listed: Mapping[str, str]) -> None:
        """After the commit: give the new files their names, delete those no longer listed."""
        changed = set()
        for name in self._new:
            path = self.folder / name
            disk.replace(path.with_name(path.name + TEMPORARY), path)
            changed.add(path.parent)
        self._new.clear()
        for name in sorted(self._present() - set(listed)):
            path = self.folder / name
            disk.remove(path)
            changed.add(path.parent)
        for parent in sorted(changed):
            disk.sync_dir(parent)

    def _present(self) -> set[str]:
        """Its own files, those that still have a temporary name among them."""
        return {name for name, _ in files_below(self.folder, self._names)}


def as_it_is(path: Path) -> Path:
    """Where the bytes of a committed file are now: its rename may be still to come."""
    waiting = path.with_name(path.name + TEMPORARY)
    return waiting if not path.exists() and waiting.exists() else path
