"""Contrasts with a common baseline: against the formula effect by effect, and the R implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

from ebmodel.errors import InputError
from ebmodel.mash import contrasts
from ebmodel.mash.contrasts import contrast, contrast_covariances, contrast_matrix
from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy

REFERENCE = Path(__file__).parents[2] / "shared" / "mash_reference" / "E_hetero_V"
NAMES = ["control", "heat", "cold", "dark"]


def correlation(R: int, rho: float = 0.3) -> Any:
    return rho ** np.abs(np.subtract.outer(np.arange(R), np.arange(R)))


def data(J: int = 30, R: int = 4, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame, Any]:
    rng = np.random.default_rng(seed)
    names = {"columns": NAMES[:R], "index": [f"gene{j}" for j in range(J)]}
    bhat, shat = rng.standard_normal((J, R)), np.exp(0.4 * rng.standard_normal((J, R)))
    return pd.DataFrame(bhat, **names), pd.DataFrame(shat, **names), correlation(R)


def covariance(found: contrasts.Contrast, j: int) -> Any:
    """V_j of what was found."""
    s, C = found.shat.to_numpy()[j], found.V.to_numpy()
    return np.outer(s, s) * (C[j] if C.ndim == 3 else C)


def test_rows_are_conditions_less_the_reference() -> None:
    L = contrast_matrix(["a", "b", "c"], reference="b")
    np.testing.assert_array_equal(L, [[1, -1, 0], [0, -1, 1]])
    assert L.dims == ("condition", "condition_other")
    assert L.condition.to_numpy().tolist() == ["a-b", "c-b"]
    mean = contrast_matrix(["a", "b", "c"])
    np.testing.assert_allclose(mean, [[2 / 3, -1 / 3, -1 / 3], [-1 / 3, 2 / 3, -1 / 3]])
    assert mean.condition.to_numpy().tolist() == ["a-mean", "b-mean"]
    other = contrast_matrix(["a", "b", "c"], drop="a")
    np.testing.assert_allclose(-mean.sum("condition"), other.sel(condition="c-mean"), atol=1e-15)


@pytest.mark.parametrize("reference", ["mean", "control", "cold"])
@pytest.mark.parametrize("own", [False, True])
def test_contrasts_are_the_formula_effect_by_effect(reference: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrasts, "ROWS", 7)
    bhat, shat, C = data()
    V = np.stack([correlation(4, 0.9 * j / 30) for j in range(30)]) if own else C
    found = contrast(bhat, shat, V, reference)
    L = contrast_matrix(NAMES, reference).to_numpy()
    np.testing.assert_allclose(found.chat, bhat.to_numpy() @ L.T, rtol=1e-12, atol=1e-14)
    for j in range(30):
        A = L @ np.diag(shat.to_numpy()[j])
        np.testing.assert_allclose(covariance(found, j), A @ (V[j] if own else V) @ A.T, rtol=1e-12, atol=1e-14)
    assert found.V.shape == (30, 3, 3)
    assert (np.diagonal(found.V, axis1=1, axis2=2) == 1.0).all()
    assert found.chat.effect.to_numpy().tolist() == bhat.index.tolist()
    assert found.chat.condition.to_numpy().tolist() == found.V.condition.to_numpy().tolist()


def test_errors_are_those_of_simulated_contrasts() -> None:
    rng = np.random.default_rng(2)
    s, C, J = np.array([1.0, 2.0, 0.5, 1.0]), correlation(4, 0.5), 40_000
    bhat = rng.multivariate_normal(np.zeros(4), C * np.outer(s, s), J)
    found = contrast(bhat, np.tile(s, (J, 1)), C, "condition_1")
    V = covariance(found, 0)
    error = np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / J)  # of a covariance of normal variables
    assert (np.abs(np.cov(found.chat.T) - V) < 4 * error).all()


def test_one_correlation_serves_all_whose_errors_are_in_proportion() -> None:
    bhat, shat, C = data()
    shat = pd.DataFrame(np.outer(shat.iloc[:, 0], [1.0, 2.0, 3.0, 0.5]), index=bhat.index, columns=bhat.columns)
    bhat.iloc[3, 1] = np.nan
    shat.iloc[7] *= 100.0
    found = contrast(bhat.drop(index="gene3"), shat.drop(index="gene3"), C)
    assert found.V.shape == (3, 3)
    A = contrast_matrix(NAMES).to_numpy() @ np.diag(shat.to_numpy()[5])
    np.testing.assert_allclose(covariance(found, 4), A @ C @ A.T, rtol=1e-12)
    constant = contrast(bhat, 2.0, C, "control")  # and missing cells do not change that
    assert constant.V.shape == (3, 3)
    assert np.isnan(constant.shat).sum() == 1


@pytest.mark.parametrize("own", [False, True])
def test_a_contrast_with_a_missing_estimate_is_missing(own: bool) -> None:
    bhat, shat, C = data()
    complete = contrast(bhat, shat, C, "control")
    bhat.loc["gene2", "cold"] = np.nan
    shat.loc["gene2", "cold"] = np.nan
    bhat.loc["gene5", "control"] = np.nan
    V = np.stack([C] * 30) if own else C
    if own:
        V[2, 2], V[2, :, 2] = np.nan, np.nan
    found = contrast(bhat, shat, V, "control")
    gone = np.isnan(found.chat)
    assert gone.sel(effect="gene2").to_numpy().tolist() == [False, True, False]
    assert gone.sel(effect="gene5").all()
    assert gone.sum() == 4
    xr.testing.assert_equal(gone.rename("shat"), np.isnan(found.shat))
    # the others have the joint distribution that they have with all estimates there
    kept = [0, 2]
    np.testing.assert_allclose(
        covariance(found, 2)[np.ix_(kept, kept)], covariance(complete, 2)[np.ix_(kept, kept)], rtol=1e-12
    )
    assert np.isfinite(found.V).all()
    assert np.isnan(contrast(bhat, shat, V).chat).sum() == 6  # the mean misses all of both effects


def test_contrasts_can_be_fitted_as_they_are() -> None:
    bhat, shat, C = data()
    bhat.iloc[4, 2] = np.nan
    found = contrast(bhat, shat, C, "control")
    effects = tidy(found.chat, found.shat, found.V)
    assert effects.conditions.tolist() == ["heat-control", "cold-control", "dark-control"]
    assert effects.observed.sum() == 30 * 3 - 1


def log_marginal(found: contrasts.Contrast, covariances: list[Covariance], weights: Any) -> Any:
    """log sum_k w_k N(c_hat_j; 0, V_j + U_k), (effect,); the last weight is the point mass's."""
    total = np.empty(found.chat.shape[0])
    for j, chat in enumerate(found.chat.to_numpy()):
        V = covariance(found, j)
        parts = [V + U.matrix for U in covariances] + [V]
        zero = np.zeros(len(V))
        total[j] = np.log(
            sum(w * multivariate_normal.pdf(chat, zero, part) for w, part in zip(weights, parts, strict=True))
        )
    return total


def test_the_implied_prior_does_not_know_the_reference() -> None:
    bhat, shat, C = data(10)
    every = canonical(NAMES)
    kept = [U for U in every if U.name != "equal_effects"]
    weights = np.random.default_rng(5).dirichlet(np.ones(len(kept) + 1))
    loglik = {}
    for reference in ("mean", "control", "dark"):
        found = contrast(bhat, shat, C, reference)
        carried = contrast_covariances(every, found.L)
        assert [U.name for U in carried] == [U.name for U in kept]
        loglik[reference] = log_marginal(found, carried, weights)
    np.testing.assert_allclose(loglik["control"], loglik["dark"], rtol=1e-9)
    change = loglik["mean"] - loglik["control"]  # c - mean are linear in c - control: a constant Jacobian
    np.testing.assert_allclose(change, np.log(4.0), rtol=1e-9)


def test_covariances_are_carried_over() -> None:
    L = contrast_matrix(NAMES, "control")
    carried = {U.name: U for U in contrast_covariances(canonical(NAMES), L)}
    np.testing.assert_allclose(carried["control"].matrix, np.ones((3, 3)))
    np.testing.assert_allclose(carried["cold"].matrix, np.diag([0.0, 1.0, 0.0]))
    np.testing.assert_allclose(carried["identity"].matrix, np.eye(3) + 1.0)
    assert carried["cold"].support.tolist() == [1]
    assert carried["identity"].kind == "canonical"
    assert carried["simple_het_1"].rank == 3
    mean = {U.name for U in contrast_covariances(canonical(NAMES), contrast_matrix(NAMES))}
    assert mean == set(carried)


def test_a_given_matrix_is_matched_by_name() -> None:
    bhat, shat, C = data()
    L = contrast_matrix(NAMES, "cold")
    found = contrast(bhat, shat, C, L[:, [3, 1, 0, 2]])
    wanted = contrast(bhat, shat, C, "cold")
    for one in ("chat", "shat", "V", "L"):
        xr.testing.assert_allclose(getattr(found, one), getattr(wanted, one), rtol=1e-12)
    bare = contrast(bhat.to_numpy(), shat.to_numpy(), C, L)  # without names, by position
    np.testing.assert_allclose(bare.chat, wanted.chat, rtol=1e-12)
    xr.testing.assert_equal(bare.L, wanted.L)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"reference": "light"}, "'mean' or one of 'control'.*'light'"),
        ({"reference": xr.DataArray(np.eye(2), {"condition": ["a", "b"], "condition_other": ["c", "d"]},
                                    ("condition", "condition_other"))}, "the conditions of bhat"),
        ({"reference": contrast_matrix(NAMES)[[0, 1, 0]]}, "3 of rank 2"),
        ({"V": 2.0 * np.eye(3)}, "a shape of"),
    ],
)  # fmt: skip
def test_what_is_no_contrast_is_refused(change: dict[str, Any], match: str) -> None:
    bhat, shat, C = data()
    with pytest.raises(InputError, match=match):
        contrast(**{"bhat": bhat, "shat": shat, "V": C} | change)


def test_a_contrast_without_error_is_refused() -> None:
    bhat, shat, _ = data(R=3)
    shat["heat"] = shat["control"]
    C = np.eye(3)
    C[0, 1] = C[1, 0] = 1.0
    with pytest.raises(InputError, match=r"positive definite.*repeats others"):
        contrast(bhat, shat, C, "control")


def test_matrices_that_are_none_are_refused() -> None:
    for names, settings, match in (
        (["a"], {}, "at least two conditions"),
        (["a", "b"], {"reference": "a", "drop": "b"}, "the mean as reference"),
        (["a", "b"], {"drop": "c"}, "in drop"),
        (["a", "mean"], {}, "one named 'mean'"),
    ):
        with pytest.raises(InputError, match=match):
            contrast_matrix(names, **settings)
    with pytest.raises(InputError, match="a covariance of 4 conditions"):
        contrast_covariances(canonical(3), contrast_matrix(NAMES))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference results are not here")
def test_contrasts_are_those_of_the_r_implementation(pin: Any) -> None:
    tables = {
        name: pd.read_csv(REFERENCE / f"{name}.csv.gz", index_col=0)
        for name in ("Chat", "Shat_orig", "L", "V_measurements", "data_Bhat", "data_Shat")
    }
    V = tables["V_measurements"].to_numpy()
    found = contrast(tables["Chat"], tables["Shat_orig"], V, "condition_1")
    np.testing.assert_array_equal(found.L, tables["L"])
    assert found.L.condition.to_numpy().tolist() == tables["L"].index.tolist()
    pin(found.chat, tables["data_Bhat"], 1e-14)
    pin(found.shat, tables["data_Shat"], 1e-14)
