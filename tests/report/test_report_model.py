"""Every number in a page is the number of its layer."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import stages
from pipeline.report.columns import encode
from pipeline.report.gather import COLUMNS, DRAWN

from .conftest import DAYS, INST, Made
from .pages import days_of, head_of, spelt_out

FOLDERS = {name: layer.folder for name, (layer, _) in stages.layers().items()}
TEXTS = ("total_volume", "delta", "price_change_pct")

Day = dict[str, Any]


def of_day(rows: list[Day], day: str) -> list[Day]:
    """The rows of a UTC day."""
    return [row for row in rows if row["timestamp_utc"].startswith(day)]


def ms(text: str) -> int:
    """A row's time, milliseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def bare(row: Day) -> Day:
    """A row without the keys that are the same everywhere."""
    return {k: v for k, v in row.items() if k not in ("instId", "exchange", "market", "matched")}


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_the_layer(name: str, day: str, good: Made, days: dict[str, Day]) -> None:
    """Every row, every column, to the last bit; a layer without rows that day is not there."""
    wanted = of_day(good.rows(name, FOLDERS[name]), day)
    found = days[day]["layers"].get(name)
    if not wanted:
        assert found is None
        return
    assert found is not None
    midnight = ms(f"{day}T00:00:00Z")
    assert [midnight + at for at in found["at"]] == [ms(row["timestamp_utc"]) for row in wanted]
    for column in COLUMNS[name]:
        values = [row[column] for row in wanted]
        if name == "volume_1m" and column in TEXTS:
            values = [float(value) for value in values]
        if column not in found:
            # the page works these out, by the arithmetic of doubles, as is done here
            side, k = column.split("_")
            sign = int(k) if side == "upper" else -int(k)
            pairs = zip(found["session_vwap"], found["session_sd"], strict=True)
            assert [mean + sign * sd for mean, sd in pairs] == values
        else:
            assert found[column] == values, column


@pytest.mark.parametrize("day", DAYS)
def test_signals_are_the_layer(day: str, good: Made, days: dict[str, Day]) -> None:
    """All that say something, with all they say."""
    for tf in ("5m", "15m", "30m"):
        rows = of_day(good.rows(f"signals_{tf}", "signals"), day)
        wanted = [bare(row) for row in rows if row["signal"] != "NO_SIGNAL"]
        assert days[day]["signals"][tf] == wanted
    rows = of_day(good.rows("signals_mtf", "signals_mtf"), day)
    assert days[day]["mtf"] == [bare(row) for row in rows if row["signal"] != "NO_SIGNAL"]
    rows = of_day(good.rows("confluence_1m"), day)
    assert days[day]["rules"] == [bare(row) for row in rows if row["matched"]]


def test_there_are_signals_to_compare(days: dict[str, Day]) -> None:
    """The vault is none where all of that is empty."""
    assert sum(len(day["signals"]["5m"]) for day in days.values()) > 2
    signals = [row for day in days.values() for row in day["signals"]["5m"]]
    assert {row["filtered"] for row in signals} == {True, False}
    assert {row["direction"] for row in signals} == {"LONG", "SHORT", "NONE"}
    assert any(day["layers"]["volume_1m"]["absorption"].count(True) for day in days.values())
    assert any(max(day["layers"]["bars_1m"]["whale_trades"]) for day in days.values())
    assert any(max(day["layers"]["buckets_1m"]["ask_wall"]) for day in days.values())
    empty = {
        (name, column)
        for name, columns in COLUMNS.items()
        for column in columns
        if not any(
            value is not None
            for day in days.values()
            for value in day["layers"].get(name, {}).get(column, [])
        )
    }
    bands = {("vwap_1m", f"{side}_{k}") for side in ("upper", "lower") for k in (1, 2, 3)}
    context = {each for each in empty if each[0] in ("open_interest_1m", "liquidations_1m")}
    assert empty == bands | context


def test_matches_of_rules_are_in_the_page(good: Made, tmp_path: Path) -> None:
    """With every part and its values, where a rule matches."""
    settings = good.root / "flowvault.toml"
    kept = settings.read_text(encoding="utf-8")
    name = "</script><b>busy"
    rule = (
        f"[confluence.rules.'{name}']\ndirection = 'LONG'\nwhen = [\"volume.volume_tier = 'T4'\"]\n"
    )
    try:
        settings.write_text(kept + rule, encoding="utf-8")
        good.flowvault("rebuild", "confluence", "-i", INST, "--exchange", "sim")
        page = good.report(tmp_path / "rules.html", "--from", DAYS[0])
        rows = [row for row in good.rows("confluence_1m") if row["matched"]]
    finally:
        settings.write_text(kept, encoding="utf-8")
        good.flowvault("rebuild", "confluence", "-i", INST, "--exchange", "sim")
    assert len(rows) > 2
    assert {row["rule"] for row in rows} == {name}
    assert name.encode() not in page.read_bytes()
    found = [row for day in days_of(page).values() for row in day["rules"]]
    assert found == [bare(row) for row in rows]


@pytest.mark.parametrize("day", DAYS)
def test_first_and_last_untouched_wicks(day: str, good: Made, days: dict[str, Day]) -> None:
    """Levels that were there before the day are known from these."""
    rows = of_day(good.rows("wicks_5m", "wicks"), day)
    names = ("timestamp_utc", "untouched_highs", "untouched_lows")
    wanted = [{name: row[name] for name in names} for row in (rows[0], rows[-1])]
    assert days[day]["wicks"] == wanted


def bins_by_hand(made: Made, row: Day, low_ms: int) -> tuple[dict[int, Fraction], ...]:
    """Buyers' and sellers' volume by bin, from the footprint's files, in exact numbers."""
    folder = made.root / "derived" / "footprint" / made.exchange / "perps" / INST
    rows = pl.concat([pl.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])
    end_ms = ms(row["timestamp_utc"]) + 300_000
    low, size = Fraction(Decimal(str(row["low"]))), Fraction(Decimal(str(row["bin_size"])))
    buy: dict[int, Fraction] = defaultdict(Fraction)
    sell: dict[int, Fraction] = defaultdict(Fraction)
    for each in rows.iter_rows(named=True):
        at = round(each["ts"].timestamp() * 1000)
        if not low_ms <= at < end_ms:
            continue
        price = Fraction(Decimal(str(each["price"])))
        number = min(49, int((price - low) / size + Fraction(1, 10**9)))
        buy[number] += Fraction(Decimal(str(each["buy_volume"])))
        sell[number] += Fraction(Decimal(str(each["sell_volume"])))
    return buy, sell


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("name", ["profile_session", "profile_24h"])
def test_profiles(name: str, day: str, good: Made, days: dict[str, Day]) -> None:
    """The layer's last row, and bars that are the footprint's volumes and hold its nodes."""
    row = of_day(good.rows(name, "profile"), day)[-1]
    found = dict(days[day]["profiles"][name])
    bars = found.pop("bins")
    assert found == bare(row)
    end = ms(row["timestamp_utc"]) + 300_000
    start = ms(f"{day}T00:00:00Z") if name == "profile_session" else end - 86_400_000
    for side, wanted in zip(("buy", "sell"), bins_by_hand(good, row, start), strict=True):
        assert bars[side] == [float(wanted[i]) for i in range(50)]
    both = [b + s for b, s in zip(bars["buy"], bars["sell"], strict=True)]
    assert sum(both) == pytest.approx(row["total_volume"], rel=1e-12)
    for node in (*row["hvn"], *row["lvn"]):
        number = round((node["price"] - row["low"]) / row["bin_size"] - 0.5)
        assert both[number] == pytest.approx(node["volume"], rel=1e-12)
    assert row["hvn"]


def test_bars_of_a_profile_that_do_not_add_up_are_left_out(good: Made, tmp_path: Path) -> None:
    """Here the footprint has price rows that are not the profile's."""
    other = Made(tmp_path / "vault", "sim")
    raw = other.root / "raw" / "sim" / "trades_perps" / INST
    raw.mkdir(parents=True)
    file = good.root / "raw" / "sim" / "trades_perps" / INST / f"{DAYS[0]}.jsonl"
    (raw / file.name).write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:3000]))
    (other.root / "flowvault.toml").write_text("[footprint]\nrow = 7\n", encoding="utf-8")
    for stage in ("bars", "footprint", "profile"):
        other.flowvault(stage, "-i", INST, "--exchange", "sim")
    found = days_of(other.report(tmp_path / "page.html"))
    assert found[DAYS[0]]["profiles"]["profile_session"]["bins"] is None


def test_the_head_counts_the_rows(good: Made, good_page: Path) -> None:
    """By layer, over the whole span; the span itself; decimals."""
    head = head_of(good_page)
    for each in head["layers"]:
        name = each["layer"]
        rows = good.rows(name, FOLDERS[name])
        if name in ("footprint", "confluence_1m"):
            continue
        assert each["rows"] == len(rows), name
        assert (each["note"] is None) == bool(rows) or name in ("gaps", "book_gaps"), name
    assert {each["layer"] for each in head["layers"]} == {*DRAWN, "footprint"}
    bars = good.rows("bars_1m")
    assert head["first"] == ms(bars[0]["timestamp_utc"]) // 1000
    assert head["last"] == ms(bars[-1]["timestamp_utc"]) // 1000 + 60
    assert head["decimals"] == {"price": 1, "size": 4}
    assert head["simulated"] is True
    assert head["days"] == list(DAYS)
    assert (head["base"], head["quote"]) == ("BTC", "USDT")


def test_holes_and_what_was_refused(rough: Made, rough_page: Path) -> None:
    """Gaps as rows, refused lines by reason, what is missing and what has stalled."""
    day, head = days_of(rough_page)[DAYS[0]], head_of(rough_page)
    assert day["holes"]["gaps"] == rough.rows("gaps", "gaps")
    assert day["holes"]["book_gaps"] == rough.rows("book_gaps", "gaps")
    assert len(day["holes"]["gaps"]) == 1
    assert len(day["holes"]["book_gaps"]) == 1
    feeds = {each["kind"]: each for each in head["feeds"]}
    quarantine = rough.root / "quarantine" / "okx" / "trades_perps" / INST / f"{DAYS[0]}.jsonl"
    reasons: dict[str, int] = defaultdict(int)
    for line in quarantine.read_text(encoding="utf-8").splitlines():
        reasons[json.loads(line)["reason"]] += 1
    assert feeds["trades"]["refused"] == {DAYS[0]: reasons}
    assert reasons["late"] == 1
    assert sum(reasons.values()) == 3
    assert (feeds["trades"]["late"], feeds["trades"]["bad"]) == (1, 2)
    assert feeds["trades"]["duplicate"] == 1
    assert feeds["books"]["stalled"]
    assert feeds["books"]["behind_s"] > 3000
    assert not feeds["trades"]["stalled"]
    assert feeds["quotes"]["note"] == f"nothing under raw/okx/quotes_perps/{INST}"
    assert {"micro", "buckets", "signals"} <= {each["stage"] for each in head["behind"]}
    assert "volume" not in {each["stage"] for each in head["behind"]}
    notes = {each["layer"]: each["note"] for each in head["layers"]}
    assert notes["open_interest_1m"].startswith("nothing under raw/coinalyze/open_interest")
    assert notes["signals_30m"] == "no rows yet"
    assert head["simulated"] is False


def test_what_went_on_without_a_feed_is_told(rough: Made, tmp_path: Path) -> None:
    """After `run --give-up`; and a stage that never ran is named with its command."""
    other = Made(tmp_path / "vault", "okx")
    for kind in ("trades", "books"):
        folder = other.root / "raw" / "okx" / f"{kind}_perps" / INST
        folder.mkdir(parents=True)
        lines = (rough.root / folder.relative_to(other.root) / f"{DAYS[0]}.jsonl").read_bytes()
        kept = [line for line in lines.splitlines(keepends=True) if line.startswith(b'{"')]
        (folder / f"{DAYS[0]}.jsonl").write_bytes(b"".join(kept[:2500]))
    stages_run = ("bars", "book", "quote", "flow")
    chosen = [word for name in stages_run for word in ("--stage", name)]
    other.flowvault("run", "--all", *chosen, "--give-up", "5m")
    head = head_of(other.report(tmp_path / "page.html"))
    assert {(each["stage"], each["layer"]) for each in head["without"]} >= {("flow", "quote")}
    notes = {each["layer"]: each["note"] for each in head["layers"]}
    assert notes["cvd_1m"] == f"never run: flowvault cvd -i {INST} --exchange okx --market perps"


def test_a_book_without_trades(rough: Made, tmp_path: Path) -> None:
    """There is a page; what is made from trades says that there are none."""
    other = Made(tmp_path / "vault", "okx")
    folder = other.root / "raw" / "okx" / f"books_perps/{INST}"
    folder.mkdir(parents=True)
    source = rough.root / folder.relative_to(other.root) / f"{DAYS[0]}.jsonl"
    (folder / source.name).write_bytes(source.read_bytes()[:200_000])
    other.flowvault("run", "--all")
    page = other.report(tmp_path / "page.html")
    head, day = head_of(page), days_of(page)[DAYS[0]]
    notes = {each["layer"]: each["note"] for each in head["layers"]}
    for name in ("bars_1m", "cvd_1m", "signals_5m", "orderflow_1m"):
        none = f"nothing under raw/okx/trades_perps/{INST}"
        assert notes[name] == (None if name == "orderflow_1m" else none)
    assert head["decimals"]["price"] == 1
    assert day["profiles"] == {}
    assert {"buckets_1m", "flow_1m", "micro_1m"} <= set(day["layers"])


NUMBERS = st.one_of(
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: x + 0.0),
    st.decimals(-(10**9), 10**9, places=4).map(float),
)


@given(st.one_of(st.lists(NUMBERS), st.lists(st.sampled_from([None, "T1", "T2"]))))
def test_columns_come_back(values: list[Any]) -> None:
    """Whatever is in them, to the last bit, through JSON."""
    found = spelt_out(json.loads(json.dumps(encode(values))))
    assert found == values


@pytest.mark.parametrize(
    ("values", "packed"),
    [
        ([62444.5, 62444.2, None, 62450.0], {"k": 1, "d": [624445, -3, None, 58]}),
        ([1, 2, 3], {"k": 0, "d": [1, 1, 1]}),
        ([0.1 + 0.2, 1.0], {"f": [0.1 + 0.2, 1.0]}),
        ([True, False, None], {"s": [True, False], "v": [0, 1, None]}),
        ([[], [{"a": 1}]], {"j": [[], [{"a": 1}]]}),
        ([None, None], {"n": 2}),
        ([], {"n": 0}),
    ],
)
def test_columns_by_hand(values: list[Any], packed: dict[str, Any]) -> None:
    """The kinds there are."""
    assert encode(values) == packed


def test_every_column_is_one_of_its_layer() -> None:
    """Names are those of the data dictionary."""
    for name, columns in COLUMNS.items():
        own = {column.name for column in stages.layers()[name][0].columns}
        assert set(columns) <= own, name
    assert datetime.fromisoformat("2025-01-06T00:00:00Z").tzinfo == UTC
