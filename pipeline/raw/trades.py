"""A block of raw trade lines as exact columns in base units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from pipeline.calc.scale import fitting, rescale_each, times, to_scale
from pipeline.calc.tickfile import minimal
from pipeline.calc.ticks import Ticks
from pipeline.exact import MAX_DECIMALS, MAX_INTEGER_DIGITS, half_even_quotient, parse_decimal
from pipeline.instrument import Contract, contract_value
from pipeline.raw.block import Block, Reject
from pipeline.raw.lines import RawTrade, read_line
from pipeline.raw.shape import BadRecordError, TradeAdapter, TradeShape
from pipeline.raw.template import Template

_BASE_DECIMALS = 12
_MAX_NOTIONAL = 1e13
_TEMPLATE_TRIES = 50
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


class UnknownContractError(Exception):
    """Sizes are in contracts and neither record nor table says how large one is."""

    def __init__(self, offset: int, source: str) -> None:
        super().__init__(f"{source} byte {offset}")


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
    fast = _read_columns(block, adapter, inst_id)
    taken, left = (None, range(block.lines)) if fast is None else fast
    slow, rejects = _read_lines(block, left, adapter, inst_id)
    raw = slow if taken is None else taken
    if taken is not None and slow.height:
        raw = pl.concat([taken, slow]).sort("line", maintain_order=True)
    ticks, oversized = _to_base(raw, contract, block)
    for line in oversized:
        rejects.append(Reject.of(block, line, "magnitude"))
    rejects.sort(key=lambda reject: reject.offset)
    return TradeBatch(block, ticks, rejects)


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
        trade.count,
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
    table = template.read(block.data, block.lines)
    if table is None:
        return None
    columns = _columns(table, template, shape, prefix, inst_id)
    if columns is None:
        return None
    fits = columns["fits"]
    left = (~fits).arg_true().to_list()
    frame = columns.drop("fits")
    return (frame.filter(fits) if left else frame), left


def _template(
    block: Block, adapter: TradeAdapter, inst_id: str
) -> tuple[Template, TradeShape, str] | None:
    for line in range(min(block.lines, _TEMPLATE_TRIES)):
        text = block.line(line)
        try:
            found = read_line(text, adapter, inst_id)
        except BadRecordError:
            continue
        if len(found) != 1 or not text.isascii() or b"\\" in text:
            return None
        template = Template.of(text)
        return None if template is None else (template, found[0][1], found[0][2])
    return None


def _columns(
    table: pl.DataFrame, template: Template, shape: TradeShape, prefix: str, inst_id: str
) -> pl.DataFrame | None:
    """The raw columns of a table read by a template, with `fits` narrowed to valid rows.

    Whatever this is not sure of is marked as not fitting: `lines` has the last word.
    """
    fields = template.fields
    wanted = [shape.trade_id, shape.price, shape.size, shape.side, shape.ts, *shape.one_of]
    wanted += [shape.inst_id] if shape.inst_id else []
    optional = [shape.count] if shape.count and prefix + shape.count in fields else []
    contract = shape.contract if shape.contract and prefix + shape.contract[0] in fields else None
    if any(prefix + key not in fields for key in [*wanted, *(contract or ())]):
        return None

    def text(key: str) -> pl.Expr:
        return pl.col(fields[prefix + key].column)

    def is_string(key: str) -> bool:
        return fields[prefix + key].is_string

    side_keys = list(shape.side_of)
    if is_string(shape.side) != (side_keys[0] not in ("true", "false")):
        return None
    checks = [pl.col("fits")]
    checks += [text(key).is_in(list(allowed)) for key, allowed in shape.one_of.items()]
    if any(not is_string(key) for key in shape.one_of) or (
        shape.inst_id is not None and not is_string(shape.inst_id)
    ):
        return None
    if shape.inst_id is not None:
        checks.append(text(shape.inst_id) == inst_id)
    price, price_dp, price_ok = _number(text(shape.price))
    size, size_dp, size_ok = _number(text(shape.size))
    ts, ts_ok = _time(text(shape.ts), shape.time, is_string(shape.ts))
    side = text(shape.side).replace_strict(
        side_keys, list(shape.side_of.values()), default=None, return_dtype=pl.Int8
    )
    trade_id = text(shape.trade_id)
    if not is_string(shape.trade_id):
        checks.append(trade_id.str.contains(r"^[1-9][0-9]{0,17}$"))
    count = pl.lit(1, dtype=pl.Int64)
    if optional:
        digits = text(optional[0])
        checks.append(digits.str.contains(r"^[1-9][0-9]{0,8}$"))
        count = digits.cast(pl.Int64, strict=False)
    ct: list[pl.Expr] = [pl.lit(None, dtype=pl.String)] * 3
    if contract:
        if not all(is_string(key) for key in contract):
            return None
        ct = [text(key) for key in contract]
        checks += [_number(column)[2] for column in ct[:2]]
        checks.append(ct[2].is_in(["linear", "inverse"]))
    checks += [price_ok, size_ok, ts_ok, side.is_not_null()]
    return table.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("line"),
        trade_id.alias("trade_id"),
        price.alias("price"),
        price_dp.alias("price_dp"),
        size.alias("size"),
        size_dp.alias("size_dp"),
        side.alias("side"),
        ts.alias("ts"),
        count.alias("count"),
        ct[0].alias("ct_val"),
        ct[1].alias("ct_mult"),
        ct[2].alias("ct_type"),
        pl.all_horizontal(checks).fill_null(value=False).alias("fits"),
    )


def _number(text: pl.Expr) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Integer, decimals and validity of plain decimal text ("61800.30")."""
    length, dot = text.str.len_bytes(), text.str.find(".", literal=True)
    value = text.str.replace(".", "", literal=True).cast(pl.Int64, strict=False)
    decimals = pl.when(dot.is_null()).then(0).otherwise(length - dot - 1)
    whole = pl.when(dot.is_null()).then(length).otherwise(dot)
    valid = (
        (value > 0)
        & (length <= 18)
        & (decimals <= MAX_DECIMALS)
        & (whole <= MAX_INTEGER_DIGITS)
        & (whole > 0)
        & ~text.str.starts_with("+")
    )
    return value, decimals.cast(pl.UInt8, strict=False), valid


def _time(text: pl.Expr, kind: str, is_string: bool) -> tuple[pl.Expr, pl.Expr]:
    """Event time in microseconds and validity: 13-digit milliseconds, or ISO 8601 in UTC."""
    digits = text.cast(pl.Int64, strict=False)
    is_ms = (text.str.len_bytes() == 13) & (digits >= 10**12)
    if kind == "ms" or not is_string:
        return digits * 1000, is_ms
    iso = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False)
    length = text.str.len_bytes()
    # chrono would read a leap second and any year; fromisoformat, the last word, would not
    is_iso = (length >= 20) & (length <= 27) & ~text.str.contains(r"^[^12]|:6[0-9]|\.Z|\.[0-9]*\.")
    return iso.dt.timestamp("us"), is_iso & (iso.dt.timestamp("us") > 0)


def _to_base(raw: pl.DataFrame, contract: Contract, block: Block) -> tuple[Ticks, list[int]]:
    """Turn exchange sizes into base units and notionals; also the lines too large to carry."""
    if not raw.height:
        return _empty(), []
    big = raw.select(
        pl.col("line"),
        worth=pl.col("price").cast(pl.Float64)
        / 10.0 ** pl.col("price_dp")
        * pl.col("size").cast(pl.Float64)
        / 10.0 ** pl.col("size_dp"),
    ).filter(pl.col("worth") > _MAX_NOTIONAL)
    oversized = big["line"].unique(maintain_order=True).to_list()
    if oversized:
        raw = raw.filter(~pl.col("line").is_in(oversized))
    px, px_scale = to_scale(raw["price"], raw["price_dp"])
    kinds = raw.select(
        "line",
        kind=pl.struct("ct_val", "ct_mult", "ct_type"),
    )
    distinct = kinds["kind"].unique(maintain_order=True).to_list()
    whole = [
        _as_contract(kind, contract, lambda: _where(kinds, block)) for kind in distinct
    ]
    if len(set(whole)) == 1:
        sized = _sized(raw, px, px_scale, whole[0])
    else:
        sized = _sized_by_contract(raw, px, px_scale, distinct, whole)
    sz, sz_scale, nt, nt_scale = sized
    frame = raw.select(
        "line",
        "trade_id",
        "ts",
        "count",
        px.alias("px"),
        pl.col("price_dp").alias("px_dp"),
        sz.alias("sz"),
        nt.alias("nt"),
        "side",
    )
    return minimal(Ticks(frame, px_scale, sz_scale, nt_scale)), oversized


def _where(kinds: pl.DataFrame, block: Block) -> UnknownContractError:
    line = kinds.filter(pl.col("kind").struct.field("ct_val").is_null())["line"][0]
    return UnknownContractError(block.line_offset(line), block.source)


def _as_contract(
    kind: dict[str, str | None], table: Contract, unknown: Callable[[], UnknownContractError]
) -> tuple[str, str]:
    value, multiplier, style = kind["ct_val"], kind["ct_mult"], kind["ct_type"]
    if value is not None and multiplier is not None and style is not None and table.kind != "base":
        return style, contract_value(value, multiplier)
    if not table.value:
        raise unknown()
    return table.kind, table.value


def _sized(
    raw: pl.DataFrame, px: pl.Series, px_scale: int, contract: tuple[str, str]
) -> tuple[pl.Series, int, pl.Series, int]:
    """Base size and notional of trades that share one contract size."""
    kind, value = contract
    units, decimals = parse_decimal(value)
    qty, qty_scale = to_scale(raw["size"], raw["size_dp"])
    if units != 1:
        qty = times(qty, pl.Series([units], dtype=pl.Int64))
    scale = qty_scale + decimals
    if kind != "inverse":
        return qty, scale, times(px, qty), px_scale + scale
    base = [
        half_even_quotient(usd * 10 ** (_BASE_DECIMALS + px_scale), price * 10**scale)
        for usd, price in zip(qty.to_list(), px.to_list(), strict=True)
    ]
    width = fitting(max(base, default=0))
    return pl.Series("sz", base, dtype=width), _BASE_DECIMALS, qty, scale


def _sized_by_contract(
    raw: pl.DataFrame,
    px: pl.Series,
    px_scale: int,
    distinct: list[dict[str, str | None]],
    contracts: list[tuple[str, str]],
) -> tuple[pl.Series, int, pl.Series, int]:
    """As `_sized` where records of one block carry different contract sizes (rare)."""
    index = {tuple(kind.values()): i for i, kind in enumerate(distinct)}
    keys = zip(raw["ct_val"], raw["ct_mult"], raw["ct_type"], strict=True)
    which = pl.Series("which", [index[key] for key in keys], dtype=pl.Int64)
    rows: list[pl.DataFrame] = []
    for i, contract in enumerate(contracts):
        mine = (which == i).arg_true()
        sz, sz_scale, nt, nt_scale = _sized(raw[mine], px[mine], px_scale, contract)
        rows.append(
            pl.DataFrame(
                {
                    "row": mine,
                    "sz": sz.cast(pl.Int128),
                    "sz_dp": [sz_scale] * len(mine),
                    "nt": nt.cast(pl.Int128),
                    "nt_dp": [nt_scale] * len(mine),
                }
            )
        )
    both = pl.concat(rows).sort("row")
    sz_scale, nt_scale = int(both["sz_dp"].max()), int(both["nt_dp"].max())  # type: ignore[arg-type]
    sz = rescale_each(both["sz"], both["sz_dp"], sz_scale)
    nt = rescale_each(both["nt"], both["nt_dp"], nt_scale)
    return sz, sz_scale, nt, nt_scale


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
