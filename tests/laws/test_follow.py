"""Guarantee 1 for stages that are kept open: whoever commits, and in any mixture, the same files.

Between two cuts of the raw bytes the resident stages look, commit what is awaited or all of
them, are dropped with what they hold in memory, or another process runs and commits.
"""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.engine.resident import MovedError, Resident
from pipeline.engine.vault import Vault

from .conftest import NewWorld
from .feeds import stock_of
from .test_cutting import MARKETS, positions
from .world import Grain, World, difference, grain, sizes

ACTIONS = ("look", "look", "urgent", "all", "all", "some", "die", "run", "run one")
URGENT = ("signals_mtf", "orderflow")
SLOW_SHARDS = 8
NUMBER = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")


class Hand:
    """Does to the resident stages of a world what `follow` does, step by step."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.encoder = ThreadPoolExecutor(2)
        self.resident = self._made()

    def _made(self) -> Resident:
        vault = Vault.open(self.world.root)
        return Resident(vault, self.world.chain, self.world.instrument, self.encoder, URGENT)

    def reopen(self) -> None:
        """From what is on disk."""
        self.resident.close()
        self.resident = self._made()
        assert not [each for each in self.resident.catch_up(lambda: False) if is_error(each)]
        assert self.resident.open() == []

    def act(self, what: str) -> None:
        """One of `ACTIONS`, if it finds the resident stages current."""
        if what == "run":
            self.world.run()
        elif what == "run one":
            paths = VaultPaths(self.world.root)
            made = [
                s for s in self.world.chain if paths.state(s.name, self.world.instrument).exists()
            ]
            if made:
                self.world.run_one(self.rng.choice(made))
        elif what == "die" or not self.resident.runs:
            self.reopen()
        else:
            self._carry(what)

    def _carry(self, what: str) -> None:
        resident = self.resident
        for run in self.rng.sample(resident.raw_runs, len(resident.raw_runs)):
            run.advance()
        if what == "look":
            return
        resident.begin()
        for name, run in list(resident.runs.items()):
            is_wanted = what == "all" or name in resident.urgent
            if not run.stage.raw_kind and (
                is_wanted or (what == "some" and self.rng.random() < 0.6)
            ):
                run.advance()
        names = None if what == "all" else resident.first
        moved = resident.moved(names)
        try:
            resident.commit(moved)
        except MovedError:
            self.reopen()

    def close(self) -> None:
        """The end."""
        self.resident.close()
        self.encoder.shutdown()


def is_error(done: Any) -> bool:
    """Whether a stage could not run."""
    return isinstance(done, Exception)


def plain(value: Any) -> Any:
    """Decimals without the zeros at their end: those tell only what they were added to.

    So it is with integers beside which their number of decimals stands.
    """
    if isinstance(value, dict):
        found = {key: plain(each) for key, each in value.items()}
        for key in [key for key in found if f"{key}_scale" in found]:
            found[key] = found[key].scaleb(-found.pop(f"{key}_scale")).normalize()
        return found
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return Decimal(value).normalize()
    return value


def ledger(world: World) -> dict[str, Any]:
    """What the states say, without what may differ between ways of getting there."""
    found = {}
    keys = ("outputs", "parts", "counts", "watermark_us", "layers", "upstream", "carry")
    for stage in world.chain:
        path = VaultPaths(world.root).state(stage.name, world.instrument)
        state, warning = states.load(path)
        assert warning is None
        if state is not None:
            said = msgspec.to_builtins(state)
            found[stage.name] = {key: plain(said[key]) for key in keys}
    return found


def mixture(new_world: NewWorld, seed: int, trades: int, cuts: int) -> set[str]:
    """One market, followed and run in a mixture; compared with one run over everything."""
    rng = random.Random(seed)
    instrument, kinds = MARKETS[seed % len(MARKETS)]
    fine = Grain(part_rows=rng.choice((7, 40, 65_536)), block_bytes=rng.choice((None, 3000)))
    stock = stock_of(seed, instrument, trades, kinds)
    content = stock.content()
    mixed, whole = new_world(instrument), new_world(instrument)
    with grain(fine):
        whole.put(content)
        whole.run()
        hand = Hand(mixed, rng)
        taken = set()
        before = dict.fromkeys(sizes(content), 0)
        for here in positions(rng, sizes(content), cuts):
            for kind, end in here.items():
                mixed.grow_feed(content, kind, before[kind], end)
            before = here
            for what in rng.choices(ACTIONS, k=rng.choice((1, 1, 2, 3))):
                hand.act(what)
                taken.add(what)
        for what in ("die", "all"):
            hand.act(what)
        hand.close()
        mixed.run()
    message = difference(mixed.tree(), whole.tree())
    assert not message, f"seed {seed}: {message}"
    assert ledger(mixed) == ledger(whole), f"seed {seed}"
    return taken


@pytest.mark.parametrize("seed", [0, 5])
def test_any_mixture(seed: int, new_world: NewWorld) -> None:
    """Trades, books, quotes and context feeds; all stages."""
    mixture(new_world, seed, trades=60, cuts=14)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SLOW_SHARDS))
def test_any_mixture_of_any_market(shard: int, new_world: NewWorld) -> None:
    """All markets, many times."""
    taken: set[str] = set()
    for seed in range(100 + shard, 300, SLOW_SHARDS):
        taken |= mixture(new_world, seed, trades=80, cuts=20)
    assert taken == set(ACTIONS)
