"""A volume profile from price rows: equal bins, point of control, value area, nodes.

All decisions are made on exact integers. The value area grows from the point of control as the
CBOT's handbook has it (two rows a side at a time; J. P. Steidlmayer, CBOT Market Profile, 1984);
`rows_at_once=1` is the variant many charting programs use.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

_NUDGE = 10**9
"""A price this part of a bin below an edge counts as on it: floor(x + 1e-9)."""


def bin_starts(width: int, bins: int) -> list[int]:
    """The first price row of each bin, counted from the lowest row of the profile.

    Row d of 0..width falls into bin min(bins - 1, floor(bins * d / width + 1e-9)). A bin narrower
    than a row may be empty; it then starts where the next one does.
    """
    return [max(0, -(-width * (i * _NUDGE - 1) // (bins * _NUDGE))) for i in range(bins)]


def bin_sums(numbers: np.ndarray, volumes: np.ndarray, bins: int) -> list[int]:
    """Volume of each bin.

    Args:
        numbers: price row numbers, rising, more than one.
        volumes: their volumes as integers, same length.
        bins: how many.
    """
    low, high = int(numbers[0]), int(numbers[-1])
    edges = [low + start for start in bin_starts(high - low, bins)]
    at = np.searchsorted(numbers, np.array(edges, dtype=numbers.dtype))
    sums = np.add.reduceat(volumes, at)
    # reduceat gives an empty stretch its first element instead of nothing
    sums[:-1][at[1:] == at[:-1]] = 0
    return [int(each) for each in sums]


def point_of_control(volumes: Sequence[int]) -> int:
    """The largest bin; of equals the one nearest the middle, then the lower."""
    last = len(volumes) - 1
    return min(range(len(volumes)), key=lambda i: (-volumes[i], abs(2 * i - last), i))


def value_area(
    volumes: Sequence[int], poc: int, share: Fraction, rows_at_once: int = 2
) -> tuple[int, int, int]:
    """The bins around the point of control that hold `share` of the volume.

    Of the next bins above and below the side with more volume is added, above if equal; where
    fewer are left those count, where none is left the other side is added.

    Returns:
        Lowest bin, highest bin, their volume.
    """
    low = high = poc
    volume, goal = volumes[poc], share * sum(volumes)
    while volume < goal:
        above = volumes[high + 1 : high + 1 + rows_at_once]
        below = volumes[max(0, low - rows_at_once) : low]
        if above and (not below or sum(above) >= sum(below)):
            high, volume = high + len(above), volume + sum(above)
        else:
            low, volume = low - len(below), volume + sum(below)
    return low, high, volume


def high_nodes(volumes: Sequence[int], count: int) -> list[int]:
    """Peaks of the runs of bins above 1.5 times the mean, largest first, then lower first."""
    total, bins = sum(volumes), len(volumes)
    runs = _runs([2 * bins * volume > 3 * total for volume in volumes])
    peaks = [min(run, key=lambda i: (-volumes[i], i)) for run in runs]
    return sorted(peaks, key=lambda i: (-volumes[i], i))[:count]


def low_nodes(volumes: Sequence[int], count: int) -> list[int]:
    """Troughs of the runs of bins below half the mean, smallest first, then lower first.

    The first and the last bin are no part of any run: volume always thins out there.
    """
    total, bins = sum(volumes), len(volumes)
    inner = [2 * bins * volume < total for volume in volumes[1:-1]]
    runs = _runs([False, *inner, False])
    troughs = [min(run, key=lambda i: (volumes[i], i)) for run in runs]
    return sorted(troughs, key=lambda i: (volumes[i], i))[:count]


def _runs(belongs: Sequence[bool]) -> list[list[int]]:
    """Stretches of neighbouring bins that belong."""
    runs: list[list[int]] = []
    for i, does in enumerate(belongs):
        if does and i and belongs[i - 1]:
            runs[-1].append(i)
        elif does:
            runs.append([i])
    return runs
