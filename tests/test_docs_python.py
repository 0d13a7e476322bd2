"""The examples of docs/python.md run, one after another, and print what the page says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from pipeline.sim import write_market
from tests.inprocess import command
from tests.laws.world import unsynced

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples(page: str) -> list[tuple[str, str]]:
    """Each block of Python with the text behind it, empty if there is none."""
    blocks = BLOCK.findall(page)
    following = [*blocks[1:], ("", "")]
    return [
        (code, text if kind == "text" else "")
        for (language, code), (kind, text) in zip(blocks, following, strict=True)
        if language == "python"
    ]


def printed_by(folder: Path, page: str) -> list[tuple[str, str, str]]:
    """Each example, what the page says it prints, and what it prints in this folder."""
    names: dict[str, object] = {}
    found = []
    with contextlib.chdir(folder):
        for number, (code, wanted) in enumerate(examples(page)):
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, f"{PAGE}[{number}]", "exec"), names)  # noqa: S102
            found.append((code, wanted, printed.getvalue()))
    return found


def test_the_examples_print_what_the_page_says(tmp_path: Path) -> None:
    with unsynced():
        write_market(tmp_path / "vault", days=1, hours=3)
        command(tmp_path / "vault", "run", "--all")
        found = printed_by(tmp_path, PAGE.read_text(encoding="utf-8"))
    assert len(found) > 7
    for code, wanted, printed in found:
        assert wanted, code
        assert printed == wanted, code
