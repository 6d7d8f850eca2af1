"""Standard errors from the observed information: minus the second derivatives of log p(Y) at the fit, exact.

With theta = (tau1, gamma, eta, sigma2), T_t = P(I(t)=1 | Y) and, for each component i of the mixture, u_i and H_i the
first and second derivatives of log(tau_i g_i), the formula of Louis (1982) for a mixture of two is

    s_t = T u_1 + (1-T) u_0                                        score of tissue t
    -J_t = T (H_1 + u_1 u_1') + (1-T) (H_0 + u_0 u_0') - s_t s_t'

With v = sigma2 + eta d and e = b - V'gamma (one tissue; sums over its coordinates),

    d log g1/d gamma  = V (d e/v)                 d2/d gamma2        = -V diag(d/v) V'
    d log g1/d eta    = 1/2 sum d (d e^2/v - 1)/v
    d log g1/d sigma2 = 1/2 [rss/sigma2^2 - (n-r)/sigma2 + sum (d e^2/v - 1)/v]
    d log g0/d sigma2 = 1/2 [|y|^2/sigma2^2 - n/sigma2]

Where the mean is latent, the bound, maximised over q(gamma) for given (tau1, eta, sigma2, kappa), stands for log p(Y),
and its second derivatives are differences.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import expit, logit, ndtri

from ebmodel import em
from ebmodel.errors import expect
from ebmodel.labels import QUANTITY, SNP
from ebmodel.mean import FREE, HIERARCHICAL, ORIGIN, POINT, ZERO, certain
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.results import Fit
from ebmodel.statistics import Statistics, Whitening

__all__ = ["at_edge", "check_fitted", "fitted_state", "observed_information", "standard_errors"]

SCALES = {"tau1": "logit", "eta": "log", "sigma2": "log", "kappa": "log"}
"""On which a parameter's estimate is nearest to normal; a mean effect is as it is."""
SINGULAR = 1e-9
"""Eigenvalues of the information (of unit diagonal) below this carry none."""


@one_thread
def standard_errors(fit: Fit, level: float = 0.95) -> xr.Dataset:
    """Large-sample standard errors of the parameters, from the observed information, and Wald intervals.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`; the slab's shape and the ratios of tissues' error variances are taken as known, also
        where they were learned.
    level
        Confidence of the intervals; inside (0, 1).

    Returns
    -------
    Dataset (quantity)
        Quantities ``tau1``, ``eta``, ``sigma2``, then ``beta[snp]`` where beta is a parameter, or ``kappa``.
        ``estimate``; ``se``, in the parameter's own units (delta method); ``scale`` (logit, log or identity), and
        ``se_on_scale``; ``lower`` and ``upper``, the Wald interval, symmetric on the scale; ``boundary``, whether the
        estimate lies on the edge of its range; ``reason`` why there is no standard error, '' where there is one.
        Coordinate ``snp``, '' but for beta. Attributes ``level``, and ``of``, whose curvature it is.

    Raises
    ------
    InputError
        If ``fit`` is at known parameters, or ``level`` is not inside (0, 1).

    Notes
    -----
    At a boundary (tau1 of 0 or 1, eta = 0, kappa = 0) the likelihood still falls on one side, and no curvature says how
    far the estimate may err: its standard error is nan, and those of the others hold it there. `ebmodel.profile` gives
    regions that need no standard error. With tau1 = 0 nothing is known of beta and eta.

    For a hierarchical mean the curvature is that of the variational bound. It takes I(t) and beta for independent given
    Y, and is only as good as that.

    Examples
    --------
    >>> import ebmodel
    >>> gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=20, p=4, sigma=3, seed=1)
    >>> errors = standard_errors(ebmodel.fit(gene.X, gene.Y))
    >>> errors["scale"].sel(quantity=["tau1", "eta", "sigma2"]).values.tolist()
    ['logit', 'log', 'log']
    """
    expect(0.0 < level < 1.0, "0 < level < 1", level, "level", "give a confidence such as 0.95")
    check_fitted(fit)
    stats, whitening = fit.whitened()
    kind, state = fitted_state(fit)
    estimates = {"tau1": state.tau1, "eta": state.eta, "sigma2": state.sigma2}
    if kind == HIERARCHICAL:
        estimates["kappa"] = state.belief.kappa
    names, reasons = list(estimates), _reasons(estimates, len(stats.n))
    inner = [name for name in names if not reasons[name]]
    by_snp = fit.dataset[SNP].to_numpy() if kind == FREE else np.empty(0)
    if kind == HIERARCHICAL:
        covariance, beta_se = _inverse(_bound_information(stats, state, inner)), np.empty(0)
    else:
        covariance, beta_se = _invert(stats, whitening, state, inner, len(by_snp))
    se = dict.fromkeys(names, np.nan) | dict(zip(inner, np.sqrt(_positive(np.diag(covariance))), strict=False))
    rows = [_row(estimates[name], se[name], SCALES[name], reasons[name], level) for name in names]
    beta = fit.params.beta.to_numpy() if kind == FREE else np.empty(0)
    for value, error in zip(beta, beta_se, strict=True):
        rows.append(_row(float(value), float(error), "identity", _of_beta(state) if np.isnan(error) else "", level))
    coords = {QUANTITY: [*names, *(f"beta[{snp}]" for snp in by_snp)],
              SNP: (QUANTITY, [*("" for _ in names), *map(str, by_snp)])}  # fmt: skip
    columns = {field: (QUANTITY, [getattr(row, field) for row in rows]) for field in _Row._fields}
    of = "bound on the log-likelihood" if kind == HIERARCHICAL else "log-likelihood"
    return xr.Dataset(columns, coords, {"level": level, "of": of})


def check_fitted(fit: Fit) -> None:
    """Refuse a posterior at known parameters.

    Raises
    ------
    InputError
        If the fit is one.
    """
    do = "fit with ebmodel.fit"
    expect("known parameters" not in fit.status, "a fit by maximum likelihood", "known parameters", "fit", do)


def fitted_state(fit: Fit) -> tuple[int, em.State]:
    """What the fit's mean is (`ebmodel.mean`), and its parameters as EM has them; q(gamma) is found again."""
    theta, (stats, whitening) = fit.params, fit.whitened()
    latent = "beta_covariance" in fit.dataset
    kind = HIERARCHICAL if latent else FREE if theta.kappa is None else ZERO
    gamma = whitening.whiten(np.asarray(theta.beta))
    about = certain(stats, float(theta.kappa or 0.0)) if latent else ORIGIN if kind == ZERO else POINT
    state = em.State(theta.tau1, gamma, theta.eta, theta.sigma2, about)
    return kind, _believe(stats, state, fit.posterior_probability.to_numpy()) if latent else state


# Exact derivatives ---------------------------------------------------------------------------------------------------


def observed_information(stats: Statistics, state: em.State) -> Array:
    """-d2 log p(Y) / d theta2 for theta = (tau1, gamma, eta, sigma2), (rank + 3, rank + 3), inside its range.

    With tau1 at an edge its row and column are 0: it is held there.
    """
    tau1, gamma, eta, sigma2, _ = state
    T, r = em.expectation(stats, state)[0], len(gamma)
    V, d = stats.V[stats.pattern], stats.d[stats.pattern]
    e = stats.b - np.einsum("tij,i->tj", V, gamma)
    v = sigma2 + eta * d
    q = d * e**2 / v
    inside = not at_edge(tau1, len(T))
    GAMMA, ETA, SIGMA2 = slice(1, r + 1), r + 1, r + 2

    u1 = np.zeros((len(T), r + 3))  # d log(tau1 g1)
    u1[:, 0] = 1.0 / tau1 if inside else 0.0
    u1[:, GAMMA] = np.einsum("tij,tj->ti", V, d * e / v)
    u1[:, ETA] = 0.5 * np.sum(d * (q - 1.0) / v, axis=1)
    u1[:, SIGMA2] = 0.5 * (stats.rss / sigma2**2 - (stats.n - r) / sigma2 + np.sum((q - 1.0) / v, axis=1))
    u0 = np.zeros_like(u1)  # d log(tau0 g0)
    u0[:, 0] = -1.0 / (1.0 - tau1) if inside else 0.0
    u0[:, SIGMA2] = 0.5 * (stats.yy / sigma2**2 - stats.n / sigma2)

    H = np.zeros((r + 3, r + 3))  # sum_t T H_1 + (1-T) H_0
    H[0, 0] = -np.sum(T) / tau1**2 - np.sum(1.0 - T) / (1.0 - tau1) ** 2 if inside else 0.0
    H[GAMMA, GAMMA] = -np.einsum("t,tij,tj,tkj->ik", T, V, d / v, V, optimize=True)
    H[GAMMA, ETA] = H[ETA, GAMMA] = -np.einsum("t,tij,tj->i", T, V, d**2 * e / v**2)
    H[GAMMA, SIGMA2] = H[SIGMA2, GAMMA] = -np.einsum("t,tij,tj->i", T, V, d * e / v**2)
    H[ETA, ETA] = T @ np.sum(d**2 * (0.5 - q) / v**2, axis=1)
    H[ETA, SIGMA2] = H[SIGMA2, ETA] = T @ np.sum(d * (0.5 - q) / v**2, axis=1)
    slab = (stats.n - r) / (2.0 * sigma2**2) - stats.rss / sigma2**3 + np.sum((0.5 - q) / v**2, axis=1)
    H[SIGMA2, SIGMA2] = T @ slab + (1.0 - T) @ (stats.n / (2.0 * sigma2**2) - stats.yy / sigma2**3)

    # T u1 u1' + (1-T) u0 u0' - s s' = T (1-T) (u1-u0) (u1-u0)'
    gap = u1 - u0
    return np.asarray(-(H + (gap.T * (T * (1.0 - T))) @ gap))


def _invert(
    stats: Statistics, whitening: Whitening, state: em.State, inner: list[str], snps: int
) -> tuple[Array, Array]:
    """Covariance of the ``inner`` parameters on their scales, and standard errors of beta (snp,) where it is sought."""
    J, r = observed_information(stats, state), len(state.gamma)
    known = state.tau1 > 0.0 and snps > 0
    place = {"tau1": 0, "eta": r + 1, "sigma2": r + 2}
    kept = [place[name] for name in inner] + list(range(1, r + 1)) * known
    # d theta / d (logit tau1, log eta, log sigma2); at a maximum the score is 0, and the scale's curvature with it
    slope = np.ones(r + 3)
    slope[[0, r + 1, r + 2]] = state.tau1 * (1.0 - state.tau1), state.eta, state.sigma2
    J = (J * slope[:, None] * slope)[np.ix_(kept, kept)]
    covariance = _inverse(J)
    if not known:
        return covariance, np.full(snps, np.nan)
    C = covariance[len(inner) :, len(inner) :]  # beta = L gamma
    return covariance, np.sqrt(_positive(np.einsum("jr,rs,js->j", whitening.L, C, whitening.L)))


def _inverse(J: Array) -> Array:
    """J^-1, nan where J is not that of a proper maximum: not positive definite on the parameter's own axis."""
    size = np.sqrt(np.abs(np.diag(J)))
    size = np.where(size > 0.0, size, 1.0)
    value, vector = np.linalg.eigh(J / np.outer(size, size))
    if len(value) == 0 or value[0] > SINGULAR * value[-1]:
        return np.asarray((vector / value) @ vector.T / np.outer(size, size))
    bad = np.abs(vector[:, value <= SINGULAR * value[-1]]).max(axis=1) > np.sqrt(SINGULAR)
    good = value > SINGULAR * value[-1]
    inverse = (vector[:, good] / value[good]) @ vector[:, good].T / np.outer(size, size)
    inverse[bad] = inverse[:, bad] = np.nan
    return np.asarray(inverse)


def _positive(x: Array) -> Array:
    return np.where(x > 0.0, x, np.nan)


# Differences of the bound --------------------------------------------------------------------------------------------

STEP = 1e-2
"""On the logit and log scales: differences err by its square, and the bound's rounding counts for nothing."""
MOST = 5000


def _bound_information(stats: Statistics, state: em.State, inner: list[str]) -> Array:
    """-d2 max_q bound / d (logit tau1, log eta, log sigma2, log kappa)2, those ``inner``, by central differences."""
    k = len(inner)
    J, step = np.empty((k, k)), STEP * np.eye(k)

    def at(shift: Array) -> float:
        return _bound(stats, state, dict(zip(inner, shift, strict=True)))

    centre = at(np.zeros(k))
    for i in range(k):
        J[i, i] = -(at(step[i]) - 2.0 * centre + at(-step[i])) / STEP**2
        for j in range(i):
            corners = at(step[i] + step[j]) - at(step[i] - step[j]) - at(step[j] - step[i]) + at(-step[i] - step[j])
            J[i, j] = J[j, i] = -corners / (4.0 * STEP**2)
    return J


def _bound(stats: Statistics, state: em.State, shift: dict[str, float]) -> float:
    """The bound maximised over q(gamma), with the parameters shifted on their scales."""
    tau1 = float(expit(logit(state.tau1) + shift["tau1"])) if "tau1" in shift else state.tau1
    eta, sigma2 = (getattr(state, name) * np.exp(shift.get(name, 0.0)) for name in ("eta", "sigma2"))
    kappa = state.belief.kappa * np.exp(shift.get("kappa", 0.0))
    moved = em.State(tau1, state.gamma, float(eta), float(sigma2), state.belief._replace(kappa=float(kappa)))
    return float(em.run(stats, moved, 0.0, MOST, learn=False)[1][-1])


def _believe(stats: Statistics, state: em.State, T: Array) -> em.State:
    """q(gamma) at the fit's parameters, from its responsibilities."""
    if state.tau1 == 0.0 or state.belief.kappa == 0.0:
        return state
    return em.run(stats, em.maximisation(stats, T, state, learn=False), 0.0, MOST, learn=False)[0]


# Words ---------------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    estimate: float
    se: float
    scale: str
    se_on_scale: float
    lower: float
    upper: float
    boundary: bool
    reason: str


def at_edge(tau1: float, tissues: int) -> bool:
    """Whether tau1 is 0 or 1, or as near as makes no difference: EM only tends to an edge."""
    return min(tau1, 1.0 - tau1) * tissues < EDGE


EDGE = 1e-3
"""Of a tissue."""


def _reasons(estimates: dict[str, float], tissues: int) -> dict[str, str]:
    """Why a parameter has no standard error, '' where it may have one."""
    tau1 = estimates["tau1"]
    reasons = dict.fromkeys(estimates, "")
    if at_edge(tau1, tissues):
        reasons["tau1"] = f"boundary: the estimate is {tau1:.0f}; see ebmodel.profile"
    for name in ("eta", "kappa"):
        if name in estimates and tau1 == 0.0:
            reasons[name] = "not identified: no tissue is active"
        elif estimates.get(name) == 0.0:
            reasons[name] = "boundary: the estimate is 0; see ebmodel.profile"
    return reasons


def _of_beta(state: em.State) -> str:
    return "not identified: no tissue is active" if state.tau1 == 0.0 else "no information: no active tissue tells it"


def _row(estimate: float, se: float, scale: str, reason: str, level: float) -> _Row:
    """One parameter, ``se`` being on its scale."""
    z = float(ndtri((1.0 + level) / 2.0))
    if not reason and np.isnan(se):
        reason = "no information: the likelihood does not fall on every side"
    if scale == "logit":
        own, ends = se * estimate * (1.0 - estimate), expit(_finite_logit(estimate) + z * se * np.array([-1.0, 1.0]))
    elif scale == "log":
        with np.errstate(over="ignore"):  # where hardly anything is known
            own, ends = se * estimate, estimate * np.exp(z * se * np.array([-1.0, 1.0]))
    else:
        own, ends = se, estimate + z * se * np.array([-1.0, 1.0])
    boundary = reason.startswith("boundary")
    return _Row(float(estimate), float(own), scale, float(se), float(ends[0]), float(ends[1]), boundary, reason)


def _finite_logit(tau1: float) -> float:
    return float(logit(tau1)) if 0.0 < tau1 < 1.0 else np.nan
