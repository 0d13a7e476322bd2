"""The row about clusters of trades: rows a second behind the layers they are made of."""

from __future__ import annotations

import shutil
from statistics import median

from pipeline.engine.paths import VaultPaths
from pipeline.sim import write_market
from scripts.benchkit.lines import millions, seconds
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import INSTRUMENT, Place, count_lines

_LAST = ("clusters", "maker")
_RATE, _STATE_KB = 300_000, 1000.0


def clusters(place: Place) -> Outcome:
    """Two simulated days of trades, quotes and books to labels, a model a day, maker quotes."""
    sizes, root = place.sizes, place.scratch("clusters")
    write_market(
        root,
        inst_id=INSTRUMENT.inst_id,
        speed=sizes.history_speed * 6,
        days=2,
        hours=sizes.book_hours,
        book_ms=sizes.book_ms,
    )
    paths = VaultPaths(root)
    trades = sum(map(count_lines, paths.raw(INSTRUMENT, "trades").iterdir()))
    place.run_stages(root, ("quote",))
    runs: dict[str, list[float]] = {name: [] for name in _LAST}
    for number in range(-sizes.warm_ups, sizes.depth_runs):
        place.say(f"{trades:,} trades, clusters, repetition {number + 1} of {sizes.depth_runs}")
        for name in _LAST:
            shutil.rmtree(paths.state_dir(name, INSTRUMENT), ignore_errors=True)
            shutil.rmtree(paths.derived(name, INSTRUMENT), ignore_errors=True)
        for folder in ("cluster_flow", "quote_1s"):
            shutil.rmtree(paths.derived(folder, INSTRUMENT), ignore_errors=True)
        for name in _LAST:
            done = place.run_stages(root, (name,))
            if number >= 0:
                runs[name].append(done.seconds)
    middle = {name: median(times) for name, times in runs.items()}
    state = paths.state("clusters", INSTRUMENT).stat().st_size / 1000
    rate = trades / middle["clusters"]
    place.drop(root)
    text = (
        f"A cold `flowvault run --stage clusters` over two simulated days of {trades:,} trades "
        "whose trades, quotes and books are layers already, with joining, features, scores, "
        "labels, training at midnight and all syncing; then `maker` on top. "
        f"Median of {sizes.depth_runs}."
    )
    return Outcome(
        "Clusters of trades",
        text,
        [
            Line(
                f"{millions(trades)} trades to clusters",
                f"{seconds(middle['clusters'])}, {rate:,.0f} /s",
                aim=Aim(_RATE, " /s", is_least=True),
                judged=rate,
            ),
            Line("the same to maker quotes", seconds(middle["maker"])),
            Line(
                "state of clusters",
                f"{state:,.0f} kB",
                aim=Aim(_STATE_KB, " kB"),
                judged=state,
            ),
        ],
    )
