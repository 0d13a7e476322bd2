"""`Vault` reads what is committed, whatever else goes on, and says what to do where it cannot."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline import Vault, stages
from pipeline.engine import lock
from pipeline.engine import state as states
from pipeline.engine import vault as vaults
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rebuild import rebuild_stage
from pipeline.errors import (
    DiskError,
    FlowvaultError,
    MissingInputError,
    StateError,
    UsageError,
)
from tests.laws.world import Grain, grain, unsynced

from .market import WHERE, Market, market, run

STAGES = ["volume", "footprint", "profile"]
ASK: dict[str, Any] = {"exchange": WHERE.exchange, "market": WHERE.market}
FINE = Grain(part_rows=250)


@pytest.fixture(scope="module")
def made() -> Market:
    """Trades only."""
    found = market(3, trades=3000)
    del found.records["books"], found.records["quotes"]
    return found


@pytest.fixture(scope="module")
def root(made: Market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with many small Parquet files."""
    root = tmp_path_factory.mktemp("door") / "vault"
    root.mkdir()
    with unsynced(), grain(FINE):
        made.write(root)
        run(root, STAGES)
    return root


@pytest.fixture
def vault(root: Path) -> Vault:
    """The same, opened."""
    return Vault(root)


def folder(root: Path, layer: str) -> Path:
    """Where a layer lies."""
    return root / "derived" / layer / WHERE.exchange / WHERE.market / WHERE.inst_id


def test_whole_layers(vault: Vault) -> None:
    lines = (folder(vault.root, "volume") / "volume_1m.jsonl").read_bytes().splitlines()
    frame = vault.read("volume_1m", WHERE.inst_id, **ASK)
    assert frame.columns == list(json.loads(lines[0]))
    assert frame["close"].to_list() == [json.loads(line)["close"] for line in lines]
    assert frame.schema["timestamp_utc"] == pl.Datetime("us", "UTC")
    assert vault.read("volume", WHERE).equals(frame)
    parts = sorted(folder(vault.root, "trades").glob("*.parquet"))
    assert len(parts) > 10
    trades = pl.concat([pl.read_parquet(part) for part in parts])
    assert vault.read("trades", WHERE).equals(trades)
    assert vault.scan("trades", WHERE).collect().equals(trades)
    assert vault.scan("volume", WHERE).collect().equals(frame)


def test_instruments_and_layers(vault: Vault) -> None:
    assert vault.instruments() == [WHERE]
    table = vault.layers()
    assert table.columns == ["layer", "stage", "exchange", "market", "instId", "rows", "last_row"]
    for row in table.rows(named=True):
        frame = vault.read(row["layer"], WHERE)
        assert frame.height == row["rows"]
    (rows,) = table.filter(layer="trades")["rows"]
    assert vault.sql("select count(*) as n from trades")["n"].to_list() == [rows]
    assert Vault(vault.root).root == vault.root.absolute()
    assert str(vault.root) in repr(vault)


def test_the_vault_is_found_as_the_command_finds_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWVAULT_VAULT", str(root))
    assert Vault().root == root
    monkeypatch.delenv("FLOWVAULT_VAULT")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match="no vault") as error:
        Vault()
    assert str(tmp_path / "vault") in str(error.value)
    assert "demo" in str(error.value.hint)


# -- times and columns -----------------------------------------------------------------------


def test_times_in_every_spelling(vault: Vault) -> None:
    whole = vault.read("volume_1m", WHERE)
    low = datetime(2024, 3, 5, 23, 45, tzinfo=UTC)
    high = datetime(2024, 3, 6, tzinfo=UTC)
    wanted = whole.filter((pl.col("timestamp_utc") >= low) & (pl.col("timestamp_utc") < high))
    assert 0 < wanted.height < whole.height
    us = round(low.timestamp() * 1_000_000)
    for since in (low, low.replace(tzinfo=None), "2024-03-05T23:45:00Z", us, np.int64(us)):
        for until in (high, date(2024, 3, 6), "2024-03-06", "2024-03-06T01:00:00+01:00"):
            found = vault.read("volume_1m", WHERE, since=since, until=until)  # type: ignore[arg-type]
            assert found.equals(wanted), (since, until)
    assert vault.read("volume_1m", WHERE, since=0).equals(whole)
    assert vault.read("volume_1m", WHERE, since="2030-01-01").equals(whole.clear())


@pytest.mark.parametrize("layer", ["trades", "footprint", "volume_1m", "profile_24h"])
def test_any_span(vault: Vault, layer: str) -> None:
    """The same rows as of a filter over all; lazily and not, some columns or all."""
    whole = vault.read(layer, WHERE)
    times = pl.col("ts" if "ts" in whole.columns else "timestamp_utc")
    stamps = whole.select(times).to_series().dt.timestamp("us").to_list()
    rng = random.Random(layer)
    for _ in range(5):
        low, high = sorted(rng.choice(stamps) + rng.choice((-1, 0, 1, 0)) for _ in range(2))
        since, until = rng.choice(((low, high), (low, None), (None, high)))
        wanted = whole
        if since is not None:
            wanted = wanted.filter(times.dt.timestamp("us") >= since)
        if until is not None:
            wanted = wanted.filter(times.dt.timestamp("us") < until)
        some = rng.sample(whole.columns, 2)
        assert vault.read(layer, WHERE, since=since, until=until).equals(wanted)
        assert vault.read(layer, WHERE, since=since, until=until, columns=some).equals(
            wanted.select(some)
        )
        lazy = vault.scan(layer, WHERE, since=since, until=until, columns=some)
        assert lazy.collect().equals(wanted.select(some))


def test_lazy_frames_do_what_lazy_frames_do(vault: Vault) -> None:
    whole, lazy = vault.read("trades", WHERE), vault.scan("trades", WHERE)
    assert lazy.head(75).collect().equals(whole.head(75))
    assert lazy.select(pl.len()).collect().item() == whole.height
    bought = lazy.filter(pl.col("side") == 1).select(pl.col("seq").sum()).collect()
    assert bought.equals(whole.filter(pl.col("side") == 1).select(pl.col("seq").sum()))
    assert lazy.collect_schema() == whole.schema
    bought = lazy.filter(pl.col("side") == 1).head(10).collect(engine="streaming")
    assert bought.equals(whole.filter(pl.col("side") == 1).head(10))


def test_only_the_files_of_the_span_are_read(
    made: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The margin for stragglers is a day; of six days a look at the last reads a few."""
    days = 6
    root = tmp_path / "vault"
    raw = root / "raw" / WHERE.exchange / f"trades_{WHERE.market}" / WHERE.inst_id
    raw.mkdir(parents=True)
    rows = [dict(row) for row in made.records["trades"][:200] if row["price"] > 0]
    for day in range(days):
        shift = day * 86_400_000
        moved = [{**r, "ts": r["ts"] + shift, "id": r["id"] + day * 10**9} for r in rows]
        name = (datetime(2024, 3, 5, tzinfo=UTC) + timedelta(days=day)).strftime("%Y-%m-%d")
        lines = "".join(json.dumps(row) + "\n" for row in moved)
        (raw / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    with unsynced(), grain(Grain(part_rows=20)):
        run(root, ["bars"])
    vault = Vault(root)
    looked_at: list[Path] = []
    parts = len(list(folder(root, "trades").glob("*.parquet")))
    original = pl.scan_parquet

    def noted(path: Path, **more: Any) -> pl.LazyFrame:
        looked_at.append(path)
        return original(path, **more)

    monkeypatch.setattr(pl, "scan_parquet", noted)
    since = datetime(2024, 3, 10, tzinfo=UTC)
    found = vault.read("trades", WHERE, since=since)
    assert found.height
    assert found["ts"].min() >= since  # type: ignore[operator]
    assert len(looked_at) < parts // 2
    whole = vault.read("trades", WHERE)
    assert found.equals(whole.filter(pl.col("ts") >= since))


# -- what cannot be read ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "kind", "words", "next_"),
    [
        (lambda v: v.read("volum", WHERE), UsageError, "no layer 'volum'", "flowvault layers"),
        (lambda v: v.read("profile", WHERE), UsageError, "several layers: profile_s", "profile_s"),
        (lambda v: v.read("volume", "X-Y"), MissingInputError, "okx/perps/X-Y", "exchange='acme'"),
        (lambda v: v.read("volume", "Z"), MissingInputError, "there: acme/spot/X-Y", "layers()"),
        (
            lambda v: v.read("impact", WHERE),
            MissingInputError,
            "never been made",
            "flowvault impact -i X-Y --exchange acme --market spot",
        ),
        (lambda v: v.read("volume", WHERE, columns=["x"]), UsageError, "no column 'x'", "layers"),
        (lambda v: v.read("volume", WHERE, columns=["close"] * 2), UsageError, "twice", "layers"),
        (lambda v: v.read("volume", WHERE, since="noon"), UsageError, "since: 'noon'", "since="),
        (lambda v: v.scan("volume", WHERE, until=1.5), UsageError, "until: 1.5", "until="),
        (lambda v: v.read("volume", WHERE, since=1_709_681_400_000), UsageError, "micros", ""),
        (lambda v: v.read("volume", WHERE, since=True), UsageError, "since: True", "since="),
        (lambda v: v.sql("selec"), UsageError, "syntax", "flowvault layers"),
    ],
)
def test_errors_name_the_next_step(
    vault: Vault, ask: Callable[[Vault], Any], kind: type[FlowvaultError], words: str, next_: str
) -> None:
    with pytest.raises(kind) as error:
        ask(vault)
    assert words in error.value.message
    assert next_ in (error.value.hint or "")


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """Without a file for a while."""
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


def test_rows_that_are_gone(vault: Vault) -> None:
    part = sorted(folder(vault.root, "trades").glob("*.parquet"))[3]
    lines = folder(vault.root, "volume") / "volume_1m.jsonl"
    for path, layer in ((part, "trades"), (lines, "volume")):
        with moved(path):
            with pytest.raises(StateError) as error:
                vault.read(layer, WHERE)
            assert path.name in error.value.message
            assert error.value.hint == f"flowvault rebuild {layer} {WHERE.options}"
    whole = lines.read_bytes()
    lines.write_bytes(whole[:-10])
    with pytest.raises(StateError, match="committed"):
        vault.read("volume", WHERE)
    lines.write_bytes(whole + b'{"timestamp_utc":"2024-0')
    assert vault.read("volume", WHERE).height == len(whole.splitlines())
    lines.write_bytes(whole)
    damaged = part.read_bytes()
    part.write_bytes(damaged[: len(damaged) // 2])
    with pytest.raises(StateError, match="damaged"):
        vault.read("trades", WHERE)
    part.write_bytes(damaged)
    assert vault.read("trades", WHERE).height


def test_files_that_cannot_be_read(made: Market, tmp_path: Path) -> None:
    """A folder where a file should be stands for all that the system may refuse."""
    root = copy_to(made, tmp_path, 0.3)
    for path in (folder(root, "volume") / "volume_1m.jsonl", VaultPaths(root).state("bars", WHERE)):
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)
    vault = Vault(root)
    for layer, name in (("volume", "volume_1m.jsonl"), ("bars_1m", "X-Y.state.json")):
        with pytest.raises(DiskError) as error:
            vault.read(layer, WHERE)
        assert name in error.value.message
    with pytest.raises(DiskError):
        vault.layers()
    with pytest.raises(DiskError):
        vault.sql("select * from bars_1m")


def test_the_last_file_may_have_its_temporary_name(vault: Vault) -> None:
    """A run that died, or is, between commit and rename."""
    whole = vault.read("trades", WHERE)
    last = max(folder(vault.root, "trades").glob("*.parquet"))
    last.rename(last.with_name(last.name + ".tmp"))
    assert vault.read("trades", WHERE).equals(whole)
    assert vault.scan("trades", WHERE).collect().equals(whole)
    last.with_name(last.name + ".tmp").rename(last)


# -- beside a process ------------------------------------------------------------------------


def copy_to(made: Market, tmp_path: Path, share: float = 1.0) -> Path:
    """A vault of its own."""
    root = tmp_path / "vault"
    root.mkdir(exist_ok=True)
    with unsynced(), grain(FINE):
        made.write(root, share)
        run(root, STAGES)
    return root


def test_a_scan_shows_what_was_committed_when_it_was_made(made: Market, tmp_path: Path) -> None:
    root = copy_to(made, tmp_path, 0.5)
    vault = Vault(root)
    lazy, before = vault.scan("trades", WHERE), vault.read("trades", WHERE)
    copy_to(made, tmp_path)
    assert lazy.collect().equals(before)
    after = vault.read("trades", WHERE)
    assert after.height > before.height
    assert after.head(before.height).equals(before)


def rebuilt(root: Path, row: str) -> None:
    """Rebuild `footprint` and `volume` with other parameters, so that rows change."""
    settings = f"[footprint]\nrow = {row}\n[volume]\nwhale_notional = {int(float(row) * 1e5)}\n"
    (root / "flowvault.toml").write_text(settings, encoding="utf-8")
    opened = vaults.Vault.open(root)
    for name in ("footprint", "volume"):
        rebuild_stage(opened, stages.load(name), WHERE)


def test_a_scan_from_before_a_rebuild_says_so(made: Market, tmp_path: Path) -> None:
    root = copy_to(made, tmp_path)
    vault = Vault(root)
    lazy = vault.scan("footprint", WHERE)
    with unsynced(), grain(FINE):
        rebuilt(root, "0.5")
    with pytest.raises(StateError, match="rebuilt after the scan") as error:
        lazy.collect()
    assert error.value.hint == "scan it again"
    assert vault.scan("footprint", WHERE).collect().height


def test_reading_beside_rebuilds_gives_one_version_or_the_other(
    made: Market, tmp_path: Path
) -> None:
    """Never rows of both, and never an error."""
    root = copy_to(made, tmp_path)
    vault = Vault(root)
    versions: dict[str, dict[str, Any]] = {}
    asks: dict[str, Callable[[], pl.DataFrame]] = {
        "footprint": lambda: vault.read("footprint", WHERE),
        "volume": lambda: vault.read("volume", WHERE),
        "sql": lambda: vault.sql("select * from footprint order by ts, price"),
    }
    with unsynced(), grain(FINE):
        for row in ("0.5", "0.01"):
            rebuilt(root, row)
            versions[row] = {name: ask().hash_rows().sum() for name, ask in asks.items()}
        assert versions["0.5"] != versions["0.01"]
        stop = threading.Event()
        failed: list[FlowvaultError] = []

        def churn() -> None:
            try:
                for row in ("0.5", "0.01") * 2:
                    rebuilt(root, row)
            except FlowvaultError as error:
                failed.append(error)
            finally:
                stop.set()

        thread = threading.Thread(target=churn)
        thread.start()
        seen: dict[str, set[Any]] = {name: set() for name in asks}
        while not stop.is_set():
            for name, ask in asks.items():
                seen[name].add(ask().hash_rows().sum())
        thread.join()
    assert not failed
    for name, found in seen.items():
        assert found <= {version[name] for version in versions.values()}, name
    assert seen["volume"]


def test_an_interrupted_swap_is_named(
    made: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_to(made, tmp_path)
    path = VaultPaths(root).state("volume", WHERE)
    state, _ = states.load(path)
    assert state is not None
    state.swapping = True
    with unsynced():
        states.save(path, state)
    monkeypatch.setattr("pipeline.engine.state.time.sleep", lambda _seconds: None)
    for ask in (Vault(root).read, Vault(root).scan):
        with pytest.raises(StateError, match="interrupted") as error:
            ask("volume", WHERE)
        assert error.value.hint == f"flowvault volume {WHERE.options}"
    with (
        lock.hold(VaultPaths(root).lock("volume", WHERE), "volume"),
        pytest.raises(StateError, match="is being swapped in"),
    ):
        Vault(root).read("volume", WHERE)


def test_nothing_is_written(vault: Vault) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in vault.root.rglob("*"))
    vault.read("volume", WHERE)
    vault.scan("trades", WHERE).collect()
    vault.layers()
    vault.sql("select count(*) from trades")
    assert sorted((p, p.stat().st_mtime_ns) for p in vault.root.rglob("*")) == before
