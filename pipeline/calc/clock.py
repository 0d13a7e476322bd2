"""The clock of a feed: which records count, and at what time.

A feed's clock is the largest event time of its good records. A record far ahead of it is held
until the next one that tells a time shows whether time really moved; a record behind it is applied
at the clock's time, in file order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

UNTIMED = -1
"""The time of a record that came before any clock, and carries none itself."""


class Judged(NamedTuple):
    """What became of the records.

    Attributes:
        good: indices of the good records in the order in which they count.
        times: when each of them happens, microseconds, never falling; `UNTIMED` where there is
            no telling.
        future: pairs of a record from the future and the record that showed it to be one.
        held: indices of records that must wait: one far ahead, and untimed ones behind it. They
            come first in the next call.
        clock: the clock behind them all.
    """

    good: Ints
    times: Ints
    future: list[tuple[int, int]]
    held: list[int]
    clock: int | None


def judge(stamps: Ints, clock: int | None, jump_us: int, end_us: int | None = None) -> Judged:
    """Judge records in file order.

    Args:
        stamps: event times, microseconds; negative where a record carries none, which takes the
            clock's.
        clock: the clock before them; None if there was no record yet.
        jump_us: how far ahead of the clock a record may be.
        end_us: a time that has come behind all of them; it shows about a record far ahead what
            another record at that time would.
    """
    if end_us is None and len(stamps) and stamps.min() >= 0:
        running = np.maximum.accumulate(stamps)
        before = np.concatenate(([running[0] if clock is None else clock], running[:-1]))
        if clock is not None:
            before, running = np.maximum(before, clock), np.maximum(running, clock)
        if not (stamps > before + jump_us).any():
            return Judged(np.arange(len(stamps)), running, [], [], int(running[-1]))
    judged = _one_by_one(stamps.tolist(), clock, jump_us)
    return judged if end_us is None else _ended(judged, stamps, jump_us, end_us)


def _one_by_one(stamps: list[int], clock: int | None, jump_us: int) -> Judged:
    good: list[int] = []
    times: list[int] = []
    future: list[tuple[int, int]] = []
    held: list[int] = []

    def accept(index: int) -> None:
        nonlocal clock
        if stamps[index] >= 0:
            clock = stamps[index] if clock is None else max(clock, stamps[index])
        good.append(index)
        times.append(UNTIMED if clock is None else clock)

    for index, stamp in enumerate(stamps):
        if held and stamp < 0:
            held.append(index)
            continue
        if held:
            if stamp < stamps[held[0]] - jump_us:
                future.append((held.pop(0), index))
            for each in held:
                accept(each)
            held = []
        if clock is not None and stamp > clock + jump_us:
            held = [index]
        else:
            accept(index)
    return Judged(np.array(good, np.int64), np.array(times, np.int64), future, held, clock)


def _ended(judged: Judged, stamps: Ints, jump_us: int, end_us: int) -> Judged:
    """What became of the records, once a time has come behind them."""
    clock = end_us if judged.clock is None else max(judged.clock, end_us)
    held = judged.held
    if not held or end_us < stamps[held[0]] - jump_us:
        return judged._replace(clock=clock)
    first = int(stamps[held[0]]) if judged.clock is None else judged.clock
    times = np.maximum.accumulate(np.maximum(stamps[held], first))
    return Judged(
        np.concatenate((judged.good, held)),
        np.concatenate((judged.times, times)),
        judged.future,
        [],
        max(clock, int(times[-1])),
    )
