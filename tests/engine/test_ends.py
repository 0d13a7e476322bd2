"""The ends of day files: told once, behind the last line, when a file will not grow."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from pipeline.engine.feed import RawFeed
from pipeline.engine.rawfiles import day_files, is_whole
from pipeline.engine.state import FileMark

DAY, NEXT = "2024-03-05", "2024-03-06"


class Reader:
    """A reader of one folder that remembers its marks, as runs do."""

    def __init__(self, root: Path) -> None:
        self.root, self.raw = root, root / "raw" / "taq" / "trades" / "AIG"
        self.raw.mkdir(parents=True)
        self.marks: list[FileMark] = []

    def read(self) -> list[bytes | str]:
        """What is new: lines, and the days that have ended."""
        feed = RawFeed(self.raw, self.root, "hint", self.marks, tells_ends=True)
        found: list[bytes | str] = []
        for block, marks in feed.blocks():
            if block.ended:
                assert not block.data
                assert marks[-1].ended
                found.append(block.day)
            found += [block.line(i) for i in range(block.lines)]
        self.marks = feed.snapshot()
        return found

    def write(self, name: str, data: bytes) -> None:
        (self.raw / name).write_bytes(data)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def test_a_plain_file_ends_when_a_later_day_is_there(reader: Reader) -> None:
    reader.write(f"{DAY}.jsonl", b"one\ntw")
    assert reader.read() == [b"one"]
    assert reader.read() == []
    reader.write(f"{NEXT}.jsonl", b"")
    assert reader.read() == [b"tw", DAY]
    assert reader.read() == []
    reader.write(f"{NEXT}.jsonl", b"two\n")
    assert reader.read() == [b"two"]


def test_nothing_new_but_the_end(reader: Reader) -> None:
    reader.write(f"{DAY}.jsonl", b"one\n")
    assert reader.read() == [b"one"]
    reader.write(f"{NEXT}.jsonl", b"two\n")
    assert reader.read() == [DAY, b"two"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_ends_when_it_is_whole(reader: Reader, suffix: str) -> None:
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    data = pack(b"one\ntwo\n" * 2000)
    reader.write(f"{DAY}.jsonl{suffix}", data[:-3])
    assert DAY not in reader.read()
    reader.write(f"{DAY}.jsonl{suffix}", data)
    assert reader.read()[-1] == DAY
    assert reader.read() == []
    reader.write(f"{NEXT}.jsonl{suffix}", pack(b"three\n"))
    assert reader.read() == [b"three", NEXT]


def test_a_plain_file_that_is_compressed_later_has_ended(reader: Reader) -> None:
    reader.write(f"{DAY}.jsonl", b"one\n")
    assert reader.read() == [b"one"]
    (reader.raw / f"{DAY}.jsonl").unlink()
    reader.write(f"{DAY}.jsonl.gz", gzip.compress(b"one\n"))
    assert reader.read() == [DAY]
    assert reader.read() == []


def test_nobody_else_is_told(reader: Reader) -> None:
    reader.write(f"{DAY}.jsonl", b"one\n")
    reader.write(f"{NEXT}.jsonl.gz", gzip.compress(b"two\n"))
    feed = RawFeed(reader.raw, reader.root, "hint")
    assert [block.ended for block, _ in feed.blocks()] == [False, False]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_whole_or_not(tmp_path: Path, suffix: str) -> None:
    """Several members count as one file; an empty file or a part of one is not whole."""
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"{DAY}.jsonl{suffix}"
    one, two = pack(b"x" * 100_000), pack(b"y\n")
    for data, whole in (
        *((one, True), (one + two, True), (b"", False), (one[:20], False)),
        *((one + two[:-1], False), (two * 50, True)),
    ):
        path.write_bytes(data)
        assert is_whole(day_files(tmp_path)[0]) is whole
    path.rename(tmp_path / f"{DAY}.jsonl")
    assert not is_whole(day_files(tmp_path)[0])


def test_a_file_that_has_grown_since_it_was_looked_at_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / f"{DAY}.jsonl.gz"
    path.write_bytes(gzip.compress(b"x"))
    (file,) = day_files(tmp_path)
    path.write_bytes(gzip.compress(b"x") * 2)
    assert not is_whole(file)
