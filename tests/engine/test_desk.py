"""Who is served first, and when what could not be done is tried again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.engine import desk as desks
from pipeline.engine.desk import SOON_S, Desk, Phase
from pipeline.engine.follow import Follow
from pipeline.errors import DataError, DiskError, LockedError
from pipeline.instrument import Instrument

LONGEST_S = desks._LONGEST_S


def desk(name: str = "A") -> Desk:
    """An open desk with a feed of trades and one of books."""
    instrument = Instrument("okx", "perps", name)
    made = Desk(SimpleNamespace(instrument=instrument, runs={}), ExitStack())  # type: ignore[arg-type]
    made.feeds = {Path(name, "trades"): "trades", Path(name, "books"): "book"}
    made.phase = Phase.OPEN
    return made


def test_the_time_of_asking_is_that_of_the_first_change() -> None:
    one = desk()
    one.ask({Path("A", "trades")}, 10.0)
    one.ask({Path("A", "books")}, 11.0)

    assert one.asked_at == 10.0
    assert one.changed == {Path("A", "trades"), Path("A", "books")}


def test_a_change_elsewhere_is_no_asking() -> None:
    one = desk()
    one.ask({Path("B", "trades")}, 10.0)
    one.ask(set(), 11.0)

    assert (one.asked_at, one.changed) == (0.0, set())


def follow(tmp_path: Path, each: list[Desk]) -> Follow:
    """Something that would serve these desks."""
    made = Follow(tmp_path, list, [], SimpleNamespace())
    made._desks = {one.instrument: one for one in each}
    return made


def test_who_asked_first_is_looked_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their order among themselves; those that have closed go on together."""
    each = [desk(name) for name in "ABC"]
    for one, at in zip(each, (3.0, 1.0, 2.0), strict=True):
        one.ask({Path(one.instrument.inst_id, "trades")}, at)
    looked, carried = [], []

    def look(_follow: Follow, one: Desk) -> None:
        looked.append(one.instrument.inst_id)
        one.changed = set()
        one.resident.has_closed = one is not each[2]  # type: ignore[misc]

    def carry(_follow: Follow, some: list[Desk]) -> None:
        carried.append([one.instrument.inst_id for one in some])

    monkeypatch.setattr(Follow, "_look", look)
    monkeypatch.setattr(Follow, "_carry", carry)
    made = follow(tmp_path, each)
    made._serve(time.monotonic())
    assert (looked, carried) == (["B", "C", "A"], [["B", "A"]])


def test_who_has_closed_does_not_wait_long_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those are looked at in the next round."""
    each = [desk(name) for name in "AB"]
    for one in each:
        one.ask({Path(one.instrument.inst_id, "trades")}, 0.0)
    carried = []

    def look(_follow: Follow, one: Desk) -> None:
        one.changed = set()
        one.resident.has_closed = True  # type: ignore[misc]

    def carry(_follow: Follow, some: list[Desk]) -> None:
        carried.append([one.instrument.inst_id for one in some])
        for one in some:
            one.resident.has_closed = False  # type: ignore[misc]

    monkeypatch.setattr(Follow, "_look", look)
    monkeypatch.setattr(Follow, "_carry", carry)
    made = follow(tmp_path, each)
    began_long_ago = time.monotonic() - 1.0
    made._serve(began_long_ago)
    made._serve(time.monotonic())
    assert carried == [["A"], ["B"]]


def test_the_rest_waits_while_an_urgent_commit_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that nobody waits for (`rest` is None) holds nothing up."""
    first, second = each = [desk(name) for name in "AB"]
    first.rest, second.rest, second.phase = ["cvd"], ["cvd"], Phase.COMMITTING
    gone_on = []
    monkeypatch.setattr(Follow, "_go_on", lambda _follow, one: gone_on.append(one))
    made = follow(tmp_path, each)
    made._beat_at = float("inf")

    made._serve(0.0)
    assert gone_on == []
    assert made._patience() > 0
    second.rest = None
    assert made._patience() == 0
    made._serve(0.0)
    assert gone_on == [first]


def test_the_rest_is_not_put_off_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute all of it is done in one go, whoever else waits."""
    first, second = each = [desk(name) for name in "AB"]
    first.wait(0.0)
    first.rest = ["cvd", "vwap"]
    second.wait(0.0)
    second.phase = Phase.COMMITTING
    left = []

    def go_on(_follow: Follow, one: Desk) -> None:
        assert one.rest is not None
        left.append(one.rest.pop(0) if one.rest else "commit")
        if left[-1] == "commit":
            one.rest = None

    monkeypatch.setattr(Follow, "_go_on", go_on)
    made = follow(tmp_path, each)
    made._serve(59.0)
    assert left == []
    first.wait(59.5)  # the next minute has ended meanwhile
    first.rest = ["cvd", "vwap"]
    made._serve(60.5)
    assert left == ["cvd", "vwap", "commit"]


def test_lines_are_committed_as_read_sooner_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the signal, where nobody has come to that for a second."""
    one, clock = desk(), [100.0]
    asked: list[Any] = []
    one.resident.first = frozenset({"signals_mtf"})
    one.resident.raw_runs = []  # type: ignore[misc]
    one.resident.begin = lambda: None  # type: ignore[method-assign]
    one.resident.moved = asked.append  # type: ignore[assignment, method-assign]
    one.read_at = 99.0
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(Follow, "_commit", lambda *_: None)
    made = follow(tmp_path, [one])
    for at in (100.0, 100.5, 101.5):
        clock[0] = at
        made._carry([one])
    one.read_at = 101.6
    clock[0] = 102.0
    made._carry([one])
    one.rest = None
    clock[0] = 200.0
    made._carry([one])
    assert asked == [one.resident.first, one.resident.first, None, *[one.resident.first] * 2]


def put_off(one: Desk, *errors: Any) -> float:
    """For how long."""
    one.put_off(1000.0, list(errors))
    return one.due - 1000.0


def test_errors_are_tried_again_later_every_time() -> None:
    one, error = desk(), DataError("shrank", None)
    waits = [put_off(one, error) for _ in range(8)]

    assert waits == [min(LONGEST_S, SOON_S * 2**n) for n in range(8)]
    assert put_off(one) == LONGEST_S
    assert put_off(one, error) == SOON_S


def test_a_lock_is_tried_again_soon_however_often() -> None:
    """And does not make anything else wait longer."""
    one, locked, error = desk(), LockedError("locked", None), DiskError("full", None)

    assert [put_off(one, locked, locked) for _ in range(5)] == [SOON_S] * 5
    assert put_off(one, locked, error) == SOON_S
    assert put_off(one, locked, error) == 2 * SOON_S
    assert put_off(one, locked) == SOON_S


def test_an_error_is_news_again_when_all_was_well_between() -> None:
    one, error = desk(), DataError("shrank", None)

    assert [one.is_news(error), one.is_news(error)] == [True, False]
    one.put_off(0.0, [LockedError("locked", None)])
    assert not one.is_news(error)
    one.put_off(0.0, [])
    assert one.is_news(error)
