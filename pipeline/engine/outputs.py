"""All that one stage writes for one instrument, committed as one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipeline.engine import disk
from pipeline.engine.codecs import codec_of
from pipeline.engine.disk import Unsynced
from pipeline.engine.jsonl import JsonlOutput
from pipeline.engine.parts import PartsOutput
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rows import encode_document, encode_reject, encode_rows
from pipeline.engine.state import LayerMark, Parts, State
from pipeline.errors import StateError
from pipeline.instrument import Instrument
from pipeline.raw.block import Reject
from pipeline.stage import Stage


class Outputs:
    """The files of a stage, below `base` (the vault, or the folder of a rebuild)."""

    def __init__(
        self,
        base: Path,
        instrument: Instrument,
        stage: Stage[Any, Any],
        state: State,
        hint: str,
        encoder: Executor | None = None,
    ) -> None:
        self.base = base
        self.instrument = instrument
        self._marks = {name: msgspec.structs.replace(m) for name, m in state.layers.items()}
        self._hint = hint
        self._paths = VaultPaths(base)
        self._layers = {layer.name: layer for layer in stage.layers}
        self._raw_kind = stage.raw_kind or ""
        self._jsonl: dict[str, JsonlOutput] = {}
        self._by_path: dict[Path, JsonlOutput] = {}
        self._rows: dict[str, JsonlOutput] = {}
        self._parts: dict[str, PartsOutput[Any]] = {}
        for relative, length in state.outputs.items():
            self._jsonl[relative] = JsonlOutput(base / relative, length)
        for layer in stage.layers:
            folder = self._paths.derived(layer.folder, instrument)
            if layer.format == "parquet":
                committed = state.parts.get(layer.name) or Parts(
                    0, layer.part_rows, piece_rows=layer.piece_rows
                )
                codec = codec_of(layer.name)[0]
                self._parts[layer.name] = PartsOutput(folder, committed, codec, encoder)
            elif layer.format == "jsonl":
                self._rows[layer.name] = self._file(folder / layer.file)

    def recover(self) -> None:
        """Bring the files to what the state says, or find that this cannot be done.

        Raises:
            StateError: committed rows are missing on disk.
        """
        try:
            for output in self._jsonl.values():
                output.check()
            for parts in self._parts.values():
                parts.recover()
        except StateError as error:
            raise StateError(error.message, self._hint) from error

    def add(self, rows: dict[str, Any], rejects: Sequence[Reject]) -> int:
        """Take closed rows and rejected lines, uncommitted; returns how many rows there were.

        Gaps are notes beside the rows and are not counted.
        """
        count = 0
        for name, new in rows.items():
            if new is None:
                continue
            layer = self._layers[name]
            mark = self._marks.setdefault(name, LayerMark())
            if layer.format == "parquet":
                height = self._parts[name].append(new)
                mark.last_us = codec_of(name)[0].last_us(new) if height else mark.last_us
            elif layer.format == "json":
                folder, height = self._paths.derived(layer.folder, self.instrument), len(new)
                for name_and_text in (encode_document(layer, row) for row in new):
                    self._file(folder / name_and_text[0]).append(name_and_text[1])
                mark.last_us = new[-1][0] if new else mark.last_us
            else:
                self._rows[name].append(encode_rows(layer, self.instrument, new))
                height = len(new)
                mark.last_us = new[-1][0] if new else mark.last_us
            mark.rows += height
            count += 0 if layer.folder == "gaps" else height
        for reject in rejects:
            folder = self._paths.quarantine(self.instrument, self._raw_kind)
            self._file(folder / f"{reject.day}.jsonl").append(encode_reject(reject))
        return count

    @property
    def is_dirty(self) -> bool:
        """Whether anything waits for a commit."""
        files = any(output.is_dirty for output in self._jsonl.values())
        return files or any(parts.is_dirty for parts in self._parts.values())

    def note(self, state: State) -> None:
        """Say in a state what there will be once everything is written."""
        for relative, output in sorted(self._jsonl.items()):
            if output.end:
                state.outputs[relative] = output.end
        for name, parts in self._parts.items():
            state.parts[name] = parts.listing(parts.rows)
        state.layers = {name: msgspec.structs.replace(m) for name, m in self._marks.items()}

    def encode(self) -> list[Future[bytes]]:
        """Begin to make the bytes of Parquet files, where there is an encoder."""
        return [future for parts in self._parts.values() for future in parts.encode()]

    def write(self, state: State, unsynced: Unsynced) -> None:
        """Write everything and note it in the state that is about to be committed."""
        self.note(state)
        for _, output in sorted(self._jsonl.items()):
            is_first = not output.length
            if output.write(unsynced) and is_first:
                disk.sync_path(output.path.parent, self.base)
        for parts in self._parts.values():
            is_first = not parts.committed
            parts.write(unsynced)
            if is_first and parts.rows:
                disk.sync_path(parts.folder, self.base)

    def publish(self, unsynced: Unsynced) -> None:
        """After the commit."""
        for parts in self._parts.values():
            parts.publish(unsynced)

    def close(self) -> None:
        """Wait for files that are still being written, whatever has become of them."""
        for parts in self._parts.values():
            parts.close()

    def last_rows(self, layer: str, count: int) -> Any:
        """The last rows of a Parquet layer, committed or not."""
        return self._parts[layer].last_rows(count)

    def load(self) -> None:
        """Bring into memory what the next rows are put behind."""
        for parts in self._parts.values():
            parts.load()

    def held(self, layer: str, first: int, end: int) -> Any:
        """Rows of a Parquet layer, committed or not; None if they have to be read from a file."""
        return self._parts[layer].held(first, end)

    def public(self, layer: str, first: int, end: int) -> pl.DataFrame | None:
        """The same as a file's columns."""
        rows = self._parts[layer].held(first, end)
        return None if rows is None else codec_of(layer)[0].to_public(rows)[0]

    def read(self, path: Path, start: int, end: int) -> bytes:
        """Bytes of a JSONL layer or of a document, committed or not."""
        return self._file(path).read(start, end)

    def _file(self, path: Path) -> JsonlOutput:
        found = self._by_path.get(path)
        if found is None:
            relative = path.relative_to(self.base).as_posix()
            found = self._jsonl.setdefault(relative, JsonlOutput(path, 0))
            self._by_path[path] = found
        return found
