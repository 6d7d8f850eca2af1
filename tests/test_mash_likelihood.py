"""log p(b_hat_j | component), by every path and in every order, against SciPy's normal density."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from ebmodel.mash import likelihood
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import Effects, tidy
from ebmodel.mash.likelihood import CHUNK, FEWEST, Components, LogLikelihood, evaluate, pieces

GRID = np.array([0.3, 1.0, 4.0])


def correlation(rng, R):
    root = rng.standard_normal((R, R + 3))
    V = root @ root.T
    return V / np.sqrt(np.outer(np.diag(V), np.diag(V)))


def make(seed=0, J=12, R=4, V="common", patterns="own", errors="own", alpha=0.0, ranks=None):
    """Effects and covariances of ranks 1 to R, one with a condition without variance.

    ``V`` is "none", "common" or "own"; ``patterns`` of missing cells "none", "few" (which many share) or "own";
    ``errors``, standard errors, "one" (for all), "condition" (one a condition), "few" (which many share) or "own".
    """
    rng = np.random.default_rng([seed, J, R])
    bhat = 3.0 * rng.standard_normal((J, R))
    shat = {
        "one": lambda: np.full((J, R), 0.7),
        "condition": lambda: np.tile(np.exp(0.4 * rng.standard_normal(R)), (J, 1)),
        "few": lambda: np.exp(0.4 * rng.standard_normal((2, R)))[rng.integers(0, 2, J)],
        "own": lambda: np.exp(0.4 * rng.standard_normal((J, R))),
    }[errors]()
    if patterns == "few":
        bhat[(rng.random((2, R)) < 0.4)[rng.integers(0, 2, J)]] = np.nan
    elif patterns == "own":
        bhat[rng.random((J, R)) < 0.3] = np.nan
    C = {"none": lambda: None, "common": lambda: correlation(rng, R),
         "own": lambda: np.array([correlation(rng, R) for _ in range(J)])}[V]()  # fmt: skip
    effects = tidy(bhat, shat, C, alpha)
    covariances = []
    for k, rank in enumerate(ranks or range(1, R + 1)):
        F = rng.standard_normal((R, rank))
        if R > 1 and k == 0 and ranks is None:
            F[-1] = 0.0
        covariances.append(Covariance.of(f"U{k}", F @ F.T).normalised())
    return effects, tuple(covariances)


def all_of(effects, covariances, grid=GRID, *, pointmass=True, **more):
    return LogLikelihood(effects, Components.of(covariances, grid, pointmass=pointmass), **more)


def by_effect(found):
    """In the order of effects."""
    whole = np.empty(found.shape)
    whole[found.order] = found.matrix
    return whole


def log_likelihoods(effects, covariances, **more):
    return by_effect(all_of(effects, covariances, **more))


def scipys(effects, covariances, grid=GRID, *, pointmass=True):
    R = effects.B.shape[1]
    Sigma = [np.zeros((R, R))] * pointmass + [omega**2 * U.matrix for U in covariances for omega in grid]
    out = np.zeros((len(effects.B), len(Sigma)))
    for j, O in enumerate(effects.observed):
        if O.any():
            V, b = effects.V(j)[np.ix_(O, O)], effects.B[j, O]
            out[j] = [multivariate_normal(np.zeros(O.sum()), V + S[np.ix_(O, O)]).logpdf(b) for S in Sigma]
    return out


def close(got, want, tol=1e-9):
    np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


# Values ---------------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 10_000), st.integers(1, 6), st.sampled_from(["none", "common", "own"]),
    st.sampled_from(["none", "few", "own"]), st.sampled_from(["one", "condition", "few", "own"]),
    st.sampled_from([0.0, 0.5, 1.0]), st.booleans(),
)  # fmt: skip
def test_the_density_is_scipys(seed, R, V, patterns, errors, alpha, pointmass):
    effects, covariances = make(seed, 10, R, V, patterns, errors, alpha)
    close(log_likelihoods(effects, covariances, pointmass=pointmass), scipys(effects, covariances, pointmass=pointmass))


@pytest.mark.parametrize("patterns", ["none", "few", "own"])
@pytest.mark.parametrize("V", ["none", "common", "own"])
@pytest.mark.parametrize("errors", ["one", "few", "own"])
def test_every_path_on_every_kind_of_data(V, patterns, errors):
    effects, covariances = make(7, 14, 4, V, patterns, errors)
    close(log_likelihoods(effects, covariances), scipys(effects, covariances))


def test_an_estimate_is_in_one_piece_and_once():
    for V in ("common", "own"):
        for patterns in ("none", "few", "own"):
            for errors in ("one", "condition", "few", "own"):
                effects, _ = make(3, 40, 3, V, patterns, errors)
                parts = pieces(effects, 7)
                rows = np.concatenate([part.rows for part in parts])
                np.testing.assert_array_equal(np.sort(rows), np.arange(40))
                assert max(len(part.rows) for part in parts) <= 7
                for part in parts:
                    if part.group >= 0:
                        S = effects.S[part.rows]
                        np.testing.assert_array_equal(S, np.broadcast_to(S[0], S.shape))
                shared = [part.group >= 0 for part in parts]
                if V == "own":
                    assert not any(shared)
                elif errors != "own" and patterns != "own":
                    assert all(shared)


def test_rows_that_differ_in_one_bit_do_not_share():
    S = np.ones((2 * FEWEST, 3))
    S[::2, 1] = np.nextafter(1.0, 2.0)
    parts = pieces(tidy(np.zeros((2 * FEWEST, 3)), S))
    assert [part.rows.tolist() for part in parts] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    swapped = np.array([[1.0, 2.0], [2.0, 1.0]] * FEWEST)  # the same numbers in other places
    assert len(pieces(tidy(np.zeros((2 * FEWEST, 2)), swapped))) == 2


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("patterns", ["none", "few"])
def test_shared_and_one_by_one_agree(patterns, alpha):
    effects, covariances = make(11, 12, 5, "common", patterns, "condition", alpha)
    own = replace(effects, C=np.repeat(effects.C[None], 12, axis=0))
    assert all(part.group >= 0 for part in pieces(effects))
    assert all(part.group < 0 for part in pieces(own))
    whole = log_likelihoods(effects, covariances)
    close(log_likelihoods(own, covariances), whole, 1e-10)
    for count in (1, FEWEST - 1, FEWEST, FEWEST + 1):  # fewer are taken one by one
        close(log_likelihoods(effects.take(np.arange(count)), covariances), whole[:count], 1e-10)


def test_one_standard_error_for_all_is_any_other_table_of_it():
    effects, covariances = make(2, 9, 3, "common", "none")
    one, table = tidy(effects.B, 0.7, effects.C), tidy(effects.B, np.full((9, 3), 0.7), effects.C)
    np.testing.assert_array_equal(log_likelihoods(one, covariances), log_likelihoods(table, covariances))
    same = tidy(effects.B, np.broadcast_to([0.5, 0.6, 0.7], (9, 3)), effects.C)
    close(log_likelihoods(same, covariances), scipys(same, covariances))


@pytest.mark.parametrize("V", ["none", "common", "own"])
@pytest.mark.parametrize("errors", ["one", "own"])
def test_where_nothing_was_seen_every_component_is_as_likely(V, errors):
    effects, covariances = make(5, 10, 3, V, "none", errors)
    B = effects.B.copy()
    B[[1, 2, 4, 5, 9]] = np.nan
    for rows in (np.arange(10), np.array([1, 3]), np.array([1, 2, 4, 5, 9])):
        some = tidy(B[rows], effects.S[rows], effects.C[rows] if V == "own" else effects.C)
        found = log_likelihoods(some, covariances)
        close(found, scipys(some, covariances))
        assert not found[np.isnan(B[rows]).all(axis=1)].any()


@pytest.mark.parametrize("errors", ["one", "own"])
def test_a_condition_that_nobody_saw_might_not_be_there(errors):
    effects, covariances = make(6, 10, 4, "common", "none", errors)
    B, kept = effects.B.copy(), [0, 1, 3]
    B[:, 2] = np.nan
    without = tidy(B[:, kept], effects.S[:, kept], effects.C[np.ix_(kept, kept)])
    fewer = [replace(U, factor=U.factor[kept]) for U in covariances]
    close(log_likelihoods(tidy(B, effects.S, effects.C), covariances), log_likelihoods(without, fewer), 1e-11)


@pytest.mark.parametrize("errors", ["one", "own"])
def test_a_covariance_without_variance_where_an_effect_was_seen_is_the_null(errors):
    effects, _ = make(8, 9, 3, "common", "none", errors)
    B = effects.B.copy()
    B[:, 0] = np.nan
    only = canonical(3)[1]  # in the first condition alone
    found = log_likelihoods(tidy(B, effects.S, effects.C), (only,))
    np.testing.assert_allclose(found, np.repeat(found[:, :1], 4, axis=1), rtol=1e-14)


# Order and units ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from(["common", "own"]), st.sampled_from(["few", "own"]))
def test_the_order_of_effects_is_none(seed, V, errors):
    effects, covariances = make(seed, 15, 3, V, "few", errors)
    rows = np.random.default_rng(seed).permutation(15)
    np.testing.assert_array_equal(
        log_likelihoods(effects.take(rows), covariances), log_likelihoods(effects, covariances)[rows]
    )


@given(st.integers(0, 10_000), st.sampled_from(["common", "own"]), st.sampled_from(["few", "own"]))
def test_the_order_of_conditions_is_none(seed, V, errors):
    effects, covariances = make(seed, 12, 5, V, "few", errors)
    order = np.random.default_rng(seed).permutation(5)
    C = effects.C[..., order[:, None], order]
    other = tidy(effects.B[:, order], effects.S[:, order], C)
    moved = [Covariance.from_matrix(U.name, U.matrix[np.ix_(order, order)]) for U in covariances]
    close(log_likelihoods(other, moved), log_likelihoods(effects, covariances), 1e-10)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("V", ["common", "own"])
@pytest.mark.parametrize("errors", ["one", "own"])
def test_other_units_shift_it_and_no_more(unit, V, errors):
    effects, covariances = make(4, 10, 4, V, "own", errors)
    other = tidy(unit * effects.B, unit * effects.S, effects.C)
    shift = np.log(unit) * effects.observed.sum(axis=1, keepdims=True)
    found = log_likelihoods(other, covariances, grid=unit * GRID)
    close(found + shift, log_likelihoods(effects, covariances), 1e-10)


@pytest.mark.parametrize("V", ["common", "own"])
def test_units_may_differ_between_conditions(V):
    effects, covariances = make(9, 10, 4, V, "own", "own")
    unit = np.array([1e-8, 1.0, 1e4, 1e8])
    other = tidy(unit * effects.B, unit * effects.S, effects.C)
    scaled = [replace(U, factor=unit[:, None] * U.factor) for U in covariances]
    shift = np.where(effects.observed, np.log(unit), 0.0).sum(axis=1, keepdims=True)
    close(log_likelihoods(other, scaled) + shift, log_likelihoods(effects, covariances), 1e-9)


def exactly(effects, covariances, grid):
    """In rational arithmetic: where scales are large SciPy loses more digits than the fast code."""
    rational = np.vectorize(Fraction, otypes=[object])
    out = np.zeros((len(effects.B), 1 + len(covariances) * len(grid)))
    for j, seen in enumerate(effects.observed):
        O = np.flatnonzero(seen)
        if len(O) == 0:
            continue
        V, b = rational(effects.V(j)[np.ix_(O, O)]), rational(effects.B[j, O])
        every = [V]
        for U in covariances:
            F = rational(U.factor[O])
            every += [V + Fraction(omega) ** 2 * (F @ F.T) for omega in grid]
        out[j] = [rational_logpdf(b, M) for M in every]
    return out


def rational_logpdf(b, M):
    """By elimination: M = L D L', b = L y, log|M| = sum log D, b'M^-1 b = sum y^2/D."""
    b, M = b.copy(), M.copy()
    logdet, square = 0.0, Fraction(0)
    for k in range(len(b)):
        logdet += np.log(float(M[k, k]))
        square += b[k] ** 2 / M[k, k]
        factor = M[k + 1 :, k] / M[k, k]
        b[k + 1 :] -= factor * b[k]
        M[k + 1 :] -= factor[:, None] * M[k]
    return -0.5 * (len(b) * np.log(2 * np.pi) + logdet + float(square))


def near(got, want, tol=1e-9):
    """To the digits that are left of it after the null's, which may be much the larger."""
    lost = 100 * np.finfo(float).eps * np.abs(want[:, :1])
    assert (np.abs(got - want) <= tol * (1 + np.abs(want)) + lost).all()


@pytest.mark.parametrize("V", ["none", "common", "own"])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3])
def test_scales_far_from_the_errors(V, scale):
    effects, covariances = make(10, 5, 4, V, "own", "own")
    large = replace(effects, B=max(scale, 1.0) * effects.B)
    grid = scale * GRID
    near(log_likelihoods(large, covariances, grid=grid), exactly(large, covariances, grid), 1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("errors", ["one", "own"])
def test_large_scales_where_fewer_conditions_were_seen_than_a_covariance_has_directions(rank, errors):
    """Directions that nothing is seen of have an eigenvalue of 0, of which a large scale must not make something."""
    effects, _ = make(12, 8, 4, "common", "none", errors)
    B = 1e4 * effects.B
    B[:, 2:] = np.nan
    effects = tidy(B, effects.S, effects.C)
    F = np.random.default_rng(rank).standard_normal((4, rank))
    covariances = (Covariance.of("U", F @ F.T).normalised(),)
    near(log_likelihoods(effects, covariances, grid=[1e4]), exactly(effects, covariances, [1e4]), 1e-7)


def test_errors_that_are_nearly_one():
    """The larger 1/(1 - rho), the larger a direction's d: what is lost of digits is no more than that."""
    effects, covariances = make(13, 8, 3, "none", "none", "one")
    for rho in (0.99, 0.9999, 0.999999):
        C = np.full((3, 3), rho) + (1 - rho) * np.eye(3)
        B = effects.B[:, [0]] + 0.5 * np.sqrt(1 - rho) * effects.B
        common, own = tidy(B, 1.0, C), tidy(B, 1.0, np.array([C] * 8))
        want = scipys(common, covariances)
        close(log_likelihoods(common, covariances), want, 1e-8)
        close(log_likelihoods(own, covariances), want, 1e-8)


def test_extreme_estimates_are_numbers():
    effects, covariances = make(14, 8, 3, "common", "own", "own")
    for size in (1e3, 1e8, 1e100):
        large = replace(effects, B=size * effects.B)
        assert np.isfinite(log_likelihoods(large, covariances)).all()


# In pieces ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("J", [CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize(("V", "errors"), [("common", "one"), ("common", "own"), ("own", "own")])
def test_around_the_size_of_a_chunk(J, V, errors):
    effects, covariances = make(15, J, 2, V, "few", errors, ranks=[1, 2])
    found = all_of(effects, covariances)
    rows = np.array([0, 1, J // 2, J - 2, J - 1])
    close(by_effect(found)[rows], scipys(effects.take(rows), covariances))
    assert np.isfinite(found.matrix).all()


KINDS = [("common", "few"), ("common", "own"), ("own", "own")]


@pytest.mark.parametrize(("V", "errors"), KINDS)
def test_kept_or_computed_again_it_is_the_same(V, errors):
    effects, covariances = make(16, 60, 4, V, "few", errors)
    kept, again = all_of(effects, covariances), all_of(effects, covariances, memory=0)
    assert kept.keeps
    assert not again.keeps
    np.testing.assert_array_equal(kept.order, again.order)
    np.testing.assert_array_equal(np.vstack(list(again.blocks())), kept.matrix)
    np.testing.assert_array_equal(np.vstack(list(kept.blocks())), kept.matrix)
    np.testing.assert_array_equal(again.matrix, kept.matrix)


@pytest.mark.parametrize(("V", "errors"), KINDS)
def test_some_components_are_columns_of_all(V, errors):
    effects, covariances = make(17, 60, 4, V, "few", errors)
    kept, again = all_of(effects, covariances), all_of(effects, covariances, memory=0)
    columns_of_all = kept.shape[1]
    for columns in ([0], [3], [0, columns_of_all - 1], [2, 3, 4, 8], range(columns_of_all)):
        chosen = np.array(columns, dtype=np.intp)
        np.testing.assert_array_equal(kept.take(chosen), kept.matrix[:, chosen])
        close(again.take(chosen), kept.matrix[:, chosen], 1e-12)


@pytest.mark.parametrize(("V", "errors"), KINDS)
def test_some_effects_are_rows_of_all(V, errors):
    effects, covariances = make(18, 60, 4, V, "few", errors)
    kept, again = all_of(effects, covariances), all_of(effects, covariances, memory=0)
    for rows in ([0], [59, 3], list(range(0, 60, 2)), list(range(60))[::-1]):
        chosen = np.array(rows, dtype=np.intp)
        np.testing.assert_array_equal(kept.rows(chosen), kept.matrix[chosen])
        close(again.rows(chosen), kept.matrix[chosen], 1e-12)


def test_chunks_of_any_size_are_the_same(monkeypatch):
    effects, covariances = make(19, 50, 3, "common", "few", "few")
    components = Components.of(covariances, GRID, pointmass=True)
    whole = log_likelihoods(effects, covariances)
    for size in (1, 7, 50):
        for piece, block in evaluate(effects, components, pieces(effects, size)):
            close(block, whole[piece.rows], 1e-13)
    monkeypatch.setattr(likelihood, "CHUNK", 7)
    kept = all_of(effects, covariances)
    np.testing.assert_array_equal(np.vstack(list(kept.blocks())), kept.matrix)


def test_columns_of_a_table_in_another_memory_order():
    effects, covariances = make(20, 12, 3, "own", "own", "own")
    turned = Effects(*(np.asfortranarray(part) for part in (effects.B, effects.S, effects.scale, effects.C)),
                     effects.alpha, effects.effects, effects.conditions)  # fmt: skip
    close(log_likelihoods(turned, covariances), log_likelihoods(effects, covariances), 1e-13)
    common, covariances = make(20, 12, 3, "common", "few", "few")
    turned = replace(common, B=np.asfortranarray(common.B), S=np.asfortranarray(common.S))
    close(log_likelihoods(turned, covariances), log_likelihoods(common, covariances), 1e-13)
