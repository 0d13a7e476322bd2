"""A setup planted in the simulator: the rules fire at its minute and at no other.

`flowvault demo --setups` tells in its truth file where; with a feed missing what it says is not
known, nothing fires, and the row says why.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.engine.runner import run_stages
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument

from .conftest import MakeVault, Product
from .vaults import read_jsonl

INST = "BTC-USDT-SWAP"
SIM = Instrument("sim", "perps", INST)
WHERE = ("-i", INST, "--exchange", "sim")
SEED_RULES = ("maximum_conviction_short", "maximum_conviction_long")
FEEDS = {
    "open_interest": "open_interest",
    "liquidations": "liquidations",
    "ratio": "ratio",
    "whale_alerts": "whale_alerts",
    "books": "book",
    "quotes": "bbo",
}
"""The raw feeds beside the trades, and the stage that reads each."""
CROWD = """
[confluence.rules.crowd_short]
direction = "SHORT"
when = [
  "volume.absorption and volume.volume_tier = 'T4'",
  "buckets.ask_young_wall > 2000000",
  "open_interest.change_pct > 0.2",
  "liquidations.short_liquidations > 20 * liquidations.long_liquidations",
  "ratio.long_short_ratio > 2",
  "whale_alerts.net_usd > 100000000",
]
[confluence.rules.crowd_long]
direction = "LONG"
when = [
  "volume.absorption and volume.volume_tier = 'T4'",
  "buckets.bid_young_wall > 2000000",
  "open_interest.change_pct > 0.2",
  "liquidations.long_liquidations > 20 * liquidations.short_liquidations",
  "ratio.long_short_ratio < 0.5",
  "whale_alerts.net_usd < -100000000",
]
"""
"""The same two setups as the feeds beside the market tell of them."""

Row = dict[str, Any]


def rows_of(vault: Path) -> list[Row]:
    folder = vault / "derived" / "confluence" / "sim" / "perps" / INST
    return read_jsonl(folder / "confluence_1m.jsonl")


def setups_of(vault: Path) -> list[tuple[str, str]]:
    """Minutes and rules, as the truth files tell them."""
    files = sorted((vault / "raw" / "sim" / "truth_perps" / INST).glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    return [
        (row["start"].replace(".000Z", "Z"), row["rule"]) for row in rows if row["event"] == "setup"
    ]


def matched(rows: list[Row], rules: tuple[str, ...]) -> list[tuple[str, str]]:
    found = [row for row in rows if row["matched"] and row["rule"] in rules]
    return [(row["timestamp_utc"], row["rule"]) for row in found]


def crowds(setups: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(at, rule.replace("maximum_conviction", "crowd")) for at, rule in setups]


@pytest.fixture(scope="module")
def planted(product: Product, new_vault: MakeVault) -> Path:
    """Three hours with a setup of either side, every layer of them."""
    vault = new_vault("planted")
    done = product(vault, "demo", "--setups", "--hours", "3", "--seed", "11")
    assert done.code == 0, done.text
    assert f"raw/sim/whale_alerts_perps/{INST}" in done.out.replace("\\", "/")
    (vault / "flowvault.toml").write_text(CROWD, encoding="utf-8")
    assert product(vault, "run", "--all").code == 0
    return vault


def test_the_rules_fire_at_the_planted_minutes_and_at_no_other(
    product: Product, planted: Path
) -> None:
    setups, rows = setups_of(planted), rows_of(planted)
    assert {rule for _, rule in setups} == set(SEED_RULES)
    assert matched(rows, SEED_RULES) == setups
    assert matched(rows, ("crowd_short", "crowd_long")) == crowds(setups)
    minutes = sorted({row["timestamp_utc"] for row in rows})
    # rules that look at a feed wait for it: transfers are the rarest
    assert minutes[-1] > setups[-1][0]
    assert len(rows) == 4 * len(minutes)
    assert minutes == [f"2025-01-06T{m // 60:02}:{m % 60:02}:00Z" for m in range(len(minutes))]
    for row in rows:
        assert row["direction"] == ("SHORT" if row["rule"].endswith("short") else "LONG")
        assert row["matched"] is all(part["truth"] is True for part in row["conditions"])
    asked = product(planted, "confluence", *WHERE, "--since", "LAST", "--json")
    found = [json.loads(line) for line in asked.out.splitlines()]
    assert (asked.code, matched(found, SEED_RULES)) == (0, setups)


def without(planted: Path, vault: Path, kind: str) -> Path:
    """The same vault as if a feed had never been there: its files and all made from them gone."""
    shutil.copytree(planted, vault)
    shutil.rmtree(vault / "raw" / "sim" / f"{kind}_perps")
    for stage in stages.with_downstream(FEEDS[kind]):
        for layer in stage.layers:
            folder = vault / "derived" / layer.folder / "sim" / "perps" / INST
            for file in folder.glob(layer.file):
                file.unlink()
        shutil.rmtree(vault / "state" / stage.name, ignore_errors=True)
    return vault


def run(vault: Path) -> Iterator[Summary]:
    for done in run_stages(Vault.open(vault), stages.with_upstream(["confluence"]), SIM):
        assert isinstance(done, Summary), done
        yield done


@pytest.mark.parametrize("kind", FEEDS)
def test_without_a_feed_what_it_says_is_not_known(planted: Path, tmp_path: Path, kind: str) -> None:
    vault = without(planted, tmp_path / "vault", kind)
    assert {done.stage for done in run(vault)} >= {"volume", "wicks", "confluence"}
    known = {(row["timestamp_utc"], row["rule"]): row for row in rows_of(planted)}
    rows = rows_of(vault)
    assert len(rows) >= len(known)
    alias = {"books": "buckets", "quotes": None}.get(kind, kind)
    for row in rows:
        if (before := known.get((row["timestamp_utc"], row["rule"]))) is None:
            continue
        for part, told in zip(row["conditions"], before["conditions"], strict=True):
            if alias is not None and f"{alias}." in part["part"]:
                assert (part["truth"], part["missing"]) == (None, [alias])
                assert {v for k, v in part["values"].items() if k.startswith(alias)} == {None}
            else:
                assert part == told
        is_told = not any(part["missing"] for part in row["conditions"])
        assert row["matched"] is (before["matched"] and is_told)
    setups = setups_of(vault)
    assert matched(rows, SEED_RULES) == ([] if kind == "books" else setups)
    assert matched(rows, ("crowd_short", "crowd_long")) == (
        crowds(setups) if kind == "quotes" else []
    )


def test_without_trades_there_is_no_minute_to_speak_of(
    product: Product, planted: Path, tmp_path: Path
) -> None:
    vault = tmp_path / "vault"
    shutil.copytree(planted / "raw" / "sim", vault / "raw" / "sim")
    shutil.rmtree(vault / "raw" / "sim" / "trades_perps")
    done = product(vault, "confluence", *WHERE, "--since", "LAST", "--json")
    assert (done.code, done.out) == (1, "")
    assert f"confluence of {SIM.key}: nothing to do: there are no raw trades" in done.err
    assert rows_of(vault) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 7))
def test_whole_days_of_other_seeds(product: Product, new_vault: MakeVault, seed: int) -> None:
    vault = new_vault(f"seed{seed}")
    done = product(vault, "demo", "--setups", "--days", "2", "--seed", str(seed))
    assert done.code == 0, done.text
    assert product(vault, "confluence", *WHERE).code == 0
    setups = setups_of(vault)
    assert len(setups) == 4
    assert matched(rows_of(vault), SEED_RULES) == setups
