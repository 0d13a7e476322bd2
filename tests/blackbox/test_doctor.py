"""`flowvault doctor` finds what is planted, calls it by its name, and touches nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import state as states
from pipeline.engine.health import machine
from pipeline.engine.health.examine import examine
from pipeline.engine.health.finding import Finding, amount, duration
from pipeline.engine.health.survey import Survey
from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from tests.frames.market import DAYS, WHERE, Market, market, run
from tests.inprocess import command
from tests.laws.world import unsynced

HOUR = timedelta(hours=1)
OPTIONS = WHERE.options
STAGES = ["orderflow", "costs"]


@pytest.fixture(scope="module")
def made() -> Market:
    """An hour of trades, books and quotes without a fault."""
    return market(5, trades=1300, is_clean=True)


@pytest.fixture(scope="module")
def healthy(made: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault that is up to date."""
    vault = tmp_path_factory.mktemp("doctor") / "vault"
    vault.mkdir()
    with unsynced():
        for share in (0.9, 1.0):
            made.write(vault, share)
            run(vault, STAGES)
    return vault


@pytest.fixture
def vault(healthy: Path, tmp_path: Path) -> Path:
    """A copy to plant faults in."""
    shutil.copytree(healthy, tmp_path / "vault")
    return tmp_path / "vault"


def look(vault: Path, after: timedelta = timedelta(0), patience: timedelta = HOUR) -> list[Finding]:
    """What is found so long after the last file was written, without changing anything."""
    newest = max(path.stat().st_mtime for path in vault.rglob("*") if path.is_file())
    before = snapshot(vault)
    found = examine(Survey(vault, datetime.fromtimestamp(newest, UTC) + after, patience))
    assert snapshot(vault) == before
    return found


def snapshot(vault: Path) -> list[tuple[str, int, int]]:
    """Every file and folder with its size and the time of its last change."""
    stats = ((path, path.stat()) for path in sorted(vault.rglob("*")))
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def raw(vault: Path, kind: str = "trades", day: str = DAYS[1]) -> Path:
    """A raw file."""
    folder = vault / "raw" / WHERE.exchange / f"{kind}_{WHERE.market}" / WHERE.inst_id
    return folder / f"{day}.jsonl"


def state_of(vault: Path, stage: str) -> Path:
    """A state file."""
    return VaultPaths(vault).state(stage, WHERE)


def change(vault: Path, stage: str, **fields: Any) -> None:
    """Write a state with other values, as a run would."""
    state, _ = states.load(state_of(vault, stage))
    assert state is not None
    for name, value in fields.items():
        setattr(state, name, value)
    state_of(vault, stage).write_bytes(states.encode(state))


def only(found: list[Finding], check: str, severity: str) -> Finding:
    """The one finding that there is."""
    assert [each.check for each in found] == [check], found
    assert str(found[0].severity) == severity
    assert found[0].next
    return found[0]


def test_nothing_is_found_in_a_healthy_vault(vault: Path) -> None:
    assert look(vault) == []
    done = command(vault, "doctor")
    assert done.out == "nothing found (16 checks of 1 instrument)\n"


# -- what is committed -----------------------------------------------------------------------


def test_settings(vault: Path) -> None:
    file = vault / "flowvault.toml"
    file.write_text("[volume\n", encoding="utf-8")
    found = only(look(vault), "settings", "error")
    assert str(file) in found.what
    assert found.next == f"edit {file}"
    file.write_text("[volume]\nwindow = -1\n", encoding="utf-8")
    assert "window" in only(look(vault), "settings", "error").what
    file.write_text('["acme/spot/X-Y"]\ntick = 1\n', encoding="utf-8")
    assert "is not a stage" in only(look(vault), "settings", "error").what


def test_a_damaged_state(vault: Path) -> None:
    state_of(vault, "bars").write_bytes(b"{}")
    found = only(look(vault), "state", "warning")
    assert "going on from generation" in found.what
    assert found.next == f"flowvault bars {OPTIONS}"
    states.previous_path(state_of(vault, "bars")).write_bytes(b"")
    found = look(vault)[0]
    assert (found.check, str(found.severity)) == ("state", "error")
    assert "no intact state" in found.what
    assert found.next == f"flowvault rebuild bars {OPTIONS}"


def test_a_state_of_another_version(vault: Path) -> None:
    (vault / "state" / "auras").mkdir()
    assert "'auras'" in only(look(vault), "state", "note").what


def test_rebuilds_that_wait(vault: Path) -> None:
    rebuild = VaultPaths(vault).rebuild("bars", WHERE)
    rebuild.mkdir()
    (rebuild / "READY").write_bytes(b"")
    found = only(look(vault), "rebuild", "warning")
    assert found.next == f"flowvault bars {OPTIONS}"
    change(vault, "bars", swapping=True)
    assert "interrupted" in only(look(vault), "rebuild", "error").what


def test_changed_parameters(vault: Path) -> None:
    (vault / "flowvault.toml").write_text("[bars]\nwhale_notional = 7\n", encoding="utf-8")
    found = only(look(vault), "parameters", "error")
    assert "whale_notional: 100000 -> 7" in found.what.replace("'", "")
    assert found.next == f"flowvault rebuild bars {OPTIONS}"


def test_rows_that_stand_on_others(vault: Path) -> None:
    state, _ = states.load(state_of(vault, "flow"))
    assert state is not None
    change(vault, "flow", epoch=state.epoch + 1)
    found = only(look(vault), "parameters", "error")
    assert found.what == "orderflow: stands on rows of flow_1m that were rebuilt since"
    assert found.next == f"flowvault rebuild orderflow {OPTIONS}"


def test_rows_that_are_gone(vault: Path) -> None:
    lines = VaultPaths(vault).derived("bars", WHERE) / "bars_1m.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole[:-1])
    found = only(look(vault), "rows", "error")
    assert (found.where, found.next) == (
        "derived/bars/acme/spot/X-Y/bars_1m.jsonl",
        f"flowvault rebuild bars {OPTIONS}",
    )
    lines.write_bytes(whole + b"more")
    assert look(vault) == []
    (part,) = VaultPaths(vault).derived("trades", WHERE).glob("*.parquet")
    part.rename(part.with_name(part.name + ".tmp"))
    assert look(vault) == []
    part.with_name(part.name + ".tmp").unlink()
    assert only(look(vault), "rows", "error").where.endswith(part.name)


def hold(vault: Path, pid: int, host: str, since: str) -> None:
    """Say that somebody holds the lock of `bars`."""
    who = json.dumps({"pid": pid, "host": host, "since": since})
    VaultPaths(vault).lock("bars", WHERE).write_text(f" {who}", encoding="utf-8")


def test_locks(vault: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    here, long_ago = socket.gethostname(), "2020-01-01T00:00:00Z"
    hold(vault, int(dead.stdout), here, long_ago)
    assert "was killed; the lock is free" in only(look(vault), "lock", "note").what
    hold(vault, os.getpid(), here, long_ago)
    found = only(look(vault), "lock", "warning")
    assert f"process {os.getpid()} on {here} has held the lock for" in found.what
    hold(vault, 1, "elsewhere", long_ago)
    assert "on elsewhere" in only(look(vault), "lock", "warning").what
    hold(vault, os.getpid(), here, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert look(vault) == []


def test_what_killed_runs_left(vault: Path) -> None:
    folder = VaultPaths(vault).derived("trades", WHERE)
    (folder / "000000000000-000009999999.parquet.tmp").write_bytes(b"x" * 2100)
    found = only(look(vault), "leftovers", "note")
    assert found.what == "1 left by killed runs, 2.1 kB: rows that were not committed"
    assert found.next == "flowvault gc"


# -- what comes in ---------------------------------------------------------------------------


def test_unread(vault: Path) -> None:
    with raw(vault).open("ab") as stream:
        stream.write(b'{"ts": 1709685600000, "price": 1')
    assert look(vault, 3 * HOUR, 4 * HOUR) == []  # the line has no end yet
    with raw(vault).open("ab") as stream:
        stream.write(b"\n")
    assert look(vault) == []
    found = look(vault, 3 * HOUR, 2 * HOUR)
    assert [each.check for each in found] == ["unread", "silent"]
    first = only(found[:1], "unread", "error")
    assert "33 B unread" in first.what
    assert "committed nothing for 3 h" in first.what
    assert first.where == "raw/acme/trades_spot/X-Y"
    assert first.next == "flowvault schedule --install"
    (vault / "run.log").write_bytes(b"# ...\n")
    again = look(vault, timedelta(minutes=90), timedelta(minutes=80))[0]
    assert again.next == "flowvault schedule --install"
    os.utime(vault / "run.log", (1, 1))
    os.utime(state_of(vault, "trades"), (2, 2))
    os.utime(states.previous_path(state_of(vault, "trades")), (2, 2))
    (vault / "run.log").touch()
    again = look(vault)[0]
    assert "the schedule runs and fails, see run.log" in again.what
    assert "run.log" in again.next
    with unsynced():
        run(vault, STAGES)
    assert "unread" not in [each.check for each in look(vault, 3 * HOUR, HOUR)]


def test_never_read(vault: Path) -> None:
    other = raw(vault).parents[1] / "NEW-Y" / raw(vault).name
    other.parent.mkdir()
    shutil.copy2(raw(vault), other)
    found = only(look(vault), "unread", "error")
    assert (found.where, found.what) == (
        "acme/spot/NEW-Y",
        f"has never been run: trades, {amount(other.stat().st_size)}",
    )
    assert found.next == "flowvault run -i NEW-Y --exchange acme --market spot"
    shutil.rmtree(other.parent)
    for stage in ("book", "quote", "flow", "micro", "costs", "orderflow"):
        shutil.rmtree(vault / "state" / stage, ignore_errors=True)
    found = only(look(vault), "unread", "warning")
    assert "book has never read it for acme/spot/X-Y" in found.what


def test_a_feed_that_lags(made: Market, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    behind = Market(dict(made.records))
    behind.records["quotes"] = made.records["quotes"][: len(made.records["quotes"]) // 2]
    behind.write(vault)
    with unsynced():
        run(vault, STAGES)
    found = only(look(vault), "stalled", "warning")
    assert found.where == WHERE.key
    assert found.what.startswith("quotes are 3")
    assert " min behind the other feeds: flow, micro, costs, orderflow wait" in found.what
    assert found.next == f"flowvault run {OPTIONS} --give-up 5m"
    assert only(look(vault, patience=timedelta(minutes=30)), "stalled", "error")
    with unsynced():
        command(vault, "run", *OPTIONS.split(), "--give-up", "5m")
    assert [each for each in look(vault) if each.check == "stalled"] == []


def test_silence(vault: Path) -> None:
    assert look(vault, 3 * HOUR)[0].what.startswith("nothing new in any feed for 3 h")
    assert look(vault, 72 * HOUR) == []
    old = raw(vault, "books").stat().st_mtime - 10_000
    for day in DAYS:
        os.utime(raw(vault, "books", day), (old, old))
    with unsynced():
        run(vault, STAGES)
    found = only(look(vault), "silent", "warning")
    assert found.where == "raw/acme/books_spot/X-Y"
    assert "while other feeds come in" in found.what


def test_clocks(vault: Path) -> None:
    newest, _ = states.load(state_of(vault, "trades"))
    assert newest is not None
    assert newest.watermark_us is not None
    now = datetime.fromtimestamp(newest.watermark_us / 1e6, UTC)
    found = examine(Survey(vault, now - 3 * HOUR, HOUR))
    clocks = [each for each in found if each.check == "clock"]
    assert {each.where for each in clocks} >= {
        WHERE.key,
        f"raw/acme/trades_spot/X-Y/{DAYS[1]}.jsonl",
    }
    assert any("trades are stamped 3 h ahead" in each.what for each in clocks)
    assert any("day file of 2024-03-06, and today is 2024-03-05" in e.what for e in clocks)
    assert not [e for e in examine(Survey(vault, now, HOUR)) if e.check == "clock"]


@pytest.mark.parametrize(
    ("kind", "line", "is_found"),
    [
        ("trades", '{"tradeId":"1","px":"1","sz":"1","side":"buy"', True),
        (
            "trades",
            '{"trade_id":"1","price":"1","qty_contracts":"1","ctVal":"1","side":"buy"',
            False,
        ),
        ("books", '{"bids":[["1","1"]],"asks":[["2","1"]]', True),
    ],
)
def test_contracts(vault: Path, kind: str, line: str, is_found: bool) -> None:
    folder = vault / "raw" / "okx" / f"{kind}_perps" / "NEW-USDT-SWAP"
    folder.mkdir(parents=True)
    text = line + ',"instId":"NEW-USDT-SWAP","ts":"1709640000000",'
    text += '"timestamp_utc":"2024-03-05T12:00:00.000Z"}\n'
    (folder / f"{DAYS[0]}.jsonl").write_text(text, encoding="utf-8")
    found = [each for each in look(vault) if each.check == "contract"]
    assert bool(found) == is_found
    if found:
        assert found[0].where == "okx/perps/NEW-USDT-SWAP"
        assert 'add ["okx/perps/NEW-USDT-SWAP"]; ctVal = "0.01"' in found[0].what
        assert found[0].next == f"edit {vault / 'instruments.toml'}"


def twin(vault: Path) -> None:
    file = raw(vault)
    shutil.copy2(file, file.with_name(file.name + ".gz"))


def strange(vault: Path) -> None:
    raw(vault).with_name("2024-03-06.jsonl.1").write_bytes(b"{}\n")


def shrunk(vault: Path) -> None:
    raw(vault).write_bytes(raw(vault).read_bytes()[:-900])


def grown(vault: Path) -> None:
    with raw(vault, day=DAYS[0]).open("ab") as stream:
        stream.write(b"{}\n")


def backfilled(vault: Path) -> None:
    raw(vault, day="2024-03-04").write_bytes(b"{}\n")


@pytest.mark.parametrize(
    ("plant", "severity", "words"),
    [
        (twin, "warning", "two files of 2024-03-06: the plain one counts"),
        (strange, "warning", "2024-03-06.jsonl.1: not named YYYY-MM-DD.jsonl"),
        (shrunk, "error", "had been read"),
        (grown, "error", "grew after a later day had been read"),
        (backfilled, "error", "appeared after a later day had been read"),
    ],
)
def test_rotation(vault: Path, plant: Callable[[Path], None], severity: str, words: str) -> None:
    plant(vault)
    found = only(look(vault), "rotation", severity)
    assert words in found.what
    if severity == "error":
        assert found.next == f"flowvault rebuild trades {OPTIONS}"
        done = command(vault, "trades", *OPTIONS.split(), expect=65)
        assert found.what.partition(" ")[0] in done.err


def test_days_that_are_missing(vault: Path) -> None:
    """Of the last weeks only, and not those that were read before they went."""
    later = raw(vault, day="2024-03-09")
    later.write_bytes(b"{}\n")
    now = datetime(2024, 3, 9, 12, tzinfo=UTC)
    found = [e for e in examine(Survey(vault, now, HOUR)) if e.check == "rotation"]
    assert only(found, "rotation", "warning").what.startswith(
        "no file of 2024-03-07 to 2024-03-08:"
    )
    raw(vault, day=DAYS[0]).unlink()
    raw(vault).unlink()
    again = [e for e in examine(Survey(vault, now, HOUR)) if e.check == "rotation"]
    assert again == found
    much_later = now + timedelta(days=60)
    assert not [e for e in examine(Survey(vault, much_later, HOUR)) if e.check == "rotation"]


def test_quarantine(vault: Path) -> None:
    last = json.loads(raw(vault).read_bytes().splitlines()[-1])
    lines = [b"garbage"] * 30
    lines += [json.dumps({**last, "ts": last["ts"] + 10**8, "id": 10**9}).encode()]
    lines += [json.dumps({**last, "ts": last["ts"] + 1, "id": 10**9 + 1}).encode()]
    with raw(vault).open("ab") as stream:
        stream.write(b"\n".join(lines) + b"\n")
    with unsynced():
        run(vault, STAGES)
    found = only(look(vault), "quarantine", "error")
    assert "trades: 31 bad (2.33%) and 0 late of 1,332; the last 31" in found.what
    assert "json 97%, future 3%" in found.what
    assert "clock" in found.what
    assert found.where.startswith("quarantine/acme/trades_spot/X-Y/")
    change(vault, "trades", counts=states.Counts(rows_in=10**6, bad=31))
    assert only(look(vault), "quarantine", "note")
    assert not [e for e in look(vault, 72 * HOUR) if e.check == "quarantine"]


# -- the machine -----------------------------------------------------------------------------


def test_room_on_the_disk(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = sum(p.stat().st_size for p in (vault / "derived").rglob("*") if p.is_file())
    largest = sum(
        max(raw(vault, kind, day).stat().st_size for day in DAYS)
        for kind in ("trades", "books", "quotes")
    )
    a_day = largest + total / len(DAYS)

    def free(size: float) -> None:
        usage = shutil._ntuple_diskusage(10**15, 0, int(size))
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: usage)  # type: ignore[attr-defined]

    monkeypatch.setattr(machine, "_LEAST", 1)
    free(7.1 * a_day)
    assert look(vault) == []
    free(6.9 * a_day)
    found = only(look(vault), "disk", "warning")
    assert "room for 6.9 days" in found.what
    assert found.next == "flowvault gc"
    free(0.9 * a_day)
    assert only(look(vault), "disk", "error")
    monkeypatch.setattr(machine, "_LEAST", 10**9)
    free(0.9 * 10**9)
    assert "900.0 MB free" in only(look(vault), "disk", "error").what


@pytest.mark.parametrize(
    ("denied", "mode", "what"),
    [
        ("state/bars/acme/spot/X-Y.state.json", os.W_OK, "may not write here"),
        ("derived/bars/acme/spot/X-Y", os.W_OK, "may not write here"),
        (f"raw/acme/books_spot/X-Y/{DAYS[1]}.jsonl", os.R_OK, "may not read here"),
    ],
)
def test_permissions(
    vault: Path, monkeypatch: pytest.MonkeyPatch, denied: str, mode: int, what: str
) -> None:
    """Asked of the system, which lets an administrator do anything: so it is told to refuse."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, m: not (path == vault / denied and m & mode) and access(path, m)
    )
    found = only(look(vault), "permissions", "error")
    assert found.where == denied
    assert what in found.what


def test_what_cannot_be_looked_at(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where a state should be, and a disk that fails."""
    state_of(vault, "costs").unlink()
    state_of(vault, "costs").mkdir()
    state, second = look(vault)
    assert (state.check, second.check) == ("state", "permissions")
    assert str(state_of(vault, "costs")) in state.what
    assert second.what == "left behind cannot be checked: Is a directory"

    def fail(_path: Path) -> None:
        raise OSError(5, "Input/output error", "here")

    monkeypatch.setattr(machine.shutil, "disk_usage", fail)  # type: ignore[attr-defined]
    assert "space cannot be checked: Input/output error" in look(vault)[0].what


# -- the command -----------------------------------------------------------------------------


def test_the_lines_and_the_status(vault: Path) -> None:
    state_of(vault, "bars").write_bytes(b"{}")
    (vault / "flowvault.toml").write_text("[trades]\nlateness_ms = 5\n", encoding="utf-8")
    done = command(vault, "doctor", expect=65)
    *told, last = done.out.splitlines()
    # the machine may have something to say of its own, such as a disk that is nearly full
    first, second = (line for line in told if line.split()[1] in ("parameters", "state"))
    assert first.startswith("error    parameters   acme/spot/X-Y: no new rows until it is rebuilt")
    assert first.endswith(f"; next: flowvault rebuild trades {OPTIONS}")
    assert second.startswith("warning  state        acme/spot/X-Y: bars: ")
    assert re.fullmatch(r"1 error, \d+ warnings?.* \(16 checks of 1 instrument\)", last)
    lines = [
        json.loads(line) for line in command(vault, "doctor", "--json", expect=65).out.splitlines()
    ]
    severities = {line["check"]: line["severity"] for line in lines}
    assert (severities["parameters"], severities["state"]) == ("error", "warning")
    assert list(lines[0]) == ["severity", "check", "where", "what", "next"]
    (vault / "flowvault.toml").unlink()
    assert command(vault, "doctor").out.endswith("(16 checks of 1 instrument)\n")


def test_one_instrument(vault: Path) -> None:
    raw(vault).parents[1].joinpath("NEW-Y").mkdir()
    shutil.copy2(raw(vault), raw(vault).parents[1] / "NEW-Y" / raw(vault).name)
    command(vault, "doctor", expect=65)
    assert "nothing found" in command(vault, "doctor", "-i", "X-Y", "--patience", "2d").out
    assert command(vault, "doctor", "-i", "Z", expect=66)
    assert command(vault, "doctor", "--patience", "soon", expect=2).err
    assert command(vault.with_name("none"), "doctor", expect=66)


def test_words() -> None:
    assert [duration(s) for s in (0.4, 119, 120, 7300, 172_800, -3)] == [
        "0 s", "119 s", "2 min", "2 h", "2 d", "0 s",
    ]  # fmt: skip
    assert [amount(n) for n in (0, 999, 1000, 12_345_678, 5e12)] == [
        "0 B", "999 B", "1.0 kB", "12.3 MB", "5.0 TB",
    ]  # fmt: skip
    assert Instrument("a", "spot", "B").key == "a/spot/B"
