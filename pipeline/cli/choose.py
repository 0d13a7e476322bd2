"""The options that choose instruments, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.engine.paths import MARKETS, VaultPaths, find_instruments
from pipeline.errors import MissingInputError
from pipeline.instrument import Instrument

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_EXCHANGE, DEFAULT_MARKET = "okx", "perps"


def instrument_options(function: F) -> F:
    """Add -i/--instId, --exchange, --market and --all to a command."""
    for option in (
        click.option("--all", "every", is_flag=True, help="Every instrument found under raw/."),
        click.option("--market", type=click.Choice(MARKETS), help="[default: perps]"),
        click.option("--exchange", help="Folder under raw/ [default: okx]."),
        click.option(
            "-i", "--instId", "inst_ids", multiple=True, metavar="INSTID", help="May be repeated."
        ),
    ):
        function = option(function)
    return function


def choose(
    vault: Path, inst_ids: tuple[str, ...], exchange: str | None, market: str | None, every: bool
) -> list[Instrument]:
    """The instruments that the options name.

    With --all, --exchange and --market narrow the choice.

    Raises:
        click.UsageError: neither -i nor --all, or both.
        MissingInputError: an instrument has neither raw data nor state; or --all found none.
    """
    if every == bool(inst_ids):
        raise click.UsageError("name instruments with -i INSTID, or take every one with --all")
    if every:
        found = [
            each
            for each in find_instruments(vault)
            if exchange in (None, each.exchange) and market in (None, each.market)
        ]
        if not found:
            message = f"no instruments under {vault / 'raw'}"
            raise MissingInputError(message, f"flowvault --vault {vault} demo")
        return found
    chosen = [
        Instrument(exchange or DEFAULT_EXCHANGE, market or DEFAULT_MARKET, inst_id)
        for inst_id in inst_ids
    ]
    known = set(find_instruments(vault))
    paths = VaultPaths(vault)
    for each in chosen:
        if each not in known and not paths.state("trades", each).is_file():
            others = sorted(k for k in known if k.inst_id == each.inst_id) or sorted(known)[:1]
            hint = f"flowvault run {others[0].options}" if others else "flowvault demo"
            raise MissingInputError(f"{each.key}: nothing under {vault / 'raw'}", hint)
    return chosen
