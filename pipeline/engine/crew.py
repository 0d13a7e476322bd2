"""Follow instruments in several processes: one of them folds on one core only.

Every worker follows some of the instruments, as `Follow` does. This process tells what they say in
one place, gives new instruments to the worker that has the fewest, starts a worker again that has
died, and ends them all behind the commit in hand. When it is killed itself they notice that
nobody speaks to them any more, and end as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

import pipeline
from pipeline.cores import cores
from pipeline.engine.desk import Beat, Listener
from pipeline.engine.told import Beats, CaughtUp, Failed, Made, Noted, Task, Word, line, pass_on
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument
from pipeline.stage import Stage

_LOOK_S = 1.0
_SOON_S, _LONGEST_S = 1.0, 60.0
"""A worker that has died is started again after a second, then after longer and longer."""
_MOST_DEATHS = 3
"""A worker that dies so often without having opened anything will not do better the next time."""
_ALIKE_S = 10.0
"""What several workers say in so short a time is said once."""
_MODULE = "pipeline.cli.follow_worker"

_words: msgspec.json.Decoder[Word] = msgspec.json.Decoder(Word)


def _path_to_this() -> dict[str, str]:
    """What a worker must be told to find this package, if it is not installed."""
    package = Path(pipeline.__file__).parents[1]
    if package.name in ("site-packages", "dist-packages"):
        return {}
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    }


@dataclass(eq=False)
class _Worker:
    """One process, or the place of one that has died and is going to be started again.

    Attributes:
        process: None while there is none.
        is_first: whether it was started when all this began, and never again.
        is_proven: whether it has ever opened an instrument: it did not fail to start.
        deaths: how often it has died before that.
        end: the error it has ended with, if it has said so.
        due: when to start it again.
    """

    instruments: list[Instrument]
    process: subprocess.Popen[bytes] | None = None
    beats: dict[Instrument, Beat] = field(default_factory=dict)
    is_first: bool = False
    is_proven: bool = False
    deaths: int = 0
    end: FlowvaultError | None = None
    due: float = 0.0
    delay: float = _SOON_S
    started: float = 0.0

    @property
    def names(self) -> str:
        """How messages name it."""
        first, *others = (each.key for each in self.instruments)
        return f"the worker process of {first}" + (f" and {len(others)} more" if others else "")

    def beats_now(self) -> list[Beat]:
        """How its instruments are doing."""
        none = (Beat(each, None, is_open=False) for each in self.instruments)
        return [self.beats.get(each.instrument, each) for each in none]


class Crew:
    """Follows instruments in several processes until it is stopped.

    Args:
        root: the vault.
        find: which instruments there are; asked again and again.
        chain: the stages, in an order in which they can run.
        listener: is told what happens, in the thread that calls `run`.
        urgent: stages that are served, with those they read, before all others.
        poll_s: look at the raw folders this often instead of being told of changes.
        count: how many processes.
    """

    def __init__(
        self,
        root: Path,
        find: Callable[[], Sequence[Instrument]],
        chain: Sequence[Stage[Any, Any]],
        listener: Listener,
        *,
        urgent: Collection[str] = (),
        poll_s: float | None = None,
        count: int,
    ) -> None:
        self._find = find
        self._listener = listener
        self._count = count
        names = [stage.name for stage in chain]
        self._task = Task(str(root), names, sorted(urgent), poll_s, [], is_first=True)
        self._failure: FlowvaultError | None = None
        self._workers: list[_Worker] = []
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_stopping = False
        self._look_at = 0.0
        self._said: dict[str, tuple[float, _Worker]] = {}

    def stop(self) -> None:
        """End behind the commits in hand; may be called from a signal handler."""
        self._is_stopping = True
        self._inbox.put(None)

    def run(self) -> None:
        """Follow until `stop` is called.

        Raises:
            FlowvaultError: a worker could not begin; none is at work any more.
        """
        self._workers += [_Worker([]) for _ in range(self._count)]
        try:
            self._look()
            self._task.is_first = False
            while not self._is_stopping:
                self._receive(max(0.0, self._look_at - time.monotonic()))
                if time.monotonic() >= self._look_at:
                    self._look()
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure

    # -- the workers -----------------------------------------------------------

    def _look(self) -> None:
        """Every second: new instruments, and workers that are to be started again."""
        now = time.monotonic()
        self._look_at = now + _LOOK_S
        self._give_out()
        for worker in self._workers:
            if worker.process is None and worker.instruments and now >= worker.due:
                self._start(worker)

    def _give_out(self) -> None:
        """Give instruments that nobody has to the worker with the fewest."""
        taken = {each for worker in self._workers for each in worker.instruments}
        for instrument in self._find():
            if instrument in taken:
                continue
            worker = min(self._workers, key=lambda each: len(each.instruments))
            worker.instruments.append(instrument)
            if worker.process is not None:
                self._write(worker, instrument)

    def _start(self, worker: _Worker) -> None:
        """Start a worker and tell it what to do."""
        threads = max(1, cores() // self._count)
        worker.end, worker.started = None, time.monotonic()
        worker.is_first = self._task.is_first
        try:
            process = subprocess.Popen(  # noqa: S603  (this program itself)
                [sys.executable, "-P", "-m", _MODULE],
                env={"POLARS_MAX_THREADS": str(threads), **os.environ, **_path_to_this()},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except OSError as error:  # no memory for one more, perhaps not for long
            self._put_off(worker)
            self._listener.noted(f"{worker.names} could not be started: {error}; tried again")
            return
        worker.process = process
        threading.Thread(
            target=self._read, args=(worker, process), name="listen", daemon=True
        ).start()
        self._write(worker, msgspec.structs.replace(self._task, instruments=worker.instruments))

    @staticmethod
    def _put_off(worker: _Worker) -> None:
        """Have a worker started later, and later still the next time."""
        now = time.monotonic()
        if now - worker.started > _LONGEST_S:
            worker.delay = _SOON_S
        worker.due, worker.delay = now + worker.delay, min(_LONGEST_S, 2 * worker.delay)

    @staticmethod
    def _write(worker: _Worker, what: Task | Instrument) -> None:
        """Send a line; a worker that is gone will be started again with all it had."""
        stream = None if worker.process is None else worker.process.stdin
        if stream is None or stream.closed:
            return
        try:
            stream.write(line(what))
            stream.flush()
        except OSError:
            return  # `_read` finds that it has ended

    def _read(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        """Pass on what a worker says, in a thread of its own, until it has ended."""
        if process.stdout is not None:
            for text in process.stdout:
                self._inbox.put(lambda text=text: self._hear(worker, text))  # type: ignore[misc]
        process.wait()
        self._inbox.put(lambda: self._ended(worker, process))

    def _ended(self, worker: _Worker, process: subprocess.Popen[bytes]) -> None:
        """A worker has ended: as it was told, or it is to be started again."""
        worker.process, worker.beats = None, {}
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was written last has not reached it
                    stream.close()
        how = f"{worker.names} has ended with status {process.returncode}"
        worker.deaths = 0 if worker.is_proven else worker.deaths + 1
        if worker.end is not None and worker.is_first and not worker.is_proven:
            self._fail(worker.end)
        elif self._is_stopping:
            return
        elif worker.end is None and worker.deaths == _MOST_DEATHS:
            self._fail(
                FlowvaultError(f"{how} {worker.deaths} times", "flowvault follow --workers 1")
            )
        else:
            self._put_off(worker)
            if worker.end is None:
                self._listener.noted(f"{how}; it is started again")
            elif self._is_news(worker, str(worker.end)):
                self._listener.failed(worker.end)

    def _fail(self, error: FlowvaultError) -> None:
        """End, with an error."""
        self._failure = self._failure or error
        self.stop()

    def _end(self) -> None:
        """Have all workers end, and tell what they say until they have."""
        self._is_stopping = True
        for worker in self._workers:
            if worker.process is not None and worker.process.stdin is not None:
                with suppress(OSError):  # it is gone already
                    worker.process.stdin.close()
        while any(worker.process is not None for worker in self._workers):
            self._receive(_LOOK_S)

    # -- what they say ---------------------------------------------------------

    def _receive(self, seconds: float) -> None:
        """Take what has come in, waiting if there is nothing."""
        try:
            todo = self._inbox.get(timeout=seconds) if seconds else self._inbox.get_nowait()
            while True:
                if todo is not None:
                    todo()
                todo = self._inbox.get_nowait()
        except Empty:
            return

    def _hear(self, worker: _Worker, text: bytes) -> None:
        try:
            word = _words.decode(text)
        except msgspec.DecodeError:
            return  # half a line: it was killed while it spoke
        if isinstance(word, Beats):
            worker.beats = {beat.instrument: beat for beat in word.beats}
            self._listener.beat([beat for each in self._workers for beat in each.beats_now()])
        elif isinstance(word, Failed):
            self._hear_error(worker, word)
        elif isinstance(word, Noted):
            if self._is_news(worker, word.text):
                self._listener.noted(word.text)
        else:
            worker.is_proven |= isinstance(word, CaughtUp | Made)
            pass_on(word, self._listener)

    def _hear_error(self, worker: _Worker, word: Failed) -> None:
        if word.is_end:
            worker.end = word.error
        elif self._is_news(worker, str(word.error)):
            self._listener.failed(word.error)

    def _is_news(self, worker: _Worker, text: str) -> bool:
        """Whether no other worker has just said the same: of the settings, or of the system."""
        now = time.monotonic()
        self._said = {k: said for k, said in self._said.items() if now - said[0] < _ALIKE_S}
        said = self._said.setdefault(text, (now, worker))
        return said[1] is worker
