"""Order books as one writes them in an afternoon: two dicts, and a sort or a bisection.

They read Binance's depth feed and know its sequence numbers: updates that come before the first
snapshot wait for it, an update must follow on from the one before. Prices and sizes are doubles.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from scripts.benchkit.cold import BenchError

TOP = 20

TextLevels = Sequence[Sequence[str]]
Levels = list[tuple[float, float]]
Touch = tuple[float, float, float, float]


class Message(NamedTuple):
    """One message of the feed; `prev_id` is -1 for a snapshot."""

    last_id: int
    prev_id: int
    bids: TextLevels
    asks: TextLevels


class Update(msgspec.Struct):
    """The part of a depth update that matters."""

    last_id: int = msgspec.field(name="u")
    prev_id: int = msgspec.field(name="pu")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")


class Line(msgspec.Struct):
    """A line of the feed: an update in its envelope, or a bare snapshot."""

    data: Update | None = None
    last_id: int = msgspec.field(name="lastUpdateId", default=-1)
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


typed = msgspec.json.Decoder(Line).decode


def with_json(lines: Iterable[bytes]) -> Iterator[Message]:
    """Messages by the standard library's json."""
    for line in lines:
        value = json.loads(line)
        if "data" in value:
            data = value["data"]
            yield Message(data["u"], data["pu"], data["b"], data["a"])
        else:
            yield Message(value["lastUpdateId"], -1, value["bids"], value["asks"])


def with_msgspec(lines: Iterable[bytes]) -> Iterator[Message]:
    """Messages by msgspec with typed structs."""
    for line in lines:
        value = typed(line)
        if value.data is not None:
            data = value.data
            yield Message(data.last_id, data.prev_id, data.bids, data.asks)
        else:
            yield Message(value.last_id, -1, value.bids, value.asks)


class SortedBook:
    """Both sides are dicts, sorted after every event."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def load(self, bids: TextLevels, asks: TextLevels) -> None:
        """Become a snapshot."""
        self.bids = {float(price): float(size) for price, size in bids}
        self.asks = {float(price): float(size) for price, size in asks}

    def change(self, bids: TextLevels, asks: TextLevels) -> None:
        """Apply an update."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for text, amount in levels:
                size = float(amount)
                if size:
                    side[float(text)] = size
                else:
                    side.pop(float(text), None)

    def best(self) -> tuple[Levels, Levels]:
        """The best levels of each side."""
        bids, asks = sorted(self.bids, reverse=True)[:TOP], sorted(self.asks)[:TOP]
        return (
            [(price, self.bids[price]) for price in bids],
            [(price, self.asks[price]) for price in asks],
        )


class BisectBook:
    """Dicts of sizes, and their prices kept in order (those of bids negative)."""

    def __init__(self) -> None:
        self.sizes: list[dict[float, float]] = [{}, {}]
        self.keys: list[list[float]] = [[], []]

    def load(self, bids: TextLevels, asks: TextLevels) -> None:
        """Become a snapshot."""
        for which, levels in enumerate((bids, asks)):
            sign = 1 if which else -1
            self.sizes[which] = {sign * float(price): float(size) for price, size in levels}
            self.keys[which] = sorted(self.sizes[which])

    def change(self, bids: TextLevels, asks: TextLevels) -> None:
        """Apply an update."""
        for which, levels in enumerate((bids, asks)):
            sign, sizes, keys = (1 if which else -1), self.sizes[which], self.keys[which]
            for text, amount in levels:
                key, size = sign * float(text), float(amount)
                if not size:
                    if sizes.pop(key, None) is not None:
                        del keys[bisect_left(keys, key)]
                    continue
                if key not in sizes:
                    insort(keys, key)
                sizes[key] = size

    def best(self) -> tuple[Levels, Levels]:
        """The best levels of each side."""
        bids, asks = self.sizes
        return (
            [(-key, bids[key]) for key in self.keys[0][:TOP]],
            [(key, asks[key]) for key in self.keys[1][:TOP]],
        )


Book = SortedBook | BisectBook
BOOKS: dict[str, Callable[[], Book]] = {"sort": SortedBook, "bisect": BisectBook}
DECODERS: dict[str, Callable[[Iterable[bytes]], Iterator[Message]]] = {
    "json": with_json,
    "msgspec": with_msgspec,
}


def replay(messages: Iterable[Message], book: Book) -> list[Touch]:
    """Best bid and its size, best ask and its size, after every event.

    Raises:
        BenchError: a message does not follow on from the one before.
    """
    touches: list[Touch] = []
    waiting: list[Message] = []
    last = -1
    for message in messages:
        if message.prev_id < 0:
            last = message.last_id
            book.load(message.bids, message.asks)
            for each in waiting:
                if each.last_id > last:
                    book.change(each.bids, each.asks)
                    last = each.last_id
            waiting = []
        elif last < 0:
            waiting.append(message)
            continue
        elif message.prev_id != last:
            raise BenchError(f"the feed goes from {last} to {message.prev_id}")
        else:
            book.change(message.bids, message.asks)
            last = message.last_id
        bids, asks = book.best()
        touches.append((*bids[0], *asks[0]))
    return touches
