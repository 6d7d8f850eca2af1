"""The correlation of errors, from effects that look null."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.integrate import dblquad
from scipy.stats import multivariate_normal

import ebmodel.mash
from ebmodel.errors import InputError
from ebmodel.mash.nullcorrelation import (
    METHODS,
    _truncated_correlation,
    _untruncated,
    correlation_by_em,
    nearest_correlation,
    null_correlation,
)


def ar(R: int, rho: float) -> np.ndarray:
    return rho ** np.abs(np.subtract.outer(np.arange(R), np.arange(R)))


def equal(R: int, rho: float) -> np.ndarray:
    return (1.0 - rho) * np.eye(R) + rho


def null_effects(C: np.ndarray, J: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(np.zeros(len(C)), C, J)


def test_simple_is_the_correlation_of_small_rows():
    rng = np.random.default_rng(1)
    shat = np.exp(rng.standard_normal((300, 4)))
    z = null_effects(ar(4, 0.5), 300)
    V = null_correlation(z * shat, shat, threshold=1.5)
    rows = (np.abs(z) < 1.5).all(axis=1)
    assert_allclose(V, np.corrcoef(z[rows].T), rtol=1e-10)
    assert V.attrs == {"method": "simple", "effects": int(rows.sum()), "repaired": False}
    assert V.dims == ("condition", "condition_other")


def test_missing_cells_leave_pairs_of_conditions():
    z = null_effects(ar(3, 0.5), 200)
    z[:60, 0], z[50:120, 1] = np.nan, np.nan
    frame = pd.DataFrame(z, columns=["a", "b", "c"])
    V = null_correlation(frame)
    rows = frame[(frame.abs().fillna(0.0) < 2.0).all(axis=1)]
    assert_allclose(V, rows.corr(), rtol=1e-10)
    assert V.indexes["condition"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("method", METHODS)
def test_signs_and_order_of_conditions_follow(method):
    z = null_effects(ar(4, 0.6), 2000)
    order, sign = [2, 0, 3, 1], np.array([1.0, -1.0, -1.0, 1.0])
    V = null_correlation(z, method=method).to_numpy()
    W = null_correlation((z * sign)[:, order], method=method).to_numpy()
    # draws are not turned with the conditions: of 80,000 each correlation has a standard error below .004
    assert_allclose(W, (V * np.outer(sign, sign))[np.ix_(order, order)], atol=0.016 if method == "truncated" else 1e-10)
    assert_allclose(np.diag(V), 1.0)


def test_correlation_of_a_truncated_normal_is_that_of_quadrature():
    rho, truncated = _truncated_correlation(2.0)
    for wanted in (0.3, 0.9):
        density = multivariate_normal(cov=[[1.0, wanted], [wanted, 1.0]]).pdf

        def moment(f, density=density):
            return dblquad(lambda y, x: f(x, y) * density([x, y]), -2.0, 2.0, -2.0, 2.0, epsabs=1e-7, epsrel=1e-7)[0]

        product, square = moment(lambda x, y: x * y), moment(lambda x, _: x * x)
        assert_allclose(np.interp(wanted, rho, truncated), product / square, atol=2e-5)
    assert (np.diff(truncated) > 0.0).all()
    assert_allclose(_untruncated(-np.interp(ar(3, 0.4), rho, truncated), 2.0)[0, 1], -0.4, atol=1e-9)


def test_truncation_shrinks_and_both_remedies_undo_it():
    C, J = equal(10, 0.5), 4000
    z = null_effects(C, J, seed=3)
    pairs = np.triu_indices(10, 1)
    error = {m: float((null_correlation(z, method=m).to_numpy() - C)[pairs].mean()) for m in METHODS}
    # the mean over pairs of one sample; (1 - rho^2) / sqrt(rows) = .014 is one pair's standard error without truncation
    assert -0.2 < error["simple"] < -0.14
    assert abs(error["truncated"]) < 0.03
    assert abs(error["pairwise"]) < 0.03


@pytest.mark.statistical
@pytest.mark.parametrize("C", [equal(5, 0.5), ar(10, 0.7), equal(44, 0.5)], ids=["5", "ar10", "44"])
def test_what_truncation_costs(C):
    """Over repeated samples: the bias of each method, with effects in a fifth of the rows or in none."""
    R = len(C)
    pairs = np.triu_indices(R, 1)
    for share in (0.0, 0.2):
        bias, spread = {}, {}
        for method in METHODS:
            errors = []
            for seed in range(8):
                z = null_effects(C, 4000, seed)
                some = int(share * len(z))
                rng = np.random.default_rng(seed + 100)
                z[:some] += 3.0 * rng.standard_normal((some, 1)) * rng.random((some, R))  # shared, of one sign
                errors.append(float((null_correlation(z, method=method, seed=seed).to_numpy() - C)[pairs].mean()))
            bias[method], spread[method] = np.mean(errors), np.std(errors, ddof=1) / np.sqrt(8)
        assert bias["simple"] < -0.08
        # the simulated correlations are found to .001, and errors of the draws do not average out entirely
        tolerance = 0.005 if share == 0.0 else 0.035
        for method in ("truncated", "pairwise"):
            assert abs(bias[method]) < 4.0 * spread[method] + tolerance, (share, method, bias, spread)


def test_two_conditions_are_a_pair():
    z = null_effects(equal(2, 0.6), 3000)
    pair, box = (null_correlation(z, method=m).to_numpy()[0, 1] for m in ("pairwise", "truncated"))
    assert_allclose(box, pair, atol=0.006)  # of 90,000 draws


def test_the_same_seed_gives_the_same():
    z = null_effects(ar(4, 0.5), 500)
    first, again, other = (null_correlation(z, method="truncated", seed=seed).to_numpy() for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_truncated_minds_what_is_missing():
    C, J = equal(6, 0.6), 20_000
    z = null_effects(C, J, seed=2)
    z[np.random.default_rng(1).random(z.shape) < 0.5] = np.nan
    z = z[~np.isnan(z).all(axis=1)]
    pairs = np.triu_indices(6, 1)
    error = (null_correlation(z, method="truncated").to_numpy() - C)[pairs]
    assert (null_correlation(z).to_numpy() - C)[pairs].mean() < -0.08
    assert abs(error.mean()) < 0.025  # some 4,000 rows a pair: one's standard error is .015 or more


def test_nearest_correlation_is_higham_s():
    example = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    expected = [[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]]
    assert_allclose(nearest_correlation(example, least=0.0), expected, atol=5e-5)
    assert np.linalg.eigvalsh(nearest_correlation(example)).min() > 0.99e-4
    assert_allclose(nearest_correlation(ar(4, 0.5)), ar(4, 0.5), atol=1e-12)


def test_an_indefinite_estimate_is_repaired():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.5, 1.5, (90, 1))
    z = np.full((90, 3), np.nan)
    for rows, (i, j, sign) in zip(np.split(np.arange(90), 3), [(0, 1, 1.0), (1, 2, 1.0), (0, 2, -1.0)], strict=True):
        z[rows, i], z[rows, j] = x[rows, 0], sign * x[rows, 0] + 0.1 * rng.standard_normal(30)
    V = null_correlation(z)
    assert V.attrs["repaired"]
    assert np.linalg.eigvalsh(V).min() > 0.99e-4
    assert_allclose(np.diag(V), 1.0)
    ebmodel.mash.fit(z, V=V, covariances="canonical")


class Known:
    """A fit whose prior is one normal distribution, known."""

    def __init__(self, bhat: np.ndarray, shat: np.ndarray, U: np.ndarray, C: np.ndarray) -> None:
        total = U + shat[:, :, None] * shat[:, None, :] * C
        white = np.linalg.solve(total, bhat[:, :, None])[:, :, 0]
        self.loglik = float(-0.5 * (np.linalg.slogdet(2.0 * np.pi * total)[1] + (bhat * white).sum(axis=1)).sum())
        self.covariance = U - U @ np.linalg.solve(total, np.broadcast_to(U, total.shape))
        self.dataset = xr.Dataset({"mean": (("effect", "condition"), white @ U)})

    def posterior_covariance(self) -> np.ndarray:
        return self.covariance


def test_em_finds_the_correlation_whatever_the_effects():
    rng = np.random.default_rng(5)
    C, U, J = ar(3, 0.6), 2.0 * equal(3, -0.3), 3000
    shat = np.exp(0.2 * rng.standard_normal((J, 3)))
    bhat = rng.multivariate_normal(np.zeros(3), U, J) + shat * rng.multivariate_normal(np.zeros(3), C, J)
    V, trace = correlation_by_em(bhat, shat, lambda V: Known(bhat, shat, U, V), tol=1e-6, max_iter=100)
    assert (np.diff(trace) >= 0.0).all()
    assert len(trace) > 3
    # effects that are twice as large as errors: a standard error of about 3 / sqrt(J) = .055, and so for the start
    assert_allclose(V, C, atol=0.11)
    assert np.abs(null_correlation(bhat, shat).to_numpy() - C).max() > 0.3


def test_em_alternates_with_fits_of_mash():
    rng = np.random.default_rng(6)
    C, J = equal(4, 0.5), 1000
    b = np.where(rng.random((J, 1)) < 0.5, 2.0 * rng.standard_normal((J, 4)), 0.0)
    bhat = b + rng.multivariate_normal(np.zeros(4), C, J)

    def fit(V):
        return ebmodel.mash.fit(bhat, V=V, covariances="canonical", null_weight=1.0)

    V, trace = correlation_by_em(bhat, None, fit, max_iter=8)
    assert (np.diff(trace) >= 0.0).all()
    pairs = np.triu_indices(4, 1)
    before = null_correlation(bhat).to_numpy()
    assert np.abs(V.to_numpy() - C)[pairs].mean() < 0.5 * np.abs(before - C)[pairs].mean()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "exact"}, "expected one of 'simple', 'truncated', 'pairwise', got 'exact', in method"),
        ({"threshold": 0.0}, "a threshold > 0"),
        ({"threshold": 0.3}, "expected more than 4 null effects, one for every condition, got"),
        ({"shat": -1.0}, "positive standard error"),
    ],
)
def test_errors(change, words):
    with pytest.raises(InputError, match=words):
        null_correlation(null_effects(np.eye(4), 50), **change)


def test_em_wants_complete_effects():
    z = null_effects(np.eye(3), 50)
    z[0, 0] = np.nan
    with pytest.raises(InputError, match="complete effects"):
        correlation_by_em(z, None, lambda _: None)


def test_too_many_conditions_for_a_box():
    z = 0.5 * null_effects(np.eye(150), 400)
    with pytest.raises(InputError, match="method='pairwise'"):
        null_correlation(z, method="truncated")
    assert null_correlation(z, method="pairwise").shape == (150, 150)
