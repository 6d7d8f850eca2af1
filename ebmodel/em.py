"""EM for theta = (tau1, beta, eta, sigma2): Section 3 of the paper, and its extension to missing responses.

    E:  T_t = P(I(t)=1 | Y) at the current theta
    M:  tau1    = sum T_t / m
        gamma   = weighted least squares:  sum_t T_t V_t W_t V_t' gamma = sum_t T_t V_t W_t b_t,  W = d/(sigma2 + eta d)
        (eta, sigma2) maximise Q given gamma; with phi = eta/sigma2 >= 0,
            sigma2(phi) = sum_t [ (1-T_t)|y_t|^2 + T_t (rss_t + sum d(b-a)^2/(1 + phi d)) ] / sum_t n_t
            and phi is the root of a one-dimensional profile

For complete data and the paper's slab (d = 1) this M-step is the published one, with eta >= 0 imposed: without the
bound the likelihood is unbounded (one tissue alone on the slab, sigma2 + eta -> 0). With unequal d the two updates
maximise Q in turn, an ECME step. Each never lowers the likelihood; SQUAREM (Varadhan & Roland 2008) extrapolates pairs
of steps and falls back on the plain step whenever extrapolation would lower it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebmodel.kernel import kernel
from ebmodel.likelihood import log_null, log_product, log_slab, rotate, rotate_back
from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = ["State", "expectation", "from_responsibilities", "maximisation", "run"]


class State(NamedTuple):
    """theta in whitened coordinates."""

    tau1: float
    gamma: Array
    eta: float
    sigma2: float


@kernel
def expectation(stats: Statistics, state: State) -> tuple[Array, float]:
    """E-step: T_t = h1 (Proposition 1), shape (tissue,), and log p(Y)."""
    log_g1 = log_slab(stats, state.gamma, state.eta, state.sigma2)
    log_g0 = log_null(stats, state.sigma2)
    log_tau1, log_tau0 = np.log(state.tau1), np.log1p(-state.tau1)
    T, loglik = np.empty(len(log_g1)), 0.0
    for t in range(len(T)):
        slab, null = log_tau1 + log_g1[t], log_tau0 + log_g0[t]
        most = max(slab, null)
        total = most + np.log(np.exp(slab - most) + np.exp(null - most))  # log(tau1 g1 + tau0 g0)
        T[t] = np.exp(slab - total)
        loglik += total
    return T, loglik


@kernel
def maximisation(stats: Statistics, T: Array, state: State) -> State:
    """M-step from responsibilities T (tissue,); ``state`` supplies the weights of the least squares and its start."""
    active = np.sum(T)
    if active == 0.0:  # nothing on the slab: gamma and eta have no say in the likelihood
        return State(0.0, state.gamma, 0.0, np.sum(stats.yy) / np.sum(stats.n))
    tau1 = active / len(T)  # sum T / m
    gamma = slab_mean(stats, T, state)  # for complete data sum T betahat / sum T
    eta, sigma2 = slab_and_error_variance(stats, T, gamma, state.eta / state.sigma2)
    return State(tau1, gamma, eta, sigma2)


def from_responsibilities(stats: Statistics, T: Array) -> State:
    """Parameters from responsibilities alone: one M-step, with sigma2 + eta = mean of y^2 to weigh least squares by."""
    sigma2 = float(np.sum(stats.yy) / np.sum(stats.n)) / 2.0
    start = State(0.5, np.zeros(stats.b.shape[1]), sigma2 / float(np.mean(stats.d)), sigma2)
    return maximisation(stats, T, start)


@kernel
def slab_mean(stats: Statistics, T: Array, state: State) -> Array:
    """Weighted least squares for gamma, shape (rank,), by conjugate gradients from the current gamma.

    Every step raises Q, so stopping early keeps EM monotone. Q does not depend on gamma in directions that no active
    tissue observes; `ebmodel.search` puts it to 0 there. The preconditioner is the matrix's diagonal, which is all of
    it for complete data: one step is then exact and gives the published sum T betahat / sum T.
    """
    total, pooled = _pool(stats, T)
    a, (patterns, rank) = rotate(stats, state.gamma), stats.d.shape
    weight, pull = np.empty((patterns, rank)), np.empty((patterns, rank))
    squares, diagonal = np.zeros((rank, rank)), np.zeros(rank)
    for k in range(patterns):
        for j in range(rank):
            precision = stats.d[k, j] / (state.sigma2 + state.eta * stats.d[k, j])  # d/(sigma2 + eta d)
            weight[k, j] = total[k] * precision
            pull[k, j] = precision * (pooled[k, j] - total[k] * a[k, j])
        V, row = stats.V[k], weight[k]
        for i in range(rank):
            for j in range(rank):
                squares[i, j] += V[i, j] ** 2 * row[j]
    for i in range(rank):
        for j in range(rank):
            diagonal[i] += squares[i, j]
    gamma, residual = state.gamma.copy(), rotate_back(stats, pull)
    step, direction = np.zeros(rank), np.zeros(rank)
    power = initial = 0.0
    for iteration in range(rank + 1):
        last, power = power, 0.0
        for i in range(rank):
            step[i] = residual[i] / diagonal[i] if diagonal[i] > 0.0 else 0.0
            power += residual[i] * step[i]
        if iteration == 0:
            initial = power
        if power <= CG_TOLERANCE**2 * initial:
            break
        for i in range(rank):
            direction[i] = step[i] + (power / last * direction[i] if iteration > 0 else 0.0)
        image = rotate_back(stats, weight * rotate(stats, direction))
        curvature = np.sum(direction * image)
        if curvature <= 0.0:
            break
        length = power / curvature
        for i in range(rank):
            gamma[i] += length * direction[i]
            residual[i] -= length * image[i]
    return gamma


CG_TOLERANCE = 0.1
"""Reduction of the gradient asked of one M-step: EM's later steps do the rest, and less costs fewer passes over V."""


@kernel
def _pool(stats: Statistics, T: Array) -> tuple[Array, Array]:
    """Sums over a pattern's tissues of T, shape (pattern,), and of T b, shape (pattern, rank)."""
    total, pooled = np.zeros(len(stats.d)), np.zeros(stats.d.shape)
    for t in range(len(T)):
        total[stats.pattern[t]] += T[t]
        row, b = pooled[stats.pattern[t]], stats.b[t]
        for j in range(len(row)):
            row[j] += T[t] * b[j]
    return total, pooled


@kernel
def slab_and_error_variance(stats: Statistics, T: Array, gamma: Array, phi: float) -> tuple[float, float]:
    """(eta, sigma2) that maximise Q given T and gamma, from the profile in phi = eta/sigma2 >= 0."""
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


@kernel
def run(stats: Statistics, state: State, tol: float, max_iter: int) -> tuple[State, Array, bool]:
    """SQUAREM until two cycles gain less than ``tol``: the state, log p(Y) after every step, whether it converged."""
    trace = np.empty(max_iter + 3)
    T, loglik = expectation(stats, state)
    trace[0], steps = loglik, 1
    calm = 0
    while steps < max_iter:
        first = maximisation(stats, T, state)
        T, loglik_first = expectation(stats, first)
        second = maximisation(stats, T, first)
        leap = _extrapolate(stats, state, first, second)
        T, loglik_leap = expectation(stats, leap)
        if not loglik_leap >= loglik_first:
            leap = second
            T, loglik_leap = expectation(stats, leap)
        trace[steps], trace[steps + 1] = loglik_first, loglik_leap
        steps += 2
        # a gain below rounding error is no gain, whatever tol
        calm = calm + 1 if loglik_leap - loglik < max(tol, 1e-15 * abs(loglik)) else 0
        state, loglik = leap, loglik_leap
        if calm == 2:
            return state, trace[:steps].copy(), True
    return state, trace[:steps].copy(), False


@kernel
def _extrapolate(stats: Statistics, zero: State, first: State, second: State) -> State:
    """SQUAREM's leap in unconstrained coordinates, with steplength |step| / |change of step| > 1."""
    unit = np.sqrt(np.mean(stats.d) / first.sigma2)
    x0, x1, x2 = _pack(zero, unit), _pack(first, unit), _pack(second, unit)
    step = bend = 0.0
    for j in range(len(x0)):
        step += (x1[j] - x0[j]) ** 2
        bend += (x2[j] - 2.0 * x1[j] + x0[j]) ** 2
    if not step > bend > 0.0:
        return second
    length = np.sqrt(step / bend)
    for j in range(len(x0)):
        x0[j] += 2.0 * length * (x1[j] - x0[j]) + length**2 * (x2[j] - 2.0 * x1[j] + x0[j])
    return _unpack(x0, unit)


@kernel
def _pack(state: State, unit: float) -> Array:
    """Unconstrained coordinates on comparable scales; ``unit`` is sqrt(mean(d) / sigma2)."""
    r = len(state.gamma)
    x = np.empty(r + 3)
    for j in range(r):
        x[j] = state.gamma[j] * unit
    x[r] = min(max(np.log(state.tau1) - np.log1p(-state.tau1), -LOGIT), LOGIT)
    x[r + 1] = np.log(state.sigma2)
    x[r + 2] = np.log(1.0 + state.eta * unit**2)
    return x


@kernel
def _unpack(x: Array, unit: float) -> State:
    r = len(x) - 3
    tau1 = 1.0 / (1.0 + np.exp(-min(max(x[r], -LOGIT), LOGIT)))
    return State(tau1, x[:r] / unit, max(np.exp(x[r + 2]) - 1.0, 0.0) / unit**2, np.exp(x[r + 1]))


LOGIT = 40.0
"""tau1 is held within 1/(1 + exp(+-40)) when extrapolating; plain steps may reach 0 and 1."""
