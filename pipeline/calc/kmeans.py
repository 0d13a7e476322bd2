"""Lloyd's k-means from a given start, and how good and how stable clusters are.

Every sum is taken in the order of the rows and no library with threads is asked, so the same rows
give the same bits everywhere. scikit-learn's KMeans is close but not that: it centres the rows
first and expands the squared distance into products, so that rows equally near to two centroids
may go to either; it adds up partial sums in the order in which its threads end; and it moves an
empty cluster elsewhere, where here there is then no result. It is the oracle of the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_CHUNK = 256

_loops = Loops(globals())


class Clusters(NamedTuple):
    """What Lloyd's iteration came to.

    Attributes:
        centroids: a row for each cluster.
        labels: the nearest centroid of each row; of equally near ones the first.
        inertia: sum of squared distances to these.
        iterations: rounds, the one in which no label changed any more included.
    """

    centroids: Floats
    labels: Ints
    inertia: float
    iterations: int


@_loops.add
def _assign(rows: Floats, centroids: Floats, labels: Ints) -> tuple[float, Floats, Ints]:
    """Put each row's nearest centroid into `labels`.

    Returns:
        The sum of squared distances; the sums and the sizes of the clusters.
    """
    count, width = centroids.shape
    sums, sizes = np.zeros((count, width)), np.zeros(count, np.int64)
    total = 0.0
    for row in range(len(rows)):
        best, least = 0, np.inf
        for cluster in range(count):
            squared = 0.0
            for column in range(width):
                apart = rows[row, column] - centroids[cluster, column]
                squared += apart * apart
            if squared < least:
                best, least = cluster, squared
        labels[row] = best
        total += least
        sizes[best] += 1
        for column in range(width):
            sums[best, column] += rows[row, column]
    return total, sums, sizes


def lloyd(rows: Floats, start: Floats, max_iter: int) -> Clusters | None:
    """Nearest centroid, then means, until no label changes; None as soon as a cluster is empty."""
    _loops.compile()
    rows, centroids = np.ascontiguousarray(rows), np.ascontiguousarray(start)
    labels = np.full(len(rows), -1)
    iterations = 0
    while True:
        before = labels.copy()
        inertia, sums, sizes = _assign(rows, centroids, labels)
        if not sizes.all():
            return None
        # behind the last round labels are those of the last centroids
        is_last = iterations == max_iter
        iterations += not is_last
        if is_last or np.array_equal(labels, before):
            return Clusters(centroids, labels, float(inertia), iterations)
        centroids = sums / sizes[:, None]


def nearest(rows: Floats, centroids: Floats) -> Ints:
    """The nearest centroid (squared Euclidean) of each row; of equally near ones the first."""
    _loops.compile()
    labels = np.empty(len(rows), np.int64)
    _assign(np.ascontiguousarray(rows), np.ascontiguousarray(centroids), labels)
    return labels


def means(rows: Floats, labels: Ints, count: int) -> Floats:
    """The mean of each cluster's rows; NaN for one that has none."""
    sizes = np.bincount(labels, minlength=count)
    sums = [np.bincount(labels, weights=column, minlength=count) for column in rows.T]
    with np.errstate(invalid="ignore"):
        return np.asarray((np.array(sums) / sizes).T)


def silhouette(rows: Floats, labels: Ints) -> float | None:
    """Mean silhouette by Euclidean distance (Rousseeuw 1987); None with fewer than two clusters.

    A row alone in its cluster counts as 0.
    """
    names, own = np.unique(labels, return_inverse=True)
    if len(names) < 2:  # noqa: PLR2004
        return None
    sizes = np.bincount(own)
    total = 0.0
    for low in range(0, len(rows), _CHUNK):
        part, mine = rows[low : low + _CHUNK], own[low : low + _CHUNK]
        squared = np.zeros((len(part), len(rows)))
        for column in range(rows.shape[1]):
            squared += (part[:, column, None] - rows[None, :, column]) ** 2
        apart = np.sqrt(squared)
        sums = np.stack([apart[:, own == name].sum(axis=1) for name in range(len(names))], axis=1)
        at = np.arange(len(part))
        within = sums[at, mine] / np.maximum(sizes[mine] - 1, 1)
        means_of = sums / sizes
        means_of[at, mine] = np.inf
        between = means_of.min(axis=1)
        larger = np.maximum(within, between)
        found = np.divide(between - within, larger, out=np.zeros(len(part)), where=larger > 0)
        total += float(np.where(sizes[mine] > 1, found, 0.0).sum())
    return total / len(rows)


def rand_index(first: Ints, second: Ints) -> float:
    """Adjusted Rand index of two labellings (Hubert and Arabie 1985): 1 the same, 0 by chance."""
    names, a = np.unique(first, return_inverse=True)
    others, b = np.unique(second, return_inverse=True)
    table = np.bincount(a * len(others) + b, minlength=len(names) * len(others))
    table = table.reshape(len(names), len(others))
    pairs = _pairs(table)
    in_first, in_second = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    every = _pairs(np.array([len(a)]))
    if in_first + in_second in (0, 2 * every):
        return 1.0
    expected = in_first * in_second / every
    return (pairs - expected) / ((in_first + in_second) / 2 - expected)


def _pairs(counts: Ints) -> int:
    return int((counts * (counts - 1) // 2).sum())
