"""Vaults for the laws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.instrument import Instrument

from .feedstock import SWAP
from .world import World, unsynced

NewWorld = Callable[..., World]


@pytest.fixture(scope="module", autouse=True)
def _unsynced() -> Iterator[None]:
    with unsynced():
        yield


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> NewWorld:
    """A maker of empty vaults with one instrument."""

    def make(instrument: Instrument = SWAP) -> World:
        root: Path = tmp_path_factory.mktemp("world")
        return World(root, instrument)

    return make
