"""Raw order books: every format to records, records to a book, the book to its three layers.

`replay_folder` reads one instrument's books in file order. What it leaves behind has an event for
every record that counts, the ladders of closed minutes, the gaps, the refused lines and counts.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation, localcontext
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from .cells import MINUTE_US, moment
from .fold import MAX_JUMP_US, Refused
from .layers import Row
from .raw import (
    _DECIMAL,
    EXACT,
    BadLineError,
    Contract,
    Instrument,
    Line,
    contract_of,
    either_us,
    in_base_units,
    iso_us,
    milliseconds_us,
    parse_object,
    read_folder,
    require_instrument,
)

KEPT = 1000
STANDS_US = 60_000_000
TOP, DEEP, RANKS = 20, 5, 5
BOOK_MS = 100
WITH_ACTION = ("books", "books-l2-tbt", "books50-l2-tbt")
SNAPSHOTS_ONLY = ("books5", "bbo-tbt")

Levels = dict[Decimal, Decimal]
"""Size by price, sizes in base units."""

T = TypeVar("T")


def feed_folder(vault: Path, kind: str, instrument: Instrument) -> Path:
    """Where raw data of a kind lies for an instrument."""
    folder = f"{kind}_{instrument.market}"
    return vault / "raw" / instrument.exchange / folder / instrument.inst_id


# -- records -------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One snapshot or update; `last` and `prev` are its place in the sequence, if it has one."""

    is_snapshot: bool
    ts_us: int | None
    last: int | None
    prev: int | None
    bids: Levels
    asks: Levels

    @property
    def is_heartbeat(self) -> bool:
        """An update that changes no level."""
        return not self.is_snapshot and not self.bids and not self.asks


def decode_books(data: bytes, instrument: Instrument) -> list[Record]:
    """The records of one line, all of them good, or `BadLineError`."""
    document = parse_object(data)
    try:
        with localcontext(EXACT):
            return book_records(document, instrument)
    except (KeyError, TypeError, ValueError, InvalidOperation) as problem:
        raise BadLineError(str(problem)) from problem


def book_records(document: dict[str, Any], instrument: Instrument) -> list[Record]:
    """By the format of the instrument's exchange."""
    if instrument.exchange in ("okx", "sim"):
        if "arg" in document or "data" in document:
            return okx_envelope(document, instrument)
        return [okx_flat(document, instrument)]
    if instrument.exchange == "binance":
        return [binance_book(document.get("data", document), instrument)]
    if instrument.exchange == "coinbase":
        return [coinbase_book(document, instrument)]
    return [plain_book(document, instrument)]


def okx_envelope(document: dict[str, Any], instrument: Instrument) -> list[Record]:
    """A websocket frame of one of the book channels."""
    channel = document["arg"]["channel"]
    require_instrument(document["arg"]["instId"], instrument)
    if channel in WITH_ACTION:
        if document["action"] not in ("snapshot", "update"):
            raise BadLineError("unknown action")
        is_snapshot = document["action"] == "snapshot"
    elif channel in SNAPSHOTS_ONLY:
        is_snapshot = True
    else:
        raise BadLineError("not a book")
    rows = document["data"]
    if not isinstance(rows, list) or not rows:
        raise BadLineError("empty envelope")
    return [okx_book(row, instrument, is_snapshot=is_snapshot) for row in rows]


def okx_book(row: dict[str, Any], instrument: Instrument, *, is_snapshot: bool) -> Record:
    """One entry of a frame."""
    if "instId" in row:
        require_instrument(row["instId"], instrument)
    return Record(
        is_snapshot,
        milliseconds_us(row["ts"]),
        sequence_id(row["seqId"]) if "seqId" in row else None,
        sequence_id(row["prevSeqId"]) if "prevSeqId" in row else None,
        *both_sides(row["bids"], row["asks"], instrument, row, is_snapshot=is_snapshot),
    )


def okx_flat(row: dict[str, Any], instrument: Instrument) -> Record:
    """A collector's row: always a snapshot."""
    if "instId" in row:
        require_instrument(row["instId"], instrument)
    return Record(
        is_snapshot=True,
        ts_us=milliseconds_us(row["ts"]) if "ts" in row else iso_us(row["timestamp_utc"]),
        last=sequence_id(row["seqId"]) if "seqId" in row else None,
        prev=None,
        **sides_by_name(row, instrument),
    )


def binance_book(row: dict[str, Any], instrument: Instrument) -> Record:
    """`depthUpdate`, or the snapshot asked for over REST."""
    if "lastUpdateId" in row:
        stamp = row.get("T", row.get("E"))
        return Record(
            is_snapshot=True,
            ts_us=None if stamp is None else milliseconds_us(stamp),
            last=sequence_id(row["lastUpdateId"]),
            prev=None,
            **sides_by_name(row, instrument),
        )
    if row["e"] != "depthUpdate":
        raise BadLineError("not a book")
    require_instrument(row["s"], instrument)
    first, last = sequence_id(row["U"]), sequence_id(row["u"])
    return Record(
        False,
        milliseconds_us(row["T"] if "T" in row else row["E"]),
        last,
        sequence_id(row["pu"]) if "pu" in row else first - 1,
        *both_sides(row["b"], row["a"], instrument, row, is_snapshot=False),
    )


def coinbase_book(row: dict[str, Any], instrument: Instrument) -> Record:
    """`snapshot` (its time is optional) or `l2update`; there are no ids."""
    require_instrument(row["product_id"], instrument)
    if row["type"] == "snapshot":
        return Record(
            is_snapshot=True,
            ts_us=iso_us(row["time"]) if "time" in row else None,
            last=None,
            prev=None,
            **sides_by_name(row, instrument),
        )
    if row["type"] != "l2update":
        raise BadLineError("not a book")
    changes: dict[str, list[Any]] = {"buy": [], "sell": []}
    for side, price, size in row["changes"]:
        changes[side].append([price, size])
    bids, asks = both_sides(changes["buy"], changes["sell"], instrument, row, is_snapshot=False)
    return Record(False, iso_us(row["time"]), None, None, bids, asks)


def plain_book(row: dict[str, Any], instrument: Instrument) -> Record:
    """Any other exchange: each line is a whole book."""
    if "instId" in row:
        require_instrument(row["instId"], instrument)
    if row.get("type") == "update":
        raise BadLineError("plain updates are not supported")
    return Record(
        is_snapshot=True,
        ts_us=either_us(row["ts"]),
        last=None,
        prev=None,
        **sides_by_name(row, instrument),
    )


def sides_by_name(row: dict[str, Any], instrument: Instrument) -> dict[str, Levels]:
    """A snapshot's `bids` and `asks`."""
    bids, asks = both_sides(row["bids"], row["asks"], instrument, row, is_snapshot=True)
    return {"bids": bids, "asks": asks}


def both_sides(
    bids: Any, asks: Any, instrument: Instrument, row: dict[str, Any], *, is_snapshot: bool
) -> tuple[Levels, Levels]:
    """The levels of both sides; the contract size comes from the record, else the instrument."""
    contract = contract_of(row, instrument)
    return (
        levels_of(bids, contract, is_snapshot=is_snapshot),
        levels_of(asks, contract, is_snapshot=is_snapshot),
    )


def levels_of(entries: Any, contract: Contract | None, *, is_snapshot: bool) -> Levels:
    """Size by price; the last of one price stands; a snapshot has no sizes of zero."""
    if not isinstance(entries, list):
        raise BadLineError("levels are not a list")
    levels: Levels = {}
    for entry in entries:
        if not isinstance(entry, list):
            raise BadLineError("a level is not a list")
        price, quantity = decimal_of(entry[0]), decimal_of(entry[1])
        if price <= 0 or quantity < 0:
            raise BadLineError("price or size out of range")
        levels[price] = in_base_units(price, quantity, contract)[0]
    return {p: s for p, s in levels.items() if s or not is_snapshot}


def decimal_of(value: Any) -> Decimal:
    """A decimal string or JSON number of any sign."""
    if not isinstance(value, str):
        raise BadLineError(f"not a decimal: {value!r}")
    return decimal_text(str(value))


@cache
def decimal_text(text: str) -> Decimal:
    """The number a text spells."""
    if not _DECIMAL.fullmatch(text):
        raise BadLineError(f"not a decimal: {text!r}")
    return Decimal(text)


def sequence_id(value: Any) -> int:
    """A whole number; OKX has -1 for none before."""
    if not isinstance(value, str) or not str(value).removeprefix("-").isdecimal():
        raise BadLineError("not an id")
    return int(value)


# -- the clock of an input -----------------------------------------------------------


@dataclass
class Feed(Generic[T]):
    """The clock of one input, the record it holds back, and the lines it refused."""

    newest_us: int | None = None
    held: tuple[T, int, Line] | None = None
    waiting: list[T] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    lines: int = 0

    @property
    def bad(self) -> int:
        """How many lines were refused."""
        return len(self.refused)

    def refuse(self, line: Line, reason: str | None) -> None:
        """Keep a bad line for quarantine."""
        self.refused.append(Refused(line, reason))

    def decoded(self, line: Line, decode: Callable[[bytes], list[T]]) -> list[T]:
        """The records of a line; none if it is bad."""
        self.lines += 1
        if line.torn:
            self.refuse(line, "torn")
            return []
        try:
            return decode(line.data)
        except BadLineError:
            self.refuse(line, None)
            return []

    def admit(self, record: T, ts_us: int | None, line: Line) -> Iterator[tuple[T, int | None]]:
        """The records that count from now on, each with its time; one without time has the clock's.

        The time is None for a record without one before the first that has one.
        """
        if self.held is not None and ts_us is None:
            self.waiting.append(record)  # it tells no time, and so nothing about the one before it
            return
        if self.held is not None:
            held, held_us, held_line = self.held
            self.held = None
            if ts_us is not None and ts_us >= held_us - MAX_JUMP_US:
                yield held, self.at(held_us)
            else:
                self.refuse(held_line, "future")
            for each in self.waiting:
                yield each, self.at(None)
            self.waiting = []
        clock_us = self.newest_us
        if ts_us is not None and clock_us is not None and ts_us > clock_us + MAX_JUMP_US:
            self.held = (record, ts_us, line)
            return
        yield record, self.at(ts_us)

    def at(self, ts_us: int | None) -> int | None:
        """Move the clock; when a record of that time is applied."""
        if ts_us is not None:
            self.newest_us = ts_us if self.newest_us is None else max(ts_us, self.newest_us)
        return self.newest_us


# -- the book ----------------------------------------------------------------------


@dataclass
class Level:
    """Every size a price has had since it appeared, and whether that appearance was seen."""

    sizes: list[tuple[int | None, Decimal]]
    seen: bool

    @property
    def size(self) -> Decimal:
        """The present size."""
        return self.sizes[-1][1]

    def beginning(self) -> tuple[int | None, bool]:
        """Since when it has held half its present size without a break, and was that seen."""
        at = len(self.sizes) - 1
        while at > 0 and 2 * self.sizes[at - 1][1] >= self.size:
            at -= 1
        return self.sizes[at][0], self.seen or at > 0


@dataclass
class Side:
    """One side of the book: `sign` is -1 for bids, so that signed prices ascend from the best."""

    sign: int
    levels: dict[Decimal, Level] = field(default_factory=dict)
    order: list[Decimal] = field(default_factory=list)
    reach: Decimal | None = None

    def put(self, price: Decimal, size: Decimal, ts_us: int | None, *, seen: bool) -> None:
        """A size for a price; `seen` matters if it was not in the book."""
        level = self.levels.get(price)
        if not size:
            if level is not None:
                del self.levels[price]
                del self.order[bisect_left(self.order, self.sign * price)]
        elif level is None:
            self.levels[price] = Level([(ts_us, size)], seen)
            insort(self.order, self.sign * price)
        else:
            level.sizes.append((ts_us, size))

    def is_in_reach(self, price: Decimal) -> bool:
        """Whether the last snapshot would have shown the price."""
        return self.reach is not None and self.sign * price <= self.sign * self.reach

    def update(self, changes: Levels, ts_us: int | None) -> None:
        """Changes of single levels."""
        for price, size in changes.items():
            self.put(price, size, ts_us, seen=self.is_in_reach(price))

    def replace(self, whole: Levels, ts_us: int | None) -> None:
        """Exactly these levels; those that stay keep their history."""
        for price in [p for p in self.levels if p not in whole]:
            self.put(price, Decimal(0), ts_us, seen=True)
        for price, size in whole.items():
            self.put(price, size, ts_us, seen=True)
        worst = max((self.sign * price for price in whole), default=None)
        self.reach = None if worst is None else self.sign * worst

    def forget(self, ts_us: int | None) -> None:
        """What was before this time was not seen."""
        for level in self.levels.values():
            level.sizes, level.seen = [(ts_us, level.size)], False

    def date(self, ts_us: int) -> None:
        """Give a time to what was applied before there was a clock."""
        for level in self.levels.values():
            level.sizes = [(ts_us if at is None else at, size) for at, size in level.sizes]

    def best(self, count: int) -> list[tuple[Decimal, Decimal]]:
        """The best levels, best first."""
        return [(self.sign * s, self.levels[self.sign * s].size) for s in self.order[:count]]


Touch = list[tuple[Decimal, Decimal]]


@dataclass(frozen=True)
class Event:
    """A record that counts, and the top of the book after it (None where there is no book)."""

    ts_us: int
    last_id: int | None
    tops: tuple[Touch, Touch] | None
    terms: tuple[Decimal | None, ...]

    @property
    def touch(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """Bid, its size, ask, its size, of a book with both sides."""
        if self.tops is None or not self.tops[0] or not self.tops[1]:
            return None
        return (*self.tops[0][0], *self.tops[1][0])

    @property
    def depths(self) -> tuple[Decimal, Decimal] | None:
        """What lies in the best five levels of each side."""
        if self.tops is None:
            return None
        bids, asks = (sum((s for _, s in side[:DEEP]), Decimal(0)) for side in self.tops)
        return bids, asks


def ofi_term(
    before: tuple[Decimal, Decimal, Decimal, Decimal],
    after: tuple[Decimal, Decimal, Decimal, Decimal],
) -> Decimal:
    """e_n of two states (bid, its size, ask, its size)."""
    bid0, bid_size0, ask0, ask_size0 = before
    bid1, bid_size1, ask1, ask_size1 = after
    term = Decimal(0)
    if bid1 >= bid0:
        term += bid_size1
    if bid1 <= bid0:
        term -= bid_size0
    if ask1 <= ask0:
        term -= ask_size1
    if ask1 >= ask0:
        term += ask_size0
    return term


@dataclass(frozen=True)
class BookGap:
    """The id the book had, the id the next record builds on, and when it came."""

    last_id: int | None
    prev: int | None
    ts_us: int


@dataclass
class Replay:
    """The book of one instrument and all that came of it."""

    instrument: Instrument
    feed: Feed[Record] = field(default_factory=Feed)
    bids: Side = field(default_factory=lambda: Side(-1))
    asks: Side = field(default_factory=lambda: Side(1))
    is_valid: bool = False
    is_fresh: bool = False
    is_undated: bool = False
    last_id: int | None = None
    kept: deque[Record] = field(default_factory=lambda: deque(maxlen=KEPT))
    events: list[Event] = field(default_factory=list)
    ladders: list[Row] = field(default_factory=list)
    gaps: list[BookGap] = field(default_factory=list)
    updates: list[tuple[int, int]] = field(default_factory=list)
    duplicates: int = 0
    heartbeats: int = 0
    event_us: int | None = None

    def read(self, line: Line) -> None:
        """Take in one raw line."""
        for record in self.feed.decoded(line, lambda data: decode_books(data, self.instrument)):
            for counted, ts_us in self.feed.admit(record, record.ts_us, line):
                with localcontext(EXACT):
                    self.take(counted, ts_us)

    def take(self, record: Record, ts_us: int | None) -> None:
        """Apply the next record at a time, and write down what it is."""
        if ts_us is not None:
            self.close_minute(ts_us)
            if self.is_undated:
                self.bids.date(ts_us)
                self.asks.date(ts_us)
                self.is_undated = False
        if not record.is_snapshot and record.last is not None and ts_us is not None:
            self.updates.append((record.last, ts_us))
        if record.is_snapshot:
            is_event = self.take_snapshot(record, ts_us)
        else:
            is_event = self.take_update(record, ts_us)
        if is_event and ts_us is not None:
            self.note(record, ts_us)

    # -- snapshots

    def take_snapshot(self, record: Record, ts_us: int | None) -> bool:
        """Lay it onto the book, or begin a book with it; whether it is an event."""
        if ts_us is None:
            self.is_undated = True
        if not self.is_valid:
            self.begin(record, ts_us)
            return True
        if record.last is not None and self.last_id is not None and record.last <= self.last_id:
            self.duplicates += 1
            return False
        self.lay(record, ts_us)
        return True

    def lay(self, record: Record, ts_us: int | None) -> None:
        """The book becomes the snapshot."""
        self.bids.replace(record.bids, ts_us)
        self.asks.replace(record.asks, ts_us)
        self.last_id, self.is_valid, self.is_fresh = record.last, True, True

    def begin(self, record: Record, ts_us: int | None) -> None:
        """Without a book: the snapshot and the kept updates that follow it, or nothing."""
        rest = deque(u for u in self.kept if is_after(u, record))
        if rest and not continues(rest[0], record.last):
            return
        self.lay(record, ts_us)
        self.kept.clear()
        while rest:
            update = rest.popleft()
            verdict = self.verdict(update)
            if verdict == "apply":
                self.apply(update, ts_us)
            elif verdict == "break":
                self.lose(update, ts_us)
                self.kept.extend(rest)
                return
        self.bids.forget(ts_us)
        self.asks.forget(ts_us)

    # -- updates

    def take_update(self, record: Record, ts_us: int | None) -> bool:
        """Apply it, keep it or drop it; whether it is an event."""
        self.heartbeats += record.is_heartbeat
        if not self.is_valid:
            self.kept.append(record)
            return not record.is_heartbeat
        verdict = self.verdict(record)
        if verdict == "duplicate":
            self.duplicates += 1
            return False
        if verdict == "break":
            self.lose(record, ts_us)
            return True
        self.apply(record, ts_us)
        return not record.is_heartbeat

    def verdict(self, update: Record) -> str:
        """Whether an update continues a valid book, repeats it or leaves something out."""
        if update.prev is None or update.last is None or self.last_id is None:
            return "apply"
        if update.prev == self.last_id:
            return "apply"
        if update.last <= self.last_id:
            return "duplicate"
        return "apply" if self.is_fresh and update.prev <= self.last_id else "break"

    def apply(self, update: Record, ts_us: int | None) -> None:
        """Change levels and move on in the sequence."""
        self.bids.update(update.bids, ts_us)
        self.asks.update(update.asks, ts_us)
        self.is_fresh = False
        if update.last is not None:
            self.last_id = update.last

    def lose(self, update: Record, ts_us: int | None) -> None:
        """There is no book until the next snapshot."""
        assert ts_us is not None
        self.gaps.append(BookGap(self.last_id, update.prev, ts_us))
        self.bids, self.asks = Side(-1), Side(1)
        self.is_valid, self.last_id = False, None
        self.kept.clear()
        self.kept.append(update)

    # -- what is written down

    def note(self, record: Record, ts_us: int) -> None:
        """An event, or the absence of a book."""
        if self.is_valid:
            tops = (self.bids.best(TOP), self.asks.best(TOP))
            terms = ofi_terms(self.events[-1] if self.events else None, tops, ts_us)
            self.events.append(Event(ts_us, self.last_id, tops, terms))
            self.event_us = ts_us
        else:
            self.events.append(Event(ts_us, record.last, None, (None,) * RANKS))

    def close_minute(self, now_us: int) -> None:
        """Write the ladder of the last event's minute once it is over."""
        if self.event_us is None or not self.is_valid:
            return
        minute = self.event_us // MINUTE_US * MINUTE_US
        if now_us < minute + MINUTE_US:
            return
        row: Row = {"ts": moment(minute), "at": moment(self.event_us)}
        for name, side in (("bid", self.bids), ("ask", self.asks)):
            levels = [(price, side.levels[price]) for price in best_first(side)]
            begun = [level.beginning() for _, level in levels]
            row |= {
                f"{name}_px": [price for price, _ in levels],
                f"{name}_sz": [level.size for _, level in levels],
                f"{name}_since": [since for since, _ in begun],
                f"{name}_seen": [seen for _, seen in begun],
            }
        row |= {"bid_reach_px": self.bids.reach, "ask_reach_px": self.asks.reach}
        self.ladders.append(row)
        self.event_us = None

    @property
    def crossed(self) -> int:
        """Events with the bid above the ask."""
        return sum(e.touch is not None and e.touch[0] > e.touch[2] for e in self.events)

    @property
    def locked(self) -> int:
        """Events with the bid at the ask."""
        return sum(e.touch is not None and e.touch[0] == e.touch[2] for e in self.events)


def best_first(side: Side) -> list[Decimal]:
    """All prices of a side."""
    return [side.sign * signed for signed in side.order]


def is_after(update: Record, snapshot: Record) -> bool:
    """Whether a kept update is newer than the snapshot that came after it in the file."""
    if update.last is None or snapshot.last is None:
        return False
    return update.last > snapshot.last


def continues(update: Record, last_id: int | None) -> bool:
    """Whether the first update to replay leaves nothing out behind the snapshot."""
    return update.prev is None or last_id is None or update.prev <= last_id


def ofi_terms(
    before: Event | None, tops: tuple[Touch, Touch], ts_us: int
) -> tuple[Decimal | None, ...]:
    """e_n of each rank that both states have on both sides."""
    if before is None or before.tops is None or ts_us - before.ts_us > STANDS_US:
        return (None,) * RANKS
    terms: list[Decimal | None] = []
    for rank in range(RANKS):
        if min(len(side) for side in (*before.tops, *tops)) > rank:
            old = (*before.tops[0][rank], *before.tops[1][rank])
            new = (*tops[0][rank], *tops[1][rank])
            terms.append(ofi_term(old, new))
        else:
            terms.append(None)
    return tuple(terms)


def replay_folder(vault: Path, instrument: Instrument) -> Replay | None:
    """Replay everything under the instrument's raw books folder; None without one."""
    folder = feed_folder(vault, "books", instrument)
    if not folder.is_dir():
        return None
    replay = Replay(instrument)
    for line in read_folder(folder):
        replay.read(line)
    return replay


def replay_lines(instrument: Instrument, lines: Sequence[bytes]) -> Replay:
    """Replay lines that are in no file."""
    replay = Replay(instrument)
    for number, data in enumerate(lines):
        replay.read(Line(Path("lines.jsonl"), number, data))
    return replay


# -- rows ----------------------------------------------------------------------------


def number(value: Decimal | None) -> float | None:
    """The nearest double."""
    return None if value is None else float(value)


def book_event_rows(replay: Replay) -> list[Row]:
    """Rows of `book_events`."""
    return [book_event_row(event) for event in replay.events]


def book_event_row(event: Event) -> Row:
    """One record that counts."""
    bids, asks = event.tops or ([], [])
    bid, bid_size = bids[0] if bids else (None, None)
    ask, ask_size = asks[0] if asks else (None, None)
    bid_depth, ask_depth = event.depths or (None, None)
    is_crossed = bid is not None and ask is not None and bid >= ask
    return (
        {
            "ts": moment(event.ts_us),
            "last_id": event.last_id,
            "bid": number(bid),
            "bid_size": number(bid_size),
            "ask": number(ask),
            "ask_size": number(ask_size),
            "bid_depth": number(bid_depth),
            "ask_depth": number(ask_depth),
        }
        | {f"ofi_{rank + 1}": number(term) for rank, term in enumerate(event.terms)}
        | {"crossed": None if event.tops is None else is_crossed}
    )


def book_rows(replay: Replay, book_ms: int = BOOK_MS) -> list[Row]:
    """Rows of `book`: the last event with a book of every cell the clock has left."""
    standing = [event for event in replay.events if event.tops is not None]
    if not book_ms:
        return [book_row(event) for event in standing]
    cell_us = book_ms * 1000
    last = {event.ts_us // cell_us: event for event in standing}
    now_us = replay.feed.newest_us
    return [
        book_row(event)
        for cell, event in last.items()
        if now_us is not None and (cell + 1) * cell_us <= now_us
    ]


def book_row(event: Event) -> Row:
    """Twenty levels of each side."""
    row: Row = {"ts": moment(event.ts_us)}
    for name, side in zip(("bid", "ask"), event.tops or ([], []), strict=True):
        padded = [*side, *[(None, None)] * (TOP - len(side))]
        row |= {f"{name}_px_{i}": number(price) for i, (price, _) in enumerate(padded)}
        row |= {f"{name}_sz_{i}": number(size) for i, (_, size) in enumerate(padded)}
    return row


def ladder_rows(replay: Replay) -> list[Row]:
    """Rows of `ladder_1m` with doubles for decimals."""

    def shown(value: Any) -> Any:
        if isinstance(value, list):
            return [shown(item) for item in value]
        return float(value) if isinstance(value, Decimal) else value

    return [{name: shown(value) for name, value in row.items()} for row in replay.ladders]


def book_gap_rows(replay: Replay) -> list[Row]:
    """What a row of `book_gaps.jsonl` says about a break."""
    return [{"from": g.last_id, "to": g.prev, "ts": g.ts_us // 1000} for g in replay.gaps]
