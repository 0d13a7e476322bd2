"""The lengths of bars that signals are made for."""

from __future__ import annotations

from pipeline.stage import MINUTE_US

TIMEFRAMES = {"5m": 5 * MINUTE_US, "15m": 15 * MINUTE_US, "30m": 30 * MINUTE_US}
"""By the name that layers carry, shortest first, in microseconds."""

LONGEST_US = max(TIMEFRAMES.values())
