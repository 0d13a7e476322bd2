"""US equities from raw files to signals, through the command line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pipeline.cli.main import main

from .conftest import MakeVault, Outcome, Product
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


class Here(Product):
    """The same command line in this process, which spares half a second each time."""

    def __call__(self, vault: Path, *arguments: str) -> Outcome:
        """Run one command; a traceback is never an acceptable answer."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        code = 0
        with (
            mock.patch.object(sys, "argv", ["flowvault", "--vault", str(vault), *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        return Outcome(code, *texts)


@pytest.fixture(scope="module")
def here() -> Here:
    """The command line in this process."""
    return Here()


@pytest.fixture(scope="module")
def market() -> Market:
    """A year and a half."""
    return Market(weeks=80)


@pytest.fixture(scope="module")
def vault(product: Product, new_vault: MakeVault, market: Market) -> Path:
    """All files, and one run over them."""
    root = new_vault("market")
    market.write(root)
    tape(root)
    done = product(root, "run", "--all", "--json")
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
        if path.is_file() and "raw" not in path.parts and path.suffix not in (".lock", ".holder")
    }


def test_running_again_does_nothing(here: Here, vault: Path) -> None:
    before = outputs(vault)
    done = here(vault, "run", "--all", "--json")
    assert done.code == 0, done.text
    assert all(each["rows_in"] == each["rows_out"] == 0 for each in done.summaries)
    assert outputs(vault) == before


def test_the_map_finds_who_trades_where(here: Here, vault: Path) -> None:
    """Manager 0 trades through UBSA; the tie that was documented counts without any evidence."""
    text = """select broker_mpid, institution_cik, relationship_type, relationship_strength, rho,
              broker_name from micro_broker_institution_map order by rho desc"""
    done = here(vault, "sql", text, "--format", "json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    first = rows[0]
    assert (first["broker_mpid"], first["institution_cik"]) == ("UBSA", MANAGERS[0])
    assert first["broker_name"] == "UBS Securities LLC"
    assert first["rho"] > 0.7
    (tied,) = [row for row in rows if row["relationship_type"] == "affiliate"]
    assert (tied["broker_mpid"], tied["institution_cik"]) == ("MSPL", MANAGERS[2])
    assert tied["relationship_strength"] >= 0.5
    assert {row["broker_name"] for row in rows if row["broker_mpid"] == "XXXX"} == {None}


def test_every_flow_has_a_name(here: Here, vault: Path) -> None:
    """Managers that are in no list have a row among the entities too."""
    text = """select count(*) as n, count(e.entity_id) as found, count(e.name) as named,
              count(distinct f.institution_id) as managers
              from micro_institutional_flow f left join entities e
              on e.entity_id = f.institution_id"""
    (row,) = map(json.loads, here(vault, "sql", text, "--format", "json").out.splitlines())
    assert row["n"] == row["found"] > row["named"] > 0
    assert row["managers"] == len(MANAGERS)


def test_commands_of_tables(here: Here, vault: Path) -> None:
    """Each brings up what it reads; those of institutions say what they are not."""
    for name, reads in (("broker_map", "sec_13f"), ("attribution", "finra_regsho")):
        done = here(vault, name)
        assert done.code == 0, done.text
        assert reads in done.out
        assert "statistical association, not identification" in done.out
    for name in ("micro_signals", "rotation"):
        done = here(vault, name, "--json")
        assert [each["stage"] for each in done.summaries][-1] == name


def test_what_a_table_was_made_from(here: Here, vault: Path) -> None:
    """Down to raw files, each by the digest of its bytes; the other commands say where to look."""
    done = here(vault, "explain", "--layer", "micro_signals", "--json")
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
    text = here(vault, "explain", "--layer", "broker_map").out
    assert text.startswith("micro_broker_institution_map: made as a whole")
    assert len(text.splitlines()) < 100
    for arguments, words in (
        (("explain", "--layer", "broker_map", "--at", "2025-06-06T18:00:00Z"), "explain --layer"),
        (("tail", "broker_map", "-i", "AAA"), 'sql "from micro_broker_institution_map limit 5"'),
        (("rebuild", "broker_map"), "flowvault broker_map"),
        (("rebuild", "entities"), "flowvault run --all"),
    ):
        done = here(vault, *arguments)
        assert (done.code, words in done.err) == (2, True), done.text
    assert here(vault, "sql", "from micro_broker_institution_map limit 5").code == 0


def digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_signals_for_people(here: Here, vault: Path) -> None:
    """The seven signals and the words that belong to them."""
    done = here(vault, "equities", "run", "--symbol", "AAA", *PERIOD)
    assert done.code == 0, done.text
    for name in SIGNALS:
        assert f"  {name} " in done.out
    for words in ("not identification", "21 days", "NOWCAST", "0.5 at most", "below 0.7 are left"):
        assert words in done.out, words


def test_signals_for_machines(here: Here, vault: Path) -> None:
    """What is not known is null; confidence grows with flows that are let in."""
    found = ask(here, vault)
    assert [name for name in found if name in SIGNALS] == list(SIGNALS)
    assert found["blockRatioAvg"] is None
    assert found["flowAttributionScore"] is None
    assert (found["flowRows"], found["metricDays"]) == (0, found["tradingDays"])
    assert found["flowsBelowMinConfidence"] > 0
    every = ask(here, vault, "--min-confidence", "0")
    assert every["flowRows"] == found["flowsBelowMinConfidence"]
    assert every["microConfidence"] > found["microConfidence"]
    for name in SIGNALS[:5]:
        assert every[name] == found[name]


def test_signals_of_a_tape(here: Here, vault: Path) -> None:
    """From the tape alone: too few days for VPIN, which is null and not 0."""
    found = ask(here, vault, symbol="TTT")
    assert (found["vpinAvg"], found["vpinSpike"], found["metricDays"]) == (None, None, 2)
    assert found["orderImbalanceAvg"] == pytest.approx(1 / 3)
    assert found["coverage"] == 2 / found["tradingDays"]
    assert found["microConfidence"] < 0.05


def test_as_known_on(here: Here, vault: Path, new_vault: MakeVault, market: Market) -> None:
    """The answer of a day is that of a vault that holds what was public on that day, no more."""
    day = date(2025, 6, 20)
    then = new_vault("then")
    write_files(then, known_on(market, day))
    assert here(then, "run", "--all").code == 0
    found = ask(here, vault, "--as-known-on", f"{day}", "--min-confidence", "0")
    there = ask(here, then, "--as-known-on", f"{day}", "--min-confidence", "0")
    assert found == there
    assert found["flowMode"] == "NOWCAST"
    assert found["availableDate"] <= f"{day}"
    later = ask(here, vault, "--min-confidence", "0")
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


def test_the_map_is_built_when_asked_to(here: Here, new_vault: MakeVault, market: Market) -> None:
    """A missing map is made; one that is there stays until --build-mapping."""
    root = new_vault("mapping")
    write_files(root, known_on(market, date(2025, 5, 1)))
    first = ask(here, root)["mapDate"]
    assert first is not None
    market.write(root)
    done = here(root, "equities", "run", "--symbol", "AAA", *PERIOD, "--json")
    assert json.loads(done.out)["mapDate"] == first
    assert "broker_map: left as it is" in done.err
    assert ask(here, root, "--build-mapping")["mapDate"] > first


def test_bad_lines(here: Here, new_vault: MakeVault, market: Market) -> None:
    """Counted, set aside, and nothing else is lost."""
    root = new_vault("dirt")
    market.write(root, "finra/", "prices/", "sec/entities", "sec/cusip")
    name = "finra/ats_weekly/2025-02-03.T1.jsonl"
    path = root / "raw" / name
    lines = path.read_bytes().splitlines(keepends=True)
    without = {k: v for k, v in json.loads(lines[0]).items() if k != "weekStartDate"}
    path.write_bytes(b"".join([lines[0], json.dumps(without).encode() + b"\n", *lines[1:]]) * 3)
    done = here(root, "run", "--all", "--json")
    rows = {each["stage"]: each for each in done.summaries}
    assert (rows["finra_ats"]["bad"], done.code) == (3, 0)
    assert rows["finra_ats"]["rows_out"] == 80 * 6 * 5
    set_aside = (root / "quarantine" / name).read_text(encoding="utf-8").splitlines()
    bad = json.loads(set_aside[0])
    assert bad["offset"] == len(lines[0])
    assert bad["reason"].startswith("no weekStartDate")
    path.write_bytes(b"bad\n" * 100 + lines[0])
    done = here(root, "broker_map", "--json")
    assert done.code == 65
    assert "100 of 101 lines were bad" in done.err
    assert [each["stage"] for each in done.summaries][-1] == "broker_map"


def test_changed_parameters(here: Here, new_vault: MakeVault, market: Market) -> None:
    """Taken at once, without a rebuild; a wrong key is named."""
    root = new_vault("settings")
    market.write(root)
    assert here(root, "attribution").code == 0
    settings = root / "flowvault.toml"
    assert "changed since" not in here(root, "explain", "--layer", "attribution").out
    settings.write_text("[attribution]\nmin_confidence = 0.3\n", encoding="utf-8")
    assert "changed since: parameters" in here(root, "explain", "--layer", "attribution").out
    done = here(root, "attribution", "--json")
    assert done.code == 0, done.text
    rows = {each["stage"]: each["rows_out"] for each in done.summaries}
    assert (rows["broker_map"], rows["attribution"] > 0) == (0, True)
    assert "below min_confidence 0.3 are left out" in done.err
    text = "select min(attribution_confidence) as least from micro_institutional_flow"
    (row,) = map(json.loads, here(root, "sql", text, "--format", "json").out.splitlines())
    assert row["least"] >= 0.3
    settings.write_text("[attribution]\nminimum = 1\n", encoding="utf-8")
    wrong = here(root, "attribution")
    assert wrong.code == 2
    assert "has no key 'minimum'" in wrong.err


def test_status(here: Here, vault: Path, market: Market) -> None:
    """Rows, files, bad lines, and whether a table has to be made again."""
    done = here(vault, "status", "--json")
    rows = {each["layer"]: each for each in done.summaries}
    assert (rows["finra_ats"]["files"], rows["finra_ats"]["unread_files"]) == (160, 0)
    assert rows["rotation_events"]["is_current"] is True
    path = vault / "raw" / "finra" / "ats_weekly" / "2025-02-03.T1.jsonl"
    data = path.read_bytes()
    path.unlink()
    text = here(vault, "status").out
    path.write_bytes(data)
    assert "1 raw files gone, rows kept" in text
    assert "micro_institutional_flow" in text
    del market


@pytest.mark.slow
def test_a_real_tape(here: Here, new_vault: MakeVault, captures: Path) -> None:
    """AIG, five days of October 2013: VPIN only on the fifth, and the known figures."""
    root = new_vault("real")
    shutil.copytree(captures / "raw" / "taq", root / "raw" / "taq")
    days = ("--from", "2013-10-07", "--to", "2013-10-11")
    done = here(root, "equities", "run", "--symbol", "AIG", *days, "--json")
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
    here: Here, vault: Path, arguments: list[str], code: int, words: str
) -> None:
    done = here(vault, "equities", "run", *arguments)
    assert (done.code, words in done.err) == (code, True), done.text


@pytest.mark.parametrize(
    "arguments", [["broker_map"], ["equities", "run", "--symbol", "A", *PERIOD], ["rotation"]]
)
def test_an_empty_vault(here: Here, new_vault: MakeVault, arguments: list[str]) -> None:
    """Nothing to make tables from: 66, and which folders are meant."""
    done: Outcome = here(new_vault("empty"), *arguments)
    assert done.code == 66
    assert "next: flowvault" in done.err
