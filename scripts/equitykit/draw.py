"""Draw a simulated market: volumes by venue, positions by manager, and who really traded where.

Nothing in it happened. Venues, managers and symbols are invented, so that no row can be taken for
a statement about a real one. Some managers have a home: one venue or two through which they send
more of what they trade off exchange than its size explains. These pairs are the truth that a
mapping is to find. All others spread what they trade over the venues by their size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from pipeline.calc.nyse import trading_days

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BENCHMARK = "SPY"

TRADED, EXITED, PAYING = 0.6, 0.04, 0.5
"""Of the symbols a manager follows, how many it trades in a quarter; of these, how many it sells
out; of all symbols, how many pay dividends."""


@dataclass(frozen=True)
class Settings:
    """What is drawn.

    Attributes:
        years: calendar years from January of `first_year` on.
        mapped: share of managers with a home.
        home: how much of what such a manager trades off exchange goes there, from and to.
        herding: how much managers trade the same symbols in the same quarters (standard
            deviation of a common factor's logarithm).
        size: a manager's typical change of a position in a quarter, in days of the symbol's
            volume.
        ats_share: how much of a manager's trading goes to venues at all.
        churn: what managers trade back and forth, beside what their positions show, as a share
            of it.
        drift: how much a venue's part of a symbol moves by itself from quarter to quarter
            (standard deviation of its logarithm).
        one_home: all homes are the same venue.
    """

    seed: int = 7
    first_year: int = 2020
    years: int = 5
    symbols: int = 40
    venues: int = 12
    managers: int = 60
    mapped: float = 0.5
    home: tuple[float, float] = (0.3, 0.8)
    herding: float = 0.3
    size: float = 1.0
    ats_share: float = 0.25
    churn: float = 0.5
    drift: float = 0.15
    one_home: bool = False

    @property
    def span(self) -> tuple[date, date]:
        """The first and the last day."""
        return date(self.first_year, 1, 1), date(self.first_year + self.years - 1, 12, 31)

    @property
    def quarter_ends(self) -> list[date]:
        """The ends of the quarters, in order."""
        ends = ((3, 31), (6, 30), (9, 30), (12, 31))
        return [date(self.first_year + y, m, d) for y in range(self.years) for m, d in ends]


@dataclass
class Drawn:
    """A market as arrays; shares are those of the day, splits included.

    Attributes:
        symbols, venues, managers: their names: tickers, MPIDs, CIKs.
        is_large: symbols of FINRA's tier 1.
        routes: (managers, venues), the part of a manager's off-exchange trading each venue gets.
        homes: pairs of manager and venue that are related.
        volume: (days, symbols), consolidated.
        off_exchange: (days, symbols).
        venue_volume: (days, symbols, venues).
        close, adjusted: (days, symbols + 1), the last column the benchmark.
        held: (quarters, managers, symbols), at their ends.
        flows: what managers truly traded at all venues together: day, symbol, manager, signed
            shares, as columns; each venue has its part of `routes`.
        split: (days, symbols), shares that one share of the first day has become.
        block: shares of a usual trade at each venue.
    """

    settings: Settings
    days: list[date]
    symbols: list[str]
    venues: list[str]
    managers: list[str]
    is_large: npt.NDArray[np.bool_]
    routes: Floats
    homes: set[tuple[int, int]]
    volume: Floats
    off_exchange: Floats
    venue_volume: Floats
    close: Floats
    adjusted: Floats
    held: Ints
    split: Floats
    block: Floats
    flows: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @property
    def quarter_of_day(self) -> Ints:
        """The place of each day's quarter."""
        first = self.settings.first_year
        return np.array([(day.year - first) * 4 + (day.month - 1) // 3 for day in self.days])


def draw(settings: Settings) -> Drawn:
    """Draw a market; the same settings give the same numbers."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, 20_130_604]))
    days = trading_days(*settings.span)
    counts = len(days), settings.symbols, settings.venues, settings.managers
    _, symbols, venues, managers = counts
    adv = rng.lognormal(np.log(2e6), 0.8, symbols)
    weights = np.sort(rng.dirichlet(np.full(venues, 3.0)))[::-1]
    routes, homes = _routes(rng, settings, weights)
    split = _splits(rng, settings, days)
    market = Drawn(
        settings,
        days,
        [f"ZX{number:02d}" for number in range(1, symbols + 1)],
        [f"SV{chr(65 + n // 26)}{chr(65 + n % 26)}" for n in range(venues)],
        [f"{9_900_000_000 + n:010d}" for n in range(1, managers + 1)],
        adv >= np.median(adv),
        routes,
        homes,
        np.zeros(counts[:2]),
        np.zeros(counts[:2]),
        np.zeros(counts[:3]),
        np.zeros((counts[0], symbols + 1)),
        np.zeros((counts[0], symbols + 1)),
        np.zeros((len(settings.quarter_ends), managers, symbols), np.int64),
        split,
        rng.uniform(120, 400, venues),
    )
    net = _trade(rng, market, adv, weights)
    _prices(rng, market, net / adv)
    market.volume *= split
    market.off_exchange *= split
    market.venue_volume *= split[..., None]
    return market


def _routes(
    rng: np.random.Generator, settings: Settings, weights: Floats
) -> tuple[Floats, set[tuple[int, int]]]:
    """Where each manager's off-exchange trading goes."""
    routes = np.tile(weights, (settings.managers, 1))
    homes: set[tuple[int, int]] = set()
    for manager in range(round(settings.mapped * settings.managers)):
        number = 1 if settings.one_home else int(rng.integers(1, 3))
        chosen = (
            np.array([0])
            if settings.one_home
            else rng.choice(settings.venues, number, replace=False)
        )
        part = rng.uniform(*settings.home)
        routes[manager] *= 1 - part
        routes[manager, chosen] += part / number
        homes |= {(manager, int(venue)) for venue in chosen}
    return routes, homes


def _splits(rng: np.random.Generator, settings: Settings, days: list[date]) -> Floats:
    """One symbol in twenty splits two for one, one in twenty one for four, at some time."""
    found = np.ones((len(days), settings.symbols))
    number = max(1, settings.symbols // 20) if settings.symbols > 1 else 0
    chosen = rng.choice(settings.symbols, 2 * number, replace=False)
    for place, symbol in enumerate(chosen):
        day = int(rng.integers(len(days) // 2, len(days)))
        found[day:, symbol] = 2.0 if place < number else 0.25
    return found


def _trade(rng: np.random.Generator, market: Drawn, adv: Floats, weights: Floats) -> Floats:
    """Fill in volumes and positions quarter by quarter; returns what managers bought net a day."""
    settings = market.settings
    symbols, venues, managers = settings.symbols, settings.venues, settings.managers
    follows = rng.random((managers, symbols)) < rng.uniform(0.3, 0.9, (managers, 1))
    scale = settings.size * rng.lognormal(0, 0.6, (managers, 1))
    position = np.where(follows, adv * scale * rng.uniform(0.5, 6, (managers, symbols)), 0.0)
    taste = np.log(weights) + rng.normal(0, 0.5, (symbols, venues))
    wander = np.zeros((symbols, venues))
    busy = np.zeros(symbols)
    bought = np.zeros(market.volume.shape)
    quarter_of_day = market.quarter_of_day
    for quarter in range(len(settings.quarter_ends)):
        inside = np.flatnonzero(quarter_of_day == quarter)
        heat = np.exp(settings.herding * rng.normal(size=symbols))
        change = _changes(rng, position, follows, adv * scale * heat)
        position = position + change
        ends = np.round(position * market.split[inside[-1]])
        market.held[quarter] = np.where(ends > 0, ends, 0).astype(np.int64)
        signed = _days(rng, change, len(inside), settings.churn)
        bought[inside] = signed.sum(axis=1)
        wander = 0.8 * wander + settings.drift * rng.normal(size=wander.shape)
        busy = 0.7 * busy + 0.15 * rng.normal(size=symbols)
        _volumes(rng, market, inside, adv * np.exp(busy) * heat**0.5, taste + wander)
        _route(rng, market, inside, signed)
    return bought


def _changes(
    rng: np.random.Generator, position: Floats, follows: npt.NDArray[np.bool_], scale: Floats
) -> Floats:
    """What each manager buys of each symbol in a quarter, in shares of the first day."""
    shape = position.shape
    trades = follows & (rng.random(shape) < TRADED)
    size = scale * rng.lognormal(0, 1.0, shape)
    is_sale = rng.integers(0, 2, shape) > 0
    change = np.where(is_sale, -np.minimum(size, position), size)
    change = np.where(rng.random(shape) < EXITED, -position, change)
    return np.where(trades, change, 0.0)


def _days(rng: np.random.Generator, change: Floats, days: int, churn: float) -> Floats:
    """(days, managers, symbols): a campaign of one to eight weeks, and what is traded back."""
    length = rng.integers(5, 41, change.shape)
    start = rng.integers(0, np.maximum(1, days - length + 1))
    day = np.arange(days)[:, None, None]
    weight = np.where((day >= start) & (day < start + length), 1.0, 0.0)
    weight *= rng.lognormal(0, 0.4, weight.shape)
    weight /= weight.sum(axis=0)
    back = rng.normal(0, 1, weight.shape) * weight
    back -= back.mean(axis=0)
    spread = np.abs(back).sum(axis=0)
    back /= np.where(spread > 0, spread, 1.0)
    return change * weight + churn * np.abs(change) * back


def _volumes(
    rng: np.random.Generator, market: Drawn, inside: Ints, usual: Floats, taste: Floats
) -> None:
    """What everybody else trades: consolidated, off exchange, and at each venue."""
    shape = len(inside), len(usual)
    day = np.exp(0.3 * rng.normal(size=shape) + 0.15 * rng.normal(size=(shape[0], 1)))
    volume = usual * day
    market.volume[inside] += volume
    part = np.exp(taste)
    part /= part.sum(axis=1, keepdims=True)
    noise = np.exp(0.25 * rng.normal(size=(*shape, taste.shape[1])))
    ats = volume[..., None] * 0.13 * part * noise
    market.venue_volume[inside] += ats
    other = volume * 0.28 * np.exp(0.1 * rng.normal(size=shape))
    market.off_exchange[inside] += ats.sum(axis=2) + other


def _route(rng: np.random.Generator, market: Drawn, inside: Ints, signed: Floats) -> None:
    """Send managers' trades where they go, and note what went where."""
    settings = market.settings
    part = settings.ats_share * rng.uniform(0.6, 1.4, signed.shape[1:])
    through = np.abs(signed) * part
    market.venue_volume[inside] += np.einsum("dis,iv->dsv", through, market.routes)
    market.off_exchange[inside] += through.sum(axis=1)
    market.volume[inside] += np.abs(signed).sum(axis=1)
    grown = np.round(np.sign(signed) * through * market.split[inside][:, None]).astype(np.int64)
    day, manager, symbol = np.nonzero(grown)
    shares = grown[day, manager, symbol]
    market.flows.append(np.column_stack([inside[day], symbol, manager, shares]))


def _prices(rng: np.random.Generator, market: Drawn, pressure: Floats) -> None:
    """Closes: a common factor, noise, and a lean towards what managers buy; with dividends."""
    days, symbols = market.volume.shape
    common = rng.normal(0.0003, 0.009, days)
    beta = rng.uniform(0.6, 1.4, symbols)
    own = rng.normal(0, 0.013, (days, symbols))
    moves = np.outer(common, beta) + own + 0.02 * np.clip(pressure, -2, 2)
    moves = np.column_stack([moves, common])
    start = np.append(60 * np.exp(rng.normal(0, 0.5, symbols)), 400.0)
    worth = start * np.cumprod(1 + np.clip(moves, -0.4, 0.4), axis=0)
    pays = np.append(rng.random(symbols) < PAYING, True)
    paid: Floats = np.ones((days, symbols + 1))
    quarter = market.quarter_of_day
    ex_day = np.flatnonzero(np.diff(quarter, prepend=quarter[0])) + 20
    paid[ex_day[ex_day < days]] = np.where(pays, 1 - 0.005, 1.0)
    split = np.column_stack([market.split, np.ones(days)])
    market.close = np.round(worth * np.cumprod(paid, axis=0) / split, 2)
    later = np.asarray(np.cumprod(paid[::-1], axis=0), np.float64)[::-1]
    # of a day's close what was paid out on later days is taken off, as vendors do
    ahead = np.vstack([later[1:], np.ones(symbols + 1)])
    market.adjusted = market.close * ahead * split / split[-1]


def published(week: date, *, is_large: bool) -> date:
    """When FINRA publishes a week that begins on this Monday."""
    return week + timedelta(days=21 if is_large else 35)
