"""Calls keep the rate that calibrated probabilities promise, and gains are those of the genes compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit

from ebmodel import InputError
from ebmodel.eqtl.discoveries import accuracy, egenes, gains, gains_table, probabilities, read_truth
from ebmodel.eqtl.tissues import TISSUES, well_sampled

UNFITTED = 10


def study(genes: int = 1000, tissues: tuple[str, ...] = (), seed: int = 0) -> tuple[xr.Dataset, xr.Dataset]:
    """Results like a study's, and their truth. Related tissues share what is active; P(I=1) is calibrated for "paper".

    Evidence is z ~ N(2.5 I, 1) and P(I=1 | z) = expit(logit p + 2.5 z - 2.5^2/2), at the p each I was drawn with.
    "generalised" is twice as sure as it should be.
    """
    rng, tissues = np.random.default_rng(seed), tissues or well_sampled()
    organs, organ = np.unique([TISSUES[name].group for name in tissues], return_inverse=True)
    shape = (genes, len(tissues))
    prior = rng.normal(1.0, 2.0, (genes, 1)) + rng.normal(0.0, 1.5, (genes, len(organs)))[:, organ]
    active = rng.random(shape) < expit(prior)
    odds = prior + 2.5 * (rng.standard_normal(shape) + 2.5 * active) - 2.5**2 / 2.0
    snps = rng.geometric(0.12, genes)
    samples = np.array([TISSUES[name].samples for name in tissues])
    r2_true = active * 0.5 * rng.beta(1.0, 6.0, shape)
    lost = (snps[:, None] / samples) * np.array([0.3, 0.2, 1.0, 0.5, 0.6])[:, None, None]  # (method, gene, tissue)
    pmse = (1.0 - r2_true + lost) * (1.0 + 0.05 * rng.standard_normal((2, 1, *shape)))
    pmse = pmse * (1.0 + 0.01 * rng.standard_normal((2, 5, *shape)))
    r2 = np.clip(r2_true - 0.3 * lost + 0.02 * np.abs(rng.standard_normal((2, 5, *shape))), 0.0, 1.0)
    r2[1] *= 0.9
    results = xr.Dataset(
        {
            "status": ("gene", np.array(["fitted"] * genes, dtype=object)),
            "snps": ("gene", snps),
            "samples": ("tissue", samples),
            "posterior_probability": (("estimator", "gene", "tissue"), expit(np.stack([odds, 2.0 * odds]))),
            "pmse": (("screening", "method", "gene", "tissue"), pmse),
            "r2": (("screening", "method", "gene", "tissue"), r2),
        },
        {
            "gene": np.array([f"ENSG{g:011d}.1" for g in range(genes)]),
            "tissue": np.array(tissues),
            "estimator": ["paper", "generalised"],
            "method": ["paper", "generalised", "ols", "ridge", "elastic-net"],
            "screening": ["outside", "inside"],
        },
    )
    results["status"][:UNFITTED] = "no SNP passes"
    for name in ("posterior_probability", "pmse", "r2"):
        results[name].loc[{"gene": results.gene[:UNFITTED]}] = np.nan
    truth = xr.Dataset({"active": (("gene", "tissue"), active)}, {"gene": results.gene, "tissue": results.tissue})
    return results, truth


@pytest.fixture(scope="module")
def found() -> tuple[xr.Dataset, xr.Dataset]:
    return study()


def test_calls_are_the_most_whose_mean_error_is_below_the_rate(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, _ = found
    calls = egenes(results, 0.05)
    P = np.sort(probabilities(results).to_numpy().ravel())[::-1]
    error = np.cumsum(1.0 - P) / np.arange(1, P.size + 1)
    most = int(np.flatnonzero(error <= 0.05)[-1]) + 1
    assert int(calls.called.sum()) == int(calls["count"].sum()) == most
    assert calls.attrs["threshold"] == P[most - 1]
    np.testing.assert_allclose(calls.attrs["promised"], error[most - 1])
    assert calls.sizes["gene"] == results.sizes["gene"] - UNFITTED


def test_calls_within_tissues_keep_the_rate_in_each(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    calls = egenes(found[0], 0.1)
    assert float(calls.promised_within.max()) <= 0.1
    # all tissues at once: some promise more than the rate, others less
    assert float(calls.promised.min()) < calls.attrs["promised"] < float(calls.promised.max())
    least = calls.probability.where(calls.called_within).min("gene")
    np.testing.assert_array_equal(calls.threshold_within, least)


def test_sharing_counts_every_gene_once(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    calls = egenes(found[0])
    assert int(calls.sharing.sum()) == calls.sizes["gene"]
    assert int(calls.sharing[0]) == int((~calls.egene).sum())
    assert int((calls.sharing * calls.bin).sum()) == int(calls.called.sum())
    assert 0.0 < calls.attrs["promised_genes"] < calls.attrs["promised"]


def test_genes_without_expression_in_a_tissue_are_not_called_there(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, truth = found[0].copy(deep=True), found[1]
    results["posterior_probability"][:, 100:200, 3] = np.nan
    calls = egenes(results)
    missing = np.isnan(calls.probability.to_numpy())
    assert missing.sum() == 100
    assert not calls.called.to_numpy()[missing].any()
    assert not calls.called_within.to_numpy()[missing].any()
    assert np.isfinite(accuracy(results, truth, draws=2).tissues.auc).all()


def test_calibrated_probabilities_keep_their_promises(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    judged = accuracy(*found, draws=20)
    paper = judged.pooled.sel(estimator="paper")
    assert abs(float(paper.realised - paper.promised)) < 4 * float(paper.realised_se)
    rates = judged.levels.sel(estimator="paper")
    assert (abs(rates.realised - rates.promised) < 4 * rates.realised_se).all()
    assert (rates.power.diff("level") >= 0).all()
    curve = judged.reliability.sel(estimator="paper")
    assert (abs(curve.observed - curve.predicted) < 4.5 * curve.standard_error).all()
    assert float(paper.auc) > 0.95


def test_probabilities_that_are_too_sure_are_found_out(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    judged = accuracy(*found, draws=20)
    sure = judged.pooled.sel(estimator="generalised")
    assert float(sure.realised - sure.promised) > 4 * float(sure.realised_se)
    # the order of its probabilities is the same, and so the AUC
    np.testing.assert_allclose(judged.pooled.auc[0], judged.pooled.auc[1])
    assert float(judged.pooled.brier[1]) > float(judged.pooled.brier[0])


def test_accuracy_counts_what_the_choice_of_snps_missed(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, truth = found
    pooled = accuracy(results, truth, draws=2).pooled.sel(estimator="paper")
    calls = egenes(results).called
    active = truth.active
    hits = int((calls & active.sel(gene=calls.gene)).sum())
    np.testing.assert_allclose(pooled.power_study, hits / int(active.sum()))
    np.testing.assert_allclose(pooled.power, hits / int(active[UNFITTED:].sum()))


def test_standard_errors_are_by_gene() -> None:
    # the standard error of the realised share predicts how it varies over studies
    shares = [accuracy(*study(150, well_sampled()[:12], seed), draws=1).pooled.isel(estimator=0) for seed in range(40)]
    spread = np.std([float(one.realised - one.promised) for one in shares], ddof=1)
    claimed = np.sqrt(np.mean([float(one.realised_se) ** 2 for one in shares]))
    assert 0.7 < spread / claimed < 1.4  # sd of 40: relative error 0.11


def test_table_has_a_row_for_every_tissue_and_all(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    judged = accuracy(*found, draws=2)
    table = judged.table()
    assert len(table) == 2 * 33
    assert table.loc[("paper", "all tissues"), "called"] == int(judged.pooled.called[0])
    assert "Adipose – Subcutaneous" in str(judged)


def test_gains_are_means_over_genes_that_both_predict(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results = found[0].copy(deep=True)
    results["pmse"].loc[{"method": "ols"}][:, 50:80, 2] = np.nan  # as with fewer samples than SNPs
    gained = gains(results, min_snps=(0, 20))
    one = gained.sel({"screening": "inside", "method": "paper", "threshold": 20}).isel(tissue=2)
    some = results.isel(tissue=2, gene=slice(UNFITTED, None)).sel(screening="inside")
    some = some.isel(gene=np.flatnonzero((some.snps >= 20) & np.isfinite(some.pmse.sel({"method": "ols"}))))
    paper, ols = (some.sel({"method": name}) for name in ("paper", "ols"))
    difference = (paper.r2 - ols.r2).to_numpy()
    assert int(one.genes) == len(difference)
    np.testing.assert_allclose(one.increase, difference.mean())
    np.testing.assert_allclose(one.increase_se, difference.std(ddof=1) / np.sqrt(len(difference)))
    np.testing.assert_allclose(one.percent, 100 * difference.mean() / float(ols.r2.mean()))
    np.testing.assert_allclose(one.pmse_ratio, np.median(paper.pmse / ols.pmse))
    np.testing.assert_allclose(one.pmse_better, np.mean(paper.pmse < ols.pmse))


def test_a_method_gains_nothing_over_itself(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    itself = gains(found[0], "ridge").sel({"method": "ridge"})
    assert (itself.increase == 0).all()
    assert (itself.pmse_ratio == 1).all()
    assert (itself.pmse_better == 0).all()


def test_constant_predictions_explain_nothing(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results = found[0].copy(deep=True)
    zero = results.copy(deep=True)
    results["r2"][:, 0, 20:40] = np.nan
    zero["r2"][:, 0, 20:40] = 0.0
    xr.testing.assert_identical(gains(results), gains(zero))


def test_no_genes_with_so_many_snps(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    gained = gains(found[0], min_snps=(10_000,))
    assert (gained.genes == 0).all()
    assert np.isnan(gained.percent).all()


def test_gains_table(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    gained = gains(found[0])
    table = gains_table(gained)
    assert len(table) == 33
    np.testing.assert_allclose(table["percent"].iloc[0], table["percent"].iloc[1:].mean())
    with pytest.raises(InputError, match="one of '0', '20', got 7"):
        gains_table(gained, min_snps=7)


def test_truth_is_read(found: tuple[xr.Dataset, xr.Dataset], tmp_path: Path) -> None:
    results, truth = found
    folder = tmp_path / "truth"
    folder.mkdir()
    active = truth.active.to_pandas()
    genes = pd.DataFrame({"chromosome": "chr1", "tss": 5, "egene": 1, "causal": "v1;v2", "tau1": 0.5}, active.index)
    genes.loc[active.index[3], "causal"] = ""
    effects = pd.DataFrame({"gene": active.index[[0, 0]], "variant": ["v1", "v2"]})
    effects = effects.join(pd.DataFrame(0.25, effects.index, active.columns))
    genes.to_csv(folder / "genes.tsv.gz", sep="\t")
    active.astype(int).to_csv(folder / "active.tsv.gz", sep="\t")
    effects.to_csv(folder / "effects.tsv.gz", sep="\t", index=False)
    read = read_truth(tmp_path)
    xr.testing.assert_equal(read.active, truth.active)
    assert read.egene.dtype == bool
    assert read.causal.to_numpy()[[0, 3]].tolist() == ["v1;v2", ""]
    assert read.effects.shape == (2, 32)
    direct, by_path = accuracy(results, truth, draws=1), accuracy(results, tmp_path, draws=1)
    xr.testing.assert_equal(direct.pooled, by_path.pooled)
    genes.iloc[1:].to_csv(folder / "genes.tsv.gz", sep="\t")
    with pytest.raises(InputError, match="the same genes"):
        read_truth(folder)


def test_what_cannot_be_done_is_refused(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, truth = found
    with pytest.raises(InputError, match="0 < fdr < 1"):
        egenes(results, 5)
    with pytest.raises(InputError, match="one of 'paper', 'generalised', got 'mash'"):
        egenes(results, estimator="mash")
    with pytest.raises(InputError, match="at least one fitted gene"):
        egenes(results.isel(gene=slice(UNFITTED)))
    with pytest.raises(InputError, match="a truth for every gene"):
        accuracy(results, truth.isel(gene=slice(10)))
    with pytest.raises(InputError, match="got 'lasso'"):
        gains(results, "lasso")
