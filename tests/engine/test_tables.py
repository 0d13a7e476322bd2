"""Market-wide tables: read once, made again when something changed, otherwise left alone."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.engine import feeds, lock, rawfiles, tablestate
from pipeline.errors import LockedError, StateError, UsageError
from pipeline.layers import Column
from pipeline.raw.whole import finra, lines
from pipeline.table import Table

from . import small_tables as small

ATS = "finra/ats_weekly"
FIRST, SECOND = f"{ATS}/2026-07-20.T1.jsonl", f"{ATS}/2026-07-27.T1.jsonl"
WEEK, NEXT = "2026-07-20", "2026-07-27"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Two weeks of one tier, one with a bad line, and a price file."""
    small.write(
        tmp_path,
        {
            FIRST: small.ats_line("A", 10.5, WEEK) + small.ats_line("B", 4, WEEK),
            SECOND: small.ats_line("A", 1, NEXT) + b"garbage\n",
            "prices/daily/A.jsonl": small.bar_line("2026-07-27", 5.0),
        },
    )
    return tmp_path


def shares(vault: Path) -> dict[str, float]:
    return dict(small.table(vault, "sums").select("symbol", "shares").iter_rows())


def test_rows_and_counts(vault: Path) -> None:
    """Every feed and table says what it did; words of a table reach the user."""
    done = small.run(vault)
    assert list(done) == ["finra_ats", "prices_daily", "sums", "halves"]
    counts = done["finra_ats"].counts
    assert (counts.rows_in, counts.rows_out, counts.bad) == (4, 3, 1)
    assert done["finra_ats"].is_too_bad
    assert (done["sums"].counts.rows_in, done["sums"].counts.rows_out) == (3, 2)
    assert done["halves"].notes == ["a word"]
    assert shares(vault) == {"A": 11.5, "B": 4.0}
    rows = small.table(vault, "halves").to_dicts()
    assert rows == [
        {"symbol": "A", "half": 5.75, "close": 5.0},
        {"symbol": "B", "half": 2.0, "close": None},
    ]
    assert small.table(vault, "few").schema == {"symbol": pl.String, "half": pl.Float64}


def test_quarantine(vault: Path) -> None:
    """The bad line, where it stood, under the raw file's path; gone when the file is mended."""
    small.run(vault)
    path = vault / "quarantine" / SECOND
    offset = len(small.ats_line("A", 1, NEXT))
    assert json.loads(path.read_bytes()) == {
        "source": f"raw/{SECOND}",
        "offset": offset,
        "reason": "json",
        "raw": "garbage",
    }
    small.write(vault, {SECOND: small.ats_line("A", 1, NEXT) + small.ats_line("C", 2, NEXT)})
    assert small.run(vault)["finra_ats"].counts.bad == 0
    assert not path.exists()
    assert shares(vault) == {"A": 11.5, "B": 4.0, "C": 2.0}


def test_nothing_changed_nothing_written(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte, not a time; no table is computed and no raw file is opened."""
    small.run(vault)
    before, calls = small.everything(vault), len(small.CALLS)
    monkeypatch.delattr(feeds, "chunks")
    done = small.run(vault)
    assert small.everything(vault) == before
    assert len(small.CALLS) == calls
    assert all(each.counts.rows_in == each.counts.rows_out == 0 for each in done.values())


def test_only_changed_files_are_read(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is read, its neighbours in the same Parquet file are not."""
    small.run(vault)
    opened: list[str] = []
    real = rawfiles.chunks

    def noted(file: Any, offset: int, size: int) -> Any:
        opened.append(file.path.name)
        return real(file, offset, size)

    monkeypatch.setattr(feeds, "chunks", noted)
    small.write(vault, {f"{ATS}/2026-07-20.T2.jsonl": small.ats_line("C", 3, WEEK)})
    done = small.run(vault)
    assert opened == ["2026-07-20.T2.jsonl"]
    assert (done["finra_ats"].counts.rows_in, done["prices_daily"].counts.rows_in) == (1, 0)
    assert shares(vault) == {"A": 11.5, "B": 4.0, "C": 3.0}


def test_same_bytes_with_another_time(vault: Path) -> None:
    """Read again, found to be the same, and nothing is made anew."""
    small.run(vault)
    before, calls = small.tree(vault), len(small.CALLS)
    os.utime(vault / "raw" / FIRST, ns=(1, 1))
    counts = small.run(vault)["finra_ats"].counts
    assert (counts.rows_in, small.tree(vault), len(small.CALLS)) == (0, before, calls)
    state = small.everything(vault)
    small.run(vault)
    assert small.everything(vault) == state


def test_compressing_changes_nothing(vault: Path) -> None:
    """The same lines in another file; while both are there the plain one counts."""
    small.run(vault)
    before = small.tree(vault)
    path = vault / "raw" / FIRST
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    small.run(vault)
    path.unlink()
    small.run(vault)
    assert small.tree(vault) == before


def test_files_that_are_gone(vault: Path) -> None:
    """Their rows stay, as everywhere in a vault; an empty file takes them back."""
    small.run(vault)
    before = small.tree(vault)
    (vault / "raw" / FIRST).unlink()
    small.run(vault)
    assert small.tree(vault) == before
    small.write(vault, {f"{ATS}/2026-07-20.T2.jsonl": small.ats_line("C", 3, WEEK)})
    small.run(vault)
    assert shares(vault) == {"A": 11.5, "B": 4.0, "C": 3.0}
    small.write(vault, {FIRST: b""})
    small.run(vault)
    assert shares(vault) == {"A": 1.0, "C": 3.0}


def test_incremental_is_batch(vault: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the order of arrival, the same files with the same bytes."""
    whole = tmp_path_factory.mktemp("whole")
    files = {
        f"{ATS}/2026-0{6 + n // 4}-{day:02d}.{tier}.jsonl": b"".join(
            small.ats_line(symbol, n + 1.25, f"2026-0{6 + n // 4}-{day:02d}", tierIdentifier=tier)
            for symbol in "ZAB"
        )
        + (b"bad\n" if n % 3 == 0 else b"")
        for n, day in enumerate((1, 8, 15, 22, 6, 13, 20, 27))
        for tier in ("T2", "T1")
    }
    for number, (name, data) in enumerate(reversed(files.items())):
        small.write(vault, {name: data[: len(data) // 2]})
        if number % 3 == 0:
            small.run(vault)
        small.write(vault, {name: data})
        if number % 2 == 0:
            small.run(vault)
    small.run(vault)
    for path in (vault / "raw").rglob("*.jsonl"):
        small.write(whole, {path.relative_to(vault / "raw").as_posix(): path.read_bytes()})
    small.run(whole)
    assert small.tree(vault) == small.tree(whole)


def test_a_file_that_grows(vault: Path) -> None:
    """A torn last line is set aside until it is whole, and is no reason to fail."""
    line = small.ats_line("D", 2, NEXT)
    small.write(vault, {SECOND: small.ats_line("A", 1, NEXT) + line[:40]})
    outcome = small.run(vault)["finra_ats"]
    assert (outcome.counts.bad, outcome.is_too_bad) == (1, False)
    assert json.loads((vault / "quarantine" / SECOND).read_bytes())["reason"] == "torn"
    small.write(vault, {SECOND: small.ats_line("A", 1, NEXT) + line})
    small.run(vault)
    assert shares(vault)["D"] == 2.0
    assert not (vault / "quarantine" / SECOND).exists()


def test_changed_parameters_are_simply_recomputed(vault: Path) -> None:
    """No rebuild: a table is never of two kinds. Back again gives the same bytes."""
    small.run(vault)
    before = small.tree(vault)
    done = small.run(vault, {"sums": {"least": 5.0}})
    assert done["sums"].counts.rows_out == 1
    assert shares(vault) == {"A": 10.5}
    assert small.table(vault, "halves").height == 1
    small.run(vault)
    assert small.tree(vault) == before
    with pytest.raises(UsageError, match=r"\[sums\] has no key 'most'; keys: least"):
        small.run(vault, {"sums": {"most": 1}})


def test_unchanged_rows_are_not_handed_on(vault: Path) -> None:
    """A table that comes out the same spares those behind it."""
    small.run(vault)
    small.CALLS.clear()
    small.run(vault, {"sums": {"least": 0.5}})
    assert small.CALLS == ["sums"]


def test_new_version_of_a_table_or_feed(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed again; a feed's files are all read again, and those that are gone stay."""
    small.run(vault)
    (vault / "raw" / FIRST).unlink()
    small.CALLS.clear()
    newer = Table(
        **{name: getattr(small.SUMS, name) for name in small.SUMS.__slots__} | {"version": 2}
    )
    small.run(vault, chain=(newer, small.HALVES))
    assert small.CALLS == ["sums"]
    small.write(vault, {f"{ATS}/2026-06-01.T1.jsonl": small.ats_line("A", 1, "2026-06-01")})
    small.run(vault, chain=(newer, small.HALVES))
    (vault / "raw" / ATS / "2026-06-01.T1.jsonl").unlink()
    column = Column("more", "string", "", "a column that came later")
    layer = replace(finra.ATS.layer, columns=(*finra.ATS.layer.columns, column))
    monkeypatch.setitem(small.FEEDS, "finra_ats", replace(finra.ATS, version=2, layer=layer))
    assert small.run(vault, chain=(newer, small.HALVES))["finra_ats"].counts.rows_in == 2
    assert shares(vault) == {"A": 12.5, "B": 4.0}
    assert small.table(vault, "finra_ats")["more"].is_null().all()


@pytest.mark.parametrize("folder", ["finra_ats", "sums"])
def test_damaged_outputs(vault: Path, folder: str) -> None:
    """Named, with what to do; nothing else is touched and nothing is made from it."""
    small.run(vault)
    (path,) = (vault / "derived" / folder).iterdir()
    path.write_bytes(path.read_bytes()[:-100] + b"x" * 100)
    small.write(vault, {"prices/daily/A.jsonl": small.bar_line("2026-07-27", 6.0)})
    settings = {"sums": {"least": 2.0}} if folder == "finra_ats" else None
    with pytest.raises(StateError, match=f"delete .*{path.name}"):
        small.run(vault, settings)
    path.unlink()
    small.run(vault, settings)
    assert shares(vault) == {"A": 11.5 if settings is None else 10.5, "B": 4.0}
    assert small.table(vault, "halves")["close"].to_list() == [6.0, None]


def test_lost_outputs_are_made_again(vault: Path) -> None:
    """Deleted or missing files come back as they were."""
    small.run(vault)
    before = small.tree(vault)
    for name in before:
        (vault / name).unlink()
        small.run(vault)
        assert small.tree(vault) == before, name


def test_rows_that_nothing_can_give_again(vault: Path) -> None:
    """Said, and not passed over in silence."""
    small.run(vault)
    (vault / "raw" / FIRST).unlink()
    for path in (vault / "derived" / "finra_ats").iterdir():
        path.unlink()
    with pytest.raises(StateError, match=r"2026-07-20\.T1"):
        small.run(vault)


def test_leftovers_are_cleared(vault: Path) -> None:
    """Files that no state lists."""
    small.run(vault)
    before = small.tree(vault)
    for folder in ("derived/sums", "derived/finra_ats"):
        (vault / folder / "x.0123456789ab.parquet").write_bytes(b"junk")
        (vault / folder / "y.parquet.tmp").write_bytes(b"junk")
    small.run(vault)
    assert small.tree(vault) == before


def test_damaged_state(vault: Path) -> None:
    """The generation before takes over, and the next run makes good what it does not know."""
    small.run(vault)
    small.write(vault, {SECOND: small.ats_line("A", 3, NEXT)})
    small.run(vault)
    before = small.tree(vault)
    for name in ("finra_ats", "sums", "halves"):
        path = tablestate.path_of(vault, name)
        path.write_bytes(path.read_bytes().replace(b'"generation"', b'"generatioN"'))
        done = small.run(vault)
        assert any("damaged" in note for note in done[name].notes)
        assert small.tree(vault) == before, name


def test_one_at_a_time(vault: Path) -> None:
    """The second leaves with 75 and says who is at it."""
    with (
        lock.hold(tablestate.lock_path(vault), "x"),
        pytest.raises(LockedError, match=f"market-wide tables is locked by process {os.getpid()}"),
    ):
        small.run(vault)
    small.run(vault)


def test_strays(vault: Path) -> None:
    """Files whose names say nothing are not read, and that is said."""
    small.write(
        vault,
        {f"{ATS}/2026-07-20.csv": b"x", f"{ATS}/2026-13-20.T1.jsonl": b"x", f"{ATS}/.part": b"x"},
    )
    (note,) = small.run(vault)["finra_ats"].notes
    assert "{WEEK_START}.{T1,T2,OTC}.jsonl" in note
    assert "2026-07-20.csv and 1 more" in note


def test_damaged_archive_stops_nobody_else(vault: Path) -> None:
    """An error of its own; all other files are read, and the next run looks again."""
    packed = gzip.compress(small.ats_line("E", 1, WEEK) * 50)
    name = f"{ATS}/2026-07-20.T2.jsonl.gz"
    small.write(vault, {name: packed[:20] + b"xxxxxxxx" + packed[28:]})
    with pytest.raises(Exception, match="damaged gzip") as caught:
        small.run(vault)
    assert caught.value.status == 65  # type: ignore[attr-defined]
    assert shares(vault) == {"A": 11.5, "B": 4.0}
    small.write(vault, {name: packed})
    small.run(vault)
    assert shares(vault)["E"] == 1.0


@pytest.mark.parametrize("size", [40, 333, 1000])
def test_blocks(vault: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Wherever a file is cut while it is read, the rows are the same; long lines are bad."""
    long = b"x" * 900 + b"\n"
    data = b"".join(small.ats_line(s, 2, WEEK) + (long if s == "F" else b"") for s in "ABCDEFGH")
    small.write(vault, {FIRST: data})
    monkeypatch.setattr(lines, "LONGEST_LINE", 500)
    monkeypatch.setattr(lines, "KEPT_OF_LONG_LINE", 10)
    small.run(vault)
    whole = small.tree(vault)
    monkeypatch.setattr(feeds, "_BLOCK_BYTES", size)
    small.write(vault, {FIRST: b""})
    small.run(vault)
    small.write(vault, {FIRST: data})
    small.run(vault)
    assert small.tree(vault) == whole
    bad = json.loads((vault / "quarantine" / FIRST).read_bytes())
    assert bad["offset"] == data.index(long)
    assert (bad["reason"], bad["raw"]) == ("too long", "x" * 10)


def test_long_first_reading_commits_on_the_way(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the middle of it costs the part that was being read, no more."""
    monkeypatch.setattr(feeds, "COMMIT_ROWS", 1)
    small.write(vault, {f"{ATS}/2026-06-01.T1.jsonl": small.ats_line("A", 1, "2026-06-01")})
    saved: list[int] = []
    real: Callable[..., None] = tablestate.save

    def counted(path: Path, state: Any) -> None:
        saved.append(len(getattr(state, "files", ())))
        real(path, state)

    monkeypatch.setattr(tablestate, "save", counted)
    small.run(vault)
    assert saved[:2] == [1, 3]
