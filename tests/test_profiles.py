"""Profiles: the fit is their maximum, nothing exceeds them, regions end where they should, and cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binom, chi2

import ebmodel
from ebmodel import InputError, Params, em
from ebmodel.profiles import PARAMETERS, _Ridge, likelihood_ratio, profile
from ebmodel.simulate import model_true

TOL = 1e-6
MEANS = ["free", "zero", "hierarchical"]
CUT = chi2.ppf(0.95, 1)
MIXTURE = chi2.ppf(0.90, 1)


@pytest.fixture(scope="module", params=[1, 3], ids=["complete", "missing"])
def gene(request):
    return ebmodel.simulate.setting(request.param, rho=0.4, signal=1, m=20, p=4, n=40, sigma=3, seed=3)


@pytest.fixture(scope="module", params=MEANS)
def fit(request, gene):
    return ebmodel.fit(gene.X, gene.Y, slab=0.5, mean=request.param)


@pytest.fixture(scope="module")
def profiles(fit):
    names = [name for name in PARAMETERS if name != "kappa" or fit.dataset.attrs["evidence"].startswith("variational")]
    return {name: profile(fit, name) for name in names}


def test_the_fit_is_the_maximum(fit, profiles):
    assert set(profiles) >= {"tau1", "eta", "sigma2"}
    for name, found in profiles.items():
        assert found.sizes == {name: found.sizes[name]}
        at = found["loglik"].sel({name: float(found.estimate)})
        assert float(at) == pytest.approx(fit.loglik, abs=TOL)
        assert float(found.estimate) == pytest.approx(float(fit.dataset[name]), rel=1e-12)
        assert float(found["loglik"].max()) <= fit.loglik + TOL
        assert float(found.maximum) == pytest.approx(fit.loglik, abs=TOL)
        assert found.attrs["search"] == ""
        assert np.isfinite(found["loglik"]).all()


def test_regions_end_where_the_profile_has_fallen_by_half_the_quantile(fit, profiles):
    for name, found in profiles.items():
        for end in (float(found.lower), float(found.upper)):
            if 0.0 < end < (1.0 if name == "tau1" else np.inf):
                assert float(likelihood_ratio(fit, name, end).statistic) == pytest.approx(CUT, abs=2e-3)
        inside = found[name].where(found["inside"], drop=True)
        assert float(inside.min()) >= float(found.lower) * (1 - 1e-9)
        assert float(inside.max()) <= float(found.upper) * (1 + 1e-9)
        ratio = 2 * (found.maximum - found["loglik"])
        interior = found[name] != found.edge
        np.testing.assert_array_equal(
            found["inside"].where(interior, drop=True), (ratio <= CUT).where(interior, drop=True)
        )


def test_inner_regions_are_near_walds(profiles):
    """About 10 of 20 tissues are active and clearly so: both are asymptotically right."""
    for name in ("tau1", "sigma2"):
        found = profiles[name]
        width = float(found.wald_upper - found.wald_lower)
        assert abs(float(found.lower - found.wald_lower)) < 0.15 * width
        assert abs(float(found.upper - found.wald_upper)) < 0.15 * width


@pytest.mark.parametrize("name", ["tau1", "eta", "sigma2"])
def test_no_optimiser_finds_more_at_a_value(gene, name):
    """Quasi-Newton on the likelihood, from the fit and at random."""
    fit = ebmodel.fit(gene.X, gene.Y)
    grid = float(fit.dataset[name]) * np.array([0.5, 1.3])
    found = profile(fit, name, grid)
    (stats, whitening), rng = fit.whitened(), np.random.default_rng(0)
    theta = fit.params
    gamma = whitening.whiten(theta.beta.to_numpy())
    unit = np.abs(gamma).max()

    def loss(x, value):
        full = {"tau1": expit(x[0]), "eta": np.exp(x[1]), "sigma2": np.exp(x[2])} | {name: value}
        return -em.expectation(stats, em.State(**full, gamma=x[3:] * unit))[1]

    for value in grid:
        best = -np.inf
        for k in range(4):
            x0 = np.array([logit(theta.tau1), np.log(theta.eta), np.log(theta.sigma2), *gamma / unit])
            x0 = x0 + 0.4 * k * rng.standard_normal(len(x0))
            best = max(best, -minimize(loss, x0, (value,), method="BFGS", options={"gtol": 1e-4}).fun)
        at = float(found["loglik"].sel({name: value}))
        assert best <= at + TOL
        assert best == pytest.approx(at, abs=1e-4)


def test_the_rest_of_theta_comes_along(gene):
    fit = ebmodel.fit(gene.X, gene.Y)
    ridge = _Ridge(fit, "eta", 8, 0, 1e-9, 5000)
    found = profile(fit, "eta")
    assert {"tau1", "sigma2"} < set(found.data_vars)
    assert "kappa" not in found
    whitening = fit.whitened()[1]
    value = float(found["eta"][3])
    ridge.settle([value])
    state = ridge.solutions[value].state
    params = Params(tau1=state.tau1, beta=whitening.unwhiten(state.gamma), eta=value, sigma2=state.sigma2)
    assert ebmodel.loglik(gene.X, gene.Y, params) == pytest.approx(float(found["loglik"][3]), abs=1e-5)
    assert state.tau1 == pytest.approx(float(found["tau1"][3]), rel=1e-3)


def test_profiles_do_not_depend_on_units(gene):
    fit, other = ebmodel.fit(gene.X, gene.Y), ebmodel.fit(gene.X, 10 * gene.Y)
    for name, factor in (("tau1", 1), ("eta", 100), ("sigma2", 100)):
        one, two = profile(fit, name), profile(other, name)
        for end in ("lower", "upper", "wald_lower", "wald_upper"):
            assert float(two[end]) == pytest.approx(factor * float(one[end]), rel=1e-3)


@pytest.mark.parametrize("mean", ["free", "hierarchical"])
def test_error_variances_of_their_own_keep_their_ratios(gene, mean):
    fit = ebmodel.fit(gene.X, gene.Y * np.exp(0.3 * np.linspace(-1, 1, 20)), mean=mean, errors="unequal")
    for name in ("tau1", "eta", "sigma2"):
        found = profile(fit, name)
        assert float(found.maximum) == pytest.approx(fit.loglik, abs=2e-3)  # the ratios are found to about this
        assert float(found.lower) < float(found.estimate) < float(found.upper)
        assert float(likelihood_ratio(fit, name, float(found.upper)).statistic) == pytest.approx(CUT, abs=1e-2)


def test_a_grid_of_ones_own():
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=2, n=30, sigma=2, seed=1)
    fit = ebmodel.fit(gene.X, gene.Y)
    found = profile(fit, "tau1", [0.5, 0.1, 0.5])
    np.testing.assert_array_equal(found["tau1"], np.unique([0.1, 0.5, float(found.estimate)]))
    full = profile(fit, "tau1")
    assert float(found.lower) == pytest.approx(float(full.lower), rel=1e-4)
    wide, narrow = profile(fit, "tau1", [0.5], level=0.99), profile(fit, "tau1", [0.5], level=0.5)
    assert float(wide.lower) < float(found.lower) < float(narrow.lower) < float(narrow.upper) < float(found.upper)


def test_a_fit_that_missed_the_maximum_is_told():
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=0.5, m=20, p=8, n=40, seed=3)
    best, missed = ebmodel.fit(gene.X, gene.Y), ebmodel.fit(gene.X, gene.Y, n_starts=1)
    assert best.loglik > missed.loglik + 1
    found = profile(missed, "tau1")
    assert float(found.maximum) == pytest.approx(best.loglik, abs=1e-4)
    assert "the fit is not the maximum: with tau1 = 0.2671" in found.attrs["search"]
    assert "larger by 15.2; fit again with more starts" in found.attrs["search"]
    right = profile(best, "tau1")
    for end in ("lower", "upper"):
        assert float(found[end]) == pytest.approx(float(right[end]), abs=1e-3)


# Edges ---------------------------------------------------------------------------------------------------------------


def shared(seed, m=16, active=8, spread=0.0):
    """Active tissues that share one effect, or nearly."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 2))
    effects = np.outer([0.8, -0.8], np.arange(m) < active) * (1 + spread * rng.normal(size=m))
    return X, X @ effects + rng.normal(size=(40, m))


def test_an_estimate_on_the_edge_has_a_region_and_no_wald_interval():
    fit = next(fit for fit in (ebmodel.fit(*shared(seed)) for seed in range(20)) if fit.params.eta == 0.0)
    found = profile(fit, "eta")
    assert np.isnan([float(found.wald_lower), float(found.wald_upper)]).all()
    assert (float(found.lower), float(found.edge), float(found.edge_p)) == (0.0, 0.0, 1.0)
    assert float(found.edge_statistic) == pytest.approx(0.0, abs=TOL)
    assert 0.0 < float(found.upper) < 2.0
    assert float(found["eta"][0]) == 0.0
    assert bool(found["inside"][0])
    assert (np.diff(found["loglik"]) < TOL).all()


def test_the_edge_is_tested_against_the_mixture():
    """A region may leave out 0 and come as near as one likes."""
    fits = (ebmodel.fit(*shared(seed, spread=0.3)) for seed in range(20))
    fit, ratio = next((f, r) for f in fits if 0.3 < (r := float(likelihood_ratio(f, "eta", 0.0).statistic)) < 8.0)
    tail = chi2.sf(ratio, 1)
    found = profile(fit, "eta", level=1 - 0.75 * tail)  # between the two laws
    assert float(found.edge_statistic) == pytest.approx(ratio, abs=1e-5)
    assert float(found.edge_p) == pytest.approx(0.5 * tail, rel=1e-4)
    assert float(found.lower) == 0.0
    assert not bool(found["inside"].sel(eta=0.0))
    assert bool(found["inside"].sel(eta=slice(1e-6, float(found.estimate))).all())


def test_every_value_has_its_law(gene):
    fit = ebmodel.fit(gene.X, gene.Y)
    laws = {("tau1", 0.5): "chi2_1", ("tau1", 1.0): "1/2 chi2_0 + 1/2 chi2_1", ("eta", 0.01): "chi2_1",
            ("eta", 0.0): "1/2 chi2_0 + 1/2 chi2_1", ("sigma2", 9.0): "chi2_1"}  # fmt: skip
    for (name, value), law in laws.items():
        test = likelihood_ratio(fit, name, value)
        assert test.attrs["reference"] == law
        share = 0.5 if law.startswith("1/2") else 1.0
        assert float(test.p_value) == pytest.approx(share * chi2.sf(float(test.statistic), 1), rel=1e-9)
        assert float(test.loglik) == pytest.approx(fit.loglik - float(test.statistic) / 2, abs=1e-6)
    none = likelihood_ratio(fit, "tau1", 0.0)
    assert np.isnan(none.p_value)
    assert none.attrs["reference"].startswith("none")
    noise = ebmodel.loglik(gene.X, gene.Y, Params(tau1=0.0, beta=np.zeros(4), eta=0.0, sigma2=float(none_sigma2(gene))))
    assert float(none.loglik) == pytest.approx(noise, abs=1e-8)
    at_zero = likelihood_ratio(ebmodel.fit(gene.X, gene.Y, mean="zero"), "eta", 0.0)  # tau1 means nothing there
    assert np.isnan(at_zero.p_value)


def none_sigma2(gene):
    return (gene.Y**2).mean()


def test_where_nothing_is_active_all_of_the_slab_is_possible(rng):
    X = rng.normal(size=(40, 2))
    fit = next(f for f in (ebmodel.fit(X, Y, mean="zero") for Y in rng.normal(size=(50, 40, 6))) if f.params.tau1 == 0)
    found = profile(fit, "eta")
    assert (float(found.lower), float(found.upper)) == (0.0, np.inf)
    assert "no tissue is active at the fit" in found.attrs["caution"]
    assert "no upper end" in found.attrs["caution"]
    share = profile(fit, "tau1")
    assert float(share.lower) == 0.0
    assert "reaches tau1 = 0" in share.attrs["caution"]


def test_cautions_say_what_the_laws_need():
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=6, n=30, sigma=2, seed=1)
    free, hierarchical = (ebmodel.fit(gene.X, gene.Y, slab=0, mean=mean) for mean in ("free", "hierarchical"))
    assert "moves eta's estimate down by about" in profile(free, "eta").attrs["caution"]
    assert "moves eta's" not in profile(hierarchical, "eta").attrs["caution"]
    assert "are active: large-sample laws are far" in profile(free, "tau1").attrs["caution"]
    assert "one draw of 6 numbers" in profile(hierarchical, "kappa").attrs["caution"]
    assert profile(free, "sigma2").attrs["caution"] == ""


# Errors --------------------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(gene):
    fit = ebmodel.fit(gene.X, gene.Y)
    with pytest.raises(InputError, match="expected 'tau1' or 'eta' or 'sigma2', got 'kappa', in parameter"):
        profile(fit, "kappa")
    with pytest.raises(InputError, match="for alpha"):
        profile(fit, "alpha")
    with pytest.raises(InputError, match="0 < level < 1"):
        profile(fit, "tau1", level=1.0)
    with pytest.raises(InputError, match="values with 0 <= tau1 <= 1, got"):
        profile(fit, "tau1", [0.5, 1.5])
    with pytest.raises(InputError, match="values with sigma2 > 0, got 0 to 0"):
        likelihood_ratio(fit, "sigma2", 0.0)
    with pytest.raises(InputError, match="values with eta >= 0, got none"):
        profile(fit, "eta", [])
    with pytest.raises(InputError, match="at least 1, got 0, in n_starts"):
        profile(fit, "eta", n_starts=0)
    with pytest.raises(InputError, match="a fit by maximum likelihood"):
        profile(ebmodel.oracle(gene.X, gene.Y, fit.params), "eta")


# Coverage ------------------------------------------------------------------------------------------------------------

REPLICATES = 300


def covered(eta, p=2, m=60, mean="free", parameters=("tau1", "eta", "sigma2")):
    """How many of the 95 % regions hold the truth, by parameter; tissues clearly active or not."""
    X = np.random.default_rng(1).standard_normal((40, p))
    root = np.linalg.inv(np.linalg.cholesky(X.T @ X)).T
    truth = Params(tau1=0.5, beta=root @ np.full(p, 6 / np.sqrt(p)), eta=eta, sigma2=1.0)
    hits = dict.fromkeys(parameters, 0)
    for seed in range(REPLICATES):
        data = model_true(truth, X=X, m=m, seed=seed, posterior=False)
        fit = ebmodel.fit(data.X, data.Y, mean=mean)
        for name in parameters:
            hits[name] += float(likelihood_ratio(fit, name, getattr(truth, name)).p_value) >= 0.05
    return hits


LOW, HIGH = binom.ppf([1e-3, 1 - 1e-3], REPLICATES, 0.95)


@pytest.mark.statistical
def test_regions_cover_inside_the_range():
    for name, hits in covered(eta=1.0).items():
        assert LOW <= hits <= HIGH, name


@pytest.mark.statistical
def test_regions_cover_on_the_edge():
    """eta is 0: the mixture; chi-squared on one degree of freedom would cover 97.5 %."""
    for name, hits in covered(eta=0.0).items():
        assert LOW <= hits <= HIGH, name


@pytest.mark.statistical
def test_a_free_mean_of_many_numbers_costs_coverage_of_eta_and_a_hierarchical_one_does_not():
    """Thirty numbers from fifteen active tissues: eta's estimate is one standard error low, and 83 % are covered."""
    free, hierarchical = (covered(1.0, p=30, m=30, mean=mean, parameters=("eta",)) for mean in ("free", "hierarchical"))
    low, high = binom.ppf([1e-3, 1 - 1e-3], REPLICATES, 0.83)
    assert low <= free["eta"] <= high < LOW
    assert LOW <= hierarchical["eta"]
