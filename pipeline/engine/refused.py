"""Rows of an archive that could not be used, set aside as bad lines of a collector are."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.engine import disk
from pipeline.importers.batch import Bad

_SHOWN = 3
_WAITING = ".importing"


class Refused:
    """The bad rows of one archive: a file in the quarantine, if there are any.

    A line of it is {"source","offset","reason","raw"} and "line", which counts from 1.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = path.with_name(path.name + _WAITING)
        self._size = 0
        self._first: list[str] = []

    @property
    def first(self) -> str:
        """The first of them in words."""
        return "; ".join(self._first)

    def take(self, source: str, line: int, bad: list[Bad]) -> None:
        """Set rows aside; `line` is the number of the first line of their block."""
        if not bad:
            return
        rows = [
            {
                "source": source,
                "offset": each.offset,
                "reason": each.reason,
                "raw": each.raw,
                "line": line + each.line,
            }
            for each in bad
        ]
        for row in rows[: _SHOWN - len(self._first)]:
            shown = str(row["raw"])[:80]
            self._first.append(f"line {row['line']:,}: {row['reason']}: {shown}")
        if not self._size:
            disk.make_dir(self.path.parent)
            disk.remove(self._waiting)
        data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        disk.write_at(self._waiting, self._size, data)
        self._size += len(data)

    def keep(self) -> None:
        """Give the file its name; one of an earlier import of the archive is replaced."""
        if self._size:
            disk.sync(self._waiting)
            disk.replace(self._waiting, self.path)
            disk.sync_dir(self.path.parent)
        else:
            disk.remove(self.path)

    def discard(self) -> None:
        """Remove what was written and not kept, also by imports that were killed."""
        for path in self.path.parent.glob(f"*{_WAITING}"):
            disk.remove(path)
