"""Figures. Each function draws on ``ax`` (or makes a figure of its own) and gives the Axes back; nothing is shown.

A figure made here belongs to no window: save it with ``ax.figure.savefig(...)``.
"""

from __future__ import annotations

from ebmodel.plot.comparison import effects_compared, hyperparameters, probabilities_compared
from ebmodel.plot.fit import alpha_profile, posterior_probability, shrinkage

__all__ = [
    "alpha_profile",
    "effects_compared",
    "hyperparameters",
    "posterior_probability",
    "probabilities_compared",
    "shrinkage",
]
