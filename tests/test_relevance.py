"""Scales of SNPs: a fixed point of EM, never below where it began, and found where few SNPs act."""

from __future__ import annotations

import numpy as np
import pytest

import ebmodel
from ebmodel import relevance
from ebmodel.data import tidy
from ebmodel.mean import MEANS
from ebmodel.search import maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import compress, whiten

KINDS = list(MEANS)


@pytest.fixture(scope="module", params=[0.0, 0.3], ids=["complete", "missing"])
def gene(request):
    return ebmodel.simulate.sparse(nonzero=2, rho=0.5, n=60, p=8, m=20, missing=request.param, explained=0.4, seed=4)


def started(gene, mean):
    """Where omega = 1, all of them found by EM."""
    compressed = compress(tidy(gene.X, gene.Y))
    stats, whitening = whiten(compressed, np.eye(gene.sizes["snp"]))
    state, search = maximise(stats, active_sets(stats, 14, 0), 1e-9, 5000, MEANS[mean])
    return compressed, relevance._place(np.ones(gene.sizes["snp"]), stats, whitening, state, search)


@pytest.mark.parametrize("mean", KINDS)
def test_a_step_never_lowers_the_bound(gene, mean):
    compressed, place = started(gene, mean)
    for _ in range(15):
        last, place = place.value, relevance._step(compressed, place)
        assert place.value >= last
        assert place.omega.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("mean", KINDS)
def test_em_s_own_update_never_lowers_the_bound(gene, mean):
    compressed, place = started(gene, mean)
    for _ in range(5):
        slow, _ = relevance._updates(place)
        moved = relevance._move(compressed, place, slow)
        assert moved.value >= place.value - 1e-9 * abs(place.value)
        place = moved


@pytest.mark.parametrize("mean", KINDS)
def test_where_it_ends_is_a_fixed_point_of_both_updates(gene, mean):
    compressed, place = started(gene, mean)
    place = relevance._settle(compressed, place)
    slow, fast = relevance._updates(place)
    kept = place.omega > 0.05 * place.omega.max()
    assert kept.any()
    np.testing.assert_allclose(slow[kept], place.omega[kept], rtol=0.02)
    np.testing.assert_allclose(fast[kept], place.omega[kept], rtol=0.05)


@pytest.mark.parametrize("mean", KINDS)
def test_moments_are_those_of_the_draws(gene, mean):
    """delta(t) = beta(t) - beta given I(t)=1, by drawing beta and then beta(t); four standard errors."""
    _, place = started(gene, mean)
    m, v, mu, s = relevance._moments(place)
    stats, whitening, (_, gamma, eta, sigma2, about) = place.stats, place.whitening, place.state
    rng, draws = np.random.default_rng(1), 4000
    root = about.root if about.root.size else np.zeros((1, len(gamma)))
    beta = gamma + rng.standard_normal((draws, len(root))) @ root
    for t in (0, 7):
        V, d = stats.V[stats.pattern[t]], stats.d[stats.pattern[t]]
        keep = sigma2 / (sigma2 + eta * d)
        delta = (1 - keep) * (stats.b[t] - beta @ V) + np.sqrt(eta * keep) * rng.standard_normal((draws, len(d)))
        delta = delta @ (whitening.L @ V).T
        assert (np.abs(delta.mean(axis=0) - m[t]) <= 4 * np.sqrt(v[t] / draws)).all()
        np.testing.assert_allclose(delta.var(axis=0), v[t], rtol=4 * np.sqrt(2 / draws))
    effects = beta @ whitening.L.T
    assert (np.abs(effects.mean(axis=0) - mu) <= 4 * np.sqrt(s / draws) + 1e-12).all()
    np.testing.assert_allclose(effects.var(axis=0), s, rtol=4 * np.sqrt(2 / draws), atol=1e-12)


@pytest.mark.parametrize("mean", KINDS)
def test_the_fit_is_above_that_with_equal_scales_and_reproducible(gene, mean):
    fit = ebmodel.fit(gene.X, gene.Y, slab=relevance.SPARSE, mean=mean)
    assert fit.loglik > ebmodel.fit(gene.X, gene.Y, slab="independent", mean=mean).loglik
    assert fit.loglik == pytest.approx(ebmodel.loglik(gene.X, gene.Y, fit.params), abs=1e-5)
    again = ebmodel.fit(gene.X, gene.Y, slab=fit.params.slab, mean=mean)
    assert again.loglik == pytest.approx(fit.loglik, abs=1e-5)
    omega = np.diag(fit.params.slab)
    np.testing.assert_array_equal(fit.params.slab, np.diag(omega))
    kept = (omega > 1e-4 * omega.max()).sum()
    beyond = kept - 1 + {"free": 8, "zero": 0, "hierarchical": 1}[mean]
    assert fit.loglik - fit.log_evidence == pytest.approx(0.5 * np.log(20) * beyond)


def test_the_snps_that_act_are_found(gene):
    acting = (gene["effects"] != 0).any("tissue").to_numpy()
    fit = ebmodel.fit(gene.X, gene.Y, slab="sparse", mean="hierarchical")
    omega = np.diag(fit.params.slab)
    assert omega[acting].min() > omega[~acting].max()  # 2 of 8
    independent = ebmodel.fit(gene.X, gene.Y, slab="independent", mean="hierarchical")
    mse = [float(((f.effects - gene["effects"]) ** 2).mean()) for f in (fit, independent)]
    assert mse[0] < mse[1]


def test_units_of_snps_and_responses_change_nothing_else(gene):
    """X_j -> c_j X_j divides effects by c_j; omega follows, if started from equal effects in either unit."""
    units = np.random.default_rng(2).uniform(0.8, 1.25, gene.sizes["snp"])
    X, Y = gene["X"].to_numpy(), gene["Y"].to_numpy()
    fit, other = (ebmodel.fit(x, y, slab="sparse", mean="hierarchical") for x, y in ((X, Y), (X * units, -3.0 * Y)))
    np.testing.assert_allclose(other.posterior_probability, fit.posterior_probability, atol=5e-3)
    np.testing.assert_allclose(other.effects * units / -3.0, fit.effects, atol=0.02 * np.abs(fit.effects).max())


@pytest.mark.parametrize("mean", KINDS)
def test_edges(mean):
    """Nothing but noise; one SNP; more SNPs than samples; a tissue without data; collinear SNPs."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((30, 4))
    noise = rng.standard_normal((30, 6))
    noise[:, 2] = np.nan
    wide = rng.standard_normal((10, 15))
    for x, y in (
        (X, noise),
        (X[:, :1], noise + X[:, :1]),
        (np.hstack([X, X[:, :1]]), noise + X[:, :1]),
        (wide, wide[:, :1] + rng.standard_normal((10, 6))),
    ):
        fit = ebmodel.fit(x, y, slab="sparse", mean=mean)
        assert np.isfinite(fit.loglik)
        assert np.isfinite(fit.effects).all()
        assert np.isfinite(fit.effects_sd).all()
