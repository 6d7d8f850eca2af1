"""What people call: `fit`, `loglik` and `oracle`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebmodel import em
from ebmodel.data import Data, tidy
from ebmodel.errors import InputError, expect
from ebmodel.labels import SNP
from ebmodel.model import Array, Params, Slab
from ebmodel.results import Fit, Search, assemble
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, Statistics, Whitening, compress, whiten

__all__ = ["fit", "loglik", "oracle"]


def fit(
    X: Any,
    Y: Any,
    slab: Slab = "g",
    mean: str = "free",
    covariates: Any = None,
    intercept: bool = False,
    n_starts: int = 100,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> Fit:
    """Fit the model by maximum likelihood."""
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    stats, whitening = whiten(compressed, slab)
    state, search = maximise(stats, active_sets(stats, n_starts), tol, max_iter)
    params = Params(
        tau1=state.tau1,
        beta=whitening.unwhiten(state.gamma),
        eta=state.eta,
        sigma2=state.sigma2,
        slab=slab,
    )
    return assemble(data, compressed, params, search)


def loglik(X: Any, Y: Any, params: Params, *, covariates: Any = None, intercept: bool = False) -> float:
    data = tidy(X, Y, covariates, intercept=intercept)
    return _at(data, params)[2]


def oracle(X: Any, Y: Any, params: Params, *, covariates: Any = None, intercept: bool = False) -> Fit:
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed, params, value = _at(data, params)
    search = Search(value, np.array([value]), np.array([]), True, "at known parameters")
    return assemble(data, compressed, params, search)


def _at(data: Data, params: Params) -> tuple[Compressed, Params, float]:
    beta = np.asarray(params.beta)
    expect(len(beta) == len(data.snps), f"{len(data.snps)} effects, one a SNP", len(beta), "params.beta", "match X")
    compressed = compress(data)
    stats, whitening = whiten(compressed, params.slab)
    state = em.State(float(params.tau1), whitening.whiten(beta), float(params.eta), float(params.sigma2))
    return compressed, params, float(em.expectation(stats, state)[1])


def maximise(stats: Statistics, starts: Array, tol: float, max_iter: int) -> tuple[em.State, Search]:
    runs = [em.run(stats, em.from_responsibilities(stats, T), tol, max_iter) for T in starts]
    values = np.array([trace[-1] for _, trace, _ in runs])
    state, trace, converged = runs[int(values.argmax())]
    return state, Search(float(trace[-1]), trace, values, bool(converged), "converged" if converged else "stopped")
