"""What people call: `fit`, `loglik` and `oracle`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ebmodel import em
from ebmodel.data import Data, tidy
from ebmodel.errors import expect
from ebmodel.estimation import MAX_ITER, TOL, covariance_of_mean, estimate, weighed, whiten_weighed
from ebmodel.heteroscedastic import EQUAL, jacobian
from ebmodel.mean import HIERARCHICAL, certain, mean_kind
from ebmodel.model import Params, Slab
from ebmodel.results import Fit, assemble
from ebmodel.search import Search, maximise
from ebmodel.starts import ENOUGH, active_sets
from ebmodel.statistics import Compressed, Whitened, compress

__all__ = ["fit", "loglik", "oracle"]


def fit(
    X: Any,
    Y: Any,
    slab: Slab = "g",
    mean: str = "free",
    covariates: Any = None,
    intercept: bool = False,
    n_starts: int | None = None,
    seed: int = 0,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    errors: str = EQUAL,
) -> Fit:
    """Fit the model by maximum likelihood and give the empirical-Bayes posterior (Sections 2, 3 and 5 of the paper).

    Parameters
    ----------
    X : (sample, snp)
        Genotypes of a gene's SNPs; NumPy, pandas or xarray. Complete.
    Y : (sample, tissue)
        Expression of the gene; NaN where missing. Tissues should share a scale, for so do their effects, and the
        paper's sigma2 is one for all: see ``errors``.
    slab
        Shape Sigma0 of the slab's covariance eta Sigma0: ``"g"`` (the paper, (X'X)^-1), ``"independent"`` (I), a number
        alpha ((X'X/s)^-alpha, s the mean eigenvalue of X'X), ``"power"`` (alpha by maximum likelihood), ``"sparse"``
        (diag(omega), a scale for every SNP by maximum likelihood: `ebmodel.relevance`) or a (snp, snp) positive
        definite matrix.
    mean
        The slab's mean beta: ``"free"``, by maximum likelihood, as in the paper; ``"hierarchical"``, beta ~ N(0, kappa
        Sigma0) with kappa estimated, by variational EM; or ``"zero"``.
    covariates : (sample, covariate), optional
        Projected out of X and Y over each tissue's observed rows; text columns become indicators of their levels.
    intercept
        Whether a column of ones is projected out too. The paper's model has none: its Y is centred.
    n_starts
        EM runs from this many starts (`ebmodel.starts`); the best is kept. If not given 64, which covers up to 50
        tissues fully, or 14 where the mean is not free: there are few local maxima then. The first start has every
        tissue active, which EM never leaves: with ``n_starts=1`` tau1 stays 1.
    seed
        For the random starts, needed only where ``n_starts`` exceeds the deterministic ones.
    tol
        A start has converged when two cycles in a row gain less log-likelihood than this.
    max_iter
        Most steps for one start.
    errors
        ``"equal"``: one error variance sigma2 for all tissues, as in the paper. ``"unequal"``: every tissue has its own
        by maximum likelihood (`ebmodel.heteroscedastic`), ``fit.error_variance``, and ``params.sigma2`` is their mean,
        weighted by the tissues' responses. `ebmodel.standardise` is the poor man's version: it takes the variances for
        known and puts the tissues' effects, too, on scales of their own.

    Returns
    -------
    Fit
        Parameters, posterior probabilities, Bayes factors, effects with sd and lfsr, least squares, trace; with names.

    Raises
    ------
    InputError
        If the data cannot be used, or the likelihood has no maximum on them; for unequal errors, if the SNPs span the
        samples of a tissue, which then has no variance of its own.

    Notes
    -----
    With the hierarchical mean beta is a latent variable that couples the tissues: q(beta) and q(I(t)) are independent
    under the fit's posterior, ``loglik`` is the lower bound on log p(Y) that EM raises, and beta's uncertainty is in
    the effects' sd, intervals and draws.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=6, seed=1)
    >>> fit = ebmodel.fit(gene.X, gene.Y)
    >>> fit.posterior_probability.dims, fit.effects.dims
    (('tissue',), ('tissue', 'snp'))
    """
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    found = estimate(compressed, data.tissues, data.where[1], slab, mean, n_starts, seed, tol, max_iter, errors)
    fitted = assemble(
        data, compressed, found.whitened, found.params, found.search, found.notes, found.covariance, found.learned
    )
    asked = ENOUGH[mean_kind(mean)] if n_starts is None else n_starts
    fitted.dataset.attrs |= {"mean": mean, "errors": errors, "n_starts": asked, "alpha_learned": found.learned["alpha"]}
    return fitted


def loglik(X: Any, Y: Any, params: Params, *, covariates: Any = None, intercept: bool = False) -> float:
    """log p(Y) = sum_t log(tau1 g1 + tau0 g0) at given parameters, constants included.

    Where ``params`` have a kappa > 0, beta is latent and it is the variational bound on log p(Y).

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
    return _at(tidy(X, Y, covariates, intercept=intercept), params)[3].loglik


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
    compressed, whitened, state, search = _at(data, params)
    if params.kappa is not None:
        params = replace(params, beta=whitened[1].unwhiten(state.gamma))
    return assemble(data, compressed, whitened, params, search, (), covariance_of_mean(whitened[1], state))


def _at(data: Data, params: Params) -> tuple[Compressed, Whitened, em.State, Search]:
    beta, kappa = np.asarray(params.beta), params.kappa
    expect(len(beta) == len(data.snps), f"{len(data.snps)} effects, one a SNP", len(beta), "params.beta", "match X")
    compressed, omega = compress(data), params.relative_variance
    known = omega is None or len(omega) == len(data.tissues)
    got = None if omega is None else len(omega)
    wanted = f"{len(data.tissues)} variances, one a tissue"
    expect(known, wanted, got, "params.relative_variance", "match Y")
    stats, whitening = whitened = whiten_weighed(compressed, params.slab, omega)
    gamma, shift = whitening.whiten(beta), jacobian(omega, stats.n)
    state = em.State(float(params.tau1), gamma, float(params.eta), float(params.sigma2))
    if not kappa:  # beta is known: given, or zero
        state = state._replace(gamma=gamma if kappa is None else 0.0 * gamma)
        value = float(em.expectation(stats, state)[1])
        search = Search(value, np.array([value]), np.array([]), True, "at known parameters")
        return compressed, whitened, state, weighed(search, shift)
    around = em.expectation(stats, state)[0][None]  # where beta was found before, if it was
    state = state._replace(belief=certain(stats, float(kappa)))
    starts = np.vstack([around, active_sets(stats, ENOUGH[HIERARCHICAL], 0)])
    state, search = maximise(stats, starts, TOL, MAX_ITER, HIERARCHICAL, state)
    return compressed, whitened, state, weighed(search, shift)
