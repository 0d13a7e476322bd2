"""Thin feeds by cell of time: what is known of the cells that are still open."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import reduce
from typing import Protocol

import msgspec

from pipeline.exact import EXACT

Values = tuple[Decimal, ...]


class Observed(Protocol):
    """One observation, see `pipeline.raw.context.Observation`."""

    @property
    def time_us(self) -> int:
        """When, microseconds."""

    @property
    def values(self) -> Values:
        """The numbers."""

    @property
    def is_bar(self) -> bool:
        """Later versions of the same time may follow."""

    @property
    def key(self) -> str | None:
        """The record's id."""


class Known(msgspec.Struct):
    """One version of one time: `time_us`, the record's id if it has one, its numbers."""

    time_us: int
    key: str
    values: Values


class Feed(msgspec.Struct):
    """Observations of cells that are still open, in the order in which they came.

    Attributes:
        clock: the largest time seen, microseconds, repetitions included.
        closed_us: everything before is written.
        ids: ids seen lately, oldest first.
    """

    clock: int | None = None
    closed_us: int | None = None
    open: list[Known] = []
    ids: list[str] = []

    def take(
        self, time_us: int, values: Values, *, is_bar: bool, key: str | None, remembered: int
    ) -> bool:
        """Take one observation; False if nothing is new about it.

        A bar replaces the version before; a bar of a closed cell, and an id seen before, are
        repetitions. Anything else that comes late counts at the clock's time.
        """
        self.clock = time_us if self.clock is None else max(time_us, self.clock)
        if key is not None:
            if key in self.ids:
                return False
            self.ids = [*self.ids, key][-remembered:]
        if is_bar:
            if self.closed_us is not None and time_us < self.closed_us:
                return False
            same = [known for known in self.open if known.time_us != time_us]
            self.open = [*same, Known(time_us, "", values)]
        else:
            self.open = [*self.open, Known(self.clock, key or "", values)]
        return True

    def close(self, span_us: int) -> list[tuple[int, list[Values]]]:
        """Every cell that has ended: its start, and what was observed in it in order of time."""
        end = (self.clock or 0) // span_us * span_us
        if self.closed_us is not None and end <= self.closed_us:
            return []
        ended = sorted((k for k in self.open if k.time_us < end), key=lambda known: known.time_us)
        cells: dict[int, list[Values]] = {}
        for known in ended:
            cells.setdefault(known.time_us // span_us * span_us, []).append(known.values)
        self.open = [known for known in self.open if known.time_us >= end]
        self.closed_us = end
        return list(cells.items())


def cells(
    feed: Feed, observations: Iterable[Observed], span_us: int, remembered: int = 0
) -> tuple[list[tuple[int, list[Values]]], int]:
    """Take observations in order: the cells that end on the way, and how many were repetitions."""
    closed: list[tuple[int, list[Values]]] = []
    repeated = 0
    for each in observations:
        is_new = feed.take(
            each.time_us, each.values, is_bar=each.is_bar, key=each.key, remembered=remembered
        )
        repeated += not is_new
        closed += feed.close(span_us)
    return closed, repeated


def total(values: Iterable[Values], place: int) -> Decimal:
    """The exact sum of one of the numbers."""
    return reduce(EXACT.add, (each[place] for each in values), Decimal(0))
