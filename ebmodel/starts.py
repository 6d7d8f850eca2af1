"""Where EM starts: sets of tissues supposed active, chosen from the data so that the search is equivariant.

The likelihood has many local maxima, each a set of tissues that share a mean. A start is a vector of responsibilities
T (tissue,), 1 for the tissues supposed active; one M-step turns it into parameters. In this order, until there are
enough, the sets are

1. the k tissues whose own regressions explain the largest sums of squares, for 14 values of k from m down to 1;
2. for every tissue, most explained first: itself and the sixth of tissues whose scores z_t = L'X_t'y_t have the largest
   inner product with its own; then the same with a twelfth and with a third of them;
3. random sets of random size.

With a slab mean that is latent or zero the likelihood has few maxima: none of 216 data sets and slabs of Settings 1-4
needed more than the first fourteen sets to find the best of 64, so `ENOUGH` asks for fewer.

Neither sums of squares nor, for the paper's slab, inner products change under X -> XA, and both only scale under
Y -> cY: the fit is equivariant.
"""

from __future__ import annotations

import numpy as np

from ebmodel.mean import FREE, HIERARCHICAL, ZERO
from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = ["ENOUGH", "active_sets"]

ENOUGH = {FREE: 64, ZERO: 14, HIERARCHICAL: 14}
"""Starts by what the slab's mean is; 64 cover all sets of the first two sorts for up to 50 tissues."""
SIZES = 14
SHARES = (1 / 6, 1 / 12, 1 / 3)


def active_sets(stats: Statistics, n_starts: int, seed: int) -> Array:
    """Distinct starts as 0/1 responsibilities, shape (start, tissue); fewer than ``n_starts`` if m is small."""
    observed = np.flatnonzero(stats.n > 0)
    m = len(observed)
    order = observed[np.argsort(-(stats.yy - stats.rss)[observed], kind="stable")]
    sets = [order[:k] for k in np.unique(np.geomspace(1, m, SIZES).round().astype(int))[::-1]]
    if len(sets) < n_starts:
        score = np.einsum("tij,tj->ti", stats.V[stats.pattern], stats.d[stats.pattern] * stats.b)
        neighbours = observed[np.argsort(-(score @ score.T)[:, observed], axis=1, kind="stable")]
        for share in SHARES:
            sets.extend(neighbours[t, : max(1, round(share * m))] for t in order)
    rng = np.random.default_rng(seed)
    while len(sets) < n_starts:
        sets.append(rng.choice(observed, rng.integers(1, m + 1), replace=False))
    T = np.zeros((len(sets), len(stats.n)))
    for row, members in zip(T, sets, strict=True):
        row[members] = 1.0
    first = np.unique(T, axis=0, return_index=True)[1]
    return T[np.sort(first)][:n_starts]
