"""`flowvault explain` reads as much of a vault of many days as of one of few."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.explain import explain
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument

from .conftest import NewWorld
from .test_explain import times_of
from .world import Grain, World, chain, grain

HOUSE = Instrument("elsewhere", "spot", "LONG-RUN")
LAST = datetime(2024, 3, 9, tzinfo=UTC)
MINUTES, PART_ROWS = 20, 80
FEW, MANY = 5, 13
COUNTER = Path("/proc/self/io")
TIMES_LONGER = 2.2
MORE_BYTES, MORE_FILES = 60_000, 6
"""What halving a longer list of rows or files may cost, and marks of more days in states."""
WINDOWS = """
[volume]
window = 20
[impact]
window = 20
[wicks]
expiry_days = 2
[vcp]
lookback = 3
vcp_min_bars = 2
oi_max_age_s = 60
[ipu]
window = 3
window_min = 2
[clusters]
min_rows = 20
window = 10
"""
"""Looking back over no more than a few days."""

Rows = list[dict[str, Any]]


def day_lines(day: datetime) -> dict[str, Rows]:
    """Some minutes of trades, books and quotes, the same numbers every day."""
    rng = random.Random(5)
    found: dict[str, Rows] = {"trades": [], "books": [], "quotes": []}
    mid = 10_000
    for second in range(0, MINUTES * 60, 30):
        ts = int((day + timedelta(hours=9, seconds=second)).timestamp() * 1000)
        mid += rng.choice((-3, -1, 0, 1, 3))
        sides = {
            side: [
                [f"{(mid + sign * (1 + 2 * rank)) / 100:.2f}", str(rng.randrange(1, 9))]
                for rank in range(12)
            ]
            for side, sign in (("bids", -1), ("asks", 1))
        }
        bid, ask = sides["bids"][0], sides["asks"][0]
        found["books"].append({"ts": ts, **sides})
        quote = {"bid": bid[0], "bid_size": bid[1], "ask": ask[0], "ask_size": ask[1]}
        found["quotes"].append({"ts": ts + 5, **quote})
        for each in range(2):
            price, size = (bid, ask)[each][0], f"{rng.randrange(1, 90) / 10}"
            trade = {"ts": ts + rng.randrange(6, 9000), "price": price, "size": size}
            trade["id"] = f"{day:%d}-{second}-{each}"
            found["trades"].append(trade | {"side": ("sell", "buy")[each]})
    return found


@pytest.fixture(scope="module")
def vaults(new_world: NewWorld) -> dict[int, World]:
    """Vaults that end with the same day."""
    found = {}
    for count in (FEW, MANY):
        world = new_world(HOUSE)
        for back in reversed(range(count)):
            day = LAST - timedelta(days=back)
            for kind, rows in day_lines(day).items():
                text = "".join(json.dumps(row) + "\n" for row in rows)
                world.put({f"{kind}/{day:%Y-%m-%d}": text.encode()})
        world.settings(WINDOWS)
        text = f'["{HOUSE.key}"]\ntick = "0.01"\n'
        (world.root / "instruments.toml").write_text(text, encoding="utf-8")
        with grain(Grain(part_rows=PART_ROWS, piece_rows=PART_ROWS)):
            world.run()
        found[count] = world
    return found


@dataclass
class Reads:
    """Bytes read from files, by path."""

    by_path: dict[Path, int] = field(default_factory=dict)
    told: int = 0
    """The same as the system counts."""

    def note(self, path: Path, count: int) -> None:
        self.by_path[path] = self.by_path.get(path, 0) + count

    @property
    def bytes(self) -> int:
        return sum(self.by_path.values())

    def files(self, world: World) -> dict[str, int]:
        """How many files of each folder of the vault."""
        found: dict[str, int] = {}
        for path in self.by_path:
            top = "/".join(path.relative_to(world.root).parts[:2])
            found[top] = found.get(top, 0) + 1
        return found


class Counted(io.FileIO):
    """A file that counts what is read from it, by whatever buffer."""

    def __init__(self, path: Path, reads: Reads) -> None:
        super().__init__(path)
        self._path, self._reads = path, reads

    def readinto(self, buffer: Any) -> int:
        """As a buffer reads."""
        count = super().readinto(buffer) or 0
        self._reads.note(self._path, count)
        return count

    def readall(self) -> bytes:
        """All that is left."""
        data = super().readall()
        self._reads.note(self._path, len(data))
        return data


@contextmanager
def counting() -> Iterator[Reads]:
    """Count what is read through paths meanwhile."""
    reads, opened = Reads(), Path.open

    def counted_open(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode != "rb":
            return opened(self, mode, *rest, **more)
        return io.BufferedReader(Counted(self, reads))

    def counted_whole(self: Path) -> bytes:
        with Counted(self, reads) as stream:
            return stream.readall()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", counted_open)
        patch.setattr(Path, "read_bytes", counted_whole)
        yield reads


def bytes_so_far() -> int:
    """How many bytes this process has read, as the system counts; 0 where it does not."""
    if not COUNTER.exists():
        return 0
    fields = dict(line.split(": ") for line in COUNTER.read_text().splitlines())
    return int(fields["rchar"])


def told_layers(world: World) -> Iterator[tuple[str, int]]:
    """Every layer that the market has, and a time of a row of its last day."""
    for stage in chain():
        for layer in stage.layers:
            times = times_of(world, layer)
            if len(times) > 1:
                yield layer.name, times[-2]


def read_for(world: World, layer: str, at: int) -> Reads:
    vault = Vault.open(world.root)
    with grain(Grain(part_rows=PART_ROWS, piece_rows=PART_ROWS)), counting() as reads:
        before = bytes_so_far()
        explain(vault, HOUSE, layer, at)
        reads.told = bytes_so_far() - before
    return reads


def test_what_is_read_does_not_grow_with_history(vaults: dict[int, World]) -> None:
    few, many = (vaults[count] for count in (FEW, MANY))
    tried = set()
    for name, at in told_layers(few):
        short, long = read_for(few, name, at), read_for(many, name, at)
        message = f"{name}: {short.bytes:,} bytes, then {long.bytes:,}"
        assert 0 < long.bytes <= 1.4 * short.bytes + MORE_BYTES, message
        before = short.files(few)
        for folder, count in long.files(many).items():
            assert count <= before.get(folder, 0) + MORE_FILES, f"{name}: {folder}"
        tried.add(name)
    assert tried >= {"trades", "signals_mtf", "confluence_1m", "clusters", "model", "maker_1s"}


def test_the_longer_history_is_longer(vaults: dict[int, World]) -> None:
    """What the other test would see if something were read as a whole."""
    trees = [
        [file for top in ("derived", "raw") for file in (vaults[count].root / top).rglob("*.*")]
        for count in (FEW, MANY)
    ]
    few, many = ([file for file in tree if file.is_file()] for tree in trees)
    assert len(many) > TIMES_LONGER * len(few) > 20 * MORE_FILES
    sizes = [sum(file.stat().st_size for file in tree) for tree in (few, many)]
    assert sizes[1] > TIMES_LONGER * sizes[0] > 20 * MORE_BYTES


@pytest.mark.skipif(not COUNTER.exists(), reason="the system does not count what is read")
def test_nothing_is_read_that_is_not_counted(vaults: dict[int, World]) -> None:
    world = vaults[FEW]
    for name, at in told_layers(world):
        if name in ("clusters", "confluence_1m", "micro_1m"):
            read_for(world, name, at)  # may import and compile
            reads = read_for(world, name, at)
            assert reads.bytes <= reads.told <= 1.05 * reads.bytes
