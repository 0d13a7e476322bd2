"""US equities from raw files to signals, through the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import tables

from .conftest import MakeVault, Outcome, Process, Product
from .equity_files import MANAGERS, Market, write_files

PERIOD = ("--from", "2025-04-01", "--to", "2025-06-30")
SIGNALS = (
    "vpinAvg",
    "vpinSpike",
    "lambdaAvg",
    "orderImbalanceAvg",
    "blockRatioAvg",
    "flowAttributionScore",
    "microConfidence",
)


@pytest.fixture(scope="module")
def market() -> Market:
    """A year and a half."""
    return Market(weeks=80)


@pytest.fixture(scope="module")
def vault(process: Process, new_vault: MakeVault, market: Market) -> Path:
    """All files, and one run over them."""
    root = new_vault("market")
    market.write(root)
    tape(root)
    done = process(root, "run", "--all", "--json")
    assert done.code == 0, done.text
    rows = {each["stage"]: each for each in done.summaries}
    assert rows["finra_ats"]["rows_in"] == 80 * 6 * 6
    assert rows["finra_ats"]["rows_out"] == 80 * 6 * 5
    assert {each["market"] for each in done.summaries} == {"equities"}
    for name in ("broker_map", "attribution", "micro_signals", "rotation", "entities"):
        assert rows[name]["rows_out"] > 0, name
        assert rows[name]["instId"] is None
    return root


def tape(vault: Path) -> None:
    """Two days of trades and quotes of one symbol."""
    for day in ("2025-06-05", "2025-06-06"):
        minutes = [(hour, minute) for hour in range(13, 20) for minute in range(60)]
        times = [f"{day}T{h:02d}:{m:02d}" for h, m in minutes if (h, m) >= (13, 30)]
        quotes = [
            {"ts": f"{t}:00Z", "seq": n, "bid": 10.0, "bid_size": 1, "ask": 10.1, "ask_size": 1}
            for n, t in enumerate([*times, f"{day}T20:00"])
        ]
        trades = [
            {"ts": f"{t}:30Z", "seq": n, "ex": "N", "price": 10.1 if n % 3 else 10.0, "size": 100}
            for n, t in enumerate([*times, f"{day}T20:00"])
        ]
        for kind, lines in (("trades", trades), ("quotes", quotes)):
            path = vault / "raw" / "taq" / kind / "TTT" / f"{day}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            extra = {"cond": "", "corr": 0} if kind == "trades" else {}
            path.write_text("".join(json.dumps({**each, **extra}) + "\n" for each in lines))


def ask(product: Product, vault: Path, *more: str, symbol: str = "AAA") -> dict[str, Any]:
    """The answer of `equities run --json`."""
    done = product(vault, "equities", "run", "--symbol", symbol, *PERIOD, "--json", *more)
    assert done.code == 0, done.text
    found: dict[str, Any] = json.loads(done.out)
    return found


def outputs(vault: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.relative_to(vault).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in vault.rglob("*")
        if path.is_file() and "raw" not in path.parts and path.suffix != ".lock"
    }


def test_running_again_does_nothing(product: Product, vault: Path) -> None:
    before = outputs(vault)
    done = product(vault, "run", "--all", "--json")
    assert done.code == 0, done.text
    assert all(each["rows_in"] == each["rows_out"] == 0 for each in done.summaries)
    assert outputs(vault) == before


def test_the_map_finds_who_trades_where(product: Product, vault: Path) -> None:
    """Manager 0 trades through UBSA; the tie that was documented counts without any evidence."""
    text = """select broker_mpid, institution_cik, relationship_type, relationship_strength, rho,
              broker_name from micro_broker_institution_map order by rho desc"""
    done = product(vault, "sql", text, "--format", "json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    first = rows[0]
    assert (first["broker_mpid"], first["institution_cik"]) == ("UBSA", MANAGERS[0])
    assert first["broker_name"] == "UBS Securities LLC"
    assert first["rho"] > 0.7
    (tied,) = [row for row in rows if row["relationship_type"] == "affiliate"]
    assert (tied["broker_mpid"], tied["institution_cik"]) == ("MSPL", MANAGERS[2])
    assert tied["relationship_strength"] >= 0.5
    assert {row["broker_name"] for row in rows if row["broker_mpid"] == "XXXX"} == {None}


def test_every_flow_has_a_name(product: Product, vault: Path) -> None:
    """Managers that are in no list have a row among the entities too."""
    text = """select count(*) as n, count(e.entity_id) as found, count(e.name) as named,
              count(distinct f.institution_id) as managers
              from micro_institutional_flow f left join entities e
              on e.entity_id = f.institution_id"""
    (row,) = map(json.loads, product(vault, "sql", text, "--format", "json").out.splitlines())
    assert row["n"] == row["found"] > row["named"] > 0
    assert row["managers"] == len(MANAGERS)


def test_commands_of_tables(product: Product, vault: Path) -> None:
    """Each brings up what it reads; those of institutions say what they are not."""
    for name, reads in (("broker_map", "sec_13f"), ("attribution", "finra_regsho")):
        done = product(vault, name)
        assert done.code == 0, done.text
        assert reads in done.out
        assert "statistical association, not identification" in done.out
    for name in ("micro_signals", "rotation"):
        done = product(vault, name, "--json")
        assert [each["stage"] for each in done.summaries][-1] == name


def test_what_a_table_was_made_from(product: Product, vault: Path) -> None:
    """Down to raw files, each by the digest of its bytes; the other commands say where to look."""
    done = product(vault, "explain", "--layer", "micro_signals", "--json")
    assert done.code == 0, done.text
    told = {each["name"]: each for each in json.loads(done.out)["sources"]}
    assert {"micro_broker_institution_map", "micro_institutional_flow", "finra_ats"} <= set(told)
    for source in told.values():
        assert set(source["reads"]) <= set(told)
        assert source["changed"] == []
        for file in source["files"]:
            assert digest(vault / file["path"]) == file["blake2b"]
        for raw in source["raw"]:
            assert digest(vault / raw["path"]) == raw["blake2b"]
            assert raw["is_there"]
        assert source["rows"] == sum(f["rows"] for f in source["files"]) or source["instruments"]
    assert len(told["finra_ats"]["raw"]) == len(list((vault / "raw/finra/ats_weekly").iterdir()))
    assert told["micro_metrics_daily"]["instruments"] == ["taq/equities/TTT"]
    text = product(vault, "explain", "--layer", "broker_map").out
    assert text.startswith("micro_broker_institution_map: made as a whole")
    assert len(text.splitlines()) < 100
    for arguments, words in (
        (("explain", "--layer", "broker_map", "--at", "2025-06-06T18:00:00Z"), "explain --layer"),
    ):
        done = product(vault, *arguments)
        assert (done.code, words in done.err) == (2, True), done.text
    assert product(vault, "sql", "from micro_broker_institution_map limit 5").code == 0


def digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_signals_for_people(product: Product, vault: Path) -> None:
    """The seven signals and the words that belong to them."""
    done = product(vault, "equities", "run", "--symbol", "AAA", *PERIOD)
    assert done.code == 0, done.text
    for name in SIGNALS:
        assert f"  {name} " in done.out
    for words in ("not identification", "21 days", "NOWCAST", "0.5 at most", "below 0.7 are left"):
        assert words in done.out, words


def test_signals_for_machines(product: Product, vault: Path) -> None:
    """What is not known is null; confidence grows with flows that are let in."""
    found = ask(product, vault)
    assert [name for name in found if name in SIGNALS] == list(SIGNALS)
    assert found["blockRatioAvg"] is None
    assert found["flowAttributionScore"] is None
    assert (found["flowRows"], found["metricDays"]) == (0, found["tradingDays"])
    assert found["flowsBelowMinConfidence"] > 0
    every = ask(product, vault, "--min-confidence", "0")
    assert every["flowRows"] == found["flowsBelowMinConfidence"]
    assert every["microConfidence"] > found["microConfidence"]
    for name in SIGNALS[:5]:
        assert every[name] == found[name]


def test_signals_of_a_tape(product: Product, vault: Path) -> None:
    """From the tape alone: too few days for VPIN, which is null and not 0."""
    found = ask(product, vault, symbol="TTT")
    assert (found["vpinAvg"], found["vpinSpike"], found["metricDays"]) == (None, None, 2)
    assert found["orderImbalanceAvg"] == pytest.approx(1 / 3)
    assert found["coverage"] == 2 / found["tradingDays"]
    assert found["microConfidence"] < 0.05


def test_as_known_on(product: Product, vault: Path, new_vault: MakeVault, market: Market) -> None:
    """The answer of a day is that of a vault that holds what was public on that day, no more."""
    day = date(2025, 6, 20)
    then = new_vault("then")
    write_files(then, known_on(market, day))
    assert product(then, "run", "--all").code == 0
    found = ask(product, vault, "--as-known-on", f"{day}", "--min-confidence", "0")
    there = ask(product, then, "--as-known-on", f"{day}", "--min-confidence", "0")
    assert found == there
    assert found["flowMode"] == "NOWCAST"
    assert found["availableDate"] <= f"{day}"
    later = ask(product, vault, "--min-confidence", "0")
    assert later["flowMode"] == "PUBLISHED"
    assert any("behind the period" in note for note in later["notes"])


def known_on(market: Market, day: date) -> dict[str, bytes]:
    """The files of a market as they were on the evening of a day."""
    found: dict[str, bytes] = {}
    for name, data in market.files.items():
        lines = data.splitlines(keepends=True)
        kept = [line for line in lines if _public(name, json.loads(line)) <= day]
        if kept:
            found[name] = b"".join(kept)
    return found


def _public(name: str, record: dict[str, Any]) -> date:
    if name.startswith("finra/ats"):
        monday = date.fromisoformat(record["weekStartDate"])
        return monday.fromordinal(monday.toordinal() + (21 if ".T1." in name else 35))
    if name.startswith("finra/regsho"):
        return date.fromisoformat(name[-16:-6])
    for key in ("filed_date", "trade_date", "date"):
        if key in record:
            return date.fromisoformat(record[key])
    return date.min


def test_the_map_is_built_when_asked_to(
    product: Product, new_vault: MakeVault, market: Market
) -> None:
    """A missing map is made; one that is there stays until --build-mapping."""
    root = new_vault("mapping")
    write_files(root, known_on(market, date(2025, 5, 1)))
    first = ask(product, root)["mapDate"]
    assert first is not None
    market.write(root)
    done = product(root, "equities", "run", "--symbol", "AAA", *PERIOD, "--json")
    assert json.loads(done.out)["mapDate"] == first
    assert "broker_map: left as it is" in done.err
    assert ask(product, root, "--build-mapping")["mapDate"] > first


def test_bad_lines(product: Product, new_vault: MakeVault, market: Market) -> None:
    """Counted, set aside, and nothing else is lost."""
    root = new_vault("dirt")
    market.write(root, "finra/", "prices/", "sec/entities", "sec/cusip")
    name = "finra/ats_weekly/2025-02-03.T1.jsonl"
    path = root / "raw" / name
    lines = path.read_bytes().splitlines(keepends=True)
    without = {k: v for k, v in json.loads(lines[0]).items() if k != "weekStartDate"}
    path.write_bytes(b"".join([lines[0], json.dumps(without).encode() + b"\n", *lines[1:]]) * 3)
    done = product(root, "run", "--all", "--json")
    rows = {each["stage"]: each for each in done.summaries}
    assert (rows["finra_ats"]["bad"], done.code) == (3, 0)
    assert rows["finra_ats"]["rows_out"] == 80 * 6 * 5
    set_aside = (root / "quarantine" / name).read_text(encoding="utf-8").splitlines()
    bad = json.loads(set_aside[0])
    assert bad["offset"] == len(lines[0])
    assert bad["reason"].startswith("no weekStartDate")
    path.write_bytes(b"bad\n" * 100 + lines[0])
    done = product(root, "broker_map", "--json")
    assert done.code == 65
    assert "100 of 101 lines were bad" in done.err
    assert [each["stage"] for each in done.summaries][-1] == "broker_map"


def test_changed_parameters(product: Product, new_vault: MakeVault, market: Market) -> None:
    """Taken at once, without a rebuild; a wrong key is named."""
    root = new_vault("settings")
    market.write(root)
    assert product(root, "attribution").code == 0
    settings = root / "flowvault.toml"
    assert "changed since" not in product(root, "explain", "--layer", "attribution").out
    settings.write_text("[attribution]\nmin_confidence = 0.3\n", encoding="utf-8")
    assert "changed since: parameters" in product(root, "explain", "--layer", "attribution").out
    done = product(root, "attribution", "--json")
    assert done.code == 0, done.text
    rows = {each["stage"]: each["rows_out"] for each in done.summaries}
    assert (rows["broker_map"], rows["attribution"] > 0) == (0, True)
    assert "below min_confidence 0.3 are left out" in done.err
    text = "select min(attribution_confidence) as least from micro_institutional_flow"
    (row,) = map(json.loads, product(root, "sql", text, "--format", "json").out.splitlines())
    assert row["least"] >= 0.3
    settings.write_text("[attribution]\nminimum = 1\n", encoding="utf-8")
    wrong = product(root, "attribution")
    assert wrong.code == 2
    assert "has no key 'minimum'" in wrong.err


def test_status(product: Product, vault: Path, market: Market) -> None:
    """Rows, files, bad lines, and whether a table has to be made again."""
    done = product(vault, "status", "--json")
    rows = {each["layer"]: each for each in done.summaries}
    assert (rows["finra_ats"]["files"], rows["finra_ats"]["unread_files"]) == (160, 0)
    assert rows["rotation_events"]["is_current"] is True
    path = vault / "raw" / "finra" / "ats_weekly" / "2025-02-03.T1.jsonl"
    data = path.read_bytes()
    path.unlink()
    text = product(vault, "status").out
    path.write_bytes(data)
    assert "1 raw files gone, rows kept" in text
    assert "micro_institutional_flow" in text
    del market


# -- rows, rebuilds and health of tables ---------------------------------------------------------


@pytest.fixture
def copy(vault: Path, tmp_path: Path) -> Path:
    """A copy to change; files keep their times, or all would be looked into again."""
    shutil.copytree(vault, tmp_path / "vault")
    return tmp_path / "vault"


def rows_of(vault: Path, layer: str) -> list[dict[str, Any]]:
    """All rows of a feed or table, by its files alone."""
    found = [pl.read_parquet(path) for path in sorted((vault / "derived" / layer).iterdir())]
    return [json.loads(line) for line in pl.concat(found).write_ndjson().splitlines()]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("rotation", "rotation_events"),
        ("rotation_events", "rotation_events"),
        ("broker_map", "micro_broker_institution_map"),
        ("attribution", "micro_institutional_flow"),
        ("micro_signals", "micro_signals"),
        ("micro_metrics_daily_bars", "micro_metrics_daily_bars"),
        ("finra_ats", "finra_ats"),
    ],
)
def test_tail(product: Product, vault: Path, name: str, layer: str) -> None:
    """The last rows in the order of the files, by the name of the table or of its rows."""
    done = product(vault, "tail", name, "-n", "3")
    assert done.code == 0, done.text
    wanted = rows_of(vault, layer)
    assert [json.loads(line) for line in done.out.splitlines()] == wanted[-3:]
    is_told = layer in {"rotation_events", "micro_institutional_flow"} or name == "broker_map"
    assert ("association, not identification" in done.err) == is_told
    assert product(vault, "tail", name, "-n", "0").out == ""
    assert len(product(vault, "tail", name, "-n", "1000000").out.splitlines()) == len(wanted)


def test_tail_of_symbols(product: Product, vault: Path) -> None:
    """-i chooses symbols where there are any; a layer of tapes beside it is asked for as ever."""
    wanted = [row for row in rows_of(vault, "micro_institutional_flow") if row["symbol"] == "BBB"]
    done = product(vault, "tail", "attribution", "-i", "BBB", "-n", "4")
    assert [json.loads(line) for line in done.out.splitlines()] == wanted[-4:]
    done = product(vault, "tail", "rotation", "-i", "NONE")
    assert (done.code, done.out) == (0, "")
    assert "rotation_events has no rows of NONE" in done.err
    done = product(vault, "tail", "micro_metrics_daily", "-i", "TTT", "-n", "1")
    assert json.loads(done.out)["symbol"] == "TTT"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tail", "broker_master", "-i", "AAA"], "is of no single instrument: leave out -i"),
        (["tail", "rotation", "--market", "perps"], "leave out --market"),
        (["tail", "rotation", "--exchange", "okx"], "leave out --exchange"),
        (["tail", "rotation", "-f"], "-f is not for rotation_events"),
        (["tail", "rotation", "--human"], "--human is not for rotation_events"),
        (["tail", "rotatio"], "micro_signals, rotation_events"),
        (["rebuild", "rotatio"], "micro_signals, rotation"),
        (["rebuild", "rotation", "-i", "AAA"], "leave out -i"),
        (["rebuild", "rotation", "--all"], "leave out --all"),
        (["rebuild", "rotation", "--allow-missing"], "leave out --allow-missing"),
        (["rebuild", "rotation", "--exchange", "okx"], "leave out --exchange"),
        (["rebuild", "finra_ats"], "feeds are not rebuilt"),
    ],
)
def test_options_that_say_nothing_of_tables(
    product: Product, vault: Path, arguments: list[str], words: str
) -> None:
    """Status 2, and nothing is done."""
    before = outputs(vault)
    done = product(vault, *arguments)
    assert done.code == 2, done.text
    assert words in " ".join(done.err.split())
    assert outputs(vault) == before


def made(done: Outcome) -> dict[str, int]:
    """What a rebuild has made, and how many rows, by table."""
    assert done.code == 0, done.text
    return {each["stage"]: each["rows_out"] for each in done.summaries if each["rows_out"]}


def test_rebuild_of_a_table(product: Product, copy: Path) -> None:
    """Made again though nothing has changed, with what reads it; the same bytes, up to date."""
    files = {name: data for name, (_, data) in outputs(copy).items() if "derived" in name}
    again = made(product(copy, "rebuild", "rotation", "--json"))
    assert list(again) == ["rotation"]
    again = made(product(copy, "rebuild", "micro_broker_institution_map", "--json"))
    assert list(again) == ["broker_map", "attribution", "micro_signals", "rotation"]
    assert again["rotation"] == len(rows_of(copy, "rotation_events"))
    assert files == {name: data for name, (_, data) in outputs(copy).items() if "derived" in name}
    assert made(product(copy, "run", "--all", "--json")) == {}
    text = product(copy, "rebuild", "rotation").out
    assert [line.split()[0] for line in text.splitlines()][-2:] == ["rotation", "Venues"]


@pytest.mark.parametrize("harm", ["rows", "rows are gone", "state"])
def test_a_rebuild_mends_a_table(product: Product, copy: Path, harm: str) -> None:
    """Damaged bytes and states that cannot be read: who reads them is told what to type."""
    (path,) = (copy / "derived" / "rotation_events").iterdir()
    whole = path.read_bytes()
    if harm == "rows":
        path.write_bytes(whole[:-40] + b"x" * 40)
    elif harm == "rows are gone":
        path.unlink()
    else:
        for state in (copy / "state" / "tables").glob("rotation.state*"):
            state.write_bytes(b"{}")
    done = product(copy, "tail", "rotation")
    assert done.code == 65, done.text
    if harm != "state":
        assert "next: flowvault rebuild rotation" in done.err
        assert str(path) in done.err
    if harm != "rows":  # nobody reads every byte to look for damage
        found = product(copy, "doctor")
        assert found.code == 65
        assert (
            "committed rows of rotation" if harm != "state" else "rotation: no int"
        ) in found.out
    assert list(made(product(copy, "rebuild", "rotation", "--json"))) == ["rotation"]
    assert path.read_bytes() == whole
    assert product(copy, "tail", "rotation").code == 0
    assert product(copy, "doctor").code == 0


def test_never_made(product: Product, copy: Path) -> None:
    """Status 66 with the command that makes it; a rebuild makes it and what it needs."""
    shutil.rmtree(copy / "state" / "tables")
    shutil.rmtree(copy / "derived")
    done = product(copy, "tail", "rotation")
    assert done.code == 66
    assert "next: flowvault rotation" in done.err
    assert "next: flowvault run --all" in product(copy, "tail", "entities").err
    again = made(product(copy, "rebuild", "entities", "--json"))
    assert "entities" in again
    assert not {"rotation", "attribution"} & set(again)


def test_health_of_tables(product: Product, copy: Path) -> None:
    """Nothing to find; then files that nobody reads, and those of a feed that never was."""
    done = product(copy, "doctor")
    assert done.code == 0, done.text
    assert done.out.endswith("(16 checks of 1 instrument and the market-wide tables)\n")
    assert "market-wide" not in product(copy, "doctor", "-i", "TTT").out
    source = copy / "raw" / "finra" / "ats_weekly" / "2025-02-03.T1.jsonl"
    shutil.copy(source, source.with_name("2025-07-14.T1.jsonl"))
    assert product(copy, "doctor").code == 0  # not yet
    done = product(copy, "doctor", "--patience", "0s")
    assert done.code == 65
    assert "nobody has read for up to" in done.out
    assert "finra_ats (" in done.out
    shutil.rmtree(copy / "state")
    found = product(copy, "doctor").out
    assert "feeds that have never been read: finra_ats (161 files)" in found
    shutil.rmtree(copy / "raw" / "taq")
    shutil.rmtree(copy / "derived")
    done = product(copy, "doctor")
    assert "(16 checks of 0 instruments and the market-wide tables)" in done.out
    shutil.rmtree(copy / "raw")
    (copy / "raw").mkdir()
    assert product(copy, "doctor").code == 66


def test_gc_beside_tables(product: Product, copy: Path) -> None:
    """Days of tapes may go once they are read; no file of a feed or table ever does."""
    text = product(copy, "gc", "--keep-days", "1").out
    assert "raw/taq/trades/TTT" in text
    assert "finra" not in text
    wide = [name for name in outputs(copy) if "tables" in name or "taq" not in name]
    raw = sorted(path for path in (copy / "raw" / "finra").rglob("*") if path.is_file())
    assert product(copy, "gc", "--keep-days", "1", "--yes").code == 0
    assert not (copy / "raw" / "taq" / "trades" / "TTT" / "2025-06-05.jsonl").exists()
    assert [name for name in outputs(copy) if "tables" in name or "taq" not in name] == wide
    assert sorted(p for p in (copy / "raw" / "finra").rglob("*") if p.is_file()) == raw
    assert made(product(copy, "run", "--all", "--json")) == {}
    assert product(copy, "doctor").code == 0


def test_status_of_tables(product: Product, copy: Path) -> None:
    """As people see it: rows, and what is to be made since something has changed."""
    text = product(copy, "status").out
    told = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  ")}
    for table in tables.layers():
        rows = f"{len(rows_of(copy, table)):,}"
        assert told[table] == [table, rows, "-", "-"], table
    path = copy / "raw" / "affiliates.jsonl"
    path.write_bytes(b"")
    (copy / "flowvault.toml").write_text("[attribution]\nmin_confidence = 0.3\n")
    lines = [line.split() for line in product(copy, "status").out.splitlines()]
    assert ["affiliates", "1", "-", "1", "files"] in lines
    (flow,) = [line for line in lines if line[:1] == ["micro_institutional_flow"]]
    assert flow[-4:] == ["-", "to", "be", "made"]


@pytest.mark.slow
def test_a_real_tape(product: Product, new_vault: MakeVault, captures: Path) -> None:
    """AIG, five days of October 2013: VPIN only on the fifth, and the known figures."""
    root = new_vault("real")
    shutil.copytree(captures / "raw" / "taq", root / "raw" / "taq")
    days = ("--from", "2013-10-07", "--to", "2013-10-11")
    done = product(root, "equities", "run", "--symbol", "AIG", *days, "--json")
    assert done.code == 0, done.text
    found = json.loads(done.out)
    assert found["vpinAvg"] == pytest.approx(0.1536126, abs=5e-8)
    assert (found["vpinQuality"], found["lambdaDays"]) == ({"LOW": 1}, 5)
    assert (found["vpinSpike"], found["flowRows"], found["coverage"]) == (False, 0, 1.0)
    assert 3 < found["lambdaAvg"] < 5
    assert found["microConfidence"] <= 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--symbol", "AAA", "--from", "2025-02-01", "--to", "2025-01-01"], 2, "is before --from"),
        (["--symbol", "AAA", "--from", "2025-02-30", "--to", "2025-03-01"], 2, "2025-02-30"),
        (["--symbol", "NONE", *PERIOD], 66, "NONE: nothing is known from 2025-04-01"),
        (["--symbol", "AAA", "--from", "1999-01-01", "--to", "1999-02-01"], 66, "nothing is known"),
    ],
)
def test_what_cannot_be_answered(
    product: Product, vault: Path, arguments: list[str], code: int, words: str
) -> None:
    done = product(vault, "equities", "run", *arguments)
    assert (done.code, words in done.err) == (code, True), done.text


@pytest.mark.parametrize(
    "arguments", [["broker_map"], ["equities", "run", "--symbol", "A", *PERIOD], ["rotation"]]
)
def test_an_empty_vault(product: Product, new_vault: MakeVault, arguments: list[str]) -> None:
    """Nothing to make tables from: 66, and which folders are meant."""
    done: Outcome = product(new_vault("empty"), *arguments)
    assert done.code == 66
    assert "next: flowvault" in done.err
