"""`flowvault gc` takes what nobody needs and nothing else; rows go on as if it had not run."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.engine import consumed, disk, lock
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.presence import applies
from pipeline.engine.rebuild import rebuild_stage
from pipeline.engine.runner import run_stages
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument
from tests.inprocess import Outcome, command
from tests.laws.world import unsynced

from .conftest import REPO
from .vaults import tree

FIRST, SECOND = Instrument("acme", "spot", "X-Y"), Instrument("acme", "spot", "X-Z")
DAYS = [f"2024-03-{day:02d}" for day in range(1, 7)]
NAMES = ("trades", "book", "bbo", "bars", "quote", "flow", "open_interest", "whale_alerts")
KINDS = ("trades", "books", "quotes", "open_interest")
WHALES = "raw/whale_alert/transactions"


def day_lines(kind: str, day: str) -> list[str]:
    """Some minutes of one feed, beginning at noon."""
    start = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000)
    ordinal = date.fromisoformat(day).toordinal()
    found: list[dict[str, Any]] = []
    for n in range(12):
        ts, price = start + n * 25_000, 100 + (n * 37 + ordinal) % 90 / 10
        if kind == "trades":
            side = "buy" if n % 3 else "sell"
            found.append(
                {"ts": ts, "price": price, "size": 1 + n % 7, "side": side, "id": ordinal * 99 + n}
            )
        elif kind == "books":
            bids = [[round(price - 0.1 * k, 1), 5 + k] for k in range(1, 6)]
            asks = [[round(price + 0.1 * k, 1), 4 + k] for k in range(1, 6)]
            found.append({"ts": ts, "bids": bids, "asks": asks})
        elif kind == "quotes":
            sizes = {"bid_size": 3 + n % 4, "ask_size": 4}
            found.append({"ts": ts, "bid": price - 0.25, "ask": price + 0.25, **sizes})
        elif kind == "open_interest":
            found.append({"ts": ts, "open_interest": 1000 + n})
        else:
            party = {"from": {"owner_type": "exchange"}, "to": {"owner_type": "unknown"}}
            head = {"symbol": "x", "amount_usd": 10**6 + n, "timestamp": ts // 1000, "id": f"{ts}"}
            found.append(head | party)
    if kind == "trades":
        return [json.dumps(row) for row in found] + ["garbage"]
    return [json.dumps(row) for row in found]


def folder(vault: Path, kind: str, instrument: Instrument = FIRST) -> Path:
    """Where a feed lies."""
    if kind == "whales":
        return vault / WHALES
    return vault / "raw" / instrument.exchange / f"{kind}_{instrument.market}" / instrument.inst_id


def fill(
    vault: Path, days: list[str], instruments: tuple[Instrument, ...] = (FIRST, SECOND)
) -> None:
    """Add days of feeds; a day that is there stays as it is."""
    for instrument in instruments:
        for kind in (*KINDS, "whales"):
            for day in days:
                file = folder(vault, kind, instrument) / f"{day}.jsonl"
                file.parent.mkdir(parents=True, exist_ok=True)
                if not file.exists():
                    text = "\n".join(day_lines(kind, day)) + "\n"
                    file.write_text(text, encoding="utf-8")


def run(vault: Path, instruments: tuple[Instrument, ...] = (FIRST, SECOND), *but: str) -> None:
    """Bring some stages up to date, in this process."""
    opened = Vault.open(vault)
    wanted = [
        stage for stage in stages.all_stages() if stage.name in NAMES and stage.name not in but
    ]
    for instrument in instruments:
        chosen = [stage for stage in wanted if applies(opened.paths, stage, instrument)]
        for done in run_stages(opened, chosen, instrument):
            assert isinstance(done, Summary), done


def days_left(vault: Path, kind: str, instrument: Instrument = FIRST) -> list[str]:
    """The days of a feed that are on disk."""
    return sorted(path.name[:10] for path in folder(vault, kind, instrument).iterdir())


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days, read day by day; to be copied, not changed."""
    vault = tmp_path_factory.mktemp("gc") / "vault"
    vault.mkdir()
    with unsynced():
        for upto in range(1, len(DAYS)):
            fill(vault, DAYS[:upto])
            run(vault)
    return vault


@pytest.fixture
def vault(grown: Path, tmp_path: Path) -> Path:
    """A copy, with the files' times."""
    shutil.copytree(grown, tmp_path / "vault")
    return tmp_path / "vault"


def collect(vault: Path, *more: str, expect: int = 0) -> Outcome:
    """Run the command."""
    return command(vault, "gc", *more, expect=expect)


ALL = ("--keep-days", "0", "--yes")


def test_without_yes_nothing_is_touched(vault: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in vault.rglob("*"))
    done = collect(vault)
    assert sorted((p, p.stat().st_mtime_ns) for p in vault.rglob("*")) == before
    size = sum(
        (folder(vault, kind, each) / f"{day}.jsonl").stat().st_size
        for kind in KINDS
        for each in (FIRST, SECOND)
        for day in DAYS[:4]
    )
    size += sum((vault / WHALES / f"{day}.jsonl").stat().st_size for day in DAYS[:4])
    assert f"{size:,} B to be deleted" in done.out
    assert "raw/acme/trades_spot/X-Y  2024-03-01 to 2024-03-04 (4 days)" in done.out
    assert "--yes" in done.out
    assert "--allow-missing" in done.out


def test_rows_go_on_as_if_nothing_had_happened(vault: Path) -> None:
    """The same derived rows and quarantine as in a vault where all raw files stayed."""
    other = vault.with_name("other")
    shutil.copytree(vault, other)
    done = collect(vault, *ALL)
    assert "B deleted" in done.out
    for kind in (*KINDS, "whales"):
        assert days_left(vault, kind) == DAYS[4:5]
    for root in (vault, other):
        fill(root, DAYS[4:])
        with unsynced():
            run(root)
    for top in ("derived", "quarantine"):
        assert tree(vault, top) == tree(other, top)
    assert days_left(other, "trades") == DAYS
    with unsynced():
        whole = [json.loads(line) for line in command(vault, "run", "--all", "--json").out.split()]
    assert sum(row["rows_in"] for row in whole if row["stage"] in NAMES) == 0
    again = collect(vault, *ALL)
    assert "2024-03-05" in again.out


def test_a_rebuild_of_what_is_gone_is_refused(vault: Path) -> None:
    collect(vault, *ALL)
    mine = ("-i", "X-Y", "--exchange", "acme", "--market", "spot")
    with unsynced():
        done = command(vault, "rebuild", "trades", *mine, expect=65)
        assert "--allow-missing" in done.err
        again = rebuild_stage(Vault.open(vault), stages.load("bars"), FIRST)
    assert again.counts.rows_out


@pytest.mark.parametrize(
    ("keep", "left"), [(0, DAYS[4:5]), (1, DAYS[4:5]), (2, DAYS[3:5]), (4, DAYS[1:5]), (9999, None)]
)
def test_how_many_days_stay(vault: Path, keep: int, left: list[str] | None) -> None:
    today = date.fromisoformat(DAYS[4]) + timedelta(days=1)
    before = consumed.day_before(today, keep)
    opened = Vault.open(vault)
    for each in consumed.raw_folders(opened.paths):
        consumed.delete(opened, each, before)
    assert days_left(vault, "trades") == (left or DAYS[:5])


# -- what is still needed --------------------------------------------------------------------


def kept(vault: Path) -> dict[str, str]:
    """Delete what can be; the files that stayed with their reasons, none of them gone."""
    done = collect(vault, *ALL, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    for line in lines:
        assert (
            line["deleted"]
            == (line["kept_because"] is None)
            == (not (vault / line["path"]).exists())
        )
    return {line["path"]: line["kept_because"] for line in lines if not line["deleted"]}


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("trades", "trades"),
        ("books", "book"),
        ("quotes", "bbo"),
        ("open_interest", "open_interest"),
    ],
)
def test_what_one_stage_has_not_read(tmp_path: Path, kind: str, stage: str) -> None:
    """The stage is behind: its feed stays from there on, all others go."""
    vault, whole = tmp_path / "vault", tmp_path / "whole"
    mine = (FIRST,)
    with unsynced():
        for root in (vault, whole):
            root.mkdir()
        fill(vault, DAYS[:2], mine)
        run(vault, mine)
        for upto in (4, 5):
            fill(vault, DAYS[:upto], mine)
            run(vault, mine, stage)
        found = kept(vault)
        assert {path.rpartition("/")[0] for path in found} == {
            str(folder(vault, kind).relative_to(vault))
        }
        assert days_left(vault, kind) == DAYS[1:5]
        assert all(f"{stage} of acme/spot/X-Y" in why for why in found.values())
        for other in (*KINDS, "whales"):
            if other != kind:
                assert days_left(vault, other) == DAYS[4:5]
        for root in (vault, whole):
            fill(root, DAYS[4:] if root == vault else DAYS, mine)
            run(root, mine)
    assert tree(vault, "derived") == tree(whole, "derived")


def test_a_shared_feed_stays_until_every_instrument_has_read_it(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    fill(vault, DAYS[:4])
    with unsynced():
        run(vault, (FIRST,))
    found = kept(vault)
    assert days_left(vault, "whales") == DAYS[:4]
    assert found[f"{WHALES}/{DAYS[0]}.jsonl"] == "whale_alerts of acme/spot/X-Z has not run yet"
    assert days_left(vault, "trades", FIRST) == DAYS[3:4]
    assert days_left(vault, "trades", SECOND) == DAYS[:4]
    with unsynced():
        run(vault, (SECOND,))
    kept(vault)
    assert days_left(vault, "whales") == DAYS[3:4]


def older_generation(vault: Path) -> None:
    """As if the newest commit of `trades` alone had read the days from the third on."""
    path = VaultPaths(vault).state("trades", FIRST)
    old, _ = states.load(path)
    assert old is not None
    old.generation -= 1
    old.raw["trades"] = old.raw["trades"][:2]
    states.previous_path(path).write_bytes(states.encode(old))


def touched(vault: Path) -> None:
    """A day was written to after it had been read."""
    path = folder(vault, "trades") / f"{DAYS[1]}.jsonl"
    os.utime(path, (1, 1))


def compressed_beside(vault: Path) -> None:
    """A collector is at work on a day."""
    path = folder(vault, "trades") / f"{DAYS[1]}.jsonl"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:50])


def compressed_since(vault: Path) -> None:
    """It has finished; no run has looked at the new file yet."""
    path = folder(vault, "trades") / f"{DAYS[1]}.jsonl"
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def settings(vault: Path) -> None:
    """A parameter that asks for a rebuild."""
    (vault / "flowvault.toml").write_text("[trades]\nlateness_ms = 5\n", encoding="utf-8")


def damaged(vault: Path) -> None:
    """The newest state is broken."""
    VaultPaths(vault).state("trades", FIRST).write_bytes(b"{}")


def ready(vault: Path) -> None:
    """A rebuild has been made and is not swapped in yet."""
    rebuild = VaultPaths(vault).rebuild("trades", FIRST)
    rebuild.mkdir()
    (rebuild / "READY").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "left", "why"),
    [
        (older_generation, DAYS[2:5], "may fall back on the state before"),
        (touched, [DAYS[1], DAYS[4]], "has not read it to its end"),
        (compressed_beside, [DAYS[1], DAYS[1], DAYS[4]], "several files of 2024-03-02"),
        (compressed_since, [DAYS[1], DAYS[4]], "has not read it to its end"),
        (settings, DAYS[:5], "is to be rebuilt: parameters of trades"),
        (damaged, DAYS[:5], "damaged state: X-Y.state.json"),
        (ready, DAYS[:5], "rebuild to be swapped in"),
    ],
)
def test_what_may_be_needed_again(
    vault: Path, change: Callable[[Path], None], left: list[str], why: str
) -> None:
    change(vault)
    found = kept(vault)
    assert days_left(vault, "trades") == left
    mine = [each for path, each in found.items() if "/trades_spot/X-Y/" in path]
    assert mine
    assert all(why in each for each in mine), mine
    assert days_left(vault, "books") == DAYS[4:5]


def test_a_compressed_day_goes_once_a_run_has_looked_at_it(vault: Path) -> None:
    compressed_since(vault)
    with unsynced():
        run(vault)
    assert not [path for path in kept(vault) if "/trades_spot/X-Y/" in path]
    assert days_left(vault, "trades") == DAYS[4:5]


def test_a_file_that_no_stage_reads_stays(vault: Path) -> None:
    notes = vault / "raw" / "acme" / "truth_spot" / "X-Y" / "2024-03-01.jsonl"
    notes.parent.mkdir(parents=True)
    notes.write_bytes(b"{}\n")
    strange = folder(vault, "trades") / "2024-03-01.jsonl.bak"
    strange.write_bytes(b"{}\n")
    collect(vault, *ALL)
    assert notes.exists()
    assert strange.exists()


def test_only_the_instruments_named(vault: Path) -> None:
    collect(vault, *ALL, "-i", "X-Z")
    assert days_left(vault, "trades", FIRST) == DAYS[:5]
    assert days_left(vault, "trades", SECOND) == DAYS[4:5]


def test_beside_a_run(vault: Path) -> None:
    """The feed of a stage that is running stays; the others go; the status says so."""
    with lock.hold(VaultPaths(vault).lock("book", FIRST), "stage book"):
        done = collect(vault, *ALL, expect=75)
    assert f"process {os.getpid()}" in done.err
    assert days_left(vault, "books", FIRST) == DAYS[:5]
    assert days_left(vault, "books", SECOND) == DAYS[4:5]
    assert days_left(vault, "trades", FIRST) == DAYS[4:5]


# -- killed ----------------------------------------------------------------------------------

KILLED = """
import os, sys
from pipeline.engine import disk
left, remove = int(sys.argv.pop(1)), disk.remove
def cut(path):
    global left
    if not left:
        os._exit(9)
    left -= 1
    remove(path)
disk.remove = cut
from pipeline.cli.main import main
main()
"""


@pytest.mark.parametrize("after", [1, 6])
def test_killed(vault: Path, after: int) -> None:
    """Whatever had gone by then: the next gc and the next runs do the rest, with the same rows."""
    other = vault.with_name("other")
    shutil.copytree(vault, other)
    command = [sys.executable, "-c", KILLED, str(after), "--vault", str(vault), "gc", *ALL]
    done = subprocess.run(command, cwd=REPO, capture_output=True, check=False)
    assert done.returncode == 9, done.stderr
    files = [len(days_left(vault, kind, e)) for kind in KINDS for e in (FIRST, SECOND)]
    assert sum(files) + len(days_left(vault, "whales")) == 9 * 5 - after
    for root in (vault, other):
        fill(root, DAYS[4:])
        with unsynced():
            run(root)
    assert tree(vault, "derived") == tree(other, "derived")
    assert tree(vault, "quarantine") == tree(other, "quarantine")
    collect(vault, *ALL)
    assert days_left(vault, "trades") == DAYS[5:]


# -- leftovers -------------------------------------------------------------------------------


def litter(vault: Path) -> tuple[list[Path], list[Path]]:
    """What killed runs may leave, and what looks like it and is needed."""
    paths = VaultPaths(vault)
    state = paths.state("trades", FIRST)
    rows = paths.derived("trades", FIRST)
    (part,) = rows.glob("*.parquet")
    gone = [
        state.with_name(state.name + ".tmp"),
        rows / "000000000000-000000999999.parquet.tmp",
        rows / "000000000000-000000000001.parquet",
        paths.rebuild("bars", FIRST) / "state" / "half",
    ]
    for path in gone:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    committed = part.with_name(part.name + ".tmp")
    part.rename(committed)  # a run died between commit and rename
    note = rows / "notes.txt"
    note.write_bytes(b"mine")
    return gone, [committed, note, state, states.previous_path(state)]


def test_leftovers(vault: Path) -> None:
    gone, stay = litter(vault)
    dry = collect(vault, "--keep-days", "9999")
    assert dry.out.count(" 100 B") == len(gone)
    assert "400 B to be deleted" in dry.out
    assert all(path.exists() for path in (*gone, *stay))
    collect(vault, "--keep-days", "9999", "--yes")
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stay)
    assert not VaultPaths(vault).rebuild("bars", FIRST).exists()
    before = {name: data for name, data in tree(vault, "derived").items() if "/trades/" not in name}
    with unsynced():
        run(vault)
    after = tree(vault, "derived")
    assert {name: data for name, data in after.items() if "/trades/" not in name} == before


def test_files_of_a_run_at_work_are_no_leftovers(vault: Path) -> None:
    gone, _ = litter(vault)
    with lock.hold(VaultPaths(vault).lock("trades", FIRST), "stage trades"):
        collect(vault, "--keep-days", "9999", "--yes")
    assert [path.exists() for path in gone] == [True, True, True, False]


def test_layers_without_a_state_are_not_touched(vault: Path) -> None:
    """Whoever lost the states has the rows still."""
    for stage in ("trades", "bars"):
        for path in (vault / "state" / stage).rglob("X-Y.state*"):
            path.unlink()
    before = tree(vault, "derived")
    collect(vault, *ALL)
    assert tree(vault, "derived") == before
    assert days_left(vault, "trades") == DAYS[:5]


def test_nothing_to_do(vault: Path, tmp_path: Path) -> None:
    collect(vault, *ALL)
    again = collect(vault, *ALL)
    assert again.out.startswith("nothing to delete")
    assert collect(tmp_path / "none", expect=66).err.startswith("flowvault: there is no")
    (tmp_path / "empty").mkdir()
    assert collect(tmp_path / "empty").out.startswith("nothing to delete")


def test_a_disk_that_fails(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted is deleted; the error says where it stopped."""
    remove, left = disk.remove, 3

    def fail(path: Path) -> None:
        nonlocal left
        if not left:
            raise PermissionError(13, "Permission denied", str(path))
        left -= 1
        remove(path)

    monkeypatch.setattr(disk, "remove", fail)
    done = collect(vault, *ALL, expect=74)
    assert f"books_spot/X-Y/{DAYS[3]}.jsonl: Permission denied" in done.err
    assert days_left(vault, "books") == DAYS[3:5]
    assert days_left(vault, "trades") == DAYS[:5]
