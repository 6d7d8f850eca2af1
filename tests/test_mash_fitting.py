"""`ebmodel.mash.fit`: every option, what it refuses, and what must not change the answer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ebmodel import mash
from ebmodel.errors import InputError
from ebmodel.mash import dense
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy

J, R = 240, 3
NAMES = ["liver", "lung", "skin"]
C = np.array([[1.0, 0.4, 0.1], [0.4, 1.0, 0.2], [0.1, 0.2, 1.0]])


def simulate(seed=0, J=J, R=R, V=None, missing=0.0):
    """A third of effects shared, a tenth in one condition, the others nothing."""
    rng = np.random.default_rng(seed)
    kind = rng.random(J)
    b = np.where(kind[:, None] < 0.33, 3.0 * rng.standard_normal((J, 1)) * np.ones(R), 0.0)
    only = (kind > 0.9)[:, None] & (np.arange(R) == 0)
    b = np.where(only, 4.0 * rng.standard_normal((J, R)), b)
    shat = np.exp(0.3 * rng.standard_normal((J, R)))
    root = np.linalg.cholesky(np.eye(R) if V is None else V)
    bhat = b + shat * (rng.standard_normal((J, R)) @ root.T)
    bhat[rng.random((J, R)) < missing] = np.nan
    return bhat, shat


def frames(bhat, shat, names=NAMES):
    rows = [f"e{j}" for j in range(len(bhat))]
    return pd.DataFrame(bhat, rows, names), pd.DataFrame(shat, rows, names)


def agree(one, other, tol=1e-5):
    """Weights may be shifted between components that are nearly alike; what they make of effects may not."""
    assert one.loglik == pytest.approx(other.loglik, rel=1e-8)
    np.testing.assert_allclose(one.mean, other.mean, atol=tol)
    np.testing.assert_allclose(one.sd, other.sd, atol=tol)
    np.testing.assert_allclose(one.lfsr, other.lfsr, atol=tol)


@pytest.fixture(scope="module")
def data():
    return simulate()


@pytest.fixture(scope="module")
def fitted(data):
    return mash.fit(*frames(*data), covariances="canonical")


def twin(fit, bhat, shat, V=None, alpha=0.0):
    prior = fit.prior
    mixture = dense.Mixture.of(np.array([U.matrix for U in prior.covariances]), prior.grid, prior.weights,
                               prior.null if prior.pointmass else None)  # fmt: skip
    return dense.Data(bhat, shat, np.eye(bhat.shape[1]) if V is None else V, alpha), mixture


# The whole ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"V": C}, {"alpha": 1.0}, {"alpha": 0.5, "V": C}, {"pointmass": False}])
def test_the_fit_is_the_best_and_its_posterior_the_twins(options):
    bhat, shat = simulate(1, 60, missing=0.1)
    grid = [0.5, 2.0, 6.0]
    fit = mash.fit(bhat, shat, covariances="canonical", grid=grid, **options)
    assert fit.converged
    data, mixture = twin(fit, bhat, shat, options.get("V"), options.get("alpha", 0.0))
    a = np.ones(len(mixture.weights))
    a[0] = 10.0 if options.get("pointmass", True) else 1.0
    log_L = dense.log_likelihoods(data, mixture)
    assert dense.gap(log_L, mixture.weights, a) < 1e-10
    assert fit.loglik == pytest.approx(dense.loglik(data, mixture), rel=1e-9)
    want = dense.posterior(data, mixture.above(1e-10))
    for name in ("mean", "sd", "negative", "positive", "lfdr", "lfsr"):
        np.testing.assert_allclose(fit.posterior[name], getattr(want, name), atol=1e-9, err_msg=name)


def test_it_finds_what_was_put_in(fitted):
    weights = fitted.weights.sum("scale")
    assert 0.45 < fitted.null_weight < 0.75
    assert float(weights.sel(covariance="equal_effects")) > 0.2
    assert float(weights.sel(covariance="liver")) > 0.03
    assert fitted.null_weight + float(weights.sum()) == pytest.approx(1.0)
    assert "weights" in fitted.dataset
    assert fitted.status.startswith("converged")
    assert fitted.gap <= 1e-12 * (J + 9) * 10


def ash(z, grid, a0, steps=50_000):
    """Univariate: z ~ pi_0 N(0, 1) + sum pi_l N(0, 1 + omega_l^2), by EM."""
    sd = np.sqrt(1.0 + np.append(0.0, grid) ** 2)
    L = norm.pdf(z[:, None], scale=sd)
    pi, a = np.full(len(sd), 1.0 / len(sd)), np.append(a0 - 1.0, np.zeros(len(grid)))
    for _ in range(steps):
        share = L * pi
        pi = (share / share.sum(axis=1, keepdims=True)).sum(axis=0) + a
        pi /= pi.sum()
    return pi, L


@pytest.mark.parametrize("null_weight", [1.0, 10.0])
def test_one_condition_is_adaptive_shrinkage(null_weight):
    rng = np.random.default_rng(2)
    b = np.where(rng.random(300) < 0.4, 3.0 * rng.standard_normal(300), 0.0)
    z, grid = b + rng.standard_normal(300), np.array([0.5, 1.5, 4.0])
    fit = mash.fit(z[:, None], 1.0, grid=grid, null_weight=null_weight, covariances="canonical")
    pi, L = ash(z, grid, null_weight)
    np.testing.assert_allclose(fit.prior.flat, pi, atol=1e-4)
    assert fit.loglik == pytest.approx(np.log(L @ pi).sum(), abs=1e-4)
    w = L * fit.prior.flat
    w /= w.sum(axis=1, keepdims=True)
    c = grid**2 / (1 + grid**2)
    np.testing.assert_allclose(fit.mean[:, 0], (w[:, 1:] * c).sum(axis=1) * z, atol=1e-9)
    np.testing.assert_allclose(fit.lfdr[:, 0], w[:, 0], atol=1e-9)
    tail = norm.cdf(-np.sqrt(c) * np.abs(z)[:, None])
    np.testing.assert_allclose(fit.lfsr[:, 0], w[:, 0] + (w[:, 1:] * tail).sum(axis=1), atol=1e-9)


def test_one_condition_with_all_defaults():
    rng = np.random.default_rng(3)
    b = np.where(rng.random(200) < 0.5, 4.0 * rng.standard_normal(200), 0.0)
    fit = mash.fit((b + rng.standard_normal(200))[:, None])
    assert fit.converged
    assert np.abs(fit.mean[:, 0] - b).mean() < np.abs(fit.dataset["bhat"][:, 0] - b).mean()


# What must not matter -------------------------------------------------------------------------------------------------


def test_the_order_of_effects_is_none(data, fitted):
    rows = np.random.default_rng(0).permutation(J)
    bhat, shat = frames(*data)
    other = mash.fit(bhat.iloc[rows], shat.iloc[rows], covariances="canonical")
    np.testing.assert_array_equal(other.dataset["effect"], bhat.index[rows])
    agree(fitted, mash.MashFit(other.dataset.sel(effect=bhat.index.to_numpy())))


def test_the_order_of_conditions_is_none(data, fitted):
    bhat, shat = frames(*data)
    other = mash.fit(bhat[["skin", "liver", "lung"]], shat, covariances="canonical")
    assert other.dataset["condition"].to_numpy().tolist() == ["skin", "liver", "lung"]
    agree(fitted, mash.MashFit(other.dataset.sel(condition=NAMES)))


def test_z_scores_are_estimates_over_their_standard_errors(data):
    bhat, shat = data
    grid = np.array([0.5, 1.0, 3.0, 6.0])
    ez = mash.fit(bhat, shat, alpha=1.0, covariances="canonical", grid=grid)
    z = mash.fit(bhat / shat, covariances="canonical", grid=grid)
    np.testing.assert_allclose(ez.weights, z.weights, atol=1e-9)
    np.testing.assert_allclose(ez.mean, z.mean * shat, atol=1e-9)
    np.testing.assert_allclose(ez.sd, z.sd * shat, atol=1e-9)
    np.testing.assert_allclose(ez.lfsr, z.lfsr, atol=1e-9)
    np.testing.assert_allclose(ez.log10_bf, z.log10_bf, atol=1e-9)
    assert ez.loglik == pytest.approx(z.loglik - np.log(shat).sum(), rel=1e-12)
    default = mash.fit(bhat, shat, alpha=1.0, covariances="canonical")
    np.testing.assert_allclose(default.prior.grid, mash.fit(bhat / shat, covariances="canonical").prior.grid)


@pytest.mark.parametrize("V", [None, C])
def test_with_little_memory_it_is_the_same(V):
    bhat, shat = simulate(4, 150, missing=0.2)
    much = mash.fit(bhat, shat, V=V, covariances="canonical")
    little = mash.fit(bhat, shat, V=V, covariances="canonical", memory=0)
    agree(much, little, 1e-7)
    np.testing.assert_allclose(little.weights, much.weights, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_are_none_of_its_business(data, fitted, unit):
    bhat, shat = data
    other = mash.fit(unit * bhat, unit * shat, covariances="canonical")
    np.testing.assert_allclose(other.mean / unit, fitted.mean, atol=1e-5)
    np.testing.assert_allclose(other.lfsr, fitted.lfsr, atol=1e-5)
    assert other.loglik + bhat.size * np.log(unit) == pytest.approx(fitted.loglik, rel=1e-7)


def test_the_same_again_is_the_same(data):
    one, again = (mash.fit(*data) for _ in range(2))
    np.testing.assert_array_equal(one.prior.flat, again.prior.flat)
    np.testing.assert_array_equal(one.mean, again.mean)


def test_effects_and_conditions_of_which_nothing_was_seen(data):
    bhat, shat = (part.copy() for part in data)
    whole = mash.fit(bhat[10:], shat[10:], covariances="canonical")
    bhat[:10] = np.nan
    other = mash.fit(bhat, shat, covariances="canonical", grid=whole.prior.grid)
    assert other.loglik == pytest.approx(whole.loglik, rel=1e-8)
    np.testing.assert_allclose(other.mean[10:], whole.mean, atol=1e-5)
    bhat[:, 2] = np.nan
    assert np.isfinite(mash.fit(bhat, shat, covariances="canonical").posterior["lfsr"]).all()


# Covariances ----------------------------------------------------------------------------------------------------------


def test_canonical_and_of_full_rank_by_default(data):
    fit = mash.fit(*data)
    kinds = fit.dataset["kind"].to_numpy()
    assert (kinds == "canonical").sum() == R + 5
    learned = [U for U in fit.prior.covariances if U.kind == "data-driven"]
    assert learned
    assert {U.rank for U in learned} == {R}
    named = mash.fit(*data, covariances=("canonical", "full-rank"))
    np.testing.assert_array_equal(named.weights, fit.weights)


def test_kinds_of_covariances_by_name(data):
    both = mash.fit(*data, covariances=("canonical", "data-driven"))
    kinds = both.dataset["kind"].to_numpy().tolist()
    assert kinds.count("canonical") == R + 5
    assert kinds.count("data-driven") >= 2
    recipe = mash.data_driven(tidy(*data), empirical=False)
    assert [U.name for U in both.prior.covariances[R + 5 :]] == [U.name for U in recipe]
    for mine, its in zip(both.prior.covariances[R + 5 :], recipe, strict=True):
        np.testing.assert_allclose(mine.matrix, its.normalised().matrix, atol=1e-14)
    alone = mash.fit(*data, covariances="data-driven", components=2)
    assert set(alone.dataset["kind"].to_numpy()) == {"data-driven"}
    np.testing.assert_array_equal(mash.fit(*data, covariances=["data-driven"], components=2).mean, alone.mean)
    full = mash.fit(*data, covariances="full-rank")
    every = mash.data_driven(tidy(*data))
    assert {U.name for U in full.prior.covariances} == {U.name for U in every if U.rank == R}
    three = mash.fit(*data, covariances=("canonical", "data-driven", "full-rank"))
    assert {U.name for U in three.prior.covariances} >= {U.name for U in (*recipe, *full.prior.covariances)}


def test_it_says_when_it_had_to_leave_covariances_out():
    rng = np.random.default_rng(5)
    fit = mash.fit(rng.standard_normal((50, 3)))
    assert set(fit.dataset["kind"].to_numpy()) == {"canonical"}
    assert "canonical covariances alone: too few strong effects" in fit.status
    assert fit.converged
    with pytest.raises(InputError, match="strong"):
        mash.fit(rng.standard_normal((50, 3)), covariances="data-driven")


def test_strong_rows_may_be_given(data):
    bhat, shat = frames(*data)
    rows = np.flatnonzero((np.abs(bhat / shat) > 4).any(axis=1))
    assert len(rows) > 10
    mask = np.isin(np.arange(J), rows)
    one, other, named = (mash.fit(bhat, shat, strong=strong, covariances="data-driven")
                         for strong in (rows, mask, bhat.index[rows]))  # fmt: skip
    np.testing.assert_array_equal(one.covariances, other.covariances)
    np.testing.assert_array_equal(one.covariances, named.covariances)
    for bad in ([J], [-1], np.zeros(J, dtype=bool), np.ones(3, dtype=bool), ["nobody"], []):
        with pytest.raises(InputError, match="strong"):
            mash.fit(bhat, shat, strong=bad)


def test_an_argument_that_is_wrong_is_no_lack_of_strong_effects(data):
    with pytest.raises(InputError, match="at least one component"):
        mash.fit(*data, components=0)


def test_ones_own_covariances(data):
    U = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    mixed = pd.DataFrame(U, NAMES, NAMES).loc[NAMES[::-1], NAMES[::-1]]
    one = mash.fit(*frames(*data), covariances={"mine": U, "thin": [1.0, 2.0, -1.0]})
    other = mash.fit(*frames(*data), covariances={"mine": mixed, "thin": [[1.0], [2.0], [-1.0]]})
    given = mash.fit(*frames(*data), covariances=[Covariance.of("mine", U), Covariance.of("thin", [1.0, 2.0, -1.0])])
    assert one.dataset["covariance"].to_numpy().tolist() == ["mine", "thin"]
    assert set(one.dataset["kind"].to_numpy()) == {"given"}
    np.testing.assert_allclose(one.covariances.sel(covariance="mine"), U / 2.0, atol=1e-12)
    agree(one, other)
    agree(one, given)
    np.testing.assert_array_equal(given.prior.covariances[0].factor[2], 0.0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("learned", "some of 'canonical', 'data-driven', 'full-rank', got 'learned'"),
        (["canonical", "learned"], "got 'learned'"),
        ([], "got none"),
        ({}, "at least one covariance"),
        ({"U": np.eye(2)}, "a covariance of 3 conditions"),
        ({"U": -np.eye(3)}, "positive semi-definite"),
        ([np.eye(3)], "a mapping of names, or Covariances"),
        ([*canonical(3), "data-driven"], "some of 'canonical', 'data-driven'"),
        ([Covariance.of("a", np.eye(3))] * 2, "each name once"),
    ],
)
def test_covariances_that_cannot_be(data, asked, said):
    with pytest.raises(InputError, match=said):
        mash.fit(*data, covariances=asked)


@pytest.mark.parametrize("asked", [Covariance.of("a", np.eye(3)), 3])
def test_covariances_come_in_a_list(data, asked):
    with pytest.raises(InputError, match="covariances"):
        mash.fit(*data, covariances=asked)


# Grid, weights --------------------------------------------------------------------------------------------------------


def test_the_grid_may_be_given(data):
    fit = mash.fit(*data, covariances="canonical", grid=[4.0, 1.0])
    np.testing.assert_array_equal(fit.prior.grid, [1.0, 4.0])
    np.testing.assert_array_equal(fit.weights["scale"], [1.0, 4.0])
    for bad in ([], [0.0, 1.0], [1.0, 1.0], "wide"):
        with pytest.raises(InputError, match="grid"):
            mash.fit(*data, covariances="canonical", grid=bad)


def test_the_nulls_weight_errs_on_its_side(data):
    fits = [mash.fit(*data, covariances="canonical", null_weight=a) for a in (1.0, 10.0, 100.0)]
    null, loglik = [fit.null_weight for fit in fits], [fit.loglik for fit in fits]
    assert null == sorted(null)
    assert null[0] < null[2]
    assert loglik == sorted(loglik, reverse=True)  # 1 is plain maximum likelihood
    assert all(fit.converged for fit in fits)


def test_prior_weights_of_components(data):
    plain = mash.fit(*data, covariances="canonical", grid=[1.0, 4.0])
    pushed = mash.fit(*data, covariances="canonical", grid=[1.0, 4.0], prior_weights={"simple_het_1.2": 50.0})
    here = {"covariance": "simple_het_1", "scale": 4.0}
    assert float(pushed.weights.sel(here)) > 49 / (J + 58) - 1e-9  # pi >= (a - 1)/N
    assert float(pushed.weights.sel(here)) > float(plain.weights.sel(here))
    same = mash.fit(*data, covariances="canonical", grid=[1.0, 4.0], null_weight=1.0, prior_weights={"null": 10.0})
    np.testing.assert_allclose(same.weights, plain.weights, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"null_weight": 0.5}, "at least 1, got 'null'"),
        ({"null_weight": np.nan}, "at least 1"),
        ({"null_weight": np.inf}, "at least 1"),
        ({"prior_weights": {"identity.1": 0.0}}, "at least 1, got 'identity.1'"),
        ({"prior_weights": {"identity": 2.0}}, "names of components, got 'identity'"),
        ({"prior_weights": {"identity.99": 2.0}}, "names of components"),
        ({"prior_weights": {"null": 2.0}, "pointmass": False}, "names of components, got 'null'"),
    ],
)
def test_prior_weights_that_cannot_be(data, options, said):
    with pytest.raises(InputError, match=said):
        mash.fit(*data, covariances="canonical", **options)


def test_without_a_point_mass(data):
    fit = mash.fit(*data, covariances="canonical", pointmass=False)
    assert fit.null_weight == 0.0
    assert not fit.prior.pointmass
    assert len(fit.prior.flat) == fit.weights.size
    assert float(fit.weights.sum()) == pytest.approx(1.0)
    assert np.isnan(fit.log10_bf).all()
    assert "null" not in fit.responsibilities()["component"]
    without = mash.fit(*data, covariances={"identity": np.eye(3)}, pointmass=False)
    np.testing.assert_array_equal(without.lfdr, 0.0)


# V --------------------------------------------------------------------------------------------------------------------


def test_v_by_name_of_a_method():
    bhat, shat = simulate(6, 600, V=C)
    no, found = mash.fit(bhat, shat, V="identity", covariances="canonical"), mash.null_correlation(bhat, shat)
    np.testing.assert_array_equal(no.dataset["V"], np.eye(3))
    simple = mash.fit(bhat, shat, V="simple", covariances="canonical")
    np.testing.assert_allclose(simple.dataset["V"], found, atol=1e-12)
    better = mash.fit(bhat, shat, V="estimate", covariances="canonical")
    want = mash.null_correlation(bhat, shat, method="truncated")
    np.testing.assert_allclose(better.dataset["V"], want, atol=1e-12)
    assert better.loglik > no.loglik
    for bad in ("estimated", ""):
        with pytest.raises(InputError, match=r"a matrix, or one of 'identity', 'estimate'.*in V"):
            mash.fit(bhat, shat, V=bad)


def test_v_by_em_with_covariances_of_ones_own():
    bhat, shat = frames(*simulate(6, 150, V=C))
    named = {"mine": pd.DataFrame(np.eye(3), NAMES, NAMES), "all": np.ones((3, 1))}
    fit = mash.fit(bhat, shat, V="em", covariances=named, grid=[1.0, 3.0])
    np.testing.assert_allclose(np.diag(fit.dataset["V"]), 1.0)
    weighted = mash.fit(bhat, shat, V="em", covariances="canonical", grid=[1.0, 3.0], prior_weights={"liver.1": 2.0})
    assert weighted.converged


def test_v_by_em_with_covariances_that_can_be_read_once():
    bhat, shat = simulate(6, 150, V=C)
    once, again = (mash.fit(bhat, shat, V="em", covariances=given, grid=[1.0, 3.0])
                   for given in (iter(canonical(3)), canonical(3)))  # fmt: skip
    np.testing.assert_array_equal(once.mean, again.mean)


def test_v_by_em_of_contrasts_with_covariances_of_ones_own():
    """Those of the contrasts are none of the conditions, whose errors' correlation is learned first."""
    bhat, shat = frames(*simulate(6, 150, V=C))
    fit = mash.fit(bhat, shat, V="em", contrast="liver", covariances={"mine": np.eye(2)}, grid=[1.0, 3.0])
    assert fit.dataset["covariance"].to_numpy().tolist() == ["mine"]


def test_v_by_name_where_standard_errors_are_none():
    bhat, shat = simulate(6, 200, V=C)
    shat[3, 1] = 0.0
    fit = mash.fit(bhat, shat, V="estimate", tiny="missing", covariances="canonical")
    assert np.isnan(fit.dataset["bhat"][3, 1])


def test_v_as_a_frame_is_matched_by_name(data):
    order = ["skin", "liver", "lung"]
    mixed = pd.DataFrame(C, NAMES, NAMES).loc[order, order]
    agree(mash.fit(*frames(*data), V=mixed, covariances="canonical"),
          mash.fit(*frames(*data), V=C, covariances="canonical"))  # fmt: skip


def test_v_of_every_effect_may_be_the_same(data):
    own = mash.fit(*data, V=np.array([C] * J), covariances="canonical")
    assert own.dataset["V"].dims == ("effect", "condition", "condition_other")
    agree(own, mash.fit(*data, V=C, covariances="canonical"))


# Missing, tiny --------------------------------------------------------------------------------------------------------


def test_standard_errors_that_are_none_may_be_missing(data):
    bhat, shat = (part.copy() for part in data)
    gone = bhat.copy()
    shat[5, 1], gone[5, 1] = 0.0, np.nan
    with pytest.raises(InputError, match="effect_6, condition condition_2"):
        mash.fit(bhat, shat, covariances="canonical")
    left_out = mash.fit(bhat, shat, covariances="canonical", tiny="missing")
    agree(left_out, mash.fit(gone, np.where(np.isnan(gone), np.nan, shat), covariances="canonical"))


@pytest.mark.parametrize("bad", [np.full((3, 2), np.nan), np.zeros((0, 2)), [["a"]]])
def test_data_that_cannot_be(bad):
    with pytest.raises(InputError):
        mash.fit(bad, covariances="canonical")


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_estimates_that_are_all_the_same(value):
    fit = mash.fit(np.full((20, 3), value), 1.0)
    assert fit.converged
    assert np.isfinite(fit.mean).all()


def test_a_single_effect():
    fit = mash.fit([[5.0, 6.0]], covariances="canonical")
    assert fit.converged
    assert 0 < fit.mean[0, 0] < 5.5


# Contrasts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["mean", "lung"])
def test_contrasts_are_fitted_as_what_they_are(data, reference):
    bhat, shat = frames(*data)
    fit = mash.fit(bhat, shat, V=C, contrast=reference, covariances="canonical")
    taken = mash.contrast(bhat, shat, C, reference)
    other = mash.fit(taken.chat, taken.shat, V=taken.V.to_numpy(), covariances="canonical")
    agree(fit, other)
    assert fit.dataset["condition"].to_numpy().tolist() == taken.chat["condition"].to_numpy().tolist()
    again = mash.fit(bhat, shat, V=C, contrast=mash.contrast_matrix(NAMES, reference), covariances="canonical")
    agree(fit, again)


def test_contrasts_need_alpha_0_and_a_reference(data):
    with pytest.raises(InputError, match="alpha = 0 with contrasts, got 1"):
        mash.fit(*frames(*data), contrast="mean", alpha=1.0)
    with pytest.raises(InputError, match="reference"):
        mash.fit(*frames(*data), contrast="kidney")
    with pytest.raises(InputError, match="at least two conditions"):
        mash.fit([[1.0], [2.0]], contrast="mean")


def test_contrasts_as_a_plain_matrix(data):
    L = mash.contrast_matrix(NAMES, "lung")
    want = mash.fit(*frames(*data), contrast=L, covariances="canonical")
    agree(mash.fit(*frames(*data), contrast=L.to_numpy(), covariances="canonical"), want)


def test_tiny_standard_errors_in_contrasts(data):
    bhat, shat = (part.copy() for part in data)
    shat[5, 1] = 0.0
    fit = mash.fit(*frames(bhat, shat), contrast="liver", tiny="missing", covariances="canonical")
    assert np.isnan(fit.dataset["bhat"].sel(effect="e5", condition="lung-liver"))


# The rest -------------------------------------------------------------------------------------------------------------


def test_without_posteriors_it_is_light(data, fitted):
    light = mash.fit(*frames(*data), covariances="canonical", posterior=False)
    assert "effect" not in light.dataset.dims
    assert light.loglik == pytest.approx(fitted.loglik, rel=1e-12)
    for what in (lambda: light.posterior, lambda: light.mean, light.draws, light.posterior_covariance):
        with pytest.raises(InputError, match="posterior=True"):
            what()
    found = light.apply(*frames(*data))
    np.testing.assert_array_equal(found["lfsr"], fitted.lfsr)


def test_it_says_what_it_does(data):
    said = []
    mash.fit(*data, covariances="canonical", progress=said.append)
    assert "covariances" in said
    assert any(text.startswith("weights of") and "components" in text for text in said)
    assert any("gap" in text for text in said)
    assert said[-1] == "posteriors"


@pytest.mark.parametrize("tol", [-1.0, np.nan, np.inf])
def test_a_certificate_that_cannot_be(data, tol):
    passes = []

    def enough(_):
        passes.append(1)
        assert len(passes) < 100, "endless"

    with pytest.raises(InputError, match="in tol"):
        mash.fit(*data, covariances="canonical", grid=[1.0, 3.0], tol=tol, progress=enough)


def test_a_looser_certificate(data):
    loose = mash.fit(*data, covariances="canonical", tol=1e-3)
    assert loose.converged
    assert loose.gap <= 1e-3 * (J + 9)
