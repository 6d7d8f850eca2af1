"""The studies of the variational step: their data, their distances, and what they say where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit, logit

import ebmodel
from ebmodel import dense
from simulations import variational
from simulations.variational import BAYES_STUDY, STUDY, Posterior, apart, judged, model_data

CELL = {"signal": "weak", "slab": -1.0, "m": 4, "missing": 0.3}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> pd.DataFrame:
    """One data set a cell; log p(Y) is not maximised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variational, "maximum", lambda X, Y, starts: starts[0])
        return replace(STUDY, folder=tmp_path_factory.mktemp("variational")).run(1, jobs=1, progress=False)


@pytest.mark.parametrize("slab", [1.0, -1.0])
def test_data_are_those_of_the_model_with_a_prior_on_its_mean(slab):
    """beta'(kappa Sigma0)^-1 beta ~ chi2_p; the spreads are kappa dbar/sigma2 and eta dbar/sigma2."""
    cell, lengths = {**CELL, "slab": slab}, []
    for stream in np.random.SeedSequence(0).spawn(300):
        gene, theta = model_data(cell, stream)
        X, Sigma0 = gene["X"].to_numpy(), dense.slab_shape(gene["X"].to_numpy(), theta)
        dbar = np.trace(X.T @ X @ Sigma0) / len(theta.beta)
        np.testing.assert_allclose(np.array([theta.kappa, theta.eta]) * dbar, variational.SPREADS["weak"], rtol=1e-10)
        np.testing.assert_array_equal(gene["beta"], theta.beta)
        np.testing.assert_allclose(gene["slab_covariance"], theta.eta * Sigma0, rtol=1e-9, atol=1e-12)
        assert gene["Y"].isnull().mean() == 0.3  # noqa: PD003, xarray's
        lengths.append(theta.beta @ np.linalg.solve(theta.kappa * Sigma0, theta.beta))
    p = len(theta.beta)
    assert abs(np.mean(lengths) - p) < 4 * np.sqrt(2 * p / len(lengths))
    again, _ = model_data(cell, np.random.SeedSequence(0).spawn(300)[-1])
    xr.testing.assert_identical(again, gene)


def test_distances():
    probability, effects, sd = np.array([0.5, 0.9, 0.2]), np.ones((3, 2)), np.full((3, 2), 0.5)
    active = np.array([True, True, False])
    exact = Posterior(probability, effects, sd)
    same = apart(exact, exact, active)
    assert not any(same.values())
    moved = np.array([[0.5, 0], [0, 0], [0, -1.0]])
    off = Posterior(np.array([0.6, 0.9, 0.1]), effects + moved, sd * [[0.5], [0.5], [2]])
    found = apart(off, exact, active)
    assert found["p_max"] == pytest.approx(0.1)
    assert found["p_rms"] == pytest.approx(np.sqrt(0.02 / 3))
    lost = 0.5 * np.log(0.5 / 0.6) + 0.5 * np.log(0.5 / 0.4) + 0.2 * np.log(0.2 / 0.1) + 0.8 * np.log(0.8 / 0.9)
    assert found["lost"] == pytest.approx(lost / 3)
    assert found["effect_max"] == pytest.approx(2.0)
    assert found["effect_rms"] == pytest.approx(np.sqrt(5 / 6))
    assert np.exp(found["sd_active"]) == pytest.approx(0.5)
    assert np.exp(found["sd_all"]) == pytest.approx(0.5 ** (1 / 3))
    nothing = Posterior(np.zeros(3), 0 * effects, 0 * sd)  # nothing to be apart from
    assert np.isnan(apart(nothing, nothing, active)["sd_active"])
    assert apart(nothing, nothing, active)["effect_max"] == 0
    saturated = replace_probability(exact, np.array([1.0, 1.0, 0.0]))
    assert np.isfinite(apart(saturated, exact, active)["lost"])


def replace_probability(said: Posterior, probability) -> Posterior:
    return said._replace(posterior_probability=probability)


def test_scores_are_those_of_the_truth_and_of_the_posterior_itself():
    gene, _ = model_data(CELL, np.random.SeedSequence(3))
    truth, active = gene["effects"].to_numpy(), gene["active"].to_numpy()
    said = Posterior(np.full(4, 0.25), truth + 0.9, np.full_like(truth, 0.5))
    found = judged(said, gene)
    assert found["brier"] == pytest.approx(np.mean((0.25 - active) ** 2))
    assert found["doubt"] == pytest.approx(0.25 * 0.75)
    assert found["variance"] == pytest.approx(0.25)
    assert found["coverage"] == 1.0  # 0.9 < 1.96 x 0.5
    assert judged(said._replace(effects_sd=0 * truth + 0.4), gene)["coverage"] == 0.0


@pytest.mark.parametrize("cell", [CELL, {"signal": "strong", "slab": 1.0, "m": 12, "missing": 0.0}])
def test_a_replication_is_what_its_parts_say(cell):
    row = STUDY.row(cell, 0)
    gene, theta = model_data(cell, STUDY.stream(cell, 0))
    X, Y, m = gene["X"].to_numpy(), gene["Y"].to_numpy(), cell["m"]
    exact = dense.evidence_enumerated(X, Y, theta)
    T = np.full(m, 0.5)
    for _ in range(500):
        mu, S = dense.variational_mean(X, Y, theta, T)
        T = dense.variational_probability(X, Y, theta, mu, S)
    bound = dense.variational_bound(X, Y, theta, T, mu, S)
    assert row["evidence_true"] == pytest.approx(exact.log_evidence, rel=1e-10)
    assert row["gap_true"] == pytest.approx(exact.log_evidence - bound, abs=1e-5)
    np.testing.assert_allclose([row[f"p_q_true_{t}"] for t in range(1, m + 1)], T, atol=1e-4)
    np.testing.assert_allclose(
        [row[f"p_exact_true_{t}"] for t in range(1, m + 1)], exact.posterior_probability, atol=1e-12
    )
    assert row["beta_sd_true"] == pytest.approx(np.mean(np.log(np.sqrt(np.diag(S)) / exact.beta_sd)), abs=1e-4)
    mean, covariance = dense.variational_moments(X, Y, theta, mu, S)
    second = T[:, None] * (mean**2 + np.einsum("tii->ti", covariance))
    variance = second - (T[:, None] * mean) ** 2
    assert row["variance_q_true"] == pytest.approx(variance.mean(), rel=1e-3)
    assert row["variance_exact_true"] == pytest.approx(np.mean(exact.effects_sd**2), rel=1e-10)
    # the fit's bound is below its evidence, and not below the bound at the truth, which is one of its candidates
    assert row["gap_fit"] >= -1e-9
    assert row["evidence_fit"] - row["gap_fit"] >= bound - 1e-6
    if m <= variational.FEW:  # log p(Y) was maximised
        assert row["evidence_best"] >= max(row["evidence_fit"], row["evidence_true"]) - 1e-9
        assert row["evidence_best"] - row["evidence_fit"] < row["gap_fit"] + 0.5
    else:
        assert np.isnan(row["evidence_best"])


def test_maximum_of_log_p_of_y():
    """No small step from it, in any parameter, is uphill."""
    gene, theta = model_data({"signal": "strong", "slab": 1.0, "m": 6, "missing": 0.0}, np.random.SeedSequence(5))
    X, Y = gene["X"].to_numpy(), gene["Y"].to_numpy()
    best = variational.maximum(X, Y, [theta])
    value = dense.evidence_enumerated(X, Y, best).log_evidence
    assert value > dense.evidence_enumerated(X, Y, theta).log_evidence + 0.1
    assert variational.inside(best) == 1.0
    for name in ("tau1", "kappa", "eta", "sigma2"):
        for factor in (0.95, 1.05):
            moved = replace(best, **{name: factor * getattr(best, name)})
            assert dense.evidence_enumerated(X, Y, moved).log_evidence <= value + 1e-6


def test_bounds_are_below_the_evidence_everywhere(results):
    assert len(results) == len(STUDY.cells)
    for at in variational.AT:
        assert (results[f"gap_{at}"] >= -1e-9).all()
    assert (results["gap_true"] > 0).all()
    fit = results["evidence_fit"] - results["gap_fit"]
    assert (fit >= results["evidence_true"] - results["gap_true"] - 1e-6).all()
    away = results[results["inside"] == 0.0]
    assert len(away) > 0
    np.testing.assert_allclose(away["gap_fit"], 0.0, atol=1e-8)  # q is exact there
    assert len(variational.compared(results, "fit")) == len(results) - len(away)
    assert len(variational.compared(results, "true")) == len(results)
    assert len(variational.per_tissue(results, "p_q_fit")) == results["m"].sum()


def test_findings_and_tables_show_what_was_planted(results):
    planted = results.copy()
    for at in variational.AT:
        planted[f"variance_q_{at}"] = 0.25 * planted[f"variance_exact_{at}"]
        planted[f"sd_active_{at}"] = planted[f"beta_sd_{at}"] = np.log(0.8)
        planted[f"gap_{at}"], planted[f"p_max_{at}"] = 0.12 * planted["m"], 0.3
    planted["evidence_best"] = planted["evidence_fit"] + np.where(planted["m"] <= 8, 0.25, np.nan)
    for t in range(1, 13):  # odds squared, one tissue in four beyond doubt
        planted[f"p_exact_true_{t}"] = np.where(np.isnan(planted[f"active_{t}"]), np.nan, 0.3 if t % 4 else 0.01)
        planted[f"p_q_true_{t}"] = expit(2 * logit(planted[f"p_exact_true_{t}"]))
    planted["brier_q_fit"], planted["doubt_q_fit"] = 0.3, 0.1
    text = variational.finding(planted)
    assert text.count("80.0 % of the exact ones in active tissues") == 2
    assert text.count("50.0 % in root mean square") == 2
    assert text.count("(0.120 / 0.120 / 0.120 a tissue for m = 4 / 8 / 12") == 2
    assert "q, the fit's hyperparameters 3.00" in text
    assert "in 100 % of the tissues in doubt (0.05 < P < 0.95), where its log odds are 2.00 times" in text
    assert "(m ≤ 8): 0.250 of log p(Y) on average, 0.25 at most" in text
    table = variational.distance_table(planted, "true")
    assert len(table.rows) == 12
    for row in table.rows:
        shown = dict(zip(table.header, row, strict=True))
        assert shown["per tissue"] == "0.120 / 0.120"
        assert shown["sd, all"] == "0.50 / 0.50"
        assert shown["sd of β"] == "0.80 / 0.80"
    scores = variational.score_table(planted)
    assert [row[1:3] for row in scores.rows if ": q, the fit" in row[0]] == [["0.3000", "0.1000"]] * 3
    everything = variational.table(results)
    assert "nan" not in everything
    assert everything.startswith(variational.finding(results))


def test_reliability_is_the_share_active(results):
    planted = results.copy()
    rng = np.random.default_rng(0)
    for t in range(1, 13):
        planted[f"p_q_fit_{t}"] = np.where(np.isnan(planted[f"active_{t}"]), np.nan, rng.choice([0.05, 0.95], 24))
        planted[f"active_{t}"] = np.where(np.isnan(planted[f"active_{t}"]), np.nan, planted[f"p_q_fit_{t}"] > 0.5)
    claimed, active = variational.reliability(planted, "q_fit")
    np.testing.assert_allclose(claimed, [0.05, 0.95])
    np.testing.assert_array_equal(active, [0, 1])


def test_figure(results, tmp_path: Path):
    drawing = variational.figure(results)
    left, _, right = drawing.axes
    shown = np.vstack([points.get_offsets() for points in left.collections])
    assert len(shown) == results["m"].sum()
    assert len(right.lines) == 5
    drawing.savefig(tmp_path / "figure.png")


# Against full Bayes --------------------------------------------------------------------------------------------------


def test_moments_of_draws():
    rng = np.random.default_rng(1)
    effects, probability = rng.standard_normal((2, 50, 3, 2)), rng.random((2, 50, 3))
    dims = ("chain", "draw", "tissue")
    posterior = xr.Dataset({"effects": ((*dims, "snp"), effects), "probability": (dims, probability)})
    said = variational._drawn(xr.DataTree.from_dict({"posterior": posterior}))
    np.testing.assert_allclose(said.posterior_probability, probability.mean((0, 1)))
    np.testing.assert_allclose(said.effects, effects.mean((0, 1)))
    np.testing.assert_allclose(said.effects_sd, effects.std((0, 1)))


def test_the_table_against_full_bayes_shows_what_was_planted():
    rows = []
    for cell in BAYES_STUDY.cells:
        scores = {f"{key}_{who}": 0.2 for key in ("brier", "doubt", "coverage", "variance") for who in ("q", "bayes")}
        distances = {"p_correlation": 0.9, "p_rms": 0.05, "effect_rms": 0.1, "sd_active": np.log(0.75)}
        exact = {"p_rms_exact": 0.04, "sd_active_exact": np.log(0.8)} if cell["m"] == 12 else {}
        rows += [{**cell, "inside": i % 2, "rhat": 1.0, **scores, **distances, **exact} for i in range(4)]
    results = pd.DataFrame(rows)
    results["doubt_q"] = 0.1
    text = variational.bayes_tables(results)
    assert text.count("2 of 4 data sets") == 3
    assert "0.040 (q: 0.050) and its sds are 80.0 % (q: 75.0 %)" in text
    assert "q 2.00, full Bayes 1.00" in text
    assert text.count("| 0.900 | 0.050 | 0.10 | 0.75 | 1.00 | 0.200 (0.100) | 0.200 (0.200) |") == 3


@pytest.mark.statistical
def test_a_replication_against_full_bayes():
    cell = {**BAYES_STUDY.cells[0], "m": 6, "n": 30, "p": 2}
    row = BAYES_STUDY.row(cell, 0)
    gene, theta = model_data(cell, BAYES_STUDY.stream(cell, 0))
    fit = ebmodel.fit(gene.X, gene.Y, slab=theta.slab, mean="hierarchical")
    assert row["tau1_q"] == fit.params.tau1
    assert row["rhat"] < 1.05
    assert np.isfinite(row["p_rms_exact"])
    assert 0 < row["p_rms"] < 0.6


# What is stored ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored() -> pd.DataFrame:
    return STUDY.read()


def test_the_exact_posterior_at_the_truth_is_calibrated_and_q_is_overconfident(stored):
    """E (I - h)^2 = E h(1-h) for the exact posterior at the true parameters; q doubts less than it does."""
    assert len(stored) == STUDY.replications * len(STUDY.cells)
    excess = stored["brier_exact_true"] - stored["doubt_exact_true"]
    assert abs(excess.mean()) < 4 * excess.sem()
    less = stored["doubt_exact_true"] - stored["doubt_q_true"]
    assert less.mean() > 4 * less.sem()
    for name in ("sd_active_true", "beta_sd_true"):
        assert stored[name].mean() < -4 * stored[name].sem()


def test_the_plug_in_costs_more_than_the_factorisation(stored):
    plug_in = stored["brier_exact_fit"] - stored["brier_exact_true"]
    factorisation = stored["brier_q_fit"] - stored["brier_exact_fit"]
    assert plug_in.mean() - 4 * plug_in.sem() > factorisation.mean() + 4 * factorisation.sem()
