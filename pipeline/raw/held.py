"""Records that must wait until the next one shows whether their feed's clock really moved."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.raw.block import Block, Reject


class Records(Protocol):
    """A block's decoded records, each of a line and with a time."""

    @property
    def block(self) -> Block:
        """The lines they stand in."""

    @property
    def line(self) -> npt.NDArray[np.int64]:
        """The line of each record, rising."""


class Held(msgspec.Struct):
    """The record's line, and which of the line's records it is."""

    source: str
    day: str
    offset: int
    raw: str
    record: int

    @classmethod
    def of(cls, records: Records, index: int) -> Held:
        """Keep a record of a block."""
        line = int(records.line[index])
        seen = Reject.of(records.block, line, "")
        record = index - int(np.searchsorted(records.line, line))
        return cls(seen.source, seen.day, seen.offset, seen.raw, record)

    @property
    def block(self) -> Block:
        """The line as a block of its own, to be decoded once more."""
        return Block(self.raw.encode() + b"\n", self.source, self.day, self.offset)

    def reject(self, reason: str) -> Reject:
        """The record's line turned out to be bad."""
        return Reject(self.day, self.source, self.offset, reason, self.raw)


Place = tuple[int, int, int]
"""Where in a feed something was found out: the line's offset, the record, and what comes first."""


def in_order(
    records: Records, bad: list[Reject], future: list[tuple[int, int]], held: list[Held]
) -> list[tuple[Place, Reject]]:
    """Rejected lines with the places where they were found out.

    A record from the future is found out by the record behind it, so that it does not matter
    where a run began.

    Args:
        records: the records of the block.
        bad: lines that could not be decoded.
        future: pairs of a record from the future and the one behind it, as indices into `held`
            and, behind those, `records`.
        held: the records held over from earlier.
    """
    ordered = [((reject.offset, -1, 1), reject) for reject in bad]
    for index, witness in future:
        shown = witness - len(held)
        place = (records.block.line_offset(int(records.line[shown])), shown, 0)
        ordered.append((place, reject_of(records, held, index, "future")))
    return ordered


def reject_of(records: Records, held: list[Held], index: int, reason: str) -> Reject:
    """The line of a record, by its index into `held` and, behind those, `records`, as a bad one."""
    if index < len(held):
        return held[index].reject(reason)
    return Reject.of(records.block, int(records.line[index - len(held)]), reason)


def by_place(ordered: list[tuple[Place, Reject]]) -> list[Reject]:
    """Rejected lines in the order in which they were found out."""
    return [reject for _, reject in sorted(ordered, key=lambda pair: pair[0])]


def still_held(records: Records, waiting: list[int], held: list[Held]) -> list[Held]:
    """The records that wait now, by their indices into `held` and, behind those, `records`."""
    return [
        held[index] if index < len(held) else Held.of(records, index - len(held))
        for index in waiting
    ]
