"""Stages that are kept open have in memory what they are going to need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.engine import parts
from pipeline.engine.explain import explain
from pipeline.engine.resident import Resident
from pipeline.engine.runner import run_stages
from pipeline.engine.vault import Vault
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument
from pipeline.sim import write_market

SIM = Instrument("sim", "perps", "BTC-USDT-SWAP")
CHAIN = [stages.load(name) for name in ("trades", "bars", "footprint", "vcp")]
MINUTE_MS = 60_000
BEGUN = 8


@pytest.fixture
def small_files() -> Iterator[None]:
    """Parquet files that are full every few minutes."""
    layers = [stages.layers()[name][0] for name in ("trades", "footprint")]
    before = [(layer.part_rows, layer.piece_rows) for layer in layers]
    for layer in layers:
        object.__setattr__(layer, "part_rows", 400)
        object.__setattr__(layer, "piece_rows", 50)
    yield
    for layer, (part_rows, piece_rows) in zip(layers, before, strict=True):
        object.__setattr__(layer, "part_rows", part_rows)
        object.__setattr__(layer, "piece_rows", piece_rows)


def minutes(raw: Path) -> list[bytes]:
    """Lines of a raw file by minute."""
    found: dict[int, bytes] = {}
    for line in raw.read_bytes().splitlines(keepends=True):
        minute = int(line.partition(b'"ts":"')[2].partition(b'"')[0]) // MINUTE_MS
        found[minute] = found.get(minute, b"") + line
    return [found[minute] for minute in sorted(found)]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """Eight minutes of trades, run; more come later."""
    write_market(tmp_path / "market", hours=0.7, quotes=False, books=False)
    vault = Vault.open(tmp_path)
    folder = vault.paths.raw(SIM, "trades")
    folder.mkdir(parents=True)
    (folder / market(vault).name).write_bytes(b"".join(minutes(market(vault))[:BEGUN]))
    list(run_stages(vault, CHAIN, SIM))
    return vault


def market(vault: Vault) -> Path:
    """All raw lines there will be."""
    (raw,) = (vault.root / "market" / "raw").glob("*/trades_perps/*/*.jsonl")
    return raw


def append(vault: Vault, lines: bytes) -> None:
    """A collector writes on."""
    path = vault.paths.raw(SIM, "trades") / market(vault).name
    with path.open("ab") as stream:
        stream.write(lines)


def test_a_row_that_is_ahead_cannot_be_explained_yet(vault: Vault) -> None:
    """Instead of saying that it was made from nothing."""
    with ThreadPoolExecutor(2) as encoder:
        resident = Resident(vault, CHAIN, SIM, encoder, ("vcp",))
        assert resident.open() == []
        append(vault, b"".join(minutes(market(vault))[BEGUN:]))
        for run in resident.runs.values():
            run.advance()
        resident.commit(resident.moved(resident.first))
        last_us = resident.runs["vcp"].state.layers["vcp_5m"].last_us
        assert last_us is not None
        with pytest.raises(MissingInputError, match="not committed yet") as refused:
            explain(vault, SIM, "vcp_5m", last_us)
        assert "flowvault run" in (refused.value.hint or "")
        resident.commit(resident.moved())
        resident.close()
    told = explain(vault, SIM, "vcp_5m", last_us)
    assert [each.lines for each in told.raw] != [0]


@pytest.mark.usefixtures("small_files")
def test_nothing_is_read_again(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage of five minutes behind one of a minute, whose files are full in between.

    What a full file is made of is read by whoever encodes it.
    """
    later = minutes(market(vault))[BEGUN:]
    files, rows = [], 0
    with ThreadPoolExecutor(2) as encoder:
        resident = Resident(vault, CHAIN, SIM, encoder)
        assert resident.open() == []

        def read(path: Path, *more: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                raise AssertionError(f"{path} is read")
            return read_part(path, *more)

        read_part = parts.read_part
        monkeypatch.setattr(parts, "read_part", read)
        for lines in later:
            append(vault, lines)
            for run in resident.runs.values():
                run.advance()
            resident.commit(resident.moved())
            files.append(resident.runs["footprint"].state.parts["footprint"].rows // 50)
        rows = resident.runs["vcp"].state.layers["vcp_5m"].rows
        resident.close()
    assert len(set(files)) > 5
    assert rows >= len(later) // 5
