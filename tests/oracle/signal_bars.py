"""What the signal layers share: tolerant comparisons, a bar's minutes, ATR, feeds and parameters.

An input is a list of committed rows and the time up to which it is complete. Comparisons leave
1e-12 of the larger side, and never less than 1e-12; sums are correctly rounded.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from .cells import MINUTE_US
from .layers import Row

TOLERANCE = 1e-12
TIMEFRAMES = {"5m": 5, "15m": 15, "30m": 30}
EVER = 2**62
HEADER = ("timestamp_utc", "instId", "exchange", "market")
Numbers = Sequence[float | None]


# -- comparisons and means ---------------------------------------------------------------


def above(a: float, b: float) -> bool:
    """A is greater than b by more than rounding may have made it."""
    return a - b > TOLERANCE * max(1.0, abs(a), abs(b))


def at_least(a: float, b: float) -> bool:
    """A is not below b."""
    return not above(b, a)


def equal(a: float, b: float) -> bool:
    """Neither is above the other."""
    return not above(a, b) and not above(b, a)


def sgn(x: float) -> int:
    """1, 0 or -1."""
    return above(x, 0.0) - above(0.0, x)


def clip(x: float, low: float, high: float) -> float:
    """Bounded to [low, high]."""
    return min(max(x, low), high)


def clip01(x: float) -> float:
    """Bounded to [0, 1]."""
    return clip(x, 0.0, 1.0)


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    found = [v for v in values if v is not None]
    return math.fsum(found) / len(found) if found else None


def last(values: Iterable[float | None]) -> float | None:
    """The last that is there."""
    found = [v for v in values if v is not None]
    return found[-1] if found else None


def median(values: Sequence[float]) -> float:
    """The middle one, or the mean of the middle two."""
    ordered, half = sorted(values), len(values) // 2
    if len(ordered) % 2:
        return ordered[half]
    return math.fsum((ordered[half - 1], ordered[half])) / 2


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation, ddof 0."""
    mu = math.fsum(values) / len(values)
    return mu, math.sqrt(math.fsum((v - mu) ** 2 for v in values) / len(values))


# -- feeds -------------------------------------------------------------------------------


def stamp_us(row: Row) -> int:
    """When a row's cell begins: `timestamp_utc` of JSONL, `ts` of Parquet."""
    at = row["ts"] if "ts" in row else datetime.fromisoformat(row["timestamp_utc"])
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + int(since.microseconds)


@dataclass(frozen=True)
class Feed:
    """Rows in the order of their time, and how far they are complete."""

    rows: Sequence[Row]
    complete_us: int = EVER

    @cached_property
    def stamps(self) -> list[int]:
        """When each row's cell begins."""
        return [stamp_us(row) for row in self.rows]

    def within(self, start: int, end: int) -> Sequence[Row]:
        """Rows stamped in [start, end)."""
        return self.rows[bisect_left(self.stamps, start) : bisect_left(self.stamps, end)]


@dataclass(frozen=True)
class Feeds:
    """The upstream rows of one instrument; None for what it has no raw data of.

    `bars` by timeframe ("5m", "15m", "30m").
    """

    bars: Mapping[str, Feed]
    footprint: Feed | None = None
    flow: Feed | None = None
    micro: Feed | None = None
    impact: Feed | None = None
    buckets: Feed | None = None
    open_interest: Feed | None = None


VCP_FEEDS = ("footprint", "micro", "buckets", "open_interest")
IPU_FEEDS = ("flow", "micro", "impact")


@dataclass(frozen=True)
class Bar:
    """One closed bar: its committed row, and when it was."""

    row: Row
    start: int
    end: int

    @property
    def open(self) -> float:
        """Its first price."""
        return float(self.row["open"])

    @property
    def high(self) -> float:
        """Its highest price."""
        return float(self.row["high"])

    @property
    def low(self) -> float:
        """Its lowest price."""
        return float(self.row["low"])

    @property
    def close(self) -> float:
        """Its last price."""
        return float(self.row["close"])

    @property
    def volume(self) -> float:
        """Base units traded."""
        return float(self.row["volume"])

    @property
    def delta(self) -> float:
        """Base units bought less sold."""
        return float(self.row["buy_volume"]) - float(self.row["sell_volume"])

    @property
    def range(self) -> float:
        """High less low."""
        return self.high - self.low

    @property
    def is_flat(self) -> bool:
        """Whether it has no range."""
        return equal(self.high, self.low)

    @property
    def way(self) -> int:
        """The sign of close less open."""
        return above(self.close, self.open) - above(self.open, self.close)

    def head(self) -> Row:
        """The first four keys of every row."""
        return {name: self.row[name] for name in HEADER}


def bars_of(feeds: Feeds, tf: str, names: Iterable[str]) -> list[Bar]:
    """The bars that every one of the named inputs, where there is one, has passed the end of."""
    waited = [feed for name in names if (feed := getattr(feeds, name)) is not None]
    length = TIMEFRAMES[tf] * MINUTE_US
    bars = []
    for row, start in zip(feeds.bars[tf].rows, feeds.bars[tf].stamps, strict=True):
        if any(feed.complete_us < start + length for feed in waited):
            break
        bars.append(Bar(row, start, start + length))
    return bars


def minute_values(feed: Feed | None, bar: Bar, column: str) -> Numbers:
    """A column of the rows of the bar's minutes."""
    return [] if feed is None else [row[column] for row in feed.within(bar.start, bar.end)]


def atr(bars: Sequence[Bar], period: int) -> Numbers:
    """Wilder's average true range, begun with the mean of the first ranges."""
    found: list[float | None] = []
    ranges: list[float] = []
    average: float | None = None
    for t, bar in enumerate(bars):
        true_range = bar.high - bar.low
        if t:
            before = bars[t - 1].close
            true_range = max(true_range, abs(bar.high - before), abs(bar.low - before))
        ranges.append(true_range)
        if average is not None:
            average = math.fsum(((period - 1) * average, true_range)) / period
        elif len(ranges) == period:
            average = math.fsum(ranges) / period
        found.append(average)
    return found


# -- parameters --------------------------------------------------------------------------


@dataclass(frozen=True)
class VcpParams:
    """Table [vcp]."""

    atr_period: int = 14
    oi_max_age_s: float = 3600.0
    lookback: int = 200
    vcp_min_bars: int = 20
    bins: int = 100
    profile_source: str = "auto"
    gauss_width: float = 0.3
    direction_tilt: float = 0.2
    sigma_peak: float = 1.5
    strength_sigmas: float = 4.0
    proximity_k: float = 3.0


@dataclass(frozen=True)
class IpuParams:
    """Table [ipu]."""

    atr_period: int = 14
    window: int = 100
    window_min: int = 20
    flow_deadband: float = 0.05
    slope_bars: int = 3
    slope_scale: float = 1.0
    drift_slope: float = 0.25
    acc_slope: float = 0.4
    acc_accel: float = 0.1
    trend_slope: float = 0.5
    exh_momentum: float = 0.8
    exh_volume: float = 0.7
    exh_wick: float = 0.4
    exh_count: int = 3
    exh_slope: float = 0.5
    exh_high: float = 0.9
    exh_step: float = 0.2
    exh_warning: float = 0.6
    x_vol: float = 0.65
    x_eff: float = 0.35
    x_flow: float = 0.6
    x_agree: float = 0.75
    x_slope: float = 0.5
    x_count: int = 4


@dataclass(frozen=True)
class SignalParams:
    """Table [signals]; `drift_slope` is the one of [ipu]."""

    drift_slope: float = 0.25
    near_atr: float = 0.5
    require_flow: bool = False
    exhausted: float = 0.9
    low_agreement: float = 0.5
    runway_min: float = 0.7
    bias_min: float = 0.3
    strong_min_inst: float = 0.0
    low_structure: float = 0.3
    high_inst: float = 0.5
    risk_per_trade: float = 100.0
    atr_multiplier: float = 1.5
    min_confidence: float = 0.6


@dataclass(frozen=True)
class MtfParams:
    """Table [signals_mtf]."""

    weights: tuple[float, float, float] = (0.40, 0.35, 0.25)
    mixed_size: float = 0.5


CALIBRATED_IPU: dict[str, Any] = {
    "slope_scale": 1.7320508075688772,
    "acc_slope": 0.8,
    "acc_accel": 0.35,
    "trend_slope": 0.8,
}
CALIBRATED_SIGNALS: dict[str, Any] = {
    "require_flow": True,
    "strong_min_inst": 0.15,
    "high_inst": 0.15,
}


@dataclass(frozen=True)
class Params:
    """The parameters of all four stages."""

    vcp: VcpParams = field(default_factory=VcpParams)
    ipu: IpuParams = field(default_factory=IpuParams)
    signals: SignalParams = field(default_factory=SignalParams)
    mtf: MtfParams = field(default_factory=MtfParams)


def params_of(tables: Mapping[str, Mapping[str, Any]] | None = None) -> Params:
    """The parameters of tables as in flowvault.toml; what is named there goes over a profile."""
    tables = tables or {}
    ipu, signals = dict(tables.get("ipu", {})), dict(tables.get("signals", {}))
    if ipu.pop("profile", None) == "calibrated":
        ipu = CALIBRATED_IPU | ipu
    if signals.pop("profile", None) == "calibrated":
        signals = CALIBRATED_SIGNALS | signals
    if "drift_slope" in ipu:
        signals.setdefault("drift_slope", ipu["drift_slope"])
    mtf = dict(tables.get("signals_mtf", {}))
    if "weights" in mtf:
        mtf["weights"] = tuple(mtf["weights"])
    return Params(
        replace(VcpParams(), **tables.get("vcp", {})),
        replace(IpuParams(), **ipu),
        replace(SignalParams(), **signals),
        replace(MtfParams(), **mtf),
    )
