"""A market without drift or memory, as plain raw files: whatever a signal finds in it is chance.

Prices are a walk in whole ticks with a step at every trade, trades come at random times, and
takers buy or sell by the toss of a coin. The price steps the way the taker traded with the
probability `with_flow`: at one half the two have nothing to do with each other. Books are five
levels of random sizes around the last price, one side heavier than the other for about a minute
at a time.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.instrument import Instrument

WALK = Instrument("walk", "spot", "WALK-USD")
START = dt.date(2025, 3, 3)

_DAY_MS = 86_400_000
_FIRST_TICKS = 600_000
_TICKS = 10  # to a unit of quote currency
_DAY_SD_TICKS = 12_000  # 2 % of the first price
_LEVELS = 5
_HEAVY_S = 60.0

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """What is drawn.

    Attributes:
        trades: mean number a day.
        with_flow: how often price steps the way the taker traded.
        book_s: seconds between books; 0 for none.
    """

    days: int = 10
    seed: int = 1
    trades: int = 60_000
    with_flow: float = 0.5
    book_s: float = 10.0


def write_walk(vault: Path, walk: Walk) -> Instrument:
    """Write the raw files of the walk; the same walk gives the same bytes."""
    rng = np.random.default_rng(walk.seed)
    price, heavy = _FIRST_TICKS, 0.0
    for index in range(walk.days):
        day = START + dt.timedelta(days=index)
        midnight = (day - dt.date(1970, 1, 1)).days * _DAY_MS
        count = int(rng.poisson(walk.trades))
        times = np.sort(rng.integers(0, _DAY_MS, count))
        sides = rng.choice((-1, 1), count)
        steps = np.rint(np.abs(rng.normal(0, _DAY_SD_TICKS / walk.trades**0.5, count)))
        along = np.where(rng.random(count) < walk.with_flow, sides, -sides)
        ticks = np.maximum(_LEVELS + 1, price + np.cumsum(steps * along)).astype(np.int64)
        sizes = rng.lognormal(-4, 1.2, count)
        lines = [
            f'{{"ts":{midnight + ts},"price":"{_text(px)}","size":"{size:.5f}","side":"{side}",'
            f'"id":{index * 10**9 + number}}}\n'
            for number, (ts, px, size, side) in enumerate(
                zip(
                    times.tolist(),
                    ticks.tolist(),
                    np.maximum(sizes, 1e-5).tolist(),
                    np.where(sides > 0, "buy", "sell").tolist(),
                    strict=True,
                ),
                1,
            )
        ]
        _write(vault, "trades", day, lines)
        if walk.book_s:
            lines, heavy = _books(rng, times, ticks, (midnight, price, heavy), walk.book_s)
            _write(vault, "books", day, lines)
        price = int(ticks[-1]) if count else price
    return WALK


def _books(
    rng: np.random.Generator,
    times: Ints,
    ticks: Ints,
    before: tuple[int, int, float],
    book_s: float,
) -> tuple[list[str], float]:
    """The day's books, and how heavy the bids are at its end."""
    midnight, price, heavy = before
    at = np.arange(0, _DAY_MS, round(book_s * 1000))
    last = np.concatenate(([price], ticks))[np.searchsorted(times, at)]
    keep = float(np.exp(-book_s / _HEAVY_S))
    noise = rng.normal(0, (1 - keep * keep) ** 0.5, len(at)).tolist()
    sizes = rng.lognormal(0, 0.7, (len(at), 2, _LEVELS))
    lines = []
    for ts, px, push, size in zip(at.tolist(), last.tolist(), noise, sizes.tolist(), strict=True):
        heavy = keep * heavy + push
        sides: list[Any] = []
        for sign, lots in ((-1, size[0]), (1, size[1])):
            factor = float(np.exp(-sign * 0.4 * heavy))
            levels = (
                f'["{_text(px + sign * (1 + 2 * rank))}","{lot * factor:.5f}"]'
                for rank, lot in enumerate(lots)
            )
            sides.append(",".join(levels))
        lines.append(f'{{"ts":{midnight + ts},"bids":[{sides[0]}],"asks":[{sides[1]}]}}\n')
    return lines, heavy


def _text(ticks: int) -> str:
    return f"{ticks // _TICKS}.{ticks % _TICKS}"


def _write(vault: Path, kind: str, day: dt.date, lines: list[str]) -> None:
    folder = vault / "raw" / WALK.exchange / f"{kind}_{WALK.market}" / WALK.inst_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{day}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
