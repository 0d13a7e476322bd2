"""All checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.engine.health import feeds, machine, states
from pipeline.engine.health.finding import Finding, Severity
from pipeline.engine.health.survey import Survey

CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    states.settings,
    machine.permissions,
    machine.space,
    states.loading,
    states.swaps,
    states.parameters,
    states.rows,
    states.locks,
    feeds.unread,
    feeds.stalled,
    feeds.silent,
    feeds.clock,
    feeds.contracts,
    feeds.rotation,
    feeds.quarantine,
    states.rests,
)


def examine(survey: Survey) -> list[Finding]:
    """What the checks find, the worst first."""
    order = list(Severity)
    found = [finding for check in CHECKS for finding in check(survey)]
    return sorted(found, key=lambda finding: order.index(finding.severity))
