"""Discrepancies of equations (3) and (4): the slab's mean, covariance and independence, the spike, and their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebmodel import em
from ebmodel.checks.value import Value, cannot
from ebmodel.checks.view import View
from ebmodel.data import NEGLIGIBLE
from ebmodel.likelihood import log_null, log_slab, rotate
from ebmodel.mean import HIERARCHICAL, Belief, slab_mean
from ebmodel.model import Array
from ebmodel.posterior import root
from ebmodel.residuals import correlation
from ebmodel.statistics import whiten

__all__ = ["covariance_shape", "explained_in_spike", "related_groups", "related_tissues", "sample_size", "two_slabs"]

NOTHING_ACTIVE = "no tissue is active"
CONSTANT_SLAB = "eta = 0: active tissues have one effect, and the slab's shape has no say"


def sample_size(view: View) -> Value:
    """Score for effects that grow with a tissue's samples: beta(t) times (n_t/mean)^c, at c = 0.

    d log g1/dc = x_t sum_j [a W (b - a) + eta (W^2 (b - a)^2 - W)], x_t = log n_t - mean, W = d/(sigma2 + eta d);
    summed with weights h_t, over its standard error. c is estimated by one step of scoring.
    """
    stats, h, W, a = view.stats, view.h, view.W, view.a
    eta, gap = view.params.eta, view.stats.b - view.a
    seen = stats.n > 0
    x = np.where(seen, np.log(np.where(seen, stats.n, 1.0)), 0.0)
    if np.ptp(x[seen]) < SAME_SIZE:
        return cannot("all tissues have the same number of samples")
    if h.sum() < NEGLIGIBLE:
        return cannot(NOTHING_ACTIVE)
    S = np.sum(W * (a * gap - view.doubt) + eta * (W**2 * (gap**2 + view.doubt) - W), axis=1)
    information = np.sum(a**2 * W + 2.0 * eta**2 * W**2, axis=1)
    weight = h * information
    if weight.sum() == 0.0:
        return cannot(NOTHING_ACTIVE)
    x = x - np.sum(weight * x) / weight.sum()  # the common size of effects is estimated
    U, I = np.sum(h * x * S), np.sum(weight * x**2)
    if I == 0.0:
        return cannot("all active tissues have the same number of samples")
    return Value(abs(U) / np.sqrt(I), U / I, "effects go with (samples of the tissue)^{}")


SAME_SIZE = 1e-3


def related_tissues(view: View) -> Value:
    """Squared correlations of active tissues' deviations from beta, beyond chance and what shared errors explain.

    Which tissues are related need not be known, but it takes many SNPs: by chance E r^2 = 1/rank.
    """
    found = _deviations(view)
    if isinstance(found, Value):
        return found
    r, weight, _ = found
    rank = view.stats.b.shape[1]
    beyond = weight * (r**2 - 1.0 / rank)
    chance = np.sqrt(np.sum(weight**2) * 2.0 * (rank - 1) / (rank**2 * (rank + 2)))  # var r^2 on a sphere
    size = np.sqrt(max(np.sum(beyond) / np.sum(weight), 0.0))
    words = "deviations of active tissues from the common effect are correlated {} (root mean square beyond chance)"
    return Value(float(np.sum(beyond) / chance), float(size), words)


def related_groups(view: View) -> Value:
    """Correlations of deviations from beta within the groups that the user names, less those between groups."""
    if view.groups is None:
        return cannot("no groups of related tissues were given")
    found = _deviations(view)
    if isinstance(found, Value):
        return found
    r, weight, (s, t) = found
    within = view.groups[s] == view.groups[t]
    if not (weight[within].sum() > 0.0 and weight[~within].sum() > 0.0):
        return cannot("no two active tissues in one group, or in two")
    inside, outside = (np.average(r[which], weights=weight[which]) for which in (within, ~within))
    error = np.sqrt(np.sum(weight[within] ** 2) / (np.sum(weight[within]) ** 2 * view.stats.b.shape[1]))
    words = "deviations from the common effect are correlated {} more within groups than between"
    return Value(float((inside - outside) / error), float(inside - outside), words)


type Deviations = tuple[Array, Array, tuple[NDArray[np.int64], NDArray[np.int64]]]


def _deviations(view: View) -> Deviations | Value:
    """Correlations r_st (pair,) of active tissues' deviations from beta, weights h_s h_t, and the pairs.

    With v_t = V_t W^(1/2) (b_t - a_t), spherical in the slab, r_st = v_s'v_t/(|v_s||v_t|). What the errors' correlation
    rho_st puts into it, rho_st times the errors' share of |v|^2, is taken off.
    """
    stats, h = view.stats, view.h
    v = np.einsum("tij,tj->ti", stats.V[stats.pattern], np.sqrt(view.W) * (stats.b - view.a))
    length = np.sqrt(np.sum(v**2, axis=1))
    use = np.flatnonzero((h > NEGLIGIBLE) & (length > 0.0))
    if len(use) < 2 or h[use].sum() < 2.0:
        return cannot("fewer than two tissues are active")
    if v.shape[1] == 1:
        return cannot("one SNP alone: a deviation has no direction")
    unit = v / np.where(length > 0.0, length, 1.0)[:, None]
    r = unit @ unit.T
    errors = correlation(view.frame, view.E)
    s, t = errors.pairs
    r[s, t] -= errors.r * np.sqrt(view.noise[s] * view.noise[t])
    s, t = (use[i] for i in np.triu_indices(len(use), 1))
    return r[s, t], h[s] * h[t], (s, t)


def covariance_shape(view: View) -> Value:
    """Score d log p(Y)/d alpha at the slab's alpha, all other parameters being at their maximum.

    The first step of the profile in alpha (`ebmodel.alpha_profile`), of which it is the slope: 0 where alpha is best.
    """
    params = view.params
    if not np.isfinite(params.alpha):
        return cannot("the slab is a matrix, no power of X'X")
    if params.eta == 0.0 or params.tau1 == 0.0:
        return cannot(CONSTANT_SLAB if params.tau1 > 0.0 else NOTHING_ACTIVE)
    if view.stats.d.shape[1] == 1:
        return cannot("one SNP alone: its variance has no shape")
    if view.fit.dataset.attrs.get("alpha_learned", 0):
        return cannot("alpha was chosen by the data: its slope is 0")
    slope = (_at_power(view, params.alpha + STEP) - _at_power(view, params.alpha - STEP)) / (2.0 * STEP)
    way = "larger" if slope > 0.0 else "smaller"
    words = f"log-likelihood rises by {{}} for each unit of alpha towards {way} ones"
    return Value(abs(slope), abs(slope), words)


STEP = 1e-2
"""In alpha: the error of the difference is of its square."""


def _at_power(view: View, alpha: float) -> float:
    """log p(Y), or the bound, at another power of the slab, beta and the rest as they are."""
    params, compressed = view.params, view.compressed
    stats, whitening = whiten(compressed, alpha)
    unit = float(np.mean(compressed.s**2)) if view.fit.dataset.attrs["slab"] == "g" else 1.0  # of (X'X/s)^-1
    gamma, eta = whitening.whiten(np.asarray(params.beta)), params.eta / unit
    state = em.State(params.tau1, gamma, eta, params.sigma2)
    if params.kappa is not None and params.kappa > 0.0:
        S = whitening.to_gamma @ view.fit.beta_covariance.to_numpy() @ whitening.to_gamma.T
        half = root(S)
        variance = np.sum((half @ stats.V) ** 2, axis=1)
        log_det = float(np.linalg.slogdet(S)[1])
        about = Belief(HIERARCHICAL, params.kappa / unit, half, variance, float(np.trace(S)), log_det)
        state = state._replace(belief=about)
    return float(em.expectation(stats, state)[1])


def explained_in_spike(view: View) -> Value:
    """Sums of squares that SNPs explain in tissues of the spike, against their errors' variance.

    Under (4) sum_j d b_j^2 is sigma2 times chi-squared on rank degrees of freedom there. The statistic is the score for
    small effects in the spike, beta(t) | I(t)=0 ~ N(0, eta0 Sigma0), at eta0 = 0, up to its scale.
    """
    stats, dof = view.stats, view.frame.dof
    rank = np.sum(stats.d[stats.pattern] > 0.0, axis=1)
    out = np.where(stats.n > 0, 1.0 - view.h, 0.0)
    if out.sum() < NEGLIGIBLE:
        return cannot("every tissue is active")
    own = (dof >= OWN) & (stats.rss > NEGLIGIBLE**2 * stats.yy)
    sigma2 = np.where(own, stats.rss / np.maximum(dof - 2.0, 1.0), view.params.sigma2)  # E F = dof/(dof - 2)
    explained = np.sum(view.d * stats.b**2, axis=1)
    excess = np.sum(out * (explained / sigma2 - rank)) / np.sqrt(np.sum(out**2 * 2.0 * rank))
    share = np.sum(out * (explained - rank * sigma2)) / np.sum(out * stats.yy)
    words = "SNPs explain {} % more of the variance in inactive tissues than by chance"
    return Value(float(excess), float(100.0 * share), words)


OWN = 20
"""Degrees of freedom from which a tissue's own residual variance stands for sigma2."""


def two_slabs(view: View) -> Value:
    """Gain in log-likelihood from a second slab with a mean of its own, over that from one slab stretched that way.

    Three components by EM from splits of the active tissues along the first principal component of their deviations,
    and along beta; tau1 and sigma2 stay, eta shrinks as it may. One slab whose covariance is not eta Sigma0 but longer
    in one direction gains too: what that would is taken off, so that a wrong shape does not pass for two slabs.

    EM stops early, and its means come by conjugate gradients stopped early too: the statistic is known to a few
    hundredths, which the basis of the whitened SNPs decides. Over data sets it varies by units.
    """
    stats, h = view.stats, view.h
    if h.sum() < 2.0:
        return cannot("fewer than two tissues are active")
    V = stats.V[stats.pattern]
    v = np.einsum("tij,tj->ti", V, np.sqrt(view.W) * (stats.b - view.a))
    axis = np.linalg.svd(np.sqrt(h)[:, None] * v, full_matrices=False)[2][0]
    towards = np.einsum("tij,tj->ti", V, view.a)
    splits = [v @ axis > 0.0, np.einsum("ti,ti->t", v, towards) > 0.0]
    gain, share = max(_split(view, split) for split in splits)
    words = f"a second slab gains {{}} in log-likelihood, with {100.0 * share:.0f} % of active tissues on the smaller"
    return Value(2.0 * (gain - _stretched(view, v, axis)), gain, words)


def _stretched(view: View, v: Array, axis: Array) -> float:
    """Gain in log-likelihood of a slab with variances lambda along ``axis`` and mu elsewhere, in place of 1 and 1.

    v (tissue, rank) are deviations in sds of the slab; errors alone leave ``noise`` of their variance.
    """
    h, r = view.h / view.h.sum(), v.shape[1]
    noise = float(h @ view.noise)
    total, along = float(h @ np.sum(v**2, axis=1)), float(h @ (v @ axis) ** 2)
    variance, count = np.array([along, (total - along) / max(r - 1, 1)]), np.array([1.0, r - 1.0])
    fitted = np.maximum(variance, noise)
    return float(0.5 * view.h.sum() * np.sum(count * (variance - variance / fitted - np.log(fitted))))


def _split(view: View, second: Array) -> tuple[float, float]:
    """Gain in log-likelihood over one slab, and the smaller slab's share, after EM from a split (tissue,)."""
    stats, params = view.stats, view.params
    eta, sigma2, gamma = params.eta, params.sigma2, view.whitening.whiten(np.asarray(params.beta))
    with np.errstate(divide="ignore"):
        null = np.log1p(-params.tau1) + log_null(stats, sigma2)
    R = np.stack([np.where(second, 0.1, 0.9), np.where(second, 0.9, 0.1)]) * view.h  # (slab, tissue)
    gammas, value, last = [gamma, gamma], 0.0, -np.inf
    share = R.sum(axis=1)
    for _ in range(STEPS):
        if share.min() < FEWEST:
            return 0.0, 0.0
        gammas = [slab_mean(stats, T, start, eta, sigma2) for T, start in zip(R, gammas, strict=True)]
        gap = stats.b - np.stack([rotate(stats, gamma)[stats.pattern] for gamma in gammas])
        eta = _scale(R, view.d, gap, sigma2, eta)
        slabs = np.stack([log_slab(stats, gamma, eta, sigma2) for gamma in gammas])
        terms = np.vstack([np.log(params.tau1 * share / share.sum())[:, None] + slabs, null])
        totals = np.logaddexp.reduce(terms, axis=0)
        value = float(np.sum(totals))
        R = np.exp(terms[:2] - totals) * (stats.n > 0)
        share = R.sum(axis=1)
        if value - last < ENOUGH:
            break
        last = value
    return value - _one_slab(view), float(share.min() / share.sum())


STEPS, ENOUGH, FEWEST = 25, 1e-3, 0.5
"""EM steps at most, the gain that ends them, and the least tissues on a slab."""


def _one_slab(view: View) -> float:
    """log p(Y) at the fit, gamma a number."""
    params = view.params
    gamma = view.whitening.whiten(np.asarray(params.beta))
    return float(em.expectation(view.stats, em.State(params.tau1, gamma, params.eta, params.sigma2))[1])


def _scale(R: Array, d: Array, gap: Array, sigma2: float, eta: float) -> float:
    """One step for eta given responsibilities: effects latent (closed form), never lowers the likelihood."""
    keep = sigma2 / (sigma2 + eta * d)
    # E (gamma_j(t) - gamma_j)^2 = (eta d/(sigma2 + eta d) gap)^2 + eta sigma2/(sigma2 + eta d)
    squares = ((1.0 - keep) * gap) ** 2 + eta * keep
    return float(np.sum(R[:, :, None] * squares) / (np.sum(R) * d.shape[1]))
