"""The benchmark runs, compares values before it compares times, and reports every row.

Nothing here looks at a measured time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from scripts import bench
from scripts.benchkit.cold import BenchError, Starter
from scripts.benchkit.compare import (
    closed_minutes,
    compare_bars,
    compare_columns,
    compare_numbers,
)
from scripts.benchkit.days import newest_ms
from scripts.benchkit.depth_days import has_recording
from scripts.benchkit.follow_rows import percentile
from scripts.benchkit.follow_vaults import candles, instruments
from scripts.benchkit.layer_days import compare_layers, run_peer
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import INSTRUMENT, QUICK, Place
from scripts.benchkit.report import markdown
from scripts.benchkit.rows import ROWS

ROOT = Path(__file__).resolve().parents[1]
BENCH = (sys.executable, str(ROOT / "scripts" / "bench.py"))
RECORDED = ("books", "book-length", "book-memory")
"""Rows that are left out where there is no recorded order book."""
ON_LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peak memory is measured with Linux's wait4"
)


def minutes() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Two minutes on which both sides agree: bars, volume rows and the peer's rows."""
    starts = {"2025-01-06T00:00:00Z": 1736121600000, "2025-01-06T00:01:00Z": 1736121660000}
    common = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 3.0}
    common |= {"notional": 33.0, "trades": 7}
    bars = [{"timestamp_utc": start, **common} for start in starts]
    volume = [{"timestamp_utc": start, "delta": "-5.5"} for start in starts]
    peer = [{"start_ms": start, **common, "delta": -5.5} for start in starts.values()]
    return bars, volume, peer


def test_equal_values_are_accepted() -> None:
    bars, volume, peer = minutes()
    peer[0]["notional"] *= 1 + 1e-12

    assert compare_bars(bars, volume, peer).startswith("2 closed minutes equal")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("open", 10.000001),
        ("high", 12.1),
        ("low", 8.9),
        ("close", 11.1),
        ("volume", 3.00001),
        ("notional", 33.00001),
        ("trades", 8),
        ("delta", -5.50001),
        ("delta", 5.5),
        ("start_ms", 1736121720000),
    ],
)
def test_a_different_value_is_refused(name: str, value: float) -> None:
    bars, volume, peer = minutes()
    peer[1][name] = value

    with pytest.raises(BenchError, match="2025-01-06T00:01:00Z"):
        compare_bars(bars, volume, peer)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_a_missing_minute_is_refused(short: int) -> None:
    sides = minutes()
    sides[short].pop()

    with pytest.raises(BenchError, match="minutes differ"):
        compare_bars(*sides)


def test_a_failed_comparison_fails_the_bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(_place: Place) -> Outcome:
        raise BenchError("two is not three")

    monkeypatch.setitem(ROWS, "help", differs)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--quick", "--only", "help"])
    monkeypatch.setattr(sys, "platform", "linux")

    assert bench.main() == 1
    assert "two is not three" in capsys.readouterr().err


def table() -> dict[str, list[Any]]:
    return {"start_ms": [0, 60_000], "volume": [0.3, 1.5], "vwap": [10.0, None], "trades": [2, 3]}


def test_equal_tables_are_accepted() -> None:
    ours, peers = table() | {"more": ["a", "b"]}, table()
    peers["vwap"][0] *= 1 + 1e-12

    assert compare_columns("bars", ours, peers, ["vwap"]) == "2 rows of bars"


@pytest.mark.parametrize(
    ("name", "value"),
    [("start_ms", 1), ("volume", 0.1 + 0.2), ("vwap", 10.0000001), ("trades", 1)],
)
def test_a_different_cell_is_refused(name: str, value: float) -> None:
    peers = table()
    peers[name][0] = value

    with pytest.raises(BenchError, match=f"bars, row 0: {name}"):
        compare_columns("bars", table(), peers, ["vwap"])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_table_of_another_height_is_refused(count: int) -> None:
    peers = {name: [*column, 0][:count] for name, column in table().items()}

    with pytest.raises(BenchError, match=f"2 rows, the peer has {count}"):
        compare_columns("bars", table(), peers)


def test_two_empty_tables_are_no_agreement() -> None:
    with pytest.raises(BenchError, match="0 rows"):
        compare_columns("bars", {"volume": []}, {"volume": []})


def test_numbers_may_differ_in_what_doubles_lose() -> None:
    compare_numbers("sum", [1e6, -3.0], [1e6 + 1e-4, -3.0])
    compare_numbers("sum", [1e-7], [0.0], [1000.0])


@pytest.mark.parametrize(
    ("ours", "peers", "sizes"),
    [
        ([1.0, 2.0], [1.0, 2.00001], None),
        ([1.0, None], [1.0, 2.0], None),
        ([1.0], [float("nan")], None),
        ([1.0, 2.0], [1.0], None),
        ([], [], None),
        ([1e-5], [0.0], [1000.0]),
    ],
)
def test_a_different_number_is_refused(
    ours: list[float | None], peers: list[float], sizes: list[float] | None
) -> None:
    with pytest.raises(BenchError, match="sum"):
        compare_numbers("sum", ours, peers, sizes)


@ON_LINUX
def test_duckdb_writes_the_same_layers_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, QUICK)
    file = place.market(speed=0.02)[0]
    root, out = place.fresh_vault([file]), place.scratch("peer")
    place.run_stages(root, ("bars", "cvd", "footprint"))
    run_peer(place, root, file, out)
    newest = newest_ms(file)

    assert "rows of footprint equal to the last digit" in compare_layers(root, out, newest)

    frame = pl.read_parquet(out / "footprint.parquet")
    for name in frame.columns:
        frame.with_columns(pl.col(name) + 1).write_parquet(out / "footprint.parquet")
        with pytest.raises(BenchError, match=f"footprint.*{name}|footprint: "):
            compare_layers(root, out, newest)
    for layer in ("bars", "cvd"):
        path = out / f"{layer}.jsonl"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(":", ":1", 2), encoding="utf-8")
        with pytest.raises(BenchError, match=layer):
            compare_layers(root, out, newest)
        path.write_text(text, encoding="utf-8")


def test_a_minute_is_closed_when_its_end_was_reached() -> None:
    _, _, peer = minutes()

    assert closed_minutes(peer, 1736121719999) == peer[:1]
    assert closed_minutes(peer, 1736121720000) == peer


@pytest.mark.parametrize(("load", "is_told"), [("0.0", False), ("99999.0", True)])
def test_a_busy_machine_is_told(load: str, is_told: bool) -> None:
    text = markdown([], loads=(load, "9.9"), is_quick=False)

    assert ("busy with other work" in text) is is_told


def test_a_missed_aim_is_called_missed() -> None:
    aim = Aim(4, goal=2)
    lines = [Line(f"thing {number}", "1 s", aim=aim, judged=number) for number in (1, 3, 5)]
    text = markdown([Outcome("Things", "What.", lines)], loads=("0", "0"), is_quick=False)

    assert [line.verdict for line in lines] == ["met, goal too", "met, not the goal", "MISSED"]
    assert "2 of 3 aims were met. Missed: thing 5, 5 against <= 4 (goal 2)." in text


@ON_LINUX
def test_a_command_that_fails_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="status 3"):
        Starter(tmp_path).run([sys.executable, "-c", "raise SystemExit(3)"])


@ON_LINUX
def test_the_peak_is_that_of_the_command_alone(tmp_path: Path) -> None:
    held = bytearray(200_000_000)  # this process is large, the measured ones are not
    small = Starter(tmp_path).run([sys.executable, "-S", "-c", ""])
    large = Starter(tmp_path).run([sys.executable, "-S", "-c", "b'x' * 150_000_000"])

    assert len(held) / 1e6 > 2 * small.peak_mb
    assert 150 < large.peak_mb < 150 + 2 * small.peak_mb


def quick(tmp_path: Path, *options: str) -> tuple[str, str]:
    """A run on a small market: the page, and what was printed."""
    out, work = tmp_path / "BENCH.md", tmp_path / "work"
    done = subprocess.run(
        [*BENCH, "--quick", "--keep", str(work), "--out", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = out.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE)
    assert all(re.search(r"\d", value) for _, _, value in rows)
    assert str(tmp_path) not in text
    assert str(ROOT) not in text
    assert any(work.iterdir())
    return text, done.stdout


def numbers(text: str) -> set[str]:
    """The numbers of the rows that a page has figures for."""
    return set(re.findall(r"^\| (\d+) \| ", text, re.MULTILINE))


@pytest.mark.parametrize(("share", "found"), [(1, 3.0), (50, 150.0), (99, 297.0), (100, 300.0)])
def test_a_percentile_is_one_of_the_times(share: int, found: float) -> None:
    times = [float(number) for number in range(300, 0, -1)]

    assert percentile(times, share) == found
    assert percentile([7.0], share) == 7.0


def test_candles_hold_every_trade_once(tmp_path: Path) -> None:
    """Over midnight; a trade five minutes behind the one before closes no candle."""
    start = 1_736_121_300_000  # 2025-01-05T23:55:00Z
    at = [0, 299_999, 300_000, 500_000, 800_000, 900_001]
    lines = [f'{{"instId":"{INSTRUMENT.inst_id}","ts":"{start + ms}"}}\n'.encode() for ms in at]
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_bytes(b"".join(lines[:2]))
    files[1].write_bytes(b"".join(lines[2:]))
    (name,) = instruments(1)
    found = candles(files, name)

    assert [each.opened for each in found] == [
        "2025-01-05T23:55:00Z",
        "2025-01-06T00:00:00Z",
        "2025-01-06T00:05:00Z",
        "2025-01-06T00:10:00Z",
    ]
    assert [each.day for each in found] == ["2025-01-05", *["2025-01-06"] * 3]
    assert [each.is_followed for each in found] == [True, False, True, False]
    whole = b"".join(each.first + each.more for each in found)
    assert whole == b"".join(lines).replace(INSTRUMENT.inst_id.encode(), name.inst_id.encode())
    assert len(name.inst_id) == len(INSTRUMENT.inst_id)


@ON_LINUX
def test_a_quick_run_reports_its_rows(tmp_path: Path) -> None:
    """A peer's values are compared before times are, and both are shown."""
    text, printed = quick(tmp_path, "--only", "day", "--only", "parts", "--only", "help")

    assert numbers(text) == {"1", "2", "3"}
    for what in ("--help", "x wickra", "x statsmodels", "x MarketProfile"):
        assert what in text
        assert what in printed
    assert re.search(r"1,\d{3} closed minutes equal", text)


@ON_LINUX
@pytest.mark.slow
def test_a_quick_run_reports_every_row(tmp_path: Path) -> None:
    """Every row of the table, on a small market."""
    text, printed = quick(tmp_path)

    unmeasured = 0 if has_recording() else len(RECORDED)
    assert numbers(text) == set(map(str, range(1, len(ROWS) + 1 - unmeasured)))
    for what in (
        "cold, after 1 day",
        "in process, after 2 days",
        "peak memory",
        "--help",
        "trades, books and quotes",
        "beside 3 stages",
        "2 instruments, 1 day, p99",
        "x wickra",
        "x statsmodels",
        "x MarketProfile",
    ):
        assert what in text
        assert what in printed
    assert re.search(r"1,\d{3} closed minutes equal", text)
    assert re.search(r"1,\d{3} rows of bars_1m, 1,\d{3} rows of cvd_1m, \d+,\d{3} rows of", text)
