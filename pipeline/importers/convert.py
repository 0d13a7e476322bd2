"""Rows of a table of texts as JSON lines: the compiled loop over bytes.

A row is converted here only if all that matters in it is written in the usual way; every other
row is left to `careful`, which has the last word. Digits are copied as they stand; only times
become numbers. Eight characters are one word, so that a run of digits is measured, and a text
copied, eight at a time. Most rows are written like one a little before them: the same bytes in the
same places but for the digits. Where the fields of such a row begin and end is known without
reading it from left to right, and only what depends on its digits has to be looked at.

A plan is one array of integers, because passing many arrays on costs more than the work itself:
the numbers named below, then the kind of each column, the kept columns, three numbers a word
(span of its text, what it means), five a part of the line (span of a fixed text, what stands
behind it, the column that it is made of, where the spans of its two texts are), and these spans.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops
from pipeline.raw.digits import words_of

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]

SKIP, DECIMAL, AMOUNT, INTEGER, TIME, SIDE, FLAG, TEXT, SAME = range(9)
"""What a column holds: nothing that matters, a decimal above zero, one that may be zero, digits, a
time, a word that means 1 or -1, one that means 2 or -2, a text, or the instrument."""

NOTHING, COPY, MS, ISO, CHOICE, ROW = range(6)
"""What stands behind a fixed text: nothing, a column as it stands, a time in milliseconds or as ISO
8601, one of two texts, or a name for the row made of its time and its place in the source."""

AUTO, SECONDS, MILLIS, MICROS, NANOS = range(5)
"""Units of times written in digits; AUTO tells them by their number."""

COLUMNS, KEPT, WORDS, PARTS, SAME_AT, SAME_LENGTH, UNIT, TABLES = range(8)
"""Places of the first numbers of a plan; TABLES is where its tables begin."""

PAD = 144
"""How many line ends must follow the rows, and bytes any text of a plan."""

_loops = Loops(globals())
_MAX_WHOLE, _MAX_DIGITS, _MAX_FRACTION, _LONGEST = 15, 18, 9, 24
_ZERO, _NINE, _TEN, _FOLD, _SMALL_A = 48, 9, 10, 32, 97
_NEWLINE, _RETURN, _SPACE, _QUOTE, _PLUS, _COMMA, _MINUS, _POINT = 10, 13, 32, 34, 43, 44, 45, 46
_COLON, _T, _Z, _BACKSLASH, _LAST = 58, 84, 90, 92, 126
_S_DIGITS, _MS_DIGITS, _US_DIGITS, _NS_DIGITS = 10, 13, 16, 19
_FEBRUARY, _DECEMBER, _SHORTEST_MONTH, _DAYS_TO_1970 = 2, 12, 28, 719_468
_FIRST_YEAR, _LAST_HOUR, _LAST_MINUTE, _PLACES = 1980, 23, 59, 6
_BAD = -1

_NOTHING, _ONE, _SEVEN, _TOP = (np.uint64(number) for number in (0, 1, 7, 56))
_ZEROS, _ABOVE_NINE = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
_HIGH, _ONES = np.uint64(0x8080808080808080), np.uint64(0x0101010101010101)
_WINDOW, _WORD, _MOST_WINDOWS, _SHAPES = 64, 8, 2, 64
_GATHER, _MIX = np.uint64(0x0102040810204080), np.uint64(0x9E3779B97F4A7C15)
_SLOT, _LOW_BITS = np.uint64(58), np.uint64(0x7F7F7F7F7F7F7F7F)
_PAIRS, _BYTE, _SHORT, _HALF = (np.uint64(number) for number in (10, 8, 16, 32))
_KEEP = np.uint64(0x000000FF000000FF)
_LOW_PAIRS, _HIGH_PAIRS = np.uint64(0x000F424000000064), np.uint64(0x0000271000000001)


class Converted(NamedTuple):
    """The lines made of a block.

    Attributes:
        out: the lines, longer than they are.
        end: by row, where its line ends.
        kept: by kept column and row, the time or the meaning of the word.
        odd: of rows left to the careful path: where they start, rows and lines before them.
        lines: how many lines the block has.
        others: how many rows were of another instrument.
    """

    out: Bytes
    end: Places
    kept: Ints
    odd: Places
    lines: int
    others: int


def convert(
    text: Bytes, size: int, offset: int, plan: Places, texts: Bytes, longest: int
) -> Converted:
    """Convert whole lines.

    Args:
        text: the lines, the last one with its end, and PAD line ends behind them.
        size: how many bytes they are.
        offset: where they stand in the source.
        plan: see above.
        texts: its texts, PAD bytes longer.
        longest: how much longer than its row a line may be.
    """
    _loops.compile()
    lines = int(np.count_nonzero(text[:size] == _NEWLINE))
    out = np.empty(size + lines * longest + PAD, np.uint8)
    end, odd = np.empty(lines, np.int32), np.empty((lines, 3), np.int32)
    kept = np.empty((int(plan[KEPT]), lines), np.int64)
    rows, odds, others = _convert(
        text,
        words_of(text),
        size,
        offset,
        plan,
        texts,
        words_of(texts),
        out,
        words_of(out),
        end,
        kept,
        odd,
    )
    return Converted(out, end[:rows], kept[:, :rows], odd[:odds], lines, others)


@_loops.add_small
def _digits(wide: Words, at: int) -> tuple[int, Any]:
    """How many digits stand from a place on, up to 24, and something if not all are zeros."""
    count, seen = 0, _NOTHING
    while count < _LONGEST:
        word = wide[at + count] ^ _ZEROS
        other = ((word + _ABOVE_NINE) | word) & _HIGH
        if other != _NOTHING:
            below = ((other & (~other + _ONE)) >> _SEVEN) - _ONE
            return count + int(((below & _ONES) * _ONES) >> _TOP), seen | (word & below)
        seen |= word
        count += 8
    return count, seen


@_loops.add_small
def _eight(wide: Words, at: int) -> int:
    """The number of eight digits."""
    word = wide[at] - _ZEROS
    word = word * _PAIRS + (word >> _BYTE)
    word = (word & _KEEP) * _LOW_PAIRS + ((word >> _SHORT) & _KEEP) * _HIGH_PAIRS
    return int(word >> _HALF)


@_loops.add_small
def _decimal_end(text: Bytes, wide: Words, at: int, may_be_zero: bool) -> int:
    """End of a plain decimal, above zero unless it may be; -1 for anything else."""
    whole, seen = _digits(wide, at)
    fraction = 0
    at += whole
    if text[at] == _POINT:
        fraction, more = _digits(wide, at + 1)
        seen |= more
        at += fraction + 1
        if fraction == 0:
            return _BAD
    if whole == 0 or whole > _MAX_WHOLE or whole + fraction > _MAX_DIGITS:
        return _BAD
    return at if may_be_zero or seen != _NOTHING else _BAD


@_loops.add_small
def _integer_end(text: Bytes, wide: Words, at: int) -> int:
    """End of 1 to 18 digits without zeros before them; -1 for anything else."""
    digits, _ = _digits(wide, at)
    if digits == 0 or digits > _MAX_DIGITS or (text[at] == _ZERO and digits > 1):
        return _BAD
    return at + digits


@_loops.add_small
def _plain_end(text: Bytes, at: int, stop: int) -> int:
    """End of a text of printable ASCII without quotes and backslashes; -1 for anything else."""
    while True:
        byte = text[at]
        if byte == stop or byte < _SPACE:
            return at
        if (byte == _QUOTE) | (byte == _BACKSLASH) | (byte > _LAST):
            return _BAD
        at += 1


@_loops.add_small
def _skip_end(text: Bytes, wide: Words, at: int, stop: int) -> int:
    """The same for a field that does not matter, which mostly is a number."""
    digits, _ = _digits(wide, at)
    at += digits
    if text[at] == _POINT:
        digits, _ = _digits(wide, at + 1)
        at += digits + 1
    return _plain_end(text, at, stop)


@_loops.add_small
def _two(text: Bytes, at: int) -> int:
    """The number of two digits, or a negative one."""
    tens, ones = int(text[at]) - _ZERO, int(text[at + 1]) - _ZERO
    if tens < 0 or tens > _NINE or ones < 0 or ones > _NINE:
        return -1000
    return tens * _TEN + ones


@_loops.add_small
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 of a date."""
    # in years that begin in March the months' lengths follow a rule
    if month > _FEBRUARY:
        month -= 3
    else:
        year, month = year - 1, month + 9
    past = 365 * year + year // 4 - year // 100 + year // 400
    return past + (153 * month + 2) // 5 + day - 1 - _DAYS_TO_1970


@_loops.add_small
def _fraction(text: Bytes, at: int, value: int, places: int) -> tuple[int, int]:
    """End of a number's decimals, if any, and the number with so many of them; end -1 if none."""
    if text[at] == _POINT:
        at += 1
        first = at
        while 0 <= int(text[at]) - _ZERO <= _NINE:
            if places > 0:
                value = value * _TEN + int(text[at]) - _ZERO
                places -= 1
            at += 1
        if at == first or at - first > _MAX_FRACTION:
            return _BAD, 0
    while places > 0:
        value *= _TEN
        places -= 1
    return at, value


@_loops.add_small
def _iso(text: Bytes, at: int) -> tuple[int, int]:  # noqa: PLR0911  (compiled)
    """End and microseconds since 1970 of "2024-03-06 12:00:00[.123456789][Z]"; end -1 if none."""
    year = _two(text, at) * 100 + _two(text, at + 2)
    month, day = _two(text, at + 5), _two(text, at + 8)
    hour, minute, second = _two(text, at + 11), _two(text, at + 14), _two(text, at + 17)
    # days that only some months have are left to the careful path
    if year < _FIRST_YEAR or min(hour, minute, second) < 0 or min(month, day) < 1:
        return _BAD, 0
    if month > _DECEMBER or day > _SHORTEST_MONTH or hour > _LAST_HOUR:
        return _BAD, 0
    if max(minute, second) > _LAST_MINUTE or text[at + 7] != _MINUS:
        return _BAD, 0
    if text[at + 13] != _COLON or text[at + 16] != _COLON:
        return _BAD, 0
    if text[at + 10] != _T and text[at + 10] != _SPACE:
        return _BAD, 0
    of_day = (hour * 60 + minute) * 60 + second
    at, value = _fraction(text, at + 19, _days(year, month, day) * 86_400 + of_day, _PLACES)
    if at < 0:
        return _BAD, 0
    if text[at] == _Z:
        at += 1
    elif text[at] == _PLUS:
        if _two(text, at + 1) != 0 or text[at + 3] != _COLON or _two(text, at + 4) != 0:
            return _BAD, 0
        at += 6
    return at, value


@_loops.add_small
def _time(text: Bytes, wide: Words, at: int, unit: int) -> tuple[int, int]:
    """End and microseconds since 1970 of a time; end -1 for what is not written as usual."""
    if text[at + 4] == _MINUS:
        return _iso(text, at)
    digits, _ = _digits(wide, at)
    is_auto = unit == AUTO
    if text[at] == _ZERO:
        digits = 0
    if digits == _MS_DIGITS and (is_auto or unit == MILLIS):
        value = _eight(wide, at) * 100_000 + _eight(wide, at + 5) % 100_000
        return _fraction(text, at + digits, value, 3)
    if digits == _US_DIGITS and (is_auto or unit == MICROS):
        value = _eight(wide, at) * 100_000_000 + _eight(wide, at + 8)
        return _fraction(text, at + digits, value, 0)
    if digits == _S_DIGITS and (is_auto or unit == SECONDS):
        value = _eight(wide, at) * 100 + _eight(wide, at + 2) % 100
        return _fraction(text, at + digits, value, _PLACES)
    if digits == _NS_DIGITS and (is_auto or unit == NANOS):
        return at + digits, _eight(wide, at) * 100_000_000 + _eight(wide, at + 8)
    return _BAD, 0


@_loops.add_small
def _word(
    text: Bytes, at: int, plan: Places, texts: Bytes, word: int, size: int
) -> tuple[int, int]:
    """End and meaning of a known word, whatever its letters' case; end -1 if it is none.

    Only words count whose meaning is of a size.
    """
    for _ in range(plan[WORDS]):
        first, last, place = plan[word], plan[word + 1], at
        while first < last:
            wanted = texts[first]
            if text[place] != wanted and (text[place] + _FOLD != wanted or wanted < _SMALL_A):
                break
            first += 1
            place += 1
        byte = text[place]
        if first == last and (byte == _COMMA) | (byte == _QUOTE) | (byte < _SPACE):
            meaning = plan[word + 2]
            return (place, meaning) if abs(meaning) == size else (_BAD, 0)
        word += 3
    return _BAD, 0


@_loops.add_small
def _is_same(text: Bytes, at: int, end: int, plan: Places, texts: Bytes) -> bool:
    """Whether a field is the instrument."""
    first, length = plan[SAME_AT], plan[SAME_LENGTH]
    if end - at != length:
        return False
    for place in range(length):  # noqa: SIM110  (compiled)
        if text[at + place] != texts[first + place]:
            return False
    return True


@_loops.add_small
def _row(  # noqa: C901, PLR0912  (one loop over columns, faster in one piece)
    text: Bytes, wide: Words, at: int, plan: Places, texts: Bytes, spans: Places, values: Ints
) -> int:
    """Place behind a row's line; -1 if it is not written as usual, below if of another name."""
    columns = plan[COLUMNS]
    is_other = False
    for column in range(columns):
        is_quoted = text[at] == _QUOTE
        at += int(is_quoted)
        first, kind = at, plan[TABLES + column]
        if kind == SKIP:
            at = _skip_end(text, wide, at, _QUOTE if is_quoted else _COMMA)
        elif kind <= AMOUNT:
            at = _decimal_end(text, wide, at, kind == AMOUNT)
        elif kind == INTEGER:
            at = _integer_end(text, wide, at)
        elif kind == TIME:
            at, values[column] = _time(text, wide, at, plan[UNIT])
        elif kind <= FLAG:
            word = TABLES + columns + plan[KEPT]
            at, values[column] = _word(text, at, plan, texts, word, 1 + int(kind == FLAG))
        else:
            at = _plain_end(text, at, _QUOTE if is_quoted else _COMMA)
            is_other |= kind == SAME and not _is_same(text, first, at, plan, texts)
            if at == first:
                return _BAD
        if at < 0:
            return _BAD
        spans[2 * column], spans[2 * column + 1] = first, at
        if is_quoted:
            if text[at] != _QUOTE:
                return _BAD
            at += 1
        if column + 1 < columns:
            if text[at] != _COMMA:
                return _BAD
            at += 1
    at += int(text[at] == _RETURN)
    if text[at] != _NEWLINE:
        return _BAD
    return -at - 3 if is_other else at + 1


@_loops.add_small
def _no_digits(word: Any) -> Any:
    """Which of eight characters are no digits: the lowest bit of each that is none."""
    digit = word ^ _ZEROS
    return ((((digit & _LOW_BITS) + _ABOVE_NINE) | digit) & _HIGH) >> _SEVEN


@_loops.add_small
def _others(wide: Words, at: int) -> Any:
    """Which of 64 bytes are no digits, a bit for each, the first byte's the lowest."""
    found = _NOTHING
    for place in range(_WORD):
        other = _no_digits(wide[at + _WORD * place])
        found |= ((other * _GATHER) >> _TOP) << np.uint64(_WORD * place)
    return found


@_loops.add_small
def _known(  # noqa: C901  (one loop over columns, faster in one piece)
    text: Bytes,
    wide: Words,
    at: int,
    plan: Places,
    texts: Bytes,
    shapes: Words,
    facts: Places,
    meanings: Ints,
    slot: int,
    spans: Places,
    values: Ints,
) -> int:
    """Place behind a row that is written like one before it; -1 if it must be read like any other.

    Args:
        text: the rows.
        wide: the same as words.
        at: where the row starts.
        plan: see above.
        texts: of the plan.
        shapes: by slot, which bytes of a row are no digits, then for every eight bytes their values
            and which of them matter.
        facts: by slot, length of the row, how many times eight bytes that is, and the spans of its
            columns.
        meanings: by slot and column, of the words.
        slot: of the row whose bytes that are no digits stand in the same places.
        spans: the spans of the columns, which are filled in.
        values: the values of the columns, the same.
    """
    columns, differing = plan[COLUMNS], _NOTHING
    for place in range(facts[slot, 1]):
        word = _MOST_WINDOWS + 2 * place
        differing |= (wide[at + _WORD * place] ^ shapes[slot, word]) & shapes[slot, word + 1]
    if differing != _NOTHING:
        return _BAD
    for column in range(columns):
        first, last = at + facts[slot, 2 + 2 * column], at + facts[slot, 3 + 2 * column]
        spans[2 * column], spans[2 * column + 1] = first, last
        kind = plan[TABLES + column]
        if kind == DECIMAL:
            if text[first] == _ZERO and not _is_above_zero(text, wide, first, last):
                return _BAD
        elif kind == INTEGER:
            if text[first] == _ZERO and last - first > 1:
                return _BAD
        elif kind == TIME:
            end, values[column] = _time(text, wide, first, plan[UNIT])
            if end != last:
                return _BAD
        elif kind in (SIDE, FLAG):
            values[column] = meanings[slot, column]
        elif kind == SAME and not _is_same(text, first, last, plan, texts):
            return _BAD
    return at + int(facts[slot, 0])


@_loops.add_small
def _is_above_zero(text: Bytes, wide: Words, first: int, last: int) -> bool:
    """Whether a decimal that begins with a zero is 0.00000001 to 0.99999999; no other is told."""
    fraction = last - first - 2
    if fraction <= 0 or fraction > _WORD or text[first + 1] != _POINT:
        return False
    up = np.uint64(8 * (_WORD - fraction))
    return bool(((wide[first + 2] ^ _ZEROS) << up) != _NOTHING)


@_loops.add_small
def _learn(
    text: Bytes,
    wide: Words,
    at: int,
    end: int,
    windows: int,
    plan: Places,
    shapes: Words,
    facts: Places,
    meanings: Ints,
    slot: int,
    spans: Places,
    values: Ints,
) -> None:
    """Keep how a row that was read is written, unless there is a word with digits in it."""
    columns, length = plan[COLUMNS], end - at
    facts[slot, 0] = 0
    if length > _WINDOW * windows:
        return
    for column in range(columns):
        kind = plan[TABLES + column]
        first, last = spans[2 * column], spans[2 * column + 1]
        if kind in (SIDE, FLAG):
            for place in range(first, last):
                if 0 <= int(text[place]) - _ZERO <= _NINE:
                    return
            meanings[slot, column] = values[column]
        facts[slot, 2 + 2 * column], facts[slot, 3 + 2 * column] = first - at, last - at
    words = (length + _WORD - 1) // _WORD
    for place in range(words):
        word = wide[at + _WORD * place]
        other = _no_digits(word)
        care = (other << np.uint64(8)) - other
        if length - _WORD * place < _WORD:
            care &= (_ONE << np.uint64(8 * (length - _WORD * place))) - _ONE
        shapes[slot, _MOST_WINDOWS + 2 * place] = word
        shapes[slot, _MOST_WINDOWS + 2 * place + 1] = care
    facts[slot, 0], facts[slot, 1] = length, words


@_loops.add_small
def _put(target: Words, at: int, source: Words, first: int, last: int) -> int:
    """Copy bytes, eight at a time; up to seven more are written, and overwritten later."""
    place = at
    while first < last:
        target[place] = source[first]
        first += 8
        place += 8
    return at


@_loops.add_small
def _put_digits(out: Bytes, at: int, value: int, digits: int) -> int:
    """Write a number with so many digits."""
    for place in range(at + digits - 1, at - 1, -1):
        out[place] = _ZERO + value % _TEN
        value //= _TEN
    return at + digits


@_loops.add_small
def _put_number(out: Bytes, at: int, value: int) -> int:
    """Write a number with as many digits as it has."""
    digits, bound = 1, _TEN
    while value >= bound and digits < _MAX_DIGITS:
        digits += 1
        bound *= _TEN
    return _put_digits(out, at, value, digits)


@_loops.add_small
def _put_ms(out: Bytes, at: int, micros: int) -> int:
    """Write a time in milliseconds, with three decimals where it is finer than that."""
    at = _put_number(out, at, micros // 1000)
    if micros % 1000:
        out[at] = _POINT
        at = _put_digits(out, at + 1, micros % 1000, 3)
    return at


@_loops.add_small
def _put_iso(out: Bytes, at: int, micros: int) -> int:
    """Write a time as 2024-03-06T12:00:00.123456Z."""
    days, rest = micros // 86_400_000_000, micros % 86_400_000_000
    # the inverse of `_days`: eras of 400 years that begin in March
    of_era = (days + _DAYS_TO_1970) % 146_097
    of_year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    day = of_era - (365 * of_year + of_year // 4 - of_year // 100)
    month = (5 * day + 2) // 153
    year = (days + _DAYS_TO_1970) // 146_097 * 400 + of_year
    at = _put_digits(out, at, year + int(month >= _TEN), 4)
    out[at] = _MINUS
    at = _put_digits(out, at + 1, month + 3 if month < _TEN else month - 9, 2)
    out[at] = _MINUS
    at = _put_digits(out, at + 1, day - (153 * month + 2) // 5 + 1, 2)
    out[at] = _T
    at = _put_digits(out, at + 1, rest // 3_600_000_000, 2)
    out[at] = _COLON
    at = _put_digits(out, at + 1, rest // 60_000_000 % 60, 2)
    out[at] = _COLON
    at = _put_digits(out, at + 1, rest // 1_000_000 % 60, 2)
    out[at] = _POINT
    at = _put_digits(out, at + 1, rest % 1_000_000, _PLACES)
    out[at] = _Z
    return at + 1


@_loops.add_small
def _line(
    text: Bytes,
    wide: Words,
    place: int,
    plan: Places,
    texts: Words,
    spans: Places,
    values: Ints,
    out: Bytes,
    to: Words,
    at: int,
) -> int:
    """Write the line of a row; returns where the next one goes."""
    part = TABLES + plan[COLUMNS] + plan[KEPT] + 3 * plan[WORDS]
    for _ in range(plan[PARTS]):
        first, last, kind, column = plan[part], plan[part + 1], plan[part + 2], plan[part + 3]
        at = _put(to, at, texts, first, last) + last - first
        if kind == COPY:
            first, last = spans[2 * column], spans[2 * column + 1]
            at = _put(to, at, wide, first, last) + last - first
        elif kind == MS:
            begin = spans[2 * column]
            # as it stands, if it is thirteen digits
            if spans[2 * column + 1] - begin == _MS_DIGITS and text[begin + 10] >= _ZERO:
                at = _put(to, at, wide, begin, begin + _MS_DIGITS) + _MS_DIGITS
            else:
                at = _put_ms(out, at, values[column])
        elif kind == CHOICE:
            spot = plan[part + 4] + (0 if values[column] > 0 else 2)
            first, last = plan[spot], plan[spot + 1]
            at = _put(to, at, texts, first, last) + last - first
        elif kind == ISO:
            at = _put_iso(out, at, values[column])
        elif kind == ROW:
            at = _put_number(out, at, values[column])
            out[at] = _MINUS
            at = _put_number(out, at + 1, place)
        part += 5
    return at


@_loops.add
def _convert(
    text: Bytes,
    wide: Words,
    size: int,
    offset: int,
    plan: Places,
    texts: Bytes,
    literals: Words,
    out: Bytes,
    to: Words,
    end: Places,
    kept: Ints,
    odd: Places,
) -> tuple[int, int, int]:
    """Convert the lines of a block; returns how many rows, odd lines and other rows."""
    columns = plan[COLUMNS]
    spans, values = np.zeros(2 * columns, np.int32), np.zeros(columns, np.int64)
    shapes = np.zeros((_SHAPES, _MOST_WINDOWS + 2 * _WORD * _MOST_WINDOWS), np.uint64)
    facts = np.zeros((_SHAPES, 2 + 2 * columns), np.int32)
    meanings = np.zeros((_SHAPES, columns), np.int64)
    at = length = rows = odds = lines = others = slot = 0
    low = high = _NOTHING
    # most rows fit into so many windows, or it is not worth while to look
    windows = 1 + size // max(1, len(end) * (_WINDOW - 2))
    is_short = windows <= _MOST_WINDOWS
    while at < size:
        start = at
        at = _BAD
        if is_short:
            low = _others(wide, start)
            high = _others(wide, start + _WINDOW) if windows > 1 else _NOTHING
            slot = int(np.int64(((low ^ (high * _MIX)) * _MIX) >> _SLOT))
            if facts[slot, 0] > 0 and shapes[slot, 0] == low and shapes[slot, 1] == high:
                at = _known(
                    text, wide, start, plan, texts, shapes, facts, meanings, slot, spans, values
                )
        if at < 0:
            at = _row(text, wide, start, plan, texts, spans, values)
            if at >= 0 and is_short:
                shapes[slot, 0], shapes[slot, 1] = low, high
                _learn(
                    text,
                    wide,
                    start,
                    at,
                    windows,
                    plan,
                    shapes,
                    facts,
                    meanings,
                    slot,
                    spans,
                    values,
                )
        if at >= 0:
            place = offset + start
            length = _line(text, wide, place, plan, literals, spans, values, out, to, length)
            end[rows] = length
            for which in range(plan[KEPT]):
                kept[which, rows] = values[plan[TABLES + columns + which]]
            rows += 1
        elif at == _BAD:
            odd[odds, 0], odd[odds, 1], odd[odds, 2] = start, rows, lines
            odds += 1
            at = start
            while text[at] != _NEWLINE:
                at += 1
            at += 1
        else:
            at = -at - 2
            others += 1
        lines += 1
    return rows, odds, others
