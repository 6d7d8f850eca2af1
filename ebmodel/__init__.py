"""Empirical-Bayes multi-tissue eQTL regression: the model of Xue & Li, fitted exactly, and tools to check it.

Names are imported when first used, so that ``import ebmodel`` and the command line's help come at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmodel.lazy import attach

if TYPE_CHECKING:
    from ebmodel import bayes as bayes
    from ebmodel import calibration as calibration
    from ebmodel import checks as checks
    from ebmodel import eqtl as eqtl
    from ebmodel import plot as plot
    from ebmodel import risk as risk
    from ebmodel import simulate as simulate
    from ebmodel.bayes.comparison import compare as compare
    from ebmodel.bayes.diagnosis import diagnose as diagnose
    from ebmodel.bayes.models import pymc_model as pymc_model
    from ebmodel.bayes.sampling import sample as sample
    from ebmodel.bayes.sensitivity import sensitivity as sensitivity
    from ebmodel.bayes.store import open_posterior as open_posterior
    from ebmodel.bayes.store import save_posterior as save_posterior
    from ebmodel.bootstrapping import bootstrap as bootstrap
    from ebmodel.checks.checking import check as check
    from ebmodel.data import standardise as standardise
    from ebmodel.errors import InputError as InputError
    from ebmodel.fitting import fit as fit
    from ebmodel.fitting import loglik as loglik
    from ebmodel.fitting import oracle as oracle
    from ebmodel.information import standard_errors as standard_errors
    from ebmodel.model import Params as Params
    from ebmodel.profiles import likelihood_ratio as likelihood_ratio
    from ebmodel.profiles import profile as profile
    from ebmodel.reports.building import report as report
    from ebmodel.results import Fit as Fit
    from ebmodel.results import open_fit as open_fit
    from ebmodel.selection import select as select
    from ebmodel.shape import alpha_profile as alpha_profile

__version__ = "0.1.0"

_WHERE = {
    "Fit": "results",
    "InputError": "errors",
    "Params": "model",
    "alpha_profile": "shape",
    "bayes": "bayes",
    "bootstrap": "bootstrapping",
    "calibration": "calibration",
    "check": "checks.checking",
    "checks": "checks",
    "compare": "bayes.comparison",
    "diagnose": "bayes.diagnosis",
    "eqtl": "eqtl",
    "fit": "fitting",
    "likelihood_ratio": "profiles",
    "loglik": "fitting",
    "mash": "mash",
    "open_fit": "results",
    "open_posterior": "bayes.store",
    "oracle": "fitting",
    "plot": "plot",
    "profile": "profiles",
    "pymc_model": "bayes.models",
    "report": "reports.building",
    "risk": "risk",
    "sample": "bayes.sampling",
    "save_posterior": "bayes.store",
    "select": "selection",
    "sensitivity": "bayes.sensitivity",
    "simulate": "simulate",
    "standard_errors": "information",
    "standardise": "data",
}

__getattr__, __dir__, __all__ = attach(__name__, _WHERE)
