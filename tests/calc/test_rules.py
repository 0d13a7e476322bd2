"""Rules in SQL: what is refused when they are read, and what comes of them."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl
import pytest

from pipeline.calc.rules import Part, Rule, check, evaluate, references

COLUMNS: dict[str, dict[str, Any]] = {
    "volume": {"volume_tier": pl.String, "absorption": pl.Boolean, "count": pl.Int64},
    "bars": {"close": pl.Float64, "from": pl.Float64},
    "instrument": {"tick": pl.Float64},
}


def told(parts: list[str], **frames: dict[str, list[Any]]) -> list[list[Part]]:
    """What comes of parts over rows given by layer and column."""
    tables = {
        name: pl.DataFrame(values, schema={n: COLUMNS[name][n] for n in values})
        for name, values in frames.items()
    }
    rows = pl.DataFrame({name: table.to_struct(name) for name, table in tables.items()})
    return evaluate(parts, rows, tables)


def test_references() -> None:
    assert references("volume.volume_tier = 'T4' and volume.absorption") == [
        ("volume", "volume_tier"),
        ("volume", "absorption"),
    ]
    assert references("abs(bars.close-bars.close)<0.5*instrument.tick") == [
        ("bars", "close"),
        ("instrument", "tick"),
    ]
    assert references("volume.volume_tier = 'bars.close' or volume.volume_tier='it''s a.b'") == [
        ("volume", "volume_tier")
    ]
    assert references("1.5 < 2e3 and 'a.b' = ''") == []


@pytest.mark.parametrize(
    "part",
    [
        "volume.volume_tier = 'T4'",
        "volume.absorption",
        "not volume.absorption",
        "volume.volume_tier in ('T3', 'T4') and bars.close between 1 and 2",
        "bars.close is distinct from 5",
        "coalesce(instrument.tick, 0) < 1",
        "volume.volume_tier = 'select now() from latest'",
        "case when bars.close > 5 then volume.absorption else null end",
        "null",
        "true",
        "volume.volume_tier::int > 3",
        "greatest(bars.close, 1) > 2",
    ],
)
def test_what_can_be_told(part: str) -> None:
    check([part], COLUMNS)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ("volumes.absorption", "no layer 'volumes'; layers: volume, bars, instrument"),
        ("volume.tier = 'T4'", "no column 'tier'; columns: volume_tier, absorption, count"),
        ("bars.close", "DOUBLE, not true or false"),
        ("volume.volume_tier", "VARCHAR, not true or false"),
        ("bars.close >", "syntax error"),
        ("", "Parser Error"),
        ("close > 5", "close"),
        ("volume.volume_tier > 5", "VARCHAR"),
        ("nothing(bars.close)", "nothing"),
        # names in capitals are not seen, and so have no values
        ("Volume.absorption", "Volume"),
        ("volume is not null", "volume"),
        ("volume['absorption']", "volume"),
        # what mixes rows would depend on which ones are looked at together
        ("max(bars.close) > 5", "aggregates"),
        ("avg(bars.close) over () > 5", "window"),
        ("bars.close > (select 5)", "no tables"),
        ("exists (from latest)", "no tables"),
        ("latest is not null", "no tables"),
        ("row_number() over () > 5", "window"),
        # what is different another time
        ("random() < 0.5", "random"),
        ("now() > timestamp '2024-01-01'", "now"),
        ("CURRENT_DATE > date '2024-01-01'", "current_date"),
    ],
)
def test_what_cannot_be_told_is_refused(part: str, why: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check(["volume.absorption", part], COLUMNS)
    assert why in str(caught.value)
    assert repr(part) in str(caught.value)


def test_rules_that_say_nothing() -> None:
    for wrong in (
        {"direction": "", "when": ["true"]},
        {"direction": "LONG", "when": []},
        {"direction": "LONG"},
        {"when": ["true"]},
        {"direction": "LONG", "when": ["true"], "unless": "x"},
        {"direction": "LONG", "when": "true"},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Rule)


def test_truths_and_values_row_by_row() -> None:
    parts = ["volume.volume_tier = 'T4'", "volume.absorption or bars.close > 5", "true"]
    rows = told(
        parts,
        volume={"volume_tier": ["T4", "T1", None], "absorption": [None, False, None]},
        bars={"close": [6.0, 5.0, None]},
    )
    assert [[part.truth for part in row] for row in rows] == [
        [True, True, True],
        [False, False, True],
        [None, None, True],
    ]
    assert rows[0][0].values == {"volume.volume_tier": "T4"}
    assert rows[1][1].values == {"volume.absorption": False, "bars.close": 5.0}
    assert rows[2][2].values == {}


def test_a_part_that_fails_on_a_row_is_null_there() -> None:
    rows = told(["volume.volume_tier::int > 3"], volume={"volume_tier": ["4", "T4", None, "1"]})
    assert [part.truth for (part,) in rows] == [True, None, None, False]


def test_a_table_of_the_process_is_out_of_reach() -> None:
    frame = pl.DataFrame({"x": [1]})
    assert frame.height
    with pytest.raises(ValueError, match="tables"):
        check(["(select x from frame) > 0"], COLUMNS)
