"""EM against full Bayes on Settings 1 and 3: does NUTS run clean, and which is the better estimate?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from scipy.special import softmax

import ebmodel
from ebmodel.bayes.diagnosis import diagnose
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import nuts, sample_problem
from ebmodel.bayes.starts import find_modes
from ebmodel.plot.style import BLUE, ORANGE, REFERENCE, new_figure, outside, styled
from simulations.metrics import auc, mse
from simulations.study import SIGNALS, Cell, Record, Study, Whole, paper_cells
from simulations.tables import markdown

MEANS = {"free": "free mean", "hierarchical": "hierarchical mean"}
WORDS = {"em": "EM", **{mean: f"Bayes, {word}" for mean, word in MEANS.items()}}


def replicate(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """MSE, AUC and tau1 of the EM fit and of both posteriors; the sampler's diagnostics."""
    gene = ebmodel.simulate.setting(int(cell["setting"]), rho=cell["rho"], signal=cell["signal"], seed=stream)
    truth, active = gene["effects"].to_numpy(), gene["active"].to_numpy()
    fit = ebmodel.fit(gene.X, gene.Y)
    row: dict[str, float] = {
        "tau1_em": fit.params.tau1,
        "mse_em": mse(fit.effects.to_numpy(), truth),
        "auc_em": auc(fit.posterior_probability.to_numpy(), active),
        "brier_em": mse(fit.posterior_probability.to_numpy(), active),
    }
    for mean in MEANS:
        problem = pose(gene.X, gene.Y, "g", mean, "weak")
        tree = sample_problem(problem, seed=1, cores=1, predictive=1, progress=False)
        posterior, diagnosis = tree["posterior"].to_dataset().mean(["chain", "draw"]), diagnose(tree)
        bounds = np.array([mode.bound for mode, _ in find_modes(problem, 0)])
        distinct = np.append(True, np.diff(bounds) < -1.0)
        row |= {
            f"tau1_{mean}": float(posterior["tau1"]),
            f"mse_{mean}": mse(posterior["effects"].to_numpy(), truth),
            f"auc_{mean}": auc(posterior["probability"].to_numpy(), active),
            f"brier_{mean}": mse(posterior["probability"].to_numpy(), active),
            f"divergences_{mean}": int(diagnosis["divergences"]),
            f"rhat_{mean}": float(diagnosis["r_hat"].max()),
            f"ess_{mean}": float(min(diagnosis["ess_bulk"].min(), diagnosis["ess_tail"].min())),
            f"sound_{mean}": int(diagnosis.attrs["verdict"].startswith("Sound")),
            f"second_mode_{mean}": float(1.0 - softmax(bounds[distinct])[0]),
        }
    settings = {"draws": 1000, "tune": 1000, "chains": 4, "cores": 1, "seed": 1}
    problem = pose(gene.X, gene.Y, "g", "free", "weak")
    drawn, stats = nuts(problem, settings, at_modes=False)
    diagnosis = diagnose(xr.DataTree.from_dict({"posterior": drawn, "sample_stats": stats}))
    row |= {"rhat_random": float(diagnosis["r_hat"].max()), "divergences_random": int(diagnosis["divergences"])}
    return row


def table(results: pd.DataFrame) -> str:
    """Diagnostics, then mean MSE, AUC and Brier score for signals .5 / 1 / 2, by setting and rho."""
    rows = []
    for mean, word in MEANS.items():
        for setting, group in results.groupby("setting"):
            divergences = group[f"divergences_{mean}"]
            rows.append(
                [
                    f"{word}, Setting {setting}",
                    str(len(group)),
                    f"{int(divergences.sum())}",
                    f"{int((divergences > 0).sum())}",
                    f"{int(group[f'sound_{mean}'].sum())}",
                    f"{group[f'rhat_{mean}'].max():.3f}",
                    f"{group[f'ess_{mean}'].min():.0f}",
                ]
            )
    header = [
        "Model",
        "data sets",
        "divergent transitions",
        "data sets with any",
        "sound",
        "largest R-hat",
        "least ESS",
    ]
    diagnostics = markdown(header, rows)
    means = results.groupby(["setting", "rho", "signal"]).mean(numeric_only=True)

    def cell(setting: int, rho: float, column: str, form: str) -> str:
        return " / ".join(format(means.loc[(setting, rho, signal), column], form) for signal in SIGNALS)

    keys = list(results.groupby(["setting", "rho"]).groups)
    blocks = []
    for metric, form, title in (("mse", ".3g", "MSE of effects"), ("auc", ".2f", "AUC of P(I=1)")):
        body = [
            [f"{setting:g}, ρ = {rho:g}", *(cell(setting, rho, f"{metric}_{who}", form) for who in WORDS)]
            for setting, rho in keys
        ]
        blocks.append(f"Mean {title}, signal 0.5 / 1 / 2:\n\n" + markdown(["Setting", *WORDS.values()], body))
    return "\n\n".join([diagnostics, _finding(results), *blocks])


def _finding(results: pd.DataFrame) -> str:
    """How often each posterior beats the EM, and by how much on average."""
    sentences, average = [], results.mean(numeric_only=True)
    for mean, word in MEANS.items():
        lower = int((results[f"mse_{mean}"] < results["mse_em"]).sum())
        higher = int((results[f"auc_{mean}"] > results["auc_em"]).sum())
        sentences.append(
            f"the posterior with a {word} has the lower MSE in {lower} of {len(results)} data sets and the higher AUC "
            f"in {higher} (mean AUC {average[f'auc_{mean}']:.3f} against {average['auc_em']:.3f}; mean Brier "
            f"score of P(I=1) {average[f'brier_{mean}']:.3f} against {average['brier_em']:.3f})"
        )
    apart = int((results["rhat_random"] > 1.05).sum())
    diverged = int((results["divergences_random"] > 0).sum())
    together = int((results["rhat_free"] > 1.05).sum())
    return (
        f"Started where PyMC starts them, chains stay apart (R-hat above 1.05) in {apart} of {len(results)} data "
        f"sets, and diverge in {diverged}; started at modes, they stay apart in {together}. Against the EM fit, "
        + "; ".join(sentences)
        + "."
    )


@styled
def figure(results: pd.DataFrame) -> Figure:
    """AUC and MSE of each posterior against the EM's, one point a data set."""
    drawing = new_figure(8.4, 4.3)
    for ax, metric, title in zip(
        drawing.subplots(1, 2), ("auc", "mse"), ("AUC of P(I=1)", "MSE of effects"), strict=True
    ):
        for mean, look in (
            ("free", {"color": ORANGE, "marker": "s", "facecolors": "none"}),
            ("hierarchical", {"color": BLUE, "marker": "o"}),
        ):
            ax.scatter(results[f"{metric}_em"], results[f"{metric}_{mean}"], s=20, label=WORDS[mean], **look)
        low, high = results[f"{metric}_em"].min(), results[f"{metric}_em"].max()
        ax.plot([low, high], [low, high], **REFERENCE, label="equal")
        ax.set(xlabel=f"{title}, EM", ylabel=f"{title}, Bayes")
        if metric == "mse":
            ax.set(xscale="log", yscale="log")
    outside(drawing, ax, 3)
    return drawing


STUDY = Study("bayes", paper_cells(), 1, Whole(replicate), table, figure)
