"""Figures of a fit alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebmodel.labels import ALPHA, SNP, TISSUE
from ebmodel.plot.style import (
    ACTIVE,
    BAND,
    BLUE,
    EFFECT_UNITS,
    INACTIVE,
    INK,
    LINE,
    ORANGE,
    REFERENCE,
    SEQUENTIAL,
    above,
    new_axes,
    new_figure,
    styled,
)
from ebmodel.results import Fit

__all__ = ["alpha_profile", "overview", "posterior_probability", "shrinkage"]


@styled
def posterior_probability(fit: Fit, truth: Any = None, ax: Axes | None = None) -> Axes:
    """P(I(t)=1 | Y) of every tissue, in decreasing order, against the truth where it is known.

    The dashed line is what would be said of a tissue without data: tissues far to its right have an effect, far to its
    left none, and of those near it the data say little. Where the truth is known, circles (active) should be at the
    right and squares (inactive) at the left.

    Parameters
    ----------
    fit
        A fit.
    truth : (tissue,), optional
        Which tissues are truly active; a DataArray is matched by tissue name.
    ax
        Where to draw; a new figure, as tall as the tissues need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure.
    """
    probability = fit.posterior_probability.sortby(fit.posterior_probability)
    names, where = probability[TISSUE].to_numpy(), np.arange(probability.size)
    ax = ax if ax is not None else new_axes(6.4, 1.3 + 0.19 * len(names))
    ax.hlines(where, 0.0, probability, color=LINE, linewidth=1, zorder=1)
    style: dict[str, Any] = {"s": 30, "linewidths": 1.4, "zorder": 3}
    if truth is None:
        ax.scatter(probability, where, **style, **ACTIVE)
    else:
        active = _by_tissue(truth, fit).sel({TISSUE: names}).to_numpy().astype(bool)
        for which, look, label in ((active, ACTIVE, "truly active"), (~active, INACTIVE, "truly inactive")):
            ax.scatter(probability[which], where[which], label=label, **style, **look)
    tau1 = fit.params.tau1
    ax.axvline(tau1, **REFERENCE, label=f"prior τ₁ = {tau1:.2f}")
    ax.set_yticks(where, [str(name) for name in names], fontsize=8 if len(names) <= 60 else 5)
    ax.tick_params(axis="y", length=0)
    ax.set(
        xlim=(-0.02, 1.02), ylim=(-0.8, len(names) - 0.2), xlabel="P(I(t) = 1 | Y), posterior probability of an effect"
    )
    above(ax, columns=3)
    return ax


@styled
def shrinkage(fit: Fit, ax: Axes | None = None, units: str = EFFECT_UNITS) -> Axes:
    """Effects of every SNP in every tissue: least squares across, empirical Bayes up, shaded by P(I(t)=1 | Y).

    The model draws effects in tissues that look inactive (light) to 0, and those in active ones (dark) towards what
    active tissues have in common; without shrinkage all points would lie on the dashed line.

    Parameters
    ----------
    fit
        A fit. Tissues with fewer samples than SNPs have no least-squares effects and are left out.
    ax
        Where to draw; a new figure if None.
    units
        Of an effect, for the axes.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure.
    """
    ols, effects = fit.ols.transpose(TISSUE, SNP), fit.effects.transpose(TISSUE, SNP)
    shown = np.isfinite(ols.to_numpy())
    x, y = ols.to_numpy()[shown], effects.to_numpy()[shown]
    shade = np.broadcast_to(fit.posterior_probability.to_numpy()[:, None], shown.shape)[shown]
    ax = ax if ax is not None else new_axes(6.4, 5.4)
    ax.axhline(0.0, color=LINE, linewidth=1, zorder=1)
    ax.axline((0.0, 0.0), slope=1.0, **REFERENCE, label="no shrinkage")
    points = ax.scatter(x, y, c=shade, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0, s=22, edgecolors=INK, linewidths=0.4,
                        zorder=2)  # fmt: skip
    ax.set_aspect("equal", adjustable="datalim")  # so that the line of no shrinkage rises at 45 degrees
    ax.set(xlabel=f"Least-squares effect ({units})", ylabel=f"Empirical-Bayes effect ({units})")
    ax.figure.colorbar(points, ax=ax, label="P(I(t) = 1 | Y)")
    left_out = int((~shown).all(axis=1).sum())
    if left_out:
        ax.plot([], [], " ", label=f"left out: {left_out} tissue{'s' * (left_out > 1)} without least squares")
    above(ax, columns=2)
    return ax


@styled
def overview(fit: Fit, truth: Any = None, units: str = EFFECT_UNITS) -> Figure:
    """A fit at a glance: which tissues have an effect, and what shrinkage does to least squares.

    Left `posterior_probability`, right `shrinkage`. Effects in tissues with P(I(t)=1 | Y) near 0 lie flat at 0; those
    in active tissues lie between the line of no shrinkage and the mean that active tissues share.

    Parameters
    ----------
    fit
        A fit.
    truth : (tissue,), optional
        Which tissues are truly active; a DataArray is matched by tissue name.
    units
        Of an effect, for the axes.

    Returns
    -------
    Figure
        Of the two panels.
    """
    figure = new_figure(11.0, max(4.6, 1.3 + 0.16 * fit.dataset.sizes[TISSUE]))
    left, right = figure.subplots(1, 2)
    posterior_probability(fit, truth, ax=left)
    shrinkage(fit, ax=right, units=units)
    return figure


@styled
def alpha_profile(profile: xr.Dataset, ax: Axes | None = None) -> Axes:
    """The likelihood profiled in the slab's power alpha, its maximum and interval, and where the paper's slab stands.

    The dashed line outside the shaded interval is evidence against the paper's slab, by as much as the curve is below 0
    there. A flat curve, and a wide interval, say that the data cannot tell.

    Parameters
    ----------
    profile
        As from `ebmodel.alpha_profile`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure; natural logarithms up.
    """
    ax = ax if ax is not None else new_axes(6.4, 4.0)
    drop = profile["loglik"] - profile["loglik"].max()
    level, estimate = profile.attrs["level"], float(profile["estimate"])
    low, high = profile.attrs["range"]
    interval = float(profile["lower"].fillna(low)), float(profile["upper"].fillna(high))
    ax.axvspan(*interval, color=BAND, zorder=0, label=f"{100 * level:g} % interval")
    ax.plot(profile[ALPHA], drop, color=BLUE, linestyle="-", marker="o", markersize=4, label="profile")
    ax.axvline(estimate, color=BLUE, linestyle=":", label=f"maximum, α = {estimate:.2f}")
    ax.axvline(1.0, color=ORANGE, linestyle="--", label="the paper, α = 1")
    ax.set(xlabel="α, power in Σ₀ = (XᵀX/s)^(−α)", ylabel=f"{profile.attrs['of']} below its maximum", xlim=(low, high))
    above(ax, columns=2)
    return ax


def _by_tissue(values: Any, fit: Fit) -> xr.DataArray:
    if isinstance(values, xr.DataArray) and TISSUE in values.coords:
        return values
    return xr.DataArray(np.asarray(values), dims=TISSUE, coords={TISSUE: fit.posterior_probability[TISSUE]})
