"""Plain, gzip and zstd day files as one stream of bytes."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
import zstandard

from pipeline.engine.rawfiles import chunks, day_files
from pipeline.errors import DataError

DATA = bytes(random.Random(1).choices(b"abcdef\n", k=300_000))


def content(folder: Path, offset: int = 0, size: int = 10_000) -> bytes:
    """What the folder's only day file holds."""
    (file,) = day_files(folder)
    pieces = list(chunks(file, offset, size))
    assert all(pieces), "an empty piece would look like the end"
    assert max(map(len, pieces), default=0) <= max(size, 1), "a block larger than asked for"
    return b"".join(pieces)


def gz(data: bytes, members: int) -> bytes:
    """Gzip in several members, as appending compressors write."""
    step = -(-len(data) // members)
    return b"".join(gzip.compress(data[i : i + step]) for i in range(0, len(data), step))


def zst(data: bytes, frames: int) -> bytes:
    """The same with zstd."""
    step = -(-len(data) // frames)
    pack = zstandard.ZstdCompressor().compress
    return b"".join(pack(data[i : i + step]) for i in range(0, len(data), step))


@pytest.mark.parametrize("size", [1000, 4096, 1 << 20])
@pytest.mark.parametrize("offset", [0, 1, 99_999, 150_000, len(DATA), len(DATA) + 5])
@pytest.mark.parametrize("kind", ["", ".gz", ".zst"])
@pytest.mark.parametrize("members", [1, 3])
def test_every_kind_gives_the_bytes_from_any_offset(
    kind: str, members: int, offset: int, size: int, tmp_path: Path
) -> None:
    """Several members or frames are one file."""
    packed = {"": DATA, ".gz": gz(DATA, members), ".zst": zst(DATA, members)}[kind]
    (tmp_path / f"2024-03-05.jsonl{kind}").write_bytes(packed)
    assert content(tmp_path, offset, size) == DATA[offset:]


@pytest.mark.parametrize("kind", [".gz", ".zst"])
@pytest.mark.parametrize("members", [1, 3])
def test_a_stream_that_is_still_being_written_gives_a_beginning(
    kind: str, members: int, tmp_path: Path
) -> None:
    """Cut anywhere: no error, and never a byte that does not belong."""
    packed = (gz if kind == ".gz" else zst)(DATA, members)
    path = tmp_path / f"2024-03-05.jsonl{kind}"
    longest = 0
    for cut in (0, 1, 5, 10, 11, 20, 1000, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        path.write_bytes(packed[:cut])
        found = content(tmp_path)
        assert DATA.startswith(found), cut
        longest = max(longest, len(found))
    assert longest > len(DATA) // 2


@pytest.mark.parametrize("kind", [".gz", ".zst"])
def test_a_damaged_stream_is_named(kind: str, tmp_path: Path) -> None:
    """Status 65, the file and what to do, instead of a traceback."""
    packed = bytearray((gz if kind == ".gz" else zst)(DATA, 1))
    packed[len(packed) // 2] ^= 0xFF
    packed[len(packed) // 2 + 7] ^= 0xFF
    path = tmp_path / f"2024-03-05.jsonl{kind}"
    for data in (bytes(packed) if kind == ".gz" else b"", b"this is no archive at all"):
        if not data:
            continue
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"2024-03-05") as caught:
            content(tmp_path)
        assert caught.value.status == 65
        assert caught.value.hint


def test_the_plain_file_counts_while_both_are_there(tmp_path: Path) -> None:
    """A collector compresses a finished day, and for a moment has it twice."""
    (tmp_path / "2024-03-05.jsonl.gz").write_bytes(gzip.compress(DATA)[:1000])
    (tmp_path / "2024-03-05.jsonl.zst").write_bytes(b"")
    (tmp_path / "2024-03-05.jsonl").write_bytes(DATA)
    assert content(tmp_path) == DATA
    (tmp_path / "2024-03-05.jsonl").unlink()
    (file,) = day_files(tmp_path)
    assert file.encoding == ".gz"


def test_files_that_are_no_days_are_left_alone(tmp_path: Path) -> None:
    """And a folder that is not there has none."""
    for name in ("x.jsonl", "2024-03-05.json", "2024-03-05.jsonl.bz2", "2024-03-05.jsonl~"):
        (tmp_path / name).write_bytes(DATA)
    assert day_files(tmp_path) == []
    assert day_files(tmp_path / "nowhere") == []
    for day in ("2024-03-06", "2023-12-31", "2024-03-05"):
        (tmp_path / f"{day}.jsonl").write_bytes(b"")
    assert [file.day for file in day_files(tmp_path)] == ["2023-12-31", "2024-03-05", "2024-03-06"]
