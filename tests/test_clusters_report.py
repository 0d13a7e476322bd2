"""The report on clusters, the command `model`, and what is said where there is no book."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from pipeline.calc.calibration import Mids
from pipeline.cli.main import cli
from pipeline.sim import write_market
from scripts.clusters_report import Interval, Part, interval, judge, page

pytest.importorskip("arch")

NAMES = ("-i", "BTC-USDT-SWAP", "--exchange", "sim")
START = 1_709_683_200


def invoke(vault: Path, *arguments: str) -> Result:
    """Run a command of the package."""
    return CliRunner().invoke(cli, ["--vault", str(vault), *arguments], catch_exceptions=False)


# -- the report --------------------------------------------------------------------------------


def stretch(pull: float) -> tuple[Part, Mids]:
    """Four thousand seconds with three trades each; flow of cluster 3 pulls the mid behind it."""
    rng = np.random.default_rng(1)
    count = 12_000
    group = rng.integers(3, size=count)
    scores = rng.normal(size=(count, 6))
    scores[:, 1] += 4 * (group - 1)
    flow = rng.choice((-1.0, 1.0), size=count)
    seconds = START + np.arange(count // 3)
    pulled = np.where(group == 2, flow, 0).reshape(-1, 3).sum(axis=1)
    steps = rng.normal(size=len(seconds)) + pull * np.concatenate(([0, 0], pulled[:-2]))
    mids = 1e4 * np.exp(np.cumsum(steps) * 1e-4)
    return Part(np.repeat(seconds, 3) * 1000, flow, scores), Mids(seconds, mids)


def test_a_planted_signal_is_found_and_nothing_is_left_when_dealt_again() -> None:
    found = judge("planted", *stretch(2.0), 200)
    assert found is not None
    ones = {signal: row[0] for signal, row in found.ic.items()}
    assert ones["depth"].low is not None
    assert ones["depth"].low > 0
    assert [round(share, 1) for share in found.shares] == [0.3, 0.3, 0.3]
    for signal, one in ones.items():
        assert one.low is not None
        assert one.high is not None
        if signal not in ("depth", "all flow"):
            assert one.low <= 0 <= one.high, signal
    text = page([found], 200)
    assert "| planted | depth | 2,000 | **+" in text


def test_without_a_signal_intervals_hold_zero() -> None:
    found = judge("nothing", *stretch(0.0), 200)
    assert found is not None
    held = [
        one.low <= 0 <= one.high
        for row in found.ic.values()
        for one in row
        if one.low is not None and one.high is not None
    ]
    assert sum(held) >= 0.8 * len(held)


def test_a_short_stretch_says_nothing() -> None:
    x = np.arange(199.0)
    assert interval(x, x, 20, 50).low is None
    assert interval(x, x, 19, 50).low == pytest.approx(1)
    assert Interval(0.5, None, None, 9).text == "-"
    assert Interval(0.5, -0.1, 0.9, 9).text == "+0.500 [-0.100, +0.900]"


# -- the commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two simulated days and the beginning of a third, with models of the two."""
    folder = tmp_path_factory.mktemp("models")
    write_market(folder, days=3, hours=0.25, speed=0.3)
    settings = "[clusters]\nmin_rows = 200\nmax_age_s = 600\n"
    (folder / "flowvault.toml").write_text(settings, encoding="utf-8")
    done = invoke(folder, "clusters", *NAMES)
    assert done.exit_code == 0, done.output
    return folder


def test_models_side_by_side(vault: Path) -> None:
    done = invoke(vault, "model", *NAMES, "--json")
    assert done.exit_code == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [model["trained_on"] for model in found] == ["2025-01-06", "2025-01-07"]
    first, second = found
    assert first["stability"] is None
    assert -1 <= second["stability"] <= 1
    folder = vault / "derived" / "clusters" / "sim" / "perps" / "BTC-USDT-SWAP"
    rows = pl.concat([pl.read_parquet(part) for part in sorted(folder.glob("*.parquet"))])
    day = rows.filter(
        pl.col("ts").dt.date() == pl.date(2025, 1, 7), pl.col("cluster").is_not_null()
    )
    # on its day the older model's labels are those that trades were given
    assert second["n_rows"] == day.height
    assert np.isfinite(second["means"]).all()
    told = invoke(vault, "model", *NAMES)
    assert told.exit_code == 0
    for text in ("2025-01-07", "2025-01-08", "silhouette", "market-making", "mean"):
        assert text in told.stdout
    unstable = [model for model in found if any("not stable" in w for w in model["warnings"])]
    assert told.stderr.count("labels are not stable") == len(unstable)


def test_models_that_were_never_made(tmp_path: Path) -> None:
    write_market(tmp_path, hours=0.1)
    done = CliRunner().invoke(cli, ["--vault", str(tmp_path), "model", *NAMES])
    assert "never been run" in str(done.exception)
    assert invoke(tmp_path, "model", "--all").exit_code == 0


@pytest.mark.parametrize("name", ["clusters", "maker"])
@pytest.mark.parametrize("is_empty", [False, True])
def test_without_a_book_nothing_is_done_and_it_is_said(
    tmp_path: Path, name: str, is_empty: bool
) -> None:
    write_market(tmp_path, hours=0.2, books=False)
    if is_empty:
        (tmp_path / "raw" / "sim" / "books_perps" / "BTC-USDT-SWAP").mkdir(parents=True)
    for arguments in ((name, *NAMES), ("run", *NAMES, "--stage", name)):
        done = invoke(tmp_path, *arguments)
        assert done.exit_code == 0
        assert "nothing to do: there are no raw books" in done.stderr
    assert not (tmp_path / "derived" / name).exists()
    assert not (tmp_path / "state" / name).exists()
    quiet = invoke(tmp_path, "run", *NAMES)
    assert "nothing to do" not in quiet.output
