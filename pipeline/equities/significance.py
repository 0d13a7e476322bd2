"""How likely a correlation is by chance, and what remains of that when many are looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LEAST = 3
"""With fewer observations a correlation is 0, 1 or -1 whatever happens."""


def one_sided(rho: Floats, count: Ints) -> Floats:
    """The probability of a correlation at least this large where there is none.

    Student's t with n - 2 degrees of freedom, t = rho sqrt((n - 2) / (1 - rho^2)).

    Args:
        rho: correlations; NaN where one variable did not vary.
        count: the observations behind each.

    Returns:
        p-values, 1 where `rho` is NaN or there are fewer than three observations.
    """
    from scipy.special import stdtr  # noqa: PLC0415  (loaded where it is needed)

    known = (count >= LEAST) & ~np.isnan(rho)
    r, freedom = rho[known], count[known] - 2.0
    with np.errstate(divide="ignore"):
        t = r * np.sqrt(freedom / (1 - r * r))
    found = np.ones(len(rho))
    found[known] = stdtr(freedom, -t)
    return found


def false_discovery(p: Floats, family: int | None = None) -> Floats:
    """The smallest false discovery rate at which each hypothesis would be rejected.

    Benjamini and Hochberg, J. R. Statist. Soc. B 57 (1995) 289: q of the k-th smallest of m
    p-values is the least p_j m / j over all j >= k, at most 1.

    Args:
        p: p-values in any order.
        family: m, if hypotheses with p = 1 were left out of `p`.
    """
    size = len(p) if family is None else family
    order = np.argsort(p, kind="stable")
    raw = p[order] * size / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
    return found
