"""A row of `orderflow_1m` as one line that a trader would say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SAID: dict[tuple[str, str], Callable[[Any], str]] = {
    ("imbalance", "bullish"): lambda x: f"bids outweigh asks at the touch ({x:+.2f})",
    ("imbalance", "bearish"): lambda x: f"asks outweigh bids at the touch ({x:+.2f})",
    ("ofi_momentum", "bullish"): lambda x: f"the touch has filled up on the bid side ({x:+.2f})",
    ("ofi_momentum", "bearish"): lambda x: f"the touch has filled up on the ask side ({x:+.2f})",
    ("whale_trades", "bullish"): lambda x: f"whale buys outnumber whale sells by {x}",
    ("whale_trades", "bearish"): lambda x: f"whale sells outnumber whale buys by {-x}",
    ("vwap_deviation", "bullish"): lambda x: f"price is {abs(x):.2f} % below the session's VWAP",
    ("vwap_deviation", "bearish"): lambda x: f"price is {abs(x):.2f} % above the session's VWAP",
    ("depth_imbalance", "bullish"): lambda x: f"the book is deeper on the bid side ({x:+.2f})",
    ("depth_imbalance", "bearish"): lambda x: f"the book is deeper on the ask side ({x:+.2f})",
    ("buy_pressure", "bullish"): lambda x: f"buyers took {x:.0f} % of the volume",
    ("buy_pressure", "bearish"): lambda x: f"sellers took {100 - x:.0f} % of the volume",
    ("profile_bias", "bullish"): lambda _: "the session's profile leans up",
    ("profile_bias", "bearish"): lambda _: "the session's profile leans down",
}

_ABSENT = (
    (("imbalance", "ofi_momentum"), "sizes at the touch"),
    (("imbalance",), "imbalance at the touch"),
    (("ofi_momentum",), "OFI"),
    (("vwap_deviation", "buy_pressure", "whale_trades"), "trades"),
    (("vwap_deviation", "buy_pressure"), "trades"),
    (("whale_trades",), "whale count"),
    (("vwap_deviation",), "VWAP"),
    (("depth_imbalance",), "book"),
    (("buy_pressure",), "buy pressure"),
    (("profile_bias",), "session profile"),
)
"""What to call factors that are missing together; the first that fits is taken."""


def sentence(row: dict[str, Any]) -> str:
    """Tell a row: time, instrument, verdict, the reasons for it, those against it, what lacked.

    "21:34 BTC-USDT-SWAP LONG 0.55: bids outweigh asks at the touch (+0.31), ...; no book"
    """
    direction = row["direction"]
    score = f"{row['score']:+.2f}" if direction == "HOLD" else f"{row['strength']:.2f}"
    sides = ("bearish", "bullish") if row["score"] < 0 else ("bullish", "bearish")
    leading, other = (_reasons(row, side) for side in sides)
    parts = [leading or "nothing stands out"]
    parts += [f"against that, {other}"] if other else []
    parts += [", ".join(f"no {name}" for name in _absent(row["missing"]))] if row["missing"] else []
    clock = row["timestamp_utc"][11:16]
    return f"{clock} {row['instId']} {direction} {score}: {'; '.join(parts)}"


def _reasons(row: dict[str, Any], side: str) -> str:
    said = (
        _SAID[each["factor"], side](each["value"])
        for each in row["reasons"]
        if each["side"] == side
    )
    return ", ".join(said)


def _absent(missing: list[str]) -> list[str]:
    left, names = list(missing), []
    for factors, name in _ABSENT:
        if all(factor in left for factor in factors):
            left = [factor for factor in left if factor not in factors]
            names.append(name)
    return names
