"""The robustness map: the same draws in every cell, errors of ratios and of pairs, and sentences that follow them."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgba

import ebmodel
from simulations import robustness
from simulations.estimators import ESTIMATORS, Estimate
from simulations.robustness import CELLS, FEW, MEASURES, MODEL, OTHERS, STRENGTHS, STUDY, TRUTH

STREAM = STUDY.stream(CELLS[0], 3)


def at(violation: str, strength: float) -> xr.Dataset:
    """A cell's data of one replication."""
    cell = {"violation": violation, "strength": strength}
    return robustness.data(cell, STUDY.stream(cell, 3))


# The data ------------------------------------------------------------------------------------------------------------


def test_every_violation_of_the_catalogue_is_on_the_map():
    assert set(STRENGTHS) - {FEW} == set(ebmodel.simulate.VIOLATIONS)
    assert all(list(strengths) == sorted(strengths) and len(strengths) == 3 for strengths in STRENGTHS.values())
    assert len(CELLS) == 1 + 3 * len(STRENGTHS)
    assert CELLS[0] == {"violation": MODEL, "strength": 0.0}


def test_the_map_s_cells_have_the_same_draws():
    model = at(MODEL, 0.0)
    assert np.isnan(model.Y).mean() == pytest.approx(0.2, abs=0.005)
    assert int((~np.isnan(model.Y)).sum("sample").min()) == 40
    for name, strengths in STRENGTHS.items():
        data = at(name, strengths[-1])
        xr.testing.assert_equal(data.X, model.X)
        if name == FEW:
            assert data.sizes["tissue"] == 5
            continue
        xr.testing.assert_equal(data.active, model.active)
        assert not data.Y.equals(model.Y)
        np.testing.assert_array_equal(np.isnan(data.Y).sum("sample"), np.isnan(model.Y).sum("sample"))
    other = robustness.data(CELLS[0], STUDY.stream(CELLS[0], 4))
    assert not other.X.equals(model.X)


def test_the_oracle_is_exact_under_the_model_and_knows_nothing_of_violations():
    model, violated = at(MODEL, 0.0), at("slab-covariance", 1.0)
    ours, exact = robustness.oracle(model, STREAM), ESTIMATORS["oracle"](model, STREAM)
    np.testing.assert_allclose(ours.effects, exact.effects, atol=1e-9)
    np.testing.assert_allclose(ours.probability, exact.probability, atol=1e-9)
    np.testing.assert_allclose(ours.interval, exact.interval, atol=1e-7)
    known = ebmodel.oracle(violated.X, violated.Y, TRUTH)
    np.testing.assert_array_equal(robustness.oracle(violated, STREAM).effects, known.effects)
    assert np.abs(known.effects - ESTIMATORS["oracle"](violated, STREAM).effects).max() > 0.01


def test_sure_calls_are_counted():
    data = xr.Dataset({"active": ("tissue", np.array([True, False, True, False]))})
    found = robustness.sure(Estimate(np.zeros((4, 2)), np.array([0.99, 0.97, 0.95, 0.2])), data)
    assert found == pytest.approx({"sure": 2.0, "sure_false": 1.0, "sure_claimed": 0.04})
    assert np.isnan(list(robustness.sure(Estimate(np.zeros((4, 2))), data).values())).all()


def test_where_the_dear_and_the_exact_are_run():
    slow = [cell for cell in CELLS if robustness.strongest(cell, 0)]
    assert len(slow) == 1 + len(STRENGTHS)
    assert not any(robustness.strongest(cell, robustness.SELECTED) for cell in CELLS)
    for cell in CELLS:
        if robustness.closed_form(cell, 0):
            assert ESTIMATORS["oracle"](robustness.data(cell, STREAM), STREAM).effects.shape == (50, 6)


# Ratios and their errors ---------------------------------------------------------------------------------------------


def invented(seed: int = 1, size: int = 40) -> pd.DataFrame:
    """Results in which strength s multiplies the paper's MSE by 1 + s exactly, but for noise that all cells share."""
    rng = np.random.default_rng(seed)
    noise, calls = rng.uniform(0.8, 1.2, size), rng.integers(5, 20, size)
    rows = []
    for cell in CELLS:
        s = float(cell["strength"])
        for i in range(size):
            row = {**cell, "replication": i, "mse_ols": 3.0 * noise[i], "mse_oracle": 0.9 * noise[i]}
            for part in ("eb", *OTHERS, "eb_selected"):
                row |= {f"mse_{part}": (1 + s) * noise[i], f"auc_{part}": 0.9 - s / 10 + 0.1 * (noise[i] - 1)}
                row |= {f"sure_{part}": calls[i], f"sure_false_{part}": round(calls[i] * min(s / 5, 1)) * (i % 2)}
                row |= {f"fdp_0.05_{part}": 0.05, f"coverage_{part}": 0.95}
            rows.append(row | {"mse_exact": 0.5 * noise[i]})
    return pd.DataFrame(rows)


def test_changes_are_of_pairs():
    """Every data set has its MSE doubled: its own noise is in the value's error and not in the change's."""
    results = invented()
    model = robustness.measured(results, "eb", "model")["curvature", 1.0]
    assert model.value == pytest.approx(2.0)
    assert model.error == pytest.approx(0.0, abs=1e-12)
    assert (model.change, model.change_error) == pytest.approx((np.log(2.0), 0.0), abs=1e-12)
    assert robustness.measured(results, "eb", "ols")["curvature", 1.0].value == pytest.approx(2 / 3)
    auc = robustness.measured(results, "eb", "auc")["curvature", 1.0]
    own = results[(results["violation"] == "curvature") & (results["strength"] == 1.0)]["auc_eb"]
    assert auc.error == pytest.approx(own.sem())
    assert (auc.change, auc.change_error) == pytest.approx((-0.1, 0.0), abs=1e-12)
    sure = robustness.measured(results, "eb", "sure")["curvature", 1.0]
    group = results[(results["violation"] == "curvature") & (results["strength"] == 1.0)]
    assert sure.value == pytest.approx(group["sure_false_eb"].sum() / group["sure_eb"].sum())


def test_a_ratio_s_error_is_that_of_its_scatter():
    rng = np.random.default_rng(2)
    b = rng.gamma(4.0, 0.25, (2000, 60))
    a = 0.5 * b + 0.2 * rng.standard_normal((2000, 60))
    r, away = robustness.ratio(pd.DataFrame(a), pd.DataFrame(b))
    assert abs(r.mean() - 0.5) < 5 * r.std() / np.sqrt(2000)
    # the sd's own error is about 1 / sqrt(2 x 2000) of it, and the linearisation's a few times 1/60
    assert robustness.error(away).mean() == pytest.approx(r.std(ddof=1), rel=0.08)


def test_data_sets_without_a_value_are_left_out():
    a, b = pd.DataFrame([[1.0, np.nan, 3.0]]), pd.DataFrame([[1.0, 1.0, 1.0]])
    r, away = robustness.ratio(a, b)
    assert r[0] == 2.0
    np.testing.assert_array_equal(away, [[-1.0, np.nan, 1.0]])
    assert robustness.error(away)[0] == pytest.approx(1.0)
    assert np.isnan(robustness.ratio(a, 0 * b)[0][0])
    # least squares has no probabilities: no value, and no failure
    assert robustness.measured(invented(), "ols", "sure") == {}
    assert robustness.measured(invented(), "ols", "auc") == {}


# What is shown -------------------------------------------------------------------------------------------------------


def test_a_table_says_what_is_clearly_worse():
    table = robustness.as_table(invented(), "eb")
    assert len(table.rows) == len(CELLS)
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["the model"][0] == "1.00 ± 0.00"
    assert rows["curvature 1"][0] == "**2.00** ± 0.00"
    assert rows["curvature 1"][3].startswith("**0.8")
    assert rows["curvature 1"][6] == "95.0 ± 0.0"
    assert rows["5 tissues"][0] == "**1.90** ± 0.00"
    assert not any("**" in cell for cell in rows["the model"])
    assert table.latex().isascii()
    short = robustness.table(invented())
    assert short.count("\n| curvature 1 |") == 2
    assert "curvature 0.5 |" not in short


def test_sentences_follow_the_numbers():
    results = invented()
    told = robustness.finding(results)
    assert "in MSE skewed-errors 2 (3.00 times the model's)" in told
    assert re.search(r"in AUC \w[\w-]+ 2 \(0\.\d+ against 0\.\d+ under the model\)", told)
    assert "at every strength but: skewed-errors 2 (1.00 ± 0.00), sample-size 2" in told
    assert "0.0 ± 0.0 % are inactive under the model; more than 5 %" in told
    assert "Even at their largest strengths" not in told
    told = robustness.others(results)
    assert "known, is 4.00 (the paper's), 4.00 (power, hierarchical), 4.00 (power, mean zero) with slab-cov" in told
    assert told.endswith(" with unequal-variances 1.")
    told = told.split("The MSE over that of the exact")[0]
    assert "“power, hierarchical”" not in told
    lower = results.assign(mse_eb_general=np.where(results["violation"] == "two-slabs", 0.5, 1.0) * results["mse_eb"])
    assert "The MSE of the fit “power, hierarchical” over that of the paper's" in robustness.others(lower)
    assert "is below 1 with two-slabs 1 (0.50), by more than two" in robustness.others(lower)
    better = results.assign(mse_ols=10 * results["mse_ols"], sure_false_eb=0)
    told = robustness.finding(better)
    assert "below that of OLS at every strength; the ratio is at most 0.10" in told
    assert "and nowhere more than 5 %." in told


def test_violations_that_cost_little_are_named():
    results = invented()
    model = results[results["violation"] == MODEL].drop(columns=["violation", "strength"]).set_index("replication")
    keys = results["violation"] == "heavy-tails"
    for column in model:
        results.loc[keys, column] = model.loc[results.loc[keys, "replication"], column].to_numpy()
    told = robustness.finding(results)
    assert "Even at their largest strengths heavy-tails cost less than 10 % of MSE, 0.01 of AUC" in told
    results.loc[keys, "coverage_eb"] -= 0.021
    assert "Even at their largest strengths" not in robustness.finding(results)


def test_the_map_shades_what_is_clearly_worse():
    drawing = robustness.figure(invented())
    panels = drawing.axes
    assert [len(ax.get_xticks()) for ax in panels] == [len(MEASURES), 4, 4]
    for ax in panels:
        (image,) = ax.get_images()
        shades = image.get_array()
        assert shades.shape[:2] == (len(CELLS), len(ax.get_xticks()))
        assert len(ax.texts) == len(CELLS) * len(ax.get_xticks())
    shades = panels[0].get_images()[0].get_array()
    white = (shades == to_rgba("white")).all(axis=-1)
    assert white[0].all()  # the model
    assert white[:, -1].all()  # coverage, the same everywhere
    assert not white[1:, 0].any()  # the MSE
    grey = shades[:, 0, :3] @ np.array([0.299, 0.587, 0.114])
    strength = np.array([float(cell["strength"]) for cell in CELLS])
    assert (np.diff(grey[np.argsort(strength, kind="stable")]) <= 1e-9).all()  # the worse the darker, in grey too
    assert [label.get_text() for label in panels[0].get_yticklabels()][:2] == ["the model", "heavy-tails 0.25"]


# What is stored ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return STUDY.read()


def test_the_stored_map_is_complete(stored: pd.DataFrame):
    assert not any(lacking.any() for lacking in STUDY.lacking(STUDY.replications).values())
    assert len(stored) == 100 * len(CELLS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not re.search(r"\b(nan|inf)\b", STUDY.table(stored))
        assert all(table.latex().isascii() for table in STUDY.tables(stored))


def test_under_the_model_the_oracle_s_probabilities_hold(stored: pd.DataFrame):
    """The check of the study on itself: false calls are as many as claimed, and so are those at a nominal rate."""
    model = stored[stored["violation"] == MODEL]
    excess = model["sure_false_oracle"] - model["sure_claimed_oracle"]
    assert abs(excess.mean()) <= 4 * excess.sem()
    assert model["fdp_0.05_oracle"].mean() <= 0.05 + 4 * model["fdp_0.05_oracle"].sem()
    np.testing.assert_allclose(model["mse_oracle"], model["mse_exact"], rtol=1e-9)
    for name in robustness.KNOWN:
        known = stored[stored["violation"] == name]
        excess = known["sure_false_exact"] - known["sure_claimed_exact"]
        assert abs(excess.mean()) <= 4 * excess.sem()
        lost = known["mse_eb"] - known["mse_exact"]
        assert lost.mean() > 4 * lost.sem()


def test_the_stored_claims_are_those_of_the_stored_numbers(stored: pd.DataFrame):
    told = robustness.finding(stored)
    means = stored.groupby(["violation", "strength"]).mean(numeric_only=True)
    model = means.loc[(MODEL, 0.0)]
    mse = (means["mse_eb"] / model["mse_eb"]).drop(index=FEW)
    name, strength = mse.idxmax()
    assert f"in MSE {name} {strength:g} ({mse.max():.2f} times the model's)" in told
    name, strength = means["auc_eb"].drop(index=FEW).idxmin()
    assert f"in AUC {name} {strength:g} ({means['auc_eb'][name, strength]:.3f} against {model['auc_eb']:.3f}" in told
    calls = stored.groupby(["violation", "strength"])[["sure_eb", "sure_false_eb"]].sum()
    share = (calls["sure_false_eb"] / calls["sure_eb"]).drop(index=FEW)
    name, strength = share.idxmax()
    assert f"in FDR of P(I=1) > 0.95 {name} {strength:g} ({100 * share.max():.1f} %" in told


@pytest.mark.statistical
def test_a_stored_replication_runs_again(stored: pd.DataFrame):
    before = stored.set_index(["violation", "strength", "replication"])
    for cell in CELLS[::4]:
        for part, record in STUDY.records(cell, 50).items():
            for metric, value in record.items():
                if metric != "seconds" and np.isfinite(value):
                    want = before.loc[(cell["violation"], cell["strength"], 50), f"{metric}_{part}"]
                    np.testing.assert_allclose(value, want, rtol=1e-3, atol=1e-3, err_msg=f"{cell} {part} {metric}")
