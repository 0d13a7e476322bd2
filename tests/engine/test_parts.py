"""Parquet parts: the same files from any cutting, and a way back from every leftover."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from pipeline.engine import parts
from pipeline.engine.codecs import FrameCodec
from pipeline.engine.disk import Unsynced
from pipeline.engine.parts import (
    PartsOutput,
    names,
    part_name,
    read_listed,
    read_rows,
    to_bytes,
)
from pipeline.engine.state import Parts
from pipeline.errors import StateError

PART, PIECE = 10, 4


def rows(start: int, end: int) -> pl.DataFrame:
    """Rows that say which they are, with text, times and flags."""
    number = pl.Series("n", range(start, end), dtype=pl.Int64)
    return pl.DataFrame(
        {
            "n": number,
            "text": [f"row {i}" for i in range(start, end)],
            "x": number.cast(pl.Float64) / 3,
            "ts": (number * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "odd": number % 2 == 1,
        }
    )


def opened(
    folder: Path, committed: int, encoder: Executor | None = None
) -> PartsOutput[pl.DataFrame]:
    """The output as a new process opens it."""
    listing = Parts(committed, PART, piece_rows=PIECE)
    output: PartsOutput[pl.DataFrame] = PartsOutput(folder, listing, FrameCodec(), encoder)
    output.recover()
    return output


def commit(output: PartsOutput[pl.DataFrame]) -> int:
    """One whole commit."""
    listing = output.write(Unsynced())
    output.publish(Unsynced())
    return listing.rows


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def batch(folder: Path, count: int) -> dict[str, bytes]:
    """The files of that many rows, written in one go."""
    output = opened(folder, 0)
    output.append(rows(0, count))
    commit(output)
    return files(folder)


@pytest.mark.parametrize(
    ("count", "piece", "wanted"),
    [
        (0, 4, []),
        (1, 4, [(0, 1)]),
        (4, 4, [(0, 4)]),
        (5, 4, [(0, 4), (4, 5)]),
        (9, 4, [(0, 4), (4, 8), (8, 9)]),
        (10, 4, [(0, 10)]),
        (11, 4, [(0, 10), (10, 11)]),
        (19, 4, [(0, 10), (10, 14), (14, 18), (18, 19)]),
        (30, 4, [(0, 10), (10, 20), (20, 30)]),
        (19, 10, [(0, 10), (10, 19)]),
        (19, 99, [(0, 10), (10, 19)]),
        (19, 0, [(0, 10), (10, 19)]),
    ],
)
def test_names_follow_from_the_number_of_rows(
    count: int, piece: int, wanted: list[tuple[int, int]]
) -> None:
    """From whatever row on; reading from the end on asks for no file."""
    listing = Parts(count, PART, piece_rows=piece)
    assert [(low, high) for _, low, high in names(listing)] == wanted
    for first in range(count + 3):
        behind = [(low, high) for low, high in wanted if high > first]
        assert [(low, high) for _, low, high in names(listing, first)] == behind, first


def test_the_state_names_the_last_file_and_counts_them() -> None:
    """For a reader's eye; the files follow from the numbers."""
    for piece in (0, 3, 4, 10, 99):
        output = PartsOutput(Path("x"), Parts(0, PART, piece_rows=piece), FrameCodec())
        for count in range(35):
            listing = output.listing(count)
            found = [name for name, _, _ in names(listing)]
            assert (listing.rows, listing.part_rows, listing.piece_rows) == (count, PART, piece)
            assert listing.files == len(found)
            assert listing.last == (found[-1] if found else None)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_any_cutting_leaves_the_same_files(seed: int, stays: bool, tmp_path: Path) -> None:
    """Appends, commits and new processes at random places; one that stays encodes ahead."""
    rng = random.Random(seed)
    total, at, committed = 57, 0, 0
    folder = tmp_path / "cut"
    encoder = ThreadPoolExecutor(2) if stays else None
    output = opened(folder, 0, encoder)
    while at < total:
        step = min(total - at, rng.choice((1, 2, 5, 9, 10, 11, 25)))
        pieces = [rows(at, at + step)]
        if rng.random() < 0.3:
            pieces = [rows(i, i + 1) for i in range(at, at + step)]
        for piece in pieces:
            output.append(piece)
        at += step
        assert output.is_dirty
        first = rng.randrange(at)
        for name, low, high in names(output.listing(at), first):
            held = output.held(max(low, first), high)
            assert held is None or held.equals(rows(max(low, first), high))
            assert held is not None or not stays or (folder / name).exists()
        output.encode()
        if rng.random() < 0.5 or at == total:
            committed = commit(output)
            assert committed == at
            assert not output.is_dirty
            if rng.random() < 0.5:
                output = opened(folder, committed, encoder)
    output.close()
    if encoder is not None:
        encoder.shutdown()
    assert files(folder) == batch(tmp_path / "whole", total)


def test_the_last_rows_are_there_committed_or_not(tmp_path: Path) -> None:
    """Duplicates are looked up in them."""
    output = opened(tmp_path / "x", 0)
    assert output.last_rows(5) is None
    at = 0
    for step, commits in ((4, True), (3, False), (10, False), (8, True), (10, True), (1, False)):
        output.append(rows(at, at + step))
        at += step
        if commits:
            commit(output)
        for count in (1, 3, 10, 12, 100):
            found = output.last_rows(count)
            assert found is not None
            assert found.equals(rows(max(0, at - count), at)), (at, count)


@pytest.mark.parametrize("committed", [0, 4, 10, 14, 20])
@pytest.mark.parametrize("start", [0, 3, 10, 13])
def test_reading_from_a_row_on(committed: int, start: int, tmp_path: Path) -> None:
    """File by file, each with the row number past its end."""
    output = opened(tmp_path / "x", 0)
    output.append(rows(0, committed))
    listing = output.write(Unsynced())
    output.publish(Unsynced())
    found = list(read_rows(tmp_path / "x", listing, start, FrameCodec(), None))
    if start >= committed:
        assert found == []
        return
    assert pl.concat([frame for frame, _ in found]).equals(rows(start, committed))
    assert [end for _, end in found] == [high for _, _, high in names(listing, start)]


def test_a_layer_that_was_begun_without_pieces_goes_on_without(tmp_path: Path) -> None:
    """Its state says nothing of them."""
    output: PartsOutput[pl.DataFrame] = PartsOutput(tmp_path, Parts(0, PART), FrameCodec())
    at = 0
    for step in (7, 2, 9, 1, 14):
        output.append(rows(at, at + step))
        at += step
        commit(output)
    assert sorted(files(tmp_path)) == [
        part_name(low, high) for low, high in ((0, 10), (10, 20), (20, 30), (30, 33))
    ]


@pytest.mark.parametrize("before", range(1, 34))
def test_whoever_holds_an_older_state_finds_its_rows(before: int, tmp_path: Path) -> None:
    """A longer piece, or the whole part, may have taken a file's place."""
    listing = Parts(before, PART, piece_rows=PIECE)
    for after in (before, before + 1, before + 4, before + 10, 37):
        folder = tmp_path / str(after)
        batch(folder, after)
        for first in (0, before // 2, before - 1):
            found = list(read_rows(folder, listing, first, FrameCodec(), None))
            assert pl.concat([frame for frame, _ in found]).equals(rows(first, before)), after


def test_a_folder_that_is_listed_while_a_file_is_replaced_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may show neither the old file nor the new one; gone is what stays away."""
    batch(tmp_path, 14)
    shown = parts.file_with
    answers: list[bool] = []

    def listed(folder: Path, start: int, end: int) -> Path | None:
        answers.append(len(answers) > 2)
        return shown(folder, start, end) if answers[-1] else None

    monkeypatch.setattr(parts, "file_with", listed)
    assert read_listed(tmp_path, 8, 9, FrameCodec()).equals(rows(8, 9))
    assert answers == [False, False, False, True]
    (tmp_path / part_name(0, 10)).unlink()
    with pytest.raises(FileNotFoundError, match="gone"):
        read_listed(tmp_path, 8, 9, FrameCodec())


STEPS = [
    *((0, 4), (4, 14), (14, 20), (14, 37), (0, 37), (10, 20), (8, 9), (30, 31)),
    *((19, 20), (3, 8), (13, 15), (17, 18), (9, 31)),
]


def leftovers(folder: Path, before: int, after: int) -> list[tuple[int, dict[str, bytes]]]:
    """Every state a dying commit from one row count to another can leave the folder in.

    With the number of rows that the state file then says are committed.
    """
    old = batch(folder / "old", before) if before else {}
    new = batch(folder / "new", after)
    fresh = [name for name in new if name not in old]
    replaced = [name for name in old if name not in new]
    found: list[tuple[int, dict[str, bytes]]] = []
    for count in range(len(fresh) + 1):  # before the commit: temporary files, the last one torn
        there = dict(old)
        for name in fresh[:count]:
            there[f"{name}.tmp"] = new[name]
        found.append((before, dict(there)))
        if count:
            there[f"{fresh[count - 1]}.tmp"] = new[fresh[count - 1]][:100]
            found.append((before, there))
    for count in range(len(fresh) + 1):  # after it: some renamed
        there = dict(old)
        for name in fresh:
            there[f"{name}.tmp"] = new[name]
        for name in fresh[:count]:
            there[name] = there.pop(f"{name}.tmp")
        found.append((after, dict(there)))
        found.append((before, dict(there)))  # and the newest state was damaged afterwards
        if count == len(fresh):
            for name in replaced:
                del there[name]
            found.append((after, dict(there)))
            found.append((before, dict(there)))
    return found


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_every_leftover_is_made_good(before: int, after: int, tmp_path: Path) -> None:
    """Afterwards exactly the committed files are there, and going on gives the batch's files."""
    wanted = {
        count: batch(tmp_path / f"wanted{count}", count) if count else {}
        for count in (before, after)
    }
    end = batch(tmp_path / "end", 43)
    for number, (committed, there) in enumerate(leftovers(tmp_path, before, after)):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        for name, data in there.items():
            (folder / name).write_bytes(data)
        output = opened(folder, committed)
        assert files(folder) == wanted[committed], (number, committed, sorted(there))
        output.append(rows(committed, 43))
        commit(output)
        assert files(folder) == end, (number, committed, sorted(there))


def test_a_missing_committed_file_is_refused(tmp_path: Path) -> None:
    """Status 65; the file is named; a folder that is gone as well."""
    folder = tmp_path / "x"
    for missing in list(itertools.chain(batch(folder, 25))):
        data = (folder / missing).read_bytes()
        (folder / missing).unlink()
        with pytest.raises(StateError, match=missing):
            opened(folder, 25)
        (folder / missing).write_bytes(data)
    opened(folder, 25)
    with pytest.raises(StateError, match="gone"):
        opened(tmp_path / "nowhere", 25)


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """Only parts that the state does not list are deleted."""
    folder = tmp_path / "x"
    batch(folder, 3)
    for name in ("notes.txt", "_SUCCESS", ".hidden"):
        (folder / name).write_bytes(b"mine")
    (folder / part_name(10, 20)).write_bytes(b"not listed")
    opened(folder, 3)
    assert sorted(files(folder)) == [".hidden", part_name(0, 3), "_SUCCESS", "notes.txt"]


def test_bytes_depend_on_rows_alone() -> None:
    """Chunks and slices of a frame leave no trace."""
    whole = rows(0, 50)
    pieces = pl.concat([rows(0, 20), rows(0, 60).slice(20, 30)], rechunk=False)
    assert to_bytes(pieces, {"a": "b"}) == to_bytes(whole, {"a": "b"})
