"""Figures of calibration: what is claimed across, what comes of it up."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from ebmodel.calibration.ranks import difference
from ebmodel.errors import expect
from ebmodel.model import Array
from ebmodel.plot.style import BAND, BLUE, LINE, ORANGE, REFERENCE, above, new_axes, styled

__all__ = ["bayes_factors", "fdr", "pit_ecdf", "reliability"]

MARKS: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 5, "linestyle": "none", "capsize": 2, "zorder": 3}
WIDEST = 12.0
"""Log Bayes factors and odds beyond this are drawn at the edge: e^12 to 1 is certainty."""


@styled
def reliability(curve: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Share of active tissues against P(I(t)=1 | Y), by bin: whether probabilities mean what they say.

    Of the tissues that are active with probability 0.8, 80 % should be: points on the diagonal. Points below it say
    that probabilities are too high, above it too low; a flatter curve than the diagonal, that they are too near to 0
    and 1. A point outside its grey bar is further off than chance would have it.

    Parameters
    ----------
    curve
        As from `ebmodel.calibration.reliability`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Grey: where the shares lie if calibrated. Bars: standard errors by data set;
        Wilson intervals of one data set.
    """
    ax = ax if ax is not None else new_axes(5.6, 5.2)
    some = curve.isel(bin=np.flatnonzero(curve["count"].to_numpy() > 0))
    x, y = some["predicted"].to_numpy(), some["observed"].to_numpy()
    percent = f"{100 * curve.attrs['level']:g} %"
    ax.vlines(x, some["expected_lower"], some["expected_upper"], color=LINE, linewidth=7, zorder=0,
              label=f"{percent} if calibrated")  # fmt: skip
    ax.plot([0.0, 1.0], [0.0, 1.0], **REFERENCE, label="calibrated")
    if curve.attrs["replicates"] > 1:
        errors, label = some["standard_error"].to_numpy(), "observed ± SE by data set"
    else:
        errors = np.abs(np.stack([some["lower"], some["upper"]]) - y)
        label = f"observed, {percent} interval"
    ax.errorbar(x, y, errors, label=label, **MARKS)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="P(I(t) = 1 | Y)", ylabel="share of tissues active")
    error = f"{float(curve['calibration_error']):.3f} ({float(curve['calibration_error_expected']):.3f} if calibrated)"
    ax.text(0.02, 0.97, f"Brier score {float(curve['brier']):.3f}\ncalibration error {error}", fontsize=8,
            transform=ax.transAxes, ha="left", va="top")  # fmt: skip
    above(ax, columns=2)
    return ax


@styled
def fdr(rates: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Realised false discovery rate, and the one that the probabilities promise, against the nominal one.

    Where calls keep their rate, circles lie on the diagonal; above it, more of the calls are false than was asked for.
    Squares are what the probabilities promise of the same calls: where they lie below the circles, the probabilities
    are too sure of themselves.

    Parameters
    ----------
    rates
        As from `ebmodel.calibration.false_discovery`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Bars are standard errors by data set.
    """
    ax = ax if ax is not None else new_axes(5.6, 4.6)
    level = rates["level"].to_numpy()
    most = 1.05 * float(max(level.max(), (rates["realised"] + rates["realised_se"].fillna(0.0)).max()))
    ax.plot([0.0, most], [0.0, most], **REFERENCE, label="realised = nominal")
    ax.plot(level, rates["expected"], color=ORANGE, linestyle="-", linewidth=1.2, marker="s", markerfacecolor="white",
            zorder=2, label="expected")  # fmt: skip
    several = rates.attrs["replicates"] > 1
    ax.errorbar(level, rates["realised"], rates["realised_se"] if several else None,
                label="realised ± SE by data set" if several else "realised", **MARKS)  # fmt: skip
    ax.set(xlim=(0.0, 1.05 * level.max()), ylim=(-0.02 * most, most))
    ax.set(xlabel="nominal false discovery rate", ylabel="share of false calls")
    above(ax, columns=2)
    return ax


@styled
def bayes_factors(evidence: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Log odds of an effect less the prior's, against the log Bayes factor that was claimed; natural logarithms.

    Evidence that is what it claims to be lies on the dashed line. A slope below 1 says that it is overstated in both
    directions, above 1 that it is understated; a line beside the dashed one, that it leans to one side.

    Parameters
    ----------
    evidence
        As from `ebmodel.calibration.bayes_factors`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Bars are intervals; triangles stand for bins in which all or no tissues are
        active.
    """
    ax = ax if ax is not None else new_axes(5.6, 5.2)
    some = evidence.isel(bin=np.flatnonzero(evidence["count"].to_numpy() > 0))
    x, y, lower, upper = (
        np.clip(some[name].to_numpy(), -WIDEST, WIDEST) for name in ("claimed", "observed", "lower", "upper")
    )
    inside = np.isfinite(some["observed"].to_numpy())
    ax.plot([-WIDEST, WIDEST], [-WIDEST, WIDEST], **REFERENCE, label="calibrated")
    percent = f"{100 * evidence.attrs['level']:g} %"
    bars = np.maximum(np.stack([y - lower, upper - y]), 0.0)
    ax.errorbar(x[inside], y[inside], bars[:, inside], label=f"observed, {percent} interval", **MARKS)
    if not inside.all():
        ax.vlines(x[~inside], lower[~inside], upper[~inside], color=BLUE, linewidth=1.5)
        for which, mark in ((y > 0.0, "^"), (y < 0.0, "v")):
            ax.plot(x[~inside & which], y[~inside & which], mark, color=BLUE, markerfacecolor="white", clip_on=False)
    slope, intercept = float(evidence["slope"]), float(evidence["intercept"])
    if np.isfinite(slope):
        label = f"slope {slope:.2f} ± {float(evidence['slope_se']):.2f}"
        ax.axline((0.0, intercept), slope=slope, color=ORANGE, linewidth=1.5, zorder=2, label=label)
    ax.set(xlim=(-WIDEST, WIDEST), ylim=(-WIDEST, WIDEST))
    ax.set(xlabel="log 1/K(t), log Bayes factor for an effect", ylabel="log odds of an effect − prior log odds")
    above(ax, columns=2)
    return ax


@styled
def pit_ecdf(values: Any, ax: Axes | None = None, level: float = 0.95, label: str = "PIT") -> Axes:
    """ECDF of PITs or ranks less that of uniform numbers, with its simultaneous band.

    A curve that stays within the band is one of uniform values. Above 0 throughout there are too many small values
    (what was predicted is too large), below 0 too many large ones. First above and then below 0 there are too many at
    both ends (what was predicted is too narrow); first below and then above, too many in the middle (too wide).

    Parameters
    ----------
    values
        PITs or ranks in [0, 1], of any shape, such as ``pit(fit).sequential``; nan is left out. They should be
        independent for the band to hold.
    ax
        Where to draw; a new figure if None.
    level
        Of the band.
    label
        What the values are.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure.

    Raises
    ------
    InputError
        If fewer than two values are given.
    """
    flat: Array = np.asarray(values, dtype=float).ravel()
    count = int(np.sum(~np.isnan(flat)))
    expect(count >= 2, "at least two values", count, "pit_ecdf", "give more")
    curve = difference(flat, level)
    ax = ax if ax is not None else new_axes(6.0, 3.8)
    x = curve["point"].to_numpy()
    ax.fill_between(x, curve["lower"], curve["upper"], step="post", color=BAND, linewidth=0, zorder=0,
                    label=f"{100 * level:g} % band if uniform")  # fmt: skip
    ax.axhline(0.0, **REFERENCE)
    ax.step(x, curve["ecdf"], where="post", color=BLUE, linestyle="-", linewidth=1.5, label=f"{label}, {count} values")
    ax.set(xlim=(0.0, 1.0), xlabel=label, ylabel="ECDF − uniform")
    above(ax, columns=2)
    return ax
