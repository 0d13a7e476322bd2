"""Writing raw files, reading derived ones, and the comparison with the oracle."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from tests.oracle.fold import Judge, judge_folder
from tests.oracle.layers import MINUTES, Row, bars_rows, gaps_rows, trades_rows, volume_rows
from tests.oracle.raw import Instrument, day_of

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
"""When most written days begin: aligned to every bar length."""


def ms(offset_s: float, start: datetime = NOON) -> int:
    """Milliseconds since 1970 of `start` plus some seconds."""
    return round((start + timedelta(seconds=offset_s)).timestamp() * 1000)


def plain_line(
    number: int | str, ts: int | str, price: str, size: str, side: str = "buy", **more: Any
) -> bytes:
    """One trade in the plain format."""
    row = {"ts": ts, "price": price, "size": size, "side": side, "id": number} | more
    return json.dumps(row).encode() + b"\n"


def okx_line(
    inst_id: str, number: int, ts: int, price: str, size: str, side: str = "buy", **more: Any
) -> bytes:
    """One flat trade in the format of OKX."""
    row = {"instId": inst_id, "tradeId": str(number), "px": price, "sz": size, "side": side}
    return json.dumps(row | {"ts": str(ts)} | more).encode() + b"\n"


def write_raw(vault: Path, instrument: Instrument, day: str, content: bytes) -> Path:
    """Write one uncompressed day file."""
    file = instrument.raw_folder(vault) / f"{day}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def unpacked_lines(file: Path) -> list[bytes]:
    """The lines of a capture, each with its end."""
    return gzip.decompress(file.read_bytes()).splitlines(keepends=True)


# -- reading ---------------------------------------------------------------


def derived_folder(vault: Path, layer: str, instrument: Instrument) -> Path:
    """Where a layer of an instrument lies."""
    return vault / "derived" / layer / instrument.exchange / instrument.market / instrument.inst_id


def read_jsonl(file: Path) -> list[Row]:
    """The rows of a JSONL layer; a file that is not there has none."""
    if not file.exists():
        return []
    content = file.read_text(encoding="utf-8")
    assert content == "" or content.endswith("\n"), f"{file} does not end with a line feed"
    return [json.loads(line) for line in content.split("\n")[:-1]]


def read_trades(vault: Path, instrument: Instrument) -> list[Row]:
    """The rows of the `trades` parts in the order of their names, and the check of their types."""
    parts = sorted(derived_folder(vault, "trades", instrument).glob("*.parquet"))
    if not parts:
        return []
    table = pl.concat([pl.read_parquet(part) for part in parts])
    kinds = dict(zip(table.columns, table.dtypes, strict=True))
    assert list(kinds) == [
        "seq",
        "ts",
        "trade_id",
        "price",
        "size",
        "notional",
        "side",
        "gap_before",
    ]
    assert kinds["ts"] == pl.Datetime("us", "UTC")
    assert kinds["side"] == pl.Int8
    assert kinds["trade_id"] == pl.String
    assert kinds["gap_before"] == pl.Boolean
    assert {kinds[name] for name in ("price", "size", "notional")} == {pl.Float64()}
    return table.to_dicts()


def read_bars(vault: Path, instrument: Instrument, tf: str) -> list[Row]:
    """The rows of `bars_{tf}.jsonl`."""
    return read_jsonl(derived_folder(vault, "bars", instrument) / f"bars_{tf}.jsonl")


def read_volume(vault: Path, instrument: Instrument) -> list[Row]:
    """The rows of `volume_1m.jsonl`."""
    return read_jsonl(derived_folder(vault, "volume", instrument) / "volume_1m.jsonl")


def read_gaps(vault: Path, instrument: Instrument) -> list[Row]:
    """The trade gaps, their readable time checked against `ts` and taken off."""
    rows = read_jsonl(derived_folder(vault, "gaps", instrument) / "gaps.jsonl")
    rows = [row for row in rows if row["kind"] == "trades"]
    for row in rows:
        assert next(iter(row)) == "timestamp_utc"
        stamp = datetime.fromisoformat(row.pop("timestamp_utc")).timestamp()
        assert 0 <= row["ts"] / 1000 - stamp < 60, row
    return rows


def quarantine_folder(vault: Path, instrument: Instrument) -> Path:
    """Where refused lines of the instrument's trades lie."""
    kind = f"trades_{instrument.market}"
    return vault / "quarantine" / instrument.exchange / kind / instrument.inst_id


def read_quarantine(vault: Path, instrument: Instrument) -> list[tuple[str, Row]]:
    """(file, row) of every refused line of the instrument."""
    files = sorted(quarantine_folder(vault, instrument).glob("*.jsonl"))
    return [(file.name, row) for file in files for row in read_jsonl(file)]


def tree(vault: Path, top: str) -> dict[str, bytes]:
    """Every file under a folder of the vault but the locks, by its relative path."""
    files = sorted(f for f in (vault / top).rglob("*") if f.is_file() and f.suffix != ".lock")
    return {f.relative_to(vault).as_posix(): f.read_bytes() for f in files}


def times(vault: Path, top: str) -> dict[str, int]:
    """When each of those files was last written."""
    files = sorted(f for f in (vault / top).rglob("*") if f.is_file() and f.suffix != ".lock")
    return {f.relative_to(vault).as_posix(): f.stat().st_mtime_ns for f in files}


# -- comparing -------------------------------------------------------------


def assert_rows(found: list[Row], wanted: list[Row], where: str) -> None:
    """Equal rows with equal key order; the first difference is named."""
    for i, (left, right) in enumerate(zip(found, wanted, strict=False)):
        differing = [k for k in right if left.get(k, "(no key)") != right[k]]
        assert not differing, (
            f"{where}, row {i} ({right.get('timestamp_utc', right.get('trade_id'))}): "
            + "; ".join(f"{k}: {left.get(k, '(no key)')!r} for {right[k]!r}" for k in differing)
        )
        assert list(left) == list(right), f"{where}, row {i}: keys {list(left)}"
    assert len(found) == len(wanted), f"{where}: {len(found)} rows for {len(wanted)}"


def assert_layers(vault: Path, instrument: Instrument, judge: Judge | None = None) -> Judge:
    """Every layer of the instrument is what the oracle makes of its raw files."""
    judge = judge or judge_folder(vault, instrument)
    name = f"{instrument.exchange} {instrument.market} {instrument.inst_id}"
    assert_rows(read_trades(vault, instrument), trades_rows(judge), f"trades of {name}")
    for tf in MINUTES:
        assert_rows(read_bars(vault, instrument, tf), bars_rows(judge, tf), f"{tf} bars of {name}")
    assert_rows(read_volume(vault, instrument), volume_rows(judge), f"volume of {name}")
    assert_rows(read_gaps(vault, instrument), gaps_rows(judge), f"gaps of {name}")
    return judge


def assert_quarantine(vault: Path, instrument: Instrument, judge: Judge) -> None:
    """Every refused line is there once, with its file, its place, its bytes and its reason."""
    found = sorted(
        read_quarantine(vault, instrument), key=lambda item: (item[0], item[1]["offset"])
    )
    wanted = sorted(judge.refused, key=lambda item: (item.line.file.name, item.line.offset))
    places = [(file, row["offset"]) for file, row in found]
    assert places == [(f"{day_of(r.line.file)}.jsonl", r.line.offset) for r in wanted]
    for (_, row), refused in zip(found, wanted, strict=True):
        assert list(row) == ["source", "offset", "reason", "raw"]
        assert row["source"].endswith(refused.line.file.name)
        assert isinstance(row["reason"], str)
        assert row["reason"] != ""
        if refused.reason is not None:
            assert row["reason"] == refused.reason, row
        else:
            assert row["reason"] not in ("late", "future", "torn"), row
        assert_raw(row["raw"], refused.line.data)


def assert_raw(text: str, data: bytes) -> None:
    """The quarantined text is the line; bytes that are no UTF-8 may be spelt in any way."""
    try:
        assert text == data.decode("utf-8")
    except UnicodeDecodeError:
        head = data.decode("ascii", "ignore")[:20]
        assert text.startswith(head), (text, data)
