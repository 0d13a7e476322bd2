"""What a format of archives is: declarations, one file a source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

BUY, SELL = 1, -1
TAKER = {"buy": BUY, "sell": SELL}
BUYER_IS_MAKER = {"true": SELL, "false": BUY}
YES, NO = 2, -2


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be seen of a file before it is read.

    Attributes:
        path: the archive's.
        member: name of the file in it, "" where the archive is the file.
        names: of its columns: of its header, or else those declared for a file without.
        first: texts of the first row by role.
    """

    path: PurePath
    member: str
    names: tuple[str, ...]
    first: Mapping[str, str]

    @property
    def file(self) -> str:
        """Name of the file itself, without its endings."""
        name = PurePath(self.member or self.path.name).name
        return re.sub(r"(\.(csv|zip|gz|zst|tar|tgz|data|json|jsonl|parquet|txt))+$", "", name)

    @property
    def folders(self) -> frozenset[str]:
        """Names of the folders above it, in small letters."""
        return frozenset(part.lower() for part in self.path.parts[:-1])


@dataclass(frozen=True, slots=True)
class Where:
    """Where records belong; None for what cannot be told."""

    exchange: str | None = None
    market: str | None = None
    inst_id: str | None = None


@dataclass(frozen=True, slots=True)
class Bare:
    """The columns of files without a header, by role, and what they tell about the market."""

    roles: tuple[str, ...]
    market: str | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of archive.

    Attributes:
        name: for `--format`.
        text: what it is, in a line.
        kind: of raw data.
        variant: of the exchange's records, see `records`.
        header: names that a header must have to be this format's.
        roles: what columns are, by their name in a header.
        bare: files without a header.
        words: meaning of words.
        kept: times and words that are needed; the first one orders the rows and tells the day.
        where: exchange, market and instrument of a file.
        is_json: lines of JSON instead of a table.
    """

    name: str
    text: str
    kind: str
    variant: str
    where: Callable[[Seen], Where]
    header: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    bare: tuple[Bare, ...] = ()
    words: Mapping[str, int] = field(default_factory=dict)
    kept: tuple[str, ...] = ("time",)
    is_json: bool = False


def named(name: str) -> str:
    """A column's name as formats declare it: small letters, what stands before a slash.

    OKX once put a Chinese name behind each English one.
    """
    return name.strip().lower().partition("/")[0]
