"""Simulated days shared by the tests: writing and reading them is the slow part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.sim import write_market

from .replay import FULL_DAY, Market, read_market

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session", params=[7, pytest.param(8, marks=pytest.mark.slow)])
def market(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Return a whole simulated day with the start of the next, for two seeds."""
    vault: Path = tmp_path_factory.mktemp("market")
    write_market(vault, **FULL_DAY, days=2, hours=0.25, seed=request.param)
    return read_market(vault, request.param)
