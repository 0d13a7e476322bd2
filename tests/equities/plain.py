"""The specification once more, in plain Python over dictionaries and one row at a time."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

Rows = list[dict[str, Any]]
Quarter = tuple[int, int]


def quarter(day: date) -> Quarter:
    return day.year, (day.month + 2) // 3


def back(of: Quarter, number: int = 1) -> Quarter:
    year, part = of
    for _ in range(number):
        year, part = (year, part - 1) if part > 1 else (year - 1, 4)
    return year, part


def end_of(of: Quarter) -> date:
    year, part = of
    after = date(year + part // 4, part % 4 * 3 + 1, 1)
    return after - timedelta(days=1)


# -- 13F ---------------------------------------------------------------------------------------


class Report:
    """What stands for a manager and a quarter."""

    def __init__(self, base: dict[str, Any]) -> None:
        self.accession = base["accession"]
        self.filed = base["filed_date"]
        self.known = base["filed_date"]
        self.used = [base["accession"]]
        self.held: dict[str, int] = defaultdict(int)


def reports(filings: Rows, listed: Rows, as_of: date | None) -> dict[tuple[str, Quarter], Report]:
    heads = {}
    for row in [*filings, *listed]:
        if as_of is None or row["filed_date"] <= as_of:
            heads[row["institution_cik"], row["accession"]] = row
    order = {None: 0, "RESTATEMENT": 1, "NEW HOLDINGS": 2}
    found: dict[tuple[str, Quarter], Report] = {}
    for row in sorted(
        heads.values(), key=lambda r: (r["filed_date"], order[r["amendment"]], r["accession"])
    ):
        key = row["institution_cik"], quarter(row["period"])
        if row["amendment"] != "NEW HOLDINGS":
            found[key] = Report(row)
        elif key in found:
            found[key].used.append(row["accession"])
            found[key].known = row["filed_date"]
    for (manager, _), report in found.items():
        for row in filings:
            is_mine = row["institution_cik"] == manager and row["accession"] in report.used
            if is_mine and row["symbol"] is not None:
                report.held[row["symbol"]] += row["shares"]
    return found


def split_factors(prices: Rows) -> dict[tuple[str, Quarter], Fraction]:
    """From closes as traded alone."""
    last: dict[tuple[str, Quarter], dict[str, Any]] = {}
    for row in sorted(prices, key=lambda r: r["date"]):
        last[row["symbol"], quarter(row["date"])] = row
    found = {}
    several = [Fraction(n) for n in range(2, 101)]
    several += [Fraction(5, 4), Fraction(4, 3), Fraction(3, 2), Fraction(5, 3), Fraction(5, 2)]
    several += [1 / each for each in several]
    for (symbol, now), row in last.items():
        before = last.get((symbol, back(now)))
        if before is None:
            continue
        ratio = before["close"] / row["close"] * row["adj_close"] / before["adj_close"]
        best = min(several, key=lambda f: abs(math.log(ratio / f)))
        if abs(math.log(ratio / best)) <= 0.03:
            found[symbol, now] = best
    return found


Change = tuple[int, int, date]


def position_changes(
    known: dict[tuple[str, Quarter], Report], factors: dict[tuple[str, Quarter], Fraction]
) -> dict[tuple[str, Quarter, str], Change]:
    """By manager, quarter and symbol: shares now, shares before, when both were known."""
    found = {}
    for (manager, now), report in known.items():
        before = known.get((manager, back(now)))
        if before is None:
            continue
        for symbol in {*report.held, *before.held}:
            old = math.floor(before.held.get(symbol, 0) * factors.get((symbol, now), Fraction(1)))
            new = report.held.get(symbol, 0)
            if old or new:
                found[manager, now, symbol] = (new, old, max(report.known, before.known))
    return found


# -- mapping -----------------------------------------------------------------------------------


def percentiles(values: dict[Any, float]) -> dict[Any, float]:
    ordered = sorted(values.values())
    found = {}
    for key, value in values.items():
        below = sum(each < value for each in ordered)
        same = sum(each == value for each in ordered)
        found[key] = (below + (same + 1) / 2 - 0.5) / len(ordered)
    return found


def pearson(x: list[float], y: list[float]) -> float | None:
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    return statistics.correlation(x, y)


def benjamini_hochberg(p: list[float]) -> list[float]:
    found = []
    for value in p:
        tail = [other for other in p if other >= value]
        rates = [other * len(p) / sum(each <= other for each in p) for other in tail]
        found.append(min(1.0, *rates))
    return found


def student_tail(t: float, freedom: int) -> float:
    """P(T > t) by the series for whole degrees of freedom (Abramowitz and Stegun 26.7.3-4)."""
    theta = math.atan(t / math.sqrt(freedom))
    if freedom % 2:
        total, factor = 0.0, math.cos(theta)
        for k in range(1, freedom - 1, 2):
            total += factor
            factor *= math.cos(theta) ** 2 * (k + 1) / (k + 2)
        inside = 2 / math.pi * (theta + (math.sin(theta) * total if freedom > 1 else 0))
    else:
        total, factor = 0.0, 1.0
        for k in range(0, freedom - 1, 2):
            total += factor
            factor *= math.cos(theta) ** 2 * (k + 1) / (k + 2)
        inside = math.sin(theta) * total
    return (1 - inside) / 2


@dataclass
class Venues:
    """What the venues reported by a day, by quarter."""

    volume: dict[tuple[str, str, Quarter], float]
    trades: dict[tuple[str, str, Quarter], int]
    total: dict[tuple[str, Quarter], float]

    @classmethod
    def of(cls, ats: Rows, as_of: date) -> Venues:
        found = cls(defaultdict(float), defaultdict(int), defaultdict(float))
        for row in ats:
            if row["published"] <= as_of:
                symbol, when = row["symbol"], quarter(row["week_start"])
                found.volume[row["mpid"], symbol, when] += row["shares"]
                found.trades[row["mpid"], symbol, when] += row["trades"]
                found.total[symbol, when] += row["shares"]
        return found

    def log_part(self, venue: str, symbol: str, of: Quarter) -> float | None:
        reports = any(m == venue and q == of for m, _, q in self.volume)
        if not reports or self.total.get((symbol, of), 0) <= 0:
            return None
        own = self.volume.get((venue, symbol, of), 0)
        return math.log((own + 100) / (self.total[symbol, of] + 100))

    def unusual(self, of: Quarter) -> dict[tuple[str, str, Quarter], float]:
        found = {}
        for venue in {key[0] for key in self.volume}:
            for symbol in {key[1] for key in self.volume}:
                now = self.log_part(venue, symbol, of)
                past = [self.log_part(venue, symbol, back(of, n)) for n in range(1, 5)]
                usual = [each for each in past if each is not None]
                spans = [(venue, symbol, back(of, n)) for n in range(5)]
                if now is not None and len(usual) >= 2 and any(map(self.volume.get, spans)):
                    found[venue, symbol, of] = now - sum(usual) / len(usual)
        return found


@dataclass
class Pair:
    """A venue and a manager."""

    n: int = 0
    rho: float | None = None
    p: float = 1.0
    q: float = 1.0
    first: date | None = None
    last: date | None = None
    block: int | None = None
    strength: float = 0.0


def p_value(rho: float, n: int) -> float:
    spread = 1 - rho * rho
    if spread <= 0:
        return 0.0 if rho > 0 else 1.0
    return student_tail(rho * math.sqrt((n - 2) / spread), n - 2)


def window_of(as_of: date) -> list[Quarter]:
    several = [back(quarter(as_of), n) for n in range(8)]
    oldest, newest = as_of - timedelta(days=365), as_of - timedelta(days=35)
    return [of for of in several if oldest < end_of(of) <= newest]


def broker_map(
    ats: Rows,
    filings: Rows,
    listed: Rows,
    affiliates: Rows,
    prices: Rows,
    as_of: date,
) -> dict[tuple[str, str], Pair]:
    venues = Venues.of(ats, as_of)
    known = reports(filings, listed, as_of)
    moved = position_changes(known, split_factors([r for r in prices if r["date"] <= as_of]))
    x: dict[tuple[str, str, Quarter], float] = {}
    y: dict[tuple[str, str, Quarter], float] = {}
    for of in window_of(as_of):
        x |= percentiles(venues.unusual(of))
        moves = {
            (manager, symbol, of): min(1.0, abs(new - old) / venues.total[symbol, of])
            for (manager, when, symbol), (new, old, _) in moved.items()
            if when == of and new != old and venues.total.get((symbol, of), 0) > 0
        }
        y |= percentiles(moves)
    found = {}
    for venue in sorted({key[0] for key in x}):
        for manager in sorted({key[0] for key in y}):
            cells = sorted((s, q) for i, s, q in y if i == manager and (venue, s, q) in x)
            found[venue, manager] = pair = Pair(len(cells))
            if not cells:
                continue
            pair.first = end_of(min(q for _, q in cells))
            pair.last = end_of(max(q for _, q in cells))
            shares = sum(math.floor(venues.volume[venue, s, q] + 0.5) for s, q in cells)
            trades = sum(venues.trades[venue, s, q] for s, q in cells)
            pair.block = shares // trades if trades else None
            own = [y[manager, s, q] for s, q in cells]
            rho = pearson([x[venue, s, q] for s, q in cells], own)
            if len(cells) >= 3 and rho is not None:
                pair.rho, pair.p = rho, p_value(rho, len(cells))
    several = list(found.values())
    for pair, q_value in zip(several, benjamini_hochberg([p.p for p in several]), strict=True):
        pair.q = q_value
    tied = {(row["broker_mpid"], row["institution_cik"]) for row in affiliates}
    for key in tied:
        found.setdefault(key, Pair())
    for key, pair in found.items():
        stat = max(0.0, pair.rho or 0.0) * pair.n / (pair.n + 20)
        stat = stat if pair.q <= 0.10 else min(stat, 0.30)
        pair.strength = 1 - (1 - (0.5 if key in tied else 0.0)) * (1 - stat)
    return {key: pair for key, pair in found.items() if pair.n or key in tied}


# -- attribution -------------------------------------------------------------------------------


def hamilton(total: int, weights: Iterable[Fraction]) -> list[int]:
    several = list(weights)
    quotas = [total * weight / sum(several) for weight in several]
    parts = [math.floor(quota) for quota in quotas]
    left = sorted(range(len(parts)), key=lambda k: (parts[k] - quotas[k], k))
    for place in left[: total - sum(parts)]:
        parts[place] += 1
    return parts


def half_even(value: float) -> int:
    return round(Fraction(str(value)))


def attribute(  # noqa: C901, PLR0912, PLR0915
    ats: Rows,
    off_exchange: Rows,
    iex: Rows,
    days: list[date],
    filings: Rows,
    listed: Rows,
    strengths: dict[tuple[str, str], float],
    classes: Rows,
    prices: Rows,
    as_of: date | None,
    min_confidence: float,
) -> tuple[dict[tuple[str, date, str, str], dict[str, Any]], int]:
    def is_known(day: date) -> bool:
        return as_of is None or day <= as_of

    one = timedelta(days=1)
    regsho = {
        (r["symbol"], r["date"]): Fraction(str(r["total_volume"]))
        for r in off_exchange
        if is_known(r["date"] + one)
    }
    tape = {(r["symbol"], r["trade_date"]): r for r in classes if is_known(r["trade_date"])}
    consolidated = {
        key: Fraction(r["total_buy_volume"] + r["total_sell_volume"] + r["total_neutral_volume"])
        for key, r in tape.items()
        if is_known(key[1] + one)
    }
    matched = {
        (r["symbol"], r["date"]): Fraction(r["matched_shares"])
        for r in iex
        if is_known(r["date"] + one)
    }
    sources = (("regsho", regsho, 0.9), ("consolidated", consolidated, 0.85), ("iex", matched, 0.8))
    volumes = []
    last: dict[str, date] = {}
    for row in ats:
        if is_known(row["published"]):
            last[row["symbol"]] = max(last.get(row["symbol"], date.min), row["week_start"])
            week = [
                row["week_start"] + timedelta(days=n)
                for n in range(7)
                if row["week_start"] + timedelta(days=n) in set(days)
            ]
            if not week:
                continue
            name, weights, quality = "equal", [Fraction(1)] * len(week), 0.7
            for source, table, worth in reversed(sources):
                several = [
                    table[row["symbol"], day] for day in week if (row["symbol"], day) in table
                ]
                if len(several) == len(week) and sum(several) > 0:
                    name, weights, quality = source, several, worth
            parts = hamilton(half_even(row["shares"]), weights)
            volumes += [
                (row["symbol"], day, row["mpid"], part, row, name, quality, row["published"], False)
                for day, part in zip(week, parts, strict=True)
                if part
            ]
    for row in ats:
        if not is_known(row["published"]) or row["week_start"] != last[row["symbol"]]:
            continue
        week = [row["week_start"] + timedelta(days=n) for n in range(7)]
        week = [day for day in week if day in set(days)]
        whole = [regsho[row["symbol"], day] for day in week if (row["symbol"], day) in regsho]
        if len(whole) < len(week) or not week:
            continue
        for (symbol, day), off in regsho.items():
            age = (day - row["week_start"]).days
            if symbol == row["symbol"] and 7 <= age < 49:
                part = math.floor(half_even(row["shares"]) * off / sum(whole))
                known_day = max(row["published"], day + one)
                if part:
                    volumes.append(
                        (symbol, day, row["mpid"], part, row, "regsho", 0.9, known_day, True)
                    )

    known = reports(filings, listed, as_of)
    factors = split_factors([r for r in prices if is_known(r["date"])])
    moved = position_changes(known, factors)
    managers = sorted({manager for manager, _ in known})
    found = {}
    dropped = 0
    for symbol, day, venue, volume, row, name, quality, public, is_nowcast in volumes:
        of = quarter(day)
        candidates = []
        for manager in managers:
            latest = next((back(of, n) for n in range(3) if (manager, back(of, n)) in known), None)
            if latest is None:
                continue
            report = known[manager, latest]
            move = moved.get((manager, latest, symbol))
            if report.held.get(symbol, 0) <= 0 and move is None:
                continue
            own = strengths.get((venue, manager), 0.0)
            if own > 0:
                when = max(report.known, move[2]) if move else report.known
                candidates.append((manager, own, move if latest == of else None, when))
        whole_strength = 1 + sum(own for _, own, _, _ in candidates)
        tick = tape.get((symbol, day))
        imbalance = None if tick is None else tick["order_imbalance"]
        told = 0.0 if imbalance is None else max(-1.0, min(1.0, imbalance / 0.2))
        dates = [public, *(when for *_, when in candidates), *([day] if tick else [])]
        for manager, own, move, _ in candidates:
            shares = math.floor(own * volume / whole_strength + 1e-9)
            if move is None:
                g = 0.5 * told
            else:
                g = 0.6 * ((move[0] > move[1]) - (move[0] < move[1])) + 0.4 * told
            sure = own * quality * (0.5 + 0.5 * abs(g))
            sure = min(sure, 0.5) if is_nowcast else sure
            if shares < 1:
                continue
            if sure < min_confidence - 1e-12:
                dropped += 1
                continue
            week_shares = half_even(row["shares"])
            found[symbol, day, venue, manager] = {
                "flow_direction": "unknown" if abs(g) < 0.2 - 1e-12 else "buy" if g > 0 else "sell",
                "shares": shares,
                "trades": math.floor(row["trades"] * (shares / week_shares) + 1e-9),
                "attribution_confidence": sure,
                "source": f"finra_ats/{name}",
                "mode": "NOWCAST" if is_nowcast else "PUBLISHED",
                "available_date": max(dates),
            }
    return found, dropped


# -- rotation ----------------------------------------------------------------------------------


def dumps(  # noqa: C901
    filings: Rows, listed: Rows, prices: Rows, as_of: date | None
) -> dict[tuple[Quarter, str, str], dict[str, Any]]:
    known = reports(filings, listed, as_of)
    is_seen = [r for r in prices if as_of is None or r["date"] <= as_of]
    moved = position_changes(known, split_factors(is_seen))
    found = {}
    for (manager, of, symbol), (new, old, when) in moved.items():
        if not old or new - old > -0.3 * old:
            continue
        past = []
        dates = [when]
        for number in range(1, 13):
            move = moved.get((manager, back(of, number), symbol))
            if move is not None and move[1]:
                past.append((move[0] - move[1]) / move[1])
                dates.append(move[2])
        z = 2.0
        if len(past) >= 8:
            middle = statistics.median(past)
            mad = statistics.median([abs(each - middle) for each in past])
            z = (middle - (new - old) / old) / max(1.4826 * mad, 0.02)
        sold = bought = after = 0
        is_reported = False
        for (other, then, name), (here, there, date_of) in moved.items():
            if back(then) == of:
                is_reported = True
            if name != symbol:
                continue
            if then == of:
                sold += max(0, there - here)
                bought += max(0, here - there) if other != manager else 0
                dates.append(date_of)
            if back(then) == of:
                after += max(0, here - there) if other != manager else 0
                dates.append(date_of)
        found[of, symbol, manager] = {
            "delta": (new - old) / old,
            "dumpz": max(0.0, min(10.0, z)),
            "is_fallback": len(past) < 8,
            "u_same": min(1.0, bought / sold),
            "u_next": min(1.0, after / sold) if is_reported else None,
            "known": max(dates),
            "accession": known[manager, of].accession,
            "filed": known[manager, of].filed,
        }
    return found
