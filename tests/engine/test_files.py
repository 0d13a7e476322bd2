"""JSONL outputs, locks, rows as bytes, and committed rows as readers see them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from pipeline import stages
from pipeline.engine import lock, reader
from pipeline.engine import state as states
from pipeline.engine.disk import Unsynced
from pipeline.engine.jsonl import JsonlOutput
from pipeline.engine.paths import VaultPaths, find_instruments
from pipeline.engine.rows import encode_reject, encode_rows, stamp
from pipeline.engine.state import LayerMark, Parts, State
from pipeline.errors import LockedError, StateError
from pipeline.instrument import Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Reject

SWAP = Instrument("okx", "perps", "BTC-USDT-SWAP")
REPO = Path(__file__).resolve().parents[2]

# -- jsonl -----------------------------------------------------------------


@pytest.mark.parametrize("left", [b"", b"two\nth", b"two\nthree\nfour\n", b"x" * 100])
def test_rows_go_behind_the_committed_length(left: bytes, tmp_path: Path) -> None:
    """Whatever a dead run left there is overwritten and cut off."""
    path = tmp_path / "deep" / "x.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"one\n" + left)
    output = JsonlOutput(path, 4)
    output.check()
    assert not output.is_dirty
    output.append(b"")
    assert not output.is_dirty
    output.append(b"two\n")
    output.append(b"three\n")
    assert output.is_dirty
    assert path.read_bytes() == b"one\n" + left, "nothing is written before the commit"
    assert output.write(Unsynced()) == 14
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert output.write(Unsynced()) == 14
    assert not output.is_dirty


def test_a_file_shorter_than_committed_is_refused(tmp_path: Path) -> None:
    """Rows that were there are gone: going on would leave a hole."""
    path = tmp_path / "x.jsonl"
    with pytest.raises(StateError, match=r"x\.jsonl"):
        JsonlOutput(path, 4).check()
    path.write_bytes(b"one")
    with pytest.raises(StateError, match="3 bytes, but 4"):
        JsonlOutput(path, 4).check()
    JsonlOutput(path, 3).check()
    JsonlOutput(tmp_path / "new.jsonl", 0).check()


def test_a_follower_never_sees_a_row_vanish(tmp_path: Path) -> None:
    """Recomputed rows are written over their own bytes; the file is never cut before that."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"one\ntwo\nthree\n")
    with path.open("rb") as follower:
        assert follower.read() == b"one\ntwo\nthree\n"
        output = JsonlOutput(path, 4)
        output.append(b"two\nthree\nfour\n")
        output.write(Unsynced())
        assert follower.read() == b"four\n"


# -- locks -----------------------------------------------------------------


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    """Status 75 at once, with the process; afterwards the lock is free."""
    path = tmp_path / "state" / "X.lock"
    with lock.hold(path, "stage x"):
        with (
            pytest.raises(LockedError, match=f"process {os.getpid()}") as caught,
            lock.hold(path, "stage x"),
        ):
            pytest.fail("two holders")
        assert caught.value.status == 75
        assert "stage x is locked" in caught.value.message
        assert caught.value.hint
    with lock.hold(path, "stage x"):
        pass


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    """And nobody is named as its holder."""
    path = tmp_path / "X.lock"
    with pytest.raises(ZeroDivisionError), lock.hold(path, "x"):
        _ = 1 // 0
    assert lock.holder_of(path) is None
    assert not lock.holder_lives(path)
    with lock.hold(path, "x") as is_left:
        assert not is_left
        holder = lock.holder_of(path)
        assert holder is not None
        assert (holder.pid, holder.is_here, holder.is_gone) == (os.getpid(), True, False)
    assert lock.holder_of(path) is None


@pytest.mark.parametrize("holder", [b"", b" ", b" garbage", b" {}", b" []", b' {"pid":1}', b"\0\0"])
def test_a_holder_that_cannot_be_read_is_another_process(holder: bytes, tmp_path: Path) -> None:
    """What stands in the lock file is for the message only."""
    path = tmp_path / "X.lock"
    with lock.hold(path, "x"):
        path.write_bytes(holder)
        with pytest.raises(LockedError, match="another process"), lock.hold(path, "x"):
            pytest.fail("two holders")


@pytest.mark.parametrize("left", [b' {"pid":1,"host":"' + b"x" * 300 + b'"}', b"\0", b"half a no"])
def test_who_stands_in_a_free_lock_has_died_with_it(left: bytes, tmp_path: Path) -> None:
    """Nothing of it is left behind the next holder's name, however long it was."""
    path = tmp_path / "X.lock"
    path.write_bytes(left)
    with lock.hold(path, "x") as is_left:
        assert is_left
        holder = lock.holder_of(path)
        assert holder is not None
        assert holder.pid == os.getpid()
    with lock.hold(path, "x") as is_left:
        assert not is_left


def test_a_lock_file_that_was_deleted_guards_nothing(tmp_path: Path) -> None:
    """A holder may lose its name; whoever comes next locks the file that has it then."""
    path = tmp_path / "X.lock"
    real = os.open
    opened: list[int] = []

    def deleting(name: Path, flags: int, mode: int = 0o777) -> int:
        handle = real(name, flags, mode)
        if not opened:
            path.unlink()
        opened.append(handle)
        return handle

    path.touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", deleting)
        with lock.hold(path, "x"):
            assert len(opened) == 2, "the one that was deleted, and a new one"
            with pytest.raises(LockedError), lock.hold(path, "x"):
                pytest.fail("two holders")


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_lock_is_no_link(tmp_path: Path) -> None:
    """Nothing is written over a file somewhere else."""
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / "X.lock").symlink_to(other)
    with pytest.raises(OSError, match=r"X\.lock"), lock.hold(tmp_path / "X.lock", "x"):
        pytest.fail("held")
    assert other.read_bytes() == b"precious"


@contextmanager
def held_by_another(path: Path, code: str, said: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs some code, and holds the lock once it has said something."""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == said
        with pytest.raises(LockedError, match=f"process {other.pid} "), lock.hold(path, "x"):
            pytest.fail("two holders")
        yield other


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_process_holds_nothing(tmp_path: Path) -> None:
    """It does not let go of its parent's lock, nor keep it when the parent was killed."""
    path = tmp_path / "X.lock"
    code = (
        "import os, sys; from pathlib import Path; from pipeline.engine import lock\n"
        f"with lock.hold(Path({str(path)!r}), 'x'):\n"
        "    parent = os.fork()\n"
        "    if parent: sys.stdin.readline()\n"
        "if not parent: print('left', flush=True); sys.stdin.readline()\n"
    )
    with held_by_another(path, code, b"left\n") as other:
        other.kill()
        other.wait()
        with lock.hold(path, "x") as is_left:
            assert is_left


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_dead_holders_lock_is_free(tmp_path: Path) -> None:
    """However it died, and although its note still stands there."""
    path = tmp_path / "X.lock"
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.engine import lock\n"
        f"with lock.hold(Path({str(path)!r}), 'x'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with held_by_another(path, code, b"held\n") as other:
        other.kill()
    holder = lock.holder_of(path)
    assert holder is not None
    assert holder.is_gone
    assert not lock.holder_lives(path)
    with lock.hold(path, "x") as is_left:
        assert is_left


# -- rows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("us", "precision", "wanted"),
    [
        (0, "s", "1970-01-01T00:00:00Z"),
        (1_765_748_040_000_000, "s", "2025-12-14T21:34:00Z"),
        (1_999_999, "s", "1970-01-01T00:00:01Z"),
        (1_999_999, "ms", "1970-01-01T00:00:01.999Z"),
        (1_000, "ms", "1970-01-01T00:00:00.001Z"),
        (253_402_300_799_999_999, "ms", "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800_000_000, "s", "0001-01-01T00:00:00Z"),
    ],
)
def test_stamps(us: int, precision: str, wanted: str) -> None:
    """Floored to the precision, always the same width, always Z."""
    assert stamp(us, precision) == wanted


def test_a_row_is_one_line_with_its_keys_in_order() -> None:
    """Header first, nulls as null, text as UTF-8, numbers as JSON numbers."""
    columns = tuple(Column(name, "any", "", "") for name in ("a", "b", "c", "d"))
    layer = Layer("x_1m", "x", "jsonl", columns, "", span_us=1)
    rows = [(0, (1.5, None, "\u20ac\n", True)), (60_000_000, (100.0, 3, "", [1]))]
    assert (
        encode_rows(layer, SWAP, rows)
        == (
            '{"timestamp_utc":"1970-01-01T00:00:00Z","instId":"BTC-USDT-SWAP","exchange":"okx",'
            '"market":"perp","a":1.5,"b":null,"c":"\u20ac\\n","d":true}\n'
            '{"timestamp_utc":"1970-01-01T00:01:00Z","instId":"BTC-USDT-SWAP","exchange":"okx",'
            '"market":"perp","a":100.0,"b":3,"c":"","d":[1]}\n'
        ).encode()
    )
    assert encode_rows(layer, SWAP, []) == b""
    with pytest.raises(ValueError, match="zip"):
        encode_rows(layer, SWAP, [(0, (1,))])


def test_a_reject_is_one_line_whatever_it_holds() -> None:
    """Line feeds, quotes and NUL bytes inside are escaped."""
    line = encode_reject(Reject("2024-03-05", "raw/x.jsonl", 17, "json", 'a"\n\x00\u20ac'))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "source": "raw/x.jsonl",
        "offset": 17,
        "reason": "json",
        "raw": 'a"\n\x00\u20ac',
    }


# -- readers ---------------------------------------------------------------

JSONL = Layer("x_1m", "x", "jsonl", (), "")
PARQUET = Layer("y", "y", "parquet", (), "")


def made(root: Path, **more: object) -> State:
    """A committed state of a stage `x` in a vault."""
    made_state = State("x", SWAP.key, states.SCHEMA, 1, {}, layers={"x_1m": LayerMark()}, **more)  # type: ignore[arg-type]
    states.save(VaultPaths(root).state("x", SWAP), made_state)
    return made_state


def test_a_reader_stops_at_the_committed_length(tmp_path: Path) -> None:
    """Rows that are written but not committed are not there yet."""
    path = VaultPaths(tmp_path).derived("x", SWAP) / "x_1m.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\ntwo\nthree\n")
    assert reader.committed_length(tmp_path, JSONL, "x", SWAP) == 0
    made(tmp_path, outputs={VaultPaths(tmp_path).relative(path): 8})
    end = reader.committed_length(tmp_path, JSONL, "x", SWAP)
    assert end == 8
    assert reader.last_lines(path, end, 5) == [b"one\n", b"two\n"]
    assert reader.last_lines(path, end, 1) == [b"two\n"]
    assert reader.last_lines(path, end, 0) == []
    assert reader.last_lines(path, 0, 5) == []
    assert reader.lines_between(path, 4, 8) == b"two\n"


@pytest.mark.parametrize("width", [3, 1000, 70_000])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_last_lines_of_a_long_file(width: int, count: int, tmp_path: Path) -> None:
    """Read from behind, in pieces that cut lines anywhere."""
    lines = [b"%05d " % i + b"x" * width + b"\n" for i in range(60)]
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(lines))
    end = path.stat().st_size - len(lines[-1])
    assert reader.last_lines(path, end, count) == lines[:-1][-count:]


def test_last_lines_splits_at_line_feeds_only(tmp_path: Path) -> None:
    """A row may hold characters that Python also takes for line ends."""
    lines = ['{"a":"\u2028"}\n'.encode(), b'{"a":"\x0c \x1c"}\n', b'{"a":"\xc2\x85"}\n']
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(lines))
    assert reader.last_lines(path, path.stat().st_size, 2) == lines[1:]


@pytest.mark.parametrize("count", [1, 10, 11, 25, 99])
def test_the_last_rows_of_parquet_parts(count: int, tmp_path: Path) -> None:
    """Across files, and from files that still carry their temporary name."""
    folder = tmp_path / "y"
    folder.mkdir()
    for start, end, suffix in ((0, 10, ""), (10, 20, ".tmp"), (20, 25, "")):
        name = f"{start:012d}-{end:012d}.parquet{suffix}"
        pl.DataFrame({"n": range(start, end)}).write_parquet(folder / name)
    state = made(tmp_path, parts={"y": Parts(25, 10)})
    found = reader.last_frame(folder, state, PARQUET, count)
    assert found["n"].to_list() == list(range(max(0, 25 - count), 25))
    assert reader.last_frame(folder, made(tmp_path), PARQUET, count).is_empty()


def test_a_layer_is_found_by_its_name_or_its_stages() -> None:
    """`tail volume` means `volume_1m`."""
    for name, (layer, stage) in stages.layers().items():
        assert reader.find_layer(name) == (layer, stage)
    for stage in stages.all_stages():
        found = reader.find_layer(stage.name)
        assert found is not None
        assert found[1] is stage
    assert reader.find_layer("nobody") is None


# -- paths -----------------------------------------------------------------


def test_instruments_are_found_under_raw(tmp_path: Path) -> None:
    """Folders of known kinds and markets, each instrument once, in order."""
    for name in (
        *("okx/trades_perps/B", "okx/trades_perps/A", "okx/books_perps/A", "okx/trades_spot/C"),
        *("x_y/open_interest_perps/D", "okx/other_perps/E", "okx/trades_futures/F"),
        *(
            "taq/trades/AIG",
            "taq/quotes/GE",
            "taq/other/X",
            "finra/trades/Y",
            "okx/trades_equities/Z",
        ),
    ):
        (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / "okx" / "trades_perps" / "README.md").write_text("not a folder")
    found = [each.key for each in find_instruments(tmp_path)]
    assert found == [
        *("okx/perps/A", "okx/perps/B", "okx/spot/C"),
        *("taq/equities/AIG", "taq/equities/GE", "x_y/perps/D"),
    ]
    assert list(find_instruments(tmp_path / "nowhere")) == []
