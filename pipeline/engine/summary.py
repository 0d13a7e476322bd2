"""What a run tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.engine.state import Counts
from pipeline.instrument import Instrument


@dataclass(slots=True)
class Summary:
    """What one run of one stage for one instrument did."""

    stage: str
    instrument: Instrument
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    bad_share_exceeded: bool = False


def is_too_bad(counts: Counts) -> bool:
    """More than one line in a hundred was bad (duplicates and late trades do not count)."""
    return counts.bad * 100 > counts.rows_in
