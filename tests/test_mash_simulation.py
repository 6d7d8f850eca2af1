"""Simulated estimates are from the mixtures that they say, draw for draw the same, and with the truth beside them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from ebmodel.errors import InputError
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.prior import Prior
from ebmodel.mash.simulation import GTEX, SCENARIOS, from_prior, patterns, scenario, simple, true_prior

FEW = ("Brain_Cortex", "Brain_Cerebellum", "Testis", "Whole_Blood")


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_gives_the_same_data_and_another_gives_others(name):
    one, again, other = (scenario(name, effects=60, share=0.3, conditions=FEW, seed=seed) for seed in (3, 3, 4))
    xr.testing.assert_identical(one, again)
    assert (one["bhat"] != other["bhat"]).all()


@pytest.mark.parametrize("name", SCENARIOS[:3])
def test_as_many_effects_as_asked_for_are_not_null_and_they_come_first(name):
    data = scenario(name, effects=500, share=0.02, conditions=FEW, seed=1)
    some = (data["b"] != 0.0).any("condition").to_numpy()
    assert some.sum() == 10
    assert some[:10].all()
    np.testing.assert_array_equal(data["component"] != "null", some)
    np.testing.assert_array_equal(data["omega"] > 0.0, some)


def test_the_defaults_are_the_published_sizes():
    data = scenario("unstructured", seed=1)
    assert (data.sizes["effect"], data.sizes["condition"]) == (20_000, 44)
    assert len(set(GTEX)) == 44
    assert int((data["component"] != "null").sum()) == 400


def test_specific_effects_are_in_one_condition_and_unstructured_ones_in_all():
    specific = scenario("specific", effects=300, share=1.0, conditions=FEW, seed=2)
    where = specific["b"] != 0.0
    assert (where.sum("condition") == 1).all()
    names = where.argmax("condition").to_numpy()
    np.testing.assert_array_equal(np.array(FEW)[names], specific["component"])
    assert (scenario("unstructured", effects=50, share=1.0, conditions=FEW, seed=2)["b"] != 0.0).all()


def test_independent_effects_are_null_cell_by_cell():
    data = scenario("independent", effects=5000, share=0.2, conditions=FEW, seed=5)
    active = (data["b"] != 0.0).to_numpy()
    share = active.mean()
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / active.size)
    both = (active[:, 0] & active[:, 1]).mean()
    assert abs(both - 0.04) < 4 * np.sqrt(0.04 * 0.96 / len(active))
    with pytest.raises(InputError, match="effects from a mixture, got the scenario 'independent'"):
        true_prior(data)


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Second moments and their standard errors, (condition, condition)."""
    products = rows[:, :, None] * rows[:, None, :]
    return products.mean(axis=0), products.std(axis=0) / np.sqrt(len(rows))


def test_effects_of_a_pattern_have_its_covariance_and_errors_theirs():
    V = np.array([[1.0, 0.5, 0.0, 0.0], [0.5, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -0.3], [0.0, 0.0, -0.3, 1.0]])
    s = np.array([0.1, 0.2, 0.3, 0.4])
    data = scenario("structured", effects=20_000, share=1.0, conditions=FEW, shat=s, V=V, scales=(0.5,), seed=7)
    prior = true_prior(data)
    for U in prior.covariances:
        rows = data["b"].to_numpy()[data["component"] == U.name]
        assert U.matrix.diagonal().max() == pytest.approx(1.0)
        found, error = _moments(rows / 0.5)
        assert (np.abs(found - U.matrix) < 5 * error).all()
    found, error = _moments(data["b"].to_numpy())
    assert (np.abs(found - prior.matrix()) < 5 * error).all()
    found, error = _moments(((data["bhat"] - data["b"]) / data["shat"]).to_numpy())
    assert (np.abs(found - V) < 5 * error).all()


def test_patterns_are_covariances_of_gtex_whose_shares_sum_to_one():
    found, shares = patterns()
    assert shares.sum() == pytest.approx(1.0)
    assert [U.name for U in found] == ["shared", "brain", "body", "blood", "testis", "muscle"]
    brain = np.array([name.startswith("Brain") for name in GTEX])
    shared = found[0].matrix
    assert shared[np.ix_(brain, ~brain)].mean() == pytest.approx(0.6)
    strongest = {U.name: np.array(GTEX)[np.isclose(U.matrix.diagonal(), 1.0)].tolist() for U in found}
    assert strongest["testis"] == ["Testis"]
    assert strongest["blood"] == ["Cells_EBV-transformed_lymphocytes", "Spleen", "Whole_Blood"]
    assert len(strongest["body"]) + brain.sum() == len(GTEX)
    left, shares = patterns(("Brain_Cortex", "Brain_Cerebellum"))
    assert [U.name for U in left] == ["shared", "brain"]
    np.testing.assert_allclose(shares, [0.7, 0.3])


def test_mashrs_example_has_its_four_kinds():
    data = simple(500, seed=3)
    b, kind = data["b"].to_numpy(), data["component"].to_numpy()
    assert [kind[500 * k] for k in range(4)] == ["null", "identity", "condition_1", "equal_effects"]
    assert not b[kind == "null"].any()
    assert not b[kind == "condition_1", 1:].any()
    assert (b[kind == "equal_effects"] == b[kind == "equal_effects", :1]).all()
    for rows in (b[kind == "identity"].ravel(), b[kind == "condition_1", 0], b[kind == "equal_effects", 0]):
        assert abs(rows.var() - 1.0) < 4 * np.sqrt(2.0 / len(rows))
    z = ((data["bhat"] - data["b"]) / 0.01).to_numpy()
    assert abs(z.var() - 1.0) < 4 * np.sqrt(2.0 / z.size)


def test_a_prior_comes_back_and_draws_its_components_as_often_as_it_says():
    U = Covariance.of("line", np.array([[1.0], [0.5]])), Covariance.of("free", np.eye(2))
    prior = Prior(U, np.array([0.5, 2.0]), np.array([[0.1, 0.3], [0.2, 0.0]]), 0.4, np.array(["a", "b"]))
    data = from_prior(prior, 20_000, shat=0.3, seed=1)
    again = true_prior(data)
    np.testing.assert_allclose(again.flat, prior.flat)
    np.testing.assert_allclose(again.matrix(), prior.matrix())
    names = np.append("null", [U.name for U in prior.covariances])
    chances = np.append(prior.null, prior.weights.sum(axis=1))
    for name, chance in zip(names, chances, strict=True):
        share = float((data["component"] == name).mean())
        assert abs(share - chance) < 4 * np.sqrt(chance * (1 - chance) / 20_000)
    lines = data["b"].to_numpy()[data["component"] == "line"]
    np.testing.assert_allclose(lines[:, 1], 0.5 * lines[:, 0])


def test_with_alpha_one_it_is_the_z_scores_that_are_from_the_prior():
    prior = Prior(
        (Covariance.of("free", np.eye(2)),), np.ones(1), np.ones((1, 1)), 0.0, np.array(["a", "b"]), alpha=1.0
    )
    s = np.random.default_rng(0).uniform(0.1, 10.0, (4000, 2))
    data = from_prior(prior, 4000, shat=s, seed=1)
    z = (data["b"] / data["shat"]).to_numpy()
    assert abs(z.var() - 1.0) < 4 * np.sqrt(2.0 / z.size)
    assert data.attrs["alpha"] == 1.0


def test_missing_estimates_are_as_many_as_asked_for_in_each_condition():
    data = scenario("structured", effects=200, conditions=FEW, missing=(0.0, 0.1, 0.5, 0.25), seed=1)
    np.testing.assert_array_equal(np.isnan(data["bhat"]).sum("effect"), [0, 20, 100, 50])
    assert np.isfinite(data["shat"]).all()
    assert np.isfinite(data["b"]).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "mixed"}, "structured, unstructured, specific, independent, got 'mixed'"),
        ({"effects": 0}, "effects >= 1"),
        ({"share": 1.5}, "share <= 1"),
        ({"conditions": ("Brain_Cortex", "Moon")}, "tissues of GTEx, got 'Moon'"),
        ({"scales": (0.1, -1.0)}, "scales > 0"),
        ({"shat": (0.1, 0.2)}, "standard errors > 0"),
        ({"shat": 0.0}, "standard errors > 0"),
        ({"V": np.ones((4, 4))}, "positive definite"),
        ({"V": np.eye(3)}, "a correlation matrix"),
        ({"missing": 1.0}, "missing < 1"),
    ],
)
def test_arguments_out_of_range_are_refused(changed, said):
    given = {"name": "structured", "effects": 10, "conditions": FEW} | changed
    with pytest.raises(InputError, match=said):
        scenario(given.pop("name"), **given)


def test_too_few_effects_or_conditions_of_the_example_are_refused():
    with pytest.raises(InputError, match="each >= 1"):
        simple(0)
    with pytest.raises(InputError, match="conditions >= 2"):
        simple(conditions=1)
