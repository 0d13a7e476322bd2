"""What the simulator must know about an instrument: its tick and its anchor.

Everything is simulated in whole numbers: prices in ticks, sizes in lots of 0.01
contract. One lot times one tick is `1 / UNITS_PER_QUOTE` of quote currency for
every instrument below, so notionals are exact integers too ("units").
"""

from __future__ import annotations

from dataclasses import dataclass

LOTS_PER_CONTRACT = 100
UNITS_PER_QUOTE = 100_000
WHALE_UNITS = 100_000 * UNITS_PER_QUOTE


@dataclass(frozen=True, slots=True)
class Instrument:
    """Shape of one simulated instrument.

    Attributes:
        inst_id: OKX style name, also the folder's name.
        decimals: decimal places of the tick (1: tick 0.1).
        anchor_ticks: price the simulated days wander around. It divides
            `WHALE_UNITS`, so a trade of exactly 100 000 is possible at it.
    """

    inst_id: str
    decimals: int
    anchor_ticks: int

    def bps(self, value: float) -> int:
        """Return `value` basis points of the anchor price, in whole ticks."""
        return round(value * self.anchor_ticks / 10_000)

    def price_text(self, ticks: int) -> str:
        """Return a price as the exchange would write it."""
        scale: int = 10**self.decimals
        return f"{ticks // scale}.{ticks % scale:0{self.decimals}d}"

    def price(self, ticks: int) -> float:
        """Return a price in quote currency."""
        return float(self.price_text(ticks))

    def lots_worth(self, quote: float) -> int:
        """Return the lots that are worth `quote` at the anchor price."""
        return round(quote * UNITS_PER_QUOTE / self.anchor_ticks)


ETH = "ETH-USDT-SWAP"


def instrument(inst_id: str) -> Instrument:
    """Return the shape of `inst_id`; an unknown name trades like BTC-USDT-SWAP.

    BTC: contracts of 0.01 BTC, tick 0.1, around 62 500. ETH: contracts of
    0.1 ETH, tick 0.01, around 3 125.
    """
    if inst_id == ETH:
        return Instrument(inst_id, decimals=2, anchor_ticks=312_500)
    return Instrument(inst_id, decimals=1, anchor_ticks=625_000)
