"""Which UTC day's file each record belongs to.

Records keep the order of their source, as a collector would have kept it: a record that is stamped
a little before the one before it stays behind it, in the day that has begun. One record whose
stamp is far ahead of both its neighbours does not begin a day; the stages judge it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops
from pipeline.stage import DAY_US

Ints = npt.NDArray[np.int64]

MAX_JUMP_US = 300_000_000
"""Records further apart are out of order, unless the next one confirms a jump ahead."""

NO_TIME = -1
_loops = Loops(globals())


@dataclass(slots=True)
class Calendar:
    """How far the records of one source have come.

    Attributes:
        high_us: the latest time reached, -1 before the first record.
        behind: how many records were stamped far behind it.
    """

    high_us: int = NO_TIME
    behind: int = 0

    def days(self, clock: Ints, after_us: int) -> tuple[Ints, Ints]:
        """By record, the day of its file, counted from 1970, and the latest time reached.

        Args:
            clock: by record, microseconds.
            after_us: time of the record behind them, -1 if there is none.
        """
        _loops.compile()
        day, high = np.empty(len(clock), np.int64), np.empty(len(clock), np.int64)
        if len(clock):
            self.behind += int(_days(clock, after_us, self.high_us, day, high))
            self.high_us = int(high[-1])
        return day, high


@_loops.add
def _days(clock: Ints, after: int, high: int, day: Ints, reached: Ints) -> int:
    behind = number = until = 0
    for row in range(len(clock)):
        now = clock[row]
        following = clock[row + 1] if row + 1 < len(clock) else after
        is_alone = NO_TIME < following < now - MAX_JUMP_US
        if high < 0:
            high = following if is_alone else now
        elif now > high and (now <= high + MAX_JUMP_US or not is_alone):
            high = now
        behind += int(now < high - MAX_JUMP_US)
        if high >= until:  # dividing each of them would take longer than all the rest
            number = high // DAY_US
            until = (number + 1) * DAY_US
        day[row], reached[row] = number, high
    return behind
