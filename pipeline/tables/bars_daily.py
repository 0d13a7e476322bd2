"""Daily buying and selling of symbols without a tape, from daily bars.

The rows stand beside those of the tapes, in views of one name: `micro_trade_classification` and
`micro_metrics_daily`. A symbol that has a tape has none of these.
"""

from __future__ import annotations

from datetime import date

from pipeline.equities import bars
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Table
from pipeline.tables.frames import BARS, CLASSIFICATION, METRICS, prices

Params = bars.Params


def _compute(frames: Frames, params: Params, _on: date | None) -> Made:
    taped = frames[CLASSIFICATION].select("symbol").unique().collect()
    own = prices(frames).join(taped, on="symbol", how="anti", maintain_order="left")
    found = bars.classify_bars(own, params)
    return Made({CLASSIFICATION + BARS: found.classification, METRICS + BARS: found.metrics})


TABLE = Table(
    name="bars_daily",
    params=Params,
    reads=("prices_daily", CLASSIFICATION),
    compute=_compute,
    keys={
        CLASSIFICATION + BARS: ("symbol", "trade_date"),
        METRICS + BARS: ("symbol", "trade_date"),
    },
    layers=(
        Layer(
            CLASSIFICATION + BARS,
            CLASSIFICATION + BARS,
            "parquet",
            bars.CLASSIFICATION_COLUMNS,
            "Buying and selling of symbols without a tape, guessed from daily bars.",
        ),
        Layer(
            METRICS + BARS,
            METRICS + BARS,
            "parquet",
            bars.METRICS_COLUMNS,
            "Daily metrics of symbols without a tape, from daily bars.",
        ),
    ),
)
