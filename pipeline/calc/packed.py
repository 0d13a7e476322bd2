"""Two columns of integers in few bytes, for a carry that holds many of them."""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np

_REMEMBERED = 1024


def pack(numbers: np.ndarray, values: np.ndarray) -> bytes:
    """Pack rising numbers and as many non-negative values (int64, or Python integers)."""
    if object in (numbers.dtype, values.dtype):
        return b"\0" + zlib.compress(_text(numbers) + b";" + _text(values), 9)
    steps = np.diff(numbers)
    widths = [_width(steps), _width(values)]
    planes = _planes(steps, widths[0]) + _planes(values, widths[1])
    first = int(numbers[0]).to_bytes(8, "little")
    return bytes(widths) + zlib.compress(first + planes, 9)


@lru_cache(_REMEMBERED)
def unpack(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack`; the arrays are read-only, for the next caller may get the same.

    A backfill unpacks the same bars for every batch, hence the memory.
    """
    if data[0] == 0:
        halves = zlib.decompress(data[1:]).split(b";")
        numbers, values = (np.array([int(x) for x in h.split(b",")], object) for h in halves)
    else:
        raw = np.frombuffer(zlib.decompress(data[2:]), np.uint8)
        count = (len(raw) - 8 + data[0]) // (data[0] + data[1])
        end = 8 + (count - 1) * data[0]
        steps = _whole(raw[8:end], data[0])
        numbers = np.concatenate((raw[:8].view("<i8"), steps)).cumsum()
        values = _whole(raw[end:], data[1])
    numbers.flags.writeable = values.flags.writeable = False
    return numbers, values


def _text(values: np.ndarray) -> bytes:
    return ",".join(map(str, values.tolist())).encode("ascii")


def _width(values: np.ndarray) -> int:
    """Bytes that hold the largest."""
    return max(1, -(-int(values.max(initial=0)).bit_length() // 8))


def _planes(values: np.ndarray, width: int) -> bytes:
    """All lowest bytes, then all second bytes and so on: high bytes, mostly zero, pack well."""
    return values.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()


def _whole(planes: np.ndarray, width: int) -> np.ndarray:
    values = np.zeros((len(planes) // width, 8), np.uint8)
    values[:, :width] = planes.reshape(width, -1).T
    return values.reshape(-1).view("<i8").astype(np.int64)
