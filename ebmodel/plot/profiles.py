"""Figures of a likelihood profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.special import gammaincinv

from ebmodel.plot.style import BAND, BLUE, EM, ORANGE, REFERENCE, above, new_axes, styled

__all__ = ["profile"]

LABELS = {
    "tau1": "τ₁, share of active tissues",
    "eta": "η, scale of the slab's covariance",
    "sigma2": "σ², error variance (expression²)",
    "kappa": "κ, scale of the mean's prior",
}
DEPTH = 3.0
"""Of the figure, in units of the drop that bounds the region."""


@styled
def profile(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """How far the likelihood falls as one parameter leaves its estimate; the region, and the Wald interval beside it.

    Values at which the curve is above the dashed line are those that the data do not speak against: the shaded region.
    Where the curve is no parabola the Wald interval, which takes it for one, is another; a curve that stays above the
    line to the margin says that the data bound the parameter on one side only.

    Parameters
    ----------
    dataset
        As from `ebmodel.profile`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure; natural logarithms up. A region without end is shaded to the margin. An edge
        of the range that the region leaves out, though it comes as near as one likes, is an open circle. At an edge
        there is no Wald interval.
    """
    ax = ax if ax is not None else new_axes(6.4, 4.2)
    name, level = dataset.attrs["parameter"], dataset.attrs["level"]
    x, drop = dataset[name].to_numpy(), (dataset["loglik"] - dataset["maximum"]).to_numpy()
    estimate, lower, upper = (float(dataset[key]) for key in ("estimate", "lower", "upper"))
    cut = float(gammaincinv(0.5, level))  # half the chi-squared quantile, one degree of freedom
    percent = f"{100 * level:g} %"
    ax.axvspan(lower, min(upper, x[-1]), color=BAND, zorder=0, label=f"{percent} region")
    ax.axhline(-cut, **REFERENCE, label=f"drop of {cut:.2f}")
    ax.plot(x, drop, color=BLUE, linestyle="-", marker="o", markersize=3.5, zorder=3, label="profile")
    ax.axvline(estimate, color=BLUE, linestyle=":", zorder=2, label=f"estimate, {estimate:.3g}")
    wald = np.array([float(dataset["wald_lower"]), float(dataset["wald_upper"])])
    if np.isfinite(wald).all():
        ax.plot(wald, [-0.5 * cut] * 2, linestyle="-", marker="|", markersize=9, label=f"{percent} Wald interval", **EM)
    edge = float(dataset["edge"])
    if edge in x and lower <= edge <= upper and not bool(dataset["inside"].sel({name: edge})):
        open_circle: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "white", "linestyle": "none"}
        ax.plot(edge, drop[x == edge][0], color=ORANGE, zorder=5, label=f"{edge:g} is left out", **open_circle)
    pad = 0.02 * (x[-1] - x[0])
    ax.set(xlabel=LABELS[name], ylabel=f"{dataset.attrs['of']} below its maximum")
    ax.set(xlim=(x[0] - pad, x[-1] + pad), ylim=(-DEPTH * cut, 0.15 * cut))
    above(ax, columns=3)
    return ax
