"""A thing that somebody should know."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """How bad it is: rows are missing or soon will be; it needs a look; it is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        check: the check that found it.
        where: an instrument, or a path below the vault.
        next: the command to type.
    """

    severity: Severity
    check: str
    where: str
    what: str
    next: str


_IS_WINDOWS = sys.platform == "win32"
SHOW_CLOCK = "w32tm /query /status" if _IS_WINDOWS else "date -u"
SHOW_USER = "whoami" if _IS_WINDOWS else "id -un"


def show_folder(path: Path) -> str:
    """The command that lists a folder."""
    return f'{"dir" if _IS_WINDOWS else "ls -l"} "{path}"'


def show_end(path: Path) -> str:
    """The command that prints the end of a file."""
    return f'{"type" if _IS_WINDOWS else "tail -n 3"} "{path}"'


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(0, seconds):,.0f} s"


def amount(size: float) -> str:
    """Bytes as people say them."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:,.1f} {unit}"
    return f"{size:,.0f} B"
