"""What people call: `fit`, `loglik` and `oracle`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ebmodel import em
from ebmodel.data import Data, tidy
from ebmodel.errors import expect
from ebmodel.heteroscedastic import EQUAL, UNEQUAL, Choice, check_own_variance, jacobian, learn_variances
from ebmodel.mean import FREE, HIERARCHICAL, certain, mean_kind
from ebmodel.model import Array, Params, Slab
from ebmodel.relevance import SPARSE, learn_relevance
from ebmodel.results import Fit, assemble
from ebmodel.search import Search, check_bounded, maximise
from ebmodel.shape import POWER, best_power
from ebmodel.starts import ENOUGH, active_sets
from ebmodel.statistics import Compressed, Whitened, Whitening, compress, weigh, whiten

__all__ = ["fit", "loglik", "oracle"]

TOL, MAX_ITER = 1e-9, 5000


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
        tissues fully, or 14 where the mean is not free: there are few local maxima then.
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
    kind = _check_choices(slab, mean, n_starts, errors)
    n_starts = n_starts or ENOUGH[kind]
    data = tidy(X, Y, covariates, intercept=intercept)
    compressed = compress(data)
    learns = isinstance(slab, str) and slab in (POWER, SPARSE)
    if learns or errors == UNEQUAL:
        check_bounded(data, compressed, whiten(compressed, "independent" if learns else slab)[0], kind)

    def choose(compressed: Compressed) -> Choice:
        return _choose_slab(compressed, slab, kind, n_starts, seed, tol, max_iter)

    omega = None
    if errors == UNEQUAL:
        check_own_variance(data, compressed)
        place, choice = learn_variances(compressed, choose, kind, n_starts, seed, tol, learns)
        omega, starts = place.omega, place.T[None]
    else:
        choice = choose(compressed)
    stats, whitening = whitened = _whiten(compressed, choice.slab, omega)
    if omega is None:
        check_bounded(data, compressed, stats, kind)
        starts = np.vstack([active_sets(stats, n_starts, seed), choice.starts])
    state, search = maximise(stats, starts, tol, max_iter, kind)
    params = Params(
        tau1=state.tau1,
        beta=whitening.unwhiten(state.gamma),
        eta=state.eta,
        sigma2=state.sigma2,
        slab=choice.slab,
        kappa=None if kind == FREE else state.belief.kappa,
        relative_variance=omega,
    )
    learned = {"beta": len(state.gamma) * (kind == FREE), "kappa": int(kind == HIERARCHICAL),
               "alpha": int(learns and slab == POWER), "SNPs' scales": choice.kept - 1,
               "error variances": 0 if omega is None else int(np.sum(stats.n > 0)) - 1}  # fmt: skip
    search = _weighed(search, jacobian(omega, stats.n))
    notes = [choice.note] if choice.note else []
    found = assemble(data, compressed, whitened, params, search, notes, _covariance(whitening, state), learned)
    found.dataset.attrs |= {"mean": mean, "errors": errors, "n_starts": n_starts, "alpha_learned": learned["alpha"]}
    return found


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
    return assemble(data, compressed, whitened, params, search, (), _covariance(whitened[1], state))


def _choose_slab(
    compressed: Compressed, slab: Slab, kind: int, n_starts: int, seed: int, tol: float, max_iter: int
) -> Choice:
    """The slab's shape, found if it is to be learned."""
    if isinstance(slab, str) and slab == POWER:
        return Choice(*best_power(compressed, kind, n_starts, seed, tol, max_iter))
    if isinstance(slab, str) and slab == SPARSE:
        omega, T, kept = learn_relevance(compressed, kind, n_starts, seed, tol, max_iter)
        return Choice(np.diag(omega), T[None], kept=kept)
    return Choice(slab, np.empty((0, len(compressed.n))))


def _whiten(compressed: Compressed, slab: Slab, omega: Array | None) -> Whitened:
    stats, whitening = whiten(compressed, slab)
    return weigh(stats, omega), whitening


def _weighed(search: Search, shift: float) -> Search:
    """What was found on weighed data, with the log densities of the responses as they are."""
    return replace(search, loglik=search.loglik + shift, trace=search.trace + shift, starts=search.starts + shift)


def _check_choices(slab: Slab, mean: str, n_starts: int | None, errors: str) -> int:
    known = not isinstance(slab, str) or slab in ("g", "independent", POWER, SPARSE)
    shapes = "'g', 'independent', 'power', 'sparse', a number or a (snp, snp) matrix"
    expect(known, shapes, repr(slab), "slab", "choose one")
    expect(n_starts is None or n_starts >= 1, "at least 1", n_starts, "n_starts", "leave the default")
    expect(errors in (EQUAL, UNEQUAL), "'equal' or 'unequal'", repr(errors), "errors", "choose one")
    return mean_kind(mean)


def _at(data: Data, params: Params) -> tuple[Compressed, Whitened, em.State, Search]:
    beta, kappa = np.asarray(params.beta), params.kappa
    expect(len(beta) == len(data.snps), f"{len(data.snps)} effects, one a SNP", len(beta), "params.beta", "match X")
    compressed, omega = compress(data), params.relative_variance
    known = omega is None or len(omega) == len(data.tissues)
    got = None if omega is None else len(omega)
    wanted = f"{len(data.tissues)} variances, one a tissue"
    expect(known, wanted, got, "params.relative_variance", "match Y")
    stats, whitening = whitened = _whiten(compressed, params.slab, omega)
    gamma, shift = whitening.whiten(beta), jacobian(omega, stats.n)
    state = em.State(float(params.tau1), gamma, float(params.eta), float(params.sigma2))
    if not kappa:  # beta is known: given, or zero
        state = state._replace(gamma=gamma if kappa is None else 0.0 * gamma)
        value = float(em.expectation(stats, state)[1])
        search = Search(value, np.array([value]), np.array([]), True, "at known parameters")
        return compressed, whitened, state, _weighed(search, shift)
    around = em.expectation(stats, state)[0][None]  # where beta was found before, if it was
    state = state._replace(belief=certain(stats, float(kappa)))
    starts = np.vstack([around, active_sets(stats, ENOUGH[HIERARCHICAL], 0)])
    state, search = maximise(stats, starts, TOL, MAX_ITER, HIERARCHICAL, state)
    return compressed, whitened, state, _weighed(search, shift)


def _covariance(whitening: Whitening, state: em.State) -> Array | None:
    """Cov(beta | Y) under q, (snp, snp), the prior's in directions that X does not see; None where beta is a number."""
    about = state.belief
    if about.kind != HIERARCHICAL:
        return None
    root = about.root @ whitening.L.T
    return root.T @ root + about.kappa * whitening.null @ whitening.null.T
