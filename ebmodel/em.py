"""EM for theta = (tau1, beta, eta, sigma2), Section 3 of the paper, extended to missing responses and a latent mean.

    E:  T_t = P(I(t)=1 | Y) at the current theta
    M:  tau1    = sum T_t / m
        gamma   its weighted least squares, or q(gamma) and kappa where it has a prior       (`ebmodel.mean`)
        (eta, sigma2) maximise Q given gamma                                                 (`ebmodel.variance`)

For complete data, the paper's slab (d = 1) and a free mean this M-step is the published one, with eta >= 0 imposed:
without the bound the likelihood is unbounded (one tissue alone on the slab, sigma2 + eta -> 0). With unequal d the
updates maximise Q in turn, an ECME step. A latent mean couples the tissues, so the posterior is taken to factorise,
q(gamma) prod_t q(I(t)), and EM raises the lower bound (variational EM)

    log p(Y) >= sum_t log(tau1 e^(E log g1) + tau0 g0) - KL(q(gamma) || N(0, kappa I))

No step lowers the likelihood, or the bound; SQUAREM (Varadhan & Roland 2008) extrapolates pairs of steps and falls back
on the plain step whenever extrapolation would lower it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebmodel.kernel import kernel
from ebmodel.likelihood import log_null, log_slab
from ebmodel.mean import FREE, HIERARCHICAL, ORIGIN, POINT, ZERO, Belief, belief, certain, divergence, slab_mean
from ebmodel.model import Array
from ebmodel.statistics import Statistics
from ebmodel.variance import slab_and_error_variance

__all__ = ["State", "expectation", "extrapolate", "from_responsibilities", "maximisation", "nothing", "run"]


class State(NamedTuple):
    """theta in whitened coordinates, with what is believed of gamma where that is latent."""

    tau1: float
    """(4): share of active tissues."""
    gamma: Array
    """(rank,) the slab's mean, L gamma = beta; E gamma where gamma is latent."""
    eta: float
    """(3): scale of the slab's covariance."""
    sigma2: float
    """(1): error variance."""
    belief: Belief = POINT
    """What is known of gamma beside its expectation; for a parameter nothing."""


@kernel
def expectation(stats: Statistics, state: State) -> tuple[Array, float]:
    """E-step: T_t = h1 (Proposition 1), shape (tissue,), and log p(Y), or the bound on it where gamma is latent."""
    log_g1 = log_slab(stats, state.gamma, state.eta, state.sigma2, state.belief.variance)  # E log g1
    log_g0 = log_null(stats, state.sigma2)
    log_tau1, log_tau0 = np.log(state.tau1), np.log1p(-state.tau1)
    T, loglik = np.empty(len(log_g1)), -divergence(state.gamma, state.belief)
    for t in range(len(T)):
        slab, null = log_tau1 + log_g1[t], log_tau0 + log_g0[t]
        most = max(slab, null)
        total = most + np.log(np.exp(slab - most) + np.exp(null - most))  # log(tau1 g1 + tau0 g0)
        T[t] = np.exp(slab - total)
        loglik += total
    return T, loglik


@kernel
def maximisation(stats: Statistics, T: Array, state: State, learn: bool = True, fresh: bool = True) -> State:
    """M-step from responsibilities T (tissue,); ``state`` supplies the weights of the least squares and its start.

    Where gamma is latent its q(gamma) is found first. If not to ``learn``, that is all. If not ``fresh``, kappa and the
    covariance of q(gamma) stay as they are: a step that raises the bound less, at a fraction of the cost.
    """
    kind, kappa = state.belief.kind, state.belief.kappa
    active = np.sum(T)
    if active == 0.0 and learn:  # nothing on the slab: gamma and eta have no say in the likelihood
        return nothing(stats, state)
    gamma, about = state.gamma, state.belief
    if kind == HIERARCHICAL and not fresh and kappa > 0.0:
        gamma = slab_mean(stats, T, state.gamma, state.eta, state.sigma2, 1.0 / kappa)
    elif kind == HIERARCHICAL:
        gamma, about = belief(stats, T, state.eta, state.sigma2, kappa, learn)
    elif kind == FREE and learn:
        gamma = slab_mean(stats, T, state.gamma, state.eta, state.sigma2)  # for complete data sum T betahat / sum T
    if not learn:
        return State(state.tau1, gamma, state.eta, state.sigma2, about)
    seen = stats.n > 0.0
    tau1 = np.sum(T * seen) / np.sum(seen)  # sum T / m, over tissues with data: elsewhere T is the last tau1
    eta, sigma2 = slab_and_error_variance(stats, T, gamma, state.eta / state.sigma2, about.variance)
    return State(tau1, gamma, eta, sigma2, about)


@kernel
def nothing(stats: Statistics, state: State) -> State:
    """No tissue active: tau1 = 0, where gamma, eta and kappa have no say and are 0 by convention."""
    known, kind = state.belief, state.belief.kind
    about = certain(stats, 0.0) if kind == HIERARCHICAL else known
    return State(0.0, np.zeros(len(state.gamma)), 0.0, np.sum(stats.yy) / np.sum(stats.n), about)


def from_responsibilities(stats: Statistics, T: Array, kind: int = FREE) -> State:
    """Parameters from responsibilities T (tissue,) alone: one M-step.

    Least squares are weighed by sigma2 and eta d of equal size, sigma2 + eta mean(d) being the mean of y^2; ``kind`` is
    what the slab's mean is (`ebmodel.mean`).
    """
    sigma2 = float(np.sum(stats.yy) / np.sum(stats.n)) / 2.0
    eta = sigma2 / float(np.mean(stats.d))
    about = certain(stats, eta) if kind == HIERARCHICAL else ORIGIN if kind == ZERO else POINT
    return maximisation(stats, T, State(0.5, np.zeros(stats.b.shape[1]), eta, sigma2, about))


@kernel
def run(stats: Statistics, state: State, tol: float, max_iter: int, learn: bool = True) -> tuple[State, Array, bool]:
    """SQUAREM until two cycles gain less than ``tol``: the state, the trace, whether it converged.

    The trace (iteration,) is log p(Y), or the bound on it, after every step, of which there are at most ``max_iter``.
    """
    trace = np.empty(max_iter + 3)
    T, loglik = expectation(stats, state)
    trace[0], steps = loglik, 1
    calm = 0
    while steps < max_iter:
        first = maximisation(stats, T, state, learn)
        T, loglik_first = expectation(stats, first)
        second = maximisation(stats, T, first, learn, not learn or len(stats.d) == 1)
        leap = extrapolate(stats, state, first, second) if learn else second
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
def extrapolate(stats: Statistics, zero: State, first: State, second: State) -> State:
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
    return _unpack(x0, unit, second.belief)


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
def _unpack(x: Array, unit: float, about: Belief) -> State:
    r = len(x) - 3
    gamma, kappa = x[:r] / unit, about.kappa
    if about.kind == HIERARCHICAL:
        gamma = gamma if kappa > 0.0 else np.zeros(r)
        kappa = (np.sum(gamma**2) + about.trace) / r  # the best given q(gamma)
    about = Belief(about.kind, kappa, about.root, about.variance, about.trace, about.log_det)
    tau1 = 1.0 / (1.0 + np.exp(-min(max(x[r], -LOGIT), LOGIT)))
    return State(tau1, gamma, max(np.exp(x[r + 2]) - 1.0, 0.0) / unit**2, np.exp(x[r + 1]), about)


LOGIT = 40.0
"""tau1 is held within 1/(1 + exp(+-40)) when extrapolating; plain steps may reach 0 and 1."""
