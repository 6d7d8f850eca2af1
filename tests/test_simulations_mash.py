"""The study of mash: what is compared is what it says, judged by numbers that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import ebmodel.mash
from ebmodel.mash.covariances import canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.posterior import posterior
from ebmodel.mash.prior import Prior
from ebmodel.mash.results import posterior_dataset
from ebmodel.mash.simulation import SCENARIOS, scenario
from simulations import mash
from simulations.mash import STUDY, Estimate

FEW = ("Brain_Cortex", "Brain_Cerebellum", "Testis", "Whole_Blood")
STREAM = np.random.SeedSequence(5)


@pytest.fixture
def small(monkeypatch):
    """A study of 400 effects in 4 conditions."""
    monkeypatch.setattr(mash, "TISSUES", FEW)
    monkeypatch.setattr(mash, "EFFECTS", 400)
    monkeypatch.setattr(mash, "SHARE", 0.3)


def estimate(mean, lfsr, evidence=None):
    mean, lfsr = np.array(mean, dtype=float), np.array(lfsr, dtype=float)
    return Estimate(mean, lfsr, -lfsr.min(axis=1) if evidence is None else np.array(evidence))


def truth(b, bhat=None):
    cells = "effect", "condition"
    b = np.array(b, dtype=float)
    return xr.Dataset({"b": (cells, b), "bhat": (cells, b + 1.0 if bhat is None else np.array(bhat, dtype=float))})


def test_with_one_condition_mash_is_ash():
    """Stephens (2017): a mixture of normals on a grid, its weights by penalised maximum likelihood."""
    rng = np.random.default_rng(3)
    s = rng.uniform(0.5, 2.0, 500)
    b = np.where(rng.random(500) < 0.4, 3.0 * rng.standard_normal(500), 0.0) + s * rng.standard_normal(500)
    fit = ebmodel.mash.fit(b[:, None], s[:, None], covariances="canonical")
    least, most = s.min() / 10, 2 * np.sqrt((b**2 - s**2).max())
    steps = int(np.ceil(np.log2(most / least) / 0.5))
    omega = np.append(0.0, most * 2.0 ** (-0.5 * np.arange(steps, -1, -1)))
    np.testing.assert_allclose(fit.weights["scale"], omega[1:])
    pi, a = np.append(fit.null_weight, fit.weights), np.append(9.0, np.zeros(steps + 1))
    density = norm.pdf(b[:, None], scale=np.sqrt(s[:, None] ** 2 + omega**2))
    # the optimum of sum_j log (L pi)_j + 9 log pi_0: no component's gradient exceeds their common value N
    used = pi > 0
    gradient = (density / (density @ pi)[:, None]).sum(axis=0) + np.divide(a, pi, where=used, out=np.zeros_like(a))
    assert gradient.max() <= (500 + 9.0) * (1 + 1e-9)
    np.testing.assert_allclose(gradient[pi > 1e-6], 509.0, rtol=1e-6)
    weight = density * pi / (density @ pi)[:, None]
    shrunk = omega**2 / (omega**2 + s[:, None] ** 2)
    np.testing.assert_allclose(fit.mean[:, 0], (weight * shrunk).sum(axis=1) * b, atol=1e-10)
    sd = np.sqrt(shrunk[:, 1:]) * s[:, None]
    negative = (weight[:, 1:] * norm.cdf(-shrunk[:, 1:] * b[:, None] / sd)).sum(axis=1)
    zero = weight[:, 0]
    np.testing.assert_allclose(fit.lfsr[:, 0], zero + np.minimum(negative, 1 - negative - zero), atol=1e-10)


def test_ash_fits_every_condition_by_itself(small):
    data = mash.data({"scenario": "structured"}, STREAM)
    found = mash.ash(data, STREAM)
    alone = mash.ash(data.isel(condition=[2]), STREAM)
    np.testing.assert_array_equal(found.mean[:, [2]], alone.mean)
    np.testing.assert_array_equal(found.lfsr[:, [2]], alone.lfsr)
    assert not np.allclose(found.mean, mash.mash(data, STREAM, covariances="canonical").mean)


def test_the_posterior_cell_by_cell_is_that_of_one_condition():
    data = scenario("independent", effects=300, share=0.3, conditions=FEW, scales=(0.1, 0.4), seed=2)
    found = mash.cell_by_cell(data, (0.1, 0.4), 0.3)
    prior = Prior(tuple(canonical(1)), np.array([0.1, 0.4]), np.array([[0.15, 0.15]]), 0.7, np.array(["one"]))
    for r in range(len(FEW)):
        effects = tidy(data["bhat"].to_numpy()[:, [r]], data["shat"].to_numpy()[:, [r]])
        one = posterior_dataset(effects, *posterior(effects, prior))
        np.testing.assert_allclose(found.mean[:, [r]], one["mean"], atol=1e-12)
        np.testing.assert_allclose(found.lfsr[:, [r]], one["lfsr"], atol=1e-12)
    assert found.evidence.shape == (300,)


@pytest.mark.parametrize("name", SCENARIOS)
def test_who_knows_the_prior_errs_least_and_is_right_about_it(small, monkeypatch, name):
    monkeypatch.setattr(mash, "EFFECTS", 3000)
    data = mash.data({"scenario": name}, STREAM)
    found = {part: method(data, STREAM) for part, method in (("ols", mash.ols), ("oracle", mash.oracle))}
    error = {part: mash.errors(one, data)["rrmse"] for part, one in found.items()}
    assert error["ols"] == 1.0
    assert error["oracle"] < 0.9
    called = mash.calls(found["oracle"], data)
    # wrong calls are a sum of Bernoulli variables of the claimed probabilities
    assert abs(called["wrong_0.2"] - called["claimed_0.2"]) < 4 * np.sqrt(called["claimed_0.2"])


def test_errors_are_relative_to_least_squares():
    data = truth([[1.0, 0.0], [2.0, 0.0]], [[2.0, 1.0], [3.0, -1.0]])
    found = mash.errors(estimate([[1.5, 0.0], [2.5, 0.0]], np.zeros((2, 2))), data)
    assert found["rrmse"] == pytest.approx(np.sqrt(0.5 / 4))
    assert found["rrmse_real"] == pytest.approx(0.5)


def test_a_true_positive_has_the_right_sign():
    data = truth([[1.0, -1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]])
    right = estimate([[1.0, -1.0, 0.1, 0.1], [1.0, 0.1, 0.1, 0.1]], [[0.01, 0.02, 0.5, 0.5], [0.03, 0.4, 0.6, 0.7]])
    assert mash.ranking(right, data)["auc"] == 1.0
    assert mash.ranking(right, data)["tpr_0"] == 1.0
    wrong = replace(right, mean=right.mean * [[-1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    found = mash.ranking(wrong, data)
    assert found["auc"] == pytest.approx(2 / 3)
    assert found["tpr_0"] == found["tpr_200"] == pytest.approx(2 / 3)


def test_the_curve_counts_the_null_effects_that_are_called():
    rng = np.random.default_rng(1)
    lfsr = rng.uniform(size=(1000, 1))
    b = (np.arange(1000) < 500)[:, None].astype(float)
    found = mash.ranking(estimate(np.ones_like(b), lfsr), truth(b))
    for rate in mash.RATES:  # lfsr says nothing, so both rates are the same
        assert found[f"tpr_{1000 * rate:.0f}"] == pytest.approx(rate, abs=4 * np.sqrt(rate / 250) + 8 / 500)
    assert found["auc"] == pytest.approx(0.5, abs=4 / np.sqrt(12 * 250))


def test_rows_with_an_effect_are_ranked_by_evidence():
    data = truth([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    assert mash.ranking(estimate(np.ones((3, 2)), np.ones((3, 2)), [2.0, 0.0, 1.0]), data)["unit_auc"] == 1.0
    assert mash.ranking(estimate(np.ones((3, 2)), np.ones((3, 2)), [2.0, 1.0, 0.0]), data)["unit_auc"] == 0.5


def test_calls_are_wrong_without_an_effect_or_with_the_other_sign():
    data = truth([[1.0, 1.0, 0.0, 1.0]])
    found = mash.calls(estimate([[1.0, -1.0, 1.0, 1.0]], [[0.001, 0.005, 0.04, 0.3]]), data)
    assert (found["called_0.01"], found["wrong_0.01"]) == (2.0, 1.0)
    assert (found["called_0.05"], found["wrong_0.05"]) == (3.0, 2.0)
    assert found["claimed_0.05"] == pytest.approx(0.046)
    assert found["power"] == pytest.approx(1 / 3)


def test_of_full_rank_are_the_data_driven_covariances_that_are_used(small):
    data = mash.data({"scenario": "structured"}, STREAM)
    prior = ebmodel.mash.fit(data["bhat"], data["shat"], covariances=("canonical", "full-rank")).prior
    learned = [U for U in prior.covariances if U.kind == "data-driven"]
    assert learned
    assert all(U.rank == len(FEW) for U in learned)
    assert sum(U.kind == "canonical" for U in prior.covariances) == len(FEW) + 5


def test_a_ratio_has_the_standard_error_of_ratios():
    a, b = np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 3.0, 9.0, 6.0])
    value, error = mash.ratio_and_error(pd.Series(a), pd.Series(b))
    assert value == pytest.approx(0.5)
    assert error == pytest.approx(np.std((a - 0.5 * b) / 5.0, ddof=1) / 2.0)
    assert np.isnan(mash.ratio_and_error(pd.Series([0.0, 0.0]), pd.Series([0.0, 0.0]))[0])


def test_the_study_runs_and_is_shown(small, tmp_path):
    cells = [{"scenario": "structured"}, {"scenario": "independent"}]
    study = replace(STUDY, cells=cells, replications=2, folder=tmp_path)
    results = study.run(jobs=1, progress=False)
    assert len(results) == 4
    assert (results["rrmse_ols"] == 1.0).all()
    assert (results["rrmse_oracle"] < 1.0).all()
    again = study.row(cells[0], 1)
    stored = results[(results["scenario"] == "structured") & (results["replication"] == 1)].iloc[0]
    for name in ("rrmse_mash", "auc_ash", "wrong_0.05_canonical"):
        assert again[name] == stored[name]
    shown = study.table(study.read())
    assert "shared, structured: RRMSE |" in shown
    assert "independent: power at 0.05" in shown
    assert "- Independent: RRMSE of mashr's recipe against ash " in shown
    assert study.draw().stat().st_size > 10_000
    study.write_tables()
    assert (tmp_path / "tables" / "mash_accuracy.csv").is_file()
