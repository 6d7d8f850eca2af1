"""Posterior moments, local false sign rates and draws, pinned to the dense twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import ebmodel
from ebmodel import dense
from ebmodel.posterior import draw, posterior

DRAWS = 20_000
Z = 5.0
"""Standard errors allowed: among hundreds of correct estimates one is further off once in 10,000 seeds."""


def at(case):
    return posterior(case.stats, case.whitening, case.params)


def mixture_moments(case):
    """Mean (m, p) and covariance (m, p, p) of beta(t) | Y from the dense slab moments and P(I(t)=1)."""
    h = dense.posterior_probability(*case.dense)[:, None]
    mean, covariance = dense.moments(*case.dense)
    outer = mean[:, :, None] * mean[:, None, :]
    return h * mean, h[..., None] * (covariance + outer) - h[..., None] ** 2 * outer


def test_probability(case):
    np.testing.assert_allclose(at(case).probability, dense.loglik_enumerated(*case.dense)[1], rtol=1e-9)


def test_slab_moments(case, pin):
    mean, covariance = dense.moments(*case.dense)
    pin(at(case).slab_mean, mean)
    np.testing.assert_allclose(at(case).slab_sd ** 2, np.diagonal(covariance, axis1=1, axis2=2), rtol=1e-9)


def test_effects_and_their_sd(case, pin):
    mean, covariance = mixture_moments(case)
    pin(at(case).mean, mean)
    np.testing.assert_allclose(at(case).sd ** 2, np.diagonal(covariance, axis1=1, axis2=2), rtol=1e-9)


def test_the_public_oracle(case, pin):
    fit = ebmodel.oracle(case.X, case.Y, case.params, covariates=case.C)
    mean, covariance = mixture_moments(case)
    pin(fit.loglik, dense.loglik(*case.dense))
    pin(fit.posterior_probability, dense.posterior_probability(*case.dense))
    pin(fit.log_bayes_factor, dense.log_bayes_factor(*case.dense), scale=np.abs(dense.log_slab(*case.dense)).max())
    pin(fit.effects, mean)
    pin(fit.effects_sd**2, np.diagonal(covariance, axis1=1, axis2=2))


def test_lfsr_is_the_smaller_tail(case, pin):
    h = dense.posterior_probability(*case.dense)[:, None]
    mean, covariance = dense.moments(*case.dense)
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    not_above = (1 - h) + h * norm.cdf(0, mean, sd)
    not_below = (1 - h) + h * norm.sf(0, mean, sd)
    pin(at(case).lfsr, np.minimum(not_above, not_below), scale=1.0)


def test_lfsr_without_spread(make_case):
    """At eta = 0 an active effect is beta exactly: its sign is wrong only where the tissue is not active."""
    case = make_case("missing", "g")
    params = ebmodel.Params(tau1=0.4, beta=[1.0, -2.0, 0.0, 0.5], eta=0.0, sigma2=1.5)
    result = posterior(case.stats, case.whitening, params)
    h = dense.posterior_probability(case.X, case.Y, params)
    expected = np.repeat(1 - h[:, None], 4, axis=1)
    expected[:, 2] = 1.0
    np.testing.assert_allclose(result.lfsr, expected, rtol=1e-9)
    np.testing.assert_allclose(result.slab_sd, 0.0, atol=1e-300)
    np.testing.assert_allclose(result.sd, np.sqrt(h * (1 - h))[:, None] * np.abs(params.beta), rtol=1e-9)


def test_tissue_without_data_keeps_its_prior(make_case, pin):
    case = make_case("tissue-unobserved", "independent")
    result, theta = at(case), case.params
    assert np.isnan(case.Y[:, 0]).all()
    pin(result.probability[0], theta.tau1)
    pin(result.slab_mean[0], theta.beta)
    pin(result.slab_sd[0], np.full(4, np.sqrt(theta.eta)))
    pin(result.log_bayes_factor[0], 0.0, scale=1.0)


# A mean that is latent -----------------------------------------------------------------------------------------------


def believed(case):
    """Parameters with a q(beta) that matters: E beta in them, and Cov(beta)."""
    theta = replace(case.params, kappa=case.state.sigma2 / np.mean(case.stats.d))
    T = np.random.default_rng(1).random(len(case.Y.T))
    mu, S = dense.variational_mean(case.X, case.Y, theta, T, case.C)
    return replace(theta, beta=mu), S


def test_probability_where_the_mean_is_latent(case, pin):
    theta, S = believed(case)
    got = posterior(case.stats, case.whitening, theta, S)
    h = dense.variational_probability(case.X, case.Y, theta, theta.beta, S, case.C)
    pin(got.probability, h, 1e-8)
    log_odds = np.log(theta.tau1 / theta.tau0) - got.log_bayes_factor  # equation (7)
    pin(1 / (1 + np.exp(-log_odds)), h, 1e-8)


def test_effects_carry_the_doubt_of_a_latent_mean(case, pin):
    theta, S = believed(case)
    got, known = (posterior(case.stats, case.whitening, theta, about) for about in (S, None))
    mean, covariance = dense.variational_moments(case.X, case.Y, theta, theta.beta, S, case.C)
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    pin(got.slab_mean, mean)
    np.testing.assert_allclose(got.slab_sd**2, variance, rtol=1e-8)
    h = got.probability[:, None]
    pin(got.mean, h * mean)
    pin(got.sd**2, h * (variance + mean**2) - (h * mean) ** 2, 1e-8)
    pin(known.slab_mean, mean)
    assert (got.slab_sd >= known.slab_sd * (1 - 1e-9)).all()
    assert (got.slab_sd > known.slab_sd * (1 + 1e-6)).any()


def test_tails_where_the_mean_is_latent(case, pin):
    theta, S = believed(case)
    got = posterior(case.stats, case.whitening, theta, S)
    mean, covariance = dense.variational_moments(case.X, case.Y, theta, theta.beta, S, case.C)
    sd, h = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), got.probability[:, None]
    not_above, not_below = ((1 - h) + h * tail(0, mean, sd) for tail in (norm.cdf, norm.sf))
    pin(got.lfsr, np.minimum(not_above, not_below), 1e-8, scale=1.0)
    lower, upper = got.interval(0.9)
    for end, below, at_or_below in ((lower, 0.05, 0.05), (upper, 0.95, 0.95)):
        spike_below, spike_at = (1 - h) * (end > 0), (1 - h) * (end >= 0)
        assert (h * norm.cdf(end, mean, sd) + spike_below <= below + 1e-7).all()
        assert (h * norm.cdf(end, mean, sd) + spike_at >= at_or_below - 1e-7).all()


def test_a_mean_known_to_be_zero_is_no_different_from_one_that_is(case, pin):
    p = case.X.shape[1]
    number = replace(case.params, beta=np.zeros(p))
    want = posterior(case.stats, case.whitening, number)
    for theta, S in ((replace(number, kappa=0.0), None), (replace(number, kappa=0.0), np.zeros((p, p)))):
        for got, value in zip(posterior(case.stats, case.whitening, theta, S), want, strict=True):
            pin(got, value, 1e-12)


@pytest.mark.parametrize("shape", ["tissue-unobserved", "collinear-missing"])
def test_what_no_sample_sees_has_both_priors(make_case, pin, shape):
    """Independent effects along a direction that X leaves out, or in a tissue without data: N(., (eta + kappa) I)."""
    case = make_case(shape, "independent")
    theta, S = believed(case)
    slab = posterior(case.stats, case.whitening, theta, S)
    if shape == "tissue-unobserved":
        pin(slab.slab_sd[0] ** 2, theta.eta + np.diag(S))
        pin(slab.log_bayes_factor[0], 0.0, scale=1.0)
    else:
        unseen = np.linalg.svd(case.X)[2][3:]
        pin(unseen @ S @ unseen.T, theta.kappa * np.eye(2))
        pin(unseen @ theta.beta, np.zeros(2), scale=np.abs(theta.beta).max())


def test_the_oracle_with_a_prior_of_the_mean_is_its_own_fixed_point(case, pin):
    """At known tau1, eta, sigma2 and kappa only q is sought; where ``beta`` was before is no more than a hint."""
    theta, _ = believed(case)
    known = ebmodel.oracle(case.X, case.Y, theta, covariates=case.C)
    got, S = known.params, known.beta_covariance.to_numpy()
    for name in ("tau1", "eta", "sigma2", "kappa"):
        assert getattr(got, name) == getattr(theta, name)
    T = dense.variational_probability(case.X, case.Y, theta, np.asarray(got.beta), S, case.C)
    pin(known.posterior_probability, T, 1e-8)
    mu, covariance = dense.variational_mean(case.X, case.Y, theta, T, case.C)
    pin(got.beta, mu, 1e-4)  # the last steps gained less than 1e-9: sqrt(2e-9) standard errors
    pin(S, covariance, 1e-4)
    bound = dense.variational_bound(case.X, case.Y, theta, T, np.asarray(got.beta), S, case.C)
    pin(known.loglik, bound)
    assert known.loglik == ebmodel.loglik(case.X, case.Y, theta, covariates=case.C)
    again = ebmodel.oracle(case.X, case.Y, got, covariates=case.C)
    pin(again.loglik, known.loglik, 1e-10)
    mean, covariance = dense.variational_moments(case.X, case.Y, theta, np.asarray(got.beta), S, case.C)
    pin(known.effects, T[:, None] * mean, 1e-7)


# Draws ---------------------------------------------------------------------------------------------------------------

SAMPLED = [
    ("missing", "g"),
    ("fewer-samples-than-snps", 0.5),
    ("collinear-missing", "g"),
    ("collinear-missing", "independent"),  # here the posterior has directions that no sample sees
    ("covariates-intercept-missing", -1.0),
    ("wide-missing", "matrix"),
]


def repeated(case, size, seed):
    """Draws of I(t) and beta(t), all at the case's parameters."""
    theta = case.params
    fixed = at(case).probability, theta.beta, theta.eta, theta.sigma2
    every = [np.broadcast_to(x, (size, *np.shape(x))) for x in fixed]
    return draw(case.stats, case.whitening, *every, np.random.default_rng(seed))


def sample(make_case, shape, slab):
    """A case with weak signals, so that many tissues are neither surely active nor surely not, and draws from it."""
    case = make_case(shape, slab, signal=0.2)
    active, effects = repeated(case, DRAWS, 1)
    assert active.shape == (DRAWS, len(case.Y.T))
    assert effects.shape == (DRAWS, len(case.Y.T), len(case.X.T))
    assert np.sum(np.abs(active.mean(axis=0) - 0.5) < 0.4) >= 3
    return case, active, effects


@pytest.mark.parametrize(("shape", "slab"), SAMPLED)
def test_draws_have_the_dense_moments(make_case, shape, slab):
    case, active, effects = sample(make_case, shape, slab)
    h = dense.posterior_probability(*case.dense)
    assert (effects[~active] == 0.0).all()
    assert (np.abs(active.mean(axis=0) - h) <= Z * np.sqrt(h * (1 - h) / DRAWS)).all()
    for t, (mean, covariance) in enumerate(zip(*dense.moments(*case.dense), strict=True)):
        drawn = effects[active[:, t], t]
        if len(drawn) < 100:
            continue
        variance = np.diag(covariance)
        assert (np.abs(drawn.mean(axis=0) - mean) <= Z * np.sqrt(variance / len(drawn)) + 1e-12).all()
        # a normal sample: var(x_i x_j) = v_i v_j + v_ij^2
        se = np.sqrt((np.outer(variance, variance) + covariance**2) / len(drawn))
        centred = drawn - mean
        assert (np.abs(centred.T @ centred / len(drawn) - covariance) <= Z * se + 1e-12).all()


@pytest.mark.parametrize(("shape", "slab"), SAMPLED)
def test_draws_of_effects_have_the_reported_mean_and_sd(make_case, shape, slab):
    case, _, effects = sample(make_case, shape, slab)
    result = at(case)
    assert (np.abs(effects.mean(axis=0) - result.mean) <= Z * result.sd / np.sqrt(DRAWS) + 1e-12).all()
    squares = (effects - result.mean) ** 2
    assert (np.abs(squares.mean(axis=0) - result.sd**2) <= Z * squares.std(axis=0) / np.sqrt(DRAWS) + 1e-12).all()


def test_draws_are_independent_between_tissues(make_case):
    effects = sample(make_case, "collinear-missing", "independent")[2]
    (m, p), varies = effects.shape[1:], effects.reshape(DRAWS, -1).std(axis=0) > 0
    correlation = np.corrcoef(effects.reshape(DRAWS, -1)[:, varies].T)
    tissue = np.repeat(np.arange(m), p)[varies]
    between = tissue[:, None] != tissue
    assert np.abs(correlation[between]).max() <= Z / np.sqrt(DRAWS)


@pytest.mark.parametrize(("shape", "slab"), SAMPLED)
def test_lfsr_is_the_share_of_draws(make_case, shape, slab):
    case, _, effects = sample(make_case, shape, slab)
    lfsr = at(case).lfsr
    share = np.minimum((effects <= 0).mean(axis=0), (effects >= 0).mean(axis=0))
    tolerance = Z * np.sqrt(lfsr * (1 - lfsr) / DRAWS)
    # the smaller of two shares that are equal within their error is biased downwards, by less than their error
    assert (np.abs(share - lfsr) <= tolerance).all()


def test_draws_follow_their_shape_and_seed(make_case):
    case = make_case("missing", "g")
    sets = [repeated(case, 50, seed) for seed in (0, 0, 1)]
    assert sets[0][1].shape == (50, 6, 4)
    np.testing.assert_array_equal(sets[0][1], sets[1][1])
    assert (sets[0][1] != sets[2][1]).any()


def test_the_oracle_is_calibrated():
    """Simulator and posterior agree: at the true theta, on the model's own data, every probability is a frequency.

    Sums over 60 data sets of what should have mean 0 and a known variance: |z| < 4 has chance 0.99994 each.
    """
    params = ebmodel.Params(tau1=0.4, beta=[0.25, -0.15, 0.0, 0.1], eta=1.5, sigma2=1.0)
    hits = variance = signs = sign_variance = 0.0
    pulls = []
    for seed in range(60):
        gene = ebmodel.simulate.model_true(params, n=60, m=40, missing=0.3, seed=seed)
        known = ebmodel.oracle(gene.X, gene.Y, params)
        h, active, truth = known.posterior_probability, gene["active"], gene["effects"]
        hits += float((active - h).sum())
        variance += float((h * (1 - h)).sum())
        # one SNP: wrong or no sign against the local false sign rate
        lfsr = known.lfsr[:, 0]
        wrong = np.sign(known.effects[:, 0]) != np.sign(truth[:, 0])
        signs += float((wrong - lfsr).sum())
        sign_variance += float((lfsr * (1 - lfsr)).sum())
        slab = known.effects / h, np.sqrt(known.effects_sd**2 / h - (1 - h) * (known.effects / h) ** 2)
        pulls.append(((truth - slab[0]) / slab[1]).to_numpy()[active.to_numpy()][:, 0])
    pull = np.concatenate(pulls)
    assert abs(hits) < 4 * np.sqrt(variance)
    assert abs(signs) < 4 * np.sqrt(sign_variance)
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull))
    assert abs((pull**2).mean() - 1) < 4 * np.sqrt(2 / len(pull))


@pytest.mark.statistical
@pytest.mark.parametrize(("slab", "unit"), [("g", 1.0), ("independent", 1 / 30)])
def test_intervals_of_effects_cover_about_their_level(slab, unit):
    """The fitted parameters' own doubt is not in the intervals, so that three of a hundred may be missing from them.

    Effects of a data set share its parameters, so that the standard error is that of 40 data sets.
    """
    X = ebmodel.simulate.setting(1, rho=0.6, p=8, n=60, seed=0)["X"].to_numpy()
    theta = ebmodel.Params(tau1=0.6, beta=np.zeros(8), eta=1.5 * unit, sigma2=1.0, slab=slab, kappa=3.0 * unit)
    root = np.linalg.cholesky(theta.kappa * dense.slab_shape(X, theta))
    every, active = [], []
    for seed in range(40):
        beta = root @ np.random.default_rng([seed, 7]).standard_normal(8)
        params = replace(theta, beta=beta, kappa=None)
        gene = ebmodel.simulate.model_true(params, X=X, m=60, missing=0.1, seed=seed, posterior=False)
        ends = ebmodel.fit(gene.X, gene.Y, slab, "hierarchical").effects_interval(0.9)
        inside = (gene["effects"].to_numpy() >= ends.lower.to_numpy()) & (
            gene["effects"].to_numpy() <= ends.upper.to_numpy()
        )
        every.append(inside.mean())
        active.append(inside[gene["active"].to_numpy()].mean())
    for share, allowed in ((np.array(every), 0.0), (np.array(active), 0.03)):
        assert share.mean() > 0.9 - allowed - 4 * share.std() / np.sqrt(40)
    assert np.mean(active) < 0.9 + 4 * np.std(active) / np.sqrt(40)
