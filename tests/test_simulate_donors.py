"""The shipped donors have the properties that they are shipped for, and come from the function that says so."""

from __future__ import annotations

import numpy as np
import pytest

from ebmodel import InputError, simulate
from ebmodel.simulate import population

PUBLISHED = 4.735, 4.824
"""Range of the mean squared error of least squares over the paper's 15 cells of Setting 4."""


def properties(counts):
    """Least minor allele frequency, and largest R^2 of two SNPs."""
    frequency = counts.mean(axis=0) / 2
    r2 = np.corrcoef(counts.T) ** 2 - np.eye(counts.shape[1])
    return np.minimum(frequency, 1 - frequency).min(), r2.max()


def ols_errors(seeds):
    """MSE of least squares in Setting 4 as it is simulated, one a data set."""
    errors = []
    for seed in seeds:
        data = simulate.setting(4, m=10, seed=seed)
        X = data.X.to_numpy()
        fits = [np.linalg.lstsq(X[~np.isnan(y)], y[~np.isnan(y)])[0] for y in data.Y.to_numpy().T]
        errors.append(np.mean((np.array(fits) - data.effects.to_numpy()) ** 2))
    return np.array(errors)


def test_shipped_donors():
    donors = population.shipped()
    assert donors.X.shape == (838, 30)
    assert set(np.unique(donors.X)) == {0.0, 1.0, 2.0}
    frequency, r2 = properties(donors.X)
    assert frequency >= 0.05
    assert r2 <= 0.5
    mse, error = population.ols_mse(donors.X, draws=1000, seed=1)
    assert PUBLISHED[0] < mse < PUBLISHED[1]
    assert error < 0.01


def test_setting_4_draws_them_by_default():
    data, donors = simulate.setting(4, seed=3), population.shipped()
    assert dict(data.sizes) == {"sample": 300, "snp": 30, "tissue": 50, "snp_other": 30}
    np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), 60)
    rows = dict(zip(donors.samples, donors.X, strict=True))
    np.testing.assert_array_equal(data.X, [rows[name] for name in data.donor.to_numpy()])
    assert len(np.unique(data.donor)) < 300  # with replacement
    named = simulate.setting(4, seed=3, genotypes=population.SHIPPED)
    np.testing.assert_array_equal(named.Y, data.Y)


def test_pruning_leaves_no_linked_pair_in_a_window():
    rng = np.random.default_rng(5)
    base = rng.integers(0, 3, (200, 40))
    counts = np.repeat(base, 5, axis=1)
    flips = rng.random(counts.shape) < 0.1
    counts = np.where(flips, rng.integers(0, 3, counts.shape), counts)
    kept = population._prune(counts)
    position = np.flatnonzero(kept)
    r2 = np.corrcoef(counts[:, kept].T) ** 2
    near = np.abs(np.subtract.outer(position, position)) < 45  # in one window, whatever the step
    assert np.where(near, np.triu(r2, 1), 0.0).max() <= 0.2
    assert 20 <= len(position) <= 45


@pytest.mark.statistical
def test_least_squares_errs_in_setting_4_as_published():
    errors = ols_errors(range(300))
    assert errors.std(ddof=1) / np.sqrt(len(errors)) < 0.04
    assert abs(errors.mean() - np.mean(PUBLISHED)) <= 4 * errors.std(ddof=1) / np.sqrt(len(errors))


@pytest.mark.statistical
def test_donors_regenerate():
    msprime, shipped = pytest.importorskip("msprime"), population.shipped()
    donors = simulate.donors()
    if msprime.__version__ == population.MADE_WITH:
        np.testing.assert_array_equal(donors, shipped.X)
        assert donors.snp.to_numpy().tolist() == shipped.snps.tolist()
        assert donors.sample.to_numpy().tolist() == shipped.samples.tolist()
    assert_like_the_paper(donors)


@pytest.mark.statistical
def test_another_seed_gives_other_donors_of_the_kind():
    donors = simulate.donors(seed=2)
    assert (donors.to_numpy() != population.shipped().X).any()
    assert_like_the_paper(donors)


def assert_like_the_paper(donors):
    frequency, r2 = properties(donors.to_numpy().astype(float))
    assert frequency >= 0.05
    assert r2 <= 0.5
    mse, error = population.ols_mse(donors, seed=9)
    assert abs(mse - 4.76) < 0.05
    assert abs(mse - donors.attrs["ols_mse"]) <= 5 * np.hypot(error, donors.attrs["ols_mse_se"])


def test_too_many_snps_are_refused():
    pytest.importorskip("msprime")
    with pytest.raises(InputError, match=r"5000 SNPs with R\^2 <= 0.5, got \d+ SNPs after pruning"):
        simulate.donors(n=50, p=5000, candidates=1)
