"""The line that has the operating system run a vault again and again: cron, or Task Scheduler."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DiskError, MissingInputError, UsageError

LOG = "run.log"
"""Where a schedule's messages go, below the vault."""

_MINUTES = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
_HOURS = (1, 2, 3, 4, 6, 8, 12)
_SETTLE_S = 5
"""A minute's last trades need a moment to arrive."""
_LONGEST_LINE = 900
_LONGEST_TASK = 261
_MARK = "# flowvault schedule of"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A command, run again and again.

    Attributes:
        words: the command and its arguments; nothing in it needs the folder it is started in.
        environment: variables that it needs.
    """

    vault: Path
    minutes: int
    words: tuple[str, ...]
    environment: dict[str, str]

    @classmethod
    def of(cls, vault: Path, minutes: int, arguments: Sequence[str], log: str) -> Schedule:
        """The schedule of `flowvault ARGUMENTS` for a vault, with this interpreter.

        Raises:
            UsageError: it cannot be had so often.
        """
        _check_interval(minutes)
        # -P: a folder named `pipeline` where cron starts must not be taken for this package
        head = (sys.executable, "-P", "-m", "pipeline", "--vault", str(vault), "--log", log)
        return cls(vault, minutes, (*head, *arguments), _environment())


def parse_minutes(microseconds: int) -> int:
    """An interval in whole minutes.

    Raises:
        UsageError: it is not that.
    """
    minutes, rest = divmod(microseconds, 60_000_000)
    if rest or not minutes:
        raise _no_interval()
    return minutes


def _check_interval(minutes: int) -> None:
    hours, rest = divmod(minutes, 60)
    if minutes not in _MINUTES and (rest or hours not in (*_HOURS, 24)):
        raise _no_interval()


def _no_interval() -> UsageError:
    every = (*(f"{n}m" for n in _MINUTES), *(f"{n}h" for n in _HOURS), "1d")
    return UsageError(
        f"a schedule can run every {', '.join(every)}", "flowvault schedule --every 1m"
    )


def _environment() -> dict[str, str]:
    """What Python needs to find this package where it is not installed, or another one is."""
    here = Path(__file__).resolve().parents[1]
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import pipeline; print(pipeline.__path__[0])"],
        env=bare,
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    found = done.stdout.strip()
    is_ours = done.returncode == 0 and found and Path(found).resolve() == here
    return {} if is_ours else {"PYTHONPATH": str(here.parent)}


# -- cron ------------------------------------------------------------------------------------


def cron_line(schedule: Schedule) -> str:
    r"""The line of a crontab. `%` would end the command there and is written `\%`.

    Raises:
        UsageError: a path has a line end, or the line is longer than cron takes.
    """
    variables = [f"{name}={shlex.quote(value)}" for name, value in schedule.environment.items()]
    command = " ".join((*variables, shlex.join(schedule.words)))
    line = f"{_times(schedule.minutes)} sleep {_SETTLE_S}; {command} {_mark(schedule.vault)}"
    if any(ord(each) < ord(" ") for each in line):
        raise UsageError("the path of the vault or of Python has a control character in it")
    line = line.replace("%", r"\%")
    if len(line.encode()) > _LONGEST_LINE:
        message = f"the line would have {len(line.encode())} bytes, and cron takes {_LONGEST_LINE}"
        raise UsageError(message, "use shorter paths")
    return line


def _times(minutes: int) -> str:
    hours = minutes // 60
    if not hours:
        return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
    return {1: "0 * * * *", 24: "0 0 * * *"}.get(hours, f"0 */{hours} * * *")


def _mark(vault: Path) -> str:
    """What tells this vault's line from all others."""
    return f"{_MARK} {shlex.quote(str(vault))}"


def crontab() -> list[bytes]:
    """The user's crontab, line by line.

    Raises:
        MissingInputError: there is no cron.
        DiskError: it cannot be read.
    """
    done = _run(["crontab", "-l"])
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        if "no crontab" in said.lower():
            return []
        raise DiskError(f"crontab -l: {said or f'status {done.returncode}'}", "crontab -l")
    return done.stdout.splitlines(keepends=True)


def with_line(lines: list[bytes], vault: Path, line: str | None) -> list[bytes]:
    """A crontab with this vault's line put in place of the old one, or at the end, or taken out.

    Every other line is left as it is.
    """
    ours = _mark(vault).replace("%", r"\%").encode()
    new = [] if line is None else [line.encode() + b"\n"]
    found: list[bytes] = []
    for each in lines:
        if each.rstrip(b"\r\n").endswith(ours):
            found += new
            new = []
        else:
            found.append(each)
    if new and found and not found[-1].endswith(b"\n"):
        found[-1] += b"\n"
    return found + new


def install_crontab(lines: list[bytes]) -> None:
    """Make these lines the user's crontab.

    Raises:
        DiskError: cron refused them; the old ones stand.
    """
    done = _run(["crontab", "-"], b"".join(lines))
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise DiskError(f"crontab: {said or f'status {done.returncode}'}", "crontab -l")


# -- Task Scheduler --------------------------------------------------------------------------


def task_name(vault: Path) -> str:
    """What this vault's task is called."""
    short = re.sub(r"[^A-Za-z0-9_-]", "", vault.name)[:40]
    return f"flowvault {short} {hashlib.sha256(str(vault).encode()).hexdigest()[:8]}"


def create_task(schedule: Schedule) -> list[str]:
    """The command that makes the task, or replaces it.

    Raises:
        UsageError: Task Scheduler would read the command in another way, or not take it.
    """
    program = subprocess.list2cmdline(schedule.words)
    variables = "".join(f'set "{name}={value}"&& ' for name, value in schedule.environment.items())
    task = f'cmd /c "{variables}{program}"' if variables else program
    if re.search(r"%[^%\s]+%", task):
        message = "Task Scheduler takes what stands between two % for a variable"
        raise UsageError(f"{message}: {task}", "move the vault to a path without %")
    if len(task) > _LONGEST_TASK:
        message = f"the command would have {len(task)} characters; a task takes {_LONGEST_TASK}"
        raise UsageError(f"{message}: {task}", "use shorter paths")
    name = task_name(schedule.vault)
    return ["schtasks", "/Create", "/F", "/TN", name, *_every(schedule.minutes), "/TR", task]


def delete_task(vault: Path) -> list[str]:
    """The command that deletes the task."""
    return ["schtasks", "/Delete", "/F", "/TN", task_name(vault)]


def query_task(vault: Path) -> list[str]:
    """The command that shows the task, and fails if there is none."""
    return ["schtasks", "/Query", "/TN", task_name(vault)]


def run_schtasks(words: list[str]) -> None:
    """Run a command of Task Scheduler.

    Raises:
        MissingInputError: this is not Windows.
        DiskError: it failed.
    """
    done = _run(words)
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise DiskError(f"schtasks: {said or f'status {done.returncode}'}", "schtasks /Query")


def has_task(vault: Path) -> bool:
    """Whether the task exists.

    Raises:
        MissingInputError: this is not Windows.
    """
    return _run(query_task(vault)).returncode == 0


def _every(minutes: int) -> list[str]:
    hours = minutes // 60
    if not hours:
        return ["/SC", "MINUTE", "/MO", str(minutes)]
    return ["/SC", "DAILY"] if hours == 24 else ["/SC", "HOURLY", "/MO", str(hours)]  # noqa: PLR2004


def _run(words: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which(words[0])
    if program is None:
        message = f"there is no {words[0]} on this machine"
        raise MissingInputError(
            message, "flowvault schedule, and give its line to another scheduler"
        )
    english = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(  # noqa: S603  (a program of the system's, without a shell)
        [program, *words[1:]], input=data, capture_output=True, check=False, env=english
    )
