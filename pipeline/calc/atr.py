"""Average true range, after J. Welles Wilder, "New Concepts in Technical Trading Systems" (1978).

The true range of a bar is how far price went, the gap from the close before it included. The first
average is the plain mean of `period` ranges; from then on each new one weighs 1 / period.
"""

from __future__ import annotations

import math

import msgspec


class Atr(msgspec.Struct, frozen=True):
    """The average up to a bar.

    Attributes:
        value: None until there are `period` bars.
        close: of the last bar; None before the first.
        ranges: true ranges so far, as long as there is no average.
    """

    value: float | None = None
    close: float | None = None
    ranges: list[float] = []

    def then(self, high: float, low: float, close: float, period: int) -> Atr:
        """The average with one more bar."""
        true = true_range(high, low, self.close)
        if self.value is not None:
            return Atr(((period - 1) * self.value + true) / period, close)
        ranges = [*self.ranges, true]
        if len(ranges) < period:
            return Atr(None, close, ranges)
        return Atr(math.fsum(ranges) / period, close)


def true_range(high: float, low: float, before: float | None) -> float:
    """Range of a bar, from the close before it if there is one."""
    if before is None:
        return high - low
    return max(high - low, abs(high - before), abs(low - before))
