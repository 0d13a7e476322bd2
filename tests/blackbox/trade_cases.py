"""Invented instruments for the trade layers, each with something rare in it.

A case is a list of trades in file order and, where it has one, its tick. All
are seeded; `test_trade_layers.py` also checks that each holds what it is for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tests.oracle.fold import Judge
from tests.oracle.raw import Contract, Instrument, read_folder

from .vaults import okx_line, plain_line, write_raw

DAY_ONE = datetime(2024, 3, 5, tzinfo=UTC)
HOUR, DAY = 3600.0, 86400.0
Tick = tuple[float, str, str, str]
"""Seconds after the midnight that begins 2024-03-05, price, size, side."""


@dataclass(frozen=True)
class Case:
    """One instrument's trades."""

    instrument: Instrument
    ticks: list[Tick]
    tick: str | None = None
    lateness_ms: int = 0

    @property
    def name(self) -> str:
        """The test id."""
        return self.instrument.inst_id

    @property
    def published_tick(self) -> Decimal | None:
        """The tick of `instruments.toml`."""
        return None if self.tick is None else Decimal(self.tick)

    def line(self, number: int, tick: Tick) -> bytes:
        """One raw line in the exchange's format."""
        second, price, size, side = tick
        ts = self.stamp(second)
        if self.instrument.exchange == "okx":
            return okx_line(self.name, number, ts, price, size, side)
        return plain_line(number, ts, price, size, side)

    def stamp(self, second: float) -> int:
        """Milliseconds since 1970."""
        return round((DAY_ONE + timedelta(seconds=second)).timestamp() * 1000)

    def write(self, vault: Path, count: int | None = None) -> None:
        """Write the first `count` trades, each into the day of the latest stamp so far."""
        days: dict[str, list[bytes]] = {}
        clock = 0.0
        for number, tick in enumerate(self.ticks[:count], start=1):
            clock = max(clock, tick[0])
            day = (DAY_ONE + timedelta(seconds=clock)).date().isoformat()
            days.setdefault(day, []).append(self.line(number, tick))
        for day, lines in days.items():
            write_raw(vault, self.instrument, day, b"".join(lines))

    def judge(self, vault: Path) -> Judge:
        """Judge what lies in the vault."""
        return judge_with(vault, self.instrument, self.lateness_ms)


def judge_with(vault: Path, instrument: Instrument, lateness_ms: int = 0) -> Judge:
    """The trades that count under a lateness."""
    judge = Judge(instrument, lateness_us=lateness_ms * 1000)
    for line in read_folder(instrument.raw_folder(vault)):
        judge.read(line)
    return judge


def plain(name: str) -> Instrument:
    """An instrument of an exchange with the plain format."""
    return Instrument("acme", "spot", name)


@dataclass
class Walk:
    """Prices that wander in steps; sizes and sides at random."""

    rng: random.Random
    price: Decimal
    step: Decimal
    most: int = 20
    pull: bool = True

    def __post_init__(self) -> None:
        """Remember where the walk began: it is drawn back there."""
        self.home = self.price

    def tick(self, second: float, *, buyers: float = 0.5) -> Tick:
        """The next trade."""
        rng = self.rng
        drift = (self.price < self.home) - (self.price > self.home) if self.pull else 0
        steps = rng.randrange(-self.most, self.most + 1) + drift * (self.most // 10)
        self.price = max(self.step, self.price + steps * self.step)
        size = f"{rng.randrange(1, 4000) / 1000:.3f}"
        return second, format(self.price, "f"), size, self.side(buyers)

    def side(self, buyers: float = 0.5) -> str:
        """Which side took."""
        return "buy" if self.rng.random() < buyers else "sell"


def walk(seed: int, price: str = "100", step: str = "0.01", most: int = 20) -> Walk:
    """A seeded walk."""
    return Walk(random.Random(seed), Decimal(price), Decimal(step), most)


def scattered(rng: random.Random, start: float, end: float, count: int) -> list[float]:
    """Sorted times at whole milliseconds of [start, end)."""
    first, last = round(start * 1000), round(end * 1000)
    return [t / 1000 for t in sorted(rng.randrange(first, last) for _ in range(count))]


def over(path: Walk, *spans: tuple[float, float, int]) -> list[Tick]:
    """Trades scattered over spans of (start, end, how many)."""
    seconds = (t for start, end, count in spans for t in scattered(path.rng, start, end, count))
    return [path.tick(second) for second in seconds]


def quiet_hours() -> Case:
    """Two days that trade in six hours each and are silent in between."""
    hours = [d * 24 + h for d in (0, 1) for h in (0, 1, 7, 13, 14, 20)]
    ticks = over(walk(1), *((h * HOUR, (h + 1) * HOUR, 60) for h in hours))
    return Case(plain("QUIET"), ticks, "0.01")


def short_first_day() -> Case:
    """All over within 29 minutes: no bucket is ever begun."""
    return Case(plain("FIRST-29M"), over(walk(2), (9 * HOUR, 9 * HOUR + 1740, 200)), "0.01")


def first_day() -> Case:
    """A first day of three hours, with trades right at the end of its first half hour."""
    path = walk(3)
    edge = 9 * HOUR + 1800
    first = [path.tick(9 * HOUR), *over(path, (9 * HOUR, edge, 300))]
    at_edge = [path.tick(edge - 0.001), path.tick(edge), path.tick(edge)]
    return Case(plain("FIRST-DAY"), first + at_edge + over(path, (edge, 12 * HOUR, 900)), "0.01")


def late_start() -> Case:
    """A first day of ten minutes: buckets begin at midnight, sized by those ten minutes."""
    return Case(plain("LATE-START"), over(walk(20), (DAY - 600, 26 * HOUR, 900)), "0.01")


def one_trade_day() -> Case:
    """An ordinary day, a day with a single trade, and another ordinary day."""
    path = walk(4)
    ticks = over(path, (20 * HOUR, 24 * HOUR, 300))
    ticks.append((DAY + 10 * HOUR, "100", "500", "sell"))
    ticks += over(path, (2 * DAY + 2 * HOUR, 2 * DAY + 5 * HOUR, 300))
    return Case(plain("ONE-TRADE"), ticks, "0.01")


def tiny_prices() -> Case:
    """Prices near 0.001 in a foreign coin, no tick known; finer ones after the thousandth."""
    path = walk(5, "0.0010234", "0.0000001", 30)
    ticks = over(path, (6 * HOUR, 12 * HOUR, 1200))
    finer = [
        (s, f"{p}{path.rng.randrange(100):02d}", z, d)
        for s, p, z, d in over(path, (12 * HOUR, 14 * HOUR, 300))
    ]
    big = [(s, p, f"{Decimal(z) * 40_000:f}", d) for s, p, z, d in ticks + finer]
    return Case(plain("WEN-ETH"), big)


def tick_unknown(count: int) -> Case:
    """So many trades in cents but for the thousandth, which shows an eighth of a coin."""
    ticks = over(walk(6), (0, 3 * HOUR, count - 2))
    second, price, size, side = walk(7).tick(3 * HOUR)
    fine = (second, str(Decimal(price).to_integral_value() + Decimal("0.125")), size, side)
    last = (second + 60, "100", "1", "buy")
    return Case(plain(f"NO-TICK-{count}"), [*ticks, fine, last][:count])


def silent_days() -> Case:
    """Two days of silence inside, then a day whose window loses its first trades one by one."""
    path = walk(8)
    ticks = over(
        path,
        (20 * HOUR, 24 * HOUR, 400),
        (2 * DAY + 23 * HOUR, 3 * DAY + 2 * HOUR, 400),
        (3 * DAY + 23 * HOUR, 4 * DAY + 3 * HOUR, 400),
    )
    return Case(plain("SILENT-DAYS"), ticks, "0.01")


def midnight() -> Case:
    """Two hours around midnight, with trades in its last and first millisecond."""
    path = walk(9)
    before = over(path, (23 * HOUR, DAY - 1, 500))
    edge = [path.tick(DAY - 0.001), path.tick(DAY - 0.001), path.tick(DAY), path.tick(DAY)]
    return Case(plain("MIDNIGHT"), before + edge + over(path, (DAY, DAY + HOUR, 500)), "0.01")


def inverse() -> Case:
    """Contracts of 100 US dollars over midnight: base sizes are rounded quotients."""
    path = walk(10, "61000", "0.1", 400)
    ticks = over(path, (22 * HOUR, 26 * HOUR, 1500))
    contracts = [(s, p, str(1 + int(Decimal(z) * 100)), d) for s, p, z, d in ticks]
    where = Instrument("okx", "perps", "BTC-USD-SWAP", Contract(Decimal(100), inverse=True))
    return Case(where, contracts, "0.1")


def coarse_tick() -> Case:
    """Rows of a half under prices in cents; the first ten minutes lie in a single row."""
    path = walk(11, "100.25", "0.01", 12)
    first = [(20.0 * i, f"100.{i % 50:02d}", "1.5", path.side()) for i in range(30)]
    return Case(plain("COARSE"), first + over(path, (660, 5 * HOUR, 900)), "0.5")


def ties() -> Case:
    """Whole sizes of one to three at few prices: bins, nodes and value areas tie often."""
    rng = random.Random(12)
    ticks = [
        (t, str(rng.randrange(100, 131)), str(rng.randrange(1, 4)), rng.choice(("buy", "sell")))
        for t in scattered(rng, 0, 8 * HOUR, 700)
    ]
    return Case(plain("TIES"), ticks, "1")


def near_bins() -> Case:
    """Sixty-one to a hundred rows under fifty bins: prices on the very edge of a bin."""
    rng = random.Random(13)
    ticks = [
        (t, f"{1000 + rng.randrange(20 + round(t / 400)) / 10}", "0.7", rng.choice(("buy", "sell")))
        for t in scattered(rng, 0, 9 * HOUR, 900)
    ]
    return Case(plain("BIN-EDGES"), ticks, "0.1")


def old_wicks() -> Case:
    """Eight days of bars; far wicks of the first hour live seven days to the minute."""
    path = walk(14, "100", "0.01", 40)
    ticks: list[Tick] = []
    for i, bar in enumerate(range(0, round(8.2 * DAY), 900)):
        ticks += over(path, (bar, bar + 300, 5))
        if i < 4:  # a spike up and one down that nothing reaches for a week
            ticks.append((bar + 290.0, str(203 - i), "1", "buy"))
            ticks.append((bar + 291.0, str(47 + i), "1", "sell"))
            ticks.append((bar + 292.0, "100", "1", "buy"))
    # the third pair is 201 and 49: its high is reached in its last bar, its low in the next
    gone = 2 * 900 + 7 * DAY
    ticks += [(gone - 290.0, "201", "1", "buy"), (gone - 289.0, "100", "1", "buy")]
    ticks.append((gone + 10.0, "49", "1", "sell"))
    return Case(plain("OLD-WICKS"), sorted(ticks, key=lambda t: t[0]), "0.01")


def many_buckets() -> Case:
    """A thin first day and a busy second: hundreds of buckets, some trades fill many."""
    path = walk(15)
    ticks: list[Tick] = [(h * HOUR + 7, "100", "1", path.side()) for h in range(24)]
    for at, price, size, side in over(path, (DAY, DAY + 5 * HOUR, 1500)):
        ticks.append((at, price, f"{Decimal(size) / 80:f}", side))
    lean = [0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.95, 1.0, 0.3, 0.5]
    for i, second in enumerate(scattered(path.rng, DAY + 5 * HOUR, DAY + 15 * HOUR, 1500)):
        at, price, size, side = path.tick(second, buyers=lean[i // 150])
        size = "3.3" if i % 97 == 0 else f"{Decimal(size) / 10:f}"
        ticks.append((at, price, size, side))
    ticks += over(path, (2 * DAY, 2 * DAY + 2 * HOUR, 300))
    return Case(plain("BUCKETS"), ticks, "0.01")


def steady_flow() -> Case:
    """Forty minutes of the same notional at changing prices, then a market with missing minutes."""
    pairs = (("100", "1"), ("125", "0.8"), ("80", "1.25"), ("80", "1.25"))
    same = [(60.0 * i, *pairs[i % 4], "buy") for i in range(40)]
    path = walk(16)
    path.most = 50
    return Case(plain("STEADY"), same + over(path, (2400, 4 * HOUR, 250)), "0.01")


def mirrored() -> Case:
    """Fifty rows in fifty bins, level, on the very limits of nodes, and mirrored about the middle.

    The first bar holds 3 at the even rows and 1 at the odd ones: one and a half
    times the mean, and half of it. The second makes all equal.
    """
    rng = random.Random(19)
    ticks: list[Tick] = [(5.0 * i, str(100 + i), "1" if i % 2 else "3", "buy") for i in range(50)]
    ticks += [(300 + 5.0 * i, str(100 + i), "2", "sell") for i in range(1, 50, 2)]
    for t in scattered(rng, 600, 2 * HOUR, 150):
        row, size = rng.randrange(50), str(rng.randrange(1, 4))
        ticks += [(t, str(100 + row), size, "buy"), (t, str(149 - row), size, "sell")]
    return Case(plain("MIRROR"), ticks, "1")


def exact_levels() -> Case:
    """Buckets of 48 whose mean imbalance comes to exactly 0.7, 0.5, 0.3 and 0 of them."""
    ticks: list[Tick] = [(0.0, "100", "50", "buy")]
    for sold in ("7.2", "12", "16.8", "24"):
        for _ in range(60):
            at, bought = 1800.0 + 10 * len(ticks), str(48 - Decimal(sold))
            ticks += [(at, "100", bought, "buy"), (at + 0.5, "100", sold, "sell")]
    return Case(plain("LEVELS"), ticks, "1")


CASES = [
    quiet_hours(),
    short_first_day(),
    first_day(),
    late_start(),
    one_trade_day(),
    tiny_prices(),
    tick_unknown(999),
    tick_unknown(1000),
    silent_days(),
    midnight(),
    inverse(),
    coarse_tick(),
    ties(),
    near_bins(),
    old_wicks(),
    many_buckets(),
    steady_flow(),
    mirrored(),
    exact_levels(),
]


def out_of_order() -> Case:
    """Two hours around midnight, stamps up to twenty seconds behind the latest one."""
    path = walk(17)
    clocks = scattered(path.rng, 23 * HOUR, 25 * HOUR, 2000)
    most = [path.rng.choice((1, 1, 6000, 20_000)) for _ in clocks]
    behind = [path.rng.randrange(m) / 1000 for m in most]
    ticks = [path.tick(round(t - b, 3)) for t, b in zip(clocks, behind, strict=True)]
    return Case(plain("SHUFFLED"), ticks, "0.01", lateness_ms=5000)


def at_the_edges() -> Case:
    """Back and forth over a minute, a half hour and a day, each just inside the lateness."""
    path = walk(18)
    ticks = [path.tick(23 * HOUR), path.tick(23 * HOUR - 2)]  # the second is the older
    ticks += [*over(path, (23 * HOUR, 23 * HOUR + 1700, 200))]
    for edge in (23 * HOUR + 1800, DAY, DAY + 60, DAY + 1800):
        ticks += [path.tick(edge - 30 + i) for i in range(29)]
        for back in (0.5, 4.999, 2.0, 0.001):
            ticks += [path.tick(edge + 0.1), path.tick(edge - back), path.tick(edge)]
        ticks += [path.tick(edge + 4.999), path.tick(edge - 0.001), path.tick(edge + 5.0)]
        ticks += [path.tick(edge - 0.001), path.tick(edge + 6.0)]  # the first of these is late
    ticks += over(path, (DAY + 1860, DAY + 2 * HOUR, 300))
    return Case(plain("EDGES"), ticks, "0.01", lateness_ms=5000)


LATE_CASES = [out_of_order(), at_the_edges()]


def write_ticks(vault: Path, cases: Iterable[Case]) -> None:
    """Publish the ticks of the invented instruments."""
    tables = [
        f'["acme/spot/{case.name}"]\ntick = "{case.tick}"\n'
        for case in cases
        if case.tick is not None and case.instrument.exchange == "acme"
    ]
    (vault / "instruments.toml").write_text("\n".join(tables), encoding="utf-8")
