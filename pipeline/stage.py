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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from pipeline.instrument import Contract, Instrument
from pipeline.layers import Layer

if TYPE_CHECKING:
    import polars as pl

    from pipeline.raw.block import Reject

P = TypeVar("P", bound=msgspec.Struct)
C = TypeVar("C", bound=msgspec.Struct)

Row = tuple[int, tuple[Any, ...]]
"""One row of a JSONL layer: its time in microseconds, and the values behind the header keys."""


@dataclass(slots=True)
class Context(Generic[P]):
    """What a fold may know besides its rows.

    Attributes:
        watermark_us: event time, microseconds; every row whose cell ended by then is complete.
            None before the first event.
        last_ids: for stages that own a `trade_id` column: the last n ids they have written.
        reinstated: in a rebuild, the trades that came too late the first time.
    """

    instrument: Instrument
    contract: Contract
    params: P
    watermark_us: int | None = None
    last_ids: Callable[[int], pl.Series] | None = None
    reinstated: Any = None


@dataclass(slots=True)
class Closed(Generic[C]):
    """What a fold gives back: rows per layer, the next carry, and for raw stages the rest.

    `watermark_us` is set by stages that read raw data; for all others the engine knows it.
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


@dataclass(frozen=True, slots=True)
class Stage(Generic[P, C]):
    """The declaration of one stage.

    Attributes:
        source: "raw:KIND" for a stage that decodes raw data, else the name of the layer it reads.
        layers: what it writes.
        version: raise it when numbers change; older state is then refused.
        uses_tick: its numbers depend on the instrument's tick in instruments.toml.
        lateness_us: how long the stage waits for stragglers, from its parameters.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    params: type[P]
    carry: type[C]
    fold: Callable[[Any, C, Context[P]], Closed[C]]
    version: int = 1
    lateness_us: Callable[[P], int] = field(default=lambda _params: 0)
    uses_tick: bool = False

    @property
    def raw_kind(self) -> str | None:
        """The kind of raw data it decodes, if it does."""
        return self.source.removeprefix("raw:") if self.source.startswith("raw:") else None


def levels(stages: Sequence[Stage[Any, Any]]) -> list[list[Stage[Any, Any]]]:
    """Stages in groups: those of one group do not read each other, only earlier groups' layers.

    Raises:
        graphlib.CycleError: stages read each other in a circle.
    """
    owner = {layer.name: stage.name for stage in stages for layer in stage.layers}
    graph = {stage.name: [owner[stage.source]] if stage.source in owner else [] for stage in stages}
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    found: list[list[Stage[Any, Any]]] = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append([stage for stage in stages if stage.name in ready])
        sorter.done(*ready)
    return found
