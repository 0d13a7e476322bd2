"""The market of these tests exercises what the tests are about, and the comparison can fail."""

from __future__ import annotations

from .model import snapshot
from .sims import Arena
from .workload import TRADES, Truth, run_chain


def test_market_has_everything(truth: Truth) -> None:
    """Every kind of output is written: several parts, gaps, quarantine, all bars, volume."""
    counts = truth.ledger["trades"]["counts"]
    assert min(counts[name] for name in ("late", "duplicate", "bad", "gaps")) > 0
    assert truth.ledger["trades"]["parts"]["trades"]["files"] >= 3
    names = [path.rsplit("/", 1)[-1] for path in truth.tree]
    wanted = {"gaps.jsonl", "volume_1m.jsonl", "bars_1m.jsonl", "bars_30m.jsonl"}
    assert wanted <= set(names)
    files = [data for path, data in truth.tree.items() if path.startswith("quarantine")]
    quarantined = b"".join(files)
    reasons = (b'"late"', b'"future"', b'"torn"', b'"price"')
    assert [reason for reason in reasons if reason not in quarantined] == []


def test_runs_rewrite_the_last_part(arena: Arena) -> None:
    """Each run finds a last part shorter than a full one, and leaves another."""
    vault = arena.vault()
    tails = []
    for step in arena.steps():
        step(vault)
        parts = sorted(path for path in snapshot(vault) if path.endswith(".parquet"))
        tails.append(parts[-1])
    assert len(set(tails)) == len(tails)
    assert arena.truth.fault(vault) is None
    assert TRADES.layers[0].part_rows == 150


def test_comparison_sees_a_byte(arena: Arena) -> None:
    """One changed byte, one byte more or one file more is a difference."""
    vault = arena.vault()
    assert arena.finish(vault) is None
    for path in arena.truth.tree:
        file = vault / path
        whole = file.read_bytes()
        for wrong in (whole[:-1], whole + b"\n", whole[:9] + bytes([whole[9] ^ 1]) + whole[10:]):
            file.write_bytes(wrong)
            assert arena.truth.fault(vault) is not None
        file.write_bytes(whole)
    (vault / "derived" / "left.tmp").write_bytes(b"")
    assert arena.truth.fault(vault) is not None


def test_nothing_new_changes_nothing(arena: Arena) -> None:
    """A run with nothing to do leaves every byte as it is, states included."""
    vault = arena.vault()
    assert arena.finish(vault) is None
    before = snapshot(vault)
    run_chain(vault)
    assert snapshot(vault) == before
