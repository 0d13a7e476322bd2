"""Every stage, by name, with the line that help prints.

The modules are loaded when needed, so that `flowvault --help` stays quick.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from pipeline.layers import Layer
from pipeline.stage import Stage, levels

SUMMARY = {
    "trades": "Raw trades, decoded, checked and numbered (Parquet).",
    "bars": "Bars of 1, 5, 15 and 30 minutes with buyers, sellers and whales.",
    "volume": "Minute volume against its median: tiers, absorption, divergence.",
    "cvd": "Cumulative volume delta by minute, whole and since midnight.",
    "vwap": "Volume-weighted average price of the session with bands, and over 1, 4 and 24 hours.",
    "footprint": "Volume by price inside each minute, buyers and sellers apart (Parquet).",
    "profile": "Volume profiles of the session and of the last 24 hours: value area, nodes, bias.",
    "wicks": "Long wicks of five-minute bars, and whether price has come back to them.",
    "extremes": "Poor and unfinished highs and lows of the session, by half hours.",
    "vpin": "Order-flow toxicity by volume buckets (VPIN).",
    "impact": "Price impact by minute: Kyle's lambda and Amihud's illiquidity.",
}


def load(name: str) -> Stage[Any, Any]:
    """The stage of that name."""
    stage: Stage[Any, Any] = import_module(f"pipeline.stages.{name}").STAGE
    return stage


@cache
def all_stages() -> tuple[Stage[Any, Any], ...]:
    """All stages in an order in which they can run."""
    return tuple(stage for level in levels([load(n) for n in SUMMARY]) for stage in level)


@cache
def layers() -> dict[str, tuple[Layer, Stage[Any, Any]]]:
    """Every layer by name, with the stage that writes it."""
    return {layer.name: (layer, stage) for stage in all_stages() for layer in stage.layers}


def upstream(stage: Stage[Any, Any]) -> Stage[Any, Any] | None:
    """The stage whose layer this one reads, if it does not read raw data."""
    return None if stage.raw_kind else layers()[stage.source][1]


def with_upstream(names: list[str]) -> list[Stage[Any, Any]]:
    """The named stages and all they read, in order."""
    wanted: set[str] = set()
    for name in names:
        stage: Stage[Any, Any] | None = load(name)
        while stage is not None and stage.name not in wanted:
            wanted.add(stage.name)
            stage = upstream(stage)
    return [stage for stage in all_stages() if stage.name in wanted]


def with_downstream(name: str) -> list[Stage[Any, Any]]:
    """The named stage and all that read it, directly or not, in order."""
    wanted = {name}
    for stage in all_stages():
        source = upstream(stage)
        if source is not None and source.name in wanted:
            wanted.add(stage.name)
    return [stage for stage in all_stages() if stage.name in wanted]
