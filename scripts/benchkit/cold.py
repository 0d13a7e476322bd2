"""Cold processes: started, timed and weighed one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KIT = Path(__file__).resolve().parent
FLOWVAULT = (sys.executable, "-m", "pipeline")


class BenchError(Exception):
    """Something that is measured did not do what it should; no number would mean anything."""


@dataclass(frozen=True, slots=True)
class Cold:
    """What one cold process took, and what it printed."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    output: str


class Starter:
    """Starts commands from the repository's root, so that what is measured is this tree."""

    def __init__(self, folder: Path) -> None:
        self._report = folder / "launch.txt"
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(self, command: Sequence[str]) -> Cold:
        """Run a command to its end.

        Raises:
            BenchError: it failed.
        """
        launch = (sys.executable, "-I", "-S", str(KIT / "launch.py"), str(self._report))
        done = subprocess.run(  # noqa: S603
            [*launch, *command],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{command} could not be started:\n{done.stderr}")
        seconds, cpu, peak_kib, status = self._report.read_text(encoding="ascii").split()
        if int(status):
            raise BenchError(f"{command} left with status {status}:\n{done.stderr}{done.stdout}")
        return Cold(float(seconds), float(cpu), int(peak_kib) * 1024 / 1e6, done.stdout)

    def script(self, name: str, *arguments: str) -> Cold:
        """Run one of the scripts beside this file."""
        return self.run([sys.executable, str(KIT / name), *arguments])
