"""The one way these tests reach the product: a command on a vault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import inprocess
from tests.laws.world import unsynced

REPO = Path(__file__).resolve().parents[2]

STAGES = ("trades", "bars", "volume")


class Outcome(inprocess.Outcome):
    """What one command left behind, and the summaries in it."""

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """The JSON lines of `run --json`."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    def summary(self, inst_id: str, stage: str = "trades") -> dict[str, Any]:
        """The one summary of a stage and instrument."""
        rows = [r for r in self.summaries if (r["instId"], r["stage"]) == (inst_id, stage)]
        assert len(rows) == 1, f"{len(rows)} summaries of {stage} {inst_id}:\n{self.text}"
        return rows[0]


class Product:
    """Runs commands on vaults in this process, without fsync: it spares a second each time."""

    def __call__(self, vault: Path, *arguments: str) -> Outcome:
        """Run one command; a traceback is never an acceptable answer."""
        with unsynced():
            done = inprocess.command(vault, *arguments, expect=None)
        return Outcome(done.code, done.out, done.err)

    def run_all(self, vault: Path, *, expect: int | None = 0) -> Outcome:
        """Bring the first three stages of every instrument up to date."""
        stages = [word for stage in STAGES for word in ("--stage", stage)]
        outcome = self(vault, "run", "--all", *stages, "--json")
        if expect is not None:
            assert outcome.code == expect, f"exit {outcome.code}\n{outcome.err}"
        return outcome


class Process(Product):
    """Runs `python -m pipeline`, each command in a process of its own."""

    def __call__(self, vault: Path, *arguments: str) -> Outcome:
        """Run one command; a traceback is never an acceptable answer."""
        environment = {k: v for k, v in os.environ.items() if k != "FLOWVAULT_VAULT"}
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "--vault", str(vault), *arguments],
            cwd=REPO,
            env=environment,
            capture_output=True,
            check=False,
            timeout=300,
        )
        outcome = Outcome(
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
        assert "Traceback (most recent call last)" not in outcome.text, outcome.text
        return outcome


@pytest.fixture(scope="session")
def product() -> Product:
    """The command line."""
    return Product()


@pytest.fixture(scope="session")
def process() -> Process:
    """The command line as users start it: where a process of its own is what is asked about."""
    return Process()


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of real captures, where the machine has one."""
    folder = REPO.parent / "shared" / "data" / "vault"
    if not folder.is_dir():
        pytest.skip(f"no real captures at {folder}")
    return folder


MakeVault = Callable[[str], Path]


@pytest.fixture(scope="module")
def new_vault(tmp_path_factory: pytest.TempPathFactory) -> MakeVault:
    """A maker of empty vaults."""

    def make(name: str) -> Path:
        vault = tmp_path_factory.mktemp(name) / "vault"
        vault.mkdir()
        return vault

    return make
