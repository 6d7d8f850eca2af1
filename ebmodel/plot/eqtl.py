"""Figures of a multi-tissue eQTL study: the paper's Figures 1-4, and what else to look at.

Tissues wear GTEx's colours where they stand for themselves, always beside their names; where methods are compared, blue
and orange. Those made of many panels are figures of their own; the others are drawn on ``ax``.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from ebmodel.eqtl.discoveries import Accuracy, choose, egenes, fitted, gains, probabilities
from ebmodel.eqtl.tissues import colour, label
from ebmodel.errors import expect, listed
from ebmodel.labels import BIN, ESTIMATOR, GENE, METHOD, SCREENING, THRESHOLD, TISSUE
from ebmodel.model import Array
from ebmodel.plot.style import (
    BLUE,
    INK,
    LINE,
    LOOKS,
    REFERENCE,
    SEQUENTIAL,
    above,
    framed,
    hatched,
    new_axes,
    new_figure,
    styled,
)

__all__ = ["accuracy_figure", "activity_heatmap", "pmse_scatter", "r2_gain", "screening_gap", "sharing"]

NAMES = {"paper": "EB", "generalised": "EB, generalised", "ols": "OLS", "ridge": "ridge", "elastic-net": "elastic net"}
PMSE_UNITS = "expression²"
EXTREME = 0.001
"""Share of PMSEs at either end that lie beyond the panels and are drawn at their edge."""
CROWD = 1000
"""Genes beyond which their points are small and faint."""
type Linkage = Literal["complete", "average", "ward", "single"]
MOST_CLUSTERED = 12_000
"""Genes beyond which their distances, 8 bytes a pair, no longer fit in memory beside the study."""


@styled
def pmse_scatter(
    results: xr.Dataset,
    tissues: Sequence[str] | None = None,
    method: str = "paper",
    against: str = "ols",
    screening: str | None = None,
) -> Figure:
    """PMSE of every gene by two methods, a panel a tissue (Figures 1 and 2 of the paper).

    Points below the dashed line are genes whose expression ``method`` predicts better; their share is written, and is
    what to compare between tissues. Distance from the line is how much better.

    Parameters
    ----------
    results
        Of a study.
    tissues
        Which; all if None.
    method, against
        Up and across.
    screening
        With SNPs chosen ``"outside"`` or ``"inside"`` the folds; the first that was run if None.

    Returns
    -------
    Figure
        A figure of its own. Panels share their axes. One gene in a thousand at either end lies beyond them and is drawn
        at the edge.

    Raises
    ------
    InputError
        If no gene was fitted, or not by these methods, or there is no such tissue.
    """
    pmse = _screened(fitted(results), screening).squeeze(SCREENING)[["pmse"]]
    names = _tissues(results, tissues)
    x, y = (choose(pmse, METHOD, one)["pmse"].sel({TISSUE: names}) for one in (against, method))
    X, Y = (one.transpose(TISSUE, GENE).to_numpy() for one in (x, y))
    least, most = np.nanquantile(np.stack([X, Y]), [EXTREME, 1.0 - EXTREME])
    rows, columns = _grid(len(names))
    wide = 0.6 + 1.5 * columns
    figure = new_figure(wide, 1.1 + 1.75 * rows)
    look: dict[str, Any] = {"markersize": 2, "alpha": 0.35} if X.shape[1] > CROWD else {"markersize": 3.5, "alpha": 0.6}
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    used, empty = axes.ravel()[: len(names)], axes.ravel()[len(names) :]
    for ax in empty:
        ax.remove()
    for ax, name, across, up in zip(used, names, X, Y, strict=True):
        both = np.isfinite(across) & np.isfinite(up)
        ax.plot(np.clip(across[both], least, most), np.clip(up[both], least, most), ".", color=BLUE, markeredgewidth=0,
                rasterized=True, **look)  # fmt: skip
        ax.axline((least, least), slope=1.0, **REFERENCE | {"zorder": 3})
        share = f"{100 * np.mean(up[both] < across[both]):.0f} %" if both.any() else "no genes"
        ax.text(0.05, 0.95, share, transform=ax.transAxes, fontsize=8, ha="left", va="top")
        ax.set_title(_lines(name), fontsize=6.5, pad=4)
        framed(ax)
        ax.spines["top"].set(color=colour(name), linewidth=4)
        ax.tick_params(labelsize=7)
        ax.set_box_aspect(1.0)
    pad = 0.03 * (most - least)
    axes[0, 0].set(xlim=(least - pad, most + pad), ylim=(least - pad, most + pad))
    # panels above empty ones are the last of their columns, which sharing axes does not know
    for ax in used[-columns:][: len(empty)]:
        ax.tick_params(labelbottom=True)
    figure.supxlabel(f"PMSE of {_called(against)} ({PMSE_UNITS})")
    figure.supylabel(f"PMSE of {_called(method)} ({PMSE_UNITS})")
    figure.suptitle(fill("written: share of genes below the line", int(13 * wide)), fontsize=9)
    return figure


@styled
def r2_gain(
    results: xr.Dataset,
    min_snps: Sequence[int] = (0, 20),
    method: str = "paper",
    against: str = "ols",
    screening: str | None = None,
) -> Figure:
    """Mean increase of R2 by tissue, and its percentage (Figure 3 of the paper).

    Bars to the right of 0 are tissues that ``method`` predicts better; where the error bar reaches 0 it may be chance.
    Tissues are in the order of the first percentage.

    Parameters
    ----------
    results
        Of a study.
    min_snps
        Least numbers of SNPs that genes have; two panels for each.
    method, against
        Whose gain, over whom.
    screening
        As in `pmse_scatter`.

    Returns
    -------
    Figure
        A figure of its own. Bars of error are standard errors by gene; the broken line is the mean over tissues, which
        is written.

    Raises
    ------
    InputError
        If no gene was fitted, or not by these methods.
    """
    gained = gains(_screened(results, screening), against, min_snps).squeeze(SCREENING)
    found = choose(gained, METHOD, method)
    order = np.argsort(np.nan_to_num(found["percent"].isel({THRESHOLD: 0}).to_numpy(), nan=-np.inf))
    found = found.isel({TISSUE: order})
    names = [str(name) for name in found[TISSUE].to_numpy()]
    where = np.arange(len(names))
    figure = new_figure(2.4 + 2.1 * 2 * len(min_snps), 1.3 + 0.155 * len(names))
    axes = figure.subplots(1, 2 * len(min_snps), sharey=True, squeeze=False)[0]
    for k, least in enumerate(min_snps):
        mine = found.isel({THRESHOLD: k})
        genes = int(mine["genes"].max())
        who = f"genes with ≥ {least} SNPs" if least > 0 else "all genes"
        for ax, quantity, text in (
            (axes[2 * k], "increase", "increase of mean R²"),
            (axes[2 * k + 1], "percent", "increase of mean R², %"),
        ):
            values, errors = mine[quantity].to_numpy(), mine[f"{quantity}_se"].to_numpy()
            ax.barh(where, values, color=[colour(name) for name in names], edgecolor=INK, linewidth=0.5, height=0.75)
            ax.hlines(where, values - errors, values + errors, color="white", linewidth=1.8)  # seen on dark bars too
            ax.errorbar(values, where, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.8, capsize=0)
            ax.axvline(0.0, color=INK, linewidth=0.8)
            mean = float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
            ax.axvline(mean, **REFERENCE | {"zorder": 0})
            written = f"{mean:.1f} %" if quantity == "percent" else f"{mean:.4f}"
            ax.set_title(f"{who} ({genes:,})\nmean of tissues {written}", fontsize=8)
            ax.set_xlabel(text, fontsize=9)
            ax.locator_params(axis="x", nbins=4)
            ax.tick_params(labelsize=7)
            ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(where, [label(name) for name in names], fontsize=7 if len(names) <= 40 else 6)
    axes[0].set_ylim(-0.7, len(names) - 0.3)
    figure.suptitle(f"R² of {_called(method)} over {_called(against)}")
    return figure


@styled
def activity_heatmap(
    results: xr.Dataset, estimator: str = "paper", tissues: Sequence[str] | None = None, linkage: Linkage = "complete"
) -> Figure:
    """P(I(t)=1 | Y) of genes and tissues, both clustered (Figure 4 of the paper).

    Dark cells are effects that the model is sure of, light ones tissues without. Rows that are dark throughout are
    genes with effects everywhere; blocks that are dark in neighbouring columns are effects that related tissues share,
    and the branches above say how alike tissues are in this.

    Parameters
    ----------
    results
        Of a study.
    estimator
        Whose probabilities.
    tissues
        Which; all if None.
    linkage
        How clusters join (`scipy.cluster.hierarchy.linkage`), by Euclidean distances: ``"complete"`` is what the paper
        used, ``"average"`` or ``"ward"``.

    Returns
    -------
    Figure
        A figure of its own. Genes that are active in more tissues are higher up; branches start just below the first
        join. Of more than 12,000 genes only the tissues are clustered.

    Raises
    ------
    InputError
        If no gene was fitted, or not by this estimator, there are fewer than two tissues, or no such tissue.

    Notes
    -----
    Tissues with many samples have probabilities nearer to 0 and 1 and resemble each other for that alone. Probabilities
    that are missing, where a gene has no expression, are taken for 1/2 when clustering, and hatched.
    """
    names = _tissues(results, tissues)
    expect(len(names) > 1, "at least two tissues", len(names), "tissues", "choose more")
    P = probabilities(results, estimator).sel({TISSUE: names}).to_numpy().astype(float)
    filled = np.where(np.isnan(P), 0.5, P)
    links = hierarchy.linkage(filled.T, linkage, optimal_ordering=True)
    tree = hierarchy.dendrogram(links, no_plot=True)
    columns, rows = np.array(tree["leaves"]), _order(filled, linkage)
    tall = 6.0
    figure = new_figure(2.2 + 0.17 * len(names), tall + 2.6, ConstrainedLayoutEngine(h_pad=0.02, hspace=0.0))
    branches, strip, ax = figure.subplots(3, 1, height_ratios=[0.9, 0.12, tall])
    lines = [np.column_stack([x, y]) for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)]
    branches.add_collection(LineCollection(lines, colors=INK, linewidths=0.9))
    # scipy puts leaf k at 10 k + 5; all tissues differ by much, so the branches are drawn from below the first join
    height, reach = links[:, 2], max(float(np.ptp(links[:, 2])), 1e-9)
    branches.set(xlim=(0, 10 * len(names)), ylim=(max(height.min() - 0.3 * reach, 0.0), height.max() + 0.05 * reach))
    strip.imshow([[to_rgb(colour(names[k])) for k in columns]], aspect="auto")
    for bare in (branches, strip):
        bare.set_axis_off()
    hatched(ax, *P.shape)
    framed(ax)
    picture = ax.imshow(P[np.ix_(rows, columns)], aspect="auto", cmap=SEQUENTIAL, vmin=0.0, vmax=1.0)
    picture.set_rasterized(True)
    ax.set_xticks(range(len(names)), [label(names[k]) for k in columns], rotation=90, fontsize=7)
    ax.tick_params(axis="x", length=0)
    ax.set_yticks([])
    ax.set_ylabel(f"{len(P):,} genes")
    bar = figure.colorbar(picture, ax=ax, fraction=0.04, pad=0.02, aspect=30)
    bar.set_label("P(I(t) = 1 | Y), posterior probability of an effect")
    return figure


@styled
def screening_gap(results: xr.Dataset, method: str = "paper", ax: Axes | None = None) -> Axes:
    """Mean R2 by tissue with SNPs chosen on all samples, against those chosen in each training set.

    What the first (squares) has over the second (circles), the grey bar between them, is not prediction: the samples to
    predict had a say in which SNPs are used.

    Parameters
    ----------
    results
        Of a study with both choices.
    method
        Whose predictions.
    ax
        Where to draw; a new figure, as tall as the tissues need, if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure. Thin bars are standard errors by gene.

    Raises
    ------
    InputError
        If no gene was fitted, or not by this method, or the study has one choice alone.
    """
    known = [str(one) for one in results[SCREENING].to_numpy()]
    expect(
        {"outside", "inside"} <= set(known), "outside and inside", listed(known), SCREENING, "run the study with both"
    )
    r2 = choose(fitted(results), METHOD, method)["r2"].transpose(SCREENING, GENE, TISSUE)
    r2 = r2.where(xr.apply_ufunc(np.isfinite, r2).all(SCREENING))  # of the same genes
    mean = r2.mean(GENE)
    error = r2.std(GENE, ddof=1) / np.sqrt(r2.count(GENE))
    order = np.argsort(mean.sel({SCREENING: "inside"}).to_numpy())
    names = [str(name) for name in r2[TISSUE].to_numpy()[order]]
    where = np.arange(len(names))
    ax = ax if ax is not None else new_axes(6.4, 1.3 + 0.17 * len(names))
    fair, biased = (mean.sel({SCREENING: one}).to_numpy()[order] for one in ("inside", "outside"))
    ax.hlines(where, fair, biased, color=LINE, linewidth=3, zorder=1)
    choices = (
        ("outside", LOOKS[1], 0.17, "chosen on all samples"),
        ("inside", LOOKS[0], -0.17, "chosen in each training set"),
    )
    for one, look, shift, text in choices:
        values, errors = (values.sel({SCREENING: one}).to_numpy()[order] for values in (mean, error))
        ax.errorbar(values, where + shift, xerr=errors, label=f"SNPs {text}",
                    **look | {"linestyle": "none", "elinewidth": 0.9, "markersize": 4.5})  # fmt: skip
    ax.set_yticks(where, [label(name) for name in names], fontsize=7 if len(names) <= 40 else 6)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=6)
    ax.set(ylim=(-0.8, len(names) - 0.2), xlabel=f"mean R² of {_called(method)}, cross-validated")
    above(ax, columns=1)
    return ax


@styled
def accuracy_figure(accuracy: Accuracy) -> Figure:
    """Whether probabilities and calls of a simulated study keep their promises.

    On the dashed diagonals they do. Left, points below it are probabilities that are too high; right, points above it
    are calls of which more are false than was promised.

    Parameters
    ----------
    accuracy
        As from `ebmodel.eqtl.discoveries.accuracy`.

    Returns
    -------
    Figure
        A figure of its own. Left: share of truly active pairs of gene and tissue by bin of P(I(t)=1 | Y). Right: share
        of false calls against the one that the probabilities promise. Bars are standard errors by gene.
    """
    figure = new_figure(10.4, 4.9)
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        ax.axline((0.0, 0.0), slope=1.0, **REFERENCE)
    for k, name in enumerate(accuracy.pooled[ESTIMATOR].to_numpy()):
        look = LOOKS[k % len(LOOKS)] | {"markersize": 5, "capsize": 2, "linewidth": 1.0, "zorder": 3 + k}
        curve = accuracy.reliability.sel({ESTIMATOR: name})
        curve = curve.isel({BIN: np.flatnonzero(curve["count"].to_numpy() > 0)})
        pooled, rates = accuracy.pooled.sel({ESTIMATOR: name}), accuracy.levels.sel({ESTIMATOR: name})
        text = f"{_called(str(name))}: AUC {float(pooled['auc']):.3f}, Brier {float(pooled['brier']):.3f}"
        left.errorbar(curve["predicted"], curve["observed"], curve["standard_error"], label=text, **look)
        power = f"{_called(str(name))}: power {float(pooled['power']):.2f} at {accuracy.fdr:g}"
        right.errorbar(rates["promised"], rates["realised"], rates["realised_se"], label=power, **look)
    left.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="P(I(t) = 1 | Y)", ylabel="share truly active ± SE by gene")
    right.set(xlabel="promised share of false calls", ylabel="realised share of false calls ± SE by gene")
    right.set(xlim=(0.0, None), ylim=(0.0, None))
    for ax in (left, right):
        above(ax, columns=1)
    return figure


@styled
def sharing(results: xr.Dataset, fdr: float = 0.05, estimator: str = "paper", ax: Axes | None = None) -> Axes:
    """Number of tissues in which genes are called active.

    A heap at the right is genes with effects everywhere, one at the left effects of one tissue or a few; the empty bar
    is genes that are called nowhere.

    Parameters
    ----------
    results
        Of a study.
    fdr, estimator
        As in `ebmodel.eqtl.discoveries.egenes`.
    ax
        Where to draw; a new figure if None.

    Returns
    -------
    Axes
        ``ax``, or that of the new figure.

    Raises
    ------
    InputError
        As `ebmodel.eqtl.discoveries.egenes`.
    """
    calls = egenes(results, fdr, estimator)
    tissues, genes = calls[BIN].to_numpy(), calls["sharing"].to_numpy()
    ax = ax if ax is not None else new_axes(6.4, 4.0)
    ax.bar(tissues, genes, width=0.85, color=np.where(tissues > 0, BLUE, "white"), edgecolor=BLUE)
    ax.set(xlim=(-0.8, len(tissues) - 0.2), xlabel="tissues in which a gene is called active", ylabel="genes")
    found = int(calls["egene"].sum())
    text = f"{found:,} of {calls.sizes[GENE]:,} genes in at least one tissue, {int(genes[-1]):,} in all {tissues[-1]}"
    ax.set_title(
        f"{text}\nfalse discovery rate {fdr:g}, promised {calls.attrs['promised']:.3f}", fontsize=9, loc="left"
    )
    return ax


def _screened(results: xr.Dataset, screening: str | None) -> xr.Dataset:
    """Results of one choice of SNPs, the first if it is not said which; they keep its dimension."""
    name = str(results[SCREENING].to_numpy()[0]) if screening is None else screening
    choose(results, SCREENING, name)
    return results.sel({SCREENING: [name]})


def _tissues(results: xr.Dataset, tissues: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in results[TISSUE].to_numpy()]
    names = known if tissues is None else list(tissues)
    lacking = [name for name in names if name not in known]
    expect(
        not lacking and len(names) > 0, "tissues of the study", listed(lacking), "tissues", "see its coordinate tissue"
    )
    return names


def _grid(panels: int) -> tuple[int, int]:
    """Rows and columns that hold the panels, wider than tall, with the fewest left empty."""
    least = int(np.ceil(np.sqrt(panels)))
    columns = min(range(least, least + 3), key=lambda c: (-panels % c, c))
    return -(-panels // columns), columns


def _lines(name: str) -> str:
    """A tissue's label on lines of their own for its parts, so that panels beside each other have room."""
    return label(name).replace(" – ", "\n").replace(" (", "\n(")


def _order(P: Array, linkage: Linkage) -> NDArray[np.int64]:
    """Rows clustered, at every join the one with the larger mean first."""
    mean = P.mean(axis=1)
    if not 1 < len(P) <= MOST_CLUSTERED:
        return np.argsort(-mean, kind="stable")
    leaves, weight = [[i] for i in range(len(P))], list(mean)
    for left, right in hierarchy.linkage(P, linkage)[:, :2].astype(int):
        first, second = (left, right) if weight[left] >= weight[right] else (right, left)
        size, other = len(leaves[first]), len(leaves[second])
        weight.append((size * weight[first] + other * weight[second]) / (size + other))
        leaves.append(leaves[first] + leaves[second])
    return np.array(leaves[-1])


def _called(method: str) -> str:
    """A method's name for readers."""
    return NAMES.get(method, method)
