"""A small market with everything in it that makes the commit protocol work for its living.

Two day files of OKX trades around a midnight: id gaps, repeated ids, trades of closed minutes,
garbage, a record from the future, an empty line, a first day that ends in a torn line. Parquet
parts are small, so that every run rewrites a last part and now and then fills some.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.runner import run_stage
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument
from pipeline.stage import Stage

INSTRUMENT = Instrument("okx", "perps", "BTC-USDT-SWAP")
DAYS = ("2024-03-05", "2024-03-06")
MIDNIGHT_MS = 1_709_683_200_000
PART_ROWS, PIECE_ROWS = 150, 40
_BAD = (
    b"\xff\xfe\x00 garbage\n",
    b'{"instId":"BTC-USDT-SWAP","tradeId":"7","px":"NaN","sz":"1","side":"buy","ts":"1709683200000"}\n',
    b'{"instId":"BTC-USDT-SWAP","tradeId":"8","px":"61000.1","sz":"-1","side":"buy"}\n',
    b'{"instId":"ETH-USDT-SWAP","tradeId":"9","px":"1","sz":"1","side":"buy","ts":"1709683200000"}\n',
)

_plain = stages.load("trades")
_layer, *_gaps = _plain.layers
TRADES: Stage[Any, Any] = replace(
    _plain, layers=(replace(_layer, part_rows=PART_ROWS, piece_rows=PIECE_ROWS), *_gaps)
)
BARS: Stage[Any, Any] = stages.load("bars")
VOLUME: Stage[Any, Any] = stages.load("volume")
CHAIN = (TRADES, BARS, VOLUME)
STAGES = tuple(stage.name for stage in CHAIN)
RUN = ("run", "--all", *(word for name in STAGES for word in ("--stage", name)))
"""The command that runs these stages."""

Tree = dict[str, bytes]
"""{path below the vault: content}."""


def use_small_parts() -> None:
    """Make the command line of this process cut Parquet parts as `TRADES` does."""
    from pipeline.stages import trades

    trades.STAGE = TRADES
    stages.all_stages.cache_clear()
    stages.layers.cache_clear()


# -- raw bytes -------------------------------------------------------------


@dataclass(frozen=True)
class Raw:
    """The whole of the raw bytes; a position counts through the day files in order."""

    days: Mapping[str, bytes]

    @property
    def total(self) -> int:
        """The last position."""
        return sum(len(content) for content in self.days.values())

    def upto(self, position: int) -> Tree:
        """The day files as they are when the collector has written so many bytes."""
        found: Tree = {}
        for day, content in self.days.items():
            if position > 0:
                found[day] = content[:position]
            position -= len(content)
        return found

    def without_rests(self) -> Raw:
        """Without lines that are torn: a collector can go on behind any whole line."""
        return Raw({day: data[: data.rfind(b"\n") + 1] for day, data in self.days.items()})

    def cuts(self, seed: int, runs: int) -> list[int]:
        """Positions after which a run is made: odd places, the last one the end."""
        inner = sorted(random.Random(seed).sample(range(1, self.total), runs - 1))
        return [*inner, self.total]


def trade(number: int, ts: int, cents: int, size: int, side: str) -> bytes:
    """One flat OKX trade."""
    row = {
        "instId": INSTRUMENT.inst_id,
        "tradeId": str(number),
        "px": f"{cents // 10}.{cents % 10}",
        "sz": f"{size // 100}.{size % 100:02d}",
        "side": side,
        "ts": str(ts),
    }
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def make_raw(seed: int = 1, trades: int = 1200, minutes: int = 60, *, late: bool = True) -> Raw:
    """Two day files; bad lines stay well below one in a hundred."""
    rng = random.Random(seed)
    start = MIDNIGHT_MS - minutes * 30_000
    stamps = sorted(start + rng.randrange(minutes * 60_000) for _ in range(trades))
    days = {day: bytearray() for day in DAYS}
    number, cents, skipped, recent = 1_000_000, 610_000, 0, b""
    for count, ts in enumerate(stamps):
        number += 1
        if rng.random() < 0.02:
            skipped, number = number, number + rng.randrange(1, 4)
        cents += rng.randrange(-40, 41)
        size = rng.choice((1, 50, 300, 20_000)) + rng.randrange(100)
        line = trade(number, ts, cents, size, rng.choice(("buy", "sell")))
        out = days[DAYS[0] if ts < MIDNIGHT_MS else DAYS[1]]
        out += line
        if rng.random() < 0.02 and recent:
            out += recent
        if late and skipped and rng.random() < 0.03:
            out += trade(skipped, ts - 150_000, cents, 77, "buy")
            skipped = 0
        if rng.random() < 0.003:
            out += rng.choice(_BAD)
        if count == trades // 3:
            out += b"\n" + trade(number + 500_000, ts + 3_600_000, cents, 5, "buy")
        recent = line
    days[DAYS[0]] += b'{"instId":"BTC-USDT-SWAP","tradeId":"1'
    return Raw({day: bytes(content) for day, content in days.items()})


def raw_file(vault: Path, day: str) -> Path:
    """Where a day's raw file lies."""
    return VaultPaths(vault).raw(INSTRUMENT, "trades") / f"{day}.jsonl"


def grow(vault: Path, raw: Raw, position: int) -> None:
    """Append to the raw files what is missing up to a position, as a collector would."""
    for day, content in raw.upto(position).items():
        path = raw_file(vault, day)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        with path.open("ab") as stream:
            stream.write(content[stream.tell() :])


def growing(vault: Path, raw: Raw, cuts: Sequence[int]) -> Iterator[int]:
    """Let the raw files grow cut by cut; a run belongs behind each step."""
    for position in cuts:
        grow(vault, raw, position)
        yield position


# -- runs ------------------------------------------------------------------


def run_chain(vault: Path, chain: Sequence[Stage[Any, Any]] = CHAIN) -> None:
    """Bring the stages up to date, in this process."""
    opened = Vault.open(vault)
    for stage in chain:
        run_stage(opened, stage, INSTRUMENT)


def batch(vault: Path, raw: Raw) -> Truth:
    """One run over everything in a new vault."""
    grow(vault, raw, raw.total)
    run_chain(vault)
    return Truth(raw, tree(vault), ledger(vault))


# -- what is there ---------------------------------------------------------


def tree(vault: Path, tops: Sequence[str] = ("derived", "quarantine")) -> Tree:
    """Every file below derived/ and quarantine/, leftovers included."""
    found: Tree = {}
    for top in tops:
        for folder, _, names in os.walk(vault / top):
            for name in names:
                path = Path(folder) / name
                if path.suffix != ".lock":
                    found[path.relative_to(vault).as_posix()] = path.read_bytes()
    return found


def ledger(vault: Path) -> dict[str, Any]:
    """What the states say is committed, without what may differ between ways of getting there."""
    found: dict[str, Any] = {}
    for stage in CHAIN:
        state, _ = states.load(VaultPaths(vault).state(stage.name, INSTRUMENT))
        if state is not None:
            plain = msgspec.to_builtins(state)
            marks = plain["raw"].get("trades", ())
            read = [(mark["name"], mark["offset"], mark["crc"]) for mark in marks]
            keys = ("outputs", "parts", "counts", "watermark_us", "upstream", "carry")
            found[stage.name] = {key: plain[key] for key in keys} | {"read": read}
    return found


@dataclass(frozen=True)
class Truth:
    """What one undisturbed run over all raw bytes leaves behind."""

    raw: Raw
    tree: Tree
    ledger: dict[str, Any]

    def fault(self, vault: Path) -> str | None:
        """The first way in which a vault that has read everything differs; None if in none."""
        found = tree(vault)
        for path in sorted({*found, *self.tree}):
            left, right = found.get(path), self.tree.get(path)
            if left is None or right is None:
                return f"{path}: {'missing' if left is None else 'should not be there'}"
            if left != right:
                at = next(
                    (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
                    min(len(left), len(right)),
                )
                return f"{path}: {len(left)} bytes for {len(right)}, first difference at {at}"
        said = ledger(vault)
        for stage, entries in self.ledger.items():
            for key, value in entries.items():
                if said.get(stage, {}).get(key) != value:
                    return f"state of {stage}: {key} is {said.get(stage, {}).get(key)} for {value}"
        return None

    def check(self, vault: Path, what: object = "") -> None:
        """Fail the test if the vault differs."""
        found = self.fault(vault)
        assert found is None, f"{what}: {found}"


def copy_vault(source: Path, target: Path) -> Path:
    """A copy with the raw files' times, as the states remember them."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
