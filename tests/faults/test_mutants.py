"""Promise of the tests to themselves: a protocol with a mistake in it does not pass them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.errors import FlowvaultError

from . import rebuilds, sims
from .conftest import SMALL
from .model import fail_at, kill_at
from .mutants import MUTANTS, Mutant
from .sims import Arena
from .test_state_file import damages
from .workload import INSTRUMENT, TRADES, make_raw, run_chain

Judge = Callable[[Arena], list[str]]


def _power(arena: Arena) -> list[str]:
    coarse = sims.simulate_power_cuts(arena, images=1, stride=7)[0]
    return coarse or sims.simulate_power_cuts(arena, images=1)[0]


def _kill(arena: Arena) -> list[str]:
    return sims.simulate_kills(arena, stride=5) or sims.simulate_kills(arena)


def _fail(arena: Arena) -> list[str]:
    return sims.simulate_failing_operations(arena, errno.ENOSPC)


def _fail_then_power(arena: Arena) -> list[str]:
    return sims.simulate_fault_then_power_cut(arena, fail_at, run=1)[0]


def _rebuild_kill(arena: Arena) -> list[str]:
    """As the rebuild tests do; the vault is prepared by the sound protocol beforehand."""
    assert arena.before is not None
    return rebuilds.simulate_faults(arena.before, kill_at)[0]


def _flip(arena: Arena) -> list[str]:
    """Damaged states, as the tests of the state file have them."""
    vault = arena.vault()
    for step in arena.steps():
        step(vault)
    path = VaultPaths(vault).state("trades", INSTRUMENT)
    for what, data in damages(path.read_bytes(), 1):
        if states.decode(data) is not None:
            path.write_bytes(data)
            try:
                run_chain(vault)
            except FlowvaultError as error:
                return [f"{what}: refused: {error}"]
            found = arena.truth.fault(vault)
            return [f"{what}: {found or 'passes for a state'}"]
    return []


JUDGES: dict[str, Judge] = {
    "power": _power,
    "kill": _kill,
    "fail": _fail,
    "fail then power": _fail_then_power,
    "rebuild kill": _rebuild_kill,
    "flip": _flip,
}


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.name, marks=() if mutant.is_fast else pytest.mark.slow)
        for mutant in MUTANTS
    ],
)
def test_mutant_is_caught(
    arena: Arena, scratch: Path, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    """Each simulator named by the mutant looks until one has seen something wrong."""
    if "rebuild kill" in mutant.judges:
        root = scratch / "rebuild"
        root.mkdir()
        arena.before = rebuilds.prepare(root, make_raw(*SMALL), TRADES)
    mutant.apply(monkeypatch)
    found: list[str] = []
    for judge in mutant.judges:
        try:
            found = JUDGES[judge](arena)
        except FlowvaultError as error:  # it fails even undisturbed
            found = [f"{type(error).__name__}: {error}"]
        print(f"{mutant.name}: {judge}: {found}")  # noqa: T201  (shown when the test fails)
        if found:
            break
    assert found, f"nobody noticed: {mutant.apply.__doc__}"


def test_nightly_has_enough_mutants() -> None:
    """At least ten mistakes are tried nightly, three of them always."""
    assert len(MUTANTS) >= 10
    assert sum(mutant.is_fast for mutant in MUTANTS) >= 3
