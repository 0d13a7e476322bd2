"""Rows grouped by cells of time, and exact sums over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.scale import INT64_SAFE

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Exact = npt.NDArray[Any]
"""Integers: of 64 bits if every sum of them fits into these, else Python's own."""


@dataclass(frozen=True, slots=True)
class ByTime:
    """Rows in cells of one length, in order of time; inside a cell they keep their order.

    Attributes:
        starts: when each cell that has rows begins, rising.
        firsts: where its rows begin.
        counts: how many these are.
    """

    starts: Ints
    firsts: Ints
    counts: Ints
    _order: Ints | None

    @classmethod
    def of(cls, ts: pl.Series, span_us: int) -> Self:
        """Group rows, one at least, by their time in microseconds."""
        starts = ts.to_numpy() // span_us * span_us
        order = None
        if (starts[1:] < starts[:-1]).any():
            order = np.argsort(starts, kind="stable")
            starts = starts[order]
        firsts = np.concatenate(([0], np.flatnonzero(starts[1:] != starts[:-1]) + 1))
        counts = np.append(firsts[1:], len(starts)) - firsts
        return cls(starts[firsts], firsts, counts, order)

    def values(self, column: pl.Series) -> Exact:
        """A column of non-negative integers in the order of the cells."""
        top = column.max()
        is_safe = isinstance(top, int) and top * len(column) < INT64_SAFE
        if is_safe:
            found: Exact = column.cast(pl.Int64).to_numpy()
        else:
            found = np.array(column.to_list(), dtype=object)
        return found if self._order is None else found[self._order]

    def flags(self, column: pl.Series) -> Flags:
        """A column of truths in the order of the cells."""
        found = column.to_numpy()
        return found if self._order is None else found[self._order]

    def sums(self, values: Exact) -> list[int]:
        """The sum of each cell."""
        found: list[int] = np.add.reduceat(values, self.firsts).tolist()
        return found

    def sums_where(self, values: Exact, flags: Flags) -> list[int]:
        """The sum of each cell over the rows that are flagged."""
        return self.sums(np.where(flags, values, 0))

    def numbers(self, flags: Flags) -> list[int]:
        """How many rows of each cell are flagged."""
        return self.sums(flags.astype(np.int64))

    def extremes(self, values: Exact, kind: np.ufunc) -> tuple[Exact, Ints]:
        """The largest or smallest value of each cell, and the first row that has it."""
        found = kind.reduceat(values, self.firsts)
        places = np.flatnonzero(values == np.repeat(found, self.counts))
        return found, places[np.searchsorted(places, self.firsts)]

    @property
    def lasts(self) -> Ints:
        """The last row of each cell."""
        return self.firsts + self.counts - 1
