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
