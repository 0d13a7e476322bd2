"""Ask recorded and simulated days whether trade clusters tell anything; write docs/clusters.md.

Every stretch of trades is cut in two: the first half trains a model, the second is labelled with
it and judged. The recordings are a vault's raw folder: `--captures`, else $FLOWVAULT_CAPTURES. The
product runs on a copy in a temporary folder.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from pipeline import stages  # noqa: E402
from pipeline.calc.calibration import IC_HORIZONS, Mids, by_second, correlation  # noqa: E402
from pipeline.calc.cluster_model import SCORES, Trained, label, train  # noqa: E402
from pipeline.engine.paths import VaultPaths, find_instruments  # noqa: E402
from pipeline.engine.runner import run_stages  # noqa: E402
from pipeline.engine.vault import Vault  # noqa: E402
from pipeline.errors import FlowvaultError  # noqa: E402
from pipeline.instrument import Instrument  # noqa: E402
from pipeline.sim import write_market  # noqa: E402
from scripts.benchkit.captures import VARIABLE, find_captures  # noqa: E402

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DEPTH = (1, 3, 2)
SKEWED = {"depth": 3, "inverted": 1}
"""The cluster whose flow is the skew, by mapping."""

TAU_MS = 10_000.0
LEAST_TRADES = 2000
PAUSE_MS = 600_000
BLOCK_S, LEAST_BLOCKS = 20, 10
SEED = 20_240_306
_HIGH, _LOW = 97.5, 2.5


@dataclass(frozen=True, slots=True)
class Part:
    """Trades with scores of one unbroken stretch: milliseconds, signed sizes, and scores."""

    clock: Ints
    flow: Floats
    scores: Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """A correlation with the bounds that 95 % of resamplings keep to."""

    value: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def text(self) -> str:
        """For a table; bold where the interval does not hold 0."""
        if self.value is None or self.low is None or self.high is None:
            return "-"
        text = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"**{text}**" if self.low > 0 or self.high < 0 else text


@dataclass(frozen=True, slots=True)
class Found:
    """One stretch: its model, how many trades of the second half each cluster has, and the IC.

    `ic` by signal and horizon; signals: a mapping's skew, all signed flow, and flow whose labels
    and signs were dealt out again.
    """

    name: str
    seconds: int
    model: Trained
    shares: list[float]
    ic: dict[str, list[Interval]]


def main() -> int:
    """Make the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=Path, metavar="DIR", help="vault of recorded data")
    parser.add_argument("--out", type=Path, metavar="FILE", default=ROOT / "docs" / "clusters.md")
    parser.add_argument("--resamplings", type=int, metavar="N", default=500)
    parser.add_argument("--hours", type=float, default=24, help="of the simulated day")
    options = parser.parse_args()
    captures = find_captures(options.captures)
    if captures is None:
        message = f"no recorded data; name it by --captures or ${VARIABLE}"
        print(f"clusters_report: {message}", file=sys.stderr)
        return 66
    try:
        found = list(measure(captures, options.hours, options.resamplings))
    except FlowvaultError as error:
        print(f"clusters_report: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(page(found, options.resamplings), encoding="utf-8")
    return 0


def measure(captures: Path, hours: float, resamplings: int) -> Iterator[Found]:
    """Every stretch that is long enough, recorded ones first.

    Raises:
        FlowvaultError: the product failed.
    """
    for instrument in find_instruments(captures):
        folders = [VaultPaths(captures).raw(instrument, kind) for kind in ("trades", "books")]
        if all(folder.is_dir() for folder in folders):
            with tempfile.TemporaryDirectory(prefix="flowvault-clusters-") as name:
                _copy(captures, Path(name), instrument)
                yield from _stretches(Path(name), instrument, resamplings)
    with tempfile.TemporaryDirectory(prefix="flowvault-clusters-") as name:
        write_market(Path(name), hours=hours)
        for instrument in find_instruments(Path(name)):
            yield from _stretches(Path(name), instrument, resamplings)


def _copy(captures: Path, root: Path, instrument: Instrument) -> None:
    for kind in ("trades", "books", "quotes"):
        folder = VaultPaths(captures).raw(instrument, kind)
        if folder.is_dir():
            shutil.copytree(folder, VaultPaths(root).raw(instrument, kind))


def _stretches(root: Path, instrument: Instrument, resamplings: int) -> Iterator[Found]:
    print(instrument.key, file=sys.stderr, flush=True)
    for done in run_stages(Vault.open(root), stages.with_upstream(["clusters"]), instrument):
        if isinstance(done, FlowvaultError):
            raise done
    rows, flow, seconds = (
        _layer(root, instrument, name) for name in ("clusters", "cluster_flow", "quote_1s")
    )
    if rows is None or flow is None or seconds is None:
        return
    clock = flow["ts"].dt.timestamp("ms").to_numpy()
    scores = rows.select(SCORES).to_numpy()
    known = ~np.isnan(scores).any(axis=1)
    whole = Part(clock[known], flow["flow"].to_numpy()[known], scores[known])
    mids = Mids(
        seconds["ts"].dt.timestamp("ms").to_numpy() // 1000,
        ((seconds["bid"] + seconds["ask"]) / 2).to_numpy(),
    )
    edges = [0, *(np.flatnonzero(np.diff(whole.clock) > PAUSE_MS) + 1).tolist(), len(whole.clock)]
    for low, high in pairwise(edges):
        if high - low >= LEAST_TRADES:
            part = Part(whole.clock[low:high], whole.flow[low:high], whole.scores[low:high])
            found = judge(f"{instrument.key} {_day(part)}", part, mids, resamplings)
            if found is not None:
                yield found


def _layer(root: Path, instrument: Instrument, name: str) -> pl.DataFrame | None:
    folder = VaultPaths(root).derived(stages.layers()[name][0].folder, instrument)
    parts = sorted(folder.glob("*.parquet"))
    return pl.concat([pl.read_parquet(part) for part in parts]) if parts else None


def _day(part: Part) -> str:
    return f"{pl.Series(part.clock[:1]).cast(pl.Datetime('ms'))[0]:%Y-%m-%d}"


def judge(name: str, part: Part, mids: Mids, resamplings: int) -> Found | None:
    """Train on the first half of a stretch and look at the second; None without a model."""
    half = len(part.clock) // 2
    model = train(part.scores[:half], DEPTH, 200_000, 300)
    if model is None:
        return None
    clock, flow = part.clock[half:], part.flow[half:]
    clusters = label(part.scores[half:], model.centres)
    dealt = np.random.default_rng(SEED).permutation(len(flow))
    flows = {name: np.where(clusters == own, flow, 0.0) for name, own in SKEWED.items()}
    flows["all flow"] = flow
    for name_of, own in SKEWED.items():
        is_own = clusters[dealt] == own
        signs = np.sign(flow)[dealt]
        flows[f"{name_of}, dealt again"] = np.where(is_own, np.abs(flow) * signs, 0.0)
    ends, sums = by_second(clock, np.column_stack(list(flows.values())), TAU_MS)
    ic = {
        signal: [
            interval(
                column, mids.returns_bps(ends, horizon), max(BLOCK_S, 2 * horizon), resamplings
            )
            for horizon in IC_HORIZONS
        ]
        for signal, column in zip(flows, sums.T, strict=True)
    }
    shares = [float((clusters == number).mean()) for number in (1, 2, 3)]
    return Found(name, len(ends), model, shares, ic)


def interval(x: Floats, y: Floats, block: int, resamplings: int) -> Interval:
    """A correlation, and what remains of it when blocks of neighbours are drawn again."""
    from arch.bootstrap import StationaryBootstrap  # noqa: PLC0415  (it takes a while)

    known = ~np.isnan(y)
    x, y = x[known], y[known]
    value = correlation(x, y)
    if value is None or len(x) < LEAST_BLOCKS * block:
        return Interval(value, None, None, len(x))
    drawn = StationaryBootstrap(block, x, y, seed=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = drawn.apply(_correlation, resamplings)
    low, high = np.nanpercentile(found, (_LOW, _HIGH))
    return Interval(value, float(low), float(high), len(x))


def _correlation(x: Floats, y: Floats) -> float:
    found = correlation(x, y)
    return float("nan") if found is None else found


def page(found: list[Found], resamplings: int) -> str:
    """The page in Markdown."""
    lines = [
        "# What trade clusters tell",
        "",
        "Written by `scripts/clusters_report.py`. Each unbroken stretch of trades with scores is",
        "cut in two: the first half trains a model as `flowvault clusters` does at midnight, the",
        "second half is labelled with it and judged. Recorded stretches last minutes; `sim` is",
        "simulated and says nothing about any market.",
        "",
        "## Clusters",
        "",
        "| stretch | trades fitted | in clusters 1, 2, 3 | second half | silhouette | margin |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        model = each.model
        fitted = ", ".join(f"{count / model.n_fit:.0%}" for count in model.counts)
        later = ", ".join(f"{share:.0%}" for share in each.shares)
        silhouette = "-" if model.silhouette is None else f"{model.silhouette:.2f}"
        lines.append(
            f"| {each.name} | {model.n_fit:,} | {fitted} | {later} | {silhouette} "
            f"| {model.role_margin:.2f} |"
        )
    lines += [
        "",
        "## Information coefficients",
        "",
        "Correlation of what is left of signed flow (time constant 10 s) at the end of each second",
        f"with a trade with the return of the mid behind it, and the bounds of {resamplings}",
        "resamplings of the stationary bootstrap (Politis and Romano 1994; mean block 20 s, or",
        "twice the horizon). A stretch of fewer than ten blocks says nothing (-). Bold: the",
        "interval does not hold 0. `depth` takes the flow of cluster 3 for opportunistic,",
        "`inverted` that of cluster 1. *Dealt again*: labels and signs shuffled among the trades,",
        "so that nothing can be left; one interval in twenty misses 0 all the same.",
        "",
        "| stretch | signal | seconds | 1 s | 5 s | 30 s | 60 s |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        for signal, row in each.ic.items():
            cells = " | ".join(one.text for one in row)
            lines.append(f"| {each.name} | {signal} | {each.seconds:,} | {cells} |")
    return "\n".join([*lines, "", *_verdict(found), ""])


def _verdict(found: list[Found]) -> list[str]:
    """What the intervals allow to be said, counted."""
    lines = []
    for signal in ("depth", "inverted", "all flow"):
        cells = [one for each in found for one in each.ic[signal] if one.low is not None]
        above = sum(1 for one in cells if _sign(one) > 0)
        below = sum(1 for one in cells if _sign(one) < 0)
        lines.append(
            f"- `{signal}`: of {len(cells)} intervals {above} lie above 0, {below} below, "
            f"{len(cells) - above - below} hold it."
        )
    nulls = [
        one
        for each in found
        for signal, row in each.ic.items()
        if signal.endswith("again")
        for one in row
        if one.low is not None
    ]
    missed = sum(1 for one in nulls if _sign(one))
    lines += [
        f"- Dealt again: {len(nulls) - missed} of {len(nulls)} intervals hold 0.",
        "",
        "Horizons and signals overlap, so these counts are not independent. An interval tells",
        "about its own stretch; no costs are counted. Which mapping is the better one, and whether",
        "either is better than signed flow without any clusters, stays open.",
    ]
    return lines


def _sign(one: Interval) -> int:
    low, high = one.low or 0.0, one.high or 0.0
    return int(low > 0) - int(high < 0)


if __name__ == "__main__":
    sys.exit(main())
