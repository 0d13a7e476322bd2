"""Real captures: every trade once, nothing refused, every row as the oracle has it."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from tests.oracle.fold import Judge
from tests.oracle.raw import Contract, Instrument, read_folder

from .conftest import MakeVault, Outcome, Process, Product
from .vaults import (
    assert_layers,
    assert_rows,
    read_bars,
    read_gaps,
    read_quarantine,
    read_trades,
    read_volume,
)

INSTRUMENTS = [
    Instrument("okx", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01"))),
    Instrument("okx", "perps", "ETH-USDT-SWAP"),  # its rows carry the contract size
    Instrument("okx", "spot", "BTC-USDT"),
    Instrument("binance", "perps", "BTCUSDT"),
    Instrument("binance", "perps", "ETHUSDT"),
    Instrument("binance", "spot", "BTCUSDT"),
    Instrument("binance", "spot", "ETHUSDT"),
    Instrument("coinbase", "spot", "SKL-USD"),
    Instrument("coinbase", "spot", "SKL-BTC"),
    Instrument("coinbase", "spot", "DASH-BTC"),
]
UNI = Instrument("okx", "perps", "UNI-USD-SWAP", Contract(Decimal(10), inverse=True))
TRADES_IN = {
    "okx perps BTC-USDT-SWAP": 21313,
    "okx perps ETH-USDT-SWAP": 14076,
    "okx spot BTC-USDT": 69,
    "binance perps BTCUSDT": 974 + 9727 + 21313,
    "binance perps ETHUSDT": 1640 + 12015 + 14076,
    "binance spot BTCUSDT": 9757 + 10147,
    "binance spot ETHUSDT": 6106 + 8409,
    "coinbase spot SKL-USD": 53,
    "coinbase spot SKL-BTC": 9,
    "coinbase spot DASH-BTC": 16,
}


def label(instrument: Instrument) -> str:
    """An instrument's test id."""
    return f"{instrument.exchange} {instrument.market} {instrument.inst_id}"


def copy_trades(captures: Path, vault: Path, instrument: Instrument) -> None:
    """Copy one raw trades folder."""
    shutil.copytree(instrument.raw_folder(captures), instrument.raw_folder(vault))


@pytest.fixture(scope="module")
def run(captures: Path, new_vault: MakeVault, process: Process) -> tuple[Path, Outcome]:
    """One run over all captured trades."""
    vault = new_vault("captures")
    for instrument in INSTRUMENTS:
        copy_trades(captures, vault, instrument)
    return vault, process.run_all(vault)


def test_the_list_is_complete(captures: Path) -> None:
    """No captured trades folder is left out of these tests."""
    listed = {i.raw_folder(captures) for i in [*INSTRUMENTS, UNI]}
    found = {f for f in captures.glob("raw/*/trades_*/*") if f.is_dir()}
    assert listed == found


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=label)
def test_every_layer_equals_the_oracle(run: tuple[Path, Outcome], instrument: Instrument) -> None:
    """All trades once, in file order; bars, volume and gaps exact; nothing in quarantine."""
    vault, outcome = run
    judge = assert_layers(vault, instrument)
    assert len(judge.accepted) == TRADES_IN[label(instrument)]
    assert len({row.trade.trade_id for row in judge.accepted}) == len(judge.accepted)
    assert read_quarantine(vault, instrument) == []
    same_name = [
        s
        for s in outcome.summaries
        if (s["stage"], s["exchange"], s["instId"])
        == ("trades", instrument.exchange, instrument.inst_id)
        and s["market"] in (instrument.market, instrument.row_market)
    ]
    assert len(same_name) == 1, outcome.text
    assert (same_name[0]["late"], same_name[0]["duplicate"], same_name[0]["bad"]) == (0, 0, 0)
    assert same_name[0]["rows_in"] == len(judge.accepted)
    assert same_name[0]["rows_out"] == len(judge.accepted)


def test_transcoded_okx_bars_equal_binance(run: tuple[Path, Outcome]) -> None:
    """The same trades in contracts of 0.01 and in base units make the same bars.

    Binance's capture begins three weeks earlier, so there its first bar of
    2024-08-08 counts one gap of ids.
    """
    vault, _ = run
    okx, binance = INSTRUMENTS[0], INSTRUMENTS[3]
    for tf, closed in {"1m": 5, "5m": 1, "15m": 0, "30m": 0}.items():
        ours = [strip(row) for row in read_bars(vault, okx, tf)]
        rows = read_bars(vault, binance, tf)
        theirs = [strip(r) for r in rows if r["timestamp_utc"] >= "2024-08-08"]
        if closed:
            assert theirs[0].pop("gaps") == 1
            assert ours[0].pop("gaps") == 0
        assert_rows(ours, theirs, f"{tf} bars")
        assert len(ours) == closed


def strip(row: dict[str, object]) -> dict[str, object]:
    """A row without the names that differ between the venues."""
    return {k: v for k, v in row.items() if k not in ("instId", "exchange")}


def test_gap_between_captures_is_one_row(run: tuple[Path, Outcome]) -> None:
    """Binance perps: ids 5182016438..5266583934 were never captured."""
    vault, _ = run
    (gap,) = read_gaps(vault, INSTRUMENTS[3])
    assert (gap["from"], gap["to"]) == (5182016438, 5266583934)
    assert gap["ts"] == 1723161256322


def test_volume_text_is_the_exchange_text(run: tuple[Path, Outcome]) -> None:
    """Spot prices keep the eight decimals Binance writes."""
    vault, _ = run
    assert read_volume(vault, INSTRUMENTS[5])[0]["open"] == "61837.63000000"


def test_inverse_contract_of_the_captures(
    captures: Path, new_vault: MakeVault, product: Product
) -> None:
    """UNI-USD-SWAP: 100 contracts of 10 USD, or a refusal that names the line to add; never 1."""
    vault = new_vault("uni")
    copy_trades(captures, vault, UNI)
    outcome = product.run_all(vault, expect=None)
    assert len(list(read_folder(UNI.raw_folder(vault)))) == 1
    if outcome.code == 65:
        assert "instruments.toml" in outcome.text
        assert "UNI-USD-SWAP" in outcome.text
        assert read_trades(vault, UNI) == []
        return
    assert outcome.code == 0, outcome.text
    judge: Judge = assert_layers(vault, UNI)
    assert judge.accepted[0].trade.notional == 1000
