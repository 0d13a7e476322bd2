"""Sale conditions: every flag and every letter."""

from __future__ import annotations

import string

import pytest

from pipeline.calc.conditions import AUCTION, COUNTED, EXCLUDED, UNREADABLE, kind_of

OUT = (1, 2, 3, 9, 10, 11, 13, 14, 17, 18, 20, 22, 24, 25, 26)
AUCTIONS = (6, 7, 8, 21)


@pytest.mark.parametrize("bit", range(32))
def test_every_flag(bit: int) -> None:
    wanted = EXCLUDED if bit in OUT else AUCTION if bit in AUCTIONS else COUNTED
    assert kind_of(f"{1 << bit:x}", "flags") == wanted
    assert kind_of(f"{1 << bit:08X}", "flags") == wanted
    assert kind_of(f"{1 << bit | 1 << 17:x}", "flags") == EXCLUDED


@pytest.mark.parametrize("letter", [*string.ascii_uppercase, *string.digits, "@", " "])
def test_every_letter(letter: str) -> None:
    wanted = COUNTED
    if letter in "CNR4TLUZB7VWHMPQ":
        wanted = EXCLUDED
    elif letter in "O65X":
        wanted = AUCTION
    assert kind_of(f"@{letter} I", "letters") == wanted
    assert kind_of(f"O{letter}", "letters") == (EXCLUDED if wanted == EXCLUDED else AUCTION)


def test_none_and_unreadable() -> None:
    assert kind_of("", "flags") == kind_of("", "letters") == COUNTED
    assert kind_of("@", "flags") == kind_of("-1", "flags") == kind_of("0x1", "flags") == UNREADABLE


def test_the_flags_of_the_sample() -> None:
    """Regular and odd-lot prints count; form T, official prints and late ones do not."""
    assert {kind_of(c, "flags") for c in ("1", "20000020", "20", "20000001")} == {COUNTED}
    assert {kind_of(c, "flags") for c in ("40", "80", "200040")} == {AUCTION}
    excluded = ("2000", "20002020", "20100200", "4800", "20040200", "4000000", "1000000")
    assert {kind_of(c, "flags") for c in excluded} == {EXCLUDED}
