"""Seeded lines in every trade format, their fields spelt well, oddly or wrongly."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.oracle.raw import Instrument

from .vaults import NOON


class Raw(str):
    """Text that stands in the line as it is, without quotes."""

    __slots__ = ()


Record = dict[str, Any]

# fmt: off
DECIMAL_TEXTS = ["1", "1.0", "100", "0.5", "10.00", "1e2", "1E-3", "+5", ".5", "5.", "00012.50",
                 "123456.789", "1.5e1", "1e0"]
DECIMAL_NUMBERS = ["1", "1.0", "100", "0.5", "10.00", "1e2", "1E-3", "123456.789", "1.5e+1"]
WRONG_TEXTS = ["", "-1", "0", "0.000", "abc", "1,000", "0x10", "1_0", "NaN", "Infinity", "--1",
               "1e", "e5", ".", "+", "1 2", "\u0661", "1.2.3", " 1", "1 ", "\t1", "-0", "1e-",
               "1d5", "1.e", "infinity", "nan", "1e+", "\u00bd"]
WRONG_RAW = ["-1", "0", "0.0", "true", "false", "null", "[]", "{}", '["1"]', "NaN", "-Infinity",
             "-0.0", "01", ".5", "5.", "+1", "0e5"]
WRONG_TIMES = ["", "soon", Raw("null"), Raw("true"), Raw("[]"), "2024-02-30T00:00:00Z",
               "2024-03-05T25:00:00Z", "2024-03-05T12:61:00Z", "12:00:00", "T"]
WRONG_IDS = ["", Raw("null"), Raw("true"), Raw("[1]"), Raw("{}")]
WRONG_SIDES = ["hold", "", Raw("null"), Raw("1"), Raw("true"), Raw("[]")]
NOTES = ["caf\u00e9 \U0001f600", 'a "quoted" \\ back', "\n nl", "ts", '","px":"9"', Raw("1e400"),
         Raw("[[]]"), Raw('{"a":[1,{"b":null}]}')]
# fmt: on


KEPT = ("type", "E", "ctVal")
"""Fields whose absence is another matter: not read, or looked up elsewhere."""


class Speller:
    """Writes records of one instrument, one after another."""

    def __init__(self, instrument: Instrument, seed: int) -> None:
        """Start at noon with id 1001."""
        self.instrument = instrument
        self.rng = random.Random(f"{seed} {instrument.exchange} {instrument.inst_id}")
        self.number = 0

    def line(self) -> bytes:
        """The next line with its end, sometimes an envelope of one or two records."""
        body = dump(self.rng, self.record())
        if self.instrument.exchange == "okx" and self.rng.random() < 0.4:
            if self.rng.random() < 0.3:
                body += "," + dump(self.rng, self.record())
            arg = f'{{"channel":"trades","instId":"{self.instrument.inst_id}"}}'
            body = f'{{"arg":{arg},"data":[{body}]}}'
        elif self.instrument.exchange == "binance" and self.rng.random() < 0.4:
            body = f'{{"stream":"x@trade","data":{body}}}'
        return (body + self.rng.choice(("\n", "\n", "\r\n"))).encode()

    def record(self) -> Record:
        """One record of the exchange's format; some lack a field, some have one more."""
        self.number += 1
        writers = {"okx": self.okx, "binance": self.binance, "coinbase": self.coinbase}
        record = writers.get(self.instrument.exchange, self.plain)()
        if self.rng.random() < 0.05:
            del record[self.rng.choice([k for k in record if k not in KEPT])]
        if self.rng.random() < 0.2:
            record["note"] = self.rng.choice(NOTES)
            items = list(record.items())
            self.rng.shuffle(items)
            record = dict(items)
        return record

    def okx(self) -> Record:
        """A websocket trade; a collector row where the contract size has to be carried."""
        if self.instrument.in_contracts and self.instrument.contract is None:
            row = {"timestamp_utc": self.iso(), "exchange": "okx", "market": "perp"}
            row |= {"instId": self.name(), "trade_id": self.identity(), "side": self.side()}
            row |= {"price": self.number_text(), "qty_contracts": self.number_text()}
            return row | {"ctVal": "0.1", "ctMult": "1", "ctType": "linear"}
        row = {"instId": self.name(), "tradeId": self.identity(), "px": self.number_text()}
        return row | {"sz": self.number_text(), "side": self.side(), "ts": self.millis()}

    def binance(self) -> Record:
        """A trade or an aggregated trade."""
        event, key = self.rng.choice((("trade", "t"), ("aggTrade", "a")))
        row = {"e": event, "E": 1, "s": self.name(), key: self.identity(), "p": self.number_text()}
        flag = Raw(self.rng.choice(("true", "false")))
        if self.rng.random() < 0.1:
            flag = self.rng.choice((Raw('"true"'), Raw("1"), Raw("null")))
        return row | {"q": self.number_text(), "T": self.millis(), "m": flag}

    def coinbase(self) -> Record:
        """A match or the last one before the subscription."""
        row = {"type": self.rng.choice(("match", "last_match")), "trade_id": self.identity()}
        row |= {"side": self.side(), "size": self.number_text(), "price": self.number_text()}
        return row | {"product_id": self.name(), "time": self.iso()}

    def plain(self) -> Record:
        """A record of the plain format."""
        stamp = self.rng.choice((self.iso, self.millis))()
        row = {"ts": stamp, "price": self.number_text(), "size": self.number_text()}
        return row | {"side": self.side(), "id": self.identity()}

    def number_text(self) -> str:
        """A price or size: four in five are good."""
        pools = ((0.5, DECIMAL_TEXTS, str), (0.8, DECIMAL_NUMBERS, Raw), (0.9, WRONG_TEXTS, str))
        draw = self.rng.random()
        for limit, pool, kind in pools:
            if draw < limit:
                return kind(self.rng.choice(pool))
        return Raw(self.rng.choice(WRONG_RAW))

    def identity(self) -> str:
        """The next id as text or number, sometimes no number, sometimes no id."""
        number = str(1000 + self.number)
        draw = self.rng.random()
        if draw < 0.9:
            return number if draw < 0.5 else Raw(number)
        return self.rng.choice([*WRONG_IDS, f"abc{number}", f"0{number}"])

    def side(self) -> str:
        """Who took."""
        good = self.rng.random() < 0.85
        return self.rng.choice(("buy", "sell")) if good else self.rng.choice(WRONG_SIDES)

    def name(self) -> str:
        """The instrument's name or another's."""
        if self.rng.random() < 0.96:
            return self.instrument.inst_id
        return self.rng.choice((self.instrument.inst_id.lower() + "x", "", Raw("null"), Raw("5")))

    def millis(self) -> str:
        """A time in milliseconds, fifty later with each record."""
        if self.rng.random() < 0.1:
            return self.rng.choice(WRONG_TIMES)
        stamp = str(int(NOON.timestamp() * 1000) + 50 * self.number)
        return stamp if self.rng.random() < 0.6 else Raw(stamp)

    def iso(self) -> str:
        """The same time in ISO 8601, to the second or finer."""
        if self.rng.random() < 0.1:
            return self.rng.choice(WRONG_TIMES)
        moment = (NOON + timedelta(milliseconds=50 * self.number)).astimezone(UTC)
        return iso_text(moment, self.rng)


def iso_text(moment: datetime, rng: random.Random) -> str:
    """One of the ways to write a moment."""
    millis = f".{moment.microsecond // 1000:03d}"
    fraction = rng.choice((millis, millis + "456", millis + "456999", ""))
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + rng.choice(("Z", "+00:00"))


def dump(rng: random.Random, record: Record) -> str:
    """JSON text with spaces here and there."""
    colon, comma = rng.choice((":", ": ", " : ")), rng.choice((",", ", "))
    values = {k: v if isinstance(v, Raw) else json.dumps(v) for k, v in record.items()}
    return "{" + comma.join(f"{json.dumps(k)}{colon}{v}" for k, v in values.items()) + "}"
