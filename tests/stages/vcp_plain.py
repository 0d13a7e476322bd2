"""The rows of `vcp` by a plain reading of the rules: every profile from scratch, loops only."""

from __future__ import annotations

import bisect
import math
from itertools import pairwise
from typing import Any

import msgspec

from pipeline.calc.price_volume import Bar
from pipeline.stages.vcp import Params

from .tick_tape import MINUTE_US
from .vcp_tape import BANDS_BPS, Layers, Rows

NULLS: dict[str, Any] = dict.fromkeys(
    (
        "structural_bias",
        "support_score",
        "resistance_score",
        "runway_long",
        "runway_short",
        "runway_score",
        "vcp_combined",
    )
)


def more(a: float, b: float) -> bool:
    """a > b."""
    return a - b > 1e-12 * max(1, abs(a), abs(b))


def between(value: float, low: float, high: float) -> float:
    """The value, within bounds."""
    return max(low, min(high, value))


def plain_rows(layers: Layers, length: int, p: Params) -> list[dict[str, Any]]:
    """The rows of one layer."""
    span = length * MINUTE_US
    bars = [Bar(*row) for row in layers[f"bars_{length}m"]]
    rows = sorted(layers["footprint"])
    interest = [_interest(layers, bar.start + span, p) for bar in bars]
    found = []
    for t, (bar, atr) in enumerate(zip(bars, _averages(bars, p.atr_period), strict=True)):
        first = max(0, t + 1 - p.lookback)
        window = bars[first : t + 1]
        row: dict[str, Any] = {"at": bar.start, "clusters": [], **NULLS, "atr_14": atr}
        found.append(row)
        if len(window) < p.vcp_min_bars or atr is None:
            continue
        low, high = min(each.low for each in window), max(each.high for each in window)
        clusters = []
        if more(high, low):
            volume, signed = _profile(window, rows, span, p)
            base = [each for each in interest[first : t + 1] if each]
            now = interest[t]
            grown = between(now / base[0], 0.5, 1.5) if now is not None and base else None
            for k, strength in _tops(volume, p):
                price = low + (k + 0.5) * (high - low) / p.bins
                bias = signed[k] / volume[k]
                away = abs(price - bar.close) / atr
                ratio = _ratio(price, layers, bar.start, bar.start + span)
                ob = 0.5 if ratio is None else between(ratio, 0, 2) / 2
                score = strength * (0.5 + 0.5 * ob) * (1 if grown is None else grown) / 1.5
                score = between(score * math.exp(-away / p.proximity_k), 0, 1)
                values = {"price": price, "volume": volume[k], "strength": strength}
                values |= {"ofi_bias": bias, "ob_ratio": ratio, "oi_adj": grown}  # type: ignore[dict-item]
                values |= {"distance_atr": away, "score": score}
                clusters.append(values | {"difficulty": score * (0.5 + ob) / 1.5})
        row |= {"clusters": clusters, **_sums(clusters, bar.close)}
    return found


def _averages(bars: list[Bar], period: int) -> list[float | None]:
    ranges = [bars[0].high - bars[0].low] if bars else []
    for before, bar in pairwise(bars):
        ranges.append(max(bar.high, before.close) - min(bar.low, before.close))
    found: list[float | None] = []
    atr = math.fsum(ranges[:period]) / period
    for t, each in enumerate(ranges):
        atr = ((period - 1) * atr + each) / period if t >= period else atr
        found.append(atr if t >= period - 1 else None)
    return found


def _interest(layers: Layers, end: int, p: Params) -> float | None:
    """Open interest known at the end of a bar."""
    first = end - p.oi_max_age_s * 1_000_000
    rows = layers.get("open_interest_1m", ())
    known = [v for ts, v in rows if v is not None and first <= ts + MINUTE_US <= end]
    return known[-1] if known else None


def _profile(
    window: list[Bar], rows: Rows, span: int, p: Params
) -> tuple[list[float], list[float]]:
    low, high, n = min(b.low for b in window), max(b.high for b in window), p.bins

    def bin_of(price: float) -> int:
        return min(n - 1, max(0, math.floor((price - low) * n / (high - low) + 1e-9)))

    volume: list[list[float]] = [[] for _ in range(n)]
    signed: list[list[float]] = [[] for _ in range(n)]
    for bar in window:
        start = bisect.bisect_left(rows, (bar.start,))
        own = rows[start : bisect.bisect_left(rows, (bar.start + span,))]
        if own and p.profile_source == "auto":
            for _, price, bought, sold in own:
                volume[bin_of(price)] += [bought, sold]
                signed[bin_of(price)] += [bought, -sold]
            continue
        middle = (bar.high + bar.low + bar.close) / 3 if bar.vwap is None else bar.vwap
        centres = [low + (k + 0.5) * (high - low) / n for k in range(n)]
        weights = _weights(bar, centres, middle, p) or {bin_of(middle): 1.0}
        for k, weight in weights.items():
            share = weight / math.fsum(weights.values())
            volume[k].append(bar.volume * share)
            signed[k].append((bar.buy_volume - bar.sell_volume) * share)
    return [math.fsum(each) for each in volume], [math.fsum(each) for each in signed]


def _weights(bar: Bar, centres: list[float], middle: float, p: Params) -> dict[int, float]:
    extent = bar.high - bar.low
    lean = p.direction_tilt * ((bar.close > bar.open) - (bar.close < bar.open))
    found = {}
    for k, centre in enumerate(centres):
        if extent and not more(bar.low, centre) and not more(centre, bar.high):
            bell = math.exp(-(((centre - middle) / (p.gauss_width * extent)) ** 2) / 2)
            found[k] = bell * (1 + lean * between(2 * (centre - middle) / extent, -1, 1))
    return found


def _tops(volume: list[float], p: Params) -> list[tuple[int, float]]:
    """Bins of the peaks that are high enough, and how strong they are."""
    mean = math.fsum(volume) / p.bins
    sd = math.sqrt(math.fsum((each - mean) ** 2 for each in volume) / p.bins)
    found, k = [], 1
    while k < p.bins - 1:
        last = k
        while last < p.bins - 1 and not more(abs(volume[last + 1] - volume[k]), 0):
            last += 1
        middle = (k + last) // 2
        if (
            last < p.bins - 1
            and more(volume[k], volume[k - 1])
            and more(volume[k], volume[last + 1])
            and more(volume[middle], mean + p.sigma_peak * sd)
        ):
            found.append(
                (middle, between((volume[middle] - mean) / (p.strength_sigmas * sd), 0, 1))
            )
        k = last + 1
    return found


def _ratio(price: float, layers: Layers, start: int, end: int) -> float | None:
    own = [each for each in layers.get("buckets_1m", ()) if start <= each[0] < end]
    mid = dict(layers.get("micro_1m", ())).get(own[-1][0]) if own else None
    if mid is None:
        return None
    side = "bid_notional" if more(mid, price) else "ask_notional"
    amounts = [each[side] or 0.0 for each in msgspec.json.decode(own[-1][1])]
    edges = [0, *BANDS_BPS]
    x = 1e4 * abs(price - mid) / mid
    reach = max((edges[i + 1] for i in range(5) if amounts[i] > 0), default=0)
    for i in range(5):
        if (not i or more(x, edges[i])) and not more(x, edges[i + 1]) and edges[i + 1] <= reach:
            ratio: float = amounts[i] / (edges[i + 1] - edges[i]) * reach / math.fsum(amounts)
            return ratio
    return None


def _sums(clusters: list[dict[str, Any]], close: float) -> dict[str, float]:
    above = [each for each in clusters if each["price"] > close]
    below = [each for each in clusters if each["price"] < close]
    support = sum(each["score"] for each in below if more(each["ofi_bias"], 0))
    resistance = sum(each["score"] for each in above if more(0, each["ofi_bias"]))
    return {
        "structural_bias": (support - resistance) / (support + resistance + 1e-12),
        "support_score": support,
        "resistance_score": resistance,
        "runway_long": 1 / (1 + sum(each["difficulty"] for each in above)),
        "runway_short": 1 / (1 + sum(each["difficulty"] for each in below)),
        "runway_score": 1 / (1 + sum(each["difficulty"] for each in clusters)),
        "vcp_combined": 1 - math.exp(-sum(each["score"] for each in clusters)),
    }
