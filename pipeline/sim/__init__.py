"""A simulated market: raw files with known content, for demos and tests.

Nothing here is real data. Every file lands under exchange ``sim`` and the truth
file beside it says which events were planted where.
"""

from pipeline.sim.write import write_market

__all__ = ["write_market"]
