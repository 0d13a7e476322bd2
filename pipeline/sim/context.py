"""The feeds beside a simulated market: open interest, liquidations, long/short ratio, transfers.

They tell of the same setups as the market: takers pile in, open interest rises, one side is
crowded and the other liquidated, and in the hour before coins came to exchanges (or left them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.instrument import coin_of
from pipeline.sim.activity import DAY_MS, MINUTE_MS
from pipeline.sim.events import DAY_MINUTES, SETUP_AT
from pipeline.sim.instrument import LOTS_PER_CONTRACT, UNITS_PER_QUOTE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pipeline.sim.events import Event
    from pipeline.sim.instrument import Instrument

KINDS = ("open_interest", "liquidations", "ratio", "whale_alerts")

_TELLS_MS = 20_000
_TELLS_A_MINUTE = MINUTE_MS // _TELLS_MS
_TELL_JITTER_MS = 5000
_INTEREST_QUOTE = 2e9
_INTEREST_SD = 0.000_08
_INTEREST_RISE = 0.004
_RATIO_LOG, _RATIO_SD, _RATIO_MEMORY = 0.1, 0.03, 0.95
_CROWDED_LOG = 1.1
_CROWDED_MINUTES = (5, 3)  # before and behind the setup's minute
_LIQUIDATIONS_QUOTE = 40_000.0
_LIQUIDATED_SHARE = 0.3  # of minutes, on either side
_LIQUIDATED_QUOTE = (2e6, 2e6)
_POLL_S = 5
_TRANSFERS_AN_HOUR = 7
_TRANSFER_QUOTE = (1e6, 1.2)
_SETUP_TRANSFERS = 6
_SETUP_TRANSFER_QUOTE = (3e7, 6e7)
_HOUR_S = 3600


@dataclass(slots=True)
class ContextCarry:
    """What one day hands to the next: open interest in contracts, the log ratio, transfers told."""

    interest: float
    ratio_log: float = _RATIO_LOG
    transfers: int = 0

    @classmethod
    def of(cls, facts: Instrument) -> ContextCarry:
        """The beginning."""
        return cls(facts.lots_worth(_INTEREST_QUOTE) / LOTS_PER_CONTRACT)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer on chain: second of the day, its number, dollars, and which ends are exchanges."""

    second: int
    number: int
    dollars: int
    is_from: bool
    is_to: bool


@dataclass(frozen=True, slots=True)
class Context:
    """One day of the feeds.

    Attributes:
        told_ms: when open interest is told, ms of the day.
        interest: contracts at these times.
        longs: share of accounts that are long, per cent, by minute.
        liquidated: contracts of longs and of shorts, by minute.
        transfers: in order of time.
    """

    told_ms: NDArray[np.int64]
    interest: NDArray[np.int64]
    longs: NDArray[np.float64]
    liquidated: NDArray[np.int64]
    transfers: list[Transfer]

    def told(self, minute: int) -> dict[str, Any]:
        """What the feeds say of a minute, and transfers of the whole hour before."""
        last = int(np.searchsorted(self.told_ms, (minute + 1) * MINUTE_MS)) - 1
        before = int(np.searchsorted(self.told_ms, minute * MINUTE_MS)) - 1
        longs, shorts = (int(side[minute]) for side in self.liquidated)
        hour = minute * 60 // _HOUR_S - 1
        moved = [each for each in self.transfers if each.second // _HOUR_S == hour]
        inflow = sum(each.dollars for each in moved if each.is_to)
        return {
            "open_interest_change_pct": round(
                100 * (int(self.interest[last]) / int(self.interest[before]) - 1), 6
            ),
            "long_pct": float(self.longs[minute]),
            "long_liquidations": longs,
            "short_liquidations": shorts,
            "exchange_net_usd": inflow - sum(each.dollars for each in moved if each.is_from),
        }


def draw_day(
    rng: np.random.Generator, facts: Instrument, events: list[Event], carry: ContextCarry
) -> Context:
    """Draw one whole day and move `carry` on."""
    setups = [(event.minute + SETUP_AT, event) for event in events if event.name == "setup"]
    tells = DAY_MINUTES * _TELLS_A_MINUTE
    told = np.arange(tells, dtype=np.int64) * _TELLS_MS + rng.integers(0, _TELL_JITTER_MS, tells)
    change = _INTEREST_SD * rng.standard_normal(tells)
    logs = _wander(rng, carry.ratio_log)
    typical = facts.lots_worth(_LIQUIDATIONS_QUOTE) / LOTS_PER_CONTRACT
    size = rng.exponential(typical, (2, DAY_MINUTES))
    is_hit = rng.random((2, DAY_MINUTES)) < _LIQUIDATED_SHARE
    liquidated = np.where(is_hit, np.ceil(size), 0).astype(np.int64)
    lean = np.zeros(DAY_MINUTES)
    for minute, event in setups:
        change[minute * _TELLS_A_MINUTE : (minute + 1) * _TELLS_A_MINUTE] += (
            _INTEREST_RISE / _TELLS_A_MINUTE
        )
        before, behind = _CROWDED_MINUTES
        lean[minute - before : minute + behind] = event.direction * _CROWDED_LOG
        low, extra = _LIQUIDATED_QUOTE
        # a rise to its level closes shorts by force, a fall longs
        forced = facts.lots_worth(low + extra * event.strength) // LOTS_PER_CONTRACT
        liquidated[:, minute] = (0, forced) if event.direction > 0 else (forced, 0)
    transfers = _transfers(rng, setups, carry.transfers)
    interest = carry.interest * np.exp(np.cumsum(change))
    longs = np.round(100 / (1 + np.exp(-(logs + lean))), 2)
    carry.interest, carry.ratio_log = float(interest[-1]), float(logs[-1])
    carry.transfers += len(transfers)
    return Context(told, np.rint(interest).astype(np.int64), longs, liquidated, transfers)


def _wander(rng: np.random.Generator, start: float) -> NDArray[np.float64]:
    """The log of longs over shorts by minute, drawn back to its usual value."""
    found, now = [], start
    for kick in (_RATIO_SD * rng.standard_normal(DAY_MINUTES)).tolist():
        now = _RATIO_LOG + _RATIO_MEMORY * (now - _RATIO_LOG) + kick
        found.append(now)
    return np.array(found)


def _transfers(
    rng: np.random.Generator, setups: list[tuple[int, Event]], number: int
) -> list[Transfer]:
    """Transfers of all kinds, and of the setups those that are behind their sellers or buyers."""
    drawn: list[tuple[int, float, bool, bool]] = []
    median, sigma = _TRANSFER_QUOTE
    for hour in range(DAY_MS // MINUTE_MS // 60):
        for _ in range(int(rng.poisson(_TRANSFERS_AN_HOUR)) + 1):
            second = hour * _HOUR_S + int(rng.integers(_HOUR_S))
            dollars = median * math.exp(sigma * float(rng.standard_normal()))
            is_from, is_to = (rng.random(2) < 0.4).tolist()
            drawn.append((second, dollars, is_from, is_to))
    for minute, event in setups:
        first = minute * 60 // _HOUR_S * _HOUR_S - _HOUR_S
        for _ in range(_SETUP_TRANSFERS):
            second = first + int(rng.integers(_HOUR_S))
            dollars = float(rng.uniform(*_SETUP_TRANSFER_QUOTE))
            drawn.append((second, dollars, event.direction < 0, event.direction > 0))
    return [
        Transfer(second, number + at, round(dollars), is_from, is_to)
        for at, (second, dollars, is_from, is_to) in enumerate(sorted(drawn))
    ]


class ContextLines:
    """Turns a day's feeds into records as OKX, Coinalyze and Whale Alert write them."""

    def __init__(self, facts: Instrument, midnight_ms: int, context: Context) -> None:
        self._facts = facts
        self._midnight_ms = midnight_ms
        self._context = context
        self._coin = coin_of(facts.inst_id)
        # what a contract is worth in coins, so that a lot times a tick is a unit
        self._coins = LOTS_PER_CONTRACT * 10**facts.decimals / UNITS_PER_QUOTE

    def texts(self, kind: str, stop_ms: int) -> Iterator[bytes]:
        """Yield the lines of a feed up to a time of the day."""
        rows = {
            "open_interest": self._interest,
            "liquidations": self._liquidations,
            "ratio": self._ratio,
            "whale_alerts": self._whales,
        }[kind]()
        encode = msgspec.json.Encoder().encode
        for told_ms, row in rows:
            if told_ms >= stop_ms:
                return
            yield encode(row) + b"\n"

    def _interest(self) -> Iterator[tuple[int, dict[str, Any]]]:
        name = self._facts.inst_id
        head = {"channel": "open-interest", "instId": name}
        pairs = zip(self._context.told_ms.tolist(), self._context.interest.tolist(), strict=True)
        for told_ms, contracts in pairs:
            data = {
                "instId": name,
                "instType": "SWAP",
                "oi": str(contracts),
                "oiCcy": f"{contracts * self._coins:.2f}",
                "ts": str(self._midnight_ms + told_ms),
            }
            yield told_ms, {"arg": head, "data": [data]}

    def _polls(
        self, bars: list[dict[str, float]], begun: list[dict[str, float]]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every minute's answer: the bar that is over, and what there is of the next."""
        first_s = self._midnight_ms // 1000
        symbol = f"{self._coin}USDT_PERP.A"
        for minute, bar in enumerate(begun):
            history = [{"t": first_s + 60 * minute} | bar]
            if minute:
                history = [{"t": first_s + 60 * (minute - 1)} | bars[minute - 1], *history]
            told_ms = minute * MINUTE_MS + _POLL_S * 1000
            yield told_ms, {"symbol": symbol, "history": history}

    def _liquidations(self) -> Iterator[tuple[int, dict[str, Any]]]:
        pairs = list(zip(*self._context.liquidated.tolist(), strict=True))
        begun = [{"l": a // 8, "s": b // 8} for a, b in pairs]
        yield from self._polls([{"l": a, "s": b} for a, b in pairs], begun)

    def _ratio(self) -> Iterator[tuple[int, dict[str, Any]]]:
        pairs = [(share, round(100 - share, 2)) for share in self._context.longs.tolist()]
        bars = [{"r": round(a / b, 4), "l": a, "s": b} for a, b in pairs]
        yield from self._polls(bars, bars[:1] + bars[:-1])

    def _whales(self) -> Iterator[tuple[int, dict[str, Any]]]:
        price = self._facts.price(self._facts.anchor_ticks)
        for each in self._context.transfers:
            parties = [
                {"owner_type": "exchange", "owner": "simulated"}
                if is_exchange
                else {"owner_type": "unknown"}
                for is_exchange in (each.is_from, each.is_to)
            ]
            yield (
                each.second * 1000,
                {
                    "blockchain": "simulated",
                    "symbol": self._coin.lower(),
                    "id": str(each.number + 1),
                    "transaction_type": "transfer",
                    "from": parties[0],
                    "to": parties[1],
                    "timestamp": self._midnight_ms // 1000 + each.second,
                    "amount": round(each.dollars / price, 4),
                    "amount_usd": each.dollars,
                },
            )
