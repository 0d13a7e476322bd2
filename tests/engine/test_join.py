"""The windows of a join: without holes, each row once, nothing before every input is complete."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline import stages
from pipeline.engine.join import Join
from pipeline.engine.paths import VaultPaths
from pipeline.engine.state import RowMark
from pipeline.instrument import Instrument
from pipeline.layers import Layer
from pipeline.stage import BEGINNING_US, Input, Joined

from .test_readers import EVENTS, MINUTE, START, out_of_order, state, write_parts

X = Instrument("okx", "spot", "X")
OTHER = Layer("other", "other", "parquet", EVENTS.columns, "rows")
Rows = dict[str, list[tuple[int, int]]]


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VaultPaths:
    """A vault in which there are these two layers only."""
    found = {layer.name: (layer, None) for layer in (EVENTS, OTHER)}
    monkeypatch.setattr(stages, "layers", lambda: found)
    return VaultPaths(tmp_path)


def inputs(behind: int, ahead: int) -> tuple[Input, ...]:
    """Trades in a way, and something that is shown again and ahead of time."""
    return (
        Input("events", ("n",)),
        Input("other", ("n",), behind_us=behind, ahead_us=ahead),
    )


class Reader:
    """Runs over the same rows, as more and more of them are committed."""

    def __init__(self, vault: VaultPaths, rows: Rows, wanted: tuple[Input, ...]) -> None:
        self.vault, self.rows, self.inputs = vault, rows, wanted
        self.marks = {each.layer: RowMark(0, 1) for each in wanted}
        self.start: int | None = None
        for layer in (EVENTS, OTHER):
            write_parts(vault.derived(layer.folder, X), layer, rows[layer.name])

    def run(self, there: dict[str, int], give_up_us: int | None = None) -> list[Joined]:
        """All windows now; of each layer so many rows are committed, and a watermark with them."""
        above = {}
        for name, count in there.items():
            mark = max((ts for ts, _ in self.rows[name][:count]), default=None)
            above[name] = state(mark, rows={name: count})
        marks = {name: RowMark(mark.position, 1) for name, mark in self.marks.items()}
        join = Join(
            self.vault, X, self.inputs, MINUTE, above, marks, self.start, give_up_us=give_up_us
        )
        found = []
        for window in join.windows():
            found.append(window.rows)
            for name, position in window.release({}).items():
                self.marks[name].position = position
            self.start = window.rows.end_us
        return found


def shown(joined: Joined, name: str, low: int, high: int) -> list[tuple[int, int]]:
    """Rows of a frame by time."""
    frame = joined.frames[name]
    return [row for row in frame.rows() if low <= row[0] < high]


@pytest.mark.parametrize("seed", range(20))
def test_windows_in_any_order_of_arrival(seed: int, vault: VaultPaths) -> None:
    """They follow on from each other; inputs are complete in them, past and future included."""
    rng = random.Random(seed)
    rows = {name: out_of_order(rng, 40) for name in ("events", "other")}
    rows["other"].sort()
    behind, ahead = rng.choice((0, MINUTE)), rng.choice((0, MINUTE, 2 * MINUTE))
    reader = Reader(vault, rows, inputs(behind, ahead))
    there = {"events": 0, "other": 0}
    windows: list[Joined] = []
    while min(there.values()) < 40:
        name = rng.choice(list(there))
        there[name] = min(40, there[name] + rng.randrange(12))
        new = reader.run(there)
        marks = {n: max((ts for ts, _ in rows[n][:count]), default=0) for n, count in there.items()}
        for window in new:
            assert window.end_us % MINUTE == 0
            assert window.end_us <= min(marks["events"], marks["other"] - ahead)
        windows += new
    edges = [BEGINNING_US, *(window.end_us for window in windows)]
    assert [window.start_us for window in windows] == edges[:-1]
    for window in windows:
        low, high = window.start_us, window.end_us
        everything = [row for row in rows["events"] if low <= row[0] < high]
        assert window.frames["events"].rows() == everything
        first = low if low == BEGINNING_US else low - behind
        around = [row for row in rows["other"] if first <= row[0] < high + ahead]
        assert window.frames["other"].rows() == around
        assert window.given_up == {}
    ends = {name: max(ts for ts, _ in rows[name]) for name in rows}
    assert edges[-1] == min(ends["events"], ends["other"] - ahead) // MINUTE * MINUTE


def steady(count: int, every: int = 20_000_000) -> list[tuple[int, int]]:
    """Rows at equal distances."""
    return [(START + number * every, number) for number in range(count)]


@pytest.mark.parametrize("ahead", [0, MINUTE])
@pytest.mark.parametrize("before", [True, False])
def test_an_input_that_is_given_up(ahead: int, before: bool, vault: VaultPaths) -> None:
    """Windows end where it was known last; what lies before is the same as without giving up."""
    rows = {"events": steady(90), "other": steady(90)}
    reader = Reader(vault, rows, inputs(MINUTE, ahead))
    there = {"events": 60, "other": 20}
    stop = (rows["other"][19][0] - ahead) // MINUTE * MINUTE
    found = reader.run(there) if before else []
    found += reader.run(there, give_up_us=5 * MINUTE)
    known = [window for window in found if window.end_us <= stop]
    rest = [window for window in found if window.end_us > stop]
    assert known[-1].end_us == stop == rest[0].start_us
    assert all(window.given_up == {} for window in known)
    assert all(set(window.given_up) == {"other"} for window in rest)
    assert all(set(window.known) == {"events"} for window in rest)
    last = known[-1]
    assert shown(last, "other", stop, stop + ahead) == [
        row for row in rows["other"] if stop <= row[0] < stop + ahead
    ]
    for window in found:
        everything = shown(window, "events", window.start_us, window.end_us)
        assert everything == [r for r in rows["events"] if window.start_us <= r[0] < window.end_us]
    end = rest[-1].end_us
    assert end == rows["events"][59][0] // MINUTE * MINUTE
    # it comes back: nothing of the time without it is shown but what lies behind the window
    assert reader.run({"events": 60, "other": 50}) == []
    (window,) = reader.run({"events": 80, "other": 90})[:1]
    assert (window.start_us, window.given_up) == (end, {})
    assert window.frames["other"]["ts"][0] == end - MINUTE


def test_one_that_is_near_enough_is_waited_for(vault: VaultPaths) -> None:
    """Just as far behind as is allowed."""
    rows = {"events": steady(60), "other": steady(60)}
    reader = Reader(vault, rows, inputs(0, 0))
    there = {"events": 60, "other": 31}
    behind = rows["events"][59][0] // MINUTE * MINUTE - rows["other"][30][0] // MINUTE * MINUTE
    found = reader.run(there, give_up_us=behind)
    assert found[-1].end_us == rows["other"][30][0] // MINUTE * MINUTE
    assert reader.run(there, give_up_us=behind - 1)[0].given_up


def test_an_input_that_never_had_a_row(vault: VaultPaths) -> None:
    """Without giving it up there is no window at all."""
    reader = Reader(vault, {"events": steady(60), "other": []}, inputs(0, 0))
    there = {"events": 60, "other": 0}
    assert reader.run(there) == []
    found = reader.run(there, give_up_us=MINUTE)
    assert found[0].start_us == BEGINNING_US
    assert all(window.given_up == {"other": BEGINNING_US} for window in found)


def test_an_input_that_is_not_awaited(vault: VaultPaths) -> None:
    """Windows go by the others; it shows what there is."""
    rows = {"events": steady(60), "other": steady(60)}
    wanted = (Input("events", ("n",)), Input("other", ("n",), is_awaited=False))
    reader = Reader(vault, rows, wanted)
    found = reader.run({"events": 60, "other": 10})
    assert found[-1].end_us == rows["events"][59][0] // MINUTE * MINUTE
    assert sum(window.frames["other"].height for window in found) == 10
    assert all(window.given_up == {} for window in found)
