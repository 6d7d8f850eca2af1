"""Cross-validated prediction: what is learnt on training folds, R², verdicts, and the command."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel import InputError
from ebmodel.data import Data, tidy
from ebmodel.labels import SNP
from simulations import prediction
from simulations.prediction import OURS, Score, fold, read_data, regress, scores, size, split, spread, studies, verdicts
from simulations.study import Study
from simulations.tables import Table

CELL = {"data": "toy", "snps": "all", "folds": 4, "seed": 0, "checksum": "0"}


def frames(n: int = 60, p: int = 8, m: int = 3, missing: float = 0.0, seed: int = 1) -> tuple[pd.DataFrame, ...]:
    """Genotypes, traits with effects of two SNPs and of the covariates, and covariates, one of them text."""
    rng = np.random.default_rng([seed, n, p, m])
    names = [f"s{i}" for i in range(n)]
    X = pd.DataFrame(rng.integers(0, 3, (n, p)).astype(float), names, [f"snp{j}" for j in range(p)])
    C = pd.DataFrame({"age": rng.normal(40, 10, n), "sex": rng.choice(["F", "M"], n)}, names)
    signal = X.to_numpy()[:, [0, 1]].sum(axis=1) + 0.1 * C["age"].to_numpy() + 2.0 * (C["sex"] == "M").to_numpy()
    Y = pd.DataFrame(signal[:, None] + rng.standard_normal((n, m)), names, [f"trait{t}" for t in range(m)])
    return X, Y.mask(rng.random((n, m)) < missing), C


def toy(**knobs) -> Data:
    return tidy(*frames(**knobs), intercept=True)


def small(tmp_path: Path, data: Data, *estimators: str, snps: str = "all", repeats: int = 2) -> Study:
    (study,) = studies(data, "toy", [snps], estimators, folds=4, repeats=repeats, folder=tmp_path)
    study.folder.mkdir(parents=True, exist_ok=True)
    return study


def run(tmp_path: Path, data: Data, *estimators: str, **knobs) -> Score:
    small(tmp_path, data, *estimators, **knobs).run(jobs=1, progress=False)
    return scores(tmp_path)[0]


# What is learnt, and where -------------------------------------------------------------------------------------------


def test_covariates_are_removed_over_observed_rows():
    data = toy(missing=0.3)
    a, s = regress(data.C, data.Y)
    for t, y in enumerate(data.Y.T):
        rows = ~np.isnan(y)
        expected, *_ = np.linalg.lstsq(data.C[rows], y[rows])
        np.testing.assert_allclose(data.C @ a[:, t], data.C @ expected, atol=1e-9)
        # the intercept and both sexes: three columns beside age, of rank two
        residual = y[rows] - data.C[rows] @ expected
        assert s[t] == pytest.approx(np.sqrt(residual @ residual / (rows.sum() - 3)))


def test_an_estimator_sees_scaled_residuals_of_the_training_samples():
    data = toy()
    train = np.arange(60) % 4 != 0
    part = fold(data, train, "all")
    X, Y = part.training["X"].to_numpy(), part.training["Y"].to_numpy()
    assert X.shape == (45, 8)
    for values in (X, Y):
        np.testing.assert_allclose(data.C[train].T @ values, 0.0, atol=1e-9)
        np.testing.assert_allclose(np.sum(values**2, axis=0), 45 - 3)  # a mean square of one


@pytest.mark.parametrize("snps", ["all", "screen:3"])
def test_held_out_samples_teach_nothing(snps: str):
    data = toy(missing=0.2)
    train = np.arange(60) % 4 != 0
    rng = np.random.default_rng(0)
    changed = [np.where(train[:, None], a, rng.normal(5.0, 3.0, a.shape)) for a in (data.X, data.Y, data.C)]
    other = replace(data, **dict(zip("XYC", changed, strict=True)))
    first, second = fold(data, train, snps), fold(other, train, snps)
    xr.testing.assert_identical(first.training, second.training)
    assert not np.allclose(first.X, second.X)


def test_screening_finds_the_snps_that_act_in_the_training_samples():
    data = toy(n=200)
    part = fold(data, np.arange(200) < 160, "screen:2")
    assert set(part.training[SNP].to_numpy()) == {"snp0", "snp1"}


def test_a_snp_that_does_not_vary_in_training_is_left_out():
    data = toy()
    train = np.arange(60) % 4 != 0
    X = data.X.copy()
    X[train, 5] = 1.0
    for snps in ("all", "spread:8", "screen:8"):
        part = fold(replace(data, X=X), train, snps)
        assert "snp5" not in part.training[SNP]
        assert part.X.shape[1] == part.training.sizes[SNP] == 7


def test_a_trait_that_does_not_vary_in_training_is_named():
    data = toy()
    Y = data.Y.copy()
    Y[np.arange(60) % 4 != 0, 1] = np.nan
    with pytest.raises(InputError, match="trait1"):
        fold(replace(data, Y=Y), np.arange(60) % 4 != 0, "all")


def test_snps_are_spread_over_the_file():
    np.testing.assert_array_equal(spread(9, 3), [0, 4, 8])
    np.testing.assert_array_equal(spread(3, 9), [0, 1, 2])
    assert len(spread(1279, 100)) == 100
    assert [size(snps, 50) for snps in ("all", "spread:10", "screen:99")] == [50, 10, 50]
    for wrong in ("some", "spread", "spread:0", "top:5", "all:3x"):
        with pytest.raises(InputError, match="--snps"):
            size(wrong, 50)


def test_folds_differ_by_one_sample_at_most():
    which = split(23, 5, np.random.default_rng(0))
    assert sorted(np.bincount(which)) == [4, 4, 5, 5, 5]
    assert not np.array_equal(which, np.sort(which))


# R² ------------------------------------------------------------------------------------------------------------------


def test_r2_of_least_squares_is_that_of_one_regression_on_snps_and_covariates(tmp_path: Path):
    data = toy()
    study = small(tmp_path, data, "zero", "ols")
    found = study.records(study.cells[0], 0)
    held_out = split(60, 4, np.random.default_rng(prediction.child(study.stream(study.cells[0], 0), "folds")))
    errors = np.zeros((2, 3))
    for k in range(4):
        train, test = held_out != k, held_out == k
        for i, design in enumerate((np.column_stack([data.C, data.X]), data.C)):
            coefficients, *_ = np.linalg.lstsq(design[train], data.Y[train])
            errors[i] += np.sum((data.Y[test] - design[test] @ coefficients) ** 2, axis=0)
    expected = 1 - errors[0] / errors[1]
    np.testing.assert_allclose([found["ols"][f"R² trait{t}"] for t in range(3)], expected, rtol=1e-9)
    assert [found["zero"][f"R² trait{t}"] for t in range(3)] == [0.0, 0.0, 0.0]
    assert found["ols"]["p"] == 8
    assert found["ols"]["seconds"] > 0


def test_r2_does_not_depend_on_units(tmp_path: Path):
    data = toy(missing=0.2)
    scaled = replace(data, Y=data.Y * [1.0, 100.0, 0.01], X=data.X * 3.0 + 1.0, C=data.C * 2.0)
    study = small(tmp_path, data, "ridge")
    first = study.records(study.cells[0], 0)["ridge"]
    second = replace(study, replicate=replace(study.replicate, data=scaled)).records(study.cells[0], 0)["ridge"]
    for t in range(3):
        assert second[f"R² trait{t}"] == pytest.approx(first[f"R² trait{t}"], rel=1e-9)


def test_only_observed_responses_are_judged(tmp_path: Path):
    complete, missing = toy(), toy(missing=0.3)
    mixed = replace(complete, Y=np.column_stack([complete.Y[:, :2], missing.Y[:, 2]]))
    study = small(tmp_path, complete, "ols")
    first = study.records(study.cells[0], 0)["ols"]
    second = replace(study, replicate=replace(study.replicate, data=mixed)).records(study.cells[0], 0)["ols"]
    for trait in ("trait0", "trait1"):  # other traits' missing values change nothing
        assert second[f"R² {trait}"] == pytest.approx(first[f"R² {trait}"], rel=1e-9)
    assert np.isfinite(second["R² trait2"])
    assert second["R² trait2"] != pytest.approx(first["R² trait2"], rel=1e-3)


def test_r2_is_the_share_of_variance_that_snps_explain(tmp_path: Path):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((600, 3))
    Y = X @ np.full((3, 4), np.sqrt(1 / 3)) + rng.standard_normal((600, 4))  # half of the variance
    average = run(tmp_path, tidy(X, Y, intercept=True), "ols", repeats=2).average
    # an R² of n samples has sd 2 sqrt(R²) (1 - R²) / sqrt(n) = 0.029; of four independent errors' average at most that
    assert float(average.mean()) == pytest.approx(0.5, abs=4 * 0.029)


def test_least_squares_without_an_estimate_has_no_r2(tmp_path: Path):
    data = toy(p=20)
    Y = data.Y.copy()
    Y[20:, 0] = np.nan
    score = run(tmp_path, replace(data, Y=Y), "zero", "ols", "ridge")
    mean = score.r2.mean("repeat", skipna=False)
    assert np.isnan(mean.sel(estimator="ols", trait="trait0"))
    assert np.isfinite(mean.sel(estimator="ols", trait="trait1"))
    row = prediction.by_trait(score).rows[0]
    assert row[0] == "trait0"
    assert row[2] == "–"
    assert prediction.summary([score]).rows[0][2] == "–"  # no average without it


# The study -----------------------------------------------------------------------------------------------------------


def test_estimators_are_added_to_what_is_stored(tmp_path: Path):
    data = toy()
    first = run(tmp_path, data, "ols")
    both = run(tmp_path, data, "ridge")
    assert list(both.r2["estimator"].to_numpy()) == ["ols", "ridge"]
    xr.testing.assert_equal(both.r2.sel(estimator=["ols"]), first.r2)
    assert both.seconds["ols"] == first.seconds["ols"]  # it was not run again
    together = run(tmp_path / "new", data, "ols", "ridge")
    xr.testing.assert_equal(together.r2, both.r2)


def test_repeats_split_anew_and_a_seed_gives_them_again(tmp_path: Path):
    data = toy()
    first, again = (run(tmp_path / name, data, "ols", repeats=3).average.to_numpy() for name in ("a", "b"))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == 3
    cells = [{**CELL, "seed": seed} for seed in (0, 1)]
    study = small(tmp_path, data, "ols")
    assert study.records(cells[0], 0)["ols"]["R² trait0"] != study.records(cells[1], 0)["ols"]["R² trait0"]


def test_other_data_are_refused_by_a_store(tmp_path: Path):
    run(tmp_path, toy(), "zero")
    with pytest.raises(InputError, match="cells of the study"):
        run(tmp_path, toy(seed=2), "zero")


def test_as_many_snps_as_samples_are_refused(tmp_path: Path):
    data = toy(n=24, p=30)
    with pytest.raises(InputError, match=r"at most 12 SNPs.*got 30.*spread:12"):  # 18 samples, 4 covariates
        studies(data, "toy", ["all"], folds=4)
    assert np.isfinite(run(tmp_path, data, "ols", "ridge", "eb", snps="spread:12").r2).all()


def test_unknown_estimators_and_folds_are_refused():
    data = toy()
    for wrong in ({"estimators": ["oracle"]}, {"folds": 1}, {"folds": 61}, {"snps": ["nearest:3"]}, {"repeats": 1}):
        with pytest.raises(InputError, match=r"--estimators|--folds|--snps|--repeats"):
            studies(data, "toy", **wrong)


# Verdicts and tables -------------------------------------------------------------------------------------------------


def made_up(**r2: list[list[float]]) -> Score:
    """R² by estimator, (repeat, trait)."""
    values = np.array(list(r2.values()), dtype=float)
    coords = {"estimator": list(r2), "trait": [f"trait{t}" for t in range(values.shape[2])]}
    array = xr.DataArray(values, dims=("estimator", "repeat", "trait"), coords=coords)
    return Score("toy", "spread:9", array, 9.0, 5, dict.fromkeys(r2, 1.0))


def test_verdicts_compare_with_the_best_rival_on_the_same_splits():
    score = made_up(
        zero=[[0, 0, 0]] * 3,
        ridge=[[0.10, 0.20, 0.3], [0.12, 0.22, 0.3], [0.14, 0.24, 0.3]],
        lasso=[[0.05, 0.30, 0.3], [0.05, 0.30, 0.3], [0.05, 0.30, 0.3]],
        eb_power=[[0.9, 0.9, 0.9]] * 3,  # no rival: ours in part
        eb_selected=[[0.11, 0.28, 0.2], [0.13, 0.31, 0.2], [0.15, 0.30, 0.2]],
    )
    found = verdicts(score)
    assert list(found["verdict"]) == ["not", "best", "within", "not"]
    assert list(found["rival"]) == ["lasso", "ridge", "lasso", "ridge"]
    assert list(found.index) == ["average", "trait0", "trait1", "trait2"]
    # paired: ours is 0.01 above in every repeat
    assert found.loc["trait0", "difference"] == pytest.approx(0.01)
    assert found.loc["trait0", "se"] == pytest.approx(0.0, abs=1e-12)
    differences = np.array([-0.02, 0.01, 0.0])
    assert found.loc["trait1", "se"] == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    text = prediction.finding([score])
    assert "toy, 9 spread evenly" in text
    assert "the best in 1, within one standard error of the best in 1, and neither in 1: trait2 −0.1000" in text
    assert "repeats share their data" in prediction.summary([score]).caption


def test_a_finding_says_what_has_not_been_run():
    text = prediction.finding([made_up(zero=[[0.0], [0.0]])])
    assert f"{prediction.WORDS[OURS]} has not been run" in text


def test_tables_give_means_with_errors_and_the_best_in_bold():
    score = made_up(zero=[[0, 0]] * 2, ridge=[[0.1, 0.3], [0.2, 0.3]], lasso=[[0.05, 0.3001], [0.05, 0.3001]])
    table = prediction.by_trait(score)
    assert isinstance(table, Table)
    assert table.rows[0] == ["trait0", "0.000 ± 0.000", "**0.150 ± 0.050**", "0.050 ± 0.000"]
    assert table.rows[1][2:] == ["**0.300 ± 0.000**", "**0.300 ± 0.000**"]  # equal as shown
    assert table.rows[2][0] == "average"
    assert table.rows[2][2] == "**0.225 ± 0.025**"
    assert prediction.summary([score]).rows == [["toy, 9 spread evenly", *table.rows[2][1:]]]


def test_the_figure_has_a_panel_for_each_set_and_a_number_for_what_is_off_it():
    made = made_up(zero=[[0, 0]] * 2, ols=[[-1.0, 0.1]] * 2, ridge=[[0.1, 0.2]] * 2, eb_general=[[0.1, 0.3]] * 2)
    drawing = prediction.figure([made, replace(made, snps="all"), replace(made, data="other")])
    shown = [panel for panel in drawing.axes if panel.get_visible()]
    assert [panel.get_title() for panel in shown] == ["toy, 9 spread evenly", "toy, all SNPs", "other, 9 spread evenly"]
    assert [text.get_text() for text in shown[0].texts] == ["◂ −0.45"]


# Files and the command -----------------------------------------------------------------------------------------------


def written(folder: Path) -> list[str]:
    X, Y, C = frames(missing=0.1)
    C.loc["s3", "age"] = np.nan
    X.drop(index="s5").to_csv(folder / "X.csv", index_label="sample")
    Y.join(C).to_csv(folder / "Y.csv", index_label="sample")
    files = ["--genotypes", str(folder / "X.csv"), "--expression", str(folder / "Y.csv")]
    return [*files, "--covariates", str(folder / "Y.csv"), "--columns", "age", "sex"]


def test_covariates_are_no_traits_and_samples_without_them_are_left_out(tmp_path: Path):
    written(tmp_path)
    data = read_data(tmp_path / "X.csv", tmp_path / "Y.csv", tmp_path / "Y.csv", ["age", "sex"])
    assert list(data.tissues) == ["trait0", "trait1", "trait2"]
    assert len(data.samples) == 58
    assert not {"s3", "s5"} & set(data.samples)
    assert list(data.covariates) == ["intercept", "age", "sex=F", "sex=M"]
    assert read_data(tmp_path / "X.csv", tmp_path / "Y.csv", tmp_path / "Y.csv", ["sex"]).tissues[-1] == "age"
    with pytest.raises(InputError, match="--columns"):
        read_data(tmp_path / "X.csv", tmp_path / "Y.csv", tmp_path / "Y.csv", ["height"])


def test_the_command_runs_goes_on_and_shows_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    common = ["--name", "toy", "--snps", "spread:4", "--repeats", "2", "--folds", "3", "--jobs", "1"]
    asked = [*written(tmp_path), *common, "--out", str(tmp_path)]
    assert prediction.main([*asked, "--estimators", "zero", "ridge"]) == 0
    first = capsys.readouterr().out
    assert "| toy, 4 spread evenly |" in first
    assert prediction.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == first
    for name in ("prediction", "prediction_toy_spread_4", "prediction_seconds"):
        assert (tmp_path / "tables" / f"{name}.tex").exists()
    assert (tmp_path / "prediction.png").stat().st_size > 0
    store = tmp_path / "prediction" / "toy-spread-4.zarr"
    assert not [path for path in store.rglob("zarr.json") if str(tmp_path) in path.read_text()]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--name", "toy", "--estimators", "oracle"], "--estimators"),
        (["--name", "toy", "--snps", "nearest"], "--snps"),
        ([], "--expression and --name"),
    ],
)
def test_the_command_says_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str], more, said):
    assert prediction.main([*written(tmp_path), *more, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_the_command_without_results_asks_for_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert prediction.main(["--out", str(tmp_path)]) == 2
    assert "give --genotypes" in capsys.readouterr().err


@pytest.mark.statistical
@pytest.mark.skipif("EBMODEL_WHEAT" not in os.environ, reason="EBMODEL_WHEAT is no folder with the wheat data")
def test_ridge_predicts_the_yield_of_wheat(tmp_path: Path):
    folder = Path(os.environ["EBMODEL_WHEAT"])
    data = read_data(folder / "wheat_markers.csv.gz", folder / "wheat_yield.csv")
    average = run(tmp_path, data, "zero", "ridge", snps="spread:300").average.mean("repeat")
    # published predictive correlations with all markers are 0.4 to 0.6: an R² of 0.15 to 0.35
    assert 0.1 < float(average.sel(estimator="ridge")) < 0.35
