"""Stages of one instrument, one behind the other and side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from pipeline import stages
from pipeline.engine.ahead import THREADS
from pipeline.engine.presence import has_data, lacking
from pipeline.engine.sources import Batch
from pipeline.engine.stage_run import Report, StageRun
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument
from pipeline.stage import Stage, levels


def run_stage(
    vault: Vault,
    stage: Stage[Any, Any],
    instrument: Instrument,
    report: Report | None = None,
    give_up_us: int | None = None,
) -> Summary:
    """Bring one stage of one instrument up to date; see `StageRun.run`."""
    return StageRun(vault, stage, instrument, report=report, give_up_us=give_up_us).run()


def run_stages(
    vault: Vault,
    chain: Sequence[Stage[Any, Any]],
    instrument: Instrument,
    report: Report | None = None,
    give_up_us: int | None = None,
    asked: Collection[str] = (),
    is_stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Summary | FlowvaultError]:
    """Run stages of one instrument in dependency order, those of one level side by side.

    Yields a summary or the error of each; what reads a stage that failed is left out, and so is,
    unless asked for by name, a joined stage for which the instrument has nothing. Once
    `is_stopped` says so, what has been folded is committed and no more is read.
    """
    failed: set[str] = set()
    for level in levels(chain):
        if is_stopped():
            return
        able = []
        for stage in level:
            if any(above.name in failed for above in stages.upstreams(stage)):
                failed.add(stage.name)
            elif stage.inputs and (missing := lacking(vault.paths, stage, instrument)):
                if stage.name in asked:
                    note = f"nothing to do: there are no raw {' and no raw '.join(missing)}"
                    yield Summary(stage.name, instrument, notes=[note])
            elif stage.name in asked or has_data(vault.paths, stage, instrument):
                able.append(stage)
        results = _run_level(vault, able, instrument, report, give_up_us, is_stopped)
        for stage, done in zip(able, results, strict=True):
            if isinstance(done, FlowvaultError):
                failed.add(stage.name)
            yield done


def _run_level(
    vault: Vault,
    level: list[Stage[Any, Any]],
    instrument: Instrument,
    report: Report | None,
    give_up_us: int | None,
    is_stopped: Callable[[], bool],
) -> list[Summary | FlowvaultError]:
    """Run stages that do not read each other; those that go on from the same row read together.

    What reads something else is run beside them, so that no core idles while another decodes.
    """
    done: dict[str, Summary | FlowvaultError] = {}
    together: dict[Any, list[StageRun]] = {}
    stopped = threading.Event()
    with ExitStack() as held, ThreadPoolExecutor(THREADS, "stage") as pool:
        for stage in level:
            try:
                run = StageRun(vault, stage, instrument, report=report, give_up_us=give_up_us)
                held.enter_context(run.opened())
                run.prepare()
            except FlowvaultError as error:
                done[stage.name] = error
                continue
            done[stage.name] = run.summary
            together.setdefault(run.group, []).append(run)
        groups = list(together.values())
        work = partial(_run_group, pool=pool, is_stopped=lambda: stopped.is_set() or is_stopped())
        if len(groups) == 1:
            done.update(work(groups[0]))
        elif groups:
            with ThreadPoolExecutor(THREADS, "group") as beside:
                try:
                    for failed in beside.map(work, groups):
                        done.update(failed)
                finally:
                    stopped.set()  # Ctrl-C: the others end behind the batch in hand
    return [done[stage.name] for stage in level]


def _run_group(
    group: list[StageRun], *, pool: ThreadPoolExecutor, is_stopped: Callable[[], bool]
) -> dict[str, FlowvaultError]:
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
            if is_stopped():
                break
        _each(pool, alive, finish)
    except FlowvaultError as error:
        failed |= {run.stage.name: error for run in alive if run.stage.name not in failed}
    return failed


def _each(pool: ThreadPoolExecutor, runs: list[StageRun], work: Callable[[StageRun], None]) -> None:
    if len(runs) == 1:
        work(runs[0])
    else:
        list(pool.map(work, runs))
