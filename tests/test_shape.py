"""The slab's power: its estimate is the profile's maximum, and its interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

import ebmodel


@pytest.fixture(scope="module")
def gene():
    return ebmodel.simulate.setting(1, rho=0.4, signal=1, seed=3)


@pytest.fixture(scope="module")
def profile(gene):
    return ebmodel.alpha_profile(gene.X, gene.Y)


def test_profile_is_the_maximum_at_each_alpha(gene, profile):
    for alpha in (-1.0, 0.0, 1.0):
        fit = ebmodel.fit(gene.X, gene.Y, slab=alpha)
        assert float(profile.loglik.sel(alpha=alpha)) >= fit.loglik - 1e-6
    g, independent = (ebmodel.fit(gene.X, gene.Y, slab=slab).loglik for slab in ("g", "independent"))
    assert float(profile.loglik.sel(alpha=1.0)) == pytest.approx(g, abs=1e-6)
    assert float(profile.loglik.sel(alpha=0.0)) == pytest.approx(independent, abs=1e-6)


def test_power_fit_is_the_profiles_maximum(gene, profile):
    fit = ebmodel.fit(gene.X, gene.Y, slab="power")
    assert fit.params.alpha == pytest.approx(float(profile.estimate), abs=5e-3)
    assert fit.loglik >= float(profile.loglik.max()) - 1e-4
    assert fit.loglik == pytest.approx(ebmodel.loglik(gene.X, gene.Y, fit.params), abs=1e-9)


def test_interval_ends_where_the_profile_has_fallen_by_half_the_quantile(gene, profile):
    for end in (profile.lower, profile.upper):
        fit = ebmodel.fit(gene.X, gene.Y, slab=float(end))
        assert float(profile.loglik.max()) - fit.loglik == pytest.approx(3.841459 / 2, abs=0.01)


def test_alpha_without_a_say_is_the_papers(rng):
    X = rng.normal(size=(40, 4))
    Y = X @ np.ones((4, 10)) + rng.normal(size=(40, 10))  # one common effect: eta = 0
    fit = ebmodel.fit(X, Y, slab="power")
    assert fit.params.eta == 0.0
    assert fit.params.alpha == 1.0
    assert "the slab's shape has no say" in fit.status


# Every mean of the slab ----------------------------------------------------------------------------------------------

MEANS = ["free", "zero", "hierarchical"]


@pytest.fixture(scope="module")
def small():
    return ebmodel.simulate.setting(3, rho=0.4, signal=1, m=20, p=8, n=40, sigma=3, seed=3)


@pytest.fixture(scope="module", params=MEANS)
def profiled(request, small):
    """A mean, and its profile."""
    return request.param, ebmodel.alpha_profile(small.X, small.Y, mean=request.param)


def test_each_mean_has_a_profile_of_its_own_likelihood(small, profiled):
    mean, profile = profiled
    for alpha in (-2.0, -1.0, 0.0, 1.0, 1.5):
        fit = ebmodel.fit(small.X, small.Y, alpha, mean)
        assert float(profile.loglik.sel(alpha=alpha)) == pytest.approx(fit.loglik, abs=1e-6)
    assert profile.loglik.sizes == {"alpha": 12}  # eleven, and the maximum
    chosen = ebmodel.alpha_profile(small.X, small.Y, mean, alphas=[0.0, 1.0])
    both = chosen.loglik.sel(alpha=[0.0, 1.0]).to_numpy()
    np.testing.assert_allclose(both, profile.loglik.sel(alpha=[0.0, 1.0]), rtol=0, atol=1e-6)


def test_power_fit_is_the_maximum_of_each_means_profile(small, profiled):
    mean, profile = profiled
    fit = ebmodel.fit(small.X, small.Y, "power", mean)
    assert fit.params.alpha == pytest.approx(float(profile.estimate), abs=5e-3)
    assert fit.loglik >= float(profile.loglik.max()) - 1e-4
    assert fit.loglik == pytest.approx(ebmodel.loglik(small.X, small.Y, fit.params), abs=1e-6)
    fixed = ebmodel.fit(small.X, small.Y, fit.params.alpha, mean)
    assert fit.loglik == pytest.approx(fixed.loglik, abs=1e-6)


def test_each_interval_ends_where_its_profile_has_fallen_by_half_the_quantile(small, profiled):
    mean, profile = profiled
    for end in (profile.lower, profile.upper):
        assert np.isfinite(end)
        fit = ebmodel.fit(small.X, small.Y, float(end), mean)
        assert float(profile.loglik.max()) - fit.loglik == pytest.approx(3.841459 / 2, abs=0.02)
    assert float(profile.lower) < float(profile.estimate) < float(profile.upper)
    narrow = ebmodel.alpha_profile(small.X, small.Y, mean, level=0.5)
    assert float(profile.lower) < float(narrow.lower) < float(narrow.upper) < float(profile.upper)


@pytest.mark.parametrize("mean", MEANS)
def test_alpha_has_no_say_where_nothing_is_active(mean):
    X, Y = np.zeros((8, 2)), np.zeros((8, 4))
    X[:2] = [[1.0, 0.0], [1.0, 2.0]]
    Y[2:] = np.random.default_rng(0).standard_normal((6, 4))  # orthogonal to X
    fit = ebmodel.fit(X, Y, "power", mean)
    assert fit.params.tau1 == 0.0
    assert fit.params.alpha == 1.0
    assert "boundary tau1 = 0" in fit.status
    assert "alpha" not in fit.status


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize(("direction", "end"), [(0, -3.0), (5, 2.0)])
def test_alpha_at_an_end_of_its_range_is_said(mean, direction, end):
    """Effects along the first or the last principal axis of X alone: no power is steep enough."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    X = np.linalg.qr(rng.standard_normal((60, 6)))[0] * [10.0, 7.0, 5.0, 3.0, 2.0, 1.0] @ axes.T
    effects = np.outer(axes[:, direction], 2.0 + 3.0 * rng.standard_normal(20))
    Y = X @ effects + 0.3 * rng.standard_normal((60, 20))
    fit = ebmodel.fit(X, Y, "power", mean)
    assert fit.params.alpha == pytest.approx(end, abs=5e-3)
    assert f"boundary alpha = {end:.0f}: an end of its range" in fit.status
    profile = ebmodel.alpha_profile(X, Y, mean, alphas=[0.0])
    assert np.isnan(profile.lower if end < 0 else profile.upper)
    assert np.isfinite(profile.upper if end < 0 else profile.lower)


def test_alpha_has_a_say_through_the_prior_of_a_common_effect():
    """At eta = 0 the slab is a point, whose place the hierarchical mean still draws from N(0, kappa Sigma0)."""
    rng = np.random.default_rng(0)
    X, noise = rng.standard_normal((30, 3)) * [1.0, 3.0, 9.0], rng.standard_normal((30, 6))
    noise -= 0.9 * X @ np.linalg.pinv(X) @ noise  # effects differ by less than chance has it: eta = 0
    Y = (X @ [3.0, 1.0, 0.3])[:, None] + noise
    fits = [ebmodel.fit(X, Y, alpha, "hierarchical") for alpha in (-1.0, 0.0, 1.0)]
    assert [fit.params.eta for fit in fits] == [0.0, 0.0, 0.0]
    assert np.ptp([fit.loglik for fit in fits]) > 1.0
    power = ebmodel.fit(X, Y, "power", "hierarchical")
    assert power.loglik >= max(fit.loglik for fit in fits) - 1e-6
    assert power.params.eta == 0.0
    for fit in (*fits, power):
        assert "boundary eta = 0: active tissues share one effect" in fit.status
        assert "no say" not in fit.status


def test_another_mean_is_refused(small):
    with pytest.raises(ebmodel.InputError, match="expected one of 'free', 'zero', 'hierarchical', got 'none', in mean"):
        ebmodel.alpha_profile(small.X, small.Y, mean="none")


def test_level_is_checked(gene):
    with pytest.raises(ebmodel.InputError, match="expected 0 < level < 1, got 95, in level"):
        ebmodel.alpha_profile(gene.X, gene.Y, level=95)


@pytest.mark.statistical
def test_interval_covers_the_power_that_made_the_data():
    """On the model's own data; the count of misses in 60 is binomial, refused outside its central 99.9 %."""
    params = ebmodel.Params(tau1=0.6, beta=np.full(8, 0.3), eta=2.0, sigma2=1.0)
    X = ebmodel.simulate.setting(1, rho=0.6, p=8, n=60, seed=0)["X"].to_numpy()
    misses = 0
    for seed in range(60):
        gene = ebmodel.simulate.model_true(params, X=X, m=40, missing=0.1, seed=seed)
        profile = ebmodel.alpha_profile(gene.X, gene.Y, n_starts=20)
        lower, upper = (float(profile[end].fillna(np.inf * sign)) for end, sign in (("lower", -1), ("upper", 1)))
        misses += not lower <= 1.0 <= upper
    assert binom.ppf(0.0005, 60, 0.05) <= misses <= binom.ppf(0.9995, 60, 0.05)


@pytest.mark.statistical
def test_interval_leaves_out_the_papers_power_on_its_own_settings():
    """Setting 1 draws effects with covariance C, not (X'X)^-1: the check must say so."""
    outside = 0
    for seed in range(10):
        gene = ebmodel.simulate.setting(1, rho=0.6, signal=1, seed=seed)
        profile = ebmodel.alpha_profile(gene.X, gene.Y)
        outside += float(profile.upper) < 1.0
    assert outside == 10


@pytest.mark.statistical
@pytest.mark.parametrize("mean", ["hierarchical", "free"])
def test_interval_covers_where_the_mean_has_a_prior(mean):
    """Data from beta ~ N(0, kappa Sigma0), alpha = 0; misses in 60 are binomial, refused outside the central 99.9 %."""
    X = ebmodel.simulate.setting(1, rho=0.6, p=8, n=60, seed=0)["X"].to_numpy()
    misses = 0
    for seed in range(60):
        beta = np.sqrt(0.1) * np.random.default_rng([seed, 1]).standard_normal(8)
        params = ebmodel.Params(tau1=0.6, beta=beta, eta=0.05, sigma2=1.0, slab="independent")
        gene = ebmodel.simulate.model_true(params, X=X, m=40, missing=0.1, seed=seed, posterior=False)
        profile = ebmodel.alpha_profile(gene.X, gene.Y, mean)
        lower, upper = (float(profile[end].fillna(np.inf * sign)) for end, sign in (("lower", -1), ("upper", 1)))
        misses += not lower <= 0.0 <= upper
    assert binom.ppf(0.0005, 60, 0.05) <= misses <= binom.ppf(0.9995, 60, 0.05)
