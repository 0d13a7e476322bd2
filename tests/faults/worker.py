"""A process that forks workers with everything imported: a start costs 10 ms instead of 400.

It reads one JSON command a line and answers with one: `{"job": NAME, ...}` forks a worker and
answers its pid, `{"wait": PID}` answers its wait status. Workers may be killed by anyone at any
time. The process itself never runs a job, so that it has no threads that a fork would lose.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipeline.cli.follow
import pipeline.cli.main
import pipeline.cli.rebuild
import pipeline.cli.run
import pipeline.engine.follow
from pipeline.engine import feed, lock, stage_run, tablestate
from pipeline.engine.paths import VaultPaths
from pipeline.errors import FlowvaultError

from . import joined
from .workload import INSTRUMENT, growing, make_raw, run_chain, use_small_parts

CRASHED = 70


def cli(
    argv: list[str],
    gate: str | None = None,
    file_size: int | None = None,
    block_bytes: int | None = None,
) -> int:
    """The command line, optionally once a pipe is opened and with files limited in size.

    With `block_bytes` raw files are read in blocks of this size and every block is committed.
    """
    use_small_parts()
    if block_bytes is not None:
        feed.BLOCK_BYTES, stage_run.COMMIT_ROWS = block_bytes, 1
    if gate is not None:
        Path(gate).read_bytes()
    if file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
    sys.argv = ["flowvault", *argv]
    try:
        pipeline.cli.main.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def cycles(vault: str, raw: list[int], cuts: list[int]) -> int:
    """Run, then let the raw files grow cut by cut with a run behind each."""
    whole = make_raw(*raw)
    root = Path(vault)
    for _ in growing(root, whole, cuts):
        run_chain(root)
    return 0


def append(vault: str, raw: list[int], pieces: list[int], seconds: float) -> int:
    """Be a collector: write the raw files in pieces of odd sizes, evenly over some seconds."""
    whole, root = make_raw(*raw), Path(vault)
    started = time.monotonic()
    for at in growing(root, whole, pieces):
        ahead = started + seconds * at / whole.total - time.monotonic()
        time.sleep(max(0.0, ahead))
    return 0


def hold(vault: str, stage: str) -> int:
    """Hold a stage's lock until killed; says so."""
    with lock.hold(VaultPaths(Path(vault)).lock(stage, INSTRUMENT), "a test"):
        say("held")
        time.sleep(600)
    return 0


def hold_tables(vault: str) -> int:
    """The same for the lock of the market-wide tables."""
    with lock.hold(tablestate.lock_path(Path(vault)), "a test"):
        say("held")
        time.sleep(600)
    return 0


def say(word: str) -> None:
    """Tell the test how far this is."""
    print(word, flush=True)  # noqa: T201  (through the pipe that the test reads)


def race(vault: str, gate: str) -> int:
    """Run all stages the moment the gate opens; the status of what happened."""
    fd = os.open(gate, os.O_RDONLY)
    say("ready")
    os.read(fd, 1)
    try:
        run_chain(Path(vault))
    except FlowvaultError as error:
        return error.status
    return 0


JOBS: dict[str, Callable[..., int]] = {
    "joined": joined.cycles,
    "cli": cli,
    "cycles": cycles,
    "append": append,
    "hold": hold,
    "hold_tables": hold_tables,
    "race": race,
}


def work(job: str, output: str, arguments: dict[str, Any]) -> None:
    """The life of a forked worker."""
    handle = os.open(output, os.O_WRONLY)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    status = CRASHED
    try:
        status = JOBS[job](**arguments)
    except BaseException:  # noqa: BLE001  (whatever it is, the test shall read it)
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def wait(pid: int, seconds: float) -> int | None:
    """Wait for a worker; None if it has not ended in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.001)
    return None


def serve() -> None:
    """Answer commands until the other end goes away."""
    for line in sys.stdin:
        command = json.loads(line)
        answer: int | None
        if "wait" in command:
            answer = wait(command["wait"], command["seconds"])
        else:
            sys.stdout.flush()
            answer = os.fork()
            if answer == 0:
                work(command["job"], command["output"], command["arguments"])
        print(json.dumps(answer), flush=True)  # noqa: T201  (the protocol)


if __name__ == "__main__":
    serve()
