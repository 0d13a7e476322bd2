"""Which stages an instrument has something for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline import stages
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawfiles import day_files
from pipeline.engine.state import load
from pipeline.instrument import Instrument
from pipeline.stage import Input, Stage


def applies(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> bool:
    """A stage runs where its raw folder is, or where it or all that it must read has run before."""
    if instrument.market not in stage.markets:
        return False
    if paths.state(stage.name, instrument).is_file():
        return True
    if stage.raw_kind:
        return paths.raw(instrument, stage.raw_kind).is_dir()
    return _all_there(paths, stage, instrument, applies)


def has_data(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> bool:
    """The same, but a raw folder without any day file is none, nor are rows nobody can use.

    To be asked once the stages above have run.
    """
    if instrument.market not in stage.markets:
        return False
    if paths.state(stage.name, instrument).is_file():
        return True
    if stage.raw_kind:
        return bool(day_files(paths.raw(instrument, stage.raw_kind)))
    return _all_there(paths, stage, instrument, has_data) and _can_choose(paths, stage, instrument)


def lacking(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> list[str]:
    """The kinds of raw data that are not there and without which a stage has nothing to do."""
    if paths.state(stage.name, instrument).is_file():
        return []
    if stage.raw_kind:
        return [] if has_data(paths, stage, instrument) else [stage.raw_kind]
    required = [each.layer for each in stage.inputs if each.required]
    required += [] if stage.inputs else [stage.source]
    kinds = [kind for name in required for kind in lacking(paths, stages.owner(name), instrument)]
    return list(dict.fromkeys(kinds))


def is_settled(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> bool:
    """Whether it is known if this stage and those it reads have something for an instrument.

    A stage with a choice may have to see the first rows. To be asked once the stages above have
    run.
    """
    if paths.state(stage.name, instrument).is_file():
        return True
    if not all(is_settled(paths, each, instrument) for each in stages.upstreams(stage)):
        return False
    if stage.select is None or not _all_there(paths, stage, instrument, has_data):
        return True
    return _choice(paths, stage, instrument) is not None


def _can_choose(paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument) -> bool:
    """Whether a stage with a choice of inputs finds one among those that are there."""
    return stage.select is None or bool(_choice(paths, stage, instrument))


def _choice(
    paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument
) -> tuple[Input, ...] | None:
    """What a stage chooses among the layers that there are; None if that is not clear yet."""
    owners = {name: stages.owner(name) for name in stage.reads}
    there = {n: each for n, each in owners.items() if has_data(paths, each, instrument)}
    found = {n: load(paths.state(each.name, instrument))[0] for n, each in there.items()}
    if None in found.values() or stage.select is None:
        return stage.inputs  # what has data and has not run yet may still be chosen
    carries = {name: state.carry for name, state in found.items() if state is not None}
    return stage.select(stage.params(), carries)


def _all_there(
    paths: VaultPaths, stage: Stage[Any, Any], instrument: Instrument, there: Callable[..., bool]
) -> bool:
    """Every layer it must have, and one at least."""
    found = {name: there(paths, stages.owner(name), instrument) for name in stage.reads}
    required = [each.layer for each in stage.inputs if each.required] or (
        [] if stage.inputs else [stage.source]
    )
    return all(found[name] for name in required) and any(found.values())
