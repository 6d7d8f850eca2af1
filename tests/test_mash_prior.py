"""The mixture prior: the order of its components, its moments, and the grid of scales."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmodel.errors import InputError
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.likelihood import Components
from ebmodel.mash.posterior import active
from ebmodel.mash.prior import Prior, check_grid, flatten, scaling_grid

GRID = np.array([0.5, 2.0])


def prior(null=0.4, *, pointmass=True):
    covariances = (Covariance.of("a", np.eye(2)), Covariance.of("b", [1.0, -1.0]))
    weights = np.array([[0.1, 0.2], [0.0, 0.3]]) * (1 - null) / 0.6
    return Prior(covariances, GRID, weights, null, np.array(["x", "y"]), 0.0, pointmass)


def test_components_are_in_order():
    one = prior()
    assert one.names == ["null", "a.1", "a.2", "b.1", "b.2"]
    np.testing.assert_allclose(one.flat, [0.4, 0.1, 0.2, 0.0, 0.3])
    components = Components.of(one.covariances, GRID, pointmass=True)
    np.testing.assert_array_equal(components.covariance, [-1, 0, 0, 1, 1])
    np.testing.assert_array_equal(components.omega2, [0.0, 0.25, 4.0, 0.25, 4.0])
    assert components.spans == [(-1, slice(0, 1)), (0, slice(1, 3)), (1, slice(3, 5))]


def test_without_a_point_mass_there_is_no_component_of_it():
    one = prior(0.0, pointmass=False)
    assert one.names == ["a.1", "a.2", "b.1", "b.2"]
    assert len(one.flat) == 4
    assert prior(0.0).flat[0] == 0.0
    np.testing.assert_array_equal(flatten(one.weights, 0.0, pointmass=False), one.flat)


def test_the_covariance_of_an_effect():
    want = 0.1 * 0.25 * np.eye(2) + 0.2 * 4.0 * np.eye(2) + 0.3 * 4.0 * np.array([[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(prior().matrix(), want, rtol=1e-14)
    np.testing.assert_array_equal(prior(1.0).matrix(), np.zeros((2, 2)))


def test_components_that_count():
    components, log_weights, kept = active(prior())
    np.testing.assert_array_equal(kept, np.flatnonzero(prior().flat))
    np.testing.assert_array_equal(components.covariance, [-1, 0, 0, 1])
    np.testing.assert_array_equal(components.omega2, [0.0, 0.25, 4.0, 4.0])
    np.testing.assert_allclose(np.exp(log_weights), [0.4, 0.1, 0.2, 0.3])
    components, _, kept = active(prior(1.0))
    assert kept.tolist() == [0]
    assert components.covariances == ()
    assert components.factors.shape == (2, 0)


def test_taking_components_takes_the_covariances_that_they_need():
    some = Components.of(tuple(canonical(3)), GRID, pointmass=True).take(np.array([0, 5, 6, 9]))
    assert [U.name for U in some.covariances] == ["condition_2", "equal_effects"]
    np.testing.assert_array_equal(some.covariance, [-1, 0, 0, 1])
    np.testing.assert_array_equal(some.omega2, [0.0, 0.25, 4.0, 0.25])
    np.testing.assert_array_equal(some.start, [0, 1, 2])


# Scales ---------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1e-8, 1.0, 1e8]))
def test_the_grid_reaches_from_a_tenth_of_the_errors_to_twice_the_effects(seed, alpha, unit):
    rng = np.random.default_rng(seed)
    bhat, shat = unit * 5 * rng.standard_normal((20, 3)), unit * np.exp(0.3 * rng.standard_normal((20, 3)))
    bhat[rng.random((20, 3)) < 0.2] = np.nan
    effects = tidy(bhat, shat, alpha=alpha)
    grid = scaling_grid(effects)
    seen = effects.observed
    most = 2 * np.sqrt((effects.B[seen] ** 2 - effects.S[seen] ** 2).max())
    least = effects.S[seen].min() / 10
    np.testing.assert_allclose(grid[1:] / grid[:-1], np.sqrt(2), rtol=1e-12)
    assert grid[-1] == pytest.approx(most, rel=1e-12)
    assert grid[0] <= least * (1 + 1e-9)
    assert grid[1] >= least
    coarse = scaling_grid(effects, 2.0)
    np.testing.assert_allclose(coarse[1:] / coarse[:-1], 2.0, rtol=1e-12)
    assert coarse[-1] == pytest.approx(most, rel=1e-12)


def test_the_grid_where_no_estimate_stands_out():
    grid = scaling_grid(tidy(np.full((3, 2), 0.5), 1.0))
    np.testing.assert_allclose(grid, 0.8 * np.sqrt(2.0) ** np.arange(-6, 1))
    grid = scaling_grid(tidy(np.zeros((3, 2)), 1.0))
    assert grid[-1] == pytest.approx(0.8)


def test_the_grid_of_an_effect_that_hardly_stands_out():
    grid = scaling_grid(tidy([[1.0 + 1e-13]], 1.0))
    assert len(grid) >= 1
    assert (grid > 0.0).all()
    assert np.isfinite(grid).all()


def test_the_grid_needs_estimates():
    with pytest.raises(InputError, match="at least one estimate"):
        scaling_grid(tidy(np.full((2, 2), np.nan), 1.0))
    with pytest.raises(InputError, match="a ratio above 1"):
        scaling_grid(tidy(np.ones((2, 2)), 1.0), 1.0)


def test_given_scales():
    np.testing.assert_array_equal(check_grid([2.0, 0.5, 1]), [0.5, 1.0, 2.0])
    np.testing.assert_array_equal(check_grid(3), [3.0])


@pytest.mark.parametrize(
    "bad", [[], [0.0, 1.0], [-1.0], [np.nan], [np.inf, 1.0], [[1.0, 2.0]], [1e200], "wide", ["a", "b"]]
)
def test_scales_that_cannot_be(bad):
    with pytest.raises(InputError, match="in grid"):
        check_grid(bad)


def test_scales_are_distinct():
    with pytest.raises(InputError, match="distinct scales, got some twice"):
        check_grid([1.0, 2.0, 1.0])
