"""The regressions of docs/ofi.md, and the page that a small slice of recorded data makes."""

from __future__ import annotations

import gzip
import itertools
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from scripts import ofi_report
from scripts.benchkit.captures import VARIABLE, find_captures
from scripts.ofikit import page as pages
from scripts.ofikit.line import LEAST, fit, newey_west_lags
from scripts.ofikit.page import Found, page
from scripts.ofikit.windows import Events, Trades, Windows, cut, sessions

ROOT = Path(__file__).resolve().parents[1]
SECOND = 1_000_000
BTC = Instrument("binance", "perps", "BTCUSDT")


def points(count: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """y = 3 + 0.5 x + noise, the noise correlated over time."""
    chance = np.random.default_rng(11)
    x = chance.normal(size=count) * 4
    shocks = chance.normal(size=count) * noise
    return x, 3 + 0.5 * x + shocks + 0.6 * np.roll(shocks, 1)


@pytest.mark.parametrize("count", [LEAST, 61, 500])
def test_the_line_is_that_of_statsmodels(count: int) -> None:
    x, y = points(count, noise=1.5)
    lags = newey_west_lags(count)

    ours = fit(x, y)

    theirs = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
    assert ours is not None
    assert ours.count == count
    assert ours.slope == pytest.approx(theirs.params[1], rel=1e-10)
    assert ours.error == pytest.approx(theirs.bse[1], rel=1e-10)
    assert ours.r2 == pytest.approx(theirs.rsquared, rel=1e-10)


def test_a_known_line_is_found() -> None:
    x, y = points(20_000, noise=1.0)
    ours = fit(x, y)

    # var(0.5 x) = 4, var(noise) = 1.36
    assert ours is not None
    assert ours.slope == pytest.approx(0.5, abs=4 * ours.error)
    assert ours.r2 == pytest.approx(4 / 5.36, abs=0.02)


def test_points_on_a_line_have_no_error() -> None:
    ours = fit(np.arange(40.0), 7 - 2 * np.arange(40.0))

    assert ours is not None
    assert ours.slope == pytest.approx(-2)
    assert ours.r2 == pytest.approx(1)
    assert ours.error == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.arange(29.0), np.arange(29.0)),
        (np.ones(50), np.arange(50.0)),
        (np.arange(50.0), np.ones(50)),
        (np.zeros(0), np.zeros(0)),
    ],
)
def test_no_line_without_enough_to_go_by(x: np.ndarray, y: np.ndarray) -> None:
    assert fit(x, y) is None


def events(*rows: tuple[float, float, float]) -> Events:
    """Rows of seconds, mid and term."""
    seconds, mid, term = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return Events((seconds * SECOND).astype(np.int64), mid, term)


NONE = float("nan")
ALWAYS = Trades(np.arange(0, 400 * SECOND, SECOND // 2), np.tile([2.0, -0.5], 400))


def test_windows_take_what_happens_in_them() -> None:
    found = cut(
        events((0.5, 10, NONE), (1, 11, 4), (1.2, 10, -3), (2.9, 13, 5), (3, 20, 9), (4.5, 1, 1)),
        ALWAYS,
        SECOND,
    )

    # from 1 s to 4 s: an event at an edge belongs to the window that begins there
    assert found.change.tolist() == [0, 3, 7]
    assert found.ofi.tolist() == [1, 5, 9]
    assert found.traded.tolist() == [1.5, 1.5, 1.5]


def test_a_window_without_an_event_has_no_change() -> None:
    found = cut(events((0.5, 10, NONE), (3.5, 12, 2), (5.5, 12, 0)), ALWAYS, SECOND)

    assert found.change.tolist() == [0, 0, 2, 0]
    assert found.ofi.tolist() == [0, 0, 2, 0]


def test_windows_at_a_gap_are_left_out() -> None:
    found = cut(
        events((0.5, 10, NONE), (1.5, 10, 1), (2.5, NONE, NONE), (4.2, 9, NONE), (6.5, 8, 7)),
        ALWAYS,
        SECOND,
    )

    # [2, 3) loses the quote, [3, 4) has none, [4, 5) begins again
    assert found.ofi.tolist() == [1, 0]
    assert found.change.tolist() == [0, 0]


def test_windows_in_a_long_silence_are_left_out() -> None:
    found = cut(events((0.5, 10, NONE), (75.5, 12, NONE), (80.5, 12, 3)), ALWAYS, 10 * SECOND)

    # the quote of 0.5 s stands until 60.5 s; the windows from 60 s to 80 s have no whole one
    assert found.ofi.tolist() == [0] * 5


def test_windows_need_trades_too() -> None:
    late = Trades(ALWAYS.ts[8:20], ALWAYS.signed[8:20])
    steady = events(*((at + 0.5, 10.0, 0.0) for at in range(50)))

    assert len(cut(steady, late, SECOND).ofi) == 4
    assert not len(cut(steady, Trades(late.ts[:0], late.signed[:0]), SECOND).ofi)


def test_a_feed_is_parted_at_a_silence_of_hours() -> None:
    days = events((1, 10, NONE), (2, 10, 1), (90_000, 10, NONE))

    assert [len(each.ts) for each in sessions(days)] == [2, 1]


def test_an_instrument_without_a_line_is_named_below_the_table() -> None:
    few = Windows(*(np.arange(5.0) for _ in Windows._fields))
    many = Windows(*(np.arange(50.0) for _ in Windows._fields))
    found = [
        Found.of(BTC, 0, "quotes", 10, few, 0.1),
        Found.of(BTC, 0, "depth", 1, many, None),
        Found.of(BTC, 0, "depth", 10, many, 0.5),
    ]

    text = page(found)

    assert "BTCUSDT (quotes, 10 s: 5), binance/perps/BTCUSDT (depth, 1 s: 50)." in text
    assert "| depth | 10 s | 50 | 2 ± " in text
    assert "Mean R²: depth at 10 s 100.0 % for OFI and 100.0 %" in text


def captures() -> Path:
    found = find_captures()
    if found is None:
        pytest.skip(f"no recorded data; ${VARIABLE} names it")
    return found


def slice_of(source: Path, root: Path, lines: dict[str, int]) -> None:
    """The first lines of the recorded perpetual."""
    for kind, count in lines.items():
        folder = VaultPaths(root).raw(BTC, kind)
        folder.mkdir(parents=True)
        name = "2024-08-08.jsonl.gz"
        with gzip.open(VaultPaths(source).raw(BTC, kind) / name, "rb") as found:
            (folder / name).write_bytes(gzip.compress(b"".join(itertools.islice(found, count))))


def test_the_page_holds_what_the_script_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "captures", tmp_path / "docs" / "ofi.md"
    slice_of(captures(), root, {"books": 1500, "trades": 6000, "quotes": 16_000})
    monkeypatch.setattr(sys, "argv", ["x", "--captures", str(root), "--out", str(out)])

    assert ofi_report.main() == 0

    text = out.read_text(encoding="utf-8")
    again = ofi_report.measure(root, BTC)
    assert [(each.source, each.length_s) for each in again] == [
        ("quotes", 1),
        ("quotes", 10),
        ("depth", 1),
        ("depth", 10),
    ]
    lines = [each for each in again if each.on_ofi is not None]
    assert [each.length_s for each in lines] == [1, 1]
    for each in lines:
        assert "| " + " | ".join(each.cells) + " |" in text
        assert each.on_ofi is not None
        assert each.on_ofi.slope > 0
        assert 0.1 < each.on_ofi.r2 < 0.95
    assert page(again) == text
    assert str(tmp_path) not in text
    shutil.rmtree(root)


def test_the_committed_page_is_of_this_script() -> None:
    text = (ROOT / "docs" / "ofi.md").read_text(encoding="utf-8")

    for paragraph in page([]).split("\n\n"):
        if not paragraph.startswith("|"):
            assert paragraph.strip() in text
    rows = re.findall(r"^\| (\w+/\w+/\S+) \|.* (quotes|depth) \| (\d+) s \|", text, re.MULTILINE)
    assert {source for _, source, _ in rows} == {"quotes", "depth"}
    assert {length for _, _, length in rows} == {str(each) for each in ofi_report.LENGTHS_S}
    assert not set(pages._TRANSCODED) - {name for name, _, _ in rows}


def test_no_data_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--captures", str(tmp_path)])

    assert ofi_report.main() == 66
    assert VARIABLE in capsys.readouterr().err
