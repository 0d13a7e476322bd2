"""SHA-256 of all that an explanation names, and counts of what was only told as a range."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.engine.codecs import FrameCodec
from pipeline.engine.explain import Explanation
from pipeline.engine.parts import is_part, part_name, read_part, span_of
from pipeline.engine.places import File
from pipeline.engine.rawfiles import chunks, day_files
from pipeline.engine.rawlines import RawLines
from pipeline.engine.spans import Spans

_PIECE = 1 << 20


def add_digests(root: Path, told: Explanation) -> None:
    """Read every range that is named, and write down what it hashes to.

    Of lines: of their bytes, with their ends, range behind range. Of rows of a Parquet layer: of
    the same rows as NDJSON, as polars writes them, since a file may be replaced by a longer one.
    """
    for source in told.sources:
        lines = 0
        for place, file in enumerate(source.files):
            source.files[place], count = _of_file(root, file)
            lines += count
        if source.rows is None:
            source.rows = lines
    for raw in told.raw:
        raw.files[:] = [_of_lines(root, part) for part in raw.files]
        raw.lines = sum(each.lines or 0 for each in raw.files)


def _of_file(root: Path, file: File) -> tuple[File, int]:
    is_lines = file.unit == "bytes"
    pieces = _bytes(root / file.path, file.ranges) if is_lines else _rows(root, file)
    sha256, lines = _hashed(pieces)
    return replace(file, sha256=sha256), lines


def _of_lines(root: Path, part: RawLines) -> RawLines:
    sha256, lines = _hashed(_unpacked(root / part.path, part.ranges))
    return replace(part, sha256=sha256, lines=lines if part.lines is None else part.lines)


def _hashed(pieces: Iterator[bytes]) -> tuple[str, int]:
    digest, lines = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        lines += piece.count(b"\n")
    return digest.hexdigest(), lines


def _rows(root: Path, file: File) -> Iterator[bytes]:
    """Rows of a Parquet layer as lines."""
    folder = (root / file.path).parent
    spans = sorted(span_of(path.name) for path in folder.iterdir() if is_part(path.name))
    for low, high in file.ranges:
        at = low
        for start, end in spans:
            if start <= at < min(high, end):  # two files may hold a row while one is replaced
                frame = read_part(folder / part_name(start, end), FrameCodec())
                inside = frame[at - start : min(high, end) - start]
                yield inside.write_ndjson().encode()
                at = min(high, end)


def _bytes(path: Path, ranges: Spans) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for low, high in ranges:
            stream.seek(low)
            for at in range(low, high, _PIECE):
                yield stream.read(min(_PIECE, high - at))


def _unpacked(path: Path, ranges: Spans) -> Iterator[bytes]:
    """Bytes of a raw file, decompressed."""
    (file,) = (each for each in day_files(path.parent) if each.path == path)
    if not file.encoding:
        yield from _bytes(path, ranges)
        return
    at, waiting = 0, list(ranges)
    for piece in chunks(file, 0, _PIECE):
        end = at + len(piece)
        while waiting and waiting[0][0] < end:
            low, high = waiting[0]
            yield piece[max(0, low - at) : high - at]
            if high > end:
                break
            waiting.pop(0)
        if not waiting:
            return
        at = end
