"""The fast path: lines of one layout, cut into fields without being parsed one by one.

A collector writes line after line with the same keys in the same order. Cut at the double quotes,
such lines are values with the same text between them. The first good line is the template; every
other line must repeat what stands between the values to the letter. A line that does not is not
judged here: it goes to `lines`.

Generic JSON and CSV readers were measured first (polars, pyarrow): they build strings for every
field and cost two to three times as much as this, the largest part of a backfill.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.raw.digits import MAX_DIGITS, PAD, Flags, Ints, Words, unsigned, words_of

_LITERAL = re.compile(r"([\s:\[\]{},]*)([^\s:\[\]{},\"]+)([\s:\[\]{},]*)")
_PUNCTUATION = re.compile(r"[\s:\[\]{},]*")
_JSON_LITERAL = r"^(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|true|false|null)$"
_MAX_TOKENS = 400
_QUOTE, _NEWLINE, _ZERO, _FIRST_PRINTABLE = ord('"'), ord("\n"), ord("0"), 32
_WORD = 8


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a line: where it ends is told by a quote behind it.

    Attributes:
        before: everything between the value before (or the line's start) and this one.
        quote: how many quotes of the line stand before the one that tells the end; -1 if none
            follows, then the end is told by the line's.
        back: how far before that quote (or the line's end) the value ends.
    """

    before: bytes
    quote: int
    back: int
    is_string: bool


@dataclass(frozen=True, slots=True)
class Template:
    """The layout of a line: values by path, in order, what stands between them, and the end."""

    fields: dict[str, Field]
    rest: bytes
    quotes: int

    @classmethod
    def of(cls, line: bytes) -> Template | None:
        """Derive the layout of a line that is known to be one valid JSON object in ASCII."""
        tokens = line.decode("ascii").split('"')
        if not 1 < len(tokens) <= _MAX_TOKENS:
            return None
        walk = _Walk()
        values: list[tuple[str, str, bool]] = []
        between = ""
        for index, token in enumerate(tokens):
            between += '"' if index else ""
            if index % 2:
                if tokens[index + 1].lstrip()[:1] == ":":
                    walk.key = token
                    between += token
                else:
                    values.append((walk.path(), between, True))
                    between = ""
                continue
            literal = _LITERAL.fullmatch(token)
            if literal is not None:
                walk.punctuation(literal[1])
                values.append((walk.path(), between + literal[1], False))
                between = literal[3]
            elif _PUNCTUATION.fullmatch(token):
                between += token
            else:
                return None
            walk.punctuation(literal[3] if literal is not None else token)
        return cls._of_values(values, between, len(tokens) - 1)

    @classmethod
    def _of_values(
        cls, values: list[tuple[str, str, bool]], rest: str, quotes: int
    ) -> Template | None:
        fields: dict[str, Field] = {}
        passed = 0
        for position, (path, before, is_string) in enumerate(values):
            following = values[position + 1][1] if position + 1 < len(values) else rest
            passed += before.count('"')
            back = following.find('"')
            quote = passed if back >= 0 else -1
            if path in fields:
                return None
            fields[path] = Field(before.encode(), quote, max(back, 0), is_string=is_string)
        last = next(reversed(fields), None)
        if last is not None and fields[last].quote < 0:
            field = fields[last]
            fields[last] = Field(field.before, -1, len(rest), is_string=field.is_string)
        return cls(fields, rest.encode(), quotes)

    def read(self, block: bytes) -> Table | None:
        """Find the values of all lines; None if a byte occurs that only `lines` may judge."""
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if not block.isascii() or b"\\" in block:
            return None
        text = np.empty(PAD + len(block) + PAD, np.uint8)
        text[:PAD] = text[-PAD:] = 0
        body = text[PAD:-PAD]
        body[:] = np.frombuffer(block, np.uint8)
        controls = np.flatnonzero(body < _FIRST_PRINTABLE)
        if (body[controls] != _NEWLINE).any():
            return None
        return Table.cut(self, text, np.flatnonzero(body == _QUOTE), controls)


@dataclass
class Table:
    """The values of many lines of one template.

    Attributes:
        text: the block with PAD bytes on either side.
        spans: start and end of each field's values in `text`.
        fits: lines that have met the template so far.
    """

    template: Template
    text: npt.NDArray[np.uint8]
    words: Words
    spans: dict[str, tuple[Ints, Ints]]
    fits: Flags

    @classmethod
    def cut(
        cls, template: Template, text: npt.NDArray[np.uint8], quotes: Ints, ends: Ints
    ) -> Table | None:
        """Find each value and compare all that stands between values with the template.

        Args:
            template: the layout.
            text: the block with PAD bytes on either side.
            quotes: positions of all quotes of the block.
            ends: positions of its line ends.
        """
        lines, each = len(ends), template.quotes
        starts = np.concatenate(([-1], ends[:-1])) + 1
        fits = np.ones(lines, np.bool_)
        grid = quotes
        if len(quotes) == lines * each:
            grid = quotes.reshape(lines, each)
            is_regular = bool((grid[:, 0] >= starts).all() and (grid[:, -1] < ends).all())
        else:
            is_regular = False
        if not is_regular:
            if len(quotes) < each:
                return None
            first = np.searchsorted(quotes, starts)
            fits = np.searchsorted(quotes, ends) - first == each
            grid = quotes[np.where(fits, first, 0)[:, None] + np.arange(each)]
        table = cls(template, text, words_of(text), {}, fits)
        at = starts + PAD
        ends = ends + PAD
        for path, field in template.fields.items():
            start = at + len(field.before)
            end = (
                ends - field.back if field.quote < 0 else grid[:, field.quote] + (PAD - field.back)
            )
            table.fits &= (start <= end) & table.matches(at, field.before)
            table.spans[path] = (start, end)
            at = end
        table.fits &= (ends - at == len(template.rest)) & table.matches(at, template.rest)
        if not table.fits.all():
            for start, end in table.spans.values():
                start[~table.fits] = PAD  # harmless places; these lines are not looked at
                end[~table.fits] = PAD
        return table

    @cached_property
    def height(self) -> int:
        """Number of lines."""
        return len(self.fits)

    def equals(self, path: str, value: str) -> Flags:
        """Where a field's text is exactly `value`."""
        start, end = self.spans[path]
        same: Flags = (end - start == len(value)) & self.matches(start, value.encode())
        return same

    def strings(self, path: str) -> pl.Series:
        """A field's texts."""
        import pyarrow as pa  # noqa: PLC0415  (only where text itself is needed)

        start, end = self.spans[path]
        ends = np.cumsum(end - start)
        where = np.repeat(start - (ends - (end - start)), end - start) + np.arange(ends[-1])
        offsets = np.concatenate(([0], ends))
        array = pa.LargeStringArray.from_buffers(
            len(start), pa.py_buffer(offsets), pa.py_buffer(self.text[where])
        )
        return pl.Series(pl.from_arrow(array))

    def check_ignored_literals(self, used: set[str]) -> None:
        """Literals that nobody reads must still be valid JSON: whole numbers, or by pattern."""
        for path, field in self.template.fields.items():
            if field.is_string or path in used:
                continue
            start, end = self.spans[path]
            _, plain = unsigned(self.words, end, np.minimum(end - start, MAX_DIGITS + 1))
            plain &= (self.text[start] != _ZERO) & (end > start)
            if not plain[self.fits].all():
                self.fits &= self.strings(path).str.contains(_JSON_LITERAL).to_numpy()

    def matches(self, start: Ints, constant: bytes) -> Flags:
        """Where the text from `start` on begins with a constant."""
        same = np.ones(len(start), np.bool_)
        last = len(self.text) - _WORD
        for at in range(0, len(constant), _WORD):
            piece = constant[at : at + _WORD]
            places = np.minimum(start + at, last)
            if len(piece) == 1:
                same &= self.text[places] == piece[0]
            elif len(piece) == _WORD:
                same &= self.words[places] == np.uint64(int.from_bytes(piece, "little"))
            else:
                mask = np.uint64((1 << (8 * len(piece))) - 1)
                same &= (self.words[places] & mask) == np.uint64(int.from_bytes(piece, "little"))
        return same


class _Walk:
    """Where in the object the walk stands, as a path such as `data[].px`."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.key = ""

    def punctuation(self, token: str) -> None:
        for char in token:
            if char == "{":
                in_list = bool(self.stack) and self.stack[-1].endswith("[]")
                self.stack.append(f"{self.key}." if self.key or in_list else "")
                self.key = ""
            elif char == "[":
                self.stack.append(f"{self.key}[]")
                self.key = ""
            elif char in "}]" and self.stack:
                self.stack.pop()
                self.key = ""

    def path(self) -> str:
        return "".join(self.stack) + self.key
