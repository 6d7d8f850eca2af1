"""Residuals and their correlations against projections written out, and against what independent errors give."""

from __future__ import annotations

import numpy as np
import pytest

from ebmodel.residuals import FEWEST, Frame, correlation

EXACT = 1e-9
"""Relative error allowed to two computations of one number."""
SIGMAS = 4.5
"""Standard errors by which a Monte-Carlo mean may miss."""


def frame(missing: float = 0.3, n: int = 40, p: int = 3, m: int = 7, seed: int = 0) -> tuple[Frame, np.ndarray]:
    """A constant, a covariate and SNPs; one tissue without data, one with fewer samples than columns; responses."""
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(n), rng.standard_normal((n, p + 1)) + 2.0])
    observed = rng.random((n, m)) >= missing
    observed[:, 0] = False
    observed[:, 1] = np.arange(n) < 3
    observed[:, 3] = observed[:, 2]  # two tissues of the same samples
    Y = np.where(observed, rng.standard_normal((n, m)) + design @ rng.standard_normal((p + 2, m)), np.nan)
    return Frame(design, observed), Y


def annihilator(here: Frame, t: int) -> np.ndarray:
    """M_t = W_t - W_t X (X'W_t X)^+ X'W_t, (sample, sample)."""
    W = np.diag(here.observed[:, t].astype(float))
    X = W @ here.design
    return W - X @ np.linalg.pinv(X)


# What depends on the design alone ------------------------------------------------------------------------------------


def test_residuals_are_what_the_projection_leaves(pin):
    here, Y = frame()
    E = here.residuals(Y)
    for t in range(Y.shape[1]):
        M = annihilator(here, t)
        pin(E[:, t], M @ np.nan_to_num(Y[:, t]), EXACT, scale=1.0)
        pin(here.leverage[:, t], here.observed[:, t] - np.diag(M), EXACT, scale=1.0)
        assert here.dof[t] == pytest.approx(np.trace(M), abs=EXACT)
    assert here.dof[:2].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(here.design.T @ E, 0.0, atol=1e-9)


def test_there_are_no_residuals_where_nothing_is_left():
    here, Y = frame()
    E = here.residuals(Y)
    np.testing.assert_allclose(E[~here.observed], 0.0, atol=1e-12)
    assert (E[:, :2] == 0.0).all()  # exactly: rounding error is no residual
    assert (here.leverage[here.observed[:, 1], 1] > 1.0 - EXACT).all()


def test_residuals_have_no_part_of_what_the_design_explains(pin):
    here, Y = frame()
    rng = np.random.default_rng(1)
    moved = Y + here.design @ (10.0 * rng.standard_normal((here.design.shape[1], Y.shape[1])))
    pin(here.residuals(moved), here.residuals(Y), 1e-8)


@pytest.mark.parametrize("what", ["mixed", "one column in large units", "a column twice"])
def test_residuals_depend_on_the_space_that_the_design_spans(pin, what):
    here, Y = frame()
    k = here.design.shape[1]
    other = {
        "mixed": here.design @ np.random.default_rng(2).standard_normal((k, k)),
        "one column in large units": here.design * np.where(np.arange(k) == 1, 1e12, 1.0),
        "a column twice": np.column_stack([here.design, here.design[:, :1]]),
    }[what]
    there = Frame(other, here.observed)
    np.testing.assert_array_equal(there.dof, here.dof)
    pin(there.residuals(Y), here.residuals(Y), 1e-6)
    pin(there.pairs[2], here.pairs[2], 1e-6)


def test_one_tissue_says_nothing_of_another(pin):
    here, Y = frame()
    order = np.random.default_rng(3).permutation(Y.shape[1])
    pin(Frame(here.design, here.observed[:, order]).residuals(Y[:, order]), here.residuals(Y)[:, order], EXACT)


# Correlations --------------------------------------------------------------------------------------------------------


def test_pairs_and_their_chance_correlations_match_traces(pin):
    here, _ = frame()
    want = {}
    for s in range(7):
        for t in range(s + 1, 7):
            P = np.diag((here.observed[:, s] & here.observed[:, t]).astype(float))
            Ms, Mt = (P @ annihilator(here, i) @ P for i in (s, t))
            if min(np.trace(Ms), np.trace(Mt)) >= FEWEST:
                want[s, t] = np.trace(Ms @ Mt) / (np.trace(Ms) * np.trace(Mt))
    s, t, chance = here.pairs
    assert list(zip(s.tolist(), t.tolist(), strict=True)) == list(want)
    assert 0 not in s
    assert 1 not in s
    pin(chance, list(want.values()))


def test_with_all_samples_shared_chance_is_one_over_the_degrees_of_freedom(pin):
    here, _ = frame()
    full = Frame(here.design, np.ones((40, 4), dtype=bool))
    pin(full.pairs[2], np.full(6, 1.0 / (40 - 5)))


def test_correlation_matches_a_loop(pin):
    here, Y = frame()
    E, found = here.residuals(Y), correlation(here, here.residuals(Y))
    (s_all, t_all), chance = found.pairs, here.pairs[2]
    for i, (s, t) in enumerate(zip(s_all, t_all, strict=True)):
        both = here.observed[:, s] & here.observed[:, t]
        e, f = E[both, s], E[both, t]
        assert found.r[i] == pytest.approx(e @ f / np.sqrt((e @ e) * (f @ f)), rel=EXACT)
    beyond = found.r**2 - chance
    assert found.z == pytest.approx(beyond.sum() / np.sqrt(2.0 * np.sum(chance**2)), rel=EXACT)
    assert found.excess == pytest.approx(np.sqrt(max(beyond.mean(), 0.0)), abs=EXACT)


def test_a_tissue_without_errors_has_no_correlations():
    here, Y = frame(missing=0.0)
    E = here.residuals(Y)
    E[:, 4] = 0.0
    found = correlation(here, E)
    assert 4 not in np.concatenate(found.pairs)
    assert np.isfinite(found.z)


def test_without_pairs_there_is_no_correlation():
    here, Y = frame()
    alone = Frame(here.design, here.observed[:, :3])
    found = correlation(alone, alone.residuals(Y[:, :3]))
    assert len(found.r) == 0
    assert np.isnan(found.z)
    assert np.isnan(found.excess)


def test_correlation_does_not_see_scales(pin):
    here, Y = frame()
    scale = np.exp(np.random.default_rng(4).standard_normal(7))
    a, b = (correlation(here, here.residuals(Y * by)) for by in (1.0, scale))
    pin(b.r, a.r)
    assert b.z == pytest.approx(a.z, rel=EXACT)


def test_independent_errors_have_the_correlations_that_chance_gives():
    """E r^2 is `pairs`' chance to order 1/dof, and z has mean 0 and sd 1, about: 300 draws of 21 pairs."""
    here, _ = frame(missing=0.2, n=60)
    rng = np.random.default_rng(5)
    found = [correlation(here, here.residuals(rng.standard_normal((60, 7)))) for _ in range(300)]
    squares, z = np.array([f.r**2 for f in found]), np.array([f.z for f in found])
    ratio = squares.mean(axis=1) / here.pairs[2].mean()
    assert abs(ratio.mean() - 1.0) < SIGMAS * ratio.std() / np.sqrt(300) + 0.02  # r^2's kurtosis: less than 2/dof
    assert abs(z.mean()) < SIGMAS / np.sqrt(300) + 0.1
    assert 0.7 < z.std() < 1.3


def test_excess_finds_the_correlation_of_errors():
    here, _ = frame(missing=0.2, n=100, m=12)
    rng, rho = np.random.default_rng(6), 0.4
    shared = rng.standard_normal((200, 100, 1))
    draws = np.sqrt(rho) * shared + np.sqrt(1.0 - rho) * rng.standard_normal((200, 100, 12))
    found = [correlation(here, here.residuals(Y)) for Y in draws]
    excess, r = np.array([f.excess for f in found]), np.array([f.r.mean() for f in found])
    assert abs(r.mean() - rho) < SIGMAS * r.std() / np.sqrt(200) + 0.02  # r is biased by rho (1 - rho^2)/(2 dof)
    assert abs(excess.mean() - rho) < SIGMAS * excess.std() / np.sqrt(200) + 0.02
    assert min(f.z for f in found) > 5.0
