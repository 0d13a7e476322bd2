"""`flowvault rebuild` where only a part of the stages has ever run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import previous_path
from tests.frames.market import WHERE, Market, market, run
from tests.inprocess import command
from tests.laws.world import unsynced

from .vaults import tree

OPTIONS = WHERE.options.split()


@pytest.fixture(scope="module")
def made() -> Market:
    """Twenty minutes of trades, books and quotes."""
    return market(9, trades=500, minutes=20, is_clean=True)


@pytest.fixture
def vault(made: Market, tmp_path: Path) -> Path:
    """Trades and bars have run; nothing that reads books or quotes ever has."""
    root = tmp_path / "vault"
    root.mkdir()
    with unsynced():
        made.write(root)
        run(root, ["bars"])
    return root


def rebuilt(vault: Path, *arguments: str, expect: int = 0) -> list[str]:
    """The stages that a rebuild has made, in order."""
    done = command(vault, "rebuild", *arguments, *OPTIONS, expect=expect)
    return [line.split()[0] for line in done.out.splitlines()[1:]]


def derived(vault: Path) -> dict[str, bytes]:
    """Every committed row."""
    return tree(vault, "derived")


@pytest.mark.parametrize(
    ("stage", "wanted"), [("bars", ["bars"]), ("trades", ["trades", "bars"])], ids=str
)
def test_what_has_never_run_behind_a_stage_is_left_to_run(
    vault: Path, stage: str, wanted: list[str]
) -> None:
    """Status 0, the same bytes; and a run afterwards makes what a run alone would have made."""
    before = derived(vault)
    assert rebuilt(vault, stage) == wanted
    assert derived(vault) == before
    assert {path.name for path in (vault / "state").iterdir()} == {"trades", "bars"}
    with unsynced():
        run(vault, ["orderflow", "vcp"])
    alone = vault.parent / "alone"
    shutil.copytree(vault / "raw", alone / "raw")
    with unsynced():
        run(alone, ["orderflow", "vcp"])
    assert derived(vault) == derived(alone)
    with unsynced():
        behind = rebuilt(vault, "bars")
    assert behind[0] == "bars"
    assert sorted(behind) == ["bars", "orderflow", "vcp"]
    assert derived(vault) == derived(alone)


def test_a_stage_that_is_named_need_not_have_run(vault: Path) -> None:
    """It is made, if what it reads is there; else the next command is told."""
    assert rebuilt(vault, "volume") == ["volume"]
    done = command(vault, "rebuild", "orderflow", *OPTIONS, expect=66)
    assert "next: flowvault " in done.err
    assert "Traceback" not in done.text


def test_every_stage(vault: Path) -> None:
    """Without a name all that there is anything for, in an order in which they can be made."""
    shutil.rmtree(vault / "raw" / WHERE.exchange / f"quotes_{WHERE.market}")
    empty = vault / "raw" / WHERE.exchange / f"books_{WHERE.market}" / WHERE.inst_id
    for path in empty.iterdir():
        path.unlink()
    found = rebuilt(vault)
    assert found[:2] == ["trades", "bars"]
    assert {"volume", "cvd", "confluence"} <= set(found)
    assert not {"book", "bbo", "quote", "flow", "micro"} & set(found)


def test_nothing_to_make_it_from(vault: Path) -> None:
    """Status 66 and what to look at, not silence."""
    done = command(vault, "rebuild", "open_interest", *OPTIONS, expect=66)
    assert "open_interest has not run" in done.err
    assert f"next: flowvault status {WHERE.options}" in done.err


def test_a_stage_whose_newest_state_is_gone_is_made_again(vault: Path) -> None:
    """The generation before tells that it has run."""
    state = VaultPaths(vault).state("bars", WHERE)
    state.replace(previous_path(state))
    assert rebuilt(vault, "trades") == ["trades", "bars"]
