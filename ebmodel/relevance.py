"""SNPs of unequal relevance: the slab Sigma0 = diag(omega), omega learned from the data.

    beta_j(t) | I(t)=1 ~ N(beta_j, eta omega_j),     beta_j ~ N(0, kappa omega_j) where the mean is latent

A SNP that acts in no tissue gets omega_j -> 0, and with it all its effects: automatic relevance determination, over
tissues. The bound (the likelihood, where the mean is not latent) is raised over omega. With delta(t) = beta(t) - beta,
whose posterior given I(t)=1 has mean m_t and variance v_t, and q(beta) of mean mu and variance s, EM's update is

    omega_j = [ sum_t T_t (m_tj^2 + v_tj)/eta + (mu_j^2 + s_j)/kappa ] / (sum_t T_t + 1)

It never lowers the bound, and takes for ever where omega_j -> 0. At its fixed points

    omega_j = [ sum_t T_t m_tj^2/eta + mu_j^2/kappa ] / [ sum_t T_t (1 - v_tj/(eta omega_j)) + 1 - s_j/(kappa omega_j) ]

and iterating that instead (MacKay 1992) is fast, but may fall. So each step tries it, then its geometric mean with the
omega that it started from, and takes EM's if the bound fell both times. The mean of omega is 1: eta has the scale.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ebmodel import em
from ebmodel.likelihood import rotate
from ebmodel.mean import HIERARCHICAL, certain
from ebmodel.model import Array
from ebmodel.parallel import one_thread
from ebmodel.search import Search, maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import Compressed, Statistics, Whitening, whiten

__all__ = ["SPARSE", "Relevance", "learn_relevance"]

SPARSE = "sparse"
"""The word for a slab with a scale for every SNP."""
LEAST = 1e-8
"""omega_j stays above this share of the largest, and counts as zero below its square root."""
ENOUGH = 1e-3
"""Steps end when two in a row gain less than this: what is then left is far less than a unit of log-likelihood."""
STEPS, EM_STEPS = 200, 6
"""Most steps of omega, and steps of EM between two."""


class Relevance(NamedTuple):
    """The slab that was found."""

    omega: Array
    """(snp,) of mean 1."""
    T: Array
    """(tissue,) responsibilities there."""
    kept: int
    """SNPs whose omega is not practically zero."""


class _Place(NamedTuple):
    omega: Array
    whitening: Whitening
    stats: Statistics
    state: em.State
    T: Array
    value: float


@one_thread
def learn_relevance(
    compressed: Compressed, kind: int, n_starts: int, seed: int, tol: float, max_iter: int
) -> Relevance:
    """The omega of the largest bound that is found from omega = 1.

    The search over active sets is repeated where omega has settled; if it finds better ones, omega goes on from there.
    """
    place: _Place | None = None
    omega = np.ones(len(compressed.U))
    while True:
        stats, whitening = whiten(compressed, np.diag(omega))
        starts = active_sets(stats, n_starts, seed)
        if place is not None:
            starts = np.vstack([starts, place.T])
        state, search = maximise(stats, starts, tol, max_iter, kind)
        if place is not None and search.loglik < place.value + ENOUGH:
            break
        place = _settle(compressed, _place(omega, stats, whitening, state, search))
        omega = place.omega
    kept = int((place.omega > np.sqrt(LEAST) * place.omega.max()).sum())
    return Relevance(place.omega, place.T, kept)


def _place(omega: Array, stats: Statistics, whitening: Whitening, state: em.State, search: Search) -> _Place:
    return _Place(omega, whitening, stats, state, em.expectation(stats, state)[0], search.loglik)


def _settle(compressed: Compressed, place: _Place) -> _Place:
    """Step until steps gain nothing."""
    calm = 0
    for _ in range(STEPS):
        if place.state.tau1 == 0.0 or place.state.eta == 0.0:  # omega has no say, or no scale
            break
        last, place = place.value, _step(compressed, place)
        calm = calm + 1 if place.value - last < ENOUGH else 0
        if calm == 2:
            break
    return place


def _step(compressed: Compressed, place: _Place) -> _Place:
    """The first of three updates that does not lower the bound; the third, EM's, cannot but for rounding."""
    slow, fast = _updates(place)
    for omega in (fast, np.sqrt(fast * place.omega), slow):
        moved = _move(compressed, place, omega)
        if moved.value >= place.value:
            return moved
    return place


def _updates(place: _Place) -> tuple[Array, Array]:
    """EM's omega and MacKay's, (snp,)."""
    omega, T, (_, _, eta, _, about) = place.omega, place.T, place.state
    m, v, mu, s = _moments(place)
    mean, variance = T @ m**2 / eta, T @ v / eta
    number, free = T.sum(), T.sum() - variance / omega
    if about.kappa > 0.0:  # beta is latent
        mean, variance = mean + mu**2 / about.kappa, variance + s / about.kappa
        number, free = number + 1.0, free + 1.0 - s / (about.kappa * omega)
    slow = (mean + variance) / number
    fast = mean / np.maximum(free, np.finfo(float).eps)
    return _floored(slow), _floored(fast)


def _floored(omega: Array) -> Array:
    return np.maximum(omega, LEAST * omega.max())


def _moments(place: _Place) -> tuple[Array, Array, Array, Array]:
    """Mean and variance of delta(t) given I(t)=1, (tissue, snp) each, and of beta under q, (snp,) each."""
    stats, whitening, (_, gamma, eta, sigma2, about) = place.stats, place.whitening, place.state
    k = stats.pattern
    keep = sigma2 / (sigma2 + eta * stats.d)
    axes = whitening.L @ stats.V  # (pattern, snp, rank)
    shift = (1.0 - keep[k]) * (stats.b - rotate(stats, gamma)[k])
    m = np.einsum("tjr,tr->tj", axes[k], shift)
    v = np.einsum("kjr,kr->kj", axes**2, eta * keep) + eta * np.sum(whitening.null**2, axis=1)
    s = np.zeros(len(whitening.L))
    if about.root.size:
        around = np.einsum("kjr,kr,kir,li->kjl", axes, 1.0 - keep, stats.V, about.root, optimize=True)
        v += np.sum(around**2, axis=2)
        s = np.sum((about.root @ whitening.L.T) ** 2, axis=0) + about.kappa * np.sum(whitening.null**2, axis=1)
    return m, v[k], whitening.unwhiten(gamma), s


def _move(compressed: Compressed, place: _Place, omega: Array) -> _Place:
    """EM's next steps at another omega, from the same T; the scale of omega goes into eta and kappa."""
    tau1, gamma, eta, sigma2, about = place.state
    scale = omega.mean()
    omega = omega / scale
    stats, whitening = whiten(compressed, np.diag(omega))
    if about.kind == HIERARCHICAL:
        about = certain(stats, about.kappa * scale)
    gamma = whitening.whiten(place.whitening.unwhiten(gamma))
    state = em.maximisation(stats, place.T, em.State(tau1, gamma, eta * scale, sigma2, about))
    state, _, _ = em.run(stats, state, 0.0, EM_STEPS)
    T, value = em.expectation(stats, state)
    return _Place(omega, whitening, stats, state, T, value)
