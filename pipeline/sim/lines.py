"""Simulated records as lines in the exchange's own format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline.sim.instrument import LOTS_PER_CONTRACT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from pipeline.sim.book import BookEvent
    from pipeline.sim.instrument import Instrument
    from pipeline.sim.tape import Tape

_BLOCK = 250_000
_LOTS_AN_ORDER = 900
_MAX_ORDERS = 60


def _fraction(lots: int) -> str:
    """Return hundredths of a contract as the shortest decimals, with their point."""
    return f".{lots:02d}".rstrip("0").rstrip(".")


_FRACTIONS = [_fraction(lots) for lots in range(LOTS_PER_CONTRACT)]


def lots_text(lots: int) -> str:
    """Return a size in contracts."""
    return f"{lots // LOTS_PER_CONTRACT}{_FRACTIONS[lots % LOTS_PER_CONTRACT]}"


def write_trades(
    out: BinaryIO,
    facts: Instrument,
    tape: Tape,
    *,
    count: int,
    midnight_ms: int,
    first_id: int,
) -> None:
    """Write the day's first `count` trades, a flat object each."""
    scale = 10**facts.decimals
    for start in range(0, count, _BLOCK):
        part = slice(start, min(start + _BLOCK, count))
        ids = range(first_id + part.start, first_id + part.stop)
        frame = pl.DataFrame(
            {
                "id": pl.Series(ids, dtype=pl.Int64),
                "ticks": tape.ticks[part],
                "lots": tape.lots[part],
                "is_buy": tape.side[part] > 0,
                "ms": tape.times[part] + midnight_ms,
            }
        )
        fraction = pl.lit(pl.Series(_FRACTIONS)).gather(pl.col("lots") % LOTS_PER_CONTRACT)
        line = pl.concat_str(
            pl.lit(f'{{"instId":"{facts.inst_id}","tradeId":"'),
            pl.col("id"),
            pl.lit('","px":"'),
            pl.col("ticks") // scale,
            pl.lit("."),
            (pl.col("ticks") % scale).cast(pl.String).str.zfill(facts.decimals),
            pl.lit('","sz":"'),
            pl.col("lots") // LOTS_PER_CONTRACT,
            fraction,
            pl.lit('","side":"'),
            pl.when("is_buy").then(pl.lit("buy")).otherwise(pl.lit("sell")),
            pl.lit('","ts":"'),
            pl.col("ms"),
            pl.lit('"}'),
        )
        frame.select(line.alias("line")).write_csv(
            out, include_header=False, quote_style="never", line_terminator="\n"
        )


class BookLines:
    """Turns book events into `books` and `bbo-tbt` envelopes of one day."""

    def __init__(self, facts: Instrument, midnight_ms: int) -> None:
        self._facts = facts
        self._midnight_ms = midnight_ms
        self._prices: dict[int, str] = {}
        self._top: tuple[int, int, int, int] | None = None
        argument = f'"instId":"{facts.inst_id}"}}'
        self._book_head = f'{{"arg":{{"channel":"books",{argument},"action":"'
        self._quote_head = f'{{"arg":{{"channel":"bbo-tbt",{argument},"data":[{{"asks":['

    def book(self, event: BookEvent) -> str:
        """Return the event's envelope, asks upwards and bids downwards."""
        kind = "snapshot" if event.prev_seq_id < 0 else "update"
        asks = ",".join([self._level(*level) for level in sorted(event.asks.items())])
        bids = ",".join([self._level(*level) for level in sorted(event.bids.items(), reverse=True)])
        return (
            f'{self._book_head}{kind}","data":[{{"asks":[{asks}],"bids":[{bids}],'
            f'"ts":"{self._midnight_ms + event.time_ms}","checksum":0,'
            f'"prevSeqId":{event.prev_seq_id},"seqId":{event.seq_id}}}]}}\n'
        )

    def quote(self, event: BookEvent) -> str:
        """Return the best bid and ask if they changed, else an empty text."""
        if event.top == self._top:
            return ""
        self._top = event.top
        bid, bid_lots, ask, ask_lots = event.top
        return (
            f'{self._quote_head}{self._level(ask, ask_lots)}],"bids":['
            f'{self._level(bid, bid_lots)}],"ts":"{self._midnight_ms + event.time_ms}",'
            f'"seqId":{event.seq_id}}}]}}\n'
        )

    def _level(self, ticks: int, lots: int) -> str:
        price = self._prices.get(ticks)
        if price is None:
            price = self._prices[ticks] = self._facts.price_text(ticks)
        if not lots:
            return f'["{price}","0","0","0"]'
        orders = min(1 + lots // _LOTS_AN_ORDER, _MAX_ORDERS)
        return f'["{price}","{lots_text(lots)}","0","{orders}"]'


def write_texts(out: BinaryIO, texts: Iterable[str]) -> None:
    """Write whole lines."""
    out.write("".join(texts).encode())
