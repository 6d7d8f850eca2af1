"""The maximum: boundaries, refusals, and the global search of the stored study."""

from __future__ import annotations

import numpy as np
import pytest

import ebmodel
from ebmodel import dense, em
from ebmodel.data import tidy
from ebmodel.search import maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import compress, whiten


@pytest.fixture
def gene():
    return ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=4, n=25, sigma=3, seed=5)


def test_more_starts_never_end_lower(gene):
    values = [ebmodel.fit(gene.X, gene.Y, n_starts=k).loglik for k in (1, 5, 20, 64)]
    assert np.all(np.diff(values) >= 0.0)


def test_result_is_the_best_start(gene):
    fit = ebmodel.fit(gene.X, gene.Y)
    assert fit.loglik == fit.dataset["start_loglik"].max() == fit.trace[-1]
    assert np.all(np.diff(fit.trace) >= -1e-11 * abs(fit.loglik))
    assert fit.converged
    assert fit.status == "converged"


def test_stopping_early_is_said(gene):
    fit = ebmodel.fit(gene.X, gene.Y, n_starts=1, max_iter=2)
    assert not fit.converged
    assert "not converged in 2 steps: raise max_iter" in fit.status


def test_every_tissue_active_is_the_boundary_tau1_1(rng):
    X = rng.normal(size=(60, 3))
    Y = X @ (5.0 + 3.0 * rng.normal(size=(3, 15))) + rng.normal(size=(60, 15))
    fit = ebmodel.fit(X, Y)
    assert fit.params.tau1 == 1.0
    assert "boundary tau1 = 1" in fit.status
    np.testing.assert_array_equal(fit.posterior_probability, 1.0)


def test_one_common_effect_is_the_boundary_eta_0(rng):
    X = rng.normal(size=(60, 5))
    Y = X @ np.ones((5, 15)) + rng.normal(size=(60, 15))
    fit = ebmodel.fit(X, Y)
    assert fit.params.eta == 0.0
    assert "boundary eta = 0" in fit.status
    # with eta = 0 the slab is the point beta
    np.testing.assert_allclose(fit.effects_sd, 0.0, atol=1e-12)
    beta = np.linalg.lstsq(X, Y.mean(axis=1))[0]
    np.testing.assert_allclose(fit.params.beta, beta, rtol=1e-8)


def test_no_tissue_active_where_no_slab_can_gain():
    # y_t orthogonal to X in every tissue: any mean but 0, and any spread, only loses
    X = np.zeros((6, 1))
    X[0] = 1.0
    Y = np.zeros((6, 4))
    Y[1:, :] = np.random.default_rng(0).normal(size=(5, 4))
    fit = ebmodel.fit(X, Y)
    null = dense.log_null(X, Y, ebmodel.Params(tau1=0.5, beta=[0.0], eta=0.0, sigma2=np.mean(Y**2))).sum()
    assert fit.loglik == pytest.approx(null, abs=1e-9)
    assert fit.params.tau1 == 0.0
    assert "boundary tau1 = 0: no tissue active" in fit.status
    np.testing.assert_allclose(fit.effects, 0.0, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_trap_one_tissue_alone_on_the_slab_stays_bounded(missing):
    """Without eta >= 0 the likelihood grows without bound as sigma2 + eta -> 0 with one tissue's estimate as mean."""
    params = ebmodel.Params(tau1=0.0, beta=np.zeros(8), eta=0.0, sigma2=1.0)
    for seed in range(5):
        gene = ebmodel.simulate.model_true(params, n=30, m=4, missing=missing, seed=seed)
        fit = ebmodel.fit(gene.X, gene.Y)
        assert fit.params.eta >= 0.0
        assert 0.3 < fit.params.sigma2 < 2.0
        assert np.isfinite(fit.loglik)


def test_fewer_than_two_tissues_are_refused(gene):
    Y = gene["Y"].to_numpy().copy()
    with pytest.raises(
        ebmodel.InputError, match=r"expected at least 2 tissues with data, got 1 \('tissue0'\), in expression; do add"
    ):
        ebmodel.fit(gene.X, Y[:, :1])
    Y[:, 1:] = np.nan
    with pytest.raises(ebmodel.InputError, match="at least 2 tissues with data, got 1 "):
        ebmodel.fit(gene.X, Y)


def test_an_exact_fit_is_refused(rng):
    X = rng.normal(size=(20, 3))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(X, X @ rng.normal(size=(3, 6)))
    wide, y = rng.normal(size=(10, 15)), rng.normal(size=(10, 1))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(wide, np.hstack([y, y]), slab="independent")


def test_snps_that_span_all_samples_are_refused_for_the_papers_slab_only(rng):
    X = rng.normal(size=(12, 20))
    Y = X @ rng.normal(size=(20, 6)) + rng.normal(size=(12, 6))
    with pytest.raises(
        ebmodel.InputError, match="got 12 degrees of freedom and 12 independent SNPs at most, in tissue 'tissue0'"
    ):
        ebmodel.fit(X, Y)
    fit = ebmodel.fit(X, Y, slab="independent")
    assert np.isfinite(fit.loglik)
    assert np.isnan(fit.ols).all()


def test_mean_and_n_starts_are_checked(gene):
    kinds = "'free', 'zero', 'hierarchical'"
    with pytest.raises(ebmodel.InputError, match=f"expected one of {kinds}, got 'other', in mean"):
        ebmodel.fit(gene.X, gene.Y, mean="other")
    with pytest.raises(ebmodel.InputError, match="expected at least 1, got 0, in n_starts"):
        ebmodel.fit(gene.X, gene.Y, n_starts=0)


def test_mean_effect_is_zero_where_no_active_tissue_looks(rng):
    """Samples without any response make directions that nothing observes: beta is of least norm there."""
    X = rng.normal(size=(12, 8))
    Y = X @ rng.normal(size=(8, 5)) + 0.1 * rng.normal(size=(12, 5))
    Y[6:] = np.nan  # every tissue sees the same 6 samples: 2 directions of X's 8 are never seen
    fit = ebmodel.fit(X, Y, slab="independent")
    assert fit.params.tau1 > 0.0
    unseen = np.linalg.svd(X[:6])[2][6:]
    np.testing.assert_allclose(unseen @ fit.params.beta.to_numpy(), 0.0, atol=1e-9)
    A = rng.normal(size=(8, 8))
    first, second = (
        ebmodel.fit(Z, Y + np.where(np.arange(5) < 2, np.nan, 0.0) * (np.arange(12)[:, None] > 3)) for Z in (X, X @ A)
    )
    assert first.loglik == pytest.approx(second.loglik, abs=1e-7)
    np.testing.assert_allclose(A @ second.params.beta.to_numpy(), first.params.beta.to_numpy(), rtol=1e-4, atol=1e-6)


def test_acceleration_shortens_the_slow_starts_and_ends_at_the_same_maxima():
    """Steps of plain EM and of SQUAREM from the same starts, to the same tolerance; printed with ``-s``."""
    plain, accelerated = [], []
    for k, rho in ((1, 0.0), (1, 0.8), (3, 0.0), (3, 0.8)):
        gene = ebmodel.simulate.setting(k, rho=rho, signal=0.5, seed=11)
        stats, _ = whiten(compress(tidy(gene.X, gene.Y)), "g")
        for T in active_sets(stats, 64, seed=0)[::8]:
            state = em.from_responsibilities(stats, T)
            _, trace, _ = em.run(stats, state, 1e-9, 5000)
            steps, values = 1, [-np.inf, em.expectation(stats, state)[1]]
            while values[-1] - values[-2] >= 1e-9:
                state = em.maximisation(stats, em.expectation(stats, state)[0], state)
                values.append(em.expectation(stats, state)[1])
                steps += 1
            plain.append(steps)
            accelerated.append(len(trace))
            assert trace[-1] == pytest.approx(values[-1], abs=1e-4)
    for name, steps in (("plain EM", plain), ("SQUAREM", accelerated)):
        print(f"{name}: median {np.median(steps):.0f} steps, 90 % {np.quantile(steps, 0.9):.0f}, most {max(steps)}")
    assert max(accelerated) < 0.7 * max(plain)


def test_starts_that_meet_go_on_as_one_and_no_maximum_is_lost():
    """Against EM from every start on its own: the same maximum, and all but the same ends."""
    for k, rho, signal, seed in ((1, 0.0, 0.5, 1), (3, 0.0, 0.5, 2), (3, 0.4, 1.0, 3), (1, 0.8, 2.0, 4)):
        gene = ebmodel.simulate.setting(k, rho=rho, signal=signal, m=30, p=10, seed=seed)
        stats, _ = whiten(compress(tidy(gene.X, gene.Y)), "g")
        starts = active_sets(stats, 64, 0)
        alone = np.array([em.run(stats, em.from_responsibilities(stats, T), 1e-9, 5000)[1][-1] for T in starts])
        _, search = maximise(stats, starts, 1e-9, 5000)
        assert search.loglik >= alone.max() - 1e-7
        assert np.abs(search.starts - alone).max() < 1e-2
        assert (np.diff(search.trace) >= -1e-9 * abs(search.loglik)).all()


def test_the_last_step_is_the_last_allowed():
    gene = ebmodel.simulate.setting(3, rho=0.4, signal=1, m=20, p=6, seed=1)
    for most in (1, 2, 5, 6, 7, 12):
        assert ebmodel.fit(gene.X, gene.Y, max_iter=most, tol=0.0).trace.size <= most + 2


# A mean that is latent or zero ---------------------------------------------------------------------------------------

LATENT_OR_ZERO = pytest.mark.parametrize("mean", ["zero", "hierarchical"])


@LATENT_OR_ZERO
def test_more_starts_never_end_lower_with_a_prior_of_the_mean(gene, mean):
    values = [ebmodel.fit(gene.X, gene.Y, mean=mean, n_starts=k).loglik for k in (1, 5, 14, 64)]
    assert np.all(np.diff(values) >= 0.0)


@LATENT_OR_ZERO
def test_the_default_number_of_starts_finds_what_many_find(mean):
    for k, rho, slab in ((1, 0.0, "g"), (1, 0.8, -1.0), (3, 0.4, "independent"), (3, 0.8, "g")):
        gene = ebmodel.simulate.setting(k, rho=rho, signal=1, m=20, p=6, n=30, sigma=3, seed=4)
        few, many = (ebmodel.fit(gene.X, gene.Y, slab, mean, n_starts=n) for n in (None, 150))
        assert few.loglik == pytest.approx(many.loglik, abs=1e-6)


@LATENT_OR_ZERO
def test_result_is_the_best_start_with_a_prior_of_the_mean(gene, mean):
    fit = ebmodel.fit(gene.X, gene.Y, mean=mean)
    assert fit.loglik == fit.dataset["start_loglik"].max() == fit.trace[-1]
    assert np.all(np.diff(fit.trace) >= -1e-11 * abs(fit.loglik))
    assert fit.converged
    early = ebmodel.fit(gene.X, gene.Y, mean=mean, n_starts=1, max_iter=2)
    assert not early.converged
    assert "not converged in 2 steps: raise max_iter" in early.status


def test_the_interior_has_no_boundary_in_its_status(gene):
    fit = ebmodel.fit(gene.X, gene.Y, "independent", "hierarchical")
    theta = fit.params
    assert 0.0 < theta.tau1 < 1.0
    assert min(theta.eta, theta.kappa) > 0.0
    assert fit.status == "converged"


def test_effects_that_cancel_are_the_boundary_kappa_0(rng):
    """Every effect beside its opposite: the slab's best centre is zero."""
    X, half = rng.normal(size=(60, 3)), 3.0 * rng.normal(size=(3, 8))
    Y = np.hstack([X @ half, -X @ half, np.zeros((60, 8))]) + rng.normal(size=(60, 24))
    fits = {mean: ebmodel.fit(X, Y, mean=mean) for mean in ("hierarchical", "zero")}
    fit = fits["hierarchical"]
    assert fit.params.kappa == 0.0
    assert "boundary kappa = 0: the slab is centred at zero" in fit.status
    assert fit.loglik == pytest.approx(fits["zero"].loglik, abs=1e-8)
    np.testing.assert_array_equal(fit.params.beta, 0.0)
    np.testing.assert_array_equal(fit.beta_covariance, 0.0)
    np.testing.assert_allclose(fit.effects, fits["zero"].effects, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fit.effects_sd, fits["zero"].effects_sd, rtol=0, atol=1e-5)
    assert "kappa" not in fits["zero"].status  # there it is no estimate


def test_one_common_effect_is_the_boundary_eta_0_of_a_latent_mean_too(rng):
    X = rng.normal(size=(60, 5))
    noise = rng.normal(size=(60, 15))
    Y = X @ np.ones((5, 15)) + noise - 0.5 * X @ np.linalg.lstsq(X, noise)[0]
    fit = ebmodel.fit(X, Y, mean="hierarchical")
    theta = fit.params
    assert theta.eta == 0.0
    assert theta.kappa > 0.0
    assert "boundary eta = 0: active tissues share one effect" in fit.status
    # the slab is the point beta, of which q(beta) is the posterior of a regression with a ridge
    precision = 15 * X.T @ X / theta.sigma2 + X.T @ X / theta.kappa
    np.testing.assert_allclose(fit.beta_covariance, np.linalg.inv(precision), rtol=1e-4, atol=1e-9)
    mu = np.linalg.solve(precision, X.T @ Y.sum(axis=1) / theta.sigma2)
    np.testing.assert_allclose(theta.beta, mu, rtol=1e-5)
    np.testing.assert_allclose(
        fit.effects_sd, np.sqrt(np.diag(np.linalg.inv(precision))) + np.zeros((15, 1)), rtol=1e-3
    )


@LATENT_OR_ZERO
def test_every_tissue_active_is_the_boundary_tau1_1_of_every_mean(rng, mean):
    X = rng.normal(size=(60, 3))
    Y = X @ (5.0 + 3.0 * rng.normal(size=(3, 15))) + rng.normal(size=(60, 15))
    fit = ebmodel.fit(X, Y, mean=mean)
    assert fit.params.tau1 == 1.0
    assert "boundary tau1 = 1: every tissue active" in fit.status
    np.testing.assert_array_equal(fit.posterior_probability, 1.0)


@pytest.mark.parametrize("mean", ["free", "zero", "hierarchical"])
def test_a_tissue_without_data_does_not_keep_tau1_from_its_boundary(rng, mean):
    """It says nothing of tau1: the share is that of the tissues with data."""
    X = rng.normal(size=(60, 3))
    Y = X @ (5.0 + 3.0 * rng.normal(size=(3, 8))) + rng.normal(size=(60, 8))
    with_data = ebmodel.fit(X, Y, mean=mean)
    fit = ebmodel.fit(X, np.column_stack([Y, np.full((60, 2), np.nan)]), mean=mean)
    assert fit.params.tau1 == with_data.params.tau1 == 1.0
    assert "boundary tau1 = 1: every tissue active" in fit.status
    assert fit.loglik == pytest.approx(with_data.loglik, abs=1e-8)


@LATENT_OR_ZERO
@pytest.mark.parametrize("shape", ["tissue-unobserved", "covariates-use-up-a-tissue"])
def test_a_tissue_without_data_does_not_slow_the_search(make_case, shape, mean):
    """Weak effects: the likelihood is all but flat where tau1 and 1/eta grow together."""
    for seed, signal in ((1, 0.2), (2, 0.05)):
        for slab in ("g", "independent", "matrix"):
            case = make_case(shape, slab, seed, signal=signal)
            fit = ebmodel.fit(case.X, case.Y, case.params.slab, mean, covariates=case.C)
            assert fit.converged


@LATENT_OR_ZERO
@pytest.mark.parametrize("slab", ["g", "independent", "power"])
def test_no_tissue_active_is_the_boundary_tau1_0_of_every_mean(mean, slab):
    X, Y = np.zeros((8, 2)), np.zeros((8, 4))
    X[:2] = [[1.0, 0.0], [1.0, 2.0]]
    Y[2:] = np.random.default_rng(0).normal(size=(6, 4))  # orthogonal to X in every tissue
    fit = ebmodel.fit(X, Y, slab, mean)
    theta = fit.params
    null = dense.log_null(X, Y, ebmodel.Params(tau1=0.5, beta=[0.0, 0.0], eta=0.0, sigma2=np.mean(Y**2))).sum()
    assert fit.loglik == pytest.approx(null, abs=1e-9)
    assert (theta.tau1, theta.eta, theta.kappa) == (0.0, 0.0, 0.0)
    assert "boundary tau1 = 0: no tissue active" in fit.status
    assert "kappa" not in fit.status
    for nothing in (fit.effects, fit.effects_sd, fit.posterior_probability):
        np.testing.assert_array_equal(nothing, np.zeros(nothing.shape))


def test_one_tissue_is_enough_for_a_mean_of_zero_alone(rng):
    """Zero can be told from eta in one tissue; a mean of its own, latent or not, cannot."""
    X, noise = rng.normal(size=(25, 4)), rng.normal(size=(25, 1))
    y = X @ np.full((4, 1), 5.0) + noise
    theta = ebmodel.fit(X, y, mean="zero").params
    assert theta.tau1 == 1.0
    # the slab's part of y has p variances of sigma2 + eta, the rest n - p of sigma2
    z = np.linalg.qr(X)[0].T @ y
    np.testing.assert_allclose(theta.sigma2, (np.sum(y**2) - np.sum(z**2)) / 21, rtol=1e-6)
    np.testing.assert_allclose(theta.sigma2 + theta.eta, np.mean(z**2), rtol=1e-6)
    assert np.isfinite(ebmodel.fit(X, noise, mean="zero").loglik)
    for mean in ("free", "hierarchical"):
        with pytest.raises(ebmodel.InputError, match=r"expected at least 2 tissues with data, got 1 \('tissue0'\)"):
            ebmodel.fit(X, y, mean=mean)


@LATENT_OR_ZERO
def test_two_tissues_and_one_snp_are_enough(rng, mean):
    x = rng.normal(size=(30, 1))
    Y = x @ [[2.0, 3.0]] + rng.normal(size=(30, 2))
    fit = ebmodel.fit(x, Y, mean=mean)
    assert fit.converged
    assert (fit.posterior_probability > 0.99).all()
    np.testing.assert_allclose(fit.effects[:, 0], fit.ols[:, 0], rtol=0.1)
    assert (fit.effects_sd > 0.0).all()


@LATENT_OR_ZERO
@pytest.mark.parametrize("slab", ["independent", -1.0, "power"])
def test_more_snps_than_samples(rng, mean, slab):
    X = rng.normal(size=(12, 20))
    Y = X @ (rng.normal(size=(20, 1)) + 0.3 * rng.normal(size=(20, 6))) + rng.normal(size=(12, 6))
    Y[rng.random(Y.shape) < 0.2] = np.nan
    fit = ebmodel.fit(X, Y, slab, mean)
    assert np.isfinite(fit.loglik)
    assert np.isfinite(fit.effects_sd).all()
    assert np.isnan(fit.ols).all()
    assert fit.loglik == pytest.approx(ebmodel.loglik(X, Y, fit.params), abs=1e-6)
    with pytest.raises(ebmodel.InputError, match="more samples than SNPs in some tissue"):
        ebmodel.fit(X, np.nan_to_num(Y), mean=mean)


@pytest.mark.parametrize("mean", ["free", "hierarchical"])
def test_tissues_that_repeat_one_response_are_an_exact_fit(rng, mean):
    """With as many SNPs as samples one beta fits all: sigma2 -> 0, and with eta = 0 nothing bounds the likelihood."""
    wide, y = rng.normal(size=(10, 15)), rng.normal(size=(10, 1))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(wide, np.hstack([y, y, y]), "independent", mean)


def test_tissues_that_repeat_one_response_are_bounded_for_a_mean_of_zero(rng):
    wide, y = rng.normal(size=(10, 15)), rng.normal(size=(10, 1))
    fit = ebmodel.fit(wide, np.hstack([y, y, y]), "independent", "zero")
    one = ebmodel.fit(wide, y, "independent", "zero")
    assert fit.loglik == pytest.approx(3 * one.loglik, abs=1e-6)


@LATENT_OR_ZERO
def test_an_exact_fit_is_refused_for_every_mean(rng, mean):
    X = rng.normal(size=(20, 3))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(X, X @ rng.normal(size=(3, 6)), mean=mean)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("slab", "unit", "missing"), [("g", 1.0, 0.0), ("independent", 1 / 30, 0.3), (-1.0, 1 / 30, 0.2)]
)
def test_parameters_of_the_hierarchical_model_are_recovered(slab, unit, missing):
    """Means over 60 data sets within four standard errors of the truth, and a bias of 5 % of what is small-sample."""
    X = ebmodel.simulate.setting(1, rho=0.6, p=8, n=60, seed=0)["X"].to_numpy()
    truth = {"tau1": 0.6, "eta": 1.5 * unit, "sigma2": 1.0, "kappa": 3.0 * unit}
    theta = ebmodel.Params(**truth, beta=np.zeros(8), slab=slab)
    root = np.linalg.cholesky(truth["kappa"] * dense.slab_shape(X, theta))
    found, distance = [], []
    for seed in range(60):
        beta = root @ np.random.default_rng([seed, 7]).standard_normal(8)
        params = ebmodel.Params(tau1=0.6, beta=beta, eta=truth["eta"], sigma2=1.0, slab=slab)
        gene = ebmodel.simulate.model_true(params, X=X, m=60, missing=missing, seed=seed, posterior=False)
        fit = ebmodel.fit(gene.X, gene.Y, slab, "hierarchical")
        found.append([getattr(fit.params, name) for name in truth])
        off = fit.params.beta.to_numpy() - beta
        distance.append(off @ np.linalg.solve(fit.beta_covariance, off) / 8)
    found = np.array(found)
    for name, values in zip(truth, found.T, strict=True):
        standard_error = values.std(ddof=1) / np.sqrt(60)
        assert abs(values.mean() - truth[name]) < 4 * standard_error, name
        assert standard_error < 0.1 * truth[name], name  # and it says something
    # q's covariance: a tenth or two too small, for it knows neither the parameters' nor the tissues' own doubt
    assert 0.8 < np.mean(distance) < 1.5
