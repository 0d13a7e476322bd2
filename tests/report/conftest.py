"""Vaults to make pages of: a good one over midnight, and one with everything wrong."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock

from pipeline.cli.main import cli
from pipeline.sim import write_market

from .browser import Browser, Page, browser, chromium
from .pages import days_of
from .screen import Day

INST = "BTC-USDT-SWAP"
DAYS = ("2025-01-06", "2025-01-07")
_STAMP = re.compile(rb'"ts":"(\d+)"')
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_LATER_MS = 21 * _HOUR_MS
"""What is written from midnight on is moved to 21:00, so that four hours are of two days."""

_SETTINGS = """
[vpin]
bucket_volume = 8
window = 10
cdf_min = 5

[buckets]
wall_notional = 60000
"""


@dataclass(frozen=True)
class Made:
    """A vault with one instrument, brought up to date."""

    root: Path
    exchange: str

    def rows(self, layer: str, folder: str | None = None) -> list[dict[str, Any]]:
        """The rows of a JSONL layer as they stand in its file."""
        folder = folder or layer.rpartition("_")[0] or layer
        path = self.root / "derived" / folder / self.exchange / "perps" / INST / f"{layer}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def flowvault(self, *arguments: str) -> str:
        """Run a command that must succeed; returns what it printed."""
        done = CliRunner().invoke(
            cli, ["--vault", str(self.root), *arguments], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.output

    def copied(self, target: Path) -> Made:
        """A copy of what is derived here, without raw data."""
        for part in ("derived", "state"):
            shutil.copytree(self.root / part, target / part)
        (target / "raw").mkdir()
        return Made(target, self.exchange)

    def report(self, file: Path, *options: str) -> Path:
        """Write a page."""
        instrument = ("-i", INST, "--exchange", self.exchange)
        self.flowvault("report", *instrument, "-o", str(file), *options)
        return file


def _simulated(root: Path, hours: float) -> dict[str, list[bytes]]:
    """Lines of a simulated market by kind."""
    raw = root / "simulated"
    write_market(raw, inst_id=INST, start=dt.date(2025, 1, 6), hours=hours, speed=1.0, book_ms=5000)
    return {
        kind: next((raw / "raw" / "sim" / f"{kind}_perps" / INST).iterdir())
        .read_bytes()
        .splitlines(keepends=True)
        for kind in ("trades", "books", "quotes")
    }


def _put(root: Path, exchange: str, kind: str, lines: list[bytes]) -> None:
    """Write lines into the day files that their times say, every time moved."""
    by_day: dict[str, list[bytes]] = {}
    day = DAYS[0]
    for line in lines:
        match = _STAMP.search(line)
        if match is not None:
            moved = int(match[1]) + _LATER_MS
            line = line.replace(match[0], b'"ts":"%d"' % moved)  # noqa: PLW2901
            day = dt.datetime.fromtimestamp(moved / 1000, dt.UTC).strftime("%Y-%m-%d")
        by_day.setdefault(day, []).append(line)
    folder = root / "raw" / exchange / f"{kind}_perps" / INST
    folder.mkdir(parents=True)
    for name, own in by_day.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(own))


def _make_good(root: Path) -> Made:
    """Four hours of a simulated market with a book and quotes, from 21:00 on."""
    made = Made(root, "sim")
    for kind, lines in _simulated(root, 4).items():
        _put(root, "sim", kind, lines)
    # some hours have as many buckets as VPIN needs, and walls on both sides
    (root / "flowvault.toml").write_text(_SETTINGS, encoding="utf-8")
    made.flowvault("run", "--all")
    return made


def _make_rough(root: Path) -> Made:
    """Trades with bad, late and missing ones, a book that stops after half an hour, no quotes."""
    made = Made(root, "okx")
    lines = _simulated(root, 1.5)
    trades = lines["trades"]
    del trades[1500:1520]
    again = trades[2990]
    late = re.sub(rb'"tradeId":"\d+"', b'"tradeId":"5"', trades[100])
    trades[3000:3000] = [b"not json\n", b'{"instId":"BTC-USDT-SWAP","px":"-1"}\n', again, late]
    _put(root, "okx", "trades", trades)
    book = lines["books"]
    del book[500:503]
    _put(root, "okx", "books", book[: len(book) // 3])
    done = CliRunner().invoke(cli, ["--vault", str(root), "run", "--all"], catch_exceptions=False)
    assert done.exit_code in (0, 65), done.output
    return made


def _shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """Make a vault once for all the processes that run tests side by side."""
    base = factory.getbasetemp()
    is_one_of_many = "PYTEST_XDIST_WORKER" in os.environ
    root = (base.parent if is_one_of_many else base) / f"report-{name}"
    with FileLock(f"{root}.lock"):
        finished = root / "finished"
        if not finished.exists():
            root.mkdir(parents=True)
            made = make(root)
            finished.write_text(made.exchange, encoding="utf-8")
        return Made(root, finished.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A vault where all is well."""
    return _shared(tmp_path_factory, "good", _make_good)


@pytest.fixture(scope="session")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A vault where much is not."""
    return _shared(tmp_path_factory, "rough", _make_rough)


@pytest.fixture(scope="session")
def good_page(good: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of both days of the good vault."""
    file = tmp_path_factory.mktemp("pages") / "good.html"
    return good.report(file, "--from", DAYS[0], "--to", DAYS[1])


@pytest.fixture(scope="session")
def rough_page(rough: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the first day of the rough vault."""
    return rough.report(tmp_path_factory.mktemp("pages") / "rough.html", "--day", DAYS[0])


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    """A browser, where the machine has one."""
    if chromium() is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with browser() as found:
        yield found


OpenPage = Callable[..., Page]


def drawn_page(chrome: Browser, file: Path, **viewport: Any) -> Page:
    """Open a page in a tab of its own and wait until it is drawn."""
    page = chrome.open(file, **viewport)
    page.wait("document.documentElement.dataset.ready")
    return page


@pytest.fixture
def look(chrome: Browser) -> Iterator[OpenPage]:
    """Open a page and wait until it is drawn; the tab is closed in the end."""
    opened: list[Page] = []

    def open_page(file: Path, **viewport: Any) -> Page:
        opened.append(drawn_page(chrome, file, **viewport))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()


@pytest.fixture(scope="session")
def days(good_page: Path) -> dict[str, Day]:
    """What the page of the good vault holds; that it is the layers' is tested elsewhere."""
    return days_of(good_page)


@pytest.fixture(scope="module")
def opened(chrome: Browser, good_page: Path) -> Iterator[Page]:
    """The page of the good vault, both days of it; opened once, since that takes a second."""
    found = drawn_page(chrome, good_page)
    found.run("flowvault.showDays(null)")
    yield found
    found.close()


@pytest.fixture
def page(opened: Page) -> Page:
    """That page in bars of a minute, with what is switched on by default."""
    opened.run("flowvault.remember({on: {}})")
    opened.run("flowvault.restyle()")
    opened.run("flowvault.setTimeframe('1m')")
    opened.run("flowvault.fit()")
    return opened
