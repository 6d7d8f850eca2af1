"""mash against least squares and ash on simulated effects: Figure 2 of Urbut et al. (2019), with what it leaves out.

The four scenarios of `ebmodel.mash.simulation`: two are published, "shared, structured" and "shared, unstructured", and
of the published size, 44 conditions and 20,000 effects of which 400 are not null; in the other two conditions have
nothing to share. Of every method, over all effects and conditions:

==============  =======================================================================================================
``rrmse``       root mean squared error of the estimates, over that of least squares
``auc``         area under the published curve: true positives are effects called with the right sign, as a share of
                effects, false ones null effects called, as a share of these
``tpr_k``       that curve: true positives where k in a thousand null effects are called
``unit_auc``    area under the usual curve for whether a row of effects has any, by Bayes factor or best condition
``called_t``    effects with lfsr < t, their ``wrong_t`` (no effect, or of the other sign), and the sum of their lfsr,
                ``claimed_t``: wrong/called is at most what is claimed if the lfsr is calibrated
``power``       share of effects with lfsr < .05 and the right sign
==============  =======================================================================================================

Least squares has no lfsr: its p-value takes the place. ash (Stephens 2017) takes every condition by itself; it is mash
with one condition: the same mixture of normals with a point mass, grid, penalty and convex problem, in one dimension.

Data-driven covariances of rank 1, or of few, tie the sign of an effect in one condition to its signs in all others: an
effect that is surely not null in one has an lfsr next to 0 in all. ``mash`` has mashr's recipe, canonical ones and
principal components that deconvolution does not turn; ``free`` lets them turn to where strong effects are most likely,
and adds the strong effects' second moments without errors, shrunk towards their diagonal, of full rank; ``full_rank``
keeps the latter alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import ndtr

import ebmodel.mash
from ebmodel.calibration import auc
from ebmodel.labels import CONDITION
from ebmodel.mash.data import tidy
from ebmodel.mash.posterior import posterior
from ebmodel.mash.results import posterior_dataset
from ebmodel.mash.simulation import GTEX, scenario, true_prior
from ebmodel.model import Array
from ebmodel.plot.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, new_figure, outside, styled
from simulations.study import Cell, Comparison, Study
from simulations.tables import Table

TISSUES = GTEX
EFFECTS, SHARE, SHAT = 20_000, 0.02, 0.1
SCALES = (0.1, 0.2, 0.4)
"""omega: effects of the size of their errors, and up to four times it."""
THRESHOLDS = (0.01, 0.05, 0.1, 0.2)
POWER = 0.05
"""The threshold of ``power``."""
RATES = np.linspace(0.0, 0.2, 21)
"""False positive rates at which the curve is kept; the published figure ends at the last."""
WORDS = {
    "ols": "OLS", "ash": "ash, one condition at a time", "canonical": "mash, canonical",
    "mash": "mash, mashr's recipe", "free": "mash, low rank but free to turn",
    "full_rank": "mash, data-driven of full rank",
    "oracle": "the true prior",
}  # fmt: skip
SHORT = {
    "ash": "ash",
    "canonical": "canonical",
    "mash": "mashr's recipe",
    "free": "free to turn",
    "full_rank": "full rank",
    "oracle": "the true prior",
}
SCENARIOS = {
    "structured": "shared, structured", "unstructured": "shared, unstructured", "specific": "in one condition",
    "independent": "independent",
}  # fmt: skip


# What is compared ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method says of every effect in every condition."""

    mean: Array
    """(effect, condition)"""
    lfsr: Array
    """(effect, condition) local false sign rates, or what takes their place; the smaller, the surer."""
    evidence: Array
    """(effect,) that there is an effect in any condition; the larger, the surer."""


type Method = Callable[[xr.Dataset, np.random.SeedSequence], Estimate]


def ols(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The estimates as they are, with two-sided p-values."""
    bhat, shat = data["bhat"].to_numpy(), data["shat"].to_numpy()
    p = 2.0 * ndtr(-np.abs(bhat / shat))
    return Estimate(bhat, p, -p.min(axis=1))


def ash(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """Every condition by itself."""
    bhat, shat = data["bhat"].to_numpy(), data["shat"].to_numpy()
    fits = [ebmodel.mash.fit(bhat[:, [r]], shat[:, [r]], covariances="canonical") for r in range(bhat.shape[1])]
    mean, lfsr = (np.concatenate([fit.dataset[name] for fit in fits], axis=1) for name in ("mean", "lfsr"))
    return Estimate(mean, lfsr, -lfsr.min(axis=1))


def mash(
    data: xr.Dataset,
    stream: np.random.SeedSequence,  # noqa: ARG001
    *,
    covariances: str | Sequence[str],
) -> Estimate:
    """All conditions together, with these kinds of covariances."""
    return _of(ebmodel.mash.fit(data["bhat"], data["shat"], covariances=covariances).posterior)


def free(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """All conditions together, with covariances of any rank that turn to where strong effects are most likely."""
    learned = ebmodel.mash.data_driven(tidy(data["bhat"], data["shat"]), directions="free")
    covariances = [*ebmodel.mash.canonical(data[CONDITION].to_numpy()), *learned]
    return _of(ebmodel.mash.fit(data["bhat"], data["shat"], covariances=covariances).posterior)


def oracle(data: xr.Dataset, stream: np.random.SeedSequence) -> Estimate:  # noqa: ARG001
    """The posterior under the prior that the effects were drawn from: of all methods the least expected error."""
    if data.attrs["scenario"] == "independent":
        return cell_by_cell(data, SCALES, SHARE)
    effects = tidy(data["bhat"], data["shat"])
    return _of(posterior_dataset(effects, *posterior(effects, true_prior(data))))


def cell_by_cell(data: xr.Dataset, scales: Sequence[float], share: float) -> Estimate:
    """The posterior where every single effect is from (1 - share) delta_0 + share mean_l N(0, omega_l^2)."""
    b, v = data["bhat"].to_numpy()[..., None], data["shat"].to_numpy()[..., None] ** 2
    omega2 = np.append(0.0, np.square(scales))
    prior = np.append(1.0 - share, np.full(len(scales), share / len(scales)))
    density = prior * np.exp(-0.5 * b**2 / (v + omega2)) / np.sqrt(v + omega2)
    weight = density / density.sum(axis=-1, keepdims=True)
    shrunk = omega2 / (v + omega2)
    mean, sd = shrunk * b, np.sqrt(shrunk * v)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = np.where(sd > 0.0, ndtr(-mean / sd), 0.0)
    negative, zero = (weight * below).sum(axis=-1), weight[..., 0]
    positive = 1.0 - negative - zero
    null = np.log(density[..., 0] / prior[0]) - np.log(density.sum(axis=-1))
    return Estimate((weight * mean).sum(axis=-1), zero + np.minimum(negative, positive), -null.sum(axis=1))


def _of(posterior: xr.Dataset) -> Estimate:
    return Estimate(*(posterior[name].to_numpy() for name in ("mean", "lfsr", "log10_bf")))


# How they are judged -------------------------------------------------------------------------------------------------


def errors(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """RRMSE over all effects, and over those that are not null."""
    b, bhat = data["b"].to_numpy(), data["bhat"].to_numpy()
    real = b != 0.0
    return {
        "rrmse": _ratio(estimate.mean - b, bhat - b),
        "rrmse_real": _ratio((estimate.mean - b)[real], (bhat - b)[real]),
    }


def _ratio(error: Array, least_squares: Array) -> float:
    return float(np.sqrt(np.mean(error**2) / np.mean(least_squares**2)))


def ranking(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """The published curve, the area under it, and that for whole rows of effects."""
    score, b = -estimate.lfsr.ravel(), data["b"].to_numpy()
    real = (b != 0.0).ravel()
    # an effect with the wrong sign is never a true positive
    signed = np.where(real & (np.sign(estimate.mean) != np.sign(b)).ravel(), -np.inf, score)
    null = np.sort(score[~real])[::-1]
    cut = null[np.minimum((RATES * len(null)).astype(int), len(null) - 1)]
    curve = {f"tpr_{1000 * rate:.0f}": float(np.mean(signed[real] > c)) for rate, c in zip(RATES, cut, strict=True)}
    some = (b != 0.0).any(axis=1)
    return {"auc": auc(signed, real), "unit_auc": auc(estimate.evidence, some), **curve}


def calls(estimate: Estimate, data: xr.Dataset) -> dict[str, float]:
    """Effects called at each threshold of the lfsr, how many of them wrongly, and by their own account."""
    b, lfsr = data["b"].to_numpy(), estimate.lfsr
    wrong = (b == 0.0) | (np.sign(estimate.mean) != np.sign(b))
    found: dict[str, float] = {}
    for t in THRESHOLDS:
        chosen = lfsr < t
        found[f"called_{t:g}"] = float(chosen.sum())
        found[f"wrong_{t:g}"] = float((chosen & wrong).sum())
        found[f"claimed_{t:g}"] = float(lfsr[chosen].sum())
    return found | {"power": float(((lfsr < POWER) & ~wrong).sum() / (b != 0.0).sum())}


def data(cell: Cell, stream: np.random.SeedSequence) -> xr.Dataset:
    """Effects of a scenario."""
    name = str(cell["scenario"])
    return scenario(name, effects=EFFECTS, share=SHARE, conditions=TISSUES, scales=SCALES, shat=SHAT, seed=stream)


# What is shown -------------------------------------------------------------------------------------------------------


def _cells(results: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Results by scenario."""
    return [(name, results[results["scenario"] == name]) for name in SCENARIOS if (results["scenario"] == name).any()]


def mean_and_error(values: pd.Series) -> tuple[float, float]:
    """Mean over replications and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def ratio_and_error(a: pd.Series, b: pd.Series) -> tuple[float, float]:
    """sum a / sum b, and its standard error from e_i = (a_i - r b_i) / mean b."""
    r = float(a.sum() / b.sum()) if b.sum() else np.nan
    return r, float(((a - r * b) / b.mean()).std(ddof=1) / np.sqrt(len(a)))


def shown(value: float, error: float, form: str = ".3f") -> str:
    """A number with its standard error, or a dash."""
    return f"{value:{form}} ± {error:{form}}" if np.isfinite(value) else "–"


def accuracy_table(results: pd.DataFrame) -> Table:
    """RRMSE, and the areas under the curves."""
    rows = []
    for name, group in _cells(results):
        for metric, word in (("rrmse", "RRMSE"), ("rrmse_real", "RRMSE of effects that are not null"),
                             ("auc", "AUC, right sign"), ("unit_auc", "AUC, any condition")):  # fmt: skip
            values = [shown(*mean_and_error(group[f"{metric}_{part}"])) for part in WORDS]
            rows.append([f"{SCENARIOS[name]}: {word}", *values])
    n = int(results.groupby("scenario").size().min())
    caption = (
        f"Effects of {EFFECTS} rows in {len(TISSUES)} conditions, {100 * SHARE:g} % of them not null, standard errors "
        f"{SHAT:g}: means over {n} data sets ± SE. RRMSE is relative to OLS."
    )
    return Table("mash_accuracy", caption, ["", *WORDS.values()], rows)


def calibration_table(results: pd.DataFrame) -> Table:
    """Share of wrong signs among the effects called, and what the lfsr claims of it."""
    rows = []
    for name, group in _cells(results):
        for t in THRESHOLDS[:2]:
            row = [f"{SCENARIOS[name]}: wrong among lfsr < {t:g}"]
            for part in WORDS:
                called, wrong, claimed = (group[f"{kind}_{t:g}_{part}"] for kind in ("called", "wrong", "claimed"))
                value = shown(*ratio_and_error(wrong, called), ".4f")
                row.append(value if part == "ols" else f"{value} ({ratio_and_error(claimed, called)[0]:.4f})")
            rows.append(row)
        powers = [shown(*mean_and_error(group[f"power_{part}"])) for part in WORDS]
        rows.append([f"{SCENARIOS[name]}: power at {POWER:g}", *powers])
    caption = (
        "Effects called that have no effect or the other sign, ± SE (in brackets what the lfsr claims on average; OLS: "
        "p-values in its place), and effects called with the right sign."
    )
    return Table("mash_calibration", caption, ["", *WORDS.values()], rows)


def finding(results: pd.DataFrame) -> str:
    """What mash gains on ash, data-driven covariances on canonical ones, and at what price, data set by data set."""
    lines = []
    for name, group in _cells(results):
        said = []
        for part, other in (
            ("mash", "ash"),
            ("mash", "canonical"),
            ("full_rank", "canonical"),
            ("full_rank", "oracle"),
        ):
            change, error = mean_and_error(100 * (group[f"rrmse_{part}"] / group[f"rrmse_{other}"] - 1))
            said.append(f"{SHORT[part]} against {SHORT[other]} {change:+.1f} ± {error:.1f} %")
        wrong = (
            f"{100 * group[f'wrong_0.05_{part}'].sum() / group[f'called_0.05_{part}'].sum():.1f} % ({SHORT[part]})"
            for part in ("canonical", "mash", "free", "full_rank")
        )
        lines.append(f"- {SCENARIOS[name].capitalize()}: RRMSE of {', '.join(said)}; wrong among lfsr < .05: "
                     f"{', '.join(wrong)}.")  # fmt: skip
    return "\n".join(lines)


def table(results: pd.DataFrame) -> str:
    """The README's part."""
    parts = [accuracy_table(results).markdown(), calibration_table(results).markdown(), finding(results)]
    return "\n\n".join(parts)


LOOKS = {
    "ols": (GREY, ":", "//"), "ash": (ORANGE, "--", "\\\\"), "canonical": (SKY, "-.", ".."),
    "mash": (BLUE, "-", ""), "free": (PINK, (0, (3, 1, 1, 1, 1, 1)), "xx"),
    "full_rank": (GREEN, (0, (10, 3)), "--"), "oracle": (BLACK, (0, (1, 1)), "++"),
}  # fmt: skip


@styled
def figure(results: pd.DataFrame) -> Figure:
    """The published figure's two rows: the curves, and RRMSE below, by scenario."""
    drawing, panels = two_rows(_cells(results), SCENARIOS, curves, bars, 2.6, 5.6)
    panels[0, 0].set_ylabel("true positive rate, right sign")
    panels[1, 0].set_ylabel("RRMSE")
    outside(drawing, panels[0, 0], 3)
    return drawing


def two_rows(
    cells: Sequence[tuple[str, pd.DataFrame]],
    titles: Mapping[str, str],
    above: Callable[[Axes, pd.DataFrame], None],
    below: Callable[[Axes, pd.DataFrame], None],
    wide: float,
    tall: float,
) -> tuple[Figure, NDArray[np.object_]]:
    """A column of two panels for every cell, inches wide; the figure and its panels (2, cell)."""
    drawing = new_figure(wide * len(cells) + 0.5, tall)
    panels = drawing.subplots(2, len(cells), squeeze=False, sharey="row")
    for column, (name, group) in enumerate(cells):
        above(panels[0, column], group)
        below(panels[1, column], group)
        panels[0, column].set_title(titles[name], fontsize=10)
    return drawing, panels


def curves(ax: Axes, group: pd.DataFrame) -> None:
    """Mean true positive rate against the false one."""
    for part, (color, style, _) in LOOKS.items():
        rate = [group[f"tpr_{1000 * r:.0f}_{part}"].mean() for r in RATES]
        ax.plot(RATES, rate, color=color, linestyle=style, linewidth=1.5, label=WORDS[part])
    ax.set(xlabel="false positive rate", xlim=(0.0, RATES[-1]), ylim=(0.0, 1.0))


def bars(ax: Axes, group: pd.DataFrame) -> None:
    """RRMSE with standard errors, but for OLS, whose is 1."""
    parts = [part for part in LOOKS if part != "ols"]
    for place, part in enumerate(parts):
        value, error = mean_and_error(group[f"rrmse_{part}"])
        color, _, hatch = LOOKS[part]
        ax.bar(place, value, yerr=error, facecolor="white" if hatch else color, edgecolor=color, hatch=hatch, width=0.7)
    ax.set_xticks(range(len(parts)), [SHORT[part] for part in parts], rotation=30, ha="right", fontsize=8)


STUDY = Study(
    "mash",
    [{"scenario": name} for name in SCENARIOS],
    6,
    Comparison(
        data,
        {
            "ols": ols,
            "ash": ash,
            "canonical": partial(mash, covariances="canonical"),
            "mash": partial(mash, covariances=("canonical", "data-driven")),
            "free": free,
            "full_rank": partial(mash, covariances=("canonical", "full-rank")),
            "oracle": oracle,
        },
        {"errors": errors, "ranking": ranking, "calls": calls},
    ),
    table,
    figure,
    tables=lambda results: [accuracy_table(results), calibration_table(results)],
)
