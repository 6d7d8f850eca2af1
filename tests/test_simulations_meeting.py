"""The meeting of both methods: the worlds, the translations between what they estimate, and the numbers that judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import f as f_distribution

import ebmodel
from ebmodel.mash.covariances import Covariance
from ebmodel.mash.data import tidy
from ebmodel.mash.posterior import posterior
from ebmodel.mash.prior import Prior
from simulations import meeting
from simulations.meeting import CLOSED, STUDY, WORLDS, Estimate


def stream() -> np.random.SeedSequence:
    """A fresh one: spawning from it leaves a mark on it."""
    return np.random.SeedSequence(5)


@pytest.fixture
def small(monkeypatch):
    """6 genes and 40 others, 6 tissues."""
    for name, value in (("GENES", 6), ("WITH", 4), ("OTHERS", 40), ("TISSUES", 6)):
        monkeypatch.setattr(meeting, name, value)


@pytest.mark.parametrize("world", WORLDS)
def test_the_first_genes_have_effects_and_the_others_none(small, world):
    data = meeting.data({"world": world}, stream())
    assert dict(data["Y"].sizes) == {"gene": 46, "sample": 100, "tissue": 6}
    active = data["active"].transpose("gene", "tissue").to_numpy()
    assert active[:4].any()
    assert not active[4:].any()
    effects = data["effects"].transpose("gene", "tissue", "snp").to_numpy()
    np.testing.assert_array_equal(effects.any(axis=2), active)
    xr.testing.assert_identical(data, meeting.data({"world": world}, stream()))


def test_missing_responses_are_in_the_same_tissues_in_all_genes(small):
    gone = np.isnan(meeting.data({"world": "missing"}, stream())["Y"]).sum("sample").transpose("gene", "tissue")
    assert (gone == gone[0]).all()
    np.testing.assert_array_equal(gone[0], [0, 2, 10, 22, 38, 60])


@pytest.mark.parametrize(("world", "rho"), [("model", 0.0), ("donors", meeting.CORRELATION)])
def test_errors_of_a_donor_correlate_where_they_should(small, world, rho):
    data = meeting.data({"world": world}, stream()).isel(gene=slice(6, None))  # genes without effects
    Y = data["Y"].transpose("gene", "sample", "tissue").to_numpy().reshape(-1, 6)
    off = np.corrcoef(Y.T)[np.triu_indices(6, 1)]
    assert abs(off.mean() - rho) < 4 * (1 - rho**2) / np.sqrt(len(Y))


def test_groups_are_active_as_a_whole_in_one_snp_and_explain_what_they_should():
    rng = np.random.default_rng(1)
    X, shares = rng.standard_normal((100, 5)), []
    for _ in range(200):
        gene = meeting.grouped(X, 0.5, rng)
        effects = gene["effects"].transpose("tissue", "snp").to_numpy()
        assert (effects != 0.0).any(axis=0).sum() <= 1
        by_group = gene["active"].to_numpy().reshape(-1, 20)[0]
        for g in range(3):
            members = by_group[np.arange(20) * 3 // 20 == g]
            assert members.all() or not members.any()
        shares += [np.mean((X @ effects[t]) ** 2) for t in np.flatnonzero(by_group)]
    wanted = meeting.EXPLAINED / (1 - meeting.EXPLAINED)
    # tissues of a group share 1/1.09 of their effect's variance: an error as of 600 groups, of chi-squared variables
    assert np.mean(shares) == pytest.approx(wanted, abs=4 * wanted * np.sqrt(2 / 300))


def test_joint_and_marginal_effects_are_translated_forth_and_back(small):
    data = meeting.judged(meeting.data({"world": "ld"}, stream()))
    joint = np.random.default_rng(0).standard_normal((6, 6, 5))
    np.testing.assert_allclose(meeting.to_joint(data, meeting.to_marginal(data, joint)), joint, atol=1e-10)


def test_without_errors_least_squares_is_what_it_estimates(small):
    data = meeting.judged(meeting.data({"world": "model"}, stream()))
    effects = data["effects"].transpose("gene", "tissue", "snp").to_numpy()
    X = data["X"].transpose("gene", "sample", "snp").to_numpy()
    errors = 1e-6 * np.random.default_rng(0).standard_normal((6, 100, 6))
    clean = data.assign(Y=(("gene", "sample", "tissue"), X @ effects.transpose(0, 2, 1) + errors))
    np.testing.assert_allclose(meeting.joint_least_squares(clean).b, effects, atol=1e-6)
    marginal = meeting.marginal_least_squares(clean).b
    np.testing.assert_allclose(marginal, meeting.to_marginal(data, effects), atol=1e-6)


@pytest.mark.parametrize("world", ["model", "missing"])
def test_least_squares_is_that_of_observed_samples(small, world):
    data = meeting.judged(meeting.data({"world": world}, stream()))
    joint, marginal = meeting.joint_least_squares(data), meeting.marginal_least_squares(data)
    X, Y = data["X"].transpose("gene", "sample", "snp").to_numpy(), data["Y"].transpose("gene", "sample", "tissue")
    for g, t in ((0, 0), (3, 5), (5, 4)):
        y = Y.to_numpy()[g, :, t]
        seen = ~np.isnan(y)
        x, y = X[g, seen], y[seen]
        b, (rss,), *_ = np.linalg.lstsq(x, y, rcond=None)
        n, p = x.shape
        np.testing.assert_allclose(joint.b[g, t], b)
        np.testing.assert_allclose(joint.s[g, t] ** 2, rss / (n - p) * np.diag(np.linalg.inv(x.T @ x)))
        F = (y @ y - rss) / p / (rss / (n - p))
        assert joint.p[g, t] == pytest.approx(f_distribution.sf(F, p, n - p))
        for j in range(p):
            b, (rss,), *_ = np.linalg.lstsq(x[:, [j]], y, rcond=None)
            assert marginal.b[g, t, j] == pytest.approx(b[0])
            assert marginal.s[g, t, j] == pytest.approx(np.sqrt(rss / (n - 1) / (x[:, j] @ x[:, j])))


def test_effects_keep_their_names_and_places(small):
    data = meeting.data({"world": "model"}, stream())
    values = np.random.default_rng(0).standard_normal((46, 6, 5))
    rows = meeting._stacked(data, values)
    assert rows.sel(effect="gene3_snp2", condition="tissue5").item() == values[2, 4, 1]
    np.testing.assert_array_equal(meeting._unstacked(data, rows), values)


def test_one_snp_and_no_inactive_tissue_is_one_covariance_of_mash():
    """beta ~ N(0, kappa), beta(t) | beta ~ N(beta, eta): effects over tissues are N(0, kappa 11' + eta I)."""
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((40, 1)), rng.standard_normal((40, 5)) + 0.5
    kappa, eta, sigma2 = 0.3, 0.2, 1.5
    theta = ebmodel.Params(tau1=1.0, beta=[0.0], eta=eta, sigma2=sigma2, slab="independent", kappa=kappa)
    regression = ebmodel.oracle(X, Y, theta)
    xx = float((X**2).sum())
    effects = tidy(X.T @ Y / xx, np.full((1, 5), np.sqrt(sigma2 / xx)))
    U = Covariance.from_matrix("both", (kappa + eta * np.eye(5)) / (kappa + eta))
    prior = Prior((U,), np.array([np.sqrt(kappa + eta)]), np.ones((1, 1)), 0.0, np.arange(5).astype(str))
    moments, _ = posterior(effects, prior)
    np.testing.assert_allclose(moments.mean[0], regression.effects[:, 0], atol=1e-6)
    np.testing.assert_allclose(moments.sd[0], regression.effects_sd[:, 0], atol=1e-6)


@pytest.mark.parametrize("world", CLOSED)
def test_the_exact_posterior_knows_which_genes_have_effects(small, world):
    data = meeting.data({"world": world}, stream())
    found = meeting.oracle(data, stream())
    assert found.probability.shape == (6, 6)
    assert not found.probability[4:].any()
    assert not found.joint[4:].any()
    gene = data.isel(gene=1).assign_attrs(tau1=0.5)
    np.testing.assert_array_equal(found.joint[1], ebmodel.simulate.exact_posterior(gene).effects)


def _exact(data, joint, **more):
    return Estimate(joint, meeting.to_marginal(meeting.judged(data), joint), np.zeros(joint.shape[:2]), **more)


def test_errors_are_those_of_joint_effects_marginal_ones_and_the_signal(small):
    data = meeting.data({"world": "ld"}, stream())
    judged = meeting.judged(data)
    beta = judged["effects"].transpose("gene", "tissue", "snp").to_numpy()
    assert set(meeting.errors(_exact(data, beta), data).values()) == {0.0}
    off = np.random.default_rng(0).standard_normal(beta.shape)
    found = meeting.errors(_exact(data, beta + off), data)
    X = judged["X"].transpose("gene", "sample", "snp").to_numpy()
    assert found["mse_joint"] == pytest.approx(np.mean(off**2))
    zero = meeting.errors(meeting.zero(data, stream()), data)
    assert zero["mse_joint"] == pytest.approx(np.mean(beta**2))
    assert zero["mse_signal_real"] == pytest.approx(zero["mse_signal"] * 6 / 4)
    assert found["mse_signal"] == pytest.approx(np.mean((X @ off.transpose(0, 2, 1)) ** 2))
    assert found["mse_marginal"] == pytest.approx(np.mean(meeting.to_marginal(judged, off) ** 2))


def test_activity_is_ranked_over_all_genes_and_gene_by_gene(small):
    data = meeting.data({"world": "model"}, stream())
    active = meeting.judged(data)["active"].transpose("gene", "tissue").to_numpy()
    level = np.arange(6)[::-1, None] * 10.0  # genes that differ, and within which the order is the worst
    found = meeting.ranking(replace(_exact(data, np.zeros((6, 6, 5))), score=level - active), data)
    assert found["auc_within"] == 0.0
    assert found["auc"] == found["auc_probability"] > 0.5
    sure = replace(_exact(data, np.zeros((6, 6, 5))), score=active * 1.0, probability=active * 1.0)
    found = meeting.activity(sure, data)
    assert (found["brier"], found["fdp_0.05"], found["power_0.05"], found["power_score"]) == (0.0, 0.0, 1.0, 1.0)
    assert (found["fdp_real"], found["power_real"]) == (0.0, 1.0)
    assert found["bin_active_10"] == active.sum()
    assert found["real_bin_count_10"] == found["bin_count_10"]
    assert found["real_bin_count_1"] < found["bin_count_1"]
    none = meeting.activity(replace(sure, probability=None), data)
    assert none.keys() == found.keys()
    assert np.isnan(list(none.values())).all()
    everything = replace(sure, probability=np.ones((6, 6)))
    found = meeting.activity(everything, data)
    with_effects = active[active.any(axis=1)]
    assert found["fdp_real"] == pytest.approx(1 - with_effects.mean())
    assert found["fdp_0.05"] == pytest.approx(1 - active.mean())
    assert found["fdp_score"] == 0.0


def test_intervals_are_of_what_a_method_estimates(small):
    data = meeting.data({"world": "ld"}, stream())
    judged = meeting.judged(data)
    beta = judged["effects"].transpose("gene", "tissue", "snp").to_numpy()
    marginal = meeting.to_marginal(judged, beta)
    around = _exact(data, beta, interval=(marginal - 1e-9, marginal + 1e-9), of_marginal=True)
    assert meeting.coverage(around, data) == {"coverage": 1.0, "coverage_active": 1.0}
    assert meeting.coverage(replace(around, of_marginal=False), data)["coverage_active"] == 0.0


def test_the_study_runs_and_is_shown(small, tmp_path):
    cells = [{"world": "model"}, {"world": "groups"}]
    study = replace(STUDY, cells=cells, replications=2, folder=tmp_path)
    results = study.run(jobs=1, progress=False)
    assert len(results) == 4
    assert results.loc[results["world"] == "groups", "mse_joint_oracle"].isna().all()
    assert (results["auc_eb"] > 0.0).all()
    shown = study.table(study.read())
    assert " | 1.000 ± 0.000 | " in shown
    assert "groups of tissues: AUC, gene by gene" in shown
    assert "- Groups of tissues: MSE of Xβ by mash" in shown
    assert study.draw().stat().st_size > 10_000
    study.write_tables()
    assert (tmp_path / "tables" / "meeting_activity.csv").is_file()
