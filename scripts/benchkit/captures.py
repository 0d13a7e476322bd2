"""Where recorded market data lies, if this machine has any."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument

VARIABLE = "FLOWVAULT_CAPTURES"
ROOT = Path(__file__).resolve().parents[2]


def find_captures(named: Path | None = None) -> Path | None:
    """The vault of recorded data: the one named, else `$FLOWVAULT_CAPTURES`, else beside this tree.

    Returns:
        The folder that holds `raw`, None if there is none.
    """
    text = os.environ.get(VARIABLE)
    folder = named or (Path(text) if text else ROOT.parent / "shared" / "data" / "vault")
    return folder if (folder / "raw").is_dir() else None


def recorded(captures: Path, instrument: Instrument, kind: str, day: str) -> Iterator[bytes]:
    """The lines of one recorded day, each with its end."""
    folder = VaultPaths(captures).raw(instrument, kind)
    with gzip.open(folder / f"{day}.jsonl.gz", "rb") as lines:
        yield from lines
