"""Where a book feed stands in its sequence of ids: what follows on, what repeats, what is missing.

Ids are those of the exchange; -1 stands for none. A feed without ids is taken as it comes.
"""

from __future__ import annotations

from enum import Enum

import msgspec

NO_ID = -1


class Verdict(Enum):
    """What a record is beside the book."""

    APPLY = 1
    REPEAT = 2
    BREAK = 3


class Update(msgspec.Struct):
    """An update that came while there was no book; numbers at the scales of the book."""

    last_id: int
    prev_id: int
    side: list[int]
    price: list[int]
    size: list[int]


class Sequence(msgspec.Struct):
    """How far a book has come.

    Attributes:
        is_valid: there is a book.
        last_id: of the last record applied.
        is_fresh: no update has been applied since the snapshot, so the next one may overlap it.
        kept: updates that came without a book, for a snapshot to come.
    """

    is_valid: bool = False
    last_id: int = NO_ID
    is_fresh: bool = False
    kept: list[Update] = []

    def of_snapshot(self, last_id: int) -> Verdict:
        """A snapshot is applied unless it is no newer than a valid book."""
        is_old = self.is_valid and NO_ID < last_id <= self.last_id
        return Verdict.REPEAT if is_old else Verdict.APPLY

    def of_update(self, last_id: int, prev_id: int) -> Verdict:
        """An update follows on from the book, or from inside a snapshot just laid down."""
        if NO_ID in (last_id, prev_id, self.last_id) or prev_id == self.last_id:
            return Verdict.APPLY
        if last_id <= self.last_id:
            return Verdict.REPEAT
        return Verdict.APPLY if self.is_fresh and prev_id < self.last_id else Verdict.BREAK

    def apply_snapshot(self, last_id: int) -> None:
        """The book is now this snapshot."""
        self.is_valid, self.is_fresh, self.last_id = True, True, last_id

    def apply_update(self, last_id: int) -> None:
        """The book has this update."""
        self.is_fresh = False
        self.last_id = last_id if last_id != NO_ID else self.last_id

    def lose(self, kept: list[Update]) -> None:
        """There is no book until the next snapshot, which may need these updates."""
        self.is_valid, self.is_fresh, self.last_id, self.kept = False, False, NO_ID, kept

    def begin(self, last_id: int) -> tuple[list[Update], Update | None] | None:
        """Begin a book with a snapshot and the updates kept for it.

        Returns:
            The updates to apply, and the one that did not follow on, if any: then there is no
            book, and it and those behind it stay kept. None if the snapshot is too old: some
            updates behind it never came; all stay kept.
        """
        rest = [each for each in self.kept if NO_ID < last_id < each.last_id]
        if rest and rest[0].prev_id > last_id:
            return None
        self.apply_snapshot(last_id)
        applied: list[Update] = []
        for place, update in enumerate(rest):
            verdict = self.of_update(update.last_id, update.prev_id)
            if verdict is Verdict.BREAK:
                stopped_at = self.last_id
                self.lose(rest[place:])
                self.last_id = stopped_at
                return applied, update
            if verdict is Verdict.APPLY:
                self.apply_update(update.last_id)
                applied.append(update)
        self.kept = []
        return applied, None
