"""Theorems 1 and 3: how much the oracle gains over least squares, beside what the paper and its argument promise.

Nothing is simulated but designs and which responses are missing: given these, risks and bounds are exact, so that a
bound above the gain is false without doubt.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ebmodel.model import Params
from ebmodel.plot.style import BAND, BLUE, INK, ORANGE, REFERENCE, new_figure, outside, styled
from ebmodel.risk import bayes_risk, lower_bound
from simulations.store import Record
from simulations.study import Cell, Study, Whole
from simulations.tables import Table

N, TISSUES = 30, 10
P = (1, 2, 5)
TAU1 = (0.2, 0.5, 0.99)
RATIOS = (0.5, 2.0, 10.0, 50.0)
"""eta / sigma2."""
NORMS = (0.0, 0.3, 2.0)
"""|beta|, with sigma2 = 1."""
MISSING = (0.0, 0.2)
"""None: Theorem 1. A share of each tissue's responses: Theorem 3."""
FORMS = {
    "printed": "as printed",
    "corrected": "corrected",
    "centred": "centred",
    "direct": "direct, without α",
    "linear": "R(OLS) − R(best linear)",
}
SURE = 3.0
"""Standard errors."""
ROUNDING = 1e-9


def gains(cell: Cell, stream: np.random.SeedSequence) -> Record:
    """R(OLS), what the oracle gains on it, and every bound on that at its best alpha, for one design, loss |.|^2."""
    rng = np.random.default_rng(stream)
    p = int(cell["p"])
    X = rng.standard_normal((N, p))
    beta = np.full(p, float(cell["norm"]) / np.sqrt(p))
    params = Params(tau1=float(cell["tau1"]), beta=beta, eta=float(cell["ratio"]), sigma2=1.0)
    gone = round(float(cell["missing"]) * N)
    observed = rng.permuted(np.arange(N)[:, None] >= np.full(TISSUES, gone), axis=0)
    risk = bayes_risk(params, X, ["ols", "linear", "oracle", "informed"], observed=observed).risk
    ols, linear, oracle, informed = risk.to_numpy()
    found = {"ols": ols, "gain": ols - oracle, "linear": ols - linear, "most": ols - informed}
    theorem = 3 if gone else 1
    return found | {form: lower_bound(params, X, form, theorem=theorem).value for form in list(FORMS)[:4]}


def by_cell(results: pd.DataFrame) -> pd.DataFrame:
    """Means over designs and, for every form, by how many standard errors the bound is above the gain."""
    keys = list(CELLS[0])
    means = results.groupby(keys)[["ols", "gain", "most", *FORMS]].mean()
    for form in FORMS:
        excess = (results[form] - results["gain"]).groupby([results[key] for key in keys])
        means[f"z_{form}"] = excess.mean() / excess.sem()
        means[f"share_{form}"] = (results[form] > results["gain"] * (1 + ROUNDING)).groupby(
            [results[key] for key in keys]
        ).mean()  # fmt: skip
    return means.reset_index()


def as_table(results: pd.DataFrame) -> Table:
    """For every form and theorem: in how many cells and single designs it is false, and how near it comes."""
    cells, rows = by_cell(results), []
    for form, label in FORMS.items():
        row = [label]
        for complete in (True, False):
            some = cells[(cells["missing"] == 0.0) == complete]
            single = results[(results["missing"] == 0.0) == complete]
            false = int((some[f"z_{form}"] > SURE).sum())
            broken = int((single[form] > single["gain"] * (1 + ROUNDING)).sum())
            ratio = single[form] / single["gain"]
            row += [
                f"{false} of {len(some)}",
                f"{broken} of {len(single)}",
                _number(ratio.max()),
                _number(ratio.median()),
            ]
        rows.append(row)
    header = ["bound"]
    for theorem in (1, 3):
        header += [f"Theorem {theorem}: false in cells", "in designs", "largest bound / gain", "median"]
    caption = (
        f"Lower bounds at their best α against the exact gain R(OLS) − R(oracle): cells where the bound's mean over "
        f"designs is above the gain's by more than {SURE:g} standard errors, and single designs where it is above"
    )
    return Table("bounds", caption, header, rows)


def cell_table(results: pd.DataFrame) -> Table:
    """Every cell: gain and bounds as percentages of R(OLS)."""
    rows = []
    for _, cell in by_cell(results).iterrows():
        row = [f"{cell[key]:g}" for key in CELLS[0]]
        row += [f"{100 * cell[name] / cell['ols']:.3g}" for name in ("gain", *FORMS, "most")]
        if cell["z_printed"] > SURE:
            at = len(CELLS[0]) + 1
            row[at] = f"**{row[at]}**"
        rows.append(row)
    header = ["p", "τ₁", "η/σ²", "norm of β", "missing", "gain", *FORMS.values(), "I(t) known"]
    caption = (
        "Gain of the oracle over least squares and bounds on it, in per cent of R(OLS), means over designs; bold: the "
        f"printed bound is false by more than {SURE:g} standard errors"
    )
    return Table("bounds_cells", caption, header, rows)


def table(results: pd.DataFrame) -> str:
    """The counts, and where the print fails."""
    return f"{as_table(results).markdown()}\n\n{finding(results)}"


def finding(results: pd.DataFrame) -> str:
    """Where the print fails."""
    cells = by_cell(results)
    false = cells[cells["z_printed"] > SURE]
    if false.empty:
        return "The printed bound is false in no cell."
    tau1, ratio = (f"{false[key].min():g}" for key in ("tau1", "ratio"))
    worst = (false["printed"] / false["gain"]).max()
    where = f"only in cells with τ₁ ≥ {tau1} and η/σ² ≥ {ratio}, by a factor of up to {worst:.1f}"
    return f"The printed bound is false {where}."


@styled
def figure(results: pd.DataFrame) -> Figure:
    """Every cell's bound against its gain, both as shares of R(OLS): what is above the diagonal is false."""
    cells = by_cell(results)
    shown = ("printed", "corrected", "direct", "linear")
    drawing = new_figure(11.0, 3.5)
    panels = drawing.subplots(1, len(shown), sharex=True, sharey=True)
    floor = 1e-5
    for ax, form in zip(panels, shown, strict=True):
        ax.plot([floor, 1.0], [floor, 1.0], **REFERENCE)
        ax.fill_between([floor, 1.0], [floor, 1.0], [2.0, 2.0], color=BAND, linewidth=0, zorder=0)
        for complete, label, look in (
            (True, "Theorem 1: complete data", {"marker": "o", "color": BLUE}),
            (False, "Theorem 3: 20 % missing", {"marker": "s", "color": ORANGE, "markerfacecolor": "none"}),
        ):
            some = cells[(cells["missing"] == 0.0) == complete]
            share = np.maximum(some[form] / some["ols"], floor)
            ax.plot(some["gain"] / some["ols"], share, linestyle="", markersize=4, label=label, clip_on=False,
                    **look)  # fmt: skip
        ax.set(xscale="log", yscale="log", xlim=(0.01, 1.0), ylim=(floor, 2.0), title=FORMS[form],
               xlabel="gain / R(OLS)")  # fmt: skip
    panels[0].set_ylabel("bound / R(OLS)")
    panels[0].text(0.012, 0.8, "false", fontsize=9, color=INK, va="center")
    panels[1].text(0.012, 1.6 * floor, f"at the foot: less than {floor:g}", fontsize=8, color=INK)
    outside(drawing, panels[0], 2)
    return drawing


def _number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value > 0.0 else "0"


CELLS: list[Cell] = [
    {"p": p, "tau1": tau1, "ratio": ratio, "norm": norm, "missing": missing}
    for p, tau1, ratio, norm, missing in product(P, TAU1, RATIOS, NORMS, MISSING)
]
STUDY = Study(
    "bounds",
    CELLS,
    20,
    Whole(gains),
    table,
    figure,
    batch=20,
    tables=lambda results: [as_table(results), cell_table(results)],
)
