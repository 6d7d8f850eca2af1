"""The full Bayesian model in PyMC: its priors, its two forms, its sampler, and comparisons with the EM fit."""

from __future__ import annotations

from ebmodel.bayes.priors import FLAT, WEAK, Prior, Priors

__all__ = ["FLAT", "WEAK", "Prior", "Priors"]
