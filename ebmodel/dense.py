"""The dense twin: the paper's formulas as printed, with n x n matrices, to be read beside the paper and tested against.

It shares nothing with the fast code but the definitions in `ebmodel.model`. Every function takes ``X`` (n, p), ``Y``
(n, m) with NaN where missing, optionally covariates ``C`` (n, k), and ``Params``; sigma2_t is sigma2 in all tissues
unless these give their ``relative_variance``.

Where beta is a parameter, tissues are independent and the posterior is exact. Where it has the prior (H) it couples
them: `evidence_enumerated` is the exact posterior, a sum over every I in {0,1}^m, and the functions named
``variational`` are what stands in for it where m is too large: q(beta) prod_t q(I(t)) q(beta(t) | beta, I(t)), with
q(beta) = N(mu, S), q(I(t)=1) = T_t, and the last factor exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.linalg import null_space
from scipy.special import entr, expit, logsumexp, xlogy

from ebmodel.errors import InputError
from ebmodel.model import Array, Params

__all__ = [
    "Exact",
    "Variational",
    "em",
    "em_step",
    "em_step_missing",
    "error_variances",
    "evidence_enumerated",
    "log_bayes_factor",
    "log_density",
    "log_null",
    "log_slab",
    "loglik",
    "loglik_enumerated",
    "moments",
    "posterior_probability",
    "slab_shape",
    "variational_bound",
    "variational_mean",
    "variational_moments",
    "variational_probability",
    "variational_step",
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


def error_variances(Y: Array, params: Params) -> Array:
    """sigma2_t of every tissue, equation (E), shape (m,)."""
    return np.array(np.broadcast_to(np.asarray(params.error_variance, dtype=float), Y.shape[1]))


def log_density(y: Array, mean: Array, covariance: Array) -> float:
    """Log of the multivariate normal density psi(y; mean, covariance)."""
    log_det = np.linalg.slogdet(covariance)[1]
    return float(-0.5 * (len(y) * np.log(2 * np.pi) + log_det + (y - mean) @ np.linalg.solve(covariance, y - mean)))


def log_null(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """Spike: log g0 = log psi(y_t; 0, sigma2_t I), shape (m,)."""
    data = zip(error_variances(Y, params), tissues(X, Y, C), strict=True)
    return np.array([log_density(y, 0 * y, sigma2 * np.eye(len(y))) for sigma2, (_, y) in data])


def log_slab(X: Array, Y: Array, params: Params, C: Array | None = None) -> Array:
    """Slab: log g1 = log psi(y_t; X_t beta, sigma2_t I + eta H_t), H_t = X_t Sigma0 X_t', shape (m,)."""
    Sigma0, beta = slab_shape(X, params, C), np.asarray(params.beta)
    log_g1 = []
    for sigma2, (X_t, y) in zip(error_variances(Y, params), tissues(X, Y, C), strict=True):
        H_t = X_t @ Sigma0 @ X_t.T
        log_g1.append(log_density(y, X_t @ beta, sigma2 * np.eye(len(y)) + params.eta * H_t))
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

    (5) is (11) with X_t = X; it is written here with Sigma0 (X_t Sigma0 X_t' eta + sigma2_t I)^-1, which needs no
    inverse of X_t'X_t or Sigma0 and so holds for n_t < p and collinear SNPs too.
    """
    Sigma0, beta = slab_shape(X, params, C), np.asarray(params.beta)
    means, covariances = [], []
    for sigma2, (X_t, y) in zip(error_variances(Y, params), tissues(X, Y, C), strict=True):
        Omega = sigma2 * np.eye(len(y)) + params.eta * X_t @ Sigma0 @ X_t.T
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
    """Brute force: log p(Y) and P(I(t)=1 | Y) (m,), summing over every I in {0,1}^m, 2^m terms."""
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
    """One EM iteration for any slab and missing responses, with beta(t) latent too: closed forms, slow as eta -> 0.

    Where tissues have error variances of their own, sigma2_t = E |y_t - X_t beta(t)|^2 / n_t.
    """
    T = posterior_probability(X, Y, params, C)
    mean, covariance = moments(X, Y, params, C)
    Sigma0 = slab_shape(X, params, C)
    Sigma0_inverse, rank = np.linalg.pinv(Sigma0, rtol=1e-12), np.linalg.matrix_rank(Sigma0, rtol=1e-12)
    beta = T @ mean / T.sum()
    squares, spread, n = np.zeros(len(T)), 0.0, np.zeros(len(T))
    for t, (X_t, y) in enumerate(tissues(X, Y, C)):
        residual, deviation = y - X_t @ mean[t], mean[t] - beta
        explained = residual @ residual + np.trace(X_t @ covariance[t] @ X_t.T)
        squares[t] = (1 - T[t]) * y @ y + T[t] * explained  # E |y_t - X_t beta(t)|^2
        spread += T[t] * (deviation @ Sigma0_inverse @ deviation + np.trace(Sigma0_inverse @ covariance[t]))
        n[t] = len(y)
    sigma2, omega = _error_variance(squares, n, params)
    eta = spread / (rank * T.sum())
    return Params(tau1=T.mean(), beta=beta, eta=eta, sigma2=sigma2, slab=params.slab, relative_variance=omega)


def _error_variance(squares: Array, n: Array, params: Params) -> tuple[float, Array | None]:
    """sigma2 = sum_t squares_t / sum_t n_t, and omega_t = (squares_t/n_t) / sigma2 where tissues have their own."""
    sigma2 = float(squares.sum() / n.sum())
    own = np.divide(squares, n * sigma2, out=np.ones(len(n)), where=n > 0)
    return sigma2, None if params.relative_variance is None else own


def em(X: Array, Y: Array, start: Params, C: Array | None = None, tol: float = 1e-6, max_iter: int = 10_000) -> Params:
    """EM from one start until log p(Y) gains less than ``tol`` in an iteration."""
    params, value = start, loglik(X, Y, start, C)
    for _ in range(max_iter):
        params = em_step_missing(X, Y, params, C)
        last, value = value, loglik(X, Y, params, C)
        if value - last < tol:
            break
    return params


# A mean with a prior of its own: beta ~ N(0, kappa Sigma0), equation (H) ----------------------------------------------


class Exact(NamedTuple):
    """The exact posterior under (H), all of it over every I in {0,1}^m."""

    log_evidence: float
    """log p(Y)."""
    posterior_probability: Array
    """P(I(t)=1 | Y), (m,)."""
    effects: Array
    """E(beta(t) | Y), (m, p)."""
    effects_sd: Array
    """Sd of beta(t) | Y, (m, p)."""
    beta: Array
    """E(beta | Y), (p,)."""
    beta_sd: Array
    """Sd of beta | Y, (p,)."""


class Variational(NamedTuple):
    """Where a step of the variational EM arrives: the parameters, and q."""

    params: Params
    """theta after the step, kappa included."""
    T: Array
    """q(I(t)=1), (m,)."""
    mu: Array
    """Mean of q(beta), (p,)."""
    S: Array
    """Covariance of q(beta), (p, p)."""


def evidence_enumerated(X: Array, Y: Array, params: Params, C: Array | None = None) -> Exact:
    """Brute force for (H): the posterior with beta integrated out, summing over every I in {0,1}^m, 2^m terms.

    Given I, beta and the responses are jointly normal. With Omega_t = sigma2_t I + eta X_t Sigma0 X_t' and sums over
    the active tissues, P = sum_t X_t'Omega_t^-1 X_t and h = sum_t X_t'Omega_t^-1 y_t,

        beta | I, Y ~ N(S h, S),    S = (P + (kappa Sigma0)^-1)^-1 = kappa Sigma0 (I + P kappa Sigma0)^-1
        p(Y | I) = p(Y | I, beta=0) |I + P kappa Sigma0|^-1/2 exp(h'S h/2)

    ``params.beta`` plays no part. With kappa = 0 beta is 0, and log p(Y) is `loglik` there. Where no data see a
    direction of beta, its prior is kept.

    Raises
    ------
    InputError
        If ``params.kappa`` is None.
    """
    prior, m = _prior(X, params, C), Y.shape[1]
    every = np.array(list(product([0.0, 1.0], repeat=m)))  # (2^m, m)
    P_t, h_t, log_g1 = _evidence(X, Y, params, C)
    log_g0 = log_null(X, Y, params, C)
    P, h = np.einsum("It,tij->Iij", every, P_t), every @ h_t
    A = np.eye(len(prior)) + P @ prior
    S = prior @ np.linalg.inv(A)
    mean = np.einsum("Iij,Ij->Ii", S, h)  # E(beta | I, Y)
    with np.errstate(divide="ignore"):
        log_tau1, log_tau0 = np.log(params.tau1), np.log(params.tau0)
    joint = np.sum(np.where(every == 1.0, log_tau1 + log_g1, log_tau0 + log_g0), axis=1)
    joint += 0.5 * (np.sum(h * mean, axis=1) - np.linalg.slogdet(A)[1])  # log p(Y, I)
    total = float(logsumexp(joint))
    weight = np.exp(joint - total)  # P(I | Y)

    effects, squares = [], []
    for t, (shift, G, V) in enumerate(_given_beta(X, Y, params, C)):
        active = weight * every[:, t]
        centre = shift + mean @ G.T  # E(beta(t) | I(t)=1, the rest of I, Y)
        spread = np.diag(V) + np.einsum("ij,Ijk,ik->Ii", G, S, G)
        effects.append(active @ centre)
        squares.append(active @ (centre**2 + spread))
    beta = weight @ mean
    beta_variance = weight @ ((mean - beta) ** 2 + np.einsum("Iii->Ii", S))
    variance = np.maximum(np.array(squares) - np.array(effects) ** 2, 0.0)
    probability = np.minimum(weight @ every, 1.0)  # rounding
    return Exact(total, probability, np.array(effects), np.sqrt(variance), beta, np.sqrt(beta_variance))


def variational_bound(
    X: Array, Y: Array, params: Params, T: Array, mu: Array, S: Array, C: Array | None = None
) -> float:
    """Lower bound on log p(Y) by q: sum_t E log p(y_t, I(t) | beta) - E log q(I(t)), less KL(q(beta) || prior).

    At the best T, `variational_probability`, the sum is sum_t log(tau1 e^{E log g1} + tau0 g0).

    Raises
    ------
    InputError
        If ``params.kappa`` is None.
    """
    log_g1, log_g0 = _expected_log_slab(X, Y, params, mu, S, C), log_null(X, Y, params, C)
    joint = xlogy(T, params.tau1) + xlogy(1 - T, params.tau0) + T * log_g1 + (1 - T) * log_g0
    entropy = entr(T) + entr(1 - T)
    return float(np.sum(joint + entropy)) - _divergence(_prior(X, params, C), mu, S)


def variational_probability(X: Array, Y: Array, params: Params, mu: Array, S: Array, C: Array | None = None) -> Array:
    """The best q(I(t)=1) given q(beta): T_t = tau1 e^{E log g1} / (tau1 e^{E log g1} + tau0 g0), shape (m,)."""
    with np.errstate(divide="ignore"):
        log_odds = np.log(params.tau1) - np.log(params.tau0)
    return np.asarray(expit(log_odds + _expected_log_slab(X, Y, params, mu, S, C) - log_null(X, Y, params, C)))


def variational_mean(X: Array, Y: Array, params: Params, T: Array, C: Array | None = None) -> tuple[Array, Array]:
    """The best q(beta) = N(mu, S) given q(I): S = (sum_t T_t P_t + (kappa Sigma0)^-1)^-1, mu = S sum_t T_t h_t.

    P_t = X_t'Omega_t^-1 X_t and h_t = X_t'Omega_t^-1 y_t, as in `evidence_enumerated`; mu (p,) and S (p, p).

    Raises
    ------
    InputError
        If ``params.kappa`` is None.
    """
    prior = _prior(X, params, C)
    P_t, h_t, _ = _evidence(X, Y, params, C)
    S = prior @ np.linalg.inv(np.eye(len(prior)) + np.einsum("t,tij->ij", T, P_t) @ prior)
    return S @ (T @ h_t), (S + S.T) / 2


def variational_moments(
    X: Array, Y: Array, params: Params, mu: Array, S: Array, C: Array | None = None
) -> tuple[Array, Array]:
    """Mean (m, p) and covariance (m, p, p) of beta(t) | I(t)=1 under q: `moments`, with beta ~ N(mu, S)."""
    found = [(shift + G @ mu, V + G @ S @ G.T) for shift, G, V in _given_beta(X, Y, params, C)]
    means, covariances = zip(*found, strict=True)
    return np.array(means), np.array(covariances)


def variational_step(X: Array, Y: Array, params: Params, mu: Array, S: Array, C: Array | None = None) -> Variational:
    """One step of the variational EM: q(I), then q(beta), then the parameters; the bound does not fall.

        T_t as in `variational_probability`,  (mu, S) as in `variational_mean`,  tau1 = sum_t T_t / m
        kappa  = E beta'Sigma0^-1 beta / rank Sigma0
        eta    = sum_t T_t E (beta(t)-beta)'Sigma0^-1(beta(t)-beta) / (rank Sigma0 sum_t T_t)
        sigma2 = sum_t E |y_t - X_t beta(t)|^2 / sum_t n_t, and sigma2_t likewise where tissues have their own

    As in `em_step_missing` beta(t) is latent too: closed forms, slow as eta -> 0.

    Raises
    ------
    InputError
        If ``params.kappa`` is None.
    """
    T = variational_probability(X, Y, params, mu, S, C)
    mu, S = variational_mean(X, Y, params, T, C)
    means, covariances = variational_moments(X, Y, params, mu, S, C)
    Sigma0 = slab_shape(X, params, C)
    inverse, rank = np.linalg.pinv(Sigma0, rtol=1e-12), np.linalg.matrix_rank(Sigma0, rtol=1e-12)
    squares, spread, n = np.zeros(len(T)), 0.0, np.zeros(len(T))
    given_beta = _given_beta(X, Y, params, C)
    for t, ((X_t, y), (_, G, V)) in enumerate(zip(tissues(X, Y, C), given_beta, strict=True)):
        residual, deviation, gain = y - X_t @ means[t], means[t] - mu, G - np.eye(len(G))
        explained = residual @ residual + np.trace(X_t @ covariances[t] @ X_t.T)
        squares[t] = (1 - T[t]) * y @ y + T[t] * explained
        spread += T[t] * (deviation @ inverse @ deviation + np.trace(inverse @ (V + gain @ S @ gain.T)))
        n[t] = len(y)
    kappa = (mu @ inverse @ mu + np.trace(inverse @ S)) / rank
    eta, (sigma2, omega) = spread / (rank * T.sum()), _error_variance(squares, n, params)
    theta = {"tau1": T.mean(), "beta": mu, "eta": eta, "sigma2": sigma2, "kappa": kappa}
    return Variational(Params(**theta, slab=params.slab, relative_variance=omega), T, mu, S)


def _prior(X: Array, params: Params, C: Array | None) -> Array:
    """kappa Sigma0, the covariance of beta's prior (p, p)."""
    if params.kappa is None:
        raise InputError("a scale kappa of beta's prior", "None", "params.kappa", "give Params(..., kappa=...)")
    return params.kappa * slab_shape(X, params, C)


def _evidence(X: Array, Y: Array, params: Params, C: Array | None) -> tuple[Array, Array, Array]:
    """What every tissue, if active, says of beta: P_t (m, p, p), h_t (m, p), and log psi(y_t; 0, Omega_t) (m,).

    log g1 = log psi(y_t; 0, Omega_t) + h_t'beta - beta'P_t beta/2.
    """
    Sigma0 = slab_shape(X, params, C)
    P, h, log_g1 = [], [], []
    for sigma2, (X_t, y) in zip(error_variances(Y, params), tissues(X, Y, C), strict=True):
        Omega = sigma2 * np.eye(len(y)) + params.eta * X_t @ Sigma0 @ X_t.T
        P.append(X_t.T @ np.linalg.inv(Omega) @ X_t)
        h.append(X_t.T @ np.linalg.inv(Omega) @ y)
        log_g1.append(log_density(y, 0 * y, Omega))
    return np.array(P), np.array(h), np.array(log_g1)


def _given_beta(X: Array, Y: Array, params: Params, C: Array | None) -> Iterator[tuple[Array, Array, Array]]:
    """(a, G, V) of every tissue: beta(t) | I(t)=1, beta, y_t ~ N(a + G beta, V), which is (11) as `moments` has it."""
    Sigma0 = slab_shape(X, params, C)
    for sigma2, (X_t, y) in zip(error_variances(Y, params), tissues(X, Y, C), strict=True):
        Omega = sigma2 * np.eye(len(y)) + params.eta * X_t @ Sigma0 @ X_t.T
        gain = params.eta * Sigma0 @ X_t.T @ np.linalg.inv(Omega)
        yield gain @ y, np.eye(len(Sigma0)) - gain @ X_t, params.eta * (Sigma0 - gain @ X_t @ Sigma0)


def _expected_log_slab(X: Array, Y: Array, params: Params, mu: Array, S: Array, C: Array | None) -> Array:
    """E log g1 under q(beta) = N(mu, S): log psi(y_t; X_t mu, Omega_t) - tr(X_t'Omega_t^-1 X_t S)/2, shape (m,)."""
    P_t, h_t, log_g1 = _evidence(X, Y, params, C)
    return np.asarray(log_g1 + h_t @ mu - 0.5 * np.einsum("tij,ij->t", P_t, np.outer(mu, mu) + S))


def _divergence(prior: Array, mu: Array, S: Array) -> float:
    """KL(N(mu, S) || N(0, prior)), on the range of the prior; 0 where that is the point 0, as q then is."""
    values, vectors = np.linalg.eigh(prior)
    seen = values > 1e-12 * values.max()
    K, B = values[seen], vectors[:, seen]  # the prior in coordinates of its range: diag(K)
    mu, S = B.T @ mu, B.T @ S @ B
    log_det = np.sum(np.log(K)) - np.linalg.slogdet(S)[1]
    return 0.5 * float(np.sum(np.diag(S) / K) + np.sum(mu**2 / K) - len(K) + log_det)
