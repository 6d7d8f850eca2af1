"""Weights of a mixture drawn from their posterior, exact and without tuning, for hundreds of components.

Effects have a likelihood L_jp under every component, and pi ~ Dirichlet(a). Gibbs' conjugate step on the labels,

    z_j | pi ~ Categorical(pi_p L_jp),     pi | z ~ Dirichlet(a + counts),

creeps where components are hardly told apart (of two alike, n effects remember the split of their weight for about n
steps), and so, between such steps, moves of weight with the labels summed out. For two groups of components with
weights t x and t (1 - x), shares within each as they are, x has the density

    x^(a_1 - 1) (1 - x)^(a_2 - 1) prod_j {f_j + t (x - x_now) (M_1j - M_2j)}

on (0, 1), with f_j the density of effect j now, M its mean density under a group and a_1, a_2 the groups' sums of a:
one slice-sampling step. Groups are components, paired at random and with the next scale; scales; and covariances.

Source: Neal (2003) for slice sampling.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ebmodel.kernel import kernel
from ebmodel.model import Array

__all__ = ["sample_weights"]

REPEATS = 4
"""Random pairings of scales, and of covariances, in every sweep; there are few of them, and they are the slow ones."""

type Index = NDArray[np.int64]


def sample_weights(
    L: Array, a: Array, scale: Index, covariance: Index, draws: int, tune: int, stream: np.random.SeedSequence
) -> Array:
    """One chain of the sampler on labels and groups, from a start drawn from Dirichlet(1, ..., 1).

    Parameters
    ----------
    L : (component, effect)
        Likelihoods, every effect's over a number of its own; not all 0 in any effect.
    a : (component,)
        Of the Dirichlet.
    scale, covariance : (component,)
        Group of each component, counted from 0; the point mass is a group of its own. Any grouping gives draws from
        the same distribution.
    draws, tune
        Sweeps kept, and before them.
    stream
        Of the random numbers.

    Returns
    -------
    (draw, component)
        Weights.
    """
    rng, alone = np.random.default_rng(stream), np.arange(len(a))
    start = rng.dirichlet(np.ones(len(a)))
    groups, beside = np.array([alone, alone, scale, covariance]), np.array([False, True, False, False])
    repeats = np.array([1, 1, REPEATS, REPEATS])
    own = np.array(L, order="C")  # in a worker it may be read-only, for which everything would be compiled again
    return np.asarray(_sweeps(own, start, np.array(a), groups, beside, repeats, draws, tune, rng))


@kernel
def _labels(L: Array, f: Array, pi: Array, a: Array, rng: np.random.Generator) -> Array:
    """pi anew: z_j | pi ~ Categorical(pi_p L_jp / f_j), pi | z ~ Dirichlet(a + counts)."""
    P, J = L.shape
    u = rng.random(J) * f
    below, z = np.zeros(J), np.zeros(J, np.int64)
    for p in range(P - 1):
        for j in range(J):
            below[j] += pi[p] * L[p, j]
            z[j] += below[j] <= u[j]
    counts = a.copy()
    for j in range(J):
        counts[z[j]] += 1.0
    gamma = np.empty(P)
    for p in range(P):
        gamma[p] = rng.standard_gamma(counts[p])
    return gamma / gamma.sum()


@kernel
def _change(slope: Array, step: float) -> float:
    """sum_j log(1 + step slope_j): of the log-likelihood along a line; eight factors share a logarithm."""
    total, J = 0.0, len(slope)
    whole = J - J % 8
    for first in range(0, whole, 8):
        product = 1.0
        for j in range(first, first + 8):
            product *= max(1.0 + step * slope[j], 0.0)
        total += np.log(product)
    for j in range(whole, J):
        total += np.log(max(1.0 + step * slope[j], 0.0))
    return total


@kernel
def _slice(slope: Array, total: float, now: float, a: float, b: float, rng: np.random.Generator) -> float:
    """Weight x in (0, total) of the first of two groups: a step that leaves its density as it is, from ``now``.

    x^(a-1) (total - x)^(b-1) prod_j (1 + (x - now) slope_j), by slice sampling; the interval shrinks about ``now``.
    """
    level = (a - 1.0) * np.log(now) + (b - 1.0) * np.log(total - now) + np.log(rng.random())
    low, high = 0.0, total
    while high - low > 1e-15 * total:
        x = low + (high - low) * rng.random()
        if (a - 1.0) * np.log(x) + (b - 1.0) * np.log(total - x) + _change(slope, x - now) >= level:
            return x
        if x < now:
            low = x
        else:
            high = x
    return now


@kernel
def _shift(w: Array, c: Array, M: Array, f: Array, i: int, k: int, slope: Array, rng: np.random.Generator) -> None:
    """One slice-sampling step for the weights of groups i and k; changes w, M and f, and uses ``slope``."""
    total = w[i] + w[k]
    for j in range(len(f)):
        slope[j] = (M[i, j] / w[i] - M[k, j] / w[k]) / f[j]
    x = _slice(slope, total, w[i], c[i], c[k], rng)
    for j in range(len(f)):
        f[j] *= 1.0 + (x - w[i]) * slope[j]
        M[i, j] *= x / w[i]
        M[k, j] *= (total - x) / w[k]
    w[i], w[k] = x, total - x


@kernel
def _shuffle(order: Index, rng: np.random.Generator) -> None:
    """Put in random order: Generator.permutation, which takes 14 seconds to compile, in three lines."""
    for last in range(len(order) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        order[last], order[other] = order[other], order[last]


@kernel
def _move(L: Array, f: Array, pi: Array, a: Array, group: Index, beside: bool, repeats: int, rng: np.random.Generator
          ) -> None:  # fmt: skip
    """Move weight between pairs of groups of components, shares within groups as they are; changes pi and f.

    Groups are paired at random, ``repeats`` times, or, if ``beside``, each with the next one.
    """
    P, J = L.shape
    G = group.max() + 1
    w, c, M, slope, order = np.zeros(G), np.zeros(G), np.zeros((G, J)), np.empty(J), np.arange(G)
    for p in range(P):
        w[group[p]] += pi[p]
        c[group[p]] += a[p]
        for j in range(J):
            M[group[p], j] += pi[p] * L[p, j]
    before = w.copy()
    for _ in range(repeats):
        first = 0
        if beside:
            first = int(2.0 * rng.random())
        else:
            _shuffle(order, rng)
        for pair in range(G // 2):
            i, k = order[(first + 2 * pair) % G], order[(first + 2 * pair + 1) % G]
            if w[i] > 0.0 and w[k] > 0.0:  # one that has underflowed comes back with the next labels
                _shift(w, c, M, f, i, k, slope, rng)
    for p in range(P):
        if before[group[p]] > 0.0:
            pi[p] *= w[group[p]] / before[group[p]]


@kernel
def _sweeps(L: Array, pi: Array, a: Array, groups: Index, beside: NDArray[np.bool_], repeats: Index, draws: int,
            tune: int, rng: np.random.Generator) -> Array:  # fmt: skip
    """Draws of pi, (draw, component); ``groups`` (move, component), ``beside`` and ``repeats`` say how weight moves."""
    kept = np.empty((draws, len(pi)))
    for sweep in range(tune + draws):
        pi = _labels(L, pi @ L, pi, a, rng)
        f = pi @ L
        for move in range(len(groups)):
            _move(L, f, pi, a, groups[move], beside[move], repeats[move], rng)
        if sweep >= tune:
            kept[sweep - tune] = pi / pi.sum()
    return kept
