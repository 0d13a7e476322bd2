"""`flowvault demo`: a simulated market to play with."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path

import click

from pipeline.errors import UsageError


@click.command(epilog="Example: flowvault demo --days 3 --seed 11 --speed 5")
@click.option(
    "-i",
    "--instId",
    "inst_id",
    default="BTC-USDT-SWAP",
    show_default=True,
    help="Any name with a contract size under sim/perps in instruments.toml.",
)
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2025-01-06",
    show_default=True,
    help="First day (UTC).",
)
@click.option(
    "--days", type=click.IntRange(min=1), default=1, show_default=True, help="How many days."
)
@click.option(
    "--hours", type=click.FloatRange(0, 24, min_open=True), help="Cut the last day short."
)
@click.option(
    "--seed", type=int, default=7, show_default=True, help="Another seed, another market."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="Mean trades a second; 23.15 makes 2 million a day.",
)
@click.option("--book-ms", type=int, default=1000, show_default=True, help="Time between updates.")
@click.option("--trades-only", is_flag=True, help="No order book and no quotes.")
@click.option(
    "--setups",
    is_flag=True,
    help="Plant what the rules that ship look for, once for either side in the second and third "
    "hour of each day, with open interest, liquidations, long/short ratio and whale alerts.",
)
@click.option("--overwrite", is_flag=True, help="Replace days that are already there.")
@click.pass_obj
def command(
    vault: Path,
    inst_id: str,
    start: datetime,
    days: int,
    hours: float | None,
    seed: int,
    speed: float,
    book_ms: int,
    trades_only: bool,
    setups: bool,
    overwrite: bool,
) -> None:
    """Write a SIMULATED market into the vault, under exchange "sim".

    Trades, an order book with updates, and quotes, in OKX's record format. The same options give
    the same bytes. Bursts, whales, absorption, divergence, walls, a trend with its exhaustion and
    a quiet hour are planted; raw/sim/truth_perps tells where. Nothing in it happened on any
    exchange.
    """
    from pipeline.sim import write_market  # noqa: PLC0415

    def progress(what: str, share: float) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{share:4.0%}  {what:<60}", err=True, nl=False)

    day = date(start.year, start.month, start.day)
    try:
        paths = write_market(
            vault,
            inst_id=inst_id,
            start=day,
            days=days,
            hours=hours,
            seed=seed,
            speed=speed,
            books=not trades_only,
            quotes=not trades_only,
            book_ms=book_ms,
            setups=setups,
            overwrite=overwrite,
            progress=progress,
        )
    except FileExistsError as error:
        hint = (
            f"flowvault demo --overwrite, or go on with: flowvault run -i {inst_id} --exchange sim"
        )
        raise UsageError(str(error), hint) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if sys.stderr.isatty():
        click.echo("", err=True)
    click.echo(f"simulated market, {days} day{'s' if days > 1 else ''} from {day}, seed {seed}:")
    for path in paths:
        click.echo(f"  {path.relative_to(vault)}  {path.stat().st_size:,} B")
    click.echo(f"next: flowvault run -i {inst_id} --exchange sim")
