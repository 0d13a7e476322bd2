"""The options that several commands have, the same everywhere: instruments, and --json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.engine.paths import MARKETS, TAPE_EXCHANGE, VaultPaths, find_instruments
from pipeline.errors import MissingInputError
from pipeline.instrument import EQUITIES, TAPES, Instrument

F = TypeVar("F", bound=Callable[..., Any])
DEFAULT_EXCHANGE, DEFAULT_MARKET = "okx", "perps"
_FIRST = ("trades", "tape")
"""Stages that run for every instrument of some market."""


def instrument_options(function: F) -> F:
    """Add -i/--instId, --exchange, --market and --all to a command."""
    for option in (
        click.option("--all", "every", is_flag=True, help="Every instrument found under raw/."),
        click.option(
            "--market",
            type=click.Choice(MARKETS),
            help="[default: perps; equities where nothing else is meant]",
        ),
        click.option("--exchange", help="Folder under raw/ [default: okx; taq for equities]."),
        click.option(
            "-i", "--instId", "inst_ids", multiple=True, metavar="INSTID", help="May be repeated."
        ),
    ):
        function = option(function)
    return function


def json_option(what: str) -> Callable[[F], F]:
    """Add --json to a command; `what` the lines are."""
    return click.option("--json", "as_json", is_flag=True, help=what)


def chooser(
    inst_ids: tuple[str, ...], exchange: str | None, market: str | None
) -> Callable[[Instrument], bool]:
    """Whether the options narrow a look at the whole vault to an instrument; nothing means all."""

    def is_chosen(each: Instrument) -> bool:
        return (
            (not inst_ids or each.inst_id in inst_ids)
            and exchange in (None, each.exchange)
            and market in (None, each.market)
        )

    return is_chosen


def choose(
    vault: Path,
    inst_ids: tuple[str, ...],
    exchange: str | None,
    market: str | None,
    every: bool,
    markets: frozenset[str] = frozenset(),
) -> list[Instrument]:
    """The instruments that the options name.

    With --all, --exchange and --market narrow the choice. `markets` are those that what is to be
    done is for: where these are equities alone, equities are meant.

    Raises:
        click.UsageError: neither -i nor --all, or both.
        MissingInputError: an instrument has neither raw data nor state; or --all found none.
    """
    if every == bool(inst_ids):
        raise click.UsageError("name instruments with -i INSTID, or take every one with --all")
    if every:
        found = list(filter(chooser((), exchange, market), find_instruments(vault)))
        if not found:
            message = f"no instruments under {vault / 'raw'}"
            raise MissingInputError(message, f"flowvault --vault {vault} demo")
        return found
    if market is None:
        is_tape = exchange == TAPE_EXCHANGE or (exchange is None and markets == TAPES)
        market = EQUITIES if is_tape else DEFAULT_MARKET
    if exchange is None:
        exchange = TAPE_EXCHANGE if market == EQUITIES else DEFAULT_EXCHANGE
    chosen = [Instrument(exchange, market, inst_id) for inst_id in inst_ids]
    known = set(find_instruments(vault))
    paths = VaultPaths(vault)
    for each in chosen:
        if each not in known and not any(paths.state(n, each).is_file() for n in _FIRST):
            others = sorted(k for k in known if k.inst_id == each.inst_id) or sorted(known)[:1]
            hint = f"flowvault run {others[0].options}" if others else "flowvault demo"
            raise MissingInputError(f"{each.key}: nothing under {vault / 'raw'}", hint)
    return chosen
