"""The simulated equity market, and what scoring a mapping on it says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from scripts import equities_demo, equities_score
from scripts.equitykit import judge
from scripts.equitykit.cases import USUAL, Case, attributed, judged, look, mapped, since, stopped
from scripts.equitykit.draw import Drawn, Settings, draw
from scripts.equitykit.frames import Market, frames
from scripts.equitykit.page import Scores, page, wilson

SIZE = {"years": 3, "symbols": 30, "venues": 8, "managers": 30}


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(Settings(seed=2, **SIZE))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def market(drawn: Drawn) -> Market:
    return frames(drawn)


# -- the score ---------------------------------------------------------------------------------


def test_mapping_beats_a_shuffled_one(market: Market) -> None:
    found = judged(mapped(market, date(2022, 12, 31)), market, 1)
    assert found.true > 15
    assert found.pairs.auc is not None
    # far above every one of 200 deals, and as precise as they are not
    assert found.pairs.auc > 0.75
    assert found.pairs.auc > max(found.again) + 0.1
    precision = found.pairs.precision(found.true)
    assert precision is not None
    assert precision > 3 * found.again_precision
    first = found.pairs.precision(10)
    assert first is not None
    assert first >= 0.7


def test_flows_by_the_map_hit_more_than_by_a_shuffled_one() -> None:
    both = [attributed(2, SIZE, is_shuffled=shuffled) for shuffled in (False, True)]
    for name in both[0].by_mode:
        found, dealt = (each.by_mode[name] for each in both)
        assert found.rows > 1000
        assert found.hit > dealt.hit
    known, early, _ = both[0].by_mode.values()
    # the side comes from the 13F
    assert known.right > 0.58
    assert early.right < 0.58
    sure, all_rows = both[0].by_confidence[0.2], both[0].by_confidence[0.0]
    assert 0 < sure.rows < all_rows.rows
    assert sure.hit > all_rows.hit


def test_nothing_is_made_up() -> None:
    small = {**SIZE, "symbols": 12, "managers": 12}
    none = look(Case("", {}, since(6)), 1, small)
    assert len(none.rows) == 0
    assert none.pairs.auc == 0.5
    none = look(Case("", {}, stopped(1)), 1, small)
    assert len(none.rows) == 0
    one = look(Case("", {"symbols": 1}), 1, small)
    assert one.pairs.strength.max() <= 4 / 24
    homeless = look(Case("", {"mapped": 0.0}), 1, small)
    assert homeless.true == 0
    assert homeless.pairs.auc is None
    assert homeless.pairs.found[0] <= 1


def test_the_page(market: Market) -> None:
    usual = judged(mapped(market, date(2022, 12, 31)), market, 1)
    nothing = judged(mapped(market, date(2020, 6, 30)), market, 1)
    flows = attributed(2, {**SIZE, "symbols": 6, "managers": 8})
    text = page(Scores({USUAL.text: [usual], "too early": [nothing]}, [flows], [flows]))
    assert "statistical association, not an identification" in text
    assert f"| seed 1 | 240 | {usual.true} |" in text
    assert "**0.8" in text or "**0.9" in text
    assert "| too early | - | 0.500 |" in text
    assert "| neither (NOWCAST) | as found |" in text
    assert "nan" not in text
    assert "None" not in text


def test_areas_and_precisions_by_hand() -> None:
    score, is_true = np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    assert judge.auc(score, is_true) == (1 + 1 + 0.5 + 1) / 4
    assert judge.auc(score, ~is_true) == 0.5 / 4
    assert judge.auc(score, np.array([True] * 4)) is None
    assert [judge.precision(score, is_true, k) for k in (0, 1, 2, 3, 5)] == [
        None, 1.0, 0.75, 2 / 3, None]  # fmt: skip
    pairs = judge.Pairs(score, np.array([1.0, 0.9, 0.89, 0.0]), is_true)
    assert pairs.found == (2, 2)
    bins = pairs.bins()
    assert [each[2] for each in bins] == [1, 0, 0, 0, 1, 1, 1]
    assert [each[4] for each in bins] == [0, 0, 0, 0, 0, 1, 1]
    low, high = wilson(9, 10)
    assert (round(low, 4), round(high, 4)) == (0.5958, 0.9821)


def test_flows_by_hand() -> None:
    day = date(2023, 1, 3)
    truth = pl.DataFrame(
        {"symbol": ["X", "X"], "trade_date": [day] * 2, "institution_cik": ["1", "2"],
         "shares": [-100, 40]}
    )  # fmt: skip
    routes = pl.DataFrame(
        {"broker_mpid": ["A", "B"] * 2, "institution_cik": ["1", "1", "2", "2"],
         "share": [0.5, 0.5, 1.0, 0.0]}
    )  # fmt: skip
    given = pl.DataFrame(
        {"symbol": ["X"] * 3, "trade_date": [day] * 3, "institution_cik": ["1", "2", "3"],
         "broker_mpid": ["A", "B", "A"], "shares": [60, 30, 10],
         "flow_direction": ["sell", "sell", "buy"]}
    )  # fmt: skip
    found = judge.flows(given, truth, routes)
    assert (found.rows, found.told) == (3, 2)
    # 50 of 60 went through A; the second traded nothing at B, the third nothing at all
    assert found.hit == 50 / 100
    assert found.reached == 50 / 140
    assert found.hit_quarter == (60 + 30) / 100
    assert (found.right, found.right_shares) == (0.5, 60 / 90)


# -- the market --------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_market(drawn: Drawn, market: Market) -> None:
    again = frames(draw(drawn.settings))
    for name, value in vars(market).items():
        if isinstance(value, pl.DataFrame):
            assert value.equals(getattr(again, name)), name
    other = frames(draw(replace(drawn.settings, seed=3)))
    assert not market.ats.equals(other.ats)


def test_the_market_hangs_together(drawn: Drawn, market: Market) -> None:
    flows = market.flows.group_by("symbol").agg(pl.col("shares").abs().sum())
    venues = market.ats.group_by("symbol").agg(pl.col("shares").sum())
    off = market.off_exchange.group_by("symbol").agg(pl.col("total_volume").sum())
    bars = market.prices.group_by("symbol").agg(pl.col("volume").sum())
    joined = flows.join(venues, on="symbol", suffix="_v").join(off, on="symbol")
    joined = joined.join(bars, on="symbol")
    assert len(joined) == 30
    ordered = joined.select("shares", "shares_v", "total_volume", "volume").to_numpy()
    assert (np.diff(ordered, axis=1) > 0).all()
    assert set(
        market.ats.filter(pl.col("tier") == "T1").select(
            (pl.col("published") - pl.col("week_start")).dt.total_days()
        )["published"]
    ) == {21}
    assert (market.ats["week_start"].dt.weekday() == 1).all()
    assert market.routes.group_by("institution_cik").agg(pl.col("share").sum())[
        "share"
    ].to_list() == pytest.approx([1.0] * 30)
    # adjusted closes do not jump where shares split
    split = np.flatnonzero((np.diff(drawn.split, axis=0) != 0).any(axis=0))
    assert len(split) == 2
    moves = np.abs(np.diff(np.log(drawn.adjusted[:, split]), axis=0))
    assert moves.max() < 0.2
    assert np.abs(np.diff(np.log(drawn.close[:, split]), axis=0)).max() > 0.5
    assert set(market.filing_list["amendment"]) == {None, "RESTATEMENT", "NEW HOLDINGS"}
    assert len(market.filing_list) < 12 * 30 * 1.05


def test_raw_files_hold_the_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--vault", str(tmp_path), "--first-year", "2022", "--years", "1"]
    arguments += ["--symbols", "3", "--venues", "4", "--managers", "5", "--seed", "1"]
    assert equities_demo.main(arguments) == 0
    assert "simulated market, 2022-01-03 to 2022-12-30" in capsys.readouterr().out
    market = frames(
        draw(Settings(seed=1, first_year=2022, years=1, symbols=3, venues=4, managers=5))
    )
    raw = tmp_path / "raw"

    def lines(path: Path) -> list[dict[str, object]]:
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    weeks = [
        (row["weekStartDate"], row["issueSymbolIdentifier"], row["MPID"],
         row["totalWeeklyShareQuantity"], row["tierIdentifier"])
        for path in sorted((raw / "finra" / "ats_weekly").glob("*.jsonl"))
        for row in lines(path)
        if row["summaryTypeCode"] == "ATS_W_SMBL_FIRM"
        and path.name == f"{row['weekStartDate']}.{row['tierIdentifier']}.jsonl"
    ]  # fmt: skip
    columns = ("week_start", "symbol", "mpid", "shares", "tier")
    assert sorted(weeks) == sorted(
        (str(week), *rest) for week, *rest in market.ats.select(columns).iter_rows()
    )
    off = [
        (row["Date"], row["Symbol"], row["TotalVolume"])
        for path in (raw / "finra" / "regsho_daily").glob("*.jsonl")
        for row in lines(path)
    ]
    assert sorted(off) == sorted(
        (f"{day:%Y%m%d}", symbol, volume)
        for day, symbol, volume, _ in market.off_exchange.iter_rows()
    )
    held: dict[tuple[object, ...], int] = {}
    listed = set()
    for path in (raw / "sec" / "13f").glob("*/*.jsonl"):
        for row in lines(path):
            assert row["cik"] == path.parent.name
            listed.add((row["cik"], path.stem, row["amendmentType"]))
            if row.get("sshPrnamtType") == "SH" and row["putCall"] is None:
                key = (row["cik"], path.stem, row["cusip"])
                held[key] = held.get(key, 0) + int(str(row["sshPrnamt"]))
    names = ("institution_cik", "accession", "cusip", "shares")
    assert held == {tuple(row[:3]): row[3] for row in market.filings.select(names).iter_rows()}
    assert listed == set(
        market.filing_list.select("institution_cik", "accession", "amendment").iter_rows()
    )
    days = lines(raw / "prices" / "daily" / "SPY.jsonl")
    assert len(days) == len(market.days)
    assert {row["kind"] for row in lines(raw / "sec" / "entities.jsonl")} == {"issuer", "manager"}
    truth = lines(tmp_path / "truth" / "equities.jsonl")
    assert "simulated" in str(truth[0]["about"])
    assert len(truth) == 1 + 4 * 5
    # a vault with data in it is left alone
    assert equities_demo.main(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_vault_is_judged_by_its_truth(
    tmp_path: Path, market: Market, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged_as() -> tuple[int, str, str]:
        status = equities_score.main(["--vault", str(tmp_path)])
        return (status, *capsys.readouterr())

    assert judged_as()[0] == 66
    truth = tmp_path / "truth"
    truth.mkdir()
    rows = [{"about": "simulated"}, *market.routes.to_dicts()]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (truth / "equities.jsonl").write_text(text, encoding="utf-8")
    status, _, error = judged_as()
    assert status == 66
    assert "broker_map" in error
    folder = tmp_path / "derived" / equities_score.MAP
    folder.mkdir(parents=True)
    mapped(market, date(2022, 12, 31)).write_parquet(folder / "map.parquet")
    status, out, _ = judged_as()
    assert status == 0
    assert "pairs 240, related" in out
    assert "confidence 0.90 or more" in out
