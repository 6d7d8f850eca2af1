"""What must not change, and how the rest must, when the data are permuted, rescaled, rotated, extended or projected.

Statements at known parameters hold to rounding. Statements on fits hold to the stopping rule: with ``tol = 1e-12`` two
searches that follow one path up to rounding end within about 1e-10 of the same log-likelihood, and so within
sqrt(2e-10) = 1e-5 standard errors of the same parameters.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.stats import multivariate_normal, norm, ortho_group

import ebmodel
from ebmodel import Params, dense

EXACT = 1e-9
FITTED = 1e-4

seeds = st.integers(0, 10**6)
shares = st.sampled_from([0.0, 0.3])
slabs = st.sampled_from(["g", "independent", -1.0, 0.5])


def gene(seed, missing=0.0, n=24, p=3, m=6):
    """X, Y with two to four active tissues, theta near the truth, and the random generator."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.4 * np.triu(rng.standard_normal((p, p)), 1))
    beta = rng.standard_normal(p)
    active = np.arange(m) < rng.integers(2, 5)
    effects = np.where(active, (beta + 0.4 * rng.standard_normal((m, p))).T, 0.0)
    Y = X @ effects + rng.uniform(0.5, 2.0) * rng.standard_normal((n, m))
    Y[rng.random((n, m)) < missing] = np.nan
    theta = {"tau1": rng.uniform(0.2, 0.8), "beta": beta, "eta": rng.uniform(0.2, 2.0), "sigma2": rng.uniform(0.5, 3.0)}
    return X, Y, theta, rng


def fit(X, Y, **options):
    return ebmodel.fit(X, Y, tol=1e-12, **options)


def same(got, want, tol=EXACT):
    """Equal to within ``tol`` of the largest value."""
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_allclose(got, want, rtol=0.0, atol=tol * max(np.abs(want).max(), 1e-300))


def same_posterior(got, want, tol, *, tissues=slice(None), snps=slice(None), scale=1.0):
    """``got`` is ``want`` with tissues and SNPs reordered and effects multiplied by ``scale``."""
    same(got.posterior_probability, want.posterior_probability[tissues], tol)
    # a Bayes factor's error is relative to the log-densities it compares
    size = max(np.abs(want.loglik), np.abs(want.log_bayes_factor).max())
    np.testing.assert_allclose(got.log_bayes_factor, want.log_bayes_factor[tissues], rtol=0, atol=tol * size)
    same(got.effects, scale * want.effects[tissues][:, snps], tol)
    same(got.effects_sd, abs(scale) * want.effects_sd[tissues][:, snps], tol)
    same(got.lfsr, want.lfsr[tissues][:, snps], 10 * tol)


def same_variances(got, want, tol, scale=1.0):
    """tau1, eta and sigma2; eta matters to the likelihood only beside sigma2."""
    same(got.params.tau1, want.params.tau1, tol)
    same(got.params.sigma2, scale**2 * want.params.sigma2, tol)
    np.testing.assert_allclose(
        got.params.eta, scale**2 * want.params.eta, rtol=10 * tol, atol=tol * scale**2 * want.params.sigma2
    )


# Order ---------------------------------------------------------------------------------------------------------------


@given(seed=seeds, missing=shares, slab=slabs)
def test_order_does_not_matter_at_known_parameters(seed, missing, slab):
    X, Y, theta, rng = gene(seed, missing)
    rows, snps, tissues = (rng.permutation(k) for k in (*X.shape, Y.shape[1]))
    want = ebmodel.oracle(X, Y, Params(**theta, slab=slab))
    moved = Params(**{**theta, "beta": theta["beta"][snps]}, slab=slab)
    got = ebmodel.oracle(X[rows][:, snps], Y[rows][:, tissues], moved)
    same(got.loglik, want.loglik)
    same_posterior(got, want, EXACT, tissues=tissues, snps=snps)


@given(seed=seeds, missing=shares, slab=slabs)
def test_order_does_not_matter_to_the_fit(seed, missing, slab):
    X, Y, _, rng = gene(seed, missing)
    rows, snps, tissues = (rng.permutation(k) for k in (*X.shape, Y.shape[1]))
    want, got = fit(X, Y, slab=slab), fit(X[rows][:, snps], Y[rows][:, tissues], slab=slab)
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED, tissues=tissues, snps=snps)
    same_variances(got, want, FITTED)


# X -> XA -------------------------------------------------------------------------------------------------------------


def invertible(rng, p):
    """A with singular values from 1/3 to 3."""
    U, V = ortho_group.rvs(p, random_state=rng), ortho_group.rvs(p, random_state=rng)
    return U * np.exp(rng.uniform(-1.1, 1.1, p)) @ V


@given(seed=seeds, missing=shares)
def test_change_of_basis_at_known_parameters(seed, missing):
    X, Y, theta, rng = gene(seed, missing)
    A = invertible(rng, X.shape[1])
    want = ebmodel.oracle(X, Y, Params(**theta))
    got = ebmodel.oracle(X @ A, Y, Params(**{**theta, "beta": np.linalg.solve(A, theta["beta"])}))
    same(got.loglik, want.loglik)
    same(got.posterior_probability, want.posterior_probability)
    np.testing.assert_allclose(got.log_bayes_factor, want.log_bayes_factor, rtol=0, atol=EXACT * abs(want.loglik))
    same(got.effects, np.linalg.solve(A, want.effects.to_numpy().T).T)
    # sds map with the whole covariance, which the dense twin has
    h = want.posterior_probability.to_numpy()[:, None]
    mean, covariance = dense.moments(X, Y, Params(**theta))
    inverse = np.linalg.inv(A)
    variance = np.einsum("ij,tjk,ik->ti", inverse, covariance, inverse)
    same(got.effects_sd**2, h * variance + h * (1 - h) * (mean @ inverse.T) ** 2)


@given(seed=seeds, missing=shares)
def test_change_of_basis_of_the_fit(seed, missing):
    X, Y, _, rng = gene(seed, missing)
    A = invertible(rng, X.shape[1])
    want, got = fit(X, Y), fit(X @ A, Y)
    same(got.loglik, want.loglik)
    same(got.posterior_probability, want.posterior_probability, FITTED)
    same(got.log_bayes_factor, want.log_bayes_factor, FITTED)
    same(got.effects, np.linalg.solve(A, want.effects.to_numpy().T).T, FITTED)
    same_variances(got, want, FITTED)
    # sds by draws: each of 4000 has a relative error of about sqrt(1/8000), so twice that for two; 0 where eta = 0
    trees = [f.to_datatree(draws=4000, chains=1, seed=1)["posterior"]["effects"].to_numpy()[0] for f in (got, want)]
    sds = trees[0].std(axis=0), (trees[1] @ np.linalg.inv(A).T).std(axis=0)
    often = want.posterior_probability.to_numpy() > 0.2
    np.testing.assert_allclose(sds[0][often], sds[1][often], rtol=5 * np.sqrt(2 / 4000), atol=1e-9)


@given(seed=seeds, missing=shares)
def test_a_nearly_singular_basis(seed, missing):
    """SNPs in almost complete linkage: a condition number of 1e5 costs as much of a double's 16 digits, no more."""
    X, Y, _, rng = gene(seed, missing)
    U, V = (ortho_group.rvs(3, random_state=rng) for _ in range(2))
    want, got = fit(X, Y), fit(X @ (U * [1.0, 1.0, 1e-5]) @ V, Y)
    same(got.loglik, want.loglik)
    same(got.posterior_probability, want.posterior_probability, FITTED)


@given(seed=seeds, missing=shares)
def test_a_redundant_snp_changes_no_prediction(seed, missing):
    X, Y, theta, rng = gene(seed, missing)
    more = np.column_stack([X, X @ rng.standard_normal(X.shape[1])])
    want = ebmodel.oracle(X, Y, Params(**theta))
    got = ebmodel.oracle(more, Y, Params(**{**theta, "beta": np.append(theta["beta"], 0.0)}))
    same(got.loglik, want.loglik)
    same(got.posterior_probability, want.posterior_probability)
    same(more @ got.effects.to_numpy().T, X @ want.effects.to_numpy().T)
    want, got = fit(X, Y), fit(more, Y)
    same(got.loglik, want.loglik)
    same(more @ got.effects.to_numpy().T, X @ want.effects.to_numpy().T, FITTED)


# Y -> cY -------------------------------------------------------------------------------------------------------------

factors = st.sampled_from([-1.0, 1e-6, 0.03, 3.0, 1e5])


@given(seed=seeds, missing=shares, slab=slabs, c=factors)
def test_units_of_expression_at_known_parameters(seed, missing, slab, c):
    X, Y, theta, _ = gene(seed, missing)
    scaled = {"tau1": theta["tau1"], "beta": c * theta["beta"], "eta": c**2 * theta["eta"]}
    want = ebmodel.oracle(X, Y, Params(**theta, slab=slab))
    got = ebmodel.oracle(X, c * Y, Params(**scaled, sigma2=c**2 * theta["sigma2"], slab=slab))
    N = np.sum(~np.isnan(Y))
    np.testing.assert_allclose(got.loglik, want.loglik - N * np.log(abs(c)), rtol=EXACT, atol=EXACT * abs(want.loglik))
    same_posterior(got, want, EXACT, scale=c)


@given(seed=seeds, missing=shares, slab=slabs, c=factors)
def test_units_of_expression_of_the_fit(seed, missing, slab, c):
    X, Y, _, _ = gene(seed, missing)
    want, got = fit(X, Y, slab=slab), fit(X, c * Y, slab=slab)
    N = np.sum(~np.isnan(Y))
    np.testing.assert_allclose(got.loglik, want.loglik - N * np.log(abs(c)), rtol=EXACT, atol=EXACT * abs(want.loglik))
    same_posterior(got, want, FITTED, scale=c)
    same_variances(got, want, FITTED, scale=abs(c))


@given(seed=seeds, slab=slabs, c=factors)
def test_units_of_genotypes(seed, slab, c):
    """X -> cX: effects scale by 1/c; eta follows, but for the paper's slab, whose shape carries the units."""
    X, Y, theta, _ = gene(seed, 0.3)
    factor = c ** (-2) if slab != "g" else 1.0
    moved = {**theta, "beta": theta["beta"] / c, "eta": theta["eta"] * factor}
    want, got = ebmodel.oracle(X, Y, Params(**theta, slab=slab)), ebmodel.oracle(c * X, Y, Params(**moved, slab=slab))
    same(got.loglik, want.loglik)
    same_posterior(got, want, EXACT, scale=1 / c)


# More data that say nothing ------------------------------------------------------------------------------------------


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_tissue_without_data(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    params = Params(**theta, slab=slab)
    more = np.column_stack([Y, np.full(len(Y), np.nan)])
    want, got = ebmodel.oracle(X, Y, params), ebmodel.oracle(X, more, params)
    same(got.loglik, want.loglik)
    for name in ("posterior_probability", "log_bayes_factor", "effects", "effects_sd", "lfsr"):
        same(getattr(got, name)[:-1], getattr(want, name))
    same(got.posterior_probability[-1], theta["tau1"])
    same(got.effects[-1], theta["tau1"] * theta["beta"])


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_sample_without_data_counts_in_the_slab_alone(seed, missing, slab):
    X, Y, theta, rng = gene(seed, missing)
    params = Params(**theta, slab=slab)
    X_more = np.vstack([X, 3 * rng.standard_normal((1, X.shape[1]))])
    Y_more = np.vstack([Y, np.full((1, Y.shape[1]), np.nan)])
    got, before = ebmodel.oracle(X_more, Y_more, params), ebmodel.oracle(X, Y, params)
    same(got.loglik, dense.loglik(X_more, Y_more, params))
    same(got.posterior_probability, dense.posterior_probability(X_more, Y_more, params))
    if slab == "independent":
        same(got.loglik, before.loglik)
        same_posterior(got, before, EXACT)
    else:
        assert abs(got.loglik - before.loglik) > 1e-6
        fixed = Params(**theta, slab=dense.slab_shape(X_more, params))  # the same Sigma0 without the sample
        same(got.loglik, ebmodel.loglik(X, Y, fixed))


@given(seed=seeds, missing=shares, slab=slabs)
def test_tissues_are_independent_at_known_parameters(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    params = Params(**theta, slab=slab)
    together = ebmodel.oracle(X, Y, params)
    apart = [ebmodel.oracle(X, Y[:, [t]], params) for t in range(Y.shape[1])]
    same(together.loglik, sum(one.loglik for one in apart))
    same(together.effects, np.vstack([one.effects for one in apart]))


# Covariates and the intercept ----------------------------------------------------------------------------------------


def with_covariates(seed, missing=0.0):
    X, Y, theta, rng = gene(seed, missing)
    C = np.column_stack([rng.standard_normal(len(X)), rng.integers(0, 2, len(X))])
    return X + C @ rng.standard_normal((2, X.shape[1])), Y + C @ rng.standard_normal((2, Y.shape[1])), C, theta, rng


@given(seed=seeds, slab=slabs)
def test_projecting_covariates_out_is_working_with_contrasts(seed, slab):
    X, Y, C, theta, _ = with_covariates(seed)
    K = null_space(C.T)  # K'C = 0, K'K = I
    params = Params(**theta, slab=slab)
    want, got = ebmodel.oracle(K.T @ X, K.T @ Y, params), ebmodel.oracle(X, Y, params, covariates=C)
    same(got.loglik, want.loglik)
    same_posterior(got, want, EXACT)
    want, got = fit(K.T @ X, K.T @ Y, slab=slab), fit(X, Y, slab=slab, covariates=C)
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED)
    same_variances(got, want, FITTED)


@given(seed=seeds, missing=shares, slab=slabs)
def test_covariates_absorb_what_they_span(seed, missing, slab):
    X, Y, C, theta, rng = with_covariates(seed, missing)
    params = Params(**theta, slab=slab)
    want = ebmodel.oracle(X, Y, params, covariates=C)
    X_moved = X + C @ rng.standard_normal((2, X.shape[1]))
    Y_moved = Y + C @ (10 * rng.standard_normal((2, Y.shape[1])))
    turned = C @ np.array([[2.0, 1.0], [0.0, -0.5]])
    for got in (
        ebmodel.oracle(X_moved, Y_moved, params, covariates=C),
        ebmodel.oracle(X, Y, params, covariates=turned),
        ebmodel.oracle(X, Y, params, covariates=np.column_stack([C, C[:, 0] - C[:, 1]])),
    ):
        same(got.loglik, want.loglik)
        same_posterior(got, want, EXACT)


@given(seed=seeds, missing=shares, slab=slabs)
def test_an_intercept_is_a_covariate_of_ones(seed, missing, slab):
    X, Y, C, theta, _ = with_covariates(seed, missing)
    params, ones = Params(**theta, slab=slab), np.ones((len(X), 1))
    for covariates, together in ((None, ones), (C, np.column_stack([ones, C]))):
        got = ebmodel.oracle(X + 5, Y - 7, params, covariates=covariates, intercept=True)
        want = ebmodel.oracle(X, Y, params, covariates=together)
        same(got.loglik, want.loglik)
        same_posterior(got, want, EXACT)


@given(seed=seeds, slab=slabs)
def test_an_intercept_is_centring_where_data_are_complete(seed, slab):
    """All but the degrees of freedom: centred data still count n for each tissue, the projection counts n - 1."""
    X, Y, theta, _ = gene(seed)
    X, Y, params = X + 1.0, Y + 2.0, Params(**theta, slab=slab)
    got = ebmodel.oracle(X, Y, params, intercept=True)
    want = ebmodel.oracle(X - X.mean(axis=0), Y - Y.mean(axis=0), params)
    same_posterior(got, want, EXACT)
    same(got.loglik, want.loglik + 0.5 * Y.shape[1] * np.log(2 * np.pi * params.sigma2))
    assert (got.dataset["dof"] == len(X) - 1).all()


# One model under two names -------------------------------------------------------------------------------------------


def assert_same_slab(X, Y, theta, first, second, eta_factor=1.0):
    """``second`` is ``first`` with eta in other units, at known parameters and in the fit."""
    want = ebmodel.oracle(X, Y, Params(**theta, slab=first))
    got = ebmodel.oracle(X, Y, Params(**{**theta, "eta": eta_factor * theta["eta"]}, slab=second))
    same(got.loglik, want.loglik)
    same_posterior(got, want, EXACT)
    want, got = fit(X, Y, slab=first), fit(X, Y, slab=second)
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED)
    np.testing.assert_allclose(
        got.params.eta, eta_factor * want.params.eta, rtol=1e-3, atol=1e-4 * eta_factor * want.params.sigma2
    )


@given(seed=seeds, missing=shares)
def test_names_of_independent_effects(seed, missing):
    X, Y, theta, _ = gene(seed, missing)
    assert_same_slab(X, Y, theta, "independent", np.eye(X.shape[1]))
    assert_same_slab(X, Y, theta, "independent", 0.0)


@given(seed=seeds, missing=shares)
def test_names_of_the_papers_slab(seed, missing):
    X, Y, theta, _ = gene(seed, missing)
    gram = X.T @ X
    assert_same_slab(X, Y, theta, "g", np.linalg.inv(gram))
    assert_same_slab(X, Y, theta, "g", 1.0, eta_factor=1 / np.mean(np.linalg.eigvalsh(gram)))


# Small and extreme cases ---------------------------------------------------------------------------------------------


@given(seed=seeds)
def test_one_tissue_and_one_snp(seed):
    """With x and y vectors everything is a line of scalars."""
    X, Y, theta, _ = gene(seed, n=8, p=1, m=1)
    x, y, params = X[:, 0], Y[:, 0], Params(**theta)
    tau1, beta, eta, sigma2 = params.tau1, params.beta[0], params.eta, params.sigma2
    beta_hat = x @ y / (x @ x)
    rest = norm.logpdf(y, 0, np.sqrt(sigma2)).sum() - norm.logpdf(np.linalg.norm(x) * beta_hat, 0, np.sqrt(sigma2))
    g1 = norm.logpdf(np.linalg.norm(x) * beta_hat, np.linalg.norm(x) * beta, np.sqrt(sigma2 + eta))
    g0 = norm.logpdf(np.linalg.norm(x) * beta_hat, 0, np.sqrt(sigma2))
    h = 1 / (1 + np.exp(g0 - g1) * (1 - tau1) / tau1)
    got = ebmodel.oracle(X, Y, params)
    same(got.loglik, rest + np.logaddexp(np.log(tau1) + g1, np.log(1 - tau1) + g0))
    same(got.posterior_probability, [h])
    slab_mean, slab_variance = (beta / eta + beta_hat / sigma2) / (1 / eta + 1 / sigma2), 1 / (1 / eta + 1 / sigma2)
    same(got.effects, [[h * slab_mean]])
    variance = h * (slab_variance / (x @ x) + slab_mean**2) - (h * slab_mean) ** 2
    same(got.effects_sd, [[np.sqrt(variance)]], 1e-8)


@given(seed=seeds, missing=shares, slab=slabs)
def test_no_tissue_active(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    params = Params(**{**theta, "tau1": 0.0}, slab=slab)
    got = ebmodel.oracle(X, Y, params)
    observed = Y[~np.isnan(Y)]
    same(got.loglik, norm.logpdf(observed, 0, np.sqrt(params.sigma2)).sum())
    for zero in (got.posterior_probability, got.effects, got.effects_sd):
        np.testing.assert_array_equal(zero, np.zeros(zero.shape))
    np.testing.assert_array_equal(got.lfsr, np.ones(got.lfsr.shape))


@given(seed=seeds, missing=shares, slab=slabs)
def test_every_tissue_active(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    params = Params(**{**theta, "tau1": 1.0}, slab=slab)
    got, (mean, covariance) = ebmodel.oracle(X, Y, params), dense.moments(X, Y, params)
    same(got.loglik, dense.log_slab(X, Y, params).sum())
    np.testing.assert_array_equal(got.posterior_probability, np.ones(Y.shape[1]))
    same(got.effects, mean)
    same(got.effects_sd**2, np.diagonal(covariance, axis1=1, axis2=2))
    assert (got.lfsr <= 0.5).all()


@given(seed=seeds, missing=shares)
def test_noise_alone_is_fitted_as_noise(seed, missing):
    """The null model is always among the candidates: no fit is below it."""
    _, Y, _, rng = gene(seed, missing)
    X = rng.standard_normal((len(Y), 3))
    noise = np.where(np.isnan(Y), np.nan, rng.standard_normal(Y.shape))
    sigma2 = np.nanmean(noise**2)
    null = ebmodel.loglik(X, noise, Params(tau1=0.0, beta=np.zeros(3), eta=0.0, sigma2=sigma2))
    assert fit(X, noise).loglik >= null - EXACT * abs(null)


@given(seed=seeds, missing=shares, slab=slabs)
def test_the_fit_is_no_worse_than_the_truth(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    found = fit(X, Y, slab=slab)
    assert found.loglik >= ebmodel.loglik(X, Y, Params(**theta, slab=slab))
    same(found.loglik, ebmodel.loglik(X, Y, found.params))
    same(found.loglik, dense.loglik(X, Y, found.params))


# A mean that is latent or zero ---------------------------------------------------------------------------------------

means = st.sampled_from(["zero", "hierarchical"])


def prior(theta, slab, kappa_factor=2.0):
    """theta with a prior of the mean; its ``beta`` is then a hint of where q is, no more."""
    return Params(**theta, slab=slab, kappa=kappa_factor * theta["eta"])


def same_kappa(got, want, tol, scale=1.0):
    """kappa and eta on the scale of the data: nothing depends on how far below it they are."""
    size = max(want.params.kappa, want.params.eta, 1e-3 * want.params.sigma2)
    np.testing.assert_allclose(got.params.kappa, scale * want.params.kappa, rtol=0, atol=10 * tol * scale * size)


@given(seed=seeds, missing=shares, slab=slabs)
def test_order_does_not_matter_to_the_bound(seed, missing, slab):
    X, Y, theta, rng = gene(seed, missing)
    rows, snps, tissues = (rng.permutation(k) for k in (*X.shape, Y.shape[1]))
    want = ebmodel.oracle(X, Y, prior(theta, slab))
    got = ebmodel.oracle(X[rows][:, snps], Y[rows][:, tissues], prior({**theta, "beta": theta["beta"][snps]}, slab))
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED, tissues=tissues, snps=snps)
    same(got.beta_covariance, want.beta_covariance.to_numpy()[np.ix_(snps, snps)], FITTED)


@given(seed=seeds, missing=shares, slab=slabs, mean=means)
def test_order_does_not_matter_to_the_fit_with_a_prior_of_the_mean(seed, missing, slab, mean):
    X, Y, _, rng = gene(seed, missing)
    rows, snps, tissues = (rng.permutation(k) for k in (*X.shape, Y.shape[1]))
    want = fit(X, Y, slab=slab, mean=mean)
    got = fit(X[rows][:, snps], Y[rows][:, tissues], slab=slab, mean=mean)
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED, tissues=tissues, snps=snps)
    same_variances(got, want, FITTED)
    same_kappa(got, want, FITTED)


@given(seed=seeds, missing=shares, mean=means)
def test_change_of_basis_with_a_prior_of_the_mean(seed, missing, mean):
    """For the paper's slab: kappa Sigma0 moves with the SNPs as eta Sigma0 does."""
    X, Y, _, rng = gene(seed, missing)
    A = invertible(rng, X.shape[1])
    want, got = fit(X, Y, mean=mean), fit(X @ A, Y, mean=mean)
    same(got.loglik, want.loglik)
    same(got.posterior_probability, want.posterior_probability, FITTED)
    inverse = np.linalg.inv(A)
    same(got.effects, want.effects.to_numpy() @ inverse.T, FITTED)
    same_variances(got, want, FITTED)
    same_kappa(got, want, FITTED)
    if mean == "hierarchical":
        same(got.params.beta, inverse @ want.params.beta.to_numpy(), FITTED)
        same(got.beta_covariance, inverse @ want.beta_covariance.to_numpy() @ inverse.T, FITTED)


@given(seed=seeds, missing=shares, slab=slabs, mean=means, c=factors)
def test_units_of_expression_with_a_prior_of_the_mean(seed, missing, slab, mean, c):
    """kappa and eta are variances: they scale by c^2."""
    X, Y, _, _ = gene(seed, missing)
    want, got = fit(X, Y, slab=slab, mean=mean), fit(X, c * Y, slab=slab, mean=mean)
    N = np.sum(~np.isnan(Y))
    np.testing.assert_allclose(got.loglik, want.loglik - N * np.log(abs(c)), rtol=EXACT, atol=EXACT * abs(want.loglik))
    same_posterior(got, want, FITTED, scale=c)
    same_variances(got, want, FITTED, scale=abs(c))
    same_kappa(got, want, FITTED, scale=c**2)
    if mean == "hierarchical":
        same(got.beta_covariance, c**2 * want.beta_covariance, FITTED)


@given(seed=seeds, slab=slabs, c=factors)
def test_units_of_genotypes_with_a_prior_of_the_mean(seed, slab, c):
    X, Y, theta, _ = gene(seed, 0.3)
    factor = c ** (-2) if slab != "g" else 1.0
    moved = {**theta, "beta": theta["beta"] / c, "eta": theta["eta"] * factor}
    want, got = ebmodel.oracle(X, Y, prior(theta, slab)), ebmodel.oracle(c * X, Y, prior(moved, slab))
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED, scale=1 / c)


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_tissue_without_data_says_nothing_of_a_latent_mean(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    more = np.column_stack([Y, np.full(len(Y), np.nan)])
    want, got = (ebmodel.oracle(X, Z, prior(theta, slab)) for Z in (Y, more))
    same(got.loglik, want.loglik)
    for name in ("posterior_probability", "effects", "effects_sd", "lfsr"):
        same(getattr(got, name)[:-1], getattr(want, name), FITTED)
    same(got.posterior_probability[-1], theta["tau1"])
    same(got.effects[-1], theta["tau1"] * want.params.beta.to_numpy(), FITTED)
    same(got.beta_covariance, want.beta_covariance, FITTED)


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_sample_without_data_counts_in_the_shape_alone(seed, missing, slab):
    """For independent effects it changes nothing; else all there is to it is Sigma0."""
    X, Y, theta, rng = gene(seed, missing)
    X_more = np.vstack([X, 3 * rng.standard_normal((1, X.shape[1]))])
    Y_more = np.vstack([Y, np.full((1, Y.shape[1]), np.nan)])
    got = ebmodel.oracle(X_more, Y_more, prior(theta, slab))
    shape = slab if slab == "independent" else dense.slab_shape(X_more, Params(**theta, slab=slab))
    want = ebmodel.oracle(X, Y, prior(theta, shape))
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED)
    for mean in ("zero", "hierarchical"):
        want, got = fit(X, Y, slab=shape, mean=mean), fit(X_more, Y_more, slab=slab, mean=mean)
        same(got.loglik, want.loglik)
        same_posterior(got, want, FITTED)
        same_kappa(got, want, FITTED)


@given(seed=seeds, slab=slabs, mean=means)
def test_projecting_covariates_out_with_a_prior_of_the_mean(seed, slab, mean):
    X, Y, C, _, _ = with_covariates(seed)
    K = null_space(C.T)
    want, got = fit(K.T @ X, K.T @ Y, slab=slab, mean=mean), fit(X, Y, slab=slab, mean=mean, covariates=C)
    same(got.loglik, want.loglik)
    same_posterior(got, want, FITTED)
    same_variances(got, want, FITTED)
    same_kappa(got, want, FITTED)


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_prior_without_spread_is_a_mean_of_zero(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    zero = {**theta, "beta": np.zeros(3)}
    want, got = (ebmodel.oracle(X, Y, Params(**zero, slab=slab, kappa=kappa)) for kappa in (None, 0.0))
    same(got.loglik, want.loglik)
    same_posterior(got, want, EXACT)
    # and the limit of ever narrower ones
    near = ebmodel.oracle(X, Y, Params(**theta, slab=slab, kappa=1e-12 * theta["eta"]))
    same(near.loglik, want.loglik, 1e-7)
    same_posterior(near, want, 1e-4)


@given(seed=seeds, missing=shares, slab=slabs)
def test_a_prior_without_spread_is_at_zero_wherever_beta_is_said_to_be(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    got, want = (
        ebmodel.oracle(X, Y, Params(**{**theta, "beta": beta}, slab=slab, kappa=0.0))
        for beta in (theta["beta"], np.zeros(3))
    )
    same(got.loglik, want.loglik)
    same(got.params.beta, np.zeros(3))
    same_posterior(got, want, EXACT)


@given(seed=seeds, missing=shares, slab=slabs)
def test_means_are_nested(seed, missing, slab):
    """Zero is below hierarchical, whose bound is below the likelihood at the best mean; each agrees with the oracle."""
    X, Y, theta, _ = gene(seed, missing)
    found = {mean: fit(X, Y, slab=slab, mean=mean) for mean in ("zero", "hierarchical", "free")}
    values = [found[name].loglik for name in ("zero", "hierarchical", "free")]
    assert values[0] <= values[1] + EXACT * abs(values[0])
    assert values[1] <= values[2] + EXACT * abs(values[1])
    for name in ("zero", "hierarchical"):
        same(found[name].loglik, ebmodel.loglik(X, Y, found[name].params), 1e-8)
        known = ebmodel.oracle(X, Y, found[name].params)
        same_posterior(known, found[name], FITTED)
    # no worse than at the truth
    at_truth = Params(**theta, slab=slab, kappa=float(np.mean(theta["beta"] ** 2)))
    assert found["hierarchical"].loglik >= ebmodel.loglik(X, Y, at_truth) - EXACT * abs(values[1])


@given(seed=seeds, missing=shares, slab=slabs, mean=means)
def test_noise_alone_has_a_null_model_among_its_candidates(seed, missing, slab, mean):
    _, Y, _, rng = gene(seed, missing)
    X = rng.standard_normal((len(Y), 3))
    noise = np.where(np.isnan(Y), np.nan, rng.standard_normal(Y.shape))
    null = ebmodel.loglik(X, noise, Params(tau1=0.0, beta=np.zeros(3), eta=0.0, sigma2=np.nanmean(noise**2)))
    assert fit(X, noise, slab=slab, mean=mean).loglik >= null - EXACT * abs(null)


@given(seed=seeds, missing=shares, slab=slabs)
def test_no_tissue_active_and_a_latent_mean(seed, missing, slab):
    X, Y, theta, _ = gene(seed, missing)
    got = ebmodel.oracle(X, Y, prior({**theta, "tau1": 0.0}, slab))
    same(got.loglik, norm.logpdf(Y[~np.isnan(Y)], 0, np.sqrt(theta["sigma2"])).sum())
    for zero in (got.posterior_probability, got.effects, got.effects_sd, got.params.beta):
        np.testing.assert_array_equal(zero, np.zeros(zero.shape))
    same(got.beta_covariance, 2.0 * theta["eta"] * dense.slab_shape(X, Params(**theta, slab=slab)))


@given(seed=seeds)
def test_one_snp_and_every_tissue_active_is_a_line_of_scalars(seed):
    """Complete data, one SNP: betahat(t) ~ N(beta, (eta + sigma2)/x'x), beta ~ N(0, kappa/x'x)."""
    X, Y, theta, _ = gene(seed, n=9, p=1, m=5)
    kappa, eta, sigma2 = 1.7 * theta["eta"], theta["eta"], theta["sigma2"]
    got = ebmodel.oracle(X, Y, Params(**{**theta, "tau1": 1.0}, kappa=kappa))
    z = X[:, 0] @ Y / np.linalg.norm(X)
    precision = 5 / (eta + sigma2) + 1 / kappa
    mu = z.sum() / (eta + sigma2) / precision
    same(got.params.beta, [mu / np.linalg.norm(X)])
    same(got.beta_covariance, [[1 / precision / (X[:, 0] @ X[:, 0])]])
    keep = sigma2 / (eta + sigma2)
    same(got.effects[:, 0], (keep * mu + (1 - keep) * z) / np.linalg.norm(X))
    same(got.effects_sd[:, 0] ** 2, np.full(5, (eta * keep + keep**2 / precision) / (X[:, 0] @ X[:, 0])))
    rest = norm.logpdf(Y, 0, np.sqrt(sigma2)).sum() - norm.logpdf(z, 0, np.sqrt(sigma2)).sum()
    together = multivariate_normal(np.zeros(5), (eta + sigma2) * np.eye(5) + kappa).logpdf(z)
    same(got.loglik, rest + together)
