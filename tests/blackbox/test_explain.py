"""`flowvault explain`: every row of every layer ends at raw bytes that hold what it was made of.

That these rows and bytes are all that a row needs is held in tests/laws/test_explain.py.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import stages
from pipeline.engine.explain import Explanation, Source, explain
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument as Where
from pipeline.sim import write_market
from tests.oracle.raw import Instrument

from . import test_confluence as planted_tape
from .conftest import MakeVault, Product
from .streams import two_days
from .vaults import ms, okx_line, plain_line, write_raw

SWAP = "BTC-USDT-SWAP"
SIM = Where("sim", "perps", SWAP)
OKX = Instrument("okx", "perps", SWAP)
DAY_MS = 86_400_000
Record = dict[str, Any]


@pytest.fixture(scope="module")
def market(product: Product, new_vault: MakeVault) -> Path:
    """An hour and a half of a simulated market, every layer of it."""
    vault = new_vault("market")
    write_market(vault, hours=1.5, seed=11)
    assert product(vault, "run", "--all").code == 0
    return vault


def told_of(vault: Path, where: Where | Instrument, layer: str, at_us: int) -> Explanation:
    place = Where(where.exchange, where.market, where.inst_id)
    return explain(Vault.open(vault), place, layer, at_us)


def microseconds(stamp: str) -> int:
    moment = datetime.fromisoformat(stamp)
    return round(moment.timestamp() * 1000) * 1000


# -- reading what is named, by hand ---------------------------------------------------------


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def raw_records(vault: Path, told: Explanation, kind: str) -> list[Record]:
    """The records in the named bytes of one kind of raw files; whole lines, all of them good."""
    found: list[Record] = []
    for raw in told.raw:
        if raw.kind != kind:
            continue
        count = 0
        for file in raw.files:
            data = unpacked(vault / file.path)
            for low, high in file.ranges:
                assert low == 0 or data[low - 1 : low] == b"\n"
                assert data[high - 1 : high] == b"\n"
                lines = data[low:high].splitlines()
                count += len(lines)
                for line in lines:
                    record = json.loads(line)
                    found += record["data"] if isinstance(record.get("data"), list) else [record]
            assert file.ranges == sorted(file.ranges)
        assert raw.lines in (None, count)
    return found


def source_of(told: Explanation, layer: str) -> Source | None:
    found = [each for each in told.sources if each.layer == layer]
    assert len(found) <= 1
    return found[0] if found else None


def rows_named(vault: Path, told: Explanation, layer: str) -> list[Record]:
    """The rows in the named places of one layer."""
    source = source_of(told, layer)
    found: list[Record] = []
    for file in source.files if source else ():
        paths = sorted(vault.glob(file.path))
        for low, high in file.ranges:
            if file.unit == "bytes":
                data = paths[0].read_bytes()[low:high]
                found += [json.loads(line) for line in data.splitlines()]
                continue
            first = int(paths[0].name.partition("-")[0])
            frame = pl.concat([pl.read_parquet(path) for path in paths])
            found += frame[low - first : high - first].to_dicts()
    assert source is None or source.rows in (None, len(found))
    return found


def in_us(moment: Any) -> int:
    since: timedelta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(microseconds=1)


def times_of(rows: list[Record]) -> list[int]:
    return [in_us(row["ts"]) for row in rows]


def stamps_of(vault: Path, layer: str) -> list[int]:
    """The times of all rows of a layer of the simulated market."""
    spec = stages.layers()[layer][0]
    folder = vault / "derived" / spec.folder / "sim" / "perps" / SWAP
    if spec.format == "parquet":
        parts = sorted(folder.glob("*.parquet"))
        return [us for part in parts for us in times_of(pl.read_parquet(part).to_dicts())]
    file = folder / spec.file
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [microseconds(json.loads(line)["timestamp_utc"]) for line in lines]


# -- every layer ----------------------------------------------------------------------------

QUICK = ("ladder_1m", "orderflow_1m", "signals_mtf")
LAYERS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name, (layer, _) in stages.layers().items()
    if layer.format != "json"
]
"""All of them are held to more in tests/laws."""


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_ends_at_raw_bytes_that_are_its_inputs(market: Path, layer: str) -> None:
    stamps = stamps_of(market, layer)
    if not stamps:
        pytest.skip("no rows of it in a simulated market")
    rng = random.Random(layer)
    for at in (rng.choice(stamps), stamps[-1]):
        told = told_of(market, SIM, layer, at)
        own = rows_named(market, told, layer)
        assert len(own) == len(told.rows) >= 1
        if stages.layers()[layer][0].format == "jsonl":
            assert own == told.rows
            assert {microseconds(row["timestamp_utc"]) for row in own} == {at}
        else:
            assert set(times_of(own)) == {at}
        assert told.sources[0].layer == layer
        assert told.raw
        assert all(raw.lines and raw.files and not raw.gone for raw in told.raw)
        for source in told.sources:
            state = json.loads((market / state_path(source.stage)).read_bytes())["state"]
            assert (source.version, source.epoch) == (state["code_version"], state["epoch"])
            assert source.parameters == state["params"]
            assert rows_named(market, told, source.layer)
        check_trades(market, told)
        check_quotes(market, told)
        check_books(market, told)


def state_path(stage: str) -> str:
    return f"state/{stage}/sim/perps/{SWAP}.state.json"


def check_trades(vault: Path, told: Explanation) -> None:
    """The named lines are the named rows, one for one and in order."""
    records = [
        (each["tradeId"], float(each["px"]), float(Fraction(each["sz"]) / 100), each["side"])
        for each in raw_records(vault, told, "trades")
    ]
    rows = [
        (row["trade_id"], row["price"], row["size"], {1: "buy", -1: "sell"}[row["side"]])
        for row in rows_named(vault, told, "trades")
    ]
    assert records == rows


def check_quotes(vault: Path, told: Explanation) -> None:
    records = raw_records(vault, told, "quotes")
    found = [(1000 * int(each["ts"]), float(each["bids"][0][0])) for each in records]
    rows = rows_named(vault, told, "bbo")
    assert found == [(in_us(row["ts"]), row["bid"]) for row in rows]


def check_books(vault: Path, told: Explanation) -> None:
    times = [1000 * int(each["ts"]) for each in raw_records(vault, told, "books")]
    for layer in ("book_events", "book_clock", "book"):
        assert set(times_of(rows_named(vault, told, layer))) <= set(times)
    if rows := rows_named(vault, told, "book_events"):
        named = source_of(told, "book_events")
        assert named is not None
        inside = [us for us in times if any(low <= us < high for low, high in named.times)]
        assert inside == times_of(rows)
    for row in rows_named(vault, told, "ladder_1m"):
        minute = in_us(row["ts"])
        assert max(us for us in times if us < minute + 60_000_000) == in_us(row["at"])


def test_a_bar_of_minutes_has_the_layers_it_is_made_of(market: Path) -> None:
    told = told_of(market, SIM, "signals_15m", stamps_of(market, "signals_15m")[-1])
    named = {source.layer for source in told.sources}
    assert {"vcp_15m", "ipu_15m", "bars_15m", "footprint", "flow_1m", "trades", "quote"} <= named
    assert not {"vcp_5m", "ipu_30m", "bars_5m"} & named
    flows = rows_named(market, told, "flow_1m")
    assert len(flows) == 15
    assert flows[0]["timestamp_utc"] == told.rows[0]["timestamp_utc"]
    bars = rows_named(market, told, "bars_15m")  # the average range goes back to the first
    assert [microseconds(row["timestamp_utc"]) for row in bars] == stamps_of(market, "bars_15m")


# -- dirt, compressed and missing files --------------------------------------------------------


@pytest.fixture(scope="module")
def dirty(product: Product, new_vault: MakeVault) -> Path:
    """Two days of trades with duplicates, late ones, bad lines and wrong clocks."""
    vault = new_vault("dirty")
    for day, content in two_days(OKX, seed=4, trades=6000).items():
        write_raw(vault, OKX, day, content)
    assert product(vault, "run", "--all").code in (0, 65)
    return vault


def lines_of(vault: Path, layer: str, folder: str) -> list[Record]:
    file = vault / "derived" / folder / "okx" / "perps" / SWAP / f"{layer}.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def recomputed(records: list[Record]) -> Record:
    """What a bar says of its trades, from the lines alone."""
    sizes = [Fraction(each["sz"]) / 100 for each in records]
    prices = [Fraction(each["px"]) for each in records]
    bought = [s for s, each in zip(sizes, records, strict=True) if each["side"] == "buy"]
    notional = sum((p * s for p, s in zip(prices, sizes, strict=True)), Fraction(0))
    return {
        "open": float(prices[0]),
        "high": float(max(prices)),
        "low": float(min(prices)),
        "close": float(prices[-1]),
        "volume": float(sum(sizes)),
        "buy_volume": float(sum(bought)),
        "notional": float(notional),
        "trades": len(records),
    }


def check_bars(vault: Path, layer: str, most: int) -> None:
    rows = lines_of(vault, layer, "bars")
    for row in random.Random(1).sample(rows, min(most, len(rows))):
        told = told_of(vault, OKX, layer, microseconds(row["timestamp_utc"]) + 7)
        assert told.rows == [row]
        made = recomputed(raw_records(vault, told, "trades"))
        assert made == {name: row[name] for name in made}


def test_bars_are_made_again_from_the_bytes(dirty: Path) -> None:
    """Neither duplicates nor late, bad and future lines are among them."""
    check_bars(dirty, "bars_1m", 40)
    check_bars(dirty, "bars_30m", 4)


def test_a_compressed_day_and_one_that_is_gone(
    product: Product, dirty: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    for name in ("raw", "derived", "state", "quarantine"):
        for file in (dirty / name).rglob("*"):
            if file.is_file():
                target = vault / file.relative_to(dirty)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    first, last = sorted((vault / "raw" / "okx" / "trades_perps" / SWAP).glob("*.jsonl"))
    packed = first.with_name(first.name + ".gz")
    packed.write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    check_bars(vault, "bars_5m", 20)
    at = lines_of(vault, "bars_1m", "bars")[3]["timestamp_utc"]
    options = ("explain", "-i", SWAP, "--layer", "bars", "--at", at)
    assert f"{packed.name} decompressed bytes [" in product(vault, *options).out
    packed.unlink()
    done = product(vault, *options)
    assert done.code == 0, done.text
    assert f"{first.name} is gone; it had been read" in done.out
    assert last.exists()


# -- other feeds ------------------------------------------------------------------------------


def test_a_rule_that_matched(product: Product, new_vault: MakeVault) -> None:
    vault = new_vault("planted")
    planted_tape.write(vault, planted_tape.SETUP + 5)
    assert product(vault, "confluence", *planted_tape.OPTIONS).code == 0
    at = microseconds(planted_tape.stamp(planted_tape.SETUP))
    told = told_of(vault, planted_tape.TAPE, "confluence_1m", at)
    assert [row["matched"] for row in told.rows] == [True, False]
    (wick,) = rows_named(vault, told, "wicks_5m")
    usual = rows_named(vault, told, "volume_1m")
    assert [row["timestamp_utc"] for row in usual] == [planted_tape.stamp(planted_tape.SETUP)]
    assert wick["nearest_untouched_high"] == planted_tape.BASE + 100
    assert wick["timestamp_utc"] == planted_tape.stamp(35)
    levels = [level for each in raw_records(vault, told, "books") for level in each["asks"]]
    assert [str(planted_tape.BASE + 110), str(planted_tape.WALL)] in levels
    sizes = [each["size"] for each in raw_records(vault, told, "trades")]
    assert sizes.count("20") == 6
    wanted = [int(row["trade_id"]) for row in rows_named(vault, told, "trades")]
    assert [each["id"] for each in raw_records(vault, told, "trades")] == wanted


def test_quotes_without_a_time_of_their_own(product: Product, new_vault: MakeVault) -> None:
    """Those of Binance's spot market: named by their ids, and the updates that time them."""
    vault = new_vault("untimed")
    folder = vault / "raw" / "binance" / "books_spot" / "BTCUSDT"
    folder.mkdir(parents=True)
    books: list[Record] = [{"lastUpdateId": 100, "bids": [["99", "1"]], "asks": [["101", "1"]]}]
    for number in range(1, 400):
        update: Record = {"e": "depthUpdate", "E": ms(number), "s": "BTCUSDT"}
        ids = {"U": 99 + 2 * number, "u": 100 + 2 * number}
        books.append(update | ids | {"b": [["99", f"{number}"]], "a": []})
    text = "".join(json.dumps(each) + "\n" for each in books)
    (folder / "2024-03-05.jsonl").write_text(text, encoding="utf-8")
    folder = vault / "raw" / "binance" / "quotes_spot" / "BTCUSDT"
    folder.mkdir(parents=True)
    quotes = [
        {"u": 100 + number, "s": "BTCUSDT", "b": "99", "B": f"{number}", "a": "101", "A": "1"}
        for number in range(1, 790)
    ]
    text = "".join(json.dumps(each) + "\n" for each in quotes)
    (folder / "2024-03-05.jsonl").write_text(text, encoding="utf-8")
    assert product(vault, "run", "--all").code == 0
    where = Instrument("binance", "spot", "BTCUSDT")
    told = told_of(vault, where, "flow_1m", 1000 * ms(125))
    shown = rows_named(vault, told, "quote")
    sizes = [float(each["B"]) for each in raw_records(vault, told, "quotes")]
    assert sizes == [row["bid_size"] for row in rows_named(vault, told, "bbo")]
    assert sizes == [row["bid_size"] for row in shown]
    # the momentum is that of five minutes
    assert {0 <= in_us(row["ts"]) < 1000 * ms(180) for row in shown} == {True}
    updates = [each["u"] for each in raw_records(vault, told, "books") if "u" in each]
    assert {row["last_id"] for row in rows_named(vault, told, "book_clock")} <= set(updates)


def test_thin_feeds(product: Product, new_vault: MakeVault) -> None:
    """All versions of a bar that counted are named; the last one is the row."""
    vault = new_vault("thin")
    write_raw(vault, OKX, "2024-03-05", b"".join(
        okx_line(SWAP, each, ms(20 * each), "100.5", "1") for each in range(100)
    ))  # fmt: skip
    first = ms(0) // 1000
    folder = vault / "raw" / "coinalyze" / "liquidations" / SWAP
    folder.mkdir(parents=True)
    polls: Iterator[list[Record]] = (
        [
            {"t": first + 60 * bar, "l": bar + version, "s": 1}
            for bar in (minute - 1, minute)
            if bar >= 0
        ]
        for minute in range(20)
        for version in range(2)
    )
    text = "".join(json.dumps({"symbol": "A", "history": poll}) + "\n" for poll in polls)
    (folder / "2024-03-05.jsonl").write_text(text, encoding="utf-8")
    folder = vault / "raw" / "okx" / "open_interest_perps" / SWAP
    folder.mkdir(parents=True)
    told_at = [ms(17 * each) for each in range(60)]
    text = "".join(
        json.dumps({"data": [{"instId": SWAP, "oiCcy": f"{at % 977}", "ts": str(at)}]}) + "\n"
        for at in told_at
    )
    (folder / "2024-03-05.jsonl").write_text(text, encoding="utf-8")
    assert product(vault, "run", "--all").code == 0
    at = 1000 * ms(7 * 60)
    told = told_of(vault, OKX, "liquidations_1m", at)
    bars = [bar for poll in raw_records(vault, told, "liquidations") for bar in poll["history"]]
    versions = [bar["l"] for bar in bars if 1_000_000 * bar["t"] == at]
    # with the first answer that has a later bar it is settled
    assert versions == [7, 8, 7]
    assert told.rows[0]["long_liquidations"] == versions[-1]
    told = told_of(vault, OKX, "open_interest_1m", at)
    records = raw_records(vault, told, "open_interest")
    # its change is against the minute before
    assert [int(each["ts"]) for each in records] == [
        each for each in told_at if at - 60_000_000 <= 1000 * each < at + 60_000_000
    ]
    assert float(records[-1]["oiCcy"]) == told.rows[0]["open_interest"]


# -- the command ------------------------------------------------------------------------------

LONGEST = 1000
"""Characters of a line; a row of 44 columns has them."""

WHERE = ("-i", SWAP, "--exchange", "sim")


def test_what_it_prints(product: Product, market: Path) -> None:
    at = datetime.fromtimestamp(stamps_of(market, "orderflow_1m")[20] / 1e6, UTC)
    stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    later = (at + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%S")
    done = product(market, "explain", *WHERE, "--at", later, "--json")
    (told,) = [json.loads(line) for line in done.out.splitlines()]
    assert (told["layer"], told["exchange"], told["market"]) == ("orderflow_1m", "sim", "perp")
    assert told["rows"][0]["timestamp_utc"] == stamp
    known = told_of(market, SIM, "orderflow_1m", round(at.timestamp() * 1e6))
    assert [each["layer"] for each in told["sources"]] == [each.layer for each in known.sources]
    assert [each["lines"] for each in told["raw"]] == [each.lines for each in known.raw]
    text = product(market, "explain", *WHERE, "--at", stamp).out
    for words in (
        f"orderflow_1m of {SIM.key}",
        "stage orderflow, version 1, epoch 1; whale_notional 100000",
        "orderflow_1m.jsonl bytes [",
        ".parquet rows [",
        "raw trades",
        f"raw/sim/trades_perps/{SWAP}/2025-01-06.jsonl bytes [",
    ):
        assert words in text
    assert all(len(line) < LONGEST for line in text.splitlines())
    by_stage = product(market, "explain", *WHERE, "--at", stamp, "--layer", "volume")
    assert by_stage.out.startswith("volume_1m of ")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--at", "noon"), 2, "'noon' is not a time"),
        (("--at", "2025-01-06T00:30:00Z", "--layer", "nothing"), 2, "no layer 'nothing'"),
        ((), 2, "--at"),
        (("--at", "2031-01-06T00:30:00Z"), 66, "flowvault tail orderflow_1m"),
        (("--at", "2020-01-06T00:30:00Z", "--layer", "trades"), 66, "covers 2020-01-06T00:30:00Z"),
        (("--at", "2025-01-06T00:30:00Z", "--layer", "ratio"), 66, "has no rows"),
    ],
)
def test_what_cannot_be_explained(
    product: Product, market: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    done = product(market, "explain", *WHERE, *options)
    assert done.code == code, done.text
    assert words in done.err


def test_the_default_is_a_layer_that_there_is(product: Product, new_vault: MakeVault) -> None:
    vault = new_vault("plain")
    plain = Instrument("plain", "spot", "X-Y")
    lines = [plain_line(each, ms(7 * each), "100.5", "0.25") for each in range(100)]
    write_raw(vault, plain, "2024-03-05", b"".join(lines))
    assert product(vault, "run", "--all", "--stage", "bars").code == 0
    where = ("-i", "X-Y", "--exchange", "plain", "--market", "spot")
    done = product(vault, "explain", *where, "--at", "2024-03-05T12:01:00Z")
    assert done.out.startswith("bars_1m of plain/spot/X-Y"), done.text


def test_digests_are_those_of_what_is_named(product: Product, market: Path) -> None:
    at = stamps_of(market, "micro_1m")[40]
    stamp = datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    options = (*WHERE, "--layer", "micro_1m", "--at", stamp, "--digest")
    done = product(market, "explain", *options, "--json")
    assert done.code == 0, done.text
    told = json.loads(done.out)
    for raw in told["raw"]:
        for file in raw["files"]:
            data = (market / file["path"]).read_bytes()
            named = b"".join(data[low:high] for low, high in file["ranges"])
            assert file["sha256"] == hashlib.sha256(named).hexdigest()
    units = set()
    for source in told["sources"]:
        for file in source["files"]:
            units.add(file["unit"])
            if file["unit"] == "bytes":
                data = (market / file["path"]).read_bytes()
                named = b"".join(data[low:high] for low, high in file["ranges"])
            else:
                first = int(Path(file["path"]).name.partition("-")[0])
                frame = pl.read_parquet(market / file["path"])
                rows = [frame[low - first : high - first] for low, high in file["ranges"]]
                named = b"".join(each.write_ndjson().encode() for each in rows)
            assert file["sha256"] == hashlib.sha256(named).hexdigest()
    assert units == {"bytes", "rows"}
    assert told["raw"][0]["files"][0]["sha256"] in product(market, "explain", *options).out


def test_long_rows_are_shortened_for_people(product: Product, market: Path) -> None:
    stamp = datetime.fromtimestamp(stamps_of(market, "ladder_1m")[5] / 1e6, UTC)
    options = (*WHERE, "--layer", "ladder_1m", "--at", stamp.strftime("%Y-%m-%dT%H:%M:%SZ"))
    text = product(market, "explain", *options).out
    assert all(len(line) < LONGEST for line in text.splitlines())
    (row,) = json.loads(product(market, "explain", *options, "--json").out)["rows"]
    assert len(row["bid_px"]) > 6
    assert f"… {len(row['bid_px']) - 6} more" in text
