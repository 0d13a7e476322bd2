"""Lloyd's iteration, silhouettes and the adjusted Rand index against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pipeline.calc.cluster_model import train
from pipeline.calc.kmeans import lloyd, means, rand_index, silhouette

cluster = pytest.importorskip("sklearn.cluster")
metrics = pytest.importorskip("sklearn.metrics")


def rows_of(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 6)) * 1.5
    return np.asarray(rng.normal(size=(count, 6)) + centres[rng.integers(3, size=count)])


@pytest.mark.parametrize("seed", range(8))
def test_same_clusters_as_scikit_learn(seed: int) -> None:
    rows = rows_of(seed, 1500)
    start = rows[:3]
    found = lloyd(rows, start, 300)
    assert found is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = cluster.KMeans(3, init=start, n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(
            rows
        )
    assert (found.labels == peer.labels_).all()
    assert found.centroids == pytest.approx(peer.cluster_centers_, abs=1e-9)
    assert found.inertia == pytest.approx(peer.inertia_)
    assert found.iterations == peer.n_iter_
    assert silhouette(rows, found.labels) == pytest.approx(
        metrics.silhouette_score(rows, peer.labels_)
    )


def test_to_the_bit_again() -> None:
    rows = rows_of(1, 5000)
    first, second = (lloyd(each, each[:3], 300) for each in (rows, np.asfortranarray(rows)))
    assert first is not None
    assert second is not None
    assert first.centroids.tobytes() == second.centroids.tobytes()
    assert (first.inertia, first.iterations) == (second.inertia, second.iterations)


def test_rounds_are_counted_and_bounded() -> None:
    rows = np.array([[0.0], [1.0], [9.0], [10.0]])
    found = lloyd(rows, np.array([[0.0], [1.0]]), 300)
    assert found is not None
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert (found.iterations, found.inertia) == (3, 1.0)
    one = lloyd(rows, np.array([[0.0], [1.0]]), 1)
    assert one is not None
    assert one.iterations == 1
    assert one.centroids.tolist() == [[0.0], [20 / 3]]


def test_ties_go_to_the_first() -> None:
    found = lloyd(np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0]]), 1)
    assert found is not None
    assert found.labels[1] == 0


def test_an_empty_cluster_is_no_result() -> None:
    assert lloyd(np.array([[0.0], [1.0]]), np.array([[0.5], [9.0]]), 300) is None
    same = np.zeros((50, 6))
    assert train(same, (1, 3, 2), 1000, 300) is None


def test_silhouette_edges() -> None:
    assert silhouette(np.array([[0.0], [1.0]]), np.array([1, 1])) is None
    rows, labels = np.array([[0.0], [0.0], [5.0]]), np.array([0, 0, 1])
    assert silhouette(rows, labels) == pytest.approx(2 / 3)
    assert silhouette(np.zeros((3, 2)), np.array([0, 0, 1])) == 0


@pytest.mark.parametrize("seed", range(5))
def test_rand_index(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(3, size=200)
    second = np.where(rng.random(200) < 0.3, rng.integers(3, size=200), first)
    assert rand_index(first, second) == pytest.approx(metrics.adjusted_rand_score(first, second))
    assert rand_index(first, (first + 1) % 3) == 1
    assert rand_index(np.zeros(4, np.int64), np.zeros(4, np.int64)) == 1
    assert rand_index(np.arange(4), np.arange(4)) == 1


def test_means_of_no_rows() -> None:
    found = means(np.array([[1.0], [3.0]]), np.array([0, 0]), 2)
    assert found[0, 0] == 2
    assert np.isnan(found[1, 0])
