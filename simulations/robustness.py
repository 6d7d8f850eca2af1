"""The robustness map: what each violation of the model does to the estimators, at growing strength, measure by measure.

Every cell has the same genotypes, active tissues, effects and errors but for what it violates (`violated` grows from
the model's own draws), so that a change from the model is a difference between pairs, and its standard error that of
pairs. Every number is a ratio of two means over data sets, its standard error that of ratios:

    r = mean a / mean b,      se(r) = sd(e_i) / sqrt(n),      e_i = (a_i - r b_i) / mean b
"""

from __future__ import annotations

from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ebmodel
from ebmodel.plot.style import FROM_WHITE, INK, new_figure, styled, written_on
from simulations.estimators import ESTIMATORS, Estimate
from simulations.metrics import METRICS
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

TRUTH = ebmodel.Params(tau1=0.5, beta=np.array([0.15, 0.1, 0.05, 0.0, 0.0, 0.0]), eta=2.0, sigma2=1.0)
"""Effects that leave tissues in doubt, so that rankings and error rates can move either way."""
N, M, RHO = 100, 50, 0.6
LARGEST_SHARE = 0.6
"""Missing in the smallest tissue; 20 % on average, and nothing in the largest."""
MODEL, FEW = "none", "few-tissues"
STRENGTHS = {
    "heavy-tails": (0.25, 0.5, 0.8),
    "skewed-errors": (0.5, 1.0, 2.0),
    "unequal-variances": (0.25, 0.5, 1.0),
    "correlated-errors": (0.1, 0.3, 0.6),
    "block-errors": (0.1, 0.3, 0.6),
    "curvature": (0.25, 0.5, 1.0),
    "two-slabs": (0.25, 0.5, 1.0),
    "slab-covariance": (0.25, 0.5, 1.0),
    "related-tissues": (0.25, 0.5, 1.0),
    "sample-size": (0.5, 1.0, 2.0),
    "small-effects": (0.05, 0.2, 0.5),
    "missing-by-value": (0.5, 1.0, 2.0),
    FEW: (0.5, 0.8, 0.9),
}
"""As in `ebmodel.simulate.VIOLATIONS`; few tissues violate nothing, and their strength is the share left out of 50."""
CELLS: list[Cell] = [
    {"violation": MODEL, "strength": 0.0},
    *({"violation": name, "strength": s} for name, strengths in STRENGTHS.items() for s in strengths),
]
WORDS = {
    "ols": "OLS", "oracle": "oracle", "exact": "exact posterior", "eb": "the paper's",
    "eb_power_zero": "power, mean zero", "eb_general": "power, hierarchical", "eb_selected": "selected",
}  # fmt: skip
OTHERS = ("eb_general", "eb_power_zero")
"""Fits of the map beside the paper's."""
SELECTED = 20
"""Data sets on which `ebmodel.select` is run, which takes as long as the rest together, at the largest strengths."""
SURE = 0.95


# What is run ---------------------------------------------------------------------------------------------------------


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Data from the model but for one assumption; X is correlated, and tissues differ in size."""
    # of study and replication, but not of the cell: the same draws everywhere
    genotypes, rest = np.random.SeedSequence([stream.entropy[0], stream.entropy[-1]]).spawn(2)
    rng, p = np.random.default_rng(genotypes), len(TRUTH.beta)
    C = np.full((p, p), RHO) + (1.0 - RHO) * np.eye(p)
    X = rng.standard_normal((N, p)) @ np.linalg.cholesky(C).T
    name, s = str(cell["violation"]), float(cell["strength"])
    m = tissues(s) if name == FEW else M
    missing = rng.permutation(LARGEST_SHARE * np.linspace(0.0, 1.0, m) ** 2)
    if name in {MODEL, FEW}:
        return ebmodel.simulate.model_true(TRUTH, m=m, missing=missing, X=X, seed=rest, posterior=False)
    return ebmodel.simulate.violated(name, s, TRUTH, m=m, missing=missing, X=X, seed=rest)


def tissues(strength: float) -> int:
    """How many are left."""
    return round(M * (1.0 - strength))


def oracle(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The posterior at the parameters of the model that is violated: what their estimation does not cost."""
    fit = ebmodel.oracle(data["X"], data["Y"], TRUTH)
    ends = fit.effects_interval()
    interval = ends["lower"].to_numpy(), ends["upper"].to_numpy()
    return Estimate(fit.effects.to_numpy(), fit.posterior_probability.to_numpy(), interval)


def sure(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Tissues with P(I=1 | Y) > 0.95: how many, how many of them are inactive, and the sum of their 1 - P(I=1 | Y).

    Over many data sets the second over the first is the false discovery rate of those who believe the probabilities,
    and the third over the first what these say that it is.
    """
    if estimate.probability is None:
        return dict.fromkeys(("sure", "sure_false", "sure_claimed"), np.nan)
    h, active = estimate.probability, data["active"].to_numpy()
    chosen = h > SURE
    counts = chosen.sum(), (chosen & ~active).sum(), (1.0 - h[chosen]).sum()
    return dict(zip(("sure", "sure_false", "sure_claimed"), map(float, counts), strict=True))


KNOWN = ("slab-covariance", "unequal-variances")
"""Violations under which the exact posterior is known."""


def closed_form(cell: Cell, replication: int) -> bool:  # noqa: ARG001
    """Where the posterior under the truth is known."""
    return cell["violation"] in {MODEL, *KNOWN}


def strongest(cell: Cell, replication: int) -> bool:
    """Where `ebmodel.select` is run."""
    name = str(cell["violation"])
    return replication < SELECTED and (name == MODEL or cell["strength"] == STRENGTHS[name][-1])


# What is measured ----------------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """A ratio of means over data sets."""

    word: str
    over: str
    """Metric above."""
    under: str | None
    """Column below; ``"model"`` for the same metric under the model, None for 1."""
    digits: int
    percent: bool
    worst: float
    """The change from the model that is drawn darkest."""
    factor: bool = False
    """Whether changes are factors and not differences."""


MEASURES = {
    "model": Measure("MSE / model's", "mse", "model", 2, False, 3.0, factor=True),
    "ols": Measure("MSE / OLS", "mse", "mse_ols", 2, False, 3.0, factor=True),
    "oracle": Measure("MSE / oracle", "mse", "mse_oracle", 2, False, 3.0, factor=True),
    "auc": Measure("AUC", "auc", None, 3, False, -0.2),
    "sure": Measure("FDR %, P>0.95", "sure_false", "sure_{part}", 1, True, 0.2),
    "fdr": Measure("FDR %, level 5 %", "fdp_0.05", None, 1, True, 0.2),
    "coverage": Measure("% covered at 95 %", "coverage", None, 1, True, -0.2),
}
"""Of ``"sure"`` the tissues with P(I=1) > 0.95, of ``"fdr"`` those called at a nominal rate of 5 %."""


class Measured(NamedTuple):
    """A measure in one cell, and its change from the model, with standard errors."""

    value: float
    error: float
    change: float
    """A difference; of an MSE the logarithm of the factor."""
    change_error: float


type Key = tuple[str, float]
"""Violation and strength."""
type Found = dict[Key, Measured]
"""A measure in every cell where the part was run."""


def measured(results: pd.DataFrame, part: str, name: str) -> Found:
    """A measure of a part, and how it changes from the model."""
    measure = MEASURES[name]
    a = _by_cell(results, f"{measure.over}_{part}")
    if measure.under is None:
        b = 0.0 * a + 1.0
    elif measure.under == "model":
        b = 0.0 * a + a.loc[[(MODEL, 0.0)]].to_numpy()
    else:
        b = _by_cell(results, measure.under.format(part=part))
    r, away = ratio(a, b)
    base, base_away = r[MODEL, 0.0], away.loc[(MODEL, 0.0)]
    if measure.factor:  # on a log scale errors are relative
        change, moved = np.log(r / base), away.div(r, axis=0) - base_away / base
    else:
        change, moved = r - base, away - base_away
    table = pd.DataFrame({"value": r, "error": error(away), "change": change, "change_error": error(moved)})
    return {key: Measured(*row) for key, *row in table.dropna(subset="value").itertuples()}


def _by_cell(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column by (violation, strength), in the map's order, and replication; nan where the part has none."""
    values = results[["violation", "strength", "replication"]].assign(value=results.get(column, np.nan))
    table = values.pivot_table("value", ["violation", "strength"], "replication", dropna=False, sort=False)
    return table.reindex([(str(cell["violation"]), float(cell["strength"])) for cell in CELLS])


def ratio(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """r = mean a / mean b by row, and e_i = (a_i - r b_i) / mean b, over the data sets that have both."""
    a, b = a.where(b.notna()), b.where(a.notna())
    mean = b.mean(axis=1).replace(0.0, np.nan)
    r = a.mean(axis=1) / mean
    return r, (a - b.mul(r, axis=0)).div(mean, axis=0)


def error(away: pd.DataFrame) -> pd.Series:
    """se(r) = sd(e_i) / sqrt(n), by row."""
    return away.std(axis=1, ddof=1) / np.sqrt(away.notna().sum(axis=1))


def _worse(found: Measured | None, measure: Measure) -> bool:
    """Whether it is worse than under the model by more than two standard errors."""
    return found is not None and bool(np.sign(measure.worst) * found.change > 2.0 * found.change_error)


# What is shown -------------------------------------------------------------------------------------------------------


def label(violation: str, strength: float) -> str:
    """A cell in words."""
    if violation == MODEL:
        return "the model"
    return f"{tissues(strength)} tissues" if violation == FEW else f"{violation} {strength:g}"


def as_table(results: pd.DataFrame, part: str, cells: list[Cell] | None = None) -> Table:
    """Every measure of one fit, by violation and strength."""
    every = {name: measured(results, part, name) for name in MEASURES}
    rows = []
    for cell in cells or CELLS:
        key = str(cell["violation"]), float(cell["strength"])
        if key in every["model"]:
            row = [_shown(every[name].get(key), measure) for name, measure in MEASURES.items()]
            rows.append([label(*key), *row])
    n = int(results[f"mse_{part}"].notna().groupby([results["violation"], results["strength"]]).sum().max())
    caption = (
        f"One assumption violated; fit: {WORDS[part]}. Ratios of means over {n} data sets ± SE; bold: worse than under "
        "the model by more than two SE of the paired change."
    )
    return Table(f"robustness_{part}", caption, ["", *(measure.word for measure in MEASURES.values())], rows)


def _shown(found: Measured | None, measure: Measure) -> str:
    if found is None or not np.isfinite(found.value):
        return "–"
    scale, bold = (100.0 if measure.percent else 1.0), "**" if _worse(found, measure) else ""
    return f"{bold}{scale * found.value:.{measure.digits}f}{bold} ± {scale * found.error:.{measure.digits}f}"


def tables(results: pd.DataFrame) -> list[Table]:
    """One of each part."""
    return [as_table(results, part) for part in WORDS]


def finding(results: pd.DataFrame) -> str:
    """What the map shows of the paper's fit, in sentences."""
    found = {name: measured(results, "eb", name) for name in MEASURES}
    sentences = _costs(found), _mild(found), _against_ols(found["ols"]), _false_calls(found["sure"])
    return " ".join(filter(None, sentences))


def headline(results: pd.DataFrame) -> str:
    """Where the paper's fit calls most tissues active that are not."""
    measure, found = MEASURES["sure"], measured(results, "eb", "sure")
    worst = max((key for key in found if key[0] != FEW), key=lambda key: found[key].value)
    value, base = (_plain(found[key], measure) for key in (worst, (MODEL, 0.0)))
    return (
        f"Of the violations tried {label(*worst)} misleads most: of the tissues with P(I=1) > 0.95 {value} are "
        f"inactive, {base} under the model."
    )


def others(results: pd.DataFrame) -> str:
    """What it shows of the other fits."""
    return " ".join(filter(None, [*(_other(results, part) for part in OTHERS), _exact(results)]))


TOLD = {"model": "MSE", "auc": "AUC", "sure": "FDR of P(I=1) > 0.95", "coverage": "coverage of 95 % intervals"}


def _costs(found: dict[str, Found]) -> str:
    """Which violation costs the paper's fit most, measure by measure."""
    said = []
    for name, word in TOLD.items():
        measure, cells = MEASURES[name], {key: value for key, value in found[name].items() if key[0] != FEW}
        worst = max(cells, key=lambda key: cells[key].change / measure.worst)
        value, base = (_plain(cells[key], measure) for key in (worst, (MODEL, 0.0)))
        against = f"{value} times the model's" if name == "model" else f"{value} against {base} under the model"
        said.append(f"in {word} {label(*worst)} ({against})")
    return f"Of all violations the paper's fit loses most to: {'; '.join(said)}."


TRIFLES = {"model": np.log(1.1), "auc": -0.01, "sure": 0.02, "coverage": -0.02}
"""Changes from the model that are called little."""


def _mild(found: dict[str, Found]) -> str:
    """Which violations cost little, even at their largest strengths."""
    names = [
        name
        for name, strengths in STRENGTHS.items()
        if all(found[told][name, strengths[-1]].change / trifle < 1.0 for told, trifle in TRIFLES.items())
    ]
    much = "less than 10 % of MSE, 0.01 of AUC, and 2 points of that FDR and of coverage"
    return f"Even at their largest strengths {', '.join(names)} cost {much}." if names else ""


def _plain(found: Measured, measure: Measure) -> str:
    return f"{100 * found.value:.1f} %" if measure.percent else f"{found.value:.{measure.digits}f}"


def _against_ols(found: Found) -> str:
    """Where the paper's fit has the lower MSE, by more than two standard errors."""
    lost = {key: value for key, value in found.items() if value.value + 2.0 * value.error >= 1.0}
    worst = max(found, key=lambda key: found[key].value)
    if not lost:
        most = f"{found[worst].value:.2f} ± {found[worst].error:.2f} ({label(*worst)})"
        return f"Its MSE is below that of OLS at every strength; the ratio is at most {most}."
    said = ", ".join(f"{label(*key)} ({value.value:.2f} ± {value.error:.2f})" for key, value in lost.items())
    return f"Its MSE is below that of OLS, by more than two standard errors, at every strength but: {said}."


def _false_calls(found: Found) -> str:
    """From which strength on more than 5 % of the tissues with P(I=1) > 0.95 are inactive."""
    over: dict[str, str] = {}
    for (name, strength), value in found.items():
        if value.value - 2.0 * value.error > 1.0 - SURE:
            over.setdefault(name, f"{label(name, strength)} ({_percent(value)})")
    start = f"Of the tissues with P(I=1) > 0.95 {_percent(found[MODEL, 0.0])} are inactive under the model"
    if not over:
        return f"{start}, and nowhere more than 5 %."
    return f"{start}; more than 5 %, by more than two standard errors, from {', '.join(over.values())} on."


def _percent(found: Measured) -> str:
    return f"{100 * found.value:.1f} ± {100 * found.error:.1f} %"


def _other(results: pd.DataFrame, part: str) -> str:
    """Where another fit has a lower or a higher MSE than the paper's, at the largest strengths."""
    r, away = ratio(_by_cell(results, f"mse_{part}"), _by_cell(results, "mse_eb"))
    clear = (r - 1.0) / error(away)
    ends = [(name, strengths[-1]) for name, strengths in STRENGTHS.items()]
    lower, higher = ([f"{label(*key)} ({r[key]:.2f})" for key in ends if way * clear[key] > 2.0] for way in (-1, 1))
    said = [f"{way} with {', '.join(cells)}" for way, cells in (("below 1", lower), ("above 1", higher)) if cells]
    start = f"The MSE of the fit “{WORDS[part]}” over that of the paper's, at the largest strengths, is"
    return f"{start} {' and '.join(said)}, by more than two paired standard errors." if said else ""


def _exact(results: pd.DataFrame) -> str:
    """What is lost to the posterior under the truth, where that is known and the model is violated."""
    said, exact = [], _by_cell(results, "mse_exact")
    for key in ((name, STRENGTHS[name][-1]) for name in KNOWN):
        lost = {part: ratio(_by_cell(results, f"mse_{part}"), exact)[0][key] for part in ("eb", *OTHERS)}
        fits = ", ".join(f"{value:.2f} ({WORDS[part]})" for part, value in lost.items())
        said.append(f"{fits} with {label(*key)}")
    return f"The MSE over that of the exact posterior, where it is known, is {'; '.join(said)}."


def table(results: pd.DataFrame) -> str:
    """The README's part: the model and every largest strength for two fits, and what the others do."""
    ends = [
        cell for cell in CELLS if cell["violation"] == MODEL or cell["strength"] == STRENGTHS[cell["violation"]][-1]
    ]
    return "\n\n".join([*(as_table(results, part, ends).markdown() for part in ("eb", "eb_general")), others(results)])


MAPS = {"eb": tuple(MEASURES), **dict.fromkeys(OTHERS, ("ols", "auc", "sure", "coverage"))}
"""Columns for each fit."""


@styled
def figure(results: pd.DataFrame) -> Figure:
    """The map: a row for each violation and strength, a column for each measure; the paper's fit and others."""
    drawing = new_figure(12.6, 11.4)
    panels = drawing.subplots(1, len(MAPS), width_ratios=[len(names) for names in MAPS.values()])
    for ax, (part, names) in zip(panels, MAPS.items(), strict=True):
        robustness_map(ax, results, part, names, named=ax is panels[0])
    drawing.supxlabel(
        "Shaded: worse than under the model by more than two standard errors of the paired change; darkest: "
        + ", ".join(f"{words} {unit}" for words, unit in (("MSE", "× 3"), ("AUC", "−0.2"), ("FDR", "+20 points"),
                                                          ("coverage", "−20 points"))),
        fontsize=9,
    )  # fmt: skip
    return drawing


def robustness_map(ax: Axes, results: pd.DataFrame, part: str, names: tuple[str, ...], *, named: bool = True) -> Axes:
    """One fit's map: numbers in cells, the darker the worse than under the model."""
    every = {name: measured(results, part, name) for name in names}
    keys = list(every[names[0]])
    harm = np.array([[_harm(every[name].get(key), MEASURES[name]) for name in names] for key in keys])
    dark = 0.04 + 0.8 * harm
    shades = colormaps[FROM_WHITE](dark)
    shades[harm == 0.0] = 1.0
    ax.imshow(shades, aspect="auto")
    for (row, column), shade in np.ndenumerate(dark):
        measure, found = MEASURES[names[column]], every[names[column]].get(keys[row])
        if found is not None:
            text = f"{(100.0 if measure.percent else 1.0) * found.value:.{measure.digits}f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8.5, color=written_on(shade, FROM_WHITE))
    _frame(ax, keys, [MEASURES[name].word for name in names], named=named)
    ax.set_title(f"Fit: {WORDS[part]}", fontsize=11)
    return ax


def _harm(found: Measured | None, measure: Measure) -> float:
    """0 where not clearly worse than under the model, 1 at the darkest."""
    if not _worse(found, measure):
        return 0.0
    return float(np.clip(found.change / (np.log(measure.worst) if measure.factor else measure.worst), 0.0, 1.0))


def _frame(ax: Axes, keys: list[Key], heads: list[str], *, named: bool) -> None:
    """Names of rows and columns, and lines between violations."""
    ax.set_xticks(range(len(heads)), [fill(head, 10) for head in heads], fontsize=8.5)
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    ax.set_yticks(range(len(keys)), [label(*key) for key in keys] if named else [""] * len(keys), fontsize=9)
    for row in range(1, len(keys)):
        if keys[row][0] != keys[row - 1][0]:
            ax.axhline(row - 0.5, color=INK, linewidth=0.8)
    ax.spines[:].set_visible(False)


STUDY = Study(
    "robustness",
    CELLS,
    100,
    Comparison(
        data,
        {name: {"oracle": oracle, "exact": ESTIMATORS["oracle"]}.get(name) or ESTIMATORS[name] for name in WORDS},
        {"sure": sure, **{name: METRICS[name] for name in ("mse", "auc", "brier", "fdr", "coverage")}},
        {"exact": closed_form, "eb_selected": strongest},
    ),
    table,
    figure,
    batch=10,
    tables=tables,
)
