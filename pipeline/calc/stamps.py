"""Times inside a row, as text."""

from __future__ import annotations

from datetime import datetime, timedelta

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the text gets its Z below


def ms_text(us: int) -> str:
    """Microseconds since 1970 UTC as `2025-12-14T21:34:00.123Z`; finer digits are cut off."""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds") + "Z"
