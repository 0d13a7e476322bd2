"""`flowvault report`: a page to look at."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.choose import choose, instrument_options
from pipeline.cli.moment import moment_us
from pipeline.errors import MissingInputError, StateError
from pipeline.stage import DAY_US

if TYPE_CHECKING:
    from pipeline.instrument import Instrument

_DATE_LENGTH = len("2025-12-14")
_TRIES = 5


@click.command(epilog="Example: flowvault report -i BTC-USDT-SWAP --exchange sim --open")
@instrument_options
@click.option("--day", metavar="DAY", help="One UTC day [default: the last one that has rows].")
@click.option("--from", "start", metavar="TIME", help="First day or time, UTC.")
@click.option("--to", "end", metavar="TIME", help="Last day (all of it), or time (before it).")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file [default: EXCHANGE-MARKET-INSTID-DAY.html here].",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@click.pass_obj
def command(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    day: str | None,
    start: str | None,
    end: str | None,
    output: Path | None,
    show: bool,
) -> None:
    """Write one HTML page of what the layers say about an instrument.

    Candles with VWAP bands, volume by tier, CVD, order flow, VPIN and λ; the volume profile
    beside the price; whales, absorption, divergence, untouched wicks, liquidity walls; signals
    with their reasons; and how good the data are. Everything is in the file: it opens offline.
    """
    instruments = choose(vault, inst_ids, exchange, market, every)
    if output is not None and len(instruments) > 1:
        raise click.UsageError("-o names one file; choose one instrument, or leave it out")
    if day is not None and (start or end):
        raise click.UsageError("--day is one day, --from and --to are a range: not both")
    low, high = _ends(day or start, day or end)
    written = 0
    for instrument in instruments:
        try:
            path = _write(vault, instrument, low, high, output)
        except MissingInputError as error:
            if len(instruments) == 1:
                raise
            click.echo(f"flowvault: {error.message}", err=True)
            continue
        written += 1
        click.echo(f"{path}  {path.stat().st_size:,} B")
        if show:
            webbrowser.open(path.absolute().as_uri())
    if not written:
        raise MissingInputError("nothing was written", "flowvault status")


def _ends(first: str | None, last: str | None) -> tuple[int | None, int | None]:
    """From when to before when, microseconds; a last day counts to its end."""
    low = None if first is None else moment_us(first)
    high = None if last is None else moment_us(last)
    if last is not None and high is not None and len(last) == _DATE_LENGTH:
        high += DAY_US
    return low, high


def _write(
    vault: Path, instrument: Instrument, low: int | None, high: int | None, output: Path | None
) -> Path:
    """Write the page of one instrument, and tell where it is."""
    from pipeline.engine.within import Committed  # noqa: PLC0415
    from pipeline.report import page  # noqa: PLC0415
    from pipeline.report.span import choose_span  # noqa: PLC0415

    for attempt in range(_TRIES):
        committed = Committed(vault, instrument)
        span = choose_span(committed, low, high)
        days = span.days()
        name = "-".join(dict.fromkeys((days[0].day, days[-1].day)))
        own = f"{instrument.exchange}-{instrument.market}-{instrument.inst_id}-{name}.html"
        path = output or Path(own)
        try:
            page.write(path, committed, span)
        except StateError:
            # a rebuild may have swapped other files in while these were being read
            is_new = Committed(vault, instrument).epochs != committed.epochs
            if attempt == _TRIES - 1 or not is_new:
                raise
        else:
            return path
    raise AssertionError
