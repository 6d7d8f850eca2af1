"""Discrepancy of Section 5's assumption that responses are missing at random.

The responses that are missing are not seen, so what can be seen is whether those are missing that the SNPs predict to
be high (or low). That is refuted by shuffling: under missingness completely at random any sample might have had any
other's pattern of observed tissues. Missingness that depends on genotypes alone is at random in the strict sense, and
harmless, but cannot be told from this.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebmodel.checks.value import Value, cannot
from ebmodel.checks.view import View
from ebmodel.data import NEGLIGIBLE, project_out
from ebmodel.model import Array

__all__ = ["missing_by_value"]


def missing_by_value(view: View, shuffles: int, seed: np.random.SeedSequence) -> tuple[Value, Array]:
    """Score for log odds of a response missing that rise with its genetic prediction, and its shuffled reference.

    With u_t = X E(beta(t) | Y, I(t)=1) beside a constant and the covariates, in sds of the response, and pi_t the share
    missing, U = sum h_t sum_i (1 - W_ii(t) - pi_t) u_i(t), and the slope is U over sum h_t pi_t (1 - pi_t) |u_t|^2.
    The statistic is |U| in standard errors. The reference gives each sample the pattern W of another one.

    Returns
    -------
    Value
        The discrepancy.
    (replicate,)
        The statistic of every shuffle.
    """
    ds, h = view.fit.dataset, view.h
    gone = ~view.frame.observed
    gone = gone & (view.stats.n > 0)  # a tissue without data has no prediction
    if not gone.any():
        return cannot("no response is missing"), np.full(shuffles, np.nan)
    use = (h > NEGLIGIBLE) & gone.any(axis=0)
    Y = ds["Y"].to_numpy()
    use[use] = np.nanstd(Y[:, use], axis=0) > NEGLIGIBLE * np.nanmax(np.abs(Y[:, use]), axis=0)  # else no scale
    n = len(gone)
    C = np.column_stack([np.ones(n), ds["covariates"].to_numpy()]) if "covariates" in ds else np.ones((n, 1))
    (u,), _ = project_out(C, ds["X"].to_numpy() @ view.slab_effects[use].T)
    u = u / np.nanstd(Y[:, use], axis=0)
    share = gone[:, use].mean(axis=0)
    weight, squares = h[use], share * (1.0 - share) * np.sum(u**2, axis=0)
    error = np.sqrt(np.sum(weight**2 * squares))
    if not error > 0.0:
        return cannot("no tissue with missing responses is active"), np.full(shuffles, np.nan)

    def score(rows: NDArray[np.bool_]) -> float:
        return float(np.sum(weight * np.sum((rows - share) * u, axis=0)))

    U = score(gone[:, use])
    rng = np.random.default_rng(seed)
    shuffled = np.array([abs(score(gone[:, use][rng.permutation(n)])) for _ in range(shuffles)]) / error
    words = "log odds of being missing rise by {} for each sd of the response, as the SNPs predict it"
    return Value(abs(U) / error, U / float(np.sum(weight * squares)), words), shuffled
