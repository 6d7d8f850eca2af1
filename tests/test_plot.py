"""Figures show the numbers of the fit, belong to no window, and survive grey print."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import ebmodel
from ebmodel import plot
from ebmodel.demo import TISSUES, simulate_gene
from ebmodel.plot import comparison, style


@pytest.fixture(scope="module")
def demo() -> tuple[ebmodel.Fit, Any]:
    gene = simulate_gene(seed=0)
    return ebmodel.fit(gene.X, gene.Y, n_starts=5), gene.active


def offsets(ax: Axes) -> list[np.ndarray]:
    """Points of every scatter that has any."""
    return [
        c.get_offsets().data for c in ax.collections if len(c.get_offsets()) > 1 or c.get_label().startswith("truly")
    ]


def luminance(color: str) -> float:
    return float(np.dot(colors.to_rgb(color), [0.2126, 0.7152, 0.0722]))


def test_probability_points_are_the_fits_by_tissue_and_truth(demo: tuple[ebmodel.Fit, Any]) -> None:
    fit, truth = demo
    ax = plot.posterior_probability(fit, truth)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(names) == sorted(TISSUES)
    handles, labels = ax.get_legend_handles_labels()
    for which, label in ((True, "truly active"), (False, "truly inactive")):
        x, y = handles[labels.index(label)].get_offsets().data.T
        drawn = {names[round(place)]: value for place, value in zip(y, x, strict=True)}
        wanted = fit.posterior_probability.where(truth == which, drop=True)
        assert drawn == {str(t): v for t, v in zip(wanted.tissue.to_numpy(), wanted.to_numpy(), strict=True)}
    assert any(f"τ₁ = {fit.params.tau1:.2f}" in label for label in labels)
    assert "P(I(t) = 1 | Y)" in ax.get_xlabel()


def test_truth_is_matched_by_name_or_taken_in_order(demo: tuple[ebmodel.Fit, Any]) -> None:
    fit, truth = demo
    axes = [plot.posterior_probability(fit, given) for given in (truth, truth[::-1], truth.to_numpy())]
    for other in axes[1:]:
        for a, b in zip(offsets(axes[0]), offsets(other), strict=True):
            np.testing.assert_array_equal(a, b)


def test_without_truth_every_tissue_is_drawn_alike(demo: tuple[ebmodel.Fit, Any]) -> None:
    ax = plot.posterior_probability(demo[0])
    (points,) = offsets(ax)
    np.testing.assert_array_equal(points[:, 0], np.sort(demo[0].posterior_probability))


def test_shrinkage_points_are_least_squares_against_empirical_bayes(demo: tuple[ebmodel.Fit, Any]) -> None:
    fit, _ = demo
    ax = plot.shrinkage(fit, units="log2 expression per allele")
    (points,) = offsets(ax)
    np.testing.assert_array_equal(points, np.column_stack([fit.ols.to_numpy().ravel(), fit.effects.to_numpy().ravel()]))
    shade = ax.collections[0].get_array().reshape(fit.ols.shape)
    np.testing.assert_array_equal(shade, np.repeat(fit.posterior_probability.to_numpy()[:, None], 8, axis=1))
    assert ax.get_xlabel() == "Least-squares effect (log2 expression per allele)"
    assert ax.get_ylabel() == "Empirical-Bayes effect (log2 expression per allele)"


def test_tissues_without_least_squares_are_left_out_and_said_to_be() -> None:
    gene = simulate_gene(seed=1)
    Y = gene.Y.copy()
    Y[6:, 3] = np.nan
    ax = plot.shrinkage(ebmodel.fit(gene.X, Y, n_starts=3))
    (points,) = offsets(ax)
    assert points.shape == (29 * 8, 2)
    assert any("1 tissue without least squares" in label for label in ax.get_legend_handles_labels()[1])


@pytest.mark.parametrize("draw", [plot.posterior_probability, plot.shrinkage])
def test_figures_are_drawn_where_asked_and_saved(demo: tuple[ebmodel.Fit, Any], tmp_path: Path, draw: Any) -> None:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert draw(demo[0], ax=ax) is ax
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_no_window_is_opened_and_no_setting_changed(demo: tuple[ebmodel.Fit, Any]) -> None:
    before = dict(mpl.rcParams)
    plot.posterior_probability(*demo)
    plot.shrinkage(demo[0])
    assert dict(mpl.rcParams) == before
    pyplot = pytest.importorskip("matplotlib.pyplot")
    assert pyplot.get_fignums() == []


def test_marks_differ_in_grey_and_in_shape() -> None:
    assert style.ACTIVE["marker"] != style.INACTIVE["marker"]
    assert abs(luminance(style.ACTIVE["color"]) - luminance(style.INACTIVE["color"])) > 0.5


@pytest.mark.parametrize("draw", [plot.posterior_probability, plot.shrinkage])
def test_everything_stays_inside_the_figure(demo: tuple[ebmodel.Fit, Any], draw: Any) -> None:
    ax = draw(*demo[: 2 if draw is plot.posterior_probability else 1])
    ax.figure.draw_without_rendering()
    drawn = ax.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= ax.figure.bbox.x1
    assert drawn.y1 <= ax.figure.bbox.y1


def test_labels_do_not_overlap(demo: tuple[ebmodel.Fit, Any]) -> None:
    ax = plot.posterior_probability(*demo)
    ax.figure.draw_without_rendering()
    boxes = sorted((label.get_window_extent() for label in ax.get_yticklabels()), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_alpha_profile_shows_interval_maximum_and_the_paper() -> None:
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=1, m=20, p=6, seed=3)
    profile = ebmodel.alpha_profile(gene.X, gene.Y, n_starts=5)
    ax = plot.alpha_profile(profile)
    curve = next(line for line in ax.get_lines() if line.get_label() == "profile")
    np.testing.assert_array_equal(curve.get_xdata(), profile["alpha"])
    assert np.max(curve.get_ydata()) == 0.0
    labels = ax.get_legend_handles_labels()[1]
    assert {"95 % interval", "the paper, α = 1"} < set(labels)
    assert any(f"α = {float(profile['estimate']):.2f}" in label for label in labels)


# EM against the full posterior ---------------------------------------------------------------------------------------


def pretend(fit: ebmodel.Fit, **more: float) -> xr.DataTree:
    """Draws as `ebmodel.sample` lays them out, their hyperparameters scattered about the fit's: no sampler needed."""
    rng, shape = np.random.default_rng(3), (2, 60)
    scatter = np.exp(0.2 * rng.standard_normal(shape))
    posterior, theta = fit.to_datatree(60, 2)["posterior"].to_dataset(), fit.params
    dims = ("chain", "draw")
    posterior = posterior.assign(
        {"tau1": (dims, theta.tau1 ** scatter), "sigma2": (dims, theta.sigma2 * scatter),
         "eta": (dims, (theta.eta or 1.0) * scatter), **{name: (dims, value * scatter) for name, value in more.items()}}
    )  # fmt: skip
    posterior["beta"] = theta.beta * posterior["sigma2"] / theta.sigma2
    posterior["probability"] = fit.posterior_probability * 0.6 + 0.3 * posterior["tau1"]
    data = {"observed_data": fit.dataset[["Y"]], "constant_data": fit.dataset[["X"]]}
    tree = xr.DataTree.from_dict({"posterior": posterior, **data})
    tree.attrs = {"slab": fit.dataset.attrs["slab"], "verdict": "Sound: pretended."}
    return tree


@pytest.fixture(scope="module")
def both(demo: tuple[ebmodel.Fit, Any]) -> xr.Dataset:
    return ebmodel.compare(demo[0], pretend(demo[0]))


def of(comparison: xr.Dataset, kind: str) -> xr.Dataset:
    return comparison.isel(quantity=np.flatnonzero(comparison["kind"] == kind))


def test_probabilities_of_both_are_drawn_and_the_furthest_named(both: xr.Dataset) -> None:
    ax = plot.probabilities_compared(both)
    P = of(both, "probability")
    (points,) = [c.get_offsets().data for c in ax.collections if c.get_label() == "posterior mean"]
    np.testing.assert_array_equal(points, np.column_stack([P["em"], P["mean"]]))
    gap = np.abs(P["em"] - P["mean"]).to_numpy()
    furthest = P["tissue"].to_numpy()[np.argsort(-gap, kind="stable")[: comparison.LABELLED]]
    assert gap.max() > comparison.APART
    assert sorted(text.get_text() for text in ax.texts) == sorted(
        furthest[np.sort(gap)[::-1][: comparison.LABELLED] > 0.1]
    )


def test_no_tissue_is_named_where_all_agree(both: xr.Dataset) -> None:
    assert not list(plot.probabilities_compared(both.assign(mean=both["em"])).texts)


def test_effects_and_widths_of_both_are_drawn(both: xr.Dataset) -> None:
    axes = plot.effects_compared(both, units="log2 expression per allele")
    E = of(both, "effect")
    widths = E["em_upper"] - E["em_lower"], E["upper"] - E["lower"]
    for ax, (x, y) in zip(axes, ((E["em"], E["mean"]), widths), strict=True):
        np.testing.assert_array_equal(offsets(ax)[0], np.column_stack([x, y]))
        assert "log2 expression per allele" in ax.get_xlabel()
        assert ax.get_xlim() == ax.get_ylim()
    assert "95 % interval" in axes[1].get_ylabel()


def test_hyperparameters_show_where_the_em_stands(demo: tuple[ebmodel.Fit, Any]) -> None:
    fit, theta = demo[0], demo[0].params
    axes = plot.hyperparameters(fit, pretend(fit))
    assert axes.shape == (4, 4)
    em = [theta.tau1, np.log10(theta.eta), theta.sigma2, np.linalg.norm(theta.beta)]
    for i in range(4):
        assert [ax.axison for ax in axes[i]] == [j <= i for j in range(4)]
        for j in range(i):
            (star,) = [line for line in axes[i, j].lines if line.get_marker() == "*"]
            assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((em[j], em[i]))
            assert axes[i, j].get_xlim() == axes[j, j].get_xlim()
    assert [ax.get_xlabel() for ax in axes[3]] == ["τ₁", "log₁₀ η", "σ² (expression²)", "‖β‖"]


def test_an_eta_of_0_is_an_arrow_and_words(demo: tuple[ebmodel.Fit, Any]) -> None:
    ds = demo[0].dataset
    axes = plot.hyperparameters(ebmodel.Fit(ds.assign(eta=0.0)), pretend(demo[0]))
    assert [text.get_text() for text in axes[1, 1].texts] == ["EM: η = 0"]
    arrows = {
        ij: [line.get_marker() for line in axes[ij].lines if line.get_marker() in "<v*"] for ij in np.ndindex(4, 4)
    }
    assert (arrows[1, 0], arrows[1, 1], arrows[2, 1], arrows[3, 1], arrows[2, 0]) == (["v"], ["<"], ["<"], ["<"], ["*"])


def test_learned_hyperparameters_join(demo: tuple[ebmodel.Fit, Any]) -> None:
    fit = demo[0]
    axes = plot.hyperparameters(fit, pretend(fit, alpha=0.5, kappa=2.0))
    assert [ax.get_xlabel() for ax in axes[5]][4:] == ["α", "log₁₀ κ"]
    assert not [line for line in axes[5, 0].lines if line.get_marker() == "*"]  # the EM has no kappa


def test_comparisons_stay_inside_their_figures(demo: tuple[ebmodel.Fit, Any], both: xr.Dataset, tmp_path: Path) -> None:
    drawn = (
        np.array([plot.probabilities_compared(both)]),
        plot.effects_compared(both),
        plot.hyperparameters(demo[0], pretend(demo[0])),
    )
    for axes in drawn:
        figure = axes.ravel()[0].figure
        figure.savefig(tmp_path / "figure.png")
        for ax in axes.ravel():
            box = ax.get_tightbbox()
            if ax.axison:
                assert box.x0 >= 0
                assert box.y0 >= 0
                assert box.x1 <= figure.bbox.x1
                assert box.y1 <= figure.bbox.y1
    # of the words alone: an annotation's own extent takes in its line
    names = sorted((Text.get_window_extent(text) for text in drawn[0][0].texts), key=lambda box: box.y0)
    assert not any(low.overlaps(high) for low, high in pairwise(names))
    figure = Figure()
    ax = figure.subplots()
    assert plot.probabilities_compared(both, ax) is ax
    two = Figure().subplots(1, 2)
    assert list(plot.effects_compared(both, two)) == list(two)
    figure = Figure()
    assert plot.hyperparameters(demo[0], pretend(demo[0]), figure)[0, 0].figure is figure
