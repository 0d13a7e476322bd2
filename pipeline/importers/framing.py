"""A stream cut into blocks of whole lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.importers.container import Stream
from pipeline.importers.convert import PAD, Bytes

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
_KEEP_OF_LONG_LINE = 4096
_NEWLINE = ord("\n")


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, the last one with its end.

    Attributes:
        text: their bytes, and PAD line ends behind them.
        size: how many bytes they are.
        offset: where they start in the stream.
        is_too_long: they are only the beginning of one line that is too long to hold.
    """

    text: Bytes
    size: int
    offset: int
    is_too_long: bool = False

    @classmethod
    def of(cls, data: bytes, offset: int = 0, *, is_too_long: bool = False) -> Lines:
        """Lines of bytes; a last one without its end gets one."""
        data = data if data.endswith(b"\n") else data + b"\n"
        text = np.full(len(data) + PAD, _NEWLINE, np.uint8)
        text[: len(data)] = np.frombuffer(data, np.uint8)
        return cls(text, len(data), offset, is_too_long)

    @property
    def data(self) -> bytes:
        """The lines as bytes."""
        return self.text[: self.size].tobytes()


def blocks(stream: Stream, at: int = 0, size: int = BLOCK_BYTES) -> Iterator[Lines]:
    """Blocks of about `size` bytes.

    Args:
        stream: what is to be cut.
        at: how much of it has been read.
        size: of a block.
    """
    rest = b""
    while piece := stream.read(size):
        end = piece.rfind(b"\n") + 1
        if end:
            length = len(rest) + end
            text = np.empty(length + PAD, np.uint8)
            text[: len(rest)] = np.frombuffer(rest, np.uint8)
            text[len(rest) : length] = np.frombuffer(piece, np.uint8, end)
            text[length:] = _NEWLINE
            yield Lines(text, length, at)
            at += length
            rest = piece[end:]
            continue
        rest += piece
        if len(rest) > MAX_LINE_BYTES:
            length, behind = _pass_over(stream, size)
            yield Lines.of(rest[:_KEEP_OF_LONG_LINE], at, is_too_long=True)
            at += len(rest) + length
            rest = behind
    if rest:
        yield Lines.of(rest, at)


def _pass_over(stream: Stream, size: int) -> tuple[int, bytes]:
    """Read to the end of a line: how long the rest of it was, and what has been read behind it."""
    length = 0
    while piece := stream.read(size):
        end = piece.find(b"\n") + 1
        if end:
            return length + end, piece[end:]
        length += len(piece)
    return length, b""
