"""Figures. Each function draws on ``ax`` (or makes a figure of its own) and gives the Axes back; nothing is shown.

A figure made here belongs to no window: save it with ``ax.figure.savefig(...)``.
"""

from __future__ import annotations

from ebmodel.plot.calibration import bayes_factors, fdr, pit_ecdf, reliability
from ebmodel.plot.checks import (
    checks,
    effects_by_size,
    residual_correlation,
    residual_variances,
    residuals_qq,
)
from ebmodel.plot.comparison import effects_compared, hyperparameters, probabilities_compared
from ebmodel.plot.fit import alpha_profile, posterior_probability, shrinkage
from ebmodel.plot.profiles import profile

__all__ = [
    "alpha_profile",
    "bayes_factors",
    "checks",
    "effects_by_size",
    "effects_compared",
    "fdr",
    "hyperparameters",
    "pit_ecdf",
    "posterior_probability",
    "probabilities_compared",
    "profile",
    "reliability",
    "residual_correlation",
    "residual_variances",
    "residuals_qq",
    "shrinkage",
]
