"""Every stage over frames that a user has, in one call and without a vault."""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipeline import stages
from pipeline.engine.committed import Committed
from pipeline.engine.paths import MARKETS
from pipeline.engine.presence import applies
from pipeline.engine.runner import run_stages
from pipeline.engine.summary import Summary, is_too_bad
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, UsageError, disk_errors
from pipeline.frames.given import KINDS, Written, as_polars, raw_records, write_lines
from pipeline.instrument import Instrument, packaged_table
from pipeline.raw import plain
from pipeline.raw.adapters import trade_adapter
from pipeline.settings import Settings
from pipeline.stage import Stage

_FILE_DAY = "1970-01-01"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class Analysis(Mapping[str, pl.DataFrame]):
    """The layers by name, and what was not used.

    Attributes:
        rejected: rows that reached no layer: `kind` (which frame), `row` (its number there, from
            0; of books with a row a level the number of the book), `reason`, `raw`.
        summary: what each stage did: `stage rows_in rows_out late duplicate bad`.
    """

    layers: dict[str, pl.DataFrame]
    rejected: pl.DataFrame
    summary: pl.DataFrame

    def __getitem__(self, name: str) -> pl.DataFrame:
        return self.layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} {frame.height:,}" for name, frame in self.layers.items())
        return f"<Analysis: {rows}; {self.rejected.height:,} rejected>"


def analyze(
    trades: Any = None,
    books: Any = None,
    quotes: Any = None,
    *,
    open_interest: Any = None,
    positions: Any = None,
    inst_id: str = "FRAME",
    exchange: str = "frame",
    market: str = "spot",
    tick: str | float | Decimal | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    only: Iterable[str] | None = None,
) -> Analysis:
    """Run every stage that the frames given suffice for.

    Frames are of polars (lazy ones too), pandas or pyarrow, or mappings of columns; rows stand in
    the order in which they arrived. Other columns are ignored. The rows are those that a vault
    with the same records would have: only closed bars, so the last minute of the frames is not
    among them.

    Args:
        trades: `ts price size side`, and `id` (or `trade_id`) if repeated trades are to be found.
        books: whole books, `ts bids asks` with lists of [price, size], or a row a level,
            `ts side price size`, where rows of one `ts` that follow each other are one book.
        quotes: `ts bid bid_size ask ask_size`.
        open_interest: `ts open_interest`.
        positions: `ts position`.
        inst_id: what rows say in `instId`.
        exchange: what they say in `exchange`.
        market: "perps" or "spot".
        tick: the tick size, for stages that go by it.
        params: parameters by stage, as the tables of `flowvault.toml`.
        only: these stages and what they read.

    `ts` is a datetime (without a zone: UTC), ISO text or integer microseconds; prices and sizes
    are floats, decimals, integers or texts, sizes in base units; `side` is what the taker did,
    "buy" or "sell", or 1 or -1.

    Raises:
        UsageError: an argument, a column or a parameter is wrong.
        FlowvaultError: a stage failed.
    """
    instrument = _instrument(exchange, market, inst_id)
    chain = _chain(only)
    given = {
        "trades": trades,
        "books": books,
        "quotes": quotes,
        "open_interest": open_interest,
        "positions": positions,
    }
    frames = {kind: as_polars(kind, each) for kind, each in given.items() if each is not None}
    records = {kind: raw_records(kind, each) for kind, each in frames.items() if each.height}
    if not records:
        raise UsageError("no rows to analyze", f"give some of {', '.join(KINDS)}")
    is_windows = sys.platform == "win32"
    with (
        disk_errors("make room in the temporary folder, or set TMPDIR to another"),
        tempfile.TemporaryDirectory(prefix="flowvault-", ignore_cleanup_errors=is_windows) as name,
    ):
        vault = _vault(Path(name), instrument, tick, params)
        written = {
            kind: write_lines(_raw_file(vault, instrument, kind), each)
            for kind, each in records.items()
        }
        summaries = _run(vault, chain, instrument)
        return Analysis(
            _layers(vault, chain, instrument),
            _rejected(vault, instrument, written),
            _summary(summaries),
        )


def _instrument(exchange: str, market: str, inst_id: str) -> Instrument:
    for what, name in (("exchange", exchange), ("inst_id", inst_id)):
        if not _NAME.fullmatch(name):
            message = f"{what} {name!r}: letters, digits, dots, dashes and underscores only"
            raise UsageError(message)
    if market not in MARKETS:
        raise UsageError(f"market {market!r} is not one of {', '.join(MARKETS)}")
    if trade_adapter(exchange) is not plain.TRADES:
        message = f"exchange {exchange!r}: its records are read in its own format, not from frames"
        raise UsageError(message, f'exchange="{exchange}-frames", or any other name')
    return Instrument(exchange, market, inst_id)


def _chain(only: Iterable[str] | None) -> list[Stage[Any, Any]]:
    if only is None:
        return list(stages.all_stages())
    names = [only] if isinstance(only, str) else list(only)
    unknown = [name for name in names if name not in stages.SUMMARY]
    if unknown:
        known = ", ".join(stages.SUMMARY)
        raise UsageError(f"no stage {unknown[0]!r}; stages: {known}", "flowvault layers")
    return stages.with_upstream(names)


def _vault(
    root: Path,
    instrument: Instrument,
    tick: str | float | Decimal | None,
    params: Mapping[str, Mapping[str, Any]] | None,
) -> Vault:
    """A vault to work in; it has nothing to do with the user's."""
    tables = {name: _exact(dict(table)) for name, table in (params or {}).items()}
    settings = Settings.of(Path("params"), tables, frozenset(stages.SUMMARY))
    for stage in stages.all_stages():
        settings.params(stage.name, stage.params, instrument)
    own = {} if tick is None else {instrument.key: {"tick": _positive(tick)}}
    return Vault(root, settings, {**packaged_table(), **own})


def _positive(tick: str | float | Decimal) -> str:
    try:
        number = Decimal(str(tick))
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or number <= 0:
        raise UsageError(f"tick {tick!r} is not a positive number", 'tick="0.1"')
    return format(number, "f")


def _raw_file(vault: Vault, instrument: Instrument, kind: str) -> Path:
    """The one raw file of a kind; the times of its records need not be of the day of its name."""
    folder = vault.root / "raw" / instrument.exchange / f"{kind}_{instrument.market}"
    return folder / instrument.inst_id / f"{_FILE_DAY}.jsonl"


def _exact(value: Any) -> Any:
    """Floats as the decimals that a settings file would have."""
    if isinstance(value, float):
        return Decimal(str(value))
    if isinstance(value, dict):
        return {key: _exact(each) for key, each in value.items()}
    return [_exact(each) for each in value] if isinstance(value, (list, tuple)) else value


def _run(vault: Vault, chain: list[Stage[Any, Any]], instrument: Instrument) -> list[Summary]:
    chosen = [stage for stage in chain if applies(vault.paths, stage, instrument)]
    found = []
    for done in run_stages(vault, chosen, instrument):
        if isinstance(done, FlowvaultError):
            raise done
        found.append(done)
        if stages.load(done.stage).raw_kind and is_too_bad(done.counts):
            bad, of = done.counts.bad, done.counts.rows_in
            message = f"{done.stage}: {bad:,} of {of:,} rows were not used; see .rejected"
            warnings.warn(message, stacklevel=3)
    return found


def _layers(
    vault: Vault, chain: list[Stage[Any, Any]], instrument: Instrument
) -> dict[str, pl.DataFrame]:
    return {
        layer.name: Committed(vault.paths, layer, stage.name, instrument).read()
        for stage in chain
        if vault.paths.state(stage.name, instrument).is_file()
        for layer in stage.layers
    }


def _rejected(vault: Vault, instrument: Instrument, written: dict[str, Written]) -> pl.DataFrame:
    found = []
    for kind, file in written.items():
        path = vault.paths.quarantine(instrument, kind) / f"{_FILE_DAY}.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        bad = map(msgspec.json.decode, lines)
        found += [(kind, file.row_at(b["offset"]), b["reason"], b["raw"]) for b in bad]
    schema = {"kind": pl.String, "row": pl.Int64, "reason": pl.String, "raw": pl.String}
    return pl.DataFrame(found, schema=schema, orient="row")


def _summary(summaries: list[Summary]) -> pl.DataFrame:
    names = ("rows_in", "rows_out", "late", "duplicate", "bad")
    rows = [(each.stage, *(getattr(each.counts, name) for name in names)) for each in summaries]
    schema = {"stage": pl.String, **dict.fromkeys(names, pl.Int64)}
    return pl.DataFrame(rows, schema=schema, orient="row")
