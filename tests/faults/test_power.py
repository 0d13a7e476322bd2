"""Promise: after a power cut at any moment the next run ends with the right files.

The disk's behaviour is the one described in `model`: what was not synced may be lost, torn or
garbage, names that were not synced may be missing.
"""

from __future__ import annotations

import pytest

from .model import STYLES, fail_at, kill_at
from .sims import Arena, simulate_fault_then_power_cut, simulate_power_cuts


@pytest.mark.parametrize(
    ("rules", "images", "stride"),
    [
        (1, 1, 5),  # five and the six styles have no divisor in common: each has its turns
        pytest.param(1, 1, 1, marks=pytest.mark.slow),
        pytest.param(len(STYLES), 100, 1, marks=pytest.mark.slow),
    ],
)
def test_power_cut(arena: Arena, rules: int, images: int, stride: int) -> None:
    """Power is cut after operations of three incremental runs of all stages."""
    faults, tried = simulate_power_cuts(arena, images=images, rules=rules, stride=stride)
    assert faults == []
    assert tried > 100 // stride


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("stride", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_kill_then_power_cut(arena: Arena, run: int, stride: int) -> None:
    """A run is killed, the next one commits, then power is cut.

    What the killed process left unsynced must be made durable by the one that builds on it.
    """
    faults, tried = simulate_fault_then_power_cut(arena, kill_at, run=run, stride=stride)
    assert faults == []
    assert tried > 10


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("stride", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_failed_sync_then_power_cut(arena: Arena, run: int, stride: int) -> None:
    """An operation fails once, the next run commits, then power is cut.

    After a failed fsync the cache shows bytes that the disk does not have: they must be written
    again, not found to be there already.
    """
    faults, tried = simulate_fault_then_power_cut(arena, fail_at, run=run, stride=stride)
    assert faults == []
    assert tried > 10
