"""What the checks look at: states, raw folders and settings of a vault, each read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths, find_instruments, instruments_of
from pipeline.engine.rawfiles import DayFile, day_files
from pipeline.engine.state import FileMark, State
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, disk_errors
from pipeline.instrument import Instrument
from pipeline.stage import Stage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A stage's state for an instrument, as it could be read.

    Attributes:
        error: why it could not, if so.
        warning: what was wrong with the newest generation.
        committed: when it was last committed, by the clock of the file system.
    """

    stage: Stage[Any, Any]
    instrument: Instrument
    state: State | None
    error: FlowvaultError | None
    warning: str | None
    committed: datetime

    @property
    def key(self) -> tuple[str, Instrument]:
        """Which it is."""
        return self.stage.name, self.instrument


@dataclass
class Survey:
    """A vault at a moment.

    Attributes:
        now: the moment.
        patience: how long raw data may lie unread, and a feed be silent.
        is_chosen: which instruments are looked at.
    """

    root: Path
    now: datetime
    patience: timedelta
    is_chosen: Callable[[Instrument], bool] = field(default=lambda _instrument: True)

    @cached_property
    def paths(self) -> VaultPaths:
        """Where things lie."""
        return VaultPaths(self.root)

    @cached_property
    def opened(self) -> Vault | FlowvaultError:
        """The vault with its settings, or what is wrong with these."""
        try:
            return Vault.open(self.root)
        except FlowvaultError as error:
            return error

    @cached_property
    def instruments(self) -> list[Instrument]:
        """Every instrument that has raw data or a state."""
        made = {each for stage in stages.SUMMARY for each in instruments_of(self.paths, stage)}
        return [
            each for each in sorted({*find_instruments(self.root), *made}) if self.is_chosen(each)
        ]

    @cached_property
    def loaded(self) -> dict[tuple[str, Instrument], Loaded]:
        """Every state."""
        found = {}
        for stage in stages.all_stages():
            for instrument in instruments_of(self.paths, stage.name):
                if self.is_chosen(instrument):
                    each = self._load(stage, instrument)
                    found[each.key] = each
        return found

    def state(self, stage: str, instrument: Instrument) -> State | None:
        """A state, if there is one that can be read."""
        found = self.loaded.get((stage, instrument))
        return None if found is None else found.state

    @cached_property
    def feeds(self) -> list[Feed]:
        """Every raw folder with day files, by the stage and instrument that read it."""
        found = []
        for stage in stages.all_stages():
            if stage.raw_kind is None:
                continue
            for instrument in self.instruments:
                if instrument.market not in stage.markets:
                    continue
                folder = self.paths.raw(instrument, stage.raw_kind)
                files = day_files(folder)
                if files:
                    state = self.state(stage.name, instrument)
                    marks = state.raw.get(stage.raw_kind, []) if state is not None else []
                    found.append(Feed(stage, instrument, folder, files, marks))
        return found

    def _load(self, stage: Stage[Any, Any], instrument: Instrument) -> Loaded:
        path = self.paths.state(stage.name, instrument)
        error = state = warning = None
        try:
            with disk_errors("see to the permissions of the file"):
                state, warning = states.load(path)
        except FlowvaultError as failure:
            error = failure
        times = [p.stat().st_mtime for p in (path, states.previous_path(path)) if p.exists()]
        committed = datetime.fromtimestamp(max(times, default=0.0), UTC)
        return Loaded(stage, instrument, state, error, warning, committed)


@dataclass(frozen=True, slots=True)
class Feed:
    """A raw folder and how far a stage has read it for an instrument."""

    stage: Stage[Any, Any]
    instrument: Instrument
    folder: Path
    files: list[DayFile]
    marks: list[FileMark]

    @property
    def kind(self) -> str:
        """The kind of raw data."""
        return self.stage.raw_kind or ""

    @property
    def written(self) -> datetime:
        """When its newest file was last written to."""
        return _EPOCH + timedelta(microseconds=max(f.mtime_ns for f in self.files) // 1000)


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a time, as near as a time can be."""
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
