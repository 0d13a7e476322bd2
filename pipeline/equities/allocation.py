"""Whole shares of a total by weights, so that the parts add up to it exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

MOST_WEIGHT = 2**61
"""The weights of a group may add up to this."""


def largest_remainder(total: Ints, group: Ints, weight: Ints) -> Ints:
    """Split each group's total by the weights of its rows.

    Every row gets the whole part of its exact quota total x weight / (sum of the group's
    weights); what is left goes, one each, to the largest remainders, the earlier row first where
    they are equal (Hamilton's method).

    Args:
        total: of every row its group's total, 0 to 2^50.
        group: numbers that do not fall; rows of a group stand together, in their order.
        weight: 0 or more. Groups whose weights add up to 0 get nothing.

    Returns:
        Parts that add up to the total in every group with a weight.
    """
    if not len(group):
        return np.zeros(0, np.int64)
    number = np.concatenate(([0], np.cumsum(group[1:] != group[:-1])))
    sums = np.zeros(int(number[-1]) + 1, np.int64)
    np.add.at(sums, number, weight)
    whole = sums[number]
    bottom = np.maximum(whole, 1)
    part = (total * (weight / bottom)).astype(np.int64)
    # The quotient may be off by the little that floats are. The remainder is not: it is below 2^62
    # in size, and integers that wrap round give it right whatever the products were.
    rest = total * weight - part * bottom
    part += rest // bottom
    rest %= bottom
    order = np.lexsort((np.arange(len(group)), -rest, number))
    starts = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - starts[number[order]]
    given = np.zeros(len(sums), np.int64)
    np.add.at(given, number, part)
    left = np.where(whole > 0, total - given[number], 0)
    return np.where(whole > 0, part + (place < left), 0)
