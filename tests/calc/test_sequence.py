"""What follows on, what repeats, what is missing: the table of rules, case by case."""

from __future__ import annotations

import pytest

from pipeline.calc.sequence import NO_ID, Sequence, Update, Verdict

APPLY, REPEAT, BREAK = Verdict.APPLY, Verdict.REPEAT, Verdict.BREAK


def book(last_id: int, *, fresh: bool = False) -> Sequence:
    """A valid book."""
    return Sequence(is_valid=True, last_id=last_id, is_fresh=fresh)


def kept(last_id: int, prev_id: int) -> Update:
    """An update without levels."""
    return Update(last_id, prev_id, [], [], [])


@pytest.mark.parametrize(
    ("fresh", "last", "prev", "verdict"),
    [
        # right behind a snapshot with id 10
        (True, 9, 5, REPEAT),
        (True, 10, 5, REPEAT),
        (True, 12, 5, APPLY),
        (True, 12, 9, APPLY),
        (True, 12, 10, APPLY),
        (True, 12, 11, BREAK),
        (True, 10, 10, APPLY),
        (True, 4, 10, APPLY),
        (True, 11, 10, APPLY),
        # later
        (False, 9, 5, REPEAT),
        (False, 10, 9, REPEAT),
        (False, 12, 9, BREAK),
        (False, 12, 11, BREAK),
        (False, 11, 10, APPLY),
        (False, 10, 10, APPLY),
        (False, 3, 10, APPLY),
        # without ids
        (False, NO_ID, NO_ID, APPLY),
        (False, 5, NO_ID, APPLY),
        (False, NO_ID, 3, APPLY),
    ],
)
def test_updates_on_a_book_with_id_10(fresh: bool, last: int, prev: int, verdict: Verdict) -> None:
    """prev = last id goes on, even if the id falls; an old id repeats; all else is a break."""
    assert book(10, fresh=fresh).of_update(last, prev) is verdict


def test_updates_on_a_book_without_an_id() -> None:
    """A snapshot without an id: whatever comes is applied, and its id counts from then on."""
    sequence = book(NO_ID)
    assert sequence.of_update(7, 3) is APPLY
    sequence.apply_update(7)
    assert sequence.of_update(9, 8) is BREAK
    sequence.apply_update(NO_ID)
    assert sequence.last_id == 7


@pytest.mark.parametrize(
    ("valid", "last", "verdict"),
    [
        (True, 9, REPEAT),
        (True, 10, REPEAT),
        (True, 11, APPLY),
        (True, NO_ID, APPLY),
        (False, 3, APPLY),
        (False, NO_ID, APPLY),
    ],
)
def test_snapshots(valid: bool, last: int, verdict: Verdict) -> None:
    """No newer than a valid book: a repetition."""
    assert Sequence(is_valid=valid, last_id=10).of_snapshot(last) is verdict


@pytest.mark.parametrize(
    ("updates", "applied", "left"),
    [
        ([], [], []),
        ([(9, 5), (10, 9)], [], []),
        ([(9, 5), (12, 9), (14, 12)], [12, 14], []),
        ([(12, 10)], [12], []),
        ([(12, 9), (12, 9), (11, 3), (15, 12)], [12, 15], []),
        ([(12, 10), (4, 12), (20, 4)], [12], [(20, 4)]),
        ([(12, 10), (14, 13), (15, 14)], [12], [(14, 13), (15, 14)]),
    ],
)
def test_a_snapshot_with_id_10_and_kept_updates(
    updates: list[tuple[int, int]], applied: list[int], left: list[tuple[int, int]]
) -> None:
    """Those at or below it are dropped, the first behind it may overlap it, the rest follow on."""
    sequence = Sequence(kept=[kept(*each) for each in updates])
    begun = sequence.begin(10)
    assert begun is not None
    assert [each.last_id for each in begun[0]] == applied
    assert [(each.last_id, each.prev_id) for each in sequence.kept] == left
    assert sequence.is_valid is (not left)
    assert (begun[1] is None) is (not left)
    assert sequence.is_fresh is (not applied and not left)
    assert sequence.last_id == (applied[-1] if applied else 10)


def test_a_snapshot_that_is_too_old_begins_nothing() -> None:
    """The updates stay kept for the next one."""
    sequence = Sequence(kept=[kept(20, 15), kept(25, 20)])
    assert sequence.begin(10) is None
    assert (sequence.is_valid, len(sequence.kept)) == (False, 2)
    begun = sequence.begin(17)
    assert begun is not None
    assert [each.last_id for each in begun[0]] == [20, 25]


def test_a_lost_book_keeps_what_broke_it() -> None:
    """And knows no id."""
    sequence = book(10)
    sequence.lose([kept(15, 13)])
    assert (sequence.is_valid, sequence.last_id, len(sequence.kept)) == (False, NO_ID, 1)
    begun = sequence.begin(13)
    assert begun is not None
    assert (sequence.is_valid, sequence.last_id, sequence.kept) == (True, 15, [])
