"""Committed rows, as a reader should see them: to the committed length and not a byte further."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl

from pipeline.engine.codecs import FrameCodec
from pipeline.engine.documents import documents_in
from pipeline.engine.parts import read_rows
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import State, read_state
from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.stage import Stage

_CHUNK = 1 << 16


def committed_length(vault: Path, layer: Layer, stage_name: str, instrument: Instrument) -> int:
    """Committed bytes of a JSONL layer, rows of a Parquet layer, documents of a JSON layer."""
    state = read_state(VaultPaths(vault).state(stage_name, instrument))
    return 0 if state is None else length_in(state, vault, layer, instrument)


def length_in(state: State, vault: Path, layer: Layer, instrument: Instrument) -> int:
    """The same, from a state at hand."""
    paths = VaultPaths(vault)
    if layer.format == "parquet":
        parts = state.parts.get(layer.name)
        return 0 if parts is None else parts.rows
    if layer.format == "json":
        mark = state.layers.get(layer.name)
        return 0 if mark is None else mark.rows
    relative = paths.relative(paths.derived(layer.folder, instrument) / layer.file)
    return state.outputs.get(relative, 0)


def last_lines(path: Path, end: int, count: int) -> list[bytes]:
    """The last `count` lines of a file's first `end` bytes."""
    if count <= 0 or not end:
        return []
    data, start = b"", end
    with path.open("rb") as stream:
        while start and data.count(b"\n") <= count:
            size = min(_CHUNK, start)
            start -= size
            stream.seek(start)
            data = stream.read(size) + data
    return data.splitlines(keepends=True)[-count:]


def lines_between(path: Path, start: int, end: int) -> bytes:
    """Bytes [start, end) of a file."""
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read(end - start)


def last_documents(folder: Path, state: State, layer: Layer, count: int) -> list[bytes]:
    """The last documents of a JSON layer, each as one line."""
    chosen = list(documents_in(state.outputs, layer))[-count:] if count else []
    return [msgspec.json.format((folder / name).read_bytes(), indent=-1) + b"\n" for name in chosen]


def last_frame(folder: Path, state: State, layer: Layer, count: int) -> pl.DataFrame:
    """The last `count` committed rows of a Parquet layer."""
    parts = state.parts.get(layer.name)
    if parts is None or not parts.rows:
        return pl.DataFrame()
    first = max(0, parts.rows - count)
    return pl.concat(
        [rows for rows, _ in read_rows(folder, parts, first, FrameCodec(), columns=None)]
    )


def find_layer(name: str) -> tuple[Layer, Stage] | None:  # type: ignore[type-arg]
    """A layer by its own name or by its stage's (then the stage's first layer)."""
    from pipeline import stages  # noqa: PLC0415

    found = stages.layers().get(name)
    if found is None and name in stages.SUMMARY:
        stage = stages.load(name)
        found = (stage.layers[0], stage)
    return found
