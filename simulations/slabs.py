"""What the slab's shape costs: MSE of effects and AUC of P(I=1) by slab, on Settings 1 and 3."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ebmodel
from ebmodel.plot.style import BLUE, GREEN, GREY, ORANGE, new_figure, outside, styled
from simulations.metrics import auc, mse
from simulations.study import SIGNALS, Cell, Record, Study, Whole, paper_cells
from simulations.tables import markdown

SLABS = {"paper": "g", "independent": "independent", "power": "power"}
MSE = ("zero", "ols", *SLABS)
NAMES = {
    "zero": "zero",
    "ols": "OLS",
    "paper": "paper (α = 1)",
    "independent": "independent (α = 0)",
    "power": "power (α̂)",
}


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """MSE and AUC of every slab's fit on one data set, and of estimating zero and least squares."""
    gene = ebmodel.simulate.setting(int(cell["setting"]), rho=cell["rho"], signal=cell["signal"], seed=stream)
    truth, active = gene["effects"].to_numpy(), gene["active"].to_numpy()
    row: dict[str, float] = {}
    for name, slab in SLABS.items():
        fit = ebmodel.fit(gene.X, gene.Y, slab=slab)
        row[f"mse_{name}"] = mse(fit.effects.to_numpy(), truth)
        row[f"auc_{name}"] = auc(fit.posterior_probability.to_numpy(), active)
        row[f"loglik_{name}"] = fit.loglik
    row |= {"mse_zero": mse(0.0 * truth, truth), "mse_ols": mse(fit.ols.to_numpy(), truth), "alpha": fit.params.alpha}
    return row


def table(results: pd.DataFrame) -> str:
    """Mean MSE and AUC for signals .5 / 1 / 2, by setting and rho."""
    means = results.groupby(["setting", "rho", "signal"]).mean(numeric_only=True)

    def cell(setting: int, rho: float, column: str, form: str) -> str:
        return " / ".join(format(means.loc[(setting, rho, signal), column], form) for signal in SIGNALS)

    keys = list(results.groupby(["setting", "rho"]).groups)
    label = [f"{setting:g}, ρ = {rho:g}" for setting, rho in keys]
    mse_rows = [[name, *(cell(*key, f"mse_{e}", ".3g") for e in MSE)] for name, key in zip(label, keys, strict=True)]
    auc_rows = [
        [name, *(cell(*key, f"auc_{e}", ".2f") for e in SLABS), cell(*key, "alpha", ".2f")]
        for name, key in zip(label, keys, strict=True)
    ]
    n = int(results.groupby(["setting", "rho", "signal"]).size().min())
    return (
        f"Mean MSE of effects over {n} data sets a cell, signal 0.5 / 1 / 2:\n\n"
        + markdown(["Setting", *(NAMES[e] for e in MSE)], mse_rows)
        + "\n\nMean AUC of P(I=1), and mean α̂:\n\n"
        + markdown(["Setting", *(NAMES[e] for e in SLABS), "α̂"], auc_rows)
    )


LOOKS = {
    "zero": {"color": GREY, "linestyle": ":", "marker": ""},
    "ols": {"color": GREY, "linestyle": "--", "marker": ""},
    "paper": {"color": ORANGE, "linestyle": "-", "marker": "s", "markerfacecolor": "white"},
    "independent": {"color": GREEN, "linestyle": "-.", "marker": "^"},
    "power": {"color": BLUE, "linestyle": "-", "marker": "o"},
}


@styled
def figure(results: pd.DataFrame) -> Figure:
    """MSE of effects against rho, one panel for each setting and signal, with standard errors."""
    groups = results.groupby(["setting", "rho", "signal"])
    means, errors = groups.mean(numeric_only=True), groups.sem(numeric_only=True)
    settings = sorted(results["setting"].unique())
    drawing = new_figure(9.6, 3.0 * len(settings))
    panels = drawing.subplots(len(settings), len(SIGNALS), sharex=True, sharey=True, squeeze=False)
    for row, setting in zip(panels, settings, strict=True):
        for ax, signal in zip(row, SIGNALS, strict=True):
            for name, look in LOOKS.items():
                at = means.loc[(setting, slice(None), signal), f"mse_{name}"]
                spread = errors.loc[at.index, f"mse_{name}"]
                rho = at.index.get_level_values("rho")
                ax.errorbar(rho, at, spread, label=NAMES[name], linewidth=1.4, markersize=4.5, **look)
            ax.set(yscale="log", title=f"Setting {setting}, signal {signal:g}")
        row[0].set_ylabel("MSE of effects")
    for ax in panels[-1]:
        ax.set_xlabel("ρ, correlation of SNPs and of effects")
    outside(drawing, panels[0, 0], len(LOOKS))
    return drawing


STUDY = Study("slabs", paper_cells(), 20, Whole(replicate), table, figure)
