"""`run --give-up`: a feed stops, the others go on, and the user decides not to wait for it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.raw import Instrument
from tests.oracle.test_books_oracle import START, line, okx_book

from .conftest import MakeVault, Product
from .test_book_layers import Where, write_lines
from .vaults import derived_folder, read_jsonl, tree

WHERE: Where = ("okx", "spot", "GONE-USDT")
INSTRUMENT = Instrument(*WHERE)
MINUTES, STOP = 24, 8
KINDS = ("trades", "books", "quotes")
BOOK_COLUMNS = (
    *("bid_depth", "ask_depth", "depth_imbalance", "depth_imbalance_last"),
    *("impact_buy_bps_100k", "filled_buy_100k"),
)
Row = dict[str, Any]
Feeds = dict[str, list[tuple[float, bytes]]]
"""Lines by kind, with the seconds at which they come."""


def feeds() -> Feeds:
    """Trades, books and quotes of 24 minutes; every minute has some of each."""
    rng = random.Random(5)
    found: Feeds = {kind: [] for kind in KINDS}
    bids, asks = [("100", "3"), ("99.5", "4")], [("100.5", "2"), ("101", "5")]
    found["books"].append((0, okx_book(INSTRUMENT, "snapshot", 0, 10, -1, bids, asks)))
    last = 10
    for number, tick in enumerate(range(4, MINUTES * 60, 4), start=1):
        second = tick + rng.randrange(3)
        bid, ask = f"{rng.randrange(1, 900) / 100}", f"{rng.randrange(1, 900) / 100}"
        update = okx_book(
            INSTRUMENT, "update", second, last + 1, last, [("100", bid)], [("100.5", ask)]
        )
        found["books"].append((second, update))
        ts = str(START + second * 1000)
        entry = {"bids": [["100", bid]], "asks": [["100.5", ask]], "ts": ts}
        arg = {"channel": "bbo-tbt", "instId": WHERE[2]}
        found["quotes"].append((second, line({"arg": arg, "data": [entry]})))
        row = {"instId": WHERE[2], "tradeId": str(number), "px": "100", "ts": ts}
        size = "1500" if rng.random() < 0.1 else "2"
        row |= {"sz": size, "side": rng.choice(("buy", "sell"))}
        found["trades"].append((second, line(row)))
        last += 1
    return found


def write(vault: Path, kinds: Iterable[str], until: float = MINUTES) -> None:
    """Let feeds have come up to a minute; the tick is known, so no stage waits to see it."""
    vault.mkdir(parents=True, exist_ok=True)
    (vault / "instruments.toml").write_text(
        f'["{"/".join(WHERE)}"]\ntick = "0.5"\n', encoding="utf-8"
    )
    whole = feeds()
    for kind in kinds:
        lines = [data for second, data in whole[kind] if second < until * 60]
        write_lines(vault, kind, WHERE, lines)


STAGES = ("volume", "buckets", "costs", "orderflow")
RUN = ("run", "--all", "--json", *(word for name in STAGES for word in ("--stage", name)))


def run(product: Product, vault: Path, *more: str) -> None:
    """Bring these stages and all that they read up to date."""
    outcome = product(vault, *RUN, *more)
    assert outcome.code == 0, outcome.text


def rows(vault: Path, layer: str) -> dict[int, Row]:
    """Rows of a layer by minute of the tape."""
    folder = derived_folder(vault, layer.removesuffix("_1m"), INSTRUMENT)
    found = read_jsonl(folder / f"{layer}.jsonl")
    clock = [row["timestamp_utc"][11:16].split(":") for row in found]
    minutes = [int(hour) * 60 + int(minute) - 720 for hour, minute in clock]
    return dict(zip(minutes, found, strict=True))


def spans(vault: Path, stage: str) -> dict[str, list[list[float]]]:
    """What a state says was given up, in minutes of the tape."""
    path = vault / "state" / stage / "/".join(WHERE[:2]) / f"{WHERE[2]}.state.json"
    given_up = json.loads(path.read_bytes())["state"]["given_up"]
    return {
        name: [[(us / 1000 - START) / 60_000 for us in span] for span in found]
        for name, found in given_up.items()
    }


@pytest.fixture(scope="module")
def whole(new_vault: MakeVault, product: Product) -> Path:
    """One run over everything."""
    vault = new_vault("whole")
    write(vault, KINDS)
    run(product, vault)
    assert min(map(len, (rows(vault, name) for name in ("flow_1m", "micro_1m")))) == MINUTES - 1
    return vault


@pytest.fixture
def stalled(new_vault: MakeVault, product: Product, request: pytest.FixtureRequest) -> Path:
    """A feed has stopped after eight minutes, and a run has been made since."""
    vault = new_vault("stalled")
    write(vault, [kind for kind in KINDS if kind != request.param])
    write(vault, [request.param], STOP)
    run(product, vault)
    return vault


no_books = pytest.mark.parametrize("stalled", ["books"], indirect=True)
no_trades = pytest.mark.parametrize("stalled", ["trades"], indirect=True)
no_quotes = pytest.mark.parametrize("stalled", ["quotes"], indirect=True)


@no_books
def test_the_others_wait_and_status_says_for_what(
    stalled: Path, whole: Path, product: Product
) -> None:
    """Layers of trades go on; those that join the book stand where it stands."""
    assert max(rows(stalled, "volume_1m")) == max(rows(whole, "volume_1m"))
    for layer in ("flow_1m", "micro_1m", "orderflow_1m"):
        found = rows(stalled, layer)
        assert list(found) == list(range(STOP - 1)), layer
        assert list(found.values()) == list(rows(whole, layer).values())[: STOP - 1]
    told = product(stalled, "status")
    assert told.code == 0
    waiting = {text.split()[0] for text in told.out.splitlines() if "waits for book_events" in text}
    assert {"flow_1m", "micro_1m"} <= waiting
    assert "--give-up" in told.out
    lines = [json.loads(text) for text in product(stalled, "status", "--json").out.splitlines()]
    waits = {row["layer"]: row.get("waits_for") for row in lines}
    assert (waits["flow_1m"], waits["volume_1m"]) == ("book_events", None)


@no_books
def test_without_a_book(stalled: Path, whole: Path, product: Product) -> None:
    """Nulls from where it stopped on, in what comes from it and in nothing else."""
    run(product, stalled, "--give-up", "5m")
    for layer in ("flow_1m", "micro_1m"):
        found, wanted = rows(stalled, layer), rows(whole, layer)
        assert list(found) == list(wanted)
        lost = ("ofi_levels",) if layer == "flow_1m" else BOOK_COLUMNS
        for minute, row in found.items():
            is_known = minute < STOP - 1
            for name, value in row.items():
                is_lost = name in lost or name.startswith(("impact_", "filled_"))
                known = wanted[minute][name]
                assert value == (known if is_known or not is_lost else None), (minute, name)
    verdicts = rows(stalled, "orderflow_1m")
    assert list(verdicts) == list(rows(whole, "orderflow_1m"))
    assert "depth_imbalance" in verdicts[STOP + 1]["missing"]
    assert "depth_imbalance" not in verdicts[STOP - 2]["missing"]
    assert spans(stalled, "flow") == {"book_events": [[STOP - 1, MINUTES - 1]]}
    assert set(spans(stalled, "micro")) == {"book_events", "ladder_1m"}
    assert "went on without book_events" in product(stalled, "status").out


def test_the_book_comes_back(whole: Path, new_vault: MakeVault, product: Product) -> None:
    """Rows go on where they were, as if the book had always been there; nothing comes twice."""
    stalled = new_vault("returning")
    write(stalled, ("trades", "quotes"), 16)
    write(stalled, ["books"], STOP)
    run(product, stalled, "--give-up", "5m")
    ends = [span[1] for span in spans(stalled, "micro")["book_events"]]
    assert ends == [15]
    write(stalled, KINDS)
    run(product, stalled, "--give-up", "5m")
    assert [span[1] for span in spans(stalled, "micro")["book_events"]] == ends
    for layer in ("flow_1m", "micro_1m", "orderflow_1m", "buckets_1m"):
        found, wanted = rows(stalled, layer), rows(whole, layer)
        assert list(found) == list(wanted), layer
        for minute, row in found.items():
            if not STOP - 1 <= minute < ends[0] or layer == "buckets_1m":
                assert row == wanted[minute], (layer, minute)


@no_trades
def test_without_trades(stalled: Path, whole: Path, product: Product) -> None:
    """Whale counts and buy pressure are null, not 0: nobody knows."""
    assert max(rows(stalled, "volume_1m")) == STOP - 2
    run(product, stalled, "--give-up", "5m")
    flow, micro, verdicts = (rows(stalled, f"{name}_1m") for name in ("flow", "micro", "orderflow"))
    assert list(flow) == list(micro) == list(verdicts) == list(rows(whole, "flow_1m"))
    of_trades = ("whale_buy_trades", "whale_sell_trades", "buy_pressure_pct", "vwap_deviation_pct")
    for name in of_trades:
        layer = "flow_1m" if "whale" in name else "micro_1m"
        for minute, row in rows(stalled, layer).items():
            known = rows(whole, layer)[minute][name] if minute < STOP - 1 else None
            assert row[name] == known, (minute, name)
    lacking = {"whale_trades", "vwap_deviation", "buy_pressure", "profile_bias"}
    assert lacking <= set(verdicts[STOP + 1]["missing"])
    assert "whale_trades" not in verdicts[STOP - 2]["missing"]
    assert max(rows(stalled, "costs_1m")) == STOP - 2


@no_quotes
def test_without_quotes(stalled: Path, whole: Path, product: Product) -> None:
    """No rows of quotes; verdicts from trades alone; costs with nulls, but as before until then."""
    run(product, stalled, "--give-up", "5m")
    assert list(rows(stalled, "flow_1m")) == list(range(STOP - 1))
    verdicts = rows(stalled, "orderflow_1m")
    assert list(verdicts) == list(rows(whole, "orderflow_1m"))
    assert {"imbalance", "depth_imbalance"} <= set(verdicts[STOP + 1]["missing"])
    assert "whale_trades" not in verdicts[STOP + 1]["missing"]
    costs, wanted = rows(stalled, "costs_1m"), rows(whole, "costs_1m")
    assert [costs[minute] for minute in range(STOP - 2)] == [wanted[m] for m in range(STOP - 2)]
    assert costs[STOP + 1]["effective_spread_bps"] is None
    assert costs[STOP + 1]["trades"] == 0


@no_books
def test_a_feed_that_is_not_that_far_behind_is_waited_for(stalled: Path, product: Product) -> None:
    """Sixteen minutes are less than an hour."""
    before = tree(stalled, "derived")
    run(product, stalled, "--give-up", "1h")
    assert tree(stalled, "derived") == before
    assert spans(stalled, "flow") == {}


def test_nothing_changes_where_no_feed_has_stopped(
    whole: Path, new_vault: MakeVault, product: Product
) -> None:
    """The option costs nothing as long as it is not needed, wherever the runs are cut."""
    vault = new_vault("even")
    for minute in (9.7, MINUTES):
        write(vault, KINDS, minute)
        run(product, vault, "--give-up", "5m")
    assert tree(vault, "derived") == tree(whole, "derived")
    assert spans(vault, "micro") == {}


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "1.5m", "5 m", "5x", "5M", "m5", "five"])
def test_bad_values(whole: Path, product: Product, text: str) -> None:
    """Usage errors, before anything is read."""
    outcome = product(whole, "run", "--all", f"--give-up={text}")
    assert outcome.code == 2
    assert "--give-up" in outcome.err
