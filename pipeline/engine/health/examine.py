"""All checks, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.engine.health import feeds, machine, states
from pipeline.engine.health.finding import SHOW_USER, Finding, Severity
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
    states.left_behind,
)


def examine(survey: Survey) -> list[Finding]:
    """What the checks find, the worst first."""
    order = list(Severity)
    found = [finding for check in CHECKS for finding in _looked(check, survey)]
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _looked(check: Callable[[Survey], Iterator[Finding]], survey: Survey) -> list[Finding]:
    """What one check finds; that it cannot look is a finding as well."""
    found: list[Finding] = []
    try:
        found.extend(check(survey))
    except OSError as error:
        where = str(error.filename or ".")
        what = f"{check.__name__.replace('_', ' ')} cannot be checked: {error.strerror or error}"
        found.append(Finding(Severity.ERROR, "permissions", where, what, SHOW_USER))
    return found
