"""A block of raw lines, and the lines of it that could not be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np


class UnknownContractError(Exception):
    """Sizes are in contracts and neither record nor table says how large one is."""

    def __init__(self, offset: int, source: str) -> None:
        super().__init__(f"{source} byte {offset}")


@dataclass(frozen=True)
class Block:
    """Whole lines of one day file.

    Attributes:
        data: the bytes, each line with its end; only a torn last line of a finished file may
            lack one.
        source: the file's path below the vault, with forward slashes.
        day: the day in the file's name.
        offset: where `data` starts, in decompressed bytes of the file.
        torn: the block is one line without an end, in a file that a later day has followed.
        too_long: `data` is only the beginning of a line that is too long to hold.
        ended: no lines: the file has been handed out to its end and will not grow.
    """

    data: bytes
    source: str
    day: str
    offset: int
    torn: bool = False
    too_long: bool = False
    ended: bool = False

    @cached_property
    def ends(self) -> np.ndarray:
        """Position just past each line's end, within `data`."""
        ends = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n")) + 1
        if self.data and not self.data.endswith(b"\n"):
            ends = np.append(ends, len(self.data))
        return ends

    @property
    def lines(self) -> int:
        """How many lines the block holds, empty ones included."""
        return len(self.ends)

    def first_lines(self, most: int) -> Iterator[bytes]:
        """The first lines, without their ends; the others are not looked at."""
        start = 0
        for _ in range(most):
            end = self.data.find(b"\n", start)
            if end < 0:
                return
            yield self.data[start:end].removesuffix(b"\r")
            start = end + 1

    def span(self, line: int) -> tuple[int, int]:
        """Start and end of a line within `data`, its end included."""
        return (int(self.ends[line - 1]) if line else 0), int(self.ends[line])

    def line(self, line: int) -> bytes:
        """A line without its end."""
        start, end = self.span(line)
        return self.data[start:end].removesuffix(b"\n").removesuffix(b"\r")

    def line_offset(self, line: int) -> int:
        """Where a line starts, in decompressed bytes of its file."""
        return self.offset + self.span(line)[0]


@dataclass(frozen=True, slots=True)
class Reject:
    """A raw line that reaches no layer, as it is kept in the quarantine."""

    day: str
    source: str
    offset: int
    reason: str
    raw: str

    @classmethod
    def of(cls, block: Block, line: int, reason: str) -> Reject:
        r"""Reject a line of a block; bytes that are not UTF-8 are kept as `\xNN`."""
        raw = block.line(line).decode("utf-8", "backslashreplace")
        return cls(block.day, block.source, block.line_offset(line), reason, raw)
