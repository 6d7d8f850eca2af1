"""Figures of a report: each as PNG, with its caption and with what a reader who cannot see it should know."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ebmodel import plot
from ebmodel.checks.catalogue import SHAPE
from ebmodel.checks.view import View, frame_of
from ebmodel.labels import CHECK, QUANTITY, TISSUE
from ebmodel.residuals import correlation
from ebmodel.results import Fit
from ebmodel.shape import profile_of

__all__ = ["Illustration", "illustrations"]

DPI = 110


class Illustration(NamedTuple):
    """One figure."""

    name: str
    """Of its file, without ending."""
    png: bytes
    alt: str
    """What it shows, in words."""
    caption: str


def illustrations(
    fit: Fit, checks: xr.Dataset | None, tree: xr.DataTree | None, comparison: xr.Dataset | None
) -> dict[str, Illustration]:
    """Every figure that the parts at hand give, by name."""
    drawn = {}
    # names with two dollars would be taken for mathematics
    with mpl.rc_context({"text.parse_math": False}):
        for name, draw, alt, caption in _wanted(fit, checks, tree, comparison):
            drawn[name] = Illustration(name, _png(draw().get_figure(root=True)), alt, caption)
    return drawn


type _Wanted = tuple[str, Callable[[], Any], str, str]


def _wanted(
    fit: Fit, checks: xr.Dataset | None, tree: xr.DataTree | None, comparison: xr.Dataset | None
) -> Iterator[_Wanted]:
    """Name, how to draw it, alternative text and caption."""
    yield from _of_fit(fit)
    if checks is not None:
        yield ("checks", lambda: plot.checks(checks), _checks_in_words(checks),
               "Every check on one scale. 0 is the median of the discrepancy on data drawn from the fit, 1 the point "
               "that 5 % of them exceed; bars reach from their 5 % to their 95 % point. Beyond 1 an assumption is "
               "doubtful. For enough-tissues, which is no test, 1 is a tenth of the gain given away.")  # fmt: skip
        if _shape_was_checked(checks):
            yield _profile(fit)
        yield from _of_checks(fit)
    if comparison is not None:
        yield ("probabilities", lambda: plot.probabilities_compared(comparison), _gap_in_words(comparison),
               "P(I(t) = 1 | Y) of every tissue by EM and in the full posterior; bars: what not knowing the "
               "hyperparameters leaves open. Tissues far from the diagonal are named.")  # fmt: skip
    if tree is not None:
        yield ("hyperparameters", lambda: plot.hyperparameters(fit, tree)[0, 0],
               "Scatter plots and histograms of the posterior draws of the hyperparameters, the EM fit marked.",
               "Where the EM's point lies in the posterior of the hyperparameters.")  # fmt: skip


def _of_fit(fit: Fit) -> Iterator[_Wanted]:
    h = fit.posterior_probability
    best = h.idxmax(TISSUE).item()
    words = (f"P(I(t) = 1 | Y) of {h.size} tissues: above 0.95 in {int((h > 0.95).sum())}, below 0.05 in "
             f"{int((h < 0.05).sum())}; highest in {best}, {float(h.max()):.2f}.")  # fmt: skip
    yield ("posterior_probability", lambda: plot.posterior_probability(fit), words,
           "Posterior probability that the SNPs act in a tissue. Dashed: the share of active tissues, τ₁, which is "
           "what would be said of a tissue without data.")  # fmt: skip
    shown = np.isfinite(fit.ols.to_numpy())
    if shown.any():
        size = np.sqrt(np.mean(fit.effects.to_numpy()[shown] ** 2)), np.sqrt(np.mean(fit.ols.to_numpy()[shown] ** 2))
        yield ("shrinkage", lambda: plot.shrinkage(fit),
               f"Empirical-Bayes effects against least squares; root mean square {size[0]:.3g} against {size[1]:.3g}.",
               "What the model makes of least squares: effects in tissues that look inactive are drawn to 0, those in "
               "active ones towards their common mean.")  # fmt: skip


def _of_checks(fit: Fit) -> Iterator[_Wanted]:
    view = View(fit, frame_of(fit))
    n = view.frame.observed.sum(axis=0)[view.stats.n > 0]
    if np.ptp(n) > 0:
        yield ("effects_by_size", lambda: plot.effects_by_size(fit),
               f"Size of effects by number of samples, {n.min()} to {n.max()}, of {len(n)} tissues.",
               "Genetic standard deviation of every tissue, were it active, by its number of samples. The model has "
               "no trend among active tissues; where a tissue has few samples its effects are drawn to the common "
               "mean.")  # fmt: skip
    s2 = view.s2[view.s2 > 0.0]
    if len(s2) == 0:
        return
    yield ("residual_variances", lambda: plot.residual_variances(fit),
           f"Residual variances of {len(s2)} tissues, {s2.min():.3g} to {s2.max():.3g}; the fit has "
           f"{fit.params.sigma2:.3g}.",
           "Residual variance by tissue, ± standard error were errors normal. The model has one for all tissues, "
           "unless it was fitted with a variance of every tissue.")  # fmt: skip
    yield ("residuals_qq", lambda: plot.residuals_qq(fit), "Normal Q-Q plot of the residuals of all tissues.",
           "Residuals of all tissues, each studentised, against normal quantiles. Points outside the band at an end: "
           "tails that are heavier (away from the line) or lighter than normal. Outliers are named.")  # fmt: skip
    found = correlation(view.frame, view.E)
    if len(found.r):
        yield ("residual_correlation", lambda: plot.residual_correlation(fit),
               f"Correlations of residuals of {len(found.r)} pairs of tissues, {found.r.min():.2f} to "
               f"{found.r.max():.2f}, mean {found.r.mean():.2f}.",
               "Correlation of residuals between tissues over the samples that both have, related tissues beside each "
               "other; dark is positive, light negative. The model has none. With many tissues a sign marks what "
               "chance does not explain; pairs of tissues with too few samples are hatched.")  # fmt: skip


def _shape_was_checked(checks: xr.Dataset) -> bool:
    return SHAPE in checks[CHECK] and str(checks["verdict"].sel({CHECK: SHAPE}).item()) != "not checked"


def _profile(fit: Fit) -> _Wanted:
    profile = profile_of(fit)
    low, high = profile.attrs["range"]
    lower, upper = float(profile["lower"].fillna(low)), float(profile["upper"].fillna(high))
    words = (f"Profile of the likelihood in alpha: maximum at {float(profile['estimate']):.2f}, "
             f"{100 * profile.attrs['level']:g} % interval {lower:.2f} to {upper:.2f}.")  # fmt: skip
    return ("alpha_profile", lambda: plot.alpha_profile(profile), words,
            "How well the data bear other shapes of the slab's covariance, Σ₀ = (X'X)^-α. An interval that leaves out "
            "the fit's α speaks against its shape.")  # fmt: skip


def _checks_in_words(checks: xr.Dataset) -> str:
    words = []
    for verdict in ("fails", "doubtful", "no sign against it", "not checked"):
        names = [str(name) for name in checks[CHECK].to_numpy()[checks["verdict"].to_numpy() == verdict]]
        if names:
            words.append(f"{verdict}: {', '.join(names)}")
    return f"Checks by verdict. {'; '.join(words)}."


def _gap_in_words(comparison: xr.Dataset) -> str:
    P = comparison.isel({QUANTITY: np.flatnonzero(comparison["kind"] == "probability")})
    gap = np.abs(P["em"].to_numpy() - P["mean"].to_numpy())
    where, size = P["tissue"].to_numpy()[gap.argmax()], float(gap.max())
    return f"P(I(t) = 1 | Y) of {len(gap)} tissues, EM against full posterior: most apart in {where}, by {size:.2f}."


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
