"""The command line: what it prints and writes, and one line with exit status 2 for what it cannot use."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ebmodel

DATA = Path(__file__).parents[2] / "shared" / "data"
EBMODEL = Path(sys.executable).with_name("ebmodel")
SAMPLES = [f"donor{i}" for i in range(40)]
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data are not here")


@pytest.fixture
def run(cli: Callable[..., Any]) -> Callable[..., Any]:
    """Run the command line in this process."""
    return cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with x.csv (45 samples, 6 SNPs), y.csv (40 of them, 5 tissues) and c.csv."""
    rng = np.random.default_rng(5)
    samples = [*SAMPLES, *(f"extra{i}" for i in range(5))]
    X = pd.DataFrame(rng.integers(0, 3, (45, 6)).astype(float), samples, [f"rs{j}" for j in range(6)])
    effects = np.zeros((6, 5))
    effects[:2] = [[1.5, 0.2, 0, 0, 3.5], [-3.0, -0.5, 0, 0, -1.0]]  # so unlike that eta > 0
    Y = X.to_numpy()[:40] @ effects + rng.standard_normal((40, 5))
    Y[rng.random(Y.shape) < 0.1] = np.nan
    names = ["brain_cortex", "brain_basal", "liver", "lung", "skin"]
    C = pd.DataFrame({"age": rng.normal(50, 5, 40), "sex": rng.choice(["F", "M"], 40)}, SAMPLES)
    for table, name in ((X, "x.csv"), (pd.DataFrame(Y, SAMPLES, names), "y.csv"), (C, "c.csv")):
        table.rename_axis("sample").to_csv(tmp_path / name)
    return tmp_path


def fit_args(folder: Path, *more: object, out: str = "fit.nc") -> list[object]:
    return ["fit", "--genotypes", folder / "x.csv", "--expression", folder / "y.csv", "--out", folder / out,
            "--starts", "4", *more]  # fmt: skip


def change(path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Edit a csv in place."""
    table = pd.read_csv(path, index_col=0)
    edited = edit(table)
    (table if edited is None else edited).to_csv(path)


# What it does --------------------------------------------------------------------------------------------------------


def test_fit_prints_a_table_and_writes_the_fit(run: Callable[..., Any], folder: Path) -> None:
    result = run(*fit_args(folder))
    fit = ebmodel.open_fit(folder / "fit.nc")
    assert result.status == 0
    assert "Read 40 samples, 6 SNPs, 5 tissues; 5 genotyped samples without expression left out." in result.out
    for heading in ("tissue", "P(I=1)", "log10 K", "‖effect‖", "min lfsr", "below 0 it favours an effect"):
        assert heading in result.out
    for tissue, h, n in zip(fit.dataset.tissue, fit.posterior_probability, fit.dataset.n, strict=True):
        (row,) = re.findall(rf"│ {tissue.item()} .*", result.out)
        assert [cell.strip() for cell in row.split("│")[2:4]] == [str(n.item()), f"{h.item():.3f}"]
    assert f"log-likelihood {fit.loglik:.3f}" in result.out
    assert fit.status in result.out
    assert f"Wrote {folder / 'fit.nc'}" in result.out
    assert result.err == ""


def test_fit_is_that_of_the_package(run: Callable[..., Any], folder: Path) -> None:
    assert run(*fit_args(folder, "--covariates", folder / "c.csv", "--slab", "-0.5", "--quiet")) == (0, "", "")
    X, Y, C = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in "xyc")
    want = ebmodel.fit(X, Y, slab=-0.5, covariates=C, intercept=True, n_starts=4)
    got = ebmodel.open_fit(folder / "fit.nc")
    np.testing.assert_allclose(got.effects, want.effects, rtol=1e-9, atol=1e-12)
    assert got.loglik == pytest.approx(want.loglik, rel=1e-12)
    assert got.dataset.covariate.to_numpy().tolist() == ["intercept", "age", "sex=F", "sex=M"]


def test_a_learned_power_comes_with_its_interval(run: Callable[..., Any], folder: Path) -> None:
    result = run(*fit_args(folder, "--slab", "power"))
    X, Y = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in "xy")
    profile = ebmodel.alpha_profile(X, Y, intercept=True)
    low, high = float(profile.lower.fillna(-3.0)), float(profile.upper.fillna(2.0))
    verdict = "holds" if low <= 1.0 <= high else "leaves out"
    assert f"note: alpha's 95 % interval is {low:.2f} to {high:.2f}, which {verdict} the paper's 1" in result.err
    assert f"alpha {ebmodel.open_fit(folder / 'fit.nc').params.alpha:.4g}" in result.out


@pytest.mark.parametrize(("slab", "mean"), [("g", "hierarchical"), ("sparse", "hierarchical"), ("0", "zero")])
def test_the_mean_is_that_of_the_package(run: Callable[..., Any], folder: Path, slab: str, mean: str) -> None:
    result = run(*fit_args(folder, "--slab", slab, "--mean", mean))
    X, Y = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in "xy")
    want = ebmodel.fit(X, Y, slab if slab.isalpha() else float(slab), mean, intercept=True, n_starts=4)
    got = ebmodel.open_fit(folder / "fit.nc")
    np.testing.assert_allclose(got.effects, want.effects, rtol=1e-9, atol=1e-12)
    assert got.params.kappa == want.params.kappa
    assert got.log_evidence == want.log_evidence
    kind = "bound on the log-likelihood" if mean == "hierarchical" else "log-likelihood"
    assert f"kappa {want.params.kappa:.4g}; {kind} {want.loglik:.3f}" in " ".join(result.out.split())


def test_select_prints_the_candidates_and_writes_the_first(run: Callable[..., Any], folder: Path) -> None:
    result = run(*fit_args(folder, "--select", "--json"))
    summary = json.loads(result.out)
    X, Y = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in "xy")
    table, best = ebmodel.select(X, Y, intercept=True, n_starts=4)
    assert [row["slab"] for row in summary["candidates"]] == table["slab"].to_numpy().tolist()
    assert summary["candidates"][0]["log_evidence"] == pytest.approx(best.log_evidence)
    got = ebmodel.open_fit(folder / "fit.nc")
    np.testing.assert_allclose(got.effects, best.effects, rtol=1e-9, atol=1e-12)
    shown = run(*fit_args(folder, "--select")).out
    assert "Slabs and means by evidence" in shown
    first = re.search(r"│ (\w+) +│ (\w+) ", shown)
    assert first is not None
    assert list(first.groups()) == [table["slab"].to_numpy()[0], table["mean"].to_numpy()[0]]


def test_select_passes_its_caution_on(run: Callable[..., Any], folder: Path) -> None:
    shared = np.random.default_rng(6).standard_normal(40)
    change(folder / "y.csv", lambda Y: Y.add(2 * shared, axis=0))
    assert "residuals of different tissues are correlated" in " ".join(run(*fit_args(folder, "--select")).err.split())


def test_no_intercept_means_none(run: Callable[..., Any], folder: Path) -> None:
    assert run(*fit_args(folder, "--no-intercept")).status == 0
    assert "covariate" not in ebmodel.open_fit(folder / "fit.nc").dataset.dims


def test_json_is_the_table_as_numbers(run: Callable[..., Any], folder: Path) -> None:
    result = run(*fit_args(folder, "--json", "--top", "2", out="fit.zarr"))
    summary, fit = json.loads(result.out), ebmodel.open_fit(folder / "fit.zarr")
    assert result.err == ""
    assert summary["files"] == [str(folder / "fit.zarr")]
    assert summary["out"] == str(folder / "fit.zarr")
    assert (summary["samples"], summary["genotyped_samples_left_out"]) == (40, 5)
    assert summary["snps"] == fit.dataset.snp.to_numpy().tolist()
    assert [row["tissue"] for row in summary["tissues"]] == fit.dataset.tissue.to_numpy().tolist()
    for row, tissue in zip(summary["tissues"], fit.dataset.tissue, strict=True):
        one = fit.dataset.sel(tissue=tissue)
        assert row["posterior_probability"] == one.posterior_probability.item()
        assert row["log10_bayes_factor"] == pytest.approx(one.log_bayes_factor.item() / np.log(10))
        assert row["effect_norm"] == pytest.approx(np.linalg.norm(one.effects))
        assert row["min_lfsr"] == one.lfsr.min().item()
        assert row["n"] == one.n.item()
    assert summary["params"]["sigma2"] == fit.params.sigma2
    assert "optimistic" in summary["notes"][0]


def test_top_takes_associated_snps_and_warns(run: Callable[..., Any], folder: Path) -> None:
    result = run(*fit_args(folder, "--top", "2"))
    assert sorted(ebmodel.open_fit(folder / "fit.nc").dataset.snp.to_numpy()) == ["rs0", "rs1"]
    assert result.err.startswith("note: 2 SNPs were chosen on the same data as the fit, which makes P(I=1) optimistic")
    assert result.err.count("\n") == 1
    result = run(*fit_args(folder, "--top", "6", "--max-r2", "0"))
    assert "note: 1 SNPs were chosen" in result.err
    assert "no more than these have R² <= 0" in result.err


def test_snps_by_name_or_file(run: Callable[..., Any], folder: Path) -> None:
    (folder / "names.txt").write_text("rs4\n\nrs1\n")
    for asked in ("rs4,rs1", f"@{folder / 'names.txt'}"):
        assert run(*fit_args(folder, "--snps", asked)).status == 0
        assert ebmodel.open_fit(folder / "fit.nc").dataset.snp.to_numpy().tolist() == ["rs4", "rs1"]


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ("brain*,liver", ["brain_cortex", "brain_basal", "liver"]),
        ("skin,lung", ["lung", "skin"]),
        ("*l*", ["brain_basal", "liver", "lung"]),
    ],
)
def test_tissues_by_glob_in_the_files_order(run: Callable[..., Any], folder: Path, asked: str, got: list[str]) -> None:
    assert run(*fit_args(folder, "--tissues", asked)).status == 0
    assert ebmodel.open_fit(folder / "fit.nc").dataset.tissue.to_numpy().tolist() == got


def test_covariates_in_the_expression_file_are_no_tissues(run: Callable[..., Any], folder: Path) -> None:
    def add(table: pd.DataFrame) -> pd.DataFrame:
        return table.join(pd.read_csv(folder / "c.csv", index_col=0))

    change(folder / "y.csv", add)
    same = ["--covariates", folder / "y.csv"]
    assert run(*fit_args(folder, *same, "--covariate-columns", "age, sex")).status == 0
    dataset = ebmodel.open_fit(folder / "fit.nc").dataset
    assert dataset.tissue.to_numpy().tolist() == ["brain_cortex", "brain_basal", "liver", "lung", "skin"]
    assert dataset.covariate.to_numpy().tolist() == ["intercept", "age", "sex=F", "sex=M"]
    assert "give --covariate-columns" in refused(run, folder, *same)
    message = refused(run, folder, *same, "--covariate-columns", "age,sex", "--tissues", "age")
    assert "tissues that match 'age'" in message


def test_unequal_variances_are_noted_and_standardise_helps(run: Callable[..., Any], folder: Path) -> None:
    change(folder / "y.csv", lambda table: table.assign(skin=table["skin"] * 20))
    result = run(*fit_args(folder))
    assert re.search(
        r"^note: residual variances run from .* to .* \(skin\).*use --standardise$", result.err, re.MULTILINE
    )
    result = run(*fit_args(folder, "--standardise"))
    assert result.err == ""
    assert "scaled to residual variance 1" in result.out


def test_samples_without_covariate_and_expression_are_noted(run: Callable[..., Any], folder: Path) -> None:
    def blank(table: pd.DataFrame) -> None:
        table.loc["donor3"] = np.nan

    change(folder / "y.csv", blank)
    change(folder / "c.csv", blank)
    result = run(*fit_args(folder, "--covariates", folder / "c.csv"))
    assert result.status == 0
    assert "note: 1 samples with a covariate missing, and no expression, were left out" in result.err


def test_other_formats_give_the_same_fit(run: Callable[..., Any], folder: Path) -> None:
    assert run(*fit_args(folder)).status == 0
    pd.read_csv(folder / "x.csv", index_col=0).to_parquet(folder / "x.parquet")
    with gzip.open(folder / "y.tsv.gz", "wt") as file:
        file.write((folder / "y.csv").read_text().replace(",", "\t"))
    assert run("fit", "--genotypes", folder / "x.parquet", "--expression", folder / "y.tsv.gz", "--starts", 4,
               "--out", folder / "other.nc").status == 0  # fmt: skip
    first, second = (ebmodel.open_fit(folder / name).dataset for name in ("fit.nc", "other.nc"))
    assert first.identical(second)


def test_names_that_look_like_markup_are_printed_as_they_are(run: Callable[..., Any], folder: Path) -> None:
    change(folder / "y.csv", lambda table: table.rename(columns={"skin": "[bold]skin[/bold]"}))
    result = run(*fit_args(folder, "--tissues", "[bold]skin[/bold],liver,lung"))
    assert "[bold]skin[/bold]" in result.out


def test_demo_writes_a_fit_and_its_figures(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "new" / "demo"
    result = run("demo", "--out", out)
    assert result.status == 0
    names = ["fit.nc", "overview.png", "posterior_probability.png", "shrinkage.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        assert f"Wrote {out / name}" in result.out
    for figure in names[1:]:
        assert (out / figure).read_bytes().startswith(b"\x89PNG")
    fit = ebmodel.open_fit(out / "fit.nc")
    assert dict(fit.dataset.sizes) | {"sample": 120, "snp": 8, "tissue": 30} == dict(fit.dataset.sizes)
    assert float(np.isnan(fit.dataset.Y).mean()) == 0.25
    assert fit.converged
    eb, ols = map(float, re.findall(r"squared error of effects.*│ +([\d.]+) +│ +([\d.]+)", result.out)[0])
    assert eb < ols


# The full posterior --------------------------------------------------------------------------------------------------

FEW = ["--draws", 120, "--tune", 200, "--chains", 2]
FIGURES = ["effects.png", "hyperparameters.png", "probabilities.png"]


def tables(folder: Path) -> list[object]:
    return ["--genotypes", folder / "x.csv", "--expression", folder / "y.csv"]


def test_sample_writes_draws_and_prints_the_verdict(run: Callable[..., Any], folder: Path) -> None:
    result = run("sample", *tables(folder), *FEW, "--out", folder / "draws.nc", "--seed", 3)
    tree = ebmodel.open_posterior(folder / "draws.nc")
    posterior = tree["posterior"].to_dataset()
    assert result.status == 0
    assert result.err == ""
    for name in ("tau1", "eta", "sigma2"):
        (row,) = re.findall(rf"│ {name} .*", result.out)
        assert row.split("│")[2].strip() == f"{posterior[name].mean().item():.4g}"
    assert tree.attrs["verdict"] in " ".join(result.out.split())
    assert f"Wrote {folder / 'draws.nc'}" in result.out
    X, Y = (pd.read_csv(folder / f"{name}.csv", index_col=0) for name in "xy")
    want = ebmodel.sample(X, Y, intercept=True, draws=120, tune=200, chains=2, seed=3, progress=False)
    np.testing.assert_allclose(posterior["tau1"], want["posterior"]["tau1"], rtol=1e-6)


def test_compare_from_tables_and_from_stored_results(run: Callable[..., Any], folder: Path) -> None:
    out = folder / "new" / "both"
    result = run("compare", *tables(folder), *FEW, "--starts", 4, "--out", out)
    assert result.status == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(["comparison.csv", "fit.nc", "posterior.nc", *FIGURES])
    comparison = ebmodel.compare(ebmodel.open_fit(out / "fit.nc"), ebmodel.open_posterior(out / "posterior.nc"))
    printed = " ".join(result.out.split())
    assert comparison.attrs["findings"] in printed
    assert comparison.attrs["verdict"] in printed
    for label, row in (("sigma2", "sigma2"), ("P(I=1)[liver]", "liver")):
        one, digits = comparison.sel(quantity=label), ".4g" if label == "sigma2" else ".3f"
        (cells,) = re.findall(rf"│ {row} .*", result.out)
        want = [format(one[name].item(), digits) for name in ("em", "mean", "sd", "lower", "upper")]
        assert [cell.strip() for cell in cells.split("│")[2:7]] == want
    table = pd.read_csv(out / "comparison.csv", index_col="quantity", keep_default_na=False, na_values=[""])
    np.testing.assert_allclose(table["mean"], comparison["mean"], rtol=1e-12)
    assert table.index.tolist() == comparison["quantity"].to_numpy().tolist()
    for figure in FIGURES:
        assert (out / figure).read_bytes().startswith(b"\x89PNG")

    stored = ["--fit", out / "fit.nc", "--posterior", out / "posterior.nc"]
    again = run("compare", *stored, "--out", folder / "again", "--level", 0.9, "--json")
    summary = json.loads(again.out)
    assert sorted(path.name for path in (folder / "again").iterdir()) == sorted(["comparison.csv", *FIGURES])
    assert summary["level"] == 0.9
    assert [row["quantity"] for row in summary["quantities"]] == table.index.tolist()
    assert summary["quantities"][0]["em"] == comparison["em"][0].item()
    assert summary["quantities"][0]["em_sd"] is None
    assert run("compare", *stored, "--quiet") == (0, "", "")

    unlike = folder / "unlike.nc"
    assert run(*fit_args(folder, "--tissues", "liver,lung,skin", "--quiet", out="unlike.nc")).status == 0
    before = sorted(folder.rglob("*"))
    result = run("compare", "--fit", unlike, "--posterior", out / "posterior.nc", "--out", folder / "third")
    assert result.status == 2
    assert re.fullmatch(r"error: expected a fit and draws of the same tissues, got .*; do .*\n", result.err)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["sample", "--out", "draws.txt"], ["a name ending in .nc or .zarr"]),
        (["sample", "--out", "none/such/draws.nc"], ["an existing folder"]),
        (["sample", "--mean", "none"], ["'free' or 'hierarchical'", "'none'"]),
        (["sample", "--priors", "strong"], ["'weak'", "'strong'"]),
        (["sample", "--priors", "flat"], ["proper priors"]),
        (["sample", "--form", "short"], ["'marginal' or 'latent'", "'short'"]),
        (["sample", "--snps", "rs77"], ["no 'rs77'", "x.csv"]),
        (["compare", "--tissues", "kidney*"], ["'kidney*'", "y.csv"]),
        (["compare", "--slab", "gee"], ["'gee'"]),
        (["compare", "--level", "95"], ["0 < level < 1", "got 95"]),
        (["compare", "--out", "FOLDER/x.csv"], ["a folder that can be made", "x.csv"]),
        (["compare", "--out", "FOLDER/x.csv/below"], ["a folder that can be made", "x.csv"]),
        (["compare", "--fit", "fit.nc"], ["--fit and --posterior, got one of them"]),
        (["compare", "--fit", "fit.nc", "--posterior", "none.nc"], ["stored results or tables, got both"]),
    ],
)
def test_bad_options_of_the_full_posterior_are_refused(
    run: Callable[..., Any], folder: Path, more: list[str], words: list[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    command, *options = (text.replace("FOLDER", str(folder)) for text in more)
    out = folder / ("draws.nc" if command == "sample" else "both")
    result = run(command, *tables(folder), "--out", out, *options)
    assert result.status == 2
    assert re.fullmatch(r"error: expected .+, got .+, in .+; do .+\n", result.err)
    for word in words:
        assert word in result.err
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_compare_needs_tables_or_stored_results(run: Callable[..., Any], folder: Path) -> None:
    assert "neither pair" in run("compare", "--genotypes", folder / "x.csv").err
    result = run("compare", "--fit", folder / "none.nc", "--posterior", folder / "none.nc")
    assert result.status == 2
    assert "no such file" in result.err


# What it refuses -----------------------------------------------------------------------------------------------------


def refused(run: Callable[..., Any], folder: Path, *more: object, out: str = "fit.nc") -> str:
    """Exit status 2, one line on stderr in the package's style, nothing on disk that was not there."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run(*fit_args(folder, *more, out=out))
    assert result.status == 2
    assert re.fullmatch(r"error: expected .+, got .+, in .+; do .+\n", result.err)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "Wrote" not in result.out
    return result.err


def set_cell(row: str, column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype(object)
        table.loc[row, column] = value
        return table

    return edit


TABLES = {
    "text in a cell": (
        "y.csv",
        set_cell("donor7", "lung", "n.d."),
        ["'n.d.'", "y.csv", "'donor7'", "'lung'", "correct it"],
    ),
    "text in a genotype": ("x.csv", set_cell("donor7", "rs3", "A/G"), ["'A/G'", "x.csv", "'donor7'", "'rs3'"]),
    "infinite": ("y.csv", set_cell("donor7", "lung", "inf"), ["got inf", "y.csv", "'donor7'", "'lung'", "correct it"]),
    "infinite genotype": ("x.csv", set_cell("donor7", "rs3", "-inf"), ["got -inf", "x.csv", "'donor7'", "'rs3'"]),
    "missing genotype": ("x.csv", set_cell("donor7", "rs3", None), ["x.csv", "'rs3'", "impute"]),
    "unknown sample": (
        "y.csv",
        lambda t: t.rename(index={"donor7": "dolly"}),
        ["'dolly'", "x.csv", "y.csv", "add them"],
    ),
    "no sample in common": ("y.csv", lambda t: t.rename(index=lambda s: f"GTEX-{s}"), ["in common", "x.csv", "y.csv"]),
    "duplicate sample": ("y.csv", lambda t: t.rename(index={"donor7": "donor8"}), ["'donor8'", "y.csv", "unique"]),
    "duplicate genotyped": ("x.csv", lambda t: t.rename(index={"donor7": "donor8"}), ["'donor8'", "x.csv", "unique"]),
    "duplicate SNP": ("x.csv", lambda t: t.rename(columns={"rs1": "rs2"}), ["'rs2'", "x.csv", "unique"]),
    "duplicate tissue": ("y.csv", lambda t: t.rename(columns={"skin": "lung"}), ["'lung'", "y.csv", "unique"]),
    "constant SNP": ("x.csv", lambda t: t.assign(rs2=1), ["'rs2'", "x.csv", "leave the SNP out"]),
    "all missing": ("y.csv", lambda t: t * np.nan, ["all are missing", "y.csv", "give expression"]),
    "one tissue": ("y.csv", lambda t: t[["liver"]], ["tissue", "got 1"]),
    "one tissue with data": ("y.csv", lambda t: t.assign(**dict.fromkeys(t.columns[1:], np.nan)), ["tissue", "got 1"]),
    "no column": ("y.csv", lambda t: t[[]], ["y.csv"]),
    "no sample": ("x.csv", lambda t: t.iloc[:0], ["x.csv", "a header alone"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_bad_tables_are_refused(run: Callable[..., Any], folder: Path, case: str) -> None:
    name, edit, words = TABLES[case]
    change(folder / name, edit)
    message = refused(run, folder)
    for word in words:
        assert word in message


FILES: dict[str, tuple[Callable[[bytes], bytes | None], list[str]]] = {
    "empty": (lambda content: b"", ["an empty file", "y.csv", "write it again"]),
    "missing": (lambda content: None, ["no such file", "y.csv", "check the path"]),
    "short row": (lambda content: content + b"donor99,1\n", ["Expected 6 columns, got 2", "y.csv", "the same columns"]),
    "long row": (lambda content: content + b"donor99" + b",1" * 9 + b"\n", ["Expected 6 columns, got 10", "y.csv"]),
    "gzip in disguise": (gzip.compress, ["y.csv"]),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_files_are_refused(run: Callable[..., Any], folder: Path, case: str) -> None:
    spoil, words = FILES[case]
    content = spoil((folder / "y.csv").read_bytes())
    (folder / "y.csv").unlink()
    if content is not None:
        (folder / "y.csv").write_bytes(content)
    message = refused(run, folder)
    for word in words:
        assert word in message


def test_a_truncated_gzip_is_refused(run: Callable[..., Any], folder: Path) -> None:
    (folder / "x.csv.gz").write_bytes(gzip.compress((folder / "x.csv").read_bytes())[:-30])
    message = refused(run, folder, "--genotypes", folder / "x.csv.gz")
    assert "a whole gzip file" in message
    assert "x.csv.gz; do fetch or compress it again" in message


def test_more_covariates_than_samples_are_refused(run: Callable[..., Any], folder: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(0).random((40, 40)), SAMPLES, [f"pc{k}" for k in range(40)])
    table.rename_axis("sample").to_csv(folder / "c.csv")
    message = refused(run, folder, "--covariates", folder / "c.csv")
    assert "covariates" in message
    assert "leave the SNP out" in message or "use fewer covariates" in message


def test_one_sample_is_refused(run: Callable[..., Any], folder: Path) -> None:
    change(folder / "y.csv", lambda table: table.iloc[:1])
    assert "SNPs that vary" in refused(run, folder)


def test_two_samples_are_refused(run: Callable[..., Any], folder: Path) -> None:
    change(folder / "x.csv", lambda table: table.assign(**{f"rs{j}": np.arange(45.0) % 3 for j in range(6)}))
    change(folder / "y.csv", lambda table: table.iloc[:2].fillna(1.0))
    assert "more samples than SNPs" in refused(run, folder)


def test_bad_covariates_are_refused(run: Callable[..., Any], folder: Path) -> None:
    asked = ["--covariates", folder / "c.csv"]
    assert "no 'height', in covariates" in refused(run, folder, *asked, "--covariate-columns", "age,height")
    assert "give the file" in refused(run, folder, "--covariate-columns", "age")
    change(folder / "c.csv", set_cell("donor3", "sex", None))
    message = refused(run, folder, *asked)
    assert "'donor3'" in message
    assert "c" in message
    change(folder / "c.csv", set_cell("donor4", "age", "4o"))
    assert "'4o'" in refused(run, folder, *asked)


def test_a_snp_that_covariates_explain_is_refused(run: Callable[..., Any], folder: Path) -> None:
    change(
        folder / "c.csv", lambda t: t.assign(dose=2 - pd.read_csv(folder / "x.csv", index_col=0)["rs2"].loc[t.index])
    )
    assert "'rs2'" in refused(run, folder, "--covariates", folder / "c.csv")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--snps", "rs1,rs77"], ["no 'rs77'", "x.csv", "check the names"]),
        (["--snps", ","], ["at least one SNP"]),
        (["--snps", "@none.txt"], ["--snps @none.txt", "check the path"]),
        (["--snps", "rs1", "--top", "2"], ["--snps or --top, got both"]),
        (["--tissues", "liver,kidney*"], ["'kidney*'", "y.csv"]),
        (["--tissues", ","], ["names or globs"]),
        (["--slab", "gee"], ["'gee'", "slab"]),
        (["--slab", "nan"], ["a finite power"]),
        (["--mean", "fixed"], ["'fixed'", "'hierarchical'"]),
        (["--select", "--slab", "power"], ["--select alone", "leave one out"]),
        (["--out", "fit.txt"], ["a name ending in .nc or .zarr", "rename it"]),
        (["--out", "none/such/fit.nc"], ["an existing folder", "none/such", "make it first"]),
    ],
)
def test_bad_options_are_refused(run: Callable[..., Any], folder: Path, more: list[str], words: list[str]) -> None:
    message = refused(run, folder, *more)
    for word in words:
        assert word in message


def test_an_unwritable_folder_is_refused_before_the_work(
    run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)  # a superuser may write everywhere
    message = refused(run, folder)
    assert "permission denied" in message
    assert "choose another" in message


def test_a_failed_fit_leaves_the_last_one(run: Callable[..., Any], folder: Path) -> None:
    assert run(*fit_args(folder)).status == 0
    change(folder / "y.csv", set_cell("donor7", "lung", "n.d."))
    refused(run, folder)
    assert ebmodel.open_fit(folder / "fit.nc").converged


def test_a_failed_write_leaves_nothing(run: Callable[..., Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xarray.Dataset.to_netcdf", full)
    assert "No space left on device" in refused(run, folder)


def test_demo_where_a_file_is_in_the_way_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("a file")
    result = run("demo", "--out", tmp_path / "demo")
    assert result.status == 2
    assert re.fullmatch(r"error: expected a folder that can be made, got .*demo; do choose another\n", result.err)
    assert (tmp_path / "demo").read_text() == "a file"


@pytest.mark.parametrize(
    "args", [["fit"], ["fit", "--top", "none"], ["fit", "--top", "0"], ["nonsense"], ["--nonsense"]]
)
def test_usage_errors_exit_2(run: Callable[..., Any], args: list[str]) -> None:
    result = run(*args)
    assert result.status == 2
    assert "Usage: ebmodel" in result.err


# As installed --------------------------------------------------------------------------------------------------------


def installed(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EBMODEL, *map(str, args)], capture_output=True, text=True, check=False, timeout=300)


def test_the_installed_command_fits(folder: Path) -> None:
    result = installed(*fit_args(folder))
    assert result.returncode == 0
    assert result.stderr == ""
    assert ebmodel.open_fit(folder / "fit.nc").dataset.sizes["tissue"] == 5


def test_the_installed_command_refuses_without_traceback(folder: Path) -> None:
    change(folder / "x.csv", lambda table: table.assign(rs2=1))
    before = sorted(folder.iterdir())
    result = installed(*fit_args(folder))
    assert result.returncode == 2
    assert re.fullmatch(r"error: expected SNPs that vary .* 'rs2', in genotypes .*x\.csv; do .*\n", result.stderr)
    assert sorted(folder.iterdir()) == before


# Real data -----------------------------------------------------------------------------------------------------------


@real_data
def test_wheat(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("fit", "--genotypes", DATA / "wheat_markers.csv.gz", "--expression", DATA / "wheat_yield.csv",
                 "--top", 20, "--out", tmp_path / "wheat.nc")  # fmt: skip
    assert result.status == 0
    assert "Read 599 samples, 1279 SNPs, 4 tissues." in result.out
    fit = ebmodel.open_fit(tmp_path / "wheat.nc")
    assert fit.effects.shape == (4, 20)
    r2 = np.corrcoef(fit.dataset.X.to_numpy().T) ** 2 - np.eye(20)
    assert r2.max() <= 0.5


@real_data
def test_mice(run: Callable[..., Any], tmp_path: Path) -> None:
    traits = DATA / "mice_traits.csv.gz"
    result = run("fit", "--genotypes", DATA / "mice_genotypes_chr1_17.csv.gz", "--expression", traits,
                 "--tissues", "Biochem.*", "--covariates", traits, "--covariate-columns", "GENDER,Biochem.Age",
                 "--standardise", "--top", 20, "--out", tmp_path / "mice.zarr")  # fmt: skip
    assert result.status == 0
    assert "Read 1814 samples, 1250 SNPs, 17 tissues." in result.out
    fit = ebmodel.open_fit(tmp_path / "mice.zarr")
    assert fit.effects.shape == (17, 20)
    assert "Biochem.Age" not in fit.dataset.tissue
    assert fit.dataset.covariate.to_numpy().tolist() == ["intercept", "GENDER=F", "GENDER=M", "Biochem.Age"]
    assert fit.posterior_probability.sel(tissue="Biochem.HDL") > 0.999  # the known HDL locus on chromosome 1


@real_data
def test_wheat_compared(run: Callable[..., Any], tmp_path: Path) -> None:
    result = run("compare", "--genotypes", DATA / "wheat_markers.csv.gz", "--expression", DATA / "wheat_yield.csv",
                 "--top", 20, "--out", tmp_path / "wheat")  # fmt: skip
    assert result.status == 0
    printed = " ".join(result.out.split())
    assert "Draws: Sound" in printed
    assert "EM's eta (0, on the boundary) lies below its interval" in printed
    assert "its eta is 0, which gives all active tissues one effect, known exactly" in printed
