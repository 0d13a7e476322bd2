"""Values of scanned lines as columns, by the declarations of `feed`.

A value that the fast path is not sure of is no verdict: `book_lines` has the last word on its
line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.raw import scan, values
from pipeline.raw.block import Block
from pipeline.raw.book_lines import NONE
from pipeline.raw.digits import words_of
from pipeline.raw.feed import NO_LEVELS, FeedAdapter, FeedShape, Id, ShapeT, TimeKind
from pipeline.raw.scan import Bytes, Flags, Ints, Lines, Paths, Small

Columns = dict[str, npt.NDArray[Any]]
Strings = frozenset[str]

_SHORTEST_LEVEL, _SHORTEST_LINE = 6, 16
_LONGEST_TEXT = 8
_KEEP = np.array([(1 << (8 * count)) - 1 for count in range(_LONGEST_TEXT + 1)], np.uint64)
"""Masks that keep the first characters of a word."""
_PLACES = {"": 1, "data.": 2, "data[].": 4}
_DATA, _ELEMENT = "/data", "/data[]"
_Steps = Mapping[tuple[str, ...], tuple[int, int, int]]


@dataclass(frozen=True)
class Slots:
    """Where the values of a feed may stand.

    Attributes:
        index: slot of each declared key.
        paths: the same as a tree of full paths.
        is_enveloped: see `FeedAdapter`.
    """

    index: Mapping[str, int]
    paths: Paths
    is_enveloped: bool

    @classmethod
    def of(cls, adapter: FeedAdapter[ShapeT]) -> Slots:
        """Lay out slots for every key that a shape of the adapter looks at."""
        keys = {key: NO_LEVELS for shape in adapter.shapes for key in shape.keys()}  # noqa: SIM118
        for key in tuple(keys):  # what holds a value may stand only once as well
            steps_to = key.split(".")
            keys |= {".".join(steps_to[:end]): NO_LEVELS for end in range(1, len(steps_to))}
        for shape in adapter.shapes:
            keys.update(shape.sides)
        if adapter.is_enveloped:
            keys |= {_DATA: NO_LEVELS, _ELEMENT: NO_LEVELS}
        places = _PLACES if adapter.is_enveloped else {"": 1}
        steps: dict[tuple[str, ...], tuple[int, int, int]] = {}
        for slot, (key, levels) in enumerate(keys.items()):
            for place, bit in {"": 0}.items() if key[0] == "/" else places.items():
                path = (place + key.removeprefix("/")).replace("[]", ".[]").split(".")
                if tuple(path) in steps:
                    raise ValueError(f"{key} is declared twice")
                steps[tuple(path)] = (slot, bit, levels)
        return cls({key: slot for slot, key in enumerate(keys)}, _tree(steps), adapter.is_enveloped)

    def scan(self, block: Block) -> Fields:
        """Read the lines of a block; what is unusual in any way is not among the rows."""
        data, ends = block.data, block.ends
        text = np.empty(len(data) + scan.PAD, np.uint8)
        text[: len(data)] = np.frombuffer(data, np.uint8)
        text[len(data) :] = ord("\n")
        if not data.endswith(b"\n"):
            ends = np.append(ends[:-1], len(data) + 1)
        if len(ends) * _SHORTEST_LINE > len(data):
            ends = ends[:0]  # hardly records, and tables of so many lines would be large
        shape = (len(self.index), len(ends))
        most = len(data) // _SHORTEST_LEVEL + 2
        lines = Lines(
            fits=np.zeros(len(ends), np.bool_),
            places=np.zeros(len(ends), np.int8),
            level_end=np.empty(len(ends), np.int64),
            kind=np.zeros(shape, np.int8),
            start=np.empty(shape, np.int32),
            end=np.empty(shape, np.int32),
            side=np.empty(most, np.int8),
            number=np.empty((2, most), np.int64),
            dp=np.empty((2, most), np.int8),
        )
        levels = scan.scan_lines(text, ends, self.paths, lines)
        fields = Fields(self.index, text, lines, np.flatnonzero(lines.fits), levels)
        return fields.where(self._are_placed(fields))

    def _are_placed(self, fields: Fields) -> Flags:
        """Where all values of the record stand where the line's `data` says that it stands."""
        places = fields.lines.places[fields.rows]
        if not self.is_enveloped:
            return np.asarray(places == 1)
        data = fields.kind(_DATA)
        wanted = np.select([data <= scan.NULL, data == scan.OBJECT, data == scan.LIST], [1, 2, 4])
        return np.asarray((places == wanted) & (fields.kind(_ELEMENT) != scan.NULL))


@dataclass(frozen=True)
class Fields:
    """Values of lines that hold one record each.

    Attributes:
        index: slot of each declared key.
        text: the block with line ends behind it.
        lines: what was found, by line of the block.
        rows: the lines that are looked at.
        levels: how many levels all lines have.
    """

    index: Mapping[str, int]
    text: Bytes
    lines: Lines
    rows: Ints
    levels: int

    def where(self, mask: Flags) -> Fields:
        """Only some of the rows."""
        return Fields(self.index, self.text, self.lines, self.rows[mask], self.levels)

    def kind(self, key: str) -> Small:
        """What stands at a key."""
        return np.asarray(self.lines.kind[self.index[key], self.rows])

    def has(self, key: str) -> Flags:
        """Where a key is there, a null included."""
        return np.asarray(self.kind(key) != scan.ABSENT)

    def is_set(self, key: str) -> Flags:
        """Where a key is there and not null."""
        return np.asarray(self.kind(key) > scan.NULL)

    def equals(self, key: str, allowed: Strings) -> Flags:
        """Where a key holds one of some texts."""
        found = np.asarray(self.kind(key) == scan.TEXT)
        spans = self._spans(key, found)
        found[found] = np.logical_or.reduce([values.same(*spans, t.encode()) for t in allowed])
        return found

    def times(self, key: str, kind: TimeKind) -> Ints:
        """Event times in microseconds."""
        return self._filled(key, lambda text, start, end: values.times(text, start, end, kind))

    def integers(self, key: str) -> Ints:
        """Values of up to 18 digits, and -1."""
        return self._filled(key, values.integers)

    def decimals(self, key: str) -> tuple[Ints, Small]:
        """Digits and decimals, without zeros at the end."""
        written = self._written(key)
        digits, places = np.full(len(written), values.UNSURE), np.zeros(len(written), np.int8)
        digits[written], places[written] = values.decimals(*self._spans(key, written))
        return digits, places

    def texts(self, key: str) -> tuple[Flags, Ints, list[str]]:
        """Texts of up to eight characters, empty where there is none.

        Returns:
            Where the value is such a text; which of the texts it is; the texts that occur.
        """
        is_text = np.asarray(self.kind(key) == scan.TEXT)
        text, start, end = self._spans(key, is_text)
        length = (end - start).astype(np.int64)
        fits = ~self.is_set(key)
        fits[is_text] = length <= _LONGEST_TEXT
        letters = words_of(text)[start] & _KEEP[np.minimum(length, _LONGEST_TEXT)]
        words = np.zeros(len(fits), np.uint64)
        words[is_text] = letters
        found, which = np.unique(words, return_inverse=True)
        raw = found.astype("<u8").tobytes()
        pieces = (raw[at : at + _LONGEST_TEXT] for at in range(0, len(raw), _LONGEST_TEXT))
        return fits, which, [piece.rstrip(b"\0").decode("ascii") for piece in pieces]

    def _written(self, key: str) -> Flags:
        kind = self.kind(key)
        return np.asarray((kind == scan.TEXT) | (kind == scan.NUMBER))

    def _spans(self, key: str, mask: Flags) -> tuple[Bytes, scan.Places, scan.Places]:
        slot, rows = self.index[key], self.rows[mask]
        return self.text, self.lines.start[slot, rows], self.lines.end[slot, rows]

    def _filled(self, key: str, read: Any) -> Ints:
        written = self._written(key)
        found = np.full(len(written), values.UNSURE)
        found[written] = read(*self._spans(key, written))
        return found


def by_shape(fields: Fields, adapter: FeedAdapter[ShapeT]) -> Iterator[tuple[ShapeT, Fields]]:
    """The rows that each shape recognises, each row once."""
    for shape in adapter.shapes:
        mask = np.ones(len(fields.rows), np.bool_)
        for key, allowed in shape.one_of.items():
            mask &= fields.equals(key, allowed)
        for key in shape.has:
            mask &= fields.has(key)
        for key in shape.lacks:
            mask &= ~fields.has(key)
        if mask.any():
            yield shape, fields.where(mask)
            fields = fields.where(~mask)


def read_times(fields: Fields, shape: FeedShape, inst_id: str) -> tuple[Flags, Ints]:
    """Where a record is of the right instrument and its time is sure, and the times."""
    fits = np.ones(len(fields.rows), np.bool_)
    if shape.inst_id is not None:
        fits &= fields.equals(shape.inst_id, frozenset((inst_id,)))
    if shape.named is not None:
        fits &= ~fields.has(shape.named) | fields.equals(shape.named, frozenset((inst_id,)))
    ts_us = np.full(len(fields.rows), values.UNSURE if shape.is_timed else NONE)
    for key, kind in reversed(shape.times):
        ts_us = np.where(fields.has(key), fields.times(key, kind), ts_us)
    fits &= (ts_us > 0) | (ts_us == NONE)
    return fits, ts_us


def read_ids(fields: Fields, declared: Id | None) -> tuple[Flags, Ints]:
    """Where a sequence number is sure or rightly missing, and the numbers."""
    if declared is None:
        return np.ones(len(fields.rows), np.bool_), np.full(len(fields.rows), NONE)
    ids = fields.integers(declared.key)
    fits = ids >= (NONE if declared.may_be_none else 0)
    if not declared.is_needed:
        is_missing = ~fields.has(declared.key)
        ids[is_missing] = NONE
        fits |= is_missing
    return fits, ids


def in_file_order(parts: list[Columns]) -> Columns:
    """Put parts together, sorted by `line`; records of one line stay in their order."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    line = joined["line"]
    if (line[1:] >= line[:-1]).all():
        return joined
    order = np.argsort(line, kind="stable")
    return {name: column[order] for name, column in joined.items()}


def lines_left(block: Block, taken: npt.NDArray[np.int64]) -> list[int]:
    """The lines that are not among the taken ones, those without a byte aside."""
    left = np.diff(block.ends, prepend=0) > 1
    if len(block.ends) and not block.data.endswith(b"\n"):
        left[-1] = True
    left[taken] = False
    return np.flatnonzero(left).tolist()


def _tree(steps: _Steps) -> Paths:
    nodes: list[tuple[str, ...]] = [()]
    spans: list[tuple[int, int]] = []
    for parent in nodes:  # grows while it is walked: breadth first, so that children are together
        below = {path[: len(parent) + 1] for path in steps if path[: len(parent)] == parent}
        first = len(nodes)
        nodes.extend(sorted(below - {parent}))
        spans.append((first, len(nodes)))
    names = [node[-1].encode() if node and node[-1] != "[]" else b"" for node in nodes]
    if max(map(len, names)) > scan.LONGEST_KEY:
        raise ValueError(f"a key of more than {scan.LONGEST_KEY} characters")
    facts = [steps.get(node, (-1, 0, NO_LEVELS)) for node in nodes]
    number_of = {node: number for number, node in enumerate(nodes)}
    return Paths(
        low=np.array([int.from_bytes(name[:8], "little") for name in names], np.uint64),
        high=np.array([int.from_bytes(name[8:], "little") for name in names], np.uint64),
        length=np.array([len(name) if name else -1 for name in names], np.int64),
        first=np.array([first for first, _ in spans], np.int64),
        after=np.array([after for _, after in spans], np.int64),
        element=np.array([number_of.get((*node, "[]"), -1) for node in nodes], np.int64),
        slot=np.array([slot for slot, _, _ in facts], np.int64),
        place=np.array([bit for _, bit, _ in facts], np.int64),
        levels=np.array([levels for _, _, levels in facts], np.int64),
    )
