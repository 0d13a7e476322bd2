"""Daily layers of tapes as tables read them: the committed rows of all instruments together."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec
import polars as pl

from pipeline import stages
from pipeline.engine.codecs import FrameCodec, polars_type
from pipeline.engine.parts import names, read_rows
from pipeline.engine.paths import VaultPaths
from pipeline.engine.shelf import as_it_is, digest_of
from pipeline.engine.state import Parts, read_state
from pipeline.engine.tablestate import SourceMark
from pipeline.instrument import Instrument
from pipeline.tables.frames import TAPE_STAGES

_TRIES = 20


class StageLayer:
    """A Parquet layer that a stage writes for each of its instruments."""

    def __init__(self, vault: Path, name: str) -> None:
        self.paths = VaultPaths(vault)
        self.stage = stages.load(TAPE_STAGES[name])
        self.layer = next(each for each in self.stage.layers if each.name == name)

    @cached_property
    def _parts(self) -> list[tuple[Instrument, Parts]]:
        """What each instrument has, in order."""
        found = []
        for path in self.states():
            place = path.parent
            inst_id = path.name.removesuffix(".state.json")
            state = read_state(path)
            parts = state.parts.get(self.layer.name) if state is not None else None
            if parts is not None and parts.rows:
                found.append((Instrument(place.parent.name, place.name, inst_id), parts))
        return found

    def states(self) -> list[Path]:
        """The state files of its stage."""
        return sorted((self.paths.root / "state" / self.stage.name).glob("*/*/*.state.json"))

    def digest(self, seen: dict[str, SourceMark]) -> tuple[str, int]:
        """A digest of all rows and their number; files that look the same are not opened again.

        A run of the stage may replace a file while this looks at it; then all is looked up again.
        """
        for attempt in range(_TRIES):
            try:
                return self._digest(seen)
            except FileNotFoundError:
                if attempt == _TRIES - 1:
                    raise
                del self._parts
        raise AssertionError

    def _digest(self, seen: dict[str, SourceMark]) -> tuple[str, int]:
        digests, rows, now = [], 0, {}
        for instrument, parts in self._parts:
            folder = self.paths.derived(self.layer.folder, instrument)
            rows += parts.rows
            for name, _, _ in names(parts):
                path = as_it_is(folder / name)
                key, stat = self.paths.relative(folder / name), path.stat()
                mark = seen.get(key)
                if mark is None or (stat.st_size, stat.st_mtime_ns) != (mark.size, mark.mtime_ns):
                    content = digest_of(path.read_bytes())
                    mark = SourceMark(name, stat.st_size, stat.st_mtime_ns, content)
                now[key] = mark
                digests.append((key, mark.digest))
        prefix = f"derived/{self.layer.folder}/"
        for key in [key for key in seen if key.startswith(prefix)]:
            del seen[key]
        seen.update(now)
        return digest_of(msgspec.json.encode(digests)) if digests else "", rows

    def rows(self) -> pl.LazyFrame:
        """All rows, each with the instrument as `symbol`."""
        columns = {c.name: polars_type(c.dtype) for c in self.layer.columns}
        frames = [pl.DataFrame(schema=columns).with_columns(symbol=pl.lit("", pl.String))]
        for instrument, parts in self._parts:
            folder = self.paths.derived(self.layer.folder, instrument)
            symbol = pl.lit(instrument.inst_id).alias("symbol")
            for part, _ in read_rows(folder, parts, 0, FrameCodec(), columns=None):
                frames.append(part.select(*columns).with_columns(symbol))
        return pl.concat(frames).lazy()
