"""The scales at which a feed's prices and sizes are held as integers."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Small = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]

_LIMIT = float(2**59)
"""Eight such integers can be added up."""
_DOUBLE = 2**53
_MOST_DECIMALS = 12
_POWERS = 10 ** np.arange(19, dtype=np.int64)


class Numbers(NamedTuple):
    """A column of exact decimals: digits / 10**decimals."""

    digits: Ints
    decimals: Small

    def where(self, chosen: slice | npt.NDArray[np.bool_]) -> Numbers:
        """Some of them."""
        return Numbers(self.digits[chosen], self.decimals[chosen])

    @property
    def common_decimals(self) -> int | None:
        """How many decimals all of them have, as in most feeds; None if they differ."""
        least, most = int(self.decimals.min()), int(self.decimals.max())
        return most if least == most else None


class Scale(msgspec.Struct):
    """Values are integers / 10**`decimals`, with room to add a few of them up.

    No value has more than 12 decimals: a finer one, which no market trades at, would leave no room
    for ordinary ones. `largest` is the largest value so far.
    """

    decimals: int = 0
    largest: float = 0.0

    def with_values(self, values: Numbers) -> Scale | None:
        """The scale that holds these values as well; None if none does."""
        if not len(values.digits):
            return self
        decimals = max(self.decimals, int(values.decimals.max()))
        if decimals > _MOST_DECIMALS:
            return None
        common = values.common_decimals
        # the same doubles either way: division keeps the order
        digits = values.digits if common is None else values.digits.max()
        top = float((digits / _POWERS[values.decimals if common is None else common]).max())
        grown = Scale(decimals, max(self.largest, top))
        return grown if grown.largest * 10.0**decimals < _LIMIT else None

    def integers(self, values: Numbers) -> Ints:
        """The values at this scale; meaningless where they do not fit."""
        common = values.common_decimals if len(values.digits) else None
        less = self.decimals - (values.decimals if common is None else common)
        return values.digits * _POWERS[np.maximum(less, 0)]

    def factor_to(self, other: Scale) -> int:
        """By what integers grow on the way to a finer scale."""
        return int(10 ** (other.decimals - self.decimals))

    def floats(self, integers: Ints) -> Floats:
        """The values as doubles: the nearest, and the same one at whatever scale."""
        found: Floats = integers / 10.0**self.decimals
        wide = np.abs(integers) >= _DOUBLE
        if wide.any():
            digits, decimals = integers[wide], np.full(int(wide.sum()), self.decimals)
            for _ in range(self.decimals):
                shorter = (digits % 10 == 0) & (decimals > 0)
                digits, decimals = np.where(shorter, digits // 10, digits), decimals - shorter
            found[wide] = digits / 10.0**decimals
        return found
