"""Figures of the EM fit beside the full posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ebmodel.labels import CHAIN, DRAW, QUANTITY, SNP, TISSUE
from ebmodel.model import Array
from ebmodel.plot.style import (
    ACTIVE,
    BLACK,
    BLUE,
    EFFECT_UNITS,
    EM,
    GREY,
    INK,
    LINE,
    REFERENCE,
    SEQUENTIAL,
    above,
    new_axes,
    new_figure,
    styled,
)
from ebmodel.results import Fit

__all__ = [
    "effects_compared",
    "hyperparameters",
    "probabilities_compared",
]

LABELLED, APART = 6, 0.1
"""At most this many tissues are named in a comparison: those whose probabilities are furthest, and this far, apart."""
GAP = 0.05
"""Between two names, of the axis."""
POINTS = 2000
"""Most draws shown in a scatter."""


@styled
def probabilities_compared(comparison: xr.Dataset, ax: Axes | None = None) -> Axes:
    """P(I(t)=1 | Y) of every tissue: EM across, full posterior up; the tissues that differ most are named.

    Points on the diagonal are tissues on which both agree. A curve flatter than the diagonal says that the EM, which
    takes its estimates for the truth, is too sure; long bars say how little is known for not knowing the
    hyperparameters.

    Parameters
    ----------
    comparison
        As from `ebmodel.compare`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Bars are the posterior intervals of P(I(t)=1 | Y, hyperparameters): what
        not knowing these leaves open.
    """
    P = _of(comparison, "probability")
    em, mean, lower, upper = (P[name].to_numpy() for name in ("em", "mean", "lower", "upper"))
    ax = ax if ax is not None else new_axes(6.4, 5.8)
    ax.plot([0.0, 1.0], [0.0, 1.0], **REFERENCE, label="EM = posterior")
    ax.vlines(em, lower, upper, color=LINE, linewidth=1, zorder=2, label=f"{_percent(comparison)} interval")
    ax.scatter(em, mean, s=30, linewidths=1.4, zorder=3, label="posterior mean", **ACTIVE)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set(xlabel="P(I(t) = 1 | Y) by EM", ylabel="P(I(t) = 1 | Y), full posterior")
    gap = np.abs(em - mean)
    far = [k for k in np.argsort(-gap, kind="stable")[:LABELLED] if gap[k] > APART]
    for left in (True, False):
        some = [k for k in far if (em[k] < 0.5) == left]
        _name(ax, P[TISSUE].to_numpy()[some], em[some], mean[some], 0.06 if left else -0.06)
    above(ax, columns=3)
    return ax


@styled
def effects_compared(
    comparison: xr.Dataset, axes: Sequence[Axes] | None = None, units: str = EFFECT_UNITS
) -> NDArray[np.object_]:
    """Effects of every SNP in every tissue, and the widths of their intervals: EM across, full posterior up.

    Points on the diagonal are effects on which both agree. Widths above it are what the EM leaves out by taking its
    estimates of the hyperparameters for the truth.

    Parameters
    ----------
    comparison
        As from `ebmodel.compare`.
    axes
        Two Axes to draw on; a new figure of two panels if None.
    units
        Of an effect, for the axes.

    Returns
    -------
    (2,) array of Axes
        ``axes``, or those of the new figure: effects, and widths; shaded by the posterior's P(I(t)=1).
    """
    E, P = _of(comparison, "effect"), _of(comparison, "probability")
    chance = dict(zip(P[TISSUE].to_numpy(), P["mean"].to_numpy(), strict=True))
    shade = [chance[tissue] for tissue in E[TISSUE].to_numpy()]
    if axes is None:
        axes = new_figure(10.4, 5.0).subplots(1, 2)
    both = np.asarray(axes, dtype=object)
    panels = (
        (E["em"], E["mean"], f"effect\n({units})"),
        (
            E["em_upper"] - E["em_lower"],
            E["upper"] - E["lower"],
            f"width of {_percent(comparison)} interval\n({units})",
        ),
    )
    for ax, (x, y, what) in zip(both, panels, strict=True):
        ax.axline((0.0, 0.0), slope=1.0, **REFERENCE, label="EM = posterior")
        points = ax.scatter(x, y, c=shade, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0, s=22, edgecolors=INK,
                            linewidths=0.4, zorder=2)  # fmt: skip
        low, high = min(0.0, float(x.min()), float(y.min())), max(float(x.max()), float(y.max()))
        margin = 0.04 * (high - low or 1.0)
        ax.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
        ax.set_xlabel(f"EM: {what}", fontsize=9)
        ax.set_ylabel(f"Posterior: {what}", fontsize=9)
        above(ax, columns=1)
    both[0].figure.colorbar(points, ax=list(both), label="P(I(t) = 1 | Y), full posterior")
    return both


@styled
def hyperparameters(fit: Fit, tree: xr.DataTree, figure: Figure | None = None) -> NDArray[np.object_]:
    """Where the EM's point lies in the posterior of the hyperparameters: every one alone, and every two.

    The EM's star should lie where draws are dense; where it does not, the prior matters, or the maximum of the
    likelihood is not where most of the posterior is. A narrow cloud along a slope is a pair of hyperparameters of which
    the data know one combination well and the other badly.

    Parameters
    ----------
    fit
        As from `ebmodel.fit`.
    tree
        As from `ebmodel.sample`, on the same data.
    figure
        Where to draw, empty; a new one if None.

    Returns
    -------
    (k, k) array of Axes
        Those of the figure: of tau1, log10 eta, sigma2, the length of beta and, where they are parameters, alpha and
        log10 kappa (which the EM has not). Those above the diagonal are off. An eta of 0 is an arrow at the edge.
    """
    columns = _hyperparameter_columns(fit, tree)
    k = len(columns)
    figure = figure if figure is not None else new_figure(2.3 * k, 2.1 * k + 0.3)
    axes: NDArray[np.object_] = figure.subplots(k, k, squeeze=False)
    kept = np.unique(np.linspace(0, len(columns[0][1]) - 1, POINTS).astype(int))
    for i, (name, values, em) in enumerate(columns):
        for j, (other, across, em_across) in enumerate(columns):
            ax = axes[i, j]
            if j > i:
                ax.set_axis_off()
            elif i == j:
                ax.hist(values, bins=40, color=LINE, edgecolor="none")
                ax.set_yticks([])
                _mark(ax, em, None)
            else:
                ax.scatter(across[kept], values[kept], s=4, color=BLUE, alpha=0.25, linewidths=0, rasterized=True)
                _mark(ax, em_across, em)
            ax.set_xlabel(other if i == k - 1 else "")
            ax.set_ylabel(name if j == 0 < i else "")
            ax.tick_params(labelbottom=i == k - 1, labelleft=j == 0 < i, labelsize=8)
    for j in range(k):  # one scale a column and row, also where the EM's point widens one panel
        _align(axes, j)
    _mark_boundaries(axes, columns)
    handles = [Line2D([], [], color=BLUE, marker="o", linestyle="", markersize=4, label="draws of the posterior"),
               Line2D([], [], marker="*", markersize=11, linestyle="--", markeredgecolor=BLACK, color=EM["color"],
                      label="EM")]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper right", frameon=False, fontsize=9)
    return axes


def _of(comparison: xr.Dataset, kind: str) -> xr.Dataset:
    return comparison.isel({QUANTITY: np.flatnonzero(comparison["kind"] == kind)})


def _percent(comparison: xr.Dataset) -> str:
    return f"{100 * comparison.attrs['level']:g} %"


def _name(ax: Axes, names: NDArray[Any], x: Array, y: Array, shift: float) -> None:
    """Write names beside points, ``shift`` away, no two closer than `GAP`, each tied to its point."""
    order = np.argsort(y)
    places = np.array(y, dtype=float)[order]
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + GAP)
    for k in reversed(range(len(places))):  # back below the upper edge
        places[k] = min(places[k], 1.0 - GAP * (len(places) - 1 - k))
    for k, place in zip(order, places, strict=True):
        ax.annotate(str(names[k]), (x[k], y[k]), (x[k] + shift, place), va="center", fontsize=8, zorder=5,
                    ha="left" if shift > 0 else "right", arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
                    bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.8, "linewidth": 0})  # fmt: skip


def _hyperparameter_columns(fit: Fit, tree: xr.DataTree) -> list[tuple[str, Array, float]]:
    """Name, draws (all chains after each other) and EM value of each; -inf for log 0, NaN where the EM has none."""
    posterior, theta = tree["posterior"].to_dataset(), fit.params
    length = (posterior["beta"] ** 2).sum(SNP) ** 0.5
    em: dict[str, tuple[xr.DataArray, float]] = {
        "τ₁": (posterior["tau1"], theta.tau1),
        "log₁₀ η": (posterior["eta"], theta.eta),
        "σ² (expression²)": (posterior["sigma2"], theta.sigma2),
        "‖β‖": (length, float(np.linalg.norm(theta.beta))),
    }
    if "alpha" in posterior:
        em["α"] = posterior["alpha"], theta.alpha
    if "kappa" in posterior:
        em["log₁₀ κ"] = posterior["kappa"], float("nan")
    columns = []
    for name, (draws, value) in em.items():
        values, point = draws.transpose(CHAIN, DRAW).to_numpy().ravel(), np.float64(value)
        if name.startswith("log"):
            with np.errstate(divide="ignore"):
                values, point = np.log10(values), np.log10(point)
        columns.append((name, values, float(point)))
    return columns


def _mark(ax: Axes, x: float, y: float | None) -> None:
    """The EM's value: a line in a histogram, lines and a star in a scatter; nothing where it is not finite."""
    lines = {"color": EM["color"], "linewidth": 1, "linestyle": "--", "zorder": 3}
    if np.isfinite(x):
        ax.axvline(x, **lines)
    if y is not None and np.isfinite(y):
        ax.axhline(y, **lines)
        if np.isfinite(x):
            ax.plot(x, y, marker="*", markersize=11, color=EM["color"], markeredgecolor=BLACK,
                    markeredgewidth=0.6, zorder=4)  # fmt: skip


def _align(axes: NDArray[np.object_], j: int) -> None:
    """One range for hyperparameter j, across in its column and up in its row."""
    column, row = axes[j:, j], axes[j, :j]
    limits = np.array([ax.get_xlim() for ax in column] + [ax.get_ylim() for ax in row])
    low, high = limits[:, 0].min(), limits[:, 1].max()
    for ax in column:
        ax.set_xlim(low, high)
    for ax in row:
        ax.set_ylim(low, high)


def _mark_boundaries(axes: NDArray[np.object_], columns: list[tuple[str, Array, float]]) -> None:
    """An arrow at the edge for an EM value of 0 on a logarithmic axis, and the words beside the histogram's."""
    look = {"color": EM["color"], "clip_on": False, "zorder": 5, "markersize": 8, "markeredgecolor": BLACK}
    for j, (name, _, em) in enumerate(columns):
        if not np.isneginf(em):
            continue
        axes[j, j].plot(0.0, 0.5, marker="<", transform=axes[j, j].transAxes, **look)
        symbol = name.removeprefix("log₁₀ ")
        axes[j, j].text(0.06, 0.5, f"EM: {symbol} = 0", transform=axes[j, j].transAxes, fontsize=8, va="center",
                        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}, zorder=6)  # fmt: skip
        for i in range(j + 1, len(columns)):
            ax, y = axes[i, j], columns[i][2]
            if np.isfinite(y):
                ax.plot(0.0, y, marker="<", transform=ax.get_yaxis_transform(), **look)
        for i in range(j):
            ax, x = axes[j, i], columns[i][2]
            if np.isfinite(x):
                ax.plot(x, 0.0, marker="v", transform=ax.get_xaxis_transform(), **look)
