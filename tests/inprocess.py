"""The command line in the test's own process: quicker, where nothing hangs on a fresh one."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What one command left behind on its streams."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, for messages that may be on either."""
        return self.out + self.err


def command(vault: Path, *arguments: str, expect: int | None = 0) -> Outcome:
    """Run one command on a vault."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n") for _ in range(2))
    code: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["flowvault", "--vault", str(vault), *arguments])
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    texts = []
    for stream in (out, err):
        stream.flush()
        raw = stream.buffer
        assert isinstance(raw, io.BytesIO)
        texts.append(raw.getvalue().decode())
    done = Outcome(int(code or 0), *texts)
    assert expect in (None, done.code), done.text
    return done
