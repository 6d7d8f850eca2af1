"""What comes in: every kind of table, names in any order, and one line for what cannot be used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel.errors import InputError
from ebmodel.mash.data import tidy

EFFECTS, CONDITIONS = ["e1", "e2", "e3", "e4", "e5"], ["liver", "lung", "skin"]
C = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, -0.3], [0.2, -0.3, 1.0]])


@pytest.fixture
def bhat():
    return np.arange(15.0).reshape(5, 3) - 7.0


@pytest.fixture
def shat():
    return 1.0 + np.arange(15.0)[::-1].reshape(5, 3) / 10.0


def frame(values):
    return pd.DataFrame(values, EFFECTS, CONDITIONS)


def same(got, want):
    for field in ("B", "S", "scale", "C", "effects", "conditions"):
        np.testing.assert_array_equal(getattr(got, field), getattr(want, field), err_msg=field)
    assert got.alpha == want.alpha


# Tables ---------------------------------------------------------------------------------------------------------------


def test_arrays_are_named_by_number(bhat, shat):
    found = tidy(bhat, shat)
    assert found.effects.tolist() == [f"effect_{j}" for j in range(1, 6)]
    assert found.conditions.tolist() == ["condition_1", "condition_2", "condition_3"]
    np.testing.assert_array_equal(found.B, bhat)
    np.testing.assert_array_equal(found.S, shat)
    np.testing.assert_array_equal(found.C, np.eye(3))
    assert found.observed.all()
    assert not found.own


def test_lists_of_whole_numbers_will_do():
    found = tidy([[1, 2], [3, 4]], [[1, 1], [2, 2]])
    assert found.B.dtype == found.S.dtype == float


def test_frames_and_labelled_arrays_are_the_same(bhat, shat):
    want = tidy(frame(bhat), frame(shat))
    assert want.effects.tolist() == EFFECTS
    assert want.conditions.tolist() == CONDITIONS
    coords = {"effect": EFFECTS, "condition": CONDITIONS}
    B, s = (xr.DataArray(values, coords, ("effect", "condition")) for values in (bhat, shat))
    same(tidy(B, s), want)
    same(tidy(B.T, s.T), want)
    same(tidy(B.T, frame(shat)), want)


def test_dimensions_may_have_other_names(bhat, shat):
    coords = {"gene": EFFECTS, "tissue": CONDITIONS}
    B, s = (xr.DataArray(values, coords, ("gene", "tissue")) for values in (bhat, shat))
    same(tidy(B, s), tidy(frame(bhat), frame(shat)))
    effect_last = B.rename(gene="effect").transpose("tissue", "effect")
    same(tidy(effect_last, s), tidy(frame(bhat), frame(shat)))


def test_conditions_that_are_said_to_be_conditions_are(bhat, shat):
    B, s = (xr.DataArray(v.T, {"condition": CONDITIONS, "gene": EFFECTS}, ("condition", "gene")) for v in (bhat, shat))
    same(tidy(B, s), tidy(frame(bhat), frame(shat)))


def test_an_array_without_coordinates_is_named_by_number(bhat, shat):
    same(tidy(xr.DataArray(bhat, dims=("effect", "condition")), shat), tidy(bhat, shat))


def test_names_are_text(bhat):
    found = tidy(pd.DataFrame(bhat, [10, 20, 30, 40, 50], [1, 2, 3]), 1.0)
    assert found.effects.tolist() == ["10", "20", "30", "40", "50"]
    assert found.conditions.tolist() == ["1", "2", "3"]


def test_standard_errors_are_matched_by_name(bhat, shat):
    want = tidy(frame(bhat), frame(shat))
    mixed = frame(shat).loc[EFFECTS[::-1], ["skin", "liver", "lung"]]
    same(tidy(frame(bhat), mixed), want)
    same(tidy(frame(bhat), mixed.sort_index()), want)
    same(tidy(frame(bhat), xr.DataArray(mixed.to_numpy(), dict(zip("ec", mixed.axes, strict=True)), ("e", "c"))), want)


def test_names_on_one_side_alone_are_taken(bhat, shat):
    want = tidy(frame(bhat), frame(shat))
    same(tidy(frame(bhat), shat), want)
    assert tidy(bhat, frame(shat)).conditions.tolist() == ["condition_1", "condition_2", "condition_3"]


def test_z_scores_and_one_standard_error_for_all(bhat):
    np.testing.assert_array_equal(tidy(bhat).S, np.ones((5, 3)))
    np.testing.assert_array_equal(tidy(bhat, 2).S, np.full((5, 3), 2.0))
    same(tidy(bhat, np.float64(2.0)), tidy(bhat, np.full((5, 3), 2.0)))
    bhat[1, 2] = np.nan
    assert np.isnan(tidy(bhat, 2.0).S[1, 2])


def test_what_is_masked_is_missing(bhat, shat):
    gone = bhat.copy()
    gone[2, 1] = np.nan
    want = tidy(gone, shat)
    mask = np.isnan(gone)
    same(tidy(np.ma.masked_array(bhat, mask), shat), want)
    same(tidy(np.ma.masked_array(bhat, mask), np.ma.masked_array(shat, mask)), want)
    same(tidy(frame(bhat).astype("Float64").mask(mask), frame(shat)), tidy(frame(gone), frame(shat)))


def test_one_effect_one_condition():
    found = tidy([[3.0]], [[0.5]])
    assert found.B.shape == (1, 1)
    assert found.V(0) == pytest.approx(0.25)
    assert tidy([[1.0, 2.0]]).B.shape == (1, 2)


def test_what_came_in_is_not_touched(bhat, shat):
    bhat[0, 0], shat[1, 1], shat[2, 2] = np.nan, np.inf, 0.0
    kept = bhat.copy(), shat.copy()
    tidy(bhat, shat, alpha=0.5, tiny="missing")
    np.testing.assert_array_equal(bhat, kept[0])
    np.testing.assert_array_equal(shat, kept[1])


# Alpha and what is missing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_scale_of_the_model(bhat, shat, alpha):
    shat[0, 0] = bhat[2, 1] = shat[2, 1] = np.nan
    bhat[0, 0] = bhat[1, 1] = np.nan
    found = tidy(bhat, shat, C, alpha)
    seen = ~np.isnan(bhat)
    np.testing.assert_array_equal(found.observed, seen)
    np.testing.assert_allclose(found.B[seen], (bhat / shat**alpha)[seen], rtol=1e-15)
    np.testing.assert_allclose(found.S[seen], (shat ** (1 - alpha))[seen], rtol=1e-15)
    np.testing.assert_allclose(found.scale[seen], (shat**alpha)[seen], rtol=1e-15)
    assert np.isnan(found.S[~seen]).all()
    assert np.isfinite(found.scale).all()
    assert found.scale[0, 0] == found.scale[2, 1] == 1.0
    assert found.scale[1, 1] == pytest.approx(shat[1, 1] ** alpha)  # known, though there is no estimate
    want = np.where(seen, alpha * np.log(np.where(seen, shat, 1.0)), 0.0).sum(axis=1)
    np.testing.assert_allclose(found.log_scale(), want, atol=1e-15)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_an_infinite_standard_error_says_that_the_cell_is_missing(bhat, shat, alpha):
    gone, infinite, none = bhat.copy(), shat.copy(), shat.copy()
    gone[3, 0] = none[3, 0] = np.nan
    infinite[3, 0] = np.inf
    same(tidy(bhat, infinite, C, alpha), tidy(gone, none, C, alpha))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("value", [np.inf, -1.0, 0.0, np.nan])
def test_whatever_stands_for_the_standard_error_of_a_missing_cell(bhat, shat, alpha, value):
    bhat[2, 2] = np.nan
    none, other = shat.copy(), shat.copy()
    none[2, 2], other[2, 2] = np.nan, value
    same(tidy(bhat, other, C, alpha), tidy(bhat, none, C, alpha))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_nothing_seen_of_an_effect_or_a_condition(bhat, shat, alpha):
    bhat[1], bhat[:, 2] = np.nan, np.nan
    found = tidy(bhat, shat, C, alpha)
    assert not found.observed[1].any()
    assert not found.observed[:, 2].any()
    assert found.log_scale()[1] == 0.0
    assert np.isnan(tidy(np.full((5, 3), np.nan), shat, C, alpha).B).all()


def test_some_of_the_effects(bhat, shat):
    own = np.array([C * 0.9**j + np.eye(3) * (1 - 0.9**j) for j in range(5)])
    for V, rows in ((C, [3, 1]), (own, [3, 1]), (own, slice(1, 4)), (own, np.array([True, False, True, False, False]))):
        some = tidy(bhat, shat, V, 0.5).take(rows)
        want = tidy(bhat[rows], shat[rows], V[rows] if V.ndim == 3 else V, 0.5)
        for field in ("B", "S", "scale", "C"):
            np.testing.assert_array_equal(getattr(some, field), getattr(want, field))
        np.testing.assert_array_equal(some.effects, np.array([f"effect_{j + 1}" for j in range(5)])[rows])


def test_the_covariance_of_errors(bhat, shat):
    bhat[1, 0] = np.nan
    found = tidy(bhat, shat, C, 0.5)
    want = np.diag(np.sqrt(shat[1])) @ C @ np.diag(np.sqrt(shat[1]))
    np.testing.assert_allclose(found.V(1)[1:, 1:], want[1:, 1:], rtol=1e-14)
    assert np.isnan(found.V(1)[0]).all()
    assert np.isnan(found.V(1)[:, 0]).all()


# Small standard errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1e-320, 1e-9])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_small_standard_errors_are_refused_or_missing(bhat, shat, value, alpha):
    shat[4, 1] = value
    with pytest.raises(InputError, match=r"above 1e-8 .* in shat, effect e5, condition lung; .*tiny='missing'"):
        tidy(frame(bhat), frame(shat), C, alpha)
    found = tidy(bhat, shat, C, alpha, tiny="missing")
    assert np.isnan(found.B[4, 1])
    assert np.isnan(found.S[4, 1])
    assert found.observed.sum() == 14


def test_a_standard_error_that_is_no_estimate_does_not_shrink_what_is_not_seen(bhat, shat):
    """The posterior of a cell that is left out is brought back by s^alpha, and such an s is not one."""
    shat[4, 1] = 1e-12
    assert tidy(bhat, shat, C, 1.0, tiny="missing").scale[4, 1] == 1.0


def test_small_is_small_for_the_condition(bhat, shat):
    units = np.array([1e-12, 1.0, 1e12])
    found = tidy(bhat * units, shat * units, C)
    assert found.observed.all()


def test_small_in_a_condition_of_which_little_is_seen(bhat, shat):
    bhat[1:, 0], shat[0, 0] = np.nan, 1e-30
    assert tidy(bhat, shat).observed[0, 0]  # it is the median
    shat[0, 0] = 0.0
    with pytest.raises(InputError, match=r"got 0 \(1 such\).*condition_1"):
        tidy(bhat, shat)
    assert not tidy(bhat, shat, tiny="missing").observed[:, 0].any()


# What cannot be used --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1.0, r"expected positive standard errors, got -1 \(1 such\), in shat, effect e2, condition skin; do check"),
        (np.nan, r"expected a standard error for every estimate, got nan .*shat, effect e2, condition skin"),
        (-np.inf, r"expected positive standard errors, got -inf .*effect e2, condition skin"),
    ],
)
@pytest.mark.parametrize("tiny", ["refuse", "missing"])
def test_standard_errors_that_cannot_be(bhat, shat, value, said, tiny):
    shat[1, 2] = value
    with pytest.raises(InputError, match=said):
        tidy(frame(bhat), frame(shat), tiny=tiny)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_estimates(bhat, shat, value):
    bhat[3, 0] = value
    with pytest.raises(InputError, match=rf"finite estimates, got {value}, in bhat, effect e4, condition liver"):
        tidy(frame(bhat), shat)


@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, np.inf])
def test_one_standard_error_for_all_is_positive(bhat, value):
    for shat in (value, np.broadcast_to(value, bhat.shape)):
        if np.ndim(shat) and value == np.inf:
            assert not tidy(bhat, shat).observed.any()
            continue
        with pytest.raises(InputError, match="standard error"):
            tidy(bhat, shat)


def test_text_is_no_number(bhat, shat):
    for bad in (frame(bhat).astype(object).replace(-7.0, "many"), [["a", "b"]], xr.DataArray([["a"]], dims=("e", "c"))):
        with pytest.raises(InputError, match=r"expected numbers, got .* in bhat"):
            tidy(bad, 1.0)
    with pytest.raises(InputError, match=r"expected numbers, got .* in shat"):
        tidy(frame(bhat), frame(shat).astype(object).replace(1.0, "many"))
    with pytest.raises(InputError, match="shat"):
        tidy(bhat, "one")


@pytest.mark.parametrize("bad", [np.arange(3.0), np.zeros((2, 3, 4)), xr.DataArray(np.zeros((2, 2, 2))), 3.0])
def test_a_table_has_two_dimensions(bad):
    with pytest.raises(InputError, match="dimensions"):
        tidy(bad, 1.0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_something_must_be_there(shape):
    with pytest.raises(InputError, match="at least one effect and one condition"):
        tidy(np.zeros(shape))


def test_shapes_must_match(bhat, shat):
    for bad in (shat[:4], shat[:, :2], shat.T, shat[0]):
        with pytest.raises(InputError, match="shat"):
            tidy(bhat, bad)
    with pytest.raises(InputError, match=r"a shape of \(5, 3\), got \(4, 3\), in shat"):
        tidy(bhat, shat[:4])


def test_names_must_match(bhat, shat):
    with pytest.raises(InputError, match=r"the conditions of bhat, got no 'skin', in shat; do match the names"):
        tidy(frame(bhat), frame(shat).rename(columns={"skin": "Skin"}))
    with pytest.raises(InputError, match=r"the effects of bhat, got no 'e2', 'e4'"):
        tidy(frame(bhat), frame(shat).rename(index={"e2": "x", "e4": "y"}))


@pytest.mark.parametrize("axis", ["index", "columns"])
def test_names_must_be_unique(bhat, shat, axis):
    names = {"index": {"e2": "e1"}, "columns": {"lung": "liver"}}[axis]
    for B, s, where in ((frame(bhat).rename(**{axis: names}), shat, "bhat"),
                        (frame(bhat), frame(shat).rename(**{axis: names}), "shat")):  # fmt: skip
        with pytest.raises(InputError, match=rf"once, got '\w+' more than once, in {where}"):
            tidy(B, s)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, np.nan, np.inf])
def test_alpha_is_from_0_to_1(bhat, alpha):
    with pytest.raises(InputError, match="0 <= alpha <= 1"):
        tidy(bhat, 1.0, alpha=alpha)


def test_tiny_is_one_of_two(bhat):
    with pytest.raises(InputError, match="'refuse', 'missing', got 'drop', in tiny"):
        tidy(bhat, tiny="drop")


# V --------------------------------------------------------------------------------------------------------------------


def test_one_correlation_for_all_or_one_for_each(bhat, shat):
    assert not tidy(bhat, shat, C).own
    own = np.array([C] * 5)
    found = tidy(bhat, shat, own)
    assert found.own
    np.testing.assert_array_equal(found.V(2), tidy(bhat, shat, C).V(2))


def test_as_many_effects_as_conditions(bhat, shat):
    assert not tidy(bhat[:3], shat[:3], C).own
    assert tidy(bhat[:3], shat[:3], np.array([C] * 3)).own


@pytest.mark.parametrize("bad", [np.eye(2), np.ones(3), np.array([C] * 4), C[:2], 0.5])
def test_v_of_another_shape(bhat, shat, bad):
    with pytest.raises(InputError, match=r"a shape of \(3, 3\) or \(5, 3, 3\), got .*, in V"):
        tidy(bhat, shat, bad)


def test_v_that_is_no_correlation(bhat, shat):
    for bad, said in (
        (C + np.triu(np.full((3, 3), 0.1), 1), "a symmetric matrix"),
        (np.ones((3, 3)), "a positive definite matrix"),
        (np.diag([1.0, 1.0, -1.0]), "a positive definite matrix"),
        (np.full((3, 3), np.nan), "finite correlations"),
        ([["a"] * 3] * 3, "a matrix of numbers"),
        ("estimate", "a matrix of numbers"),
    ):
        with pytest.raises(InputError, match=f"expected {said}, got .* in V"):
            tidy(bhat, shat, bad)


def test_a_bad_v_of_one_effect_is_named(bhat, shat):
    own = np.array([C] * 5)
    own[3] = 1.0
    with pytest.raises(InputError, match=r"positive definite matrix.* in V of effect e4"):
        tidy(frame(bhat), shat, own)
    bhat[3, 1:] = np.nan  # one condition alone is left, and it is as good as any
    assert tidy(bhat, shat, own).own
    bhat[3] = np.nan
    own[3] = np.nan
    assert tidy(bhat, shat, own).own


def test_v_is_matched_by_name(bhat, shat):
    order = [2, 0, 1]
    names = [CONDITIONS[r] for r in order]
    mixed = pd.DataFrame(C[np.ix_(order, order)], names, names)
    want = tidy(frame(bhat), shat, C)
    same(tidy(frame(bhat), shat, mixed), want)
    same(tidy(frame(bhat), shat, mixed.loc[CONDITIONS]), want)


def test_a_labelled_array_is_matched_by_name_too(bhat, shat):
    """`null_correlation` gives V as one."""
    order = [2, 0, 1]
    names = [CONDITIONS[r] for r in order]
    mixed = xr.DataArray(
        C[np.ix_(order, order)], {"condition": names, "condition_other": names}, ("condition", "condition_other")
    )
    same(tidy(frame(bhat), shat, mixed), tidy(frame(bhat), shat, C))


@pytest.mark.parametrize("axis", [0, 1])
def test_v_of_other_conditions(bhat, shat, axis):
    names = [CONDITIONS, CONDITIONS]
    names[axis] = ["liver", "lung", "kidney"]
    with pytest.raises(InputError, match=r"in V; do match the names"):
        tidy(frame(bhat), shat, pd.DataFrame(C, *names))
