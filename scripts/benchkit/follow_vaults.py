"""Vaults of one or many instruments with histories of different length, and what comes next.

One market is simulated and carried through all layers; every instrument of a vault is a copy of it
under a name of the same length, so that thirty days of ten instruments are made in the time of one.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import State
from pipeline.instrument import CONTRACTS_FILE, Instrument, packaged_table
from scripts.benchkit.cold import FLOWVAULT
from scripts.benchkit.place import INSTRUMENT, Place

SPAN_MS = 300_000
_TAIL_BYTES = 256
"""As many as the checksum of a raw file's end covers."""


@dataclass(frozen=True, slots=True)
class Candle:
    """The trades of five minutes as raw lines.

    Attributes:
        opened: when it began, as the layers write it.
        day: whose file the first trade belongs to.
        first: the first trade, which closes the candle before.
        more: the others.
        is_followed: whether the next trade comes soon enough to close it; one that is far ahead
            of all others is held until another one shows that the clock is right.
    """

    opened: str
    day: str
    first: bytes
    more: bytes
    is_followed: bool


def instruments(count: int) -> list[Instrument]:
    """Names that are as long as that of the simulated market."""
    return [Instrument("sim", "perps", f"B{number:02d}-USDT-SWAP") for number in range(count)]


def candles(files: Sequence[Path], instrument: Instrument) -> list[Candle]:
    """The trades of day files by candle; a candle without trades is none."""
    groups: dict[int, list[tuple[int, bytes]]] = {}
    data = b"".join(file.read_bytes() for file in files)
    for line in renamed(data, instrument).splitlines(keepends=True):
        at = int(msgspec.json.decode(line)["ts"])
        groups.setdefault(at // SPAN_MS, []).append((at, line))
    found = []
    following = [*(trades[0][0] for trades in groups.values()), math.inf][1:]
    for (number, trades), then in zip(groups.items(), following, strict=True):
        opened = datetime.fromtimestamp(number * SPAN_MS / 1000, tz=UTC)
        stamp = f"{opened:%Y-%m-%dT%H:%M:%SZ}"
        first, *more = (line for _, line in trades)
        is_followed = then - trades[-1][0] < SPAN_MS
        found.append(Candle(stamp, stamp[:10], first, b"".join(more), is_followed))
    return found


def renamed(data: bytes, instrument: Instrument) -> bytes:
    """Bytes of the simulated market as those of another instrument."""
    return data.replace(INSTRUMENT.inst_id.encode(), instrument.inst_id.encode())


def grown(place: Place, files: Sequence[Path]) -> Path:
    """A vault of the simulated market that has been carried through all layers."""
    place.say(f"making {len(files)} day(s) of all layers")
    root = place.fresh_vault(files)
    place.starter.run([*FLOWVAULT, "--vault", str(root), "run", "--all", "--json"])
    return root


def copied(place: Place, base: Path, names: Sequence[Instrument]) -> Path:
    """A vault in which every instrument has what the simulated market has in another one.

    Parquet files, which are never changed in place, are links. Of the raw files only the newest
    is there; the others are read.
    """
    place.say(f"copying them to {len(names)} instrument(s)")
    root = place.scratch(f"vault-of-{len(names)}")
    raw = VaultPaths(base).raw(INSTRUMENT, "trades")
    newest = max(raw.iterdir())
    left_out = {path for path in raw.iterdir() if path != newest}
    for source in base.rglob("*"):
        if INSTRUMENT.inst_id not in str(source) or not source.is_file() or source in left_out:
            continue
        for name in names:
            relative = str(source.relative_to(base))
            _copy(source, root / relative.replace(INSTRUMENT.inst_id, name.inst_id), name)
    for name in names:
        _settle_marks(root, name)
    _write_contracts(root, names)
    os.sync()  # or it would be written while something is timed
    return root


def _copy(source: Path, target: Path, instrument: Instrument) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".parquet":
        os.link(source, target)
        return
    target.write_bytes(renamed(source.read_bytes(), instrument))
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _write_contracts(root: Path, names: Sequence[Instrument]) -> None:
    known = packaged_table()[INSTRUMENT.key]
    text = "".join(f'{key} = "{value}"\n' for key, value in known.items())
    tables = "".join(f'["{each.key}"]\n{text}' for each in names)
    (root / CONTRACTS_FILE).write_text(tables, encoding="utf-8")


def _settle_marks(root: Path, instrument: Instrument) -> None:
    """Have the states speak of the copy."""
    file = max(VaultPaths(root).raw(instrument, "trades").iterdir())
    for path in (root / "state").rglob(f"{instrument.inst_id}.state*.json"):
        body = path.read_bytes()
        state = msgspec.json.decode(body[body.index(b'"state":') + 8 : -2], type=State)
        for marks in state.raw.values():
            mark = marks[-1]
            data = file.read_bytes()[: mark.offset]
            mark.head = zlib.crc32(data[: mark.head_length])
            mark.tail = zlib.crc32(data[-_TAIL_BYTES:])
            mark.crc = zlib.crc32(data)
            mark.size, mark.mtime_ns = file.stat().st_size, file.stat().st_mtime_ns
        path.write_bytes(states.encode(state))
