"""The rotation score: weights and gates."""

from __future__ import annotations

import polars as pl

DUMP, SAME, NEXT = 2.0, 1.0, 0.85
UHF_SAME, UHF_NEXT, OPTIONS_SAME, OPTIONS_NEXT, RELIEF = 0.7, 0.6, 0.5, 0.4, 0.4
END_OF_WINDOW = {"u_next": 1.05, "uhf_next": 1.1, "opt_next": 1.25}
"""What a dump at the end of its quarter makes of the quarter behind it."""

GATE_Z, GATE_CONFIDENCE = 1.5, 0.5
FULL_LAMBDA = 50.0
VPIN, SPIKE, LAMBDA, IMBALANCE, BLOCKS, FLOWS = 0.6, 0.8, 0.3, 0.4, 0.5, 0.7


def _known(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Float64).fill_null(0.0)


def micro_term(sell_boost: float) -> pl.Expr:
    """What the microstructure adds: 0 unless micro_confidence is above 0.5; null counts 0.

    The size of the order imbalance counts whatever its sign, so buying is rewarded like selling,
    unless `sell_boost` is above 1: selling then counts so many times, up to 1.
    """
    imbalance = _known("micro_order_imbalance_avg")
    size = (
        pl.when(imbalance < 0)
        .then((imbalance.abs() * sell_boost).clip(upper_bound=1.0))
        .otherwise(imbalance.abs())
    )
    confidence = _known("micro_confidence")
    term = confidence * (
        VPIN * _known("micro_vpin_avg")
        + SPIKE * _known("micro_vpin_spike")
        + LAMBDA * (_known("micro_lambda_avg") / FULL_LAMBDA).clip(0.0, 1.0)
        + IMBALANCE * size
        + BLOCKS * _known("micro_block_ratio_avg")
        + FLOWS * _known("micro_flow_attribution_score")
    )
    return pl.when(confidence > GATE_CONFIDENCE).then(term).otherwise(0.0)


def rotation_score(sell_boost: float) -> pl.Expr:
    """r_score: 0 unless dumpz is at least 1.5 and somebody took the shares up."""
    eow = {
        name: pl.when(pl.col("eow").fill_null(value=False)).then(factor).otherwise(1.0)
        for name, factor in END_OF_WINDOW.items()
    }
    base = (
        DUMP * _known("dumpz")
        + SAME * _known("u_same")
        + NEXT * _known("u_next") * eow["u_next"]
        + UHF_SAME * _known("uhf_same")
        + UHF_NEXT * _known("uhf_next") * eow["uhf_next"]
        + OPTIONS_SAME * _known("opt_same")
        + OPTIONS_NEXT * _known("opt_next") * eow["opt_next"]
        + RELIEF * _known("shortrelief_v2")
        - _known("index_penalty")
    )
    takers = ("u_same", "u_next", "uhf_same", "uhf_next")
    is_taken = pl.any_horizontal(_known(name) > 0 for name in takers)
    gate = (_known("dumpz") >= GATE_Z) & is_taken
    return pl.when(gate).then(base + micro_term(sell_boost)).otherwise(0.0)
