"""The row about libraries that compute a part of the layers."""

from __future__ import annotations

import json
from statistics import median

from scripts.benchkit.compare import RELATIVE
from scripts.benchkit.lines import milliseconds
from scripts.benchkit.outcome import Line, Outcome
from scripts.benchkit.place import Place


def parts(place: Place) -> Outcome:
    """Each library on its own part, from the same rows in memory as the stage's fold."""
    sizes = place.sizes
    root = place.fresh_vault(place.market(speed=sizes.day_speed))
    place.run_stages(root, ("trades",))
    place.say("parts beside other libraries")
    done = place.starter.script("time_parts.py", str(root), str(sizes.part_runs))
    place.drop(root)
    lines = []
    for part in json.loads(done.output):
        ours, theirs = median(part["ours"]), median(part["theirs"])
        times = milliseconds(ours), milliseconds(theirs)
        lines.append(Line(part["name"], *times, f"{ours / theirs:.2f} x {part['peer']}"))
    text = (
        "The fold of one stage, in one batch and without files, beside a library that computes a "
        "part of what it computes, from the same prepared rows of the day in memory; medians of "
        f"{sizes.part_runs} runs in turn in one process. Compared before (within {RELATIVE:g}): "
        "cvd with wickra's CumulativeVolumeDelta at the end of each minute, and its range; vwap "
        "with SessionVwap and VwapStdDevBands; vpin with Vpin (500 buckets, window 50); impact "
        "with KylesLambda and AmihudIlliquidity (full windows), and with statsmodels' RollingOLS "
        "(slope, r², standard error); profile with MarketProfile over the day's histogram in 50 "
        "bins (volume, POC, VAH, VAL with value_area = one_row). The stages add up exact decimals "
        "and carry all their columns, the libraries doubles. wickra's profiles spread volume over "
        "candles and its Footprint copies itself at every trade: they do other things. mlfinpy "
        "cannot be installed beside numpy 2."
    )
    return Outcome("Parts beside other libraries", text, lines)
