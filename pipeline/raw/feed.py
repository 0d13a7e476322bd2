"""What an exchange's book and quote records look like: declarations that both readers follow.

Keys count from the record, those that start with a slash from the line's root ("/arg.channel").
A key that stands there with a null is there. Adding an exchange is one more `FeedAdapter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

BID, ASK = 0, 1
NO_LEVELS, BIDS, ASKS, CHANGES = -1, BID, ASK, 2
"""What an array of arrays holds: [price, size, ...], or ["buy" or "sell", price, size, ...]."""

TimeKind = Literal["ms", "iso", "any"]
Strings = frozenset[str]


@dataclass(frozen=True, slots=True)
class Id:
    """A sequence number: an integer of up to 63 bits, as a JSON number or digits.

    Attributes:
        is_needed: a record without it is bad; otherwise it has none (-1).
        may_be_none: -1 is allowed and means none.
    """

    key: str
    is_needed: bool = True
    may_be_none: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedShape:
    """The keys of one kind of record; a record has the first shape that recognises it.

    Attributes:
        one_of: keys that must hold one of the given texts, or the record has another shape.
        has: keys that must be there, or the record has another shape.
        lacks: keys that must not be there, or the record has another shape.
        inst_id: key that must repeat the folder's instrument.
        named: key that must do so if it is there.
        times: keys of the event time and how it is written; the first that is there counts.
        is_timed: a record without event time is bad.
        sides: keys of arrays of levels, all of them needed -> what they hold.
    """

    one_of: Mapping[str, Strings] = field(default_factory=dict)
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    inst_id: str | None = None
    named: str | None = None
    times: tuple[tuple[str, TimeKind], ...]
    is_timed: bool = True
    sides: Mapping[str, int] = field(default_factory=dict)

    def keys(self) -> Iterator[str]:
        """Every key that is looked at, some of them twice."""
        yield from (*self.one_of, *self.has, *self.lacks, *self.sides)
        yield from (key for key in (self.inst_id, self.named) if key is not None)
        yield from (key for key, _ in self.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookShape(FeedShape):
    """A snapshot or an update of a book.

    Attributes:
        first: first sequence number that an update covers.
        last: last one.
        prev: the one it follows on; where there is a `first` but no `prev`, `first` - 1.
    """

    is_snapshot: bool
    first: Id | None = None
    last: Id | None = None
    prev: Id | None = None

    def keys(self) -> Iterator[str]:
        """Every key that is looked at, some of them twice."""
        yield from FeedShape.keys(self)
        yield from (each.key for each in (self.first, self.last, self.prev) if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteShape(FeedShape):
    """A best bid and offer, as four numbers or as two sides of one level each (`sides`).

    Attributes:
        prices: keys of bid and ask.
        sizes: keys of their sizes.
        is_sized: a record without sizes is bad; otherwise it has none (-1).
        is_ticker: the record does not follow every change.
        update_id: its sequence number.
        may_lack_sides: a side whose price is null, 0 or not there, or whose size is 0, is none;
            otherwise such a record is bad.
    """

    prices: tuple[str, str] | None = None
    sizes: tuple[str, str] | None = None
    is_sized: bool = True
    is_ticker: bool = False
    update_id: Id | None = None
    may_lack_sides: bool = False

    def keys(self) -> Iterator[str]:
        """Every key that is looked at, some of them twice."""
        yield from FeedShape.keys(self)
        yield from (self.prices or ())
        yield from (self.sizes or ())
        yield from () if self.update_id is None else (self.update_id.key,)


@dataclass(frozen=True, slots=True, kw_only=True)
class TapeShape(FeedShape):
    """A trade of a consolidated tape, which tells no side.

    Attributes:
        price: key of the price.
        size: key of the number of shares.
        sequence: its number on the tape.
        correction: 0 for a trade that stands as it was reported.
        texts: keys of texts that may be missing: the place of the trade, its sale conditions.
    """

    price: str
    size: str
    sequence: Id
    correction: Id
    texts: tuple[str, str]

    def keys(self) -> Iterator[str]:
        """Every key that is looked at, some of them twice."""
        yield from FeedShape.keys(self)
        yield from (self.price, self.size, self.sequence.key, self.correction.key, *self.texts)


ShapeT = TypeVar("ShapeT", bound=FeedShape)


@dataclass(frozen=True, slots=True)
class FeedAdapter(Generic[ShapeT]):
    """How the records of one exchange are written.

    Attributes:
        what: what a record is, for the reason "not a book".
        shapes: tried in this order.
        is_enveloped: records may stand in a websocket envelope, one or a list of them in `data`.
    """

    what: str
    shapes: tuple[ShapeT, ...]
    is_enveloped: bool = False


def one(*texts: str) -> Strings:
    """Allowed texts of a key."""
    return frozenset(texts)


_BOOK = {"bids": BIDS, "asks": ASKS}
_MS: TimeKind = "ms"

_BINANCE_TIMES = (("T", _MS), ("E", _MS))
_BINANCE_BOOKS = (
    BookShape(
        is_snapshot=False,
        one_of={"e": one("depthUpdate")},
        inst_id="s",
        times=_BINANCE_TIMES,
        sides={"b": BIDS, "a": ASKS},
        first=Id("U"),
        last=Id("u"),
        prev=Id("pu", is_needed=False),
    ),
    BookShape(
        is_snapshot=True,
        has=("lastUpdateId",),
        lacks=("e",),
        named="s",
        times=_BINANCE_TIMES,
        is_timed=False,
        sides=_BOOK,
        last=Id("lastUpdateId"),
    ),
)


def _book_ticker(one_of: dict[str, Strings], lacks: tuple[str, ...]) -> QuoteShape:
    return QuoteShape(
        one_of=one_of,
        lacks=lacks,
        inst_id="s",
        times=_BINANCE_TIMES,
        is_timed=False,
        prices=("b", "a"),
        sizes=("B", "A"),
        update_id=Id("u"),
    )


_BINANCE_QUOTES = (_book_ticker({"e": one("bookTicker")}, ()), _book_ticker({}, ("e",)))

_OKX_TIMES = (("ts", _MS),)
_CHANNELS = one("books", "books-l2-tbt", "books50-l2-tbt")
_TOPS = one("books5", "bbo-tbt")


def _okx_book(
    channels: Strings, *, is_snapshot: bool, action: str | None, lacks: tuple[str, ...] = ()
) -> BookShape:
    actions = {} if action is None else {"/action": one(action)}
    return BookShape(
        is_snapshot=is_snapshot,
        one_of={"/arg.channel": channels, **actions},
        lacks=lacks,
        inst_id="/arg.instId",
        named="instId",
        times=_OKX_TIMES,
        sides=_BOOK,
        last=Id("seqId", is_needed=False),
        prev=Id("prevSeqId", is_needed=False, may_be_none=True),
    )


_OKX_BOOKS = (
    _okx_book(_CHANNELS, is_snapshot=False, action="update"),
    _okx_book(_CHANNELS | _TOPS, is_snapshot=True, action="snapshot"),
    _okx_book(_TOPS, is_snapshot=True, action=None, lacks=("/action",)),
    BookShape(
        is_snapshot=True,
        has=("bids", "asks"),
        lacks=("/arg", "/action"),
        named="instId",
        times=(("ts", "ms"), ("timestamp_utc", "iso")),
        sides=_BOOK,
        last=Id("seqId", is_needed=False),
    ),
)
_OKX_QUOTES = (
    QuoteShape(
        one_of={"/arg.channel": one("bbo-tbt")},
        inst_id="/arg.instId",
        named="instId",
        times=_OKX_TIMES,
        sides=_BOOK,
        update_id=Id("seqId", is_needed=False),
    ),
    QuoteShape(
        one_of={"/arg.channel": one("tickers")},
        inst_id="/arg.instId",
        named="instId",
        times=_OKX_TIMES,
        prices=("bidPx", "askPx"),
        sizes=("bidSz", "askSz"),
        is_sized=False,
        is_ticker=True,
    ),
)

_COINBASE_BOOKS = (
    BookShape(
        is_snapshot=False,
        one_of={"type": one("l2update")},
        inst_id="product_id",
        times=(("time", "iso"),),
        sides={"changes": CHANGES},
    ),
    BookShape(
        is_snapshot=True,
        one_of={"type": one("snapshot")},
        inst_id="product_id",
        times=(("time", "iso"),),
        is_timed=False,
        sides=_BOOK,
    ),
)
_COINBASE_QUOTES = (
    QuoteShape(
        one_of={"type": one("ticker")},
        inst_id="product_id",
        times=(("time", "iso"),),
        prices=("best_bid", "best_ask"),
        sizes=("best_bid_size", "best_ask_size"),
        is_sized=False,
        is_ticker=True,
    ),
)


def _plain_book(one_of: dict[str, Strings], lacks: tuple[str, ...]) -> BookShape:
    return BookShape(
        is_snapshot=True,
        one_of=one_of,
        has=("bids", "asks"),
        lacks=lacks,
        named="instId",
        times=(("ts", "any"),),
        sides=_BOOK,
    )


_PLAIN_BOOKS = (_plain_book({}, ("type",)), _plain_book({"type": one("snapshot")}, ()))
_PLAIN_QUOTES = (
    QuoteShape(
        has=("bid", "ask"),
        named="instId",
        times=(("ts", "any"),),
        prices=("bid", "ask"),
        sizes=("bid_size", "ask_size"),
    ),
)

_ANY: TimeKind = "any"
_TAPE_TIMES = (("ts", _ANY),)
_TAPE_TRADES = (
    TapeShape(
        has=("price", "size"),
        named="symbol",
        times=_TAPE_TIMES,
        price="price",
        size="size",
        sequence=Id("seq", is_needed=False),
        correction=Id("corr", is_needed=False),
        texts=("ex", "cond"),
    ),
)


def _tape_quote(has: tuple[str, ...]) -> QuoteShape:
    return QuoteShape(
        has=has,
        named="symbol",
        times=_TAPE_TIMES,
        prices=("bid", "ask"),
        sizes=("bid_size", "ask_size"),
        may_lack_sides=True,
    )


_OKX = (FeedAdapter("book", _OKX_BOOKS, True), FeedAdapter("quote", _OKX_QUOTES, True))
_PLAIN = (FeedAdapter("book", _PLAIN_BOOKS), FeedAdapter("quote", _PLAIN_QUOTES))
_TAPE = (
    FeedAdapter("trade", _TAPE_TRADES),
    FeedAdapter("quote", (_tape_quote(("bid",)), _tape_quote(("ask",)))),
)
_FEEDS = {
    "okx": _OKX,
    "sim": _OKX,
    "binance": (
        FeedAdapter("book", _BINANCE_BOOKS, True),
        FeedAdapter("quote", _BINANCE_QUOTES, True),
    ),
    "coinbase": (FeedAdapter("book", _COINBASE_BOOKS), FeedAdapter("quote", _COINBASE_QUOTES)),
    "taq": (FeedAdapter("book", _PLAIN_BOOKS), _TAPE[1]),
}


def book_adapter(exchange: str) -> FeedAdapter[BookShape]:
    """The adapter for the books of an exchange folder; a name not known is the plain format."""
    return _FEEDS.get(exchange, _PLAIN)[0]


def quote_adapter(exchange: str) -> FeedAdapter[QuoteShape]:
    """The adapter for the quotes of an exchange folder; a name not known is the plain format."""
    return _FEEDS.get(exchange, _PLAIN)[1]


def tape_adapter() -> FeedAdapter[TapeShape]:
    """The adapter for the trades of a tape."""
    return _TAPE[0]
