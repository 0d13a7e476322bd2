"""The page: a table of regressions, and what they do and do not say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Self

from pipeline.instrument import Instrument
from scripts.ofikit.line import LEAST, Line, fit
from scripts.ofikit.windows import Windows

_HEAD = (
    "recording",
    "began (UTC)",
    "OFI from",
    "Δt",
    "windows",
    "slope ± s.e.",
    "R² OFI",
    "R² trade imbalance",
)
_NUMERIC_FROM = 3

_INTRODUCTION = (
    "Cont, Kukanov and Stoikov (*The Price Impact of Order Book Events*, Journal of Financial "
    "Econometrics 12, 2014) find that the change of the mid price over a short time is close to a "
    "straight line in the order-flow imbalance (OFI) of that time. Here is that regression on "
    "recorded Binance and OKX feeds, from the layers that flowvault makes of them: "
    "`python scripts/ofi_report.py --captures DIR` makes this page again."
)

_METHOD = (
    "Each row is one least-squares line with intercept: change of the mid in ticks over a window "
    "of Δt, on the sum of OFI terms in it (base units; `flowvault layers flow` has the formula). "
    "*quotes*: every change of the best bid and offer (`quote` from `bookTicker`); *depth*: the "
    "book's best level after each depth message (`ofi_1` of `book_events`). The slope is in ticks "
    "per base unit, its standard error is Newey and West's with 4 (n/100)^(2/9) lags. Trade "
    "imbalance is the volume bought less that sold by takers in the same windows, from `trades`. "
    "Windows that touch a gap, or at whose ends the quote is more than 60 s old, are left out; a "
    "window in which nothing happened counts as no change."
)

_CONTEXT = (
    "For context, quoted from memory and not checked against the paper: 50 US stocks, TAQ, April "
    "2010, mean R² of 65 % for OFI and 32 % for trade imbalance at 10 s, fitted anew each half "
    "hour. Another market, another decade and another fit; no figure here is meant to meet it."
)

_TRANSCODED = ("okx/perps/BTC-USDT-SWAP", "okx/perps/ETH-USDT-SWAP")

_LIMITS = """
- The recordings last 6 to 11 minutes each, around midnight UTC of two days of one summer. They show
  that the layers carry the effect, not how strong it is in general.
- The regression is contemporaneous: OFI and price change are those of the same window. It explains
  a move that has happened and foretells nothing.
- Much of it is bookkeeping: when the best level is used up the price moves, and OFI counts that
  very size. A high R² is a property of the book, not an edge.
- Depth messages come every 50 to 100 ms. What happens in between is netted out, so their OFI misses
  orders that came and went, its slope is steeper, and its R² can be lower or higher.
- Trade imbalance leaves out what limit orders and cancellations do.
- The slope goes with 1 / (2 x size at the best price). It belongs to its instrument and its minutes
  and cannot be compared across them.
- With some 30 to 60 windows of 10 s, an R² is known to within ten or twenty points at best.
- The OKX swaps are Binance's feed of the same day written in OKX's form: they check the reader and
  are no second market, so the means leave them out.
""".strip()


@dataclass(frozen=True, slots=True)
class Found:
    """One regression, and that on trade imbalance; None where there are too few windows."""

    instrument: Instrument
    began_us: int
    source: str
    length_s: int
    count: int
    on_ofi: Line | None
    on_trades: Line | None

    @classmethod
    def of(
        cls,
        instrument: Instrument,
        began_us: int,
        source: str,
        length_s: int,
        windows: Windows,
        tick: float | None,
    ) -> Self:
        """Regress; an instrument whose tick nobody knows gets no line."""
        lines: list[Line | None] = [None, None]
        if tick is not None:
            ticks = windows.change / tick
            lines = [fit(windows.ofi, ticks), fit(windows.traded, ticks)]
        count = len(windows.change)
        return cls(instrument, began_us, source, length_s, count, lines[0], lines[1])

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        line, other = self.on_ofi, self.on_trades
        return (
            self.instrument.key,
            f"{self._began:%Y-%m-%d %H:%M}",
            self.source,
            f"{self.length_s} s",
            f"{self.count:,}",
            "" if line is None else f"{line.slope:.3g} ± {line.error:.2g}",
            "" if line is None else _percent(line.r2),
            "" if other is None else _percent(other.r2),
        )

    @property
    def _began(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.began_us / 1e6, tz=dt.UTC)


def page(found: Sequence[Found]) -> str:
    """The text of docs/ofi.md."""
    parts = [
        "# Order-flow imbalance and price changes in recorded feeds",
        _INTRODUCTION,
        _METHOD,
        _table([each for each in found if each.on_ofi is not None]),
        _means(found),
        _CONTEXT,
        "## What this does and does not say",
        _LIMITS,
    ]
    left_out = _left_out(found)
    if left_out:
        parts.insert(5, left_out)
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(found: Sequence[Found]) -> str:
    rule = ["---"] * _NUMERIC_FROM + ["---:"] * (len(_HEAD) - _NUMERIC_FROM)
    return "\n".join(_row(cells) for cells in (_HEAD, rule, *(each.cells for each in found)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _means(found: Sequence[Found]) -> str:
    """The unweighted mean of each kind of row, every feed once."""
    sentences = []
    for source, length in sorted({(each.source, each.length_s) for each in found}, reverse=True):
        own = [
            (each.on_ofi.r2, each.on_trades.r2)
            for each in found
            if (each.source, each.length_s) == (source, length)
            and each.on_ofi is not None
            and each.on_trades is not None
            and each.instrument.key not in _TRANSCODED
        ]
        if own:
            ofi, trades = (mean(column) for column in zip(*own, strict=True))
            sentences.append(
                f"{source} at {length} s {_percent(ofi)} for OFI and {_percent(trades)} for trade "
                f"imbalance ({len(own)} rows)"
            )
    return f"Mean R²: {'; '.join(sentences)}." if sentences else ""


def _left_out(found: Sequence[Found]) -> str:
    """The recordings that are too short."""
    short = [each for each in found if each.on_ofi is None]
    names = [
        f"{each.instrument.key} ({each.source}, {each.length_s} s: {each.count})" for each in short
    ]
    if not names:
        return ""
    return f"Left out for want of {LEAST} windows or of a known tick: {', '.join(names)}."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
