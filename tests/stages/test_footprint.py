"""Footprint: price rows, sides, when minutes are written, and where the row's height is from."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import polars as pl
import pytest

from pipeline.calc import price_rows
from pipeline.calc.tick_size import ENOUGH
from pipeline.errors import UsageError
from pipeline.instrument import Contract
from pipeline.stage import Context
from pipeline.stages.footprint import STAGE, Params

from .row_tape import MIDNIGHT, MINUTE, SECOND, WHERE, Trade, random_cuts, run, tape, walk

END: Trade = (10 * MINUTE, "100", "1", "buy")


def rows(trades: list[Trade], cuts: tuple[int, ...] = (), **options: Any) -> list[Any]:
    return run(STAGE, trades, cuts, **options)["footprint"]


def test_rows_by_minute_then_price() -> None:
    trades: list[Trade] = [
        (5 * SECOND, "100.4", "2", "buy"),
        (6 * SECOND, "99.9", "1", "sell"),
        (7 * SECOND, "100.1", "0.5", "sell"),
        (8 * SECOND, "100.5", "3", "buy"),
        (65 * SECOND, "100.0", "4", "sell"),
        END,
    ]
    assert rows(trades, row="0.5") == [
        (0, 99.5, 0, 1, 1),
        (0, 100.0, 2, 0.5, 2),
        (0, 100.5, 3, 0, 1),
        (MINUTE, 100.0, 0, 4, 1),
    ]


def test_columns_of_the_file() -> None:
    trades = tape([(0, "1", "1", "buy"), END])
    context = Context(WHERE, Contract(tick="1"), Params(), watermark_us=MIDNIGHT + MINUTE)
    frame = STAGE.fold(trades, STAGE.carry(), context).rows["footprint"]
    assert frame.schema == {
        "ts": pl.Datetime("us", "UTC"),
        "price": pl.Float64,
        "buy_volume": pl.Float64,
        "sell_volume": pl.Float64,
        "trades": pl.Int64,
    }
    assert tuple(frame.columns) == STAGE.layers[0].keys


@pytest.mark.parametrize(("last", "written"), [(MINUTE - 1, 0), (MINUTE, 1), (MINUTE + 1, 1)])
def test_a_minute_is_written_when_the_watermark_reaches_its_end(last: int, written: int) -> None:
    trades: list[Trade] = [(0, "100", "1", "buy"), (last, "100", "1", "buy")]
    assert len(rows(trades, tick="0.1")) == written


def test_sums_are_exact() -> None:
    """Ten times 0.1 is 1, whatever doubles make of it; a price is the nearest double."""
    trades: list[Trade] = [(i, "0.3", "0.1", "buy") for i in range(10)]
    assert rows([*trades, END], (3, 7), tick="0.1") == [(0, 0.3, 1.0, 0.0, 10)]


def test_the_parameter_goes_before_the_contract() -> None:
    trades: list[Trade] = [(0, "100.7", "1", "buy"), END]
    assert [row[1] for row in rows(trades, tick="0.1")] == [100.7]
    assert [row[1] for row in rows(trades, tick="0.1000")] == [100.7]
    assert [row[1] for row in rows(trades, tick="0.1", row="25")] == [100]


def unknown(prices: dict[int, str], count: int) -> list[Trade]:
    """Trades a second apart, at 100.0 but for those numbered."""
    return [(i * SECOND, prices.get(i, "100.0"), "1", "buy") for i in range(count)]


def test_nothing_is_written_before_the_height_is_known() -> None:
    trades = unknown({}, ENOUGH)
    assert rows(trades[:-1]) == []
    written = rows(trades)
    assert len(written) == (ENOUGH - 1) // 60
    assert written[0] == (0, 100.0, 60.0, 0.0, 60)
    assert rows(trades, (1, 500, 998)) == written
    assert rows(trades, tuple(range(ENOUGH))) == written


@pytest.mark.parametrize(
    ("prices", "price"),
    [
        ({3: "100.25"}, 100.25),
        ({3: "100.7"}, 100.7),
        ({3: "100.7", ENOUGH - 1: "100.01"}, 100.7),
        ({3: "100.7", ENOUGH: "100.01"}, 100.7),
        ({3: "100.700"}, 100.7),
        ({3: "107"}, 107.0),
    ],
)
def test_height_from_the_first_thousand_trades(prices: dict[int, str], price: float) -> None:
    found = {row[1] for row in rows(unknown(prices, ENOUGH + 100)) if row[0] == 0}
    assert found == {100.0, price}


@pytest.mark.parametrize(("at", "price"), [(ENOUGH - 1, 100.01), (ENOUGH, 100.0)])
def test_trades_behind_the_thousandth_do_not_count(at: int, price: float) -> None:
    trades = [*unknown({at: "100.01"}, ENOUGH + 1), (60 * MINUTE, "100", "1", "buy")]
    assert rows(trades)[-1][1] == price


def test_a_bad_tick_is_an_error_that_names_the_instrument() -> None:
    for text in ("0", "-1", "abc", "1e-20"):
        with pytest.raises(UsageError, match="okx/perps/BTC-USDT-SWAP"):
            rows([END], tick=text)


@pytest.mark.parametrize("row", ["0", "-0.5", "nan", "0.0000000000000000001", "inf"])
def test_a_bad_parameter_is_refused(row: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"row": row}, Params, strict=False)


def test_numbers_longer_than_64_bits() -> None:
    trades: list[Trade] = [
        (0, "999999999999999.999999999999", "123456789012345.123456789012", "buy"),
        (1, "0.000000000001", "0.000000000001", "sell"),
        (2, "999999999999999.999999999999", "123456789012345.123456789012", "buy"),
        END,
    ]
    wanted = [
        (0, 1e-12, 0.0, 1e-12, 1),
        (0, 999999999999999.999999999999, 246913578024690.246913578024, 0.0, 2),
    ]
    for cuts in ((), (1,), (2,), (1, 2, 3)):
        assert rows(trades, cuts, tick="0.000000000001") == wanted
    assert rows(trades, tick="0.1", row="1000000000000") == [
        (0, 0.0, 0.0, 1e-12, 1),
        (0, 999e12, 246913578024690.246913578024, 0.0, 2),
    ]


def test_table_and_groups_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    trades = walk(5, 400)
    wanted = rows(trades, (100, 101, 350), tick="0.05")
    monkeypatch.setattr(price_rows, "_DENSE", 0)
    assert rows(trades, (100, 101, 350), tick="0.05") == wanted


@pytest.mark.parametrize("seed", range(12))
def test_any_cutting_gives_the_same_rows(seed: int) -> None:
    jitter, lateness = ((0, 0), (59 * SECOND, 59 * SECOND), (3 * MINUTE, 4 * MINUTE))[seed % 3]
    trades = tape(walk(seed, 1400, jitter=jitter))
    tick = (None, "0.01", "0.25")[seed // 3 % 3]
    wanted = run(STAGE, trades, tick=tick, lateness=lateness)
    assert wanted["footprint"]
    cuts = random_cuts(seed, 1 + 7 * (seed % 4), trades.height)
    assert run(STAGE, trades, cuts, tick=tick, lateness=lateness) == wanted


@pytest.mark.parametrize("seed", range(4))
def test_every_closed_trade_is_in_one_row(seed: int) -> None:
    trades = tape(walk(seed, 600))
    found = run(STAGE, trades, [200], tick="0.5")["footprint"]
    assert found == sorted(found, key=lambda row: row[:2])
    assert len({row[:2] for row in found}) == len(found)
    last = int(trades.frame["ts"].to_numpy().max()) // MINUTE * MINUTE
    kept = trades.frame.filter(pl.col("ts") < last)
    assert sum(row[4] for row in found) == kept.height
    for side, column in ((1, 2), (-1, 3)):
        exact = sum(kept.filter(pl.col("side") == side)["sz"].to_list())
        summed = sum(Fraction(str(row[column])) for row in found)
        assert summed == Fraction(exact, 10**trades.sz_scale)
    assert all(row[1] % 0.5 == 0 for row in found)
