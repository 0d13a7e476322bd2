"""Columns of exact numbers: integers with one scale for the whole column."""

from __future__ import annotations

import polars as pl

INT64_SAFE = 2**62
INT128_SAFE = 2**126


def to_scale(values: pl.Series, decimals: pl.Series) -> tuple[pl.Series, int]:
    """Bring integers that each have their own number of decimals to one scale.

    Args:
        values: Int64 or Int128, value * 10**decimals, non-negative.
        decimals: how many decimals each value has.

    Returns:
        The values at the largest number of decimals (Int128 where Int64 could overflow), and
        that number.
    """
    top = decimals.max()
    scale = top if isinstance(top, int) else 0
    if decimals.min() == top:
        return values, scale
    return rescale_each(values, decimals, scale), scale


def rescale_each(values: pl.Series, decimals: pl.Series, scale: int) -> pl.Series:
    """Multiply each value by 10**(scale - decimals)."""
    largest = values.max()
    width = fitting(int(largest) * 10**scale if isinstance(largest, int) else 0)
    factors = {d: 10 ** (scale - d) for d in decimals.unique().to_list()}
    factor = decimals.replace_strict(
        pl.Series(list(factors), dtype=decimals.dtype),
        pl.Series(list(factors.values()), dtype=width),
        return_dtype=width,
    )
    return values.cast(width) * factor


def rescale(values: pl.Series, scale: int, to: int) -> pl.Series:
    """Bring a column from one scale to a finer one."""
    if scale == to:
        return values
    largest = values.max()
    width = fitting((int(largest) if isinstance(largest, int) else 0) * 10 ** (to - scale))
    return values.cast(width) * pl.Series([10 ** (to - scale)], dtype=width)


def times(a: pl.Series, b: pl.Series) -> pl.Series:
    """a * b; nulls if that could be too large for 128 bits."""
    bound = largest(a) * largest(b)
    if bound >= INT128_SAFE:
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(a))
    width = fitting(bound)
    return a.cast(width) * b.cast(width)


def largest(values: pl.Series) -> int:
    """The largest value, at least 1."""
    top = values.max()
    return max(int(top), 1) if isinstance(top, int) else 1


def fitting(bound: int) -> type[pl.Int64 | pl.Int128]:
    """The narrowest integer type that holds values up to `bound`."""
    return pl.Int64 if bound < INT64_SAFE else pl.Int128
