"""Small things that the engine's tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.engine.feed import RawFeed
from pipeline.engine.state import FileMark
from pipeline.raw.block import Block

Handed = list[tuple[bytes, str, int, bool, bool]]


class Folder:
    """A raw folder, and the lines a reader that remembers its marks gets from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw = root / "raw" / "okx" / "trades_perps" / "X"
        self.raw.mkdir(parents=True)
        self.marks: list[FileMark] = []

    def write(self, files: Mapping[str, bytes]) -> None:
        """Make files be exactly this."""
        for name, data in files.items():
            (self.raw / name).write_bytes(data)

    def append(self, name: str, data: bytes) -> None:
        """Let a file grow."""
        with (self.raw / name).open("ab") as stream:
            stream.write(data)

    def feed(self) -> RawFeed:
        """A feed as the next process would open it."""
        return RawFeed(self.raw, self.root, "flowvault rebuild trades -i X", self.marks)

    def read(self) -> Handed:
        """Everything that is new, line by line: bytes, source, offset, torn, too long."""
        feed = self.feed()
        lines: Handed = []
        for block, _ in feed.blocks():
            lines += taken_apart(block)
        self.marks = feed.snapshot()
        return lines


def taken_apart(block: Block) -> Handed:
    """The lines of a block, without their ends."""
    return [
        (block.line(i), block.source, block.line_offset(i), block.torn, block.too_long)
        for i in range(block.lines)
    ]


@pytest.fixture
def new_folder(tmp_path: Path) -> Callable[[str], Folder]:
    """A maker of raw folders."""
    return lambda name: Folder(tmp_path / name)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """One raw folder."""
    return Folder(tmp_path)
