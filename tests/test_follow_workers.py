"""`flowvault follow` in several processes: the same files, and no process is left over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine import lock
from pipeline.engine.crew import Crew, _Worker
from pipeline.engine.desk import Beat, Committed
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import Counts
from pipeline.engine.summary import Summary
from pipeline.engine.told import Failed, Teller, Word, line
from pipeline.errors import DataError, FlowvaultError, LockedError
from pipeline.instrument import CONTRACTS_FILE, Instrument
from pipeline.sim import write_market

REPO = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "pipeline", "--vault"]
STAGE = ("--stage", "bars")
NAMES = [Instrument("sim", "perps", f"{name}-USDT-SWAP") for name in ("A", "B", "C")]
CONTRACTS = "".join(
    f'["{each.key}"]\nctVal = "0.01"\nctMult = "1"\nctType = "linear"\n' for each in NAMES
)
DAY = "2025-01-06"
PATIENCE_S = 60.0
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals end a process at once there")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of one instrument."""
    root = tmp_path_factory.mktemp("market")
    name = NAMES[0].inst_id
    write_market(
        root, inst_id=name, start=date(2025, 1, 6), speed=0.05, hours=2, books=False, quotes=False
    )
    (path,) = VaultPaths(root).raw(NAMES[0], "trades").iterdir()
    return path.read_bytes().splitlines(keepends=True)


def append(vault: Path, instrument: Instrument, lines: list[bytes]) -> None:
    """Do what a collector does."""
    path = VaultPaths(vault).raw(instrument, "trades") / f"{DAY}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (vault / CONTRACTS_FILE).exists():  # else it would be new settings
        (vault / CONTRACTS_FILE).write_text(CONTRACTS, encoding="utf-8")
    data = b"".join(lines).replace(NAMES[0].inst_id.encode(), instrument.inst_id.encode())
    with path.open("ab") as stream:
        stream.write(data)


def bars(vault: Path) -> dict[str, bytes]:
    """What following has made of the raw files."""
    folder = vault / "derived" / "bars"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jsonl")}


class Followed:
    """`follow --all --json` of a vault in two processes."""

    def __init__(self, vault: Path, *options: str) -> None:
        self.vault = vault
        command = [*COMMAND, str(vault), "follow", "--all", "--json", *STAGE]
        self.process = subprocess.Popen(
            [*command, *(options or ("--workers", "2"))],
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._text = b""

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What it has told so far."""
        assert self.process.stdout is not None
        self._text += self.process.stdout.read() or b""
        found = [json.loads(line) for line in self._text.split(b"\n")[:-1]]
        return [each for each in found if each["event"] == kind]

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None
            assert time.monotonic() < end, self._text
            time.sleep(0.01)

    def until_open(self, names: list[Instrument], times: int = 1) -> None:
        """Wait until instruments have been opened so often."""

        def is_so() -> bool:
            told = [each["instId"] for each in self.events("open")]
            return all(told.count(each.inst_id) >= times for each in names)

        self.until(is_so)

    def workers(self, names: list[Instrument]) -> list[int]:
        """The processes that follow instruments."""
        held = (lock.holder_of(VaultPaths(self.vault).lock("follow", each)) for each in names)
        return [each.pid for each in held if each is not None]

    def stop(self) -> None:
        """End it as a service does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0


@contextmanager
def following(vault: Path, *options: str) -> Iterator[Followed]:
    """Follow a vault for the time of the block."""
    followed = Followed(vault, *options)
    try:
        yield followed
    finally:
        followed.process.kill()
        followed.process.communicate()


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] == "Z"


def truth(vault: Path, copy: Path) -> dict[str, bytes]:
    """What a run makes of the same raw files."""
    shutil.copytree(vault / "raw", copy / "raw")
    shutil.copy(vault / CONTRACTS_FILE, copy)
    subprocess.run([*COMMAND, str(copy), "run", "--all", *STAGE], cwd=REPO, check=True)
    return bars(copy)


@POSIX
def test_the_same_files_whoever_dies(tmp_path: Path, market: list[bytes]) -> None:
    """Shared among two; one is killed; an instrument comes later; SIGTERM ends all of them."""
    vault, half = tmp_path / "vault", len(market) // 2
    for each in NAMES[:2]:
        append(vault, each, market[:half])
    with following(vault) as followed:
        followed.until_open(NAMES[:2])
        first, second = followed.workers(NAMES[:2])
        assert len({first, second, followed.process.pid}) == 3

        os.kill(first, signal.SIGKILL)
        followed.until_open(NAMES[:1], times=2)
        (note,) = followed.events("note")
        assert f"{NAMES[0].key} has ended with status -9; it is started again" in note["message"]

        append(vault, NAMES[2], market)
        followed.until_open(NAMES)
        pids = followed.workers(NAMES)
        assert pids[2] in pids[:2]
        assert first not in pids
        for each in NAMES[:2]:
            append(vault, each, market[half:])
        # the last trade has closed the minute before it
        followed.until(lambda: {e["instId"] for e in followed.events("commit")} >= {"A-USDT-SWAP"})
        followed.stop()
        assert all(is_gone(pid) for pid in pids)
        assert followed.events("error") == []
    assert bars(vault) == truth(vault, tmp_path / "copy")


@POSIX
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks Linux which processes live")
def test_workers_end_with_whom_they_work_for(tmp_path: Path, market: list[bytes]) -> None:
    """Killed -9 it leaves no process behind, and what they have folded is committed."""
    for each in NAMES[:2]:
        append(tmp_path / "vault", each, market[:200])
    with following(tmp_path / "vault") as followed:
        followed.until_open(NAMES[:2])
        pids = followed.workers(NAMES[:2])
        for each in NAMES[:2]:
            append(tmp_path / "vault", each, market[200:])
        followed.process.kill()
        end = time.monotonic() + PATIENCE_S
        while not all(is_gone(pid) for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert followed.process.wait() == -9
    assert bars(tmp_path / "vault") == truth(tmp_path / "vault", tmp_path / "copy")


@POSIX
def test_it_ends_without_a_word(tmp_path: Path, market: list[bytes]) -> None:
    """What libraries say of objects that nobody has let go of is nothing to who follows."""
    append(tmp_path, NAMES[0], market[:50])
    options = ("--workers", "1", "--stage", "confluence", "--stage", "signals_mtf")
    with following(tmp_path, *options) as followed:
        followed.until_open(NAMES[:1])
        followed.stop()
        assert followed.process.stderr is not None
        assert followed.process.stderr.read() == b""


@POSIX
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_one_leaves(workers: str, tmp_path: Path, market: list[bytes]) -> None:
    """With status 75, and it says who follows; the first one is not disturbed."""
    for each in NAMES[:2]:
        append(tmp_path, each, market[:50])
    with following(tmp_path) as first:
        first.until_open(NAMES[:2])
        with following(tmp_path, "--workers", workers) as second:
            assert second.process.wait(PATIENCE_S) == 75
            assert second.process.stderr is not None
            words = second.process.stderr.read().decode()
        pids = first.workers(NAMES[:2])
        assert any(f"is locked by process {pid} on " in words for pid in pids)
        assert first.process.poll() is None
        first.stop()


@POSIX
def test_one_that_somebody_else_follows_holds_up_no_other(
    tmp_path: Path, market: list[bytes]
) -> None:
    """An instrument that comes later and is locked is told of, also by a worker started again."""
    for each in NAMES[:2]:
        append(tmp_path, each, market[:50])
    path = VaultPaths(tmp_path).lock("follow", NAMES[2])
    with lock.hold(path, "somebody else"), following(tmp_path) as followed:
        followed.until_open(NAMES[:2])
        append(tmp_path, NAMES[2], market[:50])
        followed.until(lambda: bool(followed.events("error")))
        for pid in followed.workers(NAMES[:2]):
            os.kill(pid, signal.SIGKILL)
        followed.until_open(NAMES[:2], times=2)
        assert {each["status"] for each in followed.events("error")} == {75}
        followed.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_that_refuses_at_the_start(
    workers: str, tmp_path: Path, market: list[bytes]
) -> None:
    """Status 74 and a message, whoever has met it."""
    for each in NAMES[:2]:
        append(tmp_path, each, market[:5])
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "follow").write_text("in the way", encoding="ascii")
    with following(tmp_path, "--workers", workers) as followed:
        assert followed.process.wait(PATIENCE_S) == 74
        assert followed.process.stderr is not None
        words = followed.process.stderr.read().decode()
    assert words.startswith("flowvault: ")
    assert "Traceback" not in words


# -- what is said between them ------------------------------------------------------


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.words: list[Any] = []

    def caught_up(self, instrument: Instrument, done: Any) -> None:
        """See `Listener`."""
        self.words.append((instrument, done))

    def committed(self, what: Committed) -> None:
        """See `Listener`."""
        self.words.append(what)

    def failed(self, error: FlowvaultError) -> None:
        """See `Listener`."""
        self.words.append((type(error), str(error)))

    def noted(self, text: str) -> None:
        """See `Listener`."""
        self.words.append(text)

    def beat(self, beats: Any) -> None:
        """See `Listener`."""
        self.words.append(list(beats))


def crew(heard: Heard) -> tuple[Crew, list[_Worker]]:
    """Two workers without processes."""
    made = Crew(Path(), lambda: NAMES, [], heard, count=2)
    made._workers += [_Worker([NAMES[0], NAMES[2]]), _Worker([NAMES[1]])]
    return made, made._workers


class Gone:
    """A process that has ended, with words that have not reached it."""

    stdout = None
    returncode = -11

    @property
    def stdin(self) -> Gone:
        """Of the process."""
        return self

    def close(self) -> None:
        """Flush what it cannot have."""
        raise BrokenPipeError


def test_one_that_dies_before_it_begins_ends_all() -> None:
    """The first deaths are told, and it is started again; then there is no use in that."""
    heard = Heard()
    made, (worker, _) = crew(heard)
    gone: Any = Gone()
    for deaths in (1, 2):
        worker.process = gone
        made._ended(worker, gone)
        assert worker.process is None
        assert "ended with status -11; it is started again" in heard.words[deaths - 1]
        assert not made._is_stopping
    made._ended(worker, gone)
    assert len(heard.words) == 2
    assert made._is_stopping
    assert "ended with status -11 3 times" in str(made._failure)


def test_one_that_has_begun_is_started_again_and_again() -> None:
    """Later and later."""
    heard = Heard()
    made, (worker, _) = crew(heard)
    worker.is_proven, worker.started = True, time.monotonic()
    gone: Any = Gone()
    delays = []
    for _ in range(9):
        made._ended(worker, gone)
        delays.append(worker.delay)
    assert not made._is_stopping
    assert delays == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert len(heard.words) == 9


def test_what_a_worker_says_is_told_as_if_it_had_happened_here() -> None:
    """Word for word, through the lines between the processes."""
    heard = Heard()
    made, (worker, _) = crew(heard)
    teller = Teller(lambda data: made._hear(worker, data))
    counts = Counts(rows_in=3, rows_out=2, bad=1)
    done = [Summary("trades", NAMES[0], counts, 0.25, ["a note"])]
    what = Committed(NAMES[0], {"bars": counts}, {"bars_1m": 60_000_000, "x": None}, None, 0.05)
    teller.caught_up(NAMES[0], done)
    teller.committed(what)
    teller.failed(LockedError("held", "wait"))
    teller.noted("said")

    assert heard.words[0] == (NAMES[0], done)
    assert heard.words[1:] == [what, (LockedError, "held\n  next: wait"), "said"]
    assert worker.is_proven


def test_beats_are_those_of_all_workers() -> None:
    """An instrument whose worker has not said anything is not open."""
    heard = Heard()
    made, (first, second) = crew(heard)
    one, other = (Beat(each, 5, is_open=True) for each in NAMES[:2])
    Teller(lambda data: made._hear(first, data)).beat([one])
    Teller(lambda data: made._hear(second, data)).beat([other])

    closed = [Beat(each, None, is_open=False) for each in NAMES]
    assert heard.words == [[one, closed[2], closed[1]], [one, closed[2], other]]


def test_what_all_of_them_say_is_told_once() -> None:
    """Wrong settings are met by each; the same worker may say it again."""
    heard = Heard()
    made, workers = crew(heard)
    for worker in workers:
        made._hear(worker, line(Failed.of(DataError("wrong settings"))))
    made._hear(workers[0], line(Failed.of(DataError("wrong settings"))))
    made._hear(workers[1], line(Failed.of(DataError("another thing"))))

    texts = ["wrong settings", "wrong settings", "another thing"]
    assert heard.words == [(DataError, each) for each in texts]


def test_half_a_line_is_no_word() -> None:
    """A worker may be killed while it speaks."""
    heard = Heard()
    made, (worker, _) = crew(heard)
    made._hear(worker, line(Failed.of(DataError("wrong")))[:-9])
    assert heard.words == []
    assert not worker.is_proven


def test_words_are_told_apart() -> None:
    """The types of a union have names of their own."""
    names = {each.__struct_config__.tag for each in Word.__args__}
    assert len(names) == len(Word.__args__)
