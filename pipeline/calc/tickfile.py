"""Trades in a Parquet file and back, without losing a digit.

The file's `price`, `size` and `notional` are doubles, each the nearest to the exact value: that
is what people compute with. What a double cannot tell stands in the file's metadata under
`flowvault.trades`: the scales that turn the doubles back into the exact integers, the number of
decimals each price was written with, and the rare values that have more digits than a double.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.pieces import in_one_piece
from pipeline.calc.scale import largest, rescale, times
from pipeline.calc.ticks import Ticks, join, minimal, safe_runs

Public = tuple[pl.DataFrame, dict[str, str]]
"""Columns and metadata of a file."""
KEY = "flowvault.trades"
_SAFE = 2**50
_INT64 = 2**63
_EXACT_POWER = 22
"""10**22 is the largest power of ten that is a double."""
Integers = npt.NDArray[np.int64]
_EXACT_COLUMNS = {"price": "px", "size": "sz", "notional": "nt"}
READ_COLUMNS = ["seq", "ts", "price", "size", "notional", "side", "gap_before"]


class TickCodec:
    """The codec of the layer `trades`."""

    def height(self, rows: Ticks) -> int:
        """Number of trades."""
        return rows.height

    def slice(self, rows: Ticks, start: int, length: int) -> Ticks:
        """A contiguous part."""
        return rows.slice(start, length)

    def join(self, first: Ticks, second: Ticks) -> Ticks:
        """One run of trades behind another."""
        return join([first, second])

    def pieces(self, rows: Ticks) -> int:
        """In how many pieces they lie in memory."""
        return rows.frame.n_chunks()

    def compact(self, rows: Ticks) -> Ticks:
        """The same trades in one piece of memory."""
        return replace(rows, frame=in_one_piece(rows.frame))

    def last_us(self, rows: Ticks) -> int:
        """Time of the last trade, microseconds."""
        return int(rows.frame["ts"][-1])

    def newest_us(self, rows: Ticks) -> int:
        """Largest time of any trade, microseconds."""
        return int(rows.frame["ts"].to_numpy().max())

    def runs(self, rows: Ticks) -> Iterator[Ticks]:
        """See `pipeline.calc.ticks.safe_runs`."""
        return safe_runs(rows)

    def to_public(self, rows: Ticks) -> tuple[pl.DataFrame, dict[str, str]]:
        """Columns and metadata of a file, for these trades and no matter where they came from."""
        is_product = _is_product(rows)
        rows = minimal(rows, notional=not is_product)
        frame = rows.frame
        decimals = frame["px_dp"]
        notes: dict[str, Any] = {
            "price_scale": rows.px_scale,
            "size_scale": rows.sz_scale,
            "notional_scale": None if is_product else rows.nt_scale,
            "price_decimals": _pack(decimals),
            "exact": {},
        }
        doubles: dict[str, pl.Series] = {}
        for name, scale in (("price", rows.px_scale), ("size", rows.sz_scale)):
            doubles[name], odd = _doubles(frame[_EXACT_COLUMNS[name]], scale)
            if odd:
                notes["exact"][name] = odd
        if frame["nt"].null_count():
            scale = rows.px_scale + rows.sz_scale
            exact = zip(frame["px"].to_list(), frame["sz"].to_list(), strict=True)
            doubles["notional"] = pl.Series([px * sz / 10**scale for px, sz in exact])
        else:
            doubles["notional"], odd = _doubles(frame["nt"], rows.nt_scale)
            if odd and not is_product:
                notes["exact"]["notional"] = odd
        return _columns(frame, doubles), {KEY: json.dumps(notes, separators=(",", ":"))}

    def extend(self, before: Public, rows: Ticks) -> Public | None:
        """What `to_public` would give for the trades of `before` with these behind them.

        None if it has to be asked: where these change what the metadata says of all, and where
        numbers are so large that this cannot be told at once.
        """
        notes, frame = json.loads(before[1][KEY]), rows.frame
        decimals = notes["price_decimals"]
        if notes["exact"] or notes["notional_scale"] is not None or not isinstance(decimals, int):
            return None
        if (frame["px_dp"].to_numpy() != decimals).any():
            return None
        columns = [frame[name] for name in _EXACT_COLUMNS.values()]
        if any(each.dtype != pl.Int64 or each.null_count() for each in columns):
            return None
        price, size, notional = (each.to_numpy() for each in columns)
        if not (
            _is_held(price, rows.px_scale, notes["price_scale"])
            and _is_held(size, rows.sz_scale, notes["size_scale"])
            and _are_products(price, size, notional, rows.px_scale + rows.sz_scale - rows.nt_scale)
        ):
            return None
        scales = (rows.px_scale, rows.sz_scale, rows.nt_scale)
        doubles = {
            name: _doubles(each, scale)[0]
            for name, each, scale in zip(_EXACT_COLUMNS, columns, scales, strict=True)
        }
        return before[0].vstack(_columns(frame, doubles)), before[1]

    def from_public(self, frame: pl.DataFrame, metadata: dict[str, str]) -> Ticks:
        """Exact trades from a file's columns (`trade_id` only if it was read)."""
        notes = json.loads(metadata[KEY])
        exact = notes["exact"]
        px = _integers(frame["price"], notes["price_scale"], exact.get("price"))
        sz = _integers(frame["size"], notes["size_scale"], exact.get("size"))
        nt_scale = notes["notional_scale"]
        if nt_scale is None:
            nt_scale = notes["price_scale"] + notes["size_scale"]
            nt = times(px, sz)
        else:
            nt = _integers(frame["notional"], nt_scale, exact.get("notional"))
        columns = [pl.col("seq"), pl.col("ts").cast(pl.Int64)]
        columns += [pl.col("trade_id")] if "trade_id" in frame.columns else []
        ticks = frame.select(
            *columns,
            px.alias("px"),
            _unpack(notes["price_decimals"], frame.height).alias("px_dp"),
            sz.alias("sz"),
            nt.alias("nt"),
            "side",
            pl.col("gap_before").alias("gap"),
        )
        return Ticks(ticks, notes["price_scale"], notes["size_scale"], nt_scale)


def _columns(frame: pl.DataFrame, doubles: dict[str, pl.Series]) -> pl.DataFrame:
    """The columns of a file."""
    return pl.DataFrame(
        [
            frame["seq"],
            frame["ts"].cast(pl.Datetime("us", "UTC")),
            frame["trade_id"],
            *(doubles[name].alias(name) for name in _EXACT_COLUMNS),
            frame["side"],
            frame["gap"].alias("gap_before"),
        ]
    )


def _is_held(values: Integers, scale: int, held: int) -> bool:
    """Whether a file's scale holds values, and all of them with digits that a double can tell."""
    power: int = 10 ** abs(scale - held)
    most = int(values.max())
    if scale <= held:
        return most * power < _SAFE
    return power < _INT64 and most < _SAFE * power and not (values % power).any()


def _are_products(price: Integers, size: Integers, notional: Integers, finer: int) -> bool:
    """Whether every notional, that many decimals more given, is price x size."""
    if finer < 0 or int(price.max()) * int(size.max()) >= _INT64:
        return False
    power = 10**finer
    is_small = int(notional.max()) * power < _INT64
    return is_small and bool((price * size == notional * power).all())


def _is_product(rows: Ticks) -> bool:
    """Whether every notional is price x size (all but inverse contracts)."""
    frame, scale = rows.frame, rows.px_scale + rows.sz_scale
    if frame["nt"].null_count():
        return True
    product = times(frame["px"], frame["sz"])
    if product.null_count() or scale < rows.nt_scale:
        return False
    notional = rescale(frame["nt"], rows.nt_scale, scale)
    if notional.dtype != product.dtype:
        product, notional = product.cast(pl.Int128), notional.cast(pl.Int128)
    return bool((product == notional).all())


def _doubles(values: pl.Series, scale: int) -> tuple[pl.Series, list[list[Any]]]:
    """Nearest doubles, and [row, integer as text] of those that cannot be turned back."""
    # numpy divides; polars multiplies by the reciprocal of a scalar, which is not the nearest
    if scale <= _EXACT_POWER:
        exact = values.cast(pl.Float64).to_numpy() / float(10**scale)
    else:
        exact = np.array([value / 10**scale for value in values.to_list()])
    odd_rows = (values >= _SAFE).arg_true().to_list() if largest(values) >= _SAFE else ()
    odd = []
    for row in odd_rows:
        value = int(values[row])
        exact[row] = value / 10**scale
        odd.append([row, str(value)])
    return pl.Series(exact), odd


def _integers(doubles: pl.Series, scale: int, odd: list[list[Any]] | None) -> pl.Series:
    if not odd:
        return (doubles * float(10**scale)).round().cast(pl.Int64)
    rows = {row: int(text) for row, text in odd}
    width = pl.Int128 if max(rows.values()) >= 2**62 else pl.Int64
    plain = (doubles * float(10**scale)).round().cast(width, strict=False).to_list()
    for row, value in rows.items():
        plain[row] = value
    return pl.Series(plain, dtype=width)


def _pack(decimals: pl.Series) -> int | str:
    if decimals.n_unique() == 1:
        return int(decimals[0])
    packed = zlib.compress(decimals.to_numpy().astype(np.uint8).tobytes(), 6)
    return base64.b64encode(packed).decode("ascii")


def _unpack(decimals: int | str, height: int) -> pl.Series:
    if isinstance(decimals, int):
        return pl.Series([decimals], dtype=pl.UInt8).new_from_index(0, height)
    raw = zlib.decompress(base64.b64decode(decimals))
    return pl.Series(np.frombuffer(raw, np.uint8))
