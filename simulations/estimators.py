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
from contextlib import contextmanager
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
    "eb_selected",
    "elastic_net",
    "lasso",
    "linear",
    "multitask",
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
RATIOS = (0.1, 0.5, 1.0)
"""Share of the l1 norm in an elastic net's penalty; 1 is the lasso."""
PENALTIES = 12
"""On an elastic net's path, from the least that gives all zeros down to a thousandth of it."""
MOST_STEPS = 100_000
"""Sweeps of coordinate descent for one penalty: a hundred times scikit-learn's default, which often falls short."""


def elastic_net(
    data: xr.Dataset,
    stream: np.random.SeedSequence,
    *,
    ratios: tuple[float, ...] = RATIOS,
    penalties: int = PENALTIES,
) -> Estimate:
    """Elastic net in each tissue, penalty and ratio by five-fold cross-validation over random folds; no intercept.

    ``facts["unconverged"]`` counts the tissues where coordinate descent ran out of steps at any penalty. A tissue with
    fewer than two samples has nothing to validate on: its effects are estimated as zero.
    """
    from sklearn.linear_model import ElasticNetCV
    from sklearn.model_selection import KFold

    effects = np.zeros((data.sizes[TISSUE], data.sizes[SNP]))
    seeds = stream.generate_state(len(effects))
    unconverged = 0
    for t, (X_t, y) in enumerate(_tissues(data)):
        if len(y) < 2:
            continue
        folds = KFold(min(FOLDS, len(y)), shuffle=True, random_state=int(seeds[t]))
        model = ElasticNetCV(
            l1_ratio=list(ratios), alphas=penalties, fit_intercept=False, cv=folds, max_iter=MOST_STEPS
        )
        with _out_of_steps() as caught:
            effects[t] = model.fit(X_t, y).coef_
        unconverged += bool(caught)
    return Estimate(effects, facts={"unconverged": float(unconverged)})


lasso = partial(elastic_net, ratios=(1.0,), penalties=50)
"""Lasso in each tissue, as `elastic_net`, on a finer path."""


@contextmanager
def _out_of_steps() -> Iterator[list[warnings.WarningMessage]]:
    """Record where coordinate descent ran out of steps; any other warning is an error."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", ConvergenceWarning)
        yield caught


# All tissues at once, without a model of them ------------------------------------------------------------------------


PROXIMAL_STEPS, SETTLED = 5000, 1e-4
"""Most proximal-gradient steps for one penalty, and the change of effects, relative to the largest, that ends them."""


def multitask(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:
    """Multi-task elastic net: a SNP has an effect in all tissues or in none; no intercept.

    Effects B (tissue, snp) with columns B_j minimise, over the responses that are observed,

        sum_t |y_t - X_t B(t)|^2 / 2n + penalty (ratio sum_j |B_j| + (1 - ratio)/2 sum_j |B_j|^2),

    penalty and ratio (`RATIOS`; 1 is the multi-task lasso) those of least squared error on the observed responses in
    five-fold cross-validation over samples. On complete data this is scikit-learn's ``MultiTaskElasticNetCV``, which
    takes no missing ones.

    ``facts`` give the penalty and ratio chosen, and how many fits ran out of steps. With fewer than two samples, or
    nothing but zeros, there is nothing to validate: all effects are estimated as zero.
    """
    from sklearn.model_selection import KFold

    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    sampled = ~np.isnan(Y).all(axis=1)
    X, Y = X[sampled], Y[sampled]
    # |X_j'Y|, which no penalty on the l1 norm may exceed
    largest = np.linalg.norm(X.T @ np.nan_to_num(Y), axis=1).max(initial=0.0) / max(len(Y), 1)
    if len(Y) < 2 or largest == 0.0:
        nothing = np.zeros((data.sizes[TISSUE], data.sizes[SNP]))
        return Estimate(nothing, facts=dict.fromkeys(("penalty", "ratio", "unconverged"), 0.0))
    paths = {ratio: np.geomspace(largest / ratio, 1e-3 * largest / ratio, PENALTIES) for ratio in RATIOS}
    folds = KFold(min(FOLDS, len(Y)), shuffle=True, random_state=_integer(stream))
    error, unconverged = np.zeros((len(RATIOS), PENALTIES)), 0
    for train, test in folds.split(X):
        moments = _moments(X[train], Y[train])
        for i, (ratio, penalties) in enumerate(paths.items()):
            for j, (B, converged) in enumerate(_multitask_path(*moments, ratio, penalties)):
                error[i, j] += np.nansum((Y[test] - X[test] @ B.T) ** 2)
                unconverged += not converged
    i, j = np.unravel_index(error.argmin(), error.shape)
    ratio, penalties = RATIOS[i], paths[RATIOS[i]][: j + 1]
    *_, (effects, converged) = _multitask_path(*_moments(X, Y), ratio, penalties)
    facts = {"penalty": float(penalties[-1]), "ratio": ratio, "unconverged": float(unconverged + (not converged))}
    return Estimate(effects, facts=facts)


def _moments(X: Array, Y: Array) -> tuple[Array, Array]:
    """X_t'X_t / n (tissue, snp, snp) and X_t'y_t / n (tissue, snp) of observed rows: all that a path needs."""
    seen = ~np.isnan(Y.T)
    return np.stack([X[rows].T @ X[rows] for rows in seen]) / len(Y), (X.T @ np.nan_to_num(Y)).T / len(Y)


def _multitask_path(G: Array, c: Array, ratio: float, penalties: Array) -> Iterator[tuple[Array, bool]]:
    """Effects (tissue, snp), and whether they converged, for one penalty after the other, each from those for the last.

    Accelerated proximal gradient (Beck & Teboulle 2009, FISTA), its momentum dropped where it points uphill
    (O'Donoghue & Candes 2015).
    """
    steepest = max(np.linalg.eigvalsh(G_t)[-1] for G_t in G)
    B = np.zeros_like(c)
    for penalty in penalties:
        L = steepest + penalty * (1 - ratio)  # of the gradient, its Lipschitz constant
        ahead, momentum, converged = B, 1.0, False
        for _ in range(PROXIMAL_STEPS):
            gradient = (G @ ahead[:, :, None])[:, :, 0] - c + penalty * (1 - ratio) * ahead
            new = ahead - gradient / L
            # the nearest B to it at the price of its l1 norm: a SNP's effects shrink together
            new *= np.maximum(0.0, 1 - penalty * ratio / L / np.maximum(np.linalg.norm(new, axis=0), 1e-300))
            step, following = new - B, (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            if np.sum((ahead - new) * step) > 0:
                ahead, momentum = new, 1.0
            else:
                ahead, momentum = new + (momentum - 1) / following * step, following
            B = new
            if np.abs(step).max() <= SETTLED * np.abs(B).max():
                converged = True
                break
        yield B, converged


# Empirical Bayes -----------------------------------------------------------------------------------------------------


def eb(
    data: xr.Dataset,
    stream: np.random.SeedSequence,
    *,
    slab: Slab = "g",
    mean: str = "free",
    intervals: bool = True,
) -> Estimate:
    """`ebmodel.fit`: the posterior at the estimated parameters, with plug-in intervals if wanted."""
    fit = ebmodel.fit(data["X"].to_numpy(), data["Y"].to_numpy(), slab=slab, mean=mean, seed=_integer(stream))
    boundary, steps = "boundary" in fit.status, fit.trace.size
    facts = {"alpha": fit.params.alpha, "converged": fit.converged, "boundary": boundary, "steps": steps}
    if mean != "free":  # whose stored facts are without
        facts |= {"kappa": fit.params.kappa, "log_evidence": fit.log_evidence}
    return _of_fit(fit, facts, intervals=intervals)


def eb_selected(data: xr.Dataset, stream: np.random.SeedSequence, *, intervals: bool = True) -> Estimate:
    """`ebmodel.select`: the slab and the mean of the largest evidence.

    ``facts`` say which: ``alpha`` is 1 for the paper's slab, 0 for an independent one, nan for a sparse one, any other
    for a power by maximum likelihood; ``kappa`` is infinite for a free mean, 0 for none, any other for a hierarchical
    one.
    """
    fit = ebmodel.select(data["X"].to_numpy(), data["Y"].to_numpy(), seed=_integer(stream)).fit
    kappa = np.inf if fit.params.kappa is None else fit.params.kappa
    facts = {"alpha": fit.params.alpha, "kappa": kappa, "log_evidence": fit.log_evidence}
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


OTHER_MOMENTS = ("curvature", "two-slabs", "sample-size", "small-effects", "missing-by-value")
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
    "elastic_net": elastic_net,
    "multitask": multitask,
    "eb": eb,
    "eb_independent": partial(eb, slab="independent"),
    "eb_power": partial(eb, slab="power"),
    "eb_power_zero": partial(eb, slab="power", mean="zero"),
    "eb_hierarchical": partial(eb, mean="hierarchical"),
    "eb_general": partial(eb, slab="power", mean="hierarchical"),
    "eb_sparse": partial(eb, slab="sparse", mean="hierarchical"),
    "eb_selected": eb_selected,
    "eb_naive": eb_naive,
    "bayes": bayes,
    "linear": linear,
    "oracle": oracle,
}
"""Every estimator by name; a study picks from them, and adds its own."""
