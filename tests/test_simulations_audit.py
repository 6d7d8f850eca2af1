"""The audit: its statistics on tables made by known rules, its tables in every format, its report on what is stored.

Where chance decides, tables are drawn from a nested model whose three sources of scatter are known.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import chi2, kstest

import ebmodel
from simulations import (
    agreement,
    competition,
    fingerprints,
    naive,
    printed,
    readings,
    report,
    robustness,
    theorem2,
    unconstrained,
)
from simulations.__main__ import MODULES, find
from simulations.estimators import Estimate
from simulations.metrics import auc, calibration, mse
from simulations.published import QUANTITIES, REPLICATIONS, published
from simulations.settings import paper_data
from simulations.study import RESULTS, RHOS, SIGNALS, child
from simulations.tables import Table

CELLS = list(product((1, 2, 3, 4), RHOS, SIGNALS))
PLANTED = {1: "truth", 2: "design", 3: "all", 4: "all"}
NAMES = [f"{q}_{i}_{j}" for i, j, q in product(range(readings.TRUTHS), range(readings.ERRORS), QUANTITIES)]

# A world in which all is known ---------------------------------------------------------------------------------------

MEAN = np.array([6.0, 0.9, 0.85])
SD = {"design": (0.10, 0.10, 0.02), "truth": (0.0, 0.30, 0.06), "noise": (0.05, 0.20, 0.03)}
"""Of log MSE of OLS, log MSE of EB, and AUC. The error of OLS does not depend on the effects."""


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """(..., design, truth, errors, quantity): MSEs log-normal about MEAN, AUC normal; EB's MSE and AUC correlated."""
    *cells, D, T, E = shape
    total = np.zeros((*cells, D, T, E, 3))
    for name, size in (("design", (D, 1, 1)), ("truth", (D, T, 1)), ("noise", (D, T, E))):
        s, e = np.array(SD[name]), rng.standard_normal((*cells, *size, 3))
        e[..., 2] = 0.5 * e[..., 1] + np.sqrt(0.75) * e[..., 2]
        total += s * e - np.array([*s[:2] ** 2, 0.0]) / 2
    return np.concatenate([MEAN[:2] * np.exp(total[..., :2]), MEAN[2:] + total[..., 2:]], axis=-1)


ABOVE = {"design": (), "truth": ("design",), "noise": ("design", "truth")}


def component(name: str) -> np.ndarray:
    """Covariance of the quantities due to one source, on average over what stands above it."""
    a, b, c = SD[name]
    # log-normal factors of mean 1, times those above, of mean 1 and with these mean squares
    squares = np.prod([np.exp(np.array(SD[other][:2]) ** 2) for other in ABOVE[name]], axis=0) * np.ones(2)
    relative = np.diag([*np.expm1([a**2, b**2]) * squares, c**2])
    relative[1, 2] = relative[2, 1] = 0.5 * b * c
    scale = np.array([*MEAN[:2], 1.0])
    return relative * np.outer(scale, scale)


EXACT = readings.Scatter(MEAN, np.zeros((3, 3)), *map(component, ABOVE))


def printed_tables(rng: np.random.Generator, reading: dict[int, str]) -> pd.DataFrame:
    """Averages over 100 replications of every cell, made by its setting's rule."""
    shapes = {"all": (REPLICATIONS, 1, 1), "design": (1, REPLICATIONS, 1), "truth": (1, 1, REPLICATIONS)}
    rows = [draw(rng, shapes[reading[k]]).mean(axis=(0, 1, 2)) for k, _, _ in CELLS]
    index = pd.MultiIndex.from_tuples(CELLS, names=["setting", "rho", "signal"])
    return pd.DataFrame(rows, index, list(QUANTITIES))


def nested_results(rng: np.random.Generator, designs: int = 25) -> pd.DataFrame:
    """What the study of readings would give."""
    values = draw(rng, (len(CELLS), designs, readings.TRUTHS, readings.ERRORS)).reshape(len(CELLS) * designs, -1)
    keys = pd.DataFrame(np.repeat(CELLS, designs, axis=0), columns=["setting", "rho", "signal"])
    return pd.concat([keys.astype({"setting": int}), pd.DataFrame(values, columns=NAMES)], axis=1)


def all_anew(rng: np.random.Generator, size: int = 100) -> pd.DataFrame:
    """What the study of settings would give."""
    values = draw(rng, (len(CELLS), size, 1, 1)).reshape(-1, 3)
    keys = pd.DataFrame(np.repeat(CELLS, size, axis=0), columns=["setting", "rho", "signal"])
    columns = [agreement.COLUMNS[q] for q in QUANTITIES]
    return pd.concat([keys.astype({"setting": int}), pd.DataFrame(values, columns=columns)], axis=1)


def publish(monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame) -> None:
    """Put a table in the place of the paper's."""
    for module in (agreement, readings, report):
        monkeypatch.setattr(module, "published", lambda: table)


# Readings ------------------------------------------------------------------------------------------------------------


def test_nested_analysis_of_variance_finds_the_components():
    """Four thousand designs: each entry within 4 of its standard errors, these from batches of 100 designs."""
    values = draw(np.random.default_rng(1), (4000, 2, 2))
    whole = readings.scatter(values)
    np.testing.assert_allclose(whole.mean, values.mean(axis=(0, 1, 2)), rtol=1e-12)
    for name in ("design", "noise", "truth"):
        batches = np.array([getattr(readings.scatter(batch), name) for batch in np.split(values, 40)])
        error = batches.std(axis=0, ddof=1) / np.sqrt(40)
        assert (np.abs(getattr(whole, name) - component(name)) <= 4 * error + 1e-3 * np.abs(component(name))).all()


def test_three_levels_against_their_definition():
    """Mean squares written out: 2 designs, 2 truths, 2 error sets."""
    values = np.random.default_rng(2).standard_normal((2, 2, 2, 3))
    noise = sum(np.outer(d, d) for d in (values - values.mean(2, keepdims=True)).reshape(-1, 3)) / 4
    means = values.mean(2)
    truth = sum(np.outer(d, d) for d in (means - means.mean(1, keepdims=True)).reshape(-1, 3)) / 2
    grand = means.mean(1)
    design = sum(np.outer(d, d) for d in grand - grand.mean(0))
    got = readings.scatter(values)
    np.testing.assert_allclose(got.noise, noise)
    np.testing.assert_allclose(got.error, design / 2)
    np.testing.assert_allclose(got.truth, clipped(truth - noise / 2), atol=1e-12)
    np.testing.assert_allclose(got.design, clipped(design - truth / 2), atol=1e-12)


def clipped(covariance: np.ndarray) -> np.ndarray:
    value, vector = np.linalg.eigh(covariance)
    return vector @ np.diag(np.maximum(value, 0)) @ vector.T


def test_the_error_of_our_mean_is_what_it_is_over_many_experiments():
    values = draw(np.random.default_rng(3), (600, 25, 2, 2))
    found = [readings.scatter(one) for one in values]
    means, claimed = np.array([s.mean for s in found]), np.mean([np.diag(s.error) for s in found], axis=0)
    np.testing.assert_allclose(claimed, means.var(axis=0, ddof=1), rtol=4 * np.sqrt(2 / 600))


def test_a_component_that_is_not_there_is_never_negative():
    """Without truths of their own, half of the estimates would be."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        values = rng.standard_normal((25, 1, 1, 3)) + rng.standard_normal((25, 2, 2, 3))
        got = readings.scatter(values)
        for covariance in (got.design, got.truth, got.noise):
            assert np.linalg.eigvalsh(covariance).min() >= -1e-12
        assert np.trace(got.truth) < 2.0


def test_what_is_fixed_does_not_average_out():
    V = {name: np.diag([1.0, 2.0, 3.0]) * 10**i for i, name in enumerate(("noise", "truth", "design"))}
    s = readings.Scatter(np.ones(3), np.zeros((3, 3)), **V)
    X, B, e = V["design"], V["truth"], V["noise"]
    np.testing.assert_allclose(s.of_average("all"), (X + B + e) / 100)
    np.testing.assert_allclose(s.of_average("design"), X + (B + e) / 100)
    np.testing.assert_allclose(s.of_average("truth"), X + B + e / 100)


def test_pooled_components_keep_each_cells_scale():
    """Averages over rho of relative covariances; the mean and its error stay the cell's own."""
    nested = readings.scatters(nested_results(np.random.default_rng(17)))
    key, relative = (1, 0.2, 2.0), lambda s: s.design / np.outer([*s.mean[:2], 1], [*s.mean[:2], 1])
    got = readings.pooled(nested)[key]
    np.testing.assert_allclose(relative(got), np.mean([relative(nested[1, rho, 2.0]) for rho in RHOS], axis=0))
    np.testing.assert_array_equal(got.mean, nested[key].mean)
    np.testing.assert_array_equal(got.error, nested[key].error)


def test_a_log_normal_average_has_the_location_and_scale_that_logs_gives():
    """Without our own error: mean and covariance of (log, log, AUC) of 20,000 averages of one design and truth."""
    rng = np.random.default_rng(5)
    averages = draw(rng, (20_000, 1, 1, REPLICATIONS)).mean(axis=(1, 2, 3))
    y = np.column_stack([np.log(averages[:, :2]), averages[:, 2]])
    location, covariance = EXACT.logs("truth", ours=False)
    np.testing.assert_allclose(location, y.mean(axis=0), atol=4 * y.std() / np.sqrt(20_000))
    np.testing.assert_allclose(covariance, np.cov(y.T), atol=4 * np.sqrt(2 / 20_000) * covariance.max())


@pytest.mark.statistical
def test_the_planted_reading_is_found(monkeypatch: pytest.MonkeyPatch):
    """15 cells, 25 designs: the rule by which each setting was made, four tables out of four."""
    rng = np.random.default_rng(60)
    for _ in range(4):
        publish(monkeypatch, printed_tables(rng, PLANTED))
        assert report.likeliest(readings.loglikelihoods(nested_results(rng))) == PLANTED


def test_designs_are_redrawn_where_ols_says_so_whatever_the_fit_says():
    """EB and AUC depend on whose fit it is; here they are likelier with one set of effects, OLS with many designs."""
    row = {"setting": 4, "ols_all": 48.8, "ols_design": 33.9, "ols_truth": 33.0,
           "joint_all": 73.9, "joint_design": 60.8, "joint_truth": 99.0}  # fmt: skip
    assert report.likeliest(pd.DataFrame([row])) == {4: "all"}
    assert report.likeliest(pd.DataFrame([row | {"ols_all": -80.0}])) == {4: "truth"}
    assert report.likeliest(pd.DataFrame([row | {"ols_all": -80.0, "joint_design": 100.0}])) == {4: "design"}


# Agreement -----------------------------------------------------------------------------------------------------------


@pytest.mark.statistical
@pytest.mark.parametrize("reading", list(readings.READINGS))
def test_z_scores_are_standard_normal_under_the_right_reading(reading: str, monkeypatch: pytest.MonkeyPatch):
    rng, every = np.random.default_rng([7, len(reading)]), []
    for _ in range(6):
        right = dict.fromkeys((1, 2, 3, 4), reading)
        publish(monkeypatch, printed_tables(rng, right))
        every.append(agreement.agreement(all_anew(rng), readings.scatters(nested_results(rng)), right))
    found = pd.concat(every)
    for _, z in found.groupby("quantity")["z"]:  # 360 each
        assert abs(z.mean()) < 4 / np.sqrt(len(z))
        # the scatter is estimated from 25 designs, so that z is more nearly t with some 24 degrees of freedom
        assert 0.94 < (z.abs() <= 2).mean() + 4 * np.sqrt(0.05 * 0.95 / len(z))
        assert (z.abs() <= 2).mean() - 4 * np.sqrt(0.05 * 0.95 / len(z)) < 0.97
        assert 0.85 < z.std() < 1.2


def test_z_is_centred_when_our_own_error_is_the_larger(monkeypatch: pytest.MonkeyPatch):
    """Our mean of few data sets is log-normal as the published one is, and lies below its own mean the more.

    Its relative error is taken as known.
    """
    rng, size = np.random.default_rng(8), 3
    reading = dict.fromkeys((1, 2, 3, 4), "all")
    nested, z = dict.fromkeys(CELLS, EXACT), []
    relative = np.sqrt(EXACT.of_average("all")[1, 1] * REPLICATIONS / size) / MEAN[1]
    monkeypatch.setattr(pd.core.groupby.DataFrameGroupBy, "sem", lambda self, **_: relative * self.mean())
    for _ in range(25):
        publish(monkeypatch, printed_tables(rng, reading))
        found = agreement.agreement(all_anew(rng, size), nested, reading)
        z.append(found[found["quantity"] == "mse_eb"]["z"])
    z = np.concatenate(z)
    assert abs(z.mean()) < 4 / np.sqrt(len(z))


def test_an_auc_of_one_that_never_varies_agrees_with_one(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(10)
    table = printed_tables(rng, dict.fromkeys((1, 2, 3, 4), "all"))
    table.loc[(4, 0.0, 2.0), "auc"] = 1.0
    publish(monkeypatch, table)
    results, nothing = all_anew(rng), np.zeros((3, 3))
    here = (results["setting"] == 4) & (results["rho"] == 0.0) & (results["signal"] == 2.0)
    results.loc[here, "auc_eb"] = 1.0
    nested = readings.scatters(nested_results(rng))
    nested[4, 0.0, 2.0] = readings.Scatter(nested[4, 0.0, 2.0].mean, nothing, nothing, nothing, nothing)
    found = agreement.agreement(results, nested, dict.fromkeys((1, 2, 3, 4), "all"))
    row = found.set_index(["setting", "rho", "signal", "quantity"]).loc[(4, 0.0, 2.0, "auc")]
    assert row["z"] == 0.0
    assert row["verdict"] == "agrees"


def test_a_value_far_away_differs_and_has_the_right_sign(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(9)
    table = printed_tables(rng, dict.fromkeys((1, 2, 3, 4), "all"))
    table.loc[(1, 0.0, 0.5), "mse_eb"] *= 1.4
    table.loc[(3, 0.8, 2.0), "auc"] -= 0.1
    publish(monkeypatch, table)
    reading = dict.fromkeys((1, 2, 3, 4), "all")
    found = agreement.agreement(all_anew(rng), readings.scatters(nested_results(rng)), reading)
    rows = found.set_index(["setting", "rho", "signal", "quantity"])
    assert rows.loc[(1, 0.0, 0.5, "mse_eb"), "z"] > 3
    assert rows.loc[(3, 0.8, 2.0, "auc"), "z"] < -3
    assert set(rows[rows["z"].abs() > 3]["verdict"]) == {"differs"}
    bold = agreement.tables(found, reading)
    assert [table.name for table in bold] == [f"setting{k}" for k in (1, 2, 3, 4)]
    assert all(len(table.rows) == 15 and len(row) == len(table.header) for table in bold for row in table.rows)
    assert bold[0].rows[0][7] == f"**{rows.loc[(1, 0.0, 0.5, 'mse_eb'), 'z']:+.1f}**"
    of_three = [list(map(int, cell.split(" / "))) for row in agreement.counts(found).rows for cell in row[1:]]
    assert np.sum(of_three, axis=1).tolist() == [15] * 12
    assert np.sum(of_three, axis=0)[2] == (found["z"].abs() > 3).sum()


@pytest.mark.parametrize(
    ("z", "word"),
    [(0.0, "agrees"), (-2.0, "agrees"), (2.01, "in doubt"), (-3.0, "in doubt"), (3.01, "differs"), (-9.0, "differs")],
)
def test_verdicts(z: float, word: str):
    assert agreement.verdict(z) == word


@pytest.mark.statistical
def test_distance_is_chi_squared_under_the_truth(monkeypatch: pytest.MonkeyPatch):
    """With the scatter known, chi^2 on 30. Estimated from 25 designs, p-values are rarely too small.

    Not so with one design a cell and all else anew: the scatter between designs alone is a difference of estimates.
    """
    rng, known, estimated = np.random.default_rng(10), [], []
    for _ in range(20):
        publish(monkeypatch, printed_tables(rng, PLANTED))
        ours, nested = all_anew(rng), readings.scatters(nested_results(rng))
        for k, reading in PLANTED.items():
            columns = ("mse_eb", "auc_eb")
            known.append(report.distance(ours, columns, k, dict.fromkeys(CELLS, EXACT), reading)[0])
            if reading != "design":
                estimated.append(report.distance(ours, columns, k, nested, reading)[1])
    assert abs(np.mean(known) - 30) < 4 * np.sqrt(60 / len(known))
    assert kstest(known, chi2(30).cdf).pvalue > 1e-3
    assert np.mean(np.array(estimated) < report.SIGNIFICANT) <= 0.02


@pytest.mark.statistical
def test_distance_sees_another_estimator(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(11)
    table = printed_tables(rng, PLANTED)
    table["mse_eb"] *= 1.15
    publish(monkeypatch, table)
    ours, nested = all_anew(rng), readings.scatters(nested_results(rng))
    assert report.distance(ours, ("mse_eb", "auc_eb"), 3, nested, "all")[1] < report.SIGNIFICANT


@pytest.mark.statistical
def test_real_designs_scatter_as_log_normal_and_normal():
    """Every stored design against what the other 24 of its cell say of it: z-scores as the audit computes them.

    This is what the synthetic worlds above cannot show. The average over two error sets of one truth stands for a
    published one.
    """
    rows = []
    for _, group in readings.STUDY.read().groupby(["setting", "rho", "signal"]):
        values = group[NAMES].to_numpy().reshape(-1, readings.TRUTHS, readings.ERRORS, 3)
        for i, design in enumerate(values):
            others = readings.scatter(np.delete(values, i, axis=0))
            covariance = others.design + others.truth + others.noise / readings.ERRORS
            y, location = design[0].mean(axis=0), others.mean
            own, its = (
                np.log1p(np.diag(others.error)[:2] / location[:2] ** 2),
                np.log1p(np.diag(covariance)[:2] / location[:2] ** 2),
            )
            z = (np.log(y[:2] / location[:2]) + (its - own) / 2) / np.sqrt(its + own)
            spread = covariance[2, 2] + others.error[2, 2] + report.LEAST**2
            rows.append([*z, (y[2] - location[2]) / np.sqrt(spread)])
    inside = (np.abs(np.array(rows)) <= 2).mean(axis=0)
    # 1500 of each, not independent within a cell
    assert (inside > 0.92).all()
    assert (inside < 0.99).all()


# What was published, and its fingerprints ----------------------------------------------------------------------------


def test_the_published_tables():
    table = published()
    assert len(table) == 60
    assert sorted(table.index) == sorted(CELLS)
    assert table.notna().all().all()
    assert table.loc[(1, 0.0, 0.5)].to_dict() == {"mse_ols": 6.6831, "mse_eb": 0.7442, "auc": 0.8877}
    assert table.loc[(1, 0.8, 1.0), "mse_eb"] == 12.0643
    assert table.loc[(2, 0.4, 0.5), "auc"] == 0.4913
    assert table.loc[(3, 0.8, 2.0), "mse_ols"] == 54.2999
    assert table.loc[(4, 0.0, 2.0), "auc"] == 1.0
    assert (table["mse_eb"] < table["mse_ols"]).all()


@pytest.mark.parametrize(("n", "rho"), [(50, 0.0), (50, 0.6), (40, 0.8)])
def test_expected_ols_against_random_designs(n: int, rho: float):
    p = fingerprints.P
    rng = np.random.default_rng([12, n])
    C = np.full((p, p), rho) + (1 - rho) * np.eye(p)
    X = rng.standard_normal((2000, n, p)) @ np.linalg.cholesky(C).T
    traces = 3.0 * np.trace(np.linalg.inv(np.swapaxes(X, 1, 2) @ X), axis1=1, axis2=2) / p
    assert abs(traces.mean() - fingerprints.expected_ols(n, 3.0, rho)) < 4 * traces.std() / np.sqrt(2000)


def test_the_settings_reach_the_expected_ols():
    """The stored runs of Settings 1-3 have it at sigma = 10, 1 and 10; 40 of 50 responses are observed in Setting 3."""
    from simulations.settings import STUDY

    found = STUDY.results()["mse"].sel(part="ols")
    for cell in range(45):
        k, rho = int(found["setting"][cell]), float(found["rho"][cell])
        want = fingerprints.expected_ols(40 if k == 3 else 50, {1: 100.0, 2: 1.0, 3: 100.0}[k], rho)
        values = found[cell].to_numpy()
        assert abs(values.mean() - want) < 4 * values.std(ddof=1) / np.sqrt(len(values))


def test_sigma_ratios():
    """sigma^2 is ten times the printed one in Settings 1 and 3, and the printed one in Setting 2."""
    ratios = fingerprints.sigma_ratios()
    assert set(ratios) == {1, 2, 3}
    cells = published().loc[3]["mse_ols"]
    logs = []
    for (rho, _), value in cells.items():
        C = np.full((30, 30), rho) + (1 - rho) * np.eye(30)
        logs.append(np.log(value / (10 * np.trace(np.linalg.inv(C)) / (30 * 9))))
    assert ratios[3][0] == pytest.approx(np.exp(np.mean(logs)), rel=1e-9)
    assert ratios[3][1] == pytest.approx(np.exp(np.mean(logs)) * np.std(logs, ddof=1) / np.sqrt(15), rel=1e-9)
    for k, want in ((1, 10), (2, 1), (3, 10)):
        assert abs(ratios[k][0] - want) < 4 * ratios[k][1]
        assert ratios[k][1] < 0.05 * want


def test_rows_that_repeat_each_other():
    found = fingerprints.repeated_rows()
    cells = published()["mse_ols"]
    want = [np.log(cells[1, 0.0, s] / cells[1, 0.2, s]) for s in SIGNALS]
    np.testing.assert_allclose(found.differences, want, rtol=1e-9)
    assert found.next_closest > 4 * np.abs(found.differences).max()
    # every other pair, Setting 1's sigma^2 being a hundred times Setting 2's
    scaled = {key: np.log(value) - np.log({1: 100, 2: 1}[key[0]]) for key, value in cells.loc[[1, 2]].items()}
    pairs = {(a, b): abs(scaled[a] - scaled[b]) for a, b in combinations(scaled, 2)}
    for s in SIGNALS:
        del pairs[(1, 0.0, s), (1, 0.2, s)]
    assert found.next_closest == pytest.approx(min(pairs.values()))
    assert found.stated == pytest.approx(np.log((29 / 0.8 + 1 / 6.8) / 30))


@pytest.mark.statistical
def test_the_chance_of_such_rows_by_drawing_them():
    """The mean over 5000 tissues of sum s_i chi^2_1, s the eigenvalues of (X'X)^-1, is sum s_i chi^2_5000 / 5000."""
    rng, found = np.random.default_rng(13), fingerprints.repeated_rows()
    most = np.abs(found.differences).max()

    def averages(X: np.ndarray, sets: int) -> np.ndarray:
        s = 1 / np.linalg.eigvalsh(np.swapaxes(X, 1, 2) @ X)
        weights = rng.chisquare(5000, (sets, *s.shape)) / 5000
        return np.log(np.sum(s * weights, axis=-1))

    X = rng.standard_normal((4000, 50, 30))
    first, second = averages(X, 2)
    once = np.mean(np.abs(first - second) <= most)
    assert found.same_design ** (1 / 3) == pytest.approx(once, abs=4 * np.sqrt(once / 4000))
    gaps = np.subtract.outer(first[:2000], first[2000:])
    once = np.mean(np.abs(gaps) <= most)  # four million pairs, of 4000 designs
    assert found.common_rho ** (1 / 3) == pytest.approx(once, rel=0.1)
    assert found.independent < found.common_rho < found.same_design


# Tables --------------------------------------------------------------------------------------------------------------

TABLE = Table(
    "some_table",
    "χ² of “σ² = 10” & 5 % of x_1, |z| > 3, η ≥ 0, α̂ → ½",
    ["", "ρ", "τ₁ ± SE"],
    [["β ~ N(0, I)", "**+3.1**", "0.5 ± 0.1"], ["a, b {c} #1 $2 x^2 \\", "−1", "–"]],
)


def test_markdown():
    lines = TABLE.markdown().splitlines()
    assert lines[0] == TABLE.caption
    assert lines[2:4] == ["|  | ρ | τ₁ ± SE |", "| --- | ---: | ---: |"]
    assert lines[4] == "| β ~ N(0, I) | **+3.1** | 0.5 ± 0.1 |"


def test_latex_escapes_all_that_latex_would_read():
    text = TABLE.latex()
    assert text.isascii()
    assert r"\begin{tabular}{lrr}" in text
    assert r"\label{tab:some_table}" in text
    assert r" & $\rho$ & $\tau_1$ $\pm$ SE \\" in text
    assert r"$\beta$ $\sim$ N(0, I) & \textbf{+3.1} & 0.5 $\pm$ 0.1 \\" in text
    assert r"a, b \{c\} \#1 \$2 x\textasciicircum{}2 \textbackslash{} & $-$1 & -- \\" in text
    caption = re.search(r"\\caption\{(.*)\}", text)[1]
    want = (
        r"$\chi^2$ of ``$\sigma^2$ = 10'' \& 5 \% of x\_1, $|$z$|$ $>$ 3, $\eta$ $\geq$ 0, $\hat\alpha$ $\to$ $\frac12$"
    )
    assert caption == want
    bare = re.sub(r"\\[&%_#${}]", "", text)  # what is escaped stands for itself
    assert bare.count("$") % 2 == 0
    assert bare.count("{") == bare.count("}")


def test_csv_reads_back_without_the_bold():
    rows = list(csv.reader(io.StringIO(TABLE.csv())))
    assert rows[0] == TABLE.header
    assert rows[1] == ["β ~ N(0, I)", "+3.1", "0.5 ± 0.1"]
    assert rows[2] == TABLE.rows[1]


def test_a_table_is_written_three_times(tmp_path: Path):
    TABLE.write(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "some_table.csv", "some_table.md", "some_table.tex",
    ]  # fmt: skip
    assert (tmp_path / "new" / "some_table.tex").read_text(encoding="utf-8") == TABLE.latex()


# Competition ---------------------------------------------------------------------------------------------------------


def competitors(factor: dict[str, float]) -> pd.DataFrame:
    """Two data sets for every cell, MSEs a factor times the signal, other columns as a study has them."""
    rows = []
    for cell, replication in product(competition.STUDY.cells, range(2)):
        row = {**cell, "replication": replication}
        for part in competition.WORDS:
            if part == "bayes" and not competition.few(cell, replication):
                row |= {"mse_bayes": np.nan, "auc_bayes": np.nan}
                continue
            row |= {f"mse_{part}": factor.get(part, 5.0) * cell["signal"], f"auc_{part}": 0.5, f"fdp_0.05_{part}": 0.0}
        rows.append(row)
    return pd.DataFrame(rows)


def test_losses_by_mean_mse():
    """EB loses to ridge everywhere, to zero in the three strong cells of Setting 1 where it is made to."""
    results = competitors({"eb": 2.0, "ridge": 1.0, "zero": 3.0, "ols": 9.0})
    strong = (results["setting"] == 1) & (results["signal"] == 2.0)
    results.loc[strong & (results["replication"] == 0), "mse_zero"] = 0.1  # mean of 0.1 and 6.0 is below 4
    lost = competition.losses(results)
    assert list(lost.index) == list(competition.SETTINGS)
    assert (lost["ridge"] == 9).all()
    assert lost["zero"].to_dict() == {0: 0, 1: 3, 2: 0, 3: 0, 4: 0}
    assert (lost["ols"] == 0).all()
    assert "eb" not in lost
    assert (
        "In Setting 1 the paper's estimator has a higher mean MSE than: zero 3, OLS 0, ridge 9"
        in competition.finding(results)
    )


def test_mse_table_has_geometric_means_and_the_best_rival_in_bold():
    """Marks that know the truth are never bold; zeros in other columns are nobody's business."""
    results = competitors({"eb": 2.0, "eb_power": 1.5, "oracle": 0.5, "linear": 0.7})
    results["fdp_0.05_eb"] = 0.0
    table = competition.mse_table(results)
    assert len(table.rows) == len(competition.SETTINGS) * len(competition.RHOS)
    named = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert named[0][""] == "the model, ρ = 0"
    for row in named:
        assert row["EB, power"] == "**1.5**"  # (0.5 x 1 x 2)^(1/3) = 1
        assert (row["EB (paper)"], row["oracle"], row["OLS"]) == ("2", "0.5", "5")
        assert sum("**" in value for value in row.values()) == 1
    assert {row["full Bayes"] for row in named if "0.4" in row[""]} == {"–"}


def test_values_that_print_alike_are_bold_alike():
    row = competition.mse_table(competitors({"eb": 1.0, "eb_naive": 1.0 - 1e-9, "ridge": 1.01})).rows[0]
    named = dict(zip(competition.WORDS, row[1:], strict=True))
    assert [part for part, value in named.items() if "**" in value] == ["eb_naive", "eb"]


def test_one_naive_start_competes_too():
    """It knows nothing of the truth and is run everywhere, which is what bold promises."""
    only = competition.STUDY.replicate.only
    everywhere = set(competition.WORDS) - set(only) - {"linear", "oracle"}
    assert set(competition.RIVALS) == everywhere


def test_reliability_from_bins():
    """Of three tissues in [0.2, 0.3) one is active; of two in [0.9, 1] both."""
    data = xr.Dataset({"active": ("tissue", np.array([True, False, False, True, True]))})
    estimate = Estimate(np.zeros((5, 1)), np.array([0.21, 0.22, 0.29, 0.95, 1.0]))
    record = {f"{name}_eb": value for name, value in calibration(estimate, data).items()}
    curve = competition.reliability(pd.DataFrame([record, record]), "eb")
    assert curve["count"].tolist() == [0, 0, 6, 0, 0, 0, 0, 0, 0, 4]
    np.testing.assert_allclose(curve.loc[2, ["claimed", "active"]].astype(float), [0.24, 1 / 3])
    np.testing.assert_allclose(curve.loc[9, ["claimed", "active"]].astype(float), [0.975, 1.0])
    assert curve["claimed"].isna().sum() == 8


def test_setting_0_is_the_model_itself():
    cell = {"setting": 0, "rho": 0.4, "signal": 2.0}
    stream = np.random.SeedSequence(1)
    gene = competition.data(cell, stream)
    assert gene["Y"].shape == (200, 30)
    np.testing.assert_allclose(gene["beta"], 0.4 * np.repeat([1.0, 0.5, 0.0], [7, 7, 6]))
    X = gene["X"].to_numpy()
    np.testing.assert_allclose(gene["slab_covariance"], gene.attrs["eta"] * np.linalg.inv(X.T @ X), rtol=1e-6)


# Theorem 2 -----------------------------------------------------------------------------------------------------------


def risks(rng: np.random.Generator, power: float, size: int = 60) -> pd.DataFrame:
    """Excess risk 3 m^power with a relative error of a half a data set, over an oracle that scatters more."""
    rows = []
    for m in theorem2.TISSUES:
        oracle = 1 + 0.3 * rng.standard_normal(size)
        excess = 3 * m**power * (1 + 0.5 * rng.standard_normal(size))
        rows.append(pd.DataFrame({"m": m, "mse_oracle": oracle, "mse_eb": oracle + excess}).assign(
            mse_zero=oracle + 2, mse_ols=oracle + 1, auc_eb=0.8, auc_oracle=0.9))  # fmt: skip
    return pd.concat(rows)


def test_slope_finds_the_exponent_and_its_error():
    rng = np.random.default_rng(14)
    found = np.array([theorem2.slope(risks(rng, -1.0)) for _ in range(60)])
    assert abs(found[:, 0].mean() + 1) < 4 * found[:, 0].std() / np.sqrt(60) + 2e-3
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(ddof=1), rel=4 / np.sqrt(120))
    steep, error = theorem2.slope(risks(rng, -2.0))
    assert abs(steep + 2) < 4 * error


def test_theorem_2_differences_are_of_the_same_data():
    results = risks(np.random.default_rng(15), -1.0)
    at = theorem2.summary(results).loc[1000]
    excess = results[results["m"] == 1000].eval("mse_eb - mse_oracle")
    assert at["excess_eb", "mean"] == pytest.approx(excess.mean())
    assert at["excess_eb", "sem"] == pytest.approx(excess.std(ddof=1) / np.sqrt(60))
    assert at["excess_eb", "sem"] < 0.01 * at["mse_eb", "sem"]
    table = theorem2.as_table(results)
    assert [row[0] for row in table.rows] == [str(m) for m in theorem2.TISSUES]
    assert "m^b with b = -1.0" in theorem2.table(results) or "m^b with b = -0.9" in theorem2.table(results)


# EM from one naive start -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_em_stopped_early_is_the_printed_em_stopped_early(steps: int):
    """Complete data, while eta is positive: the same start and the same steps, whitened or not."""
    gene = paper_data({"setting": 1, "rho": 0.6, "signal": 1.0}, np.random.SeedSequence(18))
    data = printed.reduce(gene["X"].to_numpy(), gene["Y"].to_numpy())
    end = printed.iterate(data, printed.naive(data), max_iter=steps, tol=0.0)
    got = naive.stopped(gene, np.random.SeedSequence(0), steps=steps)
    assert end.negative_eta is None
    np.testing.assert_allclose(got.effects, end.effects, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(got.probability, end.probability, rtol=1e-6, atol=1e-12)


# The printed EM from several starts ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def from_starts() -> tuple[dict, np.random.SeedSequence, dict]:
    cell = {"setting": 2, "rho": 0.4, "signal": 1.0, "n": 30, "p": 5, "m": 12}
    stream = np.random.SeedSequence([1, 2, 3])
    every = unconstrained.FromStarts()(cell, stream, unconstrained.FromStarts.parts)
    return cell, stream, every


def test_every_start_is_a_direct_run_of_the_printed_em(from_starts):
    cell, stream, every = from_starts
    gene = paper_data(cell, stream)
    X, Y, truth = gene["X"].to_numpy(), gene["Y"].to_numpy(), gene["effects"].to_numpy()
    data = printed.reduce(X, Y)
    for part, (_, start) in unconstrained.STARTS.items():
        end = printed.iterate(data, start(data, np.random.default_rng(child(stream, part))))
        got = every[part]
        assert got["loglik"] == end.loglik
        assert got["eta"] == end.theta.eta
        assert got["negative"] == float(end.negative_eta is not None)
        assert got["broke"] == float(end.status == "no density")
        assert got["mse"] == mse(end.effects, truth)
        assert got["auc"] == auc(end.probability, gene["active"].to_numpy())
    fit = ebmodel.fit(X, Y)
    assert every["maximum"]["loglik"] == pytest.approx(fit.loglik, abs=1e-9)
    assert every["maximum"]["eta"] >= 0


def test_one_part_alone_gives_the_same(from_starts):
    cell, stream, every = from_starts
    for part in ("normal", "alone", "maximum"):
        assert unconstrained.FromStarts()(cell, stream, [part])[part] == every[part]


def test_the_starts_are_what_they_say():
    rng = np.random.default_rng(16)
    data = printed.reduce(rng.standard_normal((20, 3)), rng.standard_normal((20, 8)) * np.arange(1, 9))
    np.testing.assert_allclose(unconstrained.naive_start(data, rng).beta, data.ols.mean(axis=0))
    np.testing.assert_array_equal(unconstrained.first_tissue(data, rng).beta, data.ols[0])
    order = sorted(range(8), key=lambda t: data.explained[t])
    np.testing.assert_allclose(unconstrained.top_five(data, rng).beta, data.ols[order[3:]].mean(axis=0))
    alone = unconstrained.one_alone(data, rng)
    assert any(np.array_equal(alone.beta, ols) for ols in data.ols)
    assert (alone.tau1, alone.eta) == (1 / 8, 1e-3 * alone.sigma2)


def ends(broke: list[float], loglik: list[float]) -> pd.DataFrame:
    results = pd.DataFrame({"setting": [1, 1, 1], "loglik_maximum": [0.0, 0.0, 0.0]})
    for part in unconstrained.FromStarts.parts:
        facts = {"negative": 0.0, "broke": broke, "mse": 1.0, "auc": 0.5}
        if part == "maximum":
            facts |= {"broke": 0.0}
        else:
            results[f"loglik_{part}"] = loglik
        results = results.assign(**{f"{name}_{part}": value for name, value in facts.items()})
    return results


def test_shortfalls_are_of_runs_that_did_not_break_down():
    rows = unconstrained.as_table(ends([1.0, 0.0, 0.0], [-50.0, -2.0, 3.0])).rows
    assert rows[0][2:5] == ["33.3 %", "33.3 %", "2.0"]
    assert rows[-1][2:5] == ["0.0 %", "0.0 %", "–"]
    rows = unconstrained.as_table(ends([1.0, 1.0, 1.0], [-50.0, -2.0, 3.0])).rows
    assert rows[0][2:5] == ["100.0 %", "0.0 %", "–"]


# The report ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict]:
    """The report written from the stored results into a folder of its own."""
    folder = tmp_path_factory.mktemp("report")
    for name in MODULES:
        (folder / f"{name}.zarr").symlink_to(RESULTS / f"{name}.zarr")
    studies = {name: find(name, folder) for name in MODULES}
    return folder, report.write(studies), studies


def section(folder: Path, title: str) -> str:
    """The text of the claim whose title has these words."""
    parts = (folder / "REPORT.md").read_text(encoding="utf-8").split("\n## ")
    return next(part for part in parts if title in part.splitlines()[0])


def test_the_report_is_complete(written):
    folder, short, studies = written
    text = (folder / "REPORT.md").read_text(encoding="utf-8")
    assert set(short) == {"headlines", "audit", "agreement"}
    headlines = re.findall(r"^(\d+)\. .+\.$", short["headlines"], re.MULTILINE)
    assert len(headlines) == len(re.findall(r"^\d+\. ", short["audit"], re.MULTILINE))
    assert not re.search(r"\b(nan|inf|None)\b", short["headlines"])
    assert not re.search(r"\b(nan|inf|None)\b", text + short["audit"])
    assert "  " not in short["audit"]
    titles = re.findall(r"^\d+\. \*\*(.+?)\.\*\*", short["audit"], re.MULTILINE)
    assert len(titles) >= 10
    assert all(f"## {title}" in text for title in titles)
    for picture in re.findall(r"!\[.*?\]\((.+?)\)", text):
        drawn_by_a_study = picture.removesuffix(".png") in studies and studies[picture.removesuffix(".png")].figure
        assert drawn_by_a_study or (folder / picture).read_bytes().startswith(b"\x89PNG")
    for k in (1, 2, 3, 4):
        assert f"Setting {k}: published values and ours" in text


def test_every_table_of_the_report_is_there_three_times_and_reads_back(written):
    folder, _, _ = written
    names = {path.stem for path in (folder / "tables").iterdir()}
    assert {"verdicts", "readings", "setting1", "setting4", "competition_mse", "theorem2", "robustness_eb"} <= names
    for name in names:
        text = (folder / "tables" / f"{name}.csv").read_text(encoding="utf-8")
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1
        assert not any("**" in cell for row in rows for cell in row)
        markdown = (folder / "tables" / f"{name}.md").read_text(encoding="utf-8")
        assert markdown.count("\n|") == len(rows) + 1
        assert markdown.strip() in (folder / "REPORT.md").read_text(encoding="utf-8")
        latex = (folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert latex.isascii()
        assert latex.count(r" \\") == len(rows)


def test_the_counts_of_agreement_are_those_of_the_cells(written):
    """Recounted from the z-scores of the settings' own tables."""
    folder, _, _ = written
    z = {}
    for k in (1, 2, 3, 4):
        table = pd.read_csv(folder / "tables" / f"setting{k}.csv")
        z[k] = table[["z", "z.1", "z.2"]].to_numpy()
        assert z[k].shape == (15, 3)
        np.testing.assert_allclose(
            table.iloc[:, [2, 5, 8]], published().loc[k][list(QUANTITIES)], atol=0.005, err_msg=f"Setting {k}"
        )
    counts = pd.read_csv(folder / "tables" / "verdicts.csv").to_numpy()
    for k, row in zip((1, 2, 3, 4), counts, strict=True):
        for i, cell in enumerate(row[1:]):
            agrees, doubt, differs = map(int, cell.split(" / "))
            # z is printed to one digit
            assert (np.abs(z[k][:, i]) < 1.9).sum() <= agrees <= (np.abs(z[k][:, i]) < 2.1).sum()
            assert (np.abs(z[k][:, i]) > 3.1).sum() <= differs <= (np.abs(z[k][:, i]) > 2.9).sum()
            assert agrees + doubt + differs == 15
    listed = pd.read_csv(folder / "tables" / "disagreements.csv")
    total = sum(int(cell.split(" / ")[0]) for row in counts[:3] for cell in row[1:])  # Setting 4 is left out of both
    assert len(listed) == 135 - total
    text = section(folder, "Ours beside")
    assert f"{total} agree" in text
    assert f"{(listed['verdict'] == 'differs').sum()} differ" in text


def test_one_published_cell_from_the_stored_numbers_alone(written):
    """Setting 3, rho = 0.4, signal 0.5: its z for the MSE, everything drawn anew."""
    folder, _, studies = written
    at = lambda data: data.isel(cell=int(np.flatnonzero(  # noqa: E731
        (data["setting"] == 3) & (data["rho"] == 0.4) & (data["signal"] == 0.5))[0]))  # fmt: skip
    ours = at(studies["settings"].results())["mse"].sel(part="eb").to_numpy()
    nested = at(studies["readings"].results())
    values = np.array([[nested[f"mse_eb_{i}_{j}"].to_numpy().ravel() for j in (0, 1)] for i in (0, 1)])
    noise = values.var(axis=1, ddof=1).mean()
    truth = values.mean(axis=1).var(axis=0, ddof=1).mean() - noise / 2
    design = values.mean(axis=(0, 1)).var(ddof=1) - truth / 2 - noise / 4
    its = np.log1p(max(design, 0) / 100 / ours.mean() ** 2 + (max(truth, 0) + noise) / 100 / ours.mean() ** 2)
    own = np.log1p(ours.var(ddof=1) / 100 / ours.mean() ** 2)
    z = (np.log(1.5099 / ours.mean()) + (its - own) / 2) / np.sqrt(its + own)
    table = pd.read_csv(folder / "tables" / "setting3.csv").set_index(["ρ", "signal"])
    # covariances are made proper together, variances here one by one
    assert table.loc[(0.4, 0.5), "z.1"] == pytest.approx(z, rel=0.03)
    assert table.loc[(0.4, 0.5)].iloc[4] == f"{ours.mean():.3f} ± {ours.std(ddof=1) / 10:.3f}"


def test_the_claims_of_the_printed_update(written):
    folder, _, studies = written
    found = studies["unconstrained"].results()
    negative, broke = found["negative"] > 0, found["broke"] > 0
    text = section(folder, "printed update")
    naive = negative.sel(part="naive")
    assert f"{int(naive.sum())} of {naive.size}" in text
    gap = (found["loglik"].sel(part="naive") - found["loglik"].sel(part="maximum")).where(naive)
    assert f"{float(gap.min()):+.1f} to {float(gap.max()):+.1f}" in text
    assert f"{100 * float(broke.sel(part='alone').mean()):.0f} %" in text


def test_the_claims_of_theorem_2(written):
    folder, _, studies = written
    found = studies["theorem2"].results()["mse"].mean("replication").set_index(cell="m")
    ratio = found.sel(part="eb") / found.sel(part="oracle")
    text = section(folder, "Theorem 2")
    assert f"{float(ratio.sel(cell=10)):.2f} times" in text
    assert f"{float(ratio.sel(cell=1000)):.3f} times" in text
    worse = float(found.sel(part="eb", cell=10)) > float(found.sel(part="zero", cell=10))
    assert ("worse than" in text) == worse
    assert (ratio > 1).all()  # nothing beats the oracle


def test_the_claims_of_the_comparison(written):
    folder, _, studies = written
    mean = studies["competition"].results()["mse"].mean("replication")
    at = (mean["setting"].isin([1, 3, 4])) & (mean["rho"] > 0)
    eb = mean.sel(part="eb")
    text = section(folder, "comparison that the paper lacks")
    lost = {rival: int(((eb > mean.sel(part=rival)) & at).sum()) for rival in ("eb_power", "ridge", "zero", "ols")}
    for rival, words in (("eb_power", "power slab in"), ("ridge", "alone in"), ("zero", "as zero in")):
        assert f"{words} {lost[rival]}" in text
    assert f"{int(at.sum()) - lost['ols']} of {int(at.sum())}" in text
    model = mean["setting"] == 0
    for rival, words in (("ridge", "ridge in"), ("zero", "zero in"), ("ols", "OLS in")):
        assert f"{words} {int(((eb > mean.sel(part=rival)) & model).sum())}" in text


def test_the_claims_of_local_maxima(written):
    folder, _, studies = written
    found = studies["starts"].results().isel(part=0)
    missed = found["default"] > found["naive"] + 1e-4
    text = section(folder, "local maxima cost")
    assert f"{int(missed.sum())} of {missed.size}" in text
    assert (
        f"{float(found['mse_naive'].where(missed).mean() / found['mse_default'].where(missed).mean()):.2f} times"
        in text
    )
    for who in ("naive", "default"):
        assert f"{float(found[f'auc_{who}'].where(missed).mean()):.3f}" in text


def test_the_claims_of_setting_2(written):
    """No AUC of ours depends on rho; heterogeneity from one-way sums over all data sets."""
    folder, _, studies = written
    found = studies["settings"].results()["auc"].sel(part="eb").isel(cell=slice(15, 30))
    assert set(found["setting"].to_numpy()) == {2}
    total = 0.0
    for signal in SIGNALS:
        values = found.where(found["signal"] == signal, drop=True).to_numpy()
        w = values.shape[1] / values.var(axis=1, ddof=1)
        centre = np.sum(w * values.mean(axis=1)) / np.sum(w)
        total += np.sum(w * (values.mean(axis=1) - centre) ** 2)
    assert f"{total:.1f} on 12" in section(folder, "Setting 2's AUCs are not")
    assert chi2.sf(total, 12) > 1e-3


def test_stored_results_make_their_tables_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for study in (competition.STUDY, theorem2.STUDY, unconstrained.STUDY, robustness.STUDY):
            assert study.table(study.read()).count("|") > 50
