"""Tables and figures say what the results say, and any results have a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from ebmodel import InputError
from ebmodel.eqtl.discoveries import egenes
from ebmodel.eqtl.report import failures, write_report
from ebmodel.eqtl.run import run_study
from ebmodel.labels import ESTIMATOR, GENE, METHOD, SCREENING, TISSUE
from tests.test_eqtl_run import CHOICES, Raw, make_raw, narrow


@pytest.fixture(scope="module")
def raw() -> Raw:
    return make_raw()


def analysed(raw: Raw, folder: Path, **choices: Any) -> xr.Dataset:
    return run_study(raw.write(folder, **choices), jobs=1, progress=False)


@pytest.fixture(scope="module")
def results(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    holed = raw.copy()
    holed.expression["Skin"].iloc[2, 0] = np.nan
    choices = {"estimators": ("paper", "generalised"), "methods": ("paper", "generalised", "ols")}
    return analysed(holed, tmp_path_factory.mktemp("study"), **choices)


@pytest.fixture
def truth(raw: Raw, tmp_path: Path) -> Path:
    """A truth for every gene: those with effects are active everywhere but in the last tissue."""
    folder = tmp_path / "truth"
    folder.mkdir()
    names = raw.genes.index.tolist()
    egene = [int((g + 1) % 4 > 0) for g in range(len(names))]
    genes = pd.DataFrame({"gene": names, "chromosome": "chr1", "tss": 1, "egene": egene, "causal": "", "tau1": 0.5})
    active = pd.DataFrame({"gene": names, "Lung": egene, "Nerve": egene, "Skin": 0})
    effects = pd.DataFrame(columns=["gene", "variant", "Lung", "Nerve", "Skin"])
    for name, table in {"genes": genes, "active": active, "effects": effects}.items():
        table.to_csv(folder / f"{name}.tsv.gz", sep="\t", index=False)
    return tmp_path


def test_tables_say_what_the_results_say(results: xr.Dataset, truth: Path, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    report = write_report(results, folder, fdr=0.1, truth=truth)
    assert all(path.is_file() and path.stat().st_size > 0 for path in report.files)
    assert {path for path in folder.rglob("*") if path.is_file()} == set(report.files)
    names = {path.relative_to(folder).as_posix() for path in report.files}
    both = ("activity", "pmse", "r2_gain", "screening")
    figures = {"accuracy", "sharing", *(f"{name}_{one}" for name in both for one in ("paper", "generalised"))}
    tables = ["genes.tsv.gz", "egenes.tsv.gz", "gains.tsv", "accuracy.tsv"]
    assert names == {*tables, *(f"figures/{name}.png" for name in figures)}
    assert plt.get_fignums() == []

    genes = pd.read_csv(folder / "genes.tsv.gz", sep="\t", index_col=GENE)
    assert genes.index.tolist() == results[GENE].to_numpy().tolist()
    assert genes["status"].tolist() == results["status"].to_numpy().tolist()
    assert genes["message"].fillna("").tolist() == results["message"].to_numpy().tolist()
    assert genes["snps"].tolist() == results["snps"].to_numpy().tolist()
    for name in ("tau1", "eta", "alpha", "loglik", "converged"):
        for estimator in ("paper", "generalised"):
            wanted = results[name].sel({ESTIMATOR: estimator})
            np.testing.assert_allclose(genes[f"{name}.{estimator}"], wanted, rtol=1e-5)

    calls, table = egenes(results, 0.1), pd.read_csv(folder / "egenes.tsv.gz", sep="\t")
    frame = calls["called"].to_series()
    pairs = set(frame.index[frame])
    assert set(zip(table[GENE], table[TISSUE], strict=True)) == pairs
    assert len(pairs) > 5
    for row in table.itertuples():
        probability = results["posterior_probability"].sel({ESTIMATOR: "paper", GENE: row.gene, TISSUE: row.tissue})
        assert row.probability == pytest.approx(float(probability), rel=1e-5)

    gains = pd.read_csv(folder / "gains.tsv", sep="\t").set_index([SCREENING, "threshold", METHOD, TISSUE])
    fitted = results.isel({GENE: np.flatnonzero(results["status"] == "fitted")})
    for screening in ("outside", "inside"):
        mine = fitted["r2"].sel({SCREENING: screening, TISSUE: "Lung"})
        increase = float((mine.sel({METHOD: "paper"}) - mine.sel({METHOD: "ols"})).mean())
        assert gains.loc[(screening, 0, "paper", "Lung"), "increase"] == pytest.approx(increase, rel=1e-4)
        assert gains.loc[(screening, 0, "ols", "Lung"), "increase"] == 0.0
    accuracy = pd.read_csv(folder / "accuracy.tsv", sep="\t").set_index(["estimator", "tissue"])
    assert accuracy.loc[("paper", "Skin"), "active"] == 0
    # of the genes with an effect ENSG2.1 has a missing cell
    assert accuracy.loc[("paper", "Lung"), "active"] == 5
    assert failures(results) == [f"ENSG2.1: {results['message'].sel({GENE: 'ENSG2.1'}).item()}"]


def test_without_figures(results: xr.Dataset, tmp_path: Path) -> None:
    report = write_report(results, tmp_path, figures=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["egenes.tsv.gz", "gains.tsv", "genes.tsv.gz"]
    assert len(report.files) == 3


def test_the_same_results_have_the_same_files(results: xr.Dataset, tmp_path: Path) -> None:
    files = write_report(results, tmp_path, figures=False).files
    before = [path.read_bytes() for path in files]
    write_report(results, tmp_path, figures=False)
    assert [path.read_bytes() for path in files] == before


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_a_rate_is_a_rate(results: xr.Dataset, tmp_path: Path, rate: float) -> None:
    with pytest.raises(InputError, match="0 < fdr < 1"):
        write_report(results, tmp_path, fdr=rate)


def test_a_truth_of_another_study_is_refused(results: xr.Dataset, truth: Path, tmp_path: Path) -> None:
    for name in ("active", "genes"):
        table = pd.read_csv(truth / "truth" / f"{name}.tsv.gz", sep="\t")
        table.iloc[1:].to_csv(truth / "truth" / f"{name}.tsv.gz", sep="\t", index=False)
    with pytest.raises(InputError, match=r"a truth for every gene, got none for 'ENSG0\.1'"):
        write_report(results, tmp_path, truth=truth, figures=False)


def test_no_gene_was_fitted(raw: Raw, truth: Path, tmp_path: Path) -> None:
    results = analysed(raw, tmp_path / "study", p=1e-300)
    report = write_report(results, tmp_path, truth=truth)
    assert [path.name for path in report.files] == ["genes.tsv.gz"]
    assert (report.calls, report.gains, report.accuracy) == (None, None, None)


def test_nothing_was_cross_validated(raw: Raw, tmp_path: Path) -> None:
    results = analysed(raw, tmp_path / "study", methods=())
    names = {path.name for path in write_report(results, tmp_path).files}
    assert names == {"genes.tsv.gz", "egenes.tsv.gz", "activity_paper.png", "sharing.png"}
    some = analysed(raw, tmp_path / "study", methods=("paper",), screening=("outside",), out=tmp_path / "other")
    assert write_report(some, tmp_path).gains is None  # there is nothing to gain over


def test_one_gene_and_two_tissues(raw: Raw, tmp_path: Path) -> None:
    one = narrow(raw, ["ENSG0.1"], slice(None))
    results = analysed(one, tmp_path / "study", tissues=("Lung", "Skin"), screening=("outside",))
    assert write_report(results, tmp_path).files[-1].exists()


def test_a_tissue_that_least_squares_cannot_predict(raw: Raw, tmp_path: Path) -> None:
    small = raw.copy()
    small.expression["Skin"] = small.expression["Skin"].iloc[:, :9]
    choices = CHOICES | {"min_samples": 5, "p": 1.0, "r2": 0.9, "most_snps": 12}
    report = write_report(analysed(small, tmp_path / "study", **choices), tmp_path)
    assert report.gains is not None
    assert report.gains["genes"].sel({TISSUE: "Skin"}).to_numpy().max() == 0
    none = small.copy()
    for tissue in ("Lung", "Nerve"):
        none.expression[tissue] = small.expression[tissue].iloc[:, :10]
    report = write_report(analysed(none, tmp_path / "none", **choices), tmp_path)
    assert report.files[-1].exists()
