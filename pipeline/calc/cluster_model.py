"""A day's model of trades: three clusters of their scores, and what each stands for.

After Y. Zhang et al., "ClusterLOB" (arXiv 2504.20349), for trades with a book beside them. Labels
are weak (silhouettes of 0.2 to 0.3), so a model says how far apart its clusters are.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.calc.kmeans import lloyd, nearest, silhouette
from pipeline.calc.kmeans import means as means_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FEATURES = ("log_v_rel", "log_sbs", "log_obs", "spread_bps", "log_t_mid", "log_t_side")
SCORES = ("z_v_rel", "z_sbs", "z_obs", "z_spread", "z_t_mid", "z_t_side")
CLUSTERS = 3
DIRECTIONAL, OPPORTUNISTIC, MARKET_MAKING = 1, 2, 3

_SBS, _OBS = FEATURES.index("log_sbs"), FEATURES.index("log_obs")
_QUANTILES = (0.01, 0.99)
_SILHOUETTE_ROWS = 2000


class Calibration(msgspec.Struct, frozen=True):
    """What the training day says about the flow's pull on the price; see `calibration`."""

    n: int
    alpha: float | None
    k_tol: float | None
    beta_bps: float
    gamma: float
    sigma_bps: float | None
    b_raw_bps: float | None
    ic: list[list[float | None]] | None


class Centres(msgspec.Struct, frozen=True):
    """Three centroids, numbered by rising contrast (z_sbs - z_obs), and the bounds of scores.

    Attributes:
        roles: what the clusters stand for: 1 directional, 2 opportunistic, 3 market-making.
    """

    centroids: list[list[float]]
    clip_low: list[float]
    clip_high: list[float]
    roles: list[int]


class Trained(NamedTuple):
    """Centres, and how they were found."""

    centres: Centres
    n_rows: int
    n_fit: int
    counts: list[int]
    contrast: list[float]
    role_margin: float
    inertia: float
    iterations: int
    silhouette: float | None


def train(scores: Floats, roles: tuple[int, ...], max_fit: int, max_iter: int) -> Trained | None:
    """Fit a day's scores (rows by feature, none NaN); None if a cluster ends up empty.

    Of more than `max_fit` rows every k-th is used. They are clipped to their own 1 % and 99 %
    quantiles. The iteration starts from the means of the lower, middle and upper third by
    contrast.
    """
    chosen = scores[:: max(1, -(-len(scores) // max_fit))]
    low, high = np.quantile(chosen, _QUANTILES, axis=0)
    rows = chosen.clip(low, high)
    contrast = rows[:, _SBS] - rows[:, _OBS]
    thirds = np.empty(len(rows), np.int64)
    edges = [len(rows) * part // CLUSTERS for part in range(1, CLUSTERS)]
    thirds[np.argsort(contrast, kind="stable")] = np.searchsorted(
        edges, np.arange(len(rows)), side="right"
    )
    found = lloyd(rows, means_of(rows, thirds, CLUSTERS), max_iter)
    if found is None:
        return None
    contrasts = found.centroids[:, _SBS] - found.centroids[:, _OBS]
    order = np.argsort(contrasts, kind="stable")
    labels = np.argsort(order)[found.labels]
    few = slice(None, None, max(1, -(-len(rows) // _SILHOUETTE_ROWS)))
    return Trained(
        Centres(
            found.centroids[order].tolist(),
            low.tolist(),
            high.tolist(),
            list(roles),
        ),
        len(scores),
        len(rows),
        np.bincount(labels, minlength=CLUSTERS).tolist(),
        contrasts[order].tolist(),
        float(np.diff(contrasts[order]).min()),
        found.inertia,
        found.iterations,
        silhouette(rows[few], labels[few]),
    )


def label(scores: Floats, centres: Centres) -> Ints:
    """The cluster (1, 2, 3) of each row of scores, 0 where it has none."""
    found = np.zeros(len(scores), np.int64)
    known = ~np.isnan(scores).any(axis=1)
    rows = scores[known].clip(np.array(centres.clip_low), np.array(centres.clip_high))
    found[known] = nearest(rows, np.array(centres.centroids)) + 1
    return found


def role(clusters: Ints, centres: Centres) -> Ints:
    """What each cluster stands for, 0 where there is none."""
    return np.array([0, *centres.roles])[clusters]


def shift(centres: Centres, before: Centres | None) -> float | None:
    """Root mean square of the differences between the centroids of two models."""
    if before is None:
        return None
    apart = np.array(centres.centroids) - np.array(before.centroids)
    return float(np.sqrt(np.mean(apart * apart)))
