"""The model of `ebmodel.model` with priors, in PyMC: the marginal form and the latent, textbook form.

Both forms share their hyperparameters, and differ in what they do with I(t) and beta(t): the marginal form sums and
integrates them out (`ebmodel.bayes.marginal`), the latent form keeps them, as one writes the model on a blackboard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.linalg import null_space

from ebmodel.bayes import covariance, marginal
from ebmodel.bayes.priors import Prior, Priors, as_priors
from ebmodel.data import Data, project_out, tidy
from ebmodel.errors import expect
from ebmodel.heteroscedastic import EQUAL, UNEQUAL, residual_variances
from ebmodel.labels import DIRECTION, SNP, TISSUE, TISSUE_OTHER
from ebmodel.model import Array, Slab, slab_power
from ebmodel.shape import POWER
from ebmodel.statistics import Compressed, Whitened, compress, power_spread, weigh, whiten

__all__ = ["CORRELATED", "ERRORS", "FORMS", "MEANS", "Problem", "Weighed", "build", "pose", "pymc_model", "resolution"]

FORMS = ("marginal", "latent")
"""Of the model: I(t) and beta(t) integrated out, or kept."""
MEANS = ("free", "hierarchical")
"""Of the slab: a beta with a prior of its own, or beta ~ N(0, kappa Sigma0), equation (H)."""
CORRELATED = "correlated"
"""The word for errors that are correlated over tissues."""
ERRORS = (EQUAL, UNEQUAL, CORRELATED)
"""What errors may be."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a model is built from: the data, reduced, and the choices that make it a model."""

    data: Data
    """Validated, with names."""
    slab: Slab
    """A fixed shape, or ``"power"``: alpha is then a parameter."""
    mean: str
    """``"free"`` or ``"hierarchical"``: whether beta has a prior of its own or N(0, kappa Sigma0)."""
    priors: Priors
    """One for every parameter."""
    errors: str = EQUAL
    """``"equal"``, ``"unequal"`` or ``"correlated"``."""

    @cached_property
    def compressed(self) -> Compressed:
        """The data before the slab has come."""
        return compress(self.data)

    @cached_property
    def whitened(self) -> Whitened:
        """Statistics under the fixed slab."""
        return whiten(self.compressed, self.slab)

    @property
    def learns_alpha(self) -> bool:
        """Whether alpha is a parameter."""
        return isinstance(self.slab, str) and self.slab == POWER

    @cached_property
    def scale(self) -> float:
        """s: root mean square of the responses, covariates projected out, unless the priors say."""
        if self.priors.scale is not None:
            return self.priors.scale
        return float(np.sqrt(self.compressed.yy.sum() / self.compressed.n.sum()))

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Every number of the data that the marginal model sees, by name: it can be built once and given other data."""
        c = self.compressed
        common: dict[str, Any] = {"pattern": c.pattern, "n": c.n, "yy": c.yy, "rss": c.rss}
        # signal ~ N(0, 1): the mean effects explain n sigma2 / rank in every direction, as much as the noise in all
        common |= {"scale": self.scale, "per_direction": project_out(self.data.C)[1] / len(c.s)}
        if self.learns_alpha:
            R = c.R[0].T @ c.R[0] if self.complete else c.R  # complete: a rotation, put to the identity
            values = c.c @ c.R[0] if self.complete else c.c
            return common | {"R": R, "coordinates": values, "s": c.s, "U": c.U}
        stats, whitening = self.whitened
        fixed = {"V": stats.V, "d": stats.d, "coordinates": stats.b, "strength": np.mean(whitening.D**2)}
        return common | fixed | {"L": whitening.L, "to_gamma": whitening.to_gamma}

    @cached_property
    def complete(self) -> bool:
        """Whether every tissue was observed in all samples, with the same covariates projected out."""
        R = self.compressed.R
        return len(R) == 1 and bool(np.allclose(R[0].T @ R[0], np.eye(len(R[0])), atol=1e-12))

    @property
    def described(self) -> str:
        """The priors in words, those on errors where they have a say."""
        text, priors = str(self.priors), self.priors
        text += "" if self.errors == EQUAL else f", heterogeneity ~ {priors.heterogeneity}"
        return text + (f", correlation ~ LKJ({priors.concentration:g})" if self.errors == CORRELATED else "")

    @cached_property
    def omega(self) -> Array:
        """sigma2_t/sigma2 (tissue,) as the tissues' own least squares have it: where chains start."""
        return residual_variances(compress(self.data))


class Weighed(Problem):
    """The same problem brought back to one error variance by `Problem.omega`."""

    @cached_property
    def compressed(self) -> Compressed:
        """The data before the slab has come, weighed."""
        return weigh(compress(self.data), self.omega)


def pymc_model(
    X: Any,
    Y: Any,
    slab: Slab = "g",
    mean: str = "free",
    priors: str | Priors = "weak",
    form: str = "marginal",
    covariates: Any = None,
    intercept: bool = False,
    errors: str = EQUAL,
) -> pm.Model:
    """Build the full Bayesian model in PyMC.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes; NumPy, pandas or xarray. Complete.
    Y : (sample, tissue)
        Expression of the gene; NaN where missing.
    slab
        As in `ebmodel.fit`; with ``"power"``, alpha is a parameter with a prior.
    mean
        The slab's mean beta: ``"free"``, with a prior of its own, or ``"hierarchical"``, N(0, kappa Sigma0) with
        kappa a parameter.
    priors
        ``"weak"`` (weakly informative), ``"flat"`` (its maximum a posteriori is the EM fit) or an
        `ebmodel.bayes.Priors`. What a prior on beta does to P(I(t)=1) is told in `ebmodel.bayes.priors`.
    form
        ``"marginal"``: I(t) and beta(t) integrated out; NUTS sees the rank of X plus three (four, five) smooth
        parameters. The observed variable is ``Y`` (tissue), its log-likelihood log(tau1 g1 + tau0 g0).
        ``"latent"``: I(t) ~ Bernoulli(tau1) and beta(t) explicit, non-centred, for PyMC's compound step; slow, for
        teaching and as a witness.
    covariates, intercept
        As in `ebmodel.fit`.
    errors
        ``"equal"``: one variance sigma2 for all tissues. ``"unequal"``: every tissue its own, log-normal about sigma2
        with an sd that is a parameter. ``"correlated"``: besides, errors of one sample are correlated over tissues, as
        where the same donors give several; I(t) cannot be summed out then and is sampled (`ebmodel.bayes.covariance`).

    Returns
    -------
    pm.Model
        With ``tau1``, ``beta`` (snp), ``eta``, ``sigma2`` (and ``kappa``, ``alpha``; latent: ``active``, ``effects``;
        not equal: ``error_variance`` (tissue), ``heterogeneity``; correlated: ``error_correlation`` (tissue,
        tissue_other), ``active``).

    Raises
    ------
    InputError
        If the data cannot be used, or a choice does not exist.
    """
    return build(pose(X, Y, slab, mean, priors, covariates, intercept=intercept, errors=errors), form)


def pose(
    X: Any,
    Y: Any,
    slab: Slab,
    mean: str,
    priors: str | Priors,
    covariates: Any = None,
    *,
    intercept: bool = False,
    errors: str = EQUAL,
) -> Problem:
    """Validate data and choices, once for all forms.

    Parameters
    ----------
    X, Y, slab, mean, priors, covariates, intercept, errors
        As in `pymc_model`.

    Returns
    -------
    Problem
        From which `build` makes models.

    Raises
    ------
    InputError
        As `pymc_model`.
    """
    if not (isinstance(slab, str) and slab == POWER):
        slab_power(slab)
    expect(mean in MEANS, " or ".join(map(repr, MEANS)), repr(mean), "mean", "choose one")
    expect(errors in ERRORS, ", ".join(map(repr, ERRORS)), repr(errors), "errors", "choose one")
    return Problem(tidy(X, Y, covariates, intercept=intercept), slab, mean, as_priors(priors), errors)


def build(problem: Problem, form: str = "marginal") -> pm.Model:
    """Build the PyMC model of a posed problem.

    Raises
    ------
    InputError
        If there is no such ``form``, or it or the data do not go with correlated errors.
    """
    expect(form in FORMS, " or ".join(map(repr, FORMS)), repr(form), "form", "choose one")
    directions, tissues = np.arange(len(problem.compressed.s)), problem.data.tissues
    coords = {SNP: problem.data.snps, TISSUE: tissues, DIRECTION: directions}
    if problem.errors == CORRELATED:
        do = "leave form='marginal': given I(t) beta(t) is integrated out"
        expect(form == "marginal", "form='marginal'", repr(form), "a model with errors='correlated'", do)
        covariance.check_covariance(problem)
        coords[TISSUE_OTHER] = tissues
    with pm.Model(coords=coords) as model:
        data = SimpleNamespace(
            **{name: pm.Data(name, value, shape=np.shape(value)) for name, value in problem.inputs.items()}
        )
        theta = _hyperparameters(problem, data)
        if problem.errors == CORRELATED:
            covariance.add_likelihood(problem, data, theta)
        elif form == "marginal":
            _marginal(problem, data, theta)
        else:
            _latent(problem, data, theta)
    return model


class Theta(NamedTuple):
    """The hyperparameters as PyMC variables; the slab's mean in the coordinates that the marginal form needs."""

    tau1: Any
    mean: Any
    """(direction,) gamma for a fixed slab; theta, with X beta = P theta, where alpha is a parameter."""
    spread: Any
    """(direction,) lambda: the slab's variances in those coordinates are eta lambda; 1 for a fixed slab."""
    beta: Any
    eta: Any
    sigma2: Any
    """() or, where tissues have error variances of their own, (tissue,)."""


def _own_variances(problem: Problem, data: Any, sigma2: Any) -> Any:
    """log sigma2_t ~ N(log sigma2, h^2), centred where the data say more of sigma2_t than h does, else non-centred.

    With w = h^2/(h^2 + 2/n_t): log sigma2_t = (1 - w) log sigma2 + h z_t/(1 + h^2 n_t/2)^(1/2), in units of s^2, and
    z_t ~ N(w log sigma2 (1 + h^2 n_t/2)^(1/2)/h, 1 + h^2 n_t/2).
    """
    h, half = problem.priors.heterogeneity.variable("heterogeneity"), data.n / 2.0
    ratio, level = h**2 * half, pt.log(sigma2 / data.scale**2)
    z = pm.Normal("z_error", h * half / pt.sqrt(1.0 + ratio) * level, pt.sqrt(1.0 + ratio), dims=TISSUE)
    log_variance = level / (1.0 + ratio) + h * z / pt.sqrt(1.0 + ratio)
    return pm.Deterministic("error_variance", data.scale**2 * pt.exp(log_variance), dims=TISSUE)


def _hyperparameters(problem: Problem, data: Any) -> Theta:
    """All of them; eta, kappa and gamma relative to the noise as it is: sigma2, or the geometric mean of sigma2_t.

    Relative to the level that sigma2_t vary about, which few tissues hardly tell, they would pull it to where it suits
    them.
    """
    priors = problem.priors
    tau1 = priors.tau1.variable("tau1")
    sigma2 = _either("sigma2", priors.sigma2, "noise", priors.noise, lambda noise: noise * data.scale**2)
    errors = noise = sigma2
    if problem.errors != EQUAL:
        errors = _own_variances(problem, data, sigma2)
        noise = pt.exp(pt.mean(pt.log(errors)))
    if problem.learns_alpha:
        spread = power_spread(data.s, _given(priors.alpha).variable("alpha"))
        strength = pt.mean(spread)  # dbar
        to_beta, to_mean = data.U / data.s, data.s[:, None] * data.U.T
    else:
        spread, strength = pt.ones_like(data.d[0]), data.strength
        to_beta, to_mean = data.L, data.to_gamma

    def from_weight(weight: Any) -> Any:
        """eta from u = eta dbar/(eta dbar + noise), and likewise kappa from v."""
        return weight / (1.0 - weight) * noise / strength

    eta = _either("eta", priors.eta, "shrinkage", priors.shrinkage, from_weight)
    if problem.mean == "free" and priors.beta is not None:
        beta = priors.beta.variable("beta", dims=SNP)
        return Theta(tau1, pt.dot(to_mean, beta), spread, beta, eta, errors)
    if problem.mean == "hierarchical":
        kappa = _either("kappa", priors.kappa, "spread", priors.spread, from_weight)
        # beta ~ N(0, kappa Sigma0), centred where the data say more of gamma than kappa does, non-centred where less
        omega = resolution(len(problem.data.tissues), tau1, eta, noise, strength)
        z = pm.Normal("z", 0.0, pt.sqrt(1.0 + kappa / omega), dims=DIRECTION)
        gamma = z * pt.sqrt(kappa / (1.0 + kappa / omega))
    elif priors.gamma is not None:
        gamma = priors.gamma.variable("gamma", dims=DIRECTION)
    else:
        unit = pt.sqrt(data.per_direction * noise / strength)
        gamma = _given(priors.signal).variable("signal", dims=DIRECTION) * unit
    mean = gamma * pt.sqrt(spread)
    return Theta(tau1, mean, spread, pm.Deterministic("beta", pt.dot(to_beta, mean), dims=SNP), eta, errors)


def resolution(tissues: int, tau1: Any, eta: Any, sigma2: Any, strength: Any) -> Any:
    """omega, about the variance with which m tau1 active tissues tell gamma: (eta + sigma2/dbar) / (1 + m tau1).

    ``tissues`` is m and ``strength`` dbar, the mean of D^2.
    """
    return (eta + sigma2 / strength) / (1.0 + tissues * tau1)


def _either(name: str, own: Prior | None, relative_name: str, relative: Prior | None, to_own: Any) -> Any:
    """The parameter ``name`` from the prior on itself, or from the one on its relative version."""
    if own is not None:
        return own.variable(name)
    return pm.Deterministic(name, to_own(_given(relative).variable(relative_name)))


def _given(prior: Prior | None) -> Prior:
    if prior is None:  # `Priors` has seen to it
        raise AssertionError
    return prior


def _marginal(problem: Problem, data: Any, theta: Theta) -> None:
    """Y (tissue) observed, through the tissues' sufficient statistics."""
    by_pattern = (lambda x: x) if problem.compressed.pattern.max() == 0 else (lambda x: x[data.pattern])

    def log_densities(coordinates: Any, mean: Any, spread: Any, eta: Any, sigma2: Any) -> tuple[Any, Any]:
        """log g1 and log g0."""
        if not problem.learns_alpha:
            log_g1 = marginal.log_slab(data, coordinates, mean, eta, sigma2, by_pattern)
        elif problem.complete:
            log_g1 = marginal.log_slab_diagonal(data, coordinates, mean, spread, eta, sigma2)
        else:
            log_g1 = marginal.log_slab_power(data, coordinates, mean, spread, eta, sigma2, by_pattern)
        return log_g1, marginal.log_null(data, sigma2)

    def logp(coordinates: Any, tau1: Any, *shared: Any) -> Any:
        # PyMC gives the parameters a dimension for tissues, of size 1
        mean, spread, eta, sigma2 = shared
        sigma2 = sigma2[0] if problem.errors == EQUAL else sigma2
        log_g1, log_g0 = log_densities(coordinates, mean[0], spread[0], eta[0], sigma2)
        return marginal.log_mixture(log_g1, log_g0, tau1[0])

    shared = theta.mean, theta.spread, theta.eta, theta.sigma2
    pm.CustomDist(
        "Y",
        theta.tau1,
        *shared,
        logp=logp,
        signature="(),(r),(r),(),()->(r)",
        observed=data.coordinates,
        dims=(TISSUE, DIRECTION),
    )
    log_g1, log_g0 = log_densities(data.coordinates, *shared)
    pm.Deterministic("log_bayes_factor", log_g0 - log_g1, dims=TISSUE)  # log K_t (6)


def _latent(problem: Problem, data: Any, theta: Theta) -> None:
    """Equations (1), (3) and (4) as printed, one row an observed response; covariates are projected out of each tissue.

    With a fixed slab Sigma0 = S S'; where alpha is a parameter S = U diag(lambda^(1/2)/s).
    """
    X, y, tissue = long_form(problem.data)
    if problem.learns_alpha:
        S = data.U / data.s * pt.sqrt(theta.spread)
        directions = len(problem.compressed.s)
    else:
        S = np.hstack([problem.whitened[1].L, problem.whitened[1].null])
        directions = S.shape[1]
    active = pm.Bernoulli("active", theta.tau1, dims=TISSUE)  # I(t) ~ Bernoulli(tau1)
    z = pm.Normal("z_tissue", 0.0, 1.0, shape=(len(problem.data.tissues), directions))
    slab = theta.beta + pt.sqrt(theta.eta) * pt.dot(z, S.T)  # beta(t) | I(t)=1 ~ N(beta, eta Sigma0)
    effects = pm.Deterministic("effects", active[:, None] * slab, dims=(TISSUE, SNP))  # beta(t) | I(t)=0 = 0
    expected = pt.sum(X * effects[tissue], axis=1)
    sigma2 = theta.sigma2 if problem.errors == EQUAL else theta.sigma2[tissue]
    pm.Normal("Y", expected, pt.sqrt(sigma2), observed=y)  # Y(t) = X beta(t) + eps(t)


def long_form(data: Data) -> tuple[Array, Array, Any]:
    """Observed responses one below the other: their genotypes (observation, snp), values and tissues (observation,).

    With covariates, the contrasts of each tissue's responses that the covariates leave.
    """
    X, y, tissue = [], [], []
    for t, rows in enumerate(data.observed.T):
        K = contrasts(data.C[rows])
        X.append(K.T @ data.X[rows])
        y.append(K.T @ data.Y[rows, t])
        tissue.append(np.full(K.shape[1], t))
    return np.vstack(X), np.concatenate(y), np.concatenate(tissue)


def contrasts(C: Array) -> Array:
    """K (n, n - rank C) with K'C = 0 and K'K = I; the identity where there are no covariates."""
    return np.eye(len(C)) if C.size == 0 else null_space(C.T)
