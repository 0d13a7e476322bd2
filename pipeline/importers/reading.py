"""The files of an archive, recognised, with their rows in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.errors import DataError
from pipeline.importers.container import AGAIN, Archive, Peeked, is_parquet
from pipeline.importers.framing import Lines, blocks
from pipeline.importers.mapped import PARQUET
from pipeline.importers.recognise import Looked, Source, Wishes, recognise, recognise_columns

_HEAD_BYTES, _FIRST_ROWS = 1 << 16, 100


def contents(archive: Archive, wishes: Wishes) -> Iterator[tuple[Source, Iterator[Lines]]]:
    """What is in an archive; the blocks of a file must be read before the next file.

    Raises:
        FlowvaultError: it is damaged, or it is not known what it is.
    """
    path = archive.path
    if is_parquet(path):
        from pipeline.importers.parquet import ParquetFile  # noqa: PLC0415  (has polars)

        file = ParquetFile(path)
        source = recognise_columns(Looked(path, "", wishes), file.names)
        yield source, file.blocks(source.roles)
        archive.position = path.stat().st_size
        return
    is_empty = True
    for member in archive.members():
        stream = Peeked(member.stream)
        head = stream.peek(_HEAD_BYTES)
        if head or not member.name:
            source = recognise(Looked(path, member.name, wishes), head)
            stream.read(source.skip)
            yield source, blocks(stream, source.skip)
            is_empty = False
    if is_empty:
        raise DataError(f"{path}: there is nothing in it", AGAIN)


def first_source(path: Path, wishes: Wishes) -> Source:
    """The first file of an archive, recognised.

    Raises:
        FlowvaultError: it is damaged, or it is not known what it is.
    """
    for source, lines in contents(Archive(path), wishes):
        if source.format is not PARQUET:
            return source
        for block in lines:
            first = source.first_time(block.data.split(b"\n")[:_FIRST_ROWS], None)
            return replace(source, first_us=first)
        return source
    raise DataError(f"{path}: there is nothing in it", AGAIN)
