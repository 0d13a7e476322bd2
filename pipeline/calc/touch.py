"""Best bid and ask as columns of numbers, NaN for what is not known."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
import polars as pl

from pipeline.calc.standing import Flags, Floats, divided

COLUMNS = ("bid", "bid_size", "ask", "ask_size")


class Touch(NamedTuple):
    """Best prices and their sizes; a quote that was lost is NaN in all of them."""

    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Self:
        """The columns of a frame."""
        return cls(*(frame[name].to_numpy() for name in COLUMNS))

    @property
    def is_there(self) -> Flags:
        """Whether there is a quote; its sizes may be unknown."""
        return ~(np.isnan(self.bid) | np.isnan(self.ask))

    @property
    def mid(self) -> Floats:
        """(bid + ask) / 2."""
        return (self.bid + self.ask) / 2

    @property
    def weighted_mid(self) -> Floats:
        """The mid drawn to the side with less size: (qb x ask + qa x bid) / (qa + qb)."""
        top = self.bid_size * self.ask + self.ask_size * self.bid
        return divided(top, self.bid_size + self.ask_size)

    @property
    def spread_bps(self) -> Floats:
        """(ask - bid) / mid in bps."""
        return 1e4 * (self.ask - self.bid) / self.mid


def imbalance(bid: Floats, ask: Floats) -> Floats:
    """(bid - ask) / (bid + ask), NaN for 0/0."""
    return divided(bid - ask, bid + ask)
