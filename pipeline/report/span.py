"""Which time a page is about."""

from __future__ import annotations

from pipeline.engine.rows import stamp
from pipeline.engine.within import Committed
from pipeline.errors import MissingInputError, UsageError
from pipeline.report.gather import Span
from pipeline.stage import DAY_US, MINUTE_US

_SECOND_US = 1_000_000
_MINUTES = ("bars_1m", "flow_1m", "buckets_1m", "orderflow_1m")
"""Layers of which one has rows wherever there is something to see."""


def choose_span(committed: Committed, low_us: int | None, high_us: int | None) -> Span:
    """The span asked for; where nothing is asked, the last UTC day that has rows.

    Args:
        committed: the instrument.
        low_us: from this time on, microseconds; None: from the first row on if there is an end,
            else from the beginning of the last day.
        high_us: to before this time; None: to the end of the last day.

    Raises:
        UsageError: it ends before it begins.
        MissingInputError: there are no rows in it.
    """
    instrument = committed.instrument
    firsts = [at for name in _MINUTES if (at := committed.first_us(name)) is not None]
    lasts = [at for name in _MINUTES if (at := committed.last_us(name)) is not None]
    if not firsts or not lasts:
        message = f"{instrument.key} has no closed bars and no minutes of a book to draw yet"
        raise MissingInputError(message, f"flowvault run {instrument.options}")
    first, last = min(firsts), max(lasts)
    if low_us is None:
        low_us = last // DAY_US * DAY_US if high_us is None else first
    if high_us is None:
        high_us = max(low_us, last) // DAY_US * DAY_US + DAY_US
    span = Span(low_us // _SECOND_US * _SECOND_US, -(-high_us // _SECOND_US) * _SECOND_US)
    if span.low_us >= span.high_us:
        message = f"from {stamp(span.low_us)} to {stamp(span.high_us)} is no span"
        raise UsageError(message, "flowvault report --help")
    if span.high_us <= first or span.low_us > last:
        message = (
            f"{instrument.key} has no rows from {stamp(span.low_us)} to {stamp(span.high_us)}; "
            f"there are rows from {stamp(first)} to {stamp(last + MINUTE_US)}"
        )
        day = stamp(last)[: len("2025-12-14")]
        raise MissingInputError(message, f"flowvault report {instrument.options} --day {day}")
    return span
