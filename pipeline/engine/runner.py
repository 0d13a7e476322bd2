"""The one loop: load the state, read what is new, fold, write, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
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
from pipeline.engine.state import Counts, FileMark, RowMark, State
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
        self._pending = 0

    @property
    def what(self) -> str:
        """How messages name this run."""
        return f"stage {self.stage.name} of {self.instrument.key}"

    def run(self) -> Summary:
        """Bring the stage's layers up to date.

        Raises:
            FlowvaultError: nothing, or only whole commits, have been written.
        """
        with self.opened():
            self.prepare()
            for batch in self.batches():
                self.step(batch)
            self.finish()
        return self.summary

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the lock, load the state and recover the files for the time of the block.

        Raises:
            FlowvaultError: the lock is held, or state and files do not fit.
        """
        with self._guarded(), lock.hold(self._lock_path, self.what):
            if not self.is_rebuild:
                finish_swap(self.vault.paths, self.stage, self.instrument)
            self.state = self._load()
            self._before = msgspec.structs.replace(self.state.counts)
            self._outputs = Outputs(
                self.base, self.instrument, self.stage.layers, self.state, self.hint
            )
            self._outputs.recover()
            self._carry = msgspec.convert(self.state.carry, self.stage.carry)
            self._context: Context[Any] = Context(
                self.instrument,
                self.contract,
                self.params,
                watermark_us=self.state.watermark_us,
                last_ids=lambda count: _ids(self._outputs.last_rows("trades", count)),
                reinstated=self._reinstated,
            )
            try:
                yield
            finally:
                self._outputs.close()

    def batches(self) -> Iterator[Batch]:
        """What is new in the input, in order."""
        source = self._raw_batches() if self.stage.raw_kind else self._upstream_batches()
        while True:
            started = time.perf_counter()
            with self._guarded():
                batch = next(source, None)
            self.summary.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def step(self, batch: Batch) -> None:
        """Fold one batch; commit if much has come together."""
        started = time.perf_counter()
        with self._guarded():
            context, state = self._context, self.state
            if batch.watermark_us is not None:
                context.watermark_us = batch.watermark_us
            closed = self.stage.fold(batch.rows, self._carry, context)
            self._carry = closed.carry
            if closed.watermark_us is not None:
                context.watermark_us = closed.watermark_us
            written = self._outputs.add(closed.rows, closed.rejects)
            if closed.aside is not None:
                self.asides.append(closed.aside)
            batch.advance(state)
            state.counts = state.counts.plus(
                Counts(
                    rows_in=closed.rows_in if self.stage.raw_kind else batch.size,
                    rows_out=written,
                    late=closed.late,
                    duplicate=closed.duplicate,
                    bad=closed.bad,
                    gaps=closed.gaps,
                )
            )
            state.watermark_us = context.watermark_us
            self._pending += max(batch.size, closed.rows_in)
            self._report(self.stage.name, max(batch.size, closed.rows_in))
            if self._pending >= COMMIT_ROWS:
                self._commit()
                self._pending = 0
        self.summary.seconds += time.perf_counter() - started

    def finish(self) -> None:
        """Commit what is left, if anything moved, and sum up."""
        started = time.perf_counter()
        with self._guarded():
            if self._outputs.is_dirty or _position(self.state) != self._committed:
                self._commit()
        after = self.state.counts
        for name in after.__struct_fields__:
            setattr(self.summary.counts, name, getattr(after, name) - getattr(self._before, name))
        self.summary.seconds += time.perf_counter() - started

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn errors of the disk into a message that names the stage."""
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            message = f"{self.what}: {error.strerror or error}{where}; the last commit stands"
            raise DiskError(message, "mend the disk, then run the same command again") from error
        except StateError as error:
            if error.hint is not None:
                raise
            raise StateError(error.message, self.hint) from error

    @property
    def _lock_path(self) -> Path:
        return VaultPaths(self.base).lock(self.stage.name, self.instrument)

    @property
    def _state_path(self) -> Path:
        return VaultPaths(self.base).state(self.stage.name, self.instrument)

    def _commit(self) -> None:
        self._check_upstream()
        state = self.state
        self._outputs.write(state)
        state.carry = msgspec.to_builtins(self._carry)
        state.generation += 1
        state.swapping = False
        states.save(self._state_path, state)
        self._outputs.publish()
        self._committed = _position(state)

    def _check_upstream(self) -> None:
        """Refuse to commit rows that were made from files a rebuild has since replaced."""
        for mark in self.state.upstream.values():
            owner = stages.upstream(self.stage)
            above = owner and read_state(self.vault.paths.state(owner.name, self.instrument))
            if above and above.epoch != mark.epoch:
                raise self._rebuilt(self.stage.source)

    def _rebuilt(self, layer: str) -> StateError:
        message = f"{self.what} stands on rows of {layer} that were rebuilt since"
        return StateError(message, self.hint)

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
        if self.stage.uses_tick:
            params["tick"] = self.contract.tick
        return params

    def _raw_batches(self) -> Iterator[Batch]:
        kind = self.stage.raw_kind or ""
        folder = self.vault.paths.raw(self.instrument, kind)
        marks = self.state.raw.get(kind, [])
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
            for rows, after in ahead(decoded, feed.blocks()):
                yield Batch(rows, None, rows.records, partial(_set_marks, kind, after))
        except UnknownContractError as error:
            raise unknown_contract(self.instrument, self.vault.root, str(error)) from error
        _set_marks(kind, feed.snapshot(), self.state)

    def prepare(self) -> None:
        """Look up the layer this stage reads, if it does not read raw data.

        Raises:
            StateError: the layer was rebuilt since this stage read it.
            MissingInputError: the layer has never been made.
        """
        owner, source = stages.upstream(self.stage), self.stage.source
        if owner is None:
            return
        above = read_state(self.vault.paths.state(owner.name, self.instrument))
        if above is None:
            raise MissingInputError(
                f"{self.what}: no layer {source} yet",
                f"flowvault {owner.name} {self.instrument.options}",
            )
        if above.swapping:
            message = f"{self.what}: a rebuild of {owner.name} was interrupted"
            raise StateError(message, f"flowvault {owner.name} {self.instrument.options}")
        self._above = above
        mark = self.state.upstream.setdefault(source, RowMark(0, above.epoch))
        if mark.epoch != above.epoch:
            raise self._rebuilt(source)
        rows = above.parts[source].rows
        if rows < mark.position:
            note = f"waits: {owner.name} has {rows} rows, {mark.position} were read before"
            self.summary.notes.append(note)

    @property
    def position(self) -> int:
        """How many rows of the layer it reads are behind this stage."""
        mark = self.state.upstream.get(self.stage.source)
        return 0 if mark is None else mark.position

    def _upstream_batches(self) -> Iterator[Batch]:
        above, source = self._above, self.stage.source
        layer = stages.layers()[source][0]
        codec, columns = codec_of(source)
        folder = self.vault.paths.derived(layer.folder, self.instrument)
        listing, clock, position = above.parts[source], self.state.watermark_us, self.position
        owner = stages.upstream(self.stage) or self.stage
        hint = f"flowvault rebuild {owner.name} {self.instrument.options}"
        for rows, _ in _readable(read_rows(folder, listing, position, codec, columns), hint):
            for run in codec.runs(rows):
                newest, reached = (
                    codec.newest_us(run) - above.lateness_us,
                    position + codec.height(run),
                )
                is_last = reached == listing.rows
                clock = above.watermark_us if is_last else max(newest, clock or newest)
                move = partial(_set_position, source, reached)
                yield Batch(run, clock, reached - position, move)
                position = reached


def _readable(rows: Iterator[Any], hint: str) -> Iterator[Any]:
    """Rows of the layer above; what is wrong with them is mended by rebuilding that one."""
    try:
        yield from rows
    except StateError as error:
        raise StateError(error.message, hint) from error
    except FileNotFoundError as error:
        raise StateError(f"{error.filename}: committed rows are gone", hint) from error


@dataclass(frozen=True, slots=True)
class Batch:
    """New input rows with the watermark behind them; `advance` moves a state past them."""

    rows: Any
    watermark_us: int | None
    size: int
    advance: Callable[[State], None]


def _set_marks(kind: str, marks: list[FileMark], state: State) -> None:
    state.raw[kind] = marks


def _set_position(source: str, position: int, state: State) -> None:
    state.upstream[source].position = position


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
        (kind, mark.name, mark.offset, mark.size < 0, 0 if mark is marks[-1] else mark.mtime_ns)
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
    """Run stages of one instrument in dependency order, those of one level side by side.

    Yields a summary or the error of each; what reads a stage that failed is left out.
    """
    failed: set[str] = set()
    for level in levels(chain):
        able = []
        for stage in level:
            above = stages.upstream(stage)
            if above is not None and above.name in failed:
                failed.add(stage.name)
            else:
                able.append(stage)
        for stage, done in zip(able, _run_level(vault, able, instrument, report), strict=True):
            if isinstance(done, FlowvaultError):
                failed.add(stage.name)
            yield done


def _run_level(
    vault: Vault, level: list[Stage[Any, Any]], instrument: Instrument, report: Report | None
) -> list[Summary | FlowvaultError]:
    """Run stages that do not read each other; those that go on from the same row read together."""
    done: dict[str, Summary | FlowvaultError] = {}
    together: dict[Any, list[StageRun]] = {}
    with ExitStack() as held, ThreadPoolExecutor(THREADS, "stage") as pool:
        for stage in level:
            try:
                run = StageRun(vault, stage, instrument, report=report)
                held.enter_context(run.opened())
                run.prepare()
            except FlowvaultError as error:
                done[stage.name] = error
                continue
            done[stage.name] = run.summary
            key = stage.name if stage.raw_kind else (stage.source, run.position)
            together.setdefault(key, []).append(run)
        for group in together.values():
            done.update(_run_group(group, pool))
    return [done[stage.name] for stage in level]


def _run_group(group: list[StageRun], pool: ThreadPoolExecutor) -> dict[str, FlowvaultError]:
    """Feed the same batches to every stage of a group; one that fails leaves it."""
    failed: dict[str, FlowvaultError] = {}

    def step(batch: Batch, run: StageRun) -> None:
        try:
            run.step(batch)
        except FlowvaultError as error:
            failed[run.stage.name] = error

    def finish(run: StageRun) -> None:
        try:
            run.finish()
        except FlowvaultError as error:
            failed[run.stage.name] = error

    alive = list(group)
    try:
        for batch in alive[0].batches():
            _each(pool, alive, partial(step, batch))
            alive = [run for run in alive if run.stage.name not in failed]
            if not alive:
                return failed
        _each(pool, alive, finish)
    except FlowvaultError as error:
        failed |= {run.stage.name: error for run in alive if run.stage.name not in failed}
    return failed


def _each(pool: ThreadPoolExecutor, runs: list[StageRun], work: Callable[[StageRun], None]) -> None:
    if len(runs) == 1:
        work(runs[0])
    else:
        list(pool.map(work, runs))


def is_too_bad(counts: Counts) -> bool:
    """More than one line in a hundred was bad (duplicates and late trades do not count)."""
    return counts.bad * 100 > counts.rows_in
