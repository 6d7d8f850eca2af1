"""What a simulation study compares: estimators of beta(t), and of I(t) where they say anything of it.

An estimator is a function of a data set (`ebmodel.simulate`) and a random stream that gives an `Estimate`. To add one,
write such a function at the top level of a module, so that worker processes can load it, and put it into the study's
dict; a variant is a ``partial``:

    def half(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:
        return Estimate(effects=ols(data, stream).effects / 2)

    estimators = ESTIMATORS | {"half": half, "eb_following_ld": partial(eb, slab=-1.0)}

`oracle` and `linear` know the truth and are marks, not competitors: no estimator has a lower expected MSE than the one,
no fixed linear function of a tissue's own responses a lower one than the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xarray as xr
from scipy.special import stdtrit

import ebmodel
from ebmodel.data import tidy
from ebmodel.errors import expect
from ebmodel.labels import CHAIN, DRAW, SNP, TISSUE
from ebmodel.model import Array, Slab
from ebmodel.results import Fit
from ebmodel.statistics import compress, whiten

__all__ = [
    "ESTIMATORS",
    "LEVEL",
    "Estimate",
    "Estimator",
    "bayes",
    "eb",
    "eb_naive",
    "lasso",
    "linear",
    "ols",
    "oracle",
    "ridge",
    "zero",
]

LEVEL = 0.95
"""Of every interval."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """What an estimator says of one data set."""

    effects: Array
    """(tissue, snp) estimates of beta(t); NaN where the data determine none."""
    probability: Array | None = None
    """(tissue,) P(I(t)=1 | Y), where the estimator has one."""
    interval: tuple[Array, Array] | None = None
    """Lower and upper ends of 95 % intervals, each (tissue, snp), where the estimator has them."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What else is worth storing: parameters, log-likelihood, steps."""


type Estimator = Callable[[xr.Dataset, np.random.SeedSequence], Estimate]


# One tissue at a time ------------------------------------------------------------------------------------------------


def zero(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """No effect anywhere: what an estimator must beat to be of use."""
    return Estimate(np.zeros((data.sizes[TISSUE], data.sizes[SNP])))


def ols(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Least squares on each tissue's observed rows, equations (2) and (10), with its t intervals.

    NaN in a tissue with n_t < p, or that sees fewer directions than X has. Where SNPs are collinear in all samples the
    estimate is the one of least norm and has no interval (NaN); nor has one with n_t = p.
    """
    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    rank, p = np.linalg.matrix_rank(X), X.shape[1]
    effects, error = np.full((2, Y.shape[1], p), np.nan)
    patterns, which = np.unique(~np.isnan(Y.T), axis=0, return_inverse=True)
    for k, rows in enumerate(patterns):  # tissues with the same samples share X_t
        X_t, tissues, n_t = X[rows], which == k, rows.sum()
        y = Y[np.ix_(rows, tissues)]
        if n_t < p:
            continue
        Q, R = np.linalg.qr(X_t)
        if p > rank or np.abs(np.diag(R)).min() < 1e-6 * np.abs(R).max():  # collinear, here or in all samples
            found, _, seen, _ = np.linalg.lstsq(X_t, y)
            if seen == rank:
                effects[tissues] = found.T
            continue
        inverse = np.linalg.inv(R)
        effects[tissues] = (inverse @ (Q.T @ y)).T  # (X_t'X_t)^-1 X_t'y_t
        if n_t > p:
            s2 = np.sum((y - X_t @ effects[tissues].T) ** 2, axis=0) / (n_t - p)
            error[tissues] = np.sqrt(np.outer(s2, np.sum(inverse**2, axis=1)))  # diagonal of (X_t'X_t)^-1
            error[tissues] *= stdtrit(n_t - p, (1 + LEVEL) / 2)  # quantile of t with n_t - p degrees of freedom
    return Estimate(effects, interval=(effects - error, effects + error))


def ridge(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Ridge regression in each tissue, its penalty by leave-one-out error; no intercept, as the model has none.

    (X_t'X_t + lambda I)^-1 X_t'y_t, for lambda the best of 41 from 1e-5 to 1e5 times the mean eigenvalue of X_t'X_t. A
    tissue with fewer than two samples has nothing to validate on: its effects are estimated as zero.
    """
    from sklearn.linear_model import RidgeCV

    effects = np.zeros((data.sizes[TISSUE], data.sizes[SNP]))
    for t, (X_t, y) in enumerate(_tissues(data)):
        if len(y) >= 2:
            penalties = np.mean(np.sum(X_t**2, axis=0)) * np.logspace(-5, 5, 41)
            effects[t] = RidgeCV(penalties, fit_intercept=False).fit(X_t, y).coef_
    return Estimate(effects)


FOLDS = 5
PENALTIES = 50
"""On the lasso's path, from the least that gives all zeros down to a thousandth of it."""
MOST_STEPS = 100_000
"""Sweeps of coordinate descent for one penalty: a hundred times scikit-learn's default, which often falls short."""


def lasso(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:
    """Lasso in each tissue, its penalty by five-fold cross-validation over random folds; no intercept.

    ``facts["unconverged"]`` counts the tissues where coordinate descent ran out of steps at any penalty. A tissue with
    fewer than two samples has nothing to validate on: its effects are estimated as zero.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LassoCV
    from sklearn.model_selection import KFold

    effects = np.zeros((data.sizes[TISSUE], data.sizes[SNP]))
    seeds = stream.generate_state(len(effects))
    unconverged = 0
    for t, (X_t, y) in enumerate(_tissues(data)):
        if len(y) < 2:
            continue
        folds = KFold(min(FOLDS, len(y)), shuffle=True, random_state=int(seeds[t]))
        model = LassoCV(alphas=PENALTIES, fit_intercept=False, cv=folds, max_iter=MOST_STEPS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("error")
            warnings.simplefilter("always", ConvergenceWarning)
            effects[t] = model.fit(X_t, y).coef_
        unconverged += bool(caught)
    return Estimate(effects, facts={"unconverged": float(unconverged)})


# Empirical Bayes -----------------------------------------------------------------------------------------------------


def eb(data: xr.Dataset, stream: np.random.SeedSequence, *, slab: Slab = "g", intervals: bool = True) -> Estimate:
    """`ebmodel.fit`: the posterior at the maximum-likelihood parameters, with plug-in intervals if wanted."""
    fit = ebmodel.fit(data["X"].to_numpy(), data["Y"].to_numpy(), slab=slab, seed=_integer(stream))
    boundary, steps = "boundary" in fit.status, fit.trace.size
    facts = {"alpha": fit.params.alpha, "converged": fit.converged, "boundary": boundary, "steps": steps}
    return _of_fit(fit, facts, intervals=intervals)


def eb_naive(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The paper's slab where plain EM ends from one naive start, which is often a local maximum.

    Raises
    ------
    InputError
        If no tissue has residuals, from which the start takes sigma2.
    """
    from simulations.starts import naive_state, plain_em

    stats, whitening = whiten(compress(tidy(data["X"], data["Y"])), "g")
    most = int(stats.n.max())
    expect(bool(stats.rss.any()), f"a tissue with more than {len(whitening.D)} samples", f"at most {most}", "eb_naive",
           "leave it out")  # fmt: skip
    state, _ = plain_em(stats, naive_state(stats))
    beta = whitening.unwhiten(state.gamma)
    theta = ebmodel.Params(tau1=state.tau1, beta=beta, eta=state.eta, sigma2=state.sigma2)
    return _of_fit(ebmodel.oracle(data["X"], data["Y"], theta))


def _of_fit(fit: Fit, more: Mapping[str, float] | None = None, *, intervals: bool = True) -> Estimate:
    theta, interval = fit.params, None
    if intervals:
        ends = fit.effects_interval(LEVEL)
        interval = ends["lower"].to_numpy(), ends["upper"].to_numpy()
    facts = {"tau1": theta.tau1, "eta": theta.eta, "sigma2": theta.sigma2, "loglik": fit.loglik, **(more or {})}
    return Estimate(
        fit.effects.to_numpy(),
        fit.posterior_probability.to_numpy(),
        interval,
        {name: float(value) for name, value in facts.items()},
    )


# Full Bayes ----------------------------------------------------------------------------------------------------------


def bayes(
    data: xr.Dataset,
    stream: np.random.SeedSequence,
    *,
    slab: Slab = "g",
    mean: str = "free",
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
) -> Estimate:
    """`ebmodel.sample`: posterior means and equal-tailed intervals. Seconds a data set, after half a minute to compile.

    ``facts`` say whether to trust the draws: the largest R-hat, the least effective sample size, the divergences.
    """
    from ebmodel.bayes.diagnosis import diagnose

    tree = ebmodel.sample(
        data["X"], data["Y"], slab=slab, mean=mean, draws=draws, tune=tune, chains=chains, seed=_integer(stream),
        cores=1, predictive=1, progress=False,
    )  # fmt: skip
    posterior, checks = tree["posterior"].to_dataset(), diagnose(tree)
    over = [CHAIN, DRAW]
    effects = posterior["effects"].stack(all_draws=over).transpose("all_draws", TISSUE, SNP).to_numpy()
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    lower, upper = np.quantile(effects, tails, axis=0, method="inverted_cdf")  # an end in the spike is 0 itself
    facts = {name: float(posterior[name].mean()) for name in ("tau1", "eta", "sigma2")}
    facts |= {
        "rhat": float(checks["r_hat"].max()),
        "ess": float(min(checks["ess_bulk"].min(), checks["ess_tail"].min())),
        "divergences": float(checks["divergences"]),
    }
    return Estimate(effects.mean(axis=0), posterior["probability"].mean(over).to_numpy(), (lower, upper), facts)


# Marks that know the truth -------------------------------------------------------------------------------------------


OTHER_MOMENTS = ("two-slabs", "missing-by-value")
"""Violations that change the moments of beta(t), or of the errors of the responses that are seen."""


def linear(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Bayes linear: of all fixed affine functions of a tissue's own responses, the one of least expected MSE.

    It needs the first two moments of beta(t) alone, with I(t) summed out and S the slab's true covariance:

        E = tau1 beta,      Gamma = tau1 S + tau1 tau0 beta beta'

    Raises
    ------
    InputError
        If the data violate the model so that these are not the moments.
    """
    broken = data.attrs.get("violation") if data.attrs.get("strength") else None
    do = "leave out 'linear'"
    expect(broken not in OTHER_MOMENTS, "effects with the model's moments", f"the violation {broken!r}", "linear", do)
    tau1, beta, S = data.attrs["tau1"], data["beta"].to_numpy(), data["slab_covariance"].to_numpy()
    sigma2 = data.attrs["sigma2"] if "sigma2" in data.attrs else data.attrs["sigma"] ** 2
    E, Gamma = tau1 * beta, tau1 * S + tau1 * (1 - tau1) * np.outer(beta, beta)
    effects = np.empty((data.sizes[TISSUE], len(beta)))
    for t, (X_t, y) in enumerate(_tissues(data)):
        # E + Gamma X_t'(X_t Gamma X_t' + sigma2 I)^-1 (y_t - X_t E), n_t x n_t, is with p x p matrices
        # E + (Gamma X_t'X_t + sigma2 I)^-1 Gamma X_t'(y_t - X_t E), for a singular Gamma too
        inner = Gamma @ X_t.T @ X_t + sigma2 * np.eye(len(beta))
        effects[t] = E + np.linalg.solve(inner, Gamma @ X_t.T @ (y - X_t @ E))
    return Estimate(effects)


def oracle(data: xr.Dataset, stream: np.random.SeedSequence, *, intervals: bool = True) -> Estimate:  # noqa: ARG001
    """The posterior at the true parameters and under the true slab, equation (8): of all estimators the least MSE.

    Raises
    ------
    InputError
        If the data violate the model so that their posterior has no closed form.
    """
    return _of_fit(ebmodel.simulate.exact_posterior(data), intervals=intervals)


# ---------------------------------------------------------------------------------------------------------------------


def _tissues(data: xr.Dataset) -> Iterator[tuple[Array, Array]]:
    """(X_t, y_t) of every tissue: its observed rows."""
    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    for y in Y.T:
        rows = ~np.isnan(y)
        yield X[rows], y[rows]


def _integer(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1)[0])


ESTIMATORS: dict[str, Estimator] = {
    "zero": zero,
    "ols": ols,
    "ridge": ridge,
    "lasso": lasso,
    "eb": eb,
    "eb_independent": partial(eb, slab="independent"),
    "eb_power": partial(eb, slab="power"),
    "eb_naive": eb_naive,
    "bayes": bayes,
    "linear": linear,
    "oracle": oracle,
}
"""Every estimator by name; a study picks from them, and adds its own."""
