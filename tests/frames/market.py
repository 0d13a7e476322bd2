"""A small market in the plain format: as raw lines, and as the columns a user would have."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.engine.presence import applies
from pipeline.engine.runner import run_stages
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.instrument import Instrument

WHERE = Instrument("acme", "spot", "X-Y")
DAYS = ("2024-03-05", "2024-03-06")
START_MS = 1_709_681_400_000
"""Half an hour before the midnight between the two days."""
MIDNIGHT_MS = START_MS + 1_800_000

Rows = list[dict[str, Any]]


@dataclass
class Market:
    """Records by kind, in the order in which they arrived."""

    records: dict[str, Rows] = field(default_factory=dict)

    def write(self, vault: Path, share: float = 1.0) -> None:
        """The raw files as they are when a share of every feed has come."""
        for kind, rows in self.records.items():
            folder = vault / "raw" / WHERE.exchange / f"{kind}_{WHERE.market}" / WHERE.inst_id
            folder.mkdir(parents=True, exist_ok=True)
            lines: dict[str, list[str]] = {}
            day = DAYS[0]
            for row in rows[: int(len(rows) * share)]:
                is_late = isinstance(row["ts"], int) and row["ts"] >= MIDNIGHT_MS
                day = DAYS[1] if is_late else day
                lines.setdefault(day, []).append(json.dumps(row))
            for name, texts in lines.items():
                (folder / f"{name}.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")

    def column(self, kind: str, name: str) -> list[Any]:
        """One column of a feed."""
        return [row.get(name) for row in self.records[kind]]

    def times(self, kind: str) -> list[datetime]:
        """The times of a feed."""
        return [datetime.fromtimestamp(ms / 1000, UTC) for ms in self.column(kind, "ts")]


def market(seed: int, trades: int = 2500, minutes: int = 70, *, is_clean: bool = False) -> Market:
    """A walk with late, repeated, far-ahead and bad trades; books of ten levels; quotes."""
    rng = random.Random(seed)
    made = Market({"trades": [], "books": [], "quotes": []})
    cents, width = 10_000_00, minutes * 60_000
    stamps = sorted(START_MS + rng.randrange(width) for _ in range(trades))
    for number, ts in enumerate(stamps):
        cents += rng.randrange(-40, 41)
        row = {
            "ts": ts,
            "price": cents / 100,
            "size": rng.randrange(1, 5000) / 1000,
            "side": rng.choice(("buy", "sell")),
            "id": number,
        }
        if rng.random() < 0.01:
            row["size"] = float(rng.randrange(20, 60))
        made.records["trades"].append(row)
        odd = 1.0 if is_clean else rng.random()
        if odd < 0.004:
            made.records["trades"].append(dict(row))
        elif odd < 0.008:
            made.records["trades"].append({**row, "id": number + 10**6, "ts": ts - 300_000})
        elif odd < 0.011:
            made.records["trades"].append({**row, "id": number + 10**7, "ts": ts + 3_600_000})
        elif odd < 0.015:
            made.records["trades"].append({**row, "id": number + 10**8, "price": -1.0})
        if number % 3 == 0:
            made.records["quotes"].append(_quote(rng, ts, cents))
        if number % 4 == 0:
            made.records["books"].append(_book(rng, ts + 1, cents))
    return made


def _quote(rng: random.Random, ts: int, cents: int) -> dict[str, Any]:
    bid, ask = cents - rng.randrange(1, 30), cents + rng.randrange(1, 30)
    sizes = [rng.randrange(1, 900) / 100 for _ in range(2)]
    return {
        "ts": ts,
        "bid": bid / 100,
        "bid_size": sizes[0],
        "ask": ask / 100,
        "ask_size": sizes[1],
    }


def _book(rng: random.Random, ts: int, cents: int) -> dict[str, Any]:
    def side(sign: int) -> list[list[float]]:
        at = cents
        found = []
        for _ in range(10):
            at += sign * rng.randrange(1, 25)
            found.append([at / 100, rng.randrange(1, 900) / 100])
        return found

    return {"ts": ts, "bids": side(-1), "asks": side(1)}


def run(root: Path, names: list[str] | None = None) -> None:
    """Bring the vault's layers up to date, in this process."""
    vault = Vault.open(root)
    chain = stages.all_stages() if names is None else stages.with_upstream(names)
    chosen = [stage for stage in chain if applies(vault.paths, stage, WHERE)]
    for done in run_stages(vault, chosen, WHERE):
        assert isinstance(done, Summary), done
