"""Figures of a study show the numbers of its results."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ebmodel import InputError
from ebmodel.eqtl.discoveries import accuracy, egenes, gains, probabilities
from ebmodel.eqtl.tissues import TISSUES, colour, label
from ebmodel.plot import eqtl as plot
from tests.test_eqtl_discoveries import UNFITTED, study

ARTERIES = ("Artery_Aorta", "Artery_Coronary", "Artery_Tibial")
SOME = (*ARTERIES, "Brain_Cortex", "Brain_Cerebellum", "Liver", "Lung")


@pytest.fixture(scope="module")
def found() -> tuple[xr.Dataset, xr.Dataset]:
    return study(400, SOME)


def test_pmse_scatter_puts_the_method_up_and_the_other_across(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, _ = found
    figure = plot.pmse_scatter(results, method="generalised", screening="inside")
    assert len(figure.axes) == len(SOME)
    pmse = results.pmse.sel({"screening": "inside", "tissue": SOME[2]})[:, UNFITTED:]
    up, across = (pmse.sel({"method": name}).to_numpy() for name in ("generalised", "ols"))
    line = figure.axes[2].lines[0]
    inside = (across > np.quantile(across, 0.05)) & (across < np.quantile(across, 0.95))
    np.testing.assert_allclose(line.get_xydata()[inside], np.column_stack([across, up])[inside])
    assert line.get_rasterized()
    assert figure.axes[2].texts[0].get_text() == f"{100 * np.mean(up < across):.0f} %"
    assert figure.axes[2].get_title() == "Artery\nTibial"
    assert figure.get_supxlabel() == "PMSE of OLS (expression²)"


def test_pmse_panels_share_axes_that_hold_every_point(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    figure = plot.pmse_scatter(found[0])
    limits = figure.axes[0].get_xlim()
    for ax in figure.axes:
        assert ax.get_xlim() == ax.get_ylim() == limits
        points = ax.lines[0].get_xydata()
        assert len(points) == 400 - UNFITTED
        assert limits[0] < points.min() < points.max() < limits[1]


def test_pmse_scatter_of_some_tissues(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    figure = plot.pmse_scatter(found[0], ["Lung", "Artery_Aorta"])
    assert [ax.get_title() for ax in figure.axes] == ["Lung", "Artery\nAorta"]
    with pytest.raises(InputError, match="'Spleen'"):
        plot.pmse_scatter(found[0], ["Spleen"])


@pytest.mark.parametrize("panels", [1, 2, 7, 16, 32, 33, 49])
def test_panels_fit_their_grid(panels: int) -> None:
    rows, columns = plot._grid(panels)
    assert rows * columns - columns < panels <= rows * columns
    assert rows <= columns


def test_r2_gain_draws_the_gains_in_order(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, _ = found
    figure = plot.r2_gain(results)
    assert len(figure.axes) == 4
    gained = gains(results).sel({"screening": "outside", "method": "paper"})
    gained = gained.isel(tissue=np.argsort(gained.percent.to_numpy()[0]))
    for k, (quantity, row) in enumerate([("increase", 0), ("percent", 0), ("increase", 1), ("percent", 1)]):
        bars = figure.axes[k].patches
        np.testing.assert_allclose([bar.get_width() for bar in bars], gained[quantity][row])
        assert str(int(gained.genes[row].max())) in figure.axes[k].get_title()
    names = gained.tissue.to_numpy().tolist()
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [label(name) for name in names]
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [colour(name) for name in names]


def test_r2_gain_of_nothing_is_not_drawn(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results = found[0].copy(deep=True)
    results["r2"].loc[{"method": "ols", "tissue": "Lung"}] = 0.0  # no percentage
    widths = [bar.get_width() for bar in plot.r2_gain(results).axes[1].patches]
    assert np.isnan(widths).tolist() == [True] + [False] * (len(SOME) - 1)


def test_r2_gain_without_genes_that_large(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    figure = plot.r2_gain(found[0], min_snps=(0, 10_000))
    assert "(0)" in figure.axes[2].get_title()


def test_heatmap_shows_every_probability_once(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    figure = plot.activity_heatmap(found[0], "generalised")
    ax = figure.axes[2]
    shown = np.asarray(ax.images[0].get_array())
    P = probabilities(found[0], "generalised")
    names = [text.get_text() for text in ax.get_xticklabels()]
    back = [names.index(label(str(name))) for name in P.tissue.to_numpy()]
    rows = shown[:, back]
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], P.to_numpy()[np.lexsort(P.to_numpy().T)])


def test_related_tissues_and_genes_lie_together(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    ax = plot.activity_heatmap(found[0], linkage="average").figure.axes[2]
    names = [text.get_text() for text in ax.get_xticklabels()]
    where = sorted(names.index(label(name)) for name in ARTERIES)
    assert where == list(range(where[0], where[0] + 3))
    shown = np.asarray(ax.images[0].get_array())
    steps = np.abs(np.diff(shown, axis=0)).mean()
    shuffled = np.abs(np.diff(np.random.default_rng(0).permutation(shown), axis=0)).mean()
    assert steps < 0.6 * shuffled
    assert shown[: len(shown) // 4].mean() > shown[-len(shown) // 4 :].mean()


def test_heatmap_without_expression_somewhere(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results = found[0].copy(deep=True)
    results["posterior_probability"][:, 20:30, 0] = np.nan
    shown = np.asarray(plot.activity_heatmap(results).axes[2].images[0].get_array())
    assert np.isnan(shown.astype(float)).sum() in {0, 10}
    with pytest.raises(InputError, match="at least two tissues"):
        plot.activity_heatmap(results, tissues=["Lung"])


def test_many_genes_are_ordered_by_how_active_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "MOST_CLUSTERED", 10)
    P = np.random.default_rng(0).random((30, 4))
    assert (np.diff(P[plot._order(P, "complete")].mean(axis=1)) <= 0).all()
    assert plot._order(P[:1], "complete").tolist() == [0]


def test_screening_gap_joins_both_means(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    results, _ = found
    ax = plot.screening_gap(results, "ols")
    r2 = results.r2.sel({"method": "ols"})[:, UNFITTED:].mean("gene")
    outside, inside = (np.sort(container.lines[0].get_xdata()) for container in ax.containers)
    np.testing.assert_allclose(outside, np.sort(r2.sel({"screening": "outside"})))
    np.testing.assert_allclose(inside, np.sort(r2.sel({"screening": "inside"})))
    with pytest.raises(InputError, match="outside and inside"):
        plot.screening_gap(results.isel(screening=[0]))


def test_accuracy_figure_draws_both_estimators(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    judged = accuracy(*found, draws=2)
    left, right = plot.accuracy_figure(judged).axes
    for k in range(2):
        rates = judged.levels.isel(estimator=k)
        points = right.containers[k].lines[0].get_xydata()
        np.testing.assert_allclose(points, np.column_stack([rates.promised, rates.realised]))
    assert f"AUC {float(judged.pooled.auc[0]):.3f}" in left.get_legend_handles_labels()[1][0]


def test_sharing_draws_every_gene(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    ax = plot.sharing(found[0], 0.1)
    calls = egenes(found[0], 0.1)
    np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], calls.sharing)
    assert f"{int(calls.egene.sum())} of {400 - UNFITTED}" in ax.get_title(loc="left")


def test_figures_are_drawn_on_given_axes(found: tuple[xr.Dataset, xr.Dataset]) -> None:
    for draw in (plot.sharing, plot.screening_gap):
        ax = Figure().subplots()
        assert draw(found[0], ax=ax) is ax


def test_names_of_all_tissues_of_gtex_do_not_overlap(tmp_path: Path) -> None:
    results, truth = study(60, tuple(TISSUES))
    figures = {
        "pmse": plot.pmse_scatter(results),
        "gain": plot.r2_gain(results),
        "heat": plot.activity_heatmap(results),
        "gap": plot.screening_gap(results).figure,
        "accuracy": plot.accuracy_figure(accuracy(results, truth, draws=1)),
    }
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png", dpi=60)
    for name, ax, texts in (
        ("gain", figures["gain"].axes[0], "y"),
        ("gap", figures["gap"].axes[0], "y"),
        ("heat", figures["heat"].axes[2], "x"),
    ):
        ticks = ax.get_yticklabels() if texts == "y" else ax.get_xticklabels()
        boxes = [text.get_window_extent() for text in ticks]
        assert len(boxes) == 49, name
        assert not any(one.overlaps(other) for one, other in pairwise(boxes)), name
    titles = [ax.title.get_window_extent() for ax in figures["pmse"].axes]
    assert not any(one.overlaps(other) for k, one in enumerate(titles) for other in titles[:k])
