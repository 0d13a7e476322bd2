"""Rows of the layers as the page needs them, a day at a time.

Nothing is calculated that a layer has: numbers go into the page as they stand in the rows. The one
exception are the bars of a volume profile, of which the layer names only the nodes: they are the
footprint's volumes added up in the profile's own bins, and they are left out where they do not add
up to the profile's total.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipeline.engine.within import EPOCH, Committed
from pipeline.report.columns import encode
from pipeline.report.histogram import histogram
from pipeline.stage import DAY_US, MINUTE_US

TIMEFRAMES = ("1m", "5m", "15m", "30m")
_BAR = (
    *("open", "high", "low", "close", "volume", "buy_volume", "sell_volume"),
    *("notional", "buy_notional", "sell_notional", "trades"),
    *("whale_trades", "whale_notional", "whale_buy_notional", "gaps"),
)
_BANDS = tuple(f"{side}_{k}" for k in (1, 2, 3) for side in ("upper", "lower"))
_PROFILE = ("poc", "vah", "val", "bias", "bias_strength", "position")
_WALL = ("wall", "young_wall", "wall_price", "wall_age_s")

COLUMNS: dict[str, tuple[str, ...]] = {
    **{f"bars_{tf}": _BAR for tf in TIMEFRAMES},
    "volume_1m": (
        *("total_volume", "delta", "price_change_pct", "volume_tier", "volume_ratio"),
        *("absorption", "absorption_side", "divergence", "divergence_type"),
    ),
    "cvd_1m": ("delta", "session_cvd", "cvd"),
    "vwap_1m": (
        *("session_vwap", "session_sd", *_BANDS),
        *("rolling_vwap_1h", "rolling_vwap_4h", "rolling_vwap_24h", "deviation_sd"),
    ),
    "profile_session": _PROFILE,
    "profile_24h": _PROFILE,
    "wicks_5m": (
        *("wick_high", "wick_low", "touched"),
        *("nearest_untouched_high", "nearest_untouched_low"),
    ),
    "extremes_30m": (
        *("session_high", "session_low", "high_tpo", "low_tpo"),
        *("poor_high", "poor_low", "unfinished_high", "unfinished_low"),
    ),
    "vpin": ("bucket", "bucket_volume", "buy_volume", "sell_volume", "vpin", "vpin_cdf", "level"),
    "impact_1m": ("kyle_lambda", "kyle_r2", "kyle_se", "amihud", "n"),
    "flow_1m": ("imbalance", "ofi", "ofi_norm", "ofi_momentum", "updates", "source"),
    "micro_1m": (
        *("mid", "spread_bps", "liquidity", "depth_imbalance", "bid_depth", "ask_depth"),
        *("impact_buy_bps_100k", "impact_sell_bps_100k"),
    ),
    "costs_1m": ("effective_spread_bps", "price_impact_bps"),
    "buckets_1m": (
        *(f"{side}_{name}" for side in ("bid", "ask") for name in _WALL),
        *("ask_imbalance", "bid_imbalance"),
    ),
    "orderflow_1m": ("direction", "score", "strength", "reasons", "missing"),
    "open_interest_1m": ("open_interest", "change_pct"),
    "liquidations_1m": ("long_liquidations", "short_liquidations"),
}
"""The columns of layers that go into the page whole."""

EVENTS = ("signals_5m", "signals_15m", "signals_30m", "signals_mtf", "confluence_1m")
"""Layers of which only the rows that say something go into the page."""

HOLES = ("gaps", "book_gaps")
DRAWN = (*COLUMNS, *EVENTS, *HOLES)
"""Every layer that the page reads (and `footprint`, for the bars of the profiles)."""

_NOTHING = "NO_SIGNAL"
_NUMBERS_AS_TEXT = ("total_volume", "delta", "price_change_pct")
_PROFILE_US = {"profile_session": 0, "profile_24h": DAY_US}


@dataclass(frozen=True, slots=True)
class Span:
    """From when to before when, microseconds; whole seconds."""

    low_us: int
    high_us: int

    def days(self) -> list[Span]:
        """The span cut at every midnight UTC."""
        first, last = self.low_us // DAY_US, -(-self.high_us // DAY_US)
        edges = [max(self.low_us, n * DAY_US) for n in range(first, last)]
        return [Span(a, min((a // DAY_US + 1) * DAY_US, self.high_us)) for a in edges]

    @classmethod
    def of_day(cls, day: str) -> Span:
        """A whole UTC day, `2025-12-14`."""
        low = us_of(f"{day}T00:00:00Z")
        return cls(low, low + DAY_US)

    @property
    def day(self) -> str:
        """The UTC day of its beginning, `2025-12-14`."""
        return (EPOCH + timedelta(microseconds=self.low_us)).strftime("%Y-%m-%d")


def gather(committed: Committed, span: Span) -> dict[str, Any]:
    """What the page needs of one UTC day, or of a part of it.

    Returns:
        JSON with, besides the columns of each layer (`at`: milliseconds since midnight), the last
        row of each profile with its bars, untouched wicks of the first and the last row, signals,
        matches of rules, and holes in the feeds. Layers without a row in the span are left out.

    Raises:
        StateError: what is committed cannot be read.
    """
    rows = {name: committed.rows(name, span.low_us, span.high_us) for name in COLUMNS}
    midnight = span.low_us // DAY_US * DAY_US
    found = {name: _columns(name, own, midnight) for name, own in rows.items() if own}
    profiles = {
        name: _profile(committed, rows[name][-1], back)
        for name, back in _PROFILE_US.items()
        if rows[name]
    }
    return {
        "day": span.day,
        "low": span.low_us // 1_000_000,
        "high": span.high_us // 1_000_000,
        "layers": found,
        "profiles": profiles,
        "wicks": [_untouched(row) for row in rows["wicks_5m"][:1] + rows["wicks_5m"][-1:]],
        **_events(committed, span),
        "holes": {name: committed.rows(name, span.low_us, span.high_us) for name in HOLES},
    }


def _columns(name: str, rows: list[dict[str, Any]], midnight: int) -> dict[str, Any]:
    """The rows of a layer by column."""
    at = [(us_of(row["timestamp_utc"]) - midnight) // 1000 for row in rows]
    columns = {"at": encode(at)}
    for column in COLUMNS[name]:
        values = [row[column] for row in rows]
        if name == "volume_1m" and column in _NUMBERS_AS_TEXT:
            values = [float(value) for value in values]
        columns[column] = encode(values)
    if name == "vwap_1m" and all(_is_by_sd(row) for row in rows):
        for band in _BANDS:
            del columns[band]
    return columns


def _is_by_sd(row: dict[str, Any]) -> bool:
    """Whether the bands are the very numbers that the page gets from the mean and its deviation."""
    mean, sd = row["session_vwap"], row["session_sd"]
    return all(
        row[f"upper_{k}"] == mean + k * sd and row[f"lower_{k}"] == mean - k * sd for k in (1, 2, 3)
    )


def _events(committed: Committed, span: Span) -> dict[str, Any]:
    """Rows that say something, without the keys that all rows share."""
    low, high = span.low_us, span.high_us
    signals, counts = {}, {}
    for tf in TIMEFRAMES[1:]:
        rows = committed.rows(f"signals_{tf}", low, high)
        counts[f"signals_{tf}"] = len(rows)
        signals[tf] = [_bare(row) for row in rows if row["signal"] != _NOTHING]
    longer = committed.rows("signals_mtf", low, high)
    counts["signals_mtf"] = len(longer)
    rules = committed.rows("confluence_1m", low, high, only=b'"matched":true')
    return {
        "signals": signals,
        "mtf": [_bare(row) for row in longer if row["signal"] != _NOTHING],
        "rules": [_bare(row) for row in rules],
        "counts": counts,
    }


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.items()
        if name not in ("instId", "exchange", "market", "matched")
    }


def _untouched(row: dict[str, Any]) -> dict[str, Any]:
    names = ("timestamp_utc", "untouched_highs", "untouched_lows")
    return {name: row[name] for name in names}


def _profile(committed: Committed, row: dict[str, Any], back_us: int) -> dict[str, Any]:
    """The last row of a profile, with the volume of buyers and of sellers in each of its bins."""
    end = us_of(row["timestamp_utc"]) + 5 * MINUTE_US
    low = end - back_us if back_us else (end - 1) // DAY_US * DAY_US
    state = committed.state_of("profile_session")
    bins = int(state.params["bins"]) if state is not None else 1
    frame = committed.frame("footprint", ["price", "buy_volume", "sell_volume"], low, end)
    return {**_bare(row), "bins": histogram(frame, row, bins)}


def us_of(text: str) -> int:
    """A row's time in microseconds since 1970."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)
