"""Where a row comes from: the rows of every layer above it, down to bytes of raw files.

Which rows those are is what stages say of themselves (`pipeline.reach`): of their own time, and as
far back as what they carry goes. Work grows with what a row was made from and not with what else
there is; what goes back to a layer's first row is told as a range and not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from pipeline import stages
from pipeline.engine.part_places import PartPlaces
from pipeline.engine.places import File, Places
from pipeline.engine.rawlines import Names, RawLines, Wanted, find_lines, looked_into
from pipeline.engine.rawrecords import RawFiles
from pipeline.engine.snapshots import replay_of
from pipeline.engine.spans import Spans, common, merged, total
from pipeline.engine.state import State
from pipeline.engine.trace import Ask, Trace
from pipeline.engine.vault import Vault
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument, contract_of
from pipeline.layers import Layer
from pipeline.stage import Stage

_EACH = 2_000_000
"""Up to so many trades are looked for by their ids; of more, repeated ids are left out."""


@dataclass(frozen=True, slots=True)
class Why:
    """That a layer looks at rows: which of its own do, and how far they look."""

    layer: str
    reach: str
    note: str = ""


@dataclass(slots=True)
class Source:
    """Rows of one layer, and how they were made.

    Attributes:
        times: the times that the rows tell of, microseconds.
        rows: how many there are; None where they were not counted.
        why: for which layers.
    """

    layer: str
    stage: str
    version: int
    epoch: int
    parameters: dict[str, Any]
    times: Spans
    rows: int | None
    files: list[File]
    why: list[Why]
    given_up: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Raw:
    """Lines of raw files.

    Attributes:
        times: event times of the records.
        lines: how many; None where files were not read.
        gone: files that had been read and are there no more.
    """

    kind: str
    stage: str
    times: Spans
    lines: int | None
    files: list[RawLines]
    gone: list[str]
    why: list[Why]


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
        MissingInputError: no row covers it, or what it was made from is not committed yet.
    """
    layer, stage = stages.layers()[layer_name]
    trace = Trace(vault, instrument)
    places = trace.places(layer)
    if places is None:
        message = f"{layer_name} of {instrument.key} has no rows"
        raise MissingInputError(message, f"flowvault {stage.name} {instrument.options}")
    chosen = places.covering(at_us)
    if not chosen:
        first, last = (_text(each) for each in _ends(places))
        message = f"no row of {layer_name} of {instrument.key} covers {_text(at_us)}"
        hint = f"flowvault tail {layer_name} {instrument.options}"
        raise MissingInputError(f"{message}; they are of {first} to {last}", hint)
    _check_all_there(trace, stage, max(places.stretch(span)[1] for span in chosen))
    found = Explanation(layer_name, places.rows(chosen), [], [])
    for owner, each in trace.follow(layer_name, chosen):
        found.sources.append(_source(trace, owner, each))
    for owner in reversed(stages.all_stages()):
        if owner.name in trace.raw:
            found.raw.append(_raw(trace, owner))
    return found


def _check_all_there(trace: Trace, stage: Stage[Any, Any], end_us: int) -> None:
    """Refuse rows that `flowvault follow` has committed before those they were made from."""
    state = trace.state(stage)
    if state is None or not stage.grid_us:
        return
    lost = [high for spans in state.given_up.values() for _, high in spans]
    awaited = {each.layer for each in stage.inputs if each.is_awaited}
    for name in awaited & state.upstream.keys():
        above = trace.state(stages.owner(name))
        reached = -1 if above is None or above.watermark_us is None else above.watermark_us
        if reached < end_us and max(lost, default=0) < end_us:
            message = f"what this row was made from is not committed yet: {name} lies behind"
            hint = f"wait until it is, or: flowvault run {trace.instrument.options}"
            raise MissingInputError(message, hint)


def _source(trace: Trace, stage: Stage[Any, Any], layer: Layer) -> Source:
    """What is told of the rows of one layer."""
    state, places = _there(trace, stage, layer)
    spans = trace.spans(layer.name)
    times = [each for each in merged(places.stretch(span) for span in spans) if each[1] > 0]
    given_up = [
        name
        for name, lost in state.given_up.items()
        if any(low < end and start < high for low, high in lost for start, end in times)
    ]
    return Source(
        layer.name,
        stage.name,
        state.code_version,
        state.epoch,
        state.params,
        times,
        places.count(spans),
        places.files(spans),
        _why(trace.asks[layer.name]),
        given_up,
    )


def _there(trace: Trace, stage: Stage[Any, Any], layer: Layer) -> tuple[State, Places]:
    state, places = trace.state(stage), trace.places(layer)
    if state is None or places is None:
        raise LookupError(layer.name)
    return state, places


def _why(asks: list[Ask]) -> list[Why]:
    found = [Why(each.by, each.reach.words, each.reach.note) for each in asks if each.reach]
    return list(dict.fromkeys(found))


def _raw(trace: Trace, stage: Stage[Any, Any]) -> Raw:
    """The raw lines behind rows of the layers of one stage."""
    state = trace.state(stage)
    if state is None:
        raise LookupError(stage.name)
    instrument, kind = trace.instrument, stage.raw_kind or ""
    contract = contract_of(instrument, trace.vault.table, trace.paths.root)
    marks = state.raw.get(kind, [])
    files = RawFiles(trace.paths, stage, instrument, contract, marks)
    asks = trace.raw[stage.name]
    found, gone = find_lines(files, _wanted(trace, stage, files, asks))
    counts = [each.lines for each in found]
    lines = None if None in counts else sum(each for each in counts if each is not None)
    times = merged((max(0, low), high) for ask in asks for low, high in ask.spans)
    return Raw(kind, stage.name, times, lines, found, gone, _why(asks))


def _wanted(trace: Trace, stage: Stage[Any, Any], files: RawFiles, asks: list[Ask]) -> Wanted:
    """Which records of a feed are looked for."""
    own = [ask for ask in asks if ask.reach and not ask.reach.is_replay]
    replayed = [span for ask in asks if ask.reach and ask.reach.is_replay for span in ask.spans]
    wanted = Wanted(merged((max(0, low), high) for ask in own for low, high in ask.spans))
    wanted.is_led = any(ask.reach is not None and ask.reach.before > 0 for ask in own)
    if replayed:
        times = merged(replayed)
        wanted.replay = replay_of(files, times[0][0], times[-1][1])
    for layer in stage.layers:
        places = trace.places(layer)
        if layer.name not in trace.asks or not isinstance(places, PartPlaces):
            continue
        spans, names = trace.spans(layer.name), {column.name for column in layer.columns}
        if "trade_id" in names:
            read = looked_into(files, wanted.times)
            near = merged(span for low, high in read for span in places.between(low, high))
            wanted.ids = _ids(places, common(spans, near))
        elif "reached" in names:
            _add_untimed(trace, places, spans, wanted)
    return wanted


def _ids(places: PartPlaces, spans: Spans) -> Names | None:
    """The ids of trades, if they are not too many."""
    if total(spans) > _EACH:
        return None
    columns = [places.frame(span, ("trade_id",))["trade_id"] for span in spans]
    return Names(pl.concat([pl.Series(dtype=pl.String), *columns]))


def _add_untimed(trace: Trace, places: PartPlaces, spans: Spans, wanted: Wanted) -> None:
    """Quotes that carry no time are looked for by their ids, near the time they were given."""
    frames = [places.frame(span, ("ts", "id")) for span in spans]
    ids = [frame.filter(frame["ts"].is_null())["id"].drop_nulls().to_list() for frame in frames]
    wanted.updates = frozenset(each for column in ids for each in column)
    timed = trace.places(stages.layers()["quote"][0])
    if wanted.updates and timed is not None:
        inside = [(low, min(high, timed.size)) for low, high in spans if low < timed.size]
        wanted.near = merged(timed.stretch(span) for span in inside)


def _ends(places: Places) -> tuple[int, int]:
    """The times of the first and the last row."""
    edges = (places.row_at(0), places.row_at(places.size - 1))
    first, last = (int(places.stamps(each)[0]) for each in edges)
    return first, last


def _text(us: int) -> str:
    return str(np.datetime64(us, "us").astype("datetime64[s]")) + "Z"
