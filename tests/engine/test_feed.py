"""Reading on from where the last run stopped, and refusing to when that would be wrong."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pipeline.engine import feed as feeds
from pipeline.engine.rawfiles import chunks
from pipeline.errors import DataError

from .conftest import Folder

DAY, NEXT = "2024-03-05", "2024-03-06"
NewFolder = Callable[[str], Folder]


def texts(folder: Folder) -> list[bytes]:
    """The new lines only."""
    return [line for line, *_ in folder.read()]


def test_only_whole_lines_are_handed_out(folder: Folder) -> None:
    """What stands behind the last line end waits for its rest."""
    folder.write({f"{DAY}.jsonl": b"one\ntw"})
    assert texts(folder) == [b"one"]
    assert texts(folder) == []
    folder.append(f"{DAY}.jsonl", b"o\r\n\nthree")
    assert folder.read() == [
        (b"two", f"raw/okx/trades_perps/X/{DAY}.jsonl", 4, False, False),
        (b"", f"raw/okx/trades_perps/X/{DAY}.jsonl", 9, False, False),
    ]
    folder.append(f"{DAY}.jsonl", b"\n")
    assert folder.read() == [(b"three", f"raw/okx/trades_perps/X/{DAY}.jsonl", 10, False, False)]


def test_a_rest_is_torn_once_a_later_day_exists(folder: Folder) -> None:
    """Its bytes are handed out as torn, once, with the place where they start."""
    folder.write({f"{DAY}.jsonl": b"one\ntorn"})
    assert texts(folder) == [b"one"]
    folder.write({f"{NEXT}.jsonl": b""})
    assert folder.read() == [(b"torn", f"raw/okx/trades_perps/X/{DAY}.jsonl", 4, True, False)]
    assert folder.read() == []
    folder.append(f"{NEXT}.jsonl", b"two\n")
    assert texts(folder) == [b"two"]


def test_days_come_in_their_order_and_other_files_not_at_all(folder: Folder) -> None:
    """Names that are no day files are left alone."""
    folder.write(
        {
            f"{NEXT}.jsonl": b"b\n",
            f"{DAY}.jsonl": b"a\n",
            "notes.txt": b"x\n",
            f"{DAY}.jsonl.tmp": b"x\n",
            f"{DAY}.json": b"x\n",
            "2024-3-5.jsonl": b"x\n",
        }
    )
    assert texts(folder) == [b"a", b"b"]


CONTENT = b"".join(b"%04d %s\n" % (i, b"x" * (i * 37 % 400)) for i in range(60))


def pack(name: str, data: bytes) -> bytes:
    """The bytes of a file of that name with this content."""
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if name.endswith(".zst") else data


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "shrank": lambda data: data[:-5000],
    "shrank by a byte": lambda data: data[:-1],
    "empty": lambda _data: b"",
    "head": lambda data: b"Y" + data[1:],
    "middle": lambda data: data[:6000] + b"Y" + data[6001:],
    "tail": lambda data: data[:-2] + b"Y\n",
    "two lines swapped": lambda data: data.replace(b"0010 ", b"0011 ", 1),
    "head, and grew": lambda data: b"Y" + data[1:] + b"more\n",
    "tail, and grew": lambda data: data[:-2] + b"Y\n" + b"more\n",
    "a byte less in front, and grew": lambda data: data[1:] + b"more\n",
}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_consumed_file_that_changed_is_refused(
    change: str, suffix: str, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 65, the file, and the command that rebuilds; the marks stay as they were."""
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 1000)
    name = f"{DAY}.jsonl{suffix}"
    assert len(CONTENT) > 10_000
    folder.write({name: pack(name, CONTENT)})
    assert len(texts(folder)) == 60
    before = list(folder.marks)
    folder.write({name: pack(name, CHANGES[change](CONTENT))})
    os.utime(folder.raw / name, ns=(1, 1))
    with pytest.raises(DataError, match=name) as caught:
        folder.read()
    assert caught.value.status == 65
    assert caught.value.hint == "flowvault rebuild trades -i X"
    assert ("shrank" in caught.value.message) == (change.startswith("shrank") or change == "empty")
    assert folder.marks == before


@pytest.mark.parametrize("change", [c for c in CHANGES if "grew" not in c])
def test_a_finished_file_that_changed_is_refused(change: str, folder: Folder) -> None:
    """Also when a later day has begun since."""
    folder.write({f"{DAY}.jsonl": CONTENT, f"{NEXT}.jsonl": b"later\n"})
    assert len(texts(folder)) == 61
    folder.write({f"{DAY}.jsonl": CHANGES[change](CONTENT)})
    os.utime(folder.raw / f"{DAY}.jsonl", ns=(1, 1))
    with pytest.raises(DataError, match=DAY):
        folder.read()


def test_a_finished_file_that_grew_is_refused(folder: Folder) -> None:
    """Its rows would belong before rows that are written."""
    folder.write({f"{DAY}.jsonl": CONTENT, f"{NEXT}.jsonl": b"later\n"})
    folder.read()
    folder.append(f"{DAY}.jsonl", b"more")
    with pytest.raises(DataError, match="grew after a later day"):
        folder.read()


def test_a_day_before_the_last_one_may_not_appear(folder: Folder) -> None:
    """Nor may a day before all others."""
    folder.write({f"{NEXT}.jsonl": b"later\n"})
    folder.read()
    folder.write({f"{DAY}.jsonl": b"x\n"})
    with pytest.raises(DataError, match="appeared after a later day"):
        folder.read()


def test_a_file_may_grow_and_be_followed_in_one_go(folder: Folder) -> None:
    """The old day's rest, then the days that came since."""
    folder.write({f"{DAY}.jsonl": b"a\nb"})
    assert texts(folder) == [b"a"]
    folder.append(f"{DAY}.jsonl", b"c\nd\n")
    folder.write({f"{NEXT}.jsonl": b"e\n", "2024-03-07.jsonl": b"f\ng"})
    assert texts(folder) == [b"bc", b"d", b"e", b"f"]


def test_a_consumed_file_may_vanish(folder: Folder) -> None:
    """And nothing of the later ones is read again."""
    folder.write({f"{DAY}.jsonl": b"a\n", f"{NEXT}.jsonl": b"b\n"})
    folder.read()
    (folder.raw / f"{DAY}.jsonl").unlink()
    assert texts(folder) == []
    folder.append(f"{NEXT}.jsonl", b"c\n")
    assert texts(folder) == [b"c"]
    (folder.raw / f"{NEXT}.jsonl").unlink()
    assert texts(folder) == []
    folder.write({"2024-03-07.jsonl": b"d\n"})
    assert texts(folder) == [b"d"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("later", [False, True])
def test_compressing_a_consumed_day_changes_nothing(
    suffix: str, later: bool, folder: Folder
) -> None:
    """Offsets count decompressed bytes; while both files stand there the plain one counts."""
    plain, packed = f"{DAY}.jsonl", f"{DAY}.jsonl{suffix}"
    folder.write({plain: CONTENT})
    folder.read()
    if later:
        folder.write({f"{NEXT}.jsonl": b"later\n"})
        assert texts(folder) == [b"later"]
    folder.write({packed: pack(packed, CONTENT)[: -100 if suffix == ".gz" else None]})
    assert texts(folder) == []
    folder.write({packed: pack(packed, CONTENT)})
    (folder.raw / plain).unlink()
    assert texts(folder) == []
    assert texts(folder) == []


def test_a_partly_consumed_day_may_be_compressed(folder: Folder) -> None:
    """What had not been read yet is read from the packed file."""
    folder.write({f"{DAY}.jsonl": CONTENT[:5000]})
    first = texts(folder)
    (folder.raw / f"{DAY}.jsonl").unlink()
    folder.write({f"{DAY}.jsonl.gz": gzip.compress(CONTENT), f"{NEXT}.jsonl": b"x\n"})
    assert first + texts(folder) == [*CONTENT.split(b"\n")[:-1], b"x"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_day_is_compressed_between_the_look_and_the_reading(
    begun: bool, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder was listed with the plain file, which is gone when it is opened."""
    plain = folder.raw / f"{DAY}.jsonl"
    if begun:
        folder.write({plain.name: CONTENT[:3000]})
        folder.read()
    folder.write({plain.name: CONTENT, f"{NEXT}.jsonl": b"two\n"})

    def compress_first(*arguments: Any) -> Any:
        if plain.exists():
            folder.write({plain.name + ".gz": gzip.compress(CONTENT)})
            plain.unlink()
        return chunks(*arguments)

    monkeypatch.setattr(feeds, "chunks", compress_first)
    found = texts(folder)
    lines = CONTENT.splitlines()
    assert found == [*lines[len(lines) - len(found) + 1 :], b"two"]
    assert (len(found) < len(lines)) == begun
    assert [mark.name for mark in folder.marks] == [plain.name + ".gz", f"{NEXT}.jsonl"]
    assert texts(folder) == []


def test_a_day_that_is_gone_when_it_is_opened(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stands there under no other name."""
    folder.write({f"{DAY}.jsonl": b"one\n"})

    def delete_first(*arguments: Any) -> Any:
        (folder.raw / f"{DAY}.jsonl").unlink(missing_ok=True)
        return chunks(*arguments)

    monkeypatch.setattr(feeds, "chunks", delete_first)
    with pytest.raises(FileNotFoundError):
        folder.read()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("seed", range(6))
def test_any_chunking_gives_the_same_lines(
    seed: int, suffix: str, new_folder: NewFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long lines too: the same ones are too long, at the same places, with the same beginning."""
    monkeypatch.setattr(feeds, "MAX_LINE_BYTES", 90)
    monkeypatch.setattr(feeds, "_KEEP_OF_LONG_LINE", 20)
    rng = random.Random(seed)
    lines = [
        bytes(rng.choices(b"abc", k=rng.choice((0, 1, 5, 30, 88, 89, 90, 91, 200, 700))))
        for _ in range(40)
    ]
    content = b"\n".join(lines) + rng.choice((b"", b"\n"))
    files = {f"{DAY}.jsonl{suffix}": pack(suffix, content), f"{NEXT}.jsonl": b"z\n"}
    wanted = []
    at = 0
    for i, line in enumerate(lines):
        is_last = i == len(lines) - 1 and not content.endswith(b"\n")
        if line or not is_last:
            kept = line[:20] if len(line) + (not is_last) > 90 else line
            wanted.append((kept, at, is_last, len(line) + 1 > 90 and not is_last))
        at += len(line) + 1
    for size in (1, 7, 19, 45, 90):
        monkeypatch.setattr(feeds, "BLOCK_BYTES", size)
        folder = new_folder(f"{size}")
        folder.write(files)
        found = [(line, offset, torn, long) for line, _, offset, torn, long in folder.read()]
        assert found[:-1] == wanted, size
        assert found[-1][0] == b"z"


def test_a_long_line_is_not_held_in_memory(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its beginning is kept, whatever its length."""
    monkeypatch.setattr(feeds, "MAX_LINE_BYTES", 5000)
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 1000)
    folder.write({f"{DAY}.jsonl": b"a\n" + b"x" * 1_000_000 + b"\nb\n"})
    found = folder.read()
    assert [(len(line), long) for line, _, _, _, long in found] == [
        (1, False),
        (4096, True),
        (1, False),
    ]
    assert found[2][2] == 1_000_003


def test_a_long_line_without_an_end_waits(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may still be writing it."""
    monkeypatch.setattr(feeds, "MAX_LINE_BYTES", 50)
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 20)
    folder.write({f"{DAY}.jsonl": b"a\n" + b"x" * 300})
    assert texts(folder) == [b"a"]
    assert folder.marks[-1].offset == 2
    folder.append(f"{DAY}.jsonl", b"y\nb\n")
    assert [(offset, long) for _, _, offset, _, long in folder.read()] == [(2, True), (304, False)]


def test_the_marks_that_come_with_a_block_stand_just_behind_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits a block with its marks reads on behind it, even if the file never changes."""
    monkeypatch.setattr(feeds, "MAX_LINE_BYTES", 300)
    monkeypatch.setattr(feeds, "_KEEP_OF_LONG_LINE", 100)
    monkeypatch.setattr(feeds, "BLOCK_BYTES", 150)
    content = CONTENT[:3000] + b"x" * 1000 + b"\n" + CONTENT[3000:6000]
    folder.write({f"{DAY}.jsonl": content, f"{NEXT}.jsonl": CONTENT[:500] + b"torn"})
    wanted = folder.read()
    for stop in range(1, 40):
        folder.marks = []
        found = []
        for number, (block, marks) in enumerate(folder.feed().blocks(), 1):
            found += [
                (block.line(i), block.source, block.line_offset(i), block.torn, block.too_long)
                for i in range(block.lines)
            ]
            if number == stop:
                folder.marks = marks
                break
        else:
            break
        assert found + folder.read() == wanted, f"stopped behind block {stop}"
    assert stop > 20


def test_nothing_is_read_again_while_a_file_looks_the_same(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle run opens no raw file."""
    folder.write({f"{DAY}.jsonl": CONTENT, f"{NEXT}.jsonl.gz": gzip.compress(CONTENT)})
    folder.read()

    def refuse(*_: object) -> None:
        pytest.fail("a raw file was opened")

    monkeypatch.setattr(Path, "open", refuse)
    assert folder.read() == []
