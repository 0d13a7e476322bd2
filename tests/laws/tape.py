"""Seeded days of a US equity tape: trades and quotes with all that goes wrong in them.

Plain Python on purpose, as `feedstock` is. New York days around the beginning of daylight saving
time: ordinary ones, one whose quotes stop, one without trades, one with a single trade, one without
quotes, and the beginning of a last one, so that all others can close.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.instrument import Instrument

from .feedstock import DIRT, Line, Mix, Stock

TAPE = Instrument("taq", "equities", "AIG")
FIRST = date(2024, 3, 6)
"""A Wednesday; on the Sunday behind it the clocks go forward."""

_NEW_YORK = ZoneInfo("America/New_York")
_SATURDAY = 5
_SESSION_MS, _HALF_HOUR_MS = 23_400_000, 1_800_000
_LETTERS = ("", "@", "@", "@F I", "@ T", "O", "@6 X", "Z", "@  M", "5", "@4 W")
_CONDITIONS = ("", "", "1", "20000020", "20", "20000020", "40", "2000", "4800", "20000200", "80")
_STOPS, _EMPTY, _SINGLE, _UNQUOTED = 1, 2, 3, 4


def make_tape(
    seed: int, trades: int, mix: Mix | None = None, days: int = 8, *, letters: bool = False
) -> Stock:
    """About `trades` trades and twice as many quotes, in a file a day and feed."""
    return _Tape(seed, trades, mix or Mix(), days, _LETTERS if letters else _CONDITIONS).stock


class _Tape:
    """Writes the days."""

    def __init__(
        self, seed: int, trades: int, mix: Mix, days: int, conditions: tuple[str, ...]
    ) -> None:
        self.rng = random.Random(f"tape/{seed}")
        self.mix, self.conditions = mix, conditions
        self.stock = Stock(TAPE)
        self.mid = 5000
        weekdays = (FIRST + timedelta(days=n) for n in range(2 * days))
        dates = [day for day in weekdays if day.weekday() < _SATURDAY][:days]
        for number, day in enumerate(dates):
            self.seq = 0
            is_last = number == days - 1
            count = {_EMPTY: 0, _SINGLE: 1}.get(number, 3 if is_last else trades // (days - 3))
            self.day(number, day, count, is_last=is_last)

    def day(self, number: int, day: date, trades: int, *, is_last: bool) -> None:
        """One day: from half an hour before the session to half an hour behind it."""
        rng = self.rng
        opens = datetime.combine(day, time(9, 30), _NEW_YORK).timestamp() * 1000
        name = day.isoformat()
        first, length = round(opens) - _HALF_HOUR_MS, _SESSION_MS + 2 * _HALF_HOUR_MS
        share = 0.04 if is_last else 1.0
        moments = sorted(first + round(rng.random() * length * share) for _ in range(3 * trades))
        for place, moment in enumerate(moments or [first + length // 2]):
            if place % 3 == 1 or (trades == 1 and place == 0):
                self.trade(moment, name)
            elif number != _UNQUOTED and not (
                number == _STOPS and moment > round(opens) + _SESSION_MS // 2
            ):
                self.quote(moment, name)

    def put(self, kind: str, name: str, line: Line) -> None:
        """Write a line with what may happen to it."""
        rng, mix = self.rng, self.mix
        days = self.stock.days if kind == "trades" else self.stock.others.setdefault(kind, {})
        lines = days.setdefault(name, [])
        end = b"\r\n" if rng.random() < mix.carriage else b"\n"
        lines.append(Line(line.data + end, line.kind, line.ts, line.number))
        if kind == "trades" and rng.random() < mix.duplicate:
            lines.append(Line(rng.choice(lines[-20:]).data, "duplicate", line.ts))
        if rng.random() < mix.dirt:
            body = line.data[: rng.randrange(1, len(line.data))]
            lines.append(Line(rng.choice((*DIRT, body, line.data * 2)) + end, "dirt", line.ts))

    def trade(self, moment: int, name: str) -> None:
        """A trade around the mid, at times corrected, late or from the future."""
        rng, mix = self.rng, self.mix
        luck, ts, kind = rng.random(), moment, "trade"
        if luck < mix.late:
            ts, kind = moment - rng.randrange(20_000, 400_000), "late"
        elif luck < mix.late + mix.future:
            ts, kind = moment + rng.randrange(301_000, 9_000_000), "future"
        elif luck < mix.late + mix.future + mix.jitter / 3:
            ts = moment - rng.randrange(1500)
        price = (self.mid + rng.choice((-2, -1, -0.5, 0, 0.5, 1, 2))) / 100
        shares = rng.choice((1, 50, 100, 100, 300, 4200, 10_000)) * mix.size_factor
        row: dict[str, Any] = {"ts": _text(ts), "seq": self.seq, "ex": rng.choice("NPQD")}
        half = 0.5 * mix.size_factor if rng.random() < 0.02 else 0
        row |= {"price": price, "size": shares + half}
        row |= {"cond": rng.choice(self.conditions), "corr": int(rng.random() < 0.03)}
        if rng.random() < 0.05:
            row = {key: row[key] for key in ("ts", "price", "size")}
        self.seq += 1
        self.put("trades", name, Line(json.dumps(row).encode(), kind, ts, self.seq))

    def quote(self, moment: int, name: str) -> None:
        """The best quote, at times locked, crossed, one-sided, late or from the future."""
        rng = self.rng
        self.mid = max(4900, min(5100, self.mid + rng.choice((-3, -1, 0, 0, 1, 3))))
        low, high = rng.choice(((-1, 1), (-1, 1), (-1, 1), (-2, 1), (0, 0), (1, -1)))
        ts = moment
        if rng.random() < self.mix.late:
            ts -= rng.randrange(400_000)
        if rng.random() < self.mix.future:
            ts += rng.randrange(290_000, 900_000)
        row: dict[str, Any] = {"ts": _text(ts), "seq": self.seq}
        row |= {"bid": (self.mid + low) / 100, "bid_size": 3}
        row |= {"ask": (self.mid + high) / 100, "ask_size": 1}
        luck = rng.random()
        if luck < 0.04:
            row |= {"bid": 0, "bid_size": 0}
        elif luck < 0.08:
            row |= {"ask": None}
        elif luck < 0.1:
            row |= {"ask_size": 0}
        self.put("quotes", name, Line(json.dumps(row).encode(), "quotes", ts))


def _text(ms: int) -> str:
    stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
