"""Checks of what is committed: settings, states, rows, locks, leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline import stages
from pipeline.engine import lock
from pipeline.engine.fit import fingerprint, misfit
from pipeline.engine.health import tables
from pipeline.engine.health.finding import Finding, Severity, amount, duration
from pipeline.engine.health.survey import Loaded, Survey
from pipeline.engine.leftovers import is_busy, leftovers, stages_of, waiting_swap
from pipeline.engine.parts import file_with, names
from pipeline.errors import FlowvaultError
from pipeline.instrument import contract_of

_RUNS_END_WITHIN = timedelta(hours=1)


def settings(survey: Survey) -> Iterator[Finding]:
    """`flowvault.toml` and `instruments.toml` can be read."""
    opened = survey.opened
    if isinstance(opened, FlowvaultError):
        hint = opened.hint or f"edit {survey.root}"
        yield Finding(Severity.ERROR, "settings", ".", opened.message, hint)
        return
    seen = set()
    for stage in stages.all_stages():
        for instrument in survey.instruments:
            if instrument.market not in stage.markets:
                continue
            try:
                opened.settings.params(stage.name, stage.params, instrument)
                contract_of(instrument, opened.table, survey.root)
            except FlowvaultError as error:
                if error.message not in seen:
                    seen.add(error.message)
                    hint = error.hint or f"edit {survey.root}"
                    yield Finding(Severity.ERROR, "settings", ".", error.message, hint)


def loading(survey: Survey) -> Iterator[Finding]:
    """Every state can be read, and its newest generation counts."""
    for each in survey.loaded.values():
        where, name = each.instrument.key, each.stage.name
        if each.error is not None:
            hint = each.error.hint or f"flowvault rebuild {name} {each.instrument.options}"
            what = f"{name}: {each.error.message}"
            yield Finding(Severity.ERROR, "state", where, what, hint)
        elif each.warning is not None:
            hint = f"flowvault {name} {each.instrument.options}"
            what = f"{name}: {each.warning}"
            yield Finding(Severity.WARNING, "state", where, what, hint)
    yield from tables.loading(survey)
    known = {*stages.SUMMARY, "tables", "import", "follow"}
    folder = survey.root / "state"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and path.name not in known:
            what = f"state of a stage {path.name!r} that this version does not have"
            hint = "flowvault --version"
            yield Finding(Severity.NOTE, "state", f"state/{path.name}", what, hint)


def swaps(survey: Survey) -> Iterator[Finding]:
    """No rebuild waits to be swapped in."""
    for stage, instrument in stages_of(survey.paths):
        if not survey.is_chosen(instrument) or is_busy(survey.paths, stage.name, instrument):
            continue
        state = survey.state(stage.name, instrument)
        hint = f"flowvault {stage.name} {instrument.options}"
        if state is not None and state.swapping:
            what = f"{stage.name}: swapping a rebuild in was interrupted; its rows cannot be read"
            yield Finding(Severity.ERROR, "rebuild", instrument.key, what, hint)
        elif waiting_swap(survey.paths, stage.name, instrument):
            what = f"{stage.name}: a finished rebuild waits to be swapped in"
            yield Finding(Severity.WARNING, "rebuild", instrument.key, what, hint)


def parameters(survey: Survey) -> Iterator[Finding]:
    """No stage waits for a rebuild since parameters, contract sizes or its version changed."""
    opened = survey.opened
    if isinstance(opened, FlowvaultError):
        return
    for each in survey.loaded.values():
        stage, instrument = each.stage, each.instrument
        if each.state is None:
            continue
        try:
            params = opened.settings.params(stage.name, stage.params, instrument)
            contract = contract_of(instrument, opened.table, survey.root)
        except FlowvaultError:
            continue  # told by `settings`
        changed = misfit(stage, each.state, fingerprint(stage, params, contract))
        hint = f"flowvault rebuild {stage.name} {instrument.options}"
        if changed is not None:
            what = f"no new rows until it is rebuilt: {changed}"
            yield Finding(Severity.ERROR, "parameters", instrument.key, what, hint)
            continue
        stale = [
            name
            for name, mark in each.state.upstream.items()
            if (above := survey.state(stages.owner(name).name, instrument)) is not None
            and above.epoch != mark.epoch
        ]
        if stale:
            what = f"{stage.name}: stands on rows of {', '.join(stale)} that were rebuilt since"
            yield Finding(Severity.ERROR, "parameters", instrument.key, what, hint)


def rows(survey: Survey) -> Iterator[Finding]:
    """What is committed is there."""
    for each in survey.loaded.values():
        is_at_work = is_busy(survey.paths, each.stage.name, each.instrument)
        if each.state is None or each.state.swapping or is_at_work:
            continue
        lost = next(_lost(survey, each), None)
        if lost is not None:
            what = f"committed rows of {each.stage.name} are not there"
            hint = f"flowvault rebuild {each.stage.name} {each.instrument.options}"
            where = survey.paths.relative(lost)
            yield Finding(Severity.ERROR, "rows", where, what, hint)
    yield from tables.rows(survey)


def _lost(survey: Survey, each: Loaded) -> Iterator[Path]:
    """Files that are missing, or shorter than what is committed."""
    if each.state is None:
        return
    for name, length in each.state.outputs.items():
        path = survey.root / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < length:
            yield path
    for layer in each.stage.layers:
        parts = each.state.parts.get(layer.name)
        if parts is None or not parts.rows:
            continue
        folder = survey.paths.derived(layer.folder, each.instrument)
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for name, start, end in names(parts):
            # a run may be putting one with more rows in its place
            if not {name, f"{name}.tmp"} & there and file_with(folder, start, end) is None:
                yield folder / name


def locks(survey: Survey) -> Iterator[Finding]:
    """Nobody holds a lock for ever."""
    for stage, instrument in stages_of(survey.paths):
        holder = lock.holder_of(survey.paths.lock(stage.name, instrument))
        if holder is None or not survey.is_chosen(instrument):
            continue
        hint = f"flowvault {stage.name} {instrument.options}"
        if holder.is_gone:
            what = f"{stage.name}: process {holder.pid} was killed; the lock is free, a run goes on"
            yield Finding(Severity.NOTE, "lock", instrument.key, what, hint)
            continue
        held = survey.now - _time(holder.since, survey.now)
        if held > _RUNS_END_WITHIN:
            what = f"{stage.name}: process {holder.pid} on {holder.host} has held the lock for "
            what += duration(held.total_seconds())
            yield Finding(Severity.WARNING, "lock", instrument.key, what, hint)


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def left_behind(survey: Survey) -> Iterator[Finding]:
    """Nothing lies about that killed runs left."""
    for stage, instrument in stages_of(survey.paths):
        if not survey.is_chosen(instrument) or is_busy(survey.paths, stage.name, instrument):
            continue
        found = leftovers(survey.paths, stage, instrument)
        if found:
            size = amount(sum(each.size for each in found))
            first = survey.paths.relative(found[0].path)
            kinds = ", ".join(sorted({each.what for each in found}))
            what = f"{len(found)} left by killed runs, {size}: {kinds}"
            yield Finding(Severity.NOTE, "leftovers", first, what, "flowvault gc")
