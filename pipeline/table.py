"""What a market-wide table is, and a feed of whole files that tables read.

Both are recomputed rather than continued. A feed is a folder of files that somebody downloads
whole (a week of FINRA, a filing): each file is read once for every content it has had. A table is
a pure function of all rows of what it reads: it is computed again when any of that, its parameters
or its version has changed, and its one file is replaced. It carries nothing from run to run.

That is why changed parameters need no rebuild here. A stage only appends: with new parameters its
rows would be of two kinds, so it refuses until it is told to make all of them again. A table is
made as a whole every time and cannot be of two kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from pipeline.layers import Layer

if TYPE_CHECKING:
    import polars as pl

    from pipeline.raw.whole.lines import Lines

P = TypeVar("P", bound=msgspec.Struct)

Facts = Mapping[str, str]
"""What a file's name says: the week and tier of one, the CIK and accession number of another."""

Frames = Mapping[str, "pl.LazyFrame"]
"""All rows of what a table reads, by the name of feed or layer."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Files of one kind below raw/, each of which is there as a whole.

    Attributes:
        name: its own name, and that of its layer.
        folder: below raw/.
        names: pattern of the files below that folder, without `.jsonl` and what compresses it;
            its groups are the facts that the lines of a file must agree with. A slash in it
            stands for one level of folders.
        spelled: the same for people.
        layer: the rows: `source` says which file each came from.
        lines: what a line is, and which rows it gives.
        part: which Parquet file holds the rows of a raw file: files that tend to change together
            belong together.
        dated: the group of `names` that is a day, where there is one.
        known_on: from which day on the public could know a row: a column, and days to add to it.
        version: raise it when the same bytes give other rows; all files are then read again.
    """

    name: str
    folder: str
    names: str
    spelled: str
    layer: Layer
    lines: Callable[[], Lines]
    part: Callable[[Facts], str]
    dated: str | None = None
    known_on: tuple[str, int] | None = None
    version: int = 1


Part = tuple[str, "pl.DataFrame"]
"""A part of a layer that has a file of its own, by its name."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a table's computation gives.

    Attributes:
        rows: by layer its rows, or its parts one after the other, so that a large table need not
            be held as a whole.
        notes: words for the user; complete when the last part has been given.
    """

    rows: Mapping[str, pl.DataFrame | Iterable[Part]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Table(Generic[P]):
    """The declaration of one market-wide table, or of several that are made together.

    Attributes:
        name: its command and its section in flowvault.toml.
        layers: what it makes.
        keys: by layer, the columns that tell its rows apart; the rows of a file are kept in
            their order.
        reads: feeds, layers of other tables and layers of stages.
        compute: from the frames and parameters to the rows of each layer. The third argument is
            the day whose knowledge counts, None for all there is: the frames of feeds hold
            nothing that was not public by then.
        version: raise it when numbers change; the table is then computed again.
    """

    name: str
    layers: tuple[Layer, ...]
    keys: Mapping[str, tuple[str, ...]]
    params: type[P]
    reads: tuple[str, ...]
    compute: Callable[[Frames, P, date | None], Made]
    version: int = 1
