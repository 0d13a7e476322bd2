"""Judge the mapping of venues to managers where the truth is known; write docs/equities.md.

Markets are drawn as scripts/equities_demo.py draws them, mapped as `flowvault broker_map` does,
and their flows attributed. With --vault a vault that equities_demo made is judged instead, by
what flowvault has written into it, and nothing else is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from scripts.equitykit.cases import CASES, USUAL, attributed, look  # noqa: E402
from scripts.equitykit.judge import Pairs, flows  # noqa: E402
from scripts.equitykit.page import Scores, page  # noqa: E402

MAP, FLOWS = "micro_broker_institution_map", "micro_institutional_flow"


def main(arguments: list[str] | None = None) -> int:
    """Score, and write the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markets", type=int, default=8, metavar="N", help="seeds 1 to N [8]")
    parser.add_argument("--out", type=Path, metavar="FILE", default=ROOT / "docs" / "equities.md")
    parser.add_argument("--vault", type=Path, metavar="DIR", help="a vault of equities_demo")
    for name in ("years", "symbols", "venues", "managers"):
        parser.add_argument(f"--{name}", type=int, metavar="N", help="of the markets")
    options = vars(parser.parse_args(arguments))
    markets, out, vault = (options.pop(name) for name in ("markets", "out", "vault"))
    if vault is not None:
        return _judge_vault(vault)
    if markets < 1:
        parser.error("--markets must be at least 1")
    size = {name: value for name, value in options.items() if value is not None}
    seeds = range(1, markets + 1)
    cases = {}
    for case in (USUAL, *CASES):
        print(case.text, file=sys.stderr, flush=True)
        cases[case.text] = [look(case, seed, size) for seed in seeds]
    print("flows", file=sys.stderr, flush=True)
    by_map = [attributed(seed, size) for seed in seeds]
    dealt = [attributed(seed, size, is_shuffled=True) for seed in seeds]
    out.parent.mkdir(exist_ok=True, parents=True)
    text = page(Scores(cases, by_map, dealt))
    out.write_text(text, encoding="utf-8")
    return 0


def _judge_vault(vault: Path) -> int:
    """Print how good the map and the flows in a vault are."""
    truth, rows = vault / "truth", _newest(vault / "derived" / MAP)
    if not (truth / "equities.jsonl").is_file():
        print(f"equities_score: {truth} holds no truth", file=sys.stderr)
        print(f"  next: python scripts/equities_demo.py --vault {vault}", file=sys.stderr)
        return 66
    if rows is None:
        print(f"equities_score: {vault} has no {MAP}", file=sys.stderr)
        print(f"  next: flowvault --vault {vault} broker_map", file=sys.stderr)
        return 66
    lines = (truth / "equities.jsonl").read_bytes().splitlines()[1:]
    routes = pl.DataFrame([msgspec.json.decode(line) for line in lines])
    pairs = Pairs.of(rows, routes)
    true = int(pairs.is_home.sum())
    found, right = pairs.found
    print(f"pairs {len(routes):,}, related {true:,}")
    print(
        f"area under the curve {_text(pairs.auc)}, precision at {true} "
        f"{_text(pairs.precision(true))}"
    )
    print(f"confidence 0.90 or more: {found} pairs, {right} of them related")
    moved = _newest(vault / "derived" / FLOWS)
    if moved is not None and len(moved):
        one = flows(moved, pl.read_parquet(truth / "equities_flows.parquet"), routes)
        print(f"flows {one.rows:,}: {one.hit:.1%} of their shares hit, sides right {one.right:.1%}")
    return 0


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _newest(folder: Path) -> pl.DataFrame | None:
    files = sorted(folder.glob("*.parquet"), key=lambda path: path.stat().st_mtime)
    return pl.read_parquet(files[-1]) if files else None


if __name__ == "__main__":
    sys.exit(main())
