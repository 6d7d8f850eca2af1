"""The maximum: boundaries, refusals, and the global search of the stored study."""

from __future__ import annotations

import numpy as np
import pytest

import ebmodel
from ebmodel import dense, em
from ebmodel.data import tidy
from ebmodel.search import maximise
from ebmodel.starts import active_sets
from ebmodel.statistics import compress, whiten


@pytest.fixture
def gene():
    return ebmodel.simulate.setting(1, rho=0.4, signal=2, m=12, p=4, n=25, sigma=3, seed=5)


def test_more_starts_never_end_lower(gene):
    values = [ebmodel.fit(gene.X, gene.Y, n_starts=k).loglik for k in (1, 5, 20, 64)]
    assert np.all(np.diff(values) >= 0.0)


def test_result_is_the_best_start(gene):
    fit = ebmodel.fit(gene.X, gene.Y)
    assert fit.loglik == fit.dataset["start_loglik"].max() == fit.trace[-1]
    assert np.all(np.diff(fit.trace) >= -1e-11 * abs(fit.loglik))
    assert fit.converged
    assert fit.status == "converged"


def test_stopping_early_is_said(gene):
    fit = ebmodel.fit(gene.X, gene.Y, n_starts=1, max_iter=2)
    assert not fit.converged
    assert "not converged in 2 steps: raise max_iter" in fit.status


def test_every_tissue_active_is_the_boundary_tau1_1(rng):
    X = rng.normal(size=(60, 3))
    Y = X @ (5.0 + 3.0 * rng.normal(size=(3, 15))) + rng.normal(size=(60, 15))
    fit = ebmodel.fit(X, Y)
    assert fit.params.tau1 == 1.0
    assert "boundary tau1 = 1" in fit.status
    np.testing.assert_array_equal(fit.posterior_probability, 1.0)


def test_one_common_effect_is_the_boundary_eta_0(rng):
    X = rng.normal(size=(60, 5))
    Y = X @ np.ones((5, 15)) + rng.normal(size=(60, 15))
    fit = ebmodel.fit(X, Y)
    assert fit.params.eta == 0.0
    assert "boundary eta = 0" in fit.status
    # with eta = 0 the slab is the point beta
    np.testing.assert_allclose(fit.effects_sd, 0.0, atol=1e-12)
    beta = np.linalg.lstsq(X, Y.mean(axis=1))[0]
    np.testing.assert_allclose(fit.params.beta, beta, rtol=1e-8)


def test_no_tissue_active_where_no_slab_can_gain():
    # y_t orthogonal to X in every tissue: any mean but 0, and any spread, only loses
    X = np.zeros((6, 1))
    X[0] = 1.0
    Y = np.zeros((6, 4))
    Y[1:, :] = np.random.default_rng(0).normal(size=(5, 4))
    fit = ebmodel.fit(X, Y)
    null = dense.log_null(X, Y, ebmodel.Params(tau1=0.5, beta=[0.0], eta=0.0, sigma2=np.mean(Y**2))).sum()
    assert fit.loglik == pytest.approx(null, abs=1e-9)
    assert fit.params.tau1 == 0.0
    assert "boundary tau1 = 0: no tissue active" in fit.status
    np.testing.assert_allclose(fit.effects, 0.0, atol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_trap_one_tissue_alone_on_the_slab_stays_bounded(missing):
    """Without eta >= 0 the likelihood grows without bound as sigma2 + eta -> 0 with one tissue's estimate as mean."""
    params = ebmodel.Params(tau1=0.0, beta=np.zeros(8), eta=0.0, sigma2=1.0)
    for seed in range(5):
        gene = ebmodel.simulate.model_true(params, n=30, m=4, missing=missing, seed=seed)
        fit = ebmodel.fit(gene.X, gene.Y)
        assert fit.params.eta >= 0.0
        assert 0.3 < fit.params.sigma2 < 2.0
        assert np.isfinite(fit.loglik)


def test_fewer_than_two_tissues_are_refused(gene):
    Y = gene["Y"].to_numpy().copy()
    with pytest.raises(
        ebmodel.InputError, match=r"expected at least 2 tissues with data, got 1 \('tissue0'\), in expression; do add"
    ):
        ebmodel.fit(gene.X, Y[:, :1])
    Y[:, 1:] = np.nan
    with pytest.raises(ebmodel.InputError, match="at least 2 tissues with data, got 1 "):
        ebmodel.fit(gene.X, Y)


def test_an_exact_fit_is_refused(rng):
    X = rng.normal(size=(20, 3))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(X, X @ rng.normal(size=(3, 6)))
    wide, y = rng.normal(size=(10, 15)), rng.normal(size=(10, 1))
    with pytest.raises(ebmodel.InputError, match="expected responses with noise, got an exact fit"):
        ebmodel.fit(wide, np.hstack([y, y]), slab="independent")


def test_snps_that_span_all_samples_are_refused_for_the_papers_slab_only(rng):
    X = rng.normal(size=(12, 20))
    Y = X @ rng.normal(size=(20, 6)) + rng.normal(size=(12, 6))
    with pytest.raises(
        ebmodel.InputError, match="got 12 degrees of freedom and 12 independent SNPs at most, in tissue 'tissue0'"
    ):
        ebmodel.fit(X, Y)
    fit = ebmodel.fit(X, Y, slab="independent")
    assert np.isfinite(fit.loglik)
    assert np.isnan(fit.ols).all()


def test_mean_and_n_starts_are_checked(gene):
    kinds = "'free', 'zero', 'hierarchical'"
    with pytest.raises(ebmodel.InputError, match=f"expected one of {kinds}, got 'other', in mean"):
        ebmodel.fit(gene.X, gene.Y, mean="other")
    with pytest.raises(ebmodel.InputError, match="expected at least 1, got 0, in n_starts"):
        ebmodel.fit(gene.X, gene.Y, n_starts=0)


def test_mean_effect_is_zero_where_no_active_tissue_looks(rng):
    """Samples without any response make directions that nothing observes: beta is of least norm there."""
    X = rng.normal(size=(12, 8))
    Y = X @ rng.normal(size=(8, 5)) + 0.1 * rng.normal(size=(12, 5))
    Y[6:] = np.nan  # every tissue sees the same 6 samples: 2 directions of X's 8 are never seen
    fit = ebmodel.fit(X, Y, slab="independent")
    assert fit.params.tau1 > 0.0
    unseen = np.linalg.svd(X[:6])[2][6:]
    np.testing.assert_allclose(unseen @ fit.params.beta.to_numpy(), 0.0, atol=1e-9)
    A = rng.normal(size=(8, 8))
    first, second = (
        ebmodel.fit(Z, Y + np.where(np.arange(5) < 2, np.nan, 0.0) * (np.arange(12)[:, None] > 3)) for Z in (X, X @ A)
    )
    assert first.loglik == pytest.approx(second.loglik, abs=1e-7)
    np.testing.assert_allclose(A @ second.params.beta.to_numpy(), first.params.beta.to_numpy(), rtol=1e-4, atol=1e-6)


def test_acceleration_shortens_the_slow_starts_and_ends_at_the_same_maxima():
    """Steps of plain EM and of SQUAREM from the same starts, to the same tolerance; printed with ``-s``."""
    plain, accelerated = [], []
    for k, rho in ((1, 0.0), (1, 0.8), (3, 0.0), (3, 0.8)):
        gene = ebmodel.simulate.setting(k, rho=rho, signal=0.5, seed=11)
        stats, _ = whiten(compress(tidy(gene.X, gene.Y)), "g")
        for T in active_sets(stats, 64, seed=0)[::8]:
            state = em.from_responsibilities(stats, T)
            _, trace, _ = em.run(stats, state, 1e-9, 5000)
            steps, values = 1, [-np.inf, em.expectation(stats, state)[1]]
            while values[-1] - values[-2] >= 1e-9:
                state = em.maximisation(stats, em.expectation(stats, state)[0], state)
                values.append(em.expectation(stats, state)[1])
                steps += 1
            plain.append(steps)
            accelerated.append(len(trace))
            assert trace[-1] == pytest.approx(values[-1], abs=1e-4)
    for name, steps in (("plain EM", plain), ("SQUAREM", accelerated)):
        print(f"{name}: median {np.median(steps):.0f} steps, 90 % {np.quantile(steps, 0.9):.0f}, most {max(steps)}")
    assert max(accelerated) < 0.7 * max(plain)


def test_starts_that_meet_go_on_as_one_and_no_maximum_is_lost():
    """Against EM from every start on its own: the same maximum, and all but the same ends."""
    for k, rho, signal, seed in ((1, 0.0, 0.5, 1), (3, 0.0, 0.5, 2), (3, 0.4, 1.0, 3), (1, 0.8, 2.0, 4)):
        gene = ebmodel.simulate.setting(k, rho=rho, signal=signal, m=30, p=10, seed=seed)
        stats, _ = whiten(compress(tidy(gene.X, gene.Y)), "g")
        starts = active_sets(stats, 64, 0)
        alone = np.array([em.run(stats, em.from_responsibilities(stats, T), 1e-9, 5000)[1][-1] for T in starts])
        _, search = maximise(stats, starts, 1e-9, 5000)
        assert search.loglik >= alone.max() - 1e-7
        assert np.abs(search.starts - alone).max() < 1e-2
        assert (np.diff(search.trace) >= -1e-9 * abs(search.loglik)).all()


def test_the_last_step_is_the_last_allowed():
    gene = ebmodel.simulate.setting(3, rho=0.4, signal=1, m=20, p=6, seed=1)
    for most in (1, 2, 5, 6, 7, 12):
        assert ebmodel.fit(gene.X, gene.Y, max_iter=most, tol=0.0).trace.size <= most + 2
