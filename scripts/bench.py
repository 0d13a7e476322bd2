"""Measure speed and memory beside DuckDB and other libraries, print a table and write BENCH.md.

Everything is simulated in a temporary folder on this machine. BENCH.md is written only by a full
run; `--out` writes the report of any run to a file of your choice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.benchkit.cold import BenchError  # noqa: E402
from scripts.benchkit.outcome import Outcome  # noqa: E402
from scripts.benchkit.place import QUICK, Place, Sizes  # noqa: E402
from scripts.benchkit.report import load_average, markdown, print_table  # noqa: E402
from scripts.benchkit.rows import ROWS  # noqa: E402


def main() -> int:
    """Run the rows; returns the exit status."""
    options = _options()
    if not sys.platform.startswith("linux"):
        print("bench: peak memory is measured with Linux's wait4; run it there", file=sys.stderr)
        return 2
    before = load_average()
    try:
        with _folder(options.keep) as folder:
            place = Place(folder, QUICK if options.quick else Sizes())
            outcomes = _measure(place, options.only or list(ROWS))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(outcomes)
    out = options.out
    if out is None and not options.quick and not options.only:
        out = ROOT / "BENCH.md"
    if out is not None:
        loads = (before, load_average())
        out.write_text(markdown(outcomes, loads=loads, is_quick=options.quick), encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; numbers mean nothing")
    parser.add_argument(
        "--only", action="append", choices=list(ROWS), help="this row; may be repeated"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="work in DIR (new or empty) and leave it there"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the report to FILE")
    return parser.parse_args()


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where to work: a folder to keep, or one that goes away at the end.

    Raises:
        BenchError: the folder to keep holds something already.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="flowvault-bench-") as name:
            yield Path(name)
        return
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise BenchError(f"{keep} is not empty")
    yield keep.resolve()


def _measure(place: Place, names: Sequence[str]) -> list[Outcome]:
    outcomes = []
    for name in ROWS:
        if name in names:
            print(f"{name}:", file=sys.stderr, flush=True)
            outcomes.append(ROWS[name](place))
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
