"""Write a simulated market into a vault's raw folder.

All of it is simulated data under exchange ``sim``. The same arguments give the
same bytes (for one version of numpy). Draws depend on the seed, the instrument
and the number of the day counted from `start`, so more days only append.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pipeline.sim.activity import DAY_MS, MINUTE_MS, day_activity, trade_times
from pipeline.sim.book import Book, BookDay, event_times
from pipeline.sim.context import KINDS as CONTEXT_KINDS
from pipeline.sim.context import ContextCarry, ContextLines, draw_day
from pipeline.sim.events import plan_day
from pipeline.sim.instrument import instrument
from pipeline.sim.lines import BookLines, write_texts, write_trades
from pipeline.sim.path import step_times, walk
from pipeline.sim.tape import make_tape, minute_bounds
from pipeline.sim.truth import Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

    from pipeline.sim.events import Event
    from pipeline.sim.instrument import Instrument
    from pipeline.sim.path import Touch

HOUR_MS = 60 * MINUTE_MS
DAY_HOURS = 24
FIRST_TRADE_ID = 1_000_000_001
DEFAULT_START = dt.date(2025, 1, 6)

_SIDE_SUFFIXES = ("", ".gz", ".zst")


@dataclass(slots=True)
class _Carry:
    """What one simulated day hands to the next."""

    bid: int
    next_id: int
    book: Book
    context: ContextCarry


@dataclass(frozen=True, slots=True)
class _Job:
    """One day to write: `stop_ms` is 24 hours but for a last day cut short."""

    facts: Instrument
    seed: int
    index: int
    day: dt.date
    stop_ms: int
    speed: float
    book_ms: int
    setups: bool
    paths: dict[str, Path]
    progress: Callable[[str, float], None]

    def rng(self, stream: int) -> np.random.Generator:
        """Return the generator of one stream of draws; streams do not disturb each other."""
        name = zlib.crc32(self.facts.inst_id.encode())
        entropy = [self.seed, self.index, stream, name]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    @property
    def midnight_ms(self) -> int:
        """The day's first ms since the epoch."""
        return (self.day - dt.date(1970, 1, 1)).days * DAY_MS


def write_market(
    vault: Path,
    *,
    inst_id: str = "BTC-USDT-SWAP",
    start: dt.date = DEFAULT_START,
    days: int = 1,
    hours: float | None = None,
    seed: int = 7,
    speed: float = 2.0,
    books: bool = True,
    quotes: bool = True,
    book_ms: int = 1000,
    setups: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> list[Path]:
    """Write simulated trades, books, quotes and the planted truth.

    Files are `raw/sim/{trades,books,quotes,truth}_perps/{inst_id}/{date}.jsonl`;
    with setups also those of `open_interest`, `liquidations`, `ratio` and
    `whale_alerts`.
    A trade buys at the best ask and sells at the best bid of the last book event
    at or before its time; a quote is the top of the book at its time.

    Args:
        vault: the vault's folder; made if missing.
        inst_id: BTC-USDT-SWAP and ETH-USDT-SWAP have their own shape, any other
            name trades like BTC-USDT-SWAP.
        start: first UTC day.
        days: how many days; each is a prefix-stable continuation of the last.
        hours: cut the last day after this many hours, 0 < hours <= 24.
        seed: at least 0.
        speed: mean trades per second over a day.
        books: write order books, and their walls in the truth.
        quotes: write best bid and offer.
        book_ms: the book is refreshed once in each cell of this length, which
            divides an hour, and whenever the touch moves.
        setups: plant what the rules that ship look for, one of either side in
            the second and third hour of each day, with the feeds beside them.
        overwrite: replace files that exist.
        progress: called with what was just done and the share of all work done.

    Returns:
        The paths written, in order of day, then trades, books, quotes, the
        feeds of setups, truth.

    Raises:
        FileExistsError: a target (or its .gz or .zst) exists; nothing was written.
        ValueError: an argument is out of range.
    """
    _check(days=days, hours=hours, seed=seed, speed=speed, book_ms=book_ms)
    if setups and not books:
        raise ValueError("setups need order books")
    facts = instrument(inst_id)
    kinds = ["trades", *(["books"] if books else []), *(["quotes"] if quotes else [])]
    kinds += [*CONTEXT_KINDS, "truth"] if setups else ["truth"]
    folders = {kind: Path(vault) / "raw" / "sim" / f"{kind}_perps" / inst_id for kind in kinds}
    dates = [start + dt.timedelta(days=index) for index in range(days)]
    targets = [{kind: folders[kind] / f"{day}.jsonl" for kind in kinds} for day in dates]
    if not overwrite:
        _refuse_existing(path for paths in targets for path in paths.values())

    opening = facts.anchor_ticks - facts.bps(20)
    carry = _Carry(opening, FIRST_TRADE_ID, Book(facts), ContextCarry.of(facts))
    written: list[Path] = []
    for index, (day, paths) in enumerate(zip(dates, targets, strict=True)):
        is_cut = hours is not None and index == days - 1
        job = _Job(
            facts,
            seed,
            index,
            day,
            stop_ms=round(hours * HOUR_MS) if is_cut and hours is not None else DAY_MS,
            speed=speed,
            book_ms=book_ms,
            setups=setups,
            paths=paths,
            progress=_scaled(progress, index, days),
        )
        _write_day(job, carry)
        written += paths.values()
    return written


def _check(*, days: int, hours: float | None, seed: int, speed: float, book_ms: int) -> None:
    if days < 1:
        message = f"days is {days}, must be at least 1"
        raise ValueError(message)
    if hours is not None and not 0 < hours <= DAY_HOURS:
        message = f"hours is {hours}, must be above 0 and at most 24"
        raise ValueError(message)
    if seed < 0:
        message = f"seed is {seed}, must be at least 0"
        raise ValueError(message)
    if not 0 < speed < float("inf"):
        message = f"speed is {speed}, must be above 0 trades per second"
        raise ValueError(message)
    if book_ms < 1 or HOUR_MS % book_ms:
        message = f"book_ms is {book_ms}, must divide an hour (3600000 ms)"
        raise ValueError(message)


def _refuse_existing(paths: Iterator[Path]) -> None:
    for path in paths:
        for suffix in _SIDE_SUFFIXES:
            target = path.with_name(path.name + suffix)
            if target.exists():
                message = f"{target} exists; pass overwrite=True to replace simulated data"
                raise FileExistsError(message)


def _scaled(
    progress: Callable[[str, float], None] | None, index: int, days: int
) -> Callable[[str, float], None]:
    """Return a reporter that takes shares of one day."""

    def report(what: str, share: float) -> None:
        if progress is not None:
            progress(what, (index + share) / days)

    return report


def _write_day(job: _Job, carry: _Carry) -> None:
    """Draw one whole day, write it up to the job's stop, and move `carry` on."""
    facts = job.facts
    events = plan_day(job.rng(0), setups=job.setups)
    activity = day_activity(job.rng(1), events, job.speed)
    times = trade_times(job.rng(2), activity.trades)
    steps = step_times(job.rng(3))
    step = _anchor_step(events, times, steps)
    touch = walk(job.rng(4), facts, events, activity, steps, last_bid=carry.bid, anchor_step=step)
    tape = make_tape(job.rng(5), facts, events, activity, touch, times=times)
    job.progress(f"{job.day} drawn", 0.1)

    count = int(np.searchsorted(times, job.stop_ms))
    with contextlib.ExitStack() as stack:
        files = {kind: stack.enter_context(_open(path)) for kind, path in job.paths.items()}
        write_trades(
            files["trades"],
            facts,
            tape,
            count=count,
            midnight_ms=job.midnight_ms,
            first_id=carry.next_id,
        )
        job.progress(f"{job.day} trades", 0.2)
        lives = []
        if "books" in files or "quotes" in files:
            day = BookDay(job.rng(6), carry.book, touch)
            _write_books(job, day, touch, files)
            lives = day.lives if "books" in files else []
        measure = Measure(facts, job.day, tape, touch, carry.next_id)
        if job.setups:
            context = draw_day(job.rng(8), facts, events, carry.context)
            lines = ContextLines(facts, job.midnight_ms, context)
            for kind in CONTEXT_KINDS:
                files[kind].writelines(lines.texts(kind, job.stop_ms))
            measure.context = context
        rows = measure.rows(events, lives, job.stop_ms)
        encode = msgspec.json.Encoder().encode
        files["truth"].write(b"".join(encode(row) + b"\n" for row in rows))
    job.progress(f"{job.day} done", 1.0)

    carry.bid = int(touch.bid[-1])
    carry.next_id += len(times)


def _anchor_step(events: list[Event], times: NDArray[np.int64], steps: NDArray[np.int64]) -> int:
    """Return the step in which the exact whale trades: its minute's middle trade."""
    whale = next(event for event in events if event.name == "exact_whale")
    bounds = minute_bounds(times)
    middle = int(bounds[whale.minute] + bounds[whale.stop]) // 2
    return int(np.searchsorted(steps, times[middle], side="right")) - 1


def _write_books(job: _Job, day: BookDay, touch: Touch, files: dict[str, BinaryIO]) -> None:
    times = event_times(job.rng(7), touch, job.book_ms)
    lines = BookLines(job.facts, job.midnight_ms)
    hours = -(-job.stop_ms // HOUR_MS)
    for hour in range(hours):
        first, last = np.searchsorted(times, (hour * HOUR_MS, (hour + 1) * HOUR_MS)).tolist()
        book_lines: list[str] = []
        quote_lines: list[str] = []
        for event in day.events(times[first:last]):
            if event.time_ms >= job.stop_ms:
                break
            if "books" in files:
                book_lines.append(lines.book(event))
            if "quotes" in files:
                quote_lines.append(lines.quote(event))
        if "books" in files:
            write_texts(files["books"], book_lines)
        if "quotes" in files:
            write_texts(files["quotes"], quote_lines)
        job.progress(f"{job.day} books {hour:02d}h", 0.2 + 0.75 * (hour + 1) / hours)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when everything in it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        os.replace(part, path)  # noqa: PTH105  (replaces on Windows too)
    finally:
        part.unlink(missing_ok=True)
