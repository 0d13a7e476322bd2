"""What an import does to a vault that has something in it, and with archives that are damaged."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path

import pytest

from pipeline.engine import lock

from . import archives as make
from .archives import Trade, by_day, utc, walk
from .conftest import Command

SWAP = "BTC-USDT-SWAP"
RAW = f"okx/trades_perps/{SWAP}"
MIDNIGHT = utc("2025-06-01T16:00")
"""A midnight in UTC+8."""

DAYS = [
    walk(
        300, MIDNIGHT + i * make.DAY_US, MIDNIGHT + (i + 1) * make.DAY_US, first=1 + 300 * i, seed=i
    )
    for i in range(4)
]
"""The trades of four days in UTC+8."""

ALL = [each for day in DAYS for each in day]


def okx(folder: Path, number: int, trades: list[Trade] | None = None, **more: bool) -> Path:
    """The archive of a day in UTC+8."""
    name = f"{SWAP}-trades-2025-06-{2 + number:02d}.zip"
    content = make.okx_trades(DAYS[number] if trades is None else trades, SWAP)
    return make.zipped(folder, name, content, **more)


def lines(trades: list[Trade]) -> dict[str, bytes]:
    return by_day(trades, lambda each: make.okx_line(each, SWAP))


def actions(rows: list[dict]) -> list[tuple[str, str]]:  # type: ignore[type-arg]
    return [(day["day"], day["action"]) for row in rows for day in row["days"]]


def run(flowvault: Command, code: int = 0) -> str:
    outcome = flowvault("run", "-i", SWAP, "--stage", "trades", "--json")
    assert outcome.code == code, outcome.err
    return outcome.err


# -- days out of several archives ------------------------------------------


def test_two_days_of_utc_plus_8_make_one_utc_day(flowvault: Command, folder: Path) -> None:
    """In one go, whatever the order on the command line."""
    paths = [okx(folder, number) for number in (2, 0, 3, 1)]

    rows = flowvault.import_(*paths)

    assert flowvault.raw(RAW) == lines(ALL)
    assert [row["archive"] for row in rows] == sorted(path.name for path in paths)
    assert actions(rows)[:4] == [
        *[("2025-06-01", "new"), ("2025-06-02", "new")],
        *[("2025-06-02", "extended"), ("2025-06-03", "new")],
    ]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_one_by_one_in_any_order(order: tuple[int, ...], flowvault: Command, folder: Path) -> None:
    """A part of a day takes its place before, behind or between what is there."""
    for number in order:
        flowvault.import_(okx(folder, number))

    assert flowvault.raw(RAW) == lines(ALL)


def content_and_times(vault: Path) -> dict[Path, tuple[bytes, int | None]]:
    """Every file, and when it was written if it is no lock."""
    return {
        path: (path.read_bytes(), None if path.suffix == ".lock" else path.stat().st_mtime_ns)
        for path in vault.rglob("*")
        if path.is_file()
    }


def test_importing_twice_changes_nothing(flowvault: Command, folder: Path) -> None:
    """Not a byte, not even the time of a file; but for that of the lock, which was held."""
    paths = [okx(folder, number) for number in range(4)]
    flowvault.import_(*paths)
    before = content_and_times(flowvault.vault)

    rows = flowvault.import_(*paths)

    assert content_and_times(flowvault.vault) == before
    assert all(row["known"] for row in rows)


@pytest.mark.parametrize("lost", ["state/import", "state/import/okx/trades_perps/x/archives"])
def test_without_its_records_it_still_changes_nothing(
    lost: str, flowvault: Command, folder: Path
) -> None:
    """The same bytes are recognised as such, and can be extended again."""
    import shutil

    first = [okx(folder, 0), okx(folder, 1)]
    flowvault.import_(*first)
    shutil.rmtree(flowvault.vault / lost.replace("/x/", f"/{SWAP}/"))

    rows = flowvault.import_(*first)

    assert {action for _, action in actions(rows)} == {"same"}
    flowvault.import_(okx(folder, 2), okx(folder, 3))
    assert flowvault.raw(RAW) == lines(ALL)


def test_a_month_and_its_days_are_the_same(flowvault: Command, folder: Path) -> None:
    """Whichever comes first, nothing is there twice."""
    month = make.zipped(folder, f"{SWAP}-trades-2025-06.zip", make.okx_trades(ALL, SWAP))
    flowvault.import_(okx(folder, 0), okx(folder, 1))
    rows = flowvault.import_(month)
    assert ("2025-06-02", "same") in actions(rows)
    assert ("2025-06-03", "extended") in actions(rows)
    rows = flowvault.import_(okx(folder, 2), okx(folder, 3))
    assert {action for _, action in actions(rows)} == {"same"}
    assert flowvault.raw(RAW) == lines(ALL)


def test_a_day_that_was_compressed_is_extended_all_the_same(
    flowvault: Command, folder: Path
) -> None:
    flowvault.import_(okx(folder, 0))
    day = flowvault.vault / "raw" / RAW / "2025-06-02.jsonl"
    day.with_name(day.name + ".gz").write_bytes(gzip.compress(day.read_bytes()))
    day.unlink()

    flowvault.import_(okx(folder, 1))

    assert flowvault.raw(RAW) == lines(DAYS[0] + DAYS[1])


def test_a_day_that_was_deleted_stays_deleted(flowvault: Command, folder: Path) -> None:
    """Until it is asked for: raw files that have been read may be thrown away."""
    path = okx(folder, 0)
    flowvault.import_(path)
    (flowvault.vault / "raw" / RAW / "2025-06-01.jsonl").unlink()

    outcome = flowvault("import", path)

    assert outcome.code == 0
    assert "gone" in outcome.err
    assert list(flowvault.raw(RAW)) == ["2025-06-02.jsonl"]
    flowvault.import_(path, "--again")
    assert flowvault.raw(RAW) == lines(DAYS[0])


# -- what others have written ----------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_collectors_day_is_never_touched(ending: str, flowvault: Command, folder: Path) -> None:
    """The day is refused with the next command; the other days of the archive are imported."""
    place = flowvault.vault / "raw" / RAW / f"2025-06-02.jsonl{ending}"
    place.parent.mkdir(parents=True)
    content = make.okx_line(DAYS[0][0], SWAP)
    place.write_bytes(gzip.compress(content) if ending else content)
    before = place.read_bytes()

    outcome = flowvault("import", okx(folder, 0))

    assert outcome.code == 65
    assert "2025-06-02" in outcome.err
    assert "no import has written it" in outcome.err
    assert "next: " in outcome.err
    files = flowvault.raw(RAW)
    assert files[place.name] == before
    assert files["2025-06-01.jsonl"] == lines(DAYS[0])["2025-06-01.jsonl"]
    assert len(files) == 2
    assert not flowvault.import_(okx(folder, 0), code=65)[0]["known"]

    rows = flowvault.import_(okx(folder, 0), "--skip-existing")

    assert ("2025-06-02", "kept") in actions(rows)
    assert flowvault.raw(RAW) == files
    assert flowvault.import_(okx(folder, 0))[0]["known"]
    assert flowvault.import_(okx(folder, 0), "--again", code=65)
    assert flowvault.raw(RAW) == files


def test_a_day_that_a_collector_went_on_with_is_its_own(flowvault: Command, folder: Path) -> None:
    flowvault.import_(okx(folder, 0))
    day = flowvault.vault / "raw" / RAW / "2025-06-02.jsonl"
    with day.open("ab") as stream:
        stream.write(make.okx_line(DAYS[1][0], SWAP))
    before = day.read_bytes()

    flowvault.import_(okx(folder, 1), code=65)

    assert day.read_bytes() == before


def test_a_file_that_appears_meanwhile_is_not_replaced(
    flowvault: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the decision and the act."""
    from pipeline.engine import disk

    place = disk.place

    def late(source: Path, target: Path) -> None:
        target.write_bytes(b"a collector's\n")
        place(source, target)

    monkeypatch.setattr(disk, "place", late)

    flowvault.import_(okx(folder, 0), code=65)

    assert set(flowvault.raw(RAW).values()) == {b"a collector's\n"}
    assert not list((flowvault.vault / "raw").rglob("*importing"))


def test_without_links_a_name_is_taken_only_if_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have no links."""
    import os

    from pipeline.engine import disk

    def none(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", none)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    disk.place(source, target)
    assert (target.read_bytes(), source.exists()) == (b"new", False)
    source.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        disk.place(source, target)
    assert target.read_bytes() == b"new"


def test_other_rows_of_the_same_time_are_refused(flowvault: Command, folder: Path) -> None:
    """An archive that was published anew replaces its rows only when it is told to."""
    flowvault.import_(okx(folder, 0), okx(folder, 1))
    before = flowvault.raw(RAW)
    mended = [Trade(e.number, e.price + "1", e.size, e.is_buy, e.us) for e in DAYS[1]]
    path = okx(folder, 1, mended)

    outcome = flowvault("import", path)

    assert outcome.code == 65
    assert "other rows of that time" in outcome.err
    assert "--again" in outcome.err
    assert flowvault.raw(RAW) == before

    rows = flowvault.import_(path, "--again")

    assert {action for _, action in actions(rows)} == {"replaced"}
    assert flowvault.raw(RAW) == lines(DAYS[0] + mended)


def test_trades_and_aggregates_do_not_share_a_day(flowvault: Command, folder: Path) -> None:
    """Their ids are not of one sequence."""
    half = len(DAYS[0]) // 2
    one, other = make.binance_trades(DAYS[0][:half]), make.binance_aggregates(DAYS[0][half:])
    flowvault.import_(make.zipped(folder, "BTCUSDT-trades-2025-06-01.zip", one))

    outcome = flowvault("import", make.zipped(folder, "BTCUSDT-aggTrades-2025-06-01.zip", other))

    assert outcome.code == 65
    assert "binance-trades" in outcome.err


# -- beside the stages -----------------------------------------------------


def test_stages_take_in_what_comes_in_order(flowvault: Command, folder: Path) -> None:
    """As they take in what a collector appends."""
    for number in range(4):
        flowvault.import_(okx(folder, number))
        run(flowvault)

    assert rows_of_trades(flowvault) == len(ALL)


def rows_of_trades(flowvault: Command) -> int:
    outcome = flowvault("status", "-i", SWAP, "--json")
    return next(int(row["rows"]) for row in outcome.rows if row["layer"] == "trades")


@pytest.mark.parametrize("number", [0, 1])
def test_days_before_those_that_were_read_need_a_word(
    number: int, flowvault: Command, folder: Path
) -> None:
    """A stage would refuse to go on, so nothing changes until --backfill; then it is rebuilt."""
    flowvault.import_(okx(folder, 2))
    run(flowvault)
    flowvault.import_(okx(folder, 3))
    run(flowvault)
    before = flowvault.raw(RAW)

    outcome = flowvault("import", okx(folder, number))

    assert outcome.code == 65
    assert "--backfill" in outcome.err
    assert flowvault.raw(RAW) == before
    run(flowvault)

    outcome = flowvault("import", okx(folder, number), "--backfill")

    assert outcome.code == 0
    assert f"flowvault rebuild trades -i {SWAP}" in outcome.err
    wanted = [*DAYS[number], *DAYS[2], *DAYS[3]]
    assert flowvault.raw(RAW) == lines(sorted(wanted, key=lambda each: each.us))
    assert "rebuild" in run(flowvault, code=65)
    assert flowvault("rebuild", "trades", "-i", SWAP).code == 0
    assert rows_of_trades(flowvault) == len(wanted)


def test_no_stage_runs_while_a_file_changes_behind_its_back(
    flowvault: Command, folder: Path
) -> None:
    """Rows in the middle wait for the stage to end; rows at the end need not."""
    from pipeline.engine.paths import VaultPaths
    from pipeline.instrument import Instrument

    flowvault.import_(okx(folder, 1))
    path = VaultPaths(flowvault.vault).lock("trades", Instrument("okx", "perps", SWAP))
    with lock.hold(path, "a stage"):
        assert flowvault("import", okx(folder, 0)).code == 75
        flowvault.import_(okx(folder, 2))
    flowvault.import_(okx(folder, 0))

    assert flowvault.raw(RAW) == lines(DAYS[0] + DAYS[1] + DAYS[2])


def test_two_imports_of_one_instrument(flowvault: Command, folder: Path) -> None:
    from pipeline.engine.paths import VaultPaths
    from pipeline.instrument import Instrument

    place = VaultPaths(flowvault.vault).imports(Instrument("okx", "perps", SWAP), "trades")
    with lock.hold(place.with_name(place.name + ".lock"), "another import"):
        outcome = flowvault("import", okx(folder, 0))

    assert outcome.code == 75
    assert "locked by process" in outcome.err
    assert flowvault.raw() == {}


# -- damage ----------------------------------------------------------------


def test_a_checksum_beside_the_archive_is_checked(flowvault: Command, folder: Path) -> None:
    good, bad = okx(folder, 0, checksum=True), okx(folder, 1, checksum=True)
    okx(folder, 1, DAYS[1][:-1])

    rows = flowvault.import_(good, bad, code=65)

    assert [row["archive"] for row in rows] == [good.name]
    assert "SHA-256" in flowvault("import", bad).err
    bad.with_name(bad.name + ".CHECKSUM").write_text("nothing", encoding="ascii")
    assert "no SHA-256" in flowvault("import", bad).err


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_zip_leaves_nothing_behind(seed: int, flowvault: Command, folder: Path) -> None:
    rng = random.Random(seed)
    path = okx(folder, 0)
    content = bytearray(path.read_bytes())
    if seed % 2:
        content = content[: rng.randrange(30, len(content) - 1)]
    else:
        content[rng.randrange(200, len(content) - 300)] ^= 1 + rng.randrange(255)
    path.write_bytes(content)

    outcome = flowvault("import", path)

    assert outcome.code == 65, outcome.out
    assert "damaged" in outcome.err
    assert "next:" in outcome.err
    assert flowvault.raw() == {}


@pytest.mark.parametrize("ending", [".csv.gz", ".tar.gz", ".csv.zst", ".parquet"])
@pytest.mark.parametrize("cut", [0.3, 0.9, -1])
def test_a_cut_archive_leaves_nothing_behind(
    ending: str, cut: float, flowvault: Command, folder: Path
) -> None:
    import polars as pl
    import zstandard

    content = make.okx_trades(ALL, SWAP)
    name = f"{SWAP}-trades-2025-06{ending}"
    path = folder / name
    if ending == ".csv.gz":
        make.gzipped(folder, name, content)
    elif ending == ".tar.gz":
        make.tarred(folder, name, {"a.csv": content})
    elif ending == ".csv.zst":
        path.write_bytes(zstandard.compress(content))
    else:
        rows = {"time": [e.us // 1000 for e in ALL], "price": [e.price for e in ALL]}
        rows |= {"size": [e.size for e in ALL], "side": [make.side(e) for e in ALL]}
        pl.DataFrame(rows).write_parquet(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if cut < 0 else whole[: int(len(whole) * cut)])

    outcome = flowvault("import", path, "-i", SWAP, "--exchange", "okx", "--market", "perps")

    assert outcome.code == 65, outcome.out
    assert "damaged" in outcome.err
    assert flowvault.raw() == {}


def test_a_bit_that_flips_in_a_gzip_member_is_noticed(flowvault: Command, folder: Path) -> None:
    path = make.gzipped(folder, "trades.csv.gz", make.okx_trades(ALL, SWAP))
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)

    assert flowvault("import", path).code == 65
    assert flowvault.raw() == {}


def test_an_encrypted_zip_is_refused(flowvault: Command, folder: Path) -> None:
    path = okx(folder, 0)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)

    outcome = flowvault("import", path)

    assert outcome.code == 65
    assert "encrypted" in outcome.err


def test_an_archive_with_nothing_in_it(flowvault: Command, folder: Path) -> None:
    path = folder / "empty.zip"
    with zipfile.ZipFile(path, "w"):
        pass
    assert flowvault("import", path).code == 65
    (row,) = flowvault.import_(okx(folder, 0, []))
    assert (row["rows"], row["days"]) == (0, [])


def test_missing_files_do_not_stop_the_others(flowvault: Command, folder: Path) -> None:
    rows = flowvault.import_(folder / "nothere.zip", okx(folder, 0), code=66)

    assert len(rows) == 1
    assert flowvault.raw(RAW) == lines(DAYS[0])


def test_a_folder_is_searched(flowvault: Command, folder: Path) -> None:
    assert flowvault("import", folder).code == 66
    inside = folder / "2025" / "06"
    inside.mkdir(parents=True)
    for number in range(4):
        okx(inside, number, checksum=True)

    rows = flowvault.import_(folder)

    assert len(rows) == 4
    assert flowvault.raw(RAW) == lines(ALL)


# -- bad rows --------------------------------------------------------------


def with_bad_rows(every: int) -> tuple[bytes, list[int], list[Trade]]:
    """A table in which some rows are bad: bytes, numbers of their lines, the good trades."""
    rows = make.okx_trades(ALL, SWAP).splitlines(keepends=True)
    bad = [place for place in range(1, len(rows)) if place % every == 0]
    wrong = (b"BTC-USDT-SWAP,1,buy,-5,1,1748707200008\n", b"\xff\xfe,,\n", b"half a li\n")
    for count, place in enumerate(bad):
        rows[place] = wrong[count % 3]
    good = [each for place, each in enumerate(ALL, 1) if place not in bad]
    return b"".join(rows), [place + 1 for place in bad], good


@pytest.mark.parametrize(("every", "code"), [(150, 0), (50, 65)])
def test_bad_rows_are_set_aside_with_their_lines(
    every: int, code: int, flowvault: Command, folder: Path
) -> None:
    """Nothing else is lost; more than one in a hundred is told by the exit status."""
    content, bad, good = with_bad_rows(every)
    path = make.zipped(folder, f"{SWAP}-trades-2025-06.zip", content)

    outcome = flowvault("import", path)

    assert outcome.code == code
    assert f"line {bad[0]:,}: price" in outcome.err
    assert flowvault.raw(RAW) == lines(good)
    place = flowvault.vault / "quarantine" / "okx" / "trades_perps" / SWAP / "import"
    (file,) = place.iterdir()
    found = [json.loads(each) for each in file.read_text("utf-8").splitlines()]
    assert [row["line"] for row in found] == bad
    assert [row["reason"] for row in found[:3]] == ["price", "encoding", "columns"]
    assert set(found[0]) == {"source", "offset", "reason", "raw", "line"}
    table = content.splitlines(keepends=True)
    assert [row["offset"] for row in found] == [sum(map(len, table[: n - 1])) for n in bad]
    flowvault("import", path, "--again")
    assert [json.loads(each) for each in file.read_text("utf-8").splitlines()] == found


def test_a_table_that_is_mostly_bad_is_refused(flowvault: Command, folder: Path) -> None:
    content, _, _ = with_bad_rows(1)
    path = make.zipped(folder, f"{SWAP}-trades-2025-06.zip", content)

    outcome = flowvault("import", path)

    assert outcome.code == 65
    assert "rows are bad" in outcome.err
    assert flowvault.raw() == {}
    assert not (flowvault.vault / "quarantine").exists() or not any(
        path.is_file() for path in (flowvault.vault / "quarantine").rglob("*")
    )


def test_rows_out_of_order_are_refused(flowvault: Command, folder: Path) -> None:
    """Newest first, as some download them: the stages would call all of them late."""
    path = okx(folder, 0, DAYS[0][::-1])

    outcome = flowvault("import", path)

    assert outcome.code == 65
    assert "order of time" in outcome.err
    assert "duckdb" in outcome.err
    assert flowvault.raw() == {}


def test_rows_of_other_instruments_are_told(flowvault: Command, folder: Path) -> None:
    both = sorted(
        make.okx_trades(DAYS[0], SWAP).splitlines(keepends=True)[1:]
        + make.okx_trades(DAYS[0], "ETH-USDT-SWAP").splitlines(keepends=True)[1:],
        key=lambda row: row.split(b",")[-1],
    )
    path = folder / "allswap-trades-2025-06-02.csv"
    path.write_bytes(make.OKX_TRADES.encode() + b"\n" + b"".join(both))

    outcome = flowvault("import", path, "-i", SWAP)
    assert (outcome.code, outcome.err) == (0, "")
    assert flowvault.raw() == {f"{RAW}/{day}": text for day, text in lines(DAYS[0]).items()}

    rows = flowvault.import_(path, "-i", SWAP, "-i", "ETH-USDT-SWAP")

    assert [(row["instId"], row["rows"], row["others"], row["known"]) for row in rows] == [
        (SWAP, 0, 0, True),
        ("ETH-USDT-SWAP", 300, 300, False),
    ]
    assert "ETH-USDT-SWAP" in flowvault("import", path, "-i", "BTC-USD-SWAP").err
    assert flowvault("import", path, "-i", "BTC-USD-SWAP").code == 66
    path.write_bytes(path.read_bytes() + b"\n")
    first = both[0].split(b",")[0].decode()
    other = ({SWAP, "ETH-USDT-SWAP"} - {first}).pop()
    assert f"other instruments ({other})" in flowvault("import", path).err


def test_several_instruments_cannot_be_one(flowvault: Command, folder: Path) -> None:
    paths = [
        make.zipped(folder, f"{name}-trades-2025-06-01.zip", make.binance_trades(DAYS[0]))
        for name in ("BTCUSDT", "ETHUSDT")
    ]

    outcome = flowvault("import", *paths, "-i", "BTCUSDT")

    assert outcome.code == 2
    assert "BTCUSDT, ETHUSDT" in outcome.err


def test_an_unknown_contract_size_is_told_with_the_lines_to_add(
    flowvault: Command, folder: Path
) -> None:
    name = "NEW-USDT-SWAP"
    path = make.zipped(folder, f"{name}-trades-2025-06-02.zip", make.okx_trades(DAYS[0], name))

    outcome = flowvault("import", path)

    assert outcome.code == 0
    assert f'["okx/perps/{name}"]' in outcome.err
    assert "instruments.toml" in outcome.err
    assert len(flowvault.raw()) == 2


def test_a_dry_run_only_looks(flowvault: Command, folder: Path) -> None:
    outcome = flowvault("import", okx(folder, 0), "--dry-run")

    assert outcome.code == 0
    assert f"raw/{RAW}" in outcome.out
    assert not flowvault.vault.exists()
    assert flowvault("import", okx(folder, 0), "--dry-run", "--json").rows[0]["instId"] == SWAP


def test_a_full_disk_leaves_nothing_behind(
    flowvault: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.engine import disk

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "raw/x")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write_at", full)
        outcome = flowvault("import", okx(folder, 0))

    assert outcome.code == 74
    assert "No space left on device" in outcome.err
    assert flowvault.raw() == {}
    flowvault.import_(okx(folder, 0))
    assert flowvault.raw(RAW) == lines(DAYS[0])


def test_what_is_printed_for_people(flowvault: Command, folder: Path) -> None:
    outcome = flowvault("import", okx(folder, 0), okx(folder, 1))

    head, first, second, *rest = outcome.out.splitlines()
    assert head.split() == ["archive", "instrument", "rows", "bad", "seconds", "days"]
    assert first.split()[1:5] == [f"okx/perps/{SWAP}", "trades", "300", "0"]
    assert first.endswith("2025-06-01 … 2025-06-02 new")
    assert second.endswith("2025-06-02 extended, 2025-06-03 new")
    assert rest == [f"next: flowvault run -i {SWAP} --exchange okx --market perps"]
