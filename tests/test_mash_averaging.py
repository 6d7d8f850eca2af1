"""Effects given draws of mash's weights: likelihoods, moments and draws against the dense twin."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ebmodel.mash import averaging, dense
from ebmodel.mash.bayes import pose
from ebmodel.mash.covariances import canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.prior import Prior

EXACT = 1e-10
SIGMAS = 4.5
"""Standard errors by which a Monte-Carlo mean may miss: one in 10^5 does, and seeds are fixed."""


# Data -----------------------------------------------------------------------------------------------------------------


def data(J=12, R=3, alpha=0.0, missing=0.0, own=False, shared=False, spread=2.0, seed=0):
    rng = np.random.default_rng([seed, J, R])
    shat = np.ones((J, R)) if shared else np.exp(0.3 * rng.standard_normal((J, R)))
    bhat = spread * rng.standard_normal((J, 1)) + shat * rng.standard_normal((J, R))
    bhat[rng.random((J, R)) < missing] = np.nan
    C = 0.3 + 0.7 * np.eye(R)
    C = np.array([(1 - w) * C + w * np.eye(R) for w in rng.random(J)]) if own else C
    return tidy(bhat, shat, C, alpha), dense.Data(bhat, shat, C, alpha)


def prior_of(effects, names=("identity", "condition_1", "equal_effects"), grid=(0.5, 1.0, 3.0), pointmass=True):
    covariances = tuple(U for U in canonical(effects.B.shape[1]) if U.name in names)
    weights = np.full((len(covariances), len(grid)), 1.0)
    return Prior(covariances, np.array(grid), weights, 0.0, effects.conditions, effects.alpha, pointmass)


def twin(problem, pi, grid=None):
    """The dense mixture with weights ``pi`` in flat order."""
    U = np.array([one.matrix for one in problem.covariances])
    pi = np.asarray(pi)
    null = float(pi[0]) if problem.pointmass else None
    scales = problem.grid if grid is None else grid
    return dense.Mixture.of(U, scales, pi[problem.pointmass :].reshape(len(U), -1), null)


CASES = [
    {},
    {"shared": True},
    {"missing": 0.3, "alpha": 0.5},
    {"own": True, "missing": 0.3, "alpha": 1.0},
    {"R": 1},
]


# Likelihoods and moments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("pointmass", [True, False])
def test_likelihood_and_moments_are_the_dense_ones(case, pointmass):
    effects, plain = data(**case)
    problem = pose(effects, prior_of(effects, pointmass=pointmass))
    pi = np.random.default_rng(1).dirichlet(np.ones(len(problem.concentration)))
    mixture = twin(problem, pi)
    loglik = averaging.log_likelihood(problem, pi[None], None)[0]
    assert np.allclose(loglik, dense.loglik_effects(plain, mixture), EXACT)
    found, expected = averaging.recover(problem, np.array([pi, pi]), None), dense.posterior(plain, mixture)
    for name in ("mean", "sd", "lfsr", "lfdr", "negative", "positive"):
        assert np.allclose(found[name], getattr(expected, name), rtol=EXACT, atol=EXACT), name
    assert np.allclose(found["left_out"], 0.0, atol=EXACT)  # one value of the weights leaves nothing out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_free_scales_are_a_mixture_with_one_scale_a_covariance(case):
    effects, plain = data(**case)
    problem = pose(effects, prior_of(effects), scales="free")
    rng, K = np.random.default_rng(2), len(problem.covariances)
    pi, omega = rng.dirichlet(np.ones(K + 1)), np.exp(rng.standard_normal(K))
    # U_k omega_k^2 on a grid of one scale, 1
    scaled = np.array([w**2 * U.matrix for w, U in zip(omega, problem.covariances, strict=True)])
    mixture = dense.Mixture.of(scaled, np.ones(1), pi[1:, None], float(pi[0]))
    loglik = averaging.log_likelihood(problem, pi[None], omega[None])[0]
    assert np.allclose(loglik, dense.loglik_effects(plain, mixture), EXACT)
    found, expected = averaging.recover(problem, pi[None], omega[None]), dense.posterior(plain, mixture)
    for name in ("mean", "sd", "lfsr", "lfdr"):
        assert np.allclose(found[name], getattr(expected, name), rtol=EXACT, atol=EXACT), name


@pytest.mark.parametrize("free", [False, True])
def test_averages_over_draws_are_those_of_dense_posteriors(free):
    """Law of total variance: the part between draws is what ``left_out`` is a share of."""
    effects, plain = data(missing=0.2)
    problem = pose(effects, prior_of(effects), scales="free" if free else "grid")
    rng, K = np.random.default_rng(3), len(problem.covariances)
    pi = rng.dirichlet(np.ones(len(problem.concentration)), 5)
    omega = np.exp(rng.standard_normal((5, K))) if free else None
    each = []
    for draw in range(5):
        if free:
            scaled = np.array([w**2 * U.matrix for w, U in zip(omega[draw], problem.covariances, strict=True)])
            mixture = dense.Mixture.of(scaled, np.ones(1), pi[draw, 1:, None], float(pi[draw, 0]))
        else:
            mixture = twin(problem, pi[draw])
        each.append(dense.posterior(plain, mixture))
    mean, sd, zero = (np.array([getattr(one, name) for one in each]) for name in ("mean", "sd", "lfdr"))
    variance = (sd**2).mean(axis=0) + mean.var(axis=0)
    found = averaging.recover(problem, pi, omega)
    assert np.allclose(found["mean"], mean.mean(axis=0), atol=EXACT)
    assert np.allclose(found["sd"], np.sqrt(variance), atol=EXACT)
    assert np.allclose(found["lfdr"], zero.mean(axis=0), atol=EXACT)
    assert np.allclose(found["left_out"], mean.var(axis=0) / variance, atol=EXACT)


def test_effects_taken_few_at_a_time_are_the_same(monkeypatch):
    effects, _ = data(missing=0.2)
    problem = pose(effects, prior_of(effects))
    pi = np.random.default_rng(0).dirichlet(np.ones(len(problem.concentration)), 4)
    whole = averaging.recover(problem, pi, None)
    monkeypatch.setattr(averaging, "CELLS", 1)
    xr.testing.assert_allclose(averaging.recover(problem, pi, None), whole, rtol=1e-12)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("case", [{"missing": 0.3, "alpha": 0.5}, {"shared": True}], ids=str)
def test_draws_of_effects_have_the_dense_posteriors_moments(case, free):
    effects, plain = data(J=4, **case)
    problem = pose(effects, prior_of(effects, grid=(2.0,)), scales="free" if free else "grid")
    size, pi = 4000, np.random.default_rng(1).dirichlet(np.ones(4))
    omega = np.full((size, 3), 2.0) if free else None
    drawn = averaging.draw_effects(problem, np.tile(pi, (size, 1)), omega, np.random.default_rng(2))
    expected = dense.posterior(plain, twin(problem, pi, np.array([2.0])))
    se = expected.sd / np.sqrt(size)
    assert (np.abs(drawn.mean(axis=0) - expected.mean) < SIGMAS * se).all()
    fourth = ((drawn - expected.mean) ** 4).mean(axis=0)
    se = np.sqrt((fourth - expected.sd**4) / size)
    assert (np.abs(((drawn - expected.mean) ** 2).mean(axis=0) - expected.sd**2) < SIGMAS * se + EXACT).all()
    zero = np.sqrt(expected.lfdr * (1 - expected.lfdr) / size)
    assert (np.abs((drawn == 0.0).mean(axis=0) - expected.lfdr) < SIGMAS * zero + EXACT).all()
