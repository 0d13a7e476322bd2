"""What `flowvault follow` says, and that nobody who reads it can hold it up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.follow_events import Apart, Json, status_line
from pipeline.engine.desk import Beat
from pipeline.errors import DataError
from pipeline.instrument import Instrument
from pipeline.sim import write_market

REPO = Path(__file__).resolve().parents[1]
NAMES = ("BTC", "ETH", "SOL")
PATIENCE_S = 240.0
"""A loaded machine is slow, not wrong."""


def beats(*seconds: float | None, closed: int = 0) -> list[Beat]:
    """Instruments with last events at these times, and some that are not open."""
    found = [
        Beat(
            Instrument("sim", "perps", name), None if at is None else round(at * 1e6), is_open=True
        )
        for name, at in zip(NAMES, seconds, strict=False)
    ]
    return found + [Beat(Instrument("sim", "perps", "X"), None, is_open=False)] * closed


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (beats(), "following 0 instruments"),
        (beats(closed=2), "following 0 instruments, 2 not open yet"),
        (beats(999.5), "following 1 instrument; last event 0.5 s ago"),
        (beats(None), "following 1 instrument"),
        (beats(940.0, 999.0), "following 2 instruments; last event 1.0 s ago (BTC 1 min ago)"),
        (
            beats(-86_400.0, -6_200.0, 400.0, closed=1),
            "following 3 instruments, 1 not open yet; last event 10 min ago (BTC 1 d ago)",
        ),
        (beats(999.0, 999.0), "following 2 instruments; last event 1.0 s ago"),
        (beats(-6_200.0), "following 1 instrument; last event 2 h ago"),
    ],
)
def test_the_status_line(given: list[Beat], line: str) -> None:
    """How many, the newest last event, and the oldest one with its instrument."""
    assert status_line(given, 1000.0) == line


class Reader:
    """A listener that can be held, or gone."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.is_free = threading.Event()
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        def hear(*what: Any) -> None:
            assert self.is_free.wait(PATIENCE_S)
            if self.error is not None:
                raise self.error
            self.heard.append((name, what[0]))

        return hear


def test_in_order_and_apart() -> None:
    """Nobody waits for the reader; of how things stand only the newest is told."""
    reader = Reader()
    apart = Apart(reader, pytest.fail)
    before = time.monotonic()
    for number in range(3):
        apart.noted(f"note {number}")
        apart.beat([number])  # type: ignore[list-item]
        apart.failed(number)  # type: ignore[arg-type]
    assert time.monotonic() - before < PATIENCE_S / 2
    reader.is_free.set()
    apart.close()

    assert [each for each in reader.heard if each[0] != "beat"] == [
        (name, value)
        for number in range(3)
        for name, value in (("noted", f"note {number}"), ("failed", number))
    ]
    assert [each for each in reader.heard if each[0] == "beat"] == [("beat", [2])]


def test_a_reader_that_is_gone() -> None:
    """Whoever follows is asked to end, and ends with the error."""
    ended = threading.Event()
    reader = Reader()
    reader.is_free.set()
    reader.error = BrokenPipeError()
    apart = Apart(reader, ended.set)
    apart.noted("x")

    assert ended.wait(PATIENCE_S)
    with pytest.raises(BrokenPipeError):
        apart.close()


def test_notes_and_errors_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To standard error for people, as an object to standard output."""
    told = Json(tmp_path)
    told.noted("looking every 0.05 s")
    told.failed(DataError("it shrank", "rebuild"))
    out, err = capsys.readouterr()

    assert [json.loads(line) for line in out.splitlines()] == [
        {"event": "note", "message": "looking every 0.05 s"},
        {"event": "error", "status": 65, "message": "it shrank", "hint": "rebuild"},
    ]
    assert err.startswith("flowvault: looking every 0.05 s\nflowvault: it shrank")


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that is full, and SIGTERM")
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_pipe_that_nobody_reads(tmp_path: Path, *, is_gone: bool) -> None:
    """A full pipe holds up what is told and no layer; a closed one ends it, with status 1."""
    import fcntl

    write_market(
        tmp_path, inst_id="BTC-USDT-SWAP", start=date(2025, 1, 6), speed=0.05, hours=4,
        books=False, quotes=False,
    )  # fmt: skip
    (path,) = (tmp_path / "raw" / "sim" / "trades_perps" / "BTC-USDT-SWAP").iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:100]))
    command = [sys.executable, "-m", "pipeline", "--vault", str(tmp_path)]
    stage = ("--stage", "bars")
    with subprocess.Popen(
        [*command, "follow", "--all", "--json", *stage],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as follow:
        assert follow.stdout is not None
        assert follow.stderr is not None
        fcntl.fcntl(follow.stdout, fcntl.F_SETPIPE_SZ, 4096)
        assert b'"open"' in follow.stdout.readline()
        if is_gone:
            follow.stdout.close()
        bars = tmp_path / "derived" / "bars" / "sim" / "perps" / "BTC-USDT-SWAP" / "bars_1m.jsonl"
        end = len(lines) * 2 // 3 if is_gone else len(lines)
        for at in range(100, end, 10):
            with path.open("ab") as stream:
                stream.write(b"".join(lines[at : min(end, at + 10)]))
            time.sleep(0.02)
        if not is_gone:
            minute = json.loads(lines[-1])["ts"]
            until = time.monotonic() + PATIENCE_S
            while not _has_reached(bars, int(minute)):
                assert time.monotonic() < until
                time.sleep(0.05)
            follow.send_signal(signal.SIGTERM)
        assert follow.wait(PATIENCE_S) == is_gone
        assert follow.stderr.read() == b""
    with path.open("ab") as stream:
        stream.write(b"".join(lines[end:]))
    held = bars.read_bytes()
    assert subprocess.run([*command, "run", "--all", *stage], cwd=REPO, check=False).returncode == 0
    whole = bars.read_bytes()
    assert whole.startswith(held)
    assert (held == whole) is not is_gone


def _has_reached(bars: Path, ts_ms: int) -> bool:
    """Whether the last bar is that of the minute before a time, or one before without trades."""
    from datetime import datetime

    rows = bars.read_bytes().splitlines() if bars.exists() else []
    if not rows:
        return False
    last = json.loads(rows[-1])["timestamp_utc"]
    opened = datetime.fromisoformat(last).timestamp() * 1000
    return opened > ts_ms - 10 * 60_000
