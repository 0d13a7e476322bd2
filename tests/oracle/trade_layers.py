"""Every layer made from trades alone, by the file it is written to.

`flow` has cvd, vwap, vpin and impact, `profile` footprint and the profiles,
`levels` wicks and extremes. Each is a function of one instrument's judged
trades and, where price rows matter, of its tick.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from .flow import cvd_rows, impact_rows, vpin_rows, vwap_rows
from .fold import Judge
from .layers import Row
from .levels import extremes_rows, wicks_rows
from .profile import footprint_rows, profile_24h_rows, profile_session_rows

Oracle = Callable[[Judge, Decimal | None], list[Row]]
"""Judged trades and the published tick (None where there is none) to rows."""


def tickless(rows: Callable[[Judge], list[Row]]) -> Oracle:
    """An oracle that has no use for the tick."""
    return lambda judge, _tick: rows(judge)


FILES: dict[str, tuple[str, Oracle]] = {
    "cvd_1m.jsonl": ("cvd", tickless(cvd_rows)),
    "vwap_1m.jsonl": ("vwap", tickless(vwap_rows)),
    "footprint": ("footprint", footprint_rows),
    "profile_session.jsonl": ("profile", profile_session_rows),
    "profile_24h.jsonl": ("profile", profile_24h_rows),
    "wicks_5m.jsonl": ("wicks", tickless(wicks_rows)),
    "extremes_30m.jsonl": ("extremes", extremes_rows),
    "vpin.jsonl": ("vpin", tickless(vpin_rows)),
    "impact_1m.jsonl": ("impact", tickless(impact_rows)),
}
"""{file (`footprint` for its Parquet parts): (layer, oracle)}."""

STAGES = ("cvd", "vwap", "footprint", "profile", "wicks", "extremes", "vpin", "impact")
