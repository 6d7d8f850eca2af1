"""Figures show the numbers of the fit, belong to no window, and survive grey print."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import ebmodel
from ebmodel import plot
from ebmodel.demo import TISSUES, simulate_gene


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
    assert plot.ACTIVE["marker"] != plot.INACTIVE["marker"]
    assert abs(luminance(plot.ACTIVE["color"]) - luminance(plot.INACTIVE["color"])) > 0.5


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
