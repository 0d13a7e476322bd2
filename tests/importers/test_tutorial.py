"""The commands of docs/import.md do what the page says, in its order."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.importers.mapped import ROLES
from pipeline.importers.recognise import FORMATS, UNITS
from pipeline.sim import write_market

from . import archives as make
from .conftest import Command

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[0-9][0-9,.]*")


def blocks() -> list[str]:
    return re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def typed(block: str) -> Iterator[tuple[list[str], list[str]]]:
    """The commands of a block behind a prompt, each with the lines that it prints."""
    lines = block.splitlines()
    while lines:
        words = lines.pop(0).removeprefix("$ ")
        while True:
            try:
                command = shlex.split(words)
                break
            except ValueError:  # a quote that is still open
                words += "\n" + lines.pop(0)
        printed = []
        while lines and not lines[0].startswith("$ "):
            printed.append(lines.pop(0))
        yield command, printed


def shape(line: str) -> str:
    """A printed line without its numbers and the width of its columns."""
    return " ".join(NUMBER.sub("#", line).split())


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days of a simulated market as Binance would publish them, and where they lie."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    days = write_market(
        tmp_path / "simulated",
        start=dt.date(2024, 1, 1),
        days=2,
        speed=0.2,
        books=False,
        quotes=False,
    )
    for file in days:
        if file.parts[-3] == "trades_perps":
            rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
            content = make.table(
                make.BINANCE_TRADES,
                [
                    [e["tradeId"], e["px"], e["sz"], "0", e["ts"], str(e["side"] == "sell").lower()]
                    for e in rows
                ],
            )
            make.zipped(folder, f"BTCUSDT-trades-{file.stem}.zip", content, checksum=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("downloads")
def test_from_an_archive_to_a_signal(flowvault: Command) -> None:
    told = 0
    for block in blocks():
        if not block.startswith("$ "):
            continue
        for command, printed in typed(block):
            if command[0] != "flowvault":
                continue
            outcome = flowvault(*command[1:])
            assert outcome.code == 0, (command, outcome.err)
            assert outcome.out, command
            if command[1] == "import":
                assert list(map(shape, outcome.out.splitlines())) == list(map(shape, printed))
            told += 1
    assert told == 5
    rows = flowvault("tail", "signals", "-i", "BTCUSDT", "--exchange", "binance", "-n", "500")
    assert any('"signal":"NO_SIGNAL"' not in line for line in rows.out.splitlines())


def test_any_other_table(
    flowvault: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands with columns that are known, told by name, and told by number."""
    start = make.utc("2025-01-01T00:00")
    monkeypatch.chdir(tmp_path)

    def rows(day: int, unit: int) -> list[list[object]]:
        first = start + day * make.DAY_US
        trades = make.walk(50, first, first + 10**9)
        return [[e.us // unit, e.price, e.size, make.side(e)] for e in trades]

    Path("trades.csv").write_bytes(make.table("timestamp,price,qty,side", rows(0, 1000)))
    make.gzipped(tmp_path, "ticks.csv.gz", make.table("when,Price,Vol,Aggressor", rows(1, 1)))
    Path("bare.csv").write_bytes(make.table("", rows(2, 1000)))
    (block,) = [each for each in blocks() if each.startswith("flowvault import")]

    for command in block.replace("\\\n", " ").splitlines():
        outcome = flowvault(*shlex.split(command)[1:])
        assert outcome.code == 0, (command, outcome.err)

    found = flowvault.raw("kraken/trades_spot/BTC-USD")
    assert [text.count(b"\n") for text in found.values()] == [50, 50, 50]


def test_the_page_names_what_there_is() -> None:
    """Every format, role and unit."""
    for name in FORMATS:
        assert f"| `{name}` |" in PAGE
    for name in (*ROLES, *(unit for unit in UNITS if unit != "auto")):
        assert f"`{name}`" in PAGE


def test_help_names_every_format(flowvault: Command) -> None:
    text = flowvault("import", "--help").out
    for name in FORMATS:
        assert name in text
