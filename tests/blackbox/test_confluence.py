"""A planted setup: the rules that ship fire at that minute and at no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.raw import Instrument

from .conftest import MakeVault, Product
from .vaults import NOON, derived_folder, ms, plain_line, read_jsonl, write_raw

TAPE = Instrument("tape", "perps", "BTC-USD")
OPTIONS = ("-i", "BTC-USD", "--exchange", "tape")
DAY = "2024-03-05"
SPIKE, SETUP = 30, 42
"""Minutes of the spike that leaves an untouched wick, and of the setup below it."""
LATER = 40
"""So many minutes later comes the mirror."""
LAST = 90
BASE = 50_000
WALL = 55
"""Base units; some 2.75 million in quote currency."""


UP = '[confluence.rules.mine]\ndirection = "UP"\n'


def stamp(minute: int) -> str:
    return (NOON + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")


def price_in(minute: int, second: int) -> int:
    """Level, but for two spikes of 100 and two visits 3 short of where they ended."""
    for spike, sign in ((SPIKE, 1), (SPIKE + LATER, -1)):
        if minute == spike and second == 30:
            return BASE + sign * 100
        visit = spike + SETUP - SPIKE
        if minute == visit or (minute == visit - 1 and second == 50):
            return BASE + sign * 97
    return BASE


def trades(first: int, last: int) -> Iterator[bytes]:
    """Six trades a minute, twenty times as large in the minutes of the setups."""
    for minute in range(first, last):
        size = "20" if minute in (SETUP, SETUP + LATER) else "1"
        for second in range(0, 60, 10):
            number, side = 60 * minute + second, ("buy", "sell")[second // 10 % 2]
            price = str(price_in(minute, second))
            yield plain_line(number, ms(60 * minute + second), price, size, side)


def books(first: int, last: int) -> Iterator[bytes]:
    """Twenty levels of a side every ten seconds, and young walls while the setups last."""
    for minute in range(first, last):
        for second in range(5, 65, 10):
            price = price_in(minute, second - 5)
            sides: dict[str, list[list[str]]] = {}
            for side, sign, walled in (("asks", 1, SETUP), ("bids", -1, SETUP + LATER)):
                levels = [[f"{price + sign * (3 + 5 * rank)}", "1"] for rank in range(20)]
                if minute == walled and second > 10:
                    levels[2][1] = str(WALL)
                sides[side] = levels
            row = {"ts": ms(60 * minute + second)} | sides
            yield json.dumps(row).encode() + b"\n"


def write(vault: Path, last: int, *, has_books: bool = True) -> None:
    """The tape up to a minute."""
    write_raw(vault, TAPE, DAY, b"".join(trades(0, last)))
    if has_books:
        folder = vault / "raw" / "tape" / "books_perps" / "BTC-USD"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{DAY}.jsonl").write_bytes(b"".join(books(0, last)))


def rows(vault: Path) -> list[dict[str, Any]]:
    return read_jsonl(derived_folder(vault, "confluence", TAPE) / "confluence_1m.jsonl")


def matched(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["timestamp_utc"], row["rule"]) for row in found if row["matched"]]


PLANTED = [
    (stamp(SETUP), "maximum_conviction_short"),
    (stamp(SETUP + LATER), "maximum_conviction_long"),
]


@pytest.fixture(scope="module")
def planted(product: Product, new_vault: MakeVault) -> Path:
    """A vault with the whole tape, run once."""
    vault = new_vault("planted")
    write(vault, LAST)
    done = product(vault, "confluence", *OPTIONS)
    assert done.code == 0, done.text
    return vault


def test_each_rule_fires_at_its_minute_and_at_no_other(planted: Path) -> None:
    found = rows(planted)
    assert matched(found) == PLANTED
    assert len(found) == 2 * (LAST - 1)
    for row in found:
        assert row["score"] == sum(c["truth"] is True for c in row["conditions"]) / 6
    short = next(row for row in found if row["matched"])
    values = {k: v for each in short["conditions"] for k, v in each["values"].items()}
    assert values["wicks.nearest_untouched_high"] == BASE + 100
    assert values["bars.close"] == BASE + 97
    assert values["buckets.ask_young_wall"] == WALL * (BASE + 97 + 13)
    assert (short["direction"], short["exchange"], short["instId"]) == ("SHORT", "tape", "BTC-USD")


def test_without_books_nothing_fires_and_the_row_says_why(
    product: Product, new_vault: MakeVault
) -> None:
    vault = new_vault("bookless")
    write(vault, LAST, has_books=False)
    done = product(vault, "confluence", *OPTIONS, "--since", "LAST", "--json")
    assert (done.code, done.out) == (1, ""), done.text
    found = rows(vault)
    assert matched(found) == []
    (row,) = [r for r in found if (r["timestamp_utc"], r["rule"]) == PLANTED[0]]
    for condition in row["conditions"]:
        is_lacking = "buckets." in condition["part"]
        assert condition["truth"] is (None if is_lacking else True), condition
        assert condition["missing"] == (["buckets"] if is_lacking else [])
    assert row["score"] == pytest.approx(4 / 6)


def test_every_match_is_printed_once(product: Product, new_vault: MakeVault) -> None:
    """And the rows are those of one run."""
    vault = new_vault("since")
    printed = []
    for last in (SPIKE, SETUP + 1, SETUP + 2, SETUP + 2, SETUP + LATER + 3, LAST, LAST):
        write(vault, last)
        done = product(vault, "confluence", *OPTIONS, "--since", "LAST", "--json")
        new = [json.loads(line) for line in done.out.splitlines()]
        assert done.code == (0 if new else 1), done.text
        printed.append(matched(new))
    assert printed == [[], [], PLANTED[:1], [], PLANTED[1:], [], []]
    asked = product(vault, "confluence", *OPTIONS, "--since", stamp(0))
    assert asked.code == 0
    lines = asked.out.splitlines()
    assert [line.split()[:4:3] for line in lines] == [[at, f"{rule}:"] for at, rule in PLANTED]
    assert product(vault, "confluence", *OPTIONS, "--since", stamp(SETUP + LATER)).code == 1
    again = product(vault, "confluence", *OPTIONS, "--since", stamp(SETUP), "--json")
    assert matched([json.loads(line) for line in again.out.splitlines()]) == PLANTED[1:]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (UP + 'when = ["volume.tier = 1"]', ["mine", "tier"]),
        (UP + 'when = ["bars.close"]', ["mine", "bars.close"]),
        (UP + 'when = ["max(bars.close) > 1"]', ["mine", "max"]),
        ('[confluence.rules.mine]\nwhen = ["true"]', ["direction"]),
    ],
)
def test_a_bad_rule_is_a_usage_error(
    product: Product, new_vault: MakeVault, toml: str, words: list[str]
) -> None:
    vault = new_vault("bad")
    write(vault, 2)
    (vault / "flowvault.toml").write_text(toml, encoding="utf-8")
    done = product(vault, "confluence", *OPTIONS)
    assert done.code == 2, done.text
    assert all(word in done.err for word in [*words, "flowvault.toml", "confluence"]), done.err


def test_bad_lines_of_a_feed_do_not_hide_a_match(product: Product, new_vault: MakeVault) -> None:
    """The status tells of them."""
    vault = new_vault("dirty")
    write(vault, SETUP + 3)
    with (vault / "raw" / "tape" / "trades_perps" / "BTC-USD" / f"{DAY}.jsonl").open("ab") as file:
        file.write(b"garbage\n" * 50)
    done = product(vault, "confluence", *OPTIONS, "--since", "LAST", "--json")
    assert done.code == 65, done.text
    assert "50 of" in done.err
    assert matched([json.loads(line) for line in done.out.splitlines()]) == PLANTED[:1]
    again = product(vault, "confluence", *OPTIONS, "--since", "LAST", "--json")
    assert (again.code, again.out) == (1, "")


def test_a_time_that_is_none_is_a_usage_error(product: Product, planted: Path) -> None:
    done = product(planted, "confluence", *OPTIONS, "--since", "yesterday")
    assert done.code == 2
    assert "'yesterday' is not a time such as" in done.err


def test_a_rule_of_ones_own(product: Product, new_vault: MakeVault) -> None:
    vault = new_vault("own")
    write(vault, SPIKE)
    toml = """
[confluence]
seed_rules = false
[confluence.rules.busy]
direction = "UP"
when = ["bars.trades >= 6", "volume.total_volume > 299999", "instrument.tick is null"]
"""
    (vault / "flowvault.toml").write_text(toml, encoding="utf-8")
    done = product(vault, "confluence", *OPTIONS, "--since", stamp(SPIKE - 4), "--json")
    assert done.code == 0, done.text
    assert [json.loads(line)["rule"] for line in done.out.splitlines()] == ["busy", "busy"]
