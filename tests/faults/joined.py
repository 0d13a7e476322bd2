"""An instrument with trades, books and quotes, and the chain of stages that joins them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pipeline import stages
from pipeline.engine.runner import run_stages
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from tests.laws.feeds import KINDS, make_all
from tests.laws.feedstock import SWAP, Mix, Stock
from tests.laws.world import part_sizes

from .workload import Tree, tree

LAST = ("buckets", "costs", "orderflow")
PART_ROWS = 40
NAMES = tuple(stage.name for stage in stages.with_upstream(LAST))
MIX = Mix(dirt=0.02, late=0, jitter=0, duplicate=0.05, gap=0.1, quiet=0.005)
"""Nothing late, so that a rebuild makes the same bytes again."""


@cache
def stock(seed: int, trades: int) -> Stock:
    """Two days of all kinds."""
    return make_all(SWAP, seed, trades, MIX)


@contextmanager
def small_parts() -> Iterator[None]:
    """Short Parquet files, so that every run rewrites some and fills some."""
    with part_sizes(PART_ROWS):
        yield


def raw_file(vault: Path, name: str) -> Path:
    """Where a file of the stock's content lies."""
    kind, _, day = name.rpartition("/")
    folder = vault / "raw" / "okx" / f"{kind or 'trades'}_perps" / SWAP.inst_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{day}.jsonl"


def grow(vault: Path, content: dict[str, bytes], share: float) -> None:
    """Append what is missing up to a share of every feed, as collectors would."""
    for kind in KINDS:
        names = [name for name in content if (name.rpartition("/")[0] or "trades") == kind]
        left = max(1, round(share * sum(len(content[name]) for name in names)))
        for name in sorted(names):
            data = content[name][:left]
            left -= len(data)
            if data:
                with raw_file(vault, name).open("ab") as stream:
                    stream.write(data[stream.tell() :])


def run(vault: Path, names: Sequence[str] = NAMES) -> None:
    """Bring the chain, or its first stages, up to date.

    Raises:
        FlowvaultError: the first error of a stage.
    """
    chain = [stages.load(name) for name in names]
    with small_parts():
        for done in run_stages(Vault.open(vault), chain, SWAP):
            if isinstance(done, FlowvaultError):
                raise done


def cycles(vault: str, seed: int, trades: int, shares: list[float]) -> int:
    """Run behind each step of growth."""
    content = stock(seed, trades).content()
    for share in shares:
        grow(Path(vault), content, share)
        run(Path(vault))
    return 0


def batch(vault: Path, seed: int, trades: int) -> Tree:
    """What one run over everything leaves."""
    grow(vault, stock(seed, trades).content(), 1.0)
    run(vault)
    return tree(vault)
