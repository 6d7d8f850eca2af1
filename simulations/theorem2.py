"""Theorem 2: where its prior is true, the estimator's risk tends to the oracle's as tissues are added."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

import ebmodel
from ebmodel.plot.style import GREY, INK, ORANGE, new_figure, outside, styled
from simulations.estimators import ESTIMATORS
from simulations.metrics import METRICS
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

TRUTH = ebmodel.Params(tau1=0.5, beta=np.repeat([0.1, 0.05, 0.0], [2, 2, 4]), eta=0.5, sigma2=1.0)
"""Effects that leave many tissues in doubt: with stronger ones all methods know I(t)."""
N = 100
TISSUES = (10, 20, 50, 100, 200, 500, 1000)
PARTS = ("zero", "ols", "eb", "oracle")


def model_data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Data from the model itself: (3) with its covariance eta (X'X)^-1."""
    return ebmodel.simulate.model_true(TRUTH, n=N, m=int(cell["m"]), seed=stream, posterior=False)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error by m: risks, AUCs, and their differences from the oracle's on the same data."""
    found = results[["m"]].copy()
    for part in PARTS:
        found[f"mse_{part}"] = results[f"mse_{part}"]
        found[f"excess_{part}"] = results[f"mse_{part}"] - results["mse_oracle"]
        if f"auc_{part}" in results:
            found[f"auc_{part}"] = results[f"auc_{part}"]
            found[f"loss_{part}"] = results["auc_oracle"] - results[f"auc_{part}"]
    return found.groupby("m").agg(["mean", "sem"])


def slope(results: pd.DataFrame, least: int = 100) -> tuple[float, float]:
    """Exponent b of excess risk ~ m^b for m >= ``least``, with its standard error: weighted least squares on logs."""
    table = summary(results).loc[least:, "excess_eb"]
    x, y = np.log(table.index.to_numpy(dtype=float)), np.log(table["mean"].to_numpy())
    w = (table["mean"] / table["sem"]).to_numpy() ** 2  # 1 / variance of the log
    centred = x - np.average(x, weights=w)
    return float(np.sum(w * centred * y) / np.sum(w * centred**2)), float(np.sum(w * centred**2) ** -0.5)


def as_table(results: pd.DataFrame) -> Table:
    """Risk and AUC by m; differences from the oracle are taken on the same data."""
    s, rows = summary(results), []
    for m in s.index:
        row = [str(m)] + [f"{1e3 * s.loc[m, (f'mse_{part}', 'mean')]:.3f}" for part in PARTS]
        mean, error = s.loc[m, "excess_eb"]
        row.append(f"{1e3 * mean:.3f} ± {1e3 * error:.3f}")
        row += [f"{s.loc[m, ('auc_' + part, 'mean')]:.4f}" for part in ("eb", "oracle")]
        mean, error = s.loc[m, "loss_eb"]
        rows.append([*row, f"{mean:.4f} ± {error:.4f}"])
    header = ["m", "zero", "OLS", "EB", "oracle", "EB − oracle", "AUC, EB", "AUC, oracle", "lost"]
    n = int(results.groupby("m").size().min())
    p = len(TRUTH.beta)
    caption = f"1000 x MSE of effects and AUC of P(I=1), over {n} data sets from the model (n = {N}, p = {p})"
    return Table("theorem2", caption, header, rows)


def table(results: pd.DataFrame) -> str:
    """The table, and how fast the excess falls."""
    power, error = slope(results)
    rate = f"The excess risk falls as m^b with b = {power:.2f} ± {error:.2f} (m ≥ 100)."
    return f"{as_table(results).markdown()}\n\n{rate}"


@styled
def figure(results: pd.DataFrame) -> Figure:
    """Excess risk and lost AUC against m, on logarithmic axes."""
    s = summary(results)
    drawing = new_figure(8.4, 3.6)
    looks = {
        "ols": {"label": "OLS", "color": GREY, "linestyle": "--", "marker": "v"},
        "eb": {"label": "EB", "color": ORANGE, "linestyle": "-", "marker": "s", "markerfacecolor": "white"},
    }
    for ax, kind, title in zip(
        drawing.subplots(1, 2), ("excess", "loss"), ("MSE − MSE of oracle", "AUC of oracle − AUC"), strict=True
    ):
        for part, look in looks.items():
            if f"{kind}_{part}" in s:
                t = s[f"{kind}_{part}"]
                ax.errorbar(t.index, t["mean"], 2 * t["sem"], markersize=4.5, linewidth=1.4, **look)
        m = s.index.to_numpy(dtype=float)
        ax.plot(m, s.loc[100, (f"{kind}_eb", "mean")] * 100 / m, color=INK, linestyle=":", label="1/m")
        ax.set(xscale="log", yscale="log", xlabel="m, number of tissues", ylabel=title)
    outside(drawing, drawing.axes[0], 4)
    return drawing


STUDY = Study(
    "theorem2",
    [{"m": m} for m in TISSUES],
    200,
    Comparison(model_data, {name: ESTIMATORS[name] for name in PARTS}, METRICS),
    table,
    figure,
)
