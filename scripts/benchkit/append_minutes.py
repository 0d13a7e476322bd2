"""Append minutes to day files and time the stages inside this one process.

Usage: append_minutes.py PLAN_JSON, with "stages", "inst_id", "vaults" (each a "root" and its
newest "day" file) and "minutes" (files to append to every vault, each round in another order).
Prints the seconds of each minute by vault. The first minute loads what is loaded late: it is
run but not reported.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.engine.runner import run_stages
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument
from pipeline.stage import Stage


def main() -> None:
    """Follow the plan."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    instrument = Instrument("sim", "perps", plan["inst_id"])
    chain = stages.with_upstream(plan["stages"])
    vaults = plan["vaults"]
    seconds: list[list[float]] = [[] for _ in vaults]
    for number, minute in enumerate(plan["minutes"]):
        lines = Path(minute).read_bytes()
        for step in range(len(vaults)):
            index = (number + step) % len(vaults)
            with Path(vaults[index]["day"]).open("ab") as day:
                day.write(lines)
            seconds[index].append(_timed(Path(vaults[index]["root"]), chain, instrument))
    print(json.dumps([times[1:] for times in seconds]))


def _timed(root: Path, chain: list[Stage[Any, Any]], instrument: Instrument) -> float:
    started = time.perf_counter()
    for done in run_stages(Vault.open(root), chain, instrument):
        if isinstance(done, FlowvaultError):
            raise done
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
