"""Anything a collector, a user and bad luck may do to a vault, in any order.

The promise: at every check the derived files are those of one batch over the same bytes (with the
rebuilds at the same places), and the quarantine as well.
"""

from __future__ import annotations

import gzip
import itertools
import re
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pipeline import stages
from pipeline.engine import state as states
from pipeline.engine.paths import VaultPaths
from pipeline.errors import DataError, StateError

from .feedstock import MIDNIGHT_MS, SWAP, trade_line
from .test_dying import run_and_die
from .world import Grain, Tree, World, difference, grain

DAYS = tuple(f"2024-03-{day:02d}" for day in range(1, 29))
PARAMS = {
    "trades": ("", "lateness_ms = 5000", "max_jump_ms = 120000"),
    "bars": ("", "whale_notional = 150", "whale_notional = 9000"),
    "volume": ("", "window = 5\nmin_window = 2", "absorption_pct = 3"),
}
ON_SWAPS = sorted(s.name for s in stages.all_stages() if SWAP.market in s.markets)
GRAINS = (
    Grain(part_rows=8),
    Grain(part_rows=8, block_bytes=400),
    Grain(part_rows=8, block_bytes=700, commit_rows=1),
    Grain(part_rows=8, commit_rows=9),
)


def unpacked(tree: Tree) -> Tree:
    """A quarantine names the file as it was when it was read; here all of them were plain."""
    return {
        path: re.sub(rb'^({"source":"[^"]*[.]jsonl)[.](gz|zst)"', rb'\1"', data, flags=re.MULTILINE)
        for path, data in tree.items()
    }


class Vaults(RuleBasedStateMachine):
    """One instrument in a vault, and all its bytes in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="machine"))
        self.world = World(self.base / "live", SWAP)
        self.content: dict[str, bytes] = {DAYS[0]: b""}
        self.packed: dict[str, str] = {}
        self.gone: set[str] = set()
        self.seen_by_a_run: set[str] = set()
        self.chosen = dict.fromkeys(PARAMS, "")
        self.rebuilt: dict[str, bytes] | None = None
        self.fine = GRAINS[0]
        self.number, self.now = 1000, MIDNIGHT_MS
        self.has_run = False
        self.oracles = itertools.count()

    @initialize(fine=st.sampled_from(GRAINS), one_more=st.sampled_from(ON_SWAPS))
    def choose(self, fine: Grain, one_more: str) -> None:
        """How finely the engine works, and on which stages; the first file is there, but empty."""
        self.fine = fine
        self.world.chain = stages.with_upstream([*PARAMS, one_more])
        self.append(b"")

    # -- the collector -----------------------------------------------------

    @property
    def newest(self) -> str:
        """The day file that grows."""
        return max(self.content)

    def append(self, data: bytes) -> None:
        """Add bytes to the newest file."""
        self.content[self.newest] += data
        with (self.world.raw / f"{self.newest}.jsonl").open("ab") as stream:
            stream.write(data)

    def trade(self, step: int, choice: int) -> bytes:
        """The next trade, `step` milliseconds on."""
        self.number += 1 + (choice == 13)
        self.now += step
        price, size = ("100", "100.5", "99.50")[choice % 3], ("1", "2.5", "400")[choice % 7 % 3]
        side = "buy" if choice % 2 else "sell"
        line = trade_line(SWAP, self.number, self.now, price, size, side, wrap=choice == 5)
        return line + (b"\r\n" if choice == 7 else b"\n")

    @rule(
        steps=st.lists(st.integers(0, 50_000), min_size=1, max_size=12), choice=st.integers(0, 20)
    )
    def append_good(self, steps: list[int], choice: int) -> None:
        """Trades in order."""
        self.append(b"".join(self.trade(step, choice + i) for i, step in enumerate(steps)))

    @rule(junk=st.binary(max_size=40), ends=st.booleans())
    def append_bytes(self, junk: bytes, ends: bool) -> None:
        """Anything."""
        self.append(junk + b"\n" * ends)

    @rule(share=st.floats(0.05, 0.95))
    def append_partial(self, share: float) -> None:
        """The beginning of a line; what is appended next stands behind it."""
        line = self.trade(900, 1)
        self.append(line[: max(1, int(len(line) * share))])

    @rule(back=st.integers(0, 8))
    def append_duplicate(self, back: int) -> None:
        """An earlier line once more."""
        lines = [line for line in self.content[self.newest].split(b"\n")[:-1] if line]
        if lines:
            self.append(lines[-1 - back % len(lines)] + b"\n")

    @rule(back=st.integers(1_000, 500_000))
    def append_late(self, back: int) -> None:
        """A trade with an old time."""
        self.number += 1
        self.append(trade_line(SWAP, self.number, self.now - back, "98", "3", "buy") + b"\n")

    @rule(ahead=st.integers(250_000, 900_000))
    def append_far_ahead(self, ahead: int) -> None:
        """A trade that may have to wait for a witness."""
        self.number += 1
        self.append(trade_line(SWAP, self.number, self.now + ahead, "97", "3", "sell") + b"\n")

    @rule(steps=st.lists(st.integers(0, 30_000), min_size=1, max_size=4))
    def next_day(self, steps: list[int]) -> None:
        """A new day file; what was torn in the old one stays torn."""
        if len(self.content) < len(DAYS):
            self.content[DAYS[len(self.content)]] = b""
            self.append(b"".join(self.trade(step, i) for i, step in enumerate(steps)))

    def finished(self) -> list[str]:
        """Days that no longer grow and are there as plain files."""
        return sorted({*self.content} - {self.newest} - {*self.packed} - self.gone)

    @precondition(lambda self: self.finished())
    @rule(suffix=st.sampled_from((".gz", ".zst")), which=st.integers(0, 9), cut=st.integers(0, 99))
    def rotate(self, suffix: str, which: int, cut: int) -> None:
        """Compress a finished day, in one or two members, and remove the plain file."""
        days = self.finished()
        day = days[which % len(days)]
        data = self.content[day]
        at = len(data) * cut // 100
        pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
        plain = self.world.raw / f"{day}.jsonl"
        (self.world.raw / f"{day}.jsonl{suffix}").write_bytes(pack(data[:at]) + pack(data[at:]))
        plain.unlink()
        self.packed[day] = suffix

    @precondition(lambda self: self.vanishable())
    @rule(which=st.integers(0, 9))
    def vanish(self, which: int) -> None:
        """A consumed day is moved away."""
        days = self.vanishable()
        day = days[which % len(days)]
        (self.world.raw / f"{day}.jsonl{self.packed.get(day, '')}").unlink()
        self.gone.add(day)

    def vanishable(self) -> list[str]:
        """Days that a run has read to their end."""
        return sorted(self.seen_by_a_run - {self.newest} - self.gone)

    # -- the user ----------------------------------------------------------

    @rule()
    def run(self) -> None:
        """Bring everything up to date."""
        with grain(self.fine):
            self.world.run()
        self.has_run = True
        self.seen_by_a_run = {*self.content} - {self.newest}

    @rule()
    def run_twice(self) -> None:
        """The second run has nothing to do and touches nothing."""
        self.run()
        before = self.world.stamps()
        with grain(self.fine):
            self.world.run()
        assert self.world.stamps() == before

    @rule(after=st.integers(0, 60))
    def run_and_die(self, after: int) -> None:
        """A run that ends at some change of the disk."""
        with grain(self.fine):
            died = run_and_die(self.world, after)
        self.has_run = self.has_run or not died

    @rule(which=st.integers(0, 9))
    def lose_the_previous_state(self, which: int) -> None:
        """The older generation is a spare: nobody misses it."""
        names = [stage.name for stage in self.world.chain]
        path = VaultPaths(self.world.root).state(names[which % len(names)], SWAP)
        states.previous_path(path).unlink(missing_ok=True)

    @precondition(lambda self: self.has_run)
    @rule(stage=st.sampled_from(sorted(PARAMS)), which=st.integers(0, 2))
    def change_params(self, stage: str, which: int) -> None:
        """Other parameters: refused until a rebuild, which needs the vanished files back."""
        self.run()
        new = PARAMS[stage][which]
        changes = new != self.chosen[stage]
        self.chosen[stage] = new
        self.world.settings(self.settings_text())
        if changes:
            with pytest.raises(StateError, match="rebuild"):
                self.world.run_one(stages.load(stage))
        with grain(self.fine):
            if stage == "trades" and self.gone:
                with pytest.raises(DataError, match="gone"):
                    self.world.rebuild(stage)
                for day in sorted(self.gone):
                    (self.world.raw / f"{day}.jsonl").write_bytes(self.content[day])
                    self.packed.pop(day, None)
                self.gone.clear()
            self.world.rebuild(stage)
        if stage == "trades":
            self.rebuilt = dict(self.content)

    def settings_text(self) -> str:
        """The settings file."""
        return "".join(f"[{stage}]\n{text}\n" for stage, text in self.chosen.items() if text)

    # -- the promise -------------------------------------------------------

    @rule()
    def check(self) -> None:
        """A run, and then: as one batch over the same bytes."""
        self.run()
        self.assert_as_batch()

    def assert_as_batch(self) -> None:
        """Compare with a new vault; where there was a rebuild, with a rebuild at that place."""
        oracle = World(self.base / f"oracle{next(self.oracles)}", SWAP, self.world.chain)
        oracle.settings(self.settings_text())
        with grain(Grain(part_rows=8)):
            if self.rebuilt is not None:
                oracle.put(self.rebuilt)
                oracle.run()
                oracle.rebuild()
            oracle.put(self.content)
            oracle.run()
        message = difference(unpacked(self.world.tree()), oracle.tree())
        assert not message, message
        shutil.rmtree(oracle.root)

    def teardown(self) -> None:
        """The last check, and the folder is gone."""
        try:
            self.run()
            self.assert_as_batch()
        finally:
            shutil.rmtree(self.base)


COMMON = settings(
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
    stateful_step_count=30,
)


class TestVaults(Vaults.TestCase):  # type: ignore[valid-type, misc]
    settings = settings(
        COMMON, max_examples=24, derandomize=True, phases=[Phase.explicit, Phase.generate]
    )


@pytest.mark.slow
class TestVaultsAtLength(Vaults.TestCase):  # type: ignore[valid-type, misc]
    settings = settings(COMMON, max_examples=5000, stateful_step_count=50)
