"""Figures. Each function draws a figure of its own, or where it is told to, and gives it back; nothing is shown.

- `overview`: a fit at a glance; its panels `posterior_probability`, which tissues have an effect, and `shrinkage`, what
  of least squares is left
- `profile`, `alpha_profile`: how well the data know a parameter, and the slab's shape
- `checks`: every assumption at a glance
- `residuals_qq`, `residual_variances`, `residual_correlation`, `effects_by_size`: what several of the checks look at
- `probabilities_compared`, `effects_compared`, `hyperparameters`: the EM fit beside the full posterior
- `reliability`, `fdr`, `bayes_factors`, `pit_ecdf`: calibration: whether probabilities mean what they say
- `eqtl`: a multi-tissue study: the paper's Figures 1-4
- `mash`: what conditions have in common
- `style`: colours, marks, and the style sheet

A function with an argument ``ax`` draws on it and returns it, or makes a figure and returns its Axes. A figure of many
panels that cannot be drawn elsewhere is returned itself; `effects_compared` takes and returns two Axes,
`hyperparameters` takes a Figure and returns its Axes. A figure made here is in the package's style and belongs to no
window: save it with ``ax.figure.savefig(...)``. On axes that are given, the caller's style holds (a figure made with
``layout="constrained"`` has room for names and legends); ``plt.style.use("ebmodel.plot.style")`` gives figures of one's
own the package's. No figure tells anything by colour alone, so that all can be printed in grey.
"""

from __future__ import annotations

from ebmodel.plot import eqtl, mash, style
from ebmodel.plot.calibration import bayes_factors, fdr, pit_ecdf, reliability
from ebmodel.plot.checks import (
    checks,
    effects_by_size,
    residual_correlation,
    residual_variances,
    residuals_qq,
)
from ebmodel.plot.comparison import effects_compared, hyperparameters, probabilities_compared
from ebmodel.plot.fit import alpha_profile, overview, posterior_probability, shrinkage
from ebmodel.plot.profiles import profile

__all__ = [
    "alpha_profile",
    "bayes_factors",
    "checks",
    "effects_by_size",
    "effects_compared",
    "eqtl",
    "fdr",
    "hyperparameters",
    "mash",
    "overview",
    "pit_ecdf",
    "posterior_probability",
    "probabilities_compared",
    "profile",
    "reliability",
    "residual_correlation",
    "residual_variances",
    "residuals_qq",
    "shrinkage",
    "style",
]
