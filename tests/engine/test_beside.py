"""Stages of one level that read different things run beside each other."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.engine import runner
from pipeline.engine.ahead import THREADS
from pipeline.engine.runner import run_stages
from pipeline.engine.state import read_state
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument
from pipeline.sim import write_market

SIM = Instrument("sim", "perps", "BTC-USDT-SWAP")
CHAIN = [stages.load(name) for name in ("trades", "book")]

pytestmark = pytest.mark.skipif(THREADS < 2, reason="one core runs one after the other")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Some minutes of trades and books."""
    write_market(tmp_path, hours=0.1, quotes=False)
    return Vault.open(tmp_path)


def test_both_are_at_work_at_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other to have begun."""
    both, run_group = threading.Barrier(2, timeout=60), runner._run_group

    def meet(group: Any, **options: Any) -> Any:
        both.wait()
        return run_group(group, **options)

    monkeypatch.setattr(runner, "_run_group", meet)
    done = list(run_stages(vault, CHAIN, SIM))
    assert [type(each) for each in done] == [Summary, Summary]
    assert [each.counts.rows_out > 0 for each in done if isinstance(each, Summary)] == [True] * 2


def test_one_that_is_interrupted_stops_the_other(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends behind the batch in hand, and commits that."""
    stopped, run_group = [], runner._run_group
    has_begun, is_over = threading.Event(), threading.Event()

    def interrupt(group: Any, **options: Any) -> Any:
        if group[0].stage.name == "trades":
            assert has_begun.wait(60)
            raise KeyboardInterrupt
        has_begun.set()
        for _ in range(600):  # a batch of a minute at most
            if options["is_stopped"]():
                stopped.append(group[0].stage.name)
                break
            is_over.wait(0.1)
        return run_group(group, **options)

    monkeypatch.setattr(runner, "_run_group", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(run_stages(vault, CHAIN, SIM))
    assert stopped == ["book"]
    state = read_state(vault.paths.state("book", SIM))
    assert state is not None
    assert state.counts.rows_out > 0
