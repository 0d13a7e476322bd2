"""What the rows of one source hold and what line each becomes, made ready for both readers.

The line of a record is declared as text with places to fill:

    <price>             a column as it stands
    <time ms>           a time in milliseconds, with decimals where the source is finer
    <time iso>          the same as 2024-03-06T12:00:00.123456Z
    <side buy sell>     one of two texts: for a buy, for a sell (or for yes and no)
    <row>               a name for a row that has none: its time, and where it stands in the source
    <inst>              the instrument

A column between double quotes may be any text, others must be digits, but for those of KINDS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np

from pipeline.importers import convert
from pipeline.importers.convert import PAD, Bytes, Places

KINDS = {
    "price": convert.DECIMAL,
    "size": convert.DECIMAL,
    "bid": convert.DECIMAL,
    "bid_size": convert.DECIMAL,
    "ask": convert.DECIMAL,
    "ask_size": convert.DECIMAL,
    "amount": convert.AMOUNT,
    "time": convert.TIME,
    "arrival": convert.TIME,
    "side": convert.SIDE,
    "is_snapshot": convert.FLAG,
    "inst": convert.SAME,
}
"""What columns hold, by role; others are digits or a text, as the record has them."""

_PLACE = re.compile(r"<(\w+)((?: \w+)*)>")
_FORMS = {"ms": convert.MS, "iso": convert.ISO}
_ROOM = {convert.MS: 8, convert.ISO: 27, convert.ROW: 40}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a line: a fixed text, and what stands behind it.

    Attributes:
        text: the fixed text.
        kind: what stands behind it, as `convert` names it.
        column: that it is made of.
        texts: the two of a choice.
    """

    text: bytes
    kind: int = convert.NOTHING
    column: int = 0
    texts: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The rows of one source.

    Attributes:
        roles: by column, what it is; "" for one that does not matter.
        record: the line, see above.
        inst_id: rows that say that they are of another instrument are left out.
        words: meaning of the words of columns that hold some, in small letters.
        kept: roles whose values the readers give back; the first one orders the rows.
        unit: of times in digits.
    """

    roles: tuple[str, ...]
    record: str
    inst_id: str
    words: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[str, ...] = ("time",)
    unit: int = convert.AUTO

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """By column, what it holds."""
        wanted = {place[1] for place in _PLACE.finditer(self.record)} | {*self.kept, "inst"}
        return tuple(
            KINDS.get(role, convert.TEXT if f'"<{role}>' in self.record else convert.INTEGER)
            if role in wanted
            else convert.SKIP
            for role in self.roles
        )

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts of a line."""
        found: list[Part] = []
        fixed, at = b"", 0
        for place in _PLACE.finditer(self.record):
            fixed += self.record[at : place.start()].encode()
            at = place.end()
            if place[1] == "inst":
                fixed += msgspec.json.encode(self.inst_id)[1:-1]
            else:
                found.append(self._part(fixed, place[1], place[2].split()))
                fixed = b""
        return (*found, Part(fixed + self.record[at:].encode() + b"\n"))

    def _part(self, text: bytes, role: str, forms: list[str]) -> Part:
        if role == "row":
            return Part(text, convert.ROW, self.roles.index("time"))
        column = self.roles.index(role)
        if not forms:
            return Part(text, convert.COPY, column)
        if forms[0] in _FORMS:
            return Part(text, _FORMS[forms[0]], column)
        return Part(text, convert.CHOICE, column, tuple(each.encode() for each in forms))

    @cached_property
    def kept_columns(self) -> tuple[int, ...]:
        """The columns of `kept`."""
        return tuple(self.roles.index(role) for role in self.kept)

    @cached_property
    def plan(self) -> tuple[Places, Bytes, int]:
        """The same for the compiled loop: a plan, its texts, and how much longer a line may be."""
        texts = bytearray()

        def span(text: bytes) -> tuple[int, int]:
            texts.extend(text)
            return len(texts) - len(text), len(texts)

        words = [
            number
            for word, meaning in self.words.items()
            for number in (*span(word.encode()), meaning)
        ]
        same = span(self.inst_id.encode())
        numbers = [
            len(self.kinds),
            len(self.kept),
            len(self.words),
            len(self.parts),
            same[0],
            same[1] - same[0],
            self.unit,
            *self.kinds,
            *self.kept_columns,
            *words,
        ]
        choices: list[int] = []
        behind = len(numbers) + 5 * len(self.parts)
        for part in self.parts:
            numbers += [*span(part.text), part.kind, part.column, behind + len(choices)]
            choices += [number for text in part.texts for number in span(text)]
        longest = sum(len(each.text) + _room(each) for each in self.parts)
        text = np.frombuffer(bytes(texts) + bytes(PAD), np.uint8)
        return np.array([*numbers, *choices], np.int32), text, longest


def _room(part: Part) -> int:
    """How much longer than its column what stands behind a text may be."""
    return max((len(text) for text in part.texts), default=_ROOM.get(part.kind, 0))


def first_that_fits(records: Sequence[str], roles: Sequence[str]) -> str | None:
    """The first of some records all of whose places can be filled, None if there is none."""
    known = {*roles, "inst", "row"}
    for record in records:
        if {place[1] for place in _PLACE.finditer(record)} <= known:
            return record
    return None


def missing_roles(record: str, roles: Sequence[str]) -> list[str]:
    """The places of a record that no column fills."""
    wanted = dict.fromkeys(place[1] for place in _PLACE.finditer(record))
    return [role for role in wanted if role not in {*roles, "inst", "row"}]
