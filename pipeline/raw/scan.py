"""The fast path of book and quote feeds: JSON lines read byte by byte in a compiled loop.

A line is read here only if it is one JSON object in plain ASCII without escapes, in which every
key that matters stands once; its values are left where they are and the levels of a book become
numbers on the way. Whatever else is found makes the line unfit, which is no verdict: such a line
goes to `book_lines`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops
from pipeline.raw.digits import words_of
from pipeline.raw.feed import ASK, BID, CHANGES, NO_LEVELS

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Small = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

ABSENT, NULL, FLAG, NUMBER, TEXT, OBJECT, LIST, LEVELS = range(8)
"""What stands at a path of a line."""


PAD = 17
"""How many line ends must follow the lines."""

_loops = Loops(globals())
_DEPTH = 24
LONGEST_KEY, _WORD = 16, 8
_KEEP = np.array([(1 << (8 * count)) - 1 for count in range(9)], np.uint64)
"""Masks that keep the first characters of a word."""
_MAX_WHOLE, _MAX_DIGITS, _NINE = 15, 18, 9
_FIRST, _NEXT = 0, 1
_TAB, _RETURN, _SPACE, _QUOTE, _BACKSLASH, _ASCII = 9, 13, 32, 34, 92, 128
_COMMA, _MINUS, _POINT, _ZERO, _COLON = 44, 45, 46, 48, 58
_OPEN_LIST, _CLOSE_LIST, _OPEN_OBJECT, _CLOSE_OBJECT = 91, 93, 123, 125
_TRUE, _FALSE, _NULL, _BUY, _SELL = (
    np.array(bytearray(word), np.uint8)
    for word in (b"true", b"false", b"null", b'"buy"', b'"sell"')
)


class Paths(NamedTuple):
    """A tree of declared paths as arrays by node; the root is node 0, children stand together.

    Keys are two words of eight characters and a length; `element` is the node of a list's
    elements. `slot` and `place` are -1 where nothing is declared (see `Slots`).
    """

    low: Words
    high: Words
    length: Ints
    first: Ints
    after: Ints
    element: Ints
    slot: Ints
    place: Ints
    levels: Ints


class Lines(NamedTuple):
    """What the loop finds: kinds and spans by slot and line, levels one after the other."""

    fits: Flags
    places: Small
    level_end: Ints
    kind: npt.NDArray[np.int8]
    start: Places
    end: Places
    side: Small
    number: Ints
    dp: Small


@_loops.add_lean
def _blank(text: Bytes, at: int) -> int:
    """Position of the next byte that is no blank; a line end is none."""
    while text[at] == _SPACE or text[at] == _TAB or text[at] == _RETURN:
        at += 1
    return at


@_loops.add_lean
def _text_end(text: Bytes, at: int) -> int:
    """Position of the quote that ends a string, -1 if the string is out of the ordinary."""
    while True:
        byte = text[at]
        if byte == _QUOTE:
            return at
        if byte < _SPACE or byte >= _ASCII or byte == _BACKSLASH:
            return -1
        at += 1


@_loops.add_lean
def _reads(text: Bytes, at: int, word: Bytes) -> bool:
    for place in range(len(word)):  # noqa: SIM110  (compiled)
        if text[at + place] != word[place]:
            return False
    return True


@_loops.add_lean
def _literal_end(text: Bytes, at: int) -> tuple[int, int]:
    """End and kind of true, false, null or a plain JSON number; -1 for anything else."""
    if text[at] > _COLON:
        if _reads(text, at, _TRUE):
            return at + 4, FLAG
        if _reads(text, at, _FALSE):
            return at + 5, FLAG
        return (at + 4, NULL) if _reads(text, at, _NULL) else (-1, NULL)
    first = at + 1 if text[at] == _MINUS else at
    at = first
    while 0 <= int(text[at]) - _ZERO <= _NINE:
        at += 1
    if at == first or (text[first] == _ZERO and at > first + 1):
        return -1, NUMBER
    if text[at] == _POINT:
        point = at
        at += 1
        while 0 <= int(text[at]) - _ZERO <= _NINE:
            at += 1
        if at == point + 1:
            return -1, NUMBER
    return (at, NUMBER) if at - first <= _MAX_DIGITS + 1 else (-1, NUMBER)


@_loops.add_lean
def _number(text: Bytes, at: int) -> tuple[int, int, int]:
    """End, digits and decimals of a plain decimal, without the zeros at its end; end -1 if none."""
    first = at
    value = 0
    while True:
        digit = int(text[at]) - _ZERO
        if digit < 0 or digit > _NINE:
            break
        value = value * 10 + digit
        at += 1
    whole = at - first
    if whole == 0 or whole > _MAX_WHOLE:
        return -1, 0, 0
    if text[at] != _POINT:
        return at, value, 0
    first = last = at + 1
    at = first
    kept = value
    while True:
        digit = int(text[at]) - _ZERO
        if digit < 0 or digit > _NINE:
            break
        value = value * 10 + digit
        at += 1
        kept = value if digit else kept
        last = at if digit else last
    if at == first or whole + at - first > _MAX_DIGITS:
        return -1, 0, 0
    return at, kept, last - first


@_loops.add_lean
def _decimal(text: Bytes, at: int) -> tuple[int, int, int]:
    """As `_number`, quoted or as a JSON number."""
    if text[at] == _QUOTE:
        at, value, places = _number(text, at + 1)
        return (at + 1 if at >= 0 and text[at] == _QUOTE else -1), value, places
    if text[at] == _ZERO and 0 <= int(text[at + 1]) - _ZERO <= _NINE:
        return -1, 0, 0  # JSON knows no leading zeros
    return _number(text, at)


@_loops.add_lean
def _side(text: Bytes, at: int) -> tuple[int, int]:
    """End and side of "buy" or "sell"; end -1 for anything else."""
    if _reads(text, at, _BUY):
        return at + 5, BID
    return (at + 6, ASK) if _reads(text, at, _SELL) else (-1, ASK)


@_loops.add_lean
def _level(  # noqa: PLR0911
    text: Bytes, at: int, holds: int
) -> tuple[int, int, int, int, int, int]:
    """Read one level, whose bracket stands at `at`: end (-1 if unfit), side, price and size."""
    unfit = (-1, 0, 0, 0, 0, 0)
    at = _blank(text, at + 1)
    side = holds
    if holds == CHANGES:
        at, side = _side(text, at)
        if at < 0:
            return unfit
        at = _blank(text, at)
        if text[at] != _COMMA:
            return unfit
        at = _blank(text, at + 1)
    at, px, px_dp = _decimal(text, at)
    if at < 0 or px == 0:
        return unfit
    at = _blank(text, at)
    if text[at] != _COMMA:
        return unfit
    at, sz, sz_dp = _decimal(text, _blank(text, at + 1))
    if at < 0:
        return unfit
    at = _blank(text, at)
    while text[at] == _COMMA:
        at = _blank(text, at + 1)
        at = _text_end(text, at + 1) + 1 if text[at] == _QUOTE else _literal_end(text, at)[0]
        if at <= 0:
            return unfit
        at = _blank(text, at)
    return (at + 1, side, px, px_dp, sz, sz_dp) if text[at] == _CLOSE_LIST else unfit


@_loops.add_lean
def _levels(
    text: Bytes, at: int, holds: int, count: int, side: Small, dp: Small, number: Ints
) -> tuple[int, int]:
    """Read a list of levels; its end (-1 if unfit) and the count of levels after it."""
    at = _blank(text, at + 1)
    if text[at] == _CLOSE_LIST:
        return at + 1, count
    while text[at] == _OPEN_LIST:
        at, side[count], number[0, count], dp[0, count], number[1, count], dp[1, count] = _level(
            text, at, holds
        )
        if at < 0:
            return -1, count
        count += 1
        at = _blank(text, at)
        if text[at] == _CLOSE_LIST:
            return at + 1, count
        if text[at] != _COMMA:
            return -1, count
        at = _blank(text, at + 1)
    return -1, count


@_loops.add_lean
def _child(words: Words, paths: Paths, parent: int, start: int, length: int) -> int:
    """The node of a key below `parent`, -1 if the key is not declared."""
    if parent < 0 or length > LONGEST_KEY:
        return -1
    for node in range(paths.first[parent], paths.after[parent]):
        if paths.length[node] == length:
            low, high = words[start], words[start + _WORD]
            low &= _KEEP[min(length, _WORD)]
            high &= _KEEP[max(length - _WORD, 0)]
            if low == paths.low[node] and high == paths.high[node]:
                return node
    return -1


@_loops.add_lean
def _scan_line(  # noqa: C901, PLR0911, PLR0912, PLR0915  (one state machine, faster in one piece)
    text: Bytes, words: Words, at: int, row: int, count: int, paths: Paths, nodes: Ints, out: Lines
) -> tuple[int, int]:
    """Read one line; the position of its end (-1 if unfit) and the count of levels after it.

    `nodes` is a stack of 2 x node + (1 in an object), node -1 below a key that nobody reads.
    """
    at = _blank(text, at)
    if text[at] != _OPEN_OBJECT:
        return -1, count
    nodes[0] = 1
    depth, state = 1, _FIRST
    at += 1
    while depth:
        at = _blank(text, at)
        in_object = nodes[depth - 1] & 1
        parent = nodes[depth - 1] >> 1
        if text[at] == (_CLOSE_OBJECT if in_object else _CLOSE_LIST):
            depth, state = depth - 1, _NEXT
            at += 1
            continue
        if state == _NEXT:
            if text[at] != _COMMA:
                return -1, count
            at = _blank(text, at + 1)
        state = _NEXT
        if in_object:
            if text[at] != _QUOTE:
                return -1, count
            end = _text_end(text, at + 1)
            if end < 0:
                return -1, count
            node = _child(words, paths, parent, at + 1, end - at - 1)
            at = _blank(text, end + 1)
            if text[at] != _COLON:
                return -1, count
            at = _blank(text, at + 1)
        else:
            node = paths.element[parent] if parent >= 0 else -1
        start = at
        if text[at] == _QUOTE:
            start, kind = at + 1, TEXT
            end = _text_end(text, start)
            at = end + 1
        elif node >= 0 and text[at] == _OPEN_LIST and paths.levels[node] != NO_LEVELS:
            kind = LEVELS
            end, count = _levels(text, at, paths.levels[node], count, out.side, out.dp, out.number)
            at = end
        elif text[at] == _OPEN_LIST or text[at] == _OPEN_OBJECT:
            if depth == _DEPTH:
                return -1, count
            is_object = text[at] == _OPEN_OBJECT
            kind = OBJECT if is_object else LIST
            nodes[depth] = 2 * node + is_object
            depth, state = depth + 1, _FIRST
            at += 1
            end = at
        else:
            end, kind = _literal_end(text, at)
            at = end
        if end < 0:
            return -1, count
        if node >= 0 and paths.slot[node] >= 0:
            slot = paths.slot[node]
            if out.kind[slot, row] != ABSENT:
                return -1, count
            out.kind[slot, row], out.start[slot, row], out.end[slot, row] = kind, start, end
            out.places[row] |= paths.place[node]
    return _blank(text, at), count


@_loops.add_lean
def _scan_lines(
    text: Bytes, words: Words, ends: Ints, paths: Paths, nodes: Ints, out: Lines
) -> int:
    """Read all lines; how many levels the fit ones have."""
    count = start = 0
    for row in range(len(ends)):
        at, after = _scan_line(text, words, start, row, count, paths, nodes, out)
        start = ends[row]
        if at == start - 1:
            out.fits[row] = True
            count = after
        out.level_end[row] = count
    return count


def scan_lines(text: Bytes, ends: Ints, paths: Paths, out: Lines) -> int:
    """Read all lines; how many levels the fit ones have.

    Args:
        text: the lines, each with its end, and PAD more line ends.
        ends: positions just past them.
        paths: what to look for.
        out: to be filled.
    """
    _loops.compile()
    nodes = np.zeros(_DEPTH, np.int64)
    return _scan_lines(text, words_of(text), ends, paths, nodes, out)
