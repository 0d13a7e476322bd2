"""Start a command, wait for it, and write down its wall and CPU time, peak memory and exit status.

Usage: launch.py REPORT COMMAND [ARGUMENT...]

Linux counts the memory of the process that starts a command towards the command's peak. This one
is small, so a peak measured through it is the command's own. Standard library only, for that.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> None:
    """Run the command; the report is one line: wall and CPU seconds, peak in KiB, exit status."""
    report, *command = sys.argv[1:]
    started = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - started
    with open(report, "w", encoding="ascii") as out:  # noqa: PTH123  (pathlib costs memory)
        cpu = usage.ru_utime + usage.ru_stime
        out.write(f"{seconds} {cpu} {usage.ru_maxrss} {os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
