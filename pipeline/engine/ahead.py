"""Work on the next blocks while the present one is being folded and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pipeline.cores import cores

A = TypeVar("A")
B = TypeVar("B")
M = TypeVar("M")

THREADS = min(4, cores())


def ahead(
    work: Callable[[A], B], items: Iterable[tuple[A, M]], threads: int = THREADS
) -> Iterator[tuple[B, M]]:
    """`work(item)` for every item, in order, computed a few items ahead in threads.

    At most `threads` results wait at a time, so memory stays bounded. A single item is worked on
    at once, without threads: that is the usual case of a run every few minutes.
    """
    source = iter(items)
    first = next(source, None)
    if first is None:
        return
    second = next(source, None)
    if second is None:
        yield work(first[0]), first[1]
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[Future[B], M]] = deque()
        try:
            for item, mark in (first, second):
                waiting.append((pool.submit(work, item), mark))
            for item, mark in source:
                waiting.append((pool.submit(work, item), mark))
                if len(waiting) > threads:
                    future, done = waiting.popleft()
                    yield future.result(), done
            while waiting:
                future, done = waiting.popleft()
                yield future.result(), done
        finally:
            for future, _ in waiting:
                future.cancel()


def read_ahead(items: Iterable[A], most: int = 2 * THREADS) -> Iterator[A]:
    """The same items, taken from their source by a thread of its own, at most so many ahead."""
    source = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        waiting = deque(pool.submit(next, source, None) for _ in range(most))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, source, None))
                yield item
        finally:
            for future in waiting:
                future.cancel()
