"""Tables: a row becomes a line."""

from __future__ import annotations

import numpy as np

from pipeline.importers.batch import Bad, Batch, Ints
from pipeline.importers.careful import OtherInstrumentError, Row, read_row
from pipeline.importers.convert import SAME, Converted, convert
from pipeline.importers.framing import Lines
from pipeline.importers.layout import Layout
from pipeline.raw.shape import BadRecordError

_SAMPLE_BYTES = 1 << 14


def read_table(lines: Lines, layout: Layout) -> tuple[Batch, Ints]:
    """The lines of a block, and the values that the layout keeps."""
    if lines.is_too_long:
        bad = Bad.of(0, lines.offset, "too long", lines.data)
        empty = np.empty(0, np.int64)
        return Batch(b"", empty, empty, 1, [bad]), np.empty((len(layout.kept), 0), np.int64)
    found = convert(lines.text, lines.size, lines.offset, *layout.plan)
    batch = Batch(found.out, found.end.astype(np.int64), found.kept[0], found.lines)
    batch.others = found.others
    if found.others:
        batch.names = _names(lines.text[: min(lines.size, _SAMPLE_BYTES)].tobytes(), layout)
    if not len(found.odd):
        return batch, found.kept
    rows: list[Row] = []
    places: list[int] = []
    data = lines.data
    for start, place, line in found.odd.tolist():
        text = data[start : data.index(b"\n", start)]
        try:
            row = read_row(text, lines.offset + start, layout)
        except BadRecordError as error:
            before = place + len(rows)
            batch.bad.append(Bad.of(line, lines.offset + start, str(error), text, before))
        except OtherInstrumentError as other:
            batch.others += 1
            batch.names.add(str(other))
        else:
            if row is not None:
                rows.append(row)
                places.append(place)
    return _with(batch, found, rows, places) if rows else (batch, found.kept)


def _names(data: bytes, layout: Layout) -> set[str]:
    """Other instruments of the first lines."""
    column = layout.kinds.index(SAME)
    fields = (line.split(b",") for line in data.split(b"\n")[:-1])
    found = {
        each[column].strip(b' "').decode("utf-8", "replace") for each in fields if each[column:]
    }
    return found - {layout.inst_id}


def _with(batch: Batch, found: Converted, rows: list[Row], places: list[int]) -> tuple[Batch, Ints]:
    """Put rows of the careful path where they belong."""
    pieces, before = [], 0
    ends = [0, *found.end.tolist()]
    for row, place in zip(rows, places, strict=True):
        pieces += [found.out[before : ends[place]].tobytes(), row.line]
        before = ends[place]
    pieces.append(found.out[before : ends[-1]].tobytes())
    lengths = np.diff(np.array(ends, np.int64))
    lengths = np.insert(lengths, places, [len(row.line) for row in rows])
    kept = np.insert(found.kept, places, np.array([row.kept for row in rows]).T, axis=1)
    batch.out, batch.end, batch.clock = b"".join(pieces), np.cumsum(lengths), kept[0]
    return batch, kept


class TableReader:
    """Reads a table whose rows are records."""

    is_pure = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def read(self, lines: Lines) -> Batch:
        """The records of a block."""
        return read_table(lines, self._layout)[0]

    def rest(self) -> Batch | None:
        """Nothing is held back."""
        return None
