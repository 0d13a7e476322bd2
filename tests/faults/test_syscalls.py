"""Promise: when a system call fails the exit status is 74 and the next run makes it good.

Nothing half done is committed; a kill in the middle of a call is a kill like any other.

strace makes the n-th write, fsync, rename … of the real command fail. It is attached to a worker
that waits at the gate, and counts only calls that concern files of the vault: the names of those
are taken from an undisturbed run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from .forks import PATIENCE_S, Forks
from .sims import Arena
from .workload import RUN, copy_vault, grow

CALLS = (
    *("write", "pwrite64", "fsync", "fdatasync", "truncate", "ftruncate"),
    *("rename", "renameat", "renameat2", "unlink"),
)
FAULTS = ("error=ENOSPC", "error=EIO", "signal=KILL")
_OK, _DISK, _KILLED = 0, 74, -9


class Strace:
    """Runs the command under strace, with one fault in it."""

    def __init__(self, program: str, forks: Forks, scratch: Path) -> None:
        self.program = program
        self.forks = forks
        self.scratch = scratch
        self.gate = scratch / "gate"
        self.log = scratch / "strace.log"
        os.mkfifo(self.gate)

    def run(self, vault: Path, *options: str) -> tuple[int, str]:
        """Exit status of the command and what strace wrote down."""
        argv = ["--vault", str(vault), *RUN]
        worker = self.forks.start("cli", argv=argv, gate=self.gate)
        tracer = subprocess.Popen(
            [self.program, "-f", "-y", "-p", str(worker.pid), "-o", str(self.log), *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        self.gate.write_bytes(b"")
        status = worker.wait()
        tracer.wait(timeout=PATIENCE_S)
        tracer.stderr.close()
        self.words = worker.words
        return status, self.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def strace(forks: Forks, scratch: Path) -> Strace:
    """A tracer, where tracing is allowed."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    own = subprocess.run(
        [program, "-e", "inject=fsync:error=EIO", "-o", "/dev/null", "true"],
        capture_output=True,
        check=False,
    )
    if own.returncode:
        pytest.skip(f"strace cannot trace here: {own.stderr.decode().strip()}")
    return Strace(program, forks, scratch)


@pytest.fixture
def half(arena: Arena) -> Path:
    """A vault whose next run has new rows for every file."""
    vault = arena.vault()
    arena.steps()[0](vault)
    grow(vault, arena.truth.raw, arena.truth.raw.total)
    return vault


@dataclass(frozen=True)
class Used:
    """What an undisturbed run did: how often one thread made each call, on which files."""

    calls: dict[str, int]
    files: frozenset[str]


def _used(strace: Strace, half: Path) -> Used:
    vault = copy_vault(half, half.with_name("counted"))
    status, log = strace.run(vault, "-e", f"trace={','.join(CALLS)}")
    assert status == _OK or "records were bad" in strace.words, strace.words
    made: Counter[tuple[str, str]] = Counter()
    files: set[str] = set()
    for line in log.splitlines():
        found = re.findall(f'[<"]{re.escape(str(vault))}/([^>"]+)[>"]', line)
        if found:
            thread, name = line.partition("(")[0].split()[-2:]
            made[thread, name] += 1
            files.update(found)
    calls: dict[str, int] = {}
    for (_, name), number in made.items():
        calls[name] = max(number, calls.get(name, 0))
    return Used(calls, frozenset(files))


def _try(
    strace: Strace, arena: Arena, half: Path, used: Used, call: str, fault: str, number: int
) -> bool:
    """One fault; whether it fired."""
    vault = copy_vault(half, half.with_name("faulty"))
    paths = [word for name in used.files for word in ("-P", str(vault / name))]
    inject = f"inject={call}:{fault}:when={number}"
    status, log = strace.run(vault, "-e", f"trace={call}", "-e", inject, *paths)
    fired = "(INJECTED)" in log or status == _KILLED
    what = f"{call} number {number}, {fault}"
    if fired:
        wanted = _KILLED if "KILL" in fault else _DISK
        assert status == wanted, f"{what}: exit {status}\n{log[-600:]}\n{strace.words}"
    found = arena.finish(vault)
    assert found is None, f"{what}: {found}"
    return fired


def test_failing_calls(strace: Strace, arena: Arena, half: Path) -> None:
    """A sample of the faults of the exhaustive test: 25 evenly spread over all calls."""
    used = _used(strace, half)
    assert {"write", "fsync", "rename"} <= set(used.calls), used.calls
    places = [
        (call, number, fault)
        for call in sorted(used.calls)
        for number in range(1, used.calls[call] + 1)
        for fault in FAULTS
    ]
    sample = places[:: max(1, len(places) // 25)]
    fired = [_try(strace, arena, half, used, call, fault, number) for call, number, fault in sample]
    assert sum(fired) > len(fired) * 0.8


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_every_failing_call(strace: Strace, arena: Arena, half: Path, fault: str) -> None:
    """Every call of each kind fails once, until there is none left to fail."""
    used = _used(strace, half)
    for call in sorted(used.calls):
        fired = 0
        for number in count(1):
            if not _try(strace, arena, half, used, call, fault, number):
                break
            fired += 1
        assert fired == used.calls[call], call
