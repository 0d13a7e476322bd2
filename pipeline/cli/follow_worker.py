"""A process that follows some of the instruments of a vault; `flowvault follow` starts it.

It is given lines and answers in lines, see `pipeline.engine.told`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

# Ctrl-C goes to every process of a terminal, also to one that has only begun to import
signal.signal(signal.SIGINT, signal.SIG_IGN)
if sys.platform == "win32":
    signal.signal(signal.SIGBREAK, signal.SIG_IGN)

import msgspec  # noqa: E402

from pipeline import stages  # noqa: E402
from pipeline.cli.follow_events import Apart  # noqa: E402
from pipeline.engine.disk import write_all  # noqa: E402
from pipeline.engine.follow import Follow  # noqa: E402
from pipeline.engine.told import Failed, Task, Teller, line  # noqa: E402
from pipeline.errors import FlowvaultError, disk_errors  # noqa: E402
from pipeline.instrument import Instrument  # noqa: E402

_BROKEN = 70


class _Orders(threading.Thread):
    """Takes instruments that are given later; stops the work when there is nobody any more."""

    def __init__(self, stream: BinaryIO, stop: Callable[[], None], known: list[Instrument]) -> None:
        super().__init__(name="orders", daemon=True)
        self._stream, self._stop_all, self._known = stream, stop, known

    def run(self) -> None:
        """Until the end of the stream."""
        try:
            for text in self._stream:
                self._known.append(msgspec.json.decode(text, type=Instrument))
        except (OSError, msgspec.DecodeError):
            return  # it was killed, perhaps in the middle of a line
        finally:
            self._stop_all()


def main() -> int:
    """Follow what the first line of the input says; returns the exit status."""
    write = _own_stdout()
    orders = sys.stdin.buffer
    try:
        task = msgspec.json.decode(orders.readline(), type=Task)
    except msgspec.DecodeError:
        return 0  # who has started it was killed meanwhile
    following: list[Follow] = []

    def stop() -> None:
        for each in following:
            each.stop()

    listener = Apart(Teller(write), stop)
    try:
        with disk_errors():
            _follow(task, orders, listener, following, stop)
    except FlowvaultError as error:
        last, status = line(Failed.of(error, is_end=True)), error.status
    else:
        last, status = b"", 0
    try:
        listener.close()
        write(last)
    except OSError:
        return 1  # nobody listens any more
    return status


def _follow(
    task: Task, orders: BinaryIO, listener: Apart, following: list[Follow], stop: Callable[[], None]
) -> None:
    """Follow until told to stop."""
    known, later = list(task.instruments), list[Instrument]()
    if not task.is_first:
        known, later = later, known

    def find() -> Sequence[Instrument]:
        found = tuple(known)
        known.extend(later)
        later.clear()
        return found

    follow = Follow(
        Path(task.vault),
        find,
        stages.with_upstream(task.stages),
        listener,
        urgent=task.urgent,
        poll_s=task.poll_s,
    )
    following.append(follow)
    signal.signal(signal.SIGTERM, lambda _kind, _frame: stop())
    _Orders(orders, stop, known).start()
    follow.run()


def _own_stdout() -> Callable[[bytes], None]:
    """Writes to the standard output; what a library prints there goes to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return partial(write_all, own)


if __name__ == "__main__":
    try:
        status = main()
    except BaseException:  # noqa: BLE001  (it ends here, whatever it was)
        traceback.print_exc()
        status = _BROKEN
    # the thread that reads orders may be waiting for one, which would keep the interpreter
    sys.stderr.flush()
    os._exit(status)
