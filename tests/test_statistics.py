"""Sufficient statistics against direct formulas for each tissue, with n x n matrices."""

from __future__ import annotations

import numpy as np
import pytest

from ebmodel import InputError, Params, dense
from ebmodel.data import tidy
from ebmodel.statistics import compress, slab_factor, whiten


def tissues(case):
    """(A_t, y_t, degrees of freedom): the observed rows of X L and of y, regressed on the tissue's covariates."""
    for y in case.Y.T:
        rows = ~np.isnan(y)
        C = np.empty((rows.sum(), 0)) if case.C is None else case.C[rows]
        M = np.eye(rows.sum()) - C @ np.linalg.pinv(C)
        yield M @ case.X[rows] @ case.whitening.L, M @ y[rows], rows.sum() - (np.linalg.matrix_rank(C) if C.size else 0)


def test_statistics_are_those_of_the_observed_rows(case, pin):
    stats = case.stats
    for t, (A, y, dof) in enumerate(tissues(case)):
        V, d, b = stats.V[stats.pattern[t]], stats.d[stats.pattern[t]], stats.b[t]
        scale = np.linalg.norm(case.X @ case.whitening.L, 2) ** 2
        pin(V.T @ V, np.eye(len(d)), 1e-12)
        pin(V @ np.diag(d) @ V.T, A.T @ A, 1e-12, scale=scale)
        pin(V @ (d * b), A.T @ y, 1e-12, scale=np.sqrt(scale * np.nansum(case.Y**2)))
        assert stats.n[t] == dof
        assert np.sum(d > 0) == (np.linalg.matrix_rank(A, tol=1e-9 * np.sqrt(scale)) if dof else 0)
        assert (b[d == 0] == 0).all()
        pin(stats.yy[t], y @ y, 1e-12, scale=np.nansum(case.Y**2))
        rest = y - A @ np.linalg.pinv(A, rtol=1e-9) @ y if dof else y
        pin(stats.rss[t], rest @ rest, 1e-10, scale=np.nansum(case.Y**2))


def test_coordinates_and_slab(case, pin):
    """X L = U D: orthogonal columns; L L' and the null part together are the slab's shape."""
    X, theta, L, null = case.X, case.params, case.whitening.L, case.whitening.null
    X = X if case.C is None else X - case.C @ np.linalg.pinv(case.C) @ X
    gram = (X @ L).T @ (X @ L)
    pin(gram, np.diag(np.diag(gram)), 1e-12)
    pin(L @ L.T + null @ null.T, dense.slab_shape(case.X, theta, case.C), 1e-10)
    pin(X @ null, np.zeros((len(X), null.shape[1])), 1e-12, scale=np.abs(X).max() * max(1.0, np.abs(L).max()))
    assert len(gram) == np.linalg.matrix_rank(X)


def test_whitening_and_back(case, pin):
    rng, whitening = np.random.default_rng(0), case.whitening
    gamma = rng.standard_normal((3, whitening.L.shape[1]))
    pin(np.array([whitening.whiten(beta) for beta in whitening.unwhiten(gamma)]), gamma, 1e-10)
    beta = rng.standard_normal(len(whitening.L))
    back = whitening.unwhiten(whitening.whiten(beta))
    X = case.X if case.C is None else case.X - case.C @ np.linalg.pinv(case.C) @ case.X
    pin(X @ back, X @ beta, 1e-10)  # all that data can tell of beta
    if np.linalg.matrix_rank(X) == len(beta):
        pin(back, beta, 1e-10)


@pytest.mark.parametrize("shape", ["collinear", "wide"])
def test_a_mean_that_data_cannot_tell_is_the_shortest(make_case, pin, shape):
    """Least norm in the paper's slab, and with independent effects."""
    for slab in ("g", "independent", -1.0):
        case = make_case(shape, slab)
        beta = case.params.beta
        pin(case.whitening.unwhiten(case.whitening.whiten(beta)), np.linalg.pinv(case.X) @ case.X @ beta, 1e-10)
    case = make_case(shape, "matrix")  # here least beta' Sigma0^-1 beta among those of the same X beta
    X, beta, Sigma0 = case.X, case.params.beta, case.params.slab
    shortest = Sigma0 @ X.T @ np.linalg.pinv(X @ Sigma0 @ X.T, rtol=1e-10, hermitian=True) @ X @ beta
    pin(case.whitening.unwhiten(case.whitening.whiten(beta)), shortest, 1e-10)


def test_complete_data_are_one_pattern(make_case, pin):
    case = make_case("complete", "g")
    assert case.stats.pattern.tolist() == [0] * 6
    pin(case.stats.d, np.ones((1, 4)), 1e-12)
    pin(case.stats.rss, np.sum(case.Y**2, axis=0) - np.sum((np.linalg.qr(case.X)[0].T @ case.Y) ** 2, axis=0), 1e-12)


def test_tissues_seen_in_the_same_samples_share_a_pattern(make_case):
    case = make_case("missing", "g")
    Y = case.Y[:, [0, 1, 0, 2, 1, 0]] + 0.1 * np.arange(6)
    stats, _ = whiten(compress(tidy(case.X, Y)), "g")
    first = stats.pattern[[0, 1, 3]]
    assert sorted(first) == [0, 1, 2]
    assert stats.pattern.tolist() == first[[0, 1, 0, 2, 1, 0]].tolist()
    assert stats.V.shape == (3, 4, 4)
    apart = [whiten(compress(tidy(case.X, Y[:, [t]])), "g")[0] for t in range(6)]
    np.testing.assert_allclose(stats.rss, [s.rss[0] for s in apart], rtol=1e-10)


def test_the_slab_changes_nothing_but_coordinates(make_case):
    case = make_case("collinear-missing", "g")
    compressed = compress(tidy(case.X, case.Y))
    for slab in ("independent", -1.0, 2.0, make_case("collinear-missing", "matrix").params.slab):
        stats, _ = whiten(compressed, slab)
        for name in ("pattern", "n", "yy", "rss"):
            np.testing.assert_array_equal(getattr(stats, name), getattr(case.stats, name))


@pytest.mark.parametrize("shape", ["complete", "collinear", "wide"])
@pytest.mark.parametrize("slab", ["g", "independent", -1.0, 0.5, "matrix"])
def test_slab_factor(make_case, pin, shape, slab):
    case = make_case(shape, slab)
    S = slab_factor(case.X, case.params.slab)
    pin(S @ S.T, dense.slab_shape(case.X, case.params), 1e-10)


def matrix(*entries):
    return np.array(entries, dtype=float)


@pytest.mark.parametrize(
    ("slab", "message"),
    [
        (np.eye(3), "symmetric 4 x 4 matrix, got shape \\(3, 3\\)"),
        (np.eye(4) + np.triu(np.ones((4, 4)), 1), "symmetric 4 x 4 matrix"),
        (np.diag([1.0, 1.0, 1.0, 0.0]), "positive definite matrix, got eigenvalue 0"),
        (np.diag([1.0, 1.0, 1.0, -1.0]), "positive definite matrix, got eigenvalue -1"),
        (np.full((4, 4), np.nan), "matrix"),
        ("ridge", "'g', 'independent'.* got 'ridge'"),
        (np.inf, "finite power, got inf"),
        (np.nan, "finite power, got nan"),
    ],
)
def test_slabs_that_are_no_covariance(make_case, slab, message):
    case = make_case("complete", "g")
    compressed = compress(tidy(case.X, case.Y))
    with pytest.raises(InputError, match=message):
        whiten(compressed, slab)


def test_snp_made_of_covariates(make_case):
    case = make_case("covariates", "g")
    X = case.X.copy()
    X[:, 2] = case.C @ [1.0, -2.0]
    with pytest.raises(InputError, match="'snp2', a combination of them, in genotypes"):
        compress(tidy(X, case.Y, case.C))


def test_more_covariates_than_samples():
    rng = np.random.default_rng(0)
    X, Y, C = rng.standard_normal((8, 2)), rng.standard_normal((8, 3)), rng.standard_normal((8, 4))
    Y[4:] = np.nan
    with pytest.raises(InputError, match="a tissue with more samples than covariates, got at most 4 for 4 covariates"):
        compress(tidy(X, Y, C))


def test_power_one_is_the_paper_up_to_scale(make_case, pin):
    case = make_case("missing", "g")
    one = make_case("missing", 1.0)
    s = np.mean(np.linalg.eigvalsh(case.X.T @ case.X))
    pin(one.stats.d, s * case.stats.d, 1e-12)
    theta = one.params
    same = Params(tau1=theta.tau1, beta=theta.beta, eta=s * theta.eta, sigma2=theta.sigma2, slab="g")
    pin(dense.log_slab(case.X, case.Y, same), dense.log_slab(*one.dense), 1e-12)
