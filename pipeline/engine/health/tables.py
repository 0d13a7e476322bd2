"""What the checks say of market-wide feeds and tables, which are of no instrument."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline import tables
from pipeline.engine import feeds, tablestate
from pipeline.engine.health.finding import Finding, Severity, duration
from pipeline.engine.health.survey import Survey
from pipeline.engine.paths import TAPE_EXCHANGE
from pipeline.engine.state import has_run, previous_path
from pipeline.engine.tables import are_here, files
from pipeline.engine.tablestate import FeedState, TableState
from pipeline.errors import FlowvaultError
from pipeline.instrument import EQUITIES, Instrument

_ALL = Instrument(TAPE_EXCHANGE, EQUITIES, "")
_RUN = "flowvault run --all"


def loading(survey: Survey) -> Iterator[Finding]:
    """Every state can be read, and its newest generation counts."""
    for name in _made(survey):
        path = tablestate.path_of(survey.root, name)
        where = survey.paths.relative(path)
        try:
            warning = _warning(path, is_feed=name in tables.feeds())
        except FlowvaultError as error:
            what = f"{name}: {error.message}"
            yield Finding(Severity.ERROR, "state", where, what, _mend(name, path))
            continue
        if warning is not None:
            yield Finding(Severity.WARNING, "state", where, f"{name}: {warning}", _RUN)


def rows(survey: Survey) -> Iterator[Finding]:
    """What is committed is there."""
    for name in _made(survey):
        layers = (
            [each.name for each in tables.load(name).layers] if name in tables.SUMMARY else [name]
        )
        try:
            listed = [path for layer in layers for path in files(survey.root, layer)]
        except FlowvaultError:
            continue  # told by `loading`
        lost = next((path for path in listed if not path.is_file()), None)
        if lost is not None:
            what = f"committed rows of {name} are not there"
            where = survey.paths.relative(lost)
            yield Finding(Severity.ERROR, "rows", where, what, _RUN)


def unread(survey: Survey) -> Iterator[Finding]:
    """Somebody reads the files of feeds."""
    if not survey.is_chosen(_ALL):
        return
    never, late, since = [], [], survey.now
    for name, feed in tables.feeds().items():
        path = tablestate.path_of(survey.root, name)
        found, _ = feeds.find(survey.root, feed)
        try:
            state, _ = tablestate.load(path, FeedState)
        except FlowvaultError:
            continue  # told by `loading`
        if state is None:
            never += [f"{name} ({len(found):,} files)"] if found else []
            continue
        marks = state.files
        new = [key for key, raw in found.items() if key not in marks or not raw.is_like(marks[key])]
        committed = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else since
        if new and survey.now - committed > survey.patience:
            late.append(f"{name} ({len(new):,} files)")
            since = min(since, committed)
    if never:
        what = f"feeds that have never been read: {', '.join(never)}"
        yield Finding(Severity.ERROR, "unread", "raw", what, _RUN)
    if late:
        ago = duration((survey.now - since).total_seconds())
        what = f"files of feeds that nobody has read for up to {ago}: {', '.join(late)}"
        yield Finding(Severity.ERROR, "unread", "raw", what, _RUN)


def are_looked_at(survey: Survey) -> bool:
    """Whether the vault has market-wide tables, and not some instruments alone are looked at."""
    return survey.is_chosen(_ALL) and are_here(survey.root)


def _made(survey: Survey) -> Iterator[str]:
    """The feeds and tables that have a state, if they are looked at."""
    for name in (*tables.feeds(), *tables.SUMMARY) if survey.is_chosen(_ALL) else ():
        if has_run(tablestate.path_of(survey.root, name)):
            yield name


def _warning(path: Path, *, is_feed: bool) -> str | None:
    """What is wrong with the newest generation of a state, if an older one can be read."""
    if is_feed:
        return tablestate.load(path, FeedState)[1]
    return tablestate.load(path, TableState)[1]


def _mend(name: str, path: Path) -> str:
    """What to do about a state that cannot be read."""
    if name in tables.SUMMARY:
        return f"flowvault rebuild {name}"
    return f"delete {path} and {previous_path(path).name}, then: {_RUN}"
