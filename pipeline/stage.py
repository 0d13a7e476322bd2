"""What a stage is: a pure fold from new rows and carry to closed rows and the next carry.

A stage never sees a file, a lock or a clock. The engine hands it batches of new input rows in
their order, together with the watermark: the event time up to which nothing older will come. It
must give the same rows in the same order however the input is cut into batches; the laws under
tests/laws hold every stage to that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import msgspec

from pipeline.instrument import CRYPTO, Contract, Instrument
from pipeline.layers import Layer
from pipeline.reach import RAW, Reach

if TYPE_CHECKING:
    import polars as pl

    from pipeline.raw.block import Block, Reject

P = TypeVar("P", bound=msgspec.Struct)
C = TypeVar("C", bound=msgspec.Struct)

Row = tuple[int, tuple[Any, ...]]
"""One row of a JSONL layer: its time in microseconds, and the values behind the header keys."""

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
BEGINNING_US = -(2**62)
"""A time before every event."""


@dataclass(frozen=True, slots=True)
class Input:
    """One of the layers that a joined stage reads.

    A row of a layer of events belongs to the time of its `ts`; a bar belongs to its last
    microsecond, since it is not known before.

    Attributes:
        columns: which columns the stage needs besides `ts`.
        required: without it the stage does not run for an instrument; an instrument that lacks
            an optional input gets rows without it.
        behind_us: how much of the past, before the window, the stage is shown again.
        ahead_us: how much of the future, behind the window, the stage must see; the window waits
            for it.
        timed_by: rows that carry an id but no time take the time of the first row of that layer
            whose `last_id` is not below the largest id `reached`.
        cell_us: a row is the last event of a cell of this length and comes when the cell is over:
            the windows of a stage without a grid end where a cell does, or at `known_us` in it.
        is_awaited: windows wait for it. Of one that is not, a window has the rows that are there
            when it closes.
    """

    layer: str
    columns: tuple[str, ...]
    required: bool = True
    behind_us: int = 0
    ahead_us: int = 0
    timed_by: str | None = None
    cell_us: int = 0
    known_us: int | None = None
    is_awaited: bool = True


@dataclass(frozen=True, slots=True)
class Joined:
    """What a joined stage is given: everything its inputs hold for [start_us, end_us).

    Windows begin and end at whole cells of the stage's grid and follow on from each other without
    holes, so a fold sees each cell whole and never twice.

    Attributes:
        frames: by layer, polars frames with `ts` (int64, microseconds; a bar's is its beginning)
            and the columns asked for, in the layer's order: rows from `start_us - behind_us` (or
            what the last fold said it `needs`) to before `end_us + ahead_us`. Inputs that the
            instrument does not have are left out.
        given_up: inputs the window went on without, with the time from which on, not behind its
            beginning: nothing is known of them there.
    """

    frames: dict[str, pl.DataFrame]
    start_us: int
    end_us: int
    given_up: dict[str, int] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, pl.DataFrame]:
        """The frames of the inputs that were not given up."""
        return {name: frame for name, frame in self.frames.items() if name not in self.given_up}


class Kept(Protocol):
    """Something a carry holds that is no JSON: it is kept as a text in the state."""

    def to_text(self) -> str:
        """The text."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`."""


@dataclass(slots=True)
class Context(Generic[P]):
    """What a fold may know besides its rows.

    Attributes:
        watermark_us: event time, microseconds; every row whose cell ended by then is complete.
            None before the first event.
        inputs: the layers a joined stage has for this instrument.
        last_rows: the last n rows that the stage itself has written to one of its Parquet layers.
        reinstated: in a rebuild, the trades that came too late the first time.
        memo: what a fold wants to find again in the next call, to save itself work. It is lost
            with the process, and rows must not depend on it.
    """

    instrument: Instrument
    contract: Contract
    params: P
    watermark_us: int | None = None
    inputs: frozenset[str] = frozenset()
    last_rows: Callable[[str, int], Any] | None = None
    reinstated: Any = None
    memo: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Closed(Generic[C]):
    """What a fold gives back: rows per layer, the next carry, and for raw stages the rest.

    `watermark_us` is set by stages that read raw data; for all others the engine knows it.
    `needs` is for joined stages: the time from which on the rows of an input are to be shown once
    more with the next window, where that is not simply the input's `behind_us`. `holds_back`: rows
    of times that the watermark has passed are still to come; who reads them waits.
    """

    carry: C
    rows: dict[str, Any]
    rejects: Sequence[Reject] = ()
    rows_in: int = 0
    late: int = 0
    duplicate: int = 0
    bad: int = 0
    gaps: int = 0
    watermark_us: int | None = None
    aside: Any = None
    needs: dict[str, int] = field(default_factory=dict)
    holds_back: bool = False


@dataclass(frozen=True, slots=True)
class Stage(Generic[P, C]):
    """The declaration of one stage.

    A stage decodes raw data, or is streamed the rows of one layer, or joins several layers.

    Attributes:
        source: "raw:KIND" for a stage that decodes raw data, the name of the layer that is
            streamed to it, or "" for one that joins its `inputs`.
        decode: for a raw stage, what turns a block of lines into the rows its fold is given; it
            is called ahead of the fold, in threads.
        select: for a joined stage with a choice: its inputs, given its parameters and the carry
            of the stage behind each layer that the instrument has (it says None while it cannot
            tell yet); None: all that there are.
        grid_us: a joined stage's windows begin and end at multiples of this. 0: the rows of its
            first input drive it. They are given in their order as soon as every input is complete
            up to their time; frames of the others reach to the newest of these.
        layers: what it writes.
        version: raise it when numbers change; older state is then refused.
        uses_tick: its numbers depend on the instrument's tick in instruments.toml.
        reach: from which rows a row is made, given the parameters and the tick; None: from the
            input rows of its own time, and as much around it as `inputs` say.
        markets: the markets it is for; it has nothing to do for instruments of others.
        lateness_us: how long the stage waits for stragglers, from its parameters.
    """

    name: str
    layers: tuple[Layer, ...]
    params: type[P]
    carry: type[C]
    fold: Callable[[Any, C, Context[P]], Closed[C]]
    source: str = ""
    inputs: tuple[Input, ...] = ()
    decode: Callable[[Block, Instrument, Contract], Any] | None = None
    select: Callable[[P, dict[str, dict[str, Any]]], tuple[Input, ...] | None] | None = None
    grid_us: int = MINUTE_US
    version: int = 1
    lateness_us: Callable[[P], int] = field(default=lambda _params: 0)
    uses_tick: bool = False
    reach: Callable[[P, str | None], tuple[Reach, ...]] | None = None
    markets: frozenset[str] = CRYPTO

    @property
    def raw_kind(self) -> str | None:
        """The kind of raw data it decodes, if it does."""
        return self.source.removeprefix("raw:") if self.source.startswith("raw:") else None

    def chosen(self, params: P, carries: dict[str, dict[str, Any]]) -> tuple[Input, ...]:
        """The inputs of a joined stage, of those layers that there are."""
        if self.select is not None:
            return self.select(params, carries) or ()
        return tuple(each for each in self.inputs if each.layer in carries)

    def reaches(
        self, layer: Layer, params: P, tick: str | None, chosen: tuple[Input, ...]
    ) -> tuple[Reach, ...]:
        """From which rows the rows of one of its layers are made.

        Args:
            layer: one of `layers`.
            params: its parameters.
            tick: the instrument's tick, if the stage uses it.
            chosen: the inputs that it has for the instrument.
        """
        if self.reach is not None:
            found = self.reach(params, tick)
            return tuple(each for each in found if not each.of or layer.name in each.of)
        if not self.inputs:
            return (Reach(RAW if self.raw_kind else self.source),)
        return tuple(
            Reach(each.layer, behind_us=each.behind_us, ahead_us=each.ahead_us) for each in chosen
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """The layers it reads; none if it decodes raw data."""
        if self.inputs:
            timers = (each.timed_by for each in self.inputs)
            named = [each.layer for each in self.inputs]
            return tuple(dict.fromkeys([*named, *(name for name in timers if name)]))
        return () if self.raw_kind else (self.source,)


def levels(stages: Sequence[Stage[Any, Any]]) -> list[list[Stage[Any, Any]]]:
    """Stages in groups: those of one group do not read each other, only earlier groups' layers.

    Raises:
        graphlib.CycleError: stages read each other in a circle.
    """
    owner = {layer.name: stage.name for stage in stages for layer in stage.layers}
    graph = {
        stage.name: {owner[layer] for layer in stage.reads if layer in owner} for stage in stages
    }
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found: list[list[Stage[Any, Any]]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append([stage for stage in stages if stage.name in ready])
        sorter.done(*ready)
    return found
