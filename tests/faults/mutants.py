"""The protocol with one thing wrong, to see that the simulators would notice.

Each mutant is a function that changes the engine until the test ends, and names the simulator
that must catch it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.engine import disk, swap
from pipeline.engine import state as states
from pipeline.engine.disk import Unsynced
from pipeline.engine.jsonl import JsonlOutput
from pipeline.engine.outputs import Outputs
from pipeline.engine.parts import PartsOutput
from pipeline.engine.rows import encode_reject

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        judges: any of these simulators may catch it; at least one must.
        is_fast: judged in every test run, not only in the nightly one.
    """

    name: str
    apply: Callable[[Patch], None]
    judges: tuple[str, ...]
    is_fast: bool = False


def _skip(patch: Patch, name: str, when: Callable[[Path], bool]) -> None:
    """Leave out a disk function for some paths."""
    real = getattr(disk, name)

    def mutant(path: Path, *rest: Any) -> None:
        if not when(path):
            real(path, *rest)

    patch.setattr(disk, name, mutant)


def no_jsonl_sync(patch: Patch) -> None:
    """JSONL rows are committed without having been synced."""
    _skip(patch, "sync", lambda path: path.suffix == ".jsonl")


def no_part_sync(patch: Patch) -> None:
    """Parquet files are committed without having been synced."""
    _skip(patch, "sync", lambda path: ".parquet" in path.name)


def no_name_sync(patch: Patch) -> None:
    """The names of new output files are not made durable."""
    _skip(patch, "sync_dir", lambda path: "state" not in path.parts)


def no_new_jsonl_name_sync(patch: Patch) -> None:
    """The names of new folders are durable, those of the JSONL files in them are not."""
    _skip(patch, "sync_dir", lambda path: path.name == "BTC-USDT-SWAP")


def one_generation(patch: Patch) -> None:
    """No second generation of the state."""
    real = disk.replace
    patch.setattr(
        disk,
        "replace",
        lambda source, target: None if ".prev." in target.name else real(source, target),
    )


def state_not_synced(patch: Patch) -> None:
    """The state's content is not synced before it takes its place, and there is no second one."""
    one_generation(patch)
    _skip(patch, "sync", lambda path: ".state.json" in path.name)


def state_in_place(patch: Patch) -> None:
    """The state is written over the old one."""

    def adopt(path: Path, state: states.State, unsynced: Unsynced, **_: bool) -> None:
        disk.write_whole(path, states.encode(state))
        unsynced.folder(path.parent)

    patch.setattr(states, "adopt", adopt)


def commit_first(patch: Patch) -> None:
    """The state is saved before the rows it speaks of are written."""
    late: list[Callable[[], None]] = []
    is_open = [False]
    real = Unsynced.write

    def at_last(path: Path, offset: int, data: bytes) -> None:
        with Unsynced() as unsynced:
            real(unsynced, path, offset, data)
            unsynced.settle()

    def deferred(self: Unsynced, path: Path, offset: int, data: bytes) -> None:
        if is_open[0] and "derived" in path.parts and path.suffix == ".jsonl":
            late.append(lambda: at_last(path, offset, data))
        else:
            real(self, path, offset, data)

    patch.setattr(Unsynced, "write", deferred)
    write, publish = Outputs.write, Outputs.publish

    def early(self: Outputs, state: states.State, unsynced: Unsynced) -> None:
        is_open[0] = True
        try:
            write(self, state, unsynced)
            unsynced.settle()
        finally:
            is_open[0] = False

    def flush(self: Outputs, unsynced: Unsynced) -> None:
        while late:
            late.pop(0)()
        publish(self, unsynced)

    patch.setattr(Outputs, "write", early)
    patch.setattr(Outputs, "publish", flush)


def no_checksum(patch: Patch) -> None:
    """A state is believed without looking at its checksum."""
    real = states.decode

    def decode(data: bytes) -> states.State | None:
        body = data[len(b'{"crc32":"00000000","state":') : -2]
        try:
            return real(b'{"crc32":"%08x","state":' % zlib.crc32(body) + body + b"}\n")
        except Exception:  # noqa: BLE001  (not even JSON: that it does notice)
            return None

    patch.setattr(states, "decode", decode)


def published_first(patch: Patch) -> None:
    """Parquet files get their names, and the old last one is deleted, before the commit."""
    write = PartsOutput.write

    def early(self: PartsOutput[Any], unsynced: Unsynced) -> Any:
        listing = write(self, unsynced)
        unsynced.settle()
        self.publish(unsynced)
        return listing

    patch.setattr(PartsOutput, "write", early)


def append_at_end(patch: Patch) -> None:
    """JSONL rows go to the file's end instead of the committed length."""
    write = JsonlOutput.write

    def append(self: JsonlOutput, unsynced: Unsynced) -> int:
        if self.path.exists() and self.is_dirty:
            self.length = max(self.length, self.path.stat().st_size)
        return write(self, unsynced)

    patch.setattr(JsonlOutput, "write", append)


def quarantine_apart(patch: Patch) -> None:
    """Quarantined lines are appended when they are met, outside the commit."""
    add = Outputs.add

    def at_once(self: Outputs, rows: dict[str, Any], rejects: Any) -> Any:
        for reject in rejects:
            path = self._paths.quarantine(self.instrument, "trades") / f"{reject.day}.jsonl"
            disk.make_dir(path.parent)
            end = path.stat().st_size if path.exists() else 0
            disk.write_at(path, end, encode_reject(reject))
            disk.sync(path)
            self._file(path).length = path.stat().st_size
        return add(self, rows, ())

    patch.setattr(Outputs, "add", at_once)


def leftovers_stay(patch: Patch) -> None:
    """What a dead run has left in a Parquet folder is not looked at."""
    patch.setattr(PartsOutput, "recover", lambda _self: None)


def errors_swallowed(patch: Patch) -> None:
    """A failed write is taken for a done one."""
    real = disk.write_end

    def write_end(path: Path, offset: int, data: bytes) -> int:
        try:
            return real(path, offset, data)
        except OSError:
            return os.open(path, os.O_RDWR | os.O_CREAT)

    patch.setattr(disk, "write_end", write_end)


def skipped_if_equal(patch: Patch) -> None:
    """Bytes that reading shows to be there already are not written again."""
    write = JsonlOutput.write

    def lazy(self: JsonlOutput, unsynced: Unsynced) -> int:
        data = b"".join(self._pending)
        if data and self.path.exists() and self.path.read_bytes()[self.length :] == data:
            self.length += len(data)
            self._pending.clear()
        return write(self, unsynced)

    patch.setattr(JsonlOutput, "write", lazy)


def rows_without_position(patch: Patch) -> None:
    """The state is saved with the lengths of the new rows but the old input position."""
    real = states.adopt

    def adopt(
        path: Path, state: states.State, unsynced: Unsynced, *, is_known: bool = False
    ) -> None:
        old, _ = states.load(path)
        if old is not None and old.upstream:
            states.save(path, msgspec.structs.replace(state, upstream=old.upstream))
            states.write(path, state, unsynced)
            unsynced.settle()
        real(path, state, unsynced, is_known=is_known)

    patch.setattr(states, "adopt", adopt)


def swap_without_list(patch: Patch) -> None:
    """A swap does not write down which files it has decided to keep."""
    patch.setattr(swap, "_kept", lambda _path: None)


def ready_too_early(patch: Patch) -> None:
    """A rebuild is called complete before its rows are there."""
    real = Outputs.write

    def early(self: Outputs, state: states.State, unsynced: Unsynced) -> None:
        if self.base.name.endswith(".rebuild"):
            disk.make_dir(self.base)
            swap.mark_ready(self.base)
        real(self, state, unsynced)

    patch.setattr(Outputs, "write", early)


def swap_unannounced(patch: Patch) -> None:
    """While files are swapped the live state still speaks of the old ones."""
    real = states.save

    def save(path: Path, state: states.State) -> None:
        if not state.swapping:
            real(path, state)

    patch.setattr(states, "save", save)


MUTANTS = (
    Mutant("rows not synced", no_jsonl_sync, ("power",), is_fast=True),
    Mutant("commit before rows", commit_first, ("kill", "power"), is_fast=True),
    Mutant("append at the end", append_at_end, ("kill",), is_fast=True),
    Mutant("checksum not looked at", no_checksum, ("flip",), is_fast=True),
    Mutant("parts not synced", no_part_sync, ("power",)),
    Mutant("names not synced", no_name_sync, ("power",)),
    Mutant("names of new rows not synced", no_new_jsonl_name_sync, ("power",)),
    Mutant("state not synced, one generation", state_not_synced, ("power",)),
    Mutant("state written in place", state_in_place, ("power", "kill")),
    Mutant("parts published before the commit", published_first, ("kill",)),
    Mutant("quarantine outside the commit", quarantine_apart, ("kill",)),
    Mutant("leftovers not cleared", leftovers_stay, ("kill",)),
    Mutant("failed writes swallowed", errors_swallowed, ("fail",)),
    Mutant("not written if it seems to be there", skipped_if_equal, ("fail then power",)),
    Mutant("rows committed before their position", rows_without_position, ("kill",)),
    Mutant("swap without a list", swap_without_list, ("rebuild kill",)),
    Mutant("rebuild ready too early", ready_too_early, ("rebuild kill",)),
    Mutant("swap unannounced", swap_unannounced, ("rebuild kill",)),
)
