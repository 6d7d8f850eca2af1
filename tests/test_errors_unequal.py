"""Error variances of the tissues' own: exact against the dense twin, monotone steps, and what the fit makes of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize_scalar

import ebmodel
from ebmodel import InputError, Params, dense, em
from ebmodel.cli import main
from ebmodel.data import tidy
from ebmodel.heteroscedastic import _place, _weigh, jacobian, own_variances, residual_variances, settle
from ebmodel.mean import MEANS
from ebmodel.simulate import exact_posterior, model_true, violated
from ebmodel.starts import active_sets
from ebmodel.statistics import compress, weigh, whiten

EXACT = 1e-10
THETA = Params(tau1=0.5, beta=[0.2, 0.15, 0.1, 0.0, 0.0], eta=1.0, sigma2=1.0)
FITTABLE = ["complete", "missing", "collinear-missing", "covariates-intercept-missing"]


def unequal(case, seed=0):
    """The case's parameters with error variances of the tissues' own."""
    omega = np.exp(0.7 * np.random.default_rng(seed).standard_normal(case.Y.shape[1]))
    return replace(case.params, relative_variance=omega)


@pytest.fixture(scope="module")
def gene():
    """Tissues' log error variances have sd 1."""
    return violated("unequal-variances", 1.0, THETA, n=60, m=20, missing=0.2, seed=1)


@pytest.fixture(scope="module")
def fit(gene):
    return ebmodel.fit(gene.X, gene.Y, errors="unequal")


# At given parameters --------------------------------------------------------------------------------------------------


def test_oracle_is_the_dense_twins(case, pin):
    theta, dense_data = unequal(case), (case.X, case.Y)
    got = ebmodel.oracle(*dense_data, theta, covariates=case.C)
    data = (*dense_data, theta, case.C)
    pin(got.loglik, dense.loglik(*data), EXACT)
    pin(got.log_bayes_factor, dense.log_bayes_factor(*data), EXACT, scale=abs(got.loglik))
    pin(got.posterior_probability, dense.posterior_probability(*data), 1e-9, scale=1.0)
    means, covariances = dense.moments(*data)
    h = dense.posterior_probability(*data)[:, None]
    size = np.abs(means).max() + np.sqrt(np.abs(covariances)).max()
    pin(got.effects, h * means, 1e-8, scale=size)
    second = h * (np.einsum("tjj->tj", covariances) + means**2)
    pin(got.effects_sd**2, second - (h * means) ** 2, 1e-8, scale=size**2)


@pytest.mark.parametrize("shape", ["complete", "missing", "wide-missing", "covariates-missing"])
def test_weighing_before_and_after_the_slab_is_one(make_case, pin, shape):
    case = make_case(shape, "matrix")
    omega = unequal(case).relative_variance
    compressed = compress(tidy(case.X, case.Y, case.C))
    before, after = whiten(weigh(compressed, omega), case.params.slab)[0], weigh(case.stats, omega)
    for state in (case.state, case.state._replace(eta=0.0)):
        for got, want in zip(em.expectation(before, state), em.expectation(after, state), strict=True):
            pin(got, want, EXACT)


def test_equal_ratios_change_nothing(make_case):
    for shape in ("complete", "missing", "tissue-unobserved"):
        case = make_case(shape, "g")
        ones = replace(case.params, relative_variance=np.ones(case.Y.shape[1]))
        plain, same = (ebmodel.oracle(case.X, case.Y, theta, covariates=case.C) for theta in (case.params, ones))
        xr.testing.assert_identical(same.dataset.drop_vars("relative_variance"), plain.dataset)
        triple = replace(ones, sigma2=case.params.sigma2 / 3, relative_variance=3 * ones.relative_variance)
        assert ebmodel.loglik(case.X, case.Y, triple, covariates=case.C) == pytest.approx(plain.loglik, rel=EXACT)


def test_bound_of_a_latent_mean_is_the_dense_twins(make_case):
    case = make_case("missing", "independent")
    theta = replace(unequal(case), kappa=0.7)
    got = ebmodel.oracle(case.X, case.Y, theta)
    mu, S = np.asarray(got.params.beta), got.beta_covariance.to_numpy()
    T = got.posterior_probability.to_numpy()
    assert got.loglik == pytest.approx(dense.variational_bound(case.X, case.Y, theta, T, mu, S), abs=1e-6)
    exact = dense.evidence_enumerated(case.X, case.Y, theta)
    assert got.loglik <= exact.log_evidence
    np.testing.assert_allclose(T, exact.posterior_probability, atol=0.1)


# A step at a time -----------------------------------------------------------------------------------------------------


def weighed_case(make_case, shape, kind, seed=0):
    """Own-pattern statistics, weights, and a state after a few steps of EM."""
    case = make_case(shape, "independent", seed)
    stats = case.stats
    k = stats.pattern
    stats = stats._replace(pattern=np.arange(len(k)), V=stats.V[k], d=stats.d[k])
    omega = residual_variances(compress(tidy(case.X, case.Y, case.C)))
    weighed = _weigh(stats, omega)
    T = active_sets(weighed, 5, 0)[seed % 2]
    state, _, _ = em.run(weighed, em.from_responsibilities(weighed, T, kind), 1e-9, 4)
    return stats, omega, state


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("shape", ["complete", "missing", "covariates-missing"])
def test_own_variances_are_the_best_there_are(make_case, shape, mean):
    stats, omega, state = weighed_case(make_case, shape, MEANS[mean])
    weighed = _weigh(stats, omega)
    found = own_variances(weighed, state)
    for t in np.flatnonzero(weighed.n > 0):

        def minus(u, t=t):
            ratio = np.ones(len(omega))
            ratio[t] = np.exp(u) / state.sigma2
            value = em.expectation(_weigh(weighed, ratio), state)[1]
            return -(float(value) + jacobian(ratio, stats.n))

        grid = np.linspace(-6, 6, 121) + np.log(state.sigma2)
        near = grid[np.argmin([minus(u) for u in grid])]
        best = minimize_scalar(minus, bounds=(near - 0.1, near + 0.1), method="bounded", options={"xatol": 1e-10})
        assert minus(np.log(found[t])) <= best.fun + 1e-8
    assert (found[weighed.n == 0] == state.sigma2).all()


@pytest.mark.parametrize("mean", MEANS)
def test_no_round_lowers_the_likelihood(make_case, mean):
    for seed in range(4):
        stats, omega, state = weighed_case(make_case, "missing", MEANS[mean], seed)
        places = [_place(stats, omega, state)]
        for _ in range(25):
            places.append(settle(stats, places[-1], 1, 1e-9))
        values = np.array([place.value for place in places])
        assert (np.diff(values) >= -1e-9 * np.abs(values[1:])).all()
        assert values[-1] > values[0]
        for place in places[1:]:
            assert stats.n @ place.omega == pytest.approx(stats.n.sum(), rel=1e-12)


@pytest.mark.parametrize("shape", ["missing", "covariates-missing"])
def test_dense_em_steps_raise_the_likelihood(make_case, shape):
    case = make_case(shape, "g")
    theta = unequal(case)
    values = []
    for _ in range(6):
        values.append(dense.loglik(case.X, case.Y, theta, case.C))
        theta = dense.em_step_missing(case.X, case.Y, theta, case.C)
    assert (np.diff(values) > 0).all()


# The fit --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", FITTABLE)
def test_fit_is_where_dense_em_rests(make_case, shape):
    case = make_case(shape, "g", seed=2)
    data = (case.X[:, :3], case.Y, case.C) if shape != "collinear-missing" else (case.X, case.Y, case.C)
    few = np.isfinite(case.Y).sum(axis=0) > 10
    data = data[0], data[1][:, few], data[2]
    fit = ebmodel.fit(*data[:2], covariates=data[2], errors="unequal")
    here = dense.loglik(*data[:2], fit.params, data[2])
    assert fit.loglik == pytest.approx(here, abs=1e-7)
    if fit.params.eta > 0:
        theta = dense.em_step_missing(*data[:2], fit.params, data[2])
        assert dense.loglik(*data[:2], theta, data[2]) <= here + 1e-5


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("slab", ["g", "independent", "power", -0.5, "sparse", "matrix"])
def test_every_slab_and_mean(gene, slab, mean):
    slab = np.diag([1.0, 2.0, 1.0, 0.5, 0.5]) if slab == "matrix" else slab
    settings = {"slab": slab, "mean": mean, "n_starts": 8}
    equal, own = (ebmodel.fit(gene.X, gene.Y, errors=errors, **settings) for errors in ("equal", "unequal"))
    assert own.converged
    assert own.loglik > equal.loglik + 60
    assert own.log_evidence > equal.log_evidence
    assert (np.diff(own.trace) > -1e-8).all()
    ratio = np.log(own.error_variance / gene.error_sd**2)
    assert np.sqrt((ratio**2).mean()) < 2 * np.sqrt(2 / 48)  # the sd of log s_t^2 with 48 responses, nearly
    error = [float(((fit.effects - gene.effects) ** 2).mean()) for fit in (equal, own)]
    assert error[1] < error[0]


def test_sigma2_is_the_mean_and_missing_tissues_have_it(gene):
    Y = gene.Y.copy()
    Y[:, 3] = np.nan
    fit = ebmodel.fit(gene.X, Y, errors="unequal", n_starts=8)
    dof, own = fit.dataset["dof"], fit.error_variance
    assert float((dof * own).sum() / dof.sum()) == pytest.approx(fit.params.sigma2, rel=1e-12)
    assert float(own[3]) == pytest.approx(fit.params.sigma2)
    assert own.dims == ("tissue",)
    assert own.tissue.equals(gene.tissue)
    without = ebmodel.fit(gene.X, Y.drop_isel(tissue=3), errors="unequal", n_starts=8)
    assert fit.loglik == pytest.approx(without.loglik, abs=1e-5)


def test_equal_errors_have_one_variance(gene):
    fit = ebmodel.fit(gene.X, gene.Y, n_starts=4)
    assert fit.params.relative_variance is None
    assert "relative_variance" not in fit.dataset
    np.testing.assert_array_equal(fit.error_variance, fit.params.sigma2)
    assert fit.params.error_variance == fit.params.sigma2


def test_evidence_charges_every_variance_but_one(gene, fit):
    assert fit.loglik - fit.log_evidence == pytest.approx((5 + 19) * 0.5 * np.log(20))
    assert "error variances (19)" in fit.dataset.attrs["evidence"]


def test_evidence_prefers_one_variance_where_there_is_one():
    gene = model_true(THETA, n=60, m=20, seed=3, posterior=False)
    equal, own = (ebmodel.fit(gene.X, gene.Y, errors=errors) for errors in ("equal", "unequal"))
    assert equal.loglik < own.loglik < equal.loglik + 25  # about 19/2, half a chi-squared of as many degrees of freedom
    assert equal.log_evidence > own.log_evidence


def test_fit_is_equivariant(gene, fit):
    scaled = ebmodel.fit(gene.X, 10 * gene.Y, errors="unequal")
    np.testing.assert_allclose(scaled.error_variance, 100 * fit.error_variance, rtol=1e-4)
    np.testing.assert_allclose(scaled.params.relative_variance, fit.params.relative_variance, rtol=1e-4)
    np.testing.assert_allclose(scaled.posterior_probability, fit.posterior_probability, atol=1e-4)
    order = np.random.default_rng(0).permutation(20)
    permuted = ebmodel.fit(gene.X, gene.Y[:, order], errors="unequal")
    np.testing.assert_allclose(permuted.error_variance, fit.error_variance[order], rtol=1e-4)
    assert permuted.loglik == pytest.approx(fit.loglik, abs=1e-6)


def test_least_squares_does_not_depend_on_it(gene, fit):
    np.testing.assert_allclose(fit.ols, ebmodel.fit(gene.X, gene.Y, n_starts=2).ols, rtol=1e-12)


def test_stored_and_read_back(fit, tmp_path):
    for path, write in ((tmp_path / "fit.nc", fit.to_netcdf), (tmp_path / "fit.zarr", fit.to_zarr)):
        write(path)
        again = ebmodel.open_fit(path)
        xr.testing.assert_identical(again.error_variance, fit.error_variance)
        xr.testing.assert_allclose(again.effects_interval(), fit.effects_interval(), rtol=1e-9)
        at = ebmodel.oracle(again.dataset["X"], again.dataset["Y"], again.params)
        assert at.loglik == pytest.approx(fit.loglik, rel=1e-12)
        np.testing.assert_allclose(again.compressed().yy, fit.whitened()[0].yy, rtol=1e-12)


def test_draws_intervals_and_predictions(gene, fit, pin):
    tree = fit.to_datatree(draws=4000, chains=1, seed=2)
    drawn = tree["posterior"]["effects"].mean(("chain", "draw"))
    gap = np.abs(drawn - fit.effects) / np.maximum(fit.effects_sd, 1e-9)
    assert float(gap.max()) < 4.5 / np.sqrt(4000)
    assert "relative_variance" in tree["fit"]
    inside = (fit.effects_interval()["lower"] <= gene.effects) & (gene.effects <= fit.effects_interval()["upper"])
    assert 0.85 < float(inside.mean()) <= 1.0
    pin(fit.predict(gene.X), gene.X.to_numpy() @ fit.effects.to_numpy().T, 1e-12)
    h, s = fit.posterior_probability, fit.whitened()[0]
    assert s.n.sum() == fit.dataset["dof"].sum()
    assert h.dims == ("tissue",)


def test_alpha_profile_meets_the_fit(gene):
    fit = ebmodel.fit(gene.X, gene.Y, slab="power", errors="unequal", n_starts=14)
    profile = ebmodel.alpha_profile(gene.X, gene.Y, alphas=[0.0, 1.0], errors="unequal", n_starts=14)
    assert float(profile["loglik"].max()) == pytest.approx(fit.loglik, abs=1e-2)
    assert float(profile["estimate"]) == pytest.approx(fit.params.alpha, abs=0.05)
    at_one = ebmodel.fit(gene.X, gene.Y, slab=1.0, errors="unequal")
    assert float(profile["loglik"].sel(alpha=1.0)) == pytest.approx(at_one.loglik, abs=1e-3)


# Simulated data, and what is refused ----------------------------------------------------------------------------------


def test_model_true_draws_them_and_knows_the_posterior():
    omega = np.array([0.25, 1.0, 4.0])
    theta = replace(THETA, relative_variance=omega, tau1=1e-12)
    gene = model_true(theta, n=4000, m=3, seed=5, posterior=False)
    variance = gene.Y.var("sample").to_numpy()
    assert (np.abs(np.log(variance / omega)) < 4.5 * np.sqrt(2 / 4000)).all()
    np.testing.assert_allclose(gene.error_sd, np.sqrt(omega))
    small = model_true(replace(theta, tau1=0.5), n=15, m=3, seed=6)
    at = ebmodel.oracle(small.X, small.Y, replace(theta, tau1=0.5))
    np.testing.assert_allclose(small.posterior_effects, at.effects, atol=1e-10)
    np.testing.assert_allclose(exact_posterior(small).log_bayes_factor, at.log_bayes_factor, rtol=1e-8)
    alike = model_true(replace(THETA, relative_variance=np.ones(3)), n=15, m=3, seed=6, posterior=False)
    np.testing.assert_array_equal(alike.Y, model_true(THETA, n=15, m=3, seed=6, posterior=False).Y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relative_variance": [1.0, 0.0]}, "expected one finite number > 0 a tissue, or None, got [1.0, 0.0]"),
        ({"relative_variance": [1.0, np.inf]}, "in relative_variance; do give error variances over sigma2"),
        ({"relative_variance": 2.0}, "expected one finite number > 0 a tissue"),
    ],
)
def test_params_out_of_range(change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        replace(THETA, **change)


def test_refused(gene):
    with pytest.raises(InputError, match="expected 'equal' or 'unequal', got 'correlated', in errors"):
        ebmodel.fit(gene.X, gene.Y, errors="correlated")
    with pytest.raises(InputError, match=r"expected 20 variances, one a tissue, got 3, in params\.relative_variance"):
        ebmodel.loglik(gene.X, gene.Y, replace(THETA, relative_variance=np.ones(3)))
    with pytest.raises(InputError, match="expected 4 variances, one a tissue, got 3, in params; do give m="):
        model_true(replace(THETA, relative_variance=np.ones(3)), m=4)
    Y = gene.Y.copy()
    Y[5:, 2] = np.nan
    with pytest.raises(InputError, match=r"more samples than SNPs, got too few in 'tissue3'.*errors='equal'"):
        ebmodel.fit(gene.X, Y, errors="unequal")
    Y = gene.Y.copy()
    Y[:, 4] = gene.X[:, 0]
    with pytest.raises(InputError, match="expected responses with noise, got an exact fit by the SNPs in 'tissue5'"):
        ebmodel.fit(gene.X, Y, errors="unequal")


# The command line ----------------------------------------------------------------------------------------------------


def test_command_line(gene, tmp_path, capsys):
    gene = gene.assign(Y=gene.Y * np.r_[8.0, np.ones(19)])
    for name in ("X", "Y"):
        gene[name].to_pandas().rename_axis("sample").to_csv(tmp_path / f"{name}.csv")
    files = ["--genotypes", tmp_path / "X.csv", "--expression", tmp_path / "Y.csv", "--starts", "4"]

    def run(*options):
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in ("fit", *files, "--out", tmp_path / "fit.nc", *options)])
        assert caught.value.code == 0
        return capsys.readouterr()

    assert "fit with --errors unequal, or use --standardise" in run().err
    printed = run("--errors", "unequal", "--json")
    assert "residual variances" not in printed.err
    tissues = json.loads(printed.out)["tissues"]
    own = ebmodel.open_fit(tmp_path / "fit.nc").error_variance
    np.testing.assert_allclose([tissue["error_variance"] for tissue in tissues], own, rtol=1e-12)
    assert "error var." in run("--errors", "unequal").out
