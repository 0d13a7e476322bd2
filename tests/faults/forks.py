"""The tests' side of `worker`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 240
"""A loaded machine is slow, not wrong; a virtual one may stand still for a minute."""
REPO = Path(__file__).resolve().parents[2]


class Forks:
    """Starts workers, waits for them, and kills those that are left at the end."""

    def __init__(self, scratch: Path) -> None:
        path = os.pathsep.join((str(REPO), str(REPO / "tests"), os.environ.get("PYTHONPATH", "")))
        self._scratch = scratch
        self._alive: set[int] = set()
        self._number = 0
        self._server = subprocess.Popen(
            [sys.executable, "-m", "faults.worker"],
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": path, "POLARS_MAX_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, job: str, **arguments: Any) -> Worker:
        """Fork a worker."""
        self._number += 1
        output = self._scratch / f"worker{self._number}.pipe"
        os.mkfifo(output)
        stream = os.open(output, os.O_RDWR | os.O_NONBLOCK)
        plain = {key: str(v) if isinstance(v, Path) else v for key, v in arguments.items()}
        pid = self._ask({"job": job, "output": str(output), "arguments": plain})
        assert pid is not None
        self._alive.add(pid)
        return Worker(self, pid, output, stream)

    def wait(self, pid: int) -> int:
        """Wait until a worker ends: its exit status, or minus the signal that killed it."""
        status = self._ask({"wait": pid, "seconds": PATIENCE_S})
        assert status is not None, f"process {pid} is still there after {PATIENCE_S} s"
        self._alive.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """End everything that was started."""
        for pid in tuple(self._alive):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.wait(pid)
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=PATIENCE_S)
        assert self._server.stdout is not None
        self._server.stdout.close()

    def _ask(self, command: dict[str, Any]) -> int | None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(command) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        assert answer is None or isinstance(answer, int)
        return answer


class Worker:
    """One forked process; what it prints goes through a pipe, which no limit on files concerns."""

    def __init__(self, forks: Forks, pid: int, output: Path, stream: int) -> None:
        self._forks = forks
        self.pid = pid
        self._output = output
        self._stream = stream
        self._is_over = False
        self.words = ""

    def read(self) -> str:
        """What it has printed so far."""
        with contextlib.suppress(BlockingIOError):
            if not self._is_over:
                self.words += os.read(self._stream, 1 << 16).decode("utf-8", "replace")
        return self.words

    def stop(self) -> int:
        """Ask it to end; its status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def kill(self) -> int:
        """Kill -9; the status, which is 0 if the worker was quicker."""
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def until_told(self, word: str) -> None:
        """Wait until it has printed something."""
        until = time.monotonic() + PATIENCE_S
        while word not in self.read():
            assert time.monotonic() < until, f"no {word!r}: {self.words}"
            time.sleep(0.002)

    def wait(self) -> int:
        """Wait for the end; a traceback is never an acceptable last word."""
        status = self._forks.wait(self.pid)
        self.read()
        self._is_over = True
        os.close(self._stream)
        self._output.unlink()
        assert "Traceback (most recent call last)" not in self.words, self.words
        return status
