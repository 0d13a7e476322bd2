"""An instrument whose price step nobody says: rows wait for it, and what reads them waits too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import stages
from pipeline.calc.tick_size import ENOUGH
from pipeline.instrument import Instrument

from .world import World, difference, unsynced

WHERE = Instrument("acme", "spot", "NEW-COIN")
START_MS = 1_709_640_000_000
STAGES = ("footprint", "profile", "extremes", "orderflow", "vcp")


def lines(count: int) -> list[bytes]:
    """Forty trades a minute; the first thousand have prices of two decimals."""
    made = []
    for n in range(count):
        price = f"{100 + (n * 7919 % 400) / 100:.2f}"
        side = "buy" if n * 7 % 11 < 5 else "sell"
        row = {"ts": START_MS + n * 1500, "price": price, "size": "1.5", "side": side, "id": n}
        made.append(json.dumps(row).encode() + b"\n")
    return made


@pytest.mark.parametrize("first", [ENOUGH - 1, ENOUGH // 2, 3])
def test_rows_do_not_depend_on_when_the_step_was_known(tmp_path: Path, first: int) -> None:
    """The trades before the thousandth are in every row that they belong to."""
    whole = lines(2 * ENOUGH)
    chain = stages.with_upstream(STAGES)
    wanted = World(tmp_path / "batch", WHERE, chain)
    pieces = World(tmp_path / "pieces", WHERE, chain)
    with unsynced():
        wanted.put({"2024-03-05": b"".join(whole)})
        wanted.run()
        for upto in (first, ENOUGH + 300, 2 * ENOUGH):
            pieces.put({"2024-03-05": b"".join(whole[:upto])})
            pieces.run()
    message = difference(pieces.tree(), wanted.tree())
    assert not message, message
    rows = map(json.loads, wanted.lines(stages.layers()["orderflow_1m"][0])[:8])
    assert any("profile_bias" not in row["missing"] for row in rows)
