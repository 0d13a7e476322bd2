"""Promise: a damaged state file costs a run's work, never a row.

Two damaged ones are refused with status 65 and the word rebuild, and rebuild mends it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, StateError
from pipeline.stage import Stage

from .model import snapshot, write_image
from .sims import Arena
from .workload import BARS, CHAIN, INSTRUMENT, TRADES, VOLUME, grow


@pytest.fixture
def vault(arena: Arena) -> Path:
    """A vault with two generations of every state."""
    made = arena.vault()
    for step in arena.steps():
        step(made)
    return made


def _state(vault: Path, stage: Stage[Any, Any]) -> Path:
    return VaultPaths(vault).state(stage.name, INSTRUMENT)


@pytest.mark.parametrize("stage", CHAIN, ids=lambda stage: stage.name)
def test_every_flip_and_length_is_noticed(vault: Path, stage: Stage[Any, Any]) -> None:
    """No changed byte (in two ways) and no shorter or longer file passes for a state."""
    whole = _state(vault, stage).read_bytes()
    assert states.decode(whole) is not None
    for at in range(len(whole)):
        for flip in (0x01, 0xFF):
            data = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
            assert states.decode(data) is None, (at, flip)
        assert states.decode(whole[:at]) is None, at
    assert states.decode(whole + b"\n") is None


def damages(whole: bytes, stride: int) -> list[tuple[str, bytes]]:
    """Flipped bytes and short files, every so-manieth."""
    flips = [
        (f"byte {at} ^ {flip:#x}", whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        for at in range(0, len(whole), stride)
        for flip in (0x01, 0xFF)
    ]
    return flips + [(f"{at} bytes", whole[:at]) for at in range(0, len(whole), stride)]


@pytest.mark.parametrize("stage", [TRADES, VOLUME], ids=lambda stage: stage.name)
@pytest.mark.parametrize("pieces", [16, pytest.param(1 << 20, marks=pytest.mark.slow)])
def test_damaged_newest(vault: Path, arena: Arena, stage: Stage[Any, Any], pieces: int) -> None:
    """With the newest generation damaged a run goes on from the one before."""
    path = _state(vault, stage)
    whole = path.read_bytes()
    clean = snapshot(vault)
    for what, data in damages(whole, max(1, len(whole) // pieces)):
        write_image(clean, vault)
        path.write_bytes(data)
        summary = run_stage(Vault.open(vault), stage, INSTRUMENT)
        assert any("damaged" in note for note in summary.notes), what
        arena.truth.check(vault, what)


@pytest.mark.parametrize("stage", [TRADES, BARS], ids=lambda stage: stage.name)
def test_both_damaged(vault: Path, stage: Stage[Any, Any]) -> None:
    """With both damaged a run refuses, touches nothing and names the command that helps."""
    path = _state(vault, stage)
    for each in (path, states.previous_path(path)):
        each.write_bytes(each.read_bytes()[:-9])
    before = snapshot(vault)
    with pytest.raises(StateError) as caught:
        run_stage(Vault.open(vault), stage, INSTRUMENT)
    assert caught.value.status == 65
    assert "rebuild" in str(caught.value)
    assert snapshot(vault) == before


@pytest.mark.parametrize("stage", [TRADES, BARS], ids=lambda stage: stage.name)
def test_rebuild_mends_damage(vault: Path, arena: Arena, stage: Stage[Any, Any]) -> None:
    """The command that a refusal names works."""
    reference = arena.vault()
    write_image(snapshot(vault), reference)
    (reference / "raw").symlink_to(vault / "raw")
    rebuild_stage(Vault.open(reference), stage, INSTRUMENT)
    path = _state(vault, stage)
    for each in (path, states.previous_path(path)):
        each.write_bytes(b"")
    rebuild_stage(Vault.open(vault), stage, INSTRUMENT)
    run_stage(Vault.open(vault), stage, INSTRUMENT)
    for name, content in snapshot(reference).items():
        if not name.startswith("state"):
            assert snapshot(vault)[name] == content, name


@pytest.mark.parametrize("stage", CHAIN, ids=lambda stage: stage.name)
def test_damaged_previous(vault: Path, arena: Arena, stage: Stage[Any, Any]) -> None:
    """With the older generation damaged or gone nothing is lost, and the next commit mends it."""
    previous = states.previous_path(_state(vault, stage))
    previous.write_bytes(b"\0" * 100)
    assert arena.finish(vault) is None
    previous.unlink()
    assert arena.finish(vault) is None


@pytest.mark.parametrize("damage", ["short", "garbage", "gone"])
@pytest.mark.parametrize("stage", [TRADES, VOLUME], ids=lambda stage: stage.name)
def test_damaged_part(arena: Arena, stage: Stage[Any, Any], damage: str) -> None:
    """A committed Parquet file that can no longer be read is refused: 65 and the way out."""
    vault = arena.vault()
    arena.steps()[0](vault)
    grow(vault, arena.truth.raw, arena.cuts[1])
    last = max((vault / "derived" / "trades").rglob("*.parquet"))
    if stage is VOLUME:
        run_stage(Vault.open(vault), TRADES, INSTRUMENT)
        last = max((vault / "derived" / "trades").rglob("*.parquet"))
    whole = last.read_bytes()
    if damage == "gone":
        last.unlink()
    else:
        last.write_bytes(whole[:100] if damage == "short" else bytes(reversed(whole)))
    with pytest.raises(FlowvaultError) as caught:
        run_stage(Vault.open(vault), stage, INSTRUMENT)
    assert caught.value.status == 65
    assert "rebuild" in str(caught.value)
