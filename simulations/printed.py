"""The paper's EM exactly as printed (Section 3): complete data, the paper's own coordinates, eta left free.

With betahat(t) = (X'X)^-1 X'Y(t) from (2) and H = X (X'X)^-1 X', one iteration is

    T_t    = tau1 g1(Y(t)) / (tau1 g1(Y(t)) + tau0 g0(Y(t)))
    tau1   = sum T_t / m
    beta   = sum T_t betahat(t) / sum T_t
    sigma2 = (sum |Y(t)|^2 - sum T_t Y(t)'H Y(t)) / (mn - p sum T_t)
    eta    = sum T_t (Y(t) - X beta)'H (Y(t) - X beta) / (p sum T_t) - sigma2

Nothing keeps eta >= 0, and without that bound the likelihood has no maximum: with one tissue alone on the slab beta is
that tissue's betahat(t) and sigma2 + eta, the variance of g1, falls to zero. `ebmodel.fit` imposes the bound; this
module is for seeing what the printed update does. The EM for missing responses is in a supplement, so there is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import expit

from ebmodel.errors import expect
from ebmodel.model import Array
from simulations.estimators import Estimate

__all__ = ["Printed", "Reduced", "Theta", "eb_printed", "iterate", "naive_start", "printed_em", "reduce"]

SINGULAR = 1e-10
"""Where (sigma2 + eta) / sigma2 is below this, rounding error is all that keeps the density g1 in existence."""
LOG_2PI = float(np.log(2.0 * np.pi))


class Theta(NamedTuple):
    """theta = (tau1, beta, eta, sigma2); eta may be negative, as it may in print."""

    tau1: float
    beta: Array
    eta: float
    sigma2: float


class Reduced(NamedTuple):
    """All that an iteration needs of X and Y."""

    n: int
    gram: Array
    """X'X, shape (snp, snp)."""
    ols: Array
    """betahat(t), equation (2), shape (tissue, snp)."""
    explained: Array
    """Y(t)'H Y(t), shape (tissue,)."""
    total: Array
    """|Y(t)|^2, shape (tissue,)."""


class Printed(NamedTuple):
    """Where the iteration ended: the last theta at which the densities exist, and the posterior there."""

    effects: Array
    """E(beta(t) | Y), equation (5), shape (tissue, snp)."""
    probability: Array
    """P(I(t)=1 | Y), shape (tissue,)."""
    theta: Theta
    loglik: float
    iterations: int
    negative_eta: int | None
    """The first iteration whose eta was negative; 0 is the start."""
    status: str
    """``converged``, ``iterations``, ``no density`` (sigma2 + eta <= 0) or ``empty slab`` (sum T_t = 0)."""


def reduce(X: Array, Y: Array) -> Reduced:
    """Reduce complete data to what the iteration needs.

    Parameters
    ----------
    X : (sample, snp)
        Of full column rank.
    Y : (sample, tissue)
        Without missing values.

    Raises
    ------
    InputError
        If responses are missing, or there are no more samples than SNPs.
    """
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    expect(bool(np.isfinite(Y).all()), "complete responses", "missing ones", "the printed EM", "use ebmodel.fit")
    expect(len(X) > X.shape[1], "more samples than SNPs", f"{len(X)} x {X.shape[1]}", "the printed EM", "drop SNPs")
    Q, R = np.linalg.qr(X)
    z = Q.T @ Y
    ols = np.linalg.solve(R, z).T
    return Reduced(len(X), X.T @ X, ols, np.sum(z**2, axis=0), np.sum(Y**2, axis=0))


def naive_start(X: Array, Y: Array) -> Theta:
    """The start one would write first: tau1 = 1/2, beta the mean of the OLS estimates, sigma2 and eta by moments."""
    return naive(reduce(X, Y))


def naive(data: Reduced) -> Theta:
    """`naive_start` from reduced data; eta is at least a tenth of sigma2."""
    m, p = data.ols.shape
    beta = data.ols.mean(axis=0)
    sigma2 = float((data.total - data.explained).sum()) / (m * (data.n - p))
    spread = float(_distance(data, beta).mean()) / p
    return Theta(0.5, beta, max(spread - sigma2, 0.1 * sigma2), sigma2)


def printed_em(
    X: Array, Y: Array, start: Theta, max_iter: int = 5000, tol: float = 1e-9, watch: str = "loglik"
) -> Printed:
    """Run the printed EM from ``start``.

    Parameters
    ----------
    X, Y : (sample, snp) and (sample, tissue)
        The data, complete.
    start
        Where to begin, for example `naive_start`.
    max_iter
        Iterations at most; 0 gives the posterior at the start.
    tol
        Stop when what is watched changes by less.
    watch
        ``"loglik"``: log p(Y). ``"parameters"``: the largest absolute change of tau1, beta, eta and sigma2.
    """
    return iterate(reduce(X, Y), start, max_iter, tol, watch)


def iterate(data: Reduced, start: Theta, max_iter: int = 5000, tol: float = 1e-9, watch: str = "loglik") -> Printed:
    """`printed_em` on reduced data."""
    expect(watch in ("loglik", "parameters"), "'loglik' or 'parameters'", watch, "the printed EM", "watch one of them")
    theta, status = start, "iterations"
    negative = 0 if start.eta < 0.0 else None
    T, loglik = e_step(data, theta)
    iteration = 0
    while iteration < max_iter:
        if T.sum() == 0.0:
            status = "empty slab"
            break
        last, last_loglik, theta = theta, loglik, m_step(data, T)
        iteration += 1
        if theta.eta < 0.0 and negative is None:
            negative = iteration
        if theta.sigma2 + theta.eta <= SINGULAR * theta.sigma2:
            theta, status = last, "no density"
            break
        T, loglik = e_step(data, theta)
        change = abs(loglik - last_loglik) if watch == "loglik" else _largest_change(theta, last)
        if change < tol:
            status = "converged"
            break
    return Printed(posterior_mean(data, theta, T), T, theta, loglik, iteration, negative, status)


def e_step(data: Reduced, theta: Theta) -> tuple[Array, float]:
    """T_t, shape (tissue,), and log p(Y)."""
    n, p = data.n, data.ols.shape[1]
    tau1, beta, eta, sigma2 = theta
    # log g1 = log psi(Y(t); X beta, sigma2 I + eta H): variance sigma2 + eta along the p directions of H, else sigma2
    log_g1 = -0.5 * (
        n * LOG_2PI
        + (n - p) * np.log(sigma2)
        + p * np.log(sigma2 + eta)
        + (data.total - data.explained) / sigma2
        + _distance(data, beta) / (sigma2 + eta)
    )
    log_g0 = -0.5 * (n * LOG_2PI + n * np.log(sigma2) + data.total / sigma2)  # log psi(Y(t); 0, sigma2 I)
    with np.errstate(divide="ignore"):
        slab, null = np.log(tau1) + log_g1, np.log1p(-tau1) + log_g0
    return expit(slab - null), float(np.logaddexp(slab, null).sum())


def m_step(data: Reduced, T: Array) -> Theta:
    """Update theta as printed."""
    m, p = data.ols.shape
    active = T.sum()
    tau1 = active / m
    beta = T @ data.ols / active
    sigma2 = (data.total.sum() - T @ data.explained) / (m * data.n - p * active)
    eta = T @ _distance(data, beta) / (p * active) - sigma2
    return Theta(float(tau1), beta, float(eta), float(sigma2))


def posterior_mean(data: Reduced, theta: Theta, T: Array) -> Array:
    """E(beta(t) | Y) = h1 (1/eta + 1/sigma2)^-1 (beta/eta + betahat(t)/sigma2), (5), whatever the sign of eta."""
    _, beta, eta, sigma2 = theta
    # both factors times eta sigma2, so that eta = 0 needs no limit
    return T[:, None] * (sigma2 * beta + eta * data.ols) / (sigma2 + eta)


def _distance(data: Reduced, beta: Array) -> Array:
    """(Y(t) - X beta)'H (Y(t) - X beta) = (betahat(t) - beta)'X'X (betahat(t) - beta), shape (tissue,)."""
    away = data.ols - beta
    return np.sum(away @ data.gram * away, axis=1)


def _largest_change(theta: Theta, last: Theta) -> float:
    moved = max(abs(theta.tau1 - last.tau1), abs(theta.eta - last.eta), abs(theta.sigma2 - last.sigma2))
    return max(moved, float(np.max(np.abs(theta.beta - last.beta))))


def eb_printed(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001 - nothing is random
    """The printed EM from the naive start as an estimator of a study; complete data only."""
    X, Y = data["X"].to_numpy(), data["Y"].to_numpy()
    end = printed_em(X, Y, naive_start(X, Y))
    facts = {
        "loglik": end.loglik,
        "tau1": end.theta.tau1,
        "eta": end.theta.eta,
        "sigma2": end.theta.sigma2,
        "iterations": float(end.iterations),
        "negative_eta": float(end.negative_eta is not None),
        "broke": float(end.status == "no density"),
    }
    return Estimate(end.effects, end.probability, facts=facts)
