"""The questions that the tables of US equities were made for: each finds its one row.

Every table holds one row that is asked for and others that each fail one condition of a question.
The questions as they were first written are asked word for word where that text is at hand.
"""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest

from pipeline import tables
from pipeline.engine import sql
from pipeline.engine import tables as engine
from pipeline.engine.codecs import polars_type
from pipeline.engine.vault import Vault
from pipeline.errors import MissingInputError
from pipeline.table import Made

REPO = Path(__file__).resolve().parents[2]
DAY = date(2024, 1, 5)
MANAGER = "0001167483"

MAP = {
    "broker_mpid": "MSCO",
    "broker_name": "Morgan Stanley & Co. LLC",
    "institution_cik": MANAGER,
    "institution_id": MANAGER,
    "relationship_strength": 0.85,
    "observation_count": 40,
    "avg_block_size": 1200,
}
FLOW = {
    "symbol": "AAPL",
    "trade_date": DAY,
    "institution_id": MANAGER,
    "institution_cik": MANAGER,
    "broker_mpid": "MSCO",
    "flow_direction": "sell",
    "shares": 600_000,
    "attribution_confidence": 0.9,
}
METRICS = {
    "symbol": "AAPL",
    "trade_date": DAY,
    "vpin": 0.82,
    "vpin_quality_flag": "LOW",
    "kyles_lambda": 22.1,
    "kyles_lambda_r2": 0.4,
}
CLASSES = {"symbol": "AAPL", "trade_date": DAY, "order_imbalance": -0.38}
EVENT = {
    "cluster_id": "AAPL-2024Q1",
    "issuer_cik": "0000320193",
    "r_score": 4.2,
    "micro_vpin_avg": 0.74,
    "micro_vpin_spike": True,
    "micro_lambda_avg": 22.1,
    "micro_confidence": 0.87,
    "car_m5_p20": 0.026,
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "entities": [
        {"entity_id": MANAGER, "cik": MANAGER, "name": "Tiger Global", "kind": "manager"},
        {"entity_id": "0000000009", "cik": "0000000009", "name": "Somebody", "kind": "manager"},
    ],
    "micro_broker_institution_map": [
        MAP,
        {**MAP, "institution_cik": "9", "institution_id": "9", "relationship_strength": 0.9},
        {**MAP, "broker_mpid": "UBSA", "relationship_strength": 0.7, "observation_count": 20},
    ],
    "micro_institutional_flow": [
        FLOW,
        {**FLOW, "broker_mpid": "UBSA", "attribution_confidence": 0.8},
        {**FLOW, "symbol": "MSFT", "flow_direction": "buy"},
        {**FLOW, "symbol": "MSFT", "broker_mpid": "UBSA", "shares": 500_000},
    ],
    "micro_metrics_daily_bars": [
        METRICS,
        {**METRICS, "symbol": "MSFT", "vpin": 0.7, "kyles_lambda_r2": 0.3},
        {**METRICS, "symbol": "IBM", "vpin": None, "kyles_lambda": 20.0},
    ],
    "micro_trade_classification_bars": [CLASSES, {**CLASSES, "symbol": "MSFT"}],
    "rotation_events": [
        EVENT,
        {**EVENT, "cluster_id": "b", "micro_confidence": 0.7},
        {**EVENT, "cluster_id": "c", "micro_vpin_avg": 0.6},
    ],
}

QUESTIONS = (
    """select broker_mpid, broker_name, e.name as institution, relationship_strength, avg_block_size
       from micro_broker_institution_map m join entities e on m.institution_id = e.entity_id
       where relationship_strength > 0.7 order by 4 desc""",
    """select trade_date, e.name as institution, flow_direction, shares, attribution_confidence
       from micro_institutional_flow f join entities e on f.institution_id = e.entity_id
       where symbol = 'AAPL' and attribution_confidence > 0.8 order by 1 desc, 4 desc""",
    """select symbol, trade_date, vpin, vpin_quality_flag from micro_metrics_daily
       where vpin > 0.7 order by vpin desc""",
    """select symbol, trade_date, kyles_lambda, kyles_lambda_r2 from micro_metrics_daily
       where kyles_lambda > 20 and kyles_lambda_r2 > 0.3 order by kyles_lambda desc""",
    """select f.symbol, f.trade_date, e.name as institution, f.flow_direction, f.shares, d.vpin,
         d.kyles_lambda, c.order_imbalance
       from micro_institutional_flow f join micro_metrics_daily d using (symbol, trade_date)
       join micro_trade_classification c using (symbol, trade_date)
       join entities e on e.entity_id = f.institution_id
       where d.vpin > 0.7 and f.attribution_confidence > 0.8 and f.flow_direction = 'sell'
         and f.shares > 500000 order by d.vpin desc""",
    """select broker_mpid, broker_name, count(*) as institution_count,
         avg(relationship_strength) as avg_strength, avg(observation_count) as avg_observations
       from micro_broker_institution_map group by 1, 2 order by avg_strength desc""",
    """select cluster_id, issuer_cik, r_score, micro_vpin_avg, micro_vpin_spike, micro_lambda_avg,
         micro_confidence, car_m5_p20
       from rotation_events where micro_confidence > 0.7 and micro_vpin_avg > 0.6
       order by r_score desc""",
)
ANSWERS: tuple[list[tuple[Any, ...]], ...] = (
    [("MSCO", "Morgan Stanley & Co. LLC", "Tiger Global", 0.85, 1200)],
    [(DAY, "Tiger Global", "sell", 600_000, 0.9)],
    [("AAPL", DAY, 0.82, "LOW")],
    [("AAPL", DAY, 22.1, 0.4)],
    [("AAPL", DAY, "Tiger Global", "sell", 600_000, 0.82, 22.1, -0.38)],
    [
        ("MSCO", "Morgan Stanley & Co. LLC", 2, 0.875, 40.0),
        ("UBSA", "Morgan Stanley & Co. LLC", 1, 0.7, 20.0),
    ],
    [("AAPL-2024Q1", "0000320193", 4.2, 0.74, True, 22.1, 0.87, 0.026)],
)


def verbatim() -> list[str]:
    """The questions as they were first written."""
    folder = REPO.parent / "shared" / "seeds"
    for path in sorted(folder.glob("002_*.txt")) if folder.is_dir() else ():
        return re.findall(r"```sql\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return []


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault in which these rows are committed, by the engine itself."""
    root = tmp_path_factory.mktemp("vault")
    chain = [
        dataclasses.replace(table, reads=(), compute=lambda *_args, _own=table: _made(_own))
        for table in tables.all_tables()
        if table.name != "micro_signals"
    ]
    by_layer = {layer.name: (layer, table) for table in chain for layer in table.layers}
    with (
        mock.patch.object(tables, "all_tables", return_value=tuple(chain)),
        mock.patch.object(tables, "layers", return_value=by_layer),
    ):
        for done in engine.update(Vault.open(root), chain):
            assert not isinstance(done, Exception), done
    (root / "raw" / "finra" / "ats_weekly").mkdir(parents=True)
    (root / "raw" / "finra" / "ats_weekly" / "2024-01-01.T1.jsonl").write_bytes(b"")
    return root


def _made(table: Any) -> Made:
    frames = {}
    for layer in table.layers:
        schema = {column.name: polars_type(column.dtype) for column in layer.columns}
        frames[layer.name] = pl.DataFrame(ROWS.get(layer.name, []), schema=schema)
    return Made(frames)


@pytest.mark.parametrize("number", range(7))
def test_question(vault: Path, number: int) -> None:
    """Our own wording."""
    assert sql.query(vault, QUESTIONS[number]).rows() == ANSWERS[number]


@pytest.mark.parametrize("number", range(7))
def test_question_word_for_word(vault: Path, number: int) -> None:
    """As it was first written, without a change."""
    if not verbatim():
        pytest.skip("the text that the questions come from is not at hand")
    assert len(verbatim()) == 7
    assert sql.query(vault, verbatim()[number]).rows() == ANSWERS[number]


def test_empty_tables_are_views_without_rows(tmp_path: Path) -> None:
    """Once there is anything of US equities; before that the answer is where to get it."""
    for text in QUESTIONS:
        with pytest.raises(MissingInputError):
            sql.query(tmp_path, text)
    path = tmp_path / "raw" / "sec" / "entities.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    for text, answer in zip(QUESTIONS, ANSWERS, strict=True):
        rows = sql.query(tmp_path, text)
        assert (rows.height, rows.width) == (0, len(answer[0]))
    for text in verbatim():
        assert sql.query(tmp_path, text).is_empty()


@pytest.mark.parametrize("name", [*tables.layers(), *tables.feeds()])
def test_every_table_and_feed_is_a_view(vault: Path, tmp_path: Path, name: str) -> None:
    """With the declared columns, whether it has rows or not."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "affiliates.jsonl").write_bytes(b"")
    layer = tables.layers()[name][0] if name in tables.layers() else tables.feeds()[name].layer
    schema = {column.name: polars_type(column.dtype) for column in layer.columns}
    for root in (vault, tmp_path):
        rows = sql.query(root, f'select * from "{name}"')  # noqa: S608
        assert dict(rows.schema) == schema


def test_rows_of_tapes_and_bars_stand_together(vault: Path) -> None:
    """Under one name, told apart by exchange."""
    text = "select symbol, market, exchange, ts from micro_metrics_daily order by symbol"
    rows = sql.query(vault, text).rows()
    assert [row[:3] for row in rows] == [(s, "equity", None) for s in ("AAPL", "IBM", "MSFT")]
