"""The one loop: load the state, read what is new, fold, write, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine import lock
from pipeline.engine import state as states
from pipeline.engine.ahead import THREADS, ahead
from pipeline.engine.codecs import codec_of
from pipeline.engine.feed import RawFeed
from pipeline.engine.outputs import Outputs
from pipeline.engine.parts import read_rows
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import Counts, RowMark, State
from pipeline.engine.swap import finish_swap
from pipeline.errors import DiskError, FlowvaultError, MissingInputError, StateError
from pipeline.instrument import Instrument, contract_of, load_table, unknown_contract
from pipeline.raw.adapters import trade_adapter
from pipeline.raw.block import Block
from pipeline.raw.trades import UnknownContractError, decode
from pipeline.settings import Settings
from pipeline.stage import Context, Stage, levels

COMMIT_ROWS = 600_000
"""A long backfill commits about this often, so that a kill costs seconds."""

Report = Callable[[str, int], None]


@dataclass(slots=True)
class Summary:
    """What one run of one stage for one instrument did."""

    stage: str
    instrument: Instrument
    counts: Counts = field(default_factory=Counts)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    bad_share_exceeded: bool = False


@dataclass(frozen=True)
class Vault:
    """A vault's root with its settings and contract table."""

    root: Path
    settings: Settings
    table: dict[str, dict[str, str]]

    @classmethod
    def open(cls, root: Path) -> Vault:
        """Read the settings files of a vault.

        Raises:
            UsageError: one of them is wrong.
        """
        names = frozenset(stages.SUMMARY)
        return cls(root, Settings.load(root, names), load_table(root))

    @property
    def paths(self) -> VaultPaths:
        """Where things lie."""
        return VaultPaths(self.root)


class StageRun:
    """One run of one stage for one instrument, under its lock."""

    def __init__(
        self,
        vault: Vault,
        stage: Stage[Any, Any],
        instrument: Instrument,
        *,
        base: Path | None = None,
        reinstated: Any = None,
        report: Report | None = None,
    ) -> None:
        self.vault = vault
        self.stage = stage
        self.instrument = instrument
        self.base = base or vault.root
        self.is_rebuild = base is not None
        self.params = vault.settings.params(stage.name, stage.params, instrument)
        self.contract = contract_of(instrument, vault.table, vault.root)
        self.hint = f"flowvault rebuild {stage.name} {instrument.options}"
        self.summary = Summary(stage.name, instrument)
        self.asides: list[Any] = []
        self._reinstated = reinstated
        self._report = report or (lambda _what, _count: None)
        self._lines = 0

    def run(self) -> Summary:
        """Bring the stage's layers up to date.

        Raises:
            FlowvaultError: nothing, or only whole commits, have been written.
        """
        started = time.perf_counter()
        try:
            with lock.hold(self._lock_path, f"stage {self.stage.name} of {self.instrument.key}"):
                if not self.is_rebuild:
                    finish_swap(self.vault.paths, self.stage, self.instrument)
                self._run_locked()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            message = (
                f"stage {self.stage.name} of {self.instrument.key}: "
                f"{error.strerror or error}{where}; the last commit stands"
            )
            raise DiskError(message, "mend the disk, then run the same command again") from error
        self.summary.seconds = time.perf_counter() - started
        return self.summary

    @property
    def _lock_path(self) -> Path:
        return VaultPaths(self.base).lock(self.stage.name, self.instrument)

    @property
    def _state_path(self) -> Path:
        return VaultPaths(self.base).state(self.stage.name, self.instrument)

    def _run_locked(self) -> None:
        state = self._load()
        outputs = Outputs(self.base, self.instrument, self.stage.layers, state, self.hint)
        outputs.recover()
        carry = msgspec.convert(state.carry, self.stage.carry)
        context: Context[Any] = Context(
            self.instrument,
            self.contract,
            self.params,
            watermark_us=state.watermark_us,
            last_ids=lambda count: _ids(outputs.last_rows("trades", count)),
            reinstated=self._reinstated,
        )
        before = msgspec.structs.replace(state.counts)
        pending = 0
        source = self._raw_batches if self.stage.raw_kind else self._upstream_batches
        for batch, watermark, size in source(state):
            context.watermark_us = watermark if watermark is not None else context.watermark_us
            closed = self.stage.fold(batch, carry, context)
            carry = closed.carry
            if closed.watermark_us is not None:
                context.watermark_us = closed.watermark_us
            written = outputs.add(closed.rows, closed.rejects)
            if closed.aside is not None:
                self.asides.append(closed.aside)
            state.counts = state.counts.plus(
                Counts(
                    rows_in=closed.rows_in if self.stage.raw_kind else size,
                    rows_out=written,
                    late=closed.late,
                    duplicate=closed.duplicate,
                    bad=closed.bad,
                    gaps=closed.gaps,
                )
            )
            state.watermark_us = context.watermark_us
            pending += max(size, closed.rows_in)
            self._report(self.stage.name, max(size, closed.rows_in))
            if pending >= COMMIT_ROWS:
                self._commit(state, outputs, carry)
                pending = 0
        if self._is_changed(state, outputs):
            self._commit(state, outputs, carry)
        after = state.counts
        for name in after.__struct_fields__:
            setattr(self.summary.counts, name, getattr(after, name) - getattr(before, name))

    def _commit(self, state: State, outputs: Outputs, carry: Any) -> None:
        outputs.write(state)
        state.carry = msgspec.to_builtins(carry)
        state.generation += 1
        state.swapping = False
        states.save(self._state_path, state)
        outputs.publish()
        self._committed = _position(state)

    def _is_changed(self, state: State, outputs: Outputs) -> bool:
        return outputs.is_dirty or _position(state) != self._committed

    def _load(self) -> State:
        """The committed state, or a new one.

        Raises:
            StateError: it does not fit the code or the parameters.
        """
        try:
            state, warning = states.load(self._state_path)
        except StateError as error:
            raise StateError(error.message, error.hint or self.hint) from error
        if warning:
            self.summary.notes.append(warning)
        params = self._fingerprint()
        if state is None:
            state = State(
                stage=self.stage.name,
                instrument=self.instrument.key,
                schema=states.SCHEMA,
                code_version=self.stage.version,
                params=params,
                lateness_us=self.stage.lateness_us(self.params),
            )
            self._committed = _position(state)
            return state
        self._committed = _position(state)
        if state.code_version != self.stage.version:
            message = (
                f"{self.stage.name} of {self.instrument.key} was made by version "
                f"{state.code_version} of the stage; this is version {self.stage.version}"
            )
            raise StateError(message, self.hint)
        if state.params != params:
            changed = ", ".join(
                f"{key}: {state.params.get(key)} -> {params.get(key)}"
                for key in sorted({*state.params, *params})
                if state.params.get(key) != params.get(key)
            )
            message = (
                f"parameters of {self.stage.name} of {self.instrument.key} changed ({changed})"
            )
            raise StateError(message, self.hint)
        return state

    def _fingerprint(self) -> dict[str, Any]:
        """The parameters as the state keeps them, contract size included where it matters."""
        params: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.params))
        if self.stage.raw_kind:
            contract = self.contract
            params["contract"] = f"{contract.kind} {contract.value or 'from the record'}"
        return params

    def _raw_batches(self, state: State) -> Iterator[tuple[Any, int | None, int]]:
        kind = self.stage.raw_kind or ""
        folder = self.vault.paths.raw(self.instrument, kind)
        marks = state.raw.get(kind, [])
        if not folder.is_dir() and not marks:
            raise MissingInputError(
                f"{self.instrument.key}: no raw {kind} at {folder}", "flowvault status"
            )
        feed = RawFeed(
            folder, self.vault.root, self.hint, [msgspec.structs.replace(m) for m in marks]
        )
        adapter = trade_adapter(self.instrument.exchange)

        def decoded(block: Block) -> Any:
            return decode(block, adapter, self.instrument.inst_id, self.contract)

        try:
            for batch, after in ahead(decoded, feed.blocks()):
                state.raw[kind] = after
                yield batch, None, batch.records
        except UnknownContractError as error:
            raise unknown_contract(self.instrument, self.vault.root, str(error)) from error
        state.raw[kind] = feed.snapshot()

    def _upstream_batches(self, state: State) -> Iterator[tuple[Any, int | None, int]]:
        owner = stages.upstream(self.stage)
        if owner is None:
            raise StateError(f"{self.stage.name} reads no layer")
        path = self.vault.paths.state(owner.name, self.instrument)
        above = read_state(path)
        if above is None:
            raise MissingInputError(
                f"{self.stage.name} of {self.instrument.key}: no layer {self.stage.source} yet",
                f"flowvault {owner.name} {self.instrument.options}",
            )
        mark = state.upstream.setdefault(self.stage.source, RowMark(0, above.epoch))
        if mark.epoch != above.epoch:
            message = (
                f"{owner.name} of {self.instrument.key} was rebuilt; {self.stage.name} still "
                "stands on its old rows"
            )
            raise StateError(message, self.hint)
        listing = above.parts[self.stage.source]
        if listing.rows < mark.position:
            note = f"waits: {owner.name} has {listing.rows} rows, {mark.position} were read before"
            self.summary.notes.append(note)
            return
        codec, columns = codec_of(self.stage.source)
        folder = self.vault.paths.derived(owner.layers[0].folder, self.instrument)
        clock = state.watermark_us
        for rows, end in read_rows(folder, listing, mark.position, codec, columns):
            is_last = end == listing.rows
            newest = int(rows.frame["ts"].max()) - above.lateness_us
            clock = above.watermark_us if is_last else max(newest, clock or newest)
            size = end - mark.position
            mark.position = end
            yield rows, clock, size


def read_state(path: Path) -> State | None:
    """A state as a reader sees it; waits a moment while a rebuild is being swapped in."""
    for _ in range(200):
        state, _warning = states.load(path)
        if state is None or not state.swapping:
            return state
        time.sleep(0.02)
    return state


def _ids(rows: Any) -> Any:
    return rows.frame["trade_id"]


def _position(state: State) -> tuple[Any, ...]:
    """What must move for a commit to be worth making."""
    raw = tuple(
        (kind, mark.name, mark.offset, 0 if mark is marks[-1] else mark.mtime_ns)
        for kind, marks in state.raw.items()
        for mark in marks
    )
    above = tuple((name, mark.position) for name, mark in state.upstream.items())
    return raw, above, state.watermark_us


def run_stage(
    vault: Vault, stage: Stage[Any, Any], instrument: Instrument, report: Report | None = None
) -> Summary:
    """Bring one stage of one instrument up to date; see `StageRun.run`."""
    return StageRun(vault, stage, instrument, report=report).run()


def run_stages(
    vault: Vault,
    chain: Sequence[Stage[Any, Any]],
    instrument: Instrument,
    report: Report | None = None,
) -> Iterator[Summary | FlowvaultError]:
    """Run stages of one instrument in dependency order, those that can side by side.

    Yields a summary or the error of each; what reads a stage that failed is left out.
    """
    failed: set[str] = set()

    def one(stage: Stage[Any, Any]) -> Summary | FlowvaultError:
        try:
            return run_stage(vault, stage, instrument, report)
        except FlowvaultError as error:
            failed.add(stage.name)
            return error

    for level in levels(chain):
        able = []
        for stage in level:
            above = stages.upstream(stage)
            if above is not None and above.name in failed:
                failed.add(stage.name)
            else:
                able.append(stage)
        if len(able) > 1:
            with ThreadPoolExecutor(min(THREADS, len(able)), "stage") as pool:
                yield from pool.map(one, able)
        else:
            yield from map(one, able)


def is_too_bad(counts: Counts) -> bool:
    """More than one line in a hundred was bad (duplicates and late trades do not count)."""
    return counts.bad * 100 > counts.rows_in
