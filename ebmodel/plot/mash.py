"""Figures of mash: what conditions have in common, as Figures 3-6 of Urbut, Wang, Carbonetto & Stephens (2019) show it.

Conditions that are GTEx's tissues wear its colours, beside their names. Those made of many panels are figures of their
own; the others are drawn on ``ax``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from ebmodel.eqtl.tissues import TISSUES, colour, label
from ebmodel.errors import expect, listed
from ebmodel.labels import CONDITION, COVARIANCE, DIRECTION, EFFECT, SCALE
from ebmodel.mash.sharing import Fitted, number_shared, pairwise_sharing
from ebmodel.model import Array
from ebmodel.plot.style import (
    BAND,
    BLUE,
    INK,
    ORANGE,
    SEQUENTIAL,
    above,
    hatched,
    new_axes,
    new_figure,
    styled,
)

__all__ = ["covariance_patterns", "shared_conditions", "sharing_heatmap", "shrinkage", "weights_figure"]

type Order = Literal["cluster", "given"]


@styled
def covariance_patterns(
    fit: xr.Dataset | Fitted,
    most: int = 6,
    vectors: int = 3,
    show: Literal["correlation", "covariance"] = "correlation",
    order: Order = "cluster",
) -> Figure:
    """Draw the covariances that carry the most weight, and their first eigenvectors (Figure 3 of the paper).

    Each row is a pattern of sharing that the fit uses, the commonest first. Left, dark blocks are conditions whose
    effects go together under it, light cells conditions that it lets differ. The bars beside it are the directions in
    which its effects lie: bars of one height are an effect that all conditions share, a single tall bar is an effect of
    one condition.

    Parameters
    ----------
    fit
        A fit, or its dataset.
    most
        Covariances to draw, by their weight summed over scales, which is written.
    vectors
        Eigenvectors of each.
    show
        What the left panels hold: correlations, or covariances, whose largest variance is 1. A covariance of rank one,
        whose correlations are all 1 or -1, is drawn as it is.
    order
        Conditions as they are given, or so that those with like effects under the prior are neighbours.

    Returns
    -------
    Figure
        A figure of its own, a row a covariance. Eigenvectors point to where they are largest; the share of the variance
        that each explains is written; of equal eigenvalues, as simple heterogeneity has, the directions are arbitrary.
        Correlations with a condition in which effects are always 0 are hatched.

    Raises
    ------
    InputError
        If ``most`` or ``vectors`` is not positive, or ``show`` or ``order`` is unknown.
    """
    expect(most > 0, "at least one covariance", most, "most", "draw one or more")
    expect(vectors > 0, "at least one eigenvector", vectors, "vectors", "draw one or more")
    expect(show in {"correlation", "covariance"}, "'correlation' or 'covariance'", repr(show), "show", "choose one")
    dataset = _dataset(fit)
    total = dataset["weights"].sum(SCALE)
    first = np.argsort(-total.to_numpy(), kind="stable")[:most]
    F = dataset["factor"].transpose(COVARIANCE, CONDITION, DIRECTION).to_numpy()
    scales = (dataset["weights"] * dataset[SCALE] ** 2).sum(SCALE).to_numpy()
    prior = np.einsum("k,krq,ksq->rs", scales, F, F, optimize=True)  # sum_kl pi_kl omega_l^2 U_k
    where = _order(_correlation(prior), order)
    names = [_names(dataset)[r] for r in where]
    matrices = [F[k][where] @ F[k][where].T for k in first]  # U = F F'
    pictures, text = _pictures(matrices, [int(F[k].any(axis=0).sum()) for k in first], show)
    least = min(float(np.nanmin(picture)) for picture in pictures)
    bottom = np.floor(10.0 * least) / 10.0 if least < -0.05 else 0.0
    key = 0.15 + _room(names, 7)
    wide = max(1.6, 0.062 * len(names))
    figure = new_figure(3.3 + wide * vectors, 0.4 + 2.0 * len(first) + key)
    heights, widths = [2.0] * len(first) + [key], [2.0] + [wide] * vectors
    grid = figure.add_gridspec(len(first) + 1, 1 + vectors, height_ratios=heights, width_ratios=widths)
    left = [figure.add_subplot(grid[k, 0]) for k in range(len(first))]
    for row, (k, U, picture, ax) in enumerate(zip(first, matrices, pictures, left, strict=True)):
        hatched(ax, *picture.shape)
        image = ax.imshow(picture, cmap=SEQUENTIAL, vmin=bottom, vmax=1.0, interpolation="nearest")
        ax.set_title(f"{label(str(dataset[COVARIANCE].to_numpy()[k]))}: weight {float(total[k]):.3f}", fontsize=8)
        ax.set(xticks=[], yticks=[])
        _strips(ax, names)
        bars = [figure.add_subplot(grid[row, 1])]
        bars += [figure.add_subplot(grid[row, 1 + q], sharey=bars[0]) for q in range(1, vectors)]
        _eigenvectors(bars, U, names)
    _key(figure.add_subplot(grid[-1, :]), names)
    bar = figure.colorbar(image, ax=left, location="left", fraction=0.05, pad=0.03, aspect=40)
    bar.set_label(text, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


@styled
def shrinkage(
    posterior: xr.Dataset | Fitted, effect: Any, level: float = 0.05, ax: Axes | None = None, units: str = "effect"
) -> Axes:
    """One effect in all conditions, as estimated and as shrunk (Figure 4 of the paper).

    Squares are what each condition says alone, circles what it says together with the others: circles that line up are
    an effect that conditions share, shorter lines what is gained by that, circles at 0 conditions without an effect.
    Where a circle is filled the sign is known, but for a local false sign rate below ``level``.

    Parameters
    ----------
    posterior
        A fit, or a Dataset with ``mean``, ``sd`` and ``lfsr``, (effect, condition), and for the estimates ``bhat`` and
        ``shat``.
    effect
        Its name.
    level
        Local false sign rate below which marks are filled.
    ax
        Where to draw; a new figure, as tall as the conditions need, if None.
    units
        Of the effect, for the axis.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Lines are two standard errors, or two posterior standard deviations, to
        either side; conditions from the top in the order given. A condition without an estimate has its posterior
        alone.

    Raises
    ------
    InputError
        If there is no such effect.
    """
    dataset = _dataset(posterior)
    known = [str(name) for name in dataset[EFFECT].to_numpy()]
    expect(str(effect) in known, f"one of {listed(known, 3)}", repr(str(effect)), EFFECT, "see the coordinate effect")
    one, names = dataset.isel({EFFECT: known.index(str(effect))}), _names(dataset)
    y = np.arange(len(names))
    ax = ax if ax is not None else new_axes(6.4, 1.3 + 0.19 * len(names))
    ax.axvline(0.0, color=INK, linewidth=0.8, zorder=1)
    bars: dict[str, Any] = {"linestyle": "none", "elinewidth": 1.1, "zorder": 2}
    if "bhat" in one and "shat" in one:
        bhat, shat = one["bhat"].to_numpy(), one["shat"].to_numpy()
        there = np.isfinite(bhat)
        ax.errorbar(bhat[there], y[there] + 0.2, xerr=2.0 * shat[there], marker="s", markersize=3.5, color=ORANGE,
                    markerfacecolor="white", label="estimate ± 2 SE", **bars)  # fmt: skip
    mean, sd, lfsr = (one[name].to_numpy() for name in ("mean", "sd", "lfsr"))
    for which, face, text in ((lfsr < level, BLUE, f"lfsr < {level:g}"), (lfsr >= level, "white", f"lfsr ≥ {level:g}")):
        ax.errorbar(mean[which], y[which] - 0.2, xerr=2.0 * sd[which], marker="o", markersize=4.5, color=BLUE,
                    markerfacecolor=face, label=f"posterior ± 2 sd, {text}", **bars)  # fmt: skip
    ax.set(ylim=(len(names) - 0.3, -0.7), xlabel=units)
    _name(ax, "y", names, 7 if len(names) <= 60 else 5)
    for r, name in enumerate(names):
        if _tissues(names):
            ax.add_patch(Rectangle((0.0, r - 0.5), 0.015, 1.0, transform=ax.get_yaxis_transform(), color=colour(name)))
    above(ax, columns=1)
    if (legend := ax.get_legend()) is not None:
        legend.set_title(str(effect))
        legend.set_alignment("left")
    return ax


@styled
def shared_conditions(
    posterior: xr.Dataset | Fitted,
    factor: float = 0.5,
    level: float = 0.05,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Histograms of the number of conditions that share an effect, by sign and by magnitude (Figure 5 of the paper).

    A heap at the right is effects that all conditions share, one at the left effects of a single condition. Sharing by
    magnitude asks for more than sharing by sign, so that its heap lies further to the left.

    Parameters
    ----------
    posterior, factor, level
        As in `ebmodel.mash.sharing.number_shared`.
    groups
        Conditions to look at alone, by what to call them: a row for each, such as brain and the others; all together
        if None.

    Returns
    -------
    Figure
        A figure of its own. Titles hold the number of effects that are significant somewhere in the group, and in how
        many conditions they are shared on average.

    Raises
    ------
    InputError
        As `ebmodel.mash.sharing.number_shared`, or if ``factor`` is 0, which is sharing by sign.
    """
    expect(0.0 < factor < 1.0, "0 < factor < 1", factor, "factor", "give 0.5; sharing by sign is drawn beside it")
    dataset = _dataset(posterior)
    chosen = {"all conditions": _names(dataset)} if groups is None else groups
    figure = new_figure(9.0, 0.4 + 2.6 * len(chosen))
    axes = figure.subplots(len(chosen), 2, squeeze=False, sharey="row")
    for row, (called, conditions) in zip(axes, chosen.items(), strict=True):
        R = len(conditions)
        for ax, within, text in (
            (row[0], 0.0, "by sign"),
            (row[1], factor, f"by magnitude, within {1 / factor:g}-fold"),
        ):
            count = number_shared(dataset, within, level, conditions).to_numpy()
            ax.bar(np.arange(1, R + 1), np.bincount(count, minlength=R + 1)[1:], width=0.85, color=BLUE)
            mean = f", {count.mean():.1f} of {R} on average" if len(count) else ""
            ax.set_title(f"{called}, {text}\n{len(count):,} effects{mean}", fontsize=9, loc="left")
            ax.set_xlim(0.3, R + 0.7)
            ax.tick_params(labelsize=8)
            ax.xaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel("effects")
    figure.supxlabel("conditions that share the effect")
    return figure


@styled
def sharing_heatmap(
    posterior: xr.Dataset | Fitted,
    factor: float = 0.5,
    level: float = 0.05,
    conditions: Sequence[str] | None = None,
    order: Order = "cluster",
    ax: Axes | None = None,
) -> Axes:
    """Pairwise sharing of effects between conditions (Figure 6 of the paper).

    The darker a cell, the more of the effects that are significant in either of the two conditions are shared by both.
    Dark blocks along the diagonal are groups of conditions that are alike. The lightest shade is that at the colour
    bar's foot, which need not be 0.

    Parameters
    ----------
    posterior, factor, level, conditions
        As in `ebmodel.mash.sharing.pairwise_sharing`.
    order
        Conditions as they are given, or clustered (average linkage of what they do not share).
    ax
        Where to draw; a new figure, as large as the conditions need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Hatched where no effect is significant in either.

    Raises
    ------
    InputError
        As `ebmodel.mash.sharing.pairwise_sharing`.
    """
    share = pairwise_sharing(_dataset(posterior), factor, level, conditions)
    where = _order(share.to_numpy(), order)
    names = [str(share[CONDITION].to_numpy()[r]) for r in where]
    R = len(names)
    if ax is None:
        side, room = max(2.6, 0.155 * R), _room(names, 7)
        ax = new_axes(side + room + 1.2, side + room + 0.65)
    picture = share.to_numpy()[np.ix_(where, where)]
    least = np.floor(10.0 * np.nanmin(picture)) / 10.0 if np.isfinite(picture).any() else 0.0
    hatched(ax, R, R)
    image = ax.imshow(picture, cmap=SEQUENTIAL, vmin=min(least, 0.9), vmax=1.0, interpolation="nearest")
    _name(ax, "x", names, 7)
    _name(ax, "y", names, 7)
    _strips(ax, names)
    how = "sign" if factor == 0.0 else f"magnitude, within {1 / factor:g}-fold"
    ax.set_title(f"shared by {how},\nof effects with lfsr < {level:g} in either", fontsize=9, loc="left")
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.04, pad=0.02, aspect=30)
    bar.set_label("share of effects", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return ax


@styled
def weights_figure(fit: xr.Dataset | Fitted, most: int = 20) -> Figure:
    """Weights of the prior: by covariance, by scale, and by both.

    Left, which patterns of sharing effects have, and how many effects are 0; above, how large effects are. Weight on
    the last scale, at the right, says that the grid ends too early.

    Parameters
    ----------
    fit
        A fit, or its dataset.
    most
        Covariances to draw, by their weight summed over scales; the others are summed in one row.

    Returns
    -------
    Figure
        A figure of its own. Left, totals by covariance, filled if it was learned from the data, and the point mass at
        zero; above, totals by scale; areas of marks are weights of single components.

    Raises
    ------
    InputError
        If ``most`` is not positive.
    """
    expect(most > 0, "at least one covariance", most, "most", "draw one or more")
    dataset = _dataset(fit)
    weights, grid = dataset["weights"].transpose(COVARIANCE, SCALE).to_numpy(), dataset[SCALE].to_numpy()
    order = np.argsort(-weights.sum(axis=1), kind="stable")
    shown, rest = weights[order[:most]], weights[order[most:]]
    names = [label(str(name)) for name in dataset[COVARIANCE].to_numpy()[order[:most]]]
    learned = [str(kind) == "data-driven" for kind in dataset["kind"].to_numpy()[order[:most]]]
    if len(rest):
        shown, names, learned = np.vstack([shown, rest.sum(axis=0)]), [*names, f"{len(rest)} others"], [*learned, False]
    totals = np.append(shown.sum(axis=1), float(dataset["null_weight"]))
    y = np.arange(len(totals))
    figure = new_figure(8.4, 2.5 + 0.2 * len(y))
    places = figure.add_gridspec(2, 2, height_ratios=[1.1, 0.2 * len(y)], width_ratios=[1.0, 1.3])
    left = figure.add_subplot(places[1, 0])
    right = figure.add_subplot(places[1, 1], sharey=left)
    top = figure.add_subplot(places[0, 1], sharex=right)
    left.barh(y, totals, color=[BLUE if one else "white" for one in [*learned, False]], edgecolor=BLUE, height=0.7)
    for at, total in zip(y, totals, strict=True):
        left.annotate(f"{total:.3f}", (total, at), (3, 0), textcoords="offset points", va="center", fontsize=7)
    left.set(ylim=(len(y) - 0.4, -0.6), xlim=(0.0, 1.18 * totals.max()), xlabel="weight (filled: data-driven)")
    left.set_yticks(y, [*names, "point mass at 0"], fontsize=7)
    row, column = np.nonzero(shown > 1e-4)
    right.set_xscale("log")
    right.scatter(
        grid[column],
        row,
        s=250.0 * shown[row, column] / shown.max(initial=1e-300),
        color=BLUE,
        alpha=0.75,
        linewidths=0,
    )
    right.scatter(grid[column], row, s=3.0, color=INK, linewidths=0)
    right.set(xlabel="scale ω of the effects' standard deviation")
    right.set_title("areas: weights of components", fontsize=8, loc="left")
    right.grid(axis="y", color=BAND, linewidth=0.8)
    right.set_axisbelow(True)
    right.tick_params(axis="y", length=0, labelleft=False)
    step = np.sqrt(grid[1] / grid[0]) if len(grid) > 1 else 1.2
    top.bar(grid, weights.sum(axis=0), width=0.9 * grid * (step - 1 / step), color=BLUE)
    top.set_ylabel("weight")
    top.tick_params(labelbottom=False)
    left.tick_params(axis="x", labelsize=8)
    right.tick_params(axis="x", labelsize=8)
    top.tick_params(labelsize=8)
    return figure


def _dataset(fit: xr.Dataset | Fitted) -> xr.Dataset:
    return fit if isinstance(fit, xr.Dataset) else fit.dataset


def _names(dataset: xr.Dataset) -> list[str]:
    return [str(name) for name in dataset[CONDITION].to_numpy()]


def _tissues(names: Sequence[str]) -> bool:
    """Whether conditions are tissues, which have colours of their own."""
    return any(name in TISSUES for name in names)


def _correlation(U: Array) -> Array:
    """Correlations; NaN in conditions without variance."""
    sd = np.sqrt(np.diag(U))
    with np.errstate(invalid="ignore"):
        return np.asarray(U / np.outer(sd, sd))


def _pictures(matrices: list[Array], ranks: list[int], show: str) -> tuple[list[Array], str]:
    """What to draw of each covariance, and what that is."""
    if show == "covariance" or max(ranks) == 1:
        return matrices, "covariance of effects"
    pictures = [_correlation(U) if rank > 1 else U for U, rank in zip(matrices, ranks, strict=True)]
    return pictures, f"correlation{', or covariance if of rank one,' if min(ranks) == 1 else ''} of effects"


def _order(likeness: Array, order: Order) -> NDArray[np.int64]:
    """Conditions so that those that are alike are neighbours: likeness 1 is a distance of 0."""
    expect(order in {"cluster", "given"}, "'cluster' or 'given'", repr(order), "order", "choose one")
    if order == "given" or len(likeness) < 3:
        return np.arange(len(likeness))
    distance = 1.0 - np.nan_to_num(likeness, nan=0.0)
    np.fill_diagonal(distance, 0.0)
    between = squareform(np.maximum(distance, distance.T), checks=False)
    return np.asarray(hierarchy.leaves_list(hierarchy.linkage(between, "average", optimal_ordering=True)), dtype=int)


def _eigenvectors(axes: Sequence[Axes], U: Array, names: Sequence[str]) -> None:
    """The first eigenvectors of U as bars, a panel each."""
    value, vector = np.linalg.eigh(U)
    colours = [colour(name) for name in names] if _tissues(names) else BLUE
    for k, ax in enumerate(axes, start=1):
        if k > len(value) or value[-k] <= 1e-8 * value[-1]:
            ax.set_axis_off()
            continue
        v = vector[:, -k]
        v = v * np.sign(v[np.abs(v).argmax()])
        ax.bar(np.arange(len(v)), v, width=0.8, color=colours, edgecolor=INK, linewidth=0.3)
        ax.axhline(0.0, color=INK, linewidth=0.6)
        ax.set_title(f"{100 * value[-k] / value.sum():.0f} % of variance", fontsize=8)
        ax.set(xlim=(-0.7, len(v) - 0.3), xticks=[])
        ax.tick_params(labelsize=7, labelleft=k == 1)
        if k == 1:
            ax.set_ylabel("loading", fontsize=8)
        ax.margins(y=0.08)


def _strips(ax: Axes, names: Sequence[str]) -> None:
    """A frame around a matrix, and tissues' colours along two sides of it."""
    R = len(names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.add_patch(Rectangle((-0.5, -0.5), R, R, fill=False, edgecolor=INK, linewidth=0.8, clip_on=False))
    if not _tissues(names):
        return
    wide = 0.022 * R
    for k, name in enumerate(names):
        ax.add_patch(Rectangle((-0.5 - 1.3 * wide, k - 0.5), wide, 1.0, color=colour(name), linewidth=0))
        ax.add_patch(Rectangle((k - 0.5, R - 0.5 + 0.3 * wide), 1.0, wide, color=colour(name), linewidth=0))
    ax.set(xlim=(-0.5 - 1.3 * wide, R - 0.5), ylim=(R - 0.5 + 1.3 * wide, -0.5))


def _key(ax: Axes, names: Sequence[str]) -> None:
    """Conditions in their order, with their colours, in one panel for all rows above."""
    for k, name in enumerate(names):
        ax.add_patch(Rectangle((k - 0.4, 0.9), 0.8, 0.1, color=colour(name) if _tissues(names) else BLUE, linewidth=0))
        ax.text(k, 0.87, label(name), rotation=90, fontsize=7, ha="center", va="top")
    ax.set(xlim=(-0.7, max(len(names), 20) - 0.3), ylim=(0.0, 1.0))
    ax.set_title("conditions in their order above", fontsize=8, loc="left")
    ax.set_axis_off()


def _name(ax: Axes, axis: Literal["x", "y"], names: Sequence[str], size: float) -> None:
    """Conditions' names along an axis."""
    texts = [label(name) for name in names]
    if axis == "x":
        ax.set_xticks(range(len(names)), texts, rotation=90, fontsize=size)
    else:
        ax.set_yticks(range(len(names)), texts, fontsize=size)
    ax.tick_params(axis=axis, length=0)


def _room(names: Sequence[str], size: float) -> float:
    """Inches that the longest name takes."""
    return 0.0078 * size * max(len(label(name)) for name in names)
