"""Covariances of effects: factors, ranks, names, and what is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ebmodel.errors import InputError
from ebmodel.mash.covariances import Covariance, canonical, gather

NAMES = ["liver", "lung", "skin"]
U = np.array([[2.0, 0.5, -0.4], [0.5, 1.0, 0.3], [-0.4, 0.3, 4.0]])


def random_covariance(seed, R, rank, size=1.0):
    F = np.random.default_rng(seed).standard_normal((R, rank))
    return size * F @ F.T


# Factors --------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7), st.sampled_from([1e-12, 1.0, 1e12]))
def test_a_matrix_is_its_factor_times_itself_and_its_rank_is_found(seed, R, rank, size):
    matrix = random_covariance(seed, R, rank, size)
    found = Covariance.from_matrix("U", matrix)
    assert found.rank == min(rank, R)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-11 * np.abs(matrix).max())
    once = found.normalised()
    assert np.diag(once.matrix).max() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(once.matrix, matrix / np.diag(matrix).max(), atol=1e-11)
    assert once.name == "U"
    np.testing.assert_allclose(once.normalised().factor, once.factor, rtol=1e-14)


@given(st.integers(0, 10_000), st.integers(2, 6), st.data())
def test_no_variance_is_a_row_of_exact_zeros(seed, R, data):
    dead = data.draw(st.sets(st.integers(0, R - 1), min_size=1, max_size=R - 1))
    matrix = random_covariance(seed, R, R)
    matrix[list(dead)] = matrix[:, list(dead)] = 0.0
    found = Covariance.from_matrix("U", matrix)
    assert set(found.support) == set(range(R)) - dead
    assert (found.factor[list(dead)] == 0.0).all()
    assert found.rank == R - len(dead)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-12 * R)


def test_factors_are_kept_as_they_are():
    F = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    found = Covariance.from_factor("F", F)
    np.testing.assert_array_equal(found.factor, F)
    assert found.rank == 2
    np.testing.assert_array_equal(Covariance.from_factor("f", [1.0, 0.0, 2.0]).factor, [[1.0], [0.0], [2.0]])
    np.testing.assert_array_equal(Covariance.from_factor("f", [1.0, 0.0, 2.0]).support, [0, 2])


def test_a_factor_of_more_columns_than_conditions_is_made_smaller():
    F = np.random.default_rng(0).standard_normal((3, 8))
    found = Covariance.from_factor("F", F)
    assert found.rank == 3
    np.testing.assert_allclose(found.matrix, F @ F.T, rtol=1e-12)


def test_what_is_square_is_a_matrix_and_what_is_not_a_factor():
    assert Covariance.of("U", U).rank == 3
    assert Covariance.of("U", np.ones((3, 3))).rank == 1
    np.testing.assert_array_equal(Covariance.of("F", U[:, :2]).factor, U[:, :2])
    np.testing.assert_array_equal(Covariance.of("f", [1.0, 2.0]).factor, [[1.0], [2.0]])
    assert Covariance.of("one", [[4.0]]).matrix == pytest.approx(4.0)  # of one condition a variance, not its root
    one = Covariance.of("old", U, "data-driven")
    again = Covariance.of("new", one)
    assert (again.name, again.kind) == ("new", "data-driven")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (U + np.triu(U, 1), "a symmetric matrix"),
        (np.diag([1.0, 1.0, -0.1]), "a positive semi-definite matrix"),
        (-np.eye(3), "a positive semi-definite matrix"),
        ([[1.0, 2.0], [2.0, 1.0]], "a positive semi-definite matrix"),
        ([[1.0, 0.5], [0.5, 0.0]], "a positive semi-definite matrix"),
        ([[0.0, 0.5], [0.5, 0.0]], "a positive semi-definite matrix"),
        (np.zeros((3, 3)), "a covariance with variance"),
        (np.zeros((3, 2)), "a covariance with variance"),
        (np.zeros((3, 0)), "a covariance with variance"),
        (np.zeros(3), "a covariance with variance"),
        (np.diag([1.0, np.nan, 1.0]), "finite numbers"),
        (np.diag([1.0, np.inf, 1.0]), "finite numbers"),
        ([["a", "b"], ["c", "d"]], "numbers"),
        (np.zeros((2, 2, 2)), "a matrix"),
        (np.ones((2, 2, 2)), "a matrix"),
        (1.0, "a matrix"),
    ],
)
def test_what_is_no_covariance(value, said):
    with pytest.raises(InputError, match=f"expected {said}, got .*, in covariance mine; do "):
        Covariance.of("mine", value)


def test_a_matrix_must_be_square():
    with pytest.raises(InputError, match=r"a square matrix, got \(3, 2\)"):
        Covariance.from_matrix("U", U[:, :2])


def test_rounding_is_neither_asymmetry_nor_a_negative_variance():
    matrix = random_covariance(1, 5, 2)
    matrix += 1e-13 * np.random.default_rng(2).standard_normal((5, 5))
    assert Covariance.from_matrix("U", matrix).rank == 2


# Canonical ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("R", [2, 3, 6])
def test_canonical_covariances(R):
    found = {U.name: U for U in canonical([f"c{r}" for r in range(R)])}
    assert list(found) == ["identity", *[f"c{r}" for r in range(R)], "equal_effects",
                           "simple_het_1", "simple_het_2", "simple_het_3"]  # fmt: skip
    assert {U.kind for U in found.values()} == {"canonical"}
    np.testing.assert_array_equal(found["identity"].matrix, np.eye(R))
    np.testing.assert_array_equal(found["equal_effects"].matrix, np.ones((R, R)))
    assert found["equal_effects"].rank == 1
    for r in range(R):
        only = np.zeros((R, R))
        only[r, r] = 1.0
        np.testing.assert_array_equal(found[f"c{r}"].matrix, only)
        assert found[f"c{r}"].rank == 1
    for k, rho in enumerate((0.25, 0.5, 0.75), start=1):
        np.testing.assert_allclose(found[f"simple_het_{k}"].matrix, np.where(np.eye(R), 1.0, rho), atol=1e-14)


def test_canonical_covariances_by_number_and_of_one_condition():
    assert [U.name for U in canonical(2)][1:3] == ["condition_1", "condition_2"]
    (only,) = canonical(["liver"])
    np.testing.assert_array_equal(only.matrix, [[1.0]])
    assert [U.name for U in canonical(np.array(["a", "b"]))][1:3] == ["a", "b"]


# Gathering ------------------------------------------------------------------------------------------------------------


def test_gathered_covariances_are_named_and_normalised():
    found = gather({"full": U, "thin": [[3.0], [0.0], [1.0]], 7: np.eye(3)}, NAMES)
    assert [one.name for one in found] == ["full", "thin", "7"]
    assert [one.rank for one in found] == [3, 1, 3]
    for one in found:
        assert np.diag(one.matrix).max() == pytest.approx(1.0)
    np.testing.assert_allclose(found[0].matrix, U / 4.0, rtol=1e-12)
    again = gather(iter(found), NAMES)
    np.testing.assert_allclose(again[1].factor, found[1].factor)


ORDER = [2, 0, 1]
MIXED = [NAMES[r] for r in ORDER]


def test_labelled_matrices_are_put_in_order():
    mixed = pd.DataFrame(U[np.ix_(ORDER, ORDER)], MIXED, MIXED)
    for value in (mixed, mixed[NAMES], mixed.loc[NAMES]):
        np.testing.assert_allclose(gather({"U": value}, NAMES)[0].matrix, U / 4.0, rtol=1e-12)


def test_labelled_factors_are_put_in_order():
    F = pd.DataFrame(U[ORDER, :2], MIXED, ["first", "second"])
    np.testing.assert_allclose(gather({"F": F}, NAMES)[0].matrix, Covariance.of("F", U[:, :2]).normalised().matrix)


def test_labelled_arrays_are_put_in_order():
    """`MashFit.covariances` gives covariances as these."""
    coords = {"condition": MIXED, "condition_other": MIXED}
    mixed = xr.DataArray(U[np.ix_(ORDER, ORDER)], coords, ("condition", "condition_other"))
    np.testing.assert_allclose(gather({"U": mixed}, NAMES)[0].matrix, U / 4.0, rtol=1e-12)


def test_other_conditions_are_refused():
    for bad in (
        pd.DataFrame(U, NAMES, NAMES).rename(index={"skin": "Skin"}),
        pd.DataFrame(U[:2, :2], *[NAMES[:2]] * 2),
    ):
        with pytest.raises(InputError, match=r"expected the conditions of bhat, got '[Ss]kin' .*, in covariance U"):
            gather({"U": bad}, NAMES)
    for bad in (U[:2, :2], [1.0, 2.0], np.eye(4)):
        with pytest.raises(InputError, match=r"a covariance of 3 conditions, got one of \d, in covariance U"):
            gather({"U": bad}, NAMES)


def test_names_are_given_once():
    with pytest.raises(InputError, match="each name once, got 'identity' more than once"):
        gather([*canonical(NAMES), Covariance.of("identity", U)], NAMES)
    with pytest.raises(InputError, match="each name once"):
        gather({"1": U, 1: U}, NAMES)


@pytest.mark.parametrize("nothing", [{}, []])
def test_at_least_one(nothing):
    with pytest.raises(InputError, match="at least one covariance"):
        gather(nothing, NAMES)


def test_matrices_without_names_are_refused():
    with pytest.raises(InputError, match="a mapping of names, or Covariances, got 'ndarray'"):
        gather([U], NAMES)


@pytest.mark.parametrize("factor", [np.zeros((3, 1)), np.zeros((3, 0)), np.full((3, 1), np.nan)])
def test_what_is_made_without_a_check_is_checked_where_it_is_used(factor):
    with pytest.raises(InputError, match="covariance mine"):
        gather([Covariance("mine", factor)], NAMES)
