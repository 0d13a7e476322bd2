"""The command in this process, and what it leaves in a vault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli.main import cli
from pipeline.errors import FlowvaultError
from tests import inprocess


class Outcome(inprocess.Outcome):
    """What a command left behind, and the rows in it."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of --json."""
        return [json.loads(each) for each in self.out.splitlines()]


class Command:
    """Runs flowvault on one vault."""

    def __init__(self, vault: Path) -> None:
        self.vault = vault

    def __call__(self, *arguments: object) -> Outcome:
        """Run a command as `main` would."""
        done = CliRunner().invoke(cli, ["--vault", str(self.vault), *map(str, arguments)])
        if isinstance(done.exception, FlowvaultError):
            return Outcome(done.exception.status, done.stdout, str(done.exception))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Outcome(done.exit_code, done.stdout, done.stderr)

    def import_(self, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
        """Import with --json; the rows printed."""
        outcome = self("import", "--json", *arguments)
        assert outcome.code == code, f"exit {outcome.code}\n{outcome.out}{outcome.err}"
        return outcome.rows

    def raw(self, folder: str = "") -> dict[str, bytes]:
        """Every file under raw/, or of one folder below it by its name."""
        top = self.vault / "raw" / folder
        files = sorted(file for file in top.rglob("*") if file.is_file())
        return {file.relative_to(top).as_posix(): file.read_bytes() for file in files}


@pytest.fixture
def flowvault(tmp_path: Path) -> Command:
    """The command on an empty vault."""
    return Command(tmp_path / "vault")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where archives are downloaded to."""
    path = tmp_path / "downloads"
    path.mkdir()
    return path
