"""Figures of a likelihood profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.special import gammaincinv

from ebmodel.plot.style import EM, above, new_axes

__all__ = ["profile"]

LABELS = {
    "tau1": "τ₁, share of active tissues",
    "eta": "η, scale of the slab's covariance",
    "sigma2": "σ², error variance (expression²)",
    "kappa": "κ, scale of the mean's prior",
}
DEPTH = 3.0
"""Of the figure, in units of the drop that bounds the region."""


def profile(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """How far the likelihood falls as one parameter leaves its estimate; the region, and the Wald interval beside it.

    Parameters
    ----------
    dataset
        As from `ebmodel.profile`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        A region without end is shaded to the margin. An edge of the range that the region leaves out, though it comes
        as near as one likes, is an open circle. At an edge there is no Wald interval.
    """
    ax = ax if ax is not None else new_axes(6.4, 4.2)
    name, level = dataset.attrs["parameter"], dataset.attrs["level"]
    x, drop = dataset[name].to_numpy(), (dataset["loglik"] - dataset["maximum"]).to_numpy()
    estimate, lower, upper = (float(dataset[key]) for key in ("estimate", "lower", "upper"))
    cut = float(gammaincinv(0.5, level))  # half the chi-squared quantile, one degree of freedom
    percent = f"{100 * level:g} %"
    ax.axvspan(lower, min(upper, x[-1]), color="0.88", zorder=0, label=f"{percent} region")
    ax.axhline(-cut, color="0.3", linestyle="--", linewidth=1, zorder=1, label=f"drop of {cut:.2f}")
    ax.plot(x, drop, color="#0072B2", marker="o", markersize=3.5, zorder=3, label="profile")
    ax.axvline(estimate, color="#0072B2", linestyle=":", zorder=2, label=f"estimate, {estimate:.3g}")
    wald = np.array([float(dataset["wald_lower"]), float(dataset["wald_upper"])])
    if np.isfinite(wald).all():
        ax.plot(wald, [-0.5 * cut] * 2, marker="|", markersize=9, label=f"{percent} Wald interval", **EM)
    edge = float(dataset["edge"])
    if edge in x and lower <= edge <= upper and not bool(dataset["inside"].sel({name: edge})):
        open_circle: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "white", "linestyle": "none"}
        ax.plot(edge, drop[x == edge][0], color="#D55E00", zorder=5, label=f"{edge:g} is left out", **open_circle)
    pad = 0.02 * (x[-1] - x[0])
    ax.set(xlabel=LABELS[name], ylabel=f"{dataset.attrs['of']} below its maximum")
    ax.set(xlim=(x[0] - pad, x[-1] + pad), ylim=(-DEPTH * cut, 0.15 * cut))
    above(ax, columns=3)
    return ax
