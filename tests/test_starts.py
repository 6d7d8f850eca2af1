"""Starts are distinct, ordered, equivariant, and never ask for what is not there."""

from __future__ import annotations

import numpy as np
import pytest

import ebmodel
from ebmodel.data import tidy
from ebmodel.mean import MEANS
from ebmodel.starts import ENOUGH, active_sets
from ebmodel.statistics import compress, whiten


def _stats(X, Y):
    return whiten(compress(tidy(X, Y)), "g")[0]


@pytest.fixture
def gene():
    return ebmodel.simulate.setting(3, rho=0.4, signal=1, m=12, p=4, n=20, seed=5)


def test_starts_are_distinct_sets_of_observed_tissues(gene):
    Y = gene["Y"].to_numpy().copy()
    Y[:, 3] = np.nan
    T = active_sets(_stats(gene["X"].to_numpy(), Y), 200, seed=0)
    assert set(np.unique(T)) == {0.0, 1.0}
    assert len(np.unique(T, axis=0)) == len(T)
    assert (T.sum(axis=1) >= 1).all()
    assert not T[:, 3].any()


def test_first_start_is_every_tissue_and_one_start_is_possible(gene):
    T = active_sets(_stats(gene["X"], gene["Y"]), 1, seed=0)
    np.testing.assert_array_equal(T, np.ones((1, 12)))


def test_starts_do_not_change_when_snps_are_recombined(gene, rng):
    A = rng.normal(size=(4, 4))
    first = active_sets(_stats(gene["X"].to_numpy(), gene["Y"]), 40, seed=0)
    second = active_sets(_stats(gene["X"].to_numpy() @ A, -3.0 * gene["Y"]), 40, seed=0)
    np.testing.assert_array_equal(first, second)


def test_random_starts_follow_the_seed(gene):
    stats = _stats(gene["X"], gene["Y"])
    np.testing.assert_array_equal(active_sets(stats, 90, seed=1), active_sets(stats, 90, seed=1))
    assert not np.array_equal(active_sets(stats, 90, seed=1), active_sets(stats, 90, seed=2))


def test_every_mean_has_its_number_of_starts(gene):
    assert set(ENOUGH) == set(MEANS.values())
    distinct = len(active_sets(_stats(gene["X"], gene["Y"]), 64, seed=0))
    for word, kind in MEANS.items():
        fit = ebmodel.fit(gene.X, gene.Y, mean=word)
        assert fit.dataset.sizes["start"] == min(ENOUGH[kind], distinct)
        assert ebmodel.fit(gene.X, gene.Y, mean=word, n_starts=3).dataset.sizes["start"] == 3


@pytest.mark.parametrize("mean", list(MEANS))
def test_the_search_for_alpha_adds_one_start(gene, mean):
    fit = ebmodel.fit(gene.X, gene.Y, "power", mean, n_starts=5)
    assert fit.dataset.sizes["start"] == 6
