"""Order books of OKX's archives: each line becomes an envelope of the `books` channel around it.

The archives carry no sequence ids. Each record gets one made of its time (its milliseconds times
1000, and one more for each record of the same millisecond), and follows on from the record before.
So a line that could not be used is a hole in the sequence, as a lost message would be, and there
is no book until the next snapshot; the exchange writes one every fifteen minutes.
"""

from __future__ import annotations

import msgspec

from pipeline.importers.batch import Bad, Batch, of_lines
from pipeline.importers.careful import read_time
from pipeline.importers.convert import MILLIS
from pipeline.importers.framing import Lines
from pipeline.raw.shape import BadRecordError

_ACTIONS = ("snapshot", "update")


class BookLine(msgspec.Struct, rename={"inst_id": "instId", "seq_id": "seqId"}):
    """What matters of a line; its levels stay as they are."""

    inst_id: str
    action: str
    ts: str | int
    asks: msgspec.Raw
    bids: msgspec.Raw
    seq_id: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(BookLine)


def read_book_line(text: bytes) -> BookLine:
    """Decode one line.

    Raises:
        BadRecordError: it is no book.
    """
    try:
        found = _decoder.decode(text)
    except UnicodeDecodeError as error:
        raise BadRecordError("encoding") from error
    except msgspec.ValidationError as error:
        raise BadRecordError("not a book") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("json") from error
    if found.action not in _ACTIONS:
        raise BadRecordError("action")
    if not all(bytes(levels).startswith(b"[") for levels in (found.asks, found.bids)):
        raise BadRecordError("levels")
    return found


class OkxBooks:
    """Reads the lines of one instrument in their order."""

    is_pure = False

    def __init__(self, inst_id: str) -> None:
        self._inst_id = inst_id
        name = msgspec.json.encode(inst_id)
        self._heads = {
            action: b'{"arg":{"channel":"books","instId":%b},"action":"%b","data":['
            % (name, action.encode())
            for action in _ACTIONS
        }
        self._last = 0
        self._is_broken = True

    def read(self, lines: Lines) -> Batch:
        """The records of a block."""
        found: list[tuple[bytes, int]] = []
        bad: list[Bad] = []
        others: list[str] = []
        if lines.is_too_long:
            self._is_broken = True
            batch = of_lines([], 1)
            batch.bad.append(Bad.of(0, lines.offset, "too long", lines.data))
            return batch
        at, number = lines.offset, -1
        for number, line in enumerate(lines.data.splitlines(keepends=True)):
            text = line.strip()
            if text:
                try:
                    book = read_book_line(text)
                    time = read_time(str(book.ts), MILLIS, "ts")
                except BadRecordError as error:
                    bad.append(Bad.of(number, at, str(error), line))
                    self._is_broken = True
                else:
                    if book.inst_id == self._inst_id:
                        found.append((self._line(text, book, time), time))
                    else:
                        others.append(book.inst_id)
            at += len(line)
        batch = of_lines(found, number + 1)
        batch.bad, batch.others, batch.names = bad, len(others), set(others)
        return batch

    def rest(self) -> Batch | None:
        """Nothing is held back."""
        return None

    def _line(self, text: bytes, book: BookLine, time: int) -> bytes:
        if not bytes(book.seq_id):
            before = self._last + self._is_broken
            now = max(time, before + 1)
            prev = -1 if book.action == "snapshot" else before if self._last else now - 1
            text = b'{"seqId":%d,"prevSeqId":%d,' % (now, prev) + text[1:].lstrip()
            self._last, self._is_broken = now, False
        return self._heads[book.action] + text + b"]}\n"
