"""Checks of what comes in: raw data unread, feeds behind, clocks, day files, bad lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine.consumed import spans
from pipeline.engine.health import tables
from pipeline.engine.health.finding import (
    SHOW_CLOCK,
    Finding,
    Severity,
    amount,
    duration,
    show_end,
    show_folder,
)
from pipeline.engine.health.survey import Feed, Loaded, Survey, moment
from pipeline.engine.progress import patience_us, unread_bytes
from pipeline.engine.rawfiles import DayFile, chunks, day_of
from pipeline.engine.reader import last_lines
from pipeline.engine.schedule import LOG
from pipeline.engine.state import FileMark, State
from pipeline.errors import DataError, FlowvaultError
from pipeline.instrument import Instrument, contract_of, unknown_contract
from pipeline.raw.block import Block, UnknownContractError
from pipeline.raw.books import BookBatch
from pipeline.stage import Stage

_LOOK_BACK_DAYS = 30
_HEAD_BYTES = 1 << 16
_LAST_REJECTS = 200
_CLOCK_SLACK = timedelta(minutes=1)
_IN_A_HUNDRED = 100
_LIVE = timedelta(days=2)
_SIMULATED = "sim"


def unread(survey: Survey) -> Iterator[Finding]:
    """Somebody reads what comes in."""
    run = {instrument for _, instrument in survey.loaded}
    yield from _never_run(survey, run)
    for feed in survey.feeds:
        if feed.instrument not in run:
            continue
        loaded = survey.loaded.get((feed.stage.name, feed.instrument))
        where = survey.paths.relative(feed.folder)
        if loaded is None:  # a schedule of some stages only may be meant so
            size = amount(sum(file.size for file in feed.files))
            what = f"{feed.stage.name} has never read it for {feed.instrument.key}: {size}"
            hint = f"flowvault run {feed.instrument.options}"
            yield Finding(Severity.WARNING, "unread", where, what, hint)
            continue
        since = survey.now - loaded.committed
        if loaded.state is None or since <= survey.patience or _is_looked_at(feed):
            continue
        unseen = unread_bytes(survey.paths, loaded.state, feed.kind, feed.instrument)
        why, hint = _why_unread(survey)
        what = (
            f"{amount(unseen)} unread, and {feed.stage.name} of {feed.instrument.key} has "
            f"committed nothing for {duration(since.total_seconds())}: {why}"
        )
        yield Finding(Severity.ERROR, "unread", where, what, hint)
    yield from tables.unread(survey)


def _never_run(survey: Survey, run: set[Instrument]) -> Iterator[Finding]:
    """Instruments that have raw data and nothing else."""
    for instrument in survey.instruments:
        own = [feed for feed in survey.feeds if feed.instrument == instrument]
        if own and instrument not in run:
            kinds = ", ".join(feed.kind for feed in own)
            size = amount(sum(file.size for feed in own for file in feed.files))
            what = f"has never been run: {kinds}, {size}"
            hint = f"flowvault run {instrument.options}"
            yield Finding(Severity.ERROR, "unread", instrument.key, what, hint)


def _why_unread(survey: Survey) -> tuple[str, str]:
    """Whether there is a schedule at all, to judge by its log."""
    log = survey.root / LOG
    if (
        log.is_file()
        and survey.now.timestamp() - log.stat().st_mtime < survey.patience.total_seconds()
    ):
        return f"the schedule runs and fails, see {LOG}", show_end(log)
    return "does anybody run it?", "flowvault schedule --install"


def _is_looked_at(feed: Feed) -> bool:
    """Whether the last files hold no whole line that is still to be read."""
    marks = {mark.day: mark for mark in feed.marks}
    return all(_is_read(file, marks.get(file.day)) for file in feed.files[-2:])


def _is_read(file: DayFile, mark: FileMark | None) -> bool:
    if mark is None:
        return False
    if (mark.name, mark.size, mark.mtime_ns) == (file.path.name, file.size, file.mtime_ns):
        return True
    if file.encoding or file.size - mark.offset > _HEAD_BYTES:
        return False
    return b"\n" not in b"".join(chunks(file, mark.offset, _HEAD_BYTES))


def stalled(survey: Survey) -> Iterator[Finding]:
    """No feed is so far behind the others that rows wait for it."""
    for instrument in survey.instruments:
        own = [each for each in survey.loaded.values() if each.instrument == instrument]
        waiting: dict[str, list[str]] = {}
        newest: dict[str, int] = {}
        for each in own:
            if each.state is None or not each.stage.inputs:
                continue
            marks = _clocks(survey, each, each.state)
            furthest = max(marks.values(), default=0)
            for name, at in marks.items():
                if furthest - at > patience_us(each.stage, stages.load(name).layers[0].name):
                    waiting.setdefault(name, []).append(each.stage.name)
                    newest[name] = max(newest.get(name, 0), furthest - at)
        for name, names in waiting.items():
            behind = newest[name] / 1e6
            is_long = behind > survey.patience.total_seconds()
            severity = Severity.ERROR if is_long else Severity.WARNING
            kind = stages.load(name).raw_kind
            what = f"{kind} are {duration(behind)} behind the other feeds: {_list(names)} wait"
            hint = f"flowvault run {instrument.options} --give-up 5m"
            yield Finding(severity, "stalled", instrument.key, what, hint)


def _clocks(survey: Survey, loaded: Loaded, state: State) -> dict[str, int]:
    """The clocks of the raw stages that a joined stage waits for."""
    found: dict[str, int] = {}
    for name in _roots(survey, loaded.stage, state, loaded.instrument):
        root = survey.state(name, loaded.instrument)
        if root is not None and root.watermark_us is not None:
            found[name] = root.watermark_us
    return found


def _roots(
    survey: Survey, stage: Stage[Any, Any], state: State | None, instrument: Instrument
) -> set[str]:
    """The raw stages at the heads of a stage's chains, but for inputs that were given up."""
    if stage.raw_kind:
        return {stage.name}
    if state is None:
        return set()
    awaited = [e.layer for e in stage.inputs if e.is_awaited and not _is_given_up(e.layer, state)]
    found: set[str] = set()
    for layer in awaited or [stage.source]:
        if layer in state.upstream:
            owner = stages.owner(layer)
            found |= _roots(survey, owner, survey.state(owner.name, instrument), instrument)
    return found


def _is_given_up(layer: str, state: State) -> bool:
    """Whether the last rows went on without an input."""
    given_up = state.given_up.get(layer, [])
    return bool(given_up) and given_up[-1][1] == state.watermark_us


def silent(survey: Survey) -> Iterator[Finding]:
    """No feed has stopped coming in while others come, nor, a while ago, all of them."""
    collected = {
        feed.folder: feed for feed in survey.feeds if feed.instrument.exchange != _SIMULATED
    }
    last = max((feed.written for feed in collected.values()), default=None)
    if last is None or survey.now - last > _LIVE:
        return  # nothing is being collected here
    quiet = survey.now - last
    if quiet > survey.patience:
        what = f"nothing new in any feed for {duration(quiet.total_seconds())}: "
        what += "is the collector running?"
        hint = show_folder(survey.root / "raw")
        yield Finding(Severity.WARNING, "silent", "raw", what, hint)
        return
    for feed in collected.values():
        quiet = survey.now - feed.written
        if quiet > survey.patience:
            what = f"nothing new for {duration(quiet.total_seconds())}, while other feeds come in"
            where = survey.paths.relative(feed.folder)
            yield Finding(Severity.WARNING, "silent", where, what, show_folder(feed.folder))


def clock(survey: Survey) -> Iterator[Finding]:
    """Nothing comes from the future."""
    for feed in survey.feeds:
        state = survey.state(feed.stage.name, feed.instrument)
        hint = f"flowvault tail {feed.stage.layers[0].name} {feed.instrument.options} -n 1"
        if state is not None and state.watermark_us is not None:
            ahead = moment(state.watermark_us) - survey.now
            if ahead > _CLOCK_SLACK:
                what = (
                    f"the newest {feed.kind} are stamped {duration(ahead.total_seconds())} ahead "
                    "of this machine's clock: one of the clocks is wrong"
                )
                yield Finding(Severity.ERROR, "clock", feed.instrument.key, what, hint)
        today = (survey.now + timedelta(minutes=5)).date().isoformat()
        if feed.files[-1].day > today:
            what = f"there is a day file of {feed.files[-1].day}, and today is {today} (UTC)"
            where = survey.paths.relative(feed.files[-1].path)
            yield Finding(Severity.ERROR, "clock", where, what, SHOW_CLOCK)


def rotation(survey: Survey) -> Iterator[Finding]:
    """Day files follow each other, each once, and do not change behind the cursor."""
    told = set()
    for feed in survey.feeds:
        yield from _changed(survey, feed)
        if feed.folder in told:
            continue
        told.add(feed.folder)
        where = survey.paths.relative(feed.folder)
        names = sorted(path.name for path in feed.folder.iterdir() if path.is_file())
        days = Counter(day_of(name) for name in names)
        twins = [day for day, count in days.items() if day is not None and count > 1]
        if twins:
            what = f"two files of {_list(twins)}: the plain one counts, the other is not read"
            yield Finding(Severity.WARNING, "rotation", where, what, show_folder(feed.folder))
        strange = [name for name in names if day_of(name) is None]
        if strange:
            what = f"{_list(strange)}: not named YYYY-MM-DD.jsonl, .gz or .zst, and never read"
            yield Finding(Severity.WARNING, "rotation", where, what, show_folder(feed.folder))
        missing = _missing(survey, feed)
        if missing:
            what = f"no file of {_list(missing)}: nothing was collected, or it was moved away"
            yield Finding(Severity.WARNING, "rotation", where, what, show_folder(feed.folder))


def _changed(survey: Survey, feed: Feed) -> Iterator[Finding]:
    """Files that a run will refuse."""
    marks = {mark.day: mark for mark in feed.marks}
    last = feed.marks[-1].day if feed.marks else ""
    for file in feed.files:
        what = _refused(file.size, bool(file.encoding), marks.get(file.day), last, file.day)
        if what is not None:
            where = survey.paths.relative(file.path)
            hint = f"flowvault rebuild {feed.stage.name} {feed.instrument.options}"
            yield Finding(Severity.ERROR, "rotation", where, what, hint)


def _refused(size: int, is_packed: bool, mark: FileMark | None, last: str, day: str) -> str | None:
    if mark is None:
        return "appeared after a later day had been read" if day < last else None
    if is_packed or not mark.name.endswith(".jsonl"):
        return None
    if size < mark.offset:
        return f"shrank to {size:,} bytes; {mark.offset:,} had been read"
    if day < last and size > mark.offset and mark.size >= 0:
        return "grew after a later day had been read"
    return None


def _missing(survey: Survey, feed: Feed) -> list[str]:
    """Days of the last weeks of which there neither is nor was a file, as runs of days."""
    known = {mark.day for mark in feed.marks} | {file.day for file in feed.files}
    first = (survey.now - timedelta(days=_LOOK_BACK_DAYS)).date().isoformat()
    start, end = max(min(known), first), max(known)
    found = []
    try:
        at, stop = date.fromisoformat(start), date.fromisoformat(end)
    except ValueError:
        return []
    while at < stop:
        if at.isoformat() not in known:
            found.append(at.isoformat())
        at += timedelta(days=1)
    return [low if low == high else f"{low} to {high}" for low, high, _ in spans(found)]


def contracts(survey: Survey) -> Iterator[Finding]:
    """Sizes in contracts can be turned into base units."""
    opened = survey.opened
    if isinstance(opened, FlowvaultError):
        return
    for feed in survey.feeds:
        state = survey.state(feed.stage.name, feed.instrument)
        if feed.stage.decode is None or (state is not None and state.watermark_us is not None):
            continue
        try:
            contract = contract_of(feed.instrument, opened.table, survey.root)
        except FlowvaultError:
            continue  # told by `settings`
        if contract.value:
            continue
        file = feed.files[0]
        source = survey.paths.relative(file.path)
        try:
            data = next(chunks(file, 0, _HEAD_BYTES), b"")[:_HEAD_BYTES]
            whole = data[: data.rfind(b"\n") + 1]
            batch = feed.stage.decode(Block(whole, source, file.day, 0), feed.instrument, contract)
            is_unknown = isinstance(batch, BookBatch)  # sizes of books are looked at later
        except UnknownContractError:
            is_unknown = True
        except DataError:
            continue
        if is_unknown:
            error = unknown_contract(feed.instrument, survey.root, source)
            first, *lines = error.message.splitlines()
            what = f"{first.partition(';')[0]}; add {'; '.join(line.strip() for line in lines)}"
            hint = f"edit {survey.root / 'instruments.toml'}"
            yield Finding(Severity.ERROR, "contract", feed.instrument.key, what, hint)


def quarantine(survey: Survey) -> Iterator[Finding]:
    """Few lines are bad or late; what they are, if there are any new ones."""
    for feed in survey.feeds:
        state = survey.state(feed.stage.name, feed.instrument)
        folder = survey.paths.quarantine(feed.instrument, feed.kind)
        files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
        if state is None or not files:
            continue
        newest = files[-1]
        length = state.outputs.get(survey.paths.relative(newest), 0)
        reasons = Counter(
            msgspec.json.decode(line)["reason"]
            for line in last_lines(newest, length, _LAST_REJECTS)
        )
        counts = state.counts
        is_much = counts.bad * _IN_A_HUNDRED > counts.rows_in
        age = survey.now.timestamp() - newest.stat().st_mtime
        if not reasons or (not is_much and age > _LIVE.total_seconds()):
            continue
        share = counts.bad / max(1, counts.rows_in)
        total = sum(reasons.values())
        told = ", ".join(f"{why} {n / total:.0%}" for why, n in reasons.most_common(4))
        what = (
            f"{feed.kind}: {counts.bad:,} bad ({share:.2%}) and {counts.late:,} late of "
            f"{counts.rows_in:,}; the last {total:,}, {duration(age)} ago: {told}"
        )
        if reasons["future"]:
            what += " (future: the collector's clock, or one record's, ran ahead)"
        severity = Severity.ERROR if is_much else Severity.NOTE
        where = survey.paths.relative(newest)
        yield Finding(severity, "quarantine", where, what, show_end(newest))


def _list(names: list[str]) -> str:
    """The first of them."""
    more = len(names) - 4
    return ", ".join(names[:4]) + (f" and {more} more" if more > 0 else "")
