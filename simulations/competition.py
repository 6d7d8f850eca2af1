"""The table that the paper lacks: its estimator against zero, ridge, lasso, other slabs, and what knows the truth.

Settings 1-4, whose effects do not follow the paper's prior, and data from the paper's own model (called setting 0).
Full Bayes is run on some of it only, as it takes seconds a data set; the printed EM where responses are complete.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

import ebmodel
from ebmodel.model import Array
from ebmodel.plot.style import BLACK, BLUE, GREEN, GREY, INK, ORANGE, PINK, REFERENCE, new_figure, outside, styled
from simulations.estimators import ESTIMATORS
from simulations.metrics import METRICS
from simulations.printed import eb_printed
from simulations.settings import paper_data
from simulations.study import SIGNALS, Cell, Comparison, Study
from simulations.tables import Table

RHOS = (0.0, 0.4, 0.8)
SETTINGS = (0, 1, 2, 3, 4)
WORDS = {
    "zero": "zero", "ols": "OLS", "ridge": "ridge", "lasso": "lasso", "eb_printed": "EM as printed",
    "eb_naive": "EB, one start", "eb": "EB (paper)", "eb_independent": "EB, independent", "eb_power": "EB, power",
    "bayes": "full Bayes", "linear": "best linear", "oracle": "oracle",
}  # fmt: skip
RIVALS = ("zero", "ols", "ridge", "lasso", "eb_naive", "eb", "eb_independent", "eb_power")
"""Those that know nothing of the truth and are run everywhere."""


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """A data set of a setting; for setting 0 from the model itself, with X as in Setting 1 and beta in thirds."""
    if cell["setting"]:
        return paper_data(cell, stream)
    beta = 0.2 * float(cell["signal"]) * np.repeat([1.0, 0.5, 0.0], [7, 7, 6])
    return of_the_model(beta, 4.0, float(cell["rho"]), stream, n=200, m=30)


def of_the_model(beta: Array, eta: float, rho: float, stream: np.random.SeedSequence, *, n: int, m: int) -> xr.Dataset:
    """Data from the paper's model with tau1 = 1/2, sigma2 = 1 and SNPs of correlation rho."""
    genotypes, rest = stream.spawn(2)
    C = np.full((len(beta), len(beta)), rho) + (1 - rho) * np.eye(len(beta))
    X = np.random.default_rng(genotypes).standard_normal((n, len(beta))) @ np.linalg.cholesky(C).T
    truth = ebmodel.Params(tau1=0.5, beta=beta, eta=eta, sigma2=1.0)
    return ebmodel.simulate.model_true(truth, m=m, X=X, seed=rest, posterior=False)


def complete(cell: Cell, replication: int) -> bool:  # noqa: ARG001
    """Whether the printed EM can be run."""
    return cell["setting"] in (0, 1, 2)


def few(cell: Cell, replication: int) -> bool:
    """Where full Bayes is run."""
    return replication < 5 and cell["signal"] == 1.0 and cell["rho"] != 0.4 and cell["setting"] != 2


def worlds(results: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Results by setting and rho, in words."""
    return [
        (f"{'the model' if not setting else f'Setting {setting:g}'}, ρ = {rho:g}", group)
        for (setting, rho), group in results.groupby(["setting", "rho"])
    ]


def mse_table(results: pd.DataFrame) -> Table:
    """Geometric mean over signals of the mean MSE, by setting and rho: the least of those that do not know the truth
    in bold.
    """
    columns, rows = [f"mse_{part}" for part in WORDS if f"mse_{part}" in results], []
    for name, group in worlds(results):
        mean = np.exp(np.log(group.groupby("signal")[columns].mean()).mean())
        least = format(min(mean[f"mse_{part}"] for part in RIVALS), ".3g")
        row = [name]
        for part in WORDS:
            value = format(mean.get(f"mse_{part}", np.nan), ".3g")
            bold = "**" if part in RIVALS and value == least else ""
            row.append("–" if value == "nan" else f"{bold}{value}{bold}")
        rows.append(row)
    n = int(results.groupby(["setting", "rho", "signal"]).size().min())
    caption = (
        f"MSE of effects: geometric mean over signals .5, 1 and 2 of the mean over {n} data sets (full Bayes: "
        "5, at signal 1 only). Bold: the least of those that do not know the truth and were run everywhere."
    )
    return Table("competition_mse", caption, ["", *WORDS.values()], rows)


RANKING = ("eb_naive", "eb_printed", "eb", "eb_independent", "eb_power", "bayes", "oracle")


def activity_table(results: pd.DataFrame) -> Table:
    """AUC, Brier score and realised false discovery rate of P(I=1), by setting."""
    rows = []
    for setting, group in results.groupby("setting"):
        for metric, word, form in (
            ("auc", "AUC", ".3f"),
            ("brier", "Brier score", ".3f"),
            ("fdp_0.05", "FDR at 5 %", ".3f"),
            ("power_0.05", "power at 5 %", ".3f"),
            ("coverage", "coverage of 95 %", ".3f"),
        ):
            row = [f"{'the model' if not setting else f'Setting {setting:g}'}: {word}"]
            for part in RANKING:
                column = f"{metric}_{part}"
                value = group[column].mean() if column in group else np.nan
                row.append("–" if np.isnan(value) else format(value, form))
            rows.append(row)
    caption = "Which tissues are active, and do intervals hold? Means over all ρ and signals (full Bayes: over a few)."
    return Table("competition_activity", caption, ["", *(WORDS[part] for part in RANKING)], rows)


def losses(results: pd.DataFrame) -> pd.DataFrame:
    """How often the paper's estimator has a higher MSE than each rival, of the 9 cells of a setting (by mean MSE)."""
    means = results.groupby(["setting", "rho", "signal"]).mean(numeric_only=True)
    lost = {part: means["mse_eb"] > means[f"mse_{part}"] for part in RIVALS if part != "eb"}
    return pd.DataFrame(lost).groupby("setting").sum()


def finding(results: pd.DataFrame) -> str:
    """The losses in words."""
    lost, cells = losses(results), len(RHOS) * len(SIGNALS)
    lines = []
    for setting, row in lost.iterrows():
        name = "On data from the model itself" if not setting else f"In Setting {setting:g}"
        rivals = ", ".join(f"{WORDS[part]} {count}" for part, count in row.items())
        lines.append(f"- {name} the paper's estimator has a higher mean MSE than: {rivals} (of {cells} cells).")
    return "\n".join(lines)


def reliability(results: pd.DataFrame, part: str) -> pd.DataFrame:
    """Mean P(I=1), share active and number of tissues, by bin of P(I=1)."""
    bins = range(1, 11)
    total = {kind: np.array([results[f"bin_{kind}_{k}_{part}"].sum() for k in bins]) for kind in
             ("count", "sum", "active")}  # fmt: skip
    with np.errstate(invalid="ignore"):
        rates = {"claimed": total["sum"] / total["count"], "active": total["active"] / total["count"]}
    return pd.DataFrame({**rates, "count": total["count"]})


def table(results: pd.DataFrame) -> str:
    """Both tables and the losses."""
    return "\n\n".join([mse_table(results).markdown(), finding(results), activity_table(results).markdown()])


@styled
def figure(results: pd.DataFrame) -> Figure:
    """MSE against rho by setting (geometric mean over signals); reliability of P(I=1) below."""
    looks = {
        "zero": (GREY, ":", ""), "ridge": (PINK, "--", "v"), "lasso": (PINK, ":", "^"), "eb": (ORANGE, "-", "s"),
        "eb_independent": (GREEN, "-.", "D"), "eb_power": (BLUE, "-", "o"), "linear": (INK, "--", ""),
        "oracle": (BLACK, "-", ""),
    }  # fmt: skip
    settings = sorted(results["setting"].unique())
    drawing = new_figure(2.3 * len(settings) + 0.4, 5.4)
    panels = drawing.subplots(2, len(settings), squeeze=False)
    for column, setting in enumerate(settings):
        group = results[results["setting"] == setting]
        means = group.groupby(["rho", "signal"]).mean(numeric_only=True)
        top, bottom = panels[0, column], panels[1, column]
        for part, (color, style, mark) in looks.items():
            line = np.exp(np.log(means[f"mse_{part}"]).groupby("rho").mean())
            look = {"color": color, "linestyle": style, "marker": mark}
            look["markerfacecolor"] = "white" if mark in {"s", "D", "v"} else color
            top.plot(line.index, line, linewidth=1.4, markersize=4, label=WORDS[part], **look)
            if part in ("eb", "eb_power", "oracle"):
                curve = reliability(group, part)
                curve = curve[curve["count"] >= 20]
                bottom.plot(curve["claimed"], curve["active"], markersize=4, linewidth=1.2, **look)
        bottom.plot([0, 1], [0, 1], **REFERENCE)
        top.set(yscale="log", title="the model" if not setting else f"Setting {setting:g}", xlabel="ρ")
        bottom.set(xlabel="P(I=1), mean in bin", xlim=(0, 1), ylim=(0, 1))
    panels[0, 0].set_ylabel("MSE of effects")
    panels[1, 0].set_ylabel("share active")
    outside(drawing, panels[0, 0], 4)
    return drawing


STUDY = Study(
    "competition",
    [{"setting": k, "rho": rho, "signal": signal} for k in SETTINGS for rho in RHOS for signal in SIGNALS],
    10,
    Comparison(
        data,
        {name: eb_printed if name == "eb_printed" else ESTIMATORS[name] for name in WORDS},
        {name: METRICS[name] for name in ("mse", "auc", "brier", "calibration", "fdr", "coverage")},
        {"eb_printed": complete, "bayes": few},
    ),
    table,
    figure,
)
