"""Every violation is the model at strength 0, and what it says it is beyond."""

from __future__ import annotations

import re

import numpy as np
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError, Params, simulate

Z = 5.0
"""Standard errors allowed to a Monte-Carlo estimate."""
THETA = Params(tau1=0.5, beta=np.array([1.0, -1.0, 0.5]), eta=30.0, sigma2=2.0)
NAMES = list(simulate.VIOLATIONS)
NEW_EFFECTS = ("two-slabs", "slab-covariance", "related-tissues", "sample-size", "small-effects")
"""Violations of what beta(t) is; the others leave the model's effects."""
UNEQUAL = np.linspace(0.0, 0.6, 30)


def near(values, expected):
    """Whether the mean of independent values (replication, ...) is within Z standard errors of its expectation."""
    values = np.asarray(values)
    return (np.abs(values.mean(axis=0) - expected) <= Z * values.std(axis=0, ddof=1) / np.sqrt(len(values))).all()


def errors(data):
    """eps(t) (sample, tissue)."""
    return (data.Y - data.X @ data.effects).transpose("sample", "tissue").to_numpy()


def active_effects(data):
    return data.effects.to_numpy()[data.active.to_numpy()]


@pytest.mark.parametrize("name", NAMES)
def test_strength_0_is_the_model_number_by_number(name):
    knobs = {"n": 20, "m": 6, "missing": 0.2, "seed": np.random.SeedSequence(3).spawn(1)[0]}
    data = simulate.violated(name, 0.0, THETA, **knobs)
    model = simulate.model_true(THETA, posterior=False, **knobs)
    xr.testing.assert_equal(data, model)
    assert data.attrs == {**model.attrs, "violation": name, "strength": 0.0}


@pytest.mark.parametrize("name", NAMES)
def test_the_model_keeps_its_numbers_and_the_violation_has_its_own(name):
    knobs = {"n": 20, "m": 30, "missing": UNEQUAL if name == "sample-size" else 0.2}
    stream = np.random.SeedSequence(5)
    data, again, other = (simulate.violated(name, 0.5, THETA, seed=s, **knobs) for s in (stream, stream, 6))
    model = simulate.model_true(THETA, seed=5, posterior=False, **knobs)
    assert stream.n_children_spawned == 0  # whoever made the stream can still spawn from it
    xr.testing.assert_identical(data, again)
    assert not data.Y.equals(model.Y)
    assert not data.Y.equals(other.Y)
    xr.testing.assert_equal(data.X, model.X)
    xr.testing.assert_equal(data.active, model.active)
    assert data.effects.equals(model.effects) == (name not in NEW_EFFECTS)
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), np.isnan(model.Y).sum("sample"))
    if name != "small-effects":
        assert (data.effects[~data.active] == 0).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("slab-covariance", "missing-by-value")])
def test_a_weak_violation_is_nearly_the_model(name):
    """What is violated grows from the model's own draws: with them strengths can be compared pair by pair.

    Two slabs at a weak strength are the model in most tissues.
    """
    knobs = {"n": 20, "m": 30, "missing": UNEQUAL}
    data = simulate.violated(name, 1e-10, THETA, seed=5, **knobs)
    model = simulate.model_true(THETA, seed=5, posterior=False, **knobs)
    np.testing.assert_allclose(data.Y, model.Y, atol=2e-3)
    np.testing.assert_allclose(data.effects, model.effects, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_exact_posterior_is_given_where_there_is_one(name):
    data = simulate.violated(name, 0.5, THETA, n=20, m=30, missing=UNEQUAL)
    if simulate.VIOLATIONS[name].closed_form:
        exact = simulate.exact_posterior(data)
        sd = data.error_sd.to_numpy() if "error_sd" in data else np.full(30, np.sqrt(2.0))
        for t in (0, 7, 29):
            theta = Params(tau1=0.5, beta=THETA.beta, eta=1.0, sigma2=sd[t] ** 2, slab=data.slab_covariance.to_numpy())
            own = ebmodel.oracle(data.X, data.Y, theta)
            np.testing.assert_allclose(exact.effects[t], own.effects[t], atol=1e-9)
            assert exact.posterior_probability[t] == pytest.approx(float(own.posterior_probability[t]), abs=1e-9)
    else:
        with pytest.raises(InputError, match=f"a posterior with a closed form, got the violation '{name}'"):
            simulate.exact_posterior(data)


@pytest.mark.parametrize("name", NAMES)
def test_tissues_with_error_variances_of_their_own_keep_them(name):
    omega = np.tile([0.25, 4.0], 15)
    theta = Params(tau1=0.5, beta=THETA.beta, eta=30.0, sigma2=2.0, relative_variance=omega)
    knobs = {"n": 20, "m": 30, "missing": UNEQUAL, "seed": 5}
    model = simulate.model_true(theta, posterior=False, **knobs)
    xr.testing.assert_equal(simulate.violated(name, 0.0, theta, **knobs), model)
    data = simulate.violated(name, 0.5, theta, **knobs)
    if name != "unequal-variances":
        np.testing.assert_allclose(data.error_sd, np.sqrt(2.0 * omega))


@pytest.mark.parametrize("name", ["heavy-tails", "skewed-errors", "correlated-errors", "block-errors"])
def test_errors_of_every_tissue_keep_their_variance(name):
    theta = Params(tau1=0.5, beta=THETA.beta, eta=30.0, sigma2=2.0, relative_variance=[0.25, 4.0])
    values = errors(simulate.violated(name, 0.3, theta, n=20_000, m=2, seed=5))
    assert near(values**2, [0.5, 8.0])


def test_shares_missing_can_differ_between_tissues():
    data = simulate.model_true(THETA, n=20, m=30, missing=UNEQUAL, seed=1, posterior=False)
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), np.rint(20 * UNEQUAL))
    np.testing.assert_allclose(data.attrs["missing"], UNEQUAL)
    alike, one = (simulate.model_true(THETA, m=4, missing=share, seed=1) for share in ([0.2] * 4, 0.2))
    xr.testing.assert_equal(alike, one)


def test_the_registry_says_what_is_broken():
    for name, violation in simulate.VIOLATIONS.items():
        assert violation.breaks.startswith(("(1)", "(3)", "(4)", "Section 5"))
        assert violation.strength
        assert re.search(rf'^ +"{name}" +\S', simulate.violated.__doc__, re.MULTILINE), name


def test_heavy_tails():
    df = 10.0
    values = errors(simulate.violated("heavy-tails", 2 / df, THETA, n=4000, m=50, seed=1)).ravel()
    assert near(values, 0.0)
    assert near(values**2, 2.0)  # the variance stays
    assert near(values**4, 2.0**2 * 3 * (df - 2) / (df - 4))
    gross = errors(simulate.violated("heavy-tails", 0.9, THETA, n=1000, m=50, seed=2))
    assert np.abs(gross).max() > 10 * np.sqrt(2.0)


@pytest.mark.parametrize("skewness", [0.5, 2.0])
def test_skewed_errors(skewness):
    values = errors(simulate.violated("skewed-errors", skewness, THETA, n=4000, m=50, seed=1)).ravel()
    assert near(values, 0.0)
    assert near(values**2, 2.0)
    assert near(values**3, skewness * 2.0**1.5)
    assert near(values**4, 2.0**2 * (3 + 1.5 * skewness**2))
    assert values.min() > -2 / skewness * np.sqrt(2.0)  # where a gamma ends


def test_unequal_variances():
    data = simulate.violated("unequal-variances", 0.7, THETA, n=200, m=4000, seed=3)
    log_variance = np.log(data.error_sd.to_numpy() ** 2)
    assert near(data.error_sd.to_numpy() ** 2, 2.0)
    assert near((log_variance - log_variance.mean()) ** 2, 0.49)
    assert near(((errors(data) / data.error_sd.to_numpy()) ** 2).mean(axis=0), 1.0)
    assert data.error_sd.dims == ("tissue",)


def test_correlated_errors():
    values = errors(simulate.violated("correlated-errors", 0.3, THETA, n=20_000, m=3, seed=4))
    expected = 2.0 * (0.3 + 0.7 * np.eye(3))
    assert near(values[:, :, None] * values[:, None, :], expected)
    same = errors(simulate.violated("correlated-errors", 1.0, THETA, n=50, m=3, seed=4))
    np.testing.assert_allclose(same[:, 0], same[:, 1], atol=1e-9)


def test_block_errors():
    values = errors(simulate.violated("block-errors", 0.4, THETA, n=20_000, m=7, seed=4))
    group = np.repeat([0, 1], [5, 2])
    expected = 2.0 * (0.4 * (group[:, None] == group) + 0.6 * np.eye(7))
    assert near(values[:, :, None] * values[:, None, :], expected)
    np.testing.assert_array_equal(simulate.violated("block-errors", 0.4, THETA, m=7).group, group)


def test_curvature():
    knobs = {"n": 200_000, "m": 8, "seed": 3}
    data = simulate.violated("curvature", 0.5, THETA, **knobs)
    model = simulate.model_true(THETA, posterior=False, **knobs)
    curve = data.curve.to_numpy()
    np.testing.assert_allclose(data.Y, model.Y + curve, atol=1e-12)
    active = data.active.to_numpy()
    assert active.any()
    assert (curve[:, ~active] == 0.0).all()
    u = (data.X @ data.effects).transpose("sample", "tissue").to_numpy()[:, active]
    np.testing.assert_allclose(curve[:, active].mean(axis=0), 0.0, atol=1e-9)
    # u is normal here, so that the curve has 2 s^2 times its variance and does not follow it
    np.testing.assert_allclose(curve[:, active].var(axis=0) / u.var(axis=0), 2 * 0.5**2, rtol=0.05)
    assert near((curve[:, active] * u)[:, 0], 0.0)
    residual = curve[:, active] - 0.5 * (u**2 - (u**2).mean(axis=0)) / u.std(axis=0)
    np.testing.assert_allclose(residual, 0.0, atol=1e-9)


def test_curvature_of_no_effect_is_none():
    nothing = Params(tau1=0.5, beta=np.zeros(3), eta=0.0, sigma2=2.0)
    assert (simulate.violated("curvature", 2.0, nothing, n=20, m=6).curve == 0.0).all()


def test_two_slabs():
    data = simulate.violated("two-slabs", 0.6, THETA, n=30, m=8000, seed=5)
    assert near(data.opposite.to_numpy().astype(float), 0.3)
    effects, opposite = active_effects(data), data.opposite.to_numpy()[data.active.to_numpy()]
    assert near(effects[opposite], -THETA.beta)
    assert near(effects[~opposite], THETA.beta)
    centred = effects + np.where(opposite[:, None], THETA.beta, -THETA.beta)
    assert near(centred[:, :, None] * centred[:, None, :], data.slab_covariance.to_numpy())


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_slab_covariance(strength):
    data = simulate.violated("slab-covariance", strength, THETA, n=30, m=8000, seed=6)
    X = data.X.to_numpy()
    slab = 30.0 * np.linalg.inv(X.T @ X)
    C = np.trace(slab) / 3 * (0.8 + 0.2 * np.eye(3))
    np.testing.assert_allclose(data.slab_covariance, (1 - strength) * slab + strength * C, rtol=1e-10)
    assert np.trace(data.slab_covariance) == pytest.approx(np.trace(slab))
    centred = active_effects(data) - THETA.beta
    assert near(centred, 0.0)
    assert near(centred[:, :, None] * centred[:, None, :], data.slab_covariance.to_numpy())


def test_related_tissues():
    """In one group of all active tissues: covariances within it, and those of each tissue alone."""
    everywhere = Params(tau1=1.0, beta=THETA.beta, eta=30.0, sigma2=2.0)
    X = np.random.default_rng(1).standard_normal((30, 3))
    data = simulate.violated("related-tissues", 0.7, everywhere, m=20_000, X=X, seed=6)
    np.testing.assert_allclose(data.slab_covariance, 30.0 * np.linalg.inv(X.T @ X), rtol=1e-9)
    np.testing.assert_array_equal(np.bincount(data.group), 5)
    deviation = (data.effects.to_numpy() - THETA.beta).reshape(-1, 5, 3)
    assert near(deviation, 0.0)
    for t, expected in ((0, data.slab_covariance), (1, 0.7 * data.slab_covariance)):
        assert near(deviation[:, 0, :, None] * deviation[:, t, None, :], expected.to_numpy())
    assert near(deviation[:-1, 0] * deviation[1:, 1], 0.0)


def test_sample_size():
    share = np.tile([0.0, 0.5], 4000)
    knobs = {"n": 20, "m": 8000, "missing": share, "seed": 2}
    data = simulate.violated("sample-size", 2.0, THETA, **knobs)
    factor = np.where(share == 0.0, (20 / 15) ** 2, (10 / 15) ** 2)
    np.testing.assert_allclose(data.size_factor, factor)
    model = simulate.model_true(THETA, posterior=False, **knobs)
    np.testing.assert_allclose(data.effects, factor[:, None] * model.effects)
    xr.testing.assert_equal(data.slab_covariance, model.slab_covariance)
    large = active_effects(data.isel(tissue=share == 0.0))
    assert near(large, (20 / 15) ** 2 * THETA.beta)


def test_small_effects():
    data = simulate.violated("small-effects", 0.3, THETA, n=30, m=8000, seed=5)
    model = simulate.model_true(THETA, n=30, m=8000, seed=5, posterior=False)
    active = data.active.to_numpy()
    np.testing.assert_array_equal(data.effects[active], model.effects[active])
    small = data.effects.to_numpy()[~active]
    assert near(small, 0.0)
    assert near(small[:, :, None] * small[:, None, :], 0.3 * data.slab_covariance.to_numpy())
    expected = data.X.to_numpy() @ data.effects.to_numpy().T - model.X.to_numpy() @ model.effects.to_numpy().T
    np.testing.assert_allclose(data.Y - model.Y, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["related-tissues", "small-effects"])
def test_a_slab_without_spread_has_none_to_share(name):
    certain = Params(tau1=0.5, beta=THETA.beta, eta=0.0, sigma2=2.0)
    data = simulate.violated(name, 0.5, certain, n=20, m=6)
    np.testing.assert_array_equal(data.effects, np.where(data.active.to_numpy()[:, None], THETA.beta, 0.0))


def test_missing_by_value():
    knobs = {"n": 300, "m": 200, "missing": 0.2, "seed": 7}
    data = simulate.violated("missing-by-value", 1.0, THETA, **knobs)
    whole = simulate.model_true(THETA, posterior=False, **{**knobs, "missing": 0.0}).Y
    gone = np.isnan(data.Y)
    assert (gone.sum("sample") == 60).all()
    np.testing.assert_array_equal(data.Y.to_numpy()[~gone], whole.to_numpy()[~gone])
    z = (whole - whole.mean("sample")) / whole.std("sample")
    assert log_odds_ratio(z.to_numpy(), gone.to_numpy()) == pytest.approx(1.0, abs=0.1)
    random = np.isnan(simulate.violated("missing-by-value", 1e-9, THETA, **knobs).Y)
    assert near(z.where(random).mean("sample").to_numpy(), 0.0)


def log_odds_ratio(z, gone):
    """Slope of the logistic regression of being missing on the response, by Newton's steps."""
    design, y = np.column_stack([np.ones(z.size), z.ravel()]), gone.ravel().astype(float)
    theta = np.zeros(2)
    for _ in range(20):
        h = 1 / (1 + np.exp(-design @ theta))
        theta += np.linalg.solve((design.T * (h * (1 - h))) @ design, design.T @ (y - h))
    return theta[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("light-tails", 0.5), "one of heavy-tails, skewed-errors, .*missing-by-value, got 'light-tails'"),
        (("heavy-tails", 1.0), "0 <= strength < 1, got 1.0"),
        (("two-slabs", 1.5), "0 <= strength <= 1, got 1.5"),
        (("correlated-errors", -0.1), "0 <= strength <= 1, got -0.1"),
        (("unequal-variances", np.inf), "0 <= strength < inf, got inf"),
        (("unequal-variances", np.nan), "got nan"),
        (("missing-by-value", 1.0), "missing > 0, got no response lost"),
        (("sample-size", 1.0), "tissues of different sizes, got 100 samples in all"),
        (("skewed-errors", np.inf), "0 <= strength < inf, got inf"),
        (("small-effects", 1.1), "0 <= strength <= 1, got 1.1"),
    ],
)
def test_violations_that_do_not_exist(arguments, message):
    with pytest.raises(InputError, match=message):
        simulate.violated(*arguments, THETA)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ([0.1, 0.2], r"one share missing, or 50, one a tissue, got shape \(2,\)"),
        (np.full(50, 1.0), "0 <= missing < 1, got 1.0"),
        (np.nan, "0 <= missing < 1, got nan"),
        (-0.1, "0 <= missing < 1, got -0.1"),
    ],
)
def test_shares_missing_that_no_data_have(missing, message):
    with pytest.raises(InputError, match=message):
        simulate.model_true(THETA, missing=missing)
