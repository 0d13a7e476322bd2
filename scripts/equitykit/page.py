"""docs/equities.md: what the equities room can say, and how it scores where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scripts.equitykit.cases import DEALS, LEAST, MODES, Attribution, Mapped
from scripts.equitykit.judge import EDGES, SURE, Flows

INTRO = """\
# Institutions behind US equity volume: what can be said

Written by `python scripts/equities_score.py`, from simulated markets; run it again after a change
of the mapping. Nothing in the tables below happened on any market.

**What these tables say is a statistical association, not an identification.**

- An MPID is a venue. It has many subscribers, and nobody publishes who trades there or on which
  side. A 13F shows net long positions at the end of a quarter, not trades. `broker_map` asks only
  whether a venue's part of a symbol's volume is unusual in those quarters in which a manager's
  position changed much.
- Venue volume comes late. FINRA publishes a week 21 days after its Monday for the stocks of tier 1
  and 35 days after it for all others: trades of Friday 5 January 2024 were public on 22 January at
  the earliest. The 13F that holds January's trades is due in the middle of May, 45 days after the
  quarter. `available_date` is the first day on which a row could have been known as it stands;
  ask `where available_date <= …` for what was known then. Flows have a `map_date` too: a map knows
  everything up to its own day, so a study must not use it for days before.
- What is known within one to three days is anonymous: VPIN, Kyle's lambda and order imbalance of
  your own tape, and Reg SHO's total off-exchange volume. Rows about institutions in those days are
  marked NOWCAST (each venue's part of the last published week times the day's off-exchange volume)
  and their confidence is at most 0.5.
- `relationship_strength` is a shrunk correlation. `confidence_score` is 1 - q of Benjamini and
  Hochberg: of all pairs at c or above, no more than 1 - c should be there by chance. It is no
  probability that one pair is real.
- Claims that such signals make detection "30 to 50 % more accurate", or cut false positives to
  "20 to 25 %", have no support here. VPIN above 0.7 is rare: the days of a real tape (AIG, October
  2013) have 0.12 to 0.18, where random signs give 0.09. Lambda there is 3.1 with an r2 of 0.07, so
  a rule such as "lambda above 20 and r2 above 0.3" never fires on it.
- The score of a rotation adds |order imbalance|, which rewards buying as it does selling;
  `sell_boost` above 1 weighs selling more. The microstructure counts in it only if
  `micro_confidence` is above 0.5. The recipe's own example adds 1.90 points, not the 2.3 that it
  prints.

## The markets

Each is five years of 40 invented symbols, 12 venues and 60 managers; `scripts/equities_demo.py`
writes one into a vault, with the truth beside `raw/`. Managers trade 60 % of the symbols they
follow in a quarter, in campaigns of one to eight weeks, a quarter of it at venues, and half as much
again back and forth. Half of them have a home: one or two venues that get 30 to 80 % of what they
trade at venues. These pairs are the truth to be found. All else goes to the venues by their size.
Venues' parts wander by themselves; filings are missing, amended and late; shares split. The
settings were chosen to be plausible before anything was scored, and no threshold of the mapping was
changed afterwards. Real markets may be harder: no real series of several quarters was at hand.
"""


FEW = 5
"""Fewer pairs say nothing about a promise."""


@dataclass(frozen=True)
class Scores:
    """Everything that was measured; the first of the cases is the usual one."""

    cases: dict[str, list[Mapped]]
    flows: list[Attribution]
    dealt: list[Attribution]


def page(scores: Scores) -> str:
    """The page in Markdown."""
    usual = next(iter(scores.cases.values()))
    parts = (
        _mapping(usual),
        _calibration(usual),
        _cases(scores.cases),
        _flows(scores),
    )
    return "\n".join([INTRO, *(line for part in parts for line in part)])


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.0f} %"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _head(*cells: str) -> Iterator[str]:
    yield _row(*cells)
    yield "|" + "---|" * len(cells)


def _quantile(values: Sequence[float], part: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) if known else None


def _mapping(usual: list[Mapped]) -> Iterator[str]:
    yield "## Does the map find the homes?"
    yield ""
    yield "AUC: how often a true pair is given more strength than another one (0.5 is chance)."
    yield "Precision: of the strongest pairs, as many as are true, the part that is. *Dealt again*:"
    yield f"the same strengths given to other pairs, {DEALS} times; the AUC that one deal in a"
    yield f"hundred exceeds, and the mean precision. Found: pairs with a confidence of {SURE:.2f}"
    yield "or more."
    yield ""
    yield from _head(
        *("market", "pairs", "true", "observations", "AUC", "dealt again", "precision"),
        *("dealt again", "of the first ten", "found", "of these true"),
    )
    for seed, one in enumerate(usual, 1):
        found, right = one.pairs.found
        yield _row(
            *(f"seed {seed}", str(len(one.pairs.strength)), str(one.true)),
            *(_number(_observations(one), 0), f"**{_number(one.pairs.auc, 3)}**"),
            _number(_quantile(one.again, 0.99), 3),
            f"**{_percent(one.pairs.precision(one.true))}**",
            *(_percent(one.again_precision), _percent(one.pairs.precision(10))),
            *(str(found), str(right)),
        )
    better = [(one.pairs.auc or 0) > (_quantile(one.again, 0.99) or 1) for one in usual]
    true = sum(one.true for one in usual)
    right = sum(one.pairs.found[1] for one in usual)
    yield ""
    yield f"The map ranks pairs better than 99 of 100 shuffled ones in {sum(better)} of"
    yield f"{len(usual)} markets. With a year of quarters it finds {right} of {true} true pairs at"
    yield f"a confidence of {SURE:.2f}: absence from the map's top says nothing."
    yield ""


def _observations(one: Mapped) -> float | None:
    return _mean(one.rows["observation_count"].to_list())


def _calibration(usual: list[Mapped]) -> Iterator[str]:
    yield "## Is its confidence right?"
    yield ""
    yield f"The {len(usual)} markets together. *At or above*: all pairs from the bin's lower end c"
    yield "on, which is what a false discovery rate speaks of: their true part should not be below"
    yield "c. In brackets Wilson's 95 % interval, as if pairs were independent."
    yield ""
    yield from _head(
        *("confidence_score", "pairs", "mean", "true"),
        *("at or above: pairs", "promised", "true"),
    )
    bins = [[each.pairs.bins()[place] for each in usual] for place in range(len(EDGES) - 1)]
    pairs = [sum(one[2] for one in several) for several in bins]
    true = [sum(one[4] for one in several) for several in bins]
    short = []
    for place, several in enumerate(bins):
        low, high = several[0][:2]
        sure = sum(one[2] * one[3] for one in several if one[2])
        above, above_true = sum(pairs[place:]), sum(true[place:])
        ends = wilson(above_true, above)
        yield _row(
            f"{low:.2f} to {high:.2f}",
            *(str(pairs[place]), _number(sure / pairs[place] if pairs[place] else None)),
            _percent(true[place] / pairs[place] if pairs[place] else None),
            *(str(above), _percent(low)),
            f"{_percent(above_true / above)} [{_percent(ends[0])}, {_percent(ends[1])}]"
            if above
            else "-",
        )
        if above and ends[1] < low:
            short.append(f"{low:.2f}")
    yield ""
    if short:
        yield f"At or above {', '.join(short)} fewer pairs are true than promised, by more than"
        yield "chance: pairs are not independent, since venues share one total and managers trade"
        yield "the same symbols at the same times. Take the score as an order there."
    else:
        yield "Nowhere are there fewer true pairs at or above a confidence than promised, by more"
        yield "than chance."
    yield "Inside a bin the score is no frequency: a pair at 0.7 stands below better ones, with"
    yield "which it shares its promise, and is itself true less often."
    yield ""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, J. Am. Stat. Assoc. 22 (1927) 209)."""
    if not count:
        return 0.0, 1.0
    z = 1.959964
    middle = (hits + z * z / 2) / (count + z * z)
    spread = hits * (count - hits) / count + z * z / 4
    half = z * math.sqrt(spread) / (count + z * z)
    return middle - half, middle + half


def _cases(cases: dict[str, list[Mapped]]) -> Iterator[str]:
    yield "## Where it fails"
    yield ""
    yield "Means over the same seeds; found and true are sums over all markets. *Strongest*: the"
    yield "largest relationship_strength in any of them."
    yield ""
    yield from _head(
        *("market", "observations", "AUC", "precision"),
        *("found", "of these true", "true in all", "strongest"),
    )
    for text, several in cases.items():
        found = [one.pairs.found for one in several]
        strongest = max(float(one.pairs.strength.max(initial=0)) for one in several)
        yield _row(
            *(text, _number(_mean([_observations(one) for one in several]), 0)),
            _number(_mean([one.pairs.auc for one in several]), 3),
            _percent(_mean([one.pairs.precision(one.true) for one in several])),
            *(str(sum(each for each, _ in found)), str(sum(right for _, right in found))),
            *(str(sum(one.true for one in several)), _number(strongest)),
        )
    yield ""
    yield from _broken(cases)
    yield "- Too little history gives no observation, no strength and no confidence, never a guess:"
    yield "  a quarter is measured against two or more before it, and of managers that stopped"
    yield "  filing nothing is known."
    yield "- One symbol for a year gives four observations: a strength of 4 / 24 at most, whatever"
    yield "  the confidence."
    yield "- A venue that many share as home moves with everybody's trading; the ranks then say"
    yield "  little about whose."
    yield "- More symbols and more quarters are what helps: `lookback_days` under `[broker_map]`"
    yield "  looks further back than the year that the recipe asks for, if habits last that long."
    yield ""


def _broken(cases: dict[str, list[Mapped]]) -> Iterator[str]:
    """Where fewer of the found are true than promised, by more than chance."""
    broken = []
    for text, several in cases.items():
        found = sum(one.pairs.found[0] for one in several)
        right = sum(one.pairs.found[1] for one in several)
        if found >= FEW and wilson(right, found)[1] < SURE:
            broken.append(f"{text} ({_percent(right / found)})")
    if broken:
        yield f"- Fewer of the found are true than the {_percent(SURE)} promised, by more than"
        yield f"  chance, in {'; '.join(broken)}."
        yield "  Venues share one total. Where many managers have homes, the trading of those who"
        yield "  have none shows at the venues that are nobody's home: an association, but not the"
        yield "  one that was looked for."


def _flows(scores: Scores) -> Iterator[str]:
    yield "## Are attributed flows right?"
    yield ""
    yield "The map is made with what was known a year before the end, the flows are those of the"
    yield "year behind it. Hit: of the shares given to a manager at a venue on a day, the part that"
    yield "it traded there; by quarter: over all days and venues. Reached: of what managers traded"
    yield "at venues, the part that they were given. Side right: of the rows with a side, of a"
    yield "manager that did trade the symbol that day. *Dealt again*: by a map whose managers'"
    yield "names were shuffled. Means over the markets."
    yield ""
    columns = ("rows", "hit", "hit by quarter", "reached", "rows with a side", "side right")
    yield from _head("known", "map", *columns)
    both = (("as found", scores.flows), ("dealt again", scores.dealt))
    for mode in MODES:
        for name, several in both:
            yield _row(mode, name, *_cells([each.by_mode[mode] for each in several]))
    yield ""
    yield "With the 13F and the week known, by attribution_confidence:"
    yield ""
    yield from _head("from", "map", *columns)
    for least in LEAST:
        for name, several in both:
            cells = _cells([each.by_confidence[least] for each in several])
            yield _row(f"{least:.1f}", name, *cells)
    right = [_mean([each.by_mode[MODES[0]].right for each in several]) for _, several in both]
    early = _mean([each.by_mode[MODES[1]].right for each in scores.flows])
    all_hit = _mean([each.by_confidence[LEAST[0]].hit for each in scores.flows])
    top_hit = _mean([each.by_confidence[LEAST[-1]].hit for each in scores.flows])
    yield ""
    yield "The side is made from the 13F and the day's imbalance, not from the map: it is right"
    yield f"in {_percent(right[0])} of rows by the map as found and in {_percent(right[1])} by the"
    yield f"one dealt again. Before the 13F is known it is right in {_percent(early)}. Of all"
    yield f"shares that were attributed {_percent(all_hit)} hit who traded them, of those at a"
    yield f"confidence of {LEAST[-1]:.1f} or more {_percent(top_hit)}. Pairs without a significant"
    yield "association cannot reach 0.27 (strength 0.30 x 0.9): a `min_confidence` above that"
    yield "leaves only the others."
    yield ""


def _cells(several: Sequence[Flows]) -> Iterator[str]:
    yield f"{_mean([float(one.rows) for one in several]) or 0:,.0f}"
    yield _percent(_mean([one.hit for one in several]))
    yield _percent(_mean([one.hit_quarter for one in several]))
    yield _percent(_mean([one.reached for one in several]))
    yield f"{_mean([float(one.told) for one in several]) or 0:,.0f}"
    yield _percent(_mean([one.right for one in several]))
