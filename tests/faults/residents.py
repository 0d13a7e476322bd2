"""Stages that are open, of which bars are committed before what they were made from."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.engine.resident import Resident
from pipeline.engine.vault import Vault

from .workload import CHAIN, INSTRUMENT


def opened(vault: Path, encoder: ThreadPoolExecutor) -> Resident:
    """The chain, open."""
    resident = Resident(Vault.open(vault), CHAIN, INSTRUMENT, encoder, ("bars",))
    assert not resident.open()
    return resident


def fold(resident: Resident) -> None:
    """Carry new lines as far as bars."""
    for name in ("trades", "bars"):
        resident.runs[name].advance()


def write_on(path: Path, data: bytes) -> None:
    """A collector appends, through calls that a recorder sees, and syncs nothing."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.lseek(handle, 0, os.SEEK_END)
    os.write(handle, data)
    os.close(handle)
