"""What an archive is: its format, the instrument, and where its records belong."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import NamedTuple

from pipeline.errors import DataError, UsageError
from pipeline.exact import NotANumberError, parse_decimal
from pipeline.importers import binance, convert, mapped, okx, tardis
from pipeline.importers.batch import Reader
from pipeline.importers.careful import OtherInstrumentError, read_row, read_time
from pipeline.importers.container import AGAIN
from pipeline.importers.form import Bare, Format, Seen, Where, named
from pipeline.importers.layout import Layout, first_that_fits, missing_roles
from pipeline.importers.mapped import roles_of, words_of
from pipeline.importers.okx_books import OkxBooks, read_book_line
from pipeline.importers.records import BOOKS, records
from pipeline.importers.table import TableReader
from pipeline.instrument import Instrument
from pipeline.raw.shape import BadRecordError

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (*binance.FORMATS, *okx.FORMATS, *tardis.FORMATS, mapped.CSV, mapped.PARQUET)
}
"""Every format by the name that `--format` takes."""

UNITS = {
    "auto": convert.AUTO,
    "s": convert.SECONDS,
    "ms": convert.MILLIS,
    "us": convert.MICROS,
    "ns": convert.NANOS,
}
"""What `--time-unit` takes."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_FIRST_ROWS = 100
_SAFE = re.compile(r"\w[\w.-]{0,99}")
_SIMULATED = "sim"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user has said about the archives; None for what is to be found out."""

    format: str | None = None
    exchange: str | None = None
    market: str | None = None
    inst_ids: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: str = "auto"

    @property
    def how(self) -> str:
        """The part of it that changes lines, in a word."""
        told = ",".join(f"{role}={column}" for role, column in sorted(self.columns.items()))
        return "" if not told and self.unit == "auto" else f"{told};{self.unit}"


@dataclass(frozen=True, slots=True)
class Source:
    """A file of an archive, recognised.

    Attributes:
        file: its name, for messages.
        told: the instrument that its name or its first row tells, None if neither does.
        inst_id: that, or the one that the user has named.
        roles: of its columns.
        skip: how many bytes of it are a header, which is one line if there is one.
        first_us: time of its first good row, None if none of the first rows is good.
    """

    file: str
    format: Format
    exchange: str
    market: str
    inst_id: str
    roles: tuple[str, ...] = ()
    words: Mapping[str, int] = field(default_factory=dict)
    unit: int = convert.AUTO
    skip: int = 0
    first_us: int | None = None
    told: str | None = None

    @property
    def header_lines(self) -> int:
        """How many lines of it are a header."""
        return int(self.skip > len(_BOM))

    @property
    def is_named(self) -> bool:
        """Whether its rows tell their instrument."""
        return self.format.is_json or "inst" in self.roles

    @property
    def instrument(self) -> Instrument:
        """The instrument whose records are read."""
        return Instrument(self.exchange, self.market, self.inst_id)

    def reader(self, inst_id: str) -> Reader:
        """What reads the records of one instrument."""
        if self.format.is_json:
            return OkxBooks(inst_id)
        layout = self.layout(inst_id)
        if self.format.variant == BOOKS:
            from pipeline.importers.tardis_books import TardisBooks  # noqa: PLC0415  (has polars)

            return TardisBooks(layout, self.exchange, self.market)
        return TableReader(layout)

    def layout(self, inst_id: str) -> Layout:
        """The rows of a table.

        Raises:
            UsageError: a record of the exchange needs a column that there is not.
        """
        return Layout(self.roles, self._record(), inst_id, self.words, self.format.kept, self.unit)

    def _record(self) -> str:
        if self.format.variant == BOOKS:
            from pipeline.importers.tardis_books import level_record  # noqa: PLC0415  (has polars)

            return level_record(self.exchange, self.market, self.file)
        known = records(self.exchange, self.format.variant)
        found = first_that_fits(known, self.roles)
        if found is not None:
            return found
        if not known:
            message = f"{self.file}: {self.exchange} has no {self.format.variant} here"
            raise UsageError(message, "--exchange NAME")
        missing = missing_roles(known[-1], self.roles)
        raise UsageError(
            f"{self.file}: a record of {self.exchange} needs {', '.join(missing)}, and no column "
            "is that",
            "flowvault import --map " + ",".join(f"{role}=COLUMN" for role in missing) + " …",
        )

    def first_time(self, rows: list[bytes], inst_id: str | None) -> int | None:
        """Time of the first good row."""
        layout = self.layout(inst_id or self.inst_id)
        for row in rows:
            try:
                found = read_row(row, 0, layout)
            except (BadRecordError, OtherInstrumentError):
                continue
            if found is not None:
                return found.kept[0]
        return None


class Looked(NamedTuple):
    """The file that is looked at: its archive, its name in it, and what the user has said."""

    path: PurePath
    member: str
    wishes: Wishes

    @property
    def file(self) -> str:
        """Its name, for messages."""
        return f"{self.path.name}/{self.member}" if self.member else self.path.name

    def where(self, format_: Format, names: Sequence[str], first: Mapping[str, str]) -> Where:
        """Where its format says that it belongs."""
        return format_.where(Seen(self.path, self.member, tuple(names), first))


def recognise(looked: Looked, head: bytes) -> Source:
    """Find out what a file is from its beginning.

    Raises:
        UsageError: something must be said that cannot be found out.
        DataError: it is not what it should be.
    """
    name = looked.path.name
    if head.startswith(_UTF16):
        message = f"{looked.file}: UTF-16 text; archives are UTF-8"
        raise DataError(message, f"iconv -f UTF-16 -t UTF-8 {name} > utf8-{name}")
    lines = [line for line in head.removeprefix(_BOM).split(b"\n") if line.strip()][:_FIRST_ROWS]
    if not lines:
        raise DataError(f"{looked.file}: there is nothing in it", AGAIN)
    if lines[0].lstrip().startswith(b"{"):
        return _of_json(looked, lines)
    start = len(_BOM) if head.startswith(_BOM) else 0
    behind_header = head.index(lines[0]) + len(lines[0]) + 1
    names = [named(each) for each in _fields(lines[0])]
    for format_ in _candidates(looked.wishes):
        if format_.header and format_.header <= set(names):
            roles = [format_.roles.get(each, "") for each in names]
            return _of_table(looked, format_, names, roles, behind_header, lines[1:])
        for bare in format_.bare:
            if len(bare.roles) == len(names) and _fits(looked, format_, bare, lines):
                columns = _names(format_, bare)
                return _of_table(looked, format_, columns, bare.roles, start, lines)
    if looked.wishes.format not in (None, mapped.CSV.name):
        raise _not_that(looked, lines[0])
    return _of_any(looked, lines, start, behind_header)


def recognise_columns(looked: Looked, names: Sequence[str]) -> Source:
    """The same for a Parquet file, whose columns are known; no row of it is looked at.

    Raises:
        UsageError: something must be said that cannot be found out.
    """
    format_ = mapped.PARQUET
    if looked.wishes.format not in (None, format_.name):
        message = f"{looked.file}: a Parquet file, not {looked.wishes.format}"
        raise UsageError(message, "leave --format out, or say --format parquet")
    roles, words = words_of(roles_of(names, looked.wishes.columns, looked.file))
    source = _source(looked, format_, Where(), roles)
    return replace(source, words=words)


def _candidates(wishes: Wishes) -> list[Format]:
    """Formats that it may be; a mapping means that its columns are those of none."""
    if wishes.format is not None:
        return [FORMATS[wishes.format]]
    # formats whose header has another's names and more go before that one
    return [] if wishes.columns else sorted(FORMATS.values(), key=lambda each: -len(each.header))


def _of_json(looked: Looked, lines: list[bytes]) -> Source:
    format_ = FORMATS["okx-l2"]
    if looked.wishes.format not in (None, format_.name):
        raise _not_that(looked, lines[0])
    for line in lines:
        try:
            book = read_book_line(line.strip())
            first_us = read_time(str(book.ts), convert.MILLIS)
        except BadRecordError:
            continue
        where = looked.where(format_, (), {"inst": book.inst_id})
        source = _source(looked, format_, where, ())
        if source.exchange != okx.EXCHANGE:
            message = f"{looked.file}: these books can be imported as okx only"
            raise UsageError(message, "leave --exchange out")
        return replace(source, first_us=first_us)
    raise DataError(
        f"{looked.file}: lines of JSON, but not the order books of OKX's archives; the first "
        f"one: {_shown(lines[0])}",
        "what a collector has written needs no import: copy it under raw/ of the vault",
    )


def _of_table(
    looked: Looked,
    format_: Format,
    names: Sequence[str],
    roles: Sequence[str],
    skip: int,
    rows: list[bytes],
) -> Source:
    first = _first(roles, rows)
    source = _source(looked, format_, looked.where(format_, names, first), roles)
    if format_ in tardis.FORMATS:
        note = tardis.contracts_note(source.exchange, source.inst_id)
        if note is not None:
            message = f"{looked.file}: {note}"
            raise UsageError(message, "make base units of them, then import --format csv")
    first_us = source.first_time(rows, first.get("inst"))
    return replace(source, skip=skip, first_us=first_us)


def _of_any(looked: Looked, lines: list[bytes], start: int, behind_header: int) -> Source:
    """A table whose columns are told, or known by their names."""
    told = looked.wishes.columns
    names = [each.strip() for each in _fields(lines[0])]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    if told and set(told.values()) <= set(numbers) and any(map(_is_number, names)):
        names, skip, rows = numbers, start, lines
    else:
        skip, rows = behind_header, lines[1:]
    roles, words = words_of(roles_of(names, told, looked.file))
    where = Where(None, None, _first(roles, rows).get("inst"))
    source = replace(_source(looked, mapped.CSV, where, roles), words=words)
    first_us = source.first_time(rows, where.inst_id)
    return replace(source, skip=skip, first_us=first_us)


def _is_number(text: str) -> bool:
    try:
        parse_decimal(text)
    except NotANumberError:
        return False
    return True


def _source(looked: Looked, format_: Format, where: Where, roles: Sequence[str]) -> Source:
    """A source whose place is known; what the user has said goes before what was found out."""
    wishes = looked.wishes
    exchange, market = wishes.exchange or where.exchange, wishes.market or where.market
    inst_id = wishes.inst_ids[0] if len(wishes.inst_ids) == 1 else where.inst_id
    if exchange is None or market is None or inst_id is None:
        told = {"--exchange": exchange, "--market": market, "-i": inst_id}
        missing = [option for option, value in told.items() if value is None]
        raise UsageError(
            f"{looked.file} ({format_.name}): nothing tells where it belongs; say "
            f"{', '.join(missing)}",
            "flowvault import " + " ".join(f"{each} …" for each in missing) + f" {looked.path}",
        )
    for value in (exchange, inst_id):
        if not _SAFE.fullmatch(value):
            raise UsageError(f"{looked.file}: {value!r} cannot be the name of a folder", "-i NAME")
    if exchange == _SIMULATED:
        message = f"{looked.file}: under exchange sim everything is simulated"
        raise UsageError(message, "--exchange NAME")
    unit = UNITS[wishes.unit]
    words = format_.words
    return Source(
        looked.file,
        format_,
        exchange,
        market,
        inst_id,
        tuple(roles),
        words,
        unit,
        told=where.inst_id,
    )


def _fits(looked: Looked, format_: Format, bare: Bare, lines: list[bytes]) -> bool:
    """Whether one of the first rows is one of a file without a header."""
    for line in lines[:3]:
        first = _first(bare.roles, [line])
        where = looked.where(format_, _names(format_, bare), first)
        unit = UNITS[looked.wishes.unit]
        source = Source(
            looked.file,
            format_,
            where.exchange or "",
            where.market or "",
            first.get("inst", ""),
            tuple(bare.roles),
            format_.words,
            unit,
        )
        try:
            read_row(line, 0, source.layout(source.inst_id))
        except (UsageError, BadRecordError, OtherInstrumentError):
            continue
        return True
    return False


def _names(format_: Format, bare: Bare) -> list[str]:
    """Names of the columns of a file without a header, as far as its format has some."""
    known = {role: name for name, role in format_.roles.items()}
    names = [known.get(role, "") for role in bare.roles]
    return [*names, "is_best_match"] if bare.market == "spot" else names


def _first(roles: Sequence[str], rows: list[bytes]) -> dict[str, str]:
    """The first row with as many fields, by role."""
    for row in rows:
        fields = _fields(row)
        if len(fields) == len(roles):
            return {role: value for role, value in zip(roles, fields, strict=True) if role}
    return {}


def _fields(line: bytes) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    try:
        return next(csv.reader([text]))
    except (csv.Error, StopIteration):
        return []


def _not_that(looked: Looked, line: bytes) -> DataError:
    return DataError(
        f"{looked.file}: not {looked.wishes.format}; its first line: {_shown(line)}",
        "leave --format out, or see flowvault import --help",
    )


def _shown(line: bytes) -> str:
    return line[:120].decode("utf-8", "backslashreplace").strip()
