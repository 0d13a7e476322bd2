"""A vault whose settings have been read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import stages, tables
from pipeline.engine.paths import VaultPaths
from pipeline.instrument import load_table
from pipeline.settings import Settings


@dataclass(frozen=True)
class Vault:
    """A vault's root with its settings and contract table."""

    root: Path
    settings: Settings
    table: dict[str, dict[str, str]]

    @classmethod
    def open(cls, root: Path) -> Vault:
        """Read the settings files of a vault.

        Raises:
            UsageError: one of them is wrong.
        """
        names = frozenset((*stages.SUMMARY, *tables.SUMMARY))
        return cls(root, Settings.load(root, names), load_table(root))

    @property
    def paths(self) -> VaultPaths:
        """Where things lie."""
        return VaultPaths(self.root)
