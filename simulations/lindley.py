"""What a prior on the slab's mean does to P(I=1): vaguer and vaguer normal priors on gamma, on data of Setting 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ebmodel
from ebmodel.bayes import WEAK, Prior
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import sample_problem
from ebmodel.plot.style import BLACK, BLUE, GREEN, INK, ORANGE, new_figure, outside, styled
from simulations.study import Cell, Record, Study, Whole
from simulations.tables import markdown

SDS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0)
DATA_SETS = 4
KINDS = {"em": "EM (no prior)", "weak": "default prior", "hierarchical": "hierarchical mean"}


def replicate(cell: Cell, _: np.random.SeedSequence) -> Record:
    """tau1, and how many tissues have P(I=1) > 1/2, under the EM or the posterior that ``cell`` names."""
    gene = ebmodel.simulate.setting(1, rho=0.0, signal=1.0, seed=int(cell["data"]))
    true = {"true": int(gene["active"].sum())}
    if cell["kind"] == "em":
        fit = ebmodel.fit(gene.X, gene.Y)
        called = int((fit.posterior_probability > 0.5).sum())
        return {"tau1": fit.params.tau1, "called": called, "sound": 1, **true}
    vague = WEAK.with_(gamma=Prior("Normal", mu=0.0, sigma=cell["sd"]))
    priors = vague if cell["kind"] == "gamma" else WEAK
    return {**_posterior(gene, "hierarchical" if cell["kind"] == "hierarchical" else "free", priors), **true}


def _posterior(gene, mean: str, priors) -> Record:
    tree = sample_problem(pose(gene.X, gene.Y, "g", mean, priors), seed=1, cores=1, predictive=1, progress=False)
    average = tree["posterior"].to_dataset().mean(["chain", "draw"])
    sound = int(tree.attrs["verdict"].startswith("Sound"))
    called = int((average["probability"] > 0.5).sum())
    return {"tau1": float(average["tau1"]), "called": called, "sound": sound}


def table(results: pd.DataFrame) -> str:
    """tau1 of every data set by prior, and the tissues called."""
    data = sorted(results["data"].unique())
    rows: list[list[str]] = []
    rows += [[word, *_cells(results[results["kind"] == kind], data)] for kind, word in KINDS.items()]
    rows += [[f"γ ~ N(0, {sd:g}²)", *_cells(results[results["sd"] == sd], data)] for sd in SDS]
    true = results.groupby("data")["true"].first()
    rows.append(["truth", *(f"{true[i] / 50:.2f} ({true[i]:.0f})" for i in data)])
    head = "τ₁ (tissues of 50 with P(I=1) > ½) on Setting 1, ρ = 0, signal 1; † where the draws are not sound:"
    return f"{head}\n\n" + markdown(["Prior on the slab's mean", *(f"data set {i + 1:g}" for i in data)], rows)


def _cells(group: pd.DataFrame, data: list[float]) -> list[str]:
    by_data = group.set_index("data")
    return [
        f"{by_data.loc[i, 'tau1']:.2f} ({by_data.loc[i, 'called']:.0f})" + ("" if by_data.loc[i, "sound"] else " †")
        for i in data
    ]


@styled
def figure(results: pd.DataFrame) -> Figure:
    """tau1 against the sd of the prior on gamma, with the EM, the default and the hierarchical mean as levels."""
    data = sorted(results["data"].unique())
    drawing = new_figure(2.6 * len(data), 3.2)
    looks = {"em": (INK, ":"), "weak": (GREEN, "-."), "hierarchical": (BLUE, "--")}
    for i, (ax, which) in enumerate(zip(drawing.subplots(1, len(data), sharey=True), data, strict=True)):
        group = results[results["data"] == which]
        line = group[group["sd"] > 0].sort_values("sd")
        ax.plot(line["sd"], line["tau1"], "s-", color=ORANGE, markersize=4, label="γ ~ N(0, sd²)")
        for kind, (color, style) in looks.items():
            level = float(group.loc[group["kind"] == kind, "tau1"].iloc[0])
            ax.axhline(level, color=color, linestyle=style, linewidth=1.4, label=KINDS[kind])
        ax.plot([SDS[0]], [group["true"].iloc[0] / 50], "*", color=BLACK, markersize=7, label="share truly active")
        ax.set(xscale="log", title=f"data set {i + 1}", xlabel="prior sd of γ", ylim=(0, 1))
        if i == 0:
            ax.set_ylabel("τ₁, share of active tissues")
    outside(drawing, ax, 5)
    return drawing


PRIORS = [(kind, 0.0) for kind in KINDS] + [("gamma", sd) for sd in SDS]
CELLS: list[Cell] = [{"data": i, "kind": kind, "sd": sd} for kind, sd in PRIORS for i in range(DATA_SETS)]
STUDY = Study("lindley", CELLS, 1, Whole(replicate), table, figure)
