"""The tables and figures of a run: Section 7's Figures 1-4, calls, gains, and accuracy where the truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from ebmodel.eqtl.analysis import FAILED, FITTED
from ebmodel.eqtl.discoveries import Accuracy, accuracy, egenes, gains, read_truth
from ebmodel.files import write_figure, write_table
from ebmodel.labels import ESTIMATOR, GENE, METHOD, SCREENING, TISSUE

__all__ = ["Report", "failures", "write_report"]


class Report:
    """What `write_report` found and wrote."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.calls: xr.Dataset | None = None
        self.gains: xr.Dataset | None = None
        self.accuracy: Accuracy | None = None


def write_report(
    results: xr.Dataset, folder: Path, *, fdr: float = 0.05, truth: Path | None = None, figures: bool = True
) -> Report:
    """Write the tables and figures of a study's results.

    Parameters
    ----------
    results
        As from `ebmodel.eqtl.store.open_results`.
    folder
        Where: tables go there, figures to ``figures`` within it.
    fdr
        Bayesian false discovery rate of the calls.
    truth
        Folder of a simulated study's truth.
    figures
        Whether to draw.

    Returns
    -------
    Report
        The files, and the tables as Datasets; empty where no gene was fitted.

    Raises
    ------
    InputError
        If a file cannot be written, or the truth is of another study.
    """
    report = Report()
    report.files.append(write_table(folder / "genes.tsv.gz", _genes(results)))
    if not (results["status"] == FITTED).any():
        return report
    estimator = str(results[ESTIMATOR].to_numpy()[0])
    report.calls = egenes(results, fdr, estimator)
    report.files.append(write_table(folder / "egenes.tsv.gz", _called(report.calls)))
    if METHOD in results.dims and "ols" in results[METHOD]:
        report.gains = gains(results)
        report.files.append(write_table(folder / "gains.tsv", report.gains.to_dataframe().reset_index()))
    if truth is not None:
        report.accuracy = accuracy(results, read_truth(truth), fdr)
        report.files.append(write_table(folder / "accuracy.tsv", report.accuracy.table().reset_index()))
    if figures:
        (folder / "figures").mkdir(exist_ok=True)
        for name, draw in _figures(results, report, fdr):
            report.files.append(write_figure(folder / "figures" / f"{name}.png", draw()))
    return report


def _genes(results: xr.Dataset) -> pd.DataFrame:
    """One row a gene: its place, what became of it, counts of SNPs and the parameters of every estimator."""
    names = ["chromosome", "tss", "status", "message", "stouffer_variance", "snps_in_window", "snps_passing",
             "snps", "imputed"]  # fmt: skip
    table: pd.DataFrame = results[names].to_dataframe()
    for estimator in results[ESTIMATOR].to_numpy():
        for name in ("tau1", "eta", "sigma2", "alpha", "kappa", "loglik", "converged"):
            table[f"{name}.{estimator}"] = results[name].sel({ESTIMATOR: estimator}).to_numpy()
    return table.reset_index()


def _called(calls: xr.Dataset) -> pd.DataFrame:
    """One row a gene and tissue called, over the study."""
    table = calls[["probability", "q_value", "called", "called_within"]].to_dataframe().reset_index()
    return table[table["called"]].drop(columns="called")[[GENE, TISSUE, "probability", "q_value", "called_within"]]


def _figures(results: xr.Dataset, report: Report, fdr: float) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names and makers of the figures that these results allow."""
    from ebmodel.plot import eqtl

    estimators = [str(name) for name in results[ESTIMATOR].to_numpy()]
    if report.gains is not None:
        for method in [name for name in estimators if name in results[METHOD]]:
            yield f"pmse_{method}", partial(eqtl.pmse_scatter, results, method=method)
            yield f"r2_gain_{method}", partial(eqtl.r2_gain, results, method=method)
            if results.sizes[SCREENING] > 1:
                yield f"screening_{method}", partial(eqtl.screening_gap, results, method=method)
    for name in estimators:
        yield f"activity_{name}", partial(eqtl.activity_heatmap, results, estimator=name)
    yield "sharing", partial(eqtl.sharing, results, fdr, estimators[0])
    if report.accuracy is not None:
        yield "accuracy", partial(eqtl.accuracy_figure, report.accuracy)


def failures(results: xr.Dataset) -> list[str]:
    """``gene: message`` of every gene whose analysis failed."""
    bad = results["status"].to_numpy() == FAILED
    return [f"{gene}: {text}" for gene, text in zip(results[GENE].to_numpy()[bad], results["message"].to_numpy()[bad],
                                                    strict=True)]  # fmt: skip
