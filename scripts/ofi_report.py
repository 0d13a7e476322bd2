"""Regress price changes on order-flow imbalance in recorded feeds and write docs/ofi.md.

The recordings are a vault's raw folder: `--captures`, else $FLOWVAULT_CAPTURES. The product runs
on a copy in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from pipeline.instrument import Instrument, contract_of, load_table  # noqa: E402
from scripts.benchkit.captures import VARIABLE, find_captures  # noqa: E402
from scripts.ofikit import recorded  # noqa: E402
from scripts.ofikit.page import Found, page  # noqa: E402
from scripts.ofikit.recorded import ReportError  # noqa: E402
from scripts.ofikit.windows import Events, Trades, cut, sessions  # noqa: E402

LENGTHS_S = (1, 10)
_SECOND_US = 1_000_000


def main() -> int:
    """Make the page; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=Path, metavar="DIR", help="vault of recorded data")
    parser.add_argument("--out", type=Path, metavar="FILE", default=ROOT / "docs" / "ofi.md")
    options = parser.parse_args()
    captures = find_captures(options.captures)
    if captures is None:
        print(
            f"ofi_report: no recorded data; name it by --captures or ${VARIABLE}", file=sys.stderr
        )
        return 66
    try:
        found = [each for one in recorded.instruments(captures) for each in measure(captures, one)]
    except ReportError as error:
        print(f"ofi_report: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(page(found), encoding="utf-8")
    return 0


def measure(captures: Path, instrument: Instrument) -> list[Found]:
    """All regressions of one instrument.

    Raises:
        ReportError: the product failed on it.
    """
    print(instrument.key, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="flowvault-ofi-") as name:
        root = Path(name)
        recorded.run(captures, instrument, root)
        contract = contract_of(instrument, load_table(root), root)
        trades = recorded.trades(root, instrument)
        feeds = {"quotes": recorded.quotes(root, instrument)}
        feeds["depth"] = recorded.depth(root, instrument)
    tick = None if contract.tick is None else float(contract.tick)
    return [
        each
        for source, events in feeds.items()
        if events is not None
        for each in _regressions(instrument, source, events, trades, tick)
    ]


def _regressions(
    instrument: Instrument, source: str, events: Events, trades: Trades, tick: float | None
) -> Iterator[Found]:
    for own in sessions(events):
        for length in LENGTHS_S:
            low, high = trades.ts.searchsorted(own.ts[[0, -1]])
            meanwhile = Trades(trades.ts[low:high], trades.signed[low:high])
            windows = cut(own, meanwhile, length * _SECOND_US)
            yield Found.of(instrument, int(own.ts[0]), source, length, windows, tick)


if __name__ == "__main__":
    sys.exit(main())
