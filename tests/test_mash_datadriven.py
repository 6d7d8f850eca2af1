"""Covariances learned from strong effects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm

from ebmodel.errors import InputError
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import Effects, tidy
from ebmodel.mash.datadriven import _filled, _shrunk, data_driven, pca, strong_effects
from ebmodel.mash.deconvolution import deconvolve

F = np.array([[2.0, 2.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 3.0, -3.0, 1.0]])


def planted(J: int = 600, share: float = 0.5, seed: int = 1) -> tuple[Effects, np.ndarray]:
    """Two patterns in a share of the rows, the first ones; and the effects."""
    rng = np.random.default_rng(seed)
    b = 1.5 * F[rng.integers(2, size=J)] * rng.standard_normal((J, 1))
    b[int(share * J) :] = 0.0
    s = np.exp(0.1 * rng.standard_normal((J, 6)))
    names = [f"snp{j}" for j in range(J)]
    return tidy(pd.DataFrame(b + s * rng.standard_normal((J, 6)), index=names), s), b


def test_strong_effects_are_those_of_the_step_up_rule():
    effects, _ = planted()
    z = np.abs(effects.B / effects.S).max(axis=1)
    p = np.minimum(6 * 2.0 * norm.sf(z), 1.0)
    rows = strong_effects(effects)
    order = np.argsort(p, kind="stable")
    most = max(k for k in range(600) if p[order][k] <= 0.05 * (k + 1) / 600)
    assert set(rows) == set(order[: most + 1])
    assert (np.diff(z[rows]) <= 0.0).all()
    assert len(strong_effects(effects, 0.5)) > len(rows)
    assert len(strong_effects(effects, 1.0)) == 600


def test_strong_effects_of_great_size_are_ranked():
    B = np.zeros((5, 2))
    B[3], B[1] = 60.0, 50.0  # p-values of 0 in double precision
    assert strong_effects(tidy(B)).tolist() == [3, 1]
    B[:, 1] = np.nan
    B[4, 0] = np.nan
    assert strong_effects(tidy(B)).tolist() == [3, 1]


def test_nothing_is_strong_in_noise():
    B = np.random.default_rng(1).standard_normal((500, 5))
    assert len(strong_effects(tidy(B))) == 0
    with pytest.raises(InputError, match="rows with strong effects, got none, in strong"):
        data_driven(tidy(B))


@pytest.mark.statistical
def test_false_discovery_rate_of_strong_effects():
    found = []
    for seed in range(40):
        effects, b = planted(share=0.3, seed=seed)
        rows = strong_effects(effects, 0.1)
        found.append((b[rows] == 0.0).all(axis=1).mean())
    # Bonferroni within rows is on the safe side, and 70 % are null
    assert np.mean(found) < 0.07 + 3.0 * np.std(found) / np.sqrt(len(found))
    assert np.mean(found) > 0.02


def test_pca_is_the_singular_value_decomposition():
    effects, _ = planted()
    rows = np.arange(100)
    found = pca(effects, 3, rows)
    moments = effects.B[:100].T @ effects.B[:100] / 100
    value, vector = np.linalg.eigh(moments)
    assert [one.name for one in found] == ["pca_1", "pca_2", "pca_3", "tpca"]
    for k in range(3):
        v = vector[:, [-1 - k]]
        assert_allclose(found[k].matrix, value[-1 - k] * v @ v.T, atol=1e-10)
    assert_allclose(found[3].matrix, sum(one.matrix for one in found[:3]), atol=1e-10)
    assert_allclose(pca(effects, 6, rows)[-1].matrix, moments, atol=1e-10)
    assert {one.kind for one in found} == {"data-driven"}


def test_rows_by_number_name_or_mask():
    effects, _ = planted()
    mask = np.zeros(600, dtype=bool)
    mask[[4, 7, 100]] = True
    every = [pca(effects, 2, strong) for strong in ([4, 7, 100], mask, ["snp4", "snp7", "snp100"])]
    for other in every[1:]:
        assert_allclose(other[-1].matrix, every[0][-1].matrix)
    default = pca(effects, 2)
    assert_allclose(pca(effects, 2, strong_effects(effects))[-1].matrix, default[-1].matrix)


def test_as_many_components_as_conditions_at_most():
    assert [one.name for one in pca(tidy(np.eye(3) * 9.0), 5)] == ["pca_1", "pca_2", "pca_3", "tpca"]
    assert [one.name for one in pca(tidy(np.full((4, 1), 9.0)), 5)] == ["pca_1"]
    assert [one.name for one in data_driven(tidy(np.linspace(5.0, 9.0, 9)[:, None]), 5)] == ["ed_1"]


def test_missing_cells_are_filled_by_their_expectation():
    effects, b = planted(share=1.0)
    rng = np.random.default_rng(2)
    gone = rng.random(b.shape) < 0.2
    gone[gone.all(axis=1), 0] = False
    B = np.where(gone, np.nan, effects.B)
    rows = tidy(B, effects.S)
    filled = _filled(rows, 2)
    assert (filled[~gone] == B[~gone]).all()
    U = deconvolve(
        rows, [Covariance("x", _start(B))], directions="free", tol=1e-4
    ).covariances[0].matrix  # fmt: skip
    j = int(np.flatnonzero(gone.any(axis=1))[0])
    O = ~gone[j]
    expected = U[np.ix_(~O, O)] @ np.linalg.inv(U[np.ix_(O, O)] + rows.V(j)[np.ix_(O, O)]) @ B[j, O]
    assert_allclose(filled[j, ~O], expected, rtol=1e-9)
    mean = np.sqrt(((filled - b)[gone] ** 2).mean())
    assert mean < 0.6 * np.sqrt((b[gone] ** 2).mean())  # zeros in their place
    # and so the components are nearer to those of complete data
    whole, part = pca(effects, 2, np.arange(600))[-1].matrix, pca(rows, 2, np.arange(600))[-1].matrix
    zeros = np.nan_to_num(B).T @ np.nan_to_num(B) / 600
    assert np.linalg.norm(part - whole) < 0.5 * np.linalg.norm(zeros - whole)


def _start(B):
    _, d, v = np.linalg.svd(np.nan_to_num(B), full_matrices=False)
    return v[:2].T * d[:2] / np.sqrt(len(B))


def test_finds_planted_patterns():
    found = {one.name: one for one in data_driven(planted()[0], 2, directions="free")}
    assert list(found) == ["ed_1", "ed_2", "ed_tpca", "ed_empirical"]
    cosine = np.abs([[_cosine(found[f"ed_{k}"].factor[:, 0], truth) for truth in F] for k in (1, 2)])
    assert (cosine.max(axis=1) > 0.99).all()
    assert sorted(cosine.argmax(axis=1)) == [0, 1]
    assert all(one.kind == "data-driven" for one in found.values())


def _cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def test_kept_directions_are_those_of_the_components():
    effects, _ = planted()
    start = {one.name.removeprefix("pca_"): one for one in pca(effects, 2)}
    for one in data_driven(effects, 2, directions="kept", empirical=False):
        F = start[one.name.removeprefix("ed_")].factor
        assert_allclose(F @ np.linalg.lstsq(F, one.factor)[0], one.factor, atol=1e-9)


def test_full_rank_is_shrunk_to_independence():
    effects, _ = planted()
    plain, default, strongly = (
        next(one for one in data_driven(effects, 2, shrinkage=n0) if one.name == "ed_empirical").matrix
        for n0 in (0.0, None, 1e9)
    )
    assert_allclose(np.diag(default), np.diag(plain), rtol=1e-9)
    ratio = (default / plain)[~np.eye(6, dtype=bool)]
    assert_allclose(ratio, ratio[0], rtol=1e-6)
    assert 0.0 < ratio[0] < 1.0
    assert_allclose(strongly, np.diag(np.diag(plain)), atol=1e-5)
    U = Covariance.from_matrix("x", [[2.0, 1.0], [1.0, 1.0]])
    assert_allclose(_shrunk(U, 30.0, 10.0).matrix, [[2.0, 0.75], [0.75, 1.0]])


def test_the_same_data_give_the_same():
    one, other = (data_driven(planted()[0], 2) for _ in range(2))
    assert all((a.factor == b.factor).all() for a, b in zip(one, other, strict=True))


def test_alpha_is_for_scaled_effects():
    effects, _ = planted()
    scaled = tidy(effects.B, effects.S, alpha=1.0)
    z = tidy(effects.B / effects.S)
    for a, b in zip(data_driven(scaled, 2), data_driven(z, 2), strict=True):
        assert_allclose(a.matrix, b.matrix, rtol=1e-6, atol=1e-8)


@pytest.mark.statistical
def test_what_is_learned_predicts_other_effects():
    """Held-out likelihood: learned covariances beat canonical ones where there is a pattern, shrunk ones raw ones."""
    import ebmodel.mash
    from ebmodel.mash.simulation import scenario

    scores = {"canonical": [], "mashr": [], "raw": [], "default": []}
    for seed in range(3):
        train, test = (scenario("structured", effects=4000, share=0.08, seed=seed + k) for k in (0, 100))
        effects = tidy(train.bhat, train.shat)
        base = canonical(list(effects.conditions))
        recipes = {
            "canonical": [],
            "mashr": data_driven(effects, directions="kept", empirical=False),
            "raw": data_driven(effects, shrinkage=0.0),
            "default": data_driven(effects),
        }
        for name, learned in recipes.items():
            fit = ebmodel.mash.fit(train.bhat, train.shat, covariances=base + learned, posterior=False)
            scores[name].append(float(fit.score(test.bhat, test.shat)))
    canonical_only, mashr, raw, default = (np.array(one) for one in scores.values())
    assert (mashr > canonical_only).all()
    assert (default > mashr).all()
    assert (default > raw).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"components": 0}, "at least one component"),
        ({"components": 5, "strong": [1, 2]}, "at least 5 rows with strong effects"),
        ({"strong": [1, 600]}, "expected rows from 0 to 599, got '600', in strong"),
        ({"strong": []}, "rows with strong effects, got none"),
        ({"strong": np.zeros(600, dtype=bool)}, "rows with strong effects, got none"),
        ({"strong": np.ones(5, dtype=bool)}, "a mask of 600 rows"),
        ({"strong": ["snp1", "snp9999"]}, "names of effects, got 'snp9999'"),
        ({"shrinkage": -1.0}, "a number of effects >= 0"),
        ({"directions": "fixed"}, "in directions"),
    ],
)
def test_errors(change, words):
    with pytest.raises(InputError, match=words):
        data_driven(planted()[0], **change)


def test_threshold_out_of_range():
    with pytest.raises(InputError, match=r"a rate in \(0, 1\], got 2"):
        strong_effects(planted()[0], 2)


def test_a_condition_that_no_strong_row_observes():
    effects, _ = planted()
    B = effects.B.copy()
    B[:, 2] = np.nan
    with pytest.raises(InputError, match="every condition in a strong row, got none of 'condition_3'"):
        data_driven(tidy(B, effects.S))


def test_zeros_have_no_components():
    with pytest.raises(InputError, match="estimates other than 0"):
        pca(tidy(np.zeros((9, 3))), 2, np.arange(9))
