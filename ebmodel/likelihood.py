"""Marginal likelihoods of a tissue with its effects integrated out, and Bayes factors, on whitened statistics.

With gamma the whitened mean effect, a_t = V_t'gamma and d_t > 0,

    b_t | I(t)=1 ~ N(a_t, diag(eta + sigma2/d_t)),     b_t | I(t)=0 ~ N(0, diag(sigma2/d_t)),     rss_t ~ sigma2 chi2
"""

from __future__ import annotations

import numpy as np

from ebmodel.kernel import kernel
from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = ["KNOWN", "LOG_2PI", "log_bayes_factor", "log_null", "log_slab", "rotate", "rotate_back"]

LOG_2PI = float(np.log(2 * np.pi))
"""log 2 pi."""
KNOWN = np.zeros((0, 0))
"""The variance of a mean that is a number."""


@kernel
def rotate(stats: Statistics, gamma: Array) -> Array:
    """V_k'gamma for every pattern, shape (pattern, rank)."""
    a = np.zeros(stats.d.shape)
    for k in range(len(a)):
        V, row = stats.V[k], a[k]
        for i in range(len(row)):
            for j in range(len(row)):
                row[j] += gamma[i] * V[i, j]
    return a


@kernel
def rotate_back(stats: Statistics, u: Array) -> Array:
    """Sum of V_k u_k over patterns, shape (rank,)."""
    rank = u.shape[1]
    products = np.zeros((rank, rank))  # summed over patterns first: elementwise, so that the compiler can use SIMD
    for k in range(len(u)):
        V, row = stats.V[k], u[k]
        for i in range(rank):
            for j in range(rank):
                products[i, j] += V[i, j] * row[j]
    total = np.zeros(rank)
    for i in range(rank):
        for j in range(rank):
            total[i] += products[i, j]
    return total


@kernel
def log_null(stats: Statistics, sigma2: float) -> Array:
    """log g0 = log N(y_t; 0, sigma2 I), shape (tissue,). Numerator of equation (6)."""
    log_g0 = np.empty(len(stats.n))
    log_sigma2 = LOG_2PI + np.log(sigma2)
    for t in range(len(log_g0)):
        log_g0[t] = -0.5 * (stats.n[t] * log_sigma2 + stats.yy[t] / sigma2)
    return log_g0


@kernel
def log_slab(stats: Statistics, gamma: Array, eta: float, sigma2: float, variance: Array = KNOWN) -> Array:
    """log g1 = log N(y_t; X_t beta, sigma2 I + eta H_t), shape (tissue,). Denominator of equation (6).

    Where gamma is latent, with that mean and ``variance`` (pattern, rank) of V_k'gamma, it is E log g1, in which
    (b - a)^2 is (b - E a)^2 + var a.

    The determinant and the quadratic form come from the eigenvalues sigma2 + eta d and, n - rank times, sigma2.
    """
    a, (patterns, rank) = rotate(stats, gamma), stats.d.shape
    weight = np.empty((patterns, rank))
    log_det = np.zeros(patterns)
    for k in range(patterns):
        log_det[k] = log_product(stats.d[k], eta / sigma2)
        for j in range(rank):
            weight[k, j] = stats.d[k, j] / (sigma2 + eta * stats.d[k, j])
            if variance.size:
                log_det[k] += weight[k, j] * variance[k, j]
    log_g1 = np.empty(len(stats.n))
    log_sigma2 = LOG_2PI + np.log(sigma2)
    for t in range(len(log_g1)):
        k = stats.pattern[t]
        # d (b - a)^2 / (sigma2 + eta d)
        quadratic = stats.rss[t] / sigma2 + weighted_distance(weight[k], stats.b[t], a[k])
        log_g1[t] = -0.5 * (stats.n[t] * log_sigma2 + log_det[k] + quadratic)
    return log_g1


@kernel
def log_product(d: Array, phi: float) -> float:
    """Sum of log(1 + phi d), one logarithm for eight factors."""
    total = 0.0
    for i in range(0, len(d), 8):
        product = 1.0
        for j in range(i, min(i + 8, len(d))):
            product *= 1.0 + phi * d[j]
        total += np.log(product)
    return total


@kernel
def weighted_distance(weight: Array, b: Array, a: Array) -> float:
    """Sum of weight (b - a)^2."""
    total = 0.0
    for j in range(len(weight)):
        total += weight[j] * (b[j] - a[j]) ** 2
    return total


def log_bayes_factor(stats: Statistics, gamma: Array, eta: float, sigma2: float, variance: Array = KNOWN) -> Array:
    """log K_t = log g0 - log g1, shape (tissue,). Equation (6): H0 over H1.

    Where gamma is latent, with ``variance`` as in `log_slab`, it has E log g1.
    """
    return log_null(stats, sigma2) - log_slab(stats, gamma, eta, sigma2, variance)
