"""The report: a table for the terminal, and BENCH.md."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline import __version__
from scripts.benchkit.outcome import COLUMNS, Line, Outcome

_INTRODUCTION = (
    "Measured on simulated trades in OKX's format, and on Binance's order book as recorded. "
    "`make bench` measures again and rewrites this file; `python scripts/bench.py --only day` "
    "measures one row and only prints it."
)

_LIBRARIES = (
    "polars",
    "duckdb",
    "numpy",
    "numba",
    "msgspec",
    "wickra",
    "statsmodels",
    "MarketProfile",
)

_LARGE = 1000

_BUSY_SHARE = 0.25
"""Above this load for each core the machine is not quiet."""


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print the table to standard output."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD)
    for outcome in outcomes:
        table.add_row(outcome.title, style="bold")
        for line in outcome.lines:
            table.add_row(*line.cells)
    Console(width=160, highlight=False).print(table)


def markdown(outcomes: Sequence[Outcome], *, loads: tuple[str, str], is_quick: bool) -> str:
    """The text of BENCH.md."""
    parts = [
        "# Speed and memory beside DuckDB and other libraries",
        _INTRODUCTION,
    ]
    if is_quick:
        parts.append("**A quick run over tiny files: it shows that the benchmark works, no more.**")
    parts += [
        _table(outcomes),
        _missed(outcomes),
        "## What is compared",
        "\n".join(
            f"{number}. **{outcome.title}.** {outcome.text}"
            for number, outcome in enumerate(outcomes, 1)
        ),
        "## Machine",
        _machine(loads),
    ]
    return "\n\n".join(parts) + "\n"


def load_average() -> str:
    """How busy the machine is."""
    return f"{os.getloadavg()[0]:.1f}"


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = [_row(("", *COLUMNS)), _row(("---",) * (len(COLUMNS) + 1))]
    for number, outcome in enumerate(outcomes, 1):
        lines += [_row((str(number), *line.cells)) for line in outcome.lines]
    return "\n".join(lines)


def _load(loads: tuple[str, str]) -> str:
    """How busy the machine was, and a warning if it was busy before the benchmark began."""
    text = f"{loads[0]} when it began, {loads[1]} when it ended (one-minute average)"
    if float(loads[0]) > (os.cpu_count() or 1) * _BUSY_SHARE:
        text += "; **busy with other work: times are longer than on a quiet machine**"
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _missed(outcomes: Sequence[Outcome]) -> str:
    """What fell short, said plainly."""
    judged = [line for outcome in outcomes for line in outcome.lines if line.verdict]
    missed = [line for line in judged if line.verdict == "MISSED"]
    short = [line for line in judged if line.verdict == "met, not the goal"]
    if not missed and not short:
        return f"All {len(judged)} aims were met."
    met = len(judged) - len(missed)
    sentences = [f"{met} of {len(judged)} aims were met."]
    sentences += [f"Missed: {_against_aim(line)}." for line in missed]
    sentences += [f"Met, but not the goal beyond it: {_against_aim(line)}." for line in short]
    return " ".join(sentences)


def _against_aim(line: Line) -> str:
    aim = line.aim.text if line.aim else ""
    unit = line.aim.unit if line.aim else ""
    judged = f"{line.judged:.3g}" if (line.judged or 0) < _LARGE else f"{line.judged:,.0f}"
    return f"{line.what}, {judged}{unit} against {aim}"


def _machine(loads: tuple[str, str]) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    facts = {
        "date": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.1f} GiB",
        "system": f"{_system()}, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "flowvault": __version__,
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        "load": _load(loads),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _processor() -> str:
    """The processor's model, without a host name."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"
