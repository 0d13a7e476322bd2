"""Half-open ranges of numbers: bytes of a file, rows of a layer, microseconds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Spans = list[tuple[int, int]]
"""Ranges [first, last + 1); in order and apart from each other unless said otherwise."""


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Ranges in order, those that touch or overlap as one; empty ones are dropped."""
    found: Spans = []
    for low, high in sorted((int(a), int(b)) for a, b in spans):
        if low >= high:
            continue
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def runs(is_in: npt.NDArray[np.bool_], offset: int = 0) -> Spans:
    """The ranges of flags that are set."""
    edges = np.flatnonzero(np.diff(is_in.astype(np.int8), prepend=0, append=0)) + offset
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def within(values: Ints, spans: Spans) -> npt.NDArray[np.bool_]:
    """Which values lie in one of the ranges."""
    if not spans:
        return np.zeros(len(values), np.bool_)
    starts, ends = np.array(spans, np.int64).T
    place = np.searchsorted(starts, values, "right") - 1
    found: npt.NDArray[np.bool_] = (place >= 0) & (values < ends[place])
    return found


def without(spans: Spans, taken: Spans) -> Spans:
    """What of some ranges lies in none of the others."""
    found: Spans = []
    for low, high in spans:
        at = low
        for start, end in taken:
            if end <= at or start >= high:
                continue
            found.append((at, start))
            at = end
        found.append((at, high))
    return merged(found)


def common(spans: Spans, others: Spans) -> Spans:
    """What lies in both."""
    return without(spans, without(spans, others))


def total(spans: Spans) -> int:
    """How many numbers the ranges hold."""
    return sum(high - low for low, high in spans)
