"""How good the data are: what each feed brought, what was refused, and what is not there."""

from __future__ import annotations

from typing import Any

from pipeline import stages
from pipeline.engine.presence import lacking
from pipeline.engine.progress import STALLED_US
from pipeline.engine.within import Committed
from pipeline.report.gather import DRAWN
from pipeline.stage import Stage

BEHIND_US = 600_000_000
"""A stage this far behind the feeds is behind: windows of half an hour are the longest there are,
but they are kept by the five minutes."""

_RAW = {
    "trades": "trades",
    "books": "order book",
    "quotes": "quotes",
    "open_interest": "open interest",
    "liquidations": "liquidations",
    "ratio": "long/short ratio",
    "whale_alerts": "whale alerts",
}
_STEADY = ("trades", "books", "quotes")
"""Feeds that bring something every few seconds, so that silence means they have stalled."""


def feeds(committed: Committed, days: list[str]) -> list[dict[str, Any]]:
    """One entry a feed: how far it is, and what became of its records.

    Counts are totals since the stage's state was made; `refused` are lines in the quarantine by
    the day of their file and the reason, for the days asked for.
    """
    found = {kind: _feed(committed, kind, days) for kind in _RAW}
    marks = [found[kind]["watermark"] for kind in _STEADY if found[kind]["watermark"] is not None]
    for kind in _STEADY:
        mark = found[kind]["watermark"]
        if mark is not None:
            found[kind]["behind_s"] = (max(marks) - mark) / 1e6
            found[kind]["stalled"] = max(marks) - mark > STALLED_US
    return list(found.values())


def _feed(committed: Committed, kind: str, days: list[str]) -> dict[str, Any]:
    stage = _reader_of(kind)
    state = committed.states[stage.name]
    entry: dict[str, Any] = {
        "kind": kind,
        "label": _RAW[kind],
        "watermark": None,
        "behind_s": None,
        "stalled": False,
        "note": None,
        "refused": {},
    }
    if state is None:
        return {**entry, "note": _why_not(committed, stage)}
    counts = state.counts
    refused = {day: committed.quarantined(kind, day) for day in days}
    return {
        **entry,
        "watermark": state.watermark_us,
        "records": counts.rows_in,
        "late": counts.late,
        "duplicate": counts.duplicate,
        "bad": counts.bad,
        "refused": {day: reasons for day, reasons in refused.items() if reasons},
    }


def without(committed: Committed) -> list[dict[str, Any]]:
    """What stages went on without (`run --give-up`): stage, layer, from and to in microseconds."""
    return [
        {"stage": name, "layer": layer, "from": low, "to": high}
        for name, state in committed.states.items()
        if state is not None
        for layer, spans in state.given_up.items()
        for low, high in spans
    ]


def behind(committed: Committed) -> list[dict[str, Any]]:
    """Stages that have not come as far as the feeds: they wait for an input, or were not run."""
    feeds_at = [
        state.watermark_us
        for state in (committed.states[_reader_of(kind).name] for kind in _STEADY)
        if state is not None and state.watermark_us is not None
    ]
    if not feeds_at:
        return []
    found = []
    for name in dict.fromkeys(stages.owner(layer).name for layer in DRAWN):
        state = committed.states[name]
        if state is None or stages.load(name).raw_kind:
            continue
        lag = max(feeds_at) - (state.watermark_us or 0)
        if lag > BEHIND_US:
            found.append({"stage": name, "behind_s": lag / 1e6 if state.watermark_us else None})
    return found


def layers(committed: Committed, counts: dict[str, int]) -> list[dict[str, Any]]:
    """Every layer the page knows: its rows in the span, or why it has none.

    Args:
        committed: the instrument.
        counts: rows in the span by layer.
    """
    found = []
    for name in (*DRAWN, "footprint"):
        stage = stages.owner(name)
        state = committed.states[stage.name]
        last = committed.last_us(name)
        entry: dict[str, Any] = {
            "layer": name,
            "stage": stage.name,
            "rows": counts.get(name, 0),
            "version": stage.version if state is None else state.code_version,
            "last": last,
            "note": None,
        }
        if state is None:
            entry["note"] = _why_not(committed, stage)
        elif name not in ("gaps", "book_gaps", "footprint") and not entry["rows"]:
            entry["note"] = "no rows yet" if last is None else "no rows in this span"
        found.append(entry)
    return found


def parameters(committed: Committed) -> dict[str, dict[str, Any]]:
    """The parameters of the stages the page shows, by stage."""
    names = dict.fromkeys(stages.owner(name).name for name in DRAWN)
    states = {name: committed.states[name] for name in names}
    return {name: state.params for name, state in states.items() if state is not None}


def _why_not(committed: Committed, stage: Stage[Any, Any]) -> str:
    """Why a stage has no state."""
    kinds = _lacking(committed, stage)
    if kinds:
        folders = [
            committed.paths.relative(committed.paths.raw(committed.instrument, kind))
            for kind in kinds
        ]
        return f"nothing under {' and '.join(folders)}"
    return f"never run: flowvault {stage.name} {committed.instrument.options}"


def _lacking(committed: Committed, stage: Stage[Any, Any]) -> list[str]:
    """The kinds of raw data without which a stage has nothing to do and that are not there."""
    if committed.states[stage.name] is not None or stage.raw_kind:
        return lacking(committed.paths, stage, committed.instrument)
    required = [each.layer for each in stage.inputs if each.required]
    names = required or ([stage.source] if stage.source else [])
    kinds = [kind for name in names for kind in _lacking(committed, stages.owner(name))]
    return list(dict.fromkeys(kinds))


def _reader_of(kind: str) -> Stage[Any, Any]:
    return next(each for each in stages.all_stages() if each.raw_kind == kind)
