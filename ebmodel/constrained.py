"""EM with one parameter held at a value: the likelihood, or the bound on it, maximised over all others.

Q separates, so that every update of `ebmodel.em` but one stays as it is:

    tau1 held     the mean and (eta, sigma2) as ever
    kappa held    q(gamma) at that kappa, the rest as ever
    eta held      sigma2 alone raises Q, and the other way round where sigma2 is held

The last has no closed form. With w_i residual degrees of freedom and S_i sums of squares of variance v_i, and c_i the
derivative of v_i in the variance sought,

    v_0 = sigma2,    w_0 = sum n - r sum T,    S_0 = sum (1-T)|y|^2 + T rss            c_0 = 1 (eta held), 0
    v_j = sigma2 + eta d_j,    w_j = sum T,    S_j = sum T d_j ((b-a)_j^2 + var a_j)   c_j = 1 (eta held), d_j
    -2 Q = sum_i w_i log v_i + S_i / v_i

Fisher scoring, step = sum c (S/v^2 - w/v) / sum c^2 w/v^2, halved where it would lower Q, is exact at once where one
variance is sought and d = 1.
"""

from __future__ import annotations

import numpy as np

from ebmodel import em
from ebmodel.em import State, expectation
from ebmodel.kernel import kernel
from ebmodel.likelihood import rotate
from ebmodel.mean import FREE, HIERARCHICAL, Belief, belief, certain, slab_mean
from ebmodel.model import Array
from ebmodel.statistics import Statistics
from ebmodel.variance import SMALLEST, slab_and_error_variance

__all__ = ["ETA", "KAPPA", "SIGMA2", "TAU1", "ascend", "hold", "maximisation"]

TAU1, ETA, SIGMA2, KAPPA = 0, 1, 2, 3
"""Which parameter is held."""


def hold(stats: Statistics, state: State, held: int, value: float) -> State:
    """The state with the parameter at ``value``: where to start from."""
    value = float(value)
    if held == TAU1:
        return state._replace(tau1=value)
    if held == ETA:
        return state._replace(eta=value)
    if held == SIGMA2:
        return state._replace(sigma2=value)
    if value == 0.0:  # the mean is zero, and certain to be
        return state._replace(gamma=0.0 * state.gamma, belief=certain(stats, 0.0))
    r, spread = len(state.gamma), np.full(stats.d.shape, value)  # S = kappa I, as wide as the prior, to begin with
    about = Belief(HIERARCHICAL, value, np.sqrt(value) * np.eye(r), spread, r * value, r * float(np.log(value)))
    return state._replace(belief=about)


@kernel
def maximisation(stats: Statistics, T: Array, state: State, held: int) -> State:
    """M-step from responsibilities T (tissue,) with one parameter left where it is."""
    gamma, about, tau1, eta, sigma2 = state.gamma, state.belief, state.tau1, state.eta, state.sigma2
    seen = stats.n > 0.0
    if held != TAU1:
        tau1 = np.sum(T * seen) / np.sum(seen)  # sum T / m
    if np.sum(T) == 0.0:  # nothing on the slab, whose parameters have no say; q(gamma) is the prior
        if about.kind == HIERARCHICAL:
            gamma, about = belief(stats, T, eta, sigma2, about.kappa, False)
        return State(tau1, gamma, eta, sigma2 if held == SIGMA2 else np.sum(stats.yy) / np.sum(stats.n), about)
    if about.kind == HIERARCHICAL:
        gamma, about = belief(stats, T, eta, sigma2, about.kappa, held != KAPPA)
    elif about.kind == FREE:
        gamma = slab_mean(stats, T, gamma, eta, sigma2)
    if held in {ETA, SIGMA2}:
        eta, sigma2 = _other_variance(stats, T, gamma, eta, sigma2, about.variance, held)
    else:
        eta, sigma2 = slab_and_error_variance(stats, T, gamma, eta / sigma2, about.variance)
    return State(tau1, gamma, eta, sigma2, about)


@kernel
def ascend(stats: Statistics, state: State, held: int, tol: float, max_iter: int) -> tuple[State, Array, float, bool]:
    """SQUAREM, as `ebmodel.em.run`, on the constrained steps.

    Gives the state, T (tissue,), log p(Y) or the bound on it, and whether it converged.
    """
    T, loglik = expectation(stats, state)
    calm, steps = 0, 1
    while steps < max_iter:
        first = maximisation(stats, T, state, held)
        T, loglik_first = expectation(stats, first)
        second = maximisation(stats, T, first, held)
        leap = _exactly(em.extrapolate(stats, state, first, second), state, held)
        T, loglik_leap = expectation(stats, leap)
        if not loglik_leap >= loglik_first:
            leap = second
            T, loglik_leap = expectation(stats, leap)
        steps += 2
        calm = calm + 1 if loglik_leap - loglik < max(tol, 1e-15 * abs(loglik)) else 0
        state, loglik = leap, loglik_leap
        if calm == 2:
            return state, T, loglik, True
    return state, T, loglik, False


@kernel
def _exactly(leap: State, state: State, held: int) -> State:
    """The leap with what is held put back: extrapolation keeps it but for rounding."""
    tau1 = state.tau1 if held == TAU1 else leap.tau1
    eta = state.eta if held == ETA else leap.eta
    sigma2 = state.sigma2 if held == SIGMA2 else leap.sigma2
    about = leap.belief
    kappa = state.belief.kappa if held == KAPPA else about.kappa
    return State(
        tau1, leap.gamma, eta, sigma2, Belief(about.kind, kappa, about.root, about.variance, about.trace, about.log_det)
    )


MOST, ENOUGH, HALVES = 20, 1e-8, 30
"""Scoring steps of one M-step, the relative change that ends them, and halvings of one of them."""


@kernel
def _other_variance(
    stats: Statistics, T: Array, gamma: Array, eta: float, sigma2: float, variance: Array, held: int
) -> tuple[float, float]:
    """(eta, sigma2), the one that is not held raising Q: Fisher scoring (see the module's text)."""
    w, S, w0, S0 = _sums(stats, T, gamma, variance)
    cost = _cost(w, S, w0, S0, stats.d, eta, sigma2)
    least = SMALLEST * eta * np.mean(stats.d)
    for _ in range(MOST):
        score, information = 0.0, 0.0
        if held == ETA:
            score, information = S0 / sigma2**2 - w0 / sigma2, w0 / sigma2**2
        for k in range(len(w)):
            for j in range(S.shape[1]):
                v, c = sigma2 + eta * stats.d[k, j], 1.0 if held == ETA else stats.d[k, j]
                score += c * (S[k, j] / v**2 - w[k] / v)
                information += c**2 * w[k] / v**2
        step, before = score / information, sigma2 if held == ETA else eta
        for _ in range(HALVES):
            if held == ETA:
                sigma2 = max(before + step, 0.1 * before, least)
            else:
                eta = max(before + step, 0.0)
            after = _cost(w, S, w0, S0, stats.d, eta, sigma2)
            if after <= cost:
                break
            step /= 2.0
        if not after <= cost:
            return (eta, before) if held == ETA else (before, sigma2)
        cost = after
        if abs(step) <= ENOUGH * sigma2 or sigma2 == least:
            break
    return eta, sigma2


@kernel
def _sums(stats: Statistics, T: Array, gamma: Array, variance: Array) -> tuple[Array, Array, float, float]:
    """w (pattern,), S (pattern, rank), w_0 and S_0 of the module's text."""
    a, (patterns, rank) = rotate(stats, gamma), stats.d.shape
    w, S, w0, S0 = np.zeros(patterns), np.zeros((patterns, rank)), 0.0, 0.0
    for t in range(len(T)):
        k = stats.pattern[t]
        w[k] += T[t]
        w0 += stats.n[t] - rank * T[t]
        S0 += (1.0 - T[t]) * stats.yy[t] + T[t] * stats.rss[t]
        for j in range(rank):
            S[k, j] += T[t] * stats.d[k, j] * (stats.b[t, j] - a[k, j]) ** 2
    if variance.size:
        for k in range(patterns):
            for j in range(rank):
                S[k, j] += w[k] * stats.d[k, j] * variance[k, j]
    return w, S, w0, S0


@kernel
def _cost(w: Array, S: Array, w0: float, S0: float, d: Array, eta: float, sigma2: float) -> float:
    """-2 Q, up to a constant."""
    total = w0 * np.log(sigma2) + S0 / sigma2
    for k in range(len(w)):
        for j in range(S.shape[1]):
            v = sigma2 + eta * d[k, j]
            total += w[k] * np.log(v) + S[k, j] / v
    return float(total)
