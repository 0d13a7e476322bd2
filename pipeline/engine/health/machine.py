"""Checks of the machine: room on the disk, permissions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.engine.health.finding import SHOW_USER, Finding, Severity, amount
from pipeline.engine.health.survey import Survey

_LEAST = 256 << 20
_FEW_DAYS = 7
_LAST_DAYS = 3


def space(survey: Survey) -> Iterator[Finding]:
    """There is room for the days to come."""
    free = shutil.disk_usage(survey.root).free
    raw, derived = _raw_a_day(survey), _derived_a_day(survey)
    a_day = raw + derived
    days = free / a_day if a_day else float("inf")
    if free >= _LEAST and days >= _FEW_DAYS:
        return
    severity = Severity.ERROR if free < _LEAST or days < 1 else Severity.WARNING
    what = f"{amount(free)} free"
    if a_day:
        what += f"; a day adds {amount(raw)} raw and {amount(derived)} derived: "
        what += f"room for {days:,.1f} days"
    yield Finding(severity, "disk", ".", what, "flowvault gc")


def _raw_a_day(survey: Survey) -> float:
    """Bytes of the largest of each folder's last days: of today there is only a part."""
    folders = {feed.folder: feed for feed in survey.feeds}
    return sum(max(file.size for file in feed.files[-_LAST_DAYS:]) for feed in folders.values())


def _derived_a_day(survey: Survey) -> float:
    """Bytes that a day of raw data has left so far, on average."""
    found = 0.0
    for instrument in survey.instruments:
        own = [each for each in survey.loaded.values() if each.instrument == instrument]
        days = max(
            (
                len(marks)
                for each in own
                if each.state is not None
                for marks in each.state.raw.values()
            ),
            default=0,
        )
        folders = {
            survey.paths.derived(layer.folder, instrument)
            for each in own
            for layer in each.stage.layers
        }
        found += sum(_size(folder) for folder in folders) / max(1, days)
    return found


def _size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file())
    except FileNotFoundError:
        return 0


def permissions(survey: Survey) -> Iterator[Finding]:
    """This user can read what comes in and write what comes out."""
    for folder in ("state", "derived", "quarantine"):
        top = survey.root / folder
        places = {top if top.exists() else survey.root}
        for each in survey.loaded.values():
            path = survey.paths.state(each.stage.name, each.instrument)
            if folder == "state":
                places |= {path.parent, path}
            elif folder == "derived":
                layers = each.stage.layers
                places |= {survey.paths.derived(layer.folder, each.instrument) for layer in layers}
        denied = [path for path in sorted(places) if path.exists() and not _can_write(path)]
        if denied:
            where = survey.paths.relative(denied[0])
            yield Finding(Severity.ERROR, "permissions", where, _denied("write", denied), SHOW_USER)
    unreadable = [
        path
        for feed in survey.feeds
        for path in (feed.folder, feed.files[-1].path)
        if not os.access(path, os.R_OK)
    ]
    if unreadable:
        where = survey.paths.relative(unreadable[0])
        yield Finding(Severity.ERROR, "permissions", where, _denied("read", unreadable), SHOW_USER)


def _can_write(path: Path) -> bool:
    return os.access(path, os.W_OK | os.X_OK if path.is_dir() else os.W_OK)


def _denied(what: str, paths: list[Path]) -> str:
    more = f" and {len(paths) - 1} more places" if len(paths) > 1 else ""
    return f"this user may not {what} here{more}"
