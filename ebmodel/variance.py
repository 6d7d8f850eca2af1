"""The M-step's variances: (eta, sigma2) that maximise Q given the responsibilities and the slab's mean.

With phi = eta/sigma2 >= 0 and v_t = var(V_t'gamma), zero where the mean is a parameter,

    sigma2(phi) = sum_t [ (1-T_t)|y_t|^2 + T_t (rss_t + sum d ((b-a)^2 + v)/(1 + phi d)) ] / sum_t n_t

and phi is the root of a one-dimensional profile.
"""

from __future__ import annotations

import numpy as np

from ebmodel.kernel import kernel
from ebmodel.likelihood import KNOWN, log_product, rotate
from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = ["slab_and_error_variance"]


@kernel
def slab_and_error_variance(
    stats: Statistics, T: Array, gamma: Array, phi: float, variance: Array = KNOWN
) -> tuple[float, float]:
    """(eta, sigma2) that maximise Q given T and gamma, from the profile in phi = eta/sigma2 >= 0.

    ``variance`` (pattern, rank) is that of V_k'gamma, where gamma is not known.
    """
    a, (patterns, rank) = rotate(stats, gamma), stats.d.shape
    total = np.zeros(patterns)  # sum of T over the pattern's tissues
    pooled = np.zeros((patterns, rank))  # the same of T d (b - a)^2
    fixed = 0.0  # sums of squares that eta cannot explain: null tissues and residuals
    for t in range(len(T)):
        k = stats.pattern[t]
        total[k] += T[t]
        fixed += (1.0 - T[t]) * stats.yy[t] + T[t] * stats.rss[t]
        row, d, b, centre = pooled[k], stats.d[k], stats.b[t], a[k]
        for j in range(rank):
            row[j] += T[t] * d[j] * (b[j] - centre[j]) ** 2
    if variance.size:
        for k in range(patterns):
            for j in range(rank):
                pooled[k, j] += total[k] * stats.d[k, j] * variance[k, j]  # E (b - a)^2 = (b - E a)^2 + var a
    n, scale = float(np.sum(stats.n)), float(np.mean(stats.d))
    x = _root(total, pooled, stats.d, fixed, n, scale, 1.0 / (1.0 + phi * scale))
    best = (1.0 / x - 1.0) / scale
    before = _profile(total, pooled, stats.d, fixed, n, phi)
    # by more than rounding: at its top the profile is flat, and the root is the better known of the two
    if _profile(total, pooled, stats.d, fixed, n, best) < before - ROUNDING * abs(before):
        best = phi
    explained = 0.0
    for k in range(patterns):
        for j in range(rank):
            explained += pooled[k, j] / (1.0 + best * stats.d[k, j])
    # sum [ (1-T)|y|^2 + T (rss + sum d (b-a)^2/(1 + phi d)) ] / sum n; for d = 1 the published update, given eta >= 0
    sigma2 = (fixed + explained) / n
    return best * sigma2, sigma2


ROUNDING = 1e-14
"""Relative differences of the profile below this say nothing."""


@kernel
def _profile(total: Array, pooled: Array, d: Array, fixed: float, n: float, phi: float) -> float:
    """2 max_sigma2 Q(phi, sigma2), up to a constant."""
    log_det, squares = 0.0, fixed
    for k in range(d.shape[0]):
        log_det += total[k] * log_product(d[k], phi)
        for j in range(d.shape[1]):
            squares += pooled[k, j] / (1.0 + phi * d[k, j])
    return float(-n * np.log(squares) - log_det)


@kernel
def _slope(total: Array, pooled: Array, d: Array, fixed: float, n: float, scale: float, x: float) -> float:
    """The profile's derivative in phi times a positive factor: linear in x = 1/(1 + phi scale) where d = 1."""
    phi, rank = (1.0 / x - 1.0) / scale, d.shape[1]
    sums = np.zeros((3, rank))  # over patterns first, as in `rotate_back`
    log_det, A, B = sums[0], sums[1], sums[2]
    for k in range(len(d)):
        for j in range(rank):
            u = 1.0 / (1.0 + phi * d[k, j])
            log_det[j] += total[k] * d[k, j] * u
            A[j] += pooled[k, j] * u
            B[j] += pooled[k, j] * d[k, j] * u * u
    return float((n * np.sum(B) - np.sum(log_det) * (fixed + np.sum(A))) / x)


@kernel
def _root(total: Array, pooled: Array, d: Array, fixed: float, n: float, scale: float, x: float) -> float:
    """The root of `_slope` uphill of x, in (0, 1]; 1 (eta = 0) where the profile rises towards it. Illinois method."""
    f = _slope(total, pooled, d, fixed, n, scale, x)
    low = high = x
    f_low = f_high = f
    while f_low >= 0.0:  # uphill is towards larger phi, smaller x
        high, f_high, low = low, f_low, max(low * (0.8 if low == x else 0.1), SMALLEST)
        if high == SMALLEST:
            return SMALLEST
        f_low = _slope(total, pooled, d, fixed, n, scale, low)
    while f_high < 0.0:
        low, f_low, high = high, f_high, min(high * (1.25 if high == x else 10.0), 1.0)
        if low == 1.0:
            return 1.0
        f_high = _slope(total, pooled, d, fixed, n, scale, high)
    side = 0
    for _ in range(200):
        x = (f_high * low - f_low * high) / (f_high - f_low)
        if not low < x < high or high - low < 1e-10 * high:
            break
        f = _slope(total, pooled, d, fixed, n, scale, x)
        if abs(f) < 1e-10 * (abs(f_low) + abs(f_high)):
            break
        if f > 0.0:
            high, f_high = x, f
            f_low *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            low, f_low = x, f
            f_high *= 0.5 if side == -1 else 1.0
            side = -1
    return x


SMALLEST = 1e-12
"""The least x = 1/(1 + phi mean(d)) considered: eta may exceed sigma2 by a factor of 10^12, no more."""
