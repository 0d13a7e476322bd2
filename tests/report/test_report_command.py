"""The command: which span, which file, what it says when it cannot; what the file is made of."""

from __future__ import annotations

import hashlib
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.cli.main import cli
from pipeline.engine.within import Committed
from pipeline.errors import FlowvaultError, MissingInputError, StateError, UsageError
from pipeline.instrument import Instrument
from pipeline.report import page
from pipeline.report.gather import Span
from pipeline.report.page import LIBRARY, SCRIPTS, units
from pipeline.report.span import choose_span

from .conftest import DAYS, INST, Made
from .pages import days_of, head_of

REPORT = Path(__file__).resolve().parents[2] / "pipeline" / "report"
VENDOR = (REPORT / "vendor" / LIBRARY).parent
SIM = ("-i", INST, "--exchange", "sim")
SHA256 = "e21cc5caa0226ef30bd8549c50b9ef926615f2a4ee6b4e486353477a55f598cf"
US = 1_000_000


def second_of(text: str) -> int:
    """A time in seconds since 1970; of a day its beginning."""
    stamp = datetime.fromisoformat(text)
    return int((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp())


def run(made: Made, *arguments: str) -> Result:
    """Run a command; errors of ours are raised as they are."""
    return CliRunner().invoke(cli, ["--vault", str(made.root), *arguments], standalone_mode=False)


def failure(made: Made, *arguments: str) -> FlowvaultError:
    """The error with which a report ends."""
    error = run(made, "report", *arguments).exception
    assert isinstance(error, FlowvaultError), error
    return error


def times_of(file: Path) -> list[int]:
    """Seconds of all bars of a minute in a page."""
    found = []
    for name, day in days_of(file).items():
        midnight = second_of(name)
        found += [midnight + at // 1000 for at in day["layers"]["bars_1m"]["at"]]
    return found


# -- which span -----------------------------------------------------------------------------


def test_the_last_day_with_rows_and_a_name_for_it(
    good: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without options; the file lies where one is, and its place and size are printed."""
    monkeypatch.chdir(tmp_path)
    out = good.flowvault("report", *SIM)
    name = f"sim-perps-{INST}-{DAYS[1]}.html"
    assert out == f"{name}  {(tmp_path / name).stat().st_size:,} B\n"
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert list(days_of(tmp_path / name)) == [DAYS[1]]


@pytest.mark.parametrize(
    ("options", "days", "first", "last"),
    [
        (("--day", DAYS[0]), [DAYS[0]], "2025-01-06T21:00", "2025-01-06T23:59"),
        (("--from", DAYS[0]), list(DAYS), "2025-01-06T21:00", "2025-01-07T00:58"),
        (("--to", DAYS[0]), [DAYS[0]], "2025-01-06T21:00", "2025-01-06T23:59"),
        (
            ("--from", "2025-01-06T22:30:00Z", "--to", "2025-01-07T00:10:00Z"),
            list(DAYS),
            "2025-01-06T22:30",
            "2025-01-07T00:09",
        ),
        (("--from", "2025-01-01", "--to", "2025-02-01"), list(DAYS), "2025-01-06T21:00", ""),
    ],
)
def test_spans(
    options: tuple[str, ...], days: list[str], first: str, last: str, good: Made, tmp_path: Path
) -> None:
    """Bars from the first moment on to before the last one; days without rows are left out."""
    made = good.report(tmp_path / "page.html", *options)
    assert list(days_of(made)) == days
    rows = [row["timestamp_utc"] for row in good.rows("bars_1m")]
    wanted = [at for at in rows if first <= at and (not last or at[: len(last)] <= last)]
    assert times_of(made) == [second_of(at) for at in wanted]
    assert head_of(made)["first"] == second_of(wanted[0])


def test_a_span_is_of_whole_seconds(good: Made) -> None:
    """Fractions go outward."""
    committed = Committed(good.root, Instrument("sim", "perps", INST))
    low = second_of("2025-01-06T22:00:00Z") * US
    span = choose_span(committed, low + 1, low + 90 * US + 1)
    assert (span.low_us, span.high_us) == (low, low + 91 * US)


# -- what it says when it cannot ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (("--day", "2025-01-09"), MissingInputError, "no rows from 2025-01-09T00:00:00Z"),
        (("--day", "2025-01-09"), MissingInputError, f"--day {DAYS[1]}"),
        (("--day", "2024-01-09"), MissingInputError, "there are rows from 2025-01-06T21:00:00Z"),
        (("--from", DAYS[1], "--to", "2025-01-06T22:00:00Z"), UsageError, "is no span"),
    ],
)
def test_spans_without_rows(
    options: tuple[str, ...], kind: type, words: str, good: Made, tmp_path: Path
) -> None:
    """Status 66 with the span that there is, or 2; no file is left."""
    error = failure(good, *SIM, "-o", str(tmp_path / "page.html"), *options)
    assert type(error) is kind
    assert words in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "-i INSTID"),
        ((*SIM, "--day", DAYS[0], "--from", DAYS[0]), "not both"),
        ((*SIM, "--day", "yesterday"), "'yesterday' is not a time"),
        (("-i", INST, "-i", "ETH-USDT-SWAP", "--exchange", "sim", "-o", "x.html"), "-o names one"),
    ],
)
def test_wrong_options(arguments: tuple[str, ...], words: str, good: Made) -> None:
    """Status 2, and what is wrong."""
    (good.root / "raw" / "sim" / "trades_perps" / "ETH-USDT-SWAP").mkdir(exist_ok=True)
    try:
        done = CliRunner().invoke(cli, ["--vault", str(good.root), "report", *arguments])
    finally:
        (good.root / "raw" / "sim" / "trades_perps" / "ETH-USDT-SWAP").rmdir()
    assert done.exit_code == 2
    assert words in done.output


def test_an_instrument_without_rows(tmp_path: Path) -> None:
    """Never run, or with one trade: status 66, and the command that makes rows."""
    made = Made(tmp_path, "okx")
    folder = tmp_path / "raw" / "okx" / "trades_perps" / INST
    folder.mkdir(parents=True)
    line = '{"instId":"%s","tradeId":"1","px":"5","sz":"1","side":"buy","ts":"1736121600000"}\n'
    (folder / "2025-01-06.jsonl").write_text(line % INST, encoding="utf-8")
    for _ in range(2):
        error = failure(made, "-i", INST)
        assert isinstance(error, MissingInputError)
        assert "no closed bars" in error.message
        assert error.hint == f"flowvault run -i {INST} --exchange okx --market perps"
        made.flowvault("run", "--all")
    other = folder.with_name("ETH-USDT-SWAP")
    shutil.copytree(folder, other)
    done = run(made, "report", "--all")
    assert isinstance(done.exception, MissingInputError)
    assert done.output.count("has no closed bars") == 2


def test_a_file_that_cannot_be_written(good: Made, tmp_path: Path) -> None:
    """Status 74, with its name."""
    error = failure(good, *SIM, "-o", str(tmp_path / "nowhere" / "page.html"))
    assert error.status == 74
    assert "nowhere" in error.message


def test_only_what_is_committed_is_in_the_page(good: Made, tmp_path: Path) -> None:
    """Bytes behind the committed length are not looked at, whatever they are."""
    made = good.copied(tmp_path / "vault")
    wanted = made.report(tmp_path / "one.html", "--from", DAYS[0]).read_bytes()
    for file in (made.root / "derived").glob("*/sim/perps/*/*.jsonl"):
        with file.open("ab") as stream:
            stream.write(file.read_bytes()[-300:] + b"{half a row")
    assert made.report(tmp_path / "two.html", "--from", DAYS[0]).read_bytes() == wanted


@pytest.mark.parametrize("harm", ["short", "garbage", "gone"])
def test_a_damaged_layer(harm: str, good: Made, tmp_path: Path) -> None:
    """Status 65, with the file and the command that mends it; the page before stays."""
    made = good.copied(tmp_path / "vault")
    made_before = made.report(tmp_path / "page.html")
    before = made_before.read_bytes()
    file = made.root / "derived" / "cvd" / "sim" / "perps" / INST / "cvd_1m.jsonl"
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-40] if harm == "short" else data[:-40] + b"x" * 39 + b"\n")
    error = failure(made, *SIM, "-o", str(made_before))
    assert isinstance(error, StateError)
    assert "cvd_1m.jsonl is damaged" in error.message
    assert error.hint == f"flowvault rebuild cvd -i {INST} --exchange sim --market perps"
    assert made_before.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["page.html"]


def test_a_footprint_that_is_gone(good: Made, tmp_path: Path) -> None:
    """Is named, not the page."""
    made = good.copied(tmp_path / "vault")
    for file in (made.root / "derived" / "footprint").rglob("*.parquet"):
        file.unlink()
    error = failure(made, *SIM, "-o", str(tmp_path / "page.html"))
    assert isinstance(error, StateError)
    assert "committed rows are gone" in error.message
    assert error.hint is not None
    assert "rebuild footprint" in error.hint


def test_a_rebuild_that_swaps_while_the_page_is_made(
    good: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read no longer fits together: it is read again."""
    made = good.copied(tmp_path / "vault")
    shutil.copytree(good.root / "raw", made.root / "raw", dirs_exist_ok=True)
    shutil.copy(good.root / "flowvault.toml", made.root)
    wanted = made.report(tmp_path / "one.html").read_bytes()
    write, calls = page.write, []

    def swapped(path: Path, committed: Committed, span: Span) -> None:
        calls.append(span)
        if len(calls) == 1:
            made.flowvault("rebuild", "cvd", *SIM)
            raise StateError("torn by the swap")
        write(path, committed, span)

    monkeypatch.setattr(page, "write", swapped)
    assert made.report(tmp_path / "two.html").read_bytes() == wanted
    assert len(calls) == 2


def test_every_instrument_has_a_page_of_its_own(
    rough: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --all; --open hands them to the browser."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.chdir(tmp_path)
    rough.flowvault("report", "--all", "--open")
    file = tmp_path / f"okx-perps-{INST}-{DAYS[0]}.html"
    assert opened == [file.as_uri()]
    assert file.is_file()


# -- what the file is made of --------------------------------------------------------------------


def test_the_page_is_complete_in_itself(good_page: Path) -> None:
    """Nothing is loaded: no address but that of the library's notice, and a policy against it."""
    text = good_page.read_text(encoding="utf-8")
    outside = re.sub(r"<script>/\*!.*?</script>", "", text, flags=re.DOTALL)
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w[\w./-]*", outside))
    assert addresses == {"https://www.tradingview.com/"}
    assert not re.findall(r"<(?:link|img|iframe|object|embed)[^>]*(?:src|href)=\"(?!data:)", text)
    assert "<script src" not in text
    assert "@import" not in text
    assert "url(" not in outside
    assert "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'" in text
    assert text.count("</script>") == 2 + len(DAYS) + 1
    assert len(text) < 5_000_000


def test_the_same_rows_make_the_same_page(good: Made, good_page: Path, tmp_path: Path) -> None:
    """Byte for byte."""
    again = good.report(tmp_path / "again.html", "--from", DAYS[0], "--to", DAYS[1])
    assert again.read_bytes() == good_page.read_bytes()


def test_the_library_is_the_published_one_with_its_licence(good_page: Path) -> None:
    """Unchanged, with licence and notice beside it and the notice on the page."""
    library = (REPORT / "vendor" / LIBRARY).read_bytes()
    assert hashlib.sha256(library).hexdigest() == SHA256
    assert "Apache License" in (VENDOR / "LICENSE").read_text(encoding="utf-8")
    notice = (VENDOR / "NOTICE").read_text(encoding="utf-8")
    assert SHA256 in notice
    content = good_page.read_bytes()
    assert library in content
    for words in notice.splitlines()[0], "https://www.tradingview.com/", "Apache License":
        assert words.encode() in content


def test_everything_in_the_package_is_used() -> None:
    """No script is forgotten, and what is packaged is what lies there."""
    assert {path.stem for path in (REPORT / "web").glob("*.js")} == set(SCRIPTS)
    assert {path.suffix for path in (REPORT / "web").iterdir()} == {".js", ".css", ".html"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("BTC-USDT-SWAP", ("BTC", "USDT")),
        ("UNI-USD-SWAP", ("UNI", "USD")),
        ("ETHUSDT", ("ETH", "USDT")),
        ("BTCUSDT_240927", ("BTC", "USDT")),
        ("SKL-BTC", ("SKL", "BTC")),
        ("AIG", ("AIG", "quote")),
    ],
)
def test_units(name: str, wanted: tuple[str, str]) -> None:
    """As the name tells them."""
    assert units(Instrument("x", "spot", name)) == wanted


# -- rows within a span --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "folder"),
    [("bars_1m", "bars"), ("vpin", "vpin"), ("confluence_1m", "confluence"), ("gaps", "gaps")],
)
def test_rows_of_any_span_are_found(layer: str, folder: str, good: Made) -> None:
    """The same as by looking at every row, wherever the span begins and ends."""
    committed = Committed(good.root, Instrument("sim", "perps", INST))
    first = second_of("2025-01-06T20:58:00Z") * US
    rows = [(second_of(row["timestamp_utc"]) * US, row) for row in good.rows(layer, folder)]
    for i in range(0, 250, 7):
        for minutes in (1, 60, 400):
            low, high = first + i * 60 * US, first + (i + minutes) * 60 * US
            assert committed.rows(layer, low, high) == [r for at, r in rows if low <= at < high]


def test_rows_can_be_chosen_by_their_bytes(good: Made) -> None:
    """Before they are decoded."""
    committed = Committed(good.root, Instrument("sim", "perps", INST))
    low, high = (second_of(f"{day}T00:00:00Z") * US for day in ("2025-01-06", "2025-01-08"))
    found = committed.rows("volume_1m", low, high, only=b'"absorption":true')
    assert found == [row for row in good.rows("volume_1m") if row["absorption"]]
    assert found
