"""A vault in a folder, driven in the test's own process, and what can be seen of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import stages
from pipeline.engine import disk, feed, stage_run
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.presence import has_data
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.runner import run_stage, run_stages
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.stage import Stage

from .feedstock import SWAP
from .tape import TAPE

AnyStage = Stage[Any, Any]
Tree = dict[str, bytes]

GENERATED_KINDS = frozenset(
    (
        *("trades", "books", "quotes", "positions"),
        *("open_interest", "liquidations", "ratio", "whale_alerts"),
    )
)
"""Kinds of raw data that `feedstock`, `feeds`, `context` and `tape` make."""


def root_kinds(stage: AnyStage) -> set[str]:
    """The kinds of raw data at the heads of a stage's chains."""
    if stage.raw_kind:
        return {stage.raw_kind}
    return {kind for above in stages.upstreams(stage) for kind in root_kinds(above)}


def chain() -> list[AnyStage]:
    """The stages whose raw data can be made here, in the order in which they run."""
    return [stage for stage in stages.all_stages() if root_kinds(stage) <= GENERATED_KINDS]


def home(stage: AnyStage) -> Instrument:
    """The instrument on which a stage is tried by itself."""
    return SWAP if SWAP.market in stage.markets else TAPE


@dataclass(frozen=True)
class Grain:
    """How finely the engine works: sizes of blocks, of commits and of Parquet files.

    What does not fill a file of `part_rows` stands in pieces, of a third of that if nothing is
    said.
    """

    block_bytes: int | None = None
    commit_rows: int | None = None
    part_rows: int | None = None
    piece_rows: int | None = None


@contextmanager
def grain(fine: Grain) -> Iterator[None]:
    """Run with other sizes than the usual ones."""
    with pytest.MonkeyPatch.context() as patch:
        if fine.block_bytes is not None:
            patch.setattr(feed, "BLOCK_BYTES", fine.block_bytes)
        if fine.commit_rows is not None:
            patch.setattr(stage_run, "COMMIT_ROWS", fine.commit_rows)
        with part_sizes(fine.part_rows, fine.piece_rows):
            yield


@contextmanager
def part_sizes(part_rows: int | None, piece_rows: int | None = None) -> Iterator[None]:
    """Write Parquet files of other sizes than the usual ones."""
    layers = [layer for layer, _ in stages.layers().values()]
    old = [(layer.part_rows, layer.piece_rows) for layer in layers]
    try:
        if part_rows is not None:
            for layer in layers:
                _set_sizes(layer, part_rows, piece_rows or max(1, part_rows // 3))
        yield
    finally:
        for layer, sizes in zip(layers, old, strict=True):
            _set_sizes(layer, *sizes)


def _set_sizes(layer: Layer, part_rows: int, piece_rows: int) -> None:
    object.__setattr__(layer, "part_rows", part_rows)
    object.__setattr__(layer, "piece_rows", piece_rows)


@contextmanager
def unsynced() -> Iterator[None]:
    """Without fsync: these tests are about bytes, not about power cuts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk, "sync", lambda _path, _handle=None: None)
        patch.setattr(disk, "sync_dir", lambda _path: None)
        yield


class World:
    """One instrument in a vault of its own, with all stages or some of them."""

    def __init__(
        self, root: Path, instrument: Instrument, wanted: list[AnyStage] | None = None
    ) -> None:
        self.root = root
        fitting = [stage for stage in chain() if instrument.market in stage.markets]
        self.chain = fitting if wanted is None else wanted
        self.instrument = instrument
        self.raw = VaultPaths(root).raw(instrument, "trades")
        self.raw.mkdir(parents=True)

    # -- raw ---------------------------------------------------------------

    def put(self, content: Mapping[str, bytes]) -> None:
        """Make the raw day files be exactly this."""
        for name, data in content.items():
            self.file(name).write_bytes(data)

    def file(self, name: str) -> Path:
        """The raw file of a day of trades, or of "kind/day"."""
        kind, _, day = name.rpartition("/")
        folder = VaultPaths(self.root).raw(self.instrument, kind or "trades")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{day}.jsonl"

    def grow(self, content: Mapping[str, bytes], start: int, end: int) -> None:
        """Append bytes [start, end) of all there are; every feed gets its share of them.

        A feed's days are put behind each other; it has a byte at least from the beginning on.
        """
        total = sum(map(len, content.values()))
        for kind, size in sizes(content).items():
            low, high = (
                0 if at == 0 else max(1, size * at // total) for at in (start, min(end, total))
            )
            self.grow_feed(content, kind, low, high)

    def grow_feed(self, content: Mapping[str, bytes], kind: str, start: int, end: int) -> None:
        """Append bytes [start, end) of one feed, its days put behind each other."""
        at = 0
        for name, data in content.items():
            if kind_of(name) != kind:
                continue
            low, high = max(0, start - at), min(len(data), end - at)
            if low < high:
                with self.file(name).open("ab") as stream:
                    stream.write(data[low:high])
            at += len(data)

    def settings(self, text: str) -> None:
        """Write `flowvault.toml`."""
        (self.root / "flowvault.toml").write_text(text, encoding="utf-8")

    # -- runs --------------------------------------------------------------

    def run(self) -> dict[str, Summary]:
        """Bring every stage up to date, as a new process would.

        Raises:
            FlowvaultError: the first that a stage ends with.
        """
        found = {}
        for done in run_stages(Vault.open(self.root), self.chain, self.instrument):
            if isinstance(done, FlowvaultError):
                raise done
            found[done.stage] = done
        missing = {s.name for s in self.chain if self.has_input(s)} - set(found)
        assert not missing, missing
        return found

    def has_input(self, stage: AnyStage) -> bool:
        """Whether there is anything that the stage can read; joined ones may have to wait."""
        paths = VaultPaths(self.root)
        return not stage.inputs and all(
            any(paths.raw(self.instrument, kind).glob("*.jsonl*")) for kind in root_kinds(stage)
        )

    def run_each(self) -> dict[str, Summary]:
        """The same, one stage after another, as with `--stage NAME --no-upstream`."""
        paths = VaultPaths(self.root)
        return {s.name: self.run_one(s) for s in self.chain if has_data(paths, s, self.instrument)}

    def run_one(self, stage: AnyStage) -> Summary:
        """Bring one stage up to date."""
        return run_stage(Vault.open(self.root), stage, self.instrument)

    def rebuild(
        self, name: str | None = None, *, allow_missing: bool = False
    ) -> dict[str, Summary]:
        """Rebuild a stage and all that read it, or everything."""
        wanted = self.chain if name is None else stages.with_downstream(name)
        vault = Vault.open(self.root)
        return {
            s.name: rebuild_stage(vault, s, self.instrument, allow_missing=allow_missing)
            for s in wanted
            if s in self.chain and has_data(vault.paths, s, self.instrument)
        }

    # -- looking -----------------------------------------------------------

    def tree(self, *tops: str) -> Tree:
        """Every file below some folders of the vault, lock files aside."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self._files(tops or ("derived", "quarantine"))
        }

    def stamps(self) -> dict[str, tuple[int, int, bytes]]:
        """Identity, time of change and content of every file the pipeline writes."""
        found = {}
        for path in self._files(("derived", "quarantine", "state")):
            stat = path.stat()
            found[path.relative_to(self.root).as_posix()] = (
                stat.st_ino,
                stat.st_mtime_ns,
                path.read_bytes(),
            )
        return found

    def _files(self, tops: tuple[str, ...]) -> list[Path]:
        found = []
        for top in tops:
            for folder, _, names in os.walk(self.root / top):
                found += [Path(folder, n) for n in names if not n.endswith(".lock")]
        return sorted(found)

    def state(self, stage: AnyStage) -> states.State:
        """The committed state of a stage."""
        state, warning = states.load(VaultPaths(self.root).state(stage.name, self.instrument))
        assert state is not None
        assert warning is None
        return state

    def folder(self, layer: Layer) -> Path:
        """Where a layer's files lie."""
        return VaultPaths(self.root).derived(layer.folder, self.instrument)

    def lines(self, layer: Layer) -> list[bytes]:
        """The rows of a JSONL layer."""
        path = self.folder(layer) / layer.file
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    def frame(self, layer: Layer) -> pl.DataFrame:
        """The rows of a Parquet layer."""
        parts = sorted(self.folder(layer).glob("*.parquet"))
        return pl.concat([pl.read_parquet(part) for part in parts]) if parts else pl.DataFrame()

    def rows(self, layer: Layer) -> list[Any]:
        """The rows of any layer."""
        return self.lines(layer) if layer.format == "jsonl" else self.frame(layer).rows()


def kind_of(name: str) -> str:
    """The feed of a file of a stock's content."""
    return name.rpartition("/")[0] or "trades"


def sizes(content: Mapping[str, bytes]) -> dict[str, int]:
    """The bytes of each feed."""
    found: dict[str, int] = {}
    for name, data in content.items():
        found[kind_of(name)] = found.get(kind_of(name), 0) + len(data)
    return found


def only(tree: Tree, stage: AnyStage) -> Tree:
    """What one stage has written: its derived files, and the quarantine if it reads raw data."""
    files = {f"derived/{e.folder}/": e.file if e.format == "jsonl" else "" for e in stage.layers}
    found: Tree = {}
    for path, data in tree.items():
        if stage.raw_kind and path.startswith("quarantine/"):
            if path.split("/")[2].startswith(stage.raw_kind):
                found[path] = data
        elif any(path.startswith(top) and path.endswith(file) for top, file in files.items()):
            found[path] = data
    return found


def difference(found: Tree, wanted: Tree) -> str:
    """The first thing in which two trees differ, for a message; empty if they are equal."""
    for path in sorted({*found, *wanted}):
        mine, theirs = found.get(path), wanted.get(path)
        if mine == theirs:
            continue
        if mine is None or theirs is None:
            return f"{path} is {'missing' if mine is None else 'not wanted'}"
        if path.endswith(".parquet"):
            return f"{path}: other bytes"
        pairs = zip(mine.splitlines(), theirs.splitlines(), strict=False)
        for number, (a, b) in enumerate(pairs):
            if a != b:
                return f"{path} line {number}:\n  got    {a!r}\n  wanted {b!r}"
        return f"{path}: {len(mine)} bytes for {len(theirs)}"
    return ""


def assert_same(found: World, wanted: World) -> None:
    """Equal derived and quarantine trees."""
    message = difference(found.tree(), wanted.tree())
    assert not message, message
