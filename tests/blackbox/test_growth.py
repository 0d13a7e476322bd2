"""Files that grow between runs give the same bytes as one run over the whole."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tests.oracle.fold import judge_folder
from tests.oracle.layers import MINUTES, bars_rows, volume_rows
from tests.oracle.raw import Contract, Instrument

from .conftest import MakeVault, Process, Product
from .streams import DAYS, two_days
from .vaults import (
    assert_layers,
    assert_quarantine,
    assert_rows,
    read_bars,
    read_trades,
    read_volume,
    tree,
    write_raw,
)

CUTS = 11
TRADES = 2000
TIGHT = 6
"""From this seed on, cuts fall only at line ends, a byte before or after."""
STREAMS = {
    1: Instrument("acme", "spot", "GROW-1"),
    2: Instrument("okx", "perps", "BTC-USDT-SWAP", Contract(Decimal("0.01"))),
    3: Instrument("okx", "spot", "GROW-3"),
    4: Instrument("binance", "perps", "GROWUSDT"),
    5: Instrument("coinbase", "spot", "GROW-5"),
    6: Instrument("acme", "spot", "TIGHT-6"),
    7: Instrument("okx", "spot", "TIGHT-7"),
}


@dataclass(frozen=True)
class Growth:
    """One stream and the places at which a run sees it."""

    instrument: Instrument
    days: dict[str, bytes]
    cuts: list[int]

    def write(self, vault: Path, length: int) -> None:
        """The first `length` bytes of the two files, the second once the first is whole."""
        first = self.days[DAYS[0]]
        write_raw(vault, self.instrument, DAYS[0], first[:length])
        if length > len(first):
            rest = self.days[DAYS[1]][: length - len(first)]
            write_raw(vault, self.instrument, DAYS[1], rest)


def growths() -> list[Growth]:
    """Seven seeded streams, each with cuts of its own."""
    result = []
    for seed, instrument in STREAMS.items():
        days = two_days(instrument, seed, TRADES)
        choose = tight_cuts if seed >= TIGHT else any_cuts
        whole = sum(map(len, days.values()))
        result.append(Growth(instrument, days, [*choose(days, random.Random(seed)), whole]))
    return result


def any_cuts(days: dict[str, bytes], rng: random.Random) -> list[int]:
    """Cuts at any byte."""
    return sorted(rng.sample(range(1, sum(map(len, days.values()))), CUTS))


def tight_cuts(days: dict[str, bytes], rng: random.Random) -> list[int]:
    """Cuts around line ends: those after far-ahead trades, blank lines and the first file's."""
    whole = b"".join(days.values())
    border = len(days[DAYS[0]])
    ends = [i for i in range(len(whole)) if whole[i : i + 1] == b"\n"]
    odd = [e for e in ends if whole[e - 1 : e] in (b"\r", b"\n")]
    near = [border, *rng.sample(odd, CUTS // 3), *rng.sample(ends, CUTS)]
    places = {min(len(whole), max(1, end + rng.choice((-1, 0, 1, 2)))) for end in near}
    return sorted(sorted(places)[:: max(1, len(places) // CUTS)][:CUTS])


@dataclass(frozen=True)
class Grown:
    """The vault that grew, and the one read at once."""

    grown: Path
    whole: Path


@pytest.fixture(scope="module")
def vaults(new_vault: MakeVault, product: Product, process: Process) -> Grown:
    """Twelve runs over growing files, one over the finished ones.

    Every fourth run is of `trades` alone, so that the stages behind it have
    more than one of its steps to catch up with; every third has a process of its own.
    """
    grown, whole = new_vault("grown"), new_vault("whole")
    streams = growths()
    for step in range(CUTS + 1):
        for growth in streams:
            growth.write(grown, growth.cuts[step])
        if step % 4 == 1 and step < CUTS:
            assert product(grown, "run", "--all", "--stage", "trades").code in (0, 65)
            continue
        outcome = (product if step % 3 else process).run_all(grown, expect=None)
        assert outcome.code in (0, 65), outcome.err
        assert_prefixes(grown, streams)
    for growth in streams:
        growth.write(whole, growth.cuts[-1])
    assert product.run_all(whole, expect=None).code in (0, 65)
    return Grown(grown, whole)


def assert_prefixes(vault: Path, streams: list[Growth]) -> None:
    """Whatever lies there between two runs is the oracle's answer for the bytes so far.

    Dense parts may still lack a tail that is kept back for a later part, so
    only the JSONL layers are asked here.
    """
    for growth in streams:
        assert_jsonl_layers(vault, growth.instrument)


def assert_jsonl_layers(vault: Path, instrument: Instrument) -> None:
    """Bars and volume rows of the bytes so far, no more and no fewer."""
    judge = judge_folder(vault, instrument)
    for tf in MINUTES:
        assert_rows(read_bars(vault, instrument, tf), bars_rows(judge, tf), f"{tf} bars so far")
    assert_rows(read_volume(vault, instrument), volume_rows(judge), "volume so far")


def test_derived_files_are_byte_identical(vaults: Grown) -> None:
    """Every derived file of the grown vault equals that of the single run."""
    grown, whole = tree(vaults.grown, "derived"), tree(vaults.whole, "derived")
    assert sorted(grown) == sorted(whole)
    assert [name for name in whole if grown[name] != whole[name]] == []


@pytest.mark.parametrize("instrument", STREAMS.values(), ids=lambda i: i.inst_id)
def test_both_equal_the_oracle(vaults: Grown, instrument: Instrument) -> None:
    """The streams hold every verdict, and each is the oracle's, quarantine included."""
    judge = judge_folder(vaults.whole, instrument)
    reasons = {refused.reason for refused in judge.refused}
    assert reasons == {None, "late", "future"}
    assert judge.duplicates > 5
    assert len(judge.accepted) > TRADES * 0.9
    for vault in (vaults.grown, vaults.whole):
        assert_layers(vault, instrument, judge)
        assert_quarantine(vault, instrument, judge)


def test_quarantine_is_the_same(vaults: Grown) -> None:
    """Refused lines are written once, the same bytes each, however the runs fell.

    Their order inside a file is not promised: a record held back is refused
    only when the next one is read.
    """
    grown, whole = tree(vaults.grown, "quarantine"), tree(vaults.whole, "quarantine")
    assert {name: sorted(content.splitlines()) for name, content in grown.items()} == {
        name: sorted(content.splitlines()) for name, content in whole.items()
    }


def test_trades_are_numbered_without_a_break(vaults: Grown) -> None:
    """`seq` counts 0, 1, 2, … over all parts."""
    for instrument in STREAMS.values():
        rows = read_trades(vaults.grown, instrument)
        assert [row["seq"] for row in rows] == list(range(len(rows)))
