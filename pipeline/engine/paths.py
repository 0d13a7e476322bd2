"""Where things lie in a vault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.instrument import CRYPTO, EQUITIES, Instrument

KINDS = ("trades", "books", "quotes", "open_interest", "positions")
MARKETS = ("perps", "spot", EQUITIES)
TAPE_EXCHANGE, TAPE_KINDS = "taq", ("trades", "quotes")
"""Equities: the one exchange folder, and its kinds; these folders do not say the market."""
PROVIDERS = {
    "open_interest": "coinalyze/open_interest",
    "liquidations": "coinalyze/liquidations",
    "ratio": "coinalyze/long_short_ratio",
}
"""Feeds of other providers, by instrument; an exchange's own feed of the same kind goes before."""
COMMON = {"whale_alerts": "whale_alert/transactions"}
"""Feeds that are the same for every instrument but those that have one of their own."""


@dataclass(frozen=True, slots=True)
class VaultPaths:
    """The layout below a vault's root; nothing here opens a file."""

    root: Path

    def raw(self, instrument: Instrument, kind: str) -> Path:
        """Folder of an instrument's day files."""
        if instrument.market == EQUITIES:
            return self.root / "raw" / instrument.exchange / kind / instrument.inst_id
        own = self.root / "raw" / instrument.exchange / f"{kind}_{instrument.market}"
        is_others = kind in PROVIDERS or kind in COMMON
        if not is_others or (own / instrument.inst_id).is_dir():
            return own / instrument.inst_id
        if kind in COMMON:
            return self.root / "raw" / COMMON[kind]
        return self.root / "raw" / PROVIDERS[kind] / instrument.inst_id

    def derived(self, stage: str, instrument: Instrument) -> Path:
        """Folder of a stage's output files."""
        where = (instrument.exchange, instrument.market, instrument.inst_id)
        return self.root.joinpath("derived", stage, *where)

    def quarantine(self, instrument: Instrument, kind: str) -> Path:
        """Folder of an instrument's bad lines, by day of the source file."""
        folder = f"{kind}_{instrument.market}"
        return self.root / "quarantine" / instrument.exchange / folder / instrument.inst_id

    def state_dir(self, stage: str, instrument: Instrument) -> Path:
        """Folder of a stage's state files."""
        return self.root / "state" / stage / instrument.exchange / instrument.market

    def state(self, stage: str, instrument: Instrument) -> Path:
        """The state file: the one record of what is committed."""
        return self.state_dir(stage, instrument) / f"{instrument.inst_id}.state.json"

    def lock(self, stage: str, instrument: Instrument) -> Path:
        """The lock file; it stays in place when the lock is free."""
        return self.state_dir(stage, instrument) / f"{instrument.inst_id}.lock"

    def rebuild(self, stage: str, instrument: Instrument) -> Path:
        """Where a rebuild works until it is swapped in."""
        return self.state_dir(stage, instrument) / f"{instrument.inst_id}.rebuild"

    def imports(self, instrument: Instrument, kind: str) -> Path:
        """Folder of what imports have written down about an instrument's day files."""
        folder = f"{kind}_{instrument.market}"
        return self.root / "state" / "import" / instrument.exchange / folder / instrument.inst_id

    def relative(self, path: Path) -> str:
        """A path below the vault with forward slashes."""
        return path.relative_to(self.root).as_posix()


def find_instruments(vault: Path) -> Iterator[Instrument]:
    """Every instrument that has a raw folder of a known kind and market, in order."""
    raw = vault / "raw"
    found = set()
    for folder in sorted(raw.glob("*/*")) if raw.is_dir() else ():
        market = _market_of(folder)
        if market is not None:
            found |= {
                Instrument(folder.parent.name, market, each.name)
                for each in folder.iterdir()
                if each.is_dir()
            }
    yield from sorted(found)


def _market_of(folder: Path) -> str | None:
    """The market of a folder of raw data by instrument; None for any other folder."""
    if folder.parent.name == TAPE_EXCHANGE:
        return EQUITIES if folder.name in TAPE_KINDS and folder.is_dir() else None
    kind, _, market = folder.name.rpartition("_")
    return market if kind in KINDS and market in CRYPTO and folder.is_dir() else None


def instruments_of(paths: VaultPaths, stage: str) -> list[Instrument]:
    """Every instrument that a stage has a state for, in order."""
    found = set()
    for end in (".state.json", ".state.prev.json"):  # while a commit renames there is one of them
        for path in (paths.root / "state" / stage).glob(f"*/*/*{end}"):
            exchange, market = path.parent.parent.name, path.parent.name
            found.add(Instrument(exchange, market, path.name.removesuffix(end)))
    return sorted(found)
