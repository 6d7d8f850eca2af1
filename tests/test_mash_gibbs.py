"""The sampler of mash's weights: against quadrature, enumeration of all labels, and itself from exact draws."""

from __future__ import annotations

from itertools import product

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.special import gammaln, logsumexp

from ebmodel.mash import gibbs

SIGMAS = 4.5
"""Standard errors by which a Monte-Carlo mean may miss: one in 10^5 does, and seeds are fixed."""
UNLIKELY = 1e-3
"""Least p-value of a test of a distribution, for fixed seeds."""


# What is exact --------------------------------------------------------------------------------------------------------


def exact(L, a):
    """Posterior mean and sd of pi by summing over all labels; L (effect, component)."""
    J, P = L.shape
    log_w, means, squares = [], [], []
    for z in product(range(P), repeat=J):
        b = a + np.bincount(z, minlength=P)
        total = b.sum()
        log_w.append(np.log(L[np.arange(J), z]).sum() + gammaln(b).sum() - gammaln(total))
        means.append(b / total)
        squares.append(b * (b + 1) / (total * (total + 1)))
    w = np.exp(np.array(log_w) - logsumexp(log_w))
    mean = w @ np.array(means)
    return mean, np.sqrt(w @ np.array(squares) - mean**2)


def quadrature(L, a, size=4001):
    """The posterior of pi_0 for two components, on a grid: points and probabilities."""
    x = (np.arange(size) + 0.5) / size
    log_p = (a[0] - 1) * np.log(x) + (a[1] - 1) * np.log1p(-x)
    log_p += np.log(np.outer(x, L[:, 0]) + np.outer(1 - x, L[:, 1])).sum(axis=1)
    return x, np.exp(log_p - logsumexp(log_p))


def some_likelihoods(J, P, seed=0):
    L = np.exp(1.5 * np.random.default_rng([seed, J, P]).standard_normal((J, P)))
    return L / L.max(axis=1, keepdims=True)


def chains_of(L, a, draws=4000, chains=2, seed=0, scale=None):
    P = L.shape[1]
    groups = np.arange(P) if scale is None else np.array(scale)
    streams = np.random.SeedSequence(seed).spawn(chains)
    return np.array([gibbs.sample_weights(L.T, a, groups, np.minimum(np.arange(P), 1), draws, 200, s) for s in streams])


def within(draws, mean):
    """Whether means over (chain, draw, quantity) are the exact ones to within Monte-Carlo error."""
    mcse = az.mcse(xr.DataArray(draws, dims=("chain", "draw", "quantity")))
    return (np.abs(draws.mean(axis=(0, 1)) - mean) < SIGMAS * mcse.to_numpy()).all()


def same_moments(pi, L, a):
    mean, sd = exact(L, a)
    return within(pi, mean) and within(pi**2, sd**2 + mean**2)


# The sampler ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [[10.0, 1.0], [1.0, 1.0], [0.4, 2.0]], ids=str)
def test_two_components_have_the_posterior_that_quadrature_has(a):
    L, a = some_likelihoods(30, 2), np.array(a)
    x, p = quadrature(L, a)
    pi = chains_of(L, a)[..., :1]
    assert within(pi, p @ x)
    assert within(pi**2, p @ x**2)
    assert within((pi < 0.3).astype(float), p[x < 0.3].sum())


@pytest.mark.parametrize("a", [[10.0, 1.0, 1.0, 1.0], [0.5, 0.3, 1.0, 2.0]], ids=str)
@pytest.mark.parametrize("scale", [[0, 1, 2, 3], [0, 1, 1, 2]], ids=str)
def test_few_effects_have_the_posterior_that_enumeration_has(a, scale):
    L, a = some_likelihoods(5, 4), np.array(a)
    assert same_moments(chains_of(L, a, scale=scale), L, a)


@pytest.mark.parametrize("step", ["labels", "pairs", "groups"])
def test_each_step_alone_leaves_the_posterior_as_it_is(step):
    """From exact draws, one step: the same distribution, and not the same draws."""
    L, a, size = some_likelihoods(20, 2), np.array([3.0, 1.0]), 3000
    x, p = quadrature(L, a)
    rng = np.random.default_rng(5)
    if step == "groups":  # a third component alike to the second: the weights of both together are as for two
        L, a = np.column_stack([L, L[:, 1]]), np.array([3.0, 0.4, 0.6])
    A = np.ascontiguousarray(L.T)
    start = np.interp(rng.random(size), np.cumsum(p), x)
    after = np.empty(size)
    for k, now in enumerate(start):
        pi = np.array([now, 1 - now]) if step != "groups" else np.array([now, *(1 - now) * rng.dirichlet(a[1:])])
        f = pi @ A
        if step == "labels":
            pi = gibbs._labels(A, f, pi, a, rng)
        else:
            groups = np.minimum(np.arange(len(a)), 1)
            gibbs._move(A, f, pi, a, groups, np.bool_(False), 1, rng)
            assert np.allclose(f, pi @ A, rtol=1e-12)
        assert pi.sum() == pytest.approx(1.0, abs=1e-12)
        after[k] = pi[0]
    assert (after != start).mean() > 0.99
    assert stats.kstest(after, lambda v: np.interp(v, x, np.cumsum(p))).pvalue > UNLIKELY


def test_components_alike_share_their_weight_as_the_prior_says():
    """What labels alone would take thousands of sweeps for: the split between two components that are the same."""
    L = some_likelihoods(2000, 2)
    L, a = np.column_stack([L, L[:, 1]]), np.array([10.0, 2.0, 3.0])
    pi = chains_of(L, a, draws=1500)
    split = pi[..., 1:2] / (pi[..., 1:2] + pi[..., 2:])
    assert within(split, 0.4)  # Beta(2, 3)
    assert within(split**2, stats.beta(2, 3).var() + 0.16)
    assert float(az.ess(split[..., 0])) > 300


# Statistical ----------------------------------------------------------------------------------------------------------


@pytest.mark.statistical
@pytest.mark.parametrize("a", [[10.0] + [1.0] * 8, [1.0] + [0.3] * 8], ids=["biased", "sparse"])
def test_ranks_of_the_truth_among_draws_are_uniform(a):
    """Weights drawn from the prior, effects from the weights: the sampler is calibrated, or ranks show it."""
    rng, a, ranks = np.random.default_rng(11), np.array(a), []
    sd = np.sqrt(1.0 + np.array([0.0, *np.tile([0.5, 1.0, 2.0, 4.0], 2)]) ** 2)
    for k in range(200):
        pi = rng.dirichlet(a)
        z = rng.choice(9, 60, p=pi)
        b = np.column_stack([rng.standard_normal(60) * np.where(z <= 4, sd[z], 1.0),
                             rng.standard_normal(60) * np.where(z > 4, sd[z], 1.0)])  # fmt: skip
        first, second = np.where(np.arange(9) <= 4, sd, 1.0), np.where(np.arange(9) > 4, sd, 1.0)
        log_L = stats.norm.logpdf(b[:, :1], scale=first) + stats.norm.logpdf(b[:, 1:], scale=second)
        L = np.exp(log_L - log_L.max(axis=1, keepdims=True))
        drawn = chains_of(L, a, draws=990, chains=1, seed=k, scale=[0, *[1, 2, 3, 4] * 2])[0, ::10]

        def quantities(w):
            return np.array([w[..., 0], w[..., 1:5].sum(axis=-1), w[..., 1], w[..., 8], w[..., 1:] @ sd[1:]])

        ranks.append((quantities(drawn) < quantities(pi)[:, None]).sum(axis=1))
    counts = np.array([np.histogram(rank, 10, (0, 100))[0] for rank in np.array(ranks).T])
    assert (stats.chisquare(counts, axis=1).pvalue > UNLIKELY).all()
