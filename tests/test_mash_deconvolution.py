"""Extreme deconvolution against conditional-normal formulas, closed forms and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from ebmodel.errors import InputError
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import Effects, tidy
from ebmodel.mash.deconvolution import (
    State,
    _expectation,
    _factors,
    _first,
    _maximisation,
    _reduce,
    deconvolve,
)

KINDS = ["common", "unequal", "missing", "own"]


def data(kind: str = "unequal", J: int = 80, R: int = 4, seed: int = 1, alpha: float = 0.0) -> Effects:
    """Two patterns of rank 1 and one of full rank, with correlated errors."""
    rng = np.random.default_rng(seed)
    F = 2.0 * rng.standard_normal((2, R))
    pattern = rng.integers(3, size=J)
    b = np.where((pattern < 2)[:, None], F[pattern % 2] * rng.standard_normal((J, 1)), rng.standard_normal((J, R)))
    s = np.ones((J, R)) if kind == "common" else np.exp(0.4 * rng.standard_normal((J, R)))
    C = 0.7 * np.eye(R) + 0.3
    bhat = b + s * rng.multivariate_normal(np.zeros(R), C, J)
    if kind == "missing":
        gone = rng.random((J, R)) < 0.25
        gone[np.arange(J), rng.integers(R, size=J)] = False
        bhat[gone] = np.nan
    if kind == "own":
        rho = rng.uniform(-0.2, 0.5, J)[:, None, None]
        C = (1.0 - rho) * np.eye(R) + rho
    return tidy(bhat, s, C, alpha)


def starts(R: int = 4, seed: int = 2) -> list[Covariance]:
    rng = np.random.default_rng(seed)
    return [
        Covariance("line", rng.standard_normal((R, 1))),
        Covariance("plane", rng.standard_normal((R, 2))),
        Covariance.from_matrix("all", 0.5 * np.eye(R) + 0.5),
    ]


def dense_loglik(effects: Effects, U: list[np.ndarray], pi: np.ndarray) -> float:
    total = -effects.log_scale().sum()
    for j, O in enumerate(effects.observed):
        V, b = effects.V(j)[np.ix_(O, O)], effects.B[j, O]
        total += np.log(
            sum(p * multivariate_normal.pdf(b, cov=V + M[np.ix_(O, O)]) for p, M in zip(pi, U, strict=True))
        )
    return float(total)


def dense_step(effects: Effects, U: list[np.ndarray], pi: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The E-step and M-step of Bovy et al. as printed, with projections and means of 0."""
    J, R = effects.B.shape
    q, b, B = np.empty((J, len(U))), np.empty((J, len(U), R)), np.empty((J, len(U), R, R))
    for j in range(J):
        P = np.eye(R)[effects.observed[j]]  # their R_i
        w, S = effects.B[j, effects.observed[j]], P @ np.nan_to_num(effects.V(j)) @ P.T
        for k, M in enumerate(U):
            T = P @ M @ P.T + S
            q[j, k] = pi[k] * multivariate_normal.pdf(w, cov=T)
            b[j, k] = M @ P.T @ np.linalg.inv(T) @ w
            B[j, k] = M - M @ P.T @ np.linalg.inv(T) @ P @ M
    q /= q.sum(axis=1, keepdims=True)
    new = [np.einsum("j,jab->ab", q[:, k], b[:, k, :, None] * b[:, k, None, :] + B[:, k]) / q[:, k].sum()
           for k in range(len(U))]  # fmt: skip
    return new, q.mean(axis=0)


@pytest.mark.parametrize("kind", ["unequal", "missing", "own"])
def test_one_step_is_that_of_the_paper(kind):
    effects, start = data(kind), starts()
    rows = _reduce(effects, start, "kept")
    pi = np.array([0.2, 0.3, 0.5])
    state = State(pi, tuple(_first(space, one) for space, one in zip(rows.spaces, start, strict=True)))
    q, posteriors, loglik = _expectation(rows, state)
    after = _maximisation(rows, state, q, posteriors)
    U, weights = dense_step(effects, [one.matrix for one in start], pi)
    assert_allclose(loglik, dense_loglik(effects, [one.matrix for one in start], pi), rtol=1e-12)
    assert_allclose(after.pi, weights, rtol=1e-10)
    for space, L, expected in zip(rows.spaces, after.L, U, strict=True):
        factor = space.basis @ L
        assert_allclose(factor @ factor.T, expected, rtol=1e-9, atol=1e-10)


def test_free_factors_solve_their_normal_equations():
    effects, start = data("missing"), starts()[:2]
    rows = _reduce(effects, start, "free")
    state = State(
        np.array([0.4, 0.6]), tuple(_first(space, one) for space, one in zip(rows.spaces, start, strict=True))
    )
    q, posteriors, _ = _expectation(rows, state)
    for k, space in enumerate(rows.spaces):
        F = space.basis @ _factors(rows, space, q[:, k], posteriors[k])
        old = space.basis @ state.L[k]
        gradient = np.zeros_like(F)
        for j, O in enumerate(effects.observed):  # of E log N(b_hat; F u, V) over u | b_hat at the old F
            inverse = np.linalg.inv(effects.V(j)[np.ix_(O, O)])
            P = np.linalg.inv(np.eye(old.shape[1]) + old[O].T @ inverse @ old[O])
            mu = P @ old[O].T @ inverse @ effects.B[j, O]
            gradient[O] += q[j, k] * inverse @ (np.outer(effects.B[j, O], mu) - F[O] @ (np.outer(mu, mu) + P))
        assert_allclose(gradient, 0.0, atol=1e-9)


@pytest.mark.parametrize("directions", ["kept", "free"])
@pytest.mark.parametrize("kind", KINDS)
def test_likelihood_never_falls_and_is_the_one_reported(kind, directions):
    effects, start = data(kind, alpha=0.5), starts()
    found = deconvolve(effects, start, directions=directions, max_iter=60)
    assert np.diff(found.trace).min() > -1e-9
    assert found.trace[-1] > found.trace[0] + 5.0
    assert_allclose(found.trace[0], dense_loglik(effects, [one.matrix for one in start], np.full(3, 1 / 3)), rtol=1e-12)
    assert_allclose(
        found.loglik, dense_loglik(effects, [one.matrix for one in found.covariances], found.weights), rtol=1e-12
    )
    assert_allclose(found.weights.sum(), 1.0)
    assert [one.name for one in found.covariances] == ["line", "plane", "all"]
    line, plane = (one.rank for one in found.covariances[:2])
    assert line == 1
    assert plane == 2 or (plane == 1 and kind == "common")  # the closed form drops a dimension that is error alone


@pytest.mark.parametrize("kind", ["common", "unequal"])
def test_low_rank_keeps_its_columns_unless_free(kind):
    effects, start = data(kind), starts()[1:2]
    turned = {}
    for directions in ("kept", "free"):
        factor = deconvolve(effects, start, directions=directions).covariances[0].factor
        left = factor - start[0].factor @ np.linalg.lstsq(start[0].factor, factor)[0]
        turned[directions] = np.linalg.norm(left) / np.linalg.norm(factor)
    assert turned["kept"] < 1e-10
    assert turned["free"] > 0.1


def closed_form(effects: Effects, rank: int | None = None) -> np.ndarray:
    """The maximiser for one covariance and equal errors: V^1/2 (S_z - I)_+ V^1/2, of the largest eigenvalues."""
    root = sqrtm(effects.V(0)).real
    z = effects.B @ np.linalg.inv(root)
    value, vector = np.linalg.eigh(z.T @ z / len(z))
    value = np.maximum(value - 1.0, 0.0)
    value[: len(value) - (rank or len(value))] = 0.0
    return root @ (vector * value) @ vector.T @ root


@pytest.mark.parametrize(("rank", "directions"), [(None, "kept"), (1, "free"), (2, "free")])
def test_one_covariance_with_equal_errors_has_a_closed_form(rank, directions):
    effects = data("common", J=300)
    rng = np.random.default_rng(4)
    start = Covariance("all", rng.standard_normal((4, rank or 4)))
    expected = closed_form(effects, rank)
    found = deconvolve(effects, [start], directions=directions)
    assert_allclose(found.covariances[0].matrix, expected, atol=1e-8)
    # with errors that are unequal in the tenth digit b is latent in every step, and they lead to the same place
    S = effects.S.copy()
    S[0, 0] += 1e-10
    stepped = deconvolve(tidy(effects.B, S, effects.C), [start], directions=directions, tol=1e-10, max_iter=5000)
    assert stepped.converged
    assert len(stepped.trace) > len(found.trace)
    assert_allclose(stepped.loglik, found.loglik, rtol=1e-6)
    assert_allclose(stepped.covariances[0].matrix, expected, atol=2e-3)


def test_a_condition_without_estimates_changes_nothing_for_the_others():
    effects, start = data("unequal"), starts()
    B = effects.B.copy()
    B[:, 2] = np.nan
    kept = [0, 1, 3]
    whole = deconvolve(tidy(B, effects.S, effects.C), start[:2], max_iter=50)
    fewer = [Covariance(one.name, one.factor[kept]) for one in start[:2]]
    part = deconvolve(tidy(B[:, kept], effects.S[:, kept], effects.C[np.ix_(kept, kept)]), fewer, max_iter=50)
    assert_allclose(whole.loglik, part.loglik, rtol=1e-10)
    assert_allclose(whole.weights, part.weights, rtol=1e-7)
    for one, other in zip(whole.covariances, part.covariances, strict=True):
        assert_allclose(one.matrix[np.ix_(kept, kept)], other.matrix, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("directions", ["kept", "free"])
def test_order_of_conditions_and_of_rows_does_not_matter(directions):
    effects, start = data("missing"), starts()
    order, rows = np.array([2, 0, 3, 1]), np.random.default_rng(0).permutation(len(effects.B))
    shuffled = tidy(effects.B[rows][:, order], effects.S[rows][:, order], effects.C[np.ix_(order, order)])
    one = deconvolve(effects, start, directions=directions, max_iter=20)
    other = deconvolve(
        shuffled, [Covariance(U.name, U.factor[order]) for U in start], directions=directions, max_iter=20
    )
    assert_allclose(one.loglik, other.loglik, rtol=1e-10)
    for U, W in zip(one.covariances, other.covariances, strict=True):
        assert_allclose(U.matrix[np.ix_(order, order)], W.matrix, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("directions", ["kept", "free"])
def test_rows_that_share_no_condition(directions):
    rng = np.random.default_rng(3)
    B = np.full((120, 4), np.nan)
    B[:60, :2], B[60:, 2:] = 4.0 * rng.standard_normal((60, 1)), 30.0 * rng.standard_normal((60, 1))
    B += rng.standard_normal(B.shape)
    start = [Covariance("small", np.ones((4, 1))), Covariance("large", 20.0 * np.ones((4, 1)))]
    found = deconvolve(tidy(B), start, directions=directions)
    assert np.diff(found.trace).min() > -1e-9
    assert np.isfinite(found.loglik)
    assert_allclose(found.loglik, dense_loglik(tidy(B), [one.matrix for one in found.covariances], found.weights))


def test_conditions_without_variance_stay_so():
    start = [Covariance("some", np.array([[1.0], [0.5], [0.0], [0.0]]))]
    found = deconvolve(data("missing"), start, max_iter=10)
    assert found.covariances[0].support.tolist() == [0, 1]


def test_finds_two_planted_patterns():
    rng = np.random.default_rng(11)
    R, J = 8, 1000
    F = np.array([[2, 2, 2, 2, 0, 0, 0, 0], [0, 0, 3, -3, 3, 0, 0, 1]], dtype=float)
    which = rng.random(J) < 0.3
    b = np.where(which[:, None], F[1], F[0]) * rng.standard_normal((J, 1))
    s = np.exp(0.2 * rng.standard_normal((J, R)))
    effects = tidy(b + s * rng.standard_normal((J, R)), s)
    _, d, v = np.linalg.svd(effects.B, full_matrices=False)
    start = [Covariance(f"pca_{k + 1}", v[k][:, None] * d[k] / np.sqrt(J)) for k in range(2)]
    found = deconvolve(effects, start, directions="free")
    assert found.converged
    assert found.status == "converged"
    for k, truth in enumerate(F):
        factor = found.covariances[k].factor[:, 0]
        assert abs(factor @ truth) / np.linalg.norm(factor) / np.linalg.norm(truth) > 0.995
        assert_allclose(np.linalg.norm(factor), np.linalg.norm(truth), rtol=0.15)
    # the standard error of a share known without error is .0145; errors blur which is which
    assert_allclose(found.weights[1], which.mean(), atol=3 * 0.0145)


def test_nothing_but_error_leaves_nothing():
    z = np.random.default_rng(1).standard_normal((200, 3))
    z /= np.sqrt((z**2).mean(axis=0)) * 1.1  # less than errors are
    found = deconvolve(tidy(z), [Covariance("line", np.array([[1.0], [0.0], [0.0]]))])
    assert found.covariances[0].rank == 0
    assert not found.covariances[0].matrix.any()
    assert found.status == "converged; nothing but error left to 'line'"


def test_says_that_it_was_stopped():
    found = deconvolve(data(), starts(), max_iter=4)
    assert not found.converged
    assert found.status == "stopped after 4 steps"
    assert len(found.trace) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"start": []}, "covariances to start from"),
        ({"start": [Covariance("short", np.ones((3, 1)))]}, "expected 4 conditions, got 3, in start short"),
        ({"directions": "fixed"}, "expected one of 'kept', 'free', got 'fixed', in directions"),
        ({"tol": -1.0}, "tol >= 0"),
        ({"max_iter": 0}, "at least one step"),
    ],
)
def test_errors(change, words):
    given = {"effects": data(), "start": starts(), **change}
    effects, start = given.pop("effects"), given.pop("start")
    with pytest.raises(InputError, match=words):
        deconvolve(effects, start, **given)


def test_rows_without_estimates_are_refused():
    effects = data()
    B = effects.B.copy()
    B[3] = np.nan
    with pytest.raises(InputError, match="none of 'effect_4'"):
        deconvolve(tidy(B, effects.S), starts())
    with pytest.raises(InputError, match="rows with strong effects"):
        deconvolve(effects.take(np.zeros(0, dtype=int)), starts())
