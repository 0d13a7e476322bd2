"""`--log FILE`: what a command says goes into a file that does not grow for ever."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pipeline.errors import DiskError, MissingInputError

LARGEST = 8 << 20
"""Bytes from which on a log is put aside, as FILE.1; the one put aside before is dropped."""


_taken: list[TextIO] = []
"""The log that this process writes to, once it does."""


def write_to(vault: Path, file: Path) -> None:
    """From here on, standard output and errors of this process go to the end of a file.

    Raises:
        MissingInputError: there is no vault.
        DiskError: the file cannot be written.
    """
    if not vault.is_dir():
        message = f"there is no vault at {vault}"
        raise MissingInputError(message, f"flowvault --vault {vault} demo")
    path = vault / file
    try:
        with suppress(FileNotFoundError, PermissionError):  # Windows: another run may have it open
            if path.stat().st_size >= LARGEST:
                path.replace(path.with_name(path.name + ".1"))
        stream = path.open("a", encoding="utf-8", newline="\n", buffering=1)
    except OSError as error:
        message = f"{path}: {error.strerror or error}"
        raise DiskError(message, "mend it, or name another file with --log") from error
    for number in (1, 2):
        os.dup2(stream.fileno(), number)
    sys.stdout = sys.stderr = stream
    _taken.append(stream)
    _note("flowvault " + " ".join(sys.argv[1:]))


def write_status(status: object) -> None:
    """Note in the log, if there is one, how a command ended that did not end well."""
    if sys.stdout in _taken:
        _note(f"exit status {status}")


def _note(text: str) -> None:
    sys.stdout.write(f"# {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}\n")
    sys.stdout.flush()
