"""`flowvault schedule`: have the operating system run the vault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from pipeline import stages
from pipeline.cli.run import duration_us
from pipeline.engine.schedule import LOG

DEFAULT = ("run", "--all", "--json")
_SYSTEMS = ("cron", "windows")


@click.command(
    epilog="Example: flowvault schedule --every 1m --install",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--every", default="1m", show_default=True, metavar="TIME", help="As 1m, 5m, 1h, 1d.")
@click.option("--install", is_flag=True, help="Put it there, in place of this vault's old one.")
@click.option("--remove", is_flag=True, help="Take this vault's away.")
@click.option(
    "--log",
    default=LOG,
    show_default=True,
    metavar="FILE",
    help="Where what it says goes, below the vault; from 8 MB on it becomes FILE.1.",
)
@click.option(
    "--for",
    "system",
    type=click.Choice(_SYSTEMS),
    help="A crontab line or a schtasks command [default: what this machine has].",
)
@click.argument("arguments", nargs=-1, metavar="[COMMAND...]", type=click.UNPROCESSED)
@click.pass_obj
def command(
    vault: Path,
    every: str,
    install: bool,
    remove: bool,
    log: str,
    system: str | None,
    arguments: tuple[str, ...],
) -> None:
    """Print the crontab line or schtasks command that runs this vault, or install it.

    It runs `flowvault run --all --json` (or COMMAND) with this Python and this vault, by their
    full paths. Nothing else in the crontab is changed; installing again replaces the line.
    Messages and exit statuses go to the log. A run that finds another one still at work leaves
    with 75, which does no harm: the next one goes on from there.
    """
    from pipeline.engine import schedule  # noqa: PLC0415

    if install and remove:
        raise click.UsageError("--install and --remove are two wishes")
    chosen = system or ("windows" if sys.platform == "win32" else "cron")
    if remove:
        _remove(vault, chosen)
        return
    words = arguments or DEFAULT
    if words[0] not in ("run", *stages.SUMMARY):
        known = ", ".join(("run", *stages.SUMMARY))
        raise click.UsageError(f"{words[0]!r} is not to be scheduled; commands: {known}")
    minutes = schedule.parse_minutes(duration_us(every) or 0)
    made = schedule.Schedule.of(vault, minutes, words, log)
    if chosen == "cron":
        line = schedule.cron_line(made)
        click.echo(line)
    else:
        task = schedule.create_task(made)
        click.echo(subprocess.list2cmdline(task))
    if not install:
        click.echo("to install it, say the same with --install", err=True)
        return
    if chosen == "windows":
        schedule.run_schtasks(task)
        click.echo(f"installed; what it says goes to {vault / log}", err=True)
        return
    before = schedule.crontab()
    after = schedule.with_line(before, vault, line)
    if after == before:
        click.echo("it is in the crontab already", err=True)
        return
    schedule.install_crontab(after)
    click.echo(f"installed in the crontab; what it says goes to {vault / log}", err=True)


def _remove(vault: Path, system: str) -> None:
    from pipeline.engine import schedule  # noqa: PLC0415

    if system == "windows":
        if not schedule.has_task(vault):
            click.echo("there is no task for this vault", err=True)
            return
        schedule.run_schtasks(schedule.delete_task(vault))
        click.echo("deleted", err=True)
        return
    before = schedule.crontab()
    after = schedule.with_line(before, vault, None)
    if after == before:
        click.echo("there is no line for this vault in the crontab", err=True)
        return
    schedule.install_crontab(after)
    click.echo("taken out of the crontab", err=True)
