"""Kills and power cuts: an import that is run again ends with the same bytes, whatever happened.

And at no moment does a reader of the vault see a day file that is not, to the last byte, the
beginning of the day.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engine import disk, spool
from tests.faults import model
from tests.faults.model import STYLES, Disk, KilledError, Op, Recorder, write_image

from . import archives as make
from .archives import by_day, utc, walk
from .conftest import Command

SWAP = "BTC-USDT-SWAP"
RAW = f"okx/trades_perps/{SWAP}"
MIDNIGHT = utc("2025-06-01T16:00")
DAYS = [
    walk(40, MIDNIGHT + i * make.DAY_US, MIDNIGHT + (i + 1) * make.DAY_US, first=1 + 40 * i, seed=i)
    for i in range(3)
]
WANTED = by_day([e for day in DAYS for e in day], lambda each: make.okx_line(each, SWAP))
WATCHED = (*model.TOPS, "raw")
ORDERS = [(0, 1, 2), (2, 1, 0), (1, 0, 2)]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the model knows Linux's calls")


@pytest.fixture
def archives(folder: Path) -> list[Path]:
    """Three archives that share their days; one has bad rows."""
    found = []
    for number, day in enumerate(DAYS):
        content = make.okx_trades(day, SWAP)
        if number == 1:
            content += b"BTC-USDT-SWAP,1,buy,oops,1,1748707200008\n"
        name = f"{SWAP}-trades-2025-06-{2 + number:02d}.zip"
        found.append(make.zipped(folder, name, content))
    return found


@pytest.fixture(autouse=True)
def _pieces_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are a few thousand bytes long here, and are to be written in several pieces."""
    monkeypatch.setattr(spool, "PIECE_BYTES", disk.PAGE)


def one_by_one(vault: Path, archives: list[Path]) -> None:
    command = Command(vault)
    for path in archives:
        outcome = command("import", path)
        assert outcome.code in (0, 65), outcome.err


def check(vault: Path, archives: list[Path], when: str) -> None:
    """Run the imports again: the same bytes, and nothing else left lying about."""
    one_by_one(vault, archives)
    assert Command(vault).raw(RAW) == WANTED, when
    left = [path.name for path in vault.rglob("*") if path.suffix in (".importing", ".tmp")]
    assert left == [], when
    assert not list(vault.rglob("placing.json")), when
    (bad,) = (vault / "quarantine").rglob("*.jsonl")
    assert bad.read_bytes().count(b"\n") == 1, when
    again = Command(vault).import_(*archives)
    assert all(row["known"] for row in again), when


def killed_at(vault: Path, number: int, archives: list[Path]) -> str | None:
    """Import until the disk is about to change for the n-th time; what it was about to do."""
    died: list[str] = []

    def hook(at: int, op: Op) -> None:
        if at == number:
            died.append(str(op))
            raise KilledError
        check_visible(vault, op)

    try:
        with Recorder(vault, WATCHED).recording(hook):
            one_by_one(vault, archives)
    except KilledError:
        return died[0]
    return None


def check_visible(vault: Path, op: Op) -> None:
    """Every day file that a stage could read now begins or ends the day, or is all of it."""
    for file in (vault / "raw").rglob("*.jsonl"):
        content = file.read_bytes()
        day = WANTED[file.name]
        is_part = day.startswith(content) or day.endswith(content) or content in day
        assert is_part, f"before {op}: {file.name} is out of order"
        assert content.endswith(b"\n"), f"before {op}: {file.name} ends in the middle of a line"


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_operation(
    stride: int,
    order: tuple[int, ...],
    links: bool,
    tmp_path: Path,
    archives: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    chosen = [archives[number] for number in order]
    at = random.Random(f"{order}{links}").randrange(stride)
    died: str | None = ""
    while died is not None:
        vault = tmp_path / "vault"
        vault.mkdir()
        died = killed_at(vault, at, chosen)
        check(vault, chosen, f"killed before operation {at} ({died})")
        shutil.rmtree(vault)
        at += stride


def refuse(*_: object) -> None:
    raise PermissionError


@pytest.mark.parametrize(
    ("stride", "images"), [(17, 1), pytest.param(1, 12, marks=pytest.mark.slow)]
)
def test_power_cuts(
    stride: int,
    images: int,
    tmp_path: Path,
    archives: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a cut at any moment, whatever of the unsynced changes has reached the disk."""
    monkeypatch.setattr(os, "link", refuse)  # the model knows no links
    vault = tmp_path / "recorded"
    vault.mkdir()
    chosen = [archives[number] for number in (1, 0, 2)]
    recorder = Recorder(vault, WATCHED)
    with recorder.recording():
        one_by_one(vault, chosen)
    recorder.verify()
    disk = Disk(recorder.start)
    tried = 0
    for number, op in enumerate(recorder.ops):
        disk.apply(op)
        if number % stride:
            continue
        rng = random.Random(number)
        style = STYLES[number // stride % len(STYLES)]
        for each in (style, *(f"random {n}" for n in range(images))):
            place = tmp_path / "image"
            place.mkdir()
            write_image(disk.image(each, rng), place)
            check(place, chosen, f"power cut after {number} ({op}), {each}")
            shutil.rmtree(place)
            tried += 1
    assert tried >= len(recorder.ops) // stride


def start(vault: Path, archives: list[Path]) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "pipeline", "--vault", str(vault), "import", *map(str, archives)]
    return subprocess.Popen(
        words,
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_a_process_killed_at_any_time(tmp_path: Path, folder: Path) -> None:
    """A month of an exchange with a header line, killed again and again until it gets through."""
    trades = walk(400_000, utc("2024-01-01T00:00"), utc("2024-02-01T00:00"))
    path = make.zipped(folder, "BTCUSDT-trades-2024-01.zip", make.binance_trades(trades))
    wanted = by_day(trades, lambda each: make.binance_line(each, "BTCUSDT"))
    started = time.perf_counter()
    assert start(tmp_path / "calm", [path]).wait() == 0
    whole = time.perf_counter() - started
    rng = random.Random(1)
    for number in range(12):
        vault, kills, status = tmp_path / f"vault{number}", 0, 1
        while status:
            process = start(vault, [path])
            if kills < 6:
                time.sleep(rng.uniform(0.3, 1.1) * whole)
                process.send_signal(signal.SIGKILL)
            status = process.wait()
            assert status in (0, -signal.SIGKILL)
            kills += 1
        assert Command(vault).raw("binance/trades_perps/BTCUSDT") == wanted
        assert [p.name for p in (vault / "raw").rglob("*") if p.suffix == ".importing"] == []


@pytest.mark.parametrize("number", range(0, 40, 3))
def test_any_operation_may_fail(number: int, tmp_path: Path, archives: list[Path]) -> None:
    """A message and status 74, no traceback; the next run makes it good."""
    vault = tmp_path / "vault"
    vault.mkdir()
    with Recorder(vault, WATCHED).recording(model.fail_at(number)):
        outcome = Command(vault)("import", archives[0])
    assert outcome.code in (0, 74), outcome.err
    check(vault, archives, f"operation {number} failed")
