"""Sparse effects are as sparse, as shared, as heavy-tailed and as strong as they are said to be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import kurtosis

from ebmodel import InputError, simulate
from ebmodel.simulate.sparse import SHARING, SPREAD, TAILS

Z = 5.0
"""Standard errors allowed to a Monte-Carlo estimate; seeds are fixed."""


def causal(data: xr.Dataset) -> np.ndarray:
    """Which SNPs have an effect, (tissue, snp)."""
    return data.effects.to_numpy() != 0


def test_it_looks_like_a_setting():
    data, setting = simulate.sparse(missing=0.2, n=50), simulate.setting(3)
    assert set(data) == set(setting) - {"beta", "slab_covariance"} | {"group"}
    for name in ("X", "Y", "active", "effects"):
        assert data[name].dims == setting[name].dims
        assert data[name].shape == setting[name].shape
        assert data[name].dtype == setting[name].dtype
    assert data.snp.equals(setting.snp)
    assert data.tissue.equals(setting.tissue)
    assert (np.isnan(data.Y).sum("sample") == 10).all()
    assert {"rho", "tau1", "sigma", "missing", "nonzero", "sharing", "tails", "explained"} == set(data.attrs)


@pytest.mark.parametrize("tails", TAILS)
@pytest.mark.parametrize("sharing", SHARING)
def test_the_seed_decides(sharing, tails):
    knobs = {"sharing": sharing, "tails": tails, "n": 20, "m": 10, "missing": 0.1}
    stream = np.random.SeedSequence(4)
    first, again, other = (simulate.sparse(seed=seed, **knobs) for seed in (stream, stream, 5))
    xr.testing.assert_identical(first, again)
    assert stream.n_children_spawned == 0
    for name in ("X", "Y", "active"):
        assert not first[name].equals(other[name])


def test_other_tails_and_errors_leave_the_rest_as_it_is():
    """The same SNPs are causal and the same tissues active."""
    first, heavy, noisy = (simulate.sparse(seed=1, **knobs) for knobs in ({}, {"tails": "heavy"}, {"sigma": 3.0}))
    for data in (heavy, noisy):
        for name in ("X", "active", "group"):
            assert data[name].equals(first[name])
        np.testing.assert_array_equal(causal(data), causal(first))
    xr.testing.assert_allclose(noisy.effects, 3.0 * first.effects)
    np.testing.assert_allclose(noisy.Y, 3.0 * first.Y)


@pytest.mark.parametrize("nonzero", [1, 3, 10, 30])
@pytest.mark.parametrize("sharing", SHARING)
def test_active_tissues_have_as_many_causal_snps_as_asked_and_others_none(sharing, nonzero):
    data = simulate.sparse(nonzero=nonzero, sharing=sharing, tau1=0.6, seed=2)
    np.testing.assert_array_equal(causal(data).sum(axis=1), np.where(data.active, nonzero, 0))
    assert 0 < data.active.sum() < 50


def test_groups():
    """One, as many as asked and of equal size, or every tissue its own; within a group the same SNPs are causal."""
    for sharing, groups in (("shared", 1), ("clustered", 7), ("specific", 50)):
        data = simulate.sparse(sharing=sharing, clusters=7, tau1=1.0, p=100, seed=3)
        sizes = np.bincount(data.group)
        assert len(sizes) == groups
        assert np.ptp(sizes) <= 1
        patterns = {tuple(row) for row in causal(data)}
        assert len(patterns) == groups  # of 161,700 sets of three SNPs no two groups have the same
        for g in range(groups):
            assert len({tuple(row) for row in causal(data)[data.group == g]}) == 1
    order = simulate.sparse(sharing="clustered", seed=3).group.to_numpy()
    assert (np.diff(order) != 0).any()
    assert not all((b - a) % 5 == 1 for a, b in pairwise(order))  # in random order


def test_within_a_group_effects_are_similar():
    """Sd about the group's mean over sd of these means, many causal SNPs: SPREAD."""
    data = simulate.sparse(nonzero=400, p=400, n=20, m=40, sharing="shared", tau1=1.0, seed=4)
    effects = data.effects.to_numpy()
    within, between = effects.var(axis=0, ddof=1).mean(), effects.mean(axis=0).var(ddof=1)
    ratio = np.sqrt(within / (between - within / 40))
    # of the ratio of two sds, of which the one from 400 numbers is the less certain
    assert abs(ratio / SPREAD - 1) <= Z / np.sqrt(2 * 400)
    specific = simulate.sparse(nonzero=400, p=400, n=20, m=40, sharing="specific", tau1=1.0, seed=4).effects.to_numpy()
    correlation = np.corrcoef(specific)[np.triu_indices(40, 1)]
    assert abs(correlation.mean()) <= Z / np.sqrt(len(correlation) * 400)
    assert np.corrcoef(effects)[np.triu_indices(40, 1)].min() > 0.85


@pytest.mark.parametrize("explained", [0.1, 0.3])
@pytest.mark.parametrize("tails", TAILS)
@pytest.mark.parametrize("sharing", SHARING)
def test_effects_explain_what_they_should(sharing, tails, explained):
    data = simulate.sparse(sharing=sharing, tails=tails, explained=explained, sigma=2.0, rho=0.5, tau1=1.0, seed=5)
    signal = float(((data.X @ data.effects) ** 2).mean())
    assert signal / (signal + 2.0**2) == pytest.approx(explained)


def test_with_inactive_tissues_it_holds_on_average():
    """Of each data set's active tissues what they explain is a random part of what all would."""
    ratios = []
    for seed in range(200):
        data = simulate.sparse(sharing="specific", tau1=0.3, explained=0.2, n=40, p=10, m=20, seed=seed)
        signal = (data.X @ data.effects) ** 2
        ratios.append(float(signal.mean()) / 0.3)
    assert abs(np.mean(ratios) - 0.25) <= Z * np.std(ratios) / np.sqrt(200)


def test_errors_and_genotypes():
    data = simulate.sparse(n=4000, p=3, m=4, rho=0.6, sigma=2.0, seed=6)
    errors = (data.Y - data.X @ data.effects).to_numpy()
    assert abs(errors.std() / 2.0 - 1) <= Z / np.sqrt(2 * errors.size)
    correlation = np.corrcoef(data.X.to_numpy().T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(correlation, 0.6, atol=Z * (1 - 0.6**2) / np.sqrt(4000))
    assert abs(data.X.to_numpy().std() - 1) < Z / np.sqrt(2 * 4000)


def test_heavy_tails_are_heavy():
    """The kurtosis of t with 3 degrees of freedom is infinite, that of 15,000 normal numbers is 3 within 0.2."""
    knobs = {"nonzero": 30, "sharing": "specific", "tau1": 1.0, "m": 500, "seed": 7}
    normal, heavy = (simulate.sparse(tails=tails, **knobs).effects.to_numpy().ravel() for tails in TAILS)
    assert abs(kurtosis(normal)) <= Z * np.sqrt(24 / normal.size)
    assert kurtosis(heavy) > 3.0


def test_given_genotypes_are_used_as_they_are():
    X = pd.DataFrame(np.random.default_rng(1).integers(0, 3, (20, 4)), [f"d{i}" for i in range(20)], list("abcd"))
    data = simulate.sparse(X=X, m=3, nonzero=2, seed=8)
    np.testing.assert_array_equal(data.X, X)
    assert data.sample.to_numpy().tolist() == X.index.tolist()
    assert data.snp.to_numpy().tolist() == list("abcd")


def test_there_is_no_exact_posterior():
    with pytest.raises(InputError, match=r"without \['beta', 'slab_covariance'\]"):
        simulate.exact_posterior(simulate.sparse())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"nonzero": 0}, "1 <= nonzero <= 30, got 0"),
        ({"nonzero": 5, "p": 4}, "1 <= nonzero <= 4, got 5"),
        ({"sharing": "some"}, "shared, clustered, specific, got 'some'"),
        ({"tails": "light"}, "normal, heavy, got 'light'"),
        ({"sharing": "clustered", "clusters": 51}, "1 <= clusters <= 50, got 51"),
        ({"explained": 0.0}, "0 < explained < 1, got 0"),
        ({"explained": 1.0}, "0 < explained < 1, got 1"),
        ({"tau1": 1.1}, "0 <= tau1 <= 1"),
        ({"rho": 1.0}, "0 <= rho < 1"),
        ({"sigma": 0.0}, "sigma > 0"),
        ({"m": 0}, "m >= 1"),
        ({"missing": 1.0}, "0 <= missing < 1"),
    ],
)
def test_what_cannot_be_is_refused(knobs, message):
    with pytest.raises(InputError, match=message) as error:
        simulate.sparse(**knobs)
    assert "in simulate.sparse" in str(error.value)
