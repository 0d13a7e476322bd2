"""The command line. Commands are found by name and loaded when called, so that help is quick."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from pipeline import __version__
from pipeline.errors import DiskError, FlowvaultError
from pipeline.stages import SUMMARY
from pipeline.tables import COMMANDS as TABLES
from pipeline.tables import SUMMARY as ABOUT_TABLES

_OWN = {
    "run": "Bring every layer up to date, in dependency order.",
    "follow": "Stay, and carry new data through every layer as it comes.",
    "status": "Show how far each layer is, and what lags or failed.",
    "tail": "Print the last committed rows of a layer.",
    "layers": "Explain the layers: every column, its unit and formula.",
    "sql": "Ask the layers in SQL (DuckDB).",
    "explain": "Show where a row comes from, down to the bytes of raw files.",
    "report": "Write one HTML page with charts of an instrument: opens offline.",
    "model": "Show the models of trade clusters, and whether their labels last.",
    "rebuild": "Compute layers again from the start and swap them in.",
    "schedule": "Print or install the line that runs the vault every minute.",
    "doctor": "Look for what is wrong, or soon will be, and say what to do.",
    "gc": "Delete raw files that every stage has read, and leftovers of killed runs.",
    "import": "Bring archives of exchanges and vendors into the vault as raw day files.",
    "demo": "Write a simulated market into the vault to play with.",
}


_EQUITIES = {
    "equities": "Ask what tape, venues and filings say of a US stock.",
    **{name: ABOUT_TABLES[name] for name in TABLES},
}

_MODULES = {"import": "importing"}
"""Commands whose module cannot have their name."""

_STAGES_OF_THEIR_OWN = ("confluence",)
"""Stages whose command does more than run them."""


class _Commands(click.Group):
    """Own commands from their modules, and one command generated per stage."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*_OWN, *SUMMARY, *_EQUITIES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _OWN:
            module = _MODULES.get(cmd_name, cmd_name)
            command: click.Command = import_module(f"pipeline.cli.{module}").command
            return command
        if cmd_name in _STAGES_OF_THEIR_OWN:
            return import_module(f"pipeline.cli.{cmd_name}").command  # type: ignore[no-any-return]
        if cmd_name == "equities":
            return import_module("pipeline.cli.equities").command  # type: ignore[no-any-return]
        if cmd_name in TABLES:
            return import_module("pipeline.cli.tables").table_command(cmd_name)  # type: ignore[no-any-return]
        if cmd_name in SUMMARY:
            made: click.Command = import_module("pipeline.cli.run").stage_command(cmd_name)
            return made
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_OWN.items()))
        with formatter.section("Stages (each brings what it reads up to date first)"):
            formatter.write_dl(list(SUMMARY.items()))
        with formatter.section("US equities, market-wide"):
            formatter.write_dl(list(_EQUITIES.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done, 2 usage, 65 bad data, 66 no such input, 74 disk, 75 locked.",
)
@click.option(
    "--vault",
    type=click.Path(file_okay=False, path_type=Path),
    help="Root of the vault [default: $FLOWVAULT_VAULT, else ./vault].",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append all output to this file, relative to the vault; at 8 MB it becomes FILE.1.",
)
@click.version_option(__version__, prog_name="flowvault")
@click.pass_context
def cli(ctx: click.Context, vault: Path | None, log: Path | None) -> None:
    r"""Raw exchange trades and books in, proven order-flow layers out.

    Each stage reads what is new since its last run, writes closed rows only, and commits rows
    and cursor together: it can be killed at any time and run again.

    \b
    Examples:
      flowvault demo && flowvault run --all
      flowvault volume -i BTC-USDT-SWAP
      flowvault tail volume -i BTC-USDT-SWAP -n 3
    """
    ctx.obj = (vault or Path(os.environ.get("FLOWVAULT_VAULT") or "vault")).absolute()
    if log is not None:
        import_module("pipeline.cli.log").write_to(ctx.obj, log)


def main() -> None:
    """Entry point: errors become a message, a hint and an exit status."""
    try:
        _main()
    except SystemExit as stop:
        log = sys.modules.get("pipeline.cli.log")  # loaded if there is one
        if log is not None and stop.code:
            log.write_status(stop.code)
        raise


def _main() -> None:
    try:
        cli.main(prog_name="flowvault", standalone_mode=False)
    except FlowvaultError as error:
        click.echo(f"flowvault: {error}", err=True)
        sys.exit(error.status)
    except click.exceptions.Abort:
        click.echo("flowvault: stopped; what was committed stands", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except OSError as error:
        # the reader of our output is gone, or the disk that takes it is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(0)
        click.echo(f"flowvault: {error.strerror or error}; what was committed stands", err=True)
        sys.exit(DiskError.status)
