"""What readers make of a block: lines in order, with the times that order them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.importers.framing import Lines

Ints = npt.NDArray[np.int64]
_KEEP_OF_LINE = 4096


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that could not be used.

    Attributes:
        line: lines of the block before it.
        offset: where it starts in the source.
        reason: why, in a word or two.
        raw: the row.
        before: good rows of the block before it.
    """

    line: int
    offset: int
    reason: str
    raw: str
    before: int = 0

    @classmethod
    def of(cls, line: int, offset: int, reason: str, raw: bytes, before: int = 0) -> Bad:
        r"""A bad row; bytes that are not UTF-8 are kept as `\xNN`."""
        text = raw[:_KEEP_OF_LINE].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        return cls(line, offset, reason, text, before)


@dataclass(slots=True)
class Batch:
    """The records of a block.

    Attributes:
        out: bytes of their lines, perhaps with something behind them.
        end: by record, where its line ends.
        clock: by record, the time that orders it, microseconds.
        lines: how many lines the block has.
        bad: those that could not be used.
        others: records of other instruments, and some of their names.
    """

    out: Any
    end: Ints
    clock: Ints
    lines: int
    bad: list[Bad] = field(default_factory=list)
    others: int = 0
    names: set[str] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """How many records there are."""
        return len(self.end)


class Reader(Protocol):
    """Turns the blocks of one source into batches."""

    is_pure: bool
    """Blocks may be read in any order, and several at a time."""

    def read(self, lines: Lines) -> Batch:
        """The records of a block."""

    def rest(self) -> Batch | None:
        """The records held back, at the end of the source."""


def of_lines(found: list[tuple[bytes, int]], lines: int) -> Batch:
    """A batch of lines that are there one by one, each with its time."""
    end = np.cumsum(np.array([len(line) for line, _ in found], np.int64))
    clock = np.array([time for _, time in found], np.int64)
    return Batch(b"".join(line for line, _ in found), end, clock, lines)
