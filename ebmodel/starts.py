"""Where EM starts: sets of tissues supposed active, chosen from the data so that the search is equivariant.

The likelihood has many local maxima, each a set of tissues that share a mean. A start is a vector of responsibilities
T (tissue,), 1 for the tissues supposed active; one M-step turns it into parameters. Sets are made from

* the sums of squares that each tissue's own regression explains: the k tissues with most, for a range of k;
* the scores z_t = Q_t'y_t: a tissue and the k - 1 others whose scores point its way most.

Both are unchanged by X -> XA, and only scaled by Y -> cY, so the fit is equivariant.
"""

from __future__ import annotations

import numpy as np

from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = ["active_sets"]


def active_sets(stats: Statistics, n_starts: int) -> Array:
    """Starts as 0/1 responsibilities, shape (start, tissue), the most useful first; at most ``n_starts``."""
    informative = np.flatnonzero(stats.n > 0)
    explained = stats.yy - stats.rss
    order = informative[np.argsort(-explained[informative], kind="stable")]
    sizes = np.unique(np.round(np.geomspace(1, len(order), 14)).astype(int))
    sets = [order[:k] for k in sizes[::-1]]
    score = np.einsum("tij,tj->ti", stats.V[stats.pattern], stats.d[stats.pattern] * stats.b)
    similarity = score @ score.T
    for seed in order:
        nearest = informative[np.argsort(-similarity[seed, informative], kind="stable")]
        sets.extend(nearest[: max(1, round(len(order) * share))] for share in (0.16,))
    T = np.zeros((len(sets), len(stats.n)))
    for row, members in zip(T, sets, strict=True):
        row[members] = 1.0
    unique = np.sort(np.unique(T, axis=0, return_index=True)[1])
    return T[unique][:n_starts]
