"""The dense twin: the paper's formulas as printed, with n x n matrices, to be read beside the paper and tested against.

It shares nothing with the fast code but the definitions in `ebmodel.model`. Every function takes ``X`` (n, p), ``Y``
(n, m) with NaN where missing, optionally covariates ``C`` (n, k), and ``Params``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.linalg import null_space
from scipy.special import expit, logsumexp

from ebmodel.model import Array, Params

__all__ = [
    "em",
    "em_step",
    "em_step_missing",
    "log_bayes_factor",
    "log_density",
    "log_null",
    "log_slab",
    "loglik",
    "loglik_enumerated",
    "moments",
    "posterior_probability",
    "slab_shape",
]


def slab_shape(X: Array, params: Params, C: Array | None = None) -> Array:
    """Sigma0 (p, p): (X'X/s)^-alpha on X's row space, over ALL n rows, or the matrix that was given."""
    if np.ndim(params.slab) == 2:
        return np.asarray(params.slab, dtype=float)
    if params.alpha == 0.0:
        return np.eye(X.shape[1])
    if C is not None and C.size:
        X = X - C @ np.linalg.lstsq(C, X)[0]
    rank = np.linalg.matrix_rank(X)
    _, root, vector = np.linalg.svd(X)
    value, vector = root[:rank] ** 2, vector[:rank].T  # the eigenvalues of X'X that are not zero, and their vectors
    s = 1.0 if params.slab == "g" else value.mean()
    return np.asarray((vector * (value / s) ** -params.alpha) @ vector.T)


def tissues(X: Array, Y: Array, C: Array | None = None) -> Iterator[tuple[Array, Array]]:
    """(X_t, y_t) of every tissue: its observed rows, in the contrasts K_t (K_t'C_t = 0, K_t'K_t = I) that C leaves."""
    for y in Y.T:
        rows = ~np.isnan(y)
        K = np.eye(rows.sum()) if C is None or not C.size else null_space(C[rows].T)
        yield K.T @ X[rows], K.T @ y[rows]


def log_density(y: Array, mean: Array, covariance: Array) -> float:
    """Log of the multivariate normal density psi(y; mean, covariance)."""
    log_det = np.linalg.slogdet(covariance)[1]
    return float(-0.5 * (len(y) * np.log(2 * np.pi) + log_det + (y - mean) @ np.linalg.solve(covariance, y - mean)))


def log_null(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """Spike: log g0 = log psi(y_t; 0, sigma2 I), shape (m,)."""
    data = tissues(X, Y, C)
    return np.array([log_density(y, 0 * y, params.sigma2 * np.eye(len(y))) for _, y in data])


def log_slab(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """Slab: log g1 = log psi(y_t; X_t beta, sigma2 I + eta H_t), H_t = X_t Sigma0 X_t', shape (m,)."""
    Sigma0, beta = slab_shape(X, params, C), np.asarray(params.beta)
    log_g1 = []
    for X_t, y in tissues(X, Y, C):
        H_t = X_t @ Sigma0 @ X_t.T
        log_g1.append(log_density(y, X_t @ beta, params.sigma2 * np.eye(len(y)) + params.eta * H_t))
    return np.array(log_g1)


def log_bayes_factor(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """Bayes factors, H0 over H1: log K_t = log g0 - log g1 (6), shape (m,)."""
    return log_null(X, Y, params, C) - log_slab(X, Y, params, C)


def posterior_probability(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """P(I(t)=1 | Y) = 1/(1 + O_t), O_t = K_t tau0/tau1 (7), shape (m,)."""
    with np.errstate(divide="ignore"):
        log_odds = np.log(params.tau1) - np.log(params.tau0) - log_bayes_factor(X, Y, params, C)
    return np.asarray(expit(log_odds))


def moments(X: Array, Y: Array, params: Params, C: Array | None = None) -> tuple[Array, Array]:
    """Mean (m, p) and covariance (m, p, p) of beta(t) | I(t)=1, y_t: equations (5) and (11).

    (5) is (11) with X_t = X; it is written here with Sigma0 (X_t Sigma0 X_t' eta + sigma2 I)^-1, which needs no inverse
    of X_t'X_t or Sigma0 and so holds for n_t < p and collinear SNPs too.
    """
    Sigma0, beta = slab_shape(X, params, C), np.asarray(params.beta)
    means, covariances = [], []
    for X_t, y in tissues(X, Y, C):
        Omega = params.sigma2 * np.eye(len(y)) + params.eta * X_t @ Sigma0 @ X_t.T
        gain = params.eta * Sigma0 @ X_t.T @ np.linalg.inv(Omega)
        means.append(beta + gain @ (y - X_t @ beta))
        covariances.append(params.eta * (Sigma0 - gain @ X_t @ Sigma0))
    return np.array(means), np.array(covariances)


def loglik(X: Array, Y: Array, params: Params, C: Array | None = None) -> float:
    """Log-likelihood: log p(Y) = sum_t log(tau1 g1 + tau0 g0)."""
    with np.errstate(divide="ignore"):
        slab = np.log(params.tau1) + log_slab(X, Y, params, C)
        null = np.log(params.tau0) + log_null(X, Y, params, C)
    return float(np.logaddexp(slab, null).sum())


def loglik_enumerated(X: Array, Y: Array, params: Params, C: Array | None = None) -> tuple[float, Array]:
    """Brute force: log p(Y) and P(I(t)=1 | Y), summing over every I in {0,1}^m, 2^m terms."""
    log_g = np.stack([log_null(X, Y, params, C), log_slab(X, Y, params, C)])
    with np.errstate(divide="ignore"):
        log_tau = np.log([params.tau0, params.tau1])
    every = np.array(list(product([0, 1], repeat=Y.shape[1])))
    joint = np.array([sum(log_tau[i] + log_g[i, t] for t, i in enumerate(I)) for I in every])
    total = float(logsumexp(joint))
    return total, np.exp(joint - total) @ every


def em_step(X: Array, Y: Array, params: Params) -> Params:
    """One EM iteration for complete data and the paper's slab, exactly as published in Section 3; eta is not bounded.

    Raises a ``ValueError`` from ``Params`` where the published eta comes out negative.
    """
    n, m = Y.shape
    p = X.shape[1]
    H = X @ np.linalg.inv(X.T @ X) @ X.T
    beta_hat = np.linalg.inv(X.T @ X) @ X.T @ Y  # (2)
    T = posterior_probability(X, Y, params)
    beta = beta_hat @ T / T.sum()
    sigma2 = (np.sum(Y**2) - sum(T[t] * Y[:, t] @ H @ Y[:, t] for t in range(m))) / (m * n - p * T.sum())
    R = Y - (X @ beta)[:, None]
    eta = sum(T[t] * R[:, t] @ H @ R[:, t] for t in range(m)) / (p * T.sum()) - sigma2
    return Params(tau1=T.mean(), beta=beta, eta=eta, sigma2=sigma2)


def em_step_missing(X: Array, Y: Array, params: Params, C: Array | None = None) -> Params:
    """One EM iteration for any slab and missing responses, with beta(t) latent too: closed forms, slow as eta -> 0."""
    T = posterior_probability(X, Y, params, C)
    mean, covariance = moments(X, Y, params, C)
    Sigma0 = slab_shape(X, params, C)
    Sigma0_inverse, rank = np.linalg.pinv(Sigma0, rtol=1e-12), np.linalg.matrix_rank(Sigma0, rtol=1e-12)
    beta = T @ mean / T.sum()
    squares = spread = n = 0.0
    for t, (X_t, y) in enumerate(tissues(X, Y, C)):
        residual, deviation = y - X_t @ mean[t], mean[t] - beta
        explained = residual @ residual + np.trace(X_t @ covariance[t] @ X_t.T)
        squares += (1 - T[t]) * y @ y + T[t] * explained  # E |y_t - X_t beta(t)|^2
        spread += T[t] * (deviation @ Sigma0_inverse @ deviation + np.trace(Sigma0_inverse @ covariance[t]))
        n += len(y)
    return Params(tau1=T.mean(), beta=beta, eta=spread / (rank * T.sum()), sigma2=squares / n, slab=params.slab)


def em(X: Array, Y: Array, start: Params, C: Array | None = None, tol: float = 1e-6, max_iter: int = 10_000) -> Params:
    """EM from one start until log p(Y) gains less than ``tol`` in an iteration."""
    params, value = start, loglik(X, Y, start, C)
    for _ in range(max_iter):
        params = em_step_missing(X, Y, params, C)
        last, value = value, loglik(X, Y, params, C)
        if value - last < tol:
            break
    return params
