"""Effects as PredictDB databases and tables: what is written is read back, by the queries that others make."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from bed_reader import to_bed
from scipy.stats import false_discovery_control, pearsonr

from ebmodel.eqtl import export
from ebmodel.eqtl.export import export_predictdb, export_table, predict, read_extra, read_weights
from ebmodel.eqtl.variants import open_variants
from ebmodel.labels import ENTRY, ESTIMATOR, GENE, METHOD, SCREENING, TISSUE

GENES = ["ENSG1.1", "ENSG2.3", "ENSG3.1", "ENSG4.2", "ENSG5.1"]
STATUS = ["fitted", "no SNP passes", "fitted", "failed", "fitted"]
SNPS = [3, 0, 2, 0, 4]
TISSUES = ["Whole_Blood", "Lung"]
SAMPLES = {"Whole_Blood": 60, "Lung": 40}
ALLELES = [("A", "G"), ("C", "T"), ("G", "A"), ("T", "TA"), ("C", "A"), ("A", "T"), ("G", "C"), ("A", "C"), ("T", "G")]
POSITIONS = [100, 250, 300, 900, 1000, 2000, 2100, 2200, 2300]
VARIANTS = [f"chr1_{at}_{ref}_{alt}_b38" for at, (ref, alt) in zip(POSITIONS, ALLELES, strict=True)]


@pytest.fixture
def results() -> xr.Dataset:
    """A study of five genes, of which three were fitted; entries do not follow the order of genes."""
    rng = np.random.default_rng(1)
    estimators, methods = ["paper", "generalised"], ["paper", "generalised", "ols"]
    by_gene, by_entry = (ESTIMATOR, GENE, TISSUE), (ESTIMATOR, ENTRY, TISSUE)
    fitted = np.array(STATUS) == "fitted"
    r2 = np.where(fitted[:, None], rng.uniform(0.0, 0.4, (2, 3, 5, 2)), np.nan)
    probability = np.where(fitted[:, None], np.array([[0.9, 0.2], [0, 0], [0.6, 0.99], [0, 0], [0.1, 0.7]]), np.nan)
    effects = rng.normal(0.0, 0.2, (2, 9, 2))
    effects[0, 4, 0] = 0.0  # a SNP of ENSG5.1 with no effect in blood
    effects[0, 7:, 1] = 0.0  # ENSG3.1 has none in lung
    return xr.Dataset(
        {
            "status": (GENE, STATUS),
            "chromosome": (GENE, ["chr1"] * 5),
            "snps": (GENE, SNPS),
            "first": (GENE, [0, -1, 7, -1, 3]),
            "posterior_probability": (by_gene, np.stack([probability, probability / 2])),
            "log_bayes_factor": (by_gene, rng.normal(size=(2, 5, 2))),
            "r2": ((SCREENING, METHOD, GENE, TISSUE), r2),
            "samples": (TISSUE, [SAMPLES[tissue] for tissue in TISSUES]),
            "variant": (ENTRY, VARIANTS),
            "position": (ENTRY, POSITIONS),
            "other": (ENTRY, [ref for ref, _ in ALLELES]),
            "counted": (ENTRY, [alt for _, alt in ALLELES]),
            "z": (ENTRY, rng.normal(size=9)),
            "beta": ((ESTIMATOR, ENTRY), rng.normal(size=(2, 9))),
            "effects": (by_entry, effects),
            "effects_sd": (by_entry, rng.uniform(0.1, 0.2, (2, 9, 2))),
        },
        {GENE: GENES, TISSUE: TISSUES, ESTIMATOR: estimators, METHOD: methods, SCREENING: ["outside", "inside"]},
        {"settings": json.dumps({"seed": 7})},
    )


def entries(gene: str) -> slice:
    return {"ENSG1.1": slice(0, 3), "ENSG3.1": slice(7, 9), "ENSG5.1": slice(3, 7)}[gene]


@pytest.fixture
def genotypes(tmp_path):
    """The study's SNPs in a PLINK file that counts the reference allele of some; two dosages are missing."""
    counts = np.random.default_rng(2).integers(0, 3, (20, 9)).astype(float)  # of the alternative allele
    counts[3, 1] = counts[7, 8] = np.nan
    turned = np.arange(9) % 2 == 0
    path = tmp_path / "donors.bed"
    to_bed(
        path,
        np.where(turned, 2 - counts, counts),
        properties={
            "iid": [f"D{i}" for i in range(20)],
            "sid": VARIANTS,
            "chromosome": ["1"] * 9,
            "bp_position": POSITIONS,
            "allele_1": [ref if turn else alt for turn, (ref, alt) in zip(turned, ALLELES, strict=True)],
            "allele_2": [alt if turn else ref for turn, (ref, alt) in zip(turned, ALLELES, strict=True)],
        },
    )
    return path, np.where(np.isnan(counts), np.nanmean(counts, axis=0), counts)


def query(path, text):
    with closing(sqlite3.connect(path)) as base:
        return base.execute(text).fetchall()


def test_a_tissue_is_a_database_that_predixcan_can_query(results, tmp_path):
    paths = export_predictdb(results, tmp_path / "db")
    assert [path.name for path in paths] == ["paper_Whole_Blood.db", "paper_Lung.db"]
    effects = results["effects"].sel({ESTIMATOR: "paper", TISSUE: "Whole_Blood"}).to_numpy()
    wanted = {
        (VARIANTS[i], gene, effects[i], *ALLELES[i])
        for gene in ("ENSG1.1", "ENSG3.1", "ENSG5.1")
        for i in range(9)[entries(gene)]
        if effects[i] != 0.0
    }
    found = query(paths[0], "SELECT rsid, gene, weight, ref_allele, eff_allele FROM weights")
    assert len(found) == len(wanted) == 8
    assert set(found) == wanted
    assert query(paths[0], "SELECT DISTINCT varID FROM weights WHERE gene = 'ENSG3.1'") == [
        (VARIANTS[7],),
        (VARIANTS[8],),
    ]
    columns = "gene, genename, `n.snps.in.model`, `pred.perf.R2`, `pred.perf.pval`, `pred.perf.qval`"
    extra = query(paths[0], f"SELECT {columns} FROM extra")  # noqa: S608
    assert [row[:3] for row in extra] == [
        ("ENSG1.1", "ENSG1.1", 3),
        ("ENSG3.1", "ENSG3.1", 2),
        ("ENSG5.1", "ENSG5.1", 3),
    ]
    indexes = query(paths[0], "SELECT name FROM sqlite_master WHERE type = 'index'")
    assert {name for (name,) in indexes} == {"weights_rsid", "weights_gene", "weights_rsid_gene", "gene_model_summary"}
    assert query(paths[1], "SELECT n_samples, population, tissue FROM sample_info") == [(40, "", "Lung")]
    assert query(paths[1], "SELECT chromosome, cv_seed, estimator FROM construction") == [("chr1", 7, "paper")]
    types = query(paths[0], "SELECT typeof(weight), typeof(gene), typeof(eff_allele) FROM weights LIMIT 1")
    assert types == [("real", "text", "text")]


def test_predicted_expression_is_genotypes_times_effects(results, genotypes, tmp_path):
    path, X = genotypes
    for tissue, base in zip(TISSUES, export_predictdb(results, tmp_path / "db", "generalised"), strict=True):
        effects = results["effects"].sel({ESTIMATOR: "generalised", TISSUE: tissue}).to_numpy()
        with open_variants(path) as variants:
            found = predict(base, variants)
        assert found.attrs["missing"] == []
        assert list(found.index) == [f"D{i}" for i in range(20)]
        for gene in found:
            np.testing.assert_allclose(found[gene], X[:, entries(gene)] @ effects[entries(gene)], rtol=1e-6)
        with open_variants(path, as_written=True) as variants:  # counts the reference allele of some
            other = predict(base, variants, key="varID")
        np.testing.assert_allclose(other - other.mean(), found - found.mean(), atol=1e-6)


def test_variants_that_genotypes_lack_or_have_with_other_alleles_are_left_out_by_name(results, genotypes, tmp_path):
    path, X = genotypes
    results["other"][0], results["variant"][1] = "C", "chr1_250_C_G_b38"
    base = export_predictdb(results, tmp_path / "db", tissues=["Lung"])[0]
    with open_variants(path) as variants:
        found = predict(base, variants)
    assert found.attrs["missing"] == [VARIANTS[0], "chr1_250_C_G_b38"]
    effects = results["effects"].sel({ESTIMATOR: "paper", TISSUE: "Lung"}).to_numpy()
    np.testing.assert_allclose(found["ENSG1.1"], X[:, 2] * effects[2], rtol=1e-6)


def test_genes_below_a_probability_or_without_effects_are_left_out(results, tmp_path):
    blood, lung = export_predictdb(results, tmp_path / "db", probability=0.5)
    assert read_extra(blood)["gene"].tolist() == ["ENSG1.1", "ENSG3.1"]
    assert read_weights(blood)["gene"].unique().tolist() == ["ENSG1.1", "ENSG3.1"]
    assert read_extra(lung)["gene"].tolist() == ["ENSG5.1"]  # ENSG3.1 has P(I=1) = .99, and no effects
    np.testing.assert_array_equal(read_extra(blood)["posterior.probability"], [0.9, 0.6])


def test_performance_is_a_correlation_test_adjusted_over_all_fitted_genes(results, tmp_path):
    rng, n = np.random.default_rng(3), SAMPLES["Lung"]
    tests = [pearsonr(*rng.standard_normal((2, n)) + 0.4 * rng.standard_normal(n)) for _ in range(3)]
    fitted = [0, 2, 4]
    results["r2"].loc[{SCREENING: "inside", METHOD: "paper", TISSUE: "Lung"}][fitted] = [t.statistic**2 for t in tests]
    base = export_predictdb(results, tmp_path / "db", tissues=["Lung"], probability=0.5)[0]
    found = read_extra(base)  # ENSG5.1 alone
    np.testing.assert_allclose(found["pred.perf.R2"], tests[2].statistic ** 2)
    np.testing.assert_allclose(found["pred.perf.pval"], tests[2].pvalue, rtol=1e-9)
    adjusted = false_discovery_control([t.pvalue for t in tests])
    np.testing.assert_allclose(found["pred.perf.qval"], adjusted[2], rtol=1e-9)


def test_a_gene_without_r2_has_none_in_the_database(results, tmp_path):
    results["r2"].loc[{GENE: "ENSG1.1"}] = np.nan
    base = export_predictdb(results, tmp_path / "db", screening="outside")[0]
    found = read_extra(base)
    assert found.loc[0, ["pred.perf.R2", "pred.perf.pval", "pred.perf.qval"]].isna().all()
    assert found.loc[1:, ["pred.perf.R2", "pred.perf.pval", "pred.perf.qval"]].notna().all(axis=None)
    outside = results["r2"].sel({SCREENING: "outside", METHOD: "paper", TISSUE: "Whole_Blood"}).to_numpy()
    np.testing.assert_allclose(found["pred.perf.R2"][1:], outside[[2, 4]])


def test_a_study_without_cross_validation_has_no_performance(results, tmp_path):
    without = results.drop_dims([SCREENING, METHOD])
    base = export_predictdb(without, tmp_path / "db", tissues=["Lung"])[0]
    assert read_extra(base)["pred.perf.R2"].isna().all()
    assert len(read_weights(base)) == 7
    with pytest.raises(ValueError, match="got 'inside'"):
        export_predictdb(without, tmp_path / "db", screening="inside")
    of_others = results.sel({METHOD: ["ols"]})
    assert read_extra(export_predictdb(of_others, tmp_path / "db")[0])["pred.perf.pval"].isna().all()


def test_p_values_hold_their_size_and_reach_far():
    rng, n = np.random.default_rng(4), 12
    x, y = rng.standard_normal((2, 4000, n))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    r2 = np.sum(x * y, axis=1) ** 2 / (np.sum(x**2, axis=1) * np.sum(y**2, axis=1))
    share = np.mean(export.correlation_pvalue(r2, n) < 0.1)
    assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 4000)
    extreme = export.correlation_pvalue(np.array([0.0, 0.8, 1.0, np.nan]), 500)
    assert extreme[0] == 1.0
    assert 0.0 < extreme[1] < 1e-150
    assert extreme[2] == 0.0
    assert np.isnan(extreme[3])
    assert np.isnan(export.correlation_pvalue(np.array([0.5]), 2)).all()


def test_names_and_identifiers_are_those_given(results, tmp_path):
    base = export_predictdb(
        results, tmp_path / "db", tissues=["Lung"], names={"ENSG1.1": "WARS2"}, rsids={VARIANTS[0]: "rs5"}, build="b37"
    )[0]
    assert read_extra(base)["genename"].tolist() == ["WARS2", "ENSG5.1"]
    assert read_weights(base).iloc[0][["rsid", "varID"]].tolist() == ["rs5", "chr1_100_A_G_b37"]


def test_a_failure_leaves_the_database_that_was_there(results, tmp_path, monkeypatch):
    base = export_predictdb(results, tmp_path / "db", tissues=["Lung"])[0]
    before = base.read_bytes()
    monkeypatch.setattr(export, "INDEXES", {"broken": "nothing (nowhere)"})
    with pytest.raises(sqlite3.OperationalError):
        export_predictdb(results.assign(effects=results["effects"] + 1.0), tmp_path / "db")
    assert base.read_bytes() == before
    assert list((tmp_path / "db").iterdir()) == [base]


def test_the_table_has_every_entry_of_fitted_genes(results, tmp_path):
    found = pd.read_csv(export_table(results, tmp_path / "effects.tsv.gz", "generalised"), sep="\t")
    assert found["gene"].tolist() == ["ENSG1.1"] * 3 + ["ENSG3.1"] * 2 + ["ENSG5.1"] * 4
    order = [0, 1, 2, 7, 8, 3, 4, 5, 6]
    assert found["variant"].tolist() == [VARIANTS[i] for i in order]
    assert found["position"].tolist() == [POSITIONS[i] for i in order]
    chosen = results.sel({ESTIMATOR: "generalised"}).isel({ENTRY: order})
    for tissue in TISSUES:
        np.testing.assert_allclose(found[tissue], chosen["effects"].sel({TISSUE: tissue}), rtol=1e-5)
        np.testing.assert_allclose(found[f"{tissue}_sd"], chosen["effects_sd"].sel({TISSUE: tissue}), rtol=1e-5)
    np.testing.assert_allclose(found["beta"], chosen["beta"], rtol=1e-5)
    np.testing.assert_allclose(found["z"], chosen["z"], rtol=1e-5)


def test_mistakes_are_named(results, genotypes, tmp_path):
    with pytest.raises(ValueError, match="one of 'paper', 'generalised', got 'mash'"):
        export_predictdb(results, tmp_path, "mash")
    with pytest.raises(ValueError, match=r"tissues of the study .* got 'Liver'"):
        export_table(results, tmp_path / "a.tsv.gz", tissues=["Liver"])
    with pytest.raises(ValueError, match="one of 'outside', 'inside', got 'both'"):
        export_predictdb(results, tmp_path, screening="both")
    with pytest.raises(ValueError, match="no folder"):
        export_predictdb(results, tmp_path / "a" / "b")
    with pytest.raises(ValueError, match=r"ending in \.tsv\.gz"):
        export_table(results, tmp_path / "a.csv")
    with pytest.raises(ValueError, match="no such file"):
        read_weights(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database, and long enough to be told from one" * 9)
    with pytest.raises(ValueError, match=r"an SQLite database with a table 'weights', got .* in .*text.db"):
        read_weights(tmp_path / "text.db")
    base = export_predictdb(results, tmp_path / "db")[0]
    with open_variants(genotypes[0]) as variants, pytest.raises(ValueError, match="'rsid' or 'varID', got 'id'"):
        predict(base, variants, key="id")
