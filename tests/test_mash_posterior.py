"""The posterior of effects: against the dense twin, under changes of sign and units, and against its own draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

from ebmodel.mash import dense
from ebmodel.mash import posterior as of
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.likelihood import CHUNK
from ebmodel.mash.prior import Prior
from tests.test_mash_likelihood import GRID, make

FIELDS = ("mean", "sd", "negative", "positive", "lfdr", "lfsr")
PATHS = [("none", "none", "one"), ("common", "few", "condition"), ("common", "own", "own"), ("own", "own", "own")]
paths = pytest.mark.parametrize(("V", "patterns", "errors"), PATHS)


def prior_of(covariances, seed=0, null=0.3, conditions=None, alpha=0.0, grid=GRID):
    """Weights at random, the point mass having ``null``; no point mass if None."""
    K, L = len(covariances), len(grid)
    weights = np.random.default_rng(seed).dirichlet(np.ones(K * L)).reshape(K, L) * (1 - (null or 0.0))
    names = np.arange(len(covariances[0].factor)).astype(str) if conditions is None else conditions
    return Prior(tuple(covariances), np.asarray(grid), weights, null or 0.0, names, alpha, null is not None)


def given_data(seed=0, J=10, R=4, V="common", patterns="own", errors="own", alpha=0.0, null=0.3):
    effects, covariances = make(seed, J, R, V, patterns, errors, alpha)
    return effects, prior_of([*covariances, *canonical(R)[1:3]], seed, null, effects.conditions, alpha)


def twins(effects, prior):
    """The same for the dense twin, which takes what was given."""
    s = np.where(effects.observed, effects.S, 1.0) ** (1 / (1 - prior.alpha)) if prior.alpha < 1.0 else effects.scale
    s = np.where(effects.observed | (prior.alpha == 0.0), s, effects.scale ** (1 / prior.alpha if prior.alpha else 1))
    U = np.array([one.matrix for one in prior.covariances])
    data = dense.Data(effects.B * effects.scale, s, effects.C, prior.alpha)
    return data, dense.Mixture.of(U, prior.grid, prior.weights, prior.null if prior.pointmass else None)


def close(got, want, tol=1e-9):
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


# Values ---------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from(PATHS), st.sampled_from([0.0, 0.5, 1.0]),
       st.sampled_from([None, 0.0, 0.3, 0.999]))  # fmt: skip
def test_the_posterior_is_the_twins(seed, R, path, alpha, null):
    effects, prior = given_data(seed, 8, R, *path, alpha=alpha, null=null)
    data, mixture = twins(effects, prior)
    moments, evidence = of.posterior(effects, prior)
    want = dense.posterior(data, mixture)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(moments, field), getattr(want, field), rtol=1e-9, atol=1e-9, err_msg=field)
    close(of.covariances(effects, prior), want.covariance)
    close(evidence.loglik, dense.loglik_effects(data, mixture))
    responsibilities = of.responsibilities(effects, prior)
    close(responsibilities, dense.responsibilities(data, mixture))
    close(responsibilities.sum(axis=1), 1.0)
    alone = of.evidence(effects, prior)
    np.testing.assert_array_equal(alone.loglik, evidence.loglik)
    np.testing.assert_array_equal(alone.log10_bf, evidence.log10_bf)
    if null:
        close(evidence.log10_bf, dense.log10_bayes_factor(data, mixture))


@paths
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_its_parts_agree_with_each_other(V, patterns, errors, alpha):
    effects, prior = given_data(1, 12, 4, V, patterns, errors, alpha)
    moments, _ = of.posterior(effects, prior)
    close(moments.negative + moments.positive + moments.lfdr, 1.0, 1e-12)
    close(np.sqrt(np.einsum("jrr->jr", of.covariances(effects, prior))), moments.sd)
    assert (moments.lfsr >= moments.lfdr).all()
    assert max(getattr(moments, field).max() for field in ("negative", "positive", "lfdr", "lfsr")) <= 1.0
    assert (moments.lfsr <= 0.5 * (1 + moments.lfdr) + 1e-12).all()
    weight = of.responsibilities(effects, prior)[:, 0]
    assert (moments.lfdr >= weight[:, None] - 1e-12).all()  # and singletons elsewhere


@paths
def test_the_other_sign(V, patterns, errors):
    effects, prior = given_data(2, 12, 4, V, patterns, errors)
    one, evidence = of.posterior(effects, prior)
    other, same = of.posterior(replace(effects, B=-effects.B), prior)
    close(other.mean, -one.mean, 1e-13)
    close(other.negative, one.positive, 1e-13)
    close(other.positive, one.negative, 1e-13)
    for field in ("sd", "lfdr", "lfsr"):
        close(getattr(other, field), getattr(one, field), 1e-12)
    close(same.loglik, evidence.loglik, 1e-13)


@paths
@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e8])
def test_other_units(V, patterns, errors, unit):
    effects, prior = given_data(3, 12, 4, V, patterns, errors)
    one, evidence = of.posterior(effects, prior)
    scaled = tidy(unit * effects.B, unit * effects.S, effects.C)
    other, moved = of.posterior(scaled, replace(prior, grid=unit * prior.grid))
    close(other.mean / unit, one.mean)
    close(other.sd / unit, one.sd)
    for field in ("negative", "positive", "lfdr", "lfsr"):
        close(getattr(other, field), getattr(one, field))
    close(moved.loglik + np.log(unit) * effects.observed.sum(axis=1), evidence.loglik)
    close(moved.log10_bf, evidence.log10_bf)


def test_z_scores_in_other_units_are_the_same():
    """With alpha = 1 the prior is for b/s, and units are nothing to it."""
    effects, prior = given_data(4, 10, 3, "common", "own", "own", 1.0)
    bhat, shat = effects.B * effects.scale, effects.scale
    one, evidence = of.posterior(effects, prior)
    other, moved = of.posterior(tidy(1e5 * bhat, 1e5 * shat, effects.C, 1.0), prior)
    close(other.mean / 1e5, one.mean)
    close(other.sd / 1e5, one.sd)
    close(other.lfsr, one.lfsr)
    close(moved.loglik + np.log(1e5) * effects.observed.sum(axis=1), evidence.loglik)


@given(st.integers(0, 10_000), st.sampled_from(PATHS))
def test_the_order_of_effects_and_of_conditions_is_none(seed, path):
    effects, prior = given_data(seed, 10, 4, *path)
    one, evidence = of.posterior(effects, prior)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(10), rng.permutation(4)
    C = effects.C[rows] if effects.own else effects.C
    moved = tidy(effects.B[np.ix_(rows, columns)], effects.S[np.ix_(rows, columns)], C[..., columns[:, None], columns])
    turned = tuple(replace(U, factor=U.factor[columns]) for U in prior.covariances)
    other, same = of.posterior(moved, replace(prior, covariances=turned))
    for field in FIELDS:
        close(getattr(other, field), getattr(one, field)[np.ix_(rows, columns)])
    close(same.loglik, evidence.loglik[rows])


@pytest.mark.parametrize("patterns", ["none", "few"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_shared_and_one_by_one_agree(patterns, alpha):
    effects, prior = given_data(5, 12, 4, "common", patterns, "condition", alpha)
    own = replace(effects, C=np.repeat(effects.C[None], 12, axis=0))
    for one, other in zip(of.posterior(effects, prior), of.posterior(own, prior), strict=True):
        for field in one.__dataclass_fields__:
            close(getattr(other, field), getattr(one, field), 1e-10)
    close(of.covariances(own, prior), of.covariances(effects, prior), 1e-10)
    close(of.responsibilities(own, prior), of.responsibilities(effects, prior), 1e-10)


@pytest.mark.parametrize("J", [CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize(("V", "errors"), [("common", "one"), ("common", "few"), ("own", "own")])
def test_around_the_size_of_a_chunk(J, V, errors):
    effects, prior = given_data(16, J, 2, V, "few", errors)
    rows = np.array([0, 1, J // 2, J - 2, J - 1])
    some = effects.take(rows)
    for one, other in zip(of.posterior(effects, prior), of.posterior(some, prior), strict=True):
        for field in one.__dataclass_fields__:
            close(getattr(one, field)[rows], getattr(other, field), 1e-10)
    close(of.covariances(effects, prior)[rows], of.covariances(some, prior), 1e-10)
    close(of.responsibilities(effects, prior)[rows], of.responsibilities(some, prior), 1e-10)


# What is missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("V", ["common", "own"])
def test_an_effect_in_a_condition_that_was_not_seen(V):
    """E(b_m | b_hat) = U_mo U_oo^-1 E(b_o | b_hat): what is known of it is known through the others."""
    effects, covariances = make(6, 9, 4, V, "none", "own", ranks=[4])
    B = effects.B.copy()
    B[:, 1] = np.nan
    effects = tidy(B, effects.S, effects.C)
    prior = prior_of(covariances, null=None, grid=[2.0])
    o, U = [0, 2, 3], 4.0 * covariances[0].matrix
    mean = of.posterior(effects, prior)[0].mean
    Sigma = of.covariances(effects, prior)
    slope = np.linalg.solve(U[np.ix_(o, o)], U[o, 1])
    close(mean[:, 1], mean[:, o] @ slope)
    rest = U[1, 1] - U[1, o] @ slope
    close(Sigma[:, 1, 1], rest + np.einsum("o,jop,p->j", slope, Sigma[:, o][:, :, o], slope))


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("V", ["common", "own"])
def test_an_effect_that_was_seen_nowhere_has_the_prior(V, alpha, alone):
    effects, prior = given_data(7, 10, 3, V, "none", "own")
    bhat, shat = effects.B.copy(), effects.S.copy()
    gone = [4] if alone else [1, 2, 4, 5, 6, 8]
    bhat[gone] = np.nan
    shat[gone[0]] = np.nan
    effects, prior = tidy(bhat, shat, effects.C, alpha), replace(prior, alpha=alpha)
    moments, evidence = of.posterior(effects, prior)
    scale = np.where(np.isnan(shat), 1.0, shat) ** alpha
    close(moments.mean[gone], 0.0, 1e-14)
    close(moments.sd[gone], (scale * np.sqrt(np.diag(prior.matrix())))[gone], 1e-12)
    want = prior.matrix() * scale[gone, :, None] * scale[gone, None, :]
    close(of.covariances(effects, prior)[gone], want, 1e-12)
    close(moments.negative[gone], moments.positive[gone], 1e-14)
    never = sum(row.sum() for U, row in zip(prior.covariances, prior.weights, strict=True) if U.factor[0].any())
    close(moments.lfdr[gone, 0], 1 - never, 1e-12)
    close(evidence.loglik[gone], 0.0, 1e-14)
    close(evidence.log10_bf[gone], 0.0, 1e-14)
    close(of.responsibilities(effects, prior)[gone], np.tile(prior.flat, (len(gone), 1)), 1e-14)
    assert of.draw(effects, prior, 5, np.random.default_rng(0)).shape == (5, 10, 3)


# Edges ----------------------------------------------------------------------------------------------------------------


@paths
def test_a_prior_that_is_the_point_mass(V, patterns, errors):
    effects, prior = given_data(8, 10, 4, V, patterns, errors)
    certain = replace(prior, weights=0 * prior.weights, null=1.0)
    moments, evidence = of.posterior(effects, certain)
    assert (moments.lfdr == 1.0).all()
    assert (moments.lfsr == 1.0).all()
    for field in ("mean", "sd", "negative", "positive"):
        assert not getattr(moments, field).any()
    assert np.isnan(evidence.log10_bf).all()
    assert np.isnan(of.evidence(effects, certain).log10_bf).all()
    assert not of.covariances(effects, certain).any()
    assert not of.draw(effects, certain, 3, np.random.default_rng(0)).any()
    np.testing.assert_array_equal(of.responsibilities(effects, certain)[:, 0], 1.0)


def test_bayes_factors_need_both_sides():
    effects, prior = given_data(9, 6, 3, null=None)
    assert np.isnan(of.posterior(effects, prior)[1].log10_bf).all()
    none = replace(prior, pointmass=True)  # a point mass that came to weigh nothing
    close(of.evidence(effects, none).log10_bf, dense.log10_bayes_factor(*twins(effects, none)))
    close(of.posterior(effects, none)[0].mean, of.posterior(effects, prior)[0].mean, 1e-14)
    certain = replace(none, weights=0 * prior.weights, null=1.0)
    assert np.isnan(of.posterior(effects, certain)[1].log10_bf).all()


def test_components_that_weigh_next_to_nothing_are_left_out():
    effects, prior = given_data(10, 8, 3)
    weights = prior.weights.copy()
    weights[1, 1] = 1e-11
    with_it, without = replace(prior, weights=weights), replace(prior, weights=np.where(weights < 1e-10, 0.0, weights))
    np.testing.assert_array_equal(of.posterior(effects, with_it)[0].mean, of.posterior(effects, without)[0].mean)
    assert not of.responsibilities(effects, with_it)[:, 1 + 1 * len(GRID) + 1].any()


@paths
@pytest.mark.parametrize("z", [0.0, 40.0, 1e3, 1e6])
def test_estimates_of_any_size_give_numbers(V, patterns, errors, z):
    effects, prior = given_data(11, 10, 4, V, patterns, errors)
    effects = replace(effects, B=z * np.sign(effects.B))
    for grid in (GRID, np.array([0.1, 1.0, 2.0 * max(z, 1.0)])):
        this = replace(prior, grid=grid)
        moments, evidence = of.posterior(effects, this)
        for field in FIELDS:
            assert np.isfinite(getattr(moments, field)).all(), field
        assert np.isfinite(evidence.loglik).all()
        assert np.isfinite(evidence.log10_bf).all()
        assert np.isfinite(of.covariances(effects, this)).all()
        close(moments.negative + moments.positive + moments.lfdr, 1.0, 1e-12)


@pytest.mark.parametrize("errors", ["one", "own"])
@pytest.mark.parametrize("z", [1.0, 1e2, 1e4, 1e6, 1e8])
def test_the_standard_deviation_of_a_large_effect(z, errors):
    """One normal: its variance has nothing to do with its mean, which must not drown it."""
    effects, covariances = make(12, 8, 3, "common", "none", errors, ranks=[3])
    effects, prior = replace(effects, B=z * effects.B), prior_of(covariances, null=None, grid=[5.0])
    want = np.array([np.linalg.inv(np.linalg.inv(25.0 * covariances[0].matrix) + np.linalg.inv(effects.V(j)))
                     for j in range(8)])  # fmt: skip
    close(of.posterior(effects, prior)[0].sd, np.sqrt(np.einsum("jrr->jr", want)), 1e-6)
    close(of.covariances(effects, prior), want, 1e-6)


@pytest.mark.parametrize("errors", ["one", "own"])
def test_small_rates_are_right_to_their_own_size(errors):
    z = np.array([6.0, 8.0, 10.0, 11.5, 15.0, 25.0])
    effects = tidy(z[:, None] * [1.0, -1.0], 1.0 if errors == "one" else 1.0 + 1e-9 * np.arange(12).reshape(6, 2))
    identity = (Covariance.of("identity", np.eye(2)),)
    moments, _ = of.posterior(effects, prior_of(identity, null=None, grid=[3.0]))
    c = 9.0 / 10.0  # b | z ~ N(c z, c)
    want = norm.logcdf(-np.sqrt(c) * z)
    with np.errstate(divide="ignore"):
        got = np.log(np.column_stack([moments.lfsr[:, 0], moments.lfsr[:, 1], moments.negative[:, 0]]))
    close(got, np.repeat(want[:, None], 3, axis=1), 1e-6)
    assert moments.lfsr.max() < 1e-8
    assert 0.0 < moments.lfsr.min() < 1e-100
    moments, _ = of.posterior(effects, prior_of(identity, null=0.5, grid=[3.0]))
    seen = z <= 10.0  # down to 1e-38
    null = 1 / (1 + np.exp(2 * norm.logpdf(z, 0, np.sqrt(10.0)) - 2 * norm.logpdf(z)))[seen]
    close(np.log(moments.lfdr[seen, 0]), np.log(null), 1e-6)
    close(np.log(moments.lfsr[seen, 1]), np.log(null + (1 - null) * ndtr(-np.sqrt(c) * z[seen])), 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_no_effects_at_all(path):
    effects, prior = given_data(13, 5, 3, *path)
    none = effects.take(np.arange(0))
    moments, evidence = of.posterior(none, prior)
    assert moments.mean.shape == (0, 3)
    assert evidence.loglik.shape == (0,)
    assert of.covariances(none, prior).shape == (0, 3, 3)
    assert of.draw(none, prior, 4, np.random.default_rng(0)).shape == (4, 0, 3)


# Draws ----------------------------------------------------------------------------------------------------------------


@paths
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_draws_have_the_posteriors_moments_and_signs(V, patterns, errors, alpha):
    effects, prior = given_data(14, 6, 3, V, patterns, errors, alpha)
    n = 20_000
    drawn = of.draw(effects, prior, n, np.random.default_rng(1))
    moments, _ = of.posterior(effects, prior)
    root = np.sqrt(n)
    assert (np.abs(drawn.mean(axis=0) - moments.mean) < 4.5 * moments.sd / root + 1e-12).all()
    deviation = drawn - moments.mean
    Sigma = of.covariances(effects, prior)
    products = np.einsum("njr,njs->njrs", deviation, deviation)
    assert (np.abs(products.mean(axis=0) - Sigma) < 4.5 * products.std(axis=0) / root + 1e-12).all()
    for rate, seen in ((moments.negative, drawn < 0), (moments.positive, drawn > 0), (moments.lfdr, drawn == 0)):
        assert (np.abs(seen.mean(axis=0) - rate) < 4.5 * np.sqrt(rate * np.abs(1 - rate) / n) + 1 / n).all()


@paths
def test_draws_are_independent_and_repeat_with_their_seed(V, patterns, errors):
    effects, prior = given_data(15, 6, 3, V, patterns, errors)
    n = 4000
    one, again, other = (of.draw(effects, prior, n, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    centred = one - one.mean(axis=0)
    spread = centred.std(axis=0)
    lag = (centred[1:] * centred[:-1]).mean(axis=0) / np.where(spread > 0, spread**2, 1.0)
    assert (np.abs(lag) < 5 / np.sqrt(n)).all()  # components are not drawn in their order
