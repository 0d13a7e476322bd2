"""Trades as exact columns: what every stage that reads trades works on.

Prices, base sizes and notionals are integers with one scale each, so that sums over any cutting
of the input agree to the last digit. Columns of `frame`:

    seq        Int64    row number in the layer `trades`, from 0
    ts         Int64    event time, microseconds since 1970 UTC
    px         Int64 or Int128, price * 10**px_scale
    px_dp      UInt8    decimals in the exchange's own text of the price
    sz         Int64 or Int128, base size * 10**sz_scale
    nt         Int64 or Int128, notional in quote currency * 10**nt_scale; null in all rows if
               price x size has more digits than fit (folds never see that: `safe_runs`)
    side       Int8     +1 the taker bought, -1 sold
    gap        Boolean  trade ids are missing just before this trade
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from pipeline.calc.pieces import behind, with_series
from pipeline.calc.scale import INT64_SAFE, INT128_SAFE, largest, rescale, times

_SOME = 64


@dataclass(frozen=True, slots=True)
class Ticks:
    """A run of trades in layer order, with the scales of its integer columns."""

    frame: pl.DataFrame
    px_scale: int
    sz_scale: int
    nt_scale: int

    @property
    def height(self) -> int:
        """Number of trades."""
        return self.frame.height

    def slice(self, start: int, length: int | None = None) -> Ticks:
        """A contiguous part."""
        return replace(self, frame=self.frame.slice(start, length))

    def at_scales(self, px: int, sz: int, nt: int) -> Ticks:
        """The same trades with finer scales."""
        if (px, sz, nt) == (self.px_scale, self.sz_scale, self.nt_scale):
            return self
        columns = (
            rescale(self.frame["px"], self.px_scale, px),
            rescale(self.frame["sz"], self.sz_scale, sz),
            rescale(self.frame["nt"], self.nt_scale, nt),
        )
        return Ticks(with_series(self.frame, columns), px, sz, nt)

    def notional_fits(self, scale: int) -> bool:
        """Whether all notionals are known and would fit into 128 bits at a scale."""
        notional = self.frame["nt"]
        if notional.null_count():
            return False
        if notional.dtype == pl.Int64 and scale == self.nt_scale:
            return True  # there may be many, which need not be looked at
        return largest(notional) * int(10 ** (scale - self.nt_scale)) < INT128_SAFE

    def without_notional(self, scale: int) -> Ticks:
        """The same trades with the notional left to be computed from price and size."""
        nothing = pl.lit(None, dtype=pl.Int64).alias("nt")
        return Ticks(self.frame.with_columns(nothing), self.px_scale, self.sz_scale, scale)

    @property
    def is_safe(self) -> bool:
        """Whether the sum of all notionals is sure to fit into 128 bits."""
        notional = self.frame["nt"]
        if notional.dtype == pl.Int64 and not notional.null_count():
            return True
        return not notional.null_count() and largest(notional) * self.height < INT128_SAFE


def join(parts: Sequence[Ticks]) -> Ticks:
    """Put runs of trades behind each other, at the finest scales among them."""
    if len(parts) == 1:
        return parts[0]
    px = max(part.px_scale for part in parts)
    sz = max(part.sz_scale for part in parts)
    nt = max(part.nt_scale for part in parts)
    if not all(part.notional_fits(nt) for part in parts):
        parts = [part.without_notional(nt) for part in parts]
    frames = [part.at_scales(px, sz, nt).frame for part in parts]
    for column in ("px", "sz", "nt"):
        if any(frame[column].dtype == pl.Int128 for frame in frames):
            frames = [with_series(each, [each[column].cast(pl.Int128)]) for each in frames]
    return Ticks(behind(frames), px, sz, nt)


def safe_runs(ticks: Ticks) -> Iterator[Ticks]:
    """The same trades in runs whose exact sums fit into 128 bits; nearly always one run.

    Numbers with the seventeen digits of a double on both sides need shorter runs, each at its own
    coarser scales. Where runs begin does not matter to a fold.
    """
    if not ticks.height:
        return
    if ticks.is_safe:
        yield ticks
        return
    ticks = minimal(ticks)
    if ticks.frame["nt"].null_count():
        product = times(ticks.frame["px"], ticks.frame["sz"])
        scale = ticks.px_scale + ticks.sz_scale
        ticks = replace(ticks, frame=ticks.frame.with_columns(product.alias("nt")), nt_scale=scale)
    if ticks.is_safe or ticks.height == 1:
        yield ticks
        return
    half = ticks.height // 2
    for part in (ticks.slice(0, half), ticks.slice(half)):
        yield from safe_runs(part)


def minimal(rows: Ticks, *, notional: bool = True) -> Ticks:
    """The same trades at the coarsest scales that hold them, that of the notional if wanted."""
    px, px_scale = _reduce(rows.frame["px"], rows.px_scale)
    sz, sz_scale = _reduce(rows.frame["sz"], rows.sz_scale)
    nt, nt_scale = rows.frame["nt"], rows.nt_scale
    if notional and not nt.null_count():
        nt, nt_scale = _reduce(nt, nt_scale)
    if (px_scale, sz_scale, nt_scale) == (rows.px_scale, rows.sz_scale, rows.nt_scale):
        return rows
    frame = rows.frame.with_columns(px.alias("px"), sz.alias("sz"), nt.alias("nt"))
    return Ticks(frame, px_scale, sz_scale, nt_scale)


def _reduce(values: pl.Series, scale: int) -> tuple[pl.Series, int]:
    """Drop the trailing zeros that all values share."""
    some = values.head(_SOME)
    for step in (8, 4, 2, 1):
        if scale < step:
            continue
        power = pl.Series([10**step], dtype=values.dtype)
        # a few values are nearly always enough to see that they share no zeros
        while scale >= step and (some % power).max() == 0 and (values % power).max() == 0:
            some = some // power
            values, scale = values // power, scale - step
    if values.dtype == pl.Int128 and largest(values) < INT64_SAFE:
        values = values.cast(pl.Int64)
    return values, scale
