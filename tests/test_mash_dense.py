"""The dense twin of mash, against conditioning of a joint normal distribution, quadrature and draws; and the fast code
against the twin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from ebmodel.mash import dense, posterior
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import tidy
from ebmodel.mash.likelihood import Components, LogLikelihood
from ebmodel.mash.prior import Prior

CASES: dict[str, dict] = {
    "plain": {},
    "correlated": {"correlated": True},
    "correlated-alpha": {"correlated": True, "alpha": 0.6},
    "z-scores": {"alpha": 1.0},
    "own-correlation-missing": {"own": True, "missing": 0.3},
    "missing-alpha": {"correlated": True, "missing": 0.3, "alpha": 1.0},
    "missing-half-alpha": {"own": True, "missing": 0.4, "alpha": 0.5},
    "no-pointmass": {"correlated": True, "missing": 0.2, "pointmass": False},
    "one-condition": {"R": 1, "missing": 0.2},
}
J, K, L = 12, 4, 3
GRID = np.array([0.3, 1.0, 3.0])
EFFECT_UNOBSERVED = 3


@dataclass(frozen=True)
class Case:
    data: dense.Data
    mixture: dense.Mixture

    def __iter__(self):
        return iter((self.data, self.mixture))


def correlation(rng, R):
    root = rng.standard_normal((R, 2 * R))
    covariance = root @ root.T
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


def build(R=4, missing=0.0, alpha=0.0, correlated=False, own=False, pointmass=True, seed=0):
    """Identity, a singleton, a rank-one and a full matrix, on three scales; data unrelated to them."""
    rng = np.random.default_rng([seed, R, int(10 * alpha), int(10 * missing)])
    root, one = rng.standard_normal((R, R)), rng.standard_normal(R)
    U = np.array([np.eye(R), np.diag(np.eye(R)[0]), np.outer(one, one), root @ root.T])
    weights = rng.dirichlet(np.full(K * L + 1, 0.7))
    null = float(weights[0]) if pointmass else None
    mixture = dense.Mixture.of(U, GRID, weights[1:].reshape(K, L), null)
    mixture = replace(mixture, weights=mixture.weights / mixture.weights.sum())
    bhat, shat = 2 * rng.standard_normal((J, R)), np.exp(0.4 * rng.standard_normal((J, R)))
    bhat[rng.random((J, R)) < missing] = np.nan
    if missing:
        bhat[EFFECT_UNOBSERVED] = np.nan
        shat[np.isnan(bhat) & (rng.random((J, R)) < 0.5)] = np.nan
    C = np.array([correlation(rng, R) for _ in range(J)]) if own else np.eye(R)
    return Case(dense.Data(bhat, shat, correlation(rng, R) if correlated else C, alpha), mixture)


@pytest.fixture(params=CASES)
def case(request):
    return build(**CASES[request.param])


def on_scale_of_bhat(data):
    """(O, bhat_O, covariance of bhat_O given b, D) of every effect: no alpha but in the prior, N(0, D Sigma D)."""
    for j, (bhat, shat) in enumerate(zip(data.bhat, data.shat, strict=True)):
        O = np.flatnonzero(~np.isnan(bhat))
        C = data.C if data.C.ndim == 2 else data.C[j]
        D = np.diag(np.where(np.isnan(shat), 1.0, shat) ** data.alpha)
        yield O, bhat[O], shat[O, None] * C[np.ix_(O, O)] * shat[O], D


def conditioned(data, mixture):
    """Mean (J, P, R), covariance (J, P, R, R) of b | bhat, p and log p(bhat | p), by the joint normal of (b, bhat)."""
    J, P, R = len(data.bhat), len(mixture.weights), data.bhat.shape[1]
    means, covariances, log_L = np.zeros((J, P, R)), np.zeros((J, P, R, R)), np.zeros((J, P))
    for j, (O, bhat, errors, D) in enumerate(on_scale_of_bhat(data)):
        for p, Sigma in enumerate(mixture.Sigma):
            prior = D @ Sigma @ D
            marginal, cross = errors + prior[np.ix_(O, O)], prior[:, O]
            means[j, p] = cross @ np.linalg.solve(marginal, bhat)
            covariances[j, p] = prior - cross @ np.linalg.solve(marginal, cross.T)
            log_L[j, p] = multivariate_normal(np.zeros(len(O)), marginal).logpdf(bhat) if len(O) else 0.0
    return means, covariances, log_L


def test_log_density_is_scipys():
    rng = np.random.default_rng(0)
    for n in (1, 2, 7):
        root, b = rng.standard_normal((n, n)), rng.standard_normal(n)
        covariance = root @ root.T + np.eye(n)
        want = multivariate_normal(np.zeros(n), covariance).logpdf(b)
        assert dense.log_density(b, covariance) == pytest.approx(want, rel=1e-12)
    assert dense.log_density(np.empty(0), np.empty((0, 0))) == 0.0


def test_components_are_in_order():
    U, grid = np.array([np.eye(2), np.ones((2, 2))]), np.array([0.5, 2.0, 3.0])
    weights = np.arange(1, 7).reshape(2, 3) / 28
    mixture = dense.Mixture.of(U, grid, weights, 7 / 28)
    assert mixture.null.tolist() == [True] + 6 * [False]
    np.testing.assert_array_equal(mixture.Sigma[1:4], grid[:, None, None] ** 2 * U[0])
    np.testing.assert_array_equal(mixture.Sigma[4:], grid[:, None, None] ** 2 * U[1])
    np.testing.assert_array_equal(mixture.weights * 28, [7, 1, 2, 3, 4, 5, 6])
    without = dense.Mixture.of(U, grid, weights)
    assert not without.null.any()
    np.testing.assert_array_equal(without.Sigma, mixture.Sigma[1:])
    np.testing.assert_array_equal(mixture.above(4.5 / 28).weights * 28, [7, 5, 6])


def test_likelihoods_are_those_of_bhat_on_its_own_scale(case):
    log_L = conditioned(*case)[2]
    np.testing.assert_allclose(dense.log_likelihoods(*case), log_L, rtol=1e-11, atol=1e-11)
    total = logsumexp(log_L, axis=1, b=case.mixture.weights)
    np.testing.assert_allclose(dense.loglik_effects(*case), total, rtol=1e-11, atol=1e-11)
    assert dense.loglik(*case) == pytest.approx(total.sum(), rel=1e-12)
    joint = case.mixture.weights * np.exp(log_L)
    np.testing.assert_allclose(dense.responsibilities(*case), joint / joint.sum(axis=1, keepdims=True), atol=1e-11)


def test_posterior_is_a_mixture_of_conditioned_normals(case):
    data, mixture = case
    got = dense.posterior(*case)
    means, covariances, log_L = conditioned(*case)
    joint = mixture.weights * np.exp(log_L)
    weights = joint / joint.sum(axis=1, keepdims=True)
    mean = np.einsum("jp,jpr->jr", weights, means)
    second = np.einsum("jp,jprs->jrs", weights, covariances + means[..., :, None] * means[..., None, :])
    np.testing.assert_allclose(got.mean, mean, atol=1e-10)
    np.testing.assert_allclose(got.covariance, second - mean[:, :, None] * mean[:, None, :], atol=1e-9)
    np.testing.assert_allclose(got.sd**2, np.einsum("jrr->jr", got.covariance), rtol=1e-12)
    dead = np.broadcast_to(np.einsum("prr->pr", mixture.Sigma) == 0, means.shape)
    sd = np.sqrt(np.where(dead, 1.0, np.einsum("jprr->jpr", covariances)))
    negative = np.einsum("jp,jpr->jr", weights, np.where(dead, 0.0, norm.cdf(-means / sd)))
    zero = np.einsum("jp,jpr->jr", weights, dead)
    np.testing.assert_allclose(got.negative, negative, atol=1e-11)
    np.testing.assert_allclose(got.lfdr, zero, atol=1e-11)
    np.testing.assert_allclose(got.positive, 1 - negative - zero, atol=1e-11)
    np.testing.assert_allclose(got.lfsr, np.minimum(1 - got.positive, 1 - got.negative), atol=1e-11)
    assert np.all(got.lfdr <= got.lfsr)
    assert data.bhat.shape == got.mean.shape
    one = dense.posterior(data.take(slice(2, 3)), mixture)
    np.testing.assert_array_equal(one.mean[0], got.mean[2])


def test_a_component_as_printed():
    """mu~ = U~ V^-1 b and U~ = (V^-1 + U^-1)^-1 where U has an inverse."""
    case = build(correlated=True)
    full = case.mixture.Sigma[-1]
    for O, b, V in case.data.effects():
        mean, covariance = dense.given_component(O, b, V, full)
        want = np.linalg.inv(np.linalg.inv(V) + np.linalg.inv(full))
        np.testing.assert_allclose(covariance, want, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(mean, want @ np.linalg.inv(V) @ b, rtol=1e-8, atol=1e-10)


def test_where_a_component_has_no_variance_its_effects_are_exactly_zero():
    data, mixture = build(correlated=True, missing=0.3)
    singleton = mixture.Sigma[4]
    for O, b, V in data.effects():
        mean, covariance = dense.given_component(O, b, V, singleton)
        assert not mean[1:].any()
        assert not covariance[1:].any()
        assert not covariance[:, 1:].any()
        assert covariance[0, 0] > 0


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_condition_by_quadrature(alpha):
    """The posterior integrated numerically, no normal algebra: prior density times likelihood, on the scale of b."""
    data, mixture = build(R=1, alpha=alpha)
    got = dense.posterior(data, mixture)
    step = 1e-3
    b = (np.arange(-40_000, 40_000) + 0.5) * step  # no node at 0
    for j, (bhat, s) in enumerate(zip(data.bhat[:, 0], data.shat[:, 0], strict=True)):
        sd = np.sqrt(mixture.Sigma[1:, 0, 0]) * s**alpha
        alive = mixture.weights[1:] @ norm.pdf(b, 0.0, sd[:, None]) * norm.pdf(bhat, b, s) * step
        point = mixture.weights[0] * norm.pdf(bhat, 0.0, s)
        total = alive.sum() + point
        np.testing.assert_allclose(dense.loglik_effects(data, mixture)[j], np.log(total), rtol=1e-8)
        np.testing.assert_allclose(got.lfdr[j, 0], point / total, rtol=1e-8)
        np.testing.assert_allclose(got.negative[j, 0], alive[b < 0].sum() / total, atol=1e-7)
        mean = alive @ b / total
        np.testing.assert_allclose(got.mean[j, 0], mean, rtol=1e-6)
        second = (alive @ (b - mean) ** 2 + point * mean**2) / total
        np.testing.assert_allclose(got.sd[j, 0], np.sqrt(second), rtol=1e-6)


def test_an_effect_seen_nowhere_has_its_prior():
    data, mixture = build(own=True, missing=0.3)
    got, j = dense.posterior(data, mixture), EFFECT_UNOBSERVED
    assert dense.loglik_effects(data, mixture)[j] == pytest.approx(0.0, abs=1e-14)
    np.testing.assert_allclose(got.mean[j], 0.0, atol=1e-14)
    np.testing.assert_allclose(got.covariance[j], np.einsum("p,prs->rs", mixture.weights, mixture.Sigma), rtol=1e-12)
    np.testing.assert_allclose(got.negative[j], got.positive[j], rtol=1e-12)


def filled(data, s):
    """Missing cells as an estimate of 0 with a standard error of s, which is what mashr makes of them."""
    gone = np.isnan(data.bhat)
    return replace(data, bhat=np.where(gone, 0.0, data.bhat), shat=np.where(gone, s, data.shat))


def farthest(got, want):
    return np.array([np.abs(a - b).max() for a, b in zip(got, want, strict=True)])


def test_missing_is_the_limit_of_large_standard_errors():
    """Where errors are independent, as 1/s^2."""
    data, mixture = build(missing=0.3)
    exact = dense.posterior(data, mixture)
    near, far = (farthest(dense.posterior(filled(data, s), mixture), exact) for s in (1e2, 1e3))
    assert np.all(far < 1e-3)
    np.testing.assert_allclose(near / far, 100.0, rtol=0.1)


def test_with_correlated_errors_large_standard_errors_are_not_missing():
    """An error of 0 standard errors in a condition says, through C, that others' errors are small: C_OO - C_Om C_mm^-1
    C_mO in the place of C_OO, whatever s."""
    data, mixture = build(own=True, missing=0.3)
    limit = dense.posterior(filled(data, 1e5), mixture)
    assert np.all(farthest(limit, dense.posterior(data, mixture)) > 0.02)
    conditional = data.C.copy()
    for C, bhat in zip(conditional, data.bhat, strict=True):
        O, m = np.flatnonzero(~np.isnan(bhat)), np.flatnonzero(np.isnan(bhat))
        C[np.ix_(O, O)] -= C[np.ix_(O, m)] @ np.linalg.solve(C[np.ix_(m, m)], C[np.ix_(m, O)])
    assert np.all(farthest(limit, dense.posterior(replace(data, C=conditional), mixture)) < 1e-3)


def test_bayes_factors_turn_prior_odds_into_posterior_odds():
    data, mixture = build(correlated=True, missing=0.2, alpha=0.5)
    pi0 = mixture.weights[0]
    P0 = dense.responsibilities(data, mixture)[:, 0]
    want = np.log10((1 - P0) / P0) - np.log10((1 - pi0) / pi0)
    np.testing.assert_allclose(dense.log10_bayes_factor(data, mixture), want, rtol=1e-10, atol=1e-12)


def test_bayes_factors_at_the_edges():
    data, mixture = build(correlated=True)
    alone = dense.Mixture(mixture.Sigma, np.where(mixture.null, 1.0, 0.0))
    assert np.isnan(dense.log10_bayes_factor(data, alone)).all()
    never = dense.Mixture(mixture.Sigma, np.where(mixture.null, 0.0, mixture.weights))
    np.testing.assert_array_equal(
        dense.log10_bayes_factor(data, never),
        dense.log10_bayes_factor(data, dense.Mixture(never.Sigma[1:], never.weights[1:])),
    )
    np.testing.assert_allclose(
        dense.log10_bayes_factor(data, never), dense.log10_bayes_factor(data, mixture), rtol=1e-12
    )


def test_components_without_weight_change_nothing(case):
    data, mixture = case
    mixture = replace(mixture, weights=np.where(np.arange(len(mixture.weights)) % 3 == 1, 0.0, mixture.weights))
    few = mixture.above()
    assert len(few.weights) < len(mixture.weights)
    assert dense.loglik(data, few) == pytest.approx(dense.loglik(data, mixture), rel=1e-13)
    for got, want in zip(dense.posterior(data, few), dense.posterior(data, mixture), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_conditions_have_no_order():
    data, mixture = build(own=True, missing=0.3, alpha=0.5)
    order = np.array([2, 0, 3, 1])
    shuffled = replace(data, bhat=data.bhat[:, order], shat=data.shat[:, order], C=data.C[:, order][:, :, order])
    again = replace(mixture, Sigma=mixture.Sigma[:, order][:, :, order])
    np.testing.assert_allclose(dense.loglik_effects(shuffled, again), dense.loglik_effects(data, mixture), rtol=1e-12)
    got, want = dense.posterior(shuffled, again), dense.posterior(data, mixture)
    for name in ("mean", "sd", "negative", "positive", "lfdr", "lfsr"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name)[:, order], rtol=1e-10, atol=1e-13)


def test_units_do_not_matter():
    """bhat and s in other units, and with alpha < 1 the prior too: b in other units, densities by the Jacobian."""
    unit = 7.0
    for alpha in (0.0, 0.5, 1.0):
        data, mixture = build(correlated=True, missing=0.2, alpha=alpha)
        other = replace(data, bhat=unit * data.bhat, shat=unit * data.shat)
        wider = replace(mixture, Sigma=unit ** (2 - 2 * alpha) * mixture.Sigma)
        seen = ~np.isnan(data.bhat)
        np.testing.assert_allclose(
            dense.loglik_effects(other, wider),
            dense.loglik_effects(data, mixture) - seen.sum(axis=1) * np.log(unit),
            rtol=1e-10,
            atol=1e-10,
        )
        got, want = dense.posterior(other, wider), dense.posterior(data, mixture)
        known = ~np.isnan(data.shat)  # elsewhere there is no s to bring b/s^alpha back
        np.testing.assert_allclose(got.mean[known], unit * want.mean[known], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.lfsr, want.lfsr, rtol=1e-9)


# The weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[10.0, 1.0], ids=["null-biased", "unbiased"])
def problem(request):
    """log L of data from a mixture, and the penalty."""
    rng = np.random.default_rng(3)
    case = build(correlated=True)
    mixture = case.mixture
    n = 80
    component = rng.choice(len(mixture.weights), n, p=mixture.weights)
    b = np.array([rng.multivariate_normal(np.zeros(4), mixture.Sigma[p]) for p in component])
    data = replace(case.data, bhat=b + rng.multivariate_normal(np.zeros(4), case.data.C, n), shat=np.ones((n, 4)))
    a = np.ones(len(mixture.weights))
    a[0] = request.param
    return dense.log_likelihoods(data, mixture), a


def em(log_L, weights, a, steps):
    """pi_p = (sum_j w_jp + a_p - 1) / (J + sum_p (a_p - 1))."""
    for _ in range(steps):
        joint = np.log(np.maximum(weights, 1e-300)) + log_L
        w = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        weights = (w.sum(axis=0) + a - 1) / (len(log_L) + np.sum(a - 1))
    return weights


def test_objective_is_a_penalised_loglik(problem):
    log_L, a = problem
    weights = np.random.default_rng(0).dirichlet(np.ones(len(a)))
    want = sum(np.log(np.exp(row) @ weights) for row in log_L) + np.sum((a - 1) * np.log(weights))
    assert dense.objective(log_L, weights, a) == pytest.approx(want, rel=1e-12)
    never = np.where(np.arange(len(a)) == 0, 0.0, weights)
    assert np.isneginf(dense.objective(log_L, never, a)) == (a[0] > 1)


def test_gradient_by_differences(problem):
    log_L, a = problem
    weights = np.random.default_rng(1).dirichlet(np.full(len(a), 5.0))
    got, step = dense.gradient(log_L, weights, a), 1e-6
    for p, direction in enumerate(np.eye(len(a))):
        up, down = (dense.objective(log_L, weights + sign * step * direction, a) for sign in (1, -1))
        assert got[p] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-5)
    assert weights @ got == pytest.approx(len(log_L) + np.sum(a - 1), rel=1e-12)


def test_gap_bounds_what_is_to_be_gained_and_closes(problem):
    log_L, a = problem
    n, P = len(log_L) + np.sum(a - 1), len(a)
    best = em(log_L, np.full(P, 1 / P), a, 5000)
    assert 0 <= dense.gap(log_L, best, a) < 1e-3
    top = dense.objective(log_L, best, a)
    rng = np.random.default_rng(2)
    for steps in (0, 1, 10, 100):
        weights = em(log_L, rng.dirichlet(np.ones(P)), a, steps)
        gain = top - dense.objective(log_L, weights, a)
        assert 0 < gain <= n * dense.gap(log_L, weights, a)


@pytest.mark.statistical
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_posterior_of_draws_from_the_model_is_calibrated(missing):
    """z = (b - mean)/sd has mean 0 and variance 1, and P(b < 0), P(b = 0) come true as often as they say."""
    rng = np.random.default_rng(4)
    case, n = build(correlated=True), 4000
    mixture = case.mixture
    component = rng.choice(len(mixture.weights), n, p=mixture.weights)
    b = np.array([rng.multivariate_normal(np.zeros(4), mixture.Sigma[p]) for p in component])
    b[np.einsum("prr->pr", mixture.Sigma)[component] == 0] = 0.0
    shat = np.exp(0.4 * rng.standard_normal((n, 4)))
    bhat = b + shat * rng.multivariate_normal(np.zeros(4), case.data.C, n)
    bhat[rng.random(bhat.shape) < missing] = np.nan
    got = dense.posterior(replace(case.data, bhat=bhat, shat=shat), mixture)
    for said, was in ((got.negative, b < 0), (got.lfdr, b == 0), (got.positive, b > 0)):
        se = np.sqrt(np.mean(said * (1 - said), axis=0) / n)
        assert np.all(np.abs(np.mean(was - said, axis=0)) < 4 * se)
    error = b - got.mean
    assert np.all(np.abs(error.mean(axis=0)) < 4 * error.std(axis=0) / np.sqrt(n))
    excess = error**2 - got.sd**2
    assert np.all(np.abs(excess.mean(axis=0)) < 4 * excess.std(axis=0) / np.sqrt(n))


# The fast code --------------------------------------------------------------------------------------------------------


def fast(case):
    """The fast code's view of the data and the mixture."""
    data, mixture = case
    effects = tidy(data.bhat, data.shat, data.C, data.alpha)
    first = int(mixture.null.any())
    U = mixture.Sigma[first::L] / GRID[0] ** 2
    covariances = tuple(Covariance.from_matrix(f"U{k}", U_k) for k, U_k in enumerate(U))
    null = float(mixture.weights[0]) if first else 0.0
    weights = mixture.weights[first:].reshape(K, L)
    return effects, Prior(covariances, GRID, weights, null, effects.conditions, data.alpha, pointmass=bool(first))


def test_fast_likelihoods_are_the_twins(case):
    effects, prior = fast(case)
    fast_log_L = LogLikelihood(effects, Components.of(prior.covariances, GRID, pointmass=prior.pointmass))
    got = np.empty(fast_log_L.shape)
    got[fast_log_L.order] = fast_log_L.matrix
    want = dense.log_likelihoods(*case) + effects.log_scale()[:, None]
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
    evidence = posterior.evidence(effects, prior)
    np.testing.assert_allclose(evidence.loglik, dense.loglik_effects(*case), rtol=1e-11, atol=1e-11)
    if prior.pointmass:
        np.testing.assert_allclose(evidence.log10_bf, dense.log10_bayes_factor(*case), atol=1e-11)
    np.testing.assert_allclose(posterior.responsibilities(effects, prior), dense.responsibilities(*case), atol=1e-11)


def test_fast_posterior_is_the_twins(case):
    effects, prior = fast(case)
    got, want = posterior.posterior(effects, prior)[0], dense.posterior(*case)
    for name in ("mean", "sd", "negative", "positive", "lfdr", "lfsr"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), atol=1e-11, err_msg=name)
    np.testing.assert_allclose(posterior.covariances(effects, prior), want.covariance, atol=1e-11)


@pytest.mark.parametrize("name", ["plain", "correlated-alpha", "own-correlation-missing"])
def test_fast_posterior_of_effects_that_share_their_errors(name):
    """What effects with the same V_O have in common is computed once, another way than for those with their own."""
    data, mixture = build(**CASES[name])
    first = np.zeros(J, dtype=int)
    shared = replace(data, shat=data.shat[first], C=data.C[0] if data.C.ndim == 3 else data.C)
    shared.bhat[np.isnan(shared.shat)] = np.nan
    effects, prior = fast((shared, mixture))
    got, want = posterior.posterior(effects, prior), dense.posterior(shared, mixture)
    for field in ("mean", "sd", "negative", "positive", "lfdr", "lfsr"):
        np.testing.assert_allclose(getattr(got[0], field), getattr(want, field), atol=1e-11, err_msg=field)
    np.testing.assert_allclose(got[1].loglik, dense.loglik_effects(shared, mixture), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(posterior.covariances(effects, prior), want.covariance, atol=1e-11)


@pytest.mark.parametrize("shat", ["own", "shared"])
def test_fast_rates_of_strong_effects_are_right_to_their_own_size(shat):
    """Components that have next to no weight for an effect are all that its lfdr and lfsr are made of."""
    data, mixture = build(correlated=True)
    s = data.shat if shat == "own" else np.ones_like(data.shat)
    strong = replace(data, bhat=3 * data.bhat, shat=s)
    got, want = posterior.posterior(*fast((strong, mixture)))[0], dense.posterior(strong, mixture)
    assert want.lfsr.min() < 1e-18
    np.testing.assert_allclose(got.lfsr, want.lfsr, rtol=1e-8, atol=1e-25)
    np.testing.assert_allclose(got.lfdr, want.lfdr, rtol=1e-8, atol=1e-25)


@pytest.mark.parametrize("shat", ["own", "shared"])
def test_fast_posterior_where_the_point_mass_has_all_the_weight(shat):
    data, mixture = build(correlated=True)
    data = data if shat == "own" else replace(data, shat=np.ones_like(data.shat))
    alone = dense.Mixture(mixture.Sigma, np.where(mixture.null, 1.0, 0.0))
    moments, evidence = posterior.posterior(*fast((data, alone)))
    np.testing.assert_array_equal(moments.lfdr, 1.0)
    np.testing.assert_array_equal(moments.lfsr, 1.0)
    np.testing.assert_array_equal(moments.mean, 0.0)
    np.testing.assert_array_equal(moments.sd, 0.0)
    np.testing.assert_allclose(evidence.loglik, dense.loglik_effects(data, alone), rtol=1e-12)
