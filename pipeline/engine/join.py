"""The inputs of a stage that joins several layers, cut at one common time.

A window closes when every input is complete up to its end, so what a fold is given does not
depend on which file arrived first. An input that has fallen too far behind the others can be given
up: the windows then go on without it, as long as it stays behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pipeline import stages
from pipeline.engine.outputs import Outputs
from pipeline.engine.paths import VaultPaths
from pipeline.engine.readers import (
    DocumentReader,
    JsonlReader,
    PartsReader,
    Reader,
    RowReader,
    TimedReader,
)
from pipeline.engine.state import RowMark, State
from pipeline.instrument import Instrument
from pipeline.stage import BEGINNING_US, Input, Joined

_LOADED_AHEAD_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a join.

    Attributes:
        size: how many rows of it are new.
        release: lets go of rows that are needed no more, given the time from which on the fold
            needs those of some inputs again, and tells where to read on, by layer.
    """

    rows: Joined
    size: int
    release: Callable[[dict[str, int]], dict[str, int]]


@dataclass
class Join:
    """The windows that are complete now; asked again when the layers have grown, the next ones.

    Attributes:
        above: the states of the stages behind the inputs, by layer.
        marks: where to read on, by layer.
        needs: the time from which on rows are shown again, where the last fold has said so.
        start_us: where the last window ended; None before the first.
        give_up_us: how far an input may fall behind the most advanced one before the windows go
            on without it; None: never.
        held: what the stages behind the inputs hold in memory, by layer.
        given_up: the inputs that were given up in these windows, with the time from which on.
    """

    vault: VaultPaths
    instrument: Instrument
    inputs: tuple[Input, ...]
    grid_us: int
    above: dict[str, State]
    marks: dict[str, RowMark]
    start_us: int | None
    give_up_us: int | None = None
    held: Mapping[str, Outputs] = field(default_factory=dict)
    given_up: dict[str, int] = field(default_factory=dict)
    _needs: dict[str, int] = field(default_factory=dict)
    _readers: dict[str, Reader] = field(default_factory=dict)
    _files: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Go on from the marks."""
        self._needs = {
            n: mark.from_us for n, mark in self.marks.items() if mark.from_us is not None
        }

    def windows(self) -> Iterator[Window]:
        """All complete windows in order; each holds about as many rows as one file has."""
        if not self.inputs:
            return
        self._extend()
        if not self.grid_us:
            alone = len(self.inputs) == 1
            yield from self._row_by_row() if alone else self._driven()
            return
        readers = self._readers
        limit = self._limit()
        start = BEGINNING_US if self.start_us is None else self.start_us
        while start < limit:
            end = limit
            for each in self.inputs:
                reader = readers[each.layer]
                while not reader.exhausted and self._reach(each, reader) <= start:
                    reader.load()
                is_due = each.is_awaited and start < self.given_up.get(each.layer, limit)
                if is_due or not reader.exhausted:
                    end = min(end, self._reach(each, reader))
            if end <= start:
                return
            yield self._window(readers, start, end)
            self.start_us = start = end

    def _extend(self) -> None:
        """Go on with the layers as they are now."""
        for each in self.inputs:
            names = (each.layer,) if each.timed_by is None else (each.layer, each.timed_by)
            for name in names:
                if name in self._readers:
                    self._readers[name].extend(self.above[name], self._length(name))
                else:
                    columns = each.columns if name == each.layer else ("last_id",)
                    self._readers[name] = self._reader(name, columns)

    def load(self) -> None:
        """Load the rows that the next windows are going to look back on."""
        self._extend()
        if self.grid_us or len(self.inputs) > 1:
            self._load_all()

    def keep_up(self) -> None:
        """Load what has come since, although no window is complete with it.

        It may have to be read from files later. There is little, or else an input is behind the
        others and it may be long until it is asked for.
        """
        reach = [self.above[each.layer].watermark_us for each in self.inputs]
        furthest = max((at for at in reach if at is not None), default=BEGINNING_US)
        if self.grid_us and self.start_us and furthest - self.start_us <= _LOADED_AHEAD_US:
            self._load_all()

    def _load_all(self) -> None:
        for reader in self._readers.values():
            while not reader.exhausted:
                reader.load()

    def _row_by_row(self) -> Iterator[Window]:
        """For a stage without a grid: the rows of its one input, as soon as they are there."""
        (each,) = self.inputs
        rows = self._parts(each.layer)
        reader: RowReader | TimedReader = RowReader(rows)
        names = [each.layer]
        if each.timed_by is not None:
            reader = TimedReader(rows, self._parts(each.timed_by))
            names.append(each.timed_by)
        reached = BEGINNING_US if self.start_us is None else self.start_us
        for frame, complete_us in reader.chunks():
            before, reached = reached, max(reached, complete_us)
            positions = dict(zip(names, reader.positions, strict=True))
            if frame.height or reached > before:
                given = Joined({each.layer: frame}, before, reached)
                yield Window(given, frame.height, partial(_as_they_are, positions))
                self.start_us = reached

    def _driven(self) -> Iterator[Window]:
        """For a stage without a grid and with several inputs: the rows of the first drive it."""
        first, *others = self.inputs
        driver = self._parts(first.layer)
        readers = {each.layer: self._readers[each.layer] for each in others}
        limit = self._limit()
        start = BEGINNING_US if self.start_us is None else self.start_us
        is_last = False
        while not is_last:
            if not driver.frame.height and not driver.exhausted:
                driver.load()
            times = driver.frame["ts"].to_numpy()
            beyond = np.flatnonzero(times > limit)
            count = int(beyond[0]) if len(beyond) else len(times)
            is_last = count < len(times) or driver.exhausted
            end = limit if is_last else max(start, int(times[:count].max()))
            if not count and end <= start:
                return
            for reader in readers.values():
                while not reader.exhausted and reader.complete_us <= end:
                    reader.load()
            rows = driver.frame.head(count)
            driver.skip(count)
            frames = {first.layer: rows} | {
                each.layer: readers[each.layer].window(self._low(each, start), end + 1)
                for each in others
            }
            given_up = {name: at for name, at in self.given_up.items() if at < end}
            release = partial(self._release_driven, driver, readers, end)
            yield Window(Joined(frames, start, end, given_up), count, release)
            self.start_us = start = end

    def _release_driven(
        self, driver: PartsReader, readers: dict[str, Reader], end: int, needs: dict[str, int]
    ) -> dict[str, int]:
        first, *others = self.inputs
        self._needs = needs
        for each in others:
            readers[each.layer].drop(needs.get(each.layer, end - each.behind_us))
        behind = {name: reader.position for name, reader in readers.items()}
        return {first.layer: driver.position, **behind}

    def _low(self, each: Input, start: int) -> int:
        return (
            start if start == BEGINNING_US else self._needs.get(each.layer, start - each.behind_us)
        )

    def _window(self, readers: dict[str, Reader], start: int, end: int) -> Window:
        frames, size = {}, 0
        for each in self.inputs:
            name, reader = each.layer, readers[each.layer]
            is_known = start < self.given_up.get(name, end)
            stop = end + each.ahead_us if is_known else self.given_up[name]
            low = self._low(each, start)
            frames[name] = reader.window(low, stop)
            new = start if start == BEGINNING_US else start + each.ahead_us
            size += (frames[name] if low == new else reader.window(new, stop)).height
        given_up = {name: at for name, at in self.given_up.items() if at <= start}
        rows = Joined(frames, start, end, given_up)
        return Window(rows, size, partial(self._release, readers, end))

    def _release(
        self, readers: dict[str, Reader], end: int, needs: dict[str, int]
    ) -> dict[str, int]:
        self._needs = needs
        for each in self.inputs:
            readers[each.layer].drop(needs.get(each.layer, end - each.behind_us))
        return {name: reader.position for name, reader in readers.items()}

    def _floor(self, us: int) -> int:
        return us // self.grid_us * self.grid_us if self.grid_us else us

    def _reach(self, each: Input, reader: Reader) -> int:
        complete = reader.complete_us
        return complete if complete == BEGINNING_US else self._floor(complete - each.ahead_us)

    def _limit(self) -> int:
        """How far the windows can go, once inputs too far behind are given up."""
        reach = {each.layer: self._end_of(each) for each in self.inputs if each.is_awaited}
        furthest = max(reach.values(), default=BEGINNING_US)
        if self.give_up_us is not None:
            bound = furthest - self.give_up_us
            self.given_up = {name: at for name, at in reach.items() if at < bound}
        return min(at for name, at in reach.items() if name not in self.given_up)

    def _end_of(self, each: Input) -> int:
        """The last cell's end that an input allows, without loading the rows before it."""
        watermark = self.above[each.layer].watermark_us
        if watermark is None:
            return BEGINNING_US
        reach = self._floor(watermark - each.ahead_us)
        if not each.cell_us:
            return reach
        return max(reach // each.cell_us * each.cell_us, each.known_us or BEGINNING_US)

    def _parts(self, name: str) -> PartsReader:
        reader = self._readers[name]
        if not isinstance(reader, PartsReader):
            raise TypeError(f"layer {name} is not Parquet")
        return reader

    def _reader(self, name: str, columns: tuple[str, ...]) -> Reader:
        layer, _ = stages.layers()[name]
        folder = self.vault.derived(layer.folder, self.instrument)
        above, mark, held = self.above[name], self.marks[name].position, self.held.get(name)
        if layer.format == "parquet":
            return PartsReader(folder, layer, above, columns, mark, held)
        if layer.format == "json":
            return DocumentReader(folder, layer, above, held)
        length = self._length(name)
        return JsonlReader(folder / layer.file, layer, above, length, columns, mark, held)

    def _length(self, name: str) -> int:
        """Committed bytes of a JSONL layer."""
        if name not in self._files:
            layer, _ = stages.layers()[name]
            path = self.vault.derived(layer.folder, self.instrument) / layer.file
            self._files[name] = self.vault.relative(path)
        return self.above[name].outputs.get(self._files[name], 0)


def _as_they_are(positions: dict[str, int], needs: dict[str, int]) -> dict[str, int]:
    del needs
    return positions
