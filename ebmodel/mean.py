"""The slab's mean gamma given the responsibilities: a number to be found, or a latent variable to be believed in.

Where it is a parameter (the paper), it is the weighted least squares

    sum_t T_t V_t W_t V_t' gamma = sum_t T_t V_t W_t b_t,     W = d/(sigma2 + eta d)

Where it has a prior, gamma ~ N(0, kappa I) in whitened coordinates (equation (H)), it couples the tissues: the E-step
is then that of a factorised q(gamma) prod_t q(I(t)) (variational EM), and given T

    q(gamma) = N(mu, S),   S = (sum_t T_t V_t W_t V_t' + I/kappa)^-1,   mu = S sum_t T_t V_t W_t b_t

With sum_t T_t V_t W_t V_t' = E diag(lambda) E' and z = E' sum_t T_t V_t W_t b_t, what the bound has of kappa, q(gamma)
being the best for it, is the profile

    f(kappa) = 1/2 sum_i [ kappa z_i^2/(1 + kappa lambda_i) - log(1 + kappa lambda_i) ],       f(0) = 0
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebmodel.errors import expect
from ebmodel.kernel import kernel
from ebmodel.likelihood import KNOWN, rotate, rotate_back
from ebmodel.model import Array
from ebmodel.statistics import Statistics

__all__ = [
    "FREE",
    "HIERARCHICAL",
    "MEANS",
    "ORIGIN",
    "POINT",
    "ZERO",
    "Belief",
    "belief",
    "certain",
    "divergence",
    "mean_kind",
    "slab_mean",
]

FREE, ZERO, HIERARCHICAL = 0, 1, 2
"""What the slab's mean is: a parameter, zero, or a latent variable."""
MEANS = {"free": FREE, "zero": ZERO, "hierarchical": HIERARCHICAL}
"""The words of `ebmodel.fit`'s ``mean``."""


def mean_kind(mean: str) -> int:
    """The kind of mean that a word stands for.

    Raises
    ------
    InputError
        If there is none.
    """
    kinds = ", ".join(map(repr, MEANS))
    expect(isinstance(mean, str) and mean in MEANS, f"one of {kinds}", repr(mean), "mean", "use 'free', the paper's")
    return MEANS[mean]


class Belief(NamedTuple):
    """What is believed of gamma beside its expectation."""

    kind: int
    """FREE, ZERO or HIERARCHICAL."""
    kappa: float
    """Scale of the prior; nan where there is none."""
    root: Array
    """(rank, rank), root'root = S; `KNOWN` where gamma is a number."""
    variance: Array
    """(pattern, rank) var(V_k'gamma) = diag(V_k' S V_k); `KNOWN` where gamma is a number."""
    trace: float
    """tr S."""
    log_det: float
    """log |S|."""


POINT = Belief(FREE, np.nan, KNOWN, KNOWN, 0.0, 0.0)
"""Belief in a mean that is a parameter."""
ORIGIN = Belief(ZERO, 0.0, KNOWN, KNOWN, 0.0, 0.0)
"""Belief in a mean of zero."""


@kernel
def certain(stats: Statistics, kappa: float) -> Belief:
    """The belief that gamma, though latent, is just what it is expected to be: where to start from, and kappa = 0."""
    patterns, rank = stats.d.shape
    return Belief(HIERARCHICAL, kappa, np.zeros((rank, rank)), np.zeros((patterns, rank)), 0.0, 0.0)


@kernel
def divergence(gamma: Array, belief: Belief) -> float:
    """KL(q(gamma) || N(0, kappa I)); 0 where gamma is a number."""
    r, kappa = len(gamma), belief.kappa
    if belief.kind != HIERARCHICAL or kappa == 0.0:
        return 0.0
    return float(0.5 * ((np.sum(gamma**2) + belief.trace) / kappa - r + r * np.log(kappa) - belief.log_det))


@kernel
def slab_mean(stats: Statistics, T: Array, start: Array, eta: float, sigma2: float, shrink: float = 0.0) -> Array:
    """Weighted least squares for gamma, shape (rank,), by conjugate gradients from ``start``.

    Every step raises Q, so stopping early keeps EM monotone. Q does not depend on gamma in directions that no active
    tissue observes; `ebmodel.search` puts it to 0 there. The preconditioner is the matrix's diagonal, which is all of
    it for complete data: one step is then exact and gives the published sum T betahat / sum T. With ``shrink`` I added
    to the matrix, ``shrink`` = 1/kappa, it is the mean of q(gamma) instead.
    """
    total, pooled = _pool(stats, T)
    a, (patterns, rank) = rotate(stats, start), stats.d.shape
    weight, pull = np.empty((patterns, rank)), np.empty((patterns, rank))
    squares, diagonal = np.zeros((rank, rank)), np.zeros(rank)
    for k in range(patterns):
        for j in range(rank):
            precision = stats.d[k, j] / (sigma2 + eta * stats.d[k, j])  # d/(sigma2 + eta d)
            weight[k, j] = total[k] * precision
            pull[k, j] = precision * (pooled[k, j] - total[k] * a[k, j])
        V, row = stats.V[k], weight[k]
        for i in range(rank):
            for j in range(rank):
                squares[i, j] += V[i, j] ** 2 * row[j]
    for i in range(rank):
        for j in range(rank):
            diagonal[i] += squares[i, j]
        diagonal[i] += shrink
    gamma, residual = start.copy(), rotate_back(stats, pull) - shrink * start
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
        image = rotate_back(stats, weight * rotate(stats, direction)) + shrink * direction
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
def belief(stats: Statistics, T: Array, eta: float, sigma2: float, kappa: float, learn: bool) -> tuple[Array, Belief]:
    """q(gamma) = N(mu, S) given T, with the kappa uphill of the one given if it is to be learned.

    Gives mu (rank,) and the rest.
    """
    total, pooled = _pool(stats, T)
    patterns, rank = stats.d.shape
    weight, pull = np.empty((patterns, rank)), np.empty((patterns, rank))
    for k in range(patterns):
        for j in range(rank):
            precision = stats.d[k, j] / (sigma2 + eta * stats.d[k, j])  # W = d/(sigma2 + eta d)
            weight[k, j] = total[k] * precision
            pull[k, j] = precision * pooled[k, j]
    if patterns == 1:  # complete data are diagonal in V
        E, values = stats.V[0], weight[0]
        z = pull[0]
    else:
        scaled = np.empty((rank, patterns, rank))
        for k in range(patterns):
            for i in range(rank):
                for j in range(rank):
                    scaled[i, k, j] = stats.V[k, i, j] * np.sqrt(weight[k, j])
        flat = scaled.reshape(rank, patterns * rank)
        values, E = np.linalg.eigh(np.dot(flat, flat.T))  # sum T V W V' = E diag(lambda) E'
        E = np.ascontiguousarray(E)
        values = np.maximum(values, 0.0)
        z = np.dot(E.T, rotate_back(stats, pull))
    if learn:
        kappa = _uphill(values, z, kappa)
    spread = kappa / (1.0 + kappa * values)  # E'SE = (lambda + 1/kappa)^-1
    mu = np.dot(E, spread * z)
    if kappa == 0.0:
        return mu, certain(stats, 0.0)
    root = np.ascontiguousarray((E * np.sqrt(spread)).T)  # S = root'root
    variance = np.empty((patterns, rank))
    if patterns == 1:
        variance[0] = spread
    else:
        for k in range(patterns):
            image = np.dot(root, stats.V[k])
            variance[k] = np.sum(image * image, axis=0)  # diag(V'SV)
    return mu, Belief(HIERARCHICAL, kappa, root, variance, np.sum(spread), np.sum(np.log(spread)))


@kernel
def _gain(values: Array, z: Array, kappa: float) -> float:
    """f(kappa), the bound at kappa less that at 0."""
    total = 0.0
    for i in range(len(z)):
        total += kappa * z[i] ** 2 / (1.0 + kappa * values[i]) - np.log1p(kappa * values[i])
    return 0.5 * total


@kernel
def _uphill(values: Array, z: Array, kappa: float) -> float:
    """A kappa with f at least as large, by the MM steps of Zhou, Hu, Qiao & Lange (2019); 0 where that is better.

    kappa <- kappa [ sum z^2/(1 + kappa lambda)^2 / sum lambda/(1 + kappa lambda) ]^(1/2) never lowers f.
    """
    if kappa == 0.0:
        if np.sum(z**2 - values) <= 1e-12 * np.sum(values):  # f'(0) <= 0, but for rounding
            return 0.0
        kappa = 1.0 / np.max(values)
        while _gain(values, z, kappa) <= 0.0:
            kappa /= 2.0
    for _ in range(MOST):
        up = down = 0.0
        for i in range(len(z)):
            keep = 1.0 / (1.0 + kappa * values[i])
            up += (z[i] * keep) ** 2
            down += values[i] * keep
        factor = np.sqrt(up / down)
        kappa *= factor
        if abs(factor - 1.0) < ENOUGH:
            break
    return kappa if _gain(values, z, kappa) > 0.0 else 0.0


MOST, ENOUGH = 50, 1e-6
"""MM steps for one kappa, and the relative change that ends them: EM's later steps do the rest."""
