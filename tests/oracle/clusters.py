"""Labels of trades: six features, their z-scores, and a daily model of three clusters.

From committed rows of `trades`, `quote`, `book` and `book_events` to the rows of `clusters`, the
model documents and `maker_1s`. Plain loops over doubles, every sum by `math.fsum`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any

from .layers import Row
from .maker import (
    CLUSTERS,
    MAKER,
    SECOND,
    Flow,
    Inventory,
    MakerSettings,
    Quote,
    Quotes,
    calibrate,
    day_of,
    maker_rows,
    mean,
    midnight,
    model_for,
    ms_of,
    read_quotes,
)

FEATURES = ("log_v_rel", "log_sbs", "log_obs", "spread_bps", "log_t_mid", "log_t_side")
SCORES = ("z_v_rel", "z_sbs", "z_obs", "z_spread", "z_t_mid", "z_t_side")
SBS, OBS = SCORES.index("z_sbs"), SCORES.index("z_obs")
COLUMNS = ("seq", "ts", *FEATURES, *SCORES, "cluster", "phi")
MODEL_KEYS = (
    *("valid_from", "trained_on", "features", "n_rows", "n_fit", "counts", "centroids"),
    *("clip_low", "clip_high", "contrast", "role_margin", "roles", "inertia", "iterations"),
    *("silhouette", "centroid_shift", "tau_s", "horizon_s"),
    *("n", "alpha", "k_tol", "beta_bps", "gamma", "sigma_bps", "b_raw_bps", "ic"),
)
LOW_SHARE, HIGH_SHARE = 0.01, 0.99
SILHOUETTE_ROWS = 2000
PUBLISHED_LEVELS = 20
ROLES = {"depth": (1, 3, 2), "inverted": (2, 3, 1)}

Vector = tuple[float, ...]
"""Six numbers, one a feature."""


@dataclass(frozen=True)
class Settings:
    """The table [clusters]."""

    max_age_s: float = 60
    depth_levels: int = 5
    sd_floor: float = 0.001
    window: int = 100
    min_rows: int = 1000
    max_fit: int = 200_000
    max_iter: int = 300
    roles: str | tuple[int, ...] = "depth"
    tau_s: float = 10.0
    horizon_s: float = 5

    @property
    def phi_of(self) -> tuple[int, ...]:
        """The role of each cluster."""
        return ROLES[self.roles] if isinstance(self.roles, str) else self.roles


DEFAULTS = Settings()


# -- the book at a moment ----------------------------------------------------------------


@dataclass(frozen=True)
class Depth:
    """What the best levels of both sides hold, and when the book was lost after that, if it was."""

    ts: int
    bid: float
    ask: float
    lost: int | None = None


@dataclass
class Depths:
    """The valid rows of `book` in their order."""

    max_age_ms: int
    depths: list[Depth]
    times: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.times = [depth.ts for depth in self.depths]

    def at(self, t: int) -> Depth | None:
        """The last one strictly before `t`, unless it is too old or the book was lost since."""
        place = bisect_left(self.times, t) - 1
        if place < 0:
            return None
        depth = self.depths[place]
        is_lost = depth.lost is not None and depth.lost < t
        return None if is_lost or t - depth.ts > self.max_age_ms else depth


def side_depth(row: Mapping[str, Any], side: str, levels: int) -> float | None:
    """The size of the best levels of a side; None for an empty side."""
    sizes = [row[f"{side}_sz_{i}"] for i in range(min(levels, PUBLISHED_LEVELS))]
    there = [size for size in sizes if size is not None]
    return math.fsum(there) if there else None


def read_depths(
    books: Iterable[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    settings: Settings = DEFAULTS,
) -> Depths:
    """The valid rows of `book`, each with the first event after it that left no book.

    An event without a book has no depth. A row of `book` is the last event with a book among
    those of its time.
    """
    lost_after = losses(events)
    found = []
    for row in books:
        bid, ask = (side_depth(row, side, settings.depth_levels) for side in ("bid", "ask"))
        if bid is not None and ask is not None:
            found.append(Depth(ms_of(row["ts"]), bid, ask, lost_after.get(row["ts"])))
    return Depths(round(settings.max_age_s * SECOND), found)


def losses(events: Sequence[Mapping[str, Any]]) -> dict[Any, int | None]:
    """By the time of every event with a book, when the book was lost after the last one then."""
    after: dict[Any, int | None] = {}
    lost: int | None = None
    for event in reversed(events):
        if event["bid_depth"] is None:
            lost = ms_of(event["ts"])
        elif event["ts"] not in after:
            after[event["ts"]] = lost
    return after


# -- features ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Featured:
    """A trade with its clock, its features and its z-scores."""

    seq: int
    ts: Any
    clock: int
    size: float
    side: int
    features: tuple[float | None, ...]
    z: Vector | None = None

    @property
    def day(self) -> date:
        """Its UTC day, by the clock."""
        return day_of(self.clock)


def features_of(
    t: int, size: float, side: int, quote: Quote | None, depth: Depth | None
) -> tuple[float | None, ...]:
    """The six features of a trade at a moment."""
    log_v_rel = spread_bps = log_t_mid = log_t_side = log_sbs = log_obs = None
    if quote is not None:
        hit_since = quote.ask_since if side > 0 else quote.bid_since
        log_v_rel = math.log(size / (quote.bid_size + quote.ask_size))
        spread_bps = quote.spread_bps
        log_t_mid = math.log(1 + t - quote.mid_since)
        log_t_side = math.log(1 + t - hit_since)
    if depth is not None:
        hit, other = (depth.ask, depth.bid) if side > 0 else (depth.bid, depth.ask)
        log_sbs, log_obs = math.log(1 + hit), math.log(1 + other)
    return log_v_rel, log_sbs, log_obs, spread_bps, log_t_mid, log_t_side


def complete(features: Sequence[float | None]) -> Vector | None:
    """All six of them, or None."""
    there = tuple(x for x in features if x is not None)
    return there if len(there) == len(FEATURES) else None


def score(x: float, prior: Sequence[float], sd_floor: float) -> float:
    """How many standard deviations (ddof 1) above the mean of those before it."""
    middle = mean(prior)
    variance = math.fsum((p - middle) ** 2 for p in prior) / (len(prior) - 1)
    return (x - middle) / max(math.sqrt(variance), sd_floor)


def featured_trades(
    trades: Iterable[Mapping[str, Any]],
    quotes: Quotes,
    depths: Depths,
    settings: Settings = DEFAULTS,
) -> list[Featured]:
    """Every trade in its order."""
    found: list[Featured] = []
    window: deque[Vector] = deque(maxlen=settings.window)
    clock: int | None = None
    for trade in trades:
        t = ms_of(trade["ts"])
        clock = t if clock is None else max(clock, t)
        size, side = trade["size"], trade["side"]
        features = features_of(t, size, side, quotes.at(t), depths.at(t))
        whole = complete(features)
        z = None
        if whole is not None:
            if len(window) == settings.window:
                columns = zip(*window, strict=True)
                z = tuple(
                    score(x, prior, settings.sd_floor)
                    for x, prior in zip(whole, columns, strict=True)
                )
            window.append(whole)
        found.append(Featured(trade["seq"], trade["ts"], clock, size, side, features, z))
    return found


# -- the model ---------------------------------------------------------------------------


def every(rows: Sequence[Vector], most: int) -> list[Vector]:
    """Rows 0, k, 2k, … with the smallest k that leaves at most so many."""
    return list(rows[:: max(1, math.ceil(len(rows) / most))])


def quantile(values: Sequence[float], share: float) -> float:
    """Linear interpolation at (n - 1)·share of the sorted values."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def clip(z: Vector, low: Sequence[float], high: Sequence[float]) -> Vector:
    """Each score inside its bounds."""
    return tuple(min(max(x, lo), hi) for x, lo, hi in zip(z, low, high, strict=True))


def square_distance(x: Sequence[float], y: Sequence[float]) -> float:
    """Squared Euclidean."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += (a - b) * (a - b)
    return total


def nearest(z: Vector, centroids: Sequence[Sequence[float]]) -> int:
    """The place of the nearest centroid; of equally near ones the first."""
    distances = [square_distance(z, centroid) for centroid in centroids]
    return distances.index(min(distances))


def contrast(z: Sequence[float]) -> float:
    """How much thicker than usual the hit side is than the other."""
    return z[SBS] - z[OBS]


def centre(rows: Sequence[Vector]) -> Vector:
    """The mean of each feature."""
    return tuple(mean(column) for column in zip(*rows, strict=True))


def thirds(rows: Sequence[Vector]) -> list[list[Vector]]:
    """The rows by rising contrast, cut in three; equal ones stay in their order."""
    ordered = sorted(rows, key=contrast)
    n = len(ordered)
    first, second = n // 3, 2 * n // 3
    return [ordered[:first], ordered[first:second], ordered[second:]]


@dataclass(frozen=True)
class Partition:
    """Where Lloyd's iteration came to rest: centroids, the label of each row, rounds."""

    centroids: list[Vector]
    labels: list[int]
    rounds: int


def lloyd(rows: Sequence[Vector], start: Sequence[Vector], max_iter: int) -> Partition | None:
    """Nearest centroid, then means, until no label changes; None once a cluster is empty."""
    centroids, labels, rounds = list(start), [-1] * len(rows), 0
    while rounds < max_iter:
        before, labels = labels, [nearest(z, centroids) for z in rows]
        rounds += 1
        groups = [members(rows, labels, c) for c in range(len(centroids))]
        if not all(groups):
            return None
        centroids = [centre(group) for group in groups]
        if labels == before:
            return Partition(centroids, labels, rounds)
    labels = [nearest(z, centroids) for z in rows]  # of the centroids that remain
    if len(set(labels)) < len(centroids):
        return None
    return Partition(centroids, labels, rounds)


def members(rows: Sequence[Vector], labels: Sequence[int], label: int) -> list[Vector]:
    """The rows with one label."""
    return [z for z, own in zip(rows, labels, strict=True) if own == label]


def numbered(partition: Partition) -> Partition:
    """The clusters in the order of their contrast."""
    places = range(len(partition.centroids))
    order = sorted(places, key=lambda c: contrast(partition.centroids[c]))
    place = {old: new for new, old in enumerate(order)}
    centroids = [partition.centroids[old] for old in order]
    return Partition(centroids, [place[own] for own in partition.labels], partition.rounds)


def silhouette(rows: Sequence[Vector], labels: Sequence[int]) -> float | None:
    """The mean over rows of (b - a) / max(a, b); 0 for a row alone in its cluster.

    a is the mean distance to the others of its cluster, b that to the nearest other cluster;
    None where there is but one cluster.
    """
    present = sorted(set(labels))
    if len(present) <= 1:
        return None
    groups = {label: members(rows, labels, label) for label in present}
    values = []
    for z, own in zip(rows, labels, strict=True):
        if len(groups[own]) == 1:
            values.append(0.0)
            continue
        sums = {c: math.fsum(math.dist(z, other) for other in groups[c]) for c in present}
        a = sums[own] / (len(groups[own]) - 1)
        b = min(sums[c] / len(groups[c]) for c in present if c != own)
        values.append((b - a) / max(a, b) if max(a, b) else 0.0)
    return mean(values)


def shift(new: Sequence[Sequence[float]], old: Sequence[Sequence[float]]) -> float:
    """The root mean square difference of all coordinates."""
    squares = [
        (a - b) ** 2
        for left, right in zip(new, old, strict=True)
        for a, b in zip(left, right, strict=True)
    ]
    return math.sqrt(mean(squares))


def fit(rows: Sequence[Vector], settings: Settings = DEFAULTS) -> Row | None:
    """What a day's z rows make of a model; None without one."""
    if len(rows) < settings.min_rows:
        return None
    sample = every(rows, settings.max_fit)
    columns = list(zip(*sample, strict=True))
    low = [quantile(column, LOW_SHARE) for column in columns]
    high = [quantile(column, HIGH_SHARE) for column in columns]
    clipped = [clip(z, low, high) for z in sample]
    parts = thirds(clipped)
    if not all(parts):
        return None
    found = lloyd(clipped, [centre(part) for part in parts], settings.max_iter)
    if found is None:
        return None
    found = numbered(found)
    contrasts = [contrast(centroid) for centroid in found.centroids]
    step = max(1, math.ceil(len(clipped) / SILHOUETTE_ROWS))
    return {
        "features": list(FEATURES),
        "n_rows": len(rows),
        "n_fit": len(sample),
        "counts": [found.labels.count(c) for c in range(len(CLUSTERS))],
        "centroids": [list(centroid) for centroid in found.centroids],
        "clip_low": low,
        "clip_high": high,
        "contrast": contrasts,
        "role_margin": min(b - a for a, b in pairwise(contrasts)),
        "roles": list(settings.phi_of),
        "inertia": math.fsum(
            square_distance(z, found.centroids[c])
            for z, c in zip(clipped, found.labels, strict=True)
        ),
        "iterations": found.rounds,
        "silhouette": silhouette(clipped[::step], found.labels[::step]),
    }


def label(z: Vector | None, model: Row | None) -> int | None:
    """The cluster of a trade; None without a score or a model."""
    if z is None or model is None:
        return None
    return CLUSTERS[nearest(clip(z, model["clip_low"], model["clip_high"]), model["centroids"])]


def role(cluster: int | None, model: Row | None) -> int | None:
    """The phi of a cluster."""
    if cluster is None or model is None:
        return None
    phi: int = model["roles"][cluster - 1]
    return phi


# -- everything of an instrument -----------------------------------------------------------


@dataclass
class Oracle:
    """Committed rows of one instrument, and what follows from them.

    Attributes:
        watermark: the least of the largest times of raw trades, quotes and books, in ms.
        given: models to use in place of those that would be fitted.
    """

    trades: Sequence[Mapping[str, Any]]
    quote: Sequence[Mapping[str, Any]]
    book: Sequence[Mapping[str, Any]]
    book_events: Sequence[Mapping[str, Any]]
    watermark: int
    settings: Settings = DEFAULTS
    given: Mapping[date, Row] | None = None

    @cached_property
    def quotes(self) -> Quotes:
        """The valid quotes."""
        return read_quotes(self.quote, self.settings.max_age_s)

    @cached_property
    def depths(self) -> Depths:
        """The valid book rows."""
        return read_depths(self.book, self.book_events, self.settings)

    @cached_property
    def featured(self) -> list[Featured]:
        """All trades."""
        return featured_trades(self.trades, self.quotes, self.depths, self.settings)

    @cached_property
    def models(self) -> dict[date, Row]:
        """The model of every day that has one, by the day it is valid from."""
        if self.given is not None:
            return dict(self.given)
        found: dict[date, Row] = {}
        for trained_on in sorted({trade.day for trade in self.featured}):
            valid_from = trained_on + timedelta(days=1)
            if midnight(valid_from) <= self.watermark:
                model = self.trained(trained_on, found)
                if model is not None:
                    found[valid_from] = model
        return found

    def trained(self, trained_on: date, before: Mapping[date, Row]) -> Row | None:
        """The document of the model that a day leads to."""
        of_day = [trade for trade in self.featured if trade.day == trained_on]
        fitted = fit([trade.z for trade in of_day if trade.z is not None], self.settings)
        if fitted is None:
            return None
        valid_from = trained_on + timedelta(days=1)
        last = before[max(before)] if before else None
        flows = [flow_of(trade, fitted) for trade in of_day]
        tau_s, horizon_s = self.settings.tau_s, self.settings.horizon_s
        days: Row = {"valid_from": str(valid_from), "trained_on": str(trained_on)}
        document = days | fitted
        document["centroid_shift"] = (
            None if last is None else shift(fitted["centroids"], last["centroids"])
        )
        document |= {"tau_s": tau_s, "horizon_s": horizon_s}
        return document | calibrate(
            flows, self.quotes.mid_at, midnight(valid_from), tau_s=tau_s, horizon_s=horizon_s
        )

    @cached_property
    def flows(self) -> list[Flow]:
        """Every trade with its label."""
        return [flow_of(trade, model_for(self.models, trade.day)) for trade in self.featured]

    @cached_property
    def rows(self) -> list[Row]:
        """Rows of `clusters`."""
        return [
            {"seq": trade.seq, "ts": trade.ts}
            | dict(zip(FEATURES, trade.features, strict=True))
            | dict(zip(SCORES, trade.z or (None,) * len(SCORES), strict=True))
            | {"cluster": flow.cluster, "phi": flow.phi}
            for trade, flow in zip(self.featured, self.flows, strict=True)
            if trade.clock <= self.watermark
        ]

    def maker(
        self,
        tick: Decimal,
        inventory: Inventory = (),
        head: Mapping[str, Any] | None = None,
        settings: MakerSettings = MAKER,
    ) -> list[Row]:
        """Rows of `maker_1s`."""
        return maker_rows(
            self.flows,
            self.quotes,
            self.models,
            self.watermark,
            tick,
            inventory=inventory,
            head=head,
            tau_s=self.settings.tau_s,
            settings=settings,
        )


def flow_of(trade: Featured, model: Row | None) -> Flow:
    """What the accumulators see of a trade under a model."""
    cluster = label(trade.z, model)
    return Flow(trade.clock, trade.size, trade.side, cluster, role(cluster, model))
