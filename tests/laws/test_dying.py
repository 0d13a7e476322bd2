"""Guarantees 1 and 2: a run may die anywhere, and one without new data changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine import disk

from .conftest import NewWorld
from .feeds import stock_of
from .feedstock import CLEAN, SWAP, make
from .world import Grain, World, difference, grain

# -- dying in between ------------------------------------------------------


class Died(BaseException):
    """The process is gone: nothing after it happens, not even error handling."""


def dying(after: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Make the process die at its n-th change of the disk."""
    left = [after]

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("write_end", "write_at", "replace", "remove", "write_whole"):
            original = getattr(disk, name)

            def counted(*arguments: object, original: Callable[..., object] = original) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise Died
                return original(*arguments)

            monkeypatch.setattr(disk, name, counted)

    return patch


def run_and_die(world: World, after: int) -> bool:
    """Run until the n-th change of the disk; False if it came to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        dying(after)(patch)
        try:
            world.run()
        except Died:
            return True
    return False


def outlived(
    new: Callable[[], World], content: Mapping[str, bytes], fine: Grain, points: Iterable[int]
) -> int:
    """Let a second run die at each of these changes of the disk, and the next make it good.

    Returns the first point that a run has lived to see the end of.
    """
    size = sum(map(len, content.values()))
    batch = new()
    with grain(replace(fine, block_bytes=None, commit_rows=None)):
        batch.put(content)
        batch.run()
    wanted = batch.tree()
    half = new()
    with grain(fine):
        half.grow(content, 0, size // 2)
        half.run()
    for point in points:
        world = new()
        shutil.copytree(half.root, world.root, dirs_exist_ok=True)
        with grain(fine):
            world.grow(content, size // 2, size)
            died = run_and_die(world, point)
            world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"died at change {point} of the disk\n{message}"
        shutil.rmtree(world.root)
        if not died:
            return point
    pytest.fail("never came to an end")


@pytest.mark.parametrize("thin", [9, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fine", "step"),
    [
        (Grain(part_rows=16), 7),
        (Grain(block_bytes=1500, commit_rows=1, part_rows=16), 61),
    ],
    ids=["one commit", "many commits"],
)
def test_dying_at_changes_of_the_disk(
    fine: Grain, step: int, thin: int, new_world: NewWorld
) -> None:
    """A run may die anywhere; the next one, with not a byte more of raw data, makes it good."""
    content = stock_of(3, SWAP, 30).content()
    assert outlived(new_world, content, fine, range(0, 100_000, step * thin)) > 10


def test_a_long_line_is_counted_once_although_the_run_dies_behind_it(
    new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that holds a long line's reject also holds the place behind it."""
    from pipeline.engine import feed

    monkeypatch.setattr(feed, "MAX_LINE_BYTES", 600)
    monkeypatch.setattr(feed, "_KEEP_OF_LONG_LINE", 100)
    lines = [line.data for line in make(SWAP, 1, 6, replace(CLEAN, duplicate=0)).lines()]
    content = {"2024-03-06": b"".join([*lines[:3], b"x" * 900 + b"\n", *lines[3:]])}
    batch = new_world()
    batch.chain = batch.chain[:1]
    batch.put(content)
    with grain(Grain(block_bytes=300)):
        batch.run()
        wanted = batch.tree()
        assert b'"too long"' in b"".join(wanted.values())
    fine = Grain(block_bytes=300, commit_rows=1)
    for after in range(10_000):
        world = new_world()
        world.chain = batch.chain
        world.put(content)
        with grain(fine):
            died = run_and_die(world, after)
            world.run()
        message = difference(world.tree(), wanted)
        assert not message, f"died at change {after} of the disk\n{message}"
        if not died:
            break


# -- nothing to do ---------------------------------------------------------


@pytest.mark.parametrize("ending", ["whole", "torn", "held"])
def test_a_run_without_new_data_changes_nothing(ending: str, new_world: NewWorld) -> None:
    """Not a byte, not a time stamp, not an inode of derived, state or quarantine."""
    stock = stock_of(2, SWAP)
    last = list(stock.days)[-1]
    if ending == "torn":
        stock.torn[last] = b'{"instId":'
    if ending == "held":
        lines = stock.days[last]
        newest = max(line.ts for line in lines)
        ahead = make(SWAP, 9, 1, CLEAN).lines()[0].data
        number = ahead.replace(b"1000001", b"5000000")
        stamp = str(newest + 400_000).encode()
        old = [part for part in number.split(b'"') if part.isdigit() and len(part) == 13]
        stock.days[last] = [*lines, replace(lines[0], data=number.replace(old[0], stamp))]
    world = new_world()
    world.put(stock.content())
    world.run()
    before = world.stamps()
    assert len(before) > len(world.chain)
    for _ in range(2):
        world.run()
        assert world.stamps() == before


def test_looking_at_a_touched_file_changes_nothing(new_world: NewWorld) -> None:
    """A new time stamp on the same bytes (a backup tool, a copy) is no new data."""
    world = new_world()
    world.put(stock_of(2, SWAP).content())
    world.run()
    before = {path: data for path, (_, _, data) in world.stamps().items() if "state" not in path}
    for path in sorted(Path(world.raw).iterdir()):
        path.touch()
    world.run()
    after = {path: data for path, (_, _, data) in world.stamps().items() if "state" not in path}
    assert after == before
