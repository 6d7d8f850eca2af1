"""Standard errors: exact second derivatives against differences of the likelihood, the delta method, boundaries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

import ebmodel
from ebmodel import InputError, Params, em
from ebmodel.information import fitted_state, observed_information, standard_errors
from ebmodel.profiles import profile
from ebmodel.simulate import model_true


def differences(f, x, h):
    """Minus the matrix of second central differences."""
    E, k = np.diag(h), len(x)
    J = np.empty((k, k))
    for i in range(k):
        for j in range(k):
            corners = f(x + E[i] + E[j]) - f(x + E[i] - E[j]) - f(x - E[i] + E[j]) + f(x - E[i] - E[j])
            J[i, j] = -corners / (4 * h[i] * h[j])
    return J


@pytest.mark.parametrize("shape", ["complete", "missing", "fewer-samples-than-snps", "covariates-missing"])
@pytest.mark.parametrize("slab", ["g", 0.5])
def test_information_is_minus_the_second_derivatives(make_case, shape, slab):
    case = make_case(shape, slab)
    s = case.state  # anywhere: not only at a maximum
    x = np.array([s.tau1, *s.gamma, s.eta, s.sigma2])
    h = 3e-4 * np.array([min(s.tau1, 1 - s.tau1), *np.full(len(s.gamma), np.abs(s.gamma).max()), s.eta, s.sigma2])
    r = len(s.gamma)

    def loglik(x):
        return em.expectation(case.stats, em.State(x[0], x[1 : r + 1].copy(), x[r + 1], x[r + 2]))[1]

    want, got = differences(loglik, x, h), observed_information(case.stats, s)
    size = np.sqrt(np.abs(np.diag(want)))
    np.testing.assert_allclose(got / np.outer(size, size), want / np.outer(size, size), rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def gene():
    return ebmodel.simulate.setting(3, rho=0.4, signal=1, m=24, p=3, n=40, sigma=3, seed=3)


@pytest.fixture(scope="module")
def fit(gene):
    return ebmodel.fit(gene.X, gene.Y)


def test_standard_errors_invert_the_likelihoods_curvature(gene, fit):
    """Differences of `ebmodel.loglik` in the paper's own coordinates, logit tau1, beta, log eta and log sigma2."""
    theta, errors = fit.params, standard_errors(fit)
    beta = theta.beta.to_numpy()
    x = np.array([logit(theta.tau1), np.log(theta.eta), np.log(theta.sigma2), *beta])

    def loglik(x):
        params = Params(tau1=expit(x[0]), eta=np.exp(x[1]), sigma2=np.exp(x[2]), beta=x[3:])
        return ebmodel.loglik(gene.X, gene.Y, params)

    h = np.array([1e-2, 1e-2, 1e-2, *np.full(3, 0.02 * np.abs(beta).max())])
    se = np.sqrt(np.diag(np.linalg.inv(differences(loglik, x, h))))
    assert errors["quantity"].to_numpy().tolist() == ["tau1", "eta", "sigma2", "beta[snp1]", "beta[snp2]", "beta[snp3]"]
    np.testing.assert_allclose(errors["se_on_scale"], se, rtol=2e-3)
    slope = np.array([theta.tau1 * (1 - theta.tau1), theta.eta, theta.sigma2, 1, 1, 1])
    np.testing.assert_allclose(errors["se"], se * slope, rtol=2e-3)
    assert errors["scale"].to_numpy().tolist() == ["logit", "log", "log", *["identity"] * 3]
    assert not errors["boundary"].any()
    assert (errors["reason"] == "").all()


def test_intervals_are_symmetric_on_the_scale(fit):
    errors = standard_errors(fit, level=0.9).set_index(quantity="quantity")
    tau1, eta, beta = (errors.sel(quantity=name) for name in ("tau1", "eta", "beta[snp1]"))
    for row, scale in ((tau1, logit), (eta, np.log), (beta, np.asarray)):
        middle = 0.5 * (scale(float(row.lower)) + scale(float(row.upper)))
        assert middle == pytest.approx(scale(float(row.estimate)), rel=1e-9)
        half = 0.5 * (scale(float(row.upper)) - scale(float(row.lower)))
        assert half == pytest.approx(1.644854 * float(row.se_on_scale), rel=1e-6)


def test_units_of_y_and_basis_of_x_change_what_they_should(gene, fit, rng):
    A = rng.normal(size=(3, 3)) + 2 * np.eye(3)
    other = ebmodel.fit(gene.X.to_numpy() @ A, 10 * gene.Y.to_numpy())
    one, two = standard_errors(fit), standard_errors(other)
    np.testing.assert_allclose(two["se_on_scale"][:3], one["se_on_scale"][:3], rtol=1e-4)
    np.testing.assert_allclose(two["se"][:3], one["se"][:3] * [1, 100, 100], rtol=1e-4)


@pytest.mark.parametrize("mean", ["zero", "hierarchical"])
def test_other_means_have_no_beta(gene, mean):
    errors = standard_errors(ebmodel.fit(gene.X, gene.Y, mean=mean))
    last = ["kappa"] if mean == "hierarchical" else []
    assert errors["quantity"].to_numpy().tolist() == ["tau1", "eta", "sigma2", *last]
    assert np.isfinite(errors["se"]).all()
    assert errors.attrs["of"] == ("bound on the log-likelihood" if last else "log-likelihood")


def test_the_bounds_curvature_is_that_of_its_profile(gene):
    """In kappa alone: fits with kappa moved, the rest found again, against the inverse of one element of J^-1."""
    fit = ebmodel.fit(gene.X, gene.Y, mean="hierarchical")
    se, kappa = float(standard_errors(fit).sel(quantity="kappa").se_on_scale), fit.params.kappa
    step = 0.1
    grid = kappa * np.exp(step * np.array([-1.0, 1.0]))
    around = profile(fit, "kappa", grid)["loglik"].sel(kappa=grid).to_numpy()
    curvature = -(around.sum() - 2 * fit.loglik) / step**2
    assert se == pytest.approx(curvature**-0.5, rel=0.01)


# Boundaries ----------------------------------------------------------------------------------------------------------


def shared(seed=2, m=12, active=8):
    """One effect common to some tissues: eta = 0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 2))
    return X, X @ np.outer([1.0, -1.0], np.arange(m) < active) + rng.normal(size=(60, m))


def test_no_standard_error_at_eta_0_and_the_rest_given_it():
    X, Y = next((X, Y) for X, Y in map(shared, range(20)) if ebmodel.fit(X, Y).params.eta == 0.0)
    fit = ebmodel.fit(X, Y)
    errors = standard_errors(fit)
    eta = errors.sel(quantity="eta")
    assert np.isnan([float(eta[name]) for name in ("se", "se_on_scale", "lower", "upper")]).all()
    assert bool(eta.boundary)
    assert str(eta.reason.item()).startswith("boundary: the estimate is 0")
    rest = errors.drop_sel(quantity="eta")
    assert np.isfinite(rest["se"]).all()
    J = observed_information(*(fit.whitened()[0], fitted_state(fit)[1]))
    kept = [0, 1, 2, 4]  # tau1, gamma, sigma2
    want = np.sqrt(np.diag(np.linalg.inv(J[np.ix_(kept, kept)])))
    assert float(errors.sel(quantity="tau1").se) == pytest.approx(want[0], rel=1e-9)
    assert float(errors.sel(quantity="sigma2").se) == pytest.approx(want[3], rel=1e-9)


def test_no_standard_error_where_every_tissue_or_none_is_active(rng):
    X, Y = shared(active=12)
    every = standard_errors(ebmodel.fit(X, 3 * X @ [[1.0], [1.0]] + Y))
    assert np.isnan(float(every.sel(quantity="tau1").se))
    assert bool(every.sel(quantity="tau1").boundary)
    assert np.isfinite(every.sel(quantity=["sigma2", "beta[snp0]"]).se).all()
    noise = next(Y for Y in rng.normal(size=(50, 60, 6)) if ebmodel.fit(X, Y, mean="zero").params.tau1 == 0.0)
    none = standard_errors(ebmodel.fit(X, noise, mean="zero"))
    assert np.isnan(none.sel(quantity=["tau1", "eta"]).se).all()
    assert str(none.sel(quantity="eta").reason.item()) == "not identified: no tissue is active"
    s2 = float(none.sel(quantity="sigma2").estimate)
    assert float(none.sel(quantity="sigma2").se) == pytest.approx(s2 * np.sqrt(2 / 360), rel=1e-6)


def test_known_parameters_and_levels_are_refused(gene, fit):
    known = ebmodel.oracle(gene.X, gene.Y, replace(fit.params, tau1=0.5))
    with pytest.raises(InputError, match="expected a fit by maximum likelihood, got known parameters"):
        standard_errors(known)
    with pytest.raises(InputError, match="0 < level < 1"):
        standard_errors(fit, level=95)


@pytest.mark.statistical
def test_standard_errors_are_the_estimates_spread():
    """300 data sets: mean se against the sd of the estimates, on each parameter's scale."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 2))
    truth = Params(tau1=0.5, beta=[0.8, -0.6], eta=1.0, sigma2=1.0)
    estimates, errors = [], []
    for seed in range(300):
        data = model_true(truth, X=X, m=60, seed=seed, posterior=False)
        theta = ebmodel.fit(data.X, data.Y).params
        found = standard_errors(ebmodel.fit(data.X, data.Y))
        if np.isnan(found["se"]).any():
            continue
        estimates.append([logit(theta.tau1), np.log(theta.eta), np.log(theta.sigma2), *theta.beta.to_numpy()])
        errors.append(found["se_on_scale"].to_numpy())
    assert len(errors) > 290
    ratio = np.median(errors, axis=0) / np.std(estimates, axis=0)
    # an sd from 300 draws has a standard error of 4 %; the log of a variance has heavier tails than a normal
    np.testing.assert_allclose(ratio, 1.0, atol=0.2)
