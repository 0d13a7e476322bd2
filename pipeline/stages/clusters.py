"""Trades in three clusters by the book they met, a new model every day (Parquet).

A row is one trade: six features of the quote and the book just before it, their scores against
the 100 trades before, and the cluster that the day's model puts it in. A model is trained at
00:00 UTC from the scores of the day before, and says what it learnt: how good its clusters are,
how far the price followed their flow. Two more layers hold what training and quoting read again:
each trade's signed size, and the best quote at every whole second.

Advice at best: clusters are weak, and which of them stands for what is not settled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc import cluster_model
from pipeline.calc.calibration import Mids, calibrate
from pipeline.calc.cluster_model import CLUSTERS, FEATURES, SCORES, Calibration, Centres
from pipeline.calc.lookup import taken, whole_seconds
from pipeline.calc.rolling import scores
from pipeline.calc.trade_features import Books, LastBook, LastQuote, Quotes, features
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.reach import Reach, Told
from pipeline.stage import BEGINNING_US, DAY_US, Closed, Context, Input, Joined, Row, Stage

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ROLES = {"depth": (1, 3, 2), "inverted": (2, 3, 1)}
BEHIND_US = 300_000_000
"""How far a trade may stand behind those before it and still find its quote and book."""

_DAY_MS, _DAY_S = 86_400_000, 86_400
_SECOND_US, _MS_US = 1_000_000, 1000
_LEVELS = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = pl.Datetime("us", "UTC")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[clusters]`.

    `roles`: what clusters 1, 2, 3 stand for (1 directional, 2 opportunistic, 3 market-making),
    "depth" for [1, 3, 2], "inverted" for [2, 3, 1]. `book_ms` is that of `[book]`.
    """

    max_age_s: Annotated[int, msgspec.Meta(ge=1)] = 60
    depth_levels: Annotated[int, msgspec.Meta(ge=1, le=_LEVELS)] = 5
    window: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 100
    sd_floor: float = 0.001
    min_rows: Annotated[int, msgspec.Meta(ge=CLUSTERS)] = 1000
    max_fit: Annotated[int, msgspec.Meta(ge=CLUSTERS)] = 200_000
    max_iter: Annotated[int, msgspec.Meta(ge=1)] = 300
    roles: Literal["depth", "inverted"] | tuple[int, int, int] = "depth"
    tau_s: float = 10.0
    horizon_s: Annotated[int, msgspec.Meta(ge=1)] = 5
    book_ms: Annotated[int, msgspec.Meta(ge=0)] = 100

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in ("sd_floor", "tau_s"):
            check_positive(**{name: getattr(self, name)})
        if sorted(self.mapping) != list(range(1, CLUSTERS + 1)):
            raise ValueError(f"roles must hold 1, 2 and 3, each once, not {list(self.mapping)}")

    @property
    def mapping(self) -> tuple[int, ...]:
        """The roles of clusters 1, 2 and 3."""
        return ROLES[self.roles] if isinstance(self.roles, str) else self.roles


class Carry(msgspec.Struct):
    """What outlives a run.

    Attributes:
        quote, book: what stands in front of the rows that will be shown again from `low_us` on.
        clock: the newest time of a trade, milliseconds.
        recent: the features of the last trades that had all of them, `window` at most.
        rows: trades of the clock's day so far.
        is_trained: whether that day's scores have been used.
        second: the last whole second whose quote is written.
    """

    quote: LastQuote | None = None
    book: LastBook | None = None
    low_us: int | None = None
    clock: int | None = None
    recent: list[list[float]] = []
    rows: int = 0
    is_trained: bool = False
    second: int | None = None
    centres: Centres | None = None


@dataclass(frozen=True)
class Tape:
    """Trades in their order, each with its clock, milliseconds."""

    seq: Ints
    us: Ints
    clock: Ints
    size: Floats
    side: Ints

    @property
    def flow(self) -> Floats:
        """Sizes, negative where the taker sold."""
        return self.size * self.side


@dataclass
class Day:
    """What is known of one day's trades, in their order."""

    clock: list[Ints] = field(default_factory=list)
    flow: list[Floats] = field(default_factory=list)
    scores: list[Floats] = field(default_factory=list)


def select(params: Params, carries: dict[str, dict[str, Any]]) -> tuple[Input, ...]:
    """The inputs; sizes of as many levels as are asked for."""
    ranks = range(params.depth_levels)
    sizes = tuple(f"{side}_sz_{rank}" for side in ("bid", "ask") for rank in ranks)
    # whether a cell's last event comes before a trade in it is known when the cell is over, or as
    # soon as there is an event that does not
    newest = carries.get("book", {}).get("event_us")
    cell_us = params.book_ms * _MS_US
    book = Input("book", sizes, behind_us=BEHIND_US, cell_us=cell_us, known_us=newest)
    inputs = (_TRADES, _QUOTE, book, _EVENTS)
    return tuple(each for each in inputs if each.layer in carries)


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Describe and label the new trades; train a model behind every day that is over."""
    params, frames = context.params, joined.frames
    quotes = Quotes.of(frames["quote"], carry.quote)
    books = Books.of(frames["book"], frames["book_events"], params.depth_levels, carry.book)
    tape = _tape(frames["trades"], carry.clock)
    found = _features(tape, quotes, books, joined, carry, params)
    scored, recent = _scores(found, carry.recent, params)
    seconds, second = _seconds(quotes, joined, carry, params)
    work = _Work(joined.end_us, carry, context, tape, scored, seconds)
    clusters, roles, documents = work.days()
    low_us = joined.end_us - BEHIND_US
    after = msgspec.structs.replace(
        work.carry,
        quote=quotes.last_before(low_us),
        book=books.last_before(low_us),
        low_us=low_us,
        clock=int(tape.clock[-1]) if len(tape.clock) else carry.clock,
        recent=recent,
        second=second,
    )
    rows: dict[str, Any] = {"quote_1s": seconds if seconds.height else None, "model": documents}
    if len(tape.seq):
        rows["clusters"] = _rows(tape, found, scored, clusters, roles)
        rows["cluster_flow"] = pl.DataFrame(
            {"ts": _stamps(tape.clock * _MS_US), "flow": tape.flow, "phi": _named(roles)}
        )
    return Closed(after, rows)


def _tape(trades: pl.DataFrame, clock: int | None) -> Tape:
    us = trades["ts"].to_numpy()
    times = np.maximum.accumulate(us // _MS_US) if len(us) else us
    return Tape(
        trades["seq"].to_numpy(),
        us,
        times if clock is None else np.maximum(times, clock),
        trades["size"].to_numpy(),
        trades["side"].to_numpy().astype(np.int64),
    )


def _features(
    tape: Tape, quotes: Quotes, books: Books, joined: Joined, carry: Carry, params: Params
) -> Floats:
    """The six features of each trade; NaN where an input was given up, or left far behind."""
    age_ms, times = params.max_age_s * 1000, tape.us // _MS_US
    is_shown = tape.us >= (BEGINNING_US if carry.low_us is None else carry.low_us)
    of_quote = is_shown & (tape.us <= _known_until(joined, "quote"))
    of_book = is_shown & (tape.us <= _known_until(joined, "book", "book_events"))
    at = np.where(of_quote, quotes.rows_before(times, age_ms), -1)
    row = np.where(of_book, books.rows_before(times, age_ms), -1)
    return features(times, tape.size, tape.side, (quotes, at), (books, row))


def _known_until(joined: Joined, *layers: str) -> int:
    return min(joined.given_up.get(layer, joined.end_us) for layer in layers)


def _scores(
    found: Floats, recent: list[list[float]], params: Params
) -> tuple[Floats, list[list[float]]]:
    """Scores of the trades that have all features and `window` such trades before them."""
    whole = np.flatnonzero(~np.isnan(found).any(axis=1))
    before = np.array(recent).reshape(-1, len(FEATURES))
    rows = np.concatenate((before, found[whole]))
    scored = np.full_like(found, np.nan)
    if len(rows) > params.window:
        own = scores(rows, params.window, params.sd_floor)
        scored[whole[len(whole) - len(own) :]] = own
    return scored, rows[-params.window :].tolist()


def _seconds(
    quotes: Quotes, joined: Joined, carry: Carry, params: Params
) -> tuple[pl.DataFrame, int | None]:
    """The best quote just before each whole second that the window has reached."""
    age_ms = params.max_age_s * 1000
    last = min(joined.end_us, _known_until(joined, "quote")) // _SECOND_US
    if carry.second is None and not len(quotes.ts):
        return _SECONDS, None
    first = int(quotes.ts[0]) // 1000 if carry.second is None else carry.second
    seconds = whole_seconds(quotes.ts, first + 1, last, age_ms)
    rows = quotes.rows_before(seconds * 1000, age_ms)
    seconds, rows = seconds[rows >= 0], rows[rows >= 0]
    found = pl.DataFrame(
        {
            "ts": _stamps(seconds * _SECOND_US),
            "bid": taken(quotes.bid, rows),
            "ask": taken(quotes.ask, rows),
        }
    )
    return found, max(first, last)


class _Work:
    """The way through the days of a window."""

    def __init__(
        self,
        end_us: int,
        carry: Carry,
        context: Context[Params],
        tape: Tape,
        scored: Floats,
        seconds: pl.DataFrame,
    ) -> None:
        self.carry = msgspec.structs.replace(carry)
        self._end_us = end_us
        self._before = carry
        self._context = context
        self._tape = tape
        self._scored = scored
        self._seconds = seconds
        self._documents: list[Row] = []
        self._first = 0
        """The window's first trade of the day at hand."""

    def days(self) -> tuple[Ints, Ints, list[Row]]:
        """Clusters and roles of all trades (0: none), and the models trained on the way."""
        carry, clock = self.carry, self._tape.clock
        clusters = np.zeros(len(clock), np.int64)
        roles = np.zeros(len(clock), np.int64)
        days = clock // _DAY_MS
        edges = [*np.flatnonzero(np.diff(days, prepend=-1)).tolist(), len(days)]
        day = None if self._before.clock is None else self._before.clock // _DAY_MS
        for low, high in pairwise(edges):
            if day is not None and int(days[low]) > day:
                self._train(day, low)
                carry.rows, carry.is_trained, self._first = 0, False, low
            day = int(days[low])
            carry.rows += high - low
            if carry.centres is not None:
                clusters[low:high] = cluster_model.label(self._scored[low:high], carry.centres)
                roles[low:high] = cluster_model.role(clusters[low:high], carry.centres)
        if day is not None and self._end_us >= (day + 1) * DAY_US:
            self._train(day, len(days))
        return clusters, roles, self._documents

    def _train(self, day: int, high: int) -> None:
        """Train on a day that is over; its last trades in the window end before `high`."""
        carry, params = self.carry, self._context.params
        if carry.is_trained:
            return
        carry.is_trained = True
        scored = self._of_day("clusters", list(SCORES), self._scored, high)
        scored_rows = scored[~np.isnan(scored).any(axis=1)]
        if len(scored_rows) < params.min_rows:
            return
        trained = cluster_model.train(scored_rows, params.mapping, params.max_fit, params.max_iter)
        if trained is None:
            return
        centres = trained.centres
        clusters = cluster_model.label(scored, centres)
        tape = self._tape
        flow = np.column_stack([tape.clock * _MS_US, tape.flow])
        flow = self._of_day("cluster_flow", ["ts", "flow"], flow, high)
        calibrated = calibrate(
            flow[:, 0].astype(np.int64) // _MS_US,
            flow[:, 1],
            clusters,
            cluster_model.role(clusters, centres),
            self._mids(day),
            params.tau_s,
            params.horizon_s,
        )
        shift = cluster_model.shift(centres, carry.centres)
        row = (*_names(day), *_described(trained), shift, params.tau_s, params.horizon_s)
        values = (*row, *(getattr(calibrated, name) for name in Calibration.__struct_fields__))
        self._documents.append(((day + 1) * DAY_US, values))
        carry.centres = centres

    def _of_day(self, layer: str, columns: list[str], own: Floats, high: int) -> Floats:
        """Columns of the day at hand: those written before, and the window's own."""
        new = own[self._first : high]
        written = self.carry.rows - len(new)
        if not written or self._context.last_rows is None:
            return new
        frame = self._context.last_rows(layer, written)
        if "ts" in columns:
            frame = frame.with_columns(pl.col("ts").dt.timestamp("us"))
        old = frame.select(columns).cast(pl.Float64).to_numpy()
        return np.concatenate((old, new))

    def _mids(self, day: int) -> Mids:
        """The mids at the whole seconds of a day."""
        first, last = day * _DAY_S, (day + 1) * _DAY_S
        frames = [self._seconds]
        count = (self._before.second or first) - first
        if count > 0 and self._context.last_rows is not None:
            written = self._context.last_rows("quote_1s", count)
            frames = [written, *frames] if written is not None else frames
        frame = pl.concat(frames)
        seconds = frame["ts"].dt.timestamp("us").to_numpy() // _SECOND_US
        inside = (seconds > first) & (seconds <= last)
        mids = (frame["bid"].to_numpy() + frame["ask"].to_numpy()) / 2
        return Mids(seconds[inside], mids[inside])


def _names(day: int) -> tuple[str, str]:
    """The day that a model begins to hold, and the one it was trained on."""
    trained_on = _EPOCH + timedelta(days=day)
    return f"{trained_on + timedelta(days=1):%Y-%m-%d}", f"{trained_on:%Y-%m-%d}"


def _described(trained: cluster_model.Trained) -> tuple[Any, ...]:
    centres = trained.centres
    return (
        list(FEATURES),
        trained.n_rows,
        trained.n_fit,
        trained.counts,
        centres.centroids,
        centres.clip_low,
        centres.clip_high,
        trained.contrast,
        trained.role_margin,
        centres.roles,
        trained.inertia,
        trained.iterations,
        trained.silhouette,
    )


def _rows(tape: Tape, found: Floats, scored: Floats, clusters: Ints, roles: Ints) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {
        "seq": pl.Series(tape.seq, dtype=pl.Int64),
        "ts": _stamps(tape.us),
    }
    for names, values in ((FEATURES, found), (SCORES, scored)):
        for name, column in zip(names, values.T, strict=True):
            columns[name] = pl.Series(np.ascontiguousarray(column)).fill_nan(None)
    return pl.DataFrame(columns | {"cluster": _named(clusters), "phi": _named(roles)})


def _named(numbers: Ints) -> pl.Series:
    """Small numbers, null for 0."""
    return pl.Series(numbers.astype(np.int8)).replace(0, None)


def _stamps(us: Ints) -> pl.Series:
    return pl.Series(us, dtype=pl.Int64).cast(_TIME)


_SECONDS = pl.DataFrame(schema={"ts": _TIME, "bid": pl.Float64, "ask": pl.Float64})

_FEATURE_TEXTS = (
    "ln(size / (bid_size + ask_size)) of the best quote",
    "ln(1 + size of the 5 best levels of the side that is hit: asks if it bought, else bids)",
    "ln(1 + size of the 5 best levels of the other side)",
    "1e4 x (ask - bid) / mid",
    "ln(1 + milliseconds since the quote that last changed bid + ask)",
    "ln(1 + milliseconds since the quote that last changed the price that is hit)",
)
_PHI = "1 directional, 2 opportunistic, 3 market-making, by roles of the model; null as cluster"

CLUSTERS_LAYER = Layer(
    "clusters",
    "clusters",
    "parquet",
    (
        Column("seq", "int64", "", "the trade's number in layer trades"),
        Column("ts", "timestamp[us, UTC]", "UTC", "its event time"),
        *(
            Column(
                name,
                "float64",
                "bps" if name == "spread_bps" else "",
                f"{text}, just before the trade; null if there was no valid quote or book then, "
                "or none for 60 s",
            )
            for name, text in zip(FEATURES, _FEATURE_TEXTS, strict=True)
        ),
        *(
            Column(
                score,
                "float64",
                "",
                f"({name} - m) / max(s, 0.001), m and s (ddof 1) of the 100 trades before that "
                "have all six; null until there are 100, or if one of the six is null",
            )
            for score, name in zip(SCORES, FEATURES, strict=True)
        ),
        Column(
            "cluster",
            "int8",
            "",
            "1, 2 or 3: nearest centroid of the newest model whose valid_from is not after the "
            "trade's day (that of the newest trade so far); null without scores or model",
        ),
        Column("phi", "int8", "", _PHI),
    ),
    "One row per trade, in the order of trades: features of the book it met, scores and cluster.",
)
FLOW = Layer(
    "cluster_flow",
    "cluster_flow",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "largest event time of the trades so far"),
        Column("flow", "float64", "base", "the trade's size, negative if the taker sold"),
        Column("phi", "int8", "", _PHI),
    ),
    "One row per trade, as clusters: what training and maker add up.",
)
SECONDS = Layer(
    "quote_1s",
    "quote_1s",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "a whole second"),
        Column("bid", "float64", "quote", "best bid of the last valid quote before it"),
        Column("ask", "float64", "quote", "its best ask"),
    ),
    "The best quote (0 < bid < ask, with sizes) just before each second; no row where there is "
    "none, or none for 60 s.",
)
MODEL = Layer(
    "model",
    "clusters",
    "json",
    (
        Column("valid_from", "string", "UTC", "first day on which it labels trades"),
        Column("trained_on", "string", "UTC", "the day before, whose scores it was trained on"),
        Column("features", "list", "", "names of the six features, in the order of all columns"),
        Column("n_rows", "int", "", "trades of that day with scores; at least 1000"),
        Column("n_fit", "int", "", "rows it was fitted to: every k-th, at most 200 000"),
        Column("counts", "list", "", "rows fitted in clusters 1, 2, 3"),
        Column("centroids", "list", "", "mean clipped scores of clusters 1, 2, 3"),
        Column("clip_low", "list", "", "1 % quantile of each score; scores are clipped to it"),
        Column("clip_high", "list", "", "99 % quantile of each score"),
        Column("contrast", "list", "", "z_sbs - z_obs of each centroid, rising"),
        Column(
            "role_margin", "float", "", "smallest difference of two contrasts; near 0 roles swap"
        ),
        Column(
            "roles",
            "list",
            "",
            "phi of clusters 1, 2, 3: depth [1, 3, 2], inverted [2, 3, 1] or as set",
        ),
        Column("inertia", "float", "", "sum of squared distances to the centroids"),
        Column("iterations", "int", "", "rounds until no label changed, at most 300"),
        Column(
            "silhouette",
            "float",
            "",
            "mean silhouette (Euclidean) of at most 2000 of the rows fitted; null if they lie in "
            "one cluster",
        ),
        Column(
            "centroid_shift",
            "float",
            "",
            "root mean square difference to the model before; null for the first",
        ),
        Column("tau_s", "float", "s", "time constant of the sums that fade"),
        Column("horizon_s", "int", "s", "horizon of the returns r that it was calibrated to"),
        Column(
            "n",
            "int",
            "",
            "seconds with a trade and a mid at their end and 5 s later; with fewer than 60 beta "
            "and gamma are 0 and what follows is null",
        ),
        Column("alpha", "float", "1/base", "1 / root mean square of sig_skew; null if that is 0"),
        Column("k_tol", "float", "base", "median of sig_hazard"),
        Column("beta_bps", "float", "bps", "b_raw_bps, but not below 0 nor above sigma_bps"),
        Column(
            "gamma",
            "float",
            "1/base",
            "max(0, g / a) of |r| = a + g x max(0, sig_hazard - k_tol) by least squares; 0 if that "
            "does not vary or a <= 0",
        ),
        Column("sigma_bps", "float", "bps", "standard deviation (ddof 0) of r"),
        Column(
            "b_raw_bps",
            "float",
            "bps",
            "sum of u r / sum of u^2, u = tanh(alpha x sig_skew), r = 1e4 x ln(mid(e + 5 s) / "
            "mid(e)) on the training day",
        ),
        Column(
            "ic",
            "list",
            "",
            "for clusters 1, 2, 3 the correlation of their own fading signed flow with r over 1, "
            "5, 30, 60 s",
        ),
    ),
    "One document per day: the clusters of the day before, their roles, and how far the price "
    "followed their flow.",
)

_TRADES = Input("trades", ("seq", "size", "side"))
_QUOTE = Input("quote", ("bid", "bid_size", "ask", "ask_size"), behind_us=BEHIND_US)
_EVENTS = Input("book_events", ("bid_depth",), behind_us=BEHIND_US)

_SCORED = "scores"
"""What a model needs of trades; which clusters they were put in does not matter to it."""
_CENTRES = "centres"
"""What a model needs of the one before."""
_OLD = 1_000_000
"""Prices stand for longer than anybody has data."""


def _since_us(trades: pl.DataFrame) -> int:
    """When the prices that some trades met had begun to stand."""
    ms = pl.col("ts").dt.timestamp("us") // _MS_US
    # the features are ln(1 + milliseconds)
    stood = pl.max_horizontal(pl.col(*_AGES)).exp() - 1
    since = trades.select((ms - stood.round().fill_null(0).cast(pl.Int64)).min() * _MS_US)
    return int(since.item())


_AGES = FEATURES[4:6]


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`.

    A trade is scored against those before it, each of which met a quote and a book; a model is
    made of the scores of its day, and compared with the model before.
    """
    del tick
    minute_us, age_us = 60 * _SECOND_US, params.max_age_s * _SECOND_US + _MS_US
    scored, flow, model = ("clusters",), ("cluster_flow",), ("model",)
    both = ("", _SCORED)
    told = Told(("ts", *_AGES), _since_us)
    return (
        Reach("trades", of=scored, rows=params.window, counted=FEATURES, parts=both),
        Reach(
            "quote",
            of=scored,
            rows=params.window,
            counted=FEATURES,
            told=told,
            behind_us=age_us,
            parts=both,
        ),
        *(
            Reach(
                layer,
                of=scored,
                rows=params.window,
                counted=FEATURES,
                behind_us=age_us,
                parts=both,
            )
            for layer in ("book", "book_events")
        ),
        # near midnight the clock may be ahead of the trade
        Reach("model", of=scored, since="ever", ahead_us=minute_us, which="last"),
        Reach("clusters", of=flow, which="same"),
        Reach("clusters", of=flow, which="same", asks=_SCORED, parts=(_SCORED,)),
        Reach("quote", of=("quote_1s",), behind_us=age_us),
        Reach("clusters", of=model, behind_us=minute_us, asks=_SCORED, parts=("", _CENTRES)),
        Reach("cluster_flow", of=model, asks=_SCORED),
        Reach("quote_1s", of=model, ahead_us=1),
        Reach("model", of=model, which="same", before=1, asks=_CENTRES),
    )


STAGE = Stage(
    name="clusters",
    inputs=(_TRADES, _QUOTE, Input("book", (), behind_us=BEHIND_US), _EVENTS),
    select=select,
    grid_us=0,
    layers=(CLUSTERS_LAYER, FLOW, SECONDS, MODEL),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
