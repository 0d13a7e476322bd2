"""The state file: every damage is noticed, the generation before stands ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.engine import disk
from pipeline.engine import state as states
from pipeline.engine.state import Counts, FileMark, Parts, RowMark, State
from pipeline.errors import StateError


def state(generation: int = 1, **more: object) -> State:
    """A state with something in every field that a run fills."""
    made = State(
        stage="trades",
        instrument="okx/perps/X",
        schema=states.SCHEMA,
        code_version=1,
        params={"a": 1, "edges": ["0.5", "1"]},
        generation=generation,
        watermark_us=5,
        raw={"trades": [FileMark("2024-03-05", "2024-03-05.jsonl", 10, 2**62, 8)]},
        upstream={"trades": RowMark(7, 2)},
        outputs={"derived/x.jsonl": 100},
        parts={"trades": Parts(70, 50, 2, "x")},
        counts=Counts(1, 2, 3, 4, 5, 6),
        carry={"open": ["1.50", None, {"é": True}]},
    )
    return msgspec.structs.replace(made, **more)


def test_a_state_comes_back_as_it_was() -> None:
    """And the same state is always the same bytes."""
    data = states.encode(state())
    assert states.decode(data) == state()
    assert states.encode(state()) == data
    assert data.endswith(b"}\n")
    msgspec.json.decode(data)


def test_every_flipped_byte_and_every_cut_is_noticed() -> None:
    """No damage of one byte and no truncation passes for a state."""
    data = states.encode(state())
    for at in range(len(data)):
        for flip in (1, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[at] ^= flip
            assert states.decode(bytes(damaged)) is None, at
        assert states.decode(data[:at]) is None, at
    for more in (
        data + b"\n",
        data + data,
        b" " + data,
        b"\xef\xbb\xbf" + data,
        data.replace(b"\n", b"\r\n"),
    ):
        assert states.decode(more) is None


def test_no_state_is_no_error(tmp_path: Path) -> None:
    """A stage that has never run."""
    assert states.load(tmp_path / "X.state.json") == (None, None)


def test_the_newest_intact_generation_counts(tmp_path: Path) -> None:
    """One damaged file is made good by the other, with a word about it; two are an error."""
    path = tmp_path / "deep" / "X.state.json"
    states.save(path, state(1))
    assert states.load(path) == (state(1), None)
    assert not states.previous_path(path).exists()
    states.save(path, state(2))
    states.save(path, state(3))
    assert states.load(path) == (state(3), None)
    assert states.decode(states.previous_path(path).read_bytes()) == state(2)
    for damage in (b"", b"\x00" * 500, path.read_bytes()[:-1]):
        path.write_bytes(damage)
        found, warning = states.load(path)
        assert found == state(2)
        assert warning is not None
        assert "X.state.json" in warning
        assert "generation 2" in warning
    path.unlink()
    assert states.load(path)[0] == state(2)
    path.write_bytes(b"x")
    states.previous_path(path).write_bytes(b"y")
    with pytest.raises(StateError, match="damaged"):
        states.load(path)


def test_a_damaged_state_never_takes_the_spares_place(tmp_path: Path) -> None:
    """Saving over a damaged file keeps the intact generation before it."""
    path = tmp_path / "X.state.json"
    states.save(path, state(1))
    states.save(path, state(2))
    path.write_bytes(b"damaged")
    states.save(path, state(2))
    assert states.decode(states.previous_path(path).read_bytes()) == state(1)
    path.write_bytes(b"damaged")
    assert states.load(path)[0] == state(1)


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", range(12))
def test_a_save_that_dies_leaves_the_old_or_the_new(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step, without a warning, and the next save works."""
    path = tmp_path / "X.state.json"
    states.save(path, state(1))
    states.save(path, state(2))
    left = [step]
    for name in ("write_end", "sync", "replace", "sync_dir", "make_dir"):
        original = getattr(disk, name)

        def counted(*arguments: object, original: Any = original) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Died
            return original(*arguments)

        monkeypatch.setattr(disk, name, counted)
    died = False
    try:
        states.save(path, state(3))
    except Died:
        died = True
    monkeypatch.undo()
    found, warning = states.load(path)
    assert found is not None
    assert found in (state(2), state(3))
    assert warning is None
    assert died or found == state(3)
    states.save(path, state(found.generation + 1))
    assert states.load(path) == (state(found.generation + 1), None)


def test_a_state_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Not read as damaged: falling back would lose rows."""
    path = tmp_path / "X.state.json"
    states.save(path, state(1))
    states.save(path, state(2, schema=states.SCHEMA + 1))
    with pytest.raises(StateError, match="newer"):
        states.load(path)


def test_counts_add_up_field_by_field() -> None:
    """All six of them."""
    assert Counts(1, 2, 3, 4, 5, 6).plus(Counts(10, 20, 30, 40, 50, 60)) == Counts(
        11, 22, 33, 44, 55, 66
    )
