"""Write a simulated equity market into a new vault: FINRA, Reg SHO, IEX, 13F and prices of years.

Symbols, venues and managers are invented; nothing in it happened. Which manager prefers which
venue is written to truth/ beside raw/, so that `flowvault broker_map` can be judged by it;
scripts/equities_score.py does that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.equitykit.draw import Settings, draw  # noqa: E402
from scripts.equitykit.frames import frames  # noqa: E402
from scripts.equitykit.raw import write  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Draw and write; returns the exit status."""
    usual = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vault", type=Path, required=True, metavar="DIR", help="a new vault")
    for name, text in (
        ("first_year", "the first calendar year"),
        ("years", "how many"),
        ("symbols", "symbols"),
        ("venues", "venues (ATS)"),
        ("managers", "13F managers; half of them prefer a venue or two"),
        ("seed", "another seed, another market"),
    ):
        own = getattr(usual, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=own, metavar="N", help=f"{text} [{own}]")
    options = vars(parser.parse_args(arguments))
    vault = options.pop("vault")
    for name, value in options.items():
        if value < (0 if name == "seed" else 1):
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    drawn = draw(Settings(**options))
    try:
        paths = write(vault, drawn, frames(drawn))
    except OSError as error:
        print(f"equities_demo: {error}", file=sys.stderr)
        return 74 if not isinstance(error, FileExistsError) else 2
    size = sum(path.stat().st_size for path in paths)
    first, last = drawn.days[0], drawn.days[-1]
    print(f"simulated market, {first} to {last}: {len(paths):,} files, {size / 1e6:,.0f} MB")
    print(f"  {vault / 'raw'}: what is published")
    print(f"  {vault / 'truth'}: who truly traded where")
    print(f"next: flowvault --vault {vault} broker_map")
    return 0


if __name__ == "__main__":
    sys.exit(main())
