"""Figures of mash show the numbers of a fit."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ebmodel import mash
from ebmodel.eqtl.tissues import colour, label
from ebmodel.errors import InputError
from ebmodel.mash.sharing import number_shared, pairwise_sharing
from ebmodel.plot import mash as plot

BRAIN = ["Brain_Cortex", "Brain_Hippocampus", "Brain_Cerebellum"]
TISSUES = ["Liver", "Brain_Cortex", "Lung", "Brain_Hippocampus", "Cells_Transformed_fibroblasts", "Brain_Cerebellum"]


def simulated(names: list[str], J: int = 150, missing: bool = True) -> Any:
    """Effects that brain tissues share, and others that all share."""
    rng = np.random.default_rng(8)
    brain = np.array([name.startswith("Brain") for name in names])
    b = np.where(rng.random((J, 1)) < 0.5, np.where(brain, 4.0, 0.0), 3.0) * rng.standard_normal((J, 1))
    shat = np.exp(0.2 * rng.standard_normal(b.shape))
    bhat = b + shat * rng.standard_normal(b.shape)
    if missing:
        bhat[3, 1] = np.nan
    coords = {"effect": [f"gene{j}" for j in range(J)], "condition": names}
    return tuple(xr.DataArray(one, coords, ("effect", "condition")) for one in (bhat, shat))


@pytest.fixture(scope="module")
def fit() -> mash.MashFit:
    learned = {name: np.outer(v, v) + 0.02 * np.eye(6) for name, v in (("brain_block", np.isin(TISSUES, BRAIN) * 1.0),)}
    given = [*mash.canonical(TISSUES), *(mash.Covariance.of(name, U, "data-driven") for name, U in learned.items())]
    return mash.fit(*simulated(TISSUES), covariances=given)


@pytest.fixture(scope="module")
def plain() -> mash.MashFit:
    """Of conditions that are no tissues."""
    bhat, shat = simulated(TISSUES[:4], missing=False)
    return mash.fit(bhat.to_numpy(), shat.to_numpy(), covariances="canonical")


def inside(figure: Figure) -> bool:
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    return bool(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() or ax.get_title(loc="left") for ax in figure.axes]


def test_patterns_are_those_of_the_largest_weights(fit: mash.MashFit) -> None:
    figure = plot.covariance_patterns(fit, most=3, vectors=2)
    total = fit.weights.sum("scale")
    first = total.sortby(-total)[:3]
    panels = [ax for ax in figure.axes if ax.images and ": weight" in ax.get_title()]
    wanted = [f"{label(str(name))}: weight {w:.3f}" for name, w in zip(first.covariance.to_numpy(), first, strict=True)]
    assert [ax.get_title() for ax in panels] == wanted
    key = next(ax for ax in figure.axes if "order above" in ax.get_title(loc="left"))
    order = [text.get_text() for text in key.texts]
    assert sorted(order) == sorted(map(label, TISSUES))
    where = [[label(name) for name in TISSUES].index(name) for name in order]
    at = sorted(order.index(label(name)) for name in BRAIN)
    assert np.ptp(at) == 2  # neighbours
    k = next(k for k, name in enumerate(first.covariance.to_numpy()) if str(name) == "brain_block")
    U = fit.covariances.sel(covariance="brain_block").to_numpy()[np.ix_(where, where)]
    sd = np.sqrt(np.diag(U))
    np.testing.assert_allclose(panels[k].images[0].get_array(), U / np.outer(sd, sd), atol=1e-12)
    value, vector = np.linalg.eigh(U)
    bars = next(ax for ax in figure.axes if ax.get_title() == f"{100 * value[-1] / value.sum():.0f} % of variance")
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(np.abs(heights), np.abs(vector[:, -1]), atol=1e-12)
    assert max(heights, key=abs) > 0
    names = [TISSUES[r] for r in where]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars.patches] == [colour(name).upper() for name in names]


def test_a_covariance_of_rank_one_has_one_eigenvector_and_is_drawn_as_it_is(plain: mash.MashFit) -> None:
    figure = plot.covariance_patterns(plain.dataset, most=9, vectors=3, order="given")
    names = plain.dataset.covariance.to_numpy().tolist()
    for row, ax in enumerate(ax for ax in figure.axes if ": weight" in ax.get_title()):
        name = ax.get_title().split(":")[0].replace(" ", "_")
        panels = [one for one in figure.axes if one.get_subplotspec() and one is not ax]
        panels = [
            one for one in panels if one.get_subplotspec().rowspan.start == row and ": weight" not in one.get_title()
        ]
        rank = int(plain.dataset["rank"][names.index(name)])
        assert sum(one.axison for one in panels) == min(rank, 3)
        if rank == 1:
            np.testing.assert_allclose(ax.images[0].get_array(), plain.covariances.sel(covariance=name))


def test_shrinkage_shows_estimates_and_posteriors(fit: mash.MashFit) -> None:
    ax = plot.shrinkage(fit, "gene3")
    one = fit.dataset.sel(effect="gene3")
    assert [text.get_text() for text in ax.get_yticklabels()] == [label(name) for name in TISSUES]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # from the top
    assert ax.get_legend().get_title().get_text() == "gene3"
    raw, *shrunk = ax.containers
    there = np.flatnonzero(np.isfinite(one["bhat"]))
    assert len(there) == 5
    np.testing.assert_allclose(raw[0].get_xdata(), one["bhat"].to_numpy()[there])
    for container, which in zip(shrunk, (one["lfsr"] < 0.05, one["lfsr"] >= 0.05), strict=True):
        which = which.to_numpy()
        np.testing.assert_allclose(container[0].get_xdata(), one["mean"].to_numpy()[which])
        ends = [segment[:, 0] for segment in container[2][0].get_segments()]
        wanted = np.column_stack([one["mean"] - 2 * one["sd"], one["mean"] + 2 * one["sd"]])[which]
        np.testing.assert_allclose(np.reshape(ends, (-1, 2)), wanted)
    assert to_hex(shrunk[1][0].get_markerfacecolor()) == "#ffffff"
    assert to_hex(shrunk[0][0].get_markerfacecolor()) != "#ffffff"


def test_shrinkage_needs_no_estimates(fit: mash.MashFit) -> None:
    ax = plot.shrinkage(fit.dataset[["mean", "sd", "lfsr"]], "gene0")
    assert len(ax.containers) == 2
    with pytest.raises(InputError, match="'gene999'"):
        plot.shrinkage(fit, "gene999")


def test_histograms_count_shared_conditions(fit: mash.MashFit) -> None:
    groups = {"brain": BRAIN, "others": [name for name in TISSUES if name not in BRAIN]}
    figure = plot.shared_conditions(fit, groups=groups)
    panels = [(name, factor) for name in groups for factor in (0.0, 0.5)]
    for ax, (name, factor) in zip(figure.axes, panels, strict=True):
        count = number_shared(fit, factor, conditions=groups[name]).to_numpy()
        np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], np.bincount(count, minlength=4)[1:])
        assert ax.get_title(loc="left").endswith(f"{len(count)} effects, {count.mean():.1f} of 3 on average")
    assert titles(figure)[1].startswith("brain, by magnitude, within 2-fold")
    assert len(plot.shared_conditions(fit).axes) == 2
    assert titles(plot.shared_conditions(fit, level=1e-300))[0].endswith("0 effects")
    with pytest.raises(InputError, match="0 < factor < 1"):
        plot.shared_conditions(fit, factor=0.0)


@pytest.mark.parametrize("order", ["given", "cluster"])
def test_heatmap_is_pairwise_sharing(fit: mash.MashFit, order: Any) -> None:
    ax = plot.sharing_heatmap(fit, order=order)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [text.get_text() for text in ax.get_xticklabels()]
    where = [[label(name) for name in TISSUES].index(name) for name in names]
    np.testing.assert_array_equal(ax.images[0].get_array(), pairwise_sharing(fit).to_numpy()[np.ix_(where, where)])
    if order == "given":
        assert where == list(range(6))
    else:
        assert np.ptp([names.index(label(name)) for name in BRAIN]) == 2
    assert ax.images[0].get_cmap().name == "cividis_r"  # its lightness is monotone


def test_heatmap_where_nothing_is_significant(fit: mash.MashFit) -> None:
    ax = plot.sharing_heatmap(fit, level=1e-300)
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)).all()
    with pytest.raises(InputError, match="'cluster' or 'given'"):
        plot.sharing_heatmap(fit, order="random")


def test_weights_are_summed_by_covariance_and_by_scale(fit: mash.MashFit) -> None:
    figure = plot.weights_figure(fit, most=3)
    left, right, top = figure.axes
    total = np.sort(fit.weights.sum("scale").to_numpy())[::-1]
    wanted = [*total[:3], total[3:].sum(), fit.null_weight]
    np.testing.assert_allclose([bar.get_width() for bar in left.patches], wanted, atol=1e-15)
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names[3:] == [f"{len(total) - 3} others", "point mass at 0"]
    np.testing.assert_allclose([bar.get_height() for bar in top.patches], fit.weights.sum("covariance"))
    areas = right.collections[0].get_sizes()
    shown = fit.weights.sel(covariance=fit.weights.sum("scale").idxmax()).to_numpy()
    at = right.collections[0].get_offsets()
    np.testing.assert_allclose(areas[at[:, 1] == 0] / areas[at[:, 1] == 0].max(), shown[shown > 1e-4] / shown.max())
    assert len(plot.weights_figure(fit, most=50).axes[0].patches) == fit.weights.sizes["covariance"] + 1


@pytest.mark.parametrize("which", ["fit", "plain"])
def test_everything_stays_inside_and_no_setting_changes(which: str, request: Any) -> None:
    fit, before = request.getfixturevalue(which), dict(mpl.rcParams)
    effect = str(fit.dataset.effect.to_numpy()[0])
    figures = [plot.covariance_patterns(fit, most=2, vectors=1), plot.shared_conditions(fit), plot.weights_figure(fit)]
    figures += [plot.shrinkage(fit, effect).figure, plot.sharing_heatmap(fit).figure]
    for k, figure in enumerate(figures):
        assert inside(figure), k
    assert dict(mpl.rcParams) == before


def test_functions_draw_where_they_are_told(fit: mash.MashFit) -> None:
    left, right = Figure().subplots(1, 2)
    assert plot.shrinkage(fit, "gene0", ax=left) is left
    assert plot.sharing_heatmap(fit, ax=right) is right


def test_names_of_many_tissues_do_not_overlap() -> None:
    names = [f"Brain_part_{r}" for r in range(44)]
    rng = np.random.default_rng(0)
    mean, lfsr = rng.standard_normal((50, 44)), np.full((50, 44), 0.01)
    data = xr.Dataset({"mean": (("effect", "condition"), mean), "lfsr": (("effect", "condition"), lfsr)},
                      {"effect": range(50), "condition": names})  # fmt: skip
    ax = plot.sharing_heatmap(data)
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"most": 0}, "at least one covariance"), ({"vectors": 0}, "eigenvector"), ({"show": "U"}, "'correlation' or")],
)
def test_what_cannot_be_drawn_is_refused(fit: mash.MashFit, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        plot.covariance_patterns(fit, **settings)
    with pytest.raises(InputError, match="at least one covariance"):
        plot.weights_figure(fit, most=0)
