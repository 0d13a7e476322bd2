"""Seeded context feeds beside the trades of a stock: thin, polled, repeated, sometimes garbage."""

from __future__ import annotations

import json
import random
from typing import Any

from pipeline.instrument import coin_of

from .feedstock import DIRT, Line, Mix, Stock, day_of

KINDS = ("open_interest", "liquidations", "ratio", "whale_alerts", "positions")
_BARS = {"liquidations": ("l", "s"), "ratio": ("r", "l", "s")}
_MINUTE_S = 60


def add_context(stock: Stock, seed: int, mix: Mix, kinds: tuple[str, ...]) -> None:
    """Put context feeds of the same hours beside the trades."""
    rng = random.Random(f"context/{stock.instrument.key}/{seed}")
    stamps = sorted(line.ts for line in stock.lines() if line.kind == "trade")
    for kind in KINDS:
        if kind in kinds:
            clock = stamps[0]
            while clock <= stamps[-1]:
                _put(stock, rng, mix, kind, clock)
                clock += rng.choice((7_000, 31_000, 61_000, 240_000))


def _put(stock: Stock, rng: random.Random, mix: Mix, kind: str, clock: int) -> None:
    lines = stock.others.setdefault(kind, {}).setdefault(day_of(clock - 2000), [])
    if rng.random() < mix.dirt:
        lines.append(Line(rng.choice(DIRT) + b"\n", "dirt", clock))
    if rng.random() < mix.future:
        wrong = _record(stock, rng, kind, clock + 86_400_000)
        lines.append(Line(json.dumps(wrong).encode() + b"\n", "future", clock))
    record = json.dumps(_record(stock, rng, kind, clock)).encode() + b"\n"
    copies = 2 if rng.random() < mix.duplicate else 1
    lines += [Line(record, kind, clock)] * copies


def _record(stock: Stock, rng: random.Random, kind: str, clock: int) -> dict[str, Any]:
    if kind == "positions":
        return {"ts": clock, "position": round(rng.uniform(-3, 3), 3)}
    if kind == "open_interest":
        late = rng.choice((0, 0, 0, 9_000))
        return {"ts": clock - late, "open_interest": str(1000 + rng.randrange(500))}
    if kind == "whale_alerts":
        coin = rng.choice((coin_of(stock.instrument.inst_id).lower(), "doge"))
        sides = [{"owner_type": rng.choice(("exchange", "unknown"))} for _ in range(2)]
        return {
            "id": str(rng.randrange(10**6)),
            "symbol": coin,
            "timestamp": clock // 1000,
            "amount_usd": rng.randrange(10**6),
            "from": sides[0],
            "to": sides[1],
        }
    minute = clock // 1000 // _MINUTE_S * _MINUTE_S
    bars = [
        {"t": minute - back * _MINUTE_S}
        | {name: round(rng.uniform(0, 90), 2) for name in _BARS[kind]}
        for back in (2, 1, 0)
    ]
    return {"symbol": "X", "history": bars} if rng.random() < 0.5 else bars[-1]
