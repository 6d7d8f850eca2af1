"""The exact posterior of simulated data is Bayes' rule with dense normal densities, in every setting."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import ebmodel
from ebmodel import InputError, Params, simulate

P = 4
THETA = Params(tau1=0.3, beta=[1.0, -1.0, 0.0], eta=2.5, sigma2=1.5)
CASES = [
    *(pytest.param(simulate.setting(k, rho=rho, signal=2.0, sigma=s, p=P, n=12, m=5, seed=3), id=f"setting-{k}-{rho}")
      for k, s in ((1, 3.0), (2, 1.0), (3, 3.0)) for rho in (0.0, 0.8)),
    pytest.param(simulate.setting(4, rho=0.5, n=80, m=4, tau1=0.2, sigma=3.0, seed=1), id="setting-4"),
    *(pytest.param(simulate.model_true(ebmodel.Params(tau1=0.3, beta=THETA.beta, eta=eta, sigma2=1.5, slab=slab), n=9,
                                       m=5, missing=0.2, seed=2, posterior=False), id=f"model-{slab}-{eta}")
      for slab, eta in product(("g", "independent", -1.0), (2.5, 0.0))),
    pytest.param(simulate.violated("slab-covariance", 0.6, THETA, n=9, m=5, missing=0.2), id="slab-covariance"),
    pytest.param(simulate.violated("heavy-tails", 0.0, THETA, n=9, m=5), id="no-violation"),
]  # fmt: skip


def bayes(data):
    """P(I=1 | y_t), E(beta(t) | y_t), sd and log p(Y), from joint normal densities of beta(t) and y_t."""
    about, beta, V = data.attrs, data.beta.to_numpy(), data.slab_covariance.to_numpy()
    sigma2 = about["sigma2"] if "sigma2" in about else about["sigma"] ** 2
    probability, mean, sd, total = [], [], [], 0.0
    for y in data.Y.to_numpy().T:
        rows = ~np.isnan(y)
        X, y, noise = data.X.to_numpy()[rows], y[rows], sigma2 * np.eye(rows.sum())
        marginal = X @ V @ X.T + noise
        with np.errstate(divide="ignore"):
            slab = np.log(about["tau1"]) + multivariate_normal(X @ beta, marginal).logpdf(y)
            null = np.log(1 - about["tau1"]) + multivariate_normal(0 * y, noise).logpdf(y)
        gain = V @ X.T @ np.linalg.inv(marginal)
        h, mu = np.exp(slab - np.logaddexp(slab, null)), beta + gain @ (y - X @ beta)
        variance = np.diag(V - gain @ X @ V)
        probability.append(h)
        mean.append(h * mu)
        sd.append(np.sqrt(np.maximum(h * (variance + mu**2) - h**2 * mu**2, 0.0)))
        total += np.logaddexp(slab, null)
    return np.array(probability), np.array(mean), np.array(sd), total


@pytest.mark.parametrize("data", CASES)
def test_the_exact_posterior_is_bayes_rule(data):
    fit = simulate.exact_posterior(data)
    probability, mean, sd, total = bayes(data)
    np.testing.assert_allclose(fit.posterior_probability, probability, atol=1e-9)
    np.testing.assert_allclose(fit.effects, mean, atol=1e-8)
    np.testing.assert_allclose(fit.effects_sd, sd, atol=1e-7)  # a square root of a difference
    assert fit.loglik == pytest.approx(total, abs=1e-8)
    assert fit.posterior_probability.tissue.equals(data.tissue)
    assert fit.effects.snp.equals(data.snp)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_it_is_the_oracle_with_the_true_covariance(k):
    data = simulate.setting(k, rho=0.6, signal=1.0, seed=4)
    theta = Params(tau1=0.5, beta=data.beta, eta=1.0, sigma2=100.0, slab=data.slab_covariance.to_numpy())
    exact, oracle = simulate.exact_posterior(data), ebmodel.oracle(data.X, data.Y, theta)
    for name in ("posterior_probability", "log_bayes_factor", "effects", "effects_sd", "lfsr", "ols"):
        np.testing.assert_allclose(getattr(exact, name), getattr(oracle, name), rtol=1e-7, atol=1e-9)
    assert exact.loglik == pytest.approx(oracle.loglik, rel=1e-12)
    assert isinstance(exact, ebmodel.Fit)


def test_effects_that_cannot_vary_are_exactly_their_mean():
    data = simulate.setting(2, rho=0.6, signal=2.0, seed=5)
    fit = simulate.exact_posterior(data)
    for values in (fit.effects, fit.effects_sd, *fit.effects_interval().data_vars.values()):
        assert (values[:, 1:] == 0.0).all()
        assert (values[:, 0] != 0.0).any()
    assert (fit.lfsr[:, 1:] == 1.0).all()
    draws = fit.to_datatree(draws=2000, chains=2, seed=1)["posterior"]["effects"]
    assert (draws[..., 1:] == 0.0).all()
    error = draws.std(("chain", "draw")) / np.sqrt(4000)
    assert (np.abs(draws.mean(("chain", "draw")) - fit.effects) <= 5 * error).all()


def test_the_model_comes_with_its_posterior():
    data = simulate.model_true(THETA, n=30, m=7, missing=0.2, seed=6)
    oracle = ebmodel.oracle(data.X, data.Y, THETA)
    np.testing.assert_allclose(data.posterior_probability, oracle.posterior_probability, atol=1e-10)
    np.testing.assert_allclose(data.posterior_effects, oracle.effects, atol=1e-9)
    assert simulate.exact_posterior(data).params.eta == 2.5
    assert "posterior_effects" not in simulate.model_true(THETA, posterior=False)


def test_it_is_stored_and_read_as_any_fit(tmp_path):
    data = simulate.setting(2, p=3, m=4, seed=1)
    fit = simulate.exact_posterior(data)
    fit.to_netcdf(tmp_path / "exact.nc")
    np.testing.assert_array_equal(ebmodel.open_fit(tmp_path / "exact.nc").effects, fit.effects)
    data.to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "data.nc", engine="h5netcdf") as again:
        np.testing.assert_array_equal(simulate.exact_posterior(again.load()).effects, fit.effects)


def test_what_has_no_closed_form_is_refused():
    data = simulate.violated("heavy-tails", 0.5, THETA)
    with pytest.raises(InputError, match="a posterior with a closed form, got the violation 'heavy-tails'"):
        simulate.exact_posterior(data)
    with pytest.raises(InputError, match=r"one without \['slab_covariance'\]"):
        simulate.exact_posterior(simulate.setting(1).drop_vars("slab_covariance"))
    outside = simulate.setting(2, p=3).assign(beta=("snp", [1.0, 1.0, 0.0]))
    with pytest.raises(InputError, match="a slab mean in the span of the slab's covariance"):
        simulate.exact_posterior(outside)


@pytest.mark.statistical
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_exact_probabilities_are_calibrated(k):
    """Among tissues with P(I=1 | Y) near h a share h is active; and no estimate has a smaller error than its own sd."""
    probability, active, error, variance = [], [], [], []
    for seed in range(60):
        data = simulate.setting(k, rho=0.4, signal=0.5, seed=seed)
        fit = simulate.exact_posterior(data)
        probability.append(fit.posterior_probability.to_numpy())
        active.append(data.active.to_numpy())
        error.append(float(((fit.effects - data.effects) ** 2).mean()))
        variance.append(float((fit.effects_sd**2).mean()))
    h, active = np.concatenate(probability), np.concatenate(active)
    for low, high in ((0.0, 0.25), (0.25, 0.75), (0.75, 1.01)):
        chosen = (h >= low) & (h < high)
        excess = active[chosen] - h[chosen]
        assert abs(excess.sum()) <= 4 * np.sqrt((h[chosen] * (1 - h[chosen])).sum())
    excess = np.array(error) - np.array(variance)
    assert abs(excess.mean()) <= 4 * excess.std(ddof=1) / np.sqrt(len(excess))
