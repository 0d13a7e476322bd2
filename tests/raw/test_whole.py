"""Files that come whole: what counts, what is passed over, and why a line is bad."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from pipeline.raw.block import Block
from pipeline.raw.whole import finra, prices, sec
from pipeline.raw.whole.lines import finished, has_check_digit, read_blocks
from pipeline.table import Feed

SOURCE = {"_src": {"file": "x.csv", "sha256": "00", "fetched_at": "2026-08-11T00:00:00Z"}}


@dataclass
class Result:
    """One file read."""

    rows: list[dict[str, Any]]
    bad: list[tuple[int, str]]
    lines: int
    repeated: int

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason in self.bad]


def read_bytes(feed: Feed, facts: Mapping[str, str], data: bytes, **more: bool) -> Result:
    """Read a file of which these are the bytes."""
    lines = feed.lines()
    found = read_blocks([(Block(data, "raw/x", "", 0, **more), "x", facts)], lines)
    rows, repeated = finished(found.rows, lines)
    names = [column.name for column in feed.layer.columns]
    assert sorted(rows.columns) == sorted(names)
    bad = [(each.offset, each.reason) for each in found.rejects[0]]
    kept = rows.select(name for name in names if name != "source")
    return Result(kept.to_dicts(), bad, found.lines[0], repeated)


def read(feed: Feed, facts: Mapping[str, str], records: Iterable[Any]) -> Result:
    """Read a file of these records; texts are lines as they are."""
    lines = [each if isinstance(each, str) else json.dumps({**each, **SOURCE}) for each in records]
    return read_bytes(feed, facts, "".join(line + "\n" for line in lines).encode())


# -- FINRA's weekly volume -------------------------------------------------

WEEK = {"week": "2026-07-20", "tier": "T1"}
UBSA = {
    "summaryTypeCode": "ATS_W_SMBL_FIRM",
    "issueSymbolIdentifier": "AAPL",
    "MPID": "UBSA",
    "marketParticipantName": "UBSA UBS ATS",
    "weekStartDate": "2026-07-20",
    "totalWeeklyShareQuantity": 6311870,
    "totalWeeklyTradeCount": 143534,
    "tierIdentifier": "T1",
}


def weekly(*records: Any, facts: Mapping[str, str] = WEEK) -> Result:
    return read(finra.ATS, facts, records)


def test_week() -> None:
    """A row as published; without a day of publication it is taken to be 21 days later."""
    (row,) = weekly(UBSA).rows
    assert row == {
        "week_start": date(2026, 7, 20),
        "symbol": "AAPL",
        "mpid": "UBSA",
        "shares": 6311870.0,
        "trades": 143534,
        "tier": "T1",
        "published": date(2026, 8, 10),
        "participant": "UBSA UBS ATS",
        "updated": None,
        "kind": "ATS_W_SMBL_FIRM",
    }


@pytest.mark.parametrize(
    ("tier", "told", "wanted"),
    [
        ("T2", None, date(2026, 8, 24)),
        ("OTC", None, date(2026, 8, 24)),
        ("T1", "2026-08-11", date(2026, 8, 11)),
    ],
)
def test_publication(tier: str, told: str | None, wanted: date) -> None:
    """35 days for the other tiers; what the line says goes before."""
    record = {**UBSA, "tierIdentifier": tier, "initialPublishedDate": told}
    (row,) = weekly(record, facts={**WEEK, "tier": tier}).rows
    assert (row["tier"], row["published"]) == (tier, wanted)


def test_roll_ups_are_passed_over() -> None:
    """Sums over firms or symbols would count everything twice; they are no bad lines either."""
    kinds = ("ATS_W_SMBL", "ATS_W_VOL_STATS", "ATS_W_FIRM", "OTC_W_SMBL_FIRM", "ATS_W_SMBL_FIRM")
    result = weekly(*({**UBSA, "summaryTypeCode": kind, "MPID": "UBSA"} for kind in kinds))
    assert [row["kind"] for row in result.rows] == ["OTC_W_SMBL_FIRM", "ATS_W_SMBL_FIRM"]
    assert (result.lines, result.bad) == (5, [])
    small = {**UBSA, "MPID": None, "marketParticipantName": "De Minimis Firms"}
    assert (weekly(small).rows, weekly(small).bad) == ([], [])


def test_fractional_quantities() -> None:
    """Kept as they are; as texts they mean the same."""
    told = weekly({**UBSA, "totalWeeklyShareQuantity": 10.625, "totalWeeklyTradeCount": "12"})
    assert [(row["shares"], row["trades"]) for row in told.rows] == [(10.625, 12)]


def test_website_download_has_no_week() -> None:
    """The line is bad and says so; the last update is not taken for a week."""
    record = {
        "tierDescription": "NMS Tier 1",
        "issueSymbolIdentifier": "AAPL",
        "issueName": "Apple Inc.",
        "marketParticipantName": "UBSA UBS ATS",
        "MPID": "UBSA",
        "totalWeeklyShareQuantity": 1,
        "totalWeeklyTradeCount": 1,
        "lastUpdateDate": "2026-08-10",
    }
    result = weekly(record, UBSA)
    assert len(result.rows) == 1
    assert result.reasons == [
        "no weekStartDate: the file from FINRA's website does not say its week"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"weekStartDate": "2026-07-24"}, "weekStartDate is no Monday"),
        ({"weekStartDate": "2026-07-13"}, "weekStartDate is not the file's"),
        ({"weekStartDate": "20260720"}, "weekStartDate"),
        ({"tierIdentifier": "T2"}, "tierIdentifier is not the file's"),
        ({"MPID": " "}, "MPID"),
        ({"MPID": None}, "no MPID"),
        ({"MPID": 7}, "MPID"),
        ({"issueSymbolIdentifier": ""}, "issueSymbolIdentifier"),
        ({"summaryTypeCode": None}, "no summaryTypeCode"),
        ({"totalWeeklyShareQuantity": 0}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": -1}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": True}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": "nan"}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": "many"}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": 1e16}, "totalWeeklyShareQuantity"),
        ({"totalWeeklyShareQuantity": None}, "no totalWeeklyShareQuantity"),
        ({"totalWeeklyTradeCount": 1.5}, "totalWeeklyTradeCount"),
        ({"initialPublishedDate": "2026-07-22"}, "initialPublishedDate is before the week's end"),
    ],
)
def test_bad_weeks(change: dict[str, Any], reason: str) -> None:
    """Each for its own reason, and the line behind it counts."""
    result = weekly({**UBSA, **change}, {**UBSA, "issueSymbolIdentifier": "A"})
    assert result.reasons == [reason]
    assert [row["symbol"] for row in result.rows] == ["A"]


def test_otce_is_otc() -> None:
    """FINRA's interface writes OTCE."""
    record = {**UBSA, "tierIdentifier": "OTCE"}
    assert weekly(record, facts={**WEEK, "tier": "OTC"}).rows[0]["tier"] == "OTC"


def test_a_line_said_again() -> None:
    """The last one counts, once."""
    result = weekly(UBSA, {**UBSA, "totalWeeklyShareQuantity": 5})
    assert [row["shares"] for row in result.rows] == [5.0]
    assert result.repeated == 1


# -- Reg SHO, short interest, IEX, prices ----------------------------------


def test_short_volume() -> None:
    """Fractions kept; facilities apart are added up; a day that is not the file's is bad."""
    base = {
        "Date": "20260807",
        "Symbol": "A",
        "ShortVolume": 316055.595634,
        "ShortExemptVolume": 21,
        "TotalVolume": 554553.519523,
        "Market": "B,Q,N",
    }
    facts = {"day": "2026-08-07"}
    (row,) = read(finra.REGSHO, facts, [base]).rows
    assert row == {
        "date": date(2026, 8, 7),
        "symbol": "A",
        "total_volume": 554553.519523,
        "short_volume": 316055.595634,
        "market": "B,Q,N",
    }
    apart = [
        {**base, "Market": "Q", "TotalVolume": 10, "ShortVolume": 4},
        {**base, "Market": "N", "TotalVolume": 5, "ShortVolume": 0},
        {**base, "Market": "N", "TotalVolume": 6, "ShortVolume": 0},
    ]
    (row,) = read(finra.REGSHO, facts, apart).rows
    assert (row["total_volume"], row["short_volume"], row["market"]) == (16.0, 4.0, "Q,N")
    wrong = [{**base, "Date": 20260808}, {**base, "TotalVolume": 1}, {**base, "Date": "x"}]
    assert read(finra.REGSHO, facts, wrong).reasons == [
        "Date is not the file's",
        "ShortVolume above TotalVolume",
        "Date",
    ]


def test_short_interest() -> None:
    """The previous position may be missing."""
    record = {
        "symbolCode": "A",
        "currentShortPositionQuantity": 4824122,
        "previousShortPositionQuantity": 4481687,
        "settlementDate": "2026-04-30",
    }
    facts = {"settle": "2026-04-30"}
    told = read(
        finra.SHORT_INTEREST,
        facts,
        [record, {**record, "symbolCode": "B", "previousShortPositionQuantity": None}],
    )
    assert [(r["shares"], r["previous"]) for r in told.rows] == [
        (4824122, 4481687),
        (4824122, None),
    ]
    late = read(finra.SHORT_INTEREST, facts, [{**record, "settlementDate": "2026-05-15"}])
    assert late.reasons == ["settlementDate is not the file's"]


def test_iex_and_prices() -> None:
    """One row a symbol and day each; prices sorted, the last version of a day."""
    matched = {"symbol": "A", "trade_date": "2025-12-12", "matched_shares": 61234}
    assert read(prices.IEX, {"day": "2025-12-12"}, [matched]).rows[0]["matched_shares"] == 61234
    bar = {"open": 1, "high": 2, "low": 1, "close": 2, "adj_close": 1.9, "volume": 7}
    days = ("2026-01-06", "2026-01-05", "2026-01-06")
    told = read(
        prices.PRICES,
        {"symbol": "SPY"},
        [{"date": day, **bar, "volume": number} for number, day in enumerate(days)],
    )
    assert [(row["date"].day, row["volume"]) for row in told.rows] == [(5, 1.0), (6, 2.0)]
    bad = [
        {"date": "2026-01-06", **bar, "close": 0},
        {"date": "2026-01-06", **bar, "low": 3},
        {"date": "2026-01-06", **bar, "symbol": "QQQ"},
        {"date": "2026-02-30", **bar},
        bar,
    ]
    assert read(prices.PRICES, {"symbol": "SPY"}, bad).reasons == [
        "close",
        "high below low",
        "symbol is not the file's",
        "date",
        "no date",
    ]


# -- 13F -------------------------------------------------------------------

FILING = {
    "cik": "0001000097",
    "period": "2026-03-31",
    "filed_date": "2026-05-14",
    "amendmentType": None,
}
APPLE = {
    "nameOfIssuer": "APPLE INC",
    "titleOfClass": "COM",
    "cusip": "037833100",
    "value": 8239330,
    "sshPrnamt": 58228,
    "sshPrnamtType": "SH",
    "putCall": None,
    "investmentDiscretion": "SOLE",
    "otherManager": None,
    "votingSole": 0,
    "votingShared": 0,
    "votingNone": 58228,
}
PLACE = {"cik": "1000097", "accession": "0001000097-26-000005"}


def filing(*records: Any) -> Result:
    return read(sec.HOLDINGS, PLACE, [{**FILING, **each} for each in records])


def test_filing() -> None:
    """The sample's 141.50 dollars a share are dollars."""
    (row,) = filing(APPLE).rows
    assert row == {
        "institution_cik": "0001000097",
        "accession": "0001000097-26-000005",
        "period": date(2026, 3, 31),
        "filed_date": date(2026, 5, 14),
        "amendment": None,
        "cusip": "037833100",
        "shares": 58228,
        "value": 8239330.0,
        "in_thousands": False,
    }


def test_values_in_thousands() -> None:
    """Told by value per share, whatever the date says."""
    other = {**APPLE, "cusip": "02079K305", "value": 1719, "sshPrnamt": 643}  # 2.67 a share
    third = {**APPLE, "cusip": "002824100", "value": 471, "sshPrnamt": 3983}
    rows = filing({**APPLE, "value": 8239}, other, third).rows
    assert {row["cusip"]: row["value"] for row in rows} == {
        "037833100": 8_239_000.0,
        "02079K305": 1_719_000.0,
        "002824100": 471_000.0,
    }
    assert all(row["in_thousands"] for row in rows)


def test_options_and_bonds_are_left_out() -> None:
    """Only shares held outright count; entries of one CUSIP are added up."""
    result = filing(
        APPLE,
        {**APPLE, "putCall": "Put"},
        {**APPLE, "putCall": "Call"},
        {**APPLE, "sshPrnamtType": "PRN"},
        {**APPLE, "otherManager": "1", "sshPrnamt": 2, "value": 283},
        {**APPLE, "otherManager": "1", "sshPrnamt": 2, "value": 283},
    )
    assert [(row["shares"], row["value"]) for row in result.rows] == [(58232, 8239896.0)]
    assert (result.bad, result.repeated) == ([], 0)


@pytest.mark.parametrize("records", [[{}], [{**APPLE, "putCall": "Put"}]])
def test_a_filing_that_holds_nothing_counts(records: list[dict[str, Any]]) -> None:
    """One row without a CUSIP: absent is not zero, but this is."""
    (row,) = filing(*records).rows
    assert (row["accession"], row["cusip"], row["shares"]) == (PLACE["accession"], None, None)


@pytest.mark.parametrize(
    ("cusip", "wanted"),
    [
        ("037833100", "037833100"),
        ("37833100", "037833100"),
        (37833100, "037833100"),
        ("2824100", "002824100"),
        ("02079k305", "02079K305"),
        ("37833101", None),
        ("0378331005", None),
    ],
)
def test_leading_zeros_of_cusips(cusip: Any, wanted: str | None) -> None:
    """Kept, and put back where the check digit shows that they were lost."""
    result = filing({**APPLE, "cusip": cusip})
    assert [row["cusip"] for row in result.rows] == ([] if wanted is None else [wanted])
    assert result.reasons == (["cusip"] if wanted is None else [])


@pytest.mark.parametrize("kind", ["RESTATEMENT", "new holdings"])
@pytest.mark.parametrize("day", ["2026-03-31", "03-31-2026", "31-MAR-2026"])
def test_amendments_and_days(kind: str, day: str) -> None:
    """As EDGAR writes them in several places."""
    (row,) = filing({**APPLE, "amendmentType": kind, "period": day}).rows
    assert (row["amendment"], row["period"]) == (kind.upper(), date(2026, 3, 31))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cik": "320193"}, "cik is not the folder's"),
        ({"period": "2026-03-30"}, "period is no quarter's end"),
        ({"period": "soon"}, "period"),
        ({"filed_date": "2026-03-31"}, "filed_date is not after the period"),
        ({"amendmentType": "CORRECTION"}, "amendmentType"),
        ({"cusip": None}, "no cusip"),
        ({"value": None}, "no value"),
        ({"value": -1}, "value"),
        ({"sshPrnamt": None}, "no sshPrnamt"),
        ({"sshPrnamtType": None}, "sshPrnamtType"),
        ({"sshPrnamtType": "BOND"}, "sshPrnamtType"),
    ],
)
def test_bad_entries(change: dict[str, Any], reason: str) -> None:
    """The entry is bad, the filing's others count."""
    result = filing({**APPLE, **change}, {**APPLE, "cusip": "002824100"})
    assert result.reasons == [reason]
    assert [row["cusip"] for row in result.rows] == ["002824100"]


def test_who_is_who() -> None:
    """CIKs get their zeros; a line about the same one again takes its place."""
    apple = {"cik": "320193", "kind": "issuer", "name": "Apple Inc.", "ticker": "AAPL"}
    told = read(
        sec.ENTITIES, {}, [apple, {**apple, "cik": 320193, "name": "Apple"}, {**apple, "kind": "x"}]
    )
    assert [(row["cik"], row["name"]) for row in told.rows] == [("0000320193", "Apple")]
    assert told.reasons == ["kind"]
    cusips = read(sec.CUSIPS, {}, [{"cusip": "037833100", "issuer_cik": "0000320193"}])
    assert cusips.rows == [{"cusip": "037833100", "issuer_cik": "0000320193", "ticker": None}]
    own = read(sec.AFFILIATES, {}, [{"broker_mpid": "UBSA", "institution_cik": 1610520}])
    assert own.rows[0]["institution_cik"] == "0001610520"


def test_check_digit() -> None:
    """The four CUSIPs of a filing, and none of their neighbours."""
    for cusip in ("037833100", "02079K305", "02079K107", "002824100"):
        for digit in "0123456789":
            assert has_check_digit(cusip[:8] + digit) == (digit == cusip[8])


# -- lines that are none ---------------------------------------------------

GOOD = json.dumps(UBSA).encode()
DIRT: list[tuple[bytes, str | None]] = [
    (b"", None),
    (b"   ", None),
    (b"garbage", "json"),
    (b"\xff\xfe\x00", "encoding"),
    (GOOD + GOOD, "json"),
    (GOOD[:-1], "json"),
    (GOOD + b" ", ""),
    (b"[" + GOOD + b"]", "not an object"),
    (b"null", "not an object"),
    (b"17", "not an object"),
    (GOOD.replace(b"UBSA UBS ATS", b"UBSA \x00 ATS"), "json"),
    (GOOD.replace(b"UBSA UBS ATS", b"UBSA \xff ATS"), "encoding"),
    (GOOD.replace(b"6311870", b"NaN"), "json"),
    (GOOD.replace(b"6311870", b"1e999"), "totalWeeklyShareQuantity"),
    (b'{"a":' + b"[" * 20000, "json"),
    (b'{"x":{}', "json"),
    (b"{}", "no issueSymbolIdentifier"),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_dirt_harms_nobody(end: bytes) -> None:
    """Good lines between all kinds of bad ones: nothing lost, each offset right."""
    rng = random.Random(5)
    pieces: list[bytes] = []
    wanted: list[tuple[int, str]] = []
    good = 0
    for number in range(200):
        symbol = f"S{number}".encode()
        line, reason = rng.choice(DIRT) if number % 2 else (GOOD.replace(b"AAPL", symbol), "")
        line = line.replace(b"AAPL", symbol)
        offset = len(b"".join(pieces))
        wanted += [(offset, reason)] if reason else []
        good += reason == ""
        pieces.append(line + end)
    result = read_bytes(finra.ATS, WEEK, b"".join(pieces))
    assert result.bad == wanted
    assert len(result.rows) == good
    assert result.lines == good + len(wanted)


@pytest.mark.parametrize("dirt", [line for line, _ in DIRT])
def test_all_at_once_reads_what_line_by_line_reads(dirt: bytes) -> None:
    """The quick path may give up; it may not come to another result."""
    lines = [GOOD.replace(b"AAPL", b"A"), dirt, GOOD.replace(b"AAPL", b"B")]
    together = read_bytes(finra.ATS, WEEK, b"".join(line + b"\n" for line in lines))
    alone = [read_bytes(finra.ATS, WEEK, line + b"\n") for line in lines]
    assert together.rows == [row for each in alone for row in each.rows]
    assert together.reasons == [reason for each in alone for reason in each.reasons]


def test_first_and_last_line() -> None:
    """A BOM at the beginning is nothing; a line without its end counts if it is whole."""
    bom = b"\xef\xbb\xbf"
    assert len(read_bytes(finra.ATS, WEEK, bom + GOOD + b"\n").rows) == 1
    assert read_bytes(finra.ATS, WEEK, GOOD + b"\n" + bom + GOOD + b"\n").reasons == ["json"]
    assert len(read_bytes(finra.ATS, WEEK, GOOD, torn=True).rows) == 1
    assert read_bytes(finra.ATS, WEEK, GOOD[:50], torn=True).reasons == ["torn"]
    assert read_bytes(finra.ATS, WEEK, GOOD[:50], too_long=True).reasons == ["too long"]
    assert read_bytes(finra.ATS, WEEK, b"").rows == []


FEEDS: list[tuple[Feed, Mapping[str, str]]] = [
    (finra.ATS, WEEK),
    (finra.REGSHO, {"day": "2026-08-07"}),
    (finra.SHORT_INTEREST, {"settle": "2026-04-30"}),
    (prices.PRICES, {"symbol": "A"}),
    (prices.IEX, {"day": "2026-08-07"}),
    (sec.HOLDINGS, PLACE),
    (sec.ENTITIES, {}),
    (sec.CUSIPS, {}),
    (sec.AFFILIATES, {}),
]


@pytest.mark.parametrize(("feed", "facts"), FEEDS, ids=lambda each: getattr(each, "name", ""))
def test_every_feed_survives_an_empty_file(feed: Feed, facts: Mapping[str, str]) -> None:
    """The right columns and no rows, also where every line is bad."""
    for data in (b"", b"{}\n", b"[]\n"):
        result = read_bytes(feed, facts, data)
        assert result.rows == []
