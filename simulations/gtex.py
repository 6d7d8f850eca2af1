"""Simulated studies of GTEx's size, run by ``ebmodel gtex run``: times, memory, gains by tissue, truth against P(I=1).

``python -m simulations gtex RESULTS --truth STUDY --name full`` keeps what a finished run found, a few kilobytes in
``results/gtex``; the README's tables are made of what is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ebmodel.eqtl import accuracy, gains, open_results, read_truth
from ebmodel.eqtl.tissues import label
from ebmodel.errors import InputError, expect
from ebmodel.files import writing
from ebmodel.labels import ESTIMATOR, METHOD, SCREENING, THRESHOLD, TISSUE
from simulations.tables import Table

KEPT = Path(__file__).parent / "results" / "gtex"
FULL, TENTH = "full", "tenth"
MANY = 20
NAMES = {
    "paper": "EB, the paper's",
    "generalised": "EB, generalised",
    "ols": "least squares",
    "ridge": "ridge",
    "elastic-net": "elastic net",
}


def main(arguments: list[str]) -> int:
    """Keep what a finished run found."""
    parser = argparse.ArgumentParser(prog="python -m simulations gtex", description=__doc__)
    parser.add_argument("results", type=Path, help="folder of the run")
    parser.add_argument("--truth", type=Path, required=True, help="folder of the simulated study")
    parser.add_argument("--name", required=True, help="under which it is kept: full, tenth, ...")
    options = parser.parse_args(arguments)
    try:
        KEPT.mkdir(parents=True, exist_ok=True)
        with writing(KEPT / f"{options.name}.json") as temporary:
            temporary.write_text(json.dumps(digest(options.results, options.truth), indent=1) + "\n")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"kept in {KEPT / options.name}.json")
    return 0


def digest(folder: Path, study: Path) -> dict[str, Any]:
    """The numbers of a run that the tables show."""
    results = open_results(folder)
    settings = json.loads((study / "truth" / "settings.json").read_text())
    asked = json.loads(results.attrs["settings"])
    status, count = np.unique(results["status"].to_numpy(), return_counts=True)
    found = accuracy(results, read_truth(study))
    return {
        "simulated": {name: settings[name] for name in ("genes", "donors", "donor_correlation", "relatedness",
                                                        "density", "seed")},
        "asked": {name: asked[name] for name in ("screening", "correct_overlap", "folds", "methods")},
        "seconds": json.loads(results.attrs["seconds"]),
        "memory_mb": int(results.attrs["memory_mb"]),
        "donors": int(results.attrs["donors"]),
        "genes": dict(zip(status.tolist(), count.tolist(), strict=True)),
        "snps": {"mean": float(results["snps"].to_numpy()[results["snps"].to_numpy() > 0].mean()),
                 "most": int(results["snps"].max())},
        "gains": _gains(gains(results)),
        "tissues": _tissues(results, found.tissues),
        "accuracy": {str(name): {key: round(float(found.pooled[key].sel({ESTIMATOR: name})), 5)
                                 for key in found.pooled.data_vars}
                     for name in found.pooled[ESTIMATOR].to_numpy()},
    }  # fmt: skip


def _gains(found: xr.Dataset) -> list[dict[str, Any]]:
    """Means over tissues."""
    means = found.mean(TISSUE)
    rows = []
    for screening in found[SCREENING].to_numpy():
        for least in found[THRESHOLD].to_numpy():
            for method in found[METHOD].to_numpy():
                here = means.sel({SCREENING: screening, THRESHOLD: least, METHOD: method})
                values = {name: round(float(here[name]), 5) for name in here.data_vars}
                rows.append({"screening": str(screening), "min_snps": int(least), "method": str(method), **values})
    return rows


def _tissues(results: xr.Dataset, truth: xr.Dataset) -> list[dict[str, Any]]:
    """By tissue what the paper's estimator and the generalised one gain, and how well they tell active tissues."""
    found = gains(results).sel({SCREENING: results[SCREENING].to_numpy()[0], THRESHOLD: 0})
    rows = []
    for name in results[TISSUE].to_numpy():
        row: dict[str, Any] = {"tissue": str(name), "samples": int(results["samples"].sel({TISSUE: name}))}
        for method in [one for one in results[ESTIMATOR].to_numpy() if one in results[METHOD]]:
            here = found.sel({TISSUE: name, METHOD: method})
            row[str(method)] = {
                key: round(float(here[key]), 5)
                for key in ("r2", "r2_against", "percent", "percent_se", "pmse_ratio", "pmse_better")
            }
            row[str(method)]["auc"] = round(float(truth["auc"].sel({TISSUE: name, ESTIMATOR: method})), 5)
        rows.append(row)  # fmt: skip
    return rows


def read(name: str) -> dict[str, Any]:
    """A run that was kept.

    Raises
    ------
    InputError
        If it was not.
    """
    path = KEPT / f"{name}.json"
    expect(path.is_file(), "a run that was kept", "none", str(path), "run it: python -m simulations gtex --help")
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def show() -> str:
    """The README's tables of the runs that were kept."""
    tables = _costs(), _methods(), _screenings(), _truths(), _by_tissue()
    return "\n\n".join(table.markdown() for table in tables)


def _costs() -> Table:
    """Time and memory at two sizes: the cost is linear in genes where the ratio of times is that of genes."""
    rows = []
    for name in (TENTH, FULL):
        run = read(name)
        genes, fitted = sum(run["genes"].values()), run["genes"]["fitted"]
        seconds = run["seconds"]
        files = sum(value for key, value in seconds.items() if key not in {"genes", "figures"})
        rows.append([f"{genes:,}", f"{fitted:,}", f"{len(run['tissues'])}", f"{run['snps']['mean']:.1f}",
                     f"{files:.0f} s", f"{seconds['genes']:.0f} s", f"{seconds.get('figures', np.nan):.0f} s",
                     f"{sum(seconds.values()) / 60:.1f} min", f"{1000 * seconds['genes'] / fitted:.0f} ms",
                     f"{run['memory_mb'] / 1000:.1f} GB"])  # fmt: skip
    header = ["genes", "fitted", "tissues", "SNPs a gene", "files", "genes' work", "figures", "all", "a fitted gene",
              "memory"]  # fmt: skip
    return Table("gtex_costs", "Full fits, ten-fold cross-validation of five methods, figures, on two shared cores.",
                 header, rows)  # fmt: skip


def _methods() -> Table:
    """Means over tissues, of all genes and of those with many SNPs."""
    rows = []
    full = {(row["min_snps"], row["method"]): row for row in read(FULL)["gains"]}
    for method, name in NAMES.items():
        every, many = full[0, method], full[MANY, method]
        rows.append([name, f"{every['r2']:.4f}", f"{every['percent']:+.1f}", f"{every['pmse_ratio']:.4f}",
                     f"{100 * every['pmse_better']:.0f}", f"{many['r2']:.4f}", f"{many['percent']:+.1f}",
                     f"{many['pmse_ratio']:.4f}"])  # fmt: skip
    genes = int(full[0, "ols"]["genes"]), int(full[MANY, "ols"]["genes"])
    caption = (
        f"Cross-validated prediction, means over {len(read(FULL)['tissues'])} tissues: {genes[0]:,} genes, and the "
        f"{genes[1]:,} of them with at least {MANY} SNPs. Gain of R² over least squares in %; median PMSE over that of "
        "least squares; share of genes where it is smaller, in %."
    )
    header = ["method", "R²", "gain", "PMSE", "smaller", f"R², ≥ {MANY}", f"gain, ≥ {MANY}", f"PMSE, ≥ {MANY}"]
    return Table("gtex_methods", caption, header, rows)


def _screenings() -> Table:
    """R² where SNPs are chosen on all samples, and where every training set chooses its own."""
    found = {(row["screening"], row["method"]): row for row in read("inside")["gains"] if row["min_snps"] == 0}
    rows = []
    for method, name in NAMES.items():
        outside, inside = found["outside", method], found["inside", method]
        fall = 100 * (inside["r2"] / outside["r2"] - 1)
        rows.append([name, f"{outside['r2']:.4f}", f"{inside['r2']:.4f}", f"{fall:+.1f}", f"{outside['percent']:+.1f}",
                     f"{inside['percent']:+.1f}"])  # fmt: skip
    caption = (
        "A tenth of the genes, SNPs chosen on all samples (outside the folds) and by every training set (inside): R², "
        "its change in %, and the gain over least squares in %."
    )
    return Table("gtex_screening", caption, ["method", "outside", "inside", "change", "gain, outside", "inside"], rows)


TRUTHS = {
    FULL: "the model",
    TENTH: "the model, a tenth of the genes",
    "related": "the same, related tissues",
    "correlated": "the same, a donor's errors correlated 0.3",
    "corrected": "and Stouffer's Z corrected",
}
"""Runs whose P(I=1) is compared with the truth."""


def _truths() -> Table:
    """P(I=1) and calls against the truth, at a promised rate of 5 %."""
    rows = []
    for name, what in TRUTHS.items():
        run = read(name)
        for estimator, found in run["accuracy"].items():
            rows.append([what, NAMES[estimator], f"{run['genes']['fitted']:,}", f"{found['auc']:.3f}",
                         f"{found['brier']:.3f}", f"{100 * found['realised']:.1f} ± {100 * found['realised_se']:.1f}",
                         f"{100 * found['power']:.1f}", f"{100 * found['power_study']:.1f}"])  # fmt: skip
    caption = (
        "P(I=1) against the truth. Called at a promised false discovery rate of 5 %: realised rate, share called of "
        "what is active in fitted genes, and in all genes, in %."
    )
    header = ["simulated", "estimator", "fitted", "AUC", "Brier", "realised", "power", "of all"]
    return Table("gtex_truths", caption, header, rows)


def _by_tissue() -> Table:
    """What every tissue gains."""
    rows = []
    for row in sorted(read(FULL)["tissues"], key=lambda row: row["samples"]):
        cells = [label(row["tissue"]), str(row["samples"]), f"{row['paper']['r2_against']:.4f}"]
        for method in ("paper", "generalised"):
            found = row[method]
            cells += [f"{found['percent']:+.1f} ± {found['percent_se']:.1f}", f"{found['pmse_ratio']:.4f}",
                      f"{found['auc']:.3f}"]  # fmt: skip
        rows.append(cells)
    caption = "By tissue, smallest first: R² of least squares; gain of R² in % (± SE by gene), PMSE, AUC of P(I=1)."
    header = ["tissue", "samples", "R², OLS", "paper: gain", "PMSE", "AUC", "generalised: gain", "PMSE", "AUC"]
    return Table("gtex_tissues", caption, header, rows)
