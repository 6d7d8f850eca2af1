"""Figures of checks of the model: all of them at a glance, and the residuals that several of them look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform
from scipy.special import betaincinv, ndtri, stdtr

from ebmodel.checks.catalogue import DESIGN
from ebmodel.checks.checking import LEVEL, TOLERABLE
from ebmodel.checks.noise import ALL, ENOUGH
from ebmodel.checks.view import View, frame_of
from ebmodel.labels import CHECK, SAMPLE, TISSUE
from ebmodel.model import Array
from ebmodel.plot.style import (
    BAND,
    BLACK,
    BLUE,
    GREY,
    INK,
    LINE,
    ORANGE,
    REFERENCE,
    SEQUENTIAL,
    above,
    framed,
    hatched,
    new_axes,
    styled,
    written_on,
)
from ebmodel.residuals import correlation
from ebmodel.results import Fit

__all__ = ["checks", "effects_by_size", "residual_correlation", "residual_variances", "residuals_qq"]

VERDICTS: dict[str, dict[str, Any]] = {
    "no sign against it": {"marker": "o", "color": BLUE, "markersize": 7},
    "doubtful": {"marker": "^", "color": ORANGE, "markerfacecolor": "white", "markersize": 9, "markeredgewidth": 1.8},
    "fails": {"marker": "X", "color": ORANGE, "markersize": 11, "markeredgecolor": BLACK},
}
"""Marks that differ in shape and filling too, so that grey prints read."""
FURTHEST = 4.0
"""Observed values beyond this are drawn at the edge, with their number."""
MOST_POINTS = 2000
"""Shown of the middle of a Q-Q plot; the tails are shown whole."""
TAIL, NAMED, GAP = 100, 3, 0.04
"""Points at each end that are all shown, the most residuals that are named, and the room a name takes, of the axis."""
WRITTEN, SIGNED = 12, 60
"""Tissues up to which a correlation is written in its cell, or its sign is."""


@styled
def checks(dataset: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Every check's observed value within its reference: 0 is the median of drawn data, 1 their 95 % point.

    A mark within its grey bar is what data from the fitted model look like; one to the right of the dashed line is
    what fewer than 5 % of them look like. Triangles and crosses are the assumptions to look at; a number with an arrow
    stands for a value beyond the figure.

    Parameters
    ----------
    dataset
        As from `ebmodel.check`.
    ax
        Where to draw; a new figure, as tall as the checks need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Bars run from the 5 % to the 95 % point; p-values stand at the right, plug-in
        ones where none was calibrated. The gain that estimating the parameters gives away is no test: 0 is nothing, 1
        the 10 % that do little harm.
    """
    names = [str(name) for name in dataset[CHECK].to_numpy()]
    ax = ax if ax is not None else new_axes(7.4, 1.4 + 0.32 * len(names))
    ax.axvline(0.0, color=LINE, linewidth=1, zorder=0)
    ax.axvline(1.0, **REFERENCE)
    for row, name in enumerate(names):
        one = dataset.sel({CHECK: name})
        if not np.isfinite(float(one["observed"])):
            ax.text(-1.6, row, "not checked", va="center", color=GREY, fontsize=8, style="italic")
            continue
        at, low, high = _standing(one)
        ax.hlines(row, low, min(high, FURTHEST), color=LINE, linewidth=7, zorder=1)
        look = VERDICTS[str(one["verdict"].item())]
        ax.plot(min(at, FURTHEST), row, zorder=4, linestyle="none", clip_on=False, **look)
        if at > FURTHEST:
            ax.text(FURTHEST - 0.2, row, f"{at:.0f} →" if np.isfinite(at) else "→", va="center", ha="right", fontsize=8)
        ax.text(1.015, row, _chance(one), transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(-1.7, FURTHEST + 0.1), ylim=(len(names) - 0.4, -0.6))
    ax.set_xlabel("Observed discrepancy: 0 is the median of data drawn from the fit, 1 their 95 % point")
    present = set(dataset["verdict"].to_numpy())
    handles: list[Any] = [Line2D([], [], linestyle="none", label=verdict, **look)
                          for verdict, look in VERDICTS.items() if verdict in present]  # fmt: skip
    handles.append(Patch(color=LINE, label="5 % to 95 % of drawn data"))
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, fontsize=9)
    return ax


def _standing(one: xr.Dataset) -> tuple[float, float, float]:
    """Where the observed value, and the 5 % and 95 % points of its reference, lie on the common scale."""
    reference = one["reference"].to_numpy()
    reference = reference[np.isfinite(reference)]
    if len(reference) == 0:  # no data drawn from the fit allow the check
        return 0.0, 0.0, 0.0
    values = np.append(float(one["observed"]), np.quantile(reference, [LEVEL, 1.0 - LEVEL]))
    if str(one[CHECK].item()) == DESIGN:
        centre, unit = 0.0, TOLERABLE
    else:
        centre = float(one["reference_median"])
        unit = float(one["reference_95"]) - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        at, low, high = np.nan_to_num((values - centre) / unit, nan=0.0, posinf=np.inf, neginf=-np.inf)
    return max(float(at), -1.6), max(float(low), -1.6), float(high)


def _chance(one: xr.Dataset) -> str:
    if str(one[CHECK].item()) == DESIGN:
        return f"{100.0 * float(one['observed']):.2g} % given away"
    p, plugin = float(one["p_value"]), float(one["p_plugin"])
    return f"p = {p:.3f}" if np.isfinite(p) else f"p = {plugin:.3f}, plug-in"


@styled
def residuals_qq(fit: Fit, ax: Axes | None = None) -> Axes:
    """Residuals against normal quantiles, all tissues together, each by its own variance.

    Normal errors lie along the dashed line. Ends that leave it steeply (up at the right, down at the left) are tails
    heavier than normal, ends that flatten are lighter ones; a bend to one side is skew. A single point far out is an
    outlier, which is named.

    Parameters
    ----------
    fit
        A fit.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Least-squares residuals, each studentised by its tissue's others and turned
        into a normal score, which is N(0, 1) where errors are normal, however few the samples. Grey: where 95 % of each
        lie if they are independent. Up to three that are too far out for normal errors (5 % for all residuals together)
        are named.
    """
    ax = ax if ax is not None else new_axes(5.6, 5.2)
    scores, sample, tissue = _normal_scores(fit)
    size = len(scores)
    if size == 0:
        return _nothing(ax, "No tissue has more samples than SNPs and covariates")
    kept = np.unique(np.concatenate([np.linspace(0, size - 1, MOST_POINTS).astype(int), np.arange(min(TAIL, size)),
                                     np.arange(max(size - TAIL, 0), size)]))  # fmt: skip
    expected = ndtri((kept + 0.5) / size)
    low, high = (ndtri(betaincinv(kept + 1.0, size - kept, q)) for q in (LEVEL / 2, 1.0 - LEVEL / 2))
    ax.fill_between(expected, low, high, color=BAND, linewidth=0, zorder=0, label="95 % of each, if normal")
    ax.axline((0.0, 0.0), slope=1.0, **REFERENCE, label="normal")
    ax.plot(expected, scores[kept], linestyle="none", marker="o", markersize=3.5, color=BLUE, zorder=2,
            label=f"{size} residuals")  # fmt: skip
    taken: list[float] = []
    for k in np.argsort(-np.abs(scores), kind="stable")[:NAMED]:
        z, free = scores[k], all(abs(scores[k] - other) > GAP * np.ptp(scores) for other in taken)
        if free and abs(z) > -ndtri(LEVEL / 2 / size):
            taken.append(float(z))
            at, who = (ndtri((k + 0.5) / size), z), f"{sample[k]}, {tissue[k]}"
            ax.annotate(who, at, xytext=(-7.0 * np.sign(z), 0.0), textcoords="offset points",
                        ha="right" if z > 0 else "left", va="center", fontsize=7)  # fmt: skip
    ax.set(xlabel="Normal quantile", ylabel="Residual (normal score)")
    above(ax, columns=3)
    return ax


def _normal_scores(fit: Fit) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """Normal scores of residuals in increasing order, and the sample and tissue of each."""
    view = View(fit, frame_of(fit))
    dof, leverage = view.frame.dof, view.frame.leverage
    rows, columns = np.nonzero(view.frame.observed & (leverage < ALL) & (dof >= ENOUGH) & (view.s2 > 0.0))
    nu = dof[columns]
    r = view.E[rows, columns] / np.sqrt(view.s2[columns] * (1.0 - leverage[rows, columns]))
    with np.errstate(divide="ignore"):
        t = r * np.sqrt((nu - 1.0) / np.maximum(nu - r**2, 0.0))  # e_i over the sd of the others: Student's t, nu - 1
        scores = -np.sign(t) * ndtri(stdtr(nu - 1.0, -np.abs(t)))
    scores = np.clip(scores, -40.0, 40.0)  # beyond, the probability is 0 in a computer's numbers
    order = np.argsort(scores, kind="stable")
    ds = fit.dataset
    return scores[order], ds[SAMPLE].to_numpy()[rows[order]], ds[TISSUE].to_numpy()[columns[order]]


@styled
def residual_correlation(fit: Fit, ax: Axes | None = None) -> Axes:
    """Correlations of residuals between tissues, over the samples that both have; tissues in the order of a clustering.

    Under the model all are 0, the middle of the shades, but for chance. Dark blocks along the diagonal are groups of
    tissues whose errors go together; a matrix that is dark throughout is something that acts on all tissues of a
    sample. Light cells are negative correlations.

    Parameters
    ----------
    fit
        A fit.
    ax
        Where to draw; a new figure, as large as the tissues need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Hatched: a tissue itself, or too few samples in both. Numbers are written for
        up to 12 tissues; for up to 60, a sign stands in the cells that are too far from 0 for independent errors (5 %
        for all pairs together, Bonferroni).
    """
    view = View(fit, frame_of(fit))
    found = correlation(view.frame, view.E)
    (s, t), m = found.pairs, view.frame.observed.shape[1]
    some = np.unique(np.concatenate([s, t]))
    ax = ax if ax is not None else new_axes(max(3.4 + 0.17 * len(some), 5.2), max(2.6 + 0.17 * len(some), 4.2))
    if len(s) == 0:
        return _nothing(ax, "No two tissues share enough samples")
    R, chance = np.full((2, m, m), np.nan)
    chances = dict(zip(zip(*view.frame.pairs[:2], strict=True), view.frame.pairs[2], strict=True))
    R[s, t] = R[t, s] = found.r
    chance[s, t] = chance[t, s] = [chances[pair] for pair in zip(s, t, strict=True)]
    order = some[_clustered(R[np.ix_(some, some)])]
    R, chance = R[np.ix_(order, order)], chance[np.ix_(order, order)]
    limit = max(float(np.max(np.abs(found.r))), 0.3)
    beyond = -ndtri(LEVEL / 2 / len(found.r))
    hatched(ax, *R.shape)
    framed(ax)
    # one lightness from -limit to limit: of a map that is dark at both ends a grey print has lost the sign
    image = ax.imshow(np.ma.masked_invalid(R), cmap=SEQUENTIAL, vmin=-limit, vmax=limit, interpolation="nearest")
    for i, j in zip(*np.nonzero(np.isfinite(R)), strict=True):
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": written_on(0.5 + 0.5 * R[i, j] / limit)}
        if len(order) <= WRITTEN:
            ax.text(j, i, f"{R[i, j]:.2f}".replace("0.", "."), fontsize=7, **look)
        elif len(order) <= SIGNED and np.arctanh(min(abs(R[i, j]), ALL)) > beyond * np.sqrt(chance[i, j]):
            ax.text(j, i, "+" if R[i, j] > 0 else "–", fontsize=6, **look)
    names = [str(name) for name in fit.dataset[TISSUE].to_numpy()[order]]
    small = 8 if len(names) <= 25 else 6
    ax.set_yticks(range(len(names)), names, fontsize=small)
    ax.set_xticks(range(len(names)), names, fontsize=small, rotation=90)
    ax.tick_params(length=0)
    ax.figure.colorbar(image, ax=ax, label="correlation of residuals", shrink=0.8)
    left_out = m - len(order)
    words = f"{len(found.r)} pairs, mean {found.r.mean():.2f};\nroot mean square beyond chance {found.excess:.2f}"
    if left_out:
        words += f";\nleft out: {left_out} tissue{'s' * (left_out > 1)} with too few samples"
    ax.set_title(words, fontsize=9, loc="left")
    return ax


def _clustered(R: Array) -> NDArray[np.int64]:
    """Order of tissues that makes related ones neighbours: average linkage, leaves turned so that neighbours agree."""
    if len(R) < 3:
        return np.arange(len(R))
    distance = 1.0 - np.where(np.isnan(R), np.nanmean(R), R)
    np.fill_diagonal(distance, 0.0)
    between = squareform(np.maximum(distance, 0.0), checks=False)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(between, "average"), between)), dtype=np.int64)


@styled
def residual_variances(fit: Fit, ax: Axes | None = None) -> Axes:
    """Residual variance of every tissue against that of the fit, in increasing order.

    The model has one error variance for all tissues, the dashed line: about two bars in three should reach it. Tissues
    whose bars are all on one side, far from it, call for ``errors="unequal"``, or for standardised responses.

    Parameters
    ----------
    fit
        A fit.
    ax
        Where to draw; a new figure, as tall as the tissues need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Least-squares residuals, variance by degrees of freedom. Bars: standard
        errors of its logarithm, were errors normal. Tissues without degrees of freedom are left out. Squares: the
        variance that a fit has for every tissue, if it has.
    """
    view = View(fit, frame_of(fit))
    s2, dof = view.s2, view.frame.dof
    order = np.flatnonzero(s2 > 0.0)
    order = order[np.argsort(s2[order], kind="stable")]
    ax = ax if ax is not None else new_axes(6.4, 1.5 + 0.19 * len(order))
    if len(order) == 0:
        return _nothing(ax, "No tissue has more samples than SNPs and covariates")
    where, variance = np.arange(len(order)), s2[order]
    error = np.sqrt(2.0 / dof[order])  # sd of log s^2
    bars = [variance * (1.0 - np.exp(-error)), variance * (np.exp(error) - 1.0)]
    ax.errorbar(variance, where, xerr=bars, fmt="o", color=BLUE, markersize=5, elinewidth=1.2, zorder=3,
                label="residuals, ± standard error")  # fmt: skip
    sigma2 = fit.params.sigma2
    if fit.params.relative_variance is None:
        ax.axvline(sigma2, color=ORANGE, linestyle="--", linewidth=1.3, zorder=2, label=f"fit, σ² = {sigma2:.3g}")
    else:
        ax.plot(fit.error_variance.to_numpy()[order], where, linestyle="none", marker="s", markersize=7, zorder=2,
                markerfacecolor="white", color=ORANGE, label="fit, σ² of each tissue")  # fmt: skip
    if variance.max() > 3.0 * variance.min():
        ax.set_xscale("log")
        plain, decade = StrMethodFormatter("{x:g}"), variance.max() < 10.0 * variance.min()
        ax.xaxis.set_major_formatter(plain)
        ax.xaxis.set_minor_formatter(plain if decade else NullFormatter())
    names = [str(name) for name in fit.dataset[TISSUE].to_numpy()[order]]
    ax.set_yticks(where, names, fontsize=8 if len(names) <= 60 else 5)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(-0.8, len(names) - 0.2), xlabel="Residual variance (expression²)")
    above(ax, columns=2)
    return ax


@styled
def effects_by_size(fit: Fit, ax: Axes | None = None) -> Axes:
    """Length of every tissue's effects, were it active, against its number of samples; shaded by P(I(t)=1 | Y).

    The model has no trend among active tissues, the dark ones: effects that shrink as samples grow say that how many
    samples a tissue has is not unrelated to its effects. (With few samples, effects are drawn to the common mean.)

    Parameters
    ----------
    fit
        A fit.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. |X E(beta(t) | Y, I(t)=1)| over the root of the number of samples: sd of what
        the SNPs predict, over all samples. Tissues without data are left out.
    """
    view = View(fit, frame_of(fit))
    seen = view.stats.n > 0
    X, n = fit.dataset["X"].to_numpy(), view.frame.observed.sum(axis=0)
    size = np.sqrt(np.mean((X @ view.slab_effects.T) ** 2, axis=0))
    ax = ax if ax is not None else new_axes(6.4, 4.6)
    points = ax.scatter(n[seen], size[seen], c=view.h[seen], cmap=SEQUENTIAL, vmin=0.0, vmax=1.0, s=40,
                        edgecolors=INK, linewidths=0.6, zorder=2)  # fmt: skip
    ax.figure.colorbar(points, ax=ax, label="P(I(t) = 1 | Y)")
    ax.set_ylim(bottom=0.0)
    ax.set(xlabel="Samples of the tissue", ylabel="Genetic sd if active (expression)")
    return ax


def _nothing(ax: Axes, why: str) -> Axes:
    """Axes that say why they are empty."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center", va="center", color=GREY)
    return ax
