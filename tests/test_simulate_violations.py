"""Every violation is the model at strength 0, and what it says it is beyond."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ebmodel import InputError, Params, simulate

Z = 5.0
"""Standard errors allowed to a Monte-Carlo estimate."""
THETA = Params(tau1=0.5, beta=np.array([1.0, -1.0, 0.5]), eta=30.0, sigma2=2.0)
NAMES = list(simulate.VIOLATIONS)


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
    knobs = {"n": 20, "m": 30, "missing": 0.2}
    stream = np.random.SeedSequence(5)
    data, again, other = (simulate.violated(name, 0.5, THETA, seed=s, **knobs) for s in (stream, stream, 6))
    model = simulate.model_true(THETA, seed=5, posterior=False, **knobs)
    assert stream.n_children_spawned == 0  # whoever made the stream can still spawn from it
    xr.testing.assert_identical(data, again)
    assert not data.Y.equals(model.Y)
    assert not data.Y.equals(other.Y)
    xr.testing.assert_equal(data.X, model.X)
    xr.testing.assert_equal(data.active, model.active)
    if name not in ("two-slabs", "slab-covariance"):
        xr.testing.assert_equal(data.effects, model.effects)
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), 4)


def test_the_registry_says_what_is_broken():
    for name, violation in simulate.VIOLATIONS.items():
        assert violation.breaks.startswith(("(1)", "(3)", "Section 5"))
        assert violation.strength
        assert f'``"{name}"``' in simulate.violated.__doc__


def test_heavy_tails():
    df = 10.0
    values = errors(simulate.violated("heavy-tails", 2 / df, THETA, n=4000, m=50, seed=1)).ravel()
    assert near(values, 0.0)
    assert near(values**2, 2.0)  # the variance stays
    assert near(values**4, 2.0**2 * 3 * (df - 2) / (df - 4))
    gross = errors(simulate.violated("heavy-tails", 0.9, THETA, n=1000, m=50, seed=2))
    assert np.abs(gross).max() > 10 * np.sqrt(2.0)


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
        (("light-tails", 0.5), "one of heavy-tails, unequal-variances, .*missing-by-value, got 'light-tails'"),
        (("heavy-tails", 1.0), "0 <= strength < 1, got 1.0"),
        (("two-slabs", 1.5), "0 <= strength <= 1, got 1.5"),
        (("correlated-errors", -0.1), "0 <= strength <= 1, got -0.1"),
        (("unequal-variances", np.inf), "0 <= strength < inf, got inf"),
        (("unequal-variances", np.nan), "got nan"),
        (("missing-by-value", 1.0), "missing > 0, got 0.0"),
    ],
)
def test_violations_that_do_not_exist(arguments, message):
    with pytest.raises(InputError, match=message):
        simulate.violated(*arguments, THETA)
