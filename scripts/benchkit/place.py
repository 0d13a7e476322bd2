"""The temporary folder of a benchmark: simulated markets, and vaults that share their files."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from pipeline.sim import write_market
from scripts.benchkit.cold import FLOWVAULT, Cold, Starter

INSTRUMENT = Instrument("sim", "perps", "BTC-USDT-SWAP")
STAGES = ("trades", "bars", "volume")
TRADE_STAGES = (
    *STAGES,
    "cvd",
    "vwap",
    "footprint",
    "profile",
    "wicks",
    "extremes",
    "vpin",
    "impact",
)
_PIECE = 1 << 22


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured; the defaults are the full benchmark, `QUICK` is for its test."""

    day_speed: float = 23.15
    big_speed: float = 115.7
    warm_ups: int = 1
    repetitions: int = 7
    history_speed: float = 2.0
    history_days: tuple[int, ...] = (1, 10, 30)
    minutes: int = 12
    process_minutes: int = 40
    memory_runs: int = 3
    layer_repetitions: int = 5
    layer_history_days: tuple[int, ...] = (1, 30)
    layer_memory_runs: int = 2
    part_runs: int = 5
    helps: int = 15
    book_hours: float | None = None
    book_ms: int = 1000
    depth_minutes: tuple[int, int, int] = (10, 60, 600)
    depth_runs: int = 3
    depth_part: int = 6000
    depth_part_runs: int = 3
    import_rows: int = 17_000_000
    import_runs: int = 3
    follow_speed: float = 0.5
    follow_days: tuple[int, ...] = (1, 30)
    follow_warm_up: int = 3
    follow_rounds: tuple[tuple[int, int], ...] = ((1, 300), (10, 30))
    """For so many instruments, how many candles."""


QUICK = Sizes(
    day_speed=0.2,
    big_speed=0.4,
    warm_ups=0,
    repetitions=1,
    history_speed=0.1,
    history_days=(1, 2),
    minutes=1,
    process_minutes=1,
    memory_runs=1,
    layer_repetitions=1,
    layer_history_days=(1, 2),
    layer_memory_runs=1,
    part_runs=1,
    helps=1,
    book_hours=0.5,
    book_ms=60_000,
    depth_minutes=(2, 3, 4),
    depth_runs=1,
    depth_part=500,
    depth_part_runs=1,
    import_rows=20_000,
    import_runs=1,
    follow_speed=0.1,
    follow_warm_up=1,
    follow_days=(1,),
    follow_rounds=((2, 2),),
)


class Place:
    """Everything a row needs: the sizes, a starter, markets (made once) and fresh vaults."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        self.starter = Starter(folder)
        self._numbers = itertools.count(1)
        self._markets: dict[str, list[Path]] = {}

    def say(self, text: str) -> None:
        """Tell the progress."""
        print(f"  {text}", file=sys.stderr, flush=True)

    def market(self, *, speed: float, days: int = 1) -> list[Path]:
        """The trade files of a simulated market, in the page cache, made when first asked for."""
        key = f"market-{speed:g}-{days}"
        if key not in self._markets:
            root = self.folder / key
            self.say(f"simulating {days} day(s) of {speed * 86400:,.0f} trades")
            write_market(
                root,
                inst_id=INSTRUMENT.inst_id,
                speed=speed,
                days=days,
                books=False,
                quotes=False,
            )
            files = sorted(VaultPaths(root).raw(INSTRUMENT, "trades").iterdir())
            for file in files:
                settle(file)
            self._markets[key] = files
        for file in self._markets[key]:
            warm(file)
        return self._markets[key]

    def fresh_vault(self, files: Sequence[Path]) -> Path:
        """A vault without derived data; the raw files are links."""
        root = self.folder / f"vault-{next(self._numbers)}"
        raw = VaultPaths(root).raw(INSTRUMENT, "trades")
        raw.mkdir(parents=True)
        for file in files:
            os.link(file, raw / file.name)
        return root

    def scratch(self, name: str) -> Path:
        """A path for a file or folder that is not there yet."""
        return self.folder / f"{next(self._numbers)}-{name}"

    def run_stages(
        self, root: Path, stages: Sequence[str] = STAGES, instrument: Instrument = INSTRUMENT
    ) -> Cold:
        """`flowvault run` of some stages in a cold process."""
        return self.starter.run([*FLOWVAULT, *run_arguments(root, stages, instrument)])

    def drop(self, path: Path) -> None:
        """Remove a folder that is no longer needed."""
        shutil.rmtree(path)


def run_arguments(
    root: Path, stages: Sequence[str], instrument: Instrument = INSTRUMENT
) -> list[str]:
    """The arguments of the measured command."""
    named = [word for name in stages for word in ("--stage", name)]
    return ["--vault", str(root), "run", *instrument.options.split(), *named, "--json"]


def settle(file: Path) -> None:
    """Have a new file written to disk now and not while something is timed."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def warm(file: Path) -> None:
    """Bring a file into the page cache."""
    with file.open("rb") as stream:
        while stream.read(_PIECE):
            pass


def count_lines(file: Path) -> int:
    """How many lines a file has."""
    with file.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(_PIECE), b""))
