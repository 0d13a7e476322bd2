"""Everything that can go wrong and what a user sees of it.

    FlowvaultError            a message, the next command to type, an exit status
    ├── UsageError        2   the command line or a settings file is wrong
    ├── DataError        65   raw data or a derived file is not what it was, or cannot be read
    │   └── StateError   65   the state does not fit the code, the parameters or the files
    ├── MissingInput     66   nothing under raw/ for what was asked
    ├── DiskError        74   the disk is full or failed; nothing was committed
    └── Locked           75   another process is running this stage and instrument

Statuses follow sysexits(3). A message says what happened and where; `hint` is a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FlowvaultError(Exception):
    """Root of all errors that reach a user as a message instead of a traceback."""

    status = 70

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  next: {self.hint}"


class UsageError(FlowvaultError):
    """The command line, `flowvault.toml` or `instruments.toml` is wrong."""

    status = 2


class DataError(FlowvaultError):
    """Raw data or a derived file changed behind the cursor, or cannot be interpreted."""

    status = 65


class StateError(DataError):
    """The state does not fit the code, the parameters or the layers it was built from."""


class MissingInputError(FlowvaultError):
    """There is no raw data for the instrument that was named."""

    status = 66


class DiskError(FlowvaultError):
    """Reading or writing failed; the last commit stands."""

    status = 74


class LockedError(FlowvaultError):
    """Another process holds the lock of this stage and instrument."""

    status = 75


@contextmanager
def disk_errors(
    hint: str = "see to the disk and its permissions, then try again",
) -> Iterator[None]:
    """Turn errors of the operating system into a `DiskError` that names the file.

    Raises:
        DiskError: the block met one.
    """
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DiskError(f"{where}{error.strerror or error}", hint) from error


@contextmanager
def guarded(what: str, stands: str = "the last commit stands") -> Iterator[None]:
    """Turn errors of the disk into a message that says whom they have met, and what stands.

    Raises:
        DiskError: the block met one.
    """
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"{what}: {error.strerror or error}{where}; {stands}"
        raise DiskError(message, "mend the disk, then run the same command again") from error
