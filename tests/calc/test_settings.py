"""`flowvault.toml`: defaults, overrides, and every kind of mistake named."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.errors import UsageError
from pipeline.instrument import Instrument
from pipeline.settings import Settings

SWAP = Instrument("okx", "perps", "BTC-USDT-SWAP")
OTHER = Instrument("okx", "perps", "ETH-USDT-SWAP")


def load(vault: Path, text: str) -> Settings:
    """The settings of a vault with this file."""
    (vault / "flowvault.toml").write_text(text, encoding="utf-8")
    return Settings.load(vault, frozenset(stages.SUMMARY))


def volume(settings: Settings, instrument: Instrument = SWAP) -> Any:
    """The parameters of stage volume."""
    return settings.params("volume", stages.load("volume").params, instrument)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """Defaults live in the code."""
    settings = Settings.load(tmp_path, frozenset(stages.SUMMARY))
    for stage in stages.all_stages():
        assert settings.params(stage.name, stage.params, SWAP) == stage.params()


def test_an_instruments_table_is_laid_over_the_stages(tmp_path: Path) -> None:
    """Instrument over stage over default, key by key, exact decimals."""
    settings = load(
        tmp_path,
        '[volume]\nwindow = 50\nwhale_notional = 0.1\n[volume."okx/perps/ETH-USDT-SWAP"]\n'
        "whale_notional = 250_000.25\n",
    )
    assert (volume(settings).window, volume(settings).whale_notional) == (50, Decimal("0.1"))
    other = volume(settings, OTHER)
    assert (other.window, other.whale_notional) == (50, Decimal("250000.25"))
    assert other.min_window == stages.load("volume").params().min_window


def test_a_byte_order_mark_is_forgiven(tmp_path: Path) -> None:
    """Windows editors write one."""
    assert volume(load(tmp_path, "\ufeff[volume]\nwindow = 3\n")).window == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[volume\n", ["flowvault.toml"]),
        ("[nobody]\nx = 1\n", ["nobody", "volume"]),
        ("window = 5\n", ["window"]),
        ("[volume]\nwindwo = 5\n", ["windwo", "window"]),
        ('[volume."okx/perps/BTC-USDT-SWAP"]\nwindwo = 5\n', ["windwo", "window"]),
        ('[volume."okx/perps/ETH-USDT-SWAP"]\nwindwo = 5\n', ["windwo", "window"]),
        ('[volume."BTC-USDT-SWAP"]\nwindow = 5\n', ["exchange/market/INSTID"]),
        ('[volume]\nwindow = "many"\n', ["window"]),
        ("[volume]\nwindow = 1.5\n", ["window"]),
        ("[volume]\ntier_edges = [1, 2]\n", ["tier_edges"]),
    ],
)
def test_mistakes_are_named(text: str, words: list[str], tmp_path: Path) -> None:
    """A usage error with the file, the key that is wrong, and what would be right."""
    with pytest.raises(UsageError) as caught:
        volume(load(tmp_path, text))
    assert caught.value.status == 2
    for word in ("flowvault.toml", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        *("whale_notional = nan", "whale_notional = inf", "window = 0", "window = -1"),
        *("min_window = 0", "whale_notional = -1"),
    ],
)
def test_values_that_make_no_sense_are_refused(line: str, tmp_path: Path) -> None:
    """A parameter that would crash a fold, or keep everything for ever, is a usage error."""
    with pytest.raises(UsageError):
        volume(load(tmp_path, f"[volume]\n{line}\n"))
