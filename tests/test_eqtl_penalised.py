"""Competitors from moments by fold, against scikit-learn on raw data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Ridge

from ebmodel.eqtl import penalised
from ebmodel.eqtl.penalised import FRACTIONS, PENALTIES, elastic_net, least_squares, ridge

FOLDS, SNPS = 4, 5


class Raw:
    """Genotypes and responses of each tissue's samples, and the samples' folds."""

    def __init__(self, seed: int = 0, sizes: tuple[int, ...] = (40, 61), snps: int = SNPS, rho: float = 0.6):
        rng = np.random.default_rng(seed)
        C = rho ** np.abs(np.subtract.outer(np.arange(snps), np.arange(snps)))
        self.X = [rng.standard_normal((n, snps)) @ np.linalg.cholesky(C) * rng.uniform(0.3, 3.0, snps) for n in sizes]
        beta = np.where(np.arange(snps) % 3 == 0, 0.4, 0.0)
        self.y = [3.0 * (X @ beta + rng.standard_normal(len(X))) for X in self.X]
        self.fold = [rng.permutation(len(X)) % FOLDS for X in self.X]

    def moments(self):
        parts = [
            [(X[fold == f].T @ X[fold == f], X[fold == f].T @ y[fold == f], y[fold == f] @ y[fold == f])
             for f in range(FOLDS)]
            for X, y, fold in zip(self.X, self.y, self.fold, strict=True)
        ]  # fmt: skip
        return [np.array([[part[k] for part in tissue] for tissue in parts]) for k in range(3)]


def plain_ridge(X, y, penalties):
    """(penalty, snp) by scikit-learn, X and y standardised to root mean square 1."""
    s, u = np.sqrt(np.mean(X**2, axis=0)), np.sqrt(np.mean(y**2))
    fits = [Ridge(len(y) * penalty, fit_intercept=False, solver="cholesky").fit(X / s, y / u) for penalty in penalties]
    return np.array([fit.coef_ * u / s for fit in fits]), penalties


def plain_elastic_net(X, y, fractions, mixing=0.5):
    s, u = np.sqrt(np.mean(X**2, axis=0)), np.sqrt(np.mean(y**2))
    Z, z = X / s, y / u
    penalties = np.abs(Z.T @ z).max() / len(z) / mixing * fractions
    settings = {"l1_ratio": mixing, "fit_intercept": False, "tol": 1e-13, "max_iter": 100_000}
    fits = [ElasticNet(penalty, **settings).fit(Z, z) for penalty in penalties]
    return np.array([fit.coef_ * u / s for fit in fits]), penalties


def plain_nested(raw, path, ladder):
    """The whole procedure on raw data, with no fit shared."""

    def cross_validated(X, y, fold):
        error = np.zeros(len(ladder))
        for g in np.unique(fold):
            coefficients, _ = path(X[fold != g], y[fold != g], ladder)
            error += np.sum((y[fold == g] - coefficients @ X[fold == g].T) ** 2, axis=1)
        coefficients, penalties = path(X, y, ladder)
        return coefficients[error.argmin()], penalties[error.argmin()]

    data = list(zip(raw.X, raw.y, raw.fold, strict=True))
    outer = [[cross_validated(X[k != f], y[k != f], k[k != f]) for f in range(FOLDS)] for X, y, k in data]
    full = [cross_validated(X, y, k) for X, y, k in data]
    held_out = [np.array([[found[part] for found in tissue] for tissue in outer]) for part in (0, 1)]
    return held_out[0], np.array([found[0] for found in full]), held_out[1], np.array([found[1] for found in full])


def agrees(found, plain, tol):
    for got, wanted in zip(found, plain, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tol, atol=tol)


@pytest.mark.parametrize("seed", [0, 1])
def test_ridge_is_the_plain_nested_procedure(seed):
    raw = Raw(seed)
    agrees(ridge(*raw.moments()), plain_nested(raw, plain_ridge, PENALTIES), 1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_elastic_net_is_the_plain_nested_procedure(seed):
    raw = Raw(seed)
    agrees(elastic_net(*raw.moments()), plain_nested(raw, plain_elastic_net, FRACTIONS), 1e-6)


def test_other_mixings_and_penalties_are_followed():
    raw, few = Raw(2), np.array([0.8, 0.3, 0.02])

    def lasso(X, y, fractions):
        return plain_elastic_net(X, y, fractions, mixing=1.0)

    agrees(elastic_net(*raw.moments(), mixing=1.0, fractions=few), plain_nested(raw, lasso, few), 1e-6)
    agrees(ridge(*raw.moments(), penalties=few), plain_nested(raw, plain_ridge, few), 1e-8)


@pytest.mark.parametrize(("snps", "rho"), [(30, 0.5), (30, 0.97)])
def test_a_whole_path_of_many_correlated_snps_agrees_with_scikit_learn(snps, rho):
    """With one fraction there is nothing to choose, so each is seen."""
    raw = Raw(3, (90,), snps, rho)
    wanted, penalties = plain_elastic_net(raw.X[0], raw.y[0], FRACTIONS)
    for k, fraction in enumerate(FRACTIONS):
        found = elastic_net(*raw.moments(), fractions=np.array([fraction]), folds=())
        np.testing.assert_allclose(found.full[0], wanted[k], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.full_penalty[0], penalties[k])


def test_descent_alone_finds_what_the_exact_step_finds(monkeypatch):
    """The two in Python, uncompiled."""
    raw = Raw(4, (50,), 8)
    X = raw.X[0] / np.sqrt(np.sum(raw.X[0] ** 2, axis=0))
    R, r = X.T @ X, X.T @ raw.y[0] / np.linalg.norm(raw.y[0])
    both, alone = np.empty((2, len(FRACTIONS), 8))
    penalties = 2.0 * np.abs(r).max() * FRACTIONS
    penalised._elastic_net_path.py_func(R, r, 0.5, penalties, both)
    monkeypatch.setattr(penalised, "_exact", lambda *_: False)
    penalised._elastic_net_path.py_func(R, r, 0.5, penalties, alone)
    np.testing.assert_allclose(both, alone, atol=1e-10)
    assert (both[0] == 0.0).all()
    assert (both[-1] != 0.0).any()


def test_least_squares_are_those_of_the_samples():
    raw = Raw()
    found = least_squares(*raw.moments()[:2])
    for t, (X, y, fold) in enumerate(zip(raw.X, raw.y, raw.fold, strict=True)):
        np.testing.assert_allclose(found.full[t], np.linalg.lstsq(X, y)[0], rtol=1e-9)
        for f in range(FOLDS):
            np.testing.assert_allclose(found.held_out[t, f], np.linalg.lstsq(X[fold != f], y[fold != f])[0], rtol=1e-9)


def test_least_squares_are_nan_with_fewer_samples_than_snps():
    """Nine samples tell eight SNPs, those without a fold do not."""
    raw = Raw(0, (9, 40), 8)
    found = least_squares(*raw.moments()[:2])
    assert np.isfinite(found.full).all()
    assert np.isnan(found.held_out[0]).all()
    assert np.isfinite(found.held_out[1]).all()


@pytest.mark.parametrize("sizes", [(4, 9), (3, 40)])
def test_penalised_effects_of_fewer_samples_than_snps_are_those_of_scikit_learn(sizes):
    """The first has a fold of one sample each, or an empty one."""
    raw = Raw(5, sizes, 12)
    moments = raw.moments()
    one = np.array([0.1])
    np.testing.assert_allclose(ridge(*moments, one).full[0], plain_ridge(raw.X[0], raw.y[0], one)[0][0], atol=1e-8)
    found = elastic_net(*moments, fractions=one).full[0]
    np.testing.assert_allclose(found, plain_elastic_net(raw.X[0], raw.y[0], one)[0][0], atol=1e-6)
    for method in (ridge, elastic_net):
        found = method(*moments)
        assert np.isfinite(found.held_out).all()
        assert np.isfinite(found.full).all()


def test_a_copy_of_a_snp_shares_its_effect_and_leaves_least_squares_undetermined():
    raw = Raw(6)
    for X in raw.X:
        X[:, 1] = X[:, 0]
    for method in (ridge, elastic_net):
        found = method(*raw.moments())
        np.testing.assert_allclose(found.held_out[..., 0], found.held_out[..., 1], atol=1e-9)
    found = least_squares(*raw.moments()[:2])
    assert np.isnan(found.full).all()
    assert np.isnan(found.held_out).all()


def test_a_snp_that_does_not_vary_in_a_training_set_has_no_effect_there():
    raw = Raw(7)
    X, fold = raw.X[0], raw.fold[0]
    X[fold != 2, 3] = 0.0  # rows without fold 2 are all alike
    moments = raw.moments()
    assert np.isnan(least_squares(*moments[:2]).held_out[0, 2]).all()
    without = [np.delete(np.delete(moments[0], 3, 2), 3, 3), np.delete(moments[1], 3, 2), moments[2]]
    for method in (ridge, elastic_net):
        found = method(*moments)
        assert found.held_out[0, 2, 3] == 0.0
        assert np.isfinite(found.held_out).all()
        # no fit of the inner folds knows the SNP either, but those scored on fold 2 play no part in fold 2's choice
        np.testing.assert_allclose(np.delete(found.held_out[0, 2], 3), method(*without).held_out[0, 2], atol=1e-12)


def test_responses_that_are_zero_and_tissues_without_data_have_no_effects():
    raw = Raw(8)
    gram, cross, yy = raw.moments()
    cross[0], yy[0] = 0.0, 0.0
    gram = np.concatenate([gram, np.zeros_like(gram[:1])])
    cross = np.concatenate([cross, np.zeros_like(cross[:1])])
    yy = np.concatenate([yy, np.zeros_like(yy[:1])])
    for method in (ridge, elastic_net):
        found = method(gram, cross, yy)
        assert (found.held_out[[0, 2]] == 0.0).all()
        assert (found.full[[0, 2]] == 0.0).all()
        np.testing.assert_array_equal(found.full[1], method(*raw.moments()).full[1])


def test_units_of_genotypes_and_responses_change_nothing_else():
    raw = Raw(9)
    gram, cross, yy = raw.moments()
    unit, size = np.array([10.0, 0.1, 1.0, 3.0, 1e-3]), 50.0
    for method in (ridge, elastic_net):
        found = method(gram, cross, yy)
        other = method(gram * np.outer(unit, unit), cross * unit * size, yy * size**2)
        np.testing.assert_allclose(other.held_out * unit / size, found.held_out, atol=1e-9)
        np.testing.assert_allclose(other.penalty, found.penalty)


def test_what_is_not_asked_for_changes_nothing_else():
    moments = Raw(10).moments()
    for method in (ridge, elastic_net):
        everything, whole = method(*moments), method(*moments, folds=())
        np.testing.assert_array_equal(whole.full, everything.full)
        np.testing.assert_array_equal(whole.full_penalty, everything.full_penalty)
        assert np.isnan(whole.held_out).all()
        some = method(*moments, folds=[1, 3], full=False)
        np.testing.assert_array_equal(some.held_out[:, [1, 3]], everything.held_out[:, [1, 3]])
        np.testing.assert_array_equal(some.penalty[:, [1, 3]], everything.penalty[:, [1, 3]])
        assert np.isnan(some.held_out[:, [0, 2]]).all()
        assert np.isnan(some.full).all()
        # without a fold's samples the rest is a study of its own
        rest = method(*(np.delete(part, 1, axis=1) for part in moments), folds=())
        np.testing.assert_allclose(rest.full, everything.held_out[:, 1], atol=1e-10)


def test_mistakes_are_named():
    gram, cross, yy = Raw().moments()
    with pytest.raises(ValueError, match="same tissues, folds and SNPs"):
        ridge(gram, cross[:1], yy)
    with pytest.raises(ValueError, match="at least 3 folds, got 2"):
        elastic_net(gram[:, :2], cross[:, :2], yy[:, :2])
    with pytest.raises(ValueError, match="expected finite sums"):
        least_squares(gram * np.nan, cross)
    with pytest.raises(ValueError, match="yy of shape"):
        ridge(gram, cross, yy[0])
    with pytest.raises(ValueError, match="mixing"):
        elastic_net(gram, cross, yy, mixing=0.0)
    with pytest.raises(ValueError, match="decreasing"):
        ridge(gram, cross, yy, PENALTIES[::-1])
