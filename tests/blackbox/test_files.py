"""Raw files as they come: packed, mixed, torn, shrunk, gone; contracts known and unknown."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard

from tests.oracle.fold import judge_folder
from tests.oracle.layers import Row
from tests.oracle.raw import Contract, Instrument

from .conftest import MakeVault, Product
from .streams import DAYS, two_days
from .vaults import (
    assert_layers,
    assert_quarantine,
    derived_folder,
    ms,
    okx_line,
    plain_line,
    read_bars,
    read_quarantine,
    read_trades,
    read_volume,
    times,
    tree,
    write_raw,
)

PACKED = Instrument("acme", "spot", "PACKED")
SIMPLE = Instrument("acme", "spot", "SIMPLE")


def simple_lines(first: int, last: int) -> bytes:
    """Trades `first`..`last - 1`, ten seconds apart."""
    return b"".join(plain_line(i, ms(10 * i), "10", "1") for i in range(first, last))


# -- packed files ---------------------------------------------------------


def write_packed(vault: Path, day: str, content: bytes, suffix: str) -> None:
    """One day file in the given packing."""
    file = write_raw(vault, PACKED, day, content)
    if suffix == ".gz":
        half = len(content) // 2
        packed = gzip.compress(content[:half]) + gzip.compress(content[half:])
    elif suffix == ".zst":
        packed = zstandard.compress(content[:1000]) + zstandard.compress(content[1000:])
    else:
        return
    file.with_name(file.name + suffix).write_bytes(packed)
    file.unlink()


MIXES = [(".gz", ".gz"), (".zst", ".zst"), (".gz", ".zst"), ("", ".gz")]


@pytest.mark.parametrize("suffixes", MIXES, ids="".join)
def test_packed_equals_plain(
    new_vault: MakeVault, product: Product, suffixes: tuple[str, str]
) -> None:
    """Gzip and zstd, in several members, alone or mixed, give the bytes plain files give."""
    plain, packed = new_vault("plain"), new_vault("packed")
    days = two_days(PACKED, seed=9, trades=1500)
    for (day, content), suffix in zip(days.items(), suffixes, strict=True):
        write_packed(plain, day, content, "")
        write_packed(packed, day, content, suffix)
    codes = {product.run_all(vault, expect=None).code for vault in (plain, packed)}
    assert len(codes) == 1
    assert tree(plain, "derived") == tree(packed, "derived")
    judge = assert_layers(packed, PACKED)
    assert_quarantine(packed, PACKED, judge)


def test_a_day_packed_after_it_was_read(new_vault: MakeVault, product: Product) -> None:
    """Offsets are those of the unpacked bytes: a rotated file goes on where the plain one ended."""
    rotated, plain = new_vault("rotated"), new_vault("plain")
    days = two_days(PACKED, seed=10, trades=1500)
    write_packed(rotated, DAYS[0], days[DAYS[0]][:50_000], "")
    product.run_all(rotated, expect=None)
    (PACKED.raw_folder(rotated) / f"{DAYS[0]}.jsonl").unlink()
    for day in DAYS:
        write_packed(rotated, day, days[day], ".gz")
        write_packed(plain, day, days[day], "")
    product.run_all(rotated, expect=None)
    product.run_all(plain, expect=None)
    assert tree(rotated, "derived") == tree(plain, "derived")
    assert_layers(rotated, PACKED)


# -- reruns and files that change behind the cursor ------------------------


def test_nothing_new_writes_nothing(new_vault: MakeVault, product: Product) -> None:
    """A second run leaves every byte and every time stamp under derived and state."""
    vault = new_vault("rerun")
    for day, content in two_days(PACKED, seed=11, trades=1000).items():
        write_packed(vault, day, content, "")
    write_raw(vault, SIMPLE, "2024-03-05", simple_lines(0, 30) + b'{"torn')
    product.run_all(vault, expect=None)
    tops = ("derived", "state", "quarantine")
    before = [(tree(vault, top), times(vault, top)) for top in tops]
    assert before[0][0]
    assert before[1][0]
    outcome = product.run_all(vault, expect=0)
    assert [(tree(vault, top), times(vault, top)) for top in tops] == before
    assert {row["rows_out"] for row in outcome.summaries} == {0}


def test_a_file_that_shrank_is_refused(new_vault: MakeVault, product: Product) -> None:
    """Exit 65, the word rebuild, the file's name; nothing derived changes; rebuild mends it."""
    vault = new_vault("shrunk")
    file = write_raw(vault, SIMPLE, "2024-03-05", simple_lines(0, 40))
    product.run_all(vault)
    before = tree(vault, "derived")
    file.write_bytes(simple_lines(0, 20))
    outcome = product.run_all(vault, expect=65)
    assert "rebuild" in outcome.text
    assert "2024-03-05.jsonl" in outcome.text
    assert tree(vault, "derived") == before


def test_a_file_that_changed_is_refused(new_vault: MakeVault, product: Product) -> None:
    """The same length with other bytes just before the cursor, then longer with another head."""
    vault = new_vault("changed")
    file = write_raw(vault, SIMPLE, "2024-03-05", simple_lines(0, 40))
    product.run_all(vault)
    content = file.read_bytes()
    file.write_bytes(content[:-60].replace(b'"10"', b'"20"') + content[-60:] + simple_lines(40, 41))
    assert "rebuild" in product.run_all(vault, expect=65).text
    file.write_bytes(content[:-60] + content[-60:].replace(b'"10"', b'"20"'))
    assert "rebuild" in product.run_all(vault, expect=65).text


def test_a_file_that_went_after_it_was_read(new_vault: MakeVault, product: Product) -> None:
    """Old days may be deleted; the next day goes on."""
    vault, whole = new_vault("gone"), new_vault("whole")
    days = two_days(PACKED, seed=12, trades=1000)
    first = write_raw(vault, PACKED, DAYS[0], days[DAYS[0]])
    product.run_all(vault, expect=None)
    first.unlink()
    write_raw(vault, PACKED, DAYS[1], days[DAYS[1]])
    product.run_all(vault, expect=None)
    for day, content in days.items():
        write_raw(whole, PACKED, day, content)
    product.run_all(whole, expect=None)
    assert tree(vault, "derived") == tree(whole, "derived")


def test_torn_line(new_vault: MakeVault, product: Product) -> None:
    """Left alone while its day is the newest, read once it is whole, else `torn`."""
    vault = new_vault("torn")
    day, next_day = "2024-03-05", "2024-03-06"
    whole = simple_lines(0, 201)
    write_raw(vault, SIMPLE, day, whole[:-5])
    product.run_all(vault)
    assert len(read_trades(vault, SIMPLE)) == 200
    assert read_quarantine(vault, SIMPLE) == []
    write_raw(vault, SIMPLE, day, whole + b'{"ts":1')
    product.run_all(vault)
    assert len(read_trades(vault, SIMPLE)) == 201
    assert read_quarantine(vault, SIMPLE) == []
    write_raw(vault, SIMPLE, next_day, simple_lines(201, 310))
    outcome = product.run_all(vault)
    ((file, row),) = read_quarantine(vault, SIMPLE)
    assert file == f"{day}.jsonl"
    assert (row["offset"], row["reason"], row["raw"]) == (len(whole), "torn", '{"ts":1')
    assert outcome.summary("SIMPLE")["bad"] == 1
    judge = assert_layers(vault, SIMPLE)
    assert_quarantine(vault, SIMPLE, judge)


# -- names and contracts ---------------------------------------------------


def test_unknown_instrument(new_vault: MakeVault, product: Product) -> None:
    """Exit 66 and its name, whether or not the vault holds others."""
    vault = new_vault("unknown")
    write_raw(vault, SIMPLE, "2024-03-05", simple_lines(0, 5))
    for command in ("volume", "run"):
        outcome = product(vault, command, "--instId", "NO-SUCH-SWAP")
        assert outcome.code == 66, outcome.text
        assert "NO-SUCH-SWAP" in outcome.text
    outcome = product(vault, "volume", "-i", "SIMPLE", "--exchange", "acme", "--market", "perps")
    assert outcome.code == 66, outcome.text


def test_stage_command_brings_its_inputs_up_to_date(new_vault: MakeVault, product: Product) -> None:
    """`volume` alone derives trades and bars first; for this instrument only."""
    vault = new_vault("single")
    other = Instrument("acme", "spot", "OTHER")
    for instrument in (SIMPLE, other):
        write_raw(vault, instrument, "2024-03-05", simple_lines(0, 50))
    outcome = product(vault, "volume", "-i", "SIMPLE", "--exchange", "acme", "--market", "spot")
    assert outcome.code == 0, outcome.text
    assert len(read_trades(vault, SIMPLE)) == 50
    assert len(read_volume(vault, SIMPLE)) == 8
    assert not derived_folder(vault, "trades", other).exists()


UNKNOWN = Instrument("okx", "perps", "ZZZ-USDT-SWAP")


def test_unknown_contract(new_vault: MakeVault, product: Product) -> None:
    """Exit 65, nothing derived; what the message says to add to the file it names mends it.

    Instruments the packaged table knows stay known beside the vault's own file.
    """
    vault = new_vault("contract")
    lines = [okx_line(UNKNOWN.inst_id, i, ms(i), "10", "1") for i in range(100)]
    write_raw(vault, UNKNOWN, "2024-03-05", b"".join(lines))
    outcome = product.run_all(vault, expect=65)
    assert "instruments.toml" in outcome.text
    assert "ZZZ-USDT-SWAP" in outcome.text
    assert tree(vault, "derived") == {}
    assert read_quarantine(vault, UNKNOWN) == []
    advice = [line.strip() for line in outcome.err.splitlines() if line.startswith("    ")]
    (vault / "instruments.toml").write_text("\n".join(advice) + "\n", encoding="utf-8")
    write_raw(vault, INVERSE, "2024-03-05", inverse_flat())
    product.run_all(vault)
    assert len(read_trades(vault, UNKNOWN)) == 100
    assert_layers(vault, INVERSE)


def test_contract_size_in_the_record(new_vault: MakeVault, product: Product) -> None:
    """An unknown instrument whose rows carry ctVal, ctMult and ctType needs no table."""
    vault = new_vault("carried")
    rows = [collector_row(UNKNOWN, i, "10", "3", ctVal="0.5", ctMult="2") for i in range(70)]
    write_raw(vault, UNKNOWN, "2024-03-05", b"".join(rows))
    product.run_all(vault)
    assert {(t["size"], t["notional"]) for t in read_trades(vault, UNKNOWN)} == {(3.0, 30.0)}
    assert_layers(vault, UNKNOWN)


def collector_row(
    instrument: Instrument, number: int, price: str, contracts: str, **contract: str
) -> bytes:
    """One row as a collector keeps it."""
    row: Row = {
        "timestamp_utc": f"2024-03-05T12:{number // 60:02d}:{number % 60:02d}.123Z",
        "exchange": "okx",
        "market": "perp",
        "instId": instrument.inst_id,
        "trade_id": str(number),
        "side": "buy",
        "price": price,
        "qty_contracts": contracts,
        "ctVal": "1",
        "ctMult": "1",
        "ctType": "linear",
    }
    return json.dumps(row | contract).encode() + b"\n"


INVERSE = Instrument("okx", "perps", "BTC-USD-SWAP", Contract(Decimal(100), inverse=True))


def inverse_flat() -> bytes:
    """Contracts of 100 USD at prices that do not divide evenly."""
    trades = [(0, "30000", "1"), (1, "61234.5", "7"), (2, "64000", "1000"), (3, "3", "1"),
              (70, "30000", "1")]  # fmt: skip
    return b"".join(
        okx_line(INVERSE.inst_id, i, ms(s), price, contracts, "sell")
        for i, (s, price, contracts) in enumerate(trades, start=1)
    )


def inverse_rows() -> bytes:
    """Rows that carry their contract size, some of a fraction of a contract."""
    cases = [("64000", "0.00000064"), ("64000", "0.00000192"), ("40000", "1")]
    return b"".join(
        collector_row(INVERSE, 200 + i, price, contracts, ctVal="100", ctType="inverse")
        for i, (price, contracts) in enumerate(cases)
    )


def test_inverse_contract(new_vault: MakeVault, product: Product) -> None:
    """Notional is the US dollars; base is dollars over price, twelve decimals, half to even.

    100/30000 = 0.003333333333|33…, 100/3 = 33.333333333333|33….
    """
    vault = new_vault("inverse")
    write_raw(vault, INVERSE, "2024-03-05", inverse_flat() + inverse_rows())
    product.run_all(vault)
    trades = read_trades(vault, INVERSE)
    assert [t["notional"] for t in trades[:5]] == [100.0, 700.0, 100000.0, 100.0, 100.0]
    assert trades[0]["size"] == 0.003333333333
    assert trades[2]["size"] == 1.5625
    assert trades[3]["size"] == 33.333333333333
    judge = assert_layers(vault, INVERSE)
    assert judge.bad == 0
    (first, *_) = read_bars(vault, INVERSE, "1m")
    assert (first["whale_trades"], first["whale_notional"]) == (1, 100000.0)
    assert read_volume(vault, INVERSE)[0]["total_volume"] == "100900"


def test_inverse_half_even(new_vault: MakeVault, product: Product) -> None:
    """Ties at the thirteenth decimal: 0.5e-12 steps go to the even neighbour."""
    vault = new_vault("ties")
    # base = contracts * 100 / 200000: 1.5, 2.5, 3.5, 1.5005 and 2.5005 units of 1e-12
    sizes = {
        "3e-9": 2e-12,
        "5e-9": 2e-12,
        "7e-9": 4e-12,
        "3.001e-9": 2e-12,
        "5.001e-9": 3e-12,
    }
    lines = [
        okx_line(INVERSE.inst_id, i, ms(i), "200000", size) for i, size in enumerate(sizes, start=1)
    ]
    write_raw(vault, INVERSE, "2024-03-05", b"".join(lines))
    product.run_all(vault)
    assert [t["size"] for t in read_trades(vault, INVERSE)] == list(sizes.values())
    assert judge_folder(vault, INVERSE).bad == 0
    assert_layers(vault, INVERSE)
