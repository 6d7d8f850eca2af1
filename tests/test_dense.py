"""The dense twin, against the formulas as printed, brute force and conditioning of a joint normal distribution."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from ebmodel import InputError, Params, dense

INVERTIBLE = ["complete", "missing", "covariates-missing", "sample-unobserved"]
"""Data on which every inverse in (5) and (11) exists."""


def residuals(case):
    """(M_t, M_t X_t, M_t y_t), M_t the projection off a tissue's covariates: not the contrasts that the twin uses."""
    for y in case.Y.T:
        rows = ~np.isnan(y)
        C = np.empty((rows.sum(), 0)) if case.C is None else case.C[rows]
        M = np.eye(rows.sum()) - C @ np.linalg.pinv(C)
        yield M, M @ case.X[rows], M @ y[rows]


def test_log_density_is_scipys():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        root, mean, y = rng.standard_normal((n, n)), rng.standard_normal(n), rng.standard_normal(n)
        covariance = root @ root.T + np.eye(n)
        want = multivariate_normal(mean, covariance).logpdf(y)
        np.testing.assert_allclose(dense.log_density(y, mean, covariance), want, rtol=1e-12)


def test_marginal_densities_are_those_of_the_paper(make_case):
    """g0 = psi(y; 0, sigma2 I) and g1 = psi(y; X beta, sigma2 I + eta H), complete data, Section 2."""
    case = make_case("complete", "g")
    X, theta, n = case.X, case.params, len(case.X)
    H = X @ np.linalg.inv(X.T @ X) @ X.T
    g0 = [multivariate_normal(np.zeros(n), theta.sigma2 * np.eye(n)).logpdf(y) for y in case.Y.T]
    g1 = [multivariate_normal(X @ theta.beta, theta.sigma2 * np.eye(n) + theta.eta * H).logpdf(y) for y in case.Y.T]
    np.testing.assert_allclose(dense.log_null(*case.dense), g0, rtol=1e-12)
    np.testing.assert_allclose(dense.log_slab(*case.dense), g1, rtol=1e-12)
    np.testing.assert_allclose(dense.log_bayes_factor(*case.dense), np.subtract(g0, g1), rtol=1e-10)
    h1 = theta.tau1 * np.exp(g1) / (theta.tau1 * np.exp(g1) + theta.tau0 * np.exp(g0))
    np.testing.assert_allclose(dense.posterior_probability(*case.dense), h1, rtol=1e-10)


def test_sums_over_components_are_sums_over_every_indicator_vector(case):
    loglik, probability = dense.loglik_enumerated(*case.dense)
    np.testing.assert_allclose(dense.loglik(*case.dense), loglik, rtol=1e-12)
    np.testing.assert_allclose(dense.posterior_probability(*case.dense), probability, rtol=1e-10)


@pytest.mark.parametrize(("tau1", "log_g"), [(0.0, dense.log_null), (1.0, dense.log_slab)])
def test_one_component_alone(make_case, tau1, log_g):
    case = make_case("missing", "g")
    X, Y, theta, C = case.dense
    theta = Params(tau1=tau1, beta=theta.beta, eta=theta.eta, sigma2=theta.sigma2)
    for loglik, probability in (
        (dense.loglik(X, Y, theta, C), dense.posterior_probability(X, Y, theta, C)),
        dense.loglik_enumerated(X, Y, theta, C),
    ):
        np.testing.assert_allclose(loglik, log_g(X, Y, theta, C).sum(), rtol=1e-12)
        np.testing.assert_allclose(probability, np.full(6, tau1), rtol=1e-12)


def test_slab_mean_is_equation_5_as_printed(make_case, pin):
    case = make_case("complete", "g")
    X, theta = case.X, case.params
    beta_hat = np.linalg.inv(X.T @ X) @ X.T @ case.Y  # (2)
    shrunk = 1 / (1 / theta.eta + 1 / theta.sigma2) * (theta.beta[:, None] / theta.eta + beta_hat / theta.sigma2)  # (5)
    mean, covariance = dense.moments(*case.dense)
    pin(mean, shrunk.T, 1e-12)
    for V in covariance:
        pin(V, np.linalg.inv(X.T @ X) / (1 / theta.eta + 1 / theta.sigma2), 1e-12)


@pytest.mark.parametrize("slab", ["g", "independent", -1.0, 0.5, 2.0, "matrix"])
@pytest.mark.parametrize("shape", INVERTIBLE)
def test_slab_mean_is_equation_11_as_printed(make_case, pin, shape, slab):
    """With Sigma0^-1 for X'X where the slab is not the paper's, and residuals on the covariates for X_t and y_t."""
    case = make_case(shape, slab)
    theta, C = case.params, case.C
    X = case.X if C is None else case.X - C @ np.linalg.pinv(C) @ case.X
    prior = X.T @ X if slab == "g" else np.linalg.inv(dense.slab_shape(case.X, theta, C))
    for (_, X_t, y), mean, covariance in zip(residuals(case), *dense.moments(*case.dense), strict=True):
        precision = prior / theta.eta + X_t.T @ X_t / theta.sigma2
        pin(mean, np.linalg.inv(precision) @ (prior @ theta.beta / theta.eta + X_t.T @ y / theta.sigma2), 1e-10)
        pin(covariance, np.linalg.inv(precision), 1e-10)


def test_posterior_is_the_conditional_of_the_joint_normal(case, pin):
    """Given I(t)=1, (beta(t), M_t y_t) is jointly normal; its singular covariance is inverted on its range."""
    theta = case.params
    prior = theta.eta * dense.slab_shape(case.X, theta, case.C)
    for (M, X_t, y), mean, covariance in zip(residuals(case), *dense.moments(*case.dense), strict=True):
        cross = prior @ X_t.T  # cov(beta(t), M_t y_t)
        inverse = np.linalg.pinv(X_t @ cross + theta.sigma2 * M, rtol=1e-10, hermitian=True)
        pin(mean, theta.beta + cross @ inverse @ (y - X_t @ theta.beta), 1e-10, scale=np.abs(theta.beta).max())
        pin(covariance, prior - cross @ inverse @ cross.T, 1e-10, scale=np.abs(prior).max())


def test_slab_shapes(make_case, pin):
    def shape(X, slab):
        return dense.slab_shape(X, Params(tau1=0.5, beta=np.zeros(len(X.T)), eta=1.0, sigma2=1.0, slab=slab))

    X = make_case("complete", "g").X
    gram = X.T @ X
    s = np.trace(gram) / len(gram)
    pin(shape(X, "g"), np.linalg.inv(gram), 1e-12)
    pin(shape(X, 1.0), s * np.linalg.inv(gram), 1e-12)
    pin(shape(X, 2), s**2 * np.linalg.inv(gram @ gram), 1e-12)
    pin(shape(X, -1.0), gram / s, 1e-12)
    pin(shape(X, 0.5) @ shape(X, 0.5), s * np.linalg.inv(gram), 1e-12)
    pin(shape(X, "independent"), np.eye(4), 1e-15)
    pin(shape(X, 0.0), np.eye(4), 1e-15)
    pin(shape(X, gram), gram, 1e-15)


@pytest.mark.parametrize("shape", ["collinear", "wide"])
def test_slab_shapes_use_the_eigenvalues_that_are_not_zero(make_case, pin, shape):
    case = make_case(shape, "g")
    gram = case.X.T @ case.X
    pin(dense.slab_shape(case.X, case.params), np.linalg.pinv(gram, rtol=1e-10, hermitian=True), 1e-10)
    inverse = make_case(shape, -1.0).params
    s = np.trace(gram) / np.linalg.matrix_rank(case.X)  # the mean over those
    pin(dense.slab_shape(case.X, inverse), gram / s, 1e-12)


def expected_complete_loglik(case, T, theta):
    """Q(theta) = sum_t T log(tau1 g1) + (1-T) log(tau0 g0)."""
    log_g1, log_g0 = (log_g(case.X, case.Y, theta, case.C) for log_g in (dense.log_slab, dense.log_null))
    return T @ (np.log(theta.tau1) + log_g1) + (1 - T) @ (np.log(theta.tau0) + log_g0)


def plausible(case):
    """theta near the data, where the published eta is positive."""
    X, Y = case.X, case.Y
    return Params(tau1=0.5, beta=np.full(len(X.T), 0.2), eta=np.nanvar(Y), sigma2=np.nanvar(Y), slab=case.params.slab)


POSITIVE = [0, 1, 2, 4, 5, 6]
"""Seeds whose first published eta is positive."""


@pytest.mark.parametrize("seed", POSITIVE)
def test_published_em_step_maximises_q(make_case, seed):
    case = make_case("complete", "g", seed)
    start = plausible(case)
    T, step = dense.posterior_probability(case.X, case.Y, start), dense.em_step(case.X, case.Y, start)
    best = expected_complete_loglik(case, T, step)
    theta = np.concatenate([[step.tau1, step.eta, step.sigma2], step.beta])
    for j in range(len(theta)):
        for factor in (0.99, 1.01):
            other = theta.copy()
            other[j] *= factor
            moved = Params(tau1=other[0], eta=other[1], sigma2=other[2], beta=other[3:])
            assert expected_complete_loglik(case, T, moved) < best


@pytest.mark.parametrize("seed", POSITIVE)
def test_published_em_steps_never_lower_the_likelihood(make_case, seed):
    case = make_case("complete", "g", seed)
    theta = plausible(case)
    values = [dense.loglik(case.X, case.Y, theta)]
    for _ in range(10):
        try:
            theta = dense.em_step(case.X, case.Y, theta)
        except ValueError as error:  # the published eta may come out negative: see the tests of the fast EM
            if "in eta" not in str(error):
                raise
            break
        values.append(dense.loglik(case.X, case.Y, theta))
    assert len(values) > 1
    assert (np.diff(values) >= -1e-10 * np.abs(values[1:])).all()


@pytest.mark.parametrize("slab", ["g", "independent", 0.5, "matrix"])
@pytest.mark.parametrize(
    "shape", ["missing", "wide", "collinear-missing", "covariates-intercept-missing", "tissue-unobserved"]
)
def test_em_steps_with_missing_responses_never_lower_the_likelihood(make_case, shape, slab):
    case = make_case(shape, slab)
    X, Y, theta, C = case.dense
    values = [dense.loglik(X, Y, theta, C)]
    for _ in range(15):
        theta = dense.em_step_missing(X, Y, theta, C)
        values.append(dense.loglik(X, Y, theta, C))
    assert values[1] > values[0]
    assert (np.diff(values) >= -1e-10 * np.abs(values[1:])).all()


def test_em_stops_when_it_gains_little(make_case):
    case = make_case("missing", "g")
    X, Y, theta, _ = case.dense
    coarse, fine = (dense.em(X, Y, theta, tol=tol) for tol in (1.0, 1e-3))
    gains = [dense.loglik(X, Y, dense.em_step_missing(X, Y, end)) - dense.loglik(X, Y, end) for end in (coarse, fine)]
    assert 1e-3 < gains[0] < 1.0
    assert 0 <= gains[1] < 1e-3
    once = dense.em(X, Y, theta, max_iter=1)
    np.testing.assert_array_equal(once.beta, dense.em_step_missing(X, Y, theta).beta)


# A mean with a prior of its own --------------------------------------------------------------------------------------

COUPLED = [
    ("complete", "g"),
    ("complete", -1.0),
    ("missing", "matrix"),
    ("covariates-intercept-missing", "g"),
    ("wide-missing", "independent"),
    ("collinear-missing", -1.0),
    ("tissue-unobserved", 0.5),
]
coupled = pytest.mark.parametrize(("shape", "slab"), COUPLED)
KAPPA = 1.5


def with_prior(make_case, shape, slab, kappa=KAPPA, seed=0):
    """The arguments of the twin's functions, beta ~ N(0, kappa Sigma0)."""
    X, Y, theta, C = make_case(shape, slab, seed).dense
    return X, Y, replace(theta, kappa=kappa), C


def some_q(X, Y, theta, C, seed=0):
    """q at random: T, mu and S, of the size of the prior, on its range."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(theta.kappa * dense.slab_shape(X, theta, C) + 1e-14 * np.eye(len(X.T)))
    mu = root @ rng.standard_normal(len(root))
    wide = root @ rng.standard_normal((len(root), 2 * len(root)))
    return rng.uniform(0.05, 0.95, len(Y.T)), mu, 0.1 * wide @ wide.T


def converged(X, Y, theta, C, T, rounds=60):
    """q after coordinate ascent from T, at the parameters given."""
    for _ in range(rounds):
        mu, S = dense.variational_mean(X, Y, theta, T, C)
        T = dense.variational_probability(X, Y, theta, mu, S, C)
    return T, *dense.variational_mean(X, Y, theta, T, C)


@coupled
def test_enumeration_is_conditioning_of_all_responses_at_once(make_case, pin, shape, slab):
    """Given I, the stacked responses are N(0, block diag(sigma2 I + I_t eta H_t) + kappa Z Sigma0 Z'), Z of I_t X_t."""
    X, Y, theta, C = with_prior(make_case, shape, slab)
    Sigma0, data = dense.slab_shape(X, theta, C), list(dense.tissues(X, Y, C))
    y, m, p = np.concatenate([y for _, y in data]), len(data), len(X.T)
    log_joint, firsts, seconds = [], [], []
    for I in product([0, 1], repeat=m):
        # beta(1), ..., beta(m), beta together
        J = np.append(I, 1)[:, None]
        prior = np.kron(theta.kappa * J @ J.T + theta.eta * np.diag([*I, 0]), Sigma0)
        Z = np.hstack([block_diag(*(X_t for X_t, _ in data)), np.zeros((len(y), p))])
        covariance, cross = Z @ prior @ Z.T + theta.sigma2 * np.eye(len(y)), prior @ Z.T
        mean = cross @ np.linalg.solve(covariance, y)
        variance = np.diag(prior - cross @ np.linalg.solve(covariance, cross.T))
        prob = theta.tau1 ** sum(I) * theta.tau0 ** (m - sum(I))
        log_joint.append(np.log(prob) + multivariate_normal(np.zeros(len(y)), covariance).logpdf(y))
        firsts.append(mean)
        seconds.append(mean**2 + variance)
    total = logsumexp(log_joint)
    weight = np.exp(log_joint - total)
    first = weight @ firsts
    sd = np.sqrt(weight @ seconds - first**2)
    got = dense.evidence_enumerated(X, Y, theta, C)
    np.testing.assert_allclose(got.log_evidence, total, rtol=1e-11)
    pin(got.posterior_probability, weight @ list(product([0, 1], repeat=m)), 1e-9)
    pin(np.append(got.effects, got.beta), first, 1e-9)
    pin(np.append(got.effects_sd, got.beta_sd), sd, 1e-8)


def one_snp(seed=0, covariates=False):
    """One SNP, missing responses, and a fine grid for beta with its prior's density."""
    rng = np.random.default_rng(seed)
    x, C = rng.standard_normal((15, 1)), np.ones((15, 1)) if covariates else None
    Y = x * np.array([0.8, 0.0, 1.2, 0.0]) + rng.standard_normal((15, 4))
    Y[rng.random(Y.shape) < 0.2] = np.nan
    theta = Params(tau1=0.4, beta=[0.0], eta=3.0, sigma2=1.1, kappa=8.0)
    sd = float(np.sqrt(theta.kappa * dense.slab_shape(x, theta, C)[0, 0]))
    grid = np.linspace(-9 * sd, 9 * sd, 601)
    return (x, Y, theta, C), grid, norm(0, sd).logpdf(grid)


@pytest.mark.parametrize("covariates", [False, True])
def test_enumeration_is_quadrature_over_one_beta(pin, covariates):
    (x, Y, theta, C), grid, log_prior = one_snp(1, covariates)
    at = [replace(theta, beta=[value]) for value in grid]
    log_joint = np.array([dense.loglik(x, Y, t, C) for t in at]) + log_prior
    weight = np.exp(log_joint - log_joint.max())
    T = np.array([dense.posterior_probability(x, Y, t, C) for t in at])
    moments = [dense.moments(x, Y, t, C) for t in at]
    mean, variance = np.array([m[0][:, 0] for m in moments]), np.array([m[1][:, 0, 0] for m in moments])
    total = weight.sum()
    first, second = weight @ (T * mean) / total, weight @ (T * (mean**2 + variance)) / total
    got = dense.evidence_enumerated(x, Y, theta, C)
    np.testing.assert_allclose(got.log_evidence, np.log(total * (grid[1] - grid[0])) + log_joint.max(), rtol=1e-10)
    pin(got.posterior_probability, weight @ T / total, 1e-10)
    pin(got.effects[:, 0], first, 1e-10)
    pin(got.effects_sd[:, 0], np.sqrt(second - first**2), 1e-9)
    pin(got.beta, [weight @ grid / total], 1e-10)
    pin(got.beta_sd, [np.sqrt(weight @ grid**2 / total - (weight @ grid / total) ** 2)], 1e-9)


@coupled
def test_without_spread_beta_is_zero_and_tissues_are_apart(make_case, pin, shape, slab):
    X, Y, theta, C = with_prior(make_case, shape, slab, kappa=0.0)
    zero = replace(theta, beta=0 * theta.beta)
    got, T = dense.evidence_enumerated(X, Y, theta, C), dense.posterior_probability(X, Y, zero, C)
    mean, covariance = dense.moments(X, Y, zero, C)
    np.testing.assert_allclose(got.log_evidence, dense.loglik(X, Y, zero, C), rtol=1e-12)
    pin(got.posterior_probability, T, 1e-10)
    pin(got.effects, T[:, None] * mean, 1e-10)
    second = T[:, None] * (mean**2 + np.einsum("tii->ti", covariance))
    pin(got.effects_sd, np.sqrt(second - (T[:, None] * mean) ** 2), 1e-9)
    assert not got.beta.any()
    assert not got.beta_sd.any()
    # q has nothing to leave out: the bound is the evidence
    q = converged(X, Y, theta, C, np.full(len(T), 0.5), rounds=1)
    np.testing.assert_allclose(dense.variational_bound(X, Y, theta, *q, C), got.log_evidence, rtol=1e-12)
    assert dense.variational_step(X, Y, theta, *q[1:], C).params.kappa == 0.0


def test_what_no_data_see_keeps_its_prior(make_case, pin):
    X, Y, theta, C = with_prior(make_case, "tissue-unobserved", "matrix")
    got = dense.evidence_enumerated(X, Y, theta, C)
    pin(got.posterior_probability[0], theta.tau1, 1e-12)  # a tissue without responses: its prior, given what beta is
    nothing = dense.evidence_enumerated(X, Y, replace(theta, tau1=0.0), C)
    np.testing.assert_allclose(nothing.log_evidence, dense.log_null(X, Y, theta, C).sum(), rtol=1e-12)
    assert not nothing.effects.any()
    assert not nothing.beta.any()
    pin(nothing.beta_sd, np.sqrt(theta.kappa * np.diag(theta.slab)), 1e-12)
    X, Y, theta, C = with_prior(make_case, "wide", "matrix")
    unseen = np.linalg.solve(
        theta.slab, np.linalg.svd(X)[2][-1]
    )  # cov(X beta, unseen'beta) = kappa X Sigma0 unseen = 0
    mu, S = dense.variational_mean(X, Y, theta, np.ones(len(Y.T)), C)
    pin(unseen @ S @ unseen, theta.kappa * unseen @ theta.slab @ unseen, 1e-9)
    pin([unseen @ mu, unseen @ dense.evidence_enumerated(X, Y, theta, C).beta], [0, 0], 1e-9, scale=np.abs(mu).max())


def test_a_prior_without_a_scale_is_refused(make_case):
    X, Y, theta, C = make_case("complete", "g").dense
    for function in (dense.evidence_enumerated, dense.variational_mean):
        with pytest.raises(InputError, match=r"kappa of beta's prior, got None, in params\.kappa"):
            function(X, Y, theta, *([np.ones(6)] if function is dense.variational_mean else []), C)


@coupled
def test_the_bound_is_below_the_evidence(make_case, shape, slab):
    X, Y, theta, C = with_prior(make_case, shape, slab)
    evidence, m = dense.evidence_enumerated(X, Y, theta, C), len(Y.T)
    bounds = [dense.variational_bound(X, Y, theta, *some_q(X, Y, theta, C, seed), C) for seed in range(3)]
    best = dense.variational_bound(X, Y, theta, *converged(X, Y, theta, C, evidence.posterior_probability), C)
    assert max(bounds) < best < evidence.log_evidence
    assert evidence.log_evidence - best < m  # and not far
    none = replace(theta, tau1=0.0)
    q = np.zeros(m), np.zeros(len(X.T)), dense.variational_mean(X, Y, none, np.zeros(m), C)[1]
    value = dense.variational_bound(X, Y, none, *q, C)
    np.testing.assert_allclose(value, dense.log_null(X, Y, none, C).sum(), rtol=1e-12)


@coupled
def test_the_bound_is_the_evidence_where_every_tissue_is_known_to_be_active(make_case, pin, shape, slab):
    X, Y, theta, C = with_prior(make_case, shape, slab)
    theta = replace(theta, tau1=1.0)
    T, mu, S = converged(X, Y, theta, C, np.ones(len(Y.T)), rounds=1)
    exact = dense.evidence_enumerated(X, Y, theta, C)
    np.testing.assert_array_equal(T, 1.0)
    np.testing.assert_allclose(dense.variational_bound(X, Y, theta, T, mu, S, C), exact.log_evidence, rtol=1e-11)
    mean, covariance = dense.variational_moments(X, Y, theta, mu, S, C)
    pin(mean, exact.effects, 1e-9)
    pin(np.sqrt(np.einsum("tii->ti", covariance)), exact.effects_sd, 1e-8)
    pin(mu, exact.beta, 1e-9)
    pin(np.sqrt(np.diag(S)), exact.beta_sd, 1e-9)


@pytest.mark.parametrize("covariates", [False, True])
def test_the_bound_is_an_expectation_under_q(covariates):
    """E log p(Y, I, beta) - log q(I, beta), by quadrature over one beta and every I."""
    (x, Y, theta, C), grid, log_prior = one_snp(2, covariates)
    T, mu, S = np.array([0.9, 0.2, 0.7, 0.01]), np.array([0.5]), np.array([[0.04]])
    log_q = norm(0.5, 0.2).logpdf(grid)
    log_g1 = np.array([dense.log_slab(x, Y, replace(theta, beta=[value]), C) for value in grid])
    log_g0, total = dense.log_null(x, Y, theta, C), 0.0
    for I in product([0, 1], repeat=4):
        active = np.array(I, dtype=bool)
        q_I = np.prod(np.where(active, T, 1 - T))
        log_p_I = np.sum(np.log(np.where(active, theta.tau1, theta.tau0)))
        log_p = log_p_I + log_g1[:, active].sum(axis=1) + log_g0[~active].sum() + log_prior
        total += q_I * np.exp(log_q) @ (log_p - np.log(q_I) - log_q) * (grid[1] - grid[0])
    np.testing.assert_allclose(dense.variational_bound(x, Y, theta, T, mu, S, C), total, rtol=1e-9)


@coupled
def test_each_factor_of_q_is_the_best_given_the_other(make_case, shape, slab):
    X, Y, theta, C = with_prior(make_case, shape, slab)
    rng = np.random.default_rng(5)
    T, mu, S = some_q(X, Y, theta, C)
    best_T = dense.variational_probability(X, Y, theta, mu, S, C)
    value = dense.variational_bound(X, Y, theta, best_T, mu, S, C)
    log_g1 = dense.log_slab(X, Y, replace(theta, beta=mu), C)
    assert (dense.variational_probability(X, Y, theta, mu, 0 * S, C) >= best_T - 1e-15).all()  # doubt costs the slab
    np.testing.assert_allclose(
        dense.variational_probability(X, Y, theta, mu, 0 * S, C),
        1 / (1 + theta.tau0 / theta.tau1 * np.exp(dense.log_null(X, Y, theta, C) - log_g1)),
        rtol=1e-9,
    )
    for _ in range(5):
        other = np.clip(best_T + 0.05 * rng.standard_normal(len(T)), 0, 1)
        assert dense.variational_bound(X, Y, theta, other, mu, S, C) < value
    mean, covariance = dense.variational_mean(X, Y, theta, T, C)
    value = dense.variational_bound(X, Y, theta, T, mean, covariance, C)
    for factor in (0.9, 1.1):
        assert dense.variational_bound(X, Y, theta, T, factor * mean, covariance, C) < value
        assert dense.variational_bound(X, Y, theta, T, mean, factor * covariance, C) < value


@coupled
def test_variational_steps_never_lower_the_bound(make_case, shape, slab):
    X, Y, theta, C = with_prior(make_case, shape, slab)
    q, values = some_q(X, Y, theta, C), []
    for _ in range(12):
        theta, *q = dense.variational_step(X, Y, theta, *q[1:], C)
        values.append(dense.variational_bound(X, Y, theta, *q, C))
    assert values[-1] > values[0] + 1e-3
    assert (np.diff(values) >= -1e-10 * np.abs(values[1:])).all()


def test_a_step_is_the_average_over_q_of_the_complete_data_maximum(make_case):
    """kappa, eta and sigma2 from draws of beta, then beta(t) given it, then their squares: within 5 standard errors."""
    X, Y, theta, C = with_prior(make_case, "missing", "matrix")
    _, mu, S = some_q(X, Y, theta, C)
    step, T, mu, S = dense.variational_step(X, Y, theta, mu, S, C)
    rng, draws, p = np.random.default_rng(3), 20_000, len(mu)
    beta = rng.multivariate_normal(mu, S, draws)
    inverse = np.linalg.inv(theta.slab)

    def length(u):
        return np.einsum("ij,jk,ik->i", u, inverse, u)

    spread, squares, n = np.zeros(draws), np.zeros(draws), 0
    for t, (X_t, y) in enumerate(dense.tissues(X, Y, C)):
        precision = inverse / theta.eta + X_t.T @ X_t / theta.sigma2  # (11), given beta
        mean = np.linalg.solve(precision, (beta @ inverse / theta.eta + X_t.T @ y / theta.sigma2).T).T
        effects = mean + rng.multivariate_normal(np.zeros(p), np.linalg.inv(precision), draws)
        spread += T[t] * length(effects - beta) / (p * T.sum())
        squares += (1 - T[t]) * y @ y + T[t] * np.sum((y - effects @ X_t.T) ** 2, axis=1)
        n += len(y)
    drawn = {"kappa": length(beta) / p, "eta": spread, "sigma2": squares / n}
    for name, values in drawn.items():
        assert abs(getattr(step, name) - values.mean()) < 5 * values.std() / np.sqrt(draws), name
    assert step.tau1 == pytest.approx(T.mean(), rel=1e-12)
    np.testing.assert_array_equal(step.beta, mu)
