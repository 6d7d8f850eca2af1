"""The M-step's variances maximise Q, given the slab's mean or what is believed of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from ebmodel import Params, dense
from ebmodel.mean import belief
from ebmodel.variance import slab_and_error_variance

SOME = [
    ("missing", "g"),
    ("missing", "independent"),
    ("fewer-samples-than-snps", -1.0),
    ("tissue-unobserved", 2.0),
    ("wide-missing", "matrix"),
    ("collinear-missing", "g"),
    ("covariates-intercept-missing", 0.5),
]
some = pytest.mark.parametrize(("shape", "slab"), SOME)


def plausible(case, rng):
    """T and gamma, of the data's size."""
    T = rng.random(len(case.Y.T))
    return T, rng.standard_normal(len(case.state.gamma)) * np.sqrt(np.nanvar(case.Y))


def expected_loglik(case, T, theta):
    """Q without its part in tau1: sum_t T log g1 + (1-T) log g0."""
    log_g1, log_g0 = (log_g(case.X, case.Y, theta, case.C) for log_g in (dense.log_slab, dense.log_null))
    return T @ log_g1 + (1 - T) @ log_g0


def assert_maximum(case, got, q):
    """Every (eta, sigma2) of ``got`` is where ``q`` is largest, found by a search that knows nothing of its form."""
    size = np.nanvar(case.Y)
    found = [
        minimize(
            lambda logs: -q(*np.exp(logs)),
            np.log([size * share, size]),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-9},
        )
        for share in (0.01, 1.0)
    ]
    best = min(found, key=lambda f: f.fun)
    for eta, sigma2 in got:
        value = q(eta, sigma2)
        assert value >= -best.fun - 1e-9 * abs(value)
        # Q is flat at its maximum: an error e in a logarithm costs about the degrees of freedom times e^2/2
        np.testing.assert_allclose([eta, sigma2], np.exp(best.x), rtol=1e-4, atol=1e-6 * size)


@some
def test_variances_maximise_q(make_case, shape, slab):
    for seed in range(3):
        case = make_case(shape, slab, seed)
        T, gamma = plausible(case, np.random.default_rng(seed))
        theta = replace(case.params, beta=case.whitening.unwhiten(gamma))

        def q(eta, sigma2, case=case, T=T, theta=theta):
            return expected_loglik(case, T, replace(theta, eta=eta, sigma2=sigma2))

        # wherever the search starts
        assert_maximum(case, [slab_and_error_variance(case.stats, T, gamma, phi) for phi in (0.0, 0.1, 10.0)], q)


@some
def test_variances_maximise_the_expectation_of_q_where_the_mean_is_latent(make_case, shape, slab):
    """The bound at fixed q(I) and q(beta), with dense matrices in the SNPs' coordinates."""
    for seed in range(2):
        case = make_case(shape, slab, seed)
        T, size = np.random.default_rng(seed).random(len(case.Y.T)), np.nanvar(case.Y)
        kappa = size / np.mean(case.stats.d)
        gamma, about = belief(case.stats, T, 0.3 * kappa, size, kappa, False)
        root, null = about.root @ case.whitening.L.T, case.whitening.null
        mu, S = case.whitening.unwhiten(gamma), root.T @ root + kappa * null @ null.T
        theta = replace(case.params, kappa=kappa)

        def q(eta, sigma2, case=case, T=T, theta=theta, mu=mu, S=S):
            return dense.variational_bound(case.X, case.Y, replace(theta, eta=eta, sigma2=sigma2), T, mu, S, case.C)

        variances = (slab_and_error_variance(case.stats, T, gamma, phi, about.variance) for phi in (0.0, 10.0))
        assert_maximum(case, variances, q)
        # doubt of the mean explains some of what differs between tissues
        assert slab_and_error_variance(case.stats, T, gamma, 1.0, about.variance) != pytest.approx(
            slab_and_error_variance(case.stats, T, gamma, 1.0), rel=1e-6
        )


@pytest.mark.parametrize("shape", ["complete", "missing", "wide-missing", "covariates-missing"])
def test_variances_at_the_boundary(make_case, shape):
    """Tissues that differ by less than their noise: Q falls from eta = 0 on."""
    case = make_case(shape, "independent")
    X, Y, C = case.X, np.where(np.isnan(case.Y), np.nan, np.zeros_like(case.Y)), case.C
    rng = np.random.default_rng(5)
    beta = rng.standard_normal(len(X.T))
    X_hat = X if C is None else X - C @ np.linalg.pinv(C) @ X
    noise = rng.standard_normal(Y.shape)
    noise -= 0.9 * X_hat @ np.linalg.pinv(X_hat) @ noise  # least squares is nearer to beta than chance has it
    case = type(case)(X, Y + (X @ beta)[:, None] + noise, C, case.params)
    T = np.ones(len(Y.T))
    eta, sigma2 = slab_and_error_variance(case.stats, T, case.whitening.whiten(beta), 1.0)
    assert eta == 0.0
    residual = [y - X_t @ beta for X_t, y in dense.tissues(X, case.Y, C)]
    np.testing.assert_allclose(sigma2, sum(r @ r for r in residual) / sum(map(len, residual)), rtol=1e-12)
    at_zero, above = (
        expected_loglik(case, T, Params(tau1=0.5, beta=beta, eta=eta, sigma2=sigma2, slab="independent"))
        for eta in (0.0, 1e-3)
    )
    assert above < at_zero


def test_doubt_of_the_mean_counts_as_spread(make_case):
    """Complete data and the paper's slab, every tissue active: the published update plus the mean's own variance."""
    case = make_case("complete", "g")
    (m, p), gamma, v = case.stats.b.shape, case.state.gamma, 3.0
    eta, sigma2 = slab_and_error_variance(case.stats, np.ones(m), gamma, 1.0, np.full((1, p), v))
    between = np.mean((case.stats.b - gamma @ case.stats.V[0]) ** 2) + v  # eta + sigma2
    within = case.stats.rss.sum() / (case.stats.n.sum() - m * p)
    np.testing.assert_allclose([eta + sigma2, sigma2], [between, within], rtol=1e-8)
