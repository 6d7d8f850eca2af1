"""The scan's t are least squares, of whole and training sets; its z have the same tail; its choice is greedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from ebmodel import InputError
from ebmodel.eqtl.scan import (
    Projection,
    _normal_quantile,
    fold_sums,
    marginal_t,
    overlap_correlation,
    select,
    stouffer,
    t_from_sums,
    z_from_t,
)

Array = NDArray[np.float64]


def study(n: int = 60, p: int = 8, genes: int = 3, k: int = 4, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    G = rng.binomial(2, rng.uniform(0.2, 0.8, p), (n, p)).astype(float)
    C = rng.normal(3, 1, (n, k))
    Y = 5 + G @ rng.normal(0, 0.2, (p, genes)) + C @ rng.normal(0, 1, (k, genes)) + rng.normal(0, 1, (n, genes))
    return G, Y, C


def least_squares_t(x: Array, y: Array, C: Array) -> tuple[float, int]:
    """T statistic of x in the regression of y on x, C and an intercept, by least squares on the whole design."""
    design = np.column_stack([x, np.ones(len(y)), C])
    b, _, rank, _ = np.linalg.lstsq(design, y)
    residual, dof = y - design @ b, len(y) - rank
    variance = residual @ residual / dof * np.linalg.pinv(design.T @ design)[0, 0]
    return float(b[0] / np.sqrt(variance)), int(dof)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(12, 80), st.integers(0, 5))
def test_t_is_that_of_least_squares(seed: int, n: int, k: int) -> None:
    G, Y, C = study(n, seed=seed, k=k)
    t, dof = marginal_t(G, Y, Projection.of(C))
    assert t.shape == (8, 3)
    for j in range(8):
        if np.ptp(G[:, j]) == 0:
            assert np.isnan(t[j]).all()
            continue
        for gene in range(3):
            want, left = least_squares_t(G[:, j], Y[:, gene], C)
            assert t[j, gene] == pytest.approx(want, rel=1e-9, abs=1e-10)
            assert dof == left


def test_covariates_that_repeat_each_other_count_once() -> None:
    G, Y, C = study()
    twice = np.column_stack([C, C[:, 0] - 2 * C[:, 1], np.full(len(C), 7.0), np.zeros(len(C))])
    (t, dof), (same, left) = marginal_t(G, Y, Projection.of(C)), marginal_t(G, Y, Projection.of(twice))
    np.testing.assert_allclose(same, t, rtol=1e-10)
    assert dof == left == 60 - 4 - 1 - 1


def test_a_projection_leaves_nothing_of_its_covariates() -> None:
    G, _, C = study()
    projection = Projection.of(C)
    assert projection.dof == 55
    assert projection.leverage.sum() == pytest.approx(5)
    assert np.abs(np.column_stack([np.ones(60), C]).T @ projection.residual(G)).max() < 1e-10
    np.testing.assert_array_equal(projection.residual(C @ np.ones(4) + 3), np.zeros(60))
    np.testing.assert_array_equal(Projection.of(np.empty((60, 0)), intercept=False).residual(G), G)


def test_what_does_not_vary_has_no_t() -> None:
    G, Y, C = study()
    G[:, 1], G[:, 2], Y[:, 0] = 1.0, 2 * C[:, 0] - C[:, 3], C[:, 1] + 4
    t, _ = marginal_t(G, Y, Projection.of(C))
    assert np.isnan(t[[1, 2]]).all()
    assert np.isnan(t[:, 0]).all()
    assert np.isfinite(np.delete(t, [1, 2], axis=0)[:, 1:]).all()
    few, dof = marginal_t(G[:6], Y[:6], Projection.of(C[:6]))
    assert dof == 0
    assert np.isnan(few).all()


def test_a_perfect_fit_is_finite_and_the_largest() -> None:
    G, Y, C = study()
    Y[:, 0] = 2 * G[:, 3] + C[:, 0]
    t, _ = marginal_t(G, Y, Projection.of(C))
    assert 1e6 < t[3, 0] < np.inf


@pytest.mark.parametrize("ordered", [True, False])
def test_folds_add_up_and_leave_training_sets(ordered: bool) -> None:
    G, Y, C = study(n=90)
    projection = Projection.of(C)
    fold = np.random.default_rng(1).integers(0, 5, 90)
    fold = np.sort(fold) if ordered else fold
    x, y = projection.residual(G), projection.residual(Y)
    sums = fold_sums(x, y, fold, 6, projection.leverage)  # the last fold is empty
    whole = sums.total()
    t, dof = marginal_t(G, Y, projection)
    np.testing.assert_allclose(t_from_sums(*whole[:3], whole.count - 1)[0], t, rtol=1e-10)
    assert whole.count[0] - 1 == pytest.approx(dof)
    training = sums.training()
    found = t_from_sums(*training[:3], training.count - 1)
    for f in range(6):
        rest = fold != f
        left = np.sum(1 - projection.leverage[rest]) - 1
        b = x[rest].T @ y[rest] / np.sum(x[rest] ** 2, axis=0)[:, None]
        rss = np.sum((y[rest][:, None] - x[rest][:, :, None] * b) ** 2, axis=0)
        want = b * np.sqrt(np.sum(x[rest] ** 2, axis=0)[:, None] * left / rss)
        np.testing.assert_allclose(found[f], want, rtol=1e-9)
    np.testing.assert_allclose(found[5], t, rtol=1e-9)


def test_a_snp_that_varies_in_one_fold_alone_has_no_t_without_it() -> None:
    _, Y, C = study(n=50, k=0)
    fold = np.repeat(np.arange(5), 10)
    x = np.where(fold == 2, np.arange(50) % 2 - 0.5, 0.0)[:, None]  # sums to zero, so nothing is left elsewhere
    projection = Projection.of(C)
    sums = fold_sums(projection.residual(x), projection.residual(Y), fold, 5, projection.leverage).training()
    t = t_from_sums(*sums[:3], sums.count - 1)
    assert np.isnan(t[2]).all()
    assert np.isfinite(t[[0, 1, 3, 4]]).all()


def test_the_count_of_a_training_set_is_the_size_of_its_noise() -> None:
    rng = np.random.default_rng(3)
    C = rng.normal(size=(60, 6))
    projection, fold = Projection.of(C), np.arange(60) % 4
    noise = projection.residual(rng.normal(0, 1, (60, 20_000)))
    training = fold_sums(np.zeros((60, 1)), noise, fold, 4, projection.leverage).training()
    error = training.yy.std(axis=1) / np.sqrt(20_000)
    assert (np.abs(training.yy.mean(axis=1) - training.count) < 4 * error).all()


KNOWN = [  # dof, t, z: multiple precision
    (1.0, 0.001, 0.0007978843794996201),
    (1.0, 1.0, 0.6744897501960817),
    (1.0, 6.0, 1.620444098703418),
    (1.0, 60.0, 2.555309316063791),
    (4.0, 0.001, 0.0009399855455806051),
    (4.0, 1.0, 0.8891900184743317),
    (4.0, 6.0, 2.887550962447094),
    (4.0, 60.0, 5.041413026029689),
    (143.25, 0.001, 0.0009982563336868665),
    (143.25, 1.0, 0.9965217462420394),
    (143.25, 6.0, 5.657334142243281),
    (143.25, 60.0, 21.59218268133678),
    (700.0, 0.001, 0.0009996429206752364),
    (700.0, 1.0, 0.9992862241864081),
    (700.0, 6.0, 5.922827655661515),
    (700.0, 60.0, 35.63606817995622),
]


@pytest.mark.parametrize(("dof", "t", "z"), KNOWN)
def test_z_is_that_of_multiple_precision(dof: float, t: float, z: float) -> None:
    np.testing.assert_allclose(z_from_t([t, -t], dof), [z, -z], rtol=2e-11)


@pytest.mark.parametrize("dof", [1.0, 1.5, 3.0, 9.7, 40.0, 199.9, 670.0, 5000.0])
def test_z_has_the_tail_of_t(dof: float) -> None:
    t = np.linspace(-8, 8, 201)
    np.testing.assert_allclose(z_from_t(t, dof), -np.sign(t) * stats.norm.ppf(stats.t.sf(np.abs(t), dof)), atol=2e-10)
    far = np.geomspace(0.5, 1e4, 200)
    np.testing.assert_allclose(z_from_t(far, dof), _normal_quantile(far, np.full(200, dof)), rtol=2e-11)


def test_z_of_many_tissues_at_once_is_that_of_each() -> None:
    rng = np.random.default_rng(0)
    dof = np.array([30.0, 200.0, 30.0, 0.0, 31.5])
    t = rng.standard_t(5, (5, 40))
    t[1, 3], t[3] = np.nan, np.nan
    z = z_from_t(t, dof[:, None])
    np.testing.assert_array_equal(np.isnan(z), np.isnan(t))
    for row in (0, 1, 2, 4):
        np.testing.assert_array_equal(z[row], z_from_t(t[row], dof[row]))
    np.testing.assert_array_equal(z_from_t(t[:, :, None], dof[:, None, None])[:, :, 0], z)
    assert z_from_t(2.0, 10.0).shape == ()
    assert z_from_t(np.empty((3, 0)), np.ones((3, 1))).shape == (3, 0)


def test_tails_beyond_floating_point_stay_ordered_and_right() -> None:
    t = np.array([0.0, 1.0, 30.0, 1e3, 1e60, 1e80, 1e100])
    z = _normal_quantile(t, np.full(t.shape, 4.0))
    assert z[0] == pytest.approx(0.0, abs=1e-15)
    assert (np.diff(z) > 0).all()
    # P(T > t) -> Gamma((v+1)/2) / (sqrt(v pi) Gamma(v/2)) v^((v+1)/2) / v t^-v as t grows
    v = 4.0
    constant = special.gammaln((v + 1) / 2) - special.gammaln(v / 2) - 0.5 * np.log(v * np.pi)
    log_tail = constant + (v + 1) / 2 * np.log(v) - np.log(v) - v * np.log(t[3:])
    np.testing.assert_allclose(special.log_ndtr(-z[3:]), log_tail, rtol=1e-5)
    np.testing.assert_allclose(special.log_ndtr(-z[4:]), log_tail[1:], rtol=1e-12)


def test_both_ways_to_the_tail_agree_where_they_meet() -> None:
    dof = np.full(200, 800.0)
    z = _normal_quantile(np.linspace(40.0, 60.0, 200), dof)  # log tails from -440 to -770: either side of the change
    assert np.abs(np.diff(z, 4)).max() < 5e-9  # a step of that size would show in the fourth differences


def test_stouffer_leaves_out_tissues_without_a_z() -> None:
    z = np.array([[1.0, np.nan, 2.0, np.nan], [3.0, 4.0, -2.0, np.nan], [2.0, np.nan, 45.0, np.nan]])
    Z, p = stouffer(z)
    np.testing.assert_allclose(Z, [6 / np.sqrt(3), 4.0, 45 / np.sqrt(3), np.nan])
    np.testing.assert_allclose(p, 2 * stats.norm.sf(np.abs(Z)), rtol=1e-12)
    both, _ = stouffer(z[:, :, None])
    np.testing.assert_array_equal(both[:, 0], Z)
    R = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.0], [0.2, 0.0, 1.0]])
    Z, _ = stouffer(z, R)
    np.testing.assert_allclose(Z, [6 / np.sqrt(3 + 2 * 0.7), 4.0, 45 / np.sqrt(3 + 2 * 0.7), np.nan])
    np.testing.assert_array_equal(stouffer(z, np.eye(3))[0], stouffer(z)[0])


def test_overlap_is_the_share_of_donors_times_the_correlation() -> None:
    y = np.array([[1.0, 2.0, np.nan], [2.0, 1.0, np.nan], [-3.0, np.nan, 1.0], [np.nan, -3.0, -1.0]])
    R = overlap_correlation(y)
    np.testing.assert_allclose(R[0], [1, 4 / 14, -3 / np.sqrt(14 * 2)])
    np.testing.assert_array_equal(np.diag(R), 1.0)
    np.testing.assert_array_equal(R, R.T)


def by_hand(Z: Array, G: Array, p: float | None, r2: float, most: int) -> tuple[list[int], dict[int, int]]:
    tail = 2 * stats.norm.sf(np.abs(Z))
    kept: list[int] = []
    linked = {}
    for j in sorted(np.flatnonzero(np.isfinite(Z)), key=lambda j: -abs(Z[j])):
        if (p is not None and tail[j] >= p) or len(kept) == most:
            continue
        near = [k for k in kept if np.corrcoef(G[:, j], G[:, k])[0, 1] ** 2 > r2]
        if near:
            linked[int(j)] = near[0]
        else:
            kept.append(int(j))
    return kept, linked


@pytest.mark.parametrize("block", [3, 256])
@pytest.mark.parametrize(("p", "r2", "most"), [(1e-6, 0.5, 99), (None, 0.02, 99), (0.1, 0.1, 7), (1e-3, 1.0, 5)])
def test_the_choice_is_greedy(
    p: float | None, r2: float, most: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebmodel.eqtl.scan._BLOCK", block)
    rng = np.random.default_rng(4)
    base = rng.normal(size=(80, 12))
    G = np.repeat(base, 5, axis=1) + rng.normal(0, 0.8, (80, 60))
    Z = rng.normal(0, 6, 60)
    Z[7] = np.nan
    found = select(Z, G, p, r2, most)
    kept, linked = by_hand(Z, G, p, r2, most)
    assert found.positions.tolist() == kept
    assert {int(j): int(found.linked[j]) for j in np.flatnonzero(found.linked >= 0)} == linked
    tail = 2 * stats.norm.sf(np.abs(Z))
    np.testing.assert_array_equal(found.weak, ~np.isfinite(Z) if p is None else ~(tail < p))


def test_nothing_passes_where_nothing_is_associated() -> None:
    found = select(np.array([1.0, np.nan, -4.8]), np.eye(5)[:, :3])
    assert found.positions.tolist() == []
    assert found.weak.all()
    assert select(np.empty(0), np.empty((5, 0))).positions.shape == (0,)


def test_order_holds_where_p_underflows_and_copies_go() -> None:
    rng = np.random.default_rng(0)
    G = rng.normal(size=(50, 3))
    G = np.column_stack([G, 2 - G[:, 2], np.ones(50)])
    found = select(np.array([50.0, -70.0, 60.0, 59.0, np.nan]), G)
    assert found.positions.tolist() == [1, 2, 0]
    assert found.linked.tolist() == [-1, -1, -1, 2, -1]


@pytest.mark.parametrize(
    ("settings", "words"), [({"p": 0.0}, "in p"), ({"r2": 1.2}, "in r2"), ({"most": 0}, "in most")]
)
def test_ranges_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        select(np.ones(2), np.eye(2), **settings)


@pytest.mark.statistical
@pytest.mark.parametrize("rho", [0.0, 0.2, 0.4])
def test_donors_in_common_inflate_z_by_the_amount_that_the_overlap_says(rho: float) -> None:
    rng = np.random.default_rng(int(10 * rho))
    n, m, p, genes = 838, 32, 1000, 8
    sizes = np.linspace(200, 706, m).astype(int)
    plain, corrected, expected = [], [], []
    for _ in range(genes):
        G = rng.binomial(2, rng.uniform(0.05, 0.5, p), (n, p)).astype(float)
        E = np.sqrt(rho) * rng.normal(size=(n, 1)) + np.sqrt(1 - rho) * rng.normal(size=(n, m))
        z, residuals = np.empty((m, p)), np.full((n, m), np.nan)
        for t in range(m):
            rows = rng.choice(n, sizes[t], replace=False)
            projection = Projection.of(np.empty((sizes[t], 0)))
            found, dof = marginal_t(G[rows], E[rows, t : t + 1], projection)
            z[t], residuals[rows, t] = z_from_t(found[:, 0], dof), projection.residual(E[rows, t])
        R = overlap_correlation(residuals)
        plain.append(stouffer(z))
        corrected.append(stouffer(z, R))
        expected.append(R.sum() / m)  # 1'R1 / m
    variance = np.array([np.mean(Z**2) for Z, _ in plain]) / expected
    error = np.sqrt(2 / p / genes)
    assert abs(variance.mean() - 1) < 4 * error
    passing = np.mean([p < 1e-6 for _, p in plain])
    assert passing < 1e-3 if rho == 0 else passing > 0.01  # one in a million was asked for
    assert np.mean([p < 1e-6 for _, p in corrected]) < 3 / (p * genes)
    share = np.mean([p < 0.05 for _, p in corrected])
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / p / genes)


def test_t_of_a_tissue_of_gtex_size_is_that_of_least_squares() -> None:
    """213 samples, 68 covariates of very different scales: equal to 1e-10."""
    rng = np.random.default_rng(20)
    C = rng.standard_normal((213, 68)) * np.geomspace(1e-2, 1e2, 68)
    G = rng.binomial(2, 0.3, (213, 12)).astype(float)
    Y = 0.3 * G[:, :2] + rng.standard_normal((213, 2)) + C @ rng.standard_normal((68, 2))
    t, dof = marginal_t(G, Y, Projection.of(C))
    assert dof == 213 - 68 - 2
    for j in range(12):
        Q, R = np.linalg.qr(np.column_stack([np.ones(213), C, G[:, j]]))  # the SNP last: its row of R is all it needs
        for gene in range(2):
            rotated = Q.T @ Y[:, gene]
            residual = Y[:, gene] - Q @ rotated
            want = rotated[-1] * np.sign(R[-1, -1]) / np.sqrt(residual @ residual / dof)
            assert t[j, gene] == pytest.approx(want, rel=1e-10, abs=1e-10)
