"""From rows to the rows they were made from, layer by layer, up to raw lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine.line_places import LinePlaces
from pipeline.engine.part_places import PartPlaces
from pipeline.engine.places import DocumentPlaces, Places
from pipeline.engine.reader import length_in
from pipeline.engine.spans import Spans, merged, without
from pipeline.engine.state import State, read_state
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.reach import RAW, Reach
from pipeline.stage import BEGINNING_US, DAY_US, MINUTE_US, Input, Stage


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of a layer, or lines of a feed, that some layer looks at.

    Attributes:
        part: which part of the rows matters, by a name of their stage's own; empty: all.
        spans: the rows; of raw lines the times.
        by: the layer that looks at them; empty for the rows that are explained.
        own: the rows of that layer which do.
        reach: why.
    """

    part: str
    spans: Spans
    by: str = ""
    own: Spans = field(default_factory=list)
    reach: Reach | None = None


class Trace:
    """What is asked of each layer, beginning with some rows of one.

    Attributes:
        asks: by layer.
        raw: by raw stage, asks whose spans are times.
    """

    def __init__(self, vault: Vault, instrument: Instrument) -> None:
        self.asks: dict[str, list[Ask]] = {}
        self.raw: dict[str, list[Ask]] = {}
        self.vault = vault
        self.paths = vault.paths
        self.instrument = instrument
        self._states: dict[str, State | None] = {}
        self._places: dict[str, Places] = {}

    def follow(self, layer: str, spans: Spans) -> Iterator[tuple[Stage[Any, Any], Layer]]:
        """Go from rows to the rows they were made from; yields the layers on the way, as done."""
        self.asks[layer] = [Ask("", spans)]
        for stage in reversed(stages.all_stages()):
            own = {each.name: each for each in stage.layers}
            if own.keys() & self.asks.keys():
                self._visit(stage)
                yield from ((stage, own[name]) for name in [*self.asks] if name in own)

    def spans(self, layer: str) -> Spans:
        """All rows of a layer that are asked for."""
        return merged(span for ask in self.asks[layer] for span in ask.spans)

    # -- states and places -------------------------------------------------------------------

    def state(self, stage: Stage[Any, Any]) -> State | None:
        """The committed state of a stage."""
        if stage.name not in self._states:
            path = self.paths.state(stage.name, self.instrument)
            self._states[stage.name] = read_state(path)
        return self._states[stage.name]

    def places(self, layer: Layer) -> Places | None:
        """The committed rows of a layer; None if it has none."""
        state = self.state(stages.owner(layer.name))
        if state is None or not length_in(state, self.paths.root, layer, self.instrument):
            return None
        if layer.name not in self._places:
            self._places[layer.name] = self._opened(layer, state)
        return self._places[layer.name]

    def _opened(self, layer: Layer, state: State) -> Places:
        folder = self.paths.derived(layer.folder, self.instrument)
        relative = self.paths.relative(folder)
        trades = self.state(stages.owner("trades"))
        # trades of a minute that is open may come in any order, and so what is made one by one
        slack = MINUTE_US + max(state.lateness_us, trades.lateness_us if trades else 0)
        if layer.format == "json":
            return DocumentPlaces(self.paths.root, relative, layer, state)
        if layer.format == "parquet":
            return PartPlaces(folder, relative, layer, state.parts[layer.name], slack)
        size = length_in(state, self.paths.root, layer, self.instrument)
        return LinePlaces(folder / layer.file, f"{relative}/{layer.file}", layer, size, slack)

    # -- one stage ---------------------------------------------------------------------------

    def _visit(self, stage: Stage[Any, Any]) -> None:
        """Ask for all that the rows of a stage's layers were made from."""
        done: dict[tuple[str, str], Spans] = {}
        while todo := self._open_asks(stage, done):
            for layer, part, spans in todo:
                done[layer.name, part] = merged([*done.get((layer.name, part), []), *spans])
                for reach in self._reaches(stage, layer):
                    if part in reach.parts:
                        self._ask(stage, layer, spans, reach)

    def _open_asks(
        self, stage: Stage[Any, Any], done: dict[tuple[str, str], Spans]
    ) -> list[tuple[Layer, str, Spans]]:
        """What is asked of a stage's layers and has not been followed."""
        found = []
        for layer in stage.layers:
            asked: dict[str, Spans] = {}
            for ask in self.asks.get(layer.name, []):
                asked.setdefault(ask.part, []).extend(ask.spans)
            for part, spans in asked.items():
                new = without(merged(spans), done.get((layer.name, part), []))
                if new:
                    found.append((layer, part, new))
        return found

    def _ask(self, stage: Stage[Any, Any], layer: Layer, spans: Spans, reach: Reach) -> None:
        own = self.places(layer)
        if own is None:
            return
        if reach.layer == RAW:
            times = merged(self._window(reach, own, span) for span in spans)
            ask = Ask(reach.asks, times, layer.name, spans, reach)
            self.raw.setdefault(stage.name, []).append(ask)
            return
        target_layer = stages.layers()[reach.layer][0]
        target = self.places(target_layer)
        if target is None or not self._reads(stage, reach.layer):
            return
        found = merged(each for span in spans for each in self._targets(reach, own, target, span))
        if found:
            ask = Ask(reach.asks, found, layer.name, spans, reach)
            self.asks.setdefault(reach.layer, []).append(ask)

    def _reads(self, stage: Stage[Any, Any], layer: str) -> bool:
        """Whether a layer is another of the stage's own, or one that it has been given."""
        state = self.state(stage)
        is_own = stages.owner(layer) is stage
        return is_own or (state is not None and layer in state.upstream)

    def _targets(
        self, reach: Reach, own: Places, target: Places, span: tuple[int, int]
    ) -> Iterator[tuple[int, int]]:
        """The rows of a layer that some rows of another were made from."""
        if reach.first:
            yield 0, min(reach.first, target.size)
            return
        if reach.which == "same":
            found = [span]
        else:
            low, high = self._window(reach, own, span)
            if reach.ahead_us > 0:
                high += self._lateness_of(target.layer)
            found = target.known(low, high)
            if reach.which == "last":
                found = self._lasts(reach, own, target, span, (low, high))
        for first, end in found:
            yield target.back(first, reach.before) if reach.before else first, end

    def _lasts(
        self,
        reach: Reach,
        own: Places,
        target: Places,
        span: tuple[int, int],
        window: tuple[int, int],
    ) -> Spans:
        """From the last row known by the end of the first of some rows to that of their last."""
        low, high = window
        first_end = own.stretch(own.row_at(span[0]))[1]
        newest = target.last(high, low)
        until = min(first_end + min(0, reach.ahead_us), high)
        oldest = target.last(until, low) or target.known(low, high)[:1]
        return [(oldest[0][0], newest[0][1])] if newest else []

    def _window(self, reach: Reach, own: Places, span: tuple[int, int]) -> tuple[int, int]:
        """The time of some rows, as far as a reach goes around it."""
        low, high = span
        if reach.rows:
            low = own.back(low, reach.rows, reach.counted)
        start, end = own.stretch((low, high))
        if reach.told is not None and isinstance(own, PartPlaces):
            # what goes back to the very first row goes back to everything
            told = reach.told.since_us(own.frame((low, high), reach.told.columns)) if low else None
            start = BEGINNING_US if told is None else min(start - reach.behind_us, told)
        elif reach.since == "ever" or (reach.layer == RAW and low == 0):
            start = BEGINNING_US
        else:
            start = (start // DAY_US * DAY_US if reach.since == "day" else start) - reach.behind_us
        return start, end + reach.ahead_us

    def _lateness_of(self, layer: Layer) -> int:
        state = self.state(stages.owner(layer.name))
        return 0 if state is None else state.lateness_us

    def _reaches(self, stage: Stage[Any, Any], layer: Layer) -> tuple[Reach, ...]:
        """From which rows the rows of one of a stage's layers are made."""
        state = self.state(stage)
        if state is None:
            return ()
        own = {name: state.params.get(name) for name in stage.params.__struct_fields__}
        params = msgspec.convert(own, stage.params, strict=False)
        tick = state.params.get("tick")
        return stage.reaches(layer, params, tick, self._inputs(stage, layer, state, params))

    def _inputs(
        self, stage: Stage[Any, Any], layer: Layer, state: State, params: Any
    ) -> tuple[Input, ...]:
        """What a joined stage reads for one of its layers."""
        if not stage.inputs:
            return ()
        carries = {}
        for name in state.upstream:
            above = self.state(stages.owner(name))
            if above is not None:
                carries[name] = above.carry
        chosen = stage.chosen(params, carries)
        others = {each.span_us for each in stage.layers} - {layer.span_us}
        spans = {each.layer: stages.layers()[each.layer][0].span_us for each in chosen}
        # bars of another length than this layer's belong to its sisters
        return tuple(
            each for each in chosen if not spans[each.layer] or spans[each.layer] not in others
        )
