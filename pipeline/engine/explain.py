"""Where a row comes from: the rows of every layer above it, down to bytes of raw files.

Told by time: the rows that a stage was shown for the row's own time, with as much of the past and
the future as its inputs declare. What is older stands in the stage's carry and is named, not
listed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline import stages
from pipeline.engine.codecs import FrameCodec
from pipeline.engine.parts import names, read_listed
from pipeline.engine.rawlines import RawLines, Spans, Wanted, find_lines
from pipeline.engine.reader import length_in, lines_between
from pipeline.engine.runner import Vault, read_state
from pipeline.engine.state import State
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument, contract_of
from pipeline.layers import Layer
from pipeline.stage import MINUTE_US, Input, Stage

_DAY_US = 86_400_000_000
_STAMP_US = {"s": 1_000_000, "ms": 1000}
_SPANS = {"ladder_1m": MINUTE_US}
"""Layers of events, at the beginning of the time they tell of."""
_LATEST_ONLY = ("confluence",)
"""Stages that look at the last row of each input and at no other."""

Ints = npt.NDArray[np.int64]
_Hits = dict[str, list[tuple[Ints, Spans]]]
"""By layer: rows by their numbers, and the times for which they were asked."""


@dataclass(frozen=True, slots=True)
class File:
    """Where rows stand: ranges of bytes of a JSONL file, of row numbers of a Parquet layer."""

    path: str
    unit: str
    ranges: Spans


@dataclass(slots=True)
class Source:
    """Rows of one layer, and how they were made.

    Attributes:
        times: the times that the rows tell of, microseconds.
        rows: how many rows there are.
        carried: what else went into them.
    """

    layer: str
    stage: str
    version: int
    epoch: int
    parameters: dict[str, Any]
    times: Spans
    rows: int
    files: list[File]
    carried: str
    given_up: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Raw:
    """Lines of raw files that carry the records of these times."""

    kind: str
    stage: str
    times: Spans
    lines: int
    files: list[RawLines]
    gone: list[str]


@dataclass(slots=True)
class Explanation:
    """A row, the rows it was made from by layer, nearest first, and the raw lines."""

    layer: str
    rows: list[dict[str, Any]]
    sources: list[Source]
    raw: list[Raw]


def explain(vault: Vault, instrument: Instrument, layer_name: str, at_us: int) -> Explanation:
    """Find the row of a layer that covers a time, and everything it was made from.

    Raises:
        MissingInputError: no row covers it.
    """
    return _Search(vault, instrument).run(layer_name, at_us)


@dataclass(slots=True)
class _Rows:
    """All committed rows of a layer by time; `at` is where each stands (one edge more)."""

    layer: Layer
    ts: Ints
    at: Ints
    starts: Ints
    """The times from which on they tell, where that is not `ts`."""

    @property
    def width(self) -> int:
        """How long a row's time is; for events, as exactly as its time is written."""
        layer = self.layer
        if layer.format == "json":
            return _DAY_US
        stamp = 1 if layer.format == "parquet" else _STAMP_US[layer.stamp]
        return layer.span_us or _SPANS.get(layer.name, 0) or stamp

    @property
    def ends(self) -> Ints:
        """Up to which times they tell; a document is made of days before the one it is for."""
        return self.ts if self.layer.format == "json" else self.ts + self.width

    @property
    def known(self) -> Ints:
        """When each becomes known."""
        return self.ts + max(0, self.layer.span_us - 1)


class _Search:
    """One explanation."""

    def __init__(self, vault: Vault, instrument: Instrument) -> None:
        self.vault = vault
        self.paths = vault.paths
        self.instrument = instrument
        self._states: dict[str, State | None] = {}
        self._rows: dict[str, _Rows] = {}

    def run(self, layer_name: str, at_us: int) -> Explanation:
        layer, stage = stages.layers()[layer_name]
        state = self.state(stage)
        rows = None if state is None else self.rows(layer, state)
        if state is None or rows is None or not len(rows.ts):
            message = f"{layer_name} of {self.instrument.key} has no rows"
            raise MissingInputError(message, f"flowvault {stage.name} {self.instrument.options}")
        chosen = _covering(rows, at_us)
        if not len(chosen):
            first, last = (_text(int(each)) for each in (rows.ts.min(), rows.ts.max()))
            message = f"no row of {layer_name} of {self.instrument.key} covers {_text(at_us)}"
            hint = f"flowvault tail {layer_name} {self.instrument.options}"
            raise MissingInputError(f"{message}; they are of {first} to {last}", hint)
        found = Explanation(layer_name, self.read(rows, state, chosen), [], [])
        hits: _Hits = {layer_name: [(chosen, [])]}
        for each in reversed(stages.all_stages()):
            self._visit(each, hits, found)
        return found

    def _visit(self, stage: Stage[Any, Any], hits: _Hits, found: Explanation) -> None:
        """Tell what the rows of a stage's layers were made from, and ask for that."""
        state = self.state(stage)
        raw: list[Source] = []
        updates: frozenset[int] = frozenset()
        for layer in stage.layers:
            if layer.name not in hits or state is None:
                continue
            rows = self.rows(layer, state)
            chosen = np.unique(np.concatenate([each for each, _ in hits[layer.name]]))
            asked = [span for _, spans in hits[layer.name] for span in spans]
            source = self._source(stage, layer, state, rows, chosen, asked)
            found.sources.append(source)
            if stage.raw_kind:
                raw.append(source)
                updates |= self._updates(layer, rows, state, chosen)
            else:
                self._ask(stage, layer, state, source.times, hits)
        if raw and state is not None:
            found.raw.append(self._raw(stage, state, raw, updates, hits))

    def _source(
        self,
        stage: Stage[Any, Any],
        layer: Layer,
        state: State,
        rows: _Rows,
        chosen: Ints,
        asked: Spans,
    ) -> Source:
        own = zip(rows.starts[chosen], rows.ends[chosen], strict=True)
        times = merged(asked if asked and not layer.span_us else own)
        given_up = [
            name
            for name, spans in state.given_up.items()
            if any(low < end and start < high for low, high in spans for start, end in times)
        ]
        return Source(
            layer.name,
            stage.name,
            state.code_version,
            state.epoch,
            state.params,
            times,
            len(chosen),
            self.files(rows, state, chosen),
            _carried(stage, state),
            given_up,
        )

    def _ask(
        self,
        stage: Stage[Any, Any],
        layer: Layer,
        state: State,
        times: Spans,
        hits: _Hits,
    ) -> None:
        """Note which rows of its inputs a stage was shown for these times."""
        for each in self._inputs(stage, layer, state):
            owner = stages.owner(each.layer)
            above = self.state(owner)
            if above is None:
                continue
            rows = self.rows(stages.layers()[each.layer][0], above)
            known = rows.known
            asked = merged((low - each.behind_us, high + each.ahead_us) for low, high in times)
            if each.timed_by is not None:
                chosen = self._timed(each, rows, times, hits)
            elif rows.layer.format == "json":
                first, end = times[0][0], times[-1][1]
                # the document that held at the beginning, and those that came after it
                held = int(np.searchsorted(rows.ts, first, "right")) - 1
                chosen = np.arange(max(0, held), int(np.searchsorted(rows.ts, end)))
            else:
                is_shown = np.zeros(len(known), np.bool_)
                for low, high in asked:
                    is_shown |= (known >= low) & (known < high)
                chosen = np.flatnonzero(is_shown)
            if stage.name in _LATEST_ONLY and len(chosen):
                chosen = chosen[known[chosen] == known[chosen].max()][-1:]
                asked = []
            if rows.layer.name in _SPANS or rows.layer.format == "json":
                asked = []
            if len(chosen):
                hits.setdefault(each.layer, []).append((chosen, asked))

    def _inputs(self, stage: Stage[Any, Any], layer: Layer, state: State) -> list[Input]:
        """What a stage reads for one of its layers."""
        if not stage.inputs:
            return [Input(stage.source, ())]
        carries = {}
        for name in state.upstream:
            above = self.state(stages.owner(name))
            if above is not None:
                carries[name] = above.carry
        own = {name: state.params.get(name) for name in stage.params.__struct_fields__}
        chosen = stage.chosen(msgspec.convert(own, stage.params, strict=False), carries)
        others = {each.span_us for each in stage.layers} - {layer.span_us}
        spans = {each.layer: stages.layers()[each.layer][0].span_us for each in chosen}
        # bars of another length than this layer's belong to its sisters
        return [each for each in chosen if not spans[each.layer] or spans[each.layer] not in others]

    def _timed(self, each: Input, rows: _Rows, times: Spans, hits: _Hits) -> Ints:
        """The rows without a time of their own that were given these times, and their clock."""
        layer, owner = stages.layers()[each.timed_by or ""]
        above = self.state(owner)
        state = self.state(stages.owner(each.layer))
        if above is None or state is None:
            return np.zeros(0, np.int64)
        clock = self.rows(layer, above)
        ids = np.maximum.accumulate(self.column(layer, above, "last_id"))
        reached = self.column(rows.layer, state, "reached")
        is_shown = np.zeros(len(reached), np.bool_)
        is_tick = np.zeros(len(ids), np.bool_)
        for low, high in times:
            first, end = np.searchsorted(clock.ts, [low, high])
            before = int(ids[first - 1]) if first else -1
            is_shown |= (reached > before) & (reached <= (int(ids[end - 1]) if end else -1))
            is_tick[first:end] = True
        hits.setdefault(layer.name, []).append((np.flatnonzero(is_tick), times))
        return np.flatnonzero(is_shown)

    def _raw(
        self,
        stage: Stage[Any, Any],
        state: State,
        sources: list[Source],
        updates: frozenset[int],
        hits: _Hits,
    ) -> Raw:
        """The raw lines behind rows of the layers of one stage."""
        kind = stage.raw_kind or ""
        times = merged((low, high) for each in sources for low, high in each.times if low >= 0)
        wanted = Wanted(times, updates=updates)
        if kind == "trades" and [each.layer for each in sources] == ["trades"]:
            layer = stages.layers()["trades"][0]
            chosen = np.unique(np.concatenate([each for each, _ in hits["trades"]]))
            ids = self.column(layer, state, "trade_id", str)[chosen]
            wanted.ids = Counter(ids.tolist())
        contract = contract_of(self.instrument, self.vault.table, self.vault.root)
        marks = state.raw.get(kind, [])
        found, gone = find_lines(self.paths, stage, self.instrument, contract, marks, wanted)
        return Raw(kind, stage.name, times, sum(each.lines for each in found), found, gone)

    def _updates(self, layer: Layer, rows: _Rows, state: State, chosen: Ints) -> frozenset[int]:
        """The update ids of rows that carry no time."""
        untimed = chosen[rows.ts[chosen] < 0]
        if not len(untimed):
            return frozenset()
        return frozenset(self.column(layer, state, "id")[untimed].tolist())

    # -- rows of a layer -----------------------------------------------------------------

    def state(self, stage: Stage[Any, Any]) -> State | None:
        """The committed state of a stage."""
        if stage.name not in self._states:
            path = self.paths.state(stage.name, self.instrument)
            self._states[stage.name] = read_state(path)
        return self._states[stage.name]

    def rows(self, layer: Layer, state: State) -> _Rows:
        """All committed rows of a layer."""
        if layer.name not in self._rows:
            self._rows[layer.name] = self._load(layer, state)
        return self._rows[layer.name]

    def _load(self, layer: Layer, state: State) -> _Rows:
        if layer.format == "parquet":
            ts = self.column(layer, state, "ts")
            return _Rows(layer, ts, np.arange(len(ts) + 1), ts)
        if layer.format == "json":
            found = self._documents(layer, state)
            made = [(self.paths.root / name).read_bytes() for name in found]
            days = [name[-len("2024-03-05.json") :][:10] for name in found]
            before = [msgspec.json.decode(each, type=_Made).trained_on for each in made]
            ts = np.array([_us(f"{day}T00:00:00Z") for day in days], np.int64)
            starts = [_us(f"{b or d}T00:00:00Z") for b, d in zip(before, days, strict=True)]
            return _Rows(layer, ts, np.arange(len(ts) + 1), np.array(starts, np.int64))
        lines = self._lines(layer, state, 0, None).splitlines(keepends=True)
        heads = [msgspec.json.decode(line, type=_Head) for line in lines]
        ts = np.array([_us(head.timestamp_utc) for head in heads], np.int64)
        starts = [_us(h.start_utc) if h.start_utc else us for h, us in zip(heads, ts, strict=True)]
        at = np.concatenate(([0], np.cumsum([len(line) for line in lines], dtype=np.int64)))
        return _Rows(layer, ts, at.astype(np.int64), np.array(starts, np.int64))

    def column(self, layer: Layer, state: State, name: str, kind: type = int) -> Any:
        """A column of a Parquet layer; times as microseconds, -1 where there is none."""
        folder = self.paths.derived(layer.folder, self.instrument)
        parts = state.parts.get(layer.name)
        found = [pl.Series(name, [], dtype=pl.Int64 if kind is int else pl.String)]
        for _, low, high in names(parts.rows, parts.part_rows) if parts else ():
            values = read_listed(folder, low, high, FrameCodec(), [name])[name]
            values = values.dt.timestamp("us") if values.dtype.is_temporal() else values
            found.append(values.fill_null(-1) if kind is int else values)
        return pl.concat(found).to_numpy()

    def read(self, rows: _Rows, state: State, chosen: Ints) -> list[dict[str, Any]]:
        """Rows as JSON has them."""
        layer = rows.layer
        if layer.format == "json":
            paths = [self.paths.root / self._documents(layer, state)[each] for each in chosen]
            return [msgspec.json.decode(path.read_bytes()) for path in paths]
        if layer.format == "jsonl":
            low, high = int(rows.at[chosen[0]]), int(rows.at[chosen[-1] + 1])
            data = self._lines(layer, state, low, high)
            kept = {int(rows.at[each]) - low for each in chosen}
            ends = np.cumsum([len(line) for line in data.splitlines(keepends=True)])
            starts = [0, *ends[:-1].tolist()]
            pairs = zip(starts, data.splitlines(), strict=True)
            return [msgspec.json.decode(line) for start, line in pairs if start in kept]
        folder = self.paths.derived(layer.folder, self.instrument)
        parts = state.parts[layer.name]
        found = []
        for _, low, high in names(parts.rows, parts.part_rows):
            own = chosen[(chosen >= low) & (chosen < high)]
            if len(own):
                frame = read_listed(folder, low, high, FrameCodec())[(own - low).tolist()]
                found += [msgspec.json.decode(x) for x in frame.write_ndjson().splitlines()]
        return found

    def files(self, rows: _Rows, state: State, chosen: Ints) -> list[File]:
        """Where rows stand."""
        layer = rows.layer
        if layer.format == "json":
            documents = self._documents(layer, state)
            sizes = state.outputs
            return [File(documents[i], "bytes", [(0, sizes[documents[i]])]) for i in chosen]
        folder = self.paths.derived(layer.folder, self.instrument)
        if layer.format == "jsonl":
            spans = merged(zip(rows.at[chosen], rows.at[chosen + 1], strict=True))
            return [File(self.paths.relative(folder / layer.file), "bytes", spans)]
        parts = state.parts[layer.name]
        found = []
        for name, low, high in names(parts.rows, parts.part_rows):
            own = chosen[(chosen >= low) & (chosen < high)]
            if len(own):
                spans = merged(zip(own, own + 1, strict=True))
                found.append(File(self.paths.relative(folder / name), "rows", spans))
        return found

    def _lines(self, layer: Layer, state: State, low: int, high: int | None) -> bytes:
        length = length_in(state, self.paths.root, layer, self.instrument)
        path = self.paths.derived(layer.folder, self.instrument) / layer.file
        return lines_between(path, low, length if high is None else high) if length else b""

    def _documents(self, layer: Layer, state: State) -> list[str]:
        """The files of a JSON layer, below the vault."""
        folder = self.paths.relative(self.paths.derived(layer.folder, self.instrument))
        begin = f"{folder}/{layer.name}_"
        return sorted(name for name in state.outputs if name.startswith(begin))


class _Made(msgspec.Struct):
    trained_on: str | None = None


class _Head(msgspec.Struct):
    timestamp_utc: str
    start_utc: str | None = None


def _covering(rows: _Rows, at_us: int) -> Ints:
    """The rows whose time covers this one; of events those of the last moment until then."""
    if rows.layer.span_us or rows.layer.name in _SPANS or rows.layer.format == "json":
        return np.flatnonzero((rows.ts <= at_us) & (at_us < rows.ts + rows.width))
    before = np.flatnonzero((rows.ts <= at_us) & (rows.ts >= 0))
    if not len(before):
        return before
    last: Ints = before[rows.ts[before] == rows.ts[before].max()]
    return last


_OLDER = {
    "trades": "the ids of the last {dedup_window} trades and the clock",
    "bars": "nothing older than the bar",
    "volume": "the totals of the {window} minutes before",
    "cvd": "the sums since the first trade and since midnight",
    "vwap": "the sums since midnight, and of the last 24 hours",
    "footprint": "nothing older than the minute",
    "profile": "volume by price since midnight, and of the last 24 hours",
    "wicks": "the untouched levels of the last {expiry_days} days",
    "extremes": "the half hours since midnight",
    "vpin": "the {window} buckets and {cdf_window} values before, and the volume of the day before",
    "impact": "the {window} bars before",
    "book": "the book as the last snapshot and every update since have left it",
    "bbo": "the clock and the largest update id",
    "quote": "whether there was a quote before",
    "open_interest": "the clock, and the open interest of the row before",
    "liquidations": "the clock",
    "ratio": "the clock",
    "positions": "the clock",
    "tape": "the clock and the last {dedup_window} trades",
    "classify": "the last quote, the last price and tick, and the day's sums",
    "metrics_daily": "the day's bars, the volumes of {vpin_days} days, the bars of {lambda_days}",
    "whale_alerts": "the clock, and the last {dedup_window} ids",
}
"""What goes into a row besides the rows of its own time."""


def _carried(stage: Stage[Any, Any], state: State) -> str:
    """What went into a row besides the rows of its own time, in one line."""
    fields = ", ".join(stage.carry.__struct_fields__)
    if stage.name in _OLDER:
        words = [f"what the stage carried: {_OLDER[stage.name].format(**state.params)}"]
    else:
        words = [f"what the stage carried: {fields}"] if fields else []
    again = [name for name, mark in state.upstream.items() if mark.from_us is not None]
    if again:
        words.append(f"older rows of {', '.join(again)} that it looks back on")
    return "; ".join(words) or "nothing from before"


def merged(spans: Any) -> Spans:
    """Ranges in order, those that touch or overlap as one."""
    found: Spans = []
    for low, high in sorted((int(a), int(b)) for a, b in spans):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _us(text: str) -> int:
    stamp = datetime.fromisoformat(text)
    return round(stamp.timestamp() * 1_000_000)


def _text(us: int) -> str:
    return str(np.datetime64(us, "us").astype("datetime64[s]")) + "Z"
