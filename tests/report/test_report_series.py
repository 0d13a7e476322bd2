"""What a browser draws: every series and every event is its layer."""

from __future__ import annotations

import json

import pytest

from .browser import Page
from .conftest import DAYS, Made
from .screen import SHOWN, STEPS, Day, drawn, press, rows_of, second_of


@pytest.mark.parametrize("timeframe", STEPS)
def test_candles_are_the_bars_of_the_timeframe(
    timeframe: str, page: Page, days: dict[str, Day]
) -> None:
    """One for every row, with its prices; minutes without trades are empty, and nothing else."""
    press(page, f"[data-timeframe='{timeframe}']")
    page.wait(f"flowvault.timeframe === '{timeframe}'")
    candles = drawn(page, "candles")
    wanted = rows_of(days, f"bars_{timeframe}")
    names = ("open", "high", "low", "close")
    full = [each for each in candles if "open" in each]
    assert [each["time"] for each in full] == [row["at"] for row in wanted]
    assert [[each[n] for n in names] for each in full] == [[r[n] for n in names] for r in wanted]
    times = [each["time"] for each in candles]
    assert times == list(range(times[0], times[-1] + 1, STEPS[timeframe]))
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.innerText)"
    assert page.run(pressed) == [timeframe]


LINES = [
    ("vwap", "vwap_1m", "session_vwap"),
    ("cvd", "cvd_1m", "session_cvd"),
    ("lambda", "impact_1m", "kyle_lambda"),
    ("score", "orderflow_1m", "score"),
    ("rolling_4h", "vwap_1m", "rolling_vwap_4h"),
]


@pytest.mark.parametrize("timeframe", ["1m", "15m"])
def test_lines_are_the_last_rows_of_their_bars(
    timeframe: str, page: Page, days: dict[str, Day]
) -> None:
    """Of a minute the row itself, of a longer bar the last minute's that has a value."""
    page.run(f"flowvault.setTimeframe('{timeframe}')")
    step = STEPS[timeframe]
    bars = {each["time"] for each in drawn(page, "candles")}
    page.run("flowvault.toggle('rolling', true)")
    for series, layer, column in LINES:
        last = {row["at"] // step * step: row[column] for row in rows_of(days, layer)}
        wanted = {at: value for at, value in last.items() if value is not None and at in bars}
        assert {each["time"]: each["value"] for each in drawn(page, series)} == wanted, series
        assert len(wanted) > 5


def test_bands_are_the_layers(page: Page, good: Made) -> None:
    """Three on each side."""
    rows = good.rows("vwap_1m", "vwap")
    for k in (1, 2, 3):
        for side in ("upper", "lower"):
            found = [each["value"] for each in drawn(page, f"{side}_{k}")]
            assert found == [row[f"{side}_{k}"] for row in rows]


def test_lines_break_at_midnight(page: Page) -> None:
    """The last point of a session has no line to the next one's first."""
    points = drawn(page, "vwap")
    midnight = second_of(f"{DAYS[1]}T00:00:00Z")
    last = max((p for p in points if p["time"] < midnight), key=lambda p: p["time"])
    assert last["color"] == "transparent"
    assert [p["time"] for p in points if p.get("color") == "transparent"] == [last["time"]]


@pytest.mark.parametrize("name", ["poc", "vah", "val"])
def test_levels_stand_from_when_they_were_known(
    name: str, page: Page, days: dict[str, Day]
) -> None:
    """A five-minute profile is known in its last minute, and not after its session."""
    found = {each["time"]: each["value"] for each in drawn(page, name)}
    wanted, rows = {}, rows_of(days, "profile_session")
    for at in (each["time"] for each in drawn(page, "candles")):
        known = [r for r in rows if r["at"] + 300 <= at + 60 and r["at"] // 86400 == at // 86400]
        if known:
            wanted[at] = known[-1][name]
    assert found == wanted
    assert len(set(found.values())) > 3
    begins = [each["time"] for each in drawn(page, name) if each.get("isFirst")]
    midnights = [second_of(f"{day}T00:00:00Z") for day in DAYS]
    assert [at // 86400 * 86400 for at in begins] == midnights


def test_vpin_stands_from_bucket_to_bucket(page: Page, days: dict[str, Day]) -> None:
    """With the colour of its level."""
    rows = [row for row in rows_of(days, "vpin") if row["vpin"] is not None]
    found = drawn(page, "vpin")
    for point in found:
        known = [row for row in rows if row["at"] < point["time"] + 60][-1]
        assert point["value"] == known["vpin"]
        level = page.run(f"flowvault.chart.colors[{json.dumps(known['level'])}]")
        assert point["ink"] == level
    assert len({point["value"] for point in found}) > 5


@pytest.mark.parametrize("timeframe", STEPS)
def test_volume_is_stacked_by_tier(timeframe: str, page: Page, days: dict[str, Day]) -> None:
    """A bar is as high as its notional, and its parts are the minutes of each tier."""
    page.run(f"flowvault.setTimeframe('{timeframe}')")
    step = STEPS[timeframe]
    found = page.run("[...flowvault.chart.tiers.values()].map((b) => [b.time, b.total, b.parts])")
    minutes = rows_of(days, "volume_1m")
    assert [bar[:2] for bar in found] == [
        [row["at"], row["notional"]] for row in rows_of(days, f"bars_{timeframe}")
    ]
    for time, total, parts in found:
        own = [row for row in minutes if row["at"] // step * step == time]
        for tier, volume in parts:
            chosen = [r["total_volume"] for r in own if (r["volume_tier"] or "T0") == tier]
            assert volume == pytest.approx(sum(chosen), rel=1e-12)
        assert sum(volume for _, volume in parts) == pytest.approx(total, rel=1e-9)
    assert page.run(f"{SHOWN}.volume.data().length") == len(found)


def test_delta_is_what_was_bought_less_what_was_sold(page: Page, days: dict[str, Day]) -> None:
    """Of a minute the layer's, of longer bars to the last decimal."""
    assert [p["value"] for p in drawn(page, "delta")] == [
        row["delta"] for row in rows_of(days, "cvd_1m")
    ]
    page.run("flowvault.setTimeframe('30m')")
    for point, row in zip(drawn(page, "delta"), rows_of(days, "bars_30m"), strict=True):
        assert point["value"] == round(row["buy_volume"] - row["sell_volume"], 4)


def test_events_are_the_layers(page: Page, days: dict[str, Day]) -> None:
    """All of them, each on the bar in which it became known."""
    page.run("flowvault.setTimeframe('5m')")
    events = page.run(
        "[...flowvault.events.values()].flat()"
        ".map((e) => [e.kind, flowvault.frame.slots[e.slot], e.at, e.direction])"
    )
    events.sort(key=lambda each: each[2])
    found = {kind: [each[1:] for each in events if each[0] == kind] for kind, *_ in events}

    def bar(at: float) -> int:
        return int(at // 300 * 300)

    signals = [row for day in days.values() for row in day["signals"]["5m"]]
    longer = {row["timestamp_utc"]: row for day in days.values() for row in day["mtf"]}
    for kind in ("signal", "filtered", "warning"):
        wanted = []
        for row in signals:
            at = second_of(row["timestamp_utc"])
            if row["direction"] == "NONE":
                own = "warning"
            else:
                is_filtered = row["filtered"] or longer[row["timestamp_utc"]]["filtered"]
                own = "filtered" if is_filtered else "signal"
            if own == kind:
                wanted.append([bar(at), at, row["direction"]])
        assert found.get(kind, []) == wanted, kind
    volume = rows_of(days, "volume_1m")
    sides = {"sell": "SHORT", "buy": "LONG", None: "NONE"}
    bars = {each["time"] for each in drawn(page, "candles")}
    assert found["absorption"] == [
        [bar(r["at"]), r["at"], sides[r["absorption_side"]]]
        for r in volume
        if r["absorption"] and bar(r["at"]) in bars
    ]
    whales = [row for row in rows_of(days, "bars_5m") if row["whale_trades"]]
    assert [each[1] for each in found["whale"]] == [row["at"] for row in whales]
    verdicts = [row for row in rows_of(days, "orderflow_1m") if row["direction"] != "HOLD"]
    wanted = [[bar(r["at"]), r["at"], r["direction"]] for r in verdicts if bar(r["at"]) in bars]
    assert found["verdict"] == wanted


def test_wicks_end_when_they_are_touched(page: Page, days: dict[str, Day]) -> None:
    """Those that are open are those that the last row lists; the others end at their touch."""
    wicks = page.run("flowvault.chart.overlay.wicks")
    rows = rows_of(days, "wicks_5m")
    last = days[DAYS[1]]["wicks"][-1]
    for side in ("high", "low"):
        still = {(w["price"], w["from"]) for w in wicks if w["side"] == side and w["until"] is None}
        listed = last[f"untouched_{side}s"]
        assert {(each["price"], second_of(each["created_utc"])) for each in listed} <= still
        assert len(listed) == min(10, len(still))
    touched = {
        (each["side"], each["price"], second_of(each["created_utc"])): row["at"]
        for row in rows
        for each in row["touched"]
    }
    ended = {
        (w["side"], w["price"], w["from"]): w["until"] for w in wicks if w["until"] is not None
    }
    assert ended == touched
    assert len(touched) > 5


def test_walls_are_the_largest_of_their_bars(page: Page, days: dict[str, Day]) -> None:
    """Of five minutes the largest one, and its own price and age in the legend."""
    page.run("flowvault.setTimeframe('5m')")
    bars = [each["time"] for each in drawn(page, "candles")]
    rows = rows_of(days, "buckets_1m")
    seen = 0
    for side in ("bid", "ask"):
        chosen = page.run(f"[...flowvault.frame.most('buckets_1m', '{side}_wall')]")
        for at, number in zip(bars, chosen, strict=True):
            own = [row for row in rows if row["at"] // 300 * 300 == at and row[f"{side}_wall"]]
            assert (number >= 0) == bool(own)
            if own:
                assert rows[number][f"{side}_wall"] == max(row[f"{side}_wall"] for row in own)
                seen += 1
    assert seen > 3
