"""What people call: `fit`, `loglik` and `oracle`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebmodel import em
from ebmodel.data import Data, tidy
from ebmodel.errors import expect
from ebmodel.model import Params, Slab
from ebmodel.results import Fit, assemble
from ebmodel.search import Search, check_bounded, maximise
from ebmodel.shape import POWER, best_power
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, Whitened, compress, whiten

__all__ = ["fit", "loglik", "oracle"]


def fit(
    X: Any,
    Y: Any,
    slab: Slab = "g",
    mean: str = "free",
    covariates: Any = None,
    intercept: bool = False,
    n_starts: int = 64,
    seed: int = 0,
    tol: float = 1e-9,
    max_iter: int = 5000,
) -> Fit:
    """Fit the model by maximum likelihood and give the empirical-Bayes posterior (Sections 2, 3 and 5 of the paper).

    Parameters
    ----------
    X : (sample, snp)
        Genotypes of a gene's SNPs; NumPy, pandas or xarray. Complete.
    Y : (sample, tissue)
        Expression of the gene; NaN where missing. Tissues should share a scale, for sigma2 is one for all: see
        `ebmodel.standardise`.
    slab
        Shape Sigma0 of the slab's covariance eta Sigma0: ``"g"`` (the paper, (X'X)^-1), ``"independent"`` (I), a number
        alpha ((X'X/s)^-alpha, s the mean eigenvalue of X'X), ``"power"`` (alpha by maximum likelihood) or a (snp, snp)
        positive definite matrix.
    mean
        The slab's mean beta: ``"free"``, by maximum likelihood, as in the paper.
    covariates : (sample, covariate), optional
        Projected out of X and Y over each tissue's observed rows; text columns become indicators of their levels.
    intercept
        Whether a column of ones is projected out too. The paper's model has none: its Y is centred.
    n_starts
        EM runs from this many starts (`ebmodel.starts`); the best is kept. The default covers up to 50 tissues fully.
    seed
        For the random starts, needed only where ``n_starts`` exceeds the deterministic ones.
    tol
        A start has converged when two cycles in a row gain less log-likelihood than this.
    max_iter
        Most steps for one start.

    Returns
    -------
    Fit
        Parameters, posterior probabilities, Bayes factors, effects with sd and lfsr, least squares, trace; with names.

    Raises
    ------
    InputError
        If the data cannot be used, or the likelihood has no maximum on them.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=6, seed=1)
    >>> fit = ebmodel.fit(gene.X, gene.Y)
    >>> fit.posterior_probability.dims, fit.effects.dims
    (('tissue',), ('tissue', 'snp'))
    """
    _check_choices(slab, mean, n_starts)
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    notes = []
    starts = np.empty((0, len(data.tissues)))
    if isinstance(slab, str) and slab == POWER:
        check_bounded(data, compressed, whiten(compressed, "independent")[0])
        slab, starts, note = best_power(compressed, n_starts, seed, tol, max_iter)
        notes = [note] if note else []
    stats, whitening = whitened = whiten(compressed, slab)
    check_bounded(data, compressed, stats)
    starts = np.vstack([active_sets(stats, n_starts, seed), starts])
    state, search = maximise(stats, starts, tol, max_iter)
    params = Params(
        tau1=state.tau1, beta=whitening.unwhiten(state.gamma), eta=state.eta, sigma2=state.sigma2, slab=slab
    )
    return assemble(data, compressed, whitened, params, search, notes)


def loglik(X: Any, Y: Any, params: Params, *, covariates: Any = None, intercept: bool = False) -> float:
    """log p(Y) = sum_t log(tau1 g1 + tau0 g0) at given parameters, constants included.

    Parameters
    ----------
    X, Y, covariates, intercept
        As in `fit`.
    params
        theta, its slab included.

    Returns
    -------
    float
        With covariates, the log density of the contrasts that they leave (restricted likelihood).

    Raises
    ------
    InputError
        If the data cannot be used, or ``params.beta`` has another number of SNPs.
    """
    return _at(tidy(X, Y, covariates, intercept=intercept), params)[2]


def oracle(X: Any, Y: Any, params: Params, *, covariates: Any = None, intercept: bool = False) -> Fit:
    """Posterior at known parameters: the oracle estimator, equation (8), with everything that `fit` gives.

    Parameters
    ----------
    X, Y, covariates, intercept
        As in `fit`.
    params
        theta, its slab included.

    Returns
    -------
    Fit
        Its ``params`` are those given.

    Raises
    ------
    InputError
        If the data cannot be used, or ``params.beta`` has another number of SNPs.
    """
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed, whitened, value = _at(data, params)
    search = Search(value, np.array([value]), np.array([]), True, "at known parameters")
    return assemble(data, compressed, whitened, params, search)


def _check_choices(slab: Slab, mean: str, n_starts: int) -> None:
    known = not isinstance(slab, str) or slab in ("g", "independent", POWER)
    shapes = "'g', 'independent', 'power', a number or a (snp, snp) matrix"
    expect(known, shapes, repr(slab), "slab", "choose one")
    expect(mean == "free", "'free'", repr(mean), "mean", "use 'free', the paper's")
    expect(n_starts >= 1, "at least 1", n_starts, "n_starts", "leave the default")


def _at(data: Data, params: Params) -> tuple[Compressed, Whitened, float]:
    beta = np.asarray(params.beta)
    expect(len(beta) == len(data.snps), f"{len(data.snps)} effects, one a SNP", len(beta), "params.beta", "match X")
    compressed = compress(data)
    stats, whitening = whitened = whiten(compressed, params.slab)
    state = em.State(float(params.tau1), whitening.whiten(beta), float(params.eta), float(params.sigma2))
    return compressed, whitened, float(em.expectation(stats, state)[1])
