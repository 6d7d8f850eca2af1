"""The screen's t statistics are least squares, its z have the same tail, and its pruning keeps the better SNP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from ebmodel import InputError
from ebmodel.screen import _normal_quantile, associate, choose


def gene(n: int = 40, p: int = 7, m: int = 3, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    samples = [f"s{i}" for i in range(n)]
    X = rng.integers(0, 3, (n, p)).astype(float)
    C = pd.DataFrame({"age": rng.normal(50, 9, n), "sex": rng.choice(["F", "M"], n)}, samples)
    Y = X @ rng.normal(0, 0.3, (p, m)) + rng.normal(3, 1, (n, m)) + 0.1 * C[["age"]].to_numpy()
    Y[rng.random((n, m)) < 0.25] = np.nan
    Y[:, -1] = Y[:, 0]  # two tissues that share a pattern
    return pd.DataFrame(X, samples, [f"rs{j}" for j in range(p)]), pd.DataFrame(Y, samples, list("abc")[:m]), C


def least_squares_t(x: Any, y: Any, Z: Any) -> float:
    """T statistic of x in the regression of y on x and Z, by the normal equations' inverse."""
    seen = ~np.isnan(y)
    design, y = np.column_stack([x, Z])[seen], y[seen]
    inverse = np.linalg.pinv(design.T @ design)
    residual = y - design @ (inverse @ design.T @ y)
    dof = len(y) - np.linalg.matrix_rank(design)
    return float((inverse @ design.T @ y)[0] / np.sqrt(inverse[0, 0] * residual @ residual / dof))


@pytest.mark.parametrize("with_covariates", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_t_is_that_of_least_squares(with_covariates: bool, intercept: bool) -> None:
    X, Y, C = gene()
    Z = np.ones((len(X), int(intercept)))
    if with_covariates:
        Z = np.column_stack([Z, C["age"] / 50, C["sex"] == "F", C["sex"] == "M"]).astype(float)
    found = associate(X, Y, C if with_covariates else None, intercept=intercept)
    assert found.t.dims == ("snp", "tissue")
    for name in X:
        for tissue in Y:
            want = least_squares_t(X[name], Y[tissue].to_numpy(), Z)
            assert found.t.sel(snp=name, tissue=tissue).item() == pytest.approx(want, rel=1e-10, abs=1e-10)
    rank = (np.linalg.matrix_rank(Z) if Z.shape[1] else 0) + 1
    np.testing.assert_array_equal(found.dof, Y.notna().sum() - rank)


def test_stouffer_combines_signed_z_of_the_same_tail() -> None:
    X, Y, C = gene()
    found = associate(X, Y, C)
    z = stats.norm.isf(stats.t.sf(np.abs(found.t), found.dof)) * np.sign(found.t)
    np.testing.assert_allclose(found.z, z.sum("tissue") / np.sqrt(3), rtol=1e-10)
    np.testing.assert_allclose(found.p, 2 * stats.norm.sf(np.abs(found.z)), rtol=1e-10)


def test_effects_of_opposite_sign_cancel() -> None:
    X, Y, _ = gene(m=2)
    Y = pd.DataFrame({"a": X["rs0"] + 0.1 * np.arange(len(X)) % 1, "b": 0.0}, X.index)
    Y["b"] = -Y["a"]
    assert associate(X, Y).z.sel(snp="rs0").item() == pytest.approx(0.0, abs=1e-9)


def test_tails_beyond_floating_point_stay_ordered_and_right() -> None:
    t = np.array([0.0, 1.0, 30.0, 1e3, 1e60, 1e80, 1e100])
    dof = np.full(t.shape, 4.0)
    z = _normal_quantile(t, dof)
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


def test_tissues_that_say_nothing_are_left_out() -> None:
    X, Y, _ = gene()
    more = Y.assign(empty=np.nan, constant=2.0, pair=np.where(np.arange(len(Y)) < 2, 1.0 * np.arange(len(Y)), np.nan))
    found = associate(X, more)
    assert np.isnan(found.t.sel(tissue=["empty", "constant", "pair"])).all()
    np.testing.assert_allclose(found.z, associate(X, Y).z, rtol=1e-12)


def test_a_snp_that_covariates_explain_is_never_chosen() -> None:
    X, Y, C = gene()
    C["dose"] = X["rs2"] * 2 + 1
    assert np.isnan(associate(X, Y, C).z.sel(snp="rs2"))
    assert "rs2" not in choose(X, Y, 7, 1.0, C).snp
    with pytest.raises(InputError, match="expected SNPs that vary beside the covariates, got none"):
        choose(X[["rs2"]], Y, 1, 1.0, C)


def test_a_perfect_fit_is_the_most_significant() -> None:
    X, Y, _ = gene()
    Y["a"] = Y["b"] = Y["c"] = 3.0 * X["rs4"] + 1
    found = choose(X, Y, 1)
    assert found.snp.item() == "rs4"
    assert np.isfinite(found.z).all()


@pytest.mark.parametrize("max_r2", [0.0, 0.01, 0.05, 0.2, 1.0])
def test_choice_is_by_p_and_greedy(max_r2: float) -> None:
    X, Y, C = gene(p=25)
    p = associate(X, Y, C).p.to_series().sort_values()
    kept: list[str] = []
    for name in p.index:
        if all(np.corrcoef(X[name], X[other])[0, 1] ** 2 <= max_r2 for other in kept):
            kept.append(name)
    found = choose(X, Y, 12, max_r2, C)
    assert found.snp.to_numpy().tolist() == kept[:12]
    np.testing.assert_array_equal(found.p, p[kept[:12]])
    assert [X.columns[k] for k in found.position.to_numpy()] == kept[:12]


def test_copies_of_a_snp_are_dropped_in_either_coding() -> None:
    X, Y, _ = gene()
    best = choose(X, Y, 1).snp.item()
    found = choose(X.assign(copy=X[best], flipped=2 - X[best]), Y, 9)
    assert len({"copy", "flipped", best} & set(found.snp.to_numpy().tolist())) == 1


def test_arrays_without_names_are_chosen_by_position() -> None:
    X, Y, _ = gene()
    found, unnamed = choose(X, Y, 3), choose(X.to_numpy(), Y.to_numpy(), 3)
    np.testing.assert_array_equal(found.position, unnamed.position)


@pytest.mark.parametrize(
    ("top", "max_r2", "words"), [(0, 0.5, "at least 1"), (3, 1.5, "max_r2"), (3, np.nan, "max_r2")]
)
def test_ranges_are_checked(top: int, max_r2: float, words: str) -> None:
    X, Y, _ = gene()
    with pytest.raises(InputError, match=words):
        choose(X, Y, top, max_r2)
