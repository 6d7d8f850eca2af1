"""Simulated data have the shapes, the shares and the moments that their settings name."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ebmodel import InputError, Params, simulate

Z = 5.0
"""Standard errors allowed to a Monte-Carlo estimate."""


def arrays(data):
    return {name: data[name].to_numpy() for name in ("X", "Y", "active", "effects", "beta")}


def within(values, expected):
    """Whether the mean of independent values (replication, ...) is within Z standard errors of its expectation."""
    values = np.asarray(values)
    error = np.abs(values.mean(axis=0) - expected)
    return (error <= Z * values.std(axis=0, ddof=1) / np.sqrt(len(values))).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_shapes_and_names(k):
    data = simulate.setting(k, seed=1)
    assert dict(data.sizes) == {"sample": 50, "snp": 30, "tissue": 50, "snp_other": 30}
    assert data.X.dims == ("sample", "snp")
    assert data.Y.dims == ("sample", "tissue")
    assert data.effects.dims == ("tissue", "snp")
    assert data.active.dtype == bool
    assert data.attrs["sigma"] == (1.0 if k == 2 else 10.0)
    assert (data.effects.to_numpy()[~data.active.to_numpy()] == 0).all()
    small = simulate.setting(k, n=12, p=7, m=3)
    assert dict(small.sizes) == {"sample": 12, "snp": 7, "tissue": 3, "snp_other": 7}
    assert isinstance(small, xr.Dataset)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_seeds(k):
    first, again, other = (arrays(simulate.setting(k, seed=s)) for s in (5, 5, 6))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["X"] != other["X"]).any()
    children = np.random.SeedSequence(1).spawn(2)
    assert (simulate.setting(k, seed=children[0]).X != simulate.setting(k, seed=children[1]).X).any()


def test_means_are_in_thirds():
    np.testing.assert_array_equal(simulate.setting(1, signal=2.0).beta, np.repeat([2.0, 1.0, 0.0], 10))
    np.testing.assert_array_equal(simulate.setting(3, signal=0.5).beta, np.repeat([0.5, 0.25, 0.0], 10))
    np.testing.assert_array_equal(simulate.setting(2, signal=2.0).beta, np.repeat([2.0, 0.0], [1, 29]))


@pytest.mark.parametrize(
    ("k", "n", "share", "gone"), [(1, 50, None, 0), (3, 50, None, 10), (3, 40, 0.25, 10), (1, 30, 0.5, 15)]
)
def test_share_of_missing_responses_is_exact(k, n, share, gone):
    data = simulate.setting(k, n=n, missing=share, seed=2)
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), gone)
    if gone:
        assert len(np.unique(np.isnan(data.Y), axis=1).T) > 1  # not the same donors in every tissue


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_genotypes_and_effects_have_exchangeable_covariance(rho):
    p = 4
    C = np.full((p, p), rho) + (1 - rho) * np.eye(p)
    data = simulate.setting(1, rho=rho, signal=2.0, p=p, n=4000, m=4000, seed=3, sigma=1.0)
    X, effects = data.X.to_numpy(), data.effects.to_numpy()[data.active.to_numpy()]
    assert within(X[:, :, None] * X[:, None, :], C)
    assert within(effects, data.beta.to_numpy())
    centred = effects - data.beta.to_numpy()
    assert within(centred[:, :, None] * centred[:, None, :], C)
    assert within(data.active.to_numpy().astype(float), 0.5)


def test_only_the_first_effect_of_setting_2_is_not_zero():
    data = simulate.setting(2, rho=0.6, signal=2.0, p=4, n=10, m=4000, sigma=1.5, seed=4)
    effects = data.effects.to_numpy()[data.active.to_numpy()]
    assert (effects[:, 1:] == 0).all()
    assert within(effects[:, 0], 2.0)
    assert within((effects[:, 0] - 2.0) ** 2, 1.5**2)


def test_responses_follow_equation_1():
    data = simulate.setting(1, n=400, p=3, m=20, sigma=3.0, seed=5)
    noise = (data.Y - data.X @ data.effects).to_numpy().ravel()
    assert within(noise, 0.0)
    assert within(noise**2, 9.0)
    exact = simulate.setting(3, sigma=1e-12, seed=5)
    expected = (exact.X @ exact.effects).where(exact.Y.notnull())
    np.testing.assert_allclose(exact.Y, expected.transpose(*exact.Y.dims), atol=1e-10)


def mse_of_least_squares(data):
    """(1/pm) sum_t |betahat(t) - beta(t)|^2."""
    total = 0.0
    for y, effects in zip(data.Y.to_numpy().T, data.effects.to_numpy(), strict=True):
        rows = ~np.isnan(y)
        total += np.mean((np.linalg.lstsq(data.X.to_numpy()[rows], y[rows])[0] - effects) ** 2)
    return total / data.sizes["tissue"]


@pytest.mark.parametrize(("k", "dof"), [(1, 50 - 30 - 1), (3, 40 - 30 - 1)])
def test_mse_of_least_squares(k, dof):
    """E tr (X'X)^-1 = p / (n - p - 1) for normal X: the tables' "sigma^2 = 10" is sigma = 10."""
    assert within([mse_of_least_squares(simulate.setting(k, seed=seed, m=5)) for seed in range(80)], 100 / dof)


def test_setting_4_draws_donors_with_replacement():
    donors = np.arange(60.0).reshape(20, 3) % 7
    data = simulate.setting(4, genotypes=donors, seed=6, m=5)
    assert dict(data.sizes) == {"sample": 300, "snp": 3, "tissue": 5, "snp_other": 3}
    assert {tuple(row) for row in data.X.to_numpy()} == {tuple(row) for row in donors}
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), 60)
    assert simulate.setting(4, genotypes=donors, n=10, m=2).sizes["sample"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 5}, "a setting from 1 to 4, got 5"),
        ({"k": 1, "genotypes": np.eye(3)}, "genotypes= in Setting 4 alone, without X=, got them in Setting 1"),
        ({"k": 4, "genotypes": np.eye(3), "X": np.eye(3)}, "got them in Setting 4 with X="),
        ({"k": 4, "genotypes": [[0.0, 1.0], [1.0, np.nan]]}, "got 1 missing for SNP 'snp2'"),
        ({"k": 4, "p": 7}, "p = 30, as in what was given, got 7"),
        ({"k": 1, "X": np.eye(3), "n": 4}, "n = 3, as in what was given, got 4"),
        ({"k": 1, "tau1": 1.5}, "0 <= tau1 <= 1, got 1.5"),
        ({"k": 1, "sigma": 0.0}, "sigma > 0, got 0.0"),
        ({"k": 1, "missing": 1.0}, "0 <= missing < 1, got 1.0"),
        ({"k": 1, "m": 0}, "m >= 1, got 0"),
        ({"k": 1, "signal": np.nan}, "a finite signal, got nan"),
        ({"k": 1, "rho": 1.0}, "0 <= rho < 1, got 1.0"),
        ({"k": 1, "rho": -0.1}, "0 <= rho < 1, got -0.1"),
    ],
)
def test_settings_that_do_not_exist(arguments, message):
    with pytest.raises(InputError, match=message):
        simulate.setting(**arguments)


@pytest.mark.parametrize("slab", ["g", "independent", -1.0, 2.0, "matrix"])
def test_model_true_draws_effects_from_its_slab(slab):
    rng = np.random.default_rng(7)
    X = rng.standard_normal((25, 3)) @ np.array([[1, 0.6, 0], [0, 1, 0.3], [0, 0, 1]])
    gram = X.T @ X
    s = np.trace(gram) / 3
    shape = {
        "g": np.linalg.inv(gram),
        "independent": np.eye(3),
        -1.0: gram / s,
        2.0: s**2 * np.linalg.inv(gram @ gram),
        "matrix": np.array([[2, 0.5, 0], [0.5, 1, 0], [0, 0, 1]]),
    }[slab]
    beta = np.array([1.0, -1.0, 0.0])
    theta = Params(tau1=0.3, beta=beta, eta=2.5, sigma2=1.5, slab=shape if slab == "matrix" else slab)
    data = simulate.model_true(theta, X=X, m=20_000, seed=8, missing=0.2, posterior=False)
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_allclose(data.slab_covariance, 2.5 * shape, rtol=1e-9, atol=1e-12)
    active, effects = data.active.to_numpy(), data.effects.to_numpy()
    assert within(active.astype(float), 0.3)
    assert (effects[~active] == 0).all()
    centred = effects[active] - beta
    assert within(centred, 0.0)
    assert within(centred[:, :, None] * centred[:, None, :], 2.5 * shape)
    noise = (data.Y - data.X @ data.effects).transpose("sample", "tissue").to_numpy()
    assert (np.isnan(noise).sum(axis=0) == 5).all()
    assert within(noise[~np.isnan(noise)] ** 2, 1.5)


def test_model_true_is_reproducible_and_makes_its_own_genotypes():
    theta = Params(tau1=0.5, beta=np.zeros(4), eta=1.0, sigma2=1.0)
    first, again, other = (arrays(simulate.model_true(theta, n=30, m=6, seed=s)) for s in (1, 1, 2))
    assert first["X"].shape == (30, 4)
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    assert (first["Y"] != other["Y"]).any()
