"""Layers of an imported vault are those of a vault in which a collector wrote the same trades."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from . import archives as make
from .archives import Trade, by_day, utc, walk
from .conftest import Command

START = utc("2025-06-01T00:00")
COARSE = walk(6000, START, START + 2 * make.DAY_US, seed=11)
FINE = walk(3000, START, START + make.DAY_US // 4, seed=12, step_us=1)
STAGES = ("trades", "bars", "volume", "cvd", "vwap", "profile", "vpin", "vcp", "ipu", "signals")


def binance_stream(trade: Trade) -> bytes:
    """A frame of Binance's combined stream, as its websocket sends it."""
    event = {"e": "trade", "E": trade.us // 1000 + 40, "T": trade.us // 1000, "s": "BTCUSDT"}
    event |= {"t": trade.number, "p": trade.price, "q": trade.size, "X": "MARKET"}
    frame = {"stream": "btcusdt@trade", "data": event | {"m": not trade.is_buy}}
    return json.dumps(frame).encode() + b"\n"


def okx_stream(trade: Trade) -> bytes:
    """A frame of OKX's websocket."""
    record = {"instId": "BTC-USDT-SWAP", "tradeId": str(trade.number), "px": trade.price}
    record |= {"sz": trade.size, "side": make.side(trade), "ts": str(trade.us // 1000)}
    arg = {"channel": "trades-all", "instId": "BTC-USDT-SWAP"}
    return json.dumps({"arg": arg, "data": [record]}).encode() + b"\n"


def coinbase_stream(trade: Trade) -> bytes:
    record = json.loads(make.coinbase_line(trade, "BTC-USD"))
    return json.dumps({"sequence": trade.number, "maker_order_id": "a", **record}).encode() + b"\n"


def plain_stream(trade: Trade) -> bytes:
    row = {"id": trade.number, "side": make.side(trade), "size": trade.size, "price": trade.price}
    stamp = json.loads(make.coinbase_line(trade, ""))["time"]
    return json.dumps(row | {"ts": stamp}).encode() + b"\n"


def okx_archives(folder: Path) -> list[Path]:
    found = []
    for number in range(3):
        first = START + (number * 24 - 8) * 3_600_000_000
        part = [each for each in COARSE if first <= each.us < first + make.DAY_US]
        name = f"BTC-USDT-SWAP-trades-2025-06-0{1 + number}.zip"
        found.append(make.zipped(folder, name, make.okx_trades(part, "BTC-USDT-SWAP")))
    return found


def coinbase_archives(folder: Path) -> list[Path]:
    content = make.tardis_trades(FINE, "coinbase", "BTC-USD", delay_us=0)
    return [make.gzipped(folder, "trades.csv.gz", content)]


def plain_archives(folder: Path) -> list[Path]:
    rows = [[f"{e.us / 1e6:.6f}", e.price, e.size, make.side(e), e.number] for e in FINE]
    path = folder / "kraken.csv"
    path.write_bytes(make.table("time,price,volume,side,trade_id", rows))
    return [path]


def binance_archives(folder: Path) -> list[Path]:
    days = by_day(COARSE, lambda each: make.binance_trades([each], header=False))
    return [
        make.zipped(folder, f"BTCUSDT-trades-{name[:-6]}.zip", rows) for name, rows in days.items()
    ]


Case = tuple[
    tuple[str, str, str], Callable[[Path], list[Path]], Callable[[Trade], bytes], list[Trade]
]
CASES: dict[str, Case] = {
    "binance": (("binance", "perps", "BTCUSDT"), binance_archives, binance_stream, COARSE),
    "okx": (("okx", "perps", "BTC-USDT-SWAP"), okx_archives, okx_stream, COARSE),
    "coinbase": (("coinbase", "spot", "BTC-USD"), coinbase_archives, coinbase_stream, FINE),
    "plain": (("kraken", "spot", "BTC-USD"), plain_archives, plain_stream, FINE),
}


def derived(vault: Path) -> dict[str, bytes]:
    top = vault / "derived"
    files = sorted(path for path in top.rglob("*") if path.is_file())
    return {path.relative_to(top).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", CASES)
def test_imported_and_collected_vaults_have_the_same_layers(
    name: str, flowvault: Command, folder: Path, tmp_path: Path
) -> None:
    (exchange, market, inst_id), archives, write, trades = CASES[name]
    where = ("-i", inst_id, "--exchange", exchange, "--market", market)
    stages = [word for stage in STAGES for word in ("--stage", stage)]
    collector = Command(tmp_path / "collected")
    place = collector.vault / "raw" / exchange / f"trades_{market}" / inst_id
    place.mkdir(parents=True)
    for day, lines in by_day(trades, write).items():
        (place / day).write_bytes(lines)

    flowvault.import_(*archives(folder), *where)
    for command in (flowvault, collector):
        outcome = command("run", *where, *stages, "--json")
        assert outcome.code == 0, outcome.err
        counts = outcome.rows[0]
        assert [counts[key] for key in ("rows_in", "late", "duplicate", "bad")] == [
            *(len(trades), 0, 0, 0)
        ]

    found, wanted = derived(flowvault.vault), derived(collector.vault)
    assert list(found) == list(wanted)
    assert all(found[path] == wanted[path] for path in wanted)
    assert any(path.endswith("signals_5m.jsonl") for path in wanted)
    parts = sorted((flowvault.vault / "derived" / "trades").rglob("*.parquet"))
    stamps = pl.concat([pl.read_parquet(part) for part in parts])["ts"].dt.epoch("us")
    assert stamps.to_list() == [each.us for each in trades]


def test_microseconds_of_spot_archives_reach_the_layer(flowvault: Command, folder: Path) -> None:
    content = make.binance_trades(FINE, spot=True, header=False, micros=True)
    path = make.zipped(folder, "BTCUSDT-trades-2025-06-01.zip", content)
    where = ("-i", "BTCUSDT", "--exchange", "binance", "--market", "spot")

    flowvault.import_(path)
    outcome = flowvault("run", *where, "--stage", "trades", "--json")

    assert outcome.rows[0]["bad"] == 0
    parts = sorted((flowvault.vault / "derived" / "trades").rglob("*.parquet"))
    frame = pl.concat([pl.read_parquet(part) for part in parts])
    assert frame["ts"].dt.epoch("us").to_list() == [each.us for each in FINE]
    assert frame["price"].to_list() == [float(each.price) for each in FINE]
    assert frame["size"].to_list() == [float(each.size) for each in FINE]
    assert frame["side"].to_list() == [1 if each.is_buy else -1 for each in FINE]
