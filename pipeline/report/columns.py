"""Columns of numbers and words as short JSON that gives every value back to the last bit.

Kinds, told apart by their key:

    {"k": 1, "d": [624445, -3, null, 2]}   value = (sum of d so far) / 10**k; null stays null
    {"f": [0.25, null]}                    as they are
    {"s": ["T1", "T2"], "v": [0, null]}    words (and true, false), by number
    {"j": [[], {"a": 1}]}                  lists and objects
    {"n": 3}                               that many nulls

An integer below 2**53 over a power of ten that a double holds exactly is divided to the nearest
double, which is the very number the decimal text stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_MOST_DECIMALS = 12
_EXACT = 2.0**53


def encode(values: Sequence[Any]) -> dict[str, Any]:
    """One column; numbers may come with nulls, and so may all else."""
    known = [value for value in values if value is not None]
    if not known:
        return {"n": len(values)}
    if any(isinstance(value, list | dict) for value in known):
        return {"j": list(values)}
    if isinstance(known[0], str | bool):
        words = list(dict.fromkeys(known))
        numbers = {word: i for i, word in enumerate(words)}
        return {"s": words, "v": [None if v is None else numbers[v] for v in values]}
    found = whole(np.array(known, np.float64))
    if found is None:
        return {"f": list(values)}
    decimals, integers = found
    steps = iter(np.diff(integers, prepend=0).tolist())
    return {"k": decimals, "d": [None if value is None else next(steps) for value in values]}


def whole(values: np.ndarray) -> tuple[int, np.ndarray] | None:
    """The fewest decimals that hold all values exactly, and the values as integers of these."""
    for decimals in range(_MOST_DECIMALS + 1):
        scale = 10.0**decimals
        integers = np.rint(values * scale)
        if np.abs(integers).max() >= _EXACT:
            return None
        if np.array_equal(integers / scale, values):
            return decimals, integers.astype(np.int64)
    return None
