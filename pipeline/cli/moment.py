"""Times on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment_us(text: str) -> int:
    """A time such as `2025-12-14T21:34:00Z` in microseconds since 1970; without a zone it is UTC.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"{text!r} is not a time such as 2025-12-14T21:34:00Z"
        raise click.BadParameter(message) from error
    stamp = stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    return (stamp - _EPOCH) // timedelta(microseconds=1)


def stamp_of(us: int) -> str:
    """A time as rows write it."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%SZ")
