"""Every stage, by name, with the line that help prints.

The modules are loaded when needed, so that `flowvault --help` stays quick.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    "book": "Order books rebuilt from snapshots and updates, checked by sequence ids (Parquet).",
    "bbo": "Best bids and offers as the exchange sends them (Parquet).",
    "quote": "The best bid and offer in time, from the best source an instrument has (Parquet).",
    "flow": "Order flow at the touch by minute: imbalance, OFI, OFI of the first five levels.",
    "micro": "Market quality by minute: spread, depth, and what a large order would cost.",
    "costs": "Cost of trading by minute: effective spread, split into realised and impact.",
    "buckets": "Liquidity by distance from the mid, and walls, at each minute's end.",
    "orderflow": "One verdict a minute from seven order-flow factors, with its reasons.",
    "open_interest": "Open interest by minute.",
    "liquidations": "Liquidated positions by minute, longs and shorts.",
    "ratio": "Long/short ratio of accounts by minute.",
    "whale_alerts": "Large transfers on chain by hour: dollars into and out of exchanges.",
    "vcp": "Clusters of volume by price, and how free the way is past them, by bar.",
    "ipu": "How large traders took part in a bar: efficiency, flow, momentum (IPU).",
    "signals": "One signal a bar: what volume clusters and participation say together.",
    "signals_mtf": "The five-minute signal beside the direction of longer bars.",
    "confluence": "Rules over the latest rows of all layers, evaluated every minute.",
    "positions": "Positions as their owner tells them, in base units (Parquet).",
    "clusters": "Trades in three clusters by the book they met, a new model every day (Parquet).",
    "maker": "Maker quotes from the flow of clusters, second by second: advice, not orders.",
    "tape": "Trades of a consolidated tape, decoded and checked (US equities, Parquet).",
    "classify": "Buyers and sellers of a tape by Lee and Ready, also by day (US equities).",
    "metrics_daily": "Daily VPIN, Kyle's lambda, spreads and blocks of a tape (US equities).",
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


def owner(layer: str) -> Stage[Any, Any]:
    """The stage that writes a layer."""
    return layers()[layer][1]


def upstreams(stage: Stage[Any, Any]) -> list[Stage[Any, Any]]:
    """The stages whose layers this one reads; none if it decodes raw data."""
    return list({owner(layer).name: owner(layer) for layer in stage.reads}.values())


def with_upstream(names: Iterable[str]) -> list[Stage[Any, Any]]:
    """The named stages and all they read, in order."""
    wanted: set[str] = set()
    waiting = [load(name) for name in names]
    while waiting:
        stage = waiting.pop()
        if stage.name not in wanted:
            wanted.add(stage.name)
            waiting += upstreams(stage)
    return [stage for stage in all_stages() if stage.name in wanted]


def with_downstream(name: str) -> list[Stage[Any, Any]]:
    """The named stage and all that read it, directly or not, in order."""
    wanted = {name}
    for stage in all_stages():
        if any(above.name in wanted for above in upstreams(stage)):
            wanted.add(stage.name)
    return [stage for stage in all_stages() if stage.name in wanted]
