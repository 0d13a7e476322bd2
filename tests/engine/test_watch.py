"""Changes are told, by the system or by looking, and it is said when the system does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from pipeline.engine.watch import Watch

PATIENCE_S = 240.0


class Told:
    """What a watch tells."""

    def __init__(self, root: Path, poll_s: float | None) -> None:
        self.folder = root / "trades_perps" / "X"
        self.folder.mkdir(parents=True)
        self.changed: set[Path] = set()
        self.notes: list[str] = []
        self.watch = Watch(
            root, lambda: [self.folder], self.changed.update, self.notes.append, poll_s
        )

    def until_told(self) -> None:
        """Append until it is told: the watch needs a moment to begin."""
        end = time.monotonic() + PATIENCE_S
        while self.folder not in self.changed:
            assert time.monotonic() < end
            with (self.folder / "2024-03-05.jsonl").open("ab") as stream:
                stream.write(b"{}\n")
            time.sleep(0.02)


@pytest.fixture
def told(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Told]:
    """A watch that has begun."""
    made = Told(tmp_path / "raw", request.param)
    made.watch.start()
    yield made
    made.watch.stop()


@pytest.mark.parametrize("told", [None, 0.01], indirect=True)
def test_a_file_that_grows(told: Told) -> None:
    """Told by the system, and found by looking."""
    told.until_told()
    assert told.notes == []


class NoMore:
    """A system that has no watches to give."""

    def __call__(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Refuse."""
        raise OSError("no watches left")


@pytest.fixture
def no_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the system refuse."""
    monkeypatch.setattr(watchfiles, "watch", NoMore())


@pytest.mark.usefixtures("no_watches")
def test_a_system_that_refuses(tmp_path: Path) -> None:
    """It is said once, and the folders are looked at."""
    told = Told(tmp_path / "raw", None)
    told.watch.start()
    told.until_told()
    told.watch.stop()

    assert told.notes == [
        f"{tmp_path / 'raw'}: not told of changes (no watches left); looking every 0.05 s"
    ]
