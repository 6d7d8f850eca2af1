"""Marginal likelihoods, Bayes factors and the log-likelihood, pinned to the dense twin and to enumeration over I."""

from __future__ import annotations

import numpy as np
import pytest

import ebmodel
from ebmodel import dense, em
from ebmodel.likelihood import log_bayes_factor, log_null, log_slab

EXACT = 1e-9
"""Relative error allowed to two computations of one number; double precision leaves about 1e-12 here."""


def test_log_null_is_the_dense_normal_density(case):
    np.testing.assert_allclose(log_null(case.stats, case.state.sigma2), dense.log_null(*case.dense), rtol=EXACT)


def test_log_slab_is_the_dense_normal_density(case):
    _, gamma, eta, sigma2 = case.state[:4]
    np.testing.assert_allclose(log_slab(case.stats, gamma, eta, sigma2), dense.log_slab(*case.dense), rtol=EXACT)


def test_log_slab_without_spread(case, pin):
    _, gamma, _, sigma2 = case.state[:4]
    point = ebmodel.Params(tau1=0.5, beta=case.params.beta, eta=0.0, sigma2=sigma2, slab=case.params.slab)
    pin(log_slab(case.stats, gamma, 0.0, sigma2), dense.log_slab(case.X, case.Y, point, case.C))


def test_log_bayes_factor(case, pin):
    _, gamma, eta, sigma2 = case.state[:4]
    # a difference of log-densities: its error is relative to them
    size = np.abs(dense.log_slab(*case.dense)).max()
    pin(log_bayes_factor(case.stats, gamma, eta, sigma2), dense.log_bayes_factor(*case.dense), scale=size)


def test_loglik_and_responsibilities(case):
    T, loglik = em.expectation(case.stats, case.state)
    np.testing.assert_allclose(loglik, dense.loglik(*case.dense), rtol=EXACT)
    np.testing.assert_allclose(T, dense.posterior_probability(*case.dense), rtol=EXACT)


def test_loglik_and_responsibilities_by_enumeration(case):
    T, loglik = em.expectation(case.stats, case.state)
    every_loglik, every_T = dense.loglik_enumerated(*case.dense)
    np.testing.assert_allclose(loglik, every_loglik, rtol=EXACT)
    np.testing.assert_allclose(T, every_T, rtol=EXACT)


def test_the_public_loglik(case):
    got = ebmodel.loglik(case.X, case.Y, case.params, covariates=case.C)
    np.testing.assert_allclose(got, dense.loglik(*case.dense), rtol=EXACT)


@pytest.mark.parametrize(("tau1", "log_g"), [(0.0, dense.log_null), (1.0, dense.log_slab)])
def test_one_component_alone(make_case, tau1, log_g):
    case = make_case("missing", "g")
    T, loglik = em.expectation(case.stats, case.state._replace(tau1=tau1))
    np.testing.assert_allclose(loglik, log_g(*case.dense).sum(), rtol=EXACT)
    np.testing.assert_array_equal(T, np.full(6, tau1))


def test_log_slab_where_the_densities_are_far_apart(make_case, pin):
    """h1 would be 0/0 on the density scale: thousands of log units from either side."""
    case = make_case("missing", "g")
    Y = 100.0 * case.Y
    T = ebmodel.oracle(case.X, Y, case.params).posterior_probability
    K = dense.log_bayes_factor(case.X, Y, case.params)
    assert np.abs(K).min() > 750  # exp(-750) = 0
    pin(T, np.where(K < 0, 1.0, 0.0))
    pin(ebmodel.loglik(case.X, Y, case.params), dense.loglik(case.X, Y, case.params))
