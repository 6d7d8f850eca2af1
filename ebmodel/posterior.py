"""Posterior of I(t) and beta(t) at given parameters: moments, intervals, local false sign rates, exact draws.

In whitened coordinates, with a_t = V_t'gamma,

    V_t'gamma(t) | I(t)=1, y_t ~ N( (sigma2 a + eta d b)/(sigma2 + eta d), eta sigma2/(sigma2 + eta d) )

independently over coordinates; beta(t) = L gamma(t), and beta(t) = 0 where I(t) = 0. Equations (5) and (11).

Where gamma is latent, with q(gamma) = N(mu, S), a is V_t'mu, and the covariance over coordinates gains K V_t'S V_t K,
K = diag(sigma2/(sigma2 + eta d)) being the weight that the mean keeps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, ndtri

from ebmodel.likelihood import KNOWN, log_bayes_factor, rotate
from ebmodel.model import Array, Params
from ebmodel.parallel import one_thread
from ebmodel.statistics import Compressed, Statistics, Whitening, power_spread

__all__ = ["Posterior", "draw", "draw_power", "posterior", "root"]


class Posterior(NamedTuple):
    """What the data say of I(t) and beta(t) at fixed parameters."""

    probability: Array
    """(tissue,) P(I(t)=1 | Y)."""
    log_bayes_factor: Array
    """(tissue,) log K_t, H0 over H1."""
    slab_mean: Array
    """(tissue, snp) E(beta(t) | Y, I(t)=1)."""
    slab_sd: Array
    """(tissue, snp) marginal sd of beta(t) given Y and I(t)=1."""

    @property
    def mean(self) -> Array:
        """E(beta(t) | Y) = h E(beta(t) | Y, I(t)=1), shape (tissue, snp). Equations (5), (11)."""
        return self.probability[:, None] * self.slab_mean

    @property
    def sd(self) -> Array:
        """Marginal sd of beta(t) | Y, shape (tissue, snp): var = h (s^2 + mu^2) - h^2 mu^2."""
        h = self.probability[:, None]
        return np.sqrt(h * (self.slab_sd**2 + (1.0 - h) * self.slab_mean**2))

    @property
    def lfsr(self) -> Array:
        """Local false sign rate min{P(beta_j(t) <= 0 | Y), P(beta_j(t) >= 0 | Y)}, shape (tissue, snp)."""
        h = self.probability[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.abs(self.slab_mean) / self.slab_sd
        wrong_sign = np.where(self.slab_mean == 0.0, np.where(self.slab_sd > 0.0, 0.5, 1.0), ndtr(-z))
        return (1.0 - h) + h * wrong_sign  # the spike counts as either sign

    def quantile(self, q: float) -> Array:
        """The smallest x with P(beta_j(t) <= x | Y) >= q, for 0 < q < 1, shape (tissue, snp); exact.

        The distribution function of h N(mu, s^2) + (1-h) delta_0 is h Phi below 0, jumps by 1-h, and is h Phi + 1-h
        from there on; within the jump the quantile is 0.
        """
        h, mu, s = self.probability[:, None], self.slab_mean, self.slab_sd
        with np.errstate(divide="ignore", invalid="ignore"):
            below = h * np.where(s > 0.0, ndtr(-mu / s), mu < 0.0)  # P(beta_j(t) < 0 | Y)
            negative = q <= below
            rank = np.where(negative, q, q - (1.0 - h)) / h  # the quantile's probability under the slab
            slab = mu + np.where(s > 0.0, s * ndtri(np.clip(rank, 0.0, 1.0)), 0.0)
        return np.where(negative | (q > below + (1.0 - h)), slab, 0.0)

    def interval(self, level: float) -> tuple[Array, Array]:
        """Equal-tailed interval of beta_j(t) | Y that holds at least ``level``: lower and upper, (tissue, snp)."""
        tail = (1.0 - level) / 2.0
        return self.quantile(tail), self.quantile(1.0 - tail)


@one_thread
def posterior(stats: Statistics, whitening: Whitening, params: Params, covariance: Array | None = None) -> Posterior:
    """Posterior of every tissue at ``params``; ``covariance`` (snp, snp) is that of beta given Y, where it is latent.

    The Bayes factor of a latent beta has E log g1 for log g1.
    """
    beta, eta, sigma2 = np.asarray(params.beta), params.eta, params.sigma2
    gamma = whitening.whiten(beta)
    half = KNOWN if covariance is None else root(whitening.to_gamma @ covariance @ whitening.to_gamma.T)
    log_K = log_bayes_factor(stats, gamma, eta, sigma2, _variance(stats, half))
    with np.errstate(divide="ignore"):
        h = expit(np.log(params.tau1) - np.log(params.tau0) - log_K)  # 1/(1 + O_t), equation (7)
    a, d = rotate(stats, gamma)[stats.pattern], stats.d[stats.pattern]
    shift = eta * d / (sigma2 + eta * d) * (stats.b - a)  # posterior mean of V'(gamma(t) - gamma)
    axes = whitening.L @ stats.V  # (pattern, snp, rank)
    slab_mean = beta + np.einsum("tjr,tr->tj", axes[stats.pattern], shift)
    variance = np.einsum("kjr,kr->kj", axes**2, eta * sigma2 / (sigma2 + eta * stats.d))
    unseen = eta + (params.kappa or 0.0)  # the prior's variance in directions that no sample sees
    variance += unseen * np.sum(whitening.null**2, axis=1)
    if half.size:
        keep = sigma2 / (sigma2 + eta * stats.d)
        around = np.einsum("kjr,kr,kir,li->kjl", axes, keep, stats.V, half, optimize=True)  # L V K V' root'
        variance += np.sum(around**2, axis=2)
    return Posterior(h, log_K, slab_mean, np.sqrt(variance)[stats.pattern])


def root(S: Array) -> Array:
    """root with root'root = S, positive semidefinite, (rank, rank)."""
    value, vector = np.linalg.eigh(S)
    return np.asarray((vector * np.sqrt(np.maximum(value, 0.0))).T)


def _variance(stats: Statistics, half: Array) -> Array:
    """var(V_k'gamma), (pattern, rank)."""
    return np.sum((half @ stats.V) ** 2, axis=1) if half.size else KNOWN


def draw(
    stats: Statistics,
    whitening: Whitening,
    probability: Array,
    beta: Array,
    eta: Array,
    sigma2: Array,
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], Array]:
    """Exact draws of I(t) and beta(t) given Y, one for every draw of the parameters.

    Parameters
    ----------
    stats, whitening
        Under one slab shape.
    probability : (draw, tissue)
        P(I(t)=1 | Y) at each draw of the parameters.
    beta : (draw, snp)
        The slab's mean at each.
    eta, sigma2 : (draw,)
        The slab's scale and the error variance at each.
    rng
        Source of the random numbers.

    Returns
    -------
    active : (draw, tissue)
        I(t).
    effects : (draw, tissue, snp)
        beta(t), 0 where I(t) = 0.
    """
    active = rng.random(probability.shape) < probability
    effects = np.zeros((*probability.shape, len(whitening.L)))
    gamma, eta, sigma2 = beta @ whitening.to_gamma.T, eta[:, None], sigma2[:, None]
    for t, k in enumerate(stats.pattern):
        on = active[:, t]
        d, a = stats.d[k], gamma[on] @ stats.V[k]
        variance = sigma2[on] + eta[on] * d
        shift = eta[on] * d / variance * (stats.b[t] - a)  # posterior mean of V'(gamma(t) - gamma)
        shift += np.sqrt(eta[on] * sigma2[on] / variance) * rng.standard_normal(shift.shape)
        effects[on, t] = beta[on] + shift @ (whitening.L @ stats.V[k]).T
        if whitening.null.shape[1]:
            unseen = rng.standard_normal((on.sum(), whitening.null.shape[1]))
            effects[on, t] += np.sqrt(eta[on]) * unseen @ whitening.null.T
    return active, effects


def draw_power(
    compressed: Compressed,
    probability: Array,
    beta: Array,
    eta: Array,
    sigma2: Array,
    alpha: Array,
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], Array]:
    """As `draw`, where every draw has its own power alpha (draw,) of the slab and so its own whitening.

    The other arguments, and what is given back, are those of `draw`: ``probability`` (draw, tissue), ``beta`` (draw,
    snp), ``eta`` and ``sigma2`` (draw,).

    In the basis P of X, theta(t) ~ N(theta, eta Lambda) and c_t ~ N(R theta(t), sigma2 I). Draws theta* and c* from
    the prior become one from the posterior (Matheron's rule):

        theta* + eta Lambda R' (sigma2 I + eta R Lambda R')^-1 (c - c*)
    """
    U, s, R = compressed.U, compressed.s, compressed.R
    active = rng.random(probability.shape) < probability
    effects = np.zeros((*probability.shape, len(U)))
    theta, spread = s * (beta @ U), eta[:, None] * power_spread(s, alpha[:, None])  # eta Lambda
    for t, k in enumerate(compressed.pattern):
        on = active[:, t]
        prior = theta[on] + np.sqrt(spread[on]) * rng.standard_normal((on.sum(), len(s)))
        gap = compressed.c[t] - prior @ R[k].T - np.sqrt(sigma2[on, None]) * rng.standard_normal(prior.shape)
        covariance = (R[k] * spread[on, None, :]) @ R[k].T + sigma2[on, None, None] * np.eye(len(s))
        gain = np.linalg.solve(covariance, gap[..., None])[..., 0] @ R[k]
        effects[on, t] = (prior + spread[on] * gain) / s @ U.T
    return active, effects
