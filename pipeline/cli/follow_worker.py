"""A process that follows some of the instruments of a vault; `flowvault follow` starts it.

It is given lines and answers in lines, see `pipeline.engine.told`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from pipeline import stages
from pipeline.cli.follow_events import Apart
from pipeline.engine.follow import Follow
from pipeline.engine.told import Failed, Task, Teller, line
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument


class _Orders(threading.Thread):
    """Takes instruments that are given later; stops the work when there is nobody any more."""

    def __init__(self, stream: BinaryIO, follow: Follow, known: list[Instrument]) -> None:
        super().__init__(name="orders", daemon=True)
        self._stream, self._follow, self._known = stream, follow, known

    def run(self) -> None:
        """Until the end of the stream."""
        for text in self._stream:
            try:
                self._known.append(msgspec.json.decode(text, type=Instrument))
            except msgspec.DecodeError:
                break  # half a line: who has written it was killed
        self._follow.stop()


def main() -> int:
    """Follow what the first line of the input says; returns the exit status."""
    _leave_signals_to_the_parent()
    with _own_stdout() as output:
        orders = sys.stdin.buffer
        try:
            task = msgspec.json.decode(orders.readline(), type=Task)
        except msgspec.DecodeError:
            return 0  # who has started it was killed meanwhile
        following: list[Follow] = []

        def stop() -> None:
            for each in following:
                each.stop()

        def write(data: bytes) -> None:
            output.write(data)
            output.flush()

        listener = Apart(Teller(write), stop)
        known = list(task.instruments)

        def find() -> Sequence[Instrument]:
            return tuple(known)

        try:
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
            _Orders(orders, follow, known).start()
            follow.run()
        except FlowvaultError as error:
            listener.close()
            write(line(Failed.of(error, is_end=True)))
            return error.status
        try:
            listener.close()
        except OSError:
            return 1  # nobody listens any more
        return 0


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C goes to every process of a terminal; the parent says when to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        signal.signal(signal.SIGBREAK, signal.SIG_IGN)


def _own_stdout() -> BinaryIO:
    """The standard output for lines alone: what a library prints goes to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return open(own, "wb")  # noqa: PTH123  (a descriptor, no path)


if __name__ == "__main__":
    status = main()
    # the thread that reads orders may be waiting for one; nothing is left to be done
    sys.stderr.flush()
    os._exit(status)
