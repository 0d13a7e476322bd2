"""Each format becomes, digit by digit, the lines that a collector would have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from . import archives as make
from .archives import Trade, by_day, utc, walk
from .conftest import Command

START, STOP = utc("2024-01-01T00:00"), utc("2024-01-03T00:00")
TRADES = walk(300, START, STOP)
FINE = walk(300, utc("2025-01-01T00:00"), utc("2025-01-03T00:00"), step_us=1)

Case = tuple[str, bytes, str, dict[str, bytes]]


def binance(symbol: str, trades: list[Trade] = TRADES) -> dict[str, bytes]:
    return by_day(trades, lambda each: make.binance_line(each, symbol))


CASES: dict[str, Case] = {
    "futures, header": (
        "BTCUSDT-trades-2024-01.zip",
        make.binance_trades(TRADES),
        "binance/trades_perps/BTCUSDT",
        binance("BTCUSDT"),
    ),
    "futures, no header": (
        "BTCUSDT-trades-2024-01.zip",
        make.binance_trades(TRADES, header=False),
        "binance/trades_perps/BTCUSDT",
        binance("BTCUSDT"),
    ),
    "spot, no header": (
        "BTCUSDT-trades-2024-01.zip",
        make.binance_trades(TRADES, spot=True, header=False),
        "binance/trades_spot/BTCUSDT",
        binance("BTCUSDT"),
    ),
    "spot, header": (
        "BTCUSDT-trades-2024-01.zip",
        make.binance_trades(TRADES, spot=True),
        "binance/trades_spot/BTCUSDT",
        binance("BTCUSDT"),
    ),
    "spot, microseconds": (
        "ETHUSDT-trades-2025-01.zip",
        make.binance_trades(FINE, spot=True, header=False, micros=True),
        "binance/trades_spot/ETHUSDT",
        binance("ETHUSDT", FINE),
    ),
    "futures, microseconds": (
        "ETHUSDT-trades-2025-01.zip",
        make.binance_trades(FINE, micros=True),
        "binance/trades_perps/ETHUSDT",
        binance("ETHUSDT", FINE),
    ),
    "coin-margined futures": (
        "BTCUSD_PERP-trades-2024-01.zip",
        make.binance_trades(TRADES).replace(b"quote_qty", b"base_qty"),
        "binance/trades_perps/BTCUSD_PERP",
        binance("BTCUSD_PERP"),
    ),
    **{
        f"aggregates, {market}, {header=}": (
            "BTCUSDT-aggTrades-2024-01.zip",
            make.binance_aggregates(TRADES, spot=market == "spot", header=header),
            f"binance/trades_{market}/BTCUSDT",
            by_day(TRADES, lambda each: make.binance_aggregate_line(each, "BTCUSDT")),
        )
        for market, header in (("perps", True), ("perps", False), ("spot", False))
    },
    "OKX swap": (
        "BTC-USDT-SWAP-trades-2024-01-02.zip",
        make.okx_trades(TRADES, "BTC-USDT-SWAP"),
        "okx/trades_perps/BTC-USDT-SWAP",
        by_day(TRADES, lambda each: make.okx_line(each, "BTC-USDT-SWAP")),
    ),
    "OKX spot, with its source": (
        "BTC-USDT-trades-2024-01-02.zip",
        make.okx_trades(TRADES, "BTC-USDT", header=make.OKX_TRADES + ",source")
        .replace(b"\n", b",0\n")
        .replace(b"source,0\n", b"source\n"),
        "okx/trades_spot/BTC-USDT",
        by_day(TRADES, lambda each: make.okx_line(each, "BTC-USDT", source="0")),
    ),
    "OKX, no header": (
        "BTC-USDT-240329-trades-2024-01-02.zip",
        make.okx_trades(TRADES, "BTC-USDT-240329", header=""),
        "okx/trades_perps/BTC-USDT-240329",
        by_day(TRADES, lambda each: make.okx_line(each, "BTC-USDT-240329")),
    ),
    "OKX, old header in GBK": (
        "BTC-USDT-aggtrades-2022-01-02.zip",
        make.table(
            "trade_id/撮合id,side/交易方向,size/数量,price/价格,created_time/成交时间",
            [[e.number, make.side(e), e.size, e.price, e.us // 1000] for e in TRADES],
        )
        .decode()
        .encode("gbk"),
        "okx/trades_spot/BTC-USDT",
        by_day(TRADES, lambda each: make.okx_line(each, "BTC-USDT")),
    ),
}
"""name -> archive, what is in it, folder below raw/, its day files."""


@pytest.mark.parametrize("name", CASES)
def test_an_archive_becomes_raw_lines(name: str, flowvault: Command, folder: Path) -> None:
    archive, content, place, files = CASES[name]
    path = make.zipped(folder, archive, content)

    (row,) = flowvault.import_(path)

    assert flowvault.raw() == {f"{place}/{day}": lines for day, lines in files.items()}
    assert [row["rows"], row["bad"], row["others"], row["known"]] == [300, 0, 0, False]
    assert place == f"{row['exchange']}/{row['kind']}_{row['market']}/{row['instId']}"
    assert [(each["day"], each["action"]) for each in row["days"]] == [
        (day.removesuffix(".jsonl"), "new") for day in files
    ]
    assert [each["bytes"] for each in row["days"]] == [len(lines) for lines in files.values()]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".csv.zst", ".tar.gz"])
def test_the_same_table_in_any_wrapping(ending: str, flowvault: Command, folder: Path) -> None:
    import zstandard

    content = make.binance_trades(TRADES)
    path = folder / f"BTCUSDT-trades-2024-01{ending}"
    if ending == ".csv":
        path.write_bytes(content)
    elif ending == ".csv.gz":
        make.gzipped(folder, path.name, content)
    elif ending == ".csv.zst":
        path.write_bytes(zstandard.compress(content))
    else:
        make.tarred(folder, path.name, {"data/BTCUSDT-trades-2024-01.csv": content})

    flowvault.import_(path)

    assert flowvault.raw("binance/trades_perps/BTCUSDT") == binance("BTCUSDT")


def test_the_folders_of_the_site_tell_the_market(flowvault: Command, folder: Path) -> None:
    """Six columns are those of futures, unless the archive lies where spot ones lie."""
    place = folder / "data" / "spot" / "daily" / "trades"
    place.mkdir(parents=True)
    path = make.zipped(place, "BTCUSDT-trades-2024-01.zip", make.binance_trades(TRADES))

    (row,) = flowvault.import_(path)

    assert row["market"] == "spot"


@pytest.mark.parametrize(
    ("exchange", "symbol", "place", "write"),
    [
        ("binance-futures", "BTCUSDT", "binance/trades_perps", make.binance_line),
        ("binance", "BTCUSDT", "binance/trades_spot", make.binance_line),
        ("okex-swap", "BTC-USDT-SWAP", "okx/trades_perps", make.okx_line),
        ("coinbase", "BTC-USD", "coinbase/trades_spot", make.coinbase_line),
        ("bybit", "BTCUSDT", "bybit/trades_perps", lambda each, _: make.plain_line(each)),
        ("bybit-spot", "BTCUSDT", "bybit/trades_spot", lambda each, _: make.plain_line(each)),
        ("kraken", "XBT-USD", "kraken/trades_spot", lambda each, _: make.plain_line(each)),
    ],
)
def test_tardis_trades(
    exchange: str,
    symbol: str,
    place: str,
    write: Callable[[Trade, str], bytes],
    flowvault: Command,
    folder: Path,
) -> None:
    """Each exchange's own record; the day is that of the arrival, as a collector's would be."""
    trades = walk(200, START, STOP - 10_000_000, step_us=1)
    delay = 250_000
    path = make.gzipped(
        folder, "trades.csv.gz", make.tardis_trades(trades, exchange, symbol, delay)
    )
    wanted: dict[str, bytes] = {}
    for each in trades:
        day = Trade(0, "", "", False, each.us + delay).day
        wanted[f"{day}.jsonl"] = wanted.get(f"{day}.jsonl", b"") + write(each, symbol)

    flowvault.import_(path)

    assert flowvault.raw(f"{place}/{symbol}") == wanted


@pytest.mark.parametrize(
    ("exchange", "symbol"),
    [("bitmex", "XBTUSD"), ("deribit", "BTC-PERPETUAL"), ("bybit", "BTCUSD")],
)
def test_contracts_are_no_base_units(
    exchange: str, symbol: str, flowvault: Command, folder: Path
) -> None:
    """Plain records hold base units, so amounts in contracts are refused, not written as such."""
    path = make.gzipped(folder, "x.csv.gz", make.tardis_trades(TRADES, exchange, symbol))

    outcome = flowvault("import", path)

    assert outcome.code == 2
    assert "contracts" in outcome.err
    assert flowvault.raw() == {}


def test_binance_book_tickers(flowvault: Command, folder: Path) -> None:
    header = "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time"
    rows = [[7 + i, "42.10", f"{i}.50", "42.20", "3.00", 1704067200000 + i] for i in range(1, 9)]
    path = make.zipped(folder, "BTCUSDT-bookTicker-2024-01-01.zip", make.table(header, rows))

    (row,) = flowvault.import_(path)

    assert row["kind"] == "quotes"
    lines = flowvault.raw("binance/quotes_perps/BTCUSDT")["2024-01-01.jsonl"].splitlines()
    assert json.loads(lines[1]) == {
        "e": "bookTicker",
        "u": 9,
        "s": "BTCUSDT",
        "b": "42.10",
        "B": "2.50",
        "a": "42.20",
        "A": "3.00",
        "T": 1704067200002,
    }
    assert len(lines) == 8


# -- tables of any kind ----------------------------------------------------

PLAIN = by_day(TRADES, make.plain_line)


def seconds(us: int) -> str:
    return f"{us // 1_000_000}.{us % 1_000_000:06d}"


def iso(us: int) -> str:
    stamp = datetime.fromtimestamp(us // 1_000_000, UTC)
    return f"{stamp:%Y-%m-%d %H:%M:%S}.{us % 1_000_000:06d}"


@pytest.mark.parametrize(
    ("header", "time", "options"),
    [
        ("time,price,size,side,id", lambda us: us // 1000, ()),
        ("Timestamp,Price,Quantity,Side,Trade ID", lambda us: us, ()),
        ("ts,px,sz,side,tradeId", lambda us: us * 1000, ()),
        ("date,price,amount,side,id", iso, ()),
        ("date,price,amount,side,id", lambda us: iso(us).replace(" ", "T") + "Z", ()),
        ("when,p,v,d,n", seconds, ("--map", "time=when,price=p,size=v", "--map", "side=d,id=n")),
        ("", lambda us: us // 1000, ("--map", "time=1,price=2,size=3,side=4,id=5")),
        ("a,b,c,d,e", seconds, ("--map", "time=1,price=2,size=3,side=4,id=5", "--time-unit", "s")),
    ],
)
def test_any_table(
    header: str,
    time: Callable[[int], Any],
    options: tuple[str, ...],
    flowvault: Command,
    folder: Path,
) -> None:
    """Columns known by their names, or told by name or number; times in any unit."""
    rows = [[time(e.us), e.price, e.size, make.side(e).upper(), e.number] for e in TRADES]
    path = folder / "some.csv"
    path.write_bytes(make.table(header, rows).replace(b"\n", b"\r\n"))

    flowvault.import_(path, "-i", "BTC-USD", "--exchange", "kraken", "--market", "spot", *options)

    assert flowvault.raw("kraken/trades_spot/BTC-USD") == PLAIN


def test_a_table_in_quotes_without_ids(flowvault: Command, folder: Path) -> None:
    """A row without an id is named after its time and its place in the file."""
    rows = [[f'"{e.us}"', f'"{e.price}"', f'"{e.size}"', f'"{not e.is_buy}"'] for e in TRADES]
    content = make.table('"time","price","size","is_buyer_maker"', rows)
    path = folder / "some.csv"
    path.write_bytes(content)
    places = iter(content.splitlines(keepends=True))
    at, names = len(next(places)), {}
    for each, row in zip(TRADES, places, strict=True):
        names[each.number] = f"{each.us}-{at}"
        at += len(row)

    flowvault.import_(path, "-i", "BTC-USD", "--exchange", "kraken", "--market", "spot")

    wanted = by_day(TRADES, lambda each: make.plain_line(each, names[each.number]))
    assert flowvault.raw("kraken/trades_spot/BTC-USD") == wanted


def test_a_table_for_an_exchange_with_records_of_its_own(flowvault: Command, folder: Path) -> None:
    rows = [[e.us // 1000, e.price, e.size, make.side(e), e.number] for e in TRADES]
    path = folder / "some.csv"
    path.write_bytes(make.table("time,price,size,side,id", rows))

    flowvault.import_(path, "-i", "BTC-USDT-SWAP", "--exchange", "okx", "--market", "perps")

    wanted = by_day(TRADES, lambda each: make.okx_line(each, "BTC-USDT-SWAP"))
    assert flowvault.raw("okx/trades_perps/BTC-USDT-SWAP") == wanted


STAMPS = [datetime.fromtimestamp(e.us // 1_000_000, UTC) for e in TRADES]
PARQUET: dict[str, tuple[pl.Series, pl.Series, pl.Series]] = {
    "texts": (
        pl.Series([e.price for e in TRADES]),
        pl.Series([e.size for e in TRADES]),
        pl.Series([make.side(e) for e in TRADES]),
    ),
    "decimals": (
        pl.Series([Decimal(e.price) for e in TRADES], dtype=pl.Decimal(18, 2)),
        pl.Series([Decimal(e.size) for e in TRADES], dtype=pl.Decimal(18, 8)),
        pl.Series([make.side(e) for e in TRADES], dtype=pl.Categorical),
    ),
    "doubles": (
        pl.Series([float(e.price) for e in TRADES]),
        pl.Series([float(e.size) for e in TRADES]),
        pl.Series([make.side(e).title() for e in TRADES]),
    ),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(kind: str, flowvault: Command, folder: Path) -> None:
    """Texts and decimals keep their digits; a double becomes the shortest text that is the same."""
    price, size, side = PARQUET[kind]
    path = folder / "some.parquet"
    columns = {"price": price, "qty": size, "side": side, "id": [e.number for e in TRADES]}
    pl.DataFrame({"ts": STAMPS, **columns, "more": [None] * 300}).write_parquet(
        path, row_group_size=100
    )

    flowvault.import_(path, "-i", "BTC-USD", "--exchange", "kraken", "--market", "spot")

    def text(number: Any, written: str) -> str:
        return written if kind == "texts" else str(number)

    wanted = by_day(
        [
            Trade(e.number, text(p, e.price), text(s, e.size), e.is_buy, e.us // 10**6 * 10**6)
            for e, p, s in zip(TRADES, price, size, strict=True)
        ],
        make.plain_line,
    )
    assert flowvault.raw("kraken/trades_spot/BTC-USD") == wanted


def test_parquet_of_a_strange_type_is_a_usage_error(flowvault: Command, folder: Path) -> None:
    path = folder / "some.parquet"
    pl.DataFrame({"time": [1], "price": [[1.0]], "size": [1], "side": ["buy"]}).write_parquet(path)

    outcome = flowvault("import", path, "-i", "X", "--exchange", "kraken", "--market", "spot")

    assert outcome.code == 2
    assert "price" in outcome.err


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"hello,world\n1,2\n", (), "price, size, time, side"),
        (b"time,price,size,side\n", ("--exchange", "x"), "--market, -i"),
        (b"time,price,size,side\n", ("--map", "price=cost"), "no such column"),
        (b"time,price,size,side\n", ("--map", "price=size,size=size"), "two roles"),
        (b"time,price,size,side\n", ("--map", "cost=price"), "ROLE=COLUMN"),
        (b"time,price,size,side\n1,2,3,buy\n", ("--format", "okx-trades"), "not okx-trades"),
        (b"time,price,size,side\n1,2,3,buy\n", ("--exchange", "sim"), "simulated"),
        (b"time,price,size,side\n1,2,3,buy\n", ("--exchange", "../up"), "name of a folder"),
        (b"time,price,size,side\n1,2,3,buy\n", ("--exchange", "binance"), "needs id"),
        (b'{"some":"json"}\n', (), "lines of JSON"),
        (b"\xff\xfet\x00i\x00m\x00e\x00\n", (), "UTF-16"),
        (b"", (), "nothing in it"),
    ],
)
def test_what_cannot_be_told_is_asked_for(
    content: bytes, options: tuple[str, ...], words: str, flowvault: Command, folder: Path
) -> None:
    path = folder / "some.csv"
    path.write_bytes(content)
    more = () if "-i" in words else ("-i", "X", "--market", "spot")

    outcome = flowvault("import", path, *options, *more)

    assert outcome.code in (2, 65), outcome.out
    assert words in outcome.err
    assert "next:" in outcome.err
    assert flowvault.raw() == {}
