"""How far back a row looks: which rows of other layers it was made from.

A stage folds forward, and what it carries no longer says where it came from. A reach says it,
backwards: for one row, from when on (or from which row on) its input went into it. A fold that is
given exactly these rows and an empty carry gives the same row again; tests/laws hold every layer
to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

RAW = "raw"
"""In place of a layer: the lines that a stage decodes."""

_SECOND_US = 1_000_000
_UNITS = (
    *((86_400 * _SECOND_US, "d"), (3600 * _SECOND_US, "h"), (60 * _SECOND_US, "min")),
    *((_SECOND_US, "s"), (1000, "ms"), (1, "us")),
)


@dataclass(frozen=True, slots=True)
class Told:
    """Rows that say themselves how far back they look.

    Attributes:
        columns: what they say it in.
        since_us: the earliest time that some rows of these columns speak of, microseconds.
    """

    columns: tuple[str, ...]
    since_us: Callable[[pl.DataFrame], int]


@dataclass(frozen=True, slots=True)
class Reach:
    """Which rows of a layer the rows of another are made from: those of its time, and more.

    Attributes:
        layer: the layer that is looked at, of the same stage or another; or `RAW`.
        of: the stage's layers that look at it; none: all.
        since: where the time begins: with the row, at 00:00 UTC of its day, or with the first row.
        rows: it begins with the row so many before in the row's own layer;
        counted: only rows with a value in all of these columns are counted.
        told: rows that say themselves how far back they look.
        behind_us: so much earlier.
        ahead_us: so much later than the row's end.
        which: all rows of that time, the last one known by its end, or the row in the same place.
        before: so many rows in front of these as well.
        first: the first rows of the layer, and nothing else.
        is_replay: raw lines are needed from the last snapshot before that time on.
        asks: the part of those rows that matters, by a name of the stage's own; empty: all.
        parts: the parts of a row that are made from this.
        note: what else there is to say.
    """

    layer: str
    of: tuple[str, ...] = ()
    since: Literal["row", "day", "ever"] = "row"
    rows: int = 0
    counted: tuple[str, ...] = ()
    told: Told | None = None
    behind_us: int = 0
    ahead_us: int = 0
    which: Literal["all", "last", "same"] = "all"
    before: int = 0
    first: int = 0
    is_replay: bool = False
    asks: str = ""
    parts: tuple[str, ...] = ("",)
    note: str = ""

    @property
    def words(self) -> str:
        """The same for people."""
        if self.first:
            return f"the first {self.first} rows"
        if self.which == "same":
            return "the row in the same place"
        begins = {"ever": "all rows from the first on", "day": "from 00:00 UTC on"}
        found = [begins.get(self.since, "")]
        if self.rows:
            found.append(f"from {_count(self.rows, 'row')} before on")
        if self.told:
            found.append("as far back as the row tells")
        if self.is_replay:
            found.append("from the last snapshot before on")
        if self.which == "last":
            found.append("the last row by its end")
        elif self.behind_us > 0:
            found.append(f"from {_length(self.behind_us)} before on")
        if self.ahead_us >= _SECOND_US:
            found.append(f"until {_length(self.ahead_us)} behind")
        if self.before:
            found.append(f"with {_count(self.before, 'row')} in front")
        return ", ".join(each for each in found if each) or "its own time"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _length(us: int) -> str:
    """A length of time, as 6 d 23 h 55 min."""
    found = []
    for unit, name in _UNITS:
        if us >= unit:
            found.append(f"{us // unit} {name}")
            us %= unit
    return " ".join(found) or "0 s"
