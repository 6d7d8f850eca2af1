"""Every public plotting function on small data, for tests of what all of them keep to."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from itertools import combinations
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.special import expit

import ebmodel
from ebmodel import calibration, mash, plot
from ebmodel.demo import simulate_gene
from ebmodel.eqtl.discoveries import accuracy
from ebmodel.eqtl.tissues import TISSUES
from tests.test_eqtl_discoveries import study
from tests.test_plot import pretend
from tests.test_plot_mash import simulated

HELPERS = ("style",)
"""Modules of `ebmodel.plot` that draw nothing."""


def modules() -> dict[str, ModuleType]:
    """The modules of `ebmodel.plot` that draw, by name."""
    names = [info.name for info in iter_modules(plot.__path__) if info.name not in HELPERS]
    return {name: import_module(f"{plot.__name__}.{name}") for name in names}


def public() -> dict[str, Callable[..., Any]]:
    """Every plotting function: ``module.name`` -> function."""
    return {
        f"{where}.{name}": getattr(module, name)
        for where, module in modules().items()
        for name in module.__all__
        if inspect.isroutine(getattr(module, name))
    }


@cache
def gene() -> xr.Dataset:
    return simulate_gene(seed=0)


@cache
def fit() -> ebmodel.Fit:
    return ebmodel.fit(gene().X, gene().Y, n_starts=3)


@cache
def checked() -> xr.Dataset:
    """Checks of the fit, with one of every verdict, one that was not made and one beyond the figure."""
    found = ebmodel.check(fit(), replicates=19, refit=False, progress=False)
    for name, verdict in (("linearity", "fails"), ("normal-errors", "doubtful")):
        found["verdict"].loc[{"check": name}] = verdict
    found["observed"].loc[{"check": "linearity"}] = 20.0 * found["reference_95"].sel(check="linearity")
    return found


@cache
def compared() -> xr.Dataset:
    return ebmodel.compare(fit(), pretend(fit()))


@cache
def claims() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log K, P and I of 30 data sets of 20 tissues; their odds are twice too sure."""
    rng = np.random.default_rng(0)
    active = rng.random((30, 20)) < 0.4
    log_K = -2.0 * (2.0 * (rng.standard_normal(active.shape) + 2.0 * active) - 2.0)
    return log_K, expit(np.log(0.4 / 0.6) - log_K), active


@cache
def profile_with_an_edge() -> xr.Dataset:
    """A profile whose region leaves out the edge that it comes near, with a Wald interval."""
    eta = np.linspace(0.0, 1.2, 13)
    loglik = -100.0 - 8.0 * (eta - 0.5) ** 2
    inside = (loglik > -101.92) & (eta > 0.0)
    values = {"estimate": 0.5, "maximum": -100.0, "lower": 0.0, "upper": 0.99, "wald_lower": 0.05, "wald_upper": 0.95}
    return xr.Dataset(
        {"loglik": ("eta", loglik), "inside": ("eta", inside), "edge": 0.0, **values},
        {"eta": eta}, {"parameter": "eta", "level": 0.95, "of": "log-likelihood"},
    )  # fmt: skip


@cache
def genes() -> tuple[xr.Dataset, xr.Dataset]:
    return study(150, tuple(TISSUES)[::5])


@cache
def together() -> mash.MashFit:
    names = [*list(TISSUES)[::8], "Brain_Cortex", "Brain_Hippocampus"]
    learned = mash.Covariance.of("learned", np.eye(len(names)) + 1.0, "data-driven")
    return mash.fit(*simulated(names), covariances=[*mash.canonical(names), learned])


DATA: dict[str, Callable[[], tuple[Any, ...]]] = {
    "calibration.bayes_factors": lambda: (calibration.bayes_factors(claims()[0], claims()[2], tau1=0.4),),
    "calibration.fdr": lambda: (calibration.false_discovery(claims()[1], claims()[2]),),
    "calibration.pit_ecdf": lambda: (claims()[1],),
    "calibration.reliability": lambda: (calibration.reliability(claims()[1], claims()[2], draws=20),),
    "checks.checks": lambda: (checked(),),
    "checks.effects_by_size": lambda: (fit(),),
    "checks.residual_correlation": lambda: (fit(),),
    "checks.residual_variances": lambda: (fit(),),
    "checks.residuals_qq": lambda: (fit(),),
    "comparison.effects_compared": lambda: (compared(),),
    "comparison.hyperparameters": lambda: (fit(), pretend(fit())),
    "comparison.probabilities_compared": lambda: (compared(),),
    "eqtl.accuracy_figure": lambda: (accuracy(*genes(), draws=2),),
    "eqtl.activity_heatmap": lambda: (genes()[0],),
    "eqtl.pmse_scatter": lambda: (genes()[0],),
    "eqtl.r2_gain": lambda: (genes()[0], (0, 10)),
    "eqtl.screening_gap": lambda: (genes()[0],),
    "eqtl.sharing": lambda: (genes()[0],),
    "fit.alpha_profile": lambda: (ebmodel.alpha_profile(gene().X, gene().Y, n_starts=2),),
    "fit.overview": lambda: (fit(), gene().active),
    "fit.posterior_probability": lambda: (fit(), gene().active),
    "fit.shrinkage": lambda: (fit(),),
    "mash.covariance_patterns": lambda: (together(), 3),
    "mash.shared_conditions": lambda: (together(),),
    "mash.sharing_heatmap": lambda: (together(),),
    "mash.shrinkage": lambda: (together(), "gene3"),
    "mash.weights_figure": lambda: (together(),),
    "profiles.profile": lambda: (profile_with_an_edge(),),
}
"""What each function is drawn on."""


@cache
def data(name: str) -> tuple[Any, ...]:
    """What a function is drawn on, made once."""
    return DATA[name]()


# What a figure says without its colours ------------------------------------------------------------------------------


def figure_of(drawn: Any) -> Figure:
    """The figure of what a plotting function returns."""
    if isinstance(drawn, Figure):
        return drawn
    return np.ravel(drawn)[0].get_figure(root=True)


def grey(colour: Any) -> float:
    """Lightness that is printed, 0 to 100, on white paper."""
    r, g, b, alpha = to_rgba(colour)
    return 100.0 * (1.0 - alpha * (1.0 - (0.299 * r + 0.587 * g + 0.114 * b)))


@dataclass(frozen=True)
class Look:
    """How an entry of a legend is told from others in a grey print."""

    shape: tuple[object, ...]
    """Mark, dashes, whether it is filled, hatching: what has to do with no colour."""
    lightness: float


def look(handle: Any) -> Look:
    """What a grey print has of a legend's entry."""
    if isinstance(handle, ErrorbarContainer):
        return replace(look(handle[0]), shape=("bars", *look(handle[0]).shape))
    if isinstance(handle, Line2D):
        marked = handle.get_marker() not in {None, "", " ", "None", "none"}
        filled = marked and grey(handle.get_markerfacecolor()) < 90.0
        dashes = str(handle.get_linestyle()) if handle.get_linestyle() != "--" else str(handle._unscaled_dash_pattern)
        ink = handle.get_markeredgecolor() if marked else handle.get_color()
        return Look(("line", handle.get_marker() if marked else "", filled, dashes), grey(ink))
    if isinstance(handle, PathCollection):
        face = handle.get_facecolor()
        filled = len(face) > 0 and grey(face[0]) < 90.0
        edge = face[0] if filled else handle.get_edgecolor()[0]
        return Look(("points", len(handle.get_paths()[0].vertices), filled), grey(edge))
    if isinstance(handle, LineCollection):
        return Look(("lines", float(handle.get_linewidth()[0]) > 3.0), grey(handle.get_color()[0]))
    if isinstance(handle, (Patch, PolyCollection, BarContainer)):
        patch = handle[0] if isinstance(handle, BarContainer) else handle
        face = np.atleast_2d(patch.get_facecolor())[0]
        return Look(("area", patch.get_hatch()), grey(face))
    raise TypeError(type(handle))


def alike(figure: Figure, apart: float = 20.0) -> list[tuple[str, str]]:
    """Entries of one legend that a grey print does not tell apart."""
    legends = [*figure.legends, *(legend for ax in figure.axes if (legend := ax.get_legend()) is not None)]
    # of bars with errors a legend keeps the errors, which have no mark
    own = {name: handle for ax in figure.axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    found = []
    for legend in legends:
        names = [text.get_text() for text in legend.get_texts()]
        entries = [(name, own.get(name, shown)) for name, shown in zip(names, legend.legend_handles, strict=True)]
        for (name, one), (other, two) in combinations(entries, 2):
            a, b = look(one), look(two)
            if a.shape == b.shape and abs(a.lightness - b.lightness) < apart:
                found.append((name, other))
    return found


def beside(ax: Axes, axis: str) -> list[Axes]:
    """The panels of the same column (of axis x) or row (of y), which one label serves."""
    place = ax.get_subplotspec()
    if place is None:
        return [ax]
    grid, span = place.get_gridspec(), "colspan" if axis == "x" else "rowspan"
    others = [one for one in ax.figure.axes if (spec := one.get_subplotspec()) and spec.get_gridspec() is grid]
    return [one for one in others if getattr(one.get_subplotspec(), span) == getattr(place, span)]


def unlabelled(figure: Figure) -> list[str]:
    """Axes that have numbers but no word for them, on their own or at the end of their row or column."""
    figure.draw_without_rendering()
    found = []
    for k, ax in enumerate(figure.axes):
        for axis, shared in ((ax.xaxis, figure.get_supxlabel()), (ax.yaxis, figure.get_supylabel())):
            texts = [tick.get_text() for tick in axis.get_ticklabels() if tick.get_visible() and tick.get_text()]
            numbers = [text for text in texts if re.fullmatch(r"[−\-\d.,$\\{}^a-z×e]*\d[}$]*", text)]
            if ax.get_visible() and ax.axison and numbers and not (axis.get_label_text() or shared):
                words = (getattr(one, f"{axis.axis_name}axis").get_label_text() for one in beside(ax, axis.axis_name))
                if not any(words):
                    found.append(f"panel {k}, {axis.axis_name}: {numbers[:3]}")
    return found
