"""Where a stage's new rows come from: raw files, one layer row by row, or a join of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine.ahead import ahead
from pipeline.engine.codecs import codec_of
from pipeline.engine.feed import RawFeed
from pipeline.engine.join import Join, Window
from pipeline.engine.outputs import Outputs
from pipeline.engine.parts import read_rows
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import FileMark, State, ahead_of
from pipeline.errors import MissingInputError
from pipeline.instrument import EQUITIES, Contract, Instrument
from pipeline.stage import Closed, Stage


@dataclass(frozen=True, slots=True)
class Batch:
    """New input rows with the watermark behind them; `advance` moves a state past them."""

    rows: Any
    watermark_us: int | None
    size: int
    advance: Callable[[State, Closed[Any]], None]


def raw_feed(
    stage: Stage[Any, Any],
    instrument: Instrument,
    vault: VaultPaths,
    state: State,
    hint: str,
    *,
    is_rebuild: bool,
) -> RawFeed:
    """The raw lines of a stage, from where its state has got to.

    Rows of other stages may be ahead of it. Those that stay when it is run must find again what
    they were made from.

    Raises:
        MissingInputError: there is no such raw folder and never was.
    """
    kind = stage.raw_kind or ""
    folder = vault.raw(instrument, kind)
    marks = state.raw.get(kind, [])
    if not folder.is_dir() and not marks:
        message = f"{instrument.key}: no raw {kind} at {folder}"
        raise MissingInputError(message, "flowvault status")
    own = [msgspec.structs.replace(mark) for mark in marks]
    paths = () if is_rebuild else (vault.state(name, instrument) for name in stages.SUMMARY)
    stood_on = [marks for path in paths if (marks := ahead_of(path, stage.name, state.epoch))]
    is_tape = instrument.market == EQUITIES
    return RawFeed(folder, vault.root, hint, own, tells_ends=is_tape, stood_on=stood_on)


def raw_batches(
    feed: RawFeed,
    stage: Stage[Any, Any],
    instrument: Instrument,
    contract: Contract,
    state: State,
) -> Iterator[Batch]:
    """Decoded blocks of the raw lines that are new.

    Raises:
        DataError: a raw file is not what it was.
    """
    kind, decode = stage.raw_kind or "", stage.decode
    if decode is None:
        raise TypeError(f"stage {stage.name} reads raw {kind} and does not say how")
    blocks = feed.blocks()
    for rows, after in ahead(lambda block: decode(block, instrument, contract), blocks):
        yield Batch(rows, None, rows.records, partial(_set_marks, kind, after))
    state.raw[kind] = feed.snapshot()


def streamed_batches(
    stage: Stage[Any, Any],
    instrument: Instrument,
    vault: VaultPaths,
    state: State,
    above: State,
    held: Outputs | None = None,
) -> Iterator[Batch]:
    """The new rows of the one Parquet layer that a stage reads, in the layer's order.

    `held` is what the stage above holds in memory, where that is open too.
    """
    source = stage.source
    layer, _ = stages.layers()[source]
    codec, columns = codec_of(source)
    folder = vault.derived(layer.folder, instrument)
    listing, clock = above.parts[source], state.watermark_us
    position = state.upstream[source].position
    known = None if held is None else partial(held.held, source)
    for rows, _ in read_rows(folder, listing, position, codec, columns, known):
        for run in codec.runs(rows):
            reached = position + codec.height(run)
            if reached == listing.rows:
                clock = above.watermark_us
            else:
                newest = codec.newest_us(run) - above.lateness_us
                clock = max(newest, clock or newest)
            yield Batch(run, clock, reached - position, partial(_set_position, source, reached))
            position = reached


def joined_batches(join: Join) -> Iterator[Batch]:
    """The windows of a join that are complete now."""
    for window in join.windows():
        rows = window.rows
        yield Batch(rows, rows.end_us, window.size, partial(_move_on, window))


def _set_marks(kind: str, marks: list[FileMark], state: State, closed: Closed[Any]) -> None:
    del closed
    state.raw[kind] = marks


def _set_position(source: str, position: int, state: State, closed: Closed[Any]) -> None:
    del closed
    state.upstream[source].position = position


def _move_on(window: Window, state: State, closed: Closed[Any]) -> None:
    for name, position in window.release(closed.needs).items():
        mark = state.upstream[name]
        mark.position, mark.from_us = position, closed.needs.get(name)
    for name, at in window.rows.given_up.items():
        spans = state.given_up.setdefault(name, [])
        if spans and spans[-1][1] >= at:
            spans[-1] = (spans[-1][0], window.rows.end_us)
        else:
            spans.append((at, window.rows.end_us))
