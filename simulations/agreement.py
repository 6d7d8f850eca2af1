"""Ours beside the published values, cell by cell: z-scores that allow for the error of both, verdicts, figures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebmodel.plot.style import GREY, ORANGE, new_figure, outside, styled
from simulations.published import QUANTITIES, WORDS, published
from simulations.readings import READINGS, Key, Scatter
from simulations.study import RHOS, SIGNALS
from simulations.tables import Table

AGREES, DOUBTFUL = 2.0, 3.0
"""|z| up to which a value agrees, and up to which it is in doubt."""
COLUMNS = {"mse_ols": "mse_ols", "mse_eb": "mse_eb", "auc": "auc_eb"}
"""Published quantity -> column of the study's results."""


def verdict(z: float) -> str:
    """A z-score in a word."""
    return "agrees" if abs(z) <= AGREES else "in doubt" if abs(z) <= DOUBTFUL else "differs"


def agreement(results: pd.DataFrame, scatters: Mapping[Key, Scatter], reading: Mapping[int, str]) -> pd.DataFrame:
    """A row for each setting, rho, signal and quantity: ``printed``, ``ours``, ``se``, ``z``, ``verdict``.

    z is on the log scale for MSEs. Its variance is that of the published average under the setting's reading (whether
    designs and effects were drawn anew) plus that of ours, in which everything is drawn anew.
    """
    groups, rows = results.groupby(["setting", "rho", "signal"]), []
    means, errors = groups.mean(numeric_only=True), groups.sem(numeric_only=True)
    for key, printed in published().iterrows():
        spread = np.diag(scatters[key].of_average(reading[key[0]]))
        for i, quantity in enumerate(QUANTITIES):
            ours, se = means.loc[key, COLUMNS[quantity]], errors.loc[key, COLUMNS[quantity]]
            if quantity == "auc":
                away = printed[quantity] - ours  # both may be 1, with no scatter at all
                z = away / np.sqrt(spread[i] + se**2) if away else 0.0
            else:  # both log-normal with one mean, which is above exp of either's location
                its, own = np.log1p(np.array([spread[i], se**2]) / ours**2)
                z = (np.log(printed[quantity] / ours) + (its - own) / 2) / np.sqrt(its + own)
            rows.append((*key, quantity, printed[quantity], ours, se, z, verdict(z)))
    columns = ["setting", "rho", "signal", "quantity", "printed", "ours", "se", "z", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def tables(found: pd.DataFrame, reading: Mapping[int, str]) -> list[Table]:
    """One table for each setting, the layout of the paper's."""
    result = []
    for setting, group in found.groupby("setting"):
        cells, rows = group.set_index(["rho", "signal", "quantity"]), []
        for rho in RHOS:
            for signal in SIGNALS:
                row = [f"{rho:g}", f"{signal:g}"]
                for quantity in QUANTITIES:
                    cell = cells.loc[(rho, signal, quantity)]
                    bold = "**" if cell["verdict"] == "differs" else ""
                    row += [_number(cell["printed"]), _ours(cell), f"{bold}{cell['z']:+.1f}{bold}"]
                rows.append(row)
        header = ["ρ", "signal"]
        for quantity in QUANTITIES:
            header += [f"{WORDS[quantity]}, printed", "ours ± SE", "z"]
        caption = (
            f"Setting {setting}: published values and ours. z allows for the error of both, the published averages "
            f"being read as made with {READINGS[reading[int(setting)]]}; bold where it exceeds {DOUBTFUL:g}."
        )
        if setting == 4:
            caption += " Genotypes are a substitute, chosen so that OLS has the published error."
        result.append(Table(f"setting{setting}", caption, header, rows))
    return result


def counts(found: pd.DataFrame) -> Table:
    """How many of a setting's 15 cells agree, by quantity."""
    rows = []
    for setting, group in found.groupby("setting"):
        row = [f"Setting {setting}"]
        for quantity in QUANTITIES:
            verdicts = group[group["quantity"] == quantity]["verdict"].value_counts()
            row.append(" / ".join(str(verdicts.get(word, 0)) for word in ("agrees", "in doubt", "differs")))
        rows.append(row)
    header = ["", *(WORDS[quantity] for quantity in QUANTITIES)]
    caption = f"Cells that agree (|z| ≤ {AGREES:g}) / are in doubt / differ (|z| > {DOUBTFUL:g}), of 15"
    return Table("verdicts", caption, header, rows)


@styled
def figure(found: pd.DataFrame, quantities: tuple[str, ...], title: str) -> Figure:
    """Ours (lines, two standard errors) and printed (crosses) against signal; a row a setting, a column a rho."""
    settings = sorted(found["setting"].unique())
    drawing = new_figure(10.5, 2.2 * len(settings) + 0.6)
    panels = drawing.subplots(len(settings), len(RHOS), sharex=True, sharey="row", squeeze=False)
    eb = "EB", ORANGE, "-", "x"
    looks = {"mse_ols": ("OLS", GREY, "--", "+"), "mse_eb": eb, "auc": eb}
    for row, setting in zip(panels, settings, strict=True):
        for ax, rho in zip(row, RHOS, strict=True):
            at = found[(found["setting"] == setting) & (found["rho"] == rho)]
            for quantity in quantities:
                _draw(ax, at[at["quantity"] == quantity], *looks[quantity])
            if setting == settings[0]:
                ax.set_title(f"ρ = {rho:g}", fontsize=10)
            ax.set(xscale="log", xticks=SIGNALS, xticklabels=[f"{s:g}" for s in SIGNALS])
            ax.minorticks_off()
            if "auc" not in quantities:
                ax.set_yscale("log")
        row[0].set_ylabel(f"Setting {setting}\n{title}")
    drawing.supxlabel("signal")
    outside(drawing, panels[0, 0], 4)
    return drawing


def _draw(ax: Axes, cells: pd.DataFrame, label: str, color: str, style: str, mark: str) -> None:
    look = {"color": color, "linestyle": style, "linewidth": 1.4}
    ax.errorbar(cells["signal"], cells["ours"], 2 * cells["se"], label=f"{label}, ours", **look)
    ax.plot(cells["signal"], cells["printed"], mark, color=color, markersize=6, label=f"{label}, printed")


def _number(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"


def _ours(cell: pd.Series) -> str:
    digits = 4 if cell["ours"] < 0.1 else 3 if cell["ours"] < 1 else 2
    return f"{cell['ours']:.{digits}f} ± {cell['se']:.{digits}f}"
