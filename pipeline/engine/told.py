"""What a process that follows some instruments of a vault says to the one that started it.

One JSON object a line, either way. The first line a worker is given is its `Task`; every line
behind it is an instrument more. When there are no more lines, the worker ends behind the commit
in hand: so it does when whoever has started it is gone, however that ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pipeline import errors
from pipeline.engine.desk import Beat, Committed, Listener
from pipeline.engine.summary import Summary
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument


class Task(msgspec.Struct):
    """What to follow, as the arguments of `Follow` say it; stages by name.

    If it `is_first` nothing has been followed yet, and an instrument that somebody else follows is
    an error; later it is told, and the others are followed.
    """

    vault: str
    stages: list[str]
    urgent: list[str]
    poll_s: float | None
    instruments: list[Instrument]
    is_first: bool = False


class CaughtUp(msgspec.Struct, tag=True):
    """See `Listener.caught_up`."""

    instrument: Instrument
    done: list[Summary]


class Made(msgspec.Struct, tag=True):
    """See `Listener.committed`."""

    what: Committed


class Failed(msgspec.Struct, tag=True):
    """See `Listener.failed`. After one that `is_end` the worker ends."""

    kind: str
    message: str
    hint: str | None
    is_end: bool = False

    @classmethod
    def of(cls, error: FlowvaultError, *, is_end: bool = False) -> Failed:
        """An error."""
        return cls(type(error).__name__, error.message, error.hint, is_end)

    @property
    def error(self) -> FlowvaultError:
        """The inverse of `of`."""
        kind: type[FlowvaultError] = getattr(errors, self.kind, FlowvaultError)
        return kind(self.message, self.hint)


class Noted(msgspec.Struct, tag=True):
    """See `Listener.noted`."""

    text: str


class Beats(msgspec.Struct, tag=True):
    """See `Listener.beat`."""

    beats: list[Beat]


Word = CaughtUp | Made | Failed | Noted | Beats

_encode = msgspec.json.Encoder().encode


def line(what: Any) -> bytes:
    """A word as it is sent."""
    return _encode(what) + b"\n"


class Teller:
    """A listener that says everything in lines."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """See `Listener`."""
        self._say(CaughtUp(instrument, list(done)))

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        self._say(Made(what))

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        self._say(Failed.of(error))

    def noted(self, text: str) -> None:
        """See `Listener`."""
        self._say(Noted(text))

    def beat(self, beats: Sequence[Beat]) -> None:
        """See `Listener`."""
        self._say(Beats(list(beats)))

    def _say(self, word: Word) -> None:
        self._write(line(word))


def pass_on(word: CaughtUp | Made, listener: Listener) -> None:
    """Tell a listener what was done, as if it had been done in this process."""
    if isinstance(word, CaughtUp):
        listener.caught_up(word.instrument, word.done)
    else:
        listener.committed(word.what)
