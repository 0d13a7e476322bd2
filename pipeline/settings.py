"""`flowvault.toml`: a table per stage, and per stage a table per instrument.

    [volume]
    whale_notional = 250000

    [volume."okx/perps/ETH-USDT-SWAP"]
    whale_notional = 100000

Defaults live with the stages. A key that no stage knows is an error that names it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pipeline.errors import UsageError
from pipeline.instrument import Instrument

FILE = "flowvault.toml"
P = TypeVar("P", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Settings:
    """The content of a vault's settings file (empty if there is none)."""

    path: Path
    tables: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, vault: Path, stage_names: frozenset[str]) -> Settings:
        """Read and check the names of the tables.

        Raises:
            UsageError: not TOML, or a table is no stage.
        """
        path = vault / FILE
        if not path.is_file():
            return cls(path, {})
        try:
            text = path.read_text(encoding="utf-8-sig")
            tables = tomllib.loads(text, parse_float=Decimal)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}", f"edit {path}") from error
        return cls.of(path, tables, stage_names)

    @classmethod
    def of(cls, path: Path, tables: dict[str, Any], stage_names: frozenset[str]) -> Settings:
        """Settings that have been read already; `path` is what messages call them.

        Raises:
            UsageError: a table is no stage.
        """
        for name, table in tables.items():
            if name not in stage_names or not isinstance(table, dict):
                known = ", ".join(sorted(stage_names))
                raise UsageError(
                    f"{path}: [{name}] is not a stage; stages: {known}", f"edit {path}"
                )
        return cls(path, tables)

    def params(self, stage: str, kind: type[P], instrument: Instrument) -> P:
        """The parameters of a stage for an instrument: its own over the stage's over defaults.

        Raises:
            UsageError: a key is unknown or a value is of the wrong kind.
        """
        table = self.tables.get(stage, {})
        fields = set(kind.__struct_fields__)
        general = {k: v for k, v in table.items() if k in fields or not isinstance(v, dict)}
        own = table.get(instrument.key, {})
        self._check_keys(stage, kind, table)
        try:
            return msgspec.convert({**general, **own}, kind, strict=False)
        except msgspec.ValidationError as error:
            where = f'[{stage}] or [{stage}."{instrument.key}"]'
            raise UsageError(f"{self.path}: {where}: {error}", f"edit {self.path}") from error

    def table_params(self, name: str, kind: type[P]) -> P:
        """The parameters of a market-wide table, which has none for single instruments.

        Raises:
            UsageError: a key is unknown or a value is of the wrong kind.
        """
        table = self.tables.get(name, {})
        for key in table:
            if key not in kind.__struct_fields__:
                keys = ", ".join(sorted(kind.__struct_fields__)) or "none"
                message = f"{self.path}: [{name}] has no key {key!r}; keys: {keys}"
                raise UsageError(message, f"edit {self.path}")
        try:
            return msgspec.convert(table, kind, strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"{self.path}: [{name}]: {error}", f"edit {self.path}") from error

    def _check_keys(self, stage: str, kind: type[msgspec.Struct], table: dict[str, Any]) -> None:
        known = set(kind.__struct_fields__)
        for key, value in table.items():
            is_override = isinstance(value, dict) and key not in known
            names = value if is_override else (key,)
            if is_override and len(key.split("/")) != len(("exchange", "market", "INSTID")):
                message = f'{self.path}: [{stage}."{key}"] is not exchange/market/INSTID'
                raise UsageError(message, f"edit {self.path}")
            for name in names:
                if name not in known:
                    keys = ", ".join(sorted(known))
                    message = f"{self.path}: [{stage}] has no key {name!r}; keys: {keys}"
                    raise UsageError(message, f"edit {self.path}")
