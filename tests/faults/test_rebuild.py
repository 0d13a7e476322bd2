"""Promise: a rebuild may be disturbed anywhere.

What is committed are the old rows or the new ones, whole, and a repeated rebuild ends with the
bytes of an undisturbed one.

"late": the rebuild puts trades into minutes that had closed without them. "contract": the
contract size has changed, so that other rows go into files of the same names.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError

from . import rebuilds
from .conftest import SMALL
from .model import STYLES, Disk, KilledError, Op, Recorder, fail_at, kill_at, write_image
from .rebuilds import TOML, Before, own_files, prepare, rebuild
from .workload import BARS, CHAIN, INSTRUMENT, TRADES, VOLUME, grow, make_raw

Prepared = Callable[[str, str], Before]
EACH = [("late", "trades"), ("contract", "trades"), ("late", "bars"), ("contract", "volume")]
_RNG = random.Random(0)
each_case = pytest.mark.parametrize(("kind", "stage"), EACH)


@pytest.fixture(scope="module")
def prepared(scratch_root: Path) -> Prepared:
    """Vaults in which a rebuild of a stage is due."""
    made: dict[tuple[str, str], Before] = {}

    def get(kind: str, stage: str) -> Before:
        if (kind, stage) not in made:
            root = scratch_root / f"rebuild-{kind}-{stage}"
            root.mkdir()
            late = kind == "late"
            chosen = next(each for each in CHAIN if each.name == stage)
            made[kind, stage] = prepare(
                root, make_raw(*SMALL, late=late), chosen, None if late else TOML
            )
        return made[kind, stage]

    return get


def _stride(stage: str, stride: int) -> int:
    return stride if stage == "trades" else max(1, stride // 2)


@each_case
@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_killed(prepared: Prepared, kind: str, stage: str, stride: int) -> None:
    """Killed before any operation."""
    faults, tried = rebuilds.simulate_faults(
        prepared(kind, stage), kill_at, stride=_stride(stage, stride), seed=3
    )
    assert faults == []
    assert tried > 4


@each_case
@pytest.mark.parametrize("stride", [20, pytest.param(1, marks=pytest.mark.slow)])
def test_failing_operation(prepared: Prepared, kind: str, stage: str, stride: int) -> None:
    """Any one operation fails."""
    faults, tried = rebuilds.simulate_faults(
        prepared(kind, stage), fail_at, stride=_stride(stage, stride), seed=11
    )
    assert faults == []
    assert tried > 4


@each_case
@pytest.mark.parametrize(
    ("images", "stride"), [(0, 17), pytest.param(20, 1, marks=pytest.mark.slow)]
)
def test_power_cut(prepared: Prepared, kind: str, stage: str, images: int, stride: int) -> None:
    """The power is cut after any operation."""
    faults, tried = rebuilds.simulate_power_cuts(
        prepared(kind, stage), images=images, stride=stride
    )
    assert faults == []
    assert tried > 10


@each_case
@pytest.mark.parametrize("stride", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_then_power_cut(prepared: Prepared, kind: str, stage: str, stride: int) -> None:
    """Killed, finished or dropped by the next run, then the power is cut."""
    faults, tried = rebuilds.simulate_kill_then_power_cut(
        prepared(kind, stage), stride=_stride(stage, stride), seed=stride - 1
    )
    assert faults == []
    assert tried > 0


def test_cleaning_up_survives_a_power_cut(prepared: Prepared) -> None:
    """While the folder of a finished rebuild is deleted, any of its names may outlive the others.

    A leftover must not make the next run swap again and delete what the swap had put in place.
    """
    before = prepared("contract", "volume")
    recorder = Recorder(before.vault("recorded"))
    with recorder.recording():
        rebuild(Path(recorder.root), before.stage)
    ready = next(
        at for at, op in enumerate(recorder.ops) if (op.kind, op.name[1]) == ("unlink", "READY")
    )
    disk = Disk(recorder.start)
    for op in recorder.ops[:ready]:
        disk.apply(op)
    for op in recorder.ops[ready + 1 :]:
        disk.apply(op)
        if op.kind == "sync_dir" and op.name[1].endswith(".rebuild"):
            break
        found = rebuilds.mended(before, before.vault("recovered", disk.image("names only", _RNG)))
        assert found is None, f"only the removal of READY is lost, up to {op}: {found}"


def _interrupt_swap(before: Before, vault: Path) -> None:
    """Kill a rebuild just before the first new file takes an old one's place."""
    seen: list[str] = []

    def hook(number: int, op: Op) -> None:
        del number
        if op.kind == "rename" and "rebuild" in op.name[0] and op.target[0].startswith("derived"):
            seen.append(str(op))
            raise KilledError

    with pytest.raises(KilledError), Recorder(vault).recording(hook):
        rebuild(vault, before.stage)
    assert seen


def _status(act: Callable[[], None]) -> int:
    try:
        act()
    except FlowvaultError as error:
        return error.status
    return 0


def run_volume(vault: Path) -> None:
    """Run the stage behind `trades`."""
    run_stage(Vault.open(vault), VOLUME, INSTRUMENT)


@pytest.mark.parametrize("again", ["rebuild", "first run"])
def test_nobody_reads_in_the_middle_of_a_swap(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """A rebuild of `trades` died while it was swapped in; then `volume` reads that layer.

    It may wait, refuse or finish the swap, but never commit rows made of old files under the new
    state: after `trades` is finished by its next run they must not stand.
    """
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    before = prepared("contract", "trades")
    vault = before.vault("swapping")
    if again == "first run":
        for path in (p := VaultPaths(vault).state("volume", INSTRUMENT), states.previous_path(p)):
            path.unlink(missing_ok=True)
    _interrupt_swap(before, vault)
    opened = Vault.open(vault)
    status = _status(lambda: rebuild(vault, VOLUME) if again == "rebuild" else run_volume(vault))
    assert status in (0, 65, 75)
    run_stage(opened, TRADES, INSTRUMENT)
    assert own_files(vault, TRADES) == before.new
    right = prepared("contract", "volume").new
    if _status(lambda: run_volume(vault)) == 0:
        assert own_files(vault, VOLUME) == right
    else:
        rebuild(vault, VOLUME)
        assert own_files(vault, VOLUME) == right


def test_downstream_notices_a_rebuild_of_a_damaged_stage(prepared: Prepared) -> None:
    """Both states of `trades` were damaged and it was rebuilt: its rows are others now.

    A stage that has read the old ones must refuse to go on, whatever the damaged state had said.
    """
    before = prepared("late", "trades")
    vault = before.vault("damaged")
    path = VaultPaths(vault).state("trades", INSTRUMENT)
    for each in (path, states.previous_path(path)):
        each.write_bytes(b"")
    try:
        rebuild(vault, TRADES)
    except FlowvaultError:
        pytest.skip("a damaged stage cannot be rebuilt at all: see test_rebuild_mends_damage")
    with pytest.raises(FlowvaultError) as caught:
        run_stage(Vault.open(vault), BARS, INSTRUMENT)
    assert caught.value.status == 65


def test_runs_after_a_rebuild_survive_a_power_cut(scratch_root: Path) -> None:
    """A rebuild is long done and more rows were committed; then the power is cut.

    Nothing of the rebuild may come back and undo the commits made since.
    """
    root = scratch_root / "after-rebuild"
    root.mkdir()
    raw = make_raw(*SMALL)
    vault = root / "vault"
    grow(vault, raw, raw.total * 2 // 3)
    run_stage(Vault.open(vault), TRADES, INSTRUMENT)
    recorder = Recorder(vault)
    with recorder.recording():
        rebuild(vault, TRADES)
        grow(vault, raw, raw.total)
        run_stage(Vault.open(vault), TRADES, INSTRUMENT)
    recorder.verify()
    wanted = own_files(vault, TRADES)
    disk = Disk(recorder.start)
    for op in recorder.ops:
        disk.apply(op)
    for style in STYLES:
        copy = root / "image"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        (copy / "raw").symlink_to(vault / "raw")
        write_image(disk.image(style, _RNG), copy)
        run_stage(Vault.open(copy), TRADES, INSTRUMENT)
        assert own_files(copy, TRADES) == wanted, style
