"""Columns of exact numbers: widths, scales, the Parquet codec and the cells of time."""

from __future__ import annotations

import json
import random
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import polars as pl
import pytest

from pipeline.calc.cells import Cell, cells_of, merge, price_text, split_closed
from pipeline.calc.scale import INT64_SAFE, fitting, rescale, rescale_each, times, to_scale
from pipeline.calc.tickfile import KEY, READ_COLUMNS, TickCodec
from pipeline.calc.ticks import Ticks, join, minimal
from pipeline.engine.parts import to_bytes
from pipeline.stage import MINUTE_US

# -- scale -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "wide"), [(0, False), (INT64_SAFE - 1, False), (INT64_SAFE, True), (2**63, True)]
)
def test_the_width_switches_below_overflow(bound: int, wide: bool) -> None:
    """Int128 from 2**62 on."""
    assert fitting(bound) is (pl.Int128 if wide else pl.Int64)


def integers(*values: int) -> pl.Series:
    """A column as narrow as it may be."""
    return pl.Series(values, dtype=fitting(max(values, default=0)))


@pytest.mark.parametrize("value", [1, 2**31, 2**50, 2**61, 2**62 - 1, 2**62, 2**62 + 1, 10**20])
@pytest.mark.parametrize("steps", [0, 1, 6, 12])
def test_rescaling_never_overflows(value: int, steps: int) -> None:
    """value * 10**steps, whatever the width it needs."""
    found = rescale(integers(value, 3), 2, 2 + steps)
    assert found.to_list() == [value * 10**steps, 3 * 10**steps]


def test_products_never_overflow() -> None:
    """The width follows the largest product."""
    for a, b in ((2**31, 2**30), (2**31, 2**31), (2**40, 2**40), (10**13, 10**24), (0, 2**61)):
        assert times(integers(a, 1), integers(b, 1)).to_list() == [a * b, 1]
        assert times(integers(a, 1), integers(b)).to_list() == [a * b, b]


def test_values_with_their_own_decimals_come_to_one_scale() -> None:
    """Each value is multiplied by what it lacks."""
    values, scale = to_scale(integers(1, 25, 300), pl.Series([0, 1, 2], dtype=pl.UInt8))
    assert (values.to_list(), scale) == ([100, 250, 300], 2)
    values, scale = to_scale(integers(), pl.Series([], dtype=pl.UInt8))
    assert (values.to_list(), scale) == ([], 0)
    wide = integers(10**18, 7)
    assert rescale_each(wide, pl.Series([0, 3], dtype=pl.UInt8), 3).to_list() == [10**21, 7]


# -- ticks and their files -------------------------------------------------


def ticks(rows: list[tuple[Any, ...]], scales: tuple[int, int, int], first: int = 0) -> Ticks:
    """Trades from (ts, px, px_dp, sz, nt, side) integers."""
    tops = [max((row[i] for row in rows), default=0) for i in (1, 3, 4)]
    frame = pl.DataFrame(
        {
            "seq": range(first, first + len(rows)),
            "ts": [row[0] for row in rows],
            "trade_id": [f"t{first + i}" for i in range(len(rows))],
            "px": [row[1] for row in rows],
            "px_dp": [row[2] for row in rows],
            "sz": [row[3] for row in rows],
            "nt": [row[4] for row in rows],
            "side": [row[5] for row in rows],
            "gap": [i % 5 == 4 for i in range(len(rows))],
        },
        schema={
            "seq": pl.Int64,
            "ts": pl.Int64,
            "trade_id": pl.String,
            "px": fitting(tops[0]),
            "px_dp": pl.UInt8,
            "sz": fitting(tops[1]),
            "nt": fitting(tops[2]),
            "side": pl.Int8,
            "gap": pl.Boolean,
        },
    )
    return Ticks(frame, *scales)


def exact_rows(found: Ticks) -> list[tuple[Any, ...]]:
    """Values that do not depend on scales and widths."""
    return [
        (
            row["seq"],
            row["ts"],
            Fraction(row["px"], 10**found.px_scale),
            row["px_dp"],
            Fraction(row["sz"], 10**found.sz_scale),
            Fraction(row["nt"], 10**found.nt_scale),
            row["side"],
            row["gap"],
        )
        for row in found.frame.iter_rows(named=True)
    ]


def random_ticks(seed: int, *, top: int, scales: tuple[int, int], product: bool) -> Ticks:
    """Seeded trades with values up to `top`; notional as price x size, or anything."""
    rng = random.Random(seed)
    rows = []
    for i in range(60):
        px, sz = (rng.randrange(1, rng.choice((10, 1000, top)) + 1) for _ in range(2))
        nt = px * sz if product else rng.randrange(1, top + 1)
        side = rng.choice((1, -1))
        rows.append((i * 7_000_000, px, rng.randrange(scales[0], 13), sz, nt, side))
    return ticks(rows, (*scales, sum(scales) if product else 3))


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("scales", [(0, 0), (2, 3), (8, 8), (12, 12)])
@pytest.mark.parametrize("top", [10**4, 2**31, 2**50 - 1, 2**50, 2**53 + 1, 2**62, 10**18])
def test_a_file_gives_every_digit_back(top: int, scales: tuple[int, int], product: bool) -> None:
    """Beyond 2**53 too; and its doubles are the nearest there are."""
    codec = TickCodec()
    rows = random_ticks(top % 97, top=top, scales=scales, product=product)
    public, notes = codec.to_public(rows)
    data = to_bytes(public, notes)
    again = pl.read_parquet(data)
    assert again.equals(public)
    assert set(READ_COLUMNS) <= set(again.columns)
    back = codec.from_public(again, pl.read_parquet_metadata(data))
    assert exact_rows(back) == exact_rows(rows)
    assert back.frame["trade_id"].to_list() == rows.frame["trade_id"].to_list()
    partial = codec.from_public(again.select(READ_COLUMNS), notes)
    assert exact_rows(partial) == exact_rows(rows)
    names = (
        ("price", "px", rows.px_scale),
        ("size", "sz", rows.sz_scale),
        ("notional", "nt", rows.nt_scale),
    )
    for name, column, scale in names:
        nearest = [value / 10**scale for value in rows.frame[column].to_list()]
        assert public[name].to_list() == nearest, name


@pytest.mark.parametrize("digits", [20, 22, 23, 24])
def test_doubles_are_nearest_at_the_finest_scales(digits: int) -> None:
    """10**23 is no double, so dividing by it as one would miss the nearest now and then."""
    rng = random.Random(digits)
    values = [rng.randrange(1, 2**50) for _ in range(500)]
    rows = ticks([(0, 1, 0, 1, v, 1) for v in values], (0, 0, digits))
    public, _ = TickCodec().to_public(rows)
    assert public["notional"].to_list() == [value / 10**digits for value in values]


def test_the_same_trades_make_the_same_file_whatever_they_came_with() -> None:
    """Scales and widths of the batch leave no trace in the bytes."""
    rows = random_ticks(3, top=2**31, scales=(2, 3), product=True)
    finer = rows.at_scales(9, 8, 17)
    wide = Ticks(finer.frame.with_columns(pl.col("px", "sz", "nt").cast(pl.Int128)), 9, 8, 17)
    codec = TickCodec()
    wanted = to_bytes(*codec.to_public(rows))
    assert to_bytes(*codec.to_public(finer)) == wanted
    assert to_bytes(*codec.to_public(wide)) == wanted
    pieces = join([wide.slice(0, 20), rows.slice(20, 1), finer.slice(21)])
    assert to_bytes(*codec.to_public(pieces)) == wanted
    third = codec.join(codec.slice(rows, 0, 20), codec.slice(wide, 20, 40))
    assert to_bytes(*codec.to_public(third)) == wanted


@pytest.mark.parametrize("product", [True, False])
@pytest.mark.parametrize("scales", [(2, 3), (8, 8)])
@pytest.mark.parametrize("top", [900, 10**4, 2**31, 2**49, 2**50, 2**53 + 1, 2**62, 10**18])
def test_a_file_that_grows_is_the_file_of_all(
    top: int, scales: tuple[int, int], product: bool
) -> None:
    """Columns made before are used again only where the rows behind them change none."""
    codec, rng = TickCodec(), random.Random(top)
    for seed in range(12):
        rows = random_ticks(seed, top=top, scales=scales, product=product)
        if seed % 2:  # one number of decimals, and zeros at the end of the first numbers
            zeros = pl.Series([100 if i < 40 else rng.choice((1, 100)) for i in range(60)])
            frame = rows.frame.with_columns(pl.lit(2, pl.UInt8).alias("px_dp"))
            if top < 2**31:
                frame = frame.with_columns(pl.col("px", "nt") * zeros)
            rows = Ticks(frame, *scales, rows.nt_scale)
        cut = rng.randrange(1, 60)
        before = codec.to_public(minimal(rows.slice(0, cut)))
        grown = codec.extend(before, rows.slice(cut))
        if grown is not None:
            whole = codec.to_public(rows)
            assert grown[0].equals(whole[0])
            assert grown[1] == whole[1]
            assert to_bytes(*grown) == to_bytes(*whole)


def test_a_file_that_grows_as_markets_do_is_not_made_anew() -> None:
    """Prices of one tick, sizes of one lot: nothing changes what stands in the metadata."""
    rows = ticks([(i, 6237 + i, 1, 3 + i, (6237 + i) * (3 + i), 1) for i in range(50)], (1, 2, 3))
    codec = TickCodec()
    before, wanted = codec.to_public(rows.slice(0, 40)), to_bytes(*codec.to_public(rows))
    for new in (rows.slice(40), rows.at_scales(3, 4, 7).slice(40)):
        grown = codec.extend(before, new)
        assert grown is not None
        assert to_bytes(*grown) == wanted


@pytest.mark.parametrize(
    "changed",
    [
        (50, 62_371, 2, 1, 62_371, 1),  # another number of decimals
        (50, 2**51, 1, 1, 2**51, 1),  # more digits than a double has
        (50, 6237, 1, 1, 6238, 1),  # a notional that is no product
    ],
)
def test_a_file_that_grows_otherwise_is_made_anew(changed: tuple[Any, ...]) -> None:
    rows = ticks([(i, 6237, 1, 3, 6237 * 3, 1) for i in range(9)], (1, 2, 3))
    codec = TickCodec()
    assert codec.extend(codec.to_public(rows), ticks([changed], (1, 2, 3), first=9)) is None


def test_minimal_takes_off_shared_zeros_only() -> None:
    """The coarsest scales that still hold every value."""
    rows = ticks([(0, 1000, 2, 50, 50_000, 1), (1, 2500, 2, 100, 250_000, -1)], (3, 2, 5))
    small = minimal(rows)
    assert (small.px_scale, small.sz_scale, small.nt_scale) == (1, 1, 1)
    assert exact_rows(small) == exact_rows(rows)
    whole = ticks([(0, 1000, 0, 50, 50_000, 1)], (0, 0, 0))
    assert minimal(whole) is whole, "zeros left of the point stay"


def test_metadata_stays_small_for_uniform_prices() -> None:
    """One number of decimals for a file is one number, not one a row."""
    rows = ticks([(i, 100 + i, 2, 1, 100 + i, 1) for i in range(5000)], (2, 0, 2))
    _, notes = TickCodec().to_public(rows)
    assert json.loads(notes[KEY])["price_decimals"] == 2
    assert len(notes[KEY]) < 200


# -- cells -----------------------------------------------------------------


def plain_cells(rows: Ticks, span_us: int, whale: Decimal) -> list[Cell]:
    """The same by one loop over one trade at a time."""
    with localcontext(prec=120):
        return _plain_cells(rows, span_us, whale)


def _plain_cells(rows: Ticks, span_us: int, whale: Decimal) -> list[Cell]:
    cells: dict[int, Cell] = {}
    for row in rows.frame.iter_rows(named=True):
        price = price_text(row["px"], rows.px_scale, row["px_dp"])
        size = Decimal(row["sz"]).scaleb(-rows.sz_scale)
        money = Decimal(row["nt"]).scaleb(-rows.nt_scale)
        start, buys = row["ts"] // span_us * span_us, row["side"] > 0
        old = cells.get(start)
        if old is None:
            old = Cell(start, price, price, price, price, *(Decimal(0),) * 4, 0, 0)
        is_whale = money >= whale
        cells[start] = Cell(
            start=start,
            open=old.open,
            high=price if Decimal(price) > Decimal(old.high) else old.high,
            low=price if Decimal(price) < Decimal(old.low) else old.low,
            close=price,
            volume=old.volume + size,
            buy_volume=old.buy_volume + size * buys,
            notional=old.notional + money,
            buy_notional=old.buy_notional + money * buys,
            trades=old.trades + 1,
            buy_trades=old.buy_trades + buys,
            whale_notional=old.whale_notional + money * is_whale,
            whale_buy_notional=old.whale_buy_notional + money * (is_whale and buys),
            whale_trades=old.whale_trades + is_whale,
            gaps=old.gaps + row["gap"],
        )
    return [cells[start] for start in sorted(cells)]


def walk(seed: int, count: int = 400) -> Ticks:
    """Trades that jump back and forth in time and repeat their prices in several spellings."""
    rng = random.Random(seed)
    rows = []
    clock = 0
    for _ in range(count):
        clock += rng.randrange(2_000_000)
        px = rng.choice((10000, 10050, 9995, 10100))
        sz = rng.choice((1, 250, 100_000, 999_999_999))
        dp = rng.choice((2, 3, 4)) if px % 100 else rng.choice((0, 1, 2))
        rows.append(
            (max(0, clock - rng.randrange(70_000_000)), px, dp, sz, px * sz, rng.choice((1, -1)))
        )
    return ticks(rows, (2, 3, 5))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whale", ["0", "1", "100.0005", "100000", "99999999.9999", "1e30"])
def test_cells_are_what_a_plain_loop_finds(seed: int, whale: str) -> None:
    """Open and close by row order, ties of high and low to the first text, exact sums."""
    rows = walk(seed)
    for span in (1_000_000, MINUTE_US, 15 * MINUTE_US):
        assert cells_of(rows, span, Decimal(whale)) == plain_cells(rows, span, Decimal(whale))


def test_cells_of_numbers_wider_than_64_bits() -> None:
    """Sums of Int128 columns, and a threshold that no Int64 could hold."""
    rows = ticks([(i, 10**17, 2, 10**15 + i, 10**32 + i, 1) for i in range(50)], (2, 12, 14))
    for whale in (Decimal(10) ** 18, Decimal("1000000000000000000.00000000000025"), Decimal(0)):
        assert cells_of(rows, MINUTE_US, whale) == plain_cells(rows, MINUTE_US, whale)


def test_no_cells_of_no_trades() -> None:
    """An empty batch opens nothing."""
    assert cells_of(walk(1).slice(0, 0), MINUTE_US, Decimal(1)) == []


@pytest.mark.parametrize("seed", range(3))
def test_merged_cells_are_the_cells_of_the_whole(seed: int) -> None:
    """However the trades are cut, adding the pieces' cells gives what one batch gives."""
    rng = random.Random(seed)
    rows = walk(seed)
    for _ in range(10):
        cuts = sorted(rng.randrange(rows.height + 1) for _ in range(3))
        cells: list[Cell] = []
        for low, high in zip([0, *cuts], [*cuts, rows.height], strict=True):
            cells = merge(cells, cells_of(rows.slice(low, high - low), MINUTE_US, Decimal(1000)))
        assert cells == cells_of(rows, MINUTE_US, Decimal(1000))


def test_a_cell_closes_when_the_watermark_reaches_its_end() -> None:
    """Not a microsecond before, and not without a watermark."""
    cells = cells_of(walk(1), MINUTE_US, Decimal(1))
    end = cells[0].start + MINUTE_US
    assert split_closed(cells, MINUTE_US, None) == ([], cells)
    assert split_closed(cells, MINUTE_US, end - 1) == ([], cells)
    assert split_closed(cells, MINUTE_US, end) == (cells[:1], cells[1:])
    assert split_closed(cells, MINUTE_US, 10**15) == (cells, [])


@pytest.mark.parametrize(
    ("value", "scale", "decimals", "wanted"),
    [
        (1005, 1, 1, "100.5"),
        (1005, 1, 3, "100.500"),
        (100, 0, 0, "100"),
        (100, 0, 2, "100.00"),
        (100000, 3, 0, "100"),
        (5, 4, 4, "0.0005"),
    ],
)
def test_a_price_is_written_as_the_exchange_wrote_it(
    value: int, scale: int, decimals: int, wanted: str
) -> None:
    """The decimals of the text, not of the column."""
    assert price_text(value, scale, decimals) == wanted
