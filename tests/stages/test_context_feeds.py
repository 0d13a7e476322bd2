"""Open interest, liquidations, ratio and whale alerts beside a plain loop, however they are cut."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from pipeline.engine import state as states
from pipeline.instrument import BASE, Contract, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Context, Stage
from pipeline.stages import liquidations, open_interest, ratio, whale_alerts

T = 1_709_683_200
MINUTE, HOUR = 60, 3600
JUMP = 300
WHERE = Instrument("okx", "perps", "BTC-USDT-SWAP")
LINEAR = Contract("linear", "0.01")
AnyStage = Stage[Any, Any]


@dataclass(frozen=True)
class Seen:
    """One observation: seconds after `T`, its numbers, whether it is a bar, its id."""

    time: int
    values: tuple[Fraction, ...]
    is_bar: bool
    key: str | None = None


Feed = list[tuple[bytes, list[Seen] | None]]
"""Lines and what they say; None where a line is bad."""


@dataclass
class Made:
    """What a stage made of a feed."""

    rows: list[tuple[Any, ...]]
    bad: list[tuple[int, str]]
    counts: dict[str, int]
    clock: int | None


def run(stage: AnyStage, feed: Sequence[bytes], cuts: Sequence[int] = (), **params: Any) -> Made:
    """The feed in blocks that end before the lines `cuts`; the carry goes through the state."""
    assert stage.decode is not None
    (layer,) = stage.layers
    carry: Any = stage.carry()
    context = Context(WHERE, LINEAR, msgspec.convert(params, stage.params))
    made = Made([], [], dict.fromkeys(("rows_in", "duplicate", "bad"), 0), None)
    starts = [sum(map(len, feed[:n])) for n in range(len(feed))]
    edges = [0, *sorted(set(cuts)), len(feed)]
    for first, last in pairwise(edges):
        if first == last:
            continue
        data = b"".join(feed[first:last])
        block = Block(data, "raw/x/2024-03-06.jsonl", "2024-03-06", starts[first])
        before = msgspec.json.encode(states.freeze(carry))
        closed = stage.fold(stage.decode(block, WHERE, LINEAR), carry, context)
        assert msgspec.json.encode(states.freeze(carry)) == before, "a carry is left alone"
        text = msgspec.json.encode(states.freeze(closed.carry))
        carry = states.thaw(msgspec.json.decode(text), stage.carry)
        made.rows += [(us / 1e6 - T, *values) for us, values in closed.rows[layer.name]]
        made.bad += [(starts.index(each.offset), each.reason) for each in closed.rejects]
        for name in made.counts:
            made.counts[name] += getattr(closed, name)
        if closed.watermark_us is not None:
            now = closed.watermark_us // 1_000_000 - T
            assert made.clock is None or now >= made.clock
            made.clock = now
    return made


Cells = list[tuple[int, list[tuple[Fraction, ...]]]]


def judged(feed: Feed) -> tuple[list[list[Seen]], list[tuple[int, str]]]:
    """The good lines and the bad ones; a line far ahead waits for the next to bear it out."""
    good: list[list[Seen]] = []
    bad = [(number, "bad") for number, (_, said) in enumerate(feed) if said is None]
    clock: int | None = None
    waiting: tuple[int, int, list[Seen]] | None = None
    for number, (_, said) in enumerate(feed):
        if not said:
            continue
        newest = max(each.time for each in said)
        if waiting is not None and newest < waiting[1] - JUMP:
            bad.append((waiting[0], "future"))
        elif waiting is not None:
            clock = waiting[1]
            good.append(waiting[2])
        waiting = None
        if clock is not None and newest > clock + JUMP:
            waiting = (number, newest, said)
        else:
            good.append(said)
            clock = newest if clock is None else max(clock, newest)
    return good, bad


def plain(
    feed: Feed, span: int, remembered: int = 10_000
) -> tuple[Cells, list[tuple[int, str]], int]:
    """Cells that ended, the bad lines and the repetitions, as the rules are told."""
    good, bad = judged(feed)
    now, repeated = -(10**9), 0
    bars: dict[int, tuple[Fraction, ...]] = {}
    others: list[tuple[int, tuple[Fraction, ...]]] = []
    ids: list[str] = []
    for each in [one for said in good for one in sorted(said, key=lambda seen: seen.time)]:
        is_closed = now // span > each.time // span
        now = max(now, each.time)
        if (each.is_bar and is_closed) or each.key in ids[-remembered:]:
            repeated += 1
        elif each.is_bar:
            bars[each.time] = each.values
        else:
            others.append((now, each.values))
            ids += [] if each.key is None else [each.key]
    cells: dict[int, list[tuple[Fraction, ...]]] = {}
    for time, values in sorted([*bars.items(), *others], key=lambda pair: pair[0]):
        if time // span < now // span:
            cells.setdefault(time // span * span, []).append(values)
    return list(cells.items()), bad, repeated


# -- feeds drawn at random ------------------------------------------------------------------


def number(rng: random.Random) -> tuple[str, Fraction]:
    text = rng.choice((f"{rng.randrange(1000)}", f"{rng.randrange(10**6) / 1000:.3f}", "0.1", "0"))
    return text, Fraction(text)


def drawn_bars(rng: random.Random, keys: str, close: int | None) -> Feed:
    """Polls of an answer with the last bars, single bars, gaps, bad lines, and one wrong clock."""
    feed: Feed = []
    now, step = 0, rng.choice((60, 60, 300, 3600))
    shown: list[int] = []
    for _ in range(rng.randrange(20, 60)):
        kind = rng.random()
        if kind < 0.6:
            now += step * rng.choice((1, 1, 1, 2, 9))
            shown = [*shown, now][-4:]
        if kind > 0.97:
            feed.append((b'{"t":1,"l":-1}\n', None))
            continue
        times = [100 * HOUR + now] if kind > 0.94 else list(shown or [now])
        rng.shuffle(times) if rng.random() < 0.2 else None
        if rng.random() < 0.3:
            times = times[-1:]
        records, said = [], []
        for time in times:
            drawn = {key: number(rng) for key in keys}
            records.append({"t": T + time} | {key: text for key, (text, _) in drawn.items()})
            values = tuple(value for _, value in drawn.values())
            said.append(Seen(time, values if close is None else (values[close],), is_bar=True))
        bare = len(records) == 1 and rng.random() < 0.5
        record = records[0] if bare else {"symbol": "A", "history": records}
        feed.append((json.dumps(record).encode() + b"\n", said))
        if rng.random() < 0.05:
            feed.append((b'{"symbol":"A","history":[]}\n', []))
    return feed


def drawn_liquidations(rng: random.Random) -> Feed:
    return drawn_bars(rng, "ls", None)


def drawn_ratios(rng: random.Random) -> Feed:
    return drawn_bars(rng, "rls", None)


def drawn_interest_bars(rng: random.Random) -> Feed:
    return drawn_bars(rng, "ohlc", 3)


def drawn_interest(rng: random.Random) -> Feed:
    """An exchange's own feed: late records, several in a line, contracts, bad ones."""
    feed: Feed = []
    now = 0
    for _ in range(rng.randrange(20, 80)):
        now += rng.choice((0, 1, 5, 20, 90, 290, 700))
        time = now + (100 * HOUR if rng.random() < 0.03 else -rng.choice((0, 0, 0, 30, 400)))
        records, said = [], []
        for shift in range(rng.choice((1, 1, 2))):
            text, value = number(rng)
            record = {"instId": WHERE.inst_id, "ts": str(1000 * (T + time + shift))}
            is_base = rng.random() < 0.7
            records.append(record | ({"oi": "1", "oiCcy": text} if is_base else {"oi": text}))
            said.append(Seen(time + shift, (value if is_base else value / 100,), is_bar=False))
        if rng.random() < 0.05:
            records[-1]["instId"] = "ETH-USDT-SWAP"
            feed.append((json.dumps({"data": records}).encode() + b"\n", None))
        else:
            feed.append((json.dumps({"data": records}).encode() + b"\n", said))
    return feed


def drawn_alerts(rng: random.Random) -> Feed:
    """Transactions of several coins, in answers and alone, ids again and again."""
    feed: Feed = []
    now = 0
    for _ in range(rng.randrange(20, 80)):
        now += rng.choice((0, 60, 250, 290, 290, 4000))
        records, said = [], []
        for _ in range(rng.choice((1, 1, 3))):
            time = now - rng.choice((0, 0, 100, 3600))
            text, value = number(rng)
            coin, key = rng.choice(("btc", "BTC", "eth")), rng.randrange(1000, 1060)
            ends = [rng.choice(("exchange", "unknown", "wallet")) for _ in range(2)]
            records.append({
                "id": key, "symbol": coin, "timestamp": T + time, "amount_usd": text,
                "from": {"owner_type": ends[0]}, "to": {"owner_type": ends[1]},
            })  # fmt: skip
            if coin != "eth":
                out, into = (value * (end == "exchange") for end in ends)
                said.append(Seen(time, (into, out), is_bar=False, key=str(key)))
        if rng.random() < 0.04:
            records[-1]["amount_usd"] = None
            said_or_bad = None
        else:
            said_or_bad = said
        record = records[0] if len(records) == 1 else {"transactions": records}
        feed.append((json.dumps(record).encode() + b"\n", said_or_bad))
    return feed


# -- rows of the plain loop -----------------------------------------------------------------


def interest_rows(cells: Cells) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    last: Fraction | None = None
    for start, values in cells:
        (value,) = values[-1]
        rows.append((start, float(value), (float(value / last) - 1) * 100 if last else None))
        last = value
    return rows


def liquidation_rows(cells: Cells) -> list[tuple[Any, ...]]:
    rows = []
    for start, values in cells:
        longs, shorts = (sum((each[i] for each in values), Fraction(0)) for i in range(2))
        rows.append((start, float(longs), float(shorts), float(longs - shorts)))
    return rows


def ratio_rows(cells: Cells) -> list[tuple[Any, ...]]:
    return [(start, *map(float, values[-1])) for start, values in cells]


def alert_rows(cells: Cells) -> list[tuple[Any, ...]]:
    rows = liquidation_rows(cells)
    return [(*row, len(values)) for row, (_, values) in zip(rows, cells, strict=True)]


Draw = Callable[[random.Random], Feed]
Rows = Callable[[Cells], list[tuple[Any, ...]]]
CASES: dict[str, tuple[AnyStage, Draw, Rows, int]] = {
    "open interest": (open_interest.STAGE, drawn_interest, interest_rows, MINUTE),
    "bars of open interest": (open_interest.STAGE, drawn_interest_bars, interest_rows, MINUTE),
    "liquidations": (liquidations.STAGE, drawn_liquidations, liquidation_rows, MINUTE),
    "ratio": (ratio.STAGE, drawn_ratios, ratio_rows, MINUTE),
    "alerts": (whale_alerts.STAGE, drawn_alerts, alert_rows, HOUR),
}


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("name", CASES)
def test_beside_a_plain_loop_in_any_blocks(name: str, seed: int) -> None:
    stage, draw, rows_of, span = CASES[name]
    rng = random.Random(seed)
    feed = draw(rng)
    lines = [line for line, _ in feed]
    remembered = rng.choice((5, 10_000)) if name == "alerts" else 10_000
    params: dict[str, Any] = {"dedup_window": remembered} if name == "alerts" else {}
    whole = run(stage, lines, **params)
    cells, bad, repeated = plain(feed, span, remembered)
    assert whole.rows == rows_of(cells)
    reasons = [(at, reason if reason == "future" else "bad") for at, reason in whole.bad]
    assert sorted(reasons) == sorted(bad)
    assert whole.counts["duplicate"] == repeated
    assert whole.counts["bad"] == len(bad)
    for cuts in (range(1, len(lines)), rng.sample(range(1, len(lines)), 5)):
        assert run(stage, lines, list(cuts), **params) == whole


def test_the_drawn_feeds_have_everything_in_them() -> None:
    for name, (_, draw, rows_of, span) in CASES.items():
        made, futures, bad, repeated = 0, 0, 0, 0
        for seed in range(25):
            cells, refused, again = plain(draw(random.Random(seed)), span)
            made += len(rows_of(cells))
            futures += sum(reason == "future" for _, reason in refused)
            bad += sum(reason == "bad" for _, reason in refused)
            repeated += again
        assert made > 100, name
        assert bad > 5, name
        assert futures > 2 or name == "alerts", name
        assert repeated > 50 or name == "open interest", name


# -- by hand --------------------------------------------------------------------------------


def bars(*versions: tuple[int, str, str]) -> bytes:
    history = [
        {"t": T + 60 * minute, "l": longs, "s": shorts} for minute, longs, shorts in versions
    ]
    return json.dumps({"symbol": "A", "history": history}).encode() + b"\n"


def test_the_last_version_of_a_bar_stands_until_a_later_bar_comes() -> None:
    feed = [
        bars((0, "1", "0")),
        bars((0, "2.5", "1")),
        bars((0, "3", "0.1"), (1, "7", "7")),
        bars((0, "100", "100"), (1, "0", "9")),
        bars((3, "1", "1")),
    ]
    made = run(liquidations.STAGE, feed)
    assert made.rows == [(0, 3, 0.1, 2.9), (60, 0, 9, -9)]
    assert made.counts == {"rows_in": 7, "duplicate": 1, "bad": 0}
    assert made.clock == 180


def test_open_interest_of_a_minute_is_the_last_one() -> None:
    def told(second: int, value: str) -> bytes:
        row = {"instId": WHERE.inst_id, "oiCcy": value, "ts": str(1000 * (T + second))}
        return json.dumps({"data": [row]}).encode() + b"\n"

    feed = [
        told(1, "100"),
        told(59, "0"),
        told(61, "5"),
        told(30, "10"),
        told(119, "8"),
        told(240, "4"),
    ]
    feed += [told(250, "1e3"), told(300, "1")]
    made = run(open_interest.STAGE, feed)
    # nothing can be said of a change from 0; the late one counts at 61 s
    assert made.rows == [(0, 0, None), (60, 8, None), (240, 1000, 12400)]


def test_alerts_are_counted_in_their_hour_each_once() -> None:
    def transfer(key: int, second: int, dollars: int, source: str, target: str) -> bytes:
        row = {"id": key, "symbol": "btc", "timestamp": T + second, "amount_usd": dollars}
        row |= {"from": {"owner_type": source}, "to": {"owner_type": target}}
        return json.dumps(row).encode() + b"\n"

    feed = [
        transfer(1, 0, 10, "unknown", "exchange"),
        transfer(2, 200, 20, "exchange", "unknown"),
        transfer(1, 400, 10, "unknown", "exchange"),
        transfer(3, 600, 5, "exchange", "exchange"),
        transfer(4, 700, 1000, "unknown", "unknown"),
        transfer(5, 3700, 1, "unknown", "exchange"),
        transfer(6, 3800, 1, "unknown", "exchange"),
    ]
    made = run(whale_alerts.STAGE, feed)
    assert made.rows == [(0, 15, 25, -10, 4)]
    assert made.counts["duplicate"] == 1


def test_an_id_seen_again_tells_the_time_also_in_the_next_run() -> None:
    def transfer(key: int, second: int) -> bytes:
        row = {"id": key, "symbol": "btc", "timestamp": T + second, "amount_usd": 1}
        row |= {"from": {"owner_type": "unknown"}, "to": {"owner_type": "exchange"}}
        return json.dumps(row).encode() + b"\n"

    feed = [transfer(1, 0), transfer(1, 300), transfer(2, 590), transfer(3, 600)]
    whole = run(whale_alerts.STAGE, feed)
    assert whole.bad == []
    assert run(whale_alerts.STAGE, feed, [1, 2, 3]) == whole


@pytest.mark.parametrize("stage", [case[0] for case in CASES.values()])
def test_parameters_that_make_no_sense(stage: AnyStage) -> None:
    for wrong in ({"max_jump_ms": 0}, {"dedup_window": 0}, {"jump": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, stage.params)


def test_no_contract_is_needed_where_records_are_in_base_units() -> None:
    assert open_interest.STAGE.decode is not None
    line = b'{"ts":%d,"open_interest":"5"}\n' % (T * 1000)
    block = Block(line, "raw/x", "2024-03-06", 0)
    assert open_interest.STAGE.decode(block, Instrument("x", "spot", "Y"), BASE).records == 1
