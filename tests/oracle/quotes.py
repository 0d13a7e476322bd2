"""Raw quotes to rows of `bbo`, and the one stream of quotes an instrument has, `quote`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation, localcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

from .books import Feed, Replay, feed_folder, number, sequence_id
from .cells import moment
from .layers import Row
from .raw import (
    EXACT,
    BadLineError,
    Instrument,
    Line,
    contract_of,
    either_us,
    in_base_units,
    iso_us,
    milliseconds_us,
    parse_object,
    positive,
    read_folder,
    require_instrument,
)


@dataclass(frozen=True)
class Bbo:
    """One raw quote; Binance spot's have an id and no time."""

    ts_us: int | None
    quote_id: int | None
    bid: Decimal
    bid_size: Decimal | None
    ask: Decimal
    ask_size: Decimal | None
    is_ticker: bool = False


@dataclass(frozen=True)
class Quote:
    """A state of best bid and offer; all None where there is none."""

    ts_us: int
    bid: Decimal | None = None
    bid_size: Decimal | None = None
    ask: Decimal | None = None
    ask_size: Decimal | None = None

    @property
    def mid(self) -> Decimal | None:
        """Halfway between bid and ask."""
        if self.bid is None or self.ask is None:
            return None
        with localcontext(EXACT):
            return (self.bid + self.ask) / 2

    @property
    def state(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        """Bid, its size, ask, its size, if all are known."""
        if self.bid is None or self.bid_size is None:
            return None
        if self.ask is None or self.ask_size is None:
            return None
        return self.bid, self.bid_size, self.ask, self.ask_size


# -- decoding ----------------------------------------------------------------------


def decode_quotes(data: bytes, instrument: Instrument) -> list[Bbo]:
    """The quotes of one line, all of them good, or `BadLineError`."""
    document = parse_object(data)
    try:
        with localcontext(EXACT):
            return quotes_of(document, instrument)
    except (KeyError, TypeError, ValueError, InvalidOperation) as problem:
        raise BadLineError(str(problem)) from problem


def quotes_of(document: dict[str, Any], instrument: Instrument) -> list[Bbo]:
    """By the format of the instrument's exchange."""
    if instrument.exchange in ("okx", "sim"):
        return okx_quotes(document, instrument)
    if instrument.exchange == "binance":
        return [book_ticker(document.get("data", document), instrument)]
    if instrument.exchange == "coinbase":
        return [coinbase_ticker(document, instrument)]
    return [plain_quote(document, instrument)]


def okx_quotes(document: dict[str, Any], instrument: Instrument) -> list[Bbo]:
    """A frame of `bbo-tbt` or `tickers`."""
    channel = document["arg"]["channel"]
    require_instrument(document["arg"]["instId"], instrument)
    if channel not in ("bbo-tbt", "tickers"):
        raise BadLineError("not a quote")
    rows = document["data"]
    if not isinstance(rows, list) or not rows:
        raise BadLineError("empty envelope")
    decode = okx_ticker if channel == "tickers" else okx_bbo
    return [decode(row, instrument) for row in rows]


def okx_ticker(row: dict[str, Any], instrument: Instrument) -> Bbo:
    """One entry of `tickers`."""
    if "instId" in row:
        require_instrument(row["instId"], instrument)
    bid, bid_size = in_base(row["bidPx"], row["bidSz"], row, instrument)
    ask, ask_size = in_base(row["askPx"], row["askSz"], row, instrument)
    ts_us = milliseconds_us(row["ts"])
    return Bbo(ts_us, None, bid, bid_size, ask, ask_size, is_ticker=True)


def okx_bbo(row: dict[str, Any], instrument: Instrument) -> Bbo:
    """One entry of `bbo-tbt`: a book of one level."""
    if not row["bids"] or not row["asks"]:
        raise BadLineError("a side is missing")
    bid, bid_size = in_base(row["bids"][0][0], row["bids"][0][1], row, instrument)
    ask, ask_size = in_base(row["asks"][0][0], row["asks"][0][1], row, instrument)
    return Bbo(milliseconds_us(row["ts"]), None, bid, bid_size, ask, ask_size)


def in_base(
    price: Any, quantity: Any, row: dict[str, Any], instrument: Instrument
) -> tuple[Decimal, Decimal]:
    """A price, and a size in base units."""
    px = positive(price)
    return px, in_base_units(px, positive(quantity), contract_of(row, instrument))[0]


def book_ticker(row: dict[str, Any], instrument: Instrument) -> Bbo:
    """Binance `bookTicker`; spot's carries no time."""
    require_instrument(row["s"], instrument)
    stamp = None if instrument.market == "spot" else row["T"] if "T" in row else row["E"]
    bid, bid_size, ask, ask_size = (positive(row[name]) for name in ("b", "B", "a", "A"))
    ts_us = None if stamp is None else milliseconds_us(stamp)
    return Bbo(ts_us, sequence_id(row["u"]), bid, bid_size, ask, ask_size)


def coinbase_ticker(row: dict[str, Any], instrument: Instrument) -> Bbo:
    """`ticker`, with sizes or without."""
    require_instrument(row["product_id"], instrument)
    if row["type"] != "ticker":
        raise BadLineError("not a quote")
    bid_size, ask_size = (
        positive(row[name]) if name in row else None for name in ("best_bid_size", "best_ask_size")
    )
    bid, ask = positive(row["best_bid"]), positive(row["best_ask"])
    return Bbo(iso_us(row["time"]), None, bid, bid_size, ask, ask_size, is_ticker=True)


def plain_quote(row: dict[str, Any], instrument: Instrument) -> Bbo:
    """Any other exchange."""
    if "instId" in row:
        require_instrument(row["instId"], instrument)
    names = ("bid", "bid_size", "ask", "ask_size")
    bid, bid_size, ask, ask_size = (positive(row[name]) for name in names)
    return Bbo(either_us(row["ts"]), None, bid, bid_size, ask, ask_size)


# -- reading ----------------------------------------------------------------------


@dataclass
class QuoteFeed:
    """All raw quotes of one instrument, each with the time it is applied at."""

    instrument: Instrument
    feed: Feed[Bbo] = field(default_factory=Feed)
    quotes: list[tuple[int | None, Bbo]] = field(default_factory=list)

    def read(self, line: Line) -> None:
        """Take in one raw line."""
        for record in self.feed.decoded(line, lambda data: decode_quotes(data, self.instrument)):
            for counted, ts_us in self.feed.admit(record, record.ts_us, line):
                self.quotes.append((ts_us, counted))

    @property
    def is_tickers(self) -> bool:
        """Whether the first usable record is a ticker."""
        return bool(self.quotes) and self.quotes[0][1].is_ticker


def read_quotes(vault: Path, instrument: Instrument) -> QuoteFeed | None:
    """Everything under the instrument's raw quotes folder; None without one."""
    folder = feed_folder(vault, "quotes", instrument)
    if not folder.is_dir():
        return None
    feed = QuoteFeed(instrument)
    for line in read_folder(folder):
        feed.read(line)
    return feed


def bbo_rows(feed: QuoteFeed) -> list[Row]:
    """Rows of `bbo`."""
    return [
        {
            "ts": None if ts_us is None else moment(ts_us),
            "id": bbo.quote_id,
            "bid": number(bbo.bid),
            "bid_size": number(bbo.bid_size),
            "ask": number(bbo.ask),
            "ask_size": number(bbo.ask_size),
        }
        for ts_us, bbo in feed.quotes
    ]


# -- the choice, and its timing -----------------------------------------------------


@dataclass(frozen=True)
class QuoteStream:
    """The quotes an instrument's layers are made of, and how far they are known."""

    source: str
    quotes: list[Quote]
    watermark_us: int | None

    @property
    def rows(self) -> list[Row]:
        """Rows of `quote`."""
        return [
            {
                "ts": moment(q.ts_us),
                "bid": number(q.bid),
                "bid_size": number(q.bid_size),
                "ask": number(q.ask),
                "ask_size": number(q.ask_size),
                "source": self.source,
            }
            for q in self.quotes
        ]


def quote_stream(
    instrument: Instrument, feed: QuoteFeed | None, replay: Replay | None
) -> QuoteStream | None:
    """From raw quotes, else the book, else tickers; None if there is no such thing."""
    if instrument.exchange == "binance" and instrument.market == "spot" and feed is not None:
        return None if replay is None else timed_by_book(feed, replay)
    if feed is not None and not feed.is_tickers:
        return timed(feed, "quotes")
    if replay is not None:
        return QuoteStream("book", top_of_book(replay), replay.feed.newest_us)
    return None if feed is None else timed(feed, "tickers")


def timed(feed: QuoteFeed, source: str) -> QuoteStream:
    """Quotes that carry their own time."""
    quotes = [
        Quote(ts_us, b.bid, b.bid_size, b.ask, b.ask_size)
        for ts_us, b in feed.quotes
        if ts_us is not None
    ]
    return QuoteStream(source, quotes, feed.feed.newest_us)


def timed_by_book(feed: QuoteFeed, replay: Replay) -> QuoteStream:
    """Binance spot: the time of the first depthUpdate that has got as far as the quote's id.

    A quote no update has reached yet waits, and so do all behind it.
    """
    reached = list(accumulate((last for last, _ in replay.updates), max))
    quotes: list[Quote] = []
    for _, bbo in feed.quotes:
        assert bbo.quote_id is not None
        at = first_at_least(reached, bbo.quote_id)
        if at is None:
            break
        ts_us = replay.updates[at][1]
        if quotes:
            ts_us = max(ts_us, quotes[-1].ts_us)
        quotes.append(Quote(ts_us, bbo.bid, bbo.bid_size, bbo.ask, bbo.ask_size))
    return QuoteStream("quotes", quotes, quotes[-1].ts_us if quotes else None)


def first_at_least(ascending: Sequence[int], wanted: int) -> int | None:
    """The first place with at least that much."""
    at = bisect_left(ascending, wanted)
    return at if at < len(ascending) else None


def top_of_book(replay: Replay) -> list[Quote]:
    """A quote an event while both sides are there; one empty one when that ends."""
    quotes: list[Quote] = []
    for event in replay.events:
        if event.touch is not None:
            quotes.append(Quote(event.ts_us, *event.touch))
        elif quotes and quotes[-1].bid is not None:
            quotes.append(Quote(event.ts_us))
    return quotes
