"""Figures of calibration show the numbers of their Datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import expit

from ebmodel import InputError
from ebmodel import calibration as cal
from ebmodel.plot import calibration as plot


@pytest.fixture(scope="module")
def claims() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log K, P and I of 30 data sets of 20 tissues, calibrated."""
    rng = np.random.default_rng(0)
    active = rng.random((30, 20)) < 0.4
    log_K = -(2.0 * (rng.standard_normal(active.shape) + 2.0 * active) - 2.0)
    return log_K, expit(np.log(0.4 / 0.6) - log_K), active


def test_reliability_draws_every_bin_that_has_tissues(claims: tuple[np.ndarray, ...]) -> None:
    curve = cal.reliability(claims[1], claims[2], draws=20)
    ax = plot.reliability(curve)
    points = ax.containers[0].lines[0].get_xydata()
    some = curve["count"].to_numpy() > 0
    np.testing.assert_allclose(points, np.column_stack([curve.predicted, curve.observed])[some])
    assert f"{float(curve.brier):.3f}" in ax.texts[0].get_text()
    assert any("SE by data set" in label for label in ax.get_legend_handles_labels()[1])


def test_one_data_set_shows_intervals(claims: tuple[np.ndarray, ...]) -> None:
    ax = plot.reliability(cal.reliability(claims[1][0], claims[2][0], 4, draws=20))
    assert any("95 % interval" in label for label in ax.get_legend_handles_labels()[1])


def test_fdr_draws_realised_and_expected_rates(claims: tuple[np.ndarray, ...]) -> None:
    rates = cal.false_discovery(claims[1], claims[2])
    ax = plot.fdr(rates)
    realised = ax.containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(realised, np.column_stack([rates.level, rates.realised]))
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rates.expected)
    plot.fdr(cal.false_discovery(claims[1][0], claims[2][0]))


def test_bayes_factors_draw_the_line_and_mark_what_is_infinite(claims: tuple[np.ndarray, ...]) -> None:
    found = cal.bayes_factors(claims[0], claims[2], tau1=0.4)
    ax = plot.bayes_factors(found)
    finite = np.isfinite(found.observed.to_numpy())
    points = ax.containers[0].lines[0].get_xydata()
    np.testing.assert_allclose(points, np.column_stack([found.claimed, found.observed])[finite])
    marked = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() in "^v")
    assert marked == (~finite & (found["count"] > 0)).sum()
    assert f"slope {float(found.slope):.2f}" in ax.get_legend_handles_labels()[1][1]


def test_bayes_factors_without_a_slope_have_no_line() -> None:
    ax = plot.bayes_factors(cal.bayes_factors([3.0, -3.0], [False, True], tau1=0.5))
    assert not any("slope" in label for label in ax.get_legend_handles_labels()[1])


def test_pit_ecdf_is_the_difference_with_its_band() -> None:
    values = np.random.default_rng(1).random((10, 5))
    values[0, 0] = np.nan
    ax = plot.pit_ecdf(values, label="v")
    curve = cal.difference(values[np.isfinite(values)], 0.95)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), curve.ecdf)
    assert "v, 49 values" in ax.get_legend_handles_labels()[1]
    with pytest.raises(InputError, match="at least two values"):
        plot.pit_ecdf([0.3])


def test_figures_are_drawn_where_they_are_asked_to_be(claims: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    figure = Figure(figsize=(10, 10), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    log_K, P, active = claims
    drawn = [
        plot.reliability(cal.reliability(P, active, "isotonic", draws=20), axes[0]),
        plot.fdr(cal.false_discovery(P, active), axes[1]),
        plot.bayes_factors(cal.bayes_factors(log_K, active, tau1=0.4), axes[2]),
        plot.pit_ecdf(P, axes[3]),
    ]
    assert drawn == list(axes)
    figure.savefig(tmp_path / "calibration.png")
    assert (tmp_path / "calibration.png").stat().st_size > 10_000
