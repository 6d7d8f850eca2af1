"""What happens to the estimator when an assumption fails: the catalogue of violations, each at growing strength."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

import ebmodel
from simulations.estimators import ESTIMATORS
from simulations.metrics import METRICS
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

TRUTH = ebmodel.Params(tau1=0.5, beta=np.array([0.2, 0.15, 0.1, 0.0, 0.0]), eta=1.0, sigma2=1.0)
N, M, MISSING = 100, 50, 0.2
STRENGTHS = {
    "heavy-tails": (0.3, 0.6, 0.9),
    "unequal-variances": (0.25, 0.5, 1.0),
    "correlated-errors": (0.1, 0.3, 0.6),
    "two-slabs": (0.25, 0.5, 1.0),
    "slab-covariance": (0.25, 0.5, 1.0),
    "missing-by-value": (0.5, 1.0, 2.0),
}
PARTS = ("zero", "ols", "eb", "eb_power")


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Data from the model but for one assumption; strength 0 is the model. X is correlated, and 20 % is missing."""
    genotypes, rest = stream.spawn(2)
    p = len(TRUTH.beta)
    C = np.full((p, p), 0.6) + 0.4 * np.eye(p)
    X = np.random.default_rng(genotypes).standard_normal((N, p)) @ np.linalg.cholesky(C).T
    how = {"m": M, "missing": MISSING, "X": X, "seed": rest}
    return ebmodel.simulate.violated(str(cell["violation"]), float(cell["strength"]), TRUTH, **how)


COLUMNS = {
    "mse_ols": "MSE, OLS", "mse_eb": "MSE, EB", "mse_eb_power": "MSE, power", "auc_eb": "AUC", "brier_eb": "Brier",
    "fdp_0.05_eb": "FDR at 5 %", "coverage_eb": "coverage of 95 %",
}  # fmt: skip


def as_table(results: pd.DataFrame) -> Table:
    """By violation and strength: what becomes of the paper's estimator. MSEs are 1000 times themselves."""
    means = results.groupby(["violation", "strength"], sort=False).mean(numeric_only=True)
    errors = results.groupby(["violation", "strength"], sort=False).sem(numeric_only=True)
    rows = []
    for key, mean in means.iterrows():
        row = [f"{key[0]}, {key[1]:g}"]
        for column in COLUMNS:
            scale = 1e3 if column.startswith("mse") else 1.0
            digits = 2 if scale > 1 else 3
            row.append(f"{scale * mean[column]:.{digits}f} ± {scale * errors.loc[key, column]:.{digits}f}")
        rows.append(row)
    n = int(results.groupby(["violation", "strength"]).size().min())
    caption = f"One assumption violated, strength 0 being the model: means over {n} data sets ± SE (MSE x 1000)"
    return Table("violations", caption, ["violation, strength", *COLUMNS.values()], rows)


def table(results: pd.DataFrame) -> str:
    """The table for a Markdown page."""
    return as_table(results).markdown()


def figure(results: pd.DataFrame) -> Figure:
    """MSE, AUC, false discovery rate and coverage against strength, relative to their range, by violation."""
    shown = {
        "mse_eb": "MSE of effects", "auc_eb": "AUC of P(I=1)", "fdp_0.05_eb": "FDR at nominal 5 %",
        "coverage_eb": "coverage of 95 %",
    }  # fmt: skip
    groups = results.groupby(["violation", "strength"], sort=False)
    means, errors = groups.mean(numeric_only=True), groups.sem(numeric_only=True)
    drawing = Figure(figsize=(10.5, 3.4), layout="constrained")
    marks = "osv^Dx"
    for ax, (column, title) in zip(drawing.subplots(1, len(shown)), shown.items(), strict=True):
        for name, mark in zip(STRENGTHS, marks, strict=True):
            at = means.loc[name, column]
            share = at.index.to_numpy() / max(STRENGTHS[name])
            ax.errorbar(share, at, 2 * errors.loc[name, column], label=name, marker=mark, markersize=4, linewidth=1.2)
        level = {"fdp_0.05_eb": 0.05, "coverage_eb": 0.95}.get(column)
        if level is not None:
            ax.axhline(level, color="0.6", linestyle="--", linewidth=1)
        ax.set(title=title, xlabel="strength / largest")
    drawing.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return drawing


STUDY = Study(
    "violations",
    [{"violation": name, "strength": s} for name, strengths in STRENGTHS.items() for s in (0.0, *strengths)],
    100,
    Comparison(data, {name: ESTIMATORS[name] for name in PARTS}, METRICS),
    table,
    figure,
)
