"""The order books of the benchmark: the feed stays valid, values are compared, runs are checked.

Nothing here looks at a measured time.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pytest

from pipeline.engine.paths import VaultPaths
from scripts.benchkit import depth_days
from scripts.benchkit.captures import find_captures
from scripts.benchkit.cold import BenchError, Cold
from scripts.benchkit.depth_days import DEPTH_STAGES, check_run, depth_vault
from scripts.benchkit.depth_feed import DAY, INSTRUMENT, SEAM_MS, Feed, Recording, write_feed
from scripts.benchkit.depth_parts import compare_touches
from scripts.benchkit.depth_rows import book_length, book_memory, books
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import QUICK, Place
from scripts.benchkit.plain_books import BOOKS, DECODERS, Touch, replay
from scripts.benchkit.report import markdown

START_MS = 1_723_161_256_298
ON_LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="peak memory is measured with Linux's wait4"
)


def levels(prices: Iterable[int], chance: random.Random, *, gone: bool = False) -> list[list[str]]:
    """Levels in ticks of 0.1."""
    sizes = ("0.000" if gone else f"{chance.randint(1, 9000) / 1000:.3f}" for _ in iter(int, 1))
    return [[f"{price / 10:.2f}", size] for price, size in zip(prices, sizes, strict=False)]


def recorded_lines(seconds: int = 100) -> dict[str, list[bytes]]:
    """A made-up recording: a book around a price that drifts up, its snapshot a little late."""
    chance, middle, last = random.Random(5), 1000, 5_123_107_831_937
    found: dict[str, list[dict[str, Any]]] = {"books": [], "trades": [], "quotes": []}
    for number in range(seconds * 4):
        time, first, before = START_MS + number * 250, last + 3, middle
        common = {"E": time + 1, "T": time, "s": "BTCUSDT"}
        middle += chance.choice((-1, 0, 0, 1, 1))
        bids = levels(range(middle - 1, middle - 9, -1), chance)
        asks = levels(range(middle, middle + 8), chance)
        if number == 4:
            sides = {
                "bids": levels(range(before - 1, 900, -1), chance),
                "asks": levels(range(before, 1100), chance),
            }
            found["books"].append({"lastUpdateId": last - 1, "E": time, "T": time, **sides})
        update = {"e": "depthUpdate", **common, "U": first, "u": first + 5, "pu": last}
        update |= {
            "b": levels(range(middle, before), chance, gone=True) + bids,
            "a": levels(range(before, middle), chance, gone=True) + asks,
        }
        last = first + 5
        found["books"].append(update)
        trade = {"t": 900 + number, "p": asks[0][0], "q": "0.002", "X": "MARKET", "m": False}
        found["trades"].append({"e": "trade", **common, **trade})
        best = {"b": bids[0][0], "B": bids[0][1], "a": asks[0][0], "A": asks[0][1]}
        found["quotes"].append({"e": "bookTicker", "u": last, "s": "BTCUSDT", **best, **common})
    return {kind: [as_line(each) for each in own] for kind, own in found.items()}


def as_line(record: dict[str, Any]) -> bytes:
    """As the recording writes it: a snapshot bare, all else in its envelope."""
    is_bare = "lastUpdateId" in record
    value = record if is_bare else {"stream": f"btcusdt@{record['e']}", "data": record}
    return msgspec.json.encode(value) + b"\n"


def records(path: Path) -> list[dict[str, Any]]:
    values = map(json.loads, path.read_bytes().splitlines())
    return [value.get("data", value) for value in values]


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Feed:
    """Four minutes from a hundred seconds."""
    recording = Recording.of(recorded_lines())
    return write_feed(recording, tmp_path_factory.mktemp("feed"), 4)


def test_the_feed_is_one_chain_and_its_book_is_never_crossed(feed: Feed) -> None:
    lines = feed.files["books"].read_bytes().splitlines()
    touches = replay(DECODERS["json"](lines), BOOKS["sort"]())

    updates = records(feed.files["books"])
    snapshots = [each for each in updates if "lastUpdateId" in each]
    assert len(snapshots) == 3
    assert len(touches) == feed.messages - 4
    assert all(bid < ask for bid, _, ask, _ in touches)
    for kind, path in feed.files.items():
        times = [each["T"] for each in records(path)]
        assert times == sorted(times), kind
        assert times[-1] - times[0] < 240_000
    assert updates[0]["T"] % 86_400_000 == 43_200_000


def test_ids_go_on_rising_over_the_seams(feed: Feed) -> None:
    trades = [each["t"] for each in records(feed.files["trades"])]
    quotes = [each["u"] for each in records(feed.files["quotes"])]

    assert trades == list(range(trades[0], trades[0] + len(trades)))
    assert quotes == sorted(set(quotes))


def test_a_seam_is_a_newer_snapshot_of_the_whole_first_book(feed: Feed) -> None:
    updates = records(feed.files["books"])
    at = max(i for i, each in enumerate(updates) if "lastUpdateId" in each)
    before, snapshot, after = updates[at - 1 : at + 2]

    assert before["u"] < snapshot["lastUpdateId"] == after["pu"]
    assert SEAM_MS <= snapshot["T"] - before["T"] <= 1000
    assert len(snapshot["bids"]) > 90
    assert all(float(size) for _, size in snapshot["bids"] + snapshot["asks"])
    # the updates that stand before the recording's own snapshot are in it: its best levels moved
    assert replay(
        DECODERS["msgspec"](feed.files["books"].read_bytes().splitlines()[:5]), BOOKS["bisect"]()
    )[-1] == (
        float(snapshot["bids"][0][0]),
        float(snapshot["bids"][0][1]),
        float(snapshot["asks"][0][0]),
        float(snapshot["asks"][0][1]),
    )


@pytest.mark.parametrize("cut", [slice(0, 4), slice(5, None), slice(0, 5)])
def test_a_recording_that_cannot_be_put_together_is_refused(cut: slice) -> None:
    lines = recorded_lines(10)
    lines["books"] = lines["books"][cut]

    with pytest.raises(BenchError, match="recording"):
        Recording.of(lines)


def test_a_recording_with_a_hole_behind_its_snapshot_is_refused() -> None:
    lines = recorded_lines(10)
    del lines["books"][5]

    with pytest.raises(BenchError, match="do not follow on"):
        Recording.of(lines)


@pytest.mark.parametrize("kind", BOOKS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_plain_books_refuse_a_feed_with_a_hole(kind: str, decoder: str) -> None:
    lines = recorded_lines(10)["books"]
    del lines[20]

    with pytest.raises(BenchError, match="the feed goes from"):
        replay(DECODERS[decoder](lines), BOOKS[kind]())


class Done(NamedTuple):
    """A checked run over the feed, without and with quotes."""

    root: Path
    run: Cold
    quoted_root: Path
    quoted: Cold


@pytest.fixture(scope="module")
def done(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> Done:
    if not sys.platform.startswith("linux"):
        pytest.skip("peak memory is measured with Linux's wait4")
    place = Place(tmp_path_factory.mktemp("place"), QUICK)
    roots = [depth_vault(place, feed, is_quoted=is_quoted) for is_quoted in (False, True)]
    runs = [place.run_stages(root, DEPTH_STAGES, INSTRUMENT) for root in roots]
    return Done(roots[0], runs[0], roots[1], runs[1])


def test_a_run_over_the_feed_passes_its_check(feed: Feed, done: Done) -> None:
    check_run(done.run, done.root, feed, is_quoted=False)
    check_run(done.quoted, done.quoted_root, feed, is_quoted=True)


def test_a_run_that_did_something_else_fails_its_check(feed: Feed, done: Done) -> None:
    one_more = Feed(feed.files, feed.minutes, feed.messages + 1)
    longer = Feed(feed.files, feed.minutes + 1, feed.messages)
    bad = Cold(1, 1, 1, done.run.output.replace('"bad":0', '"bad":1'))

    with pytest.raises(BenchError, match="depth messages were written"):
        check_run(done.run, done.root, one_more, is_quoted=False)
    with pytest.raises(BenchError, match="depth messages were written"):
        check_run(bad, done.root, feed, is_quoted=False)
    with pytest.raises(BenchError, match="5 minutes"):
        check_run(done.run, done.root, longer, is_quoted=False)
    with pytest.raises(BenchError, match="should come from quotes"):
        check_run(done.run, done.root, feed, is_quoted=True)


def test_a_lost_book_fails_the_check(feed: Feed, done: Done) -> None:
    gaps = VaultPaths(done.root).derived("gaps", INSTRUMENT) / "book_gaps.jsonl"
    before = gaps.read_bytes() if gaps.exists() else None
    gaps.parent.mkdir(parents=True, exist_ok=True)
    gaps.write_text('{"kind":"books"}\n', encoding="utf-8")

    with pytest.raises(BenchError, match="the book was lost"):
        check_run(done.run, done.root, feed, is_quoted=False)
    gaps.unlink() if before is None else gaps.write_bytes(before)


def all_touches(feed: Feed, kind: str, decoder: str) -> list[Touch]:
    lines = feed.files["books"].read_bytes().splitlines()
    return replay(DECODERS[decoder](lines), BOOKS[kind]())


@pytest.mark.parametrize("kind", BOOKS)
@pytest.mark.parametrize("decoder", DECODERS)
def test_plain_books_agree_with_ours(feed: Feed, done: Done, kind: str, decoder: str) -> None:
    touches = all_touches(feed, kind, decoder)

    assert compare_touches(done.root, touches) == f"{len(touches):,} rows of book_events"
    assert compare_touches(done.root, touches[:50]) == "50 rows of book_events"


def nudged(touches: list[Touch], place: int) -> list[Touch]:
    last = list(touches[-1])
    last[place] += 1e-9
    return [*touches[:-1], (last[0], last[1], last[2], last[3])]


CHANGES: dict[str, Callable[[list[Touch]], list[Touch]]] = {
    "bid": lambda touches: nudged(touches, 0),
    "bid size": lambda touches: nudged(touches, 1),
    "ask": lambda touches: nudged(touches, 2),
    "ask size": lambda touches: nudged(touches, 3),
    "an event more": lambda touches: [*touches, touches[-1]],
    "an event left out": lambda touches: [*touches[:40], *touches[41:]],
    "nothing": lambda _touches: [],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_different_best_bid_or_ask_is_refused(feed: Feed, done: Done, change: str) -> None:
    touches = CHANGES[change](all_touches(feed, "sort", "json"))

    with pytest.raises(BenchError, match="book_events"):
        compare_touches(done.root, touches)


def test_quotes_are_read_where_they_are(done: Done) -> None:
    def source(root: Path) -> str:
        quote = pl.read_parquet(VaultPaths(root).derived("quote", INSTRUMENT) / "*.parquet")
        return str(quote["source"][0])

    assert (source(done.root), source(done.quoted_root)) == ("book", "quotes")


def test_an_aim_may_be_a_least() -> None:
    aim = Aim(40_000, " /s", is_least=True)
    lines = [Line(f"rate {rate}", "", aim=aim, judged=rate) for rate in (39_999, 40_000, 50_000)]

    assert aim.text == ">= 40,000 /s"
    assert [line.verdict for line in lines] == ["MISSED", "met", "met"]
    assert Aim(4, goal=5, is_least=True).verdict(4.5) == "met, not the goal"
    text = markdown([Outcome("Rates", "What.", lines)], loads=("0", "0"), is_quick=False)
    assert "Missed: rate 39999, 39,999 /s against >= 40,000 /s." in text


def test_without_a_recording_the_rows_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWVAULT_CAPTURES", str(tmp_path))
    place = Place(tmp_path, QUICK)

    for row in (books, book_length, book_memory):
        outcome = row(place)
        assert not outcome.lines
        assert outcome.text.startswith("Left out: no recorded order book")
    assert not depth_days.has_recording()


@ON_LINUX
def test_the_recorded_day_makes_a_valid_feed(tmp_path: Path) -> None:
    captures = find_captures()
    if captures is None:
        pytest.skip("no recorded data")
    feed = write_feed(Recording.read(captures), tmp_path, 7)
    lines = feed.files["books"].read_bytes().splitlines()

    touches = replay(DECODERS["msgspec"](lines), BOOKS["bisect"]())

    assert all(bid < ask for bid, _, ask, _ in touches)
    assert sum(b'"lastUpdateId"' in line[:20] for line in lines) == 2
    assert feed.files["books"].name == f"{DAY}.jsonl"
    assert len(touches) == feed.messages - 6
