"""The screen's t statistics are least squares, its z have the same tail, and its pruning keeps the better SNP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ebmodel import InputError
from ebmodel.screen import associate, choose, screen_gene


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


def test_every_tissue_may_have_covariates_of_its_own() -> None:
    X, Y, C = gene()
    rng = np.random.default_rng(9)
    own = {}
    for tissue in Y:
        seen = Y.index[Y[tissue].notna()]
        factors = pd.DataFrame(rng.normal(size=(len(seen), 2)), seen, ["peer1", "peer2"])
        own[tissue] = pd.concat([factors, C.loc[seen]], axis=1).sample(frac=1, random_state=1)  # in any order
    found = associate(X, Y, own)
    for tissue in Y:
        alone = associate(X.loc[own[tissue].index], Y.loc[own[tissue].index, [tissue]], own[tissue])
        np.testing.assert_allclose(found.t.sel(tissue=tissue), alone.t[:, 0], rtol=1e-10)
        assert found.dof.sel(tissue=tissue) == alone.dof[0]
    same = associate(X, Y, dict.fromkeys(Y, C))
    np.testing.assert_allclose(same.t, associate(X, Y, C).t, rtol=1e-10)
    none = associate(X, Y, dict.fromkeys(Y))
    np.testing.assert_allclose(none.z, associate(X, Y).z, rtol=1e-10)


def test_covariates_that_lack_a_tissue_or_a_sample_are_refused() -> None:
    X, Y, C = gene()
    with pytest.raises(InputError, match="none of 'c'"):
        associate(X, Y, {"a": C, "b": C})
    seen = Y.index[Y["b"].notna()]
    with pytest.raises(InputError, match=f"none for sample '{seen[3]}'"):
        associate(X, Y, {"a": C, "b": C.drop(index=seen[3]), "c": C})
    with pytest.raises(InputError, match="covariates of 'b'"):
        associate(X, Y, {"a": C, "b": pd.concat([C, C]), "c": C})


def test_a_tissue_without_samples_is_left_out_of_its_own_covariates_too() -> None:
    X, Y, C = gene()
    found = associate(X, Y.assign(empty=np.nan), dict.fromkeys([*Y, "empty"], C))
    assert np.isnan(found.t.sel(tissue="empty")).all()
    assert found.dof.sel(tissue="empty") == 0
    np.testing.assert_allclose(found.z, associate(X, Y, C).z, rtol=1e-10)


def test_a_screened_gene_says_why_of_every_snp() -> None:
    X, Y, C = gene(n=200, p=8)
    X["copy"] = 2 - X["rs0"]
    C["dose"] = X["rs5"]
    Y = Y.add(3 * X["rs0"] + 2 * X["rs1"] + 1.5 * X["rs2"], axis=0)
    found = screen_gene(X, Y, C, most=2)
    reason = found.reason.to_series()
    first, second = found.snp[np.argsort(found["rank"].where(found.selected, 99).to_numpy())[:2]].to_numpy()
    assert {first, second} == {"rs0" if reason["rs0"] == "kept" else "copy", "rs1"}
    assert sorted(found["rank"].to_numpy())[-2:] == [1, 2]
    assert found.selected.sum() == 2
    dropped = "copy" if reason["rs0"] == "kept" else "rs0"
    assert reason[dropped] == f"R² above 0.5 with {first}"
    assert reason["rs2"] == "beyond the best 2"
    assert reason["rs5"] == "does not vary beside the covariates"
    weak = found.snp[found.p >= 1e-6].to_numpy()
    assert len(weak) > 0
    assert (reason[weak] == "p not below 1e-06").all()


def test_a_correction_for_shared_samples_divides_by_their_correlation() -> None:
    X, Y, C = gene()
    Y["b"] = Y["a"]  # one tissue three times over
    plain, corrected = associate(X, Y, C), associate(X, Y, C, correct=True)
    np.testing.assert_allclose(corrected.z, plain.z / np.sqrt(3), rtol=1e-10)
    np.testing.assert_array_equal(corrected.t, plain.t)


@pytest.mark.parametrize(
    ("top", "max_r2", "words"), [(0, 0.5, "at least 1"), (3, 1.5, "max_r2"), (3, np.nan, "max_r2")]
)
def test_ranges_are_checked(top: int, max_r2: float, words: str) -> None:
    X, Y, _ = gene()
    with pytest.raises(InputError, match=words):
        choose(X, Y, top, max_r2)
