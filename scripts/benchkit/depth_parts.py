"""The plain order books beside ours: their values are compared, then they are timed.

Usage: depth_parts.py FEED VAULT MESSAGES RUNS, with a depth feed and a vault made from it. The
first messages are read into memory; every way of reading them replays them once and its best bids
and asks are compared with `book_events`, then it is timed. Prints microseconds per message of each
run, by "book decoder", and of decoding alone.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.engine.paths import VaultPaths
from scripts.benchkit.compare import compare_columns
from scripts.benchkit.depth_feed import INSTRUMENT
from scripts.benchkit.plain_books import (
    BOOKS,
    DECODERS,
    Book,
    Message,
    Touch,
    replay,
    typed,
)

_TOUCH = ("bid", "bid_size", "ask", "ask_size")


def main() -> None:
    """Compare and measure every way."""
    feed, root, count, runs = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    with feed.open("rb") as stream:
        lines = list(itertools.islice(stream, count))
    found: dict[str, list[float]] = {}
    for (kind, book), (name, decode) in itertools.product(BOOKS.items(), DECODERS.items()):
        run = partial(_replayed, lines, decode, book)
        compare_touches(root, run())
        found[f"{kind} {name}"] = _timed(run, runs, len(lines))
    found["decoding msgspec"] = _timed(lambda: deque(map(typed, lines), maxlen=0), runs, len(lines))
    print(json.dumps(found))


def _replayed(
    lines: Sequence[bytes],
    decode: Callable[[Iterable[bytes]], Iterator[Message]],
    book: Callable[[], Book],
) -> list[Touch]:
    return replay(decode(lines), book())


def compare_touches(root: Path, touches: Sequence[Touch]) -> str:
    """Compare best bids and asks with the first rows of `book_events` that have a book.

    Returns:
        What was compared, in words.

    Raises:
        BenchError: a row is missing or a value differs.
    """
    folder = VaultPaths(root).derived("book_events", INSTRUMENT)
    events = pl.scan_parquet(folder / "*.parquet").select(_TOUCH)
    ours = events.filter(pl.col("bid").is_not_null()).head(len(touches)).collect()
    columns = zip(*touches, strict=True) if touches else [()] * len(_TOUCH)
    peers = {name: list(column) for name, column in zip(_TOUCH, columns, strict=True)}
    return compare_columns("book_events", ours.to_dict(as_series=False), peers)


def _timed(run: Callable[[], Any], runs: int, messages: int) -> list[float]:
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        found.append((time.perf_counter() - started) / messages * 1e6)
    return found


if __name__ == "__main__":
    main()
