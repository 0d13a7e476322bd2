"""What people do with the page: hovering, switching, days, phones; and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.engine.state import load, save

from .browser import Page
from .conftest import DAYS, Made, OpenPage
from .pages import days_of
from .screen import STEPS, Day, place_of, press, rows_of, second_of, text_of


def test_nothing_goes_wrong_and_nothing_is_loaded(look: OpenPage, good_page: Path) -> None:
    """No word on the console in either theme and any timeframe, and no request but for the file."""
    page = look(good_page)
    for switch in ("touched", "rolling", "day24", "filtered", "warning", "ofi", "spread"):
        page.run(f"flowvault.toggle('{switch}', true)")
    for timeframe in STEPS:
        page.run(f"flowvault.setTimeframe('{timeframe}')")
    page.run("document.getElementById('theme').click()")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.complaints() == []
    assert page.requests() == [good_page.as_uri()]
    assert page.run("document.getElementById('trouble').hidden")


def test_the_head_says_what_it_is(look: OpenPage, good_page: Path, rough_page: Path) -> None:
    """Instrument, span, UTC, version, and that it is simulated, where it is."""
    page = look(good_page)
    words = text_of(page, "header")
    for each in ("BTC-USDT-SWAP", "sim perps", "SIMULATED", "2025-01-06 21:00", "UTC", "flowvault"):
        assert each in words
    assert "2 days" in words
    assert "SIMULATED" in page.run("document.title")
    other = look(rough_page)
    assert "SIMULATED" not in text_of(other, "body")
    assert "SIMULATED" not in other.run("document.title")


def test_the_last_day_is_unpacked_first_and_others_when_asked(
    look: OpenPage, good_page: Path
) -> None:
    """By the arrows, the list, and by dragging the chart past its edge."""
    page = look(good_page)
    held = "[...flowvault.store.unpacked.keys()]"
    assert page.run(held) == [1]
    assert page.run("flowvault.store.days.map((d) => d.day)") == [DAYS[1]]
    press(page, "#older")
    page.wait(f"flowvault.day === '{DAYS[0]}' && !flowvault.isBusy")
    assert page.run("flowvault.store.days.map((d) => d.day)") == [DAYS[0]]
    assert page.run("document.getElementById('older').disabled")
    press(page, "#newer")
    page.wait(f"flowvault.day === '{DAYS[1]}' && !flowvault.isBusy")
    x, y = 500, 300
    page.call(
        "Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1
    )
    for step in range(1, 9):
        page.call(
            "Input.dispatchMouseEvent", type="mouseMoved", x=x + 60 * step, y=y, button="left"
        )
    page.call(
        "Input.dispatchMouseEvent",
        type="mouseReleased",
        x=x + 480,
        y=y,
        button="left",
        clickCount=1,
    )
    page.wait("flowvault.store.days.length === 2")
    first = page.run("flowvault.frame.slots[0]")
    assert first == second_of("2025-01-06T21:00:00Z")


def test_hovering_a_signal_tells_its_reasons(page: Page, days: dict[str, Day]) -> None:
    """With a real mouse, on the bar: name, confidence, reasons, stop, size, longer bars."""
    page.run("flowvault.setTimeframe('5m')")
    page.run("flowvault.toggle('filtered', true)")
    rows = [row for day in days.values() for row in day["signals"]["5m"]]
    row = next(each for each in rows if each["direction"] != "NONE")
    mtf = next(
        m for d in days.values() for m in d["mtf"] if m["timestamp_utc"] == row["timestamp_utc"]
    )
    at = second_of(row["timestamp_utc"])
    page.move(*place_of(page, f"flowvault.frame.index.get({at})", str(row["price"])))
    page.wait("!document.getElementById('bubble').hidden")
    words = text_of(page, "#bubble")
    assert row["signal"].replace("_", " ") in words
    for reason in row["reasons"]:
        assert reason in words
    assert f"confidence {row['confidence']:.2f}" in words
    assert f"price {row['price']:,.1f}" in words
    assert mtf["mtf_direction"].replace("_", " ") in words
    for reason in (mtf["filter_reason"] or "").split(";"):
        assert reason in words
    assert "known" in words
    page.move(5, 5)
    page.wait("document.getElementById('bubble').hidden")


def test_what_longer_bars_filter_is_filtered(good: Made, look: OpenPage, tmp_path: Path) -> None:
    """Although the signal's own bar has nothing against it."""
    made = good.copied(tmp_path / "vault")
    own = {row["timestamp_utc"]: row for row in good.rows("signals_5m", "signals")}
    rows = good.rows("signals_mtf", "signals_mtf")
    chosen = next(
        row
        for row in rows
        if row["direction"] != "NONE" and not own[row["timestamp_utc"]]["filtered"]
    )
    chosen |= {"filtered": True, "filter_reason": "against_mtf", "size_multiplier": 0.0}
    file = next((made.root / "derived" / "signals_mtf").rglob("*.jsonl"))
    data = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
    file.write_bytes(data)
    path = next((made.root / "state" / "signals_mtf").rglob("*.state.json"))
    state, _ = load(path)
    assert state is not None
    state.outputs = dict.fromkeys(state.outputs, len(data))
    save(path, state)
    page = look(made.report(tmp_path / "page.html", "--from", DAYS[0]))
    page.run("flowvault.showDays(null)")
    page.run("flowvault.setTimeframe('5m')")
    at = second_of(chosen["timestamp_utc"])
    found = page.run(
        f"flowvault.events.get(flowvault.frame.index.get({at}))"
        ".filter((e) => e.tag === '5m').map((e) => [e.kind, e.lines().at(-1)])"
    )
    assert found == [["filtered", "filtered: against_mtf"]]


def test_the_legends_tell_the_bar_under_the_mouse(page: Page, days: dict[str, Day]) -> None:
    """Prices, volume, CVD, VWAP, as people write numbers."""
    row = rows_of(days, "bars_1m")[100]
    page.move(*place_of(page, f"flowvault.frame.index.get({row['at']})", str(row["close"])))
    page.wait("flowvault.told === 100")
    words = text_of(page, ".legend-price")
    for name in ("open", "high", "low", "close"):
        assert f"{row[name]:,.1f}" in words
    vwap = next(r for r in rows_of(days, "vwap_1m") if r["at"] == row["at"])
    assert f"{vwap['session_vwap']:,.2f}" in words
    cvd = next(r for r in rows_of(days, "cvd_1m") if r["at"] == row["at"])
    assert f"{cvd['session_cvd']:,.4f}" in text_of(page, ".legend-cvd")
    assert f"trades {row['trades']:.0f}" in text_of(page, ".legend-volume")
    values = text_of(page, "#values")
    assert "vwap_1m" in values
    assert "session_sd" in values
    page.move(1200, 20)
    page.wait("flowvault.told === flowvault.lastBar()")


def test_the_list_of_events_leads_to_the_bar(page: Page) -> None:
    """A click on one brings the bubble of its bar."""
    count = int(text_of(page, "#events-count"))
    assert page.run("document.querySelectorAll('.event').length") == count > 3
    words = text_of(page, ".event span")
    press(page, ".event")
    page.wait("!document.getElementById('bubble').hidden")
    assert words in text_of(page, "#bubble")


def ground(page: Page) -> tuple[int, ...]:
    """The colour of the page's ground."""
    color = page.run("getComputedStyle(document.body).backgroundColor")
    return tuple(int(each) for each in color[4:-1].split(","))


def colors_in(page: Page) -> list[int]:
    """How many pixels of how many different colours each pane's canvas has, most frequent first."""
    found: list[int] = page.run(
        "(() => { const shot = flowvault.chart.api.takeScreenshot();"
        "const { data } = shot.getContext('2d').getImageData(0, 0, shot.width, shot.height);"
        "const seen = new Map();"
        "for (let i = 0; i < data.length; i += 4) {"
        " const key = data[i] * 65536 + data[i + 1] * 256 + data[i + 2];"
        " seen.set(key, (seen.get(key) ?? 0) + 1); }"
        "return [...seen.entries()].sort((a, b) => b[1] - a[1]).map(([key]) => key); })()"
    )
    return found


def painted(page: Page, *names: str) -> None:
    """Each of these colours of the theme is somewhere on the canvas."""
    seen = set(colors_in(page))
    for name in names:
        assert int(page.run(f"flowvault.chart.colors.{name}")[1:7], 16) in seen, name


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_dark_and_light(scheme: str, look: OpenPage, good_page: Path) -> None:
    """As the system has it, by the switch, and again by the system; the canvas has the colours."""
    page = look(good_page, scheme=scheme)
    other = "light" if scheme == "dark" else "dark"
    assert page.run("document.documentElement.dataset.theme") == scheme
    assert (max(ground(page)) < 60) == (scheme == "dark")
    painted(page, "background", "up", "down", "vwap", "T2", "T3", "lambda", "cvd", "ok")
    page.prefer(other)
    page.wait(f"document.documentElement.dataset.theme === '{other}'")
    painted(page, "background", "up", "down")
    press(page, "#theme")
    page.wait(f"document.documentElement.dataset.theme === '{scheme}'")
    assert (max(ground(page)) < 60) == (scheme == "dark")
    painted(page, "background", "up", "down")


def test_switches_take_layers_away(page: Page) -> None:
    """Lines, marks and panes; what they draw is gone from the canvas."""
    vwap = int(page.run("flowvault.chart.colors.vwap")[1:], 16)
    assert vwap in colors_in(page)
    page.run("document.querySelector('.menu').open = true")
    press(page, "[data-switch='vwap']")
    press(page, "[data-switch='bands']")
    assert vwap not in colors_in(page)
    before = int(text_of(page, "#events-count"))
    press(page, "[data-switch='absorption']")
    assert int(text_of(page, "#events-count")) < before
    panes = page.run("flowvault.chart.api.panes().length")
    press(page, "[data-switch='lambda']")
    assert page.run("flowvault.chart.api.panes().length") == panes - 1
    assert page.run("document.querySelector('.legend-lambda') === null")


def test_panes_move_together(page: Page) -> None:
    """One time axis: zoomed with the wheel over one pane, all show the same bars."""
    before = page.run("flowvault.chart.api.timeScale().getVisibleLogicalRange()")
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=500, y=520, deltaX=0, deltaY=-300)
    page.wait(
        f"flowvault.chart.api.timeScale().getVisibleLogicalRange().from > {before['from'] + 1}"
    )
    assert page.run("document.querySelectorAll('#chart').length") == 1


@pytest.mark.parametrize("name", ["good_page", "rough_page"])
def test_on_a_phone(name: str, look: OpenPage, request: pytest.FixtureRequest) -> None:
    """Nothing is wider than the screen, controls can be hit, a touch tells of a bar."""
    file: Path = request.getfixturevalue(name)
    page = look(file, width=390, height=844, touch=True, scale=2, scheme="light")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert page.run("document.getElementById('chart').clientHeight") > 500
    sizes = page.run(
        "[...document.querySelectorAll('nav button, nav select')]"
        ".filter((b) => b.offsetParent).map((b) => b.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 32
    page.run("document.querySelector('.menu').open = true")
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.run("document.querySelector('.menu').open = false")
    slot = page.run("Math.max(...flowvault.events.keys())")
    page.run("window.scrollTo(0, 0)")
    row = f"flowvault.frame.last(flowvault.frame.bars)[{slot}]"
    close = f"flowvault.store.rows(flowvault.frame.bars).close[{row}]"
    page.tap(*place_of(page, str(slot), close))
    page.wait("!document.getElementById('bubble').hidden")
    box = page.run("document.getElementById('bubble').getBoundingClientRect().toJSON()")
    assert box["left"] >= 0
    assert box["right"] <= 390
    assert box["bottom"] <= 844
    assert page.complaints() == []


def test_what_is_not_there_is_told(look: OpenPage, rough_page: Path) -> None:
    """Empty panes say why; feeds that are missing, late, bad, with holes or stalled are named."""
    page = look(rough_page)
    chips = text_of(page, "#quality")
    for words in (
        "trades: 1 late",
        "trades: 2 bad lines",
        "order book STALLED since 2025-01-06 21:27",
        "no quotes",
        "1 gap in trade ids",
        "1 hole in the book feed",
        "stages behind the feeds",
    ):
        assert words in chips
    assert "the first value comes with bucket 50; 1 so far" in text_of(page, ".legend-vpin")
    assert "the layer ends at 21:" in text_of(page, ".legend-score")
    page.run("flowvault.toggle('interest', true)")
    page.wait("document.querySelector('.legend-interest') !== null")
    assert "nothing under raw/coinalyze/open_interest" in text_of(page, ".legend-interest")
    page.run("document.querySelector('footer details').open = true")
    about = text_of(page, "#about")
    assert "liquidations_1m" in about
    assert "nothing under raw/coinalyze/liquidations/BTC-USDT-SWAP" in about
    painted(page, "gap", "ok", "stalled")


def test_the_quality_of_a_bar(look: OpenPage, rough_page: Path) -> None:
    """The strip's cells: gaps where records are missing, nothing where there was no book."""
    page = look(rough_page)
    day = days_of(rough_page)[DAYS[0]]
    trades, book, quotes = page.run("flowvault.chart.quality.cells")
    slots = page.run("flowvault.frame.slots")
    gap, hole = (day["holes"][name][0]["ts"] // 1000 for name in ("gaps", "book_gaps"))
    assert [at for at, cell in zip(slots, trades, strict=True) if cell == "gap"] == [gap // 60 * 60]
    assert [at for at, cell in zip(slots, book, strict=True) if cell == "gap"] == [hole // 60 * 60]
    has_book = {row["at"] for row in rows_of({DAYS[0]: day}, "buckets_1m")}
    good = [at for at, cell in zip(slots, book, strict=True) if cell == "ok"]
    assert set(good) == has_book - {hole // 60 * 60}
    assert book[-1] == "stalled"
    assert quotes is None
    assert "GAP" in page.run("flowvault.chart.quality.words(" + str(trades.index("gap")) + ")[0]")


@pytest.mark.parametrize("name", ["good", "rough"])
def test_a_page_opens_quickly_enough_for_a_loaded_machine(
    name: str, look: OpenPage, request: pytest.FixtureRequest
) -> None:
    """The page itself says how long it took until all was drawn."""
    page = look(request.getfixturevalue(f"{name}_page"))
    assert 0 < int(page.run("document.documentElement.dataset.ready")) < 8000


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("number(62444.5, 1)", "62,444.5"),
        ("number(-0.004, 2)", "0.00"),
        ("number(null, 2)", "\u2013"),
        ("short(1234567)", "1.23M"),
        ("short(-999600)", "-1.00M"),
        ("short(486792)", "487k"),
        ("short(99950)", "100k"),
        ("short(12.345)", "12.3"),
        ("short(0)", "0"),
        ("signed(3, String)", "+3"),
        ("signed(-0.001, (v) => flowvault.words.number(v, 2))", "0.00"),
        ("signed(0.001, (v) => flowvault.words.number(v, 2))", "0.00"),
        ("plain(0.000012345678)", "0.000012345678"),
        ("plain(62443.05048553091)", "62,443.05"),
        ("plain(123456789012.5)", "123,456,789,013"),
        ("plain('HOLD')", "HOLD"),
        ("lasting(89)", "89 s"),
        ("lasting(5399)", "90 min"),
        ("lasting(200000)", "2 days"),
    ],
)
def test_numbers_as_people_read_them(call: str, wanted: str, page: Page) -> None:
    """Thousands apart, three digits that matter, no minus before nothing."""
    assert page.run(f"flowvault.words.{call}") == wanted


@pytest.mark.slow
def test_a_whole_day_is_small_and_opens_at_once(look: OpenPage, tmp_path: Path) -> None:
    """The day of `flowvault demo`: under 5 MB, and all is drawn in under 2 s."""
    made = Made(tmp_path / "vault", "sim")
    made.flowvault("demo")
    made.flowvault("run", "--all")
    file = made.report(tmp_path / "page.html")
    assert file.stat().st_size < 5_000_000
    took = [int(look(file).run("document.documentElement.dataset.ready")) for _ in range(5)]
    assert min(took) < 2000, took
