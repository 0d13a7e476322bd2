"""`flowvault follow`: stay, and carry what collectors append through every layer."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pipeline import stages
from pipeline.cli.choose import choose, chooser, instrument_options, json_option
from pipeline.cli.run import tables_are_here
from pipeline.instrument import Instrument

NO_TABLES = (
    "market-wide tables of US equities are made from whole files and are not followed; "
    "bring them up to date with `flowvault run --all`"
)
URGENT = ("signals_mtf",)
"""What people wait for: it is brought out before all else."""

MOST_WORKERS = 8
"""So many processes at most unless more are asked for: each takes some 200 MB."""


@click.command(epilog="Example: flowvault follow --all")
@instrument_options
@click.option(
    "--stage", "names", multiple=True, metavar="NAME", help="Only this stage; may be repeated."
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(min=0.001),
    metavar="SECONDS",
    help="Look at the raw files this often instead of being told by the system: for raw data on "
    "another machine's disk.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Share the instruments among N processes (default: one for each core, up to 8).",
)
@json_option("One JSON object per commit and event.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    names: tuple[str, ...],
    poll_s: float | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Stay, and carry new data through every layer as it comes.

    The same files and commits as of `flowvault run`, which may go on beside it. Ends with Ctrl-C
    or SIGTERM behind the commit in hand, and can be killed at any time. Prints a line for each
    closed five-minute bar if there is a terminal, and nothing but errors if there is none.
    """
    for name in names:
        if name not in stages.SUMMARY:
            known = ", ".join(stages.SUMMARY)
            raise click.UsageError(f"no stage {name!r}; stages: {known}")
    chosen = choose(vault, inst_ids, exchange, market, every)
    chain = stages.with_upstream(list(names) or list(stages.SUMMARY))

    from pipeline.cli.follow_events import listening  # noqa: PLC0415
    from pipeline.cores import cores  # noqa: PLC0415
    from pipeline.engine.crew import Crew  # noqa: PLC0415
    from pipeline.engine.follow import Follow  # noqa: PLC0415
    from pipeline.engine.paths import find_instruments  # noqa: PLC0415

    def find() -> Sequence[Instrument]:
        if not every:
            return chosen
        return list(filter(chooser((), exchange, market), find_instruments(vault)))

    count = workers or max(1, min(cores(), len(find()), MOST_WORKERS))
    following: list[Follow | Crew] = []

    def stop() -> None:
        for each in following:
            each.stop()

    with listening(vault, chain, as_json=as_json, on_end=stop) as listener:
        if every and not names and tables_are_here(vault, exchange, market):
            listener.noted(NO_TABLES)
        if count > 1:
            crew = Crew(vault, find, chain, listener, urgent=URGENT, poll_s=poll_s, count=count)
            following.append(crew)
        else:
            following.append(Follow(vault, find, chain, listener, urgent=URGENT, poll_s=poll_s))
        with _until_told(stop):
            following[0].run()


@contextmanager
def _until_told(stop: Any) -> Iterator[None]:
    """Have the first signal to end call `stop`; a second one ends the process at once."""
    kinds = [signal.SIGINT, signal.SIGTERM]
    if sys.platform == "win32":
        kinds.append(signal.SIGBREAK)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def told(_kind: int, _frame: object) -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        stop()

    for kind in kinds:
        signal.signal(kind, told)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
