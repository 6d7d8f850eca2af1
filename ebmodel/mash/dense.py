"""The dense twin of mash: its formulas as printed, an effect and a component at a time, to be read and tested against.

    bhat_j | b_j ~ N_R(b_j, V_j),      V_j = S_j C S_j           estimates of effect j in R conditions, j = 1 ... J
    b_j ~ sum_p pi_p N_R(0, Sigma_p),  Sigma_p = omega_l^2 U_k   and Sigma_0 = 0, the point mass, where there is one

With alpha > 0 this is the model of b_j/s_j^alpha: bhat/s^alpha and S = s^(1-alpha) take the places of bhat and S, and
everything comes back on the scale of bhat. O are the conditions in which an effect was observed: the others are
integrated out, which leaves b_O ~ N(0, V_OO + Sigma_OO), and have a posterior like any other.

It shares nothing with the fast code. Source: Urbut, Wang, Carbonetto & Stephens (2019), *Flexible statistical methods
for estimating and testing effects in genomic studies with multiple conditions*, Nature Genetics 51.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from ebmodel.model import Array

__all__ = [
    "Data",
    "Mixture",
    "Posterior",
    "gap",
    "given_component",
    "gradient",
    "log10_bayes_factor",
    "log_density",
    "log_likelihoods",
    "loglik",
    "loglik_effects",
    "objective",
    "posterior",
    "responsibilities",
]


@dataclass(frozen=True)
class Data:
    """Estimates and their standard errors (J, R), and the errors' correlation."""

    bhat: Array
    """NaN where missing."""
    shat: Array
    """s, the standard errors of bhat."""
    C: Array
    """Correlation of the errors, (R, R), or (J, R, R) where effects have their own."""
    alpha: float = 0.0
    """The model is of b/s^alpha."""

    @property
    def scale(self) -> Array:
        """s^alpha (J, R), which takes b/s^alpha back to b; 1 where there is no s."""
        return np.asarray(np.where(np.isnan(self.shat), 1.0, self.shat) ** self.alpha)

    def take(self, rows: slice | NDArray[np.intp]) -> Data:
        """Some of the effects, those at ``rows``."""
        return Data(self.bhat[rows], self.shat[rows], self.C if self.C.ndim == 2 else self.C[rows], self.alpha)

    def effects(self) -> Iterator[tuple[NDArray[np.intp], Array, Array]]:
        """(O, b, V) of every effect: its observed conditions, b_O = bhat_O/s_O^alpha, and V_OO = S_O C_OO S_O.

        With k conditions observed their shapes are (k,), (k,) and (k, k).
        """
        for j, (bhat, shat) in enumerate(zip(self.bhat, self.shat, strict=True)):
            O = np.flatnonzero(~np.isnan(bhat))
            S = np.diag(shat[O] ** (1 - self.alpha))
            C = self.C if self.C.ndim == 2 else self.C[j]
            yield O, bhat[O] / shat[O] ** self.alpha, S @ C[np.ix_(O, O)] @ S


@dataclass(frozen=True)
class Mixture:
    """The prior, sum_p pi_p N(0, Sigma_p)."""

    Sigma: Array
    """(P, R, R), zeros for the point mass."""
    weights: Array
    """pi (P,)."""

    @classmethod
    def of(cls, U: Array, grid: Array, weights: Array, null: float | None = None) -> Mixture:
        """omega_l^2 U_k with ``weights`` (K, L): first the point mass, if ``null`` is its weight, then U_0 omega_0, ...

        omega is the ``grid`` (L,); U (K, R, R) are used as they are: divided by nothing.
        """
        Sigma = [omega**2 * np.asarray(U_k) for U_k in U for omega in grid]
        if null is None:
            return cls(np.array(Sigma), np.ravel(weights))
        return cls(np.array([0 * Sigma[0], *Sigma]), np.append(null, weights))

    @property
    def null(self) -> NDArray[np.bool_]:
        """Whether a component is the point mass, (P,)."""
        return np.asarray(np.all(self.Sigma == 0.0, axis=(1, 2)))

    def above(self, least: float = 0.0) -> Mixture:
        """The components that weigh more, their weights as they are; the others cost time and say nothing."""
        kept = self.weights > least
        return Mixture(self.Sigma[kept], self.weights[kept])


class Posterior(NamedTuple):
    """The posterior of b: all (J, R) but the covariance."""

    mean: Array
    """E(b | bhat)."""
    sd: Array
    """Its standard deviation."""
    covariance: Array
    """(J, R, R)."""
    negative: Array
    """P(b < 0)."""
    positive: Array
    """P(b > 0)."""
    lfdr: Array
    """P(b = 0): of the point mass, and of every component without variance in that condition."""
    lfsr: Array
    """min{P(b <= 0), P(b >= 0)}."""


def log_density(b: Array, covariance: Array) -> float:
    """Log of the multivariate normal density N(b; 0, covariance); 0 where there is no b."""
    log_det = np.linalg.slogdet(covariance)[1]
    return float(-0.5 * (len(b) * np.log(2 * np.pi) + log_det + b @ np.linalg.solve(covariance, b)))


def log_likelihoods(data: Data, mixture: Mixture) -> Array:
    """log p(bhat_j | component p) = log N(b_O; 0, V_OO + Sigma_OO) - sum_O log s^alpha, shape (J, P)."""
    log_L = []
    for (O, b, V), scale in zip(data.effects(), data.scale, strict=True):
        densities = [log_density(b, V + Sigma[np.ix_(O, O)]) for Sigma in mixture.Sigma]
        log_L.append(np.array(densities) - np.sum(np.log(scale[O])))
    return np.array(log_L)


def loglik_effects(data: Data, mixture: Mixture) -> Array:
    """log p(bhat_j) = log sum_p pi_p L_jp, shape (J,)."""
    return _log_mixture(log_likelihoods(data, mixture), mixture.weights)


def loglik(data: Data, mixture: Mixture) -> float:
    """Log-likelihood of all effects: sum_j log p(bhat_j)."""
    return float(loglik_effects(data, mixture).sum())


def log10_bayes_factor(data: Data, mixture: Mixture) -> Array:
    """log10 p(bhat_j | b_j != 0) / p(bhat_j | b_j = 0), shape (J,).

    The alternative is the mixture without its point mass: sum_p pi_p L_jp / (1 - pi_0) over p > 0. Without a point mass
    it is the whole mixture, and the null N(b_O; 0, V_OO) all the same. NaN where the point mass has all the weight.
    """
    null = Mixture(np.zeros_like(mixture.Sigma[:1]), np.ones(1))
    alternative = Mixture(mixture.Sigma[~mixture.null], mixture.weights[~mixture.null])
    if alternative.weights.sum() == 0.0:
        return np.full(len(data.bhat), np.nan)
    log_alternative = loglik_effects(data, alternative) - np.log(alternative.weights.sum())
    return np.asarray((log_alternative - loglik_effects(data, null)) / np.log(10))


def responsibilities(data: Data, mixture: Mixture) -> Array:
    """P(component p | bhat_j) = pi_p L_jp / sum_q pi_q L_jq, shape (J, P)."""
    log_L = log_likelihoods(data, mixture)
    with np.errstate(divide="ignore"):
        joint = np.log(mixture.weights) + log_L
    return np.asarray(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)))


def given_component(O: NDArray[np.intp], b: Array, V: Array, Sigma: Array) -> tuple[Array, Array]:
    """Mean (R,) and covariance (R, R) of b | bhat, component: what the model says of all R conditions.

        Sigma~ = Sigma (V^-1 Sigma + I)^-1,    mu~ = Sigma~ V^-1 b

    A condition that was not observed has precision zero: V^-1 is V_OO^-1 with zeros around it. Of a condition in which
    Sigma has no variance, Sigma~ has none either, exactly.
    """
    R = len(Sigma)
    precision, weighted = np.zeros((R, R)), np.zeros(R)
    precision[np.ix_(O, O)] = np.linalg.inv(V)
    weighted[O] = np.linalg.solve(V, b)
    covariance = Sigma @ np.linalg.inv(precision @ Sigma + np.eye(R))
    return covariance @ weighted, covariance


def posterior(data: Data, mixture: Mixture) -> Posterior:
    """The posterior of every effect, averaged over components by their responsibilities.

        mean = sum_p w_p mu_p,                       covariance = sum_p w_p (Sigma_p + mu_p mu_p') - mean mean'
        P(b < 0) = sum_p w_p Phi(-mu_p/sd_p),        P(b = 0) = sum_p w_p [Sigma_p has no variance there]

    and then back to the scale of bhat.
    """
    found = []
    for (O, b, V), scale, weights in zip(data.effects(), data.scale, responsibilities(data, mixture), strict=True):
        given = [given_component(O, b, V, Sigma) for Sigma in mixture.Sigma]
        mu, Sigma = (np.array(moment) for moment in zip(*given, strict=True))
        mean = weights @ mu
        deviation = mu - mean  # sum_p w_p mu_p mu_p' - mean mean', without the subtraction
        covariance = np.einsum("p,pij->ij", weights, Sigma + deviation[:, :, None] * deviation[:, None, :])
        sd = np.sqrt(np.einsum("pii->pi", Sigma))
        exists = np.einsum("pii->pi", mixture.Sigma) > 0.0
        z = np.divide(mu, sd, out=np.zeros_like(mu), where=exists)
        negative, positive, zero = weights @ (exists * ndtr(-z)), weights @ (exists * ndtr(z)), weights @ ~exists
        D = np.diag(scale)
        found.append((scale * mean, D @ covariance @ D, negative, positive, zero))
    mean, covariance, negative, positive, zero = (np.array(part) for part in zip(*found, strict=True))
    sd = np.sqrt(np.einsum("jii->ji", covariance))
    return Posterior(mean, sd, covariance, negative, positive, zero, np.minimum(negative, positive) + zero)


# The weights, by penalised maximum likelihood -------------------------------------------------------------------------


def objective(log_L: Array, weights: Array, a: Array) -> float:
    """What the weights maximise: sum_j log sum_p pi_p L_jp + sum_p (a_p - 1) log pi_p; log_L (J, P), a (P,)."""
    penalised = a != 1.0
    with np.errstate(divide="ignore"):
        penalty = np.sum((a - 1)[penalised] * np.log(weights[penalised]))
    return float(_log_mixture(log_L, weights).sum() + penalty)


def gradient(log_L: Array, weights: Array, a: Array) -> Array:
    """The derivative of `objective` (log_L, weights, a): g_p = sum_j L_jp / sum_q pi_q L_jq + (a_p - 1)/pi_p, (P,)."""
    relative = np.exp(log_L - _log_mixture(log_L, weights)[:, None])
    penalised = a != 1.0
    return np.asarray(relative.sum(axis=0) + np.divide(a - 1, weights, out=np.zeros(len(a)), where=penalised))


def gap(log_L: Array, weights: Array, a: Array) -> float:
    """How far from the maximum the weights can be: max_p g_p / n - 1, n = sum_p pi_p g_p = J + sum_p (a_p - 1).

    At the maximum g_p = n where pi_p > 0, and g_p <= n elsewhere. The objective is concave: at any other weights pi' it
    is higher by at most sum_p g_p (pi'_p - pi_p) <= max_p g_p - n, which is n times the gap. log_L (J, P) and a (P,) as
    in `objective`.
    """
    n = len(log_L) + np.sum(a - 1)
    return float(gradient(log_L, weights, a).max() / n - 1)


def _log_mixture(log_L: Array, weights: Array) -> Array:
    """log sum_p pi_p L_jp, shape (J,)."""
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(np.log(weights) + log_L, axis=1))
