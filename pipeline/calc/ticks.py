"""Trades as exact columns: what every stage that reads trades works on.

Prices, base sizes and notionals are integers with one scale each, so that sums over any cutting
of the input agree to the last digit. Columns of `frame`:

    seq        Int64    row number in the layer `trades`, from 0
    ts         Int64    event time, microseconds since 1970 UTC
    px         Int64 or Int128, price * 10**px_scale
    px_dp      UInt8    decimals in the exchange's own text of the price
    sz         Int64 or Int128, base size * 10**sz_scale
    nt         Int64 or Int128, notional in quote currency * 10**nt_scale
    side       Int8     +1 the taker bought, -1 sold
    gap        Boolean  trade ids are missing just before this trade
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from pipeline.calc.scale import rescale


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
        frame = self.frame.with_columns(
            rescale(self.frame["px"], self.px_scale, px),
            rescale(self.frame["sz"], self.sz_scale, sz),
            rescale(self.frame["nt"], self.nt_scale, nt),
        )
        return Ticks(frame, px, sz, nt)


def join(parts: Sequence[Ticks]) -> Ticks:
    """Put runs of trades behind each other, at the finest scales among them."""
    if len(parts) == 1:
        return parts[0]
    px = max(part.px_scale for part in parts)
    sz = max(part.sz_scale for part in parts)
    nt = max(part.nt_scale for part in parts)
    frames = [part.at_scales(px, sz, nt).frame for part in parts]
    for column in ("px", "sz", "nt"):
        if any(frame.schema[column] == pl.Int128 for frame in frames):
            frames = [frame.with_columns(pl.col(column).cast(pl.Int128)) for frame in frames]
    return Ticks(pl.concat(frames), px, sz, nt)
