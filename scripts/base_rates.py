"""How often each signal and each momentum state comes by chance, and in what is simulated or real.

The markets are a walk without drift or memory, where whatever comes is chance, the simulator's with
what it plants, and real captures. Beside them stands what the framework these signals come from
expects of a day, and an earlier measurement on such a walk. Nothing is tuned to meet either. Each
market is run twice, with the default limits and with profile = "calibrated". What is counted are
bars of which participation and momentum are known, so not the first twenty.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import msgspec  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from pipeline import stages  # noqa: E402
from pipeline.engine.paths import VaultPaths, find_instruments  # noqa: E402
from pipeline.engine.rebuild import rebuild_stage  # noqa: E402
from pipeline.engine.runner import run_stages  # noqa: E402
from pipeline.engine.vault import Vault  # noqa: E402
from pipeline.errors import FlowvaultError  # noqa: E402
from pipeline.instrument import Instrument  # noqa: E402
from pipeline.settings import FILE  # noqa: E402
from pipeline.sim import write_market  # noqa: E402
from scripts.ratekit.rates import (  # noqa: E402
    BARS_A_DAY,
    LINES,
    Met,
    Rates,
    add,
    count,
    meetings,
    together,
)
from scripts.ratekit.walk import Walk, write_walk  # noqa: E402

PROFILES = ("default", "calibrated")
JUDGES = ("ipu", "signals")
EXPECTED = {
    "STRONG_MOMENTUM_*": "0-2 a day",
    "FADE_EXHAUSTION_*": "0-1 a day",
    "DIVERGENCE_WARNING": "1-3 a day",
    "NO_SIGNAL": "~95 %",
}
MEASURED = {
    "NO_SIGNAL": ("74 %", "96 %"),
    "ACCELERATING": ("47 %", "13 %"),
    "STRONG_MOMENTUM_*": ("39 a day", "0.9 a day"),
    "DIVERGENCE_WARNING": ("22 a day", "2.2 a day"),
    "FADE_EXHAUSTION_*": ("1.3 a day", "0.3 a day"),
}
SIMULATED = Instrument("sim", "perps", "BTC-USDT-SWAP")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One market under one profile."""

    market: str
    profile: str
    rates: Rates
    met: Sequence[Met] = ()


def main() -> int:
    """Run the markets and print the tables; returns the exit status."""
    options = _options()
    outcomes: list[Outcome] = []
    try:
        with _folder(options.keep) as folder:
            for market, root, instruments in _markets(options, folder):
                outcomes += measure(market, root, instruments, options.timeframe)
    except (FlowvaultError, OSError) as error:
        print(f"base_rates: {error}", file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(rates_table(outcomes, options.timeframe))
    if any(each.met for each in outcomes):
        console.print(met_table(outcomes))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=10, help="days of the walk; 0: none [10]")
    parser.add_argument("--trades", type=int, default=60_000, help="its trades a day [60000]")
    parser.add_argument(
        "--with-flow",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="how often its price steps the way the taker traded [0.5: unrelated]",
    )
    parser.add_argument("--book-s", type=float, default=10, help="seconds between books; 0: none")
    parser.add_argument("--sim-days", type=int, default=3, help="days of the simulator; 0: none")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other markets [1]")
    parser.add_argument(
        "--captures", type=Path, metavar="DIR", help="a vault whose raw/ is measured too"
    )
    parser.add_argument("--timeframe", choices=list(BARS_A_DAY), default="5m", help="bars [5m]")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave it there")
    return parser.parse_args()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where to work: a folder to keep, or one that goes away at the end."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="flowvault-rates-") as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


def _markets(
    options: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, Path, list[Instrument]]]:
    """Name, vault and instruments of each market, its raw data written."""
    if options.days:
        walk = Walk(options.days, options.seed, options.trades, options.with_flow, options.book_s)
        yield f"walk, {walk.days} d", folder / "walk", [write_walk(folder / "walk", walk)]
    if options.sim_days:
        write_market(
            folder / "sim", days=options.sim_days, seed=options.seed, book_ms=10_000, overwrite=True
        )
        yield f"simulator, {options.sim_days} d", folder / "sim", [SIMULATED]
    if options.captures:
        root = folder / "captures"
        shutil.copytree(options.captures / "raw", root / "raw", dirs_exist_ok=True)
        instruments = [
            each for each in find_instruments(root) if VaultPaths(root).raw(each, "trades").is_dir()
        ]
        yield f"captures, {len(instruments)}", root, instruments


def measure(market: str, root: Path, instruments: list[Instrument], frame: str) -> list[Outcome]:
    """Run a market with each profile, and count.

    Raises:
        FlowvaultError: a stage ended with it.
    """
    outcomes = []
    for profile in PROFILES:
        print(f"{market}: {profile}", file=sys.stderr, flush=True)
        tables = [f'[{name}]\nprofile = "{profile}"\n' for name in JUDGES]
        (root / FILE).write_text("\n".join(tables), encoding="utf-8")
        parts, met = [], None
        for instrument in instruments:
            _judge(Vault.open(root), instrument)
            ipu, signals = (_rows(root, f"{name}_{frame}", instrument) for name in JUDGES)
            parts.append(count(ipu, signals, BARS_A_DAY[frame]))
            truth = _lines(VaultPaths(root).raw(instrument, "truth"))
            if truth and frame == "5m":
                here = meetings(truth, ipu, signals)
                met = here if met is None else add(met, here)
        outcomes.append(Outcome(market, profile, together(parts, BARS_A_DAY[frame]), met or ()))
    return outcomes


def _judge(vault: Vault, instrument: Instrument) -> None:
    """Bring the layers up to date; those that another profile has made are made again."""
    chain = stages.with_upstream(JUDGES)
    for stage in [each for each in chain if each.name in JUDGES]:
        if vault.paths.state(stage.name, instrument).is_file():
            rebuild_stage(vault, stage, instrument)
    for done in run_stages(vault, chain, instrument):
        if isinstance(done, FlowvaultError):
            raise done


def _rows(root: Path, name: str, instrument: Instrument) -> list[dict[str, Any]]:
    layer, _ = stages.layers()[name]
    path = VaultPaths(root).derived(layer.folder, instrument) / layer.file
    return _decoded(path) if path.is_file() else []


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.jsonl")) for row in _decoded(path)]


def _decoded(path: Path) -> list[dict[str, Any]]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def rates_table(outcomes: Sequence[Outcome], frame: str) -> Table:
    """Share and number a day of every signal and state, a column for each market and profile."""
    table = Table(title=f"Signals and momentum states, bars of {frame}: share (number a day)")
    table.add_column("")
    table.add_column("expected")
    for profile in PROFILES:
        table.add_column(f"measured before\n{profile}", justify="right")
    for each in outcomes:
        heading = f"{each.market}\n{each.profile}\n{each.rates.bars} bars"
        table.add_column(heading, justify="right")
    for line in LINES:
        known = (EXPECTED.get(line, ""), *MEASURED.get(line, ("", "")))
        if frame != "5m":
            known = ("", "", "")
        table.add_row(line, *known, *(_cell(each.rates, line) for each in outcomes))
    return table


def _cell(rates: Rates, line: str) -> str:
    share, a_day = rates.share(line), rates.a_day(line)
    if share is None or a_day is None:
        return "-"
    return f"{100 * share:.1f} % ({a_day:.1f})"


def met_table(outcomes: Sequence[Outcome]) -> Table:
    """How many planted events a signal met, and how many signals met an event."""
    table = Table(title="Planted events: recall (events met), precision (signals that met one)")
    for heading in ("event: signal", "profile", "recall", "precision"):
        table.add_column(heading)
    for each in outcomes:
        for met in each.met:
            recall = f"{_percent(met.recall)} ({met.found} of {met.events})"
            precision = f"{_percent(met.precision)} ({met.right} of {met.signals})"
            table.add_row(met.name, each.profile, recall, precision)
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


if __name__ == "__main__":
    sys.exit(main())
