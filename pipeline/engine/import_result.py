"""What became of an archive, in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.engine.placing import Change
from pipeline.engine.refused import Refused
from pipeline.errors import DataError, FlowvaultError
from pipeline.instrument import Instrument

IDLE = ("same", "refused")
"""What becomes of days that do not change."""

_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What may be done besides adding to what is there.

    Attributes:
        anew: import archives again, and replace rows that an earlier import has written.
        backfill: write days although a stage has read later ones.
        skip_existing: days that are refused because something else is there are no error.
    """

    anew: bool = False
    backfill: bool = False
    skip_existing: bool = False


@dataclass(slots=True)
class DayResult:
    """What became of one day: its rows in the archive, and the size of its file."""

    day: str
    rows: int
    bytes: int
    action: str


@dataclass(slots=True)
class Result:
    """What became of one archive, for one instrument.

    Attributes:
        is_known: it was imported before; nothing was done.
        others: rows of other instruments, and some of their names.
        problems: errors that did not stop it.
        notes: what else the user should know.
    """

    archive: str
    format: str
    instrument: Instrument
    kind: str
    is_known: bool = False
    rows: int = 0
    bad: int = 0
    others: int = 0
    names: set[str] = field(default_factory=set)
    days: list[DayResult] = field(default_factory=list)
    problems: list[FlowvaultError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def shown(self) -> str:
        """Some names of other instruments."""
        return ", ".join(sorted(self.names)[:_NAMES_SHOWN])

    def conclude(
        self, changes: Sequence[Change], path: Path, folder: Path, options: Options
    ) -> None:
        """Take in what became of the days."""
        for change in changes:
            action: str = change.action
            if action == "refused" and options.skip_existing:
                action = "kept"
            staged = change.staged
            size = change.record.look.size if change.record is not None else staged.look.size
            self.days.append(DayResult(staged.day, staged.rows, size, action))
            if action == "refused":
                self.problems.append(_refusal(change, path, folder))

    def tell_bad(self, path: Path, lines: int, refused: Refused) -> None:
        """Say how many rows were bad; more than one in a hundred is an error."""
        if self.bad * 100 > lines:
            self.problems.append(
                DataError(
                    f"{path}: {self.bad:,} of {lines:,} rows were bad (more than 1 %); "
                    f"{refused.first}; the others are in place, the bad ones in {refused.path}",
                    "look at the reasons there; fetch the archive again if it is damaged",
                )
            )
        elif self.bad:
            self.notes.append(
                f"{self.bad:,} rows of {path.name} were bad; {refused.first}; they are in "
                f"{refused.path}"
            )


def mostly_bad(path: Path, bad: int, lines: int, refused: Refused) -> DataError:
    """The error for an archive that is probably something else."""
    return DataError(
        f"{path}: {bad:,} of the first {lines:,} rows are bad; {refused.first}",
        "say what it is with --format, or which column is what with --map",
    )


def out_of_order(path: Path, behind: int, rows: int) -> DataError:
    """The error for rows that stages would call late."""
    return DataError(
        f"{path}: not in order of time: {behind:,} of {rows:,} rows are more than five minutes "
        "behind the ones before them; nothing of it is in place",
        'unpack it and sort it by its time, as with: duckdb -c "copy (from '
        "read_csv('IN.csv', all_varchar = true) order by TIME) to 'OUT.csv'\"",
    )


def _refusal(change: Change, path: Path, folder: Path) -> DataError:
    if change.why.startswith("stage "):
        hint = f"flowvault import {path} --backfill, then flowvault rebuild"
    elif "other rows" in change.why:
        hint = f"flowvault import {path} --again to replace them, or --skip-existing"
    else:
        hint = "move it away and run the same command again, or leave it with --skip-existing"
    day = folder / change.staged.day
    return DataError(f"{day}: day refused and left as it was: {change.why}", hint)
