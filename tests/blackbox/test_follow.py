"""Following a US stock's tape, through the command line; crypto markets are in `tests/laws`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPO, MakeVault, Product
from .equity_files import Market

DAYS = ("2025-06-05", "2025-06-06")
PATIENCE_S = 240
LEFT_OUT = ("raw", "state")


def lines(day: str) -> dict[str, list[str]]:
    """A trade and a quote a minute from 09:30 to 16:00 in New York."""
    times = [f"{day}T{n // 60:02d}:{n % 60:02d}" for n in range(13 * 60 + 30, 20 * 60 + 1)]
    quotes = [
        {"ts": f"{t}:00Z", "seq": n, "bid": 10.0, "bid_size": 1, "ask": 10.1, "ask_size": 1}
        for n, t in enumerate(times)
    ]
    trades = [
        {"ts": f"{t}:30Z", "seq": n, "ex": "N", "price": 10.1 if n % 3 else 10.0, "size": 100}
        | {"cond": "", "corr": 0}
        for n, t in enumerate(times)
    ]
    kinds = {"quotes": quotes, "trades": trades}
    return {kind: [json.dumps(each) + "\n" for each in rows] for kind, rows in kinds.items()}


def grow(vault: Path, day: str, first: int, end: int) -> None:
    """Append some minutes of a day."""
    for kind, rows in lines(day).items():
        path = vault / "raw" / "taq" / kind / "TTT" / f"{day}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.writelines(rows[first:end])


def derived(vault: Path) -> dict[str, bytes]:
    """All files of layers of the tape."""
    return {
        path.relative_to(vault).as_posix(): path.read_bytes()
        for path in vault.rglob("TTT/*")
        if path.is_file() and path.relative_to(vault).parts[0] not in LEFT_OUT
    }


def made(vault: Path) -> set[str]:
    """The folders of all layers and tables that there are."""
    return {path.name for path in (vault / "derived").iterdir()}


class Follow:
    """A process that follows a vault, and what it has told."""

    def __init__(self, vault: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "--vault", str(vault), "follow", "--all", "--json"],
            cwd=REPO,
            env={k: v for k, v in os.environ.items() if k != "FLOWVAULT_VAULT"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._text = b""

    def events(self) -> list[dict[str, Any]]:
        """All there are so far."""
        assert self.process.stdout is not None
        self._text += self.process.stdout.read() or b""
        return [json.loads(line) for line in self._text.split(b"\n")[:-1]]

    def until(self, event: str, stage: str | None = None) -> None:
        """Wait until it has told of something."""
        end = time.monotonic() + PATIENCE_S
        while not any(
            each["event"] == event and (stage is None or stage in each.get("stages", ()))
            for each in self.events()
        ):
            assert self.process.poll() is None
            assert time.monotonic() < end, self._text
            time.sleep(0.02)

    def stop(self) -> str:
        """End it; what it has complained of."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        code = self.process.wait(PATIENCE_S)
        words = self.process.stderr.read().decode()
        assert code == 0, words
        return words


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once there")
def test_a_tape_and_market_wide_tables(product: Product, new_vault: MakeVault) -> None:
    """Its layers are those of runs; the tables are left to runs, and that is said."""
    vault, other = new_vault("followed"), new_vault("run")
    Market(weeks=14).write(vault)
    for root in (vault, other):
        grow(root, DAYS[0], 0, 300)
    follow = Follow(vault)
    try:
        follow.until("open")
        grow(vault, DAYS[0], 300, 391)
        grow(vault, DAYS[1], 0, 200)
        follow.until("commit", "tape")
        words = follow.stop()
        told = follow.events()
    finally:
        follow.process.kill()
        follow.process.communicate()
    grow(other, DAYS[0], 300, 391)
    grow(other, DAYS[1], 0, 200)
    assert product(other, "run", "--all").code == 0

    assert derived(vault) == derived(other)
    layers = {path.split("/")[1] for path in derived(vault)}
    assert layers >= {"tape", "bbo", "classified", "micro_metrics_daily"}
    (note,) = [each["message"] for each in told if each["event"] == "note"]
    assert words == f"flowvault: {note}\n"
    assert "flowvault run --all" in note
    assert made(vault) == layers
    assert product(vault, "run", "--all").code == 0
    assert made(vault) >= layers | {"rotation_events", "micro_signals"}
