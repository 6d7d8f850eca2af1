"""`tidy` gives the same data whatever they come in, and refuses in one line what cannot be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError
from ebmodel.data import basis, design_like, project_out, tidy

N, P, M = 12, 3, 2
SAMPLES = [f"donor{i}" for i in range(N)]


def values() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    X, Y = rng.integers(0, 3, (N, P)).astype(float), rng.standard_normal((N, M))
    Y[[0, 4], 1] = np.nan
    return X, Y


def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    X, Y = values()
    return pd.DataFrame(X, SAMPLES, ["rs1", "rs2", "rs3"]), pd.DataFrame(Y, SAMPLES, ["liver", "lung"])


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        tidy(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert "; do " in message
    return message


def test_pandas_and_xarray_keep_every_name() -> None:
    X, Y = frames()
    arrays = xr.DataArray(X, dims=("sample", "snp")), xr.DataArray(Y, dims=("sample", "tissue"))
    for data in (tidy(X, Y), tidy(*arrays), tidy(arrays[0].T, arrays[1].T)):
        assert data.samples.tolist() == SAMPLES
        assert data.snps.tolist() == ["rs1", "rs2", "rs3"]
        assert data.tissues.tolist() == ["liver", "lung"]
        np.testing.assert_array_equal(data.X, X)
        np.testing.assert_array_equal(data.Y, Y)


def test_arrays_get_plain_names() -> None:
    data = tidy(*values())
    assert data.samples.tolist() == list(range(N))
    assert data.snps.tolist() == ["snp0", "snp1", "snp2"]
    assert data.tissues.tolist() == ["tissue0", "tissue1"]


def test_names_come_from_whichever_table_has_them() -> None:
    (X, _), (_, Y) = frames(), values()
    data = tidy(X, Y)
    assert data.samples.tolist() == SAMPLES
    assert data.tissues.tolist() == ["tissue0", "tissue1"]


@pytest.mark.parametrize("kind", ["series", "vector", "dataarray", "unnamed dataarray"])
def test_one_tissue_may_be_a_vector(kind: str) -> None:
    _, Y = frames()
    labelled = xr.DataArray(Y, dims=("sample", "tissue")).sel(tissue="lung")
    one = {
        "series": Y["lung"],
        "vector": Y["lung"].to_numpy(),
        "dataarray": labelled,
        "unnamed dataarray": labelled.drop_vars("tissue"),
    }[kind]
    data = tidy(frames()[0], one)
    assert data.Y.shape == (N, 1)
    np.testing.assert_array_equal(data.Y[:, 0], Y["lung"])
    assert data.tissues.tolist() == (["lung"] if kind in ("series", "dataarray") else ["tissue0"])


def test_samples_are_joined_by_name_in_the_order_of_expression() -> None:
    X, Y = frames()
    C = pd.DataFrame({"age": np.arange(N, dtype=float)}, SAMPLES)
    shuffled = np.random.default_rng(0).permutation(N)
    data = tidy(X.iloc[shuffled], Y.iloc[3:], C.iloc[shuffled[::-1]])
    assert data.samples.tolist() == SAMPLES[3:]
    np.testing.assert_array_equal(data.X, X.iloc[3:])
    np.testing.assert_array_equal(data.C[:, 0], np.arange(3, N))


def test_text_covariates_become_indicators_beside_an_intercept() -> None:
    C = pd.DataFrame({"sex": ["F", "M"] * (N // 2), "age": np.arange(N)}, SAMPLES)
    data = tidy(*frames(), C, intercept=True)
    assert data.covariates.tolist() == ["intercept", "sex=F", "sex=M", "age"]
    np.testing.assert_array_equal(data.C[:, 1], [1, 0] * (N // 2))
    np.testing.assert_array_equal(data.C[:, 0], data.C[:, 1] + data.C[:, 2])


def test_a_sample_without_response_stays_unless_its_covariate_is_missing() -> None:
    X, Y = frames()
    Y.iloc[2] = np.nan
    C = pd.DataFrame({"age": np.arange(N, dtype=float)}, SAMPLES)
    assert len(tidy(X, Y, C).X) == N
    C.iloc[2] = np.nan
    assert tidy(X, Y, C).samples.tolist() == [name for name in SAMPLES if name != "donor2"]


def test_projection_is_least_squares_and_counts_the_rank() -> None:
    rng = np.random.default_rng(1)
    C, y = rng.standard_normal((N, 3)) * [1.0, 1e-6, 1e6], rng.standard_normal((N, 2))
    C[:, 2] = C[:, 0] * 1e6 - C[:, 1] * 1e12
    (residual,), dof = project_out(C, y)
    scaled = C[:, :2] / np.linalg.norm(C[:, :2], axis=0)
    np.testing.assert_allclose(residual, y - scaled @ np.linalg.lstsq(scaled, y)[0], atol=1e-12)
    assert dof == N - 2


def test_a_basis_is_orthonormal_and_spans_the_columns_whatever_their_scale() -> None:
    C = np.random.default_rng(5).standard_normal((N, 3)) * [1.0, 1e9, 1e-9]
    C = np.column_stack([C, C @ [2.0, 1e-9, 0.0], np.zeros(N)])
    Z = basis(C)
    assert Z.shape == (N, 3)
    np.testing.assert_allclose(Z.T @ Z, np.eye(3), atol=1e-14)
    assert (np.linalg.norm(C - Z @ (Z.T @ C), axis=0) <= 1e-13 * np.linalg.norm(C, axis=0)).all()
    assert basis(np.empty((3, 0))).shape == (3, 0)
    assert basis(np.empty((0, 2))).shape == (0, 0)


def test_projection_on_nothing_is_nothing() -> None:
    y = np.arange(3.0)
    (residual,), dof = project_out(np.empty((3, 0)), y)
    np.testing.assert_array_equal(residual, y)
    assert dof == 3


def test_standardised_tissues_have_residual_variance_one() -> None:
    _, Y = frames()
    C = pd.DataFrame({"sex": ["F", "M"] * (N // 2), "age": np.random.default_rng(2).random(N)}, SAMPLES)
    scaled = ebmodel.standardise(Y * [1.0, 100.0] + 5, C)
    assert scaled.dims == ("sample", "tissue")
    for name in ("liver", "lung"):
        rows = Y[name].notna().to_numpy()
        design = np.column_stack([np.ones(N), C["sex"] == "F", C["age"]])[rows].astype(float)
        y = scaled.sel(tissue=name).to_numpy()[rows]
        residual = y - design @ np.linalg.lstsq(design, y)[0]
        assert residual @ residual / (rows.sum() - 3) == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(scaled * scaled.scale, Y * [1.0, 100.0] + 5, rtol=1e-12)


def test_standardise_keeps_the_files_name_for_later_errors() -> None:
    X, Y = frames()
    Y.attrs["source"] = "gene.csv"
    assert "gene.csv" in refusal(X.rename(index=lambda name: f"x{name}"), ebmodel.standardise(Y))


def test_a_constant_tissue_cannot_be_standardised() -> None:
    _, Y = frames()
    Y["lung"] = 7.0
    with pytest.raises(InputError, match="'lung'; do leave the tissue out"):
        ebmodel.standardise(Y)


# What cannot be used -------------------------------------------------------------------------------------------------


def test_text_in_a_cell_is_named() -> None:
    X, Y = frames()
    X.attrs["source"], Y.attrs["source"] = "x.csv", "y.csv"
    bad = Y.astype(object)
    bad.loc["donor5", "lung"] = "high"
    got = "expected a number, got 'high', in expression y.csv, sample 'donor5', tissue 'lung'; do correct it"
    assert got in refusal(X, bad)
    bad = X.astype(object)
    bad.loc["donor5", "rs2"] = "A/G"
    assert "got 'A/G', in genotypes x.csv, sample 'donor5', snp 'rs2'" in refusal(bad, Y)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_named(value: float) -> None:
    for k, place in enumerate(("genotypes, sample 'donor1', snp 'rs3'", "expression, sample 'donor1', tissue 'lung'")):
        tables = frames()
        tables[k].iloc[1, -1] = value
        assert f"got {value}, in {place}" in refusal(*tables)


def test_an_infinite_covariate_is_named() -> None:
    C = pd.DataFrame({"age": np.ones(N)}, SAMPLES)
    C.loc["donor3", "age"] = np.inf
    assert "got inf, in covariates, sample 'donor3', covariate 'age'" in refusal(*frames(), C)


def test_a_slip_in_a_covariate_of_numbers_is_named_and_not_made_a_level() -> None:
    C = pd.DataFrame({"age": [*map(str, range(N - 1)), "4o"]}, SAMPLES)
    assert "got '4o', in covariates, sample 'donor11', covariate 'age'" in refusal(*frames(), C)


def test_covariates_held_as_objects_or_text_numbers_are_numbers() -> None:
    C = pd.DataFrame({"age": np.arange(N).astype(object), "batch": [str(i % 3) for i in range(N)]}, SAMPLES)
    data = tidy(*frames(), C)
    assert data.covariates.tolist() == ["age", "batch"]
    np.testing.assert_array_equal(data.C[:, 0], np.arange(N))


def test_a_missing_covariate_is_named() -> None:
    C = pd.DataFrame({"age": np.ones(N), "sex": ["F", None] * (N // 2)}, SAMPLES)
    message = refusal(*frames(), C)
    assert "none for sample 'donor1' (6 samples in all), in covariate 'sex=F'" in message
    C["sex"] = None
    assert "none for sample 'donor0' (12 samples in all), in covariate 'sex'" in refusal(*frames(), C)


def test_names_given_twice_are_named() -> None:
    X, Y = frames()
    twice = [*SAMPLES[:-1], "donor0"]
    assert "each sample once, got 'donor0' more than once, in genotypes" in refusal(X.set_axis(twice), Y)
    assert "each sample once, got 'donor0' more than once, in expression" in refusal(X, Y.set_axis(twice))
    assert "each snp once, got 'rs1' more than once" in refusal(X.set_axis(["rs1", "rs1", "rs2"], axis=1), Y)
    assert "each tissue once, got 'liver' more than once" in refusal(X, Y.set_axis(["liver", "liver"], axis=1))


def test_unknown_samples_are_named() -> None:
    X, Y = frames()
    Y.attrs["source"] = "y.csv"
    message = refusal(X.iloc[2:], Y)
    assert "every sample of expression y.csv, got no sample 'donor0', 'donor1', in genotypes" in message
    C = pd.DataFrame({"age": np.ones(N)}, SAMPLES)
    assert "got no sample 'donor0', in covariates" in refusal(X, Y, C.iloc[1:])


def test_no_sample_in_common_is_said() -> None:
    X, Y = frames()
    message = refusal(X.rename(index=str.upper), Y)
    assert "expected samples in common with expression, got none of 'donor0', 'donor1' and 10 more" in message


def test_constant_snps_are_named() -> None:
    X, Y = frames()
    X["rs2"] = 1.0
    assert "got 1 in all of them for SNP 'rs2', in genotypes; do leave the SNP out" in refusal(X, Y, intercept=True)
    assert tidy(X, Y).X.shape == (N, P)  # without an intercept such a SNP is one
    X["rs2"] = 0.0
    assert "got 0 in all of them for SNP 'rs2'" in refusal(X, Y)


def test_a_snp_constant_among_the_samples_used_is_named() -> None:
    X, Y = frames()
    X["rs2"] = [1.0, *[2.0] * (N - 1)]
    assert "for SNP 'rs2'" in refusal(X, Y.iloc[1:], intercept=True)


def test_missing_genotypes_are_named() -> None:
    X, Y = frames()
    X.iloc[:2, 1] = np.nan
    message = refusal(X, Y)
    assert "2 missing for SNP 'rs2' (1 such SNPs), in genotypes; do impute them" in message


def test_expression_missing_throughout_is_said() -> None:
    X, Y = frames()
    assert "none: all are missing, in expression; do give expression values" in refusal(X, Y * np.nan)


@pytest.mark.parametrize(
    ("X", "Y", "words"),
    [
        (np.ones((2, 2, 2)), np.ones((2, 1)), "3 dimensions"),
        (np.array(1.0), np.ones((2, 1)), "0 dimensions"),
        (np.ones((4, 2)), np.ones((3, 1)), "expected 3 samples, as in expression, got 4"),
        (np.ones((0, 2)), np.ones((0, 1)), "at least one sample"),
        (np.ones((3, 0)), np.ones((3, 1)), "one snp"),
    ],
)
def test_wrong_shapes_are_refused(X: Any, Y: Any, words: str) -> None:
    assert words in refusal(X, Y)


# Covariates of new samples -------------------------------------------------------------------------------------------

NAMES = np.array(["intercept", "sex=F", "sex=M", "age"])


def new() -> tuple[pd.DataFrame, pd.DataFrame]:
    names = ["u", "v"]
    return pd.DataFrame({"rs1": [0, 1]}, names), pd.DataFrame({"age": [30, 40], "sex": ["M", "F"]}, names)


def test_new_covariates_are_matched_by_sample_and_level() -> None:
    X, C = new()
    expected = [[1, 0, 1, 30], [1, 1, 0, 40]]
    np.testing.assert_array_equal(design_like(NAMES, C, X), expected)
    np.testing.assert_array_equal(design_like(NAMES, C.iloc[::-1], X), expected)
    np.testing.assert_array_equal(design_like(NAMES, C.reset_index(drop=True), X), expected)
    np.testing.assert_array_equal(design_like(np.array(["intercept"]), None, X), [[1], [1]])


def test_a_covariate_whose_name_holds_an_equals_sign_is_found() -> None:
    X, _ = new()
    C = pd.DataFrame({"a=b": ["c=d", "e"]}, X.index)
    np.testing.assert_array_equal(design_like(np.array(["a=b=c=d", "a=b=e"]), C, X), np.eye(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda C: None, "the fit's covariates 'sex=F', 'sex=M', 'age'"),
        (lambda C: C[["sex"]], "the fit's covariate 'age', got none of that name"),
        (lambda C: C.assign(sex=["M", "X"]), "levels that the fit has seen, got 'X', in covariates, covariate 'sex'"),
        (lambda C: C.assign(age=["30", "forty"]), "got 'forty', in covariates, sample 'v', covariate 'age'"),
        (lambda C: C.assign(age=[30, np.nan]), "a value for every sample, got none in 'age'"),
        (lambda C: C.assign(sex=["M", None]), "a value for every sample, got none in 'sex=F'"),
        (lambda C: C.iloc[:1], "got no sample 'v', in covariates"),
    ],
)
def test_unusable_new_covariates_are_refused(change: Any, words: str) -> None:
    X, C = new()
    with pytest.raises(InputError) as caught:
        design_like(NAMES, change(C), X)
    assert words in str(caught.value)
