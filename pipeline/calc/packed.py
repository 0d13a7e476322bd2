"""Columns of integers in few letters, for a carry that holds many of them.

A value is split into its leading digits and the bits behind them. The leading digits say how large
it is, of which there are few kinds: they are Huffman coded. The bits behind them are as good as
random and are kept as they are. Thirteen bits are two letters of an alphabet of 91 that JSON does
not have to escape.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_REMEMBERED = 128
_LEADING = 2
"""Binary digits behind the first that are still coded."""
_POWERS = 1 << np.arange(63, dtype=np.int64)
_LETTERS, _BITS = 91, 13
_FIRST, _BACKSLASH, _INSTEAD = ord("#"), ord("\\"), ord("!")


def pack(columns: Sequence[np.ndarray]) -> str:
    """Pack columns of non-negative values (int64, or Python integers)."""
    if any(column.dtype == object for column in columns):
        texts = (",".join(map(str, column.tolist())) for column in columns)
        return _letters(b"\0" + zlib.compress(";".join(texts).encode("ascii"), 9))
    return _letters(b"\1" + b"".join(map(_coded, columns)))


@lru_cache(_REMEMBERED)
def unpack(text: str) -> tuple[np.ndarray, ...]:
    """The inverse of `pack`; the arrays are read-only, for the next caller may get the same.

    A backfill unpacks the same columns for every batch, hence the memory.
    """
    data = _bytes(text)
    columns = []
    if data[0] == 0:
        found = zlib.decompressobj().decompress(data[1:]).decode("ascii").split(";")
        columns = [np.array([int(x) for x in each.split(",") if x], object) for each in found]
    else:
        at = 1
        # behind the last column there may be one byte too many, of no bits
        while at < len(data) - 1:
            column, at = _decoded(data, at)
            columns.append(column)
    for column in columns:
        column.flags.writeable = False
    return tuple(columns)


def _coded(values: np.ndarray) -> bytes:
    values = values.astype(np.int64, copy=False)
    rest = (np.searchsorted(_POWERS, values, "right") - 1 - _LEADING).clip(0)
    kinds = ((rest << _LEADING) + (values >> rest)).astype(np.uint8).tobytes()
    bits = [
        ((values[rest == width, None] >> np.arange(width)) & 1).astype(np.uint8).ravel()
        for width in _widths(rest)
    ]
    behind = np.packbits(np.concatenate([np.empty(0, np.uint8), *bits])).tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    packed = packer.compress(kinds) + packer.flush()
    sizes = np.array([len(packed), len(behind)], "<u4").tobytes()
    return sizes + packed + behind


def _decoded(data: bytes, at: int) -> tuple[np.ndarray, int]:
    """The column that begins at a byte, and where the next one begins."""
    first, second = np.frombuffer(data, "<u4", 2, at).tolist()
    at += 8
    kinds = np.frombuffer(zlib.decompress(data[at : at + first], -15), np.uint8).astype(np.int64)
    at += first
    bits = np.unpackbits(np.frombuffer(data, np.uint8, second, at))
    rest = ((kinds >> _LEADING) - 1).clip(0)
    values = (kinds - (rest << _LEADING)) << rest
    done = 0
    for width in _widths(rest):
        places = np.flatnonzero(rest == width)
        end = done + len(places) * width
        values[places] += bits[done:end].reshape(-1, width) @ _POWERS[:width]
        done = end
    return values, at + second


def _widths(rest: np.ndarray) -> list[int]:
    return [width for width in np.unique(rest).tolist() if width]


def _letters(data: bytes) -> str:
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    bits = np.concatenate((bits, np.zeros(-len(bits) % _BITS, np.uint8)))
    pairs = bits.reshape(-1, _BITS) @ _POWERS[:_BITS]
    letters = (np.stack(np.divmod(pairs, _LETTERS), 1).ravel() + _FIRST).astype(np.uint8)
    letters[letters == _BACKSLASH] = _INSTEAD
    return letters.tobytes().decode("ascii")


def _bytes(text: str) -> bytes:
    letters = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64)
    letters[letters == _INSTEAD] = _BACKSLASH
    pairs = (letters - _FIRST).reshape(-1, 2) @ np.array([_LETTERS, 1])
    bits = ((pairs[:, None] >> np.arange(_BITS)) & 1).astype(np.uint8).ravel()
    return np.packbits(bits[: len(bits) // 8 * 8]).tobytes()
