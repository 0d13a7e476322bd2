"""Sale conditions of US equity trades: which trades do not count, and which are auction prints.

A tape writes them as hexadecimal flags or as the letters of CTA and UTP. Official opening and
closing prints repeat volume that has been reported before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

COUNTED, AUCTION, EXCLUDED, UNREADABLE = range(4)
"""What a trade's conditions make of it."""

_EXCLUDED_BITS = (1, 2, 3, 9, 10, 11, 13, 14, 17, 18, 20, 22, 24, 25, 26)
"""Cash, next day, seller; derivatively priced, form T, sold late; extended hours, out of sequence;
bunched, contingent; average price, price variation; official close, prior reference, official
open."""
_AUCTION_BITS = (6, 7, 8, 21)
_EXCLUDED_LETTERS = frozenset("CNR4TLUZB7VWHMPQ")
_AUCTION_LETTERS = frozenset("O65X")
_HEXADECIMAL = frozenset("0123456789abcdefABCDEF")


def _mask(bits: Iterable[int]) -> int:
    return sum(1 << bit for bit in bits)


_EXCLUDED_MASK, _AUCTION_MASK = _mask(_EXCLUDED_BITS), _mask(_AUCTION_BITS)

Format = Literal["flags", "letters"]


def kind_of(cond: str, written: Format) -> int:
    """What conditions make of a trade; excluded goes before auction."""
    if written == "letters":
        letters = frozenset(cond)
        is_excluded, is_auction = letters & _EXCLUDED_LETTERS, letters & _AUCTION_LETTERS
        return EXCLUDED if is_excluded else AUCTION if is_auction else COUNTED
    if not _HEXADECIMAL.issuperset(cond):
        return UNREADABLE
    flags = int(cond or "0", 16)
    if flags & _EXCLUDED_MASK:
        return EXCLUDED
    return AUCTION if flags & _AUCTION_MASK else COUNTED
