"""A block of raw trade lines as exact columns in base units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipeline.calc.scale import fitting, largest, times, to_scale
from pipeline.calc.ticks import Ticks, minimal
from pipeline.exact import (
    MAX_DECIMALS,
    MAX_INTEGER_DIGITS,
    NotANumberError,
    half_even_quotient,
    parse_decimal,
)
from pipeline.instrument import Contract, contract_value
from pipeline.raw.block import Block, Reject, UnknownContractError
from pipeline.raw.digits import MAX_DIGITS, Ints, decimals, unsigned
from pipeline.raw.lines import RawTrade, read_line
from pipeline.raw.shape import BadRecordError, TradeAdapter, TradeShape
from pipeline.raw.template import Field, Table, Template

_BASE_DECIMALS = 12
_WIDE_SCALE = 10
_ENVELOPES = {"data", "events"}
_MAX_NOTIONAL, _MAX_BASE = 10**13, 10**15
_TEMPLATE_TRIES = 50
_FEW_LINES = 2
"""So many are read line by line sooner than a template is made of them."""
_ZERO, _POINT = ord("0"), ord(".")
_MS_DIGITS, _FINE_LENGTH, _COUNT_DIGITS = 13, 17, 9
_ISO_SHORTEST, _ISO_LONGEST = 20, 27
_ISO = (
    "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:[.][0-9]+)?Z$"  # 2024-03-06T…
)
_RAW = {
    "line": pl.Int64,
    "trade_id": pl.String,
    "price": pl.Int64,
    "price_dp": pl.UInt8,
    "size": pl.Int64,
    "size_dp": pl.UInt8,
    "side": pl.Int8,
    "ts": pl.Int64,
    "count": pl.Int64,
    "ct_val": pl.String,
    "ct_mult": pl.String,
    "ct_type": pl.String,
}


@dataclass(frozen=True, slots=True)
class TradeBatch:
    """The usable trades of one block, in file order, and the lines that are not usable.

    `ticks.frame` has no `seq` and no `gap` yet; it has `line` (index into the block), `trade_id`
    and `count` besides. `records` counts every trade and every bad line.
    """

    block: Block
    ticks: Ticks
    rejects: list[Reject]

    @property
    def records(self) -> int:
        """Trades and bad lines together."""
        return self.ticks.height + len(self.rejects)


def decode(block: Block, adapter: TradeAdapter, inst_id: str, contract: Contract) -> TradeBatch:
    """Decode a block of lines into trades in base units.

    Raises:
        UnknownContractError: a size is in contracts of unknown size.
    """
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        if not block.line(0).strip():
            return TradeBatch(block, _empty(), [])
        return TradeBatch(block, _empty(), [Reject.of(block, 0, reason)])
    raw, rejects = _read(block, adapter, inst_id)
    ticks, faults = _to_base(raw, contract, block)
    rejects += [Reject.of(block, line, reason) for line, reason in faults]
    rejects.sort(key=lambda reject: reject.offset)
    return TradeBatch(block, ticks, rejects)


def _read(block: Block, adapter: TradeAdapter, inst_id: str) -> tuple[pl.DataFrame, list[Reject]]:
    """Read a block by its template, and what does not fit line by line."""
    fast = None if block.lines <= _FEW_LINES else _read_columns(block, adapter, inst_id)
    if fast is None:
        return _read_lines(block, range(block.lines), adapter, inst_id)
    taken, left = fast
    if not left:
        return taken, []
    slow, rejects = _read_lines(block, left, adapter, inst_id)
    return pl.concat([taken, slow]).sort("line", maintain_order=True), rejects


def _read_lines(
    block: Block, lines: range | list[int], adapter: TradeAdapter, inst_id: str
) -> tuple[pl.DataFrame, list[Reject]]:
    rows: list[tuple[object, ...]] = []
    rejects: list[Reject] = []
    for line in lines:
        text = block.line(line)
        if block.offset == 0 and line == 0:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if not text.strip():
            continue
        try:
            found = read_line(text, adapter, inst_id)
        except BadRecordError as error:
            rejects.append(Reject.of(block, line, str(error)))
            continue
        rows.extend(_raw_row(line, trade) for trade, _, _ in found)
    wide = any(isinstance(row[i], int) and row[i] >= 2**62 for row in rows for i in (2, 4))  # type: ignore[operator]
    schema = {**_RAW, "price": pl.Int128, "size": pl.Int128} if wide else _RAW
    return pl.DataFrame(rows, schema=schema, orient="row"), rejects


def _raw_row(line: int, trade: RawTrade) -> tuple[object, ...]:
    contract = trade.contract or (None, None, None)
    return (
        line,
        trade.trade_id,
        *trade.price,
        *trade.size,
        trade.side,
        trade.ts_us,
        trade.aggregated,
        *contract,
    )


def _read_columns(
    block: Block, adapter: TradeAdapter, inst_id: str
) -> tuple[pl.DataFrame, list[int]] | None:
    """Read what fits one template; returns those rows and the lines that did not fit."""
    found = _template(block, adapter, inst_id)
    if found is None:
        return None
    template, shape, prefix = found
    table = template.read(block.data)
    if table is None:
        return None
    frame = _columns(table, shape, prefix, inst_id)
    if frame is None:
        return None
    left = np.flatnonzero(~table.fits).tolist()
    return (frame.filter(pl.Series(table.fits)) if left else frame), left


def _template(
    block: Block, adapter: TradeAdapter, inst_id: str
) -> tuple[Template, TradeShape, str] | None:
    for text in block.first_lines(_TEMPLATE_TRIES):
        try:
            found = read_line(text, adapter, inst_id)
        except BadRecordError:
            continue
        if len(found) != 1 or not text.isascii() or b"\\" in text:
            return None
        template = Template.of(text)
        return None if template is None else (template, found[0][1], found[0][2])
    return None


class _Keys(NamedTuple):
    """The keys of a shape that a template has."""

    used: list[str]
    aggregated: list[str]
    contract: list[str]


def _keys(fields: dict[str, Field], shape: TradeShape, prefix: str) -> _Keys | None:
    """Which keys to read; None if one is missing or not written as the shape wants it."""
    if not prefix and not fields.keys().isdisjoint(_ENVELOPES):
        return None  # what stands there decides whether the line is a record or an envelope
    texts = [*shape.one_of, *([shape.inst_id] if shape.inst_id else [])]
    count = [shape.count] if shape.count and prefix + shape.count in fields else []
    contract = list(shape.contract) if shape.contract else []
    if contract and prefix + contract[0] not in fields:
        contract = []
    values = [shape.trade_id, shape.price, shape.size, shape.side, shape.ts]
    used = [*values, *texts, *count, *contract]
    if any(prefix + key not in fields for key in used):
        return None
    is_flag = "true" in shape.side_of
    strings_only = [fields[prefix + key].is_string for key in (*texts, *contract)]
    if not all(strings_only) or fields[prefix + shape.side].is_string == is_flag:
        return None
    return _Keys(used, count, contract)


def _columns(table: Table, shape: TradeShape, prefix: str, inst_id: str) -> pl.DataFrame | None:
    """The raw columns of a table, narrowing `table.fits` to rows that are surely valid.

    Whatever this is not sure of is marked as not fitting: `lines` has the last word.
    """
    keys = _keys(table.template.fields, shape, prefix)
    if keys is None:
        return None
    used, count, contract = keys
    for key, allowed in shape.one_of.items():
        table.fits &= np.logical_or.reduce([table.equals(prefix + key, each) for each in allowed])
    if shape.inst_id is not None:
        table.fits &= table.equals(prefix + shape.inst_id, inst_id)
    side = np.zeros(table.height, np.int8)
    for value, sign in shape.side_of.items():
        side += table.equals(prefix + shape.side, value) * np.int8(sign)
    table.fits &= side != 0
    price, price_dp = _number(table, prefix + shape.price)
    size, size_dp = _number(table, prefix + shape.size)
    ts = _time(table, prefix + shape.ts, shape.time)
    trade_id = _identifier(table, prefix + shape.trade_id)
    table.check_ignored_literals({prefix + key for key in used})
    raw = pl.DataFrame(
        {
            "line": np.arange(table.height),
            "trade_id": trade_id,
            "price": price,
            "price_dp": price_dp.astype(np.uint8),
            "size": size,
            "size_dp": size_dp.astype(np.uint8),
            "side": side,
            "ts": ts,
            "count": _count(table, prefix + count[0]) if count else np.ones(table.height, np.int64),
        }
    )
    if not contract:
        nothing = [pl.lit(None, dtype=pl.String).alias(n) for n in ("ct_val", "ct_mult", "ct_type")]
        return raw.with_columns(nothing)
    for key in contract[:2]:
        _number(table, prefix + key)
    kind = prefix + contract[2]
    table.fits &= table.equals(kind, "linear") | table.equals(kind, "inverse")
    names = zip(("ct_val", "ct_mult", "ct_type"), contract, strict=True)
    return raw.with_columns(table.strings(prefix + key).alias(name) for name, key in names)


def _number(table: Table, path: str) -> tuple[Ints, Ints]:
    """Digits and decimals of a positive plain decimal; others no longer fit."""
    start, end = table.spans[path]
    value, places, valid = decimals(table.text, table.words, end, end - start, MAX_DECIMALS)
    table.fits &= valid & (value > 0) & (end - start - places <= MAX_INTEGER_DIGITS)
    if not table.template.fields[path].is_string:
        # JSON knows no leading zeros, and only `lines` may say so
        table.fits &= (table.text[start] != _ZERO) | (table.text[start + 1] == _POINT)
    return value, places


def _time(table: Table, path: str, kind: str) -> Ints:
    """Event time in microseconds: 13-digit milliseconds, or ISO 8601 in UTC.

    Milliseconds may have three decimals, as times have that were imported from microseconds.
    """
    start, end = table.spans[path]
    length = end - start
    is_string = table.template.fields[path].is_string
    if kind == "ms" or not is_string or not (length[table.fits] > _ISO_SHORTEST - 1).any():
        is_fine = length == _FINE_LENGTH
        has_fine = bool(is_fine.any())
        if has_fine:
            is_fine &= table.text[end - _FINE_LENGTH + _MS_DIGITS] == _POINT
            end = end - is_fine * (_FINE_LENGTH - _MS_DIGITS)
            length = end - start
        value, valid = unsigned(table.words, end, np.minimum(length, MAX_DIGITS + 1))
        table.fits &= valid & (length == _MS_DIGITS) & (value >= 10 ** (_MS_DIGITS - 1))
        if not has_fine:
            return value * 1000
        rest, valid = unsigned(table.words, end + (_FINE_LENGTH - _MS_DIGITS), 3 * is_fine)
        table.fits &= valid
        return value * 1000 + rest
    text = table.strings(path)
    iso = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False)
    ts = iso.dt.timestamp("us").fill_null(0)
    # chrono would also read leap seconds and single digits; fromisoformat, the last word, would not
    table.fits &= (length <= _ISO_LONGEST) & text.str.contains(_ISO).to_numpy()
    table.fits &= (ts > 0).to_numpy()
    return ts.to_numpy()


def _identifier(table: Table, path: str) -> pl.Series:
    """Ids as text; the usual plain numbers need no string of the block to be copied."""
    start, end = table.spans[path]
    length = end - start
    value, valid = unsigned(table.words, end, np.minimum(length, MAX_DIGITS + 1))
    plain = valid & (length > 0) & (table.text[start] != _ZERO)
    if plain[table.fits].all():
        table.fits &= plain
        return pl.Series(value).cast(pl.String)
    if not table.template.fields[path].is_string:
        table.fits &= plain
        return pl.Series(value).cast(pl.String)
    table.fits &= length > 0
    return table.strings(path)


def _count(table: Table, path: str) -> Ints:
    start, end = table.spans[path]
    length = end - start
    value, valid = unsigned(table.words, end, np.minimum(length, MAX_DIGITS + 1))
    table.fits &= valid & (length > 0) & (length <= _COUNT_DIGITS) & (table.text[start] != _ZERO)
    return value


def _to_base(
    raw: pl.DataFrame, contract: Contract, block: Block
) -> tuple[Ticks, list[tuple[int, str]]]:
    """Turn exchange sizes into base units and notionals; also lines whose numbers do not fit."""
    if not raw.height:
        return _empty(), []
    which, sizes = _contract_sizes(raw, contract, block)
    faults: dict[int, str] = {}
    if len(sizes) == 1 and sizes[0] is not None and _is_ordinary(raw, sizes[0]):
        px, px_scale = to_scale(raw["price"], raw["price_dp"])
        sz, sz_scale, nt, nt_scale = _sized(raw, px, px_scale, sizes[0])
    else:
        amounts = _amounts(raw, which, sizes, faults)
        fits = ~raw["line"].is_in(pl.Series(list(faults), dtype=pl.Int64).implode())
        raw = raw.filter(fits)
        if not raw.height:
            return _empty(), list(faults.items())
        px, px_scale = to_scale(raw["price"], raw["price_dp"])
        sz, sz_scale, nt, nt_scale = _sized_exactly(amounts, px, px_scale, fits)
    frame = pl.DataFrame(
        [
            raw["line"],
            raw["trade_id"],
            raw["ts"],
            raw["count"],
            px.alias("px"),
            raw["price_dp"].alias("px_dp"),
            sz.alias("sz"),
            nt.alias("nt"),
            raw["side"],
        ]
    )
    ticks = Ticks(frame, px_scale, sz_scale, nt_scale)
    ticks = minimal(ticks) if nt_scale > _WIDE_SCALE else ticks
    return ticks, list(faults.items())


class _Size(NamedTuple):
    """What one unit of raw size is: units / 10**decimals of base or, if inverse, quote."""

    is_inverse: bool
    units: int
    decimals: int


def _contract_sizes(
    raw: pl.DataFrame, contract: Contract, block: Block
) -> tuple[list[int], list[_Size | None]]:
    """The contract sizes that occur, None for one that cannot be used, and which row has which."""
    names = ["ct_val", "ct_mult", "ct_type"]
    keys: list[tuple[Any, ...]]
    if raw["ct_val"].null_count() == raw.height:
        keys = [(None, None, None)]
        which: list[int] = []
    else:
        all_keys = raw.select(names).rows()
        keys = sorted(set(all_keys), key=str)
        index = {key: i for i, key in enumerate(keys)}
        which = [index[key] for key in all_keys]
    sizes: list[_Size | None] = []
    for value, multiplier, kind in keys:
        own = value is not None and contract.kind != "base"
        if not own and not contract.value:
            line = raw.filter(pl.col("ct_val").is_null())["line"][0]
            raise UnknownContractError(block.line_offset(line), block.source)
        try:
            text = contract_value(value, multiplier) if own else contract.value
            units, decimals = parse_decimal(text)
        except NotANumberError:
            sizes.append(None)
            continue
        is_inverse = (kind if own else contract.kind) == "inverse"
        sizes.append(_Size(is_inverse, units, decimals))
    return which, sizes


def _is_ordinary(raw: pl.DataFrame, size: _Size) -> bool:
    """Whether all numbers are of a size at which nothing can overflow or need rounding."""
    price = raw["price"].cast(pl.Float64).to_numpy() / 10.0 ** raw["price_dp"].to_numpy()
    amount = raw["size"].cast(pl.Float64).to_numpy() / 10.0 ** raw["size_dp"].to_numpy()
    most = float(amount.max()) * size.units / 10.0**size.decimals
    worth, base = float(price.max()) * most, most
    if size.is_inverse:
        worth, base = most, most / float(price.min())
    digits = largest(raw["size_dp"]) + size.decimals
    # half of what is allowed: these are doubles, and the border belongs to exact numbers
    return worth < _MAX_NOTIONAL / 2 and base < _MAX_BASE / 2 and digits <= MAX_DECIMALS


def _sized(
    raw: pl.DataFrame, px: pl.Series, px_scale: int, size: _Size
) -> tuple[pl.Series, int, pl.Series, int]:
    """Base size and notional of ordinary trades that share one contract size."""
    qty, qty_scale = to_scale(raw["size"], raw["size_dp"])
    if size.units != 1:
        qty = times(qty, pl.Series([size.units], dtype=pl.Int64))
    scale = qty_scale + size.decimals
    if not size.is_inverse:
        return qty, scale, times(px, qty), px_scale + scale
    base = [
        half_even_quotient(usd * 10 ** (_BASE_DECIMALS + px_scale), price * 10**scale)
        for usd, price in zip(qty.to_list(), px.to_list(), strict=True)
    ]
    width = fitting(max(base, default=0))
    return pl.Series("sz", base, dtype=width), _BASE_DECIMALS, qty, scale


class _Amount(NamedTuple):
    """Base size and, of an inverse contract, notional, each as (integer, decimals)."""

    base: tuple[int, int]
    notional: tuple[int, int] | None


def _amounts(
    raw: pl.DataFrame, which: list[int], sizes: list[_Size | None], faults: dict[int, str]
) -> list[_Amount]:
    """As `_sized`, trade by trade, for numbers or contract sizes out of the ordinary.

    A line with a number that does not fit is noted in `faults` with the reason.
    """
    found = []
    columns = raw.select("line", "price", "price_dp", "size", "size_dp").iter_rows()
    for row, (line, price, price_dp, qty, qty_dp) in enumerate(columns):
        size = sizes[which[row] if which else 0]
        amount = _Amount((0, 0), None)
        if size is None:
            faults.setdefault(line, "contract")
        else:
            amount, reason = _amount(size, price, price_dp, qty, qty_dp)
            if reason is not None:
                faults.setdefault(line, reason)
        found.append(amount)
    return found


def _amount(
    size: _Size, price: int, price_dp: int, qty: int, qty_dp: int
) -> tuple[_Amount, str | None]:
    value, decimals = qty * size.units, qty_dp + size.decimals
    while decimals and value % 10 == 0:
        value, decimals = value // 10, decimals - 1
    base, notional = (value, decimals), None
    worth, worth_dp = value * price, decimals + price_dp
    if size.is_inverse:
        worth, worth_dp, notional = value, decimals, base
        coins = half_even_quotient(value * 10 ** (_BASE_DECIMALS + price_dp), price * 10**decimals)
        base = (coins, _BASE_DECIMALS)
    if decimals > MAX_DECIMALS:
        return _Amount(base, notional), "precision"
    too_large = worth >= _MAX_NOTIONAL * 10**worth_dp or base[0] >= _MAX_BASE * 10 ** base[1]
    return _Amount(base, notional), ("magnitude" if too_large else None)


def _sized_exactly(
    amounts: list[_Amount], px: pl.Series, px_scale: int, fits: pl.Series
) -> tuple[pl.Series, int, pl.Series, int]:
    """Columns of base size and notional from the amounts of the trades that fit."""
    kept = [amount for amount, fit in zip(amounts, fits.to_list(), strict=True) if fit]
    sz, sz_scale = _column([amount.base for amount in kept])
    if all(amount.notional is None for amount in kept):
        return sz, sz_scale, times(px, sz), px_scale + sz_scale
    given = [
        amount.notional or (price * amount.base[0], px_scale + amount.base[1])
        for amount, price in zip(kept, px.to_list(), strict=True)
    ]
    return sz, sz_scale, *_column(given)


def _column(values: list[tuple[int, int]]) -> tuple[pl.Series, int]:
    scale = max(decimals for _, decimals in values)
    whole = [value * 10 ** (scale - decimals) for value, decimals in values]
    return pl.Series(whole, dtype=fitting(max(whole))), scale


def _empty() -> Ticks:
    schema = {
        "line": pl.Int64,
        "trade_id": pl.String,
        "ts": pl.Int64,
        "count": pl.Int64,
        "px": pl.Int64,
        "px_dp": pl.UInt8,
        "sz": pl.Int64,
        "nt": pl.Int64,
        "side": pl.Int8,
    }
    return Ticks(pl.DataFrame(schema=schema), 0, 0, 0)
