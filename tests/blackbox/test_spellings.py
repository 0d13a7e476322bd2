"""Thousands of lines in odd spellings: the same verdict and the same numbers as the oracle."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.oracle.fold import judge_folder
from tests.oracle.raw import Contract, Instrument

from .conftest import MakeVault, Product
from .spellings import Speller
from .vaults import assert_layers, assert_quarantine, write_raw

LINES = 1500
INSTRUMENTS = [
    Instrument("okx", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01"))),
    Instrument("okx", "perps", "ETH-USDT-SWAP"),  # collector rows
    Instrument("okx", "spot", "BTC-USDT"),
    Instrument("binance", "perps", "BTCUSDT"),
    Instrument("coinbase", "spot", "BTC-USD"),
    Instrument("acme", "spot", "ANY"),
]


@pytest.fixture(scope="module", params=[1, 2])
def vault(request: pytest.FixtureRequest, new_vault: MakeVault, product: Product) -> Path:
    """One run over a file of every format, about half of it bad."""
    folder = new_vault("spellings")
    for instrument in INSTRUMENTS:
        speller = Speller(instrument, request.param)
        write_raw(folder, instrument, "2024-03-05", b"".join(speller.line() for _ in range(LINES)))
    product.run_all(folder, expect=65)
    return folder


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda i: f"{i.exchange} {i.inst_id}")
def test_every_spelling(vault: Path, instrument: Instrument) -> None:
    """Line by line good or bad, and every row of every layer."""
    judge = judge_folder(vault, instrument)
    assert len(judge.accepted) > LINES / 4
    assert judge.bad > LINES / 4
    assert_quarantine(vault, instrument, judge)
    assert_layers(vault, instrument, judge)
