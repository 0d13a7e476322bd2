"""incremental_book_L2 of tardis.dev: the rows of a message become one record of the exchange.

Rows that arrived at the same moment are one message; all rows of a snapshot that follow each other
are one. The datasets carry no sequence ids. Where the exchange's records need some, a message has
its arrival in microseconds, and follows on from the message before. A message of which a row
cannot be used is left out as a whole, which is a hole in that sequence: there is no book until the
next snapshot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import UsageError
from pipeline.importers.batch import Batch, Ints
from pipeline.importers.framing import Lines
from pipeline.importers.layout import Layout
from pipeline.importers.table import read_table
from pipeline.jit import Loops

LEVEL = '["<price>","<amount>"]'
_SIDED = '["<side buy sell>","<price>","<amount>"]'
_loops = Loops(globals())
_COMMA, _OPEN = 44, 91
_BUY_LENGTH, _SELL_LENGTH = len('["buy",'), len('["sell",')
_PLACE = re.compile(r"<(\w+)>")

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Message:
    """An exchange's record: what stands before the asks, between them and the bids, and behind.

    Places are `inst`, `ms`, `iso`, `id`, `prev` (the message before) and `next` (that plus one).
    """

    before: str
    between: str
    behind: str


_OKX = '{"arg":{"channel":"books","instId":"<inst>"},"action":"%s","data":[{"asks":['
_DEPTH = '"s":"<inst>","U":<next>,"u":<id>%s,"a":['
_MESSAGES: dict[tuple[str, str], tuple[Message, Message]] = {
    ("okx", ""): (
        Message(_OKX % "snapshot", '],"bids":[', '],"ts":"<ms>","seqId":<id>,"prevSeqId":-1}]}\n'),
        Message(
            _OKX % "update", '],"bids":[', '],"ts":"<ms>","seqId":<id>,"prevSeqId":<prev>}]}\n'
        ),
    ),
    ("binance", "perps"): (
        Message('{"lastUpdateId":<id>,"s":"<inst>","T":<ms>,"asks":[', '],"bids":[', "]}\n"),
        Message('{"e":"depthUpdate","T":<ms>,' + _DEPTH % ',"pu":<prev>', '],"b":[', "]}\n"),
    ),
    ("binance", "spot"): (
        Message('{"lastUpdateId":<id>,"s":"<inst>","E":<ms>,"asks":[', '],"bids":[', "]}\n"),
        Message('{"e":"depthUpdate","E":<ms>,' + _DEPTH % "", '],"b":[', "]}\n"),
    ),
    ("coinbase", ""): (
        Message(
            '{"type":"snapshot","product_id":"<inst>","time":"<iso>","asks":[', '],"bids":[', "]}\n"
        ),
        Message('{"type":"l2update","product_id":"<inst>","time":"<iso>","changes":[', "", "]}\n"),
    ),
}


def level_record(exchange: str, market: str, file: str) -> str:
    """What a row of a message becomes.

    Raises:
        UsageError: records of that exchange are whole books, which these rows are not.
    """
    if _messages(exchange, market) is None:
        raise UsageError(
            f"{file}: raw books of {exchange} are whole snapshots, not updates; "
            "only those of binance, okx and coinbase can be imported from updates",
            "flowvault import --help",
        )
    return _SIDED if exchange == "coinbase" else LEVEL


def _messages(exchange: str, market: str) -> tuple[Message, Message] | None:
    return _MESSAGES.get((exchange, market)) or _MESSAGES.get((exchange, ""))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of messages: their texts, ends and kept values, and where bad rows stood."""

    out: Bytes
    end: Ints
    kept: Ints
    holes: Ints

    @classmethod
    def of(cls, batch: Batch, kept: Ints) -> _Rows:
        length = int(batch.end[-1]) if batch.rows else 0
        out = np.frombuffer(batch.out, np.uint8)[:length]
        return cls(out, batch.end, kept, np.array([bad.before for bad in batch.bad], np.int64))

    def behind(self, other: _Rows) -> _Rows:
        """The other rows and these."""
        return _Rows(
            np.concatenate((other.out, self.out)),
            np.concatenate((other.end, self.end + len(other.out))),
            np.concatenate((other.kept, self.kept), axis=1),
            np.concatenate((other.holes, self.holes + len(other.end))),
        )

    def since(self, row: int) -> _Rows:
        """The rows from one on."""
        first = int(self.end[row - 1]) if row else 0
        holes = self.holes[self.holes >= row] - row
        return _Rows(self.out[first:].copy(), self.end[row:] - first, self.kept[:, row:], holes)


class TardisBooks:
    """Reads the rows of one instrument in their order."""

    is_pure = False

    def __init__(self, layout: Layout, exchange: str, market: str) -> None:
        found = _messages(exchange, market)
        if found is None:
            raise ValueError(f"no book records of {exchange}")
        self._layout = layout
        self._messages = found
        self._is_sided = exchange == "coinbase"
        nothing = np.empty(0, np.int64)
        self._held = _Rows(np.empty(0, np.uint8), nothing, np.empty((4, 0), np.int64), nothing)
        self._last = 0

    def read(self, lines: Lines) -> Batch:
        """The records of the messages that are complete."""
        batch, kept = read_table(lines, self._layout)
        rows = _Rows.of(batch, kept).behind(self._held)
        starts = _starts(rows)
        last = int(starts[-1]) if len(starts) else 0
        self._held = rows.since(last)
        made = self._made(rows, starts)
        made.lines, made.bad = batch.lines, batch.bad
        made.others, made.names = batch.others, batch.names
        return made

    def rest(self) -> Batch | None:
        """The record of the last message."""
        rows = self._held
        return self._made(rows, np.array([0, len(rows.end)])) if len(rows.end) else None

    def _made(self, rows: _Rows, edges: Ints) -> Batch:
        """The records of the messages between edges."""
        start, stop = edges[:-1], edges[1:]
        if not len(start):
            return Batch(b"", np.empty(0, np.int64), np.empty(0, np.int64), 0)
        arrival, time, flag, side = rows.kept
        is_snapshot = flag[start] > 0
        count = np.arange(1, len(start) + 1)
        # as they arrived, but each at least one above the one before
        ids = np.maximum.accumulate(np.append(self._last, arrival[stop - 1] - count))[1:] + count
        prev = np.append(self._last or ids[0] - 1, ids[:-1])
        self._last = int(ids[-1])
        first_hole = np.searchsorted(rows.holes, start, "left")
        is_whole = first_hole == np.searchsorted(rows.holes, stop, "right")
        texts = self._texts(is_snapshot, time[stop - 1], ids, prev)
        out, end = _assembled(
            rows, side, start, stop, is_whole, texts, is_snapshot & self._is_sided
        )
        return Batch(out, end, arrival[stop - 1][is_whole], 0)

    def _texts(self, is_snapshot: Flags, time: Ints, ids: Ints, prev: Ints) -> list[Any]:
        """By message, what stands before the asks, between them and the bids, and behind."""
        stamp = pl.col("time").cast(pl.Datetime("us"))
        fraction = pl.concat_str(pl.lit("."), (pl.col("time") % 1000).cast(pl.String).str.zfill(3))
        is_whole = pl.col("time") % 1000 == 0
        whole = (pl.col("time") // 1000).cast(pl.String)
        values = {
            "ms": pl.when(is_whole).then(whole).otherwise(pl.concat_str(whole, fraction)),
            "iso": stamp.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
            "id": pl.col("id").cast(pl.String),
            "prev": pl.col("prev").cast(pl.String),
            "next": (pl.col("prev") + 1).cast(pl.String),
            "inst": pl.lit(msgspec.json.encode(self._layout.inst_id)[1:-1].decode()),
        }
        columns = {"is_snapshot": is_snapshot, "time": time, "id": ids, "prev": prev}
        snapshot, update = self._messages
        chosen = [
            pl.when("is_snapshot")
            .then(_filled(getattr(snapshot, part), values))
            .otherwise(_filled(getattr(update, part), values))
            .alias(part)
            for part in ("before", "between", "behind")
        ]
        return list(pl.DataFrame(columns).select(chosen))


def _filled(text: str, values: dict[str, pl.Expr]) -> pl.Expr:
    pieces: list[pl.Expr] = []
    at = 0
    for place in _PLACE.finditer(text):
        pieces += [pl.lit(text[at : place.start()]), values[place[1]]]
        at = place.end()
    return pl.concat_str([*pieces, pl.lit(text[at:])])


def _starts(rows: _Rows) -> Ints:
    """The first row of each message."""
    if not len(rows.end):
        return np.empty(0, np.int64)
    arrival, _, flag, _ = rows.kept
    goes_on = (flag[1:] == flag[:-1]) & ((arrival[1:] == arrival[:-1]) | (flag[1:] > 0))
    return np.append(0, np.flatnonzero(~goes_on) + 1)


def _buffers(texts: pl.Series) -> tuple[Bytes, Ints]:
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    return np.frombuffer(data or b"", np.uint8), np.frombuffer(offsets, np.int64)[: len(texts) + 1]


def _assembled(
    rows: _Rows,
    side: Ints,
    start: Ints,
    stop: Ints,
    is_whole: Flags,
    texts: list[pl.Series],
    is_cut: Flags,
) -> tuple[Bytes, Ints]:
    _loops.compile()
    before, between, behind = (_buffers(each) for each in texts)
    most = sum(len(data) for data, _ in (before, between, behind)) + len(rows.out) + len(start)
    out = np.empty(most, np.uint8)
    end = np.empty(int(is_whole.sum()), np.int64)
    skip = np.where(side > 0, _BUY_LENGTH, _SELL_LENGTH)
    _assemble(
        rows.out,
        rows.end,
        side,
        skip,
        start,
        stop,
        is_whole,
        is_cut,
        *before,
        *between,
        *behind,
        out,
        end,
    )
    return out, end


@_loops.add_lean
def _copy(out: Bytes, at: int, source: Bytes, first: int, last: int) -> int:
    for place in range(first, last):
        out[at] = source[place]
        at += 1
    return at


@_loops.add_lean
def _levels(
    out: Bytes,
    at: int,
    text: Bytes,
    end: Ints,
    side: Ints,
    skip: Ints,
    first: int,
    last: int,
    sign: int,
    is_cut: bool,
) -> int:
    """Write the levels of one side, each with a comma behind it."""
    for row in range(first, last):
        if side[row] == sign:
            begin = end[row - 1] if row else 0
            if is_cut:
                out[at] = _OPEN
                at += 1
                begin += skip[row]
            at = _copy(out, at, text, begin, end[row] - 1)
            out[at] = _COMMA
            at += 1
    return at


@_loops.add
def _assemble(
    text: Bytes,
    end: Ints,
    side: Ints,
    skip: Ints,
    start: Ints,
    stop: Ints,
    is_whole: Flags,
    is_cut: Flags,
    before: Bytes,
    before_at: Ints,
    between: Bytes,
    between_at: Ints,
    behind: Bytes,
    behind_at: Ints,
    out: Bytes,
    out_end: Ints,
) -> None:
    """Write the records of whole messages."""
    at = count = 0
    for message in range(len(start)):
        if not is_whole[message]:
            continue
        first, last, cut = start[message], stop[message], is_cut[message]
        at = _copy(out, at, before, before_at[message], before_at[message + 1])
        asks = at
        at = _levels(out, at, text, end, side, skip, first, last, -1, cut)
        middle = between_at[message + 1] - between_at[message]
        # a comma is left at the end of a list, unless the list goes on with the bids
        at -= int(at > asks and middle > 0)
        at = _copy(out, at, between, between_at[message], between_at[message + 1])
        bids = at
        at = _levels(out, at, text, end, side, skip, first, last, 1, cut)
        at -= int(at > bids or (middle == 0 and at > asks))
        at = _copy(out, at, behind, behind_at[message], behind_at[message + 1])
        out_end[count] = at
        count += 1
