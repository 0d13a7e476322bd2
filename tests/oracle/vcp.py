"""Rows of `vcp_{5m,15m,30m}`: peaks of the volume profile of the last bars, weighed.

One bar, one bin, one cluster at a time; every sum is math.fsum of all that goes into it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .layers import Row
from .signal_bars import (
    VCP_FEEDS,
    Bar,
    Feed,
    Feeds,
    VcpParams,
    above,
    at_least,
    atr,
    bars_of,
    clip,
    clip01,
    equal,
    spread,
    stamp_us,
)

MINUTE_US = 60_000_000
FIGURES = (
    "structural_bias",
    "support_score",
    "resistance_score",
    "runway_long",
    "runway_short",
    "runway_score",
    "vcp_combined",
)
NOTHING = 1e-12
NUDGE = 1e-9


def vcp_rows(feeds: Feeds, tf: str, params: VcpParams) -> list[Row]:
    """A row at each bar that trades, book and open interest have passed."""
    bars = bars_of(feeds, tf, VCP_FEEDS)
    averages = atr(bars, params.atr_period)
    prints = [prints_of(feeds.footprint, bar) for bar in bars]
    interest = [open_interest_at(feeds.open_interest, bar, params) for bar in bars]
    rows = []
    for t, (bar, average) in enumerate(zip(bars, averages, strict=True)):
        first = max(0, t + 1 - params.lookback)
        columns: Row
        if t + 1 - first < params.vcp_min_bars or average is None:
            columns = {"clusters": [], **dict.fromkeys(FIGURES)}
        else:
            window = slice(first, t + 1)
            profile = profile_of(bars[window], prints[window], params)
            ratio = interest_ratio(interest[window])
            book = book_at(feeds, bar)
            clusters = (
                []
                if profile is None
                else [
                    cluster_of(profile, peak, bar.close, average, book, ratio, params)
                    for peak in peaks_of(profile.volumes, params)
                ]
            )
            columns = {"clusters": clusters, **figures_of(clusters, bar.close)}
        rows.append(bar.head() | columns | {"atr_14": average})
    return rows


# -- profile -----------------------------------------------------------------------------


Prints = list[tuple[float, float, float]]
"""Price, volume bought, volume sold."""


def prints_of(feed: Feed | None, bar: Bar) -> Prints:
    """The footprint rows of a bar's minutes."""
    rows = [] if feed is None else feed.within(bar.start, bar.end)
    return [(r["price"], r["buy_volume"], r["sell_volume"]) for r in rows]


@dataclass(frozen=True)
class Grid:
    """Equal bins over [low, high]."""

    low: float
    high: float
    bins: int

    def bin_of(self, price: float) -> int:
        """The bin a price falls into; beyond the ends the outermost."""
        place = (price - self.low) * self.bins / (self.high - self.low) + NUDGE
        return max(0, min(self.bins - 1, math.floor(place)))

    def centre(self, k: int) -> float:
        """The middle of a bin."""
        return self.low + (k + 0.5) * ((self.high - self.low) / self.bins)


@dataclass(frozen=True)
class Profile:
    """Volume, and bought less sold, by bin."""

    grid: Grid
    volumes: list[float]
    signed: list[float]


def profile_of(bars: Sequence[Bar], prints: Sequence[Prints], params: VcpParams) -> Profile | None:
    """The profile of a window; None where it has no height."""
    low, high = min(b.low for b in bars), max(b.high for b in bars)
    if equal(high, low):
        return None
    grid = Grid(low, high, params.bins)
    volumes: list[list[float]] = [[] for _ in range(params.bins)]
    signed: list[list[float]] = [[] for _ in range(params.bins)]
    for bar, rows in zip(bars, prints, strict=True):
        if rows and params.profile_source != "gaussian":
            for price, buy, sell in rows:
                k = grid.bin_of(price)
                volumes[k] += (buy, sell)
                signed[k] += (buy, -sell)
        else:
            for k, share in shares_of(bar, grid, params).items():
                volumes[k].append(bar.volume * share)
                signed[k].append(bar.delta * share)
    return Profile(grid, [math.fsum(v) for v in volumes], [math.fsum(s) for s in signed])


def shares_of(bar: Bar, grid: Grid, params: VcpParams) -> dict[int, float]:
    """How a bar's volume is spread over the bins it passed: a bell about its average price."""
    vwap = bar.row["vwap"]
    about = math.fsum((bar.high, bar.low, bar.close)) / 3 if vwap is None else float(vwap)
    weights: dict[int, float] = {}
    if not bar.is_flat:
        for k in range(grid.bins):
            price = grid.centre(k)
            if at_least(price, bar.low) and at_least(bar.high, price):
                away = (price - about) / (params.gauss_width * bar.range)
                lean = clip(2 * (price - about) / bar.range, -1.0, 1.0)
                tilt = 1 + params.direction_tilt * bar.way * lean
                weights[k] = math.exp(-0.5 * away**2) * tilt
    if not weights:
        return {grid.bin_of(about): 1.0}
    total = math.fsum(weights.values())
    return {k: weight / total for k, weight in weights.items()}


def peaks_of(volumes: Sequence[float], params: VcpParams) -> list[int]:
    """Bins that stand out over both neighbours; the middle of a plateau, the lower of two."""
    mu, sigma = spread(volumes)
    if equal(sigma, 0.0):
        return []
    limit = mu + params.sigma_peak * sigma
    peaks = []
    start = 0
    while start < len(volumes):
        end = start
        while end + 1 < len(volumes) and equal(volumes[end + 1], volumes[start]):
            end += 1
        if (
            start > 0
            and end < len(volumes) - 1
            and above(volumes[start], volumes[start - 1])
            and above(volumes[end], volumes[end + 1])
            and above(volumes[start], limit)
        ):
            peaks.append((start + end) // 2)
        start = end + 1
    return peaks


# -- book and open interest --------------------------------------------------------------


@dataclass(frozen=True)
class Book:
    """A mid, and what stands in bands of distance from it."""

    mid: float
    bands: Sequence[Row]

    def ratio(self, price: float) -> float | None:
        """How dense the book is at a price against the whole of what the feed shows."""
        side = "ask_notional" if at_least(price, self.mid) else "bid_notional"
        away = 1e4 * abs(price - self.mid) / self.mid
        notionals = [band[side] or 0.0 for band in self.bands]
        edges = [0.0, *(float(band["bps"]) for band in self.bands)]
        filled = [k for k, notional in enumerate(notionals) if above(notional, 0.0)]
        if not filled or above(away, edges[filled[-1] + 1]):
            return None
        known = filled[-1] + 1
        here = next(k for k in range(known) if at_least(edges[k + 1], away))
        density = notionals[here] / (edges[here + 1] - edges[here])
        return density / (math.fsum(notionals[:known]) / edges[known])


def book_at(feeds: Feeds, bar: Bar) -> Book | None:
    """The bar's latest bands with the mid of their minute."""
    if feeds.buckets is None or feeds.micro is None:
        return None
    rows = feeds.buckets.within(bar.start, bar.end)
    if not rows or rows[-1]["bands"] is None:
        return None
    minute = stamp_us(rows[-1])
    mid = [row["mid"] for row in feeds.micro.within(minute, minute + MINUTE_US)]
    return None if not mid or mid[-1] is None else Book(mid[-1], rows[-1]["bands"])


def open_interest_at(feed: Feed | None, bar: Bar, params: VcpParams) -> float | None:
    """The latest that was known by the bar's end and is not too old."""
    if feed is None:
        return None
    last_start = bar.end - MINUTE_US
    oldest = last_start - round(params.oi_max_age_s * 1_000_000)
    found = [row["open_interest"] for row in feed.within(oldest, last_start + 1)]
    return next((value for value in reversed(found) if value is not None), None)


def interest_ratio(values: Sequence[float | None]) -> float | None:
    """Open interest now against the first bar of the window that had any."""
    first = next((v for v in values if v is not None and above(v, 0.0)), None)
    if first is None or values[-1] is None:
        return None
    return clip(values[-1] / first, 0.5, 1.5)


# -- clusters ----------------------------------------------------------------------------


def cluster_of(
    profile: Profile,
    k: int,
    close: float,
    average: float,
    book: Book | None,
    oi_adj: float | None,
    params: VcpParams,
) -> Row:
    """One peak, weighed by its size, the book, open interest and how near it is."""
    mu, sigma = spread(profile.volumes)
    price, volume = profile.grid.centre(k), profile.volumes[k]
    strength = clip01((volume - mu) / (params.strength_sigmas * sigma))
    ob_ratio = None if book is None else book.ratio(price)
    ob = 0.5 if ob_ratio is None else clip(ob_ratio, 0.0, 2.0) / 2
    distance = abs(price - close) / average
    near = math.exp(-distance / params.proximity_k)
    interest = 1.0 if oi_adj is None else oi_adj
    score = clip01(strength * (0.5 + 0.5 * ob) * interest / 1.5 * near)
    return {
        "price": price,
        "volume": volume,
        "strength": strength,
        "ofi_bias": profile.signed[k] / volume,
        "ob_ratio": ob_ratio,
        "oi_adj": oi_adj,
        "distance_atr": distance,
        "score": score,
        "difficulty": score * (0.5 + ob) / 1.5,
    }


def supports(clusters: Sequence[Row], close: float) -> list[Row]:
    """Those below, where buyers took."""
    return [c for c in clusters if above(close, c["price"]) and above(c["ofi_bias"], 0.0)]


def resistances(clusters: Sequence[Row], close: float) -> list[Row]:
    """Those overhead, where sellers took."""
    return [c for c in clusters if above(c["price"], close) and above(0.0, c["ofi_bias"])]


def figures_of(clusters: Sequence[Row], close: float) -> Row:
    """What all clusters come to."""
    support = math.fsum(c["score"] for c in supports(clusters, close))
    resistance = math.fsum(c["score"] for c in resistances(clusters, close))
    over = [c for c in clusters if above(c["price"], close)]
    under = [c for c in clusters if above(close, c["price"])]
    return {
        "structural_bias": (support - resistance) / (support + resistance + NOTHING),
        "support_score": support,
        "resistance_score": resistance,
        "runway_long": runway(over),
        "runway_short": runway(under),
        "runway_score": runway(clusters),
        "vcp_combined": 1 - math.exp(-math.fsum(c["score"] for c in clusters)),
    }


def runway(clusters: Sequence[Row]) -> float:
    """One where nothing stands in the way."""
    return 1 / (1 + math.fsum(c["difficulty"] for c in clusters))
