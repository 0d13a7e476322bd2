"""Imports go one way.

errors <- exact, instrument, layers, reach <- stage <- calc, raw, stages <- engine <- cli. Read from
the source, so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "pipeline"

LEVELS: dict[str, int] = {
    "pipeline": 0,
    "errors": 0,
    "cores": 0,
    "exact": 1,
    "instrument": 1,
    "jit": 1,
    "layers": 1,
    "reach": 1,
    "settings": 2,
    "stage": 2,
    "table": 2,
    "raw": 3,
    "calc": 3,
    "equities": 3,
    "stages": 3,
    "tables": 3,
    "importers": 3,
    "sim": 4,
    "engine": 4,
    "report": 5,
    "cli": 5,
    "frames": 5,
    "__main__": 6,
}
"""What stands on what; within a level anything goes, but calc and raw do not know stages."""

PURE = ("stages", "calc", "equities", "tables")
BANNED = frozenset(
    ("pathlib", "os", "io", "shutil", "click", "rich", "time", "random", "json", "filelock")
)
JSON_FOR_METADATA = "calc/tickfile.py"


def modules(top: str = "") -> list[Path]:
    """The package's files, or those of one part of it."""
    folder = PACKAGE / top
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{top}.py"]


def part_of(path: Path) -> str:
    """Which part of the package a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "pipeline" if parts == ("__init__",) else parts[0]


def checks_types_only(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imports(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported when the code runs."""
    if checks_types_only(node):
        return
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def found(path: Path) -> list[tuple[int, str]]:
    """The imports of a file."""
    return list(imports(ast.parse(path.read_text(encoding="utf-8"))))


ALL = [pytest.param(path, id=path.relative_to(PACKAGE).as_posix()) for path in modules()]


@pytest.mark.parametrize("path", ALL)
def test_imports_go_one_way(path: Path) -> None:
    """Nothing imports what stands above it."""
    own = part_of(path)
    assert own in LEVELS, f"say in LEVELS where pipeline.{own} stands"
    for line, name in found(path):
        first, _, rest = name.partition(".")
        if first != "pipeline":
            continue
        other = rest.partition(".")[0]
        other = other if other in LEVELS else "pipeline"
        assert LEVELS[other] <= LEVELS[own], f"{path}:{line}: {own} imports {name}"
        if own in ("calc", "raw"):
            assert other != "stages", f"{path}:{line}: {own} imports {name}"
        if own == "calc":
            assert other != "raw", f"{path}:{line}: {own} imports {name}"


@pytest.mark.parametrize("path", [p for p in ALL if part_of(p.values[0]) in PURE])  # type: ignore[arg-type]
def test_stages_and_calculations_touch_nothing(path: Path) -> None:
    """No engine, no file, no clock, no chance, no terminal."""
    relative = path.relative_to(PACKAGE).as_posix()
    for line, name in found(path):
        assert not name.startswith("pipeline.engine"), f"{path}:{line}: {name}"
        root = name.partition(".")[0]
        if root == "json" and relative == JSON_FOR_METADATA:
            continue
        assert root not in BANNED, f"{path}:{line}: {name}"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today"), f"{path}:{node.lineno}: {node.attr}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input"), f"{path}:{node.lineno}"


def test_the_check_sees_imports_inside_functions() -> None:
    """The reader of imports itself: nested ones count, those for type checkers do not."""
    code = (
        "import os.path\nfrom a.b import c, d\nif TYPE_CHECKING:\n    import e\n"
        "def f():\n    if True:\n        from g import h\n"
    )
    assert [name for _, name in imports(ast.parse(code))] == ["os.path", "a.b.c", "a.b.d", "g.h"]


def output_of(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints that runs some code to its end."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HELP = (
    "import sys\n"
    "import pipeline.cli.main as main\n"
    "sys.argv = ['flowvault', *sys.argv[1:]]\n"
    "try:\n    main.main()\nexcept SystemExit as stop:\n"
    "    assert stop.code in (0, None), stop.code\n"
    "heavy = sorted({'polars', 'numpy', 'pyarrow', 'rich', 'duckdb'} & set(sys.modules))\n"
    "assert not heavy, heavy\n"
)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["volume", "--help"]]
)
def test_help_is_quick(arguments: list[str]) -> None:
    """Asking for help loads none of the heavy libraries."""
    assert output_of(HELP, *arguments)


DOOR = (
    "import sys\n"
    "import pipeline\n"
    "assert {'Vault', 'analyze', 'FlowvaultError'} <= set(dir(pipeline))\n"
    "heavy = {'polars', 'numpy', 'pyarrow', 'rich', 'duckdb', 'numba', 'msgspec', 'click'}\n"
    "assert not heavy & set(sys.modules), sorted(heavy & set(sys.modules))\n"
    "from pipeline import Vault\n"
    "assert not {'polars', 'numpy', 'pyarrow', 'duckdb', 'numba'} & set(sys.modules)\n"
    "from pipeline import analyze\n"
    "assert callable(analyze)\n"
)


def test_the_door_for_python_is_lazy() -> None:
    """Importing the package loads nothing; what it gives comes when asked for."""
    output_of(DOOR)


LOOPS = (
    "import sys\n"
    "import numpy as np\n"
    "from pipeline.importers.days import Calendar\n"
    "day, _ = Calendar().days(np.array([86_400_000_000], np.int64), -1)\n"
    "assert day.tolist() == [1]\n"
    "assert 'numba' in sys.modules\n"
    "assert 'scipy.linalg' not in sys.modules\n"
)


def test_compiled_loops_do_not_wait_for_linear_algebra() -> None:
    """Loading numba does not load scipy.linalg, which would take as long again."""
    output_of(LOOPS)
