"""The figure of a profile shows its numbers, with and without an inside to the range, and stays inside itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib import colors
from matplotlib.figure import Figure
from scipy.stats import chi2

import ebmodel
from ebmodel.plot.profiles import LABELS, profile
from ebmodel.profiles import PARAMETERS
from ebmodel.profiles import profile as find_profile


@pytest.fixture(scope="module")
def fit() -> ebmodel.Fit:
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=1, m=20, p=4, n=40, sigma=3, seed=3)
    return ebmodel.fit(gene.X, gene.Y, mean="hierarchical")


@pytest.fixture(scope="module")
def found(fit: ebmodel.Fit) -> xr.Dataset:
    return find_profile(fit, "tau1")


def drawn(ax: Any) -> dict[str, Any]:
    handles, labels = ax.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def test_every_parameter_has_a_name_on_its_axis(fit: ebmodel.Fit) -> None:
    assert set(LABELS) == set(PARAMETERS)
    ax = profile(find_profile(fit, "kappa"))
    assert ax.get_xlabel() == "κ, scale of the mean's prior"
    assert ax.get_ylabel() == "bound on the log-likelihood below its maximum"


def test_curve_region_estimate_and_wald_are_the_datasets(found: xr.Dataset) -> None:
    ax = profile(found)
    parts = drawn(ax)
    curve = parts["profile"]
    np.testing.assert_array_equal(curve.get_xdata(), found["tau1"])
    np.testing.assert_allclose(curve.get_ydata(), found["loglik"] - found["maximum"])
    box = parts["95 % region"].get_bbox() if hasattr(parts["95 % region"], "get_bbox") else None
    assert box is not None
    assert (box.x0, box.x1) == pytest.approx((float(found.lower), float(found.upper)))
    assert parts["95 % Wald interval"].get_xdata() == pytest.approx([float(found.wald_lower), float(found.wald_upper)])
    assert f"estimate, {float(found.estimate):.3g}" in parts
    drop = chi2.ppf(0.95, 1) / 2
    assert parts[f"drop of {drop:.2f}"].get_ydata()[0] == pytest.approx(-drop)
    low, high = ax.get_ylim()
    assert low == pytest.approx(-3 * drop)
    assert high > 0.0


def test_an_edge_that_is_left_out_is_an_open_circle(found: xr.Dataset) -> None:
    grid = np.array([0.0, 0.1, 0.3, 0.6])
    made = xr.Dataset(
        {"loglik": ("eta", [-101.6, -100.5, -100.0, -102.5]), "inside": ("eta", [False, True, True, False]),
         "estimate": 0.3, "maximum": -100.0, "lower": 0.0, "upper": 0.5, "wald_lower": np.nan, "wald_upper": np.nan,
         "edge": 0.0},
        {"eta": grid}, {"parameter": "eta", "level": 0.95, "of": "log-likelihood"},
    )  # fmt: skip
    parts = drawn(profile(made))
    circle = parts["0 is left out"]
    assert (circle.get_xdata()[0], circle.get_ydata()[0]) == pytest.approx((0.0, -1.6))
    assert circle.get_markerfacecolor() == "white"
    assert "95 % Wald interval" not in parts
    assert "0 is left out" not in drawn(profile(made.assign(inside=("eta", [True, True, True, False]))))
    endless = drawn(profile(made.assign(upper=np.inf)))["95 % region"]
    assert endless.get_bbox().x1 == pytest.approx(0.6)


def test_figures_are_drawn_where_asked_and_stay_inside(found: xr.Dataset) -> None:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert profile(found, ax) is ax
    ax = profile(found)
    ax.figure.draw_without_rendering()
    box = ax.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= ax.figure.bbox.x1
    assert box.y1 <= ax.figure.bbox.y1


def test_curve_and_wald_differ_in_grey_and_in_mark(found: xr.Dataset) -> None:
    parts = drawn(profile(found))
    curve, wald = parts["profile"], parts["95 % Wald interval"]
    assert curve.get_marker() != wald.get_marker()
    grey = [float(np.dot(colors.to_rgb(line.get_color()), [0.2126, 0.7152, 0.0722])) for line in (curve, wald)]
    assert abs(grey[0] - grey[1]) > 0.05
