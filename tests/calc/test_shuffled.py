"""Columns of integers as a text and back."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.calc.shuffled import shuffle, unshuffle

LEAST, MOST = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    "columns",
    [
        [[]],
        [[], [0], []],
        [[LEAST, MOST, LEAST, 0, -1, 1]],
        [[5] * 1000, [7]],
        [[], []],
    ],
)
def test_there_and_back(columns: list[list[int]]) -> None:
    """Any number of columns of any length, at the limits of int64."""
    text = shuffle([np.array(column, np.int64) for column in columns])
    found = unshuffle(text)
    assert [column.tolist() for column in found] == columns
    assert all(column.dtype == np.int64 for column in found)
    assert text.isascii()


@pytest.mark.parametrize("seed", range(20))
def test_random_columns(seed: int) -> None:
    """The same columns give the same text."""
    rng = random.Random(seed)
    columns = [
        np.array([rng.randrange(LEAST, MOST) for _ in range(rng.randrange(50))], np.int64)
        for _ in range(rng.randrange(1, 9))
    ]
    text = shuffle(columns)
    assert shuffle(unshuffle(text)) == text
    for column, again in zip(columns, unshuffle(text), strict=True):
        assert column.tolist() == again.tolist()


def test_neighbours_cost_little() -> None:
    """Rising prices take far less than eight bytes each."""
    assert len(shuffle([np.arange(10_000) * 10 + 5_000_000])) < 1000
