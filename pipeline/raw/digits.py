"""Decimal digits to integers, a whole column at a time.

Eight characters are one 64-bit word, and three multiplications turn the word into its number
(the usual "SIMD within a register" parse). That is what lets a block of trades become numbers
without becoming strings first, which costs several times as much. Whatever is not plain digits is
reported as invalid and left to the careful path.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

PAD = 32
"""Bytes to put before the text, so that words may be loaded from before a number's start."""

MAX_DIGITS = 18
_ZEROS = np.uint64(0x3030303030303030)
_HIGH = np.uint64(0xF0F0F0F0F0F0F0F0)
_SIX = np.uint64(0x0606060606060606)
_KEEP = np.array(
    [(0xFFFFFFFFFFFFFFFF << (8 * (8 - n))) & 0xFFFFFFFFFFFFFFFF for n in range(9)], dtype=np.uint64
)
"""Masks that keep the last n characters of a word (the last one is the most significant byte)."""
POWERS = np.array([10**n for n in range(MAX_DIGITS + 1)], dtype=np.int64)


def words_of(text: npt.NDArray[np.uint8]) -> Words:
    """Every eight consecutive bytes as a little-endian word, by the position of the first."""
    count = max(0, len(text) - 7)
    return np.ndarray((count,), "<u8", text.data, 0, (1,))


def unsigned(words: Words, ends: Ints, lengths: Ints) -> tuple[Ints, Flags]:
    """Numbers whose last digit stands just before `ends`.

    Args:
        words: `words_of` the text, which starts with PAD bytes of anything.
        ends: position past the last digit.
        lengths: how many digits, 0 (the number 0) to 18; others are invalid.
    """
    total = np.zeros(len(ends), np.int64)
    valid = (lengths >= 0) & (lengths <= MAX_DIGITS)
    longest = int(lengths.max(initial=0))
    for place in range(0, min(longest, MAX_DIGITS), 8):
        taken = np.clip(lengths - place, 0, 8)
        keep = _KEEP[taken]
        word = (words[ends - place - 8] & keep) | (_ZEROS & ~keep)
        valid &= ((word & _HIGH) == _ZEROS) & (((word + _SIX) & _HIGH) == _ZEROS)
        word -= _ZEROS
        word = (word * np.uint64(10)) + (word >> np.uint64(8))
        word = (
            (word & np.uint64(0x000000FF000000FF)) * np.uint64(0x000F424000000064)
            + ((word >> np.uint64(16)) & np.uint64(0x000000FF000000FF))
            * np.uint64(0x0000271000000001)
        ) >> np.uint64(32)
        total += word.astype(np.int64) * np.int64(10**place)
    return total, valid


def decimals(
    text: npt.NDArray[np.uint8], words: Words, ends: Ints, lengths: Ints, most: int
) -> tuple[Ints, Ints, Flags]:
    """Plain decimals ("61800.30"): integer of all digits, number of decimals, validity.

    At least one digit on each side of the point, at most `most` behind it.
    """
    places = np.zeros(len(ends), np.int64)
    found = np.zeros(len(ends), np.bool_)
    open_rows = np.arange(len(ends))
    for back in range(1, most + 1):
        spots = ends[open_rows] - 1 - back
        hits = (text[spots] == ord(".")) & (lengths[open_rows] > back + 1)
        places[open_rows[hits]] = back
        found[open_rows[hits]] = True
        open_rows = open_rows[~hits]
        if not len(open_rows):
            break
        if back >= int(lengths[open_rows].max()) - 2:
            break
    whole_ends = ends - places - found
    whole, whole_ok = unsigned(words, whole_ends, lengths - places - found)
    fraction, fraction_ok = unsigned(words, ends, places)
    valid = whole_ok & fraction_ok & (lengths >= 1) & (lengths <= MAX_DIGITS)
    return whole * POWERS[places] + fraction, places, valid
